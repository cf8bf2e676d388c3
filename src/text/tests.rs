//! Tests of text from peers in log lines.

use super::*;

#[test]
fn words_are_as_near_as_the_slips_between_them() {
    for (from, to, slips) in
        [("", "", 0), ("strat", "start", 2), ("p98_ms", "p99_ms", 1), ("", "abc", 3)]
    {
        assert_eq!(edit_distance(from, to), slips, "{from} {to}");
        assert_eq!(edit_distance(to, from), slips, "{to} {from}");
    }
}

fn escaped(bytes: &[u8]) -> String {
    Escaped(bytes).to_string()
}

#[test]
fn plain_text_is_shown_as_it_is() {
    for text in ["", "live/show-1_a.b~c", "日本語/канал", "a b", "%20;<script>&amp;"] {
        assert_eq!(escaped(text.as_bytes()), text);
    }
}

#[test]
fn c11_hostile_text_stays_one_visible_field_of_one_line() {
    const CASES: &[(&[u8], &str)] = &[
        (b"a\nINFO forged", r"a\nINFO forged"),
        (b"a\r\nb\tc\0", r"a\r\nb\tc\0"),
        (b"\x1b[2J\x1b]0;title\x07", r"\u{1b}[2J\u{1b}]0;title\u{7}"),
        (b"\" level=error x=\"", r#"\" level=error x=\""#),
        (b"it's \\n", r"it\'s \\n"),
        ("safe\u{202e}gpj.exe\u{2066}".as_bytes(), r"safe\u{202e}gpj.exe\u{2066}"),
        ("a\u{2028}b\u{85}c\u{feff}d\u{200b}".as_bytes(), r"a\u{2028}b\u{85}c\u{feff}d\u{200b}"),
        ("\u{9b}31m\u{7f}".as_bytes(), r"\u{9b}31m\u{7f}"),
        ("e\u{301}\u{301}".as_bytes(), r"e\u{301}\u{301}"),
        (b"\xff\xfe ok \xc3", r"\xff\xfe ok \xc3"),
        (b"\xed\xa0\x80\xc0\xaf", r"\xed\xa0\x80\xc0\xaf"),
    ];
    for (bytes, expected) in CASES {
        assert_eq!(escaped(bytes), *expected);
    }
}

#[test]
fn every_byte_and_every_low_character_is_shown_without_control_characters() {
    let bytes: Vec<_> = (0..=255).map(|byte| vec![byte]).collect();
    let characters = (0..0x3000).filter_map(char::from_u32);
    let texts = characters.map(|character| character.to_string().into_bytes());
    for text in bytes.into_iter().chain(texts) {
        let shown = escaped(&text);
        assert!(!shown.is_empty());
        assert!(!shown.contains(char::is_control), "{text:?} {shown:?}");
        assert!(!shown.contains(|c| matches!(c, '\u{200b}'..='\u{200f}')), "{text:?}");
        assert!(!shown.contains(|c| matches!(c, '\u{2028}'..='\u{202e}')), "{text:?}");
        assert!(!shown.contains(|c| matches!(c, '\u{2060}'..='\u{206f}')), "{text:?}");
    }
}

#[test]
fn cm_32_key_of_5000_characters_is_cut_with_a_mark() {
    let shown = escaped(&[b'k'; 5000]);
    assert_eq!(shown, format!("{}…", "k".repeat(LOG_TEXT_BYTES_MAX)));
    assert_eq!(escaped(b"../..\0\n"), r"../..\0\n");
}

#[test]
fn text_that_just_fits_is_not_cut() {
    let fits = "k".repeat(LOG_TEXT_BYTES_MAX);
    assert_eq!(escaped(fits.as_bytes()), fits);
    assert!(escaped(format!("{fits}k").as_bytes()).ends_with("k…"));
}

#[test]
fn cut_falls_between_characters_and_escapes_and_bounds_what_is_shown() {
    for unit in ["é", "日", "🎥", "\n", "\u{202e}", "\u{1b}"] {
        for shift in 0..8 {
            let text = format!("{}{}", "k".repeat(shift), unit.repeat(500));
            let shown = escaped(text.as_bytes());
            assert!(shown.len() <= LOG_TEXT_BYTES_MAX + '…'.len_utf8());
            let body = shown.strip_suffix('…').unwrap().trim_start_matches('k');
            let whole = escaped(unit.as_bytes());
            assert_eq!(body, whole.repeat(body.len() / whole.len()));
        }
    }
    assert_eq!(escaped(&[0xff; 500]), format!("{}…", r"\xff".repeat(LOG_TEXT_BYTES_MAX / 4)));
}
