//! The options in the query of a stream's URL.
//!
//! Owns their names and values. A value that an option does not have is refused with the values
//! that it has. Other names are left alone: players and people add parameters of their own, against
//! caches for instance.

use super::Answer;
use super::place::Container;
use crate::http::requests::HttpRequest;
use crate::http::response::HttpStatus;
use crate::media::fmp4::TrackConfig;
use crate::rtmp::session::Receives;
use crate::stream::frame::HeaderKind;
use crate::stream::framing::ChosenTracks;
use crate::stream::tape::Tape;

/// What a player asks for in the query of its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ViewOptions {
    /// The media that it receives: `audio=0`, `video=0`.
    pub(super) receives: Receives,
    /// The track of FLV: `track`.
    track: TrackOption,
    /// The codecs that it plays, for MP4: `codecs`. `None` for all.
    codecs: Option<Box<str>>,
    /// Whether the body is chunked: `chunked`.
    pub(super) is_chunked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrackOption {
    Id(u8),
    All,
}

impl Default for ViewOptions {
    fn default() -> Self {
        let track = TrackOption::Id(0);
        Self { receives: Receives::ALL, track, codecs: None, is_chunked: false }
    }
}

impl ViewOptions {
    /// Reads the options of a request, or returns the answer that one of them is wrong.
    pub(super) fn parse(request: &HttpRequest, container: Container) -> Result<Self, Answer> {
        let flag = |name, default| match request.query_value(name).as_deref() {
            None => Ok(default),
            Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(_) => Err(wrong(&format!("{name} is 0 or 1"))),
        };
        let receives = Receives { audio: flag("audio", true)?, video: flag("video", true)? };
        if !receives.audio && !receives.video {
            return Err(wrong("audio and video cannot both be 0"));
        }
        // HTTP/1.0 and WebSocket have no chunks. A URL may be used for all of them.
        let has_chunks = !request.is_http10() && request.wants_websocket().is_none();
        let is_chunked = flag("chunked", false)? && has_chunks;
        let (track, codecs) = (request.query_value("track"), request.query_value("codecs"));
        match container {
            Container::Flv if codecs.is_some() => {
                return Err(wrong("codecs is an option of MP4; FLV has audio, video and track"));
            }
            Container::Mp4 if track.is_some() => {
                return Err(wrong("track is an option of FLV; MP4 has audio, video and codecs"));
            }
            _ => {}
        }
        let track = match track.as_deref() {
            None => TrackOption::Id(0),
            Some("all") => TrackOption::All,
            Some(id) => {
                let id = id.parse().map_err(|_| wrong("track is a number up to 255, or all"))?;
                TrackOption::Id(id)
            }
        };
        if codecs.as_deref().is_some_and(|codecs| codecs.trim().is_empty()) {
            return Err(wrong("codecs is a list, such as avc1.640028,mp4a.40.2,opus"));
        }
        Ok(Self { receives, track, codecs: codecs.map(Into::into), is_chunked })
    }

    /// Returns the tracks that a player of FLV receives. A medium without the track that was asked
    /// for has its default track.
    pub(super) fn tracks(&self, tape: &Tape) -> ChosenTracks {
        let TrackOption::Id(id) = self.track else { return ChosenTracks::All };
        let of = |kind| if tape.has_header_of(kind, id) { id } else { 0 };
        ChosenTracks::One {
            video: of(HeaderKind::VideoSequence),
            audio: of(HeaderKind::AudioSequence),
        }
    }

    /// Returns whether the player plays a track of MP4. A codec counts without its profile and
    /// level: a decoder that has the codec may still play a part of the stream, and the list of a
    /// browser names a few profiles only.
    pub(super) fn plays(&self, track: &TrackConfig) -> bool {
        let Receives { audio, video } = self.receives;
        let is_received = if track.is_video() { video } else { audio };
        let Some(codecs) = &self.codecs else { return is_received };
        let family = family_of(track.codec_string());
        is_received && codecs.split(',').any(|codec| family_of(codec.trim()) == family)
    }

    /// Returns the memory that the options hold in addition to this struct (bytes).
    pub(super) fn held_bytes(&self) -> usize {
        self.codecs.as_ref().map_or(0, |codecs| codecs.len())
    }
}

fn wrong(detail: &str) -> Answer {
    Answer::problem(HttpStatus::BadRequest, "bad_option", detail)
}

/// Returns the part of a codec string that names the codec (RFC 6381, section 3.3). `mp4a` and the
/// object type after it name several.
fn family_of(codec: &str) -> String {
    let mut parts = codec.split('.');
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    match &*name {
        "mp4a" => match parts.next().unwrap_or("40").to_ascii_lowercase().as_str() {
            "6b" | "69" => "mp3".to_owned(),
            "a5" => "ac-3".to_owned(),
            "a6" => "ec-3".to_owned(),
            _ => name,
        },
        "avc3" => "avc1".to_owned(),
        "hev1" => "hvc1".to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::requests::{HttpArrival, RequestReader};
    use crate::media::flv::FlvReader;
    use crate::media::{AudioCodec, MediaKind};

    fn parse(query: &str, container: Container) -> Result<ViewOptions, String> {
        let mut bytes = format!("GET /a/b?{query} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        let arrival = RequestReader::default().next(&mut &mut bytes[..]).unwrap().unwrap();
        let HttpArrival::Request(request) = arrival else { panic!() };
        let text = |answer: Answer| {
            String::from_utf8(answer.body.pieces().collect::<Vec<_>>().concat()).unwrap()
        };
        ViewOptions::parse(&request, container).map_err(text)
    }

    #[test]
    fn options_have_defaults_and_names_that_are_none_are_left_alone() {
        for query in ["", "t=1700000000", "audio=1&video=1&chunked=0&track=0", "sign=x&exp=1"] {
            assert_eq!(parse(query, Container::Flv), Ok(ViewOptions::default()), "{query}");
        }
        let options = parse("audio=0&track=7&chunked=1", Container::Flv).unwrap();
        assert_eq!(options.receives, Receives { audio: false, video: true });
        assert_eq!((options.track, options.is_chunked), (TrackOption::Id(7), true));
        assert_eq!(parse("track=all", Container::Flv).unwrap().track, TrackOption::All);
    }

    #[test]
    fn a_value_that_an_option_does_not_have_is_refused_with_those_that_it_has() {
        for (query, container, expected) in [
            ("audio=no", Container::Flv, "audio is 0 or 1"),
            ("video=", Container::Mp4, "video is 0 or 1"),
            ("chunked=yes", Container::Mp4, "chunked is 0 or 1"),
            ("audio=0&video=0", Container::Flv, "cannot both be 0"),
            ("track=256", Container::Flv, "a number up to 255, or all"),
            ("track=-1", Container::Flv, "a number up to 255, or all"),
            ("track=0", Container::Mp4, "an option of FLV"),
            ("codecs=avc1", Container::Flv, "an option of MP4"),
            ("codecs=", Container::Mp4, "codecs is a list"),
        ] {
            let text = parse(query, container).unwrap_err();
            assert!(text.contains(expected) && text.contains("bad_option"), "{query}: {text}");
        }
    }

    #[test]
    fn codecs_are_compared_without_their_profiles() {
        let file = include_bytes!("../../../tests/vectors/ffmpeg5_h264_aac.flv");
        let mut reader = FlvReader::new(file).unwrap();
        let mut tags = std::iter::from_fn(|| reader.next_tag().unwrap());
        let header = tags.find(|tag| tag.media == MediaKind::Video).unwrap();
        let avc = TrackConfig::from_video_header(header.payload).unwrap();
        let mp3 = TrackConfig::from_audio(AudioCodec::Mp3, &[0xff, 0xfb, 0x90, 0x64]).unwrap();
        for (codecs, plays_avc, plays_mp3) in [
            ("avc1.640029,mp4a.40.2", true, false),
            ("AVC3,+mp3", true, true),
            ("hvc1.1.6.L153.B0,mp4a.6B", false, true),
            ("opus", false, false),
        ] {
            let options = parse(&format!("codecs={codecs}"), Container::Mp4);
            let Ok(options) = options else { panic!("{codecs}") };
            assert_eq!((options.plays(&avc), options.plays(&mp3)), (plays_avc, plays_mp3));
        }
        assert!(!parse("video=0", Container::Mp4).unwrap().plays(&avc));
    }
}
