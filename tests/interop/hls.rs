//! Players of HLS: ffmpeg and VLC, which take whole segments, and hls.js in Chromium, which takes
//! partial segments.

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::lab::clip::{Clip, Film, MAIN_CODECS, clip};
use crate::lab::frames::{Frames, run_of_vlc};
use crate::lab::http_matrix::{Over, WebPlayer};
use crate::lab::server::Server;
use crate::lab::{Lab, Need, ffmpeg, players};
use crate::support::program::Program;

/// Where `tests/run` puts Playwright.
const PLAYWRIGHT: &str = "target/programs/playwright/playwright/driver";
/// Longer than a film plus the linger time.
const END: Duration = Duration::from_secs(60);
/// Distance from the newest part at which a player with low latency wants to be, at most (ms).
const DELAY_MS_MAX: u64 = 2000;

#[test]
fn ffmpeg_plays_hls_to_the_end() {
    let needs = [Need::Program("ffmpeg"), Need::OwnServer];
    let Some(lab) = Lab::open("hls_ffmpeg", &needs) else { return };
    let show = Show::start(&lab);
    let mut got = ffmpeg::record(&lab, "player", &show.url).finish(END);
    assert!(got.audio.len() > 80, "{} frames of sound", got.audio.len());
    // Sound is counted in samples, so its times in milliseconds may differ by one.
    got.audio.clear();
    let span = got.expect_contiguous_in(&show.clip.frames);
    show.expect_start(&span.video);
    assert_eq!(span.video.end, show.clip.frames.video.len(), "the end is missing: {span:?}");
    lab.proves_over(WebPlayer::Ffmpeg, Over::Hls, &MAIN_CODECS);
}

#[test]
fn vlc_plays_hls() {
    let needs = [Need::Program("ffmpeg"), Need::Program("vlc"), Need::OwnServer];
    let Some(lab) = Lab::open("hls_vlc", &needs) else { return };
    let show = Show::start(&lab);
    let player = players::vlc(&lab, &show.url);
    player.program.finish(END);
    let sent = Frames::of_pictures(&show.clip.path).video;
    let got = Frames::of_pictures(&player.path).video;
    show.expect_start(&run_of_vlc(&got, &sent));
    lab.proves_over(WebPlayer::Vlc, Over::Hls, &MAIN_CODECS[..1]);
}

#[test]
fn hls_js_plays_in_chromium_with_low_latency() {
    let needs = [
        Need::Program("ffmpeg"),
        Need::Program("chromium"),
        Need::Program("playwright/playwright/driver/node"),
        Need::Program("hls.js"),
        Need::OwnServer,
    ];
    let Some(lab) = Lab::open_browser("hls_chromium", &needs) else { return };
    let show = Show::of(&lab, 30);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let driver = root.join(PLAYWRIGHT);
    let mut command = Command::new(driver.join("node"));
    command
        .arg(root.join("tests/interop/hls_player.js"))
        .arg(driver.join("package"))
        .arg(root.join("target/programs/hls.js"))
        .arg(&show.url);
    let mut browser = Program::start(lab.path(""), "browser", &mut command);
    let status = browser.wait(END);
    let printed = browser.output_text();
    assert!(status.success(), "{status}: {printed} {}", browser.error_text());
    let number = |name: &str| -> u64 {
        let mut words = printed.split_whitespace().skip_while(|word| *word != name);
        words.nth(1).and_then(|word| word.parse().ok()).expect(&printed)
    };
    // A machine with other work delays a browser by more than that. What it was is printed.
    assert!(number("wanted") <= DELAY_MS_MAX, "{printed}");
    assert!(number("parts") >= 10, "it plays whole segments: {printed}");
    lab.proves_over(WebPlayer::HlsJs, Over::Hls, &MAIN_CODECS);
}

/// A film that is published, and the URL at which it is played.
struct Show {
    _server: Server,
    _publisher: Program,
    clip: Arc<Clip>,
    url: String,
}

impl Show {
    fn start(lab: &Lab) -> Self {
        Self::of(lab, 9)
    }

    fn of(lab: &Lab, seconds: u32) -> Self {
        let clip = clip(Film::Main, seconds);
        let server = Server::start(lab);
        let stream = format!("live/{}", lab.name());
        let publisher = ffmpeg::publish(lab, "publisher", &clip, &server.url(&stream));
        server.wait_for_stream("live", lab.name());
        thread::sleep(Duration::from_millis(1300));
        let url = server.http_url(&format!("{stream}/index.m3u8"));
        Self { _server: server, _publisher: publisher, clip, url }
    }

    /// Expects a start at a keyframe, and a picture or two more.
    #[track_caller]
    fn expect_start(&self, run: &Range<usize>) {
        assert_eq!(run.start % self.clip.gop, 0, "no start at a keyframe: {run:?}");
        assert!(run.len() >= 60, "too few pictures: {run:?}");
    }
}
