//! Keyframes that an encoder does not mark.
//!
//! Some IP cameras and hardware encoders mark each frame as an inter frame, and players would wait
//! for a keyframe forever. Until a track has a marked keyframe, the server searches its NAL units.
//! An IDR, CRA or GDR picture or a recovery point counts as a keyframe. A track without any of
//! these refreshes its picture little by little, if at all. Players get its frames at once, like
//! those of an unknown codec. The first marked keyframe ends the search.

use super::frame::{Needs, Recording, Unit};
use crate::media;
use crate::media::codec;
use smallvec::SmallVec;

/// Pictures without a marked keyframe after which the encoder is assumed to mark none. A publisher
/// that starts in the middle of a GOP needs some time to reach the next one.
const PICTURES_MIN: u32 = 25;
/// Time that these pictures must cover (ms).
const SEARCH_MS_MIN: u32 = 2000;

/// Result of the search for an encoder that marks no keyframes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmarked {
    /// Keyframes were found in its pictures.
    Found,
    /// Its pictures have no keyframes.
    None,
}

/// The search in each video track of one publish. See the module's head.
#[derive(Debug, Default)]
pub(crate) struct Keyframes {
    /// By track id.
    tracks: SmallVec<[Search; 1]>,
    is_reported: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Search {
    /// The search is over: a keyframe was marked.
    is_marked: bool,
    /// A keyframe was found.
    is_found: bool,
    /// The track has had time enough to show a keyframe.
    is_late: bool,
    /// The first and the newest access unit, and how many there were.
    first: Option<Unit>,
    newest: Option<Unit>,
    pictures: u32,
}

impl Keyframes {
    /// Searches a video message that is not marked as a keyframe, and changes its `needs` if it is
    /// one. `length_bytes` returns the size of the length field before a NAL unit. Returns the
    /// result of the search once in each publish.
    #[inline]
    pub(crate) fn find_unmarked(
        &mut self,
        message: &mut Recording<'_>,
        length_bytes: impl FnOnce() -> usize,
    ) -> Option<Unmarked> {
        let is_frame = matches!(message.needs, Needs::StartsGop | Needs::Gop);
        let is_marked = |search: &Search| search.is_marked;
        if !is_frame || message.is_default() && self.tracks.first().is_some_and(is_marked) {
            return None;
        }
        self.search(message, length_bytes)
    }

    /// Restarts the search when the newest GOP is too large to be kept: late players can start at
    /// an unmarked recovery point.
    pub(crate) fn search_again(&mut self) {
        self.is_reported = true;
        self.tracks.iter_mut().for_each(|search| *search = Search::default());
    }

    /// Memory in addition to this struct (bytes).
    pub(crate) fn held_bytes(&self) -> usize {
        if self.tracks.spilled() { self.tracks.capacity() * size_of::<Search>() } else { 0 }
    }

    #[cold]
    fn search(
        &mut self,
        message: &mut Recording<'_>,
        length_bytes: impl FnOnce() -> usize,
    ) -> Option<Unmarked> {
        let track = usize::from(message.tracks.first()?);
        if self.tracks.len() <= track {
            self.tracks.resize(track + 1, Search::default());
        }
        let search = &mut self.tracks[track];
        if search.is_marked || message.needs == Needs::StartsGop {
            search.is_marked = true;
            return None;
        }
        search.count(message.unit());
        if is_keyframe(message.payload, length_bytes()) {
            message.needs = Needs::StartsGop;
            search.is_found = true;
        } else if search.is_late && !search.is_found {
            message.needs = Needs::GopIfAny;
        }
        let is_news = search.is_late && !self.is_reported;
        self.is_reported |= is_news;
        let found = if search.is_found { Unmarked::Found } else { Unmarked::None };
        is_news.then_some(found)
    }
}

impl Search {
    fn count(&mut self, unit: Unit) {
        if self.newest.replace(unit) != Some(unit) {
            self.pictures = self.pictures.saturating_add(1);
        }
        let began = self.first.get_or_insert(unit).timestamp;
        let passed_ms = unit.timestamp.wrapping_sub(began);
        self.is_late |= self.pictures > PICTURES_MIN && passed_ms >= SEARCH_MS_MIN;
    }
}

/// Returns whether decoding can begin with the first track of a message.
fn is_keyframe(payload: &[u8], length_bytes: usize) -> bool {
    let mut found = None;
    media::for_each_video_track(payload, |track| {
        if found.is_none() {
            found = Some(codec::is_keyframe(track.codec, track.body, length_bytes));
        }
    });
    found == Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{MediaKind, Tracks};
    use crate::test_support::hex;

    const IDR: &str = "27 01 000000 00000003 658884";
    const INTER: &str = "27 01 000000 00000003 419a00";
    const RECOVERY_POINT: &str = "27 01 000000 00000004 060601c0 00000003 419a00";

    /// Returns the needs of each message, at 25 pictures a second, and the results of the search
    /// with the index of the message.
    fn looked(payloads: &[(Needs, &str)]) -> (Vec<Needs>, Vec<(usize, Unmarked)>) {
        let (mut keyframes, mut needs, mut found) = (Keyframes::default(), vec![], vec![]);
        for (index, (marked, payload)) in payloads.iter().enumerate() {
            let timestamp = index as u32 * 40;
            let mut message = Recording {
                media: MediaKind::Video,
                tracks: Tracks::DEFAULT,
                codec: None,
                needs: *marked,
                header: None,
                is_frame: true,
                sent: timestamp,
                timestamp,
                payload: &hex(payload),
            };
            found.extend(keyframes.find_unmarked(&mut message, || 4).map(|found| (index, found)));
            needs.push(message.needs);
        }
        (needs, found)
    }

    #[test]
    fn keyframes_that_the_encoder_does_not_mark_are_found_in_its_pictures() {
        for keyframe in [IDR, RECOVERY_POINT] {
            let payloads: Vec<_> = (0..100)
                .map(|n| (Needs::Gop, if n % 10 == 0 { keyframe } else { INTER }))
                .collect();
            let (needs, found) = looked(&payloads);
            let starts = needs.iter().filter(|needs| **needs == Needs::StartsGop).count();
            assert_eq!((needs[0], needs[1], starts), (Needs::StartsGop, Needs::Gop, 10));
            assert_eq!(found, [(50, Unmarked::Found)], "once, after 2 s");
        }
    }

    #[test]
    fn a_track_without_keyframes_needs_none_after_two_seconds_and_25_pictures() {
        let (needs, found) = looked(&[(Needs::Gop, INTER); 60]);
        assert_eq!(needs[49..52], [Needs::Gop, Needs::GopIfAny, Needs::GopIfAny]);
        assert_eq!(found, [(50, Unmarked::None)]);
    }

    #[test]
    fn nothing_is_searched_once_a_keyframe_is_marked() {
        let mut payloads = vec![(Needs::Gop, INTER), (Needs::StartsGop, IDR)];
        payloads.extend([(Needs::Gop, IDR); 100]);
        let (needs, found) = looked(&payloads);
        assert!(needs[2..].iter().all(|needs| *needs == Needs::Gop));
        assert_eq!(found, []);
    }

    #[test]
    fn a_keyframe_that_comes_late_ends_the_search_and_is_found_as_well() {
        let mut payloads = vec![(Needs::Gop, INTER); 60];
        payloads.extend([(Needs::Gop, IDR), (Needs::Gop, INTER), (Needs::StartsGop, IDR)]);
        payloads.extend([(Needs::Gop, IDR)]);
        let (needs, _) = looked(&payloads);
        assert_eq!(needs[60..], [Needs::StartsGop, Needs::Gop, Needs::StartsGop, Needs::Gop]);
    }
}
