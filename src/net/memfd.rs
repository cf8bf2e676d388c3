//! Memory files (`memfd_create`), on systems that can send from them.

use crate::limits;
use crate::stream::segment::SegmentSettings;

/// Returns the settings for memory files: how to open one, the bound on their number, and the
/// thresholds above which they pay off. Returns `None` on systems where they never do.
pub(super) fn settings(files_max: usize) -> Option<SegmentSettings> {
    #[cfg(target_os = "linux")]
    return Some(SegmentSettings {
        open: linux::open,
        players_min: limits::SEGMENT_PLAYERS_MIN,
        run_bytes_min: limits::SEGMENT_RUN_BYTES_MIN,
        files_max,
    });
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::io::Errno;
    use std::fs::File;
    use std::io;
    use std::os::fd::OwnedFd;

    pub(super) fn open() -> io::Result<File> {
        // `/proc` shows this name.
        Ok(create(|flags| memfd_create("tiderace-segment", flags))?.into())
    }

    /// Creates a file that can never be executed. With `vm.memfd_noexec = 2` the kernel refuses any
    /// other. Kernels before 6.3 do not know the flag, so it is left out if they report `EINVAL`.
    fn create(memfd: impl Fn(MemfdFlags) -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
        match memfd(MemfdFlags::CLOEXEC | MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => memfd(MemfdFlags::CLOEXEC),
            created => created,
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use std::cell::RefCell;

        const SEALED: MemfdFlags = MemfdFlags::CLOEXEC.union(MemfdFlags::NOEXEC_SEAL);

        /// Returns the flags that were tried on a kernel that answers with `answer`, and the error.
        fn tried(answer: impl Fn(MemfdFlags) -> Option<Errno>) -> (Vec<MemfdFlags>, Option<Errno>) {
            let tried = RefCell::new(Vec::new());
            let made = create(|flags| {
                tried.borrow_mut().push(flags);
                answer(flags).map_or_else(|| memfd_create("test", MemfdFlags::CLOEXEC), Err)
            });
            (tried.into_inner(), made.err())
        }

        #[test]
        fn memory_files_are_sealed_against_execution_where_the_kernel_knows_it() {
            assert_eq!(tried(|_| None), (vec![SEALED], None));
            let knows_no_seal = |flags| (flags == SEALED).then_some(Errno::INVAL);
            assert_eq!(tried(knows_no_seal), (vec![SEALED, MemfdFlags::CLOEXEC], None));
            for errno in [Errno::MFILE, Errno::ACCESS, Errno::NOSYS, Errno::PERM] {
                assert_eq!(tried(|_| Some(errno)), (vec![SEALED], Some(errno)));
            }
            assert!(open().is_ok());
        }
    }
}
