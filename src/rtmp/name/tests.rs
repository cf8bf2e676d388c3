//! Tests of names: an application, a key and a query become one name.

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
        ("live/_definst_", false, false),
        ("_definst_", false, false),
        ("mp4:live", false, false),
        ("live.flv", true, false),
        ("a%20b", false, false),
        ("100%", true, true),
        ("a&b", true, true),
        ("a==", true, true),
        ("a=b&c", false, false),
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
    // With a slash and another question mark, it looks like an application that was split.
    for (app, key) in [("live", "s"), ("live/s", "")] {
        let tc_url = format!("rtmp://h/{app}?a=b/c?d/e");
        let target = ("live/s".to_owned(), "a=b/c?d/e".to_owned());
        assert_eq!(resolve(app, &tc_url, key), Ok(target), "{tc_url}");
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
fn path_of_the_tc_url_counts_if_there_is_no_application() {
    for (tc_url, key, name, query) in [
        ("rtmp://h/live", "s", "live/s", ""),
        ("rtmp://h:1935/live/a/_definst_?tok=1", "s?x=2", "live/a/s", "x=2&tok=1"),
        ("rtmp://h", "live/s", "live/s", ""),
        ("rtmp://h/", "live/s", "live/s", ""),
        ("rtmp://h/live/s", "", "live/s", ""),
        ("", "live/s", "live/s", ""),
    ] {
        assert_eq!(resolve("", tc_url, key), Ok((name.into(), query.into())), "{tc_url} {key}");
    }
    assert_eq!(resolve("", "rtmp://h", "s"), Err(NameError::Empty));
}

#[test]
fn cm_30_query_that_ffmpeg_cut_at_its_slash_is_whole_again() {
    assert_resolves(&[
        ("live/tok?sig=ab", "cd+e==", "live/tok", "sig=ab/cd+e=="),
        ("live/tok?sig=ab", "/cd+e==", "live/tok", "sig=ab//cd+e=="),
        ("live/tok?sig=ab", "cd&exp=7", "live/tok", "sig=ab/cd&exp=7"),
        ("live/tok?sig=ab", "c/d?e=f", "live/tok/c/d", "e=f&sig=ab"),
        ("live/tok?sig=a/b", "cd", "live/tok", "sig=a/b/cd"),
        // librtmp splits `live/tok?u=http://a/b` here, and GStreamer at the last slash.
        ("live/tok?u=http:", "/a/b", "live/tok", "u=http://a/b"),
        ("live/tok?u=http://a", "b", "live/tok", "u=http://a/b"),
    ]);
}

#[test]
fn whole_queries_are_not_joined_with_the_key() {
    assert_resolves(&[
        // The application contains no key, so the key is used.
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
        ("live", "_definst_/s", "live/s", ""),
        ("a/_definst_/b", "c", "a/b/c", ""),
        ("a", "b/_definst_/c", "a/b/c", ""),
        ("_definst_/live", "s", "live/s", ""),
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
        ("live", "mp4:s.mp4", "live/s", ""),
        ("live", "mp4:mp4: s", "live/s", ""),
        ("live/mp4:a", "b", "live/a/b", ""),
        ("live/mp4:", "s", "live/s", ""),
        ("live", "mp4:_definst_/s", "live/s", ""),
        ("live", "s.flv.mp4 ", "live/s", ""),
        ("live", "s .mp3?x=1", "live/s", "x=1"),
        ("live/s.f4v", "", "live/s", ""),
        ("live.flv", "s", "live.flv/s", ""),
        ("live", "s/_definst_.flv", "live/s", ""),
        ("live", ".flv", "live/.flv", ""),
        ("live", "s.ts", "live/s.ts", ""),
        ("live", "/flv:s", "live/s", ""),
        ("live", "mp4:/s", "live/s", ""),
        ("live", "mp4", "live/mp4", ""),
        ("live", "a b", "live/a b", ""),
        ("живой", "поток", "живой/поток", ""),
    ]);
}

#[test]
fn cm_14_a_name_has_two_parts() {
    let one_part = [
        ("live", ""),
        ("live", "/"),
        ("live", " \0"),
        ("live", "_definst_"),
        ("live", "mp4:"),
        ("", ""),
        ("", "s"),
        ("", "/s/"),
        ("_definst_", "s"),
        ("live?tok=a/b", "?x=1"),
        ("rtmp://h/live", ""),
    ];
    for (app, key) in one_part {
        assert_eq!(resolve(app, "", key), Err(NameError::Empty), "app {app:?} key {key:?}");
    }
}

#[test]
fn no_part_of_a_query_becomes_a_name() {
    for (app, key) in [
        ("mystream?", "user=alice&pass=secret"),
        ("mystream?user=alice", "pass=secret"),
        ("mystream?user=alice", "&pass"),
        ("mystream?", "token=a/b"),
        ("mystream?", "token%3Da%2Fb"),
        ("mystream%3F", "token=a/b"),
        ("rtmp://h/mystream?", "token=a/b"),
        ("mystream", "user=alice&pass=secret"),
        ("live/mystream", "user%3Dalice%26pass=secret"),
        ("live/mystream&user=alice&pass=secret", ""),
    ] {
        assert_eq!(resolve(app, "", key), Err(NameError::QueryAsKey), "app {app:?} key {key:?}");
    }
    assert_resolves(&[
        ("live/mystream?", "user=alice&pass=s", "live/mystream", "user=alice&pass=s"),
        ("live/mystream?a=b", "&pass=s", "live/mystream", "a=b&pass=s"),
        ("live/mystream?a=b&", "pass=s", "live/mystream", "a=b&pass=s"),
        ("live", "mystream%3Fuser=a%20b", "live/mystream", "user=a%20b"),
        ("live%3Ftok=1", "s%253Fx=2?y", "live/s", "x=2?y&tok=1"),
        ("live/s.flv?sig=ab", "cd==", "live/s", "sig=ab/cd=="),
    ]);
}

#[test]
fn an_encoded_path_is_decoded_until_no_escape_is_left() {
    assert_resolves(&[
        ("live", "my%20show", "live/my show", ""),
        ("live", "caf%C3%A9", "live/caf\u{e9}", ""),
        ("li%76e%2Fa", "b%2fc", "live/a/b/c", ""),
        ("live", "N%5B1%5D", "live/N[1]", ""),
        ("live", "100%", "live/100%", ""),
        ("live", "100%25", "live/100%", ""),
        ("live", "k%Xjj%4", "live/k%Xjj%4", ""),
        ("live", "a%2541", "live/aA", ""),
        ("live", "%4%31", "live/A", ""),
        ("live", "%25%34%31", "live/A", ""),
        ("live", "%20s%00", "live/s", ""),
        ("live", "mp4%3As%2Eflv", "live/s", ""),
        ("live%2F%5Fdefinst_", "s", "live/s", ""),
        ("live", "s?x=%2541", "live/s", "x=%2541"),
    ]);
    for (key, error) in [
        ("a%0Ab", NameError::Control('\n')),
        ("%2e%2E", NameError::DotPart),
        ("a%2F%2e", NameError::DotPart),
        ("%E2%80%AE", NameError::Bidi('\u{202e}')),
        ("ab%FF", NameError::NotUtf8 { at: 2 }),
        ("ab%C3", NameError::NotUtf8 { at: 2 }),
        ("..flv", NameError::DotPart),
        ("...mp4", NameError::DotPart),
    ] {
        assert_eq!(resolve("live", "", key), Err(error), "key {key:?}");
    }
}

#[test]
fn decoding_takes_each_byte_once() {
    // Each escape decodes to the percent sign of the next one. Decoding in passes would take as
    // many passes as there are escapes.
    let nested = format!("%{}41", "25".repeat(20_000));
    let target = resolve("live", "", &nested);
    assert_eq!(target, Ok(("live/A".into(), String::new())));
}

#[test]
fn a_whole_url_means_the_path_in_it() {
    let expected = Ok(("live/s".to_owned(), String::new()));
    for (app, key) in [
        ("live", "rtmp://h:1935/live/s"),
        ("live", "rtmps://user:pw@h/live/s"),
        ("live", "RTMP://[::1]:1935/live/s"),
        ("", "rtmp://h/live/s"),
        ("live", "rtmp%3A%2F%2Fh%2Flive%2Fs"),
        ("rtmp://h/live", "s"),
        ("rtmp://h/live/s", ""),
        ("rtmp://h/live", "rtmp://h/live/s"),
        // librtmp and GStreamer split `rtmp://h/live/rtmp://h/live/s` in these ways.
        ("live/rtmp:/", "h/live/s"),
        ("live/rtmp:", "/h/live/s"),
        ("live/rtmp://h/live", "s"),
    ] {
        assert_eq!(resolve(app, "", key), expected, "app {app:?} key {key:?}");
    }
    assert_resolves(&[
        ("live", "rtmps://h/live/s?x=1", "live/s", "x=1"),
        ("live/a", "rtmp://h/live/a/s", "live/a/s", ""),
        ("live", "rtmp:s", "live/rtmp:s", ""),
    ]);
    for (app, key) in [
        ("live", "rtmp://h/other/s"),
        ("live", "rtmp://h"),
        ("live/a", "rtmp://h/live/s"),
        ("live", "rtmp://h/live/s/rtmp://h/other/s"),
    ] {
        assert_eq!(resolve(app, "", key), Err(NameError::UrlAsKey), "{app} and {key}");
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
    for key in ["..a", "a..b", "...", "a.", ".hidden", "a#b", "a+b", "Tom & Jerry", "a=b"] {
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
    for (app, key) in [
        ("live/", "/a//b"),
        (" x/_definst_", "mp4:y"),
        ("a/b", "c "),
        ("a", "%2525x.flv"),
        ("a", "mp4:.flv"),
        ("a", "b/mp4:_definst_.flv"),
        ("a", "b.flv/_definst_"),
        ("a", "rtmp://h/a/rtmp:.flv/b/a/c"),
    ] {
        let Ok((name, _)) = resolve(app, "", key) else { panic!("{app} {key}") };
        assert_eq!(resolve("", "", &name), Ok((name.clone(), String::new())));
        assert_eq!(resolve(&name, "", ""), Ok((name.clone(), String::new())));
        let (app, key) = name.split_once('/').unwrap();
        assert_eq!(resolve(app, "", key), Ok((name.clone(), String::new())));
    }
}

/// Splits the path and the query of a URL into application and key, as the clients do.
mod cut {
    fn at(url: &str, slash: Option<usize>) -> (String, String) {
        let slash = slash.unwrap_or(url.len());
        (url[..slash].to_owned(), url.get(slash + 1..).unwrap_or_default().to_owned())
    }

    fn slash_from(url: &str, from: usize) -> Option<usize> {
        url.get(from..)?.find('/').map(|at| from + at)
    }

    /// libavformat, which VLC and mpv also use: two parts, unless a colon comes before the end of
    /// the second. `.flv` is dropped, and `.mp4` and `.f4v` become a prefix.
    pub(super) fn ffmpeg(url: &str) -> (String, String) {
        let first = slash_from(url, 0);
        let second = first.and_then(|first| slash_from(url, first + 1));
        let colon = first.and_then(|first| Some(first + url.get(first..)?.find(':')?));
        let is_before = matches!((colon, second), (Some(colon), Some(at)) if colon < at);
        let (app, key) = at(url, if is_before { first } else { second.or(first) });
        let is_film = key.ends_with(".mp4") || key.ends_with(".f4v");
        match key.strip_suffix(".flv") {
            Some(stem) => (app, stem.to_owned()),
            None if is_film && !key.contains(':') => (app, format!("mp4:{key}")),
            None => (app, key),
        }
    }

    /// librtmp, which rtmpdump and GStreamer's `rtmpsink` use: two parts. The key is decoded, and
    /// its ending becomes a prefix.
    pub(super) fn librtmp(url: &str) -> (String, String) {
        let first = slash_from(url, 0);
        let second = first.and_then(|first| slash_from(url, first + 1));
        let (app, key) = at(url, second.or(first));
        let end = key.find('?').unwrap_or(key.len());
        let (path, query) = key.split_at(end);
        let (prefix, path) = match path.rsplit_once('.') {
            Some((stem, "mp4" | "f4v")) if !path.starts_with("mp4:") => ("mp4:", stem),
            Some((stem, "mp3")) if !path.starts_with("mp3:") => ("mp3:", stem),
            Some((stem, "mp4" | "f4v" | "mp3" | "flv")) => ("", stem),
            _ => ("", path),
        };
        (app, format!("{prefix}{}", decoded(&format!("{path}{query}"))))
    }

    /// GStreamer's `rtmp2sink` and `rtmp2src`: all but the last part.
    pub(super) fn gstreamer(url: &str) -> Option<(String, String)> {
        url.rfind('/').map(|slash| at(url, Some(slash)))
    }

    fn decoded(text: &str) -> String {
        let mut bytes = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            bytes.extend(rest[..at].bytes());
            bytes.push(u8::from_str_radix(&rest[at + 1..at + 3], 16).unwrap());
            rest = &rest[at + 3..];
        }
        bytes.extend(rest.bytes());
        String::from_utf8(bytes).unwrap()
    }
}

/// Returns a URL in all forms in which clients send it: application, URL of the application, and
/// key. `path` has the parts as written.
fn forms(path: &[&str], query: &str) -> Vec<(String, String, String)> {
    let url = format!("{}{query}", path.join("/"));
    let vlc = url.replace(' ', "%20");
    let by_url = [
        Some(cut::ffmpeg(&url)),
        Some(cut::ffmpeg(&vlc)),
        Some(cut::librtmp(&url)),
        cut::gstreamer(&url),
    ];
    let with_url = |(app, key): (String, String)| (app.clone(), format!("rtmp://h/{app}"), key);
    let mut forms: Vec<_> = by_url.into_iter().flatten().map(with_url).collect();
    // OBS and the options of ffmpeg, rtmpdump and GStreamer have a field for each half. So the path
    // may be split anywhere, and the query may be in either half or only in the URL.
    for cut in 0..=path.len() {
        let (app, key) = (path[..cut].join("/"), path[cut..].join("/"));
        let in_url = format!("rtmp://h/{app}{query}");
        forms.push((format!("{app}{query}"), in_url.clone(), key.clone()));
        forms.push((app.clone(), in_url, key.clone()));
        forms.push((app.clone(), format!("rtmp://h/{app}"), format!("{key}{query}")));
        forms.push((format!("{app}/"), format!("rtmp://h/{app}/"), format!("/{key}{query} ")));
    }
    forms
}

#[test]
fn a_url_has_one_name_in_the_forms_of_all_clients() {
    let spellings = [
        ["live", "a b", "caf\u{e9}", "s[1]"],
        ["live", "a%20b", "caf%C3%A9", "s%5B1%5D"],
        ["l%69ve", "a b", "caf%c3%a9", "s%5b1]"],
    ];
    let decorate: [fn(&mut Vec<String>); 7] = [
        |_| {},
        |parts| parts.insert(1, "_definst_".into()),
        |parts| parts.push("_definst_".into()),
        |parts| parts.insert(parts.len() - 1, "_definst_".into()),
        |parts| parts.last_mut().unwrap().insert_str(0, "mp4:"),
        |parts| parts[1..].first_mut().into_iter().for_each(|part| part.insert_str(0, "flv:")),
        |parts| parts.last_mut().unwrap().push_str(".flv"),
    ];
    let mut tried = 0;
    for (spelling, count) in spellings.iter().flat_map(|s| (1..=4).map(move |n| (s, n))) {
        for (index, decorate) in decorate.iter().enumerate() {
            let mut parts: Vec<String> = spelling[..count].iter().map(|s| (*s).into()).collect();
            decorate(&mut parts);
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            let name = spellings[0][..count].join("/");
            for query in ["", "?tok=1", "?tok=a%2Fb&u=%41"] {
                for (app, tc_url, key) in forms(&parts, query) {
                    let target = resolve(&app, &tc_url, &key);
                    let context = format!("{index}: app {app:?} key {key:?} url {tc_url:?}");
                    tried += 1;
                    if count == 1 {
                        assert_eq!(target, Err(NameError::Empty), "{context}");
                        continue;
                    }
                    let (found, found_query) = target.unwrap();
                    assert_eq!(found, name, "{context}");
                    let whole = query.strip_prefix('?').unwrap_or_default();
                    let decoded = whole.replace("%2F", "/").replace("%41", "A");
                    assert!([whole, &decoded].contains(&&*found_query), "{context}");
                }
            }
        }
    }
    assert!(tried > 4000, "{tried} forms");
}

#[test]
fn errors_show_no_raw_character() {
    let cases = [
        (NameError::Control('\n'), "stream name has the control character U+000A"),
        (NameError::Bidi('\u{202e}'), "stream name has the text direction character U+202E"),
        (NameError::NotUtf8 { at: 3 }, "stream name is not UTF-8 at byte 3"),
    ];
    for (error, line) in cases {
        assert_eq!(error.to_string(), line);
    }
}
