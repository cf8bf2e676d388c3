//! The number of players and frame size from which `sendfile` from a memory file costs less than
//! `write` from memory. Measures the processor time per GB delivered over loopback for both, by
//! frame size and number of players.
//!
//! ```text
//! cargo bench --bench sendfile
//! ```
//!
//! Each frame goes to every player as the server sends it: from memory with one `write` per player,
//! or once into a file of [`Segments`] and from there with one `sendfile` per player. Only the
//! processor time of the sending thread within these calls is counted. A thread on another core
//! reads everything. The results decide `SEGMENT_PLAYERS_MIN` and `SEGMENT_RUN_BYTES_MIN`.

use std::error::Error;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use rustix::fs::{MemfdFlags, memfd_create, sendfile};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use tiderace::limits::{KIB, SEGMENT_BYTES};
use tiderace::stream::segment::{SegmentSettings, Segments};

const FRAME_BYTES: [usize; 6] = [KIB, 2 * KIB, 4 * KIB, 8 * KIB, 16 * KIB, 64 * KIB];
const PLAYERS: [usize; 6] = [1, 2, 4, 8, 16, 64];
/// Rounds alternate between the two methods, so that disturbances of the machine affect both.
const ROUNDS: usize = 7;
/// Bytes delivered per round and method, and the maximum number of frames for that.
const ROUND_BYTES: usize = 8 << 20;
const ROUND_FRAMES_MAX: usize = 400;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let (send_core, read_core) = cores()?;
    stay_on(send_core)?;
    println!(
        "CPU s per GB by write / by sendfile, medians of {ROUNDS}; * where sendfile costs less"
    );
    let heads = PLAYERS.map(|players| format!("{players:>13} pl."));
    println!("{:>8}{}", "bytes", heads.concat());
    for bytes in FRAME_BYTES {
        let cells = PLAYERS.map(|players| {
            let mut bench = Bench::open(players, read_core)?;
            bench.compare(bytes).map(|costs| format!("{:>17}", cell(costs)))
        });
        let cells = cells.into_iter().collect::<Result<Vec<_>>>()?;
        println!("{bytes:>8}{}", cells.concat());
    }
    Ok(())
}

fn cell([write, sendfile]: [f64; 2]) -> String {
    let mark = if sendfile < write { '*' } else { ' ' };
    format!("{write:.2} / {sendfile:.2}{mark}")
}

/// Returns two cores that this process may use.
fn cores() -> Result<(usize, usize)> {
    let allowed = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let pair = cores.next().zip(cores.next());
    pair.ok_or_else(|| "sending and reading need a core each, but there is only one".into())
}

fn stay_on(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Connections to players that read everything.
struct Bench {
    players: Vec<TcpStream>,
    /// Bytes that all players have read.
    taken: Arc<AtomicU64>,
    sent: u64,
    segments: Segments,
    /// Tape offset of the next frame in the files.
    offset: u64,
}

#[derive(Clone, Copy)]
enum Method {
    Write,
    Sendfile,
}

const SETTINGS: SegmentSettings = SegmentSettings {
    open: || -> std::io::Result<File> { Ok(memfd_create("bench", MemfdFlags::CLOEXEC)?.into()) },
    players_min: 1,
    run_bytes_min: 1,
    files_max: usize::MAX,
};

impl Bench {
    fn open(players: usize, read_core: usize) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut ends = Vec::new();
        let mut senders = Vec::new();
        for _ in 0..players {
            ends.push(TcpStream::connect(listener.local_addr()?)?);
            let (sender, _) = listener.accept()?;
            sender.set_nodelay(true)?;
            senders.push(sender);
        }
        let taken = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&taken);
        // The thread ends with the connections.
        thread::spawn(move || {
            let read = stay_on(read_core).and_then(|()| take_all(ends, &counter));
            read.expect("players read what they are sent");
        });
        let segments = Segments::default();
        Ok(Self { players: senders, taken, sent: 0, segments, offset: 0 })
    }

    /// Returns the cost of a GB with both methods (s), as medians.
    fn compare(&mut self, bytes: usize) -> Result<[f64; 2]> {
        let frame = vec![0x27; bytes];
        let frames = (ROUND_BYTES / bytes / self.players.len()).clamp(8, ROUND_FRAMES_MAX);
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (method, costs) in [Method::Write, Method::Sendfile].into_iter().zip(&mut costs) {
                let mut spent = Duration::ZERO;
                for _ in 0..frames {
                    spent += self.deliver(method, &frame)?;
                }
                let delivered = frames * bytes * self.players.len();
                costs.push(spent.as_secs_f64() * 1e9 / delivered as f64);
            }
        }
        Ok(costs.map(|mut costs| {
            costs.sort_by(f64::total_cmp);
            costs[ROUNDS / 2]
        }))
    }

    /// Sends a frame to all players and returns the processor time. Then waits until they have read
    /// it, so that sockets are never full.
    fn deliver(&mut self, method: Method, frame: &[u8]) -> Result<Duration> {
        let before = cpu();
        match method {
            Method::Write => {
                for player in &mut self.players {
                    player.write_all(frame)?;
                }
            }
            Method::Sendfile => self.send_file(frame)?,
        }
        let spent = cpu() - before;
        self.sent += (frame.len() * self.players.len()) as u64;
        while self.taken.load(Ordering::Acquire) < self.sent {
            thread::sleep(Duration::from_micros(20));
        }
        Ok(spent)
    }

    fn send_file(&mut self, frame: &[u8]) -> Result<()> {
        let end = self.offset + frame.len() as u64;
        self.segments.append(self.offset, [frame].into_iter(), &SETTINGS)?;
        let run = self.segments.run(self.offset, end).ok_or("a frame just written has no run")?;
        for player in &self.players {
            let (mut position, mut left) = (run.position, run.len);
            while left > 0 {
                left -= sendfile(player, run.file, Some(&mut position), left)?;
            }
        }
        self.offset = end;
        // As the server frees segments that have left its tape.
        self.segments.forget_before(end.saturating_sub(4 * SEGMENT_BYTES as u64));
        Ok(())
    }
}

/// Reads from all connections until they end.
fn take_all(ends: Vec<TcpStream>, counter: &AtomicU64) -> Result<()> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(64));
    let mut buffer = vec![0; 256 * KIB];
    let mut open = Vec::new();
    for (index, end) in ends.into_iter().enumerate() {
        end.set_nonblocking(true)?;
        let mut end = mio::net::TcpStream::from_std(end);
        poll.registry().register(&mut end, Token(index), Interest::READABLE)?;
        open.push(Some(end));
    }
    while open.iter().any(Option::is_some) {
        poll.poll(&mut events, None)?;
        for event in &events {
            let slot = &mut open[event.token().0];
            while let Some(end) = slot {
                match end.read(&mut buffer) {
                    Ok(0) => *slot = None,
                    Ok(count) => {
                        counter.fetch_add(count as u64, Ordering::Release);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(())
}

/// Returns the processor time of this thread.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
