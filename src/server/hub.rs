//! The streams: who publishes, who plays, and the tape between them.
//!
//! Owns names, tapes and the lists of players. It knows connections only by id and never
//! touches one: what has to be told to others comes back as a value.

use super::ConnId;
use super::tape::{HeaderKind, Needs, Recording, Tape, TapeSettings};
use crate::amf0;
use crate::config::Duplicate;
use crate::media::{self, AudioClass, MediaKind, VideoClass};
use crate::metadata::{self, DataMessage};
use crate::rtmp::message::{Message, kind};
use crate::time::Time;
use slab::Slab;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

/// A stream's place in the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

/// One message stream of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The connection.
    pub conn: ConnId,
    /// The message stream on it.
    pub message_stream_id: u32,
}

/// What becomes of a second publisher.
#[derive(Clone, Copy, Debug)]
pub struct DuplicatePolicy {
    /// The rule.
    pub rule: Duplicate,
    /// For how long the first must have sent nothing (ms).
    pub silent_ms: u64,
}

/// A publish that was accepted.
#[derive(Debug)]
pub struct Published {
    /// The stream.
    pub stream: StreamId,
    /// The publisher it takes the place of.
    pub displaced: Option<Endpoint>,
    /// Whether players are told that the stream begins: they waited for it, or were told that
    /// it had ended.
    pub begins: bool,
}

/// Why a publish or play was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody publishes the stream already.
    AlreadyPublishing,
    /// The table of streams is full.
    TooManyStreams,
}

/// What a message did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Taken, or of no use to anybody.
    Taken,
    /// It could not be read and was dropped.
    Malformed,
}

#[derive(Debug)]
struct Publisher {
    endpoint: Endpoint,
    last_media: Time,
}

/// One stream.
#[derive(Debug)]
pub struct Stream {
    name: Rc<str>,
    publisher: Option<Publisher>,
    tape: Tape,
    players: Vec<Endpoint>,
    /// While its publisher is gone and may come back: until when. [`Time::NEVER`] else.
    lingers_until: Time,
    /// Whether it is on the hub's list of streams with news for players.
    has_news: bool,
}

impl Stream {
    /// Its canonical name.
    pub const fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// Its tape.
    pub const fn tape(&self) -> &Tape {
        &self.tape
    }

    /// Its players.
    pub fn players(&self) -> &[Endpoint] {
        &self.players
    }

    /// Whether there is something to play, now or in a moment.
    pub const fn is_live(&self) -> bool {
        self.publisher.is_some()
    }
}

/// See the module's head.
#[derive(Debug, Default)]
pub struct Hub {
    streams: Slab<Stream>,
    names: HashMap<Rc<str>, StreamId>,
    news: Vec<StreamId>,
    lingering: BTreeSet<(Time, StreamId)>,
}

impl Hub {
    /// The stream with this id, which must exist.
    pub fn stream(&self, id: StreamId) -> &Stream {
        &self.streams[id.0 as usize]
    }

    /// The stream with this name.
    pub fn find(&self, name: &str) -> Option<&Stream> {
        self.names.get(name).map(|id| self.stream(*id))
    }

    /// Streams that are published or waited for.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// All streams.
    pub fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.streams.iter().map(|(_, stream)| stream)
    }

    /// Makes `endpoint` the publisher of `name`.
    pub fn publish(
        &mut self,
        name: &str,
        endpoint: Endpoint,
        now: Time,
        policy: &DuplicatePolicy,
        streams_max: usize,
    ) -> Result<Published, Refusal> {
        let id = self.find_or_create(name, streams_max)?;
        let stream = &mut self.streams[id.0 as usize];
        if let Some(publisher) = &stream.publisher {
            let silent = now.millis_since(publisher.last_media) >= policy.silent_ms;
            match policy.rule {
                Duplicate::Replace => {}
                Duplicate::ReplaceIfSilent if silent => {}
                _ => return Err(Refusal::AlreadyPublishing),
            }
        }
        let displaced = stream.publisher.take().map(|publisher| publisher.endpoint);
        let lingered = stream.lingers_until != Time::NEVER;
        self.lingering.remove(&(stream.lingers_until, id));
        stream.lingers_until = Time::NEVER;
        let resumes = displaced.is_some() || lingered;
        stream.tape.begin(resumes);
        stream.publisher = Some(Publisher { endpoint, last_media: now });
        Ok(Published { stream: id, displaced, begins: !resumes })
    }

    /// The publisher of a stream is gone. Its players stay for `linger_ms`, in which it may
    /// come back; returns whether they have to be told now instead.
    pub fn unpublish(&mut self, id: StreamId, now: Time, linger_ms: u64) -> bool {
        let stream = &mut self.streams[id.0 as usize];
        stream.publisher = None;
        stream.tape.end();
        if stream.players.is_empty() {
            self.remove(id);
            return false;
        }
        if linger_ms == 0 {
            return true;
        }
        stream.lingers_until = now.plus_millis(linger_ms);
        self.lingering.insert((stream.lingers_until, id));
        false
    }

    /// Whether `endpoint` is the one that publishes `id`.
    pub fn is_publisher(&self, id: StreamId, endpoint: Endpoint) -> bool {
        let publisher = self.streams.get(id.0 as usize).and_then(|s| s.publisher.as_ref());
        publisher.is_some_and(|publisher| publisher.endpoint == endpoint)
    }

    /// When the publisher of `id` last sent media.
    pub fn last_media(&self, id: StreamId) -> Option<Time> {
        self.streams[id.0 as usize].publisher.as_ref().map(|publisher| publisher.last_media)
    }

    /// The stream called `name`, made if it is not there.
    pub fn find_or_create(&mut self, name: &str, streams_max: usize) -> Result<StreamId, Refusal> {
        if let Some(id) = self.names.get(name) {
            return Ok(*id);
        }
        if streams_max != 0 && self.streams.len() >= streams_max {
            return Err(Refusal::TooManyStreams);
        }
        let name: Rc<str> = name.into();
        let id = StreamId(self.streams.insert(Stream {
            name: Rc::clone(&name),
            publisher: None,
            tape: Tape::default(),
            players: Vec::new(),
            lingers_until: Time::NEVER,
            has_news: false,
        }) as u32);
        self.names.insert(name, id);
        Ok(id)
    }

    /// Adds a player; returns its slot in the list.
    pub fn add_player(&mut self, id: StreamId, endpoint: Endpoint) -> usize {
        let players = &mut self.streams[id.0 as usize].players;
        players.push(endpoint);
        players.len() - 1
    }

    /// Takes a player out. Returns the endpoint that now has its slot, if there is one.
    pub fn remove_player(&mut self, id: StreamId, slot: usize) -> Option<Endpoint> {
        let stream = &mut self.streams[id.0 as usize];
        stream.players.swap_remove(slot);
        let moved = stream.players.get(slot).copied();
        if stream.players.is_empty() && stream.publisher.is_none() {
            self.remove(id);
        }
        moved
    }

    /// Records a message of the stream's publisher.
    pub fn record(
        &mut self,
        id: StreamId,
        message: &Message<'_>,
        now: Time,
        settings: &TapeSettings,
    ) -> Outcome {
        let stream = &mut self.streams[id.0 as usize];
        if let Some(publisher) = &mut stream.publisher {
            publisher.last_media = now;
        }
        let metadata;
        let recording = match message.header.kind {
            kind::AUDIO => audio(message),
            kind::VIDEO => video(message),
            data_kind => match interpret(data_kind, message.payload) {
                Ok(DataMessage::Metadata(payload)) => {
                    metadata = payload;
                    Some(data(message, &metadata, true))
                }
                Ok(DataMessage::Relay(payload)) => Some(data(message, payload, false)),
                Ok(DataMessage::ClearMetadata) => {
                    stream.tape.clear_metadata();
                    return Outcome::Taken;
                }
                Ok(DataMessage::Ignore) => return Outcome::Taken,
                Err(_) => None,
            },
        };
        let Some(recording) = recording else { return Outcome::Malformed };
        let news = stream.tape.record(recording, !stream.players.is_empty(), now, settings);
        if news && !stream.has_news && !stream.players.is_empty() {
            stream.has_news = true;
            self.news.push(id);
        }
        Outcome::Taken
    }

    /// Takes a stream whose players have something new.
    pub fn take_news(&mut self) -> Option<StreamId> {
        let id = self.news.pop()?;
        self.streams[id.0 as usize].has_news = false;
        Some(id)
    }

    /// Takes a stream whose publisher did not come back in time.
    pub fn take_ended(&mut self, now: Time) -> Option<StreamId> {
        let (until, id) = *self.lingering.first().filter(|(until, _)| *until <= now)?;
        self.lingering.remove(&(until, id));
        self.streams[id.0 as usize].lingers_until = Time::NEVER;
        Some(id)
    }

    /// When the next stream stops lingering.
    pub fn next_end(&self) -> Option<Time> {
        self.lingering.first().map(|(until, _)| *until)
    }

    /// Wire bytes on all tapes.
    pub fn tape_bytes(&self) -> usize {
        self.iter().map(|stream| stream.tape.bytes()).sum()
    }

    fn remove(&mut self, id: StreamId) {
        let stream = self.streams.remove(id.0 as usize);
        self.names.remove(&stream.name);
        self.lingering.remove(&(stream.lingers_until, id));
        if stream.has_news {
            self.news.retain(|news| *news != id);
        }
    }
}

fn interpret(kind: u8, payload: &[u8]) -> Result<DataMessage<'_>, amf0::Error> {
    match kind {
        kind::DATA_AMF3 => metadata::interpret_amf3(payload),
        _ => metadata::interpret(payload),
    }
}

fn data<'a>(message: &Message<'_>, payload: &'a [u8], is_metadata: bool) -> Recording<'a> {
    Recording {
        media: MediaKind::Data,
        needs: Needs::Nothing,
        header: is_metadata.then_some((HeaderKind::Metadata, media::Tracks::NONE)),
        timestamp: message.header.timestamp,
        payload,
    }
}

fn audio<'a>(message: &Message<'a>) -> Option<Recording<'a>> {
    let tag = media::classify_audio(message.payload).ok()?;
    let header = match tag.class {
        AudioClass::SequenceHeader => Some(HeaderKind::AudioSequence),
        AudioClass::Multichannel => Some(HeaderKind::Multichannel),
        _ => None,
    };
    Some(Recording {
        media: MediaKind::Audio,
        needs: Needs::Nothing,
        header: header.filter(|_| !tag.is_empty_config).map(|header| (header, tag.tracks)),
        timestamp: message.header.timestamp,
        payload: message.payload,
    })
}

fn video<'a>(message: &Message<'a>) -> Option<Recording<'a>> {
    let tag = media::classify_video(message.payload).ok()?;
    let header = match tag.class {
        VideoClass::SequenceHeader => Some(HeaderKind::VideoSequence),
        VideoClass::ColorInfo => Some(HeaderKind::ColorInfo),
        _ => None,
    };
    let needs = match tag.class {
        VideoClass::Keyframe if tag.is_gop_start() => Needs::StartsGop,
        VideoClass::Keyframe | VideoClass::Inter | VideoClass::Disposable => Needs::Gop,
        _ => Needs::Nothing,
    };
    Some(Recording {
        media: MediaKind::Video,
        needs,
        header: header.filter(|_| !tag.is_empty_config).map(|header| (header, tag.tracks)),
        timestamp: message.header.timestamp,
        payload: message.payload,
    })
}
