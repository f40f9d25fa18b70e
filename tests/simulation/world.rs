//! The whole server with everything around it, turned by hand: each step moves one thing.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use trunkline::config::Limits;
use trunkline::hub::control::{Control, Effect};
use trunkline::hub::message::{QuestionId, ToControl, ToShard};
use trunkline::hub::moment::{Moment, UnixMillis};
use trunkline::hub::question::Question;
use trunkline::hub::readiness::Upstreams;
use trunkline::hub::shard::{Settings, Shard};
use trunkline::hub::stream::Channel;
use trunkline::io::mesh::{ControlLink, ShardLink, mesh};
use trunkline::metrics::{self, ProcessFacts, ShardMetrics};

use super::books::Books;
use super::client::{Client, Kind};
use super::database::{Asked, Database};
use super::ledger::Ledger;
use super::moods::Troubles;
use super::parser::Heard;
use super::redis::{Line, Redis};
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
    /// The books of what holds at every step.
    pub books: Books,
    /// What may go wrong.
    pub troubles: Troubles,
    /// A shard that does not turn.
    pub hung: Option<usize>,
    /// When the server was told to stop, and within which time.
    pub stops: Option<(Moment, Duration)>,
    /// When each token turned bad.
    pub bad_since: BTreeMap<i64, u64>,
    /// Kills that were published, by channel.
    pub killed: BTreeSet<String>,
    /// Questions for verdicts in the control core's present turn.
    pub questions_in_turn: usize,
    /// Tell what happens.
    tells: bool,
    /// A hash of everything that was said, and how much clients heard.
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
            books: Books::new(shards),
            troubles: Troubles::default(),
            hung: None,
            stops: None,
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
        wire.borrow_mut().address = Some(self.address());
        let unopened = self.unopened(shard);
        let sockets = self.shards[shard].metrics_mut().sockets;
        let is_full_house = sockets >= self.limits.sockets_max() as u64;
        if unopened >= self.limits.unopened_max as u64 || is_full_house {
            for one in self.clients.iter_mut().filter(|one| one.shard == shard && !one.is_open()) {
                one.excuses.insert("crowded");
            }
            self.books.sight("crowd");
        }
        let id = self.shards[shard].admit(FakeSocket(Rc::clone(&wire)), self.now).unwrap();
        let most = unopened.max(self.limits.unopened_max as u64);
        assert!(self.unopened(shard) <= most, "one more than {unopened} sockets without a client");
        self.clients.push(Client::new(shard, id, wire, kind, token, (self.step, self.now)));
        self.after_shard(shard);
        self.clients.len() - 1
    }

    /// Where a client comes from.
    fn address(&mut self) -> std::net::IpAddr {
        std::net::Ipv4Addr::new(203, 0, 113, self.random.u8(1..=3)).into()
    }

    /// Sockets without a client.
    fn unopened(&mut self, shard: usize) -> u64 {
        let metrics = self.shards[shard].metrics_mut();
        let clients = metrics.clients.websocket + metrics.clients.eventsource;
        metrics.sockets - clients - metrics.questions_waiting
    }

    /// Would a client that asks for something now be one too many?
    fn is_full_for(&mut self, index: usize) -> bool {
        let (shard, address) = (self.clients[index].shard, self.clients[index].address());
        let from_there =
            |one: &Client| one.shard == shard && !one.is_gone() && one.address() == address;
        let others = self.clients.iter().filter(|one| from_there(one)).count() - 1;
        let limits = &self.limits;
        let metrics = self.shards[shard].metrics_mut();
        let asking = metrics.questions_waiting;
        let clients = metrics.clients.websocket + metrics.clients.eventsource + asking;
        others >= limits.connections_per_address_max
            || clients >= limits.connections_max as u64
            || asking >= limits.questions_waiting_max as u64
            || self.stops.is_some()
    }

    /// Deliveries to a shard that the mesh had no room for.
    pub fn lost(&self, shard: usize) -> u64 {
        self.links[shard].lost()
    }

    /// Some of a client's bytes reach its shard.
    pub fn feed(&mut self, index: usize, most: usize) {
        let client = &self.clients[index];
        if self.hung == Some(client.shard) {
            return;
        }
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
        if client.status.is_none() && !client.is_gone() {
            let is_full = self.is_full_for(index);
            self.clients[index].is_full |= is_full;
        }
        let client = &mut self.clients[index];
        let count = most.min(client.outgoing.len());
        let mut bytes: Vec<u8> = client.outgoing.drain(..count).collect();
        client.fed += count;
        let (shard, id) = (client.shard, client.connection);
        self.books.disturb(shard);
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
        let is_heard = self.hung != Some(client.shard);
        if client.wire.borrow().has_news_for_server() && is_heard {
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
        if self.hung == Some(shard) {
            return false;
        } else if self.shards[shard].is_fanning_out() {
            let mut budget = 1 + self.below(3);
            self.shards[shard].fan_out(&mut budget, self.now);
        } else if let Some(message) = self.up_links[shard].receive() {
            let has_backlog = self.up_links[shard].has_mail();
            self.note(format_args!("control -> {shard} {} {has_backlog}", short(&message)));
            self.shards[shard].set_backlog(has_backlog);
            self.before_message(shard, &message);
            let killed = match &message {
                ToShard::KillToken(token) => Some(Channel::Token(*token)),
                ToShard::KillAccount(account) => Some(Channel::System(*account)),
                _ => None,
            };
            self.shards[shard].handle(message, self.now);
            self.after_message(shard, killed);
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
        if !matches!(message, ToControl::Metrics(_)) {
            self.say(format_args!("{shard} -> control {message:?}"));
        }
        self.set_time();
        self.books.control_hears(shard, &message);
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

    /// Time passes.
    pub fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
        let hung = self.hung;
        for shard in (0..self.shards.len()).filter(|shard| hung != Some(*shard)) {
            self.books.disturb(shard);
            self.shards[shard].tick(self.now);
            self.after_shard(shard);
        }
        self.set_time();
        self.act();
        let now = self.now;
        self.redis.keys.retain(|_, ends| *ends > now);
    }

    /// Tells the control core what time it is.
    pub fn set_time(&mut self) {
        let unix = UnixMillis(1_700_000_000_000 + (self.now.0 / 1_000_000) as i64);
        self.control.set_time(self.now, unix);
    }

    /// The control core often does what is to be done at once.
    pub fn maybe_act(&mut self) {
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

    /// Tells it, and remembers it in the trace.
    pub fn say(&mut self, what: std::fmt::Arguments<'_>) {
        self.note(what);
        struct Hash<'a>(&'a mut u64);
        impl std::fmt::Write for Hash<'_> {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                for byte in text.bytes() {
                    *self.0 = (*self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
                }
                Ok(())
            }
        }
        std::fmt::Write::write_fmt(&mut Hash(&mut self.trace.0), what).unwrap();
    }

    /// The end of a turn of the control core.
    pub fn act(&mut self) {
        self.control.flush();
        for effect in self.control.take_effects() {
            self.books.control_does(&effect);
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
                Effect::Render { shards, waiting } => self.render(&shards, &waiting),
                Effect::Report { waiting } => self.report(&waiting),
            }
        }
        for link in &mut self.links {
            link.flush();
        }
        let room = self.redis.room();
        let batch = self.control.interest_mut().next_batch(self.now, room);
        if !batch.is_empty() {
            self.say(format_args!("control -> redis {batch:?}"));
        }
        self.redis.send(&batch);
        self.check_control();
    }

    fn render(&mut self, shards: &[ShardMetrics], waiting: &[(usize, QuestionId)]) {
        let facts = ProcessFacts::default();
        let text: Arc<str> = metrics::render(shards, self.control.metrics(), &facts).into();
        for (shard, question) in waiting.iter().copied() {
            self.awaits(shard, question, &text);
            self.send_down(shard, ToShard::MetricsText { question, text: Arc::clone(&text) });
        }
    }

    fn report(&mut self, waiting: &[(usize, QuestionId)]) {
        let report = self.control.report(self.upstreams());
        for (shard, question) in waiting.iter().copied() {
            self.awaits(shard, question, &report.json());
            self.send_down(shard, ToShard::Readiness { question, report });
        }
    }

    /// How things stand outside.
    pub fn upstreams(&self) -> Upstreams {
        let redis_connected = self.redis.subscriber != Line::Down;
        Upstreams { redis_connected, postgres_connected: true }
    }

    /// A client is to get this answer.
    fn awaits(&mut self, shard: usize, question: QuestionId, answer: &str) {
        let asked = |one: &&mut Client| one.shard == shard && one.connection == question.connection;
        self.clients.iter_mut().filter(asked).for_each(|one| one.awaits = Some(answer.to_owned()));
    }

    fn send_down(&mut self, shard: usize, message: ToShard) {
        let before = self.links[shard].lost();
        let channel = match &message {
            ToShard::Deliver(delivery) => Some(delivery.channel.redis_name()),
            _ => None,
        };
        self.links[shard].send(message);
        if self.links[shard].lost() > before {
            let channel = channel.expect("only deliveries are lost");
            let reads = |client: &&mut Client| {
                let mut subscriptions = client.subscriptions.iter();
                client.shard == shard && subscriptions.any(|one| one.channels.contains(&channel))
            };
            self.clients.iter_mut().filter(reads).for_each(|client| {
                client.excuses.insert("lagged");
            });
        }
    }

    /// What a shard has to say goes into the mesh; who has just been registered is noted.
    fn after_shard(&mut self, shard: usize) {
        for message in self.shards[shard].take_outgoing() {
            self.books.shard_says(shard, &message);
            self.sent[shard] += 1;
            self.up_links[shard].send(message);
        }
        self.up_links[shard].flush();
        if self.shards[shard].welcome(self.now) {
            return self.after_shard(shard);
        }
        self.check_shard(shard);
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
        self.say(format_args!("client {index} hears {heard:?}"));
        self.trace.1 += 1;
        let (database, step) = (&self.database, self.step);
        let client = &mut self.clients[index];
        match heard {
            Heard::Answer(status, body) if client.visits.is_some() => {
                client.status = Some(status);
                client.check_page(status, &body);
            }
            Heard::Answer(status, body) => {
                client.status = Some(status);
                if self.now >= client.came + self.limits.answer_secs_max {
                    client.excuses.insert("waited");
                }
                if matches!(status, 429 | 503) {
                    self.books.sight("refused");
                }
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
            Some(1013) if due("lagged") => true,
            Some(1013) => due("slow"),
            Some(1001) => due("stopping"),
            Some(1000..=1009) => due("rude") || due("polite"),
            Some(_) => false,
        };
        let excuses = &client.excuses;
        assert!(fits || due("polite"), "client {index} was closed with {code:?}: {excuses:?}");
    }

    /// Nothing moves but time.
    pub fn is_quiet(&self) -> bool {
        self.redis.is_quiet()
            && self.database.asked.is_empty()
            && self.clients.iter().all(Client::is_quiet)
            && self.links.iter().all(|link| !link.has_mail() && !link.is_congested())
            && self.up_links.iter().all(|link| !link.has_mail())
            && self.shards.iter().all(|shard| !shard.is_fanning_out())
    }

    /// Each does what it has to do.
    pub fn go_round(&mut self) {
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
    }

    /// Everything moves until nothing does.
    pub fn come_to_rest(&mut self) {
        for _ in 0..10_000 {
            self.go_round();
            if self.is_quiet() {
                return;
            }
        }
        let busy: Vec<usize> =
            (0..self.clients.len()).filter(|index| !self.clients[*index].is_quiet()).collect();
        panic!("it does not come to rest: clients {busy:?}");
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
