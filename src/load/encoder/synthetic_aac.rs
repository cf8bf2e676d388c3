//! Synthetic AAC-LC that every decoder accepts: silence.
//!
//! Owns the configuration and the frames. Both channels have a gain but no bands. Fill elements,
//! which decoders skip, bring a frame to its size.

use super::bit_writer::BitWriter;

/// Samples per channel in a frame.
pub(in crate::load) const FRAME_SAMPLES: u64 = 1024;
pub(in crate::load) const SAMPLE_RATE_HZ: u64 = 48_000;
/// Largest frame: 6144 bits per channel (ISO/IEC 14496-3, section 4.5.3.2).
pub(super) const FRAME_BYTES_MAX: usize = 2 * 6144 / 8;

/// The `AudioSpecificConfig` of ISO/IEC 14496-3, section 1.6.2.1: LC, 48 kHz, two channels.
pub(super) const CONFIGURATION: [u8; 2] = [0x11, 0x90];

// Element ids of a frame (ISO/IEC 14496-3, table 4.85), of three bits each.
const CHANNEL_PAIR: u32 = 1;
const FILL: u32 = 6;
const END: u32 = 7;

/// Escape value of a count: four bits with this value are followed by eight more bits.
const ESCAPE: usize = 15;
/// Maximum number of bytes in a fill element.
const FILL_BYTES_MAX: usize = ESCAPE - 1 + 255;

/// Writes a frame of silence of `bytes`, or a slightly larger one if `bytes` is too small.
pub(super) fn write_silence(out: &mut Vec<u8>, bytes: usize) {
    let mut bits = BitWriter::default();
    // The channels have separate windows.
    bits.u(3, CHANNEL_PAIR).u(4, 0).u(1, 0);
    for _ in 0..2 {
        // Global gain, one long window without bands; no pulses, noise shaping or gain control.
        bits.u(8, 100).u(1, 0).u(2, 0).u(1, 0).u(6, 0).u(1, 0).u(3, 0);
    }
    while let Some(left) = bytes.min(FRAME_BYTES_MAX).checked_sub((bits.len() + 3).div_ceil(8))
        && left > 0
    {
        write_fill(&mut bits, left);
    }
    bits.u(3, END).align();
    out.extend(bits.take());
}

/// Writes a fill element that extends the frame by `bytes`, or by the maximum of one element. Its
/// header takes one of these bytes, or two with an escaped count, unless it fits into the free bits
/// of the last byte.
fn write_fill(bits: &mut BitWriter, bytes: usize) {
    let is_short = bytes <= ESCAPE;
    let count = if is_short { bytes - 1 } else { (bytes - 2).min(FILL_BYTES_MAX) };
    bits.u(3, FILL);
    if is_short {
        bits.u(4, count as u32);
    } else {
        bits.u(4, ESCAPE as u32).u(8, (count + 1 - ESCAPE) as u32);
    }
    if count > 0 {
        // Extension type EXT_FILL_DATA (ISO/IEC 14496-3, table 4.57).
        bits.u(4, 1).u(4, 0);
        (1..count).for_each(|_| _ = bits.u(8, 0xa5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_requested_size_unless_it_is_too_small_or_too_large() {
        for bytes in 0..2000 {
            let mut frame = vec![1];
            write_silence(&mut frame, bytes);
            assert_eq!(frame.len() - 1, bytes.clamp(7, FRAME_BYTES_MAX), "{bytes}");
        }
    }
}
