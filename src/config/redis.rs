//! Where Redis is and how to log in (`REDIS_*`).

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;

use super::env::{self, Origin};
use super::reader::{Reader, Told};
use super::secret::Secret;
use super::tls::{ClientTls, Roots};
use super::typed;
use super::url::{Url, parse_port, redact};

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORT: u16 = 6379;
const DEFAULT_SENTINEL_PORT: u16 = 26_379;
/// Redis counts databases in a C `int`.
const DATABASE_MAX: u32 = i32::MAX as u32;

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

impl std::fmt::Display for HostPort {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}

impl RedisConfig {
    /// `None` after an error.
    pub(super) fn read(
        reader: &mut Reader,
        extra_roots: &Arc<[CertificateDer<'static>]>,
    ) -> Option<Self> {
        let mut config = match reader.text(env::REDIS_URL) {
            Some(told) => Self::read_url(reader, &told, extra_roots),
            None => Self::read_variables(reader),
        };
        let namespace = reader.text(env::REDIS_NAMESPACE);
        let origin = namespace.as_ref().map_or(Origin::Default, |told| told.origin);
        let namespace = namespace.map(|told| told.text);
        reader.record_optional(env::REDIS_NAMESPACE, namespace.as_ref(), origin);
        if namespace.is_some() {
            let text = "is honoured, but only a Mastodon up to 4.3 publishes under it";
            reader.warn(env::REDIS_NAMESPACE, text);
        }
        if let Some(config) = &mut config {
            config.namespace = namespace;
        }
        config
    }

    fn read_url(
        reader: &mut Reader,
        told: &Told,
        extra_roots: &Arc<[CertificateDer<'static>]>,
    ) -> Option<Self> {
        let shown = redact(&told.text, false);
        reader.record(env::REDIS_URL, &shown, told.origin);
        let mut config = match Self::parse_url(told.text.trim()) {
            Ok(config) => config,
            Err(problem) => {
                reader.redacted_error(env::REDIS_URL, &shown, problem);
                return None;
            }
        };
        if let Some(tls) = &mut config.tls {
            tls.roots = Roots { own: None, extra: extra_roots.clone() };
            tls.no_verify = read_no_verify(reader);
        }
        config.record(reader, Origin::Variable(env::REDIS_URL));
        Some(config)
    }

    fn parse_url(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text)?;
        let (target, database) = match url.scheme.as_str() {
            "redis" | "rediss" => {
                let [host] = url.hosts.as_slice() else { return Err("names several hosts") };
                let name = if host.host.is_empty() { DEFAULT_HOST } else { &host.host };
                let port = host.port.unwrap_or(DEFAULT_PORT);
                let place = HostPort { host: typed::host(name)?, port };
                (RedisTarget::Tcp(place), url.path.as_str())
            }
            "unix" => {
                // unix://run/redis.sock, with a slash too few, means /run/redis.sock to nobody.
                if url.path.is_empty() || url.hosts.iter().any(|host| !host.host.is_empty()) {
                    return Err("must name an absolute path: unix:///run/redis.sock");
                }
                (RedisTarget::Unix(PathBuf::from(format!("/{}", url.path))), "")
            }
            _ => return Err("must begin with redis://, rediss:// or unix://"),
        };
        let database = url.parameter("db").unwrap_or(database).trim_end_matches('/');
        let database = if database.is_empty() { "0" } else { database };
        let database = typed::number(database, &(0..=DATABASE_MAX));
        let password = url.parameter("password").map(Secret::new);
        Ok(Self {
            target,
            user: url.user,
            password: url.password.or(password),
            database: database.map_err(|_| "the database is no number")?,
            tls: (url.scheme == "rediss").then(ClientTls::default),
            namespace: None,
        })
    }

    fn read_variables(reader: &mut Reader) -> Option<Self> {
        let host = read_host(reader);
        let port = reader.value(env::REDIS_PORT, DEFAULT_PORT, typed::port, u16::to_string);
        let parse = |text: &str| typed::number(text, &(0..=DATABASE_MAX));
        let database = reader.value(env::REDIS_DB, 0, parse, u32::to_string);
        let user = read_optional(reader, env::REDIS_USER);
        let password = read_secret(reader, env::REDIS_PASSWORD);
        let target = match read_sentinels(reader, user.as_ref(), password.as_ref()) {
            Some(sentinels) => sentinels,
            None => RedisTarget::Tcp(HostPort { host, port }),
        };
        Some(Self { target, user, password, database, tls: None, namespace: None })
    }

    fn record(&self, reader: &mut Reader, origin: Origin) {
        match &self.target {
            RedisTarget::Tcp(place) => {
                reader.record(env::REDIS_HOST, &place.host, origin);
                reader.record(env::REDIS_PORT, place.port.to_string(), origin);
            }
            RedisTarget::Unix(path) => {
                reader.record(env::REDIS_HOST, path.display().to_string(), origin);
            }
            RedisTarget::Sentinel { .. } => {}
        }
        reader.record(env::REDIS_DB, self.database.to_string(), origin);
        reader.record_optional(env::REDIS_USER, self.user.as_ref(), origin);
        reader.record_secret(env::REDIS_PASSWORD, self.password.is_some(), origin);
    }
}

fn read_host(reader: &mut Reader) -> String {
    let parse = |text: &str| typed::host(text).map_err(str::to_owned);
    reader.value(env::REDIS_HOST, DEFAULT_HOST.to_owned(), parse, String::clone)
}

fn read_optional(reader: &mut Reader, name: &'static str) -> Option<String> {
    let told = reader.text(name);
    let origin = told.as_ref().map_or(Origin::Default, |told| told.origin);
    let text = told.map(|told| told.text);
    reader.record_optional(name, text.as_ref(), origin);
    text
}

fn read_secret(reader: &mut Reader, name: &'static str) -> Option<Secret> {
    let told = reader.text(name);
    let origin = told.as_ref().map_or(Origin::Default, |told| told.origin);
    reader.record_secret(name, told.is_some(), origin);
    told.map(|told| Secret::new(told.text))
}

/// The sentinels, if both they and their master's name are given.
fn read_sentinels(
    reader: &mut Reader,
    redis_user: Option<&String>,
    redis_password: Option<&Secret>,
) -> Option<RedisTarget> {
    let list = reader.text(env::REDIS_SENTINELS);
    let master = reader.text(env::REDIS_SENTINEL_MASTER);
    let (list, master) = match (list, master) {
        (Some(list), Some(master)) => (list, master),
        (Some(_), None) => {
            warn_of_half(reader, env::REDIS_SENTINELS, env::REDIS_SENTINEL_MASTER);
            return None;
        }
        (None, Some(_)) => {
            warn_of_half(reader, env::REDIS_SENTINEL_MASTER, env::REDIS_SENTINELS);
            return None;
        }
        (None, None) => return None,
    };
    let name = env::REDIS_SENTINEL_PORT;
    let port = reader.value(name, DEFAULT_SENTINEL_PORT, typed::port, u16::to_string);
    let sentinels = parse_sentinels(&list.text, port).unwrap_or_else(|problem| {
        reader.error(env::REDIS_SENTINELS, &list.text, problem);
        Vec::new()
    });
    let shown: Vec<String> = sentinels.iter().map(HostPort::to_string).collect();
    reader.record(env::REDIS_SENTINELS, shown.join(","), list.origin);
    reader.record(env::REDIS_SENTINEL_MASTER, &master.text, master.origin);
    let user = read_optional(reader, env::REDIS_SENTINEL_USERNAME);
    let password = read_secret(reader, env::REDIS_SENTINEL_PASSWORD);
    Some(RedisTarget::Sentinel {
        sentinels,
        master: master.text,
        user: user.or_else(|| redis_user.cloned()),
        password: password.or_else(|| redis_password.cloned()),
    })
}

fn warn_of_half(reader: &mut Reader, given: &str, missing: &str) {
    reader.warn(given, format!("has no effect without {missing}"));
}

/// `host[:port],…`; a bare IPv6 address has no port.
fn parse_sentinels(text: &str, default_port: u16) -> Result<Vec<HostPort>, String> {
    let items = text.split([',', ' ']).map(str::trim).filter(|item| !item.is_empty());
    let sentinels: Result<Vec<_>, String> = items
        .map(|item| {
            let bare_ipv6 = item.parse::<std::net::Ipv6Addr>().is_ok();
            let (host, port) = match item.rsplit_once(':') {
                Some((host, port)) if !bare_ipv6 && !port.ends_with(']') => {
                    (host, parse_port(port)?)
                }
                _ => (item, default_port),
            };
            Ok(HostPort { host: typed::host(host)?, port })
        })
        .collect();
    sentinels.and_then(|list| {
        if list.is_empty() { Err("must be a list of host[:port]".to_owned()) } else { Ok(list) }
    })
}

/// Node's own switch: whoever has it set reaches a Redis whose certificate nobody can verify.
fn read_no_verify(reader: &mut Reader) -> bool {
    let told = reader.text(env::NODE_TLS_REJECT_UNAUTHORIZED).filter(|told| told.text == "0");
    let Some(told) = told else { return false };
    reader.record(env::NODE_TLS_REJECT_UNAUTHORIZED, &told.text, told.origin);
    let text = "Redis is not verified; better name its authority in NODE_EXTRA_CA_CERTS";
    reader.warn(env::NODE_TLS_REJECT_UNAUTHORIZED, text);
    true
}
