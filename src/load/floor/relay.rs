//! The loop of the relay: one poll, edge-triggered, one read buffer, one call to the kernel for
//! each frame and player.
//!
//! Owns who publishes and plays what, and what is counted. Players are written to as soon as a
//! frame is whole; with `merge` at the end of the turn.

use std::collections::HashMap;
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
use crate::load::connection::{Left, read};
use crate::load::wire::Framed;
use crate::time::Time;

const EVENTS_PER_POLL: usize = 1024;
const SIGNALS: Token = Token(usize::MAX - 1);
const LISTENER: Token = Token(usize::MAX - 2);

/// See the module's head.
pub(super) struct Relay {
    form: SendMethod,
    merges: bool,
    poll: Poll,
    signals: Signals,
    listener: TcpListener,
    /// Connections may be waiting: the poll tells of the edge only once.
    has_waiting: bool,
    peers: Slab<Peer>,
    streams: Slab<Stream>,
    names: HashMap<Vec<u8>, usize>,
    /// Peers with more to read than a turn gives them.
    ready: Vec<usize>,
    /// Peers to be removed at the end of the turn.
    ended: Vec<usize>,
    /// Streams with frames to be sent at the end of the turn.
    dirty: Vec<usize>,
    buffer: Box<[u8]>,
    totals: Totals,
}

/// What has been relayed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    frames: u64,
    received_bytes: u64,
    sent_bytes: u64,
    dropped_players: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, received_bytes, sent_bytes, dropped_players } = self;
        write!(
            f,
            "relayed {frames} frames: {received_bytes} bytes in, {sent_bytes} bytes out, \
             {dropped_players} players dropped that did not read"
        )
    }
}

struct Peer {
    socket: TcpStream,
    role: Role,
    frames: Framed,
    outbox: SendQueue,
    /// The kernel told that the peer sends no more: only a read that says so ends it.
    read_closed: bool,
    /// It is on the list of those with bytes to read.
    is_ready: bool,
    ended: bool,
}

impl Peer {
    fn wait_in(&mut self, ready: &mut Vec<usize>, index: usize) {
        if !std::mem::replace(&mut self.is_ready, true) {
            ready.push(index);
        }
    }
}

/// What a peer has asked for.
#[derive(Clone, Copy)]
enum Role {
    Unknown,
    Publisher(usize),
    Player(usize),
}

struct Stream {
    name: Vec<u8>,
    players: Vec<usize>,
    /// Publishers and players, the last of which takes the stream with it.
    peers: usize,
    files: MemoryFiles,
    /// Frames of this turn, to be sent at its end.
    merged: Vec<u8>,
}

impl Relay {
    pub(super) fn bind(floor: &Floor) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        let mut listener = TcpListener::bind(floor.listen)?;
        // Accepted sockets inherit it.
        sockopt::set_tcp_nodelay(&listener, true)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            form: floor.send,
            merges: floor.merge,
            poll,
            signals,
            listener,
            has_waiting: false,
            peers: Slab::new(),
            streams: Slab::new(),
            names: HashMap::new(),
            ready: Vec::new(),
            ended: Vec::new(),
            dirty: Vec::new(),
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

    /// Relays until a signal comes or the time is over.
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
                    Token(index) => self.note(index, event),
                }
            }
            self.receive_ready()?;
            self.send_merged()?;
            self.remove_ended();
            self.accept();
        }
    }

    fn timeout(&self, ends_at: Time) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        (ends_at != Time::NEVER).then(|| ends_at.since(alarm::now()))
    }

    fn note(&mut self, index: usize, event: &Event) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        peer.read_closed |= event.is_read_closed() || event.is_error();
        if event.is_readable() || peer.read_closed {
            peer.wait_in(&mut self.ready, index);
        }
        if event.is_writable() && !peer.ended {
            let flushed = peer.outbox.flush(&mut peer.socket);
            self.account(index, flushed);
        }
    }

    fn receive_ready(&mut self) -> io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        for index in ready.drain(..) {
            self.receive(index)?;
        }
        // Who has more to read is on the list anew.
        if self.ready.is_empty() {
            self.ready = ready;
        }
        Ok(())
    }

    /// Reads what a peer has, within its budget of the turn, and relays each frame.
    fn receive(&mut self, index: usize) -> io::Result<()> {
        let mut budget = limits::READ_BYTES_PER_TURN_MAX;
        self.peers[index].is_ready = false;
        // Both are handed back below; until then the frames that they hold can be sent to others.
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
                self.peers[index].wait_in(&mut self.ready, index);
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
        mut input: &mut [u8],
    ) -> io::Result<()> {
        loop {
            let frame = match frames.next_with_length(&mut input) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(_) => {
                    self.end(index);
                    return Ok(());
                }
            };
            match self.peers[index].role {
                Role::Unknown => self.enter(index, &frame[Framed::LENGTH_BYTES..]),
                Role::Publisher(stream) => self.relay(stream, frame)?,
                // A player has nothing more to say.
                Role::Player(_) => {}
            }
        }
    }

    /// The first frame says what a peer is.
    fn enter(&mut self, index: usize, request: &[u8]) {
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

    /// Sends a frame to all players, now or at the end of the turn.
    fn relay(&mut self, key: usize, frame: &[u8]) -> io::Result<()> {
        self.totals.frames += 1;
        let stream = &mut self.streams[key];
        if stream.players.is_empty() {
            return Ok(());
        }
        if !self.merges {
            return self.send(key, frame);
        }
        if stream.merged.is_empty() {
            self.dirty.push(key);
        }
        stream.merged.extend_from_slice(frame);
        Ok(())
    }

    fn send(&mut self, key: usize, bytes: &[u8]) -> io::Result<()> {
        let stream = &mut self.streams[key];
        let mut payload = match self.form {
            SendMethod::Write => Payload::Memory(bytes, None),
            SendMethod::Sendfile => Payload::File(stream.files.append(bytes)?),
        };
        // Who plays changes at the end of the turn alone, or when a peer enters: not meanwhile.
        let players = std::mem::take(&mut stream.players);
        for &index in &players {
            let peer = &mut self.peers[index];
            if !peer.ended {
                let sent = peer.outbox.send(&mut peer.socket, &mut payload);
                self.account(index, sent);
            }
        }
        self.streams[key].players = players;
        Ok(())
    }

    fn account(&mut self, index: usize, sent: Result<usize, SendError>) {
        match sent {
            Ok(count) => self.totals.sent_bytes += count as u64,
            Err(lost) => {
                self.totals.dropped_players += u64::from(matches!(lost, SendError::DoesNotRead));
                self.end(index);
            }
        }
    }

    /// Marks a peer as ended; it is removed at the end of the turn.
    fn end(&mut self, index: usize) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        if !std::mem::replace(&mut peer.ended, true) {
            self.ended.push(index);
        }
    }

    fn send_merged(&mut self) -> io::Result<()> {
        while let Some(key) = self.dirty.pop() {
            let mut merged = std::mem::take(&mut self.streams[key].merged);
            self.send(key, &merged)?;
            merged.clear();
            self.streams[key].merged = merged;
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

    /// Takes the connections that wait. Without descriptors they wait on, until a peer goes.
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
        // As after the dialogue of RTMP: a socket that has only ever read acknowledges each read,
        // and the floor would cost more than servers do.
        #[cfg(target_os = "linux")]
        let _ = sockopt::set_tcp_quickack(&socket, false);
        // One that cannot be watched is closed, as if it had not come.
        if self.poll.registry().register(&mut socket, token, both).is_ok() {
            entry.insert(Peer {
                socket,
                role: Role::Unknown,
                frames: Framed::default(),
                outbox: SendQueue::default(),
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
            merged: Vec::new(),
        }
    }
}
