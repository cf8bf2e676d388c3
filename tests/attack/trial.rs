//! What a case is given and what it leaves: a server with healthy parties beside it, attackers by
//! the dozen, and a verdict on all of it.
//!
//! A case says what must come of its own connections. What must hold whatever they do is judged
//! here, in the same way for every case: [`Trial::judge`].

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::attacker::{Attacker, SOON, Traffic, session};
use crate::healthy::{Feed, Habits, Pace, Seen, Viewer, newcomer};
use crate::server::{Held, Server, Setup, closing_reason, wait_until};
use crate::wire::{self, Message};

/// What may stay of the memory that an attack took: tables that have grown, pages not quite empty.
const MEMORY_LEFT_KIB_MAX: i64 = 4 * 1024;
/// How long after an attack memory and descriptors may still be on their way back.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(20);
/// The stream of the healthy parties.
pub(crate) const CANARY: &str = "canary";

/// What came of a case.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// What must hold and does not.
    pub(crate) failures: Vec<String>,
    /// How the attackers ended, and how many each way.
    pub(crate) outcomes: BTreeMap<String, u64>,
    /// What was measured, in words.
    pub(crate) figures: Vec<String>,
}

impl Verdict {
    /// Notes a failure unless `holds`.
    pub(crate) fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.failures.push(otherwise());
        }
    }

    /// Counts how an attacker ended.
    pub(crate) fn outcome(&mut self, outcome: impl Into<String>) {
        *self.outcomes.entry(outcome.into()).or_default() += 1;
    }

    /// Notes what was measured.
    pub(crate) fn figure(&mut self, figure: impl Into<String>) {
        self.figures.push(figure.into());
    }
}

/// What was measured of a case by [`Trial::judge`].
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) lost: u64,
    pub(crate) latency_us: u64,
    pub(crate) newcomer: Duration,
    pub(crate) memory_left_kib: i64,
    pub(crate) memory_most_kib: i64,
    pub(crate) descriptors_left: i64,
    /// `None` where the log is not ours to read.
    pub(crate) lines: Option<usize>,
    /// Bytes sent by the server for each byte of the attackers.
    pub(crate) amplification: Option<f64>,
}

/// A server and the healthy parties on it, for all cases of a group.
pub(crate) struct Ring {
    pub(crate) server: Server,
    feed: Feed,
    viewer: Viewer,
}

impl Ring {
    /// Starts a server, or takes the one that the environment names, and lets the healthy parties
    /// come to rest.
    pub(crate) fn open(setup: &Setup) -> Result<Self, String> {
        let server = Server::named().unwrap_or_else(|| Server::start(setup));
        let feed = Feed::start(server.address, CANARY, Pace::CANARY)?;
        let viewer = Viewer::start(server.address, CANARY, Habits::default())?;
        let is_warm = wait_until(SOON, || viewer.seen().frames > 60);
        is_warm
            .then_some(Self { server, feed, viewer })
            .ok_or_else(|| "no frames before the attack".into())
    }

    /// What the healthy player has seen.
    pub(crate) fn seen(&self) -> Seen {
        self.viewer.seen()
    }

    /// Whether the healthy player soon has what its publisher sends now, and both go on.
    pub(crate) fn catches_up(&self) -> bool {
        let target = self.feed.sent();
        wait_until(SOON, || self.viewer.seen().newest >= Some(target))
            && !self.feed.is_broken()
            && !self.viewer.is_over()
    }
}

/// One case under way.
pub(crate) struct Trial<'r> {
    pub(crate) ring: &'r Ring,
    pub(crate) verdict: Verdict,
    pub(crate) traffic: Arc<Traffic>,
    /// An attacker is a player by right, so that what the server sends it is no amplification.
    pub(crate) has_players: bool,
    before: Held,
    seen: Seen,
    log_start: usize,
    began: Instant,
    most_kib: i64,
}

impl<'r> Trial<'r> {
    pub(crate) fn begin(ring: &'r Ring) -> Self {
        let before = ring.server.held();
        Self {
            ring,
            verdict: Verdict::default(),
            traffic: Arc::default(),
            has_players: false,
            before,
            seen: ring.viewer.take_seen(),
            log_start: ring.server.log_bytes(),
            began: Instant::now(),
            most_kib: before.memory_kib,
        }
    }

    /// A connection of which nothing has been sent.
    pub(crate) fn connect(&self) -> Attacker {
        Attacker::connect(self.ring.server.address, &self.traffic).expect("the server accepts")
    }

    /// A connection from `host` with a small receive buffer, which a stream fills at once.
    pub(crate) fn connect_small(&self, host: Ipv4Addr) -> Attacker {
        let (from, server) = (SocketAddrV4::new(host, 0), self.ring.server.address);
        Attacker::connect_from(from, 4096, server, &self.traffic).expect("the server accepts")
    }

    /// A connection over which `bytes` were sent.
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> Attacker {
        let mut attacker = self.connect();
        attacker.send(bytes.as_ref());
        attacker
    }

    /// A connection to the application `live` over which `messages` were sent.
    pub(crate) fn session(&self, messages: &[Message]) -> Attacker {
        self.send(session(messages))
    }

    /// One that publishes a stream, as far as the server lets it.
    pub(crate) fn publisher(&self, key: &str) -> Attacker {
        let mut attacker = self.session(&[wire::create_stream(2.0), wire::publish(key)]);
        attacker.hears("NetStream.Publish.Start", SOON);
        attacker
    }

    /// One that plays a stream, as far as the server lets it.
    pub(crate) fn player(&mut self, key: &str) -> Attacker {
        self.has_players = true;
        let mut attacker = self.session(&[wire::create_stream(2.0), wire::play(key)]);
        attacker.hears("NetStream.Play.Start", SOON);
        attacker
    }

    /// A publisher that does nothing wrong.
    pub(crate) fn feed(&self, key: &str, pace: Pace) -> Feed {
        self.traffic.connections.fetch_add(1, Ordering::Relaxed);
        Feed::start(self.ring.server.address, key, pace).expect("a publisher is taken")
    }

    /// A player that does nothing wrong.
    pub(crate) fn viewer(&self, key: &str, habits: Habits) -> Viewer {
        self.traffic.connections.fetch_add(1, Ordering::Relaxed);
        Viewer::start(self.ring.server.address, key, habits).expect("a player is taken")
    }

    /// The server must end the connection soon, for this reason.
    pub(crate) fn closes(&mut self, what: &str, mut attacker: Attacker, reason: &str) {
        match attacker.wait_end(SOON) {
            None => self.verdict.failures.push(format!("{what}: still open after {SOON:?}")),
            Some(_) => self.judge_reason(what, attacker, &[reason]),
        }
    }

    /// The server must follow the connection and answer a ping on it.
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

    /// The server may serve the connection or end it for one of `reasons`.
    pub(crate) fn ends_or_serves(&mut self, what: &str, mut attacker: Attacker, reasons: &[&str]) {
        if attacker.is_answered(0x0a0b_0c0d) {
            self.verdict.outcome("served");
        } else if attacker.wait_end(SOON).is_some() {
            self.judge_reason(what, attacker, reasons);
        } else {
            self.verdict.failures.push(format!("{what}: neither answered nor closed"));
        }
    }

    /// Why the server ended a connection, by its own words. It gives who was told to go the time to
    /// read why, so the attacker leaves first.
    pub(crate) fn reason(&self, attacker: Attacker) -> Option<String> {
        let (address, mut reason) = (attacker.address, None);
        drop(attacker);
        if self.ring.server.is_ours() {
            wait_until(Duration::from_secs(3), || {
                reason = closing_reason(&self.log(), address);
                reason.is_some()
            });
        }
        reason
    }

    /// The log since the case began.
    pub(crate) fn log(&self) -> String {
        self.ring.server.log_from(self.log_start)
    }

    /// So many connections of the case, whose addresses begin with `from`, must have ended soon,
    /// each for one of `reasons`. Returns how many ended for the first of these.
    pub(crate) fn all_ended(&mut self, from: &str, count: usize, reasons: &[&str]) -> usize {
        if !self.ring.server.is_ours() {
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
            self.verdict.expect(is_right, || format!("one ended for {reason}"));
            self.verdict.outcome((*reason).to_owned());
        }
        ended.iter().filter(|reason| reasons.first() == Some(reason)).count()
    }

    /// Looks at what the server holds, which counts for the most that it held.
    pub(crate) fn sample(&mut self) {
        self.most_kib = self.most_kib.max(self.ring.server.held().memory_kib);
    }

    /// The most that the server held beyond what it held before (KiB).
    pub(crate) const fn most_kib(&self) -> i64 {
        self.most_kib - self.before.memory_kib
    }

    /// Sockets that the server held before the case.
    pub(crate) const fn sockets_before(&self) -> usize {
        self.before.sockets
    }

    /// Processor time of the server since the case began.
    pub(crate) fn cpu(&self) -> Duration {
        self.ring.server.held().cpu.saturating_sub(self.before.cpu)
    }

    /// Memory that the server took since the case began (KiB).
    pub(crate) fn taken_kib(&self) -> i64 {
        self.ring.server.held().memory_kib - self.before.memory_kib
    }

    /// What must hold whatever an attacker did, once all of its connections are gone: nobody lost
    /// a frame, a newcomer plays, descriptors and memory come back, and the log did not grow out
    /// of hand.
    pub(crate) fn judge(mut self) -> (Verdict, Measured) {
        self.sample();
        let Ring { server, viewer, .. } = self.ring;
        let lines = server.is_ours().then(|| loud_lines(&self.log()));
        let alive = server.is_running();
        self.verdict.expect(alive, || format!("the server is gone: {}", server.errors()));
        let goes_on = self.ring.catches_up();
        self.verdict.expect(goes_on, || "the stream of the others does not go on".to_owned());
        let seen = viewer.take_seen();
        let lost = seen.lost - self.seen.lost;
        let gaps = seen.gaps - self.seen.gaps;
        self.verdict.expect(gaps == 0, || {
            format!("the others lost {lost} frames, and {gaps} came in another order than sent")
        });
        let foreign = seen.foreign - self.seen.foreign;
        self.verdict.expect(foreign == 0, || format!("{foreign} messages are not the publisher's"));
        let newcomer = newcomer(server.address, CANARY);
        let newcomer = newcomer.unwrap_or_else(|error| {
            self.verdict.failures.push(format!("a newcomer does not play: {error}"));
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
            held = self.ring.server.held();
            held.descriptors == before.descriptors
                && held.memory_kib <= before.memory_kib + MEMORY_LEFT_KIB_MAX
        });
        let (now, then) = (held.descriptors, before.descriptors);
        self.verdict.expect(now == then, || format!("{now} descriptors, {then} before"));
        let left = held.memory_kib - before.memory_kib;
        self.verdict.expect(left <= MEMORY_LEFT_KIB_MAX, || format!("{left} KiB are not back"));
        held
    }

    /// A connection may have four lines, and all together so many in a second.
    fn judge_lines(&mut self, lines: Option<usize>) {
        let connections = self.traffic.connections.load(Ordering::Relaxed) as usize;
        // Lines are counted by the second, and the first and the last are seldom whole.
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
        } else if self.ring.server.is_ours() {
            self.verdict.failures.push(format!("{what}: no line says why it ended"));
        }
        self.verdict.outcome(reason.unwrap_or(end));
    }
}

/// Lines that an operator sees who has not asked for more.
fn loud_lines(log: &str) -> usize {
    let is_loud = |line: &&str| [" INFO ", " WARN ", " ERROR "].iter().any(|l| line.contains(l));
    log.lines().filter(is_loud).count()
}
