//! No annotation and no frame of one account ever reaches another: random accounts, relations,
//! filters and statuses, and an oracle that says what each reader must get.

mod support;

use fastrand::Rng;
use serde_json::{Value, json};
use support::{Status, User, WebSocket, World, status};

const READERS: u64 = 24;
const AUTHORS: u64 = 6;
const STATUSES: u64 = 120;
const WORDS: [&str; 8] = ["cat", "dog", "rain", "snow", "tea", "sun", "moon", "fog"];
const LANGUAGES: [&str; 3] = ["de", "en", "fr"];

/// What is known of a reader, as the oracle keeps it.
#[derive(Clone, Debug, Default)]
struct Reader {
    blocks: Vec<u64>,
    mutes: Vec<u64>,
    blocked_by: Vec<u64>,
    domains: Vec<String>,
    languages: Option<Vec<&'static str>>,
    /// Filter id and keyword.
    filters: Vec<(u64, &'static str)>,
}

/// An author: the account and where it lives.
fn author(number: u64) -> (User, String) {
    let user = User(1000 + number);
    (user, format!("{}@host{}.example", user.name(), number % 3))
}

fn some<T: Clone>(rng: &mut Rng, from: &[T], chance: f64) -> Vec<T> {
    from.iter().filter(|_| rng.f64() < chance).cloned().collect()
}

fn random_reader(rng: &mut Rng, number: u64) -> Reader {
    let authors: Vec<u64> = (0..AUTHORS).map(|number| author(number).0.account()).collect();
    let hosts: Vec<String> = (0..3).map(|host| format!("host{host}.example")).collect();
    let words = some(rng, &WORDS, 0.3);
    let ids = (0..).map(|index| number * 100 + index);
    Reader {
        blocks: some(rng, &authors, 0.1),
        mutes: some(rng, &authors, 0.1),
        blocked_by: some(rng, &authors, 0.1),
        domains: some(rng, &hosts, 0.1),
        languages: (rng.f64() < 0.3).then(|| some(rng, &LANGUAGES, 0.5)),
        filters: ids.zip(words).collect(),
    }
}

/// Writes into the database what the oracle knows.
fn store(world: &World, user: User, reader: &Reader) {
    let me = user.account();
    let mut sql = String::new();
    let columns = "(account_id, target_account_id)";
    for (table, from_me, accounts) in [
        ("blocks", true, &reader.blocks),
        ("mutes", true, &reader.mutes),
        ("blocks", false, &reader.blocked_by),
    ] {
        for account in accounts {
            let (from, to) = if from_me { (me, *account) } else { (*account, me) };
            sql += &format!("insert into {table} {columns} values ({from}, {to});");
        }
    }
    for domain in &reader.domains {
        let columns = "(account_id, domain)";
        sql += &format!("insert into account_domain_blocks {columns} values ({me}, '{domain}');");
    }
    if let Some(languages) = &reader.languages {
        let list = languages.join(",");
        sql +=
            &format!("update users set chosen_languages = '{{{list}}}' where id = {};", user.id());
    }
    world.database.sql(&sql);
    for (id, word) in &reader.filters {
        world.fixture().filter(*id, user, &format!("{word} of {me}"), &[(word, true)]);
    }
}

#[derive(Debug)]
struct Post {
    author: u64,
    language: &'static str,
    words: Vec<&'static str>,
    mentions: Option<u64>,
}

fn random_post(rng: &mut Rng) -> Post {
    Post {
        author: rng.u64(0..AUTHORS),
        language: LANGUAGES[rng.usize(0..LANGUAGES.len())],
        words: some(rng, &WORDS, 0.25),
        mentions: (rng.f64() < 0.3).then(|| rng.u64(0..AUTHORS)),
    }
}

impl Post {
    fn status(&self, id: u64) -> Status {
        let (user, acct) = author(self.author);
        let text = format!("<p>about {}</p>", self.words.join("</p><p>"));
        let status = Status::new(id).by(user.account(), &acct).text(&text);
        let status = status.set("language", json!(self.language));
        match self.mentions {
            Some(number) => status.mentioning(author(number).0.account()),
            None => status,
        }
    }

    /// The filters that must be noted for a reader; `None` if the reader must not see it.
    fn for_reader(&self, reader: &Reader) -> Option<Vec<String>> {
        let account = author(self.author).0.account();
        let mentioned = self.mentions.map(|number| author(number).0.account());
        let shunned = |id: &u64| reader.blocks.contains(id) || reader.mutes.contains(id);
        let domain = format!("host{}.example", self.author % 3);
        let withheld = shunned(&account)
            || mentioned.as_ref().is_some_and(shunned)
            || reader.blocked_by.contains(&account)
            || reader.domains.contains(&domain)
            || reader.languages.as_ref().is_some_and(|list| !list.contains(&self.language));
        let noted = reader.filters.iter().filter(|(_, word)| self.words.contains(word));
        (!withheld).then(|| noted.map(|(id, _)| id.to_string()).collect())
    }
}

fn noted(status: &Value) -> Vec<String> {
    let filters = status["filtered"].as_array().expect("the key `filtered`");
    let id = |entry: &Value| entry["filter"]["id"].as_str().expect("an id").to_string();
    let mut ids: Vec<String> = filters.iter().map(id).collect();
    ids.sort();
    ids
}

#[test]
fn every_reader_gets_what_the_oracle_says_and_nothing_of_anybody_else() {
    for seed in 0..4 {
        let mut rng = Rng::with_seed(seed);
        let world = World::start();
        world.fixture().bare_users(1..=READERS);
        let readers: Vec<Reader> = (1..=READERS)
            .map(|number| {
                let reader = random_reader(&mut rng, number);
                store(&world, User(number), &reader);
                reader
            })
            .collect();
        let mut websockets: Vec<WebSocket> = (1..=READERS)
            .map(|number| WebSocket::open(&world.server, &User(number).websocket("stream=public")))
            .collect();
        world.await_subscriptions(READERS as usize);
        let posts: Vec<Post> = (0..STATUSES).map(|_| random_post(&mut rng)).collect();
        let mut redis = world.redis.client();
        for (id, post) in (0..).zip(&posts) {
            redis.publish("timeline:public", post.status(id).update());
        }
        redis.publish("timeline:public", status::message("delete", "end"));
        for (number, (reader, websocket)) in readers.iter().zip(&mut websockets).enumerate() {
            for (id, post) in posts.iter().enumerate() {
                let Some(mut expected) = post.for_reader(reader) else { continue };
                let event = websocket.next_event();
                assert_eq!(event.event, "update", "seed {seed}, reader {number}, {post:?}");
                let status = event.json();
                let place = format!("seed {seed}, reader {number} {reader:?}, {post:?}");
                assert_eq!(status["id"], id.to_string(), "{place}");
                expected.sort();
                assert_eq!(noted(&status), expected, "{place}");
            }
            assert_eq!(websocket.next_event().payload, "end", "seed {seed}, reader {number}");
        }
    }
}
