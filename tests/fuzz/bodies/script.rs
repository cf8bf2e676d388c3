//! Messages of a peer, made from the bytes of an input: meaningful messages in any order with any
//! contents, and garbage.

use arbitrary::{Arbitrary, Result, Unstructured};

use crate::wire::{self, Message};

/// Maximum payload from a script. Longer payloads only take time.
const PAYLOAD_BYTES_MAX: usize = 2000;
/// Maximum nesting of values, deeper than a server accepts.
const VALUE_DEPTH_MAX: usize = 40;

/// The next message of a peer.
#[derive(Clone, Copy, Debug, Arbitrary)]
enum Saying {
    Connect,
    CreateStream,
    Publish,
    Play,
    Media,
    Command,
    Control,
    UserControl,
    Message,
    Bytes,
}

/// Returns the bytes of the next message, in chunks of the size that the peer has announced.
pub(crate) fn say(source: &mut Unstructured<'_>, chunk_size: &mut usize) -> Result<Vec<u8>> {
    let message = match source.arbitrary()? {
        Saying::Connect => wire::connect(source.choose(&NAMES)?),
        Saying::CreateStream => wire::create_stream(2.0),
        Saying::Publish => wire::publish(source.choose(&NAMES)?).on(stream(source)?),
        Saying::Play => wire::play(source.choose(&NAMES)?).on(stream(source)?),
        Saying::Media => media(source)?,
        Saying::Command => command(source)?,
        Saying::Control => {
            let kind = source.int_in_range(wire::SET_CHUNK_SIZE..=wire::SET_PEER_BANDWIDTH)?;
            wire::control(kind, number(source)?)
        }
        Saying::UserControl => wire::user_control(source.int_in_range(0..=40)?, number(source)?),
        Saying::Message => {
            Message::new(source.int_in_range(2..=70)?, source.arbitrary()?, payload(source)?)
                .on(stream(source)?)
                .at(number(source)?)
        }
        Saying::Bytes => return payload(source),
    };
    let bytes = message.chunks_of(*chunk_size);
    if message.kind == wire::SET_CHUNK_SIZE
        && let [_, _, _, _] = message.payload[..]
        && let size @ 1..=0x7fff_ffff = wire::big(&message.payload)
    {
        *chunk_size = size as usize;
    }
    Ok(bytes)
}

/// Names of applications and keys: two valid ones, and some that have confused servers.
const NAMES: [&str; 12] = [
    "live",
    "cam",
    "",
    "live/cam",
    "live?authmod=adobe&user=camera",
    "live?authmod=adobe&user=camera&challenge=12ab&response=xyz==&opaque=34cd",
    "live?authmod=llnw&user=camera&nonce=1&cnonce=2&nc=00000001&response=3",
    "../live",
    "live/_definst_",
    "cam?token=a/b+c==",
    "mp4:cam",
    "a\u{202e}b",
];

/// Message stream ids: the connection, two that may exist and one that does not.
fn stream(source: &mut Unstructured<'_>) -> Result<u32> {
    Ok(*source.choose(&[1, 0, 2, 0xffff_ffff])?)
}

/// A number, usually at a boundary.
fn number(source: &mut Unstructured<'_>) -> Result<u32> {
    const BOUNDS: [u32; 6] = [0x00ff_fffe, 0x7fff_fffe, 0xffff_fffe, 0, 1000, 65_535];
    match source.int_in_range(0..=BOUNDS.len())? {
        index if index < BOUNDS.len() => {
            Ok(BOUNDS[index].wrapping_add(source.int_in_range(0..=3)?))
        }
        _ => source.arbitrary(),
    }
}

fn payload(source: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let len = usize::from(source.arbitrary::<u8>()?) * 8;
    let len = len.min(source.len()).min(PAYLOAD_BYTES_MAX);
    Ok(source.bytes(len)?.to_vec())
}

fn media(source: &mut Unstructured<'_>) -> Result<Message> {
    const HEADS: [(u8, &str); 10] = [
        (wire::VIDEO, wire::AVC_CONFIG),
        (wire::VIDEO, wire::AVC_KEYFRAME),
        (wire::VIDEO, wire::AVC_FRAME),
        (wire::VIDEO, "90 68766331"),
        (wire::VIDEO, "96 00 61763031 00 00000a"),
        (wire::AUDIO, "af00 1210"),
        (wire::AUDIO, "af01 21"),
        (wire::AUDIO, "95 00 4f707573 00"),
        (wire::DATA, "02 000a 6f6e4d65746144617461"),
        (wire::AGGREGATE, "08 000002 000000 00 000000 af01 0000000d"),
    ];
    let (kind, head) = *source.choose(&HEADS)?;
    let payload = [wire::hex(head), payload(source)?].concat();
    let chunk_stream_id = source.int_in_range(4..=6)?;
    Ok(Message::new(chunk_stream_id, kind, payload).on(stream(source)?).at(number(source)?))
}

fn command(source: &mut Unstructured<'_>) -> Result<Message> {
    const COMMANDS: [&str; 20] = [
        "connect",
        "releaseStream",
        "FCPublish",
        "FCUnpublish",
        "createStream",
        "publish",
        "play",
        "play2",
        "deleteStream",
        "closeStream",
        "pause",
        "seek",
        "receiveAudio",
        "receiveVideo",
        "getStreamLength",
        "FCSubscribe",
        "_checkbw",
        "_result",
        "onStatus",
        "nothing",
    ];
    let mut body = wire::string(source.choose(&COMMANDS)?);
    for _ in 0..source.int_in_range(0..=5)? {
        value(source, 0, &mut body)?;
    }
    let message = if source.ratio(1, 8)? {
        Message::new(3, wire::COMMAND_AMF3, [vec![0], body].concat())
    } else {
        Message::new(3, wire::COMMAND, body)
    };
    Ok(message.on(stream(source)?))
}

/// An AMF0 value. Containers may be left unterminated.
fn value(source: &mut Unstructured<'_>, depth: usize, out: &mut Vec<u8>) -> Result<()> {
    match source.int_in_range(0..=12)? {
        0 => out.extend(wire::number(*source.choose(&[0.0, 1.0, -2000.0, f64::NAN, 1e308])?)),
        1 => out.extend(wire::string(source.choose(&NAMES)?)),
        2 => out.extend(wire::null()),
        3 => out.extend(wire::boolean(source.arbitrary()?)),
        4 => out.extend(wire::number(source.arbitrary()?)),
        5..=7 if depth < VALUE_DEPTH_MAX => {
            let head: &[u8] = source.choose(&[&[3][..], &[8, 0, 0, 0, 9], &[16, 0, 1, b'c']])?;
            out.extend(head);
            for _ in 0..source.int_in_range(0..=3)? {
                let key = source.choose(&["app", "tcUrl", "fourCcList", "capsEx", "type", ""])?;
                out.extend((key.len() as u16).to_be_bytes());
                out.extend(key.as_bytes());
                value(source, depth + 1, out)?;
            }
            if !source.ratio(1, 8)? {
                out.extend([0, 0, 9]);
            }
        }
        8 if depth < VALUE_DEPTH_MAX => {
            let count: u32 = *source.choose(&[1, 2, 0, 0xffff_ffff])?;
            out.push(10);
            out.extend(count.to_be_bytes());
            for _ in 0..count.min(3) {
                value(source, depth + 1, out)?;
            }
        }
        9 => out.extend([&[12][..], &number(source)?.to_be_bytes(), b"long"].concat()),
        10 => out.extend([&[11][..], &[0; 10]].concat()),
        11 => out.extend([17, source.arbitrary()?, source.arbitrary()?]),
        _ => out.push(source.arbitrary()?),
    }
    Ok(())
}
