//! How many descriptors the process may open, and so how many connections it can take.

use super::StartError;
use crate::limits::DESCRIPTORS_RESERVED;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The bound on connections: `configured`, or as many as the descriptors allow when that is 0.
///
/// The soft limit is raised to the hard one first: it stands low for programs that still use
/// `select`, and this is none.
pub(super) fn connections_max(configured: usize) -> Result<usize, StartError> {
    let limit = raise_descriptor_limit();
    let needed = configured.max(1).saturating_add(DESCRIPTORS_RESERVED);
    if needed > limit {
        return Err(StartError::DescriptorLimit { needed, limit });
    }
    Ok(if configured == 0 { limit - DESCRIPTORS_RESERVED } else { configured })
}

fn raise_descriptor_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let limit = if setrlimit(Resource::Nofile, raised).is_ok() { maximum } else { current };
    // A connection's place is a 32-bit number, the last of which means none.
    let places = u32::MAX as usize - 1;
    limit.map_or(places, |limit| usize::try_from(limit).unwrap_or(places).min(places))
}
