//! The captures of the Node server, replayed against ours: the same bytes, apart from what varies
//! and from the intended differences in `transcripts/differences.rs`.

mod support;

#[path = "transcripts/capture.rs"]
mod capture;
#[path = "transcripts/differences.rs"]
mod differences;
#[path = "transcripts/notes.rs"]
mod notes;
#[path = "transcripts/processes.rs"]
mod processes;
#[path = "transcripts/replay.rs"]
mod replay;
#[path = "transcripts/unit.rs"]
mod unit;

use std::collections::{BTreeMap, BTreeSet};

use capture::{Case, Step, cases};
use support::{Server, World};
use unit::{Decoder, Unit};

/// Cases about time: replayed against a server with short intervals.
const TIMED: [&str; 4] = ["sse-heartbeat", "http-silent", "ws-server-ping", "ws-kill-no-answer"];

/// Cases about processes, whose notes tell more than their bytes; each has a test in
/// `transcripts/processes.rs`.
const PROCESSES: [&str; 10] = [
    "http-metrics",
    "redis-commands",
    "fail-postgres-restart",
    "fail-sigterm",
    "fail-sigint",
    "fail-redis-output-limit",
    "start-unix-socket",
    "start-port-in-use",
    "start-exit-status",
    "start-without-redis",
];

#[test]
fn answers_and_frames_are_those_of_the_captures() {
    let world = World::start();
    notes::seed(&world);
    let special: BTreeSet<&str> = TIMED.into_iter().chain(PROCESSES).collect();
    let plain: Vec<Case> =
        cases().into_iter().filter(|case| !special.contains(case.name.as_str())).collect();
    assert_eq!(plain.len(), 134 - special.len());
    assert_replays(&world, &plain);
}

#[test]
fn timed_answers_are_those_of_the_captures() {
    let world = World::with(|builder| {
        builder
            .env("TRUNKLINE_THUMP_INTERVAL_SECS", "0.5")
            .env("TRUNKLINE_PING_INTERVAL_SECS", "0.5")
            .env("TRUNKLINE_HEAD_SECS_MAX", "1")
            .env("TRUNKLINE_CLOSING_SECS_MAX", "1")
    });
    notes::seed(&world);
    let timed: Vec<Case> =
        cases().into_iter().filter(|case| TIMED.contains(&case.name.as_str())).collect();
    assert_eq!(timed.len(), TIMED.len());
    assert_replays(&world, &timed);
}

#[test]
fn every_captured_byte_belongs_to_a_unit() {
    let is_head = |name: &str| name == "http-head-stream" || name == "http-health-head";
    for case in cases() {
        let mut decoders: BTreeMap<u64, Decoder> = BTreeMap::new();
        for step in &case.steps {
            if let Step::Received(number, bytes) = step {
                let decoder = decoders.entry(*number).or_default();
                decoder.head_only = is_head(&case.name);
                decoder.bytes.extend_from_slice(bytes);
                while decoder.take(false).is_some() {}
            }
        }
        for decoder in decoders.values_mut() {
            while decoder.take(true).is_some_and(|unit| unit != Unit::End) {}
            assert_eq!(decoder.bytes.escape_ascii().to_string(), "", "{}", case.name);
        }
    }
}

#[test]
fn every_difference_belongs_to_a_step_of_a_case() {
    let cases = cases();
    for difference in differences::differences() {
        let case = cases.iter().find(|case| case.name == difference.case);
        let steps = case.map(|case| case.steps.len()).expect(difference.case);
        let (first, last) = difference.steps;
        assert!(first <= last && first <= steps, "{}: step {first}", difference.case);
        assert!(!difference.reason.is_empty() && !difference.instead.is_empty());
    }
}

/// Replays cases one after the other and reports every one that differs.
#[track_caller]
fn assert_replays(world: &World, cases: &[Case]) {
    let mut failures = Vec::new();
    for case in cases {
        let mut differences = differences::differences();
        differences.retain(|difference| difference.case == case.name);
        if let Err(error) = replay::replay(world, case, &differences) {
            eprintln!("--- {}: {error}", case.name);
            failures.push(case.name.as_str());
        }
        // A case that has changed the settings must not change the next one.
        world.database.sql("delete from settings");
        await_no_clients(&world.server);
    }
    let (bad, all) = (failures.len(), cases.len());
    assert!(failures.is_empty(), "{bad} of {all} cases differ: {failures:?}");
}

/// The next case counts subscribers: those of the last one must have gone.
fn await_no_clients(server: &Server) {
    server.await_metric("connected_clients", |count| count == 0.0);
}
