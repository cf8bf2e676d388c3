//! The configuration file (`--config`): read once at the start, and again by each reload.
//!
//! At the start it may be anything with an end, such as a pipe of the shell. A reload only accepts
//! regular files: it runs in the loop, where opening a pipe without a writer would block every
//! stream. A pipe that was read once is empty in any case.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use tiderace::config::ConfigError;

/// Bound of the file size. Ten thousand stream keys take half of it.
const BYTES_MAX: u64 = 1 << 20;

/// Kind of the file at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A regular file, which a reload reads again.
    Regular,
    /// A file that can be read only once. The text names its kind in errors.
    Once(&'static str),
}

/// Reads a file at the start. It waits for the writer of a pipe.
pub(crate) fn read(path: &Path) -> Result<(String, Source), ConfigError> {
    read_first(path).map_err(|error| unreadable(path, &error))
}

/// Reads a file again. It only waits for the disk.
pub(crate) fn read_again(path: &Path, source: Source) -> Result<String, ConfigError> {
    if let Source::Once(kind) = source {
        return Err(ConfigError::ReadOnce { file: path.display().to_string(), kind });
    }
    read_regular(path).map_err(|error| unreadable(path, &error))
}

fn read_first(path: &Path) -> io::Result<(String, Source)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let source = if metadata.is_file() { Source::Regular } else { Source::Once(kind(&metadata)) };
    Ok((text(file, &metadata)?, source))
}

fn read_regular(path: &Path) -> io::Result<String> {
    // The kind is checked before opening, because opening a pipe or a device can have side effects.
    expect_regular(&fs::metadata(path)?)?;
    // The file may have been replaced since, so it is opened as non-blocking and checked again.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    let metadata = file.metadata()?;
    expect_regular(&metadata)?;
    text(file, &metadata)
}

fn expect_regular(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "it is {} now, and a reload only reads a regular file",
        kind(metadata)
    )))
}

/// Returns the text of a file that is not too large.
fn text(file: File, metadata: &Metadata) -> io::Result<String> {
    if metadata.is_dir() {
        return Err(io::Error::other("it is a directory; name a file in it"));
    }
    let mut bytes = Vec::new();
    // The size of a device or of a file in /proc is meaningless, so reading is bounded as well.
    if metadata.len() <= BYTES_MAX {
        file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    }
    if metadata.len() > BYTES_MAX || bytes.len() as u64 > BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {} KiB", BYTES_MAX >> 10)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
        io::Error::other(format!("it is not UTF-8 text in line {line}"))
    })
}

fn kind(metadata: &Metadata) -> &'static str {
    let file_type = metadata.file_type();
    if file_type.is_dir() {
        "a directory"
    } else if file_type.is_fifo() {
        "a pipe"
    } else if file_type.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigError {
    ConfigError::Unreadable { file: path.display().to_string(), error: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    /// A path for a file that is removed at the end of the test.
    struct Temp(PathBuf);

    impl Temp {
        fn new(name: &str) -> Self {
            let name = format!("tiderace-settings-{}-{name}", std::process::id());
            Self(std::env::temp_dir().join(name))
        }

        fn write(&self, content: &[u8]) {
            fs::write(&self.0, content).unwrap();
        }

        fn make_pipe(&self) {
            mknodat(CWD, &self.0, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        }

        fn errors(&self) -> [String; 2] {
            let errors =
                [read(&self.0).unwrap_err(), read_again(&self.0, Source::Regular).unwrap_err()];
            errors.map(|error| {
                let line = error.to_string();
                let start = format!("{}: cannot read: ", self.0.display());
                line.strip_prefix(&start).expect("it names the file").to_owned()
            })
        }
    }

    impl Drop for Temp {
        fn drop(&mut self) {
            drop(fs::remove_file(&self.0));
        }
    }

    #[test]
    fn regular_file_is_read_as_often_as_asked() {
        let file = Temp::new("regular");
        file.write(b"drain_ms = 1\n");
        assert_eq!(read(&file.0), Ok(("drain_ms = 1\n".to_owned(), Source::Regular)));
        file.write(b"");
        assert_eq!(read_again(&file.0, Source::Regular).as_deref(), Ok(""));
    }

    #[test]
    fn file_of_the_largest_size_is_read_and_a_larger_one_refused_unread() {
        let file = Temp::new("large");
        file.write(&vec![b'#'; BYTES_MAX as usize]);
        assert_eq!(read(&file.0).unwrap().0.len() as u64, BYTES_MAX);
        assert!(read_again(&file.0, Source::Regular).is_ok());
        for bytes in [BYTES_MAX + 1, 8 << 30] {
            File::options().write(true).open(&file.0).unwrap().set_len(bytes).unwrap();
            assert_eq!(file.errors(), ["it is larger than 1024 KiB"; 2]);
        }
    }

    #[test]
    fn what_is_no_text_is_refused_with_its_line() {
        let file = Temp::new("bytes");
        file.write(b"drain_ms = 1\n\nlisten = \"\xff\"\n");
        assert_eq!(file.errors(), ["it is not UTF-8 text in line 3"; 2]);
    }

    #[test]
    fn file_that_became_a_pipe_a_device_or_a_directory_is_refused_without_waiting() {
        let pipe = Temp::new("pipe");
        pipe.make_pipe();
        let refused = |path: &Path| read_again(path, Source::Regular).unwrap_err().to_string();
        let now = |kind| format!("it is {kind} now, and a reload only reads a regular file");
        assert!(refused(&pipe.0).ends_with(&now("a pipe")), "{}", refused(&pipe.0));
        for (path, kind) in [("/dev/zero", "a device"), ("/", "a directory")] {
            assert_eq!(refused(Path::new(path)), format!("{path}: cannot read: {}", now(kind)));
        }
        assert!(!refused(Path::new("/nonexistent")).contains("now"));
    }

    #[test]
    fn pipe_is_read_at_the_start_and_remembered_as_read_once() {
        let pipe = Temp::new("once");
        pipe.make_pipe();
        let path = pipe.0.clone();
        let writer = std::thread::spawn(move || fs::write(path, "drain_ms = 1\n").unwrap());
        let (text, source) = read(&pipe.0).unwrap();
        writer.join().unwrap();
        assert_eq!((&*text, source), ("drain_ms = 1\n", Source::Once("a pipe")));
        let error = read_again(&pipe.0, source).unwrap_err().to_string();
        assert!(error.contains("cannot be read again: it was a pipe at the start"), "{error}");
    }

    #[test]
    fn device_that_never_ends_is_read_to_the_bound() {
        let error = read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert_eq!(error, "/dev/zero: cannot read: it is larger than 1024 KiB");
        let directory = read(Path::new("/")).unwrap_err().to_string();
        assert_eq!(directory, "/: cannot read: it is a directory; name a file in it");
    }
}
