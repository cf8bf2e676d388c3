//! What the kernel reports of a process, in `/proc`.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// The directory of a process in `/proc`. What it reports of a process that has ended is empty.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proc(u32);

impl Proc {
    pub(crate) const fn of(pid: u32) -> Self {
        Self(pid)
    }

    /// Returns the text of a file.
    pub(crate) fn read(self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_default()
    }

    /// Returns the number that follows `name` in a file, such as `Threads:` in `status`.
    pub(crate) fn field(self, file: &str, name: &str) -> Option<u64> {
        let text = self.read(file);
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_whitespace().next()?.parse().ok()
    }

    /// Returns the state: `R`, `S`, `T` if it is stopped, `Z` for a zombie.
    pub(crate) fn state(self) -> Option<char> {
        self.stat().chars().next()
    }

    /// Returns the processor time used so far, in ticks of 10 ms.
    pub(crate) fn cpu_ticks(self) -> u64 {
        // After the name, utime and stime are the fields 11 and 12.
        let stat = self.stat();
        stat.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
    }

    /// Returns the processor time used while `span` passes, in ticks of 10 ms.
    pub(crate) fn cpu_ticks_in(self, span: Duration) -> u64 {
        let before = self.cpu_ticks();
        thread::sleep(span);
        self.cpu_ticks() - before
    }

    /// Returns the number of open descriptors.
    pub(crate) fn descriptors(self) -> usize {
        fs::read_dir(self.path("fd")).map_or(0, Iterator::count)
    }

    /// Returns what each open descriptor refers to.
    pub(crate) fn open_files(self) -> Vec<PathBuf> {
        let open = fs::read_dir(self.path("fd")).into_iter().flatten().flatten();
        open.filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
    }

    /// Returns the fields of `stat` after the name, which may contain anything.
    fn stat(self) -> String {
        let stat = self.read("stat");
        stat.rsplit_once(") ").map_or_else(String::new, |(_, fields)| fields.to_owned())
    }

    fn path(self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.0.to_string()).join(file)
    }
}
