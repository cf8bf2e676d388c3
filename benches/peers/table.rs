//! Prints a record as a table, with the setup of each server under it.
//!
//! Owns the wording of cells and the formatting of numbers. It computes nothing: the figures,
//! ratios and verdicts are in the record.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::record::{Place, Record, RowResult, Setup, Work};
use super::statistics::{Estimate, Verdict};

/// Columns of servers that every table has, in this order. Those that a user adds follow.
const COLUMNS: [&str; 5] =
    ["Tiderace", "nginx-rtmp", "nginx-rtmp tuned", "write floor", "sendfile floor"];

/// Returns the table in Markdown: rows, then place and date of each, then the setups.
pub(crate) fn markdown(record: &Record) -> String {
    let mut text = String::new();
    for (index, line) in lines(record).iter().enumerate() {
        let _ = writeln!(text, "| {} |", line.join(" | "));
        if index == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(line.len()));
        }
    }
    text + "\n" + &places(record) + "\n" + &setups(record)
}

/// Returns the table for a terminal.
pub(crate) fn plain(record: &Record) -> String {
    let lines = lines(record);
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text + "\n" + &places(record)
}

fn lines(record: &Record) -> Vec<Vec<String>> {
    let columns = columns(record);
    let ends = ["ratio (95 %)", "goal", "verdict", "run"].map(str::to_owned);
    let head = [String::from("work")].into_iter().chain(columns.iter().cloned()).chain(ends);
    let rows = record.workloads.iter().flat_map(|work| {
        let run = format!("{}, {}", work.name, work.place.day);
        work.rows.iter().map(|row| line(row, &columns, &run)).collect::<Vec<_>>()
    });
    [head.collect()].into_iter().chain(rows).collect()
}

fn columns(record: &Record) -> Vec<String> {
    let rows = record.workloads.iter().flat_map(|work| &work.rows);
    let mut columns = COLUMNS.map(str::to_owned).to_vec();
    for column in rows.flat_map(|row| row.cells.keys()) {
        if !columns.contains(column) {
            columns.push(column.clone());
        }
    }
    columns
}

/// Returns the cells of a row. `run` is the workload with the day of its measurement.
fn line(row: &RowResult, columns: &[String], run: &str) -> Vec<String> {
    let cell = |column| row.cells.get(column).map_or_else(String::new, |figure| number(*figure));
    let verdict = row.verdict.map(|verdict| match verdict {
        Verdict::Reached => "reached",
        Verdict::Missed => "missed",
        Verdict::Undecided => "undecided",
    });
    let mut line = vec![row.title.clone()];
    line.extend(columns.iter().map(cell));
    line.push(row.estimate.map_or_else(String::new, |estimate| compared(estimate, row)));
    line.push(row.goal.clone().unwrap_or_default());
    line.extend([verdict.unwrap_or_default(), run].map(str::to_owned));
    line
}

fn compared(estimate: Estimate, row: &RowResult) -> String {
    let value = number(estimate.value);
    let interval = match estimate.interval {
        Some((low, high)) => format!(" ({} to {})", number(low), number(high)),
        None => String::new(),
    };
    let of = row.reference.as_ref().map_or_else(String::new, |of| format!(" of {of}"));
    format!("{value}{interval}{of}")
}

/// Returns one line for each day and machine, with the workloads measured there.
fn places(record: &Record) -> String {
    let mut known: Vec<(&Place, Vec<String>)> = Vec::new();
    for work in &record.workloads {
        let (clean, all) = (work.clean().count(), work.rounds.len());
        let repeated =
            if all > clean { format!(", {} disturbed", all - clean) } else { String::new() };
        let shown = format!("{} ({clean} rounds{repeated})", work.name);
        match known.iter_mut().find(|(place, _)| **place == work.place) {
            Some((_, works)) => works.push(shown),
            None => known.push((&work.place, vec![shown])),
        }
    }
    let mut text = String::new();
    for (place, works) in known {
        let Place { day, cpu, cores, kernel, congestion_control, pinned: (server, load) } = place;
        let _ = writeln!(
            text,
            "- {day}: {cpu}, {cores} cores, {kernel}, {congestion_control}; the server on core \
             {server}, the load on {load}: {}",
            works.join(", ")
        );
    }
    text
}

/// Returns the setup of each server and the load of each workload, in blocks of code.
fn setups(record: &Record) -> String {
    let (mut text, mut shown) = (String::new(), BTreeSet::new());
    for Setup { label, command, config } in record.workloads.iter().flat_map(|work| &work.servers) {
        if shown.insert(label) {
            let config = config.as_deref().unwrap_or_default();
            let _ = writeln!(text, "{label}:\n\n```text\n{command}\n{config}```\n");
        }
    }
    let loads = record.workloads.iter().map(|Work { name, load, .. }| format!("{name}: {load}\n"));
    text + "The load of each row:\n\n```text\n" + &loads.collect::<String>() + "```\n"
}

/// Formats a figure with three significant digits.
pub(crate) fn number(figure: f64) -> String {
    match figure.abs() {
        0.0 => "0".to_owned(),
        100.0.. => format!("{figure:.0}"),
        10.0.. => format!("{figure:.1}"),
        1.0.. => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}
