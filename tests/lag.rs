//! A shard that cannot keep up: the control core never waits for it, the clients of other shards
//! get everything in time, and whoever lost an event is told to come back. Nothing is lost
//! silently.

mod support;

use std::time::Duration;

use support::{EventStream, Frozen, Message, Redis, User, WebSocket, World, eventually, status};

/// Deliveries that may be on their way to a shard.
const MESH: usize = 16;
/// Events while one shard is held still.
const EVENTS: usize = 400;
const CLIENTS: u64 = 24;

/// A client of a stream that everybody reads.
enum Client {
    WebSocket(WebSocket),
    EventStream(EventStream),
}

impl Client {
    fn open(world: &World, user: User) -> Client {
        if user.0.is_multiple_of(2) {
            let target = user.websocket("stream=public");
            return Client::WebSocket(WebSocket::open(&world.server, &target));
        }
        let target = "/api/v1/streaming/public";
        Client::EventStream(EventStream::open(&world.server, target, &user.token()))
    }

    /// The next event's number; `None`: sent away, in the words that bring clients back.
    fn next(&mut self) -> Option<usize> {
        match self {
            Client::WebSocket(websocket) => match websocket.next() {
                Message::Text(text) => {
                    let event = support::StreamEvent::parse(&text).expect("an event");
                    Some(event.payload.parse().expect("a number"))
                }
                Message::Close(code, reason) => {
                    assert_eq!((code, &*reason), (Some(1013), "Events were lost, come back"));
                    None
                }
                other => panic!("{other:?}"),
            },
            Client::EventStream(events) => {
                let (_, data) = events.next_or_end()?;
                Some(data.parse().expect("a number"))
            }
        }
    }

    /// Has anything come within a moment?
    fn has_news(&mut self) -> bool {
        let socket = match self {
            Client::WebSocket(websocket) => &mut websocket.socket,
            Client::EventStream(events) => &mut events.socket,
        };
        !socket.received.is_empty() || socket.read_for(Duration::from_millis(2)) == Some(true)
    }
}

fn publish(redis: &Redis, numbers: std::ops::Range<usize>) {
    let mut redis = redis.client();
    for number in numbers {
        redis.publish("timeline:public", status::message("delete", number.to_string()));
    }
}

/// Bytes that Redis keeps for its subscribers because they do not read.
fn unread_bytes(redis: &Redis) -> u64 {
    let clients = redis.client().command(&["CLIENT", "LIST", "TYPE", "pubsub"]).text();
    let memory = clients.split_whitespace().filter_map(|word| word.strip_prefix("omem="));
    memory.map(|bytes| bytes.parse::<u64>().expect("a number")).sum()
}

#[test]
fn a_shard_that_hangs_delays_nobody_else_and_its_clients_are_told_what_they_lost() {
    let mut world = World::with(|builder| builder.env("TRUNKLINE_MESH_DELIVERIES_MAX", MESH));
    world.fixture().bare_users(1..=CLIENTS);
    let mut clients: Vec<Client> =
        (1..=CLIENTS).map(|number| Client::open(&world, User(number))).collect();
    world.await_subscriptions(CLIENTS as usize);
    world.redis.await_subscribers("timeline:public", 1);

    let elsewhere = world.server.metric_with("trunkline_connections", r#"shard="0""#);
    assert!(elsewhere > 0.0 && elsewhere < CLIENTS as f64, "all clients are on one shard");
    let frozen = Frozen::thread(&mut world.server, "shard-1");
    publish(&world.redis, 0..1);
    let mut served: Vec<Client> = Vec::new();
    eventually("everybody on the other shard gets the event", || {
        served.extend(clients.extract_if(.., Client::has_news));
        (served.len() as f64 == elsewhere).then_some(())
    });
    let mut waiting = clients;
    for begin in (0..EVENTS).step_by(MESH / 2) {
        let chunk = begin.max(1)..begin + MESH / 2;
        publish(&world.redis, chunk.clone());
        for client in &mut served {
            let due = if begin == 0 { 0..chunk.end } else { chunk.clone() };
            due.for_each(|number| assert_eq!(client.next(), Some(number)));
        }
    }
    assert_eq!(unread_bytes(&world.redis), 0, "the reader has waited for a shard");
    drop(frozen);

    for client in &mut waiting {
        (0..MESH).for_each(|number| assert_eq!(client.next(), Some(number)));
        assert_eq!(client.next(), None, "events were lost and nobody says so");
    }
    let lost = world.server.metric("trunkline_mesh_dropped_total");
    assert_eq!(lost, (EVENTS - MESH) as f64);
    let told = world.server.metric_with("trunkline_farewells_total", r#"reason="lagged""#);
    assert_eq!(told, waiting.len() as f64);

    let back: Vec<Client> =
        (1..=CLIENTS).map(|number| Client::open(&world, User(number))).collect();
    world.await_subscriptions(served.len() + back.len());
    publish(&world.redis, EVENTS..EVENTS + 1);
    for mut client in served.into_iter().chain(back) {
        assert_eq!(client.next(), Some(EVENTS));
    }
}
