//! Redis is there and says no.

use std::fs;

use serde_json::json;

use super::stage::{COMMANDS, SUBSCRIBER, Stage, Wishes};
use super::support::{Redis, RedisClient, eventually, status};

/// Redis refuses to set keys, with this word, and events flow on: also those of a channel that
/// is subscribed meanwhile, and of everything after a reconnect. Events are published at `source`.
#[track_caller]
fn expect_events_without_keys(stage: &mut Stage, word: &str, source: u16) {
    stage.websocket.subscribe(json!({"stream": "hashtag", "tag": word}));
    let channel = format!("timeline:hashtag:{}", word.to_lowercase());
    stage.admin().await_subscribers(&channel, 1);
    RedisClient::connect(source).publish(&channel, status::message("delete", word));
    while stage.websocket.next_event().payload != word {}
    let told = "setting keys subscribed:… is refused";
    eventually("it is told", || stage.server.log().contains(told).then_some(()));
    let log = stage.server.log();
    assert!(log.contains(word), "{log}");
    assert!(stage.server.metric("trunkline_redis_refusals_total") >= 1.0);
    // Signs of life are asked for meanwhile, and answered.
    let pings = stage.calls("ping");
    eventually("signs of life", || (stage.calls("ping") >= pings + 4).then_some(()));
    assert_eq!(stage.gaps(), 0.0, "{log}");
    stage.server.await_missing(&[]);

    stage.proxy.reset();
    stage.server.await_metric("trunkline_redis_gaps_total", |gaps| gaps == 1.0);
    stage.await_subscriptions();
    stage.server.await_missing(&[]);
    assert_eq!(stage.gaps(), 1.0);
    assert_eq!(stage.server.log().matches(told).count(), 1, "{}", stage.server.log());
}

/// The key of what was subscribed while keys were refused is set in the end.
#[track_caller]
fn await_late_key(stage: &Stage, word: &str) {
    let key = format!("subscribed:timeline:hashtag:{}", word.to_lowercase());
    let mut admin = stage.admin();
    eventually(&key, || (admin.command(&["EXISTS", &key]).integer() == 1).then_some(()));
}

#[test]
fn a_redis_out_of_memory_carries_events_and_gets_its_keys_when_it_has_room() {
    let mut stage = Stage::start();
    let mut admin = stage.admin();
    admin.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let port = stage.redis.port();
    expect_events_without_keys(&mut stage, "OOM", port);
    admin.command(&["FLUSHALL"]);
    admin.command(&["CONFIG", "SET", "maxmemory", "0"]);
    await_late_key(&stage, "OOM");
    stage.expect_service();
}

#[test]
fn a_redis_that_cannot_save_carries_events_and_gets_its_keys_when_it_can() {
    let options = ["--enable-protected-configs", "yes"];
    let mut stage = Stage::with(Wishes { options: &options, ..Wishes::default() });
    let mut admin = stage.admin();
    // A directory stands where the file should be.
    let directory = admin.command(&["CONFIG", "GET", "dir"]).texts().remove(1);
    fs::create_dir(format!("{directory}/taken")).unwrap();
    let broken = ["CONFIG", "SET", "save", "3600 1", "dbfilename", "taken"];
    assert_eq!(admin.command(&broken).text(), "OK");
    admin.command(&["BGSAVE"]);
    eventually("a failed save", || {
        let info = admin.command(&["INFO", "persistence"]).text();
        info.contains("rdb_last_bgsave_status:err").then_some(())
    });
    let port = stage.redis.port();
    expect_events_without_keys(&mut stage, "MISCONF", port);
    admin.command(&["CONFIG", "SET", "save", ""]);
    await_late_key(&stage, "MISCONF");
    stage.expect_service();
}

#[test]
fn a_redis_that_becomes_a_replica_carries_events_and_gets_its_keys_when_it_is_promoted() {
    let mut stage = Stage::start();
    let master = Redis::start_with(&["--repl-diskless-sync-delay", "0"]);
    let mut admin = stage.admin();
    admin.command(&["REPLICAOF", "127.0.0.1", &master.port().to_string()]);
    eventually("the replica is in step", || {
        let info = admin.command(&["INFO", "replication"]).text();
        info.contains("master_link_status:up").then_some(())
    });
    expect_events_without_keys(&mut stage, "READONLY", master.port());
    admin.command(&["REPLICAOF", "NO", "ONE"]);
    await_late_key(&stage, "READONLY");
    stage.expect_service();
}

#[test]
fn a_redis_that_is_loading_is_waited_for() {
    let options = ["--key-load-delay", "50000", "--loading-process-events-interval-bytes", "1024"];
    let mut stage = Stage::with(Wishes { options: &options, ..Wishes::default() });
    let mut admin = stage.admin();
    for number in 0..60 {
        admin.command(&["SET", &format!("key {number}"), &"x".repeat(100)]);
    }
    assert_eq!(admin.command(&["SAVE"]).text(), "OK");
    stage.redis.kill();
    stage.redis.resume();
    stage.server.await_missing(&["redis"]);
    eventually("it is told why", || stage.server.log().contains("LOADING").then_some(()));
    stage.expect_service();
    let log = stage.server.log();
    assert_eq!(log.matches("LOADING").count(), 1, "{log}");
}

#[test]
fn a_password_that_is_wrong_meanwhile_is_tried_again_and_told_without_its_text() {
    let mut stage = Stage::with(Wishes { password: Some("s3cret"), ..Wishes::default() });
    let mut admin = stage.admin();
    admin.command(&["CONFIG", "SET", "requirepass", "other"]);
    admin.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    admin.command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    stage.await_loss();
    eventually("it is told why", || stage.server.log().contains("WRONGPASS").then_some(()));
    let tried = stage.proxy.arrivals(SUBSCRIBER).len();
    eventually("more attempts", || {
        (stage.proxy.arrivals(SUBSCRIBER).len() > tried + 3).then_some(())
    });
    admin.command(&["CONFIG", "SET", "requirepass", "s3cret"]);
    stage.expect_service();
    let log = stage.server.log();
    assert_eq!(log.matches("WRONGPASS").count(), 1, "{log}");
    assert!(!log.contains("s3cret"), "{log}");
    assert_eq!(stage.gaps(), 1.0);
}

#[test]
fn a_redis_that_refuses_connections_is_tried_ever_more_slowly_and_by_nobody_twice() {
    let mut stage = Stage::start();
    stage.proxy.refuse();
    stage.await_loss();
    eventually("it is told", || stage.server.log().contains("Connection refused").then_some(()));
    stage.proxy.heal();
    stage.expect_service();
    assert_eq!(stage.gaps(), 1.0);
    let log = stage.server.log();
    assert_eq!(log.matches("Connection refused").count(), 1, "{log}");

    // A server that hangs up at once can be seen to be tried.
    let before = [SUBSCRIBER, COMMANDS].map(|link| stage.proxy.arrivals(link).len());
    stage.proxy.cut_later_each_time();
    stage.proxy.reset();
    eventually("seven attempts on each connection", || {
        let now = [SUBSCRIBER, COMMANDS].map(|link| stage.proxy.arrivals(link).len());
        (now[0] >= before[0] + 7 && now[1] >= before[1] + 7).then_some(())
    });
    for (link, before) in [SUBSCRIBER, COMMANDS].into_iter().zip(before) {
        let arrivals = stage.proxy.arrivals(link);
        let pauses: Vec<_> = arrivals[before..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        // Half of 100, 200, 400 and 800 ms at least: the first pause was before the first of them.
        for (pause, least) in pauses.iter().zip([50, 100, 200, 400, 400]) {
            assert!(pause.as_millis() >= least, "{link}: {pauses:?}");
        }
    }
}
