//! The load tool: thousands of clients that only listen, a publisher that never waits, and a look at what the server
//! spends meanwhile. It works against any server that speaks Mastodon's streaming API.
//!
//! ```text
//!  publisher ── PUBLISH at intended times ──► Redis ──► the server ──► crowd: verify, measure
//!      │                                                    │               │
//!      └── sequence number and intended time inside         └─ /proc ─► report: text, JSON, SVG
//! ```
//!
//! * Latency counts from the *intended* time of a status, so a publisher or a server that falls behind shows.
//! * Every delivery is verified: once, in order, intact ([`verify`]).
//! * Where the tool itself was saturated, it says so instead of giving a verdict.
//!
//! Reading order: [`plan`] and [`status`] (who, what), [`crowd`] (the clients), [`publisher`], [`ground`] and
//! [`scenario`] (what is done), [`report`].

pub mod clock;
pub mod crew;
pub mod crowd;
pub mod ground;
pub mod inbound;
pub mod measure;
pub mod options;
pub mod plan;
pub mod progress;
pub mod publisher;
pub mod report;
pub mod scenario;
pub mod status;
pub mod tally;
pub mod target;
pub mod verify;

use options::{Options, USAGE};
use report::Report;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything arrived as it should.
    Fine,
    /// Something did not; the report says what.
    Wrong,
    /// It could not be carried out.
    Failed,
    /// The command line is wrong.
    Usage,
}

/// Runs `trunkline load` with these words.
pub fn run(words: &[&str]) -> Outcome {
    let Some((scenario, rest)) = words.split_first() else {
        eprint!("{USAGE}");
        return Outcome::Usage;
    };
    if matches!(*scenario, "help" | "--help" | "-h") {
        print!("{USAGE}");
        return Outcome::Fine;
    }
    let options = match Options::parse(rest) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            return Outcome::Usage;
        }
    };
    match scenario::run(scenario, options.clone()).and_then(|report| publish(&report, &options)) {
        Ok(true) => Outcome::Fine,
        Ok(false) => Outcome::Wrong,
        Err(error) => {
            eprintln!("{error}");
            Outcome::Failed
        }
    }
}

/// Prints and writes the report; whether everything was right.
fn publish(report: &Report, options: &Options) -> Result<bool, String> {
    print!("{}", report.text());
    let write = |path: &str, text: String| {
        std::fs::write(path, text).map_err(|error| format!("{path}: {error}"))
    };
    if let Some(path) = options.text("json") {
        write(path, format!("{:#}\n", report.json()))?;
    }
    Ok(report.problems.is_empty())
}
