//! The conformance table is whole: each of its rows has a test that bears its name, here, beside
//! the code or with real programs.

use std::collections::BTreeSet;

use crate::tidy::sources;

/// The groups of the table with the number of their rows.
const GROUPS: [(&str, u32); 13] = [
    ("hs", 18),
    ("ch", 47),
    ("uc", 4),
    ("am", 15),
    ("cm", 34),
    ("da", 5),
    ("ag", 3),
    ("so", 1),
    ("fl", 10),
    ("ex", 13),
    ("px", 3),
    ("tm", 4),
    ("in", 3),
];

/// Rows that speak of what the server does not do.
const WITHOUT_TEST: [(&str, &str); 6] = [
    ("cm_05", "every application is there"),
    ("fl_09", "HTTP-FLV"),
    ("fl_10", "HTTP-FLV"),
    ("px_01", "the PROXY protocol"),
    ("px_02", "the PROXY protocol"),
    ("px_03", "the PROXY protocol"),
];

#[test]
fn every_row_of_the_table_has_a_test_that_is_named_after_it() {
    let rows: BTreeSet<_> =
        GROUPS.iter().flat_map(|(group, rows)| (1..=*rows).map(|row| id(group, row))).collect();
    let tested: BTreeSet<_> = ["src", "tests"]
        .into_iter()
        .flat_map(sources)
        .flat_map(|source| source.test_names().flat_map(rows_of).collect::<Vec<_>>())
        .collect();
    let excused: BTreeSet<_> = WITHOUT_TEST.iter().map(|(row, _)| (*row).to_owned()).collect();
    let untested: BTreeSet<_> = rows.difference(&tested).cloned().collect();
    assert_eq!(untested, excused, "rows without a test, and those that may be");
    assert_eq!(tested.difference(&rows).collect::<Vec<_>>(), Vec::<&String>::new(), "no such row");
}

fn id(group: &str, row: u32) -> String {
    format!("{group}_{row:02}")
}

/// The rows that a test is named after: `cm_10_to_cm_12_...`, `in_01_hs_14_...`.
fn rows_of(test: &str) -> Vec<String> {
    let parts: Vec<_> = test.split('_').collect();
    let row_at = |at: usize| {
        let group = GROUPS.iter().map(|(group, _)| *group).find(|group| *group == parts[at])?;
        let row = parts.get(at + 1).filter(|row| row.len() == 2)?;
        row.parse::<u32>().ok().map(|row| (group, row))
    };
    let mut rows = Vec::new();
    for at in 0..parts.len() {
        let Some((group, row)) = row_at(at) else { continue };
        let is_range = parts.get(at + 2) == Some(&"to");
        let last = if is_range { row_at(at + 3).map_or(row, |(_, last)| last) } else { row };
        rows.extend((row..=last).map(|row| id(group, row)));
    }
    rows
}
