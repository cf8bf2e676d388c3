//! The server: started with a configuration on an address of its own, and observed from outside.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use rustix::process::Signal;

use super::directory::Directory;
use super::net::own_address;
use super::program::{self, Output, Program};
use super::{SOON, expect_soon, wait_until};

/// A server that has not been started yet.
pub(crate) struct Start {
    pub(crate) command: Command,
    pub(crate) address: SocketAddr,
    /// The configuration file.
    pub(crate) config: PathBuf,
    directory: Directory,
    files: Output,
}

/// A server that was started. It is killed when dropped. Its files are removed, unless the test
/// fails.
pub(crate) struct Server {
    program: Program,
    pub(crate) address: SocketAddr,
    /// The configuration file.
    pub(crate) config: PathBuf,
    _directory: Directory,
}

impl Start {
    /// Returns the program under test with a configuration file of `settings`.
    pub(crate) fn new(name: &str, settings: &str) -> Self {
        Self::of(name, program::tiderace(), settings)
    }

    /// Returns a server that a line of the shell starts: as `$0`, with the arguments `$@`.
    pub(crate) fn shell(name: &str, line: &str, settings: &str) -> Self {
        Self::of(name, program::shell(line), settings)
    }

    /// Returns a server that `command` starts if it is given an address and a configuration.
    pub(crate) fn of(name: &str, mut command: Command, settings: &str) -> Self {
        let directory = Directory::new(name);
        // A configuration file without settings is an error.
        let settings = if settings.is_empty() { "log_level = \"info\"\n" } else { settings };
        let config = directory.write("tiderace.toml", settings);
        let address = own_address();
        command.arg("--config").arg(&config).args(["--listen", &address.to_string()]);
        // The default address can be had by one server at a time.
        command.args(["--http-listen", &http_of(address).to_string()]);
        let files = Output::of(&mut command, directory.path(), "tiderace");
        Self { command, address, config, directory, files }
    }

    /// Starts the server and waits until it accepts connections.
    #[track_caller]
    pub(crate) fn start(self) -> Server {
        let mut server = self.spawn();
        let is_up =
            wait_until(SOON, || !server.is_running() || TcpStream::connect(server.address).is_ok());
        let is_running = server.is_running();
        assert!(is_up && is_running, "the server does not start: {}", server.errors());
        server
    }

    /// Starts the server.
    pub(crate) fn spawn(mut self) -> Server {
        let program = Program::spawn("tiderace", &mut self.command, self.files);
        let Self { address, config, directory, .. } = self;
        Server { program, address, config, _directory: directory }
    }
}

/// Returns the address for HTTP of the server that has `address` for RTMP.
pub(crate) fn http_of(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), 18_080)
}

impl Server {
    /// Waits for the server to end by itself and returns its exit status.
    #[track_caller]
    pub(crate) fn wait_soon(&mut self) -> ExitStatus {
        self.wait(SOON)
    }

    /// Returns the log so far.
    pub(crate) fn log(&self) -> String {
        self.output_text()
    }

    /// Returns the standard error output so far.
    pub(crate) fn errors(&self) -> String {
        self.error_text()
    }

    #[track_caller]
    pub(crate) fn wait_for_log(&self, part: &str) {
        expect_soon(&format!("the log has {part:?}"), || self.log().contains(part));
    }

    /// Replaces the configuration file and requests a reload.
    pub(crate) fn reload(&self, settings: &str) {
        fs::write(&self.config, settings).expect("the configuration can be written");
        self.signal(Signal::HUP);
    }
}

impl Deref for Server {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.program
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Program {
        &mut self.program
    }
}
