//! What must hold whenever everything is at rest.

use std::collections::BTreeSet;
use std::time::Duration;

use trunkline::metrics::Transport;

use super::client::{Kind, Spec};
use super::redis::is_system;
use super::world::World;

impl World {
    /// Lets everything come to rest and looks at it.
    pub fn check_at_rest(&mut self) {
        self.hung = None;
        self.database.failing_percent = 0;
        self.come_to_rest();
        // What failed before may have to be tried again.
        if self.troubles.may_fail() {
            self.pass(Duration::from_millis(1100));
        }
        self.check_revoked();
        if self.percent(30) {
            self.come_to_rest();
            let stuck = |index: &usize| {
                let (client, wire) = (&self.clients[*index], self.clients[*index].wire.borrow());
                client.stalls && wire.blocked && !wire.broken
            };
            let stuck: Vec<usize> = (0..self.clients.len()).filter(stuck).collect();
            self.pass(Duration::from_secs(25));
            for index in stuck {
                assert!(self.clients[index].is_gone(), "{index} stalls and is still there");
            }
        }
        self.clients.iter_mut().for_each(|client| client.stalls = false);
        self.pass(Duration::from_secs(5));
        self.check_clients();
        self.check_redis();
        let report = self.control.report(self.upstreams());
        assert!(report.is_ready(), "at rest: {report}");
        self.ledger.settle(&self.clients, &self.database, self.step);
        self.check_counters();
        self.check_deliveries_at_rest();
        self.database.failing_percent = self.troubles.failing_percent;
    }

    /// The server stops, whatever is going on: in time everybody is gone.
    pub fn check_a_stop(&mut self) {
        self.stop();
        for _ in 0..self.below(300) {
            self.live();
        }
        self.hung = None;
        self.clients.iter_mut().for_each(|client| client.stalls = false);
        let (begun, window) = self.stops.unwrap();
        while self.now < begun + window + Duration::from_secs(1) {
            self.wait(Duration::from_millis(50));
            (0..50).for_each(|_| self.go_round());
        }
        for (index, client) in self.clients.iter().enumerate() {
            assert!(client.is_gone(), "client {index} is still there: {:?}", client.status);
        }
        assert!(self.shards.iter().all(|shard| shard.is_drained() && shard.registry().is_empty()));
        assert!(self.control.is_drained());
    }

    /// Time passes while everybody does what they have to do.
    pub fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.now < until {
            self.come_to_rest();
            self.wait(Duration::from_millis(400));
        }
        self.come_to_rest();
    }

    /// Nobody whose revocation was published is still there.
    fn check_revoked(&self) {
        for (index, client) in self.clients.iter().enumerate() {
            let Some(token) = self.database.tokens.get(&client.token) else { continue };
            let channels = [
                format!("timeline:access_token:{}", client.token),
                format!("timeline:system:{}", token.account),
            ];
            let killed = channels.iter().any(|channel| self.killed.contains(channel));
            // Who reads nothing has yet to hear of it, but is not served.
            let is_served = client.is_served(self.shards[client.shard].registry());
            let lives = is_served || (!client.stalls && client.is_open());
            assert!(!killed || !lives, "client {index} lives on: {channels:?}");
        }
    }

    /// Everybody who is connected reads what they asked for.
    fn check_clients(&mut self) {
        let (step, has_failed) = (self.step, self.database.has_failed);
        for (index, client) in self.clients.iter_mut().enumerate() {
            let is_open = client.is_open();
            let is_over = client.is_gone() || client.farewell.is_some();
            assert!(client.visits.is_none() || client.status.is_some() || client.is_gone());
            let is_excused = client.left || !client.excuses.is_empty();
            assert!(
                !is_over || is_excused,
                "client {index} was sent away for nothing: {:?} {:?} {:?}",
                client.status,
                client.farewell,
                self.shards[client.shard].metrics_mut().farewells,
            );
            // With a failing database nobody knows which of two wishes for one channel came true.
            let active = client.subscriptions.iter().filter(|one| one.left.is_none());
            let active: Vec<Spec> = active.map(|one| one.spec.clone()).collect();
            for one in &mut client.subscriptions {
                let rival = |spec: &Spec| spec.key() == one.spec.key() && *spec != one.spec;
                if one.left.is_some() || !is_open {
                    one.ended.get_or_insert(step);
                    continue;
                }
                if one.ended.is_some() {
                    continue;
                }
                let registry = self.shards[client.shard].registry();
                if active.iter().any(rival) {
                    one.unsure = true;
                } else if one.is_in(registry, client.connection) {
                    one.registered.get_or_insert((step, 0));
                    one.settled.get_or_insert(step);
                    one.unsure = false;
                } else {
                    assert!(has_failed, "client {index} does not read {:?}", one.spec);
                    one.left = Some(step);
                    one.ended = Some(step);
                }
            }
            if client.status == Some(101) {
                client.check_reproaches(index);
            }
        }
    }

    /// Redis is subscribed to exactly what somebody wants, and the keys are set.
    fn check_redis(&mut self) {
        let (mut wanted, mut unsure) = (BTreeSet::new(), BTreeSet::new());
        for client in self.clients.iter().filter(|client| client.is_open()) {
            wanted.insert(format!("timeline:access_token:{}", client.token));
            let account = self.database.tokens[&client.token].account;
            wanted.insert(format!("timeline:system:{account}"));
            for one in client.subscriptions.iter().filter(|one| one.left.is_none()) {
                let set = if one.unsure { &mut unsure } else { &mut wanted };
                set.extend(one.channels.iter().cloned());
            }
        }
        // Of two wishes for one channel, one at least has failed.
        wanted.extend(self.redis.subscribed.intersection(&unsure).cloned());
        assert_eq!(self.redis.subscribed, wanted);
        for name in wanted.iter().filter(|name| !is_system(name)) {
            assert!(self.redis.keys.contains_key(name), "no key for {name}");
        }
        let interest = self.control.interest_mut();
        assert_eq!((interest.wanted(), interest.joined()), (wanted.len(), wanted.len()));
    }

    /// The gauges say what there is.
    fn check_counters(&mut self) {
        for (index, shard) in self.shards.iter_mut().enumerate() {
            let here = || self.clients.iter().filter(|client| client.shard == index);
            let open = |kind| here().filter(|one| one.is_open() && one.kind == kind).count() as u64;
            let sockets = here().filter(|client| !client.is_gone()).count();
            assert_eq!(shard.len(), sockets);
            let metrics = shard.metrics_mut();
            assert_eq!(metrics.sockets, sockets as u64);
            assert_eq!(metrics.clients.get(Transport::WebSocket), open(Kind::WebSocket));
            assert_eq!(metrics.clients.get(Transport::EventStream), open(Kind::EventStream));
            assert_eq!((metrics.questions_waiting, metrics.outbox_bytes), (0, 0));
            assert_eq!(metrics.outbox_connections, 0);
        }
    }

    /// Everybody leaves, one way or another: nothing remains.
    pub fn check_the_end(&mut self) {
        self.check_at_rest();
        for index in 0..self.clients.len() {
            let way = self.below(3);
            let client = &mut self.clients[index];
            if client.left {
                continue;
            }
            client.excuses.insert("polite");
            match way {
                0 if client.kind == Kind::WebSocket && client.status == Some(101) => {
                    client.say(8, b"");
                }
                1 => {
                    client.left = true;
                    client.wire.borrow_mut().broken = true;
                }
                _ => client.left = true,
            }
        }
        self.pass(Duration::from_secs(40));
        self.check_counters();
        for shard in &mut self.shards {
            assert!(shard.is_empty() && shard.registry().is_empty());
        }
        assert!(self.redis.subscribed.is_empty());
        assert_eq!(self.control.metrics().verdicts_waiting, 0);
    }
}
