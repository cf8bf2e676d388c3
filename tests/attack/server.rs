//! The server under attack: the project's program with the settings of a group, or a server that is
//! already running.
//!
//! Owns the process and the observations from outside: memory, descriptors, processor time and the
//! log. `TIDERACE_ATTACK_ADDR=127.0.0.1:PORT` and `TIDERACE_ATTACK_PID=PID` name another server on
//! this machine. Of that server only `/proc` is read, and nothing is stored.
//! `TIDERACE_PROGRAM=PATH` names another build of the project's program.

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tiderace::load::process::ProcessTree;

use crate::support::proc::Proc;
use crate::support::server::{self, Start};

/// How the server is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// Contents of the configuration file.
    pub(crate) settings: &'static str,
    /// Log level.
    pub(crate) log_level: &'static str,
    /// Shell command that starts the program `$0` with the arguments `$@`.
    pub(crate) shell: &'static str,
}

impl Setup {
    /// Default settings, the stack size of a small embedded system, and a log with the reason of
    /// every close.
    pub(crate) const DEFAULT: Self =
        Self { settings: "", log_level: "debug", shell: "ulimit -s 512; exec \"$0\" \"$@\"" };

    /// The same with these settings.
    pub(crate) const fn with(settings: &'static str) -> Self {
        Self { settings, ..Self::DEFAULT }
    }
}

/// Resources of a process at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// Resident memory that is not backed by a file, plus memory files.
    pub(crate) memory_kib: i64,
    pub(crate) descriptors: usize,
    /// Descriptors that are sockets.
    pub(crate) sockets: usize,
    pub(crate) cpu: Duration,
}

/// A server that accepts connections. The suite's own server is killed when dropped, and its files
/// are removed.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pid: u32,
    own: Option<server::Server>,
}

impl Server {
    /// Starts the suite's own server and waits until it accepts connections.
    pub(crate) fn start(setup: &Setup) -> Self {
        let mut start = Start::shell("attack", setup.shell, setup.settings);
        start.command.args(["--log-level", setup.log_level]);
        // Memory cached by the allocator would hide what the server holds. With these settings the
        // allocator returns free memory at the end of its heap, and larger blocks get pages of
        // their own. Without reserve at the end of the heap, larger blocks are not placed there
        // either.
        start.command.env("MALLOC_MMAP_THRESHOLD_", "1024");
        start.command.env("MALLOC_TRIM_THRESHOLD_", "65536").env("MALLOC_TOP_PAD_", "0");
        let own = start.start();
        Self { address: own.address, pid: own.pid(), own: Some(own) }
    }

    /// Returns whether the environment names a server.
    pub(crate) fn is_named() -> bool {
        env::var_os("TIDERACE_ATTACK_ADDR").is_some()
    }

    /// Returns the server that the environment names, if any.
    pub(crate) fn named() -> Option<Self> {
        let address = env::var("TIDERACE_ATTACK_ADDR").ok()?;
        let pid = env::var("TIDERACE_ATTACK_PID").expect("TIDERACE_ATTACK_PID names its process");
        Some(Self {
            address: address.parse().expect("TIDERACE_ATTACK_ADDR is an address and a port"),
            pid: pid.parse().expect("TIDERACE_ATTACK_PID is a number"),
            own: None,
        })
    }

    /// Returns whether this is the suite's own server, whose log can be read.
    pub(crate) const fn is_ours(&self) -> bool {
        self.own.is_some()
    }

    /// Returns the resources held now.
    pub(crate) fn held(&self) -> Held {
        let Ok(mut tree) = ProcessTree::open(self.pid) else { return Held::default() };
        let files = tree.memory().map_or(0, |memory| memory.memory_file_bytes / 1024);
        let anonymous_kib = self.proc().field("status", "RssAnon:").unwrap_or_default();
        let open = self.proc().open_files();
        let is_socket = |path: &&PathBuf| path.to_string_lossy().starts_with("socket:");
        Held {
            memory_kib: anonymous_kib as i64 + files as i64,
            descriptors: open.len(),
            sockets: open.iter().filter(is_socket).count(),
            cpu: tree.sample().map(|sample| sample.usage.cpu).unwrap_or_default(),
        }
    }

    /// Returns how often the server has slept and woken.
    #[allow(dead_code, reason = "the soak counts them")]
    pub(crate) fn wakeups(&self) -> u64 {
        let sample = ProcessTree::open(self.pid).and_then(|mut tree| tree.sample());
        sample.map_or(0, |sample| sample.usage.wakeups)
    }

    /// Returns whether the process still runs and is not a zombie.
    pub(crate) fn is_running(&self) -> bool {
        self.proc().state().is_some_and(|state| state != 'Z')
    }

    /// Asks the suite's own server to end, and waits up to `limit` until it has.
    #[allow(dead_code, reason = "a bench reads its last log line")]
    pub(crate) fn end(&mut self, limit: Duration) {
        if let Some(own) = &mut self.own {
            own.signal(Signal::TERM);
            own.wait(limit);
        }
    }

    /// Returns the log from a byte offset on.
    pub(crate) fn log_from(&self, start: usize) -> String {
        let path = self.own.as_ref().map(|own| own.output_path());
        let bytes = path.and_then(|path| fs::read(path).ok()).unwrap_or_default();
        let bytes = bytes.get(start..).unwrap_or_default();
        // A line that is being written is left out: half a word gives no reason.
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    /// Returns the size of the log so far.
    pub(crate) fn log_bytes(&self) -> usize {
        let length = |path: PathBuf| fs::metadata(path).map_or(0, |file| file.len() as usize);
        self.own.as_ref().map_or(0, |own| length(own.output_path()))
    }

    /// Returns the standard error output.
    pub(crate) fn errors(&self) -> String {
        self.own.as_ref().map_or_else(String::new, server::Server::errors)
    }

    fn proc(&self) -> Proc {
        Proc::of(self.pid)
    }
}

/// Returns the reason in the log line about the end of the connection of `peer`.
pub(crate) fn closing_reason(log: &str, peer: SocketAddr) -> Option<String> {
    let rest = log.split_once(&format!("closed {peer}"))?.1;
    let line = rest.lines().next()?;
    let reason = line.split_once(": ")?.1;
    Some(reason.split([' ', ';']).next()?.to_owned())
}
