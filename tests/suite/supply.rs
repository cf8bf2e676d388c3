//! What comes in with the dependencies, and what the compiler is told to refuse: the licences,
//! sources and duplicates of `deny.toml`, held without cargo-deny, which not every machine has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

fn table(text: &str) -> DeValue<'_> {
    DeValue::Table(DeTable::parse(text).expect("TOML").into_inner())
}

/// What lies at a path of keys, as it is written.
fn find<'v, 'a>(value: &'v DeValue<'a>, keys: &[&str]) -> Option<&'v DeValue<'a>> {
    keys.iter().try_fold(value, |value, key| Some(value.get(*key)?.get_ref()))
}

fn str_of<'v>(value: &'v DeValue<'_>, key: &str) -> Option<&'v str> {
    find(value, &[key])?.as_str()
}

fn list<'v, 'a>(value: &'v DeValue<'a>, keys: &[&str]) -> Vec<&'v DeValue<'a>> {
    let list = find(value, keys).and_then(DeValue::as_array);
    list.unwrap_or_else(|| panic!("no list {keys:?}")).iter().map(|item| item.get_ref()).collect()
}

/// The packages of a lock file that are not our own.
fn foreign<'v, 'a>(lock: &'v DeValue<'a>) -> Vec<&'v DeValue<'a>> {
    let mut packages = list(lock, &["package"]);
    packages.retain(|package| str_of(package, "name") != Some("tiderace"));
    assert!(packages.len() > 10, "{} packages", packages.len());
    packages
}

#[test]
fn every_dependency_comes_from_crates_io_with_its_checksum() {
    let lock = text("Cargo.lock");
    for package in foreign(&table(&lock)) {
        assert_eq!(str_of(package, "source"), Some(CRATES_IO), "{package:?}");
        assert!(str_of(package, "checksum").is_some_and(|sum| sum.len() == 64), "{package:?}");
    }
}

#[test]
fn no_dependency_is_there_twice_without_a_reason() {
    let (lock, deny) = (text("Cargo.lock"), text("deny.toml"));
    let (lock, deny) = (table(&lock), table(&deny));
    let mut versions = BTreeMap::<_, BTreeSet<_>>::new();
    for package in foreign(&lock) {
        versions.entry(str_of(package, "name")).or_default().insert(str_of(package, "version"));
    }
    let twice: BTreeSet<_> =
        versions.iter().filter(|(_, all)| all.len() > 1).filter_map(|(name, _)| *name).collect();
    let excepted: BTreeSet<_> = list(&deny, &["bans", "skip"])
        .into_iter()
        .map(|exception| {
            assert!(str_of(exception, "reason").is_some_and(|r| r.len() > 10), "{exception:?}");
            let name = str_of(exception, "crate").and_then(|name| name.split('@').next());
            name.expect("the name of a crate")
        })
        .collect();
    assert_eq!(twice, excepted, "crates in two versions, and exceptions in deny.toml");
}

#[test]
fn the_protocol_alone_stands_on_few_crates() {
    let manifest = text("Cargo.toml");
    let manifest = table(&manifest);
    let dependencies = find(&manifest, &["dependencies"]).and_then(DeValue::as_table).unwrap();
    let is_optional = |dependency: &DeValue<'_>| {
        find(dependency, &["optional"]).and_then(DeValue::as_bool) == Some(true)
    };
    let always = dependencies.iter().filter(|(_, dependency)| !is_optional(dependency.get_ref()));
    let always: BTreeSet<_> = always.map(|(name, _)| name.get_ref().as_ref()).collect();
    let expected =
        ["base64", "bitreader", "bytes", "hmac", "md-5", "sha2", "smallvec", "smol_str", "subtle"];
    assert_eq!(always, BTreeSet::from(expected));
}

#[test]
fn every_licence_is_one_that_we_may_pass_on() {
    let deny = text("deny.toml");
    let deny = table(&deny);
    let allowed = list(&deny, &["licenses", "allow"]).into_iter();
    let allowed: Vec<_> = allowed.filter_map(DeValue::as_str).collect();
    let packages = packages_of_this_system();
    assert!(packages.len() > 10, "{} packages", packages.len());
    for package in packages {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_allowed(licence, &allowed), "{}: {licence:?}", package["id"]);
    }
}

/// What is built here, with licences, as cargo knows it.
fn packages_of_this_system() -> Vec<Json> {
    let version = Command::new("rustc").arg("-vV").output().expect("rustc");
    let version = String::from_utf8(version.stdout).expect("text");
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", host])
        .output()
        .expect("cargo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Json = serde_json::from_slice(&output.stdout).expect("metadata");
    metadata["packages"].as_array().expect("packages").clone()
}

/// Whether an expression of licences (SPDX) leaves a choice that is allowed. Old crates write a
/// slash for `OR`.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let expression = expression.replace('/', " OR ");
    // What is in brackets is decided first; its place is taken by what is always allowed or never.
    if let Some((before, rest)) = expression.rsplit_once('(') {
        let (inside, behind) = rest.split_once(')').expect("a closing bracket");
        let decided = if is_allowed(inside, allowed) { allowed[0] } else { "none" };
        return is_allowed(&format!("{before}{decided}{behind}"), allowed);
    }
    expression
        .split(" OR ")
        .any(|choice| choice.split(" AND ").all(|licence| allowed.contains(&licence.trim())))
}

#[test]
fn an_expression_of_licences_is_read_as_it_is_meant() {
    let allowed = ["MIT", "Zlib"];
    for (expression, expected) in [
        ("MIT", true),
        ("", false),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("GPL-3.0-only/MIT", true),
        ("GPL-3.0-only AND MIT", false),
        ("(GPL-3.0-only OR MIT) AND Zlib", true),
        ("(GPL-3.0-only OR MIT) AND GPL-3.0-only", false),
        ("Apache-2.0 WITH LLVM-exception", false),
        ("MIT OR Apache-2.0 AND GPL-3.0-only", true),
    ] {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression:?}");
    }
}

#[test]
fn unsafe_code_is_forbidden_everywhere() {
    // What is forbidden for a whole crate nothing in it can allow again.
    for root in ["src/lib.rs", "tests/fuzz/lib.rs"] {
        assert!(text(root).contains("\n#![forbid(unsafe_code)]\n"), "{root}");
    }
    // The program, the tests and the benchmarks have it from here.
    let manifest = text("Cargo.toml");
    let manifest = table(&manifest);
    let level = find(&manifest, &["lints", "rust", "unsafe_code"]);
    assert_eq!(level.and_then(DeValue::as_str), Some("forbid"));
}

#[test]
fn an_overflow_is_a_panic_in_what_is_shipped_too() {
    let manifest = text("Cargo.toml");
    let manifest = table(&manifest);
    let checks = find(&manifest, &["profile", "release", "overflow-checks"]);
    assert_eq!(checks.and_then(DeValue::as_bool), Some(true));
}
