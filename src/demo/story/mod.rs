//! What happens in the demonstration: people write, edit, delete, answer, boost, and send each
//! other messages. A value: time and randomness come in as numbers, what Rails would publish comes
//! out.

mod entity;
mod phrases;

use std::collections::VecDeque;
use std::sync::Arc;

use fastrand::Rng;
use serde::Serialize;

use self::entity::{
    Account, Announcement, Conversation, Media, Mention, Notification, Poll, PollOption, Reaction,
    Status, Tag, iso8601,
};
use self::phrases::{
    ANNOUNCEMENTS, EDITS, POLLS, REACTIONS, REPLIES, VOICES, Voice, WARNINGS, WHISPERS,
};
use super::cast::{PEOPLE, Person, READERS, Reader};
use crate::hub::moment::UnixMillis;
use crate::hub::stream::{Channel, Origin, PublicFeed};

/// Most statuses that are remembered to be edited, deleted or answered.
const PAST_MAX: usize = 60;

/// A message for one channel.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Where to.
    pub channel: Channel,
    /// The JSON text; one for all channels of an event.
    pub message: Arc<str>,
}

impl Publication {
    /// Rails publishes there only while the key `subscribed:CHANNEL` exists.
    pub fn needs_key(&self) -> bool {
        use Channel::{Direct, Home, List, Notifications};
        matches!(self.channel, Home(_) | Notifications(_) | Direct(_) | List(_))
    }
}

/// The small world.
pub struct World {
    random: Rng,
    last_id: i64,
    past: VecDeque<Past>,
    announcements: Vec<String>,
}

struct Past {
    status: Status,
    author: usize,
    channels: Vec<Channel>,
}

impl World {
    /// A world that goes its way by this seed.
    pub fn new(seed: u64) -> World {
        let random = Rng::with_seed(seed);
        World { random, last_id: 0, past: VecDeque::new(), announcements: Vec::new() }
    }

    /// The next thing that happens, at time `now`: one event on all its channels.
    pub fn next(&mut self, now: UnixMillis) -> Vec<Publication> {
        match self.random.u32(0..100) {
            58..=63 => self.reply(now),
            64..=69 => self.boost(now),
            70..=78 => self.edit(now),
            79..=83 => self.delete(now),
            84..=92 => self.notify(now),
            93..=97 => self.whisper(now),
            98 => self.announce(now),
            99 => self.react(now),
            _ => self.post(now),
        }
    }

    fn post(&mut self, now: UnixMillis) -> Vec<Publication> {
        let author = self.random.usize(..PEOPLE.len());
        let voice = voice_of(author);
        let mut content = self.sentence(voice);
        if self.random.u8(..3) == 0 {
            content = format!("{content} {}", self.sentence(voice));
        }
        let mut status = self.status(author, String::new(), now);
        if self.random.u8(..10) < 6 {
            let first = self.random.usize(..voice.tags.len());
            let second = self.random.usize(..voice.tags.len());
            status.tags.push(Tag::of(voice.tags[first]));
            if second != first && self.random.bool() {
                status.tags.push(Tag::of(voice.tags[second]));
            }
        }
        let tags: Vec<String> = status.tags.iter().map(Tag::html).collect();
        status.content = paragraphs(&content, &tags.join(" "));
        self.decorate(&mut status, voice, now);
        let channels = channels_of(author, &status);
        let publications = publish("update", &status, now, &channels);
        self.remember(Past { status, author, channels });
        publications
    }

    /// Pictures, a content warning, a poll: some statuses have one.
    fn decorate(&mut self, status: &mut Status, voice: &Voice, now: UnixMillis) {
        if !voice.pictures.is_empty() && self.random.u8(..10) < 4 {
            let most = voice.pictures.len().min(2);
            let first = self.random.usize(..voice.pictures.len());
            for picture in first..first + self.random.usize(1..=most) {
                let description = voice.pictures[picture % voice.pictures.len()];
                let id = self.id(now).to_string();
                status.media_attachments.push(Media {
                    url: format!("https://files.demo.example/{id}/original.webp"),
                    preview_url: format!("https://files.demo.example/{id}/small.webp"),
                    id,
                    kind: "image",
                    description,
                    blurhash: "UBL_:rOpGG-oBUNG,qRj2so|=eE1w^n4S5NH",
                });
            }
        } else if self.random.u8(..12) == 0 {
            let (question, choices) = POLLS[self.random.usize(..POLLS.len())];
            let options: Vec<PollOption> = choices
                .iter()
                .map(|title| PollOption { title, votes_count: self.random.u64(..40) })
                .collect();
            status.content = paragraphs(question, "");
            status.language = "en";
            status.tags.clear();
            status.poll = Some(Poll {
                id: self.id(now).to_string(),
                expires_at: iso8601(UnixMillis(now.0 + 86_400_000)),
                expired: false,
                multiple: false,
                votes_count: options.iter().map(|option| option.votes_count).sum(),
                options,
            });
        }
        if self.random.u8(..12) == 0 {
            status.spoiler_text = WARNINGS[self.random.usize(..WARNINGS.len())];
            status.sensitive = true;
        }
    }

    /// Somebody answers a reader: on the reader's home timeline, and as a notification of a
    /// mention.
    fn reply(&mut self, now: UnixMillis) -> Vec<Publication> {
        let author = self.random.usize(..PEOPLE.len());
        let reader = self.random.usize(..READERS.len());
        let mention = Mention::of(reader);
        let reply = REPLIES[self.random.usize(..REPLIES.len())];
        let content = format!("<p>{} {}</p>", mention.html(), escaped(reply));
        let mut status = self.status(author, content, now);
        status.language = "en";
        status.mentions.push(mention);
        let earlier = self.past.iter().rev().find(|past| past.author == reader);
        if let Some(earlier) = earlier {
            status.in_reply_to_id = Some(earlier.status.id.clone());
            status.in_reply_to_account_id = Some(Person::id(reader).to_string());
        }
        let home = [Channel::Home(Person::id(reader))];
        let mut publications = publish("update", &status, now, &home);
        publications.extend(self.notification("mention", author, reader, Some(status), now));
        publications
    }

    /// Somebody boosts a status: on the home timelines of those who follow them.
    fn boost(&mut self, now: UnixMillis) -> Vec<Publication> {
        let author = self.random.usize(..PEOPLE.len());
        let Some(index) = self.some_past() else { return self.post(now) };
        let mut boosted = self.past[index].status.clone();
        boosted.reblogs_count += 1;
        let mut status = self.status(author, boosted.content.clone(), now);
        status.language = boosted.language;
        status.reblog = Some(Box::new(boosted));
        publish("update", &status, now, &followers(author))
    }

    fn edit(&mut self, now: UnixMillis) -> Vec<Publication> {
        let Some(index) = self.some_past() else { return self.post(now) };
        let addition = EDITS[self.random.usize(..EDITS.len())];
        let past = &mut self.past[index];
        if past.status.edited_at.is_none() {
            past.status.content.push_str(&paragraphs(addition, ""));
        } else if let Some(poll) = &mut past.status.poll {
            poll.votes_count += 1;
            poll.options[0].votes_count += 1;
        }
        past.status.edited_at = Some(iso8601(now));
        publish("status.update", &past.status, now, &past.channels)
    }

    fn delete(&mut self, now: UnixMillis) -> Vec<Publication> {
        let Some(index) = self.some_past() else { return self.post(now) };
        match self.past.remove(index) {
            Some(past) => publish("delete", &past.status.id, now, &past.channels),
            None => Vec::new(),
        }
    }

    /// A reader is told what somebody did.
    fn notify(&mut self, now: UnixMillis) -> Vec<Publication> {
        let author = self.random.usize(..PEOPLE.len());
        let by_readers = self.past.iter().filter(|past| past.author < READERS.len());
        let candidates: Vec<(usize, Status)> =
            by_readers.map(|past| (past.author, past.status.clone())).collect();
        let reader = self.random.usize(..READERS.len());
        let chosen = match candidates.len() {
            0 => None,
            count => candidates.into_iter().nth(self.random.usize(..count)),
        };
        match (self.random.u8(..4), chosen) {
            (0, _) | (_, None) => self.notification("follow", author, reader, None, now),
            (1, Some((reader, mut status))) => {
                status.reblogs_count += 1;
                self.notification("reblog", author, reader, Some(status), now)
            }
            (_, Some((reader, mut status))) => {
                status.favourites_count += 1;
                self.notification("favourite", author, reader, Some(status), now)
            }
        }
    }

    fn notification(
        &mut self,
        kind: &'static str,
        author: usize,
        reader: usize,
        status: Option<Status>,
        now: UnixMillis,
    ) -> Vec<Publication> {
        let id = self.id(now).to_string();
        let notification = Notification {
            group_key: format!("ungrouped-{id}"),
            id,
            kind,
            created_at: iso8601(now),
            account: Account::of(author),
            status,
        };
        let channel = Channel::Notifications(Person::id(reader));
        publish("notification", &notification, now, &[channel])
    }

    /// A direct message for a reader: a conversation moves up.
    fn whisper(&mut self, now: UnixMillis) -> Vec<Publication> {
        let author = self.random.usize(READERS.len()..PEOPLE.len());
        let reader = self.random.usize(..READERS.len());
        let mention = Mention::of(reader);
        let text = WHISPERS[self.random.usize(..WHISPERS.len())];
        let content = format!("<p>{} {}</p>", mention.html(), escaped(text));
        let mut status = self.status(author, content, now);
        status.visibility = "direct";
        status.language = "en";
        status.mentions.push(mention);
        let conversation = Conversation {
            id: (reader * PEOPLE.len() + author + 1).to_string(),
            unread: true,
            accounts: vec![Account::of(author)],
            last_status: status,
        };
        publish("conversation", &conversation, now, &[Channel::Direct(Person::id(reader))])
    }

    fn announce(&mut self, now: UnixMillis) -> Vec<Publication> {
        let id = self.id(now).to_string();
        let text = ANNOUNCEMENTS[self.random.usize(..ANNOUNCEMENTS.len())];
        if self.announcements.len() > 2 {
            let gone = self.announcements.remove(0);
            return publish("announcement.delete", &gone, now, &every_home());
        }
        self.announcements.push(id.clone());
        let announcement = Announcement {
            id,
            content: paragraphs(text, ""),
            published: true,
            published_at: iso8601(now),
            updated_at: iso8601(now),
            all_day: false,
            mentions: [],
            statuses: [],
            tags: [],
            emojis: [],
            reactions: Vec::new(),
        };
        publish("announcement", &announcement, now, &every_home())
    }

    fn react(&mut self, now: UnixMillis) -> Vec<Publication> {
        let Some(id) = self.announcements.last().cloned() else { return self.announce(now) };
        let reaction = Reaction {
            name: REACTIONS[self.random.usize(..REACTIONS.len())],
            count: self.random.u64(1..30),
            announcement_id: Some(id),
        };
        publish("announcement.reaction", &reaction, now, &every_home())
    }

    fn status(&mut self, author: usize, content: String, now: UnixMillis) -> Status {
        Status::new(self.id(now), author, content, now)
    }

    /// A new id that tells the time, as Mastodon's do: milliseconds and sixteen more bits.
    fn id(&mut self, now: UnixMillis) -> i64 {
        self.last_id = (self.last_id + 1).max(now.0 << 16);
        self.last_id
    }

    fn sentence(&mut self, voice: &Voice) -> String {
        let sentence = voice.sentences[self.random.usize(..voice.sentences.len())];
        sentence.replace("{n}", &self.random.u8(2..60).to_string())
    }

    fn some_past(&mut self) -> Option<usize> {
        match self.past.len() {
            0 => None,
            count => Some(self.random.usize(..count)),
        }
    }

    fn remember(&mut self, past: Past) {
        if self.past.len() >= PAST_MAX {
            self.past.pop_front();
        }
        self.past.push_back(past);
    }
}

fn voice_of(author: usize) -> &'static Voice {
    let username = PEOPLE[author].username;
    VOICES.iter().find(|voice| voice.username == username).unwrap_or(&VOICES[0])
}

/// Where Rails publishes a new public status, an edit and a delete of it.
fn channels_of(author: usize, status: &Status) -> Vec<Channel> {
    let local = PEOPLE[author].domain.is_none();
    let origin = if local { Origin::Local } else { Origin::Remote };
    let mut channels = followers(author);
    for media in [false, true] {
        if !media || !status.media_attachments.is_empty() {
            channels.push(Channel::Public(PublicFeed { origin: Origin::All, media }));
            channels.push(Channel::Public(PublicFeed { origin, media }));
        }
    }
    for tag in &status.tags {
        let name: Arc<Box<str>> = Arc::new(tag.name.into());
        channels.push(Channel::Hashtag { tag: Arc::clone(&name), local: false });
        if local {
            channels.push(Channel::Hashtag { tag: name, local: true });
        }
    }
    channels
}

/// Home timelines and lists of the readers who have this author in them.
fn followers(author: usize) -> Vec<Channel> {
    let username = PEOPLE[author].username;
    let mut channels = Vec::new();
    for (number, reader) in READERS.iter().enumerate() {
        if number == author || reader.follows.contains(&username) {
            channels.push(Channel::Home(Person::id(number)));
        }
        for (list, (_, members)) in reader.lists.iter().enumerate() {
            if members.contains(&username) {
                channels.push(Channel::List(Reader::list_id(number, list)));
            }
        }
    }
    channels
}

fn every_home() -> Vec<Channel> {
    (0..READERS.len()).map(|reader| Channel::Home(Person::id(reader))).collect()
}

#[derive(Serialize)]
struct Message<'a, T> {
    event: &'a str,
    payload: &'a T,
    queued_at: i64,
}

/// One event for several channels, in the bytes that Rails writes: `<`, `>` and `&` escaped.
fn publish<T: Serialize>(
    event: &str,
    payload: &T,
    UnixMillis(queued_at): UnixMillis,
    channels: &[Channel],
) -> Vec<Publication> {
    let json = serde_json::to_string(&Message { event, payload, queued_at }).unwrap_or_default();
    let escaped = json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    let message: Arc<str> = escaped.into();
    let to =
        |channel: &Channel| Publication { channel: channel.clone(), message: Arc::clone(&message) };
    channels.iter().map(to).collect()
}

fn paragraphs(text: &str, tags: &str) -> String {
    let text = escaped(text);
    if tags.is_empty() { format!("<p>{text}</p>") } else { format!("<p>{text}</p><p>{tags}</p>") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    const NOW: UnixMillis = UnixMillis(1_795_404_833_123);

    fn lived(steps: usize) -> Vec<Publication> {
        let mut world = World::new(7);
        (0..steps).flat_map(|step| world.next(UnixMillis(NOW.0 + step as i64))).collect()
    }

    fn json(publication: &Publication) -> serde_json::Value {
        serde_json::from_str(&publication.message).unwrap()
    }

    #[test]
    fn every_kind_of_event_happens_and_is_what_rails_writes() {
        let mut kinds = BTreeSet::new();
        for publication in lived(3000) {
            assert!(!publication.message.contains(['<', '>', '&']), "escaped as Rails does");
            let message = json(&publication);
            let event = message["event"].as_str().unwrap().to_owned();
            let payload = &message["payload"];
            match event.as_str() {
                "update" | "status.update" => {
                    assert!(payload["account"]["id"].is_string());
                    assert!(payload["content"].as_str().unwrap().starts_with("<p>"));
                    assert_eq!(payload["edited_at"].is_string(), event == "status.update");
                }
                "delete" | "announcement.delete" => assert!(payload.is_string()),
                _ => assert!(payload.is_object()),
            }
            assert!(message["queued_at"].is_i64());
            kinds.insert(event);
        }
        let expected = [
            "announcement",
            "announcement.delete",
            "announcement.reaction",
            "conversation",
            "delete",
            "notification",
            "status.update",
            "update",
        ];
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_delete_follows_its_status_on_the_same_channels() {
        let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut deleted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for publication in lived(2000) {
            let message = json(&publication);
            let channel = publication.channel.redis_name();
            match (&message["event"], &message["payload"]) {
                (event, status) if event == "update" => {
                    let id = status["id"].as_str().unwrap().to_owned();
                    assert!(!deleted.contains_key(&id));
                    seen.entry(id).or_default().insert(channel);
                }
                (event, id) if event == "delete" => {
                    let id = id.as_str().unwrap().to_owned();
                    deleted.entry(id).or_default().insert(channel);
                }
                _ => {}
            }
        }
        assert!(deleted.len() > 20);
        for (id, channels) in deleted {
            assert_eq!(seen.get(&id), Some(&channels), "{id}");
        }
    }

    #[test]
    fn public_statuses_go_where_they_belong_with_identical_bytes() {
        let publications = lived(1500);
        let on = |name: &str| {
            let found = publications.iter().filter(|p| p.channel.redis_name() == name);
            found.map(|p| p.message.clone()).collect::<BTreeSet<_>>()
        };
        let (all, local, remote) =
            (on("timeline:public"), on("timeline:public:local"), on("timeline:public:remote"));
        assert!(!local.is_empty() && !remote.is_empty());
        assert_eq!(&local | &remote, all);
        assert!(local.is_disjoint(&remote));
        assert!(on("timeline:public:media").is_subset(&all));
        assert!(!on("timeline:hashtag:caturday:local").is_empty());
        assert!(on("timeline:hashtag:caturday:local").is_subset(&on("timeline:hashtag:caturday")));
    }

    #[test]
    fn only_channels_of_one_reader_wait_for_a_key() {
        for publication in lived(1000) {
            let public = publication.channel.is_filtered();
            assert_eq!(publication.needs_key(), !public, "{:?}", publication.channel);
        }
    }

    #[test]
    fn everybody_has_a_voice_of_their_own() {
        for (person, voice) in PEOPLE.iter().zip(&VOICES) {
            assert_eq!(person.username, voice.username);
            assert!(!voice.sentences.is_empty() && !voice.tags.is_empty());
        }
    }
}
