//! Clients that stop reading: the others get everything in order, memory stays within the bound
//! that the limits add up to, and then they are sent away.

use serde_json::json;

use super::absent::Absent;
use super::observer::Observer;
use super::support::{Request, Status, User, WebSocket, World};

/// Outboxes small enough to be filled in seconds.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;
/// About what a published status has.
const STATUS_BYTES: usize = 4096;
const FAREWELLS: &str = "trunkline_farewells_total";
const MIB: usize = 1024 * 1024;

/// Nobody is sent away but for what waits for them.
fn world() -> World {
    let world = World::with(|builder| {
        builder
            .env("TRUNKLINE_OUTBOX_BYTES_MAX", OUTBOX_BYTES_MAX)
            .env("TRUNKLINE_OUTBOX_BLOCKED_SECS_MAX", 600)
            .env("TRUNKLINE_UNACKNOWLEDGED_SECS_MAX", 600)
            .env("TRUNKLINE_PING_INTERVAL_SECS", 600)
            .env("TRUNKLINE_KEEP_ALIVE_SECS_MAX", 600)
    });
    world.fixture().bare_users(1..=1000);
    world
}

fn status(id: usize) -> String {
    Status::new(id as u64).text(&"x".repeat(STATUS_BYTES)).update()
}

/// What was seen while all of `count` stalled readers were sent away.
struct Seen {
    growth: usize,
    waiting: usize,
}

/// Publishes round after round, to `channels`, until every stalled reader is gone; after each round
/// the healthy readers must have read all of it in order.
#[track_caller]
fn stall(world: &mut World, count: usize, stream: &str, channels: &[String]) -> Seen {
    let query = format!("stream={stream}");
    let mut healthy: Vec<WebSocket> =
        (0..10).map(|_| WebSocket::open(&world.server, &User(1).websocket(&query))).collect();
    let mut observer = Observer::of(&mut world.server);
    let token = if stream == "user" { "tok-NUMBER" } else { "tok-1" };
    let target = format!("/api/v1/streaming?{query}&access_token={token}");
    let _absent = Absent::stall(&world.server, count, &Request::websocket(&target));
    world.await_subscriptions(count + healthy.len());
    let before = observer.resident_bytes();
    let mut seen = Seen { growth: 0, waiting: 0 };
    let mut redis = world.redis.client();
    for round in 0..100 {
        for id in (0..5).map(|index| round * 5 + index) {
            for channel in channels {
                redis.publish(channel, status(id));
            }
            for websocket in &mut healthy {
                assert_eq!(websocket.next_event().json()["id"], json!(id.to_string()));
            }
        }
        seen.growth = seen.growth.max(observer.resident_bytes().saturating_sub(before));
        seen.waiting = seen.waiting.max(observer.metric("trunkline_outbox_bytes", "") as usize);
        if observer.metric(FAREWELLS, "outbox_full") == count as f64 {
            assert_eq!(observer.metric("connected_clients", ""), healthy.len() as f64);
            assert_eq!(observer.metric("trunkline_outbox_bytes", ""), 0.0);
            return seen;
        }
    }
    panic!("{} of {count} were sent away", observer.metric(FAREWELLS, "outbox_full"));
}

#[test]
fn a_thousand_stalled_readers_of_one_stream_hold_its_events_once() {
    const COUNT: usize = 1000;
    let mut world = world();
    let seen = stall(&mut world, COUNT, "public", &["timeline:public".to_string()]);
    println!(
        "{COUNT} stalled on public: {} MiB waiting, {} MiB of memory",
        seen.waiting / MIB,
        seen.growth / MIB
    );
    assert!(seen.waiting > COUNT * OUTBOX_BYTES_MAX / 2, "{} bytes waited", seen.waiting);
    assert!(seen.waiting <= COUNT * OUTBOX_BYTES_MAX, "{} bytes waited", seen.waiting);
    // Each outbox is a list of pointers, of which at most half is empty; the frames are there once
    // for each shard.
    let pointers = 2 * 8 * OUTBOX_BYTES_MAX / STATUS_BYTES;
    let bound = COUNT * (512 + pointers) + 2 * OUTBOX_BYTES_MAX + 8 * MIB;
    assert!(seen.growth <= bound, "{} bytes, and {bound} were promised", seen.growth);
}

#[test]
fn stalled_readers_of_streams_of_their_own_hold_no_more_than_their_outboxes() {
    const COUNT: usize = 200;
    let mut world = world();
    let channels: Vec<String> = (1..=COUNT as u64).map(|number| User(number).home()).collect();
    let seen = stall(&mut world, COUNT, "user", &channels);
    println!(
        "{COUNT} stalled on user: {} MiB waiting, {} MiB of memory",
        seen.waiting / MIB,
        seen.growth / MIB
    );
    assert!(seen.waiting > COUNT * OUTBOX_BYTES_MAX / 2, "{} bytes waited", seen.waiting);
    assert!(seen.waiting <= COUNT * OUTBOX_BYTES_MAX, "{} bytes waited", seen.waiting);
    // An eighth more for what the allocator rounds up.
    let bound = COUNT * OUTBOX_BYTES_MAX * 9 / 8 + 8 * MIB;
    assert!(seen.growth <= bound, "{} bytes, and {bound} were promised", seen.growth);
}

#[test]
fn who_takes_nothing_for_too_long_is_sent_away_however_little_waits() {
    let world = World::with(|builder| builder.env("TRUNKLINE_OUTBOX_BLOCKED_SECS_MAX", 1));
    world.fixture().bare_users(1..=1);
    let mut healthy = WebSocket::open(&world.server, &User(1).websocket("stream=user"));
    let request = Request::websocket(&User(1).websocket("stream=user"));
    let _websockets = Absent::stall(&world.server, 10, &request);
    let bearer = format!("Bearer {}", User(1).token());
    let request = Request::get("/api/v1/streaming/user").header("Authorization", &bearer);
    let _event_streams = Absent::stall(&world.server, 10, &request);
    world.await_subscriptions(21);
    let mut redis = world.redis.client();
    // More than the kernel holds for them, and much less than an outbox.
    for id in 0..60 {
        redis.publish(&User(1).home(), status(id));
        assert_eq!(healthy.next_event().json()["id"], json!(id.to_string()));
    }
    world.server.await_metric("connected_clients", |clients| clients == 1.0);
    assert_eq!(world.server.metric_with(FAREWELLS, "write_blocked"), 20.0);
}
