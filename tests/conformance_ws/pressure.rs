//! Closing while much is still to be written, and floods of pings.

use std::fs;

use crate::endings::farewells;
use crate::support::websocket::client_frame;
use crate::support::{Message, ServerBuilder, User, WebSocket, World, status};

/// The bound of a client's outbox, as it ships.
const OUTBOX_BYTES_MAX: f64 = 1024.0 * 1024.0;

/// Room for whatever is published, and time for a loaded machine to read it.
fn roomy(builder: ServerBuilder) -> ServerBuilder {
    builder
        .env("TRUNKLINE_OUTBOX_BYTES_MAX", 1 << 28)
        .env("TRUNKLINE_OUTBOX_BLOCKED_SECS_MAX", 600)
        .env("TRUNKLINE_LINGER_SECS_MAX", 60)
}

/// A client that has not read what the kernel could keep of it; the number of events sent.
fn clogged(world: &World, user: User) -> (WebSocket, usize) {
    let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=user"));
    websocket.socket.narrow();
    world.redis.await_subscribers(&user.home(), 1);
    let text = "x".repeat(200_000);
    for count in 1..500 {
        world.redis.publish(&user.home(), status::message("delete", format!("{count} {text}")));
        if world.server.metric("trunkline_outbox_bytes") > 1_000_000.0 {
            return (websocket, count);
        }
    }
    panic!("the kernel keeps everything");
}

/// Reads the events that were sent; what comes then.
fn drained(mut websocket: WebSocket, count: usize) -> Message {
    for number in 1..=count {
        let payload = websocket.next_event().payload;
        assert_eq!(payload.split(' ').next(), Some(number.to_string().as_str()));
        assert!(payload.len() > 200_000, "event {number} is cut");
    }
    let last = websocket.next_frame();
    websocket.socket.expect_end();
    last
}

#[test]
fn who_closes_during_a_large_write_gets_the_rest_and_the_answer() {
    let world = World::with(roomy);
    let user = world.fixture().user(1);
    let (mut websocket, count) = clogged(&world, user);
    websocket.socket.send(client_frame(0x88, &[0x03, 0xe8]));
    assert_eq!(drained(websocket, count), Message::Close(Some(1000), String::new()));
    world.server.await_metric("trunkline_outbox_bytes", |bytes| bytes == 0.0);
}

#[test]
fn who_closes_and_finishes_sending_during_a_large_write_gets_the_rest_and_the_answer() {
    let world = World::with(roomy);
    let user = world.fixture().user(1);
    let (mut websocket, count) = clogged(&world, user);
    websocket.socket.send(client_frame(0x88, &[0x03, 0xe8]));
    websocket.socket.shut();
    world.server.await_metric("connected_clients", |count| count == 0.0);
    assert_eq!(drained(websocket, count), Message::Close(Some(1000), String::new()));
    world.server.await_metric("trunkline_outbox_bytes", |bytes| bytes == 0.0);
}

#[test]
fn who_breaks_the_protocol_during_a_large_write_gets_the_rest_and_the_code() {
    let world = World::with(roomy);
    let user = world.fixture().user(1);
    let (mut websocket, count) = clogged(&world, user);
    websocket.socket.send([0x81, 0]);
    assert_eq!(drained(websocket, count), Message::Close(Some(1002), String::new()));
}

#[test]
fn who_is_sent_away_during_a_large_write_gets_the_rest_and_the_close_frame() {
    let world = World::with(roomy);
    let user = world.fixture().user(1);
    let (mut websocket, count) = clogged(&world, user);
    world.redis.publish_wanted(&user.token_channel(), r#"{"event":"kill"}"#);
    world.server.await_metric("connected_clients", |count| count == 0.0);
    // Its own close frame crosses the server's on the way.
    websocket.socket.send(client_frame(0x88, &[0x03, 0xe9]));
    assert_eq!(drained(websocket, count), Message::Close(None, String::new()));
}

#[test]
fn a_reset_during_a_large_write_gives_its_memory_back() {
    let world = World::with(roomy);
    let user = world.fixture().user(1);
    let (websocket, _) = clogged(&world, user);
    websocket.socket.reset();
    world.server.await_metric("connected_clients", |count| count == 0.0);
    assert_eq!(world.server.metric("trunkline_outbox_bytes"), 0.0);
    assert_eq!(world.server.metric("trunkline_outbox_connections"), 0.0);
}

#[test]
fn a_flood_of_pings_from_somebody_who_does_not_read_is_bounded_and_stops_nobody() {
    let mut world = World::start();
    world.fixture().users(1..=2);
    let (user, neighbour) = (User(1), User(2));
    let mut witness = WebSocket::open(&world.server, &neighbour.websocket("stream=user"));
    let mut flooder = WebSocket::open(&world.server, &user.websocket("stream=user"));
    flooder.socket.narrow();
    world.redis.await_subscribers(&neighbour.home(), 1);
    let before = resident_kib(&mut world);
    let pings = client_frame(0x89, &[b'p'; 125]).repeat(1000);
    for number in 0.. {
        assert!(number < 1000, "a client that reads nothing is never sent away");
        flooder.socket.send(&pings);
        assert!(world.server.metric("trunkline_outbox_bytes") <= OUTBOX_BYTES_MAX);
        world.redis.publish(&neighbour.home(), status::message("delete", number.to_string()));
        assert_eq!(witness.next_event().payload, number.to_string());
        if farewells(&world, "outbox_full") == 1.0 {
            break;
        }
    }
    let grown = resident_kib(&mut world).saturating_sub(before);
    assert!(grown < 16 * 1024, "it grew by {grown} KiB");
    assert_eq!(world.server.metric("connected_clients"), 1.0);
}

fn resident_kib(world: &mut World) -> u64 {
    let path = format!("/proc/{}/status", world.server.process().id());
    let status = fs::read_to_string(path).expect("the server's status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}
