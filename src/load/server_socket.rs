//! Finds the process behind the address of the target, on this machine.
//!
//! Owns reading which sockets listen, and which processes hold them. The processor time of a wrong
//! process is a figure like any other, so the pid that a user gives is checked. A process that
//! belongs to another user, or to another network namespace such as that of a container, cannot be
//! checked and is accepted. This module opens no socket.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::process::{ProcessError, ProcessTree, parent, socket_inodes};

/// State of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";
/// The process that starts all others. It may hold the sockets of services that it starts.
const INIT: u32 = 1;

/// The process to measure, as given by the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerPid {
    /// The process that listens on the address of the target.
    Auto,
    /// This one.
    Pid(u32),
}

impl ServerPid {
    /// Parses a pid or `auto`.
    ///
    /// # Errors
    /// A text that says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            pid => pid
                .parse()
                .ok()
                .filter(|pid| *pid > 0)
                .map(Self::Pid)
                .ok_or_else(|| "expected a pid, or auto".to_owned()),
        }
    }

    /// Opens the process tree of the server that listens on `address`.
    ///
    /// # Errors
    /// The process does not exist, does not listen there, or cannot be found.
    pub(super) fn open(self, address: SocketAddr) -> Result<ProcessTree, ProcessError> {
        let pid = match self {
            Self::Auto => return ProcessTree::open(find(address)?),
            Self::Pid(pid) => pid,
        };
        let tree = ProcessTree::open(pid)?;
        if is_another(&tree, pid, address) {
            return Err(ProcessError::NotListening { pid, address, owner: find(address).ok() });
        }
        Ok(tree)
    }
}

/// Returns whether it is certain that a process does not listen on `address`.
fn is_another(tree: &ProcessTree, pid: u32, address: SocketAddr) -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let (theirs, ours) = (namespace(&pid.to_string()), namespace("self"));
    if theirs.is_none() || theirs != ours {
        return false;
    }
    let listening = listening(address);
    let pids = tree.pids();
    // Without the descriptors of all processes the socket may be among those that are missing.
    let held: Option<Vec<_>> = pids.into_iter().map(socket_inodes).collect();
    held.is_some_and(|held| !held.iter().flatten().any(|inode| listening.contains(inode)))
}

/// Returns the process that listens on `address`: of several that share the socket the parent of
/// the others.
fn find(address: SocketAddr) -> Result<u32, ProcessError> {
    let listening = listening(address);
    let holds = |pid: &u32| {
        socket_inodes(*pid).is_some_and(|held| held.iter().any(|inode| listening.contains(inode)))
    };
    let processes = fs::read_dir("/proc").map_err(|_| ProcessError::NoProc)?;
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let owners: BTreeMap<u32, Option<u32>> =
        pids.filter(holds).map(|pid| (pid, parent(pid))).collect();
    root(&owners).ok_or(ProcessError::NoListener { address })
}

/// Returns the process among `owners`, with their parents, whose parent is not one. [`INIT`] is one
/// only if it is the last.
fn root(owners: &BTreeMap<u32, Option<u32>>) -> Option<u32> {
    let is_owner = |pid: u32| pid != INIT && owners.contains_key(&pid);
    let mut roots =
        owners.iter().filter(|(pid, parent)| **pid != INIT && !parent.is_some_and(is_owner));
    roots.next().map(|(pid, _)| *pid).or_else(|| owners.keys().next().copied())
}

/// Returns the inodes of the sockets that listen on `address`, or on all addresses and its port.
fn listening(address: SocketAddr) -> BTreeSet<u64> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let texts = tables.into_iter().filter_map(|path| fs::read_to_string(path).ok());
    texts.flat_map(|text| parse(&text, address)).collect()
}

/// Parses `/proc/net/tcp` or `tcp6`: the local address is in the second column, the state in the
/// fourth and the inode in the tenth.
fn parse(text: &str, address: SocketAddr) -> Vec<u64> {
    let inode = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let (ip, port) = columns.get(1)?.split_once(':')?;
        let (ip, port) = (parse_ip(ip)?, u16::from_str_radix(port, 16).ok()?);
        // A socket of IPv6 on all addresses also takes connections of IPv4, and not vice versa.
        let is_any = ip.is_unspecified() && (ip.is_ipv6() || address.is_ipv4());
        let is_there = is_any || ip == address.ip().to_canonical();
        let is_listening = *columns.get(3)? == LISTEN && port == address.port() && is_there;
        columns.get(9)?.parse().ok().filter(|_| is_listening)
    };
    text.lines().skip(1).filter_map(inode).collect()
}

/// Parses an address: the kernel prints it in words of 32 bits, each in the order of this machine.
fn parse_ip(text: &str) -> Option<IpAddr> {
    const WORD_DIGITS: usize = 8;
    let words = text.as_bytes().chunks(WORD_DIGITS);
    let words: Option<Vec<_>> = words
        .map(|word| Some(u32::from_str_radix(str::from_utf8(word).ok()?, 16).ok()?.to_ne_bytes()))
        .collect();
    let bytes = words?.concat();
    let v4 = || <[u8; 4]>::try_from(&*bytes).ok().map(|bytes| Ipv4Addr::from(bytes).into());
    let v6 = || <[u8; 16]>::try_from(&*bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into());
    v4().or_else(v6).map(|ip: IpAddr| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_or_auto_is_parsed() {
        assert_eq!(ServerPid::parse("auto"), Ok(ServerPid::Auto));
        assert_eq!(ServerPid::parse("12"), Ok(ServerPid::Pid(12)));
        for text in ["", "0", "-1", "Auto", "tiderace"] {
            assert_eq!(ServerPid::parse(text), Err("expected a pid, or auto".to_owned()), "{text}");
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn sockets_that_listen_are_found_by_address_and_port() {
        let line = |local: &str, state: &str, inode: u32| {
            format!("   0: {local} 00000000:0000 {state} 0:0 00:0 0 0 0 {inode} 1 0 100 0\n")
        };
        let text = [
            "  sl  local_address rem_address   st tx_queue rx_queue\n".to_owned(),
            line("0100007F:078F", "0A", 11),
            line("00000000:078F", "0A", 12),
            line("0100007F:078F", "01", 13),
            line("0100007F:0790", "0A", 14),
            line("0200007F:078F", "0A", 15),
            line("00000000000000000000000001000000:078F", "0A", 16),
            line("0000000000000000FFFF00000300007F:078F", "0A", 17),
            line("00000000000000000000000000000000:0791", "0A", 18),
        ]
        .concat();
        let text = text.as_str();
        let found = |address: &str| parse(text, address.parse().unwrap());
        assert_eq!(found("127.0.0.1:1935"), [11, 12]);
        assert_eq!(found("127.0.0.2:1935"), [12, 15]);
        assert_eq!(found("127.0.0.3:1935"), [12, 17]);
        assert_eq!(found("[::1]:1935"), [16]);
        assert_eq!((found("127.0.0.1:1937"), found("[::1]:1937")), (vec![18], vec![18]));
        assert_eq!(found("127.0.0.1:1936"), [14]);
        assert!(found("127.0.0.1:80").is_empty());
    }

    #[test]
    fn the_parent_of_all_that_share_a_socket_is_the_server() {
        let root = |owners: &[(u32, u32)]| {
            root(&owners.iter().map(|(pid, parent)| (*pid, Some(*parent))).collect())
        };
        assert_eq!(root(&[(30, 20), (40, 30), (50, 30)]), Some(30));
        assert_eq!(root(&[(1, 0), (30, 1), (40, 30)]), Some(30));
        assert_eq!(root(&[(1, 0)]), Some(1));
        assert_eq!(root(&[]), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_the_server_only_if_it_listens() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, own) = (listener.local_addr().unwrap(), std::process::id());
        assert_eq!(find(address), Ok(own));
        assert!(ServerPid::Auto.open(address).is_ok() && ServerPid::Pid(own).open(address).is_ok());
        drop(listener);
        let error = ServerPid::Pid(own).open(address).unwrap_err();
        assert_eq!(error, ProcessError::NotListening { pid: own, address, owner: None });
        assert_eq!(
            ServerPid::Auto.open(address).unwrap_err(),
            ProcessError::NoListener { address }
        );
    }
}
