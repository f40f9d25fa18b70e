//! Everybody leaves and comes back at once, as after a restart of a proxy: how long until all are
//! served again?

use std::fs;
use std::time::Instant;

use crate::load::crowd::Every;
use crate::load::ground::Ground;
use crate::load::measure::Sample;
use crate::load::options::Options;
use crate::load::report::Report;

/// Everybody.
const ALL: Every = Every { step: 1, offset: 0 };
/// Seconds for the server to notice that everybody has left.
const LEAVING_SECS: f64 = 3.0;
/// No bound of its own: handshakes in flight bound it.
const AT_ONCE: f64 = 1e6;

/// Runs it.
pub fn run(options: Options) -> Result<Report, String> {
    let clients: u32 = options.number("clients", 15_000)?;
    let mut ground = Ground::prepare("storm", options, "user")?;
    let pace = ground.pace(AT_ONCE, 2000)?;
    ground.connect_up_to(0, clients, pace)?;
    ground.warm_up(clients)?;
    ground.crew.count();

    ground.crew.leave(ALL);
    ground.pass(LEAVING_SECS);
    let tally = ground.crew.count();
    ground.judge(&tally);
    let (server, own, start) = (ground.server(), Sample::own(), Instant::now());
    ground.crew.come_back(ALL, pace);
    ground.await_connections(clients.into())?;
    let secs = start.elapsed().as_secs_f64();
    let (server, own) = (ground.server().since(&server), Sample::own().since(&own));
    let tally = ground.crew.count();

    let report = &mut ground.report;
    report.figure("storm_secs", secs, "seconds until everybody was back");
    report.figure("connects_per_sec", f64::from(clients) / secs, "connects a second");
    let failed: u64 = tally.ends.values().sum();
    report.figure("storm_failures", failed as f64, "attempts that failed");
    ground.figure_cpu("storm_cpu_per_connect", &server, clients.into(), "connect");
    let used = server.nanos() as f64 / 1e7 / server.secs.max(1e-9);
    if ground.knows_server() {
        let text = "% of one processor that the server used meanwhile";
        ground.report.figure("storm_cpu_percent", used, text);
    }
    ground.judge_tool(&[own], "storm");
    ground.report.latencies.push(("handshake in the storm".to_owned(), tally.handshake.clone()));
    ground.judge(&tally);

    let tally = ground.warm_up(clients)?;
    ground.judge(&tally);
    let served = ground.crew.standing().served as f64;
    ground.report.figure("served_after", served, "clients that receive again");
    judge_database(&mut ground)?;
    Ok(ground.report)
}

/// How many connections Postgres had at most, which somebody else has counted during the run.
fn judge_database(ground: &mut Ground) -> Result<(), String> {
    let Some(path) = ground.options.text("database-seen") else { return Ok(()) };
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let pool: u32 = ground.options.number("db-pool", 10)?;
    let report = &mut ground.report;
    let Ok(most) = text.trim().parse::<u32>() else {
        report.problems.push("nobody has counted the connections of Postgres".to_owned());
        return Ok(());
    };
    let text = "connections that Postgres had at most";
    report.figure("postgres_connections_most", most.into(), text);
    report.figure("db_pool", pool.into(), "connections that it may have (DB_POOL)");
    if most > pool {
        report.problems.push(format!("Postgres had {most} connections, DB_POOL is {pool}"));
    }
    Ok(())
}
