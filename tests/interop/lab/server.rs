//! The server under test: the project's program on a free port, or a server that is already
//! running.
//!
//! `TIDERACE_INTEROP_ADDR=127.0.0.1:PORT` names a running server. Tests that need settings, signals
//! or access to the process are then skipped. `TIDERACE_PROGRAM=PATH` names another build of the
//! program: `tests/run` names the release build.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::program::Program;
use super::raw::Player;
use super::{Lab, say, wait_until};

/// How to start the server.
pub(crate) struct Setup<'a> {
    /// Contents of the configuration file.
    pub(crate) settings: &'a str,
    pub(crate) log_level: &'a str,
    /// A wrapper program with its arguments, under which the server runs.
    pub(crate) wrapper: &'a [&'a str],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { settings: SHORT_LINGER, log_level: "debug", wrapper: &[] }
    }
}

/// A server that accepts connections. It is stopped when dropped, if it belongs to the test.
pub(crate) struct Server {
    address: SocketAddr,
    program: Option<Program>,
    config: PathBuf,
}

impl Server {
    /// Starts the server with default settings except for a short linger time.
    pub(crate) fn start(lab: &Lab) -> Self {
        Self::start_as(lab, &Setup::default())
    }

    /// Starts the server with this configuration file.
    pub(crate) fn start_with(lab: &Lab, settings: &str) -> Self {
        Self::start_as(lab, &Setup { settings, ..Setup::default() })
    }

    /// Starts the server and waits until it accepts connections.
    pub(crate) fn start_as(lab: &Lab, setup: &Setup<'_>) -> Self {
        if let Some(address) = stand_in() {
            return Self { address, program: None, config: PathBuf::new() };
        }
        let config = lab.path("tiderace.toml");
        // A configuration file without settings is an error.
        let settings =
            if setup.settings.is_empty() { "log_level = \"info\"\n" } else { setup.settings };
        fs::write(&config, settings).expect("the configuration can be written");
        let address = free_address();
        let mut command = wrapped(setup.wrapper, program());
        command.args(["serve", "--listen", &address.to_string()]);
        command.args(["--log-level", setup.log_level]).arg("--config").arg(&config);
        let mut program = Program::start(lab, "tiderace", &mut command);
        let is_up = wait_until(Duration::from_secs(10), || {
            TcpStream::connect(address).is_ok() || !program.is_running()
        });
        assert!(is_up && program.is_running(), "the server does not start");
        Self { address, program: Some(program), config }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of `path`, such as `live/a`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.address)
    }

    /// Waits until a stream delivers media.
    pub(crate) fn wait_for_stream(&self, app: &str, key: &str) {
        let mut player = Player::play(self.address, app, key);
        let message = player.next_media(Duration::from_secs(10));
        assert!(message.is_some(), "{app}/{key} never started");
    }

    pub(crate) fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("the test has its own server")
    }

    pub(crate) fn log(&self) -> String {
        self.program.as_ref().map(Program::output_text).unwrap_or_default()
    }

    /// Replaces the configuration file and requests a reload.
    pub(crate) fn reload(&self, settings: &str) {
        fs::write(&self.config, settings).expect("the configuration can be written");
        self.program.as_ref().expect("the test has its own server").signal(Signal::HUP);
    }
}

/// Returns whether the tests run against another server, whose settings they cannot change.
pub(crate) fn is_stand_in() -> bool {
    stand_in().is_some()
}

/// Linger time of 1 s instead of the default 15 s, so that tests end soon.
pub(crate) const SHORT_LINGER: &str = "[publish]\nlinger_ms = 1000\n";

/// Returns the program under test, which is both the server and the load generator: the one that
/// the environment names, or the one that cargo built. The first call reports it.
pub(crate) fn program() -> &'static OsStr {
    static PROGRAM: OnceLock<OsString> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(program) = env::var_os("TIDERACE_PROGRAM") {
            say(&format!("interop: the server is {}", program.display()));
            return program;
        }
        let program = env!("CARGO_BIN_EXE_tiderace");
        say(&format!(
            "interop: the server is {program}; `tests/run interop` has the release build"
        ));
        program.into()
    })
}

fn stand_in() -> Option<SocketAddr> {
    let address = env::var("TIDERACE_INTEROP_ADDR").ok()?;
    Some(address.parse().expect("TIDERACE_INTEROP_ADDR is an address and a port"))
}

fn wrapped(wrapper: &[&str], program: &OsStr) -> Command {
    let Some((first, rest)) = wrapper.split_first() else { return Command::new(program) };
    let mut command = Command::new(first);
    command.args(rest).arg(program);
    command
}

/// Returns a free port below the range of ephemeral ports, so that no outgoing connection of
/// another test takes it before the server does.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + (std::process::id() % 8_000) as u16;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
