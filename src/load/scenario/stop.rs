//! The server is told to stop: are its clients sent away evenly, with words that bring them back,
//! and does it end in time?

use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::load::clock::nanos;
use crate::load::ground::Ground;
use crate::load::measure::{Sample, has_ended};
use crate::load::options::Options;
use crate::load::report::Report;

/// How often is looked, so finely are the seconds told apart.
const LOOK: Duration = Duration::from_millis(10);
const SECOND_NANOS: u64 = 1_000_000_000;
/// How long after the window the server may still be there before waiting ends.
const PATIENCE_SECS: f64 = 30.0;
/// What a client is told that shall come back: the close code, and the end of an event stream.
const FAREWELLS: [&str; 2] = ["closed with 1001", "the response ended"];

/// Runs it.
pub fn run(mut options: Options) -> Result<Report, String> {
    options.set_default("transport", "both");
    let clients: u32 = options.number("clients", 10_000)?;
    let window: f64 = options.number("secs", 10.0)?;
    let mut ground = Ground::prepare("stop", options, "user")?;
    let pid: i32 = ground.options.number("pid", 0)?;
    let server = Pid::from_raw(pid).ok_or("stop needs --pid: who is to be told")?;
    let pace = ground.pace(2000.0, 200)?;
    ground.connect_up_to(0, clients, pace)?;
    let tally = ground.warm_up(clients)?;
    ground.judge(&tally);

    let (own, start) = (Sample::own(), nanos());
    kill_process(server, Signal::TERM).map_err(|error| format!("--pid {pid}: {error}"))?;
    let mut looks = vec![(start, 0)];
    let ended_at = loop {
        thread::sleep(LOOK);
        let now = nanos();
        looks.push((now, ground.look().ended));
        if has_ended(pid) {
            break now;
        }
        if (now - start) as f64 / 1e9 > window + PATIENCE_SECS {
            return Err(format!("the server is still there {PATIENCE_SECS} s after the window"));
        }
    };
    let own = Sample::own().since(&own);
    // What has arrived at the tool by then is read.
    ground.pass(1.0);
    let tally = ground.crew.count();

    ground.judge_tool(&[own], "stop");
    let average = f64::from(clients) / window;
    let most = most_in_a_second(&looks) as f64;
    let secs = (ended_at - start) as f64 / 1e9;
    let report = &mut ground.report;
    report.figure("stop_secs", secs, "seconds from SIGTERM to the end of the process");
    report.figure("average_per_sec", average, "clients a second, on average over the window");
    report.figure("most_in_a_second", most, "clients sent away in the fullest second");
    if most > 2.0 * average {
        report.problems.push("more than twice the average left within a second".to_owned());
    }
    if secs > window + 1.0 {
        report.problems.push("the server did not end within a second after the window".to_owned());
    }
    let mut told = 0;
    for (reason, count) in &tally.ends {
        match FAREWELLS.contains(&reason.as_str()) {
            true => told += count,
            false => report.problems.push(format!("{count} connections: {reason}")),
        }
        let key = format!("ended_{}", reason.replace(' ', "_"));
        report.figure(&key, *count as f64, &format!("clients: {reason}"));
    }
    if told != u64::from(clients) {
        report.problems.push(format!("only {told} of {clients} clients were told to come back"));
    }
    Ok(ground.report)
}

/// The most that went within a second, from looks at how many had gone.
fn most_in_a_second(looks: &[(u64, u64)]) -> u64 {
    let (mut first, mut most) = (0, 0);
    for (at, gone) in looks {
        while looks.get(first).is_some_and(|look| look.0 + SECOND_NANOS < *at) {
            first += 1;
        }
        most = most.max(gone - looks.get(first).map_or(0, |look| look.1));
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_second_is_found_wherever_it_begins() {
        let millis = |at: u64| at * 1_000_000;
        let looks = [(0, 0), (400, 1), (900, 2), (1100, 9), (1600, 12), (2700, 13)];
        let looks = looks.map(|(at, gone)| (millis(at), gone));
        assert_eq!(most_in_a_second(&looks), 10);
        assert_eq!(most_in_a_second(&looks[..2]), 1);
    }
}
