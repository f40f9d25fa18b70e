//! What systemd is told (sd_notify(3)), with a socket of the test in its place.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use super::support::process::scratch;
use super::support::{
    Database, Postgres, Redis, Server, ServerBuilder, User, WebSocket, eventually,
};

/// A socket in the place of systemd's.
pub struct Listener {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Listener {
    pub fn bind() -> Listener {
        let directory = scratch("notify");
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        Listener { socket, directory }
    }

    fn path(&self) -> String {
        self.directory.path().join("notify").display().to_string()
    }

    /// The next message, if one comes in this time.
    fn receive(&self, time: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(time)).unwrap();
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    /// What has come so far.
    pub fn drain(&self) -> Vec<String> {
        std::iter::from_fn(|| self.receive(Duration::from_millis(1))).collect()
    }

    /// Waits for a message with this text in it.
    #[track_caller]
    pub fn await_message(&self, text: &str) -> String {
        eventually(&format!("the message {text:?}"), || {
            self.receive(Duration::from_millis(100)).filter(|message| message.contains(text))
        })
    }
}

/// A server that tells a [`Listener`] how it stands.
pub struct NotifiedWorld {
    pub server: Server,
    pub listener: Listener,
    pub redis: Redis,
    pub database: Database,
}

impl NotifiedWorld {
    pub fn start(change: impl FnOnce(ServerBuilder) -> ServerBuilder) -> NotifiedWorld {
        let (redis, database) = (Redis::start(), Postgres::shared().database());
        let listener = Listener::bind();
        let builder = ServerBuilder::new(&redis, &database).env("NOTIFY_SOCKET", listener.path());
        let server = change(builder).start();
        NotifiedWorld { server, listener, redis, database }
    }
}

#[test]
fn systemd_hears_ready_once_when_every_shard_accepts_and_stopping_with_the_time_it_takes() {
    let NotifiedWorld { mut server, listener, mut redis, database } =
        NotifiedWorld::start(|builder| builder.env("TRUNKLINE_DRAIN_SECS", "3"));
    let first = listener.await_message("READY=1");
    assert!(!first.contains("WATCHDOG=1"), "nobody asked for it: {first}");
    listener.await_message("STATUS=Ready: Redis subscribed, Postgres answers, 2 of 2 shards");
    redis.kill();
    listener.await_message("STATUS=Not ready: Redis not subscribed, Postgres answers");
    redis.resume();
    listener.await_message("STATUS=Ready: ");
    super::support::Fixture { database: &database }.user(1);
    let mut websocket = WebSocket::open(&server, &User(1).websocket("stream=user"));
    websocket.barrier();
    server.signal(Signal::TERM);
    let mut stopping = Vec::new();
    while stopping.iter().all(|message: &String| !message.contains("STATUS=Stopping")) {
        stopping.push(listener.receive(Duration::from_secs(30)).expect("a message"));
    }
    let stopping = stopping.concat();
    assert!(stopping.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=6000000\n"), "{stopping}");
    assert!(!stopping.contains("READY=1"), "{stopping}");
    drop(websocket);
    server.wait();
}

#[test]
fn ready_is_told_while_redis_and_postgres_are_away_for_clients_are_let_in() {
    let (mut redis, listener) = (Redis::start(), Listener::bind());
    let mut postgres = Postgres::start();
    let database = postgres.database();
    redis.kill();
    postgres.stop();
    let server =
        ServerBuilder::new(&redis, &database).env("NOTIFY_SOCKET", listener.path()).start();
    let message = listener.await_message("READY=1");
    assert!(message.contains("STATUS=Not ready: "), "{message}");
    assert_eq!(server.get("/api/v1/streaming/health").text(), "OK");
}

#[test]
fn the_watchdog_is_fed_twice_in_its_time_and_not_more_often() {
    let begin = Instant::now();
    let world = NotifiedWorld::start(|builder| builder.env("WATCHDOG_USEC", "500000"));
    let feedings = 9;
    for _ in 0..feedings {
        world.listener.await_message("WATCHDOG=1");
    }
    let least = Duration::from_millis(250) * (feedings - 1);
    assert!(begin.elapsed() >= least, "{feedings} times in {:?}", begin.elapsed());
}

#[test]
fn a_watchdog_of_another_process_is_not_fed_and_a_deaf_service_manager_harms_nobody() {
    let (redis, database) = (Redis::start(), Postgres::shared().database());
    let listener = Listener::bind();
    let server = ServerBuilder::new(&redis, &database)
        .env("NOTIFY_SOCKET", listener.path())
        .env("WATCHDOG_USEC", "1000")
        .env("WATCHDOG_PID", "1")
        .start();
    let message = listener.await_message("STATUS=Ready: ");
    assert!(!message.contains("WATCHDOG=1"), "{message}");
    drop(server);
    let path = listener.path();
    drop(listener);
    let server = ServerBuilder::new(&redis, &database).env("NOTIFY_SOCKET", path).start();
    assert_eq!(server.get("/api/v1/streaming/health").text(), "OK");
    assert!(server.log().contains("Cannot tell the service manager"), "{}", server.log());
}
