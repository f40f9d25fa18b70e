//! The intended differences from the Node server, each with its reason and what comes instead.
//! What is not in this list must be as captured; what is in it must differ in exactly this way.

use crate::unit::{Answer, Unit};

/// A place where being right is better than being the same.
pub struct Difference {
    /// The case.
    pub case: &'static str,
    /// First and last of the captured steps that are replaced; a first one beyond the last step of
    /// the case adds to it.
    pub steps: (usize, usize),
    /// Why.
    pub reason: &'static str,
    /// What happens instead.
    pub instead: Vec<Instead>,
}

/// A step that replaces captured ones. Connections are numbered as in the capture.
pub enum Instead {
    /// The server sends this next.
    Receive(u64, Unit),
    /// The connection stays and nothing has come.
    Stays(u64),
    /// This is published: channel, message, how many Redis connections get it.
    Publish(&'static str, &'static str, i64),
}

/// Every difference.
pub fn differences() -> Vec<Difference> {
    let mut all = requests();
    all.extend(upgrades());
    all.extend(frames());
    all.extend(events());
    all
}

fn difference(
    case: &'static str,
    steps: (usize, usize),
    reason: &'static str,
    instead: Vec<Instead>,
) -> Difference {
    Difference { case, steps, reason, instead }
}

fn upgrades() -> Vec<Difference> {
    vec![
        difference(
            "ws-version-8",
            (2, 2),
            "RFC 6455 section 4.4: a version that the server does not speak is answered with 426 \
             and the version that it speaks",
            vec![
                answer(
                    "HTTP/1.1 426 Upgrade Required",
                    &[
                        ("connection", "close, Upgrade"),
                        ("content-type", "text/html"),
                        ("sec-websocket-version", "13"),
                        ("upgrade", "websocket"),
                    ],
                    "Missing or invalid Sec-WebSocket-Version header",
                ),
                Instead::Receive(1, Unit::End),
            ],
        ),
        difference(
            "ws-no-connection-header",
            (2, 2),
            "an upgrade that is not taken ends the connection: a proxy that looks at `Upgrade` \
             alone has a tunnel now",
            vec![unknown_channel(), Instead::Receive(1, Unit::End)],
        ),
        difference(
            "ws-http10",
            (2, 2),
            "RFC 9110 section 7.8: an `Upgrade` in HTTP/1.0 is ignored, because proxies that do \
             not know it pass it on",
            vec![unknown_channel(), Instead::Receive(1, Unit::End)],
        ),
    ]
}

fn requests() -> Vec<Difference> {
    let bad_request = || answer("HTTP/1.1 400 Bad Request", &[("connection", "close")], "");
    vec![
        difference(
            "http-expect",
            (2, 2),
            "no request of this API has a body: refusing one keeps requests from being smuggled \
             past the proxy in it",
            vec![bad_request(), Instead::Receive(1, Unit::End)],
        ),
        difference(
            "http-post-stream",
            (2, 2),
            "no request of this API has a body",
            vec![bad_request(), Instead::Receive(1, Unit::End)],
        ),
        difference(
            "http-hashtag-two-tags",
            (2, 2),
            "the Node server fails on an array; of two `tag` parameters the first counts, as with \
             `stream`",
            vec![open_event_stream(), Instead::Receive(1, Unit::Event(b":)\n".to_vec()))],
        ),
        difference(
            "http-head-stream",
            (2, 2),
            "the Node server answers HEAD on a stream with nothing for ever; a head costs nothing",
            vec![open_event_stream()],
        ),
        difference(
            "ws-nul-token",
            (2, 3),
            "a token with a NUL byte is an unknown token and no failure of ours",
            vec![
                answer(
                    "HTTP/1.1 401 Unauthorized",
                    &[
                        ("connection", "close"),
                        ("content-type", "text/plain"),
                        ("x-error-message", "Invalid access token"),
                        ("x-request-id", "a UUID"),
                    ],
                    "",
                ),
                Instead::Receive(1, Unit::End),
            ],
        ),
    ]
}

fn frames() -> Vec<Difference> {
    let too_big = "a message is bounded to 64 KiB: no client's is longer than a hundred bytes";
    vec![
        difference("ws-text-1MiB", (4, 4), too_big, closes(1009)),
        difference("ws-subscribe-1MiB", (4, 4), too_big, closes(1009)),
        difference("ws-length-100MiB", (4, 4), too_big, closes(1009)),
        difference(
            "ws-bad-utf8-fragment",
            (4, 4),
            "RFC 6455 section 8.1: text that is no UTF-8 fails the connection as soon as it shows",
            closes(1007),
        ),
        difference(
            "ws-nonminimal-length",
            (4, 4),
            "RFC 6455 section 5.2: the minimal number of bytes must be used for a length",
            closes(1002),
        ),
        difference(
            "ws-kill-token",
            (5, 5),
            "a revoked token's channels are given up at once and not when the client answers",
            vec![Instead::Publish(
                "timeline:110000000041000123",
                r#"{"event":"delete","payload":"1"}"#,
                0,
            )],
        ),
    ]
}

fn events() -> Vec<Difference> {
    // The status of the captures without its `media_attachments`.
    let status = concat!(
        r#"{"id":"115600000000000001","created_at":"2026-11-23T03:00:00.000Z","language":"en","#,
        r#""visibility":"public","spoiler_text":"","content":"<p>hello world</p>","#,
        r#""account":{"id":"109999999999999999","username":"alice","#,
        r#""acct":"alice@remote.example"},"mentions":[],"tags":[],"emojis":[],"poll":null,"#,
        r#""filtered":[]}"#,
    );
    let numbers = "[1,100000,null,0,1e-8,12345678901234567890,9007199254740993,1.5]";
    vec![
        difference(
            "ws-payload-forms",
            (4, 4),
            "keys keep their order also when they look like numbers; clients look keys up by name",
            vec![update("user", r#"{"b":1,"a":2,"1":3,"0":4}"#)],
        ),
        difference(
            "ws-payload-forms",
            (6, 6),
            "integers stay exact at any size, where JavaScript rounds them",
            vec![update("user", &format!(r#"{{"n":{numbers}}}"#))],
        ),
        difference(
            "sse-events",
            (11, 11),
            "a line break in the data ends it for every reader; each line gets a `data:` of its \
             own (WHATWG HTML section 9.2)",
            vec![Instead::Receive(
                1,
                Unit::Event(b"event: announcement\ndata: line1\ndata: line2\n\n".to_vec()),
            )],
        ),
        difference(
            "ws-no-media",
            (4, 6),
            "missing `media_attachments` count as empty, where the Node server ends its process",
            vec![update("public", status)],
        ),
        difference(
            "ws-string-status",
            (4, 6),
            "a status that is a string cannot be filtered: it is withheld, and the process stays, \
             where the Node server ends",
            vec![Instead::Stays(1)],
        ),
    ]
}

fn answer(status_line: &str, headers: &[(&str, &str)], body: &str) -> Instead {
    Instead::Receive(1, Unit::Answer(Answer::new(status_line, headers, body)))
}

fn unknown_channel() -> Instead {
    answer(
        "HTTP/1.1 400 Bad Request",
        &[
            ("access-control-allow-origin", "*"),
            ("connection", "close"),
            ("content-type", "application/json"),
            ("x-request-id", "a UUID"),
        ],
        r#"{"error":"Unknown channel requested"}"#,
    )
}

fn open_event_stream() -> Instead {
    answer(
        "HTTP/1.1 200 OK",
        &[
            ("access-control-allow-origin", "*"),
            ("cache-control", "private, no-store"),
            ("content-type", "text/event-stream"),
            ("x-request-id", "a UUID"),
        ],
        "",
    )
}

/// The frame of an `update` with this payload.
fn update(stream: &str, payload: &str) -> Instead {
    let payload = serde_json::Value::from(payload);
    let text = format!(r#"{{"stream":["{stream}"],"event":"update","payload":{payload}}}"#);
    let mut frame = vec![0x81];
    match text.len() {
        length @ 0..126 => frame.push(length as u8),
        length => {
            frame.push(126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(text.as_bytes());
    Instead::Receive(1, Unit::Frame(frame))
}

fn closes(code: u16) -> Vec<Instead> {
    let mut frame = vec![0x88, 2];
    frame.extend_from_slice(&code.to_be_bytes());
    vec![Instead::Receive(1, Unit::Frame(frame)), Instead::Receive(1, Unit::End)]
}
