//! Redis: one connection that is subscribed, one for commands, both kept up for ever. The control
//! core turns it; which channels are wanted is [`crate::hub::interest`]'s business.
//!
//! ```text
//!            Interest::next_batch(now, redis.room())
//!   hub ───────────────────────────────────────────────► Redis::send ──► SET … (commands)
//!    ▲                                                                   SUBSCRIBE … (subscriber)
//!    └──── RedisEvent: messages, confirmations, losses ◄── Redis::turn ◄─ both
//! ```
//!
//! Events flow whether keys can be set or not: while Redis refuses them (`OOM`, `MISCONF`,
//! `READONLY` …) or leaves them unanswered, subscriptions go on without, and all keys are set when
//! it takes them again.
//!
//! What the events ask of the hub: [`RedisEvent::Lost`] → `Interest::connection_lost`,
//! [`RedisEvent::KeysLost`] → `Interest::keys_lost`, [`RedisEvent::Confirmed`] →
//! `Interest::confirmed`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::poller::{Poller, Readiness};
use super::redis_link::{Link, LinkEvent, Purpose, Settings};
use super::resolver::Resolver;
use super::sentinel::text_of;
use super::tls::redis_client_config;
use crate::config::redis::RedisTarget;
use crate::config::{Limits, RedisConfig};
use crate::hub::interest::{Batch, Confirmation, Room};
use crate::hub::moment::Moment;
use crate::hub::stream::Channel;
use crate::protocol::resp::{Reply, encode_command, push_argument, start_command};

/// The top byte of the keys of everything that belongs to Redis, sentinels included.
pub const REDIS_KEY: u64 = 1 << 56;

/// Why both connections leave a server that the sentinels' master group has demoted.
const DEMOTED: &str = "the server is not the master any more";

/// Refused keys are told once in this time: with thousands of them each renewal would fill the log.
const REFUSAL_PAUSE: Duration = Duration::from_secs(60);

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
    /// Keys are missing and can be set: the command connection is new, or Redis answers again, or
    /// takes them again.
    KeysLost,
    /// Something for the log, told once until it changes: Redis cannot be reached, refuses the
    /// password, or the like. Holds no secret.
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
    subscriber: Link,
    commands: Link,
    ledger: Ledger,
    /// `NAMESPACE:`, or nothing.
    prefix: Vec<u8>,
    batch_max: usize,
    /// The word after `EX`.
    expire_secs: String,
    keys_patience: Duration,
    /// Until then subscriptions wait for the command connection, so that their keys go first.
    keys_awaited_until: Option<Moment>,
    /// The subscriber connection is away: when it stands again, the waiting begins.
    keys_patience_begins: bool,
}

/// What the replies add up to.
#[derive(Default)]
struct Ledger {
    stats: RedisStats,
    prefix: Vec<u8>,
    /// Subscriptions and their ends that are not confirmed.
    subscriptions_awaited: usize,
    keys: Keys,
    /// Before a key that was refused is tried again.
    refused_pause: Duration,
    /// The last trouble that was told, until the subscriber connection stands.
    trouble: Option<String>,
    /// Sentinels know where to go when the server turns out to be no master.
    follows_sentinels: bool,
    /// Why the subscriber connection must be given up.
    abandon_subscriber: Option<String>,
    /// Why both must be given up: the server is not the master any more.
    abandon_both: Option<String>,
}

/// The keys on their way.
#[derive(Default)]
struct Keys {
    /// Those that are not confirmed, in the order of their replies.
    awaited: VecDeque<Channel>,
    /// Since when there are some and none was confirmed.
    since: Option<Moment>,
    /// For so long that subscriptions do not wait for them any more.
    is_late: bool,
    /// One that was refused, and when to try it again: when Redis takes it, it takes all.
    refused: Option<(Channel, Moment)>,
    /// When a refusal was told last.
    told: Option<Moment>,
}

impl Redis {
    /// Starts out disconnected; the first [`Redis::turn`] connects.
    ///
    /// Errors: the TLS configuration does not fit together (a client certificate and a foreign
    /// key).
    pub fn new(
        config: &RedisConfig,
        limits: &Limits,
        resolver: &Resolver,
    ) -> std::io::Result<Redis> {
        let tls = config.tls.as_ref().map(redis_client_config).transpose()?;
        let settings = Arc::new(Settings {
            config: config.clone(),
            tls,
            limits: limits.clone(),
            resolver: resolver.clone(),
        });
        let prefix = match &config.namespace {
            Some(namespace) => format!("{namespace}:").into_bytes(),
            None => Vec::new(),
        };
        Ok(Redis {
            subscriber: Link::new(&settings, Purpose::Subscriber, REDIS_KEY),
            commands: Link::new(&settings, Purpose::Commands, REDIS_KEY + 2),
            ledger: Ledger {
                prefix: prefix.clone(),
                refused_pause: limits.redis_refused_secs,
                follows_sentinels: matches!(config.target, RedisTarget::Sentinel { .. }),
                ..Ledger::default()
            },
            prefix,
            batch_max: limits.redis_batch_max,
            expire_secs: limits.subscribed_expire_secs.as_secs().to_string(),
            keys_patience: limits.redis_keys_secs_max,
            keys_awaited_until: None,
            keys_patience_begins: true,
        })
    }

    /// Does everything that can be done now: connects, reads, writes, notices silence. `ready` may
    /// hold readiness of others. Never blocks.
    pub fn turn(
        &mut self,
        now: Moment,
        ready: &[Readiness],
        poller: &Poller,
        sink: &mut dyn FnMut(RedisEvent),
    ) {
        let Redis { subscriber, commands, ledger, .. } = self;
        if !ledger.stats.connected {
            ledger.stats.disconnected_since.get_or_insert(now);
        }
        // Keys before subscriptions.
        commands.turn(now, ready, poller, &mut |event| ledger.on_commands(event, now, sink));
        subscriber.turn(now, ready, poller, &mut |event| ledger.on_subscriber(event, now, sink));
        if let Some(reason) = ledger.abandon_subscriber.take() {
            subscriber.abandon(reason, now, &mut |event| ledger.on_subscriber(event, now, sink));
        }
        if let Some(reason) = ledger.abandon_both.take() {
            commands.abandon(reason.clone(), now, &mut |event| {
                ledger.on_commands(event, now, sink);
            });
            subscriber.abandon(reason, now, &mut |event| ledger.on_subscriber(event, now, sink));
        }
        self.await_keys(now);
        self.try_refused(now);
    }

    /// Gives the command connection a while when the subscriber connection came first.
    fn await_keys(&mut self, now: Moment) {
        if !self.subscriber.is_standing() {
            self.keys_patience_begins = true;
            self.keys_awaited_until = None;
        } else if std::mem::take(&mut self.keys_patience_begins) {
            self.keys_awaited_until = Some(now + self.keys_patience);
        }
        let is_over = self.keys_awaited_until.is_some_and(|until| now >= until);
        if is_over || self.commands.is_standing() {
            self.keys_awaited_until = None;
        }
        let keys = &mut self.ledger.keys;
        if !keys.awaited.is_empty() {
            let since = *keys.since.get_or_insert(now);
            keys.is_late |= now >= since + self.keys_patience;
        }
    }

    /// Sets a key again that was refused, once in a while.
    fn try_refused(&mut self, now: Moment) {
        let keys = &mut self.ledger.keys;
        if let Some((channel, at)) = &mut keys.refused
            && *at <= now
            && keys.awaited.is_empty()
            && self.commands.is_standing()
        {
            *at = now + retry_pause(self.ledger.refused_pause);
            let channel = channel.clone();
            self.set_keys(&[channel]);
        }
    }

    /// When [`Redis::turn`] is to be called again even if nothing is ready; the past means at once.
    pub fn next_deadline(&self) -> Option<Moment> {
        let keys = &self.ledger.keys;
        let late_at = keys.since.filter(|_| !keys.is_late).map(|since| since + self.keys_patience);
        let can_try = keys.awaited.is_empty() && self.commands.is_standing();
        let try_at = keys.refused.as_ref().map(|(_, at)| *at).filter(|_| can_try);
        let links = [self.subscriber.next_deadline(), self.commands.next_deadline()];
        let own = [self.keys_awaited_until, late_at, try_at];
        links.into_iter().chain(own).flatten().min()
    }

    /// How much may be given to [`Redis::send`] now: a batch when the one before has been answered.
    pub fn room(&self) -> Room {
        let free = |awaited: usize| if awaited == 0 { self.batch_max } else { 0 };
        let keys = &self.ledger.keys;
        let takes_keys = self.commands.is_standing() && !keys.is_late;
        Room {
            keys: takes_keys.then(|| free(keys.awaited.len())),
            subscriptions: match self.subscriber.is_standing() {
                true if self.keys_awaited_until.is_none() => {
                    free(self.ledger.subscriptions_awaited)
                }
                _ => 0,
            },
        }
    }

    /// Takes what [`crate::hub::interest::Interest::next_batch`] has made of [`Redis::room`]; the
    /// next turn sends it, so call that at once.
    pub fn send(&mut self, batch: &Batch) {
        if !batch.set_keys.is_empty() && self.commands.is_standing() {
            self.set_keys(&batch.set_keys);
        }
        if self.subscriber.is_standing() {
            let mut words = Vec::new();
            self.push_channels(&mut words, b"SUBSCRIBE", &batch.subscribe);
            self.push_channels(&mut words, b"UNSUBSCRIBE", &batch.unsubscribe);
            if !words.is_empty() {
                let count = batch.subscribe.len() + batch.unsubscribe.len();
                self.ledger.subscriptions_awaited += count;
                self.subscriber.send(&words, count);
            }
        }
    }

    /// The counts so far.
    pub fn stats(&self) -> RedisStats {
        self.ledger.stats
    }

    fn set_keys(&mut self, channels: &[Channel]) {
        let mut words = Vec::new();
        for channel in channels {
            let name = channel.redis_name();
            let key = [&self.prefix[..], b"subscribed:", name.as_bytes()].concat();
            let expire_secs = self.expire_secs.as_bytes();
            encode_command(&mut words, &[b"SET", &key, b"1", b"EX", expire_secs]);
        }
        self.ledger.keys.awaited.extend(channels.iter().cloned());
        self.commands.send(&words, channels.len());
    }

    fn push_channels(&self, words: &mut Vec<u8>, command: &[u8], channels: &[Channel]) {
        // Without a channel `UNSUBSCRIBE` would mean all of them.
        if channels.is_empty() {
            return;
        }
        start_command(words, 1 + channels.len());
        push_argument(words, command);
        for channel in channels {
            let name = [&self.prefix[..], channel.redis_name().as_bytes()].concat();
            push_argument(words, &name);
        }
    }
}

impl Ledger {
    fn on_subscriber(&mut self, event: LinkEvent, now: Moment, sink: &mut dyn FnMut(RedisEvent)) {
        match event {
            LinkEvent::Up => {
                self.stats.connected = true;
                self.stats.disconnected_since = None;
                self.stats.reconnects += u64::from(self.stats.gaps > 0);
                self.subscriptions_awaited = 0;
                self.trouble = None;
                sink(RedisEvent::Connected);
            }
            LinkEvent::Down(reason) => {
                self.stats.connected = false;
                self.stats.disconnected_since = Some(now);
                self.stats.gaps += 1;
                self.subscriptions_awaited = 0;
                sink(RedisEvent::Lost { reason });
            }
            LinkEvent::Trouble(text) => self.tell(text, sink),
            LinkEvent::Reply(reply) => self.on_push(reply, sink),
            // Only the command connection asks.
            LinkEvent::Demoted => {}
        }
    }

    fn on_push(&mut self, reply: Reply, sink: &mut dyn FnMut(RedisEvent)) {
        let (name, confirmation) = match reply {
            Reply::Message { channel, payload } => {
                self.stats.messages += 1;
                self.stats.bytes += (channel.len() + payload.len()) as u64;
                if let Some(channel) = self.strip(&channel) {
                    sink(RedisEvent::Message { channel, payload });
                }
                return;
            }
            Reply::Subscribed(name) => (name, Confirmation::Subscribed),
            Reply::Unsubscribed(name) => (name, Confirmation::Unsubscribed),
            Reply::Error(text) if self.subscriptions_awaited > 0 => {
                self.stats.refusals += 1;
                let reason = format!("subscribing is refused: {}", text_of(&text));
                self.tell(reason.clone(), sink);
                self.abandon_subscriber = Some(reason);
                return;
            }
            _ => return,
        };
        self.subscriptions_awaited = self.subscriptions_awaited.saturating_sub(1);
        if let Some(channel) = self.strip(&name) {
            sink(RedisEvent::Confirmed { channel, confirmation });
        }
    }

    fn on_commands(&mut self, event: LinkEvent, now: Moment, sink: &mut dyn FnMut(RedisEvent)) {
        match event {
            LinkEvent::Up => {
                self.stats.commands_connected = true;
                self.keys.clear();
                if self.stats.connected {
                    self.trouble = None;
                }
                sink(RedisEvent::KeysLost);
            }
            LinkEvent::Down(reason) => {
                self.stats.commands_connected = false;
                self.keys.clear();
                self.tell(format!("the command connection is lost: {reason}"), sink);
            }
            LinkEvent::Trouble(text) => self.tell(text, sink),
            LinkEvent::Demoted => self.abandon_both = Some(DEMOTED.to_owned()),
            LinkEvent::Reply(reply) => {
                let Some(channel) = self.keys.awaited.pop_front() else { return };
                self.keys.since = (!self.keys.awaited.is_empty()).then_some(now);
                match reply {
                    Reply::Error(text) => self.on_refusal(channel, &text, now, sink),
                    _ => self.on_key(&channel, sink),
                }
            }
        }
    }

    /// A key is set. If it was refused before, or nothing was answered for long, others are
    /// missing.
    fn on_key(&mut self, channel: &Channel, sink: &mut dyn FnMut(RedisEvent)) {
        let was_refused = self.keys.refused.take_if(|(refused, _)| refused == channel).is_some();
        let was_late = self.keys.is_late && self.keys.awaited.is_empty();
        if was_late {
            self.keys.is_late = false;
        }
        if was_refused || was_late {
            sink(RedisEvent::KeysLost);
        }
    }

    /// A key could not be set: Rails may stay silent on its channel, but nothing else suffers.
    fn on_refusal(
        &mut self,
        channel: Channel,
        text: &[u8],
        now: Moment,
        sink: &mut dyn FnMut(RedisEvent),
    ) {
        self.stats.refusals += 1;
        self.keys.refused.get_or_insert((channel, now + retry_pause(self.refused_pause)));
        // It answers, if only no.
        self.keys.is_late &= !self.keys.awaited.is_empty();
        if self.keys.told.is_none_or(|told| now.since(told) >= REFUSAL_PAUSE) {
            self.keys.told = Some(now);
            let text = format!("setting keys subscribed:… is refused: {}", text_of(text));
            sink(RedisEvent::Trouble(text));
        }
        if text.starts_with(b"READONLY") && self.follows_sentinels {
            self.abandon_both = Some(DEMOTED.to_owned());
        }
    }

    /// Once until it changes: both connections meet the same troubles again and again.
    fn tell(&mut self, text: String, sink: &mut dyn FnMut(RedisEvent)) {
        if self.trouble.as_ref() != Some(&text) {
            self.trouble = Some(text.clone());
            sink(RedisEvent::Trouble(text));
        }
    }

    /// The name without the namespace; `None` for one of another namespace.
    fn strip(&self, name: &Bytes) -> Option<Bytes> {
        name.starts_with(&self.prefix).then(|| name.slice(self.prefix.len()..))
    }
}

impl Keys {
    /// The command connection is another one, or gone: all keys will be set on the next.
    fn clear(&mut self) {
        *self = Keys { told: self.told, ..Keys::default() };
    }
}

/// Between half and all of it, so that many servers do not come together.
fn retry_pause(most: Duration) -> Duration {
    most.mul_f64(0.5 + fastrand::f64() / 2.0)
}
