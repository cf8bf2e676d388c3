//! The bodies of the fuzz targets without a fuzzer: over the corpus, which every fault that was
//! found is a part of, and over inputs by seed. And whether the bodies would notice.
//!
//! Some seeds are the same in every run, others are drawn. A failure prints its target and the
//! command that runs its seed alone; `TIDERACE_SEEDS` runs as many of those that are the same.

use std::env;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use crate::bodies::oracle::{Kept, same_however_cut};
use crate::bodies::{Body, TARGETS};
use crate::random::{Random, fresh_seed};

/// Seeds for each target that are the same in every run, and those that are drawn.
const SEEDS: u64 = 250;
const FRESH_SEEDS: u64 = 50;
/// The longest input without a model in the corpus.
const INPUT_BYTES_MAX: usize = 600;
/// All files of the corpus together: what a clone of the project pays.
const CORPUS_BYTES_MAX: u64 = 300 * 1024;

/// The inputs of a target with their paths.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = folder().join("corpus").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// Runs `body` and says, if it fails, with what.
fn run(body: Body, input: &[u8], what: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(input))) {
        eprintln!("failed with {what}");
        resume_unwind(panic);
    }
}

#[test]
fn every_input_of_the_corpus_keeps_the_promises() {
    for (target, body) in TARGETS {
        let corpus = corpus(target);
        assert!(corpus.len() >= 10, "{} inputs for {target}", corpus.len());
        for (path, input) in corpus {
            run(body, &input, &path.display().to_string());
        }
    }
}

#[test]
fn seeded_inputs_keep_the_promises() {
    let number = |name| env::var(name).ok().map(|seed| seed.parse().expect("a number"));
    let seeds: Vec<u64> = match (number("TIDERACE_SEED"), number("TIDERACE_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(seeds)) => (0..seeds).collect(),
        (None, None) => (0..SEEDS).chain((0..FRESH_SEEDS).map(|_| fresh_seed())).collect(),
    };
    for (target, body) in TARGETS {
        let models: Vec<_> = corpus(target).into_iter().map(|(_, input)| input).collect();
        for seed in &seeds {
            let input = input(&models, &mut Random::new(*seed));
            let replay = "cargo test --test suite fuzz::seeded_inputs";
            run(body, &input, &format!("{target}: TIDERACE_SEED={seed} {replay}"));
        }
    }
}

/// An input of no model, or one or two models that are damaged.
fn input(models: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    if random.one_in(4) {
        let len = random.below(INPUT_BYTES_MAX);
        return (0..len).map(|_| random.below(256) as u8).collect();
    }
    let mut input = models[random.below(models.len())].clone();
    for _ in 0..random.below(6) {
        let at = random.below(input.len() + 1);
        match random.below(5) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            2 => drop(input.drain(at..input.len().min(at + 1 + random.below(8)))),
            3 => drop(input.splice(at..at, (0..1 + random.below(8)).map(|byte| byte as u8))),
            _ => {
                let other = &models[random.below(models.len())];
                input.splice(at.., other[at.min(other.len())..].iter().copied());
            }
        }
    }
    input
}

#[test]
fn every_target_is_a_program_with_a_corpus_of_a_bounded_size() {
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).expect("a manifest");
    let programs: Vec<_> = manifest
        .split("[[bin]]\nname = \"")
        .skip(1)
        .filter_map(|rest| rest.split_once('"').map(|(name, _)| name))
        .collect();
    assert_eq!(programs, TARGETS.map(|(name, _)| name));
    let mut folders: Vec<_> = fs::read_dir(folder().join("corpus"))
        .expect("a corpus")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    folders.sort();
    assert_eq!(folders, programs);
    let bytes: usize = programs.iter().flat_map(|name| corpus(name)).map(|(_, i)| i.len()).sum();
    assert!(bytes as u64 <= CORPUS_BYTES_MAX, "{bytes} bytes of corpus");
}

/// Whether the oracles would notice: a parser that takes memory on the word of its peer ...
#[test]
#[should_panic(expected = "bytes are kept for 4 bytes received")]
fn memory_for_a_declared_length_is_noticed() {
    let mut buffer = Vec::<u8>::new();
    let declared = u32::from_be_bytes([0, 1, 0, 0]) as usize;
    Kept::default().receive(4, || buffer.reserve(declared));
}

/// ... one that keeps what it was done with ...
#[test]
#[should_panic(expected = "bytes are kept for 9 bytes received")]
fn memory_that_adds_up_is_noticed() {
    let (mut kept, mut forgotten) = (Kept::default(), Vec::new());
    for _ in 0..100 {
        kept.receive(1, || forgotten.push(Box::new([0_u8; 1000])));
    }
}

/// ... and one that makes something else of a header that comes in two pieces.
#[test]
#[should_panic(expected = "differ from the whole")]
fn a_parser_that_depends_on_the_cut_is_noticed() {
    same_however_cut(&[7; 40], 1, |pieces| {
        pieces.iter().map(|piece| piece.len() / 2).sum::<usize>()
    });
}
