//! The server under test: our own binary on a free port, or one that already runs.
//!
//! `TIDERACE_INTEROP_ADDR=127.0.0.1:PORT` points the tests at a running server. What needs
//! settings, signals or a look into the process is skipped then. `TIDERACE_PROGRAM=PATH` names
//! another build of the program: `tests/run` names the one that is shipped.

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
    /// The text of its configuration file.
    pub(crate) settings: &'a str,
    pub(crate) log_level: &'a str,
    /// A program, with its arguments, under which the server runs.
    pub(crate) wrapper: &'a [&'a str],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { settings: SHORT_LINGER, log_level: "debug", wrapper: &[] }
    }
}

/// A server that accepts connections, ours to stop.
pub(crate) struct Server {
    address: SocketAddr,
    program: Option<Program>,
    config: PathBuf,
}

impl Server {
    /// Starts the server with its defaults, but with a linger time short enough to wait for.
    pub(crate) fn start(lab: &Lab) -> Self {
        Self::start_as(lab, &Setup::default())
    }

    /// Starts the server with the text of a configuration file.
    pub(crate) fn start_with(lab: &Lab, settings: &str) -> Self {
        Self::start_as(lab, &Setup { settings, ..Setup::default() })
    }

    /// Starts the server and waits until it accepts.
    pub(crate) fn start_as(lab: &Lab, setup: &Setup<'_>) -> Self {
        if let Some(address) = stand_in() {
            return Self { address, program: None, config: PathBuf::new() };
        }
        let config = lab.path("tiderace.toml");
        // A file that sets nothing is an error.
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
        assert!(is_up && program.is_running(), "the server does not come up");
        Self { address, program: Some(program), config }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of `path`, such as `live/a`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.address)
    }

    /// Waits until media of a stream can be played.
    pub(crate) fn wait_for_stream(&self, app: &str, key: &str) {
        let mut player = Player::play(self.address, app, key);
        let message = player.next_media(Duration::from_secs(10));
        assert!(message.is_some(), "{app}/{key} never came up");
    }

    pub(crate) fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("the test has a server of its own")
    }

    pub(crate) fn log(&self) -> String {
        self.program.as_ref().map(Program::output_text).unwrap_or_default()
    }

    /// Replaces the configuration file and asks for a reload.
    pub(crate) fn reload(&self, settings: &str) {
        fs::write(&self.config, settings).expect("the configuration can be written");
        self.program.as_ref().expect("the test has a server of its own").signal(Signal::HUP);
    }
}

/// True when the tests run against a server that is not ours to set up.
pub(crate) fn is_stand_in() -> bool {
    stand_in().is_some()
}

/// Players of a stream without a publisher are let go after this, not after the default 15 s.
pub(crate) const SHORT_LINGER: &str = "[publish]\nlinger_ms = 1000\n";

/// The program under test, server and load generator alike: the one that the environment names, or
/// the one that cargo built along with the tests. The first caller reports which.
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

/// A port that nobody listens on. It lies below the ports that the kernel gives to outgoing
/// connections, or a program of another test might take it before the server does.
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
