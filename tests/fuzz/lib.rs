//! The fuzz targets: their bodies, which the suite runs, too, and the parts of the tests that the
//! bodies use. The manifest here lists the crates that those parts need.

#![forbid(unsafe_code)]

mod bodies;
#[path = "../suite/faults.rs"]
#[allow(dead_code, reason = "the tests of the suite use more of it")]
mod faults;
#[path = "../support/random.rs"]
#[allow(dead_code, reason = "the tests of the suite use more of it")]
mod random;
#[path = "../suite/socket.rs"]
#[allow(dead_code, reason = "the tests of the suite use more of it")]
mod socket;
#[path = "../support/wire.rs"]
#[allow(dead_code, reason = "the tests of the suite use more of it")]
mod wire;
#[path = "../suite/world.rs"]
#[allow(dead_code, reason = "the tests of the suite use more of it")]
mod world;

/// Runs the target of this name on `data`. A broken promise is a panic.
pub fn run(target: &str, data: &[u8]) {
    let found = bodies::TARGETS.iter().find(|(name, _)| *name == target);
    let (_, body) = found.unwrap_or_else(|| panic!("no target is called {target}"));
    body(data);
}
