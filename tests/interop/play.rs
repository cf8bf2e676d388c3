//! Every player can play what ffmpeg publishes (conformance rows IN-01 and HS-14).

use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::lab::clip::{Clip, Film, MAIN_CODECS, clip};
use crate::lab::frames::{Frames, Span, only_run, run_of_vlc};
use crate::lab::http_matrix::{Over, WebPlayer};
use crate::lab::matrix::{Client, Role};
use crate::lab::server::Server;
use crate::lab::{Lab, Need, ffmpeg, players};
use crate::support::peer::Peer;
use crate::support::program::Program;
use crate::support::wire::Message;

/// ffmpeg uses the digest handshake as publisher and as player. As player it checks the reply.
#[test]
fn in_01_hs_14_ffmpeg_plays_what_ffmpeg_publishes() {
    let needs = [Need::Program("ffmpeg")];
    let Some(lab) = Lab::open("play_ffmpeg", &needs) else { return };
    let show = Show::start(&lab, Film::Main);
    let player = ffmpeg::record(&lab, "player", &show.url);
    show.expect_played_to_the_end(&player.finish(END));
    lab.proves(Client::Ffmpeg, Role::Publishes, &MAIN_CODECS);
    lab.proves(Client::Ffmpeg, Role::Plays, &MAIN_CODECS);
}

#[test]
fn in_01_rtmpdump_plays() {
    let needs = [Need::Program("ffmpeg"), Need::Program("rtmpdump")];
    let Some(lab) = Lab::open("play_rtmpdump", &needs) else { return };
    let show = Show::start(&lab, Film::Main);
    let player = players::rtmpdump(&lab, &show.url);
    player.program.finish(END);
    show.expect_played_to_the_end(&Frames::of(&player.path));
    lab.proves(Client::Rtmpdump, Role::Plays, &MAIN_CODECS);
}

#[test]
fn in_01_gstreamer_rtmp2src_plays() {
    let needs = [Need::Program("ffmpeg"), Need::Element("rtmp2src")];
    let Some(lab) = Lab::open("play_rtmp2src", &needs) else { return };
    let show = Show::start(&lab, Film::Main);
    let player = players::rtmp2src(&lab, &show.url);
    player.program.finish(END);
    show.expect_played_to_the_end(&Frames::of(&player.path));
    lab.proves(Client::Rtmp2, Role::Plays, &MAIN_CODECS);
}

/// This element reconnects when a stream ends, so the test stops it.
#[test]
fn in_01_gstreamer_rtmpsrc_plays() {
    let needs = [Need::Program("ffmpeg"), Need::Element("rtmpsrc")];
    let Some(lab) = Lab::open("play_rtmpsrc", &needs) else { return };
    let mut show = Show::start(&lab, Film::Main);
    let player = players::rtmpsrc(&lab, &show.url);
    show.publisher.wait(END);
    thread::sleep(Duration::from_millis(500));
    drop(player.program);
    show.expect_played(&Frames::of_cut(&player.path));
    lab.proves(Client::Librtmp, Role::Plays, &MAIN_CODECS);
}

#[test]
fn in_01_vlc_plays() {
    let needs = [Need::Program("ffmpeg"), Need::Program("vlc")];
    let Some(lab) = Lab::open("play_vlc", &needs) else { return };
    let show = Show::start(&lab, Film::Main);
    let player = players::vlc(&lab, &show.url);
    player.program.finish(END);
    let sent = Frames::of_pictures(&show.clip.path).video;
    let got = Frames::of_pictures(&player.path).video;
    show.expect_run_of_pictures(&run_of_vlc(&got, &sent));
    lab.proves(Client::Vlc, Role::Plays, &MAIN_CODECS[..1]);
}

/// ffplay draws to SDL's dummy display. Its filter prints the checksum of every picture.
#[test]
fn in_01_ffplay_plays() {
    let needs = [Need::Program("ffmpeg"), Need::Program("ffplay")];
    let Some(lab) = Lab::open("play_ffplay", &needs) else { return };
    let show = Show::start(&lab, Film::Main);
    show.expect_run_of_pictures(&run_of_ffplay(&lab, &show));
    lab.proves(Client::Ffplay, Role::Plays, &MAIN_CODECS[..1]);
}

/// With the options of the README ffplay shows the first picture at once. A player that dropped the
/// keyframe with which the stream starts would show nothing of this film.
#[test]
fn ffplay_shows_the_keyframe_that_its_stream_begins_with() {
    let needs = [Need::Program("ffmpeg"), Need::Program("ffplay")];
    let Some(lab) = Lab::open("at_once_ffplay", &needs) else { return };
    let show = Show::start(&lab, Film::OneKeyframe);
    show.expect_run_of_pictures(&run_of_ffplay(&lab, &show));
}

/// Returns the range of the film that ffplay shows.
fn run_of_ffplay(lab: &Lab, show: &Show) -> Range<usize> {
    let mut player = players::ffplay(lab, &show.url);
    let status = player.wait(END);
    assert!(status.success(), "ffplay ended with {status}");
    let mut decoder = players::checksums_of(lab, &show.clip.path);
    decoder.wait(END);
    let sent = players::shown_pictures(&decoder);
    let got = players::shown_pictures(&player);
    only_run("pictures", &got, &sent)
}

/// Over HTTP the same bytes come as FLV. The players open that URL as they would open a file.
#[test]
fn ffmpeg_plays_flv_over_http_to_the_end() {
    let needs = [Need::Program("ffmpeg"), Need::OwnServer];
    let Some(lab) = Lab::open("http_ffmpeg", &needs) else { return };
    let show = Show::start(&lab, Film::Main);
    let player = ffmpeg::record(&lab, "player", &show.http_url());
    show.expect_played_to_the_end(&player.finish(END));
    lab.proves_over(WebPlayer::Ffmpeg, Over::Flv, &MAIN_CODECS);
}

/// The same packets come as MP4. The times of pictures are those of the film. Sound is counted in
/// samples, so its times in milliseconds may differ by one.
#[test]
fn ffmpeg_plays_mp4_over_http_to_the_end() {
    let needs = [Need::Program("ffmpeg"), Need::OwnServer];
    let Some(lab) = Lab::open("mp4_ffmpeg", &needs) else { return };
    let show = Show::start(&lab, Film::Main);
    let url = show.mp4_url();
    let mut got = ffmpeg::record(&lab, "player", &url).finish(END);
    assert!(got.audio.len() > 80, "{} frames of sound", got.audio.len());
    got.audio.clear();
    let span = got.expect_contiguous_in(&show.clip.frames);
    assert_eq!(span.video.start % show.clip.gop, 0, "no start at a keyframe: {span:?}");
    assert_eq!(span.video.end, show.clip.frames.video.len(), "the end is missing: {span:?}");
    lab.proves_over(WebPlayer::Ffmpeg, Over::Mp4, &MAIN_CODECS);
}

#[test]
fn vlc_plays_mp4_over_http() {
    let needs = [Need::Program("ffmpeg"), Need::Program("vlc"), Need::OwnServer];
    let Some(lab) = Lab::open("mp4_vlc", &needs) else { return };
    let show = Show::start(&lab, Film::Main);
    let url = show.mp4_url();
    let player = players::vlc(&lab, &url);
    player.program.finish(END);
    let sent = Frames::of_pictures(&show.clip.path).video;
    let got = Frames::of_pictures(&player.path).video;
    show.expect_run_of_pictures(&run_of_vlc(&got, &sent));
    lab.proves_over(WebPlayer::Vlc, Over::Mp4, &MAIN_CODECS[..1]);
}

#[test]
fn vlc_plays_flv_over_http() {
    let needs = [Need::Program("ffmpeg"), Need::Program("vlc"), Need::OwnServer];
    let Some(lab) = Lab::open("http_vlc", &needs) else { return };
    let show = Show::start(&lab, Film::Main);
    let player = players::vlc(&lab, &show.http_url());
    player.program.finish(END);
    let sent = Frames::of_pictures(&show.clip.path).video;
    let got = Frames::of_pictures(&player.path).video;
    show.expect_run_of_pictures(&run_of_vlc(&got, &sent));
    lab.proves_over(WebPlayer::Vlc, Over::Flv, &MAIN_CODECS[..1]);
}

#[test]
fn ffplay_plays_flv_over_http() {
    let needs = [Need::Program("ffmpeg"), Need::Program("ffplay"), Need::OwnServer];
    let Some(lab) = Lab::open("http_ffplay", &needs) else { return };
    let mut show = Show::start(&lab, Film::Main);
    show.url = show.http_url();
    show.expect_run_of_pictures(&run_of_ffplay(&lab, &show));
    lab.proves_over(WebPlayer::Ffplay, Over::Flv, &MAIN_CODECS[..1]);
}

#[test]
fn ffplay_plays_mp4_over_http() {
    let needs = [Need::Program("ffmpeg"), Need::Program("ffplay"), Need::OwnServer];
    let Some(lab) = Lab::open("mp4_ffplay", &needs) else { return };
    let mut show = Show::start(&lab, Film::Main);
    show.url = show.mp4_url();
    show.expect_run_of_pictures(&run_of_ffplay(&lab, &show));
    lab.proves_over(WebPlayer::Ffplay, Over::Mp4, &MAIN_CODECS[..1]);
}

#[test]
fn mpv_plays_flv_and_mp4_over_http() {
    let needs = [Need::Program("ffmpeg"), Need::Program("mpv"), Need::OwnServer];
    for over in [Over::Flv, Over::Mp4] {
        let Some(lab) = Lab::open(&format!("mpv_{over:?}").to_lowercase(), &needs) else { return };
        let show = Show::start(&lab, Film::Main);
        let url = if over == Over::Flv { show.http_url() } else { show.mp4_url() };
        players::mpv(&lab, &url).finish(END);
        let log = fs::read_to_string(lab.path("mpv.log")).expect("the log of mpv");
        let mut decoder = players::checksums_of(&lab, &show.clip.path);
        decoder.wait(END);
        let sent = players::shown_pictures(&decoder);
        let got = players::pictures_in(&log);
        show.expect_run_of_pictures(&only_run("pictures", &got, &sent));
        lab.proves_over(WebPlayer::Mpv, over, &MAIN_CODECS[..1]);
    }
}

/// The demultiplexers of GStreamer find every picture. The tests decode them to compare them.
#[test]
fn gstreamer_plays_flv_and_mp4_over_http() {
    let needs = [
        Need::Program("ffmpeg"),
        Need::Element("souphttpsrc"),
        Need::Element("flvdemux"),
        Need::Element("qtdemux"),
        Need::Element("h264parse"),
        Need::OwnServer,
    ];
    for (over, demux) in [(Over::Flv, "flvdemux"), (Over::Mp4, "qtdemux")] {
        let Some(lab) = Lab::open(&format!("gst_{demux}"), &needs) else { return };
        let show = Show::start(&lab, Film::Main);
        let url = if over == Over::Flv { show.http_url() } else { show.mp4_url() };
        let player = players::souphttpsrc(&lab, &url, demux);
        player.program.finish(END);
        let sent = Frames::of_pictures(&show.clip.path).video;
        let got = Frames::of_pictures(&player.path).video;
        show.expect_run_of_pictures(&only_run("pictures", &got, &sent));
        lab.proves_over(WebPlayer::GStreamer, over, &MAIN_CODECS[..1]);
    }
}

/// Without sound the header of the file must not name any, or players wait for it.
#[test]
fn a_video_only_stream_plays_over_http_with_a_header_that_names_no_sound() {
    let needs = [Need::Program("ffmpeg"), Need::OwnServer];
    let Some(lab) = Lab::open("http_video_only", &needs) else { return };
    let show = Show::start(&lab, Film::VideoOnly);
    let got = ffmpeg::record(&lab, "player", &show.http_url()).finish(END);
    show.expect_played_to_the_end(&got);
    assert!(got.audio.is_empty());
}

#[test]
fn an_audio_only_stream_plays() {
    let needs = [Need::Program("ffmpeg")];
    let Some(lab) = Lab::open("play_audio_only", &needs) else { return };
    let show = Show::start(&lab, Film::AudioOnly);
    let got = ffmpeg::record(&lab, "player", &show.url).finish(END);
    let span = got.expect_contiguous_in(&show.clip.frames);
    assert_eq!(span.audio.end, show.clip.frames.audio.len(), "the end is missing: {span:?}");
    assert!(span.audio.len() > 100 && got.video.is_empty(), "{span:?}");
}

#[test]
fn a_video_only_stream_plays() {
    let needs = [Need::Program("ffmpeg")];
    let Some(lab) = Lab::open("play_video_only", &needs) else { return };
    let show = Show::start(&lab, Film::VideoOnly);
    let got = ffmpeg::record(&lab, "player", &show.url).finish(END);
    show.expect_played_to_the_end(&got);
    assert!(got.audio.is_empty());
}

/// The first picture arrives at once, although the next keyframe is up to two seconds away.
#[test]
fn late_join_starts_at_once_with_the_newest_keyframe() {
    let needs = [Need::Program("ffmpeg"), Need::OwnServer];
    let Some(lab) = Lab::open("late_join", &needs) else { return };
    let show = Show::start(&lab, Film::LongGop);
    // Join in the middle of a GOP, as observed by an earlier player.
    let mut witness = Peer::playing_in(show.server.address(), "live", &show.key);
    let (mut keyframes, mut since, mut newest) = (0, 0, 0);
    while keyframes < 2 || since < PICTURES {
        let message = witness.next_frame(Duration::from_secs(5)).expect("media arrives");
        if is_picture(&message) {
            keyframes += usize::from(message.is_keyframe());
            since = if message.is_keyframe() { 0 } else { since + 1 };
            newest = message.timestamp;
        }
    }
    let mut player = Peer::playing_in(show.server.address(), "live", &show.key);
    let mut messages = Vec::new();
    while messages.iter().filter(|message| is_picture(message)).count() < PICTURES {
        let message = player.next_frame(Duration::from_secs(5)).expect("media comes");
        messages.push(message);
    }
    // All of them had been sent before the player joined.
    let last = messages.last().expect("messages").timestamp;
    assert!(last <= newest, "picture {PICTURES} is of {last} ms, but the newest is of {newest} ms");
    let mut video = messages.iter().filter(|message| message.is_video());
    assert!(video.next().is_some_and(|first| first.is_video_config()), "no configuration first");
    assert!(video.next().is_some_and(|second| second.is_keyframe()), "no keyframe second");
    let recorder = ffmpeg::record(&lab, "player", &show.url);
    show.expect_played_to_the_end(&recorder.finish(END));
}

#[test]
fn a_player_may_wait_for_a_stream_that_is_not_there_yet() {
    let needs = [Need::Program("ffmpeg")];
    let Some(lab) = Lab::open("play_early", &needs) else { return };
    let server = Server::start(&lab);
    let url = server.url("live/early");
    let player = ffmpeg::record(&lab, "player", &url);
    thread::sleep(Duration::from_millis(1500));
    let clip = clip(Film::Main, 4);
    let _publisher = ffmpeg::publish(&lab, "publisher", &clip, &url);
    let span = player.finish(END).expect_contiguous_in(&clip.frames);
    assert_eq!(span.video, 0..clip.frames.video.len());
    assert_eq!(span.audio, 0..clip.frames.audio.len());
}

/// A film that is published for long enough that a player joins late.
struct Show {
    server: Server,
    publisher: Program,
    clip: Arc<Clip>,
    key: String,
    url: String,
}

impl Show {
    fn start(lab: &Lab, film: Film) -> Self {
        let seconds = if film == Film::LongGop { 9 } else { 6 };
        let clip = clip(film, seconds);
        let server = Server::start(lab);
        let key = lab.name().to_owned();
        let url = server.url(&format!("live/{key}"));
        let publisher = ffmpeg::publish(lab, "publisher", &clip, &url);
        server.wait_for_stream("live", &key);
        thread::sleep(Duration::from_millis(1300));
        Self { server, publisher, clip, key, url }
    }

    fn http_url(&self) -> String {
        self.server.http_url(&format!("live/{}.flv", self.key))
    }

    fn mp4_url(&self) -> String {
        self.server.http_url(&format!("live/{}.mp4", self.key))
    }

    /// Expects a start at a keyframe and no gap after it.
    #[track_caller]
    fn expect_played(&self, got: &Frames) -> Span {
        let span = got.expect_contiguous_in(&self.clip.frames);
        got.expect_configs_of(&self.clip.frames);
        assert_eq!(span.video.start % self.clip.gop, 0, "no start at a keyframe: {span:?}");
        assert!(span.video.len() >= 60, "too little video: {span:?}");
        assert!(got.audio.is_empty() || span.audio.len() > 80, "too little audio: {span:?}");
        span
    }

    #[track_caller]
    fn expect_played_to_the_end(&self, got: &Frames) {
        let span = self.expect_played(got);
        let sent = &self.clip.frames;
        assert_eq!(span.video.end, sent.video.len(), "the end is missing: {span:?}");
        assert_eq!(span.audio.end, sent.audio.len(), "the end is missing: {span:?}");
    }

    #[track_caller]
    fn expect_run_of_pictures(&self, run: &Range<usize>) {
        assert_eq!(run.start % self.clip.gop, 0, "no start at a keyframe: {run:?}");
        assert!(run.len() >= 60, "too few pictures: {run:?}");
    }
}

fn is_picture(message: &Message) -> bool {
    message.is_video() && !message.is_video_config()
}

/// Pictures that a late player receives at once.
const PICTURES: usize = 20;
/// Longer than a film plus the linger time.
const END: Duration = Duration::from_secs(25);
