//! A stream that is sent to another server, as a publisher there.
//!
//! Owns the facts of a relay: the local stream, and the application and key at the other end. The
//! relayed stream is played like any other, with a read position on its tape. The lane is the
//! message stream that the other server gave. This module opens no socket: that is an errand. The
//! caller decides when a relay begins and whether it is tried again.

use super::Server;
use super::errand::ErrandId;
use super::peer::Uplink;
use super::reason::CloseReason;
use super::role::TOO_MANY_WAITED_FOR;
use super::stages::Stage;
use super::transport::Transport;
use crate::config::Start;
use crate::rtmp::client::{ClientConfig, Purpose};
use crate::rtmp::session::Receives;
use crate::stream::framing::Framing;
use crate::stream::ids::{ConnId, Endpoint};
use crate::time::Time;
use log::info;
use std::net::SocketAddr;
use std::rc::Rc;

/// The destination of a relay.
#[derive(Clone, Debug)]
pub struct RelayTarget {
    /// The address of the other server.
    pub address: SocketAddr,
    /// The application there.
    pub app: String,
    /// The stream key there.
    pub key: String,
}

/// A local stream and its destination.
#[derive(Debug)]
pub(super) struct Relayed {
    name: Rc<str>,
    target: RelayTarget,
}

impl Relayed {
    /// Returns the canonical name of the local stream.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the memory that it holds in addition to itself (bytes).
    pub(super) fn held_bytes(&self) -> usize {
        self.name.len() + self.target.app.capacity() + self.target.key.capacity()
    }

    /// Returns the configuration of the client at this end. Its chunk size is that of the tape.
    pub(super) fn client_config(&self, chunk_size: u32) -> ClientConfig {
        let RelayTarget { address, app, key } = &self.target;
        let purpose = Purpose::Publish { key: key.clone() };
        let config = ClientConfig::new(app, format!("rtmp://{address}/{app}"), purpose);
        ClientConfig { chunk_size, ..config }
    }
}

impl<T: Transport> Server<T> {
    /// Sends the stream called `name` to another server from its newest keyframe on, once that
    /// server takes it. A stream that is not published yet is waited for.
    pub fn relay(&mut self, name: &str, target: RelayTarget, now: Time) -> ErrandId {
        let address = target.address;
        self.errands.dial(address, Relayed { name: name.into(), target }, now)
    }

    /// Handles the accepted connect of a relay.
    pub(super) fn relay_let_in(&mut self, id: ConnId, now: Time) {
        self.enter_stage(id, Stage::Connected, now);
        self.arm_ping(id, now);
    }

    /// Begins to send the stream, whose publish the other server has accepted.
    pub(super) fn relay_begins(&mut self, id: ConnId, now: Time) {
        let conn = &self.table[id];
        let Some(Uplink { client, relayed }) = conn.peer.uplink() else { return };
        let lane = client.message_stream_id();
        let streams_max = self.settings.limits.streams_max;
        let Ok(stream) = self.hub.find_or_wait(relayed.name(), streams_max) else {
            let detail = TOO_MANY_WAITED_FOR.to_owned();
            return self.close(id, CloseReason::StreamLimit, detail, now);
        };
        let name = self.policies.access.shown(relayed.name());
        info!("{name} is relayed to {}", conn.address());
        let endpoint = Endpoint { conn: id, lane };
        let framing = Framing::Rtmp;
        self.begin_playing(stream, endpoint, framing, Start::Keyframe, Receives::ALL, now);
    }

    /// Closes a relay that the other server has refused.
    pub(super) fn relay_refused(&mut self, id: ConnId, detail: String, now: Time) {
        self.close(id, CloseReason::RelayRefused, detail, now);
    }
}
