//! A stream for each client, events for one at a time: what waking up for a single delivery costs.

use super::report_phase;
use crate::load::ground::Ground;
use crate::load::options::Options;
use crate::load::publisher::{Job, Timing};
use crate::load::report::Report;

/// Runs it.
pub fn run(options: Options) -> Result<Report, String> {
    let clients: u32 = options.number("clients", 10_000)?;
    let secs: f64 = options.number("secs", 20.0)?;
    let rate: f64 = options.number("rate", 1000.0)?;
    let (timing, count) = match options.has("outstanding") {
        true => (Timing::Outstanding(options.number("outstanding", 64)?), 200_000),
        false => (Timing::Rate(rate), (rate * secs).ceil() as u64),
    };
    let count = options.number("events", count)?;
    let mut ground = Ground::prepare("home", options, "user")?;
    let pace = ground.pace(2000.0, 200)?;
    ground.connect_up_to(0, clients, pace)?;
    ground.warm_up(clients)?;
    let channels = ground.channels(clients);
    let each = u64::from(clients) / channels.len().max(1) as u64;
    let job = Job { channels, is_random: true, timing, count };
    let phase = ground.measure(job, each)?;
    report_phase(&mut ground, phase, "home");
    Ok(ground.report)
}
