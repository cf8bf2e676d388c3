//! The event loop: polls, notes the events, accepts, and runs a turn of the server.
//!
//! Each turn has one time, which is read after the poll. Without a deadline the loop sleeps without
//! a timeout, so idle connections cause no wakeup. The clock is monotonic: a change of the system
//! time affects no deadline, and no deadline expires while the machine is suspended.

use super::dial::{DIALS_MAX, Dials};
use super::listener::{Listener, ListeningSocket, MissingOption, Polled};
use super::notify::Notifier;
use super::signals::{Request, Signals};
use super::tcp::Tcp;
use super::{descriptor_bounds, memfd, memory_budget, tcp_facts};
use crate::config::{ConfigErrors, Settings};
use crate::descriptors;
use crate::limits;
use crate::rtmp::auth::Challenger;
use crate::rtmp::handshake::Hello;
use crate::server::Server;
use crate::server::peer::Protocol;
use crate::server::stopwatch::Clocks;
use crate::server::web::{ApiToken, ProcessFacts, Surface};
use crate::stream::ids::ConnId;
use crate::time::Time;
use log::{error, info, warn};
use mio::{Events, Poll, Token};
use rustix::param::page_size;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Events taken from the kernel in one call.
const EVENTS_PER_POLL: usize = 1024;
/// Beginning of the lines about a reload that has changed nothing.
const NOT_RELOADED: &str = "not reloaded, the settings stay as they are";
/// Time for stopping after the drain (ms).
const STOP_MS: u64 = 1000;
/// Token of the signals. The listeners and the dials are below it, and the connections count up
/// from 0.
const SIGNALS: Token = Token(usize::MAX - 1);
const LISTENERS_END: usize = usize::MAX - 2;

/// First token of [`Dials`].
const DIALS: Token = Token(LISTENERS_END - limits::LISTENERS_MAX);
const _: () = assert!(DIALS.0 - DIALS_MAX > u32::MAX as usize / 2);

const fn listener_token(index: usize) -> Token {
    Token(LISTENERS_END - index)
}

/// The event loop, with the server and its sockets.
pub(super) struct EventLoop {
    poll: Poll,
    signals: Signals,
    listeners: Vec<Listener>,
    dials: Dials,
    server: Server<Tcp>,
    notifier: Notifier,
    buffer: Box<[u8]>,
    began: Instant,
    /// True if signals wait to be handled.
    signalled: bool,
    /// Deadline of the drain; `None` unless the server drains.
    drained_by: Option<Time>,
    /// True after a second stop signal: the loop ends without waiting for the peers.
    stopped: bool,
}

impl EventLoop {
    pub(super) fn new(
        settings: Settings,
        mut signals: Signals,
        mut listeners: Vec<Listener>,
        hello: Hello,
        challenger: Challenger,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        signals.register(poll.registry(), SIGNALS)?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            listener.socket.register(poll.registry(), listener_token(index))?;
        }
        // From the line that reports the start, the loop handles every signal. A supervisor may
        // signal as soon as it reads that line.
        signals.started();
        announce(&listeners, &settings);
        warn_of_missing_options(&listeners);
        tcp_facts::prepare();
        let began = Instant::now();
        let files_max = descriptor_bounds::files_max(settings.limits.connections_max);
        let mut server = Server::new(settings, hello, challenger);
        server.set_segments(memfd::settings(files_max));
        server.observe_process(Box::new(process_facts()));
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        server.set_unix_ms(since_1970.map_or(0, |time| time.as_millis() as u64));
        server.measure_turns(Clocks {
            wall: Box::new(move || Time::ZERO + began.elapsed()),
            cpu: Box::new(cpu_time),
        });
        Ok(Self {
            poll,
            signals,
            listeners,
            dials: Dials::new(DIALS),
            server,
            notifier: Notifier::from_env(),
            buffer: vec![0; limits::READ_BUFFER_BYTES].into_boxed_slice(),
            began,
            signalled: false,
            drained_by: None,
            stopped: false,
        })
    }

    /// Sets the token of the API.
    pub(super) fn set_token(&mut self, token: Option<ApiToken>) {
        self.server.set_token(token);
    }

    /// Runs turns until the server has drained.
    pub(super) fn run(
        &mut self,
        reload: impl Fn(&Settings) -> Result<Settings, ConfigErrors>,
    ) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        self.notifier.ready(&status(&self.server), self.now());
        while !self.is_over() {
            let now = self.wait(&mut events)?;
            if std::mem::take(&mut self.signalled) {
                self.handle_signals(&reload, now);
            }
            // Accepting comes after the events. A full table evicts a connection for a new one,
            // which takes its id. An event of the old connection would then reach the new one.
            self.accept(now);
            self.server.turn(&mut self.buffer, now);
            if self.server.take_reload() {
                self.reload_by(&reload, now);
            }
            self.dials.run(&mut self.server, self.poll.registry(), now);
            self.notifier.turn(now, || status(&self.server));
        }
        let left = self.server.len();
        self.server.stop(self.now());
        let longest = self.server.longest_turn();
        info!("stopped with {left} open connections; longest turn: {longest}");
        Ok(())
    }

    /// Sleeps until an event or a deadline, notes the events, and returns the time of the turn.
    ///
    /// If a deadline has passed, this process may have been suspended or slow rather than the peer.
    /// Closing the connection at once is rejected: its data may be in the socket already. So all
    /// pending events are noted first, and the server reads a connection before it judges it.
    fn wait(&mut self, events: &mut Events) -> io::Result<Time> {
        // Events do not change deadlines, so one lookup serves both uses below.
        let deadline = self.server.next_deadline();
        self.poll(events, self.timeout(deadline, self.now()))?;
        let now = self.now();
        if deadline.is_some_and(|at| at <= now) {
            // Enough polls to receive an event of every connection.
            for _ in 0..=self.server.len() / EVENTS_PER_POLL {
                if self.poll(events, Some(Duration::ZERO))? < EVENTS_PER_POLL {
                    break;
                }
            }
        }
        Ok(now)
    }

    /// Polls once and notes the events. Returns their number.
    fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &*events {
            match event.token() {
                SIGNALS => self.signalled = true,
                Token(token) if token > LISTENERS_END - limits::LISTENERS_MAX => {
                    if let Some(listener) = self.listeners.get_mut(LISTENERS_END - token) {
                        listener.acceptor.edge();
                    }
                }
                token if self.dials.event(token) => {}
                Token(token) => self.server.event(
                    ConnId::new(token as u32),
                    event.is_readable(),
                    event.is_writable(),
                    event.is_read_closed() || event.is_error() || event.is_priority(),
                ),
            }
        }
        Ok(events.iter().count())
    }

    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    /// Returns the longest time to sleep; `None` for no limit. `deadline` is the next one of the
    /// server.
    fn timeout(&self, deadline: Option<Time>, now: Time) -> Option<Duration> {
        let can_accept = |listener: &Listener| self.server.can_accept(&listener.acceptor, now);
        if self.server.has_work() || self.listeners.iter().any(can_accept) {
            return Some(Duration::ZERO);
        }
        let paused = self.listeners.iter().filter_map(|listener| listener.acceptor.paused_until());
        let deadlines = deadline.into_iter().chain(paused);
        let deadlines = deadlines.chain(self.drained_by).chain(self.notifier.next());
        deadlines.min().map(|at| at.since(now))
    }

    fn is_over(&self) -> bool {
        let late = self.drained_by.is_some_and(|by| by <= self.now());
        self.stopped || late || (self.drained_by.is_some() && self.server.is_empty())
    }

    fn accept(&mut self, now: Time) {
        for Listener { socket, protocol, acceptor, .. } in &mut self.listeners {
            let mut polled = Polled { socket, protocol: *protocol, registry: self.poll.registry() };
            self.server.accept_from(acceptor, &mut polled, now);
        }
    }

    fn handle_signals(
        &mut self,
        reload: &impl Fn(&Settings) -> Result<Settings, ConfigErrors>,
        now: Time,
    ) {
        for request in self.signals.requests() {
            match request {
                Request::Reload => self.reload_by(&reload, now),
                Request::Reconnect => self.server.request_reconnects(now),
                Request::Ignored => info!("received SIGUSR2, which has no effect"),
                Request::Stop if self.drained_by.is_some() => {
                    info!("received a second stop signal: stopping without waiting for peers");
                    self.stopped = true;
                }
                Request::Stop => {
                    self.listeners.clear();
                    let drain_ms = self.server.settings().drain_ms;
                    self.drained_by = Some(now.plus_millis(drain_ms));
                    self.notifier.stopping(&status(&self.server), drain_ms + STOP_MS, now);
                    self.server.drain(now);
                }
            }
        }
    }

    /// Reads the configuration again, and tells the service manager what came of it.
    fn reload_by(
        &mut self,
        reload: &impl Fn(&Settings) -> Result<Settings, ConfigErrors>,
        now: Time,
    ) {
        self.notifier.reloading(now);
        let outcome = self.reload(reload(self.server.settings()));
        self.notifier.ready(&outcome, now);
    }

    /// Applies new settings, unless they contain mistakes. Returns the outcome as a line.
    fn reload(&mut self, settings: Result<Settings, ConfigErrors>) -> String {
        let mut settings = match settings {
            Ok(settings) => settings,
            Err(errors) => {
                errors.iter().for_each(|error| error!("{NOT_RELOADED}: {error}"));
                return match errors.iter().len() - 1 {
                    0 => format!("{NOT_RELOADED}: {}", errors.first()),
                    more => format!("{NOT_RELOADED}: {} (and {more} more)", errors.first()),
                };
            }
        };
        let token = match super::token(&settings) {
            Ok(token) => token,
            Err(error) => {
                error!("{NOT_RELOADED}: {error}");
                return format!("{NOT_RELOADED}: {error}");
            }
        };
        self.server.set_token(token);
        let running = self.server.settings();
        if settings.limits.connections_max == 0 {
            settings.limits.connections_max = running.limits.connections_max;
        }
        settings.limits.memory_bytes_max = memory_budget::budget(settings.limits.memory_bytes_max);
        let at_restart = running.changed_at_restart_only(&settings);
        if !at_restart.is_empty() {
            warn!("these changed settings need a restart to apply: {}", at_restart.join(", "));
        }
        settings.keep_restart_only(running);
        let changed: Vec<_> =
            running.changed_live(&settings).iter().map(ToString::to_string).collect();
        log::set_max_level(settings.log_level.to_level_filter());
        self.server.reload(settings);
        let outcome = match &changed[..] {
            [] => "reloaded, nothing changed".to_owned(),
            changed => format!("reloaded: {}", changed.join(", ")),
        };
        info!("{outcome}");
        outcome
    }
}

/// Returns the CPU time of this thread, which is the only one.
fn cpu_time() -> Time {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Time::from_micros(used.tv_sec as u64 * 1_000_000 + used.tv_nsec as u64 / 1000)
}

/// Returns a closure that returns the facts about this process.
fn process_facts() -> impl Fn() -> ProcessFacts {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let descriptors_max = descriptors::raise_limit() as u64;
    move || {
        // The second field is the resident set in pages (proc(5)).
        let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        ProcessFacts {
            started_s: since_1970.as_secs_f64(),
            cpu_us: cpu_time().as_micros(),
            resident_bytes: pages.unwrap_or(0) * page_size() as u64,
            descriptors_max,
        }
    }
}

/// Returns the status line of a running server for the service manager.
fn status(server: &Server<Tcp>) -> String {
    let (mut publishers, mut players) = (0, 0);
    for stream in server.hub().iter() {
        publishers += usize::from(stream.is_live());
        players += stream.players().len();
    }
    format!("connections {}, publishers {publishers}, players {players}", server.len())
}

/// Logs each socket option that could not be set, once. WSL 1, sandbox kernels and old kernels lack
/// some.
fn warn_of_missing_options(listeners: &[Listener]) {
    let missing = listeners.iter().flat_map(|listener| &listener.missing);
    let by_name: BTreeMap<_, _> = missing.map(|option| (option.name, option)).collect();
    for MissingOption { name, errno, effect } in by_name.into_values() {
        warn!("cannot set the socket option {name}: {}; {effect}", io::Error::from(*errno));
    }
}

/// Logs where to publish and to play, in lines to copy.
fn announce(listeners: &[Listener], settings: &Settings) {
    let which = match settings.apps.get("live") {
        Some(app) if !app.keys.is_empty() => "a stream key of [apps.live]",
        _ => "the stream key of your choice",
    };
    for listener in listeners {
        let socket = match &listener.socket {
            ListeningSocket::Tcp(socket) => socket,
            ListeningSocket::Unix { listener, .. } => {
                let path = listener.path();
                info!(
                    "listening for HTTP on {path}; try curl --unix-socket {} \
                     http://localhost/healthz",
                    path.get()
                );
                continue;
            }
        };
        let Ok(address) = socket.local_addr() else { continue };
        if let Protocol::Http(surface) = listener.protocol {
            announce_http(address, surface);
            continue;
        }
        let host = host_of(address);
        let port = match address.port() {
            1935 => String::new(),
            port => format!(":{port}"),
        };
        info!("listening on {address}");
        info!("publish to rtmp://{host}{port}/live with {which}");
        info!("play from  rtmp://{host}{port}/live/KEY");
    }
    info!("up to {} connections", settings.limits.connections_max);
    match settings.limits.memory_bytes_max {
        0 => {}
        bytes => info!("up to {} MiB of memory", bytes / limits::MIB),
    }
}

/// Logs what a listener of HTTP shows, as URLs to open.
fn announce_http(address: SocketAddr, surface: Surface) {
    let url = format!("http://{}:{}", host_of(address), address.port());
    if surface.status {
        info!("open {url}/ in a browser on this machine");
    }
    if surface.playback {
        info!("play over HTTP from {url}/live/KEY.flv");
    }
}

/// Returns the host of a URL that leads to `address` from this machine.
fn host_of(address: SocketAddr) -> String {
    match address.ip() {
        ip if ip.is_unspecified() => "localhost".to_owned(),
        IpAddr::V6(ip) => format!("[{ip}]"),
        IpAddr::V4(ip) => ip.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_drain_ends_before_docker_kills_the_server() {
        const DOCKER_GRACE_MS: u64 = 10_000;
        assert!(Settings::default().drain_ms + STOP_MS < DOCKER_GRACE_MS);
    }
}
