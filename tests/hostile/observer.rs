//! What can be seen of a server from outside when no new connection can be had.

use std::fs;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::support::server::metric_in;
use super::support::{Request, Server, Socket};

/// A connection that is kept to ask for metrics on.
pub struct Observer {
    socket: Socket,
    pid: u32,
}

impl Observer {
    /// Connects while that is possible. The server must keep idle connections
    /// (`TRUNKLINE_KEEP_ALIVE_SECS_MAX`).
    #[track_caller]
    pub fn of(server: &mut Server) -> Observer {
        let mut observer = Observer { socket: server.connect(), pid: server.process().id() };
        observer.page();
        observer
    }

    /// The sum of a metric's samples with this label.
    #[track_caller]
    pub fn metric(&mut self, name: &str, label: &str) -> f64 {
        metric_in(&self.page(), name, label)
    }

    #[track_caller]
    fn page(&mut self) -> String {
        self.socket.send(Request::get("/metrics").bytes());
        self.socket.response().text()
    }

    /// CPU time of the process so far, in seconds.
    pub fn cpu_secs(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let (_, behind_name) = stat.rsplit_once(')').unwrap();
        // Fields 14 and 15 of proc(5); the first one here is field 3.
        let fields = behind_name.split_whitespace().skip(11).take(2);
        let ticks: f64 = fields.map(|field| field.parse::<f64>().unwrap()).sum();
        ticks / rustix::param::clock_ticks_per_second() as f64
    }

    /// Resident memory of the process.
    pub fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
    }

    /// The numbers of the process's descriptors.
    pub fn descriptors(&self) -> Vec<u64> {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid)).unwrap();
        let number = |name: std::ffi::OsString| name.to_str().unwrap().parse().unwrap();
        entries.map(|entry| number(entry.unwrap().file_name())).collect()
    }

    /// Limits the numbers of the process's new descriptors from now on.
    pub fn limit_descriptors(&self, limit: u64) {
        let pid = Pid::from_raw(self.pid as i32);
        let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(limit), maximum }).unwrap();
    }
}
