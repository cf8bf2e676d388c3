//! Memory files, where the system has them and can send from them.

use crate::limits;
use crate::server::segment::SegmentSettings;

/// How memory files are made here, and from where on they pay; `None` where they never do.
pub(super) fn settings() -> Option<SegmentSettings> {
    #[cfg(target_os = "linux")]
    return Some(SegmentSettings {
        open: linux::open,
        players_min: limits::SEGMENT_PLAYERS_MIN,
        run_bytes_min: limits::SEGMENT_RUN_BYTES_MIN,
    });
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::fs::File;
    use std::io;

    /// The name is what `/proc` shows of it.
    pub(super) fn open() -> io::Result<File> {
        Ok(memfd_create("tiderace-segment", MemfdFlags::CLOEXEC)?.into())
    }
}
