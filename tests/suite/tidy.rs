//! The house rules that a program can check: which layer knows what, how long things are, which
//! words may not stay. A rule that bites is kept or changed here, never gone round.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const LINE_CHARS_MAX: usize = 100;
const FUNCTION_LINES_MAX: usize = 70;
/// Functions that may be longer, as `path name`, each with its reason.
const LONG_FUNCTIONS: [&str; 0] = [];

/// Modules that may share a name. `tests` is the test module of each file.
const SHARED_MODULES: [&str; 1] = ["tests"];
/// Public types that may share a name. `Gops` is the state of the GOP rule in `stream/gops.rs` and
/// a figure about their lengths in `stream/meter.rs`: neither is named outside `stream`.
const SHARED_TYPES: [&str; 1] = ["Gops"];

/// What each part of the library may use beside itself. Dependencies point one way: net, server,
/// stream, then the protocol and the media, then values and bounds; load beside net and server.
const LAYERS: [(&str, &[&str]); 15] = [
    ("limits", &[]),
    ("time", &[]),
    ("text", &["limits"]),
    ("amf0", &["limits"]),
    ("amf3", &["amf0", "limits"]),
    ("media", &["amf0", "amf3", "limits"]),
    ("rtmp", &["amf0", "limits", "text", "time"]),
    ("http", &["limits"]),
    ("config", &["limits", "rtmp", "text"]),
    ("budget", &["limits"]),
    ("stream", &["amf0", "budget", "config", "http", "limits", "media", "rtmp", "time"]),
    ("server", &["budget", "config", "http", "limits", "media", "rtmp", "stream", "text", "time"]),
    ("descriptors", &[]),
    ("net", &["config", "descriptors", "limits", "rtmp", "server", "stream", "time"]),
    ("load", &["amf0", "descriptors", "limits", "media", "rtmp", "text", "time"]),
];

/// The parts that turn bytes into values and back, and know of nothing else.
const PURE: [&str; 9] =
    ["amf0", "amf3", "budget", "http", "limits", "media", "rtmp", "text", "time"];
/// The parts with sockets and the clock. `bin` is what belongs to the program alone.
const OUTSIDE: [&str; 4] = ["descriptors", "net", "load", "bin"];

#[test]
fn the_pure_parts_know_no_socket_clock_log_or_random_number() {
    let foreign = ["std::net", "std::io", "std::fs", "std::env", "std::process", "std::thread"];
    let crates = ["mio", "rustix", "rand", "log", "signal_hook", "slab"];
    expect_none(sources("src").filter(|source| PURE.contains(&source.part())).flat_map(|source| {
        let (mut found, crates) = (source.finds(&foreign), crates.map(|name| format!("{name}::")));
        found.extend(source.finds(&crates.each_ref().map(String::as_str)));
        found
    }));
}

#[test]
fn sockets_and_the_poll_are_known_outside_alone() {
    let sockets = ["mio::", "rustix::", "signal_hook", "TcpStream", "TcpListener", "UdpSocket"];
    expect_none(
        sources("src")
            .filter(|source| !OUTSIDE.contains(&source.part()))
            .flat_map(|source| source.finds(&sockets)),
    );
}

#[test]
fn the_clock_and_chance_are_known_outside_alone() {
    let clocks = ["Instant", "SystemTime", "elapsed()", "rand::"];
    expect_none(
        sources("src")
            .filter(|source| !OUTSIDE.contains(&source.part()))
            .flat_map(|source| source.finds(&clocks)),
    );
}

#[test]
fn dependencies_point_one_way() {
    expect_none(sources("src").flat_map(|source| {
        let part = source.part();
        let allowed = LAYERS.iter().find(|(layer, _)| *layer == part).map(|(_, uses)| *uses);
        let uses = source.code().flat_map(|(number, line)| {
            line.split("crate::").skip(1).map(move |rest| (number, word(rest).to_owned()))
        });
        let wrong = uses.filter(|(_, used)| {
            let declared = source.reaches(used);
            used != part && !declared && !allowed.is_some_and(|uses| uses.contains(&used.as_str()))
        });
        wrong
            .map(|(number, used)| format!("{}:{number}: {part} uses {used:?}", source.path))
            .collect::<Vec<_>>()
    }));
}

#[test]
fn no_two_modules_share_a_name() {
    expect_unique(&SHARED_MODULES, Source::modules);
}

#[test]
fn no_two_public_types_share_a_name() {
    expect_unique(&SHARED_TYPES, Source::public_types);
}

/// Expects that no name that `names` finds is in two files, except those in `shared`. A re-export
/// defines no name.
fn expect_unique(shared: &[&str], names: impl Fn(&Source) -> Vec<String>) {
    let mut paths: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources("src") {
        for name in names(&source) {
            paths.entry(name).or_default().insert(source.path.clone());
        }
    }
    paths.retain(|_, paths| paths.len() > 1);
    let unused = shared.iter().filter(|name| !paths.contains_key(**name));
    let unused = unused.map(|name| format!("{name} is no longer shared, and needs no exception"));
    let clashes = paths.iter().filter(|(name, _)| !shared.contains(&name.as_str()));
    expect_none(clashes.map(|(name, paths)| format!("{name}: {paths:?}")).chain(unused));
}

#[test]
fn nothing_unfinished_stays() {
    let words =
        ["TODO", "FIXME", "XXX", "for now", "placeholder", "dbg!", "todo!", "unimplemented!"];
    let texts = ["CHANGELOG.md", "CONTRIBUTING.md", "Cargo.toml", "README.md", "SECURITY.md"]
        .into_iter()
        .chain(["deny.toml", "tests/run", "tests/fuzz/run", ".ci/run"])
        .map(read)
        .chain(files("src/manual", "md"));
    let this = file!();
    expect_none(["src", "tests", "benches"].into_iter().flat_map(sources).chain(texts).flat_map(
        |source| {
            let lines = source.lines().filter(|_| source.path != this);
            lines
                .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
                .map(|(number, line)| format!("{}:{number}: {line}", source.path))
                .collect::<Vec<_>>()
        },
    ));
}

#[test]
fn every_file_begins_with_what_it_is() {
    expect_none(
        ["src", "tests", "benches"]
            .into_iter()
            .flat_map(sources)
            .filter(|source| !source.text.starts_with("//! "))
            .map(|source| source.path),
    );
}

#[test]
fn every_file_is_part_of_a_program() {
    for (directory, roots) in [
        ("src", &["src/lib.rs", "src/main.rs"][..]),
        ("tests/suite", &["tests/suite/main.rs"]),
        ("tests/interop", &["tests/interop/main.rs"]),
        ("tests/fuzz/bodies", &["tests/fuzz/bodies/mod.rs"]),
        ("tests/attack", &["tests/attack/main.rs"]),
        ("tests/examples", &["tests/examples/publisher.rs", "tests/examples/server.rs"]),
    ] {
        let mut reached = BTreeSet::new();
        roots.iter().for_each(|root| reach(Path::new(root), &mut reached));
        expect_none(sources(directory).map(|source| source.path).filter(|p| !reached.contains(p)));
    }
}

#[test]
fn lines_fit_beside_each_other() {
    expect_none(["src", "tests", "benches"].into_iter().flat_map(sources).flat_map(|source| {
        source
            .lines()
            .filter(|(_, line)| line.chars().count() > LINE_CHARS_MAX)
            .map(|(number, line)| {
                format!("{}:{number}: {} characters", source.path, line.chars().count())
            })
            .collect::<Vec<_>>()
    }));
}

#[test]
fn functions_fit_on_a_screen() {
    let long: Vec<_> = sources("src")
        .flat_map(|source| source.functions())
        .filter(|(_, lines)| *lines > FUNCTION_LINES_MAX)
        .collect();
    expect_none(
        long.iter()
            .filter(|(name, _)| !LONG_FUNCTIONS.contains(&name.as_str()))
            .map(|(name, lines)| format!("{name}: {lines} lines")),
    );
    let is_long = |name: &&str| long.iter().any(|(function, _)| function == name);
    expect_none(
        LONG_FUNCTIONS
            .iter()
            .filter(|name| !is_long(name))
            .map(|name| format!("{name} is no longer long, and needs no exception")),
    );
}

#[test]
fn tests_come_last_in_a_file() {
    let with_tests = sources("src").filter(|source| !source.path.ends_with("/tests.rs"));
    expect_none(with_tests.filter_map(|source| {
        let tests = &source.text[source.production().len()..];
        let end = tests.find("\n}\n").map_or(tests.len(), |at| at + "\n}\n".len());
        let behind = if tests.contains(" {\n") { &tests[end..] } else { "" };
        (!behind.is_empty()).then(|| format!("{}: code behind its tests", source.path))
    }));
}

#[test]
fn every_dependency_has_its_reason() {
    for manifest in ["Cargo.toml", "tests/fuzz/Cargo.toml"].map(read) {
        let (mut section, mut above) = ("", "");
        for line in manifest.text.lines() {
            if line.starts_with('[') {
                section = line;
            } else if section.ends_with("dependencies]") && line.contains(" = ") {
                assert!(above.starts_with("# ") || line.contains(" # "), "no reason given: {line}");
            }
            above = line;
        }
    }
}

#[test]
fn the_changelog_keeps_its_shape() {
    let log = read("CHANGELOG.md");
    let headings: Vec<_> = log.text.lines().filter(|line| line.starts_with('#')).collect();
    assert_eq!(headings[..2], ["# Changelog", "## [Unreleased]"]);
    let kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"];
    for heading in &headings[2..] {
        let is_kind = heading.strip_prefix("### ").is_some_and(|kind| kinds.contains(&kind));
        assert!(is_kind || released(heading).is_some(), "{heading}");
    }
    let newest = headings.iter().find_map(|heading| released(heading));
    assert!(newest.is_none_or(|version| version == env!("CARGO_PKG_VERSION")), "{newest:?}");
    let (_, entries) = log.text.split_once("## [Unreleased]").unwrap();
    for line in entries.lines().filter(|line| !line.is_empty()) {
        assert!(["#", "- ", "  ", "["].iter().any(|start| line.starts_with(start)), "{line}");
    }
}

/// The version of `## [1.2.3] - 2026-01-31`.
fn released(heading: &str) -> Option<&str> {
    let (version, date) = heading.strip_prefix("## [")?.split_once("] - ")?;
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    (date.len() == 10 && date.split('-').all(digits) && version.split('.').all(digits))
        .then_some(version)
}

/// A file of the project.
pub(crate) struct Source {
    /// Seen from the top, with slashes.
    path: String,
    text: String,
}

impl Source {
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The part of the library that it belongs to; `bin` for the program's own files, and nothing
    /// for what only says which parts there are.
    fn part(&self) -> &str {
        let below = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let name = below.split('/').next().unwrap_or(below).trim_end_matches(".rs");
        match name {
            "main" | "cli" | "logging" | "output" | "settings_file" => "bin",
            "lib" | "test_support" => "",
            name => name,
        }
    }

    /// The program declares its own parts, which its files may use.
    fn reaches(&self, used: &str) -> bool {
        self.part() == "bin" && ["cli", "logging", "output", "settings_file"].contains(&used)
            || self.path == "src/test_support.rs"
    }

    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.text.lines())
    }

    /// All before the tests of the file; nothing of a file of tests.
    fn production(&self) -> &str {
        if self.path.ends_with("/tests.rs") {
            return "";
        }
        self.text.find("#[cfg(test)]\nmod ").map_or(&self.text, |tests| &self.text[..tests])
    }

    /// The numbered lines before the tests, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        (1..).zip(self.production().lines().map(|line| line.split("//").next().unwrap_or_default()))
    }

    /// The names of the tests in the file.
    pub(crate) fn test_names(&self) -> impl Iterator<Item = &str> {
        let mut attributes = self.text.lines().map(str::trim).skip_while(|line| *line != "#[test]");
        std::iter::from_fn(move || {
            attributes.find(|line| *line == "#[test]")?;
            attributes.by_ref().find_map(function_name)
        })
    }

    /// Where the code has one of `words`, and not as the end of a longer one.
    fn finds(&self, words: &[&str]) -> Vec<String> {
        let has = |line: &str, word: &str| {
            line.match_indices(word).any(|(at, _)| !line[..at].ends_with(is_name))
        };
        self.code()
            .filter(|(_, line)| words.iter().any(|word| has(line, word)))
            .map(|(number, line)| format!("{}:{number}: {}", self.path, line.trim()))
            .collect()
    }

    /// The modules that the file is and has, without those of its tests.
    fn modules(&self) -> Vec<String> {
        let path = self.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let own = path.rsplit('/').next().unwrap_or(path).to_owned();
        let inline = self.code().filter(|(_, line)| line.ends_with('{'));
        let inline = inline.filter_map(|(_, line)| item_name(line, &["mod"]));
        inline.map(str::to_owned).chain([own]).collect()
    }

    /// The types before the tests that other files can name.
    fn public_types(&self) -> Vec<String> {
        let kinds = ["struct", "enum", "union", "trait", "type"];
        let public = self.code().filter(|(_, line)| line.trim_start().starts_with("pub"));
        public.filter_map(|(_, line)| item_name(line, &kinds)).map(str::to_owned).collect()
    }

    /// The functions before the tests, as `path name`, with their lines.
    fn functions(&self) -> Vec<(String, usize)> {
        let lines: Vec<_> = self.code().map(|(_, line)| line).collect();
        let mut functions = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let Some(name) = function_name(line) else { continue };
            let is_whole = line.ends_with(['}', ';']);
            let ends = |below: &&str| {
                let closes = below.trim_start().starts_with(['}', ')']);
                closes && indent(below) == indent(line) && below.ends_with(['}', ';'])
            };
            let below = lines[at + 1..].iter().position(ends).unwrap_or(0);
            let count = if is_whole { 1 } else { below + 2 };
            functions.push((format!("{} {name}", self.path), count));
        }
        functions
    }
}

/// The name of the function that begins on a line.
fn function_name(line: &str) -> Option<&str> {
    let (before, rest) = line.split_once("fn ")?;
    let is_modifier = |word: &str| word == "const" || word.starts_with("pub") || word == "super)";
    before.split_whitespace().all(is_modifier).then(|| word(rest))
}

/// The name of the item of one of `kinds` that begins on a line.
fn item_name<'a>(line: &'a str, kinds: &[&str]) -> Option<&'a str> {
    let line = line.trim_start();
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.trim_start(),
        None => line,
    };
    let (kind, rest) = line.split_once(' ')?;
    // A macro names its item by a variable.
    kinds.contains(&kind).then(|| word(rest)).filter(|name| !name.is_empty())
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The Rust files below a directory; none where there is none.
pub(crate) fn sources(directory: &str) -> impl Iterator<Item = Source> {
    files(directory, "rs")
}

/// The files with an ending below a directory; none where there is none.
fn files(directory: &str, ending: &str) -> impl Iterator<Item = Source> + use<> {
    let mut files = Vec::new();
    let mut directories = vec![top().join(directory)];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                files.push(path.strip_prefix(top()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    files.sort();
    files.into_iter().map(|path| read(&path))
}

fn read(path: &str) -> Source {
    let text = fs::read_to_string(top().join(path)).unwrap();
    Source { path: path.to_owned(), text }
}

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Follows the `mod` lines of `file` and of what they name.
fn reach(file: &Path, reached: &mut BTreeSet<String>) {
    let path = file.to_str().unwrap();
    if !top().join(file).is_file() || !reached.insert(path.to_owned()) {
        return;
    }
    let stem = file.file_stem().unwrap().to_str().unwrap();
    let above = file.parent().unwrap();
    let is_root = ["main", "lib", "mod"].contains(&stem);
    let directory = if is_root { above.to_owned() } else { above.join(stem) };
    for line in read(path).text.lines() {
        let Some(rest) = line.trim_end().strip_suffix(';') else { continue };
        if let Some((_, name)) = rest.split_once("mod ") {
            reach(&directory.join(format!("{name}.rs")), reached);
            reach(&directory.join(name).join("mod.rs"), reached);
        }
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The name that `text` begins with.
fn word(text: &str) -> &str {
    text.split(|c| !is_name(c)).next().unwrap_or_default()
}

fn expect_none(found: impl IntoIterator<Item = String>) {
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}
