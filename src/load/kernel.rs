//! What the kernel counts of the whole machine that sessions leave behind: memory of TCP, and
//! connections that it dropped because a server did not take them.
//!
//! Owns how these are read. They know neither processes nor addresses, so whoever tells them must
//! say that they are of the machine. Where there is no `/proc` there is nothing.

use std::fs;

use rustix::param::page_size;

/// What TCP holds at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// What all TCP sockets have buffered or reserved for it.
    pub memory_bytes: u64,
    /// Connections whose side closed first, and whose ports stay taken for a minute.
    pub time_wait: u64,
}

impl Sockets {
    /// Reads them.
    pub fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/net/sockstat").ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("TCP:"))?;
        Some(Self {
            memory_bytes: value_behind(line, "mem")? * page_size() as u64,
            time_wait: value_behind(line, "tw")?,
        })
    }
}

/// Connections dropped so far because the accept queue of a listener was full.
pub fn listen_overflows() -> Option<u64> {
    parse_overflows(&fs::read_to_string("/proc/net/netstat").ok()?)
}

/// A line of names is followed by one of values, both behind the same word.
fn parse_overflows(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next()?.split_whitespace(), lines.next()?.split_whitespace());
    let (_, value) = names.zip(values).find(|(name, _)| *name == "ListenOverflows")?;
    value.parse().ok()
}

fn value_behind(line: &str, name: &str) -> Option<u64> {
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
    fn this_kernel_writes_them_so() {
        assert!(Sockets::now().is_some());
        assert!(listen_overflows().is_some());
    }
}
