//! A player that stops reading loses whole GOPs, and no other player loses a frame.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::lab::clip::{Film, clip};
use crate::lab::frames::{Frames, runs};
use crate::lab::server::Server;
use crate::lab::{Lab, Need, ffmpeg};
use crate::support::peer::Peer;

#[test]
fn tm_03_a_player_that_was_stopped_resumes_at_a_keyframe() {
    let needs = [Need::Program("ffmpeg"), Need::OwnServer];
    let Some(lab) = Lab::open("slow_player", &needs) else { return };
    let clip = clip(Film::Heavy, 14);
    let server = Server::start_with(&lab, SHORT_LAG);
    let url = server.url("live/heavy");
    let publisher = ffmpeg::publish(&lab, "publisher", &clip, &url);
    server.wait_for_stream("live", "heavy");
    let fast = ffmpeg::record(&lab, "fast", &url);
    let slow = ffmpeg::record(&lab, "slow", &url);
    thread::sleep(Duration::from_secs(2));
    slow.program.signal(Signal::STOP);
    thread::sleep(Duration::from_secs(7));
    slow.program.signal(Signal::CONT);
    publisher.finish(Duration::from_secs(20));

    let span = fast.finish(Duration::from_secs(10)).expect_contiguous_in(&clip.frames);
    assert_eq!(span.video.end, clip.frames.video.len(), "the fast player lost a frame");

    slow.program.finish(Duration::from_secs(10));
    let got = Frames::of(&slow.path);
    let video_runs = runs("video", &got.video, &clip.frames.video);
    println!("the stopped player received {video_runs:?}");
    assert!(video_runs.len() >= 2, "there was no gap, so nothing was tested: {video_runs:?}");
    for run in &video_runs {
        assert_eq!(run.start % clip.gop, 0, "a gap does not end at a keyframe: {video_runs:?}");
    }
    let last = video_runs.last().expect("two runs");
    assert_eq!(last.end, clip.frames.video.len(), "the player never caught up: {video_runs:?}");
    ffmpeg::expect_decodable(&slow.path);
}

#[test]
fn a_player_that_never_reads_is_closed_and_costs_the_others_nothing() {
    let needs = [Need::Program("ffmpeg"), Need::OwnServer];
    let Some(lab) = Lab::open("stalled_player", &needs) else { return };
    let clip = clip(Film::Heavy, 9);
    let server = Server::start_with(&lab, STALL);
    let url = server.url("live/stall");
    let publisher = ffmpeg::publish(&lab, "publisher", &clip, &url);
    server.wait_for_stream("live", "stall");
    let fast = ffmpeg::record(&lab, "fast", &url);
    let mut stalled = Peer::playing_in(server.address(), "live", "stall");
    publisher.finish(Duration::from_secs(20));
    while stalled.next_frame(Duration::from_secs(5)).is_some() {}
    assert!(stalled.is_over(), "a player that read nothing for seconds was kept");
    let span = fast.finish(Duration::from_secs(10)).expect_contiguous_in(&clip.frames);
    assert_eq!(span.video.end, clip.frames.video.len(), "the fast player lost a frame");
}

/// The socket buffers hold some seconds of the film. The rest must exceed this lag.
const SHORT_LAG: &str = "[publish]\nlinger_ms = 1000\n[play]\nlag_ms = 1000\n";

const STALL: &str = "[publish]\nlinger_ms = 6000\n[timeouts]\nplayer_stalled_ms = 2000\n";
