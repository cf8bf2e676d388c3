//! From a TOML text and flags to settings, and one clear line for whatever is wrong.
//!
//! The text is read as a tree that knows its lines instead of into types by derived code: an
//! error can then name the line, the key, what stands there and what would be right, which is
//! what the person who wrote it needs.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::field::Written;
use super::{AT_MOST, Key, Settings, apps, keys};
use crate::text::edit_distance;

/// A configuration file that has been read into memory.
#[derive(Clone, Copy, Debug)]
pub struct FileText<'a> {
    /// What the errors call it.
    pub name: &'a str,
    /// What it holds.
    pub text: &'a str,
}

/// A flag of the command line that sets a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagValue {
    /// The flag with its dashes, as the errors call it.
    pub flag: &'static str,
    /// The key it sets, as in `play.start`.
    pub key: &'static str,
    /// What it was given, once for each time.
    pub values: Vec<String>,
}

/// What is wrong with a configuration; displayed as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The file is missing, not ours to read, or not text.
    Unreadable {
        /// The file as it was given.
        file: String,
        /// What the system said.
        error: String,
    },
    /// The file is not TOML.
    Syntax {
        /// The file as it was given.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What the parser said.
        message: String,
    },
    /// The file sets what does not exist.
    UnknownKey {
        /// The file as it was given.
        file: String,
        /// Counted from 1.
        line: usize,
        /// The key with its section.
        key: String,
        /// The known name that it resembles.
        near: Option<&'static str>,
        /// The names that are known in its place.
        valid: Vec<&'static str>,
    },
    /// The file sets a key to something that it cannot be.
    FileValue {
        /// The file as it was given.
        file: String,
        /// Counted from 1.
        line: usize,
        /// The key with its section.
        key: String,
        /// What stands there; where it may be secret, of which kind it is.
        got: String,
        /// What would be right.
        expected: String,
    },
    /// A flag was given something that its key cannot be.
    FlagValue {
        /// The flag with its dashes.
        flag: &'static str,
        /// What it was given.
        got: String,
        /// What would be right.
        expected: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error } => write!(f, "{file}: cannot read: {error}"),
            Self::Syntax { file, line, message } => write!(f, "{file}:{line}: {message}"),
            Self::UnknownKey { file, line, key, near: Some(near), .. } => {
                write!(f, "{file}:{line}: unknown key \"{key}\"; did you mean \"{near}\"?")
            }
            Self::UnknownKey { file, line, key, near: None, valid } => {
                let valid = valid.join(", ");
                write!(f, "{file}:{line}: unknown key \"{key}\", expected one of {valid}")
            }
            Self::FileValue { file, line, key, got, expected } => {
                write!(f, "{file}:{line}: key \"{key}\": got {got}, expected {expected}")
            }
            Self::FlagValue { flag, got, expected } => {
                write!(f, "{flag}: got {got}, expected {expected}")
            }
        }
    }
}

impl Error for ConfigError {}

/// See [`Settings::read`].
pub(super) fn settings(
    file: Option<FileText<'_>>,
    flags: &[FlagValue],
) -> Result<Settings, ConfigError> {
    let mut reader = Reader { settings: Settings::default(), origins: HashMap::new(), file };
    if let Some(file) = file {
        reader.apply_file(file)?;
    }
    for flag in flags {
        reader.apply_flag(flag)?;
    }
    reader.check_relations()?;
    Ok(reader.settings)
}

struct Reader<'a> {
    settings: Settings,
    /// Where each key that is not at its default was set, for errors that show only later.
    origins: HashMap<&'static str, Origin>,
    file: Option<FileText<'a>>,
}

#[derive(Clone, Copy)]
enum Origin {
    Line(usize),
    Flag(&'static str),
}

impl Reader<'_> {
    fn apply_file(&mut self, file: FileText<'_>) -> Result<(), ConfigError> {
        let root = DeTable::parse(file.text).map_err(|error| syntax_error(file, &error))?;
        self.apply_table(file, "", root.get_ref())
    }

    fn apply_table(
        &mut self,
        file: FileText<'_>,
        section: &str,
        table: &DeTable<'_>,
    ) -> Result<(), ConfigError> {
        for (name, value) in in_file_order(table) {
            let line = file.line_of(name.span().start);
            let name = name.get_ref();
            if section.is_empty() && name == APPS {
                self.settings.apps = apps::read(file, line, value.get_ref())?;
                continue;
            }
            let known_key = keys().find(|key| key.section() == section && key.name() == name);
            let known_section = sections().find(|known| section.is_empty() && known == name);
            match (known_key, known_section, value.get_ref()) {
                (Some(key), _, _) => self.apply_value(file, key, line, value)?,
                (None, Some(inner), DeValue::Table(table)) => {
                    self.apply_table(file, inner, table)?;
                }
                (None, Some(inner), _) => return Err(not_a_section(file, inner, line, value)),
                (None, None, _) => return Err(unknown_key(file, section, name, line)),
            }
        }
        Ok(())
    }

    fn apply_value(
        &mut self,
        file: FileText<'_>,
        key: &'static Key,
        line: usize,
        value: &Spanned<DeValue<'_>>,
    ) -> Result<(), ConfigError> {
        let assigned = (key.assign)(&mut self.settings, &written(value.get_ref()));
        assigned.map_err(|expected| ConfigError::FileValue {
            file: file.name.into(),
            line,
            key: key.path.into(),
            got: file.source_of(value),
            expected,
        })?;
        self.origins.insert(key.path, Origin::Line(line));
        Ok(())
    }

    fn apply_flag(&mut self, flag: &FlagValue) -> Result<(), ConfigError> {
        let key = keys().find(|key| key.path == flag.key).expect("every flag stands for a key");
        let assigned = (key.assign)(&mut self.settings, &Written::Words(&flag.values));
        assigned.map_err(|expected| ConfigError::FlagValue {
            flag: flag.flag,
            got: quoted(&flag.values),
            expected,
        })?;
        self.origins.insert(key.path, Origin::Flag(flag.flag));
        Ok(())
    }

    /// Reports a broken relation at the side that somebody set.
    fn check_relations(&self) -> Result<(), ConfigError> {
        for (low, high) in AT_MOST {
            let (low_value, high_value) =
                ((low.value)(&self.settings), (high.value)(&self.settings));
            if low_value <= high_value {
                continue;
            }
            if let Some(origin) = self.origins.get(low.path) {
                let expected = format!("at most {}, which is {high_value}", high.path);
                return Err(self.value_error(*origin, low.path, low_value, expected));
            }
            if let Some(origin) = self.origins.get(high.path) {
                let expected = format!("at least {}, which is {low_value}", low.path);
                return Err(self.value_error(*origin, high.path, high_value, expected));
            }
        }
        Ok(())
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
                let file = self.file.map_or("", |file| file.name).into();
                ConfigError::FileValue { file, line, key: key.into(), got, expected }
            }
            Origin::Flag(flag) => ConfigError::FlagValue { flag, got, expected },
        }
    }
}

impl FileText<'_> {
    /// The line that holds this byte, counted from 1.
    pub(super) fn line_of(self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// A value as it stands in the file, on one line and not too long.
    fn source_of(self, value: &Spanned<DeValue<'_>>) -> String {
        if value.get_ref().is_table() {
            return "a table".into();
        }
        one_line(self.text.get(value.span()).unwrap_or_default())
    }
}

/// A text of the file on one line and not too long.
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

/// As much of a wrong value as an error line repeats.
const SOURCE_CHARS_MAX: usize = 80;
/// The section that holds one section for each application.
const APPS: &str = "apps";

/// The map sorts by name, but the first error should be the uppermost one.
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

fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.into() } else { format!("{section}.{name}") }
}

fn syntax_error(file: FileText<'_>, error: &toml::de::Error) -> ConfigError {
    let line = file.line_of(error.span().map_or(0, |span| span.start));
    ConfigError::Syntax {
        file: file.name.into(),
        line,
        message: error.message().replace('\n', "; "),
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
    // A key in the wrong section is named with the right one.
    let elsewhere = || keys().find(|key| key.name() == name).map(|key| key.path);
    ConfigError::UnknownKey {
        file: file.name.into(),
        line,
        key: join(section, name).escape_debug().to_string(),
        near: nearest(name, &valid).or_else(elsewhere),
        valid,
    }
}

/// The candidate that a slip of the hand may have turned into `name`.
pub(super) fn nearest(name: &str, candidates: &[&'static str]) -> Option<&'static str> {
    let slips_max = 1 + name.len() / 4;
    let distances = candidates.iter().map(|candidate| (edit_distance(name, candidate), *candidate));
    distances.filter(|(distance, _)| *distance <= slips_max).min().map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

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
                 apps",
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
                 apps",
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
                "t.toml:1: key \"listen\": got [\"localhost:1935\"], expected different addresses \
                 like \"[::]:1935\", \"10.0.0.1:1935\" or \":1935\"",
            ),
            (
                "listen = [\"1935\",\n\"1935\"]",
                "t.toml:1: key \"listen\": got [\"1935\",\\n\"1935\"], expected different \
                 addresses like \"[::]:1935\", \"10.0.0.1:1935\" or \":1935\"",
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
            ("[play\nstart = 1", 1),
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
    fn uppermost_mistake_is_the_one_reported() {
        assert!(error_line("[rtmp]\nx = 1\n[play]\nx = 1").starts_with("t.toml:2:"));
        assert!(error_line("log_level = 1\ndrain_ms = true").starts_with("t.toml:1:"));
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
    }

    #[test]
    fn relations_name_the_side_that_was_set() {
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
