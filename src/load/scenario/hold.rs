//! Ever more idle connections: what one more costs, in memory and in processor time.

use std::collections::BTreeMap;

use crate::load::crew::THREAD_NAME;
use crate::load::ground::Ground;
use crate::load::measure::Sample;
use crate::load::options::Options;
use crate::load::report::{Report, Slope};

/// Seconds after the last connection until memory is looked at.
const SETTLE_SECS: f64 = 2.0;

/// Runs it.
pub fn run(options: Options) -> Result<Report, String> {
    let steps = options.numbers("steps", "2000,6000,10000,14000,18000")?;
    let idle_secs: f64 = options.number("idle-secs", 10.0)?;
    let mut ground = Ground::prepare("hold", options, "user")?;
    if !ground.knows_server() {
        return Err("--pid is needed: this scenario measures the server".to_owned());
    }
    let pace = ground.pace(2000.0, 200)?;
    let start = ground.server();
    let mib = start.rss_bytes as f64 / 1_048_576.0;
    ground.report.figure("start_rss_mib", mib, "MiB resident before the first connection");
    let (mut memory, mut idle, mut connecting) = (Vec::new(), Vec::new(), Vec::new());
    let (mut from, mut threads) = (0, BTreeMap::new());
    let (mut keep_alives, mut deliveries) = (0, 0);
    ground.crew.count();
    let own = Sample::own();
    for step in steps {
        let before = ground.server();
        ground.connect_up_to(from, step, pace)?;
        let spent = ground.server().since(&before);
        let count = f64::from(step);
        connecting.push((count, spent.nanos() as f64 / 1000.0 / (count - f64::from(from))));
        from = step;
        ground.pass(SETTLE_SECS);
        let before = ground.server();
        memory.push((count, before.rss_bytes as f64));
        let tally = ground.crew.count();
        ground.report.latencies.push((format!("connect, up to {step}"), tally.handshake.clone()));
        ground.judge(&tally);
        ground.pass(idle_secs);
        let spent = ground.server().since(&before);
        idle.push((count, spent.nanos() as f64 / 1000.0 / spent.secs));
        let tally = ground.crew.count();
        ground.judge(&tally);
        keep_alives += tally.keep_alives;
        deliveries += tally.deliveries;
        threads = spent.threads;
    }
    for (name, nanos) in &threads {
        let micros = *nanos as f64 / 1000.0 / idle_secs / f64::from(from.max(1));
        let key = format!("idle_{}_micros_per_sec", name.replace('-', "_"));
        ground.report.figure(&key, micros, &format!("µs/s of {name} per idle connection"));
    }
    let text = "deliveries received while watching: others publish";
    if deliveries > 0 {
        ground.report.figure("deliveries", deliveries as f64, text);
    }
    let text = "keep-alives received while watching";
    ground.report.figure("keep_alives", keep_alives as f64, text);
    let busiest = Sample::own().since(&own).busiest(THREAD_NAME) * 100.0;
    let text = "% of the time the tool's busiest thread worked";
    ground.report.figure("tool_busiest_thread_percent", busiest, text);
    let mut slope = |key: &str, title: &str, unit: &str, points| {
        let (key, title, unit) = (key.to_owned(), title.to_owned(), unit.to_owned());
        ground.report.slopes.push(Slope { key, title, unit, points });
    };
    slope("rss_bytes", "resident memory of the server", "bytes", memory);
    slope("idle_cpu_micros_per_sec", "CPU of the server, nothing published", "µs/s", idle);
    slope("connect_cpu_micros", "CPU of the server for each connect", "µs", connecting);
    Ok(ground.report)
}
