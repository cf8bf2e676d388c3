//! A session of either side after the handshake, with a peer that sends anything. The events do not
//! depend on the split, memory follows the bytes received, and the output is valid.

use arbitrary::Unstructured;
use tiderace::rtmp::client::{Client, ClientConfig, ClientEvent, Purpose};
use tiderace::rtmp::handshake::Hello;
use tiderace::rtmp::message::Message;
use tiderace::rtmp::session::{Event, Session, SessionError, SessionSettings, Step};

use super::oracle::{Kept, digest, note, same_however_cut};
use super::script;
use crate::wire;

/// Maximum number of bytes from a script.
const SAID_BYTES_MAX: usize = 32 * 1024;

/// The first byte chooses the side, whether the peer reads and whether its requests are granted.
/// The second one chooses the split. The others are the peer's bytes, or a script for them.
pub(crate) fn run(data: &[u8]) {
    let Some((&[mode, cut], rest)) = data.split_first_chunk() else { return };
    let mode = Mode {
        is_client: mode & 1 != 0,
        is_script: mode & 2 != 0,
        reads: mode & 4 == 0,
        grants: mode & 8 == 0,
        plays: mode & 16 != 0,
    };
    let said = if mode.is_script { said(rest) } else { rest.to_vec() };
    // The split of the handshake is tested by another target.
    let handshake = wire::handshake();
    same_however_cut(&said, cut.into(), |pieces| {
        let pieces = [&[&handshake[..]], pieces].concat();
        if mode.is_client { client(&pieces, mode) } else { server(&pieces, mode) }
    });
}

#[derive(Clone, Copy, Debug)]
struct Mode {
    is_client: bool,
    is_script: bool,
    /// Whether the peer reads. Otherwise the pending replies are bounded.
    reads: bool,
    /// Whether the requests of the peer are granted.
    grants: bool,
    /// Whether the client plays or publishes.
    plays: bool,
}

fn said(script: &[u8]) -> Vec<u8> {
    let mut source = Unstructured::new(script);
    let (mut said, mut chunk_size) = (Vec::new(), 128);
    while !source.is_empty() && said.len() < SAID_BYTES_MAX {
        match script::say(&mut source, &mut chunk_size) {
            Ok(bytes) => said.extend(bytes),
            Err(_) => break,
        }
    }
    said
}

/// Events, and output to the peer.
#[derive(Debug, Default)]
struct Outcome {
    events: Vec<String>,
    answers: Vec<String>,
    /// The peer requested more replies than it read. When that happens depends on the split.
    overflowed: bool,
}

impl PartialEq for Outcome {
    fn eq(&self, other: &Self) -> bool {
        if self.overflowed || other.overflowed {
            let both = self.events.len().min(other.events.len());
            return self.events[..both] == other.events[..both];
        }
        (&self.events, &self.answers) == (&other.events, &other.answers)
    }
}

impl Outcome {
    fn event(&mut self, event: String) {
        self.events.push(event);
    }

    /// Reads the output, which must consist of whole, valid chunks. Acknowledgements are ignored,
    /// because their position depends on the split.
    fn answers(&mut self, reader: &mut wire::Reader, bytes: &[u8]) {
        let answers = reader.read(bytes).into_iter();
        let answers = answers.filter(|answer| answer.kind != wire::ACKNOWLEDGEMENT);
        self.answers.extend(answers.map(|answer| {
            let wire::Message { kind, message_stream_id, payload, .. } = answer;
            format!("{kind} on {message_stream_id}: {}", digest(&payload))
        }));
        assert!(reader.is_between_messages(), "an incomplete reply");
    }
}

fn server(pieces: &[&[u8]], mode: Mode) -> Outcome {
    let settings = SessionSettings::new(Hello::new(&[7; 1528]));
    let (mut outcome, mut kept) = (Outcome::default(), Kept::default());
    let mut reader = wire::Reader::behind_handshake();
    let mut session = kept.count(|| Session::new(&settings));
    for piece in pieces {
        let mut input = &mut piece.to_vec()[..];
        let result = kept.receive(input.len(), || {
            loop {
                session.check_output(&settings)?;
                let Some(event) = session.next_event(&mut input, &settings)? else { break };
                note(|| outcome.event(described(&event)));
                if let Event::Step(step) = event {
                    answer(&mut session, step, mode, &settings);
                }
            }
            Ok(())
        });
        if mode.reads {
            let said = kept.count(|| session.output_mut().take());
            note(|| outcome.answers(&mut reader, &said));
            kept.count(|| drop(said));
        }
        match result {
            Ok(()) => assert!(input.is_empty(), "a session takes all input"),
            Err(SessionError::ControlOverflow { .. }) => {
                outcome.overflowed = true;
                break;
            }
            Err(error) => {
                outcome.event(error.to_string());
                break;
            }
        }
    }
    outcome
}

/// Decides on a request.
fn answer(session: &mut Session, step: Step, mode: Mode, settings: &SessionSettings) {
    match step {
        Step::Connect(request) if mode.grants => session.accept_connect(request, settings),
        Step::Connect(request) => session.reject_connect(&request, "code", "no"),
        Step::Publish(request) if mode.grants => session.accept_publish(&request),
        Step::Publish(request) => session.reject_publish(&request, "code", "no"),
        Step::Play(request) if mode.grants => session.accept_play(&request),
        Step::Play(request) => session.reject_play(&request, "code", "no"),
        _ => {}
    }
}

fn described(event: &Event<'_>) -> String {
    match event {
        Event::Media(message) => message_described(message),
        Event::Aggregate(parts) => {
            parts.clone().map(|part| message_described(&part)).collect::<Vec<_>>().join(", ")
        }
        other => format!("{other:?}"),
    }
}

fn message_described(message: &Message<'_>) -> String {
    format!("{:?} {}", message.header, digest(message.payload))
}

fn client(pieces: &[&[u8]], mode: Mode) -> Outcome {
    let key = "cam".to_owned();
    let purpose = if mode.plays { Purpose::Play { key } } else { Purpose::Publish { key } };
    let (mut outcome, mut kept) = (Outcome::default(), Kept::default());
    let mut reader = wire::Reader::behind_handshake();
    let config = ClientConfig::new("live", "rtmp://host/live", purpose);
    let mut client = kept.count(|| Client::new(config, &[7; 1528]));
    for piece in pieces {
        let mut input = &mut piece.to_vec()[..];
        let result = kept.receive(input.len(), || {
            while let Some(event) = client.next_event(&mut input)? {
                note(|| outcome.event(client_described(&event)));
            }
            Ok::<_, tiderace::rtmp::client::ClientError>(())
        });
        if mode.reads {
            let said = kept.count(|| client.take_output());
            note(|| outcome.answers(&mut reader, &said));
            kept.count(|| drop(said));
        }
        if let Err(error) = result {
            outcome.event(error.to_string());
            break;
        }
        assert!(input.is_empty(), "a client takes all input");
    }
    outcome
}

fn client_described(event: &ClientEvent<'_>) -> String {
    match event {
        ClientEvent::Media(message) | ClientEvent::Other(message) => message_described(message),
        other => format!("{other:?}"),
    }
}
