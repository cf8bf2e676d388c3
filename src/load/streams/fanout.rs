//! `load fanout`: streams through a server to many players, checked frame by frame.
//!
//! Owns the flags of the command and its figures. [`streams`](super) runs it.

use clap::Args;

use super::Streams;
use super::offer::{Offer, one_or_more};
use super::results::{GB_BYTES, StreamResults, busy_per_gb, count, quotient};
use crate::load::LoadError;
use crate::load::http_flv::HttpTarget;
use crate::load::manifest::shown_target;
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
    /// Where players play over HTTP-FLV, as `http://HOST[:PORT]/APP/KEY.flv`. By default they play
    /// as the streams are published. Several streams have a number after the key.
    #[arg(long, value_name = "URL", conflicts_with = "wire")]
    pub play_url: Option<String>,
    /// How many players, spread over the streams.
    #[arg(long, value_name = "N", default_value = "10", value_parser = one_or_more)]
    pub players: u32,
    /// A player stalls if no frame arrives for this many frame intervals.
    #[arg(long, value_name = "N", default_value = "5", value_parser = stall_frames)]
    pub stall_frames: f64,
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
        let http = self.play_url.as_deref().map(HttpTarget::parse).transpose()?;
        let mut parameters = self.offer.parameters();
        parameters.insert("players".to_owned(), self.players.to_string());
        parameters.insert("stall-frames".to_owned(), self.stall_frames.to_string());
        if let Some(url) = &self.play_url {
            parameters.insert("play-url".to_owned(), shown_target(url));
        }
        let connections = self.offer.publishers as usize + self.players as usize;
        let (options, offer) = (&self.options, &self.offer);
        let measurement =
            Measurement::prepare("fanout", target.clone(), options, connections, parameters)?;
        if let Some(http) = &http {
            probe(http.address)?;
        }
        let streams =
            Streams::new(offer, &target, self.players, self.stall_frames, options, measurement)
                .playing_over_http(http.as_ref());
        let (mut measurement, results, measured) = streams.run()?;
        let joining = results.before_window.clone().unwrap_or_else(|| measured.clone());
        let report = &mut measurement.report;
        let connections = [offer.publishers, self.players];
        results.add_failures(report, connections, options.failed_max_share);
        fill(report, results, &measured);
        let lagged = judge(report, &joining, Need::PunctualJoining, options.lateness_max_ms);
        if let Some(reason) = lagged.filter(|_| measured.lost_schedule.is_none()) {
            let reason = format!("while players joined, {reason}");
            report.add_doubt(reason.clone());
            report.lagged = Some(reason);
        }
        Ok(measurement.finish(&measured))
    }
}

/// Parses the number of intervals that make a stall. Below one, every gap would be a stall.
fn stall_frames(text: &str) -> Result<f64, String> {
    let frames = text.parse().ok().filter(|frames| (1.0..=1e6).contains(frames));
    frames.ok_or_else(|| "expected a number of frame intervals, at least 1".to_owned())
}

fn fill(report: &mut LoadReport, results: StreamResults, measured: &Measured) {
    results.over_time.add_to(report);
    let arrivals = &results.arrivals;
    let lost = results.expected.saturating_sub(arrivals.frames);
    count(report, "players", results.players.into());
    if results.players_without_frame > 0 {
        let players = results.players_without_frame.into();
        count(report, "players_without_frame", players);
    }
    count(report, "frames_expected", results.expected);
    count(report, "frames_received", arrivals.frames);
    count(report, "frames_lost", lost);
    count(report, "frames_duplicated", arrivals.duplicated);
    count(report, "frames_out_of_order", arrivals.out_of_order);
    count(report, "frames_corrupt", arrivals.corrupt);
    count(report, "stalls", arrivals.stalls);
    let gap_ms = arrivals.longest_gap.as_secs_f64() * 1000.0;
    report.add_figure(Figure::new("longest_gap_ms", gap_ms));
    count(report, "delivered_bytes", arrivals.bytes);
    let bit_per_s = 8.0 * arrivals.bytes as f64 / results.open_for.as_secs_f64();
    report.add_figure(Figure::new("delivered_bit_per_s", bit_per_s));
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
    let StreamResults { arrivals, sent, first_frame, first_frame_after_play, .. } = results;
    report.distributions.extend([
        arrivals.latency,
        arrivals.jitter,
        first_frame,
        first_frame_after_play,
        sent.write_delay,
        measured.turns.clone(),
    ]);
}

/// Computes the quotients of the report from its counts, those of one process or of several.
pub(in crate::load) fn conclude(report: &mut LoadReport) {
    let cost = ["server_cpu_s", "delivered_bytes"];
    quotient(report, "server_cpu_s_per_gb", cost, GB_BYTES);
    busy_per_gb(report, "delivered_bytes");
    let lost = ["frames_lost", "frames_expected"];
    quotient(report, "frames_lost_share", lost, 1.0);
}
