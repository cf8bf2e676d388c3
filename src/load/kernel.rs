//! Kernel counters of the whole machine: TCP memory, and connections dropped because a server did
//! not accept them.
//!
//! Owns reading these counters. They are not per process or address, so reports must say that they
//! cover the whole machine. Without `/proc` there are none.

use std::fs;

use rustix::param::page_size;

/// State of TCP at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// Memory that all TCP sockets use or have reserved for buffers.
    pub memory_bytes: u64,
    /// Connections in TIME_WAIT: this side closed first, and the port stays in use for a minute.
    pub time_wait: u64,
}

impl Sockets {
    /// Reads the current state.
    pub fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/net/sockstat").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
        Some(Self {
            memory_bytes: value_after(line, "mem")? * page_size() as u64,
            time_wait: value_after(line, "tw")?,
        })
    }
}

/// Returns the number of connections dropped because the accept queue of a listener was full.
pub fn listen_overflows() -> Option<u64> {
    parse_overflows(&fs::read_to_string("/proc/net/netstat").ok()?)
}

/// Parses the counter. A line of names is followed by a line of values, both with the same prefix.
fn parse_overflows(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next()?.split_whitespace(), lines.next()?.split_whitespace());
    let (_, value) = names.zip(values).find(|(name, _)| *name == "ListenOverflows")?;
    value.parse().ok()
}

fn value_after(line: &str, name: &str) -> Option<u64> {
    let mut words = line.split_whitespace();
    words.find(|word| *word == name)?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_read_as_the_kernel_writes_them() {
        let text = "sockets: used 290\n\
                    TCP: inuse 7 orphan 0 tw 12 alloc 9 mem 3\n\
                    UDP: inuse 4 mem 5\n";
        let memory_bytes = 3 * page_size() as u64;
        assert_eq!(Sockets::parse(text), Some(Sockets { memory_bytes, time_wait: 12 }));
        assert_eq!(Sockets::parse("UDP: inuse 4 mem 5\n"), None);
    }

    #[test]
    fn overflows_are_found_by_their_name() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops\n\
                    TcpExt: 1 22 333\n\
                    IpExt: InNoRoutes ListenOverflows\n\
                    IpExt: 5 6\n";
        assert_eq!(parse_overflows(text), Some(22));
        assert_eq!(parse_overflows("TcpExt: SyncookiesSent\nTcpExt: 1\n"), None);
        assert_eq!(parse_overflows(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_kernel_has_the_expected_format() {
        assert!(Sockets::now().is_some());
        assert!(listen_overflows().is_some());
    }
}
