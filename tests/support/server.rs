//! The server under test: the real binary in a process of its own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::Signal;
use tempfile::TempDir;

use super::database::Database;
use super::http::{Request, Response};
use super::patience::eventually;
use super::ports::Port;
use super::process::{Launch, Process, scratch};
use super::redis::Redis;
use super::socket::Socket;

/// What the server says when it is ready for clients.
const LISTENING: &str = "Streaming API now listening on ";

/// How to start a [`Server`].
#[derive(Debug)]
pub struct ServerBuilder {
    port: Port,
    environment: BTreeMap<String, String>,
    launcher: Vec<String>,
    arguments: Vec<String>,
    directory: TempDir,
}

impl ServerBuilder {
    /// A server for this Redis and this database, with the settings of tests: two shards, no
    /// pinning, no time spent on sending clients away, the driver that `TRUNKLINE_TEST_IO` names.
    pub fn new(redis: &Redis, database: &Database) -> ServerBuilder {
        ServerBuilder::bare()
            .env("REDIS_HOST", "127.0.0.1")
            .env("REDIS_PORT", redis.port())
            .env("DB_HOST", "127.0.0.1")
            .env("DB_PORT", database.port())
            .env("DB_NAME", database.name())
            .env("DB_USER", "mastodon")
    }

    /// A server that is told nothing about Redis and Postgres.
    pub fn bare() -> ServerBuilder {
        let port = Port::take();
        let builder = ServerBuilder {
            environment: BTreeMap::new(),
            launcher: Vec::new(),
            arguments: Vec::new(),
            directory: scratch("server"),
            port,
        };
        let number = builder.port.number();
        let builder = builder
            .env("PATH", std::env::var("PATH").unwrap_or_default())
            .env("NODE_ENV", "production")
            .env("PORT", number)
            .env("RUST_BACKTRACE", "1")
            .env("TRUNKLINE_SHARDS", "2")
            .env("TRUNKLINE_PIN", "never")
            .env("TRUNKLINE_DRAIN_SECS", "0");
        match std::env::var("TRUNKLINE_TEST_IO") {
            Ok(driver) => builder.env("TRUNKLINE_IO", driver),
            Err(_) => builder,
        }
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl ToString) -> ServerBuilder {
        self.environment.insert(name.to_string(), value.to_string());
        self
    }

    /// Removes an environment variable.
    pub fn without(mut self, name: &str) -> ServerBuilder {
        self.environment.remove(name);
        self
    }

    /// Starts it through another program: `["setpriv", "--seccomp-filter", "file"]`.
    pub fn through(mut self, launcher: &[&str]) -> ServerBuilder {
        self.launcher = launcher.iter().map(ToString::to_string).collect();
        self
    }

    /// Adds command-line arguments.
    pub fn arguments(mut self, arguments: &[&str]) -> ServerBuilder {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// The working directory, where an environment file may be put.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The port that it will listen on, unless it is told another.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Starts it and waits until it listens.
    #[track_caller]
    pub fn start(self) -> Server {
        let mut server = self.launch();
        let address = server.await_log(LISTENING, |log| {
            let after = log.split(LISTENING).nth(1)?;
            Some(after.split(['"', '\n']).next()?.to_string())
        });
        server.address = address;
        server
    }

    /// Starts it and waits for nothing.
    pub fn launch(self) -> Server {
        let mut command = self.launcher;
        command.push(env!("CARGO_BIN_EXE_trunkline").to_string());
        command.extend(self.arguments);
        let process = Process::start(Launch {
            command,
            environment: Some(self.environment.into_iter().collect()),
            directory: self.directory.path(),
            output: self.directory.path().join("log"),
            user: None,
            end: Signal::KILL,
        });
        let (port, directory) = (self.port, self.directory);
        Server { process, port, address: String::new(), directory, unclean: false }
    }
}

/// A running server. Dropping it sends SIGTERM and insists on exit status 0 and no panic in the
/// log.
#[derive(Debug)]
pub struct Server {
    process: Process,
    port: Port,
    /// What the log named after "listening on".
    pub address: String,
    directory: TempDir,
    unclean: bool,
}

impl Server {
    /// Its TCP port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its working directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A path in its working directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `http://127.0.0.1:PORT`, or with another scheme.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port())
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A new connection.
    #[track_caller]
    pub fn connect(&self) -> Socket {
        Socket::connect(self.port())
    }

    /// Sends a request on a connection of its own and returns the answer.
    #[track_caller]
    pub fn ask(&self, request: &Request) -> Response {
        let mut socket = self.connect();
        socket.send(request.bytes());
        socket.response()
    }

    /// `GET` of a path.
    #[track_caller]
    pub fn get(&self, target: &str) -> Response {
        self.ask(&Request::get(target))
    }

    /// The value of a metric: the sum over its labels; 0 if there is none.
    #[track_caller]
    pub fn metric(&self, name: &str) -> f64 {
        self.metric_with(name, "")
    }

    /// The same over the samples with this label: `type="websocket"`.
    #[track_caller]
    pub fn metric_with(&self, name: &str, label: &str) -> f64 {
        metric_in(&self.get("/metrics").text(), name, label)
    }

    /// Waits until a metric has a value for which `holds` is true.
    #[track_caller]
    pub fn await_metric(&self, name: &str, holds: impl Fn(f64) -> bool) -> f64 {
        eventually(&format!("metric {name}"), || {
            let value = self.metric(name);
            holds(value).then_some(value)
        })
    }

    /// Waits until the path `/ready` misses exactly these parts; returns its body.
    #[track_caller]
    pub fn await_missing(&self, missing: &[&str]) -> serde_json::Value {
        eventually(&format!("/ready misses {missing:?}"), || {
            let response = self.get("/ready");
            let body: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON");
            let status = if body["missing"] == serde_json::json!([]) { 200 } else { 503 };
            assert_eq!(response.status, status, "{body}");
            (body["missing"] == serde_json::json!(missing)).then_some(body)
        })
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Waits until the log shows something.
    #[track_caller]
    pub fn await_log<T>(&mut self, what: &str, seek: impl Fn(&str) -> Option<T>) -> T {
        eventually(&format!("{what:?} in the server's log"), || {
            let log = self.process.output();
            let found = seek(&log);
            if found.is_none() && self.process.ended().is_some() {
                panic!("the server has ended without {what:?} in its log:\n{log}");
            }
            found
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for the process to end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Do not insist on a clean end when dropped: the test kills it itself or expects a failure.
    pub fn may_end_badly(&mut self) {
        self.unclean = true;
    }
}

/// The sum of a metric's samples with this label on a page of metrics.
pub fn metric_in(page: &str, name: &str, label: &str) -> f64 {
    let samples = page.lines().filter(|line| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']));
        rest.is_some_and(|rest| rest.contains(label))
    });
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server's log:\n{}---", self.log());
            return;
        }
        if self.unclean {
            return;
        }
        if self.process.ended().is_none() {
            self.process.signal(Signal::TERM);
        }
        let status = self.process.wait();
        let log = self.log();
        assert!(!log.contains("panicked at"), "the server panicked:\n{log}");
        assert_eq!(status.code(), Some(0), "the server's exit status; its log:\n{log}");
    }
}
