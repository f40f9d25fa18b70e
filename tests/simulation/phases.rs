//! One shard alone: what must hold in single phases of a connection, where a whole life would
//! seldom come by.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use trunkline::config::{Limits, TrustedProxies};
use trunkline::hub::message::{ConnectionId, Delivery, QuestionId, ToControl, ToShard};
use trunkline::hub::moment::Moment;
use trunkline::hub::session::{Scopes, Session};
use trunkline::hub::shard::{Settings, Shard};
use trunkline::hub::stream::Channel;
use trunkline::protocol::event::Event;
use trunkline::protocol::frame::{Body, Wants};
use trunkline::protocol::ids::{AccountId, ListId, TokenId};

use super::parser::{Heard, Parser, masked};
use super::wire::{FakeSocket, SharedWire, Wire};

/// A shard and the time.
pub(super) struct Bench {
    pub(super) shard: Shard<FakeSocket>,
    pub(super) now: Moment,
    /// Told to the control core, and not looked at yet.
    kept: Vec<ToControl>,
}

/// A client of it.
pub(super) struct Guest {
    pub(super) id: ConnectionId,
    pub(super) wire: SharedWire,
    parser: Parser,
}

impl Bench {
    pub(super) fn new() -> Bench {
        Bench::with(Limits::default())
    }

    /// Clients come through a trusted proxy on this machine.
    pub(super) fn with(limits: Limits) -> Bench {
        let ranges = vec![("127.0.0.0".parse().unwrap(), 8)];
        let trusted_proxies = TrustedProxies { ranges };
        let settings = Settings { limits, front_page: None, trusted_proxies };
        let now = Moment(1);
        Bench { shard: Shard::new(0, Arc::new(settings), 1, now), now, kept: Vec::new() }
    }

    pub(super) fn connect(&mut self, capacity: usize) -> Guest {
        let wire = Wire::new(capacity, capacity);
        let id = self.shard.admit(FakeSocket(Rc::clone(&wire)), self.now).unwrap();
        Guest { id, wire, parser: Parser::default() }
    }

    pub(super) fn say(&mut self, guest: &Guest, bytes: &[u8]) {
        self.shard.receive(guest.id, &mut bytes.to_vec(), self.now);
    }

    fn subscribe(&mut self, guest: &Guest, members: &str) {
        let mut bytes = Vec::new();
        let text = format!(r#"{{"type":"subscribe",{members}}}"#);
        masked(1, text.as_bytes(), [1, 2, 3, 4], &mut bytes);
        self.say(guest, &bytes);
    }

    pub(super) fn hear(&mut self, guest: &mut Guest) -> Vec<Heard> {
        self.end_turn();
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

    pub(super) fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(next) = self.shard.next_tick(self.now).filter(|next| *next <= until) {
            self.now = next.max(Moment(self.now.0 + 1));
            self.shard.tick(self.now);
        }
        self.now = until;
        self.shard.tick(until);
    }

    pub(super) fn told(&mut self) -> Vec<ToControl> {
        self.end_turn();
        std::mem::take(&mut self.kept)
    }

    /// What every turn of a shard ends with.
    fn end_turn(&mut self) {
        self.kept.extend(self.shard.take_outgoing());
        self.shard.welcome(self.now);
    }

    /// The one question that is out.
    pub(super) fn question(&mut self) -> QuestionId {
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

    /// An event for account 1, behind which more messages may wait.
    pub(super) fn deliver(&mut self, id: usize, has_backlog: bool) {
        self.begin(id, has_backlog);
        while self.shard.is_fanning_out() {
            self.shard.fan_out(&mut 3, self.now);
        }
    }

    /// The same, of which nothing is sent yet.
    pub(super) fn begin(&mut self, id: usize, has_backlog: bool) {
        let message = format!(r#"{{"event":"delete","payload":"{id}"}}"#);
        let event = Event::parse(message.as_bytes(), 128).unwrap();
        let wants = Wants { websocket: true, event_stream: false };
        self.shard.set_backlog(has_backlog);
        let delivery = Delivery {
            channel: Channel::Home(AccountId(1)),
            body: Arc::new(Body::new(&event, wants, false)),
            verdict: None,
            received: self.now,
        };
        self.shard.handle(ToShard::Deliver(delivery), self.now);
    }

    pub(super) fn identify(&mut self, question: QuestionId, account: i64) {
        let message = ToShard::Session { question, answer: Ok(session(account)) };
        self.shard.handle(message, self.now);
    }

    /// An open WebSocket of account 1.
    pub(super) fn websocket(&mut self, capacity: usize, first: &str) -> Guest {
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

pub(super) fn upgrade(stream: &str) -> String {
    format!(
        "GET /api/v1/streaming?access_token=a&stream={stream} HTTP/1.1\r\nHost: sim\r\n\
         Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

pub(super) fn event_stream(path: &str) -> String {
    format!("GET /api/v1/streaming/{path}access_token=a HTTP/1.1\r\nHost: sim\r\n\r\n")
}

pub(super) const HEALTH: &str = "GET /api/v1/streaming/health HTTP/1.1\r\nHost: sim\r\n\r\n";
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
fn events_that_wait_for_each_other_leave_in_one_write() {
    let mut bench = Bench::new();
    let mut guests: Vec<Guest> = (0..5).map(|_| bench.websocket(100_000, "user")).collect();
    let sends = |guests: &[Guest]| guests.iter().map(|guest| guest.wire.borrow().sends).sum();
    let at_first: usize = sends(&guests);
    bench.deliver(0, false);
    assert_eq!(sends(&guests), at_first + 5, "an event that comes alone is sent at once");
    (1..8).for_each(|id| bench.deliver(id, true));
    assert_eq!(sends(&guests), at_first + 5, "others follow");
    bench.deliver(8, false);
    assert_eq!(sends(&guests), at_first + 10, "eight frames for each, in one write");
    for guest in &mut guests {
        let heard = bench.hear(guest);
        let ids = heard.iter().map(|heard| match heard {
            Heard::Text(text) => serde_json::from_str::<serde_json::Value>(text).unwrap(),
            other => panic!("{other:?}"),
        });
        let ids: Vec<String> = ids.map(|event| event["payload"].to_string()).collect();
        assert_eq!(ids, (0..=8).map(|id| format!("\"{id}\"")).collect::<Vec<_>>());
    }
}

#[test]
fn gathering_ends_with_whatever_message_comes_last_and_never_goes_over_a_bound() {
    let limits = Limits { outbox_frames_max: 6, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let mut guests: Vec<Guest> = (0..5).map(|_| bench.websocket(100_000, "user")).collect();
    (0..40).for_each(|id| bench.deliver(id, true));
    bench.shard.set_backlog(false);
    bench.shard.handle(ToShard::KillToken(TokenId(7)), bench.now);
    while bench.shard.is_fanning_out() {
        bench.shard.fan_out(&mut 2, bench.now);
    }
    for guest in &mut guests {
        assert_eq!(bench.hear(guest).len(), 40);
    }
    assert_eq!(bench.shard.metrics_mut().outbox_connections, 0);
    assert_eq!(bench.shard.metrics_mut().outbox_bytes, 0);
}

#[test]
fn a_reader_who_takes_nothing_is_sent_away_however_often_it_caught_up() {
    let mut bench = Bench::with(Limits { subscription_changes_max: 65_535, ..Limits::default() });
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
    bench.pass(Duration::from_secs(13));
    assert!(guest.wire.borrow().closed, "a reader who takes nothing is still there");
}

impl Bench {
    /// Asks for an event stream of an account, from an address; what is answered.
    fn ask(&mut self, guest: &Guest, account: i64, address: &str) -> String {
        let path = event_stream("user?");
        let head = path.trim_end();
        self.say(guest, format!("{head}\r\nX-Forwarded-For: {address}\r\n\r\n").as_bytes());
        let told = self.told();
        let question = told.iter().find_map(|message| match message {
            ToControl::WhoIs { question, .. } => Some(*question),
            _ => None,
        });
        if let Some(question) = question {
            self.identify(question, account);
        }
        self.told();
        String::from_utf8(guest.wire.borrow_mut().bytes.drain(..).collect()).unwrap()
    }
}

#[track_caller]
fn assert_refused(answer: &str, status: u16, message: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.contains("\r\nRetry-After: "), "{answer}");
    assert!(answer.ends_with(&format!("\r\n\r\n{{\"error\":\"{message}\"}}")), "{answer}");
}

#[track_caller]
fn assert_opened(answer: &str) {
    assert!(answer.contains("text/event-stream"), "{answer}");
}

#[test]
fn of_too_many_sockets_without_a_client_the_one_that_stood_longest_goes() {
    let mut bench = Bench::with(Limits { unopened_max: 3, ..Limits::default() });
    let silent = bench.connect(10_000);
    let slow = bench.connect(10_000);
    bench.say(&slow, b"GET /api/v1/stream");
    let mut idle = bench.connect(10_000);
    bench.say(&idle, HEALTH.as_bytes());
    assert_eq!(bench.hear(&mut idle), [Heard::Answer(200, "OK".into())]);
    // A client does not count among them.
    let client = bench.connect(10_000);
    assert!(idle.wire.borrow().closed, "who has been answered makes room first");
    assert_opened(&bench.ask(&client, 1, "203.0.113.1"));
    let one_more = bench.connect(10_000);
    assert!(!silent.wire.borrow().closed);
    let last = bench.connect(10_000);
    assert!(silent.wire.borrow().closed && !slow.wire.borrow().closed);
    let told = String::from_utf8(silent.wire.borrow().bytes.iter().copied().collect()).unwrap();
    assert_refused(&told, 503, "Try again later");
    assert!(!one_more.wire.borrow().closed && !last.wire.borrow().closed);
    assert!(!client.wire.borrow().closed, "clients never make room");
    assert_eq!(bench.shard.metrics_mut().farewells.get("crowded_out"), 2);
}

#[test]
fn a_full_shard_says_so_and_still_answers_the_health_check() {
    let mut bench = Bench::with(Limits { connections_max: 2, ..Limits::default() });
    let first = bench.connect(10_000);
    assert_opened(&bench.ask(&first, 1, "203.0.113.1"));
    // Whoever waits for an answer counts.
    let asking = bench.connect(10_000);
    bench.say(&asking, event_stream("user?").as_bytes());
    bench.told();
    let mut second = bench.connect(10_000);
    assert_refused(&bench.ask(&second, 2, "203.0.113.2"), 503, "The server is full");
    bench.say(&second, HEALTH.as_bytes());
    assert_eq!(bench.hear(&mut second), [Heard::Answer(200, "OK".into())]);
    bench.shard.ended(first.id, bench.now);
    assert_opened(&bench.ask(&second, 2, "203.0.113.2"));
    assert_eq!(bench.shard.metrics_mut().handshakes_refused.get("full"), 1);
}

#[test]
fn one_account_has_so_many_connections_and_no_more() {
    let mut bench = Bench::with(Limits { connections_per_account_max: 2, ..Limits::default() });
    let guests: Vec<Guest> = (0..3).map(|_| bench.connect(10_000)).collect();
    assert_opened(&bench.ask(&guests[0], 1, "203.0.113.1"));
    assert_opened(&bench.ask(&guests[1], 1, "203.0.113.2"));
    assert_refused(&bench.ask(&guests[2], 1, "203.0.113.3"), 429, "Too many connections");
    assert_opened(&bench.ask(&guests[2], 2, "203.0.113.3"));
    bench.shard.ended(guests[0].id, bench.now);
    let next = bench.connect(10_000);
    assert_opened(&bench.ask(&next, 1, "203.0.113.1"));
    assert_eq!(bench.shard.metrics_mut().handshakes_refused.get("account_full"), 1);
}

#[test]
fn one_address_has_so_many_connections_and_no_more() {
    let mut bench = Bench::with(Limits { connections_per_address_max: 2, ..Limits::default() });
    let guests: Vec<Guest> = (0..6).map(|_| bench.connect(10_000)).collect();
    assert_opened(&bench.ask(&guests[0], 1, "2001:db8::1"));
    assert_opened(&bench.ask(&guests[1], 2, "2001:db8::2"));
    assert_refused(&bench.ask(&guests[2], 3, "2001:db8::3"), 429, "Too many connections");
    // The same connection of a proxy carries the request of somebody else.
    assert_opened(&bench.ask(&guests[2], 3, "2001:db8:0:1::3"));
    bench.shard.ended(guests[0].id, bench.now);
    assert_opened(&bench.ask(&guests[3], 3, "2001:db8::3"));
    // A proxy that names nobody is not an address of clients.
    assert_opened(&bench.ask(&guests[4], 4, "127.0.0.1"));
    assert_opened(&bench.ask(&guests[5], 5, "127.0.0.1"));
    let another = bench.connect(10_000);
    assert_opened(&bench.ask(&another, 6, "127.0.0.1"));
    assert_eq!(bench.shard.metrics_mut().handshakes_refused.get("address_full"), 1);
}

#[test]
fn a_client_that_does_not_wait_for_its_answer_may_say_only_so_much() {
    let limits = Limits { early_bytes_max: 1024, ..Limits::default() };
    for (extra, stays) in [(1024, true), (1025, false)] {
        let mut bench = Bench::with(limits.clone());
        let head = event_stream("user?");
        let early = "x".repeat(extra);
        let at_once = bench.connect(10_000);
        bench.say(&at_once, format!("{head}{early}").as_bytes());
        let later = bench.connect(10_000);
        bench.say(&later, head.as_bytes());
        bench.say(&later, early.as_bytes());
        for guest in [at_once, later] {
            assert_eq!(!guest.wire.borrow().shut, stays, "{extra}");
        }
    }
}
