//! Warnings about encoders whose settings could be better.

use super::Server;
use super::lines::Topic;
use super::read::Recorded;
use super::transport::Transport;
use crate::limits;
use crate::rtmp::quirks::Quirk;
use crate::stream::Note;
use crate::stream::ids::{ConnId, StreamId};
use crate::stream::keyframes::Unmarked;
use crate::time::Time;
use log::{Level, log};

impl<T: Transport> Server<T> {
    /// Counts media that was dropped, and logs what the user of the encoder should change.
    #[inline]
    pub(super) fn note_recorded(&mut self, id: ConnId, recorded: &Recorded, now: Time) {
        let Recorded { malformed, unusable, note, .. } = *recorded;
        if malformed + unusable > 0 {
            self.stats.messages_dropped += (malformed + unusable) as u64;
            let session = &mut self.table[id].peer;
            (0..malformed).for_each(|_| session.tolerate(Quirk::MalformedMedia));
            (0..unusable).for_each(|_| session.tolerate(Quirk::UnusableData));
        }
        if let Some((stream, note)) = note {
            self.note(id, stream, note, now);
        }
    }

    fn note(&mut self, id: ConnId, stream: StreamId, note: Note, now: Time) {
        match note {
            Note::Unmarked(unmarked) => {
                self.table[id].peer.tolerate(Quirk::KeyframesUnmarked);
                self.advise(id, stream, unmarked_advice(unmarked), now);
            }
            Note::GopCut { is_first } => {
                self.stats.gops_cut += 1;
                if is_first {
                    let bytes_max = self.policies.tape.bytes_max;
                    let advice = format!(
                        "a GOP is larger than limits.tape_bytes_max ({bytes_max} bytes), so late \
                         viewers wait for the next keyframe; set the keyframe interval of the \
                         encoder to 2 s or raise the limit"
                    );
                    self.advise(id, stream, &advice, now);
                }
            }
            Note::HeaderLeftOut { is_first } => {
                self.stats.headers_left_out += 1;
                if is_first {
                    let advice = format!(
                        "the encoder sends more than {} metadata and decoder configuration \
                         messages, or more than {} KiB of them, so late viewers do not receive \
                         all; let the encoder send fewer tracks or smaller metadata",
                        limits::HEADERS_MAX,
                        limits::HEADERS_BYTES_MAX / limits::KIB
                    );
                    self.advise(id, stream, &advice, now);
                }
            }
        }
    }

    fn advise(&mut self, id: ConnId, stream: StreamId, advice: &str, now: Time) {
        let level = self.level(Topic::Stream, Level::Warn, now);
        let name = self.policies.access.shown(self.hub.channel(stream).name());
        log!(level, "{} publishes {name}: {advice}", self.table[id].address());
    }
}

const fn unmarked_advice(unmarked: Unmarked) -> &'static str {
    match unmarked {
        Unmarked::Found => {
            "the encoder marks no keyframes; this server finds them in the pictures, but other \
             servers do not; look for an update of the encoder"
        }
        Unmarked::None => {
            "the encoder sends no keyframes, so viewers see a damaged picture at first; set its \
             keyframe interval to 2 s and turn intra refresh off"
        }
    }
}
