//! Several processes that share the work of one measurement, for when one process may not open
//! enough descriptors or one core is not enough.
//!
//! Owns starting helpers, their messages to the first process, and their end. The first process
//! starts helpers: the same program with the same arguments, plus one argument that assigns the
//! share of work. The first process also does a share itself. It alone observes the server, shows
//! progress and writes files. A helper ends after its work, or when its standard input ends: the
//! first process has dismissed it, or is gone. This module knows no scenario.
//!
//! # How a command shares its work
//!
//! ```text
//! // The command has the flags of `Sharing`, and `deliver_share` delivers its report.
//! let share = self.sharing.share();
//! let mine = share.part(self.sessions);              // sessions of this process
//! let measurement = Measurement::prepare_share(&self.sharing, ..., mine, ...)?;
//! let processes = Processes::start(&self.sharing)?;  // none without --processes, or in a helper
//! // Number n of this process is number share.nth(n) of all. At a fixed rate it is due at
//! // processes.begins_at() + share.nth(n) / rate, so the processes take turns.
//! // The scenario calls processes.listen()? in its second().
//! let measured = engine::run(plan, &mut run)?;
//! let others = run.processes.finish(&measured)?;     // waits until all helpers are done
//! let mut report = run.measurement.finish(&measured);
//! others.add_to(&mut report)?;                       // adds the reports of all helpers
//! // Compute quotients here, from the total counts.
//! ```
//!
//! If the processes have to wait for each other, the scenario calls [`say_ready`] in each helper,
//! and the first process asks [`Processes::are_ready`]. [`Processes::dismiss`] ends helpers that
//! would otherwise continue.

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use clap::builder::RangedI64ValueParser;
use clap::{Args, value_parser};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::ioctl_fionbio;

use super::LoadError;
use super::alarm;
use super::measured::Measured;
use super::report::{LoadReport, ReportError};
use crate::time::Time;

/// Maximum number of processes that share the work.
pub const PROCESSES_MAX: u32 = 64;
/// Descriptors that the first process needs per helper: the three standard streams.
const DESCRIPTORS_PER_HELPER: usize = 3;

/// Delay before the work starts, so that all helpers are running by then.
const START: Duration = Duration::from_millis(500);
/// Position of the first argument of a command, after `load` and the command name.
const ARGUMENTS: usize = 2;
const PROGRESS: &str = "progress ";
const READY: &str = "ready";

/// The flags of a command whose work can be shared.
#[derive(Clone, Debug, Args)]
pub struct Sharing {
    /// Share the work between this many processes, if one process may not open enough descriptors
    /// or one core is not enough.
    #[arg(long, value_name = "N", default_value = "1", value_parser = processes())]
    pub processes: u32,
    /// The share of work of a helper process, set by the first process.
    #[arg(long, hide = true, value_name = "SHARE", value_parser = HelperOf::parse)]
    pub helper: Option<HelperOf>,
}

fn processes() -> RangedI64ValueParser<u32> {
    value_parser!(u32).range(1..=i64::from(PROCESSES_MAX))
}

impl Sharing {
    /// Work that is not shared.
    pub const NONE: Self = Self { processes: 1, helper: None };

    /// Returns the share of this process: everything, unless the work is shared.
    pub fn share(&self) -> Share {
        Share::new(self.helper.map_or(0, |helper| helper.index), self.processes)
    }

    /// Returns the number of descriptors that this process needs for its helpers.
    pub const fn descriptors(&self) -> usize {
        let helpers = if self.helper.is_some() { 0 } else { self.processes as usize - 1 };
        helpers * DESCRIPTORS_PER_HELPER
    }
}

/// The share of the work that one process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    index: u32,
    of: u32,
}

impl Share {
    /// Returns share `index` (from 0) of `of` equal shares.
    pub const fn new(index: u32, of: u32) -> Self {
        Self { index, of }
    }

    /// Returns the index of this share.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Returns the number of shares.
    pub const fn of(self) -> u32 {
        self.of
    }

    /// Returns how many of `count` belong to this process. The parts of all processes add up to
    /// `count`.
    pub const fn part(self, count: u32) -> u32 {
        count / self.of + (self.index < count % self.of) as u32
    }

    /// Returns the overall number of this process's number `n`. Both count from 0.
    pub const fn nth(self, n: u32) -> u32 {
        n.saturating_mul(self.of).saturating_add(self.index)
    }
}

/// Parameters of a helper: its share, and when the work starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelperOf {
    /// Index of the share, from 1; the first process has share 0.
    pub index: u32,
    /// Start of the work on the monotonic clock, which all processes of the machine share.
    pub begins_at: Time,
}

impl HelperOf {
    /// Parses the argument that [`Processes::start`] passes to a helper.
    ///
    /// # Errors
    /// A text that says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split_once('@').and_then(|(index, micros)| {
            Some(Self {
                index: index.parse().ok().filter(|index| *index > 0)?,
                begins_at: Time::from_micros(micros.parse().ok()?),
            })
        });
        parts.ok_or_else(|| "expected INDEX@MICROSECONDS; only for helper processes".to_owned())
    }
}

/// The helpers of the first process. Empty in helpers and without `--processes`.
#[derive(Debug)]
pub struct Processes {
    begins_at: Time,
    helpers: Vec<Helper>,
}

impl Processes {
    /// Starts the helpers that `sharing` asks for.
    ///
    /// # Errors
    /// The system cannot start a process.
    pub fn start(sharing: &Sharing) -> Result<Self, LoadError> {
        if let Some(helper) = sharing.helper {
            return Ok(Self { begins_at: helper.begins_at, helpers: Vec::new() });
        }
        if sharing.processes == 1 {
            return Ok(Self { begins_at: alarm::now(), helpers: Vec::new() });
        }
        let begins_at = alarm::now() + START;
        let helpers = (1..sharing.processes).map(|index| Helper::start(index, begins_at));
        Ok(Self { begins_at, helpers: helpers.collect::<Result<_, _>>()? })
    }

    /// Returns when the work starts in all processes.
    pub const fn begins_at(&self) -> Time {
        self.begins_at
    }

    /// Reads the messages of the helpers. To be called once a second.
    ///
    /// # Errors
    /// A helper has failed.
    pub fn listen(&mut self) -> Result<(), LoadError> {
        self.helpers.iter_mut().try_for_each(Helper::listen)
    }

    /// Returns whether every helper is ready.
    pub fn are_ready(&self) -> bool {
        self.helpers.iter().all(|helper| helper.output.is_ready)
    }

    /// Returns the progress of all processes, given that of this one.
    pub fn progress(&self, own: String) -> String {
        self.helpers.iter().fold(own, |sum, helper| add_counts(&sum, &helper.output.progress))
    }

    /// Tells the helpers to end now and to send their reports.
    pub fn dismiss(&mut self) {
        self.helpers.iter_mut().for_each(|helper| drop(helper.child.stdin.take()));
    }

    /// Waits until the helpers have done their share. If the run was cut short, the helpers end,
    /// too.
    ///
    /// # Errors
    /// A helper has failed.
    pub fn finish(mut self, measured: &Measured) -> Result<Others, LoadError> {
        if measured.was_cut_short() {
            self.dismiss();
        }
        self.helpers.into_iter().map(Helper::finish).collect::<Result<_, _>>().map(Others)
    }
}

/// The reports of the helpers.
#[derive(Debug)]
pub struct Others(Vec<LoadReport>);

impl Others {
    /// Adds the reports of the helpers to the report of this process.
    ///
    /// # Errors
    /// A helper did other work.
    pub fn add_to(self, report: &mut LoadReport) -> Result<(), LoadError> {
        self.0.into_iter().try_for_each(|other| report.merge(other)).map_err(bad_report)
    }
}

fn bad_report(error: ReportError) -> LoadError {
    LoadError::Report { file: "the report of a helper process".to_owned(), error }
}

/// A process that does a share of the work.
#[derive(Debug)]
struct Helper {
    index: u32,
    child: Child,
    stdout: ChildStdout,
    output: HelperOutput,
}

impl Helper {
    fn start(index: u32, begins_at: Time) -> Result<Self, LoadError> {
        let mut arguments: Vec<_> = env::args_os().skip(1).collect();
        let share = format!("--helper={index}@{}", begins_at.as_micros());
        // In front of all other arguments: after a `--` it would not be a flag.
        arguments.insert(ARGUMENTS.min(arguments.len()), share.into());
        let mut child = Command::new(env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or(ErrorKind::BrokenPipe).map_err(io::Error::from)?;
        ioctl_fionbio(&stdout, true).map_err(io::Error::from)?;
        Ok(Self { index, child, stdout, output: HelperOutput::default() })
    }

    fn listen(&mut self) -> Result<(), LoadError> {
        let mut buffer = [0; 4096];
        loop {
            match self.stdout.read(&mut buffer) {
                Ok(0) if self.output.report().is_empty() => return Err(self.failure()),
                Ok(0) => return Ok(()),
                Ok(count) => self.output.add(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for the helper to end and returns its report.
    fn finish(mut self) -> Result<LoadReport, LoadError> {
        ioctl_fionbio(&self.stdout, false).map_err(io::Error::from)?;
        let mut rest = Vec::new();
        self.stdout.read_to_end(&mut rest)?;
        self.output.add(&rest);
        if !self.child.wait()?.success() || self.output.report().is_empty() {
            return Err(self.failure());
        }
        LoadReport::from_json(&String::from_utf8_lossy(self.output.report())).map_err(bad_report)
    }

    /// Returns why the helper ended without a report, as it printed on standard error.
    fn failure(&mut self) -> LoadError {
        let mut message = String::new();
        if let Some(errors) = &mut self.child.stderr {
            // If the error text cannot be read, it stays empty and that is reported.
            drop(errors.read_to_string(&mut message));
        }
        LoadError::Helper { index: self.index, message: message.trim().to_owned() }
    }
}

impl Drop for Helper {
    /// Kills the helper: after a failed measurement its work is of no use.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Output of a helper: lines of text, then the report.
#[derive(Debug, Default)]
struct HelperOutput {
    /// An incomplete line, or the report.
    text: Vec<u8>,
    progress: String,
    is_ready: bool,
}

impl HelperOutput {
    fn add(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
        while self.report().is_empty()
            && let Some(end) = self.text.iter().position(|byte| *byte == b'\n')
        {
            let line: Vec<_> = self.text.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            match line.trim_end() {
                READY => self.is_ready = true,
                line => self.progress = line.trim_start_matches(PROGRESS).to_owned(),
            }
        }
    }

    /// Returns the report as far as it has arrived. Only the report starts with a brace.
    fn report(&self) -> &[u8] {
        if self.text.starts_with(b"{") { &self.text } else { &[] }
    }
}

/// Registers standard input, so that the poll reports when the first process dismisses this one.
/// The first process never writes to the pipe, so the only event is its end.
pub(super) fn watch_first_process(registry: &Registry, token: Token) -> io::Result<()> {
    registry.register(&mut SourceFd(&io::stdin().as_raw_fd()), token, Interest::READABLE)
}

/// Sends the progress to the first process.
pub(super) fn say_progress(progress: &str) {
    say(&format!("{PROGRESS}{progress}"));
}

/// Tells the first process that this process has reached the point where it waits for the others.
pub fn say_ready() {
    say(READY);
}

/// Sends a line. Errors are ignored: if the first process is gone, the poll reports it.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// Sends the report of a helper to the first process.
///
/// # Errors
/// The first process is gone.
pub fn hand_over(report: &LoadReport) -> Result<(), LoadError> {
    let text = report.to_json().map_err(bad_report)?;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(LoadError::Io)
}

/// Adds the whole numbers of two texts that are otherwise equal. Texts that differ in more give the
/// first.
fn add_counts(ours: &str, theirs: &str) -> String {
    let pieces = |text: &str| {
        let is_digit = |c: char| c.is_ascii_digit();
        let mut pieces: Vec<String> = Vec::new();
        for c in text.chars() {
            match pieces.last_mut() {
                Some(piece) if piece.ends_with(is_digit) == is_digit(c) => piece.push(c),
                _ => pieces.push(c.to_string()),
            }
        }
        pieces
    };
    let (ours_pieces, theirs_pieces) = (pieces(ours), pieces(theirs));
    let sum: Option<String> = (ours_pieces.len() == theirs_pieces.len())
        .then(|| {
            ours_pieces.iter().zip(&theirs_pieces).map(|pair| match pair {
                (a, b) if a == b && a.parse::<u64>().is_err() => Some(a.clone()),
                (a, b) => Some((a.parse::<u64>().ok()? + b.parse::<u64>().ok()?).to_string()),
            })
        })
        .and_then(Iterator::collect);
    sum.unwrap_or_else(|| ours.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_up_the_whole_and_take_turns() {
        for (count, of) in [(10, 3), (1, 4), (0, 2), (12, 4), (7, 1)] {
            let shares: Vec<_> = (0..of).map(|index| Share::new(index, of)).collect();
            assert_eq!(shares.iter().map(|share| share.part(count)).sum::<u32>(), count);
            let mut all: Vec<_> = shares
                .iter()
                .flat_map(|share| (0..share.part(count)).map(|n| share.nth(n)))
                .collect();
            all.sort_unstable();
            assert_eq!(all, (0..count).collect::<Vec<_>>(), "{count} of {of}");
        }
    }

    #[test]
    fn the_argument_of_a_helper_reads_back() {
        let begins_at = Time::from_micros(77);
        assert_eq!(HelperOf::parse("3@77"), Ok(HelperOf { index: 3, begins_at }));
        for text in ["", "3", "0@77", "3@", "x@1"] {
            assert!(HelperOf::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lines_and_the_report_of_a_helper_are_told_apart_at_any_split() {
        let text = b"progress 3 of 5 held\nready\nprogress 5 of 5 held\n{\n\"a\": 1\n}\n";
        for split in 0..text.len() {
            let mut output = HelperOutput::default();
            output.add(&text[..split]);
            output.add(&text[split..]);
            assert_eq!((output.progress.as_str(), output.is_ready), ("5 of 5 held", true));
            assert_eq!(output.report(), b"{\n\"a\": 1\n}\n");
        }
        let mut output = HelperOutput::default();
        output.add(b"progress 3 of 5 held\nread");
        assert_eq!((output.is_ready, output.report()), (false, &b""[..]));
    }

    #[test]
    fn counts_are_added_if_the_texts_are_otherwise_equal() {
        for (ours, theirs, sum) in [
            ("3 of 5 held, 0 failed", "10 of 11 held, 2 failed", "13 of 16 held, 2 failed"),
            ("3 of 5 held", "", "3 of 5 held"),
            ("3 held", "3 lost", "3 held"),
            ("7", "8", "15"),
        ] {
            assert_eq!(add_counts(ours, theirs), sum);
        }
    }
}
