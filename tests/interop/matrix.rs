//! The table of clients and codecs in the README is what the run proved.

use std::fs;
use std::path::Path;

use crate::lab::matrix::Matrix;

const BEGIN: &str = "| codec | ffmpeg |";

/// `tests/run` asks for it by name, once all others are over.
#[test]
#[ignore = "it looks at what the other tests have written down"]
fn the_readme_shows_what_the_run_proved() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).expect("the README");
    let begin = readme.find(BEGIN).expect("the table of clients in the README");
    let end = readme[begin..].find("\n\n").map_or(readme.len(), |end| begin + end + 1);
    let shown = Matrix::read(&readme[begin..end]);
    let mut proven = Matrix::proven();
    if proven.is_partial {
        // What a skipped test would have proven stands in the README alone.
        proven.extend(&shown);
    }
    let table = proven.table();
    if std::env::var("TIDERACE_README").is_ok_and(|mode| mode == "write") {
        fs::write(&path, [&readme[..begin], &table, &readme[end..]].concat()).expect("written");
    } else {
        let advice = "README.md shows another table of clients than the tests have proven; \
            `tests/run matrix` writes this one";
        assert!(readme[begin..end] == table, "{advice}:\n{table}");
    }
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
