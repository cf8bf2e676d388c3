//! Decodes command messages (RTMP 1.0, section 7.2).
//!
//! Owns the names of commands, the order of their arguments, and the tolerance for the variants
//! that encoders write.

use super::{Command, CommandError, CommandMessage, Connect, PublishKind, Status};
use crate::amf0::{Decoder, Error as AmfError, Property, Value};

impl<'a> CommandMessage<'a> {
    /// Decodes the payload of a command message.
    ///
    /// An AMF0 command (type 20) is plain AMF0. An AMF3 command (type 17) is a format byte of zero
    /// followed by AMF0 (Enhanced RTMP v2). Some senders leave the byte out, and others write it
    /// before AMF0 as well. So the message type is ignored and the first byte decides: zero is also
    /// the marker of a number, but no command begins with a number.
    ///
    /// Arguments that the command does not have are not decoded, so garbage there does no harm.
    pub fn decode(payload: &'a [u8]) -> Result<Self, CommandError> {
        let mut decoder = Decoder::new(payload.strip_prefix(&[0]).unwrap_or(payload));
        let name = decoder.next_value()?.ok_or(CommandError::Empty)?;
        let name = without_nul(name.as_str_bytes().ok_or(CommandError::NameNotString)?);
        let mut arguments = Arguments { decoder, object: Value::Undefined };
        let transaction_id = arguments.next()?.as_number().unwrap_or_default();
        arguments.object = arguments.next()?;
        let command = read_of(name).map_or(Ok(Command::Unknown), |read| read(&mut arguments))?;
        Ok(Self { name, transaction_id, command })
    }
}

pub(super) type Read = for<'a> fn(&mut Arguments<'a>) -> Result<Command<'a>, AmfError>;

/// All known commands. No two names differ only in case, so a lookup that ignores case also finds
/// the `fcpublish` of some encoders.
pub(super) const COMMANDS: [(&str, Read); 24] = [
    ("connect", |arguments| Ok(Command::Connect(Connect::read(&arguments.object)))),
    ("releaseStream", |arguments| Ok(Command::ReleaseStream { key: arguments.text()? })),
    ("FCPublish", |arguments| Ok(Command::FcPublish { key: arguments.text()? })),
    ("FCUnpublish", |arguments| Ok(Command::FcUnpublish { key: arguments.text()? })),
    ("createStream", |_| Ok(Command::CreateStream)),
    ("publish", |arguments| {
        let name = arguments.next()?;
        if name.as_bool() == Some(false) {
            return Ok(Command::StopPublishing);
        }
        let key = name.as_str_bytes().unwrap_or_default();
        Ok(Command::Publish { key, kind: PublishKind::parse(arguments.text()?) })
    }),
    ("play", read_play),
    ("play2", read_play2),
    ("pause", |arguments| {
        let paused = arguments.next()?.as_bool().unwrap_or(true);
        Ok(Command::Pause { paused, ms: arguments.ms()? })
    }),
    ("pauseRaw", |arguments| {
        let paused = arguments.next()?.as_bool().unwrap_or(true);
        Ok(Command::PauseRaw { paused, ms: arguments.ms()? })
    }),
    ("seek", |arguments| Ok(Command::Seek { ms: arguments.ms()? })),
    ("receiveAudio", |arguments| {
        Ok(Command::ReceiveAudio { on: as_switch(&arguments.next()?).unwrap_or(true) })
    }),
    ("receiveVideo", |arguments| {
        Ok(Command::ReceiveVideo { on: as_switch(&arguments.next()?).unwrap_or(true) })
    }),
    ("deleteStream", |arguments| {
        let message_stream_id = arguments.next()?.as_number().and_then(whole_number);
        Ok(Command::DeleteStream { message_stream_id })
    }),
    ("closeStream", |_| Ok(Command::CloseStream)),
    ("getStreamLength", |arguments| Ok(Command::GetStreamLength { key: arguments.text()? })),
    ("FCSubscribe", |arguments| Ok(Command::FcSubscribe { key: arguments.text()? })),
    ("FCUnsubscribe", |arguments| Ok(Command::FcUnsubscribe { key: arguments.text()? })),
    ("_checkbw", |_| Ok(Command::CheckBandwidth)),
    ("checkBandwidth", |_| Ok(Command::CheckBandwidth)),
    ("_onbwcheck", |_| Ok(Command::CheckBandwidth)),
    ("_result", |arguments| {
        let response = arguments.next()?;
        let properties = std::mem::replace(&mut arguments.object, Value::Undefined);
        Ok(Command::Result { properties, response })
    }),
    ("_error", |arguments| Ok(Command::Error(arguments.status()?))),
    ("onStatus", |arguments| Ok(Command::OnStatus(arguments.status()?))),
];

fn read_of(name: &[u8]) -> Option<Read> {
    COMMANDS
        .iter()
        .find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
        .map(|(_, read)| *read)
}

fn read_play<'a>(arguments: &mut Arguments<'a>) -> Result<Command<'a>, AmfError> {
    let name = arguments.next()?;
    if name.as_bool() == Some(false) {
        return Ok(Command::StopPlaying);
    }
    Ok(Command::Play {
        key: name.as_str_bytes().unwrap_or_default(),
        start: arguments.next()?.as_number(),
        duration: arguments.next()?.as_number(),
        reset: as_switch(&arguments.next()?),
    })
}

fn read_play2<'a>(arguments: &mut Arguments<'a>) -> Result<Command<'a>, AmfError> {
    let parameters = arguments.next()?;
    Ok(Command::Play2 {
        key: text_of(&parameters, "streamName").unwrap_or_default(),
        transition: text_of(&parameters, "transition").unwrap_or_default(),
    })
}

/// The values after the name and the transaction id.
pub(super) struct Arguments<'a> {
    decoder: Decoder<'a>,
    object: Value<'a>,
}

impl<'a> Arguments<'a> {
    /// Returns the next argument. Arguments at the end may be missing. An unsupported type has no
    /// known length, so that argument and all later ones count as missing.
    fn next(&mut self) -> Result<Value<'a>, AmfError> {
        match self.decoder.next_value() {
            Err(error) if error.is_unsupported() => Ok(Value::Undefined),
            read => read.map(|value| value.unwrap_or(Value::Undefined)),
        }
    }

    fn text(&mut self) -> Result<&'a [u8], AmfError> {
        Ok(self.next()?.as_str_bytes().unwrap_or_default())
    }

    fn ms(&mut self) -> Result<u32, AmfError> {
        // The cast saturates, and turns NaN into zero.
        Ok(self.next()?.as_number().unwrap_or_default() as u32)
    }

    /// Returns the information object. It follows a command object of null, or takes its place.
    fn status(&mut self) -> Result<Status<'a>, AmfError> {
        let argument = self.next()?;
        let object = if argument.properties().is_some() { &argument } else { &self.object };
        Ok(Status {
            level: text_of(object, "level").unwrap_or_default(),
            code: text_of(object, "code").unwrap_or_default(),
            description: text_of(object, "description").unwrap_or_default(),
        })
    }
}

impl<'a> Connect<'a> {
    /// Reads the properties from an object, an ECMA array or a typed object. Any other value has no
    /// properties, so the application is empty.
    fn read(object: &Value<'a>) -> Self {
        let number = |key| property(object, key).and_then(Value::as_number);
        let fourcc_keys = ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap"];
        Self {
            app: text_of(object, "app").unwrap_or_default(),
            tc_url: text_of(object, "tcUrl"),
            flash_ver: text_of(object, "flashVer"),
            page_url: text_of(object, "pageUrl"),
            object_encoding: number("objectEncoding").unwrap_or_default(),
            caps_ex: number("capsEx").and_then(whole_number),
            names_fourccs: fourcc_keys.iter().any(|key| property(object, key).is_some()),
            is_odd: !matches!(object, Value::Object(_)) || object.get("tcUrl").is_none(),
            is_encoder: text_of(object, "type").is_some_and(|text| text == b"nonprivate")
                || text_of(object, "flashVer").is_some_and(names_encoder),
        }
    }
}

/// Returns true if `flashVer` names an encoder: Flash Media Live Encoder, whose name nearly all
/// other encoders use, or Wirecast.
fn names_encoder(flash_ver: &[u8]) -> bool {
    let names: [&[u8]; 3] = [b"FMLE/", b"FME/", b"Wirecast/"];
    names.iter().any(|name| flash_ver.starts_with(name))
}

/// Returns the property with this key. Otherwise returns a property whose key differs in case or
/// is quoted: some encoders write `tcurl` or `'tcUrl'`.
fn property<'v, 'a>(object: &'v Value<'a>, key: &str) -> Option<&'v Value<'a>> {
    let resembles = |property: &&Property<'a>| {
        let unquoted = match property.key {
            [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
            plain => plain,
        };
        unquoted.eq_ignore_ascii_case(key.as_bytes())
    };
    object.get(key).or_else(|| Some(&object.properties()?.iter().find(resembles)?.value))
}

fn text_of<'a>(object: &Value<'a>, key: &str) -> Option<&'a [u8]> {
    property(object, key)?.as_str_bytes()
}

/// Reads a boolean argument. Some clients send a number instead.
fn as_switch(value: &Value<'_>) -> Option<bool> {
    value.as_bool().or_else(|| Some(value.as_number()? > 0.0))
}

fn whole_number(number: f64) -> Option<u32> {
    let whole = number as u32;
    (f64::from(whole) == number).then_some(whole)
}

/// Removes a NUL from the end: some encoders send the terminator of their strings.
pub(super) fn without_nul(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(&[0]).unwrap_or(bytes)
}
