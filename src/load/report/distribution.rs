//! A distribution of durations, over the whole run and for each second of it.
//!
//! Owns the histograms and their file format. The histograms are kept complete, so adding those of
//! several processes loses nothing, and percentiles over time stay available. The thread for chores
//! compresses finished intervals, because that takes up to a millisecond, in which the loop would
//! read nothing. A withheld distribution holds no values.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use super::metric::{Metric, MetricGroup, QUANTILES, Quantile};
use super::model::{Figure, ReportError};
use crate::load::chores;

/// Three significant digits: the error of a value is at most 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;
/// Length of the intervals for which a distribution is also kept.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// Number of intervals that still take values. Longer freezes than this do not keep their shape.
const OPEN_MAX: u64 = 16;

/// A distribution of durations in microseconds, over the whole run and for each second of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "DistributionText", into = "DistributionText")]
pub struct Distribution {
    name: String,
    histogram: Histogram<u64>,
    /// Finished intervals, compressed, because a run may have thousands.
    closed: BTreeMap<u64, Packed>,
    /// The newest intervals. After a freeze the values of many seconds arrive mixed.
    open: BTreeMap<u64, Histogram<u64>>,
    withheld: Option<String>,
    /// Percentiles that are withheld one by one, with the reasons.
    withheld_percentiles: BTreeMap<String, String>,
}

impl Distribution {
    /// Creates an empty distribution of a row of the table of metrics, such as `latency`.
    ///
    /// # Panics
    /// In a debug build, if the table has no such row.
    pub fn new(name: &str) -> Self {
        let is_known = Metric::of_distribution(name).is_some();
        debug_assert!(is_known, "the table of metrics has no distribution {name}");
        Self::empty(name.to_owned())
    }

    fn empty(name: String) -> Self {
        Self {
            name,
            histogram: empty(),
            closed: BTreeMap::new(),
            open: BTreeMap::new(),
            withheld: None,
            withheld_percentiles: BTreeMap::new(),
        }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.histogram.is_empty()
    }

    /// Returns the histogram of all values, in microseconds.
    pub fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }

    /// Returns why the distribution is withheld, if it is.
    pub fn withheld(&self) -> Option<&str> {
        self.withheld.as_deref()
    }

    /// Records a value of an event that was due `at` since the start of the run. By the time at
    /// which it became known, a freeze would show at its end only. A value that is later than
    /// `OPEN_MAX` intervals is counted in the oldest of them.
    pub fn record(&mut self, at: Duration, value_us: u64) {
        count(&mut self.histogram, value_us);
        let index = at.as_secs() / INTERVAL.as_secs();
        let newest = self.open.last_key_value().map_or(index, |(newest, _)| index.max(*newest));
        let oldest = newest.saturating_sub(OPEN_MAX - 1);
        while let Some(first) = self.open.first_entry().filter(|first| *first.key() < oldest) {
            let (index, histogram) = first.remove_entry();
            self.close(index, histogram);
        }
        count(self.open.entry(index.max(oldest)).or_insert_with(empty), value_us);
    }

    /// Withholds the distribution and removes all its values.
    pub fn withhold(&mut self, reason: &str) {
        let name = std::mem::take(&mut self.name);
        *self = Self { withheld: Some(reason.to_owned()), ..Self::empty(name) };
    }

    /// Withholds one percentile, such as `p99`. The others and the histogram stay.
    pub fn withhold_percentile(&mut self, percentile: &str, reason: &str) {
        self.withheld_percentiles.insert(percentile.to_owned(), reason.to_owned());
    }

    /// Returns each quantile with its value in microseconds, whether it is withheld or not. Nothing
    /// if nothing was recorded.
    pub fn values_us(&self) -> Vec<(Quantile, u64)> {
        let recorded = QUANTILES.into_iter().filter(|_| !self.histogram.is_empty());
        let value = |quantile: &Quantile| self.histogram.value_at_quantile(quantile.share);
        recorded.map(|quantile| (quantile, value(&quantile))).collect()
    }

    /// Returns the percentiles as figures, such as `latency_p99_ms`.
    pub fn figures(&self) -> impl Iterator<Item = Figure> + '_ {
        QUANTILES.iter().zip(self.quantiles_ms()).map(|(quantile, value)| {
            let reason = self.withheld_percentiles.get(quantile.name).or(self.withheld.as_ref());
            let reason = reason.map_or("nothing was recorded", String::as_str);
            Figure::of_quantile(quantile.of(&self.name), value, reason)
        })
    }

    /// Returns the values at [`QUANTILES`] that are not withheld, or none if the histogram is
    /// empty.
    fn quantiles_ms(&self) -> [Option<f64>; QUANTILES.len()] {
        QUANTILES.map(|Quantile { name, share, .. }| {
            let is_given =
                !self.histogram.is_empty() && !self.withheld_percentiles.contains_key(name);
            is_given.then(|| self.histogram.value_at_quantile(share) as f64 / 1000.0)
        })
    }

    /// Returns what the distribution describes.
    pub fn group(&self) -> MetricGroup {
        Metric::of_distribution(&self.name).map_or(MetricGroup::Result, |metric| metric.group)
    }

    /// Returns the intervals of the run in order. Intervals without values are left out.
    pub fn intervals(&self) -> impl Iterator<Item = Interval> + '_ {
        let open = self.open.iter().map(|(index, histogram)| (*index, histogram.clone()));
        let closed = self.closed.iter().filter_map(|(index, packed)| {
            // Own data always unpacks. Data from a file was checked when it was read.
            packed.unpack().ok().map(|histogram| (*index, histogram))
        });
        closed.chain(open).map(|(index, histogram)| Interval {
            start: INTERVAL * u32::try_from(index).unwrap_or(u32::MAX),
            histogram,
        })
    }

    /// Adds another distribution, second by second.
    pub(super) fn merge(&mut self, mut other: Self) -> Result<(), ReportError> {
        if let Some(reason) = &other.withheld {
            self.withhold(reason);
        }
        if self.withheld.is_some() {
            return Ok(());
        }
        self.withheld_percentiles.append(&mut other.withheld_percentiles);
        self.close_all();
        other.close_all();
        add(&mut self.histogram, &other.histogram)?;
        for (index, packed) in other.closed {
            self.add_packed(index, packed)?;
        }
        Ok(())
    }

    fn add_packed(&mut self, index: u64, packed: Packed) -> Result<(), ReportError> {
        let packed = match self.closed.remove(&index) {
            Some(known) => {
                let mut sum = known.unpack()?;
                add(&mut sum, &packed.unpack()?)?;
                Packed::new(&sum)?
            }
            None => packed,
        };
        self.closed.insert(index, packed);
        Ok(())
    }

    /// Has a finished interval compressed.
    fn close(&mut self, index: u64, histogram: Histogram<u64>) {
        self.closed.insert(index, Packed::later(histogram));
    }

    fn close_all(&mut self) {
        for (index, histogram) in std::mem::take(&mut self.open) {
            self.close(index, histogram);
        }
    }
}

/// One interval of a distribution.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Start of the interval since the start of the run.
    pub start: Duration,
    /// Its values, in microseconds.
    pub histogram: Histogram<u64>,
}

fn empty() -> Histogram<u64> {
    // Only more than five digits are refused.
    Histogram::new(SIGNIFICANT_DIGITS).expect("three digits are a valid precision")
}

/// Counts a value and grows the histogram if necessary. If the address space does not allow that,
/// counts the largest possible value.
fn count(histogram: &mut Histogram<u64>, value_us: u64) {
    if histogram.record(value_us).is_err() {
        histogram.saturating_record(value_us);
    }
}

fn add(sum: &mut Histogram<u64>, other: &Histogram<u64>) -> Result<(), ReportError> {
    sum.add(other).map_err(|error| ReportError::Damaged(error.to_string()))
}

/// A histogram in the V2 format with deflate, which every HdrHistogram library reads. Its bytes may
/// still be on their way from the thread for chores.
#[derive(Clone, Debug)]
struct Packed(Arc<OnceLock<Vec<u8>>>);

impl Packed {
    fn new(histogram: &Histogram<u64>) -> Result<Self, ReportError> {
        Ok(Self::of(pack(histogram)?))
    }

    fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(OnceLock::from(bytes)))
    }

    /// Returns at once, and compresses the histogram on the thread for chores.
    fn later(histogram: Histogram<u64>) -> Self {
        let packed = Self(Arc::default());
        let bytes = Arc::clone(&packed.0);
        chores::later(move || {
            // Writing to memory does not fail. Empty bytes would be reported as damaged.
            drop(bytes.set(pack(&histogram).unwrap_or_default()));
        });
        packed
    }

    /// Returns the bytes, and waits for them if need be.
    fn bytes(&self) -> &[u8] {
        self.0.wait()
    }

    fn unpack(&self) -> Result<Histogram<u64>, ReportError> {
        let mut histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut self.bytes())
            .map_err(|error| ReportError::Damaged(format!("a histogram: {error}")))?;
        histogram.auto(true);
        Ok(histogram)
    }

    fn text(&self) -> String {
        BASE64_STANDARD.encode(self.bytes())
    }

    fn from_text(text: &str) -> Result<Self, ReportError> {
        let bytes = BASE64_STANDARD.decode(text);
        bytes.map(Self::of).map_err(|error| ReportError::Damaged(format!("a histogram: {error}")))
    }
}

impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

fn pack(histogram: &Histogram<u64>) -> Result<Vec<u8>, ReportError> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .map_err(|error| ReportError::Unwritable(error.to_string()))?;
    Ok(bytes)
}

/// A distribution as stored in a file. Count and percentiles are for readers without a histogram
/// library. They are not read back, so that the histogram stays the only source.
#[derive(Clone, Serialize, Deserialize)]
struct DistributionText {
    name: String,
    unit: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    withheld: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    withheld_percentiles: BTreeMap<String, String>,
    #[serde(default, skip_deserializing)]
    count: u64,
    #[serde(default, skip_deserializing)]
    percentiles_ms: BTreeMap<String, f64>,
    histogram: String,
    interval_s: u64,
    intervals: Vec<(u64, String)>,
}

const UNIT: &str = "us";

impl From<Distribution> for DistributionText {
    fn from(mut distribution: Distribution) -> Self {
        distribution.close_all();
        let percentiles = QUANTILES.iter().zip(distribution.quantiles_ms());
        let packed = Packed::new(&distribution.histogram);
        Self {
            unit: UNIT.to_owned(),
            count: distribution.histogram.len(),
            percentiles_ms: percentiles
                .filter_map(|(quantile, value)| Some((quantile.name.to_owned(), value?)))
                .collect(),
            histogram: packed.map(|packed| packed.text()).unwrap_or_default(),
            interval_s: INTERVAL.as_secs(),
            intervals: distribution
                .closed
                .iter()
                .map(|(index, packed)| (index * INTERVAL.as_secs(), packed.text()))
                .collect(),
            name: distribution.name,
            withheld: distribution.withheld,
            withheld_percentiles: distribution.withheld_percentiles,
        }
    }
}

impl TryFrom<DistributionText> for Distribution {
    type Error = ReportError;

    fn try_from(text: DistributionText) -> Result<Self, ReportError> {
        if text.unit != UNIT || text.interval_s != INTERVAL.as_secs() {
            return Err(ReportError::Damaged(format!(
                "distribution {:?}: expected {UNIT} by {} s, got {} by {} s",
                text.name,
                INTERVAL.as_secs(),
                text.unit,
                text.interval_s
            )));
        }
        let mut closed = BTreeMap::new();
        for (start_s, packed) in &text.intervals {
            let packed = Packed::from_text(packed)?;
            packed.unpack()?;
            closed.insert(start_s / INTERVAL.as_secs(), packed);
        }
        let histogram = Packed::from_text(&text.histogram)?.unpack()?;
        let DistributionText { name, withheld, withheld_percentiles, .. } = text;
        let open = BTreeMap::new();
        Ok(Self { name, histogram, closed, open, withheld, withheld_percentiles })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of up to a day, from a xorshift generator.
    fn values(seed: u64) -> impl Iterator<Item = u64> {
        let next = |last: &u64| {
            let value = last ^ (last << 13);
            let value = value ^ (value >> 7);
            Some(value ^ (value << 17))
        };
        std::iter::successors(Some(seed), next).map(|value| value >> (27 + value % 37)).take(500)
    }

    fn recorded(values: impl Iterator<Item = (u64, u64)>) -> Distribution {
        let mut distribution = Distribution::new("latency");
        values.for_each(|(at_ms, value)| distribution.record(Duration::from_millis(at_ms), value));
        distribution
    }

    fn shown(distribution: &Distribution) -> Vec<(Duration, Histogram<u64>)> {
        let intervals = distribution.intervals();
        intervals.map(|interval| (interval.start, interval.histogram)).collect()
    }

    #[test]
    fn shares_added_equal_one_that_saw_all_values() {
        let timed = || (0..).zip(values(7)).map(|(index, value)| (index * 30, value));
        let whole = recorded(timed());
        for count in [2, 3, 7] {
            let share =
                |number| recorded(timed().filter(move |(at_ms, _)| at_ms / 30 % count == number));
            let mut sum = share(0);
            for number in 1..count {
                sum.merge(share(number)).unwrap();
            }
            assert_eq!(sum.histogram(), whole.histogram());
            assert_eq!(shown(&sum), shown(&whole));
            assert!(sum.figures().eq(whole.figures()));
        }
    }

    #[test]
    fn merging_distributions_from_files_equals_merging_recorded_ones() {
        let read = |distribution: Distribution| {
            Distribution::try_from(DistributionText::from(distribution)).unwrap()
        };
        let (small, large) = (recorded([(0, 5)].into_iter()), recorded([(0, 1 << 40)].into_iter()));
        let mut sum = read(small.clone());
        sum.merge(read(large.clone())).unwrap();
        let mut expected = small;
        expected.merge(large).unwrap();
        assert_eq!(sum.histogram(), expected.histogram());
        assert_eq!(sum.histogram().len(), 2);
    }

    #[test]
    fn intervals_are_the_seconds_with_values() {
        let distribution =
            recorded([(0, 1), (999, 2), (1000, 3), (5500, 4), (5400, 5)].into_iter());
        let seconds: Vec<_> = distribution
            .intervals()
            .map(|interval| (interval.start.as_secs(), interval.histogram.len()))
            .collect();
        assert_eq!(seconds, [(0, 2), (1, 1), (5, 2)]);
    }

    #[test]
    fn recording_never_compresses_and_reading_waits_for_it() {
        // The thread for chores is held up, so what is compressed meanwhile was not left to it.
        let (release, held) = std::sync::mpsc::channel::<()>();
        chores::later(move || assert!(held.recv().is_err()));
        let distribution = recorded([(0, 1), (1000, 2), (100_000, 3)].into_iter());
        assert_eq!(distribution.closed.len(), 2);
        assert!(distribution.closed.values().all(|packed| packed.0.get().is_none()));
        drop(release);
        assert_eq!(shown(&distribution).len(), 3);
        assert_eq!(shown(&distribution)[1].1.len(), 1);
    }

    #[test]
    fn late_values_are_counted_in_the_interval_of_their_event() {
        // Two players that catch up after a freeze of five seconds, one after the other.
        let frames = || (0..50).map(|frame| frame * 100);
        let late = frames().chain(frames()).map(|at_ms| (at_ms, 5_000 - at_ms));
        let distribution = recorded([(5_000, 1)].into_iter().chain(late));
        // The latency falls by a second each second; the histogram has three digits.
        let highest = distribution.intervals().map(|interval| interval.histogram.max() / 100);
        assert!(highest.eq([50, 40, 30, 20, 10, 0]));
        let counts = distribution.intervals().map(|interval| interval.histogram.len());
        assert!(counts.eq([20, 20, 20, 20, 20, 1]));
    }

    #[test]
    fn a_value_that_is_later_than_all_open_intervals_is_counted_in_the_oldest() {
        let second = |at_s: u64| (at_s * 1000, 7);
        let distribution = recorded([second(0), second(1), second(100), second(1)].into_iter());
        let counts: Vec<_> = distribution
            .intervals()
            .map(|interval| (interval.start.as_secs(), interval.histogram.len()))
            .collect();
        assert_eq!(counts, [(0, 1), (1, 1), (100 - (OPEN_MAX - 1), 1), (100, 1)]);
        assert_eq!(distribution.histogram().len(), 4);
    }

    #[test]
    fn no_value_is_off_by_more_than_a_thousandth() {
        for value in values(99) {
            let mut distribution = Distribution::new("latency");
            distribution.record(Duration::ZERO, value);
            let max = distribution.figures().last().unwrap().value.unwrap() * 1000.0;
            assert!(max >= value as f64 * 0.999 && max <= value as f64 * 1.001, "{value} {max}");
        }
    }

    #[test]
    fn empty_distribution_has_percentiles_that_are_withheld() {
        let figures: Vec<_> = Distribution::new("tcp").figures().collect();
        let names: Vec<_> = figures.iter().map(|figure| figure.name.as_str()).collect();
        let expected =
            ["p50", "p90", "p95", "p99", "p999", "max"].map(|name| format!("tcp_{name}_ms"));
        assert_eq!(names, expected);
        assert!(figures.iter().all(|figure| figure.value.is_none()));
        assert_eq!(figures[0].withheld.as_deref(), Some("nothing was recorded"));
    }

    #[test]
    fn a_percentile_can_be_withheld_alone_in_files_and_sums_as_well() {
        let mut doubtful = recorded([(0, 1000), (0, 9000)].into_iter());
        doubtful.withhold_percentile("max", "it was late");
        let text = DistributionText::from(doubtful.clone());
        assert!(!text.percentiles_ms.contains_key("max"));
        assert_eq!(text.percentiles_ms.len(), QUANTILES.len() - 1);
        let read = Distribution::try_from(text).unwrap();
        let mut sum = recorded([(0, 5)].into_iter());
        sum.merge(read.clone()).unwrap();
        for distribution in [doubtful, read, sum] {
            let figures: Vec<_> = distribution.figures().collect();
            let (last, others) = figures.split_last().unwrap();
            assert_eq!(last.withheld.as_deref(), Some("it was late"));
            assert!(others.iter().all(|figure| figure.value.is_some()));
            assert_eq!(distribution.values_us().len(), QUANTILES.len());
        }
    }

    #[test]
    fn one_process_that_withholds_is_enough() {
        let mut lagged = recorded([(0, 1)].into_iter());
        lagged.withhold("the generator lagged");
        for (mut sum, other) in [
            (lagged.clone(), recorded([(0, 1)].into_iter())),
            (recorded([(0, 1)].into_iter()), lagged.clone()),
        ] {
            sum.merge(other).unwrap();
            assert_eq!(sum, lagged);
        }
    }
}
