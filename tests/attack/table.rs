//! The table of results: a row per case in Markdown, and the document that contains it.

use std::env;
use std::fs;
use std::time::Duration;

use crate::trial::{Measured, Verdict};

/// The row of one case.
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    /// `None` for a case that judges itself or is not run.
    pub(crate) measured: Option<Measured>,
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
}

impl Row {
    /// The header of the table.
    pub(crate) const HEAD: &str = "\
| case | what | outcome | frames lost | latency | newcomer | memory most, left | descriptors left \
| lines | bytes out / in |
|---|---|---|---|---|---|---|---|---|---|";

    /// Formats the row as one line.
    pub(crate) fn line(&self) -> String {
        let (id, what, outcome) = (self.id, self.what, self.outcome());
        let Some(measured) = &self.measured else {
            return format!("| {id} | {what} | {outcome} | | | | | | | |");
        };
        let lines = measured.lines.map(|lines| lines.to_string()).unwrap_or_default();
        let ratio = measured.amplification.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        format!(
            "| {id} | {what} | {outcome} | {} | {:.0} ms | {:.0} ms | {}, {} KiB | {} | {lines} | \
             {ratio} |",
            measured.lost,
            measured.latency_us as f64 / 1000.0,
            measured.newcomer.as_secs_f64() * 1000.0,
            measured.memory_most_kib,
            measured.memory_left_kib,
            measured.descriptors_left,
        )
    }

    /// Returns the beginning of the row, which is the same in every run.
    fn beginning(&self) -> String {
        format!("| {} | {} |", self.id, self.what)
    }

    /// Describes how the attackers ended, most frequent first, and the figures.
    fn outcome(&self) -> String {
        let mut outcomes: Vec<_> = self.verdict.outcomes.iter().collect();
        outcomes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let times = |(outcome, count): (&String, &u64)| match count {
            1 => outcome.clone(),
            count => format!("{count} {outcome}"),
        };
        let outcomes = outcomes.into_iter().map(times);
        outcomes.chain(self.verdict.figures.iter().cloned()).collect::<Vec<_>>().join(", ")
    }
}

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attack/README.md");

/// Writes the table of all cases to the document if the environment asks for it. Returns the rows
/// that the document lacks.
pub(crate) fn keep(rows: &[Row]) -> Vec<String> {
    let mut document = fs::read_to_string(DOCUMENT).expect("the document");
    if env::var("TIDERACE_README").is_ok_and(|wish| wish == "write") {
        let (before, after) = document.split_once("| case |").expect("a table in it");
        let after = after.split_once("\n\n").map_or("", |(_, after)| after);
        let table = rows.iter().fold(Row::HEAD.to_owned(), |table, row| table + "\n" + &row.line());
        document = format!("{before}{table}\n\n{after}");
        fs::write(DOCUMENT, &document).expect("the document can be written");
    }
    let lacks = rows.iter().map(Row::beginning).filter(|row| !document.contains(row.as_str()));
    lacks.map(|row| format!("tests/attack/README.md lacks the row {row}")).collect()
}
