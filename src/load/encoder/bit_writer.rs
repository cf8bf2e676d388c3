//! Writes bit fields and Exp-Golomb numbers.
//!
//! Owns the bit order and the emulation prevention of H.264. It does not check the values.

/// Bytes under construction.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// Free bits of the last byte.
    free: u32,
}

impl BitWriter {
    /// Writes an unsigned number of `width` bits, at most 32.
    pub(super) fn u(&mut self, width: u32, value: u32) -> &mut Self {
        for bit in (0..width).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            let last = self.bytes.len() - 1;
            self.bytes[last] |= ((value >> bit & 1) as u8) << self.free;
        }
        self
    }

    /// Writes ue(v) of H.264, section 9.1. The value is below 2^32 - 1.
    pub(super) fn ue(&mut self, value: u32) -> &mut Self {
        let value = value + 1;
        let width = value.ilog2();
        self.u(width, 0).u(width + 1, value)
    }

    /// Fills the last byte with zeros.
    pub(super) fn align(&mut self) -> &mut Self {
        self.free = 0;
        self
    }

    /// Returns the number of bits written.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() * 8 - self.free as usize
    }

    /// Takes the bytes written.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.free = 0;
        std::mem::take(&mut self.bytes)
    }

    /// Takes the bytes written as an H.264 NAL unit with the header `head`: adds the stop bit, and
    /// inserts a 3 wherever a start code would appear (section 7.4.1).
    pub(super) fn take_unit(&mut self, head: u8) -> Vec<u8> {
        let payload = self.u(1, 1).take();
        let mut unit = Vec::with_capacity(payload.len() + 1);
        unit.push(head);
        let mut zeros = 0;
        for byte in payload {
            if zeros == 2 && byte <= 3 {
                unit.push(3);
                zeros = 0;
            }
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            unit.push(byte);
        }
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_packed_from_the_highest_bit_on() {
        let mut bits = BitWriter::default();
        bits.u(3, 0b101).ue(0).ue(1).ue(2).ue(3).u(2, 0b11);
        assert_eq!(bits.len(), 17);
        bits.align().u(8, 0x5a);
        assert_eq!(bits.take(), [0b1011_0100, 0b1100_1001, 0b1000_0000, 0x5a]);
        assert_eq!(bits.len(), 0);
    }

    #[test]
    fn no_unit_holds_a_start_code() {
        let mut bits = BitWriter::default();
        for byte in [0, 0, 0, 0, 0, 1, 0, 0, 4] {
            bits.u(8, byte);
        }
        let unit = bits.take_unit(0x67);
        assert_eq!(unit, [0x67, 0, 0, 3, 0, 0, 3, 0, 1, 0, 0, 4, 0x80]);
    }
}
