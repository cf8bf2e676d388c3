//! Helpers of the unit tests: bytes from text, recorded sessions, random numbers.

use crate::limits::HANDSHAKE_PACKET_BYTES;
use crate::rtmp::chunk::reader::{ChunkReader, ReadLimits};
use crate::rtmp::message::{Control, MessageHeader};
use crate::rtmp::quirks::Tolerated;
#[cfg(feature = "server")]
use crate::stream::tape::TapeSettings;
#[cfg(feature = "server")]
use std::sync::atomic::{AtomicU32, Ordering};

/// Length of C0, C1 and C2, and of S0, S1 and S2 (bytes).
pub(crate) const HANDSHAKE_BYTES: usize = 1 + 2 * HANDSHAKE_PACKET_BYTES;

/// Settings of a tape whose players start at the newest keyframe.
#[cfg(feature = "server")]
pub(crate) const TAPE: TapeSettings = TapeSettings {
    bytes_max: 1 << 20,
    span_ms_max: 30_000,
    lag_ms: 5000,
    keep_start: true,
    merge_ms: 0,
    backlog_bytes_max: usize::MAX,
    chunk_size: 60_000,
};

/// Parses hexadecimal digits. Blanks are ignored.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    assert_eq!(digits.len() % 2, 0, "whole bytes in {text:?}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Returns all messages of a file in `tests/vectors/captures`, after the handshake.
pub(crate) fn recorded_messages(file: &str) -> Vec<(MessageHeader, Vec<u8>)> {
    let mut session = recorded(file);
    let mut input = &mut session[HANDSHAKE_BYTES..];
    let mut reader = ChunkReader::default();
    let mut messages = Vec::new();
    while let Some(message) = reader
        .next_message(&mut input, &ReadLimits::default(), &mut Tolerated::default())
        .expect("a good recording")
    {
        let control = Control::parse(message.header.kind, message.payload);
        messages.push((message.header, message.payload.to_vec()));
        if let Ok(Some(Control::SetChunkSize(size))) = control {
            reader.set_chunk_size(size);
        }
    }
    messages
}

/// Returns the messages in `wire`, which has chunks of `chunk_size`.
#[cfg(feature = "server")]
pub(crate) fn wire_messages(wire: &[u8], chunk_size: u32) -> Vec<(MessageHeader, Vec<u8>)> {
    let mut wire = wire.to_owned();
    let (mut input, mut reader, mut messages) = (&mut wire[..], ChunkReader::default(), vec![]);
    reader.set_chunk_size(chunk_size);
    while let Some(message) = reader
        .next_message(&mut input, &ReadLimits::default(), &mut Tolerated::default())
        .expect("chunks of our own")
    {
        messages.push((message.header, message.payload.to_vec()));
    }
    messages
}

/// Returns the bytes of a file in `tests/vectors/captures`.
pub(crate) fn recorded(file: &str) -> Vec<u8> {
    let path = format!("{}/tests/vectors/captures/{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Creates an empty file without a name.
#[cfg(feature = "server")]
pub(crate) fn file() -> std::io::Result<std::fs::File> {
    static FILES: AtomicU32 = AtomicU32::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("tiderace-{}-{number}", std::process::id()));
    let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path);
    std::fs::remove_file(path)?;
    file
}

/// A xorshift generator: the same numbers in every run for one seed.
pub(crate) struct Random(u64);

impl Random {
    /// Creates a generator.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }
}
