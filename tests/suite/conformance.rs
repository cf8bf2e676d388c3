//! The conformance table (`conformance.md`) and the tests are the same list: each row has a test
//! that bears its name, here, beside the code or with real programs, or says why not; and no test
//! bears the name of a row that is not there.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::sources;

const TABLE: &str = include_str!("conformance.md");
/// The cases of the attack suite, whose rows tests in virtual time are named after as well.
const ATTACKS: &str = include_str!("../attack/README.md");

#[test]
fn every_row_of_the_table_has_a_test_that_is_named_after_it_or_says_why_not() {
    let (rows, tested) = (rows(), tested());
    for (row, without) in &rows {
        let has_test = tested.contains(row);
        assert!(has_test || !without.is_empty(), "{row} has no test and no reason");
        assert!(!has_test || without.is_empty(), "{row} has a test, and a reason why it has none");
        for other in rows_in(without, &rows) {
            assert!(tested.contains(&other), "{row} is to be held by {other}, which has no test");
        }
    }
    let of_attacks: BTreeSet<_> = ids_of(ATTACKS).map(|(id, _)| id).collect();
    let unknown =
        tested.iter().filter(|row| !rows.contains_key(*row) && !of_attacks.contains(*row));
    assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&String>::new(), "no such row");
}

/// The parser of the table must not lose what it is to compare.
#[test]
fn the_table_is_read_as_a_whole() {
    let lines = TABLE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| row |"));
    assert_eq!(rows().len(), lines.count());
    assert!(rows().len() > 230 && ids_of(ATTACKS).count() > 60);
    assert_eq!(named_rows("cm_10_to_cm_12_x"), ["cm_10", "cm_11", "cm_12"]);
    assert_eq!(named_rows("in_01_hs_14_x"), ["in_01", "hs_14"]);
    assert_eq!(named_rows("quirk_7_to_quirk_8_of_e07"), ["quirk_7", "quirk_8"]);
    assert_eq!(named_rows("e07_x_of_g711_and_a_quirk"), ["e07"]);
}

/// The rows of the table: what each has in place of a test.
fn rows() -> BTreeMap<String, String> {
    ids_of(TABLE).map(|(id, cells)| (id, (*cells.last().unwrap_or(&"")).to_owned())).collect()
}

/// The rows of tables in Markdown whose first cell is an id, with their cells.
fn ids_of(document: &str) -> impl Iterator<Item = (String, Vec<&str>)> {
    document.lines().filter_map(|line| {
        let cells = line.strip_prefix("| ")?.strip_suffix('|')?;
        let cells: Vec<_> = cells.split(" | ").map(str::trim).collect();
        let id = cells.first()?.to_lowercase();
        (named_rows(&id) == [id.as_str()]).then_some((id, cells))
    })
}

fn rows_in(text: &str, rows: &BTreeMap<String, String>) -> Vec<String> {
    let words = text.split([' ', ',']).map(str::to_owned);
    words.filter(|word| rows.contains_key(word)).collect()
}

/// All rows that a test is named after.
fn tested() -> BTreeSet<String> {
    let of_source =
        |source: crate::tidy::Source| source.test_names().flat_map(named_rows).collect::<Vec<_>>();
    ["src", "tests"].into_iter().flat_map(sources).flat_map(of_source).collect()
}

/// The rows that a test is named after: `cm_10_to_cm_12_...`, `in_01_hs_14_...`, `quirk_3_...`,
/// and `e07_...` at the beginning of a name alone.
fn named_rows(test: &str) -> Vec<String> {
    const GROUPS: [&str; 14] =
        ["hs", "ch", "uc", "am", "cm", "da", "ag", "so", "fl", "ex", "px", "tm", "in", "quirk"];
    let parts: Vec<_> = test.split('_').collect();
    let row_at = |at: usize| {
        let group = GROUPS.into_iter().find(|group| parts.get(at) == Some(group))?;
        let number = parts.get(at + 1).filter(|row| row.len() == 2 || group == "quirk")?;
        number.parse::<u32>().ok().map(|number| (group, number))
    };
    let mut rows: Vec<String> = parts
        .first()
        .filter(|part| is_attack(part))
        .map_or_else(Vec::new, |id| vec![(*id).to_owned()]);
    for at in 0..parts.len() {
        let Some((group, first)) = row_at(at) else { continue };
        let is_range = parts.get(at + 2) == Some(&"to");
        let last = if is_range { row_at(at + 3).map_or(first, |(_, last)| last) } else { first };
        let numbers = first..=last;
        rows.extend(numbers.map(|number| match group {
            "quirk" => format!("quirk_{number}"),
            group => format!("{group}_{number:02}"),
        }));
    }
    // Both ends of a range are found twice.
    rows.dedup();
    rows
}

/// `e07`, as attacks are named: a letter and two digits.
fn is_attack(part: &str) -> bool {
    let mut characters = part.chars();
    characters.next().is_some_and(|letter| letter.is_ascii_lowercase())
        && part.len() == 3
        && characters.all(|digit| digit.is_ascii_digit())
}
