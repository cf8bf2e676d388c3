//! The streams that are watched by HLS: viewers, ends of logs, and newest playlists.
//!
//! Owns the viewers, the deadlines of logs, and a few written playlists, since many players ask for
//! the same one. It never touches a log or a connection.

use super::waiting::Waiting;
use crate::limits;
use crate::server::hub::Channel;
use crate::stream::gauge::Gauge;
use crate::stream::ids::{ConnId, Incarnation, StreamId};
use crate::stream::parts::{PartLog, RenditionKind};
use crate::time::Time;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};

/// How long a log is kept after the last request (ms). Players of low latency ask twice a second,
/// others once in a segment.
const UNWATCHED_MS: u64 = 30_000;
/// How long the log of a stream that is over is kept at most (ms). Players that pause may fetch the
/// last segments, and nothing new will come.
const OVER_MS_MAX: u64 = 120_000;
/// How long a connection counts as a viewer after its last request (ms).
const VIEWER_MS: u64 = 10_000;
/// Playlists that are kept for the next requests. Two renditions have one each, and a delta update.
const WRITTEN_MAX: usize = 16;
/// Memory of a watched stream, and of a connection that watches it (bytes). Tables double.
const WATCHED_BYTES: usize = 2 * size_of::<(StreamId, Watched)>();
const VIEWER_BYTES: usize = 2 * size_of::<(ConnId, Time)>();

/// A stream that is watched by HLS.
#[derive(Debug)]
struct Watched {
    /// The log of the stream. A later one of the same stream has other viewers.
    incarnation: Incarnation,
    asked_at: Time,
    /// When the stream has ended; [`Time::NEVER`] before.
    over_at: Time,
    /// Connections with the time of their last request.
    viewers: HashMap<ConnId, Time>,
}

impl Watched {
    /// Returns when the log is to end, if nobody asks for it before.
    const fn ends_at(&self) -> Time {
        let unwatched = self.asked_at.plus_millis(UNWATCHED_MS);
        let over = self.over_at.plus_millis(OVER_MS_MAX);
        if over.as_micros() < unwatched.as_micros() { over } else { unwatched }
    }
}

/// What a media playlist depends on besides the edition of its log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PlaylistKey {
    pub(super) incarnation: Incarnation,
    pub(super) kind: RenditionKind,
    pub(super) skips: bool,
    pub(super) query: String,
}

/// A media playlist, for all who ask for the same.
#[derive(Debug)]
struct WrittenPlaylist {
    key: PlaylistKey,
    edition: u64,
    text: Bytes,
}

/// All streams that are watched by HLS, and the requests that wait for them.
#[derive(Debug)]
pub(in crate::server) struct HlsStreams {
    streams: HashMap<StreamId, Watched>,
    /// Invariant: the number of viewers of all streams.
    viewers_of_all: usize,
    /// The requests that wait for the streams.
    pub(super) waiting: Waiting,
    /// The newest playlists, the last one at the end.
    written: VecDeque<WrittenPlaylist>,
    /// Counts the playlists until the last response with them is sent.
    texts: Gauge,
    /// When the next log may have been without requests for long enough.
    due: Time,
}

impl Default for HlsStreams {
    fn default() -> Self {
        Self {
            streams: HashMap::new(),
            viewers_of_all: 0,
            waiting: Waiting::default(),
            written: VecDeque::new(),
            texts: Gauge::default(),
            due: Time::NEVER,
        }
    }
}

impl HlsStreams {
    /// Returns when the next log may end; [`Time::NEVER`] without streams.
    pub(in crate::server) const fn due(&self) -> Time {
        self.due
    }

    /// Returns whether held requests are left for the next turn.
    pub(in crate::server) fn has_work(&self) -> bool {
        self.waiting.has_next()
    }

    /// Returns the memory that it holds in addition to itself, without the held requests of the
    /// connections (bytes).
    pub(in crate::server) fn held_bytes(&self) -> usize {
        let queries: usize = self.written.iter().map(|written| written.key.query.capacity()).sum();
        self.streams.len() * WATCHED_BYTES
            + self.viewers_of_all * VIEWER_BYTES
            + self.waiting.held_bytes()
            + self.written.len() * size_of::<WrittenPlaylist>()
            + queries
            + self.texts.bytes()
    }

    /// Returns the number of connections that have asked for a part of a stream lately.
    pub(super) fn viewers(&self, stream: StreamId, channel: &Channel, now: Time) -> usize {
        let Some(log) = channel.parts() else { return 0 };
        let is_of_log = |watched: &&Watched| watched.incarnation == log.incarnation();
        let watched = self.streams.get(&stream).filter(is_of_log);
        let is_recent = |at: &&Time| now.millis_since(**at) < VIEWER_MS;
        watched.map_or(0, |watched| watched.viewers.values().filter(is_recent).count())
    }

    /// Notes that a connection has asked for a stream.
    pub(super) fn note_request(&mut self, stream: StreamId, log: &PartLog, id: ConnId, now: Time) {
        let incarnation = log.incarnation();
        if self.streams.get(&stream).is_none_or(|watched| watched.incarnation != incarnation) {
            self.forget(stream);
            let (over_at, viewers) = (Time::NEVER, HashMap::new());
            self.streams.insert(stream, Watched { incarnation, asked_at: now, over_at, viewers });
        }
        let Some(watched) = self.streams.get_mut(&stream) else { return };
        watched.asked_at = now;
        self.viewers_of_all += usize::from(watched.viewers.insert(id, now).is_none());
        self.due = self.due.min(watched.ends_at());
    }

    /// Notes that no further part of a stream will come.
    pub(super) fn note_over(&mut self, stream: StreamId, incarnation: Incarnation, now: Time) {
        let watched = self.streams.get_mut(&stream).filter(|w| w.incarnation == incarnation);
        if let Some(watched) = watched {
            watched.over_at = now;
            self.due = self.due.min(watched.ends_at());
        }
    }

    /// Forgets that a connection has asked for a stream.
    pub(super) fn forget_viewer(&mut self, stream: StreamId, id: ConnId) {
        if let Some(watched) = self.streams.get_mut(&stream) {
            self.viewers_of_all -= usize::from(watched.viewers.remove(&id).is_some());
        }
    }

    /// Forgets the log of a stream. Returns its name, if there was one.
    fn forget(&mut self, stream: StreamId) -> Option<Incarnation> {
        let watched = self.streams.remove(&stream)?;
        self.viewers_of_all -= watched.viewers.len();
        self.written.retain(|written| written.key.incarnation != watched.incarnation);
        Some(watched.incarnation)
    }

    /// Takes all streams, with the names of their logs.
    pub(super) fn take_all(&mut self) -> Vec<(StreamId, Incarnation)> {
        let ids: Vec<_> = self.streams.keys().copied().collect();
        self.due = Time::NEVER;
        ids.into_iter().filter_map(|id| Some((id, self.forget(id)?))).collect()
    }

    /// Takes the streams whose logs are to end, with the names of the logs.
    pub(super) fn take_unwatched(&mut self, now: Time) -> Vec<(StreamId, Incarnation)> {
        let ended = self.streams.iter().filter(|(_, watched)| watched.ends_at() <= now);
        let ended: Vec<_> = ended.map(|(id, _)| *id).collect();
        let ended: Vec<_> =
            ended.into_iter().filter_map(|id| Some((id, self.forget(id)?))).collect();
        self.due = self.streams.values().map(Watched::ends_at).min().unwrap_or(Time::NEVER);
        ended
    }

    /// Returns a playlist in this edition of its log, and the bytes that were written for it.
    /// `write` writes it, if it is not there yet.
    pub(super) fn playlist(
        &mut self,
        key: PlaylistKey,
        edition: u64,
        write: impl FnOnce() -> Option<String>,
    ) -> Option<(Bytes, u32)> {
        if let Some(index) = self.written.iter().position(|written| written.key == key) {
            if self.written[index].edition == edition {
                return Some((self.written[index].text.clone(), 0));
            }
            self.written.remove(index);
        }
        let text = self.texts.share(write()?.into_bytes());
        let len = text.len() as u32;
        self.written.push_back(WrittenPlaylist { key, edition, text: text.clone() });
        let bytes = |written: &VecDeque<WrittenPlaylist>| -> usize {
            written.iter().map(|written| written.text.len()).sum()
        };
        while self.written.len() > WRITTEN_MAX
            || bytes(&self.written) > limits::HLS_WRITTEN_BYTES_MAX
        {
            self.written.pop_front();
        }
        Some((text, len))
    }
}
