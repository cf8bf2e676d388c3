//! A simulated machine around the real server: listening socket, poll, descriptors and clock. All
//! of them can fail in every way that real ones can.
//!
//! [`Host::turn`] does the work of the program's loop. Afterwards it checks the invariants.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use tiderace::config::Settings;
use tiderace::limits;
use tiderace::limits::TAPE_BLOCK_BYTES_MIN;
use tiderace::rtmp::auth::Challenger;
use tiderace::rtmp::handshake::Hello;
use tiderace::server::Server;
use tiderace::server::accepting::{AcceptError, Acceptor, Listen};
use tiderace::server::conn::Conn;
use tiderace::server::judge::{Decision, Question, Ticket};
use tiderace::server::peer::Protocol;
use tiderace::server::peer_address::PeerAddress;
use tiderace::stream::ids::ConnId;
use tiderace::stream::segment::SegmentSettings;
use tiderace::time::Time;

use super::ledger::{Ledger, Socket, uncounted};
use super::model::ClientId;
use crate::faults::{Counts, Fault, Faults, Sabotage};
use crate::random::Random;
use crate::socket::{Link, MemoryTransport, Seen, Witness};
use crate::world::segments;

/// Fails like a system without memory for files.
fn no_file() -> io::Result<File> {
    Err(ErrorKind::OutOfMemory.into())
}

/// A connection that waits to be accepted.
struct Waiting {
    id: ClientId,
    link: Rc<RefCell<Link>>,
    protocol: Protocol,
}

/// The listening socket.
struct Backlog {
    waiting: VecDeque<Waiting>,
    /// The poll has an event of the listening socket to report.
    owed: bool,
    descriptors_max: usize,
    /// Descriptors in use, including those accepted in this turn.
    descriptors: usize,
    faults: Option<Faults>,
    /// The connection that is registered next.
    accepted: Option<ClientId>,
    /// Its protocol. A real listener has connections of one protocol.
    protocol: Protocol,
    registered: Vec<(ClientId, ConnId)>,
}

impl Backlog {
    fn strikes(&mut self, fault: Fault) -> bool {
        self.faults.as_mut().is_some_and(|faults| faults.strikes(fault))
    }
}

impl Listen for Backlog {
    type Transport = Socket;

    fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn accept(&mut self) -> Result<(Socket, PeerAddress), AcceptError> {
        uncounted(|| self.take())
    }

    fn register(&mut self, _: &mut Socket, id: ConnId) -> io::Result<()> {
        uncounted(|| self.register_taken(id))
    }

    fn name(&self) -> String {
        "memory".to_owned()
    }
}

impl Backlog {
    fn take(&mut self) -> Result<(Socket, PeerAddress), AcceptError> {
        if self.waiting.is_empty() {
            return Err(AcceptError::Empty);
        }
        if self.descriptors >= self.descriptors_max || self.strikes(Fault::AcceptNoDescriptor) {
            return Err(AcceptError::Exhausted(io::Error::from_raw_os_error(24)));
        }
        if self.strikes(Fault::AcceptNoMemory) {
            return Err(AcceptError::Exhausted(ErrorKind::OutOfMemory.into()));
        }
        let Some(Waiting { id, link, protocol }) = self.waiting.pop_front() else {
            return Err(AcceptError::Empty);
        };
        let transport = Socket::new(MemoryTransport(link));
        if self.strikes(Fault::AcceptDied) {
            return Err(AcceptError::Died);
        }
        self.descriptors += 1;
        (self.accepted, self.protocol) = (Some(id), protocol);
        Ok((transport, SocketAddr::from((Ipv4Addr::from(CLIENT_ADDRESSES + id), 40_000)).into()))
    }

    fn register_taken(&mut self, id: ConnId) -> io::Result<()> {
        let client = self.accepted.take().expect("an accepted connection");
        if self.strikes(Fault::RegisterFails) {
            return Err(io::Error::from_raw_os_error(28));
        }
        self.registered.push((client, id));
        Ok(())
    }
}

/// The address of the first client; the others follow it.
const CLIENT_ADDRESSES: u32 = 0x0a00_0000;

/// A turn as observed from the machine.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// Connections that the server closed without ever accepting them.
    pub(super) refused: BTreeSet<ClientId>,
    /// The table was full when connections were accepted.
    pub(super) was_full: bool,
    /// Upper bound of the memory held during the turn (bytes): the memory at its end, plus that of
    /// connections and streams closed in the turn, plus what can have been added meanwhile.
    pub(super) held_bytes_max: usize,
    /// Players whose socket buffers are full, so that their kernels owe an event.
    pub(super) blocked: BTreeSet<ClientId>,
}

/// See the module's head.
pub(super) struct Host {
    pub(super) server: Server<Socket>,
    pub(super) now: Time,
    acceptor: Acceptor,
    backlog: Backlog,
    buffer: Vec<u8>,
    witness: Witness,
    random: Random,
    seed: u64,
    /// `None` once faults have been turned off.
    counts: Option<Counts>,
    sabotage: Option<Sabotage>,
    pub(super) sockets: BTreeMap<ClientId, Rc<RefCell<Link>>>,
    conns: BTreeMap<ClientId, ConnId>,
    /// Clients with unread bytes at the start of the last turn.
    pub(super) unread: BTreeSet<ClientId>,
    /// Observations of the last turn from outside the server.
    pub(super) turn: Turn,
    ledger: Ledger,
    /// Players may be served from memory files.
    has_files: bool,
    next: ClientId,
}

impl Host {
    /// Creates a machine with this many descriptors, from a seed. Without `counts` it has no
    /// faults.
    pub(super) fn new(
        settings: Settings,
        descriptors_max: usize,
        seed: u64,
        counts: Option<&Counts>,
        sabotage: Option<Sabotage>,
    ) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        let buffer = match counts {
            Some(_) => vec![0; 1 + random.below(5000)],
            None => vec![0; 64 * 1024],
        };
        let bytes: [u8; 1528] = std::array::from_fn(|index| (index * 7 % 251) as u8);
        let faults = counts.map(|counts| Faults::all(seed, counts));
        let mut server = Server::new(settings, Hello::new(&bytes), Challenger::new([7; 32]));
        server.set_segments(segments().filter(|_| random.one_in(2)).map(|segments| {
            let lacks_files = random.one_in(4);
            let open = if lacks_files { no_file } else { segments.open };
            SegmentSettings { open, ..segments }
        }));
        let has_files = server.has_segments();
        Self {
            server,
            now: Time::ZERO,
            acceptor: Acceptor::default(),
            backlog: Backlog {
                waiting: VecDeque::new(),
                owed: false,
                descriptors_max,
                descriptors: 0,
                faults,
                accepted: None,
                protocol: Protocol::Rtmp,
                registered: Vec::new(),
            },
            buffer,
            witness: Witness::default(),
            random,
            seed,
            counts: counts.cloned(),
            sabotage,
            sockets: BTreeMap::new(),
            conns: BTreeMap::new(),
            unread: BTreeSet::new(),
            turn: Turn::default(),
            ledger: Ledger::default(),
            has_files,
            next: 0,
        }
    }

    /// Connects a client: the kernel completes the TCP handshake and queues the connection.
    pub(super) fn connect(&mut self, bytes_max: usize, protocol: Protocol) -> ClientId {
        let id = self.next;
        self.next += 1;
        let seed = self.seed ^ u64::from(id) << 32;
        let faults = self.counts.as_ref().map(|counts| Faults::all(seed, counts));
        let (witness, sabotage) = (self.witness.of(id), self.sabotage.clone());
        let link = Link::open_before(witness, bytes_max, faults, sabotage);
        if Random::new(seed ^ 0x7ec0_7d5e).one_in(4) {
            link.borrow_mut().use_records();
        }
        self.sockets.insert(id, Rc::clone(&link));
        self.backlog.waiting.push_back(Waiting { id, link, protocol });
        self.backlog.owed = true;
        id
    }

    /// Turns off all faults, the shortage of descriptors, and the waiting for a judge.
    pub(super) fn repair(&mut self) {
        self.server.set_judge(None);
        self.counts = None;
        self.backlog.faults = None;
        self.backlog.descriptors_max = usize::MAX;
        self.sockets.values().for_each(|link| link.borrow_mut().repair());
    }

    /// Returns the server's side of a client's connection.
    pub(super) fn conn(&self, id: ClientId) -> Option<&Conn<Socket>> {
        self.server.conn(*self.conns.get(&id)?)
    }

    /// Returns the next time at which the loop wakes without an event.
    pub(super) fn next_wakeup(&self) -> Option<Time> {
        self.server.next_deadline().into_iter().chain(self.acceptor.paused_until()).min()
    }

    /// Runs the loop once: reports `all` or some events, then accepts connections, then takes a
    /// turn. Returns what the server did with each socket, or `None` if the loop would have slept.
    pub(super) fn turn(&mut self, all: bool) -> Option<Vec<(ClientId, Seen)>> {
        let is_due = self.next_wakeup().is_some_and(|at| at <= self.now);
        let has_work = self.server.has_work() || self.server.can_accept(&self.acceptor, self.now);
        if !self.report_events(all) && !is_due && !has_work {
            return None;
        }
        self.backlog.descriptors = self.server.len();
        let connections_max = self.server.settings().limits.connections_max;
        self.turn.was_full = connections_max != 0
            && self.server.len() + self.backlog.waiting.len() > connections_max;
        let Self { server, ledger, acceptor, backlog, now, .. } = self;
        ledger.count(|| server.accept_from(acceptor, backlog, *now));
        self.conns.extend(self.backlog.registered.drain(..));
        self.note_unread();
        let (held, of_streams) = (self.held_by_each(), self.server.hub().held_bytes());
        self.ledger.count(|| self.server.turn(&mut self.buffer, self.now));
        let seen = self.witness.take();
        self.turn.refused.clear();
        let freed = of_streams.saturating_sub(self.server.hub().held_bytes());
        self.turn.held_bytes_max = self.server.memory_bytes() + freed;
        for (id, what) in &seen {
            match what {
                Seen::Closed if self.conns.remove(id).is_none() => {
                    self.turn.refused.insert(*id);
                }
                Seen::Closed => {
                    let held = held.get(id).copied().unwrap_or_default();
                    self.turn.held_bytes_max += held + TAPE_BLOCK_BYTES_MIN;
                }
                // A message takes memory for itself and for its entry on the tape, whether it was
                // read in this turn or earlier.
                Seen::Read(count) | Seen::Consumed(count) => {
                    self.turn.held_bytes_max += 2 * count;
                }
                Seen::Ended => {}
            }
        }
        let found = self.server.memory_bytes_found();
        self.turn.held_bytes_max = self.turn.held_bytes_max.max(found);
        let blocked = |id: &&ClientId| self.sockets[*id].borrow().owes_writable();
        self.turn.blocked = self.conns.keys().filter(blocked).copied().collect();
        self.check();
        self.check_memory();
        Some(seen)
    }

    /// Returns the memory held by each connection. Only used if memory is bounded.
    fn held_by_each(&self) -> BTreeMap<ClientId, usize> {
        let limits = &self.server.settings().limits;
        if limits.memory_bytes_max == 0 {
            return BTreeMap::new();
        }
        let held = |conn: &Conn<Socket>| {
            size_of_val(conn) + conn.held_bytes(limits.socket_unsent_bytes_max)
        };
        let conns =
            self.conns.iter().filter_map(|(id, conn)| Some((*id, self.server.conn(*conn)?)));
        conns.map(|(id, conn)| (id, held(conn))).collect()
    }

    /// Reports events to the server in random order. Events that are left out are reported the next
    /// time.
    fn report_events(&mut self, all: bool) -> bool {
        let mut reported = false;
        if self.backlog.owed && (all || !self.random.one_in(4)) {
            self.backlog.owed = false;
            self.acceptor.edge();
            reported = true;
        }
        let has_event = |id: &ClientId| self.sockets[id].borrow().has_event();
        let mut ready: Vec<_> =
            self.conns.iter().filter(|(id, _)| has_event(id)).map(|(a, b)| (*a, *b)).collect();
        let count = if all { ready.len() } else { self.random.below(ready.len() + 1) };
        for _ in 0..count {
            let (id, conn) = ready.swap_remove(self.random.below(ready.len()));
            let Some(event) = self.sockets[&id].borrow_mut().take_event() else { continue };
            let server = &mut self.server;
            self.ledger
                .count(|| server.event(conn, event.readable, event.writable, event.read_closed));
            reported = true;
        }
        if self.backlog.strikes(Fault::StrayEvent) {
            let anybody = ConnId::new(self.random.below(40) as u32);
            self.ledger.count(|| self.server.event(anybody, true, true, false));
            reported = true;
        }
        reported
    }

    /// Takes the next question of the server to its judge. Returns it with the client that asked.
    pub(super) fn next_question(&mut self) -> Option<(ClientId, Question)> {
        let question = self.ledger.count(|| self.server.next_question())?;
        let Some(IpAddr::V4(address)) = question.peer.ip() else { return None };
        Some((u32::from(address) - CLIENT_ADDRESSES, question))
    }

    /// Passes on a decision of the judge. Clients with unread bytes are recorded as before a turn.
    pub(super) fn decide(&mut self, ticket: Ticket, decision: Decision) {
        self.note_unread();
        let Self { server, ledger, now, .. } = self;
        ledger.count(|| server.decided(ticket, decision, *now));
    }

    fn note_unread(&mut self) {
        let is_unread = |conn: &ConnId| self.server.conn(*conn).is_some_and(|c| c.queued_to_read);
        self.unread = self.conns.iter().filter(|(_, c)| is_unread(c)).map(|(id, _)| *id).collect();
    }

    /// Changes the settings of the running server.
    pub(super) fn reload(&mut self, settings: Settings) {
        self.ledger.count(|| self.server.reload(settings));
    }

    /// Compares the server's memory accounting with the allocator. Memory files are not allocated
    /// there.
    fn check_memory(&self) {
        if self.has_files {
            return;
        }
        let server = &self.server;
        let unsent_bytes = server.settings().limits.socket_unsent_bytes_max;
        let conns = self.conns.values().filter_map(|conn| server.conn(*conn));
        let full = conns.filter(|conn| !conn.writable).count();
        let of_kernel = server.len() * limits::SOCKET_BYTES + full * unsent_bytes;
        self.ledger.assert_agrees(server.memory_bytes() - of_kernel);
    }

    /// Checks what must hold after every turn.
    fn check(&self) {
        let (server, stats) = (&self.server, self.server.stats());
        let live = stats.accepted - stats.closed_total();
        assert_eq!(live, server.len() as u64, "accepted minus closed is live");
        assert_eq!(self.conns.len(), server.len(), "a socket for each connection");
        let (mut held, mut entries) = (0, 0);
        let limits = &server.settings().limits;
        for (id, conn) in &self.conns {
            let link = self.sockets[id].borrow();
            let conn = server.conn(*conn).expect("a connection for each socket");
            held += conn.held_bytes(limits.socket_unsent_bytes_max);
            entries += usize::from(conn.timers.entry() != Time::NEVER);
            assert!(
                conn.timers.entry() <= conn.first_deadline(),
                "a deadline without a timer entry"
            );
            let waits_for_turn = conn.queued_to_write || conn.closing.is_some();
            let plays = conn.activity.iter().flat_map(|activity| &activity.plays);
            let mut news = plays.map(|play| server.hub().channel(play.stream).news_at());
            // A publisher that leaves at the end of a turn makes held-back messages due.
            let is_due =
                |at| server.hub().has_news() || server.next_deadline().is_some_and(|due| due <= at);
            let waits_for_more = news.any(|at| at != Time::NEVER && is_due(at));
            if conn.has_pending(server.hub()) && !waits_for_turn && !waits_for_more {
                assert!(
                    !conn.writable,
                    "client {id}: room and pending bytes, but no turn for them"
                );
                assert!(link.owes_writable(), "client {id}: waits for an edge that never comes");
            }
            // A client of HTTP is not read before its response is with the kernel.
            let is_answered = conn.peer.session().is_some() || !conn.has_pending(server.hub());
            if link.unread() > 0 && conn.closing.is_none() && !conn.is_parked() && is_answered {
                let is_told = conn.readable && conn.queued_to_read;
                assert!(is_told || link.owes_readable(), "client {id}: bytes that are never read");
            }
        }
        assert_eq!(server.conns_bytes(), held, "accounted memory is held memory");
        assert_eq!(server.timers().len(), entries, "one timer entry per connection");
        let of_streams = server.hub().iter().map(|stream| {
            let tape = stream.tape();
            let wire: usize = tape.from(tape.first_sequence()).map(|entry| entry.wire.len()).sum();
            assert_eq!(tape.bytes(), wire, "bytes on the tape of {}", stream.name());
            assert!(wire <= limits.tape_bytes_max, "{wire} bytes on a tape");
            stream.held_bytes()
        });
        let of_streams = of_streams.sum::<usize>() + server.hub().shared_bytes();
        assert_eq!(server.hub().held_bytes(), of_streams, "accounted memory is held memory");
    }
}
