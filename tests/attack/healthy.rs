//! The healthy clients: a publisher of numbered frames, a player that checks them, and a newcomer.
//!
//! Owns their threads and observations. A frame carries its number and its due time, so a player
//! detects missing and foreign frames and knows the latency of each.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tiderace::rtmp::client::{Client, ClientConfig, ClientEvent, Purpose};

use crate::attacker::SOON;
use crate::support::net::connect_from;
use crate::wire;

/// Marks a numbered frame, after the five bytes of its tag header.
const MARK: &[u8; 4] = b"tide";
const TAG_BYTES: usize = 5;
/// Tag header, mark, feed id, frame number, due time (us).
const HEAD_BYTES: usize = TAG_BYTES + 4 + 4 + 8 + 8;

/// Frame size and rate of a publisher.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) frame_bytes: usize,
    pub(crate) keyframe_bytes: usize,
    /// Keyframe interval in frames; 0 means that only the first frame is a keyframe.
    pub(crate) gop_frames: u64,
    pub(crate) interval: Duration,
    /// Timestamp of all frames, if the clock of the stream stands still.
    pub(crate) frozen_at: Option<u32>,
}

impl Pace {
    /// 25 frames a second and 0.4 Mbit/s: enough to detect trouble, and little compared to the
    /// attack.
    pub(crate) const CANARY: Self = Self {
        frame_bytes: 2000,
        keyframe_bytes: 2000,
        gop_frames: 25,
        interval: Duration::from_millis(40),
        frozen_at: None,
    };

    /// 25 frames a second at this many Mbit/s.
    pub(crate) const fn mbit(mbit: usize) -> Self {
        let bytes = mbit * 1_000_000 / 8 / 25;
        Self { frame_bytes: bytes, keyframe_bytes: bytes, ..Self::CANARY }
    }
}

/// A publisher on its own thread.
pub(crate) struct Feed {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Feed {
    /// Publishes `live/KEY` until dropped. Returns when the server has accepted the publish.
    pub(crate) fn start(server: SocketAddr, key: &str, pace: Pace) -> Result<Self, String> {
        let purpose = Purpose::Publish { key: key.to_owned() };
        let mut party = Party::open(server, "live", purpose, 0)?;
        party.until(|event| matches!(event, ClientEvent::Publishing))?;
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (sent, stop, feed) = (Arc::clone(&sent), Arc::clone(&stop), feed_id(key));
            move || publish(&mut party, feed, pace, &sent, &stop)
        });
        Ok(Self { sent, stop, thread: Some(thread) })
    }

    /// Returns the number of frames sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns whether it has stopped sending without being told to.
    pub(crate) fn is_broken(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn publish(party: &mut Party, feed: u32, pace: Pace, sent: &AtomicU64, stop: &AtomicBool) {
    party.client.write_video(0, &wire::hex(wire::AVC_CONFIG));
    let (began, began_us) = (Instant::now(), micros());
    let mut payload = vec![0xa5; pace.frame_bytes.max(pace.keyframe_bytes)];
    while !stop.load(Ordering::Relaxed) {
        let number = sent.load(Ordering::Relaxed);
        // Latency counts from the due time, even if a full socket delays the frame.
        let due_us = match pace.interval {
            Duration::ZERO => micros(),
            interval => began_us + interval.as_micros() as u64 * number,
        };
        let is_key = number.checked_rem(pace.gop_frames).map_or(number == 0, |rest| rest == 0);
        let bytes = if is_key { pace.keyframe_bytes } else { pace.frame_bytes };
        let head = [&[if is_key { 0x17 } else { 0x27 }, 1, 0, 0, 0], &MARK[..]].concat();
        let numbers = [&feed.to_be_bytes()[..], &number.to_be_bytes(), &due_us.to_be_bytes()];
        payload[..HEAD_BYTES].copy_from_slice(&[head, numbers.concat()].concat());
        let timestamp = pace.frozen_at.unwrap_or_else(|| began.elapsed().as_millis() as u32);
        party.client.write_video(timestamp, &payload[..bytes]);
        if party.hear(Duration::ZERO, |_| ()).is_err() {
            return;
        }
        sent.fetch_add(1, Ordering::Relaxed);
        let due = pace.interval * (number + 1) as u32;
        thread::sleep(due.saturating_sub(began.elapsed()));
    }
}

/// Reading behaviour of a player.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habits {
    /// Maximum reading rate in bytes per second; 0 means unlimited.
    pub(crate) rate_bytes: usize,
    /// Size of the receive buffer; 0 means the default.
    pub(crate) receive_bytes: usize,
}

/// Observations of a player.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Frames received.
    pub(crate) frames: u64,
    /// Frames missing before later ones.
    pub(crate) lost: u64,
    /// Number of times that a frame was not the next one.
    pub(crate) gaps: u64,
    /// First frames, or frames after a gap, that are not keyframes.
    pub(crate) undecodable: u64,
    /// Audio and video messages received.
    pub(crate) media: u64,
    /// Messages that the publisher did not send.
    pub(crate) foreign: u64,
    /// Number of the newest frame.
    pub(crate) newest: Option<u64>,
    /// Maximum latency of a frame since the last query (us).
    pub(crate) latency_max_us: u64,
    /// The [`digest`] of the audio and video received.
    pub(crate) digest: u64,
}

/// A player on its own thread.
pub(crate) struct Viewer {
    seen: Arc<Mutex<Seen>>,
    latencies_us: Arc<Mutex<Vec<u64>>>,
    pause: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Viewer {
    /// Plays `live/KEY` until dropped. Returns when the server has accepted the play.
    pub(crate) fn start(server: SocketAddr, key: &str, habits: Habits) -> Result<Self, String> {
        let purpose = Purpose::Play { key: key.to_owned() };
        let mut party = Party::open(server, "live", purpose, habits.receive_bytes)?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let latencies_us = Arc::new(Mutex::new(Vec::new()));
        let (pause, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let feed = feed_id(key);
        party.until(|event| {
            let _ = lock(&seen).hear(feed, event);
            matches!(event, ClientEvent::Playing)
        })?;
        let thread = thread::spawn({
            let (seen, pause, stop) = (Arc::clone(&seen), Arc::clone(&pause), Arc::clone(&stop));
            let latencies_us = Arc::clone(&latencies_us);
            move || {
                while !stop.load(Ordering::Relaxed) {
                    if pause.load(Ordering::Relaxed) {
                        thread::sleep(Duration::from_millis(20));
                        continue;
                    }
                    let wait = Duration::from_millis(50);
                    let heard = party.hear(wait, |event| {
                        let latency_us = lock(&seen).hear(feed, event);
                        lock(&latencies_us).extend(latency_us);
                    });
                    let Ok(bytes) = heard else { return };
                    if let Some(took_us) = (bytes * 1_000_000).checked_div(habits.rate_bytes) {
                        thread::sleep(Duration::from_micros(took_us as u64));
                    }
                }
            }
        });
        Ok(Self { seen, latencies_us, pause, stop, thread: Some(thread) })
    }

    /// Returns the observations so far.
    pub(crate) fn seen(&self) -> Seen {
        *lock(&self.seen)
    }

    /// Returns the observations and resets the maximum latency.
    pub(crate) fn take_seen(&self) -> Seen {
        let mut seen = lock(&self.seen);
        let taken = *seen;
        seen.latency_max_us = 0;
        taken
    }

    /// Returns the latency of each frame since the last call (us).
    #[allow(dead_code, reason = "a bench compares them")]
    pub(crate) fn take_latencies_us(&self) -> Vec<u64> {
        std::mem::take(&mut lock(&self.latencies_us))
    }

    /// Pauses or resumes reading.
    pub(crate) fn pause(&self, paused: bool) {
        self.pause.store(paused, Ordering::Relaxed);
    }

    /// Returns whether the server has ended the connection.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Seen {
    /// Records an event. Returns the latency if it is a frame (us).
    fn hear(&mut self, feed: u32, event: &ClientEvent<'_>) -> Option<u64> {
        let ClientEvent::Media(message) = event else { return None };
        self.note(feed, message.header.kind, message.payload)
    }

    fn note(&mut self, feed: u32, kind: u8, payload: &[u8]) -> Option<u64> {
        if matches!(kind, wire::AUDIO | wire::VIDEO) {
            self.media += 1;
            self.digest = digest_with(self.digest, payload);
        }
        if kind != wire::VIDEO || payload.get(1) == Some(&0) {
            return None;
        }
        let numbers = payload.get(TAG_BYTES..HEAD_BYTES).filter(|head| head.starts_with(MARK));
        let Some(numbers) = numbers.filter(|head| wire::big(&head[4..8]) == feed) else {
            self.foreign += 1;
            return None;
        };
        let number = u64::from_be_bytes(numbers[8..16].try_into().expect("eight bytes"));
        let due_us = u64::from_be_bytes(numbers[16..24].try_into().expect("eight bytes"));
        // A publisher that took over starts at 0 again.
        let expected = self.newest.map(|newest| newest + 1).filter(|_| number > 0);
        if expected.is_none_or(|expected| expected != number) {
            self.gaps += u64::from(expected.is_some());
            self.lost += expected.map_or(0, |expected| number.saturating_sub(expected));
            self.undecodable += u64::from(payload[0] != 0x17);
        }
        self.frames += 1;
        self.newest = Some(number);
        let latency_us = micros().saturating_sub(due_us);
        self.latency_max_us = self.latency_max_us.max(latency_us);
        Some(latency_us)
    }
}

/// Returns the time from a newcomer's SYN to its first frame of `live/KEY`.
pub(crate) fn newcomer(server: SocketAddr, key: &str) -> Result<Duration, String> {
    let began = Instant::now();
    let purpose = Purpose::Play { key: key.to_owned() };
    let mut party = Party::open(server, "live", purpose, 0)?;
    party.until(|event| {
        matches!(event, ClientEvent::Media(message)
            if message.header.kind == wire::VIDEO && message.payload.get(..2) == Some(&[0x17, 1]))
    })?;
    Ok(began.elapsed())
}

/// A client on a blocking socket.
struct Party {
    socket: TcpStream,
    client: Client,
}

impl Party {
    fn open(
        server: SocketAddr,
        app: &str,
        purpose: Purpose,
        receive_bytes: usize,
    ) -> Result<Self, String> {
        let anywhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let socket = connect_from(anywhere, receive_bytes, server).map_err(text_of)?;
        socket.set_nodelay(true).map_err(text_of)?;
        socket.set_write_timeout(Some(SOON)).map_err(text_of)?;
        let config = ClientConfig::new(app, format!("rtmp://{server}/{app}"), purpose);
        Ok(Self { socket, client: Client::new(config, &[7; 1528]) })
    }

    /// Writes all pending output.
    fn flush(&mut self) -> Result<(), String> {
        let output = self.client.take_output();
        self.socket.write_all(&output).map_err(text_of)
    }

    /// Processes events until one matches.
    fn until(&mut self, mut is_it: impl FnMut(&ClientEvent<'_>) -> bool) -> Result<(), String> {
        let (deadline, mut came) = (Instant::now() + SOON, false);
        while !came {
            if Instant::now() > deadline {
                return Err("not answered".to_owned());
            }
            self.hear(Duration::from_millis(100), |event| came |= is_it(event))?;
        }
        Ok(())
    }

    /// Reads once within `wait` and passes on the events. Returns the number of bytes.
    fn hear(
        &mut self,
        wait: Duration,
        mut event_came: impl FnMut(&ClientEvent<'_>),
    ) -> Result<usize, String> {
        self.flush()?;
        let mut buffer = [0; 64 * 1024];
        self.socket.set_nonblocking(wait.is_zero()).map_err(text_of)?;
        if !wait.is_zero() {
            self.socket.set_read_timeout(Some(wait)).map_err(text_of)?;
        }
        let read = self.socket.read(&mut buffer);
        if wait.is_zero() {
            self.socket.set_nonblocking(false).map_err(text_of)?;
        }
        let count = match read {
            Ok(0) => return Err("closed by the server".to_owned()),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => 0,
            Err(error) => return Err(text_of(error)),
        };
        let mut input = &mut buffer[..count];
        while let Some(event) = self.client.next_event(&mut input).map_err(text_of)? {
            if let ClientEvent::Refused(status) = &event {
                return Err(format!("refused: {}", status.code.escape_ascii()));
            }
            event_came(&event);
        }
        self.flush()?;
        Ok(count)
    }
}

/// Returns a hash of all payloads that depends on their order.
pub(crate) fn digest<'p>(payloads: impl Iterator<Item = &'p [u8]>) -> u64 {
    payloads.fold(0, digest_with)
}

fn digest_with(digest: u64, payload: &[u8]) -> u64 {
    let step = |digest: u64, byte: &u8| (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    payload.iter().fold(digest ^ payload.len() as u64, step)
}

/// Returns the microseconds since the first call.
fn micros() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_micros() as u64
}

/// Returns an id that identifies the frames of a stream.
fn feed_id(key: &str) -> u32 {
    key.bytes().fold(0x811c_9dc5, |id, byte| (id ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn text_of(error: impl ToString) -> String {
    error.to_string()
}
