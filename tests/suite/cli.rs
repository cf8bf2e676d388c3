//! The program as a script sees it: what it prints, where, and its exit code.

use std::env;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;

use tiderace::config::Settings;

use crate::support::directory::Directory;
use crate::support::program;

#[test]
fn check_says_ok_for_what_config_prints() {
    let sample = tiderace(&["config"]);
    assert_eq!(outcome(&sample), (Some(0), Settings::sample().as_str(), ""));

    // Another server may have the port.
    let text = Settings::sample().replace("[::]:1935", "127.0.0.1:0");
    let file = TempFile::new("sample.toml", text.as_bytes());
    let expected = format!("{}: ok\n", file.name());
    assert_eq!(outcome(&tiderace(&["check", file.name()])), (Some(0), expected.as_str(), ""));
}

#[test]
fn check_prints_one_line_that_editors_can_follow() {
    let file = TempFile::new("bad.toml", b"[play]\nstrat = 1\n");
    let expected =
        format!("{}:2: unknown key \"play.strat\"; did you mean \"start\"?\n", file.name());
    assert_eq!(outcome(&tiderace(&["check", file.name()])), (Some(3), "", expected.as_str()));
}

#[test]
fn file_that_cannot_be_read_is_one_line_and_code_3() {
    let bytes = TempFile::new("bytes.toml", b"\xff\xfe");
    let directory = env::temp_dir();
    for path in [Path::new("/nonexistent/t.toml"), directory.as_path(), bytes.path.as_path()] {
        let path = path.to_str().unwrap();
        let output = tiderace(&["--config", path]);
        let (code, stdout, stderr) = outcome(&output);
        assert_eq!((code, stdout), (Some(3), ""));
        assert!(stderr.starts_with(&format!("tiderace: {path}: cannot read: ")), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn a_file_that_is_no_configuration_is_refused_in_few_lines() {
    let output = tiderace(&["--config", "/proc/self/status"]);
    let (code, stdout, stderr) = outcome(&output);
    assert_eq!((code, stdout), (Some(3), ""));
    assert!((1..6).contains(&stderr.lines().count()), "{stderr}");
}

#[test]
fn every_mistake_of_a_file_and_of_the_start_is_reported_at_once() {
    let text = "listen = \"192.0.2.1:1935\"\nlog_level = info\n[limits]\nconnections_max = 100\n\
         [play]\nlag_ms = 5s\nlag_ms = 6000\n";
    let file = TempFile::new("mistakes.toml", text.as_bytes());
    let name = file.name();
    let lines = [
        format!("{name}:2: key \"log_level\": got info, expected quotes around it: \"info\""),
        format!(
            "{name}:6: key \"play.lag_ms\": got 5s, expected an integer from 1 to 3600000; \
             in milliseconds 5s is 5000"
        ),
        format!(
            "{name}:7: key \"play.lag_ms\": duplicate key: line 6 sets it already; \
             keep one of the two"
        ),
        format!(
            "{name}:4: key \"limits.connections_max\": the descriptor limit of 64 is too low for \
             100 connections: raise it to 132 (ulimit -n, LimitNOFILE=) or lower connections_max"
        ),
        format!(
            "{name}:1: key \"listen\": cannot listen on 192.0.2.1:1935: Cannot assign requested \
             address (os error 99); choose an address of this machine (ip address shows them), or \
             [::] for all (--listen)"
        ),
    ];
    let bare: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let check = with_few_descriptors(&["check", name]);
    assert_eq!(outcome(&check), (Some(3), "", bare.as_str()));
    let prefixed: String = lines.iter().map(|line| format!("tiderace: {line}\n")).collect();
    let start = with_few_descriptors(&["--config", name]);
    assert_eq!(outcome(&start), (Some(3), "", prefixed.as_str()));
}

#[test]
fn check_ends_with_the_code_that_the_start_would_end_with() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let in_use = format!("listen = [\"127.0.0.1:0\", \"127.0.0.1:{port}\"]\n");
    let overlap = format!("listen = [\"127.0.0.2:{port}\", \"127.0.0.3:0\", \"[::]:{port}\"]\n");
    for (text, code, part) in [
        ("limits.connections_max = 100\n", 5, "key \"limits.connections_max\": the descriptor"),
        ("listen = \"192.0.2.1:1\"\n", 4, ":1: key \"listen\": cannot listen on 192.0.2.1:1: "),
        (&*in_use, 0, "a running server may be using it"),
        (&*overlap, 4, "in the same list takes its connections; remove one of the two"),
        (
            "listen = \"[fe80::1%nosuch0]:1935\"\n",
            4,
            "cannot listen on [fe80::1%nosuch0]:1935: No such device (os error 19); \
             choose an interface of this machine (ip link shows them)",
        ),
        ("", 3, ": sets no key; fill it"),
        ("# [limits]\n", 3, ": sets no key; fill it"),
    ] {
        let file = TempFile::new("codes.toml", text.as_bytes());
        let output = with_few_descriptors(&["check", file.name()]);
        let (found, stdout, stderr) = outcome(&output);
        assert_eq!(found, Some(code), "{text}: {stderr}");
        assert!(stderr.starts_with(file.name()) && stderr.contains(part), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert_eq!(stdout.ends_with(": ok\n"), code == 0, "{stdout}");
    }
}

#[test]
fn interface_of_an_address_is_known_by_its_name() {
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let file = TempFile::new("scope.toml", b"listen = \"[::1%lo]:0\"\n");
    let expected = format!("{}: ok\n", file.name());
    assert_eq!(outcome(&tiderace(&["check", file.name()])), (Some(0), expected.as_str(), ""));
}

#[test]
fn file_that_sets_no_key_does_not_start_a_server() {
    let file = TempFile::new("empty.toml", b"");
    let line = format!(
        "tiderace: {}: sets no key; fill it (`tiderace config` prints every key), \
         or leave out --config to run with the defaults\n",
        file.name()
    );
    let output = tiderace(&["--config", file.name(), "--listen", "127.0.0.1:0"]);
    assert_eq!(outcome(&output), (Some(3), "", line.as_str()));
}

#[test]
fn wrong_flags_are_code_2() {
    let output = tiderace(&["--listen", "nowhere"]);
    let (code, stdout, stderr) = outcome(&output);
    assert_eq!((code, stdout), (Some(2), ""));
    assert!(stderr.starts_with("tiderace: --listen: got \"nowhere\", expected "), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");

    let output = tiderace(&["--no-such-flag", "1"]);
    let (code, _, stderr) = outcome(&output);
    assert_eq!(code, Some(2));
    let lines = stderr.lines().filter(|line| !line.is_empty()).count();
    assert!((1..6).contains(&lines), "{stderr}");
    assert_eq!(tiderace(&["no-such-command"]).status.code(), Some(2));
}

#[test]
fn help_names_the_exit_codes_and_how_to_publish_and_play() {
    let output = tiderace(&["--help"]);
    let (code, help, _) = outcome(&output);
    assert_eq!(code, Some(0));
    for part in ["rtmp://localhost/live/show", "Exit codes:", "--listen", "SIGHUP"] {
        assert!(help.contains(part), "{part}");
    }
    let version = format!("tiderace {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(outcome(&tiderace(&["--version"])), (Some(0), version.as_str(), ""));
}

fn tiderace(args: &[&str]) -> Output {
    program::tiderace().args(args).output().unwrap()
}

/// Runs it where it may have 64 descriptors.
fn with_few_descriptors(args: &[&str]) -> Output {
    program::shell("ulimit -n 64; exec \"$0\" \"$@\"").args(args).output().unwrap()
}

fn outcome(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| str::from_utf8(bytes).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A file in a directory of its own.
struct TempFile {
    path: PathBuf,
    _directory: Directory,
}

impl TempFile {
    fn new(name: &str, content: &[u8]) -> Self {
        let directory = Directory::new("cli");
        Self { path: directory.write(name, content), _directory: directory }
    }

    fn name(&self) -> &str {
        self.path.to_str().unwrap()
    }
}
