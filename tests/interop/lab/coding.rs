//! Films in other codecs than H.264 and AAC, and who writes and reads them.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::Lab;
use super::ffmpeg::Build;
use super::frames::Frames;

/// How a film is encoded: it is six seconds long and has fifteen pictures a second, about a
/// keyframe every second, and sound under noise, so that no two packets are the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Coding {
    /// The name of its file.
    pub(crate) name: &'static str,
    /// Who writes it, and reads it in the end.
    pub(crate) build: Build,
    /// Options of the encoders: of pictures, of sound, or of both.
    pub(crate) options: &'static [&'static str],
    /// What it has, in the names of the table.
    pub(crate) codecs: &'static [&'static str],
    /// Tracks of each kind.
    pub(crate) tracks: usize,
}

impl Coding {
    /// Who publishes and plays it: what the older one knows, the newer one knows too.
    pub(crate) const fn builds(&self) -> &'static [Build] {
        match self.build {
            Build::System => &[Build::System, Build::Current],
            Build::Current => &[Build::Current],
        }
    }

    /// Makes the film.
    pub(crate) fn make(&self, lab: &Lab) -> PathBuf {
        let path = lab.path(&format!("{}.flv", self.name));
        let mut command = Command::new(self.build.program());
        // The AV1 encoder talks whatever ffmpeg is told.
        command.args(["-nostdin", "-v", "error", "-y"]).env("SVT_LOG", "1");
        for source in [PICTURES, SOUND] {
            command.args(["-f", "lavfi", "-i", source]);
        }
        let status = command.args(self.options).args(["-t", "6"]).arg(&path).status();
        let status = status.expect("ffmpeg runs");
        assert!(status.success(), "ffmpeg cannot make the film {}", self.name);
        path
    }

    /// Where the keyframes of a file are, by track.
    pub(crate) fn keyframes(&self, path: &Path) -> Vec<Vec<usize>> {
        let tracks = 0..self.tracks;
        tracks.map(|track| Frames::keyframes_of_track(self.build, path, track)).collect()
    }

    /// The packets of a file, by track.
    pub(crate) fn frames(&self, path: &Path) -> Vec<Frames> {
        (0..self.tracks).map(|track| Frames::of_track(self.build, path, track)).collect()
    }
}

const PICTURES: &str = "testsrc2=size=160x120:rate=15";

const SOUND: &str = "aevalsrc='sin(440*2*PI*t)/2+random(0)/5':s=44100";
