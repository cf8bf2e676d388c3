//! One measurement from its first check to its report: the server is there, the process is the
//! right one, the descriptors suffice; then what was found, and whether it is to be believed.
//!
//! Owns what all commands do before and after their run. It knows no scenario.

use std::collections::BTreeMap;
use std::time::Duration;

use super::LoadError;
use super::engine::{Plan, Speak};
use super::measured::Measured;
use super::options::Options;
use super::process::{ProcessTree, Usage, Watch};
use super::processes::Sharing;
use super::report::{Better, Figure, LoadReport};
use super::scout;
use super::target::{Target, check_descriptors};

/// See the module's head.
#[derive(Debug)]
pub struct Measurement {
    /// What is found.
    pub report: LoadReport,
    /// What it costs the server, if it was told which process that is.
    pub server: Option<Watch>,
    plan: Plan,
    /// See [`Options::lateness_max_ms`].
    lateness_max: Duration,
}

impl Measurement {
    /// Makes ready to measure `target`, with as many as `connections` at once. `parameters` are
    /// the command's own, by their flags.
    ///
    /// # Errors
    /// Whatever would let the run fail: nobody listens, there is no such process, there are too
    /// few descriptors, or a file cannot be written.
    pub fn prepare(
        command: &str,
        target: Target,
        options: &Options,
        connections: usize,
        parameters: BTreeMap<String, String>,
    ) -> Result<Self, LoadError> {
        Self::prepare_share(&Sharing::NONE, command, target, options, connections, parameters)
    }

    /// The same for work that may be shared, of which `connections` are this process's. A helper
    /// of another, which has seen to that, neither asks whether anybody listens, nor looks at the
    /// server, nor writes files.
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
        if !is_helper {
            options.outputs.check()?;
            target.probe()?;
        }
        parameters.extend(options.parameters());
        let mut report = LoadReport::new(command, target.manifest(parameters));
        report.manifest.label.clone_from(&options.outputs.label);
        let server_pid = options.server_pid.filter(|_| !is_helper);
        let server = server_pid.map(ProcessTree::open).transpose()?;
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
        Ok(Self { report, server, plan, lateness_max: options.lateness_max_ms })
    }

    /// What the run is given. It ends by itself after `duration_max`, whatever happens.
    pub fn plan(&self, duration_max: Duration) -> Plan {
        Plan { duration: duration_max, ..self.plan.clone() }
    }

    /// Sends one session ahead, which says what `speak` gives for the target, and begins to count
    /// what the server uses behind it. A helper leaves that to the first process.
    ///
    /// # Errors
    /// What all sessions would meet, and that the server has ended.
    pub fn scout(&mut self, speak: impl FnOnce(&Target) -> Speak) -> Result<(), LoadError> {
        if self.plan.is_helper {
            return Ok(());
        }
        scout::run(self.plan.clone(), speak(&self.plan.target))?;
        if let Some(server) = &mut self.server {
            server.restart()?;
        }
        Ok(())
    }

    /// Notes what the server has cost by now, `at` since the run began; to be called each second.
    ///
    /// # Errors
    /// The server has ended.
    pub fn sample(&mut self, at: Duration) -> Result<(), LoadError> {
        if let Some(server) = &mut self.server {
            server.sample(at)?;
        }
        Ok(())
    }

    /// What the server has used since the run began, as of the last sample.
    pub fn spent(&self) -> Option<Usage> {
        self.server.as_ref().map(Watch::spent)
    }

    /// Adds how the generator itself has fared. Where it did not keep up, what bears one of the
    /// names in `depends_on_time` is withheld.
    pub fn finish(mut self, measured: &Measured, depends_on_time: &[&str]) -> LoadReport {
        let mut report = self.report;
        report.manifest.duration_s = measured.elapsed.as_secs_f64();
        let share = Figure::new("generator_cpu_share", measured.cpu_share(), Better::Lower);
        report.add_figure(share.worst_of_all());
        if let Some(reason) = measured.lagged(self.lateness_max) {
            depends_on_time.iter().for_each(|name| report.withhold(name, &reason));
            report.add_doubt(reason.clone());
            report.lagged = Some(reason);
        }
        if measured.is_interrupted {
            report.add_doubt("it was interrupted before its time was over");
        }
        report.distributions.push(measured.lateness.clone());
        if let Some(server) = self.server.take() {
            report.series.extend(server.into_series());
        }
        report
    }
}
