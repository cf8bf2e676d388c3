//! The loop of the generator: one poll, a slab of connections, one ordered set of due times.
//!
//! The loop is open-loop: every action has an intended time and carries it along. Scenarios measure
//! from the intended time, so neither a stalled server nor a late generator can hide a delay
//! (coordinated omission). The loop also records its own lateness. It knows no scenario; those
//! implement [`Scenario`].
//!
//! A turn performs a bounded number of due actions. So a generator that cannot keep its schedule
//! still reads, writes and heeds signals. If it falls back for good, the run ends.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use rand::Rng;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use slab::Slab;

use super::LoadError;
use super::alarm::{self, Alarm};
use super::backlog::Backlog;
use super::connection::{
    Connection, ConnectionEvent, ConnectionHead, ConnectionKey, ConnectionPhase, Ended, Flags,
    Left, Reason,
};
use super::http_flv::{FlvRequest, HttpFlv};
use super::measured::{LostSchedule, Measured};
use super::processes;
use super::run_queue::RunQueue;
use super::target::{self, Target};
use super::wire::{Framed, Wire};
use crate::limits;
use crate::rtmp::client::{Client, ClientConfig, Purpose};
use crate::time::Time;

/// The behaviour of a run.
///
/// All calls come from the one thread of the loop. Most calls borrow from a connection and can only
/// schedule further actions through the [`Agenda`]; [`Scenario::due`] has the whole [`Engine`].
pub trait Scenario: Sized {
    /// State that the scenario keeps for each connection.
    type Conn;
    /// Actions that the scenario schedules.
    type Due;

    /// Starts the run: schedules the first actions.
    fn start(&mut self, engine: &mut Engine<Self>);

    /// Performs an action that was scheduled for `intended`. The loop has recorded its lateness.
    fn due(&mut self, engine: &mut Engine<Self>, due: Self::Due, intended: Time);

    /// Handles an event of a connection. [`Agenda::now`] is the time when its bytes had been read.
    fn event(
        &mut self,
        agenda: &mut Agenda<Self::Due>,
        data: &mut Self::Conn,
        head: &ConnectionHead,
        event: ConnectionEvent<'_>,
    );

    /// Notes that the kernel has taken more output of a connection: [`ConnectionHead::sent_bytes`]
    /// in total, at [`Agenda::now`].
    fn written(
        &mut self,
        _agenda: &mut Agenda<Self::Due>,
        _data: &mut Self::Conn,
        _head: &ConnectionHead,
    ) {
    }

    /// Handles the end of a connection, a failure to open one, and the end of the run.
    fn closed(&mut self, agenda: &mut Agenda<Self::Due>, data: Self::Conn, ended: Ended);

    /// Called once a second, for example to sample the server.
    ///
    /// # Errors
    /// A reason to end the run, such as a server process that has ended.
    fn second(&mut self, _agenda: &mut Agenda<Self::Due>) -> Result<(), LoadError> {
        Ok(())
    }

    /// Returns the progress in a few words for a terminal. All numbers must be counts, because the
    /// counts of helper processes are added.
    fn progress(&self) -> String;
}

/// Parameters of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Target of all connections that have no address of their own.
    pub target: Target,
    /// Time after which the run ends in any case.
    pub duration: Duration,
    /// Time for a connection to reach its goal, and to close after [`Agenda::leave`].
    pub timeout: Duration,
    /// Busy-polls instead of sleeping: the lowest wakeup latency, at the cost of a whole core.
    pub is_busy: bool,
    /// Prints the progress to standard error each second.
    pub shows_progress: bool,
    /// This process is a helper: it reports progress to the first process, and ends when that
    /// process says so or ends.
    pub is_helper: bool,
}

/// Protocol of a connection.
#[derive(Debug)]
pub enum Speak {
    /// None: the connection stays at TCP.
    Silence,
    /// RTMP with this configuration, to the target of the run.
    Rtmp(ClientConfig),
    /// RTMP to another address.
    RtmpAt(SocketAddr, ClientConfig),
    /// HTTP-FLV, as a player of this stream.
    HttpFlv(FlvRequest),
    /// Length-prefixed frames; the goal is TCP.
    Frames,
}

impl Speak {
    /// Returns the phase in which a connection has reached its goal.
    const fn goal(&self) -> ConnectionPhase {
        match self {
            Self::Silence | Self::Frames => ConnectionPhase::Tcp,
            Self::HttpFlv(_) => ConnectionPhase::Play,
            Self::Rtmp(config) | Self::RtmpAt(_, config) => goal(&config.purpose),
        }
    }
}

const fn goal(purpose: &Purpose) -> ConnectionPhase {
    match purpose {
        Purpose::Handshake => ConnectionPhase::Handshake,
        Purpose::Connect => ConnectionPhase::Connect,
        Purpose::Publish { .. } => ConnectionPhase::Publish,
        Purpose::Play { .. } => ConnectionPhase::Play,
    }
}

/// Runs a scenario until it stops, its time is over or a signal interrupts it.
///
/// # Errors
/// A failure to start, or a system error during the run.
pub fn run<S: Scenario>(plan: Plan, scenario: &mut S) -> Result<Measured, LoadError> {
    let mut engine = Engine::new(plan)?;
    scenario.start(&mut engine);
    engine.run(scenario)?;
    Ok(engine.measured)
}

/// The schedule of a run: due actions, and connections to end.
#[derive(Debug)]
pub struct Agenda<D> {
    now: Time,
    began: Time,
    queue: BTreeMap<(Time, u64), D>,
    /// Keeps actions with the same due time in the order in which they were scheduled.
    sequence: u64,
    ending: Vec<(ConnectionKey, Ending)>,
    is_over: bool,
}

/// How a scenario ends a connection.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Close,
    Leave,
}

impl<D> Agenda<D> {
    /// Returns the time of the current event: when its bytes had been read, or the current time.
    pub const fn now(&self) -> Time {
        self.now
    }

    /// When the run began.
    pub const fn began(&self) -> Time {
        self.began
    }

    /// Schedules an action. A time in the past makes it due at once.
    pub fn at(&mut self, at: Time, due: D) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), due);
    }

    /// Ends a connection at the end of this turn, after one attempt to write its pending output.
    pub fn close(&mut self, id: ConnectionKey) {
        self.ending.push((id, Ending::Close));
    }

    /// Shuts down the sending side of a connection and waits for the server to close it. The end is
    /// reported as [`Reason::Done`].
    pub fn leave(&mut self, id: ConnectionKey) {
        self.ending.push((id, Ending::Leave));
    }

    /// Ends the run at the end of this turn.
    pub const fn stop(&mut self) {
        self.is_over = true;
    }

    /// Returns the time of the earliest action.
    fn next_due(&self) -> Time {
        self.queue.first_key_value().map_or(Time::NEVER, |((at, _), _)| *at)
    }
}

/// See the module's head.
pub struct Engine<S: Scenario> {
    plan: Plan,
    agenda: Agenda<S::Due>,
    connections: Slab<Connection<S::Conn>>,
    /// Generation of the connection opened last. Slab indexes are reused; the generation tells
    /// connections apart.
    generation: u32,
    /// Deadlines of connections to reach their goal, in order, because all get the same timeout.
    timeouts: VecDeque<(Time, ConnectionKey)>,
    /// Connections that have something to read or are not yet connected.
    ready: Vec<u32>,
    /// Connections that the scenario has written to.
    dirty: Vec<u32>,
    ended: Vec<(u32, Reason)>,
    /// Connections that could not be opened.
    unopened: Vec<(S::Conn, Ended)>,
    poll: Poll,
    alarm: Alarm,
    signals: Signals,
    /// The read buffer that all connections share.
    buffer: Box<[u8]>,
    /// The write buffer, lent to the connection that writes next.
    spare: Vec<u8>,
    c1_random: Box<[u8; limits::HANDSHAKE_RANDOM_BYTES]>,
    ends_at: Time,
    second_at: Time,
    /// Due actions that this turn may still perform.
    due_left: usize,
    backlog: Backlog,
    run_queue: RunQueue,
    measured: Measured,
}

/// Due actions performed in one turn. Those left wait for the next turn.
const DUE_PER_TURN_MAX: usize = 4096;
/// Due actions after which the output they produced is written.
const DUE_PER_FLUSH_MAX: usize = 64;
const EVENTS_PER_POLL: usize = 1024;
const SIGNALS: Token = Token(usize::MAX - 1);
const ALARM: Token = Token(usize::MAX - 2);
const FIRST_PROCESS: Token = Token(usize::MAX - 3);
const SECOND_MS: u64 = 1000;

impl<S: Scenario> Engine<S> {
    fn new(plan: Plan) -> Result<Self, LoadError> {
        let poll = Poll::new()?;
        let mut signals = Signals::new([SIGINT, SIGTERM])?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        let alarm = Alarm::new(poll.registry(), ALARM)?;
        if plan.is_helper {
            processes::watch_first_process(poll.registry(), FIRST_PROCESS)?;
        }
        let mut c1_random = Box::new([0; limits::HANDSHAKE_RANDOM_BYTES]);
        rand::rng().fill_bytes(&mut c1_random[..]);
        let began = alarm::now();
        Ok(Self {
            ends_at: began + plan.duration,
            second_at: began.plus_millis(SECOND_MS),
            due_left: 0,
            backlog: Backlog::new(),
            run_queue: RunQueue::open(),
            agenda: Agenda {
                now: began,
                began,
                queue: BTreeMap::new(),
                sequence: 0,
                ending: Vec::new(),
                is_over: false,
            },
            connections: Slab::new(),
            generation: 0,
            timeouts: VecDeque::new(),
            ready: Vec::new(),
            dirty: Vec::new(),
            ended: Vec::new(),
            unopened: Vec::new(),
            poll,
            alarm,
            signals,
            buffer: vec![0; limits::READ_BUFFER_BYTES].into_boxed_slice(),
            spare: Vec::new(),
            c1_random,
            measured: Measured::new(plan.is_busy),
            plan,
        })
    }

    /// Returns the schedule of the run.
    pub const fn agenda(&mut self) -> &mut Agenda<S::Due> {
        &mut self.agenda
    }

    /// Returns the parameters of the run.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns the measurements of the loop itself so far.
    pub const fn measured(&self) -> &Measured {
        &self.measured
    }

    /// Restarts the measurements of the loop itself, and returns those until now.
    pub fn restart_measured(&mut self) -> Measured {
        self.measured.restart()
    }

    /// Returns the number of connections, including those that are not yet connected.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Returns whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Opens a connection whose intended time is `intended`. If that fails at once, the scenario
    /// gets a [`Scenario::closed`] call at the end of this turn.
    pub fn open(&mut self, intended: Time, speak: Speak, data: S::Conn) -> Option<ConnectionKey> {
        let entry = self.connections.vacant_entry();
        self.generation = self.generation.wrapping_add(1);
        let id = ConnectionKey { index: entry.key() as u32, generation: self.generation };
        let head = ConnectionHead {
            id,
            intended,
            phase: ConnectionPhase::Opening,
            phase_at: intended,
            goal: speak.goal(),
            received_bytes: 0,
            sent_bytes: 0,
            flags: Flags::default(),
        };
        let both = Interest::READABLE | Interest::WRITABLE;
        let address = match &speak {
            Speak::HttpFlv(request) => request.address,
            Speak::RtmpAt(address, _) => *address,
            _ => self.plan.target.address,
        };
        let opened = target::open(address, self.generation).and_then(|mut socket| {
            self.poll.registry().register(&mut socket, Token(entry.key()), both)?;
            Ok(socket)
        });
        let socket = match opened {
            Ok(socket) => socket,
            Err(error) => {
                let (reason, at) = (Reason::Socket(error), alarm::now());
                self.unopened.push((data, Ended { head, reason, at }));
                return None;
            }
        };
        let wire = match speak {
            Speak::Silence => Wire::Silent,
            Speak::Rtmp(config) | Speak::RtmpAt(_, config) => {
                Wire::Rtmp(Client::new(config, &self.c1_random))
            }
            Speak::HttpFlv(request) => Wire::HttpFlv(HttpFlv::new(&request)),
            Speak::Frames => Wire::Framed(Framed::default()),
        };
        entry.insert(Connection::new(head, socket, wire, data));
        self.timeouts.push_back((self.agenda.now + self.plan.timeout, id));
        Some(id)
    }

    /// Returns a connection for reading.
    pub fn connection(&self, id: ConnectionKey) -> Option<&Connection<S::Conn>> {
        let connection = self.connections.get(id.index as usize);
        connection.filter(|connection| connection.head.id == id && !connection.head.flags.ended)
    }

    /// Returns a connection for writing. The output is sent after all due actions.
    pub fn write(&mut self, id: ConnectionKey) -> Option<&mut Connection<S::Conn>> {
        let connection = self.connections.get_mut(id.index as usize);
        let connection = connection
            .filter(|connection| connection.head.id == id && !connection.head.flags.ended)?;
        if !std::mem::replace(&mut connection.head.flags.is_dirty, true) {
            self.dirty.push(id.index);
            connection.lend(&mut self.spare);
        }
        Some(connection)
    }

    /// Lets a connection read `bytes` at most, and more only after [`Engine::grant_reading`].
    pub fn limit_reading(&mut self, id: ConnectionKey, bytes: usize) {
        let connection = self.connections.get_mut(id.index as usize);
        if let Some(connection) = connection.filter(|connection| connection.head.id == id) {
            connection.limit_reading(bytes);
        }
    }

    /// Lets a connection with limited reading read `bytes`. Connections that have ended are
    /// ignored.
    pub fn grant_reading(&mut self, id: ConnectionKey, bytes: usize) {
        let connection = self.connections.get_mut(id.index as usize);
        let Some(connection) = connection.filter(|connection| connection.head.id == id) else {
            return;
        };
        connection.grant_reading(bytes);
        let flags = &mut connection.head.flags;
        if flags.readable && !std::mem::replace(&mut flags.is_ready, true) {
            self.ready.push(id.index);
        }
    }

    /// Gives a connection that has reached its goal a further goal, measured from `intended`. The
    /// full timeout applies again. Connections that have ended are ignored.
    pub fn go_on(&mut self, id: ConnectionKey, intended: Time, config: ClientConfig) {
        let goal = goal(&config.purpose);
        let Some(connection) = self.write(id) else { return };
        (connection.head.goal, connection.head.phase_at) = (goal, intended);
        if let Some(client) = connection.client() {
            client.go_on(config);
        }
        self.timeouts.push_back((self.agenda.now + self.plan.timeout, id));
    }

    fn run(&mut self, scenario: &mut S) -> Result<(), LoadError> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        while !self.agenda.is_over {
            self.sleep(&mut events)?;
            let woke = alarm::now();
            self.measured.note_wake(woke, self.run_queue.waited_meanwhile());
            self.due_left = DUE_PER_TURN_MAX;
            self.apply_events(&events);
            self.run_due(scenario, woke);
            let mut ready = std::mem::take(&mut self.ready);
            for index in ready.drain(..) {
                self.serve(index, scenario);
                self.run_due(scenario, self.agenda.now);
            }
            // Connections with more to read are on the list again.
            if self.ready.is_empty() {
                self.ready = ready;
            }
            self.end_turn(scenario, woke)?;
        }
        self.end(scenario);
        Ok(())
    }

    fn sleep(&mut self, events: &mut Events) -> io::Result<()> {
        let has_work = !self.ready.is_empty()
            || !self.dirty.is_empty()
            || !self.unopened.is_empty()
            || !self.agenda.ending.is_empty();
        let timeout = if self.plan.is_busy || has_work {
            Some(Duration::ZERO)
        } else {
            let due = self.next_due();
            self.alarm.timeout(due, alarm::now())?
        };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn next_due(&mut self) -> Time {
        let queued = self.agenda.next_due();
        queued.min(self.next_timeout()).min(self.ends_at).min(self.second_at)
    }

    /// Returns the earliest deadline of a connection that has not reached its goal. Drops the
    /// deadlines before it, so that they cause no wakeups.
    fn next_timeout(&mut self) -> Time {
        while let Some((at, id)) = self.timeouts.front().copied() {
            let is_late = |connection: &Connection<_>| {
                connection.head.flags.leaving || !connection.head.is_settled()
            };
            if self.connection(id).is_some_and(is_late) {
                return at;
            }
            self.timeouts.pop_front();
        }
        Time::NEVER
    }

    fn apply_events(&mut self, events: &Events) {
        for event in events {
            let index = match event.token() {
                SIGNALS => {
                    if self.signals.pending().next().is_some() {
                        self.measured.is_interrupted = true;
                        self.agenda.is_over = true;
                    }
                    continue;
                }
                ALARM => continue,
                FIRST_PROCESS => {
                    self.agenda.is_over = true;
                    continue;
                }
                Token(index) => index,
            };
            let Some(connection) = self.connections.get_mut(index) else { continue };
            let flags = &mut connection.head.flags;
            flags.writable |= event.is_writable();
            flags.read_closed |= event.is_read_closed() || event.is_error();
            flags.readable |= event.is_readable() || flags.read_closed;
            if !std::mem::replace(&mut flags.is_ready, true) {
                self.ready.push(index as u32);
            }
        }
    }

    /// Performs the actions that are due at `now` or become due meanwhile, and writes the output
    /// they produced. All calls in one turn perform at most [`DUE_PER_TURN_MAX`] actions.
    fn run_due(&mut self, scenario: &mut S, mut now: Time) {
        loop {
            let batch = self.due_left.min(DUE_PER_FLUSH_MAX);
            let performed = (0..batch).take_while(|_| self.run_one_due(scenario, &mut now)).count();
            self.due_left -= performed;
            while let Some(index) = self.dirty.pop() {
                self.flush(index, scenario);
            }
            if performed < DUE_PER_FLUSH_MAX {
                return;
            }
        }
    }

    /// Performs the earliest action if it is due at `now`, and updates `now`.
    fn run_one_due(&mut self, scenario: &mut S, now: &mut Time) -> bool {
        let Some(entry) = self.agenda.queue.first_entry() else { return false };
        let (intended, _) = *entry.key();
        if intended > *now {
            return false;
        }
        let due = entry.remove();
        *now = alarm::now();
        self.agenda.now = *now;
        self.measured.note_lateness(intended, *now);
        scenario.due(self, due, intended);
        true
    }

    /// Finishes opening a connection, reads within its budget, and writes the replies.
    fn serve(&mut self, index: u32, scenario: &mut S) {
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        connection.head.flags.is_ready = false;
        if connection.head.flags.ended {
            return;
        }
        connection.lend(&mut self.spare);
        let (agenda, measured) = (&mut self.agenda, &mut self.measured);
        let served = Self::read(connection, agenda, &mut self.buffer, measured, scenario);
        match served {
            Ok(Left::Drained) => {}
            Ok(Left::More) => {
                connection.head.flags.is_ready = true;
                self.ready.push(index);
            }
            Err(reason) => return self.end_connection(index, reason),
        }
        self.flush(index, scenario);
    }

    fn read(
        connection: &mut Connection<S::Conn>,
        agenda: &mut Agenda<S::Due>,
        buffer: &mut [u8],
        measured: &mut Measured,
        scenario: &mut S,
    ) -> Result<Left, Reason> {
        if !connection.finish_opening()? {
            return Ok(Left::Drained);
        }
        if connection.head.phase == ConnectionPhase::Opening {
            agenda.now = alarm::now();
            let reached = connection.head.reach(ConnectionPhase::Tcp, agenda.now);
            let Connection { data, head, .. } = connection;
            scenario.event(agenda, data, head, reached);
        }
        let mut budget = limits::READ_BYTES_PER_TURN_MAX;
        while connection.head.flags.readable && !connection.is_paused() {
            let (count, left) = connection.read(buffer)?;
            agenda.now = alarm::now();
            if count > 0 && budget == limits::READ_BYTES_PER_TURN_MAX {
                measured.note_read(agenda.now);
            }
            connection.received(&mut buffer[..count], agenda.now, |data, head, event| {
                scenario.event(agenda, data, head, event);
            })?;
            connection.head.flags.readable = matches!(left, Left::More);
            budget = budget.saturating_sub(count);
            if budget == 0 {
                return Ok(left);
            }
        }
        Ok(Left::Drained)
    }

    fn flush(&mut self, index: u32, scenario: &mut S) {
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        connection.head.flags.is_dirty = false;
        if connection.head.phase == ConnectionPhase::Opening || connection.head.flags.ended {
            return;
        }
        let sent_bytes = connection.head.sent_bytes;
        let flushed = connection.flush(&mut self.spare);
        if connection.head.sent_bytes > sent_bytes {
            self.agenda.now = alarm::now();
            scenario.written(&mut self.agenda, &mut connection.data, &connection.head);
        }
        if let Err(reason) = flushed {
            self.end_connection(index, reason);
        }
    }

    /// Marks a connection as ended. It is removed at the end of the turn.
    fn end_connection(&mut self, index: u32, reason: Reason) {
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        let flags = &mut connection.head.flags;
        if std::mem::replace(&mut flags.ended, true) {
            return;
        }
        let is_end = matches!(reason, Reason::PeerClosed | Reason::Socket(_));
        let reason = if flags.leaving && is_end { Reason::Done } else { reason };
        self.ended.push((index, reason));
    }

    fn end_turn(&mut self, scenario: &mut S, woke: Time) -> Result<(), LoadError> {
        for (id, ending) in std::mem::take(&mut self.agenda.ending) {
            self.apply_ending(id, ending);
        }
        let now = alarm::now();
        self.agenda.now = now;
        while self.next_timeout() <= now {
            let Some((_, id)) = self.timeouts.pop_front() else { break };
            self.end_connection(id.index, Reason::Timeout);
        }
        self.sweep(scenario);
        self.measured.note_turn(woke, now);
        if now >= self.second_at {
            self.second_at = now.plus_millis(SECOND_MS);
            scenario.second(&mut self.agenda)?;
            if self.plan.is_helper {
                processes::say_progress(&scenario.progress());
            } else if self.plan.shows_progress {
                show_progress(now.since(self.agenda.began), &scenario.progress());
            }
        }
        self.end_if_behind(woke, now);
        self.agenda.is_over |= now >= self.ends_at;
        Ok(())
    }

    /// Ends the run if the generator cannot keep its schedule.
    fn end_if_behind(&mut self, woke: Time, now: Time) {
        let behind = now.since(self.agenda.next_due());
        if self.backlog.note(behind, now.since(woke)) {
            let after = now.since(self.agenda.began);
            self.measured.lost_schedule = Some(LostSchedule { behind, after });
            self.agenda.is_over = true;
        }
    }

    fn apply_ending(&mut self, id: ConnectionKey, ending: Ending) {
        let at = self.agenda.now + self.plan.timeout;
        let Some(connection) = self.connections.get_mut(id.index as usize) else { return };
        if connection.head.id != id || connection.head.flags.ended {
            return;
        }
        // A write error does not matter to a connection that ends anyway.
        let _ = connection.flush(&mut self.spare);
        match ending {
            Ending::Close => self.end_connection(id.index, Reason::Done),
            Ending::Leave => {
                connection.head.flags.leaving = true;
                if connection.shutdown().is_err() {
                    return self.end_connection(id.index, Reason::Done);
                }
                self.timeouts.push_back((at, id));
            }
        }
    }

    fn sweep(&mut self, scenario: &mut S) {
        let at = self.agenda.now;
        while let Some((data, ended)) = self.unopened.pop() {
            scenario.closed(&mut self.agenda, data, ended);
        }
        while let Some((index, reason)) = self.ended.pop() {
            let Connection { data, head, .. } = self.connections.remove(index as usize);
            scenario.closed(&mut self.agenda, data, Ended { head, reason, at });
        }
    }

    fn end(&mut self, scenario: &mut S) {
        if self.plan.shows_progress {
            show_progress(self.agenda.now.since(self.agenda.began), "");
        }
        self.measured.finish();
        self.agenda.now = alarm::now();
        for index in 0..self.connections.capacity() {
            self.end_connection(index as u32, Reason::RunOver);
        }
        self.sweep(scenario);
    }
}

/// Shows a progress line. On a terminal it overwrites the line before, and an empty line clears it;
/// elsewhere every line is kept.
fn show_progress(elapsed: Duration, line: &str) {
    let mut err = io::stderr().lock();
    let elapsed_s = elapsed.as_secs();
    let shown = match (err.is_terminal(), line) {
        (true, "") => write!(err, "\r\x1b[K"),
        (true, line) => write!(err, "\r{elapsed_s:4} s  {line}\x1b[K"),
        (false, "") => Ok(()),
        (false, line) => writeln!(err, "{elapsed_s:4} s  {line}"),
    };
    // A failure means that no reader is left, so nothing is lost.
    drop(shown.and_then(|()| err.flush()));
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Opens silent connections, and leaves or closes them as soon as they are connected.
    #[derive(Default)]
    struct Opener {
        wanted: u32,
        leaves: bool,
        intended: Vec<Time>,
        reached: Vec<(u32, ConnectionPhase)>,
        ended: Vec<(u32, &'static str)>,
    }

    impl Scenario for Opener {
        type Conn = u32;
        type Due = u32;

        fn start(&mut self, engine: &mut Engine<Self>) {
            let began = engine.agenda().began();
            (0..self.wanted).for_each(|number| engine.agenda().at(began, number));
        }

        fn due(&mut self, engine: &mut Engine<Self>, due: u32, intended: Time) {
            self.intended.push(intended);
            engine.open(intended, Speak::Silence, due);
        }

        fn event(
            &mut self,
            agenda: &mut Agenda<u32>,
            data: &mut u32,
            head: &ConnectionHead,
            event: ConnectionEvent<'_>,
        ) {
            if let ConnectionEvent::Reached { phase, .. } = event {
                self.reached.push((*data, phase));
                if self.leaves { agenda.leave(head.id) } else { agenda.close(head.id) }
            }
        }

        fn closed(&mut self, agenda: &mut Agenda<u32>, data: u32, ended: Ended) {
            self.ended.push((data, ended.reason.kind()));
            if self.ended.len() == self.wanted as usize {
                agenda.stop();
            }
        }

        fn progress(&self) -> String {
            String::new()
        }
    }

    fn plan(address: SocketAddr, timeout: Duration) -> Plan {
        Plan {
            target: Target::of_address(address),
            duration: Duration::from_secs(60),
            timeout,
            is_busy: false,
            shows_progress: false,
            is_helper: false,
        }
    }

    fn opened(address: SocketAddr, timeout: Duration, leaves: bool) -> Opener {
        let mut opener = Opener { wanted: 3, leaves, ..Opener::default() };
        let measured = run(plan(address, timeout), &mut opener).expect("a run");
        assert_eq!(measured.lateness.histogram().len(), 3);
        assert!(opener.intended.iter().all(|at| *at == opener.intended[0]));
        opener.reached.sort_unstable_by_key(|(number, _)| *number);
        opener.ended.sort_unstable();
        opener
    }

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn connections_that_a_scenario_closes_are_done() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let opener = opened(listener.local_addr().unwrap(), LONG, false);
        assert_eq!(
            opener.reached,
            [(0, ConnectionPhase::Tcp), (1, ConnectionPhase::Tcp), (2, ConnectionPhase::Tcp)]
        );
        assert_eq!(opener.ended, [(0, "done"), (1, "done"), (2, "done")]);
    }

    #[test]
    fn a_server_that_does_not_close_connections_that_are_left_runs_into_the_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let timeout = Duration::from_millis(30);
        let opener = opened(listener.local_addr().unwrap(), timeout, true);
        assert_eq!(opener.ended, [(0, "timeout"), (1, "timeout"), (2, "timeout")]);
    }

    /// Has an action that is always due, until a connection has been opened meanwhile.
    #[derive(Default)]
    struct Overloaded {
        performed: usize,
        is_connected: bool,
        /// Ends the run from the action itself, if nothing else does.
        gives_up_after: usize,
    }

    impl Scenario for Overloaded {
        type Conn = ();
        type Due = ();

        fn start(&mut self, engine: &mut Engine<Self>) {
            let began = engine.agenda().began();
            engine.open(began, Speak::Silence, ());
            engine.agenda().at(began, ());
        }

        fn due(&mut self, engine: &mut Engine<Self>, (): (), intended: Time) {
            self.performed += 1;
            if self.performed < self.gives_up_after {
                engine.agenda().at(intended, ());
            }
        }

        fn event(
            &mut self,
            agenda: &mut Agenda<()>,
            (): &mut (),
            _: &ConnectionHead,
            _: ConnectionEvent<'_>,
        ) {
            self.is_connected = true;
            agenda.stop();
        }

        fn closed(&mut self, _: &mut Agenda<()>, (): (), _: Ended) {}

        fn progress(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn a_generator_that_is_always_behind_still_serves_its_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gives_up_after = 100 * DUE_PER_TURN_MAX;
        let mut overloaded = Overloaded { gives_up_after, ..Overloaded::default() };
        run(plan(listener.local_addr().unwrap(), LONG), &mut overloaded).expect("a run");
        assert!(overloaded.is_connected);
        assert!(overloaded.performed < gives_up_after, "{}", overloaded.performed);
    }

    #[test]
    fn a_refused_connection_is_reported_for_each_attempt() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let opener = opened(address, LONG, false);
        let refused = "connection_refused";
        assert_eq!(opener.ended, [(0, refused), (1, refused), (2, refused)]);
        assert_eq!(opener.reached, []);
    }
}
