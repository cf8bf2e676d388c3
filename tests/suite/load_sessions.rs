//! The load generator with sessions that are held, and with those that come and go: against the
//! server, and against peers that count, refuse, stall or never close. What is counted must be
//! right on a machine that is late; times are not looked at.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use tiderace::load::report::LoadReport;

use crate::load_runs::{NEVER_LATE, report};
use crate::support::server::Start;
use crate::support::{expect_soon, program};

const STAGES: [&str; 5] = ["tcp", "handshake", "connect", "publish", "play"];
const C0_C1_BYTES: usize = 1 + 1536;
/// Where it comes from who only asks whether anybody listens.
const ASKS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// One that asks, and one that goes ahead of all others.
const BEFORE_SESSIONS: usize = 2;

#[test]
fn sessions_are_held_at_every_stage_and_some_are_woken() {
    let server = Start::new("load_idle", "").start();
    let held = &|stage: &str| {
        let args = format!("idle URL --sessions 20 --duration-s 0.1 --wake 3 --stage {stage}");
        let report = measure(server.address, &args);
        let counts = ["sessions_opened", "sessions_reached", "sessions_held", "sessions_failed"];
        assert_eq!(values(&report, counts), [20.0, 20.0, 20.0, 0.0], "{stage}");
        let woken = report.figure("sessions_woken").and_then(|figure| figure.value);
        assert_eq!(woken, (stage == "connect").then_some(3.0), "{stage}");
        let mut names = report.figures.iter().map(|figure| &figure.name);
        assert!(!names.any(|name| name.starts_with("wake_failed")), "{stage}: {report:?}");
    };
    thread::scope(|scope| {
        for stage in STAGES {
            scope.spawn(move || held(stage));
        }
    });
}

#[test]
fn sessions_that_cannot_be_woken_are_held_all_the_same_and_the_reason_is_told() {
    let mut server = Start::new("load_unwoken", "");
    server.command.args(["--duplicate", "reject"]);
    let server = server.start();
    let other = "idle URL --sessions 1 --stage publish --duration-s 600";
    let mut other = load(server.address, other).stdout(Stdio::null()).spawn().unwrap();
    server.wait_for_log("publishes live/show-0");
    let report = measure(server.address, "idle URL-0 --sessions 5 --wake 2 --duration-s 0.1");
    assert_eq!(values(&report, ["sessions_held", "sessions_woken"]), [5.0, 0.0]);
    let told = |doubt: &String| doubt.contains("refused with NetStream.Publish.BadName");
    assert!(report.doubts.iter().any(told), "{:?}", report.doubts);
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_server_that_is_named_tells_what_it_pays_for_a_session() {
    let server = Start::new("load_cost", "").start();
    let pid = server.pid();
    let args = format!("idle URL --sessions 400 --wake 0 --duration-s 0.1 --server-pid {pid}");
    let report = measure(server.address, &args);
    let [bytes, cpu, wakeups] = values(
        &report,
        [
            "resident_bytes_per_session",
            "server_opening_cpu_us_per_session",
            "server_idle_wakeups_per_s",
        ],
    );
    // A page more or less is ten bytes of each.
    assert!((100.0..4000.0).contains(&bytes), "{bytes}");
    assert!(cpu > 0.0, "{cpu}");
    // One of each session would be 4000 a second.
    assert!(wakeups < 100.0, "{wakeups} wakeups a second of 400 sessions that sleep");
    assert!(report.series.iter().any(|series| series.name == "server_resident"));
    assert!(report.manifest.server.is_some());
    let args = format!("churn URL --rate 40 --duration-s 0.5 --server-pid {pid}");
    let [cpu] = values(&measure(server.address, &args), ["server_cpu_us_per_session"]);
    assert!(cpu > 0.0, "{cpu}");
}

#[test]
fn sessions_come_and_go_at_every_stage() {
    let server = Start::new("load_churn", "").start();
    for stage in STAGES {
        let args = format!("churn URL --rate 40 --duration-s 0.5 --hold-s 0.01 --stage {stage}");
        let report = measure(server.address, &args);
        let counts = ["sessions_opened", "sessions_reached", "sessions_done", "sessions_failed"];
        assert_eq!(values(&report, counts), [20.0, 20.0, 20.0, 0.0], "{stage}");
        assert_eq!(report.distributions[0].name(), "session");
        assert!(!report.doubts.iter().any(|doubt| doubt.starts_with("closed loop")));
    }
}

#[test]
fn a_closed_loop_says_so_and_has_as_many_sessions_at_once_as_were_asked_for() {
    let peers = Peers::serve(|_, stream| drain(stream));
    for args in ["--concurrency 3", "--concurrency 3 --processes 2"] {
        let args = format!("churn URL --stage tcp --duration-s 0.3 {args}");
        let report = measure(peers.address, &args);
        let [opened, done, failed] =
            values(&report, ["sessions_opened", "sessions_done", "sessions_failed"]);
        assert_eq!((done, failed), (opened, 0.0));
        assert!(opened >= 3.0, "{opened}");
        assert!(report.doubts.iter().any(|doubt| doubt.starts_with("closed loop")));
    }
    assert!((1..=3).contains(&peers.open_max()), "{}", peers.open_max());
}

#[test]
fn processes_that_share_the_work_do_all_of_it_and_report_as_one() {
    let peers = Peers::serve(|_, stream| drain(stream));
    let idle = "idle URL --sessions 31 --stage tcp --duration-s 0.1 --processes 3";
    let report = measure(peers.address, idle);
    let counts = ["sessions_opened", "sessions_held", "sessions_failed"];
    assert_eq!(values(&report, counts), [31.0, 31.0, 0.0]);
    assert_eq!(peers.count(), 31 + BEFORE_SESSIONS);
    // Each process comes from a network of its own.
    assert_eq!(peers.networks().len(), 3);

    let server = Start::new("load_processes", "").start();
    let churn = "churn URL --rate 50 --duration-s 0.5 --stage publish --processes 2";
    let report = measure(server.address, churn);
    let counts = ["sessions_opened", "sessions_done", "sessions_failed"];
    assert_eq!(values(&report, counts), [25.0, 25.0, 0.0]);
}

#[test]
fn processes_that_share_the_work_end_with_the_first() {
    let peers = Peers::serve(|_, stream| drain(stream));
    let args = "idle URL --sessions 30 --stage tcp --duration-s 600 --processes 3";
    let mut first = load(peers.address, args).stdout(Stdio::null()).spawn().unwrap();
    expect_soon("all sessions are there", || peers.count() == 30 + BEFORE_SESSIONS);
    first.kill().unwrap();
    first.wait().unwrap();
    expect_soon("all sessions are gone", || peers.open() == 0);
}

#[test]
fn failures_are_counted_by_what_went_wrong() {
    let closes_every_second = Peers::serve(|index, stream| {
        if index < BEFORE_SESSIONS || index % 2 == 0 {
            drain(stream);
        }
    });
    let report = measure(
        closes_every_second.address,
        "idle URL --sessions 20 --rate 100 --stage tcp --duration-s 2 --failed-max-share 1",
    );
    let counts = ["sessions_reached", "sessions_held", "failed_closed_by_server"];
    assert_eq!(values(&report, counts), [20.0, 10.0, 10.0]);

    let greets_the_first_alone = Peers::serve(|index, stream| {
        if index < BEFORE_SESSIONS {
            greet(stream);
        }
        drain(stream);
    });
    let report = measure(
        greets_the_first_alone.address,
        "churn URL --rate 20 --stage handshake --duration-s 0.5 --timeout-s 0.2 \
         --failed-max-share 1",
    );
    let counts = ["sessions_opened", "sessions_reached", "sessions_done", "failed_timeout"];
    assert_eq!(values(&report, counts), [10.0, 0.0, 0.0, 10.0]);

    let never_closes = Peers::serve(|_, _| {
        loop {
            thread::park();
        }
    });
    let report = measure(
        never_closes.address,
        "churn URL --rate 20 --stage tcp --duration-s 0.5 --timeout-s 0.2 --failed-max-share 1",
    );
    let counts = ["sessions_reached", "sessions_done", "failed_not_closed_by_server"];
    assert_eq!(values(&report, counts), [10.0, 0.0, 10.0]);
}

#[test]
fn sessions_that_fail_are_told_and_too_many_of_them_have_a_code_of_their_own() {
    let cuts_all = Peers::serve(|index, stream| {
        if index < BEFORE_SESSIONS {
            drain(stream);
        }
    });
    for processes in ["", " --processes 2"] {
        let args =
            format!("churn URL --rate 40 --hold-s 1 --stage tcp --duration-s 0.5{processes}");
        let output = load(cuts_all.address, &args).output().unwrap();
        let (code, stderr) = outcome(&output);
        let expected = "tiderace: 20 of 20 sessions failed (100.0 %), more than the 1 % of \
                        --failed-max-share\n";
        assert_eq!((code, stderr.as_str()), (Some(19), expected));
        let report = LoadReport::from_json(str::from_utf8(&output.stdout).unwrap()).unwrap();
        assert_eq!(values(&report, ["sessions_opened", "sessions_failed"]), [20.0, 20.0]);
        let doubt = "20 of 20 sessions failed (100.0 %): times are those of the others";
        let about_failures = report.doubts.iter().filter(|doubt| doubt.contains(" failed "));
        assert!(about_failures.eq([doubt]), "{:?}", report.doubts);
    }
}

#[test]
fn a_process_that_is_not_the_server_is_refused_and_auto_finds_the_one_that_is() {
    let server = Start::new("load_auto", "").start();
    let mut other = Command::new("sleep").arg("600").spawn().unwrap();
    let args = |pid: &str| format!("churn URL --rate 40 --duration-s 0.2 --server-pid {pid}");
    let wrong = load(server.address, &args(&other.id().to_string())).output().unwrap();
    let expected = format!(
        "tiderace: process {} does not listen on {}; process {} does\n",
        other.id(),
        server.address,
        server.pid()
    );
    assert_eq!(outcome(&wrong), (Some(12), expected));
    let [found, given] = ["auto".to_owned(), server.pid().to_string()]
        .map(|pid| measure(server.address, &args(&pid)).manifest.server);
    assert!(found.is_some() && found == given, "{found:?} {given:?}");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_measurement_that_fails_leaves_no_empty_file() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (new, old) = (folder.join("load_no_report.html"), folder.join("load_old_report.html"));
    drop(std::fs::remove_file(&new));
    std::fs::write(&old, "old").unwrap();
    for file in [&new, &old] {
        let args = format!("idle URL --html {}", file.display());
        assert_eq!(load(gone, &args).output().unwrap().status.code(), Some(10));
    }
    assert!(!new.exists());
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "old");
}

#[test]
fn bad_use_is_one_line_and_a_code_of_its_own() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closes = Peers::serve(|_, stream| drop(stream.read_exact(&mut [0; C0_C1_BYTES])));
    let stalls = Peers::serve(|_, stream| drain(stream));
    let mut refuses = Start::new("load_refused", "");
    refuses.command.args(["--absent", "refuse"]);
    let refuses = refuses.start();
    let at = |address: SocketAddr, line: &str| line.replace("PEER", &address.to_string());
    for (address, args, code, line) in [
        (
            gone,
            "URL",
            10,
            "cannot connect to PEER: Connection refused (os error 111); is the server up?",
        ),
        (
            closes.address,
            "URL --stage handshake",
            11,
            "PEER refused to shake hands: it closed the connection, after tcp",
        ),
        (
            stalls.address,
            "URL --timeout-s 0.2",
            11,
            "PEER refused to connect: no answer within 200ms, after tcp",
        ),
        (
            refuses.address,
            "URL --stage play",
            11,
            "PEER refused to play a stream: refused with NetStream.Play.StreamNotFound: ",
        ),
        (
            stalls.address,
            "URL --server-pid 1073741824",
            12,
            "no process 1073741824; expected the pid of the server on this machine",
        ),
    ] {
        for command in ["idle", "churn"] {
            let output = load(address, &format!("{command} {args}")).output().unwrap();
            let (found, stderr) = outcome(&output);
            assert_eq!(found, Some(code), "{command} {args}: {stderr}");
            let expected = format!("tiderace: {}", at(address, line));
            assert!(stderr.starts_with(&expected), "{stderr}");
            assert_eq!((stderr.lines().count(), output.stdout.len()), (1, 0), "{stderr}");
        }
    }
}

#[test]
fn a_plan_that_needs_more_descriptors_than_one_process_may_have_names_the_remedies() {
    let peers = Peers::serve(|_, stream| drain(stream));
    let limited = |args: &str| {
        let program = load(peers.address, args);
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n 100; exec \"$0\" \"$@\""]).arg(program.get_program());
        shell.args(program.get_args()).output().unwrap()
    };
    for args in
        ["idle URL --stage tcp --sessions 120", "churn URL --stage tcp --rate 12 --timeout-s 10"]
    {
        let (code, stderr) = outcome(&limited(args));
        let expected = "tiderace: the descriptor limit of 100 is too low for 120 connections of \
                        one process: raise it to 152 (ulimit -n), share the work with --processes \
                        if the command has that flag, or ask for fewer connections\n";
        assert_eq!((code, stderr.as_str()), (Some(5), expected));
    }
    // The first process has a third of the sessions, and pipes to the two others.
    let args = "idle URL --stage tcp --sessions 300 --processes 3";
    let expected = "tiderace: the descriptor limit of 100 is too low for 100 connections of one \
                    process: raise it to 138 (ulimit -n), share the work with --processes if the \
                    command has that flag, or ask for fewer connections\n";
    assert_eq!(outcome(&limited(args)), (Some(5), expected.to_owned()));
    let shared = "idle URL --stage tcp --sessions 120 --duration-s 0.1 --processes 2";
    assert_eq!(values(&report(&limited(shared)), ["sessions_held"]), [120.0]);
}

/// The generator, with `URL` in its arguments for a stream of the server at `address`. What is
/// counted is right on a machine that is late.
fn load(address: SocketAddr, args: &str) -> Command {
    let args = args.replace("URL", &format!("rtmp://{address}/live/show"));
    let mut command = program::tiderace();
    command.arg("load").args(args.split(' ')).args(["--quiet", "--json", "-"]);
    command.args(NEVER_LATE);
    command.stdin(Stdio::null());
    command
}

fn measure(address: SocketAddr, args: &str) -> LoadReport {
    report(&load(address, args).output().unwrap())
}

fn outcome(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stderr.clone()).unwrap())
}

/// The figures of these names, all of which must have a value.
fn values<const N: usize>(report: &LoadReport, names: [&str; N]) -> [f64; N] {
    names.map(|name| {
        let figure = report.figure(name).unwrap_or_else(|| panic!("no {name}: {report:?}"));
        figure.value.unwrap_or_else(|| panic!("{figure:?}"))
    })
}

/// A peer that does with each connection, by its number, what a test wants, and counts them.
struct Peers {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    sources: Mutex<Vec<IpAddr>>,
    open: AtomicUsize,
    open_max: AtomicUsize,
}

impl Peers {
    fn serve(handle: impl Fn(usize, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peers = Self { address: listener.local_addr().unwrap(), counts: Arc::default() };
        let (counts, handle) = (Arc::clone(&peers.counts), Arc::new(handle));
        thread::spawn(move || {
            for (index, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let source = stream.peer_addr().unwrap().ip();
                counts.sources.lock().unwrap().push(source);
                let counted = usize::from(source != ASKS);
                let open = counts.open.fetch_add(counted, Ordering::SeqCst) + counted;
                counts.open_max.fetch_max(open, Ordering::SeqCst);
                let (counts, handle) = (Arc::clone(&counts), Arc::clone(&handle));
                thread::spawn(move || {
                    handle(index, &mut stream);
                    // Before it is closed, so that none is counted beside the one that follows.
                    counts.open.fetch_sub(counted, Ordering::SeqCst);
                });
            }
        });
        peers
    }

    /// Connections so far.
    fn count(&self) -> usize {
        self.counts.sources.lock().unwrap().len()
    }

    /// Sessions that are there now, and the most that ever were at once.
    fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }

    fn open_max(&self) -> usize {
        self.counts.open_max.load(Ordering::SeqCst)
    }

    /// The networks that connections came from, except that of whoever only asks.
    fn networks(&self) -> BTreeSet<[u8; 3]> {
        let sources = self.counts.sources.lock().unwrap();
        let others = sources.iter().filter(|source| **source != ASKS);
        let network = |source: &IpAddr| match source {
            IpAddr::V4(source) => source.octets()[..3].try_into().unwrap(),
            IpAddr::V6(source) => panic!("{source}"),
        };
        others.map(network).collect()
    }
}

/// Reads until the peer closes.
fn drain(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

/// Answers a handshake as a server that has none of its own to say.
fn greet(stream: &mut TcpStream) {
    let mut c0_c1 = [0; C0_C1_BYTES];
    if stream.read_exact(&mut c0_c1).is_ok() {
        let answer = [&c0_c1[..], &c0_c1[1..]].concat();
        drop(stream.write_all(&answer));
    }
}
