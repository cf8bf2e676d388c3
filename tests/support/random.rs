//! Numbers that are the same in every run of a seed: a failure that names its seed can be repeated.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A seed that is another in every run.
pub(crate) fn fresh_seed() -> u64 {
    // The keys of a hash map are the standard library's only random numbers.
    RandomState::new().build_hasher().finish() >> 16
}

/// A xorshift generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }

    /// True once in `of` times.
    pub(crate) fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}
