//! The end of the server: clients are sent away in turn, and the exit status tells why it ended.

mod support;

use rustix::process::Signal;
use support::{EventStream, Message, ServerBuilder, User, WebSocket, World, status};

#[test]
fn clients_are_sent_away_in_turn_and_served_until_then() {
    const CLIENTS: u64 = 40;
    let world = World::with(|builder| builder.env("TRUNKLINE_DRAIN_SECS", "2"));
    world.fixture().bare_users(1..=CLIENTS);
    let mut websockets: Vec<WebSocket> = (1..=CLIENTS)
        .map(|number| WebSocket::open(&world.server, &User(number).websocket("stream=public")))
        .collect();
    let mut events = EventStream::open(&world.server, "/api/v1/streaming/public", &User(1).token());
    world.redis.await_subscribers("timeline:public", 1);
    world.await_subscriptions(CLIENTS as usize + 1);
    let World { mut server, redis, .. } = world;
    server.signal(Signal::TERM);
    // Whoever is not the first is still there for the next event, and the port is closed by then.
    support::eventually("the end of the listener", || {
        std::net::TcpStream::connect(("127.0.0.1", server.port())).is_err().then_some(())
    });
    redis.publish("timeline:public", status::message("delete", "late"));
    let mut served = 0;
    for websocket in &mut websockets {
        loop {
            match websocket.next() {
                Message::Text(text) => served += u32::from(text.contains("late")),
                Message::Close(code, _) => break assert_eq!(code, Some(1001)),
                other => panic!("{other:?}"),
            }
        }
        websocket.socket.send(support::websocket::client_frame(0x88, &1001_u16.to_be_bytes()));
    }
    events.ended();
    assert!(served > 0, "all clients were sent away at once");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let world = World::with(|builder| builder.env("TRUNKLINE_DRAIN_SECS", "600"));
    world.fixture().bare_users(1..=3);
    let mut websockets = [1, 2, 3].map(|number| {
        let mut websocket = WebSocket::open(&world.server, &User(number).websocket("stream=user"));
        websocket.barrier();
        websocket
    });
    let World { mut server, .. } = world;
    server.signal(Signal::TERM);
    support::eventually("the end of the listener", || {
        std::net::TcpStream::connect(("127.0.0.1", server.port())).is_err().then_some(())
    });
    server.signal(Signal::TERM);
    server.wait();
    for websocket in &mut websockets {
        while !matches!(websocket.next(), Message::End) {}
    }
    server.may_end_badly();
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
