//! The server under test: the project's program, or a server that is already
//! running.
//!
//! `TIDERACE_INTEROP_ADDR=127.0.0.1:PORT` names a running server. Tests that need settings, signals
//! or access to the process are then skipped. `TIDERACE_PROGRAM=PATH` names another build of the
//! program: `tests/run` names the release build.

use std::env;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Once;
use std::time::Duration;

use super::{Lab, say};
use crate::support::peer::Peer;
use crate::support::program::{self, Program};
use crate::support::server::{self, Start};

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
    own: Option<server::Server>,
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
            return Self { address, own: None };
        }
        let mut command = wrapped(setup.wrapper, program());
        command.args(["serve", "--log-level", setup.log_level]);
        let own = Start::of(lab.name(), command, setup.settings).start();
        Self { address: own.address, own: Some(own) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of `path`, such as `live/a`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("rtmp://{}/{path}", self.address)
    }

    /// Returns the URL of a stream over HTTP.
    pub(crate) fn http_url(&self, path: &str) -> String {
        format!("http://{}/{path}", server::http_of(self.address))
    }

    /// Waits until a stream delivers media.
    pub(crate) fn wait_for_stream(&self, app: &str, key: &str) {
        let mut player = Peer::playing_in(self.address, app, key);
        let message = player.next_frame(Duration::from_secs(10));
        assert!(message.is_some(), "{app}/{key} never started");
    }

    pub(crate) fn program(&mut self) -> &mut Program {
        self.own.as_mut().expect("the test has its own server")
    }

    pub(crate) fn log(&self) -> String {
        self.own.as_ref().map(server::Server::log).unwrap_or_default()
    }

    /// Replaces the configuration file and requests a reload.
    pub(crate) fn reload(&self, settings: &str) {
        self.own.as_ref().expect("the test has its own server").reload(settings);
    }
}

/// Returns whether the tests run against another server, whose settings they cannot change.
pub(crate) fn is_stand_in() -> bool {
    stand_in().is_some()
}

/// Linger time of 1 s instead of the default 15 s, so that tests end soon.
pub(crate) const SHORT_LINGER: &str = "[publish]\nlinger_ms = 1000\n";

/// Returns the path of the program under test. The first call reports it.
pub(crate) fn program() -> &'static OsStr {
    static REPORT: Once = Once::new();
    REPORT.call_once(|| {
        let hint = match env::var_os("TIDERACE_PROGRAM") {
            Some(_) => "",
            None => "; `tests/run interop` has the release build",
        };
        say(&format!("interop: the server is {}{hint}", program::path().display()));
    });
    program::path()
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
