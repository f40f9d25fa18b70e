//! Leaving HTTP: a WebSocket, or an answer and the end. Whatever stands behind a request that asks
//! to upgrade is never read as a request, or a proxy could be left with a tunnel that it does not
//! know of (RFC 9110 section 7.8, RFC 6455 section 4.2).

use super::case::{Case, HEALTH, raw};

const STREAMING: &str = "/api/v1/streaming?access_token=tok-1";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const ASKS: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
/// A masked close frame without a code.
const CLOSE: &[u8] = b"\x88\x80abcd";
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

pub fn cases() -> Vec<Case> {
    let mut all = taken();
    all.extend(refused());
    all.extend(not_asked());
    all
}

fn upgrade(line: &str, headers: &[&str], behind: &[u8]) -> Vec<u8> {
    let head = format!("{line}\r\nHost: x\r\n{}\r\n", headers.concat());
    [head.as_bytes(), behind].concat()
}

fn taken() -> Vec<Case> {
    let rule = "RFC 6455 4.2.1";
    let get = format!("GET {STREAMING} HTTP/1.1");
    let with = |name: &str, asks: &str, behind: &[u8], answers| {
        raw(name, rule, upgrade(&get, &[asks, VERSION, KEY], behind), answers)
    };
    vec![
        with("an upgrade and a close", ASKS, CLOSE, "101 8800 close"),
        with(
            "an upgrade, a ping and a close",
            ASKS,
            b"\x89\x80abcd\x88\x80abcd",
            "101 8a008800 close",
        ),
        with("a close and a request", ASKS, &[CLOSE, SMUGGLED].concat(), "101 8800 close"),
        with("a request instead of frames", ASKS, SMUGGLED, "101 880203ea close"),
        with("a frame without a mask", ASKS, b"\x88\x00", "101 880203ea close"),
        with(
            "an upgrade with a length of 0",
            &format!("{ASKS}Content-Length: 0\r\n"),
            CLOSE,
            "101 8800 close",
        ),
        with(
            "an upgrade among others",
            "Connection: keep-alive, upgrade\r\nUpgrade: h2c, WebSocket\r\n",
            CLOSE,
            "101 8800 close",
        ),
        with(
            "upgrades in two lines",
            "Connection: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
            CLOSE,
            "101 8800 close",
        ),
        with(
            "an upgrade that closes",
            &format!("{ASKS}Connection: close\r\n"),
            CLOSE,
            "101 8800 close",
        ),
    ]
}

fn refused() -> Vec<Case> {
    let rule = "RFC 6455 4.2.2";
    let get = format!("GET {STREAMING} HTTP/1.1");
    let without_token = "GET /api/v1/streaming HTTP/1.1".to_string();
    let wrong_token = "GET /api/v1/streaming?access_token=wrong HTTP/1.1".to_string();
    let post = format!("POST {STREAMING} HTTP/1.1");
    let head = format!("HEAD {STREAMING} HTTP/1.1");
    let options = format!("OPTIONS {STREAMING} HTTP/1.1");
    let all: [(&str, &str, &[&str], &str); 17] = [
        ("an upgrade without a token", &without_token, &[ASKS, VERSION, KEY], "401 close"),
        ("an upgrade with a wrong token", &wrong_token, &[ASKS, VERSION, KEY], "401 close"),
        ("an upgrade without a key", &get, &[ASKS, VERSION], "400 close"),
        ("an upgrade with two keys", &get, &[ASKS, VERSION, KEY, KEY], "400 close"),
        (
            "an upgrade with half a key",
            &get,
            &[ASKS, VERSION, "Sec-WebSocket-Key: dGhl\r\n"],
            "400 close",
        ),
        ("an upgrade without a version", &get, &[ASKS, KEY], "426 close"),
        (
            "an upgrade to version 8",
            &get,
            &[ASKS, KEY, "Sec-WebSocket-Version: 8\r\n"],
            "426 close",
        ),
        ("an upgrade to two versions", &get, &[ASKS, KEY, VERSION, VERSION], "426 close"),
        ("an upgrade by POST", &post, &[ASKS, VERSION, KEY], "405 close"),
        ("an upgrade by HEAD", &head, &[ASKS, VERSION, KEY], "405 close"),
        ("an upgrade by OPTIONS", &options, &[ASKS, VERSION, KEY], "405 close"),
        (
            "an upgrade to HTTP/2",
            &get,
            &["Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"],
            "400 close",
        ),
        ("an upgrade to TLS", &get, &["Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n"], "400 close"),
        ("an upgrade to nothing", &get, &["Connection: Upgrade\r\nUpgrade:\r\n"], "400 close"),
        (
            "an upgrade with a body",
            &get,
            &[ASKS, VERSION, KEY, "Content-Length: 37\r\n"],
            "400 close",
        ),
        (
            "an upgrade with a coding",
            &get,
            &[ASKS, VERSION, KEY, "Transfer-Encoding: chunked\r\n"],
            "400 close",
        ),
        ("an upgrade with two hosts", &get, &[ASKS, VERSION, KEY, "Host: x\r\n"], "400 close"),
    ];
    let case = |(name, line, headers, answers): (&str, &str, &[&str], &'static str)| {
        let case = raw(name, rule, upgrade(line, headers, SMUGGLED), answers);
        match name {
            "an upgrade to nothing" => case.node_reads_more("Node does not take it for an upgrade"),
            "an upgrade with a body" | "an upgrade with a coding" | "an upgrade with two hosts" => {
                case.node_reads_more("refused before anybody asks what it wants")
            }
            _ => case,
        }
    };
    all.into_iter().map(case).collect()
}

fn not_asked() -> Vec<Case> {
    let rule = "RFC 9110 7.8";
    let get = format!("GET {STREAMING} HTTP/1.1");
    let old = format!("GET {STREAMING} HTTP/1.0");
    let health = format!("GET {HEALTH} HTTP/1.1");
    let alone = "Upgrade: websocket\r\n";
    let closes = "an upgrade that is not taken ends the connection: a proxy that looks at \
                  `Upgrade` alone has a tunnel now";
    vec![
        raw("Upgrade alone", rule, upgrade(&get, &[alone, VERSION, KEY], SMUGGLED), "400 close")
            .node_reads_more(closes),
        raw("Upgrade alone, for health", rule, upgrade(&health, &[alone], SMUGGLED), "200 close")
            .node_reads_more(closes),
        raw(
            "Upgrade that Connection does not name",
            rule,
            upgrade(&health, &[alone, "Connection: keep-alive, upgraded\r\n"], SMUGGLED),
            "200 close",
        )
        .node_reads_more(closes),
        raw(
            "Connection alone",
            "nginx: `Connection \"upgrade\"` for all",
            upgrade(&health, &["Connection: upgrade\r\n"], b""),
            "200",
        ),
        raw(
            "an upgrade in HTTP/1.0",
            rule,
            upgrade(&old, &[ASKS, VERSION, KEY], SMUGGLED),
            "400 close",
        ),
        raw(
            "an upgrade in HTTP/1.0 that would stay",
            rule,
            upgrade(&old, &[ASKS, "Connection: keep-alive\r\n", VERSION, KEY], SMUGGLED),
            "400 close",
        ),
    ]
}
