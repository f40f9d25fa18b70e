//! A shard: connections from accept to close, as a value. Bytes, answers and times come in; bytes
//! leave through [`Socket`]s, questions through [`Shard::take_outgoing`]. It knows no runtime, no
//! epoll and no clock.
//!
//! The phases of a connection are drawn at [`connection::Phase`]. This module has what happens to
//! it:
//!
//! * `requests`: heads, answers, and how a session opens; `welcoming`: when its client hears of it;
//! * `conversation`: what WebSocket clients say, and their subscriptions;
//! * `delivery`: the way of an event to its readers; `gathering`: of several at once;
//! * `ending`: every way out;
//! * `admission`: who is let in, and who has to make room;
//! * `keeping`: pings, comments, deadlines;
//! * `stopping`: sending everybody away in turn.
//!
//! # Invariants worth naming
//!
//! * A connection is in the registry exactly while its phase is open, for its token, its account
//!   and each stream.
//! * Questions and their answers carry a [`QuestionId`]: the slot's generation, and the stamp of
//!   the phase that waits. A connection waits for at most one answer.
//! * Answers and revocations come over one ordered channel, and a connection is registered for
//!   revocation in the very step in which it opens: no `kill` falls in between.

mod admission;
pub mod connection;
mod conversation;
mod deadlines;
mod delivery;
mod ending;
mod gathering;
mod keeping;
mod requests;
mod slots;
mod stopping;
mod welcoming;

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

pub use connection::{Heard, Sent, Settings, Socket};

use crate::hub::drain::Drain;
use crate::hub::farewell::Farewell;
use crate::hub::message::{ConnectionId, QuestionId, ToControl, ToShard};
use crate::hub::moment::Moment;
use crate::hub::origins::Origins;
use crate::hub::outbox::{Frame, Outbox};
use crate::hub::registry::Registry;
use crate::metrics::ShardMetrics;
use crate::protocol::ids::AccountId;
use connection::{Connection, Phase};
use deadlines::{Deadlines, Expired, Kind, Sweep};
use delivery::Fanout;
use gathering::Gathering;
use keeping::STARVED_PAUSE;
use slots::Slots;

/// The connections of one core.
pub struct Shard<S> {
    settings: Arc<Settings>,
    slots: Slots<S>,
    registry: Registry,
    /// How many filtered subscriptions each account has here.
    readers: HashMap<AccountId, u32>,
    /// How many connections each address has here.
    origins: Origins,
    /// What waits to be told to the control core, in order.
    outgoing: Vec<ToControl>,
    /// The event that is on its way to its readers right now.
    fanout: Option<Fanout>,
    /// What is being held back to be written together.
    gathering: Gathering,
    /// Who waits for the answer that opens a stream.
    welcomed: Vec<ConnectionId>,
    /// When events were received, and how many have got them, since that was last recorded.
    sent: Vec<(Moment, u64)>,
    deadlines: Deadlines,
    pings: Sweep,
    thumps: Sweep,
    /// When the control core is told again that the shard turns.
    next_pulse: Moment,
    /// Nobody had to wait at the door since then for what the kernel lacked.
    is_accepting: bool,
    drain: Option<Drain>,
    /// The control core has heard that everybody is gone.
    is_drain_told: bool,
    /// Where answers are put together before they are sent.
    scratch: Vec<u8>,
    /// Who is sent away one by one when the server stops.
    leaving: VecDeque<ConnectionId>,
    metrics: ShardMetrics,
    random: fastrand::Rng,
    ping: Frame,
    thump: Frame,
}

impl<S: Socket> Shard<S> {
    /// A shard without connections. `seed` makes request ids, and whatever else is chance.
    pub fn new(index: usize, settings: Arc<Settings>, seed: u64, now: Moment) -> Self {
        let pings = Sweep::new(settings.limits.ping_interval_secs, now);
        let thumps = Sweep::new(settings.limits.thump_interval_secs, now);
        Shard {
            settings,
            slots: Slots::new(),
            registry: Registry::default(),
            readers: HashMap::new(),
            origins: Origins::new(seed),
            outgoing: Vec::new(),
            fanout: None,
            gathering: Gathering::default(),
            welcomed: Vec::new(),
            sent: Vec::new(),
            deadlines: Deadlines::default(),
            pings,
            thumps,
            next_pulse: now,
            is_accepting: true,
            drain: None,
            is_drain_told: false,
            scratch: Vec::new(),
            leaving: VecDeque::new(),
            metrics: ShardMetrics::new(index),
            random: fastrand::Rng::with_seed(seed),
            ping: Frame::new(crate::protocol::websocket::EMPTY_PING.to_vec()),
            thump: Frame::new(crate::protocol::sse::THUMP.to_vec()),
        }
    }

    /// Takes a new connection in. `None`: there is no room, and the socket is closed.
    pub fn admit(&mut self, socket: S, now: Moment) -> Option<ConnectionId> {
        self.make_room(now);
        let id = self.slots.insert(Connection::new(socket))?;
        self.metrics.accepted += 1;
        self.metrics.sockets += 1;
        self.set_deadline(id, Kind::Head, now);
        Some(id)
    }

    /// Somebody could not be taken in, because the kernel lacks something.
    pub fn cannot_accept(&mut self, lacking: &'static str) {
        self.metrics.accept_failures.add(lacking);
        self.is_accepting = false;
    }

    /// The socket of a connection, to register it for readiness.
    pub fn socket(&self, id: ConnectionId) -> Option<&S> {
        self.slots.get(id).map(|connection| &connection.socket)
    }

    /// Bytes came. They may be changed in place. Says whether the connection still wants more.
    pub fn receive(&mut self, id: ConnectionId, bytes: &mut [u8], now: Moment) -> bool {
        let Some(connection) = self.slots.get_mut(id) else { return false };
        connection.heard = true;
        match &mut connection.phase {
            Phase::Head(_) => self.receive_head(id, bytes, now),
            Phase::Asking(asking) => {
                asking.early.extend_from_slice(bytes);
                if asking.early.len() > self.settings.limits.early_bytes_max {
                    self.end(id, Farewell::BadRequest, now);
                }
            }
            Phase::WebSocket { .. } | Phase::Closing(_) => self.receive_frames(id, bytes, now),
            Phase::EventStream { .. } | Phase::Lingering => {}
        }
        self.slots.get(id).is_some()
    }

    /// The client will send no more, or the socket failed.
    pub fn ended(&mut self, id: ConnectionId, now: Moment) {
        let Some(connection) = self.slots.get(id) else { return };
        // Who will say no more may still listen, to an answer or to our last words; if not, sending
        // them fails.
        let is_owed = match connection.phase {
            Phase::Asking(_) => true,
            Phase::Lingering => connection.outbox.is_some(),
            _ => false,
        };
        if !is_owed {
            self.end(id, Farewell::ClientLeft, now);
        }
    }

    /// The client acknowledges nothing any more: the kernel has given it up.
    pub fn unreachable(&mut self, id: ConnectionId, now: Moment) {
        self.end(id, Farewell::Unreachable, now);
    }

    /// The socket takes bytes again.
    pub fn writable(&mut self, id: ConnectionId, now: Moment) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        if connection.outbox.is_none() {
            return;
        }
        let before = connection.outbox_bytes();
        let flushed = connection.flush(now);
        let after = connection.outbox_bytes();
        let emptied = connection.outbox.is_none();
        self.metrics.outbox_bytes -= (before - after) as u64;
        self.metrics.bytes_sent += (before - after) as u64;
        self.metrics.outbox_connections -= u64::from(emptied);
        match flushed {
            Err(farewell) => self.end(id, farewell, now),
            Ok(_) if emptied => self.shut_if_flushed(id),
            Ok(true) => self.ask_again(id, now),
            Ok(false) => {}
        }
    }

    /// A message of the control core.
    pub fn handle(&mut self, message: ToShard, now: Moment) {
        match message {
            ToShard::Deliver(delivery) => self.begin_fanout(delivery),
            ToShard::Session { question, answer } => {
                self.if_awaited(question, |shard, id| shard.identified(id, answer, now));
            }
            ToShard::ListOwner { question, answer } => {
                self.if_awaited(question, |shard, id| shard.list_known(id, answer, now));
            }
            ToShard::Feeds { question, answer } => {
                self.if_awaited(question, |shard, id| shard.feeds_known(id, answer, now));
            }
            ToShard::KillToken(token) => self.kill_token(token, now),
            ToShard::KillAccount(account) => self.kill_account(account, now),
            ToShard::Lagged(channels) => self.lagged(&channels, now),
            ToShard::TakeMetrics => {
                let metrics = Box::new(self.metrics.clone());
                self.outgoing.push(ToControl::Metrics(metrics));
            }
            ToShard::MetricsText { question, text } => {
                self.if_awaited(question, |shard, id| shard.scraped(id, &text, now));
            }
            ToShard::Readiness { question, report } => {
                self.if_awaited(question, |shard, id| shard.reported(id, report, now));
            }
            ToShard::Drain(departure) => self.begin_drain(departure, now),
        }
    }

    /// An event is on its way: no other message may be handled before [`Shard::fan_out`] has ended.
    pub fn is_fanning_out(&self) -> bool {
        self.fanout.is_some() || self.gathering.is_due()
    }

    /// What is to be told to the control core, in order.
    pub fn take_outgoing(&mut self) -> std::vec::Drain<'_, ToControl> {
        self.outgoing.drain(..)
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// There is no connection.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The shard's counters, for what only its surroundings see.
    pub fn metrics_mut(&mut self) -> &mut ShardMetrics {
        &mut self.metrics
    }

    /// What waits for the socket of a connection to take it.
    pub fn outbox(&self, id: ConnectionId) -> Option<&Outbox> {
        self.slots.get(id)?.outbox.as_deref()
    }

    /// The channels that somebody here reads.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The question that a connection has just begun to wait for.
    fn question_of(&self, id: ConnectionId) -> QuestionId {
        let stamp = self.slots.get(id).map_or(0, |connection| connection.stamp);
        QuestionId { connection: id, stamp }
    }

    /// Does something with an answer, unless its connection waits for it no more.
    fn if_awaited(&mut self, question: QuestionId, act: impl FnOnce(&mut Self, ConnectionId)) {
        let connection = self.slots.get(question.connection);
        if connection.is_some_and(|connection| connection.stamp == question.stamp) {
            act(self, question.connection);
        }
    }

    /// Sends a frame to a connection, or ends it if it cannot take it. What a fan-out does over and
    /// over: the compiler alone makes it a call, or not, as its other callers change.
    #[inline(always)]
    fn push(&mut self, id: ConnectionId, frame: &Frame, now: Moment) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        let limits = &self.settings.limits;
        if connection.outbox.as_ref().is_some_and(|one| one.is_held && !one.has_room(frame, limits))
        {
            self.write_held(id, now);
            return self.push(id, frame, now);
        }
        let before = connection.outbox_bytes();
        let pushed = connection.push(frame, limits, now);
        let waiting = connection.outbox_bytes() - before;
        match pushed {
            Ok(false) => self.metrics.count_push(frame.len(), waiting),
            Ok(true) => {
                self.metrics.count_push(frame.len(), waiting);
                self.metrics.outbox_connections += 1;
                let is_starved = connection.outbox.as_ref().is_some_and(|one| one.is_starved);
                // One deadline however often the outbox comes and goes.
                if !std::mem::replace(&mut connection.is_watched, true) {
                    self.watch_outbox(id, now);
                }
                if is_starved {
                    self.ask_again(id, now);
                }
            }
            Err(farewell) => self.end(id, farewell, now),
        }
    }

    /// Sends what was put together in the scratch buffer.
    fn push_scratch(&mut self, id: ConnectionId, now: Moment) {
        let frame = Frame::new(self.scratch.clone());
        self.push(id, &frame, now);
    }

    /// Sets the deadline of a connection's phase; earlier ones mean nothing any more.
    fn set_deadline(&mut self, id: ConnectionId, kind: Kind, now: Moment) {
        let limits = &self.settings.limits;
        let lasts = match kind {
            Kind::Head => limits.head_secs_max,
            Kind::KeepAlive => limits.keep_alive_secs_max,
            Kind::Question => limits.question_secs_max,
            Kind::Blocked => limits.outbox_blocked_secs_max,
            Kind::Starved => STARVED_PAUSE,
            Kind::Closing => limits.closing_secs_max,
            Kind::Lingering => limits.linger_secs_max,
        };
        if let Some(connection) = self.slots.get_mut(id) {
            connection.stamp = connection.stamp.wrapping_add(1);
            let expired = Expired { kind, connection: id, stamp: connection.stamp };
            self.deadlines.set(now, lasts, expired);
        }
    }

    /// The connection's phase has no deadline any more.
    fn clear_deadline(&mut self, id: ConnectionId) {
        if let Some(connection) = self.slots.get_mut(id) {
            connection.stamp = connection.stamp.wrapping_add(1);
        }
    }
}
