//! A server whose way to Redis leads through a proxy, and clients that must not notice what happens
//! there.

use serde_json::json;

use super::support::{
    Database, EventStream, Fixture, Postgres, Proxy, Redis, RedisClient, Server, ServerBuilder,
    User, WebSocket, eventually, status,
};

/// What the subscriber connection and the command connection say first.
pub const SUBSCRIBER: &str = "trunkline-subscriber";
pub const COMMANDS: &str = "trunkline-commands";

/// The server with its clients. At the end no client may have been sent away.
pub struct Stage {
    pub websocket: WebSocket,
    events: EventStream,
    pub user: User,
    pub server: Server,
    pub proxy: Proxy,
    pub redis: Redis,
    _database: Database,
    password: Option<&'static str>,
    round: u32,
}

/// What a test may want otherwise.
#[derive(Default)]
pub struct Wishes<'a> {
    /// For `redis-server`.
    pub options: &'a [&'a str],
    /// Redis' password, which the server and the test know.
    pub password: Option<&'static str>,
    /// For the server.
    pub environment: &'a [(&'a str, &'a str)],
}

impl Stage {
    /// With a server that finds out within half a second what takes it ten by default.
    pub fn start() -> Stage {
        Stage::with(Wishes::default())
    }

    pub fn with(wishes: Wishes<'_>) -> Stage {
        let mut options = wishes.options.to_vec();
        options.extend(wishes.password.iter().flat_map(|password| ["--requirepass", password]));
        let redis = Redis::start_with(&options);
        let proxy = Proxy::start(redis.port());
        let database = Postgres::shared().database();
        let user = Fixture { database: &database }.user(1);
        let mut builder = ServerBuilder::new(&redis, &database)
            .env("REDIS_PORT", proxy.port())
            .env("TRUNKLINE_REDIS_SILENCE_SECS_MAX", "0.25");
        if let Some(password) = wishes.password {
            builder = builder.env("REDIS_PASSWORD", password);
        }
        for (name, value) in wishes.environment {
            builder = builder.env(name, value);
        }
        let server = builder.start();
        let mut websocket = WebSocket::open(&server, &user.websocket("stream=user"));
        websocket.subscribe(json!({"stream": "hashtag", "tag": "Caturday"}));
        websocket.subscribe(json!({"stream": "list", "list": user.list().to_string()}));
        let events = EventStream::open(&server, "/api/v1/streaming/direct", &user.token());
        let password = wishes.password;
        let (round, _database) = (0, database);
        let mut stage =
            Stage { websocket, events, user, server, proxy, redis, _database, password, round };
        stage.expect_service();
        stage
    }

    /// The channels that the clients read, the event stream's last.
    pub fn channels(&self) -> [String; 5] {
        [
            self.user.home(),
            self.user.notifications(),
            "timeline:hashtag:caturday".to_string(),
            format!("timeline:list:{}", self.user.list()),
            format!("timeline:direct:{}", self.user.account()),
        ]
    }

    /// A connection that does not go through the proxy.
    pub fn admin(&self) -> RedisClient {
        let mut client = self.redis.client();
        if let Some(password) = self.password {
            assert_eq!(client.command(&["AUTH", password]).text(), "OK");
        }
        client
    }

    /// Waits until everything is as it was: subscriptions, keys, readiness. Then an event on each
    /// channel must reach its client.
    #[track_caller]
    pub fn expect_service(&mut self) {
        self.await_subscriptions();
        self.await_keys();
        self.server.await_missing(&[]);
        self.expect_events();
    }

    /// Waits until every channel is subscribed exactly once.
    #[track_caller]
    pub fn await_subscriptions(&self) {
        let mut admin = self.admin();
        let system = [self.user.token_channel(), self.user.system_channel()];
        for channel in self.channels().iter().chain(&system) {
            admin.await_subscribers(channel, 1);
        }
    }

    /// Waits until every key stands that tells Rails to publish.
    #[track_caller]
    pub fn await_keys(&self) {
        let mut admin = self.admin();
        for channel in self.channels() {
            let key = format!("subscribed:{channel}");
            eventually(&key, || (admin.command(&["EXISTS", &key]).integer() == 1).then_some(()));
            assert_eq!(admin.command(&["GET", &key]).text(), "1", "{key}");
            let left = admin.command(&["TTL", &key]).integer();
            assert!((1..=1080).contains(&left), "{key} expires in {left} s");
        }
    }

    /// Publishes on each channel; the clients pass over what came before.
    #[track_caller]
    pub fn expect_events(&mut self) {
        self.round += 1;
        let mut admin = self.admin();
        for channel in self.channels() {
            let payload = format!("{} {channel}", self.round);
            let heard = admin.publish(&channel, status::message("delete", payload.as_str()));
            assert_eq!(heard, 1, "{channel}");
            match channel.contains("direct") {
                true => while self.events.next_event().1 != payload {},
                false => while self.websocket.next_event().payload != payload {},
            }
        }
    }

    /// Waits until the server has noticed that Redis is away. It says so everywhere, and serves on.
    #[track_caller]
    pub fn await_loss(&mut self) {
        self.server.await_metric("trunkline_redis_connected", |connected| connected == 0.0);
        let body = self.server.await_missing(&["redis"]);
        assert_eq!((&body["redis"], &body["postgres"]), (&false.into(), &true.into()));
        assert_eq!(self.server.get("/api/v1/streaming/health").text(), "OK");
        assert!(self.server.log().contains("Lost the connection to Redis"));
        self.websocket.barrier();
    }

    /// How often events may have been missed.
    pub fn gaps(&self) -> f64 {
        self.server.metric("trunkline_redis_gaps_total")
    }

    /// How often Redis has been told this, refused or not, since it started or was told `CONFIG
    /// RESETSTAT`.
    pub fn calls(&self, command: &str) -> usize {
        let stats = self.admin().command(&["INFO", "commandstats"]).text();
        let line = stats.lines().find(|line| line.starts_with(&format!("cmdstat_{command}:")));
        let numbers = line.unwrap_or_default().split([':', ',']);
        let counts = numbers.filter_map(|number| {
            let number = number.strip_prefix("calls=").or(number.strip_prefix("rejected_calls="));
            number?.parse::<usize>().ok()
        });
        counts.sum()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.proxy.heal();
            let clients = self.server.metric("connected_clients");
            assert_eq!(clients, 2.0, "a client was sent away");
        }
    }
}
