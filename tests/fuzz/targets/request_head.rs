//! Request heads. Whatever the bytes:
//!
//! * however they are cut, the outcome is that of the shortest prefix that has one;
//! * a head is accepted exactly when the strict grammar of RFC 9112, written down here a second
//!   time without a parser library, accepts it, and both find the same end, method, target and
//!   headers;
//! * no accepted head announces a body; it has one host;
//! * an accepted head that is written anew from its parts is the same head;
//! * what is answered at once is one whole answer of HTTP that nothing of the request can split,
//!   and no log line shows the token.

use trunkline::config::Limits;
use trunkline::hub::request::{self, Outcome};
use trunkline::log;
use trunkline::protocol::http::{Credentials, Head, HeadError, Query, RequestId, parse_head};

use super::cuts;

/// Small enough to be reached.
const HEAD_BYTES_MAX: usize = 512;
const HEAD_HEADERS_MAX: usize = 8;

pub fn check(input: &[u8]) {
    let limits = Limits {
        head_bytes_max: HEAD_BYTES_MAX,
        head_headers_max: HEAD_HEADERS_MAX,
        ..Limits::default()
    };
    let whole = outcome(input, &limits);
    no_cut_matters(input, &whole, &limits);
    agrees_with_the_grammar(input, &whole);
    match parse_head(input, &limits) {
        Ok(Some((head, _))) => accepted(&head),
        Ok(None) => assert!(input.len() < HEAD_BYTES_MAX, "waits for more than it may"),
        Err(error) => {
            let mut answer = Vec::new();
            error.answer(&mut answer);
            assert_eq!(one_answer(&answer, false), error.status());
        }
    }
}

/// `None`: more bytes are needed. Else the length of the head, or why it was refused.
fn outcome(input: &[u8], limits: &Limits) -> Option<Result<usize, HeadError>> {
    parse_head(input, limits).map(|read| read.map(|(_, length)| length)).transpose()
}

fn no_cut_matters(input: &[u8], whole: &Option<Result<usize, HeadError>>, limits: &Limits) {
    let mut dice = cuts::dice(input);
    let end = match whole {
        Some(Ok(length)) => *length,
        _ => input.len(),
    };
    let near_the_end = [end.saturating_sub(1), end, end + 1];
    let anywhere: Vec<usize> = (0..12).map(|_| dice.usize(0..=input.len())).collect();
    let mut lengths = [&near_the_end[..], &anywhere].concat();
    lengths.sort_unstable();
    let mut before = None;
    for prefix in lengths.into_iter().filter_map(|length| input.get(..length)) {
        let now = outcome(prefix, limits);
        assert!(before.is_none() || now == before, "changed its mind: {before:?}, {now:?}");
        assert!(now.is_none() || now == *whole, "{now:?} at {}, later {whole:?}", prefix.len());
        before = now;
    }
    if let Some(Ok(length)) = whole {
        assert_eq!(outcome(&input[..length - 1], limits), None, "done before the end");
    }
}

/// A head as the grammar has it.
struct Parts<'a> {
    method: &'a str,
    target: &'a str,
    minor: u8,
    headers: Vec<(&'a str, &'a [u8])>,
    length: usize,
}

fn agrees_with_the_grammar(input: &[u8], whole: &Option<Result<usize, HeadError>>) {
    let window = &input[..input.len().min(HEAD_BYTES_MAX)];
    let parts = parts(window).filter(|parts| parts.headers.len() <= HEAD_HEADERS_MAX);
    let fits = parts.as_ref().filter(|parts| is_ours(parts));
    let length = fits.map(|parts| parts.length);
    let found = whole.as_ref().and_then(|outcome| outcome.as_ref().ok().copied());
    assert_eq!(found, length, "the head ends elsewhere: {whole:?}");
    let Some(parts) = fits else { return };
    let limits = Limits::default();
    let (head, _) = parse_head(input, &limits).unwrap().unwrap();
    assert_eq!((head.method, head.version_minor), (parts.method, parts.minor));
    same_headers(&head, &parts.headers);
    let mut anew =
        format!("{} {} HTTP/1.{}\r\n", parts.method, parts.target, parts.minor).into_bytes();
    for (name, value) in &parts.headers {
        anew.extend_from_slice(&[name.as_bytes(), b":", value, b" \r\n"].concat());
    }
    anew.extend_from_slice(b"\r\n");
    let (again, length) = parse_head(&anew, &limits).unwrap().unwrap();
    assert_eq!(length, anew.len());
    assert_eq!((again.method, again.path), (head.method, head.path));
    assert_eq!(again.target(), head.target());
    same_headers(&again, &parts.headers);
}

fn same_headers(head: &Head<'_>, headers: &[(&str, &[u8])]) {
    for (name, _) in headers {
        let values: Vec<&[u8]> = head.headers(&name.to_ascii_uppercase()).collect();
        let same = |(other, value): &(&str, &'_ [u8])| {
            other.eq_ignore_ascii_case(name).then(|| value.to_vec())
        };
        let expected: Vec<Vec<u8>> = headers.iter().filter_map(same).collect();
        assert_eq!(values, expected, "{name}");
    }
}

/// RFC 9112 sections 2.2, 3 and 5, line by line; what is optional there is not allowed here, but
/// for empty lines in front.
fn parts(mut input: &[u8]) -> Option<Parts<'_>> {
    let all = input.len();
    while let Some(rest) = input.strip_prefix(b"\r\n") {
        input = rest;
    }
    let request = std::str::from_utf8(line(&mut input)?).ok()?;
    let mut words = request.split(' ');
    let (method, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_target = |char: char| char > ' ' && char != '\u{7f}';
    let wrong = words.next().is_some() || target.is_empty() || !target.chars().all(is_target);
    let minor = match version {
        "HTTP/1.1" => 1,
        "HTTP/1.0" => 0,
        _ => return None,
    };
    let mut headers = Vec::new();
    loop {
        let line = line(&mut input)?;
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = std::str::from_utf8(&line[..colon]).ok()?;
        let value = &line[colon + 1..];
        let is_token =
            |char: char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char);
        let is_text = |byte: &u8| *byte == b'\t' || *byte >= b' ' && *byte != 0x7f;
        if name.is_empty() || !name.chars().all(is_token) || !value.iter().all(is_text) {
            return None;
        }
        headers.push((name, trimmed(value)));
    }
    (!wrong).then_some(Parts { method, target, minor, headers, length: all - input.len() })
}

/// A line without its end. A CR or LF within is no line of ours.
fn line<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = input.iter().position(|byte| *byte == b'\r' || *byte == b'\n')?;
    let line = &input[..end];
    *input = input[end..].strip_prefix(b"\r\n")?;
    Some(line)
}

fn trimmed(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// What this server takes of what the grammar allows.
fn is_ours(parts: &Parts<'_>) -> bool {
    let methods = "GET HEAD OPTIONS POST PUT PATCH DELETE TRACE CONNECT";
    let values = |wanted: &str| -> Vec<&[u8]> {
        let named = parts.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.map(|(_, value)| *value).collect()
    };
    let has_host = match &values("host")[..] {
        [] => parts.minor == 0,
        [host] => std::str::from_utf8(host).is_ok_and(is_host),
        _ => false,
    };
    let has_no_body = values("transfer-encoding").is_empty()
        && match &values("content-length")[..] {
            [] => true,
            [length] => !length.is_empty() && length.iter().all(|byte| *byte == b'0'),
            _ => false,
        };
    let target = parts.target.split('#').next().unwrap_or_default();
    let lower = target.to_ascii_lowercase();
    let url = ["http://", "https://"].iter().find_map(|scheme| lower.strip_prefix(scheme));
    let host = url.and_then(|rest| rest.split(['/', '?']).next());
    let has_target = target.starts_with('/')
        || host.is_some_and(|host| is_host(host) && !host.is_empty() && !host.starts_with(':'))
        || target == "*" && parts.method == "OPTIONS";
    let is_plain = parts.target.is_ascii() && parts.method != "CONNECT";
    methods.split(' ').any(|method| method == parts.method)
        && has_host
        && has_no_body
        && has_target
        && is_plain
}

/// RFC 3986 section 3.2: an IPv6 address in brackets or a name, then perhaps a port.
fn is_host(text: &str) -> bool {
    let colon = text.rfind(':').filter(|colon| !text[*colon..].contains(']'));
    let (host, port) = colon.map_or((text, ":"), |colon| text.split_at(colon));
    let is_sign = |char: char| char.is_ascii_alphanumeric() || "-._~!$&'()*+,;=".contains(char);
    let is_name = || {
        let mut parts = host.split('%');
        let plain = parts.next().is_some_and(|part| part.chars().all(is_sign));
        let mut encoded = parts.map(|part| {
            let digits = part.bytes().take(2).filter(u8::is_ascii_hexdigit).count();
            digits == 2 && part.chars().all(is_sign)
        });
        plain && encoded.all(|is_fine| is_fine)
    };
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = |text: &str| text.parse::<std::net::Ipv6Addr>().is_ok();
    port[1..].chars().all(|char| char.is_ascii_digit()) && address.map_or_else(is_name, is_address)
}

/// What becomes of an accepted head.
fn accepted(head: &Head<'_>) {
    assert!(head.path.starts_with('/') || head.path == "*");
    assert!(head.header("transfer-encoding").is_none() && head.headers("host").count() < 2);
    let mut out = Vec::new();
    let outcome = request::decide(head, RequestId::new([7; 16]), None, &mut out);
    match outcome {
        Outcome::Answered { .. } => {
            one_answer(&out, head.method == "HEAD");
        }
        _ => assert!(out.is_empty(), "answers and asks"),
    }
    if let Credentials::Given(token) = Credentials::of(head) {
        let (shown, secret) = (log::redact(&head.target()), token.reveal());
        let is_telling = secret.len() >= 12 && !is_public(head, secret);
        assert!(!is_telling || !shown.contains(secret), "{shown}");
    }
    let _ = (head.query().flag("only_media"), head.query().first("tag"));
}

/// The secret also stands where nobody looks for one.
fn is_public(head: &Head<'_>, secret: &str) -> bool {
    let target = head.target();
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let is_other = |pair: &str| Query::new(pair).first("access_token").is_none();
    head.path.contains(secret) || query.split('&').any(|it| is_other(it) && it.contains(secret))
}

/// The status of what must be exactly one answer.
fn one_answer(bytes: &[u8], is_head: bool) -> u16 {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let parsed = response.parse(bytes).unwrap();
    let httparse::Status::Complete(length) = parsed else { panic!("half an answer") };
    let status = response.code.unwrap();
    let all = |name: &str| response.headers.iter().filter(move |it| it.name == name).count();
    let lengths = response.headers.iter().find(|header| header.name == "Content-Length");
    let body = lengths.map_or(0, |it| std::str::from_utf8(it.value).unwrap().parse().unwrap());
    let body = if is_head || status == 204 { 0 } else { body };
    assert_eq!(bytes.len(), length + body, "{}", bytes.escape_ascii());
    for name in ["Content-Length", "Connection", "Content-Type", "X-Request-Id", "Location"] {
        assert!(all(name) <= 1, "{name} twice: {}", bytes.escape_ascii());
    }
    status
}
