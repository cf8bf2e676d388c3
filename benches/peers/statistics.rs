//! The verdict on a goal, and intervals for statistics of added histograms.
//!
//! Owns what only this bench needs: a bootstrap over rounds. The estimates from paired rounds are
//! those of the load generator. All intervals are at 95 %. The suite checks them.

use serde::{Deserialize, Serialize};
use tiderace::load::statistics::{ALPHA, PAIRS_MIN};
pub(crate) use tiderace::load::statistics::{Estimate, hodges_lehmann};

const RESAMPLES: usize = 2000;

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

/// Judges a figure that is to be at most `goal`.
pub(crate) fn judge(estimate: Estimate, goal: f64) -> Verdict {
    match estimate.interval {
        Some((_, high)) if high <= goal => Verdict::Reached,
        Some((low, _)) if low > goal => Verdict::Missed,
        _ => Verdict::Undecided,
    }
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
    if rounds < PAIRS_MIN {
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

/// Returns whether a sample is large enough for a quantile: at least ten values are above it.
pub(crate) fn has_quantile(samples: u64, quantile: f64) -> bool {
    const ABOVE_MIN: f64 = 10.0;
    samples as f64 * (1.0 - quantile) >= ABOVE_MIN - 1e-6
}
