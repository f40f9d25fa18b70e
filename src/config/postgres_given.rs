//! What was told of Postgres in `DATABASE_URL` or `DB_*`, before defaults fill the gaps.

use std::time::Duration;

use super::Mode;
use super::env::{self, Origin};
use super::postgres::SslMode;
use super::reader::{Reader, Told};
use super::secret::Secret;
use super::typed;
use super::url::{Url, parse_port, redact};

/// libpq's own lower bound of `connect_timeout`.
const LEAST_CONNECT_TIMEOUT_SECS: u64 = 2;
/// libpq would wait for ever; a quarter of an hour is as good.
const MOST_CONNECT_TIMEOUT_SECS: u64 = 900;

/// Parameters of libpq that change how safe a connection is or where it leads, and that are not
/// honoured.
const UNSUPPORTED: [&str; 10] = [
    "channel_binding",
    "gssencmode",
    "hostaddr",
    "require_auth",
    "service",
    "ssl_min_protocol_version",
    "sslcrl",
    "sslnegotiation",
    "sslpassword",
    "target_session_attrs",
];

/// What was told. A field is `None` where a default must be found.
#[derive(Default)]
pub(super) struct Given {
    /// The variable to blame for files that cannot be used, …
    pub blame: &'static str,
    /// … and its value as it may be shown.
    pub shown: String,
    /// Whether `PGPORT` counts.
    pub uses_libpq_defaults: bool,
    /// An empty name is the default host.
    pub hosts: Option<(Vec<String>, Origin)>,
    /// One for each host or one for all; `None` among them is the default port.
    pub ports: Option<(Vec<Option<u16>>, Origin)>,
    pub user: Option<(String, Origin)>,
    pub password: Option<(Secret, Origin)>,
    pub database: Option<(String, Origin)>,
    pub ssl_mode: Option<(SslMode, Origin)>,
    pub root_certificate: Option<String>,
    pub certificate: Option<String>,
    pub key: Option<String>,
    pub options: Option<String>,
    pub application_name: Option<String>,
    pub connect_timeout: Option<Duration>,
}

impl Given {
    /// Reads `DATABASE_URL`; `None` after an error.
    pub fn read_url(reader: &mut Reader, told: &Told) -> Option<Self> {
        let shown = redact(&told.text, true);
        reader.record(env::DATABASE_URL, &shown, told.origin);
        let parsed = Url::parse(told.text.trim()).and_then(|url| Ok((Self::of_url(&url)?, url)));
        match parsed {
            Ok((mut given, url)) => {
                for name in UNSUPPORTED.iter().filter(|name| url.parameter(name).is_some()) {
                    reader.warn(env::DATABASE_URL, format!("{name} is not honoured"));
                }
                given.shown = shown;
                Some(given)
            }
            Err(problem) => {
                reader.redacted_error(env::DATABASE_URL, &shown, problem);
                None
            }
        }
    }

    fn of_url(url: &Url) -> Result<Self, &'static str> {
        const ORIGIN: Origin = Origin::Variable(env::DATABASE_URL);
        if !matches!(url.scheme.as_str(), "postgres" | "postgresql") {
            return Err("must begin with postgres:// or postgresql://");
        }
        let text = |name: &str| url.parameter(name).map(str::to_owned);
        let from_url = |value: Option<String>| value.map(|value| (value, ORIGIN));
        let path = Some(url.path.clone()).filter(|path| !path.is_empty());
        let password = text("password").map(Secret::new).or_else(|| url.password.clone());
        Ok(Self {
            blame: env::DATABASE_URL,
            shown: String::new(),
            uses_libpq_defaults: true,
            hosts: hosts(url).map(|hosts| (hosts, ORIGIN)),
            ports: ports(url)?.map(|ports| (ports, ORIGIN)),
            user: from_url(text("user").or_else(|| url.user.clone())),
            password: password.map(|password| (password, ORIGIN)),
            database: from_url(text("dbname").or(path)),
            ssl_mode: ssl_mode(url)?.map(|mode| (mode, ORIGIN)),
            root_certificate: text("sslrootcert"),
            certificate: text("sslcert"),
            key: text("sslkey"),
            options: text("options"),
            application_name: text("application_name"),
            connect_timeout: connect_timeout(url)?,
        })
    }

    /// Reads `DB_*`. In production each has a default of its own, in development libpq's hold.
    pub fn read_variables(reader: &mut Reader, mode: Mode) -> Self {
        let mut text = |name: &'static str, in_production: &str| match reader.text(name) {
            Some(told) => Some((told.text, told.origin)),
            None if mode == Mode::Production => Some((in_production.to_owned(), Origin::Default)),
            None => None,
        };
        let split = |(names, origin): (String, Origin)| {
            (names.split(',').map(|name| name.trim().to_owned()).collect(), origin)
        };
        let hosts = text(env::DB_HOST, "localhost").map(split);
        let user = text(env::DB_USER, "mastodon");
        let default_name = match mode {
            Mode::Production => "mastodon_production",
            Mode::Development => "mastodon_development",
        };
        let database = reader.text(env::DB_NAME).map(|told| (told.text, told.origin));
        let port = reader.text(env::DB_PORT).and_then(|told| {
            let port = typed::port(told.text.trim());
            let port = port.map_err(|problem| reader.error(env::DB_PORT, &told.text, problem));
            port.ok().map(|port| (vec![Some(port)], told.origin))
        });
        Self {
            blame: env::DB_SSLMODE,
            shown: reader.text(env::DB_SSLMODE).map(|told| told.text).unwrap_or_default(),
            uses_libpq_defaults: mode == Mode::Development,
            hosts,
            ports: port,
            user,
            database: Some(database.unwrap_or_else(|| (default_name.to_owned(), Origin::Default))),
            ..Self::default()
        }
    }
}

/// The parameter `host` wins over the hosts in the URL proper.
fn hosts(url: &Url) -> Option<Vec<String>> {
    if let Some(hosts) = url.parameter("host") {
        return Some(hosts.split(',').map(str::to_owned).collect());
    }
    let hosts: Vec<String> = url.hosts.iter().map(|host| host.host.clone()).collect();
    Some(hosts).filter(|hosts| hosts.iter().any(|host| !host.is_empty()))
}

/// The parameter `port` wins over the ports in the URL proper.
fn ports(url: &Url) -> Result<Option<Vec<Option<u16>>>, &'static str> {
    if let Some(ports) = url.parameter("port") {
        let port = |text: &str| if text.is_empty() { Ok(None) } else { parse_port(text).map(Some) };
        return ports.split(',').map(port).collect::<Result<_, _>>().map(Some);
    }
    let ports: Vec<Option<u16>> = url.hosts.iter().map(|host| host.port).collect();
    Ok(Some(ports).filter(|ports| ports.iter().any(Option::is_some)))
}

/// `ssl=true` is JDBC's word for `sslmode=require`, which libpq and Node's client take too;
/// `ssl=false` is Node's for `disable`. With `sslrootcert=system` libpq verifies everything unless
/// told otherwise.
fn ssl_mode(url: &Url) -> Result<Option<SslMode>, &'static str> {
    let mode = match (url.parameter("sslmode"), url.parameter("ssl")) {
        (Some(mode), _) => mode,
        (None, Some("true" | "1")) => "require",
        (None, Some("false" | "0")) => "disable",
        (None, _) if url.parameter("sslrootcert") == Some("system") => "verify-full",
        (None, _) => return Ok(None),
    };
    let mode = typed::word(mode, &SslMode::WORDS);
    mode.map(Some).map_err(|_| {
        "sslmode must be one of disable, allow, prefer, require, verify-ca, verify-full, no-verify"
    })
}

/// Whole seconds; zero and less wait for ever in libpq.
fn connect_timeout(url: &Url) -> Result<Option<Duration>, &'static str> {
    let Some(text) = url.parameter("connect_timeout") else { return Ok(None) };
    let seconds: i64 = text.parse().map_err(|_| "connect_timeout is no whole number")?;
    let most = MOST_CONNECT_TIMEOUT_SECS;
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).unwrap_or(most);
    Ok(Some(Duration::from_secs(seconds.clamp(LEAST_CONNECT_TIMEOUT_SECS, most))))
}
