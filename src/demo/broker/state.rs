//! What the broker knows and how each command changes it: keys with an expiry, and who is
//! subscribed to what. A value without sockets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::reply;
use crate::hub::moment::Moment;

/// Most keys. The server keeps one for each channel that somebody wants.
const KEYS_MAX: usize = 100_000;

/// Number of a client.
pub(super) type ClientId = u64;

/// Everything.
#[derive(Default)]
pub(super) struct State {
    keys: HashMap<(u8, Vec<u8>), Entry>,
    /// Subscribers of each channel; no channel without one.
    channels: BTreeMap<Vec<u8>, BTreeSet<ClientId>>,
    clients: HashMap<ClientId, Client>,
}

struct Entry {
    value: Vec<u8>,
    expires: Option<Moment>,
}

#[derive(Default)]
struct Client {
    database: u8,
    channels: BTreeSet<Vec<u8>>,
}

/// What happens to the client that sent a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It stays.
    Stay,
    /// It is closed once its replies are written.
    Close,
}

/// Where replies and messages go: bytes for a client.
pub(super) type Output<'a> = &'a mut dyn FnMut(ClientId, &[u8]);

const WRONG_COUNT: &str = "ERR wrong number of arguments";
const SYNTAX: &str = "ERR syntax error";
const NO_INTEGER: &str = "ERR value is not an integer or out of range";

impl State {
    /// Everything about a client that is gone is forgotten.
    pub(super) fn forget(&mut self, client: ClientId) {
        let Some(gone) = self.clients.remove(&client) else { return };
        for channel in gone.channels {
            self.remove_subscriber(client, &channel);
        }
    }

    /// Carries out one command: its name and its arguments.
    pub(super) fn execute(
        &mut self,
        client: ClientId,
        words: &[&[u8]],
        now: Moment,
        output: Output<'_>,
    ) -> After {
        let Some((name, arguments)) = words.split_first() else { return After::Stay };
        let name = String::from_utf8_lossy(name).to_ascii_uppercase();
        let subscribed = self.clients.entry(client).or_default().channels.len();
        let mut answer = Vec::new();
        match name.as_str() {
            "SUBSCRIBE" => self.subscribe(client, arguments, &mut answer),
            "UNSUBSCRIBE" => self.unsubscribe(client, arguments, &mut answer),
            "QUIT" => reply::simple(&mut answer, "OK"),
            "PING" if subscribed > 0 => {
                reply::array(&mut answer, 2);
                reply::bulk(&mut answer, b"pong");
                reply::bulk(&mut answer, arguments.first().unwrap_or(&b"".as_slice()));
            }
            _ if subscribed > 0 => reply::error(
                &mut answer,
                &format!(
                    "ERR Can't execute '{}': only SUBSCRIBE / UNSUBSCRIBE / PING / QUIT \
                     are allowed in this context",
                    name.to_ascii_lowercase()
                ),
            ),
            "PUBLISH" => self.publish(arguments, &mut answer, output),
            "PUBSUB" => self.pubsub(arguments, &mut answer),
            _ if !self.key_command(client, &name, arguments, now, &mut answer) => {
                connection_command(&name, arguments, &mut answer);
            }
            _ => {}
        }
        output(client, &answer);
        if name == "QUIT" { After::Close } else { After::Stay }
    }

    fn subscribe(&mut self, client: ClientId, channels: &[&[u8]], answer: &mut Vec<u8>) {
        if channels.is_empty() {
            reply::error(answer, WRONG_COUNT);
        }
        for channel in channels {
            let own = &mut self.clients.entry(client).or_default().channels;
            own.insert(channel.to_vec());
            confirm(answer, "subscribe", Some(channel), own.len());
            self.channels.entry(channel.to_vec()).or_default().insert(client);
        }
    }

    fn unsubscribe(&mut self, client: ClientId, channels: &[&[u8]], answer: &mut Vec<u8>) {
        let own = &mut self.clients.entry(client).or_default().channels;
        let named: Vec<Vec<u8>> = if channels.is_empty() {
            own.iter().cloned().collect()
        } else {
            channels.iter().map(|channel| channel.to_vec()).collect()
        };
        if named.is_empty() {
            confirm(answer, "unsubscribe", None, 0);
        }
        for channel in named {
            let own = &mut self.clients.entry(client).or_default().channels;
            own.remove(&channel);
            confirm(answer, "unsubscribe", Some(&channel), own.len());
            self.remove_subscriber(client, &channel);
        }
    }

    fn remove_subscriber(&mut self, client: ClientId, channel: &[u8]) {
        if let Some(subscribers) = self.channels.get_mut(channel) {
            subscribers.remove(&client);
            if subscribers.is_empty() {
                self.channels.remove(channel);
            }
        }
    }

    fn publish(&mut self, arguments: &[&[u8]], answer: &mut Vec<u8>, output: Output<'_>) {
        let &[channel, message] = arguments else { return reply::error(answer, WRONG_COUNT) };
        let subscribers = self.channels.get(channel);
        let mut bytes = Vec::with_capacity(channel.len() + message.len() + 48);
        reply::array(&mut bytes, 3);
        reply::bulk(&mut bytes, b"message");
        reply::bulk(&mut bytes, channel);
        reply::bulk(&mut bytes, message);
        for subscriber in subscribers.into_iter().flatten() {
            output(*subscriber, &bytes);
        }
        reply::count(answer, subscribers.map_or(0, BTreeSet::len));
    }

    fn pubsub(&self, arguments: &[&[u8]], answer: &mut Vec<u8>) {
        let what = arguments.first().map(|what| what.to_ascii_uppercase());
        match (what.as_deref(), arguments.get(1..).unwrap_or_default()) {
            (Some(b"CHANNELS"), []) => {
                reply::array(answer, self.channels.len());
                self.channels.keys().for_each(|channel| reply::bulk(answer, channel));
            }
            (Some(b"CHANNELS"), [pattern]) => {
                let matches = |name: &&Vec<u8>| glob(pattern, name);
                let matching: Vec<_> = self.channels.keys().filter(matches).collect();
                reply::array(answer, matching.len());
                matching.into_iter().for_each(|channel| reply::bulk(answer, channel));
            }
            (Some(b"NUMSUB"), channels) => {
                reply::array(answer, channels.len() * 2);
                for channel in channels {
                    reply::bulk(answer, channel);
                    reply::count(answer, self.channels.get(*channel).map_or(0, BTreeSet::len));
                }
            }
            (Some(b"NUMPAT"), []) => reply::integer(answer, 0),
            _ => reply::error(answer, SYNTAX),
        }
    }

    /// Commands about keys. False if `name` is none of them.
    fn key_command(
        &mut self,
        client: ClientId,
        name: &str,
        arguments: &[&[u8]],
        now: Moment,
        answer: &mut Vec<u8>,
    ) -> bool {
        let database = self.clients.get(&client).map_or(0, |client| client.database);
        match (name, arguments) {
            ("SELECT", [number]) => match parsed(number) {
                Some(number @ 0..16) => {
                    self.clients.entry(client).or_default().database = number;
                    reply::simple(answer, "OK");
                }
                _ => reply::error(answer, "ERR DB index is out of range"),
            },
            ("SET", [key, value, options @ ..]) => {
                match self.set((database, key.to_vec()), value, options, now) {
                    Ok(true) => reply::simple(answer, "OK"),
                    Ok(false) => reply::null(answer),
                    Err(text) => reply::error(answer, text),
                }
            }
            ("GET", [key]) => match self.entry(database, key, now) {
                Some(entry) => reply::bulk(answer, &entry.value),
                None => reply::null(answer),
            },
            ("TTL", [key]) => reply::integer(answer, self.seconds_left(database, key, now)),
            ("EXISTS", [_, ..]) => {
                let exists = |key: &&&[u8]| self.entry(database, key, now).is_some();
                reply::count(answer, arguments.iter().filter(exists).count());
            }
            ("DEL" | "UNLINK", [_, ..]) => {
                let gone = arguments.iter().filter(|key| {
                    let there = self.entry(database, key, now).is_some();
                    self.keys.remove(&(database, key.to_vec()));
                    there
                });
                let gone = gone.count();
                reply::count(answer, gone);
            }
            ("EXPIRE", [key, seconds]) => match parsed(seconds) {
                Some(seconds) => {
                    let there = self.expire(database, key, Duration::from_secs(seconds), now);
                    reply::integer(answer, there.into());
                }
                None => reply::error(answer, NO_INTEGER),
            },
            ("DBSIZE", []) => {
                let live = |(key, entry): &(&(u8, Vec<u8>), &Entry)| {
                    key.0 == database && entry.expires.is_none_or(|end| end > now)
                };
                reply::count(answer, self.keys.iter().filter(live).count());
            }
            ("SELECT" | "SET" | "GET" | "TTL" | "EXISTS" | "DEL" | "EXPIRE", _) => {
                reply::error(answer, WRONG_COUNT);
            }
            _ => return false,
        }
        true
    }

    fn entry(&self, database: u8, key: &[u8], now: Moment) -> Option<&Entry> {
        let entry = self.keys.get(&(database, key.to_vec()))?;
        entry.expires.is_none_or(|expires| expires > now).then_some(entry)
    }

    /// As Redis answers: -2 without a key, -1 without an expiry.
    fn seconds_left(&self, database: u8, key: &[u8], now: Moment) -> i64 {
        match self.entry(database, key, now).map(|entry| entry.expires) {
            None => -2,
            Some(None) => -1,
            Some(Some(expires)) => {
                i64::try_from(expires.since(now).as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
            }
        }
    }

    fn expire(&mut self, database: u8, key: &[u8], time: Duration, now: Moment) -> bool {
        let there = self.entry(database, key, now).is_some();
        if let Some(entry) = self.keys.get_mut(&(database, key.to_vec())) {
            entry.expires = Some(now + time);
        }
        there
    }

    /// `SET key value [EX seconds | PX milliseconds] [NX | XX]`. False if a condition held it back.
    fn set(
        &mut self,
        key: (u8, Vec<u8>),
        value: &[u8],
        options: &[&[u8]],
        now: Moment,
    ) -> Result<bool, &'static str> {
        let (mut expires, mut wanted) = (None, None);
        let mut options = options.iter();
        while let Some(option) = options.next() {
            let time = |number: Option<&&[u8]>| {
                number.and_then(|number| parsed::<u64>(number)).filter(|time| *time > 0)
            };
            match option.to_ascii_uppercase().as_slice() {
                b"EX" => {
                    let seconds = time(options.next()).ok_or(NO_INTEGER)?;
                    expires = Some(now + Duration::from_secs(seconds));
                }
                b"PX" => {
                    let millis = time(options.next()).ok_or(NO_INTEGER)?;
                    expires = Some(now + Duration::from_millis(millis));
                }
                b"NX" => wanted = Some(false),
                b"XX" => wanted = Some(true),
                _ => return Err(SYNTAX),
            }
        }
        if wanted.is_some_and(|wanted| self.entry(key.0, &key.1, now).is_some() != wanted) {
            return Ok(false);
        }
        if self.keys.len() >= KEYS_MAX && !self.keys.contains_key(&key) {
            self.keys.retain(|_, entry| entry.expires.is_none_or(|expires| expires > now));
            if self.keys.len() >= KEYS_MAX {
                return Err("OOM this broker is for a demonstration and full of keys");
            }
        }
        self.keys.insert(key, Entry { value: value.to_vec(), expires });
        Ok(true)
    }
}

/// Commands about the connection and the server; the last resort.
fn connection_command(name: &str, arguments: &[&[u8]], answer: &mut Vec<u8>) {
    let first = arguments.first().map(|word| word.to_ascii_uppercase());
    match (name, first.as_deref()) {
        ("PING", None) => reply::simple(answer, "PONG"),
        ("PING" | "ECHO", Some(_)) => {
            reply::bulk(answer, arguments.first().unwrap_or(&b"".as_slice()));
        }
        ("HELLO", Some(b"2") | None) => hello(answer),
        ("HELLO", Some(_)) => reply::error(answer, "NOPROTO unsupported protocol version"),
        ("AUTH", Some(_)) => reply::error(
            answer,
            "ERR AUTH <password> called without any password configured for the default user",
        ),
        ("CLIENT", Some(b"ID")) => reply::integer(answer, 1),
        ("CLIENT", Some(b"GETNAME")) => reply::null(answer),
        ("CLIENT", Some(b"SETNAME" | b"SETINFO" | b"REPLY" | b"NO-EVICT" | b"NO-TOUCH"))
        | ("RESET", None) => reply::simple(answer, "OK"),
        ("COMMAND", Some(b"COUNT")) => reply::integer(answer, 0),
        ("COMMAND" | "CONFIG", _) => reply::array(answer, 0),
        ("INFO", _) => reply::bulk(answer, INFORMATION.as_bytes()),
        _ => reply::error(answer, &unknown(name)),
    }
}

const INFORMATION: &str = "# Server\r\nredis_version:7.0.0\r\nredis_mode:standalone\r\n\
    server_name:trunkline-demo\r\n# Replication\r\nrole:master\r\n# Persistence\r\nloading:0\r\n";

fn hello(answer: &mut Vec<u8>) {
    reply::array(answer, 6);
    for word in ["server", "trunkline-demo", "version", "7.0.0", "proto"] {
        reply::bulk(answer, word.as_bytes());
    }
    reply::integer(answer, 2);
}

fn unknown(name: &str) -> String {
    let name: String = name.chars().take(64).collect();
    format!("ERR unknown command '{name}': this broker belongs to a demonstration")
}

fn confirm(answer: &mut Vec<u8>, kind: &str, channel: Option<&[u8]>, count: usize) {
    reply::array(answer, 3);
    reply::bulk(answer, kind.as_bytes());
    match channel {
        Some(channel) => reply::bulk(answer, channel),
        None => reply::null(answer),
    }
    reply::count(answer, count);
}

fn parsed<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Patterns of `PUBSUB CHANNELS`, as far as people type them: `*` is any text.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let mut parts = pattern.split(|byte| *byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match memchr::memmem::find(rest, part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Executes a typed command and returns what every client was sent, the sender first.
    fn run(state: &mut State, client: ClientId, command: &str, now: Moment) -> Vec<String> {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        let mut sent: BTreeMap<ClientId, String> = BTreeMap::new();
        state.execute(client, &words, now, &mut |to, bytes| {
            sent.entry(to).or_default().push_str(&String::from_utf8_lossy(bytes));
        });
        let own = sent.remove(&client).unwrap_or_default();
        std::iter::once(own).chain(sent.into_values()).collect()
    }

    fn own(state: &mut State, command: &str, now: Moment) -> String {
        run(state, 1, command, now).remove(0)
    }

    #[test]
    fn a_message_reaches_exactly_the_subscribers() {
        let (mut state, now) = (State::default(), Moment(0));
        let confirmed = run(&mut state, 2, "SUBSCRIBE a b", now);
        let expected =
            "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n";
        assert_eq!(confirmed, [expected]);
        let sent = run(&mut state, 1, "PUBLISH a hi", now);
        assert_eq!(sent, [":1\r\n", "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n"]);
        run(&mut state, 2, "UNSUBSCRIBE a", now);
        assert_eq!(run(&mut state, 1, "PUBLISH a hi", now), [":0\r\n"]);
        state.forget(2);
        assert_eq!(run(&mut state, 1, "PUBLISH b hi", now), [":0\r\n"]);
        assert!(state.channels.is_empty());
    }

    #[test]
    fn a_subscriber_may_only_do_what_redis_lets_it() {
        let (mut state, now) = (State::default(), Moment(0));
        own(&mut state, "SUBSCRIBE a", now);
        assert_eq!(own(&mut state, "PING", now), "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
        assert!(own(&mut state, "GET a", now).starts_with("-ERR Can't execute 'get'"));
        let gone = own(&mut state, "UNSUBSCRIBE", now);
        assert_eq!(gone, "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n");
        assert_eq!(own(&mut state, "PING", now), "+PONG\r\n");
    }

    #[test]
    fn keys_expire_and_belong_to_their_database() {
        let mut state = State::default();
        let at = |secs: u64| Moment(secs * 1_000_000_000);
        assert_eq!(own(&mut state, "SET k v EX 10", at(0)), "+OK\r\n");
        assert_eq!(own(&mut state, "TTL k", at(1)), ":9\r\n");
        assert_eq!(own(&mut state, "SET k w NX", at(1)), "$-1\r\n");
        assert_eq!(own(&mut state, "EXISTS k k x", at(9)), ":2\r\n");
        assert_eq!(own(&mut state, "GET k", at(10)), "$-1\r\n");
        assert_eq!(own(&mut state, "TTL k", at(10)), ":-2\r\n");
        assert_eq!(own(&mut state, "SET k v", at(10)), "+OK\r\n");
        assert_eq!(own(&mut state, "TTL k", at(10)), ":-1\r\n");
        assert_eq!(own(&mut state, "SELECT 1", at(10)), "+OK\r\n");
        assert_eq!(own(&mut state, "GET k", at(10)), "$-1\r\n");
        assert_eq!(own(&mut state, "SET k v EX 0", at(10)), format!("-{NO_INTEGER}\r\n"));
        assert_eq!(own(&mut state, "SET k v XYZ", at(10)), format!("-{SYNTAX}\r\n"));
    }

    #[test]
    fn what_it_cannot_do_it_says_politely() {
        let (mut state, now) = (State::default(), Moment(0));
        assert!(own(&mut state, "HELLO 3", now).starts_with("-NOPROTO "));
        assert!(own(&mut state, "FLUSHALL", now).starts_with("-ERR unknown command 'FLUSHALL'"));
        assert!(own(&mut state, "AUTH x", now).starts_with("-ERR AUTH"));
        assert!(own(&mut state, "GET", now).starts_with("-ERR wrong number"));
        assert_eq!(own(&mut state, "ping", now), "+PONG\r\n");
    }

    #[test]
    fn channels_are_listed_by_pattern() {
        let (mut state, now) = (State::default(), Moment(0));
        run(&mut state, 2, "SUBSCRIBE timeline:public timeline:list:1", now);
        assert_eq!(
            own(&mut state, "PUBSUB CHANNELS *list*", now),
            "*1\r\n$15\r\ntimeline:list:1\r\n"
        );
        assert_eq!(own(&mut state, "PUBSUB CHANNELS nothing", now), "*0\r\n");
        assert_eq!(
            own(&mut state, "PUBSUB NUMSUB timeline:public x", now),
            "*4\r\n$15\r\ntimeline:public\r\n:1\r\n$1\r\nx\r\n:0\r\n"
        );
        assert!(glob(b"a*b*c", b"aXbYc") && !glob(b"a*b*c", b"aXcYb") && glob(b"*", b""));
    }
}
