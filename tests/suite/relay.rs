//! A relay that mistreats frames by a plan: what the load generator is measured against.
//!
//! It is a server of threads over the session of the library, for one stream and its players, which
//! may play over HTTP-FLV as well. Or it is a relay of frames behind their length. It has no place
//! in the tests of the server itself.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tiderace::limits;
use tiderace::rtmp::chunk::writer::{chunk_stream, write_message};
use tiderace::rtmp::command::code;
use tiderace::rtmp::handshake::Hello;
use tiderace::rtmp::message::{MessageHeader, kind};
use tiderace::rtmp::session::{Event, Session, SessionSettings, Step};

/// What becomes of a frame on its way to the players.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Pass,
    Drop,
    Twice,
    /// The next frame goes before it.
    Behind,
    /// Its last byte is another.
    Damage,
    /// It goes this much later, and the others do not wait for it.
    Late(Duration),
    /// Nothing is read or written for this long.
    Stall(Duration),
    /// All connections are closed.
    Die,
    /// The connection that came last is closed.
    CloseLast,
}

/// How a relay treats its clients.
pub(crate) struct Plan {
    /// The fate of a video frame by its number since the last player came.
    pub(crate) fate: fn(u64) -> Fate,
    /// The same for audio frames.
    pub(crate) audio_fate: fn(u64) -> Fate,
    pub(crate) refuses_publish: bool,
    pub(crate) refuses_play: bool,
    /// With more players than this, every frame but keyframes is dropped.
    pub(crate) players_max: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            fate: |_| Fate::Pass,
            audio_fate: |_| Fate::Pass,
            refuses_publish: false,
            refuses_play: false,
            players_max: usize::MAX,
        }
    }
}

/// The first byte of AAC in an FLV tag.
const AAC: u8 = 0xaf;

/// A relay that listens until the test is over.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
}

impl Relay {
    pub(crate) fn start(plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { plan, state: Mutex::default() });
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                // An error is the end of that connection.
                thread::spawn(move || shared.serve(socket));
            }
        });
        Self { address }
    }
}

struct Shared {
    plan: Plan,
    /// Whoever writes to a player holds it, so that no two messages mix.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connections: Vec<TcpStream>,
    players: Vec<Player>,
    /// Video frames since the last player came.
    frames: u64,
    audio_frames: u64,
    /// The frame that lets the next go before it.
    held: Option<Frame>,
}

struct Player {
    socket: TcpStream,
    form: Form,
}

/// How a player is written to.
#[derive(Clone, Copy)]
enum Form {
    /// On this message stream.
    Rtmp(u32),
    /// As a tag of FLV in a chunk of HTTP.
    Flv,
    /// Behind the length.
    Framed,
}

#[derive(Clone)]
struct Frame {
    kind: u8,
    timestamp: u32,
    payload: Vec<u8>,
}

impl Shared {
    fn serve(self: Arc<Self>, mut socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        self.state.lock().unwrap().connections.push(socket.try_clone()?);
        let mut first = [0];
        // The version of RTMP, the method of HTTP, or the highest byte of a length.
        socket.peek(&mut first)?;
        match first {
            [3] => self.serve_rtmp(&mut socket),
            [b'G'] => self.serve_http(&mut socket),
            _ => self.serve_framed(&mut socket),
        }
    }

    fn serve_rtmp(self: &Arc<Self>, socket: &mut TcpStream) -> io::Result<()> {
        let settings = SessionSettings::new(Hello::new(&[7; limits::HANDSHAKE_RANDOM_BYTES]));
        let mut session = Session::new(&settings);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = socket.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            let mut input = &mut buffer[..count];
            while let Some(event) = session.next_event(&mut input, &settings).unwrap() {
                let mut joined = None;
                match event {
                    Event::Media(message)
                        if [kind::VIDEO, kind::AUDIO].contains(&message.header.kind) =>
                    {
                        let MessageHeader { kind, timestamp, .. } = message.header;
                        self.pass_on(Frame { kind, timestamp, payload: message.payload.to_vec() });
                    }
                    Event::Step(Step::Connect(request)) => {
                        session.accept_connect(request, &settings);
                    }
                    Event::Step(Step::Publish(request)) if self.plan.refuses_publish => {
                        session.reject_publish(&request, code::PUBLISH_BAD_NAME, "taken");
                    }
                    Event::Step(Step::Publish(request)) => session.accept_publish(&request),
                    Event::Step(Step::Play(request)) if self.plan.refuses_play => {
                        session.reject_play(&request, code::PLAY_STREAM_NOT_FOUND, "nobody");
                    }
                    Event::Step(Step::Play(request)) => {
                        session.accept_play(&request);
                        joined = Some(request.message_stream_id());
                    }
                    _ => {}
                }
                self.answer(socket, &session.output_mut().take(), joined)?;
            }
            self.answer(socket, &session.output_mut().take(), None)?;
        }
    }

    /// Writes what the session has to say, and lets the player join behind it.
    fn answer(&self, socket: &mut TcpStream, bytes: &[u8], joined: Option<u32>) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        socket.write_all(bytes)?;
        if let Some(message_stream_id) = joined {
            state.join(socket, Form::Rtmp(message_stream_id))?;
        }
        Ok(())
    }

    fn serve_http(&self, socket: &mut TcpStream) -> io::Result<()> {
        let mut buffer = [0; 1024];
        let count = socket.read(&mut buffer)?;
        let expected = b"GET /live/show.flv HTTP/1.1\r\n";
        let mut state = self.state.lock().unwrap();
        if self.plan.refuses_play || !buffer[..count].starts_with(expected) {
            return socket.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n");
        }
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let header = chunk(b"FLV\x01\x01\0\0\0\x09\0\0\0\0");
        socket.write_all(&[&head[..], &header].concat())?;
        state.join(socket, Form::Flv)
    }

    fn serve_framed(self: &Arc<Self>, socket: &mut TcpStream) -> io::Result<()> {
        if read_frame(socket)?.starts_with(b"play ") {
            self.state.lock().unwrap().join(socket, Form::Framed)?;
        }
        loop {
            let payload = read_frame(socket)?;
            let kind = if payload[0] == AAC { kind::AUDIO } else { kind::VIDEO };
            self.pass_on(Frame { kind, timestamp: 0, payload });
        }
    }

    fn pass_on(self: &Arc<Self>, mut frame: Frame) {
        const SEQUENCE_HEADER: u8 = 0;
        const INTER: u8 = 0x27;
        let mut state = self.state.lock().unwrap();
        if frame.payload[1] == SEQUENCE_HEADER {
            return state.write(&frame);
        }
        let is_overloaded = state.players.len() > self.plan.players_max;
        let fate = match frame.payload[0] {
            INTER if is_overloaded => Fate::Drop,
            AAC => (self.plan.audio_fate)(state.audio_frames),
            _ => (self.plan.fate)(state.frames),
        };
        match frame.kind {
            kind::AUDIO => state.audio_frames += 1,
            _ => state.frames += 1,
        }
        let held = state.held.take();
        match fate {
            Fate::Pass => state.write(&frame),
            Fate::Drop => {}
            Fate::Twice => {
                state.write(&frame);
                state.write(&frame);
            }
            Fate::Behind => state.held = Some(frame),
            Fate::Damage => {
                *frame.payload.last_mut().unwrap() ^= 1;
                state.write(&frame);
            }
            Fate::Late(by) => {
                let shared = self.clone();
                thread::spawn(move || {
                    thread::sleep(by);
                    shared.state.lock().unwrap().write(&frame);
                });
            }
            Fate::Stall(time) => {
                thread::sleep(time);
                state.write(&frame);
            }
            Fate::CloseLast => {
                let last = state.connections.pop().unwrap();
                drop(last.shutdown(Shutdown::Both));
            }
            Fate::Die => {
                for socket in state.connections.drain(..) {
                    drop(socket.shutdown(Shutdown::Both));
                }
            }
        }
        if let Some(held) = held {
            state.write(&held);
        }
    }
}

impl State {
    fn join(&mut self, socket: &TcpStream, form: Form) -> io::Result<()> {
        self.players.push(Player { socket: socket.try_clone()?, form });
        (self.frames, self.audio_frames) = (0, 0);
        Ok(())
    }

    fn write(&mut self, frame: &Frame) {
        // A player that left is no fault of the others.
        self.players
            .retain_mut(|player| player.socket.write_all(&frame.on_wire(player.form)).is_ok());
    }
}

impl Frame {
    fn on_wire(&self, form: Form) -> Vec<u8> {
        match form {
            Form::Rtmp(message_stream_id) => {
                let header = MessageHeader {
                    chunk_stream_id: chunk_stream::VIDEO,
                    timestamp: self.timestamp,
                    kind: self.kind,
                    message_stream_id,
                };
                let mut bytes = Vec::new();
                write_message(&mut bytes, header, &self.payload, limits::CHUNK_SIZE_OUT);
                bytes
            }
            Form::Flv => {
                let [_, size @ ..] = (self.payload.len() as u32).to_be_bytes();
                let [high, time @ ..] = self.timestamp.to_be_bytes();
                let end = (self.payload.len() as u32 + 11).to_be_bytes();
                let head = [&[self.kind], &size[..], &time, &[high, 0, 0, 0]].concat();
                chunk(&[&head, &self.payload[..], &end].concat())
            }
            Form::Framed => {
                let length = (self.payload.len() as u32).to_be_bytes();
                [&length, &self.payload[..]].concat()
            }
        }
    }
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn read_frame(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut frame)?;
    Ok(frame)
}
