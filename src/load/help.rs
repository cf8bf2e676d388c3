//! The help of `tiderace load` below the flags: examples that work, and exit codes.
//!
//! Owns the texts only. The program decides which exit code stands for which outcome.

/// Adds the list of exit codes below the examples of a command.
macro_rules! with_exit_codes {
    ($examples:literal) => {
        concat!(
            $examples,
            "

Exit codes:
  0  the measurement took place and met all thresholds
  2  the command line is wrong, or a threshold names a figure that the command does not measure
  4  an address cannot be listened on: in use, not of this machine, or not permitted
  5  the descriptor limit is too low for the connections asked for
  6  a file cannot be read or written, or the system refused something else
 10  the server cannot be reached
 11  the server refused the request that the measurement depends on
 12  the process to measure (--server-pid) does not exist, or is not the server
 13  the server ended what the measurement depends on, before anything was measured
 14  the generator did not keep up: its figures are withheld, but the report is written
 15  a threshold of --fail-if was missed; the report is written
 16  the two sides cannot be compared
 17  the file to publish is not a valid FLV file
 18  the generator cannot generate this load: the run ended early, and the report is written
 19  more of the load failed than --failed-max-share allows; the report is written"
        )
    };
}

/// Help of `tiderace load`.
pub const LOAD: &str = with_exit_codes!(
    "\
Examples:
  tiderace load idle rtmp://localhost/live/show --sessions 10000 --server-pid auto
  tiderace load idle rtmp://localhost/live/show --html idle.html --fail-if 'connect_p99_ms>20'
  tiderace load compare before.json after.json --fail-if 'p99_ms>1.1x'

Thresholds use the names of the table. Each percentile of a distribution is a figure, such as
connect_p99_ms. For the main distribution of a command the short form p99_ms works, too. They are
checked before the run: a figure that the command does not measure is refused at once."
);

/// Help of `load idle`.
pub(super) const IDLE: &str = with_exit_codes!(
    "\
Examples:
  tiderace load idle rtmp://localhost/live/show --sessions 10000 --rate 2000 --duration-s 30
  tiderace load idle rtmp://localhost/live/show --sessions 100000 --rate 5000 --processes 5
  tiderace load idle rtmp://localhost/live/show --stage handshake --json handshake.json
  tiderace load idle rtmp://localhost/live/show --server-pid auto --html idle.html"
);

/// Help of `load churn`.
pub(super) const CHURN: &str = with_exit_codes!(
    "\
Examples:
  tiderace load churn rtmp://localhost/live/show --rate 500 --duration-s 30
  tiderace load churn rtmp://localhost/live/show --stage publish --hold-s 1
  tiderace load churn rtmp://localhost/live/show --concurrency 20 --server-pid auto"
);

/// Help of `load fanout`.
pub(super) const FANOUT: &str = with_exit_codes!(
    "\
Examples:
  tiderace load fanout rtmp://localhost/live/show --players 200 --bitrate 4M
  tiderace load fanout rtmp://localhost/live/show --publishers 10 --players 500 --html fanout.html
  tiderace load fanout rtmp://localhost/live/show --play-url http://localhost:8080/live/show.flv
  tiderace load fanout rtmp://localhost/live/show --search 'p99_ms<100' --rate 1000 --html s.html
  tiderace load fanout rtmp://localhost/live/show --ramp 100,200,400,100
  tiderace load fanout rtmp://localhost/live/show --keyframe-ratio 8 --audio-bitrate 128k --seed 1
  tiderace load fanout rtmp://localhost/live/show --fail-if 'p99_ms>20' --fail-if 'frames_lost>0'"
);

/// Help of `load ingest`.
pub(super) const INGEST: &str = with_exit_codes!(
    "\
Examples:
  tiderace load ingest rtmp://localhost/live/show --publishers 100 --bitrate 4M
  tiderace load ingest rtmp://localhost/live/show --publishers 100 --server-pid auto"
);

/// Help of `load floor`.
pub(super) const FLOOR: &str = with_exit_codes!(
    "\
Examples:
  tiderace load floor --listen 127.0.0.1:20000
  tiderace load floor --listen 127.0.0.1:20000 --send sendfile --merge-ms 350

Clients send length-prefixed frames: four bytes of length, big-endian, then the frame. The first
frame of a client is \"publish NAME\" or \"play NAME\". The relay sends every later frame of a
publisher unchanged to all players of that name."
);

/// Help of `load play`.
pub(super) const PLAY: &str = with_exit_codes!(
    "\
Examples:
  tiderace load play rtmp://localhost/live/show --duration-s 60
  tiderace load play rtmp://localhost/live/show --json play.json --fail-if 'stalls>0'
  tiderace load play rtmp://localhost/live/show --fail-if 'rebuffers_at_1000ms>0'"
);

/// Help of `load publish`.
pub(super) const PUBLISH: &str = with_exit_codes!(
    "\
Examples:
  tiderace load publish rtmp://localhost/live/show --size 1920x1080 --fps 60 --bitrate 8M
  tiderace load publish rtmp://localhost/live/show --file talk.flv --duration-s 3600
  tiderace load publish rtmp://localhost/live/show --fail-if 'write_delay_p99_ms>100'"
);

/// Help of `load compare`.
pub(super) const COMPARE: &str = with_exit_codes!(
    "\
Examples:
  tiderace load compare before.json after.json
  tiderace load compare before-*.json --with after-*.json --html compared.html
  tiderace load compare before-*.json --with after-*.json --fail-if 'p99_ms>1.1x'
  tiderace load compare old-kernel.json new-kernel.json --anyway"
);
