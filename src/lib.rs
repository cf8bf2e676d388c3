//! Tiderace: a live RTMP server that runs on one core.
//!
//! One thread, one poll, no async runtime: a connection is a struct in a slab that advances when
//! bytes arrive. The program is a thin shell around this library, and the protocol in it,
//! [`rtmp`], can be driven by any other loop. The [`manual`] explains how to run, measure, test and
//! change it.
//!
//! # Layers
//!
//! Dependencies point down. `tests/suite/tidy.rs` holds them to it.
//!
//! ```text
//! main      the program: command line, settings file, log
//! net       sockets, the poll, signals, files and the clock      load   the load generator
//! server    the control plane: connections, roles, judges, turns
//! stream    the data plane: one stream's tape and its cursors
//! rtmp      the protocol: bytes in, events and bytes out
//! http      requests, heads of responses and WebSocket frames, as bytes
//! media     what a frame is: tags, codecs, metadata, FLV
//! amf0, amf3, budget, limits, text, time                         values and bounds
//! ```
//!
//! [`rtmp`], [`media`] and what they stand on are pure. [`stream`] and [`server`] see no socket, no
//! clock and no random number: [`server`] is generic over its transport and is told the time.
//! [`net`] is the only place of the server with sockets, the poll, signals and the clock.
//! [`config`] is plain data that the others are handed. [`load`] has a loop of its own; it shares
//! nothing with `server` and `net` but `descriptors`.
//!
//! # Embedding the protocol
//!
//! [`rtmp`] speaks the protocol in any program and with any loop. Its page has a publisher and a
//! server as complete examples, and `tests/examples/` has them as programs. [`media`], [`amf0`] and
//! [`amf3`] read the payloads of messages.
//!
//! Those modules are the interface for other programs. Two features, both default, add the rest:
//! `server` adds [`config`], [`stream`], [`server`] and [`net`], and `load` adds [`load`]. These
//! modules are public for the program, the tests and the benchmarks. Any version may change them.
//!
//! # To change ...
//!
//! | ... | go to |
//! |---|---|
//! | the command line, exit codes | `src/cli.rs`, `src/main.rs` |
//! | a setting, its default, its range, its text | [`config`] |
//! | a bound that is not a setting | [`limits`] |
//! | what C2 must be, the digests | [`rtmp::handshake`] |
//! | how chunks are read or written | [`rtmp::chunk::reader`], [`rtmp::chunk::writer`] |
//! | the memory of a message that is not complete yet | `rtmp/chunk/partial.rs` |
//! | control messages, aggregates | [`rtmp::message`] |
//! | acknowledgements, pings, what client and server share | [`rtmp::link`] |
//! | which commands are understood, the bytes of the replies | [`rtmp::command`] |
//! | the order in which a client may ask, the replies | `rtmp/dialogue.rs` |
//! | the states of a session, the messages of the server's side | [`rtmp::session`] |
//! | how an application, a key and a query become one name | [`rtmp::name`] |
//! | which oddities of a peer are counted, and how the log names them | [`rtmp::quirks`] |
//! | how a login is asked for and checked | [`rtmp::auth`] |
//! | the client's side | [`rtmp::client`] |
//! | which requests of HTTP are refused, and with which status | [`http::requests`] |
//! | the head of a response, the body of an error | [`http::response`] |
//! | the frames of a WebSocket | [`http::websocket`] |
//! | one response at a time, keep-alive | [`http::exchange`] |
//! | what a URL names, who may see it | `server/web/place.rs`, `server/web/guard.rs` |
//! | players over HTTP and WebSocket | `server/web/viewing.rs` |
//! | requests of HLS, which may wait | `server/web/hls.rs` |
//! | the parts, segments and playlists of HLS | [`stream::rendition`], [`stream::playlist`] |
//! | the options in the URL of a stream | `server/web/view_options.rs` |
//! | what is left out or changed for players of FLV in browsers | [`media::simple_flv`] |
//! | the clock of players over HTTP | `stream/web_time.rs` |
//! | the page, its plots | `server/web/page.rs`, `server/web/sparkline.rs`, `server/web/assets/` |
//! | the API | `server/web/api.rs` |
//! | metrics, their names and labels | `server/web/metrics.rs` |
//! | what is a keyframe, a sequence header, a track | [`media`] |
//! | how a message of a publisher is classified | [`stream::frame`] |
//! | which profile, level, size and rate a track has | [`media::codec`] |
//! | how FLV files are read | [`media::flv`] |
//! | the boxes and times of an MP4 | [`media::fmp4`] |
//! | what becomes of `onMetaData` | [`media::metadata`] |
//! | what must hold for a parser with any input | `tests/fuzz/bodies/` |
//! | what a stream keeps, and for how long | [`stream::tape`] |
//! | when players are sent from memory files | [`stream::segment`], `net/memfd.rs` |
//! | the memory files of FLV and WebSocket-FLV | `stream/framed_segments.rs` |
//! | players' timestamps, the repair of an encoder's clock | `stream/timeline.rs` |
//! | what is measured of a stream, and logged when its publisher leaves | [`stream::meter`] |
//! | which messages count for the latency of a stream | [`stream::latency`], `server/sampling.rs` |
//! | what a stream costs | [`server::costs`] |
//! | what the kernel tells about a connection | `net/tcp_facts.rs` |
//! | where a player starts, when it skips | [`stream::cursor`] |
//! | how a tape looks to a player, another framing | [`stream::framing`] |
//! | users, stream keys, secret parts of a name | [`server::judge::access`], `config/apps.rs` |
//! | another judge, decisions that come later | [`server::judge`], `server/parking.rs` |
//! | who may publish, takeover, linger | [`server::hub`], `server/role.rs` |
//! | in which order bytes go out | `server/outbox.rs` |
//! | budgets of a turn | `src/budget.rs`, [`limits`] |
//! | which session is evicted when the table is full | [`server`], [`server::stages`] |
//! | what is accounted as memory, what is given up when it runs short | [`server::memory`] |
//! | when connections are accepted, what follows from each outcome | [`server::accepting`] |
//! | which turns are logged as too long, and the cause | [`server::stopwatch`] |
//! | the states of a connection | [`server::conn`] |
//! | what speaks on a connection, another protocol | [`server::peer`] |
//! | a stream that is sent to another server | [`server::relaying`] |
//! | what the server has the loop do: dialing | [`server::errand`], `net/dial.rs` |
//! | the contract of a transport | [`server::transport`] |
//! | the queues, deadlines and accounting of all connections | `server/table.rs` |
//! | deadlines | [`server::timers`], `server/watch.rs` |
//! | why connections end, and the level of that log line | [`server::reason`] |
//! | how many lines of the log peers can cause | [`server::lines`] |
//! | listening, socket options | `net/listener.rs` |
//! | the poll, signals, reload | `net/event_loop.rs` |
//! | what the service manager is told, the watchdog | `net/notify.rs` |
//! | sockets that it hands over, the units for systemd | `net/activation.rs`, `systemd/` |
//! | how many descriptors the process may open | `src/descriptors.rs` |
//! | what `tiderace load` can be asked for, its flags | [`load::subcommand`], [`load::options`] |
//! | sessions that are held, or come and go, under load | [`load::idle`], [`load::churn`] |
//! | how several processes share the work of a measurement | [`load::processes`] |
//! | the loop of the load generator, its connections | [`load`] |
//! | what a measurement reports, the table, page and log of it | [`load::report`] |
//! | the unit of a figure, what is better, when it is valid | `load/report/metric_table.rs` |
//! | what repeated runs tell about a difference | [`load::statistics`] |
//! | the comparison with nginx-rtmp and bare relays, its goals | `benches/peers/workloads.rs` |
//! | thresholds, comparisons, exit codes | [`load::subcommand`], [`load::compare`] |
//! | what is published and checked frame by frame, when a frame counts | [`load::streams`] |
//! | what the synthetic encoder sends | [`load::encoder`] |
//! | what a player finds in a stream | `load/observer.rs` |
//! | the raw relay that the cost of a server is compared with | [`load::floor`] |

#![forbid(unsafe_code)]
#![cfg_attr(
    not(all(feature = "server", feature = "load")),
    allow(rustdoc::broken_intra_doc_links, reason = "this page links to every module")
)]

pub mod amf0;
pub mod amf3;
#[cfg(feature = "server")]
#[doc(hidden)]
pub mod budget;
#[cfg(feature = "server")]
pub mod config;
#[cfg(any(feature = "server", feature = "load"))]
#[doc(hidden)]
pub mod descriptors;
#[cfg(feature = "server")]
pub mod http;
pub mod limits;
#[cfg(feature = "load")]
pub mod load;
pub mod manual;
pub mod media;
#[cfg(feature = "server")]
pub mod net;
pub mod rtmp;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod stream;
#[doc(hidden)]
pub mod text;
pub mod time;

#[cfg(test)]
mod test_support;
