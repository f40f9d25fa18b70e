//! The whole server with everything around it, turned by hand: each step moves one thing.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trunkline::config::Limits;
use trunkline::hub::control::{Control, Effect};
use trunkline::hub::interest::Confirmation;
use trunkline::hub::message::ToShard;
use trunkline::hub::moment::{Moment, UnixMillis};
use trunkline::hub::question::Question;
use trunkline::hub::shard::{Settings, Shard};
use trunkline::io::mesh::{ControlLink, ShardLink, mesh};

use super::client::{Client, Kind};
use super::database::{Asked, Database};
use super::ledger::{Content, Ledger, Publication};
use super::parser::Heard;
use super::redis::{Line, Redis, Reply};
use super::wire::FakeSocket;

/// Everything.
pub struct World {
    /// Decides everything.
    pub random: fastrand::Rng,
    /// Virtual time.
    pub now: Moment,
    /// Counts what happens.
    pub step: u64,
    /// The bounds of this world.
    pub limits: Limits,
    /// The code under test.
    pub control: Control,
    /// The code under test.
    pub shards: Vec<Shard<FakeSocket>>,
    links: Vec<ShardLink>,
    up_links: Vec<ControlLink>,
    /// Messages of each shard so far, and how many of them the control core has.
    sent: Vec<u64>,
    heard: Vec<u64>,
    /// Around it.
    pub redis: Redis,
    /// Around it.
    pub database: Database,
    /// Around it.
    pub clients: Vec<Client>,
    /// The oracle.
    pub ledger: Ledger,
    /// When each token turned bad.
    pub bad_since: BTreeMap<i64, u64>,
    /// Kills that were published, by channel.
    pub killed: BTreeSet<String>,
    /// Questions for verdicts in the control core's present turn.
    questions_in_turn: usize,
    /// Tell what happens.
    tells: bool,
    /// A hash of everything that clients got, and how much that was.
    pub trace: (u64, u64),
}

impl World {
    /// A world without clients.
    pub fn new(seed: u64, shards: usize, limits: Limits, database: Database) -> World {
        let now = Moment(1_000_000_000);
        let settings = Arc::new(Settings {
            limits: limits.clone(),
            front_page: None,
            trusted_proxies: Default::default(),
        });
        let (links, _bell, up_links) = mesh(shards, &limits).unwrap();
        World {
            random: fastrand::Rng::with_seed(seed),
            now,
            step: 0,
            control: Control::new(&limits, shards),
            shards: (0..shards)
                .map(|index| Shard::new(index, Arc::clone(&settings), seed, now))
                .collect(),
            links,
            up_links,
            sent: vec![0; shards],
            heard: vec![0; shards],
            redis: Redis::new(limits.redis_batch_max),
            limits,
            database,
            clients: Vec::new(),
            ledger: Ledger::default(),
            bad_since: BTreeMap::new(),
            killed: BTreeSet::new(),
            questions_in_turn: 0,
            tells: std::env::var_os("TRUNKLINE_SEED").is_some(),
            trace: (0, 0),
        }
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.random.usize(0..bound.max(1))
    }

    /// True so many times in a hundred.
    pub fn percent(&mut self, chance: u32) -> bool {
        self.random.u32(0..100) < chance
    }

    /// Somebody connects; nothing is said yet.
    pub fn connect(&mut self, kind: Kind, token: i64) -> usize {
        let shard = self.below(self.shards.len());
        let capacity = [400, 4000, 100_000][self.below(3)];
        let bite = [7, 300, 100_000][self.below(3)];
        let wire = Client::wire(capacity, bite);
        let id = self.shards[shard].admit(FakeSocket(Rc::clone(&wire)), self.now).unwrap();
        self.clients.push(Client::new(shard, id, wire, kind, token, self.step));
        self.clients.len() - 1
    }

    /// Some of a client's bytes reach its shard.
    pub fn feed(&mut self, index: usize, most: usize) {
        let client = &self.clients[index];
        let text: Vec<u8> = client.outgoing.iter().copied().take(most).collect();
        if !text.is_empty() {
            let (shard, id) = (client.shard, client.connection.slot);
            self.note(format_args!("client {index} at {shard}/{id}: {}", unmasked(&text)));
        }
        let client = &mut self.clients[index];
        if client.left_heard || client.is_gone() {
            client.outgoing.clear();
            return;
        }
        let count = most.min(client.outgoing.len());
        let mut bytes: Vec<u8> = client.outgoing.drain(..count).collect();
        client.fed += count;
        let (shard, id) = (client.shard, client.connection);
        if !bytes.is_empty() {
            self.shards[shard].receive(id, &mut bytes, self.now);
        } else if client.left {
            client.left_heard = true;
            self.shards[shard].ended(id, self.now);
        }
        self.after_shard(shard);
    }

    /// A client reads some bytes, or the server hears that it could.
    pub fn read(&mut self, index: usize, most: usize) {
        let client = &mut self.clients[index];
        if client.wire.borrow().has_news_for_server() && !client.left_heard {
            client.wire.borrow_mut().blocked = false;
            client.excuses.insert("slow");
            let (shard, id) = (client.shard, client.connection);
            self.shards[shard].writable(id, self.now);
            self.after_shard(shard);
        }
        let client = &mut self.clients[index];
        for heard in client.read(most) {
            self.hear(index, heard);
        }
    }

    /// The shard takes a message, or goes on with an event.
    pub fn turn_shard(&mut self, shard: usize) -> bool {
        if self.shards[shard].is_fanning_out() {
            let budget = 1 + self.below(3);
            self.shards[shard].fan_out(budget, self.now);
        } else if let Some(message) = self.up_links[shard].receive() {
            let has_backlog = self.up_links[shard].has_mail();
            self.note(format_args!("control -> {shard} {} {has_backlog}", short(&message)));
            self.shards[shard].set_backlog(has_backlog);
            self.shards[shard].handle(message, self.now);
        } else {
            return false;
        }
        self.after_shard(shard);
        true
    }

    /// The control core takes a message of a shard.
    pub fn turn_control(&mut self, shard: usize) -> bool {
        let Some(message) = self.links[shard].receive() else { return false };
        self.heard[shard] += 1;
        self.note(format_args!("{shard} -> control {message:?}"));
        self.set_time();
        self.control.from_shard(shard, message);
        for client in self.clients.iter_mut().filter(|client| client.shard == shard) {
            for one in &mut client.subscriptions {
                if one.registered.is_some_and(|(_, mark)| mark <= self.heard[shard]) {
                    one.settled.get_or_insert(self.step);
                }
            }
        }
        self.maybe_act();
        true
    }

    /// A reply of Redis reaches the control core.
    pub fn turn_redis(&mut self) -> bool {
        let replied = self.redis.take_set_replies();
        let Some(reply) = self.redis.next_reply() else {
            if replied {
                self.act();
            }
            return replied;
        };
        self.note(format_args!("redis {reply:?}"));
        self.set_time();
        match reply {
            Reply::Confirmed(name, confirmation) => {
                if let Some(account) = name.strip_prefix("timeline:system:")
                    && confirmation == Confirmation::Subscribed
                {
                    self.raise_floor(account.parse().unwrap());
                }
                self.control.redis_confirmed(name.as_bytes(), confirmation);
            }
            Reply::Message(name, payload, at) => {
                if payload.contains("filters_changed")
                    && let Some(account) = name.strip_prefix("timeline:system:")
                {
                    self.raise_floor(account.parse().unwrap());
                }
                let floors = self.ledger.floors.clone();
                if let Some(publication) = self.ledger.publications.get_mut(at) {
                    publication.arrived = Some(self.step);
                    publication.floors = floors;
                }
                self.questions_in_turn = 0;
                self.control.redis_message(name.as_bytes(), &Bytes::from(payload));
                self.act();
                assert!(self.questions_in_turn <= 3, "{} questions", self.questions_in_turn);
            }
        }
        self.maybe_act();
        true
    }

    fn raise_floor(&mut self, account: i64) {
        self.note(format_args!("floor of {account}"));
        if let Some(found) = self.database.accounts.get(&account) {
            self.ledger.floors.insert(account, found.filters.version());
        }
    }

    /// An answer of the database reaches the control core.
    pub fn turn_database(&mut self, index: usize) {
        let Some(asked) = self.database.asked.get(index) else { return };
        if asked.answer.is_none() {
            let chance = self.database.failing_percent;
            let fails = self.percent(chance);
            return self.database.execute(index, fails);
        }
        let Asked { number, question, step, answer } = self.database.asked.remove(index);
        self.note(format_args!("answer {number} {answer:?}"));
        let Some(answer) = answer else { return };
        if answer.is_err() {
            self.excuse(&question, step);
        }
        self.set_time();
        self.control.answered(number, answer);
        self.maybe_act();
    }

    /// A question fails: what hangs on it is excused.
    fn excuse(&mut self, question: &Question, asked: u64) {
        let open = self.ledger.settled..self.ledger.publications.len();
        let waiting = self.ledger.publications[open].iter_mut();
        match question {
            Question::BlocksAndMutes { .. } | Question::DomainBlocks { .. } => {
                let numbers: BTreeSet<usize> = waiting
                    .filter(|one| one.arrived == Some(asked))
                    .map(|one| one.number)
                    .collect();
                for one in &mut self.ledger.publications {
                    if numbers.contains(&one.number) {
                        one.unchecked.push(None);
                    }
                }
            }
            Question::Filters(accounts) => {
                for one in waiting {
                    one.unchecked.extend(accounts.iter().map(|account| Some(account.0)));
                }
            }
            // Nobody but the server itself wanted to know.
            Question::StillValid(tokens) if tokens.is_empty() => {}
            _ => self.database.has_failed = true,
        }
    }

    /// The subscriber connection breaks; some of what is on its way still comes.
    pub fn break_subscriber(&mut self) {
        let kept = self.below(self.redis.replies.len() + 1);
        for reply in self.redis.break_subscriber(kept) {
            if let Reply::Message(_, _, at) = reply
                && let Some(publication) = self.ledger.publications.get_mut(at)
            {
                publication.goes = false;
            }
        }
    }

    /// What the server notices of its connections to Redis.
    pub fn move_lines(&mut self) {
        self.set_time();
        match self.redis.subscriber {
            Line::Broken if self.redis.replies.is_empty() => {
                self.redis.notice_subscriber();
                self.control.redis_lost();
            }
            Line::Down => self.redis.subscriber = Line::Up,
            _ => {}
        }
        match self.redis.commands {
            Line::Broken => self.redis.notice_commands(),
            Line::Down => {
                self.redis.commands = Line::Up;
                self.control.interest_mut().keys_lost();
            }
            Line::Up => {}
        }
        self.maybe_act();
    }

    /// Somebody publishes the same bytes on some channels.
    pub fn publish(&mut self, channels: &[String], content: Content) {
        let number = self.ledger.next_number;
        self.ledger.next_number += 1;
        let message = content.message(number);
        let content = Rc::new(content);
        for channel in channels {
            let at = self.ledger.publications.len();
            let goes = self.redis.publish(channel, &message, at);
            let mut expected = Vec::new();
            for (index, client) in self.clients.iter().enumerate() {
                for (place, one) in client.subscriptions.iter().enumerate() {
                    let is_due = goes && one.settled.is_some() && one.left.is_none();
                    if is_due && one.channels.contains(channel) && client.is_open() {
                        expected.push((index, place));
                    }
                }
            }
            self.ledger.publications.push(Publication {
                number,
                channel: channel.clone(),
                step: self.step,
                content: Rc::clone(&content),
                goes,
                arrived: None,
                unchecked: Vec::new(),
                floors: BTreeMap::new(),
                expected,
            });
        }
    }

    /// `PUBLISH` of an order on a system channel.
    pub fn order(&mut self, channel: &str, event: &str) {
        let message = format!(r#"{{"event":"{event}"}}"#);
        self.redis.publish(channel, &message, usize::MAX);
        if event == "kill" {
            self.killed.insert(channel.to_owned());
        }
    }

    /// Time passes.
    pub fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
        for shard in 0..self.shards.len() {
            self.shards[shard].tick(self.now);
            self.after_shard(shard);
        }
        self.set_time();
        self.act();
        let now = self.now;
        self.redis.keys.retain(|_, ends| *ends > now);
    }

    fn set_time(&mut self) {
        let unix = UnixMillis(1_700_000_000_000 + (self.now.0 / 1_000_000) as i64);
        self.control.set_time(self.now, unix);
    }

    fn maybe_act(&mut self) {
        if self.percent(75) {
            self.act();
        }
    }

    /// Tells the story of a chosen seed.
    pub fn note(&self, what: std::fmt::Arguments<'_>) {
        if self.tells {
            eprintln!("{:>6} {}", self.step, what);
        }
    }

    /// The end of a turn of the control core.
    pub fn act(&mut self) {
        self.control.flush();
        for effect in self.control.take_effects() {
            match effect {
                Effect::ToShard(shard, message) => {
                    self.send_down(shard, message);
                }
                Effect::Ask(number, question) => {
                    let verdicts = matches!(
                        question,
                        Question::BlocksAndMutes { .. }
                            | Question::DomainBlocks { .. }
                            | Question::Filters(_)
                    );
                    self.questions_in_turn += usize::from(verdicts);
                    self.note(format_args!("ask {number} {question:?}"));
                    let asked = Asked { number, question, step: self.step, answer: None };
                    self.database.asked.push(asked);
                }
                Effect::Render { .. } | Effect::Report { .. } => {}
            }
        }
        for link in &mut self.links {
            link.flush();
        }
        let room = self.redis.room();
        let batch = self.control.interest_mut().next_batch(self.now, room);
        self.redis.send(&batch);
    }

    fn send_down(&mut self, shard: usize, message: ToShard) {
        let before = self.links[shard].lost();
        self.links[shard].send(message);
        if self.links[shard].lost() > before {
            for client in self.clients.iter_mut().filter(|client| client.shard == shard) {
                client.excuses.insert("lagged");
            }
        }
    }

    /// What a shard has to say goes into the mesh; who has just been registered is noted.
    fn after_shard(&mut self, shard: usize) {
        for message in self.shards[shard].take_outgoing() {
            self.sent[shard] += 1;
            self.up_links[shard].send(message);
        }
        self.up_links[shard].flush();
        let bound = self.limits.outbox_bytes_max.max(5000) * self.shards[shard].len();
        let waiting = self.shards[shard].metrics_mut().outbox_bytes;
        assert!(waiting <= bound as u64, "{waiting} bytes in outboxes");
        let registry = self.shards[shard].registry();
        for client in self.clients.iter_mut().filter(|client| client.shard == shard) {
            let (id, fed, step) = (client.connection, client.fed, self.step);
            for one in &mut client.subscriptions {
                let is_in = one.ended.is_none() && one.is_in(registry, id);
                if is_in && one.registered.is_none() && !one.unsure && fed >= one.said_at {
                    one.registered = Some((step, self.sent[shard]));
                }
                let was_in = one.registered.is_some();
                if !is_in && was_in && one.left.is_some() && client.outgoing.is_empty() {
                    one.ended.get_or_insert(step);
                }
            }
        }
    }

    /// A client understands something.
    fn hear(&mut self, index: usize, heard: Heard) {
        self.note(format_args!("client {index} hears {heard:?}"));
        let text = format!("{index} {heard:?}");
        for byte in text.bytes() {
            self.trace.0 = (self.trace.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        self.trace.1 += 1;
        let (database, step) = (&self.database, self.step);
        let client = &mut self.clients[index];
        match heard {
            Heard::Answer(status, body) => {
                client.status = Some(status);
                client.check_answer(index, status, &body, database, &self.bad_since);
            }
            Heard::Text(text) => {
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                if value.get("error").is_some() {
                    return client.told.push(text);
                }
                let label = value["stream"].to_string();
                let (name, payload) = (&value["event"], &value["payload"]);
                let event = (Some(&*label), name.as_str().unwrap(), payload.as_str().unwrap());
                self.ledger.receive((index, client), database, step, event);
            }
            Heard::Event(name, data) => {
                self.ledger.receive((index, client), database, step, (None, &name, &data));
            }
            Heard::Ping if client.answers && !client.left => client.say(10, b""),
            Heard::Close(code) => {
                client.farewell = Some(code);
                if client.answers && !client.left {
                    client.say(8, &code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec()));
                }
                client.left = true;
                self.check_farewell(index, code);
            }
            Heard::End => {
                client.farewell = Some(None);
                client.left = true;
                self.check_farewell(index, None);
            }
            Heard::Ping | Heard::Pong => {}
        }
    }

    fn check_farewell(&self, index: usize, code: Option<u16>) {
        let client = &self.clients[index];
        let due = |excuse: &str| client.excuses.contains(excuse);
        let is_event_stream = client.kind == Kind::EventStream;
        let fits = match code {
            None => due("revoked") || (is_event_stream && !client.excuses.is_empty()),
            Some(1013) => due("slow") || due("lagged"),
            Some(1001) => due("stopping"),
            Some(1000..=1009) => due("rude") || due("polite"),
            Some(_) => false,
        };
        let excuses = &client.excuses;
        assert!(fits || due("polite"), "client {index} was closed with {code:?}: {excuses:?}");
    }

    /// Nothing moves but time.
    pub fn is_quiet(&self) -> bool {
        let client_is_quiet = |client: &Client| {
            client.is_gone()
                || (client.outgoing.is_empty()
                    && (client.stalls || client.wire.borrow().bytes.is_empty())
                    && !client.wire.borrow().has_news_for_server()
                    && client.left == client.left_heard)
        };
        self.redis.is_quiet()
            && self.database.asked.is_empty()
            && self.clients.iter().all(client_is_quiet)
            && self.links.iter().all(|link| !link.has_mail() && !link.is_congested())
            && self.up_links.iter().all(|link| !link.has_mail())
            && self.shards.iter().all(|shard| !shard.is_fanning_out())
    }

    /// Everything moves until nothing does.
    pub fn come_to_rest(&mut self) {
        for _ in 0..10_000 {
            self.step += 1;
            self.move_lines();
            self.redis.read(self.now);
            self.turn_redis();
            self.act();
            for index in (0..self.database.asked.len()).rev() {
                self.turn_database(index);
            }
            for shard in 0..self.shards.len() {
                self.turn_control(shard);
                self.turn_shard(shard);
            }
            for index in 0..self.clients.len() {
                self.feed(index, usize::MAX);
                let most = if self.clients[index].stalls { 0 } else { usize::MAX };
                self.read(index, most);
            }
            self.act();
            if self.is_quiet() {
                return;
            }
        }
        panic!("it does not come to rest");
    }
}

fn short(message: &ToShard) -> String {
    match message {
        ToShard::Deliver(delivery) => format!("event on {}", delivery.channel),
        other => format!("{other:?}"),
    }
}

/// Good enough to read a story.
fn unmasked(bytes: &[u8]) -> String {
    let mask = [7, 0, 255, 128];
    let start = match bytes {
        [0x81, 0xfe, ..] => 8,
        [0x81, ..] => 6,
        _ => return String::from_utf8_lossy(bytes).chars().take(60).collect(),
    };
    let rest = bytes.iter().skip(start).zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    String::from_utf8_lossy(&rest.collect::<Vec<u8>>()).into_owned()
}
