//! The media of the simulation: each message carries a unique number and bytes that differ from
//! chunk to chunk, so that missing, repeated and misplaced chunks are detected.

use crate::wire::{self, AUDIO, Message, VIDEO};

/// Class of a message.
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

    /// Returns 0 for video, 1 for audio.
    pub(super) const fn track(self) -> usize {
        matches!(self, Self::AudioConfiguration | Self::Audio) as usize
    }

    pub(super) const fn is_configuration(self) -> bool {
        matches!(self, Self::VideoConfiguration | Self::AudioConfiguration)
    }

    const fn head(self) -> &'static [u8] {
        match self {
            // Those of an encoder, since MP4 describes the tracks. What follows is ignored there.
            Self::VideoConfiguration => wire::AVC_HEADER,
            Self::AudioConfiguration => wire::AAC_HEADER,
            // The first slice of an IDR picture, and that of another picture.
            Self::Key => &[0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x65, 0x88],
            Self::Inter => &[0x27, 1, 0, 0, 0, 0, 0, 0, 2, 0x41, 0x9a],
            Self::Audio => &[0xaf, 1],
        }
    }
}

/// Returns a byte of the filling after head and number.
const fn filling(number: u32, index: usize) -> u8 {
    (number as usize + index / 7) as u8
}

/// Returns a message on message stream 1 with `filled` bytes after its number.
pub(super) fn message(kind: Kind, number: u32, timestamp: u32, filled: usize) -> Message {
    let mut payload = kind.head().to_vec();
    payload.extend(number.to_be_bytes());
    payload.extend((0..filled).map(|index| filling(number, index)));
    let (chunk_stream_id, message_kind) = [(6, VIDEO), (4, AUDIO)][kind.track()];
    Message::new(chunk_stream_id, message_kind, payload).on(1).at(timestamp)
}

/// Returns the configurations in an initialization segment.
pub(super) fn configurations(moov: &[u8]) -> Vec<Message> {
    let kinds = [
        (b"avcC", Kind::VideoConfiguration, VIDEO, 5),
        (b"esds", Kind::AudioConfiguration, AUDIO, 2),
    ];
    let found = kinds.into_iter().filter_map(|(name, kind, message_kind, head_len)| {
        let at = moov.windows(name.len()).position(|at| at == name)?;
        // The boxes have them without the head of the message.
        let (moov, record) = (&moov[at..], &kind.head()[head_len..]);
        let end = moov.windows(record.len()).position(|at| at == record)? + record.len();
        let payload = [kind.head(), &moov[end..end + 4]].concat();
        Some(Message::new(4, message_kind, payload))
    });
    found.collect()
}

/// Returns the message of a frame in a fragment, at a time (ms).
pub(super) fn frame(is_video: bool, sample: &[u8], timestamp: u32) -> Message {
    let message_kind = if is_video { VIDEO } else { AUDIO };
    let head: &[u8] = match (is_video, sample.get(4)) {
        (false, _) => &[0xaf, 1],
        (true, Some(0x65)) => &[0x17, 1, 0, 0, 0],
        (true, _) => &[0x27, 1, 0, 0, 0],
    };
    Message::new(4, message_kind, [head, sample].concat()).at(timestamp)
}

/// Returns the class and number of a message. Panics if the message is unknown or damaged.
pub(super) fn read(message: &Message) -> (Kind, u32) {
    let of_track = |kind: &Kind| message.kind == [VIDEO, AUDIO][kind.track()];
    let begins = |kind: &Kind| of_track(kind) && message.payload.starts_with(kind.head());
    let kind = Kind::ALL.into_iter().find(begins);
    let kind = kind.unwrap_or_else(|| panic!("a message that was never sent: {message:?}"));
    let (number, rest) = message.payload[kind.head().len()..].split_at(4);
    let number = wire::big(number);
    let is_whole = rest.iter().enumerate().all(|(index, byte)| *byte == filling(number, index));
    assert!(is_whole, "{kind:?} {number} arrived broken");
    (kind, number)
}
