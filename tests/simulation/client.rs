//! A client: what it has said and heard, and the bytes in flight.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use trunkline::hub::message::ConnectionId;
use trunkline::hub::moment::Moment;
use trunkline::hub::registry::{Registry, Role};
use trunkline::hub::stream::Channel;
use trunkline::protocol::ids::TokenId;

use super::database::Database;
use super::parser::{Heard, Parser, masked};
use super::wire::{SharedWire, Wire};

/// A stream as clients name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Spec {
    /// `user`.
    User,
    /// `user:notification`.
    Notifications,
    /// `direct`.
    Direct,
    /// `public…`, with glitch-soc's `allow_local_only`.
    Public(&'static str, bool),
    /// `hashtag` or `hashtag:local`: as written, as normalised.
    Hashtag(&'static str, &'static str, bool),
    /// `list`.
    List(i64),
    /// Anything that no server has.
    Unknown,
    /// `hashtag` without `tag`.
    NoTag,
    /// `list` without `list`.
    NoList,
}

impl Spec {
    /// The name in messages.
    pub fn name(&self) -> &'static str {
        match self {
            Spec::User => "user",
            Spec::Notifications => "user:notification",
            Spec::Direct => "direct",
            Spec::Public(name, _) => name,
            Spec::Hashtag(_, _, false) | Spec::NoTag => "hashtag",
            Spec::Hashtag(_, _, true) => "hashtag:local",
            Spec::List(_) | Spec::NoList => "list",
            Spec::Unknown => "federated",
        }
    }

    /// The channels that carry it to an account with these scopes.
    pub fn channels(&self, account: i64, scopes: &str) -> Vec<String> {
        match self {
            Spec::User if scopes == "read:statuses" => vec![format!("timeline:{account}")],
            Spec::User => {
                vec![format!("timeline:{account}"), format!("timeline:{account}:notifications")]
            }
            Spec::Notifications => vec![format!("timeline:{account}:notifications")],
            Spec::Direct => vec![format!("timeline:direct:{account}")],
            Spec::Public(name, _) => vec![format!("timeline:{name}")],
            Spec::Hashtag(_, tag, false) => vec![format!("timeline:hashtag:{tag}")],
            Spec::Hashtag(_, tag, true) => vec![format!("timeline:hashtag:{tag}:local")],
            Spec::List(list) => vec![format!("timeline:list:{list}")],
            Spec::Unknown | Spec::NoTag | Spec::NoList => Vec::new(),
        }
    }

    /// What distinguishes it from others for subscribing twice.
    pub fn key(&self) -> String {
        format!("{} {:?}", self.name(), self.channels(0, "read"))
    }

    /// The label of its events.
    pub fn label(&self) -> String {
        match self {
            Spec::Hashtag(written, _, _) => format!(r#"["{}","{written}"]"#, self.name()),
            Spec::List(list) => format!(r#"["list","{list}"]"#),
            _ => format!(r#"["{}"]"#, self.name()),
        }
    }

    /// Is what it carries filtered for each reader?
    pub fn is_filtered(&self) -> bool {
        matches!(self, Spec::Public(..) | Spec::Hashtag(..))
    }

    /// The error that opening it costs a client of this account, if it does.
    pub fn refusal(&self, scopes: &str, owns: impl Fn(i64) -> bool) -> Option<(u16, &'static str)> {
        let needed =
            if *self == Spec::Notifications { "read:notifications" } else { "read:statuses" };
        if scopes != "read" && scopes != needed {
            return Some((401, "Access token does not have the required scopes"));
        }
        match self {
            Spec::Unknown => Some((400, "Unknown stream type")),
            Spec::NoTag => Some((400, "Missing tag name parameter")),
            Spec::NoList => Some((400, "Missing list name parameter")),
            Spec::List(list) if !owns(*list) => Some((401, "Not authorized to stream this list")),
            _ => None,
        }
    }

    /// Must the server ask the database before it opens the stream?
    pub fn needs_answer(&self) -> bool {
        matches!(self, Spec::List(_)) || self.is_filtered()
    }

    fn members(&self) -> String {
        match self {
            Spec::Public(_, true) => r#","allow_local_only":true"#.to_owned(),
            Spec::Hashtag(written, _, _) => format!(r#","tag":"{written}""#),
            Spec::List(list) => format!(r#","list":"{list}""#),
            _ => String::new(),
        }
    }

    /// As a query.
    pub fn query(&self) -> String {
        match self {
            Spec::Public(_, true) => "&allow_local_only=1".to_owned(),
            Spec::Hashtag(written, _, _) => format!("&tag={}", percent(written)),
            Spec::List(list) => format!("&list={list}"),
            _ => String::new(),
        }
    }

    /// The path of its event stream.
    pub fn path(&self) -> String {
        let path = self.name().replace("user:notification", "user/notification").replace(':', "/");
        format!("/api/v1/streaming/{path}")
    }
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A stream that a client asked for.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Which.
    pub spec: Spec,
    /// Its channels.
    pub channels: Vec<String>,
    /// The same as the server names them.
    pub parsed: Vec<Channel>,
    /// When the client asked.
    pub asked: u64,
    /// When the shard had it, and how many messages had left the shard by then.
    pub registered: Option<(u64, u64)>,
    /// When the control core had heard of it.
    pub settled: Option<u64>,
    /// When the client asked for its end.
    pub left: Option<u64>,
    /// When it was certainly over.
    pub ended: Option<u64>,
    /// The client has said it with this byte.
    pub said_at: usize,
    /// Asked for again while it may still be open: only rest tells.
    pub unsure: bool,
}

impl Subscription {
    /// Does the shard know of it?
    pub fn is_in(&self, registry: &Registry, connection: ConnectionId) -> bool {
        let roles = [Role::Own, Role::PartOfUser];
        self.parsed.iter().zip(roles).all(|(channel, role)| {
            let mut readers = registry.readers(channel).iter();
            readers.any(|reader| reader.connection == connection && reader.role == role)
        })
    }
}

/// What the client may be told in answer to one of its messages.
#[derive(Clone, Debug)]
pub struct Reproach {
    /// The error.
    pub text: String,
    /// It will come.
    pub certain: bool,
}

/// How a client is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// WebSocket.
    WebSocket,
    /// Server-sent events.
    EventStream,
}

/// The client.
pub struct Client {
    /// Which shard accepted it, and where it put it.
    pub shard: usize,
    /// Its place there.
    pub connection: ConnectionId,
    /// How it is served.
    pub kind: Kind,
    /// Its token; 0 is none that exists.
    pub token: i64,
    /// From the server.
    pub wire: SharedWire,
    /// To the server.
    pub outgoing: VecDeque<u8>,
    /// Understands the server.
    pub parser: Parser,
    /// The status of the answer, when it has come.
    pub status: Option<u16>,
    /// The close code, or the end of an event stream.
    pub farewell: Option<Option<u16>>,
    /// Reads nothing.
    pub stalls: bool,
    /// Answers pings and close frames.
    pub answers: bool,
    /// Has vanished, or has said good-bye.
    pub left: bool,
    /// The server has heard of that.
    pub left_heard: bool,
    /// What entitles the server to end the connection.
    pub excuses: BTreeSet<&'static str>,
    /// Streams in the order in which they were asked for.
    pub subscriptions: Vec<Subscription>,
    /// Errors that will or may come, in order.
    pub reproaches: VecDeque<Reproach>,
    /// Errors that came.
    pub told: Vec<String>,
    /// Events by channel and label: numbers in the order of arrival.
    pub received: BTreeMap<(String, String), Vec<usize>>,
    /// When it connected: as which step, and in virtual time.
    pub since: u64,
    /// See `since`.
    pub came: Moment,
    /// Bytes that the server has had.
    pub fed: usize,
    /// What was asked for may have been one too many.
    pub is_full: bool,
    /// As many connections of the account were there when it was known whose it is.
    pub account_full: bool,
    /// It asks for a page of the server's own instead of a stream.
    pub visits: Option<&'static str>,
    /// What that page says.
    pub awaits: Option<String>,
}

impl Client {
    /// A client on a fresh connection.
    pub fn new(
        shard: usize,
        connection: ConnectionId,
        wire: SharedWire,
        kind: Kind,
        token: i64,
        (since, came): (u64, Moment),
    ) -> Client {
        Client {
            shard,
            connection,
            kind,
            token,
            wire,
            outgoing: VecDeque::new(),
            parser: Parser::default(),
            status: None,
            farewell: None,
            stalls: false,
            answers: true,
            left: false,
            left_heard: false,
            excuses: BTreeSet::new(),
            subscriptions: Vec::new(),
            reproaches: VecDeque::new(),
            told: Vec::new(),
            received: BTreeMap::new(),
            since,
            came,
            fed: 0,
            is_full: false,
            account_full: false,
            visits: None,
            awaits: None,
        }
    }

    /// The head of its request. `first`: the subscription in the query.
    pub fn say_head(&mut self, secret: &str, way: u32, first: Option<&Spec>) {
        let (path, query) = match (self.kind, first) {
            (Kind::WebSocket, Some(spec)) => (
                "/api/v1/streaming".to_owned(),
                format!("stream={}{}", percent(spec.name()), spec.query()),
            ),
            (Kind::WebSocket, None) => ("/api/v1/streaming/".to_owned(), String::new()),
            (Kind::EventStream, Some(spec)) => (spec.path(), spec.query()),
            (Kind::EventStream, None) => ("/api/v1/streaming/nothing".to_owned(), String::new()),
        };
        let mut head = match way {
            0 => format!("GET {path}?{query}&access_token={secret} HTTP/1.1\r\n"),
            _ => format!("GET {path}?{query} HTTP/1.1\r\n"),
        };
        head.push_str("Host: sim\r\n");
        if way == 1 {
            head.push_str(&format!("Authorization: Bearer {secret}\r\n"));
        }
        if self.kind == Kind::WebSocket {
            head.push_str("Upgrade: websocket\r\nConnection: Upgrade\r\n");
            head.push_str("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
            head.push_str("Sec-WebSocket-Version: 13\r\n");
        }
        if way == 2 {
            head.push_str(&format!("Sec-WebSocket-Protocol: {secret}\r\n"));
        }
        head.push_str("\r\n");
        self.outgoing.extend(head.as_bytes());
    }

    /// A frame on its way.
    pub fn say(&mut self, opcode: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        masked(opcode, payload, [7, 0, 255, 128], &mut bytes);
        self.outgoing.extend(bytes);
    }

    /// Subscribes or unsubscribes.
    pub fn say_wish(&mut self, word: &str, spec: &Spec) {
        let (name, members) = (spec.name(), spec.members());
        let text = format!(r#"{{"type":"{word}","stream":"{name}"{members}}}"#);
        self.say(1, text.as_bytes());
    }

    /// Reads at most `most` bytes.
    pub fn read(&mut self, most: usize) -> Vec<Heard> {
        let bytes: Vec<u8> = {
            let mut wire = self.wire.borrow_mut();
            let count = most.min(wire.bytes.len());
            wire.bytes.drain(..count).collect()
        };
        self.parser.take(&bytes)
    }

    /// The connection is open as far as the client knows.
    pub fn is_open(&self) -> bool {
        let opened = matches!(self.status, Some(101 | 200));
        opened && self.farewell.is_none() && !self.left && !self.wire.borrow().closed
    }

    /// Where it is.
    pub fn address(&self) -> Option<IpAddr> {
        self.wire.borrow().address
    }

    /// The shard counts it as a client.
    pub fn is_served(&self, registry: &Registry) -> bool {
        let mut readers = registry.readers(&Channel::Token(TokenId(self.token))).iter();
        readers.any(|reader| reader.connection == self.connection)
    }

    /// The server holds nothing of it any more.
    pub fn is_gone(&self) -> bool {
        self.wire.borrow().closed
    }

    /// Nothing is under way to or from it.
    pub fn is_quiet(&self) -> bool {
        let wire = self.wire.borrow();
        wire.closed
            || (self.outgoing.is_empty()
                && (self.stalls || wire.bytes.is_empty())
                && !wire.has_news_for_server()
                && self.left == self.left_heard)
    }

    /// Is this the page that a visitor has asked for?
    pub fn check_page(&mut self, status: u16, body: &str) {
        let is_crowded_out = self.excuses.contains("crowded") || self.is_full;
        let is_refused = status == 503 && body.contains("later");
        let silent = body.contains("control") || is_refused;
        match (self.visits, &self.awaits) {
            _ if is_refused && is_crowded_out => {}
            _ if status == 408 && self.excuses.contains("waited") => {}
            (Some("/api/v1/streaming/health"), _) => assert_eq!((status, body), (200, "OK")),
            (Some("/metrics"), Some(text)) => assert_eq!((status, body), (200, text.as_str())),
            (Some("/ready"), Some(json)) => {
                let is_ready = json.contains(r#""missing":[]"#);
                assert_eq!((status, body), (if is_ready { 200 } else { 503 }, json.as_str()));
            }
            _ => assert!(silent, "{status} {body}"),
        }
        self.excuses.insert("visited");
        self.left = true;
    }

    /// Is this the answer that the client's head deserves?
    pub fn check_answer(
        &mut self,
        index: usize,
        status: u16,
        body: &str,
        database: &Database,
        bad_since: &BTreeMap<i64, u64>,
    ) {
        let bad = bad_since.get(&self.token).copied();
        let known = database.tokens.get(&self.token);
        let who = format!("client {index} with token {}: {status} {body}", self.token);
        let refusal = known.and_then(|token| {
            let spec = &self.subscriptions.first()?.spec;
            let owns = |list| database.lists.get(&list) == Some(&token.account);
            spec.refusal(token.scopes, owns).filter(|_| self.kind == Kind::EventStream)
        });
        let was_bad_before = known.is_none() || bad.is_some_and(|bad| bad < self.since);
        match status {
            101 | 200 => {
                assert!(!was_bad_before && refusal.is_none() && !self.account_full, "{who}");
                self.excuses.remove("waited");
                return;
            }
            429 => assert!(self.account_full || self.is_full, "{who}"),
            503 if body.contains("Try again later") && self.excuses.contains("crowded") => {}
            503 if self.is_full => {}
            401 if body.is_empty() || body.contains("Invalid access token") => {
                assert!(known.is_none() || bad.is_some(), "{who}");
            }
            400 | 401 => {
                let (expected, text) = refusal.unwrap_or_else(|| panic!("{who}"));
                assert!(status == expected && body.contains(text), "{who}");
            }
            503 if self.excuses.contains("waited") => {}
            500 | 503 => assert!(database.has_failed || self.excuses.contains("stopping"), "{who}"),
            408 => {}
            _ => panic!("{who}"),
        }
        self.subscriptions.clear();
        self.excuses.insert("refused");
        self.left = true;
    }

    /// All is quiet: are the errors that came those that were due, in their order? To one who has
    /// left, the last of them need not have come.
    pub fn check_reproaches(&mut self, index: usize) {
        let (due, told) = (std::mem::take(&mut self.reproaches), std::mem::take(&mut self.told));
        // Where one may stand among `told` after some of `due`.
        let mut places = BTreeSet::from([0]);
        let is_over = !self.is_open();
        let mut fits = is_over && told.is_empty();
        for reproach in &due {
            let went_on = places.iter().filter(|at| told.get(**at) == Some(&reproach.text));
            let mut next: BTreeSet<usize> = went_on.map(|at| at + 1).collect();
            if !reproach.certain {
                next.extend(&places);
            }
            places = next;
            fits |= is_over && places.contains(&told.len());
        }
        fits |= places.contains(&told.len());
        assert!(fits, "client {index} was told {told:#?}, due was {due:#?}");
    }

    /// A connection's wire.
    pub fn wire(capacity: usize, bite: usize) -> SharedWire {
        Wire::new(capacity, bite)
    }
}
