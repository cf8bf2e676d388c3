//! Several processes that share the work of one measurement, where one may not open enough
//! descriptors or a core is not enough.
//!
//! Owns how the others are started, what they say to the first, and when they end. The first
//! process starts helpers: the same program with the same arguments and one more, which says
//! which share of the work is theirs. It does a share itself, like a measurement without helpers,
//! and it alone looks at the server, shows progress and writes files. A helper ends when it has
//! done its work, or when its standard input ends: the first process is done with it, or gone.
//! This part knows no scenario.
//!
//! # To share the work of a command
//!
//! ```text
//! // The command has the flags of `Sharing`, and `deliver_share` delivers its report.
//! let share = self.sharing.share();
//! let mine = share.part(self.sessions);              // how many of all are this process's
//! let measurement = Measurement::prepare_share(&self.sharing, ..., mine, ...)?;
//! let processes = Processes::start(&self.sharing)?;  // none without --processes, nor in a helper
//! // Number n of this process is number share.nth(n) of all: what is due at a rate is due at
//! // processes.begins_at() + share.nth(n) / rate, so that the processes take turns.
//! // The scenario calls processes.listen()? in its second().
//! let measured = engine::run(plan, &mut run)?;
//! let others = run.processes.finish(&measured)?;     // waits until all have done their share
//! let mut report = run.measurement.finish(&measured, ...);
//! others.add_to(&mut report)?;                       // adds up what all have found
//! // Quotients are made here, from the counts of all.
//! ```
//!
//! Where the processes have to wait for each other, the scenario says [`say_ready`] in each helper,
//! the first process knows it from [`Processes::are_ready`], and [`Processes::dismiss`] ends
//! helpers that would go on.

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

/// Processes that may share the work.
pub const PROCESSES_MAX: u32 = 64;
/// Descriptors that the first process needs for each of the others: the three standard streams.
const DESCRIPTORS_PER_HELPER: usize = 3;

/// How long after the first process the work begins, so that the others are there by then.
const START: Duration = Duration::from_millis(500);
/// Where the arguments of a command begin, behind `load` and its name.
const ARGUMENTS: usize = 2;
const PROGRESS: &str = "progress ";
const READY: &str = "ready";

/// The flags of a command whose work can be shared.
#[derive(Clone, Debug, Args)]
pub struct Sharing {
    /// Share the work between so many processes: where one may not open enough descriptors, or
    /// one core is not enough.
    #[arg(long, value_name = "N", default_value = "1", value_parser = processes())]
    pub processes: u32,
    /// Which share of another's work is to be done; what that one gives its helpers.
    #[arg(long, hide = true, value_name = "SHARE", value_parser = HelperOf::parse)]
    pub helper: Option<HelperOf>,
}

fn processes() -> RangedI64ValueParser<u32> {
    value_parser!(u32).range(1..=i64::from(PROCESSES_MAX))
}

impl Sharing {
    /// Of a command whose work is not shared.
    pub const NONE: Self = Self { processes: 1, helper: None };

    /// What of the work this process does: all of it, unless it is shared.
    pub fn share(&self) -> Share {
        Share::new(self.helper.map_or(0, |helper| helper.index), self.processes)
    }

    /// Descriptors that this process needs for the others.
    pub const fn descriptors(&self) -> usize {
        let helpers = if self.helper.is_some() { 0 } else { self.processes as usize - 1 };
        helpers * DESCRIPTORS_PER_HELPER
    }
}

/// Which part of the work a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    index: u32,
    of: u32,
}

impl Share {
    /// Share `index`, from 0, of `of` equal ones.
    pub const fn new(index: u32, of: u32) -> Self {
        Self { index, of }
    }

    /// How many of `count` are this process's. All parts together are `count`.
    pub const fn part(self, count: u32) -> u32 {
        count / self.of + (self.index < count % self.of) as u32
    }

    /// Which of all the one is that is number `n` here; both count from 0.
    pub const fn nth(self, n: u32) -> u32 {
        n.saturating_mul(self.of).saturating_add(self.index)
    }
}

/// What a helper is told: which share is its own, and when the work begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HelperOf {
    /// From 1: the first process has share 0.
    pub index: u32,
    /// On the monotonic clock of the machine, which all its processes share.
    pub begins_at: Time,
}

impl HelperOf {
    /// Reads what [`Processes::start`] has written.
    ///
    /// # Errors
    /// What was expected, where it is something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split_once('@').and_then(|(index, micros)| {
            Some(Self {
                index: index.parse().ok().filter(|index| *index > 0)?,
                begins_at: Time::from_micros(micros.parse().ok()?),
            })
        });
        parts.ok_or_else(|| "expected INDEX@MICROSECONDS; it is for helpers alone".to_owned())
    }
}

/// The helpers of the first process; of any other measurement none.
#[derive(Debug)]
pub struct Processes {
    begins_at: Time,
    helpers: Vec<Helper>,
}

impl Processes {
    /// Starts the helpers that `sharing` asks for.
    ///
    /// # Errors
    /// The system starts no more processes.
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

    /// When the work begins, in all processes.
    pub const fn begins_at(&self) -> Time {
        self.begins_at
    }

    /// Takes in what the helpers have said; to be called each second.
    ///
    /// # Errors
    /// One of them has failed.
    pub fn listen(&mut self) -> Result<(), LoadError> {
        self.helpers.iter_mut().try_for_each(Helper::listen)
    }

    /// Whether every helper has said that it is ready.
    pub fn are_ready(&self) -> bool {
        self.helpers.iter().all(|helper| helper.said.is_ready)
    }

    /// How all together stand when this process stands as `own` says.
    pub fn progress(&self, own: String) -> String {
        self.helpers.iter().fold(own, |sum, helper| add_counts(&sum, &helper.said.progress))
    }

    /// Tells the helpers to end now, and to report what they have.
    pub fn dismiss(&mut self) {
        self.helpers.iter_mut().for_each(|helper| drop(helper.child.stdin.take()));
    }

    /// Waits until the helpers have done their share. A run that was interrupted ends for them
    /// too.
    ///
    /// # Errors
    /// One of them has failed.
    pub fn finish(mut self, measured: &Measured) -> Result<Others, LoadError> {
        if measured.is_interrupted {
            self.dismiss();
        }
        self.helpers.into_iter().map(Helper::finish).collect::<Result<_, _>>().map(Others)
    }
}

/// What the helpers have found.
#[derive(Debug)]
pub struct Others(Vec<LoadReport>);

impl Others {
    /// Adds it to what this process has found.
    ///
    /// # Errors
    /// One of them did other work.
    pub fn add_to(self, report: &mut LoadReport) -> Result<(), LoadError> {
        self.0.into_iter().try_for_each(|other| report.merge(other)).map_err(bad_report)
    }
}

fn bad_report(error: ReportError) -> LoadError {
    LoadError::Report { file: "what a process that shared the work has found".to_owned(), error }
}

/// Another process that does a share of the work.
#[derive(Debug)]
struct Helper {
    index: u32,
    child: Child,
    output: ChildStdout,
    said: Said,
}

impl Helper {
    fn start(index: u32, begins_at: Time) -> Result<Self, LoadError> {
        let mut arguments: Vec<_> = env::args_os().skip(1).collect();
        let share = format!("--helper={index}@{}", begins_at.as_micros());
        // Before all others: behind a `--` it would be no flag.
        arguments.insert(ARGUMENTS.min(arguments.len()), share.into());
        let mut child = Command::new(env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or(ErrorKind::BrokenPipe).map_err(io::Error::from)?;
        ioctl_fionbio(&output, true).map_err(io::Error::from)?;
        Ok(Self { index, child, output, said: Said::default() })
    }

    fn listen(&mut self) -> Result<(), LoadError> {
        let mut buffer = [0; 4096];
        loop {
            match self.output.read(&mut buffer) {
                Ok(0) if self.said.report().is_empty() => return Err(self.failure()),
                Ok(0) => return Ok(()),
                Ok(count) => self.said.add(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for its end and takes its report.
    fn finish(mut self) -> Result<LoadReport, LoadError> {
        ioctl_fionbio(&self.output, false).map_err(io::Error::from)?;
        let mut rest = Vec::new();
        self.output.read_to_end(&mut rest)?;
        self.said.add(&rest);
        if !self.child.wait()?.success() || self.said.report().is_empty() {
            return Err(self.failure());
        }
        LoadReport::from_json(&String::from_utf8_lossy(self.said.report())).map_err(bad_report)
    }

    /// Why it has ended without a report, which it says in one line.
    fn failure(&mut self) -> LoadError {
        let mut said = String::new();
        if let Some(errors) = &mut self.child.stderr {
            // What cannot be read is told by its absence.
            drop(errors.read_to_string(&mut said));
        }
        LoadError::Helper { index: self.index, said: said.trim().to_owned() }
    }
}

impl Drop for Helper {
    /// One that is still there when the measurement has failed does nobody any good.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a helper has said: lines, and in the end its report.
#[derive(Debug, Default)]
struct Said {
    /// What is no whole line, or the report.
    text: Vec<u8>,
    progress: String,
    is_ready: bool,
}

impl Said {
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

    /// As much of the report as there is: the only thing that begins with a brace.
    fn report(&self) -> &[u8] {
        if self.text.starts_with(b"{") { &self.text } else { &[] }
    }
}

/// Makes the poll tell when the first process is done with this one: it never writes, so its end
/// of the pipe can only be closed.
pub(super) fn watch_first_process(registry: &Registry, token: Token) -> io::Result<()> {
    registry.register(&mut SourceFd(&io::stdin().as_raw_fd()), token, Interest::READABLE)
}

/// Tells the first process how it stands.
pub(super) fn say_progress(progress: &str) {
    say(&format!("{PROGRESS}{progress}"));
}

/// Tells the first process that this one has come to where it waits for the others.
pub fn say_ready() {
    say(READY);
}

/// A first process that does not hear it is gone, and that is noticed by the poll.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    drop(writeln!(out, "{line}").and_then(|()| out.flush()));
}

/// Hands the report of a helper over to the first process.
///
/// # Errors
/// That one is gone.
pub fn hand_over(report: &LoadReport) -> Result<(), LoadError> {
    let text = report.to_json().map_err(bad_report)?;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(LoadError::Io)
}

/// Adds up the whole numbers of two texts that differ in nothing else; of others the first stays.
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
    fn what_a_helper_is_told_reads_back() {
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
            let mut said = Said::default();
            said.add(&text[..split]);
            said.add(&text[split..]);
            assert_eq!((said.progress.as_str(), said.is_ready), ("5 of 5 held", true));
            assert_eq!(said.report(), b"{\n\"a\": 1\n}\n");
        }
        let mut said = Said::default();
        said.add(b"progress 3 of 5 held\nread");
        assert_eq!((said.is_ready, said.report()), (false, &b""[..]));
    }

    #[test]
    fn counts_are_added_up_where_all_else_is_the_same() {
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
