//! A series of the rate at which a total grows.
//!
//! Owns the division into intervals. A sample that follows too soon, such as the one at the end of
//! a run, makes no point: over a sliver of an interval a single event looks like a burst.

use std::time::Duration;

use super::model::Series;

/// Length of the shortest interval that makes a point.
const INTERVAL_MIN_S: f64 = 0.5;

/// See the module's head.
#[derive(Clone, Debug)]
pub struct RateSeries {
    series: Series,
    since_s: f64,
    total: f64,
}

impl RateSeries {
    /// Creates a series of a row of the table of metrics, whose total is zero at the start.
    ///
    /// # Panics
    /// As for [`Series::new`].
    pub fn new(name: &str) -> Self {
        Self { series: Series::new(name), since_s: 0.0, total: 0.0 }
    }

    /// Records that the total is `total`, `at` since the start of the run.
    pub fn note(&mut self, at: Duration, total: f64) {
        let at_s = at.as_secs_f64();
        let elapsed_s = at_s - self.since_s;
        if elapsed_s >= INTERVAL_MIN_S {
            self.series.push(at_s, (total - self.total) / elapsed_s);
            (self.since_s, self.total) = (at_s, total);
        }
    }

    /// Removes all points, for a total that is zero again.
    pub fn restart(&mut self) {
        self.series.points.clear();
        (self.since_s, self.total) = (0.0, 0.0);
    }

    /// Returns the series.
    pub fn into_series(self) -> Series {
        self.series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(totals: &[(u64, f64)]) -> Vec<(f64, f64)> {
        let mut rate = RateSeries::new("failures");
        totals.iter().for_each(|(at_ms, total)| rate.note(Duration::from_millis(*at_ms), *total));
        rate.into_series().points
    }

    #[test]
    fn a_point_is_the_growth_since_the_point_before_it() {
        assert_eq!(noted(&[(1000, 10.0), (3000, 50.0)]), [(1.0, 10.0), (3.0, 20.0)]);
    }

    #[test]
    fn a_sliver_of_an_interval_is_no_point_and_is_not_lost_either() {
        assert_eq!(noted(&[(1000, 10.0), (1020, 12.0)]), [(1.0, 10.0)]);
        assert_eq!(noted(&[(1000, 10.0), (1020, 12.0), (2000, 20.0)]), [(1.0, 10.0), (2.0, 10.0)]);
    }

    #[test]
    fn a_restart_forgets_the_points_and_the_total() {
        let mut rate = RateSeries::new("failures");
        rate.note(Duration::from_secs(9), 90.0);
        rate.restart();
        rate.note(Duration::from_secs(1), 5.0);
        assert_eq!(rate.into_series().points, [(1.0, 5.0)]);
    }
}
