//! A player of HLS: it reloads a playlist, fetches each part that is listed and each segment now
//! and then, with a parser of its own. The model judges the frames.

use std::collections::{BTreeMap, VecDeque};

use tiderace::stream::parts::RenditionKind;

use super::media::{self, Kind};
use super::web_reader::{content_of, take_box};
use crate::random::Random;
use crate::wire::{Message, big};

/// The place of a part: media sequence number, and index in the segment.
type Place = (u64, usize);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ask {
    /// The playlist, with the place that is waited for.
    Playlist(Option<Place>),
    Init(String),
    Part(ListedPart),
    /// The part that comes next, before it is listed.
    Hint(Place),
    Segment(u64),
}

/// A part in a playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ListedPart {
    place: Place,
    uri: String,
    map: String,
    /// The time or the encoding breaks off before it.
    is_after_break: bool,
}

/// What the client knows of a run of the stream.
#[derive(Debug, Default)]
struct Run {
    name: String,
    targets: (String, String),
    first_msn: u64,
    /// The place of the part that is fetched next.
    next: Option<Place>,
    /// Parts that are listed and not fetched.
    owed: VecDeque<ListedPart>,
    /// Parts of segments that are fetched as a whole later.
    parts: BTreeMap<Place, Vec<u8>>,
    /// The newest complete segment.
    complete: Option<u64>,
    hint: Option<Place>,
    /// Reference and configuration of the newest initialization section.
    init: Option<(String, u32)>,
    decoded: u64,
    is_over: bool,
}

/// A part that was fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) frames: Vec<Message>,
    /// The configuration that the playlist gives for it.
    pub(super) configuration: u32,
    /// Frames may be missing before it.
    pub(super) may_lack: bool,
}

/// What a response says.
#[derive(Debug)]
pub(super) enum Told {
    Part(Fetched),
    /// A playlist for which the server had to wait.
    Awaited,
    /// Something is not there that was listed: the name of the run, and the place.
    Missing(String, Place),
    /// A segment that is the same as its parts.
    Segment,
}

/// Returns the reference in a tag.
fn uri_of(line: &str) -> Option<&str> {
    line.split("URI=\"").nth(1)?.split('"').next()
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct HlsClient {
    pub(super) stream: usize,
    is_video: bool,
    bytes: Vec<u8>,
    asks: Option<Ask>,
    run: Run,
    /// Whether frames may be missing before the next part: it is the first one, or the client was
    /// too late for others.
    may_lack: bool,
}

impl HlsClient {
    pub(super) fn new(stream: usize, is_video: bool) -> Self {
        let run = Run::default();
        Self { stream, is_video, bytes: Vec::new(), asks: None, run, may_lack: true }
    }

    /// Returns whether an answer is to come that the server need not wait for.
    pub(super) const fn awaits_at_once(&self) -> bool {
        matches!(self.asks, Some(Ask::Init(_) | Ask::Part(_) | Ask::Segment(_)))
    }

    pub(super) const fn is_idle(&self) -> bool {
        self.asks.is_none()
    }

    pub(super) const fn rendition(&self) -> RenditionKind {
        if self.is_video { RenditionKind::Video } else { RenditionKind::Audio }
    }

    const fn kind(&self) -> &'static str {
        if self.is_video { "video" } else { "audio" }
    }

    /// Returns the next playlist to ask for, and whether it is judged, or the part that comes next.
    pub(super) fn reload(&mut self, random: &mut Random) -> (String, bool) {
        let hint = self.run.hint.filter(|hint| self.run.next == Some(*hint));
        if let Some(place @ (msn, part)) = hint.filter(|_| random.one_in(3)) {
            self.asks = Some(Ask::Hint(place));
            let letter = &self.kind()[..1];
            return (format!("{}/{letter}{msn}.{part}.m4s", self.run.name), false);
        }
        let awaited = self.run.hint.filter(|_| !random.one_in(4));
        let mut query = match awaited {
            Some((msn, part)) if random.one_in(2) => format!("?_HLS_msn={msn}&_HLS_part={part}"),
            Some((msn, _)) => format!("?_HLS_msn={msn}"),
            None => String::new(),
        };
        let awaited = awaited.filter(|_| query.contains("part"));
        if random.one_in(3) && self.run.first_msn > 0 {
            query += if query.is_empty() { "?_HLS_skip=YES" } else { "&_HLS_skip=YES" };
        }
        self.asks = Some(Ask::Playlist(awaited));
        (format!("{}.m3u8{query}", self.kind()), true)
    }

    /// Returns the next file to ask for, of those that exist.
    pub(super) fn next_file(&mut self) -> Option<String> {
        if self.asks.is_some() {
            return None;
        }
        if let Some(part) = self.run.owed.front() {
            if self.run.init.as_ref().is_none_or(|(uri, _)| *uri != part.map) {
                self.asks = Some(Ask::Init(part.map.clone()));
                return Some(part.map.clone());
            }
            let part = self.run.owed.pop_front()?;
            let uri = part.uri.clone();
            self.asks = Some(Ask::Part(part));
            return Some(uri);
        }
        let msn = self.run.complete.take()?;
        self.asks = Some(Ask::Segment(msn));
        let letter = &self.kind()[..1];
        Some(format!("{}/{letter}{msn}.m4s", self.run.name))
    }

    /// Returns what the responses in these bytes say, with their statuses.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<(u16, Option<Told>)> {
        self.bytes.extend(bytes);
        let mut told = Vec::new();
        while let Some((status, body)) = self.take_response() {
            let asked = self.asks.take().expect("a response without a request");
            told.push((status, self.receive(asked, status, &body)));
        }
        told
    }

    fn take_response(&mut self) -> Option<(u16, Vec<u8>)> {
        let end = self.bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&self.bytes[..end]).expect("a head of ASCII");
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest[..3].parse().ok());
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        let body = self.bytes.get(end..end + length)?.to_vec();
        let status = status.expect("a status");
        self.bytes.drain(..end + length);
        Some((status, body))
    }

    fn receive(&mut self, asked: Ask, status: u16, body: &[u8]) -> Option<Told> {
        match (asked, status) {
            (Ask::Playlist(awaited), 200) => {
                self.playlist(std::str::from_utf8(body).expect("text"), awaited);
                awaited.map(|_| Told::Awaited)
            }
            // It is not published, or has no memory, or nothing has come in time. A number may be
            // that of an earlier run.
            (Ask::Playlist(awaited), 404 | 503) => {
                if awaited.is_none() {
                    self.forget_run();
                }
                None
            }
            (Ask::Playlist(_), 400 | 403) => {
                self.forget_run();
                None
            }
            (Ask::Init(uri), 200) => {
                let moov = content_of(body, b"moov").expect("a moov");
                let [configuration] = &media::configurations(moov)[..] else {
                    panic!("the configurations of {uri}")
                };
                self.run.init = Some((uri, media::read(configuration).1));
                None
            }
            (Ask::Part(part), 200) => {
                let fetched = self.fetched(&part, body);
                Some(Told::Part(fetched))
            }
            // It is listed later, and then it has to be the same.
            (Ask::Hint(place), 200) => {
                self.run.parts.insert(place, body.to_vec());
                Some(Told::Awaited)
            }
            (Ask::Hint(_), 404 | 503) => None,
            (Ask::Segment(msn), 200) => {
                let range = (msn, 0)..(msn + 1, 0);
                let parts: Vec<_> =
                    self.run.parts.range(range).map(|(_, part)| &part[..]).collect();
                assert_eq!(parts.concat(), body, "segment {msn} is not its parts");
                self.run.parts.retain(|place, _| *place >= (msn + 1, 0));
                Some(Told::Segment)
            }
            (Ask::Part(ListedPart { place, .. }), 404) => Some(self.missing(place)),
            (Ask::Segment(msn), 404) => Some(self.missing((msn, 0))),
            (Ask::Init(_), 404) => {
                let place = self.run.owed.front().map(|part| part.place).expect("a part");
                Some(self.missing(place))
            }
            (asked, status) => panic!("{status} for {asked:?}"),
        }
    }

    fn missing(&mut self, place: Place) -> Told {
        let told = Told::Missing(self.run.name.clone(), place);
        self.forget_run();
        told
    }

    fn forget_run(&mut self) {
        (self.run, self.may_lack) = (Run::default(), true);
    }

    /// Reads a playlist, and notes the parts that are new in it.
    fn playlist(&mut self, text: &str, awaited: Option<Place>) {
        let letter = &self.kind()[..1];
        let mut targets = (String::new(), String::new());
        let (mut first_msn, mut msn, mut part) = (0, 0, 0);
        let (mut name, mut map, mut breaks) = (String::new(), String::new(), false);
        let (mut parts, mut complete) = (Vec::new(), None);
        let (mut hint, mut is_over) = (None, false);
        assert!(text.starts_with("#EXTM3U\n"), "{text}");
        for line in text.lines() {
            let (tag, value) = line.split_once(':').unwrap_or((line, ""));
            match tag {
                "#EXT-X-TARGETDURATION" => value.clone_into(&mut targets.0),
                "#EXT-X-PART-INF" => value.clone_into(&mut targets.1),
                "#EXT-X-MEDIA-SEQUENCE" => {
                    (first_msn, part) = (value.parse().expect("a number"), 0);
                    msn = first_msn;
                }
                "#EXT-X-SKIP" => {
                    let skipped = value.split('=').nth(1).expect("a number");
                    msn += skipped.parse::<u64>().expect("a number");
                }
                "#EXT-X-DISCONTINUITY" => breaks = true,
                "#EXT-X-MAP" => uri_of(line).expect("a reference").clone_into(&mut map),
                "#EXT-X-PART" => {
                    let uri = uri_of(line).expect("a reference").to_owned();
                    let (run, file) = uri.split_once('/').expect("a run");
                    assert_eq!(file, format!("{letter}{msn}.{part}.m4s"), "{text}");
                    name = run.to_owned();
                    let is_after_break = std::mem::take(&mut breaks);
                    parts.push(ListedPart {
                        place: (msn, part),
                        uri,
                        map: map.clone(),
                        is_after_break,
                    });
                    part += 1;
                }
                "#EXT-X-PRELOAD-HINT" => {
                    let uri = uri_of(line).expect("a reference");
                    let (run, file) = uri.split_once('/').expect("a run");
                    name = run.to_owned();
                    assert_eq!(file, format!("{letter}{msn}.{part}.m4s"), "{text}");
                    hint = Some((msn, part));
                }
                "#EXT-X-ENDLIST" => is_over = true,
                _ if !line.starts_with('#') => {
                    let (run, file) = line.split_once('/').expect("a run");
                    assert_eq!(file, format!("{letter}{msn}.m4s"), "{text}");
                    name = run.to_owned();
                    complete = (part > 0).then_some(msn);
                    (msn, part, breaks) = (msn + 1, 0, false);
                }
                _ => {}
            }
        }
        assert!(is_over != hint.is_some(), "{text}");
        if is_over && name.is_empty() {
            // It has ended before there was anything.
            return self.forget_run();
        }
        if name != self.run.name {
            self.forget_run();
            self.run = Run { name, targets: targets.clone(), ..Run::default() };
        }
        let run = &mut self.run;
        assert_eq!(targets, run.targets, "durations never change: {text}");
        assert!(first_msn >= run.first_msn && (is_over || !run.is_over), "{text}");
        let is_there = awaited.is_none_or(|place| hint.is_none_or(|hint| hint > place));
        assert!(is_there, "it was to be answered with {awaited:?}: {text}");
        (run.first_msn, run.hint, run.is_over) = (first_msn, hint, is_over);
        // A delta update has the sections of the skipped segments in the playlist before.
        let known_map = run.owed.back().map(|part| part.map.clone());
        let known_map = known_map.or_else(|| run.init.as_ref().map(|(uri, _)| uri.clone()));
        for listed in parts.iter_mut().filter(|listed| listed.map.is_empty()) {
            let Some(map) = &known_map else { return self.forget_run() };
            listed.map.clone_from(map);
        }
        if let Some(first) = parts.first()
            && run.next.is_none_or(|next| next < first.place)
        {
            (self.may_lack, run.next) = (true, Some(first.place));
            (run.owed, run.parts) = (VecDeque::new(), BTreeMap::new());
        }
        let next = run.next;
        for listed in
            parts.into_iter().filter(|listed| next.is_some_and(|next| listed.place >= next))
        {
            run.next = Some((listed.place.0, listed.place.1 + 1));
            run.owed.push_back(listed);
        }
        if let Some(hint) = hint.filter(|hint| run.next.is_none_or(|next| next <= *hint)) {
            run.next = Some(hint);
        }
        let has_all = |msn: &u64| {
            run.parts.contains_key(&(*msn, 0)) || run.owed.iter().any(|p| p.place == (*msn, 0))
        };
        run.complete = complete.filter(has_all);
    }

    /// Returns the frames of a part.
    fn fetched(&mut self, part: &ListedPart, body: &[u8]) -> Fetched {
        if let Some(early) = self.run.parts.get(&part.place) {
            assert_eq!(early, body, "{:?} was another one before", part.place);
        }
        self.run.parts.insert(part.place, body.to_vec());
        let (kind, moof, rest) = take_box(body).expect("a fragment");
        let (mdat, mut samples, rest) = take_box(rest).expect("its frames");
        assert_eq!((kind, mdat, rest), (b"moof", b"mdat", &[][..]));
        let [tfdt, trun] = [b"tfdt", b"trun"].map(|kind| content_of(moof, kind).expect("a box"));
        let decode = u64::from(big(&tfdt[4..8])) << 32 | u64::from(big(&tfdt[8..12]));
        let before = std::mem::replace(&mut self.run.decoded, decode);
        assert!(decode >= before || part.is_after_break || self.may_lack, "{decode}, {before}");
        assert_eq!(big(&trun[8..12]) as usize, 8 + moof.len() + 8, "where the frames are");
        let mut frames = Vec::new();
        for entry in trun[12..].chunks(16) {
            let (sample, rest) = samples.split_at(big(&entry[4..8]) as usize);
            frames.push(media::frame(self.is_video, sample, 0));
            samples = rest;
        }
        assert!(samples.is_empty() && frames.len() == big(&trun[4..8]) as usize);
        let (_, configuration) = self.run.init.as_ref().expect("an initialization section");
        let configuration = *configuration;
        let may_lack = std::mem::take(&mut self.may_lack) || part.is_after_break;
        let is_key = |message: &Message| media::read(message).0 != Kind::Inter;
        assert!(!may_lack || frames.first().is_some_and(is_key), "it begins within a GOP");
        Fetched { frames, configuration, may_lack }
    }
}
