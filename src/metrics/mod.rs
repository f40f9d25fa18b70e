//! What an operator can watch. Plain values with a single owner: each core counts in its own
//! struct, without atomics; a snapshot is a clone that travels over the mesh to whichever shard
//! answers the scrape, and [`render()`] makes the text that Prometheus reads.
//!
//! Names, labels and primed zeros of the Node server are kept (the case `http-metrics` of
//! `tests/transcripts/`), so that existing dashboards go on; `nodejs_*` is gone with Node. Ours
//! begin with `trunkline_`. Label values are constants or shard numbers: nothing that a client
//! sends can make a new series.

mod counters;
mod latency;
mod render;
mod text;

pub use counters::{ByTransport, ReasonCounters, StreamGauges, Transport};
pub use latency::{Latency, TurnTimes};
pub use render::render;

/// The `Content-Type` of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What one shard counts.
#[derive(Clone, Debug, Default)]
pub struct ShardMetrics {
    /// The shard's number, from 0.
    pub shard: usize,
    /// Sockets of any kind that are open now, also those that have not said yet what they want.
    pub sockets: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Accepting failed, by kind of error.
    pub accept_failures: ReasonCounters,
    /// Clients that are connected now.
    pub clients: ByTransport,
    /// Subscriptions open now, by stream; two of the name `system` for each client, as the Node
    /// server counts.
    pub channels: StreamGauges,
    /// Events sent to clients: given to the kernel or to the outbox.
    pub messages_sent: ByTransport,
    /// Bytes that the kernel took from us.
    pub bytes_sent: u64,
    /// From the moment the control core read an event to the moment the kernel took its last byte
    /// for a client (or the outbox took it), once per event and client.
    pub latency: Latency,
    /// How long the turns of the shard took.
    pub turns: TurnTimes,
    /// Bytes that wait in outboxes now, counted in full for each connection.
    pub outbox_bytes: u64,
    /// Connections with a non-empty outbox now.
    pub outbox_connections: u64,
    /// Ended connections by farewell.
    pub farewells: ReasonCounters,
    /// Handshakes and requests that were refused, by reason.
    pub handshakes_refused: ReasonCounters,
    /// Events not passed to a client, by reason: once per event and client.
    pub withheld: ReasonCounters,
    /// Questions to the control core without an answer yet.
    pub questions_waiting: u64,
    /// Deliveries taken from the mesh.
    pub deliveries: u64,
}

impl ShardMetrics {
    /// Zeros for shard number `shard`.
    pub fn new(shard: usize) -> ShardMetrics {
        ShardMetrics { shard, ..ShardMetrics::default() }
    }

    /// Of a frame of `length` bytes so many wait in an outbox now; the kernel took the others.
    #[inline]
    pub fn count_push(&mut self, length: usize, waiting: usize) {
        self.outbox_bytes += waiting as u64;
        self.bytes_sent += (length - waiting) as u64;
    }
}

/// What the control core counts.
#[derive(Clone, Debug, Default)]
pub struct ControlMetrics {
    /// Is everything there that serving takes?
    pub ready: bool,
    /// Is the subscriber connection to Redis up?
    pub redis_connected: bool,
    /// How often the subscriber connection was lost: each time events may have been missed.
    pub redis_gaps: u64,
    /// Is the connection to Redis that sets keys up?
    pub redis_commands_connected: bool,
    /// Commands that Redis has refused.
    pub redis_refusals: u64,
    /// Redis channels subscribed to now.
    pub redis_subscriptions: u64,
    /// Messages that came from Redis.
    pub redis_messages_received: u64,
    /// Messages from Redis that became no event, by reason (no JSON, no event, no payload).
    pub messages_ignored: ReasonCounters,
    /// Is there a working connection to Postgres?
    pub postgres_connected: bool,
    /// Connections in the pool, whatever they do.
    pub pool_connections: u64,
    /// Connections in the pool that do nothing.
    pub pool_idle: u64,
    /// Questions that wait for a connection of the pool.
    pub pool_waiting: u64,
    /// Questions to the database, by kind.
    pub queries: ReasonCounters,
    /// Questions that the database did not answer, by kind.
    pub queries_failed: ReasonCounters,
    /// How long the database took for all questions but those for verdicts.
    pub query_time: Latency,
    /// Queries for verdicts ("who must not see this status?").
    pub verdict_queries: u64,
    /// From the first query of a verdict to the verdict.
    pub verdict_time: Latency,
    /// Events that wait for a verdict, or behind one in their channel.
    pub verdicts_waiting: u64,
    /// Events withheld from everybody they could not be checked for, by reason: once per event and
    /// channel.
    pub withheld: ReasonCounters,
    /// Deliveries that found a shard's queue full, by shard.
    pub mesh_dropped: Vec<u64>,
    /// Accounts whose custom filters are cached.
    pub filters_cached: u64,
    /// How long the turns of the control core took.
    pub turns: TurnTimes,
}

/// What the kernel says about this process; `io::process` reads it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessFacts {
    /// CPU time in user mode, in seconds.
    pub cpu_user_secs: f64,
    /// CPU time in the kernel, in seconds.
    pub cpu_system_secs: f64,
    /// Start of the process in seconds since the Unix epoch.
    pub start_unix_secs: f64,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Virtual memory in bytes.
    pub virtual_bytes: u64,
    /// Private writable memory in bytes, which the Node server calls heap.
    pub heap_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Most file descriptors the process may open.
    pub max_fds: u64,
    /// What turns the cores: `glommio` or `epoll`.
    pub driver: &'static str,
}
