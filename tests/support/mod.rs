//! What the test targets share: RTMP as bytes and random numbers.

pub(crate) mod random;
pub(crate) mod wire;
