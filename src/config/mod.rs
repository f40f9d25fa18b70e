//! What we were told: the environment that an existing Mastodon installation already has, read whole, checked
//! whole, before anything is bound. See `configuration.md` of the contract for every name.

pub mod limits;
pub mod listen;
pub mod postgres;
pub mod redis;
pub mod secret;
pub mod tls;

use std::time::Duration;

pub use limits::Limits;
pub use listen::{Listen, TrustedProxies};
pub use postgres::PostgresConfig;
pub use redis::RedisConfig;
pub use secret::Secret;

/// The whole configuration of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect (`PORT`, `BIND`, `SOCKET`).
    pub listen: Listen,
    /// Whose `X-Forwarded-For` is believed (`TRUSTED_PROXY_IP`).
    pub trusted_proxies: TrustedProxies,
    /// The least severe level that is logged (`LOG_LEVEL`).
    pub log_level: crate::log::Level,
    /// Redis (`REDIS_*`).
    pub redis: RedisConfig,
    /// Postgres (`DATABASE_URL`, `DB_*`).
    pub postgres: PostgresConfig,
    /// Threads and processors (`TRUNKLINE_SHARDS`, `TRUNKLINE_CPUS`, `TRUNKLINE_CONTROL_CPU`, `TRUNKLINE_PIN`).
    pub cores: CoresConfig,
    /// What turns the cores (`TRUNKLINE_IO`).
    pub driver: DriverChoice,
    /// How long SIGTERM spreads the closes over (`TRUNKLINE_DRAIN_SECS`, default 10).
    pub drain_window: Duration,
    /// Every bound.
    pub limits: Limits,
}

/// Threads and the processors they are pinned to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CoresConfig {
    /// How many shards; `None`: one for each processor that the control core does not need.
    pub shards: Option<usize>,
    /// The processors of the shards, in order; empty: chosen from those allowed.
    pub shard_cpus: Vec<usize>,
    /// The processor of the control core; `None`: chosen.
    pub control_cpu: Option<usize>,
    /// Pin threads?
    pub pin: Pin,
}

/// Whether threads are pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Pin {
    /// Unless a seccomp filter is active, which may kill the process for trying (configuration.md).
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What turns the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// Glommio, or epoll where io_uring is refused.
    #[default]
    Auto,
    /// Glommio, or fail.
    Glommio,
    /// Plain threads on epoll.
    Epoll,
}
