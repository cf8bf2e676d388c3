//! From how many players and bytes on `sendfile` from a memory file costs less than `write` from
//! memory: the processor time for each GB delivered over loopback, both ways, over sizes of frames
//! and numbers of players.
//!
//! ```text
//! cargo bench --bench sendfile
//! ```
//!
//! A frame goes to every player, as the server sends it: from memory by one `write` each, or into
//! a file of [`Segments`] once and from there by one `sendfile` each. Only the time of the thread
//! that sends is counted, and of that only what the calls take; another thread on another core
//! takes everything. What is printed decides `SEGMENT_PLAYERS_MIN` and `SEGMENT_RUN_BYTES_MIN`.

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
/// Each way takes turns with the other, so that what the machine does meets both.
const ROUNDS: usize = 7;
/// What is delivered in one round of one way, and how many frames that is at most.
const ROUND_BYTES: usize = 8 << 20;
const ROUND_FRAMES_MAX: usize = 400;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let (send_core, read_core) = cores()?;
    stay_on(send_core)?;
    println!("CPU s per GB by write / by sendfile, medians of {ROUNDS}; * where sendfile is less");
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

/// Two cores that this process may use.
fn cores() -> Result<(usize, usize)> {
    let allowed = sched_getaffinity(None)?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
    let pair = cores.next().zip(cores.next());
    pair.ok_or_else(|| "sending and reading need a core each, and there is one alone".into())
}

fn stay_on(core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Connections to players that take everything.
struct Bench {
    players: Vec<TcpStream>,
    /// What the players have taken in all.
    taken: Arc<AtomicU64>,
    sent: u64,
    segments: Segments,
    /// The offset on the tape of what is sent from files next.
    offset: u64,
}

#[derive(Clone, Copy)]
enum Way {
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
        // It ends with the connections.
        thread::spawn(move || {
            let read = stay_on(read_core).and_then(|()| take_all(ends, &counter));
            read.expect("players take what they are sent");
        });
        let segments = Segments::default();
        Ok(Self { players: senders, taken, sent: 0, segments, offset: 0 })
    }

    /// What a GB costs by both ways (s), as medians.
    fn compare(&mut self, bytes: usize) -> Result<[f64; 2]> {
        let frame = vec![0x27; bytes];
        let frames = (ROUND_BYTES / bytes / self.players.len()).clamp(8, ROUND_FRAMES_MAX);
        let mut costs = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (way, costs) in [Way::Write, Way::Sendfile].into_iter().zip(&mut costs) {
                let mut spent = Duration::ZERO;
                for _ in 0..frames {
                    spent += self.deliver(way, &frame)?;
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

    /// Sends a frame to all players, says how much processor time that took, and waits until they
    /// have it: sockets are never full.
    fn deliver(&mut self, way: Way, frame: &[u8]) -> Result<Duration> {
        let before = cpu();
        match way {
            Way::Write => {
                for player in &mut self.players {
                    player.write_all(frame)?;
                }
            }
            Way::Sendfile => self.send_file(frame)?,
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
        let run = self.segments.run(self.offset, end).ok_or("it was just written")?;
        for player in &self.players {
            let (mut position, mut left) = (run.position, run.len);
            while left > 0 {
                left -= sendfile(player, run.file, Some(&mut position), left)?;
            }
        }
        self.offset = end;
        // As the server drops what has left its tape.
        self.segments.forget_before(end.saturating_sub(4 * SEGMENT_BYTES as u64));
        Ok(())
    }
}

/// Takes what comes on all connections until they end.
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

/// What this thread has taken of the processor.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
