//! The change from one step of a run to the next: the window is judged, and players leave or join.
//!
//! Owns what a step leaves behind for the next one. [`steps`](super::steps) decides how many
//! players the next step has.

use std::mem;
use std::time::Duration;

use super::player::{Awaits, Player, PlayerState};
use super::publisher::Publisher;
use super::results::StreamResults;
use super::stamped_frame::Medium;
use super::steps::StepWindow;
use super::{Due, Streams, Window, fanout};
use crate::load::LoadError;
use crate::load::engine::{Agenda, Engine};

impl Streams<'_> {
    /// Judges the step that is over and begins the next one, if there is one.
    pub(super) fn next_step(&mut self, engine: &mut Engine<Self>) {
        let agenda = engine.agenda();
        let next = match self.note_step(agenda.now().since(agenda.began())) {
            Ok(next) => next,
            Err(error) => {
                self.broken.get_or_insert(error);
                None
            }
        };
        match next {
            Some(players) => self.begin_step(engine.agenda(), players),
            None => engine.agenda().stop(),
        }
    }

    /// Hands the results of the window to the steps. Returns the next number of players.
    fn note_step(&mut self, elapsed: Duration) -> Result<Option<u32>, LoadError> {
        let mut next = StreamResults::new(self.results.arrivals.stall());
        // The series go on through all steps.
        mem::swap(&mut next.over_time, &mut self.results.over_time);
        next.over_time.forget_counted();
        let mut results = mem::replace(&mut self.results, next);
        results.has_ended = true;
        let (Some(steps), Some(measured)) = (&mut self.steps, results.in_window.take()) else {
            return Ok(None);
        };
        let manifest = self.measurement.report.manifest.clone();
        let report = fanout::window(manifest, results, &measured, self.measurement.lateness_max());
        steps.note(StepWindow { report, measured, from: self.window.from }, elapsed)?;
        Ok(steps.players())
    }

    /// Brings the number of players to `wanted`: the newest leave, or further ones join.
    fn begin_step(&mut self, agenda: &mut Agenda<Due>, wanted: u32) {
        self.step += 1;
        (self.window, self.awaited) = (Window::NEVER, 0);
        self.publishers.iter_mut().for_each(Publisher::restart);
        let surplus = self.players_up.saturating_sub(wanted) as usize;
        let playing = self.players.iter_mut().filter(|player| player.is_up());
        for player in playing.rev().take(surplus) {
            player.state = PlayerState::Gone;
            player.id.into_iter().for_each(|id| agenda.close(id));
        }
        let now = agenda.now();
        for player in self.players.iter_mut().filter(|player| player.is_up()) {
            Medium::ALL.into_iter().for_each(|medium| player.track(medium).restart());
            if player.awaits != Awaits::Keyframe {
                player.awaits = Awaits::FrameSince(now);
            }
        }
        self.players_up = self.players_up.min(wanted);
        self.players_waiting = self.players_up;
        self.players_joining = wanted - self.players_up;
        self.is_same_load = surplus == 0 && self.players_joining == 0;
        let first = self.players.len() as u32;
        let joining = first..first + self.players_joining;
        let publishers = self.offer.publishers;
        self.players.extend(joining.map(|number| Player::new(number % publishers)));
        self.players.iter_mut().for_each(|player| player.is_counted = false);
        self.join(agenda, first);
        self.advance(agenda);
    }
}
