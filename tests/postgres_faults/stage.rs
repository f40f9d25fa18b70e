//! A server whose way to Postgres leads through a proxy, with clients that must not notice what
//! happens there.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::json;

use super::support::{
    Database, EventStream, Fixture, Postgres, Proxy, Redis, Request, Response, Server,
    ServerBuilder, Status, User, WebSocket, eventually, status,
};

/// The size of the server's pool.
pub const POOL: usize = 5;

/// The server with its clients. At the end no client may have been sent away.
pub struct Stage {
    websocket: WebSocket,
    events: EventStream,
    pub server: Server,
    pub proxy: Proxy,
    pub redis: Redis,
    pub database: Database,
    pub postgres: Postgres,
    round: u32,
    next_user: u64,
}

impl Stage {
    pub fn start() -> Stage {
        Stage::with(&[], &[])
    }

    /// With these settings of Postgres, and this environment of the server.
    pub fn with(options: &[&str], environment: &[(&str, &str)]) -> Stage {
        let (redis, postgres) = (Redis::start(), Postgres::start_with(options));
        let database = postgres.database();
        // Those who crash or kill it must not lose the users.
        Fixture { database: &database }.users(1..=200);
        database.sql(
            "create role ordinary login; grant select on all tables in schema public to ordinary;
             checkpoint;",
        );
        let proxy = Proxy::start(postgres.port());
        let mut builder = ServerBuilder::new(&redis, &database)
            .env("DB_PORT", proxy.port())
            .env("DB_POOL", POOL)
            .env("DB_SSLMODE", "disable");
        for (name, value) in environment {
            builder = builder.env(name, value);
        }
        let server = builder.start();
        let mut websocket = WebSocket::open(&server, &User(1).websocket("stream=user"));
        websocket.subscribe(json!({"stream": "public"}));
        let events = EventStream::open(&server, "/api/v1/streaming/public", &User(2).token());
        let (round, next_user) = (0, 2);
        let mut stage =
            Stage { websocket, events, server, proxy, redis, database, postgres, round, next_user };
        stage.expect_service();
        stage
    }

    /// Waits until the server is ready and lets somebody in; then filtered events must come through
    /// again, each to those who may see it.
    #[track_caller]
    pub fn expect_service(&mut self) {
        self.server.await_missing(&[]);
        eventually("somebody is let in", || {
            let answer = self.knock();
            assert!(matches!(answer.status, 101 | 503), "{answer:?}");
            (answer.status == 101).then_some(())
        });
        self.server.await_missing(&[]);
        self.expect_service_for_those_who_are_there();
    }

    /// Filtered and unfiltered events reach their readers.
    #[track_caller]
    pub fn expect_service_for_those_who_are_there(&mut self) {
        self.expect_unfiltered();
        let id = u64::from(self.round);
        self.redis.publish_wanted("timeline:public", Status::new(id).update());
        for payload in [self.await_update(id), self.next_update(id)] {
            assert_eq!(payload["id"], json!(id.to_string()));
        }
    }

    /// What needs no question reaches its reader whatever Postgres does.
    #[track_caller]
    pub fn expect_unfiltered(&mut self) {
        self.round += 1;
        let payload = format!("round {}", self.round);
        let home = User(1).home();
        self.redis.publish_wanted(&home, status::message("delete", payload.as_str()));
        while self.websocket.next_event().payload != payload {}
    }

    /// Publishes a status that cannot be checked, then a deletion behind it: readers get only that.
    #[track_caller]
    pub fn expect_withheld(&mut self, id: u64) {
        self.redis.publish_wanted("timeline:public", Status::new(id).update());
        self.redis.publish("timeline:public", status::message("delete", id.to_string()));
        let event = self.websocket.next_event();
        assert_eq!((event.event.as_str(), event.payload), ("delete", id.to_string()));
        assert_eq!(self.events.next_event(), ("delete".to_string(), id.to_string()));
        self.server.await_metric("trunkline_unjudged_total", |withheld| withheld >= 1.0);
    }

    fn await_update(&mut self, id: u64) -> serde_json::Value {
        loop {
            let event = self.websocket.next_event();
            if event.event == "update" && event.json()["id"] == json!(id.to_string()) {
                return event.json();
            }
        }
    }

    fn next_update(&mut self, id: u64) -> serde_json::Value {
        loop {
            let (event, payload) = self.events.next_event();
            let payload: serde_json::Value = serde_json::from_str(&payload).expect("JSON");
            if event == "update" && payload["id"] == json!(id.to_string()) {
                return payload;
            }
        }
    }

    /// Somebody with a good token who was never here wants to open a WebSocket.
    #[track_caller]
    pub fn knock(&mut self) -> Response {
        self.next_user = self.next_user % 199 + 1;
        let request = Request::websocket(&User(self.next_user).websocket("stream=user"));
        match WebSocket::request(&self.server, &request) {
            Ok(websocket) => websocket.response.clone(),
            Err(response) => response,
        }
    }

    /// While Postgres is away: newcomers are told when to come back, those who are there stay and
    /// are never told that they may not.
    #[track_caller]
    pub fn expect_away(&mut self) {
        self.expect_newcomers_to_wait();
        self.websocket.subscribe(json!({"stream": "list", "list": User(1).list().to_string()}));
        let text = loop {
            let text = self.websocket.next_text();
            if text.contains("error") {
                break text;
            }
        };
        assert_eq!(text, r#"{"error":"An unexpected error occurred","status":500}"#);
        self.expect_unfiltered();
    }

    /// Readiness says that Postgres is missing, and newcomers are told when to come back.
    #[track_caller]
    pub fn expect_newcomers_to_wait(&mut self) {
        eventually("Postgres is missed", || {
            let answer = self.knock();
            assert!(matches!(answer.status, 101 | 503), "{answer:?}");
            (answer.status == 503).then_some(())
        });
        self.server.await_missing(&["postgres"]);
        for _ in 0..5 {
            let answer = self.knock();
            assert_eq!(answer.status, 503, "{answer:?}");
            assert_eq!(answer.header("x-error-message"), Some("Try again later"));
            let seconds = answer.header("retry-after").and_then(|text| text.parse::<u32>().ok());
            assert!(seconds.is_some_and(|seconds| (1..=60).contains(&seconds)), "{answer:?}");
            let stream = Request::get("/api/v1/streaming/user").query("access_token", "tok-9");
            let answer = self.server.ask(&stream);
            assert_eq!(answer.status, 503, "{answer:?}");
            assert!(answer.header("retry-after").is_some());
        }
        let refused = r#"reason="unavailable""#;
        assert!(self.server.metric_with("trunkline_handshakes_refused_total", refused) >= 10.0);
        assert_eq!(self.server.get("/api/v1/streaming/health").text(), "OK");
    }

    /// How many connections to Postgres were begun since.
    pub fn attempts(&self) -> Vec<Instant> {
        self.proxy.arrivals("mastodon")
    }

    /// Holds a table that every look-up of a token wants.
    pub fn lock(&self) -> Lock {
        let mut command = Command::new("psql");
        command.args(["-Xqh", "127.0.0.1", "-U", "mastodon", "-d", self.database.name()]);
        command.args(["-p", &self.database.port().to_string(), "-c"]);
        command.arg("begin; lock table oauth_access_tokens; select pg_sleep(600)");
        let psql = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("psql");
        let held = "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted \
                    and relation = 'oauth_access_tokens'::regclass";
        eventually("the lock", || (self.database.sql(held) == "1").then_some(()));
        Lock(psql)
    }

    /// Backends of the server's pool in this state.
    pub fn backends(&self, condition: &str) -> usize {
        let query = format!(
            "select count(*) from pg_stat_activity where datname = current_database()
               and pid <> pg_backend_pid() and query !~ 'pg_sleep' and {condition}"
        );
        self.database.sql(&query).parse().expect("a number")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A test that fails while it is frozen must be able to end it.
        self.postgres.thaw();
        if !std::thread::panicking() {
            let invalid = r#"reason="invalid_token""#;
            let refused = self.server.metric_with("trunkline_handshakes_refused_total", invalid);
            assert_eq!(refused, 0.0, "somebody with a good token was told 401");
            assert_eq!(self.websocket.barrier(), Vec::<String>::new());
            assert_eq!(self.server.metric_with("connected_clients", "eventsource"), 1.0);
        }
    }
}

/// A table that is locked until [`Lock::release`].
pub struct Lock(Child);

impl Lock {
    pub fn release(mut self, database: &Database) {
        database.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity where query ~ '^begin; lock'",
        );
        self.0.wait().expect("psql ends");
    }
}
