//! One shard alone: what must hold in single phases of a connection, where a whole life would
//! seldom come by.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use trunkline::config::Limits;
use trunkline::hub::message::{ConnectionId, QuestionId, ToControl, ToShard};
use trunkline::hub::moment::Moment;
use trunkline::hub::session::{Scopes, Session};
use trunkline::hub::shard::{Settings, Shard};
use trunkline::hub::stream::Channel;
use trunkline::protocol::ids::{AccountId, ListId, TokenId};

use super::parser::{Heard, Parser, masked};
use super::wire::{FakeSocket, SharedWire, Wire};

/// A shard and the time.
struct Bench {
    shard: Shard<FakeSocket>,
    now: Moment,
}

/// A client of it.
struct Guest {
    id: ConnectionId,
    wire: SharedWire,
    parser: Parser,
}

impl Bench {
    fn new() -> Bench {
        let limits = Limits::default();
        let trusted_proxies = Default::default();
        let settings = Settings { limits, front_page: None, trusted_proxies };
        let now = Moment(1);
        Bench { shard: Shard::new(0, Arc::new(settings), 1, now), now }
    }

    fn connect(&mut self, capacity: usize) -> Guest {
        let wire = Wire::new(capacity, capacity);
        let id = self.shard.admit(FakeSocket(Rc::clone(&wire)), self.now).unwrap();
        Guest { id, wire, parser: Parser::default() }
    }

    fn say(&mut self, guest: &Guest, bytes: &[u8]) {
        self.shard.receive(guest.id, &mut bytes.to_vec(), self.now);
    }

    fn subscribe(&mut self, guest: &Guest, members: &str) {
        let mut bytes = Vec::new();
        let text = format!(r#"{{"type":"subscribe",{members}}}"#);
        masked(1, text.as_bytes(), [1, 2, 3, 4], &mut bytes);
        self.say(guest, &bytes);
    }

    fn hear(&mut self, guest: &mut Guest) -> Vec<Heard> {
        let mut heard = Vec::new();
        loop {
            let bytes: Vec<u8> = guest.wire.borrow_mut().bytes.drain(..).collect();
            if bytes.is_empty() && !guest.wire.borrow().blocked {
                return heard;
            }
            heard.extend(guest.parser.take(&bytes));
            guest.wire.borrow_mut().blocked = false;
            self.shard.writable(guest.id, self.now);
        }
    }

    fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(next) = self.shard.next_tick(self.now).filter(|next| *next <= until) {
            self.now = next.max(Moment(self.now.0 + 1));
            self.shard.tick(self.now);
        }
        self.now = until;
        self.shard.tick(until);
    }

    fn told(&mut self) -> Vec<ToControl> {
        self.shard.take_outgoing().collect()
    }

    /// The one question that is out.
    fn question(&mut self) -> QuestionId {
        let told = self.told();
        let mut questions = told.iter().filter_map(|message| match message {
            ToControl::WhoIs { question, .. }
            | ToControl::WhoOwns { question, .. }
            | ToControl::ReadFeeds { question } => Some(*question),
            _ => None,
        });
        let question = questions.next().unwrap();
        assert_eq!(questions.next(), None);
        question
    }

    fn identify(&mut self, question: QuestionId, account: i64) {
        let message = ToShard::Session { question, answer: Ok(session(account)) };
        self.shard.handle(message, self.now);
    }

    /// An open WebSocket of account 1.
    fn websocket(&mut self, capacity: usize, first: &str) -> Guest {
        let mut guest = self.connect(capacity);
        self.say(&guest, upgrade(first).as_bytes());
        let question = self.question();
        self.identify(question, 1);
        assert_eq!(self.hear(&mut guest), [Heard::Answer(101, String::new())]);
        guest
    }
}

fn session(account: i64) -> Session {
    Session {
        account: AccountId(account),
        token: TokenId(account),
        scopes: Scopes { read: true, read_statuses: false, read_notifications: false },
        views_all_feeds: false,
        languages: None,
    }
}

fn upgrade(stream: &str) -> String {
    format!(
        "GET /api/v1/streaming?access_token=a&stream={stream} HTTP/1.1\r\nHost: sim\r\n\
         Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

fn event_stream(path: &str) -> String {
    format!("GET /api/v1/streaming/{path}access_token=a HTTP/1.1\r\nHost: sim\r\n\r\n")
}

const HEALTH: &str = "GET /api/v1/streaming/health HTTP/1.1\r\nHost: sim\r\n\r\n";
const QUESTION_SECS: Duration = Duration::from_millis(15_100);

#[test]
fn an_answer_that_comes_too_late_is_not_taken_for_the_answer_to_the_next_request() {
    let mut bench = Bench::new();
    let mut guest = bench.connect(10_000);
    bench.say(&guest, event_stream("user?").as_bytes());
    let first = bench.question();
    bench.pass(QUESTION_SECS);
    assert!(matches!(bench.hear(&mut guest)[..], [Heard::Answer(503, _)]));
    // The proxy in front uses the connection for somebody else.
    bench.say(&guest, event_stream("user?").as_bytes());
    let second = bench.question();
    bench.identify(first, 1);
    assert_eq!(bench.hear(&mut guest), []);
    bench.identify(second, 2);
    assert_eq!(bench.hear(&mut guest), [Heard::Answer(200, String::new())]);
    let home = |account| Channel::Home(AccountId(account));
    assert!(bench.shard.registry().readers(&home(1)).is_empty());
    assert_eq!(bench.shard.registry().readers(&home(2)).len(), 1);
}

#[test]
fn the_owner_of_one_list_does_not_open_another() {
    let mut bench = Bench::new();
    let mut guest = bench.websocket(10_000, "");
    bench.told();
    bench.subscribe(&guest, r#""stream":"list","list":"1""#);
    let own = bench.question();
    bench.pass(QUESTION_SECS);
    bench.subscribe(&guest, r#""stream":"list","list":"2""#);
    let foreign = bench.question();
    let answer = Ok(Some(AccountId(1)));
    bench.shard.handle(ToShard::ListOwner { question: own, answer }, bench.now);
    assert!(bench.shard.registry().readers(&Channel::List(ListId(2))).is_empty());
    let answer = Ok(Some(AccountId(7)));
    bench.shard.handle(ToShard::ListOwner { question: foreign, answer }, bench.now);
    assert!(bench.shard.registry().readers(&Channel::List(ListId(2))).is_empty());
    assert!(
        bench
            .hear(&mut guest)
            .iter()
            .any(|heard| { matches!(heard, Heard::Text(text) if text.contains("Not authorized")) })
    );
}

#[test]
fn feed_settings_that_come_too_late_do_not_open_a_list() {
    let mut bench = Bench::new();
    let guest = bench.websocket(10_000, "");
    bench.told();
    bench.subscribe(&guest, r#""stream":"public""#);
    let feeds = bench.question();
    bench.pass(QUESTION_SECS);
    bench.subscribe(&guest, r#""stream":"list","list":"2""#);
    let answer = Ok(Default::default());
    bench.shard.handle(ToShard::Feeds { question: feeds, answer }, bench.now);
    assert!(bench.shard.registry().readers(&Channel::List(ListId(2))).is_empty());
}

#[test]
fn a_request_behind_a_refused_one_is_answered() {
    let mut bench = Bench::new();
    let refusals: [fn(&mut Bench); 3] = [
        |bench| {
            let question = bench.question();
            let answer = Err(trunkline::hub::message::Refusal::InvalidToken);
            bench.shard.handle(ToShard::Session { question, answer }, bench.now);
        },
        |bench| {
            let question = bench.question();
            bench.identify(question, 1);
            let question = bench.question();
            bench.shard.handle(ToShard::ListOwner { question, answer: Ok(None) }, bench.now);
        },
        |bench| bench.pass(QUESTION_SECS),
    ];
    for refuse in refusals {
        let mut guest = bench.connect(10_000);
        let both = format!("{}{HEALTH}", event_stream("list?list=5&"));
        bench.say(&guest, both.as_bytes());
        refuse(&mut bench);
        bench.told();
        let heard = bench.hear(&mut guest);
        assert!(
            matches!(&heard[..], [Heard::Answer(..), Heard::Answer(200, body)] if body == "OK")
        );
    }
}

#[test]
fn requests_in_one_packet_are_answered_in_order() {
    let mut bench = Bench::new();
    let mut guest = bench.connect(10_000);
    let head = "GET /favicon.ico HTTP/1.1\r\nHost: sim\r\n\r\n";
    let bytes = format!("{HEALTH}{head}{HEALTH}");
    let (one, other) = bytes.split_at(bytes.len() - 3);
    bench.say(&guest, one.as_bytes());
    bench.say(&guest, other.as_bytes());
    let statuses: Vec<u16> = bench
        .hear(&mut guest)
        .iter()
        .map(|heard| if let Heard::Answer(status, _) = heard { *status } else { 0 })
        .collect();
    assert_eq!(statuses, [200, 404, 200]);
}

#[test]
fn frames_behind_an_upgrade_are_heard_when_it_is_accepted() {
    let mut bench = Bench::new();
    let mut guest = bench.connect(10_000);
    let mut bytes = upgrade("").into_bytes();
    masked(9, b"early", [9, 8, 7, 6], &mut bytes);
    let cut = bytes.len() - 4;
    bench.say(&guest, &bytes[..cut]);
    let question = bench.question();
    bench.say(&guest, &bytes[cut..]);
    bench.identify(question, 1);
    assert_eq!(bench.hear(&mut guest), [Heard::Answer(101, String::new()), Heard::Pong]);
}

#[test]
fn a_close_behind_a_blocked_write_leaves_every_frame_whole() {
    let mut bench = Bench::new();
    let mut guest = bench.websocket(200, "user");
    for _ in 0..30 {
        bench.subscribe(&guest, r#""stream":"nonsense""#);
    }
    assert!(guest.wire.borrow().blocked);
    bench.shard.handle(ToShard::KillToken(TokenId(1)), bench.now);
    let heard = bench.hear(&mut guest);
    assert_eq!(heard.len(), 31);
    assert_eq!(heard.last(), Some(&Heard::Close(None)));
}

#[test]
fn who_lost_events_twice_on_one_channel_still_hears_why() {
    let mut bench = Bench::new();
    let mut guest = bench.websocket(10_000, "user");
    bench.subscribe(&guest, r#""stream":"user:notification""#);
    let channels = Arc::from([Channel::Notifications(AccountId(1))]);
    bench.shard.handle(ToShard::Lagged(channels), bench.now);
    assert_eq!(bench.hear(&mut guest), [Heard::Close(Some(1013))]);
    assert!(!guest.wire.borrow().closed, "closed before the client could answer");
}

#[test]
fn a_shard_says_once_that_everybody_is_gone() {
    let mut bench = Bench::new();
    let mut guests: Vec<Guest> = (0..10).map(|_| bench.websocket(10_000, "user")).collect();
    bench.told();
    bench.shard.handle(ToShard::Drain(Duration::from_secs(10)), bench.now);
    let mut gone = 0;
    for second in 1..=10 {
        bench.pass(Duration::from_secs(1));
        for guest in &mut guests {
            gone += usize::from(bench.hear(guest).contains(&Heard::Close(Some(1001))));
        }
        assert!((second - 1..=second + 1).contains(&gone), "{gone} after {second} seconds");
    }
    bench.pass(Duration::from_secs(5));
    assert!(bench.shard.is_drained() && bench.shard.registry().is_empty());
    let told = bench.told();
    let drained = told.iter().filter(|message| matches!(message, ToControl::Drained));
    assert_eq!(drained.count(), 1);
}

#[test]
fn a_reader_who_takes_nothing_is_sent_away_however_often_it_caught_up() {
    let mut bench = Bench::new();
    let mut guest = bench.websocket(100, "user");
    for _ in 0..500 {
        for _ in 0..3 {
            bench.subscribe(&guest, r#""stream":"nonsense""#);
        }
        bench.hear(&mut guest);
        bench.pass(Duration::from_millis(1));
    }
    assert!(guest.wire.borrow().bytes.is_empty() && !guest.wire.borrow().closed);
    for _ in 0..3 {
        bench.subscribe(&guest, r#""stream":"nonsense""#);
    }
    bench.pass(Duration::from_secs(21));
    assert!(guest.wire.borrow().closed, "a reader who takes nothing is still there");
}
