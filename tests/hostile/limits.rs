//! More clients than may be: in all, of one account, from one address. One shard, so that its share
//! is all.

use super::support::{EventStream, Request, Response, User, WebSocket, World, eventually};

const STREAM: &str = "/api/v1/streaming/user";
const REFUSED: &str = "trunkline_handshakes_refused_total";

fn world(limit: &str, most: u32) -> World {
    let world = World::with(|builder| builder.env("TRUNKLINE_SHARDS", 1).env(limit, most));
    world.fixture().bare_users(1..=9);
    world
}

fn request(user: User, address: &str) -> Request {
    let bearer = format!("Bearer {}", user.token());
    Request::get(STREAM).header("Authorization", &bearer).header("X-Forwarded-For", address)
}

#[track_caller]
fn open(world: &World, user: User, address: &str) -> EventStream {
    EventStream::request(&world.server, &request(user, address)).expect("is let in")
}

/// Both kinds of clients are refused alike, and told when to come back.
#[track_caller]
fn assert_refused(world: &World, user: User, address: &str, status: u16) {
    let handshake = Request::websocket(&user.websocket("stream=user"));
    let handshake = handshake.header("X-Forwarded-For", address);
    let refused: [Response; 2] = [
        EventStream::request(&world.server, &request(user, address)).expect_err("is refused"),
        WebSocket::request(&world.server, &handshake).expect_err("is refused"),
    ];
    for response in refused {
        assert_eq!(response.status, status, "{response:?}");
        let secs: u32 = response.header("retry-after").expect("Retry-After").parse().unwrap();
        assert!((5..=10).contains(&secs), "{response:?}");
        let says =
            response.header("x-error-message").is_some() || response.text().contains("error");
        assert!(says, "{response:?}");
    }
}

#[track_caller]
fn assert_observable(world: &World) {
    assert_eq!(world.server.get("/api/v1/streaming/health").text(), "OK");
    assert_eq!(world.server.get("/ready").status, 200);
    assert!(world.server.metric("trunkline_sockets") >= 1.0);
}

/// Opens until a place that was given up is noticed.
fn await_room(world: &World, user: User, address: &str) -> EventStream {
    eventually("a place", || EventStream::request(&world.server, &request(user, address)).ok())
}

#[test]
fn a_full_server_refuses_with_503_until_somebody_leaves_and_can_still_be_watched() {
    let world = world("TRUNKLINE_CONNECTIONS_MAX", 3);
    let mut streams: Vec<EventStream> =
        (1..=3).map(|number| open(&world, User(number), "203.0.113.1")).collect();
    assert_refused(&world, User(4), "203.0.113.4", 503);
    assert_observable(&world);
    assert_eq!(world.server.metric_with(REFUSED, "\"full\""), 2.0);
    streams.pop();
    let _stream = await_room(&world, User(4), "203.0.113.4");
    assert_refused(&world, User(5), "203.0.113.5", 503);
}

#[test]
fn an_account_with_too_many_connections_is_refused_with_429_and_others_are_not() {
    let world = world("TRUNKLINE_CONNECTIONS_PER_ACCOUNT_MAX", 2);
    let mut streams: Vec<EventStream> =
        (1..=2).map(|host| open(&world, User(1), &format!("203.0.113.{host}"))).collect();
    assert_refused(&world, User(1), "203.0.113.3", 429);
    let _other = open(&world, User(2), "203.0.113.1");
    assert_eq!(world.server.metric_with(REFUSED, "account_full"), 2.0);
    streams.pop();
    let _stream = await_room(&world, User(1), "203.0.113.3");
}

#[test]
fn an_address_with_too_many_connections_is_refused_with_429_and_others_are_not() {
    let world = world("TRUNKLINE_CONNECTIONS_PER_ADDRESS_MAX", 2);
    let mut streams: Vec<EventStream> =
        (1..=2).map(|number| open(&world, User(number), "203.0.113.1")).collect();
    assert_refused(&world, User(3), "203.0.113.1", 429);
    let _other = open(&world, User(3), "203.0.113.2");
    assert_eq!(world.server.metric_with(REFUSED, "address_full"), 2.0);
    assert_observable(&world);
    streams.pop();
    let _stream = await_room(&world, User(4), "203.0.113.1");
}
