//! Names of codecs with their profile and level, as media types have them (RFC 6381).
//!
//! Each function reads a configuration, which must be at least as long as its fixed fields. The
//! names are those that browsers and Apple players compare with what they can decode.

use std::fmt::Write;

/// Level of VP9 in place of an unknown one: the lowest. Chrome refuses the value 0.
const VP9_LEVEL_UNKNOWN: u8 = 10;

/// Returns `avc1.PPCCLL` for a sequence parameter set: the three bytes after its header (RFC 6381,
/// section 3.3).
pub(super) fn avc(sequence_parameter_set: &[u8]) -> Option<String> {
    let [_, profile, constraints, level, ..] = sequence_parameter_set else {
        return None;
    };
    Some(format!("avc1.{profile:02x}{constraints:02x}{level:02x}"))
}

/// Returns `hvc1.P.C.TL.B` for a configuration record (ISO/IEC 14496-15, annex E.3): the profile
/// space and profile, the compatibility flags in reverse order, the tier and level, and the bytes
/// of constraints without trailing zeros.
pub(super) fn hevc(record: &[u8]) -> Option<String> {
    let (head, _) = record.split_first_chunk::<13>()?;
    let [_, profile, flag_0, flag_1, flag_2, flag_3, constraints @ .., level] = *head;
    let space = ["", "A", "B", "C"][usize::from(profile >> 6)];
    let tier = if profile & 0x20 == 0 { 'L' } else { 'H' };
    let compatibility = u32::from_be_bytes([flag_0, flag_1, flag_2, flag_3]).reverse_bits();
    let mut name = format!("hvc1.{space}{}.{compatibility:X}.{tier}{level}", profile & 0x1f);
    let used = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for byte in &constraints[..used] {
        let _ = write!(name, ".{byte:X}");
    }
    Some(name)
}

/// Returns `av01.P.LLT.DD` for a configuration record (AV1 in ISO base media files, section 5).
pub(super) fn av1(record: &[u8]) -> Option<String> {
    let [_, profile_level, flags, ..] = *record else {
        return None;
    };
    let tier = if flags & 0x80 == 0 { 'M' } else { 'H' };
    let depth = match flags & 0x60 {
        0x60 => 12,
        0x40 => 10,
        _ => 8,
    };
    Some(format!("av01.{}.{:02}{tier}.{depth:02}", profile_level >> 5, profile_level & 0x1f))
}

/// Returns `vp09.PP.LL.DD` for a configuration record with its version and flags (VP codecs in ISO
/// base media files, "Codecs Parameter String").
pub(super) fn vp9(record: &[u8]) -> Option<String> {
    let [_, _, _, _, profile, level, depth, ..] = *record else {
        return None;
    };
    let level = if level == 0 { VP9_LEVEL_UNKNOWN } else { level };
    Some(format!("vp09.{profile:02}.{level:02}.{:02}", depth >> 4))
}
