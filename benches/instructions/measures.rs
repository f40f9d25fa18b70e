//! What is counted.

use std::hint::black_box;
use std::time::Duration;

use bytes::BytesMut;
use trunkline::config::Limits;
use trunkline::load::plan::{Stream, Transport};
use trunkline::load::status::TEMPLATES;
use trunkline::protocol::event::Event;
use trunkline::protocol::frame::{Body, Wants};
use trunkline::protocol::resp::{Reply, ReplyLimits, encode_command, next_reply};
use trunkline::protocol::sse::THUMP;
use trunkline::protocol::websocket::EMPTY_PING;

use super::count;
use super::world::{CLIENTS, World};

const EACH: usize = CLIENTS as usize;
/// Events that one section delivers to everybody.
const EVENTS: usize = TEMPLATES;
/// Messages that one section parses.
const MESSAGES: usize = 4 * TEMPLATES;

const PUBLIC: Stream = Stream::Public("public");

/// The answer of a client to a ping.
const PONG: [u8; 6] = [0x8a, 0x80, 1, 2, 3, 4];

/// From bytes of Redis to what all readers share.
pub fn messages() {
    let world = World::new(Transport::WebSocket, PUBLIC);
    let mut wire = Vec::new();
    for status in world.statuses(MESSAGES) {
        encode_command(&mut wire, &[b"message", b"timeline:public", &status]);
    }
    let limits = ReplyLimits::new(&Limits::DEFAULT);
    let mut input = BytesMut::from(&wire[..]);
    let mut payloads = Vec::with_capacity(MESSAGES);
    count("message_resp", MESSAGES, "message of 4 KB, read from Redis", || {
        while let Some(Reply::Message { payload, .. }) = next_reply(&mut input, limits).unwrap() {
            payloads.push(payload);
        }
    });
    assert_eq!(payloads.len(), MESSAGES);
    let mut events = Vec::with_capacity(MESSAGES);
    count("message_event", MESSAGES, "status of 4 KB, parsed", || {
        events.extend(payloads.iter().map(|payload| Event::parse(payload, 128).unwrap()));
    });
    let both = Wants { websocket: true, event_stream: true };
    count("message_bodies", MESSAGES, "event, serialised for both transports", || {
        for event in &events {
            black_box(Body::new(event, both, true));
        }
    });
    let mut world = World::full(Transport::WebSocket, Stream::User);
    let channels: Vec<_> = (0..CLIENTS).map(|client| world.channel(client)).collect();
    let statuses = world.statuses(EACH);
    count("message_control", EACH, "event on `user`, from its text to the mesh", || {
        for (channel, status) in channels.iter().zip(&statuses) {
            world.control.redis_message(channel, status);
        }
    });
    assert_eq!(world.answer_all().len(), EACH);
}

/// From the mesh to the sockets.
pub fn deliveries() {
    let one_stream = |name: &str, mut world: World, unit: &str| {
        let channel = world.channel(0);
        let mut deliveries = Vec::new();
        for status in world.statuses(EVENTS) {
            world.control.redis_message(&channel, &status);
            deliveries.append(&mut world.answer_all());
        }
        assert_eq!(deliveries.len(), EVENTS);
        let before = delivered(&mut world);
        count(name, EVENTS * EACH, unit, || world.hand(deliveries));
        let blocked = EVENTS * EACH / 100;
        assert_eq!(delivered(&mut world) - before, EVENTS * EACH - blocked);
    };
    let unit = "reader of an event that 1,000 WebSockets read";
    one_stream("delivery_websocket", World::full(Transport::WebSocket, PUBLIC), unit);
    let unit = "reader of an event that 1,000 event streams read";
    one_stream("delivery_event_stream", World::full(Transport::EventStream, PUBLIC), unit);
    let unit = "reader over WebSocket where a filter of one in 20 matches";
    one_stream("delivery_annotated", World::filtering(1), unit);

    let mut world = World::full(Transport::WebSocket, Stream::User);
    for (client, status) in (0..CLIENTS).zip(world.statuses(EACH)) {
        world.control.redis_message(&world.channel(client), &status);
    }
    let deliveries = world.answer_all();
    let before = delivered(&mut world);
    count("delivery_home", EACH, "event of 4 KB with a single reader", || world.hand(deliveries));
    assert_eq!(delivered(&mut world) - before, EACH);
}

/// What a client costs that comes, subscribes and stays.
pub fn connections() {
    for (name, transport) in [
        ("handshake_websocket", Transport::WebSocket),
        ("handshake_event_stream", Transport::EventStream),
    ] {
        let mut world = World::new(transport, Stream::User);
        let mut requests = world.requests();
        let unit = "connect: head, question, answer and subscription, on both cores";
        count_to_the_end(&mut world, name, EACH, unit, |world| {
            world.admit_all();
            world.request_all(&mut requests);
        });
        let open = world.shard.metrics_mut().clients;
        assert_eq!(open.websocket + open.eventsource, u64::from(CLIENTS));
    }
    let mut world = World::full(Transport::WebSocket, Stream::User);
    let open = world.shard.registry().len();
    for kind in ["subscribe", "unsubscribe"] {
        let text = format!(r#"{{"type":"{kind}","stream":"hashtag","tag":"Caturday"}}"#);
        let frame = text_frame(text.as_bytes());
        let unit = "message of a client about a hashtag";
        count_to_the_end(&mut world, kind, EACH, unit, |world| world.say_all(&frame));
        assert_eq!(world.shard.registry().len(), open + usize::from(kind == "subscribe"));
    }
    let limits = Limits::DEFAULT;
    let unit = "ping of a WebSocket, ticks included";
    sweep("ping", &mut world, (limits.ping_interval_secs, EMPTY_PING.len()), unit);
    count("pong", EACH, "pong of a client", || world.say_all(&PONG));
    let mut world = World::full(Transport::EventStream, Stream::User);
    let unit = "comment of an event stream, ticks included";
    sweep("thump", &mut world, (limits.thump_interval_secs, THUMP.len()), unit);
}

/// From a status on a filtered stream to its verdict.
pub fn verdicts() {
    for (name, keywords) in [("verdict", 0), ("verdict_keywords", 20)] {
        let mut world = World::filtering(keywords);
        let channel = world.channel(0);
        let mut told = 0;
        let unit = match keywords {
            0 => "verdict for 1,000 readers, from its text to the mesh",
            _ => "verdict for 1,000 readers with 20 keywords each",
        };
        for (number, status) in world.statuses(1 + EVENTS).iter().enumerate() {
            // The first one asks for the filters.
            if number == 0 {
                world.control.redis_message(&channel, status);
                world.settle();
                continue;
            }
            count(name, 1, unit, || {
                world.control.redis_message(&channel, status);
                world.control.flush();
            });
            let (_, answers) = world.take_effects();
            count(name, 0, unit, || world.answered(answers));
            told += world.answer_all().len();
        }
        assert_eq!(told, EVENTS);
    }
}

/// Counts what the shard begins and all that follows from it on both cores, but not the database.
fn count_to_the_end(
    world: &mut World,
    name: &str,
    units: usize,
    unit: &str,
    begin: impl FnOnce(&mut World),
) {
    count(name, units, unit, || {
        begin(world);
        world.hear_shard();
    });
    loop {
        let (told, answers) = world.take_effects();
        if told.is_empty() && answers.is_empty() {
            return;
        }
        count(name, 0, unit, || {
            world.hand(told);
            world.answered(answers);
            world.hear_shard();
        });
    }
}

/// A whole interval of keep-alive, in which everybody has their turn once and gets so many bytes.
fn sweep(name: &str, world: &mut World, (interval, bytes): (Duration, usize), unit: &str) {
    let before = world.shard.metrics_mut().bytes_sent;
    count(name, EACH, unit, || world.pass(interval));
    assert_eq!(world.shard.metrics_mut().bytes_sent - before, (EACH * bytes) as u64);
    assert_eq!(world.shard.len(), EACH);
}

fn delivered(world: &mut World) -> usize {
    let sent = world.shard.metrics_mut().messages_sent;
    (sent.websocket + sent.eventsource) as usize
}

/// A masked frame, as clients send it.
fn text_frame(text: &[u8]) -> Vec<u8> {
    let mask = [7, 1, 9, 3];
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap()];
    frame.extend_from_slice(&mask);
    frame.extend(text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
