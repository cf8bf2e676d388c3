//! Results of the tests over HTTP: which player plays which codecs over which of the server's
//! protocols. The table in the manual is made only from these results, as that of `matrix.rs`.

use std::collections::BTreeSet;

use super::matrix;

/// A player. The order is that of the table's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WebPlayer {
    Ffmpeg,
    CurrentFfmpeg,
    Ffplay,
    Vlc,
    Mpv,
    GStreamer,
    /// mpegts.js in Chromium.
    Mpegts,
    /// hls.js in Chromium.
    HlsJs,
    /// Media Source Extensions in Chromium.
    Mse,
    /// A media element in Chromium.
    Element,
}

/// A protocol of players. The order is that of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Over {
    Flv,
    WebSocketFlv,
    Mp4,
    WebSocketMp4,
    Hls,
}

const PLAYERS: [(WebPlayer, &str); 10] = [
    (WebPlayer::Ffmpeg, "ffmpeg"),
    (WebPlayer::CurrentFfmpeg, "ffmpeg 9.0"),
    (WebPlayer::Ffplay, "ffplay"),
    (WebPlayer::Vlc, "VLC"),
    (WebPlayer::Mpv, "mpv"),
    (WebPlayer::GStreamer, "GStreamer"),
    (WebPlayer::Mpegts, "Chromium, mpegts.js"),
    (WebPlayer::HlsJs, "Chromium, hls.js"),
    (WebPlayer::Mse, "Chromium, MSE"),
    (WebPlayer::Element, "Chromium, `video`"),
];

const PROTOCOLS: [(Over, &str); 5] = [
    (Over::Flv, "HTTP-FLV"),
    (Over::WebSocketFlv, "WebSocket-FLV"),
    (Over::Mp4, "MP4"),
    (Over::WebSocketMp4, "WebSocket-MP4"),
    (Over::Hls, "HLS"),
];

/// Appends results.
pub(crate) fn record(player: WebPlayer, over: Over, codecs: &[&str]) {
    let (player, over) = (matrix::name(&PLAYERS, player), matrix::name(&PROTOCOLS, over));
    for codec in codecs {
        matrix::append(&format!("{}\t{player}\t{over}\t{codec}", matrix::OVER_HTTP));
    }
}

/// The cells of the table. Each is a player, a protocol and the row of a codec in the other table.
#[derive(Debug, Default)]
pub(crate) struct HttpMatrix(BTreeSet<(WebPlayer, Over, usize)>);

impl HttpMatrix {
    /// Reads the results of the run.
    pub(crate) fn proven() -> Self {
        let lines = matrix::proven_lines();
        let fields = lines.iter().map(|line| line.split('\t').collect::<Vec<_>>());
        let of_http = fields.filter(|fields| fields[0] == matrix::OVER_HTTP);
        Self(of_http.map(|fields| cell(fields[1], fields[2], fields[3])).collect())
    }

    /// Parses a table in the format of [`HttpMatrix::table`].
    pub(crate) fn read(table: &str) -> Self {
        let mut cells = BTreeSet::new();
        for line in table.lines().skip(2) {
            let fields: Vec<_> = line.split('|').map(str::trim).collect();
            for ((_, over), field) in PROTOCOLS.iter().zip(&fields[2..]) {
                let codecs = field.split(", ").filter(|codec| !codec.is_empty());
                cells.extend(codecs.map(|codec| cell(fields[1], over, codec)));
            }
        }
        Self(cells)
    }

    /// Adds the cells of another table.
    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }

    /// Formats the results as a Markdown table. Players without results have no row.
    pub(crate) fn table(&self) -> String {
        let protocols: Vec<_> = PROTOCOLS.iter().map(|(_, name)| *name).collect();
        let mut table = format!("| player | {} |\n", protocols.join(" | "));
        table += &format!("|---{}|\n", "|---".repeat(protocols.len()));
        for (player, name) in PLAYERS {
            let cells = PROTOCOLS.map(|(over, _)| {
                let of_cell = self.0.iter().filter(|cell| (cell.0, cell.1) == (player, over));
                of_cell.map(|cell| matrix::CODECS[cell.2]).collect::<Vec<_>>().join(", ")
            });
            if cells.iter().any(|cell| !cell.is_empty()) {
                table += &format!("| {name} | {} |\n", cells.join(" | "));
            }
        }
        table
    }
}

fn cell(player: &str, over: &str, codec: &str) -> (WebPlayer, Over, usize) {
    (matrix::find(&PLAYERS, player), matrix::find(&PROTOCOLS, over), matrix::row(codec))
}
