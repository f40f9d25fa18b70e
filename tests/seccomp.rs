//! Under system call filters: that of Mastodon's stock unit, which kills, and that of container
//! engines, which refuses io_uring.

#![cfg(target_arch = "x86_64")]

mod support;

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use support::{Fixture, Postgres, Redis, ServerBuilder, WebSocket, status};

fn launcher() -> String {
    format!("{}/tests/seccomp/launch.py", env!("CARGO_MANIFEST_DIR"))
}

fn serves_under(filter: &str, change: impl FnOnce(ServerBuilder) -> ServerBuilder) -> String {
    let (redis, database) = (Redis::start(), Postgres::shared().database());
    let user = Fixture { database: &database }.user(1);
    let builder = ServerBuilder::new(&redis, &database).without("TRUNKLINE_PIN");
    let server = change(builder.through(&["python3", &launcher(), filter])).start();
    let mut websocket = WebSocket::open(&server, &user.websocket("stream=user"));
    redis.publish_wanted(&user.home(), status::message("delete", "1"));
    assert_eq!(websocket.next_event().payload, "1");
    server.log()
}

#[test]
fn the_stock_filter_kills_what_pins_or_locks() {
    let run = |program: &[&str]| {
        let mut command = Command::new("python3");
        command.arg(launcher()).arg("stock").args(program).status().expect("run").signal()
    };
    assert_eq!(run(&["taskset", "1", "true"]), Some(31), "sched_setaffinity is not killed");
    assert_eq!(run(&["prlimit", "--nofile=100:100", "true"]), Some(31), "prlimit is not killed");
    assert_eq!(run(&["true"]), None);
}

#[test]
fn the_server_runs_under_the_stock_units_filter() {
    serves_under("stock", |builder| builder);
}

#[test]
fn the_server_runs_on_epoll_where_io_uring_is_refused_and_says_so_once() {
    let log = serves_under("no-io-uring", |builder| builder.without("TRUNKLINE_IO"));
    let warnings: Vec<&str> =
        log.lines().filter(|line| line.contains(r#""level":"warn""#)).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("io_uring") && warnings[0].contains("tuning/"), "{log}");
}
