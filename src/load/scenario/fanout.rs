//! One stream, many readers of as many accounts: what a delivery costs, and how long the last
//! reader waits.

use super::report_phase;
use crate::load::ground::Ground;
use crate::load::options::Options;
use crate::load::publisher::{Job, Timing};
use crate::load::report::Report;
use crate::load::tally::histogram;

/// Runs it.
pub fn run(options: Options) -> Result<Report, String> {
    let clients: u32 = options.number("clients", 10_000)?;
    let rate: f64 = options.number("rate", 1.0)?;
    let secs: f64 = options.number("secs", 20.0)?;
    let count = options.number("events", (rate * secs).ceil() as u64)?;
    let mut ground = Ground::prepare("fanout", options, "public")?;
    let pace = ground.pace(2000.0, 200)?;
    ground.connect_up_to(0, clients, pace)?;
    ground.warm_up(clients)?;
    let channels = ground.channels(clients);
    let each = u64::from(clients) / channels.len().max(1) as u64;
    let job = Job { channels, is_random: false, timing: Timing::Rate(rate), count };
    let phase = ground.measure(job, each)?;
    let mut last = histogram();
    phase.tally.last.values().for_each(|nanos| last.saturating_record(*nanos));
    report_phase(&mut ground, phase, "fanout");
    ground.report.latencies.push(("last of all readers".to_owned(), last));
    Ok(ground.report)
}
