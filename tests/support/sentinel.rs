//! A private Redis Sentinel that watches a private Redis.

use std::fs;

use rustix::process::Signal;
use tempfile::TempDir;

use super::ports::Port;
use super::process::{Launch, Process, scratch};
use super::redis::RedisClient;

/// One sentinel; a quorum of one decides.
#[derive(Debug)]
pub struct Sentinel {
    _process: Process,
    port: Port,
    _directory: TempDir,
}

impl Sentinel {
    /// Starts one that knows the Redis at `redis_port` as master group `master`.
    pub fn start(master: &str, redis_port: u16) -> Sentinel {
        let port = Port::take();
        let directory = scratch("sentinel");
        let file = directory.path().join("sentinel.conf");
        let number = port.number();
        let lines = [
            format!("port {number}"),
            "bind 127.0.0.1".to_string(),
            format!("dir {}", directory.path().display()),
            format!("sentinel monitor {master} 127.0.0.1 {redis_port} 1"),
            format!("sentinel down-after-milliseconds {master} 1000"),
            format!("sentinel failover-timeout {master} 5000"),
        ];
        fs::write(&file, lines.join("\n") + "\n").expect("write the sentinel's configuration");
        let mut process = Process::start(Launch {
            command: vec!["redis-sentinel".into(), file.to_string_lossy().into_owned()],
            environment: None,
            directory: directory.path(),
            output: directory.path().join("log"),
            user: None,
            end: Signal::KILL,
        });
        process.await_port(port.number());
        Sentinel { _process: process, port, _directory: directory }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// A connection to it.
    pub fn client(&self) -> RedisClient {
        RedisClient::connect(self.port())
    }
}
