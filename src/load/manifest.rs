//! The manifest of a measurement: the facts that a reader needs to repeat the measurement, and to
//! judge whether two measurements can be compared.
//!
//! Owns the list of these facts and where they are read. The manifest never contains the host name,
//! a user name, or the login, key or query of the target.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

use ::time::UtcDateTime;
use ::time::format_description::well_known::Rfc3339;
use procfs_core::{CpuInfo, FromRead, Meminfo};
use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};
use rustix::system::uname;
use serde::{Deserialize, Serialize};

use super::process::Identity;
use super::report::ReportError;

/// Kernel settings that affect socket buffers and the rate of new sessions.
const SYSCTLS: [&str; 9] = [
    "net.core.somaxconn",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.ip_local_port_range",
    "fs.nr_open",
];

/// The setup of a measurement: program, parameters, machine and time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the generator.
    pub tiderace_version: String,
    /// A name that the user gave the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The server, with secrets removed by [`shown_target`].
    pub target: String,
    /// The flags of the command and their values.
    pub parameters: BTreeMap<String, String>,
    /// Start time in UTC.
    pub started_utc: String,
    /// Duration in seconds.
    pub duration_s: f64,
    /// The machine that the generator ran on.
    pub machine: Machine,
    /// The measured process, if its pid was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Identity>,
}

/// The machine that the generator runs on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Name and release of the kernel.
    pub kernel: String,
    /// The instruction set.
    pub architecture: String,
    /// The model name of the processor.
    pub cpu_model: String,
    /// Number of processors that this process may use.
    pub cpus: usize,
    /// The frequency governor of the processor, if the kernel reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub governor: Option<String>,
    /// Size of the memory.
    pub memory_bytes: u64,
    /// Size of a memory page.
    pub page_bytes: usize,
    /// Descriptor limit of the process.
    pub descriptors_max: u64,
    /// Kernel settings, as far as they are readable.
    pub sysctls: BTreeMap<String, String>,
}

impl Manifest {
    /// Returns the manifest of a run that starts now.
    pub fn new(target: &str, parameters: BTreeMap<String, String>) -> Self {
        Self {
            tiderace_version: env!("CARGO_PKG_VERSION").to_owned(),
            label: None,
            target: shown_target(target),
            parameters,
            started_utc: utc(SystemTime::now()),
            duration_s: 0.0,
            machine: Machine::this(),
            server: None,
        }
    }

    /// Returns the start time, if it can be parsed.
    pub fn started(&self) -> Option<SystemTime> {
        UtcDateTime::parse(&self.started_utc, &Rfc3339).ok().map(SystemTime::from)
    }

    /// Returns the conditions, by name, that must be equal for two runs to be comparable. The
    /// target and its process are not included, because those are what is being compared.
    pub fn conditions(&self) -> BTreeMap<String, String> {
        let machine = &self.machine;
        let mut conditions = BTreeMap::from([
            ("generator".to_owned(), self.tiderace_version.clone()),
            ("kernel".to_owned(), machine.kernel.clone()),
            ("architecture".to_owned(), machine.architecture.clone()),
            ("CPU".to_owned(), machine.cpu_model.clone()),
            ("CPUs".to_owned(), machine.cpus.to_string()),
            ("governor".to_owned(), machine.governor.clone().unwrap_or_default()),
            ("memory_bytes".to_owned(), machine.memory_bytes.to_string()),
        ]);
        let parameters = self.parameters.iter();
        conditions.extend(parameters.map(|(name, value)| (format!("--{name}"), value.clone())));
        let sysctls = machine.sysctls.iter();
        conditions.extend(sysctls.map(|(name, value)| (name.clone(), value.clone())));
        conditions
    }

    /// Merges the times of another process that shared the work.
    pub(super) fn merge(&mut self, other: Self) -> Result<(), ReportError> {
        let mut all = [self.conditions(), other.conditions()];
        for (conditions, manifest) in all.iter_mut().zip([&*self, &other]) {
            conditions.insert("target".to_owned(), manifest.target.clone());
        }
        let [ours, theirs] = all;
        if let Some(Difference { what, ours, theirs }) = differences(&ours, &theirs).next() {
            return Err(ReportError::Disagree { what, ours, theirs });
        }
        self.duration_s = self.duration_s.max(other.duration_s);
        if other.started_utc < self.started_utc {
            self.started_utc = other.started_utc;
        }
        self.server = self.server.take().or(other.server);
        Ok(())
    }
}

/// A condition that differs between two runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The name of the condition.
    pub what: String,
    /// The value in the first run, or a dash if it has none.
    pub ours: String,
    /// The value in the second run, or a dash.
    pub theirs: String,
}

/// Returns the conditions that differ between two runs.
pub fn differences<'a>(
    ours: &'a BTreeMap<String, String>,
    theirs: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = Difference> + 'a {
    let text = |value: Option<&String>| value.map_or("-", String::as_str).to_owned();
    let only_theirs = theirs.keys().filter(|name| !ours.contains_key(*name));
    ours.keys().chain(only_theirs).filter(|name| ours.get(*name) != theirs.get(*name)).map(
        move |name| Difference {
            what: name.clone(),
            ours: text(ours.get(name)),
            theirs: text(theirs.get(name)),
        },
    )
}

impl Machine {
    /// Reads the facts of this machine. Unreadable facts stay empty.
    fn this() -> Self {
        let system = uname();
        let text = |field: &std::ffi::CStr| field.to_string_lossy().into_owned();
        Self {
            kernel: format!("{} {}", text(system.sysname()), text(system.release())),
            architecture: text(system.machine()),
            cpu_model: cpu_model(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            memory_bytes: Meminfo::from_file("/proc/meminfo").map_or(0, |memory| memory.mem_total),
            page_bytes: page_size(),
            descriptors_max: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            sysctls: SYSCTLS
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), sysctl(name)?)))
                .collect(),
        }
    }
}

/// Returns a URL without its secrets: the login, the query, and the last path segment, the key.
pub fn shown_target(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let mut shown = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    shown.push_str(host);
    if let Some((application, _)) = path.rsplit_once('/') {
        shown.extend(["/", application, "/…"]);
    } else if !path.is_empty() {
        shown.extend(["/", path]);
    }
    shown
}

fn utc(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs());
    UtcDateTime::from(whole).format(&Rfc3339).unwrap_or_default()
}

fn cpu_model() -> String {
    let model = CpuInfo::from_file("/proc/cpuinfo").ok();
    model.and_then(|info| info.model_name(0).map(str::to_owned)).unwrap_or_default()
}

fn sysctl(name: &str) -> Option<String> {
    let value = line(&format!("/proc/sys/{}", name.replace('.', "/")))?;
    Some(value.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Reads a kernel file of one line.
fn line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_is_shown_without_secrets() {
        for (url, expected) in [
            ("rtmp://127.0.0.1:1935/live/show", "rtmp://127.0.0.1:1935/live/…"),
            ("rtmp://camera:pass@host/studio/key?token=1", "rtmp://host/studio/…"),
            ("rtmp://u:p@ss@[::1]:1935/a/b/key#part", "rtmp://[::1]:1935/a/b/…"),
            ("rtmp://host/live", "rtmp://host/live"),
            ("rtmp://host", "rtmp://host"),
            ("127.0.0.1:1935", "127.0.0.1:1935"),
            ("rtmp://host/live?key=/secret/x", "rtmp://host/live"),
        ] {
            assert_eq!(shown_target(url), expected, "{url}");
        }
    }

    #[test]
    fn manifest_of_this_machine_is_filled_and_names_neither_host_nor_user() {
        let manifest = Manifest::new("rtmp://127.0.0.1/live/a", BTreeMap::new());
        let text = serde_json::to_string(&manifest).unwrap();
        let host = uname().nodename().to_string_lossy().into_owned();
        assert!(host.is_empty() || !text.contains(&format!("\"{host}\"")), "{text}");
        assert!(!text.contains("/home/"), "{text}");
        assert!(manifest.machine.cpus > 0 && manifest.machine.page_bytes >= 4096, "{text}");
        if cfg!(target_os = "linux") {
            assert!(manifest.machine.kernel.starts_with("Linux "), "{text}");
            assert!(manifest.machine.memory_bytes > 0, "{text}");
            assert!(manifest.machine.sysctls.contains_key("net.core.somaxconn"), "{text}");
        }
    }

    #[test]
    fn date_is_written_in_whole_seconds_of_utc_and_reads_back() {
        let mut manifest = Manifest::new("h", BTreeMap::new());
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_900);
        manifest.started_utc = utc(at);
        assert_eq!(manifest.started_utc, "2023-11-14T22:13:20Z");
        assert_eq!(manifest.started(), Some(at - Duration::from_millis(900)));
        manifest.started_utc = "yesterday".to_owned();
        assert_eq!(manifest.started(), None);
    }

    #[test]
    fn processes_that_share_the_work_have_one_start_and_the_longest_duration() {
        let mut manifest = Manifest::new("h", BTreeMap::new());
        let mut other = manifest.clone();
        (manifest.started_utc, manifest.duration_s) = ("2026-01-01T00:00:01Z".to_owned(), 10.0);
        (other.started_utc, other.duration_s) = ("2026-01-01T00:00:00Z".to_owned(), 12.0);
        manifest.merge(other.clone()).unwrap();
        assert_eq!(manifest, other);
    }

    #[test]
    fn conditions_that_differ_are_named_with_both_values() {
        let manifest = Manifest::new("h", BTreeMap::from([("rate".to_owned(), "1".to_owned())]));
        let mut other = manifest.clone();
        other.target = "another".to_owned();
        other.duration_s = 1.0;
        assert_eq!(differences(&manifest.conditions(), &other.conditions()).count(), 0);
        other.parameters = BTreeMap::from([("hold".to_owned(), "2".to_owned())]);
        other.machine.kernel = "Linux 1".to_owned();
        let (ours, theirs) = (manifest.conditions(), other.conditions());
        let found: Vec<_> = differences(&ours, &theirs)
            .map(|difference| (difference.what, difference.theirs))
            .collect();
        let expected = [("--rate", "-"), ("kernel", "Linux 1"), ("--hold", "2")];
        assert_eq!(found, expected.map(|(what, theirs)| (what.to_owned(), theirs.to_owned())));
    }
}
