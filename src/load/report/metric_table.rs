//! The rows of the table of metrics, in the order of the manual.
//!
//! Owns the rows only. [`metric`](super::metric) explains the columns and how a row is added.

use super::metric::{Metric, MetricGroup, Need, durations, higher, lower, plain, series};
use super::quantity::MetricUnit::{BitPerS, Bytes, Count, Ms, PerS, Percent, S, SPerGb, Share, Us};
use MetricGroup::{Failure, Generator, Machine, Server};
use Need::{Occurrence, OpenWindow, PunctualJoining, Punctuality, ServerPid, WholeRun};

/// Names of commands, for the rows.
type Commands = &'static [&'static str];

pub(super) const MEASURED: Commands = &["idle", "churn", "fanout", "ingest", "publish", "play"];
const SESSIONS: Commands = &["idle", "churn"];
const IDLE: Commands = &["idle"];
const CHURN: Commands = &["churn"];
const STREAMS: Commands = &["fanout", "ingest"];
const FANOUT: Commands = &["fanout"];
const INGEST: Commands = &["ingest"];
const ONE_STREAM: Commands = &["publish", "play"];
const PUBLISH: Commands = &["publish"];
const PLAY: Commands = &["play"];
const PUBLISHERS: Commands = &["ingest", "publish"];
const BUSY: Commands = &["fanout", "ingest", "churn"];
const SENT: Commands = &["fanout", "ingest", "publish"];
const FAILURES: Commands = &["idle", "churn", "fanout"];
const STALLS: Commands = &["fanout", "play"];

/// The main distribution of each command.
pub(super) static MAIN_DISTRIBUTIONS: &[(&str, &str)] = &[
    ("idle", "to_stage"),
    ("churn", "session"),
    ("fanout", "latency"),
    ("ingest", "write_delay"),
    ("publish", "write_delay"),
    ("play", "video_jitter"),
];

/// All metrics.
pub static METRICS: &[Metric] = &[
    // Sessions.
    plain("sessions_opened", Count, SESSIONS, "sessions that were opened"),
    higher("sessions_reached", Count, SESSIONS, "sessions that reached their stage"),
    higher("sessions_held", Count, IDLE, "sessions that were held at the end of the rest"),
    higher("sessions_done", Count, CHURN, "sessions that reached their stage and were closed"),
    lower("sessions_failed", Count, SESSIONS, "sessions that failed"),
    plain("opening_s", S, SESSIONS, "time until the last session reached its stage")
        .worst()
        .needs(&[Punctuality]),
    plain("churn_s", S, CHURN, "time until the last session was closed")
        .worst()
        .needs(&[Punctuality]),
    higher("connect_rate_per_s", PerS, IDLE, "sessions that reached their stage, per second")
        .needs(&[Punctuality]),
    higher("session_rate_per_s", PerS, CHURN, "sessions that were opened and closed, per second")
        .needs(&[Punctuality]),
    plain("sessions_woken", Count, IDLE, "sessions that were woken to play"),
    durations("session", CHURN, "due time of a session to its close").needs(&[Punctuality]),
    durations("to_stage", SESSIONS, "due time of a session to its stage").needs(&[Punctuality]),
    durations("tcp", SESSIONS, "due time of a session to its TCP connection").needs(&[Punctuality]),
    durations("handshake", SESSIONS, "duration of the handshake").needs(&[Punctuality]),
    durations("connect", SESSIONS, "time to the answer to `connect`").needs(&[Punctuality]),
    durations("stream", SESSIONS, "time to the answer to `createStream`").needs(&[Punctuality]),
    durations("publish", SESSIONS, "time to the answer to `publish`").needs(&[Punctuality]),
    durations("play", SESSIONS, "time to the answer to `play`").needs(&[Punctuality]),
    durations("wake", IDLE, "due time of a wakeup to the first frame").needs(&[Punctuality]),
    series("sessions", Count, SESSIONS, "sessions that are at their stage"),
    series("failures", PerS, FAILURES, "connections that fail").group(Failure),
    lower("failed_*", Count, SESSIONS, "sessions that failed, by reason")
        .group(Failure)
        .needs(&[Occurrence]),
    lower("wake_failed_*", Count, IDLE, "sessions that could not be woken, by reason")
        .group(Failure)
        .needs(&[Occurrence]),
    // Streams with players.
    plain("players", Count, FANOUT, "players that were playing when the window opened")
        .needs(&[OpenWindow]),
    lower("players_without_frame", Count, FANOUT, "players that still waited for a keyframe then")
        .needs(&[OpenWindow]),
    lower("players_failed", Count, FANOUT, "players that failed").group(Failure),
    lower("players_failed_*", Count, FANOUT, "players that failed, by reason")
        .group(Failure)
        .needs(&[Occurrence]),
    plain("frames_expected", Count, FANOUT, "frames of the window, once per player")
        .needs(&[WholeRun]),
    higher("frames_received", Count, FANOUT, "frames of the window that arrived")
        .needs(&[OpenWindow]),
    lower("frames_lost", Count, FANOUT, "frames that had not arrived two seconds after the window")
        .needs(&[WholeRun]),
    lower("frames_lost_share", Share, FANOUT, "lost frames by expected frames")
        .worst()
        .needs(&[WholeRun]),
    lower("frames_duplicated", Count, FANOUT, "frames that arrived again").needs(&[OpenWindow]),
    lower("frames_out_of_order", Count, FANOUT, "frames that arrived after a later one")
        .needs(&[OpenWindow]),
    lower("frames_corrupt", Count, FANOUT, "frames with wrong bytes, or of another stream")
        .needs(&[OpenWindow]),
    lower("stalls", Count, STALLS, "times without a frame that count as stalls")
        .needs(&[Punctuality, WholeRun]),
    lower("longest_gap_ms", Ms, FANOUT, "longest time without a frame")
        .worst()
        .needs(&[Punctuality, WholeRun]),
    higher("delivered_bytes", Bytes, FANOUT, "bytes that arrived in the window")
        .needs(&[OpenWindow]),
    higher("delivered_bit_per_s", BitPerS, FANOUT, "rate at which bytes arrived in the window")
        .needs(&[WholeRun]),
    durations("latency", FANOUT, "intended time of a frame to its arrival").needs(&[Punctuality]),
    durations("jitter", FANOUT, "difference of the latencies of two neighbours")
        .needs(&[Punctuality]),
    durations("first_frame", FANOUT, "due time of a player to its first keyframe")
        .needs(&[PunctualJoining]),
    durations("first_frame_after_play", FANOUT, "play command to the first keyframe")
        .needs(&[PunctualJoining]),
    series("players", Count, FANOUT, "players that are playing"),
    series("throughput", BitPerS, STREAMS, "rate at which bytes arrive, or are accepted"),
    series("losses", PerS, FANOUT, "lost frames, by their intended time").needs(&[WholeRun]),
    higher(
        "players_held_max",
        Count,
        FANOUT,
        "most players at which the conditions of a search held",
    )
    .worst(),
    higher("players_missed_min", Count, FANOUT, "fewest players at which they did not hold")
        .worst(),
    plain("audio_frames_expected", Count, FANOUT, "audio frames of the window, once per player")
        .needs(&[WholeRun]),
    higher("audio_frames_received", Count, FANOUT, "audio frames of the window that arrived")
        .needs(&[OpenWindow]),
    lower("audio_frames_lost", Count, FANOUT, "audio frames that were lost").needs(&[WholeRun]),
    lower("audio_frames_duplicated", Count, FANOUT, "audio frames that arrived again")
        .needs(&[OpenWindow]),
    lower(
        "audio_frames_out_of_order",
        Count,
        FANOUT,
        "audio frames that arrived after a later one",
    )
    .needs(&[OpenWindow]),
    lower("audio_frames_corrupt", Count, FANOUT, "audio frames with wrong bytes")
        .needs(&[OpenWindow]),
    durations("audio_latency", FANOUT, "intended time of an audio frame to its arrival")
        .needs(&[Punctuality]),
    plain("slow_readers_playing", Count, FANOUT, "slow readers that were playing at the end"),
    plain("slow_readers_bytes", Bytes, FANOUT, "bytes that they read in the window"),
    plain("slow_readers_ended_*", Count, FANOUT, "slow readers that the server closed, by reason")
        .needs(&[Occurrence]),
    // Streams without players.
    plain("publishers", Count, INGEST, "publishers"),
    lower("publishers_failed", Count, STREAMS, "publishers that failed").group(Failure),
    lower("publishers_failed_*", Count, STREAMS, "publishers that failed, by reason")
        .group(Failure)
        .needs(&[Occurrence]),
    plain("frames_intended", Count, INGEST, "frames of the window").needs(&[WholeRun]),
    higher("frames_accepted", Count, INGEST, "frames that the kernel had taken at its end")
        .needs(&[WholeRun]),
    higher("accepted_bytes", Bytes, INGEST, "bytes of these frames").needs(&[WholeRun]),
    higher("accepted_bit_per_s", BitPerS, INGEST, "rate of these bytes").needs(&[WholeRun]),
    higher("accepted_share", Share, INGEST, "accepted frames by intended frames")
        .worst()
        .needs(&[WholeRun]),
    higher("acknowledged_bytes", Bytes, INGEST, "bytes that the server acknowledged"),
    lower("acknowledgement_gap_max_ms", Ms, INGEST, "longest time without an acknowledgement")
        .worst()
        .needs(&[Punctuality]),
    durations(
        "acknowledgement_delay",
        INGEST,
        "time from when the kernel took a byte to its acknowledgement",
    )
    .needs(&[Punctuality]),
    series("unacknowledged", Bytes, INGEST, "bytes that the server has not acknowledged"),
    durations("write_delay", SENT, "intended time of a frame until the kernel took it")
        .needs(&[Punctuality]),
    // One stream in detail.
    lower("tcp_ms", Ms, ONE_STREAM, "due time of the connection until it was open"),
    lower("handshake_ms", Ms, ONE_STREAM, "duration of the handshake"),
    lower("connect_ms", Ms, ONE_STREAM, "time to the answer to `connect`"),
    lower("stream_ms", Ms, ONE_STREAM, "time to the answer to `createStream`"),
    lower("publish_ms", Ms, PUBLISH, "time to the answer to `publish`"),
    lower("play_ms", Ms, PLAY, "time to the answer to `play`"),
    plain("statuses", Count, ONE_STREAM, "status messages of the server"),
    higher("video_frames", Count, ONE_STREAM, "video frames"),
    plain("video_keyframes", Count, ONE_STREAM, "keyframes"),
    higher("audio_frames", Count, ONE_STREAM, "audio frames"),
    higher("video_frames_per_s", PerS, ONE_STREAM, "rate of the video frames").worst(),
    higher("video_bits_per_s", BitPerS, ONE_STREAM, "bitrate of the video").worst(),
    higher("audio_bits_per_s", BitPerS, ONE_STREAM, "bitrate of the audio").worst(),
    plain("acknowledgements", Count, PUBLISH, "acknowledgements of the server"),
    lower("waiting_bytes_max", Bytes, PUBLISH, "most bytes that waited for the kernel").worst(),
    lower("unacknowledged_bytes_max", Bytes, PUBLISHERS, "most bytes without an acknowledgement")
        .worst(),
    series("waiting", Bytes, PUBLISH, "bytes that wait for the kernel"),
    lower("first_media_ms", Ms, PLAY, "due time of the player to the first audio or video"),
    lower("metadata_ms", Ms, PLAY, "due time of the player to the metadata"),
    lower("first_keyframe_ms", Ms, PLAY, "due time of the player to the first keyframe"),
    lower("first_audio_ms", Ms, PLAY, "due time of the player to the first audio"),
    higher("received_bytes", Bytes, PLAY, "bytes that arrived"),
    plain("data_messages", Count, PLAY, "messages that are neither audio nor video"),
    lower("unreadable_messages", Count, PLAY, "messages without a valid tag"),
    plain("further_tracks", Count, PLAY, "tracks that were not measured"),
    plain("gop_frames", Count, PLAY, "frames of the last complete GOP"),
    plain("av_skew_ms", Ms, PLAY, "video timestamp minus audio timestamp, at the end"),
    plain("av_skew_max_ms", Ms, PLAY, "the same, where it was furthest from zero").worst(),
    lower("stall_max_ms", Ms, PLAY, "longest stall").worst().needs(&[Punctuality]),
    higher("audio_frames_per_s", PerS, PLAY, "rate of the audio frames").worst(),
    lower("video_timestamps_back", Count, PLAY, "video timestamps below the one before"),
    lower("audio_timestamps_back", Count, PLAY, "audio timestamps below the one before"),
    lower("video_gaps", Count, PLAY, "gaps in the timestamps of the video"),
    lower("audio_gaps", Count, PLAY, "gaps in the timestamps of the audio"),
    lower("video_gap_max_ms", Ms, PLAY, "longest of these gaps of the video").worst(),
    lower("audio_gap_max_ms", Ms, PLAY, "longest of these gaps of the audio").worst(),
    plain("video_nominal_frames_per_s", PerS, PLAY, "rate of the video frames by timestamps")
        .worst(),
    plain("audio_nominal_frames_per_s", PerS, PLAY, "rate of the audio frames by timestamps")
        .worst(),
    plain("video_nominal_bits_per_s", BitPerS, PLAY, "bitrate of the video by timestamps").worst(),
    plain("audio_nominal_bits_per_s", BitPerS, PLAY, "bitrate of the audio by timestamps").worst(),
    lower("behind_ms", Ms, PLAY, "how much later than by its timestamp the last frame came")
        .worst(),
    lower("behind_max_ms", Ms, PLAY, "the same of the latest frame").worst(),
    lower("rebuffers_at_200ms", Count, PLAY, "stalls of a player with a buffer of 200 ms"),
    lower("rebuffers_at_1000ms", Count, PLAY, "stalls of a player with a buffer of 1 s"),
    lower("rebuffers_at_3000ms", Count, PLAY, "stalls of a player with a buffer of 3 s"),
    lower("rebuffered_at_200ms_s", S, PLAY, "time in the stalls with 200 ms").worst(),
    lower("rebuffered_at_1000ms_s", S, PLAY, "time in the stalls with 1 s").worst(),
    lower("rebuffered_at_3000ms_s", S, PLAY, "time in the stalls with 3 s").worst(),
    lower("buffer_enough_ms", Ms, PLAY, "the shortest buffer without a stall").worst(),
    series("behind", Ms, PLAY, "how much later than by its timestamp a frame came, at most"),
    durations("video_jitter", PLAY, "arrival against timestamp, from frame to frame, of the video")
        .needs(&[Punctuality]),
    durations("audio_jitter", PLAY, "the same of the audio").needs(&[Punctuality]),
    durations("gop", PLAY, "length of a GOP by its timestamps"),
    // Cost to the server.
    lower("server_cpu_s", S, STREAMS, "processor time of the server in the window")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("server_cpu_share", Share, STREAMS, "the same as a share of one core")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("server_cpu_s_per_gb", SPerGb, STREAMS, "the same per GB delivered or accepted")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("server_wakeups_per_s", PerS, STREAMS, "how often the server waited and ran again")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("server_resident_bytes", Bytes, &["fanout", "ingest", "idle"], RESIDENT)
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("resident_bytes_per_session", Bytes, IDLE, "memory of the server by sessions held")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("server_memory_file_bytes", Bytes, IDLE, "growth of its memory files")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("memory_file_bytes_per_session", Bytes, IDLE, "the same by sessions held")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("kernel_tcp_bytes", Bytes, IDLE, "growth of the socket buffers of the machine")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("kernel_tcp_bytes_per_session", Bytes, IDLE, "the same by sessions held")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("server_idle_cpu_percent", Percent, IDLE, "processor time of the server at rest")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("server_idle_wakeups_per_s", PerS, IDLE, "wakeups of the server at rest")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("server_opening_cpu_us", Us, IDLE, "processor time of the server to open the sessions")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("server_opening_cpu_us_per_session", Us, IDLE, "the same by sessions opened")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("server_cpu_us", Us, CHURN, "processor time of the server")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("server_cpu_us_per_session", Us, CHURN, "the same by sessions done")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    series("server_resident", Bytes, MEASURED, "resident memory of the server")
        .group(Server)
        .needs(&[ServerPid]),
    series("server_cpu", Percent, MEASURED, "processor time of the server, of one core")
        .group(Server)
        .needs(&[ServerPid]),
    series("server_wakeups", PerS, MEASURED, "wakeups of the server")
        .group(Server)
        .needs(&[ServerPid]),
    lower("server_wait_share", Share, MEASURED, "time that its threads waited for a core")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    lower("server_wait_mean_us", Us, MEASURED, "mean of these waits, the error bar of its delays")
        .worst()
        .group(Server)
        .needs(&[ServerPid]),
    series("server_wait", Percent, MEASURED, "time that the threads of the server wait for a core")
        .group(Server)
        .needs(&[ServerPid]),
    // Busy time of the machine.
    lower("machine_busy_s", S, BUSY, "busy time of all cores")
        .worst()
        .group(Machine)
        .needs(&[ServerPid]),
    lower("machine_core*_busy_s", S, BUSY, "busy time of one core")
        .worst()
        .group(Machine)
        .needs(&[ServerPid]),
    lower("machine_stolen_s", S, BUSY, "time that the host took from this virtual machine")
        .worst()
        .group(Machine)
        .needs(&[ServerPid]),
    lower("machine_busy_s_per_gb", SPerGb, STREAMS, "busy time per GB delivered or accepted")
        .worst()
        .group(Machine)
        .needs(&[ServerPid]),
    lower("machine_core*_busy_s_per_gb", SPerGb, STREAMS, "the same of one core")
        .worst()
        .group(Machine)
        .needs(&[ServerPid]),
    lower("machine_busy_us", Us, CHURN, "busy time of all cores")
        .worst()
        .group(Machine)
        .needs(&[ServerPid]),
    lower("machine_core*_busy_us", Us, CHURN, "the same of one core")
        .worst()
        .group(Machine)
        .needs(&[ServerPid]),
    lower("machine_busy_us_per_session", Us, CHURN, "busy time by sessions done")
        .worst()
        .group(Machine)
        .needs(&[ServerPid]),
    lower("machine_core*_busy_us_per_session", Us, CHURN, "the same of one core")
        .worst()
        .group(Machine)
        .needs(&[ServerPid]),
    // The generator itself.
    lower("generator_cpu_share", Share, MEASURED, "processor time of the generator, of one core")
        .worst()
        .group(Generator),
    lower("generator_wait_share", Share, MEASURED, "time that it was ready and waited for a core")
        .worst()
        .group(Generator),
    durations("read_delay", MEASURED, "time from being ready to run until a connection was read")
        .group(Generator),
    durations("lateness", MEASURED, "due time of an action until it was done").group(Generator),
    durations("turn", STREAMS, "time from waking up to sleeping again").group(Generator),
];

const RESIDENT: &str = "resident memory of the server in the end; its growth in `idle`";
