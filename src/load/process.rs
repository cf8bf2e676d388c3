//! The cost of a process as the kernel counts it: memory, processor time, wakeups.
//!
//! Owns reading `/proc`, and which processes belong to a server: all descendants of the named
//! process, with all their threads. This module never starts, stops or signals a process. Without
//! `/proc` it returns an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procfs_core::FromRead;
use procfs_core::process::{Schedstat, SmapsRollup, Stat, StatM, Status};
use rustix::param::{clock_ticks_per_second, page_size};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::machine::{BusyTimes, MachineTimes};
use super::report::{RateSeries, Series};
use super::{alarm, chores};

/// The unit of `st_blocks`, whatever the block size of the file system.
const BLOCK_BYTES: u64 = 512;

/// Identity of a measured program, specific enough to tell two builds apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process name.
    pub name: String,
    /// The file name of the executable without its directory; `None` if it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// SHA-256 of the executable. Programs have no uniform way to ask for their version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Resources that a process tree has used since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time of all threads, in nanoseconds if the kernel keeps them.
    pub cpu: Duration,
    /// Voluntary context switches: how often a thread waited and ran again.
    pub wakeups: u64,
    /// Involuntary context switches: how often a thread was preempted.
    pub preemptions: u64,
    /// Time for which threads were ready to run and waited for a core.
    pub waited: Duration,
    /// How often a thread got a core.
    pub slices: u64,
}

impl Usage {
    /// Returns the usage since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            wakeups: self.wakeups.saturating_sub(earlier.wakeups),
            preemptions: self.preemptions.saturating_sub(earlier.preemptions),
            waited: self.waited.saturating_sub(earlier.waited),
            slices: self.slices.saturating_sub(earlier.slices),
        }
    }

    fn add(&mut self, other: Self) {
        self.cpu += other.cpu;
        self.wakeups += other.wakeups;
        self.preemptions += other.preemptions;
        self.waited += other.waited;
        self.slices += other.slices;
    }

    /// Returns the larger of each count. Counts never fall while a process lives.
    fn max(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.max(other.cpu),
            wakeups: self.wakeups.max(other.wakeups),
            preemptions: self.preemptions.max(other.preemptions),
            waited: self.waited.max(other.waited),
            slices: self.slices.max(other.slices),
        }
    }
}

/// State of a process tree at one moment, cheap enough to read every second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Usage since the start, including processes that have ended since.
    pub usage: Usage,
    /// Resident memory. Shared pages count once per process.
    pub resident_bytes: u64,
    /// Processes that are running.
    pub processes: usize,
    /// Threads of these processes.
    pub threads: usize,
}

/// Exact memory of a process tree, read page by page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Resident memory. Shared pages count once in total.
    pub resident_bytes: u64,
    /// The part of it that is not backed by a file: heap, stacks and shared memory. The share in
    /// program text is excluded, because it falls as soon as another process runs the same program,
    /// such as a generator that is the same binary as the server.
    pub data_bytes: u64,
    /// Memory files (`memfd_create`) that the processes hold open. The kernel counts them as
    /// resident only if they are mapped, so they would otherwise be missed.
    pub memory_file_bytes: u64,
}

/// A process and all its descendants.
#[derive(Debug)]
pub struct ProcessTree {
    root: Key,
    /// Every process seen so far, with its usage when last seen.
    seen: BTreeMap<Key, Usage>,
}

/// Unique key of a process. The pid alone can be reused after the process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    pid: u32,
    /// Start time in clock ticks since boot.
    started: u64,
}

impl ProcessTree {
    /// Opens the process tree of `pid`.
    pub fn open(pid: u32) -> Result<Self, ProcessError> {
        if !Path::new("/proc/self/stat").exists() {
            return Err(ProcessError::NoProc);
        }
        let stat = live_stat(pid).ok_or(ProcessError::NotFound { pid })?;
        let root = Key { pid, started: stat.starttime };
        let mut tree = Self { root, seen: BTreeMap::new() };
        tree.sample()?;
        Ok(tree)
    }

    /// Returns the identity of the process.
    pub fn identity(&self) -> Result<Identity, ProcessError> {
        let stat = self.root_stat()?;
        let path = fs::read_link(of(self.root.pid, "exe")).ok();
        // The kernel marks a file that has been replaced with this suffix.
        let name = path.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy());
        Ok(Identity {
            name: stat.comm,
            executable: name.map(|name| name.trim_end_matches(" (deleted)").to_owned()),
            sha256: digest(&of(self.root.pid, "exe")).ok(),
        })
    }

    /// Reads the counters: a few small files per thread.
    pub fn sample(&mut self) -> Result<Sample, ProcessError> {
        self.root_stat()?;
        let mut sample = Sample::default();
        for pid in self.pids() {
            // A process may end between two lines of this function.
            let Some(stat) = live_stat(pid) else { continue };
            let key = Key { pid, started: stat.starttime };
            let usage = usage(pid, &stat);
            let known = self.seen.entry(key).or_default();
            *known = known.max(usage);
            let resident = StatM::from_file(of(pid, "statm")).map_or(0, |statm| statm.resident);
            sample.resident_bytes += resident * page_size() as u64;
            sample.processes += 1;
            sample.threads += usize::try_from(stat.num_threads).unwrap_or_default();
        }
        self.seen.values().for_each(|usage| sample.usage.add(*usage));
        Ok(sample)
    }

    /// Reads the exact memory. With much memory that takes milliseconds of kernel time, so it is
    /// meant for the times before and after the load, not during it.
    pub fn memory(&self) -> Result<MemoryUsage, ProcessError> {
        self.root_stat()?;
        let (mut memory, mut counted) = (MemoryUsage::default(), BTreeSet::new());
        for pid in self.pids() {
            let (resident_bytes, data_bytes) = shares(pid);
            memory.resident_bytes += resident_bytes;
            memory.data_bytes += data_bytes;
            memory.memory_file_bytes += memory_files(pid)
                .filter(|file| counted.insert((file.dev(), file.ino())))
                .map(|file| file.blocks() * BLOCK_BYTES)
                .sum::<u64>();
        }
        Ok(memory)
    }

    /// Reads the state of the root process, and checks that its pid has not been reused.
    fn root_stat(&self) -> Result<Stat, ProcessError> {
        live_stat(self.root.pid)
            .filter(|stat| stat.starttime == self.root.started)
            .ok_or(ProcessError::Ended { pid: self.root.pid })
    }

    /// Returns the pids of the process tree without this process: a shell that was named by mistake
    /// may be the parent of both.
    pub(super) fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.root.pid];
        let mut next = 0;
        while let Some(pid) = pids.get(next).copied() {
            for child in tasks(pid).flat_map(|task| children(&task)) {
                if child != std::process::id() && !pids.contains(&child) {
                    pids.push(child);
                }
            }
            next += 1;
        }
        pids
    }
}

/// Observes a process tree during a run. Samples that need not be taken at an exact moment are left
/// to the thread for chores, because reading `/proc` takes up to milliseconds.
#[derive(Debug)]
pub struct Watch(Arc<Mutex<WatchState>>);

#[derive(Debug)]
struct WatchState {
    tree: ProcessTree,
    first: Sample,
    last: (f64, Sample),
    /// The whole machine at the first and at the last sample.
    machine: Option<(MachineTimes, MachineTimes)>,
    resident: Series,
    cpu: RateSeries,
    wakeups: RateSeries,
    waits: RateSeries,
    /// Why a sample of the thread for chores failed.
    failed: Option<ProcessError>,
}

impl Watch {
    /// Starts to observe. The series are named after `name`, such as `server_cpu`.
    pub fn start(name: &str, mut tree: ProcessTree) -> Result<Self, ProcessError> {
        let first = tree.sample()?;
        let mut resident = Series::new(&format!("{name}_resident"));
        resident.push(0.0, first.resident_bytes as f64);
        Ok(Self(Arc::new(Mutex::new(WatchState {
            tree,
            first,
            last: (0.0, first),
            machine: machine_now(),
            resident,
            cpu: RateSeries::new(&format!("{name}_cpu")),
            wakeups: RateSeries::new(&format!("{name}_wakeups")),
            waits: RateSeries::new(&format!("{name}_wait")),
            failed: None,
        }))))
    }

    /// Restarts the observation. Usage until now is not counted.
    pub fn restart(&self) -> Result<(), ProcessError> {
        self.state().restart()
    }

    /// Returns the usage before the observation started.
    pub fn used_before(&self) -> Usage {
        self.state().first.usage
    }

    /// Adds a point to each series now.
    pub fn sample(&self, at: Duration) -> Result<Sample, ProcessError> {
        self.state().sample(at)
    }

    /// Adds a point to each series soon, on the thread for chores. It has the time when it was
    /// taken.
    ///
    /// # Errors
    /// An earlier sample of this kind has failed.
    pub fn sample_soon(&self, at: Duration) -> Result<(), ProcessError> {
        // A sample may be under way. Waiting for it would delay the loop; the next call will see
        // its result.
        if let Some(error) = self.0.try_lock().ok().and_then(|state| state.failed.clone()) {
            return Err(error);
        }
        let (watch, asked) = (Self(Arc::clone(&self.0)), alarm::now());
        chores::later(move || {
            let mut state = watch.state();
            let taken = at + alarm::now().since(asked);
            if let Err(error) = state.sample(taken) {
                state.failed = Some(error);
            }
        });
        Ok(())
    }

    /// Returns the usage since the start, as of the last sample.
    pub fn spent(&self) -> Usage {
        let state = self.state();
        state.last.1.usage.since(state.first.usage)
    }

    /// Returns the state of the whole machine at the last sample.
    pub fn machine(&self) -> Option<MachineTimes> {
        self.state().machine.as_ref().map(|(_, last)| last.clone())
    }

    /// Returns the busy time of the machine since the start, as of the last sample.
    pub fn machine_spent(&self) -> Option<BusyTimes> {
        self.state().machine.as_ref().map(|(first, last)| last.since(first))
    }

    /// Reads the exact memory, see [`ProcessTree::memory`].
    pub fn memory(&self) -> Result<MemoryUsage, ProcessError> {
        self.state().tree.memory()
    }

    /// Returns the time that threads waited for a core as a share of the observed time, as of the
    /// last sample. Of several threads it may exceed one.
    pub fn wait_share(&self) -> f64 {
        let observed_s = self.state().last.0;
        self.spent().waited.as_secs_f64() / observed_s.max(f64::MIN_POSITIVE)
    }

    /// Returns the mean time that a thread waited before it got a core.
    pub fn wait_mean(&self) -> Duration {
        let Usage { waited, slices, .. } = self.spent();
        waited.div_f64(slices.max(1) as f64)
    }

    /// Returns the series of resident memory, processor time, wakeups and waits for a core.
    pub fn into_series(self) -> [Series; 4] {
        let state = self.state();
        let rates = [&state.cpu, &state.wakeups, &state.waits];
        let [cpu, wakeups, waits] = rates.map(|rate| rate.clone().into_series());
        [state.resident.clone(), cpu, wakeups, waits]
    }

    fn state(&self) -> MutexGuard<'_, WatchState> {
        // A panic in a sample leaves counters that are only older than they could be.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WatchState {
    fn restart(&mut self) -> Result<(), ProcessError> {
        self.first = self.tree.sample()?;
        self.last = (0.0, self.first);
        self.machine = machine_now();
        self.resident.points.clear();
        self.resident.push(0.0, self.first.resident_bytes as f64);
        self.cpu.restart();
        self.wakeups.restart();
        self.waits.restart();
        Ok(())
    }

    fn sample(&mut self, at: Duration) -> Result<Sample, ProcessError> {
        let (sample, at_s) = (self.tree.sample()?, at.as_secs_f64());
        if let Some(((_, machine), now)) = self.machine.as_mut().zip(MachineTimes::now()) {
            *machine = now;
        }
        if at_s > self.last.0 {
            let spent = sample.usage.since(self.first.usage);
            self.resident.push(at_s, sample.resident_bytes as f64);
            self.cpu.note(at, 100.0 * spent.cpu.as_secs_f64());
            self.wakeups.note(at, spent.wakeups as f64);
            self.waits.note(at, 100.0 * spent.waited.as_secs_f64());
            self.last = (at_s, sample);
        }
        Ok(sample)
    }
}

fn machine_now() -> Option<(MachineTimes, MachineTimes)> {
    MachineTimes::now().map(|now| (now.clone(), now))
}

/// Reason why a process cannot be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessError {
    /// The system has no `/proc`.
    NoProc,
    /// No process has this pid.
    NotFound {
        /// The pid.
        pid: u32,
    },
    /// The process has ended.
    Ended {
        /// The pid.
        pid: u32,
    },
    /// The process is not the server.
    NotListening {
        /// The pid.
        pid: u32,
        /// The address of the target.
        address: SocketAddr,
        /// The process that listens there, if it is known.
        owner: Option<u32>,
    },
    /// No process that may be inspected listens on the address.
    NoListener {
        /// The address of the target.
        address: SocketAddr,
    },
}

impl Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProc => {
                f.write_str("processes can be measured on Linux only: there is no /proc")
            }
            Self::NotFound { pid } => {
                write!(f, "no process {pid}; expected the pid of the server on this machine")
            }
            Self::Ended { pid } => write!(f, "process {pid} ended during the measurement"),
            Self::NotListening { pid, address, owner: Some(owner) } => {
                write!(f, "process {pid} does not listen on {address}; process {owner} does")
            }
            Self::NotListening { pid, address, owner: None } => write!(
                f,
                "process {pid} does not listen on {address}; expected the pid of the server"
            ),
            Self::NoListener { address } => write!(
                f,
                "no process of this machine and user listens on {address}; expected --server-pid \
                 with a pid, or no such flag"
            ),
        }
    }
}

impl std::error::Error for ProcessError {}

/// Returns the usage of a process. Per-thread counts have nanosecond precision but cover live
/// threads only. The sum in `stat` includes ended threads but is in clock ticks. The larger one is
/// used.
fn usage(pid: u32, stat: &Stat) -> Usage {
    let mut usage = Usage::default();
    for task in tasks(pid) {
        let schedstat = Schedstat::from_file(task.join("schedstat")).ok();
        let (ran_ns, waited_ns, slices) = schedstat
            .map_or((0, 0, 0), |times| (times.sum_exec_runtime, times.run_delay, times.pcount));
        let status = Status::from_file(task.join("status")).ok();
        let switches = status.as_ref().and_then(|status| status.voluntary_ctxt_switches);
        let forced = status.as_ref().and_then(|status| status.nonvoluntary_ctxt_switches);
        usage.add(Usage {
            cpu: Duration::from_nanos(ran_ns),
            waited: Duration::from_nanos(waited_ns),
            slices,
            wakeups: switches.unwrap_or_default(),
            preemptions: forced.unwrap_or_default(),
        });
    }
    let ticks = (stat.utime + stat.stime) as f64 / clock_ticks_per_second() as f64;
    usage.cpu = usage.cpu.max(Duration::from_secs_f64(ticks));
    usage
}

/// Returns the proportional set size of a process, and the part of it that is not backed by a file.
/// Falls back to the full resident size if that may not be read.
fn shares(pid: u32) -> (u64, u64) {
    let rollup = SmapsRollup::from_file(of(pid, "smaps_rollup")).ok();
    let all = rollup.and_then(|rollup| rollup.memory_map_rollup.0.into_iter().next());
    let share = |name: &str| all.as_ref()?.extension.map.get(name).copied();
    let resident = share("Pss").unwrap_or_else(|| {
        StatM::from_file(of(pid, "statm")).map_or(0, |statm| statm.resident * page_size() as u64)
    });
    let data = share("Pss_Anon").map(|data| data + share("Pss_Shmem").unwrap_or_default());
    (resident, data.unwrap_or(resident))
}

/// Returns the memory files that a process holds open.
fn memory_files(pid: u32) -> impl Iterator<Item = fs::Metadata> {
    let is_memory = |path: &PathBuf| {
        fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:"))
    };
    entries(of(pid, "fd")).filter(is_memory).filter_map(|path| fs::metadata(path).ok())
}

/// Reads `stat` of a process, unless it has ended.
fn live_stat(pid: u32) -> Option<Stat> {
    let stat = Stat::from_file(of(pid, "stat")).ok()?;
    (!matches!(stat.state, 'Z' | 'X' | 'x')).then_some(stat)
}

/// Returns the parent of a process.
pub(super) fn parent(pid: u32) -> Option<u32> {
    live_stat(pid).and_then(|stat| u32::try_from(stat.ppid).ok())
}

/// Returns the inodes of the sockets that a process holds, unless its descriptors may not be read.
pub(super) fn socket_inodes(pid: u32) -> Option<Vec<u64>> {
    let descriptors = fs::read_dir(of(pid, "fd")).ok()?;
    let inode = |path: PathBuf| {
        let link = fs::read_link(path).ok()?;
        link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    Some(descriptors.filter_map(|entry| inode(entry.ok()?.path())).collect())
}

/// Returns the `/proc` directories of the threads of a process.
fn tasks(pid: u32) -> impl Iterator<Item = PathBuf> {
    entries(of(pid, "task"))
}

/// Returns the pids of the child processes that a thread has started.
fn children(task: &Path) -> Vec<u32> {
    let text = fs::read_to_string(task.join("children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn entries(folder: PathBuf) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

fn of(pid: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut buffer) = (File::open(path)?, Sha256::new(), [0; 64 * 1024]);
    loop {
        let count = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        hash.update(bytes);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{self, Child, ChildStdin, Command, Stdio};

    use super::*;

    /// Larger than any pid of Linux.
    const NOBODY: u32 = 1 << 30;

    /// A shell that has printed `ready` and lives until its input is closed.
    struct Shell {
        child: Child,
        input: Option<ChildStdin>,
    }

    impl Shell {
        fn run(script: &str) -> Self {
            let mut child = Command::new("sh")
                .args(["-c", script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, "ready\n");
            Self { input: child.stdin.take(), child }
        }

        fn tree(&self) -> ProcessTree {
            ProcessTree::open(self.child.id()).unwrap()
        }
    }

    impl Drop for Shell {
        fn drop(&mut self) {
            drop(self.input.take());
            self.child.wait().unwrap();
        }
    }

    #[test]
    fn own_process_is_there_with_memory_and_threads() {
        let mut tree = ProcessTree::open(process::id()).unwrap();
        let sample = tree.sample().unwrap();
        assert!(sample.processes >= 1 && sample.threads >= 2, "{sample:?}");
        assert!(sample.resident_bytes > 500_000, "{sample:?}");
        let memory = tree.memory().unwrap();
        assert!(memory.resident_bytes > 100_000, "{memory:?}");
        assert!((1..memory.resident_bytes).contains(&memory.data_bytes), "{memory:?}");
    }

    #[test]
    fn process_is_identified_by_its_file() {
        let shell = Shell::run("echo ready; read _");
        let identity = shell.tree().identity().unwrap();
        let file = fs::read_link(of(shell.child.id(), "exe")).unwrap();
        let digest: String = Sha256::digest(fs::read(&file).unwrap())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(identity.name, "sh");
        assert_eq!(identity.executable.as_deref(), file.file_name().unwrap().to_str());
        assert_eq!(identity.sha256, Some(digest));
    }

    #[test]
    fn processor_time_and_wakeups_rise_with_the_work() {
        let mut tree = ProcessTree::open(process::id()).unwrap();
        let first = tree.sample().unwrap().usage;
        let mut usage = first;
        while usage.since(first).cpu < Duration::from_millis(30) || usage.since(first).wakeups < 10
        {
            std::thread::sleep(Duration::from_micros(1));
            let last = usage;
            usage = tree.sample().unwrap().usage;
            assert_eq!(last.since(usage), Usage::default(), "a count fell: {last:?} {usage:?}");
        }
    }

    #[test]
    fn children_and_their_children_are_counted() {
        let one = Shell::run("echo ready; read _");
        let alone = one.tree().sample().unwrap();
        assert_eq!((alone.processes, alone.threads), (1, 1));
        let three = Shell::run("exec 3<&0; (cat <&3; true) & cat <&3 & echo ready; wait");
        // The cat in parentheses may not have been started yet.
        let mut tree = three.tree();
        let mut sample = tree.sample().unwrap();
        while sample.processes < 4 {
            sample = tree.sample().unwrap();
        }
        assert_eq!((sample.processes, sample.threads), (4, 4));
        assert!(sample.resident_bytes > alone.resident_bytes);
    }

    #[test]
    fn the_usage_of_a_child_still_counts_after_its_end() {
        let burn = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let mut shell =
            Shell::run(&format!("exec 3<&0; sh -c '{burn}; echo ready; read _' <&3; :"));
        let mut tree = shell.tree();
        let before = tree.sample().unwrap();
        assert_eq!(before.processes, 2);
        assert!(before.usage.cpu > Duration::ZERO);
        // The line ends the inner shell. Closing the input ends nothing else.
        io::Write::write_all(shell.input.as_mut().unwrap(), b"\n").unwrap();
        while let Ok(sample) = tree.sample() {
            assert!(sample.usage.cpu >= before.usage.cpu);
        }
    }

    #[test]
    fn missing_and_ended_processes_are_errors_of_one_line() {
        let error = ProcessTree::open(NOBODY).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no process 1073741824; expected the pid of the server on this machine"
        );
        let shell = Shell::run("echo ready; read _");
        let (pid, mut tree) = (shell.child.id(), shell.tree());
        drop(shell);
        assert_eq!(tree.sample(), Err(ProcessError::Ended { pid }));
        assert_eq!(tree.memory(), Err(ProcessError::Ended { pid }));
        assert_eq!(tree.identity(), Err(ProcessError::Ended { pid }));
    }

    #[test]
    fn a_reused_pid_is_not_the_same_process() {
        let shell = Shell::run("echo ready; read _");
        let mut tree = shell.tree();
        tree.root.started -= 1;
        assert_eq!(tree.sample(), Err(ProcessError::Ended { pid: shell.child.id() }));
    }

    #[test]
    fn memory_files_count_by_their_allocated_blocks() {
        use rustix::fs::{MemfdFlags, memfd_create};
        use rustix::io::write;

        let tree = ProcessTree::open(process::id()).unwrap();
        let file = memfd_create("tape", MemfdFlags::CLOEXEC).unwrap();
        let again = file.try_clone().unwrap();
        write(&file, &[7; 100_000]).unwrap();
        let (with, held) = (tree.memory().unwrap().memory_file_bytes, 25 * 4096);
        assert_eq!(with, held, "the same file by two descriptors");
        drop((file, again));
        assert_eq!(tree.memory().unwrap().memory_file_bytes, 0);
    }

    #[test]
    fn a_restarted_watch_forgets_earlier_usage() {
        let shell = Shell::run("echo ready; read _");
        let watch = Watch::start("server", shell.tree()).unwrap();
        watch.sample(Duration::from_secs(1)).unwrap();
        let used = watch.used_before().cpu + watch.spent().cpu;
        watch.restart().unwrap();
        assert!(watch.used_before().cpu >= used && used > Duration::ZERO);
        assert_eq!(watch.spent(), Usage::default());
        let lengths = watch.into_series().map(|series| series.points.len());
        assert_eq!(lengths, [1, 0, 0, 0]);
    }

    #[test]
    fn samples_are_taken_on_another_thread_and_their_errors_are_told_afterwards() {
        let shell = Shell::run("echo ready; read _");
        let watch = Watch::start("server", shell.tree()).unwrap();
        // The thread for chores is held up, so that a sample cannot have been taken meanwhile.
        let (release, held) = std::sync::mpsc::channel::<()>();
        chores::later(move || assert!(held.recv().is_err()));
        watch.sample_soon(Duration::from_secs(1)).unwrap();
        assert_eq!(watch.state().resident.points.len(), 1);
        drop(release);
        wait_for_chores();
        assert_eq!(watch.state().resident.points.len(), 2);
        let pid = shell.child.id();
        drop(shell);
        watch.sample_soon(Duration::from_secs(2)).unwrap();
        wait_for_chores();
        let error = Err(ProcessError::Ended { pid });
        assert_eq!(watch.sample_soon(Duration::from_secs(3)), error);
    }

    /// Waits until all chores handed over so far are done.
    fn wait_for_chores() {
        let (sender, done) = std::sync::mpsc::channel::<()>();
        chores::later(move || drop(sender));
        assert!(done.recv().is_err());
    }

    #[test]
    fn watch_makes_a_series_of_each_kind() {
        let shell = Shell::run("echo ready; read _");
        let watch = Watch::start("server", shell.tree()).unwrap();
        for at_s in [1, 2, 2, 3] {
            watch.sample(Duration::from_secs(at_s)).unwrap();
        }
        let series = watch.into_series();
        let shapes = series.each_ref().map(|series| (series.name.as_str(), series.points.len()));
        let points = [("server_cpu", 3), ("server_wakeups", 3), ("server_wait", 3)];
        assert_eq!(shapes[0], ("server_resident", 4));
        assert_eq!(shapes[1..], points);
        // The exact usage is unknown: the shell may still be falling asleep.
        let times = series[1].points.iter().map(|(at_s, _)| *at_s);
        assert_eq!(times.collect::<Vec<_>>(), [1.0, 2.0, 3.0]);
        assert!(series[0].points.iter().all(|(_, bytes)| *bytes > 0.0));
    }
}
