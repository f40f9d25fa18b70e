//! The captures about processes and their surroundings: start, stop, Redis and Postgres away.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::json;

use crate::capture::{Step, cases};
use crate::support::{
    EventStream, Fixture, Postgres, Redis, Request, Server, ServerBuilder, Socket, Status, User,
    WebSocket, World, eventually, status,
};

/// Case `http-metrics`: every metric and every label of the Node server's own is there; the ones
/// about its runtime (`nodejs_*`) are not ours to have.
#[test]
fn metrics_have_the_names_and_labels_of_the_capture() {
    let world = World::start();
    let answer = world.server.get("/metrics");
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(kind));
    assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    let case = cases().into_iter().find(|case| case.name == "http-metrics").expect("the case");
    let captured = case.steps.iter().find_map(|step| match step {
        Step::Received(_, bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    });
    let captured = captured.expect("the captured answer");
    let body = captured.split_once("\r\n\r\n").expect("a body").1;
    let (expected, actual) = (series(body), series(&answer.text()));
    let missing: Vec<&String> = expected.difference(&actual).collect();
    assert!(missing.is_empty(), "missing: {missing:#?}");
}

/// Names with labels and types, without what depends on the process or on a version.
fn series(text: &str) -> BTreeSet<String> {
    let own = |line: &&str| !line.contains("nodejs_") && !line.starts_with("# HELP");
    let lines = text.lines().filter(|line| !line.is_empty()).filter(own);
    let named = lines.map(|line| match line.starts_with("# TYPE") {
        true => line.to_string(),
        false => line.rsplit_once(' ').map_or(line, |(name, _)| name).to_string(),
    });
    named.collect()
}

/// Case `redis-commands`: the same commands in the same order, apart from the batches.
#[test]
fn redis_gets_the_commands_of_the_capture() {
    let world = World::start();
    let user = world.fixture().user(70);
    let mut monitor = world.redis.client();
    monitor.command(&["MONITOR"]);
    let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=user"));
    world.redis.await_subscribers(&user.notifications(), 1);
    world.redis.await_subscribers(&user.home(), 1);
    websocket.subscribe(json!({"stream": "public"}));
    world.redis.await_subscribers("timeline:public", 1);
    websocket.unsubscribe(json!({"stream": "public"}));
    world.redis.await_subscribers("timeline:public", 0);
    drop(websocket);
    for channel in [user.home(), user.notifications(), user.token_channel(), user.system_channel()]
    {
        world.redis.await_subscribers(&channel, 0);
    }
    let seen = commands(&mut monitor, &user.system_channel());
    for channel in [user.home(), user.notifications(), "timeline:public".to_string()] {
        let set = format!("set subscribed:{channel} 1 ex 1080");
        let place = |what: &str| seen.iter().position(|command| command == what);
        let (key, subscribed) = (place(&set), place(&format!("subscribe {channel}")));
        assert!(key.is_some() && subscribed.is_some(), "{channel}: {seen:#?}");
        assert!(place(&format!("unsubscribe {channel}")) > subscribed, "{channel}: {seen:#?}");
    }
    for channel in [user.token_channel(), user.system_channel()] {
        assert!(!seen.contains(&format!("set subscribed:{channel} 1 ex 1080")), "{seen:#?}");
    }
    let left = world.redis.client().command(&["TTL", &format!("subscribed:{}", user.home())]);
    assert!((1000..=1080).contains(&left.integer()), "{left:?}");
}

/// The commands up to the last `unsubscribe`, in lower case, one channel each.
fn commands(monitor: &mut crate::support::RedisClient, last_channel: &str) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    let end = format!("unsubscribe {last_channel}");
    while !seen.contains(&end) {
        let line = monitor.read().text();
        let words: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
        let name = words[0].to_lowercase();
        match name.as_str() {
            "subscribe" | "unsubscribe" => {
                seen.extend(words[1..].iter().map(|channel| format!("{name} {channel}")));
            }
            "set" => seen.push(words.join(" ").replace("SET", "set").replace("EX", "ex")),
            _ => {}
        }
    }
    seen
}

/// Case `fail-postgres-restart`, with a difference: the Node server ends; ours keeps its clients,
/// withholds what it cannot check, and delivers again when Postgres is back.
#[test]
fn clients_stay_while_postgres_restarts() {
    let redis = Redis::start();
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let user = Fixture { database: &database }.user(83);
    let server = ServerBuilder::new(&redis, &database).start();
    let mut websocket = WebSocket::open(&server, &user.websocket("stream=public"));
    redis.publish_wanted("timeline:public", Status::new(1).update());
    assert_eq!(websocket.next_event().json()["id"], "1");
    postgres.stop();
    redis.publish("timeline:public", Status::new(2).update());
    redis.publish("timeline:public", status::message("delete", "2"));
    assert_eq!(websocket.next_event().event, "delete");
    postgres.resume();
    let mut id = 3;
    let event = eventually("an event after the restart", || {
        redis.publish("timeline:public", Status::new(id).update());
        redis.publish("timeline:public", status::message("delete", "mark"));
        id += 1;
        let event = websocket.next_event();
        (event.event == "update").then_some(event)
    });
    assert_ne!(event.json()["id"], "2");
}

/// Cases `fail-sigterm` and `fail-sigint`, with a difference: the Node server drops its clients;
/// ours says goodbye with 1001, or ends the event stream, and exits with 0 as well.
#[test]
fn clients_are_told_when_the_server_stops() {
    for signal in [Signal::TERM, Signal::INT] {
        let world = World::start();
        let user = world.fixture().user(85);
        let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=user"));
        let mut events = EventStream::open(&world.server, "/api/v1/streaming/user", &user.token());
        let World { mut server, .. } = world;
        server.signal(signal);
        assert_eq!(websocket.closed().0, Some(1001));
        events.ended();
        assert_eq!(server.wait().code(), Some(0));
    }
}

/// Case `fail-redis-output-limit`: Redis cuts a subscriber that does not read; the clients stay and
/// what is published afterwards arrives.
#[test]
fn clients_stay_when_redis_cuts_the_subscription() {
    // The client reads only when all is over: it is Redis that has a slow reader here, not we.
    let world = World::with(|builder| builder.env("TRUNKLINE_OUTBOX_BYTES_MAX", "67108864"));
    let user = world.fixture().user(88);
    let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=user"));
    world.redis.await_subscribers(&user.home(), 1);
    let mut redis = world.redis.client();
    redis.command(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 1mb 1"]);
    world.server.signal(Signal::STOP);
    let message = status::message("update", json!({"text": "x".repeat(60_000)}));
    let cut = (0..1000).any(|_| redis.publish(&user.home(), &message) == 0);
    world.server.signal(Signal::CONT);
    assert!(cut, "Redis kept a subscriber that does not read");
    redis.await_subscribers(&user.home(), 1);
    redis.publish(&user.home(), status::message("delete", "after"));
    while websocket.next_event().payload != "after" {}
}

/// Case `start-unix-socket`, with a difference: a stale file is replaced, where the Node server
/// refuses to start.
#[test]
fn a_unix_socket_is_made_removed_and_replaced() {
    let redis = Redis::start();
    let database = Postgres::shared().database();
    let directory = crate::support::process::scratch("socket");
    let path = directory.path().join("streaming.sock");
    let start = || ServerBuilder::new(&redis, &database).env("SOCKET", path.display()).start();
    let ask = || {
        let mut socket = Socket::connect_unix(&path);
        socket.send(Request::get("/api/v1/streaming/health").bytes());
        socket.response()
    };
    let server = start();
    assert_eq!(server.address, path.display().to_string());
    assert_eq!(fs::metadata(&path).expect("the socket").permissions().mode(), 0o140_666);
    assert_eq!((ask().status, ask().text()), (200, "OK".to_string()));
    drop(server);
    assert!(!path.exists(), "SIGTERM leaves the socket");
    let mut server = start();
    server.may_end_badly();
    server.signal(Signal::KILL);
    server.wait();
    assert!(path.exists());
    let server = start();
    assert_eq!(ask().status, 200);
    drop(server);
}

/// Case `start-port-in-use`, with a difference: the exit status says so, where the Node server's
/// is 0.
#[test]
fn a_port_in_use_is_a_failure_that_names_the_address() {
    let redis = Redis::start();
    let database = Postgres::shared().database();
    let first = ServerBuilder::new(&redis, &database).start();
    let mut second = ServerBuilder::new(&redis, &database).env("PORT", first.port()).launch();
    second.may_end_badly();
    let code = second.wait().code();
    assert!(!matches!(code, Some(0 | 64) | None), "exit status {code:?}");
    let log = second.log();
    assert!(log.contains(&format!("127.0.0.1:{}", first.port())), "{log}");
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!(first.get("/api/v1/streaming/health").status, 200);
}

/// Case `start-exit-status`.
#[test]
fn the_log_begins_with_the_address_and_sigterm_exits_with_0() {
    let world = World::start();
    let World { mut server, .. } = world;
    let line = server.await_log("the address", |log| {
        log.lines().find(|line| line.contains("listening")).map(ToString::to_string)
    });
    let line: serde_json::Value = serde_json::from_str(&line).expect("a JSON line");
    let message = format!("Streaming API now listening on 127.0.0.1:{}", server.port());
    assert_eq!(line["msg"], message.as_str());
    assert_eq!(line["level"], "info");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

/// Case `start-without-redis`: the server listens, lives, and serves once Redis comes.
#[test]
fn a_server_starts_without_redis_and_serves_when_it_comes() {
    let mut redis = Redis::start();
    let database = Postgres::shared().database();
    let user = Fixture { database: &database }.user(1);
    redis.kill();
    let server: Server = ServerBuilder::new(&redis, &database).start();
    assert_eq!(server.get("/api/v1/streaming/health").text(), "OK");
    let mut websocket = WebSocket::open(&server, &User(1).websocket("stream=user"));
    redis.resume();
    redis.publish_wanted(&user.home(), status::message("delete", "7"));
    assert_eq!(websocket.next_event().payload, "7");
}
