//! Writes the distributions of a report as an interval log, the text format of HdrHistogram tools.
//!
//! Owns the contents of the log besides the histograms: the start of the run, and the distribution
//! that each line belongs to.

use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::distribution::INTERVAL;
use super::model::{LoadReport, ReportError};

/// The first comment of the log, as the writers in other languages have it.
const FORMAT: &str = "[Histogram log format version 1.3]";

/// Returns the log: a histogram for each second and distribution with values, ordered by time and
/// tagged with the name of the distribution. Values are in microseconds.
///
/// # Errors
/// [`ReportError::Unwritable`].
pub fn interval_log(report: &LoadReport) -> Result<String, ReportError> {
    let distributions = report.distributions.iter();
    let mut intervals: Vec<_> = distributions
        .flat_map(|distribution| {
            let tag = tag(distribution.name());
            distribution.intervals().map(move |interval| (tag.clone(), interval))
        })
        .collect();
    intervals.sort_by_key(|(_, interval)| interval.start);
    let start = report.manifest.started().unwrap_or(SystemTime::UNIX_EPOCH);
    let end = Duration::try_from_secs_f64(report.manifest.duration_s).unwrap_or_default();
    let (mut log, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let unwritable = |error: &dyn ToString| ReportError::Unwritable(error.to_string());
    let mut writer = IntervalLogWriterBuilder::new()
        .add_comment(FORMAT)
        .add_comment(&format!("tiderace load {}, in microseconds", report.command))
        .with_start_time(start)
        .with_base_time(start)
        .begin_log_with(&mut log, &mut serializer)
        .map_err(|error| unwritable(&error))?;
    for (tag, interval) in &intervals {
        // The run may have ended within the last interval.
        let length = end.checked_sub(interval.start).map_or(INTERVAL, |left| left.min(INTERVAL));
        writer
            .write_histogram(&interval.histogram, interval.start, length, Tag::new(tag))
            .map_err(|error| unwritable(&error))?;
    }
    String::from_utf8(log).map_err(|error| unwritable(&error))
}

/// Returns a name without the characters that would end a tag.
fn tag(name: &str) -> String {
    name.replace([',', ' ', '\r', '\n'], "_")
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::super::{Distribution, sample};
    use super::*;

    #[test]
    fn characters_that_would_end_a_tag_are_replaced() {
        assert_eq!(tag("time, to\njoin"), "time__to_join");
    }

    #[test]
    fn log_reads_back_as_the_intervals_of_each_distribution() {
        let mut report = sample::report();
        let mut join = Distribution::new("first_frame_after_play");
        join.record(Duration::from_millis(1500), 77);
        report.distributions.push(join);
        report.manifest.duration_s = 2.25;
        let log = interval_log(&report).unwrap();
        assert!(log.starts_with("#[Histogram log format version 1.3]\n"), "{log}");
        let mut found = Vec::new();
        for entry in IntervalLogIterator::new(log.as_bytes()) {
            let interval = match entry.unwrap() {
                LogEntry::Interval(interval) => interval,
                LogEntry::StartTime(at) | LogEntry::BaseTime(at) => {
                    assert_eq!(at.as_secs(), 1_767_323_045);
                    continue;
                }
            };
            let bytes = BASE64_STANDARD.decode(interval.encoded_histogram()).unwrap();
            let read: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
            let tag = interval.tag().unwrap().as_str().to_owned();
            let times = (interval.start_timestamp().as_secs(), interval.duration().as_millis());
            found.push((tag, times, read.len(), read.max()));
        }
        let of = |tag: &str, times, count, max| (tag.to_owned(), times, count, max);
        let expected = [
            of("latency", (0, 1000), 1000, 299),
            of("latency", (1, 1000), 1000, 399),
            of("first_frame_after_play", (1, 1000), 1, 77),
            of("latency", (2, 250), 1000, 3191),
        ];
        assert_eq!(found, expected);
    }
}
