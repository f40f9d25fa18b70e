//! A private PostgreSQL with the tables of `schema.sql`.
//!
//! `initdb` runs once for each version of `schema.sql` on a machine; its result is kept as a
//! template in the temporary directory and copied for each instance.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::database::Database;
use super::patience::eventually;
use super::ports::Port;
use super::process::{Launch, Process, is_root, run, scratch};

const SCHEMA: &str = include_str!("schema.sql");

/// The database that every test database is copied from.
const TEMPLATE: &str = "mastodon_template";

/// Speed instead of durability, and statistics of statements for tests that count them.
const OPTIONS: &[&str] = &[
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "max_connections=200",
    "shared_preload_libraries=pg_stat_statements",
    "pg_stat_statements.track_utility=off",
    "autovacuum=off",
    "jit=off",
];

/// A PostgreSQL server of one's own.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    port: Arc<Port>,
    directory: TempDir,
    options: Vec<String>,
    databases: AtomicUsize,
}

impl Postgres {
    /// The server that the tests of this process share; each takes a database of its own from it.
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Postgres::start)
    }

    /// Starts a server for a test that stops it or changes its settings.
    pub fn start() -> Postgres {
        Postgres::start_with(&[])
    }

    /// The same with more settings, as `["log_statement=all"]`.
    pub fn start_with(options: &[&str]) -> Postgres {
        let directory = scratch("postgres");
        run(Command::new("cp").arg("-a").arg(template()).arg(directory.path().join("data")));
        let options = options.iter().map(ToString::to_string).collect();
        let port = Arc::new(Port::take());
        let databases = AtomicUsize::new(0);
        let mut postgres = Postgres { process: None, port, directory, options, databases };
        give_to_postgres(postgres.directory.path());
        postgres.resume();
        postgres
    }

    /// The TCP port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The directory of the Unix socket.
    pub fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// The data directory, for `pg_hba.conf` and certificates.
    pub fn data_directory(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Stops it as `pg_ctl stop -m fast` does; connections are told.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::INT);
            process.wait();
        }
    }

    /// Starts it (again) on the same port with the same data.
    pub fn resume(&mut self) {
        let command = server_command(&self.data_directory(), self.port(), &self.options);
        let mut process = Process::start(Launch {
            command,
            environment: None,
            directory: Path::new("/"),
            output: self.directory.path().join("log"),
            user: Some("postgres"),
            end: Signal::QUIT,
        });
        process.await_port(self.port());
        self.process = Some(process);
        let database = self.database_named("postgres");
        eventually("PostgreSQL answers", || database.try_sql("select 1").ok());
    }

    /// Stops every process of the server (SIGSTOP), so that connections stand and nobody answers.
    ///
    /// The parent comes first: the list of its children is complete only once it forks no more.
    pub fn freeze(&self) {
        halt(|| self.processes().into_iter().take(1).collect());
        halt(|| self.processes());
    }

    /// Lets all processes go on.
    pub fn thaw(&self) {
        for pid in self.processes() {
            let _ = kill_process(pid, Signal::CONT);
        }
    }

    /// Sends a signal to the parent of all processes.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.processes()[0], signal).expect("a signal");
    }

    /// The server process, and all its children behind it; empty while it is stopped.
    fn processes(&self) -> Vec<Pid> {
        let Some(id) = self.process.as_ref().map(Process::id) else { return Vec::new() };
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let ids = format!("{id} {}", children.expect("the children of a process"));
        let pids = ids.split_whitespace().map(|id| Pid::from_raw(id.parse().expect("an id")));
        pids.map(|pid| pid.expect("a process id")).collect()
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::output).unwrap_or_default()
    }

    /// A new database with the schema and the roles, and no users.
    pub fn database(&self) -> Database {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("mastodon_{number}");
        let create = format!("create database {name} template {TEMPLATE} strategy file_copy");
        self.database_named("postgres").sql(&create);
        self.database_named(&name)
    }

    /// A database that exists.
    pub fn database_named(&self, name: &str) -> Database {
        Database::new(Arc::clone(&self.port), name)
    }
}

/// Stops these processes until none of them moves any more.
fn halt(processes: impl Fn() -> Vec<Pid>) {
    eventually("processes stand still", || {
        let mut moving = processes();
        moving.retain(|pid| !stands_still(*pid));
        for pid in &moving {
            let _ = kill_process(*pid, Signal::STOP);
        }
        moving.is_empty().then_some(())
    });
}

/// Whether a process is stopped, or has ended.
fn stands_still(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // The state is the word behind the name, which stands in parentheses.
    let state = stat.ok().and_then(|stat| stat.rsplit(") ").next()?.chars().next());
    matches!(state, None | Some('T' | 'Z' | 'X'))
}

fn server_command(data: &Path, port: u16, options: &[String]) -> Vec<String> {
    let mut command = vec![binary("postgres"), "-D".into(), data.to_string_lossy().into_owned()];
    let socket_directory = data.parent().unwrap_or(data).display().to_string();
    let place = [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".to_string(),
        format!("unix_socket_directories={socket_directory}"),
    ];
    let fixed = OPTIONS.iter().map(ToString::to_string);
    for option in place.into_iter().chain(fixed).chain(options.iter().cloned()) {
        command.push("-c".into());
        command.push(option);
    }
    command
}

/// A program of the newest PostgreSQL that Debian's packages have installed.
pub fn binary(name: &str) -> String {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    match found.pop() {
        Some(path) => path.to_string_lossy().into_owned(),
        None => name.to_string(),
    }
}

/// Makes the user `postgres` the owner of a directory: its server refuses to run as root.
pub fn give_to_postgres(directory: &Path) {
    if is_root() {
        run(Command::new("chown").arg("-R").arg("postgres:postgres").arg(directory));
    }
}

/// The data directory to copy, made on first use.
fn template() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        (SCHEMA, OPTIONS, binary("postgres")).hash(&mut hasher);
        let user = rustix::process::getuid().as_raw();
        let name = format!("trunkline-test-postgres-{user}-{:016x}", hasher.finish());
        let path = std::env::temp_dir().join(name);
        if !path.exists() {
            make_template(&path);
        }
        path
    })
    .clone()
}

/// Builds the template beside its place and moves it there: whoever comes second loses nothing.
fn make_template(path: &Path) {
    let directory = scratch("postgres-template");
    give_to_postgres(directory.path());
    let data = directory.path().join("data");
    let mut initdb = as_postgres();
    initdb.arg(binary("initdb")).args(["-U", "mastodon", "-A", "trust", "-E", "UTF8"]);
    run(initdb.args(["--locale=C.UTF-8", "--no-sync", "-D"]).arg(&data).current_dir("/"));
    let port = Arc::new(Port::take());
    let mut process = Process::start(Launch {
        command: server_command(&data, port.number(), &[]),
        environment: None,
        directory: Path::new("/"),
        output: directory.path().join("log"),
        user: Some("postgres"),
        end: Signal::QUIT,
    });
    process.await_port(port.number());
    let maintenance = Database::new(Arc::clone(&port), "postgres");
    eventually("PostgreSQL answers", || maintenance.try_sql("select 1").ok());
    maintenance.sql("create extension pg_stat_statements");
    maintenance.sql(&format!("create database {TEMPLATE}"));
    Database::new(port, TEMPLATE).sql(SCHEMA);
    process.signal(Signal::INT);
    process.wait();
    let _ = fs::rename(&data, path);
}

fn as_postgres() -> Command {
    if !is_root() {
        return Command::new("env");
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups", "--"]);
    command
}
