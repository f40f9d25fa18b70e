//! HTTP/1.1 as a strict server speaks it (RFC 9110, RFC 9112): what is malformed or could be read
//! in two ways is refused, the connection is closed, and nothing behind it is ever read as a
//! request.
//!
//! Each case of the tables in this directory is sent to the real server whole, cut in two at every
//! byte, and with a further request behind it; each way must give the same answers. The same bytes
//! go to Node's own parser: it never reads fewer requests than this server does, and where it reads
//! more, the case says why.

mod support;

#[path = "conformance_http1/answers.rs"]
mod answers;
#[path = "conformance_http1/case.rs"]
mod case;
#[path = "conformance_http1/framing.rs"]
mod framing;
#[path = "conformance_http1/lines.rs"]
mod lines;
#[path = "conformance_http1/node.rs"]
mod node;
#[path = "conformance_http1/requests.rs"]
mod requests;
#[path = "conformance_http1/targets.rs"]
mod targets;
#[path = "conformance_http1/upgrades.rs"]
mod upgrades;

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use answers::{Answer, answers_of};
use case::{Case, Node, PROBE};
use node::OLD_NODE_READS_MORE;
use support::http::find;
use support::{Server, User, World, status};

/// Long enough for the server to read the first part on its own most of the time. Nothing is
/// asserted about it.
const BETWEEN_PARTS: Duration = Duration::from_micros(500);
/// Connections at a time.
const THREADS: usize = 4;

fn cases() -> Vec<Case> {
    let all =
        [framing::cases(), lines::cases(), targets::cases(), requests::cases(), upgrades::cases()];
    let mut all: Vec<Case> = all.into_iter().flatten().collect();
    for name in OLD_NODE_READS_MORE {
        let case = all.iter_mut().find(|case| case.name == name);
        case.unwrap_or_else(|| panic!("no case {name:?}")).node = Node::OldReadsMore;
    }
    let names: BTreeSet<&str> = all.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "two cases have the same name");
    all
}

fn world() -> World {
    let world = World::start();
    world.fixture().user(1);
    world
}

/// Sends parts one after the other and returns all answers up to the end of the connection.
fn ask(server: &Server, parts: &[&[u8]], is_head: bool) -> Result<Vec<Answer>, String> {
    let mut socket = server.connect();
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            thread::sleep(BETWEEN_PARTS);
        }
        socket.send(part);
    }
    while socket.read_more() {}
    answers_of(&socket.received, is_head)
}

/// Does something with each case, several at a time, and collects the complaints.
fn for_each_case(cases: &[Case], check: impl Fn(&Case) -> Result<(), String> + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let worker = || {
        let mut complaints = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            if let Err(complaint) = check(case) {
                complaints.push(format!("{} ({}): {complaint}", case.name, case.rule));
            }
        }
        complaints
    };
    let complaints: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    });
    let count = complaints.len();
    assert!(complaints.is_empty(), "{count} cases:\n{}\n", complaints.join("\n"));
}

fn compare(case: &Case, how: &str, answers: &[Answer]) -> Result<(), String> {
    let (got, expected) = (answers::shown(answers), case.expected_with_probe());
    match got == expected {
        true => Ok(()),
        false => Err(format!("{how}: expected {expected:?}, got {got:?}")),
    }
}

#[test]
fn every_request_is_answered_as_the_rules_say_and_nothing_behind_a_refused_one_is_read() {
    let world = world();
    let cases = cases();
    assert!(cases.len() >= 300, "{} cases", cases.len());
    for_each_case(&cases, |case| {
        let whole = [&case.bytes, PROBE].concat();
        let answers = ask(&world.server, &[&whole], case.is_head())?;
        compare(case, "in one piece", &answers)?;
        let behind = ask(&world.server, &[&case.bytes, PROBE], case.is_head())?;
        compare(case, "with the next request behind it", &behind)
    });
}

#[test]
fn a_request_cut_anywhere_is_answered_as_in_one_piece() {
    let world = world();
    for_each_case(&cases(), |case| {
        let whole = [&case.bytes, PROBE].concat();
        let expected = ask(&world.server, &[&whole], case.is_head())?;
        for cut in case.cuts() {
            let (first, second) = whole.split_at(cut);
            let answers = ask(&world.server, &[first, second], case.is_head())?;
            if answers != expected {
                let (got, expected) = (answers::shown(&answers), answers::shown(&expected));
                return Err(format!("cut at {cut}: {got:?} instead of {expected:?}"));
            }
        }
        Ok(())
    });
}

#[test]
fn a_request_that_has_not_ended_is_waited_for() {
    let world = world();
    for prefix in [
        "",
        "\r",
        "\r\n",
        "G",
        "GET",
        "GET ",
        "GET /",
        "GET / ",
        "GET / H",
        "GET / HTTP/1",
        "GET / HTTP/1.1",
        "GET / HTTP/1.1\r",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nH",
        "GET / HTTP/1.1\r\nHost",
        "GET / HTTP/1.1\r\nHost:",
        "GET / HTTP/1.1\r\nHost: x",
        "GET / HTTP/1.1\r\nHost: x\r",
        "GET / HTTP/1.1\r\nHost: x\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\r",
        // Not complete, so nobody knows yet that they are refused.
        "GET / HTTP/1.1\r\n\r",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let mut socket = world.server.connect();
        socket.send(prefix);
        socket.shut();
        while socket.read_more() {}
        let came = socket.received.escape_ascii();
        assert!(socket.received.is_empty(), "after {:?}: {came}", prefix);
    }
}

/// The answer to the first request has no end, so the second one has no answer.
#[test]
fn nothing_behind_the_request_for_an_event_stream_is_read() {
    let world = world();
    let user = User(1);
    let request = format!(
        "GET /api/v1/streaming/user?access_token={} HTTP/1.1\r\nHost: x\r\n\r\n",
        user.token()
    );
    let mut together = world.server.connect();
    together.send([request.as_bytes(), PROBE, b"not http\n\0"].concat());
    let mut after = world.server.connect();
    after.send(&request);
    world.await_subscriptions(2);
    after.send([PROBE, b"not http\n\0"].concat());
    world.redis.publish_wanted(&user.home(), status::message("delete", "1"));
    world.redis.publish_wanted(&user.token_channel(), r#"{"event":"kill"}"#);
    for mut socket in [together, after] {
        while socket.read_more() {}
        let answers = answers_of(&socket.received, false).expect("answers");
        assert_eq!(answers::shown(&answers), "200 close");
        assert_eq!(answers[0].body, b":)\nevent: delete\ndata: 1\n\n");
    }
}

/// RFC 9112 section 6.1: a client of HTTP/1.0 does not know the chunked coding. The stream ends
/// with its connection.
#[test]
fn an_event_stream_in_http_1_0_is_not_chunked() {
    let world = World::with(|builder| builder.env("TRUNKLINE_THUMP_INTERVAL_SECS", "0.2"));
    let user = world.fixture().user(1);
    let request = "GET /api/v1/streaming/user?access_token=tok-1 HTTP/1.0\r\n\r\n";
    let mut socket = world.server.connect();
    socket.send(request);
    let thump = b":thump\n\n";
    while find(&socket.received, thump).is_none() {
        assert!(socket.read_more(), "{}", socket.received.escape_ascii());
    }
    world.redis.publish_wanted(&user.home(), status::message("delete", "1"));
    world.redis.publish_wanted(&user.token_channel(), r#"{"event":"kill"}"#);
    while socket.read_more() {}
    let answers = answers_of(&socket.received, false).expect("answers");
    assert_eq!(answers::shown(&answers), "200 close");
    assert!(!answers[0].headers.iter().any(|(name, _)| name == "transfer-encoding"));
    let body = String::from_utf8_lossy(&answers[0].body).replace(":thump\n\n", "");
    assert_eq!(body, ":)\nevent: delete\ndata: 1\n\n");
}

#[test]
fn node_reads_the_same_requests_or_the_case_says_why_not() {
    let world = world();
    let cases = cases();
    let node = node::read(&cases);
    for_each_case(&cases, |case| {
        let whole = [&case.bytes, PROBE].concat();
        let ours = answers::requests_read(&ask(&world.server, &[&whole], case.is_head())?);
        node.compare(case, ours)
    });
}
