//! Parts of the manual that programs write: the text between two marks of a page.
//!
//! A program that knows what a part must hold compares it, or writes it if the environment has
//! `TIDERACE_README=write`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// A part of a page, between `<!-- begin NAME -->` and `<!-- end NAME -->`.
pub(crate) struct Part {
    path: PathBuf,
    name: &'static str,
    page: String,
    /// Where the part begins and ends in the page.
    span: (usize, usize),
}

impl Part {
    /// Finds the part `name` of a page, such as `figures.md`.
    ///
    /// # Panics
    /// If the page or one of the two marks is missing.
    pub(crate) fn find(page: &str, name: &'static str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/manual").join(page);
        let page = fs::read_to_string(&path).expect("the page of the manual can be read");
        let marks = [format!("<!-- begin {name} -->\n\n"), format!("\n<!-- end {name} -->\n")];
        let [begin, end] = marks.each_ref().map(|mark| page.find(mark));
        let missing = || panic!("{}: the marks of {name} are missing", path.display());
        let (begin, end) = begin.zip(end).unwrap_or_else(missing);
        Self { name, span: (begin + marks[0].len(), end), path, page }
    }

    /// The text of the part, which ends with a line end.
    pub(crate) fn text(&self) -> &str {
        &self.page[self.span.0..self.span.1]
    }

    /// Expects that the part is `text`, or writes it if the environment asks for that.
    ///
    /// # Panics
    /// If the part is another text; the message says that `command` writes it.
    pub(crate) fn expect(&self, text: &str, command: &str) {
        if env::var("TIDERACE_README").is_ok_and(|wish| wish == "write") {
            self.write(text);
        } else {
            let (path, name) = (self.path.display(), self.name);
            let advice = format!("{path}: {name} is out of date; `{command}` writes this");
            assert!(self.text() == text, "{advice}:\n{text}");
        }
    }

    /// Writes `text` in place of the part.
    ///
    /// # Panics
    /// If the page cannot be written.
    pub(crate) fn write(&self, text: &str) {
        let page = [&self.page[..self.span.0], text, &self.page[self.span.1..]].concat();
        fs::write(&self.path, page).expect("the page of the manual can be written");
    }
}
