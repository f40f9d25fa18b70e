//! One database of a private PostgreSQL, spoken to through `psql`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::ports::Port;

/// A database. Statements run as the superuser `mastodon` over TCP.
#[derive(Clone, Debug)]
pub struct Database {
    port: Arc<Port>,
    name: String,
}

impl Database {
    /// The database `name` of the server on `port`.
    pub fn new(port: Arc<Port>, name: &str) -> Database {
        Database { port, name: name.to_string() }
    }

    /// The port of its server.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs statements; returns their rows, columns separated by `|`.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> String {
        self.try_sql(statements).unwrap_or_else(|error| panic!("{statements}\n{error}"))
    }

    /// The same, with the error's text.
    pub fn try_sql(&self, statements: &str) -> Result<String, String> {
        let mut child = Command::new("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U"])
            .args(["mastodon", "-p", &self.port().to_string(), "-d", &self.name, "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("psql: {error}"))?;
        let mut input = child.stdin.take().ok_or("no standard input")?;
        let written = input.write_all(statements.as_bytes());
        drop(input);
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).trim_end().to_string();
        match (output.status.success(), written) {
            (true, Ok(())) => Ok(text),
            _ => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// How many statements have run in this database since [`Database::reset_statements`].
    #[track_caller]
    pub fn statements(&self) -> u64 {
        self.statements_about(".*")
    }

    /// The same, of those whose text matches a regular expression.
    #[track_caller]
    pub fn statements_about(&self, pattern: &str) -> u64 {
        let query = "select coalesce(sum(calls), 0) from pg_stat_statements s join pg_database d \
                     on d.oid = s.dbid where datname = ";
        let query = format!("{query}'{}' and query ~ '{pattern}'", self.name);
        let text = self.maintenance().sql(&query);
        text.parse().expect("a number of statements")
    }

    /// Forgets the statements counted so far.
    #[track_caller]
    pub fn reset_statements(&self) {
        let query = "select pg_stat_statements_reset(0, oid, 0) from pg_database where datname = ";
        self.maintenance().sql(&format!("{query}'{}'", self.name));
    }

    fn maintenance(&self) -> Database {
        Database { port: Arc::clone(&self.port), name: "postgres".into() }
    }
}
