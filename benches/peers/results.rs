//! From the rounds of a workload to its rows: medians, ratios with intervals, and verdicts.
//!
//! Owns which rounds count. A round is disturbed if the host of this virtual machine took time from
//! it, or if other processes did. It is disturbed as well if the cost of a floor is far from its
//! median: the floor does the same work every time, so something else ran. Ratios compare figures
//! of the same round, so a drift of the machine affects both sides. Quantiles are those of the
//! histograms of all rounds, added.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use tiderace::load::report::LoadReport;

use crate::Result;
use crate::lab::Lab;
use crate::peer::Peer;
use crate::record::{Place, Round, RowResult, Run, Work};
use crate::statistics::{Estimate, Verdict, bootstrap, has_quantile, hodges_lehmann, judge};
use crate::support::random::Random;
use crate::table::number;
use crate::workloads::{Against, Goal, Measure, Row, Workload, load_line};

/// Share of the time of all cores that the host may take.
const STOLEN_SHARE_MAX: f64 = 0.02;
/// Share of the busy time that is neither the server's nor the generator's.
const FOREIGN_SHARE_MAX: f64 = 0.4;
/// Share of a core below which others do not matter, however little the server has to do.
const FOREIGN_CORE_MIN: f64 = 0.05;
/// Deviation of a floor from its median.
const FLOOR_DEVIATION_MAX: f64 = 0.2;
/// The cost by which floors are compared.
const FLOOR_COST: &str = "machine_busy_s_per_gb";
/// A peer whose median latency is above this holds frames, and is not compared with.
const HOLDS_FRAMES_MS: f64 = 50.0;
/// The rounds of a bootstrap are chosen alike in every run.
const SEED: u64 = 15;

/// The rounds of a workload, with the histograms of each run.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    workload: &'a Workload,
    /// All servers; the goals apply to the first.
    peers: Vec<Peer>,
    rounds: Vec<(Round, Vec<Histograms>)>,
}

/// The histograms of one run by name, in the order of the runs.
type Histograms = BTreeMap<String, Histogram<u64>>;

impl<'a> Outcome<'a> {
    pub(crate) const fn new(workload: &'a Workload, peers: Vec<Peer>) -> Self {
        Self { workload, peers, rounds: Vec::new() }
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.len()
    }

    /// Returns the number of rounds that count.
    pub(crate) fn clean_rounds(&self) -> usize {
        self.clean().count()
    }

    /// Adds a round, with the report of each server in the order of measurement.
    pub(crate) fn add(&mut self, lab: &Lab, reports: Vec<(Peer, LoadReport)>) {
        let (mut runs, mut histograms) = (Vec::new(), Vec::new());
        for (peer, report) in reports {
            let names = self.histogram_names();
            let kept = report.distributions.iter().filter(|known| names.contains(&known.name()));
            let kept = kept.map(|known| (known.name().to_owned(), known.histogram().clone()));
            histograms.push(kept.collect());
            let figures = report.figures.iter();
            let figures = figures.filter_map(|figure| Some((figure.name.clone(), figure.value?)));
            runs.push(Run { server: peer.label(&lab.users), figures: figures.collect() });
        }
        let mut round = Round { disturbed: None, runs };
        round.disturbed = stolen(&round).or_else(|| foreign(&round));
        self.rounds.push((round, histograms));
    }

    /// Marks rounds in which a floor is far from its median. Returns their number.
    pub(crate) fn mark_outliers(&mut self, lab: &Lab) -> usize {
        let floors: Vec<_> = self.peers.iter().filter(|peer| peer.is_floor()).collect();
        let labels: Vec<_> = floors.into_iter().map(|peer| peer.label(&lab.users)).collect();
        let mut marked = 0;
        for label in labels {
            let Some(median) = median(self.values(&label, FLOOR_COST)) else { continue };
            for (round, _) in self.rounds.iter_mut().filter(|(round, _)| round.disturbed.is_none())
            {
                let Some(cost) = round.figure(&label, FLOOR_COST) else { continue };
                let deviation = cost / median - 1.0;
                if deviation.abs() > FLOOR_DEVIATION_MAX {
                    let percent = 100.0 * deviation;
                    round.disturbed = Some(format!("the {label} is off by {percent:.0} %"));
                    marked += 1;
                }
            }
        }
        marked
    }

    /// Returns the results of the workload.
    ///
    /// # Errors
    /// A histogram cannot be written.
    pub(crate) fn into_work(self, lab: &Lab) -> Result<Work> {
        let rows = self.workload.rows.iter().map(|row| self.row(lab, row)).collect();
        let mut histograms = BTreeMap::<_, BTreeMap<_, _>>::new();
        for peer in &self.peers {
            let label = peer.label(&lab.users);
            for name in self.histogram_names() {
                let all: Vec<_> = (0..self.clean_rounds()).collect();
                let added = self.added(&label, name, &all).map(|sum| packed(&sum)).transpose()?;
                if let Some(text) = added {
                    histograms.entry(label.clone()).or_default().insert(name.to_owned(), text);
                }
            }
        }
        Ok(Work {
            name: self.workload.name.to_owned(),
            load: load_line(self.workload.load, lab.window),
            place: place(lab),
            servers: self.peers.iter().map(|peer| peer.setup(&lab.users)).collect(),
            rows,
            rounds: self.rounds.into_iter().map(|(round, _)| round).collect(),
            histograms,
        })
    }

    fn row(&self, lab: &Lab, row: &Row) -> RowResult {
        let subject = self.peers[0];
        let figure = |peer: Peer| self.figure(lab, peer, row);
        let mut cells = BTreeMap::new();
        for peer in self.peers.iter().filter(|peer| **peer == subject || self.has_column(**peer)) {
            let column = if *peer == subject { Peer::Tiderace } else { *peer }.column(&lab.users);
            cells.extend(figure(*peer).map(|value| (column, value)));
        }
        let reference = self.reference(lab, row);
        let ratio = reference.and_then(|reference| self.ratio(lab, row, subject, reference));
        let absolute = || {
            let Measure::Quantile(name, quantile) = row.figure else {
                return hodges_lehmann(&self.values_of(lab, subject, row));
            };
            self.bootstrapped(lab, name, |quantiles| quantiles(subject, quantile))
        };
        let (estimate, goal, verdict) = match row.goal {
            Goal::None => (ratio, None, None),
            Goal::Figure(most) => {
                let estimate = absolute();
                let verdict = estimate.map(|estimate| judge(estimate, most));
                (estimate, Some(format!("at most {}", number(most))), verdict)
            }
            Goal::Ratio(most) => {
                let verdict = ratio.map(|ratio| judge(ratio, most));
                (ratio, Some(format!("at most {most} of it")), verdict)
            }
            Goal::Multiple(least) => {
                let inverse = ratio.map(|ratio| Estimate {
                    value: 1.0 / ratio.value,
                    interval: ratio.interval.map(|(low, high)| (1.0 / high, 1.0 / low)),
                });
                let verdict = inverse.map(|inverse| judge(inverse, 1.0 / least));
                (ratio, Some(format!("at least {least} of it")), verdict)
            }
        };
        RowResult {
            title: row.title.to_owned(),
            cells,
            reference: reference.map(|reference| self.describe(lab, reference, figure(reference))),
            estimate,
            verdict: verdict.or_else(|| goal.is_some().then_some(Verdict::Undecided)),
            goal,
        }
    }

    /// Returns the name of a reference, with its figure if it has no column.
    fn describe(&self, lab: &Lab, reference: Peer, figure: Option<f64>) -> String {
        let label = reference.label(&lab.users);
        match figure {
            Some(figure) if !self.has_column(reference) => format!("{label}, {}", number(figure)),
            _ => label,
        }
    }

    /// Returns whether a server other than the first has a column of the table.
    fn has_column(&self, peer: Peer) -> bool {
        peer.is_floor() || peer.is_other()
    }

    /// Returns the server that the first one is compared with.
    fn reference(&self, lab: &Lab, row: &Row) -> Option<Peer> {
        let is_more_better = matches!(row.goal, Goal::Multiple(_));
        let best_of = |is_candidate: &dyn Fn(Peer) -> bool| {
            let candidates = self.peers[1..].iter().copied().filter(|peer| is_candidate(*peer));
            let known = candidates.filter_map(|peer| Some((peer, self.figure(lab, peer, row)?)));
            let by_figure = |(_, a): &(Peer, f64), (_, b): &(Peer, f64)| a.total_cmp(b);
            let best =
                if is_more_better { known.max_by(by_figure) } else { known.min_by(by_figure) };
            best.map(|(peer, _)| peer)
        };
        match row.against {
            Against::Nothing => None,
            Against::Peer(peer) => Some(peer),
            Against::LowerFloor => best_of(&Peer::is_floor),
            Against::BestPeer => best_of(&|peer| peer.is_other() && !self.holds_frames(lab, peer)),
        }
    }

    fn holds_frames(&self, lab: &Lab, peer: Peer) -> bool {
        let all: Vec<_> = (0..self.clean_rounds()).collect();
        let latency = self.added(&peer.label(&lab.users), "latency", &all);
        latency.is_some_and(|latency| ms(latency.value_at_quantile(0.5)) > HOLDS_FRAMES_MS)
    }

    /// Returns the median of a figure, or a quantile of the added histograms.
    fn figure(&self, lab: &Lab, peer: Peer, row: &Row) -> Option<f64> {
        if let Measure::Quantile(name, quantile) = row.figure {
            let all: Vec<_> = (0..self.clean_rounds()).collect();
            return self.quantile(&peer.label(&lab.users), name, quantile, &all);
        }
        median(self.values_of(lab, peer, row))
    }

    /// Returns the ratio of two servers.
    fn ratio(&self, lab: &Lab, row: &Row, subject: Peer, reference: Peer) -> Option<Estimate> {
        if let Measure::Quantile(name, quantile) = row.figure {
            return self.bootstrapped(lab, name, |quantiles| {
                Some(quantiles(subject, quantile)? / quantiles(reference, quantile)?)
            });
        }
        let name = self.figure_name(lab, row);
        let [subject, reference] = [subject, reference].map(|peer| peer.label(&lab.users));
        let log_ratio = |round: &Round| {
            let ratio = round.figure(&subject, &name)? / round.figure(&reference, &name)?;
            (ratio > 0.0 && ratio.is_finite()).then(|| ratio.ln())
        };
        let ratios: Vec<_> = self.clean().filter_map(log_ratio).collect();
        hodges_lehmann(&ratios).map(|estimate| estimate.map(f64::exp))
    }

    /// Returns a statistic of quantiles with the interval of a bootstrap over the rounds.
    fn bootstrapped(
        &self,
        lab: &Lab,
        name: &str,
        statistic: impl Fn(&dyn Fn(Peer, f64) -> Option<f64>) -> Option<f64>,
    ) -> Option<Estimate> {
        let mut random = Random::new(SEED);
        bootstrap(
            self.clean_rounds(),
            |end| random.below(end),
            |chosen| {
                statistic(&|peer, quantile| {
                    self.quantile(&peer.label(&lab.users), name, quantile, chosen)
                })
            },
        )
    }

    /// Returns a quantile in ms of the chosen rounds, if enough frames are above it. A frame is one
    /// sample, however many players received it: what delays it delays it for many of them.
    fn quantile(&self, label: &str, name: &str, quantile: f64, chosen: &[usize]) -> Option<f64> {
        let sum = self.added(label, name, chosen)?;
        let frames = |round: &Round| {
            let figure = |name| round.figure(label, name);
            Some(figure("frames_expected")? / figure("players")?)
        };
        let clean: Vec<_> = self.clean().collect();
        let samples = match name {
            "latency" => {
                chosen.iter().filter_map(|index| frames(clean[*index])).sum::<f64>() as u64
            }
            _ => sum.len(),
        };
        has_quantile(samples, quantile).then(|| ms(sum.value_at_quantile(quantile)))
    }

    /// Returns the sum of the histograms of the chosen rounds, unless one is missing.
    fn added(&self, label: &str, name: &str, chosen: &[usize]) -> Option<Histogram<u64>> {
        let clean = self.rounds.iter().filter(|(round, _)| round.disturbed.is_none());
        let all: Option<Vec<_>> = clean.map(|measured| of_round(measured, label, name)).collect();
        let all = all?;
        let mut chosen = chosen.iter().map(|index| all[*index]);
        let mut sum = chosen.next()?.clone();
        for histogram in chosen {
            sum.add(histogram).ok()?;
        }
        Some(sum)
    }

    fn clean(&self) -> impl Iterator<Item = &Round> {
        self.rounds.iter().map(|(round, _)| round).filter(|round| round.disturbed.is_none())
    }

    fn values(&self, label: &str, figure: &str) -> Vec<f64> {
        self.clean().filter_map(|round| round.figure(label, figure)).collect()
    }

    fn values_of(&self, lab: &Lab, peer: Peer, row: &Row) -> Vec<f64> {
        self.values(&peer.label(&lab.users), &self.figure_name(lab, row))
    }

    fn figure_name(&self, lab: &Lab, row: &Row) -> String {
        match row.figure {
            Measure::Value(name) | Measure::Quantile(name, _) => name.to_owned(),
            Measure::ServerCore(name) => format!("machine_core{}_{name}", lab.server_core),
        }
    }

    /// Returns the names of the histograms that the rows need.
    fn histogram_names(&self) -> Vec<&'static str> {
        let mut names = vec!["latency"];
        names.extend(self.workload.rows.iter().filter_map(|row| match row.figure {
            Measure::Quantile(name, _) => Some(name),
            _ => None,
        }));
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn of_round<'r>(
    (round, histograms): &'r (Round, Vec<Histograms>),
    label: &str,
    name: &str,
) -> Option<&'r Histogram<u64>> {
    let at = round.runs.iter().position(|run| run.server == label)?;
    histograms[at].get(name).filter(|histogram| !histogram.is_empty())
}

/// Returns why a round does not count, if the host of this virtual machine took time from it.
fn stolen(round: &Round) -> Option<String> {
    round.runs.iter().find_map(|Run { server, figures }| {
        let share = figures.get("machine_stolen_s")? / figures.get("machine_busy_s")?;
        let percent = 100.0 * share;
        (share > STOLEN_SHARE_MAX)
            .then(|| format!("the host took {percent:.1} % of the busy time of {server}"))
    })
}

/// Returns why a round does not count, if much of the machine's time went neither to the server nor
/// to the generator. The kernel bills neither for some of its work, so a part is no sign.
fn foreign(round: &Round) -> Option<String> {
    round.runs.iter().find_map(|Run { server, figures }| {
        let figure = |name| figures.get(name).copied();
        let busy_s = figure("machine_busy_s")?;
        let window_s = 8.0 * figure("delivered_bytes")? / figure("delivered_bit_per_s")?;
        let own_s = figure("server_cpu_s")? + window_s * figure("generator_cpu_share")?;
        let share = 1.0 - own_s / busy_s;
        let percent = 100.0 * share;
        let is_much = busy_s - own_s > FOREIGN_CORE_MIN * window_s;
        (is_much && share > FOREIGN_SHARE_MAX)
            .then(|| format!("{percent:.0} % of the busy time beside {server} was of others"))
    })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    tiderace::load::statistics::median(&values)
}

fn ms(us: u64) -> f64 {
    us as f64 / 1000.0
}

fn packed(histogram: &Histogram<u64>) -> Result<String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(histogram, &mut bytes)
        .map_err(|error| format!("a histogram cannot be written: {error:?}"))?;
    Ok(BASE64_STANDARD.encode(bytes))
}

fn place(lab: &Lab) -> Place {
    let Some(manifest) = lab.manifest() else { return Place::default() };
    let machine = manifest.machine;
    let congestion_control = machine.sysctls.get("net.ipv4.tcp_congestion_control");
    Place {
        day: manifest.started_utc.get(..10).unwrap_or_default().to_owned(),
        cpu: machine.cpu_model,
        // The manifest is that of the load generator, which sees only one core.
        cores: std::thread::available_parallelism().map_or(0, usize::from),
        kernel: machine.kernel,
        congestion_control: congestion_control.cloned().unwrap_or_default(),
        pinned: lab.pinned(),
    }
}
