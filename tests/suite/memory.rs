//! Memory against its budget: what is given up at which level, in which order, and that a stream
//! which somebody watches and keeps up with is not.

use tiderace::config::Settings;
use tiderace::limits::{KIB, MIB};
use tiderace::server::memory::MemoryLevel;
use tiderace::server::reason::CloseReason;

use crate::frames::{message, payload, publish_sized, take_labels};
use crate::socket::is_about_sockets;
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
            self.add_unwatched(UNFINISHED_BYTES);
        }
    }

    /// A publisher that nobody watches, with an unfinished message of so many bytes.
    fn add_unwatched(&mut self, bytes: usize) -> ClientHandle {
        let filler = self.world.publishing(&format!("filler{}", self.unwatched.len()));
        let mut message = wire::basic_header(0, 6);
        message.extend([0, 0, 0]);
        message.extend(&(bytes as u32).to_be_bytes()[1..]);
        message.extend([VIDEO, 1, 0, 0, 0]);
        let chunk_size = wire::control(wire::SET_CHUNK_SIZE, bytes as u32);
        self.world[filler].send(&[chunk_size]);
        self.world[filler].send_raw(&message);
        self.world[filler].send_raw(&vec![0; bytes - 1]);
        self.world.run();
        self.unwatched.push(filler);
        filler
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
    let filled = [vec![0x17, 1, 0, 0, 0], vec![0; BUDGET / 100 * 80]].concat();
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
    assert_eq!([stranger, back, watcher].map(|client| bench.lives(client)), [false, true, true]);
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
fn of_publishers_that_nobody_watches_the_one_that_holds_most_goes_first() {
    let mut bench = Bench::new();
    bench.fill_to(MemoryLevel::Tight);
    let small = bench.unwatched.clone();
    // Enough for the worst level, and more than has to go again.
    let large = bench.add_unwatched(BUDGET / 8);
    assert!(!bench.lives(large));
    assert!(small.iter().all(|filler| bench.lives(*filler)));
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
    assert_eq!(bench.world.server.memory_level(), MemoryLevel::Lean);
    let player = bench.world.player("cam");
    assert!(bench.world[player].was_told("NetStream.Play.Start"));
    bench.world.advance_ms(10_000);
    bench.assert_the_watched_stream_lives();
    assert_eq!(bench.world.server.memory_level(), MemoryLevel::Ample);
    publish_sized(&mut bench.world, bench.publisher, "K1", 0, 0);
    assert_eq!(take_labels(&mut bench.world, bench.player), "K1");
}

#[test]
fn a_stalled_player_is_accounted_what_its_socket_holds() {
    is_about_sockets();
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

#[test]
fn the_budget_holds_while_watched_streams_come_in_fast_and_players_that_keep_up_miss_nothing() {
    is_about_sockets();
    const STREAMS: usize = 4;
    const FRAME_BYTES: usize = 30 * KIB;
    let mut settings = Settings::default();
    settings.timeouts.publisher_silent_ms = 0;
    settings.limits.memory_bytes_max = BUDGET;
    let mut world = World::new(settings);
    let streams: Vec<_> = (0..STREAMS)
        .map(|index| {
            let key = format!("cam{index}");
            let publisher = world.publisher(&key);
            (publisher, [world.player(&key), world.player(&key)])
        })
        .collect();
    let mut is_short = false;
    for number in 0..120 {
        let label = format!("{}{number}", if number % 50 == 0 { "K" } else { "i" });
        for (publisher, players) in &streams {
            publish_sized(&mut world, *publisher, &label, number * 5, FRAME_BYTES);
            for player in players {
                assert_eq!(take_labels(&mut world, *player), label);
            }
        }
        world.advance_ms(5);
        let held = world.server.memory_bytes();
        assert!(held <= BUDGET * 9 / 10, "{held} of {BUDGET} bytes after frame {number}");
        is_short |= world.server.memory_level() > MemoryLevel::Ample;
        assert!(!is_short || world.server.hub().files() == 0, "files would double it");
    }
    assert!(is_short, "or this says nothing");
    assert_eq!(world.closed(CloseReason::MemoryPressure), 0);
    // Ten seconds of less, and the files are written again.
    world.advance_ms(10_000);
    for number in [200, 201, 202] {
        for (publisher, _) in &streams {
            let label = format!("i{number}");
            publish_sized(&mut world, *publisher, &label, number * 50, FRAME_BYTES);
        }
        world.advance_ms(100);
    }
    let files = if cfg!(target_os = "linux") { STREAMS } else { 0 };
    assert_eq!(world.server.hub().files(), files);
}

#[test]
fn what_a_stream_keeps_for_players_that_lag_shrinks_to_its_share() {
    let mut bench = Bench::new();
    bench.world.server.set_segments(None);
    let lagging = bench.world.player("cam");
    bench.world[lagging].reads = false;
    for _ in 0..700 {
        bench.assert_the_watched_stream_lives();
        bench.world.advance_ms(1);
    }
    let backlog = |bench: &Bench| bench.world.server.hub().tape_bytes();
    let before = backlog(&bench);
    assert!((BUDGET * 3 / 10..BUDGET * 4 / 10).contains(&before), "{before} bytes");
    bench.fill_to(MemoryLevel::Lean);
    bench.assert_the_watched_stream_lives();
    assert!(backlog(&bench) >= before, "its share is 40 %");
    bench.fill_to(MemoryLevel::Tight);
    bench.assert_the_watched_stream_lives();
    let left = backlog(&bench);
    assert!((BUDGET / 5..=BUDGET * 3 / 10).contains(&left), "its share is 30 %: {left} bytes");
    assert!(bench.lives(lagging));
}

#[test]
fn a_budget_that_is_used_up_by_watched_streams_is_won_back_from_those_that_hold_most() {
    let mut bench = Bench::new();
    let mut most = 0;
    for index in 0..60 {
        let key = format!("watched{index}");
        let publisher = bench.world.publishing(&key);
        if bench.world.server.memory_level() < MemoryLevel::Tight {
            bench.world.playing(&key);
        }
        let (kind, unfinished) = payload("K0", UNFINISHED_BYTES);
        let message = wire::Message::new(6, kind, unfinished).on(1);
        let chunk_size = wire::control(wire::SET_CHUNK_SIZE, UNFINISHED_BYTES as u32);
        bench.world[publisher].send(&[chunk_size]);
        let chunks = message.chunks_of(UNFINISHED_BYTES);
        bench.world[publisher].send_raw(&chunks[..chunks.len() - 1]);
        bench.world.run();
        most = most.max(bench.world.server.memory_bytes());
        if bench.world.server.memory_level() == MemoryLevel::Critical {
            break;
        }
    }
    assert!(most <= BUDGET, "{most} bytes");
    // What is watched alone fills it now.
    let mut settings = bench.world.server.settings().clone();
    settings.limits.memory_bytes_max = BUDGET / 2;
    bench.world.server.reload(settings);
    bench.assert_the_watched_stream_lives();
    bench.world.run();
    let held = bench.world.server.memory_bytes();
    assert!(held <= BUDGET / 2, "{held} bytes");
    bench.assert_the_watched_stream_lives();
    assert!(bench.lives(bench.player), "the one that holds least stays");
}

#[test]
fn of_two_players_that_take_nothing_the_one_that_stalls_longer_goes_first() {
    for order in [[0, 1], [1, 0]] {
        let mut bench = Bench::new();
        let mut settings = bench.world.server.settings().clone();
        // So much that one of them is enough.
        settings.limits.socket_unsent_bytes_max = BUDGET / 10;
        bench.world.server.reload(settings);
        let players = [(); 2].map(|()| bench.world.player("cam"));
        for index in order {
            bench.world[players[index]].reads = false;
            for _ in 0..200 {
                bench.assert_the_watched_stream_lives();
            }
            bench.world.advance_ms(1500);
        }
        assert_eq!(bench.given_up(), 0);
        bench.fill_until(|bench| bench.given_up() > 0);
        assert_eq!(bench.given_up(), 1);
        let [first, second] = order.map(|index| bench.lives(players[index]));
        assert_eq!((first, second), (false, true), "{order:?}");
    }
}

#[test]
fn headers_that_change_for_each_of_many_paused_players_are_held_once() {
    // Small enough that a player's commands are all done in one share of a turn.
    const HEADER_BYTES: usize = 1_000;
    const PLAYERS: u32 = 50;
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let mut players = Vec::new();
    for number in 0..PLAYERS {
        publish_sized(&mut world, publisher, &format!("V{number} K{number}"), number, HEADER_BYTES);
        let player = world.connected();
        // All in one: it is paused before anything can be sent to it.
        let pause = [wire::null(), wire::boolean(true), wire::number(0.0)];
        let pause = wire::command("pause", 0.0, &pause).on(1);
        world.say(player, &[wire::create_stream(2.0), wire::play("cam"), pause]);
        assert!(world[player].media().is_empty(), "it is paused");
        players.push(player);
    }
    // With the vacant places in the table of streams, which are shared as well.
    let held = world.server.hub().shared_bytes();
    assert!(held < 6 * HEADER_BYTES, "{held} bytes of headers");
    let resume = [wire::null(), wire::boolean(false), wire::number(0.0)];
    for player in players {
        world.say(player, &[wire::command("pause", 0.0, &resume).on(1)]);
        assert_eq!(take_labels(&mut world, player), "V49 K49", "all of the newest start");
    }
}

#[test]
fn what_is_written_last_to_a_connection_counts_as_written() {
    let mut world = World::new(Settings::default());
    let clients: Vec<_> = (0..3).map(|_| world.connected()).collect();
    let sent = |world: &World| world.server.stats().bytes_out as usize;
    let before = sent(&world);
    let now = world.now();
    world.server.stop(now);
    let mut last = 0;
    for client in clients {
        last += world[client].read(usize::MAX);
    }
    assert!(last > 0, "they are told that the server goes down");
    assert_eq!(sent(&world) - before, last);
}

#[test]
fn headers_for_which_there_is_no_room_are_counted_and_reported() {
    const HEADER_BYTES: usize = 300_000;
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    publish_sized(&mut world, publisher, "V0 A0", 0, HEADER_BYTES);
    publish_sized(&mut world, publisher, "A1 A2", 0, HEADER_BYTES);
    assert_eq!(world.server.stats().headers_left_out, 3);
    let stream = world.server.hub().find("live/cam").expect("a stream");
    let report = stream.report(world.now()).expect("a publisher").to_string();
    assert!(report.contains("3 headers too many or too large"), "{report}");
    let late = world.player("cam");
    assert_eq!(take_labels(&mut world, late), "V0");
}

#[test]
fn tables_are_given_back_though_their_last_places_were_the_last_to_be_free() {
    let mut settings = Settings::default();
    settings.publish.linger_ms = 500;
    let mut world = World::new(settings);
    let stay = ["one", "two", "three"].map(|key| world.publishing(key));
    let before = world.server.memory_bytes();
    let keys = (0..62).map(|index| format!("other{index}"));
    let others: Vec<_> = keys.map(|key| world.publishing(&key)).collect();
    let (first, last) = others.split_at(60);
    let all_end = |world: &mut World, leaving: &[ClientHandle]| {
        leaving.iter().for_each(|client| world[*client].reset());
        world.run();
        world.advance_ms(1500);
    };
    all_end(&mut world, first);
    all_end(&mut world, last);
    stay.into_iter().for_each(|client| world.assert_lives(client));
    let left = world.server.memory_bytes().saturating_sub(before);
    assert!(left < 4 * KIB, "{left} bytes left of 62 connections and streams");
}
