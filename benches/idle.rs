//! The cost of idle sessions: starts the server, opens sessions that connect and then stay idle,
//! and prints the server's resident memory per session and its activity meanwhile.
//!
//! ```text
//! cargo bench --bench idle                   10,000 sessions after `connect`
//! cargo bench --bench idle -- 5000 play      5,000 that wait for a stream without a publisher
//! ```
//!
//! Each session takes a descriptor here and one in the server, so `ulimit -n` bounds the number.

#[allow(dead_code, reason = "each test target uses a part of it")]
#[path = "../tests/support/mod.rs"]
mod support;

use std::env;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use support::net::{connect_from, own_host};
use support::server::Start;
use tiderace::rtmp::client::{Client, ClientConfig, ClientEvent, Purpose};

const SESSIONS: usize = 10_000;
/// A fraction of the ports of one source address, so that the kernel finds a free one at once.
const SESSIONS_PER_SOURCE: usize = 1000;
/// The first source address. The server has one below.
const SOURCES_FROM: u8 = 10;
const IDLE: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    // Cargo passes a flag of its own.
    let args: Vec<String> = env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let sessions = args.first().map_or(Ok(SESSIONS), |count| count.parse())?;
    let purpose = match args.get(1).map(String::as_str) {
        None | Some("connect") => Purpose::Connect,
        Some("play") => Purpose::Play { key: "absent".to_owned() },
        Some(other) => return Err(format!("expected connect or play, got {other:?}").into()),
    };
    measure(sessions, &purpose)
}

fn measure(sessions: usize, purpose: &Purpose) -> Result<()> {
    let server = Start::new("idle", "log_level = \"warn\"\n").start();
    let (address, proc) = (server.address, server.proc());
    // Costs of the first session, such as tables, are not counted.
    let mut held = vec![open(address, 0, purpose)?];
    let resident = || proc.field("smaps_rollup", "Rss:").ok_or("the server is gone");
    let before = resident()?;
    let began = Instant::now();
    for index in 1..=sessions {
        held.push(open(address, index, purpose)?);
    }
    let opened = began.elapsed();
    thread::sleep(Duration::from_secs(1));
    let more = 1024 * (resident()? - before);
    println!("{sessions} sessions opened in {:.2} s", opened.as_secs_f64());
    println!("{} bytes resident for each", more / sessions as u64);

    let wakeups = || proc.field("status", "voluntary_ctxt_switches:").ok_or("the server is gone");
    let (ticks, before) = (proc.cpu_ticks(), wakeups()?);
    thread::sleep(IDLE);
    println!(
        "in {} s of sleep: {} ticks of 10 ms, {} wakeups",
        IDLE.as_secs(),
        proc.cpu_ticks() - ticks,
        wakeups()? - before
    );
    held.iter_mut().try_for_each(expect_open)
}

/// Reads pending output of the server and checks that the session is still open.
fn expect_open(stream: &mut TcpStream) -> Result<()> {
    stream.set_nonblocking(true)?;
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return Err("a session did not stay".into()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Opens a session and runs the dialogue until `purpose` is accepted.
fn open(server: SocketAddr, index: usize, purpose: &Purpose) -> Result<TcpStream> {
    let mut stream = connect(index / SESSIONS_PER_SOURCE, server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let config = ClientConfig::new("live", format!("rtmp://{server}/live"), purpose.clone());
    let mut client = Client::new(config, &[7; 1528]);
    let last = match purpose {
        Purpose::Connect => ClientEvent::Connected,
        _ => ClientEvent::Playing,
    };
    let (mut buffer, mut is_open) = ([0; 8192], false);
    while !is_open {
        stream.write_all(&client.take_output())?;
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(format!("session {index} was closed by the server").into());
        }
        let mut input = &mut buffer[..count];
        while let Some(event) = client.next_event(&mut input)? {
            is_open |= event == last;
        }
    }
    stream.write_all(&client.take_output())?;
    Ok(stream)
}

/// Connects from one of many loopback addresses. Each process uses its own, because the ports of an
/// earlier run stay in TIME_WAIT for a minute.
fn connect(source: usize, server: SocketAddr) -> Result<TcpStream> {
    let host = own_host(SOURCES_FROM + u8::try_from(source)?);
    Ok(connect_from(SocketAddrV4::new(host, 0), 0, server)?)
}
