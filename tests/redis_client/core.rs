//! A control core that does nothing but listen to Redis.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::time::{Duration, Instant};

use trunkline::config::redis::{HostPort, RedisTarget};
use trunkline::config::{Limits, RedisConfig};
use trunkline::hub::interest::Interest;
use trunkline::hub::moment::Moment;
use trunkline::hub::stream::Channel;
use trunkline::io::poller::Poller;
use trunkline::io::redis::{Redis, RedisEvent, RedisStats};
use trunkline::io::resolver::Resolver;

use crate::support::PATIENCE;

/// What the control core does with Redis, turned by the test's own thread.
pub struct Core {
    poller: Poller,
    redis: Redis,
    pub interest: Interest,
    start: Instant,
    /// Everything but messages, in order.
    pub events: Vec<RedisEvent>,
    /// Channel and payload of each message, in order.
    pub messages: Vec<(String, String)>,
}

impl Core {
    pub fn new(config: &RedisConfig) -> Core {
        Core::with_limits(config, &Limits::default())
    }

    pub fn with_limits(config: &RedisConfig, limits: &Limits) -> Core {
        let poller = Poller::new(64).unwrap();
        let resolver = Resolver::new(&poller).unwrap();
        let redis = Redis::new(config, limits, &resolver).unwrap();
        let interest = Interest::new(limits);
        let (events, messages) = (Vec::new(), Vec::new());
        Core { poller, redis, interest, start: Instant::now(), events, messages }
    }

    pub fn want(&mut self, name: &str) {
        self.interest.want(&channel(name), 0, false);
    }

    pub fn unwant(&mut self, name: &str) {
        self.interest.unwant(&channel(name), 0);
    }

    pub fn stats(&self) -> RedisStats {
        self.redis.stats()
    }

    /// Turns until the condition holds.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut condition: impl FnMut(&Core) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            let events = &self.events;
            assert!(Instant::now() < deadline, "did not happen: {what}; events: {events:?}");
            self.turn();
        }
    }

    /// Turns until everything wanted is confirmed.
    #[track_caller]
    pub fn settle(&mut self) {
        self.until("all is confirmed", |core| {
            core.stats().connected && core.interest.joined() == core.interest.wanted()
        });
    }

    /// Turns until a message has come, and takes it.
    #[track_caller]
    pub fn next_message(&mut self) -> (String, String) {
        self.until("a message", |core| !core.messages.is_empty());
        self.messages.remove(0)
    }

    /// The texts of all troubles so far.
    pub fn troubles(&self) -> Vec<&str> {
        let texts = self.events.iter().filter_map(|event| match event {
            RedisEvent::Trouble(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// The reasons of all losses so far.
    pub fn losses(&self) -> Vec<&str> {
        let reasons = self.events.iter().filter_map(|event| match event {
            RedisEvent::Lost { reason } => Some(reason.as_str()),
            _ => None,
        });
        reasons.collect()
    }

    pub fn turn(&mut self) {
        let now = Moment(self.start.elapsed().as_nanos() as u64);
        let pause = self.redis.next_deadline().map_or(Duration::ZERO, |at| at.since(now));
        let count = self.poller.wait(Some(pause.min(Duration::from_millis(10)))).unwrap();
        let ready: Vec<_> = (0..count).filter_map(|at| self.poller.take(at)).collect();
        let now = Moment(self.start.elapsed().as_nanos() as u64);
        let mut events = Vec::new();
        self.redis.turn(now, &ready, &self.poller, &mut |event| events.push(event));
        for event in events {
            self.take(event);
        }
        let batch = self.interest.next_batch(now, self.redis.room());
        self.redis.send(&batch);
    }

    fn take(&mut self, event: RedisEvent) {
        match &event {
            RedisEvent::Message { channel, payload } => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                self.messages.push((text(channel), text(payload)));
                return;
            }
            RedisEvent::Confirmed { channel, confirmation } => {
                self.interest.confirmed(channel, *confirmation);
            }
            RedisEvent::Lost { .. } => self.interest.connection_lost(),
            RedisEvent::KeysLost => self.interest.keys_lost(),
            RedisEvent::Connected | RedisEvent::Trouble(_) => {}
        }
        self.events.push(event);
    }
}

pub fn channel(name: &str) -> Channel {
    Channel::parse(name.as_bytes()).expect("a channel's name")
}

/// Redis at a port of this machine.
pub fn at(host: &str, port: u16) -> RedisConfig {
    to(RedisTarget::Tcp(HostPort { host: host.to_owned(), port }))
}

/// Redis at a target.
pub fn to(target: RedisTarget) -> RedisConfig {
    RedisConfig { target, user: None, password: None, database: 0, tls: None, namespace: None }
}
