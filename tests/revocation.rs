//! A revoked token or a suspended account ends every connection, at whatever moment it comes.

mod support;

use std::thread;
use std::time::Duration;

use serde_json::json;
use support::{EventStream, Message, Request, User, WebSocket, World, status};

const KILL: &str = r#"{"event":"kill"}"#;

#[test]
fn a_kill_on_either_channel_ends_websockets_and_event_streams() {
    let world = World::start();
    for (number, by_token) in [(1, true), (2, false)] {
        let user = world.fixture().user(number);
        let other = world.fixture().user(number + 10);
        let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=user"));
        let mut bare = WebSocket::open(&world.server, &user.websocket(""));
        let path = "/api/v1/streaming/public";
        let mut events = EventStream::open(&world.server, path, &user.token());
        let mut untouched = WebSocket::open(&world.server, &other.websocket("stream=user"));
        let channel = if by_token { user.token_channel() } else { user.system_channel() };
        world.redis.publish_wanted(&channel, KILL);
        assert_eq!(websocket.closed(), (None, String::new()));
        assert_eq!(bare.closed(), (None, String::new()));
        events.ended();
        world.redis.publish_wanted(&other.home(), status::message("delete", "1"));
        assert_eq!(untouched.next_event().payload, "1");
    }
}

#[test]
fn a_kill_spares_other_tokens_of_the_account_and_a_system_kill_does_not() {
    let world = World::start();
    let user = world.fixture().user(1);
    world.database.sql(&format!(
        "insert into oauth_access_tokens (id, token, resource_owner_id, scopes)
         values (77, 'second', {}, 'read')",
        user.id()
    ));
    let mut first = WebSocket::open(&world.server, &user.websocket("stream=user"));
    let target = "/api/v1/streaming?stream=user&access_token=second";
    let mut second = WebSocket::open(&world.server, target);
    world.redis.await_subscribers("timeline:access_token:77", 1);
    world.redis.publish_wanted(&user.token_channel(), KILL);
    assert_eq!(first.closed().0, None);
    world.redis.publish_wanted(&user.home(), status::message("delete", "1"));
    assert_eq!(second.next_event().payload, "1");
    world.redis.publish_wanted(&user.system_channel(), KILL);
    assert_eq!(second.closed().0, None);
}

#[test]
fn nothing_follows_a_kill() {
    let world = World::start();
    let user = world.fixture().user(1);
    let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=user"));
    world.redis.await_subscribers(&user.home(), 1);
    world.redis.await_subscribers(&user.token_channel(), 1);
    let mut redis = world.redis.client();
    redis.publish(&user.token_channel(), KILL);
    redis.publish(&user.home(), status::message("delete", "late"));
    assert_eq!(websocket.next(), Message::Close(None, String::new()));
    // An event that was on its way may not come after the close frame either.
    websocket.socket.send(support::websocket::client_frame(0x88, &[]));
    assert_eq!(websocket.next_frame(), Message::End);
}

#[test]
fn unknown_system_events_end_nobody() {
    let world = World::start();
    let user = world.fixture().user(1);
    let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=user"));
    for message in [r#"{"event":"filters_changed"}"#, r#"{"event":"new"}"#, "[]", "kill", ""] {
        world.redis.publish_wanted(&user.system_channel(), message);
        world.redis.publish_wanted(&user.token_channel(), message);
    }
    world.redis.publish_wanted(&user.home(), status::message("delete", "1"));
    assert_eq!(websocket.next_event().payload, "1");
}

#[test]
fn a_revocation_at_any_moment_of_connecting_ends_the_connection() {
    const THREADS: u64 = 8;
    const TRIALS: u64 = 40;
    let world = World::start();
    world.fixture().bare_users(1..=THREADS * TRIALS);
    thread::scope(|scope| {
        for lane in 0..THREADS {
            let world = &world;
            scope.spawn(move || {
                for trial in 0..TRIALS {
                    let user = User(1 + lane * TRIALS + trial);
                    revoke_while_connecting(world, user, trial % 2 == 0);
                }
            });
        }
    });
}

/// One thread revokes as Rails does (the row first, then the message); the other connects at some
/// moment of that. Whatever the order: the client is refused or sent away.
fn revoke_while_connecting(world: &World, user: User, websocket: bool) {
    thread::scope(|scope| {
        let revocation = scope.spawn(move || {
            world.database.sql(&format!(
                "update oauth_access_tokens set revoked_at = now() where id = {}",
                user.token_id()
            ));
            world.redis.publish(&user.token_channel(), KILL);
        });
        thread::sleep(Duration::from_micros(fastrand::u64(0..40_000)));
        if websocket {
            let request = Request::websocket(&user.websocket("stream=user"));
            match WebSocket::request(&world.server, &request) {
                Ok(mut websocket) => assert_eq!(websocket.closed(), (None, String::new())),
                Err(refused) => assert_eq!(refused.status, 401),
            }
        } else {
            let target = format!("/api/v1/streaming/user?access_token={}", user.token());
            match EventStream::request(&world.server, &Request::get(&target)) {
                Ok(mut events) => events.ended(),
                Err(refused) => assert_eq!(refused.status, 401),
            }
        }
        revocation.join().expect("the revocation");
    });
}

#[test]
fn a_suspension_at_any_moment_of_connecting_ends_the_connection() {
    let world = World::start();
    world.fixture().bare_users(1..=60);
    for number in 1..=60 {
        let user = User(number);
        thread::scope(|scope| {
            let world = &world;
            scope.spawn(move || {
                let account = user.account();
                world
                    .database
                    .sql(&format!("update accounts set suspended_at = now() where id = {account}"));
                world.redis.publish(&user.system_channel(), KILL);
            });
            thread::sleep(Duration::from_micros(fastrand::u64(0..40_000)));
            let request = Request::websocket(&user.websocket("stream=user"));
            match WebSocket::request(&world.server, &request) {
                Ok(mut websocket) => assert_eq!(websocket.closed(), (None, String::new())),
                Err(refused) => assert_eq!(refused.status, 401),
            }
        });
    }
}

#[test]
fn a_kill_while_redis_is_away_is_noticed_when_it_returns() {
    let mut world = World::start();
    let [gone, stays] = [1, 2].map(|number| world.fixture().user(number));
    let mut websockets = [gone, stays].map(|user| {
        let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=user"));
        websocket.subscribe(json!({"stream": "public"}));
        world.redis.await_subscribers(&user.token_channel(), 1);
        websocket
    });
    world.redis.kill();
    world.database.sql(&format!(
        "update oauth_access_tokens set revoked_at = now() where id = {}",
        gone.token_id()
    ));
    world.redis.resume();
    assert_eq!(websockets[0].closed(), (None, String::new()));
    world.redis.publish_wanted(&stays.home(), status::message("delete", "1"));
    assert_eq!(websockets[1].next_event().payload, "1");
}
