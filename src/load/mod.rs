//! The load tool: thousands of clients that only listen, a publisher that never waits, and a look
//! at what the server spends meanwhile. It works against any server that speaks Mastodon's
//! streaming API.
//!
//! ```text
//!  publisher ── PUBLISH at intended times ──► Redis ──► the server ──► crowd: verify, measure
//!      │                                                    │               │
//!      └── sequence number and intended time inside         └─ /proc ─► report: text, JSON, SVG
//! ```
//!
//! * Latency counts from the *intended* time of a status, so a publisher or a server that falls
//!   behind shows.
//! * Every delivery is verified: once, in order, intact ([`verify`]).
//! * Where the tool itself was saturated, it says so instead of giving a verdict.
//!
//! Reading order: [`plan`] and [`status`] (who, what), [`crowd`] (the clients), [`publisher`],
//! [`ground`] and [`scenario`] (what is done), [`report`].

pub mod clock;
pub mod crew;
pub mod crowd;
pub mod ground;
pub mod inbound;
pub mod measure;
pub mod options;
pub mod plan;
pub mod plot;
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
use serde_json::Value;

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
    if *scenario == "plot" {
        return match plot_reports(&options) {
            Ok(()) => Outcome::Fine,
            Err(error) => {
                eprintln!("{error}");
                Outcome::Failed
            }
        };
    }
    if !scenario::NAMES.contains(scenario) {
        eprintln!("there is no scenario {scenario}\n\n{USAGE}");
        return Outcome::Usage;
    }
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
    if let Some(path) = options.text("json") {
        write(path, &format!("{:#}\n", report.json()))?;
    }
    if let Some(path) = options.text("plot") {
        let latencies = plot::latencies(&[report.json()]);
        write(path, &plot::percentiles(&report.name, &latencies))?;
    }
    Ok(report.problems.is_empty())
}

/// `plot --plot FILE REPORT...`: the latencies of all reports in one picture, and next to it a
/// picture of each slope.
fn plot_reports(options: &Options) -> Result<(), String> {
    let target = options.text("plot").ok_or("--plot FILE is needed")?;
    let mut reports = Vec::new();
    for path in &options.words {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let report: Value =
            serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
        reports.push(report);
    }
    let title = options.text("name").unwrap_or("Latency from the intended time");
    write(target, &plot::percentiles(title, &plot::latencies(&reports)))?;
    let stem = target.strip_suffix(".svg").unwrap_or(target);
    for (report, slope) in reports.iter().flat_map(slopes) {
        let text = |key: &str| slope[key].as_str().unwrap_or_default();
        let points: Vec<(f64, f64)> =
            serde_json::from_value(slope["points"].clone()).unwrap_or_default();
        let title = format!("{report}: {}", text("title"));
        let picture = plot::slope(&title, text("unit"), &points);
        write(&format!("{stem}-{report}-{}.svg", text("key")), &picture)?;
    }
    Ok(())
}

fn slopes(report: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let name = report["name"].as_str().unwrap_or("run");
    report["slopes"].as_array().into_iter().flatten().map(move |slope| (name, slope))
}

fn write(path: &str, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{path}: {error}"))
}
