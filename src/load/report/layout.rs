//! Plain text in columns for a terminal.
//!
//! Owns the width of a page and the removal of control characters from foreign text. It knows
//! nothing about reports.

/// Width that fits most terminals.
pub(super) const COLUMNS: usize = 100;
const INDENT: usize = 2;
const GAP: usize = 2;

/// Rows of cells: the first column is left-aligned, the others right-aligned.
#[derive(Debug, Default)]
pub(super) struct Grid {
    rows: Vec<Vec<String>>,
}

impl Grid {
    pub(super) fn push<T: Into<String>>(&mut self, row: impl IntoIterator<Item = T>) {
        self.rows.push(row.into_iter().map(Into::into).collect());
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the rows below `heading`. The heading is not indented.
    pub(super) fn text<'a>(&self, heading: impl IntoIterator<Item = &'a str>) -> String {
        let heading: Vec<_> = heading.into_iter().map(str::to_owned).collect();
        let mut widths: Vec<_> = heading.iter().map(|cell| width(cell)).collect();
        widths[0] = widths[0].saturating_sub(INDENT);
        for row in &self.rows {
            widths.resize(widths.len().max(row.len()), 0);
            widths.iter_mut().zip(row).for_each(|(known, cell)| *known = (*known).max(width(cell)));
        }
        let heading = line(0, widths[0] + INDENT, &heading, &widths);
        let rows = self.rows.iter().map(|row| line(INDENT, widths[0], row, &widths));
        std::iter::once(heading).chain(rows).collect()
    }
}

fn line(indent: usize, first: usize, cells: &[String], widths: &[usize]) -> String {
    let mut text = " ".repeat(indent);
    for (index, (cell, width)) in cells.iter().zip(widths).enumerate() {
        if index == 0 {
            text += &format!("{cell:first$}");
        } else {
            text += &format!("{:GAP$}{cell:>width$}", "");
        }
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Wraps text in lines of [`COLUMNS`]. The first line starts with `mark`, the others are indented
/// by its width.
pub(super) fn wrapped(mark: &str, text: &str) -> String {
    let (mut lines, mut line) = (String::new(), mark.to_owned());
    let mut is_first = true;
    for word in text.split_whitespace() {
        if !is_first && width(&line) + 1 + width(word) > COLUMNS {
            lines += &(line + "\n");
            line = " ".repeat(width(mark));
            is_first = true;
        }
        if !is_first {
            line.push(' ');
        }
        line += word;
        is_first = false;
    }
    lines + &line + "\n"
}

/// Escapes control characters in text from a file or a flag, so that they cannot control the
/// terminal.
pub(super) fn harmless(text: &str) -> String {
    let mut shown = String::new();
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Numbered reasons, so that each is written once.
#[derive(Debug, Default)]
pub(super) struct Notes {
    reasons: Vec<String>,
}

impl Notes {
    /// Returns the text that takes the place of a withheld number.
    pub(super) fn withheld(&mut self, reason: &str) -> String {
        format!("withheld {}", self.mark(reason))
    }

    /// Returns the reference to a reason.
    pub(super) fn mark(&mut self, reason: &str) -> String {
        let known = self.reasons.iter().position(|known| known == reason);
        let index = known.unwrap_or_else(|| {
            self.reasons.push(reason.to_owned());
            self.reasons.len() - 1
        });
        format!("[{}]", index + 1)
    }

    /// Returns the reasons below a heading, or an empty text if there are none.
    pub(super) fn text(&self) -> String {
        let lines = (1..).zip(&self.reasons);
        let lines: String = lines
            .map(|(number, reason)| wrapped(&format!("  [{number}] "), &harmless(reason)))
            .collect();
        if lines.is_empty() { lines } else { format!("\nwithheld, because\n{lines}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut grid = Grid::default();
        grid.push(["a", "1", "22"]);
        grid.push(["longer", "333"]);
        assert_eq!(
            grid.text(["of", "x", "y"]),
            "of          x   y\n  a         1  22\n  longer  333\n"
        );
    }

    #[test]
    fn lines_are_broken_between_words_and_indented_by_their_mark() {
        let text = "word ".repeat(30);
        let lines = wrapped("- ", &text);
        let widths: Vec<_> = lines.lines().map(width).collect();
        assert_eq!(widths, [96, 56]);
        assert!(lines.lines().nth(1).unwrap().starts_with("  word"));
        let long = "x".repeat(COLUMNS * 2);
        assert_eq!(wrapped("- ", &long), format!("- {long}\n"), "a word is never broken");
    }

    #[test]
    fn text_from_a_file_cannot_control_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2J\n\u{9b}é"), r"a\u{1b}[2J\n\u{9b}é");
    }

    #[test]
    fn each_reason_is_written_once() {
        let mut notes = Notes::default();
        let shown = ["late", "empty", "late"].map(|reason| notes.withheld(reason));
        assert_eq!(shown, ["withheld [1]", "withheld [2]", "withheld [1]"]);
        assert_eq!(notes.text(), "\nwithheld, because\n  [1] late\n  [2] empty\n");
    }
}
