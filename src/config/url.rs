//! Connection URLs of Postgres and Redis, and how they are shown without their secrets.
//!
//! ```text
//! scheme "://" [ user [ ":" password ] "@" ] [ host [ ":" port ] { "," host [ ":" port ] } ]
//!              [ "/" path ] [ "?" name "=" value { "&" name "=" value } ]
//! ```
//!
//! That is libpq's grammar (PostgreSQL's manual, "Connection URIs"), which covers those of Redis.
//! Problems are told in fixed words: whatever is cut out of a mistyped URL may be a part of its
//! password.

use super::secret::Secret;

const REDACTED: &str = "[redacted]";

/// Query parameters whose values may be shown.
const SHOWN: [&str; 13] = [
    "application_name",
    "connect_timeout",
    "db",
    "dbname",
    "host",
    "options",
    "pool",
    "port",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "user",
];

/// The parts of a URL, percent-decoded.
pub(super) struct Url {
    pub scheme: String,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub hosts: Vec<UrlHost>,
    /// Without the slash in front; empty if there is none.
    pub path: String,
    pub query: Vec<(String, String)>,
}

/// A host and its port, either of which may be missing.
pub(super) struct UrlHost {
    /// Without brackets; empty if missing.
    pub host: String,
    pub port: Option<u16>,
}

impl Url {
    /// Takes a URL apart. An empty password counts as none.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = text.split_once("://").ok_or("is no URL: scheme:// is missing")?;
        let (head, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = head.split_once('/').unwrap_or((head, ""));
        let query: Vec<(&str, &str)> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .collect();
        // Each of these is a password with a character that ends it too early.
        let late_login = query.iter().any(|(name, value)| {
            name.contains('@') || (value.contains('@') && authority.contains('@'))
        });
        if path.contains('@') || late_login {
            return Err("user and password must be percent-encoded: / as %2F, ? as %3F, @ as %40");
        }
        let (user_and_password, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (login, hosts),
            None => ("", authority),
        };
        let (user, password) = match user_and_password.split_once(':') {
            Some((user, password)) => (user, password),
            None => (user_and_password, ""),
        };
        let decoded_query = query.into_iter().map(|(name, value)| {
            Ok::<_, &'static str>((percent_decode(name)?, percent_decode(value)?))
        });
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            user: Some(percent_decode(user)?).filter(|user| !user.is_empty()),
            password: Some(percent_decode(password)?).filter(|p| !p.is_empty()).map(Secret::new),
            hosts: parse_hosts(hosts)?,
            path: percent_decode(path)?,
            query: decoded_query.collect::<Result<_, _>>()?,
        })
    }

    /// The value of a query parameter; the last one holds, an empty one counts as none.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// The URL as it may be shown: no password, no parameter that might be one, nothing of a mistyped
/// URL that might be part of one. A user name alone is shown only if the protocol never takes it
/// for a password.
pub(super) fn redact(text: &str, shows_lone_user: bool) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return REDACTED.to_owned();
    };
    let (head, query) = match rest.split_once('?') {
        Some((head, query)) => (head, Some(query)),
        None => (rest, None),
    };
    let head = match head.rsplit_once('@') {
        Some((login, place)) => {
            let login = redact_login(login, shows_lone_user);
            format!("{login}@{}", redact_place(place))
        }
        None => redact_place(head),
    };
    if query.is_some_and(|query| query.contains('@')) {
        // Nobody can tell where the password ends.
        return format!("{}://{REDACTED}", if is_scheme(scheme) { scheme } else { REDACTED });
    }
    let query = query.map_or_else(String::new, |query| {
        let pairs: Vec<&str> = query.split('&').map(redact_pair).collect();
        format!("?{}", pairs.join("&"))
    });
    format!("{}://{head}{query}", if is_scheme(scheme) { scheme } else { REDACTED })
}

/// Whether nobody can have typed a password here.
fn is_scheme(text: &str) -> bool {
    matches!(text, "postgres" | "postgresql" | "redis" | "rediss" | "unix")
}

fn redact_login(login: &str, shows_lone_user: bool) -> String {
    let (user, colon) = match login.split_once(':') {
        Some((user, _)) => (user, true),
        None => (login, false),
    };
    let user_is_shown = !user.contains('/') && (colon || shows_lone_user);
    match (user_is_shown, colon) {
        (true, true) => format!("{user}:{REDACTED}"),
        (true, false) => user.to_owned(),
        (false, _) => REDACTED.to_owned(),
    }
}

/// Hosts, ports and path. What stands in a port's place and is no port may be a password without
/// its `@`.
fn redact_place(place: &str) -> String {
    let (hosts, path) = match place.split_once('/') {
        Some((hosts, path)) => (hosts, format!("/{path}")),
        None => (place, String::new()),
    };
    if parse_hosts(hosts).is_ok() {
        return format!("{hosts}{path}");
    }
    format!("{}:{REDACTED}", hosts.split(':').next().unwrap_or_default())
}

fn redact_pair(pair: &str) -> &str {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    if SHOWN.contains(&name) && !value.contains('@') { pair } else { REDACTED }
}

fn parse_hosts(text: &str) -> Result<Vec<UrlHost>, &'static str> {
    text.split(',').map(parse_host).collect()
}

fn parse_host(text: &str) -> Result<UrlHost, &'static str> {
    let (host, port) = if let Some(inner) = text.strip_prefix('[') {
        let (host, after) = inner.split_once(']').ok_or("a host's closing bracket is missing")?;
        match after.strip_prefix(':') {
            Some(port) => (host, port),
            None if after.is_empty() => (host, ""),
            None => return Err("a host's closing bracket is followed by something else"),
        }
    } else {
        text.split_once(':').unwrap_or((text, ""))
    };
    let port = percent_decode(port)?;
    let port = if port.is_empty() { None } else { Some(parse_port(&port)?) };
    Ok(UrlHost { host: percent_decode(host)?, port })
}

/// A port inside a URL.
pub(super) fn parse_port(text: &str) -> Result<u16, &'static str> {
    let port = text.parse().ok().filter(|port| *port > 0);
    port.ok_or("a port is no whole number from 1 to 65535")
}

/// RFC 3986, section 2.1. Strict, as libpq is: a stray `%` is an error, and so is a zero byte.
fn percent_decode(text: &str) -> Result<String, &'static str> {
    const WRONG: &str = "% is not followed by two hexadecimal digits";
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16)).ok_or(WRONG);
        let value = digit()? * 16 + digit()?;
        if value == 0 {
            return Err("contains a zero byte (%00)");
        }
        decoded.push(u8::try_from(value).map_err(|_| WRONG)?);
    }
    String::from_utf8(decoded).map_err(|_| "is not UTF-8 when percent-decoded")
}
