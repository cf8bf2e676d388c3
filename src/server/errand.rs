//! Errands: what the server wants done that it cannot do, since it sees no socket and no system.
//!
//! The loop around the server takes an [`Errand`] with [`Server::next_errand`], works on it for as
//! long as it takes, and hands the outcome to [`Server::done`]. Owns the errands that are out, and
//! their deadlines: a name, a route or a disk that never answers costs a deadline and nothing else.
//! It never waits.
//!
//! ```text
//!           next_errand           done
//! noted ─────────────────▶ out ────────▶ settled
//!                           │ deadline                  done, too late
//!                           ▼                   cancelled ──────────▶ the outcome is dropped
//!                       cancelled, and the loop is told
//! ```

use super::Server;
use super::conn::Conn;
use super::peer::{Peer, Uplink};
use super::relaying::Relayed;
use super::transport::Transport;
use crate::limits;
use crate::rtmp::client::Client;
use crate::stream::ids::ConnId;
use crate::time::Time;
use log::warn;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// Names one errand. Each is given out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrandId(u64);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Connect to an address. The outcome is the transport.
    Dial {
        /// Which errand.
        id: ErrandId,
        /// Where to.
        address: SocketAddr,
    },
    /// Nobody waits for the outcome any more.
    Cancel {
        /// Which errand.
        id: ErrandId,
    },
}

/// An errand that is out.
#[derive(Debug)]
struct Dialing {
    address: SocketAddr,
    relayed: Relayed,
    until: Time,
}

/// The errands of a server. There are few.
#[derive(Debug, Default)]
pub(super) struct Errands {
    next: VecDeque<Errand>,
    out: BTreeMap<ErrandId, Dialing>,
    given: u64,
}

impl Errands {
    /// Has the loop dial.
    pub(super) fn dial(&mut self, address: SocketAddr, relayed: Relayed, now: Time) -> ErrandId {
        self.given += 1;
        let id = ErrandId(self.given);
        let until = now.plus_millis(limits::DIAL_MS);
        self.out.insert(id, Dialing { address, relayed, until });
        self.next.push_back(Errand::Dial { id, address });
        id
    }

    /// When the first of them has to be done; [`Time::NEVER`] if none is out.
    pub(super) fn next_deadline(&self) -> Time {
        self.out.values().map(|dialing| dialing.until).min().unwrap_or(Time::NEVER)
    }

    /// Takes one that is late.
    fn take_late(&mut self, now: Time) -> Option<(ErrandId, Dialing)> {
        let (id, _) = self.out.iter().find(|(_, dialing)| dialing.until <= now)?;
        let id = *id;
        let dialing = self.out.remove(&id)?;
        Some((id, dialing))
    }
}

impl<T: Transport> Server<T> {
    /// Takes the next errand.
    pub fn next_errand(&mut self) -> Option<Errand> {
        self.errands.next.pop_front()
    }

    /// Takes the outcome of an errand. A transport must be registered under [`Server::next_id`].
    /// Returns the connection that uses it; without one the transport is dropped, since nobody
    /// waits for it any more.
    pub fn done(&mut self, id: ErrandId, outcome: io::Result<T>, now: Time) -> Option<ConnId> {
        let Dialing { address, relayed, .. } = self.errands.out.remove(&id)?;
        match outcome {
            Ok(_) if self.draining => None,
            Ok(transport) => Some(self.dialed(transport, address, relayed, now)),
            Err(error) => {
                self.not_dialed(address, &relayed, &error);
                None
            }
        }
    }

    /// Gives up errands that are late.
    pub(super) fn cancel_late_errands(&mut self, now: Time) {
        while let Some((id, Dialing { address, relayed, .. })) = self.errands.take_late(now) {
            self.errands.next.push_back(Errand::Cancel { id });
            self.not_dialed(address, &relayed, &ErrorKind::TimedOut.into());
        }
    }

    fn dialed(&mut self, transport: T, to: SocketAddr, relayed: Relayed, now: Time) -> ConnId {
        self.stats.dialed += 1;
        let config = relayed.client_config(self.policies.session.chunk_size);
        let client = Client::new(config, self.policies.session.hello.c1_random());
        let peer = Peer::RtmpClient(Box::new(Uplink { client, relayed }));
        let id = self.table.insert(Conn::new(transport, to, peer, now));
        self.arm_stage(id, now);
        self.table.queue_write(id);
        id
    }

    fn not_dialed(&mut self, address: SocketAddr, relayed: &Relayed, error: &io::Error) {
        self.stats.dials_failed += 1;
        let name = self.policies.access.shown(relayed.name());
        warn!("{name} is not relayed: cannot connect to {address}: {error}");
    }
}
