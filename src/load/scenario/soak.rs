//! Clients come and go while events flow: does anything grow, get lost, or stop?

use super::report_phase;
use crate::load::clock::nanos;
use crate::load::crowd::Every;
use crate::load::ground::Ground;
use crate::load::measure::Line;
use crate::load::options::Options;
use crate::load::publisher::{Job, Timing};
use crate::load::report::Report;

/// One status in so many is for everybody.
const PUBLIC_SHARE: usize = 100;
/// Memory is looked at so many times in a run.
const LOOKS: u64 = 60;
/// The first part of the run, in which tables and pools still grow to their size.
const SETTLING: f64 = 0.2;

/// Runs it.
pub fn run(mut options: Options) -> Result<Report, String> {
    options.set_default("transport", "both");
    let clients: u32 = options.number("clients", 2000)?;
    let rate: f64 = options.number("rate", 200.0)?;
    let secs: f64 = options.number("secs", 60.0)?;
    let churn: f64 = options.number("churn", 10.0)?;
    let mut ground = Ground::prepare("soak", options, "user,public")?;
    let pace = ground.pace(2000.0, 200)?;
    ground.connect_up_to(0, clients, pace)?;
    ground.warm_up(clients)?;

    let mut channels = ground.channels(clients);
    let shared = ground.plan.streams.len() as u32;
    let public: Vec<_> = channels.iter().copied().filter(|channel| channel.0 < shared).collect();
    for _ in 1..(channels.len() / PUBLIC_SHARE).max(1) {
        channels.extend(&public);
    }
    let count = (rate * secs).ceil() as u64;
    let job = Job { channels, is_random: true, timing: Timing::Rate(rate), count };
    let start = nanos();
    let (mut left, mut looks) = (0_u64, Vec::new());
    let phase = ground.measure_while(job, 0, |ground| {
        let passed = (nanos() - start) as f64 / 1e9;
        while (left as f64) < passed * churn {
            left += 1;
            let one = Every { step: clients, offset: fastrand::u32(0..clients.max(1)) };
            ground.crew.leave(one);
            ground.crew.come_back(one, pace);
        }
        if looks.len() as f64 <= passed / secs * LOOKS as f64 {
            looks.push((passed, ground.server().rss_bytes as f64));
        }
    })?;
    report_phase(&mut ground, phase, "soak");
    ground.await_connections(clients.into())?;
    ground.warm_up(clients)?;
    let report = &mut ground.report;
    report.figure("churned", left as f64, "clients that left and came back");
    looks.retain(|(passed, _)| *passed > secs * SETTLING);
    if let Some(line) = Line::through(&looks).filter(|_| ground.knows_server()) {
        let mib = |bytes: f64| bytes / 1_048_576.0;
        let report = &mut ground.report;
        let text = "MiB an hour by which the server's memory grew";
        report.figure("rss_growth_mib_per_hour", mib(line.slope * 3600.0), text);
        let last = looks.last().map_or(0.0, |(_, bytes)| *bytes);
        report.figure("rss_at_end_mib", mib(last), "MiB resident at the end");
    }
    Ok(ground.report)
}
