//! The program as a script sees it: what it prints, where, and its exit code.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Output};

use tiderace::config::Settings;

#[test]
fn check_says_ok_for_what_config_prints() {
    let sample = tiderace(&["config"]);
    assert_eq!(outcome(&sample), (Some(0), Settings::sample().as_str(), ""));

    let file = TempFile::new("sample.toml", &sample.stdout);
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
    for path in [Path::new("/nonexistent/t.toml"), directory.as_path(), bytes.0.as_path()] {
        let path = path.to_str().unwrap();
        let output = tiderace(&["--config", path]);
        let (code, stdout, stderr) = outcome(&output);
        assert_eq!((code, stdout), (Some(3), ""));
        assert!(stderr.starts_with(&format!("tiderace: {path}: cannot read: ")), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn wrong_flags_are_code_2() {
    let output = tiderace(&["--listen", "nowhere"]);
    let (code, stdout, stderr) = outcome(&output);
    assert_eq!((code, stdout), (Some(2), ""));
    assert!(stderr.starts_with("tiderace: --listen: got \"nowhere\", expected "), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");

    assert_eq!(tiderace(&["--no-such-flag"]).status.code(), Some(2));
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
    Command::new(env!("CARGO_BIN_EXE_tiderace")).args(args).output().unwrap()
}

fn outcome(output: &Output) -> (Option<i32>, &str, &str) {
    let text = |bytes| str::from_utf8(bytes).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// A file that is gone when the test is.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, content: &[u8]) -> Self {
        let path = env::temp_dir().join(format!("tiderace-{}-{name}", process::id()));
        fs::write(&path, content).unwrap();
        Self(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}
