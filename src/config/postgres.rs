//! Where Postgres is and how to log in (`DATABASE_URL`, `DB_*`).

use std::path::PathBuf;
use std::time::Duration;

use super::redis::HostPort;
use super::secret::Secret;
use super::tls::{ClientIdentity, Roots};

/// How to reach Postgres.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// Tried in order at each connection.
    pub hosts: Vec<PostgresHost>,
    /// Role.
    pub user: String,
    /// Password, if any.
    pub password: Option<Secret>,
    /// Database.
    pub database: String,
    /// Whether and how TLS is used.
    pub ssl_mode: SslMode,
    /// `sslrootcert` and `NODE_EXTRA_CA_CERTS`.
    pub roots: Roots,
    /// `sslcert` and `sslkey`.
    pub identity: Option<ClientIdentity>,
    /// `options` of the start-up packet.
    pub options: Option<String>,
    /// `application_name`; empty by default, as PgBouncer in transaction mode wants it.
    pub application_name: String,
    /// Most connections of the whole process (`DB_POOL`).
    pub pool_size: usize,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
}

/// Where a Postgres server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostgresHost {
    /// TCP.
    Tcp(HostPort),
    /// The socket `.s.PGSQL.PORT` in this directory.
    Unix {
        /// The directory.
        directory: PathBuf,
        /// The port in the socket's name.
        port: u16,
    },
}

/// libpq's `sslmode`, plus `no-verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// Plain first, TLS if the server insists.
    Allow,
    /// TLS if the server offers it, unverified.
    #[default]
    Prefer,
    /// TLS; verified against the authority if a root certificate is configured (as libpq does).
    Require,
    /// TLS, the chain verified.
    VerifyCa,
    /// TLS, chain and host name verified.
    VerifyFull,
    /// TLS, unverified.
    NoVerify,
}
