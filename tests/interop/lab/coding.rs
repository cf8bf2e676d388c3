//! Films in codecs other than H.264 and AAC, and the programs that write and read them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Lab;
use super::ffmpeg::Build;
use super::frames::Frames;

/// Encoding of a film of six seconds, with fifteen pictures a second, a keyframe about every
/// second, and audio with noise, so that all packets differ.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coding {
    /// File name without extension.
    pub(crate) name: &'static str,
    /// The ffmpeg that writes the film, and reads it in the end.
    pub(crate) build: Build,
    /// Options of the video encoder, the audio encoder, or both.
    pub(crate) options: &'static [&'static str],
    /// Codecs, in the terms of the table.
    pub(crate) codecs: &'static [&'static str],
    /// Number of tracks of each kind.
    pub(crate) tracks: usize,
}

impl Coding {
    /// Returns the versions of ffmpeg that publish and play the film. The newer version can do
    /// everything that the older one can.
    pub(crate) const fn builds(&self) -> &'static [Build] {
        match self.build {
            Build::System => &[Build::System, Build::Current],
            Build::Current => &[Build::Current],
        }
    }

    /// Encodes the film.
    pub(crate) fn make(&self, lab: &Lab) -> PathBuf {
        let path = lab.path(&format!("{}.flv", self.name));
        let mut command = Command::new(self.build.program());
        // The AV1 encoder prints messages whatever ffmpeg's log level is.
        command.args(["-nostdin", "-v", "error", "-y"]).env("SVT_LOG", "1");
        for source in [PICTURES, SOUND] {
            command.args(["-f", "lavfi", "-i", source]);
        }
        let status = command.args(self.options).args(["-t", "6"]).arg(&path).status();
        let status = status.expect("ffmpeg runs");
        assert!(status.success(), "ffmpeg cannot make the film {}", self.name);
        path
    }

    /// Returns the positions of the keyframes in a file, by track.
    pub(crate) fn keyframes(&self, path: &Path) -> Vec<Vec<usize>> {
        let tracks = 0..self.tracks;
        tracks.map(|track| Frames::keyframes_of_track(self.build, path, track)).collect()
    }

    /// Returns the packets of a file, by track.
    pub(crate) fn frames(&self, path: &Path) -> Vec<Frames> {
        (0..self.tracks).map(|track| Frames::of_track(self.build, path, track)).collect()
    }
}

const PICTURES: &str = "testsrc2=size=160x120:rate=15";

const SOUND: &str = "aevalsrc='sin(440*2*PI*t)/2+random(0)/5':s=44100";
