//! Lines of a shell, cut into commands and words.
//!
//! This knows the part of the language that the documents use: quotes, comments, `\` at the end of
//! a line, pipes and lists, redirections, assignments, and `$NAME` and `$(command)` as words.

use std::collections::BTreeMap;

/// A command with its words. Words of redirections are left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ShellCommand {
    /// `NAME=value` before the first word.
    pub(super) assignments: Vec<(String, String)>,
    pub(super) words: Vec<String>,
}

/// The commands of a block, those within `$(...)` among them. Variables that the block assigns have
/// their values, others stay as they are. The output of a command is the number 1.
pub(super) fn commands(text: &str) -> Vec<ShellCommand> {
    let (mut commands, mut values) = (Vec::new(), BTreeMap::new());
    for line in text.replace("\\\n", " ").lines() {
        let mut command = ShellCommand::default();
        let mut skips_next = false;
        for token in tokens(line) {
            match token {
                Token::Word(word) => {
                    let (word, inner) = expand(&word, &values);
                    commands.extend(inner.iter().flat_map(|inner| self::commands(inner)));
                    if std::mem::take(&mut skips_next) {
                        continue;
                    }
                    match word.split_once('=') {
                        Some((name, value)) if command.words.is_empty() && is_variable(name) => {
                            values.insert(name.to_owned(), value.to_owned());
                            command.assignments.push((name.to_owned(), value.to_owned()));
                        }
                        _ => command.words.push(word),
                    }
                }
                Token::Redirection => skips_next = true,
                Token::End => commands.push(std::mem::take(&mut command)),
            }
        }
        commands.push(command);
    }
    commands.retain(|command| *command != ShellCommand::default());
    commands
}

enum Token {
    Word(String),
    /// The next word is a file.
    Redirection,
    /// Of a command, by `|`, `&`, `;` or one of their doubles.
    End,
}

fn tokens(line: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '#' if word.is_none() => break,
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                word.extend(chars.by_ref().take_while(|inner| *inner != c));
            }
            '$' if chars.peek() == Some(&'(') => {
                let word = word.get_or_insert_default();
                word.push(c);
                word.extend(chars.by_ref().take_while(|inner| *inner != ')'));
                word.push(')');
            }
            ' ' => tokens.extend(word.take().map(Token::Word)),
            '|' | ';' | '&' => {
                tokens.extend(word.take().map(Token::Word));
                tokens.push(Token::End);
            }
            '>' | '<' => {
                // A number before it is a descriptor.
                let is_descriptor = |word: &String| word.chars().all(|c| c.is_ascii_digit());
                tokens.extend(word.take().filter(|word| !is_descriptor(word)).map(Token::Word));
                while chars.next_if(|next| *next == '>' || *next == '&').is_some() {}
                tokens.push(Token::Redirection);
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    tokens.extend(word.map(Token::Word));
    tokens
}

/// A word with what its variables stand for, and the commands within it.
fn expand(word: &str, values: &BTreeMap<String, String>) -> (String, Vec<String>) {
    let (mut expanded, mut inner) = (String::new(), Vec::new());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some((command, behind)) = after.strip_prefix('(').and_then(|s| s.split_once(')')) {
            inner.push(command.to_owned());
            expanded.push('1');
            rest = behind;
        } else {
            let end = after.find(|c: char| !is_variable(&c.to_string())).unwrap_or(after.len());
            match values.get(&after[..end]) {
                Some(value) => expanded.push_str(value),
                None => expanded.extend(["$", &after[..end]]),
            }
            rest = &after[end..];
        }
    }
    expanded.push_str(rest);
    (expanded, inner)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

#[test]
fn a_line_is_cut_as_a_shell_would_cut_it() {
    let words = |text| {
        let commands = commands(text).into_iter();
        commands.map(|command| command.words.join(",")).collect::<Vec<_>>()
    };
    assert_eq!(words("a b   # c"), ["a,b"]);
    assert_eq!(words("a 'b c' \\\n  \"d\"; e | f && g"), ["a,b c,d", "e", "f", "g"]);
    assert_eq!(words("a b > c 2>&1 | sudo tee d"), ["a,b", "sudo,tee,d"]);
    assert_eq!(words("U=x P=$(pidof a)\nb $U --pid $P"), ["pidof,a", "", "b,x,--pid,1"]);
    assert_eq!(commands("A=b c")[0].assignments, [("A".to_owned(), "b".to_owned())]);
}
