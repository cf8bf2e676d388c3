//! Requests and WebSocket frames. However the input is cut, the same requests and frames come out,
//! and then the same error. What is held is bounded, and nothing is held between two of them.

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
