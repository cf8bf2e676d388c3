//! Hostile connections by the thousand, of one kind at a time, all driven by one thread.
//!
//! Each connection repeats a script for as long as the flood lasts. The attack suite runs floods
//! beside healthy parties and judges counts; `benches/hostile.rs` compares times.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use crate::attacker::session;
use crate::wire::{self, AUDIO, Message, command, create_stream, null, number, string};

/// Hostile connections of one flood.
pub(crate) const CONNECTIONS: usize = 1000;
/// Connections that end at once; more than a flood has otherwise.
const CLOSINGS: usize = 4096;
/// Messages of a backlog that players join: as many as a tape holds.
const BACKLOG_MESSAGES: usize = 190_000;
/// What a player takes of the backlog before it joins again (bytes).
const JOIN_BYTES: u64 = 256 * 1024;
/// Streams of tiny messages, which the other connections of that flood play.
const TINY_STREAMS: usize = 20;
/// Publishes that are asked for at once: their answers fit into what may wait for a peer.
const PUBLISHES: usize = 16;
/// Connections that are opened again in one round, of those that the server has ended.
const RECONNECTS_PER_ROUND: usize = 8;
/// Sent by one connection before the next has its turn (bytes).
const VISIT_BYTES: usize = 64 * 1024;
/// Messages of a publisher before it waits for the server to have read them. A connection has
/// several turns' work for the server at any time, and what is left at the end of a flood does not
/// grow with the speed of the machine.
const BLOCK_MESSAGES: usize = 4096;
/// How long a flood may take to come up: only a server that hangs needs as long.
const UP_WITHIN: Duration = Duration::from_secs(300);
/// The ping that follows a publisher's messages: the answer says that the server has read them.
const PING: u32 = 0x0f10_0d00;

/// One kind of flood.
#[derive(Clone, Copy)]
pub(crate) struct Flood {
    /// Its name on the command line of the bench.
    pub(crate) name: &'static str,
    /// The streams that must be live before the others come.
    publishers: fn() -> Vec<Script>,
    others: fn() -> Vec<Script>,
}

/// All kinds, each of which has made a turn of the loop long.
pub(crate) const FLOODS: [Flood; 7] = [
    Flood { name: "joins", publishers: backlog, others: || joins(1) },
    Flood { name: "second-stream", publishers: backlog, others: || joins(2) },
    Flood { name: "publish-loop", publishers: Vec::new, others: publish_loops },
    Flood { name: "one-byte", publishers: one_byte_messages, others: Vec::new },
    Flood { name: "tiny-fanout", publishers: tiny_streams, others: tiny_players },
    Flood { name: "closings", publishers: Vec::new, others: closings },
    Flood { name: "empty-messages", publishers: empty_messages, others: Vec::new },
];

/// What one connection sends.
struct Script {
    /// Sent once, whenever it connects.
    first: Arc<[u8]>,
    /// Sent again and again after it.
    again: Arc<[u8]>,
    /// What it has to hear before each repetition (bytes).
    hears_before: u64,
    /// Both parts end with a ping, whose answer it waits for before it repeats anything.
    asks: bool,
    /// It resets its connection, together with all like it, when `first` is sent.
    resets: bool,
}

impl Script {
    fn new(first: Vec<u8>, again: Vec<u8>) -> Self {
        let (first, again) = (first.into(), again.into());
        Self { first, again, hears_before: 0, asks: false, resets: false }
    }

    /// The same, with a ping after what it sends.
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

/// A session that publishes `key` with the least that a player can begin with.
fn publishing(key: impl AsRef<[u8]>) -> Vec<u8> {
    let mut first = session(&[create_stream(2.0), wire::publish(key)]);
    first.extend(wire::video(0, wire::AVC_CONFIG).chunks());
    first.extend(wire::video(0, wire::AVC_KEYFRAME).chunks());
    first
}

/// So many audio messages of `payload`, the first with its whole header, the others with a byte.
fn audio_messages(payload: &[u8], count: usize) -> (Vec<u8>, Vec<u8>) {
    let first = Message::new(4, AUDIO, payload).on(1).chunks();
    (first, [&[0xc4], payload].concat().repeat(count - 1))
}

fn backlog() -> Vec<Script> {
    let (head, rest) = audio_messages(&[0xaf, 1], BACKLOG_MESSAGES);
    vec![Script::new([publishing("backlog"), head, rest].concat(), Vec::new())]
}

/// Players that join a backlog from its start again and again.
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

/// A stream with many players whose publishers come and go as fast as they can say so.
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

/// Sessions, half of which never end their handshake, that are reset all at the same time.
fn closings() -> Vec<Script> {
    let half =
        Script { resets: true, ..Script::new(wire::handshake()[..1000].to_vec(), Vec::new()) };
    let whole = Script { resets: true, ..Script::new(session(&[]), Vec::new()) };
    half.repeat(CLOSINGS / 2).into_iter().chain(whole.repeat(CLOSINGS / 2)).collect()
}

/// Publishers that begin an empty message on each of 64 chunk streams in turn.
fn empty_messages() -> Vec<Script> {
    // Chunk stream 2 is there from the start; the last two take a header of two bytes.
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

/// What a flood has done so far.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) connected: AtomicU64,
    /// Connections that the server ended.
    pub(crate) ended: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    /// Scripts begun again: joins, publishes, blocks of messages.
    pub(crate) repeated: AtomicU64,
}

impl Done {
    /// One line.
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

/// A flood under way; it ends when this is dropped.
pub(crate) struct Running {
    pub(crate) done: Arc<Done>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// The flood of this name.
    pub(crate) fn named(name: &str) -> Self {
        *FLOODS.iter().find(|flood| flood.name == name).expect("a flood of this name")
    }

    /// Starts it on a thread of this niceness, and returns when every connection has sent what it
    /// begins with.
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
                return Err(format!("{} do not come up: {}", self.name, running.done.line()));
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

/// Visits every connection once, and returns whether any byte moved.
fn visit_all(parties: &mut [Party], done: &Done, repeats: bool) -> bool {
    parties.iter_mut().fold(false, |moved, party| party.visit(done, repeats) | moved)
}

/// Ends all connections that are to end together, and opens them again.
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
    /// Sent of `first`, and then of `again`.
    at: usize,
    is_first_sent: bool,
    heard: u64,
    /// The ping at the end of what it sent last is answered.
    is_answered: bool,
    /// The end of what came before that: an answer may come in two parts.
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

    /// Ends it without a farewell.
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

    /// Sends and takes a share; returns whether any byte moved.
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
        // Too short to hold the same answer again.
        self.recent.drain(..self.recent.len().saturating_sub(answer.len() - 1));
    }

    /// Ends the connection unless there is only nothing to do now.
    fn note(&mut self, error: &std::io::Error, done: &Done) -> bool {
        if error.kind() == ErrorKind::WouldBlock {
            return false;
        }
        done.ended.fetch_add(1, Ordering::Relaxed);
        self.end();
        true
    }
}
