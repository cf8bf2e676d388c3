//! Counts shared memory once, until its last holder drops it.
//!
//! The stream, its start points and players with half-sent headers share the headers of a stream,
//! in any combination, and may outlive the stream. No one has to find the last holder: the memory
//! subtracts its own size from the gauge when it is freed.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A counter of bytes. See the module's head. Clones share the counter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    /// Bytes that are counted at present.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Turns `buffer` into shared bytes that the gauge counts until the last slice is dropped.
    pub(crate) fn share(&self, mut buffer: Vec<u8>) -> Bytes {
        buffer.shrink_to_fit();
        Bytes::from_owner(Shared {
            counted: self.count(size_of::<Shared>() + buffer.len()),
            buffer,
        })
    }

    /// Counts this many bytes until the returned value is dropped.
    pub(crate) fn count(&self, bytes: usize) -> Counted {
        let gauge = self.clone();
        gauge.0.fetch_add(bytes, Ordering::Relaxed);
        Counted { gauge, bytes }
    }
}

/// Memory that a gauge counts while this exists.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    gauge: Gauge,
    bytes: usize,
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.gauge.count(self.bytes)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A buffer with its entry in the gauge.
struct Shared {
    buffer: Vec<u8>,
    counted: Counted,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        debug_assert!(self.counted.bytes >= self.buffer.len());
        &self.buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_bytes_count_once_and_until_the_last_slice_is_dropped() {
        let gauge = Gauge::default();
        let whole = gauge.share(vec![7; 1000]);
        let counted = gauge.bytes();
        assert!((1000..1100).contains(&counted), "{counted} bytes");
        let slices: Vec<_> = (0..100).map(|at| whole.slice(at..)).collect();
        assert_eq!(gauge.bytes(), counted);
        drop(whole);
        assert_eq!(slices.last().map(|slice| slice.len()), Some(901));
        assert_eq!(gauge.bytes(), counted);
        drop(slices);
        assert_eq!(gauge.bytes(), 0);
    }

    #[test]
    fn a_clone_is_the_same_gauge() {
        let gauge = Gauge::default();
        let counted = gauge.clone().count(5);
        assert_eq!(gauge.bytes(), 5);
        drop(counted);
        assert_eq!(gauge.bytes(), 0);
    }
}
