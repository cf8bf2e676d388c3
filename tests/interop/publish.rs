//! Streams of publishers other than ffmpeg reach a player unchanged (conformance row IN-02).

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::codecs::SORENSON_MP3;
use crate::lab::clip::{Film, MAIN_CODECS, clip};
use crate::lab::ffmpeg::Build;
use crate::lab::frames::Frames;
use crate::lab::matrix::{Client, Role};
use crate::lab::server::Server;
use crate::lab::{Lab, Need, ffmpeg};
use crate::support::program::Program;
use crate::support::wait_until;

#[test]
fn in_02_gstreamer_rtmp2sink_publishes() {
    publish_with_gstreamer("publish_rtmp2sink", "rtmp2sink", Client::Rtmp2);
}

#[test]
fn in_02_gstreamer_rtmpsink_publishes() {
    publish_with_gstreamer("publish_rtmpsink", "rtmpsink", Client::Librtmp);
}

/// OBS renders in software here, so no other test runs at the same time.
#[test]
fn in_02_obs_publishes() {
    let needs = [Need::Program("ffmpeg"), Need::Program("obs"), Need::Program("Xvfb")];
    let Some(lab) = Lab::open_alone("publish_obs", &needs) else { return };
    let server = Server::start(&lab);
    let screen = Screen::start(&lab);
    let _obs = start_obs(&lab, &screen, &server.url("live"), "");
    let url = server.url("live/obs");
    let player = ffmpeg::record_with(&lab, "player", &["-t", "5"], &url);
    let second = ffmpeg::record_with(&lab, "second", &["-t", "5"], &url);
    let (path, other_path) = (player.path.clone(), second.path.clone());
    let got = player.finish(Duration::from_secs(40));
    let other = second.finish(Duration::from_secs(10));
    assert!((120..=180).contains(&got.video.len()), "{} pictures in 5 s", got.video.len());
    assert!(got.audio.len() > 180, "{} packets of sound in 5 s", got.audio.len());
    assert_eq!(got.video, other.video, "two players see different pictures");
    ffmpeg::expect_decodable(&path);
    ffmpeg::expect_decodable(&other_path);
    lab.proves(Client::Obs, Role::Publishes, &MAIN_CODECS);
}

fn publish_with_gstreamer(test: &str, element: &'static str, client: Client) {
    let elements = [element, "flvmux", "aacparse", "h264parse"].map(Need::Element);
    let needs = [&[Need::Program("ffmpeg")], &elements[..]].concat();
    let Some(lab) = Lab::open(test, &needs) else { return };
    let clip = clip(Film::Main, 6);
    let server = Server::start(&lab);
    let url = server.url("live/gst");
    let _publisher = start_gstreamer(&lab, element, PARSERS, &clip.path, &url);
    server.wait_for_stream("live", "gst");
    thread::sleep(Duration::from_millis(1300));
    let got = ffmpeg::record(&lab, "player", &url).finish(Duration::from_secs(25));
    let span = got.expect_contiguous_in(&clip.frames);
    assert_eq!(span.video.start % clip.gop, 0, "no start at a keyframe: {span:?}");
    assert_eq!(span.video.end, clip.frames.video.len(), "the end is missing: {span:?}");
    assert_eq!(span.audio.end, clip.frames.audio.len(), "the end is missing: {span:?}");
    assert!(span.video.len() >= 60, "too little video: {span:?}");
    lab.proves(client, Role::Publishes, &MAIN_CODECS);
}

/// Codecs without a sequence header.
#[test]
fn in_02_gstreamer_publishes_sorenson_with_mp3() {
    let elements = ["rtmp2sink", "flvmux", "mpegaudioparse"].map(Need::Element);
    let needs = [&[Need::Program("ffmpeg")], &elements[..]].concat();
    let Some(lab) = Lab::open("publish_sorenson", &needs) else { return };
    let film = SORENSON_MP3.make(&lab);
    let sent = Frames::of(&film);
    let server = Server::start(&lab);
    let url = server.url("live/gst");
    let parsers = ["identity", "mpegaudioparse"];
    let _publisher = start_gstreamer(&lab, "rtmp2sink", parsers, &film, &url);
    server.wait_for_stream("live", "gst");
    thread::sleep(Duration::from_millis(1300));
    let got = ffmpeg::record(&lab, "player", &url).finish(Duration::from_secs(25));
    let span = got.expect_contiguous_in(&sent);
    let starts = Frames::keyframes_of_track(Build::System, &film, 0);
    assert!(starts.contains(&span.video.start), "no start at a keyframe: {span:?}");
    assert_eq!(span.video.end, sent.video.len(), "the end is missing: {span:?}");
    assert_eq!(span.audio.end, sent.audio.len(), "the end is missing: {span:?}");
    lab.proves(Client::Rtmp2, Role::Publishes, SORENSON_MP3.codecs);
}

/// GStreamer parsers for H.264 and AAC.
pub(crate) const PARSERS: [&str; 2] = ["h264parse", "aacparse"];

/// Demuxes a film and publishes its packets unchanged in real time.
pub(crate) fn start_gstreamer(
    lab: &Lab,
    element: &str,
    [video, audio]: [&str; 2],
    film: &Path,
    url: &str,
) -> Program {
    let pipeline = format!(
        "filesrc location={} ! flvdemux name=film \
         film.video ! queue ! {video} ! mux. \
         film.audio ! queue ! {audio} ! mux. \
         flvmux name=mux streamable=true ! {element} sync=true location={url}",
        film.display()
    );
    let mut command = Command::new("gst-launch-1.0");
    command.arg("-e").args(pipeline.split_whitespace());
    Program::start(lab, element, &mut command)
}

/// An X server without a display.
pub(crate) struct Screen {
    display: String,
    program: Program,
}

impl Screen {
    pub(crate) fn start(lab: &Lab) -> Self {
        let number = 200 + std::process::id() % 20_000;
        let display = format!(":{number}");
        let mut command = Command::new("Xvfb");
        command.args([display.as_str(), "-screen", "0", "640x480x24", "-nolisten", "tcp"]);
        let program = Program::start(lab, "xvfb", &mut command);
        let socket = format!("/tmp/.X11-unix/X{number}");
        let is_up = wait_until(Duration::from_secs(10), || Path::new(&socket).exists());
        assert!(is_up, "Xvfb does not start");
        Self { display, program }
    }
}

impl Drop for Screen {
    /// Ends the X server with a signal: if it were killed, it would leave its socket and lock file.
    fn drop(&mut self) {
        self.program.signal(Signal::TERM);
        wait_until(Duration::from_secs(2), || !self.program.is_running());
    }
}

/// Publishes with the key `obs`. `login` holds further settings of the service.
pub(crate) fn start_obs(lab: &Lab, screen: &Screen, server_url: &str, login: &str) -> Program {
    let home = lab.path("obs-home");
    let settings = home.join("obs-studio");
    let connection = format!(r#""server": "{server_url}", "key": "obs"{login}"#);
    let service = format!(r#"{{"type": "rtmp_custom", "settings": {{{connection}}}}}"#);
    write(&settings.join("global.ini"), OBS_GLOBAL);
    write(&settings.join("basic/profiles/interop/basic.ini"), OBS_PROFILE);
    write(&settings.join("basic/profiles/interop/service.json"), &service);
    write(&settings.join("basic/scenes/interop.json"), OBS_SCENES);
    let mut command = Command::new("obs");
    command.args(["--multi", "--startstreaming", "--minimize-to-tray"]);
    command.args(["--profile", "interop", "--collection", "interop"]);
    command.env("HOME", &home).env("XDG_CONFIG_HOME", &home).env("XDG_RUNTIME_DIR", &home);
    command.env("DISPLAY", &screen.display).env("QT_QPA_PLATFORM", "xcb");
    command.env("LIBGL_ALWAYS_SOFTWARE", "1");
    Program::start(lab, "obs", &mut command)
}

fn write(path: &Path, text: &str) {
    let dir = path.parent().expect("a file lies in a directory");
    fs::create_dir_all(dir).expect("the directory can be made");
    fs::write(path, text).expect("the file can be written");
}

/// Settings that keep OBS from asking questions at its first start.
const OBS_GLOBAL: &str = "\
[General]
FirstRun=true
EnableAutoUpdates=false
LastVersion=486539266
InfoIncrement=99
[Basic]
Profile=interop
ProfileDir=interop
SceneCollection=interop
SceneCollectionFile=interop
ConfigOnNewProfile=false
[BasicWindow]
WarnBeforeStartingStream=false
";

const OBS_PROFILE: &str = "\
[General]
Name=interop
[Video]
BaseCX=320
BaseCY=180
OutputCX=320
OutputCY=180
FPSCommon=30
[Output]
Mode=Simple
Reconnect=false
[SimpleOutput]
VBitrate=300
ABitrate=64
StreamEncoder=x264
UseAdvanced=true
Preset=ultrafast
x264Settings=keyint=30
[Audio]
SampleRate=44100
";

const OBS_SCENES: &str = r#"{
    "name": "interop", "current_scene": "Scene", "current_program_scene": "Scene",
    "scene_order": [{"name": "Scene"}],
    "sources": [{"id": "scene", "name": "Scene", "settings": {"items": []}}]
}"#;
