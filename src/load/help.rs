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
  4  an address cannot be listened on: in use, not of this machine, or not permitted
  5  the descriptor limit is too low for the connections asked for
  6  a file cannot be read or written, or anything else that the system refused
 10  the server cannot be reached
 11  the server refused what the measurement stands on
 12  the process to be measured is not there
 13  the server broke off what the measurement stands on
 14  the generator did not keep up: figures are withheld; the report is written
 15  a threshold of --fail-if was missed; the report is written
 16  the two runs do not compare
 17  the file to be published is no good FLV"
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
  tiderace load idle rtmp://localhost/live/show --sessions 100000 --rate 5000 --processes 5
  tiderace load idle rtmp://localhost/live/show --stage handshake --json handshake.json
  tiderace load idle rtmp://localhost/live/show --server-pid $(pidof tiderace) --html idle.html"
);

/// Of `load churn`.
pub(super) const CHURN: &str = with_exit_codes!(
    "\
Examples:
  tiderace load churn rtmp://localhost/live/show --rate 500 --duration-s 30
  tiderace load churn rtmp://localhost/live/show --stage publish --hold-s 1
  tiderace load churn rtmp://localhost/live/show --concurrency 20 --server-pid $(pidof tiderace)"
);

/// Of `load fanout`.
pub(super) const FANOUT: &str = with_exit_codes!(
    "\
Examples:
  tiderace load fanout rtmp://localhost/live/show --players 200 --bitrate 4M
  tiderace load fanout rtmp://localhost/live/show --publishers 10 --players 500 --html fanout.html
  tiderace load fanout rtmp://localhost/live/show --fail-if 'p99_ms>20' --fail-if 'frames_lost>0'"
);

/// Of `load ingest`.
pub(super) const INGEST: &str = with_exit_codes!(
    "\
Examples:
  tiderace load ingest rtmp://localhost/live/show --publishers 100 --bitrate 4M
  tiderace load ingest rtmp://localhost/live/show --publishers 100 --server-pid $(pidof tiderace)"
);

/// Of `load floor`.
pub(super) const FLOOR: &str = with_exit_codes!(
    "\
Examples:
  tiderace load floor --listen 127.0.0.1:20000
  tiderace load floor --listen 127.0.0.1:20000 --send sendfile --merge

Clients send frames behind their length of four bytes, the highest first. The first one is
\"publish NAME\" or \"play NAME\"; what a publisher sends then, players get as it is."
);

/// Of `load play`.
pub(super) const PLAY: &str = with_exit_codes!(
    "\
Examples:
  tiderace load play rtmp://localhost/live/show --duration-s 60
  tiderace load play rtmp://localhost/live/show --json play.json --fail-if 'stalls>0'"
);

/// Of `load publish`.
pub(super) const PUBLISH: &str = with_exit_codes!(
    "\
Examples:
  tiderace load publish rtmp://localhost/live/show --size 1920x1080 --fps 60 --bitrate 8M
  tiderace load publish rtmp://localhost/live/show --file talk.flv --duration-s 3600
  tiderace load publish rtmp://localhost/live/show --fail-if 'write_delay_p99_ms>100'"
);

/// Of `load compare`.
pub(super) const COMPARE: &str = with_exit_codes!(
    "\
Examples:
  tiderace load compare before.json after.json
  tiderace load compare before.json after.json --fail-if 'p99_ms>1.1x'
  tiderace load compare old-kernel.json new-kernel.json --anyway"
);
