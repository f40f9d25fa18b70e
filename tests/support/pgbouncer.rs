//! A private PgBouncer in transaction mode.

use std::fs;

use rustix::process::Signal;
use tempfile::TempDir;

use super::database::Database;
use super::ports::Port;
use super::postgres::give_to_postgres;
use super::process::{Launch, Process, scratch};

/// A pooler in front of one PostgreSQL.
#[derive(Debug)]
pub struct PgBouncer {
    _process: Process,
    port: Port,
    _directory: TempDir,
}

impl PgBouncer {
    /// Starts one with two server connections for all clients together, so that transactions really
    /// share.
    pub fn start(database: &Database) -> PgBouncer {
        let port = Port::take();
        let directory = scratch("pgbouncer");
        let users = directory.path().join("users.txt");
        fs::write(&users, "\"mastodon\" \"\"\n").expect("write the users");
        let lines = [
            "[databases]".to_string(),
            format!("* = host=127.0.0.1 port={}", database.port()),
            "[pgbouncer]".to_string(),
            "listen_addr = 127.0.0.1".to_string(),
            format!("listen_port = {}", port.number()),
            "unix_socket_dir =".to_string(),
            "auth_type = trust".to_string(),
            format!("auth_file = {}", users.display()),
            "pool_mode = transaction".to_string(),
            "default_pool_size = 2".to_string(),
            "max_client_conn = 200".to_string(),
            "stats_users = mastodon".to_string(),
        ];
        let file = directory.path().join("pgbouncer.ini");
        fs::write(&file, lines.join("\n") + "\n").expect("write the configuration");
        give_to_postgres(directory.path());
        let mut process = Process::start(Launch {
            command: vec!["/usr/sbin/pgbouncer".into(), file.to_string_lossy().into_owned()],
            environment: None,
            directory: directory.path(),
            output: directory.path().join("log"),
            user: Some("postgres"),
            end: Signal::KILL,
        });
        process.await_port(port.number());
        PgBouncer { _process: process, port, _directory: directory }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }
}
