//! The environment: every name that is read, and where a value may come from. The real environment
//! wins over the file; a variable that is set but empty counts as unset, as it does for the Node
//! server.

use std::collections::BTreeMap;
use std::fmt;

use super::dotenv;

/// Which defaults hold; `RAILS_ENV` stands in for a missing `NODE_ENV`.
pub const NODE_ENV: &str = "NODE_ENV";
/// See [`NODE_ENV`].
pub const RAILS_ENV: &str = "RAILS_ENV";
/// TCP port of the clients.
pub const PORT: &str = "PORT";
/// Address or host name that clients connect to.
pub const BIND: &str = "BIND";
/// Unix socket that clients connect to; wins over [`PORT`].
pub const SOCKET: &str = "SOCKET";
/// Whose `X-Forwarded-For` is believed.
pub const TRUSTED_PROXY_IP: &str = "TRUSTED_PROXY_IP";
/// The least severe level that is logged.
pub const LOG_LEVEL: &str = "LOG_LEVEL";
/// More roots for TLS to Redis and Postgres.
pub const NODE_EXTRA_CA_CERTS: &str = "NODE_EXTRA_CA_CERTS";
/// `0`: Node does not verify TLS servers. Self-signed Redis servers are reached this way.
pub const NODE_TLS_REJECT_UNAUTHORIZED: &str = "NODE_TLS_REJECT_UNAUTHORIZED";

/// Postgres as a URL; wins over the `DB_*` that follow.
pub const DATABASE_URL: &str = "DATABASE_URL";
/// Postgres host, or the directory of its socket.
pub const DB_HOST: &str = "DB_HOST";
/// Postgres port.
pub const DB_PORT: &str = "DB_PORT";
/// Database.
pub const DB_NAME: &str = "DB_NAME";
/// Role.
pub const DB_USER: &str = "DB_USER";
/// The role's password.
pub const DB_PASS: &str = "DB_PASS";
/// Most connections of the process.
pub const DB_POOL: &str = "DB_POOL";
/// Whether and how TLS is used.
pub const DB_SSLMODE: &str = "DB_SSLMODE";
/// libpq's default host.
pub const PGHOST: &str = "PGHOST";
/// libpq's default port.
pub const PGPORT: &str = "PGPORT";
/// libpq's default database.
pub const PGDATABASE: &str = "PGDATABASE";
/// libpq's default role.
pub const PGUSER: &str = "PGUSER";
/// libpq's default password.
pub const PGPASSWORD: &str = "PGPASSWORD";

/// Redis as a URL; wins over the `REDIS_*` that follow.
pub const REDIS_URL: &str = "REDIS_URL";
/// Redis host.
pub const REDIS_HOST: &str = "REDIS_HOST";
/// Redis port.
pub const REDIS_PORT: &str = "REDIS_PORT";
/// Redis database number.
pub const REDIS_DB: &str = "REDIS_DB";
/// Redis ACL user.
pub const REDIS_USER: &str = "REDIS_USER";
/// Redis password.
pub const REDIS_PASSWORD: &str = "REDIS_PASSWORD";
/// Sentinels; useless without [`REDIS_SENTINEL_MASTER`].
pub const REDIS_SENTINELS: &str = "REDIS_SENTINELS";
/// The master group's name at the sentinels.
pub const REDIS_SENTINEL_MASTER: &str = "REDIS_SENTINEL_MASTER";
/// Port of sentinels that are named without one.
pub const REDIS_SENTINEL_PORT: &str = "REDIS_SENTINEL_PORT";
/// ACL user at the sentinels.
pub const REDIS_SENTINEL_USERNAME: &str = "REDIS_SENTINEL_USERNAME";
/// Password at the sentinels.
pub const REDIS_SENTINEL_PASSWORD: &str = "REDIS_SENTINEL_PASSWORD";
/// Prefix of channels and keys.
pub const REDIS_NAMESPACE: &str = "REDIS_NAMESPACE";

/// Where the service manager listens (sd_notify(3)).
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";
/// After how many microseconds without a sign of life it ends the process.
pub const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
/// The process that is meant.
pub const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// What every name of our own begins with; limits are this and their name in capitals.
pub const TRUNKLINE_PREFIX: &str = "TRUNKLINE_";
/// Number of shards.
pub const TRUNKLINE_SHARDS: &str = "TRUNKLINE_SHARDS";
/// Processors of the shards.
pub const TRUNKLINE_CPUS: &str = "TRUNKLINE_CPUS";
/// Processor of the control core.
pub const TRUNKLINE_CONTROL_CPU: &str = "TRUNKLINE_CONTROL_CPU";
/// Whether threads are pinned.
pub const TRUNKLINE_PIN: &str = "TRUNKLINE_PIN";
/// Whether other servers may listen on the same port.
pub const TRUNKLINE_SHARE_PORT: &str = "TRUNKLINE_SHARE_PORT";
/// What turns the cores.
pub const TRUNKLINE_IO: &str = "TRUNKLINE_IO";
/// How long a stop is spread over.
pub const TRUNKLINE_DRAIN_SECS: &str = "TRUNKLINE_DRAIN_SECS";

/// Our own names besides the limits.
pub const OWN_NAMES: [&str; 7] = [
    TRUNKLINE_SHARDS,
    TRUNKLINE_CPUS,
    TRUNKLINE_CONTROL_CPU,
    TRUNKLINE_PIN,
    TRUNKLINE_SHARE_PORT,
    TRUNKLINE_IO,
    TRUNKLINE_DRAIN_SECS,
];

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The process environment.
    Environment,
    /// This file in the working directory.
    File(&'static str),
    /// Part of this other variable.
    Variable(&'static str),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Environment => "environment",
            Self::File(name) | Self::Variable(name) => name,
            Self::Default => "default",
        })
    }
}

/// A value is set but is no text (not UTF-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotText;

/// Something that values are looked up in by name.
pub trait Strings {
    /// The value of a variable and where it came from.
    ///
    /// # Errors
    ///
    /// The value is not UTF-8: whoever set it is at fault.
    fn get(&self, name: &str) -> Result<Option<(String, Origin)>, NotText>;

    /// Every name that is set, to find misspelt ones of our own.
    fn names(&self) -> Vec<String>;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Strings for ProcessEnvironment {
    fn get(&self, name: &str) -> Result<Option<(String, Origin)>, NotText> {
        let value = std::env::var_os(name).map(|value| value.into_string());
        let value = value.transpose().map_err(|_| NotText)?;
        Ok(value.map(|text| (text, Origin::Environment)))
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
    }
}

impl Strings for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Result<Option<(String, Origin)>, NotText> {
        Ok(self.get(name).map(|text| (text.clone(), Origin::Environment)))
    }

    fn names(&self) -> Vec<String> {
        self.keys().cloned().collect()
    }
}

/// An environment file under a real environment that wins, even with an empty value (as in Node's
/// dotenv). `NODE_ENV` and `RAILS_ENV` are never taken from the file: they decided which file is
/// read.
pub struct WithFile<'a> {
    environment: &'a dyn Strings,
    file_name: &'static str,
    file: BTreeMap<String, String>,
}

impl<'a> WithFile<'a> {
    /// Puts the file's text under the environment.
    pub fn new(environment: &'a dyn Strings, file_name: &'static str, text: &str) -> Self {
        Self { environment, file_name, file: dotenv::parse(text) }
    }
}

impl Strings for WithFile<'_> {
    fn get(&self, name: &str) -> Result<Option<(String, Origin)>, NotText> {
        if let Some(found) = self.environment.get(name)? {
            return Ok(Some(found));
        }
        if name == NODE_ENV || name == RAILS_ENV {
            return Ok(None);
        }
        Ok(self.file.get(name).map(|text| (text.clone(), Origin::File(self.file_name))))
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.environment.names();
        names.extend(self.file.keys().cloned());
        names.sort();
        names.dedup();
        names
    }
}
