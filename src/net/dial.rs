//! Outgoing connections, for the dial errands of the server.
//!
//! Owns the sockets that are not connected yet. The address of an errand is already resolved, and
//! connecting never blocks. The server decides when a dial takes too long, and cancels it.

use super::listener::{INTEREST, SocketOptions};
use super::tcp::Tcp;
use crate::config::Settings;
use crate::server::Server;
use crate::server::errand::{Errand, ErrandId};
use crate::time::Time;
use mio::net::TcpStream;
use mio::{Registry, Token};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

/// Bound of the concurrent dials. Each has a token of the poll.
pub(super) const DIALS_MAX: usize = 64;

/// The sockets that are not connected yet.
#[derive(Debug)]
pub(super) struct Dials {
    /// Token of the first place. The token of each further place is one less.
    first: Token,
    places: Vec<Option<(ErrandId, TcpStream)>>,
    /// Places whose sockets have an event.
    changed: Vec<usize>,
}

impl Dials {
    /// Creates an empty list, which uses [`DIALS_MAX`] tokens from `first` downwards.
    pub(super) const fn new(first: Token) -> Self {
        Self { first, places: Vec::new(), changed: Vec::new() }
    }

    /// Notes an event of a token. Returns false if the token does not belong to a dial.
    pub(super) fn event(&mut self, token: Token) -> bool {
        let Some(place) = self.first.0.checked_sub(token.0).filter(|place| *place < DIALS_MAX)
        else {
            return false;
        };
        self.changed.push(place);
        true
    }

    /// Reports finished dials to the server, and begins its new errands.
    pub(super) fn run(&mut self, server: &mut Server<Tcp>, registry: &Registry, now: Time) {
        for place in std::mem::take(&mut self.changed) {
            self.settle(place, server, registry, now);
        }
        while let Some(errand) = server.next_errand() {
            match errand {
                Errand::Dial { id, address } => {
                    if let Err(error) = self.dial(id, address, server.settings(), registry) {
                        server.done(id, Err(error), now);
                    }
                }
                Errand::Cancel { id } => self.cancel(id),
            }
        }
    }

    fn dial(
        &mut self,
        id: ErrandId,
        address: SocketAddr,
        settings: &Settings,
        registry: &Registry,
    ) -> io::Result<()> {
        let free = self.places.iter().position(Option::is_none);
        let place = free.unwrap_or(self.places.len());
        if place == DIALS_MAX {
            return Err(io::Error::other("too many connections are being opened"));
        }
        let mut stream = TcpStream::connect(address)?;
        // Options that cannot be set are not logged again: the listeners have logged them.
        SocketOptions::default().set_inheritable(&stream, settings);
        registry.register(&mut stream, Token(self.first.0 - place), INTEREST)?;
        if place == self.places.len() {
            self.places.push(None);
        }
        self.places[place] = Some((id, stream));
        Ok(())
    }

    /// Reports a socket to the server if it is connected, or if connecting has failed.
    fn settle(&mut self, place: usize, server: &mut Server<Tcp>, registry: &Registry, now: Time) {
        let Some((id, stream)) = self.places.get_mut(place).and_then(Option::as_mut) else {
            return;
        };
        let id = *id;
        let failed = match (stream.take_error(), stream.peer_addr()) {
            (Ok(None), Err(error)) if error.kind() == ErrorKind::NotConnected => return,
            (Ok(None), Ok(_)) => {
                let token = Token(server.next_id().index());
                registry.reregister(stream, token, INTEREST).err()
            }
            (Ok(Some(error)) | Err(error), _) | (_, Err(error)) => Some(error),
        };
        let Some((_, stream)) = self.places[place].take() else { return };
        server.done(id, failed.map_or(Ok(Tcp(stream)), Err), now);
    }

    fn cancel(&mut self, id: ErrandId) {
        for place in &mut self.places {
            if place.as_ref().is_some_and(|(dialing, _)| *dialing == id) {
                *place = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::auth::Challenger;
    use crate::rtmp::handshake::Hello;
    use crate::server::relaying::RelayTarget;
    use mio::{Events, Poll};
    use std::net::TcpListener;
    use std::time::Duration;

    /// Relays a stream to `address`, and runs turns until the errand is over. Returns the server.
    fn relay_to(address: SocketAddr) -> Server<Tcp> {
        let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
        let hello = Hello::new(&[7; 1528]);
        let mut server = Server::new(Settings::default(), hello, Challenger::new([7; 32]));
        let mut dials = Dials::new(Token(usize::MAX - 10));
        let target = RelayTarget { address, app: "live".into(), key: "cam".into() };
        server.relay("live/cam", target, Time::ZERO);
        loop {
            dials.run(&mut server, poll.registry(), Time::ZERO);
            if server.stats().dialed + server.stats().dials_failed > 0 {
                break;
            }
            poll.poll(&mut events, Some(Duration::from_millis(10))).unwrap();
            for event in &events {
                assert!(dials.event(event.token()));
            }
        }
        assert!(dials.places.iter().all(Option::is_none));
        server
    }

    #[test]
    fn a_socket_that_is_connected_becomes_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = relay_to(listener.local_addr().unwrap());
        assert_eq!((server.stats().dialed, server.len()), (1, 1));
        listener.accept().unwrap();
    }

    #[test]
    fn a_socket_that_is_refused_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let server = relay_to(address);
        assert_eq!((server.stats().dials_failed, server.len()), (1, 0));
    }
}
