//! One measurement from its first check to its report. Before the run it checks the server, its
//! process and the descriptor limit. After the run it collects the figures and judges whether they
//! are reliable.
//!
//! Owns the steps that all commands have in common before and after their run. It knows no
//! scenario.

use std::collections::BTreeMap;
use std::time::Duration;

use super::LoadError;
use super::chores;
use super::engine::{Plan, Speak};
use super::machine::BusyTimes;
use super::measured::Measured;
use super::options::{Options, Outputs};
use super::own_delay;
use super::process::{ProcessTree, Usage, Watch};
use super::processes::Sharing;
use super::report::{Figure, JudgedThreshold, LoadReport, Need, Threshold};
use super::scout;
use super::target::{Target, check_descriptors};

/// See the module's head.
#[derive(Debug)]
pub struct Measurement {
    /// The report under construction.
    pub report: LoadReport,
    /// Observes the server process, if its pid is known.
    pub server: Option<Watch>,
    plan: Plan,
    /// Thresholds that end the run as soon as they are missed beyond repair.
    abort_on: Vec<Threshold>,
    /// Those of them that were.
    broken: Vec<JudgedThreshold>,
    /// See [`Options::lateness_max_ms`].
    lateness_max: Option<Duration>,
}

impl Measurement {
    /// Prepares a measurement of `target` with at most `connections` at once. `parameters` are the
    /// flags of the command itself.
    ///
    /// # Errors
    /// Anything that would make the run fail: no server listens, the process does not exist, the
    /// descriptor limit is too low, or a file cannot be written.
    pub fn prepare(
        command: &str,
        target: Target,
        options: &Options,
        connections: usize,
        parameters: BTreeMap<String, String>,
    ) -> Result<Self, LoadError> {
        Self::prepare_share(&Sharing::NONE, command, target, options, connections, parameters)
    }

    /// Prepares a measurement whose work may be shared; `connections` is the number of this
    /// process. A helper does not probe the server, observe it or write files, because the first
    /// process does that.
    ///
    /// # Errors
    /// As for [`Measurement::prepare`].
    pub fn prepare_share(
        sharing: &Sharing,
        command: &str,
        target: Target,
        options: &Options,
        connections: usize,
        mut parameters: BTreeMap<String, String>,
    ) -> Result<Self, LoadError> {
        let is_helper = sharing.helper.is_some();
        check_descriptors(connections, sharing.descriptors())?;
        chores::start();
        if !is_helper {
            options.check(command)?;
            target.probe()?;
        }
        parameters.extend(options.parameters());
        let mut report = LoadReport::new(command, target.manifest(parameters));
        report.manifest.label.clone_from(&options.outputs.label);
        let server_pid = options.server_pid.filter(|_| !is_helper);
        let server = server_pid.map(|pid| pid.open(target.address)).transpose()?;
        report.manifest.server = server.as_ref().map(ProcessTree::identity).transpose()?;
        let server = server.map(|tree| Watch::start("server", tree)).transpose()?;
        let plan = Plan {
            target,
            duration: Duration::MAX,
            timeout: options.timeout_s,
            is_busy: options.busy,
            shows_progress: options.shows_progress() && !is_helper,
            is_helper,
        };
        let Outputs { fail_if, abort_on_fail, .. } = &options.outputs;
        let abort_on = if *abort_on_fail { fail_if.clone() } else { Vec::new() };
        let lateness_max = options.lateness_max_ms;
        Ok(Self { report, server, plan, abort_on, broken: Vec::new(), lateness_max })
    }

    /// Returns the parameters of a run, which ends after `duration_max` in any case.
    pub fn plan(&self, duration_max: Duration) -> Plan {
        Plan { duration: duration_max, ..self.plan.clone() }
    }

    /// Returns how late the generator may be. See [`Options::lateness_max_ms`].
    pub const fn lateness_max(&self) -> Option<Duration> {
        self.lateness_max
    }

    /// Runs the scout, one session that speaks as `speak` defines for the target. Afterwards
    /// restarts the observation of the server. A helper leaves that to the first process.
    ///
    /// # Errors
    /// The failure that all sessions would meet, or the end of the server.
    pub fn scout(&mut self, speak: impl FnOnce(&Target) -> Speak) -> Result<(), LoadError> {
        if self.plan.is_helper {
            return Ok(());
        }
        scout::run(self.plan.clone(), speak(&self.plan.target))?;
        if let Some(server) = &self.server {
            server.restart()?;
        }
        Ok(())
    }

    /// Samples the server, `at` since the start of the run, on the thread for chores. To be called
    /// once a second.
    ///
    /// # Errors
    /// The server has ended.
    pub fn sample_soon(&self, at: Duration) -> Result<(), LoadError> {
        if let Some(server) = &self.server {
            server.sample_soon(at)?;
        }
        Ok(())
    }

    /// Samples the server now, `at` since the start of the run.
    ///
    /// # Errors
    /// The server has ended.
    pub fn sample(&self, at: Duration) -> Result<(), LoadError> {
        if let Some(server) = &self.server {
            server.sample(at)?;
        }
        Ok(())
    }

    /// Returns whether the run is to end, because a threshold can no longer be met. `growing` are
    /// figures as of now that never fall. To be called once a second.
    pub fn is_beyond_repair(&mut self, growing: &[(String, f64)]) -> bool {
        let Self { abort_on, broken, .. } = self;
        abort_on.retain(|threshold| {
            let judged = |(name, value): &(String, f64)| threshold.beyond_repair(name, *value);
            let found = growing.iter().find_map(judged);
            let is_open = found.is_none();
            broken.extend(found);
            is_open
        });
        !broken.is_empty()
    }

    /// Returns the usage of the server since the start of the run, as of the last sample.
    pub fn spent(&self) -> Option<Usage> {
        self.server.as_ref().map(Watch::spent)
    }

    /// Returns the busy time of the machine since the start of the run, as of the last sample.
    pub fn machine_spent(&self) -> Option<BusyTimes> {
        self.server.as_ref().and_then(Watch::machine_spent)
    }

    /// Adds the figures of the generator itself. Of everything that needs [`Need::Punctuality`],
    /// withholds what may be the generator's own delay.
    pub fn finish(mut self, measured: &Measured) -> LoadReport {
        let mut report = self.report;
        report.manifest.duration_s = measured.elapsed.as_secs_f64();
        for (name, share) in [
            ("generator_cpu_share", measured.cpu_share()),
            ("generator_wait_share", measured.wait_share()),
        ] {
            report.add_figure(Figure::new(name, share));
        }
        // A lost schedule is the reason for the lateness, too, and is reported alone.
        if let Some(reason) = measured.overloaded() {
            report.withhold_if_needs(Need::Punctuality, &reason);
            report.add_doubt(format!("{reason}. No figure of this run describes the server."));
            report.overloaded = Some(reason);
        } else if let Some(reason) =
            own_delay::judge(&mut report, measured, Need::Punctuality, self.lateness_max)
        {
            report.add_doubt(reason.clone());
            report.lagged = Some(reason);
        }
        if !self.broken.is_empty() {
            report.add_doubt("the run was ended early: a threshold was missed beyond repair");
            report.thresholds = self.broken;
        }
        if measured.is_interrupted {
            report.add_doubt("the run was interrupted before its time was over");
        }
        report.distributions.extend([measured.lateness.clone(), measured.read_delay.clone()]);
        if let Some(server) = self.server.take() {
            add_waits(&mut report, &server);
            report.series.extend(server.into_series());
        }
        report
    }
}

/// Share of the time above which a server that waits for a core is a doubt about its figures.
const SERVER_WAIT_SHARE_MAX: f64 = 0.05;

/// Adds for how long the threads of the server waited for a core: in total, and each time. It is
/// the error bar of every delay of the server. It is no reason to withhold one, because threads of
/// a server that wait for each other are its own doing.
fn add_waits(report: &mut LoadReport, server: &Watch) {
    let (share, mean) = (server.wait_share(), server.wait_mean());
    for (name, value) in
        [("server_wait_share", share), ("server_wait_mean_us", mean.as_secs_f64() * 1e6)]
    {
        report.add_figure(Figure::new(name, value));
    }
    if share > SERVER_WAIT_SHARE_MAX {
        let percent = 100.0 * share;
        report.add_doubt(format!(
            "the server waited for a core {percent:.0} % of the time, {mean:?} each time: its \
             delays include those of the machine; give it cores that nothing else uses"
        ));
    }
}
