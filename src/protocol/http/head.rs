//! The request head: strict, incremental, borrowed from the bytes that came.

use std::borrow::Cow;

use super::Query;
use super::authority::{is_authority, is_authority_of_url};
use crate::config::limits::Limits;

/// Reads one request head from the front of `bytes`.
///
/// `Ok(None)`: incomplete so far; call again with more bytes. `Ok(Some((head, length)))`: complete,
/// `length` bytes belong to it. What was refused once stays refused whatever follows, and the
/// outcome does not depend on how the bytes were cut: it is that of the shortest prefix that has
/// one.
///
/// # Errors
/// A [`HeadError`] as soon as the offending byte is there: answer it and close.
pub fn parse_head<'a>(
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<Option<(Head<'a>, usize)>, HeadError> {
    let window = &bytes[..bytes.len().min(limits.head_bytes_max)];
    let bare_line_feed = bare_line_feed(window);
    let readable = &window[..bare_line_feed.unwrap_or(window.len())];
    let mut headers = vec![httparse::EMPTY_HEADER; limits.head_headers_max];
    let mut request = httparse::Request::new(&mut headers);
    let status = match request.parse(readable) {
        Ok(status) => status,
        Err(error) => return Err(HeadError::from_syntax(error, readable)),
    };
    match (status, request) {
        (
            httparse::Status::Complete(length),
            httparse::Request {
                method: Some(method),
                path: Some(target),
                version: Some(minor),
                headers: used,
            },
        ) => {
            let used = used.len();
            headers.truncate(used);
            let head = Head::new(method, target, minor, headers)?;
            Ok(Some((head, length)))
        }
        _ if bare_line_feed.is_some() => Err(HeadError::BareLineFeed),
        _ if window.len() == limits.head_bytes_max => Err(HeadError::TooLarge),
        _ => Ok(None),
    }
}

/// RFC 9110 section 9.3 and RFC 5789. Node refuses others before it looks at anything else.
const METHODS: [&str; 9] =
    ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT"];

/// A complete, well-formed request head.
pub struct Head<'a> {
    /// The method, one of the well-known nine.
    pub method: &'a str,
    /// The path as it came, not percent-decoded: a stream has one spelling.
    pub path: &'a str,
    /// The minor version of HTTP/1: 0 or 1.
    pub version_minor: u8,
    raw_query: &'a str,
    headers: Vec<httparse::Header<'a>>,
}

impl<'a> Head<'a> {
    fn new(
        method: &'a str,
        target: &'a str,
        version_minor: u8,
        headers: Vec<httparse::Header<'a>>,
    ) -> Result<Self, HeadError> {
        if !METHODS.contains(&method) {
            return Err(HeadError::Method);
        }
        let (path, raw_query) = split_target(method, target)?;
        let head = Self { method, path, version_minor, raw_query, headers };
        head.check_host()?;
        head.check_no_body()?;
        Ok(head)
    }

    /// Path and query as they came. May hold a token: redact it before anybody reads it.
    pub fn target(&self) -> String {
        match self.raw_query {
            "" => self.path.to_owned(),
            query => format!("{}?{query}", self.path),
        }
    }

    /// The look-ups in the query string.
    pub fn query(&self) -> Query<'a> {
        Query::new(self.raw_query)
    }

    /// The value of the first header of that name (any letter case), without surrounding white
    /// space.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers(name).next()
    }

    /// The values of all headers of that name, in order.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.headers
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    }

    /// All values of a header as one list, joined by `, ` (RFC 9110 section 5.3).
    pub fn joined(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let mut values = self.headers(name);
        let first = values.next()?;
        Some(values.fold(Cow::Borrowed(first), |mut joined, value| {
            let list = joined.to_mut();
            list.extend_from_slice(b", ");
            list.extend_from_slice(value);
            joined
        }))
    }

    /// Whether the connection may carry another request after the answer (RFC 9112 section 9.3).
    /// HTTP/1.0 connections are always closed: no client of ours needs more. So are those on which
    /// an upgrade was as much as mentioned: a proxy that looks at `Upgrade` alone may pass on
    /// everything that follows unread, and nothing of that may be a request.
    pub fn keep_alive(&self) -> bool {
        let mentions_upgrade = self.header("upgrade").is_some();
        self.version_minor == 1 && !mentions_upgrade && !self.lists("connection", "close")
    }

    /// Whether the client asks to leave HTTP: an `Upgrade` header that `Connection` names, in
    /// HTTP/1.1 (RFC 9110 section 7.8). An `Upgrade` header alone is ignored, as Node ignores it.
    pub fn upgrade_requested(&self) -> bool {
        self.version_minor == 1
            && self.header("upgrade").is_some()
            && self.lists("connection", "upgrade")
    }

    /// Whether a comma-separated header lists a word, in any letter case.
    pub(super) fn lists(&self, name: &str, word: &str) -> bool {
        self.headers(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .any(|element| element.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
    }

    /// RFC 9112 section 3.2: exactly one valid `Host` in HTTP/1.1; at most one in HTTP/1.0.
    fn check_host(&self) -> Result<(), HeadError> {
        let mut hosts = self.headers("host");
        match (hosts.next(), hosts.next()) {
            (None, _) if self.version_minor == 0 => Ok(()),
            (Some(host), None) if str::from_utf8(host).is_ok_and(is_authority) => Ok(()),
            _ => Err(HeadError::Host),
        }
    }

    /// No request of this API has a body, and every way to announce one is a way to disagree with a
    /// proxy about where the next request begins (RFC 9112 section 11.2). Only `Content-Length: 0`
    /// is harmless.
    fn check_no_body(&self) -> Result<(), HeadError> {
        if self.header("transfer-encoding").is_some() {
            return Err(HeadError::Body);
        }
        let mut lengths = self.headers("content-length");
        match (lengths.next(), lengths.next()) {
            (None, _) => Ok(()),
            (Some(length), None) if !length.is_empty() && length.iter().all(|&b| b == b'0') => {
                Ok(())
            }
            _ => Err(HeadError::Body),
        }
    }
}

/// Why a head was refused; always the client's (or its proxy's) doing. The connection is closed
/// after the answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadError {
    /// Not the grammar of RFC 9112: control bytes, folded lines, spaces where none belong, not HTTP
    /// at all.
    Malformed,
    /// A line that ends with LF alone; parsers disagree about those.
    BareLineFeed,
    /// Not a method of HTTP; case matters.
    Method,
    /// A version of HTTP other than 1.0 and 1.1.
    Version,
    /// More than `head_bytes_max` bytes.
    TooLarge,
    /// More than `head_headers_max` header lines.
    TooManyHeaders,
    /// `Host` is missing, doubled or no host.
    Host,
    /// A body is announced: `Transfer-Encoding`, or a `Content-Length` that is not one plain 0.
    Body,
    /// The target is neither a path nor an absolute URL (nor `*` of `OPTIONS`).
    Target,
}

impl HeadError {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        match self {
            Self::Malformed
            | Self::BareLineFeed
            | Self::Method
            | Self::Host
            | Self::Body
            | Self::Target => 400,
            Self::TooLarge | Self::TooManyHeaders => 431,
            Self::Version => 505,
        }
    }

    /// Appends the answer; close after it. It says nothing of what was sent.
    pub fn answer(self, out: &mut Vec<u8>) {
        let status = self.status();
        let reason = super::reason_phrase(status);
        out.extend_from_slice(
            format!("HTTP/1.1 {status} {reason}\r\nConnection: close\r\n\r\n").as_bytes(),
        );
    }

    fn from_syntax(error: httparse::Error, bytes: &[u8]) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooManyHeaders,
            httparse::Error::Version if is_other_version(bytes) => Self::Version,
            _ => Self::Malformed,
        }
    }
}

/// The position of the first LF without a CR. httparse takes it for a line end; kept away from it,
/// whatever is wrong earlier is found first, as it would be if the bytes came one by one.
fn bare_line_feed(window: &[u8]) -> Option<usize> {
    memchr::memchr_iter(b'\n', window).find(|&position| !window[..position].ends_with(b"\r"))
}

/// Whether the first byte that is wrong in `HTTP/1.x` is another digit, which makes it a version
/// that we do not speak rather than no version at all.
fn is_other_version(bytes: &[u8]) -> bool {
    let words = bytes.trim_ascii_start().splitn(3, |&byte| byte == b' ');
    match words.last() {
        Some([b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor, ..]) => minor.is_ascii_digit(),
        Some([b'H', b'T', b'T', b'P', b'/', major, ..]) => *major != b'1' && major.is_ascii_digit(),
        _ => false,
    }
}

/// Splits a request target into raw path and raw query (RFC 9112 section 3.2). `CONNECT` asks for
/// a tunnel, which nobody gets here, so that it has no target that could be meant.
fn split_target<'a>(method: &str, target: &'a str) -> Result<(&'a str, &'a str), HeadError> {
    if method == "CONNECT" || !target.is_ascii() {
        return Err(HeadError::Target);
    }
    let target = target.split_once('#').map_or(target, |(before, _)| before);
    let is_local = target.starts_with('/') || (target == "*" && method == "OPTIONS");
    let local = match is_local {
        true => target,
        false => behind_authority(target).ok_or(HeadError::Target)?,
    };
    let (path, query) = local.split_once('?').unwrap_or((local, ""));
    Ok((if path.is_empty() { "/" } else { path }, query))
}

/// What stands behind the host of an absolute URL.
fn behind_authority(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let (authority, local) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    (is_http && is_authority_of_url(authority)).then_some(local)
}
