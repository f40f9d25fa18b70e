//! A shard and everything that can happen to it. An input is a list of lines, one happening each
//! ([`World::happens`]). Whatever happens:
//!
//! * what clients are sent is HTTP, frames and chunks without fault, nothing follows a close frame
//!   or a last chunk, and nothing is sent after our side was shut;
//! * it is the same however the clients' bytes were cut;
//! * outboxes stay within their bound, connections within their numbers;
//! * what the control core is told adds up: wants and readers go as they came;
//! * when all clients have left and all deadlines have passed, nothing is left of them, and each
//!   was counted out once.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use trunkline::config::Limits;
use trunkline::hub::drain::Departure;
use trunkline::hub::farewell::Farewell;
use trunkline::hub::message::{ConnectionId, Delivery, QuestionId, Refusal, ToControl, ToShard};
use trunkline::hub::moment::Moment;
use trunkline::hub::question::FeedSettings;
use trunkline::hub::readiness::Report;
use trunkline::hub::session::{Scopes, Session};
use trunkline::hub::shard::{Settings, Shard};
use trunkline::hub::stream::Channel;
use trunkline::hub::verdict::Verdict;
use trunkline::protocol::event::Event;
use trunkline::protocol::frame::{Annotation, Body, Wants};
use trunkline::protocol::ids::{AccountId, TokenId};

use super::cuts;
use super::parser::{Heard, Parser, masked};
use super::wire::{FakeSocket, SharedWire, Wire};

const CLIENTS_MAX: usize = 8;
/// Bytes in outboxes: small enough to be reached.
const OUTBOX_BYTES_MAX: usize = 1500;
/// Larger than any frame of these worlds.
const FRAME_BYTES_MAX: usize = 8000;

pub fn check(input: &[u8]) {
    let whole = live(input, |bytes, _| vec![bytes]);
    let cut = live(input, cuts::pieces);
    assert_eq!(cut, whole, "depends on the cuts");
}

type Cut = for<'a> fn(&'a [u8], &mut fastrand::Rng) -> Vec<&'a [u8]>;

/// A whole life; what each client heard.
fn live(input: &[u8], cut: Cut) -> Vec<Vec<Heard>> {
    let mut world = World::new(input, cut);
    for line in input.split(|byte| *byte == b'\n').take(80) {
        world.happens(line);
    }
    world.end();
    world.clients.into_iter().map(|client| client.heard).collect()
}

struct World {
    shard: Shard<FakeSocket>,
    now: Moment,
    dice: fastrand::Rng,
    cut: Cut,
    clients: Vec<Client>,
    questions: Vec<ToControl>,
    /// Answered once; a second answer must mean nothing.
    last_answer: Option<ToShard>,
    wants: HashMap<Channel, Wants>,
    readers: HashMap<AccountId, ()>,
    is_drained: bool,
}

struct Client {
    id: ConnectionId,
    wire: SharedWire,
    parser: Parser,
    heard: Vec<Heard>,
    /// The server knows that nothing more comes.
    has_left: bool,
}

fn limits() -> Limits {
    Limits {
        head_bytes_max: 600,
        early_bytes_max: 300,
        message_bytes_max: 200,
        outbox_bytes_max: OUTBOX_BYTES_MAX,
        outbox_frames_max: 6,
        subscriptions_max: 4,
        tag_bytes_max: 64,
        connections_max: 6,
        connections_per_account_max: 3,
        questions_waiting_max: 4,
        ..Limits::default()
    }
}

impl World {
    fn new(input: &[u8], cut: Cut) -> World {
        let settings = Arc::new(Settings {
            limits: limits(),
            front_page: None,
            trusted_proxies: Default::default(),
        });
        let now = Moment(1_000_000_000);
        World {
            shard: Shard::new(0, settings, 7, now),
            now,
            dice: cuts::dice(input),
            cut,
            clients: Vec::new(),
            questions: Vec::new(),
            last_answer: None,
            wants: HashMap::new(),
            readers: HashMap::new(),
            is_drained: false,
        }
    }

    /// One line: a letter, for most a digit that names a client or chooses something, and the rest.
    fn happens(&mut self, line: &[u8]) {
        let [letter, rest @ ..] = line else { return };
        let (digit, rest) = rest.split_first().map_or((b'0', rest), |(digit, rest)| (*digit, rest));
        let choice = usize::from(digit.wrapping_sub(b'0'));
        match letter {
            // Connects; the digit says how fast it reads.
            b'c' => self.connect(choice),
            // Says: raw bytes (`|` is CRLF), an event stream's head, a handshake, a text, a frame.
            b'r' => self.say(choice, raw(rest)),
            b'g' => self.say(choice, event_stream_head(rest)),
            b'w' => self.say(choice, handshake(rest)),
            b't' => self.say_frame(choice, 0x81, rest),
            b'f' => {
                let (first, payload) = rest.split_first().unwrap_or((&0x89, &[]));
                self.say_frame(choice, *first, payload);
            }
            // Leaves, breaks, reads so many bytes.
            b'e' => self.leave(choice),
            b'x' => self.break_wire(choice),
            b'R' => self.read(choice, rest.first().map_or(7, |byte| usize::from(*byte))),
            // The control core answers: the oldest question, the newest, the last once more.
            b'a' if !self.questions.is_empty() => self.answer(0, digit),
            b'A' if !self.questions.is_empty() => self.answer(self.questions.len() - 1, digit),
            b'S' => self.last_answer.clone().into_iter().for_each(|again| self.tell(again)),
            // An event, with or without others behind it.
            b'd' => self.publish(choice, rest, false),
            b'D' => self.publish(choice, rest, true),
            b'k' => self.tell(ToShard::KillToken(TokenId(i64::from(digit % 4)))),
            b'K' => self.tell(ToShard::KillAccount(AccountId(i64::from(digit % 4)))),
            b'l' => {
                let channel = self.channel(choice);
                channel.into_iter().for_each(|one| self.tell(ToShard::Lagged(Arc::new([one]))));
            }
            b'n' => self.pass([1, 60, 1000, 5000, 16_000, 31_000][choice % 6]),
            b'z' => {
                let window = Duration::from_secs(choice as u64 % 40);
                self.tell(ToShard::Drain(Departure { window, shard: 0, shards: 1 }));
            }
            _ => {}
        }
        self.shard.fan_out(&mut 2, self.now);
        self.look();
    }

    fn connect(&mut self, choice: usize) {
        if self.clients.len() == CLIENTS_MAX {
            return;
        }
        let (capacity, bite) =
            [(1 << 20, 1 << 20), (60, 7), (400, 100), (3000, 1 << 20)][choice % 4];
        let wire = Wire::new(capacity, bite);
        let id = self.shard.admit(FakeSocket(Rc::clone(&wire)), self.now).unwrap();
        let (parser, heard) = (Parser::default(), Vec::new());
        self.clients.push(Client { id, wire, parser, heard, has_left: false });
    }

    fn client(&mut self, choice: usize) -> Option<&mut Client> {
        let index = choice.checked_rem(self.clients.len())?;
        self.clients.get_mut(index).filter(|client| !client.wire.borrow().closed)
    }

    fn say(&mut self, choice: usize, bytes: Vec<u8>) {
        let Some(client) = self.client(choice).filter(|client| !client.has_left) else { return };
        let id = client.id;
        for piece in (self.cut)(&bytes, &mut self.dice) {
            if !self.shard.receive(id, &mut piece.to_vec(), self.now) {
                break;
            }
        }
    }

    fn say_frame(&mut self, choice: usize, first: u8, payload: &[u8]) {
        let mut frame = Vec::new();
        masked(0, &payload[..payload.len().min(2000)], [7, 0, 255, 128], &mut frame);
        frame[0] = first;
        self.say(choice, frame);
    }

    fn leave(&mut self, choice: usize) {
        let Some(client) = self.client(choice) else { return };
        client.has_left = true;
        let id = client.id;
        self.shard.ended(id, self.now);
    }

    fn break_wire(&mut self, choice: usize) {
        let Some(client) = self.client(choice) else { return };
        client.wire.borrow_mut().broken = true;
        self.read(choice, 0);
    }

    fn read(&mut self, choice: usize, most: usize) {
        let Some(client) = self.client(choice) else { return };
        client.read(most);
        let (id, is_news) = (client.id, client.wire.borrow().has_news_for_server());
        client.wire.borrow_mut().blocked &= !is_news;
        if is_news {
            self.shard.writable(id, self.now);
        }
    }

    /// Something of the control core: never while an event is on its way.
    fn tell(&mut self, message: ToShard) {
        while self.shard.is_fanning_out() {
            self.shard.fan_out(&mut 3, self.now);
        }
        self.shard.handle(message, self.now);
    }

    fn answer(&mut self, index: usize, digit: u8) {
        let good = |question: QuestionId| Session {
            account: AccountId(i64::from(question.connection.slot % 3)),
            token: TokenId(i64::from(question.connection.slot % 4)),
            scopes: Scopes::parse(match digit {
                b's' => "read:statuses",
                b't' => "read:notifications",
                b'u' => "write",
                _ => "read",
            }),
            views_all_feeds: digit == b'v',
            languages: (digit == b'w').then(|| Box::new(vec!["de".into()])),
        };
        let refusal = match digit {
            b'x' => Some(Refusal::InvalidToken),
            b'y' => Some(Refusal::Failure),
            b'z' => Some(Refusal::Unavailable),
            _ => None,
        };
        let text = "trunkline_up 1\n".into();
        let answer = match self.questions.remove(index) {
            ToControl::WhoIs { question, .. } => {
                ToShard::Session { question, answer: refusal.map_or(Ok(good(question)), Err) }
            }
            ToControl::WhoOwns { question, .. } => {
                let owner = Some(good(question).account).filter(|_| digit != b'n');
                ToShard::ListOwner { question, answer: refusal.map_or(Ok(owner), Err) }
            }
            ToControl::ReadFeeds { question } => {
                let settings = FeedSettings {
                    local_live_disabled: digit & 1 != 0,
                    remote_live_disabled: digit & 2 != 0,
                    ..FeedSettings::default()
                };
                ToShard::Feeds { question, answer: refusal.map_or(Ok(settings), Err) }
            }
            ToControl::Scrape { question } => ToShard::MetricsText { question, text },
            ToControl::AskReadiness { question } => {
                ToShard::Readiness { question, report: report(digit & 1 == 0) }
            }
            other => panic!("no question: {other:?}"),
        };
        self.last_answer = Some(answer.clone());
        self.tell(answer);
    }

    /// A channel that somebody wants.
    fn channel(&self, choice: usize) -> Option<Channel> {
        let mut channels: Vec<&Channel> = self.wants.keys().collect();
        channels.sort_by_key(|channel| channel.redis_name());
        channels.get(choice.checked_rem(channels.len())?).copied().cloned()
    }

    fn publish(&mut self, choice: usize, text: &[u8], has_backlog: bool) {
        let Some(channel) = self.channel(choice) else { return };
        let text = String::from_utf8_lossy(text);
        let text = serde_json::to_string(&text[..text.floor_char_boundary(600)]).unwrap();
        let author = r#""account":{"id":"9","username":"a","acct":"a"},"language":"en""#;
        let message = format!(r#"{{"event":"update","payload":{{{author},"content":{text}}}}}"#);
        let event = Event::parse(message.as_bytes(), 16).unwrap();
        let verdict = channel.is_filtered().then(|| {
            let checked = Arc::new([AccountId(0), AccountId(1)].into_iter().collect());
            let mut verdict = Verdict::new(&event.status().unwrap(), checked);
            let annotation = Arc::new(Annotation::new(br#"[{"filter":{}}]"#.to_vec()));
            verdict.annotate([(AccountId(1), annotation)].into_iter().collect());
            Arc::new(verdict)
        });
        let wants = self.wants[&channel];
        let body = Arc::new(Body::new(&event, wants, verdict.is_some()));
        let delivery = Delivery { channel, body, verdict, received: self.now };
        self.shard.set_backlog(has_backlog);
        self.tell(ToShard::Deliver(delivery));
    }

    /// Time goes by in the steps that the shard asks for.
    fn pass(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while self.now < until {
            let next = self.shard.next_tick(self.now).unwrap_or(until);
            // Not every single part of a sweep.
            self.now = next.max(self.now + Duration::from_secs(2)).min(until);
            self.shard.tick(self.now);
            self.look();
        }
    }

    /// What must hold at all times.
    fn look(&mut self) {
        let told: Vec<ToControl> = self.shard.take_outgoing().collect();
        told.into_iter().for_each(|message| self.hear(message));
        self.shard.welcome(self.now);
        for client in self.clients.iter_mut().filter(|client| client.wire.borrow().capacity > 1000)
        {
            client.read(usize::MAX);
        }
        let open = self.clients.iter().filter(|client| !client.wire.borrow().closed).count();
        assert_eq!(self.shard.len(), open);
        let metrics = self.shard.metrics_mut();
        assert_eq!(metrics.sockets, open as u64);
        let clients = metrics.clients.websocket + metrics.clients.eventsource;
        assert!(clients + metrics.questions_waiting <= limits().connections_max as u64);
        assert!(metrics.questions_waiting <= limits().questions_waiting_max as u64);
        let most = metrics.outbox_connections * (OUTBOX_BYTES_MAX.max(FRAME_BYTES_MAX)) as u64;
        assert!(metrics.outbox_bytes <= most, "{} bytes wait", metrics.outbox_bytes);
    }

    fn hear(&mut self, message: ToControl) {
        match message {
            ToControl::Want { channel, wants } => {
                let known = self.wants.remove(&channel).unwrap_or_default();
                assert_ne!(known, wants, "says twice what it wants");
                if !wants.is_empty() {
                    self.wants.insert(channel, wants);
                }
            }
            ToControl::ReaderArrived(account) => {
                assert!(self.readers.insert(account, ()).is_none(), "arrives twice");
            }
            ToControl::ReaderLeft(account) => {
                assert!(self.readers.remove(&account).is_some(), "leaves twice");
            }
            ToControl::Drained => assert!(!std::mem::replace(&mut self.is_drained, true)),
            ToControl::Opened { .. } | ToControl::Pulse { .. } | ToControl::Metrics(_) => {}
            question => self.questions.push(question),
        }
    }

    /// Everybody leaves; every deadline passes.
    fn end(&mut self) {
        for index in 0..self.clients.len() {
            self.read(index, usize::MAX);
            self.leave(index);
            self.look();
        }
        self.pass(60_000);
        while self.shard.is_fanning_out() {
            self.shard.fan_out(&mut 3, self.now);
        }
        self.look();
        assert_eq!(self.shard.len(), 0, "somebody is still there");
        assert!(self.wants.is_empty(), "still wants {:?}", self.wants);
        assert!(self.readers.is_empty(), "still has readers");
        let metrics = self.shard.metrics_mut();
        let gauges = (metrics.clients.websocket, metrics.clients.eventsource);
        assert_eq!((gauges, metrics.questions_waiting), ((0, 0), 0));
        assert_eq!((metrics.outbox_bytes, metrics.outbox_connections), (0, 0));
        let twice = metrics.farewells.get(Farewell::CloseTimeout.reason());
        assert_eq!(metrics.farewells.total() - twice, metrics.accepted, "counted out once each");
    }
}

impl Client {
    fn read(&mut self, most: usize) {
        let mut wire = self.wire.borrow_mut();
        let count = most.min(wire.bytes.len());
        let bytes: Vec<u8> = wire.bytes.drain(..count).collect();
        drop(wire);
        self.heard.extend(self.parser.take(&bytes));
    }
}

fn report(is_ready: bool) -> Report {
    Report {
        redis: is_ready,
        postgres: true,
        shards_turning: 1,
        shards_accepting: 1,
        shards: 1,
        has_started: true,
        is_stopping: false,
    }
}

/// The answer to a `HEAD` looks like half an answer to a client that does not remember what it
/// asked, as this one does not.
fn raw(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text).replace("HEAD", "HEAT");
    text.replace('|', "\r\n").into_bytes()
}

fn event_stream_head(path: &[u8]) -> Vec<u8> {
    let path = String::from_utf8_lossy(path).replace(['|', '\r'], "");
    let head = "HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer t\r\n\r\n";
    format!("GET /api/v1/streaming/{path} {head}").into_bytes()
}

fn handshake(query: &[u8]) -> Vec<u8> {
    let query = String::from_utf8_lossy(query).replace(['|', '\r'], "");
    let head = "HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Protocol: t\r\n\r\n";
    format!("GET /api/v1/streaming{query} {head}").into_bytes()
}
