//! An external program with a time limit, whose output is kept for failure messages.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Lab, wait_until};

/// A running program. It is killed when dropped, so no test leaves a process running.
pub(crate) struct Program {
    name: String,
    child: Child,
    output: PathBuf,
    errors: PathBuf,
}

impl Program {
    /// Starts `command`. Its output goes to `NAME.out` and `NAME.err` in the lab's directory.
    pub(crate) fn start(lab: &Lab, name: &str, command: &mut Command) -> Self {
        let output = lab.path(&format!("{name}.out"));
        let errors = lab.path(&format!("{name}.err"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&output).expect("the output file can be made"))
            .stderr(File::create(&errors).expect("the error file can be made"))
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { name: name.to_owned(), child, output, errors }
    }

    /// Waits for the end. Panics if the program runs longer than `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let mut status = None;
        wait_until(limit, || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.unwrap_or_else(|| panic!("{} did not end within {limit:?}", self.name))
    }

    /// Waits for the end and expects success.
    pub(crate) fn finish(mut self, limit: Duration) {
        let status = self.wait(limit);
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the status of a child").is_none()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the path of the file with the standard output.
    pub(crate) fn output_path(&self) -> PathBuf {
        self.output.clone()
    }

    /// Returns the standard output so far, or an empty text if it is not UTF-8.
    pub(crate) fn output_text(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Returns the standard error output so far.
    pub(crate) fn error_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.errors).unwrap_or_default()).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The child may have ended already. Then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let printed = self.output_text() + &self.error_text();
            eprintln!("--- {} printed:\n{}---", self.name, last_lines(&printed, 60));
        }
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(count);
    lines.iter().skip(skipped).map(|line| format!("{line}\n")).collect()
}
