//! A kernel that refuses what it usually grants: strace(1) answers system calls in its place.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::observer::Observer;
use super::support::{Request, Socket, Status, User, WebSocket, World, eventually};

/// System calls of a process that fail until this is dropped.
struct Refusal(Child);

impl Refusal {
    /// `what` as strace(1) writes it: `accept4:error=EMFILE:when=1..3`. Each thread counts.
    #[track_caller]
    fn of(pid: u32, what: &[String]) -> Refusal {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-p", &pid.to_string()]);
        let calls: Vec<&str> = what.iter().filter_map(|one| one.split(':').next()).collect();
        command.args(["-e", &format!("trace={}", calls.join(","))]);
        command.args(what.iter().flat_map(|one| ["-e".to_string(), format!("inject={one}")]));
        let refusal = Refusal(command.stdin(Stdio::null()).spawn().expect("strace is installed"));
        eventually("every thread is traced", || {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
            let mut statuses = tasks.map(|task| fs::read_to_string(task.path().join("status")));
            statuses
                .all(|text| text.is_ok_and(|text| !text.contains("TracerPid:\t0")))
                .then_some(())
        });
        refusal
    }
}

impl Drop for Refusal {
    fn drop(&mut self) {
        // Told to, it lets go of the process; killed, it might leave it stopped.
        let pid = Pid::from_raw(self.0.id() as i32).expect("a process id");
        let _ = kill_process(pid, Signal::INT);
        let _ = self.0.wait();
    }
}

#[test]
fn whatever_accept_says_clients_are_let_in_as_soon_as_it_says_otherwise() {
    let mut world = World::with(|builder| builder.env("TRUNKLINE_KEEP_ALIVE_SECS_MAX", 600));
    let mut observer = Observer::of(&mut world.server);
    let pid = world.server.process().id();
    let failures = "trunkline_accept_failures_total";
    for (error, label) in [
        ("ECONNABORTED", "gone"),
        ("EPROTO", "gone"),
        ("EMFILE", "descriptors"),
        ("ENFILE", "descriptors"),
        ("ENOBUFS", "memory"),
        ("ENOMEM", "memory"),
        ("EINVAL", "other"),
    ] {
        let before = observer.metric(failures, label);
        let refusal = Refusal::of(pid, &[format!("accept4:error={error}:when=1..3")]);
        let mut sockets: Vec<Socket> = (0..8).map(|_| world.server.connect()).collect();
        for socket in &mut sockets {
            socket.send(Request::get("/api/v1/streaming/health").bytes());
            let status = socket.response().status;
            assert!(
                status == 200 || (label == "descriptors" && status == 503),
                "{error}: {status}"
            );
        }
        drop(refusal);
        assert!(observer.metric(failures, label) > before, "{error} is not counted as {label}");
    }
}

#[test]
fn who_cannot_be_watched_is_told_to_come_back() {
    let mut world = World::start();
    let pid = world.server.process().id();
    // The limit of watches (fs.epoll.max_user_watches) is reached.
    let refusal = Refusal::of(pid, &["epoll_ctl:error=ENOSPC:when=1..4".to_string()]);
    let mut statuses: Vec<u16> = (0..12)
        .map(|_| {
            let mut socket = world.server.connect();
            socket.send(Request::get("/api/v1/streaming/health").bytes());
            socket.response().status
        })
        .collect();
    drop(refusal);
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [200, 503]);
    assert!(world.server.metric_with("trunkline_accept_failures_total", "epoll") >= 4.0);
}

#[test]
fn what_a_kernel_without_memory_did_not_send_is_sent_in_order_and_ends_nobody() {
    const EVENTS: usize = 60;
    let mut world = World::start();
    world.fixture().bare_users(1..=1);
    let mut readers: Vec<WebSocket> =
        (0..6).map(|_| WebSocket::open(&world.server, &User(1).websocket("stream=user"))).collect();
    world.await_subscriptions(readers.len());
    let pid = world.server.process().id();
    // The connections to Redis and Postgres have nothing to say meanwhile.
    let refused = ["sendto:error=ENOBUFS:when=2+3", "sendmsg:error=ENOMEM:when=2+3"];
    let refusal = Refusal::of(pid, &refused.map(String::from));
    let mut redis = world.redis.client();
    for id in 0..EVENTS {
        redis.publish(&User(1).home(), Status::new(id as u64).update());
    }
    for reader in &mut readers {
        for id in 0..EVENTS {
            assert_eq!(reader.next_event().json()["id"], json!(id.to_string()));
        }
    }
    drop(refusal);
    assert_eq!(world.server.metric_with("trunkline_farewells_total", "socket_error"), 0.0);
    assert_eq!(world.server.metric("connected_clients"), readers.len() as f64);
}
