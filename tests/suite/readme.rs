//! The README tells the truth: what can be checked of it is.

use std::process::Command;

use tiderace::config::Settings;

const README: &str = include_str!("../../README.md");

/// The settings as rows of the table, made from the sample file that the server prints.
fn rows() -> Vec<String> {
    let (mut rows, mut section, mut about) = (Vec::new(), String::new(), Vec::new());
    for line in Settings::sample().lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_end_matches(']'));
        } else if let Some(comment) = line.strip_prefix('#') {
            about.push(comment.trim().to_owned());
        } else if let Some((key, value)) = line.split_once(" = ") {
            let default = value.split("  #").next().unwrap_or(value);
            let restart = about.iter().any(|line| line == RESTART);
            about.retain(|line| line != RESTART);
            let mark = if restart { " *Restart.*" } else { "" };
            rows.push(format!("| `{section}{key}` | `{default}` | {}{mark} |", about.join(" ")));
        } else {
            about.clear();
        }
    }
    rows
}

const RESTART: &str = "A reload does not change it.";

#[test]
fn the_settings_table_says_what_the_server_prints() {
    let rows = rows();
    assert!(rows.len() > 30, "the sample has {} keys", rows.len());
    for row in rows {
        assert!(README.contains(&row), "README.md lacks this row:\n{row}");
    }
}

#[test]
fn the_help_shows_the_lines_of_the_readme_to_play_with() {
    let output = Command::new(env!("CARGO_BIN_EXE_tiderace")).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for program in ["ffplay", "vlc"] {
        let line = README.lines().find(|line| line.starts_with(&format!("{program} "))).unwrap();
        assert!(help.contains(&format!("\n  {line}\n")), "the help lacks this line: {line}");
    }
}

#[test]
fn every_file_the_tour_names_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let tour = README.split("## A tour of the source").nth(1).unwrap_or_default();
    let tour = tour.split("\n## ").next().unwrap_or_default();
    let mut folder = root.to_path_buf();
    let mut named = 0;
    for name in
        tour.lines().filter_map(|row| row.split('|').nth(1)).flat_map(|cell| cell.split(','))
    {
        let Some(name) = name.trim().strip_prefix('`').and_then(|name| name.strip_suffix('`'))
        else {
            continue;
        };
        // A bare name stands in the folder of the one before it.
        let path = if name.contains('/') { root.join(name) } else { folder.join(name) };
        assert!(path.exists(), "the tour names {name}, which is not there");
        folder = path.parent().unwrap_or(root).to_path_buf();
        named += 1;
    }
    assert!(named > 20, "the tour names {named} files");
}
