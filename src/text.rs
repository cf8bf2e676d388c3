//! Text in log lines: escapes and cuts text from peers, and measures the distance of two words.
//!
//! Owns the format of peer-supplied bytes in a log line, which it writes without an allocation. It
//! never decides whether a text is acceptable, and it does not hide secrets. Those never get here:
//! the query is removed when a name is parsed, and no URL is logged.

use std::fmt::{self, Write};

use crate::limits::LOG_TEXT_BYTES_MAX;

/// Displays bytes of a peer so that they cannot forge or break a log line.
///
/// Escaped are control characters, line ends, quotes, backslashes, combining marks and unprintable
/// characters such as bidirectional overrides. Bytes that are not UTF-8 are written as `\xNN`. A
/// text longer than [`LOG_TEXT_BYTES_MAX`], escapes included, is cut between two characters and
/// ends in `…`.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = LOG_TEXT_BYTES_MAX;
        let mut takes = |bytes: usize| {
            let left = room.checked_sub(bytes);
            room = left.unwrap_or_default();
            left.is_some()
        };
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                let escaped = character.escape_debug();
                if !takes(escaped.clone().map(char::len_utf8).sum()) {
                    return f.write_char('…');
                }
                write!(f, "{escaped}")?;
            }
            for byte in chunk.invalid() {
                if !takes(r"\xNN".len()) {
                    return f.write_char('…');
                }
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Returns the number of insertions, deletions and replacements that turn `from` into `to`.
pub fn edit_distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, from_char) in from.chars().enumerate() {
        let mut left = index + 1;
        let mut diagonal = std::mem::replace(&mut row[0], left);
        for (cell, to_char) in row[1..].iter_mut().zip(to.chars()) {
            let replaced = diagonal + usize::from(from_char != to_char);
            left = replaced.min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, left);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
