//! Errors that prevent a measurement or its report. Each is one line that says what to do.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::process::ProcessError;
use super::report::ReportError;
use super::target::TargetError;
use crate::limits::{LOAD_COMPARED_RUNS_MAX, LOAD_FILE_BYTES_MAX};
use crate::media::flv::FlvError;
use crate::text::Escaped;

/// See the module's head.
#[derive(Debug)]
pub enum LoadError {
    /// A URL is not a valid target.
    BadTarget {
        /// The URL.
        url: String,
        /// What is wrong with it.
        error: TargetError,
    },
    /// A host has no address.
    UnknownHost {
        /// The host.
        host: String,
        /// The error of the resolver.
        error: io::Error,
    },
    /// No server listens on or answers from the address.
    Unreachable {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        error: io::Error,
    },
    /// An address of this machine cannot be listened on.
    CannotListen {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        error: io::Error,
    },
    /// The server refused a request that the whole measurement depends on.
    Refused {
        /// The address of the server.
        address: SocketAddr,
        /// The request.
        what: String,
        /// The answer of the server, or what happened instead.
        answer: String,
    },
    /// The server ended something that the whole measurement depends on, after accepting it.
    BrokenOff {
        /// The address of the server.
        address: SocketAddr,
        /// The request that the server had accepted.
        what: String,
        /// The message of the server, or what happened instead.
        answer: String,
        /// Time since the start of the run.
        after: Duration,
    },
    /// The process may not open as many descriptors as the connections need.
    DescriptorLimit {
        /// Simultaneous connections of the process.
        connections: usize,
        /// Descriptors for these connections and for the generator itself.
        needed: usize,
        /// The descriptor limit of the process.
        limit: usize,
    },
    /// A helper process ended early.
    Helper {
        /// The number of the helper; the first process has 0.
        index: u32,
        /// The error that the helper printed.
        message: String,
    },
    /// The process to measure does not exist, or is not the server.
    Process(ProcessError),
    /// A report cannot be made, read or written.
    Report {
        /// The file, or a description of the source.
        file: String,
        /// Why.
        error: ReportError,
    },
    /// A list of keys has an invalid line.
    KeyList {
        /// The file.
        file: String,
        /// The number of the line, from 1.
        line: usize,
        /// The rule that the line breaks, without the key.
        reason: String,
    },
    /// A list of keys does not have one for each stream.
    KeyCount {
        /// The file.
        file: String,
        /// The number of streams.
        expected: u32,
        /// The number of keys.
        got: usize,
    },
    /// A file to publish is not valid FLV.
    BadMedia {
        /// The file.
        file: String,
        /// Where and why.
        error: FlvError,
    },
    /// A file to publish holds neither audio nor video.
    NoMedia {
        /// The file.
        file: String,
    },
    /// A file to publish is larger than [`LOAD_FILE_BYTES_MAX`].
    FileTooLarge {
        /// The file.
        file: String,
        /// Its length.
        bytes: u64,
    },
    /// A file cannot be read or written.
    File {
        /// The file.
        file: String,
        /// The error of the system.
        error: io::Error,
    },
    /// A comparison has no run on a side, or too many.
    ComparedRuns {
        /// Runs of the two sides.
        runs: [usize; 2],
    },
    /// A side of a comparison has the same report twice.
    ComparedTwice {
        /// The file.
        file: String,
    },
    /// A threshold has a figure or a unit that the command does not measure.
    BadThreshold {
        /// The threshold as written.
        threshold: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A threshold names a figure that does not exist.
    UnknownFigure {
        /// The threshold as written.
        threshold: String,
        /// The figures with the most similar names.
        near: Vec<String>,
    },
    /// Any other error of the system.
    Io(io::Error),
}

impl LoadError {
    pub(super) fn file(path: &Path, error: io::Error) -> Self {
        Self::File { file: path.display().to_string(), error }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadTarget { url, error } => write!(f, "{}: {error}", Escaped(url.as_bytes())),
            Self::UnknownHost { host, error } => write!(f, "cannot look up {host}: {error}"),
            Self::Unreachable { address, error } => {
                write!(f, "cannot connect to {address}: {error}; is the server up?")
            }
            Self::CannotListen { address, error } => {
                write!(f, "cannot listen on {address}: {error}")
            }
            Self::Refused { address, what, answer } => {
                write!(f, "{address} refused to {what}: {answer}")
            }
            Self::BrokenOff { address, what, answer, after } => {
                let after_s = after.as_secs_f64();
                write!(f, "{address} no longer lets us {what}, after {after_s:.1} s: {answer}")
            }
            Self::DescriptorLimit { connections, needed, limit } => write!(
                f,
                "the descriptor limit of {limit} is too low for {connections} connections of one \
                 process: raise it to {needed} (ulimit -n), share the work with \
                 --processes if the command has that flag, or ask for fewer connections"
            ),
            Self::Helper { index, message } => {
                let message = if message.is_empty() { "it printed no error" } else { message };
                write!(f, "helper process {index} failed: {message}")
            }
            Self::Process(error) => error.fmt(f),
            Self::Report { file, error } => write!(f, "{file}: {error}"),
            Self::KeyList { file, line, reason } => write!(f, "{file}: line {line}: {reason}"),
            Self::KeyCount { file, expected, got } => {
                write!(f, "{file}: expected a key for each of {expected} streams, got {got}")
            }
            Self::BadMedia { file, error } => write!(f, "{file}: {error}"),
            Self::NoMedia { file } => {
                write!(f, "{file}: expected a file with audio or video, got neither")
            }
            Self::FileTooLarge { file, bytes } => {
                let max = LOAD_FILE_BYTES_MAX;
                write!(
                    f,
                    "{file}: expected at most {max} bytes, got {bytes}; publish a shorter file"
                )
            }
            Self::File { file, error } => write!(f, "{file}: {error}"),
            Self::ComparedRuns { runs: [first, second] } => write!(
                f,
                "expected 1 to {LOAD_COMPARED_RUNS_MAX} reports a side, got {first} and {second}: \
                 name two reports, or those of the second side after --with"
            ),
            Self::ComparedTwice { file } => write!(
                f,
                "{file}: expected each report once a side, got it twice: name every run once"
            ),
            Self::BadThreshold { threshold, reason } => {
                write!(f, "{threshold}: {reason}")
            }
            Self::UnknownFigure { threshold, near } => {
                write!(f, "{threshold}: no such figure; the nearest are {}", near.join(", "))
            }
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl Error for LoadError {}

impl From<ProcessError> for LoadError {
    fn from(error: ProcessError) -> Self {
        Self::Process(error)
    }
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
