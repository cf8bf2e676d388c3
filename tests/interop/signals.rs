//! Signals of an operator to a server with streams.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::lab::clip::{Film, clip};
use crate::lab::server::Server;
use crate::lab::{Lab, Need, ffmpeg};

#[test]
fn sigterm_tells_everybody_and_exits_with_success() {
    let needs = [Need::Program("ffmpeg"), Need::OwnServer];
    let Some(lab) = Lab::open("signal_term", &needs) else { return };
    let mut server = Server::start(&lab);
    let url = server.url("live/term");
    let mut publisher = ffmpeg::publish(&lab, "publisher", &clip(Film::Main, 20), &url);
    server.wait_for_stream("live", "term");
    let mut player = ffmpeg::record(&lab, "player", &url);
    thread::sleep(Duration::from_secs(2));
    server.program().signal(Signal::TERM);
    player.program.wait(Duration::from_secs(12));
    publisher.wait(Duration::from_secs(12));
    let status = server.program().wait(Duration::from_secs(12));
    assert_eq!(status.code(), Some(0), "the server ended with {status}");
    ffmpeg::expect_decodable(&player.path);
}

/// The chunk size is among the changes, because it is part of the tape and of what players were
/// told. A reload must not cost a player its position.
#[test]
fn sighup_reloads_and_a_broken_file_changes_nothing() {
    let needs = [Need::Program("ffmpeg"), Need::OwnServer];
    let Some(lab) = Lab::open("signal_hup", &needs) else { return };
    let server = Server::start(&lab);
    let url = server.url("live/hup");
    let clip = clip(Film::Main, 8);
    let publisher = ffmpeg::publish(&lab, "publisher", &clip, &url);
    server.wait_for_stream("live", "hup");
    let player = ffmpeg::record(&lab, "player", &url);
    let reloads = [
        "[publish]\nlinger_ms = 1500\n[rtmp]\nchunk_size = 128\n",
        "[publish]\nlingre_ms = 1500\n",
        "[publish]\nlinger_ms = 1000\n[rtmp]\nchunk_size = 4096\n",
    ];
    for settings in reloads {
        thread::sleep(Duration::from_secs(1));
        server.reload(settings);
    }
    thread::sleep(Duration::from_secs(1));
    let late_player = ffmpeg::record(&lab, "late_player", &url);
    publisher.finish(Duration::from_secs(15));
    for player in [player, late_player] {
        let span = player.finish(Duration::from_secs(10)).expect_contiguous_in(&clip.frames);
        assert_eq!(span.video.end, clip.frames.video.len(), "a reload cost a frame: {span:?}");
    }
    let log = server.log();
    assert!(log.contains("lingre_ms"), "the log does not name the bad key");
    assert!(log.contains("linger_ms 1500 -> 1000"), "the log does not name what changed");
    assert!(log.contains("rtmp.chunk_size"), "the log does not name the chunk size");
}
