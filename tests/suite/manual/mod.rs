//! README, manual and the other documents are true where a program can tell: links hold, commands
//! run, settings parse, and what the code can print is printed as the code says it.

pub(crate) mod generated;
mod markdown;
mod programs;
mod shell;

use std::fs;
use std::path::Path;

use tiderace::config::{FileText, Settings};
use tiderace::load::report::{Better, METRICS, MetricKind, Need};
use tiderace::rtmp::quirks::{Quirk, Repair, Repairs, Tolerated};
use tiderace::server::reason::CloseReason;

use self::generated::Part;
use self::markdown::{Document, top};
use self::shell::ShellCommand;
use crate::support::program;

/// The documents besides the manual.
const DOCUMENTS: [&str; 5] =
    ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "tests/attack/README.md"];
/// What rustdoc takes for the targets of the manual's links. It comes before each page, and of two
/// definitions of one label the first counts; readers of the files see those of each page.
const RUSTDOC_LINKS: &str = "src/manual/links.md";
/// Languages of fenced blocks. What is `text` is not checked.
const LANGUAGES: [&str; 4] = ["sh", "toml", "text", "rust"];
const README_LINES_MAX: usize = 150;
/// Programs whose commands are checked in running text as well.
const PROGRAMS: [&str; 6] =
    ["tiderace", "cargo", "tests/run", "tests/fuzz/run", "benches/count", "systemctl"];

/// The pages of the manual.
fn pages() -> Vec<Document> {
    let entries = fs::read_dir(top().join("src/manual")).expect("the manual is there");
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut paths: Vec<_> = names
        .filter(|name| name.ends_with(".md"))
        .map(|name| format!("src/manual/{name}"))
        .filter(|path| path != RUSTDOC_LINKS)
        .collect();
    paths.sort();
    paths.iter().map(|path| Document::read(path)).collect()
}

fn documents() -> impl Iterator<Item = Document> {
    DOCUMENTS.map(Document::read).into_iter().chain(pages())
}

fn page(name: &str) -> Document {
    Document::read(&format!("src/manual/{name}.md"))
}

fn expect_none(wrong: impl IntoIterator<Item = String>) {
    let wrong: Vec<_> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_link_leads_somewhere() {
    expect_none(documents().flat_map(|document| {
        let links = document.links().into_iter();
        links
            .filter(|link| !link.target.starts_with("https://"))
            .filter(|link| !leads_somewhere(&document, &link.target))
            .map(|link| format!("{}: {} leads nowhere", link.place, link.target))
            .collect::<Vec<_>>()
    }));
}

fn leads_somewhere(document: &Document, target: &str) -> bool {
    let (file, anchor) = target.split_once('#').map_or((target, None), |(f, a)| (f, Some(a)));
    let path = if file.is_empty() { top().join(&document.path) } else { document.file(file) };
    let Some(anchor) = anchor else { return path.exists() };
    path.extension().is_some_and(|extension| extension == "md") && path.is_file() && {
        let other = Document::read(path.to_str().unwrap());
        other.anchors().iter().any(|known| known == anchor)
    }
}

#[test]
fn every_label_of_a_link_is_defined_and_used() {
    expect_none(documents().flat_map(|document| {
        let defined: Vec<_> = document.definitions().into_iter().map(|(label, _)| label).collect();
        let missing = document.references().into_iter().filter(|label| !defined.contains(label));
        let missing = missing.map(|label| format!("{}: [{label}] is not defined", document.path));
        let unused = defined.iter().filter(|label| !document.uses(label));
        let unused = unused.map(|label| format!("{}: [{label}] is not used", document.path));
        missing.chain(unused).collect::<Vec<_>>()
    }));
}

/// In the files a link leads to a file, in rustdoc to a module. rustdoc itself finds out whether
/// the module is there.
#[test]
fn links_of_the_manual_lead_to_the_same_place_in_rustdoc() {
    let in_rustdoc = Document::read(RUSTDOC_LINKS).definitions();
    expect_none(pages().iter().flat_map(|page| {
        let wrong = page.definitions().into_iter().filter(|(label, link)| {
            let file = link.target.trim_start_matches("../").trim_end_matches("/mod.rs");
            let file = file.trim_end_matches(".rs").replace('/', "::");
            let expected = match file.strip_suffix(".md") {
                Some(page) => format!("crate::manual::{page}"),
                None if file == "lib" => "crate".to_owned(),
                None => format!("crate::{file}"),
            };
            let known = in_rustdoc.iter().find(|(known, _)| known == label);
            known.is_none_or(|(_, known)| known.target != expected)
        });
        wrong
            .map(|(label, link)| format!("{}: {RUSTDOC_LINKS} has another {label}", link.place))
            .collect::<Vec<_>>()
    }));
    expect_none(pages().iter().flat_map(|page| {
        // An inline link has one target, which would be wrong in one of the two.
        let inline = page.text.match_indices("](").map(|(at, _)| &page.text[at..]);
        let relative = inline.filter(|link| !link.starts_with("](https://"));
        relative.map(|link| format!("{}: {}", page.path, link.lines().next().unwrap_or_default()))
    }));
}

#[test]
fn every_page_is_a_module_and_stands_in_the_index() {
    let index = fs::read_to_string(top().join("src/manual/mod.rs")).unwrap();
    expect_none(pages().iter().flat_map(|page| {
        let name = page.stem();
        let lines = [
            format!("//! | [`{name}`] | "),
            "#[doc = include_str!(\"links.md\")]".to_owned(),
            format!("#[doc = include_str!(\"{name}.md\")]\npub mod {name} {{}}\n"),
        ];
        let missing = lines.into_iter().filter(|line| !index.contains(line));
        missing.map(|line| format!("src/manual/mod.rs lacks {line}")).collect::<Vec<_>>()
    }));
}

#[test]
fn every_command_that_is_shown_runs() {
    let mut count = 0;
    expect_none(documents().flat_map(|document| {
        let mut wrong = Vec::new();
        let blocks = document.blocks().into_iter().filter(|block| block.language == "sh");
        let blocks = blocks.map(|block| (block.place, block.text));
        let spans = document.code_spans().into_iter().filter(|(_, span)| {
            span.split(' ').next().is_some_and(|word| PROGRAMS.contains(&word))
        });
        for (place, text) in blocks.chain(spans) {
            let commands: Vec<ShellCommand> = shell::commands(&text);
            count += commands.len();
            let errors = commands.iter().filter_map(|command| programs::check(command).err());
            wrong.extend(errors.map(|error| format!("{place}: {error}")));
        }
        wrong
    }));
    assert!(count > 100, "the documents show {count} commands");
}

#[test]
fn every_block_says_its_language() {
    expect_none(documents().flat_map(|document| {
        let blocks = document.blocks().into_iter();
        blocks
            .filter(|block| !LANGUAGES.contains(&block.language.as_str()))
            .map(|block| format!("{}: {:?} is not checked", block.place, block.language))
            .collect::<Vec<_>>()
    }));
}

#[test]
fn every_block_of_settings_is_a_good_file() {
    let mut count = 0;
    for block in documents().flat_map(|document| document.blocks()) {
        if block.language == "toml" {
            count += 1;
            let file = FileText { name: &block.place, text: &block.text };
            if let Err(errors) = Settings::read(Some(file), &[]) {
                expect_none(errors.iter().map(ToString::to_string));
            }
        }
    }
    assert!(count > 1, "the documents have {count} files");
}

#[test]
fn every_path_that_is_named_is_there() {
    expect_none(documents().flat_map(|document| {
        let spans = document.code_spans().into_iter();
        let paths = spans.filter(|(_, span)| {
            let is_path = ["src/", "tests/", "benches/"].iter().any(|top| span.starts_with(top));
            is_path && !span.contains(' ')
        });
        let missing = paths.filter(|(_, path)| !top().join(path).exists());
        missing.map(|(place, path)| format!("{place}: {path} is not there")).collect::<Vec<_>>()
    }));
}

#[test]
fn the_readme_stays_short() {
    let lines = Document::read("README.md").text.lines().count();
    assert!(lines <= README_LINES_MAX, "{lines} lines: the manual has room");
}

#[test]
fn the_help_shows_the_lines_of_the_readme_to_play_with() {
    let (help, readme) = (help(&["--help"]), Document::read("README.md").text);
    for program in ["ffplay", "vlc"] {
        let line = readme.lines().find(|line| line.starts_with(&format!("{program} "))).unwrap();
        assert!(help.contains(&format!("\n  {line}\n")), "the help lacks this line: {line}");
    }
}

const WRITES: &str = "tests/run manual";

#[test]
fn the_settings_are_those_of_the_code() {
    Part::find("configuration.md", "settings").expect(&settings(), WRITES);
}

/// The settings as a table for each section, made from the sample file that the server prints.
fn settings() -> String {
    const RESTART: &str = "A reload does not change it.";
    const HEAD: &str = "| key | default | values | meaning |\n|---|---|---|---|\n";
    let (mut text, mut section, mut about) = (HEAD.to_owned(), String::new(), Vec::new());
    for line in Settings::sample().lines() {
        if let Some(name) = line.strip_prefix('[') {
            let name = name.trim_end_matches(']');
            section = format!("{name}.");
            text += &format!("\n### Section `[{name}]`\n\n{HEAD}");
        } else if let Some(comment) = line.strip_prefix('#') {
            about.push(comment.trim());
        } else if let Some((key, value)) = line.split_once(" = ") {
            let (default, values) = value.split_once("  # ").expect("the values that it may have");
            let restart = about.contains(&RESTART);
            about.retain(|line| *line != RESTART);
            // Brackets would make a link.
            let (about, values) = (about.join(" ").replace('[', "\\["), values.replace('[', "\\["));
            let mark = if restart { " *Restart.*" } else { "" };
            text += &format!("| `{section}{key}` | `{default}` | {values} | {about}{mark} |\n");
        } else {
            about.clear();
        }
    }
    text
}

#[test]
fn the_exit_codes_are_those_of_the_help() {
    Part::find("running.md", "exit codes").expect(&exit_codes(&["--help"]), WRITES);
    Part::find("measuring.md", "exit codes").expect(&exit_codes(&["load", "--help"]), WRITES);
}

#[test]
fn the_figures_of_load_are_those_of_the_table() {
    Part::find("load_figures.md", "metrics").expect(&metrics(), WRITES);
}

/// The table of metrics in Markdown.
fn metrics() -> String {
    let mut text =
        "| name | unit | better | of | meaning | valid with |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for metric in METRICS {
        let form = match metric.kind {
            MetricKind::Figure => metric.unit.name().to_owned(),
            MetricKind::Distribution => "distribution, ms".to_owned(),
            MetricKind::Series => format!("series, {}", metric.unit.name()),
        };
        let better = match metric.better {
            Better::Lower => "lower",
            Better::Higher => "higher",
            Better::Neither => "",
        };
        let needs = metric.needs.iter().filter_map(|need| match need {
            Need::ServerPid => Some("`--server-pid`"),
            Need::Punctuality => Some("a punctual generator"),
            Need::PunctualJoining => Some("a generator that was punctual while players joined"),
            Need::OpenWindow => Some("a window that has opened"),
            Need::WholeRun => Some("a run that was not cut short"),
            Need::Occurrence => None,
        });
        let (name, meaning) = (metric.name, metric.meaning);
        let (commands, needs) = (metric.commands.join(", "), needs.collect::<Vec<_>>().join(", "));
        text += &format!("| `{name}` | {form} | {better} | {commands} | {meaning} | {needs} |\n");
    }
    text
}

/// The exit codes of a help text as a table.
fn exit_codes(args: &[&str]) -> String {
    let help = help(args);
    let (_, codes) = help.split_once("Exit codes:\n").expect("the help has exit codes");
    let rows = codes.lines().map(|line| line.trim().split_once("  ").expect("a code"));
    let rows = rows.map(|(code, meaning)| format!("| {code} | {meaning} |\n"));
    ["| code | meaning |\n|---|---|\n".to_owned()].into_iter().chain(rows).collect()
}

fn help(args: &[&str]) -> String {
    let output = program::tiderace().args(args).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_close_reason_is_explained() {
    let text = page("running").text;
    let rows = CloseReason::ALL.iter().map(|reason| {
        let level = reason.level().as_str().to_lowercase();
        format!("\n| `{reason}` | {level} | ")
    });
    expect_none(rows.filter(|row| !text.contains(row)).map(|row| format!("no row {row}")));
    let (_, table) = text.split_once("| reason | level |").expect("a table of reasons");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|')).count();
    assert_eq!(rows, CloseReason::ALL.len(), "rows");
}

#[test]
fn every_quirk_and_every_repair_is_explained() {
    let text = page("encoders").text;
    let quirks = Quirk::ALL.iter().map(|quirk| {
        let mut tolerated = Tolerated::default();
        tolerated.note(*quirk);
        tolerated.to_string()
    });
    let repairs = Repair::ALL.iter().map(|repair| {
        let mut repairs = Repairs::default();
        repairs.note(*repair);
        repairs.to_string()
    });
    let said: Vec<_> = quirks.chain(repairs).collect();
    let row = |said: &String| format!("`{}` |", said.trim_start_matches("1 "));
    expect_none(said.iter().map(row).filter(|row| !text.contains(row)));
}

#[test]
fn every_file_that_the_page_of_the_library_names_is_there() {
    let page = include_str!("../../../src/lib.rs").lines().filter(|line| line.starts_with("//! |"));
    let spans = page.flat_map(|line| line.split('`').skip(1).step_by(2));
    let (mut named, mut missing) = (0, Vec::new());
    // What is in brackets is a link, which rustdoc checks.
    for path in spans.filter(|span| span.contains('/') && !span.contains("::")) {
        let is_there = top().join(path).exists() || top().join("src").join(path).exists();
        named += 1;
        missing.extend((!is_there).then(|| format!("src/lib.rs names {path}, which is not there")));
    }
    assert!(named > 20, "the page names {named} files");
    expect_none(missing);
}

#[test]
fn every_file_the_tour_names_is_there() {
    let text = page("architecture").text;
    let tour = text.split("## A tour of the source").nth(1).unwrap_or_default();
    let tour = tour.split("\n## ").next().unwrap_or_default();
    let (mut folder, mut named) = (top().to_path_buf(), 0);
    for name in
        tour.lines().filter_map(|row| row.split('|').nth(1)).flat_map(|cell| cell.split(','))
    {
        let Some(name) = name.trim().strip_prefix('`').and_then(|name| name.strip_suffix('`'))
        else {
            continue;
        };
        // A bare name stands in the folder of the one before it.
        let path = if name.contains('/') { top().join(name) } else { folder.join(name) };
        assert!(path.exists(), "the tour names {name}, which is not there");
        folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        named += 1;
    }
    assert!(named > 20, "the tour names {named} files");
}
