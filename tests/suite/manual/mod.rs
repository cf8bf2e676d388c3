//! README and manual are true where a program can tell: what the code can print is printed as the
//! code says it.

pub(crate) mod generated;

use std::fs;
use std::path::Path;
use std::process::Command;

use tiderace::config::Settings;
use tiderace::rtmp::quirks::{Quirk, Repair, Repairs, Tolerated};
use tiderace::server::reason::CloseReason;

use self::generated::Part;

const README: &str = include_str!("../../../README.md");

/// The text of a page of the manual.
fn page(name: &str) -> String {
    fs::read_to_string(top().join(format!("src/manual/{name}.md"))).expect("the page is there")
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn expect_none(wrong: impl IntoIterator<Item = String>) {
    let wrong: Vec<_> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_help_shows_the_lines_of_the_readme_to_play_with() {
    let help = help(&["--help"]);
    for program in ["ffplay", "vlc"] {
        let line = README.lines().find(|line| line.starts_with(&format!("{program} "))).unwrap();
        assert!(help.contains(&format!("\n  {line}\n")), "the help lacks this line: {line}");
    }
}

const WRITES: &str = "tests/run manual";

#[test]
fn the_settings_are_those_of_the_code() {
    Part::find("configuration.md", "settings").expect(&settings(), WRITES);
}

/// The settings as a table for each section, made from the sample file that the server prints.
fn settings() -> String {
    const RESTART: &str = "A reload does not change it.";
    const HEAD: &str = "| key | default | values | meaning |\n|---|---|---|---|\n";
    let (mut text, mut section, mut about) = (HEAD.to_owned(), String::new(), Vec::new());
    for line in Settings::sample().lines() {
        if let Some(name) = line.strip_prefix('[') {
            let name = name.trim_end_matches(']');
            section = format!("{name}.");
            text += &format!("\n### Section `[{name}]`\n\n{HEAD}");
        } else if let Some(comment) = line.strip_prefix('#') {
            about.push(comment.trim());
        } else if let Some((key, value)) = line.split_once(" = ") {
            let (default, values) = value.split_once("  # ").expect("the values that it may have");
            let restart = about.contains(&RESTART);
            about.retain(|line| *line != RESTART);
            // Brackets would make a link.
            let (about, values) = (about.join(" ").replace('[', "\\["), values.replace('[', "\\["));
            let mark = if restart { " *Restart.*" } else { "" };
            text += &format!("| `{section}{key}` | `{default}` | {values} | {about}{mark} |\n");
        } else {
            about.clear();
        }
    }
    text
}

#[test]
fn the_exit_codes_are_those_of_the_help() {
    Part::find("running.md", "exit codes").expect(&exit_codes(&["--help"]), WRITES);
    Part::find("measuring.md", "exit codes").expect(&exit_codes(&["load", "--help"]), WRITES);
}

/// The exit codes of a help text as a table.
fn exit_codes(args: &[&str]) -> String {
    let help = help(args);
    let (_, codes) = help.split_once("Exit codes:\n").expect("the help has exit codes");
    let rows = codes.lines().map(|line| line.trim().split_once("  ").expect("a code"));
    let rows = rows.map(|(code, meaning)| format!("| {code} | {meaning} |\n"));
    ["| code | meaning |\n|---|---|\n".to_owned()].into_iter().chain(rows).collect()
}

fn help(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tiderace")).args(args).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_close_reason_is_explained() {
    let text = page("running");
    let rows = CloseReason::ALL.iter().map(|reason| {
        let level = reason.level().as_str().to_lowercase();
        format!("\n| `{reason}` | {level} | ")
    });
    expect_none(rows.filter(|row| !text.contains(row)).map(|row| format!("no row {row}")));
    let (_, table) = text.split_once("| reason | level |").expect("a table of reasons");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|')).count();
    assert_eq!(rows, CloseReason::ALL.len(), "rows");
}

#[test]
fn every_quirk_and_every_repair_is_explained() {
    let text = page("encoders");
    let quirks = Quirk::ALL.iter().map(|quirk| {
        let mut tolerated = Tolerated::default();
        tolerated.note(*quirk);
        tolerated.to_string()
    });
    let repairs = Repair::ALL.iter().map(|repair| {
        let mut repairs = Repairs::default();
        repairs.note(*repair);
        repairs.to_string()
    });
    let said: Vec<_> = quirks.chain(repairs).collect();
    let row = |said: &String| format!("`{}` |", said.trim_start_matches("1 "));
    expect_none(said.iter().map(row).filter(|row| !text.contains(row)));
}

#[test]
fn every_file_the_tour_names_is_there() {
    let text = page("architecture");
    let tour = text.split("## A tour of the source").nth(1).unwrap_or_default();
    let tour = tour.split("\n## ").next().unwrap_or_default();
    let (mut folder, mut named) = (top().to_path_buf(), 0);
    for name in
        tour.lines().filter_map(|row| row.split('|').nth(1)).flat_map(|cell| cell.split(','))
    {
        let Some(name) = name.trim().strip_prefix('`').and_then(|name| name.strip_suffix('`'))
        else {
            continue;
        };
        // A bare name stands in the folder of the one before it.
        let path = if name.contains('/') { top().join(name) } else { folder.join(name) };
        assert!(path.exists(), "the tour names {name}, which is not there");
        folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        named += 1;
    }
    assert!(named > 20, "the tour names {named} files");
}
