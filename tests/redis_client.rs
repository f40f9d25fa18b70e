//! The connections to Redis against the real thing: what is asked for arrives, and whatever happens
//! to the server, everything is asked for again.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "redis_client/core.rs"]
mod core;
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use rustix::process::Signal;
use trunkline::config::redis::{HostPort, RedisTarget};
use trunkline::config::{Limits, RedisConfig, Secret};
use trunkline::io::redis::RedisEvent;

use crate::core::{Core, at, to};
use crate::support::{Redis, Sentinel};

const HOME: &str = "timeline:7";
const KEY: &str = "subscribed:timeline:7";

/// Asks for the home channel, publishes, and expects the message.
#[track_caller]
fn expect_messages(core: &mut Core, redis: &Redis) {
    core.want(HOME);
    core.settle();
    assert_eq!(redis.publish(HOME, "x"), 1);
    assert_eq!(core.next_message(), (HOME.to_owned(), "x".to_owned()));
}

fn impatient() -> Limits {
    Limits {
        redis_silence_secs_max: Duration::from_millis(200),
        redis_connect_secs_max: Duration::from_millis(400),
        ..Limits::default()
    }
}

#[test]
fn what_is_wanted_arrives_and_its_key_is_set_and_left_to_expire() {
    let redis = Redis::start();
    let mut core = Core::new(&at("127.0.0.1", redis.port()));
    core.want("timeline:system:7");
    expect_messages(&mut core, &redis);
    let mut client = redis.client();
    let expiry = client.command(&["TTL", KEY]).integer();
    assert!((1000..=1080).contains(&expiry), "{expiry}");
    assert_eq!(client.command(&["GET", KEY]).text(), "1");
    assert_eq!(client.command(&["EXISTS", "subscribed:timeline:system:7"]).integer(), 0);
    assert_eq!(client.channels(), [HOME, "timeline:system:7"]);

    core.unwant(HOME);
    core.until("only one is left", |core| core.interest.joined() == 1);
    core.turn();
    core.until("unsubscribed", |core| {
        core.interest.confirmed_since(&core::channel(HOME)).is_none()
    });
    client.await_subscribers("timeline:system:7", 1);
    core.until("the end is confirmed", |core| {
        core.events.iter().filter(|event| matches!(event, RedisEvent::Confirmed { .. })).count()
            == 3
    });
    assert_eq!(client.channels(), ["timeline:system:7"]);
    assert_eq!(client.command(&["EXISTS", KEY]).integer(), 1);
    assert_eq!(core.stats().messages, 1);
    assert_eq!(core.stats().gaps, 0);
}

#[test]
fn a_namespace_stands_before_channels_and_keys_and_is_taken_off() {
    let redis = Redis::start();
    let config = RedisConfig { namespace: Some("m".to_owned()), ..at("127.0.0.1", redis.port()) };
    let mut core = Core::new(&config);
    core.want(HOME);
    core.settle();
    assert_eq!(redis.publish("m:timeline:7", "x"), 1);
    assert_eq!(core.next_message(), (HOME.to_owned(), "x".to_owned()));
    let key = ["EXISTS", "m:subscribed:timeline:7"];
    assert_eq!(redis.client().command(&key).integer(), 1);
}

#[test]
fn keys_are_set_in_the_database_that_was_configured() {
    let redis = Redis::start();
    let mut core = Core::new(&RedisConfig { database: 3, ..at("127.0.0.1", redis.port()) });
    expect_messages(&mut core, &redis);
    let mut client = redis.client();
    assert_eq!(client.command(&["EXISTS", KEY]).integer(), 0);
    client.command(&["SELECT", "3"]);
    assert_eq!(client.command(&["EXISTS", KEY]).integer(), 1);
}

#[test]
fn a_unix_socket_serves_as_well() {
    let redis = Redis::start();
    let mut core = Core::new(&to(RedisTarget::Unix(redis.socket().into())));
    expect_messages(&mut core, &redis);
}

#[test]
fn a_name_is_looked_up_and_all_its_addresses_are_tried() {
    // `localhost` is ::1 first on most machines; Redis listens on 127.0.0.1 only.
    let redis = Redis::start();
    let mut core = Core::new(&at("localhost", redis.port()));
    expect_messages(&mut core, &redis);
}

#[test]
fn ipv6_serves_as_well() {
    let redis = Redis::start_with(&["--bind", "127.0.0.1", "::1"]);
    let mut core = Core::new(&at("::1", redis.port()));
    expect_messages(&mut core, &redis);
}

#[test]
fn a_user_with_a_password_logs_in() {
    let redis = Redis::start();
    redis.client().command(&["ACL", "SETUSER", "herd", "on", ">s3cret", "&*", "~*", "+@all"]);
    redis.client().command(&["ACL", "SETUSER", "default", "resetpass", "on", "nopass"]);
    let mut core = Core::new(&RedisConfig {
        user: Some("herd".to_owned()),
        password: Some(Secret::new("s3cret")),
        ..at("127.0.0.1", redis.port())
    });
    expect_messages(&mut core, &redis);
    let users = redis.client().command(&["CLIENT", "LIST", "TYPE", "pubsub"]).text();
    assert!(users.contains("user=herd"), "{users}");
}

#[test]
fn a_wrong_password_is_told_once_without_the_password_and_tried_again() {
    let redis = Redis::start();
    let mut admin = redis.client();
    admin.command(&["ACL", "SETUSER", "herd", "on", ">other", "&*", "~*", "+@all"]);
    let mut core = Core::new(&RedisConfig {
        user: Some("herd".to_owned()),
        password: Some(Secret::new("s3cret")),
        ..at("127.0.0.1", redis.port())
    });
    core.until("a trouble", |core| !core.troubles().is_empty());
    for _ in 0..50 {
        core.turn();
    }
    let [trouble] = core.troubles()[..] else { panic!("{:?}", core.troubles()) };
    assert!(trouble.contains("the password is refused: WRONGPASS"), "{trouble}");
    assert!(!trouble.contains("s3cret"));
    assert!(core.stats().disconnected_since.is_some());
    admin.command(&["ACL", "SETUSER", "herd", ">s3cret"]);
    expect_messages(&mut core, &redis);
    assert_eq!(core.stats().disconnected_since, None);
}

#[test]
fn a_missing_password_is_told() {
    let redis = Redis::start_with(&["--requirepass", "s3cret"]);
    let mut core = Core::new(&at("127.0.0.1", redis.port()));
    core.until("a trouble", |core| !core.troubles().is_empty());
    assert!(core.troubles()[0].contains("a password is needed: NOAUTH"), "{:?}", core.troubles());
}

#[test]
fn a_password_that_nobody_asked_for_does_no_harm() {
    let redis = Redis::start();
    let config =
        RedisConfig { password: Some(Secret::new("s3cret")), ..at("127.0.0.1", redis.port()) };
    expect_messages(&mut Core::new(&config), &redis);
}

#[test]
fn a_redis_that_is_not_there_is_told_once_and_found_when_it_comes() {
    let mut redis = Redis::start();
    redis.kill();
    let mut core = Core::new(&at("127.0.0.1", redis.port()));
    core.want(HOME);
    core.until("a trouble", |core| !core.troubles().is_empty());
    for _ in 0..50 {
        core.turn();
    }
    let port = redis.port();
    let refused = format!("127.0.0.1:{port}: connect: Connection refused (os error 111)");
    assert_eq!(core.troubles(), [refused]);
    redis.resume();
    expect_messages(&mut core, &redis);
    assert_eq!((core.stats().gaps, core.stats().reconnects), (0, 0));
}

#[test]
fn after_a_kill_and_a_restart_every_subscription_and_every_key_is_back() {
    let mut redis = Redis::start();
    let mut core = Core::new(&at("127.0.0.1", redis.port()));
    (0..1500).for_each(|number| core.want(&format!("timeline:{number}")));
    core.settle();
    redis.kill();
    core.until("the loss", |core| !core.losses().is_empty());
    assert!(core.stats().disconnected_since.is_some());
    redis.resume();
    core.settle();
    let mut client = redis.client();
    assert_eq!(client.channels().len(), 1500);
    core.until("all keys are set", |_| client.command(&["DBSIZE"]).integer() == 1500);
    expect_messages(&mut core, &redis);
    assert_eq!((core.stats().gaps, core.stats().reconnects), (1, 1));
}

#[test]
fn a_killed_subscriber_connection_comes_back() {
    let redis = Redis::start();
    let mut core = Core::new(&at("127.0.0.1", redis.port()));
    expect_messages(&mut core, &redis);
    redis.client().command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    core.until("the loss", |core| !core.losses().is_empty());
    assert_eq!(core.losses(), ["the server closed the connection"]);
    expect_messages(&mut core, &redis);
    assert_eq!(core.stats().gaps, 1);
}

#[test]
fn lost_keys_of_a_killed_command_connection_are_set_again_without_a_gap() {
    let redis = Redis::start();
    let mut core = Core::new(&at("127.0.0.1", redis.port()));
    expect_messages(&mut core, &redis);
    let mut client = redis.client();
    client.command(&["FLUSHALL"]);
    client.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    core.until("the key is back", |_| client.command(&["EXISTS", KEY]).integer() == 1);
    assert_eq!(core.stats().gaps, 0);
}

#[test]
fn a_subscriber_that_redis_cuts_off_in_the_middle_of_a_message_comes_back() {
    let redis = Redis::start();
    let limit = ["CONFIG", "SET", "client-output-buffer-limit", "pubsub 100000 0 0"];
    redis.client().command(&limit);
    let mut core = Core::new(&at("127.0.0.1", redis.port()));
    expect_messages(&mut core, &redis);
    // The core is not turned meanwhile, so that Redis has to hold what the kernel refuses.
    let mut client = redis.client();
    while client.publish(HOME, vec![b'x'; 90_000]) == 1 {}
    core.until("the loss", |core| !core.losses().is_empty());
    core.messages.clear();
    expect_messages(&mut core, &redis);
    assert_eq!(core.stats().gaps, 1);
}

#[test]
fn a_redis_that_hangs_is_noticed_and_used_again_when_it_wakes_up() {
    let redis = Redis::start();
    let mut core = Core::with_limits(&at("127.0.0.1", redis.port()), &impatient());
    expect_messages(&mut core, &redis);
    redis.process().signal(Signal::STOP);
    core.until("the loss", |core| !core.losses().is_empty());
    assert!(core.losses()[0].starts_with("no sign of life"), "{:?}", core.losses());
    redis.process().signal(Signal::CONT);
    core.settle();
    redis.await_subscribers(HOME, 1);
    expect_messages(&mut core, &redis);
}

#[test]
fn silence_alone_is_no_loss() {
    let redis = Redis::start();
    let mut core = Core::with_limits(&at("127.0.0.1", redis.port()), &impatient());
    expect_messages(&mut core, &redis);
    let mut client = redis.client();
    let pings = |client: &mut support::RedisClient| {
        let stats = client.command(&["INFO", "commandstats"]).text();
        let line = stats.lines().find(|line| line.starts_with("cmdstat_ping:")).map(str::to_owned);
        let calls = line.unwrap_or_default();
        let calls = calls.split(['=', ',']).nth(1).and_then(|calls| calls.parse().ok());
        calls.unwrap_or(0_u32)
    };
    core.until("ten signs of life", |_| pings(&mut client) >= 12);
    assert_eq!(core.stats().gaps, 0);
    assert!(core.losses().is_empty() && core.troubles().is_empty());
    expect_messages(&mut core, &redis);
}

#[test]
fn a_flood_arrives_whole_and_in_order() {
    const COUNT: usize = 20_000;
    let redis = Redis::start();
    // On a busy test machine Redis might cut a subscriber off that gets no processor.
    redis.client().command(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0"]);
    let mut core = Core::new(&at("127.0.0.1", redis.port()));
    expect_messages(&mut core, &redis);
    let port = redis.port();
    let publisher = std::thread::spawn(move || {
        let mut client = support::RedisClient::connect(port);
        for chunk in 0..COUNT / 100 {
            for number in chunk * 100..(chunk + 1) * 100 {
                let message = format!("{number}:{}", "x".repeat(4000));
                client.send(&["PUBLISH", HOME, &message]);
            }
            for _ in 0..100 {
                client.read();
            }
        }
    });
    core.until("all messages", |core| core.messages.len() == COUNT);
    publisher.join().unwrap();
    for (number, (_, payload)) in core.messages.iter().enumerate() {
        assert_eq!(payload.split(':').next(), Some(number.to_string().as_str()));
        assert!(payload.len() > 4000);
    }
}

#[test]
fn keys_that_are_refused_are_counted_told_once_and_harm_nothing_else() {
    let (master, replica) = (Redis::start(), Redis::start());
    let port = master.port().to_string();
    replica.client().command(&["REPLICAOF", "127.0.0.1", &port]);
    let mut core = Core::new(&at("127.0.0.1", replica.port()));
    (0..100).for_each(|number| core.want(&format!("timeline:{number}")));
    core.until("refusals", |core| core.stats().refusals == 100);
    let [trouble] = core.troubles()[..] else { panic!("{:?}", core.troubles()) };
    assert!(trouble.contains("READONLY"), "{trouble}");
    core.settle();
    assert_eq!(replica.publish(HOME, "x"), 1);
    assert_eq!(core.next_message().1, "x");
    assert_eq!(core.stats().gaps, 0);
}

#[test]
fn channels_that_the_user_may_not_read_are_told_clearly() {
    let redis = Redis::start();
    let rules = ["ACL", "SETUSER", "herd", "on", ">s3cret", "resetchannels", "~*", "+@all"];
    redis.client().command(&rules);
    let mut core = Core::new(&RedisConfig {
        user: Some("herd".to_owned()),
        password: Some(Secret::new("s3cret")),
        ..at("127.0.0.1", redis.port())
    });
    core.want(HOME);
    core.until("a loss", |core| !core.losses().is_empty());
    assert!(core.losses()[0].contains("subscribing is refused: NOPERM"), "{:?}", core.losses());
    redis.client().command(&["ACL", "SETUSER", "herd", "&*"]);
    expect_messages(&mut core, &redis);
}

#[test]
fn a_cut_at_any_byte_is_a_plain_disconnect() {
    let log_in = b"+OK\r\n+PONG\r\n";
    let wire: &[u8] = b"*3\r\n$9\r\nsubscribe\r\n$10\r\ntimeline:7\r\n:1\r\n\
        *3\r\n$7\r\nmessage\r\n$10\r\ntimeline:7\r\n$5\r\nhello\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Each subscriber connection is cut one byte later than the one before.
    let server = std::thread::spawn(move || {
        let mut cut = 0;
        while cut <= wire.len() {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1024];
            let count = stream.read(&mut head).unwrap();
            stream.write_all(log_in).unwrap();
            if head[..count].windows(8).any(|window| window == b"commands") {
                std::thread::spawn(move || accept_keys(stream));
                continue;
            }
            let _ = stream.read(&mut head);
            stream.write_all(&wire[..cut]).unwrap();
            cut += 1;
        }
    });
    let reconnect_secs_max = Duration::from_millis(1);
    let limits = Limits { reconnect_secs_max, ..Limits::default() };
    let mut core = Core::with_limits(&at("127.0.0.1", port), &limits);
    core.want(HOME);
    let cuts = wire.len() as u64 + 1;
    core.until("all cuts", |core| core.stats().gaps >= cuts);
    server.join().unwrap();
    assert_eq!(core.messages, [(HOME.to_owned(), "hello".to_owned())]);
}

/// Says yes to every `SET`, until the connection ends.
fn accept_keys(mut stream: TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        let sets = bytes[..count].windows(3).filter(|window| window == b"SET").count();
        let _ = stream.write_all(&b"+OK\r\n".repeat(sets));
    }
}

#[test]
fn what_does_not_speak_redis_is_told_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let mut streams = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
            streams.push(stream);
        }
    });
    let mut core = Core::new(&at("127.0.0.1", port));
    core.until("a trouble", |core| !core.troubles().is_empty());
    assert!(core.troubles()[0].contains("not RESP2"), "{:?}", core.troubles());
    core.until("both", |_| server.is_finished());
}

fn sentinels(ports: &[u16]) -> RedisConfig {
    let sentinels =
        ports.iter().map(|port| HostPort { host: "127.0.0.1".to_owned(), port: *port }).collect();
    let (user, password) = (None, None);
    to(RedisTarget::Sentinel { sentinels, master: "herd".to_owned(), user, password })
}

#[test]
fn the_master_is_found_through_whichever_sentinel_answers() {
    let redis = Redis::start();
    let other = Redis::start();
    let knows = Sentinel::start("herd", redis.port());
    let knows_another = Sentinel::start("flock", other.port());
    let dead = support::ports::Port::take();
    let mut core = Core::new(&sentinels(&[dead.number(), knows_another.port(), knows.port()]));
    expect_messages(&mut core, &redis);
}

#[test]
fn without_a_helpful_sentinel_the_trouble_names_each() {
    let other = Redis::start();
    let knows_another = Sentinel::start("flock", other.port());
    let dead = support::ports::Port::take();
    let mut core = Core::new(&sentinels(&[dead.number(), knows_another.port()]));
    core.until("a trouble", |core| !core.troubles().is_empty());
    let trouble = core.troubles()[0].to_owned();
    assert!(trouble.contains("no sentinel helps to find herd"), "{trouble}");
    assert!(trouble.contains("Connection refused"), "{trouble}");
    assert!(trouble.contains("it does not know the master"), "{trouble}");
}

#[test]
fn a_fail_over_is_followed_to_the_new_master() {
    let (old, new) = (Redis::start(), Redis::start());
    let port = old.port().to_string();
    new.client().command(&["REPLICAOF", "127.0.0.1", &port]);
    let sentinel = Sentinel::start("herd", old.port());
    let mut core = Core::with_limits(&sentinels(&[sentinel.port()]), &impatient());
    expect_messages(&mut core, &old);
    let mut client = sentinel.client();
    // The sentinel takes some seconds to learn of the replica.
    support::eventually("a fail-over begins", || {
        match client.command(&["SENTINEL", "FAILOVER", "herd"]) {
            support::redis::Reply::Error(_) => None,
            _ => Some(()),
        }
    });
    let master = |client: &mut support::RedisClient| {
        client.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "herd"]).texts()[1].clone()
    };
    let expected = new.port().to_string();
    core.until("the new master", |_| master(&mut client) == expected);
    let mut at_new = new.client();
    core.until("subscribed there", |_| at_new.subscribers(HOME) == 1);
    core.settle();
    assert_eq!(new.publish(HOME, "there"), 1);
    core.until("the message", |core| core.messages.iter().any(|(_, text)| text == "there"));
    core.until("the key", |_| at_new.command(&["EXISTS", KEY]).integer() == 1);
}

#[test]
fn a_master_that_becomes_a_replica_unnoticed_is_left() {
    let (old, new) = (Redis::start(), Redis::start());
    let sentinel = Sentinel::start("herd", old.port());
    let mut core = Core::with_limits(&sentinels(&[sentinel.port()]), &impatient());
    expect_messages(&mut core, &old);
    // No sentinel cuts the connections here: only ROLE tells.
    let port = new.port().to_string();
    old.client().command(&["REPLICAOF", "127.0.0.1", &port]);
    core.until("a loss", |core| !core.losses().is_empty());
    core.until("a trouble", |core| {
        core.troubles().iter().any(|trouble| trouble.contains("not the master but a slave"))
    });
}
