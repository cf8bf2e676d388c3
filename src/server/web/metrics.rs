//! Metrics in the text formats of OpenMetrics 1.0 and Prometheus.
//!
//! Owns the names and labels. A snapshot of the server is taken for each scrape: counters stay
//! where the events happen, as plain numbers. Labels come from closed lists, but for the names of
//! streams, of which the first [`STREAMS_MAX`] have series of their own; the others are summed
//! under [`OTHERS`]. Addresses, ids and users are never labels.

use super::Answer;
use crate::http::requests::HttpRequest;
use crate::http::response::HttpStatus;
use crate::server::Server;
use crate::server::costs::StreamCost;
use crate::server::reason::CloseReason;
use crate::server::stages::Stage;
use crate::server::transport::Transport;
use crate::stream::histogram::Histogram;
use crate::time::Time;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Streams with series of their own.
const STREAMS_MAX: usize = 1000;
/// Name under which the other streams are summed. No stream has it, since names have a slash.
const OTHERS: &str = "other";
/// Longest value of a label (characters).
const LABEL_CHARS_MAX: usize = 64;

/// Upper bounds of the buckets of latencies (us).
const LATENCY_BOUNDS_US: [u64; 11] =
    [100, 300, 1000, 3000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000];
/// The bounds for a single stream, which are fewer because there are many streams.
const STREAM_BOUNDS_US: [u64; 4] = [1000, 10_000, 100_000, 1_000_000];

/// Facts about the process, which the loop knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessFacts {
    /// Time of the start (seconds since 1970).
    pub started_s: f64,
    /// Processor time used so far (us).
    pub cpu_us: u64,
    /// Memory in use, as the kernel counts it (bytes).
    pub resident_bytes: u64,
    /// Descriptors that the process may open.
    pub descriptors_max: u64,
}

/// Returns the facts about the process at the moment.
pub struct ProcessObserver(Box<dyn Fn() -> ProcessFacts>);

impl ProcessObserver {
    pub(super) fn facts(&self) -> ProcessFacts {
        (self.0)()
    }
}

impl fmt::Debug for ProcessObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessObserver")
    }
}

type Labels = Vec<(&'static str, String)>;

/// One metric with the values of its series.
#[derive(Debug)]
struct Metric {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    series: Vec<(Labels, Sample)>,
}

/// The value of a series.
#[derive(Debug)]
enum Sample {
    Number(f64),
    /// Sum, count, and the events in each bucket with its upper bound, in seconds.
    Durations {
        sum_s: f64,
        count: u64,
        buckets: Vec<(f64, u64)>,
    },
}

impl Sample {
    /// Creates the sample of a histogram with these bounds (us).
    fn durations(histogram: &Histogram, bounds_us: &[u64]) -> Self {
        let (count, mut below) = (histogram.count(), 0);
        let mut buckets: Vec<_> = bounds_us
            .iter()
            .map(|bound_us| {
                let within = histogram.count_within(*bound_us);
                let events = within - std::mem::replace(&mut below, within);
                (*bound_us as f64 / 1e6, events)
            })
            .collect();
        buckets.push((f64::INFINITY, count - below));
        Self::Durations { sum_s: histogram.sum_us() as f64 / 1e6, count, buckets }
    }
}

/// The values of one scrape.
#[derive(Debug, Default)]
struct Snapshot(Vec<Metric>);

impl Snapshot {
    fn add(
        &mut self,
        kind: MetricType,
        name: &'static str,
        unit: Option<Unit>,
        help: &'static str,
        series: Vec<(Labels, f64)>,
    ) {
        let number = |(labels, value)| (labels, Sample::Number(value));
        let series = series.into_iter().map(number).collect();
        self.0.push(Metric { name, help, unit, kind, series });
    }

    fn durations(&mut self, name: &'static str, help: &'static str, series: Vec<(Labels, Sample)>) {
        let (unit, kind) = (Some(Unit::Seconds), MetricType::Histogram);
        self.0.push(Metric { name, help, unit, kind, series });
    }

    fn counter(&mut self, name: &'static str, unit: Option<Unit>, help: &'static str, value: u64) {
        self.add(MetricType::Counter, name, unit, help, vec![(Labels::new(), value as f64)]);
    }

    fn gauge(&mut self, name: &'static str, unit: Option<Unit>, help: &'static str, value: f64) {
        self.add(MetricType::Gauge, name, unit, help, vec![(Labels::new(), value)]);
    }
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Metric { name, help, unit, kind, series } in &self.0 {
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), *kind)?;
            for (labels, value) in series {
                let mut one = metric.encode_family(labels)?;
                match (kind, value) {
                    (MetricType::Counter, Sample::Number(value)) => {
                        one.encode_counter::<Labels, f64, f64>(value, None)?;
                    }
                    (_, Sample::Number(value)) => one.encode_gauge(value)?,
                    (_, Sample::Durations { sum_s, count, buckets }) => {
                        one.encode_histogram::<Labels>(*sum_s, *count, buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The sums of a stream's series.
#[derive(Clone, Debug, Default)]
struct OfStream {
    received_bytes: u64,
    players: usize,
    keyframe_interval_ms: Option<u32>,
    av_skew_ms: Option<i32>,
    forwarded: Histogram,
    cost: StreamCost,
}

impl<T: Transport> Server<T> {
    /// Lends the server a way to learn about its process.
    pub fn observe_process(&mut self, facts: Box<dyn Fn() -> ProcessFacts>) {
        self.process = Some(ProcessObserver(facts));
    }

    /// Answers a scrape, in the format that the client accepts.
    pub(super) fn metrics(&self, request: &HttpRequest, now: Time) -> Answer {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.snapshot(now)));
        let mut body = String::new();
        let accept = request.header("accept").unwrap_or_default();
        let wants_open = String::from_utf8_lossy(accept).contains("application/openmetrics-text");
        let (media_type, encoded) = if wants_open {
            (OPEN_METRICS, text::encode(&mut body, &registry))
        } else {
            (PROMETHEUS, prometheus_text::encode(&mut body, &registry))
        };
        match encoded {
            Ok(()) => Answer::new(HttpStatus::Ok, media_type, body),
            Err(error) => {
                let detail = error.to_string();
                Answer::problem(HttpStatus::ServiceUnavailable, "not_encoded", &detail)
            }
        }
    }

    fn snapshot(&self, now: Time) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.add_process(&mut snapshot);
        self.add_connections(&mut snapshot);
        self.add_media(&mut snapshot);
        self.add_latency(&mut snapshot);
        self.add_streams(&mut snapshot, now);
        snapshot
    }

    fn add_process(&self, all: &mut Snapshot) {
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        let help = "The version that runs";
        all.add(MetricType::Gauge, "tiderace_build_info", None, help, vec![(version, 1.0)]);
        if let Some(facts) = self.process.as_ref().map(ProcessObserver::facts) {
            let (seconds, bytes) = (Some(Unit::Seconds), Some(Unit::Bytes));
            let help = "Start of the process since 1970";
            all.gauge("process_start_time", seconds.clone(), help, facts.started_s);
            let cpu = vec![(Labels::new(), facts.cpu_us as f64 / 1e6)];
            let help = "Processor time used";
            all.add(MetricType::Counter, "process_cpu", seconds, help, cpu);
            let resident = facts.resident_bytes as f64;
            all.gauge("process_resident_memory", bytes, "Memory in use", resident);
            let help = "Descriptors that the process may open";
            all.gauge("process_max_fds", None, help, facts.descriptors_max as f64);
        }
        let sent = &self.outbox.sent;
        let calls = [
            ("read", self.stats.reads),
            ("write", sent.calls - sent.file_calls),
            ("sendfile", sent.file_calls),
        ];
        let calls = calls.map(|(call, count)| (vec![("call", call.to_owned())], count as f64));
        let (kind, help) = (MetricType::Counter, "System calls on sockets");
        all.add(kind, "tiderace_syscalls", None, help, calls.into());
        let help = "Turns of the loop that took more than 100 ms";
        all.counter("tiderace_loop_stalls", None, help, self.stats.slow_turns);
        let turns = Sample::durations(self.stopwatch.turns(), &LATENCY_BOUNDS_US);
        let help = "Turns of the loop, one for each wakeup";
        all.durations("tiderace_turn", help, vec![(Labels::new(), turns)]);
        let longest = self.stopwatch.longest_turn().cpu_us as f64 / 1e6;
        let help = "Longest processor time of a turn since the start";
        all.gauge("tiderace_turn_cpu_max", Some(Unit::Seconds), help, longest);
        let bytes = || Some(Unit::Bytes);
        let help = "Memory of connections and streams, with kernel buffers";
        all.gauge("tiderace_memory", bytes(), help, self.memory_bytes() as f64);
        let limit = self.settings.limits.memory_bytes_max as f64;
        all.gauge("tiderace_memory_limit", bytes(), "The memory budget; 0 is no limit", limit);
    }

    fn add_connections(&self, all: &mut Snapshot) {
        let stages = Stage::ALL.map(|stage| {
            let state = format!("{stage:?}").to_ascii_lowercase();
            (vec![("state", state)], self.table.in_stage(stage) as f64)
        });
        let help = "Connections by state";
        all.add(MetricType::Gauge, "tiderace_connections", None, help, stages.into());
        let limit = self.settings.limits.connections_max as f64;
        all.gauge("tiderace_connections_limit", None, "Most connections at a time", limit);
        let stats = &self.stats;
        all.counter("tiderace_connections_accepted", None, "Accepted connections", stats.accepted);
        let help = "Connections refused at a limit";
        all.counter("tiderace_connections_refused", None, help, stats.refused);
        let reasons = CloseReason::ALL.iter().map(|reason| {
            (vec![("reason", reason.as_str().to_owned())], stats.closed(*reason) as f64)
        });
        let (kind, help) = (MetricType::Counter, "Ended connections by reason");
        all.add(kind, "tiderace_connections_closed", None, help, reasons.collect());
    }

    fn add_media(&self, all: &mut Snapshot) {
        let (stats, bytes) = (&self.stats, || Some(Unit::Bytes));
        all.counter("tiderace_received", bytes(), "Bytes read", stats.bytes_in);
        all.counter("tiderace_sent", bytes(), "Bytes written", stats.bytes_out);
        let copied = self.outbox.sent.copied_bytes;
        all.counter("tiderace_copied", bytes(), "Bytes written from memory", copied);
        let cpu = vec![(Labels::new(), self.hub.cost_of_all().cpu_ns as f64 / 1e9)];
        let (kind, help) = (MetricType::Counter, "Processor time of all streams");
        all.add(kind, "tiderace_streams_cpu", Some(Unit::Seconds), help, cpu);
        all.counter("tiderace_publishes", None, "Accepted publishes", stats.publishes);
        all.counter("tiderace_plays", None, "Accepted plays", stats.plays);
        let help = "Messages of publishers that could not be parsed";
        all.counter("tiderace_messages_dropped", None, help, stats.messages_dropped);
        let help = "GOPs that were too large to be kept for late players";
        all.counter("tiderace_gops_cut", None, help, stats.gops_cut);
        let counted = ["live", "lingering", "waiting"].map(|state| {
            let count = self.hub.iter().filter(|channel| channel.state() == state).count();
            (vec![("state", state.to_owned())], count as f64)
        });
        let help = "Streams by state";
        all.add(MetricType::Gauge, "tiderace_streams", None, help, counted.into());
    }

    fn add_latency(&self, all: &mut Snapshot) {
        let latency = self.hub.latency_of_all();
        let stage = |stage: &str, histogram| {
            let labels = vec![("stage", stage.to_owned())];
            (labels, Sample::durations(histogram, &LATENCY_BOUNDS_US))
        };
        let series = vec![stage("server", &latency.forwarded), stage("socket", &latency.unsent)];
        let help = "Time of each message and player from its receipt to the kernel (server), and \
                    samples of the age of what a socket has not sent (socket)";
        all.durations("tiderace_forward", help, series);
    }

    fn add_streams(&self, all: &mut Snapshot, now: Time) {
        let (mut own, mut others) = (Vec::new(), OfStream::default());
        for (id, channel) in self.hub.entries() {
            let report = channel.report(now);
            let of_stream = OfStream {
                received_bytes: report.as_ref().map_or(0, |report| report.bytes),
                players: channel.players().len() + self.hls.viewers(id, channel, now),
                keyframe_interval_ms: report.as_ref().and_then(|r| Some(r.gops?.last.ms)),
                av_skew_ms: report.as_ref().and_then(|r| Some(r.skew?.last_ms)),
                cost: *channel.cost(),
                forwarded: channel.latency().map(|l| l.forwarded.clone()).unwrap_or_default(),
            };
            if own.len() < STREAMS_MAX {
                let name = self.policies.access.shown(channel.name()).to_string();
                let name = name.chars().take(LABEL_CHARS_MAX).collect();
                own.push((vec![("stream", name)], of_stream));
            } else {
                others.received_bytes += of_stream.received_bytes;
                others.players += of_stream.players;
                others.forwarded.add(&of_stream.forwarded);
                others.cost.add(&of_stream.cost);
            }
        }
        if own.len() == STREAMS_MAX {
            own.push((vec![("stream", OTHERS.to_owned())], others));
        }
        let series = |value: fn(&OfStream) -> Option<f64>| {
            let with = own.iter().filter_map(|(labels, of)| Some((labels.clone(), value(of)?)));
            with.collect::<Vec<_>>()
        };
        let received = series(|of| Some(of.received_bytes as f64));
        let (kind, help) = (MetricType::Gauge, "Payload bytes of the publish under way");
        all.add(kind, "tiderace_stream_published", Some(Unit::Bytes), help, received);
        let players = series(|of| Some(of.players as f64));
        let help = "Players of a stream by all protocols";
        all.add(kind, "tiderace_stream_players", None, help, players);
        let interval = series(|of| of.keyframe_interval_ms.map(|ms| f64::from(ms) / 1000.0));
        let (unit, help) = (Some(Unit::Seconds), "Length of the last GOP");
        all.add(kind, "tiderace_stream_keyframe_interval", unit.clone(), help, interval);
        let skew = series(|of| of.av_skew_ms.map(|ms| f64::from(ms) / 1000.0));
        let help = "How far audio is behind video";
        all.add(kind, "tiderace_stream_av_skew", unit, help, skew);
        add_costs(all, &own);
        let durations = |(labels, of): &(Labels, OfStream)| {
            (labels.clone(), Sample::durations(&of.forwarded, &STREAM_BOUNDS_US))
        };
        let forwarded = own.iter().filter(|(_, of)| of.forwarded.count() > 0);
        let help = "Time of each message and player of a stream from its receipt to the kernel";
        all.durations("tiderace_stream_forward", help, forwarded.map(durations).collect());
    }
}

/// Adds what each stream costs.
fn add_costs(all: &mut Snapshot, streams: &[(Labels, OfStream)]) {
    let series = |value: fn(&StreamCost) -> f64| {
        streams.iter().map(|(labels, of)| (labels.clone(), value(&of.cost))).collect()
    };
    let (kind, bytes) = (MetricType::Counter, || Some(Unit::Bytes));
    let cpu = series(|cost| cost.cpu_ns as f64 / 1e9);
    let help = "Processor time of a stream, as a part of that of the process";
    all.add(kind, "tiderace_stream_cpu", Some(Unit::Seconds), help, cpu);
    let calls = series(|cost| (cost.reads + cost.writes) as f64);
    let help = "System calls on the sockets of a stream";
    all.add(kind, "tiderace_stream_syscalls", None, help, calls);
    let copied = series(|cost| cost.copied_bytes as f64);
    let help = "Bytes written from memory to the players of a stream";
    all.add(kind, "tiderace_stream_copied", bytes(), help, copied);
    let from_files = series(|cost| cost.sendfile_bytes as f64);
    let help = "Bytes sent from memory files to the players of a stream";
    all.add(kind, "tiderace_stream_sendfile", bytes(), help, from_files);
}
