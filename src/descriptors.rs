//! Number of descriptors that the process may open.
//!
//! The soft limit is low for programs that use `select`. This program does not, so it raises the
//! soft limit to the hard one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as the system allows, and returns it.
pub fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { maximum } else { current };
    // Connections are numbered with 32 bits, and the last number means "none".
    let places = u32::MAX as usize - 1;
    limit.map_or(places, |limit| usize::try_from(limit).unwrap_or(places).min(places))
}
