//! Real client libraries (scripts/install-test-tools puts them into `.test-tools/`) and a browser:
//! each connects in each way it can, gets every kind of event on every stream, survives an unknown
//! one, and is ended by `kill`.

mod support;

#[path = "clients/client.rs"]
mod client;
#[path = "clients/instance.rs"]
mod instance;
#[path = "clients/streams.rs"]
mod streams;

use client::{Client, show_everything};
use instance::instance;
use serde_json::{Value, json};
use streams::{Stream, event_streams, streams};
use support::{Script, ServerBuilder, User, World};

/// A close frame without a status code, as JavaScript and Python show it.
const NO_STATUS: u16 = 1005;
/// What a client gets that connects again with a revoked token.
const REFUSED: u16 = 401;

/// Lets each (script, way) show everything, each with a user of its own.
#[track_caller]
fn show(
    scheme: &str,
    ways: &[(&str, &str)],
    streams: impl Fn(User) -> Vec<Stream>,
    closed: impl Into<Value>,
) {
    let world = World::start();
    let base = world.server.url(scheme);
    let closed = closed.into();
    let start = |(number, (script, way)): (usize, &(&str, &str))| {
        let user = world.fixture().user(1 + number as u64);
        Client::start(script, way, &base, user, streams(user), closed.clone())
    };
    show_everything(&world, ways.iter().enumerate().map(start).collect());
}

#[test]
fn websocket_libraries_get_every_event_in_every_way_and_are_ended_by_kill() {
    let ways = [
        ("ws.mjs", "protocol"),
        ("ws.mjs", "query"),
        ("ws.mjs", "header"),
        ("websocket_client.py", "protocol"),
        ("websocket_client.py", "query"),
        ("websocket_client.py", "header"),
    ];
    show("ws", &ways, streams, NO_STATUS);
}

#[test]
fn npm_eventsource_gets_every_event_in_every_way_and_is_ended_by_kill() {
    let ways = [("eventsource.mjs", "header"), ("eventsource.mjs", "query")];
    show("http", &ways, event_streams, REFUSED);
}

#[test]
fn sseclient_py_gets_every_event_in_every_way_and_is_ended_by_kill() {
    let ways = [("sseclient_py.py", "header"), ("sseclient_py.py", "query")];
    show("http", &ways, event_streams, "end");
}

#[test]
fn masto_js_gets_every_event_in_every_way_and_is_ended_by_kill() {
    let ways = [("masto.mjs", "protocol"), ("masto.mjs", "query"), ("masto.mjs", "header")];
    show("ws", &ways, streams, json!([NO_STATUS, REFUSED]));
}

#[test]
fn mastodon_py_gets_every_event_in_every_way_and_is_ended_by_kill() {
    let world = World::start();
    let base = instance(&world.server.url("ws"));
    let start = |(number, way): (usize, &str)| {
        let user = world.fixture().user(1 + number as u64);
        Client::start("mastodon_py.py", way, &base, user, streams(user), json!("end"))
    };
    let ways = ["events", "websocket"].into_iter().enumerate();
    show_everything(&world, ways.map(start).collect());
}

#[test]
fn a_browser_gets_every_event_across_origins_in_every_way_and_is_ended_by_kill() {
    show("ws", &[("browser.mjs", "protocol"), ("browser.mjs", "query")], streams, NO_STATUS);
}

#[test]
fn a_browser_gets_every_event_stream_across_origins_and_is_ended_by_kill() {
    show("http", &[("browser.mjs", "eventsource")], event_streams, REFUSED);
    show("http", &[("browser.mjs", "fetch")], event_streams, "end");
}

#[test]
fn the_demonstration_moves_in_a_browser_without_errors() {
    let server = ServerBuilder::bare().arguments(&["demo", "--rate", "60"]).start();
    let mut script = Script::start("clients/demonstration.mjs", &[&server.url("http")], &[]);
    script.wait();
    let lines = script.lines();
    assert_eq!(lines.last(), Some(&json!({"content": true})), "{lines:?}");
}
