//! One Redis, one database and one server: where most tests take place.

use super::database::Database;
use super::fixture::Fixture;
use super::patience::eventually;
use super::postgres::Postgres;
use super::redis::Redis;
use super::server::{Server, ServerBuilder};

/// Everything that a server needs, and the server. Fields drop in this order: the server goes
/// first.
#[derive(Debug)]
pub struct World {
    /// The server.
    pub server: Server,
    /// Its Redis.
    pub redis: Redis,
    /// Its database, in the PostgreSQL that the tests of a process share.
    pub database: Database,
}

impl World {
    /// Starts a world with the settings of tests.
    #[track_caller]
    pub fn start() -> World {
        World::with(|builder| builder)
    }

    /// Starts a world with other settings.
    #[track_caller]
    pub fn with(change: impl FnOnce(ServerBuilder) -> ServerBuilder) -> World {
        let redis = Redis::start();
        let database = Postgres::shared().database();
        let server = change(ServerBuilder::new(&redis, &database)).start();
        World { server, redis, database }
    }

    /// Waits until the server counts so many subscriptions of clients. Redis shows only the first
    /// of a channel.
    #[track_caller]
    pub fn await_subscriptions(&self, count: usize) {
        eventually(&format!("{count} subscriptions"), || {
            let all = self.server.metric("connected_channels");
            let seen = all - self.server.metric_with("connected_channels", r#"channel="system""#);
            (seen == count as f64).then_some(())
        });
    }

    /// Puts rows into the database.
    pub fn fixture(&self) -> Fixture<'_> {
        Fixture { database: &self.database }
    }
}
