//! What is done to a server, and what is looked at meanwhile.

mod fanout;
mod hold;
mod home;
mod slow;
mod soak;
mod stop;
mod storm;

use super::ground::{Ground, Phase};
use super::options::Options;
use super::report::Report;

/// The names of the scenarios.
pub const NAMES: [&str; 7] = ["hold", "fanout", "home", "storm", "slow", "soak", "stop"];

/// Runs a scenario, one of [`NAMES`].
///
/// # Errors
/// It could not be carried out: options, server, Redis.
pub fn run(name: &str, options: Options) -> Result<Report, String> {
    match name {
        "hold" => hold::run(options),
        "fanout" => fanout::run(options),
        "home" => home::run(options),
        "storm" => storm::run(options),
        "slow" => slow::run(options),
        "soak" => soak::run(options),
        "stop" => stop::run(options),
        other => Err(format!("there is no scenario {other}")),
    }
}

/// Reports a phase of publishing.
fn report_phase(ground: &mut Ground, phase: Phase, what: &str) {
    let key = what.replace(' ', "_");
    let deliveries = phase.tally.deliveries;
    let report = &mut ground.report;
    report.figure(&format!("{key}_published"), phase.published as f64, "statuses published");
    report.figure(&format!("{key}_deliveries"), deliveries as f64, "deliveries");
    let rate = deliveries as f64 / phase.secs.max(1e-9);
    report.figure(&format!("{key}_deliveries_per_sec"), rate, "deliveries a second");
    ground.figure_cpu(&format!("{key}_cpu_per_delivery"), &phase.server, deliveries, "delivery");
    if deliveries > 0 {
        let micros = phase.own.nanos() as f64 / 1000.0 / deliveries as f64;
        let text = "µs of this tool's CPU per delivery";
        ground.report.figure(&format!("{key}_tool_cpu_per_delivery_micros"), micros, text);
    }
    ground.judge_tool(&[phase.own], what);
    ground.judge(&phase.tally);
    ground.report.latencies.push((what.to_owned(), phase.tally.latency));
}
