//! The load tool against the server, small: every scenario runs to its end and finds every
//! delivery.

mod support;

use std::fs;
use std::process::Command;

use serde_json::Value;
use support::World;

const CLIENTS: &str = "60";

/// Runs a scenario with `trunkline load`; the JSON report.
#[track_caller]
fn report(world: &World, scenario: &str, options: &[&str]) -> Value {
    let path = world.server.path(&format!("{scenario}.json"));
    let picture = world.server.path(&format!("{scenario}.svg"));
    let output = Command::new(env!("CARGO_BIN_EXE_trunkline"))
        .args(["load", scenario, "--url", &world.server.url("http"), "--accounts", CLIENTS])
        .args(["--redis", &format!("redis://127.0.0.1:{}", world.redis.port())])
        .arg("--json")
        .arg(&path)
        .arg("--plot")
        .arg(&picture)
        .args(options)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(fs::read_to_string(picture).unwrap().ends_with("</svg>\n"), "{scenario}: {told}");
    let report: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let problems = report["problems"].as_array().unwrap();
    assert_eq!(output.status.success(), problems.is_empty(), "{text}\n{told}");
    // How long a stop takes on this machine says nothing; the pace is held in virtual time.
    let mut problems = problems.iter().filter_map(Value::as_str);
    assert!(problems.all(|problem| problem.contains("a second")), "{scenario}: {text}\n{told}");
    report
}

#[track_caller]
fn figure(report: &Value, key: &str) -> f64 {
    report["figures"][key].as_f64().unwrap_or_else(|| panic!("no {key} in {report:#}"))
}

#[test]
fn every_scenario_runs_to_its_end_and_finds_every_delivery() {
    let mut world = World::with(|builder| builder.env("TRUNKLINE_DRAIN_SECS", "2"));
    world.fixture().users(0..=59);
    let pid = world.server.process().id().to_string();
    let pid = pid.as_str();

    let hold = report(
        &world,
        "hold",
        &["--pid", pid, "--steps", "20,40,60", "--settle-secs", "0.1", "--idle-secs", "0.1"],
    );
    assert_eq!(hold["slopes"][0]["points"].as_array().unwrap().len(), 3);

    let both = ["--clients", CLIENTS, "--transport", "both"];
    let some =
        [&both[..], &["--events", "30", "--rate", "100", "--keyword", "zzkeyword1"]].concat();
    let fanout = report(&world, "fanout", &some);
    assert_eq!(figure(&fanout, "fanout_deliveries"), 30.0 * 60.0);

    let home = report(&world, "home", &[&both[..], &["--events", "300"]].concat());
    assert_eq!(figure(&home, "home_deliveries"), 300.0);
    let outstanding = [&both[..], &["--events", "300", "--outstanding", "8"]].concat();
    assert_eq!(figure(&report(&world, "home", &outstanding), "home_deliveries"), 300.0);

    let storm = report(&world, "storm", &both);
    assert_eq!((figure(&storm, "storm_failures"), figure(&storm, "served_after")), (0.0, 60.0));

    let slow = report(&world, "slow", &[&both[..], &["--slow", "3", "--events", "20"]].concat());
    assert_eq!(figure(&slow, "some_stopped_deliveries"), 20.0 * 57.0);

    let soak = ["--clients", CLIENTS, "--rate", "100", "--secs", "1", "--churn", "20"];
    assert!(figure(&report(&world, "soak", &soak), "churned") > 0.0);

    let stop = report(&world, "stop", &[&both[..], &["--pid", pid, "--secs", "2"]].concat());
    assert_eq!(figure(&stop, "ended_closed_with_1001"), 30.0);
    assert_eq!(figure(&stop, "ended_the_response_ended"), 30.0);
    assert_eq!(world.server.wait().code(), Some(0));
}
