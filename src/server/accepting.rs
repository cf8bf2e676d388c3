//! Accepting: connections as they come, within a budget, through times without descriptors too.
//!
//! Owns when a listening socket is asked, and what becomes of each answer. It never sees the
//! socket: that is a [`Listen`], so that tests run the same decisions over one in memory.

use super::Server;
use super::lines::Topic;
use super::peer::Protocol;
use super::stopwatch::Work;
use super::transport::Transport;
use crate::limits;
use crate::stream::ids::ConnId;
use crate::time::Time;
use log::{Level, info, log, warn};
use std::io;
use std::net::SocketAddr;

/// How long accepting pauses after the system has refused a connection (ms).
const PAUSE_MS: u64 = 100;

/// What accepting needs of a listening socket, whose readiness is edge-triggered.
pub trait Listen {
    /// What it accepts.
    type Transport: Transport;

    /// Takes the next connection.
    fn accept(&mut self) -> Result<(Self::Transport, SocketAddr), AcceptError>;

    /// Has the poll report what becomes readable and writable on `transport` as `id`.
    fn register(&mut self, transport: &mut Self::Transport, id: ConnId) -> io::Result<()>;

    /// What its connections speak.
    fn protocol(&self) -> Protocol;

    /// The address that is listened on, for the log.
    fn name(&self) -> String;
}

/// Why there is no connection to take.
#[derive(Debug)]
pub enum AcceptError {
    /// None waits. An edge tells of the next one.
    Empty,
    /// The connection died in the queue; the next one may be well.
    Died,
    /// No descriptor or no memory is to be had. The connections wait on, and no edge will tell
    /// of them.
    Exhausted(io::Error),
    /// Anything else that the system refused. The connections wait on likewise, but descriptors
    /// would not help them.
    Refused(io::Error),
}

/// What is known of one listening socket.
#[derive(Debug, Default)]
pub struct Acceptor {
    /// Connections may be waiting. The poll tells of the edge only once, so this stays set
    /// until accepting said that there are none.
    pending: bool,
    pause: Option<Pause>,
    /// Accepting failed, and connections wait since. It is over when none waits any more: while
    /// each that ends lets one in, there is nothing new to say.
    starved: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Time,
    /// Connections that had ended when it began: one more has freed a descriptor.
    closed: u64,
}

impl Acceptor {
    /// Notes the edge: connections wait.
    pub const fn edge(&mut self) {
        self.pending = true;
    }

    /// When accepting is to be tried again, if it pauses.
    pub fn paused_until(&self) -> Option<Time> {
        self.pause.map(|pause| pause.until)
    }
}

impl<T: Transport> Server<T> {
    /// Whether there may be a connection to take at `now`, so that the poll must not sleep.
    pub fn can_accept(&self, acceptor: &Acceptor, now: Time) -> bool {
        let is_over = |pause: Pause| pause.until <= now || self.stats.closed_total() > pause.closed;
        acceptor.pending && acceptor.pause.is_none_or(is_over)
    }

    /// Takes connections until none waits, none can be taken, or the budget of the turn is used
    /// up. To be called when the events of the poll have been noted, since a connection that
    /// gives way frees its id for a new one.
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
                // A newcomer is worth more than what memory files spare: the next try has theirs.
                Err(AcceptError::Exhausted(_)) if self.free_file_descriptors(now) => {}
                Err(AcceptError::Exhausted(error) | AcceptError::Refused(error)) => {
                    // Said once, tried again when one is freed or a moment has passed, so that
                    // the loop neither spins nor forgets the connections that wait.
                    if !std::mem::replace(&mut acceptor.starved, true) {
                        warn!("cannot accept on {}: {error}; trying again", listener.name());
                    }
                    acceptor.pause = Some(self.pause(now));
                }
            }
        }
        // No queue is full of dead connections for long: the system means something else by it.
        if died == limits::ACCEPTS_PER_TURN_MAX {
            acceptor.pause = Some(self.pause(now));
        }
    }

    fn pause(&self, now: Time) -> Pause {
        Pause { until: now.plus_millis(PAUSE_MS), closed: self.stats.closed_total() }
    }

    fn take_accepted<L>(&mut self, mut transport: T, peer: SocketAddr, listener: &mut L, now: Time)
    where
        L: Listen<Transport = T>,
    {
        if !self.admits(&peer, now) {
            return;
        }
        match listener.register(&mut transport, self.next_id()) {
            Ok(()) => {
                self.accept(transport, peer, listener.protocol(), now);
            }
            // It may hold for each newcomer, as when the system has no more watches to give.
            Err(error) => {
                let level = self.level(Topic::Failure, Level::Warn, now);
                log!(level, "cannot poll {peer}: {error}; dropped");
            }
        }
    }
}
