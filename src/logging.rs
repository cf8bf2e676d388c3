//! The log of the process: lines on standard output that may be lost and never end it.
//!
//! Owns what is done when standard output takes no more: a journal that went away, a full disk,
//! `tiderace | head -1`, or `tiderace | less` with nobody scrolling. The server serves on, and
//! standard error tells once.

use std::any::Any;
use std::io::{self, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fcntl_setfl, fstat};
use simple_logger::SimpleLogger;

/// Starts the log. It goes to standard output, where journals and pipes take it; standard error
/// is left to what keeps the process from its work.
///
/// The logger itself lets everything through, since only the level of the `log` crate can be moved
/// by a reload. The poll library stays quiet: its lines are about its own calls.
pub(crate) fn start(level: Level) {
    let printer = SimpleLogger::new()
        .with_level(LevelFilter::Trace)
        .with_module_level("mio", LevelFilter::Warn)
        .with_utc_timestamps();
    if log::set_boxed_logger(Box::new(Lasting { printer, losing: AtomicBool::new(false) })).is_ok()
    {
        keep_lost_lines_quiet();
        wait_for_no_reader();
        log::set_max_level(level.to_level_filter());
    }
}

/// A reader that stops reading costs lines of the log and not the streams: a pipe that is full
/// must not hold up the one thread. A file or a terminal is left as it is.
fn wait_for_no_reader() {
    let stdout = io::stdout();
    let Ok(stat) = fstat(&stdout) else { return };
    if matches!(FileType::from_raw_mode(stat.st_mode), FileType::Fifo | FileType::Socket)
        && let Ok(flags) = fcntl_getfl(&stdout)
    {
        // Where this is refused, the server is as patient as other programs.
        let _ = fcntl_setfl(&stdout, flags | OFlags::NONBLOCK);
    }
}

/// A logger that outlives its output: `printer` panics when a line cannot be written.
struct Lasting {
    printer: SimpleLogger,
    /// The last line could not be written.
    losing: AtomicBool,
}

impl Log for Lasting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.printer.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        // The printer has no state that a panic could leave half changed.
        let printed = panic::catch_unwind(AssertUnwindSafe(|| self.printer.log(record)));
        match printed {
            Ok(()) => self.losing.store(false, Ordering::Relaxed),
            Err(payload) => match lost_line(&*payload) {
                Some(why) if !self.losing.swap(true, Ordering::Relaxed) => {
                    drop(writeln!(io::stderr(), "tiderace: log lines are lost: {why}"));
                }
                Some(_) => {}
                None => panic::resume_unwind(payload),
            },
        }
    }

    fn flush(&self) {
        self.printer.flush();
    }
}

/// A lost line is no bug, so the panic that tells of it is not reported as one.
fn keep_lost_lines_quiet() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if lost_line(panic.payload()).is_none() {
            report(panic);
        }
    }));
}

/// What `println!` says when it panics, which is known by its words alone.
fn lost_line(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<String>()?.strip_prefix("failed printing to stdout: ")
}
