//! Heads and bodies of responses (RFC 9112, sections 4 and 6), and problem details (RFC 9457).

use bytes::{Buf, Bytes};
use serde_json::json;
use std::collections::VecDeque;
use std::fmt;

macro_rules! statuses {
    ($($name:ident = $code:literal, $reason:literal;)+) => {
        /// The status codes that this server sends (RFC 9110, section 15).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names are those of the specification")]
        pub enum HttpStatus {
            $($name,)+
        }

        impl HttpStatus {
            /// Returns the code.
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)+ }
            }

            /// Every status that this server sends.
            #[cfg(test)]
            const ALL: &[Self] = &[$(Self::$name,)+];

            /// Returns the reason phrase.
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)+ }
            }
        }
    };
}

statuses! {
    Ok = 200, "OK";
    Accepted = 202, "Accepted";
    NoContent = 204, "No Content";
    NotModified = 304, "Not Modified";
    BadRequest = 400, "Bad Request";
    Unauthorized = 401, "Unauthorized";
    Forbidden = 403, "Forbidden";
    NotFound = 404, "Not Found";
    MethodNotAllowed = 405, "Method Not Allowed";
    NotAcceptable = 406, "Not Acceptable";
    RequestTimeout = 408, "Request Timeout";
    Conflict = 409, "Conflict";
    ContentTooLarge = 413, "Content Too Large";
    UriTooLong = 414, "URI Too Long";
    UnsupportedMediaType = 415, "Unsupported Media Type";
    ExpectationFailed = 417, "Expectation Failed";
    MisdirectedRequest = 421, "Misdirected Request";
    UnprocessableContent = 422, "Unprocessable Content";
    HeaderFieldsTooLarge = 431, "Request Header Fields Too Large";
    NotImplemented = 501, "Not Implemented";
    ServiceUnavailable = 503, "Service Unavailable";
    VersionNotSupported = 505, "HTTP Version Not Supported";
}

impl fmt::Display for HttpStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code(), self.reason())
    }
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    status: HttpStatus,
    fields: Vec<u8>,
}

impl ResponseHead {
    /// Creates a head without fields.
    pub const fn new(status: HttpStatus) -> Self {
        Self { status, fields: Vec::new() }
    }

    /// Adds a field. Characters that would end its line are left out.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let plain = value.bytes().filter(|byte| !byte.is_ascii_control());
        debug_assert_eq!(plain.clone().count(), value.len(), "{name} has control characters");
        self.fields.extend_from_slice(name.as_bytes());
        self.fields.extend_from_slice(b": ");
        self.fields.extend(plain);
        self.fields.extend_from_slice(b"\r\n");
        self
    }

    /// Adds the type and the length of a body.
    #[must_use]
    pub fn content(self, media_type: &str, bytes: u64) -> Self {
        self.header("Content-Type", media_type).header("Content-Length", &bytes.to_string())
    }

    /// Appends the head to `out`. Without `keep_alive` the client is told that the connection ends
    /// after the response.
    pub fn write(&self, out: &mut Vec<u8>, keep_alive: bool) {
        let Self { status, fields } = self;
        out.extend_from_slice(format!("HTTP/1.1 {status}\r\n").as_bytes());
        out.extend_from_slice(fields);
        out.extend_from_slice(if keep_alive { b"\r\n" } else { b"Connection: close\r\n\r\n" });
    }

    /// Appends the interim response that asks for the body of a request.
    pub fn write_continue(out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    /// Appends the response that switches to WebSocket (RFC 6455, section 4.2.2).
    pub fn write_upgrade(out: &mut Vec<u8>, accept: &str) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        );
        out.extend_from_slice(format!("Sec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes());
    }
}

/// The body of a response, in pieces, so that pieces that others hold as well are sent without a
/// copy.
#[derive(Clone, Debug, Default)]
pub struct ResponseBody {
    /// Invariant: none of them is empty.
    pieces: VecDeque<Bytes>,
}

impl ResponseBody {
    /// Returns a body of one piece.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        std::iter::once(bytes.into()).collect()
    }

    /// Returns the pieces in order, none of which is empty.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| &piece[..])
    }

    /// Returns the length of the body (bytes).
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Returns whether the body has no bytes.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Memory of the list of pieces (bytes).
    pub(super) fn list_bytes(&self) -> usize {
        self.pieces.capacity() * size_of::<Bytes>()
    }

    /// Removes the first `count` bytes. An empty body holds no memory.
    pub(super) fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            if count < piece.len() {
                return piece.advance(count);
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
        *self = Self::default();
    }
}

impl FromIterator<Bytes> for ResponseBody {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Self {
        Self { pieces: pieces.into_iter().filter(|piece| !piece.is_empty()).collect() }
    }
}

/// Returns an error as problem details. `code` is stable, and `detail` is for people.
pub fn problem_json(status: HttpStatus, code: &str, detail: &str) -> Vec<u8> {
    let problem = json!({
        "title": status.reason(),
        "status": status.code(),
        "code": code,
        "detail": detail,
    });
    problem.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of the "HTTP Status Code Registry" of IANA.
    const REGISTRY: &str = "\
        200 OK, 201 Created, 202 Accepted, 203 Non-Authoritative Information, 204 No Content, \
        205 Reset Content, 206 Partial Content, 304 Not Modified, 400 Bad Request, \
        401 Unauthorized, 403 Forbidden, 404 Not Found, 405 Method Not Allowed, \
        406 Not Acceptable, 408 Request Timeout, 409 Conflict, 410 Gone, 411 Length Required, \
        412 Precondition Failed, 413 Content Too Large, 414 URI Too Long, \
        415 Unsupported Media Type, 416 Range Not Satisfiable, 417 Expectation Failed, \
        421 Misdirected Request, 422 Unprocessable Content, 426 Upgrade Required, \
        428 Precondition Required, 429 Too Many Requests, 431 Request Header Fields Too Large, \
        500 Internal Server Error, 501 Not Implemented, 503 Service Unavailable, \
        505 HTTP Version Not Supported";

    #[test]
    fn a_body_is_sent_across_the_borders_of_its_pieces() {
        let pieces = ["ab", "", "cde", "f"].map(Bytes::from);
        for step in 1..=6 {
            let mut body: ResponseBody = pieces.clone().into_iter().collect();
            let (mut sent, mut left) = (Vec::new(), 6);
            while !body.is_empty() {
                assert_eq!(body.len(), left);
                let pending = body.pieces().collect::<Vec<_>>().concat();
                let count = step.min(pending.len());
                sent.extend_from_slice(&pending[..count]);
                body.advance(count);
                left -= count;
            }
            assert_eq!((&*sent, left, body.list_bytes()), (&b"abcdef"[..], 0, 0), "{step} a time");
        }
    }

    #[test]
    fn reasons_are_those_of_the_registry() {
        let registered: Vec<_> = REGISTRY.split(", ").collect();
        for status in HttpStatus::ALL {
            assert!(registered.contains(&&*status.to_string()), "{status}");
        }
    }

    #[test]
    fn a_head_is_written_line_by_line() {
        let mut out = Vec::new();
        let head = ResponseHead::new(HttpStatus::NotFound).header("Allow", "GET").content("a/b", 3);
        head.write(&mut out, true);
        let expected = "HTTP/1.1 404 Not Found\r\nAllow: GET\r\nContent-Type: a/b\r\n\
            Content-Length: 3\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_end_of_the_connection_is_announced() {
        let mut out = Vec::new();
        ResponseHead::new(HttpStatus::NoContent).write(&mut out, false);
        assert_eq!(out, b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    }
}
