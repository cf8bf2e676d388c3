//! When connections are due: evenly spaced, or at random as a Poisson process.
//!
//! Owns the flags and the schedule. Both forms are open-loop: a connection is due at its time
//! whatever becomes of the ones before it. Everything random comes from one seed, so a run can be
//! repeated. This module reads no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::processes::Share;

/// Options of the schedule.
#[derive(Clone, Copy, Debug, Args)]
pub struct PaceOptions {
    /// How connections are spaced: evenly, or at random as a Poisson process of the same rate, as
    /// people come.
    #[arg(long, value_enum, default_value = "even")]
    pub arrivals: Spacing,
    /// Draw everything that is random from this seed: Poisson arrivals, and the phases of streams,
    /// which are evenly spaced without a seed.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// How connections are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Spacing {
    /// At equal distances.
    Even,
    /// At random: the distances have an exponential distribution.
    Poisson,
}

impl PaceOptions {
    /// Returns the parameters for the manifest.
    pub(super) fn parameters(&self) -> BTreeMap<String, String> {
        let spacing = self.arrivals.to_possible_value();
        let spacing = spacing.map_or_else(String::new, |value| value.get_name().to_owned());
        let seed = self.seed.map(|seed| ("seed".to_owned(), seed.to_string()));
        [("arrivals".to_owned(), spacing)].into_iter().chain(seed).collect()
    }

    /// Returns the source of random numbers of process `index`.
    pub(super) fn random(&self, index: u32) -> StdRng {
        StdRng::seed_from_u64(self.seed.unwrap_or_default().wrapping_add(index.into()))
    }
}

/// The due times of the connections of one process, as times since the start of all processes.
#[derive(Debug)]
pub(super) struct ArrivalPace {
    spacing: Spacing,
    /// Connections per second, of all processes.
    rate: f64,
    share: Share,
    /// Connections of this process.
    count: u32,
    /// Those of them whose due time has been drawn.
    drawn: u32,
    /// Time in which all connections are due (s).
    period_s: f64,
    /// The last due time at random (s).
    last_s: f64,
    random: StdRng,
}

impl ArrivalPace {
    /// Creates the schedule of one process out of several, which have `count` connections in total.
    pub(super) fn new(options: &PaceOptions, rate: f64, share: Share, count: u32) -> Self {
        let random = options.random(share.index());
        let mut pace = Self {
            spacing: options.arrivals,
            rate,
            share,
            count: 0,
            drawn: 0,
            period_s: 0.0,
            last_s: 0.0,
            random,
        };
        pace.restart(count);
        pace
    }

    /// Starts again with the first of `count` connections. Random numbers go on.
    pub(super) fn restart(&mut self, count: u32) {
        self.count = self.share.part(count);
        self.period_s = f64::from(count) / self.rate;
        (self.drawn, self.last_s) = (0, 0.0);
    }

    /// Returns the due time of the next connection since the start.
    pub(super) fn next(&mut self) -> Duration {
        let drawn = self.drawn;
        self.drawn += 1;
        match self.spacing {
            // Computed from the number, so that rounding errors do not add up.
            Spacing::Even => Duration::from_secs_f64(f64::from(self.share.nth(drawn)) / self.rate),
            Spacing::Poisson => {
                // Arrivals of a Poisson process whose number is given are independent and uniform
                // in the period. This is the next of them in order: the smallest of those left.
                let left = self.count.saturating_sub(drawn).max(1);
                let chance: f64 = self.random.random();
                let share = 1.0 - (1.0 - chance).powf(1.0 / f64::from(left));
                self.last_s += share * (self.period_s - self.last_s);
                Duration::from_secs_f64(self.last_s)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(arrivals: Spacing, seed: u64, share: Share, count: u32) -> Vec<Duration> {
        let options = PaceOptions { arrivals, seed: Some(seed) };
        let mut pace = ArrivalPace::new(&options, 100.0, share, count);
        std::iter::repeat_with(|| pace.next()).take(share.part(count) as usize).collect()
    }

    #[test]
    fn even_arrivals_take_turns_between_processes() {
        let at = |index| due(Spacing::Even, 0, Share::new(index, 2), 5);
        let millis = |at: Vec<Duration>| at.iter().map(Duration::as_millis).collect::<Vec<_>>();
        assert_eq!((millis(at(0)), millis(at(1))), (vec![0, 20, 40], vec![10, 30]));
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_an_exponential_distribution() {
        const COUNT: u32 = 20_000;
        for of in [1, 4] {
            let mut times: Vec<_> = (0..of)
                .flat_map(|index| due(Spacing::Poisson, 7, Share::new(index, of), COUNT))
                .collect();
            times.sort();
            assert!(times.last() < Some(&Duration::from_secs(200)), "all are due in the period");
            let gaps = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64());
            let count = gaps.len() as f64;
            let mean = gaps.clone().sum::<f64>() / count;
            assert!((mean * 100.0 - 1.0).abs() < 0.01, "{of} processes: {mean}");
            let variance = gaps.map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
            // The standard deviation of an exponential distribution is its mean.
            let spread = variance.sqrt() / mean;
            assert!((spread - 1.0).abs() < 0.05, "{of} processes: {spread}");
        }
    }

    #[test]
    fn runs_with_the_same_seed_are_alike() {
        let times = |seed| due(Spacing::Poisson, seed, Share::new(0, 1), 50);
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
        assert_ne!(times(1), due(Spacing::Poisson, 1, Share::new(1, 2), 100));
        assert!(times(1).is_sorted());
    }
}
