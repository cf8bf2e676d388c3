//! Accepting connections: within a budget, with pauses when the system has no descriptors.
//!
//! Decides when to accept, and handles each outcome. It never sees the socket: a [`Listen`] stands
//! for it, so that tests run the same decisions on one in memory.

use super::Server;
use super::lines::Topic;
use super::peer::Protocol;
use super::peer_address::PeerAddress;
use super::stopwatch::Work;
use super::transport::Transport;
use crate::limits;
use crate::stream::ids::ConnId;
use crate::time::Time;
use log::{Level, info, log, warn};
use std::io;

/// How long accepting pauses after the system has refused a connection (ms).
const PAUSE_MS: u64 = 100;

/// A listening socket with edge-triggered readiness.
pub trait Listen {
    /// The transport of the accepted connections.
    type Transport: Transport;

    /// Accepts the next connection.
    fn accept(&mut self) -> Result<(Self::Transport, PeerAddress), AcceptError>;

    /// Registers `transport` for readable and writable events with the token `id`.
    fn register(&mut self, transport: &mut Self::Transport, id: ConnId) -> io::Result<()>;

    /// Returns the protocol of its connections.
    fn protocol(&self) -> Protocol;

    /// Returns the address of the socket, for the log.
    fn name(&self) -> String;
}

/// The reason that no connection was accepted.
#[derive(Debug)]
pub enum AcceptError {
    /// The queue is empty. An edge will announce the next connection.
    Empty,
    /// The connection died in the queue. The next one may be alive.
    Died,
    /// The system has no descriptor or no memory. Connections stay in the queue, and no edge will
    /// announce them.
    Exhausted(io::Error),
    /// Any other error. Connections stay in the queue as well, but free descriptors would not help.
    Refused(io::Error),
}

/// The state of one listening socket.
#[derive(Debug, Default)]
pub struct Acceptor {
    /// Connections may be waiting. The poll reports the edge only once, so this stays set until
    /// [`AcceptError::Empty`].
    pending: bool,
    pause: Option<Pause>,
    /// Accepting failed, and connections have been waiting since. Cleared when the queue is empty.
    /// In between, each connection that ends lets another in, which is not worth a log line.
    starved: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Time,
    /// Number of ended connections at the start of the pause. One more has freed a descriptor.
    closed: u64,
}

impl Acceptor {
    /// Notes an edge: connections are waiting.
    pub const fn edge(&mut self) {
        self.pending = true;
    }

    /// Returns the end of the pause, if there is one.
    pub fn paused_until(&self) -> Option<Time> {
        self.pause.map(|pause| pause.until)
    }
}

impl<T: Transport> Server<T> {
    /// Returns whether a connection may be waiting that can be accepted at `now`. The poll must
    /// then not sleep.
    pub fn can_accept(&self, acceptor: &Acceptor, now: Time) -> bool {
        let is_over = |pause: Pause| pause.until <= now || self.stats.closed_total() > pause.closed;
        acceptor.pending && acceptor.pause.is_none_or(is_over)
    }

    /// Accepts connections until the queue is empty, accepting fails, or the budget of the turn is
    /// used up. The events of the poll must have been noted before: the eviction of a connection
    /// frees its id for a new one.
    pub fn accept_from<L>(&mut self, acceptor: &mut Acceptor, listener: &mut L, now: Time)
    where
        L: Listen<Transport = T>,
    {
        self.stopwatch.start();
        let mut died = 0;
        for _ in 0..limits::ACCEPTS_PER_TURN_MAX {
            if !self.can_accept(acceptor, now) {
                return;
            }
            match listener.accept() {
                Ok((transport, peer)) => {
                    acceptor.pause = None;
                    self.take_accepted(transport, peer, listener, now);
                    self.stopwatch.lap_for(Work::Accepting, || Some(peer));
                }
                Err(AcceptError::Died) => died += 1,
                Err(AcceptError::Empty) => {
                    let starved = std::mem::take(acceptor).starved;
                    if starved {
                        info!("accepting again on {}", listener.name());
                    }
                }
                // A new connection is worth more than the copies that memory files save. The next
                // attempt has their descriptors.
                Err(AcceptError::Exhausted(_)) if self.free_file_descriptors(now) => {}
                Err(AcceptError::Exhausted(error) | AcceptError::Refused(error)) => {
                    // Logged once. The next attempt is after a pause or when a connection ends, so
                    // that the loop neither spins nor forgets the waiting connections.
                    if !std::mem::replace(&mut acceptor.starved, true) {
                        warn!("cannot accept on {}: {error}; trying again", listener.name());
                    }
                    acceptor.pause = Some(self.pause(now));
                }
            }
        }
        // A queue is not full of dead connections for long. The system means another error by it,
        // and without a pause the loop would spin.
        if died == limits::ACCEPTS_PER_TURN_MAX {
            acceptor.pause = Some(self.pause(now));
        }
    }

    fn pause(&self, now: Time) -> Pause {
        Pause { until: now.plus_millis(PAUSE_MS), closed: self.stats.closed_total() }
    }

    fn take_accepted<L>(&mut self, mut transport: T, peer: PeerAddress, listener: &mut L, now: Time)
    where
        L: Listen<Transport = T>,
    {
        if !self.admits(peer, now) {
            return;
        }
        match listener.register(&mut transport, self.next_id()) {
            Ok(()) => {
                self.accept(transport, peer, listener.protocol(), now);
            }
            // May fail for every new connection, for instance when the system is out of epoll
            // watches. So the log is limited.
            Err(error) => {
                let level = self.level(Topic::Failure, Level::Warn, now);
                log!(level, "dropped {peer}: cannot register it for polling: {error}");
            }
        }
    }
}
