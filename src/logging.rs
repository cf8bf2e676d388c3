//! The log: lines on standard output. They never block the server, and may be lost.
//!
//! Owns the format of a line and the count of lost lines. A loss is reported once on standard error
//! when it begins, and in the log itself when lines can be written again. A full disk, a reader
//! that has left or a terminal stopped with Ctrl-S loses log lines, but interrupts no stream.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::io::{self, Stderr, Stdout};
use std::os::fd::AsFd;
use std::panic;
use std::sync::{Mutex, PoisonError};

use log::{Level, Log, Metadata, Record};
use time::OffsetDateTime;

use crate::output::{self, LineOutput};

/// Starts the log on standard output, where journals and pipes expect it. Standard error is only
/// used for errors that keep the process from its work.
pub(crate) fn start(level: Level) {
    let lines = Lines::new(LineOutput::new(io::stdout()), LineOutput::new(io::stderr()));
    if log::set_boxed_logger(Box::new(Logger(Mutex::new(lines)))).is_ok() {
        report_panics_without_waiting();
        log::set_max_level(level.to_level_filter());
    }
}

/// Replaces the panic hook. The default one blocks until standard error is read, so the process
/// would hang with its sockets open instead of ending.
fn report_panics_without_waiting() {
    panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        match backtrace.status() {
            BacktraceStatus::Captured => {
                output::last_words(&format_args!("tiderace: {panic}\n{backtrace}"))
            }
            _ => output::last_words(&format_args!("tiderace: {panic}")),
        }
    }));
}

struct Logger(Mutex<Lines<Stdout, Stderr>>);

impl Log for Logger {
    /// Returns true if a line is logged. Of the poll library only warnings and errors are: its
    /// other lines are about its own calls.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_of_poll = metadata.target().split("::").next() == Some("mio");
        let most = if is_of_poll {
            log::max_level().min(log::LevelFilter::Warn)
        } else {
            log::max_level()
        };
        metadata.level() <= most
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = line(record.level(), record.target(), record.args());
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(&line);
        }
    }

    fn flush(&self) {}
}

/// The output of log lines, with the state of a loss.
struct Lines<O, E> {
    out: LineOutput<O>,
    errors: LineOutput<E>,
    /// Number of lines lost since the last one that was written.
    lost: u64,
    /// The error of the last lost line.
    why: String,
}

impl<O: AsFd, E: AsFd> Lines<O, E> {
    const fn new(out: LineOutput<O>, errors: LineOutput<E>) -> Self {
        Self { out, errors, lost: 0, why: String::new() }
    }

    fn write(&mut self, line: &str) {
        if let Err(error) = self.report_lost().and_then(|()| self.out.line(line.as_bytes())) {
            self.why = error.to_string();
            if self.lost == 0 {
                let report = format!("tiderace: log lines are lost: {error}\n");
                drop(self.errors.line(report.as_bytes()));
            }
            self.lost += 1;
        }
    }

    fn report_lost(&mut self) -> io::Result<()> {
        if self.lost > 0 {
            let Self { lost, why, .. } = self;
            let report = format_args!("{lost} log lines are missing here: {why}");
            self.out.line(line(Level::Warn, module_path!(), &report).as_bytes())?;
            self.lost = 0;
        }
        Ok(())
    }
}

fn line(level: Level, target: &str, message: &dyn Display) -> String {
    let now = OffsetDateTime::now_utc();
    let (date, time) = (now.date(), now.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second, millis) = time.as_hms_milli();
    format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z \
         {level:<5} [{target}] {message}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{PipeReader, Read, pipe};

    /// Reads all bytes in a pipe, which must not be empty.
    fn read(pipe: &mut PipeReader) -> String {
        let mut buffer = vec![0; 1 << 20];
        let count = pipe.read(&mut buffer).unwrap();
        String::from_utf8(buffer[..count].to_vec()).unwrap()
    }

    #[test]
    fn lost_lines_are_counted_and_reported_when_there_is_room_again() {
        let (mut out_read, out) = pipe().unwrap();
        let (mut errors_read, errors) = pipe().unwrap();
        let mut lines = Lines::new(LineOutput::new(out), LineOutput::new(errors));
        let long = format!("{}\n", "x".repeat(4095));
        for _ in 0..2 {
            while lines.lost == 0 {
                lines.write(&long);
            }
            (0..16).for_each(|_| lines.write("lost\n"));
            assert_eq!(
                read(&mut errors_read),
                "tiderace: log lines are lost: Resource temporarily unavailable (os error 11)\n"
            );
            read(&mut out_read);
            lines.write("kept\n");
            let log = read(&mut out_read);
            let (_, reported) = log.split_once(" WARN  [tiderace::logging] ").unwrap();
            assert_eq!(
                reported,
                "17 log lines are missing here: \
                 Resource temporarily unavailable (os error 11)\nkept\n"
            );
        }
    }

    #[test]
    fn a_log_that_goes_nowhere_and_errors_that_go_nowhere_are_no_error() {
        let full = || File::options().write(true).open("/dev/full").unwrap();
        let mut lines = Lines::new(LineOutput::new(full()), LineOutput::new(full()));
        (0..3).for_each(|_| lines.write("lost\n"));
        assert_eq!(lines.lost, 3);
        assert_eq!(lines.why, "No space left on device (os error 28)");
    }
}
