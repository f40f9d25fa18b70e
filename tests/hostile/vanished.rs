//! Clients that are gone without having said so: no FIN, no reset, nothing acknowledged.

use super::absent::Absent;
use super::support::{EventStream, Request, User, World, status};

const COUNT: usize = 5;
const FAREWELLS: &str = "trunkline_farewells_total";

/// Somebody alive, who is served whatever becomes of the others.
struct Living(EventStream);

impl Living {
    fn new(world: &World) -> Living {
        world.fixture().bare_users(1..=2);
        let token = User(2).token();
        Living(EventStream::open(&world.server, "/api/v1/streaming/user", &token))
    }

    #[track_caller]
    fn assert_served(&mut self, world: &World) {
        world.redis.publish_wanted(&User(2).home(), status::message("delete", "1"));
        assert_eq!(self.0.next_event(), ("delete".to_string(), "1".to_string()));
        assert_eq!(world.server.metric("connected_clients"), 1.0);
    }
}

#[test]
fn a_reader_of_an_event_stream_who_vanished_is_found_by_what_it_does_not_acknowledge() {
    let world = World::with(|builder| {
        builder
            .env("TRUNKLINE_THUMP_INTERVAL_SECS", "0.5")
            .env("TRUNKLINE_UNACKNOWLEDGED_SECS_MAX", 2)
    });
    let mut living = Living::new(&world);
    let bearer = format!("Bearer {}", User(1).token());
    let request = Request::get("/api/v1/streaming/user").header("Authorization", &bearer);
    let _vanished = Absent::vanish(&world.server, COUNT, &request);
    world.await_subscriptions(COUNT + 1);
    world.server.await_metric("connected_clients", |clients| clients == 1.0);
    assert_eq!(world.server.metric_with(FAREWELLS, "unreachable"), COUNT as f64);
    living.assert_served(&world);
}

#[test]
fn a_websocket_whose_client_vanished_is_found_by_its_pings() {
    let world = World::with(|builder| builder.env("TRUNKLINE_PING_INTERVAL_SECS", 2));
    let mut living = Living::new(&world);
    let request = Request::websocket(&User(1).websocket("stream=user"));
    let _vanished = Absent::vanish(&world.server, COUNT, &request);
    world.server.await_metric("connected_clients", |clients| clients == 1.0);
    assert_eq!(world.server.metric_with(FAREWELLS, "ping_timeout"), COUNT as f64);
    living.assert_served(&world);
}
