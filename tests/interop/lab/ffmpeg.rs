//! ffmpeg as publisher, as player, and to check recordings.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::clip::Clip;
use super::frames::Frames;
use super::matrix::Client;
use super::{Lab, Need};
use crate::support::program::Program;

/// A version of ffmpeg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// The version of the system.
    System,
    /// A newer version with Enhanced RTMP.
    Current,
}

impl Build {
    pub(crate) fn program(self) -> PathBuf {
        match self {
            Self::System => PathBuf::from("ffmpeg"),
            Self::Current => super::fetched_programs().join(CURRENT),
        }
    }

    pub(crate) const fn need(self) -> Need {
        Need::Program(if matches!(self, Self::System) { "ffmpeg" } else { CURRENT })
    }

    pub(crate) const fn client(self) -> Client {
        if matches!(self, Self::System) { Client::Ffmpeg } else { Client::CurrentFfmpeg }
    }

    /// Publishes all tracks of a film in real time, with additional output options. Ends with the
    /// film.
    pub(crate) fn publish(
        self,
        lab: &Lab,
        name: &str,
        film: &Path,
        options: &[&str],
        url: &str,
    ) -> Program {
        let mut command = Command::new(self.program());
        command.args(["-nostdin", "-hide_banner", "-v", "info", "-nostats", "-re", "-i"]);
        command.arg(film).args(["-map", "0", "-c", "copy"]).args(options).args(["-f", "flv", url]);
        Program::start(lab, name, &mut command)
    }

    /// Plays all tracks of a stream into a file, with additional input options. Timestamps are
    /// kept.
    pub(crate) fn record(self, lab: &Lab, name: &str, options: &[&str], url: &str) -> Recorder {
        let path = lab.path(&format!("{name}.flv"));
        let mut command = Command::new(self.program());
        command.args(["-nostdin", "-hide_banner", "-v", "info", "-nostats", "-y", "-copyts"]);
        command.args(options).args(["-i", url, "-map", "0:v?", "-map", "0:a?"]);
        command.args(["-c", "copy", "-f", "flv"]).arg(&path);
        Recorder { program: Program::start(lab, name, &mut command), path }
    }
}

/// File name of the program that `tests/run` downloads.
const CURRENT: &str = "ffmpeg-9.0";

/// Publishes a clip in real time. Ends with the clip.
pub(crate) fn publish(lab: &Lab, name: &str, clip: &Clip, url: &str) -> Program {
    publish_with(lab, name, clip, &[], url)
}

/// Publishes a clip with additional output options.
pub(crate) fn publish_with(
    lab: &Lab,
    name: &str,
    clip: &Clip,
    options: &[&str],
    url: &str,
) -> Program {
    Build::System.publish(lab, name, &clip.path, options, url)
}

/// A player that writes what it receives to a file, unchanged.
pub(crate) struct Recorder {
    pub(crate) program: Program,
    pub(crate) path: PathBuf,
}

/// Plays a stream with ffmpeg. Timestamps are kept.
pub(crate) fn record(lab: &Lab, name: &str, url: &str) -> Recorder {
    record_with(lab, name, &[], url)
}

/// Plays a stream with additional input options.
pub(crate) fn record_with(lab: &Lab, name: &str, options: &[&str], url: &str) -> Recorder {
    Build::System.record(lab, name, options, url)
}

impl Recorder {
    /// Waits until the player ends by itself, which must be without an error, and reads the
    /// recording.
    #[track_caller]
    pub(crate) fn finish(self, limit: Duration) -> Frames {
        self.program.finish(limit);
        Frames::of(&self.path)
    }
}

/// Expects a recording to decode without any complaint, such as a missing reference.
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
