//! Event streams are read alike by all: npm's `eventsource`, PyPI's `sseclient-py`, Chromium's
//! `EventSource` and a reader written from the standard get the same events, whatever is in a
//! payload, wherever the bytes are cut on their way, and through nginx as it comes.

mod support;

#[path = "sse_clients/hostile.rs"]
mod hostile;
#[path = "sse_clients/nginx.rs"]
mod nginx;
#[path = "sse_clients/readers.rs"]
mod readers;
#[path = "sse_clients/reference.rs"]
mod reference;
#[path = "sse_clients/relay.rs"]
mod relay;

use hostile::{LAST, Shown, events};
use nginx::Nginx;
use readers::{Place, read_alike};
use relay::Relay;
use support::http::find;
use support::{Request, User, World};

/// Each connection through the relay is cut at every so many bytes, each beginning at another one,
/// so that together they are cut everywhere.
const STRIDE: usize = 61;

fn path(user: User) -> String {
    format!("/api/v1/streaming/user?access_token={}", user.token())
}

fn world() -> World {
    let world = World::start();
    world.fixture().user(1);
    world
}

/// Publishes every event; the last one tells readers that all have come.
fn publish(world: &World) {
    let mut redis = world.redis.client();
    for event in events() {
        assert_eq!(redis.publish(&User(1).home(), event.message()), 1, "{event:?}");
    }
}

/// What every reader must have read.
fn expected() -> Vec<Shown> {
    events().iter().filter_map(hostile::Event::shown).collect()
}

/// The body of the answer to one reader, byte for byte, to its end.
fn recorded() -> Vec<u8> {
    let world = world();
    let mut socket = world.server.connect();
    socket.send(Request::get(&path(User(1))).bytes());
    world.await_subscriptions(1);
    publish(&world);
    world.redis.publish_wanted(&User(1).token_channel(), r#"{"event":"kill"}"#);
    while socket.read_more() {}
    let head_length = find(&socket.received, b"\r\n\r\n").expect("a head") + 4;
    socket.received.split_off(head_length)
}

#[test]
fn the_standards_reader_gets_every_event_and_nothing_that_clients_choke_on() {
    let read = reference::read(&recorded()).expect("a stream as it should be");
    assert_eq!(read.iter().map(Shown::of).collect::<Vec<_>>(), expected());
}

#[test]
fn every_reader_gets_the_same_events_wherever_the_bytes_are_cut() {
    let world = world();
    let relay = Relay::start(world.server.port());
    let way = |name: String, cuts: &str| Place {
        port: relay.port(),
        path: format!("{}&cuts={cuts}", path(User(1))),
        name,
    };
    let mut ways = vec![way("in one piece".into(), "0,0"), way("byte by byte".into(), "0,1")];
    let phases = (1..=STRIDE).map(|phase| (phase, format!("{phase},{STRIDE}")));
    ways.extend(phases.map(|(phase, cuts)| way(format!("cut at {phase}"), &cuts)));
    read_alike(&world, &ways);
}

#[test]
fn every_reader_gets_every_event_at_once_through_nginx_as_it_comes() {
    let world = world();
    let nginx = Nginx::start(world.server.port());
    let ways: Vec<Place> = ["/", "/keep-alive/", "/gzip/"]
        .map(|location| Place {
            port: nginx.port(),
            path: format!("{}{}", location.trim_end_matches('/'), path(User(1))),
            name: format!("through nginx at {location}"),
        })
        .into();
    read_alike(&world, &ways);
}

#[test]
fn the_last_event_is_told_by_its_name() {
    let last = events().pop().and_then(|event| event.shown()).expect("an event");
    assert_eq!(last.event, LAST);
}
