//! The real server in a simulated world: in-memory sockets, a clock that a test advances, and
//! clients that a test scripts.
//!
//! ```text
//! let mut world = World::new(Settings::default());
//! let publisher = world.publisher("cam");
//! let player = world.player("cam");
//! world[publisher].client().write_audio(0, &[0xaf, 1, 2]);
//! world.run();
//! assert_eq!(world[player].media().len(), 1);
//! ```
//!
//! [`World::run`] processes everything that can happen at this instant. [`World::advance`] lets
//! time pass from deadline to deadline. The world checks its invariants after each turn of the
//! server and whenever nothing more happens.

use std::cell::RefCell;
#[cfg(target_os = "linux")]
use std::fs::File;
#[cfg(target_os = "linux")]
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Index, IndexMut};
use std::rc::Rc;
use std::time::Duration;

#[cfg(target_os = "linux")]
use rustix::fs::{MemfdFlags, memfd_create};
use tiderace::config::Settings;
use tiderace::rtmp::auth::Challenger;
use tiderace::rtmp::client::{Client, ClientConfig, Purpose};
use tiderace::rtmp::command::{Command, CommandMessage};
use tiderace::rtmp::handshake::Hello;
use tiderace::server::Server;
use tiderace::server::conn::Conn;
use tiderace::server::errand::ErrandId;
use tiderace::server::peer::Protocol;
use tiderace::server::peer_address::PeerAddress;
use tiderace::server::reason::CloseReason;
use tiderace::server::transport::TcpFacts;
use tiderace::server::web::Surface;
use tiderace::stream::ids::{ConnId, Endpoint};
use tiderace::stream::segment::SegmentSettings;
use tiderace::time::Time;

use crate::faults::Faults;
use crate::random::Random;
use crate::socket::{FileAnswer, Link, MemoryTransport};
use crate::wire::{self, Message};

/// Size of a socket buffer per direction, unless a test chooses another.
const SOCKET_BYTES: usize = 256 * 1024;
/// As large as the read buffer of the program's loop.
const READ_BUFFER_BYTES: usize = tiderace::limits::READ_BUFFER_BYTES;
/// The secret from which the server derives its challenges.
pub(crate) const CHALLENGER_SECRET: [u8; 32] = [0x42; 32];
/// Upper bound of turns before the server must come to rest.
const TURNS_MAX: usize = 1_000_000;

/// Handle of a client; index the world with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientHandle(usize);

/// How the bytes of a client are cut into segments. The server takes a turn between two segments.
#[derive(Clone, Debug)]
pub(crate) enum Split {
    /// As much as there is room for.
    Whole,
    /// This number of bytes.
    Bytes(usize),
    /// A random number of bytes, at least one and less than this.
    Random(Random, usize),
}

impl Split {
    fn next(&mut self) -> usize {
        match self {
            Self::Whole => usize::MAX,
            Self::Bytes(count) => *count,
            Self::Random(random, end) => 1 + random.below(*end - 1),
        }
    }
}

/// Returns an empty memory file.
#[cfg(target_os = "linux")]
pub(crate) fn memory_file() -> io::Result<File> {
    Ok(memfd_create("tiderace-test", MemfdFlags::CLOEXEC)?.into())
}

/// Settings that use memory files for any number of players and bytes. What a real server would
/// send from memory, a single player thus receives from files.
pub(crate) fn segments() -> Option<SegmentSettings> {
    #[cfg(target_os = "linux")]
    return Some(SegmentSettings {
        open: memory_file,
        players_min: 2,
        run_bytes_min: 1,
        files_max: usize::MAX,
    });
    #[cfg(not(target_os = "linux"))]
    None
}

/// See the module's head.
pub(crate) struct World {
    pub(crate) server: Server<MemoryTransport>,
    now: Time,
    buffer: Vec<u8>,
    clients: Vec<Peer>,
    /// Size per direction of the sockets opened from here on.
    pub(crate) socket_bytes: usize,
    /// Seed of the faults of sockets opened from here on.
    faults: Option<u64>,
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        // The random part of S1 does not matter, but it must not be a single repeated byte.
        let random: [u8; 1528] = std::array::from_fn(|index| (index * 7 % 251) as u8);
        let mut server =
            Server::new(settings, Hello::new(&random), Challenger::new(CHALLENGER_SECRET));
        server.set_segments(segments());
        Self {
            server,
            now: Time::ZERO,
            buffer: vec![0; READ_BUFFER_BYTES],
            clients: Vec::new(),
            socket_bytes: SOCKET_BYTES,
            faults: None,
        }
    }

    /// Creates a world whose sockets refuse and shorten writes and report spurious events, with a
    /// small read buffer, all determined by `seed`.
    pub(crate) fn with_faults(settings: Settings, seed: u64) -> Self {
        let mut world = Self::new(settings);
        world.faults = Some(seed);
        world.set_read_buffer(1 + Random::new(seed).below(300));
        world
    }

    /// Sets the size of the read buffer that the server is lent.
    pub(crate) fn set_read_buffer(&mut self, bytes: usize) {
        self.buffer = vec![0; bytes];
    }

    pub(crate) const fn now(&self) -> Time {
        self.now
    }

    /// Opens a connection from a new address. The test sends the bytes itself.
    pub(crate) fn connect(&mut self) -> ClientHandle {
        let host = 0x0a00_0001 + self.clients.len() as u32;
        self.connect_from(SocketAddr::from((Ipv4Addr::from(host), 40_000)))
    }

    /// Opens a connection from a given address. As in the loop, connections are accepted after the
    /// server has been told about events and before its turn.
    pub(crate) fn connect_from(&mut self, address: impl Into<PeerAddress>) -> ClientHandle {
        self.open(address.into(), Protocol::Rtmp)
    }

    /// Opens a connection of HTTP, to a listener that shows `surface`.
    pub(crate) fn connect_http(&mut self, surface: Surface) -> ClientHandle {
        let host = 0x0b00_0001 + self.clients.len() as u32;
        let address = SocketAddr::from((Ipv4Addr::from(host), 50_000));
        let handle = self.open(address.into(), Protocol::Http(surface));
        self[handle].reader = None;
        handle
    }

    fn open(&mut self, address: PeerAddress, protocol: Protocol) -> ClientHandle {
        self.move_bytes();
        let handle = ClientHandle(self.clients.len());
        let faults = self.faults.map(|seed| Faults::harmless(seed ^ (handle.0 as u64) << 32));
        let link = Link::open(self.socket_bytes, faults);
        let transport = MemoryTransport(Rc::clone(&link));
        let conn = if self.server.admits(address, self.now) {
            let expected = self.server.next_id();
            let id = self.server.accept(transport, address, protocol, self.now);
            assert_eq!(id, expected, "the id that was announced");
            Some(id)
        } else {
            None
        };
        self.clients.push(Peer::new(link, conn));
        handle
    }

    /// Connects the server, whose errand it is, to another end, which the test is.
    pub(crate) fn dialed(&mut self, id: ErrandId) -> ClientHandle {
        let handle = ClientHandle(self.clients.len());
        let faults = self.faults.map(|seed| Faults::harmless(seed ^ (handle.0 as u64) << 32));
        let link = Link::open(self.socket_bytes, faults);
        let transport = MemoryTransport(Rc::clone(&link));
        let conn = self.server.done(id, Ok(transport), self.now);
        self.clients.push(Peer::new(link, conn));
        handle
    }

    /// Opens a connection that `client` drives.
    pub(crate) fn drive(&mut self, client: Client) -> ClientHandle {
        let handle = self.connect();
        self[handle].client = Some(client);
        handle
    }

    /// Opens a client that is connected to the application `live` and requests no stream.
    pub(crate) fn connect_only(&mut self) -> ClientHandle {
        self.settled(Purpose::Connect)
    }

    /// Opens a client that publishes `key` in the application `live`.
    pub(crate) fn publisher(&mut self, key: &str) -> ClientHandle {
        self.settled(Purpose::Publish { key: key.to_owned() })
    }

    /// Opens a client that plays `key` in the application `live`.
    pub(crate) fn player(&mut self, key: &str) -> ClientHandle {
        self.settled(Purpose::Play { key: key.to_owned() })
    }

    /// Opens a connection that has completed the handshake and sent nothing more.
    pub(crate) fn handshaken(&mut self) -> ClientHandle {
        let handle = self.connect();
        self[handle].send_raw(&wire::handshake());
        self.run();
        handle
    }

    /// Opens a connection that is connected to the application `live` and has read the reply.
    pub(crate) fn connected(&mut self) -> ClientHandle {
        let handle = self.handshaken();
        self.say(handle, &[wire::connect("live")]);
        self[handle].take_messages();
        handle
    }

    /// Opens a connection that has created message stream 1 and publishes `key` on it.
    pub(crate) fn publishing(&mut self, key: &str) -> ClientHandle {
        let handle = self.connected();
        self.say(handle, &[wire::create_stream(2.0), wire::publish(key)]);
        assert!(self[handle].was_told("NetStream.Publish.Start"), "{key} is published");
        self[handle].take_messages();
        handle
    }

    /// Opens a connection that has created message stream 1 and plays `key` on it.
    pub(crate) fn playing(&mut self, key: &str) -> ClientHandle {
        let handle = self.connected();
        self.say(handle, &[wire::create_stream(2.0), wire::play(key)]);
        assert!(self[handle].was_told("NetStream.Play.Start"), "{key} is played");
        handle
    }

    /// Sends messages and processes everything that follows.
    pub(crate) fn say(&mut self, client: ClientHandle, messages: &[Message]) {
        self[client].send(messages);
        self.run();
    }

    /// Asserts that a connection is alive and in step: a call on it is answered.
    pub(crate) fn assert_lives(&mut self, client: ClientHandle) {
        self[client].take_messages();
        self.say(client, &[wire::command("_checkbw", 77.0, &[wire::null()])]);
        assert_eq!(self[client].answers(), ["_result 77"], "the connection lives");
        self[client].take_messages();
    }

    fn settled(&mut self, purpose: Purpose) -> ClientHandle {
        let handle = self.drive(client(purpose));
        self.run();
        handle
    }

    /// Processes everything that can happen without time passing.
    pub(crate) fn run(&mut self) {
        for _ in 0..TURNS_MAX {
            if !self.turn() {
                self.check_nothing_is_stuck();
                return;
            }
        }
        panic!("the server does not come to rest at {:?}", self.now);
    }

    /// Lets the server take one turn. Returns false if there is nothing to do.
    pub(crate) fn turn(&mut self) -> bool {
        let moved = self.move_bytes();
        let due = self.server.next_deadline().is_some_and(|at| at <= self.now);
        if !moved && !due && !self.server.has_work() {
            return false;
        }
        self.server.turn(&mut self.buffer, self.now);
        self.check_invariants();
        true
    }

    /// Lets `duration` pass, with everything that happens meanwhile.
    pub(crate) fn advance(&mut self, duration: Duration) {
        self.run();
        let end = self.now + duration;
        while let Some(at) = self.server.next_deadline().filter(|at| *at <= end) {
            assert!(at > self.now, "a due deadline is still there after the turn");
            self.now = at;
            self.run();
        }
        self.now = end;
        self.run();
    }

    /// Lets milliseconds pass.
    pub(crate) fn advance_ms(&mut self, millis: u64) {
        self.advance(Duration::from_millis(millis));
    }

    /// Lets milliseconds pass in which only the peers act, as when the server process is stopped
    /// and continued.
    pub(crate) fn stop_for_ms(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
        self.run();
    }

    /// Tells the server that a socket is writable, whether it is or not.
    pub(crate) fn say_writable(&mut self, client: ClientHandle) {
        if let Some(id) = self[client].conn {
            self.server.event(id, false, true, false);
        }
    }

    /// Returns the number of connections that ended for `reason`.
    pub(crate) fn closed(&self, reason: CloseReason) -> u64 {
        self.server.stats().closed(reason)
    }

    /// Returns the server's side of a client's connection, while it exists.
    pub(crate) fn conn(&self, client: ClientHandle) -> Option<&Conn<MemoryTransport>> {
        let peer = &self[client];
        let conn = self.server.conn(peer.conn?)?;
        Rc::ptr_eq(&conn.transport.0, &peer.link).then_some(conn)
    }

    /// Moves the bytes of all clients in both directions, and tells the server what changed.
    fn move_bytes(&mut self) -> bool {
        let mut moved = false;
        for peer in &mut self.clients {
            moved |= peer.exchange();
            let event = peer.link.borrow_mut().take_event();
            if let (Some(event), Some(id)) = (event, peer.conn) {
                self.server.event(id, event.readable, event.writable, event.read_closed);
                moved = true;
            }
        }
        moved
    }

    /// Checks what must hold after every turn.
    fn check_invariants(&self) {
        let server = &self.server;
        let stats = server.stats();
        let live = stats.accepted + stats.dialed - stats.closed_total();
        assert_eq!(live, server.len() as u64, "accepted plus dialed minus closed is live");
        assert!(server.timers().len() <= server.len(), "one timer entry per connection");
        for stream in server.hub().iter() {
            let name = stream.name();
            let is_used = !stream.players().is_empty() || stream.parts().is_some();
            assert!(stream.is_live() || is_used, "{name} has no peers");
            for (slot, player) in stream.players().iter().enumerate() {
                let play = self.play_of(*player);
                assert_eq!(play.map(|(slot, _)| slot), Some(slot), "slots of {name}");
                assert_eq!(play.map(|(_, at)| at), Some(&**name), "a play at another stream");
            }
        }
    }

    fn play_of(&self, player: Endpoint) -> Option<(usize, &str)> {
        let conn = self.server.conn(player.conn)?;
        let plays = &conn.activity.as_ref()?.plays;
        let play = plays.iter().find(|play| play.lane == player.lane)?;
        Some((play.slot as usize, self.server.hub().channel(play.stream).name()))
    }

    /// Checks that nothing is stuck when nothing more happens: every wait has an event that will
    /// end it.
    fn check_nothing_is_stuck(&self) {
        for (index, peer) in self.clients.iter().enumerate() {
            let Some(conn) = self.conn(ClientHandle(index)) else { continue };
            let link = peer.link.borrow();
            // While a request waits for a judge, the bytes after it stay in the kernel.
            let is_read = link.unread() == 0 || conn.is_parked();
            assert!(is_read, "client {index}: bytes that the server has not read");
            if peer.reads {
                let is_whole = peer.reader.as_ref().is_none_or(|r| r.is_between_messages());
                assert!(is_whole, "client {index}: half a message");
            }
            let plays = conn.activity.iter().flat_map(|activity| &activity.plays);
            let mut news = plays.map(|play| self.server.hub().channel(play.stream).news_at());
            let waits_for_more = news.any(|at| at != Time::NEVER && at > self.now);
            if conn.has_pending(self.server.hub()) && !waits_for_more {
                assert_eq!(link.room(), 0, "client {index}: room, and pending bytes");
                assert!(!conn.writable, "client {index}: writable, and pending bytes");
            }
        }
    }
}

impl Index<ClientHandle> for World {
    type Output = Peer;

    fn index(&self, handle: ClientHandle) -> &Peer {
        &self.clients[handle.0]
    }
}

impl IndexMut<ClientHandle> for World {
    fn index_mut(&mut self, handle: ClientHandle) -> &mut Peer {
        &mut self.clients[handle.0]
    }
}

/// Returns a client of the application `live`.
pub(crate) fn client(purpose: Purpose) -> Client {
    Client::new(ClientConfig::new("live", "rtmp://host/live", purpose), &[0x5a; 1528])
}

/// The client's end of a connection.
pub(crate) struct Peer {
    link: Rc<RefCell<Link>>,
    /// `None` if the server did not admit the connection.
    conn: Option<ConnId>,
    client: Option<Client>,
    /// How the client's bytes are cut into segments.
    pub(crate) split: Split,
    /// Whether the client reads. A client that does not read is stalled.
    pub(crate) reads: bool,
    outbox: Vec<u8>,
    finishes: bool,
    received: Vec<u8>,
    /// Reads what it receives as RTMP; `None` for a client of HTTP.
    reader: Option<wire::Reader>,
    messages: Vec<Message>,
}

impl Peer {
    fn new(link: Rc<RefCell<Link>>, conn: Option<ConnId>) -> Self {
        Self {
            link,
            conn,
            client: None,
            split: Split::Whole,
            reads: true,
            outbox: Vec::new(),
            finishes: false,
            received: Vec::new(),
            reader: Some(wire::Reader::behind_handshake()),
            messages: Vec::new(),
        }
    }

    /// Returns the client that drives the connection.
    pub(crate) const fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("a connection that a client drives")
    }

    /// Sends bytes, after those already waiting.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.outbox.extend(bytes);
    }

    /// Sends messages in chunks of the initial chunk size.
    pub(crate) fn send(&mut self, messages: &[Message]) {
        for message in messages {
            self.send_raw(&message.chunks());
        }
    }

    /// Returns the number of bytes not sent yet.
    pub(crate) const fn unsent(&self) -> usize {
        self.outbox.len()
    }

    /// Ends the sending direction once everything is sent (FIN).
    pub(crate) const fn finish(&mut self) {
        self.finishes = true;
    }

    /// Breaks the connection (RST).
    pub(crate) fn reset(&mut self) {
        self.outbox.clear();
        self.link.borrow_mut().reset();
    }

    /// Reads up to `count` bytes, for a client that does not read by itself. Returns the number
    /// read.
    pub(crate) fn read(&mut self, count: usize) -> usize {
        let mut bytes = self.link.borrow_mut().receive(count);
        if let Some(reader) = &mut self.reader {
            self.messages.extend(reader.read(&bytes));
        }
        self.received.extend(&bytes);
        if let Some(client) = &mut self.client {
            let mut input = &mut bytes[..];
            while client.next_event(&mut input).expect("a good server").is_some() {}
        }
        bytes.len()
    }

    /// Takes all bytes that wait in the socket, for a test that passes them on.
    pub(crate) fn take_raw(&self) -> Vec<u8> {
        self.link.borrow_mut().receive(usize::MAX)
    }

    /// Returns all bytes received, including the handshake.
    pub(crate) fn received(&self) -> &[u8] {
        &self.received
    }

    /// Returns all messages received.
    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Returns the messages received since the last call.
    pub(crate) fn take_messages(&mut self) -> Vec<Message> {
        self.received.clear();
        std::mem::take(&mut self.messages)
    }

    /// Returns the audio, video and data messages received.
    pub(crate) fn media(&self) -> Vec<&Message> {
        self.messages.iter().filter(|message| message.is_media()).collect()
    }

    /// Returns the messages of one type.
    pub(crate) fn of_kind(&self, kind: u8) -> Vec<&Message> {
        self.messages.iter().filter(|message| message.kind == kind).collect()
    }

    /// Summarizes the commands received: the code of a status or error, otherwise the command name
    /// and the transaction id.
    pub(crate) fn answers(&self) -> Vec<String> {
        self.of_kind(wire::COMMAND).into_iter().map(answer).collect()
    }

    /// Returns whether a command received is `what`, in the terms of [`Peer::answers`].
    pub(crate) fn was_told(&self, what: &str) -> bool {
        self.answers().iter().any(|answer| answer == what)
    }

    /// Returns the number of bytes received from memory files.
    pub(crate) fn bytes_from_files(&self) -> u64 {
        self.link.borrow().bytes_from_files
    }

    /// Returns the number of the server's calls to send from a memory file, including refused ones.
    pub(crate) fn file_calls(&self) -> usize {
        self.link.borrow().file_calls
    }

    /// Sets the result of all such calls from here on.
    pub(crate) fn answer_files_with(&self, answer: FileAnswer) {
        self.link.borrow_mut().file_answer = Some(answer);
    }

    /// Returns the number of acknowledgements that the server requested from its kernel.
    pub(crate) fn acknowledged(&self) -> usize {
        self.link.borrow().acknowledged()
    }

    /// Sets what the kernel tells the server about the connection; `None` if it tells nothing.
    pub(crate) fn kernel_tells(&self, facts: Option<TcpFacts>) {
        self.link.borrow_mut().facts = facts;
    }

    /// Returns whether the server has ended its sending direction, or the whole connection.
    pub(crate) fn is_finished(&self) -> bool {
        self.link.borrow().is_finished()
    }

    /// Returns whether the server has dropped the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.link.borrow().is_closed()
    }

    /// Reads and sends as much as possible. Returns whether anything moved.
    fn exchange(&mut self) -> bool {
        let mut moved = self.reads && self.read(usize::MAX) > 0;
        if let Some(client) = &mut self.client {
            self.outbox.append(&mut client.take_output());
        }
        let segment = self.split.next().min(self.outbox.len());
        let sent = self.link.borrow_mut().send(&self.outbox[..segment]);
        self.outbox.drain(..sent);
        moved |= sent > 0;
        if self.finishes && self.outbox.is_empty() {
            self.finishes = false;
            self.link.borrow_mut().finish();
            moved = true;
        }
        moved
    }
}

fn answer(message: &Message) -> String {
    let command = CommandMessage::decode(&message.payload).expect("a command that can be read");
    let name = String::from_utf8_lossy(command.name);
    match command.command {
        Command::OnStatus(status) | Command::Error(status) => {
            String::from_utf8_lossy(status.code).into_owned()
        }
        _ => format!("{name} {}", command.transaction_id),
    }
}

/// Tests the checks of the world itself: a lost event, as when a server clears readiness at the
/// wrong moment, leaves bytes unread.
#[test]
#[should_panic(expected = "bytes that the server has not read")]
fn a_lost_event_is_noticed() {
    let mut world = World::new(Settings::default());
    let client = world.handshaken();
    let mut link = world[client].link.borrow_mut();
    link.send(&[2]);
    link.take_event();
    drop(link);
    world.run();
}
