//! Requests and WebSocket frames. However the input is cut, the same requests and frames come out,
//! and then the same error. What is held is bounded, and nothing is held between two of them.
//!
//! A second, simple reader of the whole input has to find the same. If two readers find different
//! requests in the same bytes, requests can be smuggled.

use tiderace::http::requests::{HttpArrival, RequestError, RequestReader};
use tiderace::http::websocket::{ClientFrame, ClientFrames, FrameError};
use tiderace::limits::{HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX};

/// What a request may hold at most: its head twice while it is parsed, its fields and its body, in
/// buffers that have doubled.
const HELD_BYTES_MAX: usize = 4 * (HTTP_HEAD_BYTES_MAX + HTTP_BODY_BYTES_MAX);

pub(crate) fn run(data: &[u8]) {
    // A client that waits for 100 Continue sends no body before, so whether it waits depends on how
    // its bytes are cut.
    let whole = requests(data, usize::MAX);
    assert_one_reading(data, &whole.0);
    assert_eq!(frames(data, usize::MAX).0, plain_frames(data), "frames of the simple reader");
    for step in [1, 3] {
        assert_eq!(requests(data, step), whole, "in steps of {step}");
        assert_eq!(frames(data, step), frames(data, usize::MAX), "in steps of {step}");
    }
}

/// The requests in the input, and how it ends.
fn requests(data: &[u8], step: usize) -> (Vec<HttpArrival>, Option<RequestError>) {
    let (mut reader, mut found) = (RequestReader::default(), Vec::new());
    for part in data.chunks(step) {
        let mut part = part.to_vec();
        let mut input = &mut part[..];
        loop {
            match reader.next(&mut input) {
                Ok(Some(HttpArrival::Continue)) => {}
                Ok(Some(arrival)) => found.push(arrival),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        assert!(input.is_empty(), "input that is left over");
        assert!(reader.held_bytes() <= HELD_BYTES_MAX, "{} bytes", reader.held_bytes());
        assert!(reader.is_within_request() || reader.held_bytes() == 0, "held for nothing");
    }
    (found, None)
}

fn frames(data: &[u8], step: usize) -> (Vec<ClientFrame>, Option<FrameError>) {
    let (mut frames, mut found) = (ClientFrames::default(), Vec::new());
    for part in data.chunks(step) {
        let mut part = part.to_vec();
        let mut input = &mut part[..];
        loop {
            match frames.next(&mut input) {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
        assert!(input.is_empty(), "input that is left over");
    }
    (found, None)
}

/// Asserts that lines and lengths alone lead to the same requests.
fn assert_one_reading(mut data: &[u8], found: &[HttpArrival]) {
    for arrival in found {
        let HttpArrival::Request(request) = arrival else { continue };
        while let Some(rest) = data.strip_prefix(b"\r\n") {
            data = rest;
        }
        let end = data.windows(4).position(|four| four == b"\r\n\r\n").expect("the end of a head");
        let (head, rest) = (std::str::from_utf8(&data[..end]), &data[end + 4..]);
        // A value may be in any encoding.
        let head = head.map_or_else(|_| String::from_utf8_lossy(&data[..end]), Into::into);
        let mut lines = head.split("\r\n");
        let target = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a target");
        assert_eq!(request.query(), target.split_once('?').map_or("", |(_, query)| query));
        let fields: Vec<_> = lines.map(|line| line.split_once(':').expect("a field")).collect();
        let values = |name: &str| {
            let of_name = fields.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
            of_name.map(|(_, value)| value.trim_matches([' ', '\t'])).collect::<Vec<_>>()
        };
        assert_eq!(values("transfer-encoding").len(), 0, "no coding is known here");
        let lengths = values("content-length");
        assert!(lengths.len() <= 1, "{lengths:?}");
        let length = lengths.first().map_or(0, |length| length.parse().expect("a length"));
        let host = request.header("host").unwrap_or_default();
        assert_eq!(values("host").first().unwrap_or(&"").as_bytes(), host);
        assert_eq!(rest.get(..length), Some(request.body()), "the body");
        data = &rest[length..];
    }
}

/// The frames at the beginning of the input that break no rule.
fn plain_frames(mut data: &[u8]) -> Vec<ClientFrame> {
    let (mut found, mut message) = (Vec::new(), None::<(bool, Vec<u8>)>);
    while let [first, second, rest @ ..] = data {
        let (len, rest) = match (second & 0x7f, rest) {
            (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), rest),
            (127, [a, b, c, d, e, f, g, h, rest @ ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), rest)
            }
            (126 | 127, _) => break,
            (len, rest) => (len.into(), rest),
        };
        let shortest = match len {
            0..126 => second & 0x7f < 126,
            126..0x1_0000 => second & 0x7f == 126,
            _ => true,
        };
        let before = message.as_ref().map_or(0, |(_, message)| message.len() as u64);
        let (is_last, opcode, is_control) = (first & 0x80 != 0, first & 0x0f, first & 8 != 0);
        let fits =
            if is_control { is_last && len <= 125 } else { before.saturating_add(len) <= 4096 };
        if second & 0x80 == 0 || first & 0x70 != 0 || !shortest || !fits {
            break;
        }
        let Some((mask, rest)) = rest.split_at_checked(4) else { break };
        let Some((masked, rest)) = rest.split_at_checked(len as usize) else { break };
        let payload: Vec<_> =
            masked.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]).collect();
        data = rest;
        match (opcode, message.is_some()) {
            (0, true) | (1 | 2, false) => {
                let (is_text, mut whole) = message.take().unwrap_or((opcode == 1, Vec::new()));
                whole.extend(payload);
                if !is_last {
                    message = Some((is_text, whole));
                    continue;
                }
                found.push(match (is_text, String::from_utf8(whole)) {
                    (true, Ok(text)) => ClientFrame::Text(text),
                    (true, Err(_)) => break,
                    (false, text) => ClientFrame::Binary(
                        text.map_or_else(|e| e.into_bytes(), String::into_bytes),
                    ),
                });
            }
            (8, _) => {
                let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                let reason = std::str::from_utf8(payload.get(2..).unwrap_or_default());
                let may_be_sent = |code| matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
                if payload.len() == 1 || reason.is_err() || !code.is_none_or(may_be_sent) {
                    break;
                }
                found.push(ClientFrame::Close(code));
            }
            (9, _) => found.push(ClientFrame::Ping(payload)),
            (10, _) => found.push(ClientFrame::Pong),
            _ => break,
        }
    }
    found
}
