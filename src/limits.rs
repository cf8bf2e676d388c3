//! Every bound of the server as a constant with its unit and its reason.
//!
//! What an operator may move has its default here and its setting in `config.rs`; what the
//! format or the design fixes has only its constant. Relations between them are asserted at
//! compile time at the end.

/// Bytes in a kibibyte and a mebibyte, so that the bounds below read as what they are.
pub const KIB: usize = 1024;
/// See [`KIB`].
pub const MIB: usize = 1024 * KIB;

/// Bytes in a gibibyte.
const GIB: u64 = 1024 * MIB as u64;

// Fixed by the protocol.

/// C1, S1, C2 and S2 are this long (RTMP 1.0, section 5.2).
pub const HANDSHAKE_PACKET_BYTES: usize = 1536;
/// What of C1 and S1 is not time and version.
pub const HANDSHAKE_RANDOM_BYTES: usize = HANDSHAKE_PACKET_BYTES - 8;
/// Basic header 3, message header 11, extended timestamp 4 (RTMP 1.0, section 5.3.1).
pub const CHUNK_HEADER_BYTES_MAX: usize = 18;
/// Both directions start with this chunk size (RTMP 1.0, section 5.4.1).
pub const CHUNK_SIZE_INITIAL: u32 = 128;
/// A message length has 24 bits.
pub const MESSAGE_BYTES_MAX: usize = 0x00ff_ffff;

// Per connection, on what a peer sends.

/// Live chunk streams: encoders use fewer than ten.
pub const CHUNK_STREAMS_MAX: usize = 64;
/// Message streams that one connection may create.
pub const MESSAGE_STREAMS_MAX: usize = 16;
/// A command; `connect` with all its lists stays below 2 KiB.
pub const COMMAND_BYTES_MAX: usize = 64 * KIB;
/// A data message: metadata with a long XMP value has been seen at 70 KB.
pub const DATA_BYTES_MAX: usize = 256 * KIB;
/// An audio message.
pub const AUDIO_BYTES_MAX: usize = MIB;
/// A video message: keyframes of 4K streams reach 5 MB.
pub const VIDEO_BYTES_MAX: usize = 8 * MIB;
/// Any message before a publish is accepted: commands only, so their bound.
pub const MESSAGE_BEFORE_PUBLISH_BYTES_MAX: usize = COMMAND_BYTES_MAX;
/// All messages under assembly on a connection that does not publish.
pub const ASSEMBLY_BEFORE_PUBLISH_BYTES_MAX: usize = 2 * COMMAND_BYTES_MAX;
/// All messages under assembly on a publisher: one of the largest video and what interleaves.
pub const ASSEMBLY_BYTES_MAX: usize = VIDEO_BYTES_MAX + 2 * MIB;
/// Control bytes that wait for a peer that does not read: replies, acknowledgements, pongs.
pub const CONTROL_BYTES_MAX: usize = 8 * KIB;
/// Answers to pings and the like that wait for a peer which asks on and does not read. More than
/// a server lets wait in [`CONTROL_BYTES_MAX`], so that there its own bound is what ends it.
pub const REPLIES_WAITING_MAX: u16 = 1024;
/// Nested AMF values.
pub const AMF_DEPTH_MAX: usize = 32;
/// AMF values in one message.
pub const AMF_NODES_MAX: usize = 4096;
/// An application or a stream name, without its query.
pub const NAME_BYTES_MAX: usize = 512;
/// A query of an application or a stream name: tokens and signatures.
pub const QUERY_BYTES_MAX: usize = 2 * KIB;
/// The name of a user: what ffmpeg reads of a refused `connect`, 255 bytes, holds it.
pub const USER_BYTES_MAX: usize = 64;
/// A challenge can be answered in its period and the next (ms): the client connects anew for it.
pub const CHALLENGE_PERIOD_MS: u64 = 60_000;
/// Peer-supplied text in one log line.
pub const LOG_TEXT_BYTES_MAX: usize = 256;
/// The name that a client gives itself (`flashVer`), as far as it is kept.
pub const ENCODER_NAME_BYTES_MAX: usize = 64;
/// Different ones of them at a time: real clients have a few dozen.
pub const ENCODERS_MAX: usize = 256;

// Per connection, on what is sent to a peer.

/// Outgoing chunk size: ffmpeg adopts it, and few messages need a second chunk.
pub const CHUNK_SIZE_OUT: u32 = 60_000;
/// Window that peers are asked to acknowledge, and in which they are acknowledged when they
/// name none (bytes).
pub const WINDOW_ACK_BYTES: u32 = 2_500_000;
/// A smaller window of a peer is raised to this, or one byte in would cost one message out.
pub const WINDOW_ACK_BYTES_MIN: u32 = 1024;

/// What a socket takes beyond what is on its way: a player that stalls holds no more of the
/// kernel, and one that is far away lacks nothing, since the half of it that must be gone before
/// there is room again is sent in more time than a turn takes.
pub const SOCKET_UNSENT_BYTES_MAX: usize = 128 * KIB;

/// What the kernel holds of a connection that sends and receives nothing: socket, file and place
/// in the poll. Measured with 16,000 TCP sockets at 4,046 bytes each (`Slab` of `/proc/meminfo`,
/// Linux 6). A control group counts it as memory of the process.
pub const SOCKET_BYTES: usize = 4 * KIB;

// Per stream.

/// A tape in bytes: what bounds memory, since a publisher chooses its own timestamps.
pub const TAPE_BYTES_MAX: usize = 16 * MIB;
/// How long messages older than the newest keyframe are kept, in milliseconds of arrival time.
pub const TAPE_SPAN_MS_MAX: u64 = 30_000;
/// The headers that a stream keeps for newcomers: metadata and decoder configurations.
pub const HEADERS_BYTES_MAX: usize = 512 * KIB;
/// The same in number: each new one is compared with all. Encoders send fewer than ten tracks,
/// with two headers each at most.
pub const HEADERS_MAX: usize = 128;
/// The smallest and the largest block of a tape.
pub const TAPE_BLOCK_BYTES_MIN: usize = 32 * KIB;
/// See [`TAPE_BLOCK_BYTES_MIN`].
pub const TAPE_BLOCK_BYTES_MAX: usize = MIB;
/// A memory file that players are sent from is not added to beyond this; a new one follows.
pub const SEGMENT_BYTES: usize = 4 * MIB;
/// Players of one stream from which on memory files pay for being written. Seconds of processor
/// time for each gigabyte by `write` and by `sendfile` (`cargo bench --bench sendfile`, medians
/// of 7, November 2026):
///
/// | bytes | 4 players | 8 players | 16 players | 64 players |
/// |---|---|---|---|---|
/// | 2 KiB | 3.68, 4.48 | 2.63, 3.18 | 3.15, 3.21 | 2.80, 2.62 |
/// | 4 KiB | 1.60, 1.84 | 1.35, 1.38 | 1.30, 1.18 | 1.10, 0.97 |
/// | 8 KiB | 0.91, 1.03 | 0.73, 0.77 | 0.85, 0.82 | 0.87, 0.71 |
/// | 16 KiB | 0.65, 0.81 | 0.59, 0.61 | 0.53, 0.49 | 0.51, 0.40 |
/// | 64 KiB | 0.33, 0.43 | 0.31, 0.30 | 0.35, 0.24 | 0.31, 0.21 |
pub const SEGMENT_PLAYERS_MIN: usize = 16;
/// Bytes for one player from which on `sendfile` costs less than a copy; see
/// [`SEGMENT_PLAYERS_MIN`].
pub const SEGMENT_RUN_BYTES_MIN: usize = 4 * KIB;

/// How long a judge outside of the server may take to decide about a request (ms). Encoders give
/// up after 10 s and more.
pub const VERDICT_MS: u64 = 5000;

/// How long connecting to another server may take (ms).
pub const DIAL_MS: u64 = 5000;

// Per turn of the loop: some milliseconds of work each, whatever peers send or ask for.

/// The one read buffer of the process.
pub const READ_BUFFER_BYTES: usize = 256 * KIB;
/// One read of a connection that publishes nothing or sends in tiny chunks: commands are short,
/// and what a read brings beyond the connection's share has to be kept.
pub const READ_BYTES_SMALL_MAX: usize = 4 * KIB;
/// Chunks of fewer bytes than this are tiny: their headers cost more than their payload.
pub const CHUNK_BYTES_TINY: u32 = 128;
/// What one connection may bring into one turn before the others have theirs.
pub const READ_BYTES_PER_TURN_MAX: usize = 256 * KIB;
/// Messages of one connection in a turn in which it has something new. A publisher sends one or
/// two between two turns; a thousand peers that use up this share delay the others by 20 ms.
pub const READ_MESSAGES_FIRST_MAX: usize = 64;
/// Messages of one connection in a turn, if its last share was too small.
pub const READ_MESSAGES_PER_TURN_MAX: usize = 1024;
/// Reads of one connection in a turn.
pub const READ_CALLS_PER_TURN_MAX: usize = 16;
/// What all connections together may bring into one turn before players are written to. The read
/// that reaches it is finished.
pub const READ_BYTES_OF_ALL_PER_TURN_MAX: usize = MIB;
/// Messages of all connections in one turn: a media message takes about 0.3 us.
pub const READ_MESSAGES_OF_ALL_PER_TURN_MAX: usize = 8192;
/// Reads of all connections in one turn.
pub const READ_CALLS_OF_ALL_PER_TURN_MAX: usize = 512;
/// A command, or a header that newcomers get, costs as much as so many media messages.
pub const READ_COMMAND_MESSAGES: usize = 8;
/// So many bytes of a command or of data cost as much as a media message: they are parsed.
pub const READ_PARSED_BYTES_PER_MESSAGE: usize = 64;
/// A handshake costs as much as so many media messages: it is signed.
pub const READ_HANDSHAKE_MESSAGES: usize = 32;
/// So many chunks cost as much as a media message.
pub const READ_CHUNKS_PER_MESSAGE: usize = 4;
/// Messages within one aggregate; encoders send tens.
pub const AGGREGATE_PARTS_MAX: usize = 1024;
/// What one connection is given in one turn.
pub const WRITE_BYTES_PER_TURN_MAX: usize = 512 * KIB;
/// Messages that one write of a connection looks at on its tapes in a turn.
pub const WRITE_MESSAGES_PER_TURN_MAX: usize = 4096;
/// Writes of one connection in a turn.
pub const WRITE_CALLS_PER_TURN_MAX: usize = 16;
/// What all connections together are given in one turn before the poll is asked again.
pub const WRITE_BYTES_OF_ALL_PER_TURN_MAX: usize = 4 * MIB;
/// Messages that all writes of a turn look at.
pub const WRITE_MESSAGES_OF_ALL_PER_TURN_MAX: usize = 32_768;
/// Writes of all connections in one turn, with the visits that wrote nothing. The kernel takes
/// 5 to 10 us for each.
pub const WRITE_CALLS_OF_ALL_PER_TURN_MAX: usize = 256;
/// Slices shorter than this are copied together before a write: for the kernel, each is a slice of
/// its own.
pub const WRITE_COPIED_BYTES_MAX: usize = 256;
/// Short slices that are copied together for one write.
pub const WRITE_SCRATCH_BYTES: usize = 64 * KIB;
/// Connections removed in one turn: a socket that is closed takes about 20 us.
pub const CLOSINGS_PER_TURN_MAX: usize = 128;
/// Memory files that are closed in one turn, when many are given up at once: the system takes 1 ms
/// to free the pages of one of [`SEGMENT_BYTES`].
pub const FILES_CLOSED_PER_TURN_MAX: usize = 4;
/// Streams that end in one turn, each with what its tape holds.
pub const STREAMS_ENDED_PER_TURN_MAX: usize = 16;
/// Connections that are told in one turn that the server goes down.
pub const FAREWELLS_PER_TURN_MAX: usize = 1024;
/// After a stream began or ended, so many of its players are told of the next change for each
/// millisecond that has passed since: a publisher that comes and goes cannot have ten thousand
/// players visited more than once a second.
pub const PLAYERS_TOLD_PER_MS: u64 = 10;
/// Connections whose deadlines are looked at in one turn.
pub const DEADLINES_PER_TURN_MAX: usize = 1024;
/// Slices in one vectored write.
pub const WRITE_SLICES_MAX: usize = 64;
/// Connections accepted by one listener in one turn.
pub const ACCEPTS_PER_TURN_MAX: usize = 64;

// Of the process.

/// Addresses to listen on.
pub const LISTENERS_MAX: usize = 16;
/// Lines a second about connections that came to nothing: scans and floods are told by number.
pub const LOG_FAILURES_PER_SECOND_MAX: u32 = 10;
/// Lines a second about streams and who publishes and plays them.
pub const LOG_STREAM_LINES_PER_SECOND_MAX: u32 = 100;
/// Descriptors that are not connections: standard streams, poll, signal pipe, listeners, spare.
pub const DESCRIPTORS_RESERVED: usize = 32;

/// One of so many descriptors is left to memory files, if `connections_max` does not say how many
/// connections there are.
pub const DESCRIPTORS_OF_FILES_DIVISOR: usize = 16;
/// Memory files of all streams: more than a thousand of those that many players watch.
pub const SEGMENT_FILES_MAX: usize = 1024;

// Of the load generator.

/// What may wait for a server that does not read, on one connection, before that is its end:
/// some seconds of the fastest stream that a publisher sends.
pub const LOAD_UNSENT_BYTES_MAX: usize = 16 * MIB;
/// A file that is published: it is read as a whole.
pub const LOAD_FILE_BYTES_MAX: u64 = GIB;
/// What may wait for a player of the raw relay, before it is dropped.
pub const FLOOR_WAITING_BYTES_MAX: usize = 8 * MIB;
/// A file in memory from which the raw relay sends, before it begins another.
pub const FLOOR_FILE_BYTES: usize = 8 * MIB;
/// Loopback addresses that one process comes from, each of which has some 28,000 ports.
pub const LOAD_SOURCES_MAX: u32 = 250;

const _: () = {
    assert!(VIDEO_BYTES_MAX <= MESSAGE_BYTES_MAX);
    assert!(VIDEO_BYTES_MAX <= ASSEMBLY_BYTES_MAX);
    assert!(MESSAGE_BEFORE_PUBLISH_BYTES_MAX <= ASSEMBLY_BEFORE_PUBLISH_BYTES_MAX);
    assert!(VIDEO_BYTES_MAX < TAPE_BYTES_MAX);
    assert!(TAPE_BLOCK_BYTES_MIN <= TAPE_BLOCK_BYTES_MAX);
    assert!(TAPE_BLOCK_BYTES_MAX < TAPE_BYTES_MAX);
    assert!(READ_BYTES_PER_TURN_MAX <= READ_BYTES_OF_ALL_PER_TURN_MAX);
    assert!(READ_BYTES_SMALL_MAX <= READ_BUFFER_BYTES);
    assert!(READ_MESSAGES_FIRST_MAX <= READ_MESSAGES_PER_TURN_MAX);
    assert!(READ_MESSAGES_PER_TURN_MAX <= READ_MESSAGES_OF_ALL_PER_TURN_MAX);
    assert!(WRITE_BYTES_PER_TURN_MAX <= WRITE_BYTES_OF_ALL_PER_TURN_MAX);
    assert!(WRITE_MESSAGES_PER_TURN_MAX <= WRITE_MESSAGES_OF_ALL_PER_TURN_MAX);
    assert!(WRITE_COPIED_BYTES_MAX <= WRITE_SCRATCH_BYTES);
    assert!(WINDOW_ACK_BYTES_MIN < WINDOW_ACK_BYTES);
    assert!(LISTENERS_MAX < DESCRIPTORS_RESERVED);
    assert!(CHUNK_SIZE_OUT >= CHUNK_SIZE_INITIAL);
};
