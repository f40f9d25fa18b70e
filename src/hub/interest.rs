//! Which channels somebody wants, and what Redis has to be told so that it knows.
//!
//! Shards say what they want; Redis says what it has confirmed. *Desired* and *actual* are made
//! equal in batches, so a reconnect is nothing special: *actual* is empty and everything is asked
//! for again.
//!
//! ```text
//!                  ask SUBSCRIBE            confirmed
//!   ┌─► Absent ─────────────────► Joining ─────────────► Joined
//!   │     ▲ nobody wants it: gone                          │ nobody wants it: ask UNSUBSCRIBE
//!   │     └──────────────────────────────── Leaving ◄──────┘
//!   └── connection lost, from anywhere      confirmed
//! ```
//!
//! Of each channel at most one request is under way; whoever changes their mind meanwhile is served
//! when it has been answered. So the answers never need to be matched with requests, only with
//! channels.
//!
//! The keys `subscribed:CHANNEL` tell Rails that it is worth publishing. One is set with the
//! subscription, and again once in each round of `subscribed_renew_secs`: a cursor goes round the
//! entries at an even pace, so that renewals never come in herds and need no memory of their own.
//! Keys are left to expire.

use std::collections::VecDeque;
use std::time::Duration;

use super::channel_table::ChannelTable;
use super::moment::Moment;
use super::shard_set::ShardSet;
use super::stream::Channel;
use crate::config::Limits;

/// Renewals are due in steps of a second: a million keys are some thousands each second, not a
/// wake-up each.
const RENEWAL_STEP: Duration = Duration::from_secs(1);

/// What is to be sent to Redis now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// `SET subscribed:… 1 EX …` for each of these, before the subscriptions.
    pub set_keys: Vec<Channel>,
    /// `SUBSCRIBE` to these.
    pub subscribe: Vec<Channel>,
    /// `UNSUBSCRIBE` from these.
    pub unsubscribe: Vec<Channel>,
}

/// How much Redis may be told now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Keys to set; `None` while the command connection is away ([`Interest::keys_lost`] makes up
    /// for it).
    pub keys: Option<usize>,
    /// Subscriptions and their ends; 0 while the subscriber connection is away.
    pub subscriptions: usize,
}

/// A life of the subscriber connection; later ones are larger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u32);

/// What Redis has confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// `subscribe`.
    Subscribed,
    /// `unsubscribe`.
    Unsubscribed,
}

/// The channels that somebody wants or that Redis still holds for us.
pub struct Interest {
    entries: ChannelTable<Entry>,
    /// Numbers of entries to look at in the next batches, each at most once (its `queued` is set).
    queue: VecDeque<u32>,
    /// Entries that a shard wants.
    wanted: usize,
    /// Entries that are [`State::Joined`].
    joined: usize,
    epoch: Epoch,
    renewal: Renewal,
    limits: Bounds,
}

/// With its channel thirty-two bytes, and some eight in the index.
struct Entry {
    shards: ShardSet,
    /// The epoch in which it became [`State::Joined`].
    since: Epoch,
    state: State,
    queued: bool,
    /// Its key has been set since the keys were lost.
    keyed: bool,
    /// Somebody wants it for event streams, or has since it was wanted first. To remember which
    /// shards do would cost every event stream 65 bytes; a body that nobody reads costs a copy.
    event_streams: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Joining,
    Joined,
    Leaving,
}

struct Bounds {
    batch_max: usize,
    renew: Duration,
}

/// The cursor that goes round the entries.
struct Renewal {
    /// When this round began; `None`: the keys were never set, or are lost.
    started: Option<Moment>,
    /// `0 <= cursor <= entries.places()`: the entry to be renewed next.
    cursor: usize,
    /// Set keys as fast as there is room until the cursor is round once.
    hurry: bool,
}

impl Interest {
    /// Nothing is wanted, nothing is subscribed.
    pub fn new(limits: &Limits) -> Interest {
        let bounds =
            Bounds { batch_max: limits.redis_batch_max, renew: limits.subscribed_renew_secs };
        Interest {
            entries: ChannelTable::default(),
            queue: VecDeque::new(),
            wanted: 0,
            joined: 0,
            epoch: Epoch::default(),
            renewal: Renewal { started: None, cursor: 0, hurry: false },
            limits: bounds,
        }
    }

    /// Shard `shard` wants `channel` (again, perhaps), and whether for event streams. Returns
    /// whether nobody had wanted it before.
    pub fn want(&mut self, channel: &Channel, shard: usize, for_event_streams: bool) -> bool {
        let at = self.entries.find(channel).unwrap_or_else(|| self.insert(channel));
        let Some((_, entry)) = self.entries.get_mut(at) else { return false };
        let first = entry.shards.is_empty();
        entry.shards.insert(shard);
        entry.event_streams = for_event_streams || (entry.event_streams && !first);
        let wanted = !entry.shards.is_empty();
        if first {
            self.wanted += usize::from(wanted);
            self.enqueue(at);
        }
        first && wanted
    }

    /// Shard `shard` wants `channel` no longer. Returns whether nobody does now.
    pub fn unwant(&mut self, channel: &Channel, shard: usize) -> bool {
        let Some(at) = self.entries.find(channel) else { return false };
        let Some((_, entry)) = self.entries.get_mut(at) else { return false };
        let last = entry.shards.remove(shard) && entry.shards.is_empty();
        if last {
            self.wanted -= 1;
            self.enqueue(at);
        }
        last
    }

    /// Some of the readers of `channel` may be event streams.
    pub fn has_event_streams(&self, channel: &Channel) -> bool {
        self.entry(channel).is_some_and(|entry| entry.event_streams)
    }

    /// The shards that want `channel`.
    pub fn shards(&self, channel: &Channel) -> ShardSet {
        self.entry(channel).map(|entry| entry.shards).unwrap_or_default()
    }

    /// The shards that a message on `channel` is for. Whoever has wanted it since its `UNSUBSCRIBE`
    /// went out hears what comes after the next `SUBSCRIBE`: what Redis still sends before that
    /// would be followed by a gap.
    pub fn audience(&self, channel: &Channel) -> ShardSet {
        match self.entry(channel) {
            Some(entry) if entry.state != State::Leaving => entry.shards,
            _ => ShardSet::default(),
        }
    }

    /// The connection on which `channel` has been confirmed, if it has: every message published
    /// since then has come, or the connection has been lost meanwhile.
    pub fn confirmed_since(&self, channel: &Channel) -> Option<Epoch> {
        let entry = self.entry(channel)?;
        (entry.state == State::Joined).then_some(entry.since)
    }

    /// What to tell Redis now: at most `redis_batch_max` of each kind and at most what there is
    /// `room` for. An empty batch: nothing to do, or no room.
    pub fn next_batch(&mut self, now: Moment, room: Room) -> Batch {
        let mut batch = Batch::default();
        let keys_max = room.keys.map(|keys| keys.min(self.limits.batch_max));
        let requests_max = room.subscriptions.min(self.limits.batch_max);
        while batch.subscribe.len() + batch.unsubscribe.len() < requests_max {
            // Subscribing without setting the key first would leave Rails silent.
            if keys_max.is_some_and(|most| batch.set_keys.len() >= most) {
                break;
            }
            let Some(at) = self.queue.pop_front() else { break };
            self.settle(at, keys_max.is_some(), &mut batch);
        }
        if let Some(most) = keys_max {
            self.renew(now, most, &mut batch);
        }
        batch
    }

    /// Redis has confirmed for the channel of this name (without namespace). Returns the channel if
    /// it is known and this was news.
    pub fn confirmed(&mut self, name: &[u8], confirmation: Confirmation) -> Option<Channel> {
        let at = self.entries.find(&Channel::parse(name)?)?;
        let epoch = self.epoch;
        let (channel, entry) = self.entries.get_mut(at)?;
        let channel = Some(channel.clone());
        let wanted = !entry.shards.is_empty();
        match (confirmation, entry.state) {
            (Confirmation::Subscribed, State::Joining) => {
                entry.state = State::Joined;
                entry.since = epoch;
                self.joined += 1;
                if !wanted {
                    self.enqueue(at);
                }
            }
            (Confirmation::Unsubscribed, State::Leaving | State::Joined) => {
                self.joined -= usize::from(entry.state == State::Joined);
                entry.state = State::Absent;
                // Wanted: ask again. Not wanted: the next batch frees it.
                self.enqueue(at);
            }
            _ => return None,
        }
        channel
    }

    /// The subscriber connection is gone: nothing is subscribed, and what is wanted is to be asked
    /// for again.
    pub fn connection_lost(&mut self) {
        self.epoch.0 = self.epoch.0.wrapping_add(1);
        self.joined = 0;
        for at in 0..self.entries.places() {
            if let Some((_, entry)) = self.entries.get_mut(at) {
                entry.state = State::Absent;
                self.enqueue(at);
            }
        }
    }

    /// The command connection is new: keys that were on their way may be lost, and Redis may have
    /// been emptied. All of them are set again as fast as there is room.
    pub fn keys_lost(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.keyed = false);
        self.renewal = Renewal { started: None, cursor: 0, hurry: true };
    }

    /// When [`Interest::next_batch`] will have a key to renew that it has not now. `None` with no
    /// keys, and without `room` for one: then only what makes room changes anything.
    pub fn next_deadline(&self, room: Room) -> Option<Moment> {
        room.keys.filter(|keys| *keys > 0)?;
        let started = self.renewal.started?;
        let entries = u64::from(self.entries.places());
        if entries == 0 || self.wanted == 0 {
            return None;
        }
        let steps = self.steps_in_round();
        let next = (self.renewal.cursor as u64 + 1).min(entries);
        let step = (next * steps).div_ceil(entries);
        Some(started + RENEWAL_STEP.saturating_mul(u32::try_from(step).unwrap_or(u32::MAX)))
    }

    /// Channels that at least one shard wants.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Channels that Redis has confirmed.
    pub fn joined(&self) -> usize {
        self.joined
    }

    /// The life of the subscriber connection: the number of times it has been lost.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Interest {
    /// Looks at an entry of the queue: asks for what is missing, frees what is over.
    fn settle(&mut self, at: u32, set_key: bool, batch: &mut Batch) {
        let Some((channel, entry)) = self.entries.get_mut(at) else { return };
        entry.queued = false;
        match (entry.state, entry.shards.is_empty()) {
            (State::Absent, false) => {
                batch.subscribe.push(channel.clone());
                entry.state = State::Joining;
                entry.keyed = false;
            }
            (State::Joined, true) => {
                batch.unsubscribe.push(channel.clone());
                entry.state = State::Leaving;
                self.joined -= 1;
            }
            (State::Absent, true) => self.entries.release(at),
            // The answer that is under way brings it back.
            (State::Joining | State::Leaving, _) | (State::Joined, false) => {}
        }
        let Some((channel, entry)) = self.entries.get_mut(at) else { return };
        // New, or wanted again after the cursor has passed it by as unwanted.
        let held = matches!(entry.state, State::Joining | State::Joined);
        let due = held && !entry.keyed && !entry.shards.is_empty();
        if due && set_key && !channel.is_system() {
            batch.set_keys.push(channel.clone());
            entry.keyed = true;
        }
    }

    /// Moves the cursor to where it should be by now, as far as there is room.
    fn renew(&mut self, now: Moment, keys_max: usize, batch: &mut Batch) {
        let started = *self.renewal.started.get_or_insert(now);
        let entries = self.entries.places() as usize;
        let steps = (now.since(started).as_nanos() / RENEWAL_STEP.as_nanos()) as u64;
        let round = self.steps_in_round();
        let due = if self.renewal.hurry || steps >= round {
            entries
        } else {
            (entries as u64 * steps / round) as usize
        };
        while self.renewal.cursor < due && batch.set_keys.len() < keys_max {
            let entry = self.entries.get_mut(self.renewal.cursor as u32);
            self.renewal.cursor += 1;
            let Some((channel, entry)) = entry else { continue };
            // Absent ones get their key with their subscription.
            let held = matches!(entry.state, State::Joining | State::Joined);
            let due = !(self.renewal.hurry && entry.keyed);
            if held && due && !entry.shards.is_empty() && !channel.is_system() {
                batch.set_keys.push(channel.clone());
                entry.keyed = true;
            }
        }
        if self.renewal.cursor >= entries && (self.renewal.hurry || steps >= round) {
            self.renewal = Renewal { started: Some(now), cursor: 0, hurry: false };
        }
    }

    fn steps_in_round(&self) -> u64 {
        (self.limits.renew.as_nanos() / RENEWAL_STEP.as_nanos()).max(1) as u64
    }

    fn entry(&self, channel: &Channel) -> Option<&Entry> {
        let (_, entry) = self.entries.get(self.entries.find(channel)?)?;
        Some(entry)
    }

    fn insert(&mut self, channel: &Channel) -> u32 {
        let entry = Entry {
            shards: ShardSet::default(),
            since: Epoch::default(),
            state: State::Absent,
            queued: false,
            keyed: false,
            event_streams: false,
        };
        self.entries.insert(channel.clone(), entry)
    }

    fn enqueue(&mut self, at: u32) {
        if let Some((_, entry)) = self.entries.get_mut(at)
            && !entry.queued
        {
            entry.queued = true;
            self.queue.push_back(at);
        }
    }
}

impl Batch {
    /// Nothing to send.
    pub fn is_empty(&self) -> bool {
        self.set_keys.is_empty() && self.subscribe.is_empty() && self.unsubscribe.is_empty()
    }
}

#[cfg(test)]
mod tests;
