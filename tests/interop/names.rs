//! A stream has one name, wherever a client splits its URL (PROTOCOL section 5.6).
//!
//! ffmpeg takes two path segments as the application, and searches for the last slash even after a
//! question mark.

use std::time::Duration;

use crate::lab::clip::{Film, clip};
use crate::lab::server::Server;
use crate::lab::{Lab, Need, ffmpeg};
use crate::support::peer::Peer;

#[test]
fn a_name_in_three_parts_is_played_from_either_cut() {
    let plays = [("live/a", "b"), ("live", "a/b"), ("/live/a/", "/b"), ("live/a/b", "")];
    publish_and_play("names_parts", "live/a/b", &plays);
}

#[test]
fn a_name_in_four_parts_is_played_from_either_cut() {
    let plays = [("live/a", "b/c"), ("live", "a/b/c"), ("live/a/b", "c")];
    publish_and_play("names_four", "live/a/b/c", &plays);
}

#[test]
fn a_query_is_not_part_of_the_name() {
    let plays = [("live", "q"), ("live", "q?other=2"), ("live?x=1", "q"), ("live", "/q?")];
    publish_and_play("names_query", "live/q?token=abc", &plays);
}

#[test]
fn a_slash_in_the_query_does_not_move_the_name() {
    let plays = [("live", "tok"), ("live", "tok?sig=other"), ("live/tok?sig=ab", "cd+e==")];
    publish_and_play("names_slash", "live/tok?sig=ab/cd+e==", &plays);
}

#[test]
fn an_encoded_name_equals_the_plain_one() {
    let plays = [("live", "my show"), ("live", "my%20show"), ("li%76e", "my%2520show")];
    publish_and_play("names_encoded", "live/my%20show", &plays);
}

#[test]
fn default_instances_and_formats_are_not_part_of_the_name() {
    let plays = [("live", "s"), ("live/_definst_", "s"), ("live", "mp4:s"), ("live", "s.mp4")];
    publish_and_play("names_format", "live/_definst_/s.mp4", &plays);
}

#[test]
fn a_whole_url_as_the_key_stands_for_its_path() {
    let plays = [("live", "s"), ("live", "rtmp://host/live/s"), ("live/rtmp:", "host/live/s")];
    publish_and_play("names_url", "live/rtmp://host/live/s", &plays);
}

#[test]
fn an_empty_key_is_refused_with_a_reason_that_ffmpeg_shows() {
    let needs = [Need::Program("ffmpeg"), Need::OwnServer];
    let Some(lab) = Lab::open("names_empty", &needs) else { return };
    let server = Server::start(&lab);
    for url in [server.url("live"), server.url("live/")] {
        let mut publisher = ffmpeg::publish(&lab, "publisher", &clip(Film::Main, 4), &url);
        let status = publisher.wait(Duration::from_secs(3));
        let printed = publisher.error_text();
        assert!(!status.success(), "{url} was accepted");
        assert!(printed.contains("Server error"), "ffmpeg shows no reason: {printed}");
    }
}

fn publish_and_play(test: &str, path: &str, plays: &[(&str, &str)]) {
    let needs = [Need::Program("ffmpeg"), Need::OwnServer];
    let Some(lab) = Lab::open(test, &needs) else { return };
    let server = Server::start(&lab);
    let clip = clip(Film::Main, 4);
    let _publisher = ffmpeg::publish(&lab, "publisher", &clip, &server.url(path));
    let recorder = ffmpeg::record(&lab, "player", &server.url(path));
    for (app, key) in plays {
        let mut player = Peer::playing_in(server.address(), app, key);
        let message = player.next_frame(Duration::from_secs(4));
        assert!(message.is_some(), "app {app:?} with key {key:?} plays nothing of {path}");
    }
    let span = recorder.finish(Duration::from_secs(10)).expect_contiguous_in(&clip.frames);
    assert_eq!(span.video.end, clip.frames.video.len(), "ffmpeg plays its own URL: {span:?}");
}
