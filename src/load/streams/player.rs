//! One player: its connection, the frame that it waits for, and its progress in its stream.
//!
//! Owns the states of a player. It writes nothing and keeps no counts of its own; `arrivals` does.

use super::arrivals::Track;
use super::stamped_frame::{Judged, Medium};
use crate::load::connection::ConnectionKey;
use crate::time::Time;

#[derive(Debug)]
pub(super) struct Player {
    /// The key of the connection, once opened.
    pub(super) id: Option<ConnectionKey>,
    /// Time when the play command was written.
    pub(super) play_at: Time,
    pub(super) awaits: Awaits,
    pub(super) state: PlayerState,
    /// It was playing when the window opened.
    pub(super) is_counted: bool,
    video: Track,
    audio: Track,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlayerState {
    Joining,
    Playing,
    /// It failed, or left because the next step has fewer players.
    Gone,
}

/// The frame that a player waits for before the warm-up of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    /// The first keyframe.
    Keyframe,
    /// A frame intended after this time: the player has caught up with the load of the step before.
    FrameSince(Time),
    Nothing,
}

impl Awaits {
    /// Returns whether this is the frame.
    pub(super) fn ends_with(self, judged: &Judged) -> bool {
        match (self, judged) {
            (Self::Keyframe, Judged::Whole { is_keyframe, .. }) => *is_keyframe,
            (Self::FrameSince(since), Judged::Whole { stamp, .. }) => stamp.intended >= since,
            _ => false,
        }
    }
}

impl Player {
    pub(super) fn new(stream: u32) -> Self {
        Self {
            id: None,
            play_at: Time::NEVER,
            awaits: Awaits::Keyframe,
            state: PlayerState::Joining,
            is_counted: false,
            video: Track::new(stream),
            audio: Track::new(stream),
        }
    }

    /// Returns the progress in one medium of the stream.
    pub(super) const fn track(&mut self, medium: Medium) -> &mut Track {
        match medium {
            Medium::Video => &mut self.video,
            Medium::Audio => &mut self.audio,
        }
    }

    /// Returns the number of distinct frames of the window received.
    pub(super) const fn frames(&self, medium: Medium) -> u64 {
        match medium {
            Medium::Video => self.video.frames(),
            Medium::Audio => self.audio.frames(),
        }
    }

    /// Returns the stream that the player plays.
    pub(super) const fn stream(&self) -> u32 {
        self.video.stream()
    }

    pub(super) fn is_up(&self) -> bool {
        self.state == PlayerState::Playing
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.is_up() && self.awaits != Awaits::Nothing
    }
}
