//! `load fanout`: streams through a server to many players, checked frame by frame.
//!
//! Owns the flags of the command and its figures. [`streams`](super) runs it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::offer::{Offer, file_name, one_or_more};
use super::results::{GB_BYTES, StreamResults, busy_per_gb, count, quotient};
use super::routes::{Routes, read_keys};
use super::slow_readers::SlowOptions;
use super::steps::{StepOptions, Steps};
use super::{Streams, StreamsRun};
use crate::load::LoadError;
use crate::load::manifest::{Manifest, shown_target};
use crate::load::measured::Measured;
use crate::load::measurement::Measurement;
use crate::load::options::Options;
use crate::load::own_delay::judge;
use crate::load::report::{Figure, LoadReport, Need};
use crate::load::target::{Target, probe};

/// Options of `load fanout`.
#[derive(Clone, Debug, Args)]
pub struct Fanout {
    /// The server, as `rtmp://HOST[:PORT]/APP/KEY`.
    pub url: String,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub offer: Offer,
    /// Where players play, as `http://HOST[:PORT]/APP/KEY.flv` for HTTP-FLV or as
    /// `rtmp://HOST[:PORT]/APP/KEY`. By default they play where the streams are published. Several
    /// streams have a number after the key.
    #[arg(long, value_name = "URL", conflicts_with = "wire")]
    pub play_url: Option<String>,
    /// The keys with which players play, one a line of this file and one for each stream.
    #[arg(long, value_name = "FILE")]
    pub play_keys: Option<PathBuf>,
    /// How many players, spread over the streams. A search begins with them.
    #[arg(long, value_name = "N", default_value = "10", value_parser = one_or_more)]
    pub players: u32,
    /// A player stalls if no frame arrives for this many frame intervals.
    #[arg(long, value_name = "N", default_value = "5", value_parser = stall_frames)]
    pub stall_frames: f64,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub slow: SlowOptions,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub steps: StepOptions,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub options: Options,
}

impl Fanout {
    /// Runs the load and reports what happened to the frames.
    ///
    /// # Errors
    /// The reason why nothing could be measured.
    pub fn measure(&self) -> Result<LoadReport, LoadError> {
        let target = Target::parse(&self.url)?;
        self.steps.check(self.options.server_pid.is_some())?;
        let (offer, routes) = self.routes(&target)?;
        let options = &self.options;
        let steps = self
            .steps
            .are_given()
            .then(|| Steps::new(&self.steps, self.players, options.lateness_max_ms));
        let steps = steps.transpose()?;
        let players = steps.as_ref().and_then(Steps::players).unwrap_or(self.players);
        let players_max = self.steps.players_max().unwrap_or(players);
        let connections = [offer.publishers, players_max, self.slow.slow_readers];
        let connections = connections.map(|count| count as usize).into_iter().sum();
        let parameters = self.parameters(&offer);
        let measurement =
            Measurement::prepare("fanout", target.clone(), options, connections, parameters)?;
        if self.play_url.is_some() {
            probe(routes.play.address())?;
        }
        let streams = Streams::new(&offer, &target, routes, players, options, measurement)
            .stalling_after(self.stall_frames)
            .with_slow_readers(self.slow)
            .in_steps(steps);
        let StreamsRun { mut measurement, results, measured, steps, elapsed } = streams.run()?;
        results.over_time.add_to(&mut measurement.report);
        let Some(steps) = steps else {
            let report = &mut measurement.report;
            let connections = [offer.publishers, self.players];
            results.add_failures(report, connections, options.failed_max_share);
            report.lagged = fill(report, results, &measured, options.lateness_max_ms);
            return Ok(measurement.finish(&measured));
        };
        let is_search = steps.is_search();
        let chosen = steps.add_to(&mut measurement.report);
        let end = measured.end();
        let measured = chosen.unwrap_or(measured).ended_by(end);
        let lagged = measurement.report.lagged.clone();
        let mut report = measurement.finish(&measured);
        // A search has judged its steps itself.
        if is_search && measured.lost_schedule.is_none() {
            report.lagged = lagged;
        }
        report.manifest.duration_s = elapsed.as_secs_f64();
        Ok(report)
    }

    /// Returns the streams to publish, and the routes of both sides.
    fn routes(&self, target: &Target) -> Result<(Offer, Routes), LoadError> {
        let (offer, mut routes) = self.offer.with_routes(target)?;
        if let Some(url) = &self.play_url {
            routes = routes.playing_at(url)?;
        }
        if let Some(path) = &self.play_keys {
            routes = routes.playing_keys(path, read_keys(path)?)?;
        }
        Ok((offer, routes))
    }

    fn parameters(&self, offer: &Offer) -> BTreeMap<String, String> {
        let mut parameters = offer.parameters();
        parameters.insert("players".to_owned(), self.players.to_string());
        parameters.insert("stall-frames".to_owned(), self.stall_frames.to_string());
        if let Some(url) = &self.play_url {
            parameters.insert("play-url".to_owned(), shown_target(url));
        }
        if let Some(path) = &self.play_keys {
            parameters.insert("play-keys".to_owned(), file_name(path));
        }
        parameters.extend(self.slow.parameters());
        parameters.extend(self.steps.parameters());
        parameters
    }
}

/// Returns the report of the window of a step, with all times as measured.
pub(super) fn window(
    manifest: Manifest,
    results: StreamResults,
    measured: &Measured,
    lateness_max: Option<Duration>,
) -> LoadReport {
    let mut report = LoadReport::new("fanout", manifest);
    results.count_failures(&mut report);
    // A generator that was late while players joined affects no other figure of the step.
    let _ = fill(&mut report, results, measured, lateness_max);
    report.add_figure(Figure::new("generator_cpu_share", measured.cpu_share()));
    report
}

/// Parses the number of intervals that make a stall. Below one, every gap would be a stall.
fn stall_frames(text: &str) -> Result<f64, String> {
    let frames = text.parse().ok().filter(|frames| (1.0..=1e6).contains(frames));
    frames.ok_or_else(|| "expected a number of frame intervals, at least 1".to_owned())
}

/// Adds the figures of a window. Returns why the generator did not keep up while players joined, if
/// so; the times of joining are then withheld.
fn fill(
    report: &mut LoadReport,
    results: StreamResults,
    measured: &Measured,
    lateness_max: Option<Duration>,
) -> Option<String> {
    let joining = results.before_window.clone().unwrap_or_else(|| measured.clone());
    add_counts(report, &results);
    let StreamResults { arrivals, audio, sent, first_frame, first_frame_after_play, .. } = results;
    report.distributions.extend([
        arrivals.latency,
        arrivals.jitter,
        first_frame,
        first_frame_after_play,
        sent.write_delay,
        measured.turns.clone(),
    ]);
    if !audio.latency.is_empty() {
        report.distributions.push(audio.latency);
    }
    let lagged = judge(report, &joining, Need::PunctualJoining, lateness_max);
    // A lost schedule is reported for the whole run.
    let lagged = lagged.filter(|_| measured.lost_schedule.is_none())?;
    let reason = format!("while players joined, {lagged}");
    report.add_doubt(reason.clone());
    Some(reason)
}

fn add_counts(report: &mut LoadReport, results: &StreamResults) {
    let arrivals = &results.arrivals;
    let lost = results.expected.saturating_sub(arrivals.frames);
    count(report, "players", results.players.into());
    count(report, "players_without_frame", results.players_without_frame.into());
    count(report, "frames_expected", results.expected);
    count(report, "frames_received", arrivals.frames);
    count(report, "frames_lost", lost);
    count(report, "frames_duplicated", arrivals.duplicated);
    count(report, "frames_out_of_order", arrivals.out_of_order);
    count(report, "frames_corrupt", arrivals.corrupt);
    count(report, "stalls", arrivals.stalls);
    add_audio(report, results);
    let gap_ms = arrivals.longest_gap.as_secs_f64() * 1000.0;
    report.add_figure(Figure::new("longest_gap_ms", gap_ms));
    let bytes = arrivals.bytes + results.audio.bytes;
    count(report, "delivered_bytes", bytes);
    let bit_per_s = 8.0 * bytes as f64 / results.open_for.as_secs_f64();
    report.add_figure(Figure::new("delivered_bit_per_s", bit_per_s));
    if let Some(slow) = &results.slow {
        slow.add_to(report);
    }
    results.add_server(report);
    results.withhold_unknown(report);
    conclude(report);
    if !results.players_failed.is_empty() {
        report.add_doubt("players failed: frames that players missed after failing count as lost");
    }
    if lost > 0 {
        report.add_doubt(
            "frames were lost: the server may have skipped them on purpose for a slow player, and \
             this generator may have been that player",
        );
    }
}

/// Adds the counts of audio frames, if the streams have audio.
fn add_audio(report: &mut LoadReport, results: &StreamResults) {
    let (arrivals, expected) = (&results.audio, results.audio_expected);
    if expected == 0 && arrivals.frames == 0 {
        return;
    }
    let lost = expected.saturating_sub(arrivals.frames);
    for (name, frames) in [
        ("audio_frames_expected", expected),
        ("audio_frames_received", arrivals.frames),
        ("audio_frames_lost", lost),
        ("audio_frames_duplicated", arrivals.duplicated),
        ("audio_frames_out_of_order", arrivals.out_of_order),
        ("audio_frames_corrupt", arrivals.corrupt),
    ] {
        count(report, name, frames);
    }
}

/// Computes the quotients of the report from its counts, those of one process or of several.
pub(in crate::load) fn conclude(report: &mut LoadReport) {
    let cost = ["server_cpu_s", "delivered_bytes"];
    quotient(report, "server_cpu_s_per_gb", cost, GB_BYTES);
    busy_per_gb(report, "delivered_bytes");
    let lost = ["frames_lost", "frames_expected"];
    quotient(report, "frames_lost_share", lost, 1.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_is_withheld_and_not_zero() {
        let counted = |results: &StreamResults| {
            let mut report = LoadReport::new("fanout", Manifest::new("h", BTreeMap::new()));
            add_counts(&mut report, results);
            ["players_without_frame", "frames_corrupt", "frames_lost", "longest_gap_ms"]
                .map(|name| report.figure(name).and_then(|figure| figure.value))
        };
        let mut results = StreamResults::new(Duration::from_secs(1));
        assert_eq!(counted(&results), [None; 4], "the window never opened");
        results.before_window = Some(Measured::new(false));
        assert_eq!(counted(&results), [Some(0.0), Some(0.0), None, None], "it was cut short");
        results.has_ended = true;
        assert_eq!(counted(&results), [Some(0.0); 4]);
    }
}
