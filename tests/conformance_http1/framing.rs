//! Where a request ends: everything that announces a body, and every trick around it (RFC 9112
//! section 6, the request smuggling families).

use super::case::{Case, HEALTH, lines, raw};

/// A request that somebody would like to have read out of a body.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";

/// Every way to announce a body is refused, and Node takes some of them.
const NO_BODIES: &str = "no request of this API has a body: a refused one cannot hide a request";

pub fn cases() -> Vec<Case> {
    let mut all = lengths();
    all.extend(codings());
    all.extend(hidden());
    all
}

fn lengths() -> Vec<Case> {
    let refused = "RFC 9112 6.3 item 5";
    let body = |length: &str, body: &str| {
        let name = format!("a body of length {length:?}");
        let head = format!("POST {HEALTH} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n");
        raw(name, "RFC 9112 11.2", format!("{head}\r\n{body}"), "400 close")
    };
    let mut all = vec![
        lines("a length of 0", "RFC 9112 6.2", "Content-Length: 0\r\n", "200"),
        lines("a length of 00", "RFC 9110 8.6, 1*DIGIT", "Content-Length: 00\r\n", "200"),
        body("2", "{}").node_reads_more(NO_BODIES),
        body("37", SMUGGLED).node_reads_more(NO_BODIES),
        body("5", "").node_reads_more(NO_BODIES),
        body("4294967296 ", "").node_reads_more(NO_BODIES),
        body("18446744073709551615", "").node_reads_more(NO_BODIES),
    ];
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        let head = format!("{method} {HEALTH} HTTP/1.1\r\nHost: x\r\nContent-Length: 37\r\n");
        let name = format!("a body with {method}");
        let case = raw(name, "RFC 9110 9.3.1", format!("{head}\r\n{SMUGGLED}"), "400 close");
        all.push(case.node_reads_more(NO_BODIES));
    }
    for value in [
        "",
        "+0",
        "-0",
        "0x0",
        "0 0",
        "0, 0",
        "0,5",
        "0;0",
        "\"0\"",
        "0.0",
        "1e0",
        "abc",
        "0\u{b}",
        "\u{660}",
        "18446744073709551616",
        "99999999999999999999999",
    ] {
        let line = format!("Content-Length: {value}\r\n");
        all.push(lines(&format!("a length of {value:?}"), refused, &line, "400 close"));
    }
    for (first, second) in [("0", "0"), ("0", "37"), ("37", "0"), ("37", "37"), ("0", "")] {
        let both = format!("Content-Length: {first}\r\ncontent-length: {second}\r\n\r\n{SMUGGLED}");
        let name = format!("two lengths, {first:?} and {second:?}");
        all.push(lines(&name, refused, both.trim_end_matches("\r\n\r\n"), "400 close"));
    }
    all
}

fn codings() -> Vec<Case> {
    let rule = "RFC 9112 6.1";
    let smuggling = format!("0\r\n\r\n{SMUGGLED}");
    let (coding, length) = ("Transfer-Encoding: chunked\r\n", "Content-Length: 4\r\n");
    let case = |version: &str, name: &str, lines: &str, body: &str| {
        let bytes = format!("POST {HEALTH} HTTP/1.{version}\r\nHost: x\r\n{lines}\r\n{body}");
        raw(name, rule, bytes, "400 close")
    };
    // Chunked bodies, well made or not; the header alone is enough.
    let bodies = [
        ("a chunked body", "2\r\n{}\r\n0\r\n\r\n"),
        ("an empty chunked body", "0\r\n\r\n"),
        ("chunks that have not ended", "5\r\nab"),
        ("a coding and a request behind it", &smuggling),
        ("a chunk size with a sign", "+2\r\n{}\r\n0\r\n\r\n"),
        ("a chunk size with 0x", "0x2\r\n{}\r\n0\r\n\r\n"),
        ("a chunk extension with LF", "2;\n{}\r\n0\r\n\r\n"),
        ("a chunk with a bare LF", "2\n{}\r\n0\r\n\r\n"),
        ("a chunk that is too long", "2\r\n{}}\r\n0\r\n\r\n"),
        ("a chunk size over 64 bits", "10000000000000002\r\n{}\r\n0\r\n\r\n"),
        ("a trailer", "0\r\nHost: y\r\n\r\n"),
    ];
    // Codings that Node takes for one, and those that it refuses as we do.
    let taken = [
        ("TE in upper case", "TRANSFER-ENCODING: CHUNKED\r\n"),
        ("TE without a blank", "Transfer-Encoding:chunked\r\n"),
        ("TE with a tab", "Transfer-Encoding:\tchunked\r\n"),
        ("an empty TE", "Transfer-Encoding:\r\n"),
        ("an empty TE and CL", &format!("Transfer-Encoding: \r\n{length}")),
        ("TE identity", "Transfer-Encoding: identity\r\n"),
        ("TE gzip", "Transfer-Encoding: gzip\r\n"),
        ("TE xchunked", "Transfer-Encoding: xchunked\r\n"),
        ("TE chunkedx", "Transfer-Encoding: chunkedx\r\n"),
        ("TE in quotes", "Transfer-Encoding: \"chunked\"\r\n"),
    ];
    let refused = [
        ("CL and TE", &*format!("{length}{coding}")),
        ("TE and CL", &format!("{coding}{length}")),
        ("CL of 0 and TE", &format!("Content-Length: 0\r\n{coding}")),
        ("TE chunked twice", "Transfer-Encoding: chunked, chunked\r\n"),
        ("TE chunked not last", "Transfer-Encoding: chunked, identity\r\n"),
        ("TE in two lines", &format!("{coding}Transfer-Encoding: identity\r\n")),
        ("TE with a vertical tab", "Transfer-Encoding:\u{b}chunked\r\n"),
        ("TE with NUL", "Transfer-Encoding: chunked\0\r\n"),
    ];
    let bodies = bodies.map(|(name, body)| case("1", name, coding, body));
    let taken = taken.map(|(name, lines)| case("1", name, lines, &smuggling));
    let refused = refused.map(|(name, lines)| case("1", name, lines, &smuggling));
    let old = case("0", "TE in HTTP/1.0", coding, &smuggling);
    let announced = bodies.into_iter().chain(taken).chain([old]);
    announced.map(|case| case.node_reads_more(NO_BODIES)).chain(refused).collect()
}

/// Names that somebody else could take for a framing header.
fn hidden() -> Vec<Case> {
    let grammar = "RFC 9112 5.1";
    let mut all = Vec::new();
    for line in ["Transfer-Encoding: chunked", "Content-Length: 37"] {
        let (name, value) = line.split_once(':').unwrap_or_default();
        for (how, hidden) in [
            ("a blank before the colon", format!("{name} :{value}")),
            ("a tab before the colon", format!("{name}\t:{value}")),
            ("a NUL before the colon", format!("{name}\0:{value}")),
            ("a line feed before it", format!("A: b\n{line}")),
            ("a carriage return before it", format!("A: b\r{line}")),
            ("a blank in front", format!(" {line}")),
            ("a tab in front", format!("\t{line}")),
            ("its value on the next line", format!("{name}:\r\n{value}")),
            ("a byte order mark in front", format!("\u{feff}{line}")),
            ("a soft hyphen in it", line.replace('-', "\u{ad}")),
        ] {
            let name = format!("{name} with {how}");
            let lines_and_body = format!("{hidden}\r\n\r\n{SMUGGLED}");
            let bytes = lines_and_body.trim_end_matches("\r\n\r\n");
            let bytes = format!("{bytes}\r\n");
            all.push(lines(&name, grammar, &bytes, "400 close"));
        }
    }
    // Another header by every rule of HTTP; its name is nobody's business.
    all.push(lines("an underscore", "RFC 9110 5.6.2", "Content_Length: 5\r\n", "200"));
    all.push(lines("TE is no coding", "RFC 9110 10.1.4", "TE: trailers, chunked\r\n", "200"));
    all
}
