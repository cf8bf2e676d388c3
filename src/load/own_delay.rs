//! Judges how much of a measured time may be the generator's own delay.
//!
//! Owns which delays are part of which times, and which values are withheld. Each percentile is
//! compared with the same percentile of the generator's own delays, so a generator that is late by
//! 2 ms still measures a server that needs 200 ms. The judgement is on the safe side: a value is
//! withheld even if the generator and the server were late at different moments.

use std::time::Duration;

use super::measured::{Measured, REMEDY};
use super::report::{Distribution, LoadReport, Metric, Need};

/// The percentile by which the generator as a whole is judged.
const JUDGED: &str = "p99";
/// Lateness of an action that does not matter for the time until the kernel takes a frame. It is
/// most of that time as long as the kernel takes frames at once.
const WRITE_LATENESS_MAX_US: u64 = 1000;

/// The delays of the generator that are part of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// From an intended time until the kernel has taken the output.
    Acting,
    /// From one read to another.
    Reading,
    /// From an intended time to a read.
    Both,
}

impl Part {
    /// Returns the delays that are part of the distribution `name`.
    fn of(name: &str) -> Self {
        match name {
            "write_delay" => Self::Acting,
            "acknowledgement_delay" => Self::Reading,
            "handshake" | "connect" | "stream" | "publish" | "play" => Self::Reading,
            "jitter" | "video_jitter" | "audio_jitter" | "first_frame_after_play" => Self::Reading,
            _ => Self::Both,
        }
    }

    /// Returns the own delay at a quantile (us).
    fn delay_us(self, measured: &Measured, quantile: f64) -> u64 {
        let at = |own: &Distribution| own.histogram().value_at_quantile(quantile);
        match self {
            Self::Acting => at(&measured.lateness),
            Self::Reading => at(&measured.read_delay),
            Self::Both => at(&measured.lateness) + at(&measured.read_delay),
        }
    }

    const fn accepted_us(self) -> u64 {
        match self {
            Self::Acting => WRITE_LATENESS_MAX_US,
            Self::Reading | Self::Both => 0,
        }
    }
}

/// Withholds what needs `need` and is not reliable, and returns why the generator did not keep up,
/// if so. With `lateness_max` one bound decides on all of it. Without, each percentile is
/// judged by itself, and the generator did not keep up if a [`JUDGED`] percentile is withheld.
/// Figures without percentiles are then withheld, too.
pub(super) fn judge(
    report: &mut LoadReport,
    measured: &Measured,
    need: Need,
    lateness_max: Option<Duration>,
) -> Option<String> {
    if let Some(reason) = measured.lagged(lateness_max) {
        report.withhold_if_needs(need, &reason);
        return Some(reason);
    }
    if lateness_max.is_some() {
        return None;
    }
    let needs = |metric: Option<&Metric>| metric.is_some_and(|metric| metric.needs_that(need));
    let distributions = report.distributions.iter_mut();
    let of_time = distributions.filter(|known| needs(Metric::of_distribution(known.name())));
    let reasons: Vec<_> = of_time.filter_map(|known| withhold_own(known, measured)).collect();
    let reason = reasons.into_iter().next()?;
    let figures = report.figures.iter_mut();
    figures
        .filter(|figure| needs(Metric::of_figure(&figure.name)))
        .for_each(|figure| figure.withhold(&reason));
    Some(reason)
}

/// Withholds the percentiles more than half of which may be own delay. Returns the reason if
/// [`JUDGED`] is among them.
fn withhold_own(distribution: &mut Distribution, measured: &Measured) -> Option<String> {
    let part = Part::of(distribution.name());
    let mut judged = None;
    for (quantile, value_us) in distribution.values_us() {
        let (percentile, own_us) = (quantile.name, part.delay_us(measured, quantile.share));
        if own_us <= part.accepted_us() || 2 * own_us <= value_us {
            continue;
        }
        if percentile == JUDGED {
            let [value_ms, own_ms] = [value_us, own_us].map(|us| us as f64 / 1000.0);
            judged = Some(format!(
                "{} is {value_ms:.3} ms at {percentile}, of which {own_ms:.3} ms may be the \
                 generator's own delay: {REMEDY}",
                distribution.name()
            ));
        }
        let reason = format!("more than half of it may be the generator's own delay: {REMEDY}");
        distribution.withhold_percentile(percentile, &reason);
    }
    judged
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::load::manifest::Manifest;
    use crate::load::report::Figure;
    use crate::time::Time;

    /// A generator that was late by `lateness_us` and read after `read_us`, both with a last value
    /// of its own.
    fn measured(lateness_us: [u64; 2], read_us: [u64; 2]) -> Measured {
        let mut measured = Measured::new(false);
        let due = measured.began;
        let micros = |us: u64| Time::from_micros(due.as_micros() + us);
        for number in 0..1000 {
            let tail = usize::from(number == 999);
            measured.note_lateness(due, micros(lateness_us[tail]));
            measured.note_wake(due, Duration::ZERO);
            measured.note_read(micros(read_us[tail]));
        }
        measured.elapsed = Duration::from_secs(10);
        measured
    }

    /// A report with 1000 values of `name`, the last of which is another.
    fn report(name: &str, value_us: [u64; 2]) -> LoadReport {
        let mut report = LoadReport::new("fanout", Manifest::new("h", BTreeMap::new()));
        let mut distribution = Distribution::new(name);
        for number in 0..1000 {
            distribution.record(Duration::ZERO, value_us[usize::from(number == 999)]);
        }
        report.distributions.push(distribution);
        report.add_figure(Figure::new("stalls", 1.0));
        report
    }

    fn withheld(report: &LoadReport, name: &str) -> [bool; 3] {
        ["p50", "p99", "max"].map(|percentile| {
            let figure = report.figure(&format!("{name}_{percentile}_ms")).unwrap();
            assert_eq!(figure.value.is_none(), figure.withheld.is_some());
            figure.value.is_none()
        })
    }

    #[test]
    fn a_value_is_withheld_only_if_the_own_delay_is_more_than_half_of_it() {
        for (lateness_us, read_us, expected) in [
            ([100, 100], [100, 100], [false, false, false]),
            // A tail of the generator's own.
            ([100, 100], [100, 3000], [false, false, true]),
            ([300, 300], [300, 300], [true, true, false]),
            ([600, 600], [0, 0], [true, true, false]),
        ] {
            let mut report = report("latency", [1000, 5000]);
            let own = measured(lateness_us, read_us);
            let lagged = judge(&mut report, &own, Need::Punctuality, None);
            assert_eq!(withheld(&report, "latency"), expected, "{lateness_us:?} {read_us:?}");
            // Figures without percentiles go by the 99th.
            assert_eq!(lagged.is_some(), expected[1]);
            assert_eq!(report.figure("stalls").unwrap().value.is_none(), expected[1]);
        }
    }

    #[test]
    fn a_late_read_matters_for_times_between_reads_and_a_late_action_does_not() {
        let (late, idle) = ([900, 900], [0, 0]);
        for (name, lateness_us, read_us, expected) in [
            ("jitter", late, idle, [false; 3]),
            ("jitter", idle, late, [true, true, false]),
            ("write_delay", idle, late, [false; 3]),
            ("write_delay", late, idle, [false; 3]),
            ("write_delay", [1100, 1100], idle, [true, true, false]),
        ] {
            let mut report = report(name, [1200, 5000]);
            judge(&mut report, &measured(lateness_us, read_us), Need::Punctuality, None);
            assert_eq!(withheld(&report, name), expected, "{name} {lateness_us:?} {read_us:?}");
        }
    }

    #[test]
    fn a_bound_on_the_lateness_decides_alone() {
        let own = measured([900, 900], [900, 900]);
        let judged = |lateness_max_us| {
            let mut report = report("latency", [1000, 5000]);
            let lateness_max = Some(Duration::from_micros(lateness_max_us));
            let lagged = judge(&mut report, &own, Need::Punctuality, lateness_max);
            (lagged.is_some(), withheld(&report, "latency"))
        };
        assert_eq!(judged(1000), (false, [false; 3]));
        assert_eq!(judged(800), (true, [true; 3]));
    }

    #[test]
    fn the_reason_names_the_numbers_and_the_remedies() {
        let mut report = report("latency", [1000, 5000]);
        let own = measured([600; 2], [0; 2]);
        let reason = judge(&mut report, &own, Need::Punctuality, None).unwrap();
        let expected = "latency is 1.000 ms at p99, of which 0.600 ms may be the generator's own";
        assert!(reason.starts_with(expected), "{reason}");
        for remedy in ["taskset", "nice", "chrt", "--lateness-max-ms"] {
            assert!(reason.contains(remedy), "{reason}");
        }
    }
}
