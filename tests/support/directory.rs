//! Directories for the files of tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// A directory of its own. It is removed when dropped, unless the test fails.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// Makes a directory. `name` helps to find it after a failure and need not be unique.
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = run_directory().join(format!("{name}-{number}"));
        fs::create_dir_all(&path).expect("a directory for the test can be made");
        Self(path)
    }

    /// Returns the path of the directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of a file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file in it. Returns its path.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("files of this test: {}", self.0.display());
        } else {
            // The next run removes what is left over.
            drop(fs::remove_dir_all(&self.0));
        }
    }
}

/// Returns the directory of this run of the tests. The first call removes the directories of runs
/// that have finished.
pub(crate) fn run_directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runs");
        remove_finished_runs(&all);
        let directory = all.join(std::process::id().to_string());
        fs::create_dir_all(&directory).expect("the directory of the run can be made");
        directory
    })
}

fn remove_finished_runs(all: &Path) {
    let Ok(entries) = fs::read_dir(all) else { return };
    if !Path::new("/proc/self").exists() {
        return;
    }
    for entry in entries.flatten() {
        let is_running = Path::new("/proc").join(entry.file_name()).exists();
        if !is_running {
            // Another run may be removing the same directory.
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}
