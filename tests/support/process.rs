//! Child processes that never outlive their test.
//!
//! A child is started through `setpriv --pdeathsig`: the kernel kills it when its parent *thread*
//! ends. So one thread that lives as long as the test process starts them all, and a killed test
//! run leaves nothing.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::patience::eventually;

/// A directory that is removed with its owner. Below the system's temporary directory, where other
/// users (Postgres refuses to run as root) can reach it and socket paths stay short.
pub fn scratch(name: &str) -> TempDir {
    tempfile::Builder::new()
        .prefix(&format!("trunkline-{name}-"))
        .tempdir()
        .expect("make a directory")
}

/// A child process with its output in a file, killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    output: PathBuf,
    end: Signal,
}

/// How to start a [`Process`].
#[derive(Debug)]
pub struct Launch<'a> {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `Some`: the whole environment; `None`: the one of the test.
    pub environment: Option<Vec<(String, String)>>,
    /// Where it runs.
    pub directory: &'a Path,
    /// Where standard output and standard error go, appended.
    pub output: PathBuf,
    /// The user that it runs as when the test runs as root.
    pub user: Option<&'a str>,
    /// What ends it at once.
    pub end: Signal,
}

impl Process {
    /// Starts it.
    pub fn start(launch: Launch<'_>) -> Process {
        let log =
            File::options().create(true).append(true).open(&launch.output).expect("open the log");
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig").arg(name(launch.end));
        if let Some(user) = launch.user.filter(|_| is_root()) {
            command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
        }
        command.arg("--").args(&launch.command).current_dir(launch.directory);
        if let Some(environment) = launch.environment {
            command.env_clear().envs(environment);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("clone the log")).stderr(log);
        Process { child: spawn(command), output: launch.output, end: launch.end }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.id() as i32).expect("a process id");
        kill_process(pid, signal).expect("send a signal");
    }

    /// Its exit status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait for a child")
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("the end of process {} ({})", self.id(), self.output.display());
        eventually(&what, || self.ended())
    }

    /// Waits until it accepts connections on a port of this machine.
    #[track_caller]
    pub fn await_port(&mut self, port: u16) {
        eventually(&format!("a listener on port {port} ({})", self.output.display()), || {
            assert!(self.ended().is_none(), "it has ended:\n{}", self.output());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
    }

    /// Ends it at once and waits for it.
    pub fn stop(&mut self) {
        if self.ended().is_none() {
            self.signal(self.end);
            self.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(self.end);
            let _ = self.child.wait();
        }
    }
}

/// Does the test run as root?
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a program to its end and returns its standard output; panics with both outputs if it fails.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}\n{errors}", output.status);
    text
}

/// The name by which `setpriv` knows a signal.
fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::QUIT => "QUIT",
        Signal::KILL => "KILL",
        other => panic!("{other:?} is not used to end a process at once"),
    }
}

type Order = (Command, Sender<std::io::Result<Child>>);

fn spawn(command: Command) -> Child {
    static SPAWNER: OnceLock<Sender<Order>> = OnceLock::new();
    let what = format!("{command:?}");
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, answer) = mpsc::channel();
    spawner.send((command, reply)).expect("the spawning thread lives on");
    answer.recv().expect("an answer").unwrap_or_else(|error| panic!("cannot start {what}: {error}"))
}
