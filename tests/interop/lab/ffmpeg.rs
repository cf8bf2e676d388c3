//! ffmpeg as publisher, as player, and as judge of a recording.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::Lab;
use super::clip::Clip;
use super::frames::Frames;
use super::program::Program;

/// Publishes a clip at the speed of the clock; ends with it.
pub(crate) fn publish(lab: &Lab, name: &str, clip: &Clip, url: &str) -> Program {
    publish_with(lab, name, clip, &[], url)
}

/// Publishes a clip with further output options.
pub(crate) fn publish_with(
    lab: &Lab,
    name: &str,
    clip: &Clip,
    options: &[&str],
    url: &str,
) -> Program {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-v", "info", "-nostats", "-re", "-i"]);
    command.arg(&clip.path).args(["-c", "copy"]).args(options).args(["-f", "flv", url]);
    Program::start(lab, name, &mut command)
}

/// A player that writes what it receives to a file, unchanged.
pub(crate) struct Recorder {
    pub(crate) program: Program,
    pub(crate) path: PathBuf,
}

/// Plays a stream with ffmpeg. Timestamps are kept as they came.
pub(crate) fn record(lab: &Lab, name: &str, url: &str) -> Recorder {
    record_with(lab, name, &[], url)
}

/// Plays a stream with further input options.
pub(crate) fn record_with(lab: &Lab, name: &str, options: &[&str], url: &str) -> Recorder {
    let path = lab.path(&format!("{name}.flv"));
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-v", "info", "-nostats", "-y", "-copyts"]);
    command.args(options).args(["-i", url, "-c", "copy", "-f", "flv"]).arg(&path);
    Recorder { program: Program::start(lab, name, &mut command), path }
}

impl Recorder {
    /// Waits until the player ends by itself, which it must do without an error, and reads
    /// what it recorded.
    #[track_caller]
    pub(crate) fn finish(self, limit: Duration) -> Frames {
        self.program.finish(limit);
        Frames::of(&self.path)
    }
}

/// Demands that a recording decodes without one complaint, such as a missing reference.
#[track_caller]
pub(crate) fn expect_decodable(path: &Path) {
    let result = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(path)
        .args(["-f", "null", "-"])
        .output()
        .expect("ffmpeg runs");
    let complaints = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success() && complaints.is_empty(), "it does not decode: {complaints}");
}
