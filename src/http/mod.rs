//! HTTP/1.1 (RFC 9110, RFC 9112) and WebSocket (RFC 6455), server side: bytes in, requests and
//! frames out, and the bytes of responses.
//!
//! It is strict where leniency lets two programs see two different requests in the same bytes:
//! lengths, line ends, host and target. It owns no policy, sees no socket, no clock and no stream.

pub mod exchange;
pub mod requests;
pub mod response;
pub mod websocket;
