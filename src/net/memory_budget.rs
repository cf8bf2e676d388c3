//! The default memory budget: half of the available memory.
//!
//! The available memory is the smallest of three: the memory of the machine, the limits of the
//! control groups of the process, and its resource limits (`ulimit -v` and `-d`). At a resource
//! limit an allocation fails, which ends the process. If the system reports none of them, there is
//! no bound.

use crate::descriptors::ProcessLimit;
use log::{debug, warn};
use std::fs;
use std::path::{Path, PathBuf};

/// Mount point of control groups.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Returns the budget (bytes): `configured`, or half of the available memory if that is 0.
pub(super) fn budget(configured: usize) -> usize {
    let of_process = process_bytes();
    if configured != 0 {
        if let Some(limit) = of_process.filter(|limit| *limit <= configured as u64) {
            warn!(
                "limits.memory_bytes_max is {configured} bytes, but the system ends this process \
                 at {limit} bytes: lower the setting or raise the limit (ulimit -v and -d, \
                 LimitAS= and LimitDATA=)"
            );
        }
        return configured;
    }
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = limit_files(&groups)
        .into_iter()
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    let smallest = limits.chain(machine_bytes(&meminfo)).chain(of_process).min();
    debug!("available memory: {smallest:?} bytes");
    smallest.map_or(0, |bytes| usize::try_from(bytes / 2).unwrap_or(usize::MAX))
}

/// Returns the smaller of the limits on the address space and on the data of this process (bytes).
fn process_bytes() -> Option<u64> {
    let limits = [ProcessLimit::AddressSpace, ProcessLimit::Data];
    limits.into_iter().filter_map(|limit| limit.get()?.0).min()
}

/// Returns `MemTotal` of `/proc/meminfo` (bytes).
fn machine_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// Returns the files with the memory limits of the groups in `/proc/self/cgroup` and of their
/// ancestors, because each group limits those below it. A group without a limit has `max` in its
/// file, or a number above the memory of any machine.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (root, name) = match controllers {
            "" => (PathBuf::from(CGROUPS), "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                (Path::new(CGROUPS).join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(path.trim_start_matches('/'));
        files.extend(group.ancestors().map(|group| root.join(group).join(name)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_a_group_and_of_all_above_it_are_looked_at() {
        let files = |groups| {
            let files = limit_files(groups).into_iter();
            files.map(|file| file.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            files("0::/system.slice/tiderace.service\n"),
            [
                "/sys/fs/cgroup/system.slice/tiderace.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            files("5:cpu,memory:/a\n3:cpuset:/\n"),
            [
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert!(files("").is_empty() && files("what is this\n").is_empty());
    }

    #[test]
    fn the_memory_of_the_machine_is_read_in_kibibytes() {
        let meminfo = "MemTotal:       24683884 kB\nMemFree:        19266152 kB\n";
        assert_eq!(machine_bytes(meminfo), Some(24_683_884 * 1024));
        assert_eq!(machine_bytes("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn a_budget_that_is_configured_is_taken_as_it_is() {
        assert_eq!(budget(1 << 30), 1 << 30);
    }
}
