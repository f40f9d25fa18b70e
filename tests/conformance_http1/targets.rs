//! What a request is for: its target and its host (RFC 9112 sections 3.2 and 3.3).

use super::case::{Case, HEALTH, raw, request_line};

pub fn cases() -> Vec<Case> {
    let mut all = targets();
    all.extend(stars_and_bytes());
    all.extend(tunnels());
    all.extend(absolute_targets());
    all.extend(hosts());
    all
}

fn tunnels() -> Vec<Case> {
    let case = |target: &str| {
        let line = format!("CONNECT {target} HTTP/1.1");
        request_line(&format!("CONNECT {target}"), "RFC 9112 3.2.3", &line, "400 close")
            .node_reads_more("this is no proxy: a tunnel is never promised")
    };
    ["x:80", "x", HEALTH, "http://x/", "*"].map(case).into()
}

fn targets() -> Vec<Case> {
    let origin = "RFC 9112 3.2.1";
    let encoding = "RFC 3986 2.1";
    let health = |behind: &str| format!("{HEALTH}{behind}");
    let get = |(name, rule, target, answers): (&str, &'static str, String, &'static str)| {
        request_line(name, rule, &format!("GET {target} HTTP/1.1"), answers)
    };
    let streaming = |path: &str| format!("/api/v1/streaming{path}");
    [
        ("a query", origin, health("?a=b&c"), "200"),
        ("an empty query", origin, health("?"), "200"),
        ("two question marks", origin, health("??"), "200"),
        ("a fragment", "parity: Node cuts it", health("#a"), "200"),
        ("letter case", "http-health-uppercase", HEALTH.to_uppercase(), "200"),
        ("a slash last", "http-health-trailing-slash", health("/"), "200"),
        ("two slashes first", origin, format!("/{HEALTH}"), "400"),
        ("points in the path", origin, format!("/api/..{HEALTH}"), "400"),
        ("an encoded letter", encoding, streaming("/%68ealth"), "400"),
        ("an encoded slash", encoding, streaming("%2fhealth"), "400"),
        ("an encoded NUL", encoding, health("%00"), "400"),
        ("an encoded line end", encoding, health("%0d%0aA:%20b"), "400"),
        ("no hexadecimal digits", encoding, health("?a=%zz"), "200"),
        ("half an encoding", encoding, health("?a=%4"), "200"),
        ("letters beyond ASCII", "RFC 3986 2", health("?a=\u{e9}"), "400 close"),
        ("no slash first", origin, "api/v1/streaming/health".to_string(), "400 close"),
        ("only a query", origin, "?a".to_string(), "400 close"),
        ("only a fragment", origin, "#a".to_string(), "400 close"),
    ]
    .map(get)
    .into()
}

fn stars_and_bytes() -> Vec<Case> {
    let star = "RFC 9112 3.2.4";
    let no_text = [b"GET /", &[0xff][..], b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
    vec![
        raw("bytes that are no UTF-8", "RFC 9112 3.2.1", no_text, "400 close"),
        request_line("a star with GET", star, "GET * HTTP/1.1", "400 close")
            .node_reads_more("the star means the server and goes with OPTIONS only"),
        request_line("a star with OPTIONS", star, "OPTIONS * HTTP/1.1", "204"),
        request_line("stars", star, "OPTIONS ** HTTP/1.1", "400 close")
            .node_reads_more("no form of a target"),
    ]
}

fn absolute_targets() -> Vec<Case> {
    let rule = "RFC 9112 3.2.2";
    let authority = "RFC 9110 4.2.1";
    let get = |target: String| format!("GET {target} HTTP/1.1");
    let mut all = vec![
        request_line("a URL", rule, &get(format!("http://y{HEALTH}")), "200"),
        request_line("a URL with a port", rule, &get(format!("http://y:4000{HEALTH}")), "200"),
        request_line("a URL with TLS", rule, &get(format!("https://y{HEALTH}")), "200"),
        request_line("a scheme in capitals", rule, &get(format!("HTTP://y{HEALTH}")), "200"),
        request_line(
            "a URL of an IPv6 host",
            rule,
            &get(format!("http://[::1]:80{HEALTH}")),
            "200",
        ),
        request_line("a URL without a path", rule, &get("http://y".to_string()), "400"),
        request_line("a URL with a query only", rule, &get("http://y?a".to_string()), "400"),
    ];
    for target in ["://y", "http:\\\\y", "http:/y"] {
        let name = format!("{target:?} as a URL");
        all.push(request_line(&name, authority, &get(format!("{target}{HEALTH}")), "400 close"));
    }
    let not_ours = "neither a path nor a URL of HTTP with a host";
    for (name, target) in [
        ("another scheme", format!("ftp://y{HEALTH}")),
        ("WebSocket's scheme", format!("ws://y{HEALTH}")),
        ("a URL without a host", format!("http://{HEALTH}")),
        ("a URL with a port only", format!("http://:80{HEALTH}")),
        ("a URL with a user", format!("http://user@y{HEALTH}")),
        ("a URL with a password", format!("http://user:secret@y{HEALTH}")),
        ("a URL with a bad port", format!("http://y:8o{HEALTH}")),
        ("a URL with two ports", format!("http://y:80:80{HEALTH}")),
        ("a URL with half an IPv6 host", format!("http://[::1{HEALTH}")),
    ] {
        let case = request_line(name, authority, &get(target), "400 close");
        all.push(case.node_reads_more(not_ours));
    }
    all
}

fn hosts() -> Vec<Case> {
    let rule = "RFC 9112 3.2";
    let start = format!("GET {HEALTH} HTTP/1.1\r\n");
    let hosts = |name: String, lines: String, answers: &'static str| {
        raw(name, rule, format!("{start}{lines}\r\n"), answers)
    };
    let mut all = vec![
        hosts("no host".to_string(), String::new(), "400 close")
            .node_reads_more("Node reads what stands behind the request that it refuses"),
        hosts("the host last".to_string(), "A: b\r\nHost: x\r\n".to_string(), "200"),
        raw("no host in HTTP/1.0", rule, format!("GET {HEALTH} HTTP/1.0\r\n\r\n"), "200 close"),
    ];
    let twice = "two hosts are two readings; Node takes the first";
    for (first, second) in [("x", "x"), ("x", "y"), ("x", "")] {
        let name = format!("hosts {first:?} and {second:?}");
        let case = hosts(name, format!("Host: {first}\r\nhost: {second}\r\n"), "400 close");
        all.push(case.node_reads_more(twice));
    }
    for host in
        ["", "x", "x.example:4000", "x:", "192.0.2.1", "[::1]", "[2001:db8::1]:80", "a_b", "a%2db"]
    {
        all.push(hosts(format!("the host {host:?}"), format!("Host: {host}\r\n"), "200"));
    }
    for host in [
        "a b",
        "a/b",
        "a?b",
        "a#b",
        "user@a",
        "a\\b",
        "a\"b",
        "<a>",
        "a, b",
        "a:80:80",
        "a:8o",
        "a:-1",
        "[::1",
        "::1]",
        "[::1]80",
        "[]",
        "[x]",
        "a[b]",
        "a%zz",
        "a%2",
        "caf\u{e9}",
        "a|b",
    ] {
        let case = hosts(format!("the host {host:?}"), format!("Host: {host}\r\n"), "400 close");
        all.push(case.node_reads_more("Node looks for a host and not at it"));
    }
    all
}
