//! What the service manager is told, by the protocol of sd_notify(3): that the server is ready,
//! reads its settings again, goes down, and that its loop still turns.
//!
//! Owns the address that `NOTIFY_SOCKET` names and the time of the next watchdog message. Without
//! a manager it does nothing, and without a watchdog it wakes nobody. It never waits: what the
//! manager does not take at once is sent again a moment later.

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

/// When the manager's queue is full: how long until the next attempt (ms).
const RETRY_MS: u64 = 100;
/// Messages that wait for a manager that takes none; beyond, the oldest says nothing of use.
const UNSENT_MAX: usize = 16;

/// The server's end. Nobody listens unless the environment names a manager.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    manager: Option<Manager>,
    watchdog: Option<Watchdog>,
}

#[derive(Debug)]
struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    /// What has not been taken yet, oldest first.
    unsent: VecDeque<String>,
    /// When to try again; of no meaning while nothing is unsent.
    retry_at: Time,
    /// The last message could not be sent.
    failing: bool,
}

/// The manager ends a server from which it hears nothing for an interval.
#[derive(Debug)]
struct Watchdog {
    /// Half the interval, as sd_watchdog_enabled(3) advises.
    period: Duration,
    due: Time,
}

impl Notifier {
    /// The manager and the watchdog that the environment names.
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
                warn!("NOTIFY_SOCKET={} cannot be used: {error}", name.display());
                Self::default()
            }
        }
    }

    /// Every address is listened on, or the settings have been read again.
    pub(super) fn ready(&mut self, status: &str, now: Time) {
        self.tell(now, || format!("READY=1\nSTATUS={status}"));
    }

    /// The settings are about to be read again. The stamp lets the manager tell this reload from
    /// an earlier one.
    pub(super) fn reloading(&mut self, now: Time) {
        self.tell(now, || {
            let clock = clock_gettime(ClockId::Monotonic);
            let micros = clock.tv_sec * 1_000_000 + clock.tv_nsec / 1000;
            format!("RELOADING=1\nMONOTONIC_USEC={micros}")
        });
    }

    /// The server goes down, which may take `limit_ms`.
    pub(super) fn stopping(&mut self, status: &str, limit_ms: u64, now: Time) {
        self.tell(now, || {
            let limit_usec = limit_ms.saturating_mul(1000);
            format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={limit_usec}\nSTATUS={status}")
        });
    }

    /// Sends what is due at `now`, at the end of a turn: whoever gets here is not stuck.
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

    /// When the loop has to take a turn for this; never, unless somebody waits for a message.
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

    /// Sends as much as the manager takes. A manager that is not there is told nothing: it begins
    /// anew with whatever comes next.
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
                        warn!("cannot tell the service manager: {error}");
                    }
                }
            }
            self.unsent.pop_front();
        }
    }
}

/// The address that `name` stands for: a path, or behind `@` a name without a file.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an @name")),
    }
}

/// How often the manager is to hear of the process `own`: half of `WATCHDOG_USEC`, unless
/// `WATCHDOG_PID` says that another process is meant.
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
