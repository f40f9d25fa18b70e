//! Redis goes and comes back in every way that it can, or another takes its place: no client
//! notices but for the gap, and nothing herds (promise R7).
//!
//! Each test is the same play: clients read, something happens to Redis or on the way to it, and
//! [`Stage::expect_service`] insists on everything being as it was.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "redis_faults/refusals.rs"]
mod refusals;
#[path = "redis_faults/stage.rs"]
mod stage;
mod support;

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use stage::{COMMANDS, SUBSCRIBER, Stage, Wishes};
use support::redis::Reply;
use support::{
    BLACK_HOLE, Fault, Postgres, Redis, RedisClient, Sentinel, ServerBuilder, User, Way, WebSocket,
    World, eventually, status,
};

#[test]
fn clients_stay_and_events_flow_again_when_redis_is_killed_and_comes_back() {
    let mut stage = Stage::start();
    for round in 1..=3 {
        stage.redis.kill();
        stage.await_loss();
        stage.redis.resume();
        stage.expect_service();
        assert_eq!(stage.gaps(), f64::from(round));
    }
}

#[test]
fn a_half_open_connection_is_found_and_replaced() {
    let mut stage = Stage::start();
    stage.proxy.disturb_both(BLACK_HOLE);
    stage.await_loss();
    assert!(stage.server.log().contains("no sign of life"), "{}", stage.server.log());
    stage.proxy.heal();
    stage.expect_service();
    assert_eq!(stage.gaps(), 1.0);
}

#[test]
fn a_connection_that_is_deaf_one_way_is_found_and_replaced() {
    for way in [Way::ToServer, Way::ToClient] {
        let mut stage = Stage::start();
        stage.proxy.disturb(way, BLACK_HOLE);
        stage.await_loss();
        stage.proxy.heal();
        stage.expect_service();
        assert_eq!(stage.gaps(), 1.0, "{way:?}");
    }
}

#[test]
fn a_redis_that_is_stopped_is_found_and_used_again_when_it_goes_on() {
    let mut stage = Stage::start();
    stage.redis.process().signal(Signal::STOP);
    stage.await_loss();
    stage.redis.process().signal(Signal::CONT);
    stage.expect_service();
    assert_eq!(stage.gaps(), 1.0);
}

#[test]
fn a_reset_connection_is_replaced() {
    let mut stage = Stage::start();
    stage.proxy.reset();
    stage.server.await_metric("trunkline_redis_gaps_total", |gaps| gaps == 1.0);
    stage.expect_service();
    assert_eq!(stage.gaps(), 1.0);
}

#[test]
fn killed_subscriber_connections_are_replaced_and_each_gap_is_counted() {
    let mut stage = Stage::start();
    for round in 1..=3 {
        let killed = stage.admin().command(&["CLIENT", "KILL", "TYPE", "pubsub"]).integer();
        assert_eq!(killed, 1);
        stage.server.await_metric("trunkline_redis_gaps_total", |gaps| gaps == f64::from(round));
        stage.expect_service();
    }
}

#[test]
fn a_slow_and_choppy_way_to_redis_loses_nothing() {
    let mut stage = Stage::start();
    let latency = Duration::from_millis(20);
    stage.proxy.disturb_both(Fault { latency, bytes_per_sec: 4000, slice: 1, black_hole: false });
    for number in 0..10 {
        let message = status::message("delete", format!("{number} {}", "x".repeat(300)));
        stage.redis.publish(&stage.user.home(), message);
    }
    for number in 0..10 {
        let payload = stage.websocket.next_event().payload;
        assert!(payload.starts_with(&format!("{number} x")), "{payload}");
    }
    stage.expect_service();
    assert_eq!(stage.gaps(), 0.0, "{}", stage.server.log());
}

#[test]
fn a_reader_that_stalls_is_cut_off_by_redis_and_comes_back_with_a_gap() {
    let options = ["--client-output-buffer-limit", "pubsub 65536 0 0"];
    let mut stage = Stage::with(Wishes {
        options: &options,
        environment: &[("TRUNKLINE_REDIS_SILENCE_SECS_MAX", "600")],
        ..Wishes::default()
    });
    stage.proxy.disturb(Way::ToClient, BLACK_HOLE);
    let message = status::message("delete", "x".repeat(60_000));
    let mut admin = stage.admin();
    eventually("Redis cuts it off", || {
        (admin.publish(&stage.user.home(), &message) == 0).then_some(())
    });
    stage.proxy.heal();
    stage.server.await_metric("trunkline_redis_gaps_total", |gaps| gaps == 1.0);
    stage.expect_service();
    assert_eq!(stage.gaps(), 1.0);
}

#[test]
fn subscriptions_do_not_wait_for_a_command_connection_that_hangs() {
    let mut stage = Stage::with(Wishes {
        environment: &[("TRUNKLINE_REDIS_SILENCE_SECS_MAX", "600")],
        ..Wishes::default()
    });
    stage.proxy.concern_only(COMMANDS);
    stage.proxy.disturb_both(BLACK_HOLE);
    for tag in ["one", "two"] {
        stage.websocket.subscribe(json!({"stream": "hashtag", "tag": tag}));
        let channel = format!("timeline:hashtag:{tag}");
        stage.redis.publish_wanted(&channel, status::message("delete", tag));
        assert_eq!(stage.websocket.next_event().payload, tag);
    }
    let keys = ["one", "two"].map(|tag| format!("subscribed:timeline:hashtag:{tag}"));
    let mut admin = stage.admin();
    let set = |admin: &mut RedisClient| admin.command(&["EXISTS", &keys[0], &keys[1]]).integer();
    assert_eq!(set(&mut admin), 0);
    stage.proxy.heal();
    eventually("the keys that were left out", || (set(&mut admin) == 2).then_some(()));
    stage.expect_service();
    assert_eq!(stage.gaps(), 0.0);
}

#[test]
fn thousands_of_channels_come_back_in_few_commands_on_few_connections() {
    const TAGS: usize = 3000;
    let mut stage = Stage::with(Wishes {
        environment: &[
            ("TRUNKLINE_SUBSCRIPTIONS_MAX", "20000"),
            ("TRUNKLINE_SUBSCRIPTION_CHANGES_MAX", "20000"),
        ],
        ..Wishes::default()
    });
    for number in 0..TAGS {
        stage.websocket.subscribe(json!({"stream": "hashtag", "tag": format!("t{number}")}));
        // Not too many may wait for the answer about the first.
        if number % 500 == 499 {
            stage.redis.await_subscribers(&format!("timeline:hashtag:t{number}"), 1);
        }
    }
    let mut admin = stage.admin();
    let mut await_all = || {
        eventually("all channels and keys", || {
            let channels = admin.command(&["PUBSUB", "CHANNELS"]).texts().len();
            let keys = admin.command(&["DBSIZE"]).integer();
            // Five of the clients' and two of the system's, which have no keys.
            (channels == TAGS + 7 && keys == TAGS as i64 + 5).then_some(())
        });
    };
    await_all();
    let arrived = [SUBSCRIBER, COMMANDS].map(|link| stage.proxy.arrivals(link).len());
    stage.admin().command(&["FLUSHALL"]);
    stage.admin().command(&["CONFIG", "RESETSTAT"]);
    stage.proxy.reset();
    stage.server.await_metric("trunkline_redis_gaps_total", |gaps| gaps == 1.0);
    await_all();
    stage.expect_service();
    let subscribes = stage.calls("subscribe");
    assert!((6..=12).contains(&subscribes), "{subscribes} times SUBSCRIBE");
    let sets = stage.calls("set");
    assert!((TAGS + 5..=TAGS + 10).contains(&sets), "{sets} times SET");
    let again = [SUBSCRIBER, COMMANDS].map(|link| stage.proxy.arrivals(link).len());
    assert_eq!(again, arrived.map(|count| count + 1));
}

#[test]
fn a_reply_may_be_cut_at_every_byte() {
    let mut stage = Stage::with(Wishes {
        environment: &[("TRUNKLINE_RECONNECT_SECS_MAX", "0.005")],
        ..Wishes::default()
    });
    // The log-in, all confirmations, and an event on each channel.
    let length = stage.proxy.said(SUBSCRIBER);
    assert!(length > 500, "{length}");
    stage.proxy.concern_only(SUBSCRIBER);
    stage.proxy.cut_later_each_time();
    stage.proxy.reset();
    let (mut admin, mut sent) = (stage.admin(), 0);
    eventually("a cut at every byte", || {
        sent += 1;
        admin.publish(&stage.user.home(), status::message("delete", format!("cut {sent}")));
        (stage.proxy.next_cut() > length).then_some(())
    });
    stage.proxy.heal();
    // Some came through, in order and whole.
    stage.expect_service();
    assert!(stage.gaps() > 0.0);
}

#[test]
fn what_is_wanted_while_redis_is_away_is_subscribed_on_its_return() {
    let mut world = World::start();
    let user = world.fixture().user(1);
    let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=user"));
    websocket.subscribe(json!({"stream": "hashtag", "tag": "before"}));
    world.redis.await_subscribers("timeline:hashtag:before", 1);
    world.redis.kill();
    websocket.unsubscribe(json!({"stream": "hashtag", "tag": "before"}));
    websocket.subscribe(json!({"stream": "hashtag", "tag": "after"}));
    websocket.barrier();
    world.redis.resume();
    world.redis.publish_wanted("timeline:hashtag:after", status::message("delete", "1"));
    assert_eq!(websocket.next_event().stream, ["hashtag", "after"]);
    world.redis.await_subscribers("timeline:hashtag:before", 0);
}

#[test]
fn redis_is_subscribed_to_exactly_what_somebody_wants() {
    let world = World::start();
    world.fixture().bare_users(1..=20);
    let mut websockets: Vec<WebSocket> = (1..=20)
        .map(|number| WebSocket::open(&world.server, &User(number).websocket("stream=public")))
        .collect();
    for (number, websocket) in (0..).zip(&mut websockets) {
        websocket.subscribe(json!({"stream": "hashtag", "tag": format!("t{}", number % 3)}));
        websocket.barrier();
    }
    let mut redis = world.redis.client();
    for tag in ["t0", "t1", "t2"] {
        redis.await_subscribers(&format!("timeline:hashtag:{tag}"), 1);
    }
    websockets.truncate(1);
    let user = User(1);
    let mut expected = vec![
        "timeline:public".to_string(),
        "timeline:hashtag:t0".to_string(),
        user.token_channel(),
        user.system_channel(),
    ];
    expected.sort();
    eventually("the channels of the one that is left", || {
        (redis.channels() == expected).then_some(())
    });
    websockets.clear();
    eventually("no channels", || redis.channels().is_empty().then_some(()));
}

#[test]
fn a_sentinel_leads_to_the_new_master() {
    let mut master = Redis::start();
    let of = master.port().to_string();
    let replica = Redis::start_with(&["--replicaof", &format!("127.0.0.1 {of}")]);
    let sentinel = Sentinel::start("mymaster", master.port());
    let database = Postgres::shared().database();
    let user = support::Fixture { database: &database }.user(1);
    let server = ServerBuilder::new(&master, &database)
        .without("REDIS_HOST")
        .without("REDIS_PORT")
        .env("REDIS_SENTINELS", format!("127.0.0.1:{}", sentinel.port()))
        .env("REDIS_SENTINEL_MASTER", "mymaster")
        .start();
    let mut websocket = WebSocket::open(&server, &user.websocket("stream=user"));
    master.publish_wanted(&user.home(), status::message("delete", "1"));
    assert_eq!(websocket.next_event().payload, "1");
    eventually("the sentinel knows the replica", || {
        let reply = sentinel.client().command(&["SENTINEL", "replicas", "mymaster"]);
        matches!(reply, Reply::Array(replicas) if !replicas.is_empty()).then_some(())
    });
    master.kill();
    // The sentinel disconnects the clients of the one that it promotes.
    eventually("the subscription at the new master", || {
        let reply = RedisClient::try_command(replica.port(), &["PUBSUB", "NUMSUB", &user.home()])?;
        matches!(reply, Reply::Array(pair) if pair[1] == Reply::Integer(1)).then_some(())
    });
    replica.publish(&user.home(), status::message("delete", "2"));
    assert_eq!(websocket.next_event().payload, "2");
    match replica.client().command(&["ROLE"]) {
        Reply::Array(role) => assert_eq!(role[0].text(), "master"),
        other => panic!("{other:?}"),
    }
}
