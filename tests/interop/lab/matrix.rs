//! Results of the tests: which client publishes and plays which codec. The table in the manual is
//! made only from these results.
//!
//! A test appends its results to the file that `TIDERACE_PROVEN` names. Without that variable, or
//! against another server, results are dropped. Skipped tests are recorded, too, because such a run
//! proves less than the manual may show.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use super::server;

/// A client. The order is that of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Client {
    Ffmpeg,
    CurrentFfmpeg,
    Ffplay,
    Rtmp2,
    Librtmp,
    Obs,
    Rtmpdump,
    Vlc,
}

/// Role of a client, as shown in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Publishes,
    Plays,
}

/// A proven combination of codec, client and role.
type Cell = (usize, Client, Role);

/// The cells of a table, and whether some may be missing.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    cells: BTreeSet<Cell>,
    /// At least one test was skipped.
    pub(crate) is_partial: bool,
}

/// The codecs, in the order of the table's rows.
pub(super) const CODECS: [&str; 22] = [
    "H.264",
    "HEVC",
    "VVC",
    "AV1",
    "VP9",
    "Sorenson H.263",
    "Screen",
    "Screen 2",
    "AAC",
    "Opus",
    "FLAC",
    "AC-3",
    "E-AC-3",
    "MP3",
    "Nellymoser",
    "Speex",
    "G.711 A-law",
    "G.711 µ-law",
    "ADPCM",
    "PCM",
    "several video tracks",
    "several audio tracks",
];

const CLIENTS: [(Client, &str); 8] = [
    (Client::Ffmpeg, "ffmpeg"),
    (Client::CurrentFfmpeg, "ffmpeg 9.0"),
    (Client::Ffplay, "ffplay"),
    (Client::Rtmp2, "GStreamer rtmp2"),
    (Client::Librtmp, "GStreamer rtmp"),
    (Client::Obs, "OBS"),
    (Client::Rtmpdump, "rtmpdump"),
    (Client::Vlc, "VLC"),
];

const ROLES: [(Role, &str); 2] = [(Role::Publishes, "publishes"), (Role::Plays, "plays")];

const SKIPPED: &str = "skipped";
/// The first field of a result over HTTP (`http_matrix.rs`).
pub(super) const OVER_HTTP: &str = "over HTTP";

/// Appends results.
pub(crate) fn record(client: Client, role: Role, codecs: &[&str]) {
    for codec in codecs {
        let cell = (row(codec), client, role);
        append(&format!("{codec}\t{}\t{}", name(&CLIENTS, cell.1), name(&ROLES, cell.2)));
    }
}

/// Appends the name of a skipped test.
pub(crate) fn record_skip(test: &str) {
    append(&format!("{SKIPPED}\t{test}\t"));
}

impl Matrix {
    /// Reads the results of the run from the file that `TIDERACE_PROVEN` names.
    pub(crate) fn proven() -> Self {
        let mut matrix = Self::default();
        for line in proven_lines() {
            let fields: Vec<_> = line.split('\t').collect();
            if fields[0] == SKIPPED {
                matrix.is_partial = true;
            } else if fields[0] != OVER_HTTP {
                let cell = (row(fields[0]), find(&CLIENTS, fields[1]), find(&ROLES, fields[2]));
                matrix.cells.insert(cell);
            }
        }
        matrix
    }

    /// Parses a table in the format of [`Matrix::table`].
    pub(crate) fn read(table: &str) -> Self {
        let mut matrix = Self::default();
        for line in table.lines().skip(2) {
            let fields: Vec<_> = line.split('|').map(str::trim).collect();
            for ((client, _), field) in CLIENTS.iter().zip(&fields[2..]) {
                let words = field.split(", ").filter(|word| !word.is_empty());
                matrix
                    .cells
                    .extend(words.map(|word| (row(fields[1]), *client, find(&ROLES, word))));
            }
        }
        matrix
    }

    /// Adds the cells of another matrix.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.cells.extend(&other.cells);
    }

    /// Formats the matrix as a Markdown table. Codecs without results have no row.
    pub(crate) fn table(&self) -> String {
        let clients: Vec<_> = CLIENTS.iter().map(|(_, name)| *name).collect();
        let mut table = format!("| codec | {} |\n", clients.join(" | "));
        table += &format!("|---{}|\n", "|---".repeat(clients.len()));
        for (row, codec) in CODECS.iter().enumerate() {
            let cells = CLIENTS.map(|(client, _)| {
                let roles =
                    ROLES.iter().filter(|(role, _)| self.cells.contains(&(row, client, *role)));
                roles.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
            });
            if cells.iter().any(|cell| !cell.is_empty()) {
                table += &format!("| {codec} | {} |\n", cells.join(" | "));
            }
        }
        table
    }
}

/// Returns the lines of the file that `TIDERACE_PROVEN` names.
pub(super) fn proven_lines() -> Vec<String> {
    let path = file().expect("TIDERACE_PROVEN names a file");
    let text = fs::read_to_string(path).expect("the results of the tests");
    text.lines().map(str::to_owned).collect()
}

pub(super) fn append(line: &str) {
    let Some(path) = file().filter(|_| !server::is_stand_in()) else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("it can be made");
    // A single write, because tests run in parallel.
    file.write_all(format!("{line}\n").as_bytes()).expect("it can be written");
}

fn file() -> Option<PathBuf> {
    env::var_os("TIDERACE_PROVEN").map(PathBuf::from)
}

pub(super) fn row(codec: &str) -> usize {
    let row = CODECS.iter().position(|name| *name == codec);
    row.unwrap_or_else(|| panic!("the table has no row {codec:?}"))
}

pub(super) fn find<T: Copy>(names: &[(T, &str)], wanted: &str) -> T {
    let found = names.iter().find(|(_, name)| *name == wanted);
    found.unwrap_or_else(|| panic!("the table knows no {wanted:?}")).0
}

pub(super) fn name<T: PartialEq>(names: &[(T, &'static str)], wanted: T) -> &'static str {
    names.iter().find(|(value, _)| *value == wanted).expect("each has a name").1
}
