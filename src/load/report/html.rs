//! The page of a report: the verdict, plots, all figures, and the setup of the run.
//!
//! Owns the contents of the page and their order.

use std::fmt::Write;

use super::distribution::{Distribution, INTERVAL};
use super::metric::{Better, MetricGroup, QUANTILES};
use super::model::{Figure, LoadReport, Series};
use super::page_parts::{COLOURS, Html, document, figure, legend_of, list, warning};
use super::plot::{Axis, HALF, Line, Plot, PlotSize, WIDE};
use super::plot_points::{self, Moment};
use super::quantity::{MetricUnit, number};
use super::step_table;
use super::terminal::{SeriesSummary, flags, identity, milliseconds, ordered};
use crate::load::manifest::Manifest;

/// Start of the percentile axis for finding the lower end of the other axis: the fifth percentile.
const LEAST_DECADES: f64 = 0.02;

/// The figures on top of the page, by command. Those that a report does not have are left out.
const TILES: [(&str, &[&str]); 6] = [
    (
        "idle",
        &[
            "sessions_held",
            "sessions_failed",
            "connect_rate_per_s",
            "to_stage_p99_ms",
            "resident_bytes_per_session",
            "server_idle_cpu_percent",
        ],
    ),
    (
        "churn",
        &[
            "session_rate_per_s",
            "sessions_failed",
            "session_p50_ms",
            "session_p99_ms",
            "server_cpu_us_per_session",
        ],
    ),
    (
        "fanout",
        &[
            "latency_p50_ms",
            "latency_p99_ms",
            "frames_lost_share",
            "stalls",
            "delivered_bit_per_s",
            "machine_busy_s_per_gb",
        ],
    ),
    (
        "ingest",
        &[
            "accepted_share",
            "accepted_bit_per_s",
            "write_delay_p50_ms",
            "write_delay_p99_ms",
            "machine_busy_s_per_gb",
        ],
    ),
    (
        "publish",
        &["video_frames_per_s", "video_bits_per_s", "write_delay_p99_ms", "waiting_bytes_max"],
    ),
    (
        "play",
        &[
            "first_keyframe_ms",
            "video_frames_per_s",
            "video_bits_per_s",
            "stalls",
            "stall_max_ms",
            "video_jitter_p99_ms",
        ],
    ),
];

/// Returns the page.
pub fn page(report: &LoadReport) -> String {
    let title = format!("tiderace load {}: {}", report.command, report.manifest.target);
    let parts = [
        head(report),
        step_table::section(&report.steps),
        over_time(report),
        percentiles(&report.distributions),
        durations(report),
        tables(report),
        manifest(report),
    ];
    document(&title, &parts.concat())
}

fn head(report: &LoadReport) -> String {
    let manifest = &report.manifest;
    let mut text = format!("<h1>tiderace load {}</h1>\n<p>", Html(&report.command));
    if let Some(label) = &manifest.label {
        let _ = write!(text, "<span class=\"label\">{}</span><br/>", Html(label));
    }
    let _ = writeln!(
        text,
        "<code>{}</code>, {} s from {}<br/><code>{}</code></p>",
        Html(&manifest.target),
        number(manifest.duration_s),
        Html(&manifest.started_utc),
        Html(&flags(manifest))
    );
    let server = manifest.server.as_ref().map(identity);
    let server = server.as_deref().unwrap_or("not observed, its pid was not given");
    let _ = writeln!(text, "<p>server: {}</p>", Html(server));
    for (name, finding) in &report.findings {
        let _ = writeln!(text, "<p>{}: {}</p>", Html(name), Html(finding));
    }
    text += &verdict(report);
    text += &warning("Doubts about these figures", report.doubts.iter().map(String::as_str));
    text + &tiles(report)
}

/// Says whether the run met its thresholds, with one line for each.
fn verdict(report: &LoadReport) -> String {
    let missed = report.thresholds.iter().filter(|judged| !judged.is_met()).count();
    let (class, line) = match (report.thresholds.len(), missed) {
        _ if report.overloaded.is_some() => {
            ("bad", "The generator could not generate this load: no figure is valid.".to_owned())
        }
        _ if report.lagged.is_some() => {
            ("bad", "The generator did not keep up: figures are withheld.".to_owned())
        }
        _ if report.failed.is_some() => ("bad", "Too much of the load failed.".to_owned()),
        (0, _) => ("open", "The run was not judged: it had no thresholds.".to_owned()),
        (all, 0) => ("good", format!("The run met its thresholds: {all} of {all}.")),
        (all, missed) => ("bad", format!("The run missed {missed} of {all} thresholds.")),
    };
    let mut text = format!("<section class=\"verdict {class}\">\n<b>{line}</b>\n");
    if !report.thresholds.is_empty() {
        text += "<ul>\n";
        for judged in &report.thresholds {
            let word = if judged.is_met() { "met" } else { "missed" };
            let _ = writeln!(text, "<li>{word}: {}</li>", Html(&judged.line));
        }
        text += "</ul>\n";
    }
    text + "</section>\n"
}

/// Shows what the command is about in a few numbers.
fn tiles(report: &LoadReport) -> String {
    let names = TILES.iter().find(|(command, _)| *command == report.command);
    let figures = names.into_iter().flat_map(|(_, names)| *names);
    let mut text = String::new();
    for figure in figures.filter_map(|name| report.figure(name)) {
        let value = figure.value.map(|value| figure.unit().text(value));
        let value = value.as_deref().unwrap_or("withheld");
        let name = Html(&figure.name);
        let _ = writeln!(text, "<div class=\"tile\"><b>{value}</b><span>{name}</span></div>");
    }
    if text.is_empty() { text } else { format!("<div class=\"tiles\">\n{text}</div>\n") }
}

/// Returns the distributions that have values, each with its CSS class.
fn classes(distributions: &[Distribution]) -> Vec<(&Distribution, &'static str)> {
    let mut colours = COLOURS.into_iter().cycle();
    let filled = distributions.iter().filter(|distribution| !distribution.is_empty());
    let classed = filled.map(|distribution| {
        let is_own = distribution.group() == MetricGroup::Generator;
        (distribution, if is_own { "own" } else { colours.next().unwrap_or_default() })
    });
    classed.collect()
}

fn percentiles(distributions: &[Distribution]) -> String {
    let mut text = "<h2>Durations by percentile</h2>\n".to_owned();
    text += &missing(distributions);
    let classes = classes(distributions);
    if classes.is_empty() {
        return text;
    }
    let curves: Vec<_> = classes
        .iter()
        .map(|(distribution, class)| (*distribution, *class, plot_points::curve(distribution)))
        .collect();
    let points = || curves.iter().flat_map(|(_, _, curve)| curve);
    let end = points().map(|(decades, _)| *decades).fold(0.0, f64::max);
    // The smallest value may be near zero and would squeeze all others on the logarithmic axis.
    let usual = points().filter(|(decades, _)| *decades >= LEAST_DECADES);
    let low = usual.map(|(_, ms)| *ms).fold(f64::INFINITY, f64::min);
    let high = points().map(|(_, ms)| *ms).fold(0.0, f64::max);
    let line = |(_, class, curve): &(_, &'static str, Vec<(f64, f64)>)| Line {
        class,
        pieces: vec![curve.clone()],
    };
    let plot = Plot {
        size: WIDE,
        title: "durations by percentile".to_owned(),
        x: Axis::percentiles(end),
        y: Axis::milliseconds(low, high),
        lines: curves.iter().map(line).collect(),
        tips: plot_points::curve_tips(
            curves.iter().map(|(distribution, _, curve)| (distribution.name(), curve.as_slice())),
            end,
        ),
    };
    let legend = classes.iter().map(|(distribution, class)| (*class, distribution.name()));
    text += &figure("", &legend_of(legend), &plot, "");
    text
}

/// Lists the distributions without a plot, with the reasons.
fn missing(distributions: &[Distribution]) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for distribution in distributions {
        let Some(reason) = distribution.withheld() else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(distribution.name()),
            None => reasons.push((reason, vec![distribution.name()])),
        }
    }
    let mut lines: Vec<_> = reasons
        .into_iter()
        .map(|(reason, names)| format!("{} withheld: {reason}", names.join(", ")))
        .collect();
    if lines.is_empty() && distributions.iter().all(Distribution::is_empty) {
        lines.push("No durations were recorded.".to_owned());
    }
    lines.iter().map(|line| format!("<div class=\"empty\">{}</div>\n", Html(line))).collect()
}

fn durations(report: &LoadReport) -> String {
    let filled = || report.distributions.iter().filter(|distribution| !distribution.is_empty());
    let end_s = end_s(report);
    // The first distribution is the main one of the command, unless it is withheld.
    let main = filled().next().filter(|first| first.group() != MetricGroup::Generator);
    let others: String = filled()
        .skip(usize::from(main.is_some()))
        .map(|other| moments(other, HALF, end_s))
        .collect();
    if main.is_none() && others.is_empty() {
        return String::new();
    }
    let mut text =
        "<h2>Durations over time</h2>\n<p>Each duration stands where its event was due, \
                    not where it ended. A server that freezes shows as a ramp that begins with the \
                    freeze.</p>\n"
            .to_owned();
    text.extend(main.map(|main| moments(main, WIDE, end_s)));
    if !others.is_empty() {
        let _ = write!(text, "<div class=\"pair\">\n{others}</div>\n");
    }
    text
}

/// Returns the end of all time axes, so that the plots stand below each other. The duration of a
/// report begins with its measurement, and the times of its values begin with the run.
fn end_s(report: &LoadReport) -> f64 {
    let series = report.series.iter().filter_map(|series| series.points.last());
    let last_s = |distribution: &Distribution| {
        distribution.intervals().last().map(|last| (last.start + INTERVAL).as_secs_f64())
    };
    let durations = report.distributions.iter().filter_map(last_s);
    series.map(|(at_s, _)| *at_s).chain(durations).fold(report.manifest.duration_s, f64::max)
}

fn moments(distribution: &Distribution, size: PlotSize, end_s: f64) -> String {
    let (width_s, moments) = plot_points::moments(distribution, end_s);
    let line = |class, value: fn(&Moment) -> f64| {
        let points: Vec<_> =
            moments.iter().map(|moment| (moment.middle_s(), value(moment))).collect();
        Line::broken(class, &points, 1.5 * width_s)
    };
    let low = moments.iter().map(|moment| moment.p50_ms).fold(f64::INFINITY, f64::min);
    let high = moments.iter().map(|moment| moment.max_ms).fold(0.0, f64::max);
    let end_s = moments.last().map_or(end_s, |last| end_s.max(last.end_s));
    let plot = Plot {
        size,
        title: format!("{} over time", distribution.name()),
        x: Axis::time(end_s),
        y: Axis::milliseconds(low, high),
        lines: vec![
            line("p50", |moment| moment.p50_ms),
            line("p99", |moment| moment.p99_ms),
            line("max", |moment| moment.max_ms),
        ],
        tips: moments.iter().map(Moment::tip).collect(),
    };
    let legend = legend_of(["p50", "p99", "max"].map(|name| (name, name)));
    let count = number(distribution.histogram().len() as f64);
    let caption = format!("{count} values, by {} s", number(width_s));
    figure(distribution.name(), &legend, &plot, &caption)
}

/// Shows how the load went, then what it cost the server, second by second.
fn over_time(report: &LoadReport) -> String {
    let is_server = |series: &&Series| series.group() == MetricGroup::Server;
    let (server, others): (Vec<_>, Vec<_>) =
        report.series.iter().filter(|series| !series.points.is_empty()).partition(is_server);
    let end_s = end_s(report);
    let mut text = String::new();
    if !others.is_empty() {
        text += "<h2>Over time</h2>\n";
        text += &all_series(&others, end_s);
    }
    text += "<h2>The server over time</h2>\n";
    if server.is_empty() {
        text += "<div class=\"empty\">Memory and processor of the server were not measured: give \
                 its pid with <code>--server-pid</code>.</div>\n";
    } else {
        text += &all_series(&server, end_s);
    }
    text
}

fn all_series(series: &[&Series], end_s: f64) -> String {
    let plots = series.iter().zip(COLOURS.into_iter().cycle());
    let plots: String = plots.map(|(series, class)| one_series(series, class, end_s)).collect();
    format!("<div class=\"pair\">\n{plots}</div>\n")
}

fn one_series(series: &Series, class: &'static str, end_s: f64) -> String {
    let Some(SeriesSummary { first, mean, max, last }) = SeriesSummary::of(series) else {
        return String::new();
    };
    let quantity = series.unit;
    let points = plot_points::thinned(&series.points);
    let end_s = points.last().map_or(end_s, |(at_s, _)| end_s.max(*at_s));
    let plot = Plot {
        size: HALF,
        title: format!("{} over time", series.name),
        x: Axis::time(end_s),
        y: Axis::from_zero(max, |value| quantity.text(value)),
        tips: plot_points::series_tips(&points, |value| quantity.text(value)),
        lines: vec![Line { class, pieces: vec![points] }],
    };
    let [first, mean, max, last] = [first, mean, max, last].map(|value| quantity.text(value));
    let caption = format!("first {first}, mean {mean}, max {max}, last {last}");
    figure(&series.name, "", &plot, &caption)
}

fn tables(report: &LoadReport) -> String {
    let mut text = "<h2>All figures</h2>\n".to_owned();
    if !report.figures.is_empty() {
        text += "<div class=\"scroll\"><table>\n<thead><tr><th>figure</th><th>value</th>\
                 <th></th></tr></thead>\n<tbody>\n";
        text.extend(ordered(&report.figures).into_iter().map(figure_row));
        text += "</tbody>\n</table></div>\n";
    }
    if !report.distributions.is_empty() {
        text += "<div class=\"scroll\"><table>\n<thead><tr><th>times in ms</th>";
        for quantile in QUANTILES {
            let _ = write!(text, "<th>{}</th>", quantile.heading);
        }
        text += "<th>count</th></tr></thead>\n<tbody>\n";
        text.extend(report.distributions.iter().map(distribution_row));
        text += "</tbody>\n</table></div>\n";
    }
    text
}

fn figure_row(figure: &Figure) -> String {
    let name = Html(&figure.name);
    let Some(value) = figure.value else {
        let reason = figure.withheld.as_deref().unwrap_or_default();
        return format!(
            "<tr><td><code>{name}</code></td><td class=\"reason\" colspan=\"2\">withheld: \
             {}</td></tr>\n",
            Html(reason)
        );
    };
    let value = figure.unit().text(value);
    let way = match figure.better {
        Better::Lower => "lower is better",
        Better::Higher => "higher is better",
        Better::Neither => "",
    };
    format!("<tr><td><code>{name}</code></td><td>{value}</td><td class=\"way\">{way}</td></tr>\n")
}

fn distribution_row(distribution: &Distribution) -> String {
    let name = Html(distribution.name());
    if distribution.is_empty() {
        let reason = distribution.withheld().map(|reason| format!("withheld: {reason}"));
        let reason = reason.unwrap_or_else(|| "nothing was recorded".to_owned());
        return format!(
            "<tr><td><code>{name}</code></td><td class=\"reason\" colspan=\"7\">{}</td></tr>\n",
            Html(&reason)
        );
    }
    let mut row = format!("<tr><td><code>{name}</code></td>");
    for figure in distribution.figures() {
        let _ = match (figure.value, figure.withheld) {
            (Some(value), _) => write!(row, "<td>{}</td>", milliseconds(value)),
            (None, reason) => {
                let reason = reason.unwrap_or_default();
                write!(row, "<td class=\"reason\" title=\"{}\">withheld</td>", Html(&reason))
            }
        };
    }
    row + &format!("<td>{}</td></tr>\n", number(distribution.histogram().len() as f64))
}

fn manifest(report: &LoadReport) -> String {
    let manifest = &report.manifest;
    let parameters =
        manifest.parameters.iter().map(|(name, value)| (format!("--{name}"), value.clone()));
    let mut text = "<h2>How it was measured</h2>\n".to_owned();
    text += &list("Run", run(report));
    text += &list("Parameters", parameters);
    if let Some(server) = &manifest.server {
        let rows = [
            ("name", Some(&server.name)),
            ("executable", server.executable.as_ref()),
            ("SHA-256", server.sha256.as_ref()),
        ];
        let known = rows
            .into_iter()
            .filter_map(|(name, value)| value.map(|value| (name.to_owned(), value.clone())));
        text += &list("Server", known);
    }
    text += &list("Machine", machine(manifest));
    let sysctls = manifest.machine.sysctls.clone();
    text += &list("Kernel settings", sysctls);
    text + "<footer>Made by tiderace load. Durations are exact to 0.1 %; --json and --hdr write \
            the same numbers for programs.</footer>\n"
}

fn run(report: &LoadReport) -> [(String, String); 5] {
    let manifest = &report.manifest;
    [
        ("command", report.command.clone()),
        ("target", manifest.target.clone()),
        ("started", manifest.started_utc.clone()),
        ("duration", format!("{} s", number(manifest.duration_s))),
        ("tiderace", manifest.tiderace_version.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

fn machine(manifest: &Manifest) -> [(String, String); 8] {
    let machine = &manifest.machine;
    let bytes = |value: f64| MetricUnit::Bytes.text(value);
    let unknown = || "not known".to_owned();
    [
        ("kernel", machine.kernel.clone()),
        ("architecture", machine.architecture.clone()),
        ("CPU", machine.cpu_model.clone()),
        ("CPUs", machine.cpus.to_string()),
        ("governor", machine.governor.clone().unwrap_or_else(unknown)),
        ("memory", bytes(machine.memory_bytes as f64)),
        ("page", bytes(machine.page_bytes as f64)),
        ("descriptors", number(machine.descriptors_max as f64)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::super::metric::Metric;
    use super::super::sample;
    use super::super::threshold::Threshold;
    use super::*;

    /// Returns the page after checking that its tags are balanced.
    fn well_formed(report: &LoadReport) -> String {
        sample::well_formed(&page(report))
    }

    #[test]
    fn page_is_well_formed_and_loads_nothing() {
        let page = well_formed(&sample::report());
        for outside in
            ["http://", "https://", "//cdn", "<script", "<link", "<img", "url(", "@import"]
        {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn page_has_every_figure_plot_and_condition() {
        let mut report = sample::report();
        report.thresholds = ["frames_lost>2", "players_failed_reset>0"]
            .map(|text| Threshold::of_figure(text).unwrap().judge(&report).unwrap())
            .into();
        let page = well_formed(&report);
        for figure in &report.figures {
            assert!(page.contains(&format!("<td><code>{}</code></td>", figure.name)), "{figure:?}");
        }
        for part in [
            "<b>3.161 ms</b><span>latency_p99_ms</span>",
            "<p>server: tiderace (sha256 1329e23a959f)</p>",
            "The run missed 1 of 2 thresholds.",
            "<li>missed: frames_lost&gt;2: frames_lost is 3</li>",
            "<li>met: players_failed_reset&gt;0: players_failed_reset is 0</li>",
            "<td>0.4725 s/GB</td><td class=\"way\">lower is better</td>",
            "withheld: nobody looked",
            "aria-label=\"durations by percentile\"",
            "aria-label=\"latency over time\"",
            "aria-label=\"server_resident over time\"",
            "aria-label=\"server_cpu over time\"",
            "aria-label=\"players over time\"",
            "first 5 MB, mean 6 MB, max 6.5 MB, last 6 MB",
            "<li>the server shares its core</li>",
            "<dt>kernel</dt><dd>Linux 6.1.0</dd>",
            "<dt>--players</dt><dd>10</dd>",
            "<dt>net.core.somaxconn</dt><dd>4096</dd>",
            "<dd>1329e23a959fc8e195862e292da1a307</dd>",
        ] {
            assert!(page.contains(part), "no {part}");
        }
        assert_eq!(page.matches("<svg ").count(), 7, "two of the plots have a narrow form");
    }

    #[test]
    fn tiles_are_figures_of_their_command() {
        for (command, names) in TILES {
            for name in names {
                let metric = Metric::of_figure(name).unwrap_or_else(|| panic!("no {name}"));
                assert!(metric.commands.contains(&command), "{command} {name}");
            }
        }
    }

    #[test]
    fn foreign_text_is_escaped() {
        let hostile = "</title><script>alert('x')</script>\" onload=\"x&\u{0}";
        let mut report = sample::report();
        report.command = hostile.to_owned();
        report.add_doubt(hostile);
        report.figures[0].name = hostile.to_owned();
        report.figures[0].withhold(hostile);
        report.series[0].name = hostile.to_owned();
        let manifest = &mut report.manifest;
        manifest.label = Some(hostile.to_owned());
        manifest.target = hostile.to_owned();
        manifest.started_utc = hostile.to_owned();
        manifest.parameters.insert(hostile.to_owned(), hostile.to_owned());
        manifest.machine.kernel = hostile.to_owned();
        // Only a file can have a distribution that the table of metrics does not have.
        let name = serde_json::to_string(hostile).unwrap();
        let text = report.to_json().unwrap().replace("\"latency\"", &name);
        let page = well_formed(&LoadReport::from_json(&text).unwrap());
        assert!(!page.contains("<script") && !page.contains("\" onload"), "{page}");
        assert!(!page.contains('\u{0}'));
    }

    #[test]
    fn the_page_says_what_was_not_measured() {
        let mut report = sample::report();
        report.series.clear();
        report.withhold("latency", "the generator was late");
        let page = well_formed(&report);
        let expected = "<div class=\"empty\">latency withheld: the generator was late</div>";
        assert!(page.contains(expected), "{page}");
        assert!(page.contains("<code>--server-pid</code>"));
        assert!(!page.contains("<svg "));
        assert!(page.contains("<b>withheld</b><span>latency_p99_ms</span>"), "{page}");
        assert!(page.contains("The run was not judged"), "{page}");
        report.distributions.clear();
        assert!(well_formed(&report).contains("No durations were recorded."));
    }
}
