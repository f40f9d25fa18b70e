//! Requests in a row, methods, versions, sizes and headers of their own.

use super::case::{Case, HEALTH, lines, raw, request_line};

/// The server's own bounds (`src/config/limits.rs`).
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;

pub fn cases() -> Vec<Case> {
    let mut all = rows();
    all.extend(methods());
    all.extend(versions());
    all.extend(sizes());
    all.extend(expectations());
    all
}

fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n")
}

fn rows() -> Vec<Case> {
    let rule = "RFC 9112 9.3.2";
    let health = get(HEALTH, "");
    let slow = get("/metrics", "");
    let closing = get(HEALTH, "Connection: close\r\n");
    let user = get("/api/v1/streaming/user?access_token=wrong", "");
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let row = |name: &str, parts: &[&str], answers| raw(name, rule, parts.concat(), answers);
    let many = health.repeat(50);
    let mut fifty = vec!["200"; 50].join(" | ");
    fifty.shrink_to_fit();
    vec![
        row("two in a row", &[&health, &health], "200 | 200"),
        row("three in a row, mixed", &[&health, &get("/", ""), &health], "200 | 400 | 200"),
        row("fifty in a row", &[&many], fifty.leak()),
        row("behind one that is asked about", &[&slow, &health], "200 | 200"),
        row("two that are asked about", &[&slow, &slow, &health], "200 | 200 | 200"),
        row("behind a refused token", &[&user, &health], "401 | 200"),
        row("empty lines between", &[&health, "\r\n\r\n", &health], "200 | 200"),
        row("a bare LF between", &[&health, "\n", &health], "200 | 400 close")
            .node_reads_more("Node takes an LF for an empty line"),
        row("malformed behind one", &[&health, "nonsense\r\n\r\n", &health], "200 | 400 close"),
        row("malformed behind a slow one", &[&slow, "nonsense\r\n\r\n"], "200 | 400 close"),
        row("closing", &[&closing, smuggled], "200 close"),
        row("closing twice", &[&health, &closing, smuggled], "200 | 200 close"),
        row(
            "a body behind one",
            &[&health, &get(HEALTH, "Content-Length: 37\r\n"), smuggled],
            "200 | 400 close",
        )
        .node_reads_more("no request of this API has a body"),
        lines("close among others", rule, "Connection: foo, CLOSE ,bar\r\n", "200 close"),
        lines("close in two lines", rule, "Connection: a\r\nconnection: close\r\n", "200 close"),
        lines("keep-alive and close", rule, "Connection: keep-alive, close\r\n", "200 close"),
        lines("keep-alive", rule, "Connection: keep-alive\r\n", "200"),
        lines("closed is not close", rule, "Connection: closed\r\n", "200"),
        lines("an empty connection header", rule, "Connection:\r\n", "200"),
        lines("the connection hides the host", "RFC 9110 7.6.1", "Connection: host\r\n", "200"),
    ]
}

fn methods() -> Vec<Case> {
    let rule = "methods of the API";
    let to = |method: &str, path: &str, answers| {
        let line = format!("{method} {path} HTTP/1.1");
        request_line(&format!("{method} {path}"), rule, &line, answers)
    };
    let stream = "/api/v1/streaming/user";
    let token = "/api/v1/streaming/user?access_token=tok-1";
    let preflight = "Origin: https://web.example\r\nAccess-Control-Request-Method: GET\r\n\
                     Access-Control-Request-Headers: authorization\r\n";
    let mut all = vec![
        to("HEAD", HEALTH, "200"),
        to("HEAD", "/metrics", "200"),
        to("HEAD", "/favicon.ico", "404"),
        to("HEAD", "/nothing", "400"),
        to("HEAD", stream, "401"),
        to("HEAD", token, "200"),
        to("GET", stream, "401"),
        to("GET", "/favicon.ico", "404"),
        to("GET", "/ready", "200"),
        to("OPTIONS", HEALTH, "204"),
        to("OPTIONS", "/nothing", "204"),
        to("POST", HEALTH, "400"),
        to("TRACE", HEALTH, "400"),
    ];
    for method in ["POST", "PUT", "PATCH", "DELETE", "TRACE"] {
        all.push(to(method, token, "404"));
    }
    all.push(raw(
        "a preflight",
        "http-options",
        format!("OPTIONS {stream} HTTP/1.1\r\nHost: x\r\n{preflight}\r\n"),
        "204",
    ));
    all
}

fn versions() -> Vec<Case> {
    let rule = "RFC 9112 9.3";
    let old = |name: &str, lines: &str, answers| {
        raw(name, rule, format!("GET {HEALTH} HTTP/1.0\r\n{lines}\r\n"), answers)
    };
    vec![
        old("HTTP/1.0", "Host: x\r\n", "200 close"),
        old("HTTP/1.0 that would stay", "Connection: keep-alive\r\n", "200 close")
            .node_reads_more("no client of ours needs HTTP/1.0 connections that stay"),
        old("HTTP/1.0 that closes", "Connection: close\r\n", "200 close"),
        old("HTTP/1.0 with two hosts", "Host: x\r\nHost: y\r\n", "400 close")
            .node_reads_more("two hosts are two readings; Node takes the first"),
        old("HTTP/1.0 with LF", "Host: x\n", "400 close"),
        raw(
            "HTTP/1.0 and HEAD of a stream",
            "RFC 9112 6.1",
            "HEAD /api/v1/streaming/user?access_token=tok-1 HTTP/1.0\r\n\r\n",
            "200 close",
        ),
        raw("HTTP/1.0 and its HEAD", rule, format!("HEAD {HEALTH} HTTP/1.0\r\n\r\n"), "200 close"),
    ]
}

fn sizes() -> Vec<Case> {
    let rule = "src/config/limits.rs; RFC 6585 5";
    let header_of = |bytes: usize| {
        let around = get(HEALTH, "A: \r\n").len();
        get(HEALTH, &format!("A: {}\r\n", "a".repeat(bytes - around)))
    };
    let target_of = |bytes: usize| {
        let path = format!("{HEALTH}?a=");
        get(&format!("{path}{}", "a".repeat(bytes - get(&path, "").len())), "")
    };
    let name_of = |bytes: usize| {
        let around = get(HEALTH, ": b\r\n").len();
        get(HEALTH, &format!("{}: b\r\n", "a".repeat(bytes - around)))
    };
    // The host is one of them.
    let headers_of = |count: usize| get(HEALTH, &"A: b\r\n".repeat(count - 1));
    let empty_lines = |bytes: usize| {
        let head = get(HEALTH, "");
        let empty = "\r\n".repeat((bytes - head.len()) / 2);
        format!("{empty}{head}")
    };
    let limit = "Node's bound counts other bytes of a head";
    let most = HEAD_BYTES_MAX;
    let mut all = vec![
        raw("a value up to the limit", rule, header_of(most), "200"),
        raw("a target up to the limit", rule, target_of(most), "200"),
        raw("a name up to the limit", rule, name_of(most), "200"),
        raw("as many headers as there may be", rule, headers_of(HEADERS_MAX), "200"),
        raw("a value far over the limit", rule, header_of(4 * most), "431 close"),
    ];
    for (name, bytes) in [
        ("a value one over the limit", header_of(most + 1)),
        ("a target one over the limit", target_of(most + 1)),
        ("a name one over the limit", name_of(most + 1)),
        ("one header too many", headers_of(HEADERS_MAX + 1)),
        ("a thousand headers", headers_of(1000)),
        ("a head of empty lines", empty_lines(2 * most)),
    ] {
        all.push(raw(name, rule, bytes, "431 close").node_reads_more(limit));
    }
    all
}

fn expectations() -> Vec<Case> {
    let rule = "RFC 9110 10.1.1";
    let own = "RFC 9110 5.1";
    vec![
        lines("100-continue without a body", rule, "Expect: 100-continue\r\n", "200"),
        lines("another expectation", rule, "Expect: a miracle\r\n", "200"),
        lines(
            "100-continue with a body",
            rule,
            "Expect: 100-continue\r\nContent-Length: 2\r\n",
            "400 close",
        )
        .node_reads_more("no request of this API has a body"),
        lines("a method in a header", own, "X-HTTP-Method-Override: DELETE\r\n", "200"),
        lines("a URL in a header", own, "X-Original-URL: /metrics\r\n", "200"),
        lines("another host in a header", own, "X-Forwarded-Host: y\r\n", "200"),
        lines("the settings of HTTP/2", "RFC 9113 3.1", "HTTP2-Settings: AAMAAABk\r\n", "200"),
        lines("a range", "RFC 9110 14.2", "Range: bytes=0-0\r\n", "200"),
        lines("a condition", "RFC 9110 13.1", "If-None-Match: *\r\n", "200"),
    ]
}
