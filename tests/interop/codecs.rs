//! Every codec that ffmpeg can write, published and played unchanged: Enhanced RTMP and multitrack
//! with the current ffmpeg, legacy codecs with either version.

use std::thread;
use std::time::Duration;

use crate::lab::coding::Coding;
use crate::lab::ffmpeg::Build;
use crate::lab::frames::Frames;
use crate::lab::http_matrix::{Over, WebPlayer};
use crate::lab::matrix::{Client, Role};
use crate::lab::server::Server;
use crate::lab::{Lab, Need, players};

#[test]
fn hevc_with_opus() {
    relay(&HEVC_OPUS);
}

#[test]
fn av1_with_flac() {
    relay(&AV1_FLAC);
}

#[test]
fn vp9_with_ac3() {
    relay(&VP9_AC3);
}

#[test]
fn vvc_with_eac3() {
    relay(&VVC_EAC3);
}

#[test]
fn h264_with_aac_of_the_current_ffmpeg() {
    relay(&H264_AAC);
}

#[test]
fn two_tracks_of_each_kind() {
    relay(&TWO_TRACKS);
}

#[test]
fn sorenson_with_mp3() {
    relay(&SORENSON_MP3);
}

#[test]
fn screen_with_nellymoser() {
    relay(&SCREEN_NELLYMOSER);
}

#[test]
fn screen_2_with_speex() {
    relay(&SCREEN2_SPEEX);
}

#[test]
fn g711_a_law_alone() {
    relay(&ALAW);
}

#[test]
fn g711_mu_law_alone() {
    relay(&MULAW);
}

#[test]
fn adpcm_alone() {
    relay(&ADPCM);
}

#[test]
fn pcm_alone() {
    relay(&PCM);
}

/// Publishes a film with every suitable ffmpeg and plays it with every suitable player, which joins
/// late. Expects each player to start with a keyframe of every track and to miss nothing from there
/// to the end.
fn relay(coding: &Coding) {
    let builds = coding.builds();
    let mut needs: Vec<_> = builds.iter().map(|build| build.need()).collect();
    needs.extend([Need::Element("rtmp2src"), Need::Program("rtmpdump")]);
    let Some(lab) = Lab::open(&format!("codecs_{}", coding.name), &needs) else { return };
    let film = coding.make(&lab);
    let (sent, keyframes) = (coding.frames(&film), coding.keyframes(&film));
    let has_pictures = coding.codecs.len() > 1;
    assert!(sent.iter().all(|track| track.video.is_empty() != has_pictures));
    assert!(sent.iter().all(|track| track.audio.len() > 20), "the film has too little audio");
    let server = Server::start(&lab);
    let publish = |build: &Build| {
        let key = format!("of_{build:?}").to_lowercase();
        let url = server.url(&format!("live/{key}"));
        let name = format!("{key}_publisher");
        let publisher = build.publish(&lab, &name, &film, &[], &url);
        server.wait_for_stream("live", &key);
        (*build, publisher, url)
    };
    let publishers: Vec<_> = builds.iter().map(publish).collect();
    thread::sleep(Duration::from_millis(1300));
    let first = &publishers[0].2;
    let mut recorders = vec![
        (Client::Rtmp2, players::rtmp2src(&lab, first)),
        (Client::Rtmpdump, players::rtmpdump(&lab, first)),
    ];
    for (publisher, _, url) in &publishers {
        let record = |build: &Build| {
            let name = format!("{build:?}_plays_{publisher:?}").to_lowercase();
            (build.client(), build.record(&lab, &name, &[], url))
        };
        recorders.extend(builds.iter().map(record));
    }
    let mut publishing = Vec::new();
    for (build, publisher, _) in publishers {
        publisher.finish(Duration::from_secs(20));
        publishing.push(build.client());
    }
    for (client, recorder) in recorders {
        recorder.program.finish(Duration::from_secs(15));
        expect_played(client, &coding.frames(&recorder.path), &sent, &keyframes);
        lab.proves(client, Role::Plays, coding.codecs);
    }
    publishing.into_iter().for_each(|client| lab.proves(client, Role::Publishes, coding.codecs));
}

/// The current ffmpeg plays every codec over HTTP-FLV in the form in which it was published, and
/// MP4 has the same packets of those that it carries.
#[test]
fn the_current_ffmpeg_plays_enhanced_codecs_over_http() {
    let needs = [Build::Current.need(), Need::OwnServer];
    let Some(lab) = Lab::open("codecs_http", &needs) else { return };
    let server = Server::start(&lab);
    let mut shows = Vec::new();
    for coding in [&H264_AAC, &HEVC_OPUS, &AV1_FLAC, &VP9_AC3] {
        let film = coding.make(&lab);
        let key = format!("of_{}", coding.name);
        let url = server.url(&format!("live/{key}"));
        let publisher = Build::Current.publish(&lab, &key, &film, &[], &url);
        server.wait_for_stream("live", &key);
        let urls = [(Over::Flv, "flv?track=all"), (Over::Mp4, "mp4")];
        let recorders = urls.map(|(over, end)| {
            let url = server.http_url(&format!("live/{key}.{end}"));
            let name = format!("{}_{over:?}", coding.name).to_lowercase();
            (over, Build::Current.record(&lab, &name, &[], &url))
        });
        shows.push((coding, film, publisher, recorders));
    }
    for (coding, film, publisher, recorders) in shows {
        publisher.finish(Duration::from_secs(20));
        let (sent, keyframes) = (coding.frames(&film), coding.keyframes(&film));
        for (over, recorder) in recorders {
            recorder.program.finish(Duration::from_secs(15));
            let mut got = coding.frames(&recorder.path);
            let mut sent = sent.clone();
            if over == Over::Mp4 {
                // Sound is counted in samples there, so its times may differ by a millisecond.
                got.iter_mut().chain(&mut sent).for_each(|track| track.audio.clear());
            }
            expect_played(Client::CurrentFfmpeg, &got, &sent, &keyframes);
            lab.proves_over(WebPlayer::CurrentFfmpeg, over, coding.codecs);
        }
    }
}

#[track_caller]
fn expect_played(client: Client, got: &[Frames], sent: &[Frames], keyframes: &[Vec<usize>]) {
    for (track, (got, sent)) in got.iter().zip(sent).enumerate() {
        let span = got.expect_contiguous_in(sent);
        let what = format!("{client:?}, track {track}: {span:?}");
        if !sent.video.is_empty() {
            let starts = &keyframes[track];
            assert!((5..sent.video.len()).contains(&starts.len()), "keyframes: {starts:?}");
            assert!(starts.contains(&span.video.start), "no start at one of {starts:?}: {what}");
        }
        assert_eq!(span.video.end, sent.video.len(), "the end is missing: {what}");
        assert_eq!(span.audio.end, sent.audio.len(), "the end is missing: {what}");
        assert!(4 * span.video.len() >= sent.video.len(), "too little video: {what}");
        assert!(4 * span.audio.len() >= sent.audio.len(), "too little audio: {what}");
    }
}

/// A film that only the current ffmpeg can write.
const fn enhanced(
    name: &'static str,
    options: &'static [&'static str],
    codecs: &'static [&'static str],
) -> Coding {
    Coding { name, build: Build::Current, options, codecs, tracks: 1 }
}

const fn legacy(
    name: &'static str,
    options: &'static [&'static str],
    codecs: &'static [&'static str],
) -> Coding {
    Coding { name, build: Build::System, options, codecs, tracks: 1 }
}

pub(crate) const H264_AAC: Coding = enhanced(
    "h264_aac",
    &["-c:v", "libx264", "-g", "15", "-sc_threshold", "0", "-c:a", "aac"],
    &["H.264", "AAC"],
);

pub(crate) const HEVC_OPUS: Coding = enhanced(
    "hevc_opus",
    &[
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "keyint=15:scenecut=0",
        "-c:a",
        "libopus",
    ],
    &["HEVC", "Opus"],
);

pub(crate) const AV1_FLAC: Coding = enhanced(
    "av1_flac",
    &["-c:v", "libsvtav1", "-preset", "11", "-g", "15", "-c:a", "flac"],
    &["AV1", "FLAC"],
);

pub(crate) const VP9_AC3: Coding = enhanced(
    "vp9_ac3",
    &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "15", "-c:a", "ac3"],
    &["VP9", "AC-3"],
);

pub(crate) const VVC_EAC3: Coding = enhanced(
    "vvc_eac3",
    &["-c:v", "libvvenc", "-preset", "faster", "-g", "15", "-c:a", "eac3"],
    &["VVC", "E-AC-3"],
);

pub(crate) const TWO_TRACKS: Coding = Coding {
    name: "two_tracks",
    build: Build::Current,
    options: &[
        "-map",
        "0",
        "-map",
        "0",
        "-map",
        "1",
        "-map",
        "1",
        "-g",
        "15",
        "-c:v:0",
        "libx264",
        "-sc_threshold",
        "0",
        "-c:v:1",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "keyint=15:scenecut=0",
        "-c:a:0",
        "aac",
        "-c:a:1",
        "libopus",
    ],
    codecs: &["several video tracks", "several audio tracks"],
    tracks: 2,
};

pub(crate) const SORENSON_MP3: Coding = legacy(
    "sorenson_mp3",
    &["-c:v", "flv", "-g", "15", "-c:a", "libmp3lame"],
    &["Sorenson H.263", "MP3"],
);

const SCREEN_NELLYMOSER: Coding = legacy(
    "screen_nellymoser",
    &["-c:v", "flashsv", "-g", "15", "-c:a", "nellymoser", "-ar", "22050", "-ac", "1"],
    &["Screen", "Nellymoser"],
);

const SCREEN2_SPEEX: Coding = legacy(
    "screen2_speex",
    &["-c:v", "flashsv2", "-g", "15", "-c:a", "libspeex", "-ar", "16000", "-ac", "1"],
    &["Screen 2", "Speex"],
);

const ALAW: Coding =
    legacy("alaw", &["-map", "1", "-c:a", "pcm_alaw", "-ar", "8000", "-ac", "1"], &["G.711 A-law"]);

const MULAW: Coding = legacy(
    "mulaw",
    &["-map", "1", "-c:a", "pcm_mulaw", "-ar", "8000", "-ac", "1"],
    &["G.711 µ-law"],
);

const ADPCM: Coding = legacy("adpcm", &["-map", "1", "-c:a", "adpcm_swf"], &["ADPCM"]);

const PCM: Coding = legacy("pcm", &["-map", "1", "-c:a", "pcm_s16le"], &["PCM"]);
