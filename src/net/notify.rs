//! Messages to the service manager (sd_notify(3)): ready, reloading, stopping, and the watchdog.
//!
//! Owns the address in `NOTIFY_SOCKET` and the time of the next watchdog message. Without a manager
//! nothing is sent, and without a watchdog the loop is never woken for this. Sending never blocks.
//! A message that the manager does not accept at once is sent again a moment later.

use crate::time::Time;
use log::warn;
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;
use std::env;
use std::ffi::OsStr;
use std::io;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

/// Time until the next attempt when the manager's queue is full (ms).
const RETRY_MS: u64 = 100;
/// Messages that wait for the manager. When there are more, the oldest is dropped as outdated.
const UNSENT_MAX: usize = 16;

/// The sender of messages to the service manager. It does nothing unless the environment names a
/// manager.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    manager: Option<Manager>,
    watchdog: Option<Watchdog>,
}

#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// Messages that have not been sent, oldest first.
    unsent: VecDeque<String>,
    /// Time of the next attempt. Valid only if there are unsent messages.
    retry_at: Time,
    /// True if the last message could not be sent. Only the first failure is logged.
    failing: bool,
}

/// The watchdog. The manager kills a server that sends no message within an interval.
#[derive(Debug)]
struct Watchdog {
    /// Half the interval, as sd_watchdog_enabled(3) advises.
    period: Duration,
    due: Time,
}

impl Notifier {
    /// Creates a notifier for the manager and the watchdog in the environment.
    pub(super) fn from_env() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let variable = |name| env::var(name).ok();
        let (interval, pid) = (variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
        let period = watchdog_period(interval.as_deref(), pid.as_deref(), process::id());
        let watchdog = period.map(|period| Watchdog { period, due: Time::ZERO });
        match Manager::at(&name) {
            Ok(manager) => Self { manager: Some(manager), watchdog },
            Err(error) => {
                warn!(
                    "cannot use NOTIFY_SOCKET={}: {error}; the service manager gets no messages",
                    name.display()
                );
                Self::default()
            }
        }
    }

    /// Reports that the server listens on every address, or that a reload is done.
    pub(super) fn ready(&mut self, status: &str, now: Time) {
        self.tell(now, || format!("READY=1\nSTATUS={status}"));
    }

    /// Reports that a reload begins. The timestamp lets the manager distinguish reloads.
    pub(super) fn reloading(&mut self, now: Time) {
        self.tell(now, || {
            let clock = clock_gettime(ClockId::Monotonic);
            let micros = clock.tv_sec * 1_000_000 + clock.tv_nsec / 1000;
            format!("RELOADING=1\nMONOTONIC_USEC={micros}")
        });
    }

    /// Reports that the server stops, which may take `limit_ms`.
    pub(super) fn stopping(&mut self, status: &str, limit_ms: u64, now: Time) {
        self.tell(now, || {
            let limit_usec = limit_ms.saturating_mul(1000);
            format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={limit_usec}\nSTATUS={status}")
        });
    }

    /// Sends the messages that are due at `now`. It is called at the end of a turn, so the watchdog
    /// message proves that the loop is not stuck.
    pub(super) fn turn(&mut self, now: Time, status: impl FnOnce() -> String) {
        if let Some(manager) = self.manager.as_mut().filter(|manager| manager.retry_is_due(now)) {
            manager.send(now);
        }
        let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.due <= now) else {
            return;
        };
        watchdog.due = now + watchdog.period;
        self.tell(now, || format!("WATCHDOG=1\nSTATUS={}", status()));
    }

    /// Returns the time at which the loop has to wake up for a message; `None` if there is none.
    pub(super) fn next(&self) -> Option<Time> {
        let retry = self.manager.as_ref().filter(|manager| !manager.unsent.is_empty());
        let retry = retry.map(|manager| manager.retry_at);
        self.watchdog.as_ref().map(|watchdog| watchdog.due).into_iter().chain(retry).min()
    }

    fn tell(&mut self, now: Time, message: impl FnOnce() -> String) {
        if let Some(manager) = &mut self.manager {
            if manager.unsent.len() == UNSENT_MAX {
                manager.unsent.pop_front();
            }
            manager.unsent.push_back(message());
            manager.send(now);
        }
    }
}

impl Manager {
    fn at(name: &OsStr) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            address: address(name)?,
            unsent: VecDeque::new(),
            retry_at: Time::ZERO,
            failing: false,
        })
    }

    fn retry_is_due(&self, now: Time) -> bool {
        !self.unsent.is_empty() && self.retry_at <= now
    }

    /// Sends messages until the manager accepts no more. After any other error the message is
    /// dropped, because a manager that restarts only needs the next ones.
    fn send(&mut self, now: Time) {
        while let Some(message) = self.unsent.front() {
            match self.socket.send_to_addr(message.as_bytes(), &self.address) {
                Ok(_) => self.failing = false,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.retry_at = now.plus_millis(RETRY_MS);
                    return;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        warn!("cannot send a message to the service manager: {error}");
                    }
                }
            }
            self.unsent.pop_front();
        }
    }
}

/// Returns the address of `name`: a path, or `@` and an abstract name.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an @name")),
    }
}

/// Returns the period of watchdog messages of the process `own`: half of `WATCHDOG_USEC`. Returns
/// `None` if `WATCHDOG_PID` is another process.
fn watchdog_period(interval: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own)) {
        return None;
    }
    let micros: u64 = interval?.parse().ok()?;
    (micros > 1).then(|| Duration::from_micros(micros / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_answered_at_half_its_interval_by_the_process_that_it_means() {
        let half = Some(Duration::from_millis(2500));
        assert_eq!(watchdog_period(Some("5000000"), None, 7), half);
        assert_eq!(watchdog_period(Some("5000000"), Some("7"), 7), half);
        for (interval, pid) in [
            (None, None),
            (None, Some("7")),
            (Some("5000000"), Some("8")),
            (Some("5000000"), Some("")),
            (Some("0"), None),
            (Some("1"), None),
            (Some("5s"), None),
        ] {
            assert_eq!(watchdog_period(interval, pid, 7), None, "{interval:?} {pid:?}");
        }
    }

    #[test]
    fn the_manager_has_a_path_or_a_name_without_a_file() {
        assert!(address(OsStr::new("/run/systemd/notify")).unwrap().as_pathname().is_some());
        #[cfg(target_os = "linux")]
        assert_eq!(
            address(OsStr::new("@manager")).unwrap().as_abstract_name(),
            Some(&b"manager"[..])
        );
        for name in ["relative", "vsock:2:1234"] {
            let error = address(OsStr::new(name)).unwrap_err();
            assert_eq!(error.to_string(), "neither a path nor an @name", "{name}");
        }
    }

    #[test]
    fn nobody_is_woken_without_a_manager() {
        let mut notifier = Notifier::default();
        notifier.ready("", Time::ZERO);
        notifier.turn(Time::ZERO, || panic!("nobody asked for the status"));
        assert_eq!(notifier.next(), None);
    }
}
