//! Estimates with intervals from paired rounds, and the verdict on a goal.
//!
//! Owns the mathematics only: the Hodges-Lehmann estimate with the interval of the Wilcoxon
//! signed-rank test, and a bootstrap over rounds for statistics of added histograms. All intervals
//! are at 95 %. The suite checks them against published tables.

use serde::{Deserialize, Serialize};

/// Probability that an interval misses the true value.
const ALPHA: f64 = 0.05;
/// With fewer values no rank sum is rare enough for an interval.
const VALUES_MIN: usize = 6;
const RESAMPLES: usize = 2000;

/// An estimate with its interval, which few values do not give.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Estimate {
    pub(crate) value: f64,
    pub(crate) interval: Option<(f64, f64)>,
}

/// The outcome for a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The whole interval meets the goal.
    Reached,
    /// No value in the interval meets the goal.
    Missed,
    Undecided,
}

impl Estimate {
    /// Returns the estimate and its interval under an increasing function.
    pub(crate) fn map(self, increasing: impl Fn(f64) -> f64) -> Self {
        let interval = self.interval.map(|(low, high)| (increasing(low), increasing(high)));
        Self { value: increasing(self.value), interval }
    }

    /// Judges a figure that is to be at most `goal`.
    pub(crate) fn judge(self, goal: f64) -> Verdict {
        match self.interval {
            Some((_, high)) if high <= goal => Verdict::Reached,
            Some((low, _)) if low > goal => Verdict::Missed,
            _ => Verdict::Undecided,
        }
    }
}

/// Returns the Hodges-Lehmann estimate of the centre of values: the median of the means of all
/// pairs, each value with itself included. The interval is that of the signed-rank test.
pub(crate) fn hodges_lehmann(values: &[f64]) -> Option<Estimate> {
    let from = |index: usize| values[index..].iter().map(move |other| (index, other));
    let pairs = (0..values.len()).flat_map(from);
    let mut means: Vec<_> =
        pairs.map(|(index, other)| f64::midpoint(values[index], *other)).collect();
    means.sort_by(f64::total_cmp);
    let value = median(&means)?;
    let interval = critical_rank_sum(values.len())
        .map(|critical| (means[critical], means[means.len() - 1 - critical]));
    Some(Estimate { value, interval })
}

/// Returns the largest sum of positive ranks that rejects a centre at zero, two-sided.
pub(crate) fn critical_rank_sum(values: usize) -> Option<usize> {
    if values < VALUES_MIN {
        return None;
    }
    // In how many ways the signs of the ranks give each sum; all ways are equally likely.
    let sum_max = values * (values + 1) / 2;
    let mut ways = vec![0.0; sum_max + 1];
    ways[0] = 1.0;
    for rank in 1..=values {
        for sum in (rank..=sum_max).rev() {
            ways[sum] += ways[sum - rank];
        }
    }
    let all = (values as f64).exp2();
    let mut tail = 0.0;
    let is_rare = |ways: &&f64| {
        tail += **ways / all;
        tail <= ALPHA / 2.0
    };
    ways.iter().take_while(is_rare).count().checked_sub(1)
}

/// Returns a statistic of rounds, with the percentile interval of a bootstrap. `below` returns a
/// random number below its argument.
pub(crate) fn bootstrap(
    rounds: usize,
    mut below: impl FnMut(usize) -> usize,
    statistic: impl Fn(&[usize]) -> Option<f64>,
) -> Option<Estimate> {
    let all: Vec<_> = (0..rounds).collect();
    let value = statistic(&all)?;
    if rounds < VALUES_MIN {
        return Some(Estimate { value, interval: None });
    }
    let mut resampled = || {
        let chosen: Vec<_> = all.iter().map(|_| below(rounds)).collect();
        statistic(&chosen)
    };
    let mut values: Vec<_> = (0..RESAMPLES).filter_map(|_| resampled()).collect();
    values.sort_by(f64::total_cmp);
    let cut = (values.len() as f64 * ALPHA / 2.0) as usize;
    let interval = values.get(cut).copied().zip(values.iter().rev().nth(cut).copied());
    Some(Estimate { value, interval })
}

/// Returns the median of sorted values; of an even number of values the mean of the middle two.
pub(crate) fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?;
    let is_even = sorted.len().is_multiple_of(2);
    Some(if is_even { f64::midpoint(sorted[middle - 1], *upper) } else { *upper })
}

/// Returns whether a sample is large enough for a quantile: at least ten values are above it.
pub(crate) fn has_quantile(samples: u64, quantile: f64) -> bool {
    const ABOVE_MIN: f64 = 10.0;
    samples as f64 * (1.0 - quantile) >= ABOVE_MIN - 1e-6
}
