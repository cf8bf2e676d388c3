//! What every test here stands on: a place for its files, the programs it runs, the server.
//!
//! A test opens a [`Lab`] and names the programs it needs. Where one is missing the test says
//! so and passes, except under `CI=true`, where a missing program is a failure: a suite that
//! skips in silence proves nothing.

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

/// One test's workplace: its directory goes away with it, unless the test fails.
pub(crate) struct Lab {
    name: String,
    dir: PathBuf,
    _turn: Turn,
}

impl Lab {
    /// Opens the workplace of the test `name`, or says what is missing and returns `None`.
    pub(crate) fn open(name: &str, needs: &[Need]) -> Option<Self> {
        if !has_all(name, needs) {
            return None;
        }
        let turn = Turn::Shared(TURNS.read().unwrap_or_else(|poisoned| poisoned.into_inner()));
        Some(Self::with_turn(name, turn))
    }

    /// Like [`Lab::open`], for a test that takes all of the machine: no other runs beside it.
    pub(crate) fn open_alone(name: &str, needs: &[Need]) -> Option<Self> {
        if !has_all(name, needs) {
            return None;
        }
        let turn = Turn::Alone(TURNS.write().unwrap_or_else(|poisoned| poisoned.into_inner()));
        Some(Self::with_turn(name, turn))
    }

    /// The name of the test, which is a good name for its stream too.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Writes down what the test has seen a client do, with each of these codecs.
    pub(crate) fn proves(&self, client: Client, role: Role, codecs: &[&str]) {
        matrix::record(client, role, codecs);
    }

    /// A path for a file of this test.
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
            // A directory that stays behind is removed by the next run.
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Something that must be on the machine for a test to mean anything.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Need {
    /// An executable on the search path.
    Program(&'static str),
    /// An element of GStreamer, which comes in plugins of their own.
    Element(&'static str),
    /// The server under test is ours: the test gives it settings, or looks into its process.
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
            Self::OwnServer => "it needs a server of its own".to_owned(),
        }
    }
}

/// Waits until `done` says so, in small steps; false when `limit` has passed.
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

/// The directory of this run. Directories of runs that are over are removed first.
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

/// Prints past the capture of the test harness, so that a skipped test is seen.
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

/// Where `tests/run` puts what no package of the system brings.
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

/// Most tests mostly wait and may overlap; one that renders pictures in software may not.
static TURNS: RwLock<()> = RwLock::new(());

/// Held for the length of a test, never looked at.
enum Turn {
    Shared(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "held, not read")] RwLockWriteGuard<'static, ()>),
}
