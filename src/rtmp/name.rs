//! Names: the stream that an application and a key refer to, however a client splits or encodes its
//! URL.
//!
//! Owns the rules that turn every client's spelling of a stream into one canonical name, and
//! refuses names that would harm a log, a file or a reader. A query is never decoded; it stays raw
//! for the access rules. There are no virtual hosts: the host of a URL is not part of a name.
//!
//! A name has two or more parts, joined by single slashes. The rules apply in this order. Applied
//! to their own result, they change nothing. `+` separates application and key.
//!
//! | # | a client sends | name or refusal |
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
//! - 1: ffmpeg (and VLC, which uses it) and librtmp (rtmpdump) put two parts of a URL into the
//!   application. GStreamer puts all but the last there. OBS has a field for each half, so its
//!   users split the URL anywhere.
//! - 2: the query is kept apart from the name. The query of the key comes first.
//! - 3: all clients split at a slash, even at one in the query. Then the application has two parts
//!   and its query has a slash or ends with a colon, or the key has `=` or `&`. In these cases the
//!   query is joined again. A key such as `cd` has no such mark and is used as a key, so users
//!   should encode slashes in a query.
//! - 4 to 6: users of OBS split credentials over both fields or forget the question mark. A stream
//!   without a name of its own, or with parameters in its name, is refused, because the credentials
//!   would become a public name.
//! - 7: librtmp decodes the key before it sends it, and other clients do not. The key is decoded
//!   until no escape is left, so that both give the same name. A `%` that encodes nothing stays.
//! - 8: librtmp sends this as a question mark, so it counts as one.
//! - 10 and 11: ffmpeg and librtmp replace some endings by prefixes and drop `.flv`. librtmp splits
//!   a path after a prefix. Only the last part loses its ending.
//! - 12: Flash and Wowza use this name for the default instance of an application.
//! - 13 and 14: users of OBS paste the whole URL as the key. It must lead into the application.
//! - 15: ffmpeg sends a single part as the application, OBS as the key, and GStreamer sends
//!   nothing.
//!
//! Names are case-sensitive, and are not normalised: different code points for one letter differ.

use smallvec::SmallVec;
use smol_str::SmolStr;
use std::borrow::Cow;
use std::fmt;

use crate::limits::{NAME_BYTES_MAX, QUERY_BYTES_MAX};

/// The application of a `connect`: a path and a raw query.
///
/// Both are in one string, after one another, with a separator that no path can contain. Two
/// strings are rejected because every idle connection holds an application. Short strings, which
/// are the majority, are stored inline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppName(SmolStr);

/// Separates the path from a query that was part of the application.
const QUERY_OF_APP: char = '?';
/// Separates the path from a query that was only in `tcUrl`.
const QUERY_OF_TC_URL: char = '\0';

const _: () = assert!(size_of::<AppName>() <= 24);

/// Name of the default instance of an application.
const DEFAULT_INSTANCE: &str = "_definst_";
/// Prefixes with which players request a container. A live stream has none.
const FORMAT_PREFIXES: [&str; 4] = ["mp4:", "flv:", "mp3:", "id3:"];
/// Endings that clients replace by a prefix, drop, or leave.
const FORMAT_ENDINGS: [&str; 4] = [".flv", ".mp4", ".f4v", ".mp3"];
/// URL schemes of RTMP servers, as they look as part of a path.
const SCHEMES: [&str; 7] = ["rtmp:", "rtmps:", "rtmpt:", "rtmpe:", "rtmpte:", "rtmpts:", "rtmfp:"];

/// The parts of a path.
type Parts<'a> = SmallVec<[&'a str; 8]>;

/// The stream that a key refers to within an application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamTarget {
    /// The canonical name of application and key. It is the same for every spelling of the URL.
    pub name: String,
    /// The raw queries of both. The query of the key comes first, so its parameters win.
    pub query: String,
}

impl StreamTarget {
    /// Returns the allocated memory (bytes).
    pub const fn held_bytes(&self) -> usize {
        self.name.capacity() + self.query.capacity()
    }
}

impl AppName {
    /// Returns the allocated memory (bytes).
    pub(super) fn held_bytes(&self) -> usize {
        if self.0.is_heap_allocated() { self.0.len() } else { 0 }
    }

    /// Parses the `app` of `connect`. If `app` has no query, the application gets that of `tcUrl`.
    /// If `app` is empty, the application also gets the path of `tcUrl`.
    pub fn parse(app: &[u8], tc_url: Option<&[u8]>) -> Result<Self, NameError> {
        let (mut path, query) = split_at_query(trim_blanks(text(app)?))?;
        if let Some(tc_url) = tc_url.filter(|_| path.is_empty() && query.is_none()) {
            path = split_at_query(trim_blanks(text(tc_url)?))?.0;
        }
        let parts = parts(path.split('/'))?;
        // If the last part is a scheme, the client split a URL there and the key has the rest.
        let is_split = parts.last().is_some_and(|part| is_scheme(part));
        let mut kept = if is_split { joined(&parts)? } else { joined(without_url(&parts)?)? };
        if let Some(query) = query {
            kept.push(QUERY_OF_APP);
            kept.push_str(checked_query(query)?);
        } else if let Some(query) = tc_url.and_then(query_bytes) {
            kept.push(QUERY_OF_TC_URL);
            kept.push_str(checked_query(trim_blanks(text(query)?))?);
        }
        Ok(Self(kept.into()))
    }

    /// Returns the path without slashes around it; empty if the URL has none.
    pub fn path(&self) -> &str {
        self.split().0
    }

    /// Returns the raw query, without its question mark.
    pub fn query(&self) -> &str {
        self.split().1.unwrap_or_default()
    }

    /// Returns the stream that the `key` of `publish` or `play` refers to. If the key is empty, the
    /// last part of the application is the key.
    pub fn stream(&self, key: &[u8]) -> Result<StreamTarget, NameError> {
        let key = trim_blanks(text(key)?);
        let (key_path, key_query) = split_at_query(key)?;
        if self.key_continues_query(&key_path) {
            return self.stream_of_split_query(key);
        }
        let mut parts = parts(self.path().split('/').chain(key_path.split('/')))?;
        strip_ending(&mut parts)?;
        let name = named(without_url(&parts)?)?;
        let query = joined_queries(key_query.unwrap_or_default(), self.query());
        Ok(StreamTarget { name, query: checked_query(&query)?.to_owned() })
    }

    /// Returns the stream of an application whose query continues in the `key`. Blanks and slashes
    /// of the key are kept, because they may belong to a signature.
    fn stream_of_split_query(&self, key: &str) -> Result<StreamTarget, NameError> {
        let mut parts = parts(self.path().split('/'))?;
        strip_ending(&mut parts)?;
        let parts = without_url(&parts)?;
        if parts.len() < 2 {
            return Err(NameError::QueryAsKey);
        }
        let query = self.query();
        // A client splits at a slash, and that slash is restored. A user splits after the question
        // mark or before a parameter, and then there was no slash.
        let is_whole = query.is_empty() || query.ends_with('&') || key.starts_with('&');
        let query = [query, if is_whole { "" } else { "/" }, key].concat();
        Ok(StreamTarget { name: named(parts)?, query: checked_query(&query)?.to_owned() })
    }

    fn split(&self) -> (&str, Option<&str>) {
        split_at(&self.0, |c| c == QUERY_OF_APP || c == QUERY_OF_TC_URL)
    }

    /// Returns true if a client split the URL at a slash in the query.
    ///
    /// ffmpeg splits `live/key?sig=ab/cd+e==` at its second slash, into the application
    /// `live/key?sig=ab` and the key `cd+e==`. Three things reveal that: another slash in the
    /// query, a colon at its end (from `://`), or an `=` or `&` in the key.
    ///
    /// An application of one part contains no stream name, so the key is the name, unless it has a
    /// parameter. An `=` at the end is not enough there: it may be the padding of base64. A query
    /// from `tcUrl` was not split, so it does not count.
    fn key_continues_query(&self, key_path: &str) -> bool {
        let path = self.path();
        let query = self.0.strip_prefix(path).and_then(|rest| rest.strip_prefix(QUERY_OF_APP));
        let Some(query) = query.filter(|_| !key_path.is_empty()) else { return false };
        if path.contains('/') {
            query.contains('/') || query.ends_with(':') || key_path.contains(['=', '&'])
        } else {
            key_path.contains('&') || key_path.trim_end_matches('=').contains('=')
        }
    }
}

/// Returns true if `text` is a canonical application path, as [`AppName::path`] returns it.
pub fn is_app(text: &str) -> bool {
    let app = AppName::parse(text.as_bytes(), None);
    !text.is_empty() && app.is_ok_and(|app| app.path() == text)
}

/// Returns true if `text` is a canonical key, which [`AppName::stream`] does not change.
pub fn is_key(text: &str) -> bool {
    let target = AppName("app".into()).stream(text.as_bytes());
    !text.is_empty() && target.is_ok_and(|target| target.name.strip_prefix("app/") == Some(text))
}

/// Splits a spelling at its first question mark, plain or encoded. The path before it is decoded;
/// the query stays raw.
fn split_at_query(spelling: &str) -> Result<(Cow<'_, str>, Option<&str>), NameError> {
    match spelling.find(['?', '%']) {
        None => Ok((spelling.into(), None)),
        Some(at) if spelling[at..].starts_with('?') => {
            Ok((spelling[..at].into(), Some(&spelling[at + 1..])))
        }
        Some(_) => decode(spelling).map(|(path, query)| (path.into(), query)),
    }
}

/// Decodes escapes until none is left. So a path that one client has decoded and another has not
/// gives the same result.
///
/// Decoding in repeated passes is rejected: `%252525...` would make the work quadratic. One pass is
/// enough, because a new escape can only end with the byte that was decoded last, so it is always
/// at the end of the path.
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

/// Returns the parts of a path, without blanks and prefixes. Empty parts and the default instance
/// are left out.
fn parts<'a>(all: impl Iterator<Item = &'a str>) -> Result<Parts<'a>, NameError> {
    let (mut parts, mut bytes) = (Parts::new(), 0);
    for part in all.map(bare).filter(counts) {
        check_part(part)?;
        // Parts of a URL count as well, although `without_url` drops them later. Otherwise a key of
        // many short parts would cost more work than any name needs.
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

/// Removes blanks around a part, and format prefixes.
fn bare(part: &str) -> &str {
    let mut bare = trim_blanks(part);
    while let Some(rest) = FORMAT_PREFIXES.iter().find_map(|prefix| bare.strip_prefix(prefix)) {
        bare = trim_blanks(rest);
    }
    bare
}

/// Removes format endings from the last part.
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

/// If the parts contain a URL, returns the parts of its path. The parts before it are the
/// application of the connection, so the path must begin with them.
fn without_url<'v, 'a>(mut parts: &'v [&'a str]) -> Result<&'v [&'a str], NameError> {
    while let Some(at) = parts.iter().position(|part| is_scheme(part)) {
        let (app, url) = parts.split_at(at);
        // Skips the scheme and the host, which may contain a user and a password.
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

/// Joins the parts of a stream name; there must be at least two.
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

/// Refuses characters that would break a line or reorder text where the name is displayed.
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

/// Removes blanks, which people paste, and NUL, with which some encoders end their strings.
fn trim_blanks(text: &str) -> &str {
    text.trim_matches(is_blank)
}

const fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\0')
}

/// An error in an application or a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// The name has fewer than two parts.
    Empty,
    /// The key contains the parameters of a query.
    QueryAsKey,
    /// The key is a URL that does not lead into the application.
    UrlAsKey,
    /// The name is too long.
    NameTooLong {
        /// The bound in bytes.
        bytes_max: usize,
    },
    /// The query is too long.
    QueryTooLong {
        /// The length in bytes.
        bytes: usize,
        /// The bound in bytes.
        bytes_max: usize,
    },
    /// The bytes are not UTF-8.
    NotUtf8 {
        /// Position of the first invalid byte.
        at: usize,
    },
    /// The name contains a control character, such as a line break or NUL.
    Control(char),
    /// The name contains a character that reorders the text around it.
    Bidi(char),
    /// A part of the name is `.` or `..`.
    DotPart,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str(
                "no stream key: use an application and a stream key, as in rtmp://host/live/key",
            ),
            Self::QueryAsKey => f.write_str(
                "stream key has parameters: write a question mark before them, as in key?user=u",
            ),
            Self::UrlAsKey => {
                f.write_str("stream key is the URL of another application: use only the key")
            }
            Self::NameTooLong { bytes_max } => {
                write!(f, "stream name is longer than {bytes_max} bytes")
            }
            Self::QueryTooLong { bytes, bytes_max } => {
                write!(f, "query has {bytes} bytes, at most {bytes_max} are allowed")
            }
            Self::NotUtf8 { at } => write!(f, "stream name is not UTF-8 at byte {at}"),
            Self::Control(character) => {
                write!(f, "stream name has the control character U+{:04X}", u32::from(character))
            }
            Self::Bidi(character) => {
                let code = u32::from(character);
                write!(f, "stream name has the text direction character U+{code:04X}")
            }
            Self::DotPart => write!(f, "stream name has a part \".\" or \"..\""),
        }
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests;
