//! Requests: the bytes of a client become whole requests (RFC 9112).
//!
//! Owns the bytes of a request that is not complete, and nothing between requests. It refuses what
//! request smuggling is made of: bare line feeds, folded lines, lengths that are doubled, signed or
//! at odds with a transfer coding, targets that name a host of their own, and a second `Host`.
//! `httparse` splits the head; the bounds and the refusals are here.

use super::response::HttpStatus;
use crate::limits::{
    HTTP_BODY_BYTES_MAX, HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX, HTTP_TARGET_BYTES_MAX,
};
use std::borrow::Cow;
use std::fmt;
// Addresses are values. The module of the same name in `std` has sockets as well.
use core::net::{IpAddr, Ipv6Addr};
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
    partial: Option<Box<HttpRequest>>,
}

const _: () = assert!(size_of::<RequestReader>() <= 32);

/// An event of the reader.
#[derive(Debug, PartialEq, Eq)]
pub enum HttpArrival {
    /// The client sends the body once it is told to go on (RFC 9110, section 10.1.1).
    Continue,
    /// A whole request.
    Request(Box<HttpRequest>),
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
#[derive(Debug, PartialEq, Eq)]
pub struct HttpRequest {
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
    pub status: HttpStatus,
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
    RequestError { status: HttpStatus::BadRequest, detail }
}

impl RequestReader {
    /// Consumes `input` up to the end of the next request. Returns `None` if `input` is used up.
    /// The requests do not depend on how the bytes are split between calls.
    ///
    /// # Errors
    /// [`RequestError`] if the bytes are no request that a server should act on.
    pub fn next(&mut self, input: &mut &mut [u8]) -> Result<Option<HttpArrival>, RequestError> {
        if self.partial.is_none() {
            let Some(head) = self.take_head(input)? else { return Ok(None) };
            let request = Box::new(HttpRequest::parse(head)?);
            let waits = request.left > 0 && input.is_empty() && request.header("expect").is_some();
            self.partial = Some(request);
            if waits {
                return Ok(Some(HttpArrival::Continue));
            }
        }
        Ok(self.take_body(input).map(HttpArrival::Request))
    }

    fn take_body(&mut self, input: &mut &mut [u8]) -> Option<Box<HttpRequest>> {
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
                    // An empty line that came in pieces leaves no memory, either.
                    self.held = Vec::new();
                } else if self.held.ends_with(HEAD_END) {
                    return Ok(Some(std::mem::take(&mut self.held)));
                }
            }
        }
        Ok(None)
    }

    fn too_long(&self) -> RequestError {
        let status = if self.held.contains(&b'\n') {
            HttpStatus::HeaderFieldsTooLarge
        } else {
            HttpStatus::UriTooLong
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

impl HttpRequest {
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
                status: HttpStatus::ExpectationFailed,
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
            return Err(RequestError { status: HttpStatus::NotImplemented, detail });
        }
        let Some(length) = length else { return Ok(0) };
        if length.is_empty() || !length.iter().all(u8::is_ascii_digit) {
            return Err(bad("expected a decimal number in Content-Length"));
        }
        let length = std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok());
        length.filter(|length| *length <= HTTP_BODY_BYTES_MAX).ok_or(RequestError {
            status: HttpStatus::ContentTooLarge,
            detail: "the body is longer than 16 KiB",
        })
    }

    /// Returns the method.
    pub const fn method(&self) -> Method {
        self.method
    }

    /// Returns whether the client speaks HTTP/1.0, which has no chunked bodies.
    pub const fn is_http10(&self) -> bool {
        self.is_http10
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

    /// Returns whether the client has the version of the resource that `tag` names (RFC 9110,
    /// section 13.1.2). The comparison is weak.
    pub fn has_version(&self, tag: &str) -> bool {
        let opaque = |tag: &str| tag.strip_prefix("W/").unwrap_or(tag).to_owned();
        let items = self.values("if-none-match").flat_map(|value| value.split(|b| *b == b','));
        let mut items = items.filter_map(|item| std::str::from_utf8(item.trim_ascii()).ok());
        items.any(|item| item == "*" || opaque(item) == opaque(tag))
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
                status: HttpStatus::HeaderFieldsTooLarge,
                detail: "the request has more than 64 headers",
            },
            httparse::Error::Version => Self {
                status: HttpStatus::VersionNotSupported,
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
        return Err(RequestError { status: HttpStatus::UriTooLong, detail });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::KIB;

    /// As curl 7.88 sends `curl -d hi 'http://[::1]:8080/a%20b?k=v+w'` with `Expect`, and another
    /// request behind it.
    const POST: &[u8] = b"POST /a%20b?k=v+w HTTP/1.1\r\nHost: [::1]:8080\r\n\
        User-Agent: curl/7.88.1\r\nAccept: */*\r\nContent-Length: 2\r\n\
        Content-Type: application/x-www-form-urlencoded\r\n\r\nhi\
        GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    /// As ffmpeg 5.1 asks for a stream.
    const FFMPEG: &str = "GET /live/show.flv HTTP/1.1\r\nUser-Agent: Lavf/59.27.100\r\n\
        Accept: */*\r\nRange: bytes=0-\r\nConnection: close\r\nHost: 127.0.0.1:8080\r\n\
        Icy-MetaData: 1\r\n\r\n";
    /// The example of RFC 6455, section 1.2.
    const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: server.example.com\r\n\
        Upgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: http://example.com\r\n\
        Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Version: 13\r\n\r\n";

    fn read(bytes: &[u8], step: usize) -> Result<Vec<HttpArrival>, RequestError> {
        let (mut reader, mut found) = (RequestReader::default(), Vec::new());
        for part in bytes.chunks(step) {
            let mut part = part.to_vec();
            let mut input = &mut part[..];
            while let Some(arrival) = reader.next(&mut input)? {
                found.push(arrival);
            }
            assert!(input.is_empty());
        }
        assert!(reader.is_within_request() || reader.held_bytes() == 0);
        Ok(found)
    }

    fn only(text: &str) -> Box<HttpRequest> {
        let mut found = read(text.as_bytes(), text.len()).unwrap();
        match (found.pop(), found.is_empty()) {
            (Some(HttpArrival::Request(request)), true) => request,
            other => panic!("{other:?}"),
        }
    }

    fn status_of(text: &str) -> Result<usize, u16> {
        let found = read(text.as_bytes(), text.len());
        found.map(|found| found.len()).map_err(|error| error.status.code())
    }

    fn with(fields: &str) -> String {
        format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    }

    #[test]
    fn any_split_gives_the_same_requests() {
        let whole = read(POST, POST.len()).unwrap();
        let [HttpArrival::Request(post), HttpArrival::Request(_)] = &whole[..] else {
            panic!("{whole:?}");
        };
        assert_eq!((post.method(), post.path(), post.body()), (Method::Post, "/a b", &b"hi"[..]));
        assert_eq!(post.query_value("k").as_deref(), Some("v w"));
        assert_eq!(post.host().unwrap().address, Some(Ipv6Addr::LOCALHOST.into()));
        for step in 1..POST.len() {
            assert_eq!(read(POST, step).as_ref(), Ok(&whole), "{step}");
        }
    }

    #[test]
    fn real_clients_are_understood() {
        let ffmpeg = only(FFMPEG);
        assert_eq!((ffmpeg.path(), ffmpeg.is_keep_alive()), ("/live/show.flv", false));
        let host = ffmpeg.host().unwrap();
        assert_eq!((&*host.name, host.address.is_some()), ("127.0.0.1", true));
        let upgrade = only(UPGRADE);
        assert_eq!(upgrade.wants_websocket().unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(upgrade.is_keep_alive() && upgrade.host().unwrap().address.is_none());
        assert_eq!(ffmpeg.wants_websocket(), None);
    }

    #[test]
    fn rfc_9112_section_9_3_decides_whether_the_connection_stays() {
        for (version, field, stays) in [
            ("1.1", "", true),
            ("1.1", "Connection: Close\r\n", false),
            ("1.1", "Connection: x, close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
        ] {
            let request = only(&format!("GET / HTTP/{version}\r\nHost: a\r\n{field}\r\n"));
            assert_eq!(request.is_keep_alive(), stays, "{version} {field}");
        }
    }

    #[test]
    fn a_bearer_token_is_what_follows_the_scheme() {
        for (value, token) in [
            ("Bearer abc", Some(&b"abc"[..])),
            ("bearer abc", Some(b"abc")),
            ("Basic abc", None),
            ("Bearer", None),
        ] {
            let request = only(&with(&format!("Authorization: {value}\r\n")));
            assert_eq!(request.bearer_token(), token, "{value}");
        }
    }

    #[test]
    fn rfc_9110_section_10_1_1_a_client_that_waits_is_told_to_go_on() {
        let head =
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
        assert_eq!(read(head.as_bytes(), head.len()), Ok(vec![HttpArrival::Continue]));
        // With the body behind the head the client does not wait.
        assert_eq!(status_of(&format!("{head}hi")), Ok(1));
    }

    #[test]
    fn rfc_9110_section_13_1_2_versions_are_compared_weakly() {
        for (fields, is_it) in [
            ("", false),
            ("If-None-Match: \"a\"\r\n", true),
            ("If-None-Match: W/\"a\"\r\n", true),
            ("If-None-Match: \"b\", \"a\"\r\n", true),
            ("If-None-Match: \"b\"\r\nIf-None-Match: \"a\"\r\n", true),
            ("If-None-Match: *\r\n", true),
            ("If-None-Match: \"b\", a, \"A\"\r\n", false),
        ] {
            assert_eq!(only(&with(fields)).has_version("\"a\""), is_it, "{fields}");
            assert_eq!(only(&with(fields)).has_version("W/\"a\""), is_it, "{fields}");
        }
    }

    #[test]
    fn what_smuggling_uses_is_refused() {
        let cases = [
            (with("Content-Length: 1\r\nContent-Length: 1\r\n"), 400),
            (with("Content-Length: +1\r\n"), 400),
            (with("Content-Length: 1, 1\r\n"), 400),
            (with("Content-Length: \r\n"), 400),
            (with("Content-Length: 0x1\r\n"), 400),
            (with("Content-Length: 99999999999999999999999\r\n"), 413),
            (with("Transfer-Encoding: chunked\r\n"), 501),
            (with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400),
            (with("X: a\r\n b\r\n"), 400),
            (with("X : a\r\n"), 400),
            (with("X: \0\r\n"), 400),
            (with("X: a\rb\r\n"), 400),
            (with("Host: b\r\n"), 400),
            (with("Expect: 200\r\n"), 417),
            ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n".to_owned(), 400),
            ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), 400),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(), 400),
            ("GET /\r\n\r\n".to_owned(), 400),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
            ("GET /a/%2e%2e/b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("GET /a%2fb HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("GET /a%00 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
            ("\u{3}\u{0}\u{0}".to_owned(), 400),
        ];
        for (text, status) in cases {
            assert_eq!(status_of(&text), Err(status), "{text:?}");
        }
    }

    #[test]
    fn each_bound_holds_on_both_sides() {
        let target =
            |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(len - 1));
        assert_eq!(status_of(&target(HTTP_TARGET_BYTES_MAX)), Ok(1));
        assert_eq!(status_of(&target(HTTP_TARGET_BYTES_MAX + 1)), Err(414));
        assert_eq!(status_of(&target(9 * KIB)), Err(414));
        let fields = |count: usize| with(&"X: y\r\n".repeat(count - 1));
        assert_eq!(status_of(&fields(HTTP_HEADERS_MAX)), Ok(1));
        assert_eq!(status_of(&fields(HTTP_HEADERS_MAX + 1)), Err(431));
        let head =
            |len: usize| with(&format!("X: {}\r\n", "y".repeat(len - with("X: \r\n").len())));
        assert_eq!(status_of(&head(HTTP_HEAD_BYTES_MAX)), Ok(1));
        assert_eq!(status_of(&head(HTTP_HEAD_BYTES_MAX + 1)), Err(431));
        let body = |len: usize| with(&format!("Content-Length: {len}\r\n")) + &"y".repeat(len);
        assert_eq!(status_of(&body(HTTP_BODY_BYTES_MAX)), Ok(1));
        assert_eq!(status_of(&body(HTTP_BODY_BYTES_MAX + 1)), Err(413));
    }

    #[test]
    fn damage_gives_the_same_at_any_split() {
        for at in 0..POST.len() {
            for byte in (0..=255).step_by(3).chain(*b"\r\n :/%") {
                let mut bytes = POST.to_vec();
                bytes[at] = byte;
                assert_eq!(read(&bytes, 1), read(&bytes, bytes.len()), "{at} {byte}");
            }
        }
    }
}
