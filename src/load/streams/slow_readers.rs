//! Slow readers: players that read at a limited rate, as over a bad line.
//!
//! Owns their flags, their connections and their counts. They are counted apart: nothing that they
//! receive is checked, and no latency or loss of theirs enters another figure. They show what a
//! server does with a player that cannot keep up, and whether it spares the others.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;

use super::results::count;
use super::{Due, Side, Streams};
use crate::load::connection::{ConnectionEvent, ConnectionHead, ConnectionKey, Ended};
use crate::load::encoder::bits_per_second;
use crate::load::engine::Engine;
use crate::load::report::LoadReport;
use crate::time::Time;

/// Options of slow readers.
#[derive(Clone, Copy, Debug, Args)]
pub struct SlowOptions {
    /// Let this many further players read at a limited rate. They are counted apart, and enter no
    /// latency or loss.
    #[arg(long, value_name = "N", default_value = "0")]
    pub slow_readers: u32,
    /// The rate at which each of them reads, in bit/s; 0 means that they stop reading.
    #[arg(long, value_name = "BITS", default_value = "500k", value_parser = bits_per_second)]
    pub slow_bitrate: u64,
}

impl SlowOptions {
    pub(super) const NONE: Self = Self { slow_readers: 0, slow_bitrate: 0 };

    /// Returns the parameters for the manifest.
    pub(super) fn parameters(&self) -> BTreeMap<String, String> {
        if self.slow_readers == 0 {
            return BTreeMap::new();
        }
        BTreeMap::from([
            ("slow-readers".to_owned(), self.slow_readers.to_string()),
            ("slow-bitrate".to_owned(), self.slow_bitrate.to_string()),
        ])
    }
}

/// Time between two grants to read.
pub(super) const GRANT_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes that a slow reader may read at once when it starts: enough for the dialogue.
const DIALOGUE_BYTES: usize = 16 * 1024;

/// See the module's head.
#[derive(Debug)]
pub(super) struct SlowReaders {
    pub(super) options: SlowOptions,
    connections: Vec<ConnectionKey>,
    counts: SlowCounts,
}

/// Counts of slow readers.
#[derive(Clone, Debug, Default)]
pub(super) struct SlowCounts {
    playing: u32,
    /// Those that the server closed or that failed, by reason, since the start of the run.
    ended: BTreeMap<&'static str, u32>,
    /// Bytes of the messages that they read in the window.
    bytes: u64,
}

impl Streams<'_> {
    pub(super) fn open_slow_reader(
        &mut self,
        engine: &mut Engine<Self>,
        number: u32,
        intended: Time,
    ) {
        let stream = number % self.offer.publishers;
        let id = self.open_for_playing(engine, stream, intended, Side::SlowReader);
        if let Some(id) = id {
            engine.limit_reading(id, DIALOGUE_BYTES);
            self.slow.opened(id);
        }
        if number + 1 < self.slow.options.slow_readers {
            let at = intended + Duration::from_secs_f64(1.0 / self.offer.rate);
            engine.agenda().at(at, Due::OpenSlowReader(number + 1));
        }
    }
}

impl SlowReaders {
    pub(super) fn new(options: SlowOptions) -> Self {
        Self { options, connections: Vec::new(), counts: SlowCounts::default() }
    }

    /// Adds a connection that was opened.
    fn opened(&mut self, id: ConnectionKey) {
        self.connections.push(id);
    }

    /// Lets all of them read for the next interval.
    pub(super) fn grant(&self, engine: &mut Engine<Streams<'_>>) {
        let bytes = self.options.slow_bitrate as f64 / 8.0 * GRANT_INTERVAL.as_secs_f64();
        self.connections.iter().for_each(|id| engine.grant_reading(*id, bytes.round() as usize));
    }

    /// Counts an event of a slow reader, which happens in the window or not.
    pub(super) fn event(
        &mut self,
        head: &ConnectionHead,
        event: &ConnectionEvent<'_>,
        is_in_window: bool,
    ) {
        let bytes = match event {
            ConnectionEvent::Reached { phase, .. } => {
                self.counts.playing += u32::from(*phase == head.goal);
                return;
            }
            ConnectionEvent::Media(message) => message.payload.len(),
            ConnectionEvent::Frame(frame) => frame.len(),
            _ => return,
        };
        self.counts.bytes += if is_in_window { bytes as u64 } else { 0 };
    }

    pub(super) fn closed(&mut self, ended: &Ended) {
        self.counts.playing -= u32::from(ended.head.is_settled());
        *self.counts.ended.entry(ended.reason.kind()).or_default() += 1;
    }

    /// Returns the counts at the end of a window. The count of bytes begins again.
    pub(super) fn take_counts(&mut self) -> Option<SlowCounts> {
        let counts = self.counts.clone();
        self.counts.bytes = 0;
        (self.options.slow_readers > 0).then_some(counts)
    }
}

impl SlowCounts {
    pub(super) fn add_to(&self, report: &mut LoadReport) {
        count(report, "slow_readers_playing", self.playing.into());
        count(report, "slow_readers_bytes", self.bytes);
        for (kind, readers) in &self.ended {
            count(report, &format!("slow_readers_ended_{kind}"), (*readers).into());
        }
    }
}
