//! Sample descriptions: the decoder configurations of each codec in the form of MP4.
//!
//! The configuration records of video are the same in RTMP and in MP4, so they are copied. Those
//! of audio are converted, or made from the header of a frame.

use super::codec_string;
use crate::media::codec::bits::Bits;
use crate::media::{AudioCodec, VideoCodec};

/// Object types of audio in `esds` (ISO/IEC 14496-1, table 5).
const OBJECT_AAC: u8 = 0x40;
const OBJECT_MP3_MPEG2: u8 = 0x69;
const OBJECT_MP3_MPEG1: u8 = 0x6b;
/// Lowest sample rate of MPEG-1 audio (Hz). MPEG-2 has the rates below.
const MPEG1_RATE_HZ_MIN: u32 = 32_000;

/// Length of STREAMINFO (bytes; RFC 9639, section 8.2).
const STREAMINFO_BYTES: usize = 34;

// Audio object types of AAC (ISO/IEC 14496-3, table 1.17).
const AAC_SBR: u32 = 5;
const AAC_LD: u32 = 23;
const AAC_PS: u32 = 29;
const AAC_ESCAPE: u32 = 31;
const AAC_ELD: u32 = 39;

/// Bytes of the fixed fields in the record of VP9, with version and flags.
const VP9_RECORD_BYTES: usize = 12;

/// A decoder configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Description {
    /// A configuration record in a box of its own: the type of the sample entry, the type of the
    /// box, and its content.
    Record { entry: [u8; 4], kind: [u8; 4], content: Vec<u8> },
    /// An elementary stream descriptor, with the object type and the `AudioSpecificConfig` of AAC.
    Elementary { object_type: u8, config: Vec<u8> },
    /// The configuration of FLAC in the same form as a record, and the bits of a sample.
    Flac { content: Vec<u8>, bits: u16 },
    /// The fields of AC-3.
    Ac3(Ac3Fields),
    /// The fields of E-AC-3, and the data rate (kbit/s).
    Eac3(Ac3Fields, u16),
}

/// Fields of a frame header of AC-3 or E-AC-3 that the description repeats (ATSC A/52, annex F).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ac3Fields {
    pub(super) rate_code: u8,
    pub(super) stream_id: u8,
    pub(super) stream_mode: u8,
    pub(super) coding_mode: u8,
    pub(super) has_low_frequency: bool,
    /// Only AC-3 has a code of the bit rate.
    pub(super) bit_rate_code: u8,
}

/// Returns the description of a video codec and its name. `None` for a malformed record.
pub(super) fn of_video(codec: VideoCodec, record: &[u8]) -> Option<(Description, String)> {
    let (entry, kind, name) = match codec {
        VideoCodec::Avc => (b"avc1", b"avcC", codec_string::avc(first_avc_set(record)?)?),
        VideoCodec::Hevc => (b"hvc1", b"hvcC", codec_string::hevc(record)?),
        VideoCodec::Av1 => {
            // Marker and version.
            let has_start = record.first() == Some(&0x81) && record.len() >= 4;
            (b"av01", b"av1C", codec_string::av1(record).filter(|_| has_start)?)
        }
        VideoCodec::Vp9 => {
            let has_start = record.starts_with(&[1, 0, 0, 0]) && record.len() >= VP9_RECORD_BYTES;
            (b"vp09", b"vpcC", codec_string::vp9(record).filter(|_| has_start)?)
        }
        _ => return None,
    };
    let content = record.to_vec();
    Some((Description::Record { entry: *entry, kind: *kind, content }, name))
}

/// Returns the first sequence parameter set of a record of H.264 (ISO/IEC 14496-15, section
/// 5.3.3.1). `None` if the record does not have all the sets that it announces.
fn first_avc_set(record: &[u8]) -> Option<&[u8]> {
    let (&[version, _, _, _, _, count], mut rest) = record.split_first_chunk::<6>()?;
    let sets = usize::from(count & 0x1f);
    let first = take_sets(&mut rest, sets)?;
    let (&count, mut rest) = rest.split_first()?;
    take_sets(&mut rest, count.into())?;
    (version == 1).then_some(first)
}

/// Takes parameter sets with a 16-bit length off the front of `rest`. Returns the first one.
fn take_sets<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let mut first = None;
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk()?;
        let (set, after) = after.split_at_checked(u16::from_be_bytes(*length).into())?;
        *rest = after;
        first = first.or(Some(set));
    }
    first
}

/// Returns the description of an audio codec and its name. `None` for a malformed configuration.
pub(super) fn of_audio(
    codec: AudioCodec,
    body: &[u8],
    sample_rate: u32,
) -> Option<(Description, String)> {
    Some(match codec {
        AudioCodec::Aac => {
            let object_type = aac_object_type(&mut Bits::new(body))?;
            let config = body.to_vec();
            let description = Description::Elementary { object_type: OBJECT_AAC, config };
            (description, format!("mp4a.40.{object_type}"))
        }
        AudioCodec::Mp3 => {
            let is_mpeg1 = sample_rate >= MPEG1_RATE_HZ_MIN;
            let object_type = if is_mpeg1 { OBJECT_MP3_MPEG1 } else { OBJECT_MP3_MPEG2 };
            let description = Description::Elementary { object_type, config: Vec::new() };
            (description, format!("mp4a.{object_type:X}"))
        }
        AudioCodec::Opus => {
            let (entry, kind, content) = (*b"Opus", *b"dOps", opus_box(body)?);
            (Description::Record { entry, kind, content }, "opus".to_owned())
        }
        AudioCodec::Flac => (flac(body)?, "flac".to_owned()),
        AudioCodec::Ac3 => (Description::Ac3(ac3_fields(body)?), "ac-3".to_owned()),
        AudioCodec::Eac3 => {
            let (fields, data_rate) = eac3_fields(body, sample_rate)?;
            (Description::Eac3(fields, data_rate), "ec-3".to_owned())
        }
        AudioCodec::Legacy(_) | AudioCodec::Other(_) | AudioCodec::Unnamed => return None,
    })
}

fn aac_object_type(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.u(5)? {
        AAC_ESCAPE => Some(32 + bits.u(6)?),
        object_type => Some(object_type),
    }
}

/// Returns the samples in a frame of AAC, at the rate of the decoder's output (ISO/IEC 14496-3,
/// sections 4.5.2.1.1 and 4.6.18.2). The low-delay types are counted like the others if their
/// configuration cannot be read; drift then corrects the count.
pub(super) fn aac_frame_samples(config: &[u8], has_sbr: bool) -> u32 {
    read_aac_frame_samples(config, has_sbr).unwrap_or(1024)
}

fn read_aac_frame_samples(config: &[u8], has_sbr: bool) -> Option<u32> {
    let bits = &mut Bits::new(config);
    let announced = aac_object_type(bits)?;
    let core_rate = skip_aac_rate(bits)?;
    bits.skip(4)?;
    let mut object_type = announced;
    let mut doubling = if has_sbr { 2 } else { 1 };
    if matches!(announced, AAC_SBR | AAC_PS) {
        // SBR doubles the rate, unless the decoder is told to keep it.
        if skip_aac_rate(bits)? == core_rate {
            doubling = 1;
        }
        object_type = aac_object_type(bits)?;
    }
    let is_short = bits.flag()?;
    let samples = match (object_type, is_short) {
        (AAC_LD | AAC_ELD, false) => 512,
        (AAC_LD | AAC_ELD, true) => 480,
        (_, false) => 1024,
        (_, true) => 960,
    };
    Some(samples * doubling)
}

/// Skips a sample rate. Returns its index, or the rate itself if it has none.
fn skip_aac_rate(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.u(4)? {
        15 => bits.u(24),
        index => Some(index),
    }
}

/// Converts the identification header of Opus (RFC 7845, section 5.1), whose numbers are little
/// endian, to the content of `dOps` (Opus in ISO base media files, section 4.3.2).
fn opus_box(header: &[u8]) -> Option<Vec<u8>> {
    let (head, mapping) = header.strip_prefix(b"OpusHead")?.split_first_chunk::<11>()?;
    let [_, channels, skip_0, skip_1, rate_0, rate_1, rate_2, rate_3, gain_0, gain_1, family] =
        *head;
    // The version of the box is 0, that of the header 1.
    let mut content = vec![0, channels, skip_1, skip_0, rate_3, rate_2, rate_1, rate_0];
    content.extend([gain_1, gain_0, family]);
    if family != 0 {
        content.extend(mapping.get(..2 + usize::from(channels))?);
    }
    Some(content)
}

/// Reads STREAMINFO, before which the marker and the block header may be missing, and returns the
/// content of `dfLa` (FLAC in ISO base media files, section 3.3.2).
fn flac(header: &[u8]) -> Option<Description> {
    const BLOCK_HEAD: [u8; 3] = [0, 0, STREAMINFO_BYTES as u8];
    let header = header.strip_prefix(b"fLaC").unwrap_or(header);
    let info = match header {
        [kind, a, b, c, info @ ..] if kind & 0x7f == 0 && [*a, *b, *c] == BLOCK_HEAD => info,
        _ => header,
    };
    let info = info.get(..STREAMINFO_BYTES)?;
    let bits = &mut Bits::new(info);
    bits.skip(16 + 16 + 24 + 24 + 20 + 3)?;
    let sample_bits = bits.u(5)? as u16 + 1;
    // Version and flags, and the header of the last block.
    let content = [&[0, 0, 0, 0, 0x80][..], &BLOCK_HEAD, info].concat();
    Some(Description::Flac { content, bits: sample_bits })
}

/// Reads the header of an AC-3 frame (ATSC A/52, section 5.3).
fn ac3_fields(frame: &[u8]) -> Option<Ac3Fields> {
    let bits = &mut Bits::new(frame);
    bits.skip(16 + 16)?;
    let rate_code = bits.u(2)? as u8;
    // The lowest bit of `frmsizecod` belongs to the padding at 44.1 kHz.
    let bit_rate_code = (bits.u(6)? >> 1) as u8;
    let (stream_id, stream_mode) = (bits.u(5)? as u8, bits.u(3)? as u8);
    let coding_mode = bits.u(3)? as u8;
    let has_level = [coding_mode & 1 != 0 && coding_mode != 1, coding_mode & 4 != 0];
    let levels = has_level.into_iter().chain([coding_mode == 2]).map(u32::from).sum::<u32>();
    bits.skip(2 * levels)?;
    let has_low_frequency = bits.flag()?;
    Some(Ac3Fields {
        rate_code,
        stream_id,
        stream_mode,
        coding_mode,
        has_low_frequency,
        bit_rate_code,
    })
}

/// Reads the header of an E-AC-3 frame (ATSC A/52, annex E.1.2). Returns the data rate (kbit/s),
/// too. Dependent substreams are not described: decoders find them in the frames.
fn eac3_fields(frame: &[u8], sample_rate: u32) -> Option<(Ac3Fields, u16)> {
    let bits = &mut Bits::new(frame);
    bits.skip(16 + 2 + 3)?;
    let frame_bytes = 2 * (bits.u(11)? + 1);
    let rate_code = bits.u(2)? as u8;
    let blocks = match (rate_code, bits.u(2)? as usize) {
        (3, _) => 6,
        (_, code) => [1, 2, 3, 6][code],
    };
    let coding_mode = bits.u(3)? as u8;
    let has_low_frequency = bits.flag()?;
    let stream_id = bits.u(5)? as u8;
    let data_rate = u64::from(frame_bytes) * 8 * u64::from(sample_rate) / (blocks * 256) / 1000;
    let data_rate = u16::try_from(data_rate).unwrap_or(u16::MAX).min(0x1fff);
    let fields = Ac3Fields {
        rate_code,
        stream_id,
        // The mode follows optional fields. 0 is the main audio service, complete.
        stream_mode: 0,
        coding_mode,
        has_low_frequency,
        bit_rate_code: 0,
    };
    Some((fields, data_rate))
}
