//! Clients that want too much, too often, or say too much at once.

use serde_json::{Value, json};

use super::support::websocket::client_frame;
use super::support::{Message, WebSocket, World, eventually, status};

fn tag(number: usize) -> Value {
    json!({"stream": "hashtag", "tag": format!("tag{number}")})
}

/// Somebody who wants nothing but to read.
fn bystander(world: &World) -> WebSocket {
    let user = world.fixture().user(2);
    WebSocket::open(&world.server, &user.websocket("stream=user"))
}

#[track_caller]
fn assert_served(world: &World, bystander: &mut WebSocket) {
    world.redis.publish_wanted(&super::support::User(2).home(), status::message("delete", "1"));
    assert_eq!(bystander.next_event().payload, "1");
}

/// Waits until Redis holds so many channels of hashtags for us.
#[track_caller]
fn await_tags(world: &World, count: usize) {
    let mut redis = world.redis.client();
    eventually(&format!("{count} hashtags"), || {
        let channels = redis.channels();
        let tags = channels.iter().filter(|name| name.starts_with("timeline:hashtag:")).count();
        (tags == count).then_some(())
    });
}

#[test]
fn thousands_of_subscriptions_on_one_connection_end_it_and_leave_nothing_behind() {
    let world = World::start();
    let mut bystander = bystander(&world);
    let user = world.fixture().user(1);
    let mut greedy = WebSocket::open(&world.server, &user.websocket(""));
    (0..256).for_each(|number| greedy.subscribe(tag(number)));
    assert_eq!(greedy.barrier(), Vec::<String>::new());
    await_tags(&world, 256);
    greedy.subscribe(tag(256));
    // Nor is it held what many more of them are, while the first waits for its answer.
    let mut hasty = WebSocket::open(&world.server, &user.websocket(""));
    (0..5000).for_each(|number| hasty.subscribe(tag(number)));
    for websocket in [&mut greedy, &mut hasty] {
        assert_eq!(websocket.closed(), (Some(1008), "Too many subscriptions".to_string()));
    }
    await_tags(&world, 0);
    assert_served(&world, &mut bystander);
}

#[test]
fn a_flood_of_changes_ends_its_connection_and_hammers_neither_redis_nor_anybody_else() {
    let world = World::start();
    let mut bystander = bystander(&world);
    let user = world.fixture().user(1);
    let mut hasty = WebSocket::open(&world.server, &user.websocket(""));
    await_tags(&world, 0);
    let commands = |world: &World| -> f64 {
        let stats = world.redis.client().command(&["INFO", "commandstats"]).text();
        let calls = |name: &str| -> f64 {
            let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:")));
            let calls = line.and_then(|line| line.split(['=', ',']).nth(1));
            calls.map_or(0.0, |calls| calls.parse().unwrap())
        };
        calls("subscribe") + calls("unsubscribe") + calls("set")
    };
    let before = commands(&world);
    let mut numbers = 0..20_000;
    let end = loop {
        for number in numbers.by_ref().take(50) {
            hasty.subscribe(tag(number));
            hasty.unsubscribe(tag(number));
        }
        // As fast as the server takes it, and no faster: what waits for an answer has a bound of
        // its own. An error comes when it is its turn.
        hasty.subscribe(json!({"stream": "nonsense"}));
        match hasty.next() {
            Message::Text(_) => assert!(!numbers.is_empty(), "nobody minds"),
            end => break end,
        }
    };
    assert_eq!(end, Message::Close(Some(1008), "Subscribing too fast".to_string()));
    await_tags(&world, 0);
    // Half of the 1,024 changes that it may make are new hashtags; each is at most a key, a
    // subscription and its end, and Redis gets them in batches.
    let spent = commands(&world) - before;
    assert!(spent <= 3.0 * 512.0 + 64.0, "{spent} commands");
    assert_served(&world, &mut bystander);
    let farewells = "trunkline_farewells_total";
    assert_eq!(world.server.metric_with(farewells, "subscribing_too_fast"), 1.0);
}

#[test]
fn one_channel_that_is_wanted_and_not_wanted_costs_redis_a_request_per_answer() {
    let world = World::with(|builder| builder.env("TRUNKLINE_SUBSCRIPTION_CHANGES_MAX", 65_535));
    let user = world.fixture().user(1);
    let mut fickle = WebSocket::open(&world.server, &user.websocket(""));
    for _ in 0..5000 {
        fickle.subscribe(json!({"stream": "direct"}));
        fickle.unsubscribe(json!({"stream": "direct"}));
    }
    fickle.subscribe(json!({"stream": "direct"}));
    assert_eq!(fickle.barrier(), Vec::<String>::new());
    let direct = format!("timeline:direct:{}", user.account());
    world.redis.client().await_subscribers(&direct, 1);
    let stats = world.redis.client().command(&["INFO", "commandstats"]).text();
    let line = stats.lines().find(|line| line.starts_with("cmdstat_subscribe:")).unwrap();
    let calls: u32 = line.split(['=', ',']).nth(1).unwrap().parse().unwrap();
    assert!(calls < 2500, "{calls} SUBSCRIBEs for 5,000 changes of mind");
}

#[test]
fn a_huge_message_ends_its_connection_before_it_is_held() {
    let world = World::start();
    let mut bystander = bystander(&world);
    let user = world.fixture().user(1);
    let giga = (1_u64 << 30).to_be_bytes();
    let announced = [&[0x81, 0xff][..], &giga, &[1, 2, 3, 4], &[0; 100]].concat();
    let limit = [&[0x01, 0xfe, 0xff, 0xff, 0, 0, 0, 0][..], &[b'x'; 65_535]].concat();
    let in_pieces = [limit, client_frame(0x80, b"and two")].concat();
    for bytes in [announced, in_pieces] {
        let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
        websocket.socket.send(&bytes);
        assert_eq!(websocket.next(), Message::Close(Some(1009), String::new()));
        assert_eq!(websocket.next(), Message::End);
    }
    assert_served(&world, &mut bystander);
}
