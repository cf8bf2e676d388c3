//! HTTP and WebSocket: slow and endless requests, requests with two readings, pages of other sites,
//! and players that misbehave.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};

use super::players::wait_until_rid_of;
use crate::attacker::{Attacker, SOON};
use crate::healthy::Pace;
use crate::support::random::Random;
use crate::support::server::http_of;
use crate::trial::Trial;

/// The token that the settings of these cases have.
const TOKEN: &str = "Authorization: Bearer 0123456789abcdef\r\n";
/// Deadlines in the settings of these cases, plus reserve for a busy machine.
const DEADLINE: Duration = Duration::from_secs(2);
const LATE: Duration = Duration::from_secs(5);
/// Resident memory of the server for an idle connection of HTTP (bytes).
const IDLE_BYTES_MAX: i64 = 1536;
const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
const FLV: &str = "/live/canary.flv";
/// Numbers of the first byte of a frame: the whole of a message (RFC 6455, section 5.2).
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

fn connect(trial: &Trial<'_>) -> Attacker {
    let server = http_of(trial.arena.server.address);
    Attacker::connect(server, &trial.traffic).expect("the server accepts")
}

/// Opens a connection with a small receive buffer.
fn connect_small(trial: &Trial<'_>) -> Attacker {
    let from = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
    let server = http_of(trial.arena.server.address);
    Attacker::connect_from(from, 4096, server, &trial.traffic).expect("the server accepts")
}

fn send(trial: &Trial<'_>, bytes: impl AsRef<[u8]>) -> Attacker {
    let mut attacker = connect(trial);
    attacker.send(bytes.as_ref());
    attacker
}

/// Returns a request with these header lines in addition to `Host`.
fn request(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n")
}

fn get(path: &str) -> String {
    request("GET", path, "")
}

/// Expects the next response to have `status`.
fn answers(trial: &mut Trial<'_>, what: &str, attacker: &mut Attacker, status: u16) {
    let found = attacker.hears_status(SOON);
    trial.verdict.expect(found == Some(status), || format!("{what}: {found:?}, not {status}"));
}

/// Expects a response with `status`, then the end of the connection, and no other response.
fn refuses(trial: &mut Trial<'_>, what: &str, mut attacker: Attacker, status: u16) {
    answers(trial, what, &mut attacker, status);
    attacker.wait_end(SOON);
    let answers_more = attacker.hears_status(Duration::ZERO);
    trial.verdict.expect(answers_more.is_none(), || format!("{what}: a second response"));
    trial.closes(what, attacker, "bad_request");
}

/// Expects the connection to serve another request.
fn serves(trial: &mut Trial<'_>, what: &str, mut attacker: Attacker) {
    attacker.send(get("/healthz").as_bytes());
    answers(trial, what, &mut attacker, 200);
    trial.verdict.outcome("served");
}

pub(super) fn w01(trial: &mut Trial<'_>) {
    let head = get("/");
    let began = Instant::now();
    let held: Vec<_> =
        (0..300).map(|index| send(trial, &head.as_bytes()[..index % head.len()])).collect();
    let mut slow = send(trial, get("/healthz"));
    answers(trial, "the first request", &mut slow, 200);
    slow.trickle(head.as_bytes(), 1, Duration::from_millis(100), DEADLINE + LATE);
    answers(trial, "a byte at a time", &mut slow, 408);
    trial.closes("a byte at a time", slow, "http_timeout");
    for attacker in held {
        trial.closes("a part of a head", attacker, "http_timeout");
    }
    let took = began.elapsed();
    trial.verdict.expect(took < 2 * DEADLINE + LATE, || format!("they held for {took:?}"));
}

pub(super) fn w02(trial: &mut Trial<'_>) {
    let fields = format!("{TOKEN}Content-Length: 5000\r\n");
    let head = request("PUT", "/api/v1/log-level", &fields);
    let began = Instant::now();
    let held: Vec<_> = (0..200).map(|_| send(trial, head.clone() + "{\"level\"")).collect();
    let mut slow = send(trial, &head);
    slow.trickle(&[b' '; 5000], 1, Duration::from_millis(50), DEADLINE + LATE);
    answers(trial, "a byte at a time", &mut slow, 408);
    trial.closes("a byte at a time", slow, "http_timeout");
    for attacker in held {
        trial.closes("a part of a body", attacker, "http_timeout");
    }
    let took = began.elapsed();
    trial.verdict.expect(took < DEADLINE + LATE, || format!("they held for {took:?}"));
    let too_long = request("PUT", "/api/v1/log-level", "Content-Length: 99999999999\r\n");
    refuses(trial, "a body of 100 GB", send(trial, too_long), 413);
}

pub(super) fn w03(trial: &mut Trial<'_>) {
    trial.has_players = true;
    let (list, began) = (get("/api/v1/connections?limit=1000"), Instant::now());
    let mut held: Vec<_> = (0..100).map(|_| connect_small(trial)).collect();
    // Sent once all of them are in the list: the lists that the first ones would get alone may fit
    // into the sockets.
    for attacker in &mut held {
        attacker.reads = false;
        attacker.send(list.repeat(10).as_bytes());
    }
    while began.elapsed() < DEADLINE {
        for slow in &mut held[..50] {
            slow.take_up_to(1);
        }
        trial.sample();
        thread::sleep(Duration::from_millis(100));
    }
    trial.all_ended("127.0.0.1:", held.len(), &["http_timeout"]);
    let most = trial.most_kib();
    // A list of all connections for each of them.
    trial.verdict.expect(most < 100 * 100, || format!("{most} KiB"));
}

pub(super) fn w04(trial: &mut Trial<'_>) {
    let many = (0..1000).map(|at| format!("{at}-,")).collect::<String>();
    let ranges = [
        "bytes=0-",
        "bytes=-1",
        "bytes=18446744073709551615-",
        "bytes=0-18446744073709551616",
        "bytes=9-0",
        "bytes=--",
        "pages=1-2",
        &format!("bytes={many}"),
    ];
    for range in ranges {
        for path in ["/page.css", "/healthz", FLV] {
            let mut attacker = send(trial, request("GET", path, &format!("Range: {range}\r\n")));
            answers(trial, &format!("{path} {:.20}", range), &mut attacker, 200);
        }
    }
    trial.has_players = true;
    let mut twice = send(trial, request("GET", "/healthz", &"Range: bytes=0-1\r\n".repeat(60)));
    answers(trial, "60 ranges", &mut twice, 200);
    serves(trial, "60 ranges", twice);
}

pub(super) fn w05(trial: &mut Trial<'_>) {
    let fields = |count: usize| request("GET", "/healthz", &"X: y\r\n".repeat(count));
    let mut most = send(trial, fields(63));
    answers(trial, "64 headers", &mut most, 200);
    serves(trial, "64 headers", most);
    refuses(trial, "65 headers", send(trial, fields(64)), 431);
    let long = request("GET", "/healthz", &format!("X: {}\r\n", "y".repeat(9000)));
    refuses(trial, "a long header", send(trial, long), 431);
    refuses(trial, "a long target", send(trial, get(&"/x".repeat(1025))), 414);
    refuses(
        trial,
        "a target without end",
        send(trial, "GET /".to_owned() + &"x".repeat(9000)),
        414,
    );
    for index in 0..1000 {
        let mut endless = send(trial, "GET / HTTP/1.1\r\nHost: a\r\n");
        endless.send("X: y\r\n".repeat(2000).as_bytes());
        if index % 100 == 0 {
            trial.sample();
        }
    }
    let most = trial.most_kib();
    trial.verdict.expect(most < 4096, || format!("{most} KiB"));
    let mut empty = connect(trial);
    empty.send(&b"\r\n".repeat(1 << 20));
    trial.closes("2 MB of empty lines", empty, "http_timeout");
}

pub(super) fn w06(trial: &mut Trial<'_>) {
    let count = tiderace::descriptors::raise_limit().saturating_sub(200).min(10_000);
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut attacker = send(trial, get("/healthz"));
        answers(trial, "the first request", &mut attacker, 200);
        held.push(attacker);
    }
    trial.sample();
    let each = trial.most_kib() * 1024 / count as i64;
    trial.verdict.figure(format!("{count} connections, {each} bytes each"));
    trial.verdict.expect(each <= IDLE_BYTES_MAX, || format!("{each} bytes for each"));
    for mut attacker in held.drain(..).step_by(100) {
        attacker.send(get("/readyz").as_bytes());
        answers(trial, "the second request", &mut attacker, 200);
        // With FIN the ports would stay in TIME_WAIT.
        attacker.reset();
    }
}

/// Returns a frame whose mask is zero.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u16;
    let head = match len {
        0..126 => vec![first, 0x80 | len as u8],
        _ => [&[first, 0xfe], &len.to_be_bytes()[..]].concat(),
    };
    [&head, &[0; 4][..], payload].concat()
}

fn websocket(trial: &mut Trial<'_>, what: &str) -> Attacker {
    trial.has_players = true;
    let mut attacker = send(trial, request("GET", FLV, UPGRADE));
    answers(trial, what, &mut attacker, 101);
    attacker
}

/// Expects a ping to be answered.
fn pongs(trial: &mut Trial<'_>, what: &str, mut attacker: Attacker) {
    attacker.send(&frame(PING, b"a ping"));
    let is_answered = attacker.hears(b"\x8a\x06a ping", SOON);
    let end = attacker.end();
    trial.verdict.expect(is_answered, || format!("{what}: a ping is not answered, {end:?}"));
    trial.verdict.outcome("served");
}

pub(super) fn w07(trial: &mut Trial<'_>) {
    let pings = frame(PING, &[7; 125]).repeat(1000);
    let small = [frame(PONG, b""), frame(2, b""), frame(0, b""), frame(0x80, b"")].concat();
    let small = small.repeat(1000);
    let mut deaf = connect_small(trial);
    deaf.send(request("GET", FLV, UPGRADE).as_bytes());
    answers(trial, "reads nothing", &mut deaf, 101);
    deaf.reads = false;
    for _ in 0..100 {
        deaf.send(&pings);
        trial.sample();
    }
    let mut reading = websocket(trial, "reads");
    let mut tiny = websocket(trial, "tiny frames");
    for _ in 0..100 {
        reading.send(&pings);
        tiny.send(&small);
        // A player that takes nothing for two seconds is closed.
        while reading.take() || tiny.take() {}
        trial.sample();
    }
    let most = trial.most_kib();
    trial.verdict.expect(most < 2048, || format!("{most} KiB"));
    pongs(trial, "100,000 pings", reading);
    pongs(trial, "400,000 tiny frames", tiny);
    let cpu = trial.cpu().as_millis();
    trial.verdict.figure(format!("{cpu} ms of CPU for 600,000 frames"));
    thread::sleep(DEADLINE + Duration::from_secs(1));
    trial.closes("100,000 pings, reading none", deaf, "player_stalled");
}

pub(super) fn w08(trial: &mut Trial<'_>) {
    let cases: [(&str, Vec<u8>, u16); 18] = [
        ("no mask", b"\x82\x01x".to_vec(), 1002),
        ("reserved bits", vec![BINARY | 0x40, 0x80, 0, 0, 0, 0], 1002),
        ("a reserved opcode", frame(0x83, b""), 1002),
        ("a reserved control opcode", frame(0x8b, b""), 1002),
        ("a fragmented ping", frame(0x09, b""), 1002),
        ("a fragmented close", frame(0x08, b"\x03\xe8"), 1002),
        ("a ping of 126 bytes", frame(PING, &[0; 126]), 1002),
        ("a length of 2 bytes for 125", b"\x82\xfe\x00\x7d\0\0\0\0".to_vec(), 1002),
        ("a length of 8 bytes for 65535", b"\x82\xff\0\0\0\0\0\0\xff\xff".to_vec(), 1002),
        ("a length of 2^64 - 1", [&[BINARY, 0xff], &[0xff; 8][..]].concat(), 1009),
        ("a length of 2^63", [&[BINARY, 0xff, 0x80], &[0; 7][..]].concat(), 1009),
        ("a message of 4097 bytes", frame(BINARY, &[0; 4097]), 1009),
        ("4097 bytes in fragments", [frame(2, &[0; 4096]), frame(0, &[0; 1])].concat(), 1009),
        ("a message in a message", [frame(2, b"a"), frame(2, b"b")].concat(), 1002),
        ("no first fragment", frame(0x80, b""), 1002),
        ("text that is not UTF-8", frame(0x81, b"\xff"), 1007),
        ("a close of 1 byte", frame(CLOSE, b"\x03"), 1002),
        ("a close for a reserved reason", frame(CLOSE, b"\x03\xed"), 1002),
    ];
    for (what, bytes, code) in cases {
        let mut attacker = websocket(trial, what);
        // Bytes after an error are not interpreted.
        attacker.send(&[bytes, frame(PING, b"after it")].concat());
        let close = [&[CLOSE, 2], &code.to_be_bytes()[..]].concat();
        let is_told = attacker.hears(close, SOON);
        trial.verdict.expect(is_told, || format!("{what}: no close with {code}"));
        let goes_on = attacker.hears("after it", Duration::ZERO);
        trial.verdict.expect(!goes_on, || format!("{what}: it goes on"));
        trial.closes(what, attacker, "bad_frame");
    }
    for (what, fields) in [
        ("no key", UPGRADE.replace("Sec-WebSocket-Key", "X")),
        ("version 12", UPGRADE.replace("13", "12")),
        ("two keys", format!("{UPGRADE}Sec-WebSocket-Key: x\r\n")),
    ] {
        let mut attacker = send(trial, request("GET", FLV, &fields));
        let upgraded = attacker.hears_status(SOON) == Some(101);
        trial.verdict.expect(!upgraded, || format!("{what}: upgraded"));
    }
}

pub(super) fn w09(trial: &mut Trial<'_>) {
    let paths = ["/", "/page.js", "/events", "/metrics", "/api/v1/server", "/healthz", FLV];
    for host in [
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "2130706433",
        "0x7f.1",
        "localhost..",
        "xn--lcalhost-n1a",
    ] {
        for path in paths {
            let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{TOKEN}\r\n");
            let mut attacker = send(trial, text);
            answers(trial, &format!("{host} {path}"), &mut attacker, 421);
            serves(trial, host, attacker);
        }
    }
    for host in ["evil.example@127.0.0.1", "127.0.0.1/", "[::1].evil.example", "127.0.0.1:x", ""] {
        let text = format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n");
        refuses(trial, host, send(trial, text), 400);
    }
}

pub(super) fn w10(trial: &mut Trial<'_>) {
    let calls = [
        ("DELETE", "/api/v1/streams/0-1"),
        ("DELETE", "/api/v1/connections/0-1"),
        ("POST", "/api/v1/connections/0-1/kick"),
        ("POST", "/api/v1/reload"),
        ("PUT", "/api/v1/log-level"),
    ];
    // As browsers send them for forms, scripts, frames without an origin and other ports.
    let origins = [
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Origin: http://127.0.0.1:9\r\n",
        "Origin: https://127.0.0.1.evil.example\r\n",
        "Origin: \r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: cross-site\r\nOrigin: http://127.0.0.1\r\n",
    ];
    for (method, path) in calls {
        for origin in origins {
            let fields =
                format!("{TOKEN}{origin}Content-Type: text/plain\r\nContent-Length: 17\r\n");
            let body = "{\"level\":\"trace\"}";
            let mut attacker = send(trial, request(method, path, &fields) + body);
            answers(trial, &format!("{method} {path} {origin}"), &mut attacker, 403);
            serves(trial, path, attacker);
        }
        let mut attacker = send(trial, request(method, path, ""));
        answers(trial, "no token", &mut attacker, 401);
    }
    let fields = "Origin: http://evil.example\r\n";
    for path in ["/", "/api/v1/server", "/metrics", "/page.js"] {
        let mut attacker = send(trial, request("GET", path, fields));
        answers(trial, path, &mut attacker, 200);
        let is_shared = attacker.hears("Access-Control-Allow", Duration::from_millis(50));
        trial.verdict.expect(!is_shared, || format!("{path}: other origins may read it"));
    }
    let mut attacker = send(trial, request("GET", FLV, fields));
    answers(trial, "a stream", &mut attacker, 403);
}

pub(super) fn w11(trial: &mut Trial<'_>) {
    let post = |fields: &str| request("POST", "/healthz", fields);
    let cases = [
        ("both lengths", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("the same, swapped", post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n"), 400),
        ("chunked", post("Transfer-Encoding: chunked\r\n"), 501),
        ("a coding that hides", post("Transfer-Encoding: xchunked\r\n"), 501),
        ("two codings", post("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n"), 400),
        ("two lengths", post("Content-Length: 0\r\nContent-Length: 40\r\n"), 400),
        ("the same length twice", post("Content-Length: 0\r\nContent-Length: 0\r\n"), 400),
        ("a list of lengths", post("Content-Length: 0, 0\r\n"), 400),
        ("a signed length", post("Content-Length: +0\r\n"), 400),
        ("a negative length", post("Content-Length: -1\r\n"), 400),
        ("a hexadecimal length", post("Content-Length: 0x0\r\n"), 400),
        ("a space before the colon", post("Content-Length : 0\r\n"), 400),
        ("a folded line", post("X: a\r\n Content-Length: 40\r\n"), 400),
        ("a folded first line", "GET /healthz HTTP/1.1\r\n Host: a\r\n\r\n".to_owned(), 400),
        ("a bare LF", "GET /healthz HTTP/1.1\nHost: a\n\n".to_owned(), 400),
        ("a bare LF at the end", "GET /healthz HTTP/1.1\r\nHost: a\r\n\n".to_owned(), 400),
        ("a bare CR", post("X: a\rContent-Length: 40\r\n"), 400),
        ("NUL", post("X: a\0b\r\n"), 400),
        ("a vertical tab", post("Transfer-Encoding:\x0bchunked\r\n"), 400),
        ("an absolute target", "GET http://a/healthz HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("an authority", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("two hosts", post("Host: b\r\n"), 400),
        ("no host", "GET /healthz HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("HTTP/0.9", "GET /healthz\r\n\r\n".to_owned(), 400),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
        ("HTTP/1.10", "GET /healthz HTTP/1.10\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("two spaces", "GET  /healthz HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03".to_owned(), 400),
        ("RTMP", "\x03\0\0\0\0\0\0\0\0".to_owned(), 400),
    ];
    for (what, text, status) in cases {
        let hidden = text + &get("/healthz");
        refuses(trial, what, send(trial, hidden), status);
    }
    // A body is never another request.
    let hidden = get("/nowhere");
    let fields = format!("Content-Length: {}\r\n", hidden.len());
    let mut attacker = send(trial, request("GET", "/healthz", &fields) + &hidden);
    answers(trial, "a request as a body", &mut attacker, 200);
    serves(trial, "a request as a body", attacker);
}

pub(super) fn w12(trial: &mut Trial<'_>) {
    const REQUESTS: usize = 2000;
    trial.has_players = true;
    let pipeline = get("/metrics").repeat(REQUESTS);
    let deaf: Vec<_> = (0..100)
        .map(|_| {
            let mut attacker = connect_small(trial);
            attacker.reads = false;
            attacker.send(pipeline.as_bytes());
            attacker
        })
        .collect();
    let mixed = [get("/healthz"), get("/nowhere")].concat().repeat(REQUESTS / 2);
    let mut reading = send(trial, mixed);
    let mut statuses = (0..REQUESTS).map(|_| reading.hears_status(SOON));
    let in_order = (0..REQUESTS).all(|index| statuses.next() == Some(Some([200, 404][index % 2])));
    trial.verdict.expect(in_order, || "a pipeline is not answered in order".to_owned());
    trial.sample();
    let most = trial.most_kib();
    trial.verdict.expect(most < 100 * 200, || format!("{most} KiB"));
    serves(trial, "a pipeline that is read", reading);
    thread::sleep(DEADLINE);
    for attacker in deaf {
        trial.closes("a pipeline that is not read", attacker, "http_timeout");
    }
}

pub(super) fn w13(trial: &mut Trial<'_>) {
    trial.has_players = true;
    let _feed = trial.feed("w13", Pace::mbit(8));
    let players = (0..200).map(|index| {
        let fields = if index % 2 == 0 { UPGRADE } else { "" };
        let mut player = connect_small(trial);
        player.send(request("GET", "/live/w13.flv", fields).as_bytes());
        player.reads = false;
        player
    });
    let players = players.collect();
    wait_until_rid_of(trial, players, |_| ());
}

pub(super) fn w14(trial: &mut Trial<'_>) {
    let recorded = [
        get("/api/v1/streams?limit=1&name=x"),
        request("PUT", "/api/v1/log-level", "Expect: 100-continue\r\nContent-Length: 2\r\n") + "{}",
        request("GET", FLV, UPGRADE),
        request("GET", FLV, "Range: bytes=0-\r\nConnection: close\r\n"),
    ];
    trial.has_players = true;
    let (mut random, mut open) = (Random::new(14), Vec::new());
    for index in 0..2000 {
        let mut bytes = recorded[index % recorded.len()].clone().into_bytes();
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
        let attacker = send(trial, &bytes);
        attacker.half_close();
        open.push(attacker);
        if open.len() > 100 {
            drop(open.remove(0));
        }
    }
    for mut attacker in open {
        let end = attacker.wait_end(SOON);
        trial.verdict.expect(end.is_some(), || "a half-closed connection stays".to_owned());
    }
    trial.all_ended("127.0.0.1:", 2000, &["peer_closed", "bad_request", "answered", "peer_reset"]);
}

pub(super) fn w15(trial: &mut Trial<'_>) {
    let mut random = Random::new(15);
    for index in 0..5000 {
        let bytes: Vec<_> = (0..64).map(|_| random.below(256) as u8).collect();
        send(trial, bytes).reset();
        if index % 1000 == 0 {
            trial.sample();
        }
    }
    trial.all_ended("127.0.0.1:", 5000, &["bad_request", "peer_reset", "http_timeout"]);
}

pub(super) fn w16(trial: &mut Trial<'_>) {
    trial.has_players = true;
    let pages = (0..200).map(|_| {
        let mut page = connect_small(trial);
        page.send(get("/events").as_bytes());
        page.reads = false;
        page
    });
    let pages: Vec<_> = pages.collect();
    let end = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        trial.sample();
        thread::sleep(Duration::from_millis(200));
    }
    let most = trial.most_kib();
    trial.verdict.expect(most < 200 * 100, || format!("{most} KiB"));
    trial.verdict.figure(format!("{} pages, at most {most} KiB", pages.len()));
}
