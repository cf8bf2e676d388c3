//! Mistakes in a configuration. Each is displayed as one line with its place, key and remedy.

use std::error::Error;
use std::fmt;

/// A mistake in a configuration. It is displayed as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The file is missing, not a file, not permitted, too large, or not text.
    Unreadable {
        /// The file as it was given.
        file: String,
        /// The error of the system.
        error: String,
    },
    /// The file was a pipe or a device at the start, so a reload cannot read it again.
    ReadOnce {
        /// The file as it was given.
        file: String,
        /// The kind of file at the start, as in `a pipe`.
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
        /// The key with its section, if the mistake belongs to a key.
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
        /// A valid name that resembles it.
        near: Option<&'static str>,
        /// The valid names in its section.
        valid: Vec<&'static str>,
    },
    /// The file sets a key to an invalid value.
    FileValue {
        /// The file as it was given.
        file: String,
        /// Counted from 1.
        line: usize,
        /// The key with its section.
        key: String,
        /// The value as written, or only its kind if it may be secret.
        got: String,
        /// Description of valid values.
        expected: String,
    },
    /// A flag has an invalid value.
    FlagValue {
        /// The flag with its dashes.
        flag: &'static str,
        /// The value as it was given.
        got: String,
        /// Description of valid values.
        expected: String,
    },
    /// A reload would remove an access rule that is in force, and the file does not confirm it.
    RuleLost {
        /// The file as it was given; empty if there is none.
        file: String,
        /// The key with its section.
        key: String,
        /// The rule that is in force, without its secrets.
        in_force: String,
        /// How to confirm the removal.
        remedy: String,
    },
}

impl ConfigError {
    /// Returns the line in the file, if the mistake has one.
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

/// All mistakes in a configuration, at least one. Each is displayed as one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Sorts mistakes by their line. Returns `None` if there are none.
    pub(super) fn new(mut errors: Vec<ConfigError>) -> Option<Self> {
        errors.sort_by_key(|error| error.line().unwrap_or(usize::MAX));
        (!errors.is_empty()).then_some(Self(errors))
    }

    /// Returns the first mistake.
    pub fn first(&self) -> &ConfigError {
        &self.0[0]
    }

    /// Iterates over the mistakes, in the order of the file.
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
