//! Where Postgres is and how to log in (`DATABASE_URL`, `DB_*`).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;

use super::Mode;
use super::env::{self, Origin};
use super::postgres_given::Given;
use super::reader::Reader;
use super::redis::HostPort;
use super::secret::Secret;
use super::tls::{self, ClientIdentity, Roots};
use super::typed;
use super::user;

/// libpq's own.
const DEFAULT_PORT: u16 = 5432;
/// Where nobody named a host: the socket of Debian's libpq, then the host of Node's client.
const DEFAULT_HOSTS: [&str; 2] = ["/var/run/postgresql", "localhost"];
/// Connections when nobody said how many.
const DEFAULT_POOL_SIZE: usize = 10;
/// Shorter than the 15 s that a client waits for an answer.
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

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

impl SslMode {
    pub(super) const WORDS: [(&'static str, Self); 7] = [
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
        ("no-verify", Self::NoVerify),
    ];
}

impl PostgresConfig {
    /// `None` after an error.
    pub(super) fn read(
        reader: &mut Reader,
        mode: Mode,
        extra_roots: &Arc<[CertificateDer<'static>]>,
    ) -> Option<Self> {
        let given = match reader.text(env::DATABASE_URL) {
            Some(told) => Given::read_url(reader, &told),
            None => Some(Given::read_variables(reader, mode)),
        };
        let parse = |text: &str| typed::number(text, &(1..=10_000));
        let pool_size = reader.value(env::DB_POOL, DEFAULT_POOL_SIZE, parse, usize::to_string);
        let given_mode = given.as_ref().and_then(|given| given.ssl_mode);
        let ssl_mode = read_ssl_mode(reader, given_mode);
        let given = given?;
        let hosts = resolve_hosts(reader, &given);
        let user = resolve_user(reader, &given);
        let database = resolve_database(reader, &given, user.as_deref());
        let password = resolve_password(reader, &given);
        let roots = read_roots(reader, &given, ssl_mode, extra_roots);
        let identity = read_identity(reader, &given, ssl_mode);
        Some(Self {
            hosts: hosts?,
            user: user?,
            password,
            database,
            ssl_mode,
            roots,
            identity,
            options: given.options,
            application_name: given.application_name.unwrap_or_default(),
            pool_size,
            connect_timeout: given.connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT),
        })
    }
}

/// `sslmode` of the URL, else `DB_SSLMODE`, else the default.
fn read_ssl_mode(reader: &mut Reader, given: Option<(SslMode, Origin)>) -> SslMode {
    let Some((mode, origin)) = given else {
        let parse = |text: &str| typed::word(text, &SslMode::WORDS);
        let show = |mode: &SslMode| typed::show_word(*mode, &SslMode::WORDS);
        return reader.value(env::DB_SSLMODE, SslMode::default(), parse, show);
    };
    reader.record(env::DB_SSLMODE, typed::show_word(mode, &SslMode::WORDS), origin);
    mode
}

/// Hosts with their ports. One port serves all hosts, several must be as many as the hosts.
fn resolve_hosts(reader: &mut Reader, given: &Given) -> Option<Vec<PostgresHost>> {
    let (names, host_origin) = match &given.hosts {
        Some((names, origin)) => (names.clone(), *origin),
        None => match reader.text(env::PGHOST) {
            Some(told) => (told.text.split(',').map(str::to_owned).collect(), told.origin),
            None => (DEFAULT_HOSTS.map(str::to_owned).to_vec(), Origin::Default),
        },
    };
    let (ports, port_origin) = match &given.ports {
        Some((ports, origin)) => (ports.clone(), *origin),
        None => (Vec::new(), Origin::Default),
    };
    let default_port = match reader.text(env::PGPORT).filter(|_| given.uses_libpq_defaults) {
        Some(told) => typed::port(&told.text).unwrap_or_else(|problem| {
            reader.error(env::PGPORT, &told.text, problem);
            DEFAULT_PORT
        }),
        None => DEFAULT_PORT,
    };
    if ports.len() > 1 && ports.len() != names.len() {
        reader.redacted_error(given.blame, &given.shown, "the ports are not as many as the hosts");
        return None;
    }
    let port_of = |index: usize| {
        let port = if ports.len() == 1 { ports.first() } else { ports.get(index) };
        port.copied().flatten().unwrap_or(default_port)
    };
    let place = |(index, name): (usize, &String)| PostgresHost::new(name, port_of(index));
    let hosts: Result<Vec<PostgresHost>, _> = names.iter().enumerate().map(place).collect();
    let hosts = hosts.map_err(|problem| match host_origin {
        Origin::Variable(name) => reader.redacted_error(name, &given.shown, problem),
        _ if given.hosts.is_some() => reader.error(env::DB_HOST, &names.join(","), problem),
        _ => reader.error(env::PGHOST, &names.join(","), problem),
    });
    let hosts = hosts.ok()?;
    let shown: Vec<String> = hosts.iter().map(PostgresHost::shown).collect();
    reader.record(env::DB_HOST, shown.join(","), host_origin);
    let shown: Vec<String> = hosts.iter().map(|host| host.port().to_string()).collect();
    reader.record(env::DB_PORT, shown.join(","), port_origin);
    Some(hosts)
}

impl PostgresHost {
    /// A host that begins with `/` is the directory of a socket; an empty one is the first default.
    fn new(name: &str, port: u16) -> Result<Self, &'static str> {
        let name = if name.is_empty() { DEFAULT_HOSTS[0] } else { name };
        if name.starts_with('/') {
            return Ok(Self::Unix { directory: PathBuf::from(name), port });
        }
        Ok(Self::Tcp(HostPort { host: typed::host(name)?, port }))
    }

    fn shown(&self) -> String {
        match self {
            Self::Tcp(place) => place.host.clone(),
            Self::Unix { directory, .. } => directory.display().to_string(),
        }
    }

    fn port(&self) -> u16 {
        match self {
            Self::Tcp(place) => place.port,
            Self::Unix { port, .. } => *port,
        }
    }
}

fn resolve_user(reader: &mut Reader, given: &Given) -> Option<String> {
    let told = given.user.clone().or_else(|| {
        let told = reader.text(env::PGUSER).map(|told| (told.text, told.origin));
        told.or_else(|| user::name(reader).map(|name| (name, Origin::Default)))
    });
    let Some((name, origin)) = told else {
        reader.error(env::DB_USER, "", "must be set: the system's user has no name");
        return None;
    };
    reader.record(env::DB_USER, &name, origin);
    Some(name)
}

/// Unset, the database is named like the role, as libpq has it.
fn resolve_database(reader: &mut Reader, given: &Given, user: Option<&str>) -> String {
    let told = given
        .database
        .clone()
        .or_else(|| reader.text(env::PGDATABASE).map(|told| (told.text, told.origin)));
    let default = || (user.unwrap_or_default().to_owned(), Origin::Default);
    let (name, origin) = told.unwrap_or_else(default);
    reader.record(env::DB_NAME, &name, origin);
    name
}

/// `DB_PASS` fills a password that the URL leaves out, and `PGPASSWORD` both (libpq and Node's
/// client agree).
fn resolve_password(reader: &mut Reader, given: &Given) -> Option<Secret> {
    let mut variable =
        |name: &'static str| reader.text(name).map(|told| (Secret::new(told.text), told.origin));
    let told = given.password.clone();
    let told = told.or_else(|| variable(env::DB_PASS)).or_else(|| variable(env::PGPASSWORD));
    let origin = told.as_ref().map_or(Origin::Default, |(_, origin)| *origin);
    reader.record_secret(env::DB_PASS, told.is_some(), origin);
    told.map(|(secret, _)| secret)
}

fn read_roots(
    reader: &mut Reader,
    given: &Given,
    ssl_mode: SslMode,
    extra_roots: &Arc<[CertificateDer<'static>]>,
) -> Roots {
    let mut roots = Roots { own: None, extra: extra_roots.clone() };
    let path = match &given.root_certificate {
        // The roots that everybody trusts. libpq lets nobody use them without checking the name.
        Some(path) if path == "system" => {
            if ssl_mode != SslMode::VerifyFull {
                let problem = "sslrootcert=system needs sslmode=verify-full";
                reader.redacted_error(given.blame, &given.shown, problem);
            }
            None
        }
        Some(path) => Some(PathBuf::from(path)),
        None => default_file(reader, ssl_mode, "root.crt"),
    };
    if let Some(path) = path {
        match tls::read_roots(reader.surroundings, &path) {
            Ok(own) => roots.own = Some(own),
            Err(problem) => reader.redacted_error(given.blame, &given.shown, problem),
        }
    }
    roots
}

fn read_identity(reader: &mut Reader, given: &Given, ssl_mode: SslMode) -> Option<ClientIdentity> {
    let file = |told: &Option<String>, name: &str, reader: &mut Reader| {
        let told = told.as_ref().map(PathBuf::from);
        told.or_else(|| default_file(reader, ssl_mode, name))
    };
    let certificate = file(&given.certificate, "postgresql.crt", reader);
    let key = file(&given.key, "postgresql.key", reader);
    match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let identity = tls::read_identity(reader.surroundings, &certificate, &key);
            identity
                .map_err(|problem| reader.redacted_error(given.blame, &given.shown, problem))
                .ok()
        }
        (Some(_), None) => {
            reader.redacted_error(given.blame, &given.shown, "sslcert is given without sslkey");
            None
        }
        // libpq looks at a key only if there is a certificate.
        (None, _) => None,
    }
}

/// A file of libpq's in `~/.postgresql`, if it is there. Only where TLS was asked for, so that a
/// forgotten file changes nothing for those who never did.
fn default_file(reader: &mut Reader, ssl_mode: SslMode, name: &str) -> Option<PathBuf> {
    if !matches!(ssl_mode, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) {
        return None;
    }
    let path = Path::new(&user::home(reader)?).join(".postgresql").join(name);
    reader.surroundings.read(&path).is_ok().then_some(path)
}
