//! A peer over a real socket that does what a test says, in the bytes of [`super::wire`]. It is
//! written without the crate under test, so that it shares no bug with it.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{SendFlags, send};

use super::SOON;
use super::wire::{self, HELLO_BYTES, Message, PACKET_BYTES, number, object, string};

/// A connection to an application. Dropping it ends it.
pub(crate) struct Peer {
    stream: TcpStream,
    reader: wire::Reader,
    /// Messages that were received and not asked for yet.
    unseen: VecDeque<Message>,
    end: Option<End>,
}

/// How the server ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Closed,
    Reset,
}

impl Peer {
    /// A peer of `live` whose `connect` was granted and that asks for nothing.
    pub(crate) fn connected(address: SocketAddr) -> Self {
        Self::connect(address, "live", &[])
    }

    /// The same, of a client that announces that it understands a reconnect request.
    pub(crate) fn that_can_reconnect(address: SocketAddr) -> Self {
        Self::connect(address, "live", &[("capsEx", number(1.0))])
    }

    /// A peer that publishes `live/KEY`.
    pub(crate) fn publishing(address: SocketAddr, key: &str) -> Self {
        let mut peer = Self::connected(address);
        peer.ask_on_stream(&wire::publish(key), "NetStream.Publish.Start");
        peer
    }

    /// A peer that plays `live/KEY`, whether it is published or not.
    pub(crate) fn playing(address: SocketAddr, key: &str) -> Self {
        Self::playing_in(address, "live", key)
    }

    /// A peer that plays `key` of `app`.
    pub(crate) fn playing_in(address: SocketAddr, app: &str, key: &str) -> Self {
        let mut peer = Self::connect(address, app, &[("flashVer", string("LNX 9,0,124,2"))]);
        peer.ask_on_stream(&wire::play(key), "NetStream.Play.Start");
        peer
    }

    fn connect(address: SocketAddr, app: &str, properties: &[(&str, Vec<u8>)]) -> Self {
        let (mut stream, answer) = hello(address);
        stream.write_all(&answer[1..HELLO_BYTES]).expect("the server reads C2");
        let reader = wire::Reader::default();
        let mut peer = Self { stream, reader, unseen: VecDeque::new(), end: None };
        let url = string(format!("rtmp://{address}/{app}"));
        let usual = [("app", string(app)), ("tcUrl", url)];
        let properties = object(&[&usual, properties].concat());
        peer.send(&wire::command("connect", 1.0, &[properties]));
        peer.wait_for("NetConnection.Connect.Success");
        peer
    }

    fn ask_on_stream(&mut self, request: &Message, granted: &str) {
        self.send(&wire::create_stream(2.0));
        self.wait_for("_result");
        self.send(request);
        self.wait_for(granted);
    }

    pub(crate) fn send(&mut self, message: &Message) {
        self.send_bytes(&message.chunks());
    }

    /// Sends bytes of any kind.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Sends a byte as urgent data (RFC 9293, section 3.8.5).
    pub(crate) fn send_urgent(&self, byte: u8) {
        assert_eq!(send(&self.stream, &[byte], SendFlags::OOB), Ok(1));
    }

    /// Returns the next message, or `None` after the server has closed the connection. Panics if
    /// neither happens soon, or if the connection is reset.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Option<Message> {
        let message = self.receive_before(Instant::now() + SOON);
        let is_closed = self.end == Some(End::Closed);
        assert!(message.is_some() || is_closed, "no message and no orderly end: {:?}", self.end);
        message
    }

    /// Returns the next message, or `None` if none arrives before `deadline` or the connection
    /// ends.
    pub(crate) fn receive_before(&mut self, deadline: Instant) -> Option<Message> {
        while self.unseen.is_empty() && self.fill(deadline) {}
        self.unseen.pop_front()
    }

    /// Waits for a message with `text` in it.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &str) {
        self.wait_for_one_of(&[text]);
    }

    /// Waits for a message with one of `texts` in it, and returns which.
    #[track_caller]
    pub(crate) fn wait_for_one_of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        loop {
            let message = self.receive();
            let message = message.unwrap_or_else(|| panic!("the end before any of {texts:?}"));
            let found = texts.iter().find(|text| message.contains(text));
            if let Some(text) = found {
                return text;
            }
        }
    }

    /// Waits for the next audio, video or data.
    #[track_caller]
    pub(crate) fn next_media(&mut self) -> Message {
        loop {
            let message = self.receive().expect("media before the end");
            if message.is_media() {
                return message;
            }
        }
    }

    /// Returns the next audio or video message, or `None` if none arrives within `limit` or the
    /// connection ends.
    pub(crate) fn next_frame(&mut self, limit: Duration) -> Option<Message> {
        let deadline = Instant::now() + limit;
        loop {
            let message = self.receive_before(deadline)?;
            if message.is_frame() {
                return Some(message);
            }
        }
    }

    /// Returns whether the server has ended the connection.
    pub(crate) const fn is_over(&self) -> bool {
        self.end.is_some()
    }

    /// Reads once. Returns false at the deadline and at the end of the connection.
    fn fill(&mut self, deadline: Instant) -> bool {
        let mut bytes = [0; 64 * 1024];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.end.is_some() {
                return false;
            }
            self.stream.set_read_timeout(Some(left)).expect("a timeout can be set");
            match self.stream.read(&mut bytes) {
                Ok(0) => self.end = Some(End::Closed),
                Ok(count) => {
                    self.unseen.extend(self.reader.read(&bytes[..count]));
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    self.end = Some(End::Reset);
                }
                Err(_) => {}
            }
        }
    }
}

/// All bytes that a client sent on one connection.
pub(crate) struct Recording {
    bytes: Vec<u8>,
    /// The audio and video messages.
    pub(crate) frames: Vec<Message>,
    /// Position of the end of the last of them in `bytes`.
    frames_end: usize,
}

impl Recording {
    /// Reads a file in `tests/vectors`.
    pub(crate) fn read(file: &str) -> Self {
        let bytes = wire::vector(file);
        let mut reader = wire::Reader::behind_handshake();
        let (mut frames, mut frames_end) = (Vec::new(), 0);
        // One byte at a time shows where a message ends.
        for (at, byte) in bytes.iter().enumerate() {
            for message in reader.read(&[*byte]) {
                if message.is_frame() {
                    frames.push(message);
                    frames_end = at + 1;
                }
            }
        }
        Self { bytes, frames, frames_end }
    }

    /// Sends everything up to the end of the frames. The stream lives as long as the result.
    pub(crate) fn publish(&self, address: SocketAddr) -> TcpStream {
        let (hello, rest) = self.bytes[..self.frames_end].split_at(HELLO_BYTES);
        let (mut stream, _) = say_hello(address, hello);
        stream.write_all(rest).expect("the server reads the recording");
        stream
    }
}

/// Opens a connection whose C0 and C1 are answered with S2 equal to C1.
#[track_caller]
pub(crate) fn greeted(address: SocketAddr) -> TcpStream {
    let (stream, answer) = hello(address);
    assert_eq!(answer[0], 3);
    assert_eq!(answer[HELLO_BYTES..], wire::hello()[1..], "S2 is C1");
    stream
}

/// Opens a connection and sends C0 and C1. Returns it with S0, S1 and S2.
fn hello(address: SocketAddr) -> (TcpStream, Vec<u8>) {
    say_hello(address, &wire::hello())
}

fn say_hello(address: SocketAddr, hello: &[u8]) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("the server accepts");
    stream.set_read_timeout(Some(SOON)).expect("a timeout can be set");
    stream.write_all(hello).expect("the server reads C0 and C1");
    let mut answer = vec![0; HELLO_BYTES + PACKET_BYTES];
    stream.read_exact(&mut answer).expect("the server sends S0, S1 and S2");
    (stream, answer)
}
