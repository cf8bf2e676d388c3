//! Errands: dialing, with every outcome, and a stream that crosses two servers in virtual time.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tiderace::config::Settings;
use tiderace::limits;
use tiderace::server::errand::{Errand, ErrandId};
use tiderace::server::reason::CloseReason;
use tiderace::server::relaying::RelayTarget;

use crate::random::Random;
use crate::wire::{self, AUDIO, Message, VIDEO};
use crate::world::{ClientHandle, Split, World};

fn target() -> RelayTarget {
    let address = SocketAddr::from(([192, 0, 2, 9], 1935));
    RelayTarget { address, app: "live".to_owned(), key: "there".to_owned() }
}

/// Has the server relay the stream `live/cam`, and takes the errand that it gives.
fn relay(world: &mut World) -> ErrandId {
    let now = world.now();
    let expected = world.server.relay("live/cam", target(), now);
    let errand = world.server.next_errand();
    assert_eq!(errand, Some(Errand::Dial { id: expected, address: target().address }));
    assert_eq!(world.server.next_errand(), None);
    expected
}

fn fail(world: &mut World, id: ErrandId, kind: ErrorKind) {
    let now = world.now();
    let error = io::Error::from(kind);
    assert_eq!(world.server.done(id, Err(error), now), None);
    world.run();
}

/// Two servers, and the connection from the near one to the far one.
struct Pair {
    near: World,
    far: World,
    /// Its ends: what the near server has dialed, and what the far one has accepted.
    ends: Option<(ClientHandle, ClientHandle)>,
}

impl Pair {
    fn new() -> Self {
        Self::of(World::new(Settings::default()), World::new(Settings::default()))
    }

    const fn of(near: World, far: World) -> Self {
        Self { near, far, ends: None }
    }

    /// The far server accepts what the near one has dialed.
    fn connect(&mut self, id: ErrandId) {
        let ends = (self.near.dialed(id), self.far.connect());
        self.near[ends.0].reads = false;
        self.far[ends.1].reads = false;
        self.ends = Some(ends);
        self.run();
    }

    /// Lets everything happen that happens without time passing.
    fn run(&mut self) {
        loop {
            self.near.run();
            self.far.run();
            if !self.pass_on() {
                return;
            }
        }
    }

    /// Carries bytes and ends between the servers. Returns whether there were any.
    fn pass_on(&mut self) -> bool {
        let Some((near, far)) = self.ends else { return false };
        let (there, back) = (self.near[near].take_raw(), self.far[far].take_raw());
        self.far[far].send_raw(&there);
        self.near[near].send_raw(&back);
        let mut moved = !there.is_empty() || !back.is_empty();
        if self.near[near].is_closed() || self.far[far].is_closed() {
            self.near[near].finish();
            self.far[far].finish();
            (self.ends, moved) = (None, true);
        }
        moved
    }

    fn advance_ms(&mut self, millis: u64) {
        for _ in 0..millis {
            self.near.advance_ms(1);
            self.far.advance_ms(1);
            self.run();
        }
    }
}

/// A keyframe or another frame of H.264 with a number in it.
fn video(number: u32) -> Message {
    let kind = if number.is_multiple_of(5) { 0x17 } else { 0x27 };
    let mut payload = vec![kind, 1, 0, 0, 0, 0, 0, 0, 5, 0x65];
    payload.extend(number.to_be_bytes());
    Message::new(6, VIDEO, payload).on(1).at(number * 40)
}

fn header() -> Message {
    Message::new(6, VIDEO, vec![0x17, 0, 0, 0, 0, 1, 0x64, 0, 0x1f, 0xff]).on(1)
}

/// What a player was sent of video: payloads and timestamps.
fn pictures(world: &World, player: ClientHandle) -> Vec<(Vec<u8>, u32)> {
    let messages = world[player].of_kind(VIDEO);
    messages.iter().map(|message| (message.payload.clone(), message.timestamp)).collect()
}

#[test]
fn a_stream_crosses_two_servers_and_every_frame_arrives_in_order() {
    for delay_ms in [0, 3000] {
        let mut pair = Pair::new();
        let publisher = pair.near.publishing("cam");
        pair.near.say(publisher, &[header()]);
        let id = relay(&mut pair.near);
        pair.advance_ms(delay_ms);
        pair.connect(id);
        assert!(pair.far.server.hub().find("live/there").is_some_and(|stream| stream.is_live()));
        let player = pair.far.playing("there");
        let expected: Vec<_> = (0..50).map(video).collect();
        for message in &expected {
            pair.near.say(publisher, std::slice::from_ref(message));
            pair.advance_ms(40);
        }
        let expected = expected.into_iter().map(|message| (message.payload, message.timestamp));
        let (headers, frames): (Vec<_>, Vec<_>) =
            pictures(&pair.far, player).into_iter().partition(|(payload, _)| payload[1] == 0);
        assert_eq!(frames, expected.collect::<Vec<_>>(), "after {delay_ms} ms");
        assert!(!headers.is_empty(), "the decoder configuration");
        let stats = (pair.near.server.stats(), pair.far.server.stats());
        assert_eq!((stats.0.dialed, stats.0.dials_failed, stats.1.accepted), (1, 0, 2));
    }
}

#[test]
fn a_relay_begins_with_the_newest_keyframe_and_waits_for_a_stream_that_is_not_there() {
    let mut pair = Pair::new();
    let publisher = pair.near.publishing("cam");
    pair.near.say(publisher, &[header()]);
    (0..8).for_each(|number| pair.near.say(publisher, &[video(number)]));
    let id = relay(&mut pair.near);
    pair.connect(id);
    let player = pair.far.playing("there");
    let frames: Vec<_> = pictures(&pair.far, player).into_iter().map(|(_, at)| at).collect();
    assert_eq!(frames, [200, 200, 240, 280], "the header, then the GOP from its keyframe on");

    let mut pair = Pair::new();
    let id = relay(&mut pair.near);
    pair.connect(id);
    let player = pair.far.playing("there");
    pair.advance_ms(1000);
    let publisher = pair.near.publishing("cam");
    pair.near.say(publisher, &[video(0), wire::audio(0, 10)]);
    pair.run();
    let kinds: Vec<_> = pair.far[player].media().iter().map(|message| message.kind).collect();
    assert_eq!(kinds, [VIDEO, AUDIO]);
}

#[test]
fn a_dial_that_is_refused_costs_a_line_and_nothing_else() {
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    let id = relay(&mut world);
    fail(&mut world, id, ErrorKind::ConnectionRefused);
    assert_eq!((world.server.stats().dialed, world.server.stats().dials_failed), (0, 1));
    world.assert_lives(publisher);
}

#[test]
fn a_dial_that_takes_too_long_is_cancelled_and_its_outcome_dropped() {
    let mut world = World::new(Settings::default());
    let id = relay(&mut world);
    world.advance_ms(limits::DIAL_MS - 1);
    assert_eq!(world.server.next_errand(), None);
    world.advance_ms(1);
    assert_eq!(world.server.next_errand(), Some(Errand::Cancel { id }));
    assert_eq!(world.server.stats().dials_failed, 1);
    let late = world.dialed(id);
    assert!(world[late].is_closed(), "nobody waits for it");
    assert!(world.server.is_empty());
    fail(&mut world, id, ErrorKind::TimedOut);
    assert_eq!(world.server.stats().dials_failed, 1, "it has failed once");
}

#[test]
fn what_is_dialed_while_the_server_goes_down_is_dropped() {
    let mut world = World::new(Settings::default());
    let id = relay(&mut world);
    let now = world.now();
    world.server.drain(now);
    let dialed = world.dialed(id);
    assert!(world[dialed].is_closed());
    assert!(world.server.is_empty());
}

#[test]
fn a_server_at_the_other_end_that_refuses_or_says_nothing_ends_the_relay() {
    let mut pair = Pair::new();
    let rival = pair.far.publishing("there");
    pair.far.say(rival, &[video(0)]);
    let publisher = pair.near.publishing("cam");
    let id = relay(&mut pair.near);
    pair.connect(id);
    assert_eq!(pair.near.closed(CloseReason::RelayRefused), 1);
    pair.near.assert_lives(publisher);
    pair.far.assert_lives(rival);

    let mut world = World::new(Settings::default());
    let id = relay(&mut world);
    let silent = world.dialed(id);
    world.advance_ms(Settings::default().timeouts.handshake_ms);
    assert_eq!(world.closed(CloseReason::HandshakeTimeout), 1);
    assert!(world[silent].is_closed());
}

#[test]
fn the_far_server_keeps_its_players_when_the_relay_breaks_and_comes_back() {
    let mut pair = Pair::new();
    let publisher = pair.near.publishing("cam");
    pair.near.say(publisher, &[header(), video(0)]);
    let id = relay(&mut pair.near);
    pair.connect(id);
    let player = pair.far.playing("there");
    if let Some((near, _)) = pair.ends {
        pair.near[near].reset();
    }
    pair.run();
    pair.advance_ms(100);
    let id = relay(&mut pair.near);
    pair.connect(id);
    pair.near.say(publisher, &[video(5), video(6)]);
    pair.run();
    let times: Vec<_> = pictures(&pair.far, player).into_iter().map(|(_, at)| at).collect();
    assert!(times.is_sorted(), "{times:?}");
    let last = pictures(&pair.far, player).pop().map(|(payload, _)| payload);
    assert_eq!(last, Some(video(6).payload));
}

#[test]
fn sockets_that_misbehave_at_both_ends_change_nothing() {
    for seed in 0..40 {
        let faulty = |seed| World::with_faults(Settings::default(), seed);
        let mut pair = Pair::of(faulty(seed), faulty(seed + 1000));
        pair.near.socket_bytes = 2000;
        let publisher = pair.near.publishing("cam");
        pair.near.say(publisher, &[header()]);
        let id = relay(&mut pair.near);
        pair.connect(id);
        if let Some((near, far)) = pair.ends {
            pair.near[near].split = Split::Random(Random::new(seed), 700);
            pair.far[far].split = Split::Random(Random::new(seed), 700);
        }
        let player = pair.far.playing("there");
        for number in 0..30 {
            pair.near.say(publisher, &[video(number)]);
            pair.run();
        }
        let frames = pictures(&pair.far, player).into_iter().filter(|(frame, _)| frame[1] == 1);
        let expected = (0..30).map(video).map(|message| (message.payload, message.timestamp));
        assert_eq!(frames.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "seed {seed}");
    }
}
