//! `load floor`: a relay that does what the kernel must be asked for, and nothing else.
//!
//! A server of live streams reads each frame once and hands it to the kernel once for every
//! player. What that costs by itself is the floor of what any server costs on the same machine,
//! so that a figure can be told as a ratio to it. The relay knows no RTMP, keeps nothing for
//! those who come late, and gives no player a second chance.
//!
//! Owns the protocol, which is this: over TCP, frames behind their length of four bytes, the
//! highest first, and no longer than a message of RTMP. The first one that a client sends is
//! `publish NAME` or `play NAME`; every further one of a publisher goes to all players of that name
//! as it is, with its length. Players may come before any publisher. `relay` is the loop, `outbox`
//! what a player is still to be sent, `memory_file` where `sendfile` sends from.

mod memory_file;
mod relay;
mod send_queue;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use self::relay::Relay;
use super::LoadError;
use super::options::seconds;
use crate::descriptors;

/// What the relay is to do.
#[derive(Clone, Debug, Args)]
pub struct Floor {
    /// Listen here; with port 0 the system chooses one, which the line that it prints names.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// How the kernel is handed what players are sent.
    #[arg(long, value_enum, default_value = "write")]
    pub send: SendMethod,
    /// Send all frames of a stream that arrive in one turn of the loop together.
    #[arg(long)]
    pub merge: bool,
    /// End by itself after so many seconds; without it on SIGTERM or SIGINT alone.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration_s: Option<Duration>,
}

/// How the kernel is handed what players are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SendMethod {
    /// One `write` from memory for each frame and player, as a plain relay does it.
    Write,
    /// One `write` of each frame into a file in memory, and one `sendfile` from there for each
    /// player, which copies nothing; on Linux alone.
    Sendfile,
}

impl Floor {
    /// Relays until it is told to end, or its time is over.
    ///
    /// # Errors
    /// Why it cannot listen, or what the system refused later.
    pub fn serve(&self) -> Result<(), LoadError> {
        if self.send == SendMethod::Sendfile {
            memory_file::check()?;
        }
        descriptors::raise_limit();
        let cannot_listen = |error| LoadError::CannotListen { address: self.listen, error };
        let mut relay = Relay::bind(self).map_err(cannot_listen)?;
        say(&format!("listening on {}", relay.address()?));
        relay.run(self.duration_s)?;
        say(&relay.totals().to_string());
        Ok(())
    }
}

/// Prints a line; nothing is lost where nobody reads it.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}
