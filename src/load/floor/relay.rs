//! The loop of the relay: one edge-triggered poll, one read buffer, one system call per turn and
//! player.
//!
//! Owns the streams with their publishers and players, and the totals. A publisher is read once a
//! turn. All frames that this completes are sent at once, or with `merge_ms` when the first of them
//! has waited for that long.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustix::net::sockopt;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use slab::Slab;

use super::memory_file::MemoryFiles;
use super::send_queue::{Payload, SendError, SendQueue};
use super::{Floor, SendMethod};
use crate::limits;
use crate::load::alarm;
use crate::load::assembler::UnitPlace;
use crate::load::connection::{Left, read};
use crate::load::wire::Framed;
use crate::time::Time;

const EVENTS_PER_POLL: usize = 1024;
const SIGNALS: Token = Token(usize::MAX - 1);
const LISTENER: Token = Token(usize::MAX - 2);

/// See the module's head.
pub(super) struct Relay {
    method: SendMethod,
    merge: Option<Duration>,
    poll: Poll,
    signals: Signals,
    listener: TcpListener,
    /// Connections may be waiting. The poll reports the edge only once.
    has_waiting: bool,
    peers: Slab<Peer>,
    streams: Slab<Stream>,
    names: HashMap<Vec<u8>, usize>,
    /// Peers with more to read than one turn allows.
    ready: Vec<usize>,
    /// Peers to remove at the end of the turn.
    ended: Vec<usize>,
    /// When the held frames of a stream are due, in order, because all are held equally long.
    due: VecDeque<(Time, usize)>,
    buffer: Box<[u8]>,
    totals: Totals,
}

/// Totals of all relayed frames.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    frames: u64,
    received_bytes: u64,
    sent_bytes: u64,
    sends: u64,
    dropped_players: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, received_bytes, sent_bytes, sends, dropped_players } = self;
        write!(
            f,
            "relayed {frames} frames: {received_bytes} bytes in, {sends} sends, {sent_bytes} bytes \
             out, {dropped_players} players dropped because they did not read"
        )
    }
}

struct Peer {
    socket: TcpStream,
    role: Role,
    frames: Framed,
    queue: SendQueue,
    /// The kernel reported that the peer sends no more. Only a read of zero bytes ends the peer.
    read_closed: bool,
    /// The peer is on the list of those to read.
    is_ready: bool,
    ended: bool,
}

impl Peer {
    fn enqueue(&mut self, ready: &mut Vec<usize>, index: usize) {
        if !std::mem::replace(&mut self.is_ready, true) {
            ready.push(index);
        }
    }
}

/// Role that a peer has requested.
#[derive(Clone, Copy)]
enum Role {
    Unknown,
    Publisher(usize),
    Player(usize),
}

struct Stream {
    name: Vec<u8>,
    players: Vec<usize>,
    /// Publishers and players together. The stream is removed with the last of them.
    peers: usize,
    files: MemoryFiles,
    /// Frames to send before those of this turn: one that came in pieces, and those that are held.
    pending: Vec<u8>,
    /// The stream is on the list of those with held frames.
    is_due: bool,
}

impl Relay {
    pub(super) fn bind(floor: &Floor) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        let mut listener = TcpListener::bind(floor.listen)?;
        // Accepted sockets inherit this option.
        sockopt::set_tcp_nodelay(&listener, true)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            method: floor.send,
            merge: floor.merge_ms,
            poll,
            signals,
            listener,
            has_waiting: false,
            peers: Slab::new(),
            streams: Slab::new(),
            names: HashMap::new(),
            ready: Vec::new(),
            ended: Vec::new(),
            due: VecDeque::new(),
            buffer: vec![0; limits::READ_BUFFER_BYTES].into_boxed_slice(),
            totals: Totals::default(),
        })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(super) const fn totals(&self) -> Totals {
        self.totals
    }

    /// Relays until a signal arrives or the time is over.
    pub(super) fn run(&mut self, duration: Option<Duration>) -> io::Result<()> {
        let ends_at = duration.map_or(Time::NEVER, |duration| alarm::now() + duration);
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        loop {
            match self.poll.poll(&mut events, self.timeout(ends_at)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            if ends_at != Time::NEVER && alarm::now() >= ends_at {
                return Ok(());
            }
            for event in &events {
                match event.token() {
                    SIGNALS if self.signals.pending().next().is_some() => return Ok(()),
                    SIGNALS => {}
                    LISTENER => self.has_waiting = true,
                    Token(index) => self.apply_event(index, event),
                }
            }
            self.receive_ready()?;
            self.send_due()?;
            self.remove_ended();
            self.accept();
        }
    }

    fn timeout(&self, ends_at: Time) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let due = self.due.front().map_or(Time::NEVER, |(at, _)| *at).min(ends_at);
        (due != Time::NEVER).then(|| due.since(alarm::now()))
    }

    fn apply_event(&mut self, index: usize, event: &Event) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        peer.read_closed |= event.is_read_closed() || event.is_error();
        if event.is_readable() || peer.read_closed {
            peer.enqueue(&mut self.ready, index);
        }
        if event.is_writable() && !peer.ended {
            let flushed = peer.queue.flush(&mut peer.socket);
            self.record_sent(index, flushed);
        }
    }

    fn receive_ready(&mut self) -> io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        for index in ready.drain(..) {
            self.receive(index)?;
        }
        // Peers with more to read are on the list again.
        if self.ready.is_empty() {
            self.ready = ready;
        }
        Ok(())
    }

    /// Reads from a peer within its budget for the turn, and relays the frames.
    fn receive(&mut self, index: usize) -> io::Result<()> {
        let mut budget = limits::READ_BYTES_PER_TURN_MAX;
        self.peers[index].is_ready = false;
        // Take both out and put them back below, so that their frames can be sent to other peers.
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(peer) = self.peers.get_mut(index).filter(|peer| !peer.ended) {
            let Ok((count, left)) = read(&mut peer.socket, peer.read_closed, &mut buffer) else {
                self.end(index);
                break;
            };
            let mut frames = std::mem::take(&mut peer.frames);
            self.totals.received_bytes += count as u64;
            self.take_frames(index, &mut frames, &mut buffer[..count])?;
            self.peers[index].frames = frames;
            budget = budget.saturating_sub(count);
            if matches!(left, Left::Drained) {
                break;
            }
            if budget == 0 {
                self.peers[index].enqueue(&mut self.ready, index);
                break;
            }
        }
        self.buffer = buffer;
        Ok(())
    }

    fn take_frames(
        &mut self,
        index: usize,
        frames: &mut Framed,
        input: &mut [u8],
    ) -> io::Result<()> {
        let input_bytes = input.len();
        let mut rest = &mut *input;
        // Frames that are whole in the input follow each other, so they are one part of a `writev`.
        let mut whole = 0..0;
        loop {
            let begin = input_bytes - rest.len();
            let unit = match frames.next_unit(&mut rest) {
                Ok(Some(unit)) => unit,
                Ok(None) => break,
                Err(_) => {
                    self.end(index);
                    break;
                }
            };
            let frame = frames.bytes(unit);
            match (self.peers[index].role, unit) {
                (Role::Unknown, _) => self.assign_role(index, &frame[Framed::LENGTH_BYTES..]),
                (Role::Publisher(key), UnitPlace::Assembled) => self.keep(key, frame),
                (Role::Publisher(_), UnitPlace::InInput(_)) => {
                    self.totals.frames += 1;
                    let from = if whole.is_empty() { begin } else { whole.start };
                    whole = from..input_bytes - rest.len();
                }
                // Further frames of a player are ignored.
                (Role::Player(_), _) => {}
            }
        }
        match self.peers[index].role {
            Role::Publisher(key) => self.relay(key, &input[whole]),
            _ => Ok(()),
        }
    }

    /// Keeps a frame that came in pieces, whose memory is used again for the next one.
    fn keep(&mut self, key: usize, frame: &[u8]) {
        self.totals.frames += 1;
        let stream = &mut self.streams[key];
        if !stream.players.is_empty() {
            stream.pending.extend_from_slice(frame);
        }
    }

    /// Handles the first frame of a peer, which assigns its role.
    fn assign_role(&mut self, index: usize, request: &[u8]) {
        let [publishes, plays] =
            [&b"publish "[..], b"play "].map(|verb| request.strip_prefix(verb));
        let name = publishes.or(plays).unwrap_or_default();
        if name.is_empty() || name.len() > limits::NAME_BYTES_MAX {
            return self.end(index);
        }
        let key = match self.names.get(name) {
            Some(key) => *key,
            None => {
                let key = self.streams.insert(Stream::new(name));
                self.names.insert(name.to_owned(), key);
                key
            }
        };
        let stream = &mut self.streams[key];
        stream.peers += 1;
        self.peers[index].role = if publishes.is_some() {
            Role::Publisher(key)
        } else {
            stream.players.push(index);
            Role::Player(key)
        };
    }

    /// Sends frames to all players, after those that are pending, or holds them.
    fn relay(&mut self, key: usize, frames: &[u8]) -> io::Result<()> {
        let stream = &mut self.streams[key];
        if stream.players.is_empty() || frames.is_empty() && stream.pending.is_empty() {
            return Ok(());
        }
        let Some(merge) = self.merge else { return self.send(key, frames) };
        stream.pending.extend_from_slice(frames);
        if !std::mem::replace(&mut stream.is_due, true) {
            self.due.push_back((alarm::now() + merge, key));
        }
        Ok(())
    }

    fn send(&mut self, key: usize, frames: &[u8]) -> io::Result<()> {
        let stream = &mut self.streams[key];
        let mut pending = std::mem::take(&mut stream.pending);
        let parts = [&pending[..], frames];
        let mut payload = match self.method {
            SendMethod::Write => Payload::Memory(parts, None),
            SendMethod::Sendfile => Payload::File(stream.files.append(parts)?),
        };
        // The list of players changes only when a peer enters or at the end of the turn, not here.
        let players = std::mem::take(&mut stream.players);
        for &index in &players {
            let peer = &mut self.peers[index];
            if !peer.ended {
                let sent = peer.queue.send(&mut peer.socket, &mut payload);
                self.record_sent(index, sent);
            }
        }
        pending.clear();
        let stream = &mut self.streams[key];
        (stream.players, stream.pending) = (players, pending);
        Ok(())
    }

    fn record_sent(&mut self, index: usize, sent: Result<usize, SendError>) {
        match sent {
            Ok(count) => {
                self.totals.sends += u64::from(count > 0);
                self.totals.sent_bytes += count as u64;
            }
            Err(lost) => {
                self.totals.dropped_players += u64::from(matches!(lost, SendError::DoesNotRead));
                self.end(index);
            }
        }
    }

    /// Marks a peer as ended. It is removed at the end of the turn.
    fn end(&mut self, index: usize) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        if !std::mem::replace(&mut peer.ended, true) {
            self.ended.push(index);
        }
    }

    /// Sends the frames that have been held long enough.
    fn send_due(&mut self) -> io::Result<()> {
        while let Some((at, key)) = self.due.front().copied()
            && at <= alarm::now()
        {
            self.due.pop_front();
            // The stream may be gone, and another one may have its place.
            if let Some(stream) = self.streams.get_mut(key) {
                stream.is_due = false;
                self.send(key, &[])?;
            }
        }
        Ok(())
    }

    fn remove_ended(&mut self) {
        while let Some(index) = self.ended.pop() {
            let peer = self.peers.remove(index);
            self.ready.retain(|ready| *ready != index);
            self.leave(index, peer.role);
        }
    }

    fn leave(&mut self, index: usize, role: Role) {
        let key = match role {
            Role::Unknown => return,
            Role::Publisher(key) | Role::Player(key) => key,
        };
        let stream = &mut self.streams[key];
        stream.players.retain(|player| *player != index);
        stream.peers -= 1;
        if stream.peers == 0 {
            let stream = self.streams.remove(key);
            self.names.remove(&stream.name);
        }
    }

    /// Accepts waiting connections. Without free descriptors they wait until a peer leaves.
    fn accept(&mut self) {
        while self.has_waiting {
            match self.listener.accept() {
                Ok((socket, _)) => self.admit(socket),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.has_waiting = false,
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {}
                    _ => break,
                },
            }
        }
    }

    fn admit(&mut self, mut socket: TcpStream) {
        let entry = self.peers.vacant_entry();
        let (token, both) = (Token(entry.key()), Interest::READABLE | Interest::WRITABLE);
        // A socket that has only read so far acknowledges each read at once. After the RTMP
        // dialogue that is off, so turn it off here, too: otherwise the floor would cost more than
        // servers do.
        #[cfg(target_os = "linux")]
        let _ = sockopt::set_tcp_quickack(&socket, false);
        // A socket that cannot be registered is dropped, which closes it.
        if self.poll.registry().register(&mut socket, token, both).is_ok() {
            entry.insert(Peer {
                socket,
                role: Role::Unknown,
                frames: Framed::default(),
                queue: SendQueue::default(),
                read_closed: false,
                is_ready: false,
                ended: false,
            });
        }
    }
}

impl Stream {
    fn new(name: &[u8]) -> Self {
        Self {
            name: name.to_owned(),
            players: Vec::new(),
            peers: 0,
            files: MemoryFiles::default(),
            pending: Vec::new(),
            is_due: false,
        }
    }
}
