//! The running program as its operator meets it, by topic; here is what the topics share.

mod clock;
mod descriptors;
mod log;
mod peer;
mod refusals;
mod service;
mod signals;
mod start;
mod stopped;
mod systemd;
mod urgent;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Long enough for what happens at once, on a machine that has much else to do.
const SOON: Duration = Duration::from_secs(20);
const C0_C1: [u8; 1537] = {
    let mut bytes = [0; 1537];
    bytes[0] = 3;
    bytes
};
const S0_S1_S2_BYTES: usize = 1 + 2 * 1536;

/// A server that has not been started yet.
pub(crate) struct Start {
    pub(crate) command: Command,
    address: SocketAddr,
    config: PathBuf,
    log: PathBuf,
    errors: PathBuf,
}

/// A server that was started. It is killed when it is dropped, and its files with it.
pub(crate) struct Tiderace {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    config: PathBuf,
    log: PathBuf,
    errors: PathBuf,
}

impl Tiderace {
    /// A server with a configuration file that `configure` writes.
    pub(crate) fn command(name: &str, configure: impl FnOnce(&mut String)) -> Start {
        Start::new(name, Command::new(env!("CARGO_BIN_EXE_tiderace")), configure)
    }

    /// A server that a line of the shell starts: as `$0`, with the arguments `$@`.
    fn shell(name: &str, line: &str) -> Start {
        let mut command = Command::new("sh");
        command.args(["-c", line, env!("CARGO_BIN_EXE_tiderace")]);
        Start::new(name, command, |_| {})
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended, which it must do by itself.
    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the server ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap()
    }

    pub(crate) fn wait_for_log(&self, part: &str) {
        wait_until(&format!("the log has {part:?}"), || self.log().contains(part));
    }

    /// What the kernel says of it in the file `/proc/PID/NAME`.
    fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap()
    }

    /// Descriptors that it has open.
    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// What it takes of the processor while `span` passes, in ticks of 10 ms.
    fn cpu_ticks_in(&self, span: Duration) -> u64 {
        let before = self.cpu_ticks();
        thread::sleep(span);
        self.cpu_ticks() - before
    }

    fn cpu_ticks(&self) -> u64 {
        let stat = self.proc("stat");
        // The name in brackets may hold anything; utime and stime are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }
}

impl Drop for Tiderace {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        for file in [&self.config, &self.log, &self.errors] {
            drop(fs::remove_file(file));
        }
    }
}

impl Start {
    fn new(name: &str, mut command: Command, configure: impl FnOnce(&mut String)) -> Self {
        let file =
            |kind| std::env::temp_dir().join(format!("tiderace-{}-{name}.{kind}", process::id()));
        let (config, log, errors) = (file("toml"), file("log"), file("err"));
        let mut text = String::new();
        configure(&mut text);
        if text.is_empty() {
            // A file that sets nothing is an error.
            text.push_str("log_level = \"info\"\n");
        }
        fs::write(&config, text).unwrap();
        let address = own_address();
        command.arg("--config").arg(&config).args(["--listen", &address.to_string()]);
        command.stdin(Stdio::null());
        command.stdout(File::create(&log).unwrap()).stderr(File::create(&errors).unwrap());
        Self { command, address, config, log, errors }
    }

    /// Starts it, and waits until it serves.
    pub(crate) fn start(self) -> Tiderace {
        let mut server = self.spawn();
        wait_until("the server accepts", || {
            let ended = server.child.try_wait().unwrap();
            assert_eq!(ended, None, "{}", server.errors());
            TcpStream::connect(server.address).is_ok()
        });
        server
    }

    /// Starts it.
    fn spawn(mut self) -> Tiderace {
        let child = self.command.spawn().unwrap();
        let Self { address, config, log, errors, .. } = self;
        Tiderace { child, address, config, log, errors }
    }
}

/// An address that is nobody else's: all of 127.0.0.0/8 is this machine, so each server of each
/// run of the tests has a host of its own.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed));
    SocketAddr::from((host, 11935))
}

/// A whole exchange with the server, as far as the handshake goes.
fn serves(address: SocketAddr) {
    drop(greeted(address));
}

/// A connection whose C0 and C1 were answered.
fn greeted(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(&C0_C1).unwrap();
    let mut answer = [0; S0_S1_S2_BYTES];
    stream.read_exact(&mut answer).expect("S0 S1 S2");
    assert_eq!(answer[0], 3);
    assert_eq!(answer[1537..], C0_C1[1..], "S2 is C1");
    stream
}

pub(crate) fn wait_until(what: &str, mut is_true: impl FnMut() -> bool) {
    let asked = Instant::now();
    while !is_true() {
        assert!(asked.elapsed() < SOON, "not within {SOON:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a program or file that a test needs is there. Without it the test is skipped, and says
/// so; where nothing may be skipped, with CI=true, it fails.
fn is_there(path: &Path) -> bool {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&directories).any(|directory| directory.join(path).exists());
    if !there {
        let path = path.display();
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{path} is missing");
        eprintln!("skipped: {path} is missing");
    }
    there
}
