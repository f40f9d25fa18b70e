//! Ready means that the server can serve: Redis subscribed, Postgres answering, every shard
//! turning. The path `/ready` says it to load balancers, notifications say it to systemd.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

#[path = "readiness/frozen.rs"]
mod frozen;
#[path = "readiness/notified.rs"]
mod notified;

use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::{Postgres, Redis, Request, Server, ServerBuilder, WebSocket, World, eventually};

/// The status and the body of `/ready`.
#[track_caller]
fn readiness(server: &Server) -> (u16, Value) {
    let response = server.get("/ready");
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("cache-control"), Some("private, no-store"));
    (response.status, serde_json::from_slice(&response.body).unwrap())
}

/// Waits until exactly these parts are missing; 200 only if none is.
#[track_caller]
fn await_missing(server: &Server, missing: &[&str]) -> Value {
    eventually(&format!("/ready misses {missing:?}"), || {
        let (status, body) = readiness(server);
        let is_ready = body["missing"] == json!([]);
        assert_eq!((status, &body["ready"]), (if is_ready { 200 } else { 503 }, &json!(is_ready)));
        (body["missing"] == json!(missing)).then_some(body)
    })
}

#[test]
fn a_server_is_ready_again_when_redis_is_subscribed_to_everything_again() {
    let mut world = World::start();
    let whole = await_missing(&world.server, &[]);
    let shards = json!({"turning": 2, "accepting": 2, "of": 2});
    assert_eq!(
        (&whole["redis"], &whole["postgres"], &whole["shards"]),
        (&true.into(), &true.into(), &shards)
    );
    world.server.await_metric("trunkline_ready", |ready| ready == 1.0);
    let user = world.fixture().user(1);
    let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=user"));
    world.redis.await_subscribers(&user.home(), 1);

    world.redis.kill();
    let away = await_missing(&world.server, &["redis"]);
    assert_eq!((&away["redis"], &away["postgres"]), (&false.into(), &true.into()));
    assert_eq!(world.server.metric("trunkline_ready"), 0.0);
    assert_eq!(world.server.get("/api/v1/streaming/health").text(), "OK");

    world.redis.resume();
    await_missing(&world.server, &[]);
    let heard = world.redis.publish(&user.home(), support::status::message("delete", "1"));
    assert_eq!(heard, 1, "it said ready before it was subscribed");
    assert_eq!(websocket.next_event().payload, "1");
    let log = world.server.log();
    let told = ["\"Ready\"", "\"Not ready\""].map(|line| log.matches(line).count());
    assert_eq!(told, [2, 1], "{log}");
}

#[test]
fn a_server_is_not_ready_while_postgres_is_stopped() {
    let (redis, mut postgres) = (Redis::start(), Postgres::start());
    let server = ServerBuilder::new(&redis, &postgres.database()).start();
    await_missing(&server, &[]);
    postgres.stop();
    await_missing(&server, &["postgres"]);
    assert_eq!(server.get("/api/v1/streaming/health").text(), "OK");
    postgres.resume();
    await_missing(&server, &[]);
}

#[test]
fn a_server_that_starts_without_postgres_and_redis_serves_and_says_what_it_misses() {
    let (mut redis, mut postgres) = (Redis::start(), Postgres::start());
    let database = postgres.database();
    redis.kill();
    postgres.stop();
    let server = ServerBuilder::new(&redis, &database).start();
    await_missing(&server, &["redis", "postgres"]);
    postgres.resume();
    await_missing(&server, &["redis"]);
    redis.resume();
    await_missing(&server, &[]);
}

#[test]
fn a_postgres_that_takes_questions_and_answers_none_is_missed() {
    let world = World::with(|builder| builder.env("TRUNKLINE_POSTGRES_SILENCE_SECS_MAX", "0.5"));
    await_missing(&world.server, &[]);
    // Nobody may read the tokens until the end of this.
    let mut lock = Command::new("psql")
        .args(["-Xqh", "127.0.0.1", "-U", "mastodon", "-p", &world.database.port().to_string()])
        .args(["-d", world.database.name(), "-c"])
        .arg("begin; lock table oauth_access_tokens; select pg_sleep(600)")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    await_missing(&world.server, &["postgres"]);
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where query ~ '^begin; lock'";
    world.database.sql(end);
    lock.wait().unwrap();
    await_missing(&world.server, &[]);
}

#[test]
fn a_server_that_stops_is_not_ready_any_more() {
    let world = World::with(|builder| {
        builder.env("TRUNKLINE_DRAIN_SECS", "600").env("TRUNKLINE_KEEP_ALIVE_SECS_MAX", "600")
    });
    await_missing(&world.server, &[]);
    world.fixture().user(1);
    let _stays = WebSocket::open(&world.server, &support::User(1).websocket("stream=user"));
    // A load balancer's connection, kept since before.
    let mut kept = world.server.connect();
    let request = Request::get("/ready").bytes();
    kept.send(&request);
    assert_eq!(kept.response().status, 200);
    world.server.signal(Signal::TERM);
    eventually("the end of the listener", || {
        std::net::TcpStream::connect(("127.0.0.1", world.server.port())).is_err().then_some(())
    });
    kept.send(&request);
    let response = kept.response();
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!((response.status, &body["missing"]), (503, &json!(["stopping"])));
    world.server.signal(Signal::TERM);
}
