//! Players other than ffmpeg.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::Lab;
use super::ffmpeg::Recorder;
use super::frames::Frame;
use crate::support::program::Program;

/// rtmpdump, which writes the received data to an FLV file.
pub(crate) fn rtmpdump(lab: &Lab, url: &str) -> Recorder {
    let path = lab.path("rtmpdump.flv");
    let mut command = Command::new("rtmpdump");
    command.args(["--live", "--rtmp", url, "--flv"]).arg(&path);
    Recorder { program: Program::start(lab, "rtmpdump", &mut command), path }
}

/// GStreamer's own RTMP client.
pub(crate) fn rtmp2src(lab: &Lab, url: &str) -> Recorder {
    gstreamer(lab, "rtmp2src", &format!("location={url}"))
}

/// GStreamer with librtmp.
pub(crate) fn rtmpsrc(lab: &Lab, url: &str) -> Recorder {
    gstreamer(lab, "rtmpsrc", &format!("location={url} live=1"))
}

/// VLC with the options of the README, but writing an MPEG transport stream. It refuses to run as
/// root.
pub(crate) fn vlc(lab: &Lab, url: &str) -> Recorder {
    let mut command = Command::new("vlc");
    command.args(options_of_readme("vlc"));
    command.args(["--intf", "dummy", "--no-dbus", "--sout"]);
    command.args(["#std{access=file,mux=ts,dst=-}", url, "vlc://quit"]);
    command.env("HOME", "/tmp").env_remove("XDG_CONFIG_HOME").current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let program = Program::start(lab, "vlc", &mut command);
    let path = program.output_path();
    Recorder { program, path }
}

/// Returns the options of a player in its README line.
fn options_of_readme(player: &str) -> impl Iterator<Item = &'static str> {
    let line = include_str!("../../../README.md")
        .lines()
        .find(|line| line.split_once(' ').is_some_and(|(program, _)| program == player));
    let words = line.expect("a line for it in the README").split(' ').skip(1);
    words.filter(|word| !word.starts_with("rtmp://"))
}

/// ffplay with the options of the README, without display and sound card. It must not drop pictures
/// that are late.
pub(crate) fn ffplay(lab: &Lab, url: &str) -> Program {
    let mut command = Command::new("ffplay");
    command.args(options_of_readme("ffplay"));
    command.args(["-hide_banner", "-v", "info", "-nostats", "-autoexit", "-noframedrop"]);
    command.args(["-vf", "showinfo", url]);
    command.env("SDL_VIDEODRIVER", "dummy").env("SDL_AUDIODRIVER", "dummy");
    command.env("SDL_RENDER_DRIVER", "software");
    Program::start(lab, "ffplay", &mut command)
}

/// mpv without display and sound card, with the same filter. It must not drop pictures that are
/// late.
pub(crate) fn mpv(lab: &Lab, url: &str) -> Program {
    let mut command = Command::new("mpv");
    command.args(["--no-config", "--no-terminal", "--vo=null", "--ao=null", "--framedrop=no"]);
    command.args(["--hwdec=no", "--vf=lavfi=[showinfo]"]);
    let log = lab.path("mpv.log");
    command.arg(format!("--log-file={}", log.display())).arg(url);
    Program::start(lab, "mpv", &mut command)
}

/// GStreamer, which writes the pictures that its demultiplexer finds as a stream of NAL units.
pub(crate) fn souphttpsrc(lab: &Lab, url: &str, demux: &str) -> Recorder {
    let path = lab.path(&format!("{demux}.h264"));
    let mut command = Command::new("gst-launch-1.0");
    command.args(["souphttpsrc", &format!("location={url}"), "!", demux, "!", "h264parse", "!"]);
    command.args(["video/x-h264,stream-format=byte-stream,alignment=au", "!", "filesink"]);
    command.arg(format!("location={}", path.display()));
    Recorder { program: Program::start(lab, demux, &mut command), path }
}

/// Decodes a file with the filter that [`ffplay`] uses.
pub(crate) fn checksums_of(lab: &Lab, path: &Path) -> Program {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-v", "info", "-nostats", "-i"]).arg(path);
    command.args(["-map", "0:v", "-vf", "showinfo", "-fps_mode", "passthrough"]);
    command.args(["-f", "null", "-"]);
    Program::start(lab, "decoder", &mut command)
}

/// Returns the pictures that the filter `showinfo` printed.
pub(crate) fn shown_pictures(program: &Program) -> Vec<Frame> {
    pictures_in(&program.error_text())
}

/// Returns the pictures that the filter `showinfo` printed to a log.
pub(crate) fn pictures_in(log: &str) -> Vec<Frame> {
    let hashes = log.lines().filter_map(|line| line.split_once(" checksum:"));
    let hash_of = |rest: &str| rest.split(' ').next().map(str::to_owned).unwrap_or_default();
    hashes.map(|(_, rest)| Frame { dts: 0, size: 0, hash: hash_of(rest) }).collect()
}

fn gstreamer(lab: &Lab, element: &str, location: &str) -> Recorder {
    let path = lab.path(&format!("{element}.flv"));
    let mut command = Command::new("gst-launch-1.0");
    command.args([element, location, "!", "filesink", "buffer-mode=unbuffered"]);
    command.arg(format!("location={}", path.display()));
    Recorder { program: Program::start(lab, element, &mut command), path }
}

/// A user without any rights.
const NOBODY: u32 = 65_534;
