//! Socket activation (sd_listen_fds(3)): the service manager opens the listening sockets and hands
//! them over, so that the port stays open while the server restarts.
//!
//! This module finds and checks the sockets. `listener.rs` uses them.

use super::StartError;
use super::listener::Listener;
use crate::config::Settings;
use crate::limits::LISTENERS_MAX;
use log::info;
use std::os::fd::AsRawFd;

/// Returns the sockets that were handed over, ready to accept; none if there was no socket
/// activation. It takes ownership of the descriptors, so it must be called only once.
///
/// # Errors
/// Fails if a socket is not a listening TCP socket, or if there are too many.
pub(super) fn listeners(settings: &Settings) -> Result<Vec<Listener>, StartError> {
    let sockets = sd_listen_fds::get()
        .map_err(|_| StartError::HandedOver("LISTEN_PID or LISTEN_FDS is not a number".into()))?;
    if sockets.len() > LISTENERS_MAX {
        let what = format!("{} sockets, at most {LISTENERS_MAX} are allowed", sockets.len());
        return Err(StartError::HandedOver(what));
    }
    let mut listeners = Vec::new();
    for (name, socket) in sockets {
        let socket = socket.into_std();
        let descriptor = socket.as_raw_fd();
        let name = name.unwrap_or_else(|| "without a name".to_owned());
        let listener = Listener::adopt(socket, settings).map_err(|error| {
            let what = format!("descriptor {descriptor} ({name}) is not a listening TCP socket");
            StartError::HandedOver(format!("{what}: {error}"))
        })?;
        info!("descriptor {descriptor} ({name}) was handed over and replaces `listen`");
        listeners.push(listener);
    }
    Ok(listeners)
}
