//! Sleeping sessions that are woken, one after another, while the others sleep: how long it takes
//! from there to the first picture of a live stream.
//!
//! Owns the stream, which one more session publishes, and the order of the wakes. A scenario that
//! holds sessions hands on what is due and what happens, and goes on as if the sessions that are
//! woken here were no longer its own.

use std::collections::BTreeMap;
use std::time::Duration;

use super::connection::{
    ConnectionEvent, ConnectionHead, ConnectionKey, ConnectionPhase, Ended, Message,
};
use super::engine::{Agenda, Engine, Scenario, Speak};
use super::report::{Better, Distribution, Figure, LoadReport};
use super::sessions::key_of;
use crate::rtmp::client::Purpose;
use crate::rtmp::message::kind;
use crate::time::Time;

/// From one keyframe of the stream to the next.
const FRAME_MS: u32 = 1000;
/// By how much longer than before is waited before each wake, up to the time between two
/// keyframes and from the start again. Its multiples are spread evenly: a server that lets a
/// player wait for a keyframe is met everywhere between two.
const PAUSE_STEP_MS: u32 = 618;

/// What begins a message with a keyframe of H.264: the kind of the frame and the codec, whether
/// it is a frame or the decoder configuration, and no composition offset.
const CONFIGURATION: [u8; 5] = [0x17, 0, 0, 0, 0];
const KEYFRAME: [u8; 5] = [0x17, 1, 0, 0, 0];
/// An `AVCDecoderConfigurationRecord`: Constrained Baseline 1, 160x128.
const AVC_CONFIGURATION: [u8; 23] = [
    1, 0x42, 0xc0, 0x0a, 0xff, 0xe1, 0, 8, 0x67, 0x42, 0xc0, 0x0a, 0xda, 0x0a, 0x11, 0x90, 1, 0, 4,
    0x68, 0xce, 0x3c, 0x80,
];
/// One NAL unit behind its length, which says that it is a slice of an IDR picture.
const AVC_KEYFRAME: [u8; 8] = [0, 0, 0, 4, 0x65, 0x88, 0x84, 0x21];

/// What of the wakes can be due.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// The stream begins.
    Publish,
    /// Its next keyframe.
    Frame,
    /// The next session is woken.
    Wake,
    /// This one has had its time.
    Overdue(ConnectionKey),
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Wakes {
    /// To be woken, the next one last.
    sleepers: Vec<ConnectionKey>,
    woken: u32,
    current: Option<(ConnectionKey, Time)>,
    publisher: Option<ConnectionKey>,
    frames: u32,
    /// From when a session was to be woken to the first picture that it read (us).
    wake: Distribution,
    failed: BTreeMap<&'static str, u32>,
    /// Why nobody could be woken.
    unpublished: Option<String>,
}

impl Wakes {
    /// Begins to wake `count` of `sleepers`, spread over all of them.
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

    /// How long the wakes of `count` sessions take when every one runs into `timeout`.
    pub(super) fn duration_max(count: u32, timeout: Duration) -> Duration {
        let frame = Duration::from_millis(u64::from(FRAME_MS));
        // The stream has two frames before the first wake.
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

    /// Whether the session is one that plays or publishes for the wakes.
    pub(super) fn owns(&self, head: &ConnectionHead) -> bool {
        matches!(head.goal, ConnectionPhase::Play | ConnectionPhase::Publish)
    }

    /// What happened on a session that belongs here.
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
            ConnectionEvent::Media(message) if is_picture(message) => {
                let Some((_, intended)) = self.current.filter(|(id, _)| *id == head.id) else {
                    return;
                };
                let took_us = agenda.now().since(intended).as_micros() as u64;
                self.wake.record(agenda.now().since(agenda.began()), took_us);
                agenda.close(head.id);
                self.go_on(agenda);
            }
            _ => {}
        }
    }

    /// A session that belongs here has ended.
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

    /// Sessions that were woken.
    pub(super) const fn woken(&self) -> u32 {
        self.woken
    }

    pub(super) fn report(self, report: &mut LoadReport) {
        if let Some(reason) = self.unpublished {
            report.add_doubt(format!(
                "the stream for the sessions that were to be woken could not be published: {reason}"
            ));
        }
        let woken = Figure::new("sessions_woken", f64::from(self.woken), Better::Neither);
        report.add_figure(woken);
        for (kind, count) in self.failed {
            let name = format!("wake_failed_{kind}");
            report.add_figure(Figure::new(&name, f64::from(count), Better::Lower));
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
        // The stream is there when its second picture is.
        if self.frames == 2 {
            self.go_on(engine.agenda());
        }
    }

    fn wake_next<S>(&mut self, engine: &mut Engine<S>, intended: Time)
    where
        S: Scenario<Conn = ()>,
        S::Due: From<Due>,
    {
        // Some may have ended in their sleep.
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
        self.go_on(agenda);
    }

    /// The one that was woken last is done with.
    fn go_on<D: From<Due>>(&mut self, agenda: &mut Agenda<D>) {
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

/// Whether a message has a frame of our stream and not only what a decoder must know.
fn is_picture(message: &Message<'_>) -> bool {
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
    fn pictures_are_told_from_what_comes_before_them() {
        let keyframe = [&KEYFRAME[..], &AVC_KEYFRAME].concat();
        assert!(is_picture(&message(kind::VIDEO, &keyframe)));
        assert!(is_picture(&message(kind::AGGREGATE, &[9])));
        assert!(!is_picture(&message(kind::VIDEO, &CONFIGURATION)));
        assert!(!is_picture(&message(kind::VIDEO, &[])));
        assert!(!is_picture(&message(kind::DATA_AMF0, &keyframe)));
    }

    #[test]
    fn the_lengths_within_the_configuration_are_those_of_what_follows() {
        let [head, sps, pps] =
            [&AVC_CONFIGURATION[..8], &AVC_CONFIGURATION[8..16], &AVC_CONFIGURATION[16..]];
        assert_eq!((usize::from(head[7]), sps[0] & 0x1f), (sps.len(), 7));
        assert_eq!((usize::from(pps[2]), pps[3] & 0x1f), (pps[3..].len(), 8));
        assert_eq!(sps[1..4], head[1..4], "profile and level are said twice");
        assert_eq!((usize::from(AVC_KEYFRAME[3]), AVC_KEYFRAME[4] & 0x1f), (4, 5));
    }
}
