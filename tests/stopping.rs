//! The end of the server: clients are sent away in turn, and the exit status tells why it ended.

mod support;

use std::process::{Command, Stdio};

use rustix::process::Signal;
use support::{
    EventStream, Message, Request, Server, ServerBuilder, User, WebSocket, World, eventually,
    status,
};

/// A stop that only its test ends.
const FOR_EVER: &str = "600";

/// Tells the server to stop, and waits until its port is closed.
fn stop(server: &Server) {
    server.signal(Signal::TERM);
    eventually("the end of the listener", || {
        std::net::TcpStream::connect(("127.0.0.1", server.port())).is_err().then_some(())
    });
}

/// Reads to the end of a WebSocket; the texts that came. It must end with 1001.
#[track_caller]
fn texts_until_sent_away(websocket: &mut WebSocket) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        match websocket.next() {
            Message::Text(text) => texts.push(text),
            Message::Close(code, _) => {
                assert_eq!(code, Some(1001));
                let answer = support::websocket::client_frame(0x88, &1001_u16.to_be_bytes());
                websocket.socket.send(answer);
                return texts;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn clients_are_sent_away_in_turn_and_served_until_then() {
    const CLIENTS: u64 = 200;
    let world = World::with(|builder| builder.env("TRUNKLINE_DRAIN_SECS", "5"));
    world.fixture().bare_users(1..=CLIENTS);
    let mut websockets: Vec<WebSocket> = (1..=CLIENTS)
        .map(|number| WebSocket::open(&world.server, &User(number).websocket("stream=public")))
        .collect();
    let mut streams: Vec<EventStream> = (1..=CLIENTS)
        .map(|number| {
            let token = User(number).token();
            EventStream::open(&world.server, "/api/v1/streaming/public", &token)
        })
        .collect();
    world.redis.await_subscribers("timeline:public", 1);
    world.await_subscriptions(2 * CLIENTS as usize);
    let World { mut server, redis, .. } = world;
    stop(&server);
    // Whoever is not among the first is still there for the next event.
    redis.publish("timeline:public", status::message("delete", "late"));
    let mut served = 0;
    for websocket in &mut websockets {
        let texts = texts_until_sent_away(websocket);
        served += texts.iter().filter(|text| text.contains("late")).count();
    }
    for stream in &mut streams {
        while let Some((_, data)) = stream.next_or_end() {
            served += usize::from(data == "late");
        }
        stream.ended();
    }
    assert!(served > 0, "all clients were sent away at once");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn clients_are_sent_away_while_redis_and_postgres_are_away() {
    let (mut redis, mut postgres) = (support::Redis::start(), support::Postgres::start());
    let database = postgres.database();
    let builder = ServerBuilder::new(&redis, &database).env("TRUNKLINE_DRAIN_SECS", "1");
    let mut server = builder.start();
    support::Fixture { database: &database }.bare_users(1..=20);
    let mut websockets: Vec<WebSocket> = (1..=20)
        .map(|number| WebSocket::open(&server, &User(number).websocket("stream=user")))
        .collect();
    redis.kill();
    postgres.stop();
    server.await_metric("trunkline_redis_connected", |connected| connected == 0.0);
    stop(&server);
    for websocket in &mut websockets {
        assert_eq!(texts_until_sent_away(websocket), [""; 0]);
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// 503, when to come back, and the end.
#[track_caller]
fn assert_told_to_come_back(socket: &mut support::Socket) {
    let response = socket.response();
    assert_eq!(response.status, 503);
    let secs: u32 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((5..=10).contains(&secs), "{secs}");
    socket.expect_end();
}

#[test]
fn who_asks_during_a_stop_is_told_to_come_back() {
    let world = World::with(|builder| {
        builder.env("TRUNKLINE_DRAIN_SECS", FOR_EVER).env("TRUNKLINE_HEAD_SECS_MAX", FOR_EVER)
    });
    world.fixture().bare_users(1..=2);
    let mut stays = WebSocket::open(&world.server, &User(1).websocket("stream=user"));
    let mut half = world.server.connect();
    let request = Request::websocket(&User(2).websocket("stream=user")).bytes();
    half.send(&request[..request.len() / 2]);
    // Both are known to the server.
    world.server.await_metric("trunkline_sockets", |sockets| sockets == 3.0);
    stop(&world.server);
    half.send(&request[request.len() / 2..]);
    assert_told_to_come_back(&mut half);
    stays.barrier();
    world.server.signal(Signal::TERM);
}

#[test]
fn who_waits_for_postgres_during_a_stop_is_told_to_come_back() {
    let world = World::with(|builder| builder.env("TRUNKLINE_DRAIN_SECS", "1"));
    world.fixture().bare_users(1..=1);
    let mut lock = Command::new("psql")
        .args(["-Xqh", "127.0.0.1", "-U", "mastodon", "-p", &world.database.port().to_string()])
        .args(["-d", world.database.name(), "-c"])
        .arg("begin; lock table oauth_access_tokens; select pg_sleep(600)")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the lock", || {
        let query = "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted \
                     and database = (select oid from pg_database \
                     where datname = current_database())";
        (world.database.sql(query) == "1").then_some(())
    });
    let mut asking = world.server.connect();
    asking.send(Request::websocket(&User(1).websocket("stream=user")).bytes());
    // Its question, and that of the scrape.
    world.server.await_metric("trunkline_questions_waiting", |count| count == 2.0);
    let World { mut server, database, .. } = world;
    stop(&server);
    assert_told_to_come_back(&mut asking);
    assert_eq!(server.wait().code(), Some(0));
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where query ~ '^begin; lock'";
    database.sql(end);
    lock.wait().unwrap();
}

#[test]
fn a_client_that_reads_nothing_cannot_hold_the_server() {
    let world = World::with(|builder| {
        builder.env("TRUNKLINE_DRAIN_SECS", "1").env("TRUNKLINE_OUTBOX_BLOCKED_SECS_MAX", "600")
    });
    let user = world.fixture().user(1);
    let slow = WebSocket::open(&world.server, &user.websocket("stream=user"));
    world.redis.await_subscribers(&user.home(), 1);
    // More than the kernel takes, and less than the outbox.
    let text = "x".repeat(100_000);
    eventually("bytes in the outbox", || {
        world.redis.publish(&user.home(), status::message("delete", text.as_str()));
        (world.server.metric("trunkline_outbox_bytes") > 0.0).then_some(())
    });
    let World { mut server, .. } = world;
    stop(&server);
    assert_eq!(server.wait().code(), Some(0));
    drop(slow);
}

#[test]
fn a_server_without_clients_stops_at_once_whoever_else_is_connected() {
    let world = World::with(|builder| {
        builder.env("TRUNKLINE_DRAIN_SECS", FOR_EVER).env("TRUNKLINE_KEEP_ALIVE_SECS_MAX", FOR_EVER)
    });
    let user = world.fixture().user(1);
    // Somebody was there.
    drop(WebSocket::open(&world.server, &user.websocket("stream=user")));
    world.server.await_metric("connected_clients", |clients| clients == 0.0);
    let mut kept = world.server.connect();
    kept.send(Request::get("/api/v1/streaming/health").bytes());
    assert_eq!(kept.response().status, 200);
    let mut half = world.server.connect();
    half.send(b"GET /api/v1");
    let World { mut server, .. } = world;
    server.signal(Signal::INT);
    assert_eq!(server.wait().code(), Some(0));
    kept.expect_end();
}

#[test]
fn a_second_signal_ends_at_once() {
    let world = World::with(|builder| builder.env("TRUNKLINE_DRAIN_SECS", FOR_EVER));
    world.fixture().bare_users(1..=3);
    let mut websockets = [1, 2, 3].map(|number| {
        let mut websocket = WebSocket::open(&world.server, &User(number).websocket("stream=user"));
        websocket.barrier();
        websocket
    });
    let World { mut server, .. } = world;
    stop(&server);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    for websocket in &mut websockets {
        while !matches!(websocket.next(), Message::End) {}
    }
}

#[test]
fn a_silent_client_cannot_hold_the_server() {
    let world = World::start();
    let user = world.fixture().user(1);
    let mut silent = WebSocket::open(&world.server, &user.websocket("stream=user"));
    let half = world.server.connect();
    let World { mut server, .. } = world;
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(matches!(silent.next_frame(), Message::Close(Some(1001), _)));
    drop(half);
}

#[test]
fn errors_in_the_configuration_exit_with_64_and_are_all_named() {
    let mut server = ServerBuilder::bare()
        .env("PORT", "many")
        .env("DB_POOL", "-1")
        .env("DB_PASS", "Secret-1")
        .env("REDIS_DB", "x")
        .env("LOG_LEVEL", "loud")
        .launch();
    server.may_end_badly();
    assert_eq!(server.wait().code(), Some(64));
    let log = server.log();
    for name in ["PORT", "DB_POOL", "REDIS_DB", "LOG_LEVEL", "many", "-1", "loud"] {
        assert!(log.contains(name), "{name} is not in {log}");
    }
    assert!(!log.contains("Secret-1"), "{log}");
}
