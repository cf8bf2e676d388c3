//! The loop: poll, note what happened, accept, let the server take its turn.
//!
//! Each turn has one time, which is read after the poll. With nothing due the loop sleeps without
//! a timeout, so that idle connections cause no wakeup at all. The clock is the monotonic one:
//! nothing that is done to the time of day reaches a deadline, and while the machine is suspended
//! none comes nearer.

use super::dial::{DIALS_MAX, Dials};
use super::listener::{Listener, MissingOption, Polled};
use super::notify::Notifier;
use super::signals::{Request, Signals};
use super::tcp::Tcp;
use super::{descriptor_bounds, memfd, memory_budget};
use crate::config::{ConfigErrors, Settings};
use crate::limits;
use crate::rtmp::auth::Challenger;
use crate::rtmp::handshake::Hello;
use crate::server::Server;
use crate::server::stopwatch::Clocks;
use crate::stream::ids::ConnId;
use crate::time::Time;
use log::{error, info, warn};
use mio::{Events, Interest, Poll, Token};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

/// Events taken from the kernel at once.
const EVENTS_PER_POLL: usize = 1024;
/// What the end of a drain takes beyond the drain itself (ms).
const STOP_MS: u64 = 1000;
/// Tokens from the top are the signals, the listeners and what is being connected to; below them
/// are connections.
const SIGNALS: Token = Token(usize::MAX - 1);
const LISTENERS_END: usize = usize::MAX - 2;

/// The first token of [`Dials`].
const DIALS: Token = Token(LISTENERS_END - limits::LISTENERS_MAX);
const _: () = assert!(DIALS.0 - DIALS_MAX > u32::MAX as usize / 2);

const fn listener_token(index: usize) -> Token {
    Token(LISTENERS_END - index)
}

/// See the module's head.
pub(super) struct EventLoop {
    poll: Poll,
    signals: Signals,
    listeners: Vec<Listener>,
    dials: Dials,
    server: Server<Tcp>,
    notifier: Notifier,
    buffer: Box<[u8]>,
    began: Instant,
    /// Signals wait to be handled.
    signalled: bool,
    /// Set while draining: when it has to be over.
    drained_by: Option<Time>,
    /// The peers' end is not waited for any longer.
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
            let token = listener_token(index);
            poll.registry().register(&mut listener.socket, token, Interest::READABLE)?;
        }
        // The loop takes every signal that comes after the lines that tell of the start.
        signals.started();
        announce(&listeners, &settings);
        warn_of_missing_options(&listeners);
        let began = Instant::now();
        let files_max = descriptor_bounds::files_max(settings.limits.connections_max);
        let mut server = Server::new(settings, hello, challenger);
        server.set_segments(memfd::settings(files_max));
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

    /// Turns until the server has drained.
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
            // After the events, since a connection that gives way frees an id for a new one.
            self.accept(now);
            self.server.turn(&mut self.buffer, now);
            self.dials.run(&mut self.server, self.poll.registry(), now);
            self.notifier.turn(now, || status(&self.server));
        }
        let left = self.server.len();
        self.server.stop(self.now());
        let longest_ms = self.server.turn_cpu_us_max() as f64 / 1000.0;
        info!("down: {left} connections left; the longest turn took {longest_ms:.1} ms of CPU");
        Ok(())
    }

    /// Sleeps until there is something to do, notes what happened, and says what time it is.
    ///
    /// When a deadline has passed, this process may have been stopped, or slow, and not the peer.
    /// So all that has come by then is noted first; the server judges no one whom it has not read.
    fn wait(&mut self, events: &mut Events) -> io::Result<Time> {
        // Nothing of it changes while events are noted.
        let deadline = self.server.next_deadline();
        self.poll(events, self.timeout(deadline, self.now()))?;
        let now = self.now();
        if deadline.is_some_and(|at| at <= now) {
            // As often as it takes to hear of every connection once.
            for _ in 0..=self.server.len() / EVENTS_PER_POLL {
                if self.poll(events, Some(Duration::ZERO))? < EVENTS_PER_POLL {
                    break;
                }
            }
        }
        Ok(now)
    }

    /// Polls once, and returns how many events there were.
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

    /// How long to sleep at most, where the server's next `deadline` is known.
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
                Request::Reload => {
                    self.notifier.reloading(now);
                    let outcome = self.reload(reload(self.server.settings()));
                    self.notifier.ready(&outcome, now);
                }
                Request::Reconnect => self.server.request_reconnects(now),
                Request::Nothing => info!("SIGUSR2 has no meaning here and changes nothing"),
                Request::Stop if self.drained_by.is_some() => {
                    info!("told to go down again: now");
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

    /// Changes the settings unless there is a mistake in them, and returns the outcome as a line.
    fn reload(&mut self, settings: Result<Settings, ConfigErrors>) -> String {
        let mut settings = match settings {
            Ok(settings) => settings,
            Err(errors) => {
                const NOT: &str = "not reloaded, the settings stay as they are";
                errors.iter().for_each(|error| error!("{NOT}: {error}"));
                return match errors.iter().len() - 1 {
                    0 => format!("{NOT}: {}", errors.first()),
                    more => format!("{NOT}: {} (and {more} more)", errors.first()),
                };
            }
        };
        let running = self.server.settings();
        if settings.limits.connections_max == 0 {
            settings.limits.connections_max = running.limits.connections_max;
        }
        settings.limits.memory_bytes_max = memory_budget::budget(settings.limits.memory_bytes_max);
        let at_restart = running.changed_at_restart_only(&settings);
        if !at_restart.is_empty() {
            warn!("changed in the file, but only a restart applies: {}", at_restart.join(", "));
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

/// Processor time of this thread, which is the only one.
fn cpu_time() -> Time {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Time::from_micros(used.tv_sec as u64 * 1_000_000 + used.tv_nsec as u64 / 1000)
}

/// What the service manager shows of a server that runs well.
fn status(server: &Server<Tcp>) -> String {
    let (mut publishers, mut players) = (0, 0);
    for stream in server.hub().iter() {
        publishers += usize::from(stream.is_live());
        players += stream.players().len();
    }
    format!("connections {}, publishers {publishers}, players {players}", server.len())
}

/// Logs once each which socket options the system did not set. WSL 1, sandbox kernels and old ones
/// lack some.
fn warn_of_missing_options(listeners: &[Listener]) {
    let missing = listeners.iter().flat_map(|listener| &listener.missing);
    let by_name: BTreeMap<_, _> = missing.map(|option| (option.name, option)).collect();
    for MissingOption { name, errno, lack } in by_name.into_values() {
        warn!(
            "the system does not set the socket option {name}: {}; {lack}",
            io::Error::from(*errno)
        );
    }
}

/// Says where to publish and to play, in lines to copy.
fn announce(listeners: &[Listener], settings: &Settings) {
    let which = match settings.apps.get("live") {
        Some(app) if !app.keys.is_empty() => "a stream key of [apps.live]",
        _ => "the stream key of your choice",
    };
    for listener in listeners {
        let Ok(address) = listener.socket.local_addr() else { continue };
        let host = if address.ip().is_unspecified() {
            "localhost".to_owned()
        } else if address.is_ipv6() {
            format!("[{}]", address.ip())
        } else {
            address.ip().to_string()
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_drain_ends_before_docker_kills_the_server() {
        const DOCKER_GRACE_MS: u64 = 10_000;
        assert!(Settings::default().drain_ms + STOP_MS < DOCKER_GRACE_MS);
    }
}
