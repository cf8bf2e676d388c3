//! The search for capacity: the number of players to measure next, and when to stop.
//!
//! Owns this policy as a pure state machine: it is told what a window showed and answers with the
//! next number of players. It measures nothing and reads no clock.
//!
//! ```text
//!     ┌──── holds: twice as many
//!     │  │
//!   Growing ───────── the largest number allowed holds ────────┐
//!        │ does not hold                                       │
//!        ▼                                                     ▼
//!    Bisecting ────── the two ends are close ─────────► Confirming ─── holds ───► Done
//!     │  ▲ ▲                                                │
//!     └──┘ └─────────────────── does not hold ──────────────┘
//! ```
//!
//! No single window decides the result, because a disturbance can spoil any window. A number is
//! given up only after two windows without success, and the result has held in two windows. If
//! windows of one number disagree, further ones are measured until two agree.

use std::collections::BTreeMap;

use crate::load::report::StepOutcome;

/// Windows of one number of players that must agree.
const AGREEING: u32 = 2;
/// Factor between two numbers while no window has failed.
const GROWTH: u32 = 2;

/// See the module's head.
#[derive(Debug)]
pub(super) struct CapacitySearch {
    players_max: u32,
    /// Distance between the two ends at which the search stops, as a share of the upper one.
    precision: f64,
    measured: BTreeMap<u32, Windows>,
    state: SearchState,
}

/// State of a search, with the number of players to measure next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SearchState {
    /// No number has failed yet.
    Growing(u32),
    /// Looks between the largest number that holds and the smallest one that does not.
    Bisecting(u32),
    /// Measures the result a second time.
    Confirming(u32),
    Done,
}

/// Outcomes of the windows of one number of players.
#[derive(Clone, Copy, Debug, Default)]
struct Windows {
    held: u32,
    missed: u32,
    unclear: u32,
}

impl Windows {
    const fn note(&mut self, outcome: StepOutcome) {
        match outcome {
            StepOutcome::Held => self.held += 1,
            StepOutcome::Missed => self.missed += 1,
            StepOutcome::CannotTell => self.unclear += 1,
        }
    }

    /// Returns the outcome on which enough windows agree.
    fn agreed(self) -> Option<StepOutcome> {
        let counts = [
            (self.held, StepOutcome::Held),
            (self.missed, StepOutcome::Missed),
            (self.unclear, StepOutcome::CannotTell),
        ];
        counts.into_iter().find(|(count, _)| *count >= AGREEING).map(|(_, outcome)| outcome)
    }

    /// Returns whether all windows held, or enough of them.
    fn holds(self) -> bool {
        let others = self.missed + self.unclear;
        self.agreed() == Some(StepOutcome::Held) || self.held > 0 && others == 0
    }

    fn fails(self) -> bool {
        self.agreed().is_some_and(|outcome| outcome != StepOutcome::Held)
    }
}

/// Result of a search, also of one that was ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    /// The largest number of players that held.
    pub(super) held: Option<u32>,
    /// It held in two windows.
    pub(super) is_confirmed: bool,
    /// The smallest number that did not hold, and whether it missed or cannot be told.
    pub(super) failed: Option<(u32, StepOutcome)>,
}

impl CapacitySearch {
    /// Creates a search from `players` upward to `players_max`.
    pub(super) fn new(players: u32, players_max: u32, precision: f64) -> Self {
        Self {
            players_max,
            precision,
            measured: BTreeMap::new(),
            state: SearchState::Growing(players.min(players_max)),
        }
    }

    /// Returns the largest number of players allowed.
    pub(super) const fn players_max(&self) -> u32 {
        self.players_max
    }

    /// Returns the number of players to measure next, or `None` when the search is over.
    pub(super) const fn next(&self) -> Option<u32> {
        match self.state {
            SearchState::Growing(players)
            | SearchState::Bisecting(players)
            | SearchState::Confirming(players) => Some(players),
            SearchState::Done => None,
        }
    }

    /// Notes the outcome of a window with the number of players of [`CapacitySearch::next`].
    pub(super) fn note(&mut self, outcome: StepOutcome) {
        let Some(players) = self.next() else { return };
        let windows = self.measured.entry(players).or_default();
        windows.note(outcome);
        if !windows.holds() && !windows.fails() {
            return;
        }
        self.state = match self.state {
            SearchState::Growing(_) if windows.holds() && players < self.players_max => {
                SearchState::Growing(players.saturating_mul(GROWTH).min(self.players_max))
            }
            _ => self.narrowed(),
        };
    }

    /// Returns the result as of now.
    pub(super) fn capacity(&self) -> Capacity {
        let failed = self.measured.iter().find(|(_, windows)| windows.fails());
        let failed = failed.and_then(|(players, windows)| Some((*players, windows.agreed()?)));
        let below = failed.map_or(u32::MAX, |(players, _)| players);
        let held = self.measured.range(..below).rfind(|(_, windows)| windows.holds());
        Capacity {
            held: held.map(|(players, _)| *players),
            is_confirmed: held.is_some_and(|(_, windows)| windows.agreed().is_some()),
            failed,
        }
    }

    /// Returns the state after a number that failed, or one between the ends that held.
    fn narrowed(&self) -> SearchState {
        let Capacity { held, is_confirmed, failed } = self.capacity();
        let low = held.unwrap_or(0);
        if let Some((high, _)) = failed
            && f64::from(high - low) > (self.precision * f64::from(high)).max(1.0)
        {
            return SearchState::Bisecting(low + (high - low) / 2);
        }
        match held {
            Some(players) if !is_confirmed => SearchState::Confirming(players),
            _ => SearchState::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use StepOutcome::{CannotTell, Held, Missed};

    use super::*;

    /// Runs a search whose windows `answer` decides, given the number of players and of windows so
    /// far. Returns the result and the numbers measured.
    fn searched(
        mut search: CapacitySearch,
        mut answer: impl FnMut(u32, usize) -> StepOutcome,
    ) -> (Capacity, Vec<u32>) {
        let mut measured = Vec::new();
        while let Some(players) = search.next() {
            search.note(answer(players, measured.len()));
            measured.push(players);
            assert!(measured.len() < 200, "the search does not end: {measured:?}");
        }
        (search.capacity(), measured)
    }

    fn limit(players_max: u32) -> impl Fn(u32, usize) -> StepOutcome {
        move |players, _| if players <= players_max { Held } else { Missed }
    }

    #[test]
    fn players_double_until_a_window_fails_and_then_the_interval_is_halved() {
        let (capacity, measured) = searched(CapacitySearch::new(10, 10_000, 0.05), limit(100));
        // 160 is measured twice before it is given up, and so are the numbers above 100.
        assert_eq!(measured, [10, 20, 40, 80, 160, 160, 120, 120, 100, 110, 110, 105, 105, 100]);
        let failed = Some((105, Missed));
        assert_eq!(capacity, Capacity { held: Some(100), is_confirmed: true, failed });
    }

    #[test]
    fn the_result_is_within_the_precision_of_every_limit() {
        for players_max in 1..700 {
            let (capacity, _) = searched(CapacitySearch::new(7, 100_000, 0.02), limit(players_max));
            let (held, (failed, _)) = (capacity.held.unwrap(), capacity.failed.unwrap());
            assert!(held <= players_max && players_max < failed, "{players_max}: {capacity:?}");
            let distance = f64::from(failed - held);
            assert!(distance <= (0.02 * f64::from(failed)).max(1.0), "{players_max}: {capacity:?}");
            assert!(capacity.is_confirmed);
        }
    }

    #[test]
    fn the_search_ends_at_the_largest_number_allowed_once_it_is_confirmed() {
        let (capacity, measured) = searched(CapacitySearch::new(10, 50, 0.05), limit(100));
        assert_eq!(measured, [10, 20, 40, 50, 50]);
        assert_eq!(capacity, Capacity { held: Some(50), is_confirmed: true, failed: None });
        let (capacity, measured) = searched(CapacitySearch::new(10, 5, 0.05), limit(100));
        assert_eq!((capacity.held, measured), (Some(5), vec![5, 5]));
    }

    #[test]
    fn a_condition_that_never_holds_gives_no_number() {
        let (capacity, measured) = searched(CapacitySearch::new(8, 100, 0.05), limit(0));
        assert_eq!(measured, [8, 8, 4, 4, 2, 2, 1, 1]);
        let failed = Some((1, Missed));
        assert_eq!(capacity, Capacity { held: None, is_confirmed: false, failed });
    }

    #[test]
    fn a_generator_that_cannot_keep_up_bounds_the_search_and_blames_no_server() {
        let answer = |players, _| if players < 64 { Held } else { CannotTell };
        let (capacity, _) = searched(CapacitySearch::new(4, 1000, 0.05), answer);
        let failed = Some((64, CannotTell));
        assert_eq!(capacity, Capacity { held: Some(62), is_confirmed: true, failed });
    }

    #[test]
    fn one_bad_window_neither_ends_the_growth_nor_bounds_the_result() {
        for bad in 0..14 {
            for outcome in [Missed, CannotTell] {
                let answer =
                    |players, at| if at == bad { outcome } else { limit(100)(players, at) };
                let (capacity, _) = searched(CapacitySearch::new(10, 10_000, 0.05), answer);
                assert_eq!(capacity.held, Some(100), "window {bad} is {outcome:?}");
            }
        }
    }

    #[test]
    fn one_good_window_does_not_become_the_result() {
        // The first window above the limit holds by luck, and no later one does.
        for lucky in [105, 110, 120] {
            let mut is_used = false;
            let answer = |players, at| {
                let is_lucky = players == lucky && !is_used;
                is_used |= is_lucky;
                if is_lucky { Held } else { limit(100)(players, at) }
            };
            let (capacity, _) = searched(CapacitySearch::new(10, 10_000, 0.05), answer);
            assert_eq!(capacity.held, Some(100), "{lucky} held once");
            assert!(capacity.is_confirmed);
        }
    }

    #[test]
    fn noise_around_the_limit_ends_the_search_near_it() {
        for seed in 0..500 {
            let mut random = crate::test_support::Random::new(seed);
            // Between 80 and 120 players every window is a matter of luck.
            let answer = |players: u32, _| match players {
                ..=80 => Held,
                120.. => Missed,
                _ => [Held, Missed, CannotTell][random.below(3)],
            };
            let (capacity, measured) = searched(CapacitySearch::new(10, 10_000, 0.05), answer);
            let held = capacity.held.expect("80 players always hold");
            assert!((76..120).contains(&held), "seed {seed}: {capacity:?}");
            assert!(measured.len() < 60, "seed {seed}: {measured:?}");
        }
    }

    #[test]
    fn a_search_that_is_ended_early_says_what_it_knows() {
        let mut search = CapacitySearch::new(10, 1000, 0.05);
        let nothing = Capacity { held: None, is_confirmed: false, failed: None };
        assert_eq!(search.capacity(), nothing);
        search.note(Held);
        search.note(Missed);
        let held = Capacity { held: Some(10), ..nothing };
        assert_eq!(search.capacity(), held, "one window of 20 says nothing");
    }
}
