//! How many descriptors the process may open: the soft limit, raised to the hard one.
//!
//! The soft one stands low for programs that still use `select`, and this is none.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit as far as the system lets us, and returns it.
pub fn raise_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { maximum } else { current };
    // A connection's place is a 32-bit number, the last of which means none.
    let places = u32::MAX as usize - 1;
    limit.map_or(places, |limit| usize::try_from(limit).unwrap_or(places).min(places))
}
