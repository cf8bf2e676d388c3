//! Bounds on connections and memory files, from the descriptor limit of the process.

use super::StartError;
use crate::descriptors::{self, ProcessLimit};
use crate::limits::{DESCRIPTORS_OF_FILES_DIVISOR, DESCRIPTORS_RESERVED, SEGMENT_FILES_MAX};
use log::warn;

/// Returns the bound on connections: `configured`, or the number that the descriptor limit allows
/// if that is 0. In the latter case a share of the descriptors is kept for memory files.
pub(super) fn connections_max(configured: usize) -> Result<usize, StartError> {
    let limit = descriptors::raise_limit();
    let needed = configured.max(1).saturating_add(DESCRIPTORS_RESERVED);
    if needed > limit {
        return Err(StartError::DescriptorLimit { needed, limit });
    }
    let available = limit - DESCRIPTORS_RESERVED;
    Ok(if configured == 0 { available - share_of_files(available) } else { configured })
}

/// Warns if the system has not let the process raise its limit or know it, as a sandbox may.
pub(super) fn warn_if_not_raised() {
    match ProcessLimit::Descriptors.get() {
        Some((Some(soft), hard)) if hard != Some(soft) => warn!(
            "the system refuses to raise the limit of {soft} descriptors (setrlimit): allow the \
             call, or raise the limit from outside (ulimit -n, LimitNOFILE=)"
        ),
        Some(_) => {}
        None => warn!(
            "the system does not tell the limit of descriptors (getrlimit, /proc/self/limits): \
             {} are assumed",
            descriptors::raise_limit()
        ),
    }
}

/// Returns the bound on memory files: the descriptors that `connections_max` leaves.
pub(super) fn files_max(connections_max: usize) -> usize {
    let available = descriptors::raise_limit().saturating_sub(DESCRIPTORS_RESERVED);
    available.saturating_sub(connections_max).min(SEGMENT_FILES_MAX)
}

fn share_of_files(available: usize) -> usize {
    (available / DESCRIPTORS_OF_FILES_DIVISOR).min(SEGMENT_FILES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_files_have_a_share_of_the_descriptors() {
        for (available, share) in [(0, 0), (31, 1), (32, 2), (992, 62), (1 << 20, 1024)] {
            assert_eq!(share_of_files(available), share, "of {available}");
        }
    }

    #[test]
    fn connections_and_memory_files_have_descriptors_together() {
        let limit = descriptors::raise_limit();
        let connections_max = connections_max(0).unwrap();
        assert_eq!(connections_max + files_max(connections_max) + DESCRIPTORS_RESERVED, limit);
        assert_eq!(files_max(limit - DESCRIPTORS_RESERVED - 5), 5);
        assert_eq!(files_max(limit), 0);
    }
}
