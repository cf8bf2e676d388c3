//! The program under test, and child processes whose output is kept for failure messages.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::proc::Proc;
use super::wait_until;

/// Returns the path of the program under test, which is both the server and the load generator:
/// the one that `TIDERACE_PROGRAM` names, or the one that cargo built.
pub(crate) fn path() -> &'static OsStr {
    static PATH: OnceLock<OsString> = OnceLock::new();
    PATH.get_or_init(|| {
        env::var_os("TIDERACE_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_tiderace").into())
    })
}

/// Returns a command that runs the program under test.
pub(crate) fn tiderace() -> Command {
    Command::new(path())
}

/// Returns a command that runs a line of the shell, to which the program under test is `$0`.
pub(crate) fn shell(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]).arg(path());
    command
}

/// The files that take the output of a program.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    output: PathBuf,
    errors: PathBuf,
}

impl Output {
    /// Directs the output of `command` to `NAME.out` and `NAME.err` in `directory`. Its standard
    /// input is empty.
    pub(crate) fn of(command: &mut Command, directory: &Path, name: &str) -> Self {
        let [output, errors] = ["out", "err"].map(|kind| directory.join(format!("{name}.{kind}")));
        command
            .stdin(Stdio::null())
            .stdout(File::create(&output).expect("the output file can be made"))
            .stderr(File::create(&errors).expect("the error file can be made"));
        Self { output, errors }
    }
}

/// A running program. It is killed when dropped, so no test leaves a process running.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    pub(crate) child: Child,
    files: Output,
}

impl Program {
    /// Starts `command`. Its output goes to `NAME.out` and `NAME.err` in `directory`.
    pub(crate) fn start(directory: impl AsRef<Path>, name: &str, command: &mut Command) -> Self {
        let files = Output::of(command, directory.as_ref(), name);
        Self::spawn(name, command, files)
    }

    /// Starts `command`, whose output goes to `files` or elsewhere.
    pub(crate) fn spawn(name: &str, command: &mut Command, files: Output) -> Self {
        let child = command.spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { name: name.to_owned(), child, files }
    }

    /// Returns the exit status, if the program has ended.
    pub(crate) fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the status of a child")
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.exit_status().is_none()
    }

    /// Waits for the end. Panics if the program runs longer than `limit`.
    #[track_caller]
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        wait_until(limit, || !self.is_running());
        let status = self.exit_status();
        status.unwrap_or_else(|| panic!("{} did not end within {limit:?}", self.name))
    }

    /// Waits for the end and expects success.
    #[track_caller]
    pub(crate) fn finish(mut self, limit: Duration) {
        let status = self.wait(limit);
        assert!(status.success(), "{} ended with {status}", self.name);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn proc(&self) -> Proc {
        Proc::of(self.pid())
    }

    /// Returns the path of the file with the standard output.
    pub(crate) fn output_path(&self) -> PathBuf {
        self.files.output.clone()
    }

    /// Returns the standard output so far, or an empty text if it is not UTF-8.
    pub(crate) fn output_text(&self) -> String {
        fs::read_to_string(&self.files.output).unwrap_or_default()
    }

    /// Returns the standard error output so far.
    pub(crate) fn error_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.files.errors).unwrap_or_default()).into_owned()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The child may have ended already. Then there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
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
