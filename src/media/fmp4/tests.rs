//! Fragmented MP4 of what real encoders sent, read back by a strict walk over its boxes.

use mp4_atom::{Decode, Moof, Moov};

use super::*;
use crate::media::flv::FlvReader;
use crate::media::{AudioCodec, MediaKind, VideoClass, classify_video, for_each_video_track};
use crate::rtmp::message::kind;
use crate::test_support::{Random, hex, recorded_messages};

/// Two seconds of H.264 and AAC, written by ffmpeg 5.1.
const H264_AAC: &[u8] = include_bytes!("../../../tests/vectors/ffmpeg5_h264_aac.flv");
/// Sorenson H.263 and MP3, written by ffmpeg 5.1.
const SORENSON_MP3: &[u8] = include_bytes!("../../../tests/vectors/legacy/sorenson_mp3.flv");

/// A message of an encoder: its kind, its timestamp and its payload.
type Sent = (MediaKind, u32, Vec<u8>);

fn tags_of(file: &[u8]) -> Vec<Sent> {
    let mut reader = FlvReader::new(file).unwrap();
    std::iter::from_fn(|| reader.next_tag().unwrap())
        .map(|tag| (tag.media, tag.timestamp, tag.payload.to_vec()))
        .collect()
}

fn recorded(session: &str) -> Vec<Sent> {
    let messages = recorded_messages(&format!("{session}.client.bin"));
    let media = messages.into_iter().filter_map(|(header, payload)| match header.kind {
        kind::AUDIO => Some((MediaKind::Audio, header.timestamp, payload)),
        kind::VIDEO => Some((MediaKind::Video, header.timestamp, payload)),
        _ => None,
    });
    media.collect()
}

/// Returns the configurations of the default tracks, video first.
fn configs_of(sent: &[Sent]) -> Vec<TrackConfig> {
    let of = |media, read: fn(&[u8]) -> Result<TrackConfig, Unsupported>| {
        sent.iter().filter(move |sent| sent.0 == media).find_map(move |sent| read(&sent.2).ok())
    };
    let mut video = of(MediaKind::Video, TrackConfig::from_video_header);
    if let Some(video) = &mut video {
        sent.iter().filter(|sent| sent.0 == MediaKind::Video).for_each(|sent| {
            if classify_video(&sent.2).is_ok_and(|tag| tag.class == VideoClass::Keyframe) {
                video.learn_size(&sent.2);
            }
        });
    }
    video.into_iter().chain(of(MediaKind::Audio, TrackConfig::from_audio_header)).collect()
}

/// A frame as it was sent, or as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    track: usize,
    decode: u64,
    duration: u32,
    composition: i32,
    is_keyframe: bool,
    bytes: Vec<u8>,
}

/// Returns the frames of the default tracks with their timestamps.
fn samples<'a>(sent: &'a [Sent], configs: &[TrackConfig]) -> Vec<(SampleInfo, MediaSample<'a>)> {
    let position =
        |media| configs.iter().position(|config| config.is_video() == (media == MediaKind::Video));
    let frame = |sent: &'a Sent| {
        let track = position(sent.0)?;
        let sample = sample_of(sent.0, &sent.2, 0)?;
        assert_eq!(&sent.2[sample.offset..][..sample.bytes.len()], sample.bytes);
        Some((sample.info(track, sent.1), sample))
    };
    sent.iter().filter_map(frame).collect()
}

/// Writes a file with a fragment for each frame.
fn mux(configs: &[TrackConfig], samples: &[(SampleInfo, MediaSample<'_>)]) -> Vec<u8> {
    let configs: Vec<_> = configs.iter().collect();
    let mut file = init_segment(&configs).to_vec();
    let mut fragments = Fragments::new(&configs);
    for (info, sample) in samples {
        fragments.head(&mut file, info);
        file.extend_from_slice(sample.bytes);
    }
    file
}

/// Splits bytes into boxes, which must fill them exactly.
fn boxes(mut bytes: &[u8]) -> Vec<([u8; 4], &[u8])> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (head, _) = bytes.split_first_chunk::<8>().expect("the head of a box");
        let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        assert!(size >= 8 && size <= bytes.len(), "{size} of {} bytes", bytes.len());
        found.push(([head[4], head[5], head[6], head[7]], &bytes[8..size]));
        bytes = &bytes[size..];
    }
    found
}

/// Returns the content of the boxes on a path.
fn find<'a>(bytes: &'a [u8], path: &[&[u8; 4]]) -> Vec<&'a [u8]> {
    let Some((kind, rest)) = path.split_first() else { return vec![bytes] };
    let matching = boxes(bytes).into_iter().filter(|found| found.0 == **kind);
    matching.flat_map(|found| find(found.1, rest)).collect()
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    assert_eq!(bytes.len() % 4, 0);
    bytes.chunks(4).map(|four| u32::from_be_bytes(four.try_into().unwrap())).collect()
}

/// Reads the frames of all fragments after the init segment. Every byte must have its place.
fn walk(file: &[u8]) -> Vec<Frame> {
    let top = boxes(file);
    let kinds: Vec<_> = top.iter().map(|found| found.0).collect();
    assert_eq!(kinds[..2], [*b"ftyp", *b"moov"]);
    let mut frames = Vec::new();
    for (index, pair) in top[2..].chunks(2).enumerate() {
        let [(moof_kind, moof), (mdat_kind, mdat)] = pair else { panic!("half a fragment") };
        assert_eq!((moof_kind, mdat_kind), (b"moof", b"mdat"));
        assert_eq!(numbers(find(moof, &[b"mfhd"])[0]), [0, index as u32 + 1]);
        let (moof_bytes, mut at) = (moof.len() + 8, 0);
        for traf in find(moof, &[b"traf"]) {
            let first = frames.len();
            walk_traf(traf, moof_bytes, mdat, &mut at, &mut frames);
            assert!(frames.len() > first, "a run without frames");
        }
        assert_eq!(at, mdat.len(), "data without a frame");
    }
    frames
}

fn walk_traf(traf: &[u8], moof_bytes: usize, mdat: &[u8], at: &mut usize, out: &mut Vec<Frame>) {
    let kinds: Vec<_> = boxes(traf).iter().map(|found| found.0).collect();
    assert_eq!(kinds, [*b"tfhd", *b"tfdt", *b"trun"]);
    let [flags, id] = numbers(find(traf, &[b"tfhd"])[0])[..] else { panic!() };
    assert_eq!(flags, 0x02_0000);
    let [version, high, low] = numbers(find(traf, &[b"tfdt"])[0])[..] else { panic!() };
    assert_eq!(version, 0x0100_0000);
    let mut decode = u64::from(high) << 32 | u64::from(low);
    let trun = numbers(find(traf, &[b"trun"])[0]);
    assert_eq!(trun[0], 0x0100_0f01);
    assert_eq!(trun[2] as usize, moof_bytes + 8 + *at, "the offset of the data");
    assert_eq!(trun.len(), 3 + 4 * trun[1] as usize);
    for entry in trun[3..].chunks(4) {
        let [duration, bytes, flags, composition] = entry else { panic!() };
        let end = *at + *bytes as usize;
        out.push(Frame {
            track: id as usize - 1,
            decode,
            duration: *duration,
            composition: composition.cast_signed(),
            is_keyframe: match flags {
                0x0200_0000 => true,
                0x0101_0000 => false,
                flags => panic!("{flags:x}"),
            },
            bytes: mdat[*at..end].to_vec(),
        });
        decode += u64::from(*duration);
        *at = end;
    }
}

/// Expects the frames of a file to be those that were sent, at their times.
fn expect_frames(
    frames: &[Frame],
    samples: &[(SampleInfo, MediaSample<'_>)],
    configs: &[TrackConfig],
) {
    assert_eq!(frames.len(), samples.len());
    for (frame, (info, sample)) in frames.iter().zip(samples) {
        assert_eq!((frame.track, &frame.bytes[..]), (info.track, sample.bytes));
        assert_eq!(frame.is_keyframe, sample.is_keyframe);
        let config = &configs[info.track];
        if config.is_video() {
            assert_eq!(frame.decode, u64::from(info.timestamp) * 90);
            assert_eq!(frame.composition, sample.composition_ms * 90);
        } else {
            let by_time = u64::from(info.timestamp) * u64::from(config.timescale()) / 1000;
            let milliseconds = frame.decode.abs_diff(by_time) * 1000;
            assert!(milliseconds <= 2 * u64::from(config.timescale()), "{frame:?} at {info:?}");
            assert_eq!(frame.composition, 0);
        }
    }
}

/// Every audio frame starts where the one before it ends, if none was lost on the way.
fn expect_gapless(frames: &[Frame], track: usize) {
    let frames: Vec<_> = frames.iter().filter(|frame| frame.track == track).collect();
    assert!(frames.len() > 10);
    for pair in frames.windows(2) {
        assert_eq!(pair[0].decode + u64::from(pair[0].duration), pair[1].decode);
    }
}

fn all_sessions() -> Vec<(&'static str, Vec<Sent>)> {
    let mut sessions = vec![("h264_aac", tags_of(H264_AAC)), ("mp3", tags_of(SORENSON_MP3))];
    let names = [
        "ffmpeg5_publish_h264_aac",
        "gst_rtmp2sink_publish",
        "obs29_publish",
        "ffmpeg9_publish_hevc_opus",
        "ffmpeg9_publish_av1_flac",
        "ffmpeg9_publish_vp9_ac3",
        "ffmpeg9_publish_multitrack",
        "ffmpeg9_publish_opus_only",
    ];
    sessions.extend(names.map(|name| (name, recorded(name))));
    sessions
}

#[test]
fn every_frame_of_an_encoder_is_in_a_fragment_of_its_own_at_its_time() {
    for (name, sent) in all_sessions() {
        let configs = configs_of(&sent);
        let samples = samples(&sent, &configs);
        let frames = walk(&mux(&configs, &samples));
        assert!(frames.len() > 10, "{name}: {} frames", frames.len());
        expect_frames(&frames, &samples, &configs);
    }
}

#[test]
fn audio_counts_its_samples_without_gaps() {
    for (name, sent) in all_sessions() {
        let configs = configs_of(&sent);
        let frames = walk(&mux(&configs, &samples(&sent, &configs)));
        // OBS was recorded on a busy machine and lost frames.
        if let Some(track) = configs.iter().position(|config| !config.is_video())
            && name != "obs29_publish"
        {
            expect_gapless(&frames, track);
        }
    }
}

#[test]
fn several_frames_of_one_or_more_tracks_share_a_fragment() {
    for (name, sent) in all_sessions() {
        let configs = configs_of(&sent);
        let mut samples = samples(&sent, &configs);
        samples.truncate(40);
        samples.sort_by_key(|(info, _)| info.track);
        let refs: Vec<_> = configs.iter().collect();
        let mut file = init_segment(&refs).to_vec();
        let with_bytes: Vec<_> = samples.iter().map(|(info, s)| (*info, s.bytes)).collect();
        Fragments::new(&refs).fragment(&mut file, &with_bytes).unwrap();
        let tracks = find(&file, &[b"moof", b"traf"]).len();
        assert_eq!(tracks, configs.len(), "{name}");
        expect_frames(&walk(&file), &samples, &configs);
    }
}

#[test]
fn heads_have_112_bytes_and_need_no_memory_of_their_own() {
    let sent = tags_of(H264_AAC);
    let configs = configs_of(&sent);
    let samples = samples(&sent, &configs);
    let mut fragments = Fragments::new(&configs.iter().collect::<Vec<_>>());
    let mut head = Vec::with_capacity(112);
    for (info, _) in &samples {
        head.clear();
        let counted = allocation_counter::measure(|| fragments.head(&mut head, info));
        assert_eq!((head.len(), counted.count_total), (112, 0));
    }
}

#[test]
fn boxes_written_by_hand_are_those_of_another_reader() {
    let sent = recorded("ffmpeg9_publish_hevc_opus");
    let configs = configs_of(&sent);
    let file = mux(&configs, &samples(&sent, &configs));
    let frames = walk(&file);
    let mut rest = &file[..];
    let mut heads = Vec::new();
    for (kind, content) in boxes(&file) {
        if kind == *b"moof" {
            heads.push(Moof::decode(&mut &rest[..content.len() + 8]).unwrap());
        }
        rest = &rest[content.len() + 8..];
    }
    assert_eq!(heads.len(), frames.len());
    for (head, frame) in heads.iter().zip(frames) {
        let [traf] = &head.traf[..] else { panic!("{head:?}") };
        assert_eq!(traf.tfhd.track_id as usize, frame.track + 1);
        assert_eq!(traf.tfdt.as_ref().unwrap().base_media_decode_time, frame.decode);
        let entry = traf.trun[0].samples.get(0).unwrap();
        assert_eq!(entry.size, Some(frame.bytes.len() as u32));
        assert_eq!(entry.duration, Some(frame.duration));
        assert_eq!(entry.cts, Some(frame.composition.into()));
    }
}

#[test]
fn init_segments_describe_the_tracks() {
    for (name, sent) in all_sessions() {
        let configs = configs_of(&sent);
        let refs: Vec<_> = configs.iter().collect();
        let init = init_segment(&refs);
        let [(ftyp, _), (moov, content)] = boxes(&init)[..] else { panic!("{name}") };
        assert_eq!((ftyp, moov), (*b"ftyp", *b"moov"));
        assert!(find(content, &[b"trak", b"edts"]).is_empty());
        let moov = Moov::decode(&mut &init[init.len() - content.len() - 8..]).unwrap();
        let trex = &moov.mvex.as_ref().unwrap().trex;
        assert_eq!((moov.trak.len(), trex.len()), (configs.len(), configs.len()));
        for ((index, trak), config) in moov.trak.iter().enumerate().zip(&configs) {
            let id = index as u32 + 1;
            assert_eq!((trak.tkhd.track_id, trex[index].track_id), (id, id));
            assert_eq!(trak.mdia.mdhd.timescale, config.timescale());
            let [entry] = &trak.mdia.minf.stbl.stsd.codecs[..] else { panic!("{name}") };
            if let Some(visual) = entry.visual() {
                assert_eq!(Some((visual.width, visual.height)), config.size(), "{name}");
                assert!(visual.width > 0, "{name}");
            } else {
                let audio = entry.audio().expect(name);
                assert_eq!(Some(audio.channel_count as u8), config.channels(), "{name}");
                assert_eq!(audio.sample_rate.integer() as u32, config.timescale(), "{name}");
            }
        }
    }
}

#[test]
fn configuration_records_are_copied_unchanged() {
    for (session, kind) in [
        ("ffmpeg5_publish_h264_aac", b"avcC"),
        ("ffmpeg9_publish_hevc_opus", b"hvcC"),
        ("ffmpeg9_publish_av1_flac", b"av1C"),
        ("ffmpeg9_publish_vp9_ac3", b"vpcC"),
    ] {
        let sent = recorded(session);
        let header = sent.iter().find(|s| TrackConfig::from_video_header(&s.2).is_ok()).unwrap();
        let mut record = Vec::new();
        for_each_video_track(&header.2, |track| record = track.body.to_vec());
        let init = init_segment(&[&TrackConfig::from_video_header(&header.2).unwrap()]);
        let path = [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd"];
        // After version, flags and number of entries; and within an entry after 78 bytes.
        let entry = boxes(&find(&init, &path)[0][8..])[0].1;
        assert_eq!(boxes(&entry[78..]), [(*kind, &record[..])], "{session}");
    }
}

#[test]
fn codecs_are_named_with_profile_and_level() {
    for (name, expected) in [
        ("h264_aac", "avc1.64000a,mp4a.40.2"),
        ("ffmpeg5_publish_h264_aac", "avc1.640009,mp4a.40.2"),
        ("gst_rtmp2sink_publish", "avc1.f4000a"),
        ("obs29_publish", "avc1.42c00b,mp4a.40.2"),
        ("ffmpeg9_publish_hevc_opus", "hvc1.1.6.L30.90,opus"),
        ("ffmpeg9_publish_av1_flac", "av01.0.00M.08,flac"),
        ("ffmpeg9_publish_vp9_ac3", "vp09.00.10.08,ac-3"),
        ("mp3", "mp4a.69"),
    ] {
        let (_, sent) = all_sessions().into_iter().find(|session| session.0 == name).unwrap();
        let configs = configs_of(&sent);
        assert_eq!(codecs_of(&configs.iter().collect::<Vec<_>>()), expected, "{name}");
    }
}

#[test]
fn codec_names_are_those_of_the_specifications() {
    let hevc = |record: &str| codec_string::hevc(&hex(record));
    // The usual name of the Main profile at level 3.1, then each optional part of the name (ISO/IEC
    // 14496-15, annex E.3).
    let main = hevc("01 01 60000000 b00000000000 5d").unwrap();
    assert_eq!(main, "hvc1.1.6.L93.B0");
    let range = hevc("01 64 82000000 b02300000000 3f").unwrap();
    assert_eq!(range, "hvc1.A4.41.H63.B0.23");
    // AV1 in ISO base media files, section 5, and VP codecs in ISO base media files: the mandatory
    // part of their examples.
    assert_eq!(codec_string::av1(&hex("81 04 4c 00")).unwrap(), "av01.0.04M.10");
    let vp9 = codec_string::vp9(&hex("01000000 02 0a a2 091009 0000")).unwrap();
    assert_eq!(vp9, "vp09.02.10.10");
    // RFC 6381, section 3.3.
    assert_eq!(codec_string::avc(&hex("67 42001e 00")).unwrap(), "avc1.42001e");
}

#[test]
fn audio_is_named_by_its_object_type_and_counted_at_its_output_rate() {
    // Configurations of fdk-aac and ffmpeg, and frames of ffmpeg's encoders.
    for (codec, body, name, timescale, samples) in [
        (AudioCodec::Aac, "1190", "mp4a.40.2", 48_000, 1024),
        (AudioCodec::Aac, "2b92 0800", "mp4a.40.5", 44_100, 2048),
        (AudioCodec::Aac, "eb8a 0800", "mp4a.40.29", 44_100, 2048),
        // SBR after the configuration of a decoder that does not know it.
        (AudioCodec::Aac, "1390 56e5a0", "mp4a.40.2", 44_100, 2048),
        (AudioCodec::Ac3, "0b77a7021e40ebf8403e", "ac-3", 48_000, 0),
        (AudioCodec::Eac3, "0b7703ce7f87c0002000", "ec-3", 44_100, 0),
        (AudioCodec::Mp3, "fffb50c40000063001", "mp4a.6B", 44_100, 0),
        (AudioCodec::Mp3, "fff380640005e8017b", "mp4a.69", 22_050, 0),
    ] {
        let config = TrackConfig::from_audio(codec, &hex(body)).unwrap();
        assert_eq!(config.codec_string(), name);
        assert_eq!((config.sample_rate(), config.frame_samples), (Some(timescale), samples));
    }
}

#[test]
fn messages_without_a_configuration_are_refused_with_a_reason() {
    for (payload, expected) in [
        ("", "the message is not a sequence header"),
        ("17 01 000000 00000002 6588", "the message is not a sequence header"),
        ("17 02 000000", "the message is not a sequence header"),
        ("17 00 000000", "malformed configuration of H.264"),
        ("17 00 000000 0164000a ffe1 0000 01 0000", "malformed configuration of H.264"),
        ("90 68766331 01", "malformed configuration of H.265"),
        ("90 76703039 01000000 00", "malformed configuration of VP9"),
        ("90 61763031 810400", "malformed configuration of AV1"),
        ("90 76766331 ff", "fragmented MP4 does not carry H.266"),
        ("90 61626364 ff", "fragmented MP4 does not carry \"abcd\""),
    ] {
        let error = TrackConfig::from_video_header(&hex(payload)).unwrap_err();
        assert_eq!(error.to_string(), expected, "{payload}");
    }
    for (payload, expected) in [
        ("", "the message is not a sequence header"),
        ("af 01 21", "the message is not a sequence header"),
        ("af 00", "malformed configuration of AAC"),
        ("90 61632d33", "AC-3 needs a frame"),
        ("91 61632d33 0b78", "malformed configuration of AC-3"),
        ("90 4f707573 4f707573 48656164 01", "malformed configuration of Opus"),
        ("90 664c6143 664c6143", "malformed configuration of FLAC"),
        ("2f 0000", "malformed configuration of MP3"),
        ("b2 00", "fragmented MP4 does not carry Speex"),
    ] {
        let error = TrackConfig::from_audio_header(&hex(payload)).unwrap_err();
        assert_eq!(error.to_string(), expected, "{payload}");
    }
}

#[test]
fn damaged_messages_give_whole_boxes_or_errors() {
    let mut random = Random::new(1);
    for (_, sent) in all_sessions() {
        for _ in 0..400 {
            let (media, timestamp, payload) = &sent[random.below(sent.len().min(12))];
            let mut payload = payload.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(payload.len());
                payload[at] ^= 1 << random.below(8);
            }
            payload.truncate(payload.len() - random.below(3));
            let config = match media {
                MediaKind::Video => TrackConfig::from_video_header(&payload),
                _ => TrackConfig::from_audio_header(&payload),
            };
            let Ok(mut config) = config else { continue };
            config.learn_size(&sent[2].2);
            let mut file = init_segment(&[&config]).to_vec();
            let mut fragments = Fragments::new(&[&config]);
            if let Some(sample) = sample_of(*media, &payload, 0) {
                fragments.head(&mut file, &sample.info(0, *timestamp));
                file.extend_from_slice(sample.bytes);
            }
            walk(&file);
        }
    }
}

/// A track of H.264, and one of AAC at 48 kHz.
fn two_tracks() -> Vec<TrackConfig> {
    configs_of(&tags_of(H264_AAC))
}

/// Returns where and how long the frames of a track are, if their messages have these times.
fn placed(track: usize, times: &[u32]) -> Vec<(u64, u32)> {
    let (configs, mut file) = (two_tracks(), b"\0\0\0\x08ftyp\0\0\0\x08moov".to_vec());
    let mut fragments = Fragments::new(&configs.iter().collect::<Vec<_>>());
    for &timestamp in times {
        let sample = SampleInfo { track, timestamp, ..info_of(0, 0) };
        fragments.head(&mut file, &sample);
    }
    walk(&file).iter().map(|frame| (frame.decode, frame.duration)).collect()
}

#[test]
fn video_lasts_as_long_as_the_frame_before_it() {
    let ms = |times: &[u32]| -> Vec<_> {
        placed(0, times).iter().map(|(at, duration)| (at / 90, duration / 90)).collect()
    };
    assert_eq!(ms(&[0, 40, 80]), [(0, 33), (40, 40), (80, 40)]);
    // A longer frame counts at once, a shorter one in steps, and a pause for at most a second.
    assert_eq!(ms(&[0, 40, 140, 180]), [(0, 33), (40, 40), (140, 100), (180, 87)]);
    assert_eq!(ms(&[0, 40, 9000]), [(0, 33), (40, 40), (9000, 1000)]);
    assert_eq!(ms(&[7, 7]), [(7, 33), (7, 28)]);
}

#[test]
fn audio_counts_until_it_has_drifted_by_30_ms() {
    let starts = |times: &[u32]| placed(1, times).iter().map(|at| at.0).collect::<Vec<_>>();
    assert_eq!(starts(&[100, 121, 143, 164]), [4800, 5824, 6848, 7872]);
    // The second frame should start at 21.3 ms; 51 ms is 29.7 ms late and 52 ms is 30.7 ms late.
    assert_eq!(starts(&[0, 51]), [0, 1024]);
    assert_eq!(starts(&[0, 52]), [0, 52 * 48]);
    // Frames that come too fast never start before the one before them.
    let fast = starts(&[0; 9]);
    assert!(fast.is_sorted() && *fast.last().unwrap() <= 30 * 48 + 1024, "{fast:?}");
    assert!(placed(1, &[0, 21, 52, 300]).iter().all(|at| at.1 == 1024));
}

#[test]
fn timestamps_continue_after_they_wrap() {
    let wrap = 1 << 32;
    let near = u32::MAX - 9;
    let at: Vec<_> = placed(0, &[near, 30, 70]).iter().map(|at| at.0 / 90).collect();
    assert_eq!(at, [wrap - 10, wrap + 30, wrap + 70]);
    // The audio of a stream may start a little before its video.
    let configs = two_tracks();
    let mut fragments = Fragments::new(&configs.iter().collect::<Vec<_>>());
    let mut file = b"\0\0\0\x08ftyp\0\0\0\x08moov".to_vec();
    for (track, timestamp) in [(0, 5), (1, u32::MAX - 4)] {
        let info = SampleInfo { track, timestamp, ..info_of(0, 0) };
        fragments.head(&mut file, &info);
    }
    assert_eq!(walk(&file)[1].decode, 0);
}

fn info_of(bytes: u32, composition_ms: i32) -> SampleInfo {
    SampleInfo {
        track: 0,
        timestamp: 0,
        bytes,
        composition_ms,
        is_keyframe: true,
        audio_samples: 0,
        duration_ms: None,
    }
}

#[test]
fn known_durations_and_times_of_display_are_written_as_they_are() {
    let configs = two_tracks();
    let mut fragments = Fragments::new(&[&configs[0]]);
    let mut file = b"\0\0\0\x08ftyp\0\0\0\x08moov".to_vec();
    for composition_ms in [-0x80_0000, -40, 80, 0x7f_ffff] {
        let info = SampleInfo { duration_ms: Some(20), ..info_of(0, composition_ms) };
        fragments.head(&mut file, &info);
    }
    let frames = walk(&file);
    let compositions: Vec<_> = frames.iter().map(|frame| frame.composition / 90).collect();
    assert_eq!(compositions, [-0x80_0000, -40, 80, 0x7f_ffff]);
    assert!(frames.iter().all(|frame| frame.duration == 20 * 90));
}

#[test]
fn fragments_that_are_too_large_or_of_unknown_tracks_are_not_written() {
    let configs = two_tracks();
    let mut fragments = Fragments::new(&[&configs[0]]);
    let mut out = Vec::new();
    let huge = [info_of(1 << 29, 0), info_of(1 << 29, 0)];
    assert_eq!(fragments.head_of_many(&mut out, &huge), Err(FragmentTooLarge));
    assert_eq!(fragments.head_of_many(&mut out, &huge[..1]), Ok(()));
    out.clear();
    fragments.head(&mut out, &SampleInfo { track: 1, ..info_of(1, 0) });
    fragments.head(&mut out, &info_of(u32::MAX, 0));
    fragments.fragment(&mut out, &[]).unwrap();
    fragments.fragment(&mut out, &[(SampleInfo { track: 1, ..info_of(1, 0) }, &[1])]).unwrap();
    assert!(out.is_empty());
}

#[test]
fn segments_of_their_own_begin_with_their_type() {
    let mut out = Vec::new();
    write_styp(&mut out);
    let [(kind, content)] = boxes(&out)[..] else { panic!() };
    assert_eq!((kind, &content[..4], content.len() % 4), (*b"styp", &b"msdh"[..], 0));
}

#[test]
fn each_track_of_a_message_with_several_has_its_sample() {
    let payload = hex("96 21 61766331 02 000006 00002101 0203 68766331 ff 000004 fffff604");
    let samples = [2, 255].map(|track| sample_of(MediaKind::Video, &payload, track).unwrap());
    assert_eq!(samples.map(|sample| sample.composition_ms), [33, -10]);
    assert_eq!(samples.map(|sample| sample.offset), [13, 27]);
    assert_eq!((samples[0].bytes, samples[1].bytes), (&[1, 2, 3][..], &[4][..]));
    assert_eq!(sample_of(MediaKind::Video, &payload, 0), None);
    assert_eq!(sample_of(MediaKind::Video, &hex("17 00 000000 0164"), 0), None);
    assert_eq!(sample_of(MediaKind::Audio, &hex("af 00 1190"), 0), None);
    assert_eq!(sample_of(MediaKind::Audio, &hex("af 01"), 0), None);
    assert_eq!(sample_of(MediaKind::Data, &hex("02"), 0), None);
}

#[test]
fn lengths_of_frames_are_those_of_their_specifications() {
    for (payload, samples) in [
        // RFC 6716, table 2: configurations 16, 19, 31, 3, 12, 13, and code 3 with six frames.
        ("91 4f707573 80", 120),
        ("91 4f707573 98", 960),
        ("91 4f707573 fc", 960),
        ("91 4f707573 1a", 2 * 2880),
        ("91 4f707573 60", 480),
        ("91 4f707573 69", 2 * 960),
        ("91 4f707573 fb 06", 6 * 960),
        ("91 4f707573 fb 07", 0),
        ("91 4f707573 fb", 0),
        // RFC 9639, appendix D.1.2 and D.2.7: blocks of 1 and of 16 samples.
        ("91 664c6143 fff8 69 18 00 00 bf 03 58", 1),
        ("91 664c6143 fff8 69 98 00 0f 99 12 08", 16),
        ("91 2e6d7033 fffb50c4", 1152),
        ("91 2e6d7033 fff38064", 576),
        ("2f fffb50c4", 1152),
        ("91 65632d33 0b7703ce", 1536),
        ("af 01 21", 0),
    ] {
        let payload = hex(payload);
        let sample = sample_of(MediaKind::Audio, &payload, 0).unwrap();
        assert_eq!(sample.audio_samples, samples, "{payload:02x?}");
    }
}
