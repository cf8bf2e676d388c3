//! The server against the programs people use, on loopback: what a player receives is compared
//! packet by packet with what the publisher sent.
//!
//! The tests run side by side and each is over within some twenty seconds. What they need
//! beside the server are ffmpeg, ffplay, rtmpdump, VLC, GStreamer with its RTMP elements, OBS
//! with Xvfb, strace, and an ffmpeg that knows Enhanced RTMP, which `tests/run` fetches; see
//! [`lab`] for what happens when one of them is not there.

mod lab;

mod auth;
mod codecs;
mod cost;
mod load;
mod matrix;
mod names;
mod play;
mod publish;
mod publisher_return;
mod recorded;
mod signals;
mod slow_player;
mod timestamps;
