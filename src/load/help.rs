//! What the help of `tiderace load` says below the flags: examples that work, and exit codes.
//!
//! Owns the words alone. Which number stands for what, the program decides.

/// Puts the exit codes below the examples of a command.
macro_rules! with_exit_codes {
    ($examples:literal) => {
        concat!(
            $examples,
            "

Exit codes:
  0  it was measured, and is within all thresholds
  2  the command line is wrong, or a threshold names no figure of the report
  5  the descriptor limit is too low for the connections asked for
  6  a file cannot be read or written, or anything else that the system refused
 10  the server cannot be reached
 11  the server refused what the measurement stands on
 12  the process to be measured is not there
 13  the server broke off what the measurement stands on
 14  the generator did not keep up: figures are withheld; the report is written
 15  a threshold of --fail-if was missed; the report is written
 16  the two runs do not compare"
        )
    };
}

/// Of `tiderace load`.
pub const LOAD: &str = with_exit_codes!(
    "\
Examples:
  tiderace load idle rtmp://localhost/live/show --sessions 10000 --server-pid $(pidof tiderace)
  tiderace load idle rtmp://localhost/live/show --html idle.html --fail-if 'connect_p99_ms>20'
  tiderace load compare before.json after.json --fail-if 'p99_ms>1.1x'

What a table calls a figure, a threshold calls it too. The percentiles of a distribution are
figures, such as connect_p99_ms; those of the first one also go by p99_ms alone."
);

/// Of `load idle`.
pub(super) const IDLE: &str = with_exit_codes!(
    "\
Examples:
  tiderace load idle rtmp://localhost/live/show --sessions 10000 --rate 2000 --duration-s 30
  tiderace load idle rtmp://localhost/live/show --stage handshake --json handshake.json
  tiderace load idle rtmp://localhost/live/show --server-pid $(pidof tiderace) --html idle.html"
);

/// Of `load compare`.
pub(super) const COMPARE: &str = with_exit_codes!(
    "\
Examples:
  tiderace load compare before.json after.json
  tiderace load compare before.json after.json --fail-if 'p99_ms>1.1x'
  tiderace load compare old-kernel.json new-kernel.json --anyway"
);
