//! The streams by name, with the publisher, the players and the tape of each.
//!
//! Owns names, tapes and the lists of players. It knows connections only by id and never touches
//! one: a connection that has to be told something is returned as a value.

use super::costs::StreamCost;
use crate::budget::Budget;
use crate::config::Duplicate;
use crate::limits;
use crate::stream::blocks::Lent;
use crate::stream::frame::MediaFrame;
use crate::stream::framing::{Framing, Watching};
use crate::stream::gauge::Gauge;
use crate::stream::ids::{Endpoint, Incarnation, StreamId};
use crate::stream::latency::{HandedRun, Latency};
use crate::stream::meter::Report;
use crate::stream::parts::PartLog;
use crate::stream::remains::Remains;
use crate::stream::segment::{Discarded, SegmentSettings};
use crate::stream::tape::{Tape, TapeSettings};
use crate::stream::{Outcome, Stream};
use crate::time::Time;
use slab::Slab;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::rc::Rc;

/// How long the end of a stream is delayed for players that have not been sent its last messages
/// (ms).
const LAST_MESSAGES_MS_MAX: u64 = 1000;

/// Bytes of the reference counts of an `Rc`.
const RC_BYTES: usize = 2 * size_of::<usize>();

/// The policy for a second publisher of a stream.
#[derive(Clone, Copy, Debug)]
pub struct DuplicatePolicy {
    /// The rule.
    pub rule: Duplicate,
    /// How long the first publisher must have been silent for a takeover (ms). Its own rhythm may
    /// require a longer silence.
    pub silent_ms: u64,
}

/// A publish that was accepted.
#[derive(Debug)]
pub struct Published {
    /// The stream.
    pub stream: StreamId,
    /// The previous publisher, in case of a takeover.
    pub displaced: Option<Departed>,
}

/// A publisher that no longer publishes.
#[derive(Debug)]
pub struct Departed {
    /// The endpoint of the publisher.
    pub endpoint: Endpoint,
    /// The measurements of its stream.
    pub report: Report,
}

/// The reason to refuse a publish or play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The stream already has a publisher.
    AlreadyPublishing,
    /// The limit of published streams, or of streams with waiting players, is reached.
    TooManyStreams,
}

/// A visit of all players of a stream, a few at a time.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// The slot that is visited next.
    next_slot: usize,
    /// Number of players still to be visited. The list is a ring: a round that is extended by new
    /// messages reaches every player, and visits all of them equally often.
    left: usize,
}

/// A named stream with its publisher and its players, and the time of their next visit.
///
/// Invariant: it has a publisher exactly while its [`Stream`] is live.
#[derive(Debug)]
pub struct Channel {
    name: Rc<str>,
    publisher: Option<Endpoint>,
    stream: Stream,
    players: Vec<Endpoint>,
    /// The partial segments, while somebody watches by HLS.
    parts: Option<Box<PartLog>>,
    /// Whether the stream is in [`Hub::part_news`].
    has_part_news: bool,
    /// Invariant: the number of `players` in each framing.
    watching: Watching,
    /// Deadline for the publisher to return; [`Time::NEVER`] while one is publishing.
    lingers_until: Time,
    /// Time of the next visit to the players; [`Time::NEVER`] if there is no news.
    news_at: Time,
    /// Earliest time to tell the players of another start or end of the stream.
    changes_from: Time,
    /// The visit to the players that is under way.
    round: Round,
    /// Sequence number of the first message after the start of the last visit.
    visited: u64,
    /// The part of [`Hub::held_bytes`] that belongs to this stream (bytes).
    accounted_bytes: usize,
    /// The part of [`Hub::files`] that belongs to this stream.
    accounted_files: usize,
    /// The number of streams that were created before.
    serial: u64,
    /// Allocated with the first message that reaches a player, until the stream ends or the last
    /// player leaves.
    latency: Option<Box<Latency>>,
    cost: StreamCost,
}

impl Channel {
    /// Returns the canonical name.
    pub const fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// Returns its number among all streams. Unlike its id, it is never used again.
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// Returns the tape.
    pub const fn tape(&self) -> &Tape {
        self.stream.tape()
    }

    /// Returns the players.
    pub fn players(&self) -> &[Endpoint] {
        &self.players
    }

    /// Returns the number of players in each framing.
    pub const fn watching(&self) -> &Watching {
        &self.watching
    }

    /// Returns the log of partial segments, if the stream is watched by HLS.
    pub fn parts(&self) -> Option<&PartLog> {
        self.parts.as_deref()
    }

    /// Returns whether anybody reads the tape.
    const fn has_readers(&self) -> bool {
        !self.players.is_empty() || self.parts.is_some()
    }

    /// Returns the slot of the player that is visited next.
    pub(super) fn next_slot(&self) -> usize {
        if self.round.next_slot < self.players.len() { self.round.next_slot } else { 0 }
    }

    /// Returns the publisher, if there is one.
    pub const fn publisher(&self) -> Option<Endpoint> {
        self.publisher
    }

    /// Returns the latency of the messages since the stream has had players, if it has any.
    pub fn latency(&self) -> Option<&Latency> {
        self.latency.as_deref()
    }

    /// Returns what the stream has cost since it was created.
    pub const fn cost(&self) -> &StreamCost {
        &self.cost
    }

    /// Returns whether a player of the stream may be sampled again.
    pub(super) fn is_sample_due(&self, now: Time) -> bool {
        self.latency.as_ref().is_some_and(|latency| latency.sampled_from <= now)
    }

    /// Returns the time of the next visit to the players; [`Time::NEVER`] if there are no news.
    pub const fn news_at(&self) -> Time {
        self.news_at
    }

    /// Returns whether the stream has a publisher.
    pub const fn is_live(&self) -> bool {
        self.publisher.is_some()
    }

    /// Returns whether the stream has a publisher, or may get its publisher back while it lingers.
    pub fn has_begun(&self) -> bool {
        self.publisher.is_some() || self.lingers_until != Time::NEVER
    }

    /// Returns the name of its state, for people and programs: live, or lingering until its
    /// publisher returns, or waiting for a first one.
    pub fn state(&self) -> &'static str {
        match (self.is_live(), self.has_begun()) {
            (true, _) => "live",
            (false, true) => "lingering",
            (false, false) => "waiting",
        }
    }

    /// Memory that the stream holds (bytes). Headers are left out because others share them: see
    /// [`Tape::headers_bytes`].
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + RC_BYTES
            + self.name.len()
            + self.stream.held_bytes()
            + self.parts.as_ref().map_or(0, |log| log.held_bytes())
            + self.players.capacity() * size_of::<Endpoint>()
            + self.latency.as_ref().map_or(0, |_| size_of::<Latency>())
    }

    /// Returns the measurements of the publish under way, if there is one.
    pub fn report(&self, now: Time) -> Option<Report> {
        self.stream.report(now)
    }

    /// Returns the bitrates of the last minutes, the oldest first (bit/s).
    pub fn bitrates(&self, now: Time) -> Vec<u64> {
        self.stream.bitrates(now)
    }

    fn begin_visit(&mut self) {
        self.news_at = Time::NEVER;
        self.visited = self.tape().next_sequence();
    }

    /// Returns whether the next visit brings media to the players. Other visits only tell them of
    /// a start or end of the stream.
    fn has_new_media(&self) -> bool {
        self.news_at != Time::NEVER && self.visited < self.tape().next_sequence()
    }

    fn take_publisher(&mut self, now: Time) -> Option<Departed> {
        let report = self.stream.leave(now)?;
        Some(Departed { endpoint: self.publisher.take()?, report })
    }
}

/// All streams. See the module's head.
#[derive(Debug, Default)]
pub struct Hub {
    channels: Slab<Channel>,
    names: HashMap<Rc<str>, StreamId>,
    /// Streams whose players are visited in this turn.
    fresh: VecDeque<StreamId>,
    /// Streams whose players are visited later, by the time of the visit.
    news: BTreeSet<(Time, StreamId)>,
    /// Streams that wait for their publisher to return, by their deadline.
    lingering: BTreeSet<(Time, StreamId)>,
    /// Invariant: the number of streams for which [`Channel::has_begun`] is true.
    published: usize,
    /// Invariant: the sum of `accounted_bytes` of the streams.
    held_bytes: usize,
    /// Open memory files of all streams. Invariant: the sum of `accounted_files` of the streams.
    files: usize,
    /// The tables are shrunk when there are fewer streams than this.
    shrinks_below: usize,
    /// Blocks that only players still hold, including those of streams that no longer exist.
    lent: Lent,
    /// Counts the headers of all streams until their last holder drops them.
    headers: Gauge,
    /// Streams with messages that are not in their log of partial segments yet.
    part_news: VecDeque<StreamId>,
    /// Counts the partial segments of all streams until their last holder drops them.
    parts: Gauge,
    /// Memory files that were given up and wait to be closed.
    discarded: Discarded,
    /// Messages of streams that are over and wait to be dropped.
    remains: Remains,
    /// Streams ever created.
    created: u64,
    /// Place of the stream with which [`Hub::give_back`] goes on.
    given_back: usize,
    /// The latencies that streams no longer hold.
    past_latency: Latency,
    /// The cost of the streams that no longer exist.
    past_cost: StreamCost,
}

impl Hub {
    /// Returns the channel of the stream with this id, if it exists.
    pub fn get(&self, id: StreamId) -> Option<&Channel> {
        self.channels.get(id.index())
    }

    /// Returns all streams with their ids, in the order of the ids.
    pub fn entries(&self) -> impl Iterator<Item = (StreamId, &Channel)> {
        self.channels.iter().map(|(index, channel)| (StreamId(index as u32), channel))
    }

    /// Returns the channel of the stream with this id, which must exist.
    pub fn channel(&self, id: StreamId) -> &Channel {
        &self.channels[id.index()]
    }

    /// Returns the channel of the stream with this name, if it exists.
    pub fn find(&self, name: &str) -> Option<&Channel> {
        self.names.get(name).map(|id| self.channel(*id))
    }

    /// Returns the id of the stream with this name, if it exists.
    pub fn id_of(&self, name: &str) -> Option<StreamId> {
        self.names.get(name).copied()
    }

    /// Number of streams, including those that only have waiting players.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Returns whether there are no streams.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Returns all streams.
    pub fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter().map(|(_, stream)| stream)
    }

    /// Makes `endpoint` the publisher of `name`. At most `streams_max` streams are published at a
    /// time; 0 is no limit. Streams that only have waiting players do not count.
    ///
    /// # Errors
    /// [`Refusal`] if the stream has a publisher that `policy` protects, or at the limit.
    pub fn publish(
        &mut self,
        name: &str,
        endpoint: Endpoint,
        now: Time,
        policy: &DuplicatePolicy,
        streams_max: usize,
    ) -> Result<Published, Refusal> {
        let known = self.names.get(name).copied();
        let is_published = known.is_some_and(|id| self.channel(id).has_begun());
        if !is_published && streams_max != 0 && self.published >= streams_max {
            return Err(Refusal::TooManyStreams);
        }
        let id = known.unwrap_or_else(|| self.create(name));
        self.published += usize::from(!is_published);
        let channel = &mut self.channels[id.index()];
        if let Some(rhythm) = channel.stream.rhythm() {
            match policy.rule {
                Duplicate::Replace => {}
                Duplicate::ReplaceIfSilent if now >= rhythm.yields_at(policy.silent_ms) => {}
                _ => return Err(Refusal::AlreadyPublishing),
            }
        }
        let displaced = channel.take_publisher(now);
        let lingered = channel.lingers_until != Time::NEVER;
        self.lingering.remove(&(channel.lingers_until, id));
        channel.lingers_until = Time::NEVER;
        let resumes = displaced.is_some() || lingered;
        if !resumes {
            channel.parts = None;
        }
        channel.stream.begin(resumes, now);
        channel.publisher = Some(endpoint);
        if !resumes {
            self.announce_change(id, now);
        }
        self.recompute_accounting(id);
        Ok(Published { stream: id, displaced })
    }

    /// Removes the publisher of a stream. Its players stay for `linger_ms`, in which the publisher
    /// may return.
    pub fn unpublish(&mut self, id: StreamId, now: Time, linger_ms: u64) -> Option<Departed> {
        let channel = &mut self.channels[id.index()];
        let departed = channel.take_publisher(now);
        channel.stream.end();
        channel.lingers_until = now.plus_millis(linger_ms);
        if !channel.has_readers() {
            self.remove(id);
        } else {
            self.lingering.insert((channel.lingers_until, id));
            if channel.has_new_media() {
                // The merge window of the last messages ends now: no further message will come.
                self.visit_players_at(id, now, now);
            }
            self.recompute_accounting(id);
        }
        departed
    }

    /// Returns when the publisher of `id` counts as silent, with a limit of `limit_ms`, and when
    /// it last sent enough bytes.
    pub fn silent_at(&self, id: StreamId, limit_ms: u64) -> Option<(Time, Time)> {
        let rhythm = self.channels[id.index()].stream.rhythm()?;
        Some((rhythm.silent_at(limit_ms), rhythm.heard()))
    }

    /// Notes bytes of a publisher's message that is not complete yet.
    pub fn note_part(&mut self, id: StreamId, bytes: usize, now: Time) {
        self.channels[id.index()].stream.note_part(bytes, now);
    }

    /// Returns the stream `name` for a player, and creates it if necessary. At most `streams_max`
    /// streams without a publisher may have waiting players; 0 is no limit.
    ///
    /// # Errors
    /// [`Refusal::TooManyStreams`] at that limit.
    pub fn find_or_wait(&mut self, name: &str, streams_max: usize) -> Result<StreamId, Refusal> {
        if let Some(id) = self.names.get(name) {
            return Ok(*id);
        }
        if streams_max != 0 && self.channels.len() - self.published >= streams_max {
            return Err(Refusal::TooManyStreams);
        }
        Ok(self.create(name))
    }

    fn create(&mut self, name: &str) -> StreamId {
        let name: Rc<str> = name.into();
        let stream = Stream::new(self.headers.clone());
        let id = StreamId(self.channels.insert(Channel {
            name: Rc::clone(&name),
            publisher: None,
            visited: stream.tape().next_sequence(),
            stream,
            players: Vec::new(),
            parts: None,
            has_part_news: false,
            watching: Watching::default(),
            lingers_until: Time::NEVER,
            news_at: Time::NEVER,
            changes_from: Time::ZERO,
            round: Round::default(),
            accounted_bytes: 0,
            accounted_files: 0,
            serial: self.created,
            latency: None,
            cost: StreamCost::default(),
        }) as u32);
        self.created += 1;
        self.names.insert(name, id);
        self.shrinks_below = self.shrinks_below.max(self.channels.capacity() / 4);
        self.recompute_accounting(id);
        id
    }

    /// Adds a player. Returns its slot in the list.
    pub fn add_player(&mut self, id: StreamId, endpoint: Endpoint, framing: Framing) -> u32 {
        let Channel { players, watching, .. } = &mut self.channels[id.index()];
        watching.add(framing);
        let slot = players.len() as u32;
        if players.len() == players.capacity() {
            // The list grows by an eighth. Doubling would leave up to half of a large list unused.
            players.reserve_exact(players.len() / 8 + 4);
        }
        players.push(endpoint);
        self.recompute_accounting(id);
        slot
    }

    /// Removes a player. Returns the endpoint that now has its slot, if there is one.
    pub fn remove_player(&mut self, id: StreamId, slot: u32, framing: Framing) -> Option<Endpoint> {
        let channel = &mut self.channels[id.index()];
        channel.watching.remove(framing);
        channel.players.swap_remove(slot as usize);
        let moved = channel.players.get(slot as usize).copied();
        if channel.players.is_empty() {
            if !channel.has_readers() && channel.publisher.is_none() {
                self.remove(id);
            } else {
                self.forget_latency(id);
            }
        }
        moved
    }

    /// Records the latency of messages that the kernel had at `at`, for as many players as `weight`
    /// says.
    pub(super) fn note_handed(&mut self, run: HandedRun, weight: usize, at: Time) {
        let Some(channel) = self.channels.get_mut(run.stream.index()) else { return };
        let micros = at.as_micros().saturating_sub(run.arrived.as_micros());
        let count = u64::from(run.messages) * weight as u64;
        match &mut channel.latency {
            Some(latency) => latency.forwarded.record(micros, count),
            None => self.begin_latency(run.stream, micros, count),
        }
    }

    /// Records a sample of a player: the age of the oldest message that its socket holds, if the
    /// kernel has told. The next sample is due at `next`.
    pub(super) fn note_sample(&mut self, id: StreamId, age_us: Option<u64>, next: Time) {
        let Some(latency) = &mut self.channels[id.index()].latency else { return };
        latency.sampled_from = next;
        if let Some(age_us) = age_us {
            latency.unsent.record(age_us, 1);
        }
    }

    #[cold]
    fn begin_latency(&mut self, id: StreamId, micros: u64, messages: u64) {
        let channel = &mut self.channels[id.index()];
        // A message may be handed over while the stream ends or its last player leaves.
        if channel.has_begun() && !channel.players.is_empty() {
            let latency = channel.latency.insert(Box::default());
            latency.forwarded.record(micros, messages);
            self.recompute_accounting(id);
        }
    }

    /// Adds to the cost of a stream.
    #[inline(never)]
    pub(super) fn note_cost(&mut self, id: StreamId, cost: &StreamCost) {
        match self.channels.get_mut(id.index()) {
            Some(channel) => channel.cost.add(cost),
            // The visit that is charged has removed its last player.
            None => self.past_cost.add(cost),
        }
    }

    /// Divides processor time among the streams: see `costs.rs`.
    pub(super) fn divide_cpu(&mut self, cpu_us: u64, busy_us: u64) {
        self.past_cost.take_cpu(cpu_us, busy_us);
        for (_, channel) in &mut self.channels {
            channel.cost.take_cpu(cpu_us, busy_us);
        }
    }

    /// Returns the cost of all streams since the start.
    pub fn cost_of_all(&self) -> StreamCost {
        let mut all = self.past_cost;
        self.iter().for_each(|channel| all.add(&channel.cost));
        all
    }

    /// Adds the latency of a stream to that of the past, and gives its memory back.
    fn forget_latency(&mut self, id: StreamId) {
        if let Some(latency) = self.channels[id.index()].latency.take() {
            self.past_latency.add(&latency);
            self.recompute_accounting(id);
        }
    }

    /// Returns the latency of all streams since the start.
    pub fn latency_of_all(&self) -> Latency {
        let mut all = self.past_latency.clone();
        for latency in self.iter().filter_map(Channel::latency) {
            all.add(latency);
        }
        all
    }

    /// Records a frame of the stream's publisher.
    pub fn record(
        &mut self,
        id: StreamId,
        frame: &MediaFrame<'_>,
        now: Time,
        settings: &TapeSettings,
    ) -> Outcome {
        let channel = &mut self.channels[id.index()];
        let has_readers = channel.has_readers();
        let (outcome, is_news) = channel.stream.record(frame, has_readers, now, settings);
        if is_news {
            if channel.parts.is_some() && !std::mem::replace(&mut channel.has_part_news, true) {
                self.part_news.push_back(id);
            }
            self.visit_players_at(id, now.plus_millis(settings.merge_ms), now);
        }
        self.recompute_accounting(id);
        outcome
    }

    /// Schedules a visit of the players of a stream at `at`, unless an earlier visit is scheduled.
    fn visit_players_at(&mut self, id: StreamId, at: Time, now: Time) {
        let channel = &mut self.channels[id.index()];
        if at >= channel.news_at || channel.players.is_empty() {
            return;
        }
        self.news.remove(&(channel.news_at, id));
        channel.news_at = at;
        if at <= now {
            self.fresh.push_back(id);
        } else {
            self.news.insert((at, id));
        }
    }

    /// Schedules a visit to tell the players that their stream has started or ended. However often
    /// a publisher comes and goes, [`limits::PLAYERS_TOLD_PER_MS`] bounds the pace.
    fn announce_change(&mut self, id: StreamId, now: Time) {
        let channel = &mut self.channels[id.index()];
        let at = channel.changes_from.max(now).min(channel.news_at);
        let apart_ms = channel.players.len() as u64 / limits::PLAYERS_TOLD_PER_MS;
        channel.changes_from = at.plus_millis(apart_ms);
        self.visit_players_at(id, at, now);
    }

    /// Starts a visit to all players of a stream, or extends the one under way to all of them.
    /// Returns whether it has started one.
    pub fn begin_round(&mut self, id: StreamId) -> bool {
        let channel = &mut self.channels[id.index()];
        let begins = channel.round.left == 0;
        channel.round.left = channel.players.len();
        begins && channel.round.left > 0
    }

    /// Takes the player to visit next; `None` once the round is complete or the stream is gone.
    pub fn take_next_in_round(&mut self, id: StreamId) -> Option<Endpoint> {
        let Channel { players, round, .. } = self.channels.get_mut(id.index())?;
        // Players may have left since the round started. Without any, the round is complete.
        let left = round.left.min(players.len());
        round.left = left.saturating_sub(1);
        if left == 0 {
            return None;
        }
        if round.next_slot >= players.len() {
            round.next_slot = 0;
        }
        let player = players.get(round.next_slot).copied();
        round.next_slot += 1;
        player
    }

    /// Takes a stream whose players are to be visited.
    pub fn take_news(&mut self, now: Time) -> Option<StreamId> {
        while let Some(id) = self.fresh.pop_front() {
            // The list may have ids of removed streams. Removing one from it would take a search.
            let channel = self.channels.get_mut(id.index()).filter(|c| c.news_at <= now);
            if let Some(channel) = channel {
                channel.begin_visit();
                return Some(id);
            }
        }
        let (at, id) = *self.news.first().filter(|(at, _)| *at <= now)?;
        self.news.remove(&(at, id));
        self.channels[id.index()].begin_visit();
        Some(id)
    }

    /// Returns whether players are to be visited in the next turn.
    pub fn has_news(&self) -> bool {
        !self.fresh.is_empty() || !self.part_news.is_empty()
    }

    /// Writes new messages of a stream to a memory file, if enough players will read them and as
    /// far as `budget` allows. Returns whether anything was written.
    ///
    /// # Errors
    /// See [`Tape::store`].
    pub fn store(
        &mut self,
        id: StreamId,
        settings: &SegmentSettings,
        budget: &mut Budget,
    ) -> io::Result<bool> {
        let channel = &mut self.channels[id.index()];
        // The files of the other streams, and those that wait to be closed, leave so many.
        let others = self.files - channel.accounted_files + self.discarded.files();
        let files_max = settings.files_max.saturating_sub(others);
        let stored = channel.stream.store(&channel.watching, files_max, settings, budget);
        self.recompute_accounting(id);
        stored
    }

    /// Gives up the memory files of all streams. A few are closed now, which frees their
    /// descriptors, and the others in the following turns. Returns whether any were closed.
    pub fn drop_segments(&mut self) -> bool {
        let ids: Vec<_> = self.channels.iter().map(|(index, _)| StreamId(index as u32)).collect();
        for id in ids {
            // A stream may give up the lists of files even if no file is open.
            self.channels[id.index()].stream.discard_segments(&mut self.discarded);
            self.recompute_accounting(id);
        }
        self.close_files()
    }

    /// Closes some of the memory files that were given up. Returns whether any were closed.
    pub(super) fn close_files(&mut self) -> bool {
        self.discarded.close_some()
    }

    /// Number of memory files that were given up and are not closed yet.
    pub const fn discarded_files(&self) -> usize {
        self.discarded.files()
    }

    /// Number of memory files of all streams, without those that were given up.
    pub const fn files(&self) -> usize {
        self.files
    }

    /// Shrinks the backlogs of all streams to `backlogs_bytes` together, and gives the memory back.
    /// A stream below its share leaves the rest to the others. Returns the share (bytes).
    pub(super) fn shrink_backlogs(
        &mut self,
        backlogs_bytes: usize,
        now: Time,
        settings: &TapeSettings,
    ) -> usize {
        // A bound for all streams together. A fixed bound per stream would cut small streams along
        // with large ones, or not bound the sum.
        let ids = self.with_tape();
        let backlogs = ids.iter().map(|id| self.channel(*id).tape().backlog_bytes());
        let share = fair_share(backlogs_bytes, backlogs.collect());
        let settings = TapeSettings { backlog_bytes_max: share, ..*settings };
        // Streams whose turn does not come go on from where they are the next time.
        let mut left = limits::MESSAGES_DROPPED_PER_TURN_MAX;
        for id in ids {
            let channel = &mut self.channels[id.index()];
            let has_readers = channel.has_readers();
            let dropped = channel.stream.shrink(has_readers, now, &settings, left);
            left = left.saturating_sub(dropped);
            if dropped > 0 {
                // A read position may have left the tape. Its player continues now, even if
                // nothing more is published.
                self.visit_players_at(id, now, now);
            }
            self.recompute_accounting(id);
        }
        share
    }

    /// Returns the streams whose tapes hold memory. Streams that only have waiting players do not.
    fn with_tape(&self) -> Vec<StreamId> {
        let streams = self.channels.iter().filter(|(_, stream)| stream.tape().held_bytes() > 0);
        streams.map(|(index, _)| StreamId(index as u32)).collect()
    }

    /// Gives back unused memory of some tapes, beginning where the last call ended. Returns whether
    /// the last tape was among them.
    pub(super) fn give_back(&mut self) -> bool {
        let end = self.channels.iter().next_back().map_or(0, |(index, _)| index + 1);
        let first = self.given_back;
        let range = first..end.min(first + limits::TAPES_GIVEN_BACK_PER_TURN_MAX);
        self.given_back = if range.end < end { range.end } else { 0 };
        for index in range {
            if let Some(channel) = self.channels.get_mut(index) {
                channel.stream.give_back();
                self.recompute_accounting(StreamId(index as u32));
            }
        }
        self.given_back == 0
    }

    /// Returns streams whose publisher did not return in time, as many as may end in one turn. A
    /// stream waits up to a second until its log of segments has read all messages, its players
    /// have been visited, and `is_served` is true for each of them. What the log has not read by
    /// then is missing in its last segment.
    pub fn ended(&self, now: Time, is_served: impl Fn(&Endpoint) -> bool) -> Vec<StreamId> {
        let due = self.lingering.iter().take_while(|(until, _)| *until <= now);
        let is_over = |(until, id): &&(Time, StreamId)| {
            let is_late = now.millis_since(*until) >= LAST_MESSAGES_MS_MAX;
            let channel = &self.channels[id.index()];
            // The log of a stream may be its only reader, and needs no visit.
            let is_visited =
                channel.players.is_empty() || !channel.has_new_media() && channel.round.left == 0;
            let is_followed = channel.parts.is_none() || !channel.has_part_news;
            is_late || is_followed && is_visited && channel.players.iter().all(&is_served)
        };
        due.filter(is_over).take(limits::STREAMS_ENDED_PER_TURN_MAX).map(|(_, id)| *id).collect()
    }

    /// Ends a stream. It keeps its players and its timeline, and drops all messages.
    pub fn end(&mut self, id: StreamId, now: Time) {
        let channel = &mut self.channels[id.index()];
        self.lingering.remove(&(channel.lingers_until, id));
        channel.lingers_until = Time::NEVER;
        self.published -= 1;
        if let Some(log) = &mut channel.parts {
            log.end();
        }
        self.forget_latency(id);
        let channel = &mut self.channels[id.index()];
        channel.stream.forget(&mut self.discarded, &mut self.remains);
        self.announce_change(id, now);
        self.recompute_accounting(id);
    }

    /// Begins the log of partial segments of a live stream. `unix_ms` is the time of day (ms since
    /// 1970). Returns false if MP4 carries no track of the stream.
    pub fn begin_parts(
        &mut self,
        id: StreamId,
        incarnation: Incarnation,
        unix_ms: u64,
        now: Time,
    ) -> bool {
        let channel = &mut self.channels[id.index()];
        let Some(report) = channel.report(now) else { return false };
        let log = PartLog::new(incarnation, channel.tape(), &report, unix_ms, &self.parts);
        channel.parts = log.map(Box::new);
        let has_begun = channel.parts.is_some();
        if has_begun && !std::mem::replace(&mut channel.has_part_news, true) {
            self.part_news.push_back(id);
        }
        self.recompute_accounting(id);
        has_begun
    }

    /// Makes partial segments of the messages of a stream, within a budget. Returns whether any
    /// were completed.
    pub fn follow_parts(&mut self, id: StreamId, budget: &mut Budget) -> bool {
        let Some(channel) = self.channels.get_mut(id.index()) else { return false };
        channel.has_part_news = false;
        let Some(log) = &mut channel.parts else { return false };
        let followed = log.follow(channel.stream.tape(), budget);
        if followed.is_behind {
            channel.has_part_news = true;
            self.part_news.push_back(id);
        }
        self.recompute_accounting(id);
        followed.has_parts
    }

    /// Drops the log of partial segments of a stream.
    pub fn end_parts(&mut self, id: StreamId) {
        let Some(channel) = self.channels.get_mut(id.index()) else { return };
        channel.parts = None;
        if !channel.has_readers() && channel.publisher.is_none() {
            self.remove(id);
        } else {
            self.recompute_accounting(id);
        }
    }

    /// Makes partial segments of the new messages of all watched streams, within a budget. Calls
    /// `completed` for each stream with new parts.
    pub fn make_parts(&mut self, budget: &mut Budget, mut completed: impl FnMut(StreamId)) {
        for _ in 0..self.part_news.len() {
            if budget.is_spent() {
                return;
            }
            let Some(id) = self.part_news.pop_front() else { return };
            // The list may have ids of removed streams, and ids twice.
            let is_listed = self.channels.get(id.index()).is_some_and(|c| c.has_part_news);
            if is_listed && self.follow_parts(id, budget) {
                completed(id);
            }
        }
    }

    /// Returns when the next stream stops lingering or the next visit is due; [`Time::NEVER`] if
    /// neither is scheduled. [`Hub::has_news`] covers visits in the next turn.
    pub fn next_deadline(&self) -> Time {
        let first = |set: &BTreeSet<(Time, StreamId)>| set.first().map_or(Time::NEVER, |at| at.0);
        first(&self.lingering).min(first(&self.news))
    }

    /// Wire bytes on all tapes.
    pub fn tape_bytes(&self) -> usize {
        self.iter().map(|stream| stream.tape().bytes()).sum()
    }

    /// Memory of the streams, including blocks and headers that only players still hold (bytes).
    pub fn held_bytes(&self) -> usize {
        self.held_bytes + self.shared_bytes()
    }

    /// Memory that is not accounted to a single stream: headers, blocks that only half-sent
    /// messages hold, files that wait to be closed, and unused capacity of the tables (bytes).
    pub fn shared_bytes(&self) -> usize {
        let vacant = self.channels.capacity() - self.channels.len();
        self.headers.bytes()
            + self.parts.bytes()
            + self.lent.bytes()
            + self.discarded.bytes() as usize
            + self.remains.bytes()
            + vacant * size_of::<Channel>()
            + self.names.capacity() * size_of::<(Rc<str>, StreamId)>()
    }

    /// Shrinks tables with room for more than four times the streams. The stream with the highest
    /// id limits how far.
    pub(super) fn give_back_tables(&mut self) {
        if self.channels.len() < self.channels.capacity() / 4 {
            self.shrink_tables();
        }
    }

    /// Shrinks the tables if half of the streams have ended since the last time.
    fn stream_removed(&mut self) {
        if self.channels.len() < self.shrinks_below || self.channels.is_empty() {
            self.shrink_tables();
        }
    }

    fn shrink_tables(&mut self) {
        self.channels.shrink_to_fit();
        self.names.shrink_to_fit();
        // The stream with the highest id may keep the tables large for long. The next removal must
        // not try again, so half of the streams have to end first.
        self.shrinks_below = self.channels.len() / 2;
    }

    /// Drops some messages of streams that are over, and stops counting blocks that were released.
    pub(super) fn sweep(&mut self) {
        self.remains.drop_some();
        self.lent.sweep();
    }

    /// Returns whether memory of streams that are over is still being freed.
    pub fn is_sweeping(&self) -> bool {
        self.discarded.files() > 0 || !self.remains.is_empty()
    }

    /// Updates the sums after a stream has changed.
    fn recompute_accounting(&mut self, id: StreamId) {
        let channel = &mut self.channels[id.index()];
        channel.stream.lend(&mut self.lent);
        let (held, files) = (channel.held_bytes(), channel.tape().files());
        self.held_bytes = self.held_bytes - channel.accounted_bytes + held;
        self.files = self.files - channel.accounted_files + files;
        (channel.accounted_bytes, channel.accounted_files) = (held, files);
    }

    /// Checks the invariants of the hub and its streams. Does nothing in release builds.
    ///
    /// # Panics
    /// If an invariant is broken.
    pub(super) fn check_invariants(&self) {
        let (mut published, mut held, mut files, mut lingering) = (0, 0, 0, 0);
        for (index, channel) in &self.channels {
            let id = StreamId(index as u32);
            channel.stream.check_invariants();
            debug_assert_eq!(channel.publisher.is_some(), channel.stream.is_live());
            debug_assert_eq!(self.names.get(&channel.name), Some(&id), "a name for each stream");
            debug_assert!(channel.publisher.is_none() || channel.lingers_until == Time::NEVER);
            debug_assert!(channel.has_readers() || channel.publisher.is_some(), "an unused stream");
            debug_assert!(channel.visited <= channel.tape().next_sequence());
            debug_assert!(
                channel.latency.is_none() || channel.has_begun() && !channel.players.is_empty(),
                "the latency of a stream without players"
            );
            published += usize::from(channel.has_begun());
            lingering += usize::from(self.lingering.contains(&(channel.lingers_until, id)));
            held += channel.accounted_bytes;
            files += channel.accounted_files;
        }
        debug_assert_eq!(published, self.published, "streams that are published");
        debug_assert_eq!(lingering, self.lingering.len(), "streams whose publisher may return");
        debug_assert_eq!((held, files), (self.held_bytes, self.files), "accounted adds up");
        debug_assert_eq!(self.names.len(), self.channels.len());
    }

    fn remove(&mut self, id: StreamId) {
        self.forget_latency(id);
        let mut channel = self.channels.remove(id.index());
        self.past_cost.add(&channel.cost);
        self.published -= usize::from(channel.has_begun());
        channel.stream.forget(&mut self.discarded, &mut self.remains);
        channel.stream.lend(&mut self.lent);
        self.held_bytes -= channel.accounted_bytes;
        self.files -= channel.accounted_files;
        self.names.remove(&channel.name);
        self.lingering.remove(&(channel.lingers_until, id));
        self.news.remove(&(channel.news_at, id));
        self.stream_removed();
    }
}

/// Returns the bound for each size so that the sum is at most `total` (max-min fairness). If the
/// sum is smaller already, the largest may grow by the rest.
fn fair_share(total: usize, mut sizes: Vec<usize>) -> usize {
    // From the smallest on: each size below an equal share leaves its unused part to the larger
    // ones. An equal split would cut large streams although small ones leave room.
    sizes.sort_unstable();
    let (mut left, mut largest) = (total, 0);
    for (index, size) in sizes.iter().enumerate() {
        let share = left / (sizes.len() - index);
        if *size > share {
            return share;
        }
        left -= size;
        largest = *size;
    }
    largest + left
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::message::{Message, MessageHeader, kind};
    use crate::rtmp::session::Receives;
    use crate::stream::ids::ConnId;
    use crate::test_support::{TAPE, hex, wire_messages};

    const POLICY: DuplicatePolicy =
        DuplicatePolicy { rule: Duplicate::ReplaceIfSilent, silent_ms: 3000 };
    const METADATA: &str = "02 000a 6f6e4d65746144617461 03 0001 77 00 4064000000000000 000009";

    /// Ends the first stream that is due, if there is one.
    fn take_ended(
        hub: &mut Hub,
        now: Time,
        is_served: impl Fn(&Endpoint) -> bool,
    ) -> Option<StreamId> {
        let ended = hub.ended(now, is_served).first().copied();
        ended.inspect(|id| hub.end(*id, now))
    }

    fn at(millis: u64) -> Time {
        Time::ZERO.plus_millis(millis)
    }

    fn endpoint(conn: u32) -> Endpoint {
        Endpoint { conn: ConnId::new(conn), lane: 1 }
    }

    /// A hub with one stream, published by connection 1 since time 0.
    struct Bench {
        hub: Hub,
        stream: StreamId,
    }

    impl Bench {
        fn new() -> Self {
            let mut hub = Hub::default();
            let published = hub.publish("live/a", endpoint(1), at(0), &POLICY, 0).unwrap();
            Self { hub, stream: published.stream }
        }

        fn publish(&mut self, conn: u32, millis: u64) -> Result<Published, Refusal> {
            self.hub.publish("live/a", endpoint(conn), at(millis), &POLICY, 0)
        }

        fn record(&mut self, kind: u8, payload: &[u8]) -> Outcome {
            self.record_with(0, kind, payload, at(0), &TAPE)
        }

        fn record_with(
            &mut self,
            timestamp: u32,
            kind: u8,
            payload: &[u8],
            now: Time,
            settings: &TapeSettings,
        ) -> Outcome {
            let header =
                MessageHeader { chunk_stream_id: 4, timestamp, kind, message_stream_id: 1 };
            self.hub.record(self.stream, &Message { header, payload }.into(), now, settings)
        }

        fn video(&mut self, payload: &str) -> Outcome {
            self.record(kind::VIDEO, &hex(payload))
        }

        fn audio(&mut self, payload: &str) -> Outcome {
            self.record(kind::AUDIO, &hex(payload))
        }

        /// Returns the payloads for a player that joins now at the newest start point.
        fn joined(&self) -> Vec<Vec<u8>> {
            let tape = self.hub.channel(self.stream).tape();
            let Some(start) = tape.start_sequence() else { return self.headers() };
            let mut wire = tape.start_prelude(Receives::ALL).to_vec();
            tape.from(start).for_each(|entry| wire.extend(&entry.wire));
            payloads(&wire)
        }

        fn headers(&self) -> Vec<Vec<u8>> {
            let tape = self.hub.channel(self.stream).tape();
            payloads(&tape.live_prelude(Receives::ALL))
        }
    }

    fn payloads(wire: &[u8]) -> Vec<Vec<u8>> {
        wire_messages(wire, TAPE.chunk_size).into_iter().map(|(_, payload)| payload).collect()
    }

    #[test]
    fn cm_13_a_second_publisher_is_dealt_with_by_rule_and_silence() {
        for (rule, silence_ms, displaces) in [
            (Duplicate::Reject, 1_000_000, false),
            (Duplicate::Replace, 0, true),
            (Duplicate::ReplaceIfSilent, 2999, false),
            (Duplicate::ReplaceIfSilent, 3000, true),
        ] {
            let mut bench = Bench::new();
            bench.hub.add_player(bench.stream, endpoint(7), Framing::Rtmp);
            let policy = DuplicatePolicy { rule, ..POLICY };
            let second = bench.hub.publish("live/a", endpoint(2), at(silence_ms), &policy, 0);
            match second {
                Ok(published) => {
                    assert!(displaces, "{rule:?} after {silence_ms}");
                    assert_eq!(published.displaced.map(|d| d.endpoint), Some(endpoint(1)));
                    assert!(!bench.hub.has_news(), "players notice nothing");
                    assert_eq!(bench.hub.channel(bench.stream).publisher(), Some(endpoint(2)));
                }
                Err(refusal) => {
                    assert_eq!((refusal, displaces), (Refusal::AlreadyPublishing, false));
                    assert_eq!(bench.hub.channel(bench.stream).publisher(), Some(endpoint(1)));
                }
            }
        }
    }

    #[test]
    fn media_ends_the_silence_of_a_publisher() {
        let mut bench = Bench::new();
        for timestamp in [960, 1000] {
            let header =
                MessageHeader { chunk_stream_id: 4, timestamp, kind: 8, message_stream_id: 1 };
            let message = Message { header, payload: &[0xaf, 1] }.into();
            bench.hub.record(bench.stream, &message, at(u64::from(timestamp)), &TAPE);
        }
        assert_eq!(bench.hub.silent_at(bench.stream, 500), Some((at(1500), at(1000))));
        assert_eq!(bench.publish(2, 3999).unwrap_err(), Refusal::AlreadyPublishing);
        assert!(bench.publish(2, 4000).is_ok());
    }

    #[test]
    fn a_share_takes_from_those_that_have_most() {
        for (total, sizes, share) in [
            (100, &[][..], 100),
            (100, &[30], 100),
            (100, &[30, 50], 70),
            (100, &[300], 100),
            (100, &[300, 300], 50),
            (100, &[10, 300, 300], 45),
            (100, &[300, 10, 20], 70),
            (0, &[300, 10], 0),
        ] {
            assert_eq!(fair_share(total, sizes.to_vec()), share, "{total} for {sizes:?}");
        }
    }

    #[test]
    fn streams_that_are_waited_for_and_published_are_bounded_apart() {
        const FULL: Refusal = Refusal::TooManyStreams;
        let mut hub = Hub::default();
        for (name, expected) in [("a", None), ("b", None), ("a", None), ("c", Some(FULL))] {
            assert_eq!(hub.find_or_wait(name, 2).err(), expected, "{name}");
        }
        assert!(hub.find_or_wait("c", 0).is_ok(), "0 is no limit");
        for (name, expected) in [("x", None), ("a", None), ("y", Some(FULL)), ("b", Some(FULL))] {
            let published = hub.publish(name, endpoint(1), at(0), &POLICY, 2);
            assert_eq!(published.err(), expected, "{name}");
        }
        assert_eq!(hub.len(), 4, "a refusal leaves no stream");
        assert!(hub.find_or_wait("x", 2).is_ok(), "a published stream takes no room");
        assert_eq!(hub.find_or_wait("z", 2), Err(FULL), "b and c are waited for");
    }

    #[test]
    fn a_stream_counts_as_published_until_it_is_over() {
        let mut hub = Hub::default();
        let full = |hub: &mut Hub, name| {
            let published = hub.publish(name, endpoint(2), at(0), &POLICY, 1);
            published.err() == Some(Refusal::TooManyStreams)
        };
        let a = hub.find_or_wait("a", 0).unwrap();
        hub.add_player(a, endpoint(7), Framing::Rtmp);
        for _ in 0..2 {
            hub.publish("a", endpoint(1), at(0), &POLICY, 1).unwrap();
            assert!(full(&mut hub, "b"));
            hub.unpublish(a, at(0), 1000);
            assert!(full(&mut hub, "b"), "its publisher may come back");
        }
        assert_eq!(take_ended(&mut hub, at(1000), |_| true), Some(a));
        let b = hub.publish("b", endpoint(2), at(0), &POLICY, 1).unwrap().stream;
        hub.unpublish(b, at(0), 1000);
        hub.publish("a", endpoint(1), at(0), &POLICY, 1).unwrap();
        hub.unpublish(a, at(0), 1000);
        hub.remove_player(a, 0, Framing::Rtmp);
        assert!(hub.is_empty() && !full(&mut hub, "b"), "nothing is counted that is gone");
    }

    #[test]
    fn a_stream_without_publisher_and_players_is_gone() {
        let mut bench = Bench::new();
        bench.hub.unpublish(bench.stream, at(0), 1000);
        assert!(bench.hub.is_empty());
        assert_eq!(bench.hub.next_deadline(), Time::NEVER);

        let mut bench = Bench::new();
        bench.hub.add_player(bench.stream, endpoint(7), Framing::Rtmp);
        bench.hub.unpublish(bench.stream, at(0), 1000);
        assert_eq!((bench.hub.len(), bench.hub.next_deadline()), (1, at(1000)));
        bench.hub.remove_player(bench.stream, 0, Framing::Rtmp);
        assert!(bench.hub.is_empty());
        assert_eq!(bench.hub.next_deadline(), Time::NEVER);
    }

    #[test]
    fn a_stream_lingers_until_its_time_is_over() {
        let mut bench = Bench::new();
        bench.hub.add_player(bench.stream, endpoint(7), Framing::Rtmp);
        bench.video("17 00 000000 0164001f");
        bench.video("17 01 000000 65");
        assert_eq!(bench.hub.take_news(at(0)), Some(bench.stream));
        bench.hub.unpublish(bench.stream, at(0), 1000);
        assert_eq!(take_ended(&mut bench.hub, at(999), |_| true), None);
        assert_eq!(take_ended(&mut bench.hub, at(1000), |_| true), Some(bench.stream));
        assert_eq!(take_ended(&mut bench.hub, at(1000), |_| true), None);
        assert_eq!(bench.hub.tape_bytes(), 0);
        assert!(bench.headers().is_empty(), "a late player waits for another publisher");
        assert!(!bench.hub.channel(bench.stream).has_begun());
        assert_eq!(bench.hub.take_news(at(1000)), Some(bench.stream), "players are told");
        bench.publish(2, 1001).unwrap();
        assert!(bench.hub.channel(bench.stream).has_begun());
        assert_eq!(bench.hub.take_news(at(1001)), Some(bench.stream), "and told again");
    }

    #[test]
    fn players_of_a_publisher_that_comes_and_goes_are_visited_at_a_bounded_pace() {
        let mut bench = Bench::new();
        let players = 100;
        for player in 0..players {
            bench.hub.add_player(bench.stream, endpoint(7 + player), Framing::Rtmp);
        }
        let (mut visits, millis_max) = (0, 30);
        for millis in 0..millis_max {
            bench.hub.unpublish(bench.stream, at(millis), 0);
            take_ended(&mut bench.hub, at(millis), |_| true).unwrap();
            bench.publish(1, millis).unwrap();
            while let Some(stream) = bench.hub.take_news(at(millis)) {
                bench.hub.begin_round(stream);
                visits +=
                    std::iter::from_fn(|| bench.hub.take_next_in_round(stream)).count() as u64;
            }
        }
        assert_eq!(visits, millis_max * limits::PLAYERS_TOLD_PER_MS);
    }

    #[test]
    fn media_does_not_wait_for_the_next_time_that_players_are_told_of_a_change() {
        let mut bench = Bench::new();
        for player in 0..100 {
            bench.hub.add_player(bench.stream, endpoint(7 + player), Framing::Rtmp);
        }
        for is_told in [true, false] {
            bench.hub.unpublish(bench.stream, at(0), 0);
            take_ended(&mut bench.hub, at(0), |_| true).unwrap();
            bench.publish(1, 0).unwrap();
            assert_eq!(bench.hub.take_news(at(0)).is_some(), is_told);
        }
        assert_eq!(bench.hub.next_deadline(), at(10));
        bench.video("17 01 000000 65");
        assert_eq!(bench.hub.take_news(at(0)), Some(bench.stream));
        assert_eq!(bench.hub.next_deadline(), Time::NEVER);
    }

    #[test]
    fn a_round_visits_every_player_and_news_during_it_visits_all_once_more() {
        let mut bench = Bench::new();
        let players: Vec<_> = (0..4).map(|player| endpoint(10 + player)).collect();
        for player in &players {
            bench.hub.add_player(bench.stream, *player, Framing::Rtmp);
        }
        assert_eq!(bench.hub.take_next_in_round(bench.stream), None);
        assert!(bench.hub.begin_round(bench.stream));
        let next = |hub: &mut Hub, count: usize| -> Vec<_> {
            (0..count).filter_map(|_| hub.take_next_in_round(bench.stream)).collect()
        };
        assert_eq!(next(&mut bench.hub, 3), players[..3]);
        assert!(!bench.hub.begin_round(bench.stream), "a round is under way");
        let rest = next(&mut bench.hub, 9);
        assert_eq!(rest, [&players[3..], &players[..3]].concat());
        assert!(bench.hub.begin_round(bench.stream));
        bench.hub.remove_player(bench.stream, 3, Framing::Rtmp);
        bench.hub.remove_player(bench.stream, 2, Framing::Rtmp);
        assert_eq!(next(&mut bench.hub, 9).len(), 2, "no more than there are");
        assert!(bench.hub.begin_round(bench.stream));
        bench.hub.remove_player(bench.stream, 0, Framing::Rtmp);
        bench.hub.remove_player(bench.stream, 0, Framing::Rtmp);
        assert_eq!(bench.hub.take_next_in_round(bench.stream), None);
        bench.hub.add_player(bench.stream, endpoint(7), Framing::Rtmp);
        assert!(bench.hub.begin_round(bench.stream), "the one before is over");
    }

    #[test]
    fn an_ended_stream_waits_a_second_at_most_for_players_that_were_not_written_to() {
        for (waited_ms, is_served, ended) in
            [(0, true, true), (999, false, false), (1000, false, true)]
        {
            let mut bench = Bench::new();
            bench.hub.add_player(bench.stream, endpoint(7), Framing::Rtmp);
            bench.hub.unpublish(bench.stream, at(0), 1000);
            let taken = take_ended(&mut bench.hub, at(1000 + waited_ms), |_| is_served);
            assert_eq!(taken.is_some(), ended, "{waited_ms} ms");
        }
    }

    #[test]
    fn the_last_messages_of_a_stream_wait_for_no_merge_window() {
        let mut bench = Bench::new();
        bench.hub.add_player(bench.stream, endpoint(7), Framing::Rtmp);
        let settings = TapeSettings { merge_ms: 350, ..TAPE };
        bench.record_with(0, kind::AUDIO, &[0xaf, 1, 0x21], at(100), &settings);
        bench.hub.unpublish(bench.stream, at(200), 0);
        assert!(bench.hub.has_news());
        assert_eq!(
            take_ended(&mut bench.hub, at(200), |_| true),
            None,
            "they have not been visited"
        );
        assert_eq!(bench.hub.take_news(at(200)), Some(bench.stream));
        assert_eq!(take_ended(&mut bench.hub, at(200), |_| true), Some(bench.stream));
    }

    #[test]
    fn the_time_of_players_goes_on_when_their_stream_begins_again() {
        let mut bench = Bench::new();
        bench.hub.add_player(bench.stream, endpoint(7), Framing::Rtmp);
        bench.record_with(7000, kind::AUDIO, &[0xaf, 1, 0x21], at(0), &TAPE);
        assert!(bench.hub.take_news(at(0)).is_some());
        bench.hub.unpublish(bench.stream, at(0), 1000);
        assert!(take_ended(&mut bench.hub, at(1000), |_| true).is_some());
        bench.publish(2, 5000).unwrap();
        let before = bench.hub.channel(bench.stream).tape().live_prelude(Receives::ALL);
        assert!(before.is_empty());
        for (sent, millis) in [(0, 5000), (21, 5021)] {
            bench.record_with(sent, kind::AUDIO, &[0xaf, 1, 0x21], at(millis), &TAPE);
        }
        let tape = bench.hub.channel(bench.stream).tape();
        let wire: Vec<_> = tape.from(0).flat_map(|entry| entry.wire.to_vec()).collect();
        let timestamps = wire_messages(&wire, TAPE.chunk_size);
        let timestamps: Vec<_> = timestamps.iter().map(|(header, _)| header.timestamp).collect();
        assert_eq!(timestamps, [12_000, 12_021]);
    }

    #[test]
    fn a_publisher_that_returns_while_the_stream_lingers_ends_the_lingering() {
        let mut bench = Bench::new();
        bench.hub.add_player(bench.stream, endpoint(7), Framing::Rtmp);
        bench.hub.unpublish(bench.stream, at(0), 1000);
        let published = bench.publish(2, 999).unwrap();
        assert!(published.displaced.is_none() && !bench.hub.has_news());
        assert_eq!(bench.hub.next_deadline(), Time::NEVER);
    }

    #[test]
    fn unused_memory_of_many_tapes_is_given_back_in_several_steps() {
        const PER_TURN: usize = limits::TAPES_GIVEN_BACK_PER_TURN_MAX;
        let mut hub = Hub::default();
        assert!(hub.give_back(), "without any stream");
        for stream in 0..2 * PER_TURN + 1 {
            hub.publish(&format!("live/{stream}"), endpoint(1), at(0), &POLICY, 0).unwrap();
        }
        let done: Vec<_> = (0..6).map(|_| hub.give_back()).collect();
        assert_eq!(done, [false, false, true, false, false, true]);
        hub.give_back();
        for stream in 0..2 * PER_TURN {
            hub.unpublish(StreamId(stream as u32), at(0), 0);
        }
        let done: Vec<_> = (0..2).map(|_| hub.give_back()).collect();
        assert_eq!(done, [false, true], "the last stream is still in its place");
    }

    #[test]
    fn the_last_player_takes_the_slot_of_one_that_leaves() {
        let mut bench = Bench::new();
        for conn in 10..13 {
            bench.hub.add_player(bench.stream, endpoint(conn), Framing::Rtmp);
        }
        assert_eq!(bench.hub.remove_player(bench.stream, 0, Framing::Rtmp), Some(endpoint(12)));
        assert_eq!(bench.hub.remove_player(bench.stream, 1, Framing::Rtmp), None);
        assert_eq!(bench.hub.channel(bench.stream).players(), [endpoint(12)]);
    }

    #[test]
    fn news_names_a_stream_once_and_only_if_somebody_plays() {
        let mut bench = Bench::new();
        bench.audio("af 01 21");
        assert_eq!(bench.hub.take_news(at(0)), None);
        bench.hub.add_player(bench.stream, endpoint(7), Framing::Rtmp);
        bench.audio("af 01 21");
        bench.audio("af 01 22");
        assert_eq!(bench.hub.take_news(at(0)), Some(bench.stream));
        assert_eq!(bench.hub.take_news(at(0)), None);
        bench.audio("af 01 23");
        bench.hub.unpublish(bench.stream, at(0), 1000);
        bench.hub.remove_player(bench.stream, 0, Framing::Rtmp);
        let stream = bench.publish(1, 0).unwrap().stream;
        assert_eq!(stream, bench.stream, "another stream in the same place");
        assert_eq!(bench.hub.take_news(at(0)), None, "a stream that is gone has no news");
        bench.hub.add_player(stream, endpoint(7), Framing::Rtmp);
        bench.audio("af 01 24");
        assert_eq!(bench.hub.take_news(at(0)), Some(stream));
        assert_eq!(bench.hub.take_news(at(0)), None);
    }

    #[test]
    fn what_arrives_within_the_merge_window_is_given_at_its_end() {
        let mut bench = Bench::new();
        bench.hub.add_player(bench.stream, endpoint(7), Framing::Rtmp);
        let record = |bench: &mut Bench, millis| {
            let header = MessageHeader {
                chunk_stream_id: 4,
                timestamp: 0,
                kind: kind::AUDIO,
                message_stream_id: 1,
            };
            let message = Message { header, payload: &[0xaf, 1, 0x21] }.into();
            let settings = TapeSettings { merge_ms: 350, ..TAPE };
            bench.hub.record(bench.stream, &message, at(millis), &settings);
        };
        record(&mut bench, 100);
        record(&mut bench, 400);
        assert_eq!(bench.hub.next_deadline(), at(450));
        assert_eq!(bench.hub.take_news(at(449)), None);
        assert_eq!(bench.hub.take_news(at(450)), Some(bench.stream));
        assert_eq!((bench.hub.take_news(at(450)), bench.hub.next_deadline()), (None, Time::NEVER));
        record(&mut bench, 460);
        assert_eq!(bench.hub.next_deadline(), at(810), "the next window begins with it");
    }

    #[test]
    fn fl_01_a_newcomer_gets_the_configurations_and_the_gop() {
        let mut bench = Bench::new();
        let video = "17 00 000000 0164001f";
        let keyframe = "17 01 000000 00000001 65";
        for payload in [video, keyframe, "27 01 000000 41", keyframe, "27 01 000000 42"] {
            bench.video(payload);
            bench.audio("af 00 1210");
        }
        let expected =
            ["af 00 1210", video, keyframe, "af 00 1210", "27 01 000000 42", "af 00 1210"];
        assert_eq!(bench.joined(), expected.map(hex));
    }

    #[test]
    fn fl_02_an_end_of_sequence_does_not_reset_the_gop() {
        let mut bench = Bench::new();
        bench.video("17 01 000000 65");
        bench.video("17 02 000000");
        assert_eq!(bench.joined(), ["17 01 000000 65", "17 02 000000"].map(hex));
    }

    #[test]
    fn fl_03_messages_that_cannot_be_classified_are_dropped_without_other_effects() {
        let mut bench = Bench::new();
        bench.hub.add_player(bench.stream, endpoint(7), Framing::Rtmp);
        for (outcome, expected) in [
            (bench.video(""), Outcome::Malformed),
            (bench.video("17"), Outcome::Malformed),
            (bench.audio("af"), Outcome::Malformed),
            (bench.audio(""), Outcome::Taken),
            (bench.record(kind::DATA_AMF0, &[2, 0]), Outcome::Malformed),
        ] {
            assert_eq!(outcome, expected);
        }
    }

    #[test]
    fn fl_08_an_empty_configuration_leaves_a_good_one_cached() {
        let mut bench = Bench::new();
        bench.video("17 00 000000 0164001f");
        bench.video("17 00 000000");
        bench.audio("af 00 1210");
        bench.audio("af 00");
        assert_eq!(bench.headers(), ["af 00 1210", "17 00 000000 0164001f"].map(hex));
    }

    #[test]
    fn ex_01_enhanced_video_is_cached_like_legacy_video() {
        let mut bench = Bench::new();
        let (config, key, inter) = ("90 68766331 0101", "91 68766331 000050 26", "a3 68766331 02");
        for payload in [config, key, inter] {
            bench.video(payload);
        }
        assert_eq!(bench.joined(), [config, key, inter].map(hex));
    }

    #[test]
    fn ex_02_colour_information_is_cached_and_begins_no_gop() {
        let mut bench = Bench::new();
        let color = "d4 68766331 02 0009 636f6c6f72496e666f 03 000009";
        bench.video(color);
        assert_eq!(bench.hub.channel(bench.stream).tape().start_sequence(), None);
        bench.video("90 68766331 0101");
        assert_eq!(bench.headers(), ["90 68766331 0101", color].map(hex));
    }

    #[test]
    fn ex_03_commands_and_ex_11_unknown_codecs_are_relayed() {
        let mut bench = Bench::new();
        bench.hub.add_player(bench.stream, endpoint(7), Framing::Rtmp);
        for payload in ["d0 00", "90 61626364 01", "91 61626364 01"] {
            assert_ne!(bench.video(payload), Outcome::Malformed, "{payload}");
        }
        let relayed: Vec<_> =
            bench.hub.channel(bench.stream).tape().from(0).map(|e| e.wire.len()).collect();
        assert_eq!(relayed[0], 12 + 2);
    }

    #[test]
    fn ex_05_a_mod_ex_that_does_not_hold_together_is_dropped() {
        let mut bench = Bench::new();
        assert_eq!(bench.video("97 ff ffff 00"), Outcome::Malformed);
    }

    #[test]
    fn ex_06_each_track_keeps_its_configuration() {
        let mut bench = Bench::new();
        let configs = ["95 00 6d703461 01 1210", "96 00 68766331 00 01", "96 00 68766331 01 02"];
        bench.audio(configs[0]);
        bench.video(configs[1]);
        bench.video(configs[2]);
        assert_eq!(bench.headers(), configs.map(hex));
    }

    #[test]
    fn ex_08_nested_multitrack_is_dropped() {
        let mut bench = Bench::new();
        assert_eq!(bench.video("96 06 68766331 00"), Outcome::Malformed);
    }

    #[test]
    fn ex_09_audio_configuration_and_channel_layout_are_cached_in_order() {
        let mut bench = Bench::new();
        let (config, layout) = ("90 4f707573 4f70757348656164", "94 4f707573 01 01 00000004");
        bench.audio(layout);
        bench.audio(config);
        bench.audio("91 4f707573 fc");
        assert_eq!(bench.headers(), [config, layout].map(hex));
    }

    #[test]
    fn metadata_is_cached_until_it_is_cleared() {
        let mut bench = Bench::new();
        let set = "02 000d 407365744461746146 72616d65";
        bench.record(kind::DATA_AMF0, &hex(&format!("{set} {METADATA}")));
        assert_eq!(bench.headers().len(), 1);
        assert!(bench.headers()[0].starts_with(&hex("02 000a 6f6e4d65746144617461 08")));
        let clear = "02 000f 40636c65617244617461 4672616d65 02 000a 6f6e4d65746144617461";
        assert_eq!(bench.record(kind::DATA_AMF0, &hex(clear)), Outcome::Parsed);
        assert!(bench.headers().is_empty());
    }

    #[test]
    fn a_stream_that_only_its_log_reads_ends_without_a_visit() {
        let mut bench = Bench::new();
        let merging = TapeSettings { merge_ms: 100, ..TAPE };
        bench.audio("af00 1190");
        let slot = bench.hub.add_player(bench.stream, endpoint(7), Framing::Rtmp);
        bench.record_with(0, kind::AUDIO, &hex("af01 00"), at(0), &merging);
        assert!(bench.hub.begin_parts(bench.stream, Incarnation(1), 0, at(0)));
        bench.hub.remove_player(bench.stream, slot, Framing::Rtmp);
        bench.hub.make_parts(&mut { Budget::PARTS }, |_| {});
        bench.hub.unpublish(bench.stream, at(10), 0);
        assert_eq!(take_ended(&mut bench.hub, at(10), |_| true), Some(bench.stream));
    }

    #[test]
    fn a_stream_ends_when_its_log_has_read_the_last_message_or_a_second_later() {
        for reads_in_time in [true, false] {
            let mut bench = Bench::new();
            bench.audio("af00 1190");
            bench.audio("af01 00");
            assert!(bench.hub.begin_parts(bench.stream, Incarnation(1), 0, at(0)));
            for index in 0..300 {
                bench.record_with(index * 20, kind::AUDIO, &[0xaf, 1, 0], at(0), &TAPE);
            }
            bench.hub.unpublish(bench.stream, at(10), 0);
            let a_few = Budget { messages: 100, ..Budget::PARTS };
            bench.hub.make_parts(&mut { a_few }, |_| {});
            assert_eq!(take_ended(&mut bench.hub, at(10), |_| true), None);
            assert!(bench.hub.has_news(), "the next turn goes on");
            let end_ms = if reads_in_time {
                bench.hub.make_parts(&mut { Budget::PARTS }, |_| {});
                20
            } else {
                10 + LAST_MESSAGES_MS_MAX
            };
            assert_eq!(take_ended(&mut bench.hub, at(end_ms), |_| true), Some(bench.stream));
            assert!(bench.hub.channel(bench.stream).parts().unwrap().is_over());
        }
    }
}
