//! Tests of the one write path: order, budgets, half-sent messages, refusals.

use super::*;
use crate::config::{Duplicate, Start};
use crate::limits;
use crate::rtmp::chunk::writer::wire_len;
use crate::rtmp::handshake::Hello;
use crate::rtmp::message::{Message, MessageHeader, UserControl, kind};
use crate::rtmp::session::{Receives, Session, SessionSettings};
use crate::server::conn::{Closing, Departure};
use crate::server::hub::DuplicatePolicy;
use crate::server::peer::{Peer, Protocol};
use crate::server::reason::CloseReason;
use crate::server::transport::Received;
use crate::stream::cursor::Play;
use crate::stream::framing::{Framing, MESSAGE_STREAM_ID};
use crate::stream::ids::{ConnId, Endpoint, StreamId};
use crate::stream::tape::TapeSettings;
use crate::test_support::{self, wire_messages};
use crate::time::Time;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::SocketAddr;

const CHUNK_SIZE: u32 = 128;
const TAPE: TapeSettings = TapeSettings { chunk_size: CHUNK_SIZE, ..test_support::TAPE };

/// What a write is answered with.
enum Answer {
    Takes(usize),
    Fails(ErrorKind),
}

/// A transport that answers writes by a script, and takes everything when that is over.
#[derive(Default)]
struct Scripted {
    script: VecDeque<Answer>,
    wire: Vec<u8>,
    writes: usize,
    slices_max: usize,
}

impl Transport for Scripted {
    fn read(&mut self, _: &mut [u8]) -> io::Result<Received> {
        Err(ErrorKind::WouldBlock.into())
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.writes += 1;
        self.slices_max = self.slices_max.max(slices.len());
        let room = match self.script.pop_front() {
            Some(Answer::Takes(room)) => room,
            Some(Answer::Fails(kind)) => return Err(kind.into()),
            None => usize::MAX,
        };
        let before = self.wire.len();
        for slice in slices {
            let room = room - (self.wire.len() - before);
            self.wire.extend_from_slice(&slice[..room.min(slice.len())]);
        }
        Ok(self.wire.len() - before)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection that plays one stream on each of its message streams.
struct Bench {
    hub: Hub,
    streams: Vec<StreamId>,
    conn: Conn<Scripted>,
}

impl Bench {
    fn new(message_stream_ids: &[u32]) -> Self {
        let settings = SessionSettings::new(Hello::new(&[7; 1528]));
        let address = SocketAddr::from(([10, 0, 0, 1], 4000));
        let peer = Peer::new(Protocol::Rtmp, &settings);
        let mut conn = Conn::new(Scripted::default(), address.into(), peer, Time::ZERO);
        let mut hub = Hub::default();
        let policy = DuplicatePolicy { rule: Duplicate::Reject, silent_ms: 0 };
        let mut streams = Vec::new();
        for id in message_stream_ids {
            let endpoint = Endpoint { conn: ConnId::new(9), lane: *id };
            let name = format!("live/{id}");
            let published = hub.publish(&name, endpoint, Time::ZERO, &policy, 0).unwrap();
            let tape = hub.channel(published.stream).tape();
            let receives = Receives::ALL;
            let (framing, start) = (Framing::Rtmp, Start::Live);
            let play = Play::new(published.stream, *id, framing, tape, start, receives);
            hub.add_player(published.stream, endpoint, framing);
            conn.activity_mut().plays.push(play);
            streams.push(published.stream);
        }
        session(&mut conn.peer).output_mut().set_chunk_size(CHUNK_SIZE);
        let mut bench = Self { hub, streams, conn };
        assert_eq!(bench.flush(), Flushed::All);
        bench.conn.transport = Scripted::default();
        bench
    }

    /// Publishes an audio message of `len` bytes of `fill` on a stream.
    fn publish(&mut self, stream: usize, fill: u8, len: usize) {
        let header = MessageHeader {
            chunk_stream_id: 4,
            timestamp: 0x0100_0000,
            kind: kind::AUDIO,
            message_stream_id: 1,
        };
        // The upper half of the first byte is the sound format: 2 is MP3, which is a frame
        // of one byte on.
        let mut payload = vec![fill; len];
        payload[0] = 0x20 | fill & 0x0f;
        let message = Message { header, payload: &payload }.into();
        self.hub.record(self.streams[stream], &message, Time::ZERO, &TAPE);
    }

    fn flush(&mut self) -> Flushed {
        // Some tests answer each of many calls.
        self.flush_within(&mut Budget { bytes: 1 << 20, messages: 1 << 20, calls: 1 << 20 })
    }

    fn flush_within(&mut self, budget: &mut Budget) -> Flushed {
        self.try_flush(budget).unwrap()
    }

    fn try_flush(&mut self, budget: &mut Budget) -> io::Result<Flushed> {
        Outbox::default().flush(&mut self.conn, &self.hub, budget)
    }

    fn script(&mut self, answers: impl IntoIterator<Item = Answer>) {
        self.conn.transport.script.extend(answers);
    }

    fn control(&mut self) {
        self.conn.peer.ping(1);
    }

    /// Message type, message stream id and payload length of all that was written.
    fn written(&self) -> Vec<(u8, u32, usize)> {
        wire_messages(&self.conn.transport.wire, CHUNK_SIZE)
            .iter()
            .map(|(header, payload)| (header.kind, header.message_stream_id, payload.len()))
            .collect()
    }
}

const PING: (u8, u32, usize) = (kind::USER_CONTROL, 0, 6);

#[test]
fn a_half_sent_message_goes_before_control_and_control_before_media() {
    let mut bench = Bench::new(&[1]);
    bench.publish(0, 1, 300);
    bench.script([Answer::Takes(50), Answer::Fails(ErrorKind::WouldBlock)]);
    assert_eq!(bench.flush(), Flushed::Blocked);
    assert!(!bench.conn.writable);
    bench.control();
    bench.publish(0, 2, 200);
    assert!(bench.conn.has_pending(&bench.hub));
    assert_eq!(bench.flush(), Flushed::All);
    assert_eq!(bench.written(), [(kind::AUDIO, 1, 300), PING, (kind::AUDIO, 1, 200)]);
    assert!(!bench.conn.has_pending(&bench.hub));
    assert_eq!(bench.conn.bytes_out as usize - bench.conn.transport.wire.len(), 16);
}

#[test]
fn a_transport_that_takes_nothing_and_does_not_say_why_ends_the_connection() {
    let mut bench = Bench::new(&[1]);
    bench.publish(0, 1, 300);
    bench.script([Answer::Takes(10), Answer::Takes(0), Answer::Takes(0)]);
    let error = bench.try_flush(&mut { Budget::WRITE }).unwrap_err();
    assert_eq!((error.kind(), bench.conn.transport.writes), (ErrorKind::WriteZero, 2));
}

#[test]
fn however_little_is_taken_the_order_and_the_bytes_stay() {
    for ids in [&[1][..], &[2], &[1, 2, 3]] {
        let fill = |bench: &mut Bench| {
            for stream in 0..ids.len() {
                bench.publish(stream, 1, 300);
                bench.publish(stream, 2, 1);
                bench.publish(stream, 3, 128);
            }
            bench.control();
        };
        let mut at_once = Bench::new(ids);
        for _ in 0..2 {
            fill(&mut at_once);
            assert_eq!(at_once.flush(), Flushed::All);
        }
        let mut expected = at_once.written();
        assert_eq!(expected.len(), 2 * (1 + 3 * ids.len()));
        for step in (1..60).chain([127, 128, 300, 900]) {
            let mut bench = Bench::new(ids);
            bench.script((0..3000).map(|_| Answer::Takes(step)));
            for _ in 0..2 {
                fill(&mut bench);
                assert_eq!(bench.flush(), Flushed::All);
            }
            let mut written = bench.written();
            for messages in [&mut written, &mut expected] {
                messages.sort_by_key(|(_, stream, _)| *stream);
            }
            assert_eq!(written, expected, "{step} bytes at a time to {ids:?}");
        }
    }
}

#[test]
fn a_paused_play_keeps_its_place_while_the_others_are_sent_everything() {
    let mut bench = Bench::new(&[1, 2]);
    for is_paused in [true, false] {
        let Bench { hub, streams, conn } = &mut bench;
        let tape = hub.channel(streams[0]).tape();
        conn.play_mut(1).unwrap().pause(is_paused, tape);
        bench.publish(1, 1, 300);
        bench.publish(0, 1, if is_paused { 200 } else { 100 });
        assert_eq!(bench.flush(), Flushed::All);
    }
    let (first, second): (Vec<_>, Vec<_>) =
        bench.written().into_iter().partition(|(_, stream, _)| *stream == 1);
    assert_eq!(first, [(kind::AUDIO, 1, 200), (kind::AUDIO, 1, 100)]);
    assert_eq!(second, [(kind::AUDIO, 2, 300); 2]);
}

#[test]
fn a_write_is_cut_by_the_budget_of_the_turn() {
    let message = wire_len(&MessageHeader { timestamp: u32::MAX, ..HEADER }, 1000, CHUNK_SIZE);
    for (budget, outcome) in
        [(message, Flushed::All), (message - 1, Flushed::Budget), (1, Flushed::Budget)]
    {
        let mut bench = Bench::new(&[1]);
        bench.publish(0, 1, 1000);
        assert_eq!(bench.flush_within(&mut Budget { bytes: budget, ..Budget::WRITE }), outcome);
        assert_eq!(bench.conn.transport.wire.len(), budget);
        assert_eq!(bench.flush(), Flushed::All);
        assert_eq!(bench.written(), [(kind::AUDIO, 1, 1000)]);
    }
}

#[test]
fn more_messages_than_slices_take_more_writes() {
    for (messages, writes) in [(limits::WRITE_SLICES_MAX, 1), (limits::WRITE_SLICES_MAX + 1, 2)] {
        let mut bench = Bench::new(&[1]);
        (0..messages).for_each(|_| bench.publish(0, 1, limits::WRITE_COPIED_BYTES_MAX));
        assert_eq!(bench.flush(), Flushed::All);
        assert_eq!(bench.conn.transport.writes, writes);
        assert_eq!(bench.conn.transport.slices_max, limits::WRITE_SLICES_MAX);
        assert_eq!(bench.written().len(), messages);
    }
}

#[test]
fn errors_of_the_transport_are_told_apart() {
    let mut bench = Bench::new(&[1]);
    bench.publish(0, 1, 10);
    bench.script([Answer::Fails(ErrorKind::Interrupted)]);
    assert_eq!(bench.flush(), Flushed::All);
    for (answer, expected) in [
        (Answer::Takes(0), ErrorKind::WriteZero),
        (Answer::Fails(ErrorKind::ConnectionReset), ErrorKind::ConnectionReset),
    ] {
        bench.publish(0, 1, 10);
        bench.script([answer]);
        let error = bench.try_flush(&mut { Budget::WRITE }).unwrap_err();
        assert_eq!(error.kind(), expected);
    }
}

#[test]
fn who_is_on_its_way_out_gets_the_rest_of_a_message_and_why_but_no_more_media() {
    let mut bench = Bench::new(&[1]);
    bench.publish(0, 1, 300);
    bench.publish(0, 2, 300);
    bench.script([Answer::Takes(50), Answer::Fails(ErrorKind::WouldBlock)]);
    bench.flush();
    let closing = Closing::new(CloseReason::ServerShutdown, String::new(), Departure::Farewell);
    bench.conn.closing = Some(Box::new(closing));
    bench.control();
    assert_eq!(bench.flush(), Flushed::All);
    assert_eq!(bench.written(), [(kind::AUDIO, 1, 300), PING]);
}

#[test]
fn players_on_any_message_stream_get_their_own_id() {
    let mut bench = Bench::new(&[3, 1, 2]);
    for stream in 0..3 {
        bench.publish(stream, 1, 1000);
        bench.publish(stream, 1, 5);
    }
    assert_eq!(bench.flush(), Flushed::All);
    let mut written = bench.written();
    written.sort_by_key(|(_, id, len)| (*id, 1000 - len));
    let expected: Vec<_> =
        (1..=3).flat_map(|id| [(kind::AUDIO, id, 1000), (kind::AUDIO, id, 5)]).collect();
    assert_eq!(written, expected);
}

fn session(peer: &mut Peer) -> &mut Session {
    let Peer::Rtmp(session) = peer else { panic!("{peer:?}") };
    session
}

#[test]
fn control_output_gives_its_memory_back() {
    let mut bench = Bench::new(&[]);
    session(&mut bench.conn.peer).output_mut().user_control(UserControl::StreamBegin(1));
    bench.flush();
    assert!(!bench.conn.peer.has_pending());
}

const HEADER: MessageHeader = MessageHeader {
    chunk_stream_id: 6,
    timestamp: 40,
    kind: kind::VIDEO,
    message_stream_id: MESSAGE_STREAM_ID,
};

#[test]
fn a_join_to_a_long_backlog_of_tiny_messages_costs_one_visit_a_message() {
    for ids in [&[1][..], &[7], &[1, 2]] {
        let mut bench = Bench::new(ids);
        const MESSAGES: usize = 20_000;
        (0..MESSAGES).for_each(|_| bench.publish(0, 1, 1));
        let (mut visits, mut calls) = (0, 0);
        loop {
            let mut budget = Budget::WRITE;
            let flushed = bench.flush_within(&mut budget);
            visits += Budget::WRITE.messages - budget.messages;
            calls += Budget::WRITE.calls - budget.calls;
            if flushed == Flushed::All {
                break;
            }
            assert_eq!(budget.messages, 0, "messages end the share, not calls or bytes");
        }
        assert_eq!(bench.written().len(), MESSAGES);
        assert_eq!(visits, MESSAGES, "on {ids:?}");
        let shares = MESSAGES.div_ceil(Budget::WRITE.messages);
        assert!(calls <= 2 * shares, "{calls} calls in {shares} shares on {ids:?}");
    }
}

#[test]
fn a_player_that_wants_nothing_of_a_long_backlog_is_past_it_in_a_bounded_time() {
    let mut bench = Bench::new(&[1]);
    let tape = bench.hub.channel(bench.streams[0]).tape();
    bench.conn.play_mut(1).unwrap().receive_audio(false, tape);
    (0..3 * Budget::WRITE.messages).for_each(|_| bench.publish(0, 1, 1));
    for expected in [Flushed::Budget, Flushed::Budget, Flushed::All] {
        let mut budget = Budget::WRITE;
        assert_eq!(bench.flush_within(&mut budget), expected);
        assert_eq!((budget.messages, budget.calls), (0, Budget::WRITE.calls));
    }
    assert!(bench.written().is_empty());
}

#[test]
fn a_transport_that_takes_a_byte_at_a_time_ends_its_share_with_its_calls() {
    let mut bench = Bench::new(&[1]);
    bench.publish(0, 1, 1000);
    bench.script((0..100).map(|_| Answer::Takes(1)));
    assert_eq!(bench.flush_within(&mut { Budget::WRITE }), Flushed::Budget);
    assert_eq!(bench.conn.transport.writes, limits::WRITE_CALLS_PER_TURN_MAX);
}
