//! Why there is no measurement, or nothing to say of it: one line each, which names what to do.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::process::ProcessError;
use super::report::ReportError;
use super::target::TargetError;
use crate::limits::LOAD_FILE_BYTES_MAX;
use crate::media::flv::FlvError;
use crate::text::Escaped;

/// See the module's head.
#[derive(Debug)]
pub enum LoadError {
    /// A URL is no target.
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
        /// What the resolver said.
        error: io::Error,
    },
    /// Nobody listens there, or nobody answers.
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// An address of this machine cannot be listened on.
    CannotListen {
        /// Which.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The server refused what the whole measurement stands on.
    Refused {
        /// By whom.
        address: SocketAddr,
        /// What it was asked for.
        what: String,
        /// What it said, or did instead.
        answer: String,
    },
    /// The server broke off what the whole measurement stands on, after it had accepted it.
    BrokenOff {
        /// Which server.
        address: SocketAddr,
        /// What it had accepted.
        what: String,
        /// What it said, or did instead.
        answer: String,
        /// How far into the run.
        after: Duration,
    },
    /// The process may not open as many descriptors as the connections need.
    DescriptorLimit {
        /// Connections of the process at once.
        connections: usize,
        /// Descriptors for them and for what the generator needs itself.
        needed: usize,
        /// What the process may open.
        limit: usize,
    },
    /// A process that shared the work has ended before its time.
    Helper {
        /// Its number; the first process has 0.
        index: u32,
        /// What it said about that.
        said: String,
    },
    /// The process to be measured is not there.
    Process(ProcessError),
    /// A report cannot be made, read or written.
    Report {
        /// The file, or what stands in its place.
        file: String,
        /// Why.
        error: ReportError,
    },
    /// A file to be published is no good FLV.
    BadMedia {
        /// The file.
        file: String,
        /// Where and why.
        error: FlvError,
    },
    /// A file to be published holds neither audio nor video.
    NoMedia {
        /// The file.
        file: String,
    },
    /// A file to be published has more than [`LOAD_FILE_BYTES_MAX`].
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
        /// What the system said.
        error: io::Error,
    },
    /// A threshold names a figure that the report does not have.
    UnknownFigure {
        /// The threshold, as it was written.
        threshold: String,
        /// The figures whose names are nearest.
        near: Vec<String>,
    },
    /// Anything else that the system refused.
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
                 process at once: raise it to {needed} (ulimit -n), share the work with \
                 --processes where a command has that, or ask for fewer"
            ),
            Self::Helper { index, said } => {
                let said = if said.is_empty() { "without a word" } else { said };
                write!(f, "process {index} that shared the work ended: {said}")
            }
            Self::Process(error) => error.fmt(f),
            Self::Report { file, error } => write!(f, "{file}: {error}"),
            Self::BadMedia { file, error } => write!(f, "{file}: {error}"),
            Self::NoMedia { file } => {
                write!(f, "{file}: expected a file with audio or video, got neither")
            }
            Self::FileTooLarge { file, bytes } => {
                let max = LOAD_FILE_BYTES_MAX;
                write!(f, "{file}: expected a file of {max} bytes at most, got {bytes}: cut it")
            }
            Self::File { file, error } => write!(f, "{file}: {error}"),
            Self::UnknownFigure { threshold, near } => {
                write!(
                    f,
                    "--fail-if {threshold}: no such figure; the nearest are {}",
                    near.join(", ")
                )
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
