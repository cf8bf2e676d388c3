//! Converts distributions and series to points of a plot, as many as a page has room for.
//!
//! Owns the reduction of too many values, and the tooltips of the points.

use hdrhistogram::Histogram;

use super::distribution::{Distribution, INTERVAL};
use super::terminal::milliseconds;

/// Maximum number of points that can be told apart.
const POINTS_MAX: usize = 240;
/// Number of nines up to which percentiles are plotted.
const DECADES_MAX: f64 = 7.0;

/// Returns the curve of a distribution by percentile: pairs of the number of nines and
/// milliseconds. It ends at the maximum, where only one value is left.
pub(super) fn curve(distribution: &Distribution) -> Vec<(f64, f64)> {
    const STEP: f64 = 0.02;
    let histogram = distribution.histogram();
    let end = (histogram.len() as f64).log10().clamp(2_f64.log10(), DECADES_MAX);
    let steps = (0..).map(|index| f64::from(index) * STEP).take_while(|decades| *decades < end);
    let point =
        |decades: f64| (decades, ms(histogram.value_at_quantile(1.0 - 10_f64.powf(-decades))));
    steps.map(point).chain([(end, ms(histogram.max()))]).collect()
}

/// Returns tooltips with the values of all curves at each percentile up to `end`.
pub(super) fn curve_tips<'a>(
    curves: impl Iterator<Item = (&'a str, &'a [(f64, f64)])> + Clone,
    end: f64,
) -> Vec<(f64, f64, String)> {
    const STEP: f64 = 0.1;
    let count = (end / STEP).ceil() as u32;
    let tip = |index: u32| {
        let (from, to) = (f64::from(index) * STEP, (f64::from(index + 1) * STEP).min(end));
        let decimals = from.ceil().max(1.0) as usize;
        let mut text = format!("{:.decimals$} %", 100.0 * (1.0 - 10_f64.powf(-from)));
        for (name, curve) in curves.clone() {
            let at = curve.partition_point(|(decades, _)| *decades < from);
            if let Some((_, value)) = curve.get(at) {
                text += &format!("\n{name} {} ms", milliseconds(*value));
            }
        }
        (from, to, text)
    };
    (0..count).map(tip).collect()
}

/// A distribution in one part of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moment {
    pub(super) start_s: f64,
    pub(super) end_s: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    pub(super) count: u64,
}

impl Moment {
    fn of(start_s: f64, end_s: f64, histogram: &Histogram<u64>) -> Self {
        Self {
            start_s,
            end_s,
            p50_ms: ms(histogram.value_at_quantile(0.5)),
            p99_ms: ms(histogram.value_at_quantile(0.99)),
            max_ms: ms(histogram.max()),
            count: histogram.len(),
        }
    }

    pub(super) fn middle_s(&self) -> f64 {
        (self.start_s + self.end_s) / 2.0
    }

    pub(super) fn tip(&self) -> (f64, f64, String) {
        let Self { start_s, end_s, count, .. } = self;
        let [p50, p99, max] = [self.p50_ms, self.p99_ms, self.max_ms].map(milliseconds);
        let text = format!(
            "{start_s} s to {end_s} s\np50 {p50} ms\np99 {p99} ms\nmax {max} ms\n{count} values"
        );
        (*start_s, *end_s, text)
    }
}

/// Splits the run into parts. Returns their length and those parts that have values. A run seldom
/// ends with a part: a last one with few values joins the part before it, because its quantiles
/// would be those of a few values.
pub(super) fn moments(distribution: &Distribution, end_s: f64) -> (f64, Vec<Moment>) {
    let intervals: Vec<_> = distribution.intervals().collect();
    let last_s = intervals.last().map_or(0.0, |last| (last.start + INTERVAL).as_secs_f64());
    let width = (end_s.max(last_s) / POINTS_MAX as f64).ceil().max(1.0) as u64;
    let width_s = width as f64;
    let mut parts: Vec<Part> = Vec::new();
    for interval in intervals {
        let number = interval.start.as_secs() / width;
        match parts.last_mut() {
            Some(part) if part.numbers.1 == number => part.add(&interval.histogram),
            _ => parts.push(Part { numbers: (number, number), histogram: interval.histogram }),
        }
    }
    if let [.., before, last] = parts.as_mut_slice()
        && last.histogram.len() < before.histogram.len() / 2
        && last.numbers.0 == before.numbers.1 + 1
    {
        before.add(&last.histogram);
        before.numbers.1 = last.numbers.1;
        parts.pop();
    }
    let moment = |part: &Part| {
        let (first, last) = part.numbers;
        let start_s = first as f64 * width_s;
        Moment::of(start_s, (last + 1) as f64 * width_s, &part.histogram)
    };
    (width_s, parts.iter().map(moment).collect())
}

/// A part of a run.
struct Part {
    /// Numbers of its first and its last step of time.
    numbers: (u64, u64),
    histogram: Histogram<u64>,
}

impl Part {
    fn add(&mut self, other: &Histogram<u64>) {
        // Adding cannot fail: the histograms have the same precision and grow as needed.
        let _ = self.histogram.add(other);
    }
}

/// Reduces the number of points. Each group of neighbours is replaced by its highest point.
pub(super) fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(POINTS_MAX).max(1);
    let highest = |part: &[(f64, f64)]| part.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    points.chunks(size).filter_map(highest).collect()
}

/// Returns a tooltip for each point, which reaches half way to its neighbours.
pub(super) fn series_tips(
    points: &[(f64, f64)],
    text: impl Fn(f64) -> String,
) -> Vec<(f64, f64, String)> {
    let middle = |index: usize| {
        points.get(index.wrapping_sub(1)).zip(points.get(index)).map(|(a, b)| (a.0 + b.0) / 2.0)
    };
    let tip = |(index, (at_s, value)): (usize, &(f64, f64))| {
        let (from, to) = (middle(index).unwrap_or(*at_s), middle(index + 1).unwrap_or(*at_s));
        (from, to, format!("{at_s:.0} s\n{}", text(*value)))
    };
    points.iter().enumerate().map(tip).collect()
}

fn ms(value_us: u64) -> f64 {
    value_us as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn recorded(values: impl IntoIterator<Item = (u64, u64)>) -> Distribution {
        let mut distribution = Distribution::new("latency");
        for (at_s, value_us) in values {
            distribution.record(Duration::from_secs(at_s), value_us);
        }
        distribution
    }

    #[test]
    fn curve_has_the_percentiles_and_ends_at_the_maximum() {
        let curve = curve(&recorded((1..=1000).map(|value| (0, value * 1000))));
        let at = |decades: f64| {
            let point = curve.iter().find(|(at, _)| *at > decades - 1e-6).unwrap();
            point.1.round()
        };
        assert_eq!([at(0.0), at(1.0), at(2.0), at(3.0)], [1.0, 900.0, 990.0, 1000.0]);
        assert!((curve.last().unwrap().0 - 3.0).abs() < 1e-9);
    }

    #[test]
    fn curve_of_one_value_is_flat() {
        let curve = curve(&recorded([(0, 2000)]));
        assert!(curve.len() > 2 && curve.iter().all(|(_, ms)| *ms == 2.0), "{curve:?}");
    }

    #[test]
    fn tips_name_the_curves_that_have_not_ended() {
        let (long, short) = (vec![(0.0, 1.0), (2.0, 3.0)], vec![(0.0, 5.0), (0.3, 6.0)]);
        let tips = curve_tips([("long", &long[..]), ("short", &short[..])].into_iter(), 2.0);
        assert_eq!(tips.len(), 20);
        assert_eq!(tips[0].2, "0.0 %\nlong 1.000 ms\nshort 5.000 ms");
        assert_eq!(tips[10].2, "90.0 %\nlong 3.000 ms");
    }

    #[test]
    fn seconds_of_a_short_run_are_separate_and_empty_ones_are_left_out() {
        let (width_s, moments) = moments(&recorded([(0, 1000), (0, 3000), (2, 5000)]), 4.0);
        assert_eq!(width_s, 1.0);
        let shown: Vec<_> =
            moments.iter().map(|moment| (moment.start_s, moment.count, moment.max_ms)).collect();
        assert_eq!(shown, [(0.0, 2, 3.001), (2.0, 1, 5.003)]);
    }

    #[test]
    fn a_last_sliver_of_a_second_joins_the_second_before_it() {
        let seconds = |last: u64| {
            let run = (0..20).map(|index| (index / 10, 1000)).chain((0..last).map(|_| (2, 9000)));
            let (_, moments) = moments(&recorded(run), 2.1);
            moments.iter().map(|moment| (moment.end_s, moment.count)).collect::<Vec<_>>()
        };
        assert_eq!(seconds(1), [(1.0, 10), (3.0, 11)]);
        assert_eq!(seconds(5), [(1.0, 10), (2.0, 10), (3.0, 5)]);
    }

    #[test]
    fn seconds_of_a_long_run_are_combined() {
        let (width_s, moments) = moments(&recorded((0..3600).map(|at_s| (at_s, at_s))), 3600.0);
        assert_eq!((width_s, moments.len()), (15.0, 240));
        assert!(moments.iter().all(|moment| moment.count == 15));
        assert_eq!(moments[239].end_s, 3600.0);
    }

    #[test]
    fn the_highest_of_too_many_points_is_kept() {
        let points: Vec<_> =
            (0..480).map(|index| (f64::from(index), f64::from(index % 2))).collect();
        let thinned = thinned(&points);
        assert_eq!(thinned.len(), 240);
        assert!(thinned.iter().all(|(_, value)| *value == 1.0));
    }

    #[test]
    fn tips_of_a_series_reach_half_way_to_the_neighbours() {
        let tips = series_tips(&[(0.0, 1.0), (2.0, 2.0), (3.0, 3.0)], |value| value.to_string());
        let spans: Vec<_> = tips.iter().map(|(from, to, _)| (*from, *to)).collect();
        assert_eq!(spans, [(0.0, 1.0), (1.0, 2.5), (2.5, 3.0)]);
        assert_eq!(tips[1].2, "2 s\n2");
    }
}
