//! The table of clients and codecs in the manual shows what the run has proven.

#[allow(dead_code, reason = "what the suite needs of it as well")]
#[path = "../suite/manual/generated.rs"]
mod generated;

use self::generated::Part;
use crate::lab::http_matrix::HttpMatrix;
use crate::lab::matrix::Matrix;

/// `tests/run` runs this test by name, after all others.
#[test]
#[ignore = "it reads the results of the other tests"]
fn the_manual_shows_what_the_run_proved() {
    let part = Part::find("clients.md", "clients");
    let mut proven = Matrix::proven();
    let is_partial = proven.is_partial;
    if is_partial {
        // Results of skipped tests are only in the manual.
        proven.extend(&Matrix::read(part.text()));
    }
    part.expect(&proven.table(), "tests/run matrix");
    let part = Part::find("clients.md", "players over HTTP");
    let mut proven = HttpMatrix::proven();
    if is_partial {
        proven.extend(&HttpMatrix::read(part.text()));
    }
    part.expect(&proven.table(), "tests/run matrix");
}

#[test]
fn a_table_of_players_is_read_as_it_was_written() {
    let table = "\
        | player | HTTP-FLV | WebSocket-FLV | MP4 | WebSocket-MP4 | HLS |\n\
        |---|---|---|---|---|---|\n\
        | ffmpeg | H.264, AAC |  | H.264, AAC |  | H.264 |\n\
        | Chromium, mpegts.js | H.264 | H.264, AV1 |  |  |  |\n";
    assert_eq!(HttpMatrix::read(table).table(), table);
}

#[test]
fn a_table_is_read_as_it_was_written() {
    let table = "\
        | codec | ffmpeg | ffmpeg 9.0 | ffplay | GStreamer rtmp2 | GStreamer rtmp | OBS \
        | rtmpdump | VLC |\n\
        |---|---|---|---|---|---|---|---|---|\n\
        | H.264 | publishes, plays |  | plays |  |  | publishes |  | plays |\n\
        | several audio tracks |  | publishes, plays |  |  |  |  |  |  |\n";
    assert_eq!(Matrix::read(table).table(), table);
}
