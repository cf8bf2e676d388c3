//! Names: which stream an application and a key mean, however a client has split its URL.
//!
//! Owns the rules that bring every client's spelling of a stream to one name, and the refusal of
//! names that would harm a log, a file or a reader. It never decodes a query: that stays raw for
//! whoever checks it. Virtual hosts do not exist here: the host of a URL is no part of a name.

use smol_str::SmolStr;
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

/// The stream that a key means within an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamTarget {
    /// The canonical name, application and key: equal for every way to write the URL.
    pub name: String,
    /// The raw queries of both; that of the key comes first, so that its parameters win.
    pub query: String,
}

impl AppName {
    /// Memory that it holds (bytes).
    pub(super) fn held_bytes(&self) -> usize {
        if self.0.is_heap_allocated() { self.0.len() } else { 0 }
    }

    /// Reads the `app` of `connect`. A query that stands only in `tcUrl` is the application's too.
    pub fn parse(app: &[u8], tc_url: Option<&[u8]>) -> Result<Self, NameError> {
        let (path, query) = split_query(trim_blanks(text(app)?));
        let path = canonical_path(path.split('/'))?;
        let path = path.trim_end_matches("/_definst_");
        let mut kept = path.to_owned();
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
        let (key_path, key_query) = split_query(key);
        if self.key_continues_query(key_path) {
            // No blank or slash of the key may be lost here: it is the rest of a signature.
            return Ok(StreamTarget {
                name: self.path().to_owned(),
                query: checked_query(&format!("{}/{key}", self.query()))?.to_owned(),
            });
        }
        let key_path = without_format(key_path.trim_start_matches(is_slash_or_blank));
        let name = canonical_path(self.path().split('/').chain(key_path.split('/')))?;
        // An application of one part names no stream: `rtmp://host/live` has no key at all.
        if name.is_empty() || (name == self.path() && !name.contains('/')) {
            return Err(NameError::Empty);
        }
        let query = joined_queries(key_query.unwrap_or_default(), self.query());
        Ok(StreamTarget { name, query: checked_query(&query)?.to_owned() })
    }

    fn split(&self) -> (&str, Option<&str>) {
        split_at(&self.0, |c| c == QUERY_OF_APP || c == QUERY_OF_TC_URL)
    }

    /// Whether a client took a slash inside the query for the one before the key.
    ///
    /// ffmpeg cuts `live/key?sig=ab/cd+e==` at its second slash, into the application
    /// `live/key?sig=ab` and the key `cd+e==`. Either half can tell: a query with another slash,
    /// or a key with the `=` or `&` of a query. The application must have a key to give, and a
    /// query that came from `tcUrl` alone was not cut by anyone.
    fn key_continues_query(&self, key_path: &str) -> bool {
        let path = self.path();
        let behind = self.0.strip_prefix(path).and_then(|rest| rest.strip_prefix(QUERY_OF_APP));
        let Some(query) = behind else { return false };
        !key_path.is_empty()
            && path.contains('/')
            && (query.contains('/') || key_path.contains(['=', '&']))
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

/// Joins the parts by single slashes. Empty parts say nothing: some clients send slashes doubled,
/// in front and behind.
fn canonical_path<'a>(parts: impl Iterator<Item = &'a str>) -> Result<String, NameError> {
    let mut path = String::new();
    for part in parts.map(|part| part.trim_matches(is_blank)).filter(|part| !part.is_empty()) {
        if part == "." || part == ".." {
            return Err(NameError::DotPart);
        }
        check_characters(part)?;
        let bytes = path.len() + usize::from(!path.is_empty()) + part.len();
        if bytes > NAME_BYTES_MAX {
            return Err(NameError::NameTooLong { bytes_max: NAME_BYTES_MAX });
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
    }
    Ok(path)
}

/// Players ask for a container by prefix; a live stream has none.
fn without_format(key_path: &str) -> &str {
    let prefixes = ["mp4:", "flv:", "mp3:", "id3:"];
    prefixes.iter().find_map(|prefix| key_path.strip_prefix(prefix)).unwrap_or(key_path)
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

fn split_query(text: &str) -> (&str, Option<&str>) {
    split_at(text, |c| c == '?')
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

const fn is_slash_or_blank(character: char) -> bool {
    character == '/' || is_blank(character)
}

/// Why an application or a key names no stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// There is no key, and the application has no part that could be it.
    Empty,
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
            Self::Empty => write!(f, "empty stream key"),
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
mod tests {
    use super::*;

    fn resolve(app: &str, tc_url: &str, key: &str) -> Result<(String, String), NameError> {
        let app = AppName::parse(app.as_bytes(), Some(tc_url.as_bytes()))?;
        let target = app.stream(key.as_bytes())?;
        Ok((target.name, target.query))
    }

    fn assert_resolves(cases: &[(&str, &str, &str, &str)]) {
        for &(app, key, name, query) in cases {
            let tc_url = format!("rtmp://h:1935/{app}");
            assert_eq!(
                resolve(app, &tc_url, key),
                Ok((name.to_owned(), query.to_owned())),
                "app {app:?} key {key:?}"
            );
        }
    }

    #[test]
    fn applications_and_keys_are_told_from_what_would_be_changed() {
        for (text, app, key) in [
            ("live", true, true),
            ("live/eu", true, true),
            ("a b.c-d_é", true, true),
            ("", false, false),
            ("/live", false, false),
            ("live/", false, false),
            ("a//b", false, false),
            (" live", false, false),
            ("live?x", false, false),
            ("live?", false, false),
            ("a/../b", false, false),
            ("a\nb", false, false),
            ("live/_definst_", false, true),
            ("live/_definst_/_definst_", false, true),
            ("mp4:live", true, false),
        ] {
            assert_eq!((is_app(text), is_key(text)), (app, key), "{text:?}");
        }
    }

    #[test]
    fn both_ends_of_every_range_of_refused_characters_are_refused_and_their_neighbours_are_not() {
        const CONTROL: [(u32, u32); 3] = [(0x00, 0x1f), (0x7f, 0x9f), (0x2028, 0x2029)];
        const BIDI: [(u32, u32); 4] =
            [(0x61c, 0x61c), (0x200e, 0x200f), (0x202a, 0x202e), (0x2066, 0x2069)];
        let contains = |ranges: &[(u32, u32)], code| {
            ranges.iter().any(|(first, last)| (*first..=*last).contains(&code))
        };
        for (first, last) in CONTROL.into_iter().chain(BIDI) {
            for code in [first.saturating_sub(1), first, last, last + 1] {
                let character = char::from_u32(code).unwrap();
                let named = resolve("live", "", &format!("a{character}b"));
                let refused = named.as_ref().err().copied();
                let expected = if contains(&CONTROL, code) {
                    Some(NameError::Control(character))
                } else {
                    contains(&BIDI, code).then_some(NameError::Bidi(character))
                };
                assert_eq!(refused, expected, "U+{code:04X}");
            }
        }
    }

    #[test]
    fn cm_28_application_and_key_meet_however_they_are_split() {
        assert_resolves(&[
            ("live", "s1", "live/s1", ""),
            ("live/a", "b", "live/a/b", ""),
            ("live", "a/b", "live/a/b", ""),
            ("live/a/b", "", "live/a/b", ""),
            ("", "live/a/b", "live/a/b", ""),
            ("", "s1", "s1", ""),
            ("live/a", "b/c", "live/a/b/c", ""),
        ]);
    }

    #[test]
    fn cm_29_queries_of_application_and_key_are_united_the_keys_first() {
        assert_resolves(&[
            ("live?tok=1", "s?x=2", "live/s", "x=2&tok=1"),
            ("live", "s1?token=a1", "live/s1", "token=a1"),
            ("live?tok=1", "s", "live/s", "tok=1"),
            ("live?", "s?", "live/s", ""),
            ("live/s?tok=1", "", "live/s", "tok=1"),
            ("live/s", "?tok=1", "live/s", "tok=1"),
            // OBS with a query in both of its fields.
            (
                "live/inst?tok=A",
                "streamkey?token=abc/def",
                "live/inst/streamkey",
                "token=abc/def&tok=A",
            ),
            ("live", "x?u=http://a/b&t=c/d", "live/x", "u=http://a/b&t=c/d"),
        ]);
    }

    #[test]
    fn a_query_of_the_tc_url_never_takes_the_key_for_its_rest() {
        // With a slash and another question mark in it, it looks like an application that was cut.
        for (app, tc_url) in [("live", "rtmp://h/live?a=b/c?d/e"), ("", "rtmp://h/?a=b/c?d/e")] {
            let name = [app, "s"].join("/").trim_start_matches('/').to_owned();
            assert_eq!(resolve(app, tc_url, "s"), Ok((name, "a=b/c?d/e".into())), "{tc_url}");
            assert_eq!(resolve(app, tc_url, ""), Err(NameError::Empty), "{tc_url}");
        }
    }

    #[test]
    fn query_of_the_tc_url_counts_if_the_application_has_none() {
        let cases = [
            ("live", "rtmp://h/live?tok=1", "s", "tok=1"),
            ("live", "rtmp://h/live?tok=1 \0", "s?x=2", "x=2&tok=1"),
            ("live?tok=1", "rtmp://h/live?tok=2", "s", "tok=1"),
            ("live", "rtmp://h/live", "s", ""),
        ];
        for (app, tc_url, key, query) in cases {
            assert_eq!(resolve(app, tc_url, key), Ok(("live/s".into(), query.into())), "{tc_url}");
        }
        let app = AppName::parse(b"live", None).unwrap();
        assert_eq!((app.path(), app.query()), ("live", ""));
    }

    #[test]
    fn cm_30_query_that_ffmpeg_cut_at_its_slash_is_whole_again() {
        assert_resolves(&[
            ("live/tok?sig=ab", "cd+e==", "live/tok", "sig=ab/cd+e=="),
            ("live/tok?sig=ab", "/cd+e==", "live/tok", "sig=ab//cd+e=="),
            ("live/tok?sig=ab", "cd&exp=7", "live/tok", "sig=ab/cd&exp=7"),
            ("live/tok?sig=ab", "c/d?e=f", "live/tok/c/d", "e=f&sig=ab"),
            ("live/tok?sig=a/b", "cd", "live/tok", "sig=a/b/cd"),
        ]);
    }

    #[test]
    fn whole_queries_are_not_joined_with_the_key() {
        assert_resolves(&[
            // The application has no key to give, so the key is the key.
            ("live?u=a/b", "s", "live/s", "u=a/b"),
            ("live?u=a", "s==", "live/s==", "u=a"),
            ("live/inst?tok=A", "s", "live/inst/s", "tok=A"),
        ]);
        assert_eq!(
            resolve("live/a", "rtmp://h/live/a?u=b/c", "s"),
            Ok(("live/a/s".into(), "u=b/c".into()))
        );
    }

    #[test]
    fn cm_31_slashes_and_definst_around_the_application() {
        for app in ["live/", "/live", "live/_definst_", "/live/_definst_/", "live", " live\0"] {
            assert_eq!(AppName::parse(app.as_bytes(), None).unwrap().path(), "live", "{app:?}");
        }
        assert_resolves(&[
            ("live/_definst_", "s", "live/s", ""),
            ("live/_definst_?tok=1", "s", "live/s", "tok=1"),
            ("_definst_", "s", "_definst_/s", ""),
        ]);
    }

    #[test]
    fn slashes_blanks_and_formats_around_the_key() {
        assert_resolves(&[
            ("live", "/s", "live/s", ""),
            ("live", " //s \0", "live/s", ""),
            ("live", "s/", "live/s", ""),
            ("live", "s ?x=1", "live/s", "x=1"),
            ("live//a", "b", "live/a/b", ""),
            ("live", "mp4:s.mp4", "live/s.mp4", ""),
            ("live", "/flv:s", "live/s", ""),
            ("live", "mp4:/s", "live/s", ""),
            ("live", "mp4", "live/mp4", ""),
            ("live", "a b", "live/a b", ""),
            ("живой", "поток", "живой/поток", ""),
        ]);
    }

    #[test]
    fn cm_14_empty_key() {
        for (app, key) in
            [("live", ""), ("live", "/"), ("live", " \0"), ("", ""), ("live?tok=a/b", "?x=1")]
        {
            assert_eq!(resolve(app, "", key), Err(NameError::Empty), "app {app:?} key {key:?}");
        }
    }

    #[test]
    fn cm_32_harmful_names_are_refused() {
        let long = "x".repeat(5000);
        let cases = [
            ("a/../b", NameError::DotPart),
            ("..", NameError::DotPart),
            ("./a", NameError::DotPart),
            ("a/.. ", NameError::DotPart),
            ("a\0b", NameError::Control('\0')),
            ("a\nb", NameError::Control('\n')),
            ("a\n", NameError::Control('\n')),
            ("a\x1b[2J", NameError::Control('\x1b')),
            ("a\u{85}b", NameError::Control('\u{85}')),
            ("a\u{2028}b", NameError::Control('\u{2028}')),
            ("a\u{202e}b", NameError::Bidi('\u{202e}')),
            ("a\u{2066}b", NameError::Bidi('\u{2066}')),
            ("a?x=1\n", NameError::Control('\n')),
            ("a?x=\u{202e}", NameError::Bidi('\u{202e}')),
            (&long, NameError::NameTooLong { bytes_max: NAME_BYTES_MAX }),
        ];
        for (key, error) in cases {
            assert_eq!(resolve("live", "", key), Err(error), "key {key:?}");
            let app = ["live/", key].concat();
            assert_eq!(resolve(&app, "", "s"), Err(error), "app {app:?}");
        }
        assert_eq!(resolve("live", "", "mp4:.."), Err(NameError::DotPart));
    }

    #[test]
    fn names_that_only_look_harmful_are_accepted() {
        for key in ["..a", "a..b", "...", "a.", ".hidden", "%2e%2e"] {
            assert_eq!(resolve("live", "", key), Ok((format!("live/{key}"), String::new())));
        }
    }

    #[test]
    fn am_09_names_that_are_not_utf_8_are_refused() {
        let refused = NameError::NotUtf8 { at: 2 };
        assert_eq!(AppName::parse(b"li\xff", None), Err(refused));
        assert_eq!(AppName::parse(b"live", Some(b"rtmp://h/?ab\xff")), Err(refused));
        assert!(AppName::parse(b"live", Some(b"rtmp://\xff/")).is_ok(), "the host is not used");
        let app = AppName::parse(b"live", None).unwrap();
        assert_eq!(app.stream(b"ab\xc3"), Err(refused));
    }

    #[test]
    fn bounds_hold_on_both_sides() {
        let key = |bytes: usize| "x".repeat(bytes - "live/".len());
        let longest = resolve("live", "", &key(NAME_BYTES_MAX)).unwrap();
        assert_eq!(longest.0.len(), NAME_BYTES_MAX);
        assert_eq!(
            resolve("live", "", &key(NAME_BYTES_MAX + 1)),
            Err(NameError::NameTooLong { bytes_max: NAME_BYTES_MAX })
        );
        for (bytes, fits) in [(QUERY_BYTES_MAX, true), (QUERY_BYTES_MAX + 1, false)] {
            let query = "q".repeat(bytes);
            assert_eq!(resolve("live", "", &format!("s?{query}")).is_ok(), fits);
            assert_eq!(resolve(&format!("live?{query}"), "", "s").is_ok(), fits);
            assert_eq!(resolve("live", &format!("rtmp://h/live?{query}"), "s").is_ok(), fits);
            let half = &query[2..];
            assert_eq!(resolve("live?a", "", &format!("s?{half}")).is_ok(), fits);
            assert_eq!(resolve("live/s?a", "", &format!("={}", &half[1..])).is_ok(), fits);
        }
    }

    #[test]
    fn resolving_a_canonical_name_again_changes_nothing() {
        for (app, key) in [("live/", "/a//b"), (" x/_definst_", "mp4:y"), ("a/b", "c ")] {
            let (name, _) = resolve(app, "", key).unwrap();
            assert_eq!(resolve("", "", &name), Ok((name.clone(), String::new())));
            assert_eq!(resolve(&name, "", ""), Ok((name, String::new())));
        }
    }

    #[test]
    fn errors_show_no_raw_character() {
        let cases = [
            (NameError::Control('\n'), "control character U+000A in stream name"),
            (NameError::Bidi('\u{202e}'), "text direction character U+202E in stream name"),
            (NameError::NotUtf8 { at: 3 }, "stream name is not UTF-8 from byte 3 on"),
        ];
        for (error, line) in cases {
            assert_eq!(error.to_string(), line);
        }
    }
}
