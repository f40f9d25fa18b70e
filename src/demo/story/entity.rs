//! Statuses, notifications and the like as Mastodon's REST API writes them, keys in its order.

use serde::Serialize;

use crate::demo::cast::{DOMAIN, PEOPLE, Person};
use crate::hub::moment::UnixMillis;

/// An account.
#[derive(Clone, Debug, Serialize)]
pub struct Account {
    id: String,
    username: &'static str,
    acct: String,
    display_name: &'static str,
    locked: bool,
    bot: bool,
    discoverable: bool,
    group: bool,
    created_at: &'static str,
    note: &'static str,
    url: String,
    uri: String,
    followers_count: u64,
    following_count: u64,
    statuses_count: u64,
    emojis: [(); 0],
    fields: [(); 0],
}

/// A status.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub(super) id: String,
    pub(super) created_at: String,
    pub(super) in_reply_to_id: Option<String>,
    pub(super) in_reply_to_account_id: Option<String>,
    pub(super) sensitive: bool,
    pub(super) spoiler_text: &'static str,
    pub(super) visibility: &'static str,
    pub(super) language: &'static str,
    uri: String,
    url: String,
    replies_count: u64,
    pub(super) reblogs_count: u64,
    pub(super) favourites_count: u64,
    pub(super) edited_at: Option<String>,
    pub(super) content: String,
    pub(super) reblog: Option<Box<Status>>,
    pub(super) account: Account,
    pub(super) media_attachments: Vec<Media>,
    pub(super) mentions: Vec<Mention>,
    pub(super) tags: Vec<Tag>,
    emojis: [(); 0],
    card: Option<()>,
    pub(super) poll: Option<Poll>,
}

/// A picture. Its addresses lead nowhere on purpose: the page draws something in its place.
#[derive(Clone, Debug, Serialize)]
pub struct Media {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) url: String,
    pub(super) preview_url: String,
    pub(super) description: &'static str,
    pub(super) blurhash: &'static str,
}

/// Somebody mentioned.
#[derive(Clone, Debug, Serialize)]
pub struct Mention {
    id: String,
    username: &'static str,
    url: String,
    acct: String,
}

/// A hashtag.
#[derive(Clone, Debug, Serialize)]
pub struct Tag {
    pub(super) name: &'static str,
    url: String,
}

/// A poll.
#[derive(Clone, Debug, Serialize)]
pub struct Poll {
    pub(super) id: String,
    pub(super) expires_at: String,
    pub(super) expired: bool,
    pub(super) multiple: bool,
    pub(super) votes_count: u64,
    pub(super) options: Vec<PollOption>,
}

/// One choice of a poll.
#[derive(Clone, Debug, Serialize)]
pub struct PollOption {
    pub(super) title: &'static str,
    pub(super) votes_count: u64,
}

/// A notification.
#[derive(Clone, Debug, Serialize)]
pub struct Notification {
    pub(super) id: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) created_at: String,
    pub(super) group_key: String,
    pub(super) account: Account,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<Status>,
}

/// A conversation of direct messages.
#[derive(Clone, Debug, Serialize)]
pub struct Conversation {
    pub(super) id: String,
    pub(super) unread: bool,
    pub(super) accounts: Vec<Account>,
    pub(super) last_status: Status,
}

/// An announcement of the instance.
#[derive(Clone, Debug, Serialize)]
pub struct Announcement {
    pub(super) id: String,
    pub(super) content: String,
    pub(super) published: bool,
    pub(super) published_at: String,
    pub(super) updated_at: String,
    pub(super) all_day: bool,
    pub(super) mentions: [(); 0],
    pub(super) statuses: [(); 0],
    pub(super) tags: [(); 0],
    pub(super) emojis: [(); 0],
    pub(super) reactions: Vec<Reaction>,
}

/// A reaction to an announcement.
#[derive(Clone, Debug, Serialize)]
pub struct Reaction {
    pub(super) name: &'static str,
    pub(super) count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) announcement_id: Option<String>,
}

impl Account {
    /// Person number `index`.
    pub(super) fn of(index: usize) -> Account {
        let person = PEOPLE.get(index).unwrap_or(&PEOPLE[0]);
        let count = u64::try_from(index).unwrap_or(0) + 3;
        let url = profile_url(person);
        Account {
            id: Person::id(index).to_string(),
            username: person.username,
            acct: person.acct(),
            display_name: person.name,
            locked: false,
            bot: person.bot,
            discoverable: true,
            group: false,
            created_at: "2024-02-29T00:00:00.000Z",
            note: "<p>Invented for a demonstration.</p>",
            uri: url.clone(),
            url,
            followers_count: 137 * count % 911,
            following_count: 71 * count % 503,
            statuses_count: 1009 * count % 7919,
            emojis: [],
            fields: [],
        }
    }
}

impl Status {
    /// A public status of person number `author` with nothing but content (HTML).
    pub(super) fn new(id: i64, author: usize, content: String, now: UnixMillis) -> Status {
        let person = PEOPLE.get(author).unwrap_or(&PEOPLE[0]);
        let url = format!("{}/{id}", profile_url(person));
        Status {
            id: id.to_string(),
            created_at: iso8601(now),
            in_reply_to_id: None,
            in_reply_to_account_id: None,
            sensitive: false,
            spoiler_text: "",
            visibility: "public",
            language: person.language,
            uri: url.clone(),
            url,
            replies_count: 0,
            reblogs_count: 0,
            favourites_count: 0,
            edited_at: None,
            content,
            reblog: None,
            account: Account::of(author),
            media_attachments: Vec::new(),
            mentions: Vec::new(),
            tags: Vec::new(),
            emojis: [],
            card: None,
            poll: None,
        }
    }
}

impl Mention {
    /// Person number `index`.
    pub(super) fn of(index: usize) -> Mention {
        let person = PEOPLE.get(index).unwrap_or(&PEOPLE[0]);
        Mention {
            id: Person::id(index).to_string(),
            username: person.username,
            url: profile_url(person),
            acct: person.acct(),
        }
    }

    /// How content names them.
    pub(super) fn html(&self) -> String {
        let Mention { url, username, .. } = self;
        format!(
            "<span class=\"h-card\" translate=\"no\"><a href=\"{url}\" class=\"u-url mention\">\
             @<span>{username}</span></a></span>"
        )
    }
}

impl Tag {
    /// The hashtag `name`.
    pub(super) fn of(name: &'static str) -> Tag {
        Tag { name, url: format!("https://{DOMAIN}/tags/{name}") }
    }

    /// How content names it.
    pub(super) fn html(&self) -> String {
        let Tag { url, name } = self;
        format!("<a href=\"{url}\" class=\"mention hashtag\" rel=\"tag\">#<span>{name}</span></a>")
    }
}

fn profile_url(person: &Person) -> String {
    format!("https://{}/@{}", person.domain.unwrap_or(DOMAIN), person.username)
}

/// A moment as Rails writes it: `2026-11-23T03:33:53.123Z`.
pub(super) fn iso8601(UnixMillis(millis): UnixMillis) -> String {
    let (days, rest) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, milli) = (rest / 1000 % 60, rest % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// The Gregorian date of a day counted from 1970-01-01, by way of years that begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_800_001, "2024-02-29T00:00:00.001Z"),
            (1_795_404_833_123, "2026-11-23T03:33:53.123Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso8601(UnixMillis(millis)), text);
        }
    }
}
