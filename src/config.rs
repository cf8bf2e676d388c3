//! Settings of the server, with their defaults, validated once.
//!
//! Owns the typed values, the relations between them, and the table of keys. Reading, the printed
//! sample and the report of a reload all walk that table. Settings are plain data: nothing here is
//! global, opens a file or reads the clock.

mod apps;
mod error;
mod field;
mod listen_place;
mod settings_reader;
mod syntax;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use log::Level;

pub use self::apps::{App, StreamKey};
pub use self::error::{ConfigError, ConfigErrors};
use self::field::{Choice, Written, Wrong, either_zero_or, from_to};
pub use self::field::{FilePath, HostName, ListenAddress, ReconnectUrl};
pub use self::listen_place::{ListenPlace, OptionalListen, SocketPath};
pub use self::settings_reader::{Draft, FileText, FlagValue};
use crate::limits;
use crate::rtmp::handshake::C2Check;

/// All settings of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Addresses to listen on; `[::]` also accepts IPv4.
    pub listen: Vec<ListenAddress>,
    /// The most detailed level that is logged.
    pub log_level: Level,
    /// Duration of the drain after SIGTERM (ms).
    pub drain_ms: u64,
    /// URL in reconnect requests; empty for the URL that the client used.
    pub drain_url: ReconnectUrl,
    /// Sizes and counts.
    pub limits: Limits,
    /// Deadlines of peers.
    pub timeouts: Timeouts,
    /// Publishers.
    pub publish: Publish,
    /// Players.
    pub play: Play,
    /// The protocol.
    pub rtmp: Rtmp,
    /// Pages, players and programs that speak HTTP.
    pub http: Http,
    /// The page, the metrics and the API.
    pub api: Api,
    /// Access rules of applications, by name. Anyone may publish in an application without rules.
    pub apps: BTreeMap<String, App>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, RTMP_PORT)).into()],
            log_level: Level::Info,
            drain_ms: 8_000,
            drain_url: ReconnectUrl::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            publish: Publish::default(),
            play: Play::default(),
            rtmp: Rtmp::default(),
            http: Http::default(),
            api: Api::default(),
            apps: BTreeMap::new(),
        }
    }
}

impl Settings {
    /// Reads settings from a file, if there is one, and from flags, which override the file.
    ///
    /// # Errors
    /// Returns every mistake in both, so that a user can correct all of them at once.
    pub fn read(file: Option<FileText<'_>>, flags: &[FlagValue]) -> Result<Self, ConfigErrors> {
        Draft::read(file, flags).finish()
    }

    /// Returns a configuration file with every key, its default, its meaning and its range.
    pub fn sample() -> String {
        let defaults = Self::default();
        let mut out = String::from(SAMPLE_HEAD);
        let mut section = "";
        for key in keys() {
            if key.section() != section {
                section = key.section();
                out.push_str(&format!("\n[{section}]\n"));
            }
            out.push('\n');
            for line in key.about {
                out.push_str(&format!("#{line}\n"));
            }
            if key.change == Change::Restart {
                out.push_str("# A reload does not change it.\n");
            }
            let (value, expected) = ((key.show)(&defaults), (key.expected)());
            out.push_str(&format!("{} = {value}  # {expected}\n", key.name()));
        }
        apps::sample(&mut out);
        out
    }

    /// Returns every key outside of `[apps]`, as in `play.start`, with its value in the syntax of
    /// the file. None of the values is a secret.
    pub fn entries(&self) -> impl Iterator<Item = (&'static str, String)> {
        keys().map(|key| (key.path, (key.show)(self)))
    }

    /// Returns the keys that differ in `new` and that a reload does not change.
    pub fn changed_at_restart_only(&self, new: &Self) -> Vec<String> {
        self.changes(new, Change::Restart).map(|change| change.key).collect()
    }

    /// Returns the keys that differ in `new` and that a reload changes.
    pub fn changed_live(&self, new: &Self) -> Vec<ChangedKey> {
        self.changes(new, Change::Live).chain(apps::changes(&self.apps, &new.apps)).collect()
    }

    /// Copies the values that need a restart from the `running` settings. So the settings always
    /// match the behaviour of the server.
    pub fn keep_restart_only(&mut self, running: &Self) {
        self.listen.clone_from(&running.listen);
        self.limits.connections_max = running.limits.connections_max;
        self.limits.socket_unsent_bytes_max = running.limits.socket_unsent_bytes_max;
        self.limits.socket_send_bytes_max = running.limits.socket_send_bytes_max;
        self.limits.socket_receive_bytes_max = running.limits.socket_receive_bytes_max;
        // The size was announced to players, and tapes contain messages in chunks of this size.
        self.rtmp.chunk_size = running.rtmp.chunk_size;
        self.http.listen.clone_from(&running.http.listen);
        self.api.listen.clone_from(&running.api.listen);
        self.timeouts.keepalive_ms = running.timeouts.keepalive_ms;
        self.timeouts.user_timeout_ms = running.timeouts.user_timeout_ms;
    }

    fn changes<'a>(&'a self, new: &'a Self, when: Change) -> impl Iterator<Item = ChangedKey> + 'a {
        keys().filter(move |key| key.change == when).filter_map(|key| {
            let (old, new) = ((key.show)(self), (key.show)(new));
            (old != new).then_some(ChangedKey { key: key.path.into(), old, new })
        })
    }
}

/// A key whose value a reload changes, with both values in the syntax of the file. Secrets are
/// replaced by their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedKey {
    /// Section and name, as in `play.start`.
    pub key: String,
    /// The value before the reload.
    pub old: String,
    /// The value after the reload.
    pub new: String,
}

impl fmt::Display for ChangedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, old, new } = self;
        if old == new { write!(f, "{key} changed") } else { write!(f, "{key} {old} -> {new}") }
    }
}

/// Policy for a second publisher of a live stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duplicate {
    /// The second publisher is refused.
    Reject,
    /// The second publisher takes over, and the first one is closed.
    Replace,
    /// The second publisher takes over if the first one has been silent for `publish.silent_ms`.
    ReplaceIfSilent,
}

impl Choice for Duplicate {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("reject", Self::Reject),
        ("replace", Self::Replace),
        ("replace-if-silent", Self::ReplaceIfSilent),
    ];
}

/// Start position of a player in a live stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The newest keyframe. It gives a picture at once.
    Keyframe,
    /// The next keyframe. It gives the lowest delay of a decodable start.
    NextKeyframe,
    /// The next message of any kind.
    Live,
}

impl Choice for Start {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("keyframe", Self::Keyframe),
        ("next-keyframe", Self::NextKeyframe),
        ("live", Self::Live),
    ];
}

/// Policy for a player of a stream without a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// The player waits for a publisher.
    Wait,
    /// The player is refused.
    Refuse,
}

impl Choice for Absent {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("wait", Self::Wait), ("refuse", Self::Refuse)];
}

impl Choice for C2Check {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("off", Self::Off), ("log", Self::Log), ("strict", Self::Strict)];
}

impl Choice for Level {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

/// Creates a [`Key`] from its path, its text and its field in [`Settings`].
macro_rules! key {
    ($path:expr, [$($about:literal),+], $change:ident, $rule:expr, $($field:ident).+) => {
        Key {
            path: $path,
            about: &[$($about),+],
            change: Change::$change,
            assign: |settings, written| field::assign(&mut settings.$($field).+, written, &$rule),
            show: |settings| field::show(&settings.$($field).+),
            expected: || field::expected_by(&Settings::default().$($field).+, &$rule),
        }
    };
}

/// Declares a section in one place: its struct, its defaults and its keys.
///
/// Declaring them separately is rejected: someone who adds a key would forget one of the places.
/// The text above a key is both its documentation and its comment in the printed sample.
macro_rules! section {
    (
        $(#[$attribute:meta])*
        $section:ident: $name:ident, $keys:ident {
            $(
                $(#[doc = $about:literal])+
                $change:ident $key:ident: $type:ty = $default:expr, $rule:expr;
            )+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $( $(#[doc = $about])+ pub $key: $type, )+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $key: $default, )+ }
            }
        }

        const $keys: &[Key] = &[$(
            key!(
                concat!(stringify!($section), ".", stringify!($key)),
                [$($about),+], $change, $rule, $section.$key
            ),
        )+];
    };
}

section! {
    /// `[limits]`: sizes and counts, per process, connection and stream.
    limits: Limits, LIMITS_KEYS {
        /// Maximum number of connections; 0: as many as the descriptor limit allows, minus a
        /// sixteenth that is reserved for memory files.
        Restart connections_max: usize = 0, from_to(0, COUNT_MAX);
        /// Memory of connections and streams, including kernel buffers; 0: half of the memory that
        /// the machine, the control group or the limit of the process (`ulimit -v`, `-d`) allows.
        /// When memory runs short, the server first frees what costs its peers least.
        Live memory_bytes_max: usize = 0, either_zero_or(MEMORY_BYTES_MIN, MEMORY_BYTES_MAX);
        /// Unsent data in a socket, in addition to the data in flight (TCP_NOTSENT_LOWAT). It
        /// bounds the memory of stalled players and slows no player down; 0: up to the send buffer.
        Restart socket_unsent_bytes_max: usize = limits::SOCKET_UNSENT_BYTES_MAX,
            either_zero_or(SOCKET_BYTES_MIN, BYTES_MAX);
        /// Send buffer of a socket; 0: the kernel adapts it. A fixed size slows down distant
        /// players.
        Restart socket_send_bytes_max: usize = 0, either_zero_or(SOCKET_BYTES_MIN, BYTES_MAX);
        /// Receive buffer of a socket; 0: the kernel adapts it.
        Restart socket_receive_bytes_max: usize = 0, either_zero_or(SOCKET_BYTES_MIN, BYTES_MAX);
        /// Maximum number of connections from one address; 0: no limit.
        Live connections_per_address_max: usize = 0, from_to(0, COUNT_MAX);
        /// Maximum number of message streams on one connection.
        Live message_streams_max: usize = limits::MESSAGE_STREAMS_MAX, from_to(1, 256);
        /// Maximum number of chunk streams on one connection; encoders use fewer than ten.
        Live chunk_streams_max: usize = limits::CHUNK_STREAMS_MAX, from_to(8, 254);
        /// Maximum length of a command message.
        Live command_bytes_max: usize = limits::COMMAND_BYTES_MAX, MESSAGE_BYTES;
        /// Maximum length of a data message, such as metadata.
        Live data_bytes_max: usize = limits::DATA_BYTES_MAX, MESSAGE_BYTES;
        /// Maximum length of an audio message.
        Live audio_bytes_max: usize = limits::AUDIO_BYTES_MAX, MESSAGE_BYTES;
        /// Maximum length of a video message; keyframes of 4K streams reach 5 MB.
        Live video_bytes_max: usize = limits::VIDEO_BYTES_MAX, MESSAGE_BYTES;
        /// Maximum total length of the unfinished messages of one publisher. No message may be
        /// longer.
        Live assembly_bytes_max: usize = limits::ASSEMBLY_BYTES_MAX, from_to(BYTES_MIN, BYTES_MAX);
        /// Maximum length of the replies that wait for a peer that does not read.
        Live control_bytes_max: usize = limits::CONTROL_BYTES_MAX, from_to(BYTES_MIN, BYTES_MAX);
        /// Maximum number of published streams. Players may wait for as many other names; 0: no
        /// limit.
        Live streams_max: usize = 0, from_to(0, COUNT_MAX);
        /// Maximum length of the name of an application and a stream, without the query.
        Live name_bytes_max: usize = limits::NAME_BYTES_MAX,
            from_to(1, limits::NAME_BYTES_MAX as u64);
        /// Maximum length of the part of a stream that is kept for its players. It is in bytes, so
        /// that it bounds memory: publishers choose their own timestamps.
        Live tape_bytes_max: usize = limits::TAPE_BYTES_MAX, from_to(TAPE_BYTES_MIN, BYTES_MAX);
        /// Time for which messages older than the newest keyframe are kept for lagging players, by
        /// arrival. The newest GOP is kept as long as tape_bytes_max allows.
        Live tape_span_ms_max: u64 = limits::TAPE_SPAN_MS_MAX, from_to(1000, 3_600_000);
    }
}

section! {
    /// `[timeouts]`: deadlines of peers.
    timeouts: Timeouts, TIMEOUTS_KEYS {
        /// Deadline for the handshake, counted from accept. Received bytes do not extend it.
        Live handshake_ms: u64 = 10_000, from_to(1, MILLIS_MAX);
        /// Deadline for connect, counted from accept. Received bytes do not extend it.
        Live connect_ms: u64 = 20_000, from_to(1, MILLIS_MAX);
        /// Time after which a session that neither publishes nor plays is closed; 0: never.
        Live idle_ms: u64 = 0, from_to(0, MILLIS_MAX);
        /// Time after which a publisher that sends no media is closed; 0: never. 4 KiB of an
        /// unfinished message count as media. A publisher with long pauses gets twice its longest
        /// pause.
        Live publisher_silent_ms: u64 = 30_000, from_to(0, MILLIS_MAX);
        /// Time after which a player is closed that takes no byte of the data that waits for it.
        /// It also applies to other sessions, but not to replies that a publisher does not read.
        Live player_stalled_ms: u64 = 10_000, from_to(1, MILLIS_MAX);
        /// Interval of RTMP pings; 0: no pings, because each one wakes up both sides.
        Live ping_ms: u64 = 0, either_zero_or(1000, MILLIS_MAX);
        /// Silence after which the kernel probes whether the peer is alive (TCP keep-alive); 0:
        /// never.
        Restart keepalive_ms: u64 = 60_000, either_zero_or(1000, KEEPALIVE_MS_MAX);
        /// Time after which unacknowledged data closes the connection (TCP user timeout); 0: the
        /// default of the kernel, about 15 minutes.
        Restart user_timeout_ms: u64 = 30_000, either_zero_or(1000, MILLIS_MAX);
    }
}

section! {
    /// `[publish]`: publishers and their streams.
    publish: Publish, PUBLISH_KEYS {
        /// Policy for a second publisher of a live stream: it is refused, it takes over, or it
        /// takes over if the first one has been silent for silent_ms.
        Live duplicate: Duplicate = Duplicate::ReplaceIfSilent, ();
        /// Silence after which replace-if-silent allows a takeover. A publisher with long pauses
        /// gets twice its longest pause. A publisher that has not sent its second picture gets ten
        /// times this setting.
        Live silent_ms: u64 = 3000, from_to(1, MILLIS_MAX);
        /// Time for which the players of a stream are kept after its publisher has left. If a
        /// publisher returns within it, they continue without a break; 0: they are told at once.
        Live linger_ms: u64 = 15_000, from_to(0, MILLIS_MAX);
    }
}

section! {
    /// `[play]`: players, their start and their lag.
    play: Play, PLAY_KEYS {
        /// Start of a player: the newest keyframe (a picture at once), the next keyframe (the
        /// lowest delay), or the next message of any kind.
        Live start: Start = Start::Keyframe, ();
        /// Policy for a player of a stream without a publisher: it waits or is refused.
        Live absent: Absent = Absent::Wait, ();
        /// Time for which such a player waits; 0: without limit.
        Live wait_ms: u64 = 0, from_to(0, MILLIS_MAX);
        /// Lag above which a player skips to the newest keyframe.
        Live lag_ms: u64 = 5000, from_to(1, 3_600_000);
        /// Lag in bytes above which a player skips to the newest keyframe.
        Live lag_bytes: usize = 8 * limits::MIB, from_to(LAG_BYTES_MIN, BYTES_MAX);
        /// Maximum number of skips within skip_window_ms. The next skip closes the connection.
        Live skips_max: u32 = 10, from_to(0, 1_000_000);
        /// Time in which skips are counted.
        Live skip_window_ms: u64 = 60_000, from_to(1, MILLIS_MAX);
        /// Time for which a message may wait, so that players get several messages in one call.
        /// 350 halves the CPU time; 0: messages are sent at once.
        Live merge_ms: u64 = 0, from_to(0, 5000);
    }
}

section! {
    /// `[rtmp]`: parameters of the protocol.
    rtmp: Rtmp, RTMP_KEYS {
        /// Size of sent chunks. ffmpeg publishes with the same size. Some programs complain
        /// above 65536, and at 60000 few messages need a second chunk.
        Restart chunk_size: u32 = limits::CHUNK_SIZE_OUT,
            from_to(limits::CHUNK_SIZE_INITIAL as u64, 65_536);
        /// Bytes that either side may send between two acknowledgements.
        Live window_ack_bytes: u32 = limits::WINDOW_ACK_BYTES,
            from_to(limits::WINDOW_ACK_BYTES_MIN as u64, i32::MAX as u64);
        /// Treatment of a C2 that does not repeat S1: it is not checked, logged at debug level, or
        /// refused.
        Live c2_check: C2Check = C2Check::Log, ();
    }
}

section! {
    /// `[http]`: playback over HTTP, and the listener that shows the page.
    http: Http, HTTP_KEYS {
        /// Addresses for HTTP, and unix sockets as unix:/path; []: none. They show streams, and the
        /// page, the metrics and the API unless api.listen has addresses. If the default address is
        /// taken, the server warns and goes on without.
        Restart listen: OptionalListen = OptionalListen::default_of(DEFAULT_HTTP), ();
        /// Names under which browsers reach this server, in addition to localhost and addresses.
        /// Requests for other names are refused, because a web site could rebind its own name to
        /// this machine.
        Live hosts: Vec<HostName> = Vec::new(), ();
        /// Deadline for a whole request, from accept or from its first byte.
        Live request_ms: u64 = 10_000, from_to(1, MILLIS_MAX);
        /// Time after which a connection without a request is closed; 0: never.
        Live idle_ms: u64 = 60_000, from_to(0, MILLIS_MAX);
        /// Deadline for the client to take a whole response. A stream has that of a player.
        Live response_ms: u64 = 30_000, from_to(1, MILLIS_MAX);
    }
}

section! {
    /// `[api]`: the page, the metrics and the API.
    api: Api, API_KEYS {
        /// Addresses for the page, the metrics and the API, and unix sockets as unix:/path; []:
        /// those of http.listen.
        Restart listen: OptionalListen = OptionalListen::NONE, ();
        /// File with the token that requests must carry to change anything, and to see anything on
        /// an address that is not loopback; empty: no token, so both are refused. The environment
        /// variable TIDERACE_API_TOKEN has the token itself.
        Live token_file: FilePath = FilePath::default(), ();
    }
}

const TOP_KEYS: &[Key] = &[
    key!(
        "listen",
        [
            " Addresses to listen on: \"ADDRESS:PORT\", \":PORT\" or \"PORT\". [::] also accepts",
            " IPv4, and means 0.0.0.0 on a host without IPv6. A link-local address needs its",
            " interface, as in \"[fe80::1%eth0]:1935\". With port 0 the system chooses one."
        ],
        Restart,
        (),
        listen
    ),
    key!("log_level", [" The most detailed level that is logged."], Live, (), log_level),
    key!(
        "drain_ms",
        [
            " Time after SIGTERM for which clients that were asked to reconnect (Enhanced RTMP v2)",
            " are served. All other clients are told and closed within a second. The default ends",
            " before docker kills the server, 10 s after SIGTERM. A second SIGTERM stops it at",
            " once."
        ],
        Live,
        from_to(0, MILLIS_MAX),
        drain_ms
    ),
    key!(
        "drain_url",
        [
            " URL in the reconnect requests that are sent on SIGTERM and on SIGUSR1, which asks",
            " clients to reconnect without a shutdown; empty: the URL that the client used."
        ],
        Live,
        (),
        drain_url
    ),
];

const SAMPLE_HEAD: &str = "\
# Settings of Tiderace: every key with its default. Keys that you do not change can be left out.
# Durations are in milliseconds, sizes in bytes. SIGHUP reads the file again.
";

/// A key of the configuration, with the functions that read, print and compare its value.
struct Key {
    /// Section and name, as in `play.start`; keys of the top level have no section.
    path: &'static str,
    /// The lines of its comment, each with its leading space.
    about: &'static [&'static str],
    change: Change,
    /// Sets the value, or returns every mistake in it.
    assign: fn(&mut Settings, &Written<'_>) -> Result<(), Vec<Wrong>>,
    /// Returns the value in the syntax of the file.
    show: fn(&Settings) -> String,
    /// Returns the description of valid values.
    expected: fn() -> String,
}

/// The time at which a changed key takes effect.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// At the reload.
    Live,
    /// At the next start, because existing sockets or tables depend on the value.
    Restart,
}

impl Key {
    fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }
}

/// Returns every key, section by section. The keys of the top level come first.
fn keys() -> impl Iterator<Item = &'static Key> {
    let sections = [
        TOP_KEYS,
        LIMITS_KEYS,
        TIMEOUTS_KEYS,
        PUBLISH_KEYS,
        PLAY_KEYS,
        RTMP_KEYS,
        HTTP_KEYS,
        API_KEYS,
    ];
    sections.into_iter().flatten()
}

/// One side of a relation between two keys.
struct Operand {
    path: &'static str,
    value: fn(&Settings) -> u64,
}

macro_rules! at_most {
    ($($section:ident.$key:ident <= $section_max:ident.$key_max:ident;)+) => {
        /// Pairs of keys. The first value must not exceed the second.
        const AT_MOST: &[(Operand, Operand)] = &[$((
            Operand {
                path: concat!(stringify!($section), ".", stringify!($key)),
                value: |settings| settings.$section.$key as u64,
            },
            Operand {
                path: concat!(stringify!($section_max), ".", stringify!($key_max)),
                value: |settings| settings.$section_max.$key_max as u64,
            },
        ),)+];
    };
}

at_most! {
    // An allowed message must fit into the assembly, and an assembled message must fit on the tape.
    limits.command_bytes_max <= limits.assembly_bytes_max;
    limits.data_bytes_max <= limits.assembly_bytes_max;
    limits.audio_bytes_max <= limits.assembly_bytes_max;
    limits.video_bytes_max <= limits.assembly_bytes_max;
    limits.assembly_bytes_max <= limits.tape_bytes_max;
    // A player that may lag further than the tape reaches would fall off its end instead of
    // skipping.
    play.lag_bytes <= limits.tape_bytes_max;
    play.lag_ms <= limits.tape_span_ms_max;
    // Messages that wait to be merged do not count as lag.
    play.merge_ms <= play.lag_ms;
    // Both deadlines count from accept, so a longer handshake deadline would never be reached.
    timeouts.handshake_ms <= timeouts.connect_ms;
}

/// Keys that restrict peers, and whose default is no restriction. A reload of a file that lacks one
/// of them does not remove the restriction. `apps.rs` does the same for the access rules of
/// `[apps]`.
const GUARDS: &[&str] = &["limits.connections_per_address_max"];

/// The address for HTTP unless the settings name others. The page shows what anybody on the machine
/// may see, so it is for the machine alone.
const DEFAULT_HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// The registered port of RTMP.
const RTMP_PORT: u16 = 1935;
/// Longest duration: one day. A longer one is probably in the wrong unit.
const MILLIS_MAX: u64 = 86_400_000;
/// Longest keep-alive time that the kernel accepts: 32767 seconds.
const KEEPALIVE_MS_MAX: u64 = 32_767_000;
/// Largest count. No kernel gives one process more descriptors.
const COUNT_MAX: u64 = 1 << 24;
/// Smallest size of a message. `connect` with its lists fits, and so do the replies of a handshake.
const BYTES_MIN: u64 = 4 * limits::KIB as u64;
/// Smallest lag. The bytes of one turn must not make all players of a stream lag.
const LAG_BYTES_MIN: u64 = 2 * limits::READ_BYTES_PER_TURN_MAX as u64;
/// Largest size for one stream or peer. A larger one is probably in the wrong unit.
const BYTES_MAX: u64 = 1024 * limits::MIB as u64;
/// Smallest memory budget: a publisher with its tape, and some players.
const MEMORY_BYTES_MIN: u64 = 16 * limits::MIB as u64;
/// Largest memory budget, which is more than any machine has.
const MEMORY_BYTES_MAX: u64 = 1 << 44;
/// Smallest socket buffer: some messages.
const SOCKET_BYTES_MIN: u64 = 16 * limits::KIB as u64;
/// Smallest tape: more than one of its blocks.
const TAPE_BYTES_MIN: u64 = 2 * limits::TAPE_BLOCK_BYTES_MAX as u64;
/// Range of a message length, whose field has 24 bits.
const MESSAGE_BYTES: field::Range = from_to(BYTES_MIN, limits::MESSAGE_BYTES_MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;

    fn from_text(text: &str) -> Result<Settings, ConfigErrors> {
        Settings::read(Some(FileText { name: "t.toml", text }), &[])
    }

    #[test]
    fn sample_reads_as_the_defaults() {
        assert_eq!(from_text(&Settings::sample()), Ok(Settings::default()));
    }

    #[test]
    fn sample_holds_every_key_with_its_comment() {
        let sample = Settings::sample();
        let lines: Vec<_> = sample.lines().collect();
        for key in keys() {
            let assignment = format!("{} = ", key.name());
            let below = match key.section() {
                "" => 0,
                section => lines.iter().position(|l| *l == format!("[{section}]")).unwrap(),
            };
            let at =
                below + lines[below..].iter().position(|l| l.starts_with(&assignment)).unwrap();
            assert!(lines[at - 1].starts_with("# "), "{} has no comment", key.path);
        }
    }

    #[test]
    fn sample_keeps_to_a_hundred_columns() {
        for line in Settings::sample().lines() {
            assert!(line.len() <= 100, "{line}");
        }
    }

    #[test]
    fn keys_are_named_once() {
        let mut paths: Vec<_> = keys().map(|key| key.path).collect();
        paths.sort_unstable();
        let count = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), count);
    }

    #[test]
    fn defaults_keep_the_relations() {
        let defaults = Settings::default();
        for (low, high) in AT_MOST {
            assert!((low.value)(&defaults) <= (high.value)(&defaults), "{}", low.path);
            assert!(keys().any(|key| key.path == low.path), "{}", low.path);
            assert!(keys().any(|key| key.path == high.path), "{}", high.path);
        }
        for guard in GUARDS {
            assert!(keys().any(|key| key.path == *guard), "{guard}");
        }
    }

    /// A valid value of each key that is not its default.
    const OTHER_VALUES: &[(&str, &str)] = &[
        ("listen", "[\"127.0.0.1:1936\", \":1937\"]"),
        ("log_level", "\"trace\""),
        ("drain_ms", "1"),
        ("drain_url", "\"rtmp://b.example/live\""),
        ("limits.connections_max", "100"),
        ("limits.memory_bytes_max", "1_073_741_824"),
        ("limits.socket_unsent_bytes_max", "65536"),
        ("limits.socket_send_bytes_max", "0x10_0000"),
        ("limits.socket_receive_bytes_max", "0x10_0000"),
        ("limits.connections_per_address_max", "7"),
        ("limits.message_streams_max", "2"),
        ("limits.chunk_streams_max", "32"),
        ("limits.command_bytes_max", "8192"),
        ("limits.data_bytes_max", "8192"),
        ("limits.audio_bytes_max", "8192"),
        ("limits.video_bytes_max", "0x10_0000"),
        ("limits.assembly_bytes_max", "9_000_000"),
        ("limits.control_bytes_max", "16384"),
        ("limits.streams_max", "3"),
        ("limits.name_bytes_max", "64"),
        ("limits.tape_bytes_max", "33554432"),
        ("limits.tape_span_ms_max", "60000"),
        ("timeouts.handshake_ms", "1"),
        ("timeouts.connect_ms", "30000"),
        ("timeouts.idle_ms", "1"),
        ("timeouts.publisher_silent_ms", "1"),
        ("timeouts.player_stalled_ms", "1"),
        ("timeouts.ping_ms", "1000"),
        ("timeouts.keepalive_ms", "0"),
        ("timeouts.user_timeout_ms", "0"),
        ("publish.duplicate", "\"replace\""),
        ("publish.silent_ms", "1"),
        ("publish.linger_ms", "0"),
        ("play.start", "\"next-keyframe\""),
        ("play.absent", "\"refuse\""),
        ("play.wait_ms", "1"),
        ("play.lag_ms", "1"),
        ("play.lag_bytes", "16777216"),
        ("play.skips_max", "0"),
        ("play.skip_window_ms", "1"),
        ("play.merge_ms", "350"),
        ("rtmp.chunk_size", "128"),
        ("rtmp.window_ack_bytes", "1024"),
        ("rtmp.c2_check", "\"strict\""),
        ("http.listen", "[\"127.0.0.1:8081\"]"),
        ("http.hosts", "[\"media.example.org\"]"),
        ("http.request_ms", "1"),
        ("http.idle_ms", "0"),
        ("http.response_ms", "1"),
        ("api.listen", "[\"[::1]:1985\", \"unix:/run/api.sock\"]"),
        ("api.token_file", "\"/run/secrets/token\""),
    ];

    #[test]
    fn each_key_sets_its_own_field_and_no_other() {
        assert_eq!(OTHER_VALUES.len(), keys().count());
        let defaults = Settings::default();
        for (path, value) in OTHER_VALUES {
            let changed = from_text(&format!("{path} = {value}")).unwrap();
            let mut differing = defaults.changed_at_restart_only(&changed);
            differing.extend(defaults.changed_live(&changed).into_iter().map(|change| change.key));
            assert_eq!(differing, [*path]);
        }
    }

    #[test]
    fn values_outside_their_range_are_refused_and_those_at_its_ends_taken() {
        const CASES: &[(&str, u64, u64)] = &[
            ("rtmp.chunk_size", 128, 65_536),
            ("rtmp.window_ack_bytes", 1024, 0x7fff_ffff),
            ("limits.chunk_streams_max", 8, 254),
            ("limits.name_bytes_max", 1, 512),
            ("limits.command_bytes_max", 4096, 10 << 20),
            ("limits.control_bytes_max", 4096, 1 << 30),
            ("limits.tape_span_ms_max", 5000, 3_600_000),
            ("timeouts.handshake_ms", 1, 20_000),
            ("publish.linger_ms", 0, 86_400_000),
        ];
        for (path, min, max) in CASES {
            for right in [min, max] {
                assert!(from_text(&format!("{path} = {right}")).is_ok(), "{path} = {right}");
            }
            let below = i128::from(*min) - 1;
            for wrong in [below, i128::from(*max) + 1] {
                assert!(from_text(&format!("{path} = {wrong}")).is_err(), "{path} = {wrong}");
            }
        }
    }

    #[test]
    fn zero_stands_beside_a_range_that_begins_higher() {
        for (value, right) in [(0, true), (1, false), (999, false), (1000, true)] {
            assert_eq!(from_text(&format!("timeouts.ping_ms = {value}")).is_ok(), right, "{value}");
        }
    }

    #[test]
    fn reload_tells_live_changes_from_those_that_need_a_restart() {
        let old = Settings::default();
        let text = "listen = \"1936\"\n[limits]\nconnections_max = 9\nstreams_max = 4\n\
             [timeouts]\nkeepalive_ms = 0\nuser_timeout_ms = 0\n[play]\nstart = \"live\"\n\
             [rtmp]\nchunk_size = 4096\n";
        let mut new = from_text(text).unwrap();
        assert_eq!(
            old.changed_at_restart_only(&new),
            [
                "listen",
                "limits.connections_max",
                "timeouts.keepalive_ms",
                "timeouts.user_timeout_ms",
                "rtmp.chunk_size"
            ]
        );
        let live: Vec<_> = old.changed_live(&new).iter().map(ToString::to_string).collect();
        assert_eq!(live, ["limits.streams_max 0 -> 4", "play.start \"keyframe\" -> \"live\""]);

        new.keep_restart_only(&old);
        assert!(old.changed_at_restart_only(&new).is_empty());
        assert_eq!(old.changed_live(&new).len(), 2);
    }
}
