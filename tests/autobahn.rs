//! The Autobahn test suite, which runs on Jython, against the server's connection code: every write
//! path, both drivers, and once with the limits that it ships with.
//!
//! `scripts/autobahn` adds the groups that take minutes: 9 (limits and performance), 12 and 13
//! (compression, which is not offered).

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "autobahn/echo.rs"]
mod echo;
#[path = "autobahn/suite.rs"]
mod suite;

use std::time::Duration;

use echo::{AsShipped, Direct, Echo, Gathered, Path, Trickled};
use suite::{Outcomes, expected, expected_as_shipped, is_wanted, run};
use trunkline::config::Limits;
use trunkline::io::driver::Driver;

const DRIVERS: [Driver; 2] = [Driver::Glommio, Driver::Epoll];

/// No ping of ours, which some cases would take for an answer.
const NO_PINGS: Duration = Duration::from_secs(86_400);

#[test]
fn every_write_path_conforms_on_both_drivers() {
    let mut echoes = Vec::new();
    for driver in DRIVERS {
        let name = |path: &str| format!("{}-{path}", driver.name());
        echoes.push((name("direct"), conforming::<Direct>(driver)));
        echoes.push((name("trickled"), conforming::<Trickled>(driver)));
        echoes.push((name("gathered"), conforming::<Gathered>(driver)));
        let shipped = Limits { ping_interval_secs: NO_PINGS, ..Limits::default() };
        echoes.push((name("as-shipped"), Echo::start::<AsShipped>(driver, shipped)));
    }
    let wanted = echoes.iter().filter(|(name, _)| is_wanted(name));
    let agents: Vec<(&str, u16)> = wanted.map(|(name, echo)| (name.as_str(), echo.port)).collect();
    assert!(!agents.is_empty(), "no server is wanted");
    let outcomes = run(&agents);
    let mut complaints = Vec::new();
    for (agent, _) in &agents {
        let expected = match agent.ends_with("as-shipped") {
            true => expected_as_shipped(),
            false => expected(),
        };
        let none = Outcomes::new();
        complaints.extend(differences(agent, outcomes.get(*agent).unwrap_or(&none), &expected));
    }
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
    for (_, echo) in echoes {
        echo.stop();
    }
}

/// An echo that takes whatever the suite sends: its longest message has 16 MiB.
fn conforming<P: Path>(driver: Driver) -> Echo {
    let limits = Limits {
        message_bytes_max: 16 * 1024 * 1024,
        outbox_bytes_max: 64 * 1024 * 1024,
        // Jython reads nothing while it thinks.
        outbox_blocked_secs_max: Duration::from_secs(3600),
        ping_interval_secs: NO_PINGS,
        ..Limits::default()
    };
    Echo::start::<P>(driver, limits)
}

/// What is not exactly as expected; an improvement is not, either.
fn differences(agent: &str, found: &Outcomes, expected: &Outcomes) -> Vec<String> {
    let cases = found.keys().chain(expected.keys().filter(|case| !found.contains_key(*case)));
    let differs = |case: &&suite::Case| found.get(*case) != expected.get(*case);
    cases
        .filter(differs)
        .map(|case| {
            let (found, expected) = (found.get(case), expected.get(case));
            format!("{agent} {case}: {found:?} instead of {expected:?}")
        })
        .collect()
}
