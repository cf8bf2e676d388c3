//! The films to publish. They are made once per run, so the tests know every byte sent.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use super::frames::Frames;
use crate::support::directory::run_directory;

/// Contents of a film: 30 pictures a second, AAC at 44.1 kHz, in an FLV file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Film {
    /// Small pictures with B-frames, a keyframe every second.
    Main,
    /// As `Main`, but with other pictures and another sequence header.
    Other,
    /// As `Main`, with a keyframe every two seconds.
    LongGop,
    /// As `Main`, with a single keyframe.
    OneKeyframe,
    /// Noise of about 19 Mbit/s, which fills the socket buffers within two seconds.
    Heavy,
    /// No video.
    AudioOnly,
    /// No audio.
    VideoOnly,
}

/// Codecs of a film with video and audio, in the terms of the manual's table.
pub(crate) const MAIN_CODECS: [&str; 2] = ["H.264", "AAC"];

/// A film file and its packets.
#[derive(Debug)]
pub(crate) struct Clip {
    pub(crate) path: PathBuf,
    pub(crate) frames: Frames,
    /// Pictures from one keyframe to the next.
    pub(crate) gop: usize,
}

/// Returns the film with a length of `seconds`.
pub(crate) fn clip(film: Film, seconds: u32) -> Arc<Clip> {
    static CLIPS: OnceLock<Mutex<Clips>> = OnceLock::new();
    let clips = CLIPS.get_or_init(Mutex::default);
    // If a test fails while it makes its film, the other tests must not fail, too.
    let mut clips = clips.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let made = clips.entry((film, seconds)).or_insert_with(|| Arc::new(film.make(seconds)));
    Arc::clone(made)
}

/// Films by kind and length.
type Clips = HashMap<(Film, u32), Arc<Clip>>;

impl Film {
    fn make(self, seconds: u32) -> Clip {
        let path = run_directory().join(format!("{self:?}-{seconds}.flv").to_lowercase());
        self.encode(&path, seconds);
        let frames = Frames::of(&path);
        Clip { path, frames, gop: self.gop() }
    }

    fn gop(self) -> usize {
        match self {
            Self::LongGop => 60,
            Self::OneKeyframe => 10_000,
            _ => 30,
        }
    }

    fn encode(self, path: &Path, seconds: u32) {
        let gop = self.gop().to_string();
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-y"]);
        if self != Self::AudioOnly {
            command.args(["-f", "lavfi", "-i", self.pictures()]);
        }
        if self != Self::VideoOnly {
            command.args(["-f", "lavfi", "-i", SOUND]);
            command.args(["-c:a", "aac", "-b:a", "64k"]);
        }
        if self != Self::AudioOnly {
            command.args(["-c:v", "libx264", "-pix_fmt", "yuv420p", "-sc_threshold", "0"]);
            command.args(["-g", &gop, "-keyint_min", &gop]);
            command.args(self.encoder());
        }
        let status = command
            .args(["-t", &seconds.to_string(), "-avoid_negative_ts", "make_non_negative"])
            .arg(path)
            .status()
            .expect("ffmpeg runs");
        assert!(status.success(), "ffmpeg cannot make the film {self:?}");
    }

    fn pictures(self) -> &'static str {
        match self {
            Self::Other => "mandelbrot=size=320x180:rate=30",
            Self::Heavy => "testsrc2=size=320x180:rate=30,noise=alls=100:allf=t",
            _ => "testsrc2=size=320x180:rate=30",
        }
    }

    fn encoder(self) -> &'static [&'static str] {
        match self {
            Self::Other => &["-preset", "ultrafast", "-profile:v", "baseline"],
            Self::Heavy => &["-preset", "ultrafast", "-qp", "17"],
            _ => &["-preset", "veryfast", "-bf", "2"],
        }
    }
}

/// A tone with noise, so that all packets differ and a hash identifies each.
const SOUND: &str = "aevalsrc='sin(440*2*PI*t)/2+random(0)/5':s=44100";
