//! The frame of every case: a server with healthy clients, attackers, and a verdict.
//!
//! A case checks what happens to its own connections. [`Trial::judge`] checks what must hold
//! whatever they do, in the same way for every case.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::attacker::{Attacker, SOON, Traffic, session};
use crate::healthy::{Feed, Habits, Pace, Seen, Viewer, newcomer};
use crate::server::{Held, Server, Setup, closing_reason};
use crate::support::wait_until;
use crate::wire::{self, Message};

/// Memory that may remain after an attack, for tables that have grown and pages not quite empty.
const MEMORY_LEFT_KIB_MAX: i64 = 4 * 1024;
/// Time after an attack within which memory and descriptors must be released.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(20);
/// The stream of the healthy clients.
pub(crate) const CANARY: &str = "canary";

/// Results of a case.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Expectations that were not met.
    pub(crate) failures: Vec<String>,
    /// How the attackers ended, with the number of each.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// Measured values, as text.
    pub(crate) figures: Vec<String>,
}

impl Verdict {
    /// Records a failure unless `holds`.
    pub(crate) fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(otherwise());
        }
    }

    /// Counts how an attacker ended.
    pub(crate) fn outcome(&mut self, outcome: impl Into<String>) {
        *self.outcomes.entry(outcome.into()).or_default() += 1;
    }

    /// Records a measured value.
    pub(crate) fn figure(&mut self, figure: impl Into<String>) {
        self.figures.push(figure.into());
    }
}

/// Values measured by [`Trial::judge`].
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) lost: u64,
    pub(crate) latency_us: u64,
    pub(crate) newcomer: Duration,
    pub(crate) memory_left_kib: i64,
    pub(crate) memory_most_kib: i64,
    pub(crate) descriptors_left: i64,
    /// `None` if the log cannot be read.
    pub(crate) lines: Option<usize>,
    /// Bytes sent by the server per byte from the attackers.
    pub(crate) amplification: Option<f64>,
}

/// A server with its healthy clients, shared by all cases of a group.
pub(crate) struct Arena {
    pub(crate) server: Server,
    feed: Feed,
    viewer: Viewer,
}

impl Arena {
    /// Starts a server, or uses the one that the environment names, and waits until the healthy
    /// clients are settled.
    pub(crate) fn open(setup: &Setup) -> Result<Self, String> {
        let server = Server::named().unwrap_or_else(|| Server::start(setup));
        let feed = Feed::start(server.address, CANARY, Pace::CANARY)?;
        let viewer = Viewer::start(server.address, CANARY, Habits::default())?;
        let is_warm = wait_until(SOON, || viewer.seen().frames > 60);
        is_warm
            .then_some(Self { server, feed, viewer })
            .ok_or_else(|| "no frames before the attack".into())
    }

    /// Returns whether the healthy player soon receives the newest frame, and both clients are
    /// alive.
    pub(crate) fn catches_up(&self) -> bool {
        let target = self.feed.sent();
        wait_until(SOON, || self.viewer.seen().newest >= Some(target))
            && !self.feed.is_broken()
            && !self.viewer.is_over()
    }
}

/// A running case.
pub(crate) struct Trial<'r> {
    pub(crate) arena: &'r Arena,
    pub(crate) verdict: Verdict,
    pub(crate) traffic: Arc<Traffic>,
    /// Attackers legitimately play, so the bytes sent to them are not amplification.
    pub(crate) has_players: bool,
    before: Held,
    seen: Seen,
    log_start: usize,
    began: Instant,
    most_kib: i64,
}

impl<'r> Trial<'r> {
    pub(crate) fn begin(arena: &'r Arena) -> Self {
        let before = arena.server.held();
        Self {
            arena,
            verdict: Verdict::default(),
            traffic: Arc::default(),
            has_players: false,
            before,
            seen: arena.viewer.take_seen(),
            log_start: arena.server.log_bytes(),
            began: Instant::now(),
            most_kib: before.memory_kib,
        }
    }

    /// Opens a connection without sending anything.
    pub(crate) fn connect(&self) -> Attacker {
        Attacker::connect(self.arena.server.address, &self.traffic).expect("the server accepts")
    }

    /// Opens a connection from `host` with a small receive buffer, which a stream fills at once.
    pub(crate) fn connect_small(&self, host: Ipv4Addr) -> Attacker {
        let (from, server) = (SocketAddrV4::new(host, 0), self.arena.server.address);
        Attacker::connect_from(from, 4096, server, &self.traffic).expect("the server accepts")
    }

    /// Opens a connection and sends `bytes`.
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> Attacker {
        let mut attacker = self.connect();
        attacker.send(bytes.as_ref());
        attacker
    }

    /// Opens a connection to the application `live` and sends `messages`.
    pub(crate) fn session(&self, messages: &[Message]) -> Attacker {
        self.send(session(messages))
    }

    /// Opens a connection that tries to publish a stream.
    pub(crate) fn publisher(&self, key: &str) -> Attacker {
        let mut attacker = self.session(&[wire::create_stream(2.0), wire::publish(key)]);
        attacker.hears("NetStream.Publish.Start", SOON);
        attacker
    }

    /// Opens a connection that tries to play a stream.
    pub(crate) fn player(&mut self, key: &str) -> Attacker {
        self.has_players = true;
        let mut attacker = self.session(&[wire::create_stream(2.0), wire::play(key)]);
        attacker.hears("NetStream.Play.Start", SOON);
        attacker
    }

    /// Starts a well-behaved publisher.
    pub(crate) fn feed(&self, key: &str, pace: Pace) -> Feed {
        self.traffic.connections.fetch_add(1, Ordering::Relaxed);
        Feed::start(self.arena.server.address, key, pace).expect("the publisher is accepted")
    }

    /// Starts a well-behaved player.
    pub(crate) fn viewer(&self, key: &str, habits: Habits) -> Viewer {
        self.traffic.connections.fetch_add(1, Ordering::Relaxed);
        Viewer::start(self.arena.server.address, key, habits).expect("the player is accepted")
    }

    /// Expects the server to end the connection soon, for this reason.
    pub(crate) fn closes(&mut self, what: &str, mut attacker: Attacker, reason: &str) {
        match attacker.wait_end(SOON) {
            None => self.verdict.failures.push(format!("{what}: still open after {SOON:?}")),
            Some(_) => self.judge_reason(what, attacker, &[reason]),
        }
    }

    /// Expects the server to keep serving the connection and to answer a ping on it.
    pub(crate) fn serves(&mut self, what: &str, mut attacker: Attacker) {
        if attacker.is_answered(0x0a0b_0c0d) {
            self.verdict.outcome("served");
        } else {
            let end = format!("{:?}", attacker.end());
            let reason = self.reason(attacker).unwrap_or(end);
            self.verdict.outcome(reason.clone());
            self.verdict.failures.push(format!("{what}: expected to be served, got {reason}"));
        }
    }

    /// Expects the server to serve the connection, or to end it for one of `reasons`.
    pub(crate) fn ends_or_serves(&mut self, what: &str, mut attacker: Attacker, reasons: &[&str]) {
        if attacker.is_answered(0x0a0b_0c0d) {
            self.verdict.outcome("served");
        } else if attacker.wait_end(SOON).is_some() {
            self.judge_reason(what, attacker, reasons);
        } else {
            self.verdict.failures.push(format!("{what}: neither answered nor closed"));
        }
    }

    /// Returns the server's reason for ending a connection, from its log. The server gives a client
    /// that it closes time to read the reply, so the attacker leaves first.
    pub(crate) fn reason(&self, attacker: Attacker) -> Option<String> {
        let (address, mut reason) = (attacker.address, None);
        drop(attacker);
        if self.arena.server.is_ours() {
            wait_until(Duration::from_secs(3), || {
                reason = closing_reason(&self.log(), address);
                reason.is_some()
            });
        }
        reason
    }

    /// Returns the log since the start of the case.
    pub(crate) fn log(&self) -> String {
        self.arena.server.log_from(self.log_start)
    }

    /// Expects `count` connections of the case, from addresses starting with `from`, to end soon
    /// for one of `reasons`. Returns how many ended for the first reason.
    pub(crate) fn all_ended(&mut self, from: &str, count: usize, reasons: &[&str]) -> usize {
        if !self.arena.server.is_ours() {
            return 0;
        }
        let closed = format!("closed {from}");
        wait_until(SOON, || self.log().matches(&closed).count() >= count);
        let log = self.log();
        let ended = log.lines().filter_map(|line| line.split_once(&closed)?.1.split_once(": "));
        let ended: Vec<_> =
            ended.map(|(_, reason)| reason.split([' ', ';']).next().unwrap_or_default()).collect();
        self.verdict.expect(ended.len() == count, || {
            format!("{} of {count} connections ended", ended.len())
        });
        for reason in &ended {
            let is_right = reasons.contains(reason);
            self.verdict.expect(is_right, || format!("one connection ended for {reason}"));
            self.verdict.outcome((*reason).to_owned());
        }
        ended.iter().filter(|reason| reasons.first() == Some(reason)).count()
    }

    /// Samples the memory of the server for the maximum.
    pub(crate) fn sample(&mut self) {
        self.most_kib = self.most_kib.max(self.arena.server.held().memory_kib);
    }

    /// Returns the maximum of the server's memory above that before the case (KiB).
    pub(crate) const fn most_kib(&self) -> i64 {
        self.most_kib - self.before.memory_kib
    }

    /// Returns the number of the server's sockets before the case.
    pub(crate) const fn sockets_before(&self) -> usize {
        self.before.sockets
    }

    /// Returns the processor time of the server since the start of the case.
    pub(crate) fn cpu(&self) -> Duration {
        self.arena.server.held().cpu.saturating_sub(self.before.cpu)
    }

    /// Returns the memory that the server has taken since the start of the case (KiB).
    pub(crate) fn taken_kib(&self) -> i64 {
        self.arena.server.held().memory_kib - self.before.memory_kib
    }

    /// Checks what must hold whatever the attackers did, after all their connections have ended: no
    /// healthy client lost a frame, a newcomer can play, descriptors and memory are released, and
    /// the log has not grown out of hand.
    pub(crate) fn judge(mut self) -> (Verdict, Measured) {
        self.sample();
        let Arena { server, viewer, .. } = self.arena;
        let lines = server.is_ours().then(|| loud_lines(&self.log()));
        let alive = server.is_running();
        self.verdict.expect(alive, || format!("the server is gone: {}", server.errors()));
        let goes_on = self.arena.catches_up();
        self.verdict.expect(goes_on, || "the healthy stream has stopped".to_owned());
        let seen = viewer.take_seen();
        let lost = seen.lost - self.seen.lost;
        let gaps = seen.gaps - self.seen.gaps;
        self.verdict.expect(gaps == 0, || {
            format!("the healthy player lost {lost} frames, and {gaps} frames were out of order")
        });
        let foreign = seen.foreign - self.seen.foreign;
        self.verdict.expect(foreign == 0, || format!("{foreign} messages are not the publisher's"));
        let newcomer = newcomer(server.address, CANARY);
        let newcomer = newcomer.unwrap_or_else(|error| {
            self.verdict.failures.push(format!("a newcomer cannot play: {error}"));
            Duration::ZERO
        });
        let held = self.wait_until_given_back();
        self.judge_lines(lines);
        let Traffic { sent, received, .. } = &*self.traffic;
        let (sent, received) = (sent.load(Ordering::Relaxed), received.load(Ordering::Relaxed));
        let measured = Measured {
            lost,
            latency_us: seen.latency_max_us,
            newcomer,
            memory_left_kib: held.memory_kib - self.before.memory_kib,
            memory_most_kib: self.most_kib(),
            descriptors_left: held.descriptors as i64 - self.before.descriptors as i64,
            lines,
            amplification: (sent > 0 && !self.has_players).then_some(received as f64 / sent as f64),
        };
        (self.verdict, measured)
    }

    fn wait_until_given_back(&mut self) -> Held {
        let (before, mut held) = (self.before, Held::default());
        wait_until(GIVEN_BACK_WITHIN, || {
            held = self.arena.server.held();
            held.descriptors == before.descriptors
                && held.memory_kib <= before.memory_kib + MEMORY_LEFT_KIB_MAX
        });
        let (now, then) = (held.descriptors, before.descriptors);
        self.verdict.expect(now == then, || format!("{now} descriptors, {then} before"));
        let left = held.memory_kib - before.memory_kib;
        self.verdict.expect(left <= MEMORY_LEFT_KIB_MAX, || format!("{left} KiB are not released"));
        held
    }

    /// Checks the number of log lines: at most four per connection, and a limit per second.
    fn judge_lines(&mut self, lines: Option<usize>) {
        let connections = self.traffic.connections.load(Ordering::Relaxed) as usize;
        // The log limits lines per second, and the first and last seconds are incomplete.
        let seconds = self.began.elapsed().as_secs() as usize + 2;
        let max = (4 * connections + 4).min(112 * seconds);
        let lines = lines.unwrap_or_default();
        self.verdict.expect(lines <= max, || format!("{lines} lines logged, {max} at most"));
    }

    fn judge_reason(&mut self, what: &str, attacker: Attacker, reasons: &[&str]) {
        let end = attacker.end().map_or_else(String::new, |end| format!("{end:?}").to_lowercase());
        let reason = self.reason(attacker);
        if let Some(reason) = &reason {
            self.verdict.expect(reasons.contains(&reason.as_str()), || {
                format!("{what}: expected {}, got {reason}", reasons.join(" or "))
            });
        } else if self.arena.server.is_ours() {
            self.verdict.failures.push(format!("{what}: no log line gives the reason of its end"));
        }
        self.verdict.outcome(reason.unwrap_or(end));
    }
}

/// Returns the number of log lines at the default level.
fn loud_lines(log: &str) -> usize {
    let is_loud = |line: &&str| [" INFO ", " WARN ", " ERROR "].iter().any(|l| line.contains(l));
    log.lines().filter(is_loud).count()
}
