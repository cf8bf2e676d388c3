//! One measurement from its first check to its report: the server is there, the process is the
//! right one, the descriptors suffice; then what was found, and whether it is to be believed.
//!
//! Owns what all commands do before and after their run. It knows no scenario.

use std::collections::BTreeMap;
use std::time::Duration;

use super::LoadError;
use super::engine::Plan;
use super::measured::Measured;
use super::options::Options;
use super::process::{ProcessTree, Usage, Watch};
use super::report::{Better, Figure, Report};
use super::target::{Target, check_descriptors};

/// See the module's head.
#[derive(Debug)]
pub struct Measurement {
    /// What is found.
    pub report: Report,
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
        mut parameters: BTreeMap<String, String>,
    ) -> Result<Self, LoadError> {
        check_descriptors(connections)?;
        options.outputs.check()?;
        target.probe()?;
        parameters.extend(options.parameters());
        let mut report = Report::new(command, target.manifest(parameters));
        report.manifest.label.clone_from(&options.outputs.label);
        let server = options.server_pid.map(ProcessTree::open).transpose()?;
        report.manifest.server = server.as_ref().map(ProcessTree::identity).transpose()?;
        let server = server.map(|tree| Watch::start("server", tree)).transpose()?;
        let plan = Plan {
            target,
            duration: Duration::MAX,
            timeout: options.timeout_s,
            is_busy: options.busy,
            shows_progress: options.shows_progress(),
        };
        Ok(Self { report, server, plan, lateness_max: options.lateness_max_ms })
    }

    /// What the run is given. It ends by itself after `duration_max`, whatever happens.
    pub fn plan(&self, duration_max: Duration) -> Plan {
        Plan { duration: duration_max, ..self.plan.clone() }
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
    pub fn finish(mut self, measured: &Measured, depends_on_time: &[&str]) -> Report {
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
