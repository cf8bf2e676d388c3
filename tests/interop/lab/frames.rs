//! The packets of a file, identified by their hashes, and the position of received packets among
//! those sent.
//!
//! ffmpeg's `framehash` with copied streams hashes every packet without decoding it. Equal hashes
//! therefore mean equal bytes, whatever path the packets took.

use std::ops::Range;
use std::path::Path;
use std::process::Command;

use super::ffmpeg::Build;

/// The packets of a file, each track in the order of decoding time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frames {
    pub(crate) video: Vec<Frame>,
    pub(crate) audio: Vec<Frame>,
    /// Hashes of the codec configurations, with the name of the codec.
    pub(crate) configs: Vec<(String, String)>,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Decoding timestamp in milliseconds.
    pub(crate) dts: i64,
    pub(crate) size: usize,
    pub(crate) hash: String,
}

/// Position of both tracks of a recording in the film that was sent.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) video: Range<usize>,
    pub(crate) audio: Range<usize>,
}

impl Frames {
    /// Reads the packets of a file without decoding.
    pub(crate) fn of(path: &Path) -> Self {
        Self::hash(path, &[], &["-c", "copy"])
    }

    /// Reads the packets of one track of each kind, if it exists.
    pub(crate) fn of_track(build: Build, path: &Path, track: usize) -> Self {
        let maps = [format!("0:v:{track}?"), format!("0:a:{track}?")];
        let output = ["-map", &maps[0], "-map", &maps[1], "-c", "copy"];
        Self::hash_by(build, path, &[], &output)
    }

    /// Returns which packets of a video track are keyframes, in the order of [`Frames::of_track`].
    pub(crate) fn keyframes_of_track(build: Build, path: &Path, track: usize) -> Vec<usize> {
        let map = format!("0:v:{track}?");
        let text = Self::read_by(build, path, &[], &["-map", &map, "-c", "copy"], "framecrc");
        let packets = text.lines().filter(|line| !line.starts_with('#'));
        // framecrc prints the flags of a packet only if they differ from those of a keyframe.
        let keyframes = packets.enumerate().filter(|(_, packet)| !packet.contains("F=0x"));
        keyframes.map(|(index, _)| index).collect()
    }

    /// Reads the packets of a file that may end in the middle of a packet.
    pub(crate) fn of_cut(path: &Path) -> Self {
        Self::hash(path, &["-fflags", "+discardcorrupt"], &["-c", "copy"])
    }

    /// Decodes the video of a file, to compare pictures instead of packets.
    pub(crate) fn of_pictures(path: &Path) -> Self {
        Self::hash(path, &[], &["-map", "0:v", "-fps_mode", "passthrough"])
    }

    /// Expects every packet to be one that was sent, none to be missing between the first and the
    /// last of each track, and both tracks to keep their distance in time.
    #[track_caller]
    pub(crate) fn expect_contiguous_in(&self, sent: &Self) -> Span {
        let video = only_run("video", &self.video, &sent.video);
        let audio = only_run("audio", &self.audio, &sent.audio);
        let mut shifts: Vec<i64> = shifts(&self.video, &sent.video[video.clone()]).collect();
        shifts.extend(self::shifts(&self.audio, &sent.audio[audio.clone()]));
        let shift = shifts.first().copied().expect("received packets");
        let drifted = shifts.iter().find(|&&other| other != shift);
        assert_eq!(drifted, None, "timestamps move against each other; the first by {shift}");
        Span { video, audio }
    }

    /// Expects the codec configurations that were sent, one for each track received.
    #[track_caller]
    pub(crate) fn expect_configs_of(&self, sent: &Self) {
        for config in &self.configs {
            assert!(sent.configs.contains(config), "the configuration {config:?} was not sent");
        }
        let tracks = usize::from(!self.video.is_empty()) + usize::from(!self.audio.is_empty());
        assert_eq!(self.configs.len(), tracks, "{:?} of {:?}", self.configs, sent.configs);
    }

    fn hash(path: &Path, input: &[&str], output: &[&str]) -> Self {
        Self::hash_by(Build::System, path, input, output)
    }

    fn hash_by(build: Build, path: &Path, input: &[&str], output: &[&str]) -> Self {
        Self::parse(&Self::read_by(build, path, input, output, "framehash"))
    }

    fn read_by(build: Build, path: &Path, input: &[&str], output: &[&str], format: &str) -> String {
        let result = Command::new(build.program())
            .args(["-nostdin", "-v", "error", "-copyts"])
            .args(input)
            .arg("-i")
            .arg(path)
            .args(output)
            .args(["-f", format, "-"])
            .output()
            .expect("ffmpeg runs");
        let errors = String::from_utf8_lossy(&result.stderr);
        assert!(result.status.success(), "{} cannot be read: {errors}", path.display());
        String::from_utf8_lossy(&result.stdout).into_owned()
    }

    fn parse(text: &str) -> Self {
        let mut frames = Self::default();
        let mut is_video = Vec::new();
        let mut extradata = Vec::new();
        for line in text.lines() {
            if let Some(media_type) = line.strip_prefix("#media_type ") {
                is_video.push(media_type.ends_with("video"));
            } else if let Some(codec) = line.strip_prefix("#codec_id ") {
                let (index, name) = codec.split_once(": ").expect("a codec line");
                extradata.retain(|(stream, hash): &(String, String)| {
                    let is_this = stream == index;
                    if is_this {
                        frames.configs.push((name.to_owned(), hash.clone()));
                    }
                    !is_this
                });
            } else if let Some(data) = line.strip_prefix("#extradata ") {
                let fields: Vec<&str> = data.split(',').map(str::trim).collect();
                extradata.push((fields[0].to_owned(), fields[2].to_owned()));
            } else if !line.starts_with('#') {
                let fields: Vec<&str> = line.split(',').map(str::trim).collect();
                let stream: usize = fields[0].parse().expect("a stream number");
                let track = if is_video[stream] { &mut frames.video } else { &mut frames.audio };
                let frame = Frame::parse(&fields);
                // For a channel layout that ffmpeg did not expect, it creates a packet without
                // bytes.
                if frame.size > 0 {
                    track.push(frame);
                }
            }
        }
        frames
    }
}

impl Frame {
    fn parse(fields: &[&str]) -> Self {
        Self {
            dts: fields[1].parse().expect("a timestamp"),
            size: fields[4].parse().expect("a size"),
            hash: fields[5].to_owned(),
        }
    }
}

/// Splits received packets into runs without gaps, and returns the range of sent packets for each.
/// Panics if a packet was never sent or is out of order.
#[track_caller]
pub(crate) fn runs(track: &str, got: &[Frame], sent: &[Frame]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, frame) in got.iter().enumerate() {
        let from = runs.last().map_or(0, |run| run.end);
        let found = sent[from..].iter().position(|other| other.hash == frame.hash);
        let Some(distance) = found else {
            let before = sent[..from].iter().rposition(|other| other.hash == frame.hash);
            panic!(
                "{track} packet {index} of {}, dts {}, {} bytes, was not sent after {from} of {}, \
                 earlier at {before:?}; runs so far {runs:?}",
                got.len(),
                frame.dts,
                frame.size,
                sent.len(),
            );
        };
        match runs.last_mut() {
            Some(run) if distance == 0 => run.end += 1,
            _ => runs.push(from + distance..from + distance + 1),
        }
    }
    runs
}

/// Returns the run of pictures that VLC passed on. Its stream output drops some of the last
/// pictures, so those may be missing.
#[track_caller]
pub(crate) fn run_of_vlc(got: &[Frame], sent: &[Frame]) -> Range<usize> {
    let runs = runs("pictures", got, sent);
    let first = runs.first().cloned().unwrap_or(0..0);
    assert!(first.end + 15 >= sent.len(), "VLC lost pictures: {runs:?} of {}", sent.len());
    first
}

/// Returns the single run of a track that was received without gaps.
#[track_caller]
pub(crate) fn only_run(track: &str, got: &[Frame], sent: &[Frame]) -> Range<usize> {
    let runs = runs(track, got, sent);
    assert!(runs.len() <= 1, "{track} was received with gaps: {runs:?} of {}", sent.len());
    runs.into_iter().next().unwrap_or(0..0)
}

fn shifts(got: &[Frame], sent: &[Frame]) -> impl Iterator<Item = i64> {
    got.iter().zip(sent).map(|(got, sent)| got.dts - sent.dts)
}
