//! The server under attack: the project's program with the settings of a group, or a server that is
//! already running.
//!
//! Owns the process and the observations from outside: memory, descriptors, processor time and the
//! log. `TIDERACE_ATTACK_ADDR=127.0.0.1:PORT` and `TIDERACE_ATTACK_PID=PID` name another server on
//! this machine. Of that server only `/proc` is read, and nothing is stored.
//! `TIDERACE_PROGRAM=PATH` names another build of the project's program.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tiderace::load::process::ProcessTree;

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
    own: Option<Own>,
}

struct Own {
    child: Child,
    directory: PathBuf,
}

impl Server {
    /// Starts the suite's own server and waits until it accepts connections.
    pub(crate) fn start(setup: &Setup) -> Self {
        let address = own_address();
        let host = address.ip();
        let directory = env::temp_dir().join(format!("tiderace-attack-{}-{host}", process::id()));
        fs::create_dir_all(&directory).expect("a directory for the server");
        let own_file = |name: &str| File::create(directory.join(name)).expect("a file in it");
        // A configuration file without settings is an error.
        let settings =
            if setup.settings.is_empty() { "log_level = \"info\"\n" } else { setup.settings };
        fs::write(directory.join("config"), settings).expect("its configuration");
        let mut command = Command::new("sh");
        command.args(["-c", setup.shell]).arg(program());
        command.args(["--listen", &address.to_string(), "--log-level", setup.log_level]);
        command.arg("--config").arg(directory.join("config"));
        // Memory cached by the allocator would hide what the server holds. With these settings the
        // allocator returns free memory at the end of its heap, and larger blocks get pages of
        // their own. Without reserve at the end of the heap, larger blocks are not placed there
        // either.
        command.env("MALLOC_MMAP_THRESHOLD_", "1024").env("MALLOC_TRIM_THRESHOLD_", "65536");
        command.env("MALLOC_TOP_PAD_", "0");
        command.stdin(Stdio::null()).stdout(own_file("log")).stderr(own_file("errors"));
        let child = command.spawn().expect("the server starts");
        let pid = child.id();
        let mut server = Self { address, pid, own: Some(Own { child, directory }) };
        let is_up = wait_until(Duration::from_secs(20), || {
            server.exit_status().is_some() || TcpStream::connect(address).is_ok()
        });
        assert!(is_up && server.is_running(), "the server does not start: {}", server.errors());
        server
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
        let status = fs::read_to_string(self.proc("status")).unwrap_or_default();
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let anonymous = anonymous.and_then(|line| line.split_whitespace().next());
        let anonymous_kib = anonymous.and_then(|kib| kib.parse::<i64>().ok());
        let open = fs::read_dir(self.proc("fd")).into_iter().flatten().flatten();
        let open: Vec<_> = open.filter_map(|entry| fs::read_link(entry.path()).ok()).collect();
        let is_socket = |path: &&PathBuf| path.to_string_lossy().starts_with("socket:");
        Held {
            memory_kib: anonymous_kib.unwrap_or_default() + files as i64,
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
        let stat = fs::read_to_string(self.proc("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with('Z'))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid as i32).expect("a process id");
        kill_process(pid, signal).expect("the server is there to be signalled");
    }

    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the exit status, if the server has ended.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.own.as_mut()?.child.try_wait().expect("the status of a child")
    }

    /// Waits up to `limit` for the server to end and returns its exit status.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut status = None;
        wait_until(limit, || {
            status = self.exit_status();
            status.is_some()
        });
        status
    }

    /// Returns the log from a byte offset on.
    pub(crate) fn log_from(&self, start: usize) -> String {
        let bytes = self.file("log").and_then(|path| fs::read(path).ok()).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
    }

    /// Returns the size of the log so far.
    pub(crate) fn log_bytes(&self) -> usize {
        let length = |path: PathBuf| fs::metadata(path).map_or(0, |file| file.len() as usize);
        self.file("log").map_or(0, length)
    }

    /// Returns the standard error output.
    pub(crate) fn errors(&self) -> String {
        let read = |path: PathBuf| fs::read_to_string(path).ok();
        self.file("errors").and_then(read).unwrap_or_default()
    }

    /// Replaces the configuration file and requests a reload.
    pub(crate) fn reload(&self, settings: &str) {
        if let Some(path) = self.file("config") {
            fs::write(path, settings).expect("its configuration");
            self.signal(Signal::HUP);
        }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.own.as_ref().map(|own| own.directory.join(name))
    }

    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.pid.to_string()).join(file)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            // The server may have ended already, and a leftover file does no harm.
            drop(own.child.kill());
            drop(own.child.wait());
            drop(fs::remove_dir_all(&own.directory));
        }
    }
}

/// Returns the reason in the log line about the end of the connection of `peer`.
pub(crate) fn closing_reason(log: &str, peer: SocketAddr) -> Option<String> {
    let rest = log.split_once(&format!("closed {peer}"))?.1;
    let line = rest.lines().next()?;
    let reason = line.split_once(": ")?.1;
    Some(reason.split([' ', ';']).next()?.to_owned())
}

/// Returns the program under attack: the one that the environment names, or the one that cargo
/// built for the suite.
pub(crate) fn program() -> OsString {
    env::var_os("TIDERACE_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_tiderace").into())
}

/// Waits until a condition is true. Returns whether it became true within `limit`.
pub(crate) fn wait_until(limit: Duration, mut is_true: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !is_true() {
        if began.elapsed() > limit {
            return false;
        }
        thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Returns a unique loopback address for each server, from 127.0.0.0/8.
pub(crate) fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed));
    SocketAddr::from((host, 11_935))
}
