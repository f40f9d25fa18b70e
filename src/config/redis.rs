//! Where Redis is and how to log in (`REDIS_*`).

use std::path::PathBuf;

use super::secret::Secret;
use super::tls::ClientTls;

/// How to reach Redis.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// The server, or the sentinels that know it.
    pub target: RedisTarget,
    /// ACL user.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// `SELECT`ed on the command connection; `PUBLISH` ignores it, `SET subscribed:*` does not.
    pub database: u32,
    /// TLS to the server (`rediss://`).
    pub tls: Option<ClientTls>,
    /// Prefix `NAMESPACE:` of channels and keys (Mastodon up to 4.3).
    pub namespace: Option<String>,
}

/// Where Redis is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisTarget {
    /// A host name or address (IPv6 without brackets) and a port.
    Tcp(HostPort),
    /// A Unix socket.
    Unix(PathBuf),
    /// Ask these which server is the master.
    Sentinel {
        /// The sentinels, asked in order.
        sentinels: Vec<HostPort>,
        /// The name of the master group.
        master: String,
        /// ACL user at the sentinels.
        user: Option<String>,
        /// Password at the sentinels.
        password: Option<Secret>,
    },
}

/// A host name or address (IPv6 without brackets) and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}
