//! What streams cost and what the kernel tells of connections: the division of processor time,
//! calls and bytes, and where they are shown.

use std::cell::Cell;
use std::rc::Rc;

use serde_json::{Value, json};
use tiderace::config::Settings;
use tiderace::server::costs::StreamCost;
use tiderace::server::stopwatch::Clocks;
use tiderace::server::transport::TcpFacts;
use tiderace::server::web::Surface;
use tiderace::time::Time;

use crate::frames::publish;
use crate::socket::is_about_sockets;
use crate::world::{ClientHandle, World};

const ALL: Surface = Surface { playback: true, status: true, is_local: true };
/// How much later each reading of the clock is (us).
const STEP_US: u64 = 10;

/// Two streams: `three` has three players, and `one` has one.
struct Lab {
    world: World,
    three: ClientHandle,
    one: ClientHandle,
    players: Vec<ClientHandle>,
    cpu_us: Rc<Cell<u64>>,
}

impl Lab {
    fn new() -> Self {
        is_about_sockets();
        let mut world = World::new(Settings::default());
        let (three, one) = (world.publisher("three"), world.publisher("one"));
        let players = ["three", "three", "three", "one"].map(|key| world.player(key)).into();
        let cpu_us = Rc::new(Cell::new(0));
        let (read, micros) = (Rc::clone(&cpu_us), Cell::new(0));
        world.server.measure_turns(Clocks {
            wall: Box::new(move || {
                micros.set(micros.get() + STEP_US);
                Time::from_micros(micros.get())
            }),
            cpu: Box::new(move || Time::from_micros(read.get())),
        });
        world.advance_ms(2000);
        Self { world, three, one, players, cpu_us }
    }

    fn cost(&self, name: &str) -> StreamCost {
        *self.world.server.hub().find(name).expect("a stream").cost()
    }

    fn cpu_ns(&self) -> [u64; 2] {
        ["live/three", "live/one"].map(|name| self.cost(name).cpu_ns)
    }
}

#[test]
fn processor_time_is_divided_in_proportion_to_the_time_of_the_connections() {
    let mut lab = Lab::new();
    lab.cpu_us.set(5000);
    publish(&mut lab.world, lab.three, "K1", 0);
    assert_eq!(lab.cpu_ns(), [5_000_000, 0], "nothing else had any work");
    publish(&mut lab.world, lab.three, "i2", 0);
    publish(&mut lab.world, lab.one, "K1", 0);
    lab.world.advance_ms(1000);
    lab.cpu_us.set(13_000);
    publish(&mut lab.world, lab.one, "i2", 1000);
    // A message takes a step to be read and one for each player, and `three` has a memory file:
    // five steps for `three`, and twice two for `one`.
    let expected = [5_000_000 + 8_000_000 * 5 / 9, 8_000_000 * 4 / 9];
    assert_eq!(lab.cpu_ns(), expected);
    let all = lab.world.server.hub().cost_of_all().cpu_ns;
    assert!(all.abs_diff(13_000_000) < 10, "{all} ns of 13 ms");
}

#[test]
fn the_cost_of_streams_that_are_over_stays_in_the_sum() {
    let mut lab = Lab::new();
    lab.cpu_us.set(5000);
    publish(&mut lab.world, lab.three, "K1", 0);
    for client in [lab.three, lab.players[0], lab.players[1], lab.players[2]] {
        lab.world[client].reset();
    }
    lab.world.run();
    assert!(lab.world.server.hub().find("live/three").is_none());
    assert_eq!(lab.world.server.hub().cost_of_all().cpu_ns, 5_000_000);
}

#[test]
fn calls_and_bytes_count_for_the_stream_whose_connections_they_are_on() {
    let mut lab = Lab::new();
    let before = ["live/three", "live/one"].map(|name| lab.cost(name));
    let received = |lab: &Lab| lab.players.iter().map(|p| lab.world[*p].received().len()).collect();
    let had: Vec<usize> = received(&lab);
    publish(&mut lab.world, lab.three, "K1", 0);
    publish(&mut lab.world, lab.one, "K1", 0);
    let has: Vec<usize> = received(&lab);
    let bytes = |player: usize| (has[player] - had[player]) as u64;
    let after = ["live/three", "live/one"].map(|name| lab.cost(name));
    let calls = |index: usize| {
        (after[index].reads - before[index].reads, after[index].writes - before[index].writes)
    };
    assert_eq!([calls(0), calls(1)], [(1, 3), (1, 1)]);
    let moved = |index: usize| {
        let (after, before): (&StreamCost, &StreamCost) = (&after[index], &before[index]);
        (after.copied_bytes - before.copied_bytes, after.sendfile_bytes - before.sendfile_bytes)
    };
    // Two players are enough for memory files here.
    assert_eq!(moved(0), (0, bytes(0) + bytes(1) + bytes(2)));
    assert_eq!(moved(1), (bytes(3), 0));
}

fn get(world: &mut World, path: &str) -> String {
    let client = world.connect_http(ALL);
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    world[client].send_raw(request.as_bytes());
    world.run();
    String::from_utf8(world[client].received().to_vec()).unwrap()
}

fn get_json(world: &mut World, path: &str) -> Value {
    let answer = get(world, path);
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

#[test]
fn costs_are_in_the_api_and_in_the_metrics() {
    let mut lab = Lab::new();
    lab.cpu_us.set(5000);
    publish(&mut lab.world, lab.one, "K1", 0);
    let cost = lab.cost("live/one");
    let stream = &get_json(&mut lab.world, "/api/v1/streams?name=live/one")["streams"][0];
    let expected = json!({
        "cpu_us": 5000, "reads": cost.reads, "writes": cost.writes,
        "copied_bytes": cost.copied_bytes, "sendfile_bytes": 0,
    });
    assert_eq!(stream["cost"], expected);
    let server = get_json(&mut lab.world, "/api/v1/server");
    assert_eq!(server["streams_cost"]["cpu_us"], 5000);
    let of_streams = server["streams_cost"]["writes"].as_u64().unwrap();
    assert!(server["writes"].as_u64().unwrap() >= of_streams && of_streams > cost.writes);

    let metrics = get(&mut lab.world, "/metrics");
    for line in [
        "tiderace_stream_cpu_seconds_total{stream=\"live/one\"} 0.005",
        "tiderace_stream_cpu_seconds_total{stream=\"live/three\"} 0",
        "tiderace_streams_cpu_seconds_total 0.005",
        "tiderace_stream_sendfile_bytes_total{stream=\"live/one\"} 0",
        "tiderace_syscalls_total{call=\"sendfile\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let line = format!(
        "tiderace_stream_syscalls_total{{stream=\"live/one\"}} {}.0",
        cost.reads + cost.writes
    );
    assert!(metrics.contains(&line), "{line} is not in {metrics}");
}

#[test]
fn the_api_has_what_the_kernel_tells_of_a_connection() {
    let mut lab = Lab::new();
    let facts = TcpFacts { rtt_us: 1500, retransmits: 3, unsent_bytes: 0 };
    lab.world[lab.players[3]].kernel_tells(Some(facts));
    lab.world[lab.one].kernel_tells(None);
    lab.world[lab.players[3]].reads = false;
    publish(&mut lab.world, lab.one, "K1", 0);
    let list = get_json(&mut lab.world, "/api/v1/connections");
    let tcp_of = |state: &str| {
        let connections = list["connections"].as_array().unwrap().iter();
        let mut found = connections.filter(|conn| conn["stream"]["name"] == "live/one");
        found.find(|conn| conn["state"] == state).expect("a connection")["tcp"].clone()
    };
    // A keyframe of nine bytes, with the header of its chunk.
    let expected = json!({ "rtt_us": 1500, "retransmits": 3, "unsent_bytes": 12 + 9 });
    assert_eq!(tcp_of("playing"), expected);
    assert_eq!(tcp_of("publishing"), Value::Null);
}

#[test]
fn the_kernel_is_asked_about_a_bounded_number_of_connections_of_a_list() {
    let mut world = World::new(Settings::default());
    for _ in 0..250 {
        world.connect();
    }
    let list = get_json(&mut world, "/api/v1/connections?limit=1000");
    let connections = list["connections"].as_array().unwrap();
    let asked = connections.iter().filter(|conn| !conn["tcp"].is_null()).count();
    assert_eq!((connections.len(), asked), (251, 200));
    assert!(connections[..200].iter().all(|conn| !conn["tcp"].is_null()));
}
