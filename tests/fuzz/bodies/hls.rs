//! Requests for playlists and segments, to a server with a stream that is watched over HLS. Each is
//! answered, at once or before its time is up. A second, simple reader of the query says which
//! answer a playlist gets. What a playlist names exists, and only what has the name that a playlist
//! would give it.

use tiderace::config::Settings;
use tiderace::server::web::Surface;
use tiderace::stream::ids::Incarnation;
use tiderace::stream::parts::{PartLog, RenditionKind};
use tiderace::stream::playlist::SegmentFile;

use crate::wire::{AAC_HEADER, AUDIO, AVC_HEADER, Message, VIDEO};
use crate::world::{ClientHandle, World};

/// Requests of one input. More only take time.
const REQUESTS_MAX: usize = 8;
/// Files that are fetched for a playlist.
const FETCHED_MAX: usize = 3;
/// Longest request. The head of a longer one is refused.
const REQUEST_BYTES_MAX: usize = 1500;
const FRAME_MS: u32 = 40;
const GOP_FRAMES: u32 = 50;
const FRAMES: u32 = 260;

/// The input is a row of lines, each the end of a path. In place of `~` stands the name of the log.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let is_sent = |line: &&str| {
        line.len() <= REQUEST_BYTES_MAX && line.bytes().all(|byte| (0x21..0x7f).contains(&byte))
    };
    let mut bench = Bench::new();
    let mut held = Vec::new();
    for line in text.split('\n').filter(is_sent).take(REQUESTS_MAX) {
        let path = line.replace('~', &bench.run_name);
        let client = bench.ask(&path);
        match bench.answer(client) {
            Some(answer) => bench.check(&path, &answer),
            // Another stream, in one of the other forms, may still be published.
            None if may_be_a_view(&path) => {}
            None => {
                assert!(bench.may_wait(&path), "{path} waits for nothing");
                held.push(client);
            }
        }
    }
    bench.world.advance_ms(10_000);
    for client in held {
        let answer = bench.answer(client).expect("an answer before players give up");
        assert_eq!(answer.status, 503, "{}", answer.head);
    }
}

/// A server with a stream of ten seconds.
struct Bench {
    world: World,
    run_name: String,
}

/// A response.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Bench {
    fn new() -> Self {
        let mut world = World::new(Settings::default());
        let publisher = world.publishing("cam");
        let message = |kind: u8, at: u32, payload: &[u8]| {
            Message::new(if kind == VIDEO { 6 } else { 4 }, kind, payload).on(1).at(at)
        };
        let frames = |from: u32, to: u32| {
            (from..to).flat_map(move |frame| {
                let (head, nal) =
                    if frame.is_multiple_of(GOP_FRAMES) { (0x17, 0x65) } else { (0x27, 0x41) };
                let picture = [&[head, 1, 0, 0, 0, 0, 0, 0, 5, nal][..], &frame.to_be_bytes()];
                let sound = [&[0xaf, 1][..], &frame.to_be_bytes()].concat();
                let at = frame * FRAME_MS;
                [message(VIDEO, at, &picture.concat()), message(AUDIO, at, &sound)]
            })
        };
        let first = [message(VIDEO, 0, AVC_HEADER), message(AUDIO, 0, AAC_HEADER)];
        world.say(publisher, &first.into_iter().chain(frames(0, 2)).collect::<Vec<_>>());
        let mut bench = Self { world, run_name: String::new() };
        let client = bench.ask("index.m3u8");
        assert_eq!(bench.answer(client).map(|answer| answer.status), Some(200));
        bench.world.say(publisher, &frames(2, FRAMES).collect::<Vec<_>>());
        bench.run_name = bench.log().incarnation().to_string();
        bench
    }

    fn log(&self) -> &PartLog {
        let channel = self.world.server.hub().find("live/cam").expect("the stream");
        channel.parts().expect("its log")
    }

    fn ask(&mut self, path: &str) -> ClientHandle {
        let surface = Surface { playback: true, status: false, is_local: true };
        let client = self.world.connect_http(surface);
        let request = format!("GET /live/cam/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.world[client].send_raw(request.as_bytes());
        self.world.run();
        client
    }

    fn answer(&self, client: ClientHandle) -> Option<Answer> {
        let received = self.world[client].received();
        if received.is_empty() {
            return None;
        }
        let end = received.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(received[..end].to_vec()).expect("a head of ASCII");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body = received[end + 4..].to_vec();
        Some(Answer { status: status.expect("a status"), head, body })
    }

    /// Returns whether a request may wait, since what it names may still come.
    fn may_wait(&self, path: &str) -> bool {
        let (name, query) = path.split_once('?').unwrap_or((path, ""));
        if let Some(kind) = kind_of(name) {
            let directives = Directives::read(query);
            return directives.is_none_or(|directives| directives.fits(self.next(kind).0));
        }
        let file = run_and_file(name).and_then(|(_, name)| SegmentFile::parse(name));
        file.is_some_and(|file| {
            let (msn, part) = self.next(file.rendition);
            name.ends_with(&format!("{msn}.{part}.m4s"))
        })
    }

    fn next(&self, kind: RenditionKind) -> (u64, usize) {
        self.log().rendition(kind).expect("both renditions").next()
    }

    fn check(&mut self, path: &str, answer: &Answer) {
        let (name, query) = path.split_once('?').unwrap_or((path, ""));
        let status = answer.status;
        assert!(matches!(status, 200 | 400 | 404 | 414), "{path}: {}", answer.head);
        if let Some(kind) = kind_of(name) {
            if let Some(directives) = Directives::read(query) {
                let fits = directives.fits(self.next(kind).0);
                assert_eq!(status, if fits { 200 } else { 400 }, "{path}");
            }
            if status == 200 {
                self.check_playlist(query, &answer.body);
            }
        } else if let Some((run, file)) = run_and_file(name)
            && status == 200
            && file.ends_with(".m4s")
            && !name.contains('%')
        {
            assert_eq!(run, self.run_name, "the log has one name");
            let file = SegmentFile::parse(file).expect("a name");
            assert!(name.ends_with(&file.name()), "{path} is also {}", file.name());
            expect_boxes(&answer.body, b"moof");
        }
    }

    /// Expects lines of HLS, whose references have the query of the request, and that they exist.
    fn check_playlist(&mut self, query: &str, body: &[u8]) {
        let text = std::str::from_utf8(body).expect("a playlist of ASCII").to_owned();
        assert!(text.starts_with("#EXTM3U\n") && text.ends_with('\n'), "{text}");
        let kept = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("_HLS_"));
        let kept = kept.collect::<Vec<_>>().join("&").replace('"', "%22");
        let suffix = if kept.is_empty() { kept } else { format!("?{kept}") };
        let mut uris = Vec::new();
        for line in text.lines() {
            let quoted = line.split_once("URI=\"").and_then(|(_, rest)| rest.split_once('"'));
            let uri = match quoted {
                Some((uri, _)) => Some(uri),
                None => (!line.starts_with('#')).then_some(line),
            };
            if let Some(uri) = uri {
                assert!(uri.ends_with(&suffix), "{uri} has not the query {suffix}");
                let is_next = line.starts_with("#EXT-X-PRELOAD-HINT");
                let is_file = uri.split('?').next().is_some_and(|path| path.contains('/'));
                uris.extend((!is_next && is_file).then(|| uri.to_owned()));
            }
        }
        assert!(uris.len() > 5, "{text}");
        for uri in uris.iter().rev().take(FETCHED_MAX).chain(uris.first()) {
            let client = self.ask(uri);
            let answer = self.answer(client).expect("what is listed exists");
            let is_long = answer.status == 414;
            assert!(answer.status == 200 || is_long, "{uri}: {}", answer.head);
            let path = uri.split('?').next().unwrap_or_default();
            let first: &[u8; 4] = if path.contains("init") { b"ftyp" } else { b"moof" };
            if !is_long {
                expect_boxes(&answer.body, first);
            }
        }
    }
}

/// Returns the last two parts of a path. Empty parts before them do not count, as in the names of
/// streams.
fn run_and_file(name: &str) -> Option<(&str, &str)> {
    let (run, file) = name.rsplit_once('/')?;
    Some((run.trim_start_matches('/'), file))
}

fn may_be_a_view(path: &str) -> bool {
    let name = path.split('?').next().unwrap_or_default();
    let is_file = run_and_file(name).is_some_and(|(run, file)| {
        Incarnation::parse(run).is_some() && SegmentFile::parse(file).is_some()
    });
    !is_file && (name.contains('%') || name.ends_with(".mp4") || name.ends_with(".flv"))
}

fn kind_of(name: &str) -> Option<RenditionKind> {
    RenditionKind::ALL.into_iter().find(|kind| kind.playlist() == name)
}

/// The directives of a query without escapes, each of which is there at most once.
struct Directives<'q> {
    msn: Option<&'q str>,
    part: Option<&'q str>,
    skip: Option<&'q str>,
}

impl<'q> Directives<'q> {
    /// Returns `None` for other queries.
    fn read(query: &'q str) -> Option<Self> {
        let mut found = Self { msn: None, part: None, skip: None };
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = match key {
                "_HLS_msn" => &mut found.msn,
                "_HLS_part" => &mut found.part,
                "_HLS_skip" => &mut found.skip,
                _ => continue,
            };
            if value.contains(['%', '+']) || place.replace(value).is_some() {
                return None;
            }
        }
        Some(found)
    }

    /// Returns whether the request is one that has an answer, now or later (RFC 8216bis, section
    /// 6.2.5.2). `next` is the number of the segment under way.
    fn fits(&self, next: u64) -> bool {
        let is_number = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && {
                let digits = text.trim_start_matches('0');
                digits.len() < 10 || digits.len() == 10 && digits <= "4294967295"
            }
        };
        let msn = self.msn.map(|msn| is_number(msn).then(|| msn.parse::<u64>().unwrap_or(0)));
        let is_near = msn.is_none_or(|msn| msn.is_some_and(|msn| msn <= next + 1));
        let has_part = self.part.is_none_or(|part| is_number(part) && self.msn.is_some());
        is_near && has_part && self.skip.is_none_or(|skip| matches!(skip, "YES" | "v2"))
    }
}

/// Expects boxes to fill the bytes, the first of which is of this type.
fn expect_boxes(mut bytes: &[u8], first: &[u8; 4]) {
    assert_eq!(bytes.get(4..8), Some(&first[..]));
    while !bytes.is_empty() {
        let size = bytes.first_chunk().map(|size| u32::from_be_bytes(*size) as usize);
        let size = size.expect("the size of a box");
        assert!((8..=bytes.len()).contains(&size), "{size} of {} bytes", bytes.len());
        bytes = &bytes[size..];
    }
}
