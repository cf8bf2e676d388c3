//! Starts servers and load generators, each on its own core, and ends them in every case.
//!
//! Owns the temporary directory, the cores, the network namespace, and the reports of the load
//! generator. It does not know the workloads.

use std::cell::{Cell, RefCell};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tiderace::descriptors;
use tiderace::load::manifest::Manifest;
use tiderace::load::report::LoadReport;

use crate::Result;
use crate::peer::{CONFIG, Peer, UserServer, filled};
use crate::support::directory::Directory;
use crate::support::net::own_address;
use crate::support::program::{self, Program};
use crate::support::server::http_of;

/// Longer than a load takes in addition to its window.
const LOAD_MAX: Duration = Duration::from_secs(120);
const START_MAX: Duration = Duration::from_secs(10);
const LOOK_EACH: Duration = Duration::from_millis(10);
/// How late a generator may be. One bound for all servers: to judge each figure by its own size
/// would withhold more of a server that is fast.
const LATENESS_MAX_MS: f64 = 1.0;
/// Exit code of `tiderace load` if the generator did not keep up; the report is there.
const LAGGED: i32 = 14;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Lab {
    directory: Directory,
    pub(crate) users: Vec<UserServer>,
    /// Length of a window.
    pub(crate) window: Duration,
    pub(crate) server_core: u32,
    pub(crate) load_core: u32,
    /// Server and load share the core of the server, in this namespace.
    namespace: Option<Namespace>,
    is_interrupted: Arc<AtomicBool>,
    has_lagged: Cell<bool>,
    manifest: RefCell<Option<Manifest>>,
}

impl Lab {
    pub(crate) fn open(users: Vec<UserServer>, window: Duration) -> Result<Self> {
        descriptors::raise_limit();
        let is_interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            flag::register(signal, Arc::clone(&is_interrupted))?;
        }
        let (server_core, load_core) = cores()?;
        Ok(Self {
            directory: Directory::new("peers"),
            users,
            window,
            server_core,
            load_core,
            namespace: None,
            is_interrupted,
            has_lagged: Cell::new(false),
            manifest: RefCell::new(None),
        })
    }

    /// Chooses where the next programs run: server and load on one core in a network namespace of
    /// their own, or each on its core.
    ///
    /// # Errors
    /// The namespace cannot be made, for example because that is not permitted.
    pub(crate) fn share_core(&mut self, shares_core: bool) -> Result<()> {
        self.namespace = shares_core.then(Namespace::new).transpose()?;
        Ok(())
    }

    /// Returns the cores of the server and of the load.
    pub(crate) fn pinned(&self) -> (u32, u32) {
        let shares_core = self.namespace.is_some();
        (self.server_core, if shares_core { self.server_core } else { self.load_core })
    }

    /// Returns the manifest of the last load.
    pub(crate) fn manifest(&self) -> Option<Manifest> {
        self.manifest.borrow().clone()
    }

    /// Returns whether a generator did not keep up since the last call.
    pub(crate) fn take_lagged(&self) -> bool {
        self.has_lagged.take()
    }

    /// Starts a server on an address of its own, and waits until it listens.
    pub(crate) fn start(&self, peer: Peer) -> Result<Server> {
        let (address, folder) = (own_address(), self.directory.path());
        let setup = peer.setup(&self.users);
        let config = setup.config.unwrap_or_default();
        fs::write(folder.join(CONFIG), filled(&config, address, folder))?;
        let words = peer.words(&filled(&setup.command, address, folder));
        let program = self.spawn(self.server_core, &words, "server")?;
        let mut server = Server { peer, address, program };
        let asked = Instant::now();
        while !server.listens() {
            let has_ended = !server.program.is_running();
            if has_ended || asked.elapsed() > START_MAX {
                return Err(format!("it does not start: {}", self.last_line("server")).into());
            }
            self.pause()?;
        }
        Ok(server)
    }

    /// Runs `tiderace load` against a server, and returns its report. `load` is the command with
    /// its flags.
    pub(crate) fn load(&self, server: &Server, load: &str) -> Result<LoadReport> {
        let json = self.directory.file("report.json");
        let flags = format!(
            "--json {} --server-pid {} --lateness-max-ms {LATENESS_MAX_MS}",
            json.display(),
            server.program.pid()
        );
        let words = load_words(server, &format!("{load} {flags}"));
        let mut program = self.spawn(self.pinned().1, &words, "load")?;
        let status = self.wait(&mut program, LOAD_MAX + 2 * self.window)?;
        if !status.success() && status.code() != Some(LAGGED) {
            return Err(format!("{load}: {status}: {}", self.last_line("load")).into());
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
        let load = format!("idle --sessions {sessions} --rate 2000 --wake 0 --duration-s 600");
        let mut program = self.spawn(self.load_core, &load_words(server, &load), "crowd")?;
        let asked = Instant::now();
        while server.program.proc().descriptors() < sessions {
            if !program.is_running() || asked.elapsed() > LOAD_MAX {
                return Err(format!("sessions do not open: {}", self.last_line("crowd")).into());
            }
            self.pause()?;
        }
        Ok(program)
    }

    /// Returns an error if a signal asks for the end.
    pub(crate) fn check_interrupted(&self) -> Result<()> {
        if self.is_interrupted.load(Ordering::Relaxed) {
            return Err("interrupted".into());
        }
        Ok(())
    }

    /// Starts a program on one core. `ip` and `taskset` replace themselves with the program, so the
    /// pid is that of the program.
    fn spawn(&self, core: u32, words: &[String], name: &str) -> Result<Program> {
        let core = core.to_string();
        let taskset = ["taskset", "-c", &core].map(str::to_owned);
        let place = self.namespace.as_ref().map(Namespace::enter).unwrap_or_default();
        let mut all = place.iter().chain(&taskset).chain(words);
        let mut command = Command::new(all.next().ok_or("there is no command")?);
        // A group of its own ends with its leader: a shell does not end its children.
        command.args(all).process_group(0);
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
        self.check_interrupted()?;
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

/// Returns the words of a load, with the protocol that the server speaks.
fn load_words(server: &Server, load: &str) -> Vec<String> {
    let (command, flags) = load.split_once(' ').unwrap_or((load, ""));
    let url = format!("rtmp://{}/live/peers", server.address);
    let wire = match server.peer {
        peer if peer.is_floor() => " --wire floor".to_owned(),
        Peer::TideraceHttpFlv => {
            format!(" --play-url http://{}/live/peers.flv", http_of(server.address))
        }
        _ => String::new(),
    };
    let tiderace = program::path().display();
    let line = format!("{tiderace} load {command} {url} --quiet {flags}{wire}");
    line.split_whitespace().map(str::to_owned).collect()
}

/// A server that listens.
#[derive(Debug)]
pub(crate) struct Server {
    peer: Peer,
    address: SocketAddr,
    program: Program,
}

impl Server {
    /// Returns whether the port is listened on in the namespace of the server, by its table of
    /// sockets. A connection from here would not reach it there.
    fn listens(&self) -> bool {
        const LISTEN: &str = "0A";
        // The kernel writes addresses in hexadecimal digits, the last octet first.
        let host = match self.address.ip() {
            IpAddr::V4(host) => format!("{:08X}", u32::from_le_bytes(host.octets())),
            IpAddr::V6(_) => String::new(),
        };
        let port = format!("{:04X}", self.address.port());
        let is_own = |(at, on): (&str, &str)| {
            on == port && (at == host || at.bytes().all(|digit| digit == b'0'))
        };
        let is_listener = |line: &str| {
            let mut fields = line.split_whitespace().skip(1);
            let is_own = fields.next().and_then(|at| at.split_once(':')).is_some_and(is_own);
            is_own && fields.nth(1) == Some(LISTEN)
        };
        let proc = self.program.proc();
        ["net/tcp", "net/tcp6"].iter().any(|file| proc.read(file).lines().any(is_listener))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.program.child);
        // It may have ended already.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// A network namespace with a loopback interface. It is deleted when dropped.
#[derive(Debug)]
struct Namespace {
    name: String,
}

impl Namespace {
    fn new() -> Result<Self> {
        let namespace = Self { name: format!("tiderace-peers-{}", std::process::id()) };
        ip(&["netns", "add", &namespace.name])?;
        ip(&["netns", "exec", &namespace.name, "ip", "link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Returns the command that runs another one inside.
    fn enter(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].map(str::to_owned).to_vec()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A namespace that is left over holds an interface and nothing else.
        drop(ip(&["netns", "delete", &self.name]));
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.map_err(|error| format!("ip cannot be started: {error}"))?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("ip {}: {}", arguments.join(" "), error.trim()).into());
    }
    Ok(())
}
