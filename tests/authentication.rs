//! Who may see what: tokens however they come, scopes, lists, feeds that are closed to most.

mod support;

use serde_json::json;
use support::{EventStream, Request, Special, Status, User, WebSocket, World, eventually, status};

/// The three ways to bring a token.
fn with_token(request: Request, way: usize, token: &str) -> Request {
    match way {
        0 => request.header("Authorization", &format!("Bearer {token}")),
        1 => request.query("access_token", token),
        _ => request.header("Sec-WebSocket-Protocol", token),
    }
}

#[test]
fn a_token_counts_in_each_of_the_three_ways() {
    let world = World::start();
    let user = world.fixture().user(1);
    for way in 0..3 {
        let request = Request::websocket("/api/v1/streaming?stream=user");
        let request = with_token(request, way, &user.token());
        let mut websocket = WebSocket::request(&world.server, &request).expect("101");
        let echoed = websocket.response.header("sec-websocket-protocol").map(ToString::to_string);
        assert_eq!(echoed, (way == 2).then(|| user.token()));
        let request = with_token(Request::get("/api/v1/streaming/user"), way, &user.token());
        let mut events = EventStream::request(&world.server, &request).expect("200");
        world.redis.publish_wanted(&user.home(), status::message("delete", way.to_string()));
        assert_eq!(websocket.next_event().payload, way.to_string());
        assert_eq!(events.next_event(), ("delete".to_string(), way.to_string()));
    }
}

#[test]
fn bad_tokens_are_refused_in_each_of_the_three_ways() {
    let world = World::start();
    for special in [Special::Revoked, Special::Disabled, Special::Suspended] {
        world.fixture().special(special);
    }
    for token in ["unknown", "tok-revoked", "tok-disabled", "tok-suspended"] {
        for way in 0..3 {
            let websocket = Request::websocket("/api/v1/streaming?stream=user");
            let refused = world.server.ask(&with_token(websocket, way, token));
            assert_eq!(refused.status, 401, "{token}");
            assert_eq!(refused.header("x-error-message"), Some("Invalid access token"));
            let events = Request::get("/api/v1/streaming/user");
            let refused = world.server.ask(&with_token(events, way, token));
            assert_eq!(
                (refused.status, refused.text().as_str()),
                (401, r#"{"error":"Invalid access token"}"#)
            );
        }
    }
}

/// Every stream as a subscription and as a path, with the scope besides `read` that opens it.
fn streams(user: User) -> Vec<(serde_json::Value, String, &'static str)> {
    let list = user.list();
    let of = |stream: &str, path: &str, scope| {
        (json!({"stream": stream}), format!("/api/v1/streaming/{path}"), scope)
    };
    let mut streams = vec![
        of("user", "user", "read:statuses"),
        of("user:notification", "user/notification", "read:notifications"),
        of("public", "public", "read:statuses"),
        of("public:media", "public?only_media=true", "read:statuses"),
        of("public:local", "public/local", "read:statuses"),
        of("public:local:media", "public/local?only_media=true", "read:statuses"),
        of("public:remote", "public/remote", "read:statuses"),
        of("public:remote:media", "public/remote?only_media=true", "read:statuses"),
        of("direct", "direct", "read:statuses"),
        of("hashtag", "hashtag?tag=x", "read:statuses"),
        of("hashtag:local", "hashtag/local?tag=x", "read:statuses"),
        of("list", &format!("list?list={list}"), "read:statuses"),
    ];
    for (subscription, _, _) in &mut streams {
        match subscription["stream"].as_str() {
            Some("hashtag" | "hashtag:local") => subscription["tag"] = json!("x"),
            Some("list") => subscription["list"] = json!(list.to_string()),
            _ => {}
        }
    }
    streams
}

#[test]
fn each_scope_opens_exactly_its_streams() {
    let world = World::start();
    let specials = [
        Special::Write,
        Special::ReadStatuses,
        Special::ReadNotifications,
        Special::Profile,
        Special::FeedViewer,
    ];
    for special in specials {
        let user = world.fixture().special(special);
        let scopes = match special {
            Special::ReadStatuses => "read:statuses",
            Special::ReadNotifications => "read:notifications",
            Special::FeedViewer => "read",
            _ => "",
        };
        for (subscription, path, needed) in streams(user) {
            let opens = scopes == "read" || scopes == needed;
            let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
            websocket.subscribe(subscription.clone());
            let error =
                r#"{"error":"Access token does not have the required scopes","status":401}"#;
            match opens {
                true => assert_eq!(websocket.barrier(), Vec::<String>::new(), "{subscription}"),
                false => assert_eq!(websocket.next_text(), error, "{subscription}"),
            }
            let request = Request::get(&path).query("access_token", &user.token());
            let answer = EventStream::request(&world.server, &request).err();
            let status = answer.map(|answer| answer.status);
            assert_eq!(status, (!opens).then_some(401), "{path} with {scopes:?}");
        }
    }
}

#[test]
fn a_user_stream_holds_notifications_only_for_tokens_that_may_see_them() {
    let world = World::start();
    let user = world.fixture().special(Special::ReadStatuses);
    let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=user"));
    world.redis.await_subscribers(&user.home(), 1);
    assert_eq!(world.redis.client().subscribers(&user.notifications()), 0);
    world.redis.publish(&user.notifications(), status::message("notification", json!({"id": "1"})));
    world.redis.publish(&user.home(), status::message("delete", "2"));
    assert_eq!(websocket.next_event().payload, "2");
}

#[test]
fn a_list_opens_for_its_owner_only() {
    let world = World::start();
    let [owner, other] = [1, 2].map(|number| world.fixture().user(number));
    let list = owner.list().to_string();
    let mut websocket = WebSocket::open(&world.server, &owner.websocket(""));
    websocket.subscribe(json!({"stream": "list", "list": list}));
    let channel = format!("timeline:list:{list}");
    world.redis.publish_wanted(&channel, status::message("delete", "7"));
    let event = websocket.next_event();
    assert_eq!(event.stream, ["list".to_string(), list.clone()]);
    let mut stranger = WebSocket::open(&world.server, &other.websocket(""));
    stranger.subscribe(json!({"stream": "list", "list": list}));
    let error = r#"{"error":"Not authorized to stream this list","status":401}"#;
    assert_eq!(stranger.next_text(), error);
    world.redis.publish(&channel, status::message("delete", "8"));
    assert_eq!(websocket.next_event().payload, "8");
    assert_eq!(stranger.barrier(), Vec::<String>::new());
}

#[test]
fn closed_feeds_show_only_to_roles_that_may_view_them() {
    let world = World::start();
    let fixture = world.fixture();
    let (reader, viewer) = (fixture.user(1), fixture.special(Special::FeedViewer));
    fixture.setting("remote_live_feed_access", "disabled");
    fixture.setting("local_topic_feed_access", "disabled");
    let mut websockets = [reader, viewer].map(|user| {
        let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=public"));
        websocket.subscribe(json!({"stream": "hashtag", "tag": "x"}));
        websocket
    });
    world.await_subscriptions(4);
    let remote = Status::new(1);
    let local = Status::new(2).by(7, "bob");
    for channel in ["timeline:public", "timeline:hashtag:x"] {
        world.redis.publish_wanted(channel, remote.update());
        world.redis.publish_wanted(channel, local.update());
    }
    let seen = websockets.each_mut().map(|websocket| {
        world.redis.publish("timeline:public", status::message("delete", "end"));
        world.redis.publish("timeline:hashtag:x", status::message("delete", "end"));
        let mut seen = Vec::new();
        let mut ends = 0;
        while ends < 2 {
            let event = websocket.next_event();
            match event.event.as_str() {
                "delete" => ends += 1,
                _ => seen.push((event.stream[0].clone(), event.json()["id"].clone())),
            }
        }
        seen.sort_by_key(|(stream, id)| format!("{stream} {id}"));
        seen
    });
    let of = |pairs: &[(&str, &str)]| {
        let owned = pairs.iter().map(|(stream, id)| (stream.to_string(), json!(id)));
        owned.collect::<Vec<_>>()
    };
    assert_eq!(seen[0], of(&[("hashtag", "1"), ("public", "2")]));
    assert_eq!(
        seen[1],
        of(&[("hashtag", "1"), ("hashtag", "2"), ("public", "1"), ("public", "2")])
    );
}

#[test]
fn a_thousand_clients_arriving_together_cost_few_queries() {
    const CLIENTS: u64 = 1000;
    let world = World::start();
    world.fixture().bare_users(1..=CLIENTS);
    let mut sockets: Vec<_> = (0..CLIENTS).map(|_| world.server.connect()).collect();
    world.database.reset_statements();
    for (number, socket) in (1..).zip(&mut sockets) {
        socket.send(Request::websocket(&User(number).websocket("stream=user")).bytes());
    }
    for socket in sockets.iter_mut() {
        assert_eq!(socket.response().status, 101);
    }
    eventually("all subscriptions", || {
        (world.redis.client().subscribers(&User(CLIENTS).home()) == 1).then_some(())
    });
    let statements = world.database.statements();
    assert!(statements <= 50, "{statements} statements for {CLIENTS} clients");
}
