//! Floods: a thousand hostile connections of one kind, driven by one thread.
//!
//! Each connection repeats a script until the flood ends. The attack suite runs floods beside
//! healthy clients and checks counts. `benches/hostile.rs` compares latencies.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::attacker::session;
use crate::wire::{self, AUDIO, Message, command, create_stream, null, number, string};

/// Number of hostile connections in a flood.
pub(crate) const CONNECTIONS: usize = 1000;
/// Number of connections that are reset together, in the flood of resets.
const CLOSINGS: usize = 4096;
/// Messages in the backlog that players join: as many as a tape holds.
const BACKLOG_MESSAGES: usize = 190_000;
/// Bytes that a player reads of the backlog before it joins again.
const JOIN_BYTES: u64 = 256 * 1024;
/// Streams of tiny messages. The other connections of that flood play them.
const TINY_STREAMS: usize = 20;
/// Publishes requested at once. Their replies fit into the output that may wait for a peer.
const PUBLISHES: usize = 16;
/// Connections opened again per round, after the server has ended them.
const RECONNECTS_PER_ROUND: usize = 8;
/// Bytes that a connection sends before the next has its turn.
const VISIT_BYTES: usize = 64 * 1024;
/// Messages of a publisher before it waits until the server has read them. A connection keeps the
/// server busy for several turns. The bytes left at the end of a flood do not depend on the speed
/// of the machine.
const BLOCK_MESSAGES: usize = 4096;
/// Time for a flood to start. Only a server that hangs needs as long.
const UP_WITHIN: Duration = Duration::from_secs(300);
/// The ping after a publisher's messages. Its reply shows that the server has read them.
const PING: u32 = 0x0f10_0d00;

/// A kind of flood.
#[derive(Clone, Copy)]
pub(crate) struct Flood {
    /// Name on the command line of the bench.
    pub(crate) name: &'static str,
    /// Streams that must be live before the other connections are opened.
    publishers: fn() -> Vec<Script>,
    others: fn() -> Vec<Script>,
}

/// All floods. Each of them has once made a turn of the loop long.
pub(crate) const FLOODS: [Flood; 7] = [
    Flood { name: "joins", publishers: backlog, others: || joins(1) },
    Flood { name: "second-stream", publishers: backlog, others: || joins(2) },
    Flood { name: "publish-loop", publishers: Vec::new, others: publish_loops },
    Flood { name: "one-byte", publishers: one_byte_messages, others: Vec::new },
    Flood { name: "tiny-fanout", publishers: tiny_streams, others: tiny_players },
    Flood { name: "closings", publishers: Vec::new, others: closings },
    Flood { name: "empty-messages", publishers: empty_messages, others: Vec::new },
];

/// The bytes that a connection sends.
struct Script {
    /// Sent once after connecting.
    first: Arc<[u8]>,
    /// Sent repeatedly afterwards.
    again: Arc<[u8]>,
    /// Bytes to receive before each repetition.
    hears_before: u64,
    /// Both parts end with a ping, and each repetition waits for its reply.
    asks: bool,
    /// When `first` is sent, the connection is reset together with all others of its kind.
    resets: bool,
}

impl Script {
    fn new(first: Vec<u8>, again: Vec<u8>) -> Self {
        let (first, again) = (first.into(), again.into());
        Self { first, again, hears_before: 0, asks: false, resets: false }
    }

    /// Adds a ping after each part.
    fn asking(self) -> Self {
        let ping = wire::user_control(6, PING).chunks();
        let ask = |bytes: &[u8]| Arc::from([bytes, &ping].concat());
        let again = if self.again.is_empty() { self.again } else { ask(&self.again) };
        Self { first: ask(&self.first), again, asks: true, ..self }
    }

    fn repeat(self, count: usize) -> Vec<Self> {
        let copy =
            || Self { first: Arc::clone(&self.first), again: Arc::clone(&self.again), ..self };
        (0..count).map(|_| copy()).collect()
    }
}

/// Returns a session that publishes `key` and sends the minimum with which a player can start.
fn publishing(key: impl AsRef<[u8]>) -> Vec<u8> {
    let mut first = session(&[create_stream(2.0), wire::publish(key)]);
    first.extend(wire::video(0, wire::AVC_CONFIG).chunks());
    first.extend(wire::video(0, wire::AVC_KEYFRAME).chunks());
    first
}

/// Returns audio messages of `payload`: the first with a full header, the others with one byte.
fn audio_messages(payload: &[u8], count: usize) -> (Vec<u8>, Vec<u8>) {
    let first = Message::new(4, AUDIO, payload).on(1).chunks();
    (first, [&[0xc4], payload].concat().repeat(count - 1))
}

fn backlog() -> Vec<Script> {
    let (head, rest) = audio_messages(&[0xaf, 1], BACKLOG_MESSAGES);
    vec![Script::new([publishing("backlog"), head, rest].concat(), Vec::new())]
}

/// Players that join a backlog from its start, repeatedly.
fn joins(message_stream_id: u32) -> Vec<Script> {
    let streams = (0..message_stream_id).map(|index| create_stream(2.0 + f64::from(index)));
    let play = command("play", 0.0, &[null(), string("backlog"), number(-2000.0)]);
    let play = play.on(message_stream_id);
    let leave = command("closeStream", 0.0, &[null()]).on(message_stream_id);
    let first = session(&streams.chain([play.clone()]).collect::<Vec<_>>());
    let again = [leave.chunks(), play.chunks()].concat();
    let script = Script { hears_before: JOIN_BYTES, ..Script::new(first, again) };
    script.repeat(CONNECTIONS - 1)
}

/// A stream with many players, whose publishers publish and unpublish at full speed.
fn publish_loops() -> Vec<Script> {
    let delete = command("deleteStream", 0.0, &[null(), number(1.0)]);
    let round = [create_stream(2.0), wire::publish("loop"), delete];
    let round: Vec<u8> = round.iter().flat_map(Message::chunks).collect();
    let looping = Script::new(session(&[]), round.repeat(PUBLISHES));
    let looping = Script { hears_before: PUBLISHES as u64 * 150, ..looping }.repeat(10);
    let players = Script::new(session(&[create_stream(2.0), wire::play("loop")]), Vec::new());
    players.repeat(CONNECTIONS - 10).into_iter().chain(looping).collect()
}

fn one_byte_messages() -> Vec<Script> {
    let (head, rest) = audio_messages(&[0xaf], BLOCK_MESSAGES);
    let rest: Arc<[u8]> = rest.into();
    let script = |index| {
        let first = [publishing(format!("byte-{index}")), head.clone()].concat();
        Script { again: Arc::clone(&rest), ..Script::new(first, Vec::new()) }
    };
    (0..CONNECTIONS).map(script).collect()
}

fn tiny_streams() -> Vec<Script> {
    let (head, rest) = audio_messages(&[0xaf, 1], 1024);
    let script = |index| {
        let first = [publishing(format!("tiny-{index}")), head.clone()].concat();
        Script::new(first, rest.clone())
    };
    (0..TINY_STREAMS).map(script).collect()
}

fn tiny_players() -> Vec<Script> {
    let player = |index: usize| {
        let play = wire::play(format!("tiny-{}", index % TINY_STREAMS));
        Script::new(session(&[create_stream(2.0), play]), Vec::new())
    };
    (TINY_STREAMS..CONNECTIONS).map(player).collect()
}

/// Sessions that are all reset at the same time. Half of them never complete their handshake.
fn closings() -> Vec<Script> {
    let half =
        Script { resets: true, ..Script::new(wire::handshake()[..1000].to_vec(), Vec::new()) };
    let whole = Script { resets: true, ..Script::new(session(&[]), Vec::new()) };
    half.repeat(CLOSINGS / 2).into_iter().chain(whole.repeat(CLOSINGS / 2)).collect()
}

/// Publishers that send empty messages on 64 chunk streams in turn.
fn empty_messages() -> Vec<Script> {
    // Chunk stream 2 exists from the start; the last two need a basic header of two bytes.
    let ids = 3..=65;
    let begin =
        |id| [wire::basic_header(0, id), vec![0, 0, 0, 0, 0, 0, AUDIO, 1, 0, 0, 0]].concat();
    let begin: Vec<u8> = ids.clone().flat_map(begin).collect();
    let round: Vec<u8> = ids.flat_map(|id| wire::basic_header(3, id)).collect();
    let again: Arc<[u8]> = round.repeat(BLOCK_MESSAGES / 64).into();
    let script = |index| {
        let first = [publishing(format!("empty-{index}")), begin.clone()].concat();
        Script { again: Arc::clone(&again), ..Script::new(first, Vec::new()) }
    };
    (0..CONNECTIONS).map(script).collect()
}

/// Counts of a flood so far.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) connected: AtomicU64,
    /// Connections that the server ended.
    pub(crate) ended: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    /// Repetitions of scripts: joins, publishes, blocks of messages.
    pub(crate) repeated: AtomicU64,
}

impl Done {
    /// Formats the counts in one line.
    pub(crate) fn line(&self) -> String {
        let [connected, ended, repeated] = [&self.connected, &self.ended, &self.repeated]
            .map(|count| count.load(Ordering::Relaxed));
        let mb = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / 1e6;
        let (sent, received) = (mb(&self.sent_bytes), mb(&self.received_bytes));
        format!(
            "{connected} connections ({ended} ended by the server), {repeated} repetitions, \
             {sent:.1} MB sent, {received:.1} MB received"
        )
    }
}

/// A running flood. It ends when dropped.
pub(crate) struct Running {
    pub(crate) done: Arc<Done>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Returns the flood of this name.
    pub(crate) fn named(name: &str) -> Self {
        *FLOODS.iter().find(|flood| flood.name == name).expect("a flood of this name")
    }

    /// Starts the flood on a thread of this niceness. Returns when every connection has sent its
    /// first part.
    pub(crate) fn start(self, server: SocketAddr, nice: i32) -> Result<Running, String> {
        let (done, stop) = (Arc::new(Done::default()), Arc::new(AtomicBool::new(false)));
        let is_up = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (done, stop, is_up) = (Arc::clone(&done), Arc::clone(&stop), Arc::clone(&is_up));
            move || {
                let _ = rustix::process::setpriority_process(None, nice);
                self.run(server, &done, &stop, &is_up);
            }
        });
        let running = Running { done, stop, thread: Some(thread) };
        let began = Instant::now();
        while !is_up.load(Ordering::Relaxed) {
            if began.elapsed() > UP_WITHIN || running.is_over() {
                return Err(format!("{} does not start: {}", self.name, running.done.line()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(running)
    }

    fn run(self, server: SocketAddr, done: &Done, stop: &AtomicBool, is_up: &AtomicBool) {
        let goes_on = || !stop.load(Ordering::Relaxed);
        let mut parties: Vec<Party> = Vec::new();
        let publishers = (self.publishers)().into_iter().map(Script::asking).collect();
        for scripts in [publishers, (self.others)()] {
            parties.extend(scripts.into_iter().filter_map(|s| Party::connect(server, s, done)));
            let is_ready = |party: &Party| party.is_over || party.is_ready();
            while goes_on() && !parties.iter().all(is_ready) {
                rest(visit_all(&mut parties, done, false));
            }
        }
        is_up.store(true, Ordering::Relaxed);
        while goes_on() {
            let moved = visit_all(&mut parties, done, true);
            reset_all(&mut parties, server, done);
            let ended = parties.iter_mut().filter(|party| party.is_over && !party.script.resets);
            ended.take(RECONNECTS_PER_ROUND).for_each(|party| party.reconnect(server, done));
            rest(moved);
        }
    }
}

impl Running {
    fn is_over(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Visits every connection once. Returns whether any byte moved.
fn visit_all(parties: &mut [Party], done: &Done, repeats: bool) -> bool {
    parties.iter_mut().fold(false, |moved, party| party.visit(done, repeats) | moved)
}

/// Resets the connections that end together once all are ready, and opens them again.
fn reset_all(parties: &mut [Party], server: SocketAddr, done: &Done) {
    let resets = || parties.iter().filter(|party| party.script.resets);
    if resets().next().is_none() || !resets().all(|party| party.is_over || party.is_ready()) {
        return;
    }
    for party in parties.iter_mut().filter(|party| party.script.resets) {
        party.end();
    }
    done.repeated.fetch_add(1, Ordering::Relaxed);
    for party in parties.iter_mut().filter(|party| party.script.resets) {
        party.reconnect(server, done);
    }
}

fn rest(moved: bool) {
    if !moved {
        thread::sleep(Duration::from_millis(1));
    }
}

struct Party {
    socket: Option<TcpStream>,
    script: Script,
    /// Position in `first`, and then in `again`.
    at: usize,
    is_first_sent: bool,
    heard: u64,
    /// The ping at the end of the last part was answered.
    is_answered: bool,
    /// The last bytes received, because a reply may arrive in two parts.
    recent: Vec<u8>,
    is_over: bool,
}

impl Party {
    fn connect(server: SocketAddr, script: Script, done: &Done) -> Option<Self> {
        let mut party = Self {
            socket: None,
            script,
            at: 0,
            is_first_sent: false,
            heard: 0,
            is_answered: false,
            recent: Vec::new(),
            is_over: true,
        };
        party.reconnect(server, done);
        (!party.is_over).then_some(party)
    }

    fn reconnect(&mut self, server: SocketAddr, done: &Done) {
        let socket = TcpStream::connect(server).and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            Ok(socket)
        });
        let Ok(socket) = socket else { return };
        done.connected.fetch_add(1, Ordering::Relaxed);
        self.socket = Some(socket);
        (self.at, self.is_first_sent, self.heard) = (0, false, 0);
        self.recent.clear();
        (self.is_answered, self.is_over) = (false, false);
    }

    /// Resets the connection (RST).
    fn end(&mut self) {
        if let Some(socket) = self.socket.take() {
            let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
        }
        self.is_over = true;
    }

    const fn is_ready(&self) -> bool {
        self.is_first_sent && (self.is_answered || !self.script.asks)
    }

    const fn may_repeat(&self) -> bool {
        self.is_ready() && self.heard >= self.script.hears_before
    }

    /// Sends and reads a share. Returns whether any byte moved.
    fn visit(&mut self, done: &Done, repeats: bool) -> bool {
        let taken = self.take(done);
        let sent = self.send(done, repeats);
        taken | sent
    }

    fn send(&mut self, done: &Done, repeats: bool) -> bool {
        let may_begin = repeats && self.may_repeat();
        let Some(socket) = &mut self.socket else { return false };
        let bytes = if self.is_first_sent { &self.script.again } else { &self.script.first };
        let waits = self.is_first_sent && self.at == 0;
        if bytes.is_empty() || waits && !may_begin {
            return false;
        }
        let end = bytes.len().min(self.at + VISIT_BYTES);
        match socket.write(&bytes[self.at..end]) {
            Ok(count) => {
                done.sent_bytes.fetch_add(count as u64, Ordering::Relaxed);
                done.repeated.fetch_add(u64::from(waits), Ordering::Relaxed);
                if waits {
                    (self.heard, self.is_answered) = (0, false);
                }
                self.at += count;
                if self.at == bytes.len() {
                    self.at = 0;
                    self.is_first_sent = true;
                }
                true
            }
            Err(error) => self.note(&error, done),
        }
    }

    fn take(&mut self, done: &Done) -> bool {
        let Some(socket) = &mut self.socket else { return false };
        let mut buffer = [0; 64 * 1024];
        match socket.read(&mut buffer) {
            Ok(0) => {
                done.ended.fetch_add(1, Ordering::Relaxed);
                self.end();
                true
            }
            Ok(count) => {
                done.received_bytes.fetch_add(count as u64, Ordering::Relaxed);
                self.heard += count as u64;
                if self.script.asks {
                    self.look_for_answer(&buffer[..count]);
                }
                true
            }
            Err(error) => self.note(&error, done),
        }
    }

    fn look_for_answer(&mut self, heard: &[u8]) {
        let answer = [&[0, 7][..], &PING.to_be_bytes()].concat();
        self.recent.extend(heard);
        self.is_answered |= self.recent.windows(answer.len()).any(|heard| heard == answer);
        // Too short to contain the same reply again.
        self.recent.drain(..self.recent.len().saturating_sub(answer.len() - 1));
    }

    /// Ends the connection, unless the error is only that it would block.
    fn note(&mut self, error: &std::io::Error, done: &Done) -> bool {
        if error.kind() == ErrorKind::WouldBlock {
            return false;
        }
        done.ended.fetch_add(1, Ordering::Relaxed);
        self.end();
        true
    }
}
