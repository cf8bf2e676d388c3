//! `tiderace load` with one stream, and the raw relay that the cost of a server is told by: the
//! running program, and what it counts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use tiderace::load::report::LoadReport;
use tiderace::media::flv::FlvReader;
use tiderace::media::{MediaKind, VideoClass, classify_video};

use crate::load_runs::{NEVER_LATE, report};
use crate::random::Random;
use crate::support::program;
use crate::support::server::Start;

#[test]
fn floor_gives_every_player_every_frame_as_it_came_in_each_form() {
    let mut random = Random::new(3);
    let frames: Vec<_> =
        (0..400).map(|_| frame(&vec![random.below(256) as u8; random.below(30_000)])).collect();
    for form in FORMS {
        let floor = Floor::start(form);
        let players: Vec<_> = (0..5).map(|_| floor.connect("play show")).collect();
        let other = floor.connect("play other");
        let mut publisher = floor.connect("publish show");
        floor.wait_until_entered();
        let wanted: usize = frames.iter().map(Vec::len).sum();
        let readers: Vec<_> = players
            .into_iter()
            .map(|player| thread::spawn(move || read(&player, wanted)))
            .collect();
        frames.iter().for_each(|frame| publisher.write_all(frame).unwrap());
        let sent = frames.concat();
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() == sent), "{form:?}");
        drop(publisher);
        let line = floor.end();
        let counts = format!("{} bytes out, 0 players dropped", 5 * wanted);
        assert!(line.starts_with("relayed 400 frames: ") && line.contains(&counts), "{line}");
        assert_eq!(read(&other, 1), b"", "nothing of another stream");
    }
}

#[test]
fn floor_drops_a_player_that_does_not_read_and_keeps_the_others() {
    const FRAMES: usize = 600;
    for form in FORMS {
        let floor = Floor::start(form);
        let (mut stuck, player) = (floor.connect("play show"), floor.connect("play show"));
        let mut publisher = floor.connect("publish show");
        floor.wait_until_entered();
        let frame = frame(&[9; 100_000]);
        for _ in 0..FRAMES {
            publisher.write_all(&frame).unwrap();
            assert!(read(&player, frame.len()) == frame, "{form:?}");
        }
        let mut received = Vec::new();
        // It ends, be it by a reset, and long before the stream does.
        let _ = stuck.read_to_end(&mut received);
        assert!(received.len() < FRAMES * frame.len() / 2, "{form:?}: {} bytes", received.len());
        assert!(received.chunks(frame.len()).all(|got| *got == frame[..got.len()]), "{form:?}");
        assert!(
            floor.end().ends_with(" 1 players dropped because they did not read\n"),
            "{form:?}"
        );
    }
}

/// Frames that come in one turn leave together, and with a time to hold them all of them do.
#[test]
fn floor_sends_what_comes_together_in_one_call() {
    const FRAMES: usize = 300;
    let all = frame(&[7; 100]).repeat(FRAMES);
    for (form, sends_max) in FORMS.into_iter().zip([50, 3, 50, 3]) {
        let form = form.iter().map(|word| if *word == "5" { "500" } else { *word });
        let floor = Floor::start(&form.collect::<Vec<_>>());
        let player = floor.connect("play show");
        let mut publisher = floor.connect("publish show");
        floor.wait_until_entered();
        publisher.write_all(&all).unwrap();
        assert!(read(&player, all.len()) == all);
        let line = floor.end();
        let words: Vec<_> = line.split(' ').collect();
        let at = words.iter().position(|word| *word == "sends,").expect("the sends are counted");
        let sends: usize = words[at - 1].parse().unwrap();
        assert!((1..=sends_max).contains(&sends), "{line}");
    }
}

#[test]
fn floor_lets_go_of_who_asks_for_something_else() {
    let floor = Floor::start(&[]);
    for request in [&b"record show"[..], b"play ", b"", b"play\0show", &[b'x'; 600]] {
        let mut peer = TcpStream::connect(floor.address()).unwrap();
        peer.write_all(&frame(request)).unwrap();
        assert_eq!(read(&peer, 1), b"", "{request:?}");
    }
    let mut peer = floor.connect("publish show");
    // No frame is that long.
    peer.write_all(&[1, 0, 0, 0]).unwrap();
    assert_eq!(read(&peer, 1), b"");
}

#[test]
fn floor_that_cannot_listen_says_where_and_has_a_code_of_its_own() {
    let floor = Floor::start(&[]);
    let output =
        program::tiderace().args(["load", "floor", "--listen", floor.address()]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    let expected =
        format!("tiderace: cannot listen on {}: Address already in use", floor.address());
    assert!(error.starts_with(&expected) && error.lines().count() == 1, "{error}");
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn synthetic_stream_is_played_as_it_was_asked_for() {
    let server = Start::new("load_synthetic", "").start();
    let url = format!("rtmp://{}/live/show", server.address);
    let publisher =
        load(&["publish", &url, "--duration-s", "4", "--size", "640x360", "--fps", "25"])
            .args(["--gop-s", "1", "--bitrate", "1M", "--audio-bitrate", "96k", "--json", "-"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
    server.wait_for_log("publishes live/show");
    let played =
        report(&load(&["play", &url, "--duration-s", "2", "--json", "-"]).output().unwrap());
    let published = report(&publisher.wait_with_output().unwrap());

    expect(
        &published,
        &[("video_frames", 100.0), ("video_keyframes", 4.0), ("audio_frames", 188.0)],
    );
    assert_eq!(played.findings["video"], "H.264 Constrained Baseline 3.0 640x360");
    assert_eq!(played.findings["audio"], "AAC LC 48 kHz stereo");
    let sound = [("audio_timestamps_back", 0.0), ("audio_gaps", 0.0)];
    let pictures = [
        ("video_nominal_frames_per_s", 25.0),
        ("gop_frames", 25.0),
        ("video_timestamps_back", 0.0),
        ("video_gaps", 0.0),
        ("unreadable_messages", 0.0),
    ];
    expect(&played, &sound);
    expect(&played, &pictures);
    // A player acts only twice, so its own delay shows in its reads.
    let own = played.distributions.iter().find(|known| known.name() == "read_delay").unwrap();
    assert!(own.histogram().len() > 25, "{}", own.histogram().len());
    for name in ["metadata_ms", "first_keyframe_ms", "first_audio_ms"] {
        assert!(played.figure(name).unwrap().value.is_some(), "{name} came");
    }
    // Two seconds of it, and what the server had kept for newcomers.
    let frames = played.figure("video_frames").unwrap().value.unwrap();
    assert!((26.0..=100.0).contains(&frames), "{frames}");
}

#[test]
fn file_is_published_again_and_again_and_its_time_goes_on() {
    let linger = "[publish]\nlinger_ms = 100\n";
    let server = Start::new("load_file", linger).start();
    let url = format!("rtmp://{}/live/film", server.address);
    let film = vector("ffmpeg5_h264_aac.flv");
    let file = ["--file", film.to_str().unwrap()];
    let publisher = load(&["publish", &url, "--duration-s", "5", "--json", "-"])
        .args(file)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    server.wait_for_log("publishes live/film");
    let played =
        report(&load(&["play", &url, "--duration-s", "60", "--json", "-"]).output().unwrap());
    let published = report(&publisher.wait_with_output().unwrap());

    // Two rounds of 2000 ms, and what of a third is due in the rest of the time.
    let pictures = 2 * pictures_before(&film, u32::MAX) + pictures_before(&film, 5000 - 2 * 2000);
    expect(&published, &[("video_frames", pictures as f64)]);
    assert_eq!(played.findings["video"], "H.264 High 1.0 160x120");
    assert_eq!(played.findings["audio"], "AAC LC 48 kHz mono");
    expect(&played, &[("video_timestamps_back", 0.0), ("video_gaps", 0.0)]);
    let frames = played.figure("video_frames").unwrap().value.unwrap();
    assert!((31.0..=pictures as f64).contains(&frames), "more than one round: {frames}");
}

#[test]
fn server_that_stands_still_is_seen_from_both_sides_and_loses_nothing() {
    let server = Start::new("load_still", "").start();
    let url = |key: &str| format!("rtmp://{}/live/{key}", server.address);
    let start = |args: &[&str]| {
        let mut command = load(args);
        command.args(["--json", "-"]).stdout(Stdio::piped()).spawn().unwrap()
    };
    // More than sockets hold, and less than what the generator lets wait.
    let heavy = ["--duration-s", "5", "--bitrate", "80M", "--fps", "50", "--audio-bitrate", "0"];
    let publisher = start(&[&["publish", &url("heavy")][..], &heavy].concat());
    let light = ["--duration-s", "6", "--bitrate", "500k", "--size", "320x180"];
    let light = start(&[&["publish", &url("light")][..], &light].concat());
    server.wait_for_log("publishes live/heavy");
    server.wait_for_log("publishes live/light");
    let player = start(&["play", &url("light"), "--duration-s", "4"]);
    server.wait_for_log("plays live/light");
    thread::sleep(Duration::from_millis(500));
    server.signal(Signal::STOP);
    thread::sleep(Duration::from_millis(1300));
    server.signal(Signal::CONT);
    let [published, _, played] =
        [publisher, light, player].map(|running| report(&running.wait_with_output().unwrap()));
    expect(&published, &[("video_frames", 250.0), ("audio_frames", 0.0)]);
    let waiting = published.figure("waiting_bytes_max").unwrap().value.unwrap();
    assert!(waiting > 1e6, "{waiting}");
    assert!(played.figure("stalls").unwrap().value >= Some(1.0));
    let sound = [("audio_timestamps_back", 0.0), ("audio_gaps", 0.0)];
    expect(&played, &[("video_timestamps_back", 0.0), ("video_gaps", 0.0)]);
    expect(&played, &sound);
}

#[test]
fn stream_that_nobody_publishes_leaves_a_doubt() {
    let server = Start::new("load_nobody", "").start();
    let url = format!("rtmp://{}/live/nobody", server.address);
    let played =
        report(&load(&["play", &url, "--duration-s", "0.2", "--json", "-"]).output().unwrap());
    expect(&played, &[("video_frames", 0.0), ("audio_frames", 0.0)]);
    let doubt = "no media arrived; is the stream being published?";
    assert!(played.doubts.iter().any(|told| told == doubt), "{:?}", played.doubts);
    assert!(played.figure("first_media_ms").unwrap().withheld.is_some());
}

#[test]
fn bad_use_of_play_and_publish_ends_in_one_line_and_a_code_of_its_own() {
    let settings = "[publish]\nduplicate = \"reject\"\n[play]\nabsent = \"refuse\"\n";
    let server = Start::new("load_bad", settings).start();
    let url = |key: &str| format!("rtmp://{}/live/{key}", server.address);
    let mut publisher = load(&["publish", &url("taken"), "--duration-s", "60"]).spawn().unwrap();
    server.wait_for_log("publishes live/taken");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("rtmp://{}/live/a", silent.local_addr().unwrap());
    let cut = cut_film();
    let (cut, readme) = (cut.to_str().unwrap(), vector("README.md"));
    for (args, code, expected) in [
        (&["play", "rtmp://host"][..], 2, "rtmp://host: expected an application after the host"),
        (&["publish", &format!("rtmp://{nobody}/live/a")], 10, "cannot connect to"),
        (&["publish", &url("taken")], 11, " refused to publish the stream: "),
        (&["play", &url("absent")], 11, " refused to play the stream: "),
        (
            &["play", &silent, "--timeout-s", "0.2"],
            11,
            "no answer within 200ms, and the last phase reached was tcp",
        ),
        (
            &["publish", &url("a"), "--file", "/nonexistent.flv"],
            6,
            "/nonexistent.flv: No such file",
        ),
        (
            &["publish", &url("a"), "--file", readme.to_str().unwrap()],
            17,
            "README.md: invalid FLV file at byte 0: expected the letters FLV",
        ),
        (
            &["publish", &url("a"), "--file", cut],
            17,
            "byte 307: expected the payload of a tag of 50 bytes, got 13",
        ),
    ] {
        let output = load(args).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        assert!(error.contains(expected) && error.lines().count() == 1, "{args:?}: {error}");
    }
    kill_process(Pid::from_child(&publisher), Signal::INT).unwrap();
    assert_eq!(publisher.wait().unwrap().code(), Some(0));
}

fn load(args: &[&str]) -> Command {
    let mut command = program::tiderace();
    command.arg("load").args(args).args(NEVER_LATE).arg("--quiet");
    command
}

#[track_caller]
fn expect(report: &LoadReport, figures: &[(&str, f64)]) {
    for (name, value) in figures {
        assert_eq!(report.figure(name).and_then(|figure| figure.value), Some(*value), "{name}");
    }
}

fn vector(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file)
}

/// How many pictures of a film are due before a time since its first tag (ms).
fn pictures_before(film: &PathBuf, until_ms: u32) -> usize {
    let bytes = std::fs::read(film).unwrap();
    let mut reader = FlvReader::new(&bytes).unwrap();
    let tags = std::iter::from_fn(|| reader.next_tag().unwrap());
    let pictures = tags.filter(|tag| tag.media == MediaKind::Video && tag.timestamp < until_ms);
    let class = |payload| classify_video(payload).unwrap().class;
    let is_frame = |class| matches!(class, VideoClass::Keyframe | VideoClass::Inter);
    pictures.filter(|tag| is_frame(class(tag.payload))).count()
}

/// A film that ends within its second tag.
fn cut_film() -> PathBuf {
    let film = std::fs::read(vector("ffmpeg5_h264_aac.flv")).unwrap();
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cut.flv");
    std::fs::write(&path, &film[..320]).unwrap();
    path
}

const FORMS: [&[&str]; 4] = [
    &[],
    &["--merge-ms", "5"],
    &["--send", "sendfile"],
    &["--send", "sendfile", "--merge-ms", "5"],
];

/// A running relay; it is ended when it is dropped.
struct Floor {
    child: Child,
    lines: BufReader<ChildStdout>,
    ready: String,
}

impl Floor {
    fn start(options: &[&str]) -> Self {
        let mut child = program::tiderace()
            .args(["load", "floor", "--duration-s", "60"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        lines.read_line(&mut ready).unwrap();
        Self { child, lines, ready }
    }

    fn address(&self) -> &str {
        self.ready.trim_end().strip_prefix("listening on ").expect("it says where it listens")
    }

    fn connect(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.write_all(&frame(request.as_bytes())).unwrap();
        stream
    }

    /// Waits until the relay knows what all want that have connected: it reads them in the order
    /// in which they came, and lets the last one go.
    fn wait_until_entered(&self) {
        assert_eq!(read(&self.connect("nothing"), 1), b"");
    }

    /// Ends it and returns what it says then.
    fn end(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let mut line = String::new();
        self.lines.read_to_string(&mut line).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        line
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn frame(payload: &[u8]) -> Vec<u8> {
    [&(payload.len() as u32).to_be_bytes(), payload].concat()
}

/// The first `wanted` bytes of a connection, or all that there are.
fn read(stream: &TcpStream, wanted: usize) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut bytes = Vec::new();
    match stream.take(wanted as u64).read_to_end(&mut bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("{error}"),
        _ => bytes,
    }
}
