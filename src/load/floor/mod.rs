//! `load floor`: a relay that makes only the system calls that every server needs.
//!
//! A live server reads each frame once and passes it to the kernel once per player. Frames that
//! arrive together leave in one call. The cost of that alone is the floor for any server on the
//! same machine, so figures can be given as a ratio to it. The relay does not speak RTMP, caches
//! nothing for late players, and drops players that do not read.
//!
//! Owns the protocol: over TCP, frames with a prefix of four bytes that holds their length,
//! big-endian, and no longer than an RTMP message. The first frame of a client is `publish NAME` or
//! `play NAME`. Every later frame of a publisher goes to all players of that name unchanged,
//! including its prefix. Players may come before any publisher. `relay` is the loop, `send_queue`
//! holds the unsent bytes of a player, and `memory_file` is the source of `sendfile`.

mod memory_file;
mod relay;
mod send_queue;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use self::relay::Relay;
use super::LoadError;
use super::options::{millis, seconds};
use crate::descriptors;

/// Options of `load floor`.
#[derive(Clone, Debug, Args)]
pub struct Floor {
    /// Listen on this address. With port 0 the system chooses a port; the first output line shows
    /// it.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// How frames are passed to the kernel.
    #[arg(long, value_enum, default_value = "write")]
    pub send: SendMethod,
    /// Hold the frames of a stream for this many milliseconds and send them together.
    #[arg(long, value_name = "MS", value_parser = millis)]
    pub merge_ms: Option<Duration>,
    /// End after this many seconds. Without this flag the relay ends on SIGTERM or SIGINT only.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration_s: Option<Duration>,
}

/// How frames are passed to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SendMethod {
    /// One `writev` from memory per turn and player, like a plain relay.
    Write,
    /// One `write` per turn into a memory file, and one `sendfile` per player, which copies
    /// nothing. Linux only.
    Sendfile,
}

impl Floor {
    /// Relays until a signal arrives or the time is over.
    ///
    /// # Errors
    /// A failure to listen, or a later system error.
    pub fn serve(&self) -> Result<(), LoadError> {
        if self.send == SendMethod::Sendfile {
            memory_file::check()?;
        }
        descriptors::raise_limit();
        let cannot_listen = |error| LoadError::CannotListen { address: self.listen, error };
        let mut relay = Relay::bind(self).map_err(cannot_listen)?;
        print_line(&format!("listening on {}", relay.address()?));
        relay.run(self.duration_s)?;
        print_line(&relay.totals().to_string());
        Ok(())
    }
}

/// Prints a line. A failure means that no reader is left, so nothing is lost.
fn print_line(line: &str) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}
