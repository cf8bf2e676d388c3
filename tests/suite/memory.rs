//! Memory against its budget: what is given up at which level, in which order, and that a stream
//! which somebody watches and keeps up with is not.

use tiderace::config::Settings;
use tiderace::limits::{KIB, MIB};
use tiderace::server::memory::MemoryLevel;
use tiderace::server::reason::CloseReason;

use crate::frames::{message, payload, publish_sized, take_labels};
use crate::wire::{self, VIDEO};
use crate::world::{ClientHandle, World};

const BUDGET: usize = 8 * MIB;
/// What an unfinished message of the tests holds, once all of it but a byte has come: a
/// thirty-second of the budget.
const UNFINISHED_BYTES: usize = BUDGET / 32;

/// A world with a budget, and a stream with a publisher and a player that keeps up.
struct Bench {
    world: World,
    publisher: ClientHandle,
    player: ClientHandle,
    frames: u32,
    /// Publishers of streams that nobody watches, each with an unfinished message.
    unwatched: Vec<ClientHandle>,
}

impl Bench {
    fn new() -> Self {
        Self::with_unsent(Settings::default().limits.socket_unsent_bytes_max)
    }

    /// The same where a socket that takes no more counts as so many bytes.
    fn with_unsent(bytes: usize) -> Self {
        let mut settings = Settings::default();
        settings.limits.memory_bytes_max = BUDGET;
        settings.limits.socket_unsent_bytes_max = bytes;
        let mut world = World::new(settings);
        let (publisher, player) = (world.publisher("cam"), world.player("cam"));
        publish_sized(&mut world, publisher, "V0 A0 K0", 0, 0);
        assert_eq!(take_labels(&mut world, player), "V0 A0 K0");
        Self { world, publisher, player, frames: 0, unwatched: Vec::new() }
    }

    /// Brings the server to a level, by unfinished messages.
    fn fill_to(&mut self, level: MemoryLevel) {
        self.fill_until(|bench| bench.world.server.memory_level() >= level);
    }

    fn fill_until(&mut self, is_full: impl Fn(&Self) -> bool) {
        while !is_full(self) {
            let filler = self.world.publishing(&format!("filler{}", self.unwatched.len()));
            let mut message = wire::basic_header(0, 6);
            message.extend([0, 0, 0]);
            message.extend(&(UNFINISHED_BYTES as u32).to_be_bytes()[1..]);
            message.extend([VIDEO, 1, 0, 0, 0]);
            let chunk_size = wire::control(wire::SET_CHUNK_SIZE, UNFINISHED_BYTES as u32);
            self.world[filler].send(&[chunk_size]);
            self.world[filler].send_raw(&message);
            self.world[filler].send_raw(&vec![0; UNFINISHED_BYTES - 1]);
            self.world.run();
            self.unwatched.push(filler);
        }
    }

    /// The watched stream goes on, and its player has all of it.
    fn assert_the_watched_stream_lives(&mut self) {
        self.frames += 1;
        let labels = format!("i{} a{}", self.frames, self.frames);
        publish_sized(&mut self.world, self.publisher, &labels, self.frames * 20, 2000);
        assert_eq!(take_labels(&mut self.world, self.player), labels);
    }

    fn lives(&self, client: ClientHandle) -> bool {
        self.world.conn(client).is_some_and(|conn| conn.closing.is_none())
    }

    fn given_up(&self) -> u64 {
        self.world.closed(CloseReason::MemoryPressure)
    }
}

#[test]
fn what_is_given_up_goes_from_the_cheapest_loss_to_the_next() {
    let mut bench = Bench::new();
    let stalled = bench.world.player("cam");
    bench.world[stalled].reads = false;
    // More than the socket of the stalled player takes.
    for _ in 0..200 {
        bench.assert_the_watched_stream_lives();
    }
    bench.world.advance_ms(2000);
    let sleeping = bench.world.connected();
    assert_eq!(bench.world.server.memory_level(), MemoryLevel::Ample);

    bench.fill_to(MemoryLevel::Lean);
    assert_eq!(bench.given_up(), 0, "nobody is closed yet");
    let newcomer = bench.world.player("cam");
    assert!(bench.world[newcomer].was_told("NetStream.Play.Start"), "who wants to play may");
    assert!(take_labels(&mut bench.world, newcomer).starts_with("A0 V0"), "from the next keyframe");

    bench.fill_to(MemoryLevel::Tight);
    assert!(!bench.lives(stalled), "who takes nothing goes");
    assert_eq!(bench.given_up(), 1);
    assert!(bench.lives(sleeping) && bench.lives(newcomer));
    let late = bench.world.connected();
    bench.world.say(late, &[wire::create_stream(2.0), wire::play("cam")]);
    assert!(bench.world[late].was_told("NetStream.Play.Failed"));
    bench.assert_the_watched_stream_lives();

    // At the worst level so much goes that it is over in the same turn.
    bench.fill_until(|bench| !bench.lives(sleeping));
    let gone = bench.unwatched.iter().filter(|filler| !bench.lives(**filler)).count();
    assert!(gone > 0, "publishers that nobody watches go as far as they have to");
    assert!(gone < bench.unwatched.len() / 2, "and no further: {gone}");
    assert_eq!(bench.world.server.memory_level(), MemoryLevel::Tight);
    assert!(bench.lives(newcomer) && bench.lives(bench.player));
    for _ in 0..100 {
        bench.assert_the_watched_stream_lives();
    }
}

#[test]
fn at_the_worst_newcomers_are_refused_but_a_publisher_may_return_to_its_players() {
    let mut bench = Bench::new();
    bench.world[bench.publisher].reset();
    bench.world.run();
    let back = bench.world.connected();
    let stranger = bench.world.connected();
    let streams = [wire::create_stream(2.0)];
    // It has a stream of its own, so that it does not go with those that have none.
    bench.world.say(back, &[&streams[..], &[wire::publish("other")]].concat());
    let watcher = bench.world.player("other");
    // The level is brought about by what cannot be given up: a watched stream.
    let filled = [vec![0x17, 1, 0, 0, 0], vec![0; BUDGET / 100 * 95]].concat();
    let mut settings = bench.world.server.settings().clone();
    settings.limits.memory_bytes_max = BUDGET * 100;
    bench.world.server.reload(settings.clone());
    let message = wire::Message::new(6, VIDEO, filled).on(1);
    bench.world.say(back, &[message]);
    settings.limits.memory_bytes_max = BUDGET;
    bench.world.server.reload(settings);
    bench.world.say(watcher, &[]);
    bench.world.say(back, &[wire::audio(0, 10)]);
    assert_eq!(bench.world.server.memory_level(), MemoryLevel::Critical);
    assert!(!bench.lives(stranger) && bench.lives(back) && bench.lives(watcher));
    let refused = bench.world.server.stats().refused;
    let newcomer = bench.world.connect();
    assert!(bench.world[newcomer].is_closed());
    assert_eq!(bench.world.server.stats().refused, refused + 1);
    // On a connection that it has, it takes its stream up again; one that nobody knows it cannot.
    for (key, code) in [("cam", "NetStream.Publish.Start"), ("new", "NetStream.Publish.BadName")] {
        let publish = wire::publish(key).on(2);
        bench.world.say(back, &[wire::create_stream(3.0), publish]);
        assert!(bench.world[back].was_told(code), "{key}: {:?}", bench.world[back].answers());
    }
}

#[test]
fn of_two_stalled_players_the_one_that_stalls_longer_goes_first() {
    // One of them is enough to be out of the level again.
    let mut bench = Bench::with_unsent(BUDGET / 8);
    let [shorter, longer] = [(); 2].map(|()| bench.world.player("cam"));
    for stalled in [longer, shorter] {
        bench.world[stalled].reads = false;
        for _ in 0..200 {
            bench.assert_the_watched_stream_lives();
        }
        bench.world.advance_ms(1500);
    }
    bench.fill_until(|bench| bench.given_up() > 0);
    assert_eq!(bench.given_up(), 1);
    assert!(!bench.lives(longer) && bench.lives(shorter));
}

#[test]
fn a_level_ends_when_memory_is_free_again() {
    let mut bench = Bench::new();
    bench.fill_to(MemoryLevel::Tight);
    let fillers = std::mem::take(&mut bench.unwatched);
    for filler in fillers {
        bench.world[filler].reset();
    }
    bench.world.run();
    assert_eq!(bench.world.server.memory_level(), MemoryLevel::Ample);
    let player = bench.world.player("cam");
    assert!(bench.world[player].was_told("NetStream.Play.Start"));
    publish_sized(&mut bench.world, bench.publisher, "K1", 0, 0);
    assert_eq!(take_labels(&mut bench.world, bench.player), "K1");
}

#[test]
fn a_stalled_player_is_accounted_what_its_socket_holds() {
    let mut bench = Bench::new();
    let before = bench.world.server.conns_bytes();
    let stalled = bench.world.player("cam");
    bench.world[stalled].reads = false;
    for _ in 0..200 {
        bench.assert_the_watched_stream_lives();
    }
    let held = bench.world.server.conns_bytes() - before;
    let unsent = Settings::default().limits.socket_unsent_bytes_max;
    assert!(held >= unsent, "{held} bytes");
    // Beside that a message that is sent in part, and its place.
    assert!(held <= unsent + 10 * KIB, "{held} bytes");
    bench.world[stalled].reads = true;
    bench.world.run();
    assert!(bench.world.server.conns_bytes() - before < KIB);
}

/// The kernel's part of a player that takes no more.
fn unsent_bytes() -> usize {
    Settings::default().limits.socket_unsent_bytes_max
}

#[test]
fn a_message_that_many_players_have_in_part_counts_once() {
    const PLAYERS: usize = 200;
    const KEYFRAME_BYTES: usize = 4_000_000;
    let mut settings = Settings::default();
    settings.limits.memory_bytes_max = 64 * MIB;
    let mut world = World::new(settings);
    // A memory file holds it once more.
    world.server.set_segments(None);
    let publisher = world.publisher("cam");
    world.socket_bytes = 16 * KIB;
    let players: Vec<_> = (0..PLAYERS).map(|_| world.player("cam")).collect();
    players.iter().for_each(|player| world[*player].reads = false);
    publish_sized(&mut world, publisher, "K0", 0, KEYFRAME_BYTES);
    assert!(players.iter().all(|player| !world.conn(*player).expect("it stays").writable));
    let held = world.server.hub().held_bytes();
    assert!((KEYFRAME_BYTES..KEYFRAME_BYTES * 5 / 4).contains(&held), "{held} bytes");
    let each = world.server.conns_bytes() / PLAYERS - unsent_bytes();
    assert!(each < 2 * KIB, "{each} bytes of each player");
    let late = world.player("cam");
    assert!(world[late].was_told("NetStream.Play.Start"), "there is memory for another");
}

#[test]
fn memory_that_only_a_half_sent_message_holds_counts_until_it_is_sent() {
    const FRAME_BYTES: usize = 300_000;
    let mut world = World::new(Settings::default());
    let publisher = world.publishing("cam");
    world.socket_bytes = 16 * KIB;
    let player = world.playing("cam");
    world[player].reads = false;
    let (kind, frame) = payload("K0", FRAME_BYTES);
    world.say(publisher, &[wire::Message::new(6, kind, frame).on(1)]);
    world.say(publisher, &[message("i1", 1, 40)]);
    let delete = |id| wire::command("deleteStream", 0.0, &[wire::null(), wire::number(id)]);
    world.say(player, &[delete(1.0)]);
    world[publisher].reset();
    world.run();
    assert!(world.server.hub().is_empty());
    let held = world.server.hub().held_bytes();
    assert!((FRAME_BYTES..FRAME_BYTES * 5 / 4).contains(&held), "{held} bytes");
    world[player].reads = true;
    world.run();
    assert_eq!(world.server.hub().held_bytes(), 0);
}
