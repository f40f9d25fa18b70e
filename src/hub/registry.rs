//! Who on this shard reads which channel.

use hashbrown::HashMap;

use crate::hub::access::FeedAccess;
use crate::hub::channel_table::ChannelTable;
use crate::hub::message::ConnectionId;
use crate::hub::stream::Channel;
use crate::protocol::frame::Wants;

/// One subscription as the channel sees it: who, through which stream, with which access. Twelve
/// bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscriber {
    /// The connection.
    pub connection: ConnectionId,
    /// Through which stream: the notifications channel belongs to two of them.
    pub role: Role,
    /// How the connection is served.
    pub event_stream: bool,
    /// What it may see.
    pub access: FeedAccess,
}

/// Through which stream a connection reads a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The stream that the channel is named after; for notifications `user:notification`.
    Own,
    /// Notifications as part of `user`.
    PartOfUser,
    /// The server itself: token and system channels.
    System,
}

impl Subscriber {
    /// A subscription of `connection`.
    pub fn new(
        connection: ConnectionId,
        role: Role,
        event_stream: bool,
        access: FeedAccess,
    ) -> Self {
        Subscriber { connection, role, event_stream, access }
    }

    fn wants(self) -> Wants {
        match self.role {
            Role::System => Wants { websocket: true, event_stream: false },
            _ => Wants { websocket: !self.event_stream, event_stream: self.event_stream },
        }
    }

    fn is(self, connection: ConnectionId, role: Role) -> bool {
        self.connection == connection && self.role == role
    }
}

/// The readers of a channel: most channels have one.
#[derive(Debug)]
enum Readers {
    One(Subscriber),
    /// Two or more (briefly fewer while one leaves).
    Many(Box<Crowd>),
}

/// Many readers of one channel.
#[derive(Debug, Default)]
struct Crowd {
    subscribers: Vec<Subscriber>,
    /// Where each subscriber of a large crowd stands, so that leaving does not search: empty below
    /// [`INDEXED_FROM`], else `subscribers[places[s]] == s` for each.
    places: HashMap<(u32, u8), u32>,
    /// How many subscribers are event streams.
    event_streams: usize,
}

/// A crowd is searched up to this size, about as fast as a look-up, and indexed from there.
const INDEXED_FROM: usize = 64;

/// What [`Registry::add`] and [`Registry::remove`] changed for the world outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Nothing: others still need the channel in the same way.
    None,
    /// The shard now wants the channel like this; nothing: no longer.
    Wants(Wants),
}

/// Who on this shard reads which channel.
#[derive(Debug, Default)]
pub struct Registry {
    channels: ChannelTable<Readers>,
}

impl Registry {
    /// Adds a subscription. The same connection in the same role twice on one channel is the
    /// caller's mistake.
    pub fn add(&mut self, channel: &Channel, subscriber: Subscriber) -> Change {
        let found = self.channels.find(channel);
        let Some((_, readers)) = found.and_then(|at| self.channels.get_mut(at)) else {
            self.channels.insert(channel.clone(), Readers::One(subscriber));
            return Change::Wants(subscriber.wants());
        };
        let before = readers.wants();
        readers.add(subscriber);
        changed(before, readers.wants())
    }

    /// Takes a subscription away, if it is there.
    pub fn remove(&mut self, channel: &Channel, connection: ConnectionId, role: Role) -> Change {
        let Some(at) = self.channels.find(channel) else { return Change::None };
        let Some((_, readers)) = self.channels.get_mut(at) else { return Change::None };
        let before = readers.wants();
        let after = match readers {
            Readers::One(only) if only.is(connection, role) => Wants::default(),
            Readers::One(_) => return Change::None,
            Readers::Many(crowd) => {
                crowd.remove(connection, role);
                match crowd.subscribers.as_slice() {
                    [] => Wants::default(),
                    [last] => {
                        let last = *last;
                        *readers = Readers::One(last);
                        last.wants()
                    }
                    _ => crowd.wants(),
                }
            }
        };
        if after.is_empty() {
            self.channels.release(at);
        }
        changed(before, after)
    }

    /// The readers of a channel, in no particular order.
    pub fn readers(&self, channel: &Channel) -> &[Subscriber] {
        match self.channels.find(channel).and_then(|at| self.channels.get(at)) {
            None => &[],
            Some((_, Readers::One(only))) => std::slice::from_ref(only),
            Some((_, Readers::Many(crowd))) => &crowd.subscribers,
        }
    }

    /// How many channels have readers.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Nobody reads anything.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }
}

impl Readers {
    fn add(&mut self, subscriber: Subscriber) {
        match self {
            Readers::One(first) => {
                let mut crowd = Box::<Crowd>::default();
                crowd.add(*first);
                crowd.add(subscriber);
                *self = Readers::Many(crowd);
            }
            Readers::Many(crowd) => crowd.add(subscriber),
        }
    }

    fn wants(&self) -> Wants {
        match self {
            Readers::One(only) => only.wants(),
            Readers::Many(crowd) => crowd.wants(),
        }
    }
}

impl Crowd {
    fn add(&mut self, subscriber: Subscriber) {
        self.event_streams += usize::from(subscriber.wants().event_stream);
        self.subscribers.push(subscriber);
        match self.subscribers.len() {
            length if length < INDEXED_FROM => {}
            INDEXED_FROM => {
                self.places =
                    self.subscribers.iter().zip(0..).map(|(s, at)| (place(s), at)).collect();
            }
            length => {
                self.places.insert(place(&subscriber), length as u32 - 1);
            }
        }
    }

    fn remove(&mut self, connection: ConnectionId, role: Role) {
        let found = if self.places.is_empty() {
            self.subscribers.iter().position(|subscriber| subscriber.is(connection, role))
        } else {
            self.places.get(&(connection.slot, role as u8)).map(|place| *place as usize)
        };
        let Some(at) = found.filter(|at| self.subscribers[*at].is(connection, role)) else {
            return;
        };
        let gone = self.subscribers.swap_remove(at);
        self.event_streams -= usize::from(gone.wants().event_stream);
        if self.places.is_empty() {
            return;
        }
        if self.subscribers.len() < INDEXED_FROM {
            self.places = HashMap::new();
            return;
        }
        self.places.remove(&place(&gone));
        if let Some(moved) = self.subscribers.get(at) {
            self.places.insert(place(moved), at as u32);
        }
    }

    fn wants(&self) -> Wants {
        let total = self.subscribers.len();
        Wants { websocket: self.event_streams < total, event_stream: self.event_streams > 0 }
    }
}

fn place(subscriber: &Subscriber) -> (u32, u8) {
    (subscriber.connection.slot, subscriber.role as u8)
}

fn changed(before: Wants, after: Wants) -> Change {
    if before == after { Change::None } else { Change::Wants(after) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::AccountId;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn connection(slot: u32) -> ConnectionId {
        ConnectionId { slot, generation: 3 }
    }

    #[test]
    fn a_subscriber_is_small() {
        assert!(size_of::<Subscriber>() <= 16);
        assert!(size_of::<Readers>() <= 16);
        assert!(size_of::<Option<(Channel, Readers)>>() <= 32);
    }

    proptest! {
        #[test]
        fn the_registry_is_the_set_of_its_subscriptions(
            steps in prop::collection::vec(
                (any::<bool>(), 0_u32..200, 0_i64..3, any::<bool>()),
                1..600,
            ),
        ) {
            let mut registry = Registry::default();
            let mut model: BTreeMap<i64, BTreeMap<u32, bool>> = BTreeMap::new();
            for (add, slot, channel, event_stream) in steps {
                let name = Channel::Home(AccountId(channel));
                let readers = model.entry(channel).or_default();
                let before = wants_of(readers);
                let change = if add {
                    if readers.contains_key(&slot) { continue }
                    readers.insert(slot, event_stream);
                    let (reader, access) = (connection(slot), FeedAccess::FULL);
                    registry.add(&name, Subscriber::new(reader, Role::Own, event_stream, access))
                } else {
                    readers.remove(&slot);
                    registry.remove(&name, connection(slot), Role::Own)
                };
                prop_assert_eq!(change, changed(before, wants_of(readers)));
                let mut slots: Vec<u32> =
                    registry.readers(&name).iter().map(|reader| reader.connection.slot).collect();
                slots.sort_unstable();
                prop_assert!(slots.iter().copied().eq(readers.keys().copied()));
            }
        }
    }

    fn wants_of(readers: &BTreeMap<u32, bool>) -> Wants {
        Wants {
            websocket: readers.values().any(|event_stream| !event_stream),
            event_stream: readers.values().any(|event_stream| *event_stream),
        }
    }

    #[test]
    fn the_slots_next_owner_is_not_mistaken_for_the_last() {
        let mut registry = Registry::default();
        let name = Channel::Home(AccountId(1));
        registry.add(&name, Subscriber::new(connection(1), Role::Own, false, FeedAccess::FULL));
        let next = ConnectionId { slot: 1, generation: 4 };
        assert_eq!(registry.remove(&name, next, Role::Own), Change::None);
        assert_eq!(registry.readers(&name).len(), 1);
    }
}
