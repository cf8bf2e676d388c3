//! The cost of the protocol core, and of the server around it without sockets. The scenarios are
//! deterministic, so instructions can be counted: a count changes only with the code, not with
//! other work of the machine.
//!
//! ```text
//! cargo bench --bench core                      every scenario, with the time it takes here
//! cargo bench --bench core -- NAME ITERATIONS   one scenario with this many iterations
//! benches/count                                 the instructions of each, counted by valgrind
//! ```
//!
//! Valgrind does not support the SHA-256 instructions, so a handshake counts for more than it
//! costs.

use std::cell::RefCell;
use std::env;
use std::hint::black_box;
use std::io::{self, ErrorKind, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use tiderace::config::Settings;
use tiderace::limits::{
    CHUNK_SIZE_INITIAL, CHUNK_SIZE_OUT, HANDSHAKE_PACKET_BYTES, READ_BUFFER_BYTES, WINDOW_ACK_BYTES,
};
use tiderace::rtmp::auth::Challenger;
use tiderace::rtmp::chunk::reader::ReadLimits;
use tiderace::rtmp::chunk::writer::{chunk_stream, write_control, write_message};
use tiderace::rtmp::client::{Client, ClientConfig, ClientEvent, Purpose};
use tiderace::rtmp::command::{CommandMessage, reply};
use tiderace::rtmp::handshake::Hello;
use tiderace::rtmp::link::{Inbound, Incoming, Output};
use tiderace::rtmp::message::{Control, MessageHeader, kind};
use tiderace::rtmp::quirks::Tolerated;
use tiderace::rtmp::session::{Event, Session, SessionSettings, Step};
use tiderace::server::Server;
use tiderace::server::peer::Protocol;
use tiderace::server::transport::{Received, Transport};
use tiderace::stream::ids::ConnId;
use tiderace::time::Time;

/// A recording of ffmpeg publishing H.264 and AAC: C0, C1 and C2, the dialogue, some 200 messages.
const RECORDED: &[u8] =
    include_bytes!("../tests/vectors/captures/ffmpeg5_publish_h264_aac.client.bin");
const HANDSHAKE_BYTES: usize = 1 + 2 * HANDSHAKE_PACKET_BYTES;
/// Payload of a TCP segment.
const SEGMENT_BYTES: usize = 1448;

/// Runs a scenario for a number of iterations. Its preparation is done once and counts, too.
type Scenario = fn(iterations: u64);

const SCENARIOS: [(&str, Scenario); 10] = [
    ("read-whole", read_whole),
    ("read-segments", read_segments),
    ("read-chunks", read_chunks),
    ("write", write),
    ("decode-connect", decode_connect),
    ("encode-replies", encode_replies),
    ("session-publish", session_publish),
    ("ingest", ingest),
    ("fan-out-1", fan_out_to_one),
    ("fan-out-101", fan_out_to_many),
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

/// The recorded session in one piece, so payloads are used in place.
fn read_whole(iterations: u64) {
    for _ in 0..iterations {
        read(RECORDED.len());
    }
}

/// The recorded session in TCP segments, so most payloads have to be assembled.
fn read_segments(iterations: u64) {
    for _ in 0..iterations {
        read(SEGMENT_BYTES);
    }
}

/// A video message of 16 kB in chunks of 4096 bytes, as OBS and librtmp send it, in one piece.
fn read_chunks(iterations: u64) {
    let (mut wire, mut receiver) = (Vec::new(), Receiver::new());
    write_control(&mut wire, &Control::SetChunkSize(4096), CHUNK_SIZE_INITIAL);
    receiver.read(&wire);
    wire.clear();
    let header = MessageHeader {
        chunk_stream_id: chunk_stream::VIDEO,
        timestamp: 1000,
        kind: kind::VIDEO,
        message_stream_id: 1,
    };
    write_message(&mut wire, header, &[0x27; 16_000], 4096);
    for _ in 0..iterations {
        receiver.read(&wire);
    }
}

fn read(piece_bytes: usize) {
    let mut receiver = Receiver::new();
    RECORDED[HANDSHAKE_BYTES..].chunks(piece_bytes).for_each(|piece| receiver.read(piece));
}

/// The receiving side of a connection. Input is copied into a buffer first, as from a socket.
struct Receiver {
    inbound: Inbound,
    output: Output,
    limits: ReadLimits,
    tolerated: Tolerated,
    buffer: Vec<u8>,
}

impl Receiver {
    fn new() -> Self {
        Self {
            inbound: Inbound::new(WINDOW_ACK_BYTES),
            output: Output::default(),
            limits: ReadLimits::default(),
            tolerated: Tolerated::default(),
            buffer: Vec::new(),
        }
    }

    fn read(&mut self, piece: &[u8]) {
        let Self { inbound, output, limits, tolerated, buffer } = self;
        buffer.clear();
        // In small steps: valgrind counts every byte of a long copy as an instruction.
        piece.chunks(1024).for_each(|step| buffer.extend_from_slice(black_box(step)));
        let mut input = &mut buffer[..];
        while let Some(incoming) =
            inbound.next(&mut input, limits, output, tolerated).expect("valid input")
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
        let mut wire = Vec::new();
        write_control(&mut wire, &Control::SetChunkSize(CHUNK_SIZE_OUT), CHUNK_SIZE_INITIAL);
        let (of_video, of_audio) =
            (header(chunk_stream::VIDEO, kind::VIDEO), header(chunk_stream::AUDIO, kind::AUDIO));
        write_message(&mut wire, of_video, black_box(&video), CHUNK_SIZE_OUT);
        write_message(&mut wire, of_audio, black_box(&audio), CHUNK_SIZE_OUT);
        black_box(&wire);
    }
}

/// Decodes the `connect` of ffmpeg from AMF0.
fn decode_connect(iterations: u64) {
    let connect = first_message();
    for _ in 0..iterations {
        black_box(CommandMessage::decode(black_box(&connect)).expect("a good connect"));
    }
}

fn first_message() -> Vec<u8> {
    let (mut inbound, mut output) = (Inbound::new(WINDOW_ACK_BYTES), Output::default());
    let mut input = &mut RECORDED[HANDSHAKE_BYTES..].to_owned()[..];
    let limits = ReadLimits::default();
    match inbound.next(&mut input, &limits, &mut output, &mut Tolerated::default()) {
        Ok(Some(Incoming::Message(message))) => message.payload.to_vec(),
        other => panic!("the recording begins with {other:?}"),
    }
}

/// Encodes the replies to a player whose `connect` and `play` are accepted.
fn encode_replies(iterations: u64) {
    let mut payload = Vec::new();
    for _ in 0..iterations {
        payload.clear();
        reply::connect_result(&mut payload, black_box(1.0), 0.0);
        reply::create_stream_result(&mut payload, 2.0, black_box(1));
        reply::on_status(&mut payload, "status", "NetStream.Play.Start", black_box("Started"));
        black_box(&payload);
    }
}

/// A session from the first byte of the handshake until the publish is accepted.
fn session_publish(iterations: u64) {
    let settings = SessionSettings::new(Hello::new(&[7; 1528]));
    for _ in 0..iterations {
        let mut session = Session::new(&settings);
        // The publish command is well within these bytes.
        let mut bytes = RECORDED[..4096].to_owned();
        let mut input = black_box(&mut bytes[..]);
        while !publishes(&mut session, &mut input, &settings) {
            session.output_mut().take();
        }
        black_box(session.output());
    }
}

fn publishes(session: &mut Session, input: &mut &mut [u8], settings: &SessionSettings) -> bool {
    match session.next_event(input, settings).expect("a good recording") {
        Some(Event::Step(Step::Connect(request))) => session.accept_connect(request, settings),
        Some(Event::Step(Step::Publish(request))) => {
            session.accept_publish(&request);
            return true;
        }
        Some(_) => {}
        None => panic!("the recording ends before the publish command"),
    }
    false
}

/// A message of a publisher without players, through one turn of the server.
fn ingest(iterations: u64) {
    Fixture::open(0).publish(iterations);
}

/// The same with one player, and with a hundred more. A hundredth of the difference is the cost of
/// one player per frame.
fn fan_out_to_one(iterations: u64) {
    Fixture::open(1).publish(iterations);
}

fn fan_out_to_many(iterations: u64) {
    Fixture::open(101).publish(iterations);
}

/// A socket whose peer reads everything. The output is kept only while a client needs it.
#[derive(Debug, Default)]
struct Wire {
    incoming: Vec<u8>,
    read_bytes: usize,
    outgoing: Vec<u8>,
    is_kept: bool,
}

#[derive(Clone, Debug, Default)]
struct Socket(Rc<RefCell<Wire>>);

impl Transport for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let wire = &mut *self.0.borrow_mut();
        let rest = &wire.incoming[wire.read_bytes..];
        if rest.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        wire.read_bytes += count;
        Ok(Received { bytes: count, is_drained: count < buffer.len() })
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let wire = &mut *self.0.borrow_mut();
        if wire.is_kept {
            slices.iter().for_each(|slice| wire.outgoing.extend_from_slice(slice));
        }
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A server with its clock and read buffer.
struct Harness {
    server: Server<Socket>,
    buffer: Vec<u8>,
    now: Time,
}

/// A server with a publisher and players of its stream.
struct Fixture {
    harness: Harness,
    publisher: Client,
    id: ConnId,
    socket: Socket,
    timestamp: u32,
}

/// An AVC frame that is not a keyframe, and the interval between two frames.
const FRAME: [u8; 1200] = frame(0x27);
const FRAME_MS: u32 = 33;

/// Returns an AVC message with this frame type and codec (FLV 10.1, E.4.3).
const fn frame(head: u8) -> [u8; 1200] {
    let mut frame = [0xc6; 1200];
    (frame[0], frame[1]) = (head, 1);
    frame
}

impl Fixture {
    fn open(players: usize) -> Self {
        let (hello, challenger) = (Hello::new(&[7; 1528]), Challenger::new([7; 32]));
        let mut harness = Harness {
            server: Server::new(Settings::default(), hello, challenger),
            buffer: vec![0; READ_BUFFER_BYTES],
            now: Time::ZERO,
        };
        let key = || "show".to_owned();
        let mut publisher = client(Purpose::Publish { key: key() });
        let (id, socket) = harness.connect(&mut publisher, &ClientEvent::Publishing);
        publisher.set_chunk_size(CHUNK_SIZE_OUT);
        for _ in 0..players {
            harness.connect(&mut client(Purpose::Play { key: key() }), &ClientEvent::Playing);
        }
        let mut fixture = Self { harness, publisher, id, socket, timestamp: 0 };
        // A keyframe, from which on players receive frames.
        fixture.send(&frame(0x17));
        fixture
    }

    /// Publishes frames, each in a turn of its own.
    fn publish(&mut self, frames: u64) {
        (0..frames).for_each(|_| self.send(&FRAME));
    }

    fn send(&mut self, frame: &[u8]) {
        self.harness.now = self.harness.now.plus_millis(FRAME_MS.into());
        self.timestamp += FRAME_MS;
        self.publisher.write_video(self.timestamp, black_box(frame));
        self.harness.deliver(self.id, &self.socket, self.publisher.take_output());
    }
}

impl Harness {
    /// Runs the dialogue of a client until the server has accepted its request.
    fn connect(&mut self, client: &mut Client, last: &ClientEvent<'_>) -> (ConnId, Socket) {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        assert!(self.server.admits(peer.into(), self.now), "an open server");
        let socket = Socket::default();
        socket.0.borrow_mut().is_kept = true;
        let id = self.server.accept(socket.clone(), peer, Protocol::Rtmp, self.now);
        let mut is_there = false;
        while !is_there {
            self.deliver(id, &socket, client.take_output());
            let mut output = std::mem::take(&mut socket.0.borrow_mut().outgoing);
            assert!(!output.is_empty(), "the server does not reply");
            let mut input = &mut output[..];
            while let Some(event) = client.next_event(&mut input).expect("a good server") {
                is_there |= event == *last;
            }
        }
        *socket.0.borrow_mut() = Wire::default();
        (id, socket)
    }

    fn deliver(&mut self, id: ConnId, socket: &Socket, bytes: Vec<u8>) {
        {
            let wire = &mut *socket.0.borrow_mut();
            (wire.incoming, wire.read_bytes) = (bytes, 0);
        }
        self.server.event(id, true, false, false);
        while self.server.has_work() {
            self.server.turn(&mut self.buffer, self.now);
        }
    }
}

fn client(purpose: Purpose) -> Client {
    Client::new(ClientConfig::new("live", "rtmp://localhost/live", purpose), &[7; 1528])
}
