//! Ever more idle connections: what one more costs, in memory and in processor time.

use std::collections::BTreeMap;

use crate::load::crowd::Pace;
use crate::load::ground::Ground;
use crate::load::measure::{Sample, Spent};
use crate::load::options::Options;
use crate::load::report::{Report, Slope};

/// Seconds after the last connection until watching begins. What connecting leaves behind ends
/// meanwhile: a server's deadlines for the head and for the answer of a request run out up to 15 s
/// later, and each costs some time although nothing is due.
const SETTLE_SECS: f64 = 17.0;
/// Seconds for which one step is watched: a whole number of keep-alive periods (30 s for WebSocket,
/// 15 s for event streams), so that every connection has its share.
const IDLE_SECS: f64 = 30.0;
/// The longest look at the server without any connection.
const EMPTY_SECS_MAX: f64 = 10.0;
/// Seconds after the tool has begun until that look: the server may have just started.
const START_SECS: f64 = 2.0;

/// Points of each line, and sums over all steps.
#[derive(Default)]
struct Seen {
    memory: Vec<(f64, f64)>,
    idle: Vec<(f64, f64)>,
    connecting: Vec<(f64, f64)>,
    connecting_micros: f64,
    settling_micros: f64,
    /// What the tool spent, by part of a step.
    own: BTreeMap<&'static str, Vec<Spent>>,
    /// What the server spent in the last step.
    last: Spent,
    keep_alives: u64,
    deliveries: u64,
}

/// Runs it.
pub fn run(options: Options) -> Result<Report, String> {
    let steps = options.numbers("steps", "2000,6000,10000,14000,18000")?;
    let idle_secs: f64 = options.number("idle-secs", IDLE_SECS)?;
    let settle_secs: f64 = options.number("settle-secs", SETTLE_SECS)?;
    let mut ground = Ground::prepare("hold", options, "user")?;
    if !ground.knows_server() {
        return Err("--pid is needed: this scenario measures the server".to_owned());
    }
    let pace = ground.pace(2000.0, 200)?;
    look_at_empty_server(&mut ground, idle_secs);
    let (mut from, mut seen) = (0, Seen::default());
    ground.crew.count();
    for step in steps {
        connect(&mut ground, &mut seen, from..step, pace)?;
        watch(&mut ground, &mut seen, step, (settle_secs, idle_secs));
        from = step;
    }
    tell(&mut ground, seen, from);
    Ok(ground.report)
}

/// What the server needs for itself.
fn look_at_empty_server(ground: &mut Ground, idle_secs: f64) {
    let mib = ground.server().rss_bytes as f64 / 1_048_576.0;
    ground.report.figure("start_rss_mib", mib, "MiB resident before the first connection");
    ground.pass(START_SECS.min(idle_secs));
    let before = ground.server();
    ground.pass(EMPTY_SECS_MAX.min(idle_secs));
    let spent = micros_per_sec(&ground.server().since(&before));
    let text = "µs/s of server CPU without any connection";
    ground.report.figure("empty_cpu_micros_per_sec", spent, text);
}

fn connect(
    ground: &mut Ground,
    seen: &mut Seen,
    clients: std::ops::Range<u32>,
    pace: Pace,
) -> Result<(), String> {
    let (server, own) = (ground.server(), Sample::own());
    ground.connect_up_to(clients.start, clients.end, pace)?;
    seen.connecting_micros += ground.server().since(&server).nanos() as f64 / 1000.0;
    seen.connecting.push((clients.end.into(), seen.connecting_micros));
    seen.own.entry("connecting").or_default().push(Sample::own().since(&own));
    let tally = ground.crew.count();
    let title = format!("connect, up to {}", clients.end);
    ground.report.latencies.push((title, tally.handshake.clone()));
    ground.judge(&tally);
    Ok(())
}

/// Lets the server settle, and watches it then.
fn watch(ground: &mut Ground, seen: &mut Seen, step: u32, secs: (f64, f64)) {
    let (settle_secs, idle_secs) = secs;
    let connected = ground.server();
    ground.pass(settle_secs);
    seen.count(ground);
    let (before, own) = (ground.server(), Sample::own());
    seen.memory.push((step.into(), before.rss_bytes as f64));
    ground.pass(idle_secs);
    let spent = ground.server().since(&before);
    seen.own.entry("idle").or_default().push(Sample::own().since(&own));
    seen.count(ground);
    let rate = micros_per_sec(&spent);
    seen.idle.push((step.into(), rate));
    let settling = before.since(&connected);
    seen.settling_micros += settling.nanos() as f64 / 1000.0 - rate * settling.secs;
    seen.last = spent;
}

fn micros_per_sec(spent: &Spent) -> f64 {
    spent.nanos() as f64 / 1000.0 / spent.secs.max(1e-9)
}

impl Seen {
    fn count(&mut self, ground: &mut Ground) {
        let tally = ground.crew.count();
        ground.judge(&tally);
        self.keep_alives += tally.keep_alives;
        self.deliveries += tally.deliveries;
    }
}

/// Puts everything into the report. `clients` are connected.
fn tell(ground: &mut Ground, seen: Seen, clients: u32) {
    let each = f64::from(clients.max(1));
    for (name, nanos) in &seen.last.threads {
        let micros = *nanos as f64 / 1000.0 / seen.last.secs.max(1e-9) / each;
        let key = format!("idle_{}_micros_per_sec", name.replace('-', "_"));
        ground.report.figure(&key, micros, &format!("µs/s of {name} per idle connection"));
    }
    let text = "µs of server CPU per connect, up to its answer";
    ground.report.figure("connect_cpu_micros", seen.connecting_micros / each, text);
    let text = "µs of server CPU per connect, later, while settling";
    ground.report.figure("settle_cpu_micros", seen.settling_micros / each, text);
    let text = "deliveries received while watching: others publish";
    if seen.deliveries > 0 {
        ground.report.figure("deliveries", seen.deliveries as f64, text);
    }
    let text = "keep-alives received while settling and watching";
    ground.report.figure("keep_alives", seen.keep_alives as f64, text);
    for (what, spent) in &seen.own {
        ground.judge_tool(spent, what);
    }
    let mut slope = |key: &str, title: &str, unit: &str, points| {
        let (key, title, unit) = (key.to_owned(), title.to_owned(), unit.to_owned());
        ground.report.slopes.push(Slope { key, title, unit, points });
    };
    slope("rss_bytes", "resident memory of the server", "bytes", seen.memory);
    slope("idle_cpu_micros_per_sec", "CPU of the server, nothing published", "µs/s", seen.idle);
    let title = "CPU of the server to connect so many";
    slope("connect_cpu_micros", title, "µs", seen.connecting);
}
