//! Players that do not keep up: they skip, they are closed, and nobody else notices.

use tiderace::config::{Settings, Start};
use tiderace::limits::MIB;
use tiderace::server::reason::CloseReason;
use tiderace::time::Time;

use crate::frames::{label, labels, publish, publish_sized};
use crate::socket::is_about_sockets;
use crate::wire;
use crate::world::{ClientHandle, World};

const KIB: usize = 1024;
/// Room in the sockets: a few frames.
const SOCKET_BYTES: usize = 16 * KIB;
const FRAME_BYTES: usize = 2 * KIB;
const FRAME_MS: u64 = 40;
/// Frames from one keyframe to the next.
const GOP: u32 = 25;

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.play.lag_ms = 2000;
    settings.timeouts.player_stalled_ms = 60_000;
    settings
}

/// A publisher of one stream, somebody who plays it, and somebody who does not read by itself.
struct Bench {
    world: World,
    publisher: ClientHandle,
    good: ClientHandle,
    slow: ClientHandle,
    frames: u32,
    /// What the timestamps do: they follow the clock, unless they are frozen.
    frozen: bool,
}

impl Bench {
    fn new(settings: Settings) -> Self {
        let mut world = World::new(settings);
        world.socket_bytes = SOCKET_BYTES;
        let publisher = world.publisher("cam");
        let (good, slow) = (world.player("cam"), world.player("cam"));
        world[slow].reads = false;
        publish_sized(&mut world, publisher, "V1 A1", 0, 0);
        Self { world, publisher, good, slow, frames: 0, frozen: false }
    }

    /// Publishes frames in real time, of which the slow player takes `read` bytes each time.
    fn frames(&mut self, count: u32, read: usize) {
        for _ in 0..count {
            let number = self.frames;
            let frame = if number.is_multiple_of(GOP) { "K" } else { "i" };
            let timestamp = if self.frozen { 1 } else { number * FRAME_MS as u32 };
            let labels = format!("{frame}{number} a{number}");
            publish_sized(&mut self.world, self.publisher, &labels, timestamp, FRAME_BYTES);
            self.world[self.slow].read(read);
            self.world.advance_ms(FRAME_MS);
            self.frames += 1;
        }
    }

    fn skips(&self) -> u32 {
        let conn = self.world.conn(self.slow);
        conn.map_or(0, |conn| conn.activity.as_ref().unwrap().plays[0].skips())
    }

    /// The slow player takes all that there is.
    fn recover(&mut self) {
        self.world[self.slow].reads = true;
        self.world.run();
    }

    fn assert_the_good_player_has_it_all(&self) {
        let expected: Vec<_> = (0..self.frames)
            .map(|n| format!("{}{n} a{n}", if n.is_multiple_of(GOP) { "K" } else { "i" }))
            .collect();
        assert_eq!(labels(&self.world, self.good), format!("V1 A1 {}", expected.join(" ")));
    }
}

/// Whether a decoder that is given these messages never misses what it needs: after a gap there
/// are the headers and a keyframe. Returns the gaps.
fn gaps_of_a_decodable_stream(world: &World, player: ClientHandle) -> u32 {
    let (mut next, mut gaps, mut headers) = (0, 0, 0);
    for message in world[player].media() {
        let label = label(message);
        let (kind, number) = label.split_at(1);
        let number: u32 = number.parse().unwrap();
        match kind {
            "V" | "A" => headers += 1,
            "a" => {}
            _ if number == next => {
                next += 1;
                headers = 0;
            }
            // A player that reads next to nothing may skip again before the frame is sent.
            "K" if number > next && headers >= 2 => {
                gaps += 1;
                next = number + 1;
                headers = 0;
            }
            _ => panic!("{label} where {next} was expected, behind {headers} headers"),
        }
    }
    gaps
}

#[test]
fn a_slow_player_skips_to_the_newest_keyframe_with_its_headers_and_decodes_on() {
    let mut bench = Bench::new(settings());
    bench.frames(30 * GOP, FRAME_BYTES);
    assert!(bench.skips() > 3, "{} skips", bench.skips());
    bench.recover();
    bench.frames(GOP, FRAME_BYTES);
    let gaps = gaps_of_a_decodable_stream(&bench.world, bench.slow);
    assert!(gaps > 0 && gaps <= bench.skips(), "{gaps} gaps of {} skips", bench.skips());
    let end = labels(&bench.world, bench.slow);
    assert!(end.ends_with(&format!("i{0} a{0}", bench.frames - 1)), "it is live again");
    bench.assert_the_good_player_has_it_all();
}

#[test]
fn a_skip_never_cuts_a_message_however_little_is_read() {
    for read in [1, 7, 100, 1000, 3000] {
        let mut bench = Bench::new(settings());
        bench.frames(8 * GOP, read);
        bench.recover();
        gaps_of_a_decodable_stream(&bench.world, bench.slow);
        bench.assert_the_good_player_has_it_all();
    }
}

#[test]
fn a_player_just_within_the_budget_loses_nothing() {
    let mut bench = Bench::new(settings());
    bench.frames(GOP, 0);
    bench.recover();
    bench.frames(4 * GOP, 0);
    assert_eq!(bench.skips(), 0);
    assert_eq!(gaps_of_a_decodable_stream(&bench.world, bench.slow), 0);
}

#[test]
fn who_does_not_want_what_comes_is_not_slow() {
    for waits_for_a_keyframe in [true, false] {
        let mut settings = Settings::default();
        settings.play.start = Start::NextKeyframe;
        let mut world = World::new(settings);
        let publisher = world.publisher("cam");
        let other = world.player("cam");
        publish(&mut world, publisher, "V1 K1", 0);
        let player = world.player("cam");
        if !waits_for_a_keyframe {
            publish(&mut world, publisher, "K2", 20);
            let values = [wire::null(), wire::boolean(false)];
            let command = wire::command("receiveVideo", 0.0, &values).on(1);
            world[player].send_raw(&command.chunks_of(60_000));
        }
        world[player].take_messages();
        for number in 3..500 {
            publish(&mut world, publisher, &format!("i{number}"), number * 40);
            world.advance_ms(40);
        }
        let conn = world.conn(player).expect("20 s without a keyframe are not its fault");
        assert_eq!(conn.activity.as_ref().unwrap().plays[0].skips(), 0);
        publish(&mut world, publisher, "K500", 20_000);
        assert_eq!(labels(&world, player), if waits_for_a_keyframe { "K500" } else { "" });
        assert!(labels(&world, other).ends_with("i499 K500"));
    }
}

#[test]
fn lag_in_bytes_is_bounded_as_well() {
    let mut settings = settings();
    settings.play.lag_ms = 30_000;
    settings.play.lag_bytes = 64 * KIB;
    let mut bench = Bench::new(settings);
    // A GOP is about 100 KiB: the budget in time alone would not be reached for long.
    bench.frames(3 * GOP + 1, 0);
    bench.recover();
    assert_eq!(bench.skips(), 1);
    assert_eq!(gaps_of_a_decodable_stream(&bench.world, bench.slow), 1);
}

#[test]
fn too_many_skips_close_the_player() {
    for (skips_max, closed) in [(2, true), (3, false)] {
        let mut settings = settings();
        settings.play.skips_max = skips_max;
        let mut bench = Bench::new(settings);
        for _ in 0..3 {
            // Three seconds without a byte, then everything that waits.
            bench.frames(3 * GOP, 0);
            bench.recover();
            bench.world[bench.slow].reads = false;
        }
        assert_eq!(bench.world.closed(CloseReason::SlowConsumer), u64::from(closed));
        assert_eq!(bench.world.conn(bench.slow).is_none(), closed);
        bench.assert_the_good_player_has_it_all();
    }
}

#[test]
fn skips_far_apart_are_forgiven() {
    let mut settings = settings();
    settings.play.skips_max = 1;
    settings.play.skip_window_ms = 5000;
    let mut bench = Bench::new(settings);
    for _ in 0..4 {
        bench.frames(3 * GOP, 0);
        bench.recover();
        bench.frames(5 * GOP, 0);
        bench.world[bench.slow].reads = false;
    }
    assert_eq!(bench.skips(), 4);
    assert!(bench.world.conn(bench.slow).is_some());
}

#[test]
fn a_player_that_takes_no_byte_is_closed() {
    for (reads_at_ms, closed) in [(9_960, false), (10_040, true)] {
        let mut settings = settings();
        settings.timeouts.player_stalled_ms = 10_000;
        settings.play.skips_max = 1000;
        let mut bench = Bench::new(settings);
        // It stalls as soon as the socket is full.
        while bench.world.conn(bench.slow).unwrap().writable {
            bench.frames(1, 0);
        }
        let frames = (reads_at_ms - FRAME_MS) / FRAME_MS;
        bench.frames(frames as u32, 0);
        bench.world[bench.slow].read(SOCKET_BYTES);
        bench.frames(1, 0);
        assert_eq!(bench.world.closed(CloseReason::PlayerStalled), u64::from(closed));
        bench.assert_the_good_player_has_it_all();
    }
}

#[test]
fn whoever_has_stopped_playing_is_closed_as_well_if_it_takes_no_byte() {
    is_about_sockets();
    for leaves in ["closeStream", "deleteStream"] {
        for (reads_after_ms, closed) in [(9_960, false), (10_040, true)] {
            let mut settings = settings();
            settings.timeouts.player_stalled_ms = 10_000;
            let mut bench = Bench::new(settings);
            while bench.world.conn(bench.slow).unwrap().writable {
                bench.frames(1, 0);
            }
            let values = [wire::null(), wire::number(1.0)];
            let leave = wire::command(leaves, 0.0, &values).on(1);
            bench.world.say(bench.slow, &[leave]);
            let conn = bench.world.conn(bench.slow).unwrap();
            assert!(conn.is_idle() && conn.reply_bytes() > 0, "it plays no more, and owes a read");
            // The socket was full one frame earlier.
            bench.world.advance_ms(reads_after_ms - FRAME_MS);
            bench.world[bench.slow].read(SOCKET_BYTES);
            bench.world.run();
            let count = u64::from(closed);
            assert_eq!(bench.world.closed(CloseReason::PlayerStalled), count, "{leaves}");
        }
    }
}

#[test]
fn a_session_that_leaves_replies_unread_is_closed_unless_it_publishes() {
    let mut settings = settings();
    settings.timeouts.player_stalled_ms = 10_000;
    settings.timeouts.publisher_silent_ms = 0;
    let mut world = World::new(settings);
    world.socket_bytes = 4096;
    let [idle, reads_late] = [(); 2].map(|()| world.connected());
    let publisher = world.publishing("cam");
    for client in [idle, reads_late, publisher] {
        world[client].reads = false;
        while world.conn(client).unwrap().peer.session().unwrap().output().is_empty() {
            world.say(client, &[wire::user_control(6, 7)]);
        }
    }
    let stalls_at = |world: &World, client| world.conn(client).unwrap().stalls_at();
    assert_eq!(stalls_at(&world, idle), Time::ZERO.plus_millis(10_000));
    assert_eq!(stalls_at(&world, publisher), Time::NEVER);
    world.advance_ms(9_999);
    world[reads_late].read(1000);
    world.run();
    assert_eq!(stalls_at(&world, reads_late), Time::NEVER);
    world.advance_ms(1);
    assert!(world.conn(idle).is_none());
    assert_eq!(world.closed(CloseReason::PlayerStalled), 1);
    world.advance_ms(100_000);
    assert!(world.conn(publisher).is_some() && world.conn(reads_late).is_some());
}

#[test]
fn b03_frozen_timestamps_change_none_of_the_bounds() {
    let run = |frozen: bool| {
        let mut settings = settings();
        settings.limits.tape_bytes_max = 2 * MIB;
        settings.timeouts.player_stalled_ms = 10_000;
        let mut bench = Bench::new(settings);
        bench.frozen = frozen;
        let mut peak = 0;
        let mut history = Vec::new();
        for _ in 0..10 * GOP {
            bench.frames(1, 600);
            peak = peak.max(bench.world.server.hub().tape_bytes());
            history.push((bench.skips(), bench.world.server.stats().bytes_out));
        }
        bench.world[bench.slow].read(0);
        bench.frames(10 * GOP, 0);
        assert_eq!(bench.world.closed(CloseReason::PlayerStalled), 1);
        bench.assert_the_good_player_has_it_all();
        (peak, history)
    };
    let (moving, frozen) = (run(false), run(true));
    assert!(frozen == moving, "the same skips, bytes and memory at every frame");
    assert!(frozen.0 < 2 * MIB);
}

#[test]
fn a_tape_is_bounded_in_bytes_whatever_players_do_not_read() {
    let mut settings = settings();
    settings.limits.tape_bytes_max = 2 * MIB;
    settings.play.lag_ms = 30_000;
    settings.play.lag_bytes = 2 * MIB;
    let mut bench = Bench::new(settings);
    for _ in 0..40 {
        publish_sized(&mut bench.world, bench.publisher, "i1", 0, 200 * KIB);
        publish_sized(&mut bench.world, bench.publisher, "K1", 0, 200 * KIB);
        assert!(bench.world.server.hub().tape_bytes() <= 2 * MIB);
    }
    bench.recover();
    assert!(bench.world.conn(bench.slow).is_some());
}
