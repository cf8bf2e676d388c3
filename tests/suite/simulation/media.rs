//! The media of the simulation: each message carries a number of its own, and bytes that differ
//! from chunk to chunk, so that one too many, too few or out of place shows.

use crate::wire::{self, AUDIO, Message, VIDEO};

/// What a message is for a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    VideoConfiguration,
    AudioConfiguration,
    Key,
    Inter,
    Audio,
}

impl Kind {
    const ALL: [Self; 5] =
        [Self::VideoConfiguration, Self::AudioConfiguration, Self::Key, Self::Inter, Self::Audio];

    /// 0 for video, 1 for audio.
    pub(super) const fn track(self) -> usize {
        matches!(self, Self::AudioConfiguration | Self::Audio) as usize
    }

    pub(super) const fn is_configuration(self) -> bool {
        matches!(self, Self::VideoConfiguration | Self::AudioConfiguration)
    }

    const fn head(self) -> &'static [u8] {
        match self {
            Self::VideoConfiguration => &[0x17, 0, 0, 0, 0],
            Self::AudioConfiguration => &[0xaf, 0],
            // The first slice of an IDR picture, and that of another.
            Self::Key => &[0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x65, 0x88],
            Self::Inter => &[0x27, 1, 0, 0, 0, 0, 0, 0, 2, 0x41, 0x9a],
            Self::Audio => &[0xaf, 1],
        }
    }
}

/// Of the bytes behind head and number.
const fn filling(number: u32, index: usize) -> u8 {
    (number as usize + index / 7) as u8
}

/// The message on message stream 1 with so many bytes behind its number.
pub(super) fn message(kind: Kind, number: u32, timestamp: u32, filled: usize) -> Message {
    let mut payload = kind.head().to_vec();
    payload.extend(number.to_be_bytes());
    payload.extend((0..filled).map(|index| filling(number, index)));
    let (chunk_stream_id, message_kind) = [(6, VIDEO), (4, AUDIO)][kind.track()];
    Message::new(chunk_stream_id, message_kind, payload).on(1).at(timestamp)
}

/// What a message is and its number; one that is none of these, or broken, is a panic.
pub(super) fn read(message: &Message) -> (Kind, u32) {
    let of_track = |kind: &Kind| message.kind == [VIDEO, AUDIO][kind.track()];
    let begins = |kind: &Kind| of_track(kind) && message.payload.starts_with(kind.head());
    let kind = Kind::ALL.into_iter().find(begins);
    let kind = kind.unwrap_or_else(|| panic!("a message that nobody sent: {message:?}"));
    let (number, rest) = message.payload[kind.head().len()..].split_at(4);
    let number = wire::big(number);
    let is_whole = rest.iter().enumerate().all(|(index, byte)| *byte == filling(number, index));
    assert!(is_whole, "{kind:?} {number} arrived broken");
    (kind, number)
}
