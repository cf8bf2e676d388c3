//! Starts servers and load generators, each on its own core, and ends them in every case.
//!
//! Owns the temporary directory, the cores, and the reports of the load generator. It does not know
//! the workloads.

use std::cell::{Cell, RefCell};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tiderace::descriptors;
use tiderace::load::manifest::Manifest;
use tiderace::load::report::LoadReport;

use crate::Result;
use crate::peer::{Peer, tiderace};
use crate::support::directory::Directory;
use crate::support::net::own_address;
use crate::support::program::Program;

/// Longer than any load takes.
const LOAD_MAX: Duration = Duration::from_secs(90);
const START_MAX: Duration = Duration::from_secs(5);
const LOOK_EACH: Duration = Duration::from_millis(10);
/// Exit code of `tiderace load` if the generator did not keep up; the report is there.
const LAGGED: i32 = 14;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Lab {
    directory: Directory,
    pub(crate) server_core: u32,
    pub(crate) load_core: u32,
    is_interrupted: Arc<AtomicBool>,
    has_lagged: Cell<bool>,
    manifest: RefCell<Option<Manifest>>,
}

impl Lab {
    pub(crate) fn open() -> Result<Self> {
        descriptors::raise_limit();
        let is_interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            flag::register(signal, Arc::clone(&is_interrupted))?;
        }
        let (server_core, load_core) = cores()?;
        Ok(Self {
            directory: Directory::new("peers"),
            server_core,
            load_core,
            is_interrupted,
            has_lagged: Cell::new(false),
            manifest: RefCell::new(None),
        })
    }

    /// Returns the manifest of the last load.
    pub(crate) fn manifest(&self) -> Option<Manifest> {
        self.manifest.borrow().clone()
    }

    /// Returns whether a generator did not keep up since the last call.
    pub(crate) fn take_lagged(&self) -> bool {
        self.has_lagged.take()
    }

    /// Starts a server on an address of its own, and waits until it accepts connections.
    pub(crate) fn start(&self, peer: Peer) -> Result<Server> {
        let address = own_address();
        let words = peer.command(address, self.directory.path())?;
        let program = self.spawn(self.server_core, &words, "server")?;
        let mut server = Server { peer, address, program };
        let asked = Instant::now();
        while TcpStream::connect(address).is_err() {
            let has_ended = !server.program.is_running();
            if has_ended || asked.elapsed() > START_MAX {
                return Err(format!("it does not start: {}", self.last_line("server")).into());
            }
            self.pause()?;
        }
        Ok(server)
    }

    /// Runs `tiderace load` with `flags` against a server, and returns its report.
    pub(crate) fn load(&self, server: &Server, command: &str, flags: &str) -> Result<LoadReport> {
        let json = self.directory.file("report.json");
        let json_flags = format!("--json {} --server-pid {}", json.display(), server.pid());
        let words = load_words(server, command, &format!("{flags} {json_flags}"));
        let mut program = self.spawn(self.load_core, &words, "load")?;
        let status = self.wait(&mut program, LOAD_MAX)?;
        if !status.success() && status.code() != Some(LAGGED) {
            return Err(format!("load {command}: {status}: {}", self.last_line("load")).into());
        }
        let report = LoadReport::from_json(&fs::read_to_string(json)?)?;
        if report.lagged.is_some() {
            self.has_lagged.set(true);
        }
        *self.manifest.borrow_mut() = Some(report.manifest.clone());
        Ok(report)
    }

    /// Opens idle sessions on a server. They end when the result is dropped.
    pub(crate) fn crowd(&self, server: &Server, sessions: usize) -> Result<Program> {
        let flags = format!("--sessions {sessions} --rate 2000 --wake 0 --duration-s 600");
        let words = load_words(server, "idle", &flags);
        let mut program = self.spawn(self.load_core, &words, "crowd")?;
        let asked = Instant::now();
        while server.program.proc().descriptors() < sessions {
            if !program.is_running() || asked.elapsed() > LOAD_MAX {
                return Err(format!("sessions do not open: {}", self.last_line("crowd")).into());
            }
            self.pause()?;
        }
        Ok(program)
    }

    /// Starts a program on one core. `taskset` replaces itself with the program, so the pid is that
    /// of the program.
    fn spawn(&self, core: u32, words: &[String], name: &str) -> Result<Program> {
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string()]).args(words);
        Ok(Program::start(self.directory.path(), name, &mut command))
    }

    fn wait(&self, program: &mut Program, limit: Duration) -> Result<ExitStatus> {
        let asked = Instant::now();
        loop {
            if let Some(status) = program.exit_status() {
                return Ok(status);
            }
            if asked.elapsed() > limit {
                return Err(format!("it has not ended within {limit:?}").into());
            }
            self.pause()?;
        }
    }

    /// Waits a moment, or returns an error if a signal asks for the end.
    fn pause(&self) -> Result<()> {
        if self.is_interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        thread::sleep(LOOK_EACH);
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.file(&format!("{name}.err"))
    }

    /// Returns the last line that a program has printed.
    fn last_line(&self, name: &str) -> String {
        let text = fs::read_to_string(self.log(name)).unwrap_or_default();
        text.lines().last().unwrap_or("it printed nothing").to_owned()
    }
}

/// Returns the first and the last core that this process may use.
fn cores() -> Result<(u32, u32)> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = list.ok_or("/proc/self/status has no Cpus_allowed_list")?;
    let numbers = list.split([',', '-']).map(|number| number.trim().parse());
    let numbers: Vec<u32> = numbers.collect::<std::result::Result<_, _>>()?;
    match numbers[..] {
        [first, .., last] => Ok((first, last)),
        _ => Err("the server and the load need a core each, but there is only one".into()),
    }
}

fn load_words(server: &Server, command: &str, flags: &str) -> Vec<String> {
    let url = format!("rtmp://{}/live/peers", server.address);
    let wire = if server.peer.is_floor() { " --wire floor" } else { "" };
    let tiderace = tiderace();
    let line = format!("{tiderace} load {command} {url} --quiet {flags}{wire}");
    line.split_whitespace().map(str::to_owned).collect()
}

/// A server that accepts connections.
#[derive(Debug)]
pub(crate) struct Server {
    peer: Peer,
    address: SocketAddr,
    program: Program,
}

impl Server {
    fn pid(&self) -> u32 {
        self.program.pid()
    }
}
