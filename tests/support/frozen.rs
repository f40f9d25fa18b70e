//! A core that hangs: single threads of a server held still.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::server::Server;

/// A thread of the server that is held still until this is dropped.
#[derive(Debug)]
pub struct Frozen(Child);

impl Frozen {
    /// Holds the threads of this name: `shard-1`, `control`.
    #[track_caller]
    pub fn thread(server: &mut Server, name: &str) -> Frozen {
        let script = format!("{}/tests/support/freeze.py", env!("CARGO_MANIFEST_DIR"));
        let pid = server.process().id().to_string();
        let mut command = Command::new("python3");
        command.args([&script, &pid, name]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), "frozen");
        Frozen(child)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}
