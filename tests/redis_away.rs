//! Redis goes and comes back, or another takes its place: no client notices but for the gap.

mod support;

use serde_json::json;
use support::redis::Reply;
use support::{
    EventStream, Postgres, Redis, RedisClient, Sentinel, ServerBuilder, User, WebSocket, World,
    status,
};

#[test]
fn clients_stay_and_events_flow_again_when_redis_is_killed_and_comes_back() {
    let mut world = World::start();
    let user = world.fixture().user(1);
    let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=user"));
    websocket.subscribe(json!({"stream": "hashtag", "tag": "Caturday"}));
    websocket.subscribe(json!({"stream": "list", "list": user.list().to_string()}));
    let mut events = EventStream::open(&world.server, "/api/v1/streaming/direct", &user.token());
    let channels = [
        user.home(),
        user.notifications(),
        "timeline:hashtag:caturday".to_string(),
        format!("timeline:list:{}", user.list()),
        format!("timeline:direct:{}", user.account()),
    ];
    for round in 0..3 {
        for channel in &channels {
            world.redis.await_subscribers(channel, 1);
        }
        world.redis.await_subscribers(&user.token_channel(), 1);
        world.redis.await_subscribers(&user.system_channel(), 1);
        let mut redis = world.redis.client();
        for channel in &channels {
            let key = format!("subscribed:{channel}");
            assert_eq!(redis.command(&["GET", &key]).text(), "1", "{key}");
            let left = redis.command(&["TTL", &key]).integer();
            assert!((1..=1080).contains(&left), "{key} expires in {left} s");
        }
        for channel in &channels[..4] {
            redis.publish(channel, status::message("delete", format!("{round} {channel}")));
            assert_eq!(websocket.next_event().payload, format!("{round} {channel}"));
        }
        redis.publish(&channels[4], status::message("conversation", json!({"id": "1"})));
        assert_eq!(events.next_event().0, "conversation");

        world.redis.kill();
        world.server.await_metric("trunkline_redis_connected", |connected| connected == 0.0);
        assert_eq!(world.server.get("/api/v1/streaming/health").text(), "OK");
        assert_eq!(websocket.barrier(), Vec::<String>::new());
        world.redis.resume();
    }
    assert!(world.server.metric("trunkline_redis_gaps_total") >= 3.0);
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
    support::eventually("the channels of the one that is left", || {
        (redis.channels() == expected).then_some(())
    });
    websockets.clear();
    support::eventually("no channels", || redis.channels().is_empty().then_some(()));
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
    support::eventually("the sentinel knows the replica", || {
        let reply = sentinel.client().command(&["SENTINEL", "replicas", "mymaster"]);
        matches!(reply, Reply::Array(replicas) if !replicas.is_empty()).then_some(())
    });
    master.kill();
    // The sentinel disconnects the clients of the one that it promotes.
    support::eventually("the subscription at the new master", || {
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
