//! Relays one stream from a publisher to its players:
//! `cargo run --example server [ADDRESS:PORT]`. The stream is `rtmp://ADDRESS:PORT/live/show`.
//!
//! The documentation of `tiderace::rtmp` shows this code.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use tiderace::media::{AudioClass, VideoClass, classify_audio, classify_video};
use tiderace::rtmp::command::code;
use tiderace::rtmp::handshake::Hello;
use tiderace::rtmp::message::{Message, MessageHeader, kind};
use tiderace::rtmp::session::{Event, Session, SessionSettings, Step};

/// The one stream that this server relays.
const NAME: &str = "live/show";
/// A player that leaves more bytes unread is disconnected.
const UNSENT_BYTES_MAX: usize = 4 << 20;

/// A stream while it is published.
#[derive(Default)]
struct Stream {
    is_published: bool,
    has_video: bool,
    /// The decoder configurations, which a player needs first.
    headers: Vec<(MessageHeader, Vec<u8>)>,
    /// The messages since the players were last served.
    news: Vec<(MessageHeader, Vec<u8>)>,
}

impl Stream {
    /// Records audio and video. Data is left out.
    fn record(&mut self, message: Message<'_>) {
        let Message { header, payload } = message;
        if ![kind::AUDIO, kind::VIDEO].contains(&header.kind) {
            return;
        }
        self.has_video |= header.kind == kind::VIDEO;
        if is_header(message) {
            self.headers.retain(|(older, _)| older.kind != header.kind);
            self.headers.push((header, payload.to_vec()));
        }
        self.news.push((header, payload.to_vec()));
    }
}

fn is_header(Message { header, payload }: Message<'_>) -> bool {
    match header.kind {
        kind::AUDIO => {
            classify_audio(payload).is_ok_and(|tag| tag.class == AudioClass::SequenceHeader)
        }
        _ => classify_video(payload).is_ok_and(|tag| tag.class == VideoClass::SequenceHeader),
    }
}

fn is_keyframe(Message { header, payload }: Message<'_>) -> bool {
    header.kind == kind::VIDEO
        && classify_video(payload).is_ok_and(|tag| tag.class == VideoClass::Keyframe)
}

/// A connection: a socket, the protocol, and the bytes between them.
struct Connection {
    socket: TcpStream,
    session: Session,
    unsent: Vec<u8>,
    publishes: bool,
    /// The message stream that plays.
    plays: Option<u32>,
    /// Whether the player has been sent a keyframe.
    has_begun: bool,
}

impl Connection {
    fn new(socket: TcpStream, settings: &SessionSettings) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let (session, unsent) = (Session::new(settings), Vec::new());
        Ok(Self { socket, session, unsent, publishes: false, plays: None, has_begun: false })
    }

    /// Passes the received bytes to the session, and acts on its events.
    fn read(
        &mut self,
        stream: &mut Stream,
        settings: &SessionSettings,
    ) -> Result<(), Box<dyn Error>> {
        let mut buffer = [0; 65_536];
        let count = match self.socket.read(&mut buffer) {
            Ok(0) => return Err("the peer has left".into()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut input = &mut buffer[..count];
        while let Some(event) = self.session.next_event(&mut input, settings)? {
            match event {
                Event::Media(message) => stream.record(message),
                Event::Aggregate(parts) => parts.for_each(|message| stream.record(message)),
                Event::Step(step) => self.decide(step, stream, settings)?,
                _ => {}
            }
            self.session.check_output(settings)?;
        }
        Ok(())
    }

    /// Answers what the peer asks for.
    fn decide(
        &mut self,
        step: Step,
        stream: &mut Stream,
        settings: &SessionSettings,
    ) -> Result<(), Box<dyn Error>> {
        match step {
            Step::Connect(request) => self.session.accept_connect(request, settings),
            Step::Publish(request) if request.target.name != NAME || stream.is_published => {
                self.session.reject_publish(&request, code::PUBLISH_BAD_NAME, "not available");
            }
            Step::Publish(request) => {
                self.session.accept_publish(&request);
                self.publishes = true;
                stream.is_published = true;
            }
            Step::Play(request) if request.target.name != NAME => {
                self.session.reject_play(&request, code::PLAY_STREAM_NOT_FOUND, "not available");
            }
            Step::Play(request) => {
                self.session.accept_play(&request);
                let id = request.message_stream_id();
                (self.plays, self.has_begun) = (Some(id), false);
                for (header, payload) in &stream.headers {
                    let message = Message { header: *header, payload };
                    self.session.write_media(id, message, &mut self.unsent)?;
                }
            }
            Step::Unpublish { .. } => self.publishes = false,
            Step::Stop { .. } => self.plays = None,
            _ => {}
        }
        Ok(())
    }

    /// Tells a player that the stream has ended.
    fn end_play(&mut self) {
        if let Some(id) = self.plays.take() {
            self.session.play_ended(id);
        }
    }

    /// Sends the replies and, to a player, the new messages of the stream.
    fn write(&mut self, stream: &Stream) -> Result<(), Box<dyn Error>> {
        for (header, payload) in &stream.news {
            let Some(id) = self.plays else { break };
            let message = Message { header: *header, payload };
            // A decoder cannot begin between two keyframes.
            self.has_begun |= is_keyframe(message) || !stream.has_video;
            if self.has_begun || is_header(message) {
                self.session.write_media(id, message, &mut self.unsent)?;
            }
        }
        self.unsent.extend(self.session.output_mut().take());
        if self.unsent.len() > UNSENT_BYTES_MAX {
            return Err("the player is too slow".into());
        }
        match self.socket.write(&self.unsent) {
            Ok(count) => drop(self.unsent.drain(..count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Serves publishers and players, all on this thread.
fn serve(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let settings = SessionSettings::new(Hello::new(&[7; 1528]));
    let (mut connections, mut stream) = (Vec::new(), Stream::default());
    loop {
        while let Ok((socket, _)) = listener.accept() {
            connections.push(Connection::new(socket, &settings)?);
        }
        connections.retain_mut(|connection| connection.read(&mut stream, &settings).is_ok());
        connections.retain_mut(|connection| connection.write(&stream).is_ok());
        stream.news.clear();
        if stream.is_published && !connections.iter().any(|connection| connection.publishes) {
            stream = Stream::default();
            connections.iter_mut().for_each(Connection::end_play);
        }
        // A server with many connections waits for one of them to be ready instead.
        thread::sleep(Duration::from_millis(2));
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:1935".to_owned());
    serve(&TcpListener::bind(address)?)
}
