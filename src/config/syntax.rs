//! Parses a text as a TOML tree. Every syntax error becomes one line that names its key.
//!
//! The parser continues after most errors. At some it gives up, or reads the rest of the file as
//! part of an open list or string. Such an error is reported and repaired, and the text is parsed
//! again, so that one slip does not hide the errors below it. A repair does not move lines.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::error::ConfigError;
use super::keys;
use super::settings_reader::{ERRORS_MAX, FileText, in_file_order, join, one_line};

/// A value of the file that is not a table.
struct Leaf {
    /// The key with its sections.
    path: String,
    span: Range<usize>,
    /// True if the value may be secret. Only values of known keys are not secret, because a mistake
    /// in a section header puts passwords under any name.
    is_secret: bool,
}

/// A text that the parser can read to its end.
pub(super) struct Parsable<'a> {
    name: &'a str,
    /// The repaired text of the file.
    text: Cow<'a, str>,
    repaired: Vec<ConfigError>,
}

impl<'a> Parsable<'a> {
    /// Repairs the errors at which the parser would give up.
    pub(super) fn new(file: FileText<'a>) -> Self {
        let text = Cow::Borrowed(file.text);
        let mut parsable = Self { name: file.name, text, repaired: Vec::new() };
        for _ in 0..PASSES_MAX {
            let (tree, errors) = DeTable::parse_recoverable(&parsable.text);
            let Some(error) = errors.iter().find(|error| gives_up(error)) else { break };
            let leaves = leaves(tree.get_ref());
            let leaf = leaves.iter().find(|leaf| leaf.contains(offset_of(error)));
            let start = match leaf {
                Some(leaf) => leaf.span.start,
                None if error.message().starts_with("unclosed inline table") => {
                    line_with_open_brace(&parsable.text, offset_of(error))
                }
                None => offset_of(error),
            };
            let found = ConfigError::Syntax {
                file: file.name.into(),
                line: parsable.file().line_of(start),
                key: leaf.map(|leaf| leaf.path.clone()),
                message: message(error),
            };
            let repaired = repaired(&parsable.text, error, start);
            parsable.repaired.push(found);
            parsable.text = Cow::Owned(repaired);
        }
        parsable
    }

    /// Returns the repaired file. The positions in the tree of [`Parsable::parse`] refer to it.
    pub(super) fn file(&self) -> FileText<'_> {
        FileText { name: self.name, text: &self.text }
    }

    /// Returns the errors that were repaired. The values in their lines are guesses.
    pub(super) fn repaired(&self) -> &[ConfigError] {
        &self.repaired
    }

    /// Parses the text. Returns the tree and the other syntax errors, at most one for each line.
    pub(super) fn parse(&self) -> (Spanned<DeTable<'_>>, Vec<ConfigError>) {
        let (tree, errors) = DeTable::parse_recoverable(&self.text);
        let leaves = leaves(tree.get_ref());
        let mut found = Vec::new();
        let mut lines: HashSet<_> = self.repaired.iter().filter_map(ConfigError::line).collect();
        for error in errors.iter().take(ERRORS_MAX) {
            let leaf = leaves.iter().find(|leaf| leaf.contains(offset_of(error)));
            let error = self.explained(tree.get_ref(), error, leaf);
            if error.line().is_none_or(|line| lines.insert(line)) {
                found.push(error);
            }
        }
        (tree, found)
    }

    fn explained(&self, tree: &DeTable<'_>, error: &Error, leaf: Option<&Leaf>) -> ConfigError {
        let (file, offset) = (self.file(), offset_of(error));
        let name = file.name.to_owned();
        match leaf {
            _ if error.message() == "duplicate key" => self.duplicate(tree, offset),
            Some(leaf) if error.message().starts_with("string values must be quoted") => {
                let source = one_line(file.text.get(leaf.span.clone()).unwrap_or_default());
                let (got, expected) = match &*source {
                    "" => ("nothing".into(), "a value".into()),
                    _ if leaf.is_secret => ("a bare word".into(), "quotes around it".into()),
                    _ => (source.clone(), format!("quotes around it: \"{source}\"")),
                };
                let (line, key) = (file.line_of(leaf.span.start), leaf.path.clone());
                ConfigError::FileValue { file: name, line, key, got, expected }
            }
            _ => ConfigError::Syntax {
                file: name,
                line: file.line_of(offset),
                key: leaf.map(|leaf| leaf.path.clone()),
                message: message(error),
            },
        }
    }

    /// Returns the error for a key or section that the file has twice. It names the line of the
    /// first one.
    fn duplicate(&self, tree: &DeTable<'_>, offset: usize) -> ConfigError {
        let line_start = |at: usize| self.text[..at].rfind('\n').map_or(0, |end| end + 1);
        let line = |at: usize| self.text[line_start(at)..].lines().next().unwrap_or_default();
        let this = line(offset);
        let is_section = this.trim_start().starts_with('[');
        let above = self.text[..line_start(offset)].lines().rev();
        let header = above.map(str::trim_start).find(|line| line.starts_with('['));
        let mut path = Vec::new();
        if let (false, Some(header)) = (is_section, header) {
            path.extend(path_of(header));
        }
        path.extend(path_of(this));
        let first = if is_section {
            // Compares the lines as text. Parsing each would be slow for a file with thousands of
            // lines that is not a configuration.
            let this = without_comment(this);
            (1..).zip(self.text.lines()).find(|(_, line)| without_comment(line) == this)
        } else {
            find(tree, &path).map(|at| (self.file().line_of(at), ""))
        };
        let path = path.iter().fold(String::new(), |above, name| join(&above, name));
        let message = match (first, is_section) {
            (Some((first, _)), false) => {
                format!("duplicate key: line {first} sets it already; keep one of the two")
            }
            (Some((first, _)), true) => format!(
                "duplicate section: line {first} begins it already; move the keys below that line"
            ),
            (None, _) => "duplicate key: it is set already; keep one of the two".to_owned(),
        };
        let (file, line) = (self.name.to_owned(), self.file().line_of(offset));
        ConfigError::Syntax { file, line, key: Some(path), message }
    }
}

impl Leaf {
    const fn contains(&self, offset: usize) -> bool {
        self.span.start <= offset && offset <= self.span.end
    }
}

/// Number of times that a file is parsed. Errors below the last repair are reported in the next
/// run.
const PASSES_MAX: usize = 8;

/// Returns true if the parser drops the rest of the file or of a section, or reads it as part of a
/// value.
fn gives_up(error: &Error) -> bool {
    let messages = [
        "key with no value",
        "unclosed table",
        "unclosed array",
        "unclosed inline table",
        "invalid multi-line",
    ];
    messages.iter().any(|start| error.message().starts_with(start))
}

/// Returns the text without the error that begins at `start`.
fn repaired(text: &str, error: &Error, start: usize) -> String {
    let offset = offset_of(error);
    if error.message().starts_with("unclosed table") {
        return [&text[..offset], "]", &text[offset..]].concat();
    }
    blanked(text, lines_from(text, start))
}

/// Returns the start of the last line before `offset` that opens more braces than it closes.
fn line_with_open_brace(text: &str, offset: usize) -> usize {
    let mut ends = offset;
    for line in text[..offset].rsplit('\n') {
        let start = ends - line.len();
        if line.matches('{').count() > line.matches('}').count() {
            return start;
        }
        ends = start.saturating_sub(1);
    }
    offset
}

fn offset_of(error: &Error) -> usize {
    error.span().map_or(0, |span| span.start)
}

/// Returns the remedy for an error in plain words, or the message of the parser.
fn message(error: &Error) -> String {
    let message = error.message();
    let plain = [
        ("key with no value", "a line needs KEY = VALUE; write = after the key"),
        ("unclosed table", "a section needs its closing ]"),
        ("unclosed array", "the list has no closing ]"),
        ("unclosed inline table", "the table has no closing }"),
        ("missing comma between array elements", "the list needs a comma between its items"),
        ("invalid basic string", "the text needs its closing quote on the same line"),
        ("invalid literal string", "the text needs its closing quote on the same line"),
        ("invalid multi-line", "the text needs its three closing quotes"),
        ("invalid unquoted key", "a key has only letters, digits, - and _, or quotes around it"),
    ];
    let known = plain.iter().find(|(start, _)| message.starts_with(start));
    known.map_or_else(|| message.replace('\n', "; "), |(_, plain)| (*plain).to_owned())
}

/// Returns the lines from that of `offset` to the next one that begins a section or sets a key.
fn lines_from(text: &str, offset: usize) -> Range<usize> {
    let start = text[..offset].rfind('\n').map_or(0, |end| end + 1);
    let mut end = start;
    for (index, line) in text[start..].split_inclusive('\n').enumerate() {
        let name = line.split('=').next().unwrap_or_default().trim();
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.\"".contains(c);
        let sets_key = line.contains('=') && !name.is_empty() && name.chars().all(is_name);
        if index > 0 && (line.starts_with('[') || sets_key) {
            break;
        }
        end += line.len();
    }
    start..end
}

/// Replaces a range of lines by blanks, so that all other positions stay the same.
fn blanked(text: &str, range: Range<usize>) -> String {
    let mut blanked = String::with_capacity(text.len());
    blanked.push_str(&text[..range.start]);
    let blank = |byte: u8| if byte == b'\n' { '\n' } else { ' ' };
    blanked.extend(text[range.clone()].bytes().map(blank));
    blanked.push_str(&text[range.end..]);
    blanked
}

fn leaves(tree: &DeTable<'_>) -> Vec<Leaf> {
    fn collect(above: &str, table: &DeTable<'_>, leaves: &mut Vec<Leaf>) {
        for (name, value) in in_file_order(table) {
            let path = join(above, name.get_ref());
            match value.get_ref() {
                DeValue::Table(table) => collect(&path, table, leaves),
                _ => {
                    let is_secret = !keys().any(|key| key.path == path);
                    leaves.push(Leaf { path, span: value.span(), is_secret });
                }
            }
        }
    }
    let mut found = Vec::new();
    collect("", tree, &mut found);
    found
}

fn without_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default().trim()
}

/// Returns the names in a line that sets a key or begins a section.
fn path_of(line: &str) -> Vec<String> {
    let (tree, _) = DeTable::parse_recoverable(line);
    let (mut table, mut path) = (tree.get_ref(), Vec::new());
    while let Some((name, value)) = table.iter().next() {
        path.push(name.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    path
}

/// Returns the position of a key.
fn find(tree: &DeTable<'_>, path: &[String]) -> Option<usize> {
    let (name, rest) = path.split_first()?;
    let (key, value) = tree.iter().find(|(key, _)| key.get_ref() == name)?;
    if rest.is_empty() { Some(key.span().start) } else { find(value.get_ref().as_table()?, rest) }
}
