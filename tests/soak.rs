//! The soak, a minute of it: residents, churn, mischief, Redis and Postgres restarted, and nothing
//! left over. The verdict on memory takes more rounds: `scripts/soak`.

use std::fs;
use std::process::Command;

use serde_json::Value;

#[test]
fn a_round_of_the_soak_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a directory");
    let report = directory.path().join("report.json");
    let trunkline = env!("CARGO_BIN_EXE_trunkline");
    let output = Command::new(format!("{}/scripts/soak", env!("CARGO_MANIFEST_DIR")))
        .args(["--minutes", "0.05", "--load-secs", "2", "--clients", "40", "--residents", "20"])
        .arg("--json")
        .arg(&report)
        .env_remove("URL")
        .env("TRUNKLINE", trunkline)
        .env("SERVER", format!("{trunkline} serve"))
        .output()
        .expect("scripts/soak runs");
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    let text = fs::read_to_string(&report).unwrap_or_else(|error| panic!("{error}: {told}"));
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let problems = report["problems"].as_array().expect("problems");
    let too_short = "too short for a verdict on memory";
    let is_expected =
        |problem: &Value| problem.as_str().is_some_and(|text| text.contains(too_short));
    assert!(problems.len() == 1 && problems.iter().all(is_expected), "{problems:#?}\n{told}");
    let revoked = &report["mischief"]["revoke"];
    assert!(revoked.as_u64() > Some(0) && report["deliveries"].as_f64() > Some(0.0), "{text}");
}
