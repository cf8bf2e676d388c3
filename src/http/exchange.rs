//! The server side of one HTTP connection: requests in, responses out, one at a time.
//!
//! Owns the state of the connection and the bytes of the response. Policy belongs to the caller: it
//! is handed each [`HttpRequest`] and answers it, at once or later. Until the response is with the
//! kernel, no further request is read, so pipelined requests wait in the socket.
//!
//! ```text
//!            request             respond              all is sent, kept alive
//! Reading ───────────▶ Answering ───────▶ Responding ────────────────────────▶ Reading
//!    │                  │  │ hold            ▲   └─ not kept alive ─▶ (closed by the caller)
//!    │                  │  └───▶ Holding ────┘
//!    │ malformed        │ open     respond
//!    ▼                  ▼
//!   Over ◀──────── Streaming: the body has no end, and the client sends WebSocket frames
//!        close, error           or nothing of use
//! ```
//!
//! A request is held until its answer exists. The caller knows what it waits for.
//!
//! It never touches a stream, a socket or a clock.

use super::requests::{HttpArrival, HttpRequest, RequestError, RequestReader};
use super::response::{ResponseBody, ResponseHead};
use super::websocket::{
    ClientFrame, ClientFrames, FrameError, Opcode, frame_head, write_close, write_pong,
};

/// The close code of a stream that has ended (RFC 6455, section 7.4.1).
pub const NORMAL_CLOSURE: u16 = 1000;
/// Bytes that may wait when a ping is answered.
const PONGS_BYTES_MAX: usize = 1024;

/// See the module's head.
#[derive(Debug, Default)]
pub struct Exchange {
    reader: RequestReader,
    /// Heads of responses, and small frames between messages.
    head: Vec<u8>,
    body: ResponseBody,
    /// Whether others hold the body as well, and account it.
    is_shared: bool,
    phase: Phase,
    /// Bytes that were formatted since [`Exchange::take_formatted_bytes`].
    formatted_bytes: usize,
    keeps_alive: bool,
    /// Whether the streamed body is chunked (RFC 9112, section 7.1).
    is_chunked: bool,
    /// The input of a WebSocket client.
    websocket: Option<Box<WebSocketInput>>,
}

#[derive(Debug, Default)]
struct WebSocketInput {
    frames: ClientFrames,
    /// Payload of the newest ping, if it came when the output was full.
    unanswered: Option<Vec<u8>>,
}

/// The state of the connection, as drawn in the module's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Reading,
    Answering,
    /// The answer comes later, and the caller knows what it waits for.
    Holding,
    Responding,
    Streaming,
    Over,
}

/// An event of the connection.
#[derive(Debug)]
pub enum ExchangeEvent {
    /// A request, which the caller must answer.
    Request(Box<HttpRequest>),
    /// The bytes are not HTTP, or a request that no server should act on. The caller answers with
    /// the status of the error and closes the connection.
    Malformed(RequestError),
    /// The WebSocket client has closed, or has violated the protocol. The reply is in the output.
    /// The caller closes the connection.
    Closed(Option<FrameError>),
}

impl Exchange {
    /// Consumes `input` up to and including the next event. Returns `None` when `input` is used
    /// up, or while a response is owed ([`Exchange::is_blocked`]).
    pub fn next_event(&mut self, input: &mut &mut [u8]) -> Option<ExchangeEvent> {
        loop {
            match self.phase {
                Phase::Answering | Phase::Holding | Phase::Responding => return None,
                Phase::Over => {
                    *input = &mut [];
                    return None;
                }
                Phase::Streaming => return self.next_frame(input),
                Phase::Reading => match self.reader.next(input) {
                    Ok(None) => return None,
                    Ok(Some(HttpArrival::Continue)) => ResponseHead::write_continue(&mut self.head),
                    Ok(Some(HttpArrival::Request(request))) => {
                        self.phase = Phase::Answering;
                        self.keeps_alive = request.is_keep_alive();
                        return Some(ExchangeEvent::Request(request));
                    }
                    Err(error) => {
                        // The bytes after an error cannot be interpreted.
                        *input = &mut [];
                        self.phase = Phase::Over;
                        self.keeps_alive = false;
                        return Some(ExchangeEvent::Malformed(error));
                    }
                },
            }
        }
    }

    /// Consumes the bytes of a client whose response streams. Only a WebSocket client has anything
    /// to say.
    fn next_frame(&mut self, input: &mut &mut [u8]) -> Option<ExchangeEvent> {
        let Some(websocket) = &mut self.websocket else {
            *input = &mut [];
            return None;
        };
        loop {
            match websocket.frames.next(input) {
                Ok(None) => return None,
                // Of several pings the newest has to be answered (RFC 6455, section 5.5.3). A
                // client that sends pings and reads nothing costs no more than these bytes.
                Ok(Some(ClientFrame::Ping(payload))) if self.head.len() > PONGS_BYTES_MAX => {
                    websocket.unanswered = Some(payload);
                }
                Ok(Some(ClientFrame::Ping(payload))) => {
                    websocket.unanswered = None;
                    write_pong(&mut self.head, &payload);
                }
                Ok(Some(ClientFrame::Close(code))) => {
                    write_close(&mut self.head, code.unwrap_or(1000));
                    self.phase = Phase::Over;
                    return Some(ExchangeEvent::Closed(None));
                }
                Ok(Some(_)) => {}
                Err(error) => {
                    write_close(&mut self.head, error.close_code());
                    self.phase = Phase::Over;
                    return Some(ExchangeEvent::Closed(Some(error)));
                }
            }
        }
    }

    /// Returns whether a ping came when the output was full, and is not answered yet.
    pub fn owes_pong(&self) -> bool {
        self.websocket.as_ref().is_some_and(|input| input.unanswered.is_some())
    }

    /// Answers that ping.
    pub fn answer_ping(&mut self) {
        if let Some(payload) = self.websocket.as_mut().and_then(|input| input.unanswered.take()) {
            write_pong(&mut self.head, &payload);
        }
    }

    /// Returns whether a request waits for its answer.
    pub const fn is_asking(&self) -> bool {
        matches!(self.phase, Phase::Answering)
    }

    /// Returns whether no further input is taken until a response is with the kernel.
    pub const fn is_blocked(&self) -> bool {
        matches!(self.phase, Phase::Answering | Phase::Holding | Phase::Responding)
    }

    /// Returns whether a request has begun to arrive.
    pub fn is_within_request(&self) -> bool {
        matches!(self.phase, Phase::Reading) && self.reader.is_within_request()
    }

    /// Returns whether the connection is WebSocket's.
    pub const fn is_websocket(&self) -> bool {
        self.websocket.is_some()
    }

    /// Answers the request with a whole response. If the connection does not stay open for the
    /// next request, it is over once the output is sent ([`Exchange::is_over`]).
    pub fn respond(&mut self, head: &ResponseHead, body: ResponseBody) {
        self.formatted_bytes += body.len();
        self.begin_response(head, body);
    }

    fn begin_response(&mut self, head: &ResponseHead, body: ResponseBody) {
        let keeps_alive = self.keeps_alive;
        self.format_head(|out| head.write(out, keeps_alive));
        self.body = body;
        self.phase = Phase::Responding;
    }

    fn format_head(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.head.len();
        write(&mut self.head);
        self.formatted_bytes += self.head.len() - before;
    }

    /// Answers the request as [`Exchange::respond`] does, with a body that others hold as well and
    /// that is not formatted for this response.
    pub fn respond_shared(&mut self, head: &ResponseHead, body: ResponseBody) {
        self.begin_response(head, body);
        self.is_shared = true;
    }

    /// Adds to the bytes that were formatted for the client.
    pub const fn note_formatted(&mut self, bytes: usize) {
        self.formatted_bytes += bytes;
    }

    /// Takes the number of bytes that were formatted for the client: heads, the starts of streamed
    /// bodies, and bodies that no other client was sent before.
    pub const fn take_formatted_bytes(&mut self) -> usize {
        std::mem::replace(&mut self.formatted_bytes, 0)
    }

    /// Keeps the request until its answer exists.
    pub const fn hold(&mut self) {
        self.phase = Phase::Holding;
    }

    /// Returns whether a request is kept until its answer exists.
    pub const fn is_holding(&self) -> bool {
        matches!(self.phase, Phase::Holding)
    }

    /// Closes the connection after the response to the current request, whatever the client asked
    /// for.
    pub const fn end_after_response(&mut self) {
        self.keeps_alive = false;
    }

    /// Begins a response without an end. The caller writes its head when it knows it
    /// ([`Exchange::write_head`]).
    pub fn open(&mut self) {
        self.phase = Phase::Streaming;
        self.keeps_alive = false;
    }

    /// Switches to WebSocket (RFC 6455, section 4.2.2). `accept` is the accept key.
    pub fn upgrade(&mut self, accept: &str) {
        self.open();
        self.format_head(|out| ResponseHead::write_upgrade(out, accept));
        self.websocket = Some(Box::default());
    }

    /// Writes the head of a response whose body streams until the connection ends.
    pub fn write_head(&mut self, head: &ResponseHead) {
        self.format_head(|out| head.write(out, false));
    }

    /// Writes the head of a response whose body streams in chunks, so that the client can tell its
    /// end from a connection that broke.
    pub fn write_chunked_head(&mut self, head: ResponseHead) {
        self.write_head(&head.header("Transfer-Encoding", "chunked"));
        self.is_chunked = true;
    }

    /// Writes the bytes at the start of a streamed body. On a WebSocket connection they are one
    /// binary message, and of a chunked body one chunk.
    pub fn write_first(&mut self, bytes: &[u8]) {
        self.formatted_bytes += bytes.len();
        if self.is_websocket() {
            let (head, len) = frame_head(Opcode::Binary, bytes.len() as u64);
            self.head.extend_from_slice(&head[..len]);
        }
        if self.is_chunked {
            self.head.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
        }
        self.head.extend_from_slice(bytes);
        if self.is_chunked {
            self.head.extend_from_slice(b"\r\n");
        }
    }

    /// Writes a message of text to a WebSocket client.
    pub fn write_text(&mut self, text: &str) {
        let (head, len) = frame_head(Opcode::Text, text.len() as u64);
        self.head.extend_from_slice(&head[..len]);
        self.head.extend_from_slice(text.as_bytes());
    }

    /// Writes more bytes of a streamed body.
    pub fn write_event(&mut self, bytes: &[u8]) {
        self.head.extend_from_slice(bytes);
    }

    /// Ends a streamed body. A WebSocket client is told why.
    pub fn finish(&mut self, close_code: u16) {
        if self.is_websocket() {
            write_close(&mut self.head, close_code);
        }
        if self.is_chunked && close_code == NORMAL_CLOSURE {
            self.head.extend_from_slice(b"0\r\n\r\n");
        }
        self.phase = Phase::Over;
    }

    /// Returns the bytes to be sent, in order.
    pub const fn pending(&self) -> (&[u8], &ResponseBody) {
        (self.head.as_slice(), &self.body)
    }

    /// Returns the number of bytes to be sent.
    pub fn pending_bytes(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Returns whether anything is to be sent.
    pub fn has_pending(&self) -> bool {
        !self.head.is_empty() || !self.body.is_empty()
    }

    /// Removes the first `count` bytes, which have been sent. An empty output holds no memory.
    pub fn written(&mut self, count: usize) {
        let of_head = count.min(self.head.len());
        if of_head == self.head.len() {
            self.head = Vec::new();
        } else {
            self.head.drain(..of_head);
        }
        self.body.advance(count - of_head);
        self.is_shared &= !self.body.is_empty();
        if self.phase == Phase::Responding && !self.has_pending() {
            self.phase = if self.keeps_alive { Phase::Reading } else { Phase::Over };
        }
    }

    /// Returns whether a whole response is being sent.
    pub const fn is_responding(&self) -> bool {
        matches!(self.phase, Phase::Responding)
    }

    /// Returns whether nothing more follows what is in the output.
    pub const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Returns the memory that it holds in addition to itself (bytes).
    pub fn held_bytes(&self) -> usize {
        self.reader.held_bytes()
            + self.head.capacity()
            + self.body.list_bytes()
            + if self.is_shared { 0 } else { self.body.len() }
            + self.websocket.as_ref().map_or(0, |input| {
                let unanswered = input.unanswered.as_ref().map_or(0, Vec::capacity);
                size_of::<WebSocketInput>() + input.frames.held_bytes() + unanswered
            })
    }
}
