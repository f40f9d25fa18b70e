//! What the control core and the shards say to each other over the mesh.

use std::sync::Arc;

use crate::hub::drain::Departure;
use crate::hub::moment::Moment;
use crate::hub::question::FeedSettings;
use crate::hub::readiness::Report;
use crate::hub::session::Session;
use crate::hub::stream::Channel;
use crate::hub::verdict::Verdict;
use crate::metrics::ShardMetrics;
use crate::protocol::frame::{Body, Wants};
use crate::protocol::ids::{AccountId, ListId, Token, TokenId};

/// A connection as others name it: a slot of a shard and whose turn it is in that slot, so that a
/// late answer never reaches the slot's next owner.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnectionId {
    /// Index in the shard's slab.
    pub slot: u32,
    /// How often the slot has been given away before.
    pub generation: u32,
}

impl ConnectionId {
    /// The number under which the connection's socket is registered for readiness.
    pub fn key(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    /// The inverse of [`ConnectionId::key`].
    pub fn from_key(key: u64) -> ConnectionId {
        ConnectionId { slot: key as u32, generation: (key >> 32) as u32 }
    }
}

/// Who waits for an answer: a connection, and with which of its questions. A connection that has
/// given a question up may have asked another one since; the answer to the first must not pass for
/// the answer to the second.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct QuestionId {
    /// The connection.
    pub connection: ConnectionId,
    /// Differs from question to question of one connection.
    pub stamp: u16,
}

/// From a shard to the control core.
#[derive(Debug)]
pub enum ToControl {
    /// Who is the bearer of this token? Answer: [`ToShard::Session`].
    WhoIs {
        /// Who waits for the answer.
        question: QuestionId,
        /// The token.
        token: Token,
    },
    /// Who owns this list? Answer: [`ToShard::ListOwner`].
    WhoOwns {
        /// Who waits for the answer.
        question: QuestionId,
        /// The list.
        list: ListId,
    },
    /// Which feeds are closed? Answer: [`ToShard::Feeds`].
    ReadFeeds {
        /// Who waits for the answer.
        question: QuestionId,
    },
    /// A session opened whose token or account had no connection on this shard before: its system
    /// channels were wanted just now.
    Opened {
        /// The token.
        token: TokenId,
        /// Its bearer.
        account: AccountId,
    },
    /// How this shard wants the channel's events from now on; nothing: no longer.
    Want {
        /// The channel.
        channel: Channel,
        /// For WebSockets, event streams, both or neither.
        wants: Wants,
    },
    /// The first connection of this account on the shard reads a filtered channel.
    ReaderArrived(AccountId),
    /// The last one has left.
    ReaderLeft(AccountId),
    /// Somebody wants the metrics of all cores. Answer: [`ToShard::MetricsText`].
    Scrape {
        /// Who waits for the answer.
        question: QuestionId,
    },
    /// Somebody wants to know whether the server is ready. Answer: [`ToShard::Readiness`].
    AskReadiness {
        /// Who waits for the answer.
        question: QuestionId,
    },
    /// This shard turns.
    Pulse {
        /// Everybody could be accepted since the last time.
        is_accepting: bool,
    },
    /// The answer to [`ToShard::TakeMetrics`].
    Metrics(Box<ShardMetrics>),
    /// Every client has been sent away and is gone.
    Drained,
}

/// From the control core to a shard.
#[derive(Clone, Debug)]
pub enum ToShard {
    /// An event for the readers of a channel.
    Deliver(Delivery),
    /// Who the bearer of a token is.
    Session {
        /// Who asked.
        question: QuestionId,
        /// The answer.
        answer: Result<Session, Refusal>,
    },
    /// Who owns a list; `None`: it does not exist.
    ListOwner {
        /// Who asked.
        question: QuestionId,
        /// The answer.
        answer: Result<Option<AccountId>, Refusal>,
    },
    /// Which feeds are closed.
    Feeds {
        /// Who asked.
        question: QuestionId,
        /// The answer.
        answer: Result<FeedSettings, Refusal>,
    },
    /// End every connection of a token.
    KillToken(TokenId),
    /// End every connection of an account.
    KillAccount(AccountId),
    /// Deliveries on these channels did not fit into the mesh and are lost: their readers must come
    /// back.
    Lagged(Arc<[Channel]>),
    /// Hand in your metrics.
    TakeMetrics,
    /// The metrics of all cores.
    MetricsText {
        /// Who asked.
        question: QuestionId,
        /// Prometheus text.
        text: Arc<str>,
    },
    /// Whether the server is ready.
    Readiness {
        /// Who asked.
        question: QuestionId,
        /// The answer.
        report: Report,
    },
    /// Stop accepting and send everybody away at this pace.
    Drain(Departure),
}

/// An event on its way to the readers of a channel.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The channel it was published on.
    pub channel: Channel,
    /// What its frames share.
    pub body: Arc<Body>,
    /// On a filtered channel: who must not see it, and how it is annotated for whom.
    pub verdict: Option<Arc<Verdict>>,
    /// When it came from Redis.
    pub received: Moment,
}

/// Why a question of a connection has no good answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The token is not good (401).
    InvalidToken,
    /// The database has answered with an error (500, as the Node server).
    Failure,
    /// The database is away, or its answer takes too long (503).
    Unavailable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_reads_back_from_its_key() {
        let connection = ConnectionId { slot: 7, generation: u32::MAX };
        assert_eq!(ConnectionId::from_key(connection.key()), connection);
    }
}
