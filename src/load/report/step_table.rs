//! The steps of a run with several numbers of players, as a table and as a plot.
//!
//! Owns a step's place in the report, the columns of the table, and the plot of latency over
//! players. Which numbers are measured, and whether a step met a condition, is decided elsewhere.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::layout::{Grid, harmless, wrapped};
use super::model::{Figure, LoadReport};
use super::page_parts::{Html, figure, legend_of};
use super::plot::{Axis, Line, Plot, WIDE};
use super::quantity::number;
use super::terminal::milliseconds;

/// The window of one number of players.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadStep {
    /// The number of players that were to play.
    pub players: u32,
    /// Time from the start of the run to the start of the window (s).
    pub from_s: f64,
    /// Whether the condition of a search held; `None` without a search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<StepOutcome>,
    /// Why the condition did not hold, or why it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The main figures of the window.
    pub figures: Vec<Figure>,
}

/// Outcome of a step of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepOutcome {
    /// The condition held.
    Held,
    /// The condition did not hold.
    Missed,
    /// The generator did not keep up, so nothing is known about the server.
    CannotTell,
}

impl StepOutcome {
    const fn text(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Missed => "missed",
            Self::CannotTell => "cannot tell",
        }
    }
}

/// Figures that a step keeps.
const STEP_FIGURES: [&str; 11] = [
    P50,
    P99,
    "latency_p999_ms",
    "latency_max_ms",
    "frames_expected",
    "frames_lost_share",
    "stalls",
    DELIVERED,
    SERVER_CPU,
    "server_resident_bytes",
    GENERATOR_CPU,
];
const P50: &str = "latency_p50_ms";
const P99: &str = "latency_p99_ms";
const DELIVERED: &str = "delivered_bit_per_s";
const SERVER_CPU: &str = "server_cpu_share";
const GENERATOR_CPU: &str = "generator_cpu_share";

/// Columns between the number of players and the outcome: heading and figure.
const COLUMNS: [(&str, &str); 5] = [
    ("p50", P50),
    ("p99", P99),
    ("delivered", DELIVERED),
    ("server CPU", SERVER_CPU),
    ("generator CPU", GENERATOR_CPU),
];

impl LoadStep {
    /// Keeps a window of `report`, which holds nothing else.
    pub fn of(report: &LoadReport, players: u32, from_s: f64) -> Self {
        let figures = STEP_FIGURES.iter().filter_map(|name| report.figure(name)).collect();
        Self { players, from_s, outcome: None, reason: None, figures }
    }

    /// Returns the value of a figure, unless it is withheld or not known.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name)?.value
    }

    /// Returns the step as one line of JSON, with each figure by its name; a withheld one is null.
    pub fn line(&self) -> String {
        let mut line = serde_json::Map::new();
        line.insert("players".to_owned(), self.players.into());
        line.insert("from_s".to_owned(), self.from_s.into());
        if let Some(outcome) = self.outcome {
            line.insert("outcome".to_owned(), outcome.text().into());
        }
        if let Some(reason) = &self.reason {
            line.insert("reason".to_owned(), reason.as_str().into());
        }
        let figures = self.figures.iter().map(|figure| (figure.name.clone(), figure.value.into()));
        line.extend(figures);
        serde_json::Value::Object(line).to_string()
    }

    fn cell(&self, name: &str) -> String {
        let known = self.figures.iter().find(|figure| figure.name == name);
        let value = known.and_then(|figure| Some(figure.unit().text(figure.value?)));
        value.unwrap_or_else(|| "-".to_owned())
    }

    fn outcome_text(&self) -> &'static str {
        self.outcome.map_or("", StepOutcome::text)
    }

    fn cells(&self) -> impl Iterator<Item = String> + '_ {
        let values = COLUMNS.iter().map(|(_, name)| self.cell(name));
        [number(self.players.into())].into_iter().chain(values)
    }
}

/// Returns the table for a terminal, or an empty text if there are no steps.
pub(super) fn text(steps: &[LoadStep]) -> String {
    if steps.is_empty() {
        return String::new();
    }
    let mut grid = Grid::default();
    for step in steps {
        grid.push(step.cells().chain([step.outcome_text().to_owned()]));
    }
    let headings = COLUMNS.map(|(heading, _)| heading);
    let [p50, p99, delivered, server, generator] = headings;
    let mut text = grid.text(["players", p50, p99, delivered, server, generator, ""]);
    for step in steps {
        let Some(reason) = &step.reason else { continue };
        let mark = format!("  {} players: ", number(step.players.into()));
        text += &wrapped(&mark, &harmless(reason));
    }
    text
}

/// Returns the plot and the table for the page, or an empty text if there are no steps.
pub(super) fn section(steps: &[LoadStep]) -> String {
    if steps.is_empty() {
        return String::new();
    }
    let mut text = "<h2>Latency by number of players</h2>\n".to_owned();
    text += &plot(steps);
    text += "<div class=\"scroll\"><table>\n<thead><tr><th>players</th>";
    for (heading, _) in COLUMNS {
        let _ = write!(text, "<th>{heading}</th>");
    }
    text += "<th></th></tr></thead>\n<tbody>\n";
    for step in steps {
        text += "<tr>";
        for cell in step.cells() {
            let _ = write!(text, "<td>{}</td>", Html(&cell));
        }
        let reason = step.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let outcome = format!("{}{reason}", step.outcome_text());
        let _ = writeln!(text, "<td class=\"reason\">{}</td></tr>", Html(&outcome));
    }
    text + "</tbody>\n</table></div>\n"
}

/// Plots p50 and p99 over players. A number that was measured several times has a point each.
fn plot(steps: &[LoadStep]) -> String {
    let points = |name: &str| {
        let known =
            steps.iter().filter_map(|step| Some((f64::from(step.players), step.value(name)?)));
        let mut points: Vec<_> = known.collect();
        points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        points
    };
    let (p50, p99) = (points(P50), points(P99));
    let Some(((most, _), _)) = p99.last().zip(p50.last()) else {
        return "<div class=\"empty\">No step has a latency.</div>\n".to_owned();
    };
    let low = p50.iter().map(|(_, ms)| *ms).fold(f64::INFINITY, f64::min);
    let high = p99.iter().map(|(_, ms)| *ms).fold(0.0, f64::max);
    let mut x = Axis::from_zero(*most, number);
    x.title = "players".to_owned();
    let plot = Plot {
        size: WIDE,
        title: "latency by number of players".to_owned(),
        x,
        y: Axis::milliseconds(low, high),
        tips: tips(steps),
        lines: vec![
            Line { class: "p50", pieces: vec![p50] },
            Line { class: "p99", pieces: vec![p99] },
        ],
    };
    let legend = legend_of(["p50", "p99"].map(|name| (name, name)));
    figure("", &legend, &plot, "")
}

/// Returns a tooltip for each number of players, which reaches half way to its neighbours.
fn tips(steps: &[LoadStep]) -> Vec<(f64, f64, String)> {
    let mut order: Vec<_> = steps.iter().filter(|step| step.value(P99).is_some()).collect();
    order.sort_by_key(|step| step.players);
    let groups: Vec<_> = order.chunk_by(|a, b| a.players == b.players).collect();
    let players = |index: usize| groups.get(index).map(|group| f64::from(group[0].players));
    let between = |a: Option<f64>, b: f64| a.map_or(b, |a| (a + b) / 2.0);
    (0_usize..)
        .zip(&groups)
        .map(|(index, group)| {
            let at = f64::from(group[0].players);
            let before = index.checked_sub(1).and_then(players);
            let mut text = format!("{} players", number(at));
            for step in *group {
                let [p50, p99] = [P50, P99].map(|name| step.value(name).map(milliseconds));
                let [p50, p99] = [p50, p99].map(Option::unwrap_or_default);
                let _ = write!(text, "\np50 {p50} ms, p99 {p99} ms");
            }
            (between(before, at), between(players(index + 1), at), text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Figure;
    use super::*;
    use crate::load::manifest::Manifest;

    fn step(players: u32, p99_ms: Option<f64>, outcome: StepOutcome) -> LoadStep {
        let mut report = LoadReport::new("fanout", Manifest::new("h", BTreeMap::new()));
        let mut add = |name, value| report.add_figure(Figure::new(name, value));
        add(DELIVERED, 4e6 * f64::from(players));
        add(GENERATOR_CPU, 0.125);
        add("frames_received", 9.0);
        if let Some(p99_ms) = p99_ms {
            add(P50, p99_ms / 2.0);
            add(P99, p99_ms);
        }
        LoadStep { outcome: Some(outcome), ..LoadStep::of(&report, players, 1.5) }
    }

    fn steps() -> Vec<LoadStep> {
        let mut steps = vec![
            step(1000, Some(8.0), StepOutcome::Held),
            step(2000, Some(80.0), StepOutcome::Missed),
            step(2000, None, StepOutcome::CannotTell),
        ];
        steps[1].reason = Some("p99_ms is 80".to_owned());
        steps[2].reason = Some("the generator was <late>".to_owned());
        steps
    }

    #[test]
    fn every_step_has_a_row_and_every_reason_a_line() {
        let expected = "\
players    p50    p99  delivered  server CPU  generator CPU
  1,000   4 ms   8 ms   4 Gbit/s           -         12.5 %         held
  2,000  40 ms  80 ms   8 Gbit/s           -         12.5 %       missed
  2,000      -      -   8 Gbit/s           -         12.5 %  cannot tell
  2,000 players: p99_ms is 80
  2,000 players: the generator was <late>
";
        assert_eq!(text(&steps()), expected);
        assert_eq!(text(&[]), "");
    }

    #[test]
    fn the_page_plots_latency_over_players_and_escapes_reasons() {
        let page = section(&steps());
        // Two lines, on the plot for wide pages and on the one for narrow ones.
        assert_eq!(page.matches("<path class=\"line ").count(), 2 * 2);
        assert_eq!(page.matches("<td class=\"reason\">").count(), 3);
        assert!(page.contains("cannot tell: the generator was &lt;late&gt;"), "{page}");
        assert!(
            page.contains("<title>2,000 players\np50 40.00 ms, p99 80.00 ms</title>"),
            "{page}"
        );
        let unknown = section(&[step(5, None, StepOutcome::CannotTell)]);
        assert!(unknown.contains("No step has a latency.") && !unknown.contains("<svg"));
        assert_eq!(section(&[]), "");
    }

    #[test]
    fn a_step_keeps_its_figures_and_no_others() {
        let step = step(10, Some(3.0), StepOutcome::Held);
        assert_eq!((step.value(P99), step.value("frames_received")), (Some(3.0), None));
        let line = "{\"delivered_bit_per_s\":40000000.0,\"from_s\":1.5,\
                    \"generator_cpu_share\":0.125,\"latency_p50_ms\":1.5,\
                    \"latency_p99_ms\":3.0,\"outcome\":\"held\",\"players\":10}";
        assert_eq!(step.line(), line);
        let text = serde_json::to_string(&step).unwrap();
        assert_eq!(serde_json::from_str::<LoadStep>(&text).unwrap(), step);
    }
}
