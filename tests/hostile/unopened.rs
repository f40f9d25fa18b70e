//! Sockets that never become clients.

use std::thread::sleep;
use std::time::Duration;

use super::support::{Request, Socket, WebSocket, World, status};

/// A head that goes on for ever.
const DRIPPING: &[u8] = b"GET /api/v1/streaming/health HTTP/1.1\r\nX-Patience: ";

#[test]
fn a_head_that_never_ends_is_cut_off_at_its_deadline_however_it_drips() {
    let world = World::with(|builder| builder.env("TRUNKLINE_HEAD_SECS_MAX", 2));
    let mut drips: Vec<Socket> = (0..20).map(|_| world.server.connect()).collect();
    let mut silent: Vec<Socket> = (0..20).map(|_| world.server.connect()).collect();
    // A byte at a time, for longer than the deadline.
    for byte in DRIPPING.iter().chain(std::iter::repeat_n(&b'x', 10)) {
        drips.iter_mut().for_each(|socket| socket.send([*byte]));
        sleep(Duration::from_millis(50));
    }
    for socket in drips.iter_mut().chain(&mut silent) {
        while socket.read_more() {}
        let told = String::from_utf8_lossy(&socket.received).into_owned();
        assert!(told.starts_with("HTTP/1.1 408 ") && told.contains("Connection: close"), "{told}");
    }
    assert_eq!(world.server.metric_with("trunkline_farewells_total", "head_timeout"), 40.0);
    assert_eq!(world.server.get("/api/v1/streaming/health").status, 200);
}

#[test]
fn a_flood_of_silent_sockets_keeps_no_client_out() {
    let world = World::with(|builder| {
        builder.env("TRUNKLINE_UNOPENED_MAX", 64).env("TRUNKLINE_HEAD_SECS_MAX", 600)
    });
    let user = world.fixture().user(1);
    let mut before = WebSocket::open(&world.server, &user.websocket("stream=user"));
    let mut flood: Vec<Socket> = (0..600).map(|_| world.server.connect()).collect();
    let mut amid = WebSocket::open(&world.server, &user.websocket("stream=user"));
    flood.extend((0..600).map(|_| world.server.connect()));
    let mut after = WebSocket::open(&world.server, &user.websocket("stream=user"));
    world.await_subscriptions(3);
    world.redis.publish_wanted(&user.home(), status::message("delete", "1"));
    for websocket in [&mut before, &mut amid, &mut after] {
        assert_eq!(websocket.next_event().payload, "1");
    }
    let crowded_out = world.server.metric_with("trunkline_farewells_total", "crowded_out");
    assert!(crowded_out >= 1200.0 - 64.0, "{crowded_out}");
    let sockets = world.server.metric("trunkline_sockets");
    assert!(sockets <= 64.0 + 3.0, "{sockets}");
    let told = flood[0].response();
    assert_eq!((told.status, told.header("retry-after")), (503, Some("5")));
}

#[test]
fn a_head_too_long_ends_before_it_is_held() {
    let world = World::start();
    let mut socket = world.server.connect();
    socket.send(Request::get("/api/v1/streaming/health").header("X", &"x".repeat(1 << 20)).bytes());
    while socket.read_more() {}
    assert!(socket.received.starts_with(b"HTTP/1.1 431 "), "{}", socket.received.escape_ascii());
}
