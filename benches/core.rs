//! What the pure core costs, in scenarios that repeat exactly, so that instructions can be counted:
//! a count moves when the code does, whatever else the machine is doing.
//!
//! ```text
//! cargo bench --bench core                      every scenario, with the time it takes here
//! cargo bench --bench core -- NAME ITERATIONS   one of them, so many times
//! benches/count                                 the instructions of each, by valgrind
//! ```
//!
//! Valgrind knows no instructions for SHA-256, so that a handshake counts for more than it takes.

use std::env;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use tiderace::limits::{CHUNK_SIZE_OUT, HANDSHAKE_PACKET_BYTES, WINDOW_ACK_BYTES};
use tiderace::rtmp::chunk_read::ReadLimits;
use tiderace::rtmp::chunk_write::chunk_stream;
use tiderace::rtmp::command::CommandMessage;
use tiderace::rtmp::handshake::Hello;
use tiderace::rtmp::link::{Inbound, Incoming, Output};
use tiderace::rtmp::message::{MessageHeader, kind};
use tiderace::rtmp::quirks::Tolerated;
use tiderace::rtmp::session::{Event, Session, SessionSettings, Step};

/// ffmpeg publishes H.264 and AAC: C0, C1 and C2, the dialogue, some 200 media messages.
const RECORDED: &[u8] =
    include_bytes!("../tests/vectors/captures/ffmpeg5_publish_h264_aac.client.bin");
const HANDSHAKE_BYTES: usize = 1 + 2 * HANDSHAKE_PACKET_BYTES;
/// What a segment of the network carries.
const SEGMENT_BYTES: usize = 1448;

/// Runs a scenario so many times. What it prepares comes on top, once.
type Scenario = fn(iterations: u64);

const SCENARIOS: [(&str, Scenario); 5] = [
    ("read-whole", read_whole),
    ("read-segments", read_segments),
    ("write", write),
    ("decode-connect", decode_connect),
    ("session-publish", session_publish),
];

fn main() -> ExitCode {
    // Cargo passes a flag of its own.
    let args: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let scenario = |name: &String| SCENARIOS.iter().find(|(known, _)| known == name);
    match &args[..] {
        [] => SCENARIOS.iter().for_each(|(name, scenario)| time(name, *scenario)),
        [name, iterations] => match (scenario(name), iterations.parse()) {
            (Some((_, scenario)), Ok(iterations)) => scenario(iterations),
            _ => return usage(),
        },
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    let names = SCENARIOS.map(|(name, _)| name).join(", ");
    eprintln!("usage: core [NAME ITERATIONS], where NAME is one of {names}");
    ExitCode::from(2)
}

fn time(name: &str, scenario: Scenario) {
    const ITERATIONS: u64 = 2000;
    scenario(ITERATIONS / 10);
    let began = Instant::now();
    scenario(ITERATIONS);
    let each = began.elapsed() / ITERATIONS as u32;
    println!("{name:16} {:9.2} µs", each.as_nanos() as f64 / 1000.0);
}

/// The recorded session in one piece: payloads are taken where they lie.
fn read_whole(iterations: u64) {
    for _ in 0..iterations {
        read(RECORDED.len());
    }
}

/// The recorded session by segments: most payloads are put together.
fn read_segments(iterations: u64) {
    for _ in 0..iterations {
        read(SEGMENT_BYTES);
    }
}

fn read(piece_bytes: usize) {
    let (mut inbound, mut output) = (Inbound::new(WINDOW_ACK_BYTES), Output::default());
    let (limits, mut tolerated) = (ReadLimits::default(), Tolerated::default());
    for piece in RECORDED[HANDSHAKE_BYTES..].chunks(piece_bytes) {
        let mut input = black_box(piece);
        while let Some(incoming) = inbound
            .next(&mut input, &limits, &mut output, &mut tolerated)
            .expect("a good recording")
        {
            black_box(&incoming);
        }
    }
}

/// A video message of 20 kB and an audio message of 400 bytes, in chunks as the server sends them.
fn write(iterations: u64) {
    let (video, audio) = (vec![0x27; 20_000], [0xaf; 400]);
    let header = |chunk_stream_id, kind| MessageHeader {
        chunk_stream_id,
        timestamp: 1000,
        kind,
        message_stream_id: 1,
    };
    for _ in 0..iterations {
        let mut output = Output::default();
        output.set_chunk_size(CHUNK_SIZE_OUT);
        output.message(header(chunk_stream::VIDEO, kind::VIDEO), black_box(&video));
        output.message(header(chunk_stream::AUDIO, kind::AUDIO), black_box(&audio));
        black_box(output.bytes());
    }
}

/// The `connect` of ffmpeg, out of its AMF0.
fn decode_connect(iterations: u64) {
    let connect = first_message();
    for _ in 0..iterations {
        black_box(CommandMessage::decode(black_box(&connect)).expect("a good connect"));
    }
}

fn first_message() -> Vec<u8> {
    let (mut inbound, mut output) = (Inbound::new(WINDOW_ACK_BYTES), Output::default());
    let mut input = &RECORDED[HANDSHAKE_BYTES..];
    let limits = ReadLimits::default();
    match inbound.next(&mut input, &limits, &mut output, &mut Tolerated::default()) {
        Ok(Some(Incoming::Message(message))) => message.payload.to_vec(),
        other => panic!("the recording begins with {other:?}"),
    }
}

/// From the first byte of the handshake until the publish is accepted.
fn session_publish(iterations: u64) {
    let settings = SessionSettings::new(Hello::new(&[7; 1528]));
    for _ in 0..iterations {
        let mut session = Session::new(&settings);
        let mut input = black_box(RECORDED);
        while !publishes(&mut session, &mut input, &settings) {
            session.output_mut().take();
        }
        black_box(session.output());
    }
}

fn publishes(session: &mut Session, input: &mut &[u8], settings: &SessionSettings) -> bool {
    match session.next_event(input, settings).expect("a good recording") {
        Some(Event::Step(Step::Connect(request))) => session.accept_connect(request, settings),
        Some(Event::Step(Step::Publish(request))) => {
            session.accept_publish(&request);
            return true;
        }
        Some(_) => {}
        None => panic!("the recording ends before it publishes"),
    }
    false
}
