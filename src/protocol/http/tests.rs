//! Request heads: what is refused (RFC 9112, h1spec, llhttp's vectors), what is read, and that cuts
//! do not matter.

use proptest::prelude::*;

use super::*;
use crate::config::limits::Limits;
use HeadError::{
    BareLineFeed, Body, Host, Malformed, Method, Target, TooLarge, TooManyHeaders, Version,
};

/// What a parse came to, without borrows.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Outcome {
    More,
    Refused(HeadError),
    Read { line: String, query: Option<String>, hosts: usize, length: usize },
}

fn outcome(bytes: &[u8]) -> Outcome {
    match parse_head(bytes, &Limits::default()) {
        Ok(None) => Outcome::More,
        Err(error) => Outcome::Refused(error),
        Ok(Some((head, length))) => Outcome::Read {
            line: format!("{} {} 1.{}", head.method, head.path, head.version_minor),
            query: head.query().first("q").map(Into::into),
            hosts: head.headers("HOST").count(),
            length,
        },
    }
}

/// The outcome when the bytes come one by one.
fn outcome_in_drops(bytes: &[u8]) -> Outcome {
    let prefixes = (0..=bytes.len()).map(|end| outcome(&bytes[..end]));
    prefixes.into_iter().find(|outcome| *outcome != Outcome::More).unwrap_or(Outcome::More)
}

#[track_caller]
fn refused(bytes: impl AsRef<[u8]>, error: HeadError) {
    let bytes = bytes.as_ref();
    let shown = String::from_utf8_lossy(bytes);
    assert_eq!(outcome(bytes), Outcome::Refused(error), "{shown:?}");
    assert_eq!(outcome_in_drops(bytes), Outcome::Refused(error), "{shown:?} in drops");
    let mut longer = bytes.to_vec();
    longer.extend_from_slice(b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(outcome(&longer), Outcome::Refused(error), "{shown:?} and more");
}

fn with_lines(lines: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n")
}

fn answered(error: HeadError) -> String {
    let mut out = Vec::new();
    error.answer(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn what_is_not_http_is_refused_with_its_first_wrong_byte() {
    refused(b"\x16", Malformed);
    refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello", Malformed);
    refused(b"G\x00", Malformed);
    refused(b" GET / HTTP/1.1", Malformed);
    refused("GET  / HTTP/1.1", Malformed);
    refused("GET /\t", Malformed);
    refused("GET /\r\n", Malformed);
    refused("GET / HTTP/1.1 \r\n", Malformed);
    refused("GET / HTTP/1.1\r ", Malformed);
    refused("GET / HTPP", Malformed);
    refused("GET / http/1.1", Malformed);
    refused("GET /a b HTTP/1.1\r\n", Malformed);
    assert_eq!(answered(Malformed), "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
}

#[test]
fn other_versions_are_told_apart_from_nonsense() {
    for version in ["HTTP/2", "HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/1.9\r\n", "HTTP/9"] {
        refused(format!("GET / {version}"), Version);
        refused(format!("\r\nGET / {version}"), Version);
    }
    for version in ["HTTP/x", "HTTP/1x", "HTTP/12", "HTTP/1.x", "HTTP/1.\r\n"] {
        refused(format!("GET / {version}"), Malformed);
    }
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Version);
    assert!(answered(Version).starts_with("HTTP/1.1 505 HTTP Version Not Supported\r\n"));
}

#[test]
fn only_methods_of_http_are_taken() {
    for method in ["get", "GE", "GETGET", "#GET", "PRI", "PROPFIND"] {
        refused(format!("{method} / HTTP/1.1\r\nHost: x\r\n\r\n"), Method);
    }
    for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] {
        let bytes = format!("{method} / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(matches!(outcome(bytes.as_bytes()), Outcome::Read { .. }), "{method}");
    }
}

#[test]
fn bare_line_feeds_are_refused_wherever_they_stand() {
    refused("\n", BareLineFeed);
    refused("\r\n\n", BareLineFeed);
    refused("GET / HTTP/1.1\n", BareLineFeed);
    refused("GET / HTTP/1.1\r\nHost: x\n", BareLineFeed);
    refused("GET / HTTP/1.1\r\nHost: x\r\n\n", BareLineFeed);
    refused("GET / HTTP/1.1\r\nA:\n", BareLineFeed);
    refused("GET / HTTP/1.1\r\nHost: x\r\nA: b\n c\r\n\r\n", BareLineFeed);
    refused("GET / HTTP/2.0\n", Version);
}

#[test]
fn header_lines_are_neither_folded_nor_spaced_nor_have_control_bytes() {
    refused(with_lines("A: b\r\n c"), Malformed);
    refused("GET / HTTP/1.1\r\n Host: x", Malformed);
    refused(with_lines("A : b"), Malformed);
    refused(with_lines(": b"), Malformed);
    refused(with_lines("A"), Malformed);
    refused(with_lines("A\u{e9}: b"), Malformed);
    refused(with_lines("A: b\rc"), Malformed);
    for control in (0_u8..32).filter(|byte| !b"\t\n\r".contains(byte)).chain([127]) {
        refused(with_lines(&format!("A: b{}c", char::from(control))), Malformed);
        refused(with_lines(&format!("A{}: b", char::from(control))), Malformed);
        refused(format!("GET /{} ", char::from(control)), Malformed);
    }
}

#[test]
fn a_host_stands_exactly_once() {
    refused("GET / HTTP/1.1\r\n\r\n", Host);
    refused(with_lines("Host: x"), Host);
    refused(with_lines("HOST: y"), Host);
    refused("GET / HTTP/1.0\r\nHost: x\r\nHost: x\r\n\r\n", Host);
    for host in ["a b", "a/b", "user@a", "a, b", "a\"", "é", "a:80:80", "[::1", "a%zz"] {
        refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), Host);
    }
    for host in ["", "a.example:4000", "[::1]:80", "xn--bcher-kva.example"] {
        let bytes = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert!(matches!(outcome(bytes.as_bytes()), Outcome::Read { .. }), "{host}");
    }
    assert!(matches!(outcome(b"GET / HTTP/1.0\r\n\r\n"), Outcome::Read { .. }));
}

#[test]
fn every_way_to_announce_a_body_is_refused() {
    for lines in [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding:",
        "transfer-encoding: identity",
        "Transfer-Encoding: xchunked\r\nContent-Length: 0",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Content-Length: 2",
        "Content-Length: 18446744073709551616",
        "Content-Length:",
        "Content-Length: -0",
        "Content-Length: +0",
        "Content-Length: 0x0",
        "Content-Length: 0, 0",
        "Content-Length: 0 0",
        "Content-Length: abc",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 0\r\ncontent-length: 5",
    ] {
        refused(with_lines(lines), Body);
    }
    assert!(matches!(outcome(with_lines("Content-Length: 0").as_bytes()), Outcome::Read { .. }));
    assert!(matches!(outcome(with_lines("Expect: 100-continue").as_bytes()), Outcome::Read { .. }));
}

#[test]
fn heads_have_a_bound_in_bytes_and_in_lines() {
    let limits = Limits::default();
    let with_length = |length: usize| {
        let around = with_lines("A: ").len();
        with_lines(&format!("A: {}", "a".repeat(length - around)))
    };
    let longest = with_length(limits.head_bytes_max);
    assert_eq!(longest.len(), limits.head_bytes_max);
    assert!(matches!(outcome(longest.as_bytes()), Outcome::Read { .. }));
    let over = with_length(limits.head_bytes_max + 1);
    assert_eq!(outcome(over.as_bytes()), Outcome::Refused(TooLarge));
    let (before, at) = (&over[..limits.head_bytes_max - 1], &over[..limits.head_bytes_max]);
    assert_eq!(outcome(before.as_bytes()), Outcome::More);
    assert_eq!(outcome(at.as_bytes()), Outcome::Refused(TooLarge));

    let lines = |count: usize| {
        with_lines(&"A: b\r\n".repeat(count - 1)).replace("\r\n\r\n\r\n", "\r\n\r\n")
    };
    assert!(matches!(outcome(lines(limits.head_headers_max).as_bytes()), Outcome::Read { .. }));
    refused(lines(limits.head_headers_max + 1), TooManyHeaders);
    assert!(answered(TooLarge).starts_with("HTTP/1.1 431 "));
}

#[test]
fn targets_are_paths_or_urls_and_paths_stay_as_they_came() {
    for (line, path, query) in [
        ("GET /api/v1/streaming/%75ser?q=1", "/api/v1/streaming/%75ser", Some("1")),
        ("GET /?q=a?b", "/", Some("a?b")),
        ("GET /x#?q=1", "/x", None),
        ("GET http://host.example:4000/x?q=2", "/x", Some("2")),
        ("GET HTTPS://host.example?q=3", "/", Some("3")),
        ("GET http://host.example", "/", None),
        ("GET //x", "//x", None),
        ("OPTIONS *", "*", None),
    ] {
        let bytes = format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n");
        let (head, length) = parse_head(bytes.as_bytes(), &Limits::default()).unwrap().unwrap();
        assert_eq!((head.path, length), (path, bytes.len()), "{line}");
        assert_eq!(head.query().first("q").as_deref(), query, "{line}");
    }
    for line in [
        "GET *",
        "GET x",
        "CONNECT host:80",
        "CONNECT /x",
        "CONNECT http://x/",
        "GET ftp://x/",
        "GET ?q=1",
        "GET #",
        "GET /\u{e9}",
        "GET http:///x",
        "GET http://:80/x",
        "GET http://user@x/",
        "GET http://x:8o/",
        "GET ://x/",
    ] {
        refused(format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n"), Target);
    }
}

#[test]
fn empty_lines_before_and_bytes_behind_are_not_part_of_the_request() {
    let bytes = b"\r\n\r\nGET /x HTTP/1.1\r\nHost: x\r\n\r\n\n\0\x16";
    let line = "GET /x 1.1".to_owned();
    let expected = Outcome::Read { line, query: None, hosts: 1, length: bytes.len() - 3 };
    assert_eq!(outcome(bytes), expected);
    assert_eq!(outcome_in_drops(bytes), expected);
}

fn head_of(bytes: &str) -> Head<'_> {
    parse_head(bytes.as_bytes(), &Limits::default()).unwrap().unwrap().0
}

#[test]
fn connections_are_kept_only_where_both_sides_know() {
    for (version, lines, keeps) in [
        ("1.1", "", true),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "connection: Foo, CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", false),
        ("1.1", "Upgrade: websocket\r\n", false),
        ("1.1", "Connection: upgrade\r\n", true),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nHost: x\r\n{lines}\r\n");
        assert_eq!(head_of(&bytes).keep_alive(), keeps, "{version} {lines}");
    }
}

#[test]
fn an_upgrade_needs_both_headers() {
    for (lines, requested) in [
        ("Upgrade: websocket\r\nConnection: Upgrade", true),
        ("Upgrade: h2c\r\nConnection: keep-alive, upgrade", true),
        ("Upgrade: websocket\r\nConnection: keep-alive\r\nConnection: UPGRADE", true),
        ("Upgrade: websocket", false),
        ("Connection: Upgrade", false),
        ("Upgrade: websocket\r\nConnection: upgraded", false),
    ] {
        assert_eq!(head_of(&with_lines(lines)).upgrade_requested(), requested, "{lines}");
        let old = with_lines(lines).replace("HTTP/1.1", "HTTP/1.0");
        assert!(!head_of(&old).upgrade_requested(), "{lines} in HTTP/1.0");
    }
}

#[test]
fn headers_are_found_in_any_case_and_joined_in_order() {
    let bytes = with_lines("A:  1 \t\r\nB: x\r\na: \r\nA: 3");
    let head = head_of(&bytes);
    assert_eq!(head.header("a"), Some(&b"1"[..]));
    assert_eq!(head.headers("A").collect::<Vec<_>>(), [&b"1"[..], b"", b"3"]);
    assert_eq!(head.joined("a").as_deref(), Some(&b"1, , 3"[..]));
    assert_eq!(head.joined("C"), None);
}

/// Requests of plausible and implausible pieces, so that every kind of fault comes at every place.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "GET",
        "POST",
        " ",
        "/",
        "/x?q=1",
        "http://h/p",
        "*",
        "HTTP/1.1",
        "HTTP/1.0",
        "HTTP/1.2",
        "HTTP/2.0",
        "HTTP/",
        "\r\n",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        "Host: x\r\n",
        "Host: x",
        "host:",
        "Content-Length: 0\r\n",
        "Content-Length: 1\r\n",
        "Transfer-Encoding: chunked\r\n",
        "A: b\r\n",
        " folded\r\n",
        "A : b\r\n",
        ":",
        "\0",
        "\t",
        "\u{e9}",
        "\u{7f}",
        "GET / HTTP/1.1\r\nHost: x\r\n",
    ]);
    let raw = prop::collection::vec(any::<u8>(), 1..4);
    let pieces = prop_oneof![20 => piece.prop_map(|it| it.as_bytes().to_vec()), 1 => raw];
    let start = prop::sample::select(vec![
        "",
        "GET / HTTP/1.1\r\n",
        "\r\n",
        "GET /x HTTP/1.1\r\nHost: x\r\n",
    ]);
    (start, prop::collection::vec(pieces, 0..12))
        .prop_map(|(start, pieces)| [start.as_bytes(), &pieces.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_outcome_does_not_depend_on_how_the_bytes_were_cut(bytes in requests()) {
        prop_assert_eq!(outcome_in_drops(&bytes), outcome(&bytes));
    }

    #[test]
    fn what_is_read_has_crlf_lines_one_host_and_no_body(bytes in requests()) {
        if let Outcome::Read { line, hosts, length, .. } = outcome(&bytes) {
            let head = &bytes[..length];
            let feeds = head.iter().filter(|&&byte| byte == b'\n').count();
            let breaks = head.windows(2).filter(|pair| pair == b"\r\n").count();
            prop_assert!(head.ends_with(b"\r\n\r\n"));
            prop_assert_eq!(feeds, breaks);
            prop_assert!(hosts == 1 || hosts == 0 && line.ends_with("1.0"));
            let shown = String::from_utf8_lossy(head).to_lowercase();
            prop_assert!(!shown.contains("\r\ntransfer-encoding:"));
            prop_assert!(!shown.contains("\r\ncontent-length: 1"));
        }
    }
}
