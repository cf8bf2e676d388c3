//! Statistics of repeated runs: estimates with intervals, and whether two sides differ at all.
//!
//! Owns the mathematics only. Pairs of runs that were measured together have the Hodges-Lehmann
//! estimate with the interval of the Wilcoxon signed-rank test. Two sides whose runs are not paired
//! have the same estimate over all pairs, with the rank-sum test. Both use ranks alone: latencies
//! have long tails, and a single bad run would decide a mean. All tests are exact, because there
//! are only a few runs. The suite checks them against published tables.

use serde::{Deserialize, Serialize};

/// Probability that an interval misses the true value, and the share of false discoveries.
pub const ALPHA: f64 = 0.05;
/// With fewer pairs no sum of ranks is rare enough for an interval.
pub const PAIRS_MIN: usize = 6;

/// An estimate with its interval, which few values do not give.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The estimate.
    pub value: f64,
    /// The interval at 95 %.
    pub interval: Option<(f64, f64)>,
}

impl Estimate {
    /// Returns the estimate and its interval under an increasing function.
    #[must_use]
    pub fn map(self, increasing: impl Fn(f64) -> f64) -> Self {
        let interval = self.interval.map(|(low, high)| (increasing(low), increasing(high)));
        Self { value: increasing(self.value), interval }
    }
}

/// Returns the Hodges-Lehmann estimate of the centre of values: the median of the means of all
/// pairs, each value with itself included. The interval is that of the signed-rank test.
pub fn hodges_lehmann(values: &[f64]) -> Option<Estimate> {
    let from = |index: usize| values[index..].iter().map(move |other| (index, other));
    let pairs = (0..values.len()).flat_map(from);
    let means = pairs.map(|(index, other)| f64::midpoint(values[index], *other)).collect();
    centre(means, critical_rank_sum(values.len()))
}

/// Returns how many times larger the values of the second side are than those of the first: the
/// median of the ratios of all pairs. The interval is that of the rank-sum test. Values that are
/// not positive have no ratio.
pub fn ratio_of_sides(first: &[f64], second: &[f64]) -> Option<Estimate> {
    let is_positive = first.iter().chain(second).all(|value| *value > 0.0);
    // The median of an even number of ratios is the geometric mean of the middle two.
    let ratios =
        || first.iter().flat_map(|ours| second.iter().map(move |other| (other / ours).ln()));
    let estimate = centre(ratios().collect(), critical_side_sum(first.len(), second.len()));
    estimate.filter(|_| is_positive).map(|estimate| estimate.map(f64::exp))
}

/// Returns the median of values. Its interval leaves out `critical` of the values on either side,
/// counted from zero.
fn centre(mut values: Vec<f64>, critical: Option<usize>) -> Option<Estimate> {
    values.sort_by(f64::total_cmp);
    let value = median(&values)?;
    let interval = critical.map(|at| (values[at], values[values.len() - 1 - at]));
    Some(Estimate { value, interval })
}

/// Returns the largest sum of positive ranks that rejects a centre at zero, two-sided.
pub fn critical_rank_sum(values: usize) -> Option<usize> {
    if values < PAIRS_MIN {
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
    critical(&ways, (values as f64).exp2())
}

/// Returns the largest number of pairs with the larger value on one of two sides that rejects equal
/// sides, two-sided. That is the statistic of Mann and Whitney.
pub fn critical_side_sum(first: usize, second: usize) -> Option<usize> {
    let ranks: Vec<_> = (1..=first + second).collect();
    let least = first * (first + 1) / 2;
    let ways = sums_of_ranks(&ranks, first);
    critical(ways.get(least..)?, ways.iter().sum())
}

/// Returns the last index of the lower tail that is rare enough.
fn critical(ways: &[f64], all: f64) -> Option<usize> {
    let mut tail = 0.0;
    let is_rare = |ways: &&f64| {
        tail += **ways / all;
        tail <= ALPHA / 2.0
    };
    ways.iter().take_while(is_rare).count().checked_sub(1)
}

/// Returns in how many ways `chosen` of the ranks give each sum.
fn sums_of_ranks(ranks: &[usize], chosen: usize) -> Vec<f64> {
    let sum_max: usize = ranks.iter().sum();
    let mut ways = vec![vec![0.0; sum_max + 1]; chosen + 1];
    ways[0][0] = 1.0;
    for rank in ranks {
        for count in (1..=chosen).rev() {
            for sum in (*rank..=sum_max).rev() {
                ways[count][sum] += ways[count - 1][sum - rank];
            }
        }
    }
    ways.pop().unwrap_or_default()
}

/// Returns the probability that sides without a difference are as far apart as these, by the exact
/// rank-sum test. Equal values share their ranks.
pub fn side_difference_p(first: &[f64], second: &[f64]) -> f64 {
    let mut all: Vec<_> = first.iter().chain(second).copied().collect();
    all.sort_by(f64::total_cmp);
    // Twice the rank, so that the mean of two neighbouring ranks is a whole number.
    let rank = |value: f64| {
        let below = all.partition_point(|other| *other < value);
        let up_to = all.partition_point(|other| *other <= value);
        below + up_to + 1
    };
    let ranks: Vec<_> = all.iter().map(|value| rank(*value)).collect();
    let sum: usize = first.iter().map(|value| rank(*value)).sum();
    let ways = sums_of_ranks(&ranks, first.len());
    let expected = first.len() as f64 * (all.len() + 1) as f64;
    let distance = |sum: usize| (sum as f64 - expected).abs();
    let as_far = ways.iter().enumerate().filter(|(other, _)| distance(*other) >= distance(sum));
    as_far.map(|(_, ways)| ways).sum::<f64>() / ways.iter().sum::<f64>()
}

/// Returns the smallest probability that the rank-sum test gives sides of these lengths: that of
/// sides that do not overlap.
pub fn least_side_difference_p(first: usize, second: usize) -> f64 {
    let ways: f64 = (1..=first).map(|count| (second + count) as f64 / count as f64).product();
    2.0 / ways
}

/// Returns which of many tests found a difference, by the procedure of Benjamini and Hochberg.
/// Among all that are found, at most [`ALPHA`] are expected to be false, if the tests are
/// independent or depend on each other positively, as the quantiles of a distribution do. Figures
/// that oppose each other can exceed that somewhat. A table of rows without any difference then has
/// a false one in about 5 % of all cases, however many rows it has.
pub fn discoveries(p_values: &[f64]) -> Vec<bool> {
    let mut sorted = p_values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let step = ALPHA / p_values.len().max(1) as f64;
    let is_below = |(index, p): &(usize, &f64)| **p <= step * (index + 1) as f64;
    let bound = sorted.iter().enumerate().filter(is_below).map(|(_, p)| *p).next_back();
    p_values.iter().map(|p| bound.is_some_and(|bound| *p <= bound)).collect()
}

/// Returns the median of sorted values; of an even number of values the mean of the middle two.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?;
    let is_even = sorted.len().is_multiple_of(2);
    Some(if is_even { f64::midpoint(sorted[middle - 1], *upper) } else { *upper })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Critical values of Mann and Whitney's statistic for a two-sided level of 5 %, as in any
    /// table.
    #[test]
    fn critical_side_sums_are_those_of_the_published_table() {
        for (first, second, critical) in [
            (3, 3, None),
            (3, 4, None),
            (3, 5, Some(0)),
            (4, 4, Some(0)),
            (4, 5, Some(1)),
            (5, 5, Some(2)),
            (6, 6, Some(5)),
            (7, 7, Some(8)),
            (8, 8, Some(13)),
            (10, 10, Some(23)),
            (5, 10, Some(8)),
            (20, 20, Some(127)),
            (1, 1, None),
            (0, 3, None),
        ] {
            assert_eq!(critical_side_sum(first, second), critical, "{first} and {second}");
            assert_eq!(critical_side_sum(second, first), critical, "{second} and {first}");
        }
    }

    #[test]
    fn sides_that_do_not_overlap_are_as_rare_as_their_order() {
        let p = side_difference_p(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0]);
        assert!((p - 2.0 / 70.0).abs() < 1e-12, "{p}");
        assert!((least_side_difference_p(4, 4) - p).abs() < 1e-12);
        assert!((least_side_difference_p(7, 5) - 2.0 / 792.0).abs() < 1e-12);
        let p = side_difference_p(&[5.0, 6.0, 7.0], &[1.0, 2.0, 3.0]);
        assert!((p - 2.0 / 20.0).abs() < 1e-12, "{p}");
        let p = side_difference_p(&[1.0, 4.0], &[2.0, 3.0]);
        assert!((p - 1.0).abs() < 1e-12, "{p}");
    }

    /// Of the six ways to choose two of 1, 1, 1, 9, three hold the 9. They are as far from the mean
    /// as the others.
    #[test]
    fn equal_values_share_their_ranks() {
        assert!((side_difference_p(&[1.0, 1.0], &[1.0, 9.0]) - 1.0).abs() < 1e-12);
        assert!((side_difference_p(&[3.0; 5], &[3.0; 5]) - 1.0).abs() < 1e-12);
        let apart = side_difference_p(&[0.0; 4], &[1.0, 2.0, 3.0, 4.0]);
        assert!((apart - 2.0 / 70.0).abs() < 1e-12, "{apart}");
    }

    #[test]
    fn ratio_of_two_sides_is_that_of_typical_runs() {
        let first = [1.0, 1.1, 0.9, 1.0, 50.0];
        let second: Vec<_> = first.iter().map(|value| value * 2.0).collect();
        let Estimate { value, interval } = ratio_of_sides(&first, &second).unwrap();
        let (low, high) = interval.unwrap();
        assert!((1.8..2.3).contains(&value), "one bad run a side does not matter: {value}");
        assert!(low < value && value < high, "{low} to {high}");
        assert_eq!(ratio_of_sides(&[4.0], &[2.0]), Some(Estimate { value: 0.5, interval: None }));
        assert_eq!(ratio_of_sides(&[0.0], &[2.0]), None);
        assert_eq!(ratio_of_sides(&[], &[2.0]), None);
    }

    /// The example of Benjamini and Hochberg, 1995, section 4.1: of 15 tests of heart attacks, four
    /// are significant at 5 %.
    #[test]
    fn discoveries_are_those_of_the_published_example() {
        let p_values = [
            0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
            0.5719, 0.6528, 0.7590, 1.0,
        ];
        let found = discoveries(&p_values);
        assert_eq!(found.iter().filter(|is_found| **is_found).count(), 4);
        assert!(found[..4].iter().all(|is_found| *is_found));
        assert_eq!(discoveries(&[]), Vec::<bool>::new());
    }
}
