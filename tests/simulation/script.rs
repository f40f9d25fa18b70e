//! What happens: everything by chance, from one seed.

use std::collections::BTreeMap;
use std::time::Duration;

use trunkline::hub::question::FeedSettings;
use trunkline::hub::stream::Channel;
use trunkline::protocol::ids::TokenId;

use super::client::{Kind, Reproach, Spec, Subscription};
use super::database::{Account, Database, Filter, Grudge, History, Token};
use super::ledger::{Content, Status};
use super::moods::Mood;
use super::redis::Line;
use super::world::World;

const ACCOUNTS: i64 = 5;
const WORDS: [&str; 6] = ["Cat", "dog", "category", "bird", "cat's", "DOGMA"];
const KEYWORDS: [&str; 4] = ["cat", "dog", "bird", "og"];
const TAGS: [(&str, &str); 5] =
    [("CAFÉ", "cafe"), ("cafe", "cafe"), ("Łódź", "lodz"), ("a b#c", "abc"), ("---", "")];
const PUBLIC: [&str; 6] = [
    "public",
    "public:media",
    "public:local",
    "public:local:media",
    "public:remote",
    "public:remote:media",
];
const DOMAINS: [&str; 2] = ["a.example", "b.example"];

/// The world of a seed.
pub fn world(seed: u64, mood: Mood) -> World {
    let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed);
    let shards = random.usize(1..=3);
    let troubles = mood.troubles(&mut random);
    let limits = troubles.limits(&mut random);
    let mut world = World::new(seed, shards, limits, database(&mut random));
    world.troubles = troubles;
    world.database.failing_percent = troubles.failing_percent;
    world
}

fn database(random: &mut fastrand::Rng) -> Database {
    let scopes = ["read", "read", "read:statuses", "read:notifications"];
    let languages = [None, None, Some(vec!["en"]), Some(vec!["en", "de"])];
    let account = |random: &mut fastrand::Rng| Account {
        languages: languages[random.usize(0..4)].clone(),
        views_all_feeds: random.bool(),
        ended: false,
        filters: History::new(Vec::new()),
    };
    Database {
        accounts: (1..=ACCOUNTS).map(|id| (id, account(random))).collect(),
        tokens: (1..=ACCOUNTS * 3)
            .map(|id| {
                let token = Token {
                    secret: format!("token{id}"),
                    account: (id - 1) % ACCOUNTS + 1,
                    scopes: scopes[random.usize(0..4)],
                    revoked: false,
                };
                (id, token)
            })
            .collect(),
        lists: (1..=ACCOUNTS).map(|list| (list, (list - 1) % 3 + 1)).collect(),
        grudges: BTreeMap::new(),
        settings: History::new(FeedSettings::default()),
        asked: Vec::new(),
        failing_percent: 0,
        has_failed: false,
    }
}

impl World {
    /// One thing happens.
    pub fn live(&mut self) {
        self.step += 1;
        self.some_trouble();
        match self.below(100) {
            0..3 if self.open_count() < 14 => self.somebody_connects(),
            3..13 => self.somebody_says(),
            13..20 => self.somebody_publishes(),
            20..23 => self.something_changes(),
            23..24 => self.somebody_misbehaves(),
            24..44 => {
                let (index, most) = (self.some_client(), [1, 9, 5000][self.below(3)]);
                index.into_iter().for_each(|index| self.feed(index, most));
            }
            44..56 => {
                let (index, most) = (self.some_client(), [1, 50, 100_000][self.below(3)]);
                if let Some(index) = index.filter(|index| !self.clients[*index].stalls) {
                    self.read(index, most);
                }
            }
            56..68 => {
                let shard = self.below(self.shards.len());
                for _ in 0..=self.below(3) {
                    self.turn_control(shard);
                }
            }
            68..78 => {
                let shard = self.below(self.shards.len());
                for _ in 0..=self.below(6) {
                    self.turn_shard(shard);
                }
            }
            78..83 => (0..=self.below(3)).for_each(|_| self.redis.read(self.now)),
            83..89 => {
                for _ in 0..=self.below(12) {
                    self.turn_redis();
                }
            }
            89..94 => {
                for _ in 0..=self.below(8) {
                    let index = self.below(self.database.asked.len());
                    self.turn_database(index);
                }
            }
            94..97 => self.act(),
            97 => self.move_lines(),
            _ => {
                let micros = [10, 1000, 100_000][self.below(3)];
                self.wait(Duration::from_micros(micros));
            }
        }
    }

    fn some_trouble(&mut self) {
        let troubles = self.troubles;
        match self.below(250) {
            0 if troubles.redis_breaks => self.redis_breaks(),
            1 if troubles.database_leaves => {
                self.books.sight("away");
                let is_away = self.database.failing_percent == 100;
                let percent = if is_away { troubles.failing_percent } else { 100 };
                self.database.failing_percent = percent;
            }
            2 if troubles.shards_hang => self.somebody_hangs(),
            3..6 => self.hung = None,
            6..20 if troubles.revokes => self.somebody_connected_is_revoked(),
            20..30 if troubles.revokes && self.open_count() < 14 => self.somebody_connects(),
            30 if self.open_count() < 14 => self.somebody_visits(),
            _ => {}
        }
    }

    /// A shard stops turning: for a while, or for so long that it is missed.
    fn somebody_hangs(&mut self) {
        let shard = self.below(self.shards.len());
        self.books.sight("hang");
        self.hung = Some(shard);
        // Who has asked for something may wait for it longer than anybody should.
        for one in self.clients.iter_mut().filter(|one| one.status.is_none()) {
            one.excuses.insert("waited");
        }
        // A server that stops is not ready in any case.
        if self.percent(80) || self.stops.is_some() {
            return;
        }
        let before = self.control.report(self.upstreams()).shards_turning;
        // It does not see what its clients read, either.
        for one in self.clients.iter_mut().filter(|one| one.shard == shard) {
            one.excuses.insert("slow");
        }
        for _ in 0..20 {
            self.wait(Duration::from_millis(400));
            (0..6).for_each(|_| self.go_round());
        }
        let report = self.control.report(self.upstreams());
        let all = self.shards.len();
        assert!(report.shards_turning < all, "nobody misses shard {shard}: {report}");
        assert!(before < all || report.shards_turning == all - 1, "others are missed: {report}");
        self.books.sight("missed");
        self.hung = None;
    }

    /// Somebody asks for a page of the server's own.
    fn somebody_visits(&mut self) {
        if self.stops.is_some() {
            return;
        }
        let page = ["/ready", "/metrics", "/api/v1/streaming/health"][self.below(3)];
        let index = self.connect(Kind::EventStream, 0);
        let client = &mut self.clients[index];
        client.visits = Some(page);
        client.excuses.insert("visited");
        client.outgoing.extend(format!("GET {page} HTTP/1.1\r\nHost: sim\r\n\r\n").bytes());
        self.books.sight("page");
    }

    /// Everybody is to be sent away.
    pub fn stop(&mut self) {
        let window = Duration::from_millis([1, 400, 3000][self.below(3)]);
        self.books.sight("stop");
        self.stops = Some((self.now, window));
        self.control.begin_drain(window);
        for client in &mut self.clients {
            client.excuses.insert("stopping");
        }
        self.act();
    }

    fn open_count(&self) -> usize {
        self.clients.iter().filter(|client| !client.is_gone()).count()
    }

    fn some_client(&mut self) -> Option<usize> {
        let alive: Vec<usize> = (0..self.clients.len())
            .filter(|index| {
                let client = &self.clients[*index];
                !client.is_gone() || !client.wire.borrow().bytes.is_empty()
            })
            .collect();
        alive.get(self.below(alive.len())).copied()
    }

    fn redis_breaks(&mut self) {
        if self.redis.subscriber == Line::Up && self.percent(60) {
            self.books.sight("gap");
            self.break_subscriber();
        }
        if self.redis.commands == Line::Up && self.percent(40) {
            self.redis.break_commands();
        }
    }

    fn spec(&mut self, account: i64) -> Spec {
        let local = self.percent(40);
        match self.below(20) {
            0..5 => Spec::User,
            5..7 => Spec::Notifications,
            7..9 => Spec::Direct,
            9..13 => {
                let name = PUBLIC[self.below(6)];
                Spec::Public(name, self.percent(30))
            }
            13..16 => {
                let (written, tag) = TAGS[self.below(TAGS.len())];
                Spec::Hashtag(written, tag, local)
            }
            16..18 => Spec::List([account, 1, 99][self.below(3)]),
            18 => Spec::Unknown,
            _ if local => Spec::NoTag,
            _ => Spec::NoList,
        }
    }

    fn somebody_connects(&mut self) {
        if self.stops.is_some() {
            return;
        }
        let token = match self.troubles.revokes {
            true => self.new_token(),
            false => self.below(self.database.tokens.len() + 1) as i64,
        };
        let kind = if self.percent(70) { Kind::WebSocket } else { Kind::EventStream };
        let index = self.connect(kind, token);
        let found = self.database.tokens.get(&token);
        let (account, secret) = match found {
            Some(token) => (token.account, token.secret.clone()),
            None => (1, "nobody".to_owned()),
        };
        let mut first = self.spec(account);
        if kind == Kind::EventStream && first == Spec::Unknown {
            first = Spec::User;
        }
        let ways = if kind == Kind::WebSocket { 3 } else { 2 };
        let way = self.random.u32(0..ways);
        let says_first = kind == Kind::EventStream || self.percent(40);
        self.clients[index].say_head(&secret, way, says_first.then_some(&first));
        if says_first && self.database.tokens.contains_key(&token) {
            self.note_subscribe(index, first);
        }
    }

    /// A token that nobody has had, sometimes of an account that nobody has had.
    fn new_token(&mut self) -> i64 {
        let id = self.database.tokens.len() as i64 + 1;
        let account = match self.percent(30) {
            true => self.database.accounts.len() as i64 + 1,
            false => 1 + self.below(self.database.accounts.len()) as i64,
        };
        self.database.accounts.entry(account).or_insert_with(|| Account {
            languages: None,
            views_all_feeds: false,
            ended: false,
            filters: History::new(Vec::new()),
        });
        let secret = format!("token{id}");
        let token = Token { secret, account, scopes: "read", revoked: false };
        self.database.tokens.insert(id, token);
        if !self.database.is_good(id) {
            self.bad_since.insert(id, 0);
        }
        id
    }

    /// Keeps the books of a subscription that a client asks for.
    fn note_subscribe(&mut self, index: usize, spec: Spec) {
        let may_fail = self.troubles.may_fail();
        let client = &mut self.clients[index];
        let token = &self.database.tokens[&client.token];
        let owns = |list| self.database.lists.get(&list) == Some(&token.account);
        let is_websocket = client.kind == Kind::WebSocket;
        let failure =
            Reproach { text: reproach(500, "An unexpected error occurred"), certain: false };
        if let Some((status, text)) = spec.refusal(token.scopes, owns)
            && is_websocket
        {
            let asks = matches!(spec, Spec::List(_)) && text.contains("Not authorized");
            let certain = !(asks && may_fail);
            client.reproaches.push_back(Reproach { text: reproach(status, text), certain });
            if asks && may_fail {
                client.reproaches.push_back(failure);
            }
            return;
        }
        if spec.needs_answer() && is_websocket && may_fail {
            client.reproaches.push_back(failure);
        }
        let same = |one: &&Subscription| one.spec.key() == spec.key();
        let twice = client.subscriptions.iter().filter(same).any(|one| one.left.is_none());
        if twice && !may_fail {
            return;
        }
        let unsure = client.subscriptions.iter().filter(same).any(|one| one.ended.is_none());
        let channels = spec.channels(token.account, token.scopes);
        client.subscriptions.push(Subscription {
            parsed: channels.iter().map(|name| Channel::parse(name.as_bytes()).unwrap()).collect(),
            channels,
            spec,
            asked: self.step,
            registered: None,
            settled: None,
            left: None,
            ended: None,
            said_at: client.fed + client.outgoing.len(),
            unsure,
        });
    }

    fn somebody_says(&mut self) {
        let Some(index) = self.some_client() else { return };
        let client = &self.clients[index];
        let is_known = self.database.tokens.contains_key(&client.token);
        if client.left || client.kind != Kind::WebSocket || !is_known || client.status != Some(101)
        {
            return;
        }
        let account = self.database.tokens[&client.token].account;
        if self.percent(75) {
            let spec = self.spec(account);
            self.clients[index].say_wish("subscribe", &spec);
            self.note_subscribe(index, spec);
            return;
        }
        let open: Vec<Spec> =
            self.clients[index].subscriptions.iter().map(|one| one.spec.clone()).collect();
        let spec = match open.get(self.below(open.len())) {
            Some(spec) if self.percent(80) => spec.clone(),
            _ => self.spec(account),
        };
        self.clients[index].say_wish("unsubscribe", &spec);
        self.note_unsubscribe(index, account, &spec);
    }

    fn note_unsubscribe(&mut self, index: usize, account: i64, spec: &Spec) {
        let may_fail = self.troubles.may_fail();
        let (step, client) = (self.step, &mut self.clients[index]);
        let same = |one: &&mut Subscription| one.spec.key() == spec.key() && one.left.is_none();
        let mut was_open = false;
        for one in client.subscriptions.iter_mut().filter(same) {
            one.left = Some(step);
            was_open = true;
        }
        let text = r#"{"error":"Error unsubscribing from channel"}"#.to_owned();
        match spec {
            Spec::Unknown | Spec::NoTag | Spec::NoList => {
                client.reproaches.push_back(Reproach { text, certain: true });
            }
            Spec::List(list) => {
                let foreign = self.database.lists.get(list) != Some(&account);
                if (foreign && !was_open) || may_fail {
                    let certain = foreign && !may_fail;
                    client.reproaches.push_back(Reproach { text, certain });
                }
            }
            _ => {}
        }
    }

    fn somebody_misbehaves(&mut self) {
        let Some(index) = self.some_client() else { return };
        let what = self.below(6);
        let client = &mut self.clients[index];
        let is_open = client.kind == Kind::WebSocket && client.status == Some(101);
        match what {
            _ if client.left => {}
            0 if is_open => {
                client.excuses.insert("rude");
                client.say(2, b"binary");
            }
            1 if is_open => {
                client.excuses.insert("rude");
                client.outgoing.extend([0xff, 0xff, 0xff]);
            }
            2 if is_open => {
                client.excuses.insert("polite");
                client.say(8, &1000_u16.to_be_bytes());
            }
            3 => {
                client.stalls = true;
                client.excuses.insert("slow");
            }
            4 => {
                client.left = true;
                client.wire.borrow_mut().broken = true;
                client.excuses.insert("vanished");
            }
            5 if is_open => {
                client.say(9, b"ping");
                client.say(1, b"not json");
            }
            _ => {}
        }
    }

    fn status(&mut self) -> Status {
        let account = |world: &mut World| 1 + world.below(ACCOUNTS as usize) as i64;
        let domain = self.percent(50).then(|| DOMAINS[self.below(2)]);
        let languages = [None, Some("en"), Some("de")];
        Status {
            author: if self.percent(97) { Some(account(self)) } else { None },
            mentions: (0..self.below(3)).map(|_| account(self)).collect(),
            domain,
            language: languages[self.below(3)],
            local_only: self.percent(10),
            has_filtered: self.percent(5),
            words: (0..self.below(4)).map(|_| WORDS[self.below(WORDS.len())]).collect(),
        }
    }

    fn somebody_publishes(&mut self) {
        let account = 1 + self.below(ACCOUNTS as usize);
        let other = match self.below(6) {
            0 => Content::Delete,
            1 => Content::Other("announcement"),
            2 => Content::Other("something.new"),
            3 => Content::Nothing(r#"{"event":"filters_changed"}"#),
            4 => Content::Nothing("not json"),
            _ => Content::Status("status.update", self.status()),
        };
        match self.below(10) {
            0..6 => {
                let status = self.status();
                let place = if status.domain.is_none() { ":local" } else { ":remote" };
                let (_, tag) = TAGS[self.below(TAGS.len())];
                let mut channels = vec!["timeline:public".to_owned()];
                channels.push(format!("timeline:public{place}"));
                if self.percent(50) {
                    channels.push("timeline:public:media".to_owned());
                    channels.push(format!("timeline:public{place}:media"));
                }
                channels.push(format!("timeline:hashtag:{tag}"));
                channels.push(format!("timeline:hashtag:{tag}:local"));
                match self.percent(80) {
                    true => self.publish(&channels, Content::Status("update", status)),
                    false => self.publish(&channels, other),
                }
            }
            6 => self.publish(&[format!("timeline:{account}")], other),
            7 => {
                let channel = format!("timeline:{account}:notifications");
                self.publish(&[channel], Content::Other("notification"));
            }
            8 => {
                let channel = format!("timeline:direct:{account}");
                self.publish(&[channel], Content::Other("conversation"));
            }
            _ => {
                let status = self.status();
                let channels = [format!("timeline:list:{account}"), format!("timeline:{account}")];
                self.publish(&channels, Content::Status("update", status));
            }
        }
    }

    fn something_changes(&mut self) {
        let one = 1 + self.below(ACCOUNTS as usize) as i64;
        let other = 1 + self.below(ACCOUNTS as usize) as i64;
        let step = self.step;
        match self.below(12) {
            grudge @ 0..6 => {
                let grudge = match grudge {
                    0..2 => Grudge::Block(one, other),
                    2..4 => Grudge::Mute(one, other),
                    _ => Grudge::Domain(one, DOMAINS[self.below(2)].to_owned()),
                };
                let held = self.database.grudges.entry(grudge).or_insert(History::new(false));
                let now = !*held.now();
                held.set(step, now);
            }
            6 => {
                let mut flag = || self.percent(30);
                let settings = FeedSettings {
                    local_live_disabled: flag(),
                    remote_live_disabled: flag(),
                    local_topic_disabled: flag(),
                    remote_topic_disabled: flag(),
                };
                self.database.settings.set(step, settings);
            }
            7..11 => self.filters_change(one),
            _ => self.somebody_is_revoked(),
        }
    }

    fn filters_change(&mut self, account: i64) {
        let step = self.step as i64;
        let filters = (0..self.below(3) as i64).map(|place| Filter {
            id: step * 10 + place,
            title: format!("filter of {account}"),
            hides: place == 1,
            keywords: Vec::new(),
        });
        let mut filters: Vec<Filter> = filters.collect();
        for filter in &mut filters {
            filter.keywords = (0..1 + self.below(2))
                .map(|_| (KEYWORDS[self.below(KEYWORDS.len())], self.percent(50)))
                .collect();
        }
        let found = self.database.accounts.get_mut(&account).unwrap();
        found.filters.set(step as u64, filters);
        self.order(&format!("timeline:system:{account}"), "filters_changed");
    }

    /// As Rails does it: the database first, then the order.
    fn somebody_is_revoked(&mut self) {
        let token = 1 + self.below(self.database.tokens.len()) as i64;
        self.revoke(token);
    }

    /// The same for somebody who is here, at whatever moment.
    fn somebody_connected_is_revoked(&mut self) {
        let Some(index) = self.some_client() else { return };
        let client = &self.clients[index];
        if !self.database.is_good(client.token) || client.left || client.is_gone() {
            return;
        }
        let channel = Channel::Token(TokenId(client.token));
        let is_confirmed = self.control.interest_mut().confirmed_since(&channel).is_some();
        let is_served = client.is_served(self.shards[client.shard].registry());
        self.books.sight(match (is_served, is_confirmed) {
            (false, _) => "revoked: connecting",
            (true, false) => "revoked: opening",
            (true, true) => "revoked: open",
        });
        let token = client.token;
        self.revoke(token);
    }

    fn revoke(&mut self, token: i64) {
        let account = self.database.tokens[&token].account;
        let (step, whole) = (self.step, self.percent(20));
        if whole {
            self.database.accounts.get_mut(&account).unwrap().ended = true;
        } else {
            self.database.tokens.get_mut(&token).unwrap().revoked = true;
        }
        let bad: Vec<i64> =
            self.database.tokens.keys().copied().filter(|id| !self.database.is_good(*id)).collect();
        for id in &bad {
            self.bad_since.entry(*id).or_insert(step);
        }
        for client in self.clients.iter_mut().filter(|client| bad.contains(&client.token)) {
            client.excuses.insert("revoked");
        }
        match whole {
            true => self.order(&format!("timeline:system:{account}"), "kill"),
            false => self.order(&format!("timeline:access_token:{token}"), "kill"),
        }
    }
}

fn reproach(status: u16, text: &str) -> String {
    format!(r#"{{"error":"{text}","status":{status}}}"#)
}
