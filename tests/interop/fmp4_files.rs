//! Fragmented MP4 made from the films of ffmpeg, read back by ffmpeg: every packet has the same
//! bytes and the same time as in the film. The names of the codecs are those that ffmpeg gives
//! them.

use std::fs;
use std::path::Path;
use std::process::Command;

use tiderace::media::flv::FlvReader;
use tiderace::media::fmp4::{
    Fragments, SampleInfo, TrackConfig, Unsupported, init_segment, sample_of,
};
use tiderace::media::{MediaKind, VideoClass, classify_video};

use crate::codecs::{AV1_FLAC, H264_AAC, HEVC_OPUS, SORENSON_MP3, VP9_AC3, VVC_EAC3};
use crate::lab::Lab;
use crate::lab::coding::Coding;
use crate::lab::ffmpeg::{Build, expect_decodable};

#[test]
fn h264_with_aac_as_mp4() {
    convert("mp4_h264_aac", &H264_AAC, &[VIDEO, AUDIO]);
}

#[test]
fn hevc_with_opus_as_mp4() {
    // ffmpeg names HEVC only while it encodes. This is its name for this encoder and picture.
    convert("mp4_hevc_opus", &HEVC_OPUS, &[("video", Some("hvc1.1.6.L30.90")), AUDIO]);
}

#[test]
fn av1_with_flac_as_mp4() {
    convert("mp4_av1_flac", &AV1_FLAC, &[VIDEO, AUDIO]);
}

#[test]
fn vp9_with_ac3_as_mp4() {
    convert("mp4_vp9_ac3", &VP9_AC3, &[VIDEO, AUDIO]);
}

#[test]
fn eac3_of_a_film_with_pictures_that_mp4_cannot_have() {
    convert("mp4_eac3", &VVC_EAC3, &[AUDIO]);
}

#[test]
fn mp3_of_a_film_with_pictures_that_mp4_cannot_have() {
    // ffmpeg names MP3 as an object type of MPEG-4 audio. Browsers know the name of RFC 6381.
    convert("mp4_mp3", &SORENSON_MP3, &[("audio", Some("mp4a.6B"))]);
}

/// A track of a film, and the expected name of its codec. Without one, it is the name in a manifest
/// that ffmpeg writes for the film.
type Expected = (&'static str, Option<&'static str>);

const VIDEO: Expected = ("video", None);
const AUDIO: Expected = ("audio", None);

/// Makes a film, and MP4 files from it: one with a fragment for each frame, and one for each track
/// with fragments of several frames, as HLS has them. Expects ffmpeg to find the packets of the
/// film in all of them.
fn convert(name: &str, coding: &Coding, expected: &[Expected]) {
    let Some(lab) = Lab::open(name, &[Build::System.need(), Build::Current.need()]) else { return };
    let film = coding.make(&lab);
    let bytes = fs::read(&film).expect("the film");
    let frames = FilmFrames::read(&bytes);
    let tracks: Vec<_> = frames.tracks.iter().collect();
    assert_eq!(tracks.len(), expected.len());

    let single = lab.path("single.mp4");
    fs::write(&single, frames.each_in_its_own(&tracks)).expect("a file");
    for (kind, _) in expected {
        expect_same(kind, &packets(&single, kind), &packets(&film, kind));
    }
    expect_decodable_by(coding.build, &single);
    for (index, ((kind, codec), track)) in expected.iter().zip(&tracks).enumerate() {
        let several = lab.path(&format!("{kind}.mp4"));
        fs::write(&several, frames.several_in_one(index, track)).expect("a file");
        expect_same(kind, &packets(&several, kind), &packets(&film, kind));
        expect_decodable_by(coding.build, &several);
        let codec = codec.map_or_else(|| codec_in_manifest(&lab, &film, kind), str::to_owned);
        assert!(track.codec_string().eq_ignore_ascii_case(&codec), "{track:?} is not {codec}");
    }
}

/// The frames of a film, and the configurations of their tracks.
struct FilmFrames<'a> {
    tracks: Vec<TrackConfig>,
    frames: Vec<(SampleInfo, &'a [u8])>,
}

impl<'a> FilmFrames<'a> {
    fn read(film: &'a [u8]) -> Self {
        let mut reader = FlvReader::new(film).expect("an FLV file");
        let tags = std::iter::from_fn(|| reader.next_tag().expect("a good film"));
        let tags: Vec<_> = tags.map(|tag| (tag.media, tag.timestamp, tag.payload)).collect();
        let config = |media, read: fn(&[u8]) -> Result<TrackConfig, Unsupported>| {
            tags.iter().filter(|tag| tag.0 == media).find_map(|tag| read(tag.2).ok())
        };
        let mut video = config(MediaKind::Video, TrackConfig::from_video_header);
        for (_, _, payload) in tags.iter().filter(|tag| tag.0 == MediaKind::Video) {
            let is_keyframe =
                classify_video(payload).is_ok_and(|tag| tag.class == VideoClass::Keyframe);
            if let Some(video) = video.as_mut().filter(|_| is_keyframe) {
                video.learn_size(payload);
            }
        }
        let audio = config(MediaKind::Audio, TrackConfig::from_audio_header);
        let tracks: Vec<_> = video.into_iter().chain(audio).collect();
        let position =
            |media| tracks.iter().position(|track| track.is_video() == (media == MediaKind::Video));
        let frame = |&(media, timestamp, payload): &(MediaKind, u32, &'a [u8])| {
            let sample = sample_of(media, payload, 0)?;
            Some((sample.info(position(media)?, timestamp), sample.bytes))
        };
        let frames = tags.iter().filter_map(frame).collect();
        Self { tracks, frames }
    }

    fn each_in_its_own(&self, tracks: &[&TrackConfig]) -> Vec<u8> {
        let mut file = init_segment(tracks).to_vec();
        let mut fragments = Fragments::new(tracks);
        for (info, bytes) in &self.frames {
            fragments.head(&mut file, info);
            file.extend_from_slice(bytes);
        }
        file
    }

    fn several_in_one(&self, index: usize, track: &TrackConfig) -> Vec<u8> {
        let mut file = init_segment(&[track]).to_vec();
        let mut fragments = Fragments::new(&[track]);
        let own = self.frames.iter().filter(|(info, _)| info.track == index);
        let own: Vec<_> =
            own.map(|(info, bytes)| (SampleInfo { track: 0, ..*info }, *bytes)).collect();
        for several in own.chunks(7) {
            fragments.fragment(&mut file, several).expect("small frames");
        }
        file
    }
}

/// A packet, as ffmpeg reads it.
#[derive(Debug, PartialEq)]
struct Packet {
    dts_ms: f64,
    pts_ms: f64,
    size: usize,
    crc: String,
    is_keyframe: bool,
}

/// Reads the packets of the first track of a kind without decoding them.
fn packets(path: &Path, kind: &str) -> Vec<Packet> {
    let map = format!("0:{}:0", &kind[..1]);
    let output = Command::new(Build::Current.program())
        .args(["-nostdin", "-v", "error", "-copyts", "-i"])
        .arg(path)
        .args(["-map", &map, "-c", "copy", "-f", "framecrc", "-"])
        .output()
        .expect("ffmpeg runs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{}: {complaints}", path.display());
    let text = String::from_utf8_lossy(&output.stdout);
    let tick = text.lines().find_map(|line| line.strip_prefix("#tb 0: 1/")).expect("a time base");
    let tick_ms = 1000.0 / tick.parse::<f64>().expect("ticks in a second");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let packets = lines.map(|line| {
        let fields: Vec<_> = line.split(',').map(str::trim).collect();
        let ms = |field: &str| field.parse::<f64>().expect("a timestamp") * tick_ms;
        Packet {
            dts_ms: ms(fields[1]),
            pts_ms: ms(fields[2]),
            size: fields[4].parse().expect("a size"),
            crc: fields[5].to_owned(),
            // The flags are printed only if they differ from those of a keyframe.
            is_keyframe: !line.contains("F=0x"),
        }
    });
    // For a channel layout that ffmpeg did not expect, it creates a packet without bytes.
    packets.filter(|packet| packet.size > 0).collect()
}

/// Expects the packets of the film. Video has the times of the film; audio counts samples, which
/// the film rounds to milliseconds.
#[track_caller]
fn expect_same(kind: &str, got: &[Packet], film: &[Packet]) {
    assert_eq!(got.len(), film.len(), "{kind}");
    assert!(got.len() > 20, "{kind}: {} packets", got.len());
    let apart_ms_max = if kind == "video" { 0.001 } else { 2.0 };
    for (got, film) in got.iter().zip(film) {
        let same =
            (got.size, &got.crc, got.is_keyframe) == (film.size, &film.crc, film.is_keyframe);
        let apart_ms = (got.dts_ms - film.dts_ms).abs().max((got.pts_ms - film.pts_ms).abs());
        assert!(same && apart_ms < apart_ms_max, "{kind}: {got:?} is not {film:?}");
    }
}

/// Expects a file to decode without any complaint.
#[track_caller]
fn expect_decodable_by(build: Build, path: &Path) {
    if build == Build::System {
        return expect_decodable(path);
    }
    let output = Command::new(build.program())
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(path)
        .args(["-f", "null", "-"])
        .output()
        .expect("ffmpeg runs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "it does not decode: {complaints}");
}

/// Returns the name of a codec in a manifest that ffmpeg writes.
fn codec_in_manifest(lab: &Lab, film: &Path, kind: &str) -> String {
    let manifest = lab.path(&format!("{kind}.mpd"));
    let map = format!("0:{}:0", &kind[..1]);
    let output = Command::new(Build::Current.program())
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(film)
        .args(["-map", &map, "-c", "copy", "-f", "dash", "-dash_segment_type", "mp4"])
        .arg(&manifest)
        .output()
        .expect("ffmpeg runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&manifest).expect("a manifest");
    let (_, rest) = text.split_once("codecs=\"").expect("codecs in the manifest");
    let (codec, _) = rest.split_once('"').expect("a name");
    codec.to_owned()
}
