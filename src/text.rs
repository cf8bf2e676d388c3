//! How text that a peer supplied is shown, escaped and cut, and how near two words are.
//!
//! Owns what a log line may contain of a name or any other bytes from outside, which it writes
//! without allocating. It never decides whether they are acceptable. What may be secret is not its
//! affair: a query is taken off a name where that is read, and no URL is ever shown.

use std::fmt::{self, Write};

use crate::limits::LOG_TEXT_BYTES_MAX;

/// Shows bytes of a peer as one harmless piece of a log line.
///
/// Control characters, ESC, line ends, quotes, backslashes, combining marks, and what is not
/// printable, such as bidirectional overrides, are written as escapes; bytes that are not UTF-8 as
/// `\xNN`. Whatever is longer than [`LOG_TEXT_BYTES_MAX`] as shown is cut between two characters
/// and ends in `…`.
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

/// Insertions, deletions and replacements that turn `from` into `to`.
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
