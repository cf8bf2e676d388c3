//! Socket activation, by the protocol of sd_listen_fds(3): listening sockets that the service
//! manager has opened and hands over, so that the port stays open while the server restarts.
//!
//! Owns which sockets those are. What becomes of them is the listener's business.

use super::StartError;
use super::listener::Listener;
use crate::config::Settings;
use crate::limits::LISTENERS_MAX;
use log::info;
use std::os::fd::AsRawFd;

/// The sockets that were handed over, ready to accept; none when the server was started in any
/// other way. Must be called once: the descriptors are this process's to own from here on.
///
/// # Errors
/// When one of them is not what the server can serve, or they are more than it may have.
pub(super) fn listeners(settings: &Settings) -> Result<Vec<Listener>, StartError> {
    let sockets = sd_listen_fds::get()
        .map_err(|_| StartError::HandedOver("LISTEN_PID or LISTEN_FDS is no number".to_owned()))?;
    if sockets.len() > LISTENERS_MAX {
        let what = format!("{} sockets, at most {LISTENERS_MAX} can be served", sockets.len());
        return Err(StartError::HandedOver(what));
    }
    let mut listeners = Vec::new();
    for (name, socket) in sockets {
        let socket = socket.into_std();
        let descriptor = socket.as_raw_fd();
        let name = name.unwrap_or_else(|| "without a name".to_owned());
        let listener = Listener::adopt(socket, settings).map_err(|error| {
            let what = format!("descriptor {descriptor} ({name}) is no TCP socket that can listen");
            StartError::HandedOver(format!("{what}: {error}"))
        })?;
        info!("descriptor {descriptor} ({name}) was handed over in place of `listen`");
        listeners.push(listener);
    }
    Ok(listeners)
}
