//! Reads settings from a TOML text and flags, and collects every mistake.
//!
//! The text is read as a tree with positions. Derived deserialization is rejected: its errors stop
//! at the first mistake and name neither the section of the key nor the remedy.

use std::collections::{HashMap, HashSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, ConfigErrors};
use super::field::{Written, Wrong};
use super::syntax::Parsable;
use super::{AT_MOST, GUARDS, Key, Settings, apps, keys};
use crate::text::edit_distance;

/// A configuration file that has been read into memory.
#[derive(Clone, Copy, Debug)]
pub struct FileText<'a> {
    /// The name of the file in errors.
    pub name: &'a str,
    /// The content of the file.
    pub text: &'a str,
}

/// A flag of the command line that sets a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagValue {
    /// The flag with its dashes.
    pub flag: &'static str,
    /// The key that it sets, as in `play.start`.
    pub key: &'static str,
    /// Its values, one for each time that it was given.
    pub values: Vec<String>,
}

/// Settings as far as they could be read, and every mistake in them.
#[derive(Debug)]
pub struct Draft {
    settings: Settings,
    errors: Vec<ConfigError>,
    /// The file as it was given; empty if there is none.
    file: String,
    /// Origin of each key that is set.
    origins: HashMap<&'static str, Origin>,
    /// Keys with a mistake. Their relations to other keys are not checked.
    failed: HashSet<&'static str>,
}

#[derive(Clone, Copy, Debug)]
enum Origin {
    Line(usize),
    Flag(&'static str),
}

impl Draft {
    /// Reads a file, if there is one, and then the flags, which override it.
    pub fn read(file: Option<FileText<'_>>, flags: &[FlagValue]) -> Self {
        let mut draft = Self {
            settings: Settings::default(),
            errors: Vec::new(),
            file: file.map_or("", |file| file.name).to_owned(),
            origins: HashMap::new(),
            failed: HashSet::new(),
        };
        if let Some(file) = file {
            draft.apply_file(file);
        }
        for flag in flags {
            draft.apply_flag(flag);
        }
        draft.check_relations();
        draft
    }

    /// Returns the settings as far as they could be read. Keys with a mistake have their defaults.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Adds a mistake if the file sets no key. A file that was emptied, or cut off in its first
    /// comment, must not start the server with the defaults.
    pub fn expect_some_key(&mut self) {
        let sets_key = self.origins.values().any(|origin| matches!(origin, Origin::Line(_)));
        if !sets_key && self.settings.apps.is_empty() && self.errors.is_empty() {
            self.errors.push(ConfigError::Empty { file: self.file.clone() });
        }
    }

    /// Adds a mistake for each access rule of the `running` settings that this draft neither has
    /// nor releases.
    pub fn keep_rules_of(&mut self, running: &Settings) {
        let file = || self.file.clone();
        let mut lost = Vec::new();
        for rule in apps::lost(&running.apps, &self.settings.apps) {
            let apps::Lost { key, in_force, remedy } = rule;
            lost.push(ConfigError::RuleLost { file: file(), key, in_force, remedy });
        }
        let defaults = Settings::default();
        for key in keys().filter(|key| GUARDS.contains(&key.path)) {
            let [was, open] = [running, &defaults].map(|settings| (key.show)(settings));
            if was != open && !self.origins.contains_key(key.path) {
                lost.push(ConfigError::RuleLost {
                    file: file(),
                    key: key.path.into(),
                    in_force: format!("the limit of {was}"),
                    remedy: format!("write {} = {open} for no limit", key.name()),
                });
            }
        }
        self.errors.extend(lost);
    }

    /// Returns the place where a key was set, as in `tiderace.toml:3` or `--listen`. For a key that
    /// was not set it returns the file.
    pub fn place(&self, path: &str) -> String {
        match self.origins.get(path) {
            Some(Origin::Line(line)) => format!("{}:{line}", self.file),
            Some(Origin::Flag(flag)) => (*flag).to_owned(),
            None => self.file.clone(),
        }
    }

    /// Returns the settings, or all mistakes.
    pub fn finish(&self) -> Result<Settings, ConfigErrors> {
        match ConfigErrors::new(self.errors.clone()) {
            None => Ok(self.settings.clone()),
            Some(errors) => Err(errors),
        }
    }

    fn apply_file(&mut self, file: FileText<'_>) {
        let parsable = Parsable::new(file);
        let (tree, syntax_errors) = parsable.parse();
        self.apply_table(parsable.file(), "", tree.get_ref());
        // Only one mistake is reported for each line. A repaired error has the best remedy, then a
        // wrong value, then any other syntax error.
        let mut errors = parsable.repaired().to_vec();
        for found in [std::mem::take(&mut self.errors), syntax_errors] {
            let lines: HashSet<_> = errors.iter().filter_map(ConfigError::line).collect();
            errors.extend(
                found
                    .into_iter()
                    .filter(|error| error.line().is_none_or(|line| !lines.contains(&line))),
            );
        }
        self.errors = errors;
    }

    fn apply_table(&mut self, file: FileText<'_>, section: &str, table: &DeTable<'_>) {
        for (name, value) in in_file_order(table) {
            if self.errors.len() >= ERRORS_MAX {
                break;
            }
            let (offset, name) = (name.span().start, name.get_ref());
            if section.is_empty() && name == APPS {
                self.settings.apps = apps::read(file, offset, value.get_ref(), &mut self.errors);
                continue;
            }
            let line = file.line_of(offset);
            let known_key = keys().find(|key| key.section() == section && key.name() == name);
            let known_section = sections().find(|known| section.is_empty() && known == name);
            match (known_key, known_section, value.get_ref()) {
                (Some(key), _, _) => self.apply_value(file, key, line, value),
                (None, Some(inner), DeValue::Table(table)) => self.apply_table(file, inner, table),
                (None, Some(inner), _) => {
                    self.errors.push(not_a_section(file, inner, line, value));
                }
                (None, None, _) => self.errors.push(unknown_key(file, section, name, line)),
            }
        }
    }

    fn apply_value(
        &mut self,
        file: FileText<'_>,
        key: &'static Key,
        line: usize,
        value: &Spanned<DeValue<'_>>,
    ) {
        self.origins.insert(key.path, Origin::Line(line));
        let Err(wrong) = (key.assign)(&mut self.settings, &written(value.get_ref())) else {
            return;
        };
        self.failed.insert(key.path);
        // Words without quotes are not values in TOML. If they would be valid with quotes, the
        // remedy is to add them.
        let as_words = (key.assign)(&mut Settings::default(), &file.written_bare(value));
        let as_words = as_words.err().unwrap_or_default();
        for Wrong { item, expected } in wrong {
            let with_quotes = as_words.iter().find(|wrong| wrong.item == item);
            let is_bare = with_quotes.is_none();
            let expected = with_quotes.map_or(expected, |wrong| wrong.expected.clone());
            let items = value.get_ref().as_array();
            let (place, line) = match item.and_then(|index| items?.get(index)) {
                Some(item) => (item, file.line_of(item.span().start)),
                None => (value, line),
            };
            let got = file.source_of(place);
            let expected = match in_units(key, &got) {
                _ if is_bare => format!("quotes around it: \"{got}\""),
                Some(number) => format!("{expected}; {number}"),
                None => expected,
            };
            let (file, key) = (file.name.into(), key.path.into());
            self.errors.push(ConfigError::FileValue { file, line, key, got, expected });
        }
    }

    fn apply_flag(&mut self, flag: &FlagValue) {
        let key = keys().find(|key| key.path == flag.key).expect("every flag stands for a key");
        self.origins.insert(key.path, Origin::Flag(flag.flag));
        self.failed.remove(key.path);
        let assigned = (key.assign)(&mut self.settings, &Written::Words(&flag.values));
        for Wrong { item, expected } in assigned.err().unwrap_or_default() {
            self.failed.insert(key.path);
            let one = item.and_then(|index| flag.values.get(index));
            let got = one.map_or_else(|| quoted(&flag.values), |value| format!("{value:?}"));
            let number = flag.values.last().and_then(|value| in_units(key, value));
            let expected = match number {
                Some(number) => format!("{expected}; {number}"),
                None => expected,
            };
            self.errors.push(ConfigError::FlagValue { flag: flag.flag, got, expected });
        }
    }

    /// Adds a mistake for each broken relation, at the key that was set.
    fn check_relations(&mut self) {
        for (low, high) in AT_MOST {
            let (low_value, high_value) =
                ((low.value)(&self.settings), (high.value)(&self.settings));
            let is_failed = [low, high].iter().any(|side| self.failed.contains(side.path));
            if low_value <= high_value || is_failed {
                continue;
            }
            if let Some(origin) = self.origins.get(low.path) {
                let expected = format!("at most {}, which is {high_value}", high.path);
                self.errors.push(self.value_error(*origin, low.path, low_value, expected));
            } else if let Some(origin) = self.origins.get(high.path) {
                let expected = format!("at least {}, which is {low_value}", low.path);
                self.errors.push(self.value_error(*origin, high.path, high_value, expected));
            }
        }
    }

    fn value_error(
        &self,
        origin: Origin,
        key: &'static str,
        got: u64,
        expected: String,
    ) -> ConfigError {
        let got = got.to_string();
        match origin {
            Origin::Line(line) => {
                let file = self.file.clone();
                ConfigError::FileValue { file, line, key: key.into(), got, expected }
            }
            Origin::Flag(flag) => ConfigError::FlagValue { flag, got, expected },
        }
    }
}

/// Number of mistakes that are reported. A file that is not a configuration has one in each line.
pub(super) const ERRORS_MAX: usize = 100;

/// Converts a value with a unit to the unit of its key, as in `in milliseconds 10s is 10000`.
/// Returns `None` for a value without a unit, or if the key would not accept the result.
fn in_units(key: &Key, value: &str) -> Option<String> {
    let (unit, scales) = if key.name().contains("_ms") {
        ("milliseconds", MILLISECONDS)
    } else if key.name().contains("bytes") || key.name() == "chunk_size" {
        ("bytes", BYTES)
    } else {
        return None;
    };
    let value = value.trim_matches(['"', '\'', ' ']);
    let at = value.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, suffix) = value.split_at(at);
    let suffix = suffix.to_ascii_lowercase();
    let (_, scale) = scales.iter().find(|(name, _)| *name == suffix)?;
    let number: f64 = number.trim().replace('_', "").parse().ok()?;
    let digits = (number * *scale as f64).round().to_string();
    let written = Written::Integer { digits: &digits, radix: 10 };
    (key.assign)(&mut Settings::default(), &written).ok()?;
    Some(format!("in {unit} {value} is {digits}"))
}

const MILLISECONDS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1000),
    ("sec", 1000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
const BYTES: &[(&str, u64)] = &[
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1 << 10),
    ("kib", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1 << 20),
    ("mib", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1 << 30),
    ("gib", 1 << 30),
];

impl<'a> FileText<'a> {
    /// Returns the line of a byte, counted from 1.
    pub(super) fn line_of(self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Returns the source of a value, on one line and cut to a bounded length.
    fn source_of(self, value: &Spanned<DeValue<'_>>) -> String {
        if value.get_ref().is_table() {
            return "a table".into();
        }
        one_line(self.text.get(value.span()).unwrap_or_default())
    }

    /// Returns a value as it would be read with quotes around every bare word.
    fn written_bare<'s>(self, value: &'s Spanned<DeValue<'_>>) -> Written<'s>
    where
        'a: 's,
    {
        let source = self.text.get(value.span()).unwrap_or_default();
        match value.get_ref() {
            DeValue::Array(items) => {
                Written::List(items.iter().map(|item| self.written_bare(item)).collect())
            }
            DeValue::Table(_) => Written::Other,
            _ if source.starts_with(['"', '\'']) => written(value.get_ref()),
            _ => Written::Text(source),
        }
    }
}

/// Returns a text of the file on one line, cut to a bounded length.
pub(super) fn one_line(text: &str) -> String {
    let mut shown = String::new();
    for (count, character) in text.chars().enumerate() {
        if count == SOURCE_CHARS_MAX {
            shown.push('…');
            break;
        }
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Length of an invalid value in an error line (characters).
const SOURCE_CHARS_MAX: usize = 80;
/// The section with one subsection for each application.
const APPS: &str = "apps";

/// Returns the entries of a table in the order of the file, so that errors have that order. The map
/// itself sorts by name.
pub(super) fn in_file_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(&'t Spanned<toml::de::DeString<'i>>, &'t Spanned<DeValue<'i>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

pub(super) fn written<'a>(value: &'a DeValue<'_>) -> Written<'a> {
    match value {
        DeValue::String(text) => Written::Text(text),
        DeValue::Integer(integer) => {
            Written::Integer { digits: integer.as_str(), radix: integer.radix() }
        }
        DeValue::Array(items) => {
            Written::List(items.iter().map(|item| written(item.get_ref())).collect())
        }
        _ => Written::Other,
    }
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" ")
}

fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    keys()
        .map(Key::section)
        .filter(move |section| std::mem::replace(&mut last, section) != *section)
}

/// Returns a key with its sections. Names are quoted if TOML requires it.
pub(super) fn join(above: &str, name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let separator = if above.is_empty() { "" } else { "." };
    if !name.is_empty() && name.chars().all(is_bare) {
        format!("{above}{separator}{name}")
    } else {
        format!("{above}{separator}\"{}\"", one_line(name))
    }
}

fn not_a_section(
    file: FileText<'_>,
    section: &'static str,
    line: usize,
    value: &Spanned<DeValue<'_>>,
) -> ConfigError {
    ConfigError::FileValue {
        file: file.name.into(),
        line,
        key: section.into(),
        got: file.source_of(value),
        expected: format!("a section: a line [{section}] and its keys below it"),
    }
}

fn unknown_key(file: FileText<'_>, section: &str, name: &str, line: usize) -> ConfigError {
    let mut valid: Vec<_> = keys().filter(|key| key.section() == section).map(Key::name).collect();
    if section.is_empty() {
        valid.extend(sections().chain([APPS]));
    }
    let key = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
    // For a key in the wrong section, the error names the right section.
    let elsewhere = || keys().find(|key| key.name() == name).map(|key| key.path);
    ConfigError::UnknownKey {
        file: file.name.into(),
        line,
        key: key.escape_debug().to_string(),
        near: nearest(name, &valid).or_else(elsewhere),
        valid,
    }
}

/// Returns the candidate that `name` is probably a misspelling of.
pub(super) fn nearest(name: &str, candidates: &[&'static str]) -> Option<&'static str> {
    let slips_max = 1 + name.len() / 4;
    // Of two that are as near, the one whose end was left out: `app` is `apps` rather than `api`.
    let distances = candidates.iter().map(|candidate| {
        (edit_distance(name, candidate), !candidate.starts_with(name), *candidate)
    });
    let near = distances.filter(|(distance, ..)| *distance <= slips_max).min();
    near.map(|(.., candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(file: Option<FileText<'_>>, flags: &[FlagValue]) -> Result<Settings, ConfigErrors> {
        Draft::read(file, flags).finish()
    }

    fn error_line(text: &str) -> String {
        let file = FileText { name: "t.toml", text };
        settings(Some(file), &[]).expect_err(text).to_string()
    }

    #[test]
    fn every_mistake_in_a_file_is_one_line_with_place_key_and_remedy() {
        const CASES: &[(&str, &str)] = &[
            (
                "[play]\nstart = \"foo\"",
                "t.toml:2: key \"play.start\": got \"foo\", \
                 expected one of keyframe, next-keyframe, live",
            ),
            (
                "[play]\n\nstrat = 1",
                "t.toml:3: unknown key \"play.strat\"; did you mean \"start\"?",
            ),
            ("[plya]\nstart = \"live\"", "t.toml:1: unknown key \"plya\"; did you mean \"play\"?"),
            (
                "\"play.start\" = \"live\"",
                "t.toml:1: unknown key \"play.start\", expected one of \
                 listen, log_level, drain_ms, drain_url, limits, timeouts, publish, play, rtmp, \
                 http, api, apps",
            ),
            ("start = \"live\"", "t.toml:1: unknown key \"start\"; did you mean \"play.start\"?"),
            (
                "[rtmp]\ncolour = 1",
                "t.toml:2: unknown key \"rtmp.colour\", \
                 expected one of chunk_size, window_ack_bytes, c2_check",
            ),
            (
                "zzzzzzz = 1",
                "t.toml:1: unknown key \"zzzzzzz\", expected one of \
                 listen, log_level, drain_ms, drain_url, limits, timeouts, publish, play, rtmp, \
                 http, api, apps",
            ),
            (
                "[rtmp]\nchunk_size = 0x7f",
                "t.toml:2: key \"rtmp.chunk_size\": got 0x7f, \
                 expected an integer from 128 to 65536",
            ),
            (
                "rtmp.chunk_size = \"4096\"",
                "t.toml:1: key \"rtmp.chunk_size\": got \"4096\", \
                 expected an integer from 128 to 65536",
            ),
            (
                "[timeouts]\r\nping_ms = -1\r\n",
                "t.toml:2: key \"timeouts.ping_ms\": got -1, \
                 expected 0 or an integer from 1000 to 86400000",
            ),
            (
                "[timeouts]\nidle_ms = 99999999999999999999",
                "t.toml:2: key \"timeouts.idle_ms\": got 99999999999999999999, \
                 expected an integer from 0 to 86400000",
            ),
            (
                "drain_ms = 1.5",
                "t.toml:1: key \"drain_ms\": got 1.5, expected an integer from 0 to 86400000",
            ),
            (
                "[play.start]\nat = 1",
                "t.toml:1: key \"play.start\": got a table, \
                 expected one of keyframe, next-keyframe, live",
            ),
            (
                "\nplay = true",
                "t.toml:2: key \"play\": got true, \
                 expected a section: a line [play] and its keys below it",
            ),
            (
                "listen = [\"localhost:1935\"]",
                "t.toml:1: key \"listen\": got \"localhost:1935\", expected an IP address in place \
                 of the name localhost, such as \"127.0.0.1:1935\" or \":1935\"",
            ),
            (
                "listen = [\"1935\",\n\"1935\"]",
                "t.toml:2: key \"listen\": got \"1935\", \
                 expected an address that is not in the list yet",
            ),
            (
                "log_level = 'off'",
                "t.toml:1: key \"log_level\": got 'off', \
                 expected one of error, warn, info, debug, trace",
            ),
        ];
        for (text, expected) in CASES {
            assert_eq!(error_line(text), *expected);
        }
    }

    #[test]
    fn broken_syntax_is_one_line_with_its_line_number() {
        for (text, line) in [
            ("[play\nlag_ms = 1", 1),
            ("\n\nstart", 3),
            ("drain_ms = 1\ndrain_ms = 2", 2),
            ("[play]\nstart = \"live\n", 2),
            ("[play]\n[play]\n", 2),
            ("a = \"\\q\"", 1),
            ("\u{0}", 1),
        ] {
            let shown = error_line(text);
            assert!(shown.starts_with(&format!("t.toml:{line}: ")), "{text:?}: {shown}");
            assert!(!shown.contains('\n'), "{shown}");
        }
    }

    #[test]
    fn every_mistake_is_reported_at_once_in_the_order_of_the_file() {
        let text = "drain_ms = 10s\nlog_level = info\nlisten = [\":1\", 0.0.0.0:2,\n\
             \"nowhere:3\"]\n\
             [play]\nstart = live\nlag_ms : 3\nskips_max = 1\nskips_max = 2\nlag_bytes = 2GiB\n\
             [rtmp\nchunk_size = 1\n[limits]\nvideo_bytes_max = 16 MB\nname = 1\n\
             [publish]\n[publish]\nlinger_ms = \"5 min\"\n";
        assert_eq!(
            error_line(text).lines().collect::<Vec<_>>(),
            [
                "t.toml:1: key \"drain_ms\": got 10s, expected an integer from 0 to 86400000; \
                 in milliseconds 10s is 10000",
                "t.toml:2: key \"log_level\": got info, expected quotes around it: \"info\"",
                "t.toml:3: key \"listen\": got 0.0.0.0:2, \
                 expected quotes around it: \"0.0.0.0:2\"",
                "t.toml:4: key \"listen\": got \"nowhere:3\", expected an IP address in place of \
                 the name nowhere, such as \"127.0.0.1:3\" or \":3\"",
                "t.toml:6: key \"play.start\": got live, expected quotes around it: \"live\"",
                "t.toml:7: a line needs KEY = VALUE; write = after the key",
                "t.toml:9: key \"play.skips_max\": duplicate key: line 8 sets it already; \
                 keep one of the two",
                "t.toml:10: key \"play.lag_bytes\": got 2GiB, \
                 expected an integer from 524288 to 1073741824",
                "t.toml:11: a section needs its closing ]",
                "t.toml:12: key \"rtmp.chunk_size\": got 1, \
                 expected an integer from 128 to 65536",
                "t.toml:14: key \"limits.video_bytes_max\": got 16 MB, \
                 expected an integer from 4096 to 16777215",
                "t.toml:15: unknown key \"limits.name\", expected one of connections_max, \
                 memory_bytes_max, socket_unsent_bytes_max, socket_send_bytes_max, \
                 socket_receive_bytes_max, connections_per_address_max, message_streams_max, \
                 chunk_streams_max, command_bytes_max, data_bytes_max, audio_bytes_max, \
                 video_bytes_max, assembly_bytes_max, control_bytes_max, streams_max, \
                 name_bytes_max, tape_bytes_max, tape_span_ms_max",
                "t.toml:17: key \"publish\": duplicate section: line 16 begins it already; \
                 move the keys below that line",
                "t.toml:18: key \"publish.linger_ms\": got \"5 min\", \
                 expected an integer from 0 to 86400000; in milliseconds 5 min is 300000",
            ]
        );
    }

    #[test]
    fn mistakes_of_file_and_flags_are_reported_together() {
        let file = FileText { name: "t.toml", text: "[play]\nlag_ms = 0\n" };
        let flags = [
            flag("--chunk-size", "rtmp.chunk_size", "64k"),
            flag("--linger-ms", "publish.linger_ms", "-1"),
        ];
        let lines = settings(Some(file), &flags).unwrap_err().to_string();
        assert_eq!(
            lines.lines().collect::<Vec<_>>(),
            [
                "t.toml:2: key \"play.lag_ms\": got 0, expected an integer from 1 to 3600000",
                "--chunk-size: got \"64k\", expected an integer from 128 to 65536; \
                 in bytes 64k is 65536",
                "--linger-ms: got \"-1\", expected an integer from 0 to 86400000",
            ]
        );
    }

    #[test]
    fn value_with_a_unit_is_answered_with_its_number() {
        for (line, number) in [
            ("drain_ms = 10s", Some("in milliseconds 10s is 10000")),
            ("drain_ms = \"10s\"", Some("in milliseconds 10s is 10000")),
            ("drain_ms = 10 s # as long as docker", Some("in milliseconds 10 s is 10000")),
            ("drain_ms = 1.5s", Some("in milliseconds 1.5s is 1500")),
            ("drain_ms = 10_000ms", Some("in milliseconds 10_000ms is 10000")),
            ("drain_ms = 5m", Some("in milliseconds 5m is 300000")),
            ("drain_ms = 2h", Some("in milliseconds 2h is 7200000")),
            ("drain_ms = 1d", Some("in milliseconds 1d is 86400000")),
            ("drain_ms = 2d", None),
            ("drain_ms = 10x", None),
            ("drain_ms = s", None),
            ("drain_ms = -1s", None),
            ("limits.tape_bytes_max = 16MiB", Some("in bytes 16MiB is 16777216")),
            ("limits.tape_bytes_max = \"16 mb\"", Some("in bytes 16 mb is 16777216")),
            ("limits.memory_bytes_max = 1.5G", Some("in bytes 1.5G is 1610612736")),
            ("limits.control_bytes_max = 8192b", Some("in bytes 8192b is 8192")),
            ("limits.tape_bytes_max = 16s", None),
            ("limits.streams_max = 5k", None),
            ("rtmp.chunk_size = 60KB", Some("in bytes 60KB is 61440")),
        ] {
            let error = error_line(line);
            assert_eq!(error.lines().count(), 1, "{error}");
            assert!(error.contains("expected an integer") || error.contains("expected 0 or"));
            assert_eq!(error.split_once("; ").map(|(_, number)| number), number, "{line}");
        }
    }

    #[test]
    fn mistakes_hide_none_below_them() {
        for (text, lines) in [
            ("[limits\nx = 1\n[play]\ny = 1", &[1, 2, 4][..]),
            ("drain_ms\n[play]\ny = 1", &[1, 3]),
            ("drain_ms 5\n[play]\ny = 1", &[1, 3]),
            ("listen = [\":1\",\n\":2\"\n[play]\ny = 1", &[1, 4]),
            ("listen = [\":1\"\nx = 1\n", &[1, 2]),
            ("log_level = \"\"\"info\nx = 1\n", &[1, 2]),
            ("log_level = \"info\nx = 1\n", &[1, 2]),
            ("apps = { live = { keys = [\"a\"] }\n[play]\ny = 1", &[1, 3]),
            ("= 5\nx = 1", &[1, 2]),
        ] {
            let error = error_line(text);
            let found: Vec<usize> = error
                .lines()
                .map(|line| line.split(':').nth(1).unwrap().parse().unwrap())
                .collect();
            assert_eq!(found, lines, "{text:?}: {error}");
        }
    }

    #[test]
    fn section_that_is_cut_in_its_header_is_reported_as_that() {
        let text = "[play]\nlag_ms = 1\n\n[apps.live";
        assert_eq!(error_line(text), "t.toml:4: a section needs its closing ]");
    }

    #[test]
    fn file_that_is_something_else_is_answered_with_a_bounded_number_of_lines() {
        for line in
            ["x = 1\n", "x\n", "[\n", "x = [\n", "\"\"\"", "a.b = ?\n", "[[x]]\n", "apps.a.b = 1\n"]
        {
            let numbered = |index| line.replace('x', &format!("x{index}"));
            let text: String = (0..1000).map(numbered).collect();
            let lines = error_line(&text).lines().count();
            assert!((1..=3 * ERRORS_MAX).contains(&lines), "{line:?}: {lines}");
        }
    }

    #[test]
    fn file_that_sets_no_key_is_told_from_one_that_does() {
        for (text, is_empty) in [
            ("", true),
            ("\u{feff}", true),
            ("\n\n", true),
            ("# Settings of Tiderace: every key with its default.\n", true),
            ("[limits]\n", true),
            ("[limits]\n[apps]\n", true),
            ("drain_ms = 10000\n", false),
            ("[apps.live]\nkeys = \"any\"\n", false),
            ("drain_ms = 10s\n", false),
        ] {
            let mut draft = Draft::read(
                Some(FileText { name: "t.toml", text }),
                &[flag("--chunk-size", "rtmp.chunk_size", "8192")],
            );
            draft.expect_some_key();
            let empty = ConfigError::Empty { file: "t.toml".into() };
            let found = draft.finish().is_err_and(|errors| *errors.first() == empty);
            assert_eq!(found, is_empty, "{text:?}");
        }
    }

    #[test]
    fn file_that_lacks_a_rule_in_force_is_refused_unless_it_says_so() {
        let running = "[limits]\nconnections_per_address_max = 8\n[apps.live]\nkeys = [\"hush\"]\n";
        let read = |text| Draft::read(Some(FileText { name: "t.toml", text }), &[]);
        let running = read(running).finish().unwrap();
        let lost = |text| {
            let mut draft = read(text);
            draft.keep_rules_of(&running);
            draft.finish().map_or_else(|errors| errors.to_string(), |_| String::new())
        };
        let limit = "t.toml: key \"limits.connections_per_address_max\": the limit of 8 would be \
             lost; put the key back, or write connections_per_address_max = 0 for no limit";
        let keys = "t.toml: key \"apps.live.keys\": 1 key would be lost; put the key back, or \
             write keys = \"any\" in [apps.live] to accept every key";
        assert_eq!(lost("[play]\nlag_ms = 1\n"), format!("{keys}\n{limit}"));
        assert_eq!(lost("limits.connections_per_address_max = 0\n"), keys);
        assert_eq!(lost("limits.connections_per_address_max = 9\n"), keys);
        assert_eq!(lost("[apps.live]\nkeys = \"any\"\n"), limit);
        assert_eq!(
            lost("[limits]\nconnections_per_address_max = 0\n[apps.live]\nkeys = \"any\"\n"),
            ""
        );
    }

    #[test]
    fn places_name_the_line_or_the_flag_that_set_a_key() {
        let file = FileText { name: "t.toml", text: "\nlisten = \":1\"\n" };
        let draft = Draft::read(Some(file), &[flag("--chunk-size", "rtmp.chunk_size", "8192")]);
        assert_eq!(draft.place("listen"), "t.toml:2");
        assert_eq!(draft.place("rtmp.chunk_size"), "--chunk-size");
        assert_eq!(draft.place("drain_ms"), "t.toml");
    }

    #[test]
    fn hostile_names_and_values_stay_on_one_line() {
        for text in
            ["\"a\\nb\\u001b\" = 1", "[play]\nstart = \"\"\"\na\nb\"\"\"", "[play]\nstart = '\t'"]
        {
            assert!(!error_line(text).contains(|c: char| c.is_control()), "{text:?}");
        }
        let long = format!("[play]\nstart = \"{}\"", "x".repeat(10_000));
        assert!(error_line(&long).len() < 300);
        let long = format!("[play]\nstart = {}", "x".repeat(10_000));
        assert!(error_line(&long).len() < 400);
    }

    #[test]
    fn relations_name_the_side_that_was_set() {
        let wrong_itself = error_line("limits.video_bytes_max = 9MB\nplay.lag_ms = 1\n");
        assert_eq!(wrong_itself.lines().count(), 1, "{wrong_itself}");
        for (text, expected) in [
            (
                "[limits]\nvideo_bytes_max = 10485761",
                "t.toml:2: key \"limits.video_bytes_max\": got 10485761, \
                 expected at most limits.assembly_bytes_max, which is 10485760",
            ),
            (
                "[limits]\n\nassembly_bytes_max = 8388607",
                "t.toml:3: key \"limits.assembly_bytes_max\": got 8388607, \
                 expected at least limits.video_bytes_max, which is 8388608",
            ),
            (
                "[play]\nlag_ms = 30001",
                "t.toml:2: key \"play.lag_ms\": got 30001, \
                 expected at most limits.tape_span_ms_max, which is 30000",
            ),
            (
                "[timeouts]\nconnect_ms = 9999",
                "t.toml:2: key \"timeouts.connect_ms\": got 9999, \
                 expected at least timeouts.handshake_ms, which is 10000",
            ),
        ] {
            assert_eq!(error_line(text), expected);
        }
        let at_the_edge = FileText { name: "t", text: "limits.assembly_bytes_max = 8388608" };
        assert!(settings(Some(at_the_edge), &[]).is_ok());
    }

    fn flag(flag: &'static str, key: &'static str, value: &str) -> FlagValue {
        FlagValue { flag, key, values: vec![value.into()] }
    }

    #[test]
    fn flag_overrides_the_file_and_is_named_in_its_errors() {
        let file = Some(FileText { name: "t.toml", text: "rtmp.chunk_size = 4096" });
        let right = settings(file, &[flag("--chunk-size", "rtmp.chunk_size", "8192")]).unwrap();
        assert_eq!(right.rtmp.chunk_size, 8192);

        let wrong = settings(file, &[flag("--chunk-size", "rtmp.chunk_size", "big")]);
        let line = "--chunk-size: got \"big\", expected an integer from 128 to 65536";
        assert_eq!(wrong.unwrap_err().to_string(), line);
    }

    #[test]
    fn broken_relation_names_the_flag_that_set_it() {
        let flags = [flag("--lag-ms", "play.lag_ms", "30001")];
        let line = "--lag-ms: got 30001, expected at most limits.tape_span_ms_max, which is 30000";
        assert_eq!(settings(None, &flags).unwrap_err().to_string(), line);
    }

    #[test]
    fn edit_distance_counts_single_character_edits() {
        for (from, to, distance) in
            [("", "", 0), ("", "ab", 2), ("ab", "", 2), ("start", "strat", 2), ("abc", "abd", 1)]
        {
            assert_eq!(edit_distance(from, to), distance, "{from} {to}");
        }
    }
}
