//! One connection to Redis that is kept up for ever: found, connected, logged in, watched, and
//! begun again.
//!
//! ```text
//!   Waiting ─► Searching ─► Connecting ─► Greeting ─► Standing
//!      ▲           │            │  ▲          │           │
//!      │           │            │  └ next address         │ silence, end, failure
//!      └───────────┴────────────┴─────────────┴───────────┘
//!        back-off: 50 ms to reconnect_secs_max, with jitter
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::ClientConfig;

use super::poller::{Poller, Readiness};
use super::resolver::Resolver;
use super::sentinel::{Located, Search, encode_auth, is_needless_password, text_of};
use super::tls::server_name;
use super::upstream::{Endpoint, Upstream};
use crate::config::redis::RedisTarget;
use crate::config::{Limits, RedisConfig};
use crate::hub::moment::Moment;
use crate::protocol::resp::{Reply, ReplyLimits, encode_command, next_reply};

/// The pause before the second attempt; doubled for each further one.
const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// What both connections share.
pub(super) struct Settings {
    pub(super) config: RedisConfig,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) limits: Limits,
    pub(super) resolver: Resolver,
}

/// What the connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Subscriber,
    Commands,
}

/// What happened on it.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// It stands: logged in, and at the master.
    Up,
    /// A reply to something that [`Link::send`] has sent, or a push.
    Reply(Reply),
    /// The server is a replica now: the other connection is to leave it, too. [`LinkEvent::Down`]
    /// follows.
    Demoted,
    /// It stood and is gone.
    Down(String),
    /// An attempt has failed, or something odd is to be logged.
    Trouble(String),
}

type Sink<'a> = &'a mut dyn FnMut(LinkEvent);

pub(super) struct Link {
    settings: Arc<Settings>,
    purpose: Purpose,
    /// `key`: the server's connection; `key + 1`: that to a sentinel.
    key: u64,
    state: State,
    /// Attempts that have failed since it last stood for a while.
    attempts: u32,
    /// At which sentinel the next search begins.
    first_sentinel: usize,
    /// There is something to do without an edge: bytes to send, or reading stopped at its bound.
    again: bool,
    random: fastrand::Rng,
}

enum State {
    Waiting { until: Moment },
    Searching(Box<Search>),
    Connecting(Box<Attempt>),
    Greeting(Box<Attempt>, VecDeque<Greeting>),
    Standing(Box<Standing>),
}

/// An attempt at one of the addresses.
struct Attempt {
    upstream: Upstream,
    endpoint: Endpoint,
    /// The further addresses, and the name of the host.
    rest: Located,
    deadline: Moment,
}

/// A word of the log-in whose reply is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Greeting {
    Auth,
    SetName,
    Select,
    Role,
    Ping,
}

struct Standing {
    upstream: Upstream,
    since: Moment,
    heard: Moment,
    /// When life was asked for, if it has not been heard since.
    asked: Option<Moment>,
    /// Replies to what was given to [`Link::send`] that are missing. Only for
    /// [`Purpose::Commands`].
    awaited: usize,
    /// How many of those come before the reply to the sign of life asked for, if that is missing.
    before_sign: Option<usize>,
}

impl Link {
    pub(super) fn new(settings: &Arc<Settings>, purpose: Purpose, key: u64) -> Link {
        Link {
            settings: Arc::clone(settings),
            purpose,
            key,
            state: State::Waiting { until: Moment(0) },
            attempts: 0,
            first_sentinel: 0,
            again: false,
            random: fastrand::Rng::new(),
        }
    }

    /// Does all that can be done now.
    pub(super) fn turn(
        &mut self,
        now: Moment,
        ready: &[Readiness],
        poller: &Poller,
        sink: Sink<'_>,
    ) {
        let again = std::mem::take(&mut self.again);
        let is_ready = again || ready.iter().any(|readiness| readiness.key == self.key);
        // Each pass ends one phase; a connection that stands at once takes four.
        for _ in 0..8 {
            let state = std::mem::replace(&mut self.state, State::Waiting { until: now });
            let (state, go_on) = match state {
                State::Waiting { until } if now < until => (State::Waiting { until }, false),
                State::Waiting { .. } => (self.search(), true),
                State::Searching(search) => self.on_search(search, now, ready, poller, sink),
                State::Connecting(attempt) => self.on_connecting(attempt, now, poller, sink),
                State::Greeting(attempt, missing) => {
                    self.on_greeting(attempt, missing, now, poller, sink)
                }
                State::Standing(standing) => self.on_standing(standing, now, is_ready, sink),
            };
            self.state = state;
            if !go_on {
                return;
            }
        }
        self.again = true;
    }

    /// When to turn it at the latest; the past means at once.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        if self.again {
            return Some(Moment(0));
        }
        match &self.state {
            State::Waiting { until } => Some(*until),
            State::Searching(search) => search.next_deadline(),
            State::Connecting(attempt) | State::Greeting(attempt, _) => Some(attempt.deadline),
            State::Standing(standing) => {
                Some(standing.asked.unwrap_or(standing.heard) + self.silence_max())
            }
        }
    }

    pub(super) fn is_standing(&self) -> bool {
        matches!(self.state, State::Standing(_))
    }

    /// Sends commands in the next turn, to which so many `replies` will come; nothing if it does
    /// not stand.
    pub(super) fn send(&mut self, commands: &[u8], replies: usize) {
        if let State::Standing(standing) = &mut self.state {
            standing.upstream.send(commands);
            standing.awaited += replies;
            self.again = true;
        }
    }

    /// Gives the connection up, because of what its replies said, and begins again.
    pub(super) fn abandon(&mut self, reason: String, now: Moment, sink: Sink<'_>) {
        if let State::Standing(standing) = &self.state {
            let since = standing.since;
            self.state = self.fall(since, reason, now, sink);
        }
    }

    fn search(&self) -> State {
        let settings = &self.settings;
        State::Searching(Box::new(Search::new(
            &settings.config.target,
            self.first_sentinel,
            &settings.resolver,
            self.key + 1,
            &settings.limits,
        )))
    }

    fn on_search(
        &mut self,
        mut search: Box<Search>,
        now: Moment,
        ready: &[Readiness],
        poller: &Poller,
        sink: Sink<'_>,
    ) -> (State, bool) {
        match search.turn(now, ready, poller) {
            Poll::Pending => (State::Searching(search), false),
            Poll::Ready(Ok(located)) => (self.connect(located, None, now, poller, sink), true),
            Poll::Ready(Err(error)) => (self.back_off(error.to_string(), now, sink), true),
        }
    }

    /// Tries the next address; without one it is over for now, because of `trouble` at the last.
    fn connect(
        &mut self,
        mut located: Located,
        mut trouble: Option<String>,
        now: Moment,
        poller: &Poller,
        sink: Sink<'_>,
    ) -> State {
        while !located.endpoints.is_empty() {
            let endpoint = located.endpoints.remove(0);
            match self.start(&endpoint, &located.host, poller) {
                Ok(upstream) => {
                    let deadline = now + self.settings.limits.redis_connect_secs_max;
                    let attempt = Attempt { upstream, endpoint, rest: located, deadline };
                    return State::Connecting(Box::new(attempt));
                }
                Err(error) => trouble = Some(format!("{endpoint}: {error}")),
            }
        }
        self.back_off(trouble.unwrap_or_else(|| "no address".to_owned()), now, sink)
    }

    fn start(&self, endpoint: &Endpoint, host: &str, poller: &Poller) -> std::io::Result<Upstream> {
        let mut upstream = Upstream::connect(endpoint, poller, self.key)?;
        if let (Some(tls), Endpoint::Tcp(_)) = (&self.settings.tls, endpoint) {
            upstream.start_tls(Arc::clone(tls), server_name(host)?)?;
        }
        Ok(upstream)
    }

    fn on_connecting(
        &mut self,
        mut attempt: Box<Attempt>,
        now: Moment,
        poller: &Poller,
        sink: Sink<'_>,
    ) -> (State, bool) {
        match attempt.upstream.pump() {
            Err(error) => self.next_address(*attempt, &error.to_string(), now, poller, sink),
            Ok(pumped) if pumped.established => {
                let missing = self.greet(&mut attempt.upstream);
                (State::Greeting(attempt, missing), true)
            }
            Ok(_) if now >= attempt.deadline => {
                let trouble = format!("{}: timed out", attempt.upstream.awaits());
                self.next_address(*attempt, &trouble, now, poller, sink)
            }
            Ok(_) => (State::Connecting(attempt), false),
        }
    }

    fn next_address(
        &mut self,
        attempt: Attempt,
        trouble: &str,
        now: Moment,
        poller: &Poller,
        sink: Sink<'_>,
    ) -> (State, bool) {
        let trouble = format!("{}: {trouble}", attempt.endpoint);
        drop(attempt.upstream);
        (self.connect(attempt.rest, Some(trouble), now, poller, sink), true)
    }

    /// Says all words of the log-in at once.
    fn greet(&self, upstream: &mut Upstream) -> VecDeque<Greeting> {
        let config = &self.settings.config;
        let mut missing = VecDeque::new();
        let mut words = Vec::new();
        if let Some(password) = &config.password {
            encode_auth(&mut words, config.user.as_deref(), password);
            missing.push_back(Greeting::Auth);
        }
        let name = match self.purpose {
            Purpose::Subscriber => &b"trunkline-subscriber"[..],
            Purpose::Commands => b"trunkline-commands",
        };
        encode_command(&mut words, &[b"CLIENT", b"SETNAME", name]);
        missing.push_back(Greeting::SetName);
        if self.purpose == Purpose::Commands && config.database != 0 {
            let database = config.database.to_string();
            encode_command(&mut words, &[b"SELECT", database.as_bytes()]);
            missing.push_back(Greeting::Select);
        }
        if self.is_sentinel() {
            encode_command(&mut words, &[b"ROLE"]);
            missing.push_back(Greeting::Role);
        }
        // Finds out whether a password is missing and whether Redis is still loading.
        encode_command(&mut words, &[b"PING"]);
        missing.push_back(Greeting::Ping);
        upstream.send(&words);
        missing
    }

    fn on_greeting(
        &mut self,
        mut attempt: Box<Attempt>,
        mut missing: VecDeque<Greeting>,
        now: Moment,
        poller: &Poller,
        sink: Sink<'_>,
    ) -> (State, bool) {
        let pumped = match attempt.upstream.pump() {
            Ok(pumped) => pumped,
            Err(error) => {
                return self.next_address(*attempt, &error.to_string(), now, poller, sink);
            }
        };
        let limits = ReplyLimits::new(&self.settings.limits);
        while let Some(word) = missing.front().copied() {
            let trouble = match next_reply(attempt.upstream.input(), limits) {
                Ok(None) if pumped.ended => "the server closed the connection".to_owned(),
                Ok(None) if now >= attempt.deadline => "log in: timed out".to_owned(),
                Ok(None) => return (State::Greeting(attempt, missing), false),
                Err(error) => error.to_string(),
                Ok(Some(reply)) => match judge(word, &reply) {
                    Ok(()) => {
                        missing.pop_front();
                        continue;
                    }
                    Err(trouble) => trouble,
                },
            };
            // This sentinel's knowledge, or this address, is of no use: another may be.
            self.first_sentinel = self.first_sentinel.wrapping_add(1);
            return self.next_address(*attempt, &trouble, now, poller, sink);
        }
        sink(LinkEvent::Up);
        let standing = Standing::new(attempt.upstream, now);
        self.again = true;
        (State::Standing(Box::new(standing)), false)
    }

    fn on_standing(
        &mut self,
        mut standing: Box<Standing>,
        now: Moment,
        is_ready: bool,
        sink: Sink<'_>,
    ) -> (State, bool) {
        let silence_max = self.silence_max();
        let quiet_since = standing.asked.unwrap_or(standing.heard);
        let is_silent = now >= quiet_since + silence_max;
        // What has already come is read before the server is called silent.
        if (is_ready || is_silent)
            && let Err(reason) = self.converse(&mut standing, now, sink)
        {
            return (self.fall(standing.since, reason, now, sink), true);
        }
        if now >= standing.asked.unwrap_or(standing.heard) + silence_max {
            if standing.asked.is_some() {
                let reason = format!("no sign of life for {} s", 2 * silence_max.as_secs());
                return (self.fall(standing.since, reason, now, sink), true);
            }
            self.ask_for_sign(&mut standing, now);
        }
        (State::Standing(standing), false)
    }

    /// Reads and writes; the error is why the connection is of no further use.
    fn converse(
        &mut self,
        standing: &mut Standing,
        now: Moment,
        sink: Sink<'_>,
    ) -> Result<(), String> {
        let limits = ReplyLimits::new(&self.settings.limits);
        let pumped = standing.upstream.pump().map_err(|error| error.to_string())?;
        if pumped.received {
            standing.heard = now;
            while let Some(reply) =
                next_reply(standing.upstream.input(), limits).map_err(|error| error.to_string())?
            {
                self.sort(standing, reply, sink)?;
            }
            standing.asked = None;
        }
        if pumped.ended {
            return Err("the server closed the connection".to_owned());
        }
        self.again |= pumped.more;
        Ok(())
    }

    fn ask_for_sign(&mut self, standing: &mut Standing, now: Moment) {
        standing.asked = Some(now);
        if standing.before_sign.is_some() {
            return;
        }
        let mut question = Vec::new();
        // At a sentinel's server, watch whether it still is the master.
        let role = self.purpose == Purpose::Commands && self.is_sentinel();
        encode_command(&mut question, &[if role { b"ROLE" } else { b"PING" }]);
        standing.upstream.send(&question);
        if self.purpose == Purpose::Commands {
            standing.before_sign = Some(standing.awaited);
        }
        self.again = true;
    }

    /// Hands a reply on unless it is the sign of life; the error is why the connection is of no
    /// further use.
    fn sort(
        &mut self,
        standing: &mut Standing,
        reply: Reply,
        sink: Sink<'_>,
    ) -> Result<(), String> {
        if self.purpose == Purpose::Subscriber {
            // PING is answered by `+PONG`, or by a list while something is subscribed.
            let is_sign = match &reply {
                Reply::Status(_) | Reply::Array(_) => true,
                Reply::Error(text) => is_unable_to_save(text),
                _ => false,
            };
            if !is_sign {
                sink(LinkEvent::Reply(reply));
            }
            return Ok(());
        }
        if standing.before_sign == Some(0) {
            standing.before_sign = None;
            // A refusal (`BUSY`, `LOADING` …) is a sign of life as well.
            return is_master(&reply).inspect_err(|_| {
                self.first_sentinel = self.first_sentinel.wrapping_add(1);
                sink(LinkEvent::Demoted);
            });
        }
        standing.before_sign = standing.before_sign.map(|before| before - 1);
        standing.awaited = standing.awaited.saturating_sub(1);
        sink(LinkEvent::Reply(reply));
        Ok(())
    }

    /// It stood since `since` and is gone.
    fn fall(&mut self, since: Moment, reason: String, now: Moment, sink: Sink<'_>) -> State {
        if now.since(since) >= self.settings.limits.reconnect_secs_max {
            self.attempts = 0;
        }
        sink(LinkEvent::Down(reason));
        self.pause(now)
    }

    fn back_off(&mut self, trouble: String, now: Moment, sink: Sink<'_>) -> State {
        sink(LinkEvent::Trouble(trouble));
        self.pause(now)
    }

    /// Twice as long each time, and between half and all of that, so that many servers do not come
    /// together.
    fn pause(&mut self, now: Moment) -> State {
        let doubled = BACKOFF_MIN.saturating_mul(1 << self.attempts.min(16));
        let most = doubled.min(self.settings.limits.reconnect_secs_max);
        self.attempts = self.attempts.saturating_add(1);
        State::Waiting { until: now + most.mul_f64(0.5 + 0.5 * self.random.f64()) }
    }

    fn silence_max(&self) -> Duration {
        self.settings.limits.redis_silence_secs_max
    }

    fn is_sentinel(&self) -> bool {
        matches!(self.settings.config.target, RedisTarget::Sentinel { .. })
    }
}

impl Standing {
    fn new(upstream: Upstream, now: Moment) -> Standing {
        Standing { upstream, since: now, heard: now, asked: None, awaited: 0, before_sign: None }
    }
}

/// Is this reply to a word of the log-in good enough to go on?
fn judge(word: Greeting, reply: &Reply) -> Result<(), String> {
    let refused = |what: &str, text: &[u8]| Err(format!("{what}: {}", text_of(text)));
    match (word, reply) {
        (Greeting::Auth, Reply::Error(text)) if !is_needless_password(text) => {
            refused("the password is refused", text)
        }
        (Greeting::Select, Reply::Error(text)) => refused("the database is refused", text),
        // A user who may not do this may still do all that matters.
        (_, Reply::Error(text)) if text.starts_with(b"NOPERM") => Ok(()),
        (Greeting::Ping, Reply::Error(text)) if text.starts_with(b"NOAUTH") => {
            refused("a password is needed", text)
        }
        (Greeting::Ping, Reply::Error(text)) if is_unable_to_save(text) => Ok(()),
        (Greeting::Ping | Greeting::Role, Reply::Error(text)) => refused("not ready", text),
        (Greeting::Role, role) => is_master(role),
        _ => Ok(()),
    }
}

/// A Redis whose disk is full refuses `PING` like a write. It carries events as before.
fn is_unable_to_save(error: &[u8]) -> bool {
    error.starts_with(b"MISCONF")
}

/// What `ROLE` says; the answer to anything else tells nothing against it.
fn is_master(reply: &Reply) -> Result<(), String> {
    match reply {
        Reply::Array(role) => match role.first() {
            Some(Reply::Bulk(name)) if name != "master" => {
                Err(format!("not the master but a {}", text_of(name)))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}
