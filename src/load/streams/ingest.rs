//! `load ingest`: publishers of streams that have no players.
//!
//! Owns the flags of the command and its figures. [`streams`](super) runs it.

use clap::Args;

use super::offer::Offer;
use super::publisher::Sent;
use super::results::{GB_BYTES, StreamResults, busy_per_gb, count, quotient};
use super::{Streams, StreamsRun};
use crate::load::LoadError;
use crate::load::measured::Measured;
use crate::load::measurement::Measurement;
use crate::load::options::Options;
use crate::load::report::{Figure, LoadReport};
use crate::load::target::Target;

/// Options of `load ingest`.
#[derive(Clone, Debug, Args)]
pub struct Ingest {
    /// The server, as `rtmp://HOST[:PORT]/APP/KEY`.
    pub url: String,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub offer: Offer,
    #[allow(missing_docs, reason = "a doc would become the text of the help")]
    #[command(flatten)]
    pub options: Options,
}

impl Ingest {
    /// Runs the load and reports what happened to the frames.
    ///
    /// # Errors
    /// The reason why nothing could be measured.
    pub fn measure(&self) -> Result<LoadReport, LoadError> {
        let target = Target::parse(&self.url)?;
        let (offer, routes) = self.offer.with_routes(&target)?;
        let options = &self.options;
        let (connections, parameters) = (offer.publishers as usize, offer.parameters());
        let measurement =
            Measurement::prepare("ingest", target.clone(), options, connections, parameters)?;
        let streams = Streams::new(&offer, &target, routes, 0, options, measurement);
        let StreamsRun { mut measurement, results, measured, .. } = streams.run()?;
        let report = &mut measurement.report;
        results.add_failures(report, [offer.publishers, 0], options.failed_max_share);
        fill(report, results, &offer, &measured);
        Ok(measurement.finish(&measured))
    }
}

fn fill(report: &mut LoadReport, results: StreamResults, offer: &Offer, measured: &Measured) {
    let sent = &results.sent;
    let accepted_bytes = sent.accepted_bytes;
    count(report, "publishers", offer.publishers.into());
    count(report, "frames_intended", sent.intended);
    count(report, "frames_accepted", sent.accepted);
    count(report, "accepted_bytes", accepted_bytes);
    let bit_per_s = 8.0 * accepted_bytes as f64 / results.open_for.as_secs_f64();
    report.add_figure(Figure::new("accepted_bit_per_s", bit_per_s));
    add_acknowledgements(report, sent);
    results.add_server(report);
    results.withhold_unknown(report);
    conclude(report);
    results.over_time.add_throughput_to(report);
    let StreamResults { sent, unacknowledged, .. } = results;
    if sent.acknowledged_bytes > 0 {
        report.series.push(unacknowledged);
    }
    let Sent { write_delay, acknowledgement_delay, .. } = sent;
    report.distributions.extend([write_delay, acknowledgement_delay, measured.turns.clone()]);
}

/// Adds what the server itself has taken. A server that sends no acknowledgements does not tell.
fn add_acknowledgements(report: &mut LoadReport, sent: &Sent) {
    let gap_ms = sent.acknowledgement_gap.as_secs_f64() * 1000.0;
    let none = "the server sent no acknowledgements during the measurement";
    for (name, value) in [
        ("acknowledged_bytes", sent.acknowledged_bytes as f64),
        ("acknowledgement_gap_max_ms", gap_ms),
        ("unacknowledged_bytes_max", sent.unacknowledged_bytes_max as f64),
    ] {
        report.add_figure(match sent.acknowledged_bytes {
            0 => Figure::withheld(name, none),
            _ => Figure::new(name, value),
        });
    }
}

/// Computes the quotients of the report from its counts, those of one process or of several.
pub(in crate::load) fn conclude(report: &mut LoadReport) {
    let accepted = ["frames_accepted", "frames_intended"];
    quotient(report, "accepted_share", accepted, 1.0);
    let cost = ["server_cpu_s", "accepted_bytes"];
    quotient(report, "server_cpu_s_per_gb", cost, GB_BYTES);
    busy_per_gb(report, "accepted_bytes");
}
