//! Some readers stop reading: do the others notice, and what happens to the slow ones?

use super::report_phase;
use crate::load::crowd::Every;
use crate::load::ground::Ground;
use crate::load::options::Options;
use crate::load::publisher::{Job, Timing};
use crate::load::report::Report;

/// How long slow readers read again: what the kernel holds for them (some MB), and their end.
const RESUME_SECS: f64 = 4.0;

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
    let readers = Every { step, offset: 0 };
    ground.crew.stall(readers);
    let before = ground.server().rss_bytes;
    let mut most = before;
    let mut phase = ground.measure_while(job, (clients - stalled).into(), |ground| {
        most = most.max(ground.server().rss_bytes);
    })?;
    let reset = phase.tally.ends.remove("ended while it did not read").unwrap_or(0);
    let with_slow = phase.tally.latency.value_at_percentile(99.0);
    report_phase(&mut ground, phase, "some stopped");
    let report = &mut ground.report;
    report.figure("slow_readers", stalled.into(), "readers that stopped reading");
    let change = (with_slow as f64 / p99.max(1) as f64 - 1.0) * 100.0;
    report.figure("p99_change_percent", change, "% by which the others' p99 changed");
    if ground.knows_server() {
        let bytes = most.saturating_sub(before) as f64 / f64::from(stalled);
        let text = "bytes of memory that a slow reader cost at most";
        ground.report.figure("rss_per_slow_reader_bytes", bytes, text);
    }
    tell_ends(&mut ground, readers, reset);
    Ok(ground.report)
}

/// Whom the server has sent away. Only a reset is seen by who does not read: an orderly end waits
/// behind unread bytes, so the readers read again to find it.
fn tell_ends(ground: &mut Ground, readers: Every, reset: u64) {
    ground.crew.resume(readers);
    ground.pass(RESUME_SECS);
    let mut tally = ground.crew.count();
    let ends = std::mem::take(&mut tally.ends);
    ground.judge(&tally);
    let report = &mut ground.report;
    let ended = reset + ends.values().sum::<u64>();
    report.figure("slow_readers_ended", ended as f64, "of these, sent away by the server");
    for (reason, count) in &ends {
        let key = format!("slow_readers_{}", reason.replace(' ', "_"));
        report.figure(&key, *count as f64, &format!("  of these, {reason}"));
    }
}
