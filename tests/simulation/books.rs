//! What must hold at every step: books that are kept beside the server, by simpler means, and
//! compared with it after each thing that happens.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use trunkline::hub::control::Effect;
use trunkline::hub::message::{ConnectionId, Delivery, ToControl, ToShard};
use trunkline::hub::registry::{Role, Subscriber};
use trunkline::hub::stream::Channel;
use trunkline::protocol::frame::{Body, Wants};
use trunkline::protocol::ids::{AccountId, TokenId};

use super::client::Client;
use super::redis::{Line, is_system};
use super::world::World;

/// The books.
#[derive(Default)]
pub struct Books {
    /// What each shard has said that it wants.
    told: Vec<BTreeMap<Channel, Wants>>,
    /// Which shards want a channel, as far as the control core has heard.
    heard: BTreeMap<Channel, BTreeSet<usize>>,
    /// Messages of Redis that came, and those among them that were orders for the server.
    received: u64,
    orders: u64,
    /// Events that went to at least one shard.
    delivered: u64,
    /// The last delivery: to which shard, on which channel, which body. It is kept, so that no
    /// later one has its address.
    last: Option<(usize, Channel, Arc<Body>)>,
    /// Deliveries to each shard: sent, taken.
    sent: Vec<u64>,
    taken: Vec<u64>,
    /// An event on its way in each shard.
    fanning_out: Vec<Option<OnItsWay>>,
    /// Something else has happened in the shard since the event began.
    disturbed: Vec<bool>,
    /// Kills that the control core has passed on.
    killed_tokens: BTreeSet<TokenId>,
    killed_accounts: BTreeSet<AccountId>,
    /// What lives have come by, and how often.
    pub seen: BTreeMap<&'static str, u64>,
}

/// An event on its way in a shard.
#[derive(Clone, Copy)]
struct OnItsWay {
    /// Readers who must have it, and readers altogether.
    due: u64,
    readers: u64,
    /// What was sent or withheld before, and who had left before.
    counted: u64,
    had_left: u64,
}

impl Books {
    /// The books of so many shards.
    pub fn new(shards: usize) -> Books {
        Books {
            told: vec![BTreeMap::new(); shards],
            sent: vec![0; shards],
            taken: vec![0; shards],
            fanning_out: vec![None; shards],
            disturbed: vec![false; shards],
            ..Books::default()
        }
    }

    /// Something has happened that lives should come by.
    pub fn sight(&mut self, what: &'static str) {
        *self.seen.entry(what).or_insert(0) += 1;
    }

    /// Anything but the event on its way has happened in a shard.
    pub fn disturb(&mut self, shard: usize) {
        self.disturbed[shard] = true;
    }

    /// A shard says something.
    pub fn shard_says(&mut self, shard: usize, message: &ToControl) {
        let ToControl::Want { channel, wants } = message else { return };
        match wants.is_empty() {
            true => self.told[shard].remove(channel),
            false => self.told[shard].insert(channel.clone(), *wants),
        };
    }

    /// The control core has heard it.
    pub fn control_hears(&mut self, shard: usize, message: &ToControl) {
        let ToControl::Want { channel, wants } = message else { return };
        let shards = self.heard.entry(channel.clone()).or_default();
        if wants.is_empty() {
            shards.remove(&shard)
        } else {
            shards.insert(shard)
        };
        if shards.is_empty() {
            self.heard.remove(channel);
        }
    }

    /// A message of Redis has come.
    pub fn redis_says(&mut self, name: &str) {
        self.received += 1;
        let Some(channel) = Channel::parse(name.as_bytes()) else { return };
        if !self.heard.contains_key(&channel) {
            return;
        }
        self.orders += u64::from(is_system(name));
    }

    /// The control core does something.
    pub fn control_does(&mut self, effect: &Effect) {
        match effect {
            Effect::ToShard(shard, ToShard::Deliver(Delivery { channel, body, .. })) => {
                self.sent[*shard] += 1;
                let goes_on = self.last.as_ref().is_some_and(|(before, other, same)| {
                    before < shard && other == channel && Arc::ptr_eq(same, body)
                });
                self.delivered += u64::from(!goes_on);
                self.last = Some((*shard, channel.clone(), Arc::clone(body)));
            }
            Effect::ToShard(_, ToShard::KillToken(token)) => {
                self.killed_tokens.insert(*token);
            }
            Effect::ToShard(_, ToShard::KillAccount(account)) => {
                self.killed_accounts.insert(*account);
            }
            Effect::ToShard(_, ToShard::Session { answer: Ok(session), .. }) => {
                let is_killed = self.killed_tokens.contains(&session.token)
                    || self.killed_accounts.contains(&session.account);
                assert!(!is_killed, "let in after the kill was passed on: {:?}", session.token);
            }
            _ => {}
        }
    }
}

impl World {
    /// A shard is about to handle a message.
    pub fn before_message(&mut self, shard: usize, message: &ToShard) {
        match message {
            ToShard::Deliver(delivery) => {
                self.books.taken[shard] += 1;
                // Whoever is the first event stream of a channel has come after what is on its way,
                // and gets it only if it is written for them alone (annotated).
                let has_chunks = delivery.body.event_stream_chunks(None).is_some();
                let readers = self.shards[shard].registry().readers(&delivery.channel);
                let is_due = |reader: &&Subscriber| has_chunks || !reader.event_stream;
                let due = readers.iter().filter(is_due).count() as u64;
                let readers = readers.len() as u64;
                let (counted, had_left) = self.counted(shard);
                let on_its_way = OnItsWay { due, readers, counted, had_left };
                self.books.fanning_out[shard] = Some(on_its_way);
                self.books.disturbed[shard] = false;
            }
            ToShard::Session { question, .. }
            | ToShard::Feeds { question, .. }
            | ToShard::ListOwner { question, .. } => self.note_house(shard, question.connection),
            ToShard::KillToken(_) | ToShard::KillAccount(_) => self.books.sight("kill"),
            ToShard::Lagged(channels) => {
                self.books.sight("lag");
                // Who has come since something was lost is sent away with the others.
                let registry = self.shards[shard].registry();
                for reader in channels.iter().flat_map(|channel| registry.readers(channel)) {
                    let is_it = |one: &&mut Client| {
                        one.shard == shard && one.connection == reader.connection
                    };
                    self.clients.iter_mut().filter(is_it).for_each(|one| {
                        one.excuses.insert("lagged");
                    });
                }
            }
            _ => {}
        }
    }

    /// A client who waits to be let in is about to hear: is the house of its account full?
    fn note_house(&mut self, shard: usize, connection: ConnectionId) {
        let registry = self.shards[shard].registry();
        for one in self.clients.iter_mut().filter(|one| one.shard == shard) {
            let Some(token) = self.database.tokens.get(&one.token) else { continue };
            if one.connection == connection && !one.is_served(registry) {
                let open = registry.readers(&Channel::System(AccountId(token.account))).len();
                one.account_full = open >= self.limits.connections_per_account_max;
            }
        }
    }

    /// A shard has handled a message.
    pub fn after_message(&mut self, shard: usize, killed: Option<Channel>) {
        if let Some(channel) = killed {
            let readers = self.shards[shard].registry().readers(&channel);
            assert!(readers.is_empty(), "{channel} was killed and still has {readers:?}");
        }
        let clients = self.clients.iter().filter(|client| client.shard == shard);
        let boxes = clients.filter_map(|client| self.shards[shard].outbox(client.connection));
        if boxes.filter(|outbox| outbox.is_held).count() > 1 {
            self.books.sight("gathering");
        }
    }

    /// Messages that the shard has sent to clients, or withheld from them; clients who left.
    fn counted(&mut self, shard: usize) -> (u64, u64) {
        let metrics = self.shards[shard].metrics_mut();
        let sent = metrics.messages_sent;
        let counted = sent.websocket + sent.eventsource + metrics.withheld.total();
        (counted, metrics.farewells.total())
    }

    /// A shard has come to the end of something.
    pub fn check_shard(&mut self, shard: usize) {
        self.check_fan_out(shard);
        self.check_bounds(shard);
        let registry = self.shards[shard].registry();
        let told = &self.books.told[shard];
        assert_eq!(registry.len(), told.len(), "shard {shard} wants what it did not say");
        if self.step.is_multiple_of(8) {
            for (channel, wants) in told {
                let mut readers = registry.readers(channel).iter();
                let is_stream = readers.clone().any(|reader| reader.event_stream);
                let is_socket = readers.any(|one| !one.event_stream || one.role == Role::System);
                let real = Wants { websocket: is_socket, event_stream: is_stream };
                assert_eq!(*wants, real, "shard {shard} on {channel}");
            }
        }
    }

    /// Each reader of an event has got it, or was not to have it, or has left meanwhile.
    fn check_fan_out(&mut self, shard: usize) {
        let Some(event) = self.books.fanning_out[shard] else { return };
        let (counted, have_left) = self.counted(shard);
        let is_undisturbed = !self.books.disturbed[shard] && event.had_left == have_left;
        let (done, due, readers) = (counted - event.counted, event.due, event.readers);
        assert!(done <= readers, "{done} deliveries to {readers} readers");
        if !self.shards[shard].is_fanning_out() {
            assert!(done >= due || !is_undisturbed, "{done} deliveries to {due} readers");
            self.books.fanning_out[shard] = None;
        }
    }

    /// Nobody is over a bound.
    fn check_bounds(&mut self, shard: usize) {
        let limits = &self.limits;
        let (mut bytes, mut boxes) = (0, 0);
        let mut by_account: BTreeMap<i64, usize> = BTreeMap::new();
        let mut by_address = BTreeMap::new();
        for client in self.clients.iter().filter(|client| client.shard == shard) {
            if client.is_gone() {
                continue;
            }
            if client.is_served(self.shards[shard].registry()) {
                *by_address.entry(client.address()).or_insert(0) += 1;
                let account = self.database.tokens[&client.token].account;
                *by_account.entry(account).or_insert(0) += 1;
            }
            let Some(outbox) = self.shards[shard].outbox(client.connection) else { continue };
            (bytes, boxes) = (bytes + outbox.bytes() as u64, boxes + 1);
            let fits = outbox.bytes() <= limits.outbox_bytes_max || outbox.frames() == 1;
            assert!(fits, "{} bytes wait for one client", outbox.bytes());
            assert!(outbox.frames() <= limits.outbox_frames_max, "{} frames", outbox.frames());
        }
        let full = by_account
            .values()
            .max()
            .is_some_and(|most| *most > limits.connections_per_account_max);
        assert!(!full, "an account has too many connections: {by_account:?}");
        let full = by_address.values().max();
        assert!(full.is_none_or(|most| *most <= limits.connections_per_address_max));
        let metrics = self.shards[shard].metrics_mut();
        assert_eq!((metrics.outbox_bytes, metrics.outbox_connections), (bytes, boxes));
        let clients = metrics.clients.websocket + metrics.clients.eventsource;
        // Whoever asks for a page of the server's own is let in whatever there is.
        let is_visitor = |one: &&Client| one.shard == shard && one.visits.is_some();
        let visitors = self.clients.iter().filter(is_visitor).filter(|one| !one.is_gone()).count();
        let asking = metrics.questions_waiting.saturating_sub(visitors as u64);
        assert!(clients + asking <= limits.connections_max as u64);
        assert!(asking <= limits.questions_waiting_max as u64);
        assert!(metrics.sockets >= clients + metrics.questions_waiting);
    }

    /// The control core has come to the end of something.
    pub fn check_control(&mut self) {
        let books = &self.books;
        let counted = self.control.metrics();
        assert_eq!(counted.redis_messages_received, books.received);
        let done = counted.messages_ignored.total() + counted.withheld.total() + books.orders;
        assert_eq!(
            books.received,
            done + counted.verdicts_waiting + books.delivered,
            "received is not ignored {:?} + withheld {:?} + orders {} + waiting {} + delivered {}",
            counted.messages_ignored,
            counted.withheld,
            books.orders,
            counted.verdicts_waiting,
            books.delivered,
        );
        for shard in 0..self.shards.len() {
            let (sent, taken) = (self.books.sent[shard], self.books.taken[shard]);
            let lost = self.lost(shard);
            assert!(taken + lost <= sent, "shard {shard}: {taken} + {lost} of {sent}");
        }
        self.check_interest();
    }

    /// Redis holds what is wanted, or is being told.
    fn check_interest(&mut self) {
        let (wanted, heard) = (self.control.interest_mut().wanted(), &self.books.heard);
        assert_eq!(wanted, heard.len());
        if !self.step.is_multiple_of(8) {
            return;
        }
        for (channel, shards) in heard {
            let interest = self.control.interest_mut();
            assert!(interest.shards(channel).iter().eq(shards.iter().copied()), "{channel}");
            let is_up = self.redis.subscriber == Line::Up;
            if is_up && interest.confirmed_since(channel).is_some() {
                let name = channel.redis_name();
                assert!(self.redis.subscribed.contains(&name), "{name} is not subscribed");
            }
        }
    }

    /// What this life has come by.
    pub fn sights(&mut self) -> BTreeMap<&'static str, u64> {
        let withheld = self.control.metrics().withheld.total();
        let refused = self.shards.iter_mut().map(|shard| shard.metrics_mut().withheld.total());
        let kept: u64 = refused.sum();
        let mut seen = std::mem::take(&mut self.books.seen);
        seen.extend(
            [("unjudged", withheld), ("withheld", kept)].into_iter().filter(|(_, n)| *n > 0),
        );
        seen
    }

    /// Nothing is under way: every delivery was taken or counted as lost.
    pub fn check_deliveries_at_rest(&self) {
        for shard in 0..self.shards.len() {
            let (sent, taken) = (self.books.sent[shard], self.books.taken[shard]);
            assert_eq!(taken + self.lost(shard), sent, "deliveries to shard {shard}");
        }
    }
}
