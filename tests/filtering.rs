//! What readers of public timelines do not get, and what is noted on what they get.

mod support;

use std::thread;

use serde_json::{Value, json};
use support::{
    EventStream, Postgres, Redis, ServerBuilder, Special, Status, User, WebSocket, World, status,
};

const PUBLIC: &str = "timeline:public";

/// The next event is this status; returns it.
#[track_caller]
fn expect_status(websocket: &mut WebSocket, id: u64) -> Value {
    let event = websocket.next_event();
    assert_eq!(event.event, "update", "{event:?}");
    let status = event.json();
    assert_eq!(status["id"], id.to_string());
    status
}

/// Publishes a status and then an event that passes every filter; did the status come before it?
#[track_caller]
fn passes(world: &World, websocket: &mut WebSocket, status: &Status) -> bool {
    world.redis.publish_wanted(PUBLIC, status.update());
    world.redis.publish(PUBLIC, status::message("delete", "mark"));
    match websocket.next_event().event.as_str() {
        "delete" => false,
        _ => websocket.next_event().event == "delete",
    }
}

#[test]
fn blocks_mutes_and_domain_blocks_count_for_the_next_event() {
    let world = World::start();
    let fixture = world.fixture();
    fixture.bare_users(1..=3);
    let [me, author, mentioned] = [User(1), User(2), User(3)];
    let mut websocket = WebSocket::open(&world.server, &me.websocket("stream=public"));
    let acct = format!("{}@far.example", author.name());
    let status = Status::new(9).by(author.account(), &acct).mentioning(mentioned.account());
    let pair = |table: &str, from: User, to: User| {
        let columns = "account_id, target_account_id";
        let values = format!("{}, {}", from.account(), to.account());
        format!("insert into {table} ({columns}) values ({values})")
    };
    let me_id = me.account();
    let domain = |name: &str| {
        let columns = "account_id, domain";
        format!("insert into account_domain_blocks ({columns}) values ({me_id}, '{name}')")
    };
    let cases = [
        (pair("blocks", me, author), false),
        (pair("blocks", author, me), false),
        (pair("mutes", me, author), false),
        (pair("mutes", author, me), true),
        (pair("blocks", me, mentioned), false),
        (pair("mutes", me, mentioned), false),
        (pair("blocks", mentioned, me), true),
        (domain("far.example"), false),
        (domain("example"), true),
        (domain("near.example"), true),
    ];
    for (statement, expected) in cases {
        assert!(passes(&world, &mut websocket, &status), "before {statement}");
        world.database.sql(&statement);
        assert_eq!(passes(&world, &mut websocket, &status), expected, "after {statement}");
        world
            .database
            .sql("delete from blocks; delete from mutes; delete from account_domain_blocks;");
    }
}

#[test]
fn only_updates_on_public_and_hashtag_streams_are_filtered() {
    let world = World::start();
    world.fixture().bare_users(1..=2);
    let [me, author] = [User(1), User(2)];
    world.database.sql(&format!(
        "insert into blocks (account_id, target_account_id) values ({}, {})",
        me.account(),
        author.account()
    ));
    let mut websocket = WebSocket::open(&world.server, &me.websocket(""));
    for stream in ["user", "public", "direct", "public:local"] {
        websocket.subscribe(json!({"stream": stream}));
    }
    websocket.subscribe(json!({"stream": "list", "list": me.list().to_string()}));
    websocket.subscribe(json!({"stream": "hashtag", "tag": "x"}));
    let status = Status::new(9).by(author.account(), "user2");
    let direct = format!("timeline:direct:{}", me.account());
    let list = format!("timeline:list:{}", me.list());
    for channel in [me.home(), direct, list] {
        world.redis.publish_wanted(&channel, status.update());
        let status = expect_status(&mut websocket, 9);
        assert!(status.get("filtered").is_none(), "annotated on {channel}");
    }
    for channel in [PUBLIC, "timeline:public:local", "timeline:hashtag:x"] {
        for event in ["update", "status.update"] {
            world.redis.publish_wanted(channel, status.message(event));
        }
        world.redis.publish(channel, status.message("somewhat.new"));
        assert_eq!(websocket.next_event().event, "somewhat.new", "{channel}");
    }
}

#[test]
fn readers_get_the_languages_that_they_chose() {
    let world = World::start();
    let reader = world.fixture().special(Special::Languages);
    let mut websocket = WebSocket::open(&world.server, &reader.websocket("stream=public"));
    let cases = [
        (json!("de"), true),
        (json!("fr"), true),
        (json!("en"), false),
        (json!("de-CH"), false),
        (Value::Null, false),
    ];
    for (language, expected) in cases {
        let status = Status::new(9).set("language", language.clone());
        assert_eq!(passes(&world, &mut websocket, &status), expected, "{language}");
    }
}

#[test]
fn keyword_filters_annotate_until_they_are_changed_or_expire() {
    let world = World::start();
    let fixture = world.fixture();
    fixture.bare_users(1..=2);
    fixture.filter(71, User(1), "Cats", &[("cat", true)]);
    let mut websocket = WebSocket::open(&world.server, &User(1).websocket("stream=public"));
    let mut events = EventStream::open(&world.server, "/api/v1/streaming/public", &User(1).token());
    let mut other = WebSocket::open(&world.server, &User(2).websocket("stream=public"));
    world.await_subscriptions(3);
    let status = Status::new(9).text("<p>A Cat and a concatenation</p>");
    let publish = || world.redis.publish_wanted(PUBLIC, status.update());
    publish();
    let filtered = expect_status(&mut websocket, 9)["filtered"].clone();
    assert_eq!(
        filtered,
        json!([{
            "filter": {
                "id": "71",
                "title": "Cats",
                "context": ["home", "public"],
                "expires_at": null,
                "filter_action": "warn"
            },
            "keyword_matches": ["Cat"],
            "status_matches": null
        }])
    );
    let data: Value = serde_json::from_str(&events.next_event().1).expect("JSON");
    assert_eq!(data["filtered"], filtered);
    assert_eq!(expect_status(&mut other, 9)["filtered"], json!([]));

    world.database.sql("update custom_filters set expires_at = now() - interval '1 minute'");
    world.redis.publish_wanted(&User(1).system_channel(), r#"{"event":"filters_changed"}"#);
    publish();
    assert_eq!(expect_status(&mut websocket, 9)["filtered"], json!([]));
}

#[test]
fn a_verdict_on_public_costs_three_queries_for_two_thousand_readers() {
    const READERS: u64 = 2000;
    let world = World::start();
    let fixture = world.fixture();
    fixture.bare_users(1..=READERS);
    let author = User(150_000);
    world.database.sql(&relations_of_tenths(READERS, author));
    world.database.sql("analyze");
    let mut websockets: Vec<WebSocket> = (1..=READERS)
        .map(|number| WebSocket::open(&world.server, &User(number).websocket("stream=public")))
        .collect();
    world.await_subscriptions(READERS as usize);
    let status = Status::new(1)
        .by(author.account(), "far@far.example")
        .text("<p>A cat</p>")
        .set("language", json!("en"));
    let mark = || world.redis.publish_wanted(PUBLIC, status::message("delete", "mark"));
    // The first event also fetches the custom filters, which stay cached. Tokens of those who have
    // just opened may still be looked up again beside it.
    world.database.reset_statements();
    world.redis.publish_wanted(PUBLIC, status.update());
    mark();
    for websocket in &mut websockets {
        while websocket.next_event().event != "delete" {}
    }
    let first = world.database.statements_about("blocks|mutes|custom_filters");
    assert!((1..=3).contains(&first), "{first} statements for the first event");
    world.database.reset_statements();
    world.redis.publish_wanted(PUBLIC, status.update());
    mark();
    for (number, websocket) in (1..).zip(&mut websockets) {
        let event = websocket.next_event();
        let withheld = matches!(number % 10, 1..=5);
        let expected = if withheld { "delete" } else { "update" };
        assert_eq!(event.event, expected, "reader {number}");
        if !withheld {
            let matches = event.json()["filtered"].as_array().map(Vec::len);
            assert_eq!(matches, Some(usize::from(number % 10 == 6)), "reader {number}");
            assert_eq!(websocket.next_event().event, "delete", "reader {number}");
        }
    }
    // Now and then the server asks whether Postgres answers.
    let probes = world.database.statements_about("^select t.id::int8");
    let statements = world.database.statements() - probes;
    assert!((1..=3).contains(&statements), "{statements} statements for one event");
}

/// Of ten readers each, one blocks the author, one is blocked, one mutes, one blocks the domain,
/// one reads German only, one filters cats, and four do nothing.
fn relations_of_tenths(readers: u64, author: User) -> String {
    let me = "110000000000000000 + i * 1000003";
    let author = author.account();
    let from =
        |tenth: u32| format!("from generate_series(1, {readers}::bigint) i where i % 10 = {tenth}");
    format!(
        "insert into blocks (account_id, target_account_id) select {me}, {author} {};
         insert into blocks (account_id, target_account_id) select {author}, {me} {};
         insert into mutes (account_id, target_account_id) select {me}, {author} {};
         insert into account_domain_blocks (account_id, domain) select {me}, 'far.example' {};
         update users set chosen_languages = '{{de}}' where (id - 1000) % 10 = 5;
         insert into custom_filters (id, account_id, phrase, context)
           select i, {me}, 'Cats', '{{public}}' {};
         insert into custom_filter_keywords (custom_filter_id, keyword) select i, 'cat' {};",
        from(1),
        from(2),
        from(3),
        from(4),
        from(6),
        from(6),
    )
}

#[test]
fn a_delete_never_overtakes_its_update() {
    let world = World::start();
    let user = world.fixture().user(1);
    let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=public"));
    world.redis.await_subscribers(PUBLIC, 1);
    let database = world.database.clone();
    // Verdicts have to wait now and then, deletes never need one.
    let slow = thread::spawn(move || {
        for _ in 0..5 {
            database.sql(
                "begin; lock table blocks in access exclusive mode; select pg_sleep(0.1); commit;",
            );
        }
    });
    let mut redis = world.redis.client();
    for id in 0..300_u64 {
        redis.publish(PUBLIC, Status::new(id).update());
        redis.publish(PUBLIC, status::message("status.update", Status::new(id).0));
        redis.publish(PUBLIC, status::message("delete", id.to_string()));
    }
    slow.join().expect("the locks");
    for id in 0..300_u64 {
        expect_status(&mut websocket, id);
        assert_eq!(websocket.next_event().event, "status.update");
        let event = websocket.next_event();
        assert_eq!((event.event.as_str(), event.payload), ("delete", id.to_string()));
    }
}

#[test]
fn what_cannot_be_checked_is_withheld_and_counted_and_nobody_is_dropped() {
    let redis = Redis::start();
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let user = support::Fixture { database: &database }.user(1);
    let server = ServerBuilder::new(&redis, &database).start();
    let mut websocket = WebSocket::open(&server, &user.websocket("stream=public"));
    websocket.subscribe(json!({"stream": "user"}));
    redis.publish_wanted(PUBLIC, Status::new(1).update());
    expect_status(&mut websocket, 1);
    postgres.stop();
    redis.publish(PUBLIC, Status::new(2).update());
    redis.publish(PUBLIC, status::message("delete", "mark"));
    assert_eq!(websocket.next_event().payload, "mark");
    assert!(
        server.metric("trunkline_withheld_total") + server.metric("trunkline_unjudged_total") > 0.0
    );
    redis.publish_wanted(&user.home(), Status::new(3).update());
    expect_status(&mut websocket, 3);
    assert_eq!(server.get("/api/v1/streaming/health").text(), "OK");
    let late = server.get("/api/v1/streaming/user?access_token=tok-1");
    assert!(matches!(late.status, 500 | 503), "{late:?}");
    postgres.resume();
    server.await_metric("trunkline_postgres_connected", |connections| connections > 0.0);
    support::eventually("a checked event", || {
        redis.publish(PUBLIC, Status::new(4).update());
        redis.publish(PUBLIC, status::message("delete", "mark"));
        (websocket.next_event().event == "update").then(|| websocket.next_event())
    });
}

#[test]
fn statuses_that_cannot_be_checked_end_nothing() {
    let world = World::start();
    let user = world.fixture().user(1);
    let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=public"));
    let broken = [
        Status::new(1).set("account", Value::Null),
        Status::new(1).set("account", json!({"id": "x", "username": "a", "acct": "a@b"})),
        Status::new(1).set("account", json!({"id": 5.5, "username": "a", "acct": "a@b"})),
        Status(json!([1, 2])),
        Status(json!("text")),
        Status(json!(7)),
    ];
    for status in broken {
        assert!(!passes(&world, &mut websocket, &status), "{status:?}");
    }
    let mut bare = Status::new(2);
    for key in ["mentions", "media_attachments", "tags", "poll", "emojis"] {
        bare.0.as_object_mut().expect("an object").remove(key);
    }
    assert!(passes(&world, &mut websocket, &bare));
    let nulls = Status::new(3).set("mentions", Value::Null).set("media_attachments", Value::Null);
    assert!(passes(&world, &mut websocket, &nulls));
}
