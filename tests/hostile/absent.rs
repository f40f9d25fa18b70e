//! Crowds of clients that stop taking part, in a process of their own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::support::{Request, Server};

/// Clients that were let in and do nothing any more; their sockets are there until this is dropped.
pub struct Absent(Child);

impl Absent {
    /// They vanish: nothing is acknowledged any more.
    #[track_caller]
    pub fn vanish(server: &Server, count: usize, request: &Request) -> Absent {
        Absent::start("vanish", server, count, request)
    }

    /// They stop reading. `NUMBER` in the request is from 1 to `count`.
    #[track_caller]
    pub fn stall(server: &Server, count: usize, request: &Request) -> Absent {
        Absent::start("stall", server, count, request)
    }

    #[track_caller]
    fn start(mode: &str, server: &Server, count: usize, request: &Request) -> Absent {
        let script = format!("{}/tests/hostile/clients.py", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("python3");
        command.args([&script, mode, &server.port().to_string(), &count.to_string()]);
        command.arg(String::from_utf8(request.bytes()).unwrap());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), "so be it");
        Absent(child)
    }
}

impl Drop for Absent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
