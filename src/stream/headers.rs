//! The headers of a stream, which a player receives before the first frame: metadata, decoder
//! configurations, channel layouts and colour information of every track.
//!
//! A header is replaced once every track it applies to has a newer header of the same kind. So no
//! track has two headers of a kind in force. A frame of another codec suspends the headers of its
//! track, because a decoder would wait for a track that is over. A frame of the old codec restores
//! them. An end of sequence removes nothing: the next sequence brings its own header, and until
//! then the old one does no harm.
//!
//! The tape, its start points and players with half-sent headers share the memory of headers, so a
//! gauge counts it.

use super::frame::HeaderKind;
use super::framing::MESSAGE_STREAM_ID;
use super::gauge::{Counted, Gauge};
use crate::limits;
use crate::media::{self, Codec, MediaKind, Tracks, codec};
use crate::rtmp::chunk::writer::{chunk_stream, wire_len, write_message};
use crate::rtmp::message::{MessageHeader, kind};
use crate::rtmp::session::Receives;
use bytes::Bytes;
use std::cell::RefCell;

/// Timestamp of metadata, which belongs to no moment. ffmpeg takes metadata with a later timestamp
/// for the first subtitle of a subtitle track.
pub(crate) const METADATA_TIMESTAMP: u32 = 0;

impl HeaderKind {
    pub(crate) const fn media(self) -> MediaKind {
        match self {
            Self::Metadata => MediaKind::Data,
            Self::AudioSequence | Self::Multichannel => MediaKind::Audio,
            Self::VideoSequence | Self::ColorInfo => MediaKind::Video,
        }
    }
}

#[derive(Clone, Debug)]
struct Header {
    kind: HeaderKind,
    tracks: Tracks,
    codec: Option<Codec>,
    /// Set while its track carries another codec.
    is_suspended: bool,
    payload: Bytes,
}

impl Header {
    /// Returns whether the header must be suspended or restored if `tracks` carry `codec`. False
    /// for headers of other tracks.
    fn disagrees_with(&self, tracks: &Tracks, codec: Codec) -> bool {
        let is_other = self.codec.is_some_and(|own| own != codec);
        self.kind.media() == codec.media()
            && self.tracks == *tracks
            && self.is_suspended != is_other
    }
}

/// Outcome of keeping a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The header replaced others.
    pub(crate) replaced: bool,
    /// The headers are too large or too many, so late players do not get this one.
    pub(crate) left_out: bool,
}

/// The headers in force.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers {
    /// Ordered by [`HeaderKind`], then by arrival.
    list: Vec<Header>,
    /// The last wire forms and their timestamps, shared by all players that join within
    /// [`RECENT_MS_MAX`]. Invariant: encoded from the current `list`.
    recent: RefCell<PerReceives<Option<(u32, Bytes)>>>,
    gauge: Gauge,
    /// The entry of the list's own memory in the gauge.
    counted: Counted,
}

/// Returns whether a player receives messages of this kind. Data is always received.
pub(crate) const fn wants(receives: Receives, media: MediaKind) -> bool {
    match media {
        MediaKind::Audio => receives.audio,
        MediaKind::Video => receives.video,
        MediaKind::Data => true,
    }
}

/// A value for each combination of the media that a player can receive.
pub(crate) type PerReceives<T> = [T; 4];

/// Returns the index of a combination in [`PerReceives`].
pub(crate) const fn index_of(receives: Receives) -> usize {
    receives.audio as usize | (receives.video as usize) << 1
}

/// How long players that join share one wire form (ms). The exact timestamp of a header does not
/// matter to a decoder.
const RECENT_MS_MAX: u32 = 1000;

impl Headers {
    /// Creates an empty list. `gauge` counts the memory of the headers that are kept.
    pub(crate) fn new(gauge: Gauge) -> Self {
        Self { gauge, ..Self::default() }
    }

    /// Returns the gauge that counts these headers.
    pub(crate) const fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    /// Returns whether this header is already the newest one of these tracks. That is the case
    /// when an encoder repeats its headers with every keyframe.
    pub(crate) fn has(&self, kind: HeaderKind, tracks: &Tracks, payload: &[u8]) -> bool {
        let newest = self.list.iter().rfind(|h| h.kind == kind && concerns(h, tracks));
        newest.is_some_and(|h| h.tracks == *tracks && h.payload == payload && !h.is_suspended)
    }

    /// Keeps a header if there is room for it, and removes the headers that it replaces.
    pub(crate) fn keep(
        &mut self,
        kind: HeaderKind,
        tracks: Tracks,
        codec: Option<Codec>,
        payload: &[u8],
    ) -> Kept {
        self.recent = RefCell::default();
        let before = self.list.len();
        let mut newer = tracks;
        for index in (0..self.list.len()).rev() {
            let header = &self.list[index];
            if header.kind != kind {
                continue;
            }
            if header.tracks.is_subset_of(&newer) {
                self.list.remove(index);
            } else {
                newer = newer.union(&header.tracks);
            }
        }
        let replaced = self.list.len() < before;
        let kept: usize = self.list.iter().map(|header| header.payload.len()).sum();
        let has_room = kept + payload.len() <= limits::HEADERS_BYTES_MAX
            && self.list.len() < limits::HEADERS_MAX;
        if has_room {
            let at = self.list.partition_point(|header| header.kind <= kind);
            let payload = self.gauge.share(payload.to_vec());
            let is_suspended = false;
            self.list.insert(at, Header { kind, tracks, codec, is_suspended, payload });
        }
        self.count_list();
        Kept { replaced, left_out: !has_room }
    }

    /// Returns whether [`Headers::set_codec`] would change anything.
    pub(crate) fn disagrees_with(&self, tracks: &Tracks, codec: Codec) -> bool {
        self.list.iter().any(|header| header.disagrees_with(tracks, codec))
    }

    /// Suspends the headers of these tracks with another codec, and restores those of `codec`.
    /// A message of several tracks affects only headers of exactly these tracks.
    pub(crate) fn set_codec(&mut self, tracks: &Tracks, codec: Codec) {
        self.recent = RefCell::default();
        for header in self.list.iter_mut().filter(|header| header.disagrees_with(tracks, codec)) {
            header.is_suspended = !header.is_suspended;
        }
    }

    /// Returns the payload of the header of this kind that is in force for track 0.
    pub(crate) fn payload_of(&self, kind: HeaderKind) -> Option<&[u8]> {
        let is_it = |h: &&Header| h.kind == kind && !h.is_suspended && h.tracks.contains(0);
        self.list.iter().rfind(is_it).map(|header| &header.payload[..])
    }

    /// Returns whether a header of this kind is in force for a track.
    pub(crate) fn has_track(&self, kind: HeaderKind, track: u8) -> bool {
        let is_it = |h: &Header| h.kind == kind && !h.is_suspended && h.tracks.contains(track);
        self.list.iter().any(is_it)
    }

    /// Size of the length field before each NAL unit of these tracks (bytes).
    pub(crate) fn nal_length_bytes(&self, tracks: &Tracks) -> usize {
        let is_configuration =
            |h: &&Header| h.kind == HeaderKind::VideoSequence && h.tracks.intersects(tracks);
        let mut length_bytes = 4;
        if let Some(header) = self.list.iter().rfind(is_configuration) {
            media::for_each_video_track(&header.payload, |track| {
                if tracks.contains(track.track) {
                    length_bytes = codec::length_bytes(track.codec, track.body);
                }
            });
        }
        length_bytes
    }

    /// Removes the metadata.
    pub(crate) fn clear_metadata(&mut self) {
        self.recent = RefCell::default();
        self.list.retain(|header| header.kind != HeaderKind::Metadata);
        self.count_list();
    }

    /// Memory of these headers and of their shared wire forms (bytes). The gauge counts the same
    /// memory, and earlier headers that players still hold.
    pub(crate) fn held_bytes(&self) -> usize {
        let payloads: usize = self.list.iter().map(|header| header.payload.len()).sum();
        let recent = self.recent.borrow();
        let recent: usize = recent.iter().flatten().map(|(_, wire)| wire.len()).sum();
        self.list.capacity() * size_of::<Header>() + payloads + recent
    }

    fn count_list(&mut self) {
        self.counted = self.gauge.count(self.list.capacity() * size_of::<Header>());
    }

    /// Returns the wire form of the headers that a player receives. Their timestamp is `timestamp`
    /// or up to [`RECENT_MS_MAX`] earlier, 0 for metadata.
    pub(crate) fn recent(&self, timestamp: u32, receives: Receives, chunk_size: u32) -> Bytes {
        let recent = &mut self.recent.borrow_mut()[index_of(receives)];
        match &*recent {
            Some((made, wire)) if timestamp.wrapping_sub(*made) < RECENT_MS_MAX => wire.clone(),
            _ => {
                let wire = self.encode(timestamp, receives, chunk_size);
                *recent = Some((timestamp, wire.clone()));
                wire
            }
        }
    }

    /// Encodes the headers that a player receives. Their timestamp is `timestamp`, 0 for metadata.
    pub(crate) fn encode(&self, timestamp: u32, receives: Receives, chunk_size: u32) -> Bytes {
        let message = |header: &Header| {
            let metadata = header.kind == HeaderKind::Metadata;
            let timestamp = if metadata { METADATA_TIMESTAMP } else { timestamp };
            message_header(header.kind.media(), timestamp)
        };
        let is_wanted = |h: &&Header| !h.is_suspended && wants(receives, h.kind.media());
        let wanted = || self.list.iter().filter(is_wanted);
        let len = |header: &Header| wire_len(&message(header), header.payload.len(), chunk_size);
        let mut wire = Vec::with_capacity(wanted().map(len).sum());
        for header in wanted() {
            write_message(&mut wire, message(header), &header.payload, chunk_size);
        }
        if wire.is_empty() { Bytes::new() } else { self.gauge.share(wire) }
    }
}

/// Returns whether a header applies to any of `tracks`. Metadata has no track, and all metadata is
/// the same header.
fn concerns(header: &Header, tracks: &Tracks) -> bool {
    header.kind == HeaderKind::Metadata || header.tracks.intersects(tracks)
}

/// Returns the header of a message on a tape.
pub(crate) const fn message_header(media: MediaKind, timestamp: u32) -> MessageHeader {
    let (chunk_stream_id, kind) = match media {
        MediaKind::Audio => (chunk_stream::AUDIO, kind::AUDIO),
        MediaKind::Video => (chunk_stream::VIDEO, kind::VIDEO),
        MediaKind::Data => (chunk_stream::DATA, kind::DATA_AMF0),
    };
    MessageHeader { chunk_stream_id, timestamp, kind, message_stream_id: MESSAGE_STREAM_ID }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::classify_video;
    use crate::test_support::{hex, wire_messages};

    /// Returns the headers that late players get, and whether the last one replaced others.
    fn kept(payloads: &[&str]) -> (Vec<Vec<u8>>, bool) {
        let (mut headers, mut replaced) = (Headers::default(), false);
        for payload in payloads.iter().map(|payload| hex(payload)) {
            let tracks = classify_video(&payload).unwrap().tracks;
            if !headers.has(HeaderKind::VideoSequence, &tracks, &payload) {
                replaced = headers.keep(HeaderKind::VideoSequence, tracks, None, &payload).replaced;
            }
        }
        let wire = wire_messages(&headers.encode(0, Receives::ALL, 60_000), 60_000);
        (wire.into_iter().map(|(_, payload)| payload).collect(), replaced)
    }

    /// Configurations of track 0, of track 1, of both, and changed ones.
    const FIRST: &str = "96 00 68766331 00 0a";
    const SECOND: &str = "96 00 68766331 01 0b";
    const SECOND_CHANGED: &str = "96 00 68766331 01 0c";
    const BOTH: &str = "96 10 68766331 00 000001 0d 01 000001 0e";
    const BOTH_CHANGED: &str = "96 10 68766331 00 000001 0d 01 000001 0f";

    #[test]
    fn a_header_takes_the_place_of_those_whose_tracks_all_have_a_newer_one() {
        for (payloads, expected, replaced) in [
            (&[FIRST, SECOND][..], &[FIRST, SECOND][..], false),
            (&[FIRST, SECOND, SECOND_CHANGED], &[FIRST, SECOND_CHANGED], true),
            (&[FIRST, SECOND, BOTH], &[BOTH], true),
            (&[BOTH, SECOND], &[BOTH, SECOND], false),
            (&[BOTH, SECOND, FIRST], &[SECOND, FIRST], true),
            (&[BOTH, SECOND, BOTH_CHANGED], &[BOTH_CHANGED], true),
        ] {
            let expected: Vec<_> = expected.iter().map(|payload| hex(payload)).collect();
            assert_eq!(kept(payloads), (expected, replaced), "{payloads:?}");
        }
    }

    #[test]
    fn a_header_that_comes_back_after_another_of_its_track_is_the_newest() {
        assert_eq!(kept(&[BOTH, SECOND, BOTH]).0, [hex(BOTH)]);
        assert_eq!(kept(&[SECOND, FIRST, SECOND]).0, [SECOND, FIRST].map(hex), "a repetition");
    }

    #[test]
    fn headers_are_bounded_in_number() {
        let headers: Vec<_> =
            (0..200).map(|track| format!("96 00 68766331 {track:02x} 01")).collect();
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        assert_eq!(kept(&headers).0.len(), limits::HEADERS_MAX);
    }

    #[test]
    fn headers_count_until_the_last_player_has_them_in_whatever_version() {
        const PAYLOAD_BYTES: usize = 10_000;
        let gauge = Gauge::default();
        let mut headers = Headers::new(gauge.clone());
        let mut players = Vec::new();
        for version in 0..5 {
            let payload = [version; PAYLOAD_BYTES];
            headers.keep(HeaderKind::VideoSequence, Tracks::DEFAULT, None, &payload);
            // Two players share the wire form. One has been sent half of it.
            let wire = headers.recent(0, Receives::ALL, 60_000);
            players.extend([wire.clone(), wire.slice(PAYLOAD_BYTES / 2..)]);
        }
        let held = gauge.bytes();
        assert!((6 * PAYLOAD_BYTES..7 * PAYLOAD_BYTES).contains(&held), "{held} bytes");
        players.clear();
        assert!((2 * PAYLOAD_BYTES..3 * PAYLOAD_BYTES).contains(&gauge.bytes()));
        drop(headers);
        assert_eq!(gauge.bytes(), 0);
    }

    #[test]
    fn players_that_join_within_a_second_share_one_wire_form_until_a_header_changes() {
        let mut headers = Headers::default();
        headers.keep(HeaderKind::VideoSequence, Tracks::DEFAULT, None, &[0x17, 0, 0, 0, 0, 1]);
        let first = headers.recent(5000, Receives::ALL, 60_000);
        for (timestamp, shared) in [(5000, true), (5999, true), (6000, false), (4999, false)] {
            let other = headers.clone().recent(timestamp, Receives::ALL, 60_000);
            assert_eq!(other.as_ptr() == first.as_ptr(), shared, "at {timestamp}");
        }
        headers.keep(HeaderKind::VideoSequence, Tracks::DEFAULT, None, &[0x17, 0, 0, 0, 0, 2]);
        assert_ne!(headers.recent(5000, Receives::ALL, 60_000), first);
    }
}
