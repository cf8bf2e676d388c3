//! Names: which stream an application and a key mean, however a client cuts or encodes its URL.
//!
//! Owns the rules that bring every client's spelling of a stream to one name, and the refusal of
//! names that would harm a log, a file or a reader. It never decodes a query, which stays raw for
//! access rules. There are no virtual hosts: the host of a URL is not part of a name.
//!
//! A name has two parts or more, joined by single slashes. The rules hold in this order, and they
//! change nothing of their own result. `+` stands between application and key.
//!
//! | # | what a client sends | name or refusal |
//! |---|---|---|
//! | 1 | `live/a` + `b`, `live` + `a/b`, `live/a/b` + nothing | `live/a/b` |
//! | 2 | `live?x=1` + `s`, `live` + `s?x=1`, `live` + `s` and `tcUrl` with `?x=1` | `live/s` |
//! |   | no application, `tcUrl` is `rtmp://host/live`, and the key `s` | `live/s` |
//! | 3 | `live/s?sig=ab` + `cd==` | `live/s` |
//! | 4 | `live/s?` + `user=u&pass=p` | `live/s` |
//! | 5 | `s?` + `user=u&pass=p` | [`NameError::QueryAsKey`] |
//! | 6 | `live` + `s&user=u&pass=p` | [`NameError::QueryAsKey`] |
//! | 7 | `live` + `my%20show`, `a%2Fb`, `100%2525` | `live/my show`, `live/a/b`, `live/100%` |
//! | 8 | `live` + `s%3Fx=1` | `live/s` |
//! | 9 | `/live/` + ` //s `, `live` + `s` and a NUL | `live/s` |
//! | 10 | `live` + `mp4:s`, `live/mp4:a` + `b` | `live/s`, `live/a/b` |
//! | 11 | `live` + `s.flv`, `s.mp4`, `s.f4v`, `s.mp3` | `live/s` |
//! | 12 | `live/_definst_` + `s`, `live` + `_definst_/s` | `live/s` |
//! | 13 | `live` + `rtmp://host/live/s` | `live/s` |
//! | 14 | `live` + `rtmp://host/other/s` | [`NameError::UrlAsKey`] |
//! | 15 | `live` + nothing, nothing + `s` | [`NameError::Empty`] |
//!
//! The reasons:
//!
//! - 1: of a URL, ffmpeg (and VLC with it) and librtmp (rtmpdump) give the application two parts,
//!   GStreamer all but the last. OBS has a field for each half, so its users cut where they like.
//! - 2: the query is kept apart from the name, that of the key first.
//! - 3: all clients look for their slash in the query, too. An application of two parts whose
//!   query has a slash or ends with a colon, or a key that has `=` or `&`, tells that they found it
//!   there. The query is put together again. A key such as `cd` alone tells nothing and is taken
//!   as one, so a slash in a query is better encoded.
//! - 4 to 6: users of OBS split credentials over both fields or forget the question mark. What has
//!   no name of its own, or parameters in its name, would show them as a public name.
//! - 7: librtmp decodes the key before it sends it, the others send it as it is. It is decoded
//!   until no escape is left, which makes both the same; a `%` that encodes nothing stays.
//! - 8: librtmp sends this as a question mark, so it is one.
//! - 10 and 11: ffmpeg and librtmp put prefixes in the place of some endings, drop `.flv`, and
//!   librtmp cuts a path after a prefix. Only the last part loses its ending.
//! - 12: Flash and Wowza call so the instance of an application that is meant without a name.
//! - 13 and 14: users of OBS paste the whole URL. It must lead into the application.
//! - 15: ffmpeg sends the one part as an application, OBS as a key, and GStreamer not at all.
//!
//! Upper and lower case differ, and so do different code points for one letter.

use smallvec::SmallVec;
use smol_str::SmolStr;
use std::borrow::Cow;
use std::fmt;

use crate::limits::{NAME_BYTES_MAX, QUERY_BYTES_MAX};

/// The application as `connect` gave it: a path and a raw query.
///
/// One text, since every idle connection holds one: the query stands behind a separator that no
/// path can contain. A short one, as most are, lies within this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppName(SmolStr);

/// Between the path and a query that stood in the application.
const QUERY_OF_APP: char = '?';
/// Between the path and a query that stood only in `tcUrl`.
const QUERY_OF_TC_URL: char = '\0';

const _: () = assert!(size_of::<AppName>() <= 24);

/// The instance of an application that is meant when a URL names none.
const DEFAULT_INSTANCE: &str = "_definst_";
/// Players ask for a container by prefix; a live stream has none.
const FORMAT_PREFIXES: [&str; 4] = ["mp4:", "flv:", "mp3:", "id3:"];
/// Clients turn these into a prefix, drop them, or leave them.
const FORMAT_ENDINGS: [&str; 4] = [".flv", ".mp4", ".f4v", ".mp3"];
/// The schemes of URLs that a server of RTMP is reached by, as parts of a path.
const SCHEMES: [&str; 7] = ["rtmp:", "rtmps:", "rtmpt:", "rtmpe:", "rtmpte:", "rtmpts:", "rtmfp:"];

/// The parts of a path.
type Parts<'a> = SmallVec<[&'a str; 8]>;

/// The stream that a key means within an application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamTarget {
    /// The canonical name, application and key: equal for every way to write the URL.
    pub name: String,
    /// The raw queries of both; that of the key comes first, so that its parameters win.
    pub query: String,
}

impl StreamTarget {
    /// Memory that it holds in addition to itself (bytes).
    pub const fn held_bytes(&self) -> usize {
        self.name.capacity() + self.query.capacity()
    }
}

impl AppName {
    /// Memory that it holds (bytes).
    pub(super) fn held_bytes(&self) -> usize {
        if self.0.is_heap_allocated() { self.0.len() } else { 0 }
    }

    /// Reads the `app` of `connect`. A query that stands only in `tcUrl` is the application's too,
    /// and so is the path of that URL where there is no `app`.
    pub fn parse(app: &[u8], tc_url: Option<&[u8]>) -> Result<Self, NameError> {
        let (mut path, query) = cut_at_query(trim_blanks(text(app)?))?;
        if let Some(tc_url) = tc_url.filter(|_| path.is_empty() && query.is_none()) {
            path = cut_at_query(trim_blanks(text(tc_url)?))?.0;
        }
        let parts = parts(path.split('/'))?;
        // A scheme alone is half of a URL, of which the key has the rest.
        let is_cut = parts.last().is_some_and(|part| is_scheme(part));
        let mut kept = if is_cut { joined(&parts)? } else { joined(without_url(&parts)?)? };
        if let Some(query) = query {
            kept.push(QUERY_OF_APP);
            kept.push_str(checked_query(query)?);
        } else if let Some(query) = tc_url.and_then(query_bytes) {
            kept.push(QUERY_OF_TC_URL);
            kept.push_str(checked_query(trim_blanks(text(query)?))?);
        }
        Ok(Self(kept.into()))
    }

    /// The path without slashes around it; empty if the URL has none.
    pub fn path(&self) -> &str {
        self.split().0
    }

    /// The raw query, without its question mark.
    pub fn query(&self) -> &str {
        self.split().1.unwrap_or_default()
    }

    /// Which stream the `key` of `publish` or `play` means. Without a key it is the one whose
    /// name ends with the last part of the application.
    pub fn stream(&self, key: &[u8]) -> Result<StreamTarget, NameError> {
        let key = trim_blanks(text(key)?);
        let (key_path, key_query) = cut_at_query(key)?;
        if self.key_continues_query(&key_path) {
            return self.stream_of_cut_query(key);
        }
        let mut parts = parts(self.path().split('/').chain(key_path.split('/')))?;
        strip_ending(&mut parts)?;
        let name = named(without_url(&parts)?)?;
        let query = joined_queries(key_query.unwrap_or_default(), self.query());
        Ok(StreamTarget { name, query: checked_query(&query)?.to_owned() })
    }

    /// The stream of an application whose query goes on in the `key`. The key's blanks and slashes
    /// are kept: they may belong to a signature.
    fn stream_of_cut_query(&self, key: &str) -> Result<StreamTarget, NameError> {
        let mut parts = parts(self.path().split('/'))?;
        strip_ending(&mut parts)?;
        let parts = without_url(&parts)?;
        if parts.len() < 2 {
            return Err(NameError::QueryAsKey);
        }
        let query = self.query();
        // A question mark at the end of the application, or a further parameter: the user cut it.
        let is_whole = query.is_empty() || query.ends_with('&') || key.starts_with('&');
        let query = [query, if is_whole { "" } else { "/" }, key].concat();
        Ok(StreamTarget { name: named(parts)?, query: checked_query(&query)?.to_owned() })
    }

    fn split(&self) -> (&str, Option<&str>) {
        split_at(&self.0, |c| c == QUERY_OF_APP || c == QUERY_OF_TC_URL)
    }

    /// Whether a client took a slash inside the query for the one before the key.
    ///
    /// ffmpeg cuts `live/key?sig=ab/cd+e==` at its second slash, into the application
    /// `live/key?sig=ab` and the key `cd+e==`. Either half can tell: a query with another slash,
    /// or a key with the `=` or `&` of a query, or the first slash of `://`. An application of one
    /// part has no stream to give, so there the key must have a parameter: it may end with the
    /// padding of base64. A query
    /// that came from `tcUrl` alone was not cut by anyone.
    fn key_continues_query(&self, key_path: &str) -> bool {
        let path = self.path();
        let behind = self.0.strip_prefix(path).and_then(|rest| rest.strip_prefix(QUERY_OF_APP));
        let Some(query) = behind.filter(|_| !key_path.is_empty()) else { return false };
        if path.contains('/') {
            query.contains('/') || query.ends_with(':') || key_path.contains(['=', '&'])
        } else {
            key_path.contains('&') || key_path.trim_end_matches('=').contains('=')
        }
    }
}

/// Whether `text` is the path of an application as [`AppName::path`] gives it.
pub fn is_app(text: &str) -> bool {
    let app = AppName::parse(text.as_bytes(), None);
    !text.is_empty() && app.is_ok_and(|app| app.path() == text)
}

/// Whether `text` is a key, or the end of a name, that is left as it is by
/// [`AppName::stream`].
pub fn is_key(text: &str) -> bool {
    let target = AppName("app".into()).stream(text.as_bytes());
    !text.is_empty() && target.is_ok_and(|target| target.name.strip_prefix("app/") == Some(text))
}

/// Cuts a spelling at its first question mark, plain or encoded. The path before it is decoded,
/// the query stays raw.
fn cut_at_query(spelling: &str) -> Result<(Cow<'_, str>, Option<&str>), NameError> {
    match spelling.find(['?', '%']) {
        None => Ok((spelling.into(), None)),
        Some(at) if spelling[at..].starts_with('?') => {
            Ok((spelling[..at].into(), Some(&spelling[at + 1..])))
        }
        Some(_) => decode(spelling).map(|(path, query)| (path.into(), query)),
    }
}

/// Decodes until no escape is left, so that a path which one client has decoded and another has
/// not comes out the same. Each byte is looked at once: a decoded one may complete the escape
/// before it, and that is found at the end of what is decoded so far.
fn decode(spelling: &str) -> Result<(String, Option<&str>), NameError> {
    let mut path = Vec::with_capacity(spelling.len());
    let mut query = None;
    for (at, byte) in spelling.bytes().enumerate() {
        path.push(byte);
        while let Some(decoded) = escape_at_end(&path) {
            path.truncate(path.len() - 3);
            path.push(decoded);
        }
        if path.last() == Some(&b'?') {
            path.pop();
            query = Some(&spelling[at + 1..]);
            break;
        }
    }
    Ok((text(&path)?.to_owned(), query))
}

fn escape_at_end(path: &[u8]) -> Option<u8> {
    let [.., b'%', high, low] = *path else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// The parts of a path that count: without blanks, prefixes, empty parts and the default instance.
fn parts<'a>(all: impl Iterator<Item = &'a str>) -> Result<Parts<'a>, NameError> {
    let (mut parts, mut bytes) = (Parts::new(), 0);
    for part in all.map(bare).filter(counts) {
        check_part(part)?;
        // A URL that is going to fall away counts too, or a path of single letters would cost
        // more than it can be worth.
        bytes += 1 + part.len();
        if bytes > 2 * NAME_BYTES_MAX {
            return Err(NameError::NameTooLong { bytes_max: NAME_BYTES_MAX });
        }
        parts.push(part);
    }
    Ok(parts)
}

fn counts(part: &&str) -> bool {
    !part.is_empty() && *part != DEFAULT_INSTANCE
}

fn check_part(part: &str) -> Result<(), NameError> {
    if part == "." || part == ".." {
        return Err(NameError::DotPart);
    }
    check_characters(part)
}

/// A part without blanks around it and without the prefixes of formats.
fn bare(part: &str) -> &str {
    let mut bare = trim_blanks(part);
    while let Some(rest) = FORMAT_PREFIXES.iter().find_map(|prefix| bare.strip_prefix(prefix)) {
        bare = trim_blanks(rest);
    }
    bare
}

/// Takes the endings of formats off the last part.
fn strip_ending(parts: &mut Parts<'_>) -> Result<(), NameError> {
    while let Some(last) = parts.pop() {
        let ending = FORMAT_ENDINGS.iter().find_map(|ending| last.strip_suffix(ending));
        let Some(stem) = ending.map(trim_blanks).filter(|stem| !stem.is_empty()) else {
            parts.push(last);
            break;
        };
        check_part(stem)?;
        parts.extend(Some(stem).filter(counts));
    }
    Ok(())
}

/// The parts of the path of a URL, where the parts have a whole one. What comes before it is the
/// application of the connection, so the URL must lead into that.
fn without_url<'v, 'a>(mut parts: &'v [&'a str]) -> Result<&'v [&'a str], NameError> {
    while let Some(at) = parts.iter().position(|part| is_scheme(part)) {
        let (app, url) = parts.split_at(at);
        // The scheme and the host, which may have a user and a password.
        parts = url.get(2..).unwrap_or_default();
        if !parts.starts_with(app) {
            return Err(NameError::UrlAsKey);
        }
    }
    Ok(parts)
}

fn is_scheme(part: &str) -> bool {
    SCHEMES.iter().any(|scheme| scheme.eq_ignore_ascii_case(part))
}

/// The name of a stream with these parts.
fn named(parts: &[&str]) -> Result<String, NameError> {
    if parts.len() < 2 {
        return Err(NameError::Empty);
    }
    joined(parts)
}

fn joined(parts: &[&str]) -> Result<String, NameError> {
    let path = parts.join("/");
    if path.contains('&') && path.contains('=') {
        return Err(NameError::QueryAsKey);
    }
    if path.len() > NAME_BYTES_MAX {
        return Err(NameError::NameTooLong { bytes_max: NAME_BYTES_MAX });
    }
    Ok(path)
}

fn joined_queries(first: &str, second: &str) -> String {
    let separator = if first.is_empty() || second.is_empty() { "" } else { "&" };
    [first, separator, second].concat()
}

fn checked_query(query: &str) -> Result<&str, NameError> {
    if query.len() > QUERY_BYTES_MAX {
        return Err(NameError::QueryTooLong { bytes: query.len(), bytes_max: QUERY_BYTES_MAX });
    }
    check_characters(query)?;
    Ok(query)
}

/// Refuses what would break a line or reorder text wherever the name is shown.
fn check_characters(text: &str) -> Result<(), NameError> {
    for character in text.chars() {
        match character {
            '\u{2028}' | '\u{2029}' => return Err(NameError::Control(character)),
            '\u{061c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => return Err(NameError::Bidi(character)),
            _ if character.is_control() => return Err(NameError::Control(character)),
            _ => {}
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> Result<&str, NameError> {
    std::str::from_utf8(bytes).map_err(|error| NameError::NotUtf8 { at: error.valid_up_to() })
}

fn query_bytes(url: &[u8]) -> Option<&[u8]> {
    let at = url.iter().position(|&byte| byte == b'?')?;
    url.get(at + 1..)
}

fn split_at(text: &str, is_separator: impl Fn(char) -> bool) -> (&str, Option<&str>) {
    let mut parts = text.splitn(2, is_separator);
    (parts.next().unwrap_or_default(), parts.next())
}

/// People paste blanks, and some encoders send the NUL that ends their strings.
fn trim_blanks(text: &str) -> &str {
    text.trim_matches(is_blank)
}

const fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\0')
}

/// Why an application or a key names no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// There are fewer than two parts.
    Empty,
    /// The key is made of the parameters of a query.
    QueryAsKey,
    /// The key is a URL that does not lead into the application.
    UrlAsKey,
    /// The name is too long.
    NameTooLong {
        /// The bound.
        bytes_max: usize,
    },
    /// The query is too long.
    QueryTooLong {
        /// What it has.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// The bytes are no UTF-8.
    NotUtf8 {
        /// Where they stop to be.
        at: usize,
    },
    /// A control character, line breaks and NUL among them.
    Control(char),
    /// A character that reorders the text around it.
    Bidi(char),
    /// A part is `.` or `..`.
    DotPart,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str(
                "no stream key: application and stream are needed, as in rtmp://host/live/key",
            ),
            Self::QueryAsKey => f.write_str(
                "stream key has parameters: put a question mark before them, as in key?user=u",
            ),
            Self::UrlAsKey => {
                f.write_str("stream key is the URL of another application: give the key alone")
            }
            Self::NameTooLong { bytes_max } => {
                write!(f, "stream name is longer than {bytes_max} bytes")
            }
            Self::QueryTooLong { bytes, bytes_max } => {
                write!(f, "query has {bytes} bytes, {bytes_max} are allowed")
            }
            Self::NotUtf8 { at } => write!(f, "stream name is not UTF-8 from byte {at} on"),
            Self::Control(character) => {
                write!(f, "control character U+{:04X} in stream name", u32::from(character))
            }
            Self::Bidi(character) => {
                write!(f, "text direction character U+{:04X} in stream name", u32::from(character))
            }
            Self::DotPart => write!(f, "stream name with a part \".\" or \"..\""),
        }
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests;
