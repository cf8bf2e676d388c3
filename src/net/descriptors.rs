//! How many connections the process can take, by the descriptors that it may open.

use super::StartError;
use crate::descriptors;
use crate::limits::DESCRIPTORS_RESERVED;

/// The bound on connections: `configured`, or as many as the descriptors allow when that is 0.
pub(super) fn connections_max(configured: usize) -> Result<usize, StartError> {
    let limit = descriptors::raise_limit();
    let needed = configured.max(1).saturating_add(DESCRIPTORS_RESERVED);
    if needed > limit {
        return Err(StartError::DescriptorLimit { needed, limit });
    }
    Ok(if configured == 0 { limit - DESCRIPTORS_RESERVED } else { configured })
}
