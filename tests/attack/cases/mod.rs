//! The cases, grouped by the server that they need. A case is a short function that sends something
//! and checks the result.

mod chunks;
mod floods;
mod names;
mod players;
mod sessions;
mod sockets;
mod values;
mod web;

use crate::server::Setup;
use crate::trial::Trial;

/// A case.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// Name in the table.
    pub(crate) id: &'static str,
    /// What the attacker does.
    pub(crate) what: &'static str,
    pub(crate) run: Run,
}

/// How a case is run.
#[derive(Clone, Copy)]
pub(crate) enum Run {
    /// Beside healthy clients, which are checked.
    Beside(fn(&mut Trial<'_>)),
    /// Not run here, for this reason.
    Nowhere(&'static str),
}

/// Cases that share a server.
pub(crate) struct Group {
    pub(crate) setup: Setup,
    /// Whether the cases work with any settings, so that they can be run against any server.
    pub(crate) any_server: bool,
    pub(crate) cases: &'static [Case],
}

const fn beside(id: &'static str, what: &'static str, run: fn(&mut Trial<'_>)) -> Case {
    Case { id, what, run: Run::Beside(run) }
}

const fn nowhere(id: &'static str, what: &'static str, why: &'static str) -> Case {
    Case { id, what, run: Run::Nowhere(why) }
}

/// Default settings except for the linger time, so that the memory of an ended stream is released
/// during the case.
const USUAL: Setup = Setup::with("[publish]\nlinger_ms = 500\n");

/// A thousand connections fragment the heap, and one small block in use keeps all free memory below
/// it: after H07 24 MB were kept for 0.4 MB in use. Therefore even smaller blocks get pages of
/// their own here.
const FLOODED: Setup = Setup {
    shell: "ulimit -s 512; export MALLOC_MMAP_THRESHOLD_=256; exec \"$0\" \"$@\"",
    ..USUAL
};

/// A token, and deadlines that are over within a case.
const WEB: Setup = Setup {
    shell: "ulimit -s 512; export TIDERACE_API_TOKEN=0123456789abcdef; exec \"$0\" \"$@\"",
    ..Setup::with(
        "[publish]\nlinger_ms = 500\n[timeouts]\nplayer_stalled_ms = 2000\n[http]\n\
         request_ms = 2000\nresponse_ms = 2000\n",
    )
};

/// The owner of cases whose attacker needs no healthy clients beside it.
const PROCESS: &str = "in `tests/suite/process`";

/// The cases that take longest come first.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        setup: WEB,
        any_server: false,
        cases: &[
            beside("W01", "300 parts of a head, and a head at ten bytes a second", web::w01),
            beside("W02", "200 parts of a body, and a body at 20 bytes a second", web::w02),
            beside("W03", "100 clients that do not take their responses", web::w03),
            beside("W04", "ranges: many, huge, backwards", web::w04),
            beside("W05", "heads with too many fields, too long, and without an end", web::w05),
            beside("W06", "10,000 connections that are kept alive", web::w06),
            beside("W07", "WebSocket: pings and tiny frames without pause", web::w07),
            beside("W08", "WebSocket: frames that the specification forbids", web::w08),
            beside("W09", "names that were rebound to this server", web::w09),
            beside("W10", "changes by pages of other sites", web::w10),
            beside("W11", "requests with two readings", web::w11),
            beside("W12", "2000 requests at once, reading no response", web::w12),
            beside("W13", "200 players over HTTP and WebSocket that never read", web::w13),
            beside("W14", "2000 requests with a flipped bit", web::w14),
            beside("W15", "5000 connections that send garbage", web::w15),
            beside("W16", "200 open pages that never read", web::w16),
        ],
    },
    Group {
        setup: USUAL,
        any_server: true,
        cases: &[
            beside(
                "A19",
                "publishes, then silence, or half a message a byte at a time",
                sessions::a19,
            ),
            beside(
                "A21",
                "connect at a byte a second, nothing after connect, endless pings",
                sessions::a21,
            ),
            beside(
                "A20",
                "500 handshakes that stop half way or send a byte a second",
                sessions::a20,
            ),
        ],
    },
    Group {
        setup: USUAL,
        any_server: true,
        cases: &[
            beside("B01", "200 players of 8 Mbit/s that never read", players::b01),
            beside("B02", "200 players that read a byte a second and send pings", players::b02),
            beside("B03", "B01 with frozen timestamps", players::b03),
            beside("B04", "no keyframes, then keyframes of 8 MiB", players::b04),
            beside("B05", "100 players a second that disappear in mid-stream", players::b05),
            beside("B06", "connects, plays and leaves 4000 times", players::b06),
            beside("B08", "300 players at a tenth of the bitrate beside a fast one", players::b08),
            beside("B09", "a player that stops reading for 6 s", players::b09),
        ],
    },
    Group {
        setup: USUAL,
        any_server: true,
        cases: &[
            beside("A01", "Set Chunk Size to 2^31 - 1, and beyond", chunks::a01),
            beside("A02", "Set Chunk Size to 0, then 8 MB of headers", chunks::a02),
            beside("A03", "publishes 1 MiB in chunks of one byte", chunks::a03),
            beside("A04", "control messages of 0 to 3 bytes", chunks::a04),
            beside("A05", "announces 16 MiB and sends a chunk of it", chunks::a05),
            beside("A06", "65,000 chunk streams", chunks::a06),
            beside("A07", "another length within a message", chunks::a07),
            beside("A08", "another type and stream within a message", chunks::a08),
            beside("A09", "extended timestamps with and without the field in type 3", chunks::a09),
            beside("A10", "chunk streams that begin with type 1, 2 and 3", chunks::a10),
            beside("A11", "100,000 aborts", chunks::a11),
            beside("A12", "1,000,000 empty messages", chunks::a12),
            beside("A13", "AMF values nested as deep as a message allows", values::a13),
            beside("A14", "AMF values that claim 2^32 - 1 elements", values::a14),
            beside("A15", "every AMF type in every place of a command", values::a15),
            beside("A16", "timestamps around 2^24, 2^31 and 2^32, backwards", values::a16),
            beside("A17", "aggregates in aggregates, too long, empty, cut", values::a17),
            beside("A18", "metadata and headers beyond their bounds", values::a18),
            beside("A24", "unknown versions, TLS, HTTP", sessions::a24),
            beside("A25", "digest handshakes at full speed", sessions::a25),
            beside("A26", "every command in every state, twice", sessions::a26),
            beside("A27", "a player that sends 6000 acknowledgements and pings", sessions::a27),
            beside("A28", "a window of 1 byte, then 10 MB", sessions::a28),
            beside("A29", "1,000,000 pings, reading no answer", sessions::a29),
            beside("A30", "2000 recorded sessions with a flipped bit", sessions::a30),
            beside("A31", "600 recorded sessions cut off by FIN or RST", sessions::a31),
            beside("A32", "a session in single bytes, whole, and split", sessions::a32),
            beside("A42", "names of 0 to 65,535 bytes, and of control characters", values::a42),
            beside("C03", "spellings of a stream name", names::c03),
            beside("C11", "line breaks and escapes in names and other strings", names::c11),
            beside("E10", "half-closes while playing and publishing", sockets::e10),
        ],
    },
    Group {
        setup: USUAL,
        any_server: true,
        cases: &[
            beside("E03", "connects at full speed for 3 s", sockets::e03),
            beside("E06", "resets 5000 connections at random moments", sockets::e06),
            beside("E07", "publishes at line rate beside 100 streams of 1 Mbit/s", sockets::e07),
        ],
    },
    Group {
        setup: Setup::with(
            "[publish]\nlinger_ms = 500\n[play]\nlag_ms = 1000\nskips_max = 1000\n[timeouts]\n\
             idle_ms = 2000\npublisher_silent_ms = 3000\nplayer_stalled_ms = 2000\n\
             user_timeout_ms = 3000\n",
        ),
        any_server: false,
        cases: &[
            beside("A21i", "A21 with an idle timeout of 2 s", sessions::a21_idle),
            beside("B07", "a player at half the bitrate", players::b07),
            beside("E04", "the address of a publisher and a player goes away", sockets::e04),
            beside("E05", "a zero receive window that is kept open", sockets::e05),
        ],
    },
    Group {
        setup: Setup::with("[limits]\nconnections_max = 300\n"),
        any_server: false,
        cases: &[
            beside(
                "A22",
                "5000 half handshakes from 5000 addresses, of which 300 may connect",
                sockets::a22,
            ),
            beside("E02", "a full table, held for 3 s", sockets::e02),
        ],
    },
    Group {
        setup: Setup::with("[limits]\nconnections_per_address_max = 32\n"),
        any_server: false,
        cases: &[beside(
            "A23",
            "1000 connections from one address, of which 32 are allowed",
            sockets::a23,
        )],
    },
    Group {
        setup: Setup::with(
            "[publish]\nlinger_ms = 500\n[apps.live]\nkeys = [\"canary\", \"held\"]\n\
             [apps.studio.users]\ncamera = \"a password\"\n",
        ),
        any_server: false,
        cases: &[
            beside("C01", "a second publisher with the wrong and with the right key", names::c01),
            beside("C02", "a publisher that returns while its old connection hangs", names::c02),
            beside(
                "C04",
                "requests streams before connect, without login, with a wrong login",
                names::c04,
            ),
        ],
    },
    Group {
        setup: Setup::with("[publish]\nlinger_ms = 500\nduplicate = \"replace\"\n"),
        any_server: false,
        cases: &[beside("C01r", "a second publisher that takes over", names::c01_replace)],
    },
    Group {
        setup: FLOODED,
        any_server: true,
        cases: &[
            beside("H01", "999 players join 190,000 tiny messages", floods::h01),
            beside("H02", "the same on message stream 2", floods::h02),
            beside("H03", "publish and deleteStream in a loop with 990 players", floods::h03),
            beside("H04", "1000 publishers of messages of one byte", floods::h04),
            beside("H05", "980 players of tiny messages", floods::h05),
            beside("H06", "4096 connections reset at once", floods::h06),
            beside("H07", "1000 publishers of empty messages on 64 chunk streams", floods::h07),
        ],
    },
    Group {
        setup: USUAL,
        any_server: false,
        cases: &[
            nowhere("C05", "signed tokens", "not supported; logins are tested in `tests/suite`"),
            nowhere("A43", "keys in URLs, with the most detailed log level", PROCESS),
            nowhere("E01", "200 connections to a server out of descriptors", PROCESS),
            nowhere("E08", "short reads and writes", "in virtual time, in `tests/suite`"),
            nowhere("E09", "a late event", "in virtual time, in `tests/suite`"),
            nowhere("E11", "urgent data, empty writes", PROCESS),
            nowhere("E12", "errors of the kernel", "in virtual time, in `tests/suite`"),
            nowhere("E13", "the process is stopped for 3 s", PROCESS),
            nowhere("G01", "is started with unusable addresses, files, flags and limits", PROCESS),
            nowhere("G02", "SIGTERM with 100 publishers and 1000 players", PROCESS),
            nowhere("G03", "signals", PROCESS),
            nowhere("G04", "1000 SIGHUPs under load, every other one with a broken file", PROCESS),
        ],
    },
];
