//! A client library in a process of its own, run by Node or Python. Its script prints lines of
//! JSON.

use std::path::{Path, PathBuf};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::patience::eventually;
use super::process::{Launch, Process, scratch};

/// A running script.
pub struct Script {
    name: String,
    process: Process,
    _directory: TempDir,
}

impl Script {
    /// Starts `script`, a path in `tests/`, with arguments and environment variables.
    pub fn start(script: &str, arguments: &[&str], variables: &[(&str, String)]) -> Script {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let tools = root.join(".test-tools");
        assert!(tools.exists(), "{} is missing: run scripts/install-test-tools", tools.display());
        let runner = match script.ends_with(".py") {
            true => tools.join("python/bin/python"),
            false => PathBuf::from("node"),
        };
        let directory = scratch("client");
        let path = root.join("tests").join(script);
        let mut command = vec![runner.display().to_string(), path.display().to_string()];
        command.extend(arguments.iter().map(ToString::to_string));
        let home = directory.path().display().to_string();
        let mut environment = vec![
            ("PATH".to_string(), std::env::var("PATH").unwrap_or_default()),
            ("TOOLS".to_string(), tools.display().to_string()),
            ("HOME".to_string(), home),
        ];
        environment.extend(variables.iter().map(|(name, value)| (name.to_string(), value.clone())));
        let process = Process::start(Launch {
            command,
            environment: Some(environment),
            directory: directory.path(),
            output: directory.path().join("output"),
            user: None,
            end: Signal::KILL,
        });
        Script { name: script.to_string(), process, _directory: directory }
    }

    /// The lines of JSON that it has printed.
    pub fn lines(&self) -> Vec<Value> {
        let output = self.process.output();
        output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until it ends by itself, as long as it prints something now and then; it must be
    /// content.
    #[track_caller]
    pub fn wait(&mut self) {
        loop {
            let length = self.process.output().len();
            eventually(&format!("more from {} or its end", self.name), || {
                let went_on = self.process.output().len() > length;
                (went_on || self.process.ended().is_some()).then_some(())
            });
            if let Some(status) = self.process.ended() {
                assert!(status.success(), "{}: {status}", self.name);
                return;
            }
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- output of {}:\n{}---", self.name, self.process.output());
        }
    }
}
