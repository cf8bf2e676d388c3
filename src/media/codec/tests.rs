//! Tests of describing tracks by their configuration.

use std::collections::BTreeSet;

use super::*;
use crate::media::{
    AudioClass, VideoClass, classify_audio, classify_video, for_each_audio_track,
    for_each_video_track,
};
use crate::rtmp::message::kind;
use crate::test_support::{Random, hex, recorded_messages};

/// Configurations written by ffmpeg, and the description of their streams by ffprobe.
const VIDEO: &[(VideoCodec, &str, &str)] = &[
    (
        VideoCodec::Avc,
        "014d4028ffe10018674d4028f403c0227ef01100000303e90000ea601f162ea001000468de0fc8",
        "Main 4.0 1920x1080 29.97 8 bit",
    ),
    (
        VideoCodec::Avc,
        "0142c00dffe100186742c00dda0586fa93011000000300100000030320f142aa01000468ce0fc8",
        "Constrained Baseline 1.3 350x202 25 8 bit",
    ),
    (
        VideoCodec::Avc,
        "017a001fffe1001d677a001fb6cd940b4127e7c11a810100a000007d2000177001e30632c001000768ebe
         3cb3002c0fefafa00",
        "High 4:2:2 3.1 720x570 23.976 10 bit",
    ),
    (
        VideoCodec::Avc,
        "01f40016ffe1001b67f40016919b282a10f1f0860220000003002000000f01e2c5b2c001000868ebe3c44
         c000440fff8f800",
        "High 4:4:4 Predictive 2.2 322x241 60 8 bit",
    ),
    (
        VideoCodec::Avc,
        "014d500bffe10016674d500beca106d80880000003008000000a078912cb01000468ebe3f2",
        "Main 1b 128x96 10 8 bit",
    ),
    // Encoded at 1000 frames per second, which is a common time base and not a frame rate.
    (
        VideoCodec::Avc,
        "0164001fffe1001867 64001ff3650836c05b2000000300200000fa01e30632c001000668ebe3cb22c0fcf8
         f800",
        "High 3.1 128x96 8 bit",
    ),
    (
        VideoCodec::Hevc,
        "01016000000090000000000078f000fcfdf8f800000f04200001001840010c01ffff0160000003009000
         00030000030078959409210001002a420101016000000300900000030000030078a003c0801107cb9656
         54a4c2f01680800001f480003a980422000100064401c073c18927",
        "Main 4.0 1920x1080 29.97 8 bit",
    ),
    (
        VideoCodec::Hevc,
        "0124080000009d08000000007bf000fcfefafa00000f04200001001740010c01ffff2408000003009d08
         00000300007b959409210001002c4201012408000003009d0800000300007bb00a880407111ed965654a
         4e1780b404000003000400000300c82022000100064401c073c18927",
        "Main 4:2:2 10 4.1 322x242 50 10 bit",
    ),
    (
        VideoCodec::Hevc,
        "010160000000800000000000baf000fcfdf8f800001303200001001b40010c02ffff0160000003008000
         000300000300ba000004021024210001002c4201020160000003008000000300000300ba0000a00b480c
         96c100864932ac0404000003000400000300602022000100084401c062460a6480",
        "Main 6.2 360x200 24 8 bit",
    ),
    (
        VideoCodec::Vvc,
        "ff00655f010220800000016800d00000028f00010095007900ab0220800000802d20347c86a00737ffac
         21365630408270032831610860c442064883521e8f56a4bc926a4b2445a88bc449a88914911264889351
         964842d4217842f56a4bc97a865062c4031620204204040a8408081a4204040b1020204410102c820204
         840419020442040b2102048810682049041c20c81168412421c43425c8e5433046714000000300400000
         060620900001000b0081000016901a22241f41",
        "Main 10 2.0 360x202 10 bit",
    ),
    // No level, and no sequence header.
    (VideoCodec::Av1, "811f0c00", "Main 8 bit"),
    (VideoCodec::Av1, "81010c000a0c0200000d2627fb3805f00080", "Main 2.1 640x360 8 bit"),
    // A keyframe of an encoder that sends no configuration.
    (VideoCodec::Av1, "12000a0b000000043d8724daf9404032a80b1400", "Main 2.0 354x202"),
    (VideoCodec::Av1, "12000a0e000000fa627fb38842a20404042832c75d10", "Main 640x360"),
    (VideoCodec::Vp9, "010000000015820202020000", "Profile 0 2.1 8 bit"),
    // Keyframes with three colour layouts.
    (VideoCodec::Vp9, "824983420027f01676063824", "Profile 0 640x360 8 bit"),
    (VideoCodec::Vp9, "b124c1a10000a0805ab041c120e0c2c0", "Profile 3 322x182 10 bit"),
    (VideoCodec::Vp9, "a2498342e014100b560838241c184a00", "Profile 1 322x182 8 bit"),
    (VideoCodec::Vp8, "70a9009d012a82026a01008708858588", "Profile 0 642x362"),
    (VideoCodec::Vp8, "010000000000820202020000", "Profile 0 8 bit"),
    (VideoCodec::Legacy(2), "0000840112a620202021ffff", "352x288"),
    (VideoCodec::Legacy(2), "00008400814100b512a62020", "642x362"),
    (VideoCodec::Legacy(2), "00008400412d11a620202021", "130x90"),
    (VideoCodec::Legacy(3), "3282316a00b2789c", "642x362"),
    (VideoCodec::Legacy(6), "328031700000501078daed", "640x368"),
    // Written by hand, with every optional field before the frame rate: sub-layers, scaling lists,
    // and reference sets that are predicted from each other.
    (
        VideoCodec::Hevc,
        "01016000000090000000000078f000fcfdf8f800000f0121000100fe4201040160000003009000000300
         0003007bd000016000000300009000000300005a5da005a20090652c996572b95e491be104d34d34d34d
         114209a69a69a69a2284134d34d34d34d34d34d34d34d34d34d34d34d34d34d34d344508269a69a69a69
         a69a69a69a69a69a69a69a69a69a69a69a688a1069a69a69a69a69a69a69a69a69a69a69a69a69a69a69
         a69a22841a69a69a69a69a69a69a69a69a69a69a69a69a69a69a69a688a1069a69a69a69a69a69a69a69
         a69a69a69a69a69a69a69a69a841a69a69a69a69a69a69a69a69a69a69a69a69a69a69a69a6bbbdca47a
         eafaa79fe8cd82c1bffe002000176a020203c53216000007d20001770010",
        "Main 4.0 704x570 47.952 8 bit",
    ),
    // Written by hand: interlaced, with a cycle of picture order counts.
    (
        VideoCodec::Avc,
        "014d001fffe1001e674d001fd0e28880001117090a05a127299384000003000400000300ca10",
        "Main 3.1 702x564 25 8 bit",
    ),
    // Written by hand, with a clock and a decoder model.
    (
        VideoCodec::Av1,
        "81090c000a220400000fa40003a982a90000000121211014afa320988096fa3209d4f7fc7dc30010",
        "Main 4.1 1920x800 29.97 8 bit",
    ),
    // A header without picture data, with ten columns and eight rows cropped.
    (VideoCodec::Legacy(4), "68 78 30 1022 17281728 00", "634x360"),
    (VideoCodec::Legacy(5), "00 000123 78 30 1234 17281728 00", "640x368"),
];

const AUDIO: &[(AudioCodec, u8, &str, &str)] = &[
    (AudioCodec::Aac, 0xaf, "11b0 56e500", "LC 48000 Hz 6 ch"),
    (AudioCodec::Aac, 0xaf, "1208 56e500", "LC 44100 Hz 1 ch"),
    // A list of channels, with the name of the encoder as its comment.
    (
        AudioCodec::Aac,
        0xaf,
        "118004c848002000c4400d4c61766335392e33372e31303056e500",
        "LC 48000 Hz 7 ch",
    ),
    (AudioCodec::Aac, 0xaf, "1190", "LC 48000 Hz 2 ch"),
    (AudioCodec::Aac, 0xaf, "2b92 0800", "HE-AAC 44100 Hz 2 ch"),
    (AudioCodec::Aac, 0xaf, "eb8a 0800", "HE-AACv2 44100 Hz 2 ch"),
    (AudioCodec::Aac, 0xaf, "1390 56e5a0", "HE-AAC 44100 Hz 2 ch"),
    (AudioCodec::Aac, 0xaf, "1388 56e5a54880", "HE-AACv2 44100 Hz 2 ch"),
    (AudioCodec::Opus, 0x90, "4f7075734865616401023801c05d0000000000", "48000 Hz 2 ch"),
    (
        AudioCodec::Flac,
        0x90,
        "0400040000000000189a17700370000000000000000000000000000000000000",
        "96000 Hz 2 ch",
    ),
    (
        AudioCodec::Flac,
        0x90,
        "664c6143 80000022 0400040000000000189a17700370000000000000000000000000000000000000",
        "96000 Hz 2 ch",
    ),
    (AudioCodec::Ac3, 0x91, "0b77a7021e40ebf8403e", "48000 Hz 6 ch"),
    (AudioCodec::Ac3, 0x91, "0b778ed58c402f8429f0", "32000 Hz 1 ch"),
    (AudioCodec::Eac3, 0x91, "0b7703ce7f87c0002000", "44100 Hz 6 ch"),
    (AudioCodec::Mp3, 0x2e, "fffb50c40000063001", "44100 Hz 1 ch"),
    (AudioCodec::Mp3, 0x2b, "fff380640005e8017b", "22050 Hz 2 ch"),
    // Nellymoser, G.711 and Speex.
    (AudioCodec::Legacy(6), 0x6a, "b28694c643", "22050 Hz 1 ch"),
    (AudioCodec::Legacy(4), 0x42, "3b65d0aacc", "16000 Hz 1 ch"),
    (AudioCodec::Legacy(8), 0x82, "22870080", "8000 Hz 1 ch"),
    (AudioCodec::Legacy(11), 0xb6, "368114ba", "16000 Hz 1 ch"),
];

/// Descriptions of the recorded streams, from the options of the recorded programs
/// (`tests/vectors/README.md`). Tracks are ordered by number, audio first. The properties of a
/// header and of a keyframe are merged.
const RECORDED: [(&str, &[(u8, &str)]); 8] = [
    (
        "ffmpeg5_publish_h264_aac",
        &[(0, "AAC LC 44100 Hz 1 ch"), (0, "H.264 High 1b 160x120 15 8 bit")],
    ),
    ("gst_rtmp2sink_publish", &[(0, "H.264 High 4:4:4 Predictive 1.0 160x120 15 10 bit")]),
    (
        "obs29_publish",
        &[(0, "AAC LC 48000 Hz 2 ch"), (0, "H.264 Constrained Baseline 1.1 320x240 10 8 bit")],
    ),
    (
        "ffmpeg9_publish_hevc_opus",
        &[(0, "Opus 48000 Hz 1 ch"), (0, "H.265 Main 1.0 160x120 15 8 bit")],
    ),
    (
        "ffmpeg9_publish_av1_flac",
        &[
            (0, "FLAC 48000 Hz 1 ch"),
            (0, "AV1 Main 2.0 160x120"),
            (0, "AV1 Main 2.0 160x120 8 bit"),
        ],
    ),
    (
        "ffmpeg9_publish_vp9_ac3",
        &[
            (0, "AC-3 48000 Hz 1 ch"),
            (0, "VP9 Profile 0 1.0 8 bit"),
            (0, "VP9 Profile 0 160x120 8 bit"),
        ],
    ),
    (
        "ffmpeg9_publish_multitrack",
        &[
            (0, "AAC LC 48000 Hz 1 ch"),
            (1, "Opus 48000 Hz 1 ch"),
            (0, "H.264 Constrained Baseline 1.1 160x120 15 8 bit"),
            (1, "H.265 Main 1.0 160x120 15 8 bit"),
        ],
    ),
    ("ffmpeg9_publish_opus_only", &[(0, "Opus 48000 Hz 1 ch")]),
];

#[test]
fn configurations_say_what_the_encoder_was_told() {
    for &(codec, body, expected) in VIDEO {
        let facts = video_facts(codec, &hex(body)).unwrap_or_default();
        assert_eq!(video_text(&facts), expected, "{codec} {body}");
    }
    for &(codec, tag_head, body, expected) in AUDIO {
        let facts = audio_facts(codec, tag_head, &hex(body)).unwrap_or_default();
        assert_eq!(audio_text(&facts), expected, "{codec} {body}");
    }
}

#[test]
fn recorded_sessions_say_what_they_are_known_to_send() {
    for (session, expected) in RECORDED {
        let mut found = BTreeSet::new();
        for (header, payload) in recorded_messages(&format!("{session}.client.bin")) {
            if header.kind == kind::VIDEO && is_told_by_video(&payload) {
                for_each_video_track(&payload, |track| {
                    let facts = video_facts(track.codec, track.body).unwrap_or_default();
                    let text = format!("{} {}", track.codec, video_text(&facts));
                    found.insert((header.kind, track.track, text));
                });
            } else if header.kind == kind::AUDIO && is_told_by_audio(&payload) {
                for_each_audio_track(&payload, |track| {
                    let facts = audio_facts(track.codec, payload[0], track.body);
                    let text = audio_text(&facts.unwrap_or_default());
                    let text = format!("{} {text}", track.codec);
                    found.insert((header.kind, track.track, text));
                });
            }
        }
        let found: Vec<_> = found.iter().map(|(_, track, text)| (*track, &**text)).collect();
        assert_eq!(found, expected, "{session}");
    }
}

fn is_told_by_video(payload: &[u8]) -> bool {
    let tag = classify_video(payload).unwrap();
    let is_bare = matches!(tag.codec, VideoCodec::Vp9 | VideoCodec::Av1);
    tag.class == VideoClass::SequenceHeader || is_bare && tag.class == VideoClass::Keyframe
}

fn is_told_by_audio(payload: &[u8]) -> bool {
    let tag = classify_audio(payload).unwrap();
    let has_header = tag.codec != AudioCodec::Ac3;
    let told = if has_header { AudioClass::SequenceHeader } else { AudioClass::Frame };
    tag.class == told
}

#[test]
fn what_is_cut_off_is_unknown_and_never_something_else() {
    for &(codec, body, _) in VIDEO {
        let body = hex(body);
        let whole = video_facts(codec, &body).unwrap();
        for end in 0..body.len() {
            let part = video_facts(codec, &body[..end]).unwrap_or_default();
            let same = VideoFacts {
                profile: part.profile.and(whole.profile),
                level: part.level.and(whole.level),
                width: part.width.and(whole.width),
                height: part.height.and(whole.height),
                frame_rate: part.frame_rate.and(whole.frame_rate),
                bit_depth: part.bit_depth.and(whole.bit_depth),
            };
            assert_eq!(part, same, "{end} bytes of {body:02x?}");
        }
    }
    for &(codec, tag_head, body, _) in AUDIO {
        let body = hex(body);
        let whole = audio_facts(codec, tag_head, &body).unwrap();
        for end in 0..body.len() {
            let part = audio_facts(codec, tag_head, &body[..end]);
            // The description by a decoder that ignores the extensions.
            let is_older = match (&body[..2], end) {
                ([0x13, 0x90 | 0x88], 2 | 3) => part.unwrap().profile == Some("LC"),
                ([0x13, 0x88], 5 | 6) => part.unwrap().profile == Some("HE-AAC"),
                _ => false,
            };
            assert!(is_older || part.is_none_or(|part| part == whole), "{end}: {part:?}");
        }
    }
}

#[test]
fn no_configuration_panics() {
    let mut random = Random::new(4);
    for &(codec, body, _) in VIDEO {
        for _ in 0..2000 {
            let facts = video_facts(codec, &mutated(body, &mut random)).unwrap_or_default();
            assert_eq!(facts.width.is_some(), facts.height.is_some());
            assert!(facts.width != Some(0) && facts.height != Some(0));
        }
    }
    for &(codec, tag_head, body, _) in AUDIO {
        for _ in 0..2000 {
            let body = mutated(body, &mut random);
            let facts = audio_facts(codec, tag_head, &body).unwrap_or_default();
            assert!(facts.sample_rate_hz != Some(0) && facts.channels != Some(0));
        }
    }
}

fn mutated(text: &str, random: &mut Random) -> Vec<u8> {
    let mut body = hex(text);
    for _ in 0..=random.below(4) {
        let at = random.below(body.len());
        match random.below(4) {
            0 => body[at] = 0,
            1 => body[at] = 0xff,
            _ => body[at] ^= 1 << random.below(8),
        }
    }
    body.truncate(body.len() - random.below(3).min(body.len()));
    body
}

#[test]
fn emulation_prevention_is_taken_out_once() {
    for (unit, bytes) in [
        ("0000030000", "00000000"),
        ("000003 000003 01", "0000000001"),
        ("00000300000301", "0000000001"),
        ("00000003", "000000"),
        ("000102030003", "000102030003"),
    ] {
        assert_eq!(bits::without_emulation_prevention(&hex(unit)), hex(bytes), "{unit}");
    }
}

#[test]
fn exp_golomb_numbers_are_read_to_the_largest() {
    let numbers: Vec<_> = std::iter::from_fn({
        let mut bits = bits::Bits::new(&[0xa6, 0x42, 0x98, 0xe2, 0x04, 0x80]);
        move || bits.ue()
    })
    .collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let largest = hex("00000001 fffffffe");
    assert_eq!(bits::Bits::new(&largest).ue(), Some(u32::MAX - 1));
    assert_eq!(bits::Bits::new(&hex("00000000 8000000000")).ue(), None);
}

#[test]
fn rates_are_shown_as_they_are_written() {
    for (frames, ticks, time_scale, text) in [
        (1, 1, 25, "25"),
        (1, 1001, 30_000, "29.97"),
        (1, 1001, 24_000, "23.976"),
        (1, 2, 25, "12.5"),
        (1, 100, 1, "0.01"),
        (1, 1, 1000, "none"),
        (1, 1, 0, "none"),
        (1, 0, 25, "none"),
        (u64::MAX, 1, 25, "none"),
    ] {
        let rate = FrameRate::new(frames, ticks, time_scale);
        assert_eq!(rate.map_or_else(|| "none".to_owned(), |rate| rate.to_string()), text);
    }
}

fn video_text(facts: &VideoFacts) -> String {
    let mut parts: Vec<String> = facts.profile.into_iter().map(str::to_owned).collect();
    parts.extend(facts.level.map(|level| level.to_string()));
    parts.extend(facts.width.zip(facts.height).map(|(width, height)| format!("{width}x{height}")));
    parts.extend(facts.frame_rate.map(|rate| rate.to_string()));
    parts.extend(facts.bit_depth.map(|depth| format!("{depth} bit")));
    parts.join(" ")
}

fn audio_text(facts: &AudioFacts) -> String {
    let mut parts: Vec<String> = facts.profile.into_iter().map(str::to_owned).collect();
    parts.extend(facts.sample_rate_hz.map(|rate| format!("{rate} Hz")));
    parts.extend(facts.channels.map(|channels| format!("{channels} ch")));
    parts.join(" ")
}
