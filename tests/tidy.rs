//! The rules of the house that a machine can hold: strata, lengths, where `unsafe` and clocks
//! stand.
//!
//! Each rule is a function from a file to complaints, tried below on a file that breaks it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file.
const FILE_LINES_MAX: usize = 600;
/// Lines of a function, from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Characters of a line.
const COLUMNS_MAX: usize = 100;

/// The strata, left to right: a file imports from its own and from those before it.
const STRATA: [&str; 4] = ["config", "protocol", "hub", "io"];
/// Usable everywhere; they know nothing of what stands on the strata.
const EVERYWHERE: [&str; 2] = ["log", "metrics"];
/// What stands on top of the strata; no stratum knows these.
const ON_TOP: [&str; 5] = ["boot", "demo", "doctor", "load", "main"];

/// The files in which `unsafe` may stand. Each use says why it is sound.
const UNSAFE: [&str; 3] =
    ["src/io/driver/glommio.rs", "src/io/driver/preflight.rs", "src/protocol/json/specials.rs"];
/// The files that read a clock; everything else is told the time.
const CLOCKS: [&str; 2] = ["src/io/clock.rs", "src/log.rs"];
/// Where the runtime may be named.
const RUNTIME: [&str; 3] = ["src/io/", "src/boot.rs", "src/load/"];

/// File names that say nothing.
const VAGUE: [&str; 6] = ["util", "utils", "helper", "helpers", "misc", "common"];

/// A source file: its path from the root of the repository, its text, and the text without comments
/// and literals.
struct Source {
    path: String,
    text: String,
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        Source { path: path.to_string(), text: text.to_string(), code: code_of(text) }
    }

    fn complaint(&self, line: usize, what: impl AsRef<str>) -> String {
        format!("{}:{line}: {}", self.path, what.as_ref())
    }

    /// `config` for `src/config/limits.rs`, `log` for `src/log.rs`.
    fn module(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let name = below.split('/').next()?;
        Some(name.strip_suffix(".rs").unwrap_or(name))
    }

    fn is_server(&self) -> bool {
        self.path.starts_with("src/")
    }
}

type Rule = fn(&Source) -> Vec<String>;

const RULES: [Rule; 10] = [
    strata,
    lengths,
    columns,
    runtime,
    unsafe_code,
    banned_words,
    vague_names,
    opening_comment,
    clocks,
    locks,
];

#[test]
fn the_house_is_tidy() {
    let sources = sources();
    assert!(sources.iter().any(|source| source.path == "src/lib.rs"), "the sources were not found");
    let mut complaints: Vec<String> = sources.iter().flat_map(complaints).collect();
    complaints.extend(lost_files(&sources));
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn complaints(source: &Source) -> Vec<String> {
    RULES.iter().flat_map(|rule| rule(source)).collect()
}

/// A stratum imports only from itself and from those to its left.
fn strata(source: &Source) -> Vec<String> {
    let Some(own) = source.module() else { return Vec::new() };
    let rank = STRATA.iter().position(|stratum| *stratum == own);
    let free = !EVERYWHERE.contains(&own) && rank.is_none();
    if free {
        return Vec::new();
    }
    let allowed = |module: &str| match STRATA.iter().position(|stratum| *stratum == module) {
        Some(other) => rank.is_none_or(|rank| other <= rank) && (rank.is_some() || module != "io"),
        None => !ON_TOP.contains(&module),
    };
    let mut found = Vec::new();
    for (number, line) in numbered(&source.code) {
        for module in crate_paths(line).filter(|module| !allowed(module)) {
            found.push(source.complaint(number, format!("{own} imports from {module}")));
        }
        if line.contains("super::super::") {
            found.push(source.complaint(number, "name the module from `crate`"));
        }
    }
    found
}

/// The modules named after `crate::` in a line, also in a group.
fn crate_paths(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).flat_map(|rest| {
        let group = rest.strip_prefix('{').map(|rest| rest.trim_end_matches([';', '}']));
        let parts: Vec<&str> = match group {
            Some(group) => group.split(", ").collect(),
            None => vec![rest],
        };
        parts.into_iter().map(leading_word)
    })
}

fn leading_word(text: &str) -> &str {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
    &text[..end.unwrap_or(text.len())]
}

/// No long files, no long functions (rustfmt's layout is taken for granted).
fn lengths(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let count = source.text.lines().count();
    if count > FILE_LINES_MAX {
        found.push(source.complaint(count, format!("{count} lines in the file")));
    }
    let mut open: Vec<(usize, usize)> = Vec::new();
    for (number, line) in numbered(&source.code) {
        let indent = line.len() - line.trim_start().len();
        if is_signature(line.trim_start()) && !line.trim_end().ends_with(['}', ';']) {
            open.push((indent, number));
        }
        let closes = line.trim_end() == format!("{}}}", " ".repeat(indent));
        if let Some((_, start)) = open.pop_if(|(start, _)| closes && *start == indent) {
            let length = number - start + 1;
            if length > FUNCTION_LINES_MAX {
                found.push(source.complaint(start, format!("{length} lines in the function")));
            }
        } else if line.trim_end().ends_with(';') {
            let _ =
                open.pop_if(|(start, _)| *start == indent && line.trim_start().starts_with(')'));
        }
    }
    found
}

fn is_signature(line: &str) -> bool {
    let mut words = line.split(' ');
    words.by_ref().find(|word| !is_qualifier(word)).is_some_and(|word| word == "fn")
}

fn is_qualifier(word: &str) -> bool {
    matches!(word, "const" | "async" | "unsafe" | "extern") || word.starts_with("pub")
}

/// No long lines, comments included.
fn columns(source: &Source) -> Vec<String> {
    let long = |(_, line): &(usize, &str)| line.chars().count() > COLUMNS_MAX;
    numbered(&source.text)
        .filter(long)
        .map(|(number, line)| source.complaint(number, format!("{} columns", line.chars().count())))
        .collect()
}

/// The runtime is named in `io` only.
fn runtime(source: &Source) -> Vec<String> {
    let name = "glommio";
    if !source.is_server() || RUNTIME.iter().any(|place| source.path.starts_with(place)) {
        return Vec::new();
    }
    words(source, &format!("{name}::"), "names the runtime outside `io`")
}

/// `unsafe` stands in listed files, and each use says why it is sound.
fn unsafe_code(source: &Source) -> Vec<String> {
    let word = "unsafe";
    let mut found = Vec::new();
    let lines: Vec<&str> = source.text.lines().collect();
    for (number, line) in numbered(&source.code) {
        let mut parts = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
        if !parts.any(|part| part == word) {
            continue;
        }
        if !UNSAFE.contains(&source.path.as_str()) {
            found.push(source.complaint(number, format!("`{word}` in a file that is not listed")));
        }
        let before = &lines[number.saturating_sub(8)..number];
        if !before.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety")) {
            found.push(source.complaint(number, format!("`{word}` without a SAFETY comment")));
        }
    }
    found
}

/// Nothing unfinished, nothing switched off.
fn banned_words(source: &Source) -> Vec<String> {
    let in_code = [concat!("todo", "!"), concat!("unimplemented", "!"), concat!("dbg", "!")];
    let anywhere = [concat!("#[", "ignore"), concat!("FIX", "ME"), concat!("XX", "X")];
    let mut found = Vec::new();
    for word in in_code {
        found.extend(words(source, word, "is unfinished"));
    }
    for (number, line) in numbered(&source.text) {
        for word in anywhere.iter().filter(|word| line.contains(**word)) {
            found.push(source.complaint(number, format!("{word} is unfinished")));
        }
    }
    found
}

/// A file's name says what is in it.
fn vague_names(source: &Source) -> Vec<String> {
    let parts = source.path.trim_end_matches(".rs").split('/');
    let vague = parts.filter(|part| VAGUE.contains(part));
    vague.map(|part| source.complaint(1, format!("`{part}` says nothing"))).collect()
}

/// Every file says first what it is.
fn opening_comment(source: &Source) -> Vec<String> {
    match source.text.starts_with("//! ") {
        true => Vec::new(),
        false => vec![source.complaint(1, "the file does not begin with a `//!` comment")],
    }
}

/// Only one place of the server reads a clock. Only there, and where log lines are dated, is the
/// wall clock known at all: deadlines must not care when it is set.
fn clocks(source: &Source) -> Vec<String> {
    let on_top = source.module().is_some_and(|module| ON_TOP.contains(&module));
    if !source.is_server() || on_top || CLOCKS.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let names = ["Instant::now", "SystemTime", "UNIX_EPOCH", "::Realtime"];
    names.iter().flat_map(|name| words(source, name, "reads a clock")).collect()
}

/// Threads share nothing that has to be locked.
fn locks(source: &Source) -> Vec<String> {
    if !source.is_server() {
        return Vec::new();
    }
    let names = ["Mutex", "RwLock", "Condvar"];
    names.iter().flat_map(|name| words(source, name, "is a lock")).collect()
}

/// No file that no `mod` line names.
fn lost_files(sources: &[Source]) -> Vec<String> {
    let paths: BTreeSet<&str> = sources.iter().map(|source| source.path.as_str()).collect();
    let is_root = |path: &str| {
        let direct = path.matches('/').count() == 1;
        // The program of the fuzz targets is a package of its own; a benchmark may be a folder.
        let is_crate = ["src/lib.rs", "src/main.rs", "tests/fuzz/libfuzzer.rs"].contains(&path)
            || (path.starts_with("benches/") && path.ends_with("/main.rs"));
        is_crate || (direct && !path.starts_with("src/"))
    };
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| !is_root(&source.path)) {
        let path = Path::new(&source.path);
        let is_mod = path.ends_with("mod.rs") || path.ends_with("main.rs");
        let place = if is_mod { path.parent().unwrap() } else { path };
        let name = place.file_stem().unwrap().to_string_lossy().into_owned();
        let above = place.parent().unwrap().to_string_lossy().into_owned();
        let parents = [format!("{above}.rs"), format!("{above}/mod.rs")];
        let is_parent = |other: &&Source| {
            let beside = other.path.rsplit_once('/').is_some_and(|(folder, _)| folder == above);
            parents.contains(&other.path) || (beside && is_root(&other.path))
        };
        let line = format!("mod {name};");
        let named = sources.iter().filter(is_parent).any(|other| other.code.contains(&line));
        if !named && !path.ends_with("main.rs") {
            found.push(source.complaint(1, "no `mod` line names this file"));
        }
    }
    assert!(!paths.is_empty());
    found
}

fn words(source: &Source, word: &str, what: &str) -> Vec<String> {
    numbered(&source.code)
        .filter(|(_, line)| line.contains(word))
        .map(|(number, _)| source.complaint(number, format!("`{word}` {what}")))
        .collect()
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// The text with comments and the insides of literals blanked, line for line.
fn code_of(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut place = 0;
    while place < letters.len() {
        let rest = &letters[place..];
        let length = comment_length(rest).or_else(|| literal_length(rest)).unwrap_or(0);
        for letter in &rest[..length] {
            code.push(if *letter == '\n' { '\n' } else { ' ' });
        }
        if length == 0 {
            code.push(rest[0]);
        }
        place += length.max(1);
    }
    code
}

fn comment_length(rest: &[char]) -> Option<usize> {
    if rest.starts_with(&['/', '/']) {
        return Some(rest.iter().position(|letter| *letter == '\n').unwrap_or(rest.len()));
    }
    if rest.starts_with(&['/', '*']) {
        let end = rest.windows(2).position(|pair| pair == ['*', '/']);
        return Some(end.map_or(rest.len(), |end| end + 2));
    }
    None
}

fn literal_length(rest: &[char]) -> Option<usize> {
    match rest[0] {
        '"' => Some(quoted_length(rest, '"')),
        // A lifetime has no closing quote two or three characters on.
        '\'' if rest.get(1) == Some(&'\\') || rest.get(2) == Some(&'\'') => {
            Some(quoted_length(rest, '\''))
        }
        'r' => {
            let hashes = rest[1..].iter().take_while(|letter| **letter == '#').count();
            (rest.get(1 + hashes) == Some(&'"')).then(|| {
                let mut end = vec!['"'];
                end.resize(1 + hashes, '#');
                let inside = &rest[2 + hashes..];
                let length = inside.windows(end.len()).position(|window| window == end);
                length.map_or(rest.len(), |length| 2 + hashes + length + end.len())
            })
        }
        _ => None,
    }
}

fn quoted_length(rest: &[char], quote: char) -> usize {
    let mut place = 1;
    while place < rest.len() && rest[place] != quote {
        place += if rest[place] == '\\' { 2 } else { 1 };
    }
    (place + 1).min(rest.len())
}

fn sources() -> Vec<Source> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    for folder in ["src", "tests", "benches"] {
        collect(&root, &root.join(folder), &mut sources);
    }
    sources
}

fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            sources.push(Source::new(&name, &fs::read_to_string(&path).unwrap()));
        }
    }
}

mod each_rule_is_seen_to_fail {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<String> {
        complaints(&Source::new(path, &format!("//! A file.\n{text}\n")))
    }

    #[track_caller]
    fn assert_broken(path: &str, text: &str, what: &str) {
        let found = broken(path, text);
        assert!(found.iter().any(|line| line.contains(what)), "{path}: {text}: {found:?}");
    }

    #[track_caller]
    fn assert_fine(path: &str, text: &str) {
        assert_eq!(broken(path, text), Vec::<String>::new());
    }

    #[test]
    fn imports_to_the_right() {
        assert_broken("src/hub/a.rs", "use crate::io::poller::Poller;", "hub imports from io");
        assert_broken("src/config/a.rs", "use crate::hub;", "config imports from hub");
        assert_broken("src/hub/a.rs", "use crate::{config, io};", "hub imports from io");
        assert_broken("src/io/a.rs", "fn a() { crate::boot::run() }", "io imports from boot");
        assert_broken("src/log.rs", "use crate::io;", "log imports from io");
        assert_broken("src/hub/a.rs", "use super::super::io;", "name the module");
        assert_fine("src/hub/a.rs", "use crate::{config, hub, protocol, metrics};");
        assert_fine("src/boot.rs", "use crate::io;");
        assert_fine("src/hub/a.rs", "// crate::io is not for us\n");
    }

    #[test]
    fn long_files_functions_and_lines() {
        let function = format!("fn a(\n) {{\n{}}}", "    b();\n".repeat(68));
        assert_broken("src/hub/a.rs", &function, "71 lines in the function");
        let nested = format!("impl A {{\n    pub(crate) async fn a() {{\n{}    }}\n}}", {
            "        b();\n".repeat(69)
        });
        assert_broken("src/hub/a.rs", &nested, "71 lines in the function");
        assert_fine("src/hub/a.rs", &format!("fn a() {{\n{}}}", "    b();\n".repeat(68)));
        assert_broken("src/hub/a.rs", &"// \n".repeat(600), "lines in the file");
        assert_broken("src/hub/a.rs", &format!("// {}", "é".repeat(98)), "101 columns");
        assert_fine("src/hub/a.rs", &format!("// {}", "é".repeat(97)));
    }

    #[test]
    fn the_runtime_out_of_place() {
        assert_broken("src/hub/a.rs", concat!("use glommio", "::LocalExecutor;"), "runtime");
        assert_fine("src/io/a.rs", concat!("use glommio", "::LocalExecutor;"));
    }

    #[test]
    fn unsafe_without_leave_or_reason() {
        let code = concat!("fn a() { ", "unsafe", " { b() } }");
        assert_broken("src/hub/a.rs", code, "not listed");
        assert_broken(UNSAFE[0], code, "without a SAFETY comment");
        assert_fine(UNSAFE[0], &format!("// SAFETY: b is harmless.\n{code}"));
    }

    #[test]
    fn unfinished_work() {
        assert_broken("src/hub/a.rs", concat!("fn a() { todo", "!() }"), "unfinished");
        assert_broken("src/hub/a.rs", concat!("// FIX", "ME"), "unfinished");
        assert_broken("tests/a.rs", concat!("#[", "ignore]"), "unfinished");
        assert_broken("tests/a.rs", concat!("fn a() { dbg", "!(1) }"), "unfinished");
    }

    #[test]
    fn names_and_openings_that_say_nothing() {
        assert_broken("src/hub/utils.rs", "", "says nothing");
        assert_broken("src/common/a.rs", "", "says nothing");
        let bare = Source::new("src/hub/a.rs", "fn a() {}\n");
        assert!(complaints(&bare)[0].contains("does not begin"));
    }

    #[test]
    fn clocks_and_locks() {
        assert_broken("src/hub/a.rs", "fn a() { Instant::now(); }", "reads a clock");
        assert_broken("src/io/a.rs", "fn a() { SystemTime::now(); }", "reads a clock");
        assert_broken("src/io/a.rs", "fn a(at: SystemTime) { at.elapsed(); }", "reads a clock");
        assert_broken("src/io/a.rs", "fn a() { b(TimerfdClockId::Realtime) }", "reads a clock");
        assert_fine(CLOCKS[0], "fn a() { Instant::now(); }");
        assert_broken("src/io/a.rs", "use std::sync::Mutex;", "is a lock");
        assert_fine("tests/a.rs", "use std::sync::Mutex;");
    }

    #[test]
    fn files_that_nobody_names() {
        let lost = |texts: &[(&str, &str)]| {
            let sources: Vec<Source> =
                texts.iter().map(|(path, text)| Source::new(path, text)).collect();
            lost_files(&sources)
        };
        let lib = ("src/lib.rs", "pub mod hub;\nmod log;");
        let hub = ("src/hub/mod.rs", "mod stream;");
        assert!(lost(&[lib, hub, ("src/hub/stream.rs", ""), ("src/log.rs", "")]).is_empty());
        assert_eq!(lost(&[lib, hub, ("src/hub/lost.rs", "")]).len(), 1);
        assert_eq!(lost(&[lib, hub, ("src/lost.rs", "")]).len(), 1);
        assert_eq!(lost(&[("src/lib.rs", "// mod hub;"), hub]).len(), 1);
        let support = ("tests/support/mod.rs", "mod redis;");
        let test = ("tests/a.rs", "mod support;");
        assert!(lost(&[test, support, ("tests/support/redis.rs", "")]).is_empty());
        assert_eq!(lost(&[test, support, ("tests/support/lost.rs", "")]).len(), 1);
        let fuzzer = ("tests/fuzz/libfuzzer.rs", "mod targets;");
        assert!(lost(&[fuzzer, ("tests/fuzz/targets/mod.rs", "")]).is_empty());
        assert_eq!(lost(&[fuzzer, ("tests/fuzz/lost/mod.rs", "")]).len(), 1);
    }
}
