//! Runs the suite and knows what comes of it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The number of a case: `6.4.3`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case(Vec<u32>);

impl Case {
    fn parse(text: &str) -> Case {
        Case(text.split('.').map(|part| part.parse().expect("the number of a case")).collect())
    }

    fn group(&self) -> u32 {
        self.0[0]
    }
}

impl fmt::Display for Case {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        to.write_str(&parts.join("."))
    }
}

/// The suite's words: behaviour, behaviour at the close, code of the server's close frame.
pub type Outcome = [String; 3];

/// What came of each case for one server.
pub type Outcomes = BTreeMap<Case, Outcome>;

/// Set by `scripts/autobahn`: the groups to run, and where the table of all outcomes is to be put.
const GROUPS: &str = "TRUNKLINE_TEST_AUTOBAHN_GROUPS";
const TABLE: &str = "TRUNKLINE_TEST_AUTOBAHN_TABLE";

/// Set by hand: the servers to run against, if not all (`epoll-direct glommio-trickled`).
const SERVERS: &str = "TRUNKLINE_TEST_AUTOBAHN_SERVERS";

/// Is the suite to be run against this server?
pub fn is_wanted(agent: &str) -> bool {
    std::env::var(SERVERS).map_or(true, |servers| servers.split(' ').any(|name| name == agent))
}

/// The groups that do not take minutes.
const QUICK_GROUPS: &str = "1 2 3 4 5 6 7 10";

fn groups() -> Vec<u32> {
    let groups = std::env::var(GROUPS).unwrap_or_else(|_| QUICK_GROUPS.to_string());
    groups.split(' ').map(|group| group.parse().expect("the number of a group")).collect()
}

/// What must come of each case of the groups that run.
pub fn expected() -> Outcomes {
    table(include_str!("expected.txt")).map(|(case, outcome, _)| (case, outcome)).collect()
}

/// The same for the server as it ships: the intended differences, each of which is one and says
/// why.
pub fn expected_as_shipped() -> Outcomes {
    let mut expected = expected();
    for (case, outcome, reason) in table(include_str!("as_shipped.txt")) {
        assert!(!reason.is_empty(), "{case}: why is it different?");
        let otherwise = expected.insert(case.clone(), outcome.clone());
        assert!(otherwise.is_some_and(|otherwise| otherwise != outcome), "{case} is no different");
    }
    expected
}

/// The lines of a committed table that belong to the groups that run: case, outcome, and what else
/// stands there.
fn table(text: &'static str) -> impl Iterator<Item = (Case, Outcome, String)> {
    let groups = groups();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let rows = lines.map(|line| {
        let mut words = line.splitn(5, ' ').map(ToString::to_string);
        let case = Case::parse(&words.next().unwrap_or_default());
        let outcome = std::array::from_fn(|_| words.next().expect("three words behind the case"));
        (case, outcome, words.next().unwrap_or_default())
    });
    rows.filter(move |(case, _, _)| groups.contains(&case.group()))
}

/// Runs the suite against servers (name, port), all at once: most of its time is spent waiting.
pub fn run(agents: &[(&str, u16)]) -> BTreeMap<String, Outcomes> {
    let directory = tempfile::tempdir().expect("make a directory");
    let (plan, results) = (directory.path().join("plan"), directory.path().join("results"));
    let cases: Vec<String> = groups().iter().map(|group| format!("{group}.*")).collect();
    let agents: BTreeMap<&str, u16> = agents.iter().copied().collect();
    let text = serde_json::json!({ "cases": cases, "agents": agents }).to_string();
    fs::write(&plan, text).expect("write the plan");
    let output = jython().arg(&plan).arg(&results).output().expect("start java");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "Autobahn failed:\n{told}\n{errors}");
    println!("{told}");
    let table = fs::read_to_string(&results).expect("read the results");
    if let Ok(path) = std::env::var(TABLE) {
        fs::write(path, &table).expect("write the table");
    }
    let mut outcomes: BTreeMap<String, Outcomes> = BTreeMap::new();
    for line in table.lines() {
        let [agent, case, rest @ ..] = &line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("an odd line of results: {line}")
        };
        let outcome = std::array::from_fn(|index| rest[index].to_string());
        outcomes.entry(agent.to_string()).or_default().insert(Case::parse(case), outcome);
    }
    outcomes
}

fn jython() -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let suite: PathBuf = root.join(".test-tools/autobahn");
    assert!(suite.is_dir(), "scripts/install-test-tools installs the Autobahn test suite");
    let jars = ["jython", "bcprov", "bcpkix", "bcutil"];
    let jars = jars.map(|jar| format!("/usr/share/java/{jar}.jar")).join(":");
    let mut command = Command::new("java");
    command
        .arg("-Dpython.home=/usr/share/jython")
        .arg(format!("-Dpython.path={}", suite.display()))
        .args(["-cp", &jars, "org.python.util.jython"])
        .arg(root.join("tests/autobahn/fuzz.py"));
    command
}
