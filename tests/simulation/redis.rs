//! Redis with two connections, as the server uses it: answers late and in order, delivers at most
//! once, and can lose either connection in any state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use trunkline::hub::interest::{Batch, Confirmation, Room};
use trunkline::hub::moment::Moment;

use super::SECOND;

/// What comes back on the subscriber connection.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A subscription holds, or its end.
    Confirmed(String, Confirmation),
    /// Somebody has published: channel, payload, number of the publication.
    Message(String, String, usize),
}

/// The state of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    /// Nothing stands.
    Down,
    /// Both sides are there.
    Up,
    /// Redis is gone; the server has yet to notice.
    Broken,
}

/// The fake.
pub struct Redis {
    /// The subscriber connection.
    pub subscriber: Line,
    /// The command connection.
    pub commands: Line,
    /// On their way to Redis: true subscribes.
    requests: VecDeque<(bool, String)>,
    /// On their way to the server.
    pub replies: VecDeque<Reply>,
    awaited: usize,
    sets: VecDeque<String>,
    set_replies: usize,
    sets_awaited: usize,
    /// What Redis delivers on the subscriber connection.
    pub subscribed: BTreeSet<String>,
    /// `subscribed:…` by the time of their end.
    pub keys: BTreeMap<String, Moment>,
    /// Channels whose key was sent while this command connection stood.
    told_keys: BTreeSet<String>,
    batch_max: usize,
}

impl Redis {
    /// Nothing stands yet.
    pub fn new(batch_max: usize) -> Redis {
        Redis {
            subscriber: Line::Down,
            commands: Line::Down,
            requests: VecDeque::new(),
            replies: VecDeque::new(),
            awaited: 0,
            sets: VecDeque::new(),
            set_replies: 0,
            sets_awaited: 0,
            subscribed: BTreeSet::new(),
            keys: BTreeMap::new(),
            told_keys: BTreeSet::new(),
            batch_max,
        }
    }

    /// As the real client: a batch when the one before has been answered.
    pub fn room(&self) -> Room {
        let free = |awaited: usize| if awaited == 0 { self.batch_max } else { 0 };
        Room {
            keys: (self.commands != Line::Down).then(|| free(self.sets_awaited)),
            subscriptions: match self.subscriber {
                Line::Down => 0,
                _ => free(self.awaited),
            },
        }
    }

    /// The server sends a batch.
    pub fn send(&mut self, batch: &Batch) {
        let keys_can_be_set = self.commands != Line::Down;
        for channel in &batch.set_keys {
            assert!(keys_can_be_set, "a key without a connection");
            let name = channel.redis_name();
            assert!(!is_system(&name), "a key for {name}");
            self.told_keys.insert(name.clone());
            self.sets_awaited += 1;
            self.sets.push_back(name);
        }
        for channel in &batch.subscribe {
            let name = channel.redis_name();
            let keyed = is_system(&name) || self.told_keys.contains(&name);
            assert!(!keys_can_be_set || keyed, "subscribed to {name} before setting its key");
            self.awaited += 1;
            self.requests.push_back((true, name));
        }
        for channel in &batch.unsubscribe {
            self.awaited += 1;
            let name = channel.redis_name();
            self.told_keys.remove(&name);
            self.requests.push_back((false, name));
        }
    }

    /// Redis reads one command of each connection.
    pub fn read(&mut self, now: Moment) {
        if self.subscriber == Line::Up
            && let Some((subscribes, name)) = self.requests.pop_front()
        {
            let confirmation = match subscribes {
                true => {
                    assert!(self.subscribed.insert(name.clone()), "subscribed twice to {name}");
                    Confirmation::Subscribed
                }
                false => {
                    assert!(self.subscribed.remove(&name), "{name} was not subscribed");
                    Confirmation::Unsubscribed
                }
            };
            self.replies.push_back(Reply::Confirmed(name, confirmation));
        }
        if self.commands == Line::Up
            && let Some(name) = self.sets.pop_front()
        {
            self.keys.insert(name, Moment(now.0 + 1080 * SECOND));
            self.set_replies += 1;
        }
    }

    /// The next reply on the subscriber connection reaches the server.
    pub fn next_reply(&mut self) -> Option<Reply> {
        let reply = self.replies.pop_front()?;
        if let Reply::Confirmed(..) = reply {
            self.awaited -= 1;
        }
        Some(reply)
    }

    /// Replies to `SET` reach the server.
    pub fn take_set_replies(&mut self) -> bool {
        let some = self.set_replies > 0;
        self.sets_awaited -= std::mem::take(&mut self.set_replies);
        some
    }

    /// `PUBLISH`. Whether it is on its way to the server.
    pub fn publish(&mut self, channel: &str, payload: &str, number: usize) -> bool {
        let goes = self.subscriber == Line::Up && self.subscribed.contains(channel);
        if goes {
            let reply = Reply::Message(channel.to_owned(), payload.to_owned(), number);
            self.replies.push_back(reply);
        }
        goes
    }

    /// An `UNSUBSCRIBE` is on its way.
    pub fn is_being_left(&self, channel: &str) -> bool {
        self.requests.iter().any(|(subscribes, name)| !subscribes && name == channel)
    }

    /// The subscriber connection breaks; `kept` replies still arrive. Returns what does not.
    pub fn break_subscriber(&mut self, kept: usize) -> Vec<Reply> {
        assert_eq!(self.subscriber, Line::Up);
        self.subscriber = Line::Broken;
        self.subscribed.clear();
        self.requests.clear();
        self.replies.split_off(kept.min(self.replies.len())).into()
    }

    /// The server notices; everything that arrived was read before.
    pub fn notice_subscriber(&mut self) {
        assert!(self.subscriber == Line::Broken && self.replies.is_empty());
        self.subscriber = Line::Down;
        self.requests.clear();
        self.awaited = 0;
    }

    /// The command connection breaks; keys on their way are lost.
    pub fn break_commands(&mut self) {
        self.commands = Line::Broken;
        self.sets.clear();
    }

    /// The server notices.
    pub fn notice_commands(&mut self) {
        self.commands = Line::Down;
        (self.sets_awaited, self.set_replies) = (0, 0);
        self.sets.clear();
        self.told_keys.clear();
    }

    /// Nothing is on its way.
    pub fn is_quiet(&self) -> bool {
        self.subscriber == Line::Up
            && self.commands == Line::Up
            && self.requests.is_empty()
            && self.replies.is_empty()
            && self.sets.is_empty()
            && self.set_replies == 0
    }
}

/// Channels that carry orders for the server itself.
pub fn is_system(name: &str) -> bool {
    name.starts_with("timeline:system:") || name.starts_with("timeline:access_token:")
}
