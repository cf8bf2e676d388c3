//! Accepting when the system refuses connections: it pauses, is tried again, and the pause ends.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};

use tiderace::config::Settings;
use tiderace::limits::ACCEPTS_PER_TURN_MAX;
use tiderace::server::accepting::{AcceptError, Acceptor, Listen};
use tiderace::server::peer::Protocol;
use tiderace::server::peer_address::PeerAddress;
use tiderace::stream::ids::ConnId;
use tiderace::time::Time;

use crate::socket::{Link, MemoryTransport};
use crate::world::World;

/// How long accepting pauses (ms).
const PAUSE_MS: u64 = 100;

/// A listening socket that answers by a script: whether it has a connection to give. It has none
/// when that is over.
#[derive(Default)]
struct Scripted {
    script: VecDeque<bool>,
    asked: usize,
}

impl Listen for Scripted {
    type Transport = MemoryTransport;

    fn protocol(&self) -> Protocol {
        Protocol::Rtmp
    }

    fn accept(&mut self) -> Result<(MemoryTransport, PeerAddress), AcceptError> {
        self.asked += 1;
        match self.script.pop_front() {
            Some(true) => {
                let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
                Ok((MemoryTransport(Link::open(1 << 12, None)), peer.into()))
            }
            Some(false) => Err(AcceptError::Refused(ErrorKind::PermissionDenied.into())),
            None => Err(AcceptError::Empty),
        }
    }

    fn register(&mut self, _: &mut MemoryTransport, _: ConnId) -> io::Result<()> {
        Ok(())
    }

    fn name(&self) -> String {
        "a socket in memory".to_owned()
    }
}

struct Bench {
    world: World,
    acceptor: Acceptor,
    listener: Scripted,
}

impl Bench {
    /// A listening socket that refuses one connection and gives so many after it.
    fn refused(connections: usize) -> Self {
        let (mut world, mut acceptor) = (World::new(Settings::default()), Acceptor::default());
        world.connect();
        acceptor.edge();
        let mut listener = Scripted::default();
        listener.script.push_back(false);
        listener.script.extend(vec![true; connections]);
        let mut bench = Self { world, acceptor, listener };
        bench.accept();
        assert_eq!(bench.listener.asked, 1, "it is not asked again at once");
        assert_eq!(bench.acceptor.paused_until(), Some(Time::ZERO.plus_millis(PAUSE_MS)));
        bench
    }

    fn accept(&mut self) {
        let now = self.world.now();
        let server = &mut self.world.server;
        server.accept_from(&mut self.acceptor, &mut self.listener, now);
    }

    fn can_accept(&self) -> bool {
        self.world.server.can_accept(&self.acceptor, self.world.now())
    }
}

#[test]
fn a_pause_is_over_with_the_connection_after_it() {
    // More than one turn accepts, so that the socket does not say that it is empty.
    let mut bench = Bench::refused(ACCEPTS_PER_TURN_MAX + 1);
    bench.world.advance_ms(PAUSE_MS - 1);
    assert!(!bench.can_accept());
    bench.world.advance_ms(1);
    assert!(bench.can_accept());
    bench.accept();
    assert_eq!(bench.listener.script.len(), 1, "a turn accepts so many");
    assert_eq!(bench.acceptor.paused_until(), None, "or the loop would wake for it forever");
    assert!(bench.can_accept(), "one waits");
    bench.accept();
    assert_eq!((bench.listener.script.len(), bench.can_accept()), (0, false));
    assert_eq!(bench.acceptor.paused_until(), None);
}

#[test]
fn a_pause_is_over_when_a_connection_has_ended() {
    let mut bench = Bench::refused(ACCEPTS_PER_TURN_MAX + 1);
    bench.world.connect();
    bench.world.advance_ms(PAUSE_MS - 1);
    assert!(!bench.can_accept(), "one more connection frees nothing");
    let now = bench.world.now();
    bench.world.server.stop(now);
    assert!(bench.can_accept(), "before its time");
    bench.accept();
    assert_eq!(bench.acceptor.paused_until(), None);
}

#[test]
fn a_pause_begins_again_with_each_refusal() {
    let mut bench = Bench::refused(0);
    bench.listener.script.push_back(false);
    bench.world.advance_ms(PAUSE_MS);
    bench.accept();
    assert_eq!(bench.listener.asked, 2);
    assert_eq!(bench.acceptor.paused_until(), Some(Time::ZERO.plus_millis(2 * PAUSE_MS)));
    bench.world.advance_ms(PAUSE_MS);
    bench.accept();
    assert_eq!(bench.acceptor.paused_until(), None, "none waits any more");
}
