//! A core that hangs: the others say so, and the watchdog is not fed.

use std::time::Duration;

use serde_json::{Value, json};

use super::notified::{Listener, NotifiedWorld};
use super::support::http::Request;
use super::support::{Frozen, Server, Socket, eventually};

/// The first answer to many requests: some of them wait for a shard that hangs.
fn first_answer(server: &Server, target: &str) -> (u16, String) {
    let mut sockets: Vec<Socket> = (0..16).map(|_| server.connect()).collect();
    sockets.iter_mut().for_each(|socket| socket.send(Request::get(target).bytes()));
    let mut socket = eventually("an answer of a shard that turns", || {
        let place = sockets
            .iter_mut()
            .position(|socket| socket.read_for(Duration::from_millis(20)) == Some(true))?;
        Some(sockets.swap_remove(place))
    });
    let response = socket.response();
    (response.status, response.text())
}

fn readiness(server: &Server) -> (u16, Value) {
    let (status, body) = first_answer(server, "/ready");
    (status, serde_json::from_str(&body).unwrap())
}

fn await_missing(server: &Server, missing: &[&str]) {
    eventually(&format!("/ready misses {missing:?}"), || {
        let (status, body) = readiness(server);
        assert_eq!(status == 200, body["missing"] == json!([]), "{body}");
        (body["missing"] == json!(missing)).then_some(())
    });
}

fn fed(listener: &Listener) -> usize {
    listener.drain().iter().filter(|message| message.contains("WATCHDOG=1")).count()
}

#[test]
fn a_shard_that_hangs_is_missed_and_the_watchdog_is_not_fed_until_it_turns_again() {
    let NotifiedWorld { server, listener, .. } = &mut NotifiedWorld::start(|builder| {
        builder.env("WATCHDOG_USEC", "400000").env("TRUNKLINE_PULSE_INTERVAL_SECS", "0.1")
    });
    await_missing(server, &[]);
    let frozen = Frozen::thread(server, "shard-1");
    await_missing(server, &["shards"]);
    listener.await_message("1 of 2 shards turning");
    assert!(first_answer(server, "/metrics").1.contains("\ntrunkline_ready 0\n"));
    listener.drain();
    // Long enough for five feedings.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(fed(listener), 0, "the watchdog is fed although a shard hangs");
    drop(frozen);
    await_missing(server, &[]);
    listener.await_message("WATCHDOG=1");
}

#[test]
fn a_control_core_that_hangs_feeds_no_watchdog_and_is_named() {
    let NotifiedWorld { server, listener, .. } = &mut NotifiedWorld::start(|builder| {
        builder
            .env("WATCHDOG_USEC", "400000")
            .env("TRUNKLINE_QUESTION_SECS_MAX", "1")
            .env("TRUNKLINE_QUERY_SECS_MAX", "1")
            .env("TRUNKLINE_ANSWER_SECS_MAX", "1")
    });
    await_missing(server, &[]);
    let frozen = Frozen::thread(server, "control");
    listener.drain();
    assert_eq!(readiness(server), (503, json!({"ready": false, "missing": ["control"]})));
    assert_eq!(fed(listener), 0, "somebody else feeds the watchdog");
    drop(frozen);
    await_missing(server, &[]);
    listener.await_message("WATCHDOG=1");
}
