//! ffmpeg plays the stream that `tiderace load` publishes, and `tiderace load` describes the stream
//! that ffmpeg publishes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tiderace::load::report::LoadReport;

use crate::lab::clip::{Film, clip};
use crate::lab::frames::Frames;
use crate::lab::server::{self, Server};
use crate::lab::{Lab, Need, ffmpeg};
use crate::support::program::Program;

const END: Duration = Duration::from_secs(20);

#[test]
fn synthetic_stream_decodes_without_errors() {
    let Some(lab) = Lab::open("load_synthetic", &[Need::Program("ffmpeg")]) else { return };
    let server = Server::start(&lab);
    let streams = [
        ("1280x720", "30", "2", "4M"),
        ("350x202", "25", "0.2", "100k"),
        ("1920x1080", "59.94", "1", "12M"),
        ("3840x2160", "24", "1", "20M"),
    ];
    let started = streams.map(|(size, fps, gop_s, bitrate)| {
        let url = server.url(&format!("live/{size}"));
        let name = format!("publisher_{size}");
        let options = ["--size", size, "--fps", fps, "--gop-s", gop_s, "--bitrate", bitrate];
        let publisher = load(&lab, &name, &["publish", &url, "--duration-s", "4"], &options);
        server.wait_for_stream("live", size);
        (publisher, ffmpeg::record(&lab, &format!("player_{size}"), &url))
    });
    for ((size, fps, _, _), (publisher, recorder)) in streams.into_iter().zip(started) {
        finish(publisher);
        let path = recorder.path.clone();
        let frames = recorder.finish(END);
        ffmpeg::expect_decodable(&path);
        let count = frames.video.len();
        let sides = size.replace('x', ",");
        let printed = probe(&path, "v", "codec_name,profile,width,height,nb_read_frames");
        assert_eq!(printed, format!("h264,Constrained Baseline,{sides},{count}"));
        let printed = probe(&path, "a", "codec_name,profile,sample_rate,channels,nb_read_frames");
        assert_eq!(printed, format!("aac,LC,48000,2,{}", frames.audio.len()));
        let steps: Vec<_> = frames.video.windows(2).map(|pair| pair[1].dts - pair[0].dts).collect();
        let interval_ms = 1000.0 / fps.parse::<f64>().unwrap();
        let is_step = |step: &i64| (*step as f64 - interval_ms).abs() <= 1.0;
        assert!(steps.len() > 20 && steps.iter().all(is_step), "{steps:?}");
        let printed = probe(&path, "v", "r_frame_rate");
        let (frames, seconds) = printed.split_once('/').unwrap();
        let rate = frames.parse::<f64>().unwrap() / seconds.parse::<f64>().unwrap();
        assert!((rate - fps.parse::<f64>().unwrap()).abs() < 0.1, "{rate} is not {fps}");
    }
}

#[test]
fn stream_of_ffmpeg_is_described_and_counted() {
    let Some(lab) = Lab::open("load_describes", &[Need::Program("ffmpeg")]) else { return };
    let server = Server::start(&lab);
    let url = server.url("live/described");
    let json = lab.path("play.json");
    let options = ["--json", json.to_str().unwrap()];
    let player = load(&lab, "player", &["play", &url, "--duration-s", "60"], &options);
    let clip = clip(Film::Main, 4);
    ffmpeg::publish(&lab, "publisher", &clip, &url).finish(END);
    finish(player);
    let report = LoadReport::from_json(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(report.findings["video"], "H.264 High 1.3 320x180");
    assert_eq!(report.findings["audio"], "AAC LC 44.1 kHz mono");
    for (name, value) in [
        ("video_frames", clip.frames.video.len()),
        ("video_keyframes", clip.frames.video.len().div_ceil(clip.gop)),
        ("audio_frames", clip.frames.audio.len()),
        ("gop_frames", clip.gop),
        ("video_timestamps_back", 0),
        ("audio_timestamps_back", 0),
        ("unreadable_messages", 0),
    ] {
        let figure = report.figure(name).and_then(|figure| figure.value);
        assert_eq!(figure, Some(value as f64), "{name}");
    }
    let fps = report.figure("video_nominal_frames_per_s").unwrap().value.unwrap();
    assert!((29.5..30.5).contains(&fps), "{fps}");
}

#[test]
fn film_of_ffmpeg_is_published_unchanged() {
    let Some(lab) = Lab::open("load_film", &[Need::Program("ffmpeg")]) else { return };
    let server = Server::start(&lab);
    let url = server.url("live/film");
    let clip = clip(Film::Main, 4);
    let file = ["--file", clip.path.to_str().unwrap()];
    let publisher = load(&lab, "publisher", &["publish", &url, "--duration-s", "3"], &file);
    server.wait_for_stream("live", "film");
    let recorder = ffmpeg::record(&lab, "player", &url);
    finish(publisher);
    let path = recorder.path.clone();
    let recorded: Frames = recorder.finish(END);
    recorded.expect_configs_of(&clip.frames);
    let span = recorded.expect_contiguous_in(&clip.frames);
    assert!(span.video.len() > clip.gop && span.audio.len() > 20, "{span:?}");
    ffmpeg::expect_decodable(&path);
}

fn load(lab: &Lab, name: &str, args: &[&str], options: &[&str]) -> Program {
    let mut command = Command::new(server::program());
    // A late generator does not change the streams and counts.
    command.arg("load").args(args).args(options).args(["--quiet", "--lateness-max-ms", "600000"]);
    Program::start(lab, name, &mut command)
}

/// Waits for success. Three streams at once take less than a core.
#[track_caller]
fn finish(load: Program) {
    load.finish(END);
}

/// Returns the entries that ffprobe prints for the first track of a kind, after decoding it.
fn probe(path: &Path, kind: &str, entries: &str) -> String {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-count_frames", "-select_streams", kind, "-of", "csv=p=0"])
        .args(["-show_entries", &format!("stream={entries}")])
        .arg(path)
        .output()
        .expect("ffprobe comes with ffmpeg");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}
