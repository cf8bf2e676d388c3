//! The playlists of a stream in text: RFC 8216bis, with the tags of low latency.
//!
//! Owns the names of the segments and the rules about which of them a playlist lists. It answers no
//! request and waits for nothing.

use super::meter::Report;
use super::parts::{PartLog, RenditionKind};
use super::rendition::{MediaSegment, PartialSegment, Rendition};
use crate::limits;
use ::time::OffsetDateTime;
use ::time::format_description::well_known::Rfc3339;
use std::fmt::{self, Display, Formatter, Write};
use std::str::FromStr;

/// Oldest version with all tags that are used: `EXT-X-SKIP` has come with it.
const VERSION: u32 = 9;
/// Distance from the end of a playlist from which on a delta update skips segments (target
/// durations; RFC 8216bis, section 4.4.3.8 asks for six).
const SKIP_TARGETS: u64 = 6;
/// Distance from the end of a playlist up to which partial segments are listed (target durations;
/// RFC 8216bis, section 6.2.2).
const PARTS_TARGETS: u64 = 3;
/// Distance from the end at which players play (target durations, and part targets). The minimum
/// for parts is two, of which Apple's players demand three.
const HOLD_BACK: u64 = 3;

/// What the references in a playlist begin and end with.
#[derive(Clone, Copy, Debug)]
pub struct Links<'l> {
    /// Path from the playlist to the place of the stream.
    pub prefix: &'l str,
    /// The query of the request, which may hold a token; empty, or with its question mark.
    pub query: &'l str,
}

/// A file of a rendition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// The rendition.
    pub rendition: RenditionKind,
    /// What of it.
    pub content: SegmentContent,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentContent {
    /// An initialization section, by its number.
    Init(u32),
    /// A whole segment, by its media sequence number.
    Segment(u64),
    /// A part of a segment, by the number of the segment and its index there.
    Part(u64, usize),
}

impl RenditionKind {
    const fn letter(self) -> char {
        match self {
            Self::Video => 'v',
            Self::Audio => 'a',
        }
    }

    /// Returns the name of its playlist.
    pub const fn playlist(self) -> &'static str {
        match self {
            Self::Video => "video.m3u8",
            Self::Audio => "audio.m3u8",
        }
    }
}

impl SegmentFile {
    /// Reads a name, such as `v12.m4s`, `a12.3.m4s` or `vinit0.mp4`.
    pub fn parse(name: &str) -> Option<Self> {
        let letter = name.chars().next()?;
        let rendition = RenditionKind::ALL.into_iter().find(|kind| kind.letter() == letter)?;
        let rest = &name[1..];
        let content = match rest.strip_prefix("init") {
            Some(rest) => SegmentContent::Init(number(rest.strip_suffix(".mp4")?)?),
            None => {
                let rest = rest.strip_suffix(".m4s")?;
                match rest.split_once('.') {
                    None => SegmentContent::Segment(number(rest)?),
                    Some((msn, part)) => SegmentContent::Part(number(msn)?, number(part)?),
                }
            }
        };
        Some(Self { rendition, content })
    }

    /// Returns its only name.
    pub fn name(self) -> String {
        let letter = self.rendition.letter();
        match self.content {
            SegmentContent::Init(number) => format!("{letter}init{number}.mp4"),
            SegmentContent::Segment(msn) => format!("{letter}{msn}.m4s"),
            SegmentContent::Part(msn, part) => format!("{letter}{msn}.{part}.m4s"),
        }
    }
}

/// Reads a number in the only form that names have. A second form would be a second name.
fn number<N: FromStr + ToString>(text: &str) -> Option<N> {
    text.parse::<N>().ok().filter(|number| number.to_string() == text)
}

/// Returns the multivariant playlist: the codecs and the renditions of the stream.
pub fn multivariant(log: &PartLog, report: &Report, links: Links<'_>) -> String {
    let mut out = format!("#EXTM3U\n#EXT-X-VERSION:{VERSION}\n");
    let (video, audio) = (log.rendition(RenditionKind::Video), log.rendition(RenditionKind::Audio));
    let Links { prefix, query } = links;
    if let (Some(_), Some(audio)) = (video, audio) {
        let uri = RenditionKind::Audio.playlist();
        let channels = audio.config().channels().unwrap_or(2);
        let _ = writeln!(
            out,
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"audio\",DEFAULT=YES,AUTOSELECT=YES,\
             CHANNELS=\"{channels}\",URI=\"{prefix}{uri}{query}\""
        );
    }
    let renditions: Vec<_> = video.into_iter().chain(audio).collect();
    let codecs: Vec<_> = renditions.iter().map(|r| r.config().codec_string()).collect();
    let measured: u64 = renditions.iter().map(|rendition| rendition.peak_bitrate()).sum();
    let (mean, peak) = report.bitrate.unwrap_or_default();
    // Boxes add to the bytes that were measured on arrival, and later segments may be larger.
    let peak = measured.max(peak).max(1) / 10 * 11 + 1;
    let _ = write!(out, "#EXT-X-STREAM-INF:BANDWIDTH={peak}");
    if mean > 0 {
        let _ = write!(out, ",AVERAGE-BANDWIDTH={}", mean.min(peak));
    }
    let _ = write!(out, ",CODECS=\"{}\"", codecs.join(","));
    if let Some((width, height)) = video.and_then(|video| video.config().size()) {
        let _ = write!(out, ",RESOLUTION={width}x{height}");
    }
    if let Some(rate) = report.frame_rate_millihertz.filter(|_| video.is_some()) {
        let _ = write!(out, ",FRAME-RATE={}", Seconds(rate));
    }
    if renditions.len() > 1 {
        out.push_str(",AUDIO=\"audio\"");
    }
    let uri = match video {
        Some(_) => RenditionKind::Video.playlist(),
        None => RenditionKind::Audio.playlist(),
    };
    let _ = writeln!(out, "\n{prefix}{uri}{query}");
    out
}

/// Returns the media playlist of a rendition, if the stream has it. With `skips` it is a delta
/// update, if it has segments that are old enough to be skipped.
pub fn media(log: &PartLog, kind: RenditionKind, skips: bool, links: Links<'_>) -> Option<String> {
    let rendition = log.rendition(kind)?;
    let target_s = rendition.pace().target_s;
    let target_ms = u64::from(target_s) * 1000;
    let part_ms = u64::from(rendition.pace().part_ms);
    let mut out = format!("#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-TARGETDURATION:{target_s}\n");
    let _ = writeln!(
        out,
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={},PART-HOLD-BACK={},\
         HOLD-BACK={}",
        Seconds(SKIP_TARGETS * target_ms),
        Seconds(HOLD_BACK * part_ms),
        Seconds(HOLD_BACK * target_ms),
    );
    let _ = writeln!(out, "#EXT-X-PART-INF:PART-TARGET={}", Seconds(part_ms));
    let listed: Vec<_> = rendition.listed().collect();
    let first_msn = listed.first().map_or(0, |(msn, _)| *msn);
    let _ = writeln!(out, "#EXT-X-MEDIA-SEQUENCE:{first_msn}");
    let _ = writeln!(out, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", rendition.discontinuities());
    let mut after_ms: u64 = listed.iter().map(|(_, segment)| segment.duration_ms).sum();
    let is_old = |after_ms: &u64| *after_ms >= SKIP_TARGETS * target_ms;
    // The newest parts are listed, counted from the end, since players begin there.
    let mut parts = 0;
    let exceeds = |(_, segment): &(u64, &MediaSegment)| {
        parts += segment.parts.len();
        parts > limits::HLS_LISTED_PARTS_MAX
    };
    let parts_from = listed.iter().rposition(exceeds).map_or(0, |index| index + 1);
    let mut writer = Writer { out, log, kind, links, init: None };
    let mut skipped = 0;
    for (index, (msn, segment)) in listed.iter().enumerate() {
        after_ms -= segment.duration_ms;
        if skips && skipped == index && is_old(&after_ms) {
            skipped += 1;
            // The section before the boundary is that of the previous playlist.
            writer.init = Some(segment.init);
            continue;
        }
        if skipped > 0 && skipped == index {
            let _ = writeln!(writer.out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}");
        }
        let is_complete = index + 1 < listed.len();
        let has_parts = after_ms <= PARTS_TARGETS * target_ms && index >= parts_from;
        writer.segment(*msn, segment, is_complete, has_parts);
    }
    writer.end(rendition);
    Some(writer.out)
}

/// A media playlist that is being written.
struct Writer<'p> {
    out: String,
    log: &'p PartLog,
    kind: RenditionKind,
    links: Links<'p>,
    /// The initialization section of the last segment.
    init: Option<u32>,
}

impl Writer<'_> {
    fn uri(&self, content: SegmentContent) -> String {
        let file = SegmentFile { rendition: self.kind, content };
        let Links { prefix, query } = self.links;
        format!("{prefix}{}/{}{query}", self.log.incarnation(), file.name())
    }

    fn segment(&mut self, msn: u64, segment: &MediaSegment, is_complete: bool, has_parts: bool) {
        let Some(start_ms) = segment.start_ms else { return };
        if segment.is_discontinuous {
            self.out.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if self.init != Some(segment.init) {
            self.init = Some(segment.init);
            let uri = self.uri(SegmentContent::Init(segment.init));
            let _ = writeln!(self.out, "#EXT-X-MAP:URI=\"{uri}\"");
        }
        if let Some(date) = date_of(self.log.unix_ms(start_ms)) {
            let _ = writeln!(self.out, "#EXT-X-PROGRAM-DATE-TIME:{date}");
        }
        if has_parts {
            for (index, part) in segment.parts.iter().enumerate() {
                self.part(msn, index, part);
            }
        }
        if is_complete {
            let uri = self.uri(SegmentContent::Segment(msn));
            let _ = writeln!(self.out, "#EXTINF:{},\n{uri}", Seconds(segment.duration_ms));
        }
    }

    fn part(&mut self, msn: u64, index: usize, part: &PartialSegment) {
        let uri = self.uri(SegmentContent::Part(msn, index));
        let duration = Seconds(part.duration_ms.into());
        let independent = if part.is_independent { ",INDEPENDENT=YES" } else { "" };
        let _ = writeln!(self.out, "#EXT-X-PART:DURATION={duration},URI=\"{uri}\"{independent}");
    }

    fn end(&mut self, rendition: &Rendition) {
        if self.log.is_over() {
            self.out.push_str("#EXT-X-ENDLIST\n");
            return;
        }
        let (msn, part) = rendition.next();
        let uri = self.uri(SegmentContent::Part(msn, part));
        let _ = writeln!(self.out, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{uri}\"");
        for kind in RenditionKind::ALL.into_iter().filter(|kind| *kind != self.kind) {
            let Some((msn, part)) = self.log.rendition(kind).and_then(Rendition::last_part) else {
                continue;
            };
            let Links { prefix, query } = self.links;
            let _ = writeln!(
                self.out,
                "#EXT-X-RENDITION-REPORT:URI=\"{prefix}{}{query}\",LAST-MSN={msn},LAST-PART={part}",
                kind.playlist()
            );
        }
    }
}

/// A number of thousandths as a decimal number.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// Returns a time of day (ms since 1970) as ISO 8601 has it.
fn date_of(unix_ms: u64) -> Option<String> {
    let date = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000).ok()?;
    date.format(&Rfc3339).ok()
}
