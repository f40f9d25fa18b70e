//! Whose environment is judged: that of the server that runs, if it may be read, else our own.
//!
//! What a unit sets (`SOCKET`, `TRUNKLINE_PIN`) is in no shell, and advice without it would be
//! wrong.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::finding::{Area, Finding, Subject};
use super::readings::Readings;
use crate::config::surroundings::{RealSurroundings, Surroundings};
use crate::config::{self, Config, ConfigErrors, Warning};

/// What the configuration came to.
pub(super) type Loaded = Result<(Config, Vec<Warning>), ConfigErrors>;

/// Reads the configuration of the server that runs, or, if there is none or it may not be read, our
/// own; and says which, if there is a choice.
pub(super) fn load(readings: &dyn Readings, server: Option<u32>) -> (Loaded, Option<Finding>) {
    let Some(pid) = server else { return (config::load_from_process(), None) };
    let environment = environment(readings, pid);
    let finding = whose(pid, environment.is_some());
    let loaded = match environment {
        Some(environment) => config::load(&environment, &OfServer { pid }),
        None => config::load_from_process(),
    };
    (loaded, Some(finding))
}

/// The variables that a process was started with; `None` if they may not be read.
fn environment(readings: &dyn Readings, pid: u32) -> Option<BTreeMap<String, String>> {
    let text = readings.text(&format!("/proc/{pid}/environ"))?;
    let pairs = text.split('\0').filter_map(|entry| entry.split_once('='));
    Some(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn whose(pid: u32, is_readable: bool) -> Finding {
    let subject = Subject::new(
        Area::Configuration,
        "environment of the running server",
        "what its unit sets is not in a shell: judged without it, the advice may be wrong",
    )
    .should("readable, or its variables repeated here");
    if is_readable {
        return subject.is(format!("read from /proc/{pid}/environ, and judged")).fine();
    }
    subject.unknown(format!(
        "/proc/{pid}/environ may not be read by this user, so this shell's is judged: run as root, \
         or repeat what the unit sets (SOCKET=… TRUNKLINE_PIN=always trunkline doctor)"
    ))
}

/// The machine as the server sees it: with its working directory and its user.
struct OfServer {
    pid: u32,
}

impl Surroundings for OfServer {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // An absolute path replaces what it is joined to.
        RealSurroundings.read(&Path::new(&format!("/proc/{}/cwd", self.pid)).join(path))
    }

    fn resolve(&self, host: &str) -> io::Result<IpAddr> {
        RealSurroundings.resolve(host)
    }

    fn user_id(&self) -> u32 {
        let process = std::fs::metadata(format!("/proc/{}", self.pid));
        process.map_or_else(|_| RealSurroundings.user_id(), |process| process.uid())
    }

    fn process_id(&self) -> u32 {
        self.pid
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn the_environment_of_a_process_is_read_as_the_kernel_shows_it() {
        let text = "SOCKET=/run/a=b\0EMPTY=\0no variable\0NODE_ENV=production\0";
        let readings: BTreeMap<String, String> =
            [("/proc/8/environ".to_owned(), text.to_owned())].into();
        let pairs = [("EMPTY", ""), ("NODE_ENV", "production"), ("SOCKET", "/run/a=b")];
        let expected = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(environment(&readings, 8), Some(expected.into()));
        assert_eq!(environment(&readings, 9), None);
    }

    #[test]
    fn the_server_that_runs_is_judged_by_its_own_environment() {
        let variables = "NODE_ENV=production\0SOCKET=/run/trunkline/streaming.sock\0\
                         TRUNKLINE_PIN=always\0";
        let pid = std::process::id();
        let readings: BTreeMap<String, String> =
            [(format!("/proc/{pid}/environ"), variables.to_owned())].into();
        let (loaded, finding) = load(&readings, Some(pid));
        let config = loaded.expect("a configuration").0;
        assert_eq!(config.cores.pin, config::Pin::Always);
        assert!(matches!(config.listen, config::Listen::Unix(_)));
        assert_eq!(finding.map(|finding| finding.verdict), Some(Verdict::Fine));
    }

    #[test]
    fn without_a_server_or_without_leave_our_own_is_judged_and_that_is_said() {
        assert_eq!(load(&BTreeMap::new(), None).1, None);
        let finding = load(&BTreeMap::new(), Some(8)).1.expect("a finding");
        assert_eq!(finding.verdict, Verdict::Unknown);
        assert!(finding.is.contains("run as root"), "{finding:?}");
    }
}
