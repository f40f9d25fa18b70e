//! Promise R4 on the stable toolchain: every input that fuzzing has kept, and variations of them.
//!
//! `scripts/fuzz` searches for more, guided by coverage; what it finds goes into
//! `tests/fuzz/corpus/`. `TRUNKLINE_VARIATIONS=100000 cargo test --test fuzz_regressions` varies
//! longer, `TRUNKLINE_SEED=7` otherwise.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use targets::{EACH, Target};
use trunkline::log::{self, Level};

/// Files of all corpora together, and their bytes: they are read in every run and stay in the
/// repository for ever.
const CORPUS_FILES_MAX: usize = 2000;
const CORPUS_BYTES_MAX: usize = 1 << 20;

macro_rules! targets {
    ($($name:ident)+) => {
        $(
            mod $name {
                #[test]
                fn every_kept_input_keeps_the_promises() {
                    super::replay(super::target(stringify!($name)));
                }

                #[test]
                fn variations_of_kept_inputs_keep_the_promises() {
                    super::vary(super::target(stringify!($name)));
                }
            }
        )+

        #[test]
        fn every_target_has_its_tests() {
            assert_eq!(EACH.map(|target| target.name), [$(stringify!($name)),+]);
        }
    };
}

targets! { request_head websocket event_stream resp event postgres shard }

#[test]
fn the_corpora_are_small_and_named_after_targets() {
    let folders = fs::read_dir(folder().join("corpus")).unwrap();
    let names: Vec<String> =
        folders.map(|folder| folder.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names.len(), EACH.len(), "{names:?}");
    let inputs: Vec<Vec<u8>> = EACH.iter().flat_map(corpus).map(|(_, input)| input).collect();
    let bytes: usize = inputs.iter().map(Vec::len).sum();
    assert!(inputs.len() <= CORPUS_FILES_MAX, "{} files", inputs.len());
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes");
}

fn target(name: &str) -> &'static Target {
    static TARGETS: [Target; 7] = EACH;
    TARGETS.iter().find(|target| target.name == name).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

/// The kept inputs of a target, by the names of their files.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(folder().join("corpus").join(target.name)).unwrap();
    let mut inputs: Vec<(String, Vec<u8>)> = files
        .map(|file| file.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
        .collect();
    assert!(!inputs.is_empty(), "{} has no corpus", target.name);
    inputs.sort();
    inputs
}

fn replay(target: &Target) {
    for (name, input) in corpus(target) {
        assert!(input.len() <= target.input_bytes_max, "{name} is too long");
        check(target, &input, &name);
    }
}

fn vary(target: &Target) {
    let inputs: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, input)| input).collect();
    let words = dictionary(target);
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = number("TRUNKLINE_SEED").unwrap_or(1);
    let mut dice = fastrand::Rng::with_seed(seed);
    for _ in 0..number("TRUNKLINE_VARIATIONS").unwrap_or(target.variations) {
        let mut input = dice.choice(&inputs).unwrap().clone();
        for _ in 0..dice.u32(1..=4) {
            change(&mut input, &inputs, &words, &mut dice);
        }
        input.truncate(target.input_bytes_max);
        check(target, &input, "a variation");
    }
}

fn check(target: &Target, input: &[u8], name: &str) {
    log::set_level(Level::Fatal);
    let checked = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
    if let Err(panic) = checked {
        eprintln!("{}: {name}: b\"{}\"", target.name, input.escape_ascii());
        resume_unwind(panic);
    }
}

/// One change of the kinds that libFuzzer makes.
fn change(input: &mut Vec<u8>, inputs: &[Vec<u8>], words: &[Vec<u8>], dice: &mut fastrand::Rng) {
    let at = dice.usize(0..=input.len());
    let end = (at + dice.usize(0..=32)).min(input.len());
    let other = dice.choice(inputs).unwrap();
    let from = dice.usize(0..=other.len());
    match dice.u32(0..8) {
        0 if at < input.len() => input[at] = dice.u8(..),
        1 if at < input.len() => input[at] ^= 1 << dice.u32(0..8),
        2 => drop(input.drain(at..end)),
        3 => {
            let copy = input[at..end].to_vec();
            let to = dice.usize(0..=input.len());
            input.splice(to..to, copy);
        }
        4 | 5 if !words.is_empty() => {
            let word = dice.choice(words).unwrap().clone();
            let over = if dice.bool() { at } else { (at + word.len()).min(input.len()) };
            input.splice(at..over, word);
        }
        6 => {
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => input.insert(at, dice.u8(..)),
    }
}

/// The words of a libFuzzer dictionary: one quoted word a line, `\xAB` for a byte.
fn dictionary(target: &Target) -> Vec<Vec<u8>> {
    let path = folder().join("dictionaries").join(format!("{}.dict", target.name));
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('"'));
    lines.map(|line| word(line.strip_prefix('"').unwrap().strip_suffix('"').unwrap())).collect()
}

fn word(quoted: &str) -> Vec<u8> {
    let mut word = Vec::new();
    let mut rest = quoted.as_bytes();
    while let [first, tail @ ..] = rest {
        (word, rest) = match rest {
            [b'\\', b'x', high, low, after @ ..] => {
                let digits = String::from_utf8(vec![*high, *low]).unwrap();
                word.push(u8::from_str_radix(&digits, 16).unwrap());
                (word, after)
            }
            [b'\\', escaped, after @ ..] => {
                word.push(*escaped);
                (word, after)
            }
            _ => {
                word.push(*first);
                (word, tail)
            }
        };
    }
    word
}
