//! The lines of a head: their ends, their bytes, their names (RFC 9112 sections 2.2, 3 and 5).

use super::case::{Case, HEALTH, lines, raw, request_line};

const RULE: &str = "RFC 9112 2.2";

const LENIENT: &str = "Node's parser is lenient here; a proxy may not be";

pub fn cases() -> Vec<Case> {
    let mut all = line_ends();
    all.extend(header_lines());
    all.extend(control_bytes());
    all.extend(request_lines());
    all.extend(other_protocols());
    all
}

fn line_ends() -> Vec<Case> {
    let start = format!("GET {HEALTH} HTTP/1.1");
    let ends = |name: &str, bytes: String| raw(name, RULE, bytes, "400 close");
    vec![
        ends("LF after the request line", format!("{start}\nHost: x\r\n\r\n")),
        ends("LF after a header line", format!("{start}\r\nHost: x\nA: b\r\n\r\n")),
        ends("LF after the last header line", format!("{start}\r\nHost: x\n\r\n")),
        ends("LF as the empty line", format!("{start}\r\nHost: x\r\n\n")),
        ends("only LF", format!("{start}\nHost: x\n\n")),
        ends("LF CR", format!("{start}\n\rHost: x\n\r\n\r")),
        ends("only CR", format!("{start}\rHost: x\r\r")),
        ends("CR CR LF", format!("{start}\r\r\nHost: x\r\r\n\r\n")),
        ends("CR before the empty line", format!("{start}\r\nHost: x\r\n\r\r\n")),
        ends("CR in a value", format!("{start}\r\nHost: x\r\nA: b\rc\r\n\r\n")),
        ends("CR in a name", format!("{start}\r\nHost: x\r\nA\rB: c\r\n\r\n")),
        ends("CR in the target", "GET /a\rb HTTP/1.1\r\nHost: x\r\n\r\n".into()),
        ends("LF in the target", "GET /a\nb HTTP/1.1\r\nHost: x\r\n\r\n".into()),
        ends("LF first", format!("\n{start}\r\nHost: x\r\n\r\n")).node_reads_more(LENIENT),
        ends("CR first", format!("\r{start}\r\nHost: x\r\n\r\n")).node_reads_more(LENIENT),
        raw("an empty line first", RULE, format!("\r\n{start}\r\nHost: x\r\n\r\n"), "200"),
        raw("empty lines first", RULE, format!("\r\n\r\n\r\n{start}\r\nHost: x\r\n\r\n"), "200"),
        ends("a blank line first", format!(" \r\n{start}\r\nHost: x\r\n\r\n")),
    ]
}

fn header_lines() -> Vec<Case> {
    let grammar = "RFC 9112 5";
    let folding = "RFC 9112 5.2";
    let refused = |name: &str, rule: &'static str, text: &str| {
        lines(name, rule, &format!("{text}\r\n"), "400 close")
    };
    let taken = |name: &str, text: &str| lines(name, grammar, &format!("{text}\r\n"), "200");
    vec![
        refused("a folded line", folding, "A: b\r\n c"),
        refused("a line folded with a tab", folding, "A: b\r\n\tc"),
        refused("a folded empty value", folding, "A:\r\n b"),
        refused("a fold with nothing in it", folding, "A: b\r\n "),
        raw(
            "a fold before the first header",
            "RFC 9112 2.2",
            format!("GET {HEALTH} HTTP/1.1\r\n Host: x\r\nHost: x\r\n\r\n"),
            "400 close",
        ),
        refused("a blank before the colon", "RFC 9112 5.1", "A : b"),
        refused("a tab before the colon", "RFC 9112 5.1", "A\t: b"),
        refused("no colon", grammar, "A"),
        refused("no name", grammar, ": b"),
        refused("a blank in a name", "RFC 9110 5.6.2", "A B: c"),
        refused("a parenthesis in a name", "RFC 9110 5.6.2", "A(B): c"),
        refused("a slash in a name", "RFC 9110 5.6.2", "A/B: c"),
        refused("a quote in a name", "RFC 9110 5.6.2", "\"A\": c"),
        refused("a letter beyond ASCII in a name", "RFC 9110 5.6.2", "\u{e9}: c"),
        taken("an empty value", "A:"),
        taken("a value of blanks", "A: \t  "),
        taken("blanks around a value", "A: \t b \t "),
        taken("a colon in a value", "A: b: c"),
        taken("bytes beyond ASCII in a value", "A: caf\u{e9}"),
        taken("every sign in a name", "!#$%&'*+-.^_`|~9: b"),
        taken("a header given twice", "A: b\r\nA: c"),
    ]
}

fn control_bytes() -> Vec<Case> {
    let mut all = Vec::new();
    for byte in [0_u8, 1, 8, 11, 12, 27, 31, 127] {
        let byte_shown = format!("{byte:#04x}");
        let byte = char::from(byte);
        for (place, text) in [
            ("a name", format!("A{byte}: b\r\n")),
            ("a value", format!("A: b{byte}c\r\n")),
            ("the end of a value", format!("A: b{byte}\r\n")),
        ] {
            let name = format!("{byte_shown} in {place}");
            all.push(lines(&name, "RFC 9110 5.5", &text, "400 close"));
        }
        for (place, line) in [
            ("the method", format!("G{byte}ET {HEALTH} HTTP/1.1")),
            ("the target", format!("GET {HEALTH}{byte} HTTP/1.1")),
            ("the version", format!("GET {HEALTH} HTTP/1.1{byte}")),
        ] {
            let name = format!("{byte_shown} in {place}");
            all.push(request_line(&name, "RFC 9112 3", &line, "400 close"));
        }
    }
    all
}

fn request_lines() -> Vec<Case> {
    let rule = "RFC 9112 3";
    let version = "RFC 9112 2.3";
    let mut all = Vec::new();
    for (name, line) in [
        ("tabs between the words", format!("GET\t{HEALTH}\tHTTP/1.1")),
        ("a tab before the version", format!("GET {HEALTH}\tHTTP/1.1")),
        ("a blank first", format!(" GET {HEALTH} HTTP/1.1")),
        ("a blank last", format!("GET {HEALTH} HTTP/1.1 ")),
        ("a blank in the target", "GET /a b HTTP/1.1".to_string()),
        ("no target", "GET HTTP/1.1".to_string()),
        ("an empty target", "GET  HTTP/1.1".to_string()),
        ("a word behind the version", format!("GET {HEALTH} HTTP/1.1 x")),
        ("a letter behind the version", format!("GET {HEALTH} HTTP/1.1x")),
        ("HTTP in small letters", format!("GET {HEALTH} http/1.1")),
        ("no HTTP", format!("GET {HEALTH} HTTQ/1.1")),
        ("a version without a point", format!("GET {HEALTH} HTTP/11")),
        ("a version with a comma", format!("GET {HEALTH} HTTP/1,1")),
        ("a version of two digits", format!("GET {HEALTH} HTTP/1.10")),
        ("a blank in the version", format!("GET {HEALTH} HTTP/ 1.1")),
        ("a small method", format!("get {HEALTH} HTTP/1.1")),
        ("half a method", format!("GE {HEALTH} HTTP/1.1")),
        ("a method too long", format!("GETX {HEALTH} HTTP/1.1")),
        ("an unknown method", format!("FROBNICATE {HEALTH} HTTP/1.1")),
        ("a method with a colon", format!("GET: {HEALTH} HTTP/1.1")),
    ] {
        all.push(request_line(name, rule, &line, "400 close"));
    }
    for (name, line) in [
        ("two blanks before the target", format!("GET  {HEALTH} HTTP/1.1")),
        ("two blanks before the version", format!("GET {HEALTH}  HTTP/1.1")),
        ("no version", format!("GET {HEALTH}")),
        ("ICE instead of HTTP", format!("SOURCE {HEALTH} ICE/1.0")),
    ] {
        all.push(request_line(name, rule, &line, "400 close").node_reads_more(LENIENT));
    }
    let known = request_line("PROPFIND", "RFC 9110 9.1", "PROPFIND / HTTP/1.1", "400 close");
    all.push(known.node_reads_more("a method of WebDAV: nothing here has it, so nothing reads it"));
    for (name, text) in [
        ("HTTP/0.9", "HTTP/0.9"),
        ("HTTP/1.2", "HTTP/1.2"),
        ("HTTP/1.9", "HTTP/1.9"),
        ("HTTP/2.0", "HTTP/2.0"),
        ("HTTP/2", "HTTP/2"),
        ("HTTP/3.0", "HTTP/3.0"),
        ("HTTP/9.9", "HTTP/9.9"),
        ("a version with a zero first", "HTTP/01.1"),
    ] {
        let line = format!("GET {HEALTH} {text}");
        let case = request_line(name, version, &line, "505 close");
        all.push(match name {
            "HTTP/0.9" | "HTTP/2.0" => {
                case.node_reads_more("Node answers versions that it does not speak, as if it did")
            }
            _ => case,
        });
    }
    all
}

/// What comes when somebody points another client at the port.
fn other_protocols() -> Vec<Case> {
    let refused = |name: &str, bytes: &[u8]| raw(name, "RFC 9112 2.2", bytes, "400 close");
    vec![
        refused("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello\r\n\r\n"),
        refused("an SSH banner", b"SSH-2.0-OpenSSH_9.2p1\r\n"),
        refused("SMTP", b"EHLO mail.example\r\n"),
        refused("the PROXY protocol", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
        refused("the PROXY protocol, version 2", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"),
        refused("Redis", b"*1\r\n$4\r\nPING\r\n"),
        refused("a simple request of HTTP/0.9", b"GET /\r\n"),
        refused("an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        raw(
            "the preface of HTTP/2",
            "RFC 9113 3.4",
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
            "505 close",
        ),
    ]
}
