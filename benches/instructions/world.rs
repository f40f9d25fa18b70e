//! A control core and a shard, turned by hand: sockets take everything, the database knows
//! everybody.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trunkline::config::Limits;
use trunkline::hub::control::{Control, Effect};
use trunkline::hub::message::{ConnectionId, ToControl, ToShard};
use trunkline::hub::moment::{Moment, UnixMillis};
use trunkline::hub::question::{Answer, CustomFilter, FeedSettings, Keyword, Question};
use trunkline::hub::session::{Scopes, Session};
use trunkline::hub::shard::{Sent, Settings, Shard, Socket};
use trunkline::load::plan::{Accounts, ChannelNumber, Plan, Stream, Transport};
use trunkline::load::status::{Marker, TEMPLATES, Templates};
use trunkline::protocol::ids::{AccountId, FilterId, Token, TokenId};

/// Clients of a world.
pub const CLIENTS: u32 = 1000;
/// Readers that one step of the shard serves, as in `io`.
const SENDS_MAX: usize = 512;

/// A socket that takes everything and keeps nothing.
pub struct Sink;

impl Socket for Sink {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        Sent::Bytes(std::hint::black_box(bytes).len())
    }

    fn send_parts(&mut self, parts: &[&[u8]]) -> Sent {
        Sent::Bytes(std::hint::black_box(parts).iter().map(|part| part.len()).sum())
    }

    fn shut(&mut self) {}
}

/// Both cores, and who is connected.
pub struct World {
    pub control: Control,
    pub shard: Shard<Sink>,
    clients: Vec<ConnectionId>,
    plan: Plan,
    templates: Templates,
    now: Moment,
    /// Keywords of each account.
    keywords: usize,
}

impl World {
    /// Nobody is connected yet.
    pub fn new(transport: Transport, stream: Stream) -> World {
        let limits = Limits::default();
        let settings = Arc::new(Settings {
            limits: limits.clone(),
            front_page: None,
            trusted_proxies: Default::default(),
        });
        let (token, base, step) = ("tok-{n}".to_owned(), 110_000_000_000_000_000, 1_000_003);
        let now = Moment(1_000_000_000);
        World {
            control: Control::new(&limits, 1),
            shard: Shard::new(0, settings, 1, now),
            clients: Vec::new(),
            plan: Plan {
                transports: vec![transport],
                streams: vec![stream],
                accounts: Accounts::Template { token, base, step, count: CLIENTS },
                first_account: 0,
                host: "streaming.herd.example".to_owned(),
            },
            templates: Templates::new(Some("zzkeyword")),
            now,
            keywords: 0,
        }
    }

    /// The same with everybody connected.
    pub fn full(transport: Transport, stream: Stream) -> World {
        let mut world = World::new(transport, stream);
        world.open_all();
        world
    }

    /// Everybody reads `public` and has one filter with so many keywords. One account in twenty has
    /// a keyword that every status holds.
    pub fn filtering(keywords: usize) -> World {
        let mut world = World::new(Transport::WebSocket, Stream::Public("public"));
        world.keywords = keywords;
        world.open_all();
        world
    }

    fn open_all(&mut self) {
        let mut requests = self.requests();
        self.admit_all();
        self.request_all(&mut requests);
        self.settle();
    }

    /// What everybody says first.
    pub fn requests(&self) -> Vec<Vec<u8>> {
        let request = |number| {
            let mut request = Vec::new();
            self.plan.push_request(number, &mut request);
            request
        };
        (0..CLIENTS).map(request).collect()
    }

    pub fn admit_all(&mut self) {
        let now = self.now;
        let shard = &mut self.shard;
        self.clients = (0..CLIENTS).map(|_| shard.admit(Sink, now).unwrap()).collect();
    }

    /// Everybody says who it is and what it wants.
    pub fn request_all(&mut self, requests: &mut [Vec<u8>]) {
        for (request, id) in requests.iter_mut().zip(&self.clients) {
            self.shard.receive(*id, request, self.now);
        }
    }

    /// Everybody says the same bytes.
    pub fn say_all(&mut self, bytes: &[u8]) {
        let mut copy = Vec::new();
        for id in &self.clients {
            copy.clear();
            copy.extend_from_slice(bytes);
            self.shard.receive(*id, &mut copy, self.now);
        }
    }

    /// Time goes by, for the shard only, which wakes whenever it has to.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(next) = self.shard.next_tick(self.now).filter(|next| *next < until) {
            self.now = next.max(self.now);
            self.shard.tick(self.now);
        }
        self.now = until;
    }

    /// Everything that is under way comes to its end.
    pub fn settle(&mut self) {
        loop {
            self.hear_shard();
            let messages = self.answer_all();
            if messages.is_empty() {
                return;
            }
            self.hand(messages);
        }
    }

    /// The shard's messages reach the control core.
    pub fn hear_shard(&mut self) {
        self.control.set_time(self.now, UnixMillis(1_795_000_000_000));
        let outgoing: Vec<ToControl> = self.shard.take_outgoing().collect();
        for message in outgoing {
            self.control.from_shard(0, message);
        }
        self.control.flush();
        self.shard.welcome(self.now);
    }

    /// Messages reach the shard.
    pub fn hand(&mut self, messages: Vec<ToShard>) {
        for message in messages {
            self.shard.handle(message, self.now);
            while self.shard.is_fanning_out() {
                self.shard.fan_out(&mut { SENDS_MAX }, self.now);
            }
            self.shard.record_latency(self.now);
        }
    }

    /// Different statuses of 2 to 6 KB, 4 on average, as they are published. Different lengths even
    /// out what the place of a buffer means for copying it.
    pub fn statuses(&self, count: usize) -> Vec<Bytes> {
        let status = |(template, sequence)| {
            let mut out = Vec::new();
            let (channel, intended_nanos) = (ChannelNumber(0), 1);
            let marker = Marker { template, channel, sequence, intended_nanos };
            self.templates.get(template).unwrap().push_message(&marker, &mut out);
            Bytes::from(out)
        };
        (0..TEMPLATES).cycle().zip(0..).take(count).map(status).collect()
    }

    /// The name at Redis of a client's channel.
    pub fn channel(&self, client: u32) -> Vec<u8> {
        let mut name = Vec::new();
        self.plan.push_channel_name(self.plan.channel(client), &mut name);
        name
    }

    /// What the control core says to the shard when all its questions are answered.
    pub fn answer_all(&mut self) -> Vec<ToShard> {
        let mut messages = Vec::new();
        loop {
            let (told, answers) = self.take_effects();
            messages.extend(told);
            if answers.is_empty() {
                return messages;
            }
            self.answered(answers);
        }
    }

    /// The database has answered.
    pub fn answered(&mut self, answers: Vec<(u64, Answer)>) {
        for (number, answer) in answers {
            self.control.answered(number, Ok(answer));
        }
        self.control.flush();
    }

    /// What the control core wants: messages for the shard, and answers to what it asks.
    pub fn take_effects(&mut self) -> (Vec<ToShard>, Vec<(u64, Answer)>) {
        let (mut messages, mut answers) = (Vec::new(), Vec::new());
        for effect in self.control.take_effects() {
            match effect {
                Effect::ToShard(_, message) => messages.push(message),
                Effect::Ask(number, question) => answers.push((number, self.answer(&question))),
                Effect::Render { .. } | Effect::Report { .. } => {}
            }
        }
        (messages, answers)
    }

    fn answer(&self, question: &Question) -> Answer {
        match question {
            Question::Tokens(tokens) => Answer::Sessions(tokens.iter().map(session).collect()),
            Question::StillValid(tokens) => Answer::ValidTokens(tokens.to_vec()),
            Question::ListOwners(_) => Answer::ListOwners(Vec::new()),
            Question::FeedSettings => Answer::FeedSettings(FeedSettings::default()),
            // One in a hundred.
            Question::BlocksAndMutes { .. } => {
                Answer::Accounts((0..CLIENTS).step_by(100).map(account).collect())
            }
            Question::DomainBlocks { .. } => Answer::Accounts(Vec::new()),
            Question::Filters(_) if self.keywords == 0 => Answer::Filters(Vec::new()),
            Question::Filters(_) => {
                Answer::Filters((0..CLIENTS).map(|number| self.filter(number)).collect())
            }
        }
    }

    fn filter(&self, number: u32) -> CustomFilter {
        let own = |index: usize| Keyword {
            keyword: format!("word{number}x{index}").into(),
            whole_word: index.is_multiple_of(2),
        };
        let mut keywords: Vec<Keyword> = (0..self.keywords).map(own).collect();
        if number.is_multiple_of(20) {
            keywords[0].keyword = "zzkeyword".into();
        }
        CustomFilter {
            id: FilterId(i64::from(number)),
            account: account(number),
            title: format!("Filter of {number}").into(),
            context: vec!["home".into(), "public".into()],
            expires_at_unix_millis: None,
            action: 0,
            keywords,
        }
    }
}

fn account(number: u32) -> AccountId {
    AccountId(110_000_000_000_000_000 + i64::from(number) * 1_000_003)
}

fn session(token: &Token) -> Option<Session> {
    let number: u32 = token.reveal().strip_prefix("tok-")?.parse().ok()?;
    Some(Session {
        account: account(number),
        token: TokenId(5_000_000 + i64::from(number)),
        scopes: Scopes::parse("read"),
        views_all_feeds: false,
        languages: None,
    })
}
