//! Resource limits of the process, and the number of descriptors that it may open.
//!
//! The soft limit on descriptors is low for programs that use `select`. This program does not, so
//! it raises the soft limit to the hard one.
//!
//! Limits are read from `/proc`. The system call comes second, since a sandbox may refuse it, and
//! the binding to it does not report that. A limit that neither tells is unknown, never unlimited.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;

/// Limit on descriptors if the system does not tell it: the usual soft limit on Linux.
const ASSUMED: u64 = 1024;

/// A soft and a hard limit. `None` means unlimited.
pub type SoftAndHard = (Option<u64>, Option<u64>);

/// A resource limit of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessLimit {
    /// Open descriptors.
    Descriptors,
    /// Bytes of address space.
    AddressSpace,
    /// Bytes of data.
    Data,
}

impl ProcessLimit {
    /// The name in `/proc/self/limits`.
    const fn name(self) -> &'static str {
        match self {
            Self::Descriptors => "Max open files",
            Self::AddressSpace => "Max address space",
            Self::Data => "Max data size",
        }
    }

    const fn resource(self) -> Resource {
        match self {
            Self::Descriptors => Resource::Nofile,
            Self::AddressSpace => Resource::As,
            Self::Data => Resource::Data,
        }
    }

    /// Returns the soft and the hard limit; `None` if the system tells neither.
    pub fn get(self) -> Option<SoftAndHard> {
        let text = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        parse(&text, self.name()).or_else(|| {
            let Rlimit { current, maximum } = may_ask().then(|| getrlimit(self.resource()))?;
            Some((current, maximum))
        })
    }
}

/// Returns whether the system permits the call that reads limits. It is the one that sets them: a
/// soft limit above the hard one is invalid and changes nothing, so any other answer is a refusal.
fn may_ask() -> bool {
    let invalid = Rlimit { current: Some(1), maximum: Some(0) };
    setrlimit(Resource::Nofile, invalid) == Err(Errno::INVAL)
}

/// Parses the line called `name` of `/proc/self/limits` (proc(5)).
fn parse(text: &str, name: &str) -> Option<SoftAndHard> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut values = line.split_whitespace().map(|value| match value {
        "unlimited" => Some(None),
        number => Some(Some(number.parse().ok()?)),
    });
    Some((values.next()??, values.next()??))
}

/// Raises the limit on descriptors as far as the system allows, and returns it.
pub fn raise_limit() -> usize {
    let (soft, hard) = ProcessLimit::Descriptors.get().unwrap_or((Some(ASSUMED), Some(ASSUMED)));
    let raised = Rlimit { current: hard, maximum: hard };
    let is_raised = soft != hard && setrlimit(Resource::Nofile, raised).is_ok();
    let limit = if is_raised { hard } else { soft };
    // Connections are numbered with 32 bits, and the last number means "none".
    let places = u32::MAX as usize - 1;
    limit.map_or(places, |limit| usize::try_from(limit).unwrap_or(places).min(places))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first lines of the file of a shell on Debian 12.
    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max data size             unlimited            1048576              bytes     
Max open files            1024                 524288               files     
";

    #[test]
    fn limits_are_read_from_proc() {
        assert_eq!(parse(LIMITS, "Max open files"), Some((Some(1024), Some(524_288))));
        assert_eq!(parse(LIMITS, "Max data size"), Some((None, Some(1_048_576))));
        assert_eq!(parse(LIMITS, "Max address space"), None);
    }

    #[test]
    fn a_limit_that_is_not_told_is_not_taken_for_unlimited() {
        for text in ["", "Max open files", "Max open files 1024", "Max open files ? ? files"] {
            assert_eq!(parse(text, "Max open files"), None, "{text}");
        }
    }

    #[test]
    fn asking_whether_limits_may_be_asked_changes_none() {
        let before = getrlimit(Resource::Nofile);
        assert!(may_ask());
        assert_eq!(getrlimit(Resource::Nofile), before);
    }

    #[test]
    fn the_raised_limit_is_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum.unwrap();
        assert_eq!(raise_limit() as u64, hard);
        assert_eq!(ProcessLimit::Descriptors.get(), Some((Some(hard), Some(hard))));
    }
}
