//! Streams whose timestamps cross 0xFFFFFF ms and become extended (conformance rows IN-03 and
//! CH-19). A live stream gets there after 4 h 39 min.

use std::time::Duration;

use crate::lab::clip::{Film, clip};
use crate::lab::frames::{Frames, run_of_vlc};
use crate::lab::server::Server;
use crate::lab::{Lab, Need, ffmpeg, players};
use crate::support::peer::Peer;

#[test]
fn in_03_players_cross_into_extended_timestamps_at_chunk_size_60000() {
    let Some(lab) = Lab::open("cross_60000", &NEEDS) else { return };
    // rtmpdump works only with chunks that hold whole messages: it expects no extended timestamp on
    // a type 3 chunk.
    cross(&lab, 60_000, true);
}

#[test]
fn in_03_players_cross_into_extended_timestamps_at_chunk_size_128() {
    let Some(lab) = Lab::open("cross_128", &NEEDS) else { return };
    cross(&lab, 128, false);
}

/// The peer here reads the extended timestamp on every type 3 chunk, as ffmpeg does. It would
/// lose synchronization at the first chunk without it.
#[test]
fn ch_19_extended_timestamp_is_on_every_type_3_chunk() {
    let needs = [Need::Program("ffmpeg"), Need::OwnServer];
    let Some(lab) = Lab::open("cross_raw", &needs) else { return };
    let clip = clip(Film::Main, 8);
    let server = Server::start_with(&lab, &settings(128));
    let url = server.url("live/late");
    let _publisher = ffmpeg::publish_with(&lab, "publisher", &clip, &LATE, &url);
    let mut player = Peer::playing_in(server.address(), "live", "late");
    let mut timestamps = Vec::new();
    let mut sizes = Vec::new();
    while let Some(message) = player.next_frame(Duration::from_secs(4)) {
        if message.is_video() {
            timestamps.push(message.timestamp);
            sizes.push(message.payload.len());
        }
    }
    // In addition to the pictures there are the sequence header and the end of sequence.
    let pictures = clip.frames.video.len();
    assert!((pictures..=pictures + 3).contains(&sizes.len()), "{} of {pictures}", sizes.len());
    let crossed = timestamps.iter().filter(|&&timestamp| timestamp > LAST_SHORT).count();
    assert!(crossed > 60 && crossed < pictures - 60, "{crossed} of {pictures} are extended");
    assert!(sizes.iter().any(|&size| size > 1000), "no message was split");
}

fn cross(lab: &Lab, chunk_size: usize, with_rtmpdump: bool) {
    let clip = clip(Film::Main, 9);
    let server = Server::start_with(lab, &settings(chunk_size));
    let url = server.url("live/late");
    let publisher = ffmpeg::publish_with(lab, "publisher", &clip, &LATE, &url);
    server.wait_for_stream("live", "late");
    let ffmpeg = ffmpeg::record(lab, "ffmpeg", &url);
    let rtmp2src = players::rtmp2src(lab, &url);
    let vlc = players::vlc(lab, &url);
    let rtmpdump = with_rtmpdump.then(|| players::rtmpdump(lab, &url));
    publisher.finish(Duration::from_secs(20));
    let end = Duration::from_secs(10);
    for player in [Some(ffmpeg), Some(rtmp2src), rtmpdump].into_iter().flatten() {
        let path = player.path.clone();
        expect_crossed(&player.finish(end), &clip.frames, &path.display().to_string());
    }
    vlc.program.finish(end);
    let pictures = Frames::of_pictures(&clip.path).video;
    let run = run_of_vlc(&Frames::of_pictures(&vlc.path).video, &pictures);
    assert!(run.start <= 90, "VLC joined too late for the crossing: {run:?}");
}

#[track_caller]
fn expect_crossed(got: &Frames, sent: &Frames, who: &str) {
    let span = got.expect_contiguous_in(sent);
    assert_eq!(span.video.end, sent.video.len(), "{who}: the end is missing: {span:?}");
    assert_eq!(span.audio.end, sent.audio.len(), "{who}: the end is missing: {span:?}");
    for (track, frames) in [("video", &got.video), ("audio", &got.audio)] {
        let (first, last) = (frames.first().expect("a start"), frames.last().expect("an end"));
        let crossing = i64::from(LAST_SHORT);
        assert!(
            first.dts < crossing && last.dts > crossing,
            "{who}: {track} from {} to {} does not cross {crossing}",
            first.dts,
            last.dts,
        );
    }
}

fn settings(chunk_size: usize) -> String {
    format!("[rtmp]\nchunk_size = {chunk_size}\n[publish]\nlinger_ms = 1000\n")
}

/// Timestamp offset: four seconds before the crossing.
const LATE: [&str; 2] = ["-output_ts_offset", "16773"];

/// The last timestamp that fits into the three bytes of a message header.
const LAST_SHORT: u32 = 0x00ff_fffe;

const NEEDS: [Need; 5] = [
    Need::Program("ffmpeg"),
    Need::Program("rtmpdump"),
    Need::Program("vlc"),
    Need::Element("rtmp2src"),
    Need::OwnServer,
];
