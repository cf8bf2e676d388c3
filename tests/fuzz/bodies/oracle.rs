//! Promises of every parser of peer input: the memory it keeps follows the bytes received, not the
//! declared lengths, and its output does not depend on how the bytes are split.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use allocation_counter::{measure, opt_out};

use crate::random::Random;

/// Memory that may be kept for a peer in addition to twice the bytes it has sent.
const KEPT_BYTES_FREE: usize = 8 * 1024;
/// Maximum number of bytes that are also fed one by one. With more bytes that only takes time.
const BYTEWISE_BYTES_MAX: usize = 3200;

/// Memory kept for one peer, as counted by the allocator.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    received: usize,
    kept: i64,
}

impl Kept {
    /// Runs `work` on further bytes of the peer, and checks the memory kept.
    pub(crate) fn receive<T>(&mut self, bytes: usize, work: impl FnOnce() -> T) -> T {
        self.received += bytes;
        self.count(work)
    }

    /// Runs `work` without further bytes of the peer, such as taking its output.
    pub(crate) fn count<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let mut result = None;
        let cost = measure(|| result = Some(work()));
        self.kept += cost.bytes_current;
        let max = (2 * self.received + KEPT_BYTES_FREE) as i64;
        assert!(
            self.kept <= max,
            "{} bytes are kept for {} bytes received, at most {max} are allowed",
            self.kept,
            self.received
        );
        result.expect("the work is done")
    }
}

/// Runs `note`, which records what happened, without counting its memory.
pub(crate) fn note<T>(note: impl FnOnce() -> T) -> T {
    let mut result = None;
    opt_out(|| result = Some(note()));
    result.expect("the note is written")
}

/// Asserts that `run` gives the same output for `bytes` as a whole, split by `seed`, and byte by
/// byte. Returns the output.
pub(crate) fn same_however_cut<T: Debug + PartialEq>(
    bytes: &[u8],
    seed: u64,
    run: impl Fn(&[&[u8]]) -> T,
) -> T {
    let whole = run(&[bytes]);
    let cut = run(&pieces(bytes, seed));
    assert_eq!(cut, whole, "bytes split by seed {seed} differ from the whole");
    if bytes.len() <= BYTEWISE_BYTES_MAX {
        let bytewise = run(&bytes.chunks(1).collect::<Vec<_>>());
        assert_eq!(bytewise, whole, "single bytes differ from the whole");
    }
    whole
}

/// Splits into pieces from one byte to several network segments.
fn pieces(mut bytes: &[u8], seed: u64) -> Vec<&[u8]> {
    let mut random = Random::new(seed);
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let longest = [1, 16, 200, 5000][random.below(4)];
        let (piece, rest) = bytes.split_at((1 + random.below(longest)).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// Returns a short text that identifies a payload.
pub(crate) fn digest(payload: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    format!("{} bytes, {:016x}", payload.len(), hasher.finish())
}
