//! The commands that the documents show, held against the programs that they name.
//!
//! Every program has its check here. A command of another program is an error, so that no command
//! of a document is left unchecked.

use std::fs;

use super::markdown::top;
use super::shell::ShellCommand;
use crate::support::program;
use crate::tidy;

/// Checks a command; the error says what is wrong with it.
pub(super) fn check(command: &ShellCommand) -> Result<(), String> {
    for (name, _) in &command.assignments {
        if name.starts_with("TIDERACE_") {
            expect(sources_have(name), || format!("no test or bench reads {name}"))?;
        }
    }
    let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
    let unset = words.iter().find(|word| word.contains('$'));
    expect(unset.is_none(), || format!("the block does not set a variable of {unset:?}"))?;
    let Some((program, args)) = words.split_first() else { return Ok(()) };
    match *program {
        "sudo" => {
            let words = command.words[1..].to_vec();
            check(&ShellCommand { words, assignments: Vec::new() })
        }
        "tiderace" => tiderace(args),
        "cargo" => cargo(args),
        "tests/run" => tests_run(args),
        "tests/fuzz/run" => fuzz_run(args),
        "benches/count" => count(args),
        "ffmpeg" => ffmpeg(args),
        "ffplay" | "vlc" => one_url(args),
        "rtmpdump" => rtmpdump(args),
        "curl" => curl(args),
        "gst-launch-1.0" => gstreamer(args),
        "valgrind" | "callgrind_annotate" => valgrind(args),
        "systemctl" | "journalctl" => units(args),
        "install" | "tee" | "chown" | "chmod" => files(args),
        "useradd" => expect(args.contains(&service_value("User")), || wrong(args, "the user")),
        "pidof" => expect(args == ["tiderace"], || wrong(args, "the program")),
        "kill" => kill(args),
        "cat" => expect(args.is_empty(), || wrong(args, "nothing")),
        _ => Err(format!("no check knows {program}: add one to {}", file!())),
    }
}

/// Runs the program with `--help` after the arguments: clap reads those before it, so an unknown
/// flag or a value that its flag cannot have is an error. What only prints is run as well.
fn tiderace(args: &[&str]) -> Result<(), String> {
    let prints = matches!(args, ["config"] | ["systemd", _] | ["--version"]);
    for more in [Some("--help")].into_iter().chain(prints.then_some(None)) {
        let mut program = program::tiderace();
        let output = program.args(args).args(more).output().map_err(|error| error.to_string())?;
        let errors = String::from_utf8_lossy(&output.stderr);
        expect(output.status.success(), || format!("tiderace: {errors}"))?;
    }
    Ok(())
}

fn cargo(args: &[&str]) -> Result<(), String> {
    let (subcommand, rest) = args.split_first().ok_or("cargo without a command")?;
    let known = ["build", "run", "install", "doc", "test", "bench", "fuzz"];
    expect(known.contains(subcommand), || format!("no check knows cargo {subcommand}"))?;
    let (own, passed) = split(rest, "--");
    let manifest = read("Cargo.toml");
    let mut words = own.iter();
    let mut target = None;
    while let Some(word) = words.next() {
        match *word {
            "--release" | "--locked" | "--open" | "--no-deps" | "--lib" | "--no-run"
            | "--all-targets" => {}
            "--path" => expect(words.next() == Some(&"."), || "install from here".to_owned())?,
            "--fuzz-dir" => expect(words.next() == Some(&"tests/fuzz"), || word.to_string())?,
            "--profile" => {
                let section = format!("[profile.{}]", words.next().unwrap_or(&""));
                expect(manifest.contains(&section), || format!("Cargo.toml lacks {section}"))?;
            }
            "--test" | "--bench" => {
                let name = words.next().copied().unwrap_or_default();
                let section = format!("[[{}]]\nname = \"{name}\"\n", &word[2..]);
                expect(manifest.contains(&section), || format!("Cargo.toml lacks {section}"))?;
                target = Some((*word, name));
            }
            _ if word.starts_with('-') => return Err(format!("no check knows the flag {word}")),
            _ if *subcommand == "fuzz" && *word == "run" => {}
            _ if *subcommand == "fuzz" => fuzz_target(word)?,
            _ => filter(word, target)?,
        }
    }
    passed.iter().try_for_each(|word| passed_on(word, target))
}

/// A word by which `cargo test` selects tests.
fn filter(word: &str, target: Option<(&str, &str)>) -> Result<(), String> {
    let directory = match target {
        Some((_, "suite")) => "tests/suite",
        Some((_, "interop")) => "tests/interop",
        Some((_, name)) => return Err(format!("no check knows the filters of {name}")),
        None => "src",
    };
    // `topic::`, `topic::test` or a part of a name.
    let last = word.rsplit("::").next().unwrap_or_default();
    let topic = word.split("::").next().filter(|_| word.contains("::"));
    let found = tidy::sources(directory).any(|source| {
        let path = source.path();
        topic.is_none_or(|topic| path.contains(&format!("/{topic}")))
            && (source.test_names().any(|name| name.contains(last)) || path.contains(word))
    });
    expect(is_variable_part(word) || found, || format!("no test has {word} in its name"))
}

/// A word after `--`, which the test or the bench reads.
fn passed_on(word: &str, target: Option<(&str, &str)>) -> Result<(), String> {
    let Some((kind, name)) = target else { return Err(format!("nothing reads {word}")) };
    let is_number = word.parse::<u64>().is_ok();
    let known = match (kind, name) {
        ("--test", "attack") => is_attack_case(word),
        ("--test", _) => ["--nocapture", "--list", "--ignored", "--exact"].contains(&word),
        _ if is_number => true,
        _ => {
            // Floods are shared with the attack suite.
            let paths = [format!("benches/{name}"), "tests/attack/flood.rs".to_owned()];
            let files = ["benches", "tests/attack"].into_iter().flat_map(tidy::sources);
            let is_read = |path: &str| paths.iter().any(|start| path.starts_with(start));
            let mut files = files.filter(|file| is_read(file.path()));
            let field = word.trim_start_matches("--").replace('-', "_");
            files.any(|file| {
                let flag = word.starts_with("--") && file.text().contains(&format!("{field}: "));
                flag || file.text().contains(&format!("\"{word}\""))
            })
        }
    };
    expect(known || is_variable_part(word), || format!("{name} does not know {word}"))
}

fn tests_run(args: &[&str]) -> Result<(), String> {
    let script = read("tests/run");
    match args {
        [] => Ok(()),
        ["sim", seed] => expect(is_variable_part(seed) || seed.parse::<u64>().is_ok(), || {
            format!("{seed} is not a seed")
        }),
        ["interop", words @ ..] => {
            words.iter().try_for_each(|word| filter(word, Some(("--test", "interop"))))
        }
        ["attack", cases @ ..] => cases.iter().try_for_each(|case| {
            expect(is_variable_part(case) || is_attack_case(case), || format!("no case {case}"))
        }),
        ["fuzz", target] => fuzz_target(target),
        [word] => expect(script.contains(&format!("\n#   tests/run {word} ")), || {
            format!("tests/run does not tell of {word}")
        })
        .and_then(|()| {
            expect(script.contains(&format!("\"{word} 1\"")), || {
                format!("tests/run does not know {word}")
            })
        }),
        _ => Err(format!("tests/run {args:?}")),
    }
}

fn fuzz_run(args: &[&str]) -> Result<(), String> {
    match args {
        [] | ["smoke"] | ["keep"] => Ok(()),
        ["repeat", target, _] | ["keep", target] => fuzz_target(target),
        [target, seconds] => fuzz_target(target).and_then(|()| {
            let is_number = is_variable_part(seconds) || seconds.parse::<u64>().is_ok();
            expect(is_number, || format!("{seconds} seconds"))
        }),
        _ => Err(format!("tests/fuzz/run {args:?}")),
    }
}

fn fuzz_target(name: &str) -> Result<(), String> {
    let is_there = top().join(format!("tests/fuzz/targets/{name}.rs")).exists();
    expect(is_there || is_variable_part(name), || format!("no fuzz target {name}"))
}

fn is_attack_case(start: &str) -> bool {
    read("tests/attack/README.md").contains(&format!("\n| {start}"))
}

fn count(args: &[&str]) -> Result<(), String> {
    let scenarios = read("benches/count.baseline");
    let is_known = |word: &&&str| {
        let is_scenario = scenarios.lines().any(|line| line.starts_with(&format!("{word} ")));
        ["check", "save"].contains(*word) || is_scenario || is_variable_part(word)
    };
    expect(args.iter().filter(is_known).count() == args.len(), || wrong(args, "scenarios"))
}

/// The options of ffmpeg in the documents, with the number of words that follow each.
const FFMPEG: [(&str, usize); 10] = [
    ("-re", 0),
    ("-i", 1),
    ("-f", 1),
    ("-c", 1),
    ("-c:v", 1),
    ("-c:a", 1),
    ("-preset", 1),
    ("-tune", 1),
    ("-g", 1),
    ("-t", 1),
];

/// ffmpeg takes options of an input, then inputs, then options of the output, then its name.
fn ffmpeg(args: &[&str]) -> Result<(), String> {
    let mut words = args.iter().copied().peekable();
    let (mut inputs, mut output) = (Vec::new(), None);
    while let Some(word) = words.next() {
        if let Some((_, follow)) = FFMPEG.iter().find(|(option, _)| *option == word) {
            let value = (*follow == 1).then(|| words.next().ok_or(word)).transpose();
            let value = value.map_err(|option| format!("{option} has no value"))?;
            inputs.extend(value.filter(|_| word == "-i"));
        } else if word.starts_with('-') || output.is_some() {
            return Err(format!("no check knows {word}"));
        } else {
            output = Some(word);
        }
    }
    let output = output.ok_or("ffmpeg has no output")?;
    expect(!inputs.is_empty() && words.next().is_none(), || "ffmpeg has no input".to_owned())?;
    let mut urls = inputs.into_iter().chain([output]).filter(|word| word.contains("://"));
    urls.try_for_each(url)
}

fn one_url(args: &[&str]) -> Result<(), String> {
    let [address] = args else { return Err(wrong(args, "one URL")) };
    url(address)
}

fn rtmpdump(args: &[&str]) -> Result<(), String> {
    match args {
        ["--live", "--rtmp", address, "--flv", _file] => url(address),
        _ => Err(wrong(args, "what the tests with rtmpdump give it")),
    }
}

/// The elements that the documents use.
const ELEMENTS: [&str; 4] = ["rtmp2src", "flvdemux", "decodebin", "autovideosink"];

/// A pipeline: elements with properties, and pads of named elements, between exclamation marks.
fn gstreamer(args: &[&str]) -> Result<(), String> {
    for part in args.split(|word| *word == "!").flat_map(|part| part.split_first()) {
        let (element, properties) = part;
        let is_pad = element.contains('.') && properties.is_empty();
        expect(is_pad || ELEMENTS.contains(element), || format!("no check knows {element}"))?;
        for property in properties {
            let Some((name, value)) = property.split_once('=') else {
                // A pad of an element that was named begins the next branch.
                expect(property.contains('.'), || format!("{property} is no property"))?;
                continue;
            };
            if name == "location" {
                url(value)?;
            }
        }
    }
    Ok(())
}

/// The address of a stream has an application and a key, as the server requires it.
fn url(address: &str) -> Result<(), String> {
    let rest = address.strip_prefix("rtmp://").or_else(|| address.strip_prefix("http://"));
    let path = rest.and_then(|rest| rest.split_once('/'));
    let parts = path.map_or(0, |(_, path)| path.split('/').filter(|part| !part.is_empty()).count());
    expect(parts >= 2, || format!("{address} has no application and key"))
}

/// The URL of a call has a path that the manual lists.
fn curl(args: &[&str]) -> Result<(), String> {
    let url = args.last().ok_or("curl without a URL")?;
    let path = url.strip_prefix("http://").and_then(|rest| rest.split_once("/api/v1/"));
    let call = path.and_then(|(_, path)| path.split('/').next()).unwrap_or_default();
    let is_listed = read("src/manual/http.md").contains(&format!("GET {call}"));
    expect(!call.is_empty() && is_listed, || format!("{url} is no call of the API"))
}

fn valgrind(args: &[&str]) -> Result<(), String> {
    let is_known =
        |word: &&&str| !word.starts_with('-') || ["--tool=callgrind", "--auto=yes"].contains(*word);
    expect(args.iter().filter(is_known).count() == args.len(), || wrong(args, "flags"))
}

/// The units that a line names are those that `tiderace systemd` prints.
fn units(args: &[&str]) -> Result<(), String> {
    let words = ["enable", "--now", "reload", "restart", "status", "edit", "-u", "-f"];
    let units = ["tiderace", "tiderace.service", "tiderace.socket"];
    let is_known = |word: &&&str| words.contains(*word) || units.contains(*word);
    expect(args.iter().filter(is_known).count() == args.len(), || wrong(args, "units"))
}

/// Files of an installation are where the unit looks for them.
fn files(args: &[&str]) -> Result<(), String> {
    let mut paths = args.iter().filter(|word| word.starts_with('/'));
    let is_right = |path: &&str| {
        let is_unit = ["tiderace.service", "tiderace.socket"]
            .iter()
            .any(|unit| **path == format!("/etc/systemd/system/{unit}"));
        let is_program = **path == *"/usr/local/bin/" && service().contains("/usr/local/bin/");
        is_unit || is_program || service().split([' ', '\n']).any(|word| word == *path)
    };
    expect(paths.all(is_right), || wrong(args, "paths of the service"))
}

fn service() -> String {
    read("src/systemd/tiderace.service")
}

/// The value of a key of the service.
fn service_value(key: &str) -> &'static str {
    let text = include_str!("../../../src/systemd/tiderace.service");
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("the service has no {key}"))
}

/// The signals that the help of the program explains.
fn kill(args: &[&str]) -> Result<(), String> {
    let output = program::tiderace().arg("--help").output();
    let help = output.map_err(|error| error.to_string())?.stdout;
    let help = String::from_utf8_lossy(&help);
    let signal = args.first().and_then(|arg| arg.strip_prefix('-')).unwrap_or("TERM");
    expect(help.contains(&format!("SIG{signal} ")), || format!("the help lacks SIG{signal}"))
}

/// A word in capital letters stands for something.
fn is_variable_part(word: &str) -> bool {
    let word = word.trim_end_matches("...");
    word.len() > 2 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

fn split<'a>(words: &'a [&'a str], mark: &str) -> (&'a [&'a str], &'a [&'a str]) {
    match words.iter().position(|word| *word == mark) {
        Some(at) => (&words[..at], &words[at + 1..]),
        None => (words, &[]),
    }
}

fn sources_have(word: &str) -> bool {
    let own = file!().rsplit('/').nth(1).unwrap_or_default();
    let mut files = ["tests", "benches"].into_iter().flat_map(tidy::sources);
    files.any(|file| !file.path().contains(own) && file.text().contains(word))
}

fn read(path: &str) -> String {
    fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn wrong(args: &[&str], expected: &str) -> String {
    format!("got {args:?}, expected {expected}")
}

fn expect(is_so: bool, error: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(error()) }
}

#[test]
fn a_command_that_does_not_run_is_found() {
    for text in [
        "tiderace load idle rtmp://localhost/live/show --sesions 10",
        "tiderace load idle rtmp://localhost/live/show --sessions many",
        "tiderace --lag-ms 10",
        "tiderace systemd timer",
        "cargo bench --bench nothing",
        "cargo bench --bench peers -- --mark",
        "cargo test --test suite no_test_has_this_name",
        "cargo test --relese",
        "tests/run matrices",
        "tests/run fuzz amf1",
        "tests/run interop netscape",
        "tests/run attack Z99",
        "tests/fuzz/run smok",
        "benches/count nothing",
        "TIDERACE_NOTHING=1 tests/run",
        "ffmpeg -i talk.mp4 -x -f flv rtmp://localhost/live/show",
        "ffmpeg -i talk.mp4 -f flv rtmp://localhost/show",
        "vlc rtmp://localhost/show",
        "gst-launch-1.0 rtmp3src location=rtmp://localhost/live/show ! decodebin",
        "sudo systemctl enable --now tideraces",
        "tiderace config | sudo tee /etc/tiderace.conf",
        "sudo useradd --system tide",
        "kill -WINCH $(pidof tiderace)",
        "frobnicate",
        "tiderace load idle $URL",
    ] {
        let commands = super::shell::commands(text);
        assert!(commands.iter().any(|command| check(command).is_err()), "{text}");
    }
}
