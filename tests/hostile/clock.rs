//! The wall clock jumps, as after a long sleep, a wrong battery, or an administrator's mistake.

use std::fs;
use std::path::PathBuf;

use super::support::{EventStream, Message, Server, User, WebSocket, World, eventually, status};

/// Ten years.
const JUMPS: [&str; 2] = ["+3650d", "-3650d"];
const YEAR_MILLIS: i64 = 365 * 86_400_000;

/// What makes a process believe in another wall clock; the monotonic one stays.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().flatten();
    let mut paths = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    paths.find(|path| path.exists()).expect("faketime is installed")
}

/// The `time` of the server's last line.
fn last_time(server: &Server) -> Option<i64> {
    let log = server.log();
    let line: serde_json::Value = serde_json::from_str(log.lines().last()?).ok()?;
    line["time"].as_i64()
}

#[test]
fn a_jump_of_the_wall_clock_ends_nobody_and_stops_no_deadline() {
    let mut file = None;
    let world = World::with(|builder| {
        let path = builder.directory().join("clock");
        fs::write(&path, "+0").unwrap();
        let builder = builder
            .env("LD_PRELOAD", library().display())
            .env("FAKETIME_TIMESTAMP_FILE", path.display())
            .env("FAKETIME_NO_CACHE", 1)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", 1);
        file = Some(path);
        builder
            .env("LOG_LEVEL", "debug")
            .env("TRUNKLINE_PING_INTERVAL_SECS", 3)
            .env("TRUNKLINE_HEAD_SECS_MAX", 2)
    });
    let file = file.unwrap();
    world.fixture().bare_users(1..=2);
    let mut websocket = WebSocket::open(&world.server, &User(1).websocket("stream=user"));
    let target = "/api/v1/streaming/user";
    let mut stream = EventStream::open(&world.server, target, &User(1).token());
    let begin = last_time(&world.server).expect("a line");
    for (jump, id) in JUMPS.iter().zip(["1", "2"]) {
        fs::write(&file, jump).unwrap();
        eventually("the log has jumped", || {
            world.server.get("/api/v1/streaming/health");
            let moved = last_time(&world.server)? - begin;
            let is_there = moved.signum() == if jump.starts_with('+') { 1 } else { -1 };
            (is_there && moved.abs() > 9 * YEAR_MILLIS).then_some(())
        });
        world.redis.publish_wanted(&User(1).home(), status::message("delete", id));
        assert_eq!(websocket.next_event().payload, id);
        assert_eq!(stream.next_event().1, id);
        // Deadlines still come, and not before their time.
        let mut silent = world.server.connect();
        assert_eq!(silent.response().status, 408);
        while websocket.next_frame() != Message::Ping(Vec::new()) {}
        websocket.barrier();
        drop(WebSocket::open(&world.server, &User(2).websocket("stream=user")));
    }
    let farewells = "trunkline_farewells_total";
    assert_eq!(world.server.metric_with(farewells, "head_timeout"), 2.0);
    assert_eq!(world.server.metric_with(farewells, "ping_timeout"), 0.0);
    assert_eq!(world.server.get("/ready").status, 200);
}
