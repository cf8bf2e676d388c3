//! The signals of the process. They are caught before anything else is done.
//!
//! A terminal that goes away, a supervisor that reloads or a container that stops may signal the
//! process in its first milliseconds. The default action of those signals would end it, or, for
//! the first process of a container, lose a SIGTERM.

use mio::event::Source;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};
use signal_hook::flag::{register, register_conditional_shutdown};
use signal_hook_mio::v1_0;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit code of a process that is stopped before it serves: a stop on request is a success.
const STOPPED: i32 = 0;

/// Caught signals, which wait for the loop.
pub struct Signals {
    pending: v1_0::Signals,
    /// True until the loop runs. Until then SIGTERM and SIGINT end the process at once, because
    /// reading the configuration may block on a pipe.
    starting: Arc<AtomicBool>,
}

/// Meaning of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: ask clients to connect again.
    Reconnect,
    /// SIGUSR2: no effect. It is caught because its default action ends the process, and operators
    /// of other servers are used to sending it.
    Ignored,
    /// SIGTERM or SIGINT: drain, or end at once if the server drains already.
    Stop,
}

impl Signals {
    /// Catches the signals of the server from here on.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn catch() -> io::Result<Self> {
        let starting = Arc::new(AtomicBool::new(true));
        for signal in [SIGTERM, SIGINT] {
            register_conditional_shutdown(signal, STOPPED, Arc::clone(&starting))?;
        }
        // With SIGXFSZ caught, a write to a memory file or to the log fails at the file size limit.
        // Otherwise the signal would end the process.
        register(SIGXFSZ, Arc::default())?;
        let pending = v1_0::Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])?;
        Ok(Self { pending, starting })
    }

    /// Marks the start of the loop. From here on, signals are requests to the loop and no longer
    /// end the process.
    pub(super) fn started(&self) {
        self.starting.store(false, Ordering::SeqCst);
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.pending.register(registry, token, Interest::READABLE)
    }

    /// Returns the requests since the last call.
    pub(super) fn requests(&mut self) -> Vec<Request> {
        let request = |signal| match signal {
            SIGHUP => Request::Reload,
            SIGUSR1 => Request::Reconnect,
            SIGUSR2 => Request::Ignored,
            _ => Request::Stop,
        };
        self.pending.pending().map(request).collect()
    }
}
