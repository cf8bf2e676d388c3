//! What the tests need of Markdown: links, headings, code spans and fenced blocks.
//!
//! The documents keep to a part of Markdown: fences of three backticks at the start of a line,
//! links in one of the forms `[text](target)`, `[text][label]` and `[label]`, and definitions
//! `[label]: target` on a line each.

use std::fs;
use std::path::{Path, PathBuf};

/// A Markdown file of the project.
pub(super) struct Document {
    /// Seen from the top, with slashes.
    pub(super) path: String,
    pub(super) text: String,
}

/// A fenced block.
pub(super) struct Block {
    /// Where it is, as `path:line`.
    pub(super) place: String,
    pub(super) language: String,
    pub(super) text: String,
}

/// A link of a document, or a definition that links refer to.
pub(super) struct Link {
    /// Where it is, as `path:line`.
    pub(super) place: String,
    pub(super) target: String,
}

impl Document {
    pub(super) fn read(path: &str) -> Self {
        let text = fs::read_to_string(top().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        Self { path: path.to_owned(), text }
    }

    /// The file's name without its ending.
    pub(super) fn stem(&self) -> &str {
        Path::new(&self.path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }

    /// The file that a relative target of this document means.
    pub(super) fn file(&self, target: &str) -> PathBuf {
        top().join(&self.path).parent().map(|folder| folder.join(target)).unwrap_or_default()
    }

    /// All fenced blocks.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut is_open = false;
        for (number, line) in (1..).zip(self.text.lines()) {
            if let Some(language) = line.strip_prefix("```") {
                is_open = !is_open;
                if is_open {
                    let place = format!("{}:{number}", self.path);
                    let language = language.to_owned();
                    blocks.push(Block { place, language, text: String::new() });
                }
            } else if is_open {
                let block = blocks.last_mut().expect("a block was begun");
                block.text.push_str(line);
                block.text.push('\n');
            }
        }
        assert!(!is_open, "{}: a fence is not closed", self.path);
        blocks
    }

    /// The lines outside fenced blocks; lines of a block are empty.
    fn prose(&self) -> String {
        let mut is_open = false;
        let lines = self.text.lines().map(|line| {
            let is_fence = line.starts_with("```");
            is_open ^= is_fence;
            if is_open || is_fence { "" } else { line }
        });
        lines.flat_map(|line| [line, "\n"]).collect()
    }

    /// The prose with an `x` for each code span, and the spans with their lines.
    fn split_code(&self) -> (String, Vec<(usize, String)>) {
        let prose = self.prose();
        let (mut plain, mut spans) = (String::new(), Vec::new());
        let mut rest = prose.as_str();
        while let Some(begin) = rest.find('`') {
            let ticks = rest[begin..].bytes().take_while(|byte| *byte == b'`').count();
            let (fence, after) = rest[begin..].split_at(ticks);
            let line = 1 + prose[..prose.len() - after.len()].matches('\n').count();
            let end = after.find(fence);
            let end = end.unwrap_or_else(|| panic!("{}:{line}: a lonely backtick", self.path));
            plain.push_str(&rest[..begin]);
            plain.push('x');
            // The number of lines stays.
            plain.extend(after[..end].matches('\n'));
            spans.push((line, after[..end].replace('\n', " ")));
            rest = &after[end + ticks..];
        }
        plain.push_str(rest);
        (plain, spans)
    }

    /// The code spans, each with its place.
    pub(super) fn code_spans(&self) -> Vec<(String, String)> {
        let spans = self.split_code().1.into_iter();
        spans.map(|(line, span)| (format!("{}:{line}", self.path), span)).collect()
    }

    /// The definitions, as label and target.
    pub(super) fn definitions(&self) -> Vec<(String, Link)> {
        let lines = self.prose();
        let defined = (1..).zip(lines.lines()).filter_map(|(number, line)| {
            let (label, target) = line.strip_prefix('[')?.split_once("]: ")?;
            let place = format!("{}:{number}", self.path);
            Some((label.to_owned(), Link { place, target: target.trim().to_owned() }))
        });
        defined.collect()
    }

    /// All links that name their target, and all definitions.
    pub(super) fn links(&self) -> Vec<Link> {
        let (plain, _) = self.split_code();
        let inline = plain.match_indices("](").map(|(at, mark)| {
            let after = &plain[at + mark.len()..];
            let target = after.split(')').next().unwrap_or_default().to_owned();
            let line = 1 + plain[..at].matches('\n').count();
            Link { place: format!("{}:{line}", self.path), target }
        });
        inline.chain(self.definitions().into_iter().map(|(_, link)| link)).collect()
    }

    /// The labels that the text refers to as `[text][label]`.
    pub(super) fn references(&self) -> Vec<String> {
        let (plain, _) = self.split_code();
        let labels = plain.split("][").skip(1).filter_map(|after| after.split_once(']'));
        labels.map(|(label, _)| label.to_owned()).collect()
    }

    /// True if the text refers to a label.
    pub(super) fn uses(&self, label: &str) -> bool {
        let (plain, _) = self.split_code();
        let (written, definition) = (format!("[{label}]"), format!("[{label}]: "));
        plain.matches(&written).count() > plain.matches(&definition).count()
    }

    /// The anchors of its headings, as GitHub and rustdoc make them.
    pub(super) fn anchors(&self) -> Vec<String> {
        let lines = self.prose();
        let headings = lines.lines().filter(|line| line.starts_with('#'));
        let anchor = |heading: &str| {
            let kept = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(anchor).collect()
    }
}

/// The directory of the project.
pub(super) fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
