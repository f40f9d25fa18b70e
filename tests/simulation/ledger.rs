//! The oracle: what was published, and who must, may and must not have it. Naive, and written from
//! the reference alone.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::client::{Client, Spec, Subscription};
use super::database::{Database, Filter, Grudge};

/// A status, as far as filtering cares.
#[derive(Clone, Debug)]
pub struct Status {
    /// `account.id`; `None`: there is no `account`.
    pub author: Option<i64>,
    /// `mentions[].id`.
    pub mentions: Vec<i64>,
    /// Where the author lives, unless here.
    pub domain: Option<&'static str>,
    /// `language`.
    pub language: Option<&'static str>,
    /// glitch-soc.
    pub local_only: bool,
    /// Has a key `filtered` of its own.
    pub has_filtered: bool,
    /// The content.
    pub words: Vec<&'static str>,
}

/// What a message is.
#[derive(Clone, Debug)]
pub enum Content {
    /// `update` or `status.update`.
    Status(&'static str, Status),
    /// `delete`.
    Delete,
    /// Any other event with an object.
    Other(&'static str),
    /// A message that becomes no event.
    Nothing(&'static str),
}

/// A message on a channel.
pub struct Publication {
    /// Stands in the payload; the same bytes on several channels share it.
    pub number: usize,
    /// Where.
    pub channel: String,
    /// When.
    pub step: u64,
    /// What.
    pub content: Rc<Content>,
    /// Redis has it for the server, and has not lost it.
    pub goes: bool,
    /// When the control core had it.
    pub arrived: Option<u64>,
    /// It could not be checked for these accounts; `None` stands for everybody.
    pub unchecked: Vec<Option<i64>>,
    /// The least version of each account's filters that may be used.
    pub floors: BTreeMap<i64, usize>,
    /// Clients and their subscriptions that were established.
    pub expected: Vec<(usize, usize)>,
}

/// Everything that was published.
#[derive(Default)]
pub struct Ledger {
    /// In order.
    pub publications: Vec<Publication>,
    /// Checked up to here.
    pub settled: usize,
    /// The filters that the server must know by now, by account.
    pub floors: BTreeMap<i64, usize>,
    /// The next number.
    pub next_number: usize,
}

impl Content {
    /// The message as Rails publishes it.
    pub fn message(&self, number: usize) -> String {
        match self {
            Content::Status(name, status) => {
                format!(r#"{{"event":"{name}","payload":{}}}"#, status.json(number))
            }
            Content::Delete => format!(r#"{{"event":"delete","payload":"{number}"}}"#),
            Content::Other(name) => {
                format!(r#"{{"event":"{name}","payload":{{"id":"{number}"}},"queued_at":5}}"#)
            }
            Content::Nothing(text) => (*text).to_owned(),
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Content::Status(name, _) | Content::Other(name) => name,
            Content::Delete => "delete",
            Content::Nothing(_) => "",
        }
    }

    fn payload(&self, number: usize) -> String {
        match self {
            Content::Status(_, status) => status.json(number),
            Content::Delete => number.to_string(),
            Content::Other(_) => format!(r#"{{"id":"{number}"}}"#),
            Content::Nothing(_) => String::new(),
        }
    }
}

impl Status {
    fn json(&self, number: usize) -> String {
        let mut json = format!(r#"{{"id":"{number}""#);
        if let Some(author) = self.author {
            let acct = self.domain.map_or("u".to_owned(), |domain| format!("u@{domain}"));
            json += &format!(r#","account":{{"id":"{author}","username":"u","acct":"{acct}"}}"#);
        }
        let mentions: Vec<String> =
            self.mentions.iter().map(|id| format!(r#"{{"id":"{id}"}}"#)).collect();
        json += &format!(r#","mentions":[{}]"#, mentions.join(","));
        match self.language {
            Some(language) => json += &format!(r#","language":"{language}""#),
            None => json += r#","language":null"#,
        }
        if self.local_only {
            json += r#","local_only":true"#;
        }
        if self.has_filtered {
            json += r#","filtered":["own"]"#;
        }
        json + &format!(r#","content":"{}"}}"#, self.words.join(" "))
    }
}

impl Ledger {
    /// Something came to a client: is it allowed, and exactly what it should be?
    pub fn receive(
        &mut self,
        (index, client): (usize, &mut Client),
        database: &Database,
        step: u64,
        (label, name, payload): (Option<&str>, &str, &str),
    ) {
        let value: Value = serde_json::from_str(payload).unwrap_or(Value::Null);
        let number = match &value {
            Value::Number(number) => number.as_u64().unwrap() as usize,
            object => object["id"].as_str().unwrap().parse().unwrap(),
        };
        let account = database.tokens[&client.token].account;
        let fits = |subscription: &Subscription| {
            label.is_none_or(|label| subscription.spec.label() == label)
        };
        let found = client.subscriptions.iter().filter(|one| fits(one)).find_map(|one| {
            let at = self.publications.iter().rposition(|publication| {
                publication.number == number && one.channels.contains(&publication.channel)
            })?;
            Some((one, at))
        });
        let who = format!("client {index} got {payload} as {label:?}");
        let Some((first, at)) = found else { panic!("{who}: not its stream") };
        let publication = &self.publications[at];
        assert!(publication.arrived.is_some(), "{who}: before it came");
        assert_eq!(publication.content.name(), name, "{who}");
        let asked =
            |one: &&Subscription| fits(one) && one.channels == first.channels && one.asked <= step;
        let overlaps =
            |one: &&Subscription| one.ended.is_none_or(|ended| ended >= publication.step);
        let mut reasons: Vec<&Subscription> =
            client.subscriptions.iter().filter(asked).filter(overlaps).collect();
        assert!(!reasons.is_empty(), "{who}: over before it was published");
        if let Content::Status(_, status) = &*publication.content
            && first.spec.is_filtered()
        {
            let may = |one: &&Subscription| {
                self.admits(publication, status, account, one, database, step).0
            };
            reasons.retain(may);
            assert!(!reasons.is_empty(), "{who}: withheld from account {account}");
            let floor = publication.floors.get(&account).copied().unwrap_or(0);
            let allowed: Vec<String> = match status.has_filtered {
                true => vec![status.json(number)],
                false => database.accounts[&account]
                    .filters
                    .versions(floor)
                    .map(|filters| annotated(&status.json(number), status, filters))
                    .collect(),
            };
            assert!(allowed.iter().any(|one| one == payload), "{who}: allowed are {allowed:#?}");
        } else {
            assert_eq!(publication.content.payload(number), payload, "{who}");
        }
        let key = (publication.channel.clone(), first.spec.label());
        let received = client.received.entry(key).or_default();
        let last = received.last().copied();
        assert!(last.is_none_or(|last| last < at), "{who}: {at} after {last:?}");
        received.push(at);
    }

    /// Whether a reader may, and whether a reader must have a status.
    fn admits(
        &self,
        publication: &Publication,
        status: &Status,
        account: i64,
        subscription: &Subscription,
        database: &Database,
        now: u64,
    ) -> (bool, bool) {
        let (mut may, mut must) = (true, true);
        let Some(author) = status.author else { return (false, false) };
        let reader = &database.accounts[&account];
        if let Some(languages) = &reader.languages {
            may &= status.language.is_some_and(|language| languages.contains(&language));
        }
        if status.local_only {
            may &= match &subscription.spec {
                Spec::Public("public" | "public:media", allows) => *allows,
                Spec::Public(name, _) => name.starts_with("public:local"),
                _ => true,
            };
        }
        let mut grudges = vec![Grudge::Block(author, account)];
        for other in status.mentions.iter().chain([&author]) {
            grudges.push(Grudge::Block(account, *other));
            grudges.push(Grudge::Mute(account, *other));
        }
        grudges.extend(status.domain.map(|name| Grudge::Domain(account, name.to_owned())));
        for grudge in grudges {
            let (held, not_held) = database.held(&grudge, publication.step, now);
            may &= not_held;
            must &= !held;
        }
        if !reader.views_all_feeds {
            let until = subscription.registered.map_or(now, |(step, _)| step);
            let open = |settings: &trunkline::hub::question::FeedSettings| match (
                matches!(subscription.spec, Spec::Public(..)),
                status.domain.is_none(),
            ) {
                (true, true) => !settings.local_live_disabled,
                (true, false) => !settings.remote_live_disabled,
                (false, true) => !settings.local_topic_disabled,
                (false, false) => !settings.remote_topic_disabled,
            };
            may &= database.settings.between(subscription.asked, until).any(open);
            must &= database.settings.between(subscription.asked, until).all(open);
        }
        (may, may && must)
    }

    /// All is quiet: has everybody had what they were due?
    pub fn settle(&mut self, clients: &[Client], database: &Database, now: u64) {
        let fresh = self.settled..self.publications.len();
        self.settled = fresh.end;
        for at in fresh {
            let publication = &self.publications[at];
            if !publication.goes || matches!(*publication.content, Content::Nothing(_)) {
                continue;
            }
            assert!(publication.arrived.is_some());
            for (index, place) in &publication.expected {
                let client = &clients[*index];
                let subscription = &client.subscriptions[*place];
                let key = (publication.channel.clone(), subscription.spec.label());
                let received = client.received.get(&key).map_or(&[][..], Vec::as_slice);
                if received.contains(&at)
                    || self.is_excused(at, client, subscription, database, now)
                {
                    continue;
                }
                let last = received.last().copied();
                let ended = !client.is_open() || subscription.left.is_some();
                let lagged = client.excuses.contains("lagged");
                let same = |one: &Subscription| one.spec.label() == subscription.spec.label();
                let again = client.subscriptions[place + 1..].iter().any(same);
                if ended && (lagged || again || last.is_none_or(|last| last < at)) {
                    continue;
                }
                panic!(
                    "client {index} ({:?}) did not get {} on {} (as {}), last {last:?}",
                    client.excuses,
                    publication.content.message(publication.number),
                    publication.channel,
                    subscription.spec.label(),
                );
            }
        }
    }

    fn is_excused(
        &self,
        at: usize,
        client: &Client,
        subscription: &Subscription,
        database: &Database,
        now: u64,
    ) -> bool {
        let publication = &self.publications[at];
        let Content::Status(_, status) = &*publication.content else { return false };
        if !subscription.spec.is_filtered() {
            return false;
        }
        let account = database.tokens[&client.token].account;
        let unchecked = |one: &Option<i64>| one.is_none_or(|one| one == account);
        publication.unchecked.iter().any(unchecked)
            || !self.admits(publication, status, account, subscription, database, now).1
    }
}

/// The payload with what an account's filters say.
fn annotated(payload: &str, status: &Status, filters: &[Filter]) -> String {
    let text = status.words.join(" ").to_lowercase();
    let written = status.words.join(" ");
    let word = |at: Option<usize>| {
        at.and_then(|at| text.as_bytes().get(at)).is_some_and(u8::is_ascii_alphanumeric)
    };
    let matches = |filter: &Filter| {
        (0..text.len()).find_map(|start| {
            let agrees = |(keyword, whole): &&(&str, bool)| {
                let end = start + keyword.len();
                text[start..].starts_with(keyword)
                    && (!whole || (!word(start.checked_sub(1)) && !word(Some(end))))
            };
            let (keyword, _) = filter.keywords.iter().find(agrees)?;
            Some(written[start..start + keyword.len()].to_owned())
        })
    };
    let entry = |filter: &Filter| {
        let found = matches(filter)?;
        let action = if filter.hides { "hide" } else { "warn" };
        Some(
            format!(
                r#"{{"filter":{{"id":"{}","title":"{}","context":["public"],"expires_at":null,"#,
                filter.id, filter.title
            ) + &format!(r#""filter_action":"{action}"}},"keyword_matches":["{found}"],"#)
                + r#""status_matches":null}"#,
        )
    };
    let mut filters: Vec<&Filter> = filters.iter().collect();
    filters.sort_by_key(|filter| filter.id);
    let entries: Vec<String> = filters.into_iter().filter_map(entry).collect();
    format!(r#"{},"filtered":[{}]}}"#, payload.strip_suffix('}').unwrap(), entries.join(","))
}
