//! Asking Redis one question after the other, over the server's own connections: the same search
//! for the master, the same TLS, the same bounds.

use std::io;
use std::task::Poll;

use crate::config::{Limits, RedisConfig};
use crate::hub::moment::Moment;
use crate::io::clock::Clock;
use crate::io::poller::{Poller, Readiness};
use crate::io::resolver::Resolver;
use crate::io::sentinel::{Located, Search, encode_auth, is_needless_password, text_of};
use crate::io::tls::{redis_client_config, server_name};
use crate::io::upstream::{Endpoint, Upstream};
use crate::protocol::resp::{Reply, ReplyLimits, encode_command, next_reply};

/// What the connection to the server and that to a sentinel are registered with.
const SERVER_KEY: u64 = 1;
const SENTINEL_KEY: u64 = 2;
const EVENTS_MAX: usize = 16;

/// A connection to Redis that waits for each reply.
pub(super) struct Conversation {
    upstream: Upstream,
    poller: Poller,
    clock: Clock,
    limits: Limits,
}

impl Conversation {
    /// Finds the server, connects and logs in.
    ///
    /// # Errors
    ///
    /// In words, without secrets.
    pub(super) fn open(config: &RedisConfig, limits: &Limits) -> Result<Conversation, String> {
        let clock = Clock::start();
        let mut poller = Poller::new(EVENTS_MAX).map_err(in_words)?;
        let located = locate(config, limits, &mut poller, clock)?;
        let mut trouble = String::from("no address");
        for endpoint in &located.endpoints {
            match connect(config, endpoint, &located.host, &poller) {
                Ok(upstream) => {
                    let limits = limits.clone();
                    let mut conversation = Conversation { upstream, poller, clock, limits };
                    match conversation.log_in(config) {
                        Ok(()) => return Ok(conversation),
                        Err(error) => trouble = format!("{endpoint}: {error}"),
                    }
                    poller = conversation.poller;
                }
                Err(error) => trouble = format!("{endpoint}: {error}"),
            }
        }
        Err(trouble)
    }

    fn log_in(&mut self, config: &RedisConfig) -> Result<(), String> {
        if let Some(password) = &config.password {
            let mut words = Vec::new();
            encode_auth(&mut words, config.user.as_deref(), password);
            if let Reply::Error(text) = self.exchange(&words)?
                && !is_needless_password(&text)
            {
                return Err(format!("the password is refused: {}", text_of(&text)));
            }
        }
        if config.database != 0 {
            let database = config.database.to_string();
            let reply = self.ask(&[b"SELECT", database.as_bytes()])?;
            refuse_error("the database is refused", reply)?;
        }
        match self.ask(&[b"PING"])? {
            // A user who may not PING may still do all that matters.
            Reply::Error(text) if text.starts_with(b"NOPERM") => Ok(()),
            reply => refuse_error("not ready", reply),
        }
    }

    /// Sends a command and waits for its reply, an error of Redis included.
    ///
    /// # Errors
    ///
    /// The connection broke, or no reply came in time.
    pub(super) fn ask(&mut self, words: &[&[u8]]) -> Result<Reply, String> {
        let mut command = Vec::new();
        encode_command(&mut command, words);
        self.exchange(&command)
    }

    fn exchange(&mut self, command: &[u8]) -> Result<Reply, String> {
        self.upstream.send(command);
        let deadline = self.clock.now() + self.limits.redis_connect_secs_max;
        let limits = ReplyLimits::new(&self.limits);
        loop {
            let pumped = self.upstream.pump().map_err(in_words)?;
            match next_reply(self.upstream.input(), limits).map_err(|error| error.to_string())? {
                Some(reply) => return Ok(reply),
                None if pumped.ended => return Err("the server closed the connection".to_owned()),
                None if pumped.more => continue,
                None if self.clock.now() >= deadline => {
                    let awaited = match self.upstream.is_established() {
                        true => "the reply",
                        false => self.upstream.awaits(),
                    };
                    return Err(format!("{awaited}: timed out"));
                }
                None => wait(&mut self.poller, self.clock, Some(deadline))?,
            };
        }
    }
}

fn locate(
    config: &RedisConfig,
    limits: &Limits,
    poller: &mut Poller,
    clock: Clock,
) -> Result<Located, String> {
    let resolver = Resolver::new(poller).map_err(in_words)?;
    let mut search = Search::new(&config.target, 0, &resolver, SENTINEL_KEY, limits);
    let mut ready = Vec::new();
    loop {
        match search.turn(clock.now(), &ready, poller) {
            Poll::Ready(found) => return found.map_err(in_words),
            Poll::Pending => ready = wait(poller, clock, search.next_deadline())?,
        }
    }
}

fn connect(
    config: &RedisConfig,
    endpoint: &Endpoint,
    host: &str,
    poller: &Poller,
) -> Result<Upstream, String> {
    let mut upstream = Upstream::connect(endpoint, poller, SERVER_KEY).map_err(in_words)?;
    if let (Some(tls), Endpoint::Tcp(_)) = (&config.tls, endpoint) {
        let tls = redis_client_config(tls).map_err(in_words)?;
        let name = server_name(host).map_err(in_words)?;
        upstream.start_tls(tls, name).map_err(in_words)?;
    }
    Ok(upstream)
}

/// Waits for readiness, until the deadline at the latest.
fn wait(
    poller: &mut Poller,
    clock: Clock,
    deadline: Option<Moment>,
) -> Result<Vec<Readiness>, String> {
    let timeout = deadline.map(|deadline| clock.until(deadline));
    let events = poller.wait(timeout).map_err(in_words)?;
    Ok((0..events).filter_map(|index| poller.take(index)).collect())
}

fn refuse_error(what: &str, reply: Reply) -> Result<(), String> {
    match reply {
        Reply::Error(text) => Err(format!("{what}: {}", text_of(&text))),
        _ => Ok(()),
    }
}

fn in_words(error: io::Error) -> String {
    error.to_string()
}
