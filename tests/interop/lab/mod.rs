//! The common basis of all tests here: a directory, the programs, and the server.
//!
//! A test opens a [`Lab`] with the list of programs that it needs. If one is missing, the test
//! reports that and passes. With `CI=true` a missing program is a failure, because silently skipped
//! tests prove nothing.

pub(crate) mod clip;
pub(crate) mod coding;
pub(crate) mod ffmpeg;
pub(crate) mod frames;
pub(crate) mod http_matrix;
pub(crate) mod matrix;
pub(crate) mod players;
pub(crate) mod server;

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use http_matrix::{Over, WebPlayer};
use matrix::{Client, Role};

use crate::support::directory::Directory;

/// The environment of a test.
pub(crate) struct Lab {
    name: String,
    directory: Directory,
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

    /// Like [`Lab::open`], for a test with a browser, which decodes in software. One of them runs
    /// at a time, beside other tests.
    pub(crate) fn open_browser(name: &str, needs: &[Need]) -> Option<Self> {
        if !has_all(name, needs) {
            return None;
        }
        let browser = BROWSER.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let turn = TURNS.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        Some(Self::with_turn(name, Turn::Browser(browser, turn)))
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

    /// Records that a player over HTTP played each of these codecs.
    pub(crate) fn proves_over(&self, player: WebPlayer, over: Over, codecs: &[&str]) {
        http_matrix::record(player, over, codecs);
    }

    /// Returns a path for a file of this test.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.file(file)
    }

    fn with_turn(name: &str, turn: Turn) -> Self {
        Self { name: name.to_owned(), directory: Directory::new(name), _turn: turn }
    }
}

impl AsRef<Path> for Lab {
    /// The directory of the test.
    fn as_ref(&self) -> &Path {
        self.directory.path()
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

/// Most tests mainly wait and may run in parallel. A test that renders in software may not.
static TURNS: RwLock<()> = RwLock::new(());
/// The only browser at a time.
static BROWSER: Mutex<()> = Mutex::new(());

/// Lock held during a test.
enum Turn {
    Shared(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'static, ()>),
    Browser(
        #[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>,
        #[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'static, ()>,
    ),
    Alone(#[expect(dead_code, reason = "held, not read")] RwLockWriteGuard<'static, ()>),
}
