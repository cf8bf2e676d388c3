//! Requests: the bytes of a client become whole requests (RFC 9112).
//!
//! Owns the bytes of a request that is not complete, and nothing between requests. It refuses what
//! request smuggling is made of: bare line feeds, folded lines, lengths that are doubled, signed or
//! at odds with a transfer coding, targets that name a host of their own, and a second `Host`.
//! `httparse` splits the head; the bounds and the refusals are here.

use super::response::Status;
use crate::limits::{
    HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_TARGET_BYTES_MAX,
};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;

const HEAD_END: &[u8] = b"\r\n\r\n";
/// Fields of which a second one would leave in doubt which counts.
const SINGLE: [&str; 9] = [
    "host",
    "content-length",
    "content-type",
    "transfer-encoding",
    "authorization",
    "origin",
    "expect",
    "sec-websocket-key",
    "sec-websocket-version",
];

/// Reads the requests of one connection. It holds no memory between two requests.
#[derive(Debug, Default)]
pub struct RequestReader {
    /// The bytes of a head that is not complete.
    held: Vec<u8>,
    /// The request whose body is not complete.
    partial: Option<Box<Request>>,
}

const _: () = assert!(size_of::<RequestReader>() <= 32);

/// An event of the reader.
#[derive(Debug)]
pub enum Incoming {
    /// The client sends the body once it is told to go on (RFC 9110, section 10.1.1).
    Continue,
    /// A whole request.
    Request(Box<Request>),
}

/// The methods of requests (RFC 9110, section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Reads a resource.
    Get,
    /// Reads the head that a GET would give.
    Head,
    /// Has a resource do something.
    Post,
    /// Replaces a resource.
    Put,
    /// Removes a resource.
    Delete,
    /// Asks what a resource supports.
    Options,
    /// Any other method.
    Other,
}

impl Method {
    fn of(text: &str) -> Self {
        match text {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Other => "another method",
        })
    }
}

/// A whole request.
#[derive(Debug)]
pub struct Request {
    method: Method,
    is_http10: bool,
    path: String,
    query: String,
    /// The head as it came.
    head: Box<[u8]>,
    /// Name and value of each field in `head`.
    fields: Vec<(Range<usize>, Range<usize>)>,
    body: Vec<u8>,
    /// Bytes of the body that are still to come.
    left: usize,
}

/// A host, as `Host` and `Origin` name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'h> {
    /// The name, or the address without brackets.
    pub name: Cow<'h, str>,
    /// The address, if the host is one.
    pub address: Option<IpAddr>,
}

impl<'h> Host<'h> {
    /// Splits `host` or `host:port`. Returns `None` if it is neither.
    pub fn parse(text: &'h str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']')?;
                let address: Ipv6Addr = address.parse().ok()?;
                let name = address.to_string().into();
                let is_port = after.is_empty() || is_port(after.strip_prefix(':')?);
                return is_port.then_some(Self { name, address: Some(address.into()) });
            }
            None => text.split_once(':').unwrap_or((text, "")),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        let fits = !host.is_empty() && host.chars().all(is_name) && is_port(port);
        fits.then(|| Self { name: host.into(), address: host.parse().ok() })
    }
}

/// Returns whether a port is empty or a number.
fn is_port(port: &str) -> bool {
    port.is_empty() || port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit())
}

/// An error in a request. The connection ends with it, since the end of the request is in doubt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// The status of the response.
    pub status: Status,
    /// What was expected, and what came.
    pub detail: &'static str,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.detail)
    }
}

impl std::error::Error for RequestError {}

const fn bad(detail: &'static str) -> RequestError {
    RequestError { status: Status::BadRequest, detail }
}

impl RequestReader {
    /// Consumes `input` up to the end of the next request. Returns `None` if `input` is used up.
    /// The requests do not depend on how the bytes are split between calls.
    ///
    /// # Errors
    /// [`RequestError`] if the bytes are no request that a server should act on.
    pub fn next(&mut self, input: &mut &mut [u8]) -> Result<Option<Incoming>, RequestError> {
        if self.partial.is_none() {
            let Some(head) = self.take_head(input)? else { return Ok(None) };
            let request = Box::new(Request::parse(head)?);
            let waits = request.left > 0 && input.is_empty() && request.header("expect").is_some();
            self.partial = Some(request);
            if waits {
                return Ok(Some(Incoming::Continue));
            }
        }
        Ok(self.take_body(input).map(Incoming::Request))
    }

    fn take_body(&mut self, input: &mut &mut [u8]) -> Option<Box<Request>> {
        let request = self.partial.as_mut()?;
        let taken = request.left.min(input.len());
        request.body.extend_from_slice(take(input, taken));
        request.left -= taken;
        if request.left > 0 { None } else { self.partial.take() }
    }

    /// Takes the bytes up to the end of a head. Each byte is looked at once: a head that comes in
    /// pieces is not searched from its start again.
    fn take_head(&mut self, input: &mut &mut [u8]) -> Result<Option<Vec<u8>>, RequestError> {
        // Some clients send an empty line after a body (RFC 9112, section 2.2).
        while self.held.is_empty() && input.starts_with(b"\r\n") {
            take(input, 2);
        }
        while !input.is_empty() {
            let len = input.iter().position(|byte| *byte == b'\n').map_or(input.len(), |at| at + 1);
            if self.held.len() + len > HTTP_HEAD_BYTES_MAX {
                return Err(self.too_long());
            }
            self.held.extend_from_slice(take(input, len));
            if self.held[0] != b'\r' && !is_token(self.held[0]) {
                return Err(bad("expected a method, got bytes of another protocol"));
            }
            if self.held.last() == Some(&b'\n') {
                if !self.held.ends_with(b"\r\n") {
                    return Err(bad("expected lines that end with CR and LF, got a bare LF"));
                }
                if self.held == b"\r\n" {
                    self.held.clear();
                } else if self.held.ends_with(HEAD_END) {
                    return Ok(Some(std::mem::take(&mut self.held)));
                }
            }
        }
        Ok(None)
    }

    fn too_long(&self) -> RequestError {
        let status = if self.held.contains(&b'\n') {
            Status::HeaderFieldsTooLarge
        } else {
            Status::UriTooLong
        };
        RequestError { status, detail: "the head of the request is longer than 8 KiB" }
    }

    /// Returns whether a request has begun and is not complete.
    pub fn is_within_request(&self) -> bool {
        !self.held.is_empty() || self.partial.is_some()
    }

    /// Returns the memory that it holds in addition to itself (bytes).
    pub fn held_bytes(&self) -> usize {
        self.held.capacity() + self.partial.as_ref().map_or(0, |request| request.held_bytes())
    }
}

/// Takes the first `count` bytes of `input`.
fn take<'i>(input: &mut &'i mut [u8], count: usize) -> &'i [u8] {
    let (taken, rest) = std::mem::take(input).split_at_mut(count);
    *input = rest;
    taken
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.')
}

impl Request {
    fn parse(head: Vec<u8>) -> Result<Self, RequestError> {
        let mut headers = [httparse::EMPTY_HEADER; HTTP_HEADERS_MAX];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(&head) {
            Ok(httparse::Status::Complete(len)) if len == head.len() => {}
            Ok(_) => return Err(bad("the head of the request is malformed")),
            Err(error) => return Err(error.into()),
        }
        let (Some(method), Some(target), Some(minor)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(bad("the head of the request is malformed"));
        };
        let offset = |part: &[u8]| {
            let start = part.as_ptr() as usize - head.as_ptr() as usize;
            start..start + part.len()
        };
        let fields = parsed.headers.iter();
        let fields = fields.map(|field| (offset(field.name.as_bytes()), offset(field.value)));
        let (fields, method) = (fields.collect(), Method::of(method));
        let (path, query) = split_target(target, method)?;
        let mut request = Self {
            method,
            is_http10: minor == 0,
            path,
            query,
            fields,
            head: head.into(),
            body: Vec::new(),
            left: 0,
        };
        request.check_fields()?;
        request.left = request.body_len()?;
        Ok(request)
    }

    fn check_fields(&self) -> Result<(), RequestError> {
        for name in SINGLE {
            if self.values(name).nth(1).is_some() {
                return Err(bad("a header that may come once came twice"));
            }
        }
        let is_control = |byte: &u8| *byte != b'\t' && byte.is_ascii_control();
        if self.fields.iter().any(|(_, value)| self.head[value.clone()].iter().any(is_control)) {
            return Err(bad("a header has control characters"));
        }
        match self.header("host") {
            None if self.is_http10 => {}
            None => return Err(bad("expected a Host header, got none")),
            Some(_) if self.host().is_none() => {
                return Err(bad("expected a host and a port in Host"));
            }
            Some(_) => {}
        }
        match self.header("expect") {
            Some(expect) if !expect.eq_ignore_ascii_case(b"100-continue") => Err(RequestError {
                status: Status::ExpectationFailed,
                detail: "the only expectation that is met is 100-continue",
            }),
            _ => Ok(()),
        }
    }

    /// Returns the length of the body (RFC 9112, section 6.3).
    fn body_len(&self) -> Result<usize, RequestError> {
        let length = self.header("content-length");
        if self.header("transfer-encoding").is_some() {
            if length.is_some() {
                return Err(bad("a request has both Content-Length and Transfer-Encoding"));
            }
            let detail = "requests with a transfer coding are not taken: send Content-Length";
            return Err(RequestError { status: Status::NotImplemented, detail });
        }
        let Some(length) = length else { return Ok(0) };
        if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
            return Err(bad("expected a decimal number in Content-Length"));
        }
        let length = std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok());
        length.filter(|length| *length <= HTTP_BODY_BYTES_MAX).ok_or(RequestError {
            status: Status::ContentTooLarge,
            detail: "the body is longer than 16 KiB",
        })
    }

    /// Returns the method.
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Returns the path, decoded. It begins with a slash, and has neither dot segments nor control
    /// characters.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns the query as it came, without its question mark.
    pub fn query(&self) -> &str {
        &self.query
    }

    /// Returns the decoded value of the first parameter called `name`.
    pub fn query_value(&self, name: &str) -> Option<String> {
        let mut pairs = self.query.split('&');
        pairs.find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then(|| decode(&value.replace('+', " ")))?
        })
    }

    /// Returns the value of a field whose name is given in lower case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.values(name).next()
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let is_it = move |(found, _): &&(Range<usize>, Range<usize>)| {
            self.head[found.clone()].eq_ignore_ascii_case(name.as_bytes())
        };
        self.fields.iter().filter(is_it).map(|(_, value)| &self.head[value.clone()])
    }

    /// Returns whether a field that is a list has `token`, whatever its case.
    fn lists(&self, name: &str, token: &str) -> bool {
        let mut items = self.values(name).flat_map(|value| value.split(|byte| *byte == b','));
        items.any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Returns the host in `Host`. Only a request of HTTP/1.0 has none.
    pub fn host(&self) -> Option<Host<'_>> {
        Host::parse(std::str::from_utf8(self.header("host")?).ok()?)
    }

    /// Returns the body.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns whether the client wants to send another request on the connection (RFC 9112,
    /// section 9.3).
    pub fn is_keep_alive(&self) -> bool {
        match self.is_http10 {
            true => self.lists("connection", "keep-alive"),
            false => !self.lists("connection", "close"),
        }
    }

    /// Returns the bearer token (RFC 6750, section 2.1).
    pub fn bearer_token(&self) -> Option<&[u8]> {
        let value = self.header("authorization")?;
        let (scheme, token) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
    }

    /// Returns the accept key for the response, if the client wants to switch to WebSocket (RFC
    /// 6455, section 4.2.1).
    pub fn wants_websocket(&self) -> Option<String> {
        let asks = self.method == Method::Get
            && !self.is_http10
            && self.lists("connection", "upgrade")
            && self.lists("upgrade", "websocket")
            && self.header("sec-websocket-version") == Some(b"13");
        let key = self.header("sec-websocket-key").filter(|_| asks)?;
        Some(super::websocket::accept_key(key))
    }

    /// Returns the memory that it holds, including itself (bytes).
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + self.path.capacity()
            + self.query.capacity()
            + self.head.len()
            + self.fields.capacity() * size_of::<(Range<usize>, Range<usize>)>()
            + self.body.capacity()
    }
}

impl From<httparse::Error> for RequestError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self {
                status: Status::HeaderFieldsTooLarge,
                detail: "the request has more than 64 headers",
            },
            httparse::Error::Version => Self {
                status: Status::VersionNotSupported,
                detail: "expected HTTP/1.1 or HTTP/1.0",
            },
            _ => bad("the head of the request is malformed"),
        }
    }
}

/// Splits the target of a request, which must be a path on this server (RFC 9112, section 3.2.1).
fn split_target(target: &str, method: Method) -> Result<(String, String), RequestError> {
    if target.len() > HTTP_TARGET_BYTES_MAX {
        let detail = "the target is longer than 2 KiB";
        return Err(RequestError { status: Status::UriTooLong, detail });
    }
    if target == "*" && method == Method::Options {
        return Ok(("*".to_owned(), String::new()));
    }
    if !target.starts_with('/') {
        return Err(bad("expected a target that begins with a slash"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let lower = path.to_ascii_lowercase();
    if lower.contains("%2f") || lower.contains("%5c") {
        return Err(bad("the path has an encoded slash"));
    }
    let path = decode(path).ok_or_else(|| bad("the path is not encoded UTF-8"))?;
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(bad("the path has dot segments"));
    }
    if path.chars().any(char::is_control) {
        return Err(bad("the path has control characters"));
    }
    Ok((path, query.to_owned()))
}

/// Decodes percent-encoding once (RFC 3986, section 2.1). Returns `None` if an escape is cut or the
/// result is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push(if byte == b'%' { (digit()? << 4 | digit()?) as u8 } else { byte });
    }
    String::from_utf8(decoded).ok()
}
