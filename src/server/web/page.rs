//! The page for people: what is live, who publishes and plays it, and how the server does.
//!
//! The page is made here, so it shows something without a script. An open page is kept up to date
//! by server-sent events (HTML, section 9.2): once a second the part that changes is made once, and
//! is sent to all open pages. Names come from encoders, and `maud` escapes them.

use super::api::{ConnHandle, StreamHandle};
use super::{Answer, sparkline};
use crate::http::requests::{HttpRequest, Method};
use crate::http::response::{HttpStatus, ResponseHead};
use crate::server::Server;
use crate::server::conn::Conn;
use crate::server::costs::StreamCost;
use crate::server::hub::Channel;
use crate::server::transport::Transport;
use crate::stream::cursor::Play;
use crate::stream::framing::Framing;
use crate::stream::histogram::Histogram;
use crate::stream::ids::{ConnId, Endpoint, StreamId};
use crate::stream::keyframes::Unmarked;
use crate::stream::latency::Latency;
use crate::stream::meter::Report;
use crate::time::Time;
use bytes::Bytes;
use maud::{DOCTYPE, Markup, html};

const HTML: &str = "text/html; charset=utf-8";
/// How often open pages are sent what has changed (ms).
const EVENTS_EVERY_MS: u64 = 1000;
/// Streams and connections that a page shows. The API has all of them.
const SHOWN_MAX: usize = 200;
/// Length of a GOP above which players start late (ms).
const LONG_GOP_MS: u32 = 5000;
/// Distance of audio and video that people notice (ms).
const NOTICED_SKEW_MS: u32 = 150;
/// Nothing but the server's own files, and no page that frames it.
const POLICY: &str = "default-src 'none'; connect-src 'self'; script-src 'self'; \
                      style-src 'self'; media-src blob:; frame-ancestors 'none'; base-uri 'none'; \
                      form-action 'none'";

/// The files of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asset {
    Style,
    Script,
}

impl Asset {
    pub(super) fn answer(self) -> Answer {
        let (media_type, text) = match self {
            Self::Style => ("text/css; charset=utf-8", include_str!("assets/page.css")),
            Self::Script => ("text/javascript; charset=utf-8", include_str!("assets/page.js")),
        };
        Answer::new(HttpStatus::Ok, media_type, Bytes::from_static(text.as_bytes())).tagged()
    }
}

/// The pages that are open, and when they are sent the next event.
#[derive(Debug)]
pub(in crate::server) struct OpenPages {
    conns: Vec<ConnId>,
    due: Time,
}

impl Default for OpenPages {
    fn default() -> Self {
        Self { conns: Vec::new(), due: Time::NEVER }
    }
}

impl OpenPages {
    /// Returns the time of the next event; [`Time::NEVER`] without an open page.
    pub(in crate::server) const fn due(&self) -> Time {
        self.due
    }

    fn add(&mut self, id: ConnId, now: Time) {
        self.conns.push(id);
        self.due = self.due.min(now.plus_millis(EVENTS_EVERY_MS));
    }

    /// Forgets a connection that is being closed.
    pub(in crate::server) fn remove(&mut self, id: ConnId) {
        self.conns.retain(|conn| *conn != id);
        if self.conns.is_empty() {
            *self = Self::default();
        }
    }
}

impl<T: Transport> Server<T> {
    /// Answers a request for the page.
    pub(super) fn page(&self, now: Time) -> Answer {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { "Tiderace" }
                    link rel="stylesheet" href="page.css";
                    script src="page.js" defer {}
                }
                body {
                    header { h1 { "Tiderace" } @if self.token.is_some() { (token_form()) } }
                    p #lost .note role="status" { "The server does not answer: trying again." }
                    p #said .note role="status" {}
                    section #preview hidden {
                        h2 { "Preview of " span #name {} }
                        video #video muted autoplay playsinline controls {}
                        p { output #delay for="video" {} }
                    }
                    main #state { (self.state(now)) }
                }
            }
        };
        let answer = Answer::new(HttpStatus::Ok, HTML, page.into_string());
        Answer { policy: Some(POLICY), ..answer }
    }

    /// Opens the events of a page. The next one comes within a second.
    pub(super) fn open_events(&mut self, id: ConnId, request: &HttpRequest, now: Time) {
        if request.method() == Method::Head {
            return self.answer(id, request, Answer::endless("text/event-stream"));
        }
        let Some(client) = self.table[id].peer.web_mut() else { return };
        let head = ResponseHead::new(HttpStatus::Ok)
            .header("Content-Type", "text/event-stream")
            .header("Cache-Control", "no-store")
            .header("X-Accel-Buffering", "no");
        client.exchange.open();
        client.exchange.write_head(&head);
        client.is_page = true;
        self.pages.add(id, now);
        self.arm_stage(id, now);
        self.table.queue_write(id);
    }

    /// Sends the open pages what has changed, if that is due. A page that has not taken the last
    /// event is left out.
    pub(in crate::server) fn update_pages(&mut self, now: Time) {
        if self.pages.due > now {
            return;
        }
        self.pages.due = now.plus_millis(EVENTS_EVERY_MS);
        let state = self.state(now).into_string();
        // A line break would end the event.
        let event = format!("data: {}\n\n", state.replace(['\r', '\n'], " "));
        for index in 0..self.pages.conns.len() {
            let id = self.pages.conns[index];
            let conn = &mut self.table[id];
            if conn.peer.has_pending() {
                continue;
            }
            if let Some(client) = conn.peer.web_mut() {
                client.exchange.write_event(event.as_bytes());
                self.table.queue_write(id);
            }
        }
    }

    /// Returns the part of the page that changes.
    fn state(&self, now: Time) -> Markup {
        let begun = self.hub.entries().filter(|(_, channel)| channel.has_begun());
        let live: Vec<_> = begun.take(SHOWN_MAX).collect();
        html! {
            (self.facts(now))
            h2 { "Streams" }
            @if live.is_empty() { (nothing_live()) }
            @for (id, channel) in live { (self.about(id, channel, now)) }
            (self.connections(now))
        }
    }

    fn facts(&self, now: Time) -> Markup {
        let limits = &self.settings.limits;
        let turns = self.stopwatch.turns();
        let load = self.costs.load_permille as f64 / 10.0;
        let cpu_s = self.process.as_ref().map(|process| process.facts().cpu_us as f64 / 1e6);
        html! {
            dl .facts {
                (fact("up", &span_of(now.millis_since(Time::ZERO))))
                div {
                    dt { "CPU of one core" }
                    dd {
                        (format!("{load:.1} %"))
                        @if let Some(cpu_s) = cpu_s { (format!(", {cpu_s:.1} s in all")) }
                    }
                }
                div { dt { "memory" }
                    dd { (mib(self.memory_bytes() as u64)) @if limits.memory_bytes_max > 0 {
                        " of " (mib(limits.memory_bytes_max as u64)) } } }
                div { dt { "connections" }
                    dd { (self.table.len()) " of " (limits.connections_max) } }
                (fact("wakeups", &turns.count().to_string()))
                (fact("turns of the loop", &percentiles(turns)))
                (fact("received", &mib(self.stats.bytes_in)))
                (fact("sent", &mib(self.stats.bytes_out)))
            }
        }
    }

    fn about(&self, id: StreamId, channel: &Channel, now: Time) -> Markup {
        let name = self.policies.access.shown(channel.name()).to_string();
        let report = channel.report(now);
        html! {
            section .stream {
                div .title {
                    h3 { (name) }
                    @if channel.is_live() { span .state.live { "live" } }
                    @else { span .state { "waits for its publisher" } }
                    @if channel.is_live() {
                        button type="button" data-watch=(name) { "Watch" }
                        button.control type="button" data-end=(StreamHandle::text(id, channel)) {
                            "End"
                        }
                    }
                }
                @if let Some(report) = &report {
                    p { (report) }
                    @for note in notes(report) { p .note { (note) } }
                    (sparkline::plot(&channel.bitrates(now)))
                }
                dl .facts {
                    (self.players_of(id, channel, now))
                    (self.publisher_of(channel))
                    @if let Some(latency) = channel.latency() { (latency_of(latency)) }
                    (cost_of(channel.cost()))
                    @for ending in ["flv", "mp4"] {
                        div {
                            dt { (ending) }
                            dd { a href=(format!("/{name}.{ending}")) { "/" (name) "." (ending) } }
                        }
                    }
                }
            }
        }
    }

    /// Returns the players of a stream by protocol, and what they have missed.
    fn players_of(&self, id: StreamId, channel: &Channel, now: Time) -> Markup {
        let skips_of = |player: &Endpoint| {
            let activity = self.table.get(player.conn)?.activity.as_deref()?;
            Some(activity.plays.iter().find(|play| play.lane == player.lane)?.skips())
        };
        let skips: u32 = channel.players().iter().filter_map(skips_of).sum();
        let (watching, hls) = self.watching(id, channel, now);
        let by_framing = Framing::ALL.map(|framing| (watching.count(framing), framing.as_str()));
        let by_protocol = by_framing.into_iter().chain([(hls, "HLS")]);
        let texts = by_protocol.filter(|(count, _)| *count > 0);
        let texts = texts.map(|(count, protocol)| format!("{count} {protocol}"));
        let texts = texts.collect::<Vec<_>>().join(", ");
        html! {
            (fact("players", if texts.is_empty() { "none" } else { &texts }))
            @if skips > 0 { (fact("skips", &skips.to_string())) }
        }
    }

    fn publisher_of(&self, channel: &Channel) -> Markup {
        let publisher = channel.publisher().and_then(|publisher| self.table.get(publisher.conn));
        html! {
            @if let Some(conn) = publisher {
                (fact("publisher", &conn.address().to_string()))
                @if let Some(encoder) = self.encoders.name(conn.encoder) {
                    (fact("encoder", &encoder))
                }
                @let quirks = conn.peer.tolerated().map(ToString::to_string).unwrap_or_default();
                @if !quirks.is_empty() { (fact("tolerated", &quirks)) }
            }
        }
    }

    fn connections(&self, now: Time) -> Markup {
        let with_role = self.table.iter().filter(|(_, conn)| self.stream_names(conn).count() > 0);
        let shown: Vec<_> = with_role.take(SHOWN_MAX).collect();
        html! {
            @if !shown.is_empty() {
                h2 { "Publishers and players" }
                div .wide tabindex="0" role="region" aria-label="Publishers and players" { table {
                    thead { tr {
                        th.control scope="col" { "kick" }
                        @for name in ["address", "role", "stream", "for", "received", "sent",
                            "skips", "RTT", "sent again", "unsent"] { th scope="col" { (name) } }
                    } }
                    tbody { @for (id, conn) in shown { (self.row(id, conn, now)) } }
                } }
            }
        }
    }

    /// Returns the names of the streams that a connection publishes and plays.
    fn stream_names(&self, conn: &Conn<T>) -> impl Iterator<Item = String> {
        let activity = conn.activity.as_deref();
        let published = activity.into_iter().flat_map(|a| a.publishes()).map(|p| p.stream);
        let played = activity.into_iter().flat_map(|a| &a.plays).map(|play| play.stream);
        let name = |stream| self.policies.access.shown(self.hub.channel(stream).name()).to_string();
        published.chain(played).map(name)
    }

    fn row(&self, id: ConnId, conn: &Conn<T>, now: Time) -> Markup {
        let plays = conn.activity.iter().flat_map(|activity| &activity.plays);
        let skips: u32 = plays.clone().map(Play::skips).sum();
        let role = plays.clone().next().map_or("publisher", |play| play.framing().as_str());
        let tcp = conn.transport.tcp_facts();
        let names = self.stream_names(conn).collect::<Vec<_>>().join(", ");
        html! {
            tr {
                td.control {
                    button type="button" data-kick=(ConnHandle::text(id, conn))
                        aria-label=(format!("Kick {}", conn.address())) { "Kick" }
                }
                td { (conn.address()) }
                td { (role) }
                td .name { (names) }
                td { (span_of(now.millis_since(conn.accepted))) }
                td { (mib(conn.bytes_in)) }
                td { (mib(conn.bytes_out)) }
                td { (skips) }
                @if let Some(tcp) = tcp {
                    td { (millis_of(tcp.rtt_us.into())) }
                    td { (tcp.retransmits) }
                    td { (tcp.unsent_bytes / 1024) " KiB" }
                } @else { td {} td {} td {} }
            }
        }
    }
}

/// Returns the field for the token, which the script keeps until the browser is closed.
fn token_form() -> Markup {
    html! {
        form #token {
            label for="secret" { "Token" }
            input #secret type="password" autocomplete="off" required;
            button { "Unlock" }
            button #lock type="button" { "Lock" }
        }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn cost_of(cost: &StreamCost) -> Markup {
    let (cpu_s, calls) = (cost.cpu_ns as f64 / 1e9, cost.reads + cost.writes);
    let (copied, from_files) = (mib(cost.copied_bytes), mib(cost.sendfile_bytes));
    fact(
        "cost",
        &format!("{cpu_s:.1} s of CPU, {calls} calls, {copied} copied, {from_files} from files"),
    )
}

/// Returns what a user does to see a stream.
fn nothing_live() -> Markup {
    html! {
        p { "Nothing is published yet. In OBS: Settings, Stream, Service " code { "Custom" }
            ", Server " code { "rtmp://" span .host { "ADDRESS" } "/live" } ", Stream Key "
            code { "show" } ". With ffmpeg:" }
        p { code {
            "ffmpeg -re -i talk.mp4 -c copy -f flv rtmp://" span .host { "ADDRESS" } "/live/show"
        } }
    }
}

/// Returns the latency of a stream.
fn latency_of(latency: &Latency) -> Markup {
    html! {
        (fact("forwarded within", &percentiles(&latency.forwarded)))
        @if latency.unsent.max_us() > 0 { (fact("unsent for", &percentiles(&latency.unsent))) }
        @else if latency.unsent.count() > 0 { (fact("unsent", "nothing")) }
    }
}

fn percentiles(histogram: &Histogram) -> String {
    let figures = [50, 99].map(|percent| histogram.percentile_us(percent).unwrap_or_default());
    let [p50, p99] = figures.map(millis_of);
    format!("{p50} (p50), {p99} (p99), {} at most", millis_of(histogram.max_us()))
}

/// Returns a short duration as people read it.
fn millis_of(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1000.0)
}

/// Returns what an operator should know about a stream, in plain words.
fn notes(report: &Report) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(gops) = report.gops.filter(|gops| gops.last.ms > LONG_GOP_MS) {
        let seconds = f64::from(gops.last.ms) / 1000.0;
        notes.push(format!(
            "A keyframe comes every {seconds:.0} s: players start late. Set the keyframe interval \
             of the encoder to 2 s."
        ));
    }
    if let Some(skew) = report.skew.filter(|skew| skew.last_ms.unsigned_abs() > NOTICED_SKEW_MS) {
        let side = if skew.last_ms > 0 { "behind" } else { "ahead of" };
        notes.push(format!("Audio is {} ms {side} video.", skew.last_ms.unsigned_abs()));
    }
    match report.unmarked {
        Some(Unmarked::Found) => notes.push(
            "The encoder marks no keyframes. They were found in the pictures.".to_owned(),
        ),
        Some(Unmarked::None) => notes.push(
            "The encoder marks no keyframes, and there are none: the picture of a player builds up \
             little by little."
                .to_owned(),
        ),
        None => {}
    }
    if report.gops_cut > 0 {
        notes.push(
            "The GOPs are too large to be kept: late players wait for the next keyframe."
                .to_owned(),
        );
    }
    if !report.repairs.is_empty() {
        notes.push(format!("Timestamps were repaired: {}.", report.repairs));
    }
    notes
}

/// Returns an amount of bytes as people read it.
fn mib(bytes: u64) -> String {
    let mib = bytes as f64 / crate::limits::MIB as f64;
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes / 1024),
        1_048_576..104_857_600 => format!("{mib:.1} MiB"),
        _ => format!("{mib:.0} MiB"),
    }
}

/// Returns a duration as people read it.
fn span_of(millis: u64) -> String {
    let seconds = millis / 1000;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_by_their_two_largest_units() {
        for (millis, shown) in
            [(999, "0 s"), (61_000, "1 min 1 s"), (3_660_000, "1 h 1 min"), (90_000_000, "1 d 1 h")]
        {
            assert_eq!(span_of(millis), shown);
        }
    }
}
