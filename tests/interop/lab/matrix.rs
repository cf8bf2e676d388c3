//! What the tests have proven: which client publishes and plays which codec. The table of it in
//! the manual is made from this and from nothing else.
//!
//! A test says what it has seen, and that goes to the file that `TIDERACE_PROVEN` names, a line
//! each; without the variable, or against a server that is not ours, it goes nowhere. That a test
//! was skipped is written down too: such a run proves less than the manual may say.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use super::server;

/// A client, in the order of the table's columns.
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

/// What a client does, as the table says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Publishes,
    Plays,
}

/// What was proven of one client and one codec.
type Cell = (usize, Client, Role);

/// The cells of a table, and whether it may lack some.
#[derive(Debug, Default)]
pub(crate) struct Matrix {
    cells: BTreeSet<Cell>,
    /// A test was skipped.
    pub(crate) is_partial: bool,
}

/// The codecs in the order of the table's rows.
const CODECS: [&str; 22] = [
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

/// Writes down what was seen.
pub(crate) fn record(client: Client, role: Role, codecs: &[&str]) {
    for codec in codecs {
        let cell = (row(codec), client, role);
        append(&format!("{codec}\t{}\t{}", name(&CLIENTS, cell.1), name(&ROLES, cell.2)));
    }
}

/// Writes down that a test did not run.
pub(crate) fn record_skip(test: &str) {
    append(&format!("{SKIPPED}\t{test}\t"));
}

impl Matrix {
    /// What the run proved that `TIDERACE_PROVEN` tells of.
    pub(crate) fn proven() -> Self {
        let path = file().expect("TIDERACE_PROVEN names a file");
        let text = fs::read_to_string(&path).expect("the tests were run and wrote it");
        let mut matrix = Self::default();
        for line in text.lines() {
            let fields: Vec<_> = line.split('\t').collect();
            if fields[0] == SKIPPED {
                matrix.is_partial = true;
            } else {
                let cell = (row(fields[0]), find(&CLIENTS, fields[1]), find(&ROLES, fields[2]));
                matrix.cells.insert(cell);
            }
        }
        matrix
    }

    /// Reads a table as [`Matrix::table`] writes it.
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

    /// Adds the cells of another.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.cells.extend(&other.cells);
    }

    /// The matrix as a table in Markdown. A codec that nothing was proven of has no row.
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

fn append(line: &str) {
    let Some(path) = file().filter(|_| !server::is_stand_in()) else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(path).expect("it can be made");
    // One write, since tests run side by side.
    file.write_all(format!("{line}\n").as_bytes()).expect("it can be written");
}

fn file() -> Option<PathBuf> {
    env::var_os("TIDERACE_PROVEN").map(PathBuf::from)
}

fn row(codec: &str) -> usize {
    let row = CODECS.iter().position(|name| *name == codec);
    row.unwrap_or_else(|| panic!("the table has no row {codec:?}"))
}

fn find<T: Copy>(names: &[(T, &str)], wanted: &str) -> T {
    let found = names.iter().find(|(_, name)| *name == wanted);
    found.unwrap_or_else(|| panic!("the table knows no {wanted:?}")).0
}

fn name<T: PartialEq>(names: &[(T, &'static str)], wanted: T) -> &'static str {
    names.iter().find(|(value, _)| *value == wanted).expect("each has a name").1
}
