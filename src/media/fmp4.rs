//! Fragmented MP4 (ISO/IEC 14496-12, section 8.8): the initialization segment of a stream, and the
//! head of the fragment with one sample.
//!
//! Owns what MP4 calls a track: its codec, its time scale and its RFC 6381 codec string, as they
//! follow from the decoder configuration of an FLV tag. A fragment is a head and the payload of the
//! tag behind its codec header, so no payload is copied. The crate `mp4-atom` writes the
//! initialization segment. The head of a fragment is written here: it has a fixed length, and is
//! made for each player and frame.

use super::{AudioCodec, TrackBody, VideoCodec, for_each_audio_track, for_each_video_track};
use mp4_atom::esds::{DecoderConfig, DecoderSpecific, EsDescriptor, SLConfig};
use mp4_atom::{
    Atom, Audio, Av01, Av1c, Avc1, Avcc, Codec, Dinf, Dref, DrefEntry, Encode, Esds, FourCC, Ftyp,
    Hdlr, Hvc1, Hvcc, Mdhd, Mdia, Minf, Moov, Mp4a, Mvex, Mvhd, Smhd, Stbl, Stco, Stsd, Tkhd, Trak,
    Trex, Url, Visual, Vmhd,
};

/// Time scale of video tracks. A millisecond is a whole number of its units.
pub const VIDEO_TIMESCALE: u32 = 90_000;
/// Units of [`VIDEO_TIMESCALE`] in a millisecond.
const VIDEO_UNITS_PER_MS: u32 = VIDEO_TIMESCALE / 1000;
/// Samples of an AAC frame (ISO/IEC 14496-3, section 4.5.1.1).
const AAC_FRAME_SAMPLES: u16 = 1024;
/// Mp4Sample rates by the index in an AudioSpecificConfig (ISO/IEC 14496-3, table 1.18).
const AAC_RATES_HZ: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];
/// Longest head of a tag before the sample: a byte, a FourCC and a composition time.
pub const SAMPLE_OFFSET_MAX: usize = 8;
/// Length of the head of a fragment, up to the first byte of the sample (bytes).
pub const FRAGMENT_HEAD_BYTES: usize = 112;

/// A track of the initialization segment.
#[derive(Clone, Debug)]
pub struct Mp4Track {
    is_video: bool,
    timescale: u32,
    width: u16,
    height: u16,
    /// The codec as RFC 6381 names it.
    pub codec: String,
    entry: Codec,
}

impl Mp4Track {
    /// Returns the video track that a decoder configuration describes. `size` is that of the
    /// picture (pixels). `None` for a codec that is not carried, and for a broken configuration.
    pub fn video(payload: &[u8], size: (u16, u16)) -> Option<Self> {
        let body = first_video(payload)?;
        let (width, height) = size;
        let visual = Visual { data_reference_index: 1, width, height, ..Visual::default() };
        let config = &mut &body.body[..];
        let (entry, codec) = match body.codec {
            VideoCodec::Avc => {
                let avcc = Avcc::decode_body(config).ok()?;
                let (profile, level) = (avcc.avc_profile_indication, avcc.avc_level_indication);
                let codec =
                    format!("avc1.{profile:02X}{:02X}{level:02X}", avcc.profile_compatibility);
                let entry = Avc1 {
                    visual,
                    avcc,
                    btrt: None,
                    colr: None,
                    pasp: None,
                    taic: None,
                    fiel: None,
                    spatial: None,
                };
                (Codec::Avc1(entry), codec)
            }
            VideoCodec::Hevc => {
                let hvcc = Hvcc::decode_body(config).ok()?;
                let codec = hevc_codec(&hvcc);
                let entry = Hvc1 {
                    visual,
                    hvcc,
                    lhvc: None,
                    btrt: None,
                    colr: None,
                    pasp: None,
                    taic: None,
                    fiel: None,
                    ccst: None,
                    spatial: None,
                };
                (Codec::Hvc1(entry), codec)
            }
            VideoCodec::Av1 => {
                let av1c = Av1c::decode_body(config).ok()?;
                let codec = av1_codec(body.body)?;
                let entry = Av01 {
                    visual,
                    av1c,
                    btrt: None,
                    ccst: None,
                    colr: None,
                    pasp: None,
                    taic: None,
                    spatial: None,
                };
                (Codec::Av01(entry), codec)
            }
            _ => return None,
        };
        Some(Self { is_video: true, timescale: VIDEO_TIMESCALE, width, height, codec, entry })
    }

    /// Returns the audio track that a decoder configuration describes. `None` for a codec that is
    /// not carried, and for a broken configuration.
    pub fn audio(payload: &[u8]) -> Option<Self> {
        let body = first_audio(payload)?;
        if body.codec != AudioCodec::Aac {
            return None;
        }
        let [first, second, ..] = *body.body else { return None };
        let (object_type, index) = (first >> 3, (first & 7) << 1 | second >> 7);
        let channels = u16::from(second >> 3 & 0x0f);
        let rate = *AAC_RATES_HZ.get(usize::from(index))?;
        let specific = DecoderSpecific {
            profile: object_type,
            freq_index: index,
            chan_conf: channels as u8,
            raw: body.body.to_vec(),
        };
        let config = DecoderConfig {
            object_type_indication: 0x40,
            stream_type: 5,
            dec_specific: Some(specific),
            ..DecoderConfig::default()
        };
        let es_desc = EsDescriptor {
            es_id: 2,
            dec_config: config,
            sl_config: SLConfig::default(),
            ..EsDescriptor::default()
        };
        let audio = Audio {
            data_reference_index: 1,
            channel_count: if channels == 0 { 2 } else { channels },
            sample_size: 16,
            // The field has 16 bits; a decoder reads the rate in the configuration.
            sample_rate: u16::try_from(rate).unwrap_or(0).into(),
        };
        let entry = Mp4a { audio, esds: Esds { es_desc }, btrt: None, taic: None };
        Some(Self {
            is_video: false,
            timescale: rate,
            width: 0,
            height: 0,
            codec: format!("mp4a.40.{object_type}"),
            entry: Codec::Mp4a(entry),
        })
    }

    /// Returns the units of time in a second.
    pub const fn timescale(&self) -> u32 {
        self.timescale
    }

    fn trak(&self, track_id: u32) -> Trak {
        let handler = FourCC::new(if self.is_video { b"vide" } else { b"soun" });
        let tkhd = Tkhd {
            track_id,
            enabled: true,
            in_movie: true,
            width: self.width.into(),
            height: self.height.into(),
            volume: u8::from(!self.is_video).into(),
            ..Tkhd::default()
        };
        let stbl = Stbl {
            stsd: Stsd { codecs: vec![self.entry.clone()] },
            stco: Some(Stco::default()),
            ..Stbl::default()
        };
        let minf = Minf {
            vmhd: self.is_video.then(Vmhd::default),
            smhd: (!self.is_video).then(Smhd::default),
            // The samples are in this file.
            dinf: Dinf { dref: Dref { entries: vec![DrefEntry::Url(Url::default())] } },
            stbl,
            ..Minf::default()
        };
        let mdhd =
            Mdhd { timescale: self.timescale, language: "und".to_owned(), ..Mdhd::default() };
        let hdlr = Hdlr { handler, name: String::new() };
        Trak { tkhd, mdia: Mdia { mdhd, hdlr, minf }, ..Trak::default() }
    }
}

/// Returns the initialization segment: `ftyp` and one `moov`. The tracks have the ids 1, 2 and so
/// on.
pub fn init_segment(tracks: &[Mp4Track]) -> Option<Vec<u8>> {
    let brand = |name| FourCC::new(name);
    let ftyp = Ftyp {
        major_brand: brand(b"iso5"),
        minor_version: 512,
        compatible_brands: vec![brand(b"iso5"), brand(b"iso6"), brand(b"mp41")],
    };
    let ids = 1..=tracks.len() as u32;
    let trex = ids.clone().map(|track_id| Trex {
        track_id,
        default_sample_description_index: 1,
        ..Trex::default()
    });
    let moov = Moov {
        mvhd: Mvhd {
            timescale: 1000,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: tracks.len() as u32 + 1,
            ..Mvhd::default()
        },
        mvex: Some(Mvex { mehd: None, trex: trex.collect() }),
        trak: tracks.iter().zip(ids).map(|(track, id)| track.trak(id)).collect(),
        ..Moov::default()
    };
    let mut out = Vec::new();
    ftyp.encode(&mut out).ok()?;
    moov.encode(&mut out).ok()?;
    Some(out)
}

/// Where the sample of a tag is, and how it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mp4Sample {
    /// Offset of the sample in the payload of the tag (bytes).
    pub offset: usize,
    /// How much later it is shown than it is decoded (ms).
    pub composition_ms: i32,
    /// Whether decoding can start here.
    pub is_key: bool,
}

/// Returns the sample in the payload of a video tag, of which the first [`SAMPLE_OFFSET_MAX`] bytes
/// suffice. `None` if it has no frame of one track, as a configuration has none.
pub fn video_sample(payload: &[u8]) -> Option<Mp4Sample> {
    const KEY: u8 = 1;
    let composition_ms = |at: usize| {
        let [high, middle, low] = *payload.get(at..)?.first_chunk::<3>()?;
        Some(i32::from_be_bytes([high, middle, low, 0]) >> 8)
    };
    let first = *payload.first()?;
    let is_key = first >> 4 & 7 == KEY;
    if first & 0x80 == 0 {
        // AVC, and by convention HEVC and AV1 with the same header; packet type 1 is a frame.
        let is_frame = matches!(first & 0x0f, 7 | 12 | 13) && payload.get(1) == Some(&1);
        return is_frame.then_some(Mp4Sample {
            offset: 5,
            composition_ms: composition_ms(2)?,
            is_key,
        });
    }
    let has_composition = matches!(payload.get(1..5)?, b"avc1" | b"hvc1");
    match first & 0x0f {
        1 if has_composition => {
            Some(Mp4Sample { offset: 8, composition_ms: composition_ms(5)?, is_key })
        }
        1 | 3 => Some(Mp4Sample { offset: 5, composition_ms: 0, is_key }),
        _ => None,
    }
}

/// Returns the sample in the payload of an audio tag, likewise.
pub fn audio_sample(payload: &[u8]) -> Option<Mp4Sample> {
    let sample = |offset| Some(Mp4Sample { offset, composition_ms: 0, is_key: true });
    let first = *payload.first()?;
    match first >> 4 {
        10 if payload.get(1) == Some(&1) => sample(2),
        9 if first & 0x0f == 1 && payload.len() >= 5 => sample(5),
        _ => None,
    }
}

/// The times of a stream's tracks in an MP4.
///
/// A frame comes with a time in milliseconds. For video that is exact enough. Sound has to be
/// counted in samples: players mend a gap or an overlap of half a millisecond audibly. The frames
/// of a track are all as long, so their times are on a grid, and the time in milliseconds says
/// which place of the grid is meant. A gap of the publisher moves a frame to another place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mp4Clock {
    /// Ids of the tracks; 0 if there is none.
    pub video_id: u8,
    /// See above.
    pub audio_id: u8,
    /// Samples of an audio frame.
    audio_frame: u16,
    audio_rate: u32,
    /// Time of the grid's first place (ms).
    audio_origin_ms: u32,
    /// Duration of a picture, until the next one corrects it.
    video_step: u32,
}

impl Mp4Clock {
    /// Creates a clock for the tracks, of which video comes first. `origin_ms` is the time of an
    /// audio frame, and `frame_ms` the usual distance of two pictures.
    pub fn new(
        video: Option<&Mp4Track>,
        audio: Option<&Mp4Track>,
        origin_ms: u32,
        frame_ms: u32,
    ) -> Self {
        let video_id = u8::from(video.is_some());
        Self {
            video_id,
            audio_id: audio.map_or(0, |_| video_id + 1),
            audio_frame: AAC_FRAME_SAMPLES,
            audio_rate: audio.map_or(0, Mp4Track::timescale),
            audio_origin_ms: origin_ms,
            video_step: frame_ms.max(1) * VIDEO_UNITS_PER_MS,
        }
    }

    /// Returns the head of the fragment with one sample of `size` bytes, decoded at `time_ms`.
    pub fn fragment_head(
        &self,
        is_video: bool,
        sample: &Mp4Sample,
        time_ms: u32,
        size: usize,
    ) -> [u8; FRAGMENT_HEAD_BYTES] {
        let (id, time, duration) = if is_video {
            let time = u64::from(time_ms) * u64::from(VIDEO_UNITS_PER_MS);
            (self.video_id, time, self.video_step)
        } else {
            (self.audio_id, self.audio_time(time_ms), u32::from(self.audio_frame))
        };
        let composition = sample.composition_ms.saturating_mul(VIDEO_UNITS_PER_MS as i32);
        // Sync samples depend on no other, and the others do (section 8.8.3.1).
        let flags: u32 = if sample.is_key { 0x0200_0000 } else { 0x0101_0000 };
        let mut head = Writer { bytes: [0; FRAGMENT_HEAD_BYTES], len: 0 };
        head.field(FRAGMENT_HEAD_BYTES as u32 - 8).name(b"moof");
        head.field(16).name(b"mfhd").field(0).field(time_ms);
        head.field(80).name(b"traf");
        // The offsets of data count from the start of the fragment.
        head.field(16).name(b"tfhd").field(0x02_0000).field(id.into());
        head.field(20).name(b"tfdt").field(0x0100_0000);
        head.field((time >> 32) as u32).field(time as u32);
        // Duration, size, flags and a signed composition offset for the sample (section 8.8.8).
        head.field(36).name(b"trun").field(0x0100_0f01).field(1);
        head.field(FRAGMENT_HEAD_BYTES as u32);
        head.field(duration).field(size as u32).field(flags).field(composition as u32);
        head.field(size as u32 + 8).name(b"mdat");
        debug_assert_eq!(head.len, FRAGMENT_HEAD_BYTES);
        head.bytes
    }

    fn audio_time(&self, time_ms: u32) -> u64 {
        let (rate, frame) = (u64::from(self.audio_rate), i64::from(self.audio_frame));
        let origin = u64::from(self.audio_origin_ms) * rate / 1000;
        let since_ms = i64::from(time_ms) - i64::from(self.audio_origin_ms);
        let samples = since_ms * rate as i64 / 1000;
        let place = (samples + frame / 2).div_euclid(frame) * frame;
        origin.saturating_add_signed(place)
    }
}

/// Writes the fields of a head one behind the other.
struct Writer {
    bytes: [u8; FRAGMENT_HEAD_BYTES],
    len: usize,
}

impl Writer {
    fn name(&mut self, name: &[u8; 4]) -> &mut Self {
        self.bytes[self.len..self.len + 4].copy_from_slice(name);
        self.len += 4;
        self
    }

    fn field(&mut self, value: u32) -> &mut Self {
        self.name(&value.to_be_bytes())
    }
}

fn first_video(payload: &[u8]) -> Option<TrackBody<'_, VideoCodec>> {
    let mut first = None;
    for_each_video_track(payload, |track| {
        first.get_or_insert(track);
    });
    first
}

fn first_audio(payload: &[u8]) -> Option<TrackBody<'_, AudioCodec>> {
    let mut first = None;
    for_each_audio_track(payload, |track| {
        first.get_or_insert(track);
    });
    first
}

/// Returns the codec string of HEVC (ISO/IEC 14496-15, annex E.3).
fn hevc_codec(hvcc: &Hvcc) -> String {
    let space = ["", "A", "B", "C"][usize::from(hvcc.general_profile_space & 3)];
    let compatible = u32::from_be_bytes(hvcc.general_profile_compatibility_flags).reverse_bits();
    let tier = if hvcc.general_tier_flag { 'H' } else { 'L' };
    let (profile, level) = (hvcc.general_profile_idc, hvcc.general_level_idc);
    let mut codec = format!("hvc1.{space}{profile}.{compatible:X}.{tier}{level}");
    let constraints = &hvcc.general_constraint_indicator_flags;
    let used = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    constraints[..used].iter().for_each(|byte| codec.push_str(&format!(".{byte:X}")));
    codec
}

/// Returns the codec string of AV1 (AV1 in ISOBMFF, section 5).
fn av1_codec(config: &[u8]) -> Option<String> {
    let [_, profile_level, flags, ..] = *config else { return None };
    let (profile, level) = (profile_level >> 5, profile_level & 0x1f);
    let tier = if flags & 0x80 == 0 { 'M' } else { 'H' };
    let depth = match (flags & 0x40 != 0, flags & 0x20 != 0) {
        (false, _) => 8,
        (true, false) => 10,
        (true, true) => 12,
    };
    Some(format!("av01.{profile}.{level:02}{tier}.{depth:02}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::flv::{FlvReader, Tag};
    use crate::media::{MediaKind, classify_audio, classify_video};
    use crate::test_support::{Random, hex};

    /// Two seconds of H.264 and AAC, written by ffmpeg 5.1.
    const FILE: &[u8] = include_bytes!("../../tests/vectors/ffmpeg5_h264_aac.flv");

    fn tags() -> Vec<Tag<'static>> {
        let mut reader = FlvReader::new(FILE).unwrap();
        std::iter::from_fn(|| reader.next_tag().unwrap()).collect()
    }

    /// The first tag of each medium, which has its configuration.
    fn headers() -> (&'static [u8], &'static [u8]) {
        let of = |media| tags().into_iter().find(|tag| tag.media == media).unwrap().payload;
        (of(MediaKind::Video), of(MediaKind::Audio))
    }

    fn tracks() -> [Mp4Track; 2] {
        let (video, audio) = headers();
        [Mp4Track::video(video, (640, 360)).unwrap(), Mp4Track::audio(audio).unwrap()]
    }

    /// The boxes in `bytes` by name, each with its content. A box that is longer than what holds it
    /// is a panic.
    fn boxes(mut bytes: &[u8]) -> Vec<(&str, &[u8])> {
        let mut found = Vec::new();
        while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
            let len = u32::from_be_bytes(*len) as usize;
            let name = std::str::from_utf8(&rest[..4]).expect("a name");
            found.push((name, &bytes[8..len]));
            bytes = &bytes[len..];
        }
        assert!(bytes.is_empty(), "bytes behind the last box");
        found
    }

    /// The content of the box at a path of names.
    fn at<'b>(bytes: &'b [u8], path: &[&str]) -> &'b [u8] {
        path.iter().fold(bytes, |bytes, name| {
            let found = boxes(bytes);
            found.iter().find(|(other, _)| other == name).unwrap_or_else(|| panic!("{name}")).1
        })
    }

    #[test]
    fn rfc_6381_names_the_codecs_of_real_configurations() {
        let [video, audio] = tracks();
        // The profile, the constraints and the level are bytes 1 to 3 of the configuration.
        let (header, _) = headers();
        let [profile, constraints, level] = header[6..9] else { unreachable!() };
        assert_eq!(video.codec, format!("avc1.{profile:02X}{constraints:02X}{level:02X}"));
        assert_eq!((audio.codec.as_str(), audio.timescale()), ("mp4a.40.2", 48_000));
    }

    #[test]
    fn hevc_and_av1_are_named_as_their_specifications_show() {
        // ISO/IEC 14496-15, annex E.3: Main, level 3.1, progressive.
        let mut hvcc = hex("01 01 60000000 900000000000 5d f000 fc fd f8 f8 0000 0f 00");
        let payload = [&hex("90 68766331")[..], &hvcc[..]].concat();
        assert_eq!(Mp4Track::video(&payload, (1, 1)).unwrap().codec, "hvc1.1.6.L93.90");
        hvcc.truncate(10);
        assert!(Mp4Track::video(&[&hex("90 68766331")[..], &hvcc[..]].concat(), (1, 1)).is_none());
        // AV1 in ISOBMFF, section 5: Main, level 3.0, 8 bits.
        assert_eq!(av1_codec(&hex("81 04 0c 00")).unwrap(), "av01.0.04M.08");
        assert_eq!(av1_codec(&hex("81 49 d0 00")).unwrap(), "av01.2.09H.10");
    }

    #[test]
    fn the_initialization_segment_has_what_a_browser_needs() {
        let init = init_segment(&tracks()).unwrap();
        let names: Vec<_> = boxes(&init).iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["ftyp", "moov"]);
        let moov = at(&init, &["moov"]);
        let traks = boxes(moov).iter().filter(|(name, _)| *name == "trak").count();
        assert_eq!((traks, boxes(at(moov, &["mvex"])).len()), (2, 2));
        let trak = boxes(moov).iter().find(|(name, _)| *name == "trak").unwrap().1;
        assert!(boxes(trak).iter().all(|(name, _)| *name != "edts"), "no edit list");
        let tkhd = at(trak, &["tkhd"]);
        assert_eq!(tkhd[tkhd.len() - 8..], hex("02800000 01680000")[..], "640 x 360");
        let stsd = at(trak, &["mdia", "minf", "stbl", "stsd"]);
        assert_eq!(&stsd[12..16], b"avc1");
        // The configuration is that of the tag.
        let (header, _) = headers();
        let config = &header[5..];
        assert!(stsd.windows(config.len()).any(|part| part == config));
    }

    #[test]
    fn a_fragment_says_what_its_sample_is_and_where() {
        let [video, audio] = tracks();
        let clock = Mp4Clock::new(Some(&video), Some(&audio), 0, 40);
        let sample = Mp4Sample { offset: 5, composition_ms: -40, is_key: true };
        let mut fragment = clock.fragment_head(true, &sample, 1_000, 3).to_vec();
        fragment.extend(b"abc");
        let [("moof", moof), ("mdat", mdat)] = boxes(&fragment)[..] else { panic!() };
        assert_eq!(mdat, b"abc");
        assert_eq!(at(moof, &["traf", "tfhd"]), hex("00020000 00000001"));
        assert_eq!(at(moof, &["traf", "tfdt"]), hex("01000000 0000000000015f90"));
        // One sample at byte 112: 40 ms long, 3 bytes, a sync sample, shown 40 ms earlier.
        let trun = "01000f01 00000001 00000070 00000e10 00000003 02000000 fffff1f0";
        assert_eq!(at(moof, &["traf", "trun"]), hex(trun));
    }

    #[test]
    fn sound_is_on_a_grid_of_samples_and_follows_a_gap() {
        let [_, audio] = tracks();
        let clock = Mp4Clock::new(None, Some(&audio), 1019, 40);
        let time_of = |frame: u64| 1019 + (frame * 1024 * 1000 / 48_000) as u32;
        let first = clock.audio_time(1019);
        for frame in 0..10_000 {
            assert_eq!(clock.audio_time(time_of(frame)), first + frame * 1024, "frame {frame}");
        }
        // Earlier frames are on the same grid, and a gap of a second is a second.
        assert_eq!(clock.audio_time(1019 - 21), first - 1024);
        let gap = clock.audio_time(time_of(100) + 1000) - clock.audio_time(time_of(100));
        assert!((47_000..49_100).contains(&gap) && gap.is_multiple_of(1024), "{gap}");
    }

    #[test]
    fn each_frame_of_a_real_file_has_a_sample_and_its_headers_have_none() {
        let (mut samples, mut others) = (0, 0);
        for tag in tags() {
            let sample = match tag.media {
                MediaKind::Video => video_sample(tag.payload),
                MediaKind::Audio => audio_sample(tag.payload),
                MediaKind::Data => None,
            };
            match sample {
                Some(sample) => {
                    samples += 1;
                    assert!(sample.offset < tag.payload.len() && sample.composition_ms >= 0);
                }
                None => others += 1,
            }
        }
        // Metadata, two configurations, and the end of the sequence.
        assert_eq!((samples, others), (30 + 95, 4));
    }

    #[test]
    fn enhanced_frames_have_their_samples_behind_the_four_letters() {
        for (payload, expected) in [
            ("91 68766331 000028 aa", Some((8, 40, true))),
            ("a3 61766331 aa", Some((5, 0, false))),
            ("91 61763031 aa", Some((5, 0, true))),
            ("90 68766331 01", None),
            ("96 00", None),
            ("91 6876", None),
        ] {
            let sample = video_sample(&hex(payload));
            let found = sample.map(|s| (s.offset, s.composition_ms, s.is_key));
            assert_eq!(found, expected, "{payload}");
        }
        assert_eq!(audio_sample(&hex("91 6d703461 aa")).map(|s| s.offset), Some(5));
        assert_eq!(audio_sample(&hex("90 6d703461 aa")), None);
    }

    #[test]
    fn damaged_configurations_are_refused_or_read_and_never_panic() {
        let (video, audio) = headers();
        let mut random = Random::new(3);
        for header in [video, audio] {
            for len in 0..header.len() {
                let _ = (Mp4Track::video(&header[..len], (1, 1)), Mp4Track::audio(&header[..len]));
            }
            for _ in 0..2000 {
                let mut damaged = header.to_vec();
                let at = random.below(damaged.len());
                damaged[at] ^= 1 << random.below(8);
                let _ = (classify_video(&damaged).is_ok(), classify_audio(&damaged).is_ok());
                for track in [Mp4Track::video(&damaged, (1, 1)), Mp4Track::audio(&damaged)] {
                    let _ = track.and_then(|track| init_segment(&[track]));
                }
            }
        }
    }
}
