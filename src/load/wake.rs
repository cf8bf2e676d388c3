//! Wakes resting sessions one after another, while the others rest, and measures the time to the
//! first video frame of a live stream.
//!
//! Owns the stream, which one additional session publishes, and the order of the wakeups. The
//! scenario passes on due actions and events, and no longer counts the sessions that are woken here
//! as its own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::connection::{
    ConnectionEvent, ConnectionHead, ConnectionKey, ConnectionPhase, Ended, Message,
};
use super::engine::{Agenda, Engine, Scenario, Speak};
use super::report::{Distribution, Figure, LoadReport};
use super::sessions::key_of;
use crate::rtmp::client::Purpose;
use crate::rtmp::message::kind;
use crate::time::Time;

/// Interval between two keyframes of the stream.
const FRAME_MS: u32 = 1000;
/// Increment of the pause before each wakeup, modulo the keyframe interval. Its multiples are
/// spread evenly over the interval, so a server that makes players wait for a keyframe is sampled
/// at all phases.
const PAUSE_STEP_MS: u32 = 618;

/// Start of an AVC video message: frame type and codec, packet type (configuration or frame), and
/// no composition time offset.
const CONFIGURATION: [u8; 5] = [0x17, 0, 0, 0, 0];
const KEYFRAME: [u8; 5] = [0x17, 1, 0, 0, 0];
/// An `AVCDecoderConfigurationRecord`: Constrained Baseline 1.0, 160x128.
const AVC_CONFIGURATION: [u8; 23] = [
    1, 0x42, 0xc0, 0x0a, 0xff, 0xe1, 0, 8, 0x67, 0x42, 0xc0, 0x0a, 0xda, 0x0a, 0x11, 0x90, 1, 0, 4,
    0x68, 0xce, 0x3c, 0x80,
];
/// One length-prefixed NAL unit with the type of an IDR slice.
const AVC_KEYFRAME: [u8; 8] = [0, 0, 0, 4, 0x65, 0x88, 0x84, 0x21];

/// Scheduled actions of the wakeups.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// Publish the stream.
    Publish,
    /// Write the next keyframe.
    Frame,
    /// Wake the next session.
    Wake,
    /// Deadline of a session that was woken.
    Overdue(ConnectionKey),
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Wakes {
    /// Sessions to wake; the next one is last.
    sleepers: Vec<ConnectionKey>,
    woken: u32,
    current: Option<(ConnectionKey, Time)>,
    publisher: Option<ConnectionKey>,
    frames: u32,
    /// Time from the intended wakeup of a session to its first video frame (us).
    wake: Distribution,
    failed: BTreeMap<&'static str, u32>,
    /// Why the stream could not be published.
    unpublished: Option<String>,
}

impl Wakes {
    /// Starts to wake `count` of `sleepers`, spread evenly.
    pub(super) fn begin<D: From<Due>>(
        agenda: &mut Agenda<D>,
        sleepers: &[ConnectionKey],
        count: usize,
    ) -> Self {
        let step = (sleepers.len() / count.max(1)).max(1);
        agenda.at(agenda.now(), Due::Publish.into());
        Self {
            sleepers: sleepers.iter().step_by(step).take(count).copied().collect(),
            woken: 0,
            current: None,
            publisher: None,
            frames: 0,
            wake: Distribution::new("wake"),
            failed: BTreeMap::new(),
            unpublished: None,
        }
    }

    /// Returns the time it takes to wake `count` sessions if each one times out.
    pub(super) fn duration_max(count: u32, timeout: Duration) -> Duration {
        let frame = Duration::from_millis(u64::from(FRAME_MS));
        // The stream has two frames before the first wakeup.
        (timeout + frame).saturating_mul(count.saturating_add(2))
    }

    pub(super) fn due<S>(&mut self, engine: &mut Engine<S>, due: Due, intended: Time)
    where
        S: Scenario<Conn = ()>,
        S::Due: From<Due>,
    {
        match due {
            Due::Publish => {
                let target = &engine.plan().target;
                let purpose = Purpose::Publish { key: key_of(target) };
                let speak = Speak::Rtmp(target.client(purpose));
                self.publisher = engine.open(intended, speak, ());
            }
            Due::Frame => self.write_frame(engine, intended),
            Due::Wake => self.wake_next(engine, intended),
            Due::Overdue(id) => {
                if self.current.is_some_and(|(current, _)| current == id) {
                    engine.agenda().close(id);
                    self.fail(engine.agenda(), "no_media");
                }
            }
        }
    }

    /// Returns whether the session plays or publishes for the wakeups.
    pub(super) fn owns(&self, head: &ConnectionHead) -> bool {
        matches!(head.goal, ConnectionPhase::Play | ConnectionPhase::Publish)
    }

    /// Handles an event of a session that plays or publishes here.
    pub(super) fn event<D: From<Due>>(
        &mut self,
        agenda: &mut Agenda<D>,
        head: &ConnectionHead,
        event: &ConnectionEvent<'_>,
    ) {
        match event {
            ConnectionEvent::Reached { phase: ConnectionPhase::Publish, .. } => {
                agenda.at(agenda.now(), Due::Frame.into());
            }
            ConnectionEvent::Media(message) if is_frame(message) => {
                let Some((_, intended)) = self.current.filter(|(id, _)| *id == head.id) else {
                    return;
                };
                let took_us = agenda.now().since(intended).as_micros() as u64;
                self.wake.record(intended.since(agenda.began()), took_us);
                agenda.close(head.id);
                self.proceed(agenda);
            }
            _ => {}
        }
    }

    /// Handles the end of a session that plays or publishes here.
    pub(super) fn closed<D: From<Due>>(&mut self, agenda: &mut Agenda<D>, ended: &Ended) {
        if !ended.reason.is_failure() {
            return;
        }
        if ended.head.goal == ConnectionPhase::Publish {
            self.unpublished = Some(ended.reason.to_string());
            agenda.stop();
        } else if self.current.is_some_and(|(id, _)| id == ended.head.id) {
            self.fail(agenda, ended.reason.kind());
        }
    }

    /// Returns the number of sessions woken.
    pub(super) const fn woken(&self) -> u32 {
        self.woken
    }

    pub(super) fn report(self, report: &mut LoadReport) {
        if let Some(reason) = self.unpublished {
            report.add_doubt(format!(
                "the stream for the sessions to be woken could not be published: {reason}"
            ));
        }
        report.add_figure(Figure::new("sessions_woken", f64::from(self.woken)));
        for (kind, count) in self.failed {
            let name = format!("wake_failed_{kind}");
            report.add_figure(Figure::new(&name, f64::from(count)));
        }
        if !self.wake.is_empty() {
            report.distributions.push(self.wake);
        }
    }

    fn write_frame<S>(&mut self, engine: &mut Engine<S>, intended: Time)
    where
        S: Scenario<Conn = ()>,
        S::Due: From<Due>,
    {
        let Some(client) = self.publisher.and_then(|id| engine.write(id)?.client()) else { return };
        if self.frames == 0 {
            client.write_video(0, &[&CONFIGURATION[..], &AVC_CONFIGURATION].concat());
        }
        let timestamp = self.frames.wrapping_mul(FRAME_MS);
        client.write_video(timestamp, &[&KEYFRAME[..], &AVC_KEYFRAME].concat());
        self.frames += 1;
        let next = intended.plus_millis(u64::from(FRAME_MS));
        engine.agenda().at(next, Due::Frame.into());
        // The first wakeup waits for the second keyframe, so that the server has a complete GOP.
        if self.frames == 2 {
            self.proceed(engine.agenda());
        }
    }

    fn wake_next<S>(&mut self, engine: &mut Engine<S>, intended: Time)
    where
        S: Scenario<Conn = ()>,
        S::Due: From<Due>,
    {
        // Some sessions may have ended while they rested.
        let id =
            std::iter::from_fn(|| self.sleepers.pop()).find(|id| engine.connection(*id).is_some());
        let Some(id) = id else { return engine.agenda().stop() };
        let (target, timeout) = (&engine.plan().target, engine.plan().timeout);
        let config = target.client(Purpose::Play { key: key_of(target) });
        self.current = Some((id, intended));
        self.woken += 1;
        engine.go_on(id, intended, config);
        engine.agenda().at(intended + timeout, Due::Overdue(id).into());
    }

    fn fail<D: From<Due>>(&mut self, agenda: &mut Agenda<D>, kind: &'static str) {
        *self.failed.entry(kind).or_default() += 1;
        self.proceed(agenda);
    }

    /// Moves on to the next session.
    fn proceed<D: From<Due>>(&mut self, agenda: &mut Agenda<D>) {
        self.current = None;
        match self.sleepers.is_empty() {
            true => agenda.stop(),
            false => {
                let pause_ms = self.woken.wrapping_mul(PAUSE_STEP_MS) % FRAME_MS;
                agenda.at(agenda.now().plus_millis(u64::from(pause_ms)), Due::Wake.into());
            }
        }
    }
}

/// Returns whether a message has a frame of the stream, not only a decoder configuration.
fn is_frame(message: &Message<'_>) -> bool {
    match message.header.kind {
        kind::VIDEO => message.payload.starts_with(&KEYFRAME[..2]),
        kind::AGGREGATE => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::message::MessageHeader;

    fn message(kind: u8, payload: &[u8]) -> Message<'_> {
        let header = MessageHeader { chunk_stream_id: 6, timestamp: 0, kind, message_stream_id: 1 };
        Message { header, payload }
    }

    #[test]
    fn frames_are_told_from_decoder_configurations() {
        let keyframe = [&KEYFRAME[..], &AVC_KEYFRAME].concat();
        assert!(is_frame(&message(kind::VIDEO, &keyframe)));
        assert!(is_frame(&message(kind::AGGREGATE, &[9])));
        assert!(!is_frame(&message(kind::VIDEO, &CONFIGURATION)));
        assert!(!is_frame(&message(kind::VIDEO, &[])));
        assert!(!is_frame(&message(kind::DATA_AMF0, &keyframe)));
    }

    #[test]
    fn the_lengths_in_the_configuration_match_its_parts() {
        let [head, sps, pps] =
            [&AVC_CONFIGURATION[..8], &AVC_CONFIGURATION[8..16], &AVC_CONFIGURATION[16..]];
        assert_eq!((usize::from(head[7]), sps[0] & 0x1f), (sps.len(), 7));
        assert_eq!((usize::from(pps[2]), pps[3] & 0x1f), (pps[3..].len(), 8));
        assert_eq!(sps[1..4], head[1..4], "profile and level occur twice");
        assert_eq!((usize::from(AVC_KEYFRAME[3]), AVC_KEYFRAME[4] & 0x1f), (4, 5));
    }
}
