//! Fragmented MP4 of what real encoders sent, read back by a strict walk over its boxes.

use mp4_atom::{Decode, Moof, Moov};

use super::*;
use crate::media::flv::FlvReader;
use crate::media::{MediaKind, VideoClass, classify_video, for_each_video_track};
use crate::rtmp::message::kind;
use crate::test_support::recorded_messages;

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
