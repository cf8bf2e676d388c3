//! The handshake of both sides, in the simple and the digest form (RTMP 1.0, section 5.2).
//!
//! Owns C0, C1, C2 and S0, S1, S2. Bytes after the last packet stay in the input. The digest form
//! is not in the specification; Flash players and ffmpeg use it. RTMPE is not supported. The caller
//! supplies the random bytes.

use std::error::Error;
use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::limits::HANDSHAKE_PACKET_BYTES;

/// How a C2 that does not answer the S1 sent is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum C2Check {
    /// C2 is not compared. Many encoders send arbitrary bytes.
    Off,
    /// C2 is compared, and the result is reported.
    Log,
    /// A mismatch ends the connection.
    Strict,
}

/// S1 in its three forms, shared by all handshakes of the process.
///
/// Peers verify S1 but do not require that it differs between connections. So it is made and signed
/// once. A handshake in the digest form then costs the verification of C1 and the signature of S2,
/// and the simple form needs no digest at all.
#[derive(Debug)]
pub struct Hello {
    simple: Box<Packet>,
    digest_first: Box<Packet>,
    digest_second: Box<Packet>,
}

/// The server side of one handshake.
///
/// ```text
/// Uninitialized --C0--> VersionSent --C1, S0 S1 S2 out--> AckSent --C2--> HandshakeDone
/// ```
#[derive(Debug, Default)]
pub struct ServerHandshake {
    state: ServerState,
}

/// The client side of one handshake, in the simple form.
#[derive(Debug)]
pub struct ClientHandshake {
    c1: Box<Packet>,
    state: ClientState,
}

/// Result of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completed {
    /// The form that C1 asked for.
    pub form: Form,
    /// True if C2 answers S1; `None` if it was not compared.
    pub c2_matches: Option<bool>,
}

/// The form of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Random bytes and their echo, as in the specification.
    Simple,
    /// C1 and S1 carry digests, and S2 is signed.
    Digest(Schema),
}

/// Position of the digest in C1 and S1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Schema 0: in the second block, from byte 772.
    SecondBlock,
    /// Schema 1: in the first block, from byte 8.
    FirstBlock,
}

/// An error that ends a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The version is not 3.
    Version(u8),
    /// Version 6, 8 or 9: the peer asks for encryption.
    Rtmpe(u8),
    /// The peer sent a TLS ClientHello.
    Tls,
    /// The peer sent an HTTP request line with these first bytes.
    Http(FirstBytes),
    /// The peer sent an RTSP request line with these first bytes.
    Rtsp(FirstBytes),
    /// The peer sent a PROXY protocol preamble.
    ProxyProtocol,
    /// C2 does not answer S1, and the check is strict.
    C2Mismatch,
}

/// The first bytes of a peer that speaks another protocol, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstBytes {
    bytes: [u8; 8],
    len: u8,
}

impl Hello {
    /// Returns the random bytes for the C1 of a client in the same process. They may be the same as
    /// those of S1, because both are public.
    pub fn c1_random(&self) -> &[u8; 1528] {
        self.simple.last_chunk().unwrap_or(&[0; 1528])
    }

    /// Creates all forms of S1 from random bytes.
    pub fn new(random: &[u8; 1528]) -> Self {
        let simple = packet([0; 4], random);
        let signed = |schema| {
            let mut s1 = packet(S1_VERSION, random);
            sign_packet(&mut s1, schema, SERVER_KEY_TEXT);
            s1
        };
        Self {
            simple,
            digest_first: signed(Schema::FirstBlock),
            digest_second: signed(Schema::SecondBlock),
        }
    }

    /// Returns S1 with its digest at the position that the peer uses. Peers that verify S1 look at
    /// both positions.
    const fn s1(&self, form: Form) -> &Packet {
        match form {
            Form::Simple => &self.simple,
            Form::Digest(Schema::FirstBlock) => &self.digest_first,
            Form::Digest(Schema::SecondBlock) => &self.digest_second,
        }
    }
}

impl ServerHandshake {
    /// Creates a handshake that has received nothing.
    pub const fn new() -> Self {
        Self { state: ServerState::Uninitialized }
    }

    /// Returns the memory of the handshake, including the struct itself, which is boxed (bytes).
    pub(super) const fn held_bytes(&self) -> usize {
        let packet = match &self.state {
            ServerState::VersionSent { c1: packet } | ServerState::AckSent { c2: packet, .. } => {
                packet.capacity()
            }
            _ => 0,
        };
        size_of::<Self>() + packet
    }

    /// Consumes the bytes of the handshake from `input`.
    ///
    /// Appends S0, S1 and S2 to `out` when C1 is complete. Sending S0 and S1 earlier is rejected:
    /// their form depends on C1, and a peer would get 1537 bytes for one. Returns `Ok(Some)` when
    /// C2 is complete. Later bytes stay in `input`, and later calls consume nothing.
    pub fn advance(
        &mut self,
        input: &mut &[u8],
        hello: &Hello,
        c2_check: C2Check,
        out: &mut Vec<u8>,
    ) -> Result<Option<Completed>, HandshakeError> {
        loop {
            match &mut self.state {
                ServerState::Uninitialized => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    check_version(input)?;
                    *input = input.get(1..).unwrap_or_default();
                    self.state = ServerState::VersionSent { c1: Vec::new() };
                }
                ServerState::VersionSent { c1 } => {
                    let Some(c1) = take_packet(c1, input) else { return Ok(None) };
                    let form = answer_c1(c1, hello, out);
                    self.state = match c2_check {
                        C2Check::Off => ServerState::AckSentUnchecked { form, c2_bytes: 0 },
                        C2Check::Log | C2Check::Strict => {
                            ServerState::AckSent { form, c2: Vec::new() }
                        }
                    };
                }
                ServerState::AckSentUnchecked { form, c2_bytes } => {
                    let form = *form;
                    if !skip_packet(c2_bytes, input) {
                        return Ok(None);
                    }
                    self.state = ServerState::HandshakeDone;
                    return Ok(Some(Completed { form, c2_matches: None }));
                }
                ServerState::AckSent { form, c2 } => {
                    let form = *form;
                    let Some(c2) = take_packet(c2, input) else { return Ok(None) };
                    let matches = c2_answers(c2, hello.s1(form), form);
                    self.state = ServerState::HandshakeDone;
                    if !matches && c2_check == C2Check::Strict {
                        return Err(HandshakeError::C2Mismatch);
                    }
                    return Ok(Some(Completed { form, c2_matches: Some(matches) }));
                }
                ServerState::HandshakeDone => return Ok(None),
            }
        }
    }
}

impl ClientHandshake {
    /// Creates a handshake whose C1 carries these random bytes.
    pub fn new(c1_random: &[u8; 1528]) -> Self {
        Self { c1: packet([0; 4], c1_random), state: ClientState::VersionSent }
    }

    /// Appends C0 and C1.
    pub fn start(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend_from_slice(self.c1.as_slice());
    }

    /// Consumes the bytes of the handshake from `input`. Returns true when S2 is complete.
    ///
    /// Appends C2 when S1 is complete. Bytes after S2 stay in `input`. S2 is not compared with C1,
    /// because servers that sign S2 do not send an echo.
    pub fn advance(
        &mut self,
        input: &mut &[u8],
        out: &mut Vec<u8>,
    ) -> Result<bool, HandshakeError> {
        loop {
            match &mut self.state {
                ClientState::VersionSent => {
                    if input.is_empty() {
                        return Ok(false);
                    }
                    check_version(input)?;
                    *input = input.get(1..).unwrap_or_default();
                    self.state = ClientState::VersionReceived { s1: Vec::new() };
                }
                ClientState::VersionReceived { s1 } => {
                    let Some(s1) = take_packet(s1, input) else { return Ok(false) };
                    out.extend_from_slice(s1);
                    self.state = ClientState::AckSent { s2_bytes: 0 };
                }
                ClientState::AckSent { s2_bytes } => {
                    if !skip_packet(s2_bytes, input) {
                        return Ok(false);
                    }
                    self.state = ClientState::HandshakeDone;
                }
                ClientState::HandshakeDone => return Ok(true),
            }
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => {
                write!(f, "the peer sent RTMP version {version} ({version:#04x}), expected 3")
            }
            Self::Rtmpe(version) => {
                write!(f, "RTMPE (version {version}) is not supported; use rtmp://")
            }
            Self::Tls => {
                write!(f, "TLS ClientHello on the plain RTMP port; use rtmp://, not rtmps://")
            }
            Self::Http(first) => {
                write!(f, "HTTP request on the RTMP port ({first}); use rtmp://")
            }
            Self::Rtsp(first) => {
                write!(f, "RTSP request on the RTMP port ({first}); use rtmp://")
            }
            Self::ProxyProtocol => {
                write!(f, "PROXY protocol preamble; switch it off in the load balancer")
            }
            Self::C2Mismatch => write!(f, "C2 does not answer the S1 that was sent"),
        }
    }
}

impl Error for HandshakeError {}

impl fmt::Display for FirstBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        write!(f, "\"{}\"", bytes.escape_ascii())
    }
}

type Packet = [u8; HANDSHAKE_PACKET_BYTES];
type Digest = [u8; DIGEST_BYTES];

/// States are named as in RTMP 1.0, section 5.2.5.
#[derive(Debug, Default)]
enum ServerState {
    /// Waits for C0.
    #[default]
    Uninitialized,
    /// Waits for C1. Nothing is allocated before its first byte.
    VersionSent {
        c1: Vec<u8>,
    },
    /// Waits for C2, which will be compared.
    AckSent {
        form: Form,
        c2: Vec<u8>,
    },
    /// Waits for C2, whose bytes are only counted.
    AckSentUnchecked {
        form: Form,
        c2_bytes: usize,
    },
    HandshakeDone,
}

#[derive(Debug)]
enum ClientState {
    /// Waits for S0.
    VersionSent,
    /// Waits for S1.
    VersionReceived {
        s1: Vec<u8>,
    },
    /// Waits for S2, whose bytes are only counted.
    AckSent {
        s2_bytes: usize,
    },
    HandshakeDone,
}

/// The version of plain RTMP in C0 and S0 (section 5.2.2).
const VERSION: u8 = 3;
/// Version field of a signed S1; the simple form has zeros there. The first byte is above 2,
/// because Flash players do not verify lower versions.
const S1_VERSION: [u8; 4] = [0x0d, 0x0e, 0x0a, 0x0d];
/// Length of the fields before the random bytes: time 4, version or time2 4.
const PACKET_HEADER_BYTES: usize = 8;
const DIGEST_BYTES: usize = 32;
/// Number of positions of a digest in its block of 764 bytes, after the offset field of 4 bytes.
const DIGEST_POSITIONS: usize = 728;

/// Signs C1, and together with [`KEY_TAIL`] C2.
const CLIENT_KEY_TEXT: &[u8] = b"Genuine Adobe Flash Player 001";
/// Signs S1, and together with [`KEY_TAIL`] S2.
const SERVER_KEY_TEXT: &[u8] = b"Genuine Adobe Flash Media Server 001";
const KEY_TAIL: [u8; 32] = [
    0xf0, 0xee, 0xc2, 0x4a, 0x80, 0x68, 0xbe, 0xe8, 0x2e, 0x00, 0xd0, 0xd1, 0x02, 0x9e, 0x7e, 0x57,
    0x6e, 0xec, 0x5d, 0x2d, 0x29, 0x80, 0x6f, 0xab, 0x93, 0xb8, 0xe6, 0x36, 0xcf, 0xeb, 0x31, 0xae,
];

impl Schema {
    const fn block_start(self) -> usize {
        match self {
            Self::FirstBlock => 8,
            Self::SecondBlock => 772,
        }
    }
}

/// Recognises the protocol of a peer by its first byte. The bytes after it distinguish RTSP from
/// HTTP and are kept for the log.
fn check_version(input: &[u8]) -> Result<(), HandshakeError> {
    match input {
        [VERSION, ..] => Ok(()),
        [version @ (6 | 8 | 9), ..] => Err(HandshakeError::Rtmpe(*version)),
        [0x16, ..] => Err(HandshakeError::Tls),
        [b'P', b'R', ..] | [b'\r', b'\n', ..] => Err(HandshakeError::ProxyProtocol),
        [b'A'..=b'Z', ..] if names_rtsp(input) => Err(HandshakeError::Rtsp(FirstBytes::of(input))),
        [b'G' | b'P' | b'H' | b'O' | b'D' | b'C' | b'T', ..] => {
            Err(HandshakeError::Http(FirstBytes::of(input)))
        }
        [version, ..] => Err(HandshakeError::Version(*version)),
        [] => Ok(()),
    }
}

/// Returns true if a request line contains the URL scheme or the version of RTSP (RFC 2326,
/// section 6.1).
fn names_rtsp(input: &[u8]) -> bool {
    let line = input.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = &line[..line.len().min(REQUEST_LINE_BYTES_MAX)];
    line.windows(4).any(|word| word.eq_ignore_ascii_case(b"rtsp"))
}

/// Length of a request line that is searched (bytes).
const REQUEST_LINE_BYTES_MAX: usize = 512;

impl FirstBytes {
    fn of(input: &[u8]) -> Self {
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(input) {
            *to = *from;
        }
        Self { bytes, len: input.len().min(bytes.len()) as u8 }
    }
}

/// Takes a packet off the input. A complete packet is returned in place. The pieces of an
/// incomplete one are collected in `held`; `None` until it is complete.
///
/// `held` allocates a whole packet with the first byte; the size is fixed and small.
fn take_packet<'a, 'i: 'a>(held: &'a mut Vec<u8>, input: &mut &'i [u8]) -> Option<&'a Packet> {
    if held.is_empty()
        && let Some((packet, rest)) = input.split_first_chunk()
    {
        *input = rest;
        return Some(packet);
    }
    let missing = HANDSHAKE_PACKET_BYTES.saturating_sub(held.len());
    let (taken, rest) = input.split_at(missing.min(input.len()));
    *input = rest;
    if !taken.is_empty() {
        held.reserve_exact(missing);
        held.extend_from_slice(taken);
    }
    held.first_chunk()
}

/// Skips the bytes of a packet. Returns true when it is complete.
fn skip_packet(skipped: &mut usize, input: &mut &[u8]) -> bool {
    let taken = HANDSHAKE_PACKET_BYTES.saturating_sub(*skipped).min(input.len());
    *input = input.get(taken..).unwrap_or_default();
    *skipped += taken;
    *skipped >= HANDSHAKE_PACKET_BYTES
}

/// Appends S0, S1 and S2 in the form that C1 asks for.
fn answer_c1(c1: &Packet, hello: &Hello, out: &mut Vec<u8>) -> Form {
    out.reserve(1 + 2 * HANDSHAKE_PACKET_BYTES);
    out.push(VERSION);
    let Some((schema, c1_digest)) = find_digest(c1, CLIENT_KEY_TEXT) else {
        // The specification replaces the time2 field of the echo. Strict clients compare S2 with
        // all of C1, so C1 is echoed unchanged.
        out.extend_from_slice(hello.s1(Form::Simple));
        out.extend_from_slice(c1);
        return Form::Simple;
    };
    let form = Form::Digest(schema);
    out.extend_from_slice(hello.s1(form));
    let (random, _) = hello.simple.split_at(HANDSHAKE_PACKET_BYTES - DIGEST_BYTES);
    out.extend_from_slice(random);
    out.extend_from_slice(&answer_digest(SERVER_KEY_TEXT, &c1_digest, random));
    form
}

/// Finds the digest of C1 or S1 by trying both positions, as every server does.
///
/// A packet without a digest has the simple form. The version field cannot decide that, because
/// some encoders write arbitrary bytes there.
fn find_digest(packet: &Packet, key: &[u8]) -> Option<(Schema, Digest)> {
    if packet.get(4..PACKET_HEADER_BYTES) == Some(&[0; 4]) {
        return None;
    }
    [Schema::SecondBlock, Schema::FirstBlock].into_iter().find_map(|schema| {
        let (before, digest, after) = split_digest(packet, schema)?;
        (hmac_sha256(key, &[before, after]) == *digest).then_some((schema, *digest))
    })
}

/// Writes the digest of S1 or C1.
fn sign_packet(packet: &mut Packet, schema: Schema, key: &[u8]) {
    let signature = split_digest(packet, schema)
        .map(|(before, _, after)| (before.len(), hmac_sha256(key, &[before, after])));
    if let Some((at, digest)) = signature
        && let Some(place) = packet.get_mut(at..at + DIGEST_BYTES)
    {
        place.copy_from_slice(&digest);
    }
}

/// Splits a packet into the bytes before, of and after its digest. The sum of the first four bytes
/// of the block gives the position.
fn split_digest(packet: &Packet, schema: Schema) -> Option<(&[u8], &Digest, &[u8])> {
    let block_start = schema.block_start();
    let sum: usize = packet.get(block_start..block_start + 4)?.iter().map(|b| *b as usize).sum();
    let (before, rest) = packet.split_at_checked(block_start + 4 + sum % DIGEST_POSITIONS)?;
    let (digest, after) = rest.split_first_chunk()?;
    Some((before, digest, after))
}

/// Returns true if C2 answers S1: it is an echo, or it has the signature that ffmpeg and Flash
/// players send.
fn c2_answers(c2: &Packet, s1: &Packet, form: Form) -> bool {
    // Bytes 4 to 7 of an echo hold the time at which the peer read S1 (section 5.2.4), so they are
    // not compared.
    let is_echo = c2.first_chunk::<4>() == s1.first_chunk::<4>()
        && c2.get(PACKET_HEADER_BYTES..) == s1.get(PACKET_HEADER_BYTES..);
    if is_echo {
        return true;
    }
    let Form::Digest(schema) = form else { return false };
    let (random, signature) = c2.split_at(HANDSHAKE_PACKET_BYTES - DIGEST_BYTES);
    split_digest(s1, schema).is_some_and(|(_, s1_digest, _)| {
        answer_digest(CLIENT_KEY_TEXT, s1_digest, random) == signature
    })
}

/// Returns the digest at the end of S2 or C2. Its key is derived from the digest of the peer's
/// packet.
fn answer_digest(key_text: &[u8], peer_digest: &Digest, random: &[u8]) -> Digest {
    hmac_sha256(&answer_key(key_text, peer_digest), &[random])
}

fn answer_key(key_text: &[u8], peer_digest: &Digest) -> Digest {
    hmac_sha256(&[key_text, &KEY_TAIL].concat(), &[peer_digest])
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> Digest {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Creates a packet with time zero. The field would set the epoch of timestamps, which no
/// implementation uses.
fn packet(version: [u8; 4], random: &[u8; 1528]) -> Box<Packet> {
    let mut packet = Box::new([0; HANDSHAKE_PACKET_BYTES]);
    let header = [0, 0, 0, 0].into_iter().chain(version);
    for (to, from) in packet.iter_mut().zip(header.chain(random.iter().copied())) {
        *to = from;
    }
    packet
}

const _: () = {
    assert!(size_of::<ServerHandshake>() <= 40);
    assert!(CLIENT_KEY_TEXT.len() == 30);
    assert!(SERVER_KEY_TEXT.len() == 36);
    assert!(PACKET_HEADER_BYTES + 1528 == HANDSHAKE_PACKET_BYTES);
};

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use crate::rtmp::message::tests::hex;

    const FFMPEG_C1: &Packet = include_bytes!("../../tests/vectors/ffpub_c1.bin");
    const FFMPEG_PLAYER_C1: &Packet = include_bytes!("../../tests/vectors/ffplay_c1.bin");
    const RTMPDUMP_C1: &Packet = include_bytes!("../../tests/vectors/rtmpdump_c1.bin");
    const CONNECT: &[u8] = b"the first chunk";

    static HELLO: LazyLock<Hello> =
        LazyLock::new(|| Hello::new(&std::array::from_fn(|i| (i * 31 + i / 256) as u8)));

    /// Returns the reply of the server to a C1.
    fn answer(c1: &[u8]) -> (Box<Packet>, Box<Packet>, ServerHandshake) {
        let mut handshake = ServerHandshake::new();
        let mut out = Vec::new();
        let bytes = [&[3], c1].concat();
        let mut input = bytes.as_slice();
        let done = handshake.advance(&mut input, &HELLO, C2Check::Log, &mut out);
        assert_eq!((done, input.len(), out.len()), (Ok(None), 0, 3073));
        assert_eq!(out[0], 3);
        let packet = |range: std::ops::Range<usize>| Box::new(out[range].try_into().unwrap());
        (packet(1..1537), packet(1537..3073), handshake)
    }

    fn completed(c1: &[u8], c2: &[u8], check: C2Check) -> Result<Completed, HandshakeError> {
        let bytes = [&[3], c1, c2, CONNECT].concat();
        let run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut handshake = ServerHandshake::new();
            let (mut behind, mut done, mut out) = (Vec::new(), None, Vec::new());
            for piece in pieces {
                let mut input = piece;
                if done.is_none() {
                    done = handshake.advance(&mut input, &HELLO, check, &mut out)?;
                    assert!(done.is_some() || input.is_empty());
                }
                behind.extend_from_slice(input);
            }
            assert_eq!((out.len(), behind.as_slice()), (3073, CONNECT));
            Ok(done.expect("all of C2 came"))
        };
        let in_one = run(&mut std::iter::once(bytes.as_slice()));
        for piece_len in [1, 2, 700, 1535, 1536, 1537, 1538, 3072, 3073] {
            assert_eq!(run(&mut bytes.chunks(piece_len)), in_one, "pieces of {piece_len}");
        }
        in_one
    }

    /// A C1 of Android encoders.
    fn signed_c1(schema: Schema) -> Box<Packet> {
        let mut c1 = packet([0x80, 0, 7, 2], &std::array::from_fn(|i| (i * 5 + 3) as u8));
        sign_packet(&mut c1, schema, CLIENT_KEY_TEXT);
        c1
    }

    #[test]
    fn hs_01_simple_c1_is_answered_by_zero_version_and_its_echo() {
        for c1 in [[0; 1536], *RTMPDUMP_C1] {
            let (s1, s2, _) = answer(&c1);
            assert_eq!(s1[4..8], [0; 4]);
            assert_eq!(*s2, c1);
        }
    }

    #[test]
    fn hs_02_nothing_is_answered_before_c1_is_whole() {
        let mut handshake = ServerHandshake::new();
        let mut out = Vec::new();
        for (index, byte) in [&[3], RTMPDUMP_C1.as_slice()].concat().iter().enumerate() {
            assert!(out.is_empty(), "after {index} bytes");
            let mut input = std::slice::from_ref(byte);
            assert_eq!(handshake.advance(&mut input, &HELLO, C2Check::Off, &mut out), Ok(None));
        }
        assert_eq!(out, [&[3], answer(RTMPDUMP_C1).0.as_slice(), RTMPDUMP_C1].concat());
    }

    #[test]
    fn hs_03_bytes_behind_c2_stay_in_the_input() {
        for check in [C2Check::Off, C2Check::Log] {
            assert!(completed(RTMPDUMP_C1, &[0; 1536], check).is_ok());
        }
    }

    #[test]
    fn hs_04_c2_is_done_with_its_last_byte() {
        for check in [C2Check::Off, C2Check::Log] {
            let mut handshake = ServerHandshake::new();
            let bytes = [&[3], RTMPDUMP_C1.as_slice(), &[0; 1535]].concat();
            let mut out = Vec::new();
            let mut advance = |mut input: &[u8]| {
                let done = handshake.advance(&mut input, &HELLO, check, &mut out).unwrap();
                (done.is_some(), input.len())
            };
            assert_eq!(advance(&bytes), (false, 0));
            assert_eq!(advance(&[]), (false, 0));
            assert_eq!(advance(&[0, 2]), (true, 1));
            assert_eq!(advance(&[2]), (false, 1), "nothing more is consumed");
        }
    }

    #[test]
    fn hs_05_c2_of_zeros_is_accepted_unless_strict() {
        let form = Form::Simple;
        for (check, c2_matches) in [(C2Check::Off, None), (C2Check::Log, Some(false))] {
            let expected = Ok(Completed { form, c2_matches });
            assert_eq!(completed(RTMPDUMP_C1, &[0; 1536], check), expected);
        }
        assert_eq!(
            completed(RTMPDUMP_C1, &[0; 1536], C2Check::Strict),
            Err(HandshakeError::C2Mismatch)
        );
    }

    #[test]
    fn hs_06_echo_with_its_own_time2_matches() {
        for (c1, form) in
            [(RTMPDUMP_C1, Form::Simple), (FFMPEG_C1, Form::Digest(Schema::FirstBlock))]
        {
            let (mut c2, _, _) = answer(c1);
            let matching = Ok(Completed { form, c2_matches: Some(true) });
            assert_eq!(completed(c1, c2.as_slice(), C2Check::Strict), matching);
            c2[4..8].copy_from_slice(&[1, 2, 3, 4]);
            assert_eq!(completed(c1, c2.as_slice(), C2Check::Strict), matching);
            c2[1535] ^= 1;
            let mismatch = Err(HandshakeError::C2Mismatch);
            assert_eq!(completed(c1, c2.as_slice(), C2Check::Strict), mismatch);
        }
    }

    fn refusal(first: &[u8]) -> HandshakeError {
        let mut out = Vec::new();
        let mut input = first;
        let error = ServerHandshake::new()
            .advance(&mut input, &HELLO, C2Check::Off, &mut out)
            .expect_err("this is not RTMP");
        assert!(out.is_empty());
        let mut input = &first[..1];
        let by_one = ServerHandshake::new().advance(&mut input, &HELLO, C2Check::Off, &mut out);
        assert!(by_one.is_err(), "the first byte is enough");
        error
    }

    #[test]
    fn hs_07_other_versions_are_refused() {
        for version in [0, 1, 2, 4, 5, 7, 0x1f, 0x20, 0xff] {
            assert_eq!(refusal(&[version]), HandshakeError::Version(version));
        }
        assert_eq!(
            refusal(&[0x1f]).to_string(),
            "the peer sent RTMP version 31 (0x1f), expected 3"
        );
    }

    #[test]
    fn hs_08_rtmpe_is_refused() {
        for version in [6, 8, 9] {
            assert_eq!(refusal(&[version]), HandshakeError::Rtmpe(version));
        }
    }

    #[test]
    fn hs_09_http_is_refused_with_its_first_bytes() {
        for (request, shown) in [
            (&b"GET / HTTP/1.1\r\n"[..], "\"GET / HT\""),
            (b"POST /fcs", "\"POST /fc\""),
            (b"HEAD", "\"HEAD\""),
            (b"OPTIONS *", "\"OPTIONS \""),
            (b"P\r\n\xff\"", "\"P\\r\\n\\xff\\\"\""),
        ] {
            let error = refusal(request);
            assert!(matches!(error, HandshakeError::Http(_)), "{error:?}");
            assert!(error.to_string().contains(shown), "{error}");
        }
    }

    #[test]
    fn hints_name_nothing_that_the_server_does_not_serve() {
        for (first, hint) in [
            (&b"\x06"[..], "RTMPE (version 6) is not supported; use rtmp://"),
            (
                b"GET /live HTTP/1.1\r\n",
                "HTTP request on the RTMP port (\"GET /liv\"); use rtmp://",
            ),
            (
                b"OPTIONS rtsp://host:1935/live RTSP/1.0\r\nCSeq: 1\r\n",
                "RTSP request on the RTMP port (\"OPTIONS \"); use rtmp://",
            ),
            (
                b"ANNOUNCE RTSP://host/live RTSP/1.0\r\n",
                "RTSP request on the RTMP port (\"ANNOUNCE\"); use rtmp://",
            ),
            (
                b"GET /a HTTP/1.1\r\nReferer: rtsp://host/\r\n",
                "HTTP request on the RTMP port (\"GET /a H\"); use rtmp://",
            ),
        ] {
            assert_eq!(refusal(first).to_string(), hint);
        }
    }

    #[test]
    fn hs_10_tls_is_refused_with_the_remedy() {
        let error = refusal(&[0x16, 3, 1]);
        assert_eq!(
            error.to_string(),
            "TLS ClientHello on the plain RTMP port; use rtmp://, not rtmps://"
        );
    }

    #[test]
    fn proxy_preambles_are_named() {
        for preamble in [&b"PROXY TCP4"[..], b"\r\n\r\n\0\r\nQUIT\n"] {
            assert_eq!(refusal(preamble), HandshakeError::ProxyProtocol);
        }
    }

    #[test]
    fn hs_11_known_answers_for_the_c1_of_ffmpeg() {
        let digest = hex("650bfb9b65f953d848e3456965d0d76b627a84e35e9ddabd8b43f0fadaee458c");
        let digest: Digest = digest.try_into().unwrap();
        for c1 in [FFMPEG_C1, FFMPEG_PLAYER_C1] {
            assert_eq!(find_digest(c1, CLIENT_KEY_TEXT), Some((Schema::FirstBlock, digest)));
            assert_eq!(split_digest(c1, Schema::FirstBlock).unwrap().0.len(), 494);
            assert_eq!(split_digest(c1, Schema::SecondBlock).unwrap().0.len(), 1255);
        }
        let key = hex("47e29796112deb386c6c4500f516dbe1f6a1fc4fed4410545e8f19e418bc043a");
        assert_eq!(answer_key(SERVER_KEY_TEXT, &digest), key.as_slice());
        let s2_digest = hex("272ac5de010f2d52cbd24b8efae46cf39241c5e81eac34e6f844a1cd5b8cb3ae");
        assert_eq!(answer_digest(SERVER_KEY_TEXT, &digest, &[0; 1504]), s2_digest.as_slice());

        let (s1, s2, _) = answer(FFMPEG_C1);
        assert_ne!(s1[4..8], [0; 4]);
        assert!(find_digest(&s1, SERVER_KEY_TEXT).is_some());
        assert_eq!(hmac_sha256(&key, &[&s2[..1504]]), s2[1504..]);
    }

    #[test]
    fn hs_12_both_schemas_are_found_and_mirrored() {
        for schema in [Schema::FirstBlock, Schema::SecondBlock] {
            let c1 = signed_c1(schema);
            let (found, c1_digest) = find_digest(&c1, CLIENT_KEY_TEXT).unwrap();
            assert_eq!(found, schema);
            let (s1, s2, _) = answer(c1.as_slice());
            assert_eq!(find_digest(&s1, SERVER_KEY_TEXT).unwrap().0, schema);
            assert_eq!(
                answer_digest(SERVER_KEY_TEXT, &c1_digest, &s2[..1504]),
                s2[1504..],
                "{schema:?}"
            );
        }
    }

    #[test]
    fn hs_12_signed_c2_matches() {
        for schema in [Schema::FirstBlock, Schema::SecondBlock] {
            let c1 = signed_c1(schema);
            let (s1, _, _) = answer(c1.as_slice());
            let (_, s1_digest) = find_digest(&s1, SERVER_KEY_TEXT).unwrap();
            let random = [0x5a; 1504];
            let signature = answer_digest(CLIENT_KEY_TEXT, &s1_digest, &random);
            let c2 = [random.as_slice(), &signature].concat();
            assert_eq!(
                completed(c1.as_slice(), &c2, C2Check::Strict),
                Ok(Completed { form: Form::Digest(schema), c2_matches: Some(true) })
            );
        }
    }

    #[test]
    fn hs_12_digest_is_found_at_every_place_of_its_block() {
        for schema in [Schema::FirstBlock, Schema::SecondBlock] {
            let start = schema.block_start();
            let mut c1 = packet([9, 0, 0x7c, 2], &[0; 1528]);
            for sum in 0..=4 * 255_usize {
                for (index, byte) in c1[start..start + 4].iter_mut().enumerate() {
                    *byte = sum.saturating_sub(index * 255).min(255) as u8;
                }
                let (before, _, behind) = split_digest(&c1, schema).unwrap();
                assert_eq!(before.len(), start + 4 + sum % 728);
                assert_eq!(before.len() + behind.len(), 1504);
            }
        }
    }

    #[test]
    fn hs_13_version_with_a_bad_digest_falls_back_to_the_simple_form() {
        let mut c1 = *FFMPEG_C1;
        c1[1000] ^= 1;
        let (s1, s2, _) = answer(&c1);
        assert_eq!(s1[4..8], [0; 4]);
        assert_eq!(*s2, c1);
    }

    #[test]
    fn hs_18_a_peer_that_sends_only_c0_costs_no_allocation() {
        let mut handshake = ServerHandshake::new();
        let advanced = handshake.advance(&mut &[3][..], &HELLO, C2Check::Off, &mut Vec::new());
        assert_eq!(advanced, Ok(None));
        let ServerState::VersionSent { c1 } = handshake.state else { panic!("C0 came") };
        assert_eq!(c1.capacity(), 0);
    }

    #[test]
    fn client_and_server_complete_whatever_the_split() {
        for piece_len in [1, 5, 1536, 1537, 4000] {
            let mut client = ClientHandshake::new(&[7; 1528]);
            let mut server = ServerHandshake::new();
            let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
            client.start(&mut to_server);
            for piece in std::mem::take(&mut to_server).chunks(piece_len) {
                let mut input = piece;
                let done = server.advance(&mut input, &HELLO, C2Check::Strict, &mut to_client);
                assert_eq!(done, Ok(None));
            }
            to_client.extend_from_slice(CONNECT);
            let (mut behind, mut client_done) = (Vec::new(), false);
            for piece in to_client.chunks(piece_len) {
                let mut input = piece;
                client_done = client.advance(&mut input, &mut to_server).unwrap();
                behind.extend_from_slice(input);
            }
            assert!(client_done);
            assert_eq!(behind, CONNECT);
            let mut input = to_server.as_slice();
            let done = server.advance(&mut input, &HELLO, C2Check::Strict, &mut Vec::new());
            assert_eq!(done, Ok(Some(Completed { form: Form::Simple, c2_matches: Some(true) })));
        }
    }

    #[test]
    fn client_refuses_a_server_of_another_version() {
        let mut client = ClientHandshake::new(&[0; 1528]);
        let refused = client.advance(&mut &b"HTTP/1.1 400"[..], &mut Vec::new());
        assert!(matches!(refused, Err(HandshakeError::Http(_))));
    }
}
