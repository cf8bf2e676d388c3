//! HTTP-FLV: the URL of a stream, the request of a player, and the tags of the response.
//!
//! Owns what a player needs of HTTP/1.1: one GET, the status, and a body that is plain or chunked
//! (RFC 9112, section 7.1). Redirects are not followed. The tags are passed on as RTMP messages,
//! so frames are checked alike over both protocols.

use std::mem;
use std::net::SocketAddr;

use super::LoadError;
use super::assembler::Assembler;
use super::connection::ConnectionPhase;
use super::target::{TargetError, resolve, split_port};
use super::wire::{WireError, WireEvent};
use crate::limits;
use crate::rtmp::message::{Message, MessageHeader};

const PORT: u16 = 80;
const EXTENSION: &str = ".flv";

/// The URL of a stream over HTTP-FLV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTarget {
    /// The resolved address of the host.
    pub address: SocketAddr,
    authority: String,
    /// The path up to the last slash.
    directory: String,
    /// The rest of the path up to its extension.
    key: String,
    /// The extension and the query.
    suffix: String,
}

/// The request of one player.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlvRequest {
    /// The address of the server.
    pub address: SocketAddr,
    /// The head of the request.
    pub text: String,
}

impl HttpTarget {
    /// Parses a URL such as `http://host:8080/live/show.flv` and resolves its host.
    ///
    /// # Errors
    /// [`LoadError::BadTarget`] or [`LoadError::UnknownHost`].
    pub fn parse(url: &str) -> Result<Self, LoadError> {
        let bad = |error| LoadError::BadTarget { url: url.to_owned(), error };
        let (authority, path) = split(url).map_err(bad)?;
        let (host, port) = split_port(authority, PORT).map_err(bad)?;
        let end = path.split('?').next().unwrap_or_default();
        let suffix_at = end.strip_suffix(EXTENSION).map_or(end.len(), str::len);
        let (path, suffix) = path.split_at(suffix_at);
        let (directory, key) = path.split_at(path.rfind('/').map_or(0, |slash| slash + 1));
        Ok(Self {
            address: resolve(host, port)?,
            authority: authority.to_owned(),
            directory: format!("/{directory}"),
            key: key.to_owned(),
            suffix: suffix.to_owned(),
        })
    }

    /// Returns the path up to the last slash.
    pub(super) fn directory(&self) -> &str {
        &self.directory
    }

    /// Returns the key of the stream in the URL.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Returns the request for the stream with this key. A query of the key goes after that of the
    /// URL.
    pub(super) fn request(&self, key: &str) -> FlvRequest {
        let Self { address, authority, directory, suffix, .. } = self;
        let (name, query) = key.split_once('?').unwrap_or((key, ""));
        let separator = match (query, suffix.contains('?')) {
            ("", _) => "",
            (_, true) => "&",
            (_, false) => "?",
        };
        let text = format!(
            "GET {directory}{name}{suffix}{separator}{query} HTTP/1.1\r\nHost: {authority}\r\n\
             User-Agent: tiderace-load\r\nAccept: */*\r\n\r\n"
        );
        FlvRequest { address: *address, text }
    }
}

/// Splits a URL into its authority and the path after the slash.
fn split(url: &str) -> Result<(&str, &str), TargetError> {
    let rest = url.strip_prefix("http://").ok_or(TargetError::HttpScheme)?;
    let parts = rest.split_once('/').filter(|(_, path)| !path.is_empty());
    let (authority, path) = parts.ok_or(TargetError::NoPath)?;
    // An unprintable character would end the line of the request, or split it.
    if path.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'#') {
        return Err(TargetError::NoPath);
    }
    Ok((authority, path))
}

/// The response to a request, as its bytes arrive.
#[derive(Debug)]
pub struct HttpFlv {
    pub(super) output: Vec<u8>,
    /// The head of the response, until it is complete.
    head: Option<Vec<u8>>,
    body: Body,
    has_file_header: bool,
    tags: Assembler,
}

impl HttpFlv {
    pub(super) fn new(request: &FlvRequest) -> Self {
        Self {
            output: request.text.clone().into_bytes(),
            head: Some(Vec::new()),
            body: Body::Plain,
            has_file_header: false,
            tags: Assembler::default(),
        }
    }

    /// See [`Wire::next`](super::wire::Wire::next).
    pub(super) fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i mut [u8],
    ) -> Result<Option<WireEvent<'a>>, WireError> {
        if let Some(head) = &mut self.head {
            if !take_head(head, input)? {
                return Ok(None);
            }
            self.body = Body::of_response(head)?;
            self.head = None;
            return Ok(Some(WireEvent::Phase(ConnectionPhase::Play)));
        }
        loop {
            let limit = match self.body.begin(input)? {
                Room::Bytes(limit) => limit,
                Room::Incomplete => return Ok(None),
                Room::End => return Ok(Some(WireEvent::StreamEof)),
            };
            let before = input.len();
            let unit = if self.has_file_header {
                self.tags.next(input, limit, TAG_HEAD_BYTES, tag_bytes)?
            } else {
                self.tags.next(input, limit, FILE_HEADER_BYTES, file_header_bytes)?
            };
            self.body.took(before - input.len());
            match unit {
                Some(_) if !mem::replace(&mut self.has_file_header, true) => {}
                Some(unit) => return message(unit.bytes(&self.tags)).map(Some),
                None if input.is_empty() => return Ok(None),
                // The next chunk goes on.
                None => {}
            }
        }
    }
}

/// Moves input to `head` up to the empty line. Returns whether the head is complete.
fn take_head(head: &mut Vec<u8>, input: &mut &mut [u8]) -> Result<bool, WireError> {
    const END: &[u8] = b"\r\n\r\n";
    let known = head.len();
    head.extend_from_slice(input);
    let from = known.saturating_sub(END.len() - 1);
    let end = head[from..].windows(END.len()).position(|bytes| bytes == END);
    let Some(end) = end.map(|at| from + at + END.len()) else {
        *input = &mut [];
        let is_bounded = head.len() <= limits::LOAD_HTTP_HEAD_BYTES_MAX;
        return if is_bounded { Ok(false) } else { Err(malformed("its head is too long")) };
    };
    drop(input.split_off_mut(..end - known));
    head.truncate(end);
    Ok(true)
}

const fn malformed(what: &'static str) -> WireError {
    WireError::MalformedHttp { what }
}

/// How the end of the body is told.
#[derive(Debug)]
enum Body {
    /// By the end of the connection.
    Plain,
    Chunked {
        /// The line before the next chunk, as far as it has arrived.
        line: Vec<u8>,
        /// Bytes of this chunk that have not arrived.
        left: usize,
    },
    /// The last chunk has arrived. Bytes after it are ignored.
    Over,
}

/// Bytes of the body at the front of the input.
enum Room {
    /// At most this many.
    Bytes(usize),
    /// None: the line that tells their number is not complete, or the end was reported.
    Incomplete,
    /// The body ends here.
    End,
}

impl Body {
    fn of_response(head: &[u8]) -> Result<Self, WireError> {
        const HEADERS_MAX: usize = 64;
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        response.parse(head).map_err(|_| malformed("its head is not HTTP/1.1"))?;
        match response.code {
            Some(200) => {}
            code => {
                let reason = response.reason.unwrap_or_default().to_owned();
                return Err(WireError::HttpStatus { status: code.unwrap_or_default(), reason });
            }
        }
        let is_chunked = response.headers.iter().any(|header| {
            header.name.eq_ignore_ascii_case("transfer-encoding")
                && header.value.eq_ignore_ascii_case(b"chunked")
        });
        let chunked = Self::Chunked { line: Vec::new(), left: 0 };
        Ok(if is_chunked { chunked } else { Self::Plain })
    }

    /// Takes the line before a chunk, and returns how many bytes of the body follow.
    fn begin(&mut self, input: &mut &mut [u8]) -> Result<Room, WireError> {
        const LINE_BYTES_MAX: usize = 256;
        let (line, left) = match self {
            Self::Plain => return Ok(Room::Bytes(usize::MAX)),
            Self::Chunked { line, left } => (line, left),
            Self::Over => {
                *input = &mut [];
                return Ok(Room::Incomplete);
            }
        };
        while *left == 0 {
            let Some((byte, _)) = input.split_off_mut(..1).and_then(|bytes| bytes.split_first())
            else {
                return Ok(Room::Incomplete);
            };
            line.push(*byte);
            if line.len() > LINE_BYTES_MAX {
                return Err(malformed("the line before a chunk is too long"));
            }
            if *byte == b'\n' {
                let text = line.trim_ascii();
                // An empty line ends the chunk before.
                if !text.is_empty() {
                    *left = chunk_bytes(text).ok_or(malformed("the size of a chunk is wrong"))?;
                    if *left == 0 {
                        *self = Self::Over;
                        *input = &mut [];
                        return Ok(Room::End);
                    }
                }
                line.clear();
            }
        }
        Ok(Room::Bytes(*left))
    }

    fn took(&mut self, bytes: usize) {
        if let Self::Chunked { left, .. } = self {
            *left -= bytes;
        }
    }
}

/// Parses the size of a chunk, which extensions may follow.
fn chunk_bytes(line: &[u8]) -> Option<usize> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// Size of the FLV file header. The size of the tag before the first one follows.
const FILE_HEADER_BYTES: usize = 9;
const TAG_HEAD_BYTES: usize = 11;
/// Size of the length that follows each tag.
const TAG_SIZE_BYTES: usize = 4;

fn file_header_bytes(header: &[u8]) -> Result<usize, WireError> {
    match header {
        [b'F', b'L', b'V', _, _, a, b, c, d, ..] => {
            let bytes = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
            let is_plausible =
                (FILE_HEADER_BYTES..=limits::LOAD_HTTP_HEAD_BYTES_MAX).contains(&bytes);
            is_plausible.then_some(bytes + TAG_SIZE_BYTES)
        }
        _ => None,
    }
    .ok_or(malformed("its body is not FLV"))
}

/// Returns the length of a tag with the size that follows it.
fn tag_bytes(tag: &[u8]) -> Result<usize, WireError> {
    let payload_bytes = u32::from_be_bytes([0, tag[1], tag[2], tag[3]]) as usize;
    if payload_bytes > limits::MESSAGE_BYTES_MAX {
        return Err(WireError::FrameTooLong { bytes: payload_bytes });
    }
    Ok(TAG_HEAD_BYTES + payload_bytes + TAG_SIZE_BYTES)
}

/// Returns a tag as the message that it would be over RTMP.
fn message(tag: &[u8]) -> Result<WireEvent<'_>, WireError> {
    let (tag, size) = tag.split_at(tag.len() - TAG_SIZE_BYTES);
    if size != (tag.len() as u32).to_be_bytes() {
        return Err(malformed("the size after a tag is wrong"));
    }
    let (head, payload) = tag.split_at(TAG_HEAD_BYTES);
    let timestamp = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
    let header =
        MessageHeader { chunk_stream_id: 0, timestamp, kind: head[0], message_stream_id: 0 };
    Ok(WireEvent::Media(Message { header, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::Random;

    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\n";

    fn flv(messages: &[(u8, u32, Vec<u8>)]) -> Vec<u8> {
        let mut file = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        for (kind, timestamp, payload) in messages {
            let [high, time @ ..] = timestamp.to_be_bytes();
            let size = (payload.len() as u32).to_be_bytes();
            file.extend([&[*kind], &size[1..], &time, &[high, 0, 0, 0], payload].concat());
            file.extend((11 + payload.len() as u32).to_be_bytes());
        }
        file
    }

    /// Returns the events of a player whose response arrives in these pieces.
    fn events<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Result<Vec<String>, WireError> {
        let target = HttpTarget::parse("http://127.0.0.1/live/show.flv").unwrap();
        let mut player = HttpFlv::new(&target.request("show"));
        let mut events = Vec::new();
        for piece in pieces {
            let mut input = &mut piece.to_vec()[..];
            while let Some(event) = player.next(&mut input)? {
                events.push(match event {
                    WireEvent::Media(Message { header, payload }) => {
                        let checksum = crc32fast::hash(payload);
                        format!("{} {} {checksum}", header.kind, header.timestamp)
                    }
                    event => format!("{event:?}"),
                });
            }
            assert!(input.is_empty(), "all of the input is taken");
        }
        Ok(events)
    }

    fn chunked(body: &[u8], random: &mut Random) -> Vec<u8> {
        let (mut rest, mut bytes) = (body, Vec::new());
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at((1 + random.below(5000)).min(rest.len()));
            bytes
                .extend([format!("{:X};x=1\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
            rest = later;
        }
        bytes.extend(b"0\r\n\r\n");
        bytes
    }

    #[test]
    fn tags_come_back_whole_at_any_split_of_a_plain_and_a_chunked_body() {
        let sizes = [0, 1, 3, 200, 0, 70_000, 5];
        let sent: Vec<_> =
            sizes.iter().map(|&size| (9, u32::MAX - size, vec![7; size as usize])).collect();
        let mut expected = vec!["Phase(Play)".to_owned()];
        expected.extend(sent.iter().map(|(kind, timestamp, payload)| {
            format!("{kind} {timestamp} {}", crc32fast::hash(payload))
        }));
        let with_end: Vec<_> = expected.iter().cloned().chain(["StreamEof".to_owned()]).collect();
        for seed in 0..50 {
            let mut random = Random::new(seed);
            let body = flv(&sent);
            let plain = [format!("{HEAD}\r\n").as_bytes(), &body].concat();
            let chunks = chunked(&body, &mut random);
            let head = format!("{HEAD}transfer-encoding: Chunked\r\n\r\n");
            let chunks = [head.as_bytes(), &chunks].concat();
            let longest = 1 << (1 + random.below(17));
            for (bytes, expected) in [(plain, &expected), (chunks, &with_end)] {
                let (mut rest, mut pieces) = (&bytes[..], Vec::new());
                while !rest.is_empty() {
                    let (now, later) = rest.split_at((1 + random.below(longest)).min(rest.len()));
                    pieces.push(now);
                    rest = later;
                }
                assert_eq!(&events(pieces).unwrap(), expected, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_response_that_cannot_be_played_is_an_error_that_says_why() {
        let after = |head: &str, body: &[u8]| [head.as_bytes(), b"\r\n", body].concat();
        let mut wrong_size = flv(&[(9, 0, vec![1; 20])]);
        *wrong_size.last_mut().unwrap() ^= 1;
        for (response, expected) in [
            (b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec(), "got HTTP status 404 Not Found"),
            (b"RTMP/1.0 200 OK\r\n\r\n".to_vec(), "its head is not HTTP/1.1"),
            (vec![b'x'; 1 << 17], "its head is too long"),
            (after(HEAD, b"<html>    "), "its body is not FLV"),
            (after(HEAD, &wrong_size), "the size after a tag is wrong"),
            (after(&format!("{HEAD}Transfer-Encoding: chunked\r\n"), b"-3\r\n"), "size of a chunk"),
        ] {
            let error = events([&response[..]]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_url_becomes_a_request_for_a_key() {
        let request = |url, key| HttpTarget::parse(url).unwrap().request(key).text;
        let line = |url, key| request(url, key).lines().next().unwrap().to_owned();
        let url = "http://127.0.0.1:8080/live/show.flv?token=a.flv";
        assert!(request(url, "show").contains("\r\nHost: 127.0.0.1:8080\r\n"));
        assert_eq!(HttpTarget::parse(url).unwrap().key(), "show");
        assert_eq!(line(url, "show"), "GET /live/show.flv?token=a.flv HTTP/1.1");
        assert_eq!(line(url, "b?x=1"), "GET /live/b.flv?token=a.flv&x=1 HTTP/1.1");
        assert_eq!(line("http://[::1]/live/show", "b?x=1"), "GET /live/b?x=1 HTTP/1.1");
        assert_eq!(line("http://[::1]/show.flv", "show-0"), "GET /show-0.flv HTTP/1.1");
        for url in
            ["rtmp://127.0.0.1/live/show", "http://127.0.0.1", "http://127.0.0.1/a b", "http:///x"]
        {
            assert!(matches!(HttpTarget::parse(url), Err(LoadError::BadTarget { .. })), "{url}");
        }
    }
}
