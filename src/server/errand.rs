//! Errands: work that needs the system, which the server never touches itself.
//!
//! The loop around the server takes an [`Errand`] with [`Server::next_errand`], works on it, and
//! hands the outcome to [`Server::done`]. This module owns the errands that are out, with their
//! deadlines. A route that never answers costs a deadline and nothing else. It never waits.
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

/// Id of an errand. No two errands of a server have the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrandId(u64);

/// Work for the loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Connects to an address. The outcome is the transport.
    Dial {
        /// Id of the errand.
        id: ErrandId,
        /// The address.
        address: SocketAddr,
    },
    /// Cancels an errand, whose outcome is not needed any more.
    Cancel {
        /// Id of the errand.
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

/// The errands of a server. There are few, so searches are linear.
#[derive(Debug, Default)]
pub(super) struct Errands {
    next: VecDeque<Errand>,
    out: BTreeMap<ErrandId, Dialing>,
    given: u64,
}

impl Errands {
    /// Adds an errand that connects to `address`.
    pub(super) fn dial(&mut self, address: SocketAddr, relayed: Relayed, now: Time) -> ErrandId {
        self.given += 1;
        let id = ErrandId(self.given);
        let until = now.plus_millis(limits::DIAL_MS);
        self.out.insert(id, Dialing { address, relayed, until });
        self.next.push_back(Errand::Dial { id, address });
        id
    }

    /// Returns the first deadline; [`Time::NEVER`] if no errand is out.
    pub(super) fn next_deadline(&self) -> Time {
        self.out.values().map(|dialing| dialing.until).min().unwrap_or(Time::NEVER)
    }

    /// Takes an errand whose deadline has passed.
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
    /// Returns the connection that uses it. `None` means that the transport was dropped, since the
    /// errand is cancelled or the server is going down.
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

    /// Cancels the errands whose deadlines have passed.
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
        let id = self.table.insert(Conn::new(transport, to.into(), peer, now));
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
