//! The API: streams, connections and the server as JSON, and the commands that change them.
//!
//! Owns the shapes of the answers. Names are stable, units come last, times are milliseconds. No
//! answer has a query or a secret key. A list is in the order of its ids and comes in pages, since
//! a page by number would skip entries of a list that changes.

use super::Answer;
use crate::config::Settings;
use crate::http::requests::HttpRequest;
use crate::http::response::HttpStatus;
use crate::media::codec;
use crate::server::Server;
use crate::server::conn::Conn;
use crate::server::costs::StreamCost;
use crate::server::hub::Channel;
use crate::server::peer::Peer;
use crate::server::reason::CloseReason;
use crate::server::stages::Stage;
use crate::server::transport::Transport;
use crate::stream::framing::Framing;
use crate::stream::histogram::Histogram;
use crate::stream::ids::{ConnId, StreamId};
use crate::stream::meter::Report;
use crate::time::Time;
use bytes::Bytes;
use log::{Level, info};
use serde_json::{Value, json};
use std::cell::Cell;

const JSON: &str = "application/json";
/// Entries of a page of a list, unless the request asks for fewer or more.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1000;
/// Connections of a page about which the kernel is asked. Each takes a few microseconds.
const KERNEL_ASKED_MAX: usize = 200;

/// What a request to the API asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// The server.
    Server,
    /// All streams.
    Streams,
    /// One stream.
    Stream(StreamHandle),
    /// Ends one stream, by closing its publisher.
    EndStream(StreamHandle),
    /// All connections.
    Connections,
    /// One connection.
    Connection(ConnHandle),
    /// Closes one connection.
    Kick(ConnHandle),
    /// The configuration, without its secrets.
    Config,
    /// The description of the API itself.
    Description,
    /// Reads the configuration again.
    Reload,
    /// Changes the level of the log.
    LogLevel,
}

impl Call {
    /// Returns whether it changes anything.
    pub(super) const fn is_control(self) -> bool {
        matches!(self, Self::EndStream(_) | Self::Kick(_) | Self::Reload | Self::LogLevel)
    }
}

/// The id of a connection in the API: its place in the table, and when it came, since places are
/// used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnHandle {
    id: ConnId,
    accepted: Time,
}

/// The id of a stream in the API: its place in the hub, and its number among all streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamHandle {
    id: StreamId,
    serial: u64,
}

/// Splits an id, as in `12-3456`.
fn split_key(text: &str) -> Option<(u32, u64)> {
    let (index, rest) = text.split_once('-')?;
    Some((index.parse().ok()?, rest.parse().ok()?))
}

impl ConnHandle {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (index, micros) = split_key(text)?;
        Some(Self { id: ConnId::new(index), accepted: Time::from_micros(micros) })
    }

    pub(super) fn text<T>(id: ConnId, conn: &Conn<T>) -> String {
        format!("{}-{}", id.index(), conn.accepted.as_micros())
    }
}

impl StreamHandle {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (index, serial) = split_key(text)?;
        Some(Self { id: StreamId(index), serial })
    }

    pub(super) fn text(id: StreamId, channel: &Channel) -> String {
        format!("{}-{}", id.index(), channel.serial())
    }
}

impl<T: Transport> Server<T> {
    /// Answers a call.
    pub(super) fn call(&mut self, call: Call, request: &HttpRequest, now: Time) -> Answer {
        match call {
            Call::Server => ok(&self.about_server(now)),
            Call::Streams => self.list_streams(request, now),
            Call::Stream(key) => match self.stream_of(key) {
                Some(channel) => ok(&self.about_stream(key.id, channel, now)),
                None => gone("stream"),
            },
            Call::EndStream(key) => self.end_stream_by_call(key, now),
            Call::Connections => self.list_connections(request, now),
            Call::Connection(key) => match self.conn_of(key) {
                Some(conn) => ok(&self.about_connection(key.id, conn, true, now)),
                None => gone("connection"),
            },
            Call::Kick(key) => self.kick(key, now),
            Call::Config => ok(&about_config(&self.settings)),
            Call::Description => {
                let text = include_str!("assets/openapi.json");
                Answer::new(HttpStatus::Ok, JSON, Bytes::from_static(text.as_bytes())).tagged()
            }
            Call::Reload => {
                info!("a reload is asked for over HTTP");
                self.reload_asked = true;
                accepted()
            }
            Call::LogLevel => set_log_level(request),
        }
    }

    /// Takes the wish of an API client to read the configuration again. The loop does it.
    pub fn take_reload(&mut self) -> bool {
        std::mem::take(&mut self.reload_asked)
    }

    fn stream_of(&self, key: StreamHandle) -> Option<&Channel> {
        self.hub.get(key.id).filter(|channel| channel.serial() == key.serial)
    }

    fn conn_of(&self, key: ConnHandle) -> Option<&Conn<T>> {
        self.table.get(key.id).filter(|conn| conn.accepted == key.accepted)
    }

    fn kick(&mut self, key: ConnHandle, now: Time) -> Answer {
        if self.conn_of(key).is_none() {
            return gone("connection");
        }
        self.tell_shutdown(key.id, "closed by the operator");
        self.dismiss(key.id, CloseReason::Kicked, String::new(), now);
        Answer::new(HttpStatus::NoContent, "", "")
    }

    fn end_stream_by_call(&mut self, key: StreamHandle, now: Time) -> Answer {
        let Some(channel) = self.stream_of(key) else { return gone("stream") };
        let Some(publisher) = channel.publisher() else {
            let detail = "the stream has no publisher";
            return Answer::problem(HttpStatus::Conflict, "not_published", detail);
        };
        self.tell_shutdown(publisher.conn, "ended by the operator");
        self.dismiss(publisher.conn, CloseReason::Kicked, String::new(), now);
        Answer::new(HttpStatus::NoContent, "", "")
    }

    fn list_streams(&self, request: &HttpRequest, now: Time) -> Answer {
        let wanted = request.query_value("name");
        let shown = |channel: &Channel| self.policies.access.shown(channel.name()).to_string();
        let is_wanted = |channel: &Channel| wanted.as_ref().is_none_or(|n| shown(channel) == *n);
        let streams = self.hub.entries().filter(|(_, channel)| is_wanted(channel));
        let entries = streams.map(|(id, channel)| {
            (id.index(), StreamHandle::text(id, channel), move || {
                self.about_stream(id, channel, now)
            })
        });
        page(request, "streams", entries)
    }

    fn list_connections(&self, request: &HttpRequest, now: Time) -> Answer {
        let left = Cell::new(KERNEL_ASKED_MAX);
        let asks = &|| left.replace(left.get().saturating_sub(1)) > 0;
        let entries = self.table.iter().map(|(id, conn)| {
            let describe = move || self.about_connection(id, conn, asks(), now);
            (id.index(), ConnHandle::text(id, conn), describe)
        });
        page(request, "connections", entries)
    }

    /// Describes the server.
    pub(super) fn about_server(&self, now: Time) -> Value {
        let limits = &self.settings.limits;
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_ms": now.millis_since(Time::ZERO),
            "connections": self.table.len(),
            "connections_max": limits.connections_max,
            "streams": self.hub.len(),
            "memory_bytes": self.memory_bytes(),
            "memory_bytes_max": limits.memory_bytes_max,
            "memory_level": self.memory.level.name(),
            "received_bytes": self.stats.bytes_in,
            "sent_bytes": self.stats.bytes_out,
            "accepted": self.stats.accepted,
            "refused": self.stats.refused,
            "publishes": self.stats.publishes,
            "plays": self.stats.plays,
            "slow_turns": self.stats.slow_turns,
            "longest_turn_us": self.stopwatch.longest_turn().cpu_us,
            "turns": durations(self.stopwatch.turns()),
            "load_permille": self.costs.load_permille,
            "cpu_us": self.process.as_ref().map(|process| process.facts().cpu_us),
            "reads": self.stats.reads,
            "writes": self.outbox.sent.calls,
            "copied_bytes": self.outbox.sent.copied_bytes,
            "sendfile_bytes": self.outbox.sent.file_bytes,
            "streams_cost": cost_of(&self.hub.cost_of_all()),
            "is_draining": self.draining,
        })
    }

    /// Describes a stream.
    pub(super) fn about_stream(&self, id: StreamId, channel: &Channel, now: Time) -> Value {
        let report = channel.report(now);
        let publisher = channel.publisher().and_then(|publisher| {
            let conn = self.table.get(publisher.conn)?;
            Some(json!({
                "connection": ConnHandle::text(publisher.conn, conn),
                "address": conn.address().to_string(),
                "encoder": self.encoders.name(conn.encoder),
            }))
        });
        let (watching, hls) = self.watching(id, channel, now);
        let rtmp = watching.count(Framing::Rtmp);
        let flv = watching.count(Framing::Flv) + watching.count(Framing::WebSocketFlv);
        let fmp4 = watching.count(Framing::Mp4) + watching.count(Framing::WebSocketMp4);
        let mut about = json!({
            "id": StreamHandle::text(id, channel),
            "name": self.policies.access.shown(channel.name()).to_string(),
            "state": channel.state(),
            "publisher": publisher,
            "players": { "rtmp": rtmp, "flv": flv, "fmp4": fmp4, "hls": hls },
            "forward": channel.latency().and_then(|latency| durations(&latency.forwarded)),
            "cost": cost_of(channel.cost()),
            "unsent": channel.latency().and_then(|latency| durations(&latency.unsent)),
        });
        if let (Some(report), Value::Object(about)) = (report, &mut about) {
            about.extend(facts(&report));
        }
        about
    }

    /// Describes a connection. With `asks_kernel` it has what the kernel knows.
    fn about_connection(&self, id: ConnId, conn: &Conn<T>, asks_kernel: bool, now: Time) -> Value {
        let protocol = match &conn.peer {
            Peer::Rtmp(_) => "rtmp",
            Peer::RtmpClient(_) => "rtmp-client",
            Peer::Http(client) if client.exchange.is_websocket() => "websocket",
            Peer::Http(_) => "http",
        };
        let activity = conn.activity.as_deref();
        let published = activity.and_then(|a| a.publishes().first()).map(|p| p.stream);
        let played = activity.and_then(|a| a.plays.first()).map(|play| play.stream);
        let state = match (conn.stage, published) {
            (Stage::Streaming, Some(_)) => "publishing",
            (Stage::Streaming, None) => "playing",
            (Stage::Waiting, _) => "waiting",
            (Stage::Leaving, _) => "leaving",
            (Stage::Connected, _) => "idle",
            (Stage::Handshaking | Stage::Connecting, _) => "connecting",
        };
        let stream = published.or(played).map(|stream| {
            let channel = self.hub.channel(stream);
            json!({
                "id": StreamHandle::text(stream, channel),
                "name": self.policies.access.shown(channel.name()).to_string(),
            })
        });
        json!({
            "id": ConnHandle::text(id, conn),
            "protocol": protocol,
            "state": state,
            "stream": stream,
            "address": conn.address().to_string(),
            "client": self.encoders.name(conn.encoder),
            "age_ms": now.millis_since(conn.accepted),
            "received_bytes": conn.bytes_in,
            "sent_bytes": conn.bytes_out,
            "skips": activity.map_or(0, |a| a.plays.iter().map(|play| play.skips()).sum::<u32>()),
            "quirks": conn.peer.tolerated().map(ToString::to_string),
            "tcp": asks_kernel.then(|| conn.transport.tcp_facts()).flatten().map(|facts| json!({
                "rtt_us": facts.rtt_us,
                "retransmits": facts.retransmits,
                "unsent_bytes": facts.unsent_bytes,
            })),
        })
    }
}

fn cost_of(cost: &StreamCost) -> Value {
    json!({
        "cpu_us": cost.cpu_ns / 1000,
        "reads": cost.reads,
        "writes": cost.writes,
        "copied_bytes": cost.copied_bytes,
        "sendfile_bytes": cost.sendfile_bytes,
    })
}

/// Returns the figures of a histogram; `None` without any event.
fn durations(histogram: &Histogram) -> Option<Value> {
    Some(json!({
        "count": histogram.count(),
        "p50_us": histogram.percentile_us(50)?,
        "p99_us": histogram.percentile_us(99)?,
        "max_us": histogram.max_us(),
    }))
}

/// Returns the measurements of a publish.
fn facts(report: &Report) -> serde_json::Map<String, Value> {
    let video = report.video.map(|(codec, facts)| {
        json!({
            "description": codec::describe_video(codec, &facts),
            "width": facts.width,
            "height": facts.height,
            "frame_rate": report.frame_rate_millihertz.map(|rate| rate as f64 / 1000.0),
        })
    });
    let audio = report.audio.map(|(codec, facts)| {
        json!({
            "description": codec::describe_audio(codec, &facts),
            "sample_rate_hz": facts.sample_rate_hz,
            "channels": facts.channels,
        })
    });
    let facts = json!({
        "published_ms": report.duration_ms,
        "video": video,
        "audio": audio,
        "further_tracks": report.further_tracks,
        "received_bytes": report.bytes,
        "bitrate_bps": report.bitrate.map(|(mean, _)| mean),
        "bitrate_bps_max": report.bitrate.map(|(_, peak)| peak),
        "keyframe_interval_ms": report.gops.map(|gops| gops.last.ms),
        "keyframe_interval_ms_max": report.gops.map(|gops| gops.range_ms.1),
        "av_skew_ms": report.skew.map(|skew| skew.last_ms),
        "gaps": report.gaps.count,
        "stalls": report.stalls.count,
        "gops_cut": report.gops_cut,
        "repairs": (!report.repairs.is_empty()).then(|| report.repairs.to_string()),
        "report": report.to_string(),
    });
    match facts {
        Value::Object(facts) => facts,
        _ => serde_json::Map::new(),
    }
}

/// Returns a page of a list. The entries are in the order of their places. Only those of the page
/// are described.
fn page<D: FnOnce() -> Value>(
    request: &HttpRequest,
    name: &str,
    entries: impl Iterator<Item = (usize, String, D)>,
) -> Answer {
    let limit = request.query_value("limit").map_or(Some(PAGE), |limit| limit.parse().ok());
    let Some(limit) = limit.filter(|limit| (1..=PAGE_MAX).contains(limit)) else {
        let detail = format!("expected limit from 1 to {PAGE_MAX}");
        return Answer::problem(HttpStatus::UnprocessableContent, "bad_limit", &detail);
    };
    let after = match request.query_value("after") {
        None => None,
        Some(after) => match split_key(&after) {
            Some((index, _)) => Some(index as usize),
            None => {
                let detail = "expected the id that \"next\" of the page before has";
                return Answer::problem(HttpStatus::UnprocessableContent, "bad_cursor", detail);
            }
        },
    };
    let mut rest = entries.filter(|(index, ..)| after.is_none_or(|after| *index > after));
    let (mut found, mut last) = (Vec::new(), None);
    for (_, key, describe) in rest.by_ref().take(limit) {
        found.push(describe());
        last = Some(key);
    }
    let next = last.filter(|_| rest.next().is_some());
    ok(&json!({ name: found, "next": next }))
}

/// Describes the configuration that is in force, section by section. Of access rules it has the
/// number of secrets.
fn about_config(settings: &Settings) -> Value {
    let mut config = serde_json::Map::new();
    for (path, value) in settings.entries() {
        insert(&mut config, path, &value);
    }
    let apps = settings.apps.iter().map(|(path, app)| {
        let mut rules = serde_json::Map::new();
        app.entries().for_each(|(key, value)| insert(&mut rules, key, &value));
        (path.clone(), Value::Object(rules))
    });
    config.insert("apps".to_owned(), Value::Object(apps.collect()));
    Value::Object(config)
}

/// Inserts a value that is written as in the file, which is JSON for every type of the settings.
fn insert(object: &mut serde_json::Map<String, Value>, path: &str, value: &str) {
    match path.split_once('.') {
        None => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            object.insert(path.to_owned(), value);
        }
        Some((section, name)) => {
            let section = object.entry(section).or_insert_with(|| json!({}));
            if let Value::Object(section) = section {
                insert(section, name, value);
            }
        }
    }
}

fn set_log_level(request: &HttpRequest) -> Answer {
    let body: Option<Value> = serde_json::from_slice(request.body()).ok();
    let level = body.as_ref().and_then(|body| body.get("level")?.as_str()?.parse::<Level>().ok());
    let Some(level) = level else {
        let detail = "expected {\"level\": \"error\", \"warn\", \"info\", \"debug\" or \"trace\"}";
        return Answer::problem(HttpStatus::UnprocessableContent, "bad_level", detail);
    };
    log::set_max_level(level.to_level_filter());
    info!("the log level is {} until the next reload", level.as_str().to_ascii_lowercase());
    Answer::new(HttpStatus::NoContent, "", "")
}

fn ok(value: &Value) -> Answer {
    Answer::new(HttpStatus::Ok, JSON, value.to_string())
}

fn accepted() -> Answer {
    Answer::new(HttpStatus::Accepted, JSON, "{}")
}

fn gone(what: &str) -> Answer {
    Answer::problem(HttpStatus::NotFound, "not_found", &format!("there is no such {what}"))
}
