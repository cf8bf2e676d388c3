//! Mistakes in a configuration: each is one line with its place, key and remedy.

use std::error::Error;
use std::fmt;

/// One mistake of a configuration; displayed as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The file is missing, not a file, not permitted, too large, or not text.
    Unreadable {
        /// The file as it was given.
        file: String,
        /// What the system reported.
        error: String,
    },
    /// The file was a pipe or a device at the start, so a reload cannot read it again.
    ReadOnce {
        /// The file as it was given.
        file: String,
        /// What it was, as in `a pipe`.
        kind: &'static str,
    },
    /// The file sets no key.
    Empty {
        /// The file as it was given.
        file: String,
    },
    /// The file is not TOML.
    Syntax {
        /// The file as it was given.
        file: String,
        /// Counted from 1.
        line: usize,
        /// The key with its section, where the mistake belongs to one.
        key: Option<String>,
        /// The mistake and its remedy.
        message: String,
    },
    /// The file sets a key that does not exist.
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
    /// The file sets a key to a value that it cannot have.
    FileValue {
        /// The file as it was given.
        file: String,
        /// Counted from 1.
        line: usize,
        /// The key with its section.
        key: String,
        /// The value as it is written; its kind alone where it may be secret.
        got: String,
        /// What would be right.
        expected: String,
    },
    /// A flag was given a value that its key cannot have.
    FlagValue {
        /// The flag with its dashes.
        flag: &'static str,
        /// The value as it was given.
        got: String,
        /// What would be right.
        expected: String,
    },
    /// A reload would take away an access rule that is in force, and the file does not say that
    /// this is meant.
    RuleLost {
        /// The file as it was given; empty if there is none.
        file: String,
        /// The key with its section.
        key: String,
        /// The rule that is in force, without its secrets.
        in_force: String,
        /// How to say that it is meant.
        remedy: String,
    },
}

impl ConfigError {
    /// The line of the file, if the mistake stands in one.
    pub(super) const fn line(&self) -> Option<usize> {
        match self {
            Self::Syntax { line, .. }
            | Self::UnknownKey { line, .. }
            | Self::FileValue { line, .. } => Some(*line),
            Self::Unreadable { .. }
            | Self::ReadOnce { .. }
            | Self::Empty { .. }
            | Self::FlagValue { .. }
            | Self::RuleLost { .. } => None,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { file, error } => write!(f, "{file}: cannot read: {error}"),
            Self::ReadOnce { file, kind } => write!(
                f,
                "{file}: cannot be read again: it was {kind} at the start; \
                 start the server with a regular file (--config) to reload it"
            ),
            Self::Empty { file } => write!(
                f,
                "{file}: sets no key; fill it (`tiderace config` prints every key), \
                 or leave out --config to run with the defaults"
            ),
            Self::Syntax { file, line, key: None, message } => {
                write!(f, "{file}:{line}: {message}")
            }
            Self::Syntax { file, line, key: Some(key), message } => {
                write!(f, "{file}:{line}: key \"{key}\": {message}")
            }
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
            Self::RuleLost { file, key, in_force, remedy } => {
                let separator = if file.is_empty() { "" } else { ": " };
                write!(
                    f,
                    "{file}{separator}key \"{key}\": {in_force} would be lost; \
                     put the key back, or {remedy}"
                )
            }
        }
    }
}

impl Error for ConfigError {}

/// All mistakes of a configuration, at least one; displayed as one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Puts mistakes in the order of the file; `None` if there are none.
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Option<Self> {
        errors.sort_by_key(|error| error.line().unwrap_or(usize::MAX));
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// The first one.
    pub fn first(&self) -> &ConfigError {
        &self.0[0]
    }

    /// Every one, in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &ConfigError> {
        self.0.iter()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl Error for ConfigErrors {}
