//! A peer over a real socket that does what a test says, in the bytes of [`crate::wire`].

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use rustix::net::{SendFlags, send};

use super::SOON;
use crate::wire::{self, Message, number, object, string};

/// A connection to the application `live`. Dropping it ends it.
pub(super) struct Peer {
    stream: TcpStream,
    reader: wire::Reader,
    /// What was read and not asked for yet.
    unseen: VecDeque<Message>,
}

impl Peer {
    /// One that was granted its `connect` and asks for nothing.
    pub(super) fn connected(address: SocketAddr) -> Self {
        Self::connect(address, 0.0)
    }

    /// The same, of a client that announces that it understands a reconnect request.
    pub(super) fn that_can_reconnect(address: SocketAddr) -> Self {
        Self::connect(address, 1.0)
    }

    /// One that publishes `key`.
    pub(super) fn publishing(address: SocketAddr, key: &str) -> Self {
        let mut peer = Self::connected(address);
        peer.send(&wire::create_stream(2.0));
        peer.send(&wire::publish(key));
        peer.wait_for("NetStream.Publish.Start");
        peer
    }

    /// One that plays `key`, be it published or not.
    pub(super) fn playing(address: SocketAddr, key: &str) -> Self {
        let mut peer = Self::connected(address);
        peer.send(&wire::create_stream(2.0));
        peer.send(&wire::play(key));
        peer.wait_for("NetStream.Play.Start");
        peer
    }

    fn connect(address: SocketAddr, caps_ex: f64) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let reader = wire::Reader::behind_handshake();
        let mut peer = Self { stream, reader, unseen: VecDeque::new() };
        peer.stream.write_all(&wire::handshake()).unwrap();
        let properties = object(&[("app", string("live")), ("capsEx", number(caps_ex))]);
        peer.send(&wire::command("connect", 1.0, &[properties]));
        peer.wait_for("NetConnection.Connect.Success");
        peer
    }

    pub(super) fn send(&mut self, message: &Message) {
        self.stream.write_all(&message.chunks()).unwrap();
    }

    /// Sends a byte beside the stream (RFC 9293, section 3.8.5).
    pub(super) fn send_urgent(&self, byte: u8) {
        assert_eq!(send(&self.stream, &[byte], SendFlags::OOB), Ok(1));
    }

    /// The next message; `None` when the server has ended the connection.
    pub(super) fn receive(&mut self) -> Option<Message> {
        let mut bytes = [0; 16 * 1024];
        while self.unseen.is_empty() {
            match self.stream.read(&mut bytes).expect("the server says something, or the end") {
                0 => return None,
                count => self.unseen.extend(self.reader.read(&bytes[..count])),
            }
        }
        self.unseen.pop_front()
    }

    /// Waits for a message with `text` in it.
    pub(super) fn wait_for(&mut self, text: &str) {
        let has = |message: Message| {
            message.payload.windows(text.len()).any(|window| window == text.as_bytes())
        };
        while !has(self.receive().unwrap_or_else(|| panic!("the end, and no {text}"))) {}
    }

    /// Waits for a message with one of `texts` in it, and returns which.
    pub(super) fn wait_for_one_of(&mut self, texts: &[&'static str]) -> &'static str {
        loop {
            let message = self.receive().expect("the end, and none of them");
            let has = |text: &&&str| {
                message.payload.windows(text.len()).any(|window| window == text.as_bytes())
            };
            if let Some(text) = texts.iter().find(has) {
                return text;
            }
        }
    }

    /// Waits for the next audio, video or data.
    pub(super) fn next_media(&mut self) -> Message {
        loop {
            let message = self.receive().expect("the end, and no media");
            if message.is_media() {
                return message;
            }
        }
    }
}
