//! What the fuzz targets run: the bodies, which the suite runs as well, and of the suite what the
//! bodies stand on. What those parts need of other crates is in the manifest here, too.

#![forbid(unsafe_code)]

mod bodies;
#[path = "../suite/faults.rs"]
#[allow(dead_code, reason = "the tests of the suite use more of it")]
mod faults;
#[path = "../suite/random.rs"]
#[allow(dead_code, reason = "the tests of the suite use more of it")]
mod random;
#[path = "../suite/socket.rs"]
#[allow(dead_code, reason = "the tests of the suite use more of it")]
mod socket;
#[path = "../suite/wire.rs"]
#[allow(dead_code, reason = "the tests of the suite use more of it")]
mod wire;
#[path = "../suite/world.rs"]
#[allow(dead_code, reason = "the tests of the suite use more of it")]
mod world;

/// Does with `data` what the target of this name does. A promise that does not hold is a panic.
pub fn run(target: &str, data: &[u8]) {
    let found = bodies::TARGETS.iter().find(|(name, _)| *name == target);
    let (_, body) = found.unwrap_or_else(|| panic!("no target is called {target}"));
    body(data);
}
