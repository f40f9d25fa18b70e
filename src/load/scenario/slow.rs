//! Some readers stop reading: do the others notice, and what happens to the slow ones?

use super::report_phase;
use crate::load::crowd::Every;
use crate::load::ground::Ground;
use crate::load::options::Options;
use crate::load::publisher::{Job, Timing};
use crate::load::report::Report;

/// Runs it. By default more is published (3,000 statuses, 12 MB) than the kernel's buffers of a
/// connection on loopback hold (4.3 MB, measured) and an outbox (1 MiB), so that the server has to
/// decide.
pub fn run(options: Options) -> Result<Report, String> {
    let clients: u32 = options.number("clients", 200)?;
    let slow: u32 = options.number("slow", clients.div_ceil(100))?;
    let slow = slow.clamp(1, clients);
    let rate: f64 = options.number("rate", 120.0)?;
    let secs: f64 = options.number("secs", 25.0)?;
    let count = options.number("events", (rate * secs).ceil() as u64)?;
    let mut ground = Ground::prepare("slow", options, "public")?;
    let pace = ground.pace(2000.0, 200)?;
    ground.connect_up_to(0, clients, pace)?;
    ground.warm_up(clients)?;
    let channels = ground.channels(clients);
    let job = Job { channels, is_random: false, timing: Timing::Rate(rate), count };

    let phase = ground.measure(job.clone(), clients.into())?;
    let p99 = phase.tally.latency.value_at_percentile(99.0);
    report_phase(&mut ground, phase, "all read");

    let step = clients / slow;
    let stalled = clients.div_ceil(step);
    ground.crew.stall(Every { step, offset: 0 });
    let before = ground.server().rss_bytes;
    let mut most = before;
    let mut phase = ground.measure_while(job, (clients - stalled).into(), |ground| {
        most = most.max(ground.server().rss_bytes);
    })?;
    let ended = phase.tally.ends.remove("ended while it did not read").unwrap_or(0);
    let with_slow = phase.tally.latency.value_at_percentile(99.0);
    report_phase(&mut ground, phase, "some stopped");
    let report = &mut ground.report;
    report.figure("slow_readers", stalled.into(), "readers that stopped reading");
    report.figure(
        "slow_readers_ended",
        ended as f64,
        "of these, reset (an orderly end waits behind unread bytes)",
    );
    let change = (with_slow as f64 / p99.max(1) as f64 - 1.0) * 100.0;
    report.figure("p99_change_percent", change, "% by which the others' p99 changed");
    if ground.knows_server() {
        let bytes = most.saturating_sub(before) as f64 / f64::from(stalled);
        let text = "bytes of memory that a slow reader cost at most";
        ground.report.figure("rss_per_slow_reader_bytes", bytes, text);
    }
    Ok(ground.report)
}
