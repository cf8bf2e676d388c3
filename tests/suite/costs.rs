//! What things cost, counted and not timed: allocations per message and per player, heap bytes
//! per idle session.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use allocation_counter::{AllocationInfo, measure};
use tiderace::config::Settings;
use tiderace::limits;
use tiderace::rtmp::auth::Challenger;
use tiderace::rtmp::handshake::Hello;
use tiderace::server::Server;
use tiderace::server::conn::Conn;
use tiderace::server::peer::Protocol;
use tiderace::server::transport::{Received, Transport};
use tiderace::stream::ids::ConnId;
use tiderace::time::Time;

use crate::frames::{payload, stream_command};
use crate::wire::{self, Message, SET_CHUNK_SIZE, VIDEO};

/// What a session costs that is connected and asks for nothing. The goal for the whole process is
/// 512 resident bytes.
const IDLE_SESSION_BYTES_MAX: u64 = 512;

/// The other end of a connection: what is to be read, and how much was written. It allocates
/// nothing while the server works.
#[derive(Debug, Default)]
struct Script {
    input: Vec<u8>,
    read: usize,
    written: u64,
}

/// As large as the descriptor of a socket, give or take a word.
#[derive(Clone, Debug, Default)]
struct Scripted(Rc<RefCell<Script>>);

impl Transport for Scripted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let script = &mut *self.0.borrow_mut();
        let rest = &script.input[script.read..];
        if rest.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        script.read += count;
        Ok(Received { bytes: count, is_drained: count < buffer.len() })
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let count: usize = slices.iter().map(|slice| slice.len()).sum();
        self.0.borrow_mut().written += count as u64;
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Bench {
    server: Server<Scripted>,
    buffer: Vec<u8>,
    now: Time,
}

impl Bench {
    fn new() -> Self {
        let hello = Hello::new(&[7; 1528]);
        let server = Server::new(Settings::default(), hello, Challenger::new([7; 32]));
        Self { server, buffer: vec![0; limits::READ_BUFFER_BYTES], now: Time::ZERO }
    }

    /// Opens a connection that has `input` to say.
    fn accept(&mut self, script: &Scripted, input: &[u8]) -> ConnId {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        assert!(self.server.admits(peer.into(), self.now));
        let id = self.server.accept(script.clone(), peer, Protocol::Rtmp, self.now);
        self.say(id, script, input);
        id
    }

    /// Lets a connection say something; what that costs the server is the answer.
    fn say(&mut self, id: ConnId, script: &Scripted, input: &[u8]) -> AllocationInfo {
        {
            let script = &mut *script.0.borrow_mut();
            (script.input, script.read) = (input.to_vec(), 0);
        }
        let cost = measure(|| {
            self.server.event(id, true, false, false);
            while self.server.has_work() {
                self.server.turn(&mut self.buffer, self.now);
            }
        });
        assert!(self.server.conn(id).is_some());
        let script = &mut *script.0.borrow_mut();
        assert_eq!(script.read, script.input.len());
        // The script's memory is no part of what a session costs.
        script.input = Vec::new();
        cost
    }
}

/// Handshake, connect and one message stream, with a chunk size that cuts no message.
fn opening() -> Vec<u8> {
    let app = wire::object(&[("app", wire::string("live"))]);
    let messages = [
        wire::control(SET_CHUNK_SIZE, 60_000),
        wire::command("connect", 1.0, &[app]),
        wire::command("createStream", 2.0, &[wire::null()]),
    ];
    [wire::handshake(), messages.map(|message| message.chunks()).concat()].concat()
}

fn opening_with(name: &str) -> Vec<u8> {
    [opening(), stream_command(name, "cam", 1).chunks()].concat()
}

const WARM_UP: u32 = 1000;

/// A publisher with `players`, and a stream of messages; what they cost, and the wire bytes that
/// went onto the tape.
fn fan_out(players: usize, messages: u32) -> (AllocationInfo, u64) {
    let mut bench = Bench::new();
    let script = Scripted::default();
    let publisher = bench.accept(&script, &opening_with("publish"));
    let scripts: Vec<_> = (0..players).map(|_| Scripted::default()).collect();
    for player in &scripts {
        bench.accept(player, &opening_with("play"));
    }
    let mut frame = |number: u32| {
        let (label, len) = match number % 50 {
            0 => ("K", 20_000),
            number if number % 2 == 0 => ("i", 3000),
            _ => ("a", 300),
        };
        let (kind, payload) = payload(&format!("{label}{number}"), len);
        let id = if kind == VIDEO { 6 } else { 4 };
        bench.now = bench.now.plus_millis(20);
        let message = Message::new(id, kind, payload).on(1).at(number * 20);
        bench.say(publisher, &script, &message.chunks_of(60_000))
    };
    // Until the tape has its size, and the lists have theirs: the publisher is on the one of
    // those to be written beside all players once it is sent an acknowledgement.
    for number in 0..WARM_UP {
        frame(number);
    }
    let before = written(&scripts);
    let mut total = AllocationInfo::default();
    for number in WARM_UP..WARM_UP + messages {
        let cost = frame(number);
        total.count_total += cost.count_total;
        total.bytes_total += cost.bytes_total;
    }
    let each = (written(&scripts) - before) / players as u64;
    (total, each)
}

fn written(scripts: &[Scripted]) -> u64 {
    scripts.iter().map(|script| script.0.borrow().written).sum()
}

#[test]
fn a_stream_allocates_blocks_of_its_tape_and_nothing_per_message_or_player() {
    let (alone, wire_bytes) = fan_out(1, 2000);
    let (crowded, wire_bytes_of_each) = fan_out(100, 2000);
    assert_eq!(wire_bytes, wire_bytes_of_each);
    assert_eq!(alone.count_total, crowded.count_total, "nothing for a player");
    assert_eq!(alone.bytes_total, crowded.bytes_total, "nothing for a player");
    // Blocks are used again, so the stream's 4 MB cost no memory: what is left are counters.
    assert!(wire_bytes > 4_000_000, "{wire_bytes} bytes");
    let row = format!(
        "| allocations for 2000 messages (4 MB) of a stream, to one player or to 100 \
         | {}, together {} bytes |",
        alone.count_total, alone.bytes_total
    );
    let page = include_str!("../../src/manual/figures.md");
    assert!(page.contains(&row), "src/manual/figures.md lacks this row:\n{row}");
}

#[test]
fn a_message_in_pieces_is_assembled_without_an_allocation_each_time() {
    let mut bench = Bench::new();
    let script = Scripted::default();
    let publisher = bench.accept(&script, &opening_with("publish"));
    let message = |number: u32| {
        let (kind, payload) = payload(&format!("a{number}"), 3000);
        Message::new(4, kind, payload).on(1).at(number * 20).chunks_of(60_000)
    };
    let mut costs = Vec::new();
    for number in 0..100 {
        let bytes = message(number);
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let cost = bench.say(publisher, &script, first).count_total
            + bench.say(publisher, &script, second).count_total;
        costs.push(cost);
    }
    assert_eq!(costs[50..].iter().sum::<u64>(), 0, "{costs:?}");
}

/// Audio and video that interleave have a buffer each, and a third message at a time has none.
#[test]
fn two_messages_at_a_time_are_assembled_without_an_allocation() {
    for (chunk_streams, allocates) in [(2, false), (3, true)] {
        let mut bench = Bench::new();
        let script = Scripted::default();
        let publisher = bench.accept(&script, &opening_with("publish"));
        // The chunks of messages that are under assembly at the same time.
        let messages: Vec<_> = (0..chunk_streams)
            .map(|index| {
                let (kind, payload) = payload("a1", 100_000);
                Message::new(4 + index, kind, payload).on(1).chunks_of(60_000)
            })
            .collect();
        let middle = 12 + 60_000;
        let round: Vec<_> = [0..middle, middle..messages[0].len()]
            .into_iter()
            .flat_map(|part| messages.iter().map(move |message| message[part.clone()].to_vec()))
            .collect();
        let mut cost = |round: &[Vec<u8>]| -> u64 {
            round.iter().map(|bytes| bench.say(publisher, &script, bytes).count_total).sum()
        };
        for _ in 0..100 {
            cost(&round);
        }
        let costs: Vec<_> = (0..20).map(|_| cost(&round)).collect();
        // In some rounds the publisher is sent an acknowledgement.
        let allocated = costs.iter().filter(|cost| **cost > 0).count() > 10;
        assert_eq!(allocated, allocates, "{chunk_streams} at a time: {costs:?}");
    }
}

#[test]
fn an_idle_session_costs_few_bytes_and_no_buffer() {
    // A power of two, so that tables that double are full.
    const SESSIONS: u64 = 16_384;
    let mut bench = Bench::new();
    let scripts: Vec<_> = (0..SESSIONS).map(|_| Scripted::default()).collect();
    let input = opening();
    let cost = measure(|| {
        for script in &scripts {
            bench.accept(script, &input);
        }
    });
    let each = cost.bytes_current as u64 / SESSIONS;
    println!("{each} heap bytes per idle session, of them {} Conn", size_of::<Conn<[u8; 4]>>());
    assert!(each <= IDLE_SESSION_BYTES_MAX, "{each} heap bytes per idle session");
    for index in 0..SESSIONS as u32 {
        let conn = bench.server.conn(ConnId::new(index)).expect("it stays");
        assert!(conn.peer.session().unwrap().output().bytes().is_empty());
        assert!(conn.activity.is_none() && conn.closing.is_none());
    }
}

/// What the server says that it holds is what the allocator gave it, give or take the tables that
/// double: memory files and the kernel's part are no part of either here.
#[test]
fn memory_that_is_accounted_is_memory_that_was_allocated() {
    const PUBLISHERS: usize = 20;
    let mut bench = Bench::new();
    let scripts: Vec<_> = (0..2 * PUBLISHERS).map(|_| Scripted::default()).collect();
    let frames: Vec<u8> = (0..100)
        .flat_map(|number| {
            let label = if number % 50 == 0 { "K" } else { "i" };
            let (kind, payload) = payload(&format!("{label}{number}"), 5000);
            Message::new(6, kind, payload).on(1).at(number * 20).chunks_of(60_000)
        })
        .collect();
    let (kind, unfinished) = payload("i100", 100_000);
    let unfinished = Message::new(6, kind, unfinished).on(1).at(2000).chunks_of(60_000);
    let inputs: Vec<_> = (0..PUBLISHERS)
        .map(|index| {
            let key = format!("cam{index}");
            let command = |name| [opening(), stream_command(name, &key, 1).chunks()].concat();
            (command("publish"), command("play"))
        })
        .collect();
    let cost = measure(|| {
        for (index, (publish, play)) in inputs.iter().enumerate() {
            let (publisher, player) = (&scripts[2 * index], &scripts[2 * index + 1]);
            let id = bench.accept(publisher, publish);
            bench.accept(player, play);
            bench.say(id, publisher, &frames);
            bench.say(id, publisher, &unfinished[..90_000]);
        }
    });
    let (accounted, allocated) = (bench.server.memory_bytes() as i64, cost.bytes_current);
    println!("{accounted} bytes accounted, {allocated} allocated");
    assert!((accounted - allocated).abs() <= allocated / 10, "{accounted} for {allocated}");
}

#[test]
fn twenty_thousand_sessions_sleep_through_a_day_and_wake_nobody() {
    let mut bench = Bench::new();
    let scripts: Vec<_> = (0..20_000).map(|_| Scripted::default()).collect();
    let (idle, waiting) = (opening(), opening_with("play"));
    for (index, script) in scripts.iter().enumerate() {
        bench.accept(script, if index % 2 == 0 { &idle } else { &waiting });
    }
    assert_eq!(bench.server.next_deadline(), None);
    bench.now = bench.now.plus_millis(86_400_000);
    let cost = measure(|| bench.server.turn(&mut bench.buffer, bench.now));
    assert_eq!(cost.count_total, 0);
    assert_eq!(bench.server.len(), 20_000);
    assert_eq!(bench.server.next_deadline(), None);
    assert!(!bench.server.has_work());
    assert_eq!(bench.server.stats().closed_total(), 0);
}

#[test]
fn sessions_that_are_gone_leave_nothing_behind() {
    let mut bench = Bench::new();
    let scripts: Vec<_> = (0..100).map(|_| Scripted::default()).collect();
    let input = opening_with("play");
    let round = |bench: &mut Bench| {
        for script in &scripts {
            bench.accept(script, &input);
        }
        for index in 0..scripts.len() as u32 {
            // Bytes that no chunk begins with: type 3 on a chunk stream that never was.
            let script = &scripts[index as usize];
            script.0.borrow_mut().input = vec![0xff];
            script.0.borrow_mut().read = 0;
            bench.server.event(ConnId::new(index), true, false, false);
        }
        while bench.server.has_work() {
            bench.server.turn(&mut bench.buffer, bench.now);
        }
        scripts.iter().for_each(|script| script.0.borrow_mut().input = Vec::new());
        assert!(bench.server.is_empty() && bench.server.hub().is_empty());
    };
    // Tables keep their size, so the first round pays for them.
    round(&mut bench);
    let cost = measure(|| round(&mut bench));
    assert_eq!(cost.bytes_current, 0);
}
