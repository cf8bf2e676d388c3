//! The common basis of all tests here: a directory, the programs, and the server.
//!
//! A test opens a [`Lab`] with the list of programs that it needs. If one is missing, the test
//! reports that and passes. With `CI=true` a missing program is a failure, because silently skipped
//! tests prove nothing.

pub(crate) mod clip;
pub(crate) mod coding;
pub(crate) mod ffmpeg;
pub(crate) mod frames;
pub(crate) mod matrix;
pub(crate) mod players;
pub(crate) mod program;
pub(crate) mod raw;
pub(crate) mod server;

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use matrix::{Client, Role};

/// The environment of a test. Its directory is removed when dropped, unless the test fails.
pub(crate) struct Lab {
    name: String,
    dir: PathBuf,
    _turn: Turn,
}

impl Lab {
    /// Opens the environment of the test `name`. If something is missing, reports it and returns
    /// `None`.
    pub(crate) fn open(name: &str, needs: &[Need]) -> Option<Self> {
        if !has_all(name, needs) {
            return None;
        }
        let turn = Turn::Shared(TURNS.read().unwrap_or_else(|poisoned| poisoned.into_inner()));
        Some(Self::with_turn(name, turn))
    }

    /// Like [`Lab::open`], for a test that must not run in parallel with others.
    pub(crate) fn open_alone(name: &str, needs: &[Need]) -> Option<Self> {
        if !has_all(name, needs) {
            return None;
        }
        let turn = Turn::Alone(TURNS.write().unwrap_or_else(|poisoned| poisoned.into_inner()));
        Some(Self::with_turn(name, turn))
    }

    /// Returns the name of the test, which also serves as a stream name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Records that a client worked in this role with each of these codecs.
    pub(crate) fn proves(&self, client: Client, role: Role, codecs: &[&str]) {
        matrix::record(client, role, codecs);
    }

    /// Returns a path for a file of this test.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    fn with_turn(name: &str, turn: Turn) -> Self {
        let dir = run_dir().join(name);
        fs::create_dir_all(&dir).expect("the test directory can be made");
        Self { name: name.to_owned(), dir, _turn: turn }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("files of this test: {}", self.dir.display());
        } else {
            // A leftover directory is removed by the next run.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// A requirement of a test.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// An executable on the search path.
    Program(&'static str),
    /// A GStreamer element, which may be in a separate plugin package.
    Element(&'static str),
    /// The server belongs to the test, which changes its settings or inspects its process.
    OwnServer,
}

impl Need {
    fn is_met(self) -> bool {
        match self {
            Self::Program(name) => search_path().iter().any(|dir| dir.join(name).is_file()),
            Self::Element(name) => Command::new("gst-inspect-1.0")
                .args(["--exists", name])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success()),
            Self::OwnServer => !server::is_stand_in(),
        }
    }

    fn describe(self) -> String {
        match self {
            Self::Program(name) => format!("{name} is not installed"),
            Self::Element(name) => format!("GStreamer has no element {name}"),
            Self::OwnServer => "the test needs its own server".to_owned(),
        }
    }
}

/// Polls `done` until it returns true. Returns false after `limit`.
pub(crate) fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if done() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Returns the directory of this run. First removes the directories of finished runs.
pub(crate) fn run_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop");
        remove_finished_runs(&all);
        let dir = all.join(std::process::id().to_string());
        fs::create_dir_all(&dir).expect("the directory of the run can be made");
        dir
    })
}

/// Prints to standard error past the capture of the test harness, so that skipped tests are
/// visible.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

fn has_all(test: &str, needs: &[Need]) -> bool {
    for need in needs {
        if need.is_met() {
            continue;
        }
        let reason = need.describe();
        let must_run = env::var("CI").is_ok_and(|ci| ci == "true") && !server::is_stand_in();
        assert!(!must_run, "{test} cannot run: {reason}");
        say(&format!("skipped: {test}: {reason}"));
        matrix::record_skip(test);
        return false;
    }
    true
}

fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH");
    let mut path: Vec<_> = path.map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    path.push(fetched_programs());
    path
}

/// Returns the directory for programs that `tests/run` downloads, because no package has them.
fn fetched_programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/programs")
}

fn remove_finished_runs(all: &Path) {
    let Ok(entries) = fs::read_dir(all) else { return };
    for entry in entries.flatten() {
        let is_running = Path::new("/proc").join(entry.file_name()).exists();
        if !is_running {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Most tests mainly wait and may run in parallel. A test that renders in software may not.
static TURNS: RwLock<()> = RwLock::new(());

/// Lock held during a test.
enum Turn {
    Shared(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "held, not read")] RwLockWriteGuard<'static, ()>),
}
