//! Where the Redis server is now: a socket, a name to look up, or whatever the sentinels say is the
//! master (<https://redis.io/docs/latest/develop/reference/sentinel-clients/>). Asked anew for
//! every connection attempt.
//!
//! ```text
//!   Unix ─────────────────────────────────────────────────────────► found
//!   Tcp ──────────────────────────────────────────► look up ──────► found
//!   Sentinel ─► look up a sentinel ─► ask it ─────► look up ──────► found
//!                    ▲                  │ not reached, does not know, no answer in time
//!                    └── the next one ◄─┘ none left: failed
//! ```
//!
//! The sentinels are spoken to in plain text; `rediss://` is about the server.

use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use super::poller::{Poller, Readiness};
use super::resolver::{Lookup, Resolver};
use super::upstream::{Endpoint, Upstream};
use crate::config::Limits;
use crate::config::redis::{HostPort, RedisTarget};
use crate::config::secret::Secret;
use crate::hub::moment::Moment;
use crate::protocol::resp::{Reply, ReplyLimits, encode_command, next_reply};

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// The host as it was named, for the certificate; empty for a Unix socket.
    pub host: String,
    /// To be tried in this order; at least one.
    pub endpoints: Vec<Endpoint>,
}

/// The search for the server, once.
pub struct Search {
    target: RedisTarget,
    resolver: Resolver,
    /// What the connection to a sentinel is registered with.
    key: u64,
    answer_max: Duration,
    lookup_max: Duration,
    reply_limits: ReplyLimits,
    /// How many sentinels have been tried, and at which the search began.
    tried: usize,
    first: usize,
    /// Why the sentinels tried so far were of no help.
    troubles: Vec<String>,
    step: Step,
}

enum Step {
    Begin,
    LookUpSentinel(Lookup),
    AskSentinel { conversation: Conversation, others: Vec<SocketAddr> },
    LookUpServer { lookup: Lookup, host: String },
    Over,
}

/// A connection to one address of one sentinel.
struct Conversation {
    upstream: Upstream,
    deadline: Moment,
    /// The next reply is the one to `AUTH`.
    authenticating: bool,
}

impl Search {
    /// Prepares a search that begins with sentinel number `first` (counted round), so that one with
    /// stale knowledge is not asked for ever. `key` is what the connection to a sentinel is
    /// registered with.
    pub fn new(
        target: &RedisTarget,
        first: usize,
        resolver: &Resolver,
        key: u64,
        limits: &Limits,
    ) -> Search {
        Search {
            target: target.clone(),
            resolver: resolver.clone(),
            key,
            answer_max: limits.sentinel_secs_max,
            lookup_max: limits.lookup_secs_max,
            reply_limits: ReplyLimits::new(limits),
            tried: 0,
            first,
            troubles: Vec::new(),
            step: Step::Begin,
        }
    }

    /// Goes on as far as possible.
    ///
    /// Errors: no address, or no sentinel was of help; the text names what was tried and holds no
    /// secret.
    pub fn turn(
        &mut self,
        now: Moment,
        ready: &[Readiness],
        poller: &Poller,
    ) -> Poll<io::Result<Located>> {
        loop {
            match std::mem::replace(&mut self.step, Step::Over) {
                Step::Begin => match self.begin(now) {
                    Ok(step) => self.step = step,
                    Err(outcome) => return Poll::Ready(outcome),
                },
                Step::LookUpSentinel(mut lookup) => match lookup.poll(now) {
                    Poll::Pending => {
                        self.step = Step::LookUpSentinel(lookup);
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(addresses)) => self.step = self.ask(addresses, now, poller),
                    Poll::Ready(Err(error)) => self.next_sentinel(&error.to_string()),
                },
                Step::AskSentinel { mut conversation, others } => {
                    let answer = self.listen(&mut conversation, now, ready);
                    match answer {
                        Poll::Pending => {
                            self.step = Step::AskSentinel { conversation, others };
                            return Poll::Pending;
                        }
                        Poll::Ready(Ok(server)) => self.step = self.look_up_server(&server, now),
                        Poll::Ready(Err(error)) if others.is_empty() => self.next_sentinel(&error),
                        Poll::Ready(Err(_)) => self.step = self.ask(others, now, poller),
                    }
                }
                Step::LookUpServer { mut lookup, host } => match lookup.poll(now) {
                    Poll::Pending => {
                        self.step = Step::LookUpServer { lookup, host };
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(addresses)) => {
                        let endpoints = addresses.into_iter().map(Endpoint::Tcp).collect();
                        return Poll::Ready(Ok(Located { host, endpoints }));
                    }
                    Poll::Ready(Err(error)) => {
                        let text = format!("look up {host}: {error}");
                        return Poll::Ready(Err(io::Error::new(error.kind(), text)));
                    }
                },
                Step::Over => return Poll::Ready(Err(io::Error::other("the search is over"))),
            }
        }
    }

    /// When to turn it at the latest.
    pub fn next_deadline(&self) -> Option<Moment> {
        match &self.step {
            Step::LookUpSentinel(lookup) | Step::LookUpServer { lookup, .. } => {
                Some(lookup.deadline())
            }
            Step::AskSentinel { conversation, .. } => Some(conversation.deadline),
            Step::Begin | Step::Over => Some(Moment(0)),
        }
    }

    /// The first step, or that to the next sentinel; `Err`: the outcome is known.
    fn begin(&self, now: Moment) -> Result<Step, io::Result<Located>> {
        match &self.target {
            RedisTarget::Unix(path) => {
                let endpoints = vec![Endpoint::Unix(path.clone())];
                Err(Ok(Located { host: String::new(), endpoints }))
            }
            RedisTarget::Tcp(server) => Ok(self.look_up_server(server, now)),
            RedisTarget::Sentinel { sentinels, master, .. } => {
                match current(sentinels, self.first, self.tried) {
                    Some(sentinel) => {
                        let deadline = now + self.lookup_max;
                        let lookup = self.resolver.look_up(&sentinel.host, sentinel.port, deadline);
                        Ok(Step::LookUpSentinel(lookup))
                    }
                    None => {
                        let troubles = self.troubles.join("; ");
                        let text = format!("no sentinel helps to find {master}: {troubles}");
                        Err(Err(io::Error::new(io::ErrorKind::NotFound, text)))
                    }
                }
            }
        }
    }

    fn look_up_server(&self, server: &HostPort, now: Moment) -> Step {
        let lookup = self.resolver.look_up(&server.host, server.port, now + self.lookup_max);
        Step::LookUpServer { lookup, host: server.host.clone() }
    }

    fn next_sentinel(&mut self, trouble: &str) {
        if let RedisTarget::Sentinel { sentinels, .. } = &self.target
            && let Some(sentinel) = current(sentinels, self.first, self.tried)
        {
            self.troubles.push(format!("{}:{}: {trouble}", sentinel.host, sentinel.port));
        }
        self.tried += 1;
        self.step = Step::Begin;
    }

    /// Connects to the first address that can be connected to and asks.
    fn ask(&mut self, mut others: Vec<SocketAddr>, now: Moment, poller: &Poller) -> Step {
        let RedisTarget::Sentinel { master, user, password, .. } = &self.target else {
            return Step::Begin;
        };
        let mut trouble = String::from("no address");
        while !others.is_empty() {
            let endpoint = Endpoint::Tcp(others.remove(0));
            match Upstream::connect(&endpoint, poller, self.key) {
                Ok(mut upstream) => {
                    let mut question = Vec::new();
                    if let Some(password) = password {
                        encode_auth(&mut question, user.as_deref(), password);
                    }
                    let words = [&b"SENTINEL"[..], b"get-master-addr-by-name", master.as_bytes()];
                    encode_command(&mut question, &words);
                    upstream.send(&question);
                    let deadline = now + self.answer_max;
                    let authenticating = password.is_some();
                    let conversation = Conversation { upstream, deadline, authenticating };
                    return Step::AskSentinel { conversation, others };
                }
                Err(error) => trouble = error.to_string(),
            }
        }
        self.next_sentinel(&trouble);
        Step::Begin
    }

    /// Waits for the sentinel's answer.
    fn listen(
        &self,
        conversation: &mut Conversation,
        now: Moment,
        ready: &[Readiness],
    ) -> Poll<Result<HostPort, String>> {
        // Without an edge there is nothing to do: the first pump waits for the connection, too.
        if ready.iter().any(|readiness| readiness.key == self.key) {
            let pumped = match conversation.upstream.pump() {
                Ok(pumped) => pumped,
                Err(error) => return Poll::Ready(Err(error.to_string())),
            };
            loop {
                match next_reply(conversation.upstream.input(), self.reply_limits) {
                    Ok(None) => break,
                    Ok(Some(reply)) if conversation.authenticating => {
                        conversation.authenticating = false;
                        if let Reply::Error(text) = reply
                            && !is_needless_password(&text)
                        {
                            return Poll::Ready(Err(text_of(&text)));
                        }
                    }
                    Ok(Some(reply)) => return Poll::Ready(self.understand(&reply)),
                    Err(error) => return Poll::Ready(Err(error.to_string())),
                }
            }
            if pumped.ended {
                return Poll::Ready(Err("it closed the connection".to_owned()));
            }
        }
        if now >= conversation.deadline {
            return Poll::Ready(Err("no answer in time".to_owned()));
        }
        Poll::Pending
    }

    /// The answer to `SENTINEL get-master-addr-by-name`: host and port as strings, or a missing
    /// value.
    fn understand(&self, reply: &Reply) -> Result<HostPort, String> {
        let host_port = match reply {
            Reply::Array(words) => match words.as_slice() {
                [Reply::Bulk(host), Reply::Bulk(port)] => Some((text_of(host), text_of(port))),
                _ => None,
            },
            Reply::Error(text) => return Err(text_of(text)),
            Reply::Null => return Err("it does not know the master".to_owned()),
            _ => None,
        };
        match host_port {
            Some((host, port)) => match port.parse() {
                Ok(port) => Ok(HostPort { host, port }),
                Err(_) => Err("it names no port".to_owned()),
            },
            None => Err("it gives an answer that makes no sense".to_owned()),
        }
    }
}

/// `AUTH` with or without a user.
pub fn encode_auth(output: &mut Vec<u8>, user: Option<&str>, password: &Secret) {
    let password = password.reveal().as_bytes();
    match user {
        Some(user) => encode_command(output, &[b"AUTH", user.as_bytes(), password]),
        None => encode_command(output, &[b"AUTH", password]),
    }
}

/// The server wants no password and was given one: the clients that installations are used to go
/// on, so do we.
pub fn is_needless_password(error: &[u8]) -> bool {
    error.starts_with(b"ERR AUTH <password> called without any password configured")
        || error.starts_with(b"ERR Client sent AUTH, but no password is set")
}

/// What a server wrote, for the log: bounded, printable.
pub fn text_of(bytes: &[u8]) -> String {
    const BYTES_MAX: usize = 200;
    // Redis quotes the arguments of a command that it does not know: those of AUTH are secret.
    let end = memchr::memmem::find(bytes, b", with args beginning").unwrap_or(bytes.len());
    let bytes = bytes.get(..end.min(BYTES_MAX)).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

fn current(sentinels: &[HostPort], first: usize, tried: usize) -> Option<&HostPort> {
    if tried >= sentinels.len() {
        return None;
    }
    sentinels.get((first % sentinels.len() + tried) % sentinels.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_quotes_of_a_command_is_not_repeated() {
        // Where AUTH was renamed (Redis 7.0).
        let text = b"ERR unknown command 'AUTH', with args beginning with: 's3cret' ";
        assert_eq!(text_of(text), "ERR unknown command 'AUTH'");
        assert_eq!(text_of(b"ERR a\r\nb"), "ERR a??b");
        assert_eq!(text_of(&[b'x'; 900]).len(), 200);
    }
}
