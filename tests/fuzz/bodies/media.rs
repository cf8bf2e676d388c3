//! Heads of audio and video messages, and the codec configurations after them. No track lies
//! outside its message, and the facts about a track are plausible.

use tiderace::media::codec::{audio_facts, video_facts};
use tiderace::media::{
    Tracks, classify_audio, classify_video, for_each_audio_track, for_each_video_track,
};

/// Upper bound of plausible frame rates (Hz).
const FRAME_RATE_HERTZ_MAX: u32 = 1000;

/// The first byte chooses between video and audio.
pub(crate) fn run(data: &[u8]) {
    let Some((&kind, payload)) = data.split_first() else { return };
    if kind % 2 == 0 { video(payload) } else { audio(payload) }
}

fn video(payload: &[u8]) {
    let mut seen = Seen::new(payload);
    for_each_video_track(payload, |track| {
        seen.track(track.track, track.body);
        let Some(facts) = video_facts(track.codec, track.body) else { return };
        assert_eq!(facts.width.is_some(), facts.height.is_some(), "{facts:?}");
        assert!(facts.width != Some(0) && facts.height != Some(0), "{facts:?}");
        let rate = facts.frame_rate.map_or(1, |rate| rate.millihertz);
        assert!((1..1000 * FRAME_RATE_HERTZ_MAX).contains(&rate), "{facts:?}");
        assert!(facts.bit_depth.is_none_or(|bits| (8..=16).contains(&bits)), "{facts:?}");
        let shown = facts.level.map(|level| level.to_string()).unwrap_or_default();
        assert!(shown.len() <= 5, "level {shown}");
    });
    if let Ok(tag) = classify_video(payload) {
        seen.are_of(&tag.tracks);
    }
}

fn audio(payload: &[u8]) {
    let mut seen = Seen::new(payload);
    for_each_audio_track(payload, |track| {
        seen.track(track.track, track.body);
        let head = payload.first().copied().unwrap_or_default();
        let Some(facts) = audio_facts(track.codec, head, track.body) else { return };
        assert!(facts.sample_rate_hz != Some(0), "{facts:?}");
        assert!(facts.channels != Some(0), "{facts:?}");
    });
    if let Ok(tag) = classify_audio(payload) {
        seen.are_of(&tag.tracks);
    }
}

/// The tracks found in a message.
struct Seen<'a> {
    payload: &'a [u8],
    ids: Vec<u8>,
}

impl<'a> Seen<'a> {
    const fn new(payload: &'a [u8]) -> Self {
        Self { payload, ids: Vec::new() }
    }

    /// Records a track. Its body must be part of the message.
    fn track(&mut self, id: u8, body: &[u8]) {
        let (whole, part) = (self.payload.as_ptr_range(), body.as_ptr_range());
        let lies_inside = whole.start <= part.start && part.end <= whole.end;
        assert!(lies_inside || body.is_empty(), "track {id} lies outside");
        self.ids.push(id);
        assert!(self.ids.len() <= self.payload.len(), "more tracks than bytes");
    }

    /// Asserts that the classification of a valid message includes every track found in it.
    fn are_of(&self, tracks: &Tracks) {
        assert!(self.ids.iter().all(|id| tracks.contains(*id)), "{:?} of {tracks:?}", self.ids);
    }
}
