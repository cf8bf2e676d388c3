//! What the test targets and the benches share: the program under test, servers and child
//! processes, peers over real sockets, RTMP as bytes, and random numbers.
//!
//! Each target includes it with `#[path = "../support/mod.rs"] mod support;`.

pub(crate) mod directory;
pub(crate) mod net;
pub(crate) mod peer;
pub(crate) mod proc;
pub(crate) mod program;
pub(crate) mod random;
pub(crate) mod server;
pub(crate) mod wire;

use std::thread;
use std::time::{Duration, Instant};

/// Long enough for anything immediate, on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Polls `is_true` until it returns true. Returns false after `limit`.
pub(crate) fn wait_until(limit: Duration, mut is_true: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !is_true() {
        if began.elapsed() > limit {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Waits until `is_true` returns true, which must be soon. `what` is the text of the failure.
#[track_caller]
pub(crate) fn expect_soon(what: &str, is_true: impl FnMut() -> bool) {
    assert!(wait_until(SOON, is_true), "not within {SOON:?}: {what}");
}
