//! Redis: one connection that is subscribed, one for commands, both kept up for ever. The control core turns it;
//! which channels are wanted is [`crate::hub::interest`]'s business.
//!
//! ```text
//!            Interest::next_batch(now, redis.room())
//!   hub ───────────────────────────────────────────────► Redis::send ──► SET … (commands)
//!    ▲                                                                   SUBSCRIBE … (subscriber)
//!    └──── RedisEvent: messages, confirmations, losses ◄── Redis::turn ◄─ both
//! ```
//!
//! What the events ask of the hub: [`RedisEvent::Lost`] → `Interest::connection_lost`, [`RedisEvent::KeysLost`] →
//! `Interest::keys_lost`, [`RedisEvent::Confirmed`] → `Interest::confirmed`.

use std::sync::Arc;

use bytes::Bytes;

use super::poller::{Poller, Readiness};
use super::resolver::Resolver;
use crate::config::{Limits, RedisConfig};
use crate::hub::interest::{Batch, Confirmation, Room};
use crate::hub::moment::Moment;

/// The top byte of the keys of everything that belongs to Redis, sentinels included.
pub const REDIS_KEY: u64 = 1 << 56;

/// What happened at Redis. Names are without the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisEvent {
    /// The subscriber connection stands; nothing is subscribed on it yet.
    Connected,
    /// Somebody has published.
    Message {
        /// The channel's name.
        channel: Bytes,
        /// What was published.
        payload: Bytes,
    },
    /// A subscription or its end holds from here on.
    Confirmed {
        /// The channel's name.
        channel: Bytes,
        /// Which of both.
        confirmation: Confirmation,
    },
    /// The subscriber connection is gone and with it all subscriptions; messages are being missed.
    Lost {
        /// Why, for the log. Holds no secret.
        reason: String,
    },
    /// The command connection is new: keys set before may be lost.
    KeysLost,
    /// Something for the log, told once until it changes: Redis cannot be reached, refuses the password, or the
    /// like. Holds no secret.
    Trouble(String),
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RedisStats {
    /// The subscriber connection stands.
    pub connected: bool,
    /// The command connection stands.
    pub commands_connected: bool,
    /// Since when the subscriber connection is away (the start of the process counts), if it is.
    pub disconnected_since: Option<Moment>,
    /// How often the subscriber connection has been lost: each time messages may have been missed.
    pub gaps: u64,
    /// How often the subscriber connection has come back after a loss.
    pub reconnects: u64,
    /// Published messages received.
    pub messages: u64,
    /// Bytes of their channels and payloads.
    pub bytes: u64,
    /// Commands that Redis has refused (`READONLY`, `OOM`, `NOPERM` …).
    pub refusals: u64,
}

/// Both connections to Redis.
pub struct Redis {
    stats: RedisStats,
}

impl Redis {
    /// Starts out disconnected; the first [`Redis::turn`] connects.
    ///
    /// Errors: the TLS configuration does not fit together (a client certificate and a foreign key).
    pub fn new(
        _config: &RedisConfig,
        _limits: &Arc<Limits>,
        _resolver: Resolver,
    ) -> std::io::Result<Redis> {
        Ok(Redis { stats: RedisStats::default() })
    }

    /// Does everything that can be done now: connects, reads, writes, notices silence. `ready` may hold readiness
    /// of others. Never blocks.
    pub fn turn(
        &mut self,
        _now: Moment,
        _ready: &[Readiness],
        _poller: &Poller,
        _sink: &mut dyn FnMut(RedisEvent),
    ) {
    }

    /// When [`Redis::turn`] is to be called again even if nothing is ready; the past means at once.
    pub fn next_deadline(&self) -> Option<Moment> {
        None
    }

    /// How much may be given to [`Redis::send`] now.
    pub fn room(&self) -> Room {
        Room::default()
    }

    /// Takes what [`crate::hub::interest::Interest::next_batch`] has made of [`Redis::room`]; the next turn sends
    /// it, so call that at once.
    pub fn send(&mut self, _batch: &Batch) {}

    /// The counts so far.
    pub fn stats(&self) -> RedisStats {
        self.stats
    }
}
