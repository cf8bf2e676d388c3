//! Every bound of the server, as a constant with its unit and its reason.
//!
//! A bound that an operator can change has its default here and its setting in `config.rs`. A bound
//! that the protocol or the design fixes has only its constant. The relations between them are
//! asserted at compile time, at the end of this file.

/// A kibibyte (bytes).
pub const KIB: usize = 1024;
/// A mebibyte (bytes).
pub const MIB: usize = 1024 * KIB;

/// A gibibyte (bytes).
const GIB: u64 = 1024 * MIB as u64;

// Fixed by the protocol.

/// Length of C1, S1, C2 and S2 (RTMP 1.0, section 5.2).
pub const HANDSHAKE_PACKET_BYTES: usize = 1536;
/// Length of C1 and S1 without time and version.
pub const HANDSHAKE_RANDOM_BYTES: usize = HANDSHAKE_PACKET_BYTES - 8;
/// Longest chunk header: basic header 3, message header 11, extended timestamp 4 (RTMP 1.0,
/// section 5.3.1).
pub const CHUNK_HEADER_BYTES_MAX: usize = 18;
/// Initial chunk size of both directions (RTMP 1.0, section 5.4.1).
pub const CHUNK_SIZE_INITIAL: u32 = 128;
/// Longest message: its length field has 24 bits.
pub const MESSAGE_BYTES_MAX: usize = 0x00ff_ffff;

// Per connection, on what a peer sends.

/// Chunk streams of one connection. Encoders use fewer than ten.
pub const CHUNK_STREAMS_MAX: usize = 64;
/// Message streams of one connection.
pub const MESSAGE_STREAMS_MAX: usize = 16;
/// Length of a command. `connect` with all its lists is below 2 KiB.
pub const COMMAND_BYTES_MAX: usize = 64 * KIB;
/// Length of a data message. Metadata of 70 kB, with a long XMP value, has been seen.
pub const DATA_BYTES_MAX: usize = 256 * KIB;
/// Length of an audio message.
pub const AUDIO_BYTES_MAX: usize = MIB;
/// Length of a video message. Keyframes of 4K streams reach 5 MB.
pub const VIDEO_BYTES_MAX: usize = 8 * MIB;
/// Length of any message before a publish is accepted. Such a peer only needs commands.
pub const MESSAGE_BEFORE_PUBLISH_BYTES_MAX: usize = COMMAND_BYTES_MAX;
/// Unfinished messages of a connection that does not publish, together.
pub const ASSEMBLY_BEFORE_PUBLISH_BYTES_MAX: usize = 2 * COMMAND_BYTES_MAX;
/// Unfinished messages of a publisher, together: the longest video message, and messages that
/// interleave with it.
pub const ASSEMBLY_BYTES_MAX: usize = VIDEO_BYTES_MAX + 2 * MIB;
/// Control bytes that wait for a peer that does not read: replies, acknowledgements, pongs.
pub const CONTROL_BYTES_MAX: usize = 8 * KIB;
/// Automatic replies, such as pongs, that wait for a peer that does not read. On a server,
/// [`CONTROL_BYTES_MAX`] is reached first and ends the connection; this one protects a client.
pub const REPLIES_WAITING_MAX: u16 = 1024;
/// Depth of nested AMF values.
pub const AMF_DEPTH_MAX: usize = 32;
/// AMF values in one message.
pub const AMF_NODES_MAX: usize = 4096;
/// Length of an application or a stream name, without its query.
pub const NAME_BYTES_MAX: usize = 512;
/// Length of the query of an application or a stream name, which holds tokens and signatures.
pub const QUERY_BYTES_MAX: usize = 2 * KIB;
/// Length of a user name. ffmpeg reads 255 bytes of a refused `connect`, which contains the name.
pub const USER_BYTES_MAX: usize = 64;
/// Period of a challenge (ms). It can be answered in its period and in the next one, because the
/// client has to reconnect first.
pub const CHALLENGE_PERIOD_MS: u64 = 60_000;
/// Length of a peer-supplied text in a log line.
pub const LOG_TEXT_BYTES_MAX: usize = 256;
/// Length of the client name (`flashVer`) that is kept.
pub const ENCODER_NAME_BYTES_MAX: usize = 64;
/// Different client names that are kept at a time. Real clients have a few dozen.
pub const ENCODERS_MAX: usize = 256;

// Per connection, on what is sent to a peer.

/// Chunk size of sent messages (bytes). ffmpeg adopts it, and few messages need a second chunk.
pub const CHUNK_SIZE_OUT: u32 = 60_000;
/// Acknowledgement window (bytes). Peers are asked to use it, and it is used for peers that do not
/// send a window.
pub const WINDOW_ACK_BYTES: u32 = 2_500_000;
/// Smallest acknowledgement window (bytes). Smaller windows of a peer are raised to this. Otherwise
/// each received byte could cost a sent message.
pub const WINDOW_ACK_BYTES_MIN: u32 = 1024;

/// Unsent bytes in a socket, in addition to those in flight (`TCP_NOTSENT_LOWAT`). A player that
/// stalls occupies no more kernel memory. A distant player is not slowed down: the socket becomes
/// writable when half of this is sent, and sending the other half takes longer than a turn.
pub const SOCKET_UNSENT_BYTES_MAX: usize = 128 * KIB;

/// Kernel memory of an idle connection: socket, file and epoll entry. Measured with 16,000 TCP
/// sockets at 4,046 bytes each (`Slab` of `/proc/meminfo`, Linux 6). A control group counts it as
/// memory of the process.
pub const SOCKET_BYTES: usize = 4 * KIB;

// Per stream.

/// Length of a tape. A bound in time would not bound the memory, because publishers choose their
/// own timestamps.
pub const TAPE_BYTES_MAX: usize = 16 * MIB;
/// Time that messages older than the newest keyframe are kept (ms of arrival time).
pub const TAPE_SPAN_MS_MAX: u64 = 30_000;
/// Headers that a stream keeps for new players: metadata and decoder configurations.
pub const HEADERS_BYTES_MAX: usize = 512 * KIB;
/// Number of those headers, because each new one is compared with all. Encoders send fewer than ten
/// tracks, with at most two headers each.
pub const HEADERS_MAX: usize = 128;
/// Smallest block of a tape.
pub const TAPE_BLOCK_BYTES_MIN: usize = 32 * KIB;
/// Largest block of a tape.
pub const TAPE_BLOCK_BYTES_MAX: usize = MIB;
/// Length of a memory file. When it is reached, a new file follows.
pub const SEGMENT_BYTES: usize = 4 * MIB;
/// Fewest players of a stream for which memory files are written. With fewer players, writing a
/// file costs more than `sendfile` saves. CPU seconds per gigabyte, by `write` and by `sendfile`
/// (`cargo bench --bench sendfile`, medians of 7, November 2026):
///
/// | bytes | 4 players | 8 players | 16 players | 64 players |
/// |---|---|---|---|---|
/// | 2 KiB | 3.68, 4.48 | 2.63, 3.18 | 3.15, 3.21 | 2.80, 2.62 |
/// | 4 KiB | 1.60, 1.84 | 1.35, 1.38 | 1.30, 1.18 | 1.10, 0.97 |
/// | 8 KiB | 0.91, 1.03 | 0.73, 0.77 | 0.85, 0.82 | 0.87, 0.71 |
/// | 16 KiB | 0.65, 0.81 | 0.59, 0.61 | 0.53, 0.49 | 0.51, 0.40 |
/// | 64 KiB | 0.33, 0.43 | 0.31, 0.30 | 0.35, 0.24 | 0.31, 0.21 |
pub const SEGMENT_PLAYERS_MIN: usize = 16;
/// Fewest bytes for one player that are sent by `sendfile`. Copying fewer is cheaper; see
/// [`SEGMENT_PLAYERS_MIN`].
pub const SEGMENT_RUN_BYTES_MIN: usize = 4 * KIB;

/// Time that a judge outside the server may take to decide about a request (ms). Encoders give up
/// after 10 s or more.
pub const VERDICT_MS: u64 = 5000;

/// Time that connecting to another server may take (ms).
pub const DIAL_MS: u64 = 5000;

// Per turn of the loop. Each bound keeps its work within some milliseconds, whatever peers send.

/// Length of the read buffer, of which the process has one.
pub const READ_BUFFER_BYTES: usize = 256 * KIB;
/// Bytes of one read, for a connection that does not publish or sends tiny chunks. Commands are
/// short, and bytes beyond the share of the connection have to be kept.
pub const READ_BYTES_SMALL_MAX: usize = 4 * KIB;
/// Chunk size below which a chunk is tiny: its header costs more than its payload (bytes).
pub const CHUNK_BYTES_TINY: u32 = 128;
/// Bytes read from one connection in a turn, before other connections get their share.
pub const READ_BYTES_PER_TURN_MAX: usize = 256 * KIB;
/// Messages read from one connection in a turn in which it has new data. A publisher sends one or
/// two between two turns. A thousand peers that use up this share delay the others by 20 ms.
pub const READ_MESSAGES_FIRST_MAX: usize = 64;
/// Messages read from one connection in a turn, if its last share did not suffice.
pub const READ_MESSAGES_PER_TURN_MAX: usize = 1024;
/// Reads of one connection in a turn.
pub const READ_CALLS_PER_TURN_MAX: usize = 16;
/// Bytes read from all connections in a turn, before players are written to. The read that reaches
/// this bound is finished.
pub const READ_BYTES_OF_ALL_PER_TURN_MAX: usize = MIB;
/// Messages read from all connections in a turn. A media message takes about 0.3 us, and three
/// times as long if each is for another stream, whose memory is not in the cache.
pub const READ_MESSAGES_OF_ALL_PER_TURN_MAX: usize = 4096;
/// Reads of all connections in a turn.
pub const READ_CALLS_OF_ALL_PER_TURN_MAX: usize = 512;
/// Cost of a command, or of a header for new players (in media messages).
pub const READ_COMMAND_MESSAGES: usize = 8;
/// Bytes of a command or a data message that cost as much as a media message, because they are
/// parsed.
pub const READ_PARSED_BYTES_PER_MESSAGE: usize = 64;
/// Cost of a byte of an HTTP response, which is formatted, in bytes that are read.
pub const RESPONSE_BYTE_COST: usize = 8;
/// Cost of a handshake, which is signed (in media messages).
pub const READ_HANDSHAKE_MESSAGES: usize = 32;
/// Chunks that cost as much as a media message.
pub const READ_CHUNKS_PER_MESSAGE: usize = 4;
/// Messages in one aggregate. Encoders send tens.
pub const AGGREGATE_PARTS_MAX: usize = 1024;
/// Bytes written to one connection in a turn.
pub const WRITE_BYTES_PER_TURN_MAX: usize = 512 * KIB;
/// Messages that the writes of one connection visit on its tapes in a turn.
pub const WRITE_MESSAGES_PER_TURN_MAX: usize = 4096;
/// Writes of one connection in a turn.
pub const WRITE_CALLS_PER_TURN_MAX: usize = 16;
/// Bytes written to all connections in a turn, before the next poll.
pub const WRITE_BYTES_OF_ALL_PER_TURN_MAX: usize = 4 * MIB;
/// Messages that all writes of a turn visit: as many as its calls can gather.
pub const WRITE_MESSAGES_OF_ALL_PER_TURN_MAX: usize =
    WRITE_CALLS_OF_ALL_PER_TURN_MAX * WRITE_SLICES_MAX;
/// Writes of all connections in a turn, including visits that write nothing. The kernel takes 5 to
/// 10 us for each.
pub const WRITE_CALLS_OF_ALL_PER_TURN_MAX: usize = 256;
/// Streams whose first players share a turn's writes equally, before any stream's other players
/// are visited. A stream with one player waits for eight writes of each other stream, and not for
/// thousands.
pub const FIRST_VISITS_PER_TURN: usize = 32;
/// Length below which slices are copied together before a write. The kernel handles each slice
/// separately, which costs more than the copy.
pub const WRITE_COPIED_BYTES_MAX: usize = 256;
/// Bytes of short slices that are copied together for one write.
pub const WRITE_SCRATCH_BYTES: usize = 64 * KIB;
/// Connections removed in a turn. Closing a socket takes about 20 us.
pub const CLOSINGS_PER_TURN_MAX: usize = 64;
/// Memory files closed in a turn, when many are released at once. The kernel takes 1 ms to free the
/// pages of a file of [`SEGMENT_BYTES`].
pub const FILES_CLOSED_PER_TURN_MAX: usize = 4;
/// Tapes whose unused memory is given back in a turn. The kernel unmaps it.
pub const TAPES_GIVEN_BACK_PER_TURN_MAX: usize = 16;
/// Streams that end in a turn. Each of them frees its tape.
pub const STREAMS_ENDED_PER_TURN_MAX: usize = 16;
/// Messages of streams that are over that are dropped in a turn: a millisecond or two of work,
/// since none of them is in the cache.
pub const MESSAGES_DROPPED_PER_TURN_MAX: usize = 8 * KIB;
/// Messages that one recorded message may push off its tape, as long as the tape is within its
/// bytes. Each message adds one, so the tape shrinks all the same.
pub const MESSAGES_TRIMMED_MAX: usize = KIB;
/// Connections that are told of a shutdown in a turn.
pub const FAREWELLS_PER_TURN_MAX: usize = 1024;
/// Pace at which players are told that their stream has begun or ended (per millisecond since the
/// last change). A publisher that comes and goes cannot make the server visit ten thousand players
/// more than once a second.
pub const PLAYERS_TOLD_PER_MS: u64 = 10;
/// Connections whose deadlines are checked in a turn.
pub const DEADLINES_PER_TURN_MAX: usize = 1024;
/// Slices in one vectored write.
pub const WRITE_SLICES_MAX: usize = 64;
/// Connections accepted by one listener in a turn.
pub const ACCEPTS_PER_TURN_MAX: usize = 64;

// Per process.

/// Addresses to listen on.
pub const LISTENERS_MAX: usize = 16;
/// Log lines per second about failed connections. Scans and floods beyond it are only counted.
pub const LOG_FAILURES_PER_SECOND_MAX: u32 = 10;
/// Log lines per second about streams, publishers and players.
pub const LOG_STREAM_LINES_PER_SECOND_MAX: u32 = 100;
/// Descriptors that are not connections: standard streams, poll, signal pipe, listeners, and some
/// to spare.
pub const DESCRIPTORS_RESERVED: usize = 32;

/// Share of the descriptors that is kept for memory files, as a divisor, if `connections_max` is
/// not set.
pub const DESCRIPTORS_OF_FILES_DIVISOR: usize = 16;
/// Memory files of all streams. They suffice for more than a thousand streams with many players.
pub const SEGMENT_FILES_MAX: usize = 1024;

// Of HTTP.

/// Length of the head of a request. Browsers with many cookies stay below it.
pub const HTTP_HEAD_BYTES_MAX: usize = 8 * KIB;
/// Fields in the head of a request; browsers send fewer than twenty.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Length of the target of a request.
pub const HTTP_TARGET_BYTES_MAX: usize = 2 * KIB;
/// Length of the body of a request. Commands are a few bytes of JSON.
pub const HTTP_BODY_BYTES_MAX: usize = 16 * KIB;

/// Samples of a partial segment, which has half a second of them.
pub const HLS_PART_SAMPLES_MAX: usize = 512;
/// Bytes of a partial segment.
pub const HLS_PART_BYTES_MAX: usize = 8 * MIB;
/// Parts of a segment; twenty are usual in the longest.
pub const HLS_PARTS_MAX: usize = 64;
/// Segments of one track that are kept.
pub const HLS_SEGMENTS_MAX: usize = 128;
/// Bytes of a segment: four seconds at 64 Mbit/s. A segment that reaches them ends without a
/// keyframe.
pub const HLS_SEGMENT_BYTES_MAX: usize = 32 * MIB;
/// Bytes of one track from which on only the segments that players are owed are kept.
pub const HLS_RENDITION_BYTES_LARGE: usize = TAPE_BYTES_MAX;
/// Bytes of one track: three complete segments, and the one under way.
pub const HLS_RENDITION_BYTES_MAX: usize = 4 * HLS_SEGMENT_BYTES_MAX;
/// Partial segments in a playlist. Some tens are usual.
pub const HLS_LISTED_PARTS_MAX: usize = 256;
/// Held requests that are answered in a turn.
pub const HLS_ANSWERS_PER_TURN_MAX: usize = 128;
/// Bytes of their answers that are formatted in a turn: heads, and playlists.
pub const HLS_ANSWER_BYTES_PER_TURN_MAX: usize = MIB;
/// Held requests that are looked at in a turn. Most of them may go on waiting.
pub const HLS_LOOKS_PER_TURN_MAX: usize = 1024;
/// Bytes of playlists that are kept for the next requests.
pub const HLS_WRITTEN_BYTES_MAX: usize = MIB;
/// Bytes of tapes that are made parts of in a turn.
pub const HLS_BYTES_PER_TURN_MAX: usize = MIB;
/// Messages of tapes that are made parts of in a turn.
pub const HLS_MESSAGES_PER_TURN_MAX: usize = 8192;

// Of the load generator.

/// Bytes that wait on one connection for a server that does not read, before the connection is
/// closed: some seconds of the fastest stream that a publisher sends.
pub const LOAD_UNSENT_BYTES_MAX: usize = 16 * MIB;
/// Head of a response over HTTP, and header of an FLV file that follows it.
pub const LOAD_HTTP_HEAD_BYTES_MAX: usize = 64 * KIB;
/// Length of a list of keys, which is read as a whole.
pub const LOAD_KEYS_BYTES_MAX: u64 = 16 * MIB as u64;
/// Length of a file to publish, which is read as a whole.
pub const LOAD_FILE_BYTES_MAX: u64 = GIB;
/// Most reports of each side of a comparison. The exact test takes the fourth power of it.
pub const LOAD_COMPARED_RUNS_MAX: usize = 32;
/// Bytes that wait for a player of the raw relay, before the player is dropped.
pub const FLOOR_WAITING_BYTES_MAX: usize = 8 * MIB;
/// Length of a memory file of the raw relay. When it is reached, a new file follows.
pub const FLOOR_FILE_BYTES: usize = 8 * MIB;
/// Loopback addresses that one process connects from. Each has some 28,000 ports.
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
    assert!(HLS_PART_BYTES_MAX + MESSAGE_BYTES_MAX < HLS_SEGMENT_BYTES_MAX);
    assert!(HLS_SEGMENT_BYTES_MAX <= HLS_RENDITION_BYTES_MAX / 4);
    assert!(HLS_RENDITION_BYTES_LARGE < HLS_RENDITION_BYTES_MAX - HLS_SEGMENT_BYTES_MAX);
    // The newest complete segment and the one under way are listed with all their parts.
    assert!(2 * HLS_PARTS_MAX <= HLS_LISTED_PARTS_MAX);
};
