//! Units of known length in a byte stream: frames after their length, and tags of FLV.
//!
//! Owns the start of an incomplete unit. A unit that is whole in the input is not copied. The
//! caller knows what a unit is and how its length is written.

use super::wire::WireError;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    partial: Vec<u8>,
    /// The unit that the last call returned is in `partial`.
    delivered: bool,
}

/// Where the next unit is.
#[derive(Clone, Copy)]
pub(super) enum UnitPlace<'i> {
    /// In the input.
    InInput(&'i [u8]),
    /// In the assembler; [`UnitPlace::bytes`] returns it.
    Assembled,
}

impl<'i> UnitPlace<'i> {
    /// Returns the bytes of the unit that `assembler` returned last.
    pub(super) fn bytes<'a>(self, assembler: &'a Assembler) -> &'a [u8]
    where
        'i: 'a,
    {
        match self {
            Self::InInput(bytes) => bytes,
            Self::Assembled => &assembler.partial,
        }
    }
}

impl Assembler {
    /// Takes at most `limit` bytes from the front of `input` up to the end of the next unit.
    /// `measure` returns the length of a unit from its first `head_bytes` bytes. Without a whole
    /// unit, all of these bytes are taken and the result is `None`.
    pub(super) fn next<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        limit: usize,
        head_bytes: usize,
        measure: impl Fn(&[u8]) -> Result<usize, WireError>,
    ) -> Result<Option<UnitPlace<'i>>, WireError> {
        if std::mem::take(&mut self.delivered) {
            self.partial.clear();
        }
        let mut available = limit.min(input.len());
        if self.partial.is_empty() {
            if available >= head_bytes {
                let bytes = measure(input)?;
                if bytes <= available {
                    return Ok(input.split_off_mut(..bytes).map(|unit| UnitPlace::InInput(unit)));
                }
            }
            self.fill(available, input, &mut available);
            return Ok(None);
        }
        self.fill(head_bytes, input, &mut available);
        if self.partial.len() < head_bytes {
            return Ok(None);
        }
        let bytes = measure(&self.partial)?;
        self.fill(bytes, input, &mut available);
        self.delivered = self.partial.len() >= bytes;
        Ok(self.delivered.then_some(UnitPlace::Assembled))
    }

    /// Moves bytes from the input until `bytes` of the unit are there.
    fn fill(&mut self, bytes: usize, input: &mut &mut [u8], available: &mut usize) {
        let missing = bytes.saturating_sub(self.partial.len()).min(*available);
        self.partial.extend_from_slice(input.split_off_mut(..missing).unwrap_or_default());
        *available -= missing;
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.partial.capacity()
    }
}
