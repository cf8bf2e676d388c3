//! Recorded sessions of encoders reach players message by message. They include the codecs and the
//! multitrack of Enhanced RTMP, which not every ffmpeg can send.

use std::time::Duration;

use crate::lab::server::Server;
use crate::lab::{Lab, Need};
use crate::support::peer::{Peer, Recording};
use crate::support::wire::Message;

#[test]
fn h264_of_ffmpeg_is_relayed() {
    relay("ffmpeg5_publish_h264_aac", "cam");
}

#[test]
fn h264_of_gstreamer_is_relayed() {
    relay("gst_rtmp2sink_publish", "gst2");
    relay("gst_rtmpsink_publish", "gst1");
}

#[test]
fn h264_of_obs_is_relayed() {
    relay("obs29_publish", "obskey");
}

#[test]
fn hevc_with_opus_is_relayed() {
    relay("ffmpeg9_publish_hevc_opus", "hevc");
}

#[test]
fn av1_with_flac_is_relayed() {
    relay("ffmpeg9_publish_av1_flac", "av1");
}

#[test]
fn vp9_with_ac3_is_relayed() {
    relay("ffmpeg9_publish_vp9_ac3", "vp9");
}

#[test]
fn several_tracks_are_relayed() {
    relay("ffmpeg9_publish_multitrack", "multi");
}

#[test]
fn opus_without_pictures_is_relayed() {
    relay("ffmpeg9_publish_opus_only", "opus");
}

/// Expects an early player to receive every message as sent, and a late one to receive the headers
/// of all tracks and then every message of each track from its newest keyframe on.
fn relay(file: &str, key: &str) {
    let Some(lab) = Lab::open(&format!("recorded_{key}"), &[Need::OwnServer]) else { return };
    let server = Server::start(&lab);
    let recording = Recording::read(&format!("captures/{file}.client.bin"));
    let sent = &recording.frames;
    assert!(sent.len() > 40, "{file} holds {} messages", sent.len());

    let mut waiting = Peer::playing_in(server.address(), "live", key);
    let _publisher = recording.publish(server.address());
    for (index, sent) in sent.iter().enumerate() {
        expect_next(&mut waiting, sent, &format!("{file}, message {index}"));
    }

    let keyframe = sent.iter().rposition(|message| keyframe_track(message) == Some(0));
    let start = keyframe.map_or(sent.len(), |keyframe| start_of(&sent[..=keyframe]));
    let timestamp = sent[start.min(sent.len() - 1)].timestamp;
    let headers = sent[..start].iter();
    let mut headers: Vec<&Message> = headers.filter(|message| is_header(message)).collect();
    // Audio headers come first, each kind in the order of its tracks.
    headers.sort_by_key(|header| header.is_video());
    let mut late = Peer::playing_in(server.address(), "live", key);
    for header in headers {
        let header = Message { timestamp, ..header.clone() };
        expect_next(&mut late, &header, &format!("{file}, header for a late player"));
    }
    for (index, message) in sent.iter().enumerate().skip(start) {
        let too_early = keyframe.is_some_and(|keyframe| index < keyframe);
        if !(too_early && is_frame_of_first(message)) {
            expect_next(&mut late, message, &format!("{file}, message {index} to a late player"));
        }
    }
}

/// Returns where a late player starts if its first track starts with the last of these messages.
/// The encoder of a second track is some frames ahead of the first.
fn start_of(sent: &[Message]) -> usize {
    let second = sent.iter().rposition(|message| keyframe_track(message) == Some(1));
    second.unwrap_or(sent.len() - 1)
}

#[track_caller]
fn expect_next(player: &mut Peer, sent: &Message, which: &str) {
    let got = player.next_frame(Duration::from_secs(5));
    let got = got.unwrap_or_else(|| panic!("{which} did not arrive: {}", describe(sent)));
    assert!(is_same(&got, sent), "{which}: got {} instead of {}", describe(&got), describe(sent));
}

/// Returns whether a message was relayed unchanged. Its chunk stream and its message stream belong
/// to the connection.
fn is_same(got: &Message, sent: &Message) -> bool {
    (got.kind, got.timestamp, &got.payload) == (sent.kind, sent.timestamp, &sent.payload)
}

fn describe(message: &Message) -> String {
    let Message { kind, timestamp, payload, .. } = message;
    let begin = &payload[..payload.len().min(8)];
    format!("kind {kind} at {timestamp} ms, {} bytes, {begin:02x?}", payload.len())
}

/// Returns the video track of which the message is a keyframe.
fn keyframe_track(message: &Message) -> Option<u8> {
    let track = match packet_type(message) {
        PacketType::Legacy(1) | PacketType::Enhanced(1 | 3) => 0,
        PacketType::OneTrack(1 | 3) => *message.payload.get(6)?,
        _ => return None,
    };
    (message.is_video() && message.payload[0] & 0x70 == 0x10).then_some(track)
}

fn is_frame_of_first(message: &Message) -> bool {
    let is_frame =
        matches!(packet_type(message), PacketType::Legacy(1) | PacketType::Enhanced(1 | 3));
    message.is_video() && is_frame
}

/// Returns whether a decoder needs the message before all others: a sequence header, or in Enhanced
/// RTMP the layout of the channels or the colours.
fn is_header(message: &Message) -> bool {
    matches!(
        packet_type(message),
        PacketType::Legacy(0) | PacketType::Enhanced(0 | 4) | PacketType::OneTrack(0 | 4)
    )
}

/// Packet type, by the layout of the first two bytes.
enum PacketType {
    Legacy(u8),
    Enhanced(u8),
    /// A multitrack message with a single track.
    OneTrack(u8),
}

fn packet_type(message: &Message) -> PacketType {
    let [first, second, ..] = message.payload[..] else { return PacketType::Legacy(1) };
    let (is_enhanced, multitrack) =
        if message.is_video() { (first & 0x80 != 0, 6) } else { (first >> 4 == 9, 5) };
    match first & 0x0f {
        _ if !is_enhanced => PacketType::Legacy(second),
        kind if kind == multitrack => PacketType::OneTrack(second & 0x0f),
        kind => PacketType::Enhanced(kind),
    }
}
