//! The cost of idle sessions: starts the server, opens sessions that connect and then stay idle,
//! and prints the server's resident memory per session and its activity meanwhile.
//!
//! ```text
//! cargo bench --bench idle                   10,000 sessions after `connect`
//! cargo bench --bench idle -- 5000 play      5,000 that wait for a stream without a publisher
//! ```
//!
//! Each session takes a descriptor here and one in the server, so `ulimit -n` bounds the number.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use tiderace::rtmp::client::{Client, ClientConfig, ClientEvent, Purpose};

const SESSIONS: usize = 10_000;
/// A fraction of the ports of one source address, so that the kernel finds a free one at once.
const SESSIONS_PER_SOURCE: usize = 1000;
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 9, 3, 5)), 11935);
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
    let server = Server::start()?;
    // Costs of the first session, such as tables, are not counted.
    let mut held = vec![open(0, purpose)?];
    let before = server.resident_bytes()?;
    let began = Instant::now();
    for index in 1..=sessions {
        held.push(open(index, purpose)?);
    }
    let opened = began.elapsed();
    thread::sleep(Duration::from_secs(1));
    let resident = server.resident_bytes()? - before;
    println!("{sessions} sessions opened in {:.2} s", opened.as_secs_f64());
    println!("{} bytes resident for each", resident / sessions as u64);

    let (ticks, switches) = (server.cpu_ticks()?, server.voluntary_switches()?);
    thread::sleep(IDLE);
    println!(
        "in {} s of sleep: {} ticks of 10 ms, {} wakeups",
        IDLE.as_secs(),
        server.cpu_ticks()? - ticks,
        server.voluntary_switches()? - switches
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
fn open(index: usize, purpose: &Purpose) -> Result<TcpStream> {
    let mut stream = connect_from(index / SESSIONS_PER_SOURCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let config = ClientConfig::new("live", format!("rtmp://{SERVER}/live"), purpose.clone());
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
fn connect_from(source: usize) -> Result<TcpStream> {
    let [_, _, high, low] = process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, high | 0x80, low, u8::try_from(1 + source)?);
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddrV4::new(host, 0))?;
    connect(&socket, &SERVER)?;
    Ok(TcpStream::from(socket))
}

/// The server. It is killed when dropped.
struct Server(Child);

impl Server {
    fn start() -> Result<Self> {
        let server = Command::new(env!("CARGO_BIN_EXE_tiderace"))
            .args(["--listen", &SERVER.to_string(), "--log-level", "warn"])
            .stdout(Stdio::null())
            .spawn()?;
        let server = Self(server);
        for _ in 0..500 {
            if TcpStream::connect(SERVER).is_ok() {
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err("the server does not come up".into())
    }

    fn resident_bytes(&self) -> Result<u64> {
        Ok(1024 * self.field("smaps_rollup", "Rss:")?)
    }

    fn voluntary_switches(&self) -> Result<u64> {
        self.field("status", "voluntary_ctxt_switches:")
    }

    fn cpu_ticks(&self) -> Result<u64> {
        let stat = self.read("stat")?;
        // The name in parentheses may contain anything; utime and stime are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(") ").ok_or("no fields")?;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
        Ok(ticks.sum::<std::result::Result<u64, _>>()?)
    }

    fn field(&self, file: &str, name: &str) -> Result<u64> {
        let text = self.read(file)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such field")?;
        Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
    }

    fn read(&self, file: &str) -> Result<String> {
        Ok(fs::read_to_string(format!("/proc/{}/{file}", self.0.id()))?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
