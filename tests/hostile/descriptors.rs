//! The process has as many files open as it may.

use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use super::observer::Observer;
use super::support::{Fixture, Request, Socket, WebSocket, World, eventually, status};

/// Clients that knock in vain.
const CROWD: usize = 40;

const FAILURES: &str = "trunkline_accept_failures_total";
const REFUSED: &str = "trunkline_handshakes_refused_total";

fn world() -> World {
    World::with(|builder| builder.env("TRUNKLINE_KEEP_ALIVE_SECS_MAX", 600))
}

/// Somebody who is connected already, on `user`.
fn reader(world: &World) -> WebSocket {
    let user = world.fixture().user(1);
    let websocket = WebSocket::open(&world.server, &user.websocket("stream=user"));
    world.await_subscriptions(1);
    websocket
}

#[track_caller]
fn assert_served(world: &World, websocket: &mut WebSocket, id: &str) {
    world.redis.publish_wanted(&super::support::User(1).home(), status::message("delete", id));
    assert_eq!(websocket.next_event().payload, id);
}

fn knock(world: &World) -> Socket {
    let mut socket = world.server.connect();
    socket.send(Request::get("/api/v1/streaming/health").bytes());
    socket
}

#[test]
fn without_descriptors_new_clients_are_told_to_come_back_and_the_others_are_served() {
    let mut world = world();
    let mut websocket = reader(&world);
    let mut observer = Observer::of(&mut world.server);
    let taken = observer.descriptors();
    let limit = taken.iter().max().unwrap() + 1;
    observer.limit_descriptors(limit);
    // Gaps below the limit are filled by those who come first.
    let gaps = limit as usize - taken.len();
    let mut crowd: Vec<Socket> = (0..CROWD + gaps).map(|_| knock(&world)).collect();
    let statuses: Vec<u16> = crowd
        .iter_mut()
        .map(|socket| {
            let response = socket.response();
            let retry_after = response.header("retry-after");
            assert_eq!(retry_after.is_some(), response.status == 503, "{response:?}");
            response.status
        })
        .collect();
    let refused = statuses.iter().filter(|status| **status == 503).count();
    assert!(refused > CROWD / 2, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert_eq!(observer.metric(REFUSED, "no_descriptors"), refused as f64);
    assert!(observer.metric(FAILURES, "descriptors") >= 1.0);
    assert_served(&world, &mut websocket, "1");

    observer.limit_descriptors(10_000);
    eventually("somebody is let in again", || {
        (knock(&world).response().status == 200).then_some(())
    });
}

#[test]
fn a_full_house_leaves_descriptors_for_redis_to_come_back_and_never_runs_out() {
    let world = World::with(|builder| builder.through(&["prlimit", "--nofile=300:300"]));
    let World { server, mut redis, database } = world;
    let user = Fixture { database: &database }.user(1);
    let target = user.websocket("stream=user");
    let answers = (0..250).map(|_| WebSocket::request(&server, &Request::websocket(&target)));
    let (let_in, refused): (Vec<_>, Vec<_>) = answers.partition(Result::is_ok);
    let _silent: Vec<Socket> = (0..200).map(|_| server.connect()).collect();
    let mut websockets: Vec<WebSocket> = let_in.into_iter().flatten().collect();
    assert!(websockets.len() > 50, "{} were let in", websockets.len());
    assert!(refused.iter().all(|answer| matches!(answer, Err(answer) if answer.status == 503)));
    assert!(refused.len() > 50, "{} were refused", refused.len());
    redis.kill();
    server.await_metric("trunkline_redis_connected", |connected| connected == 0.0);
    redis.resume();
    redis.publish_wanted(&user.home(), status::message("delete", "1"));
    for websocket in &mut websockets {
        assert_eq!(websocket.next_event().payload, "1");
    }
    assert_eq!(server.metric(FAILURES), 0.0);
    assert!(server.metric("process_open_fds") < 300.0);
}

#[test]
fn a_door_that_cannot_be_opened_at_all_is_left_alone_until_it_can() {
    let mut world = world();
    let mut websocket = reader(&world);
    let mut observer = Observer::of(&mut world.server);
    // No number that a descriptor kept back could free is below this.
    observer.limit_descriptors(3);
    let mut crowd: Vec<Socket> = (0..CROWD).map(|_| knock(&world)).collect();
    eventually("accepting fails", || {
        (observer.metric(FAILURES, "descriptors") > 0.0).then_some(())
    });
    eventually("it is not ready for more", || {
        (observer.metric("trunkline_ready", "") == 0.0).then_some(())
    });
    let (failures, cpu_secs) = (observer.metric(FAILURES, ""), observer.cpu_secs());
    sleep(Duration::from_secs(3));
    // Two doors, pauses of 10 ms and twice as long each time; without pauses it is tens of
    // thousands.
    let again = observer.metric(FAILURES, "") - failures;
    assert!((1.0..40.0).contains(&again), "tried {again} times in three seconds");
    let spent = observer.cpu_secs() - cpu_secs;
    assert!(spent < 0.3, "{spent} s of CPU time in three seconds");
    assert_served(&world, &mut websocket, "1");
    let log = world.server.log();
    let lines = log.lines().filter(|line| line.contains("Cannot accept a connection")).count();
    assert!((1..=2).contains(&lines), "one line a minute and shard:\n{log}");

    observer.limit_descriptors(10_000);
    for socket in &mut crowd {
        assert_eq!(socket.response().status, 200, "who has waited is served");
    }
    eventually("it is ready again", || {
        (observer.metric("trunkline_ready", "") == 1.0).then_some(())
    });
}

#[test]
fn a_stop_while_the_door_is_left_alone_does_not_spin() {
    let mut world = World::with(|builder| {
        builder.env("TRUNKLINE_KEEP_ALIVE_SECS_MAX", 600).env("TRUNKLINE_DRAIN_SECS", 4)
    });
    let mut websocket = reader(&world);
    let mut observer = Observer::of(&mut world.server);
    observer.limit_descriptors(3);
    let _crowd: Vec<Socket> = (0..CROWD).map(|_| knock(&world)).collect();
    eventually("accepting fails", || {
        (observer.metric(FAILURES, "descriptors") > 0.0).then_some(())
    });
    world.server.signal(Signal::TERM);
    world.server.await_log("Stopping", |log| log.contains("Stopping").then_some(()));
    let cpu_secs = observer.cpu_secs();
    sleep(Duration::from_secs(2));
    let spent = observer.cpu_secs() - cpu_secs;
    assert!(spent < 0.2, "{spent} s of CPU time in two seconds");
    assert_eq!(websocket.closed().0, Some(1001));
}
