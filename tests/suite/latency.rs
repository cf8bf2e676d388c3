//! The latency of streams: which messages count, from when to when, and where it is shown.

use std::cell::Cell;
use std::rc::Rc;

use serde_json::{Value, json};
use tiderace::config::Settings;
use tiderace::server::stopwatch::Clocks;
use tiderace::server::web::Surface;
use tiderace::stream::histogram::Histogram;
use tiderace::time::Time;

use crate::frames::{publish, publish_sized};
use crate::socket::is_about_sockets;
use crate::world::{ClientHandle, World};

fn forwarded(world: &World) -> Histogram {
    let latency = world.server.hub().find("live/cam").expect("a stream").latency();
    latency.map(|latency| latency.forwarded.clone()).unwrap_or_default()
}

fn unsent(world: &World) -> Histogram {
    let latency = world.server.hub().find("live/cam").expect("a stream").latency();
    latency.map(|latency| latency.unsent.clone()).unwrap_or_default()
}

/// The number of messages, p50, p99 and the longest (us).
fn figures(histogram: &Histogram) -> (u64, u64, u64, u64) {
    let percentile = |percent| histogram.percentile_us(percent).unwrap_or_default();
    (histogram.count(), percentile(50), percentile(99), histogram.max_us())
}

/// A stream with players, one of which starts with nothing of the past.
fn live(players: usize) -> (World, ClientHandle, Vec<ClientHandle>) {
    is_about_sockets();
    let mut world = World::new(Settings::default());
    let publisher = world.publisher("cam");
    let players = (0..players).map(|_| world.player("cam")).collect();
    (world, publisher, players)
}

/// Lends the server a clock that goes on by `step_us` whenever it is read.
fn step_clock(world: &mut World, step_us: u64) -> Rc<Cell<u64>> {
    let micros = Rc::new(Cell::new(0));
    let read = Rc::clone(&micros);
    world.server.measure_turns(Clocks {
        wall: Box::new(move || {
            read.set(read.get() + step_us);
            Time::from_micros(read.get())
        }),
        cpu: Box::new(|| Time::ZERO),
    });
    micros
}

#[test]
fn a_message_counts_for_each_player_from_its_receipt_to_the_end_of_the_write() {
    let (mut world, publisher, _) = live(3);
    let clock = step_clock(&mut world, 10);
    world.advance_ms(1);
    clock.set(world.now().as_micros());
    publish(&mut world, publisher, "K1", 0);
    // The clock is read at the start of the turn, after the read, after the deadlines, after the
    // copy to a memory file, and then after each write.
    let expected = [50, 60, 70];
    let histogram = forwarded(&world);
    assert_eq!((histogram.count(), histogram.sum_us()), (3, expected.iter().sum()));
    // The bucket of 60 us ends at 63 us.
    assert_eq!(figures(&histogram), (3, 63, 70, 70));
}

#[test]
fn of_many_players_a_sample_counts_for_all_and_each_comes_in_turn() {
    let (mut world, publisher, _) = live(64);
    let clock = step_clock(&mut world, 10);
    let mut sums = Vec::new();
    for frame in 0..4 {
        world.advance_ms(40);
        clock.set(world.now().as_micros());
        let before = forwarded(&world);
        publish(&mut world, publisher, "K1", frame * 40);
        let after = forwarded(&world);
        assert_eq!(after.count() - before.count(), 64);
        sums.push((after.sum_us() - before.sum_us()) / 4);
    }
    // Sixteen players are four places apart, and each visit begins at another of the first four:
    // the first has its message after 50 us.
    sums.sort_unstable();
    let from = |first: u64| (0..16).map(|player| 50 + 10 * first + 40 * player).sum::<u64>();
    assert_eq!(sums, [0, 1, 2, 3].map(from));
}

#[test]
fn a_message_that_is_sent_in_parts_counts_once_when_its_last_byte_is_handed_over() {
    let (mut world, publisher, _) = live(1);
    world.socket_bytes = 1000;
    let slow = world.player("cam");
    publish(&mut world, publisher, "K1", 0);
    assert_eq!(figures(&forwarded(&world)), (2, 0, 0, 0));
    world[slow].reads = false;
    publish_sized(&mut world, publisher, "i2", 40, 3000);
    assert_eq!(forwarded(&world).count(), 3, "the other player has it");
    world.advance_ms(250);
    world[slow].reads = true;
    world.run();
    assert_eq!(figures(&forwarded(&world)), (4, 0, 250_000, 250_000));
    assert_eq!(forwarded(&world).sum_us(), 250_000);
}

#[test]
fn messages_that_are_older_than_the_wish_for_them_do_not_count() {
    let (mut world, publisher, players) = live(1);
    publish(&mut world, publisher, "V0 K1 i2", 0);
    assert_eq!(forwarded(&world).count(), 3);
    world.advance_ms(1000);
    let newcomer = world.player("cam");
    assert_eq!(world[newcomer].media().len(), 3, "the headers and the GOP");
    assert_eq!(figures(&forwarded(&world)), (3, 0, 0, 0));
    publish(&mut world, publisher, "i3", 1000);
    assert_eq!(figures(&forwarded(&world)), (5, 0, 0, 0));
    let play = |world: &mut World, on: f64| {
        let pause = crate::wire::command(
            "pause",
            0.0,
            &[crate::wire::null(), crate::wire::boolean(on > 0.0), crate::wire::number(0.0)],
        );
        world.say(players[0], &[pause.on(1)]);
    };
    play(&mut world, 1.0);
    publish(&mut world, publisher, "i4", 1040);
    world.advance_ms(500);
    play(&mut world, 0.0);
    assert_eq!(figures(&forwarded(&world)), (6, 0, 0, 0), "the newcomer's, and no paused one");
    publish(&mut world, publisher, "i5", 1540);
    assert_eq!(figures(&forwarded(&world)), (8, 0, 0, 0));
}

#[test]
fn a_histogram_exists_while_a_stream_is_live_and_has_players_and_is_accounted() {
    let (mut world, publisher, players) = live(1);
    let has_any = |world: &World| world.server.hub().find("live/cam").unwrap().latency().is_some();
    publish(&mut world, publisher, "V0", 0);
    assert!(has_any(&world));
    let watched = world.server.hub().find("live/cam").unwrap().held_bytes();
    world[players[0]].reset();
    world.run();
    assert!(!has_any(&world));
    let unwatched = world.server.hub().find("live/cam").unwrap().held_bytes();
    assert!(watched - unwatched >= 2 * size_of::<Histogram>(), "{watched} and {unwatched}");
    publish(&mut world, publisher, "K1", 40);
    assert!(!has_any(&world), "nobody plays");
    assert_eq!(world.server.hub().latency_of_all().forwarded.count(), 1, "the past still counts");

    let player = world.player("cam");
    publish(&mut world, publisher, "i2", 80);
    assert!(has_any(&world));
    world[publisher].finish();
    world.advance_ms(Settings::default().publish.linger_ms + 1000);
    assert!(!has_any(&world) && !world[player].is_closed(), "the stream is over");
    assert_eq!(world.server.hub().latency_of_all().forwarded.count(), 2);
}

#[test]
fn the_age_of_what_a_socket_holds_is_sampled_ten_times_a_second() {
    let (mut world, publisher, players) = live(1);
    publish_sized(&mut world, publisher, "K1", 0, 1000);
    world.advance_ms(100);
    publish_sized(&mut world, publisher, "i2", 100, 1000);
    assert_eq!(figures(&unsent(&world)), (1, 0, 0, 0), "the socket was empty before");
    world[players[0]].reads = false;
    // Frames at 200, 240, ... 400 ms: those at 200, 320 and 400 ms are sampled. What was sent
    // at 200 ms is still there, and nothing was there before.
    for frame in 0..6 {
        world.advance_ms(if frame == 0 { 100 } else { 40 });
        publish_sized(&mut world, publisher, "i3", 200 + 40 * frame, 1000);
    }
    let samples = unsent(&world);
    assert_eq!((samples.count(), samples.sum_us()), (3, 120_000));
    assert_eq!(samples.max_us(), 120_000);
}

#[test]
fn a_kernel_that_does_not_tell_gives_no_samples() {
    let (mut world, publisher, players) = live(1);
    world[players[0]].kernel_tells(None);
    for frame in 0..5 {
        world.advance_ms(100);
        publish(&mut world, publisher, "K1", frame * 100);
    }
    assert_eq!((unsent(&world).count(), forwarded(&world).count()), (0, 5));
}

const ALL: Surface = Surface { playback: true, status: true, is_local: true };

fn get(world: &mut World, path: &str) -> String {
    let client = world.connect_http(ALL);
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    world[client].send_raw(request.as_bytes());
    world.run();
    String::from_utf8(world[client].received().to_vec()).unwrap()
}

#[test]
fn latencies_are_in_the_api_in_the_metrics_and_on_the_page() {
    let (mut world, publisher, players) = live(1);
    world[players[0]].reads = true;
    let clock = step_clock(&mut world, 1000);
    for frame in 0..4 {
        world.advance_ms(100);
        clock.set(world.now().as_micros());
        publish(&mut world, publisher, "K1", frame * 100);
    }
    let answer = get(&mut world, "/api/v1/streams");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let stream = &serde_json::from_str::<Value>(body).unwrap()["streams"][0];
    let expected = json!({ "count": 4, "p50_us": 4000, "p99_us": 4000, "max_us": 4000 });
    assert_eq!(stream["forward"], expected);
    let expected = json!({ "count": 3, "p50_us": 0, "p99_us": 0, "max_us": 0 });
    assert_eq!(stream["unsent"], expected);

    let metrics = get(&mut world, "/metrics");
    for line in [
        "tiderace_forward_seconds_bucket{stage=\"server\",le=\"0.003\"} 0",
        "tiderace_forward_seconds_bucket{stage=\"server\",le=\"0.01\"} 4",
        "tiderace_forward_seconds_bucket{stage=\"server\",le=\"+Inf\"} 4",
        "tiderace_forward_seconds_sum{stage=\"server\"} 0.016",
        "tiderace_forward_seconds_count{stage=\"socket\"} 3",
        "tiderace_stream_forward_seconds_bucket{stream=\"live/cam\",le=\"0.01\"} 4",
        "tiderace_stream_forward_seconds_count{stream=\"live/cam\"} 4",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let page = get(&mut world, "/");
    assert!(page.contains("<dt>forwarded within</dt><dd>4.0 ms (p50), 4.0 ms (p99)"), "{page}");
}
