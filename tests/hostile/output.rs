//! Standard output that takes nothing: a pipe that nobody reads or whose reader is gone, a full
//! disk, and none at all. The server goes on, and counts the lines that are lost.

use super::support::{
    Fixture, Postgres, Redis, Request, Server, ServerBuilder, Socket, WebSocket, eventually, status,
};

const LOST: &str = "trunkline_log_lines_lost_total";
/// Lines of some 300 bytes for all of which a pipe has no room.
const REQUESTS: usize = 1000;

fn builder(redis: &Redis, database: &super::support::Database) -> ServerBuilder {
    ServerBuilder::new(redis, database).env("LOG_LEVEL", "debug")
}

fn script() -> String {
    format!("{}/tests/hostile/output.py", env!("CARGO_MANIFEST_DIR"))
}

/// Every request is a line in the log, from both shards at once.
#[track_caller]
fn make_it_talk(server: &Server) {
    let mut sockets: Vec<Socket> = (0..10).map(|_| server.connect()).collect();
    for _ in 0..REQUESTS / sockets.len() {
        for socket in &mut sockets {
            socket.send(Request::get("/api/v1/streaming/health").bytes());
        }
        for socket in &mut sockets {
            assert_eq!(socket.response().text(), "OK");
        }
    }
}

#[track_caller]
fn assert_serves(server: &Server, redis: &Redis, database: &super::support::Database) {
    let user = Fixture { database }.user(1);
    let mut websocket = WebSocket::open(server, &user.websocket("stream=user"));
    redis.publish_wanted(&user.home(), status::message("delete", "1"));
    assert_eq!(websocket.next_event().payload, "1");
}

#[test]
fn a_pipe_that_nobody_reads_or_that_is_broken_costs_lines_and_nothing_else() {
    for mode in ["hold", "break"] {
        let (redis, database) = (Redis::start(), Postgres::shared().database());
        let through = builder(&redis, &database).through(&["python3", &script(), mode]);
        let mut server = through.start();
        server.await_log("Ready", |log| log.contains(r#""msg":"Ready""#).then_some(()));
        make_it_talk(&server);
        assert_serves(&server, &redis, &database);
        let lost = server.metric(LOST);
        assert!(lost > 100.0, "{mode}: {lost} lines lost");
    }
}

#[test]
fn a_full_disk_or_a_closed_standard_output_costs_lines_and_nothing_else() {
    for (redirection, loses) in [(">/dev/full", true), (">&-", false)] {
        let (redis, database) = (Redis::start(), Postgres::shared().database());
        let run = format!(r#"exec "$@" {redirection}"#);
        let server = builder(&redis, &database).through(&["sh", "-c", &run, "sh"]).launch();
        eventually("somebody answers", || {
            std::net::TcpStream::connect(("127.0.0.1", server.port())).ok()
        });
        make_it_talk(&server);
        assert_serves(&server, &redis, &database);
        // What was closed is /dev/null from the first moment on, and never somebody's socket.
        let lost = server.metric(LOST);
        assert_eq!(lost > REQUESTS as f64, loses, "{redirection}: {lost} lines lost");
    }
}
