//! The running program as its operator meets it, by topic; here is what the topics share.

mod clock;
mod descriptors;
mod log;
mod refusals;
mod service;
mod signals;
mod start;
mod stopped;
mod systemd;
mod unix;
mod urgent;

use std::path::Path;

use crate::support::peer::greeted;

/// A whole exchange with the server, as far as the handshake goes.
fn serves(address: std::net::SocketAddr) {
    drop(greeted(address));
}

/// Whether a program or file that a test needs is there. Without it the test is skipped, and says
/// so; where nothing may be skipped, with CI=true, it fails.
fn is_there(path: &Path) -> bool {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&directories).any(|directory| directory.join(path).exists());
    if !there {
        let path = path.display();
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{path} is missing");
        eprintln!("skipped: {path} is missing");
    }
    there
}
