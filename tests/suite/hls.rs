//! Players of HLS: what RFC 8216bis demands of playlists and segments, requests that wait for what
//! comes next, and what a stream costs that nobody watches.

use allocation_counter::measure;
use tiderace::config::Settings;
use tiderace::limits::{
    HLS_ANSWER_BYTES_PER_TURN_MAX, HLS_ANSWERS_PER_TURN_MAX, HLS_LISTED_PARTS_MAX,
    HLS_PART_SAMPLES_MAX, MIB, READ_BYTES_OF_ALL_PER_TURN_MAX, WRITE_BYTES_OF_ALL_PER_TURN_MAX,
};
use tiderace::media::MediaKind;
use tiderace::media::flv::FlvReader;
use tiderace::server::judge::{JudgedCommand, OutsideJudge, Refused};
use tiderace::server::memory::MemoryLevel;
use tiderace::server::reason::CloseReason;
use tiderace::stream::parts::RenditionKind;

use crate::socket::is_about_sockets;
use crate::web::{ALL, Response};
use crate::wire::{AUDIO, Message, VIDEO};
use crate::world::{ClientHandle, World};

/// Time of a frame at 25 frames a second, and of a frame of sound with 1024 samples at 48 kHz.
const FRAME_MS: u64 = 40;
const SOUND_US: u64 = 21_333;

/// A camera that publishes `live/cam` in real time.
struct Camera {
    world: World,
    publisher: ClientHandle,
    /// Frames between two keyframes.
    gop_frames: u64,
    began_ms: u64,
    frames: u64,
    sounds: u64,
    has_sound: bool,
    /// Bytes that each picture has in addition.
    padding: usize,
}

/// The sequence headers of video and sound in a file by ffmpeg.
fn headers() -> [Vec<u8>; 2] {
    let mut reader = FlvReader::new(include_bytes!("../vectors/ffmpeg5_h264_aac.flv")).unwrap();
    let mut found = [Vec::new(), Vec::new()];
    while let Some(tag) = reader.next_tag().unwrap() {
        match tag.media {
            MediaKind::Video if tag.payload.get(1) == Some(&0) => found[0] = tag.payload.to_vec(),
            MediaKind::Audio if tag.payload.get(1) == Some(&0) => found[1] = tag.payload.to_vec(),
            _ => {}
        }
    }
    found
}

fn video(number: u64, is_key: bool) -> Vec<u8> {
    let (head, nal) = if is_key { (0x17, 0x65) } else { (0x27, 0x41) };
    [&[head, 1, 0, 0, 0, 0, 0, 0, 9, nal][..], &number.to_be_bytes()].concat()
}

impl Camera {
    fn new(settings: Settings, gop_frames: u64, has_sound: bool) -> Self {
        let mut world = World::new(settings);
        let publisher = world.publishing("cam");
        let began_ms = world.now().as_micros() / 1000;
        let mut camera = Self {
            world,
            publisher,
            gop_frames,
            began_ms,
            frames: 0,
            sounds: 0,
            has_sound,
            padding: 0,
        };
        camera.send_headers();
        camera
    }

    /// A camera with a GOP of two seconds that has run for a while.
    fn running() -> Self {
        let mut camera = Self::new(Settings::default(), 50, true);
        camera.run_ms(5000);
        camera
    }

    fn send_headers(&mut self) {
        let [video, audio] = headers();
        let at = self.now_ms() as u32;
        let mut messages = vec![Message::new(6, VIDEO, video).on(1).at(at)];
        if self.has_sound {
            messages.push(Message::new(4, AUDIO, audio).on(1).at(at));
        }
        self.world.say(self.publisher, &messages);
    }

    /// The time since the stream began, which is that of its timestamps (ms).
    fn now_ms(&self) -> u64 {
        self.world.now().as_micros() / 1000 - self.began_ms
    }

    /// Publishes for this long, each frame when it is due.
    fn run_ms(&mut self, millis: u64) {
        let end = self.now_ms() + millis;
        loop {
            let picture_ms = self.frames * FRAME_MS;
            let sound_ms = self.sounds * SOUND_US / 1000;
            let due = if self.has_sound { picture_ms.min(sound_ms) } else { picture_ms };
            if due >= end {
                break;
            }
            if due > self.now_ms() {
                self.world.advance_ms(due - self.now_ms());
            }
            let message = if due == picture_ms {
                let is_key = self.frames.is_multiple_of(self.gop_frames);
                self.frames += 1;
                let mut payload = video(self.frames - 1, is_key);
                payload.resize(payload.len() + self.padding, 7);
                Message::new(6, VIDEO, payload)
            } else {
                self.sounds += 1;
                Message::new(4, AUDIO, [&[0xaf, 1][..], &self.sounds.to_be_bytes()].concat())
            };
            self.world.say(self.publisher, &[message.on(1).at(due as u32)]);
        }
        if end > self.now_ms() {
            self.world.advance_ms(end - self.now_ms());
        }
    }

    /// Stops sending for this long. The frames of that time are never sent.
    fn pause_ms(&mut self, millis: u64) {
        self.world.advance_ms(millis);
        let now_ms = self.now_ms();
        self.frames = now_ms / (FRAME_MS * self.gop_frames) * self.gop_frames;
        if self.frames * FRAME_MS < now_ms {
            self.frames += self.gop_frames;
        }
        self.sounds = now_ms * 1000 / SOUND_US + 1;
    }

    /// Sends a request on a new connection, which may wait for its answer.
    fn send(&mut self, path: &str) -> ClientHandle {
        self.send_with("GET", path)
    }

    fn send_with(&mut self, method: &str, path: &str) -> ClientHandle {
        let client = self.world.connect_http(ALL);
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost:8080\r\n\r\n");
        self.world[client].send_raw(request.as_bytes());
        self.world.run();
        client
    }

    /// Sends another request on a connection, and returns the responses to all of them.
    fn ask_again(&mut self, client: ClientHandle, path: &str) -> Vec<u8> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost:8080\r\n\r\n");
        self.world[client].send_raw(request.as_bytes());
        self.world.run();
        self.world[client].received().to_vec()
    }

    /// The viewers of a stream over HLS, as the API tells it.
    fn viewers(&mut self, name: &str) -> u64 {
        let streams = self.get(&format!("/api/v1/streams?name=live/{name}")).text();
        let streams: serde_json::Value = serde_json::from_str(&streams).unwrap();
        streams["streams"][0]["players"]["hls"].as_u64().unwrap()
    }

    /// The log of a stream, if there is one.
    fn has_log(&self, name: &str) -> bool {
        let hub = self.world.server.hub();
        hub.find(&format!("live/{name}")).is_some_and(|channel| channel.parts().is_some())
    }

    /// Publishes the beginning of another stream with both media.
    fn publish_other(&mut self, name: &str) -> ClientHandle {
        self.publish_large(name, 13)
    }

    /// Publishes the beginning of a stream whose keyframe has this many bytes.
    fn publish_large(&mut self, name: &str, bytes: usize) -> ClientHandle {
        let publisher = self.world.publishing(name);
        let [picture, sound] = headers();
        let mut keyframe = video(0, true);
        keyframe.resize(bytes, 7);
        let messages = [
            Message::new(6, VIDEO, picture),
            Message::new(4, AUDIO, sound),
            Message::new(6, VIDEO, keyframe),
            Message::new(4, AUDIO, vec![0xaf, 1, 0]),
            Message::new(6, VIDEO, video(1, false)),
        ];
        let at = |(index, message): (u32, Message)| message.on(1).at(40 * index);
        let messages: Vec<_> = (0..).zip(messages).map(at).collect();
        self.world.say(publisher, &messages);
        publisher
    }

    fn is_answered(&self, client: ClientHandle) -> bool {
        !self.world[client].received().is_empty()
    }

    fn reply(&self, client: ClientHandle) -> Response {
        Response::of(self.world[client].received())
    }

    /// Asks for something that exists.
    fn get(&mut self, path: &str) -> Response {
        let client = self.send(path);
        self.reply(client)
    }

    fn playlist(&mut self, kind: &str) -> Playlist {
        self.playlist_with(kind, "")
    }

    fn playlist_with(&mut self, kind: &str, query: &str) -> Playlist {
        let reply = self.get(&format!("/live/cam/{kind}.m3u8{query}"));
        assert_eq!(reply.status, 200, "{}", reply.head);
        Playlist::of(&reply.text())
    }

    /// Publishes for this long, while a player asks for the playlist now and then.
    fn run_watched_ms(&mut self, millis: u64) {
        for _ in 0..millis / 5000 {
            self.run_ms(5000);
            let _ = self.playlist("video");
        }
        self.run_ms(millis % 5000);
    }

    /// Begins the log, and publishes until its first segment is complete.
    fn watch(&mut self) {
        assert_eq!(self.get("/live/cam/index.m3u8").status, 200);
        self.run_ms((self.gop_frames * FRAME_MS).max(2000));
    }

    fn file(&mut self, uri: &str) -> Response {
        self.get(&format!("/live/cam/{uri}"))
    }
}

/// A part as a playlist lists it.
#[derive(Clone, Debug, PartialEq)]
struct ListedPart {
    duration_ms: u64,
    uri: String,
    is_independent: bool,
}

/// A segment as a playlist lists it.
#[derive(Clone, Debug, Default, PartialEq)]
struct ListedSegment {
    /// `None` while it is not complete.
    duration_ms: Option<u64>,
    uri: String,
    parts: Vec<ListedPart>,
    map: String,
    date: Option<String>,
    is_discontinuous: bool,
}

/// A media playlist, read as a player reads it.
#[derive(Clone, Debug, Default)]
struct Playlist {
    text: String,
    version: u64,
    target_ms: u64,
    part_target_ms: u64,
    can_skip_until_ms: u64,
    part_hold_back_ms: u64,
    hold_back_ms: u64,
    first_msn: u64,
    discontinuities: u64,
    skipped: u64,
    segments: Vec<ListedSegment>,
    hint: Option<String>,
    /// `LAST-MSN` and `LAST-PART` of the other renditions.
    reports: Vec<(String, u64, u64)>,
    is_over: bool,
}

fn attribute<'t>(list: &'t str, name: &str) -> Option<&'t str> {
    let at = list.match_indices(name).map(|(at, _)| at);
    let is_whole = |at: &usize| {
        (*at == 0 || list.as_bytes()[at - 1] == b',') && list[at + name.len()..].starts_with('=')
    };
    let rest = &list[at.into_iter().find(is_whole)? + name.len() + 1..];
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split(',').next(),
    }
}

/// A decimal number of seconds in milliseconds.
fn millis(text: &str) -> u64 {
    (text.parse::<f64>().unwrap() * 1000.0).round() as u64
}

impl Playlist {
    fn of(text: &str) -> Self {
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("#EXTM3U"), "section 4.4.1.1");
        let mut playlist = Self { text: text.to_owned(), ..Self::default() };
        let mut map = String::new();
        let mut segment = ListedSegment::default();
        for line in lines {
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            match tag {
                "#EXT-X-VERSION" => playlist.version = value.parse().unwrap(),
                "#EXT-X-TARGETDURATION" => {
                    playlist.target_ms = value.parse::<u64>().unwrap() * 1000;
                }
                "#EXT-X-SERVER-CONTROL" => {
                    assert_eq!(attribute(value, "CAN-BLOCK-RELOAD"), Some("YES"));
                    let ms = |name| millis(attribute(value, name).unwrap());
                    playlist.can_skip_until_ms = ms("CAN-SKIP-UNTIL");
                    playlist.part_hold_back_ms = ms("PART-HOLD-BACK");
                    playlist.hold_back_ms = ms("HOLD-BACK");
                }
                "#EXT-X-PART-INF" => {
                    playlist.part_target_ms = millis(attribute(value, "PART-TARGET").unwrap());
                }
                "#EXT-X-MEDIA-SEQUENCE" => playlist.first_msn = value.parse().unwrap(),
                "#EXT-X-DISCONTINUITY-SEQUENCE" => {
                    playlist.discontinuities = value.parse().unwrap();
                }
                "#EXT-X-SKIP" => {
                    playlist.skipped =
                        attribute(value, "SKIPPED-SEGMENTS").unwrap().parse().unwrap();
                }
                "#EXT-X-DISCONTINUITY" => segment.is_discontinuous = true,
                "#EXT-X-MAP" => map = attribute(value, "URI").unwrap().to_owned(),
                "#EXT-X-PROGRAM-DATE-TIME" => segment.date = Some(value.to_owned()),
                "#EXT-X-PART" => segment.parts.push(ListedPart {
                    duration_ms: millis(attribute(value, "DURATION").unwrap()),
                    uri: attribute(value, "URI").unwrap().to_owned(),
                    is_independent: attribute(value, "INDEPENDENT") == Some("YES"),
                }),
                "#EXTINF" => segment.duration_ms = Some(millis(value.trim_end_matches(','))),
                "#EXT-X-PRELOAD-HINT" => {
                    assert_eq!(attribute(value, "TYPE"), Some("PART"));
                    playlist.hint = Some(attribute(value, "URI").unwrap().to_owned());
                }
                "#EXT-X-RENDITION-REPORT" => {
                    let number = |name| attribute(value, name).unwrap().parse().unwrap();
                    let uri = attribute(value, "URI").unwrap().to_owned();
                    playlist.reports.push((uri, number("LAST-MSN"), number("LAST-PART")));
                }
                "#EXT-X-ENDLIST" => playlist.is_over = true,
                _ => {
                    assert!(!line.starts_with('#'), "no such tag: {line}");
                    segment.uri = line.to_owned();
                    segment.map.clone_from(&map);
                    playlist.segments.push(std::mem::take(&mut segment));
                }
            }
        }
        if !segment.parts.is_empty() {
            segment.map.clone_from(&map);
            playlist.segments.push(segment);
        }
        playlist
    }

    /// The segments that are complete, with their media sequence numbers.
    fn complete(&self) -> impl Iterator<Item = (u64, &ListedSegment)> {
        let first = self.first_msn + self.skipped;
        (first..).zip(&self.segments).filter(|(_, segment)| segment.duration_ms.is_some())
    }

    fn last_msn(&self) -> u64 {
        self.complete().last().map_or(self.first_msn - 1, |(msn, _)| msn)
    }

    /// The duration of the playlist (ms).
    fn duration_ms(&self) -> u64 {
        let parts = |s: &ListedSegment| s.parts.iter().map(|part| part.duration_ms).sum();
        self.segments.iter().map(|s| s.duration_ms.unwrap_or_else(|| parts(s))).sum()
    }

    /// Checks the rules that hold for each playlist by itself.
    fn check(&self) {
        let text = &self.text;
        assert_eq!(self.version, 9, "section 8: EXT-X-SKIP needs version 9");
        assert!(self.can_skip_until_ms >= 6 * self.target_ms, "section 4.4.3.8: {text}");
        assert!(self.hold_back_ms >= 3 * self.target_ms, "section 4.4.3.8: {text}");
        assert!(self.part_hold_back_ms >= 3 * self.part_target_ms, "Apple's rule: {text}");
        assert!(self.first_msn > 0, "some players mishandle 0");
        for segment in &self.segments {
            assert!(!segment.map.is_empty() || self.skipped > 0, "section 3.1.2: {text}");
            assert!(segment.date.as_ref().is_some_and(|date| date.ends_with('Z')), "{text}");
            if let Some(ms) = segment.duration_ms {
                let rounded = (ms + 500) / 1000 * 1000;
                assert!(rounded <= self.target_ms, "section 4.4.3.1: {ms} ms in {text}");
                let sum: u64 = segment.parts.iter().map(|part| part.duration_ms).sum();
                assert!(segment.parts.is_empty() || sum == ms, "section 4.4.4.9: {text}");
            }
            for (index, part) in segment.parts.iter().enumerate() {
                let ms = part.duration_ms;
                assert!(ms <= self.part_target_ms, "section 4.4.4.9: {ms} ms in {text}");
                let is_last = segment.duration_ms.is_some() && index + 1 == segment.parts.len();
                let is_long = ms * 100 >= self.part_target_ms * 85;
                assert!(is_long || is_last, "section 4.4.4.9: {ms} ms in {text}");
            }
        }
        assert_eq!(self.hint.is_none(), self.is_over, "{text}");
    }
}

/// The samples of the fragments in `bytes`: those of [`video`] by their numbers.
fn numbers_of(bytes: &[u8]) -> Vec<u64> {
    let mut numbers = Vec::new();
    let mut rest = bytes;
    while let Some((len, _)) = rest.split_first_chunk::<4>() {
        let (whole, after) = rest.split_at(u32::from_be_bytes(*len) as usize);
        if &whole[4..8] == b"mdat" {
            for sample in whole[8..].chunks(13) {
                numbers.push(u64::from_be_bytes(sample[5..].try_into().unwrap()));
            }
        }
        rest = after;
    }
    numbers
}

#[test]
fn the_multivariant_playlist_names_codecs_size_rate_and_renditions() {
    let mut camera = Camera::running();
    let reply = camera.get("/live/cam/index.m3u8");
    assert!(reply.head.contains("Content-Type: application/vnd.apple.mpegurl\r\n"));
    assert!(reply.head.contains("Cache-Control: no-cache\r\n"), "{}", reply.head);
    let text = reply.text();
    let stream = text.lines().find_map(|line| line.strip_prefix("#EXT-X-STREAM-INF:")).unwrap();
    let codecs = attribute(stream, "CODECS").unwrap();
    assert!(codecs.starts_with("avc1.") && codecs.ends_with(",mp4a.40.2"), "{codecs}");
    assert!(attribute(stream, "RESOLUTION").is_some_and(|size| size.contains('x')), "{text}");
    assert_eq!(attribute(stream, "FRAME-RATE"), Some("25.000"));
    assert!(attribute(stream, "BANDWIDTH").unwrap().parse::<u64>().unwrap() > 1000);
    let group = attribute(stream, "AUDIO").unwrap();
    let media = text.lines().find_map(|line| line.strip_prefix("#EXT-X-MEDIA:")).unwrap();
    assert_eq!(attribute(media, "TYPE"), Some("AUDIO"));
    assert_eq!(attribute(media, "GROUP-ID"), Some(group), "section 4.4.6.2.1");
    assert_eq!(attribute(media, "URI"), Some("audio.m3u8"));
    assert_eq!(text.lines().last(), Some("video.m3u8"));
    let alias = camera.get("/live/cam.m3u8").text();
    assert_eq!(alias.lines().last(), Some("cam/video.m3u8"), "the other URL of it");
}

#[test]
fn parts_and_segments_have_the_lengths_that_the_specification_allows() {
    for (gop_frames, target_ms) in [(25, 2000), (50, 2000), (75, 3000), (125, 5000), (13, 2000)] {
        let mut camera = Camera::new(Settings::default(), gop_frames, true);
        camera.run_ms(12_000);
        camera.watch();
        for _ in 0..40 {
            camera.run_ms(480);
            for kind in ["video", "audio"] {
                camera.playlist(kind).check();
            }
        }
        let playlist = camera.playlist("video");
        assert_eq!(playlist.target_ms, target_ms, "GOP of {gop_frames} frames");
        for segment in playlist.segments.iter().filter(|segment| !segment.parts.is_empty()) {
            assert!(segment.parts[0].is_independent, "a segment begins with a keyframe");
        }
    }
}

#[test]
fn a_segment_is_its_parts_and_holds_each_frame_once() {
    let mut camera = Camera::running();
    camera.watch();
    camera.run_ms(6000);
    let playlist = camera.playlist("video");
    let mut frames = Vec::new();
    for segment in &playlist.segments {
        let parts: Vec<_> = segment.parts.iter().map(|part| camera.file(&part.uri).body).collect();
        let whole = match segment.duration_ms {
            Some(_) => camera.file(&segment.uri).body,
            None => parts.concat(),
        };
        assert!(parts.is_empty() || parts.concat() == whole, "section 4.4.4.9");
        frames.extend(numbers_of(&whole));
    }
    assert!(frames.windows(2).all(|pair| pair[1] == pair[0] + 1), "{frames:?}");
    assert_eq!(frames[0] % 50, 0, "it begins with a keyframe");
    let init = camera.file(&playlist.segments[0].map);
    assert!(init.status == 200 && &init.body[4..8] == b"ftyp", "{}", init.head);
    assert!(init.head.contains("Cache-Control: public, max-age=3600, immutable"), "{}", init.head);
    assert!(init.head.contains("Content-Type: video/mp4\r\n"), "{}", init.head);
}

#[test]
fn a_reload_waits_for_the_segment_or_the_part_that_it_names() {
    let mut camera = Camera::running();
    camera.watch();
    let before = camera.playlist("video");
    let (msn, part) = (before.last_msn() + 1, before.segments.last().unwrap().parts.len());
    let next = camera.send(&format!("/live/cam/video.m3u8?_HLS_msn={msn}&_HLS_part={part}"));
    let whole = camera.send(&format!("/live/cam/video.m3u8?_HLS_msn={msn}"));
    // A part after the last of its segment is the first of the next one.
    let beyond = camera.send(&format!("/live/cam/video.m3u8?_HLS_msn={msn}&_HLS_part=60"));
    assert!(![next, whole, beyond].iter().any(|client| camera.is_answered(*client)));
    camera.run_ms(600);
    assert!(camera.is_answered(next) && !camera.is_answered(whole));
    let playlist = Playlist::of(&camera.reply(next).text());
    assert_eq!(playlist.segments.last().unwrap().parts.len(), part + 1);
    camera.run_ms(1400);
    assert!(camera.is_answered(whole));
    assert_eq!(Playlist::of(&camera.reply(whole).text()).last_msn(), msn);
    camera.run_ms(600);
    let playlist = Playlist::of(&camera.reply(beyond).text());
    assert!(playlist.last_msn() == msn && playlist.segments.last().unwrap().parts.len() == 1);
}

#[test]
fn a_reload_that_can_never_be_answered_is_refused() {
    let mut camera = Camera::running();
    camera.watch();
    let last = camera.playlist("video").last_msn();
    let too_far = format!("_HLS_msn={}", last + 3);
    for (query, status) in [
        ("_HLS_part=1", 400),
        ("_HLS_msn=x", 400),
        ("_HLS_msn=-1", 400),
        ("_HLS_skip=NO", 400),
        (&too_far, 400),
        ("_HLS_msn=0", 200),
        ("_HLS_skip=v2", 200),
    ] {
        let reply = camera.get(&format!("/live/cam/video.m3u8?{query}"));
        assert_eq!(reply.status, status, "section 6.2.5.2: {query}");
    }
    // The encoder pauses, and the server gives up after three target durations.
    let held = camera.send(&format!("/live/cam/video.m3u8?_HLS_msn={}", last + 2));
    camera.world.advance_ms(5999);
    assert!(!camera.is_answered(held));
    camera.world.advance_ms(1);
    assert_eq!(camera.reply(held).status, 503);
    assert!(!camera.world[held].is_closed(), "it may ask again");
}

#[test]
fn a_part_is_held_until_it_is_whole_if_it_comes_next_and_not_found_otherwise() {
    let mut camera = Camera::running();
    camera.watch();
    let hint = camera.playlist("video").hint.unwrap();
    let held = camera.send(&format!("/live/cam/{hint}"));
    assert!(!camera.is_answered(held));
    camera.run_ms(520);
    let reply = camera.reply(held);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.body, camera.file(&hint).body, "as it is later");
    let (run, _) = hint.split_once('/').unwrap();
    for file in ["v999.m4s", "v1.60.m4s", "vinit7.mp4", "x1.m4s", "v01.m4s", "v1.m4s.m4s"] {
        let reply = camera.file(&format!("{run}/{file}"));
        assert_eq!(reply.status, 404, "{file}");
        assert!(reply.head.contains("Cache-Control: no-store\r\n"), "{file}: {}", reply.head);
    }
    assert_eq!(camera.file("0123456789abcdef/v1.m4s").status, 404, "another run of the stream");
}

#[test]
fn a_delta_update_is_the_playlist_without_its_old_segments() {
    let mut camera = Camera::running();
    camera.watch();
    let early = camera.playlist_with("video", "?_HLS_skip=YES");
    assert_eq!(early.skipped, 0, "nothing is old enough");
    camera.run_watched_ms(30_000);
    let whole = camera.playlist("video");
    let delta = camera.playlist_with("video", "?_HLS_skip=YES");
    assert!(delta.skipped > 0, "{}", delta.text);
    assert_eq!(delta.first_msn, whole.first_msn);
    let rest = &whole.segments[delta.skipped as usize..];
    let same = |a: &ListedSegment, b: &ListedSegment| (a.uri == b.uri) && a.parts == b.parts;
    assert!(rest.iter().zip(&delta.segments).all(|(a, b)| same(a, b)), "{}", delta.text);
    assert_eq!(rest.len(), delta.segments.len());
    assert!(delta.duration_ms() >= delta.can_skip_until_ms, "section 6.2.5.1: {}", delta.text);
}

#[test]
fn segments_stay_for_as_long_as_players_may_ask_for_them() {
    let mut camera = Camera::running();
    camera.watch();
    let mut listed: Vec<(u64, String)> = Vec::new();
    let mut last_first = 1;
    for _ in 0..40 {
        camera.run_ms(2000);
        let playlist = camera.playlist("video");
        playlist.check();
        assert!(playlist.first_msn >= last_first, "section 6.2.2");
        last_first = playlist.first_msn;
        let now_ms = camera.now_ms();
        for (_, segment) in playlist.complete() {
            match listed.iter_mut().find(|(_, uri)| *uri == segment.uri) {
                Some((seen_ms, _)) => *seen_ms = now_ms,
                None => listed.push((now_ms, segment.uri.clone())),
            }
        }
        let stays_ms = playlist.target_ms + playlist.duration_ms();
        let owed = listed.iter().filter(|(seen_ms, _)| seen_ms + stays_ms >= now_ms);
        let owed: Vec<_> = owed.map(|(_, uri)| uri.clone()).collect();
        for uri in owed {
            assert_eq!(camera.file(&uri).status, 200, "section 6.2.2: {uri}");
        }
    }
    let playlist = camera.playlist("video");
    assert!(playlist.duration_ms() >= 3 * playlist.target_ms, "section 6.2.2");
    let gone = camera.file(&listed[0].1.clone());
    assert_eq!(gone.status, 404, "segments are dropped in the end");
}

#[test]
fn target_durations_never_change_and_a_long_gop_is_cut() {
    let mut camera = Camera::running();
    camera.watch();
    let before = camera.playlist("video");
    camera.gop_frames = 1000;
    camera.run_ms(20_000);
    let after = camera.playlist("video");
    after.check();
    assert_eq!((after.target_ms, after.part_target_ms), (before.target_ms, before.part_target_ms));
    let independent = |s: &&ListedSegment| s.parts.first().is_some_and(|part| part.is_independent);
    let cut = after.segments.iter().filter(|segment| !segment.parts.is_empty());
    assert!(cut.filter(|segment| !independent(segment)).count() > 0, "{}", after.text);
}

#[test]
fn the_edition_of_a_log_changes_whenever_a_playlist_does() {
    let mut settings = Settings::default();
    settings.publish.linger_ms = 500;
    let mut camera = Camera::new(settings, 50, true);
    camera.run_ms(5000);
    camera.watch();
    let mut seen: Vec<(u64, [String; 2])> = Vec::new();
    let mut note = |camera: &mut Camera| {
        let texts = ["video", "audio"].map(|kind| camera.playlist(kind).text);
        let log = camera.world.server.hub().find("live/cam").unwrap().parts().unwrap();
        match seen.last() {
            Some((edition, before)) if *edition == log.edition() => assert_eq!(*before, texts),
            _ => seen.push((log.edition(), texts)),
        }
    };
    for _ in 0..100 {
        camera.run_ms(FRAME_MS);
        note(&mut camera);
    }
    camera.pause_ms(4000);
    camera.run_ms(3000);
    note(&mut camera);
    camera.world[camera.publisher].finish();
    camera.world.advance_ms(1000);
    note(&mut camera);
    // Two parts a second and rendition, their segments, the pause and the end.
    assert!((10..40).contains(&seen.len()), "{} editions in 100 looks", seen.len());
}

#[test]
fn a_playlist_lists_a_bounded_number_of_parts() {
    let mut camera = Camera::new(Settings::default(), 50, false);
    camera.run_ms(5000);
    camera.watch();
    let at = camera.now_ms() as u32;
    // Time stands still, so a part ends when it has as many frames as it may have.
    for _ in 0..300 {
        let frame = |_| Message::new(6, VIDEO, video(0, false)).on(1).at(at);
        let frames: Vec<_> = (0..HLS_PART_SAMPLES_MAX).map(frame).collect();
        camera.world.say(camera.publisher, &frames);
    }
    let playlist = camera.playlist("video");
    let parts: usize = playlist.segments.iter().map(|segment| segment.parts.len()).sum();
    let log = camera.world.server.hub().find("live/cam").unwrap().parts().unwrap();
    let listed = log.rendition(RenditionKind::Video).unwrap().listed();
    let made: usize = listed.map(|(_, segment)| segment.parts.len()).sum();
    assert!(made >= 300, "{made} parts");
    assert!((HLS_LISTED_PARTS_MAX / 2..=HLS_LISTED_PARTS_MAX).contains(&parts), "{parts} parts");
    let open = playlist.segments.last().unwrap();
    assert!(open.duration_ms.is_none() && !open.parts.is_empty(), "the newest are among them");
}

#[test]
fn renditions_report_each_other_and_their_segments_end_together() {
    let mut camera = Camera::running();
    camera.watch();
    camera.run_ms(10_000);
    let (video, audio) = (camera.playlist("video"), camera.playlist("audio"));
    let last = |playlist: &Playlist| {
        let open = playlist.segments.last().filter(|segment| segment.duration_ms.is_none());
        match open {
            Some(open) => (playlist.last_msn() + 1, open.parts.len() as u64 - 1),
            None => {
                let parts = playlist.segments.last().unwrap().parts.len() as u64;
                (playlist.last_msn(), parts - 1)
            }
        }
    };
    let (msn, part) = last(&audio);
    assert_eq!(video.reports, [("audio.m3u8".to_owned(), msn, part)], "section 4.4.5.4");
    let (msn, part) = last(&video);
    assert_eq!(audio.reports, [("video.m3u8".to_owned(), msn, part)]);
    assert!(video.last_msn().abs_diff(audio.last_msn()) <= 1);
    for ((msn, picture), (_, sound)) in video.complete().zip(audio.complete()) {
        let distance = picture.duration_ms.unwrap().abs_diff(sound.duration_ms.unwrap());
        assert!(distance <= 2 * SOUND_US / 1000, "segment {msn}: {distance} ms apart");
    }
}

#[test]
fn dates_follow_the_clock() {
    let mut camera = Camera::running();
    // 2026-12-01 at noon.
    camera.world.server.set_unix_ms(1_796_126_400_000);
    camera.watch();
    let playlist = camera.playlist("video");
    let began_s = camera.began_ms / 1000;
    let first = playlist.segments[0].date.as_ref().unwrap();
    let second: u64 = first[17..19].parse().unwrap();
    assert!(first.starts_with("2026-12-01T12:00:"), "{first}");
    assert!((began_s + 3..=began_s + 6).contains(&second), "{first}, began at {began_s} s");
}

#[test]
fn a_publisher_that_returns_goes_on_with_the_numbers() {
    let mut camera = Camera::running();
    camera.watch();
    let before = camera.playlist("video");
    camera.world[camera.publisher].finish();
    camera.world.advance_ms(500);
    camera.publisher = camera.world.publishing("cam");
    camera.began_ms = camera.world.now().as_micros() / 1000;
    (camera.frames, camera.sounds) = (0, 0);
    camera.send_headers();
    camera.run_ms(6000);
    let after = camera.playlist("video");
    after.check();
    assert!(!after.is_over && after.last_msn() > before.last_msn() + 1, "{}", after.text);
    assert_eq!(after.segments[0].uri, before.segments[0].uri, "the same run");
}

#[test]
fn a_pause_that_is_longer_than_a_segment_is_a_discontinuity() {
    let mut camera = Camera::running();
    camera.watch();
    camera.pause_ms(4000);
    camera.run_ms(5000);
    for kind in ["video", "audio"] {
        let playlist = camera.playlist(kind);
        playlist.check();
        let breaks: Vec<_> = playlist.segments.iter().map(|s| s.is_discontinuous).collect();
        assert_eq!(breaks.iter().filter(|breaks| **breaks).count(), 1, "{}", playlist.text);
    }
    camera.run_watched_ms(60_000);
    let playlist = camera.playlist("video");
    assert_eq!(playlist.discontinuities, 1, "section 6.2.2: it has left the playlist");
}

#[test]
fn another_configuration_has_another_initialization_section() {
    let mut camera = Camera::running();
    camera.watch();
    let [mut other, _] = headers();
    // Another level, in the configuration and in its parameter set.
    let level = other[8];
    for at in 0..other.len() - 3 {
        if other[at] == 0x67 && other[at + 3] == level {
            other[at + 3] = level + 1;
        }
    }
    other[8] = level + 1;
    camera.run_ms(2000 - camera.now_ms() % 2000);
    let at = camera.now_ms() as u32;
    camera.world.say(camera.publisher, &[Message::new(6, VIDEO, other).on(1).at(at)]);
    camera.run_ms(5000);
    let playlist = camera.playlist("video");
    playlist.check();
    let maps: Vec<_> = playlist.segments.iter().map(|segment| &segment.map).collect();
    assert_ne!(maps.first(), maps.last(), "{}", playlist.text);
    let second = playlist.segments.iter().find(|s| s.map != playlist.segments[0].map).unwrap();
    assert!(second.is_discontinuous, "section 4.4.4.3: {}", playlist.text);
    let (first, second) = (playlist.segments[0].map.clone(), second.map.clone());
    assert_ne!(camera.file(&first).body, camera.file(&second).body);
}

#[test]
fn the_first_segment_begins_after_the_newest_configuration() {
    let mut camera = Camera::new(Settings::default(), 50, true);
    camera.run_ms(3000);
    let at = camera.now_ms() as u32;
    let other = Message::new(4, AUDIO, vec![0xaf, 0, 0x12, 0x10]).on(1).at(at);
    camera.world.say(camera.publisher, &[other]);
    camera.run_ms(500);
    let first_sound = camera.sounds;
    let held = camera.send("/live/cam/index.m3u8");
    assert_eq!(camera.reply(held).status, 200);
    camera.run_ms(4000);
    let playlist = camera.playlist("audio");
    let sound = camera.file(&playlist.segments[0].uri);
    // The samples of sound are numbers, too.
    let at = sound.body.windows(4).position(|name| name == b"mdat").unwrap() + 4;
    let first = u64::from_be_bytes(sound.body[at..at + 8].try_into().unwrap());
    assert!(first > first_sound, "{first} has another configuration, {first_sound} not");
    let map = camera.file(&playlist.segments[0].map);
    assert!(map.body.windows(4).any(|bytes| bytes[2..] == [0x12, 0x10]), "the newest one");
}

#[test]
fn each_of_several_configurations_in_a_turn_has_its_own_segments() {
    let mut camera = Camera::running();
    camera.watch();
    let at = camera.now_ms() as u32;
    let frames = [[0x12, 0x10], [0x13, 0x90]].into_iter().zip(0..).flat_map(|(config, index)| {
        let header = [&[0xaf, 0][..], &config].concat();
        let sound = (0..30).map(move |number| {
            let at = at + 640 * index + 21 * number;
            let payload = [&[0xaf, 1][..], &config, &[7; 6]].concat();
            Message::new(4, AUDIO, payload).on(1).at(at)
        });
        // Segments go on with a keyframe.
        let begins = [Message::new(4, AUDIO, header), Message::new(6, VIDEO, video(0, true))];
        begins.map(|message| message.on(1).at(at + 640 * index)).into_iter().chain(sound)
    });
    camera.world.say(camera.publisher, &frames.collect::<Vec<_>>());
    // A pause ends the segments.
    camera.pause_ms(4000);
    camera.run_ms(2000);
    let playlist = camera.playlist("audio");
    let mut found = 0;
    for segment in &playlist.segments {
        let (map, body) = (camera.file(&segment.map).body, camera.file(&segment.uri).body);
        for config in [[0x12, 0x10], [0x13, 0x90]] {
            let marked = [&config[..], &[7; 6]].concat();
            if body.windows(8).any(|bytes| bytes == marked) {
                let has = map.windows(4).any(|bytes| bytes == [5, 2, config[0], config[1]]);
                assert!(has, "{config:x?} in {}", playlist.text);
                found += 1;
            }
        }
    }
    assert!(found >= 2, "{}", playlist.text);
}

#[test]
fn a_stream_that_is_over_has_its_last_frames_and_an_end() {
    let mut settings = Settings::default();
    settings.publish.linger_ms = 1000;
    let mut camera = Camera::new(settings, 50, true);
    camera.run_ms(5000);
    camera.watch();
    let last = camera.playlist("video").last_msn();
    let held = camera.send(&format!("/live/cam/video.m3u8?_HLS_msn={}", last + 2));
    camera.world[camera.publisher].finish();
    camera.world.advance_ms(1000);
    let playlist = Playlist::of(&camera.reply(held).text());
    assert!(playlist.is_over, "{}", playlist.text);
    let mut frames = Vec::new();
    for segment in &playlist.segments {
        frames.extend(numbers_of(&camera.file(&segment.uri).body));
    }
    assert_eq!(frames.last(), Some(&(camera.frames - 1)), "the last frame is in it");
    // The next publisher begins another run.
    camera.publisher = camera.world.publishing("cam");
    camera.began_ms = camera.world.now().as_micros() / 1000;
    (camera.frames, camera.sounds) = (0, 0);
    camera.send_headers();
    camera.run_ms(3000);
    camera.watch();
    let next = camera.playlist("video");
    assert!(!next.is_over && next.segments[0].uri != playlist.segments[0].uri, "{}", next.text);
}

#[test]
fn the_query_of_a_player_reaches_what_the_playlist_names() {
    let mut camera = Camera::running();
    camera.watch();
    let query = "token=a%2Fb&_HLS_skip=YES&x=\"";
    let index = camera.get(&format!("/live/cam/index.m3u8?{query}")).text();
    assert!(index.contains("URI=\"audio.m3u8?token=a%2Fb&x=%22\""), "{index}");
    assert!(index.ends_with("\nvideo.m3u8?token=a%2Fb&x=%22\n"), "{index}");
    let media = camera.playlist_with("video", "?token=t&_HLS_msn=1");
    let hint = media.hint.unwrap();
    assert!(hint.ends_with("?token=t"), "{hint}");
    assert_eq!(camera.file(&media.segments[0].uri).status, 200);
}

#[test]
fn what_is_not_published_is_not_found_and_what_mp4_does_not_carry_is_refused() {
    let mut camera = Camera::running();
    for path in ["/live/none/index.m3u8", "/live/none/video.m3u8", "/live/none.m3u8"] {
        let reply = camera.get(path);
        assert_eq!(reply.status, 404, "{path}");
        assert!(reply.head.contains("Cache-Control: no-store\r\n"), "{}", reply.head);
    }
    for (method, path, status) in [
        ("HEAD", "/live/cam/index.m3u8", 200),
        ("OPTIONS", "/live/cam/video.m3u8", 204),
        ("POST", "/live/cam/video.m3u8", 405),
        ("HEAD", "/live/none/index.m3u8", 404),
    ] {
        let client = camera.send_with(method, path);
        assert_eq!(camera.reply(client).status, status, "{method} {path}");
    }
    let log = camera.world.server.hub().find("live/cam").unwrap().parts();
    assert!(log.is_none(), "none of these begins a log");
    let legacy = camera.world.publishing("old");
    let nellymoser = Message::new(4, AUDIO, vec![0x6e, 1, 2, 3]);
    camera.world.say(legacy, &[nellymoser.clone().on(1).at(0)]);
    camera.world.advance_ms(1100);
    camera.world.say(legacy, &[nellymoser.on(1).at(1100)]);
    assert_eq!(camera.get("/live/old/index.m3u8").status, 406);
}

#[test]
fn a_stream_of_one_medium_has_one_rendition() {
    let mut camera = Camera::new(Settings::default(), 50, false);
    camera.run_ms(5000);
    let index = camera.get("/live/cam/index.m3u8").text();
    assert!(!index.contains("EXT-X-MEDIA") && !index.contains("AUDIO"), "{index}");
    assert_eq!(camera.get("/live/cam/audio.m3u8").status, 404);
    camera.run_ms(2000);
    let playlist = camera.playlist("video");
    playlist.check();
    assert!(playlist.reports.is_empty());
}

#[test]
fn a_request_waits_for_the_tracks_of_a_new_stream() {
    let mut camera = Camera::new(Settings::default(), 50, false);
    camera.run_ms(100);
    let held = camera.send("/live/cam/index.m3u8");
    assert!(!camera.is_answered(held), "sound may still come");
    camera.run_ms(1100);
    assert_eq!(camera.reply(held).status, 200);
}

#[test]
fn segments_are_made_while_somebody_asks_for_them_and_no_longer() {
    let mut camera = Camera::running();
    assert!(!camera.has_log("cam"));
    camera.watch();
    assert!(camera.has_log("cam"));
    camera.run_ms(27_000);
    assert!(camera.has_log("cam"), "somebody may come back");
    camera.run_ms(2000);
    assert!(!camera.has_log("cam"));
    assert_eq!(camera.get("/live/cam/index.m3u8").status, 200, "and again");
    camera.world[camera.publisher].finish();
    camera.world.advance_ms(120_000);
    assert!(camera.world.server.hub().is_empty(), "nothing is left of it");
}

#[test]
fn segments_that_a_waiting_request_has_begun_are_not_kept_for_good() {
    let mut camera = Camera::new(Settings::default(), 50, false);
    camera.run_ms(100);
    let held = camera.send("/live/cam/index.m3u8");
    assert!(!camera.has_log("cam"), "the tracks are not known");
    camera.run_ms(1100);
    assert!(camera.is_answered(held) && camera.has_log("cam"));
    assert_eq!(camera.viewers("cam"), 1);
    let metrics = camera.get("/metrics").text();
    assert!(metrics.contains("tiderace_stream_players{stream=\"live/cam\"} 1"), "{metrics}");
    camera.run_ms(28_000);
    assert!(camera.has_log("cam"), "somebody may come back");
    camera.run_ms(2000);
    assert!(!camera.has_log("cam"));
}

#[test]
fn a_stream_that_is_over_goes_however_often_it_is_asked_for() {
    let mut settings = Settings::default();
    settings.publish.linger_ms = 1000;
    let mut camera = Camera::new(settings, 50, true);
    camera.run_ms(5000);
    camera.watch();
    let uri = camera.playlist("video").segments[0].uri.clone();
    camera.world[camera.publisher].finish();
    camera.world.advance_ms(1000);
    for _ in 0..59 {
        camera.world.advance_ms(2000);
        assert!(camera.playlist("video").is_over);
        assert_eq!(camera.file(&uri).status, 200);
    }
    camera.world.advance_ms(2000);
    assert!(camera.world.server.hub().is_empty(), "nothing is left of it");
    assert_eq!(camera.get("/live/cam/video.m3u8").status, 404);
    let clients = camera.world.server.len();
    assert!(camera.world.server.memory_bytes() < clients * 20_000, "nor of what it was sent");
}

#[test]
fn a_connection_is_a_viewer_of_the_stream_that_it_has_asked_for_last() {
    let mut camera = Camera::running();
    camera.publish_other("two");
    let client = camera.send("/live/cam/index.m3u8");
    assert_eq!((camera.viewers("cam"), camera.viewers("two")), (1, 0));
    camera.ask_again(client, "/live/two/index.m3u8");
    assert_eq!((camera.viewers("cam"), camera.viewers("two")), (0, 1));
    camera.ask_again(client, "/live/cam/index.m3u8");
    assert_eq!((camera.viewers("cam"), camera.viewers("two")), (1, 0));
    camera.world[client].finish();
    camera.world.run();
    assert_eq!((camera.viewers("cam"), camera.viewers("two")), (0, 0));
}

#[test]
fn a_request_that_waits_for_a_stream_is_not_answered_with_the_next_one() {
    let mut camera = Camera::new(Settings::default(), 50, false);
    camera.run_ms(100);
    let stream = camera.world.server.hub().id_of("live/cam");
    let held = camera.send("/live/cam/index.m3u8");
    assert!(!camera.is_answered(held), "the tracks are not known");
    camera.world[camera.publisher].finish();
    camera.world.run();
    camera.publish_other("two");
    assert_eq!(camera.world.server.hub().id_of("live/two"), stream, "the id is used again");
    camera.world.advance_ms(100);
    assert_eq!(camera.reply(held).status, 404);
    assert!(!camera.has_log("two"), "nobody has asked for it");
}

#[test]
fn a_request_that_waits_for_a_run_of_a_stream_is_not_answered_with_the_next_one() {
    let mut settings = Settings::default();
    settings.limits.memory_bytes_max = 8 * MIB;
    let mut camera = Camera::new(settings.clone(), 50, true);
    camera.run_ms(5000);
    camera.watch();
    let last = camera.playlist("video").last_msn();
    let held = camera.send(&format!("/live/cam/video.m3u8?_HLS_msn={}", last + 1));
    // Memory is short.
    settings.limits.memory_bytes_max = camera.world.server.memory_bytes() * 100 / 85;
    camera.world.server.reload(settings);
    camera.run_ms(40);
    assert!(!camera.has_log("cam"));
    assert_eq!(camera.reply(held).status, 404, "its segments are gone");
}

#[test]
fn as_many_held_requests_are_answered_in_a_turn_as_fit_into_it() {
    const CLIENTS: usize = 300;
    for query in [String::new(), format!("&token={}", "x".repeat(1500))] {
        let mut camera = Camera::running();
        camera.watch();
        camera.run_watched_ms(20_000);
        let last = camera.playlist("video").last_msn();
        let path = |msn: u64, client: usize| match query.is_empty() {
            true => format!("/live/cam/video.m3u8?_HLS_msn={msn}"),
            // Each client has a playlist of its own.
            false => format!("/live/cam/video.m3u8?_HLS_msn={msn}{query}{client}"),
        };
        let len = camera.get(&path(last, 0)).body.len();
        let most = match query.is_empty() {
            true => HLS_ANSWERS_PER_TURN_MAX,
            false => HLS_ANSWER_BYTES_PER_TURN_MAX.div_ceil(len),
        };
        assert!(CLIENTS > 2 * most, "{len} bytes");
        let held: Vec<_> = (0..CLIENTS).map(|id| camera.send(&path(last + 1, id))).collect();
        let answered = |camera: &Camera| held.iter().filter(|c| camera.is_answered(**c)).count();
        assert_eq!(answered(&camera), 0);
        // The keyframe that ends the segment.
        let number = camera.frames.next_multiple_of(camera.gop_frames);
        let at = (number * FRAME_MS) as u32;
        let keyframe = Message::new(6, VIDEO, video(number, true)).on(1).at(at);
        camera.world[camera.publisher].send(&[keyframe]);
        let (mut before, mut turns) = (0, 0);
        while camera.world.turn() {
            let now = answered(&camera);
            assert!(now - before <= most, "{} are answered in a turn, not {most}", now - before);
            turns += usize::from(now > before);
            before = now;
        }
        assert_eq!(before, CLIENTS);
        assert!(turns >= CLIENTS / most, "{turns} turns");
    }
}

#[test]
fn a_playlist_that_many_wait_for_counts_once() {
    let mut camera = Camera::running();
    camera.watch();
    camera.run_watched_ms(20_000);
    camera.world.socket_bytes = 1000;
    let query = format!("token={}", "x".repeat(300));
    let playlist = camera.playlist_with("video", &format!("?{query}"));
    let (last, len) = (playlist.last_msn(), playlist.text.len());
    let path = format!("/live/cam/video.m3u8?{query}&_HLS_msn={}", last + 1);
    let held: Vec<_> = (0..50).map(|_| camera.send(&path)).collect();
    held.iter().for_each(|client| camera.world[*client].reads = false);
    let before = camera.world.server.memory_bytes();
    camera.run_ms(2000);
    let more = camera.world.server.memory_bytes() - before;
    // What waits in full sockets is the kernel's.
    let unsent = held.len() * Settings::default().limits.socket_unsent_bytes_max;
    let each = more.saturating_sub(unsent) / held.len();
    assert!(len > 5000 && more > unsent * 9 / 10 && each < len / 4, "{each} of {len} bytes each");
}

#[test]
fn those_who_have_asked_for_a_stream_are_accounted() {
    let mut camera = Camera::running();
    camera.watch();
    let clients: Vec<_> = (0..100).map(|_| camera.send("/healthz")).collect();
    let before = camera.world.server.memory_bytes();
    let len = camera.ask_again(clients[0], "/live/cam/video.m3u8").len() / 2;
    let with_one = camera.world.server.memory_bytes();
    assert!(with_one >= before + len, "{before} bytes, {with_one} with a playlist of {len}");
    for client in &clients[1..] {
        camera.ask_again(*client, "/live/cam/video.m3u8");
    }
    let more = camera.world.server.memory_bytes() - with_one;
    let each = more / (clients.len() - 1);
    assert!((16..100).contains(&each), "{each} bytes for each who has asked");
}

/// Sends all requests at once. Returns the turns that the server takes.
fn turns_for(camera: &mut Camera, paths: &[String]) -> usize {
    camera.world.socket_bytes = 4 * MIB;
    let clients: Vec<_> = paths.iter().map(|_| camera.world.connect_http(ALL)).collect();
    camera.world.run();
    for (client, path) in clients.iter().zip(paths) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        camera.world[*client].send_raw(request.as_bytes());
    }
    let mut turns = 0;
    while camera.world.turn() {
        turns += 1;
    }
    assert!(clients.iter().all(|client| camera.reply(*client).status == 200));
    turns
}

#[test]
fn a_segment_costs_what_its_head_costs_since_nothing_is_formatted() {
    is_about_sockets();
    let mut camera = Camera::running();
    camera.padding = 4000;
    camera.watch();
    camera.run_ms(4000);
    let uri = camera.playlist("video").segments[1].uri.clone();
    let len = camera.file(&uri).body.len();
    let paths = vec![format!("/live/cam/{uri}"); 150];
    let turns = turns_for(&mut camera, &paths);
    let written = paths.len() * len / WRITE_BYTES_OF_ALL_PER_TURN_MAX;
    assert!(len > 150_000 && turns <= written + 10, "{turns} turns for {len} bytes each");
}

#[test]
fn the_first_segments_of_many_streams_are_made_in_many_turns() {
    const BYTES: usize = 500_000;
    let mut camera = Camera::new(Settings::default(), 50, false);
    let names: Vec<_> = (0..30).map(|index| format!("large{index}")).collect();
    for name in &names {
        camera.publish_large(name, BYTES);
    }
    let paths: Vec<_> = names.iter().map(|name| format!("/live/{name}/index.m3u8")).collect();
    let turns = turns_for(&mut camera, &paths);
    let least = paths.len() * BYTES / (READ_BYTES_OF_ALL_PER_TURN_MAX + BYTES);
    assert!(turns >= least, "{turns} turns, not {least}");
    assert!(names.iter().all(|name| camera.has_log(name)));
}

#[test]
fn a_held_request_is_answered_when_the_server_goes_down() {
    let mut camera = Camera::running();
    camera.watch();
    let last = camera.playlist("video").last_msn();
    let held = camera.send(&format!("/live/cam/video.m3u8?_HLS_msn={}", last + 2));
    let now = camera.world.now();
    camera.world.server.drain(now);
    camera.world.run();
    assert_eq!(camera.reply(held).status, 503);
    camera.world.advance_ms(1000);
    assert!(camera.world[held].is_closed());
}

#[test]
fn a_client_that_leaves_is_not_waited_for() {
    let mut camera = Camera::running();
    camera.watch();
    let last = camera.playlist("video").last_msn();
    let held = camera.send(&format!("/live/cam/video.m3u8?_HLS_msn={}", last + 2));
    let connections = camera.world.server.len();
    camera.world[held].finish();
    camera.world.run();
    assert_eq!(camera.world.server.len(), connections - 1);
    camera.run_ms(6000);
}

#[test]
fn segments_count_once_however_many_players_are_sent_them() {
    let mut camera = Camera::running();
    camera.watch();
    camera.run_ms(4000);
    let uri = camera.playlist("video").segments[0].uri.clone();
    camera.world.socket_bytes = 100;
    let before = camera.world.server.memory_bytes();
    let len = camera.file(&uri).body.len();
    let players: Vec<_> = (0..20)
        .map(|_| {
            let client = camera.world.connect_http(ALL);
            camera.world[client].reads = false;
            client
        })
        .collect();
    let idle = camera.world.server.memory_bytes();
    for client in &players {
        let request = format!("GET /live/cam/{uri} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        camera.world[*client].send_raw(request.as_bytes());
    }
    camera.world.run();
    let unsent = Settings::default().limits.socket_unsent_bytes_max;
    let more = camera.world.server.memory_bytes() - idle;
    assert!(before < idle && more < players.len() * (unsent + 1500) + len, "{more} bytes");
}

/// What the server believes its segments hold is what the allocator gave it, within a quarter.
#[test]
fn segments_are_accounted() {
    let mut camera = Camera::running();
    camera.padding = 20_000;
    camera.run_ms(4000);
    let before = camera.world.server.memory_bytes();
    let mut accounted = 0;
    let allocated = measure(|| {
        camera.send("/live/cam/index.m3u8");
        camera.run_ms(20_000);
        accounted = camera.world.server.memory_bytes() - before;
    });
    let allocated = usize::try_from(allocated.bytes_current).unwrap();
    assert!(accounted > 9_000_000, "{accounted} bytes of segments");
    let (most, least) = (allocated.max(accounted), allocated.min(accounted));
    assert!(most - least <= most / 4, "{accounted} bytes accounted, {allocated} allocated");
}

#[test]
fn a_playlist_waits_for_the_judge_and_segments_do_not() {
    let mut camera = Camera::running();
    camera.watch();
    let uri = camera.playlist("video").segments[0].uri.clone();
    camera.world.server.set_judge(Some(OutsideJudge::new(&[JudgedCommand::Play])));
    let refused = || {
        let (detail, description) = ("for the log".to_owned(), "for the player".to_owned());
        Err(Refused { reason: CloseReason::KeyRefused, detail, description })
    };
    for (is_granted, status) in [(true, 200), (false, 403)] {
        let client = camera.send("/live/cam/video.m3u8");
        assert!(!camera.is_answered(client));
        let question = camera.world.server.next_question().expect("a question");
        assert_eq!((&*question.name, question.command), ("live/cam", JudgedCommand::Play));
        let decision = if is_granted { Ok(question.name.clone()) } else { refused() };
        let now = camera.world.now();
        camera.world.server.decided(question.ticket, decision, now);
        camera.world.run();
        assert_eq!(camera.reply(client).status, status);
    }
    // The judge does not decide in time, which is not the fault of the player.
    let client = camera.send("/live/cam/index.m3u8");
    camera.run_ms(5000);
    assert_eq!(camera.reply(client).status, 503, "as for a stream as FLV");
    assert_eq!(camera.file(&uri).status, 200);
    assert!(camera.world.server.next_question().is_none());
}

#[test]
fn without_memory_there_are_no_segments() {
    let mut settings = Settings::default();
    settings.limits.memory_bytes_max = 8 * MIB;
    let mut camera = Camera::new(settings, 50, true);
    camera.run_ms(5000);
    camera.watch();
    let hint = camera.playlist("video").hint.unwrap();
    let held = camera.send(&format!("/live/cam/{hint}"));
    let mut settings = camera.world.server.settings().clone();
    settings.limits.memory_bytes_max = camera.world.server.memory_bytes() * 100 / 85;
    camera.world.server.reload(settings);
    camera.run_ms(40);
    assert!(camera.world.server.memory_level() >= MemoryLevel::Lean);
    assert_eq!(camera.reply(held).status, 404, "the segments are gone");
}

#[test]
fn the_api_and_the_page_count_those_who_have_asked_lately() {
    let mut camera = Camera::running();
    camera.watch();
    let _ = camera.playlist("video");
    assert_eq!(camera.viewers("cam"), 2);
    let page = camera.get("/").text();
    assert!(page.contains("<dt>players</dt><dd>2 HLS</dd>"), "{page}");
    camera.run_ms(10_000);
    assert_eq!(camera.viewers("cam"), 0);
    assert!(camera.get("/").text().contains("<dt>players</dt><dd>none</dd>"));
}
