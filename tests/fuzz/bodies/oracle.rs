//! What must hold of every parser that is fed by a peer: the memory that it keeps follows what has
//! come and not what was declared, and it makes the same of a run of bytes however it is cut.

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};

use allocation_counter::{measure, opt_out};

use crate::random::Random;

/// What may be kept for a peer beside twice what it has sent (bytes).
const KEPT_BYTES_FREE: usize = 8 * 1024;
/// The longest run of bytes that is also fed byte by byte: beyond, that only takes time.
const BYTEWISE_BYTES_MAX: usize = 3200;

/// The memory that is kept for one peer, as the allocator counts it.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    received: usize,
    kept: i64,
}

impl Kept {
    /// Lets `work` take so many bytes more of the peer. What it keeps of them is within the bound.
    pub(crate) fn receive<T>(&mut self, bytes: usize, work: impl FnOnce() -> T) -> T {
        self.received += bytes;
        self.count(work)
    }

    /// Lets `work` happen without anything of the peer, such as taking what was said to it.
    pub(crate) fn count<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let mut result = None;
        let cost = measure(|| result = Some(work()));
        self.kept += cost.bytes_current;
        let max = (2 * self.received + KEPT_BYTES_FREE) as i64;
        assert!(
            self.kept <= max,
            "{} bytes are kept of {} that came, at most {max} may be",
            self.kept,
            self.received
        );
        result.expect("work that was done")
    }
}

/// Lets `note` write down what happened, which is no memory of the peer.
pub(crate) fn note<T>(note: impl FnOnce() -> T) -> T {
    let mut result = None;
    opt_out(|| result = Some(note()));
    result.expect("a note that was written")
}

/// Asserts that `run` makes the same of `bytes` whole, cut by `seed`, and byte by byte; what it
/// makes of them is the answer.
pub(crate) fn same_however_cut<T: Debug + PartialEq>(
    bytes: &[u8],
    seed: u64,
    run: impl Fn(&[&[u8]]) -> T,
) -> T {
    let whole = run(&[bytes]);
    let cut = run(&pieces(bytes, seed));
    assert_eq!(cut, whole, "bytes that were cut by seed {seed}, and whole");
    if bytes.len() <= BYTEWISE_BYTES_MAX {
        let bytewise = run(&bytes.chunks(1).collect::<Vec<_>>());
        assert_eq!(bytewise, whole, "byte by byte, and whole");
    }
    whole
}

/// Cuts into pieces from a byte to some segments of a network.
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

/// A payload as a short text that differs when it does.
pub(crate) fn digest(payload: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    format!("{} bytes, {:016x}", payload.len(), hasher.finish())
}
