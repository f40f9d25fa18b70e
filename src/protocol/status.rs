//! What the checks of filtered streams (public timelines and hashtags) read from a status.

use std::borrow::Cow;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::protocol::ids::AccountId;
use crate::protocol::json;
use crate::protocol::status_text::StatusText;

/// A status whose readers cannot be checked: no account, ids that are no ids, or no object at all.
/// It is withheld from filtered streams and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uncheckable;

/// What the checks of filtered streams need to know about a status. Borrows from its
/// [`Event`](crate::protocol::event::Event).
#[derive(Clone, Debug)]
pub struct StatusFacts<'event> {
    /// `account.id`.
    pub author: AccountId,
    /// `mentions[].id`, in the order of the payload, may repeat.
    pub mentions: Vec<AccountId>,
    /// The part of `account.acct` after the `@`; `None` for local authors.
    pub domain: Option<Cow<'event, str>>,
    /// `language`; `None` where it is no string.
    pub language: Option<Cow<'event, str>>,
    /// `account.username` equals `account.acct`.
    pub local: bool,
    /// `local_only` is `true` (glitch-soc).
    pub local_only: bool,
    /// The payload has a key `filtered` of its own: custom filters do not touch it.
    pub has_filtered: bool,
    /// What custom filters search, see [`StatusText::plain`].
    pub text: StatusText<'event>,
}

impl<'event> StatusFacts<'event> {
    /// Reads a payload in the spelling of [`json`].
    pub(super) fn read(payload: &'event [u8]) -> Result<Self, Uncheckable> {
        let status: Status = serde_json::from_slice(payload).map_err(|_| Uncheckable)?;
        // As a sequence it would pass for an account too.
        if !status.account.get().starts_with('{') {
            return Err(Uncheckable);
        }
        let account: Account =
            serde_json::from_str(status.account.get()).map_err(|_| Uncheckable)?;
        let acct = string(account.acct).ok_or(Uncheckable)?;
        let username = string(account.username).ok_or(Uncheckable)?;
        let mentions = status.mentions.iter().flatten().map(|mention| id(mention.id));
        Ok(StatusFacts {
            author: id(account.id)?,
            mentions: mentions.collect::<Result<_, _>>()?,
            domain: domain(&acct),
            language: status.language.and_then(string),
            local: username == acct,
            local_only: status.local_only.is_some_and(|value| value.get() == "true"),
            has_filtered: status.filtered,
            text: status.text(),
        })
    }
}

/// Strings stay raw: serde_json refuses lone surrogates, and people can write them.
#[derive(Deserialize)]
struct Status<'event> {
    #[serde(borrow)]
    account: &'event RawValue,
    #[serde(borrow, default)]
    mentions: Option<Vec<Mention<'event>>>,
    #[serde(borrow, default)]
    language: Option<&'event RawValue>,
    #[serde(borrow, default)]
    local_only: Option<&'event RawValue>,
    #[serde(default, deserialize_with = "present")]
    filtered: bool,
    #[serde(borrow, default)]
    spoiler_text: Option<&'event RawValue>,
    #[serde(borrow, default)]
    content: Option<&'event RawValue>,
    #[serde(borrow, default)]
    poll: Option<Poll<'event>>,
    #[serde(borrow, default)]
    media_attachments: Option<Vec<Media<'event>>>,
}

#[derive(Deserialize)]
struct Account<'event> {
    #[serde(borrow)]
    id: &'event RawValue,
    #[serde(borrow)]
    username: &'event RawValue,
    #[serde(borrow)]
    acct: &'event RawValue,
}

#[derive(Deserialize)]
struct Mention<'event> {
    #[serde(borrow)]
    id: &'event RawValue,
}

#[derive(Deserialize)]
struct Poll<'event> {
    #[serde(borrow, default)]
    options: Option<Vec<PollOption<'event>>>,
}

#[derive(Deserialize)]
struct PollOption<'event> {
    #[serde(borrow, default)]
    title: Option<&'event RawValue>,
}

#[derive(Deserialize)]
struct Media<'event> {
    #[serde(borrow, default)]
    description: Option<&'event RawValue>,
}

impl<'event> Status<'event> {
    fn text(&self) -> StatusText<'event> {
        let options = self.poll.iter().flat_map(|poll| poll.options.iter().flatten());
        let media = self.media_attachments.iter().flatten();
        let parts = [self.spoiler_text, self.content]
            .into_iter()
            .chain(options.map(|option| option.title))
            .chain(media.map(|media| media.description));
        StatusText { parts: parts.map(|part| part.and_then(string).unwrap_or_default()).collect() }
    }
}

/// The content of a raw string; `None` for any other value.
fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let raw = value.get();
    if !raw.starts_with('"') {
        return None;
    }
    match json::unescape(raw.as_bytes()) {
        Cow::Borrowed(_) => raw.get(1..raw.len() - 1).map(Cow::Borrowed),
        Cow::Owned(content) => String::from_utf8(content).ok().map(Cow::Owned),
    }
}

/// An id is a string of digits; a bare integer will do.
fn id(value: &RawValue) -> Result<AccountId, Uncheckable> {
    let raw = value.get();
    let digits = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(raw);
    AccountId::parse(digits).ok_or(Uncheckable)
}

/// What stands between the first and the second `@`.
fn domain<'event>(acct: &Cow<'event, str>) -> Option<Cow<'event, str>> {
    let part = match acct {
        Cow::Borrowed(acct) => acct.split('@').nth(1).map(Cow::Borrowed),
        Cow::Owned(acct) => acct.split('@').nth(1).map(|part| Cow::Owned(part.to_owned())),
    };
    part.filter(|domain| !domain.is_empty())
}

/// The key is there, whatever its value.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::event::Event;

    fn event(payload: &str) -> Event {
        let message = format!(r#"{{"event":"update","payload":{payload}}}"#);
        Event::parse(message.as_bytes(), 128).unwrap()
    }

    fn status(account: &str, more: &str) -> Event {
        event(&format!(r#"{{"id":"1","account":{account}{more}}}"#))
    }

    const ALICE: &str =
        r#"{"id":"109999999999999999","username":"alice","acct":"alice@remote.example"}"#;

    #[test]
    fn the_facts_of_a_status_are_read() {
        let event = status(
            ALICE,
            r#","mentions":[{"id":"7","acct":"x"},{"id":8}],"language":"en","local_only":true,
            "spoiler_text":"s","content":"\u003cp>c\ud800","poll":{"options":[{"title":"t"},{}]},
            "media_attachments":[{"description":null},{"description":"d"}],"filtered":null"#,
        );
        let facts = event.status().unwrap();
        assert_eq!(facts.author, AccountId(109_999_999_999_999_999));
        assert_eq!(facts.mentions, [AccountId(7), AccountId(8)]);
        assert_eq!(facts.domain.as_deref(), Some("remote.example"));
        assert_eq!(facts.language.as_deref(), Some("en"));
        assert!(!facts.local && facts.local_only && facts.has_filtered);
        assert_eq!(facts.text.parts, ["s", "<p>c\u{fffd}", "t", "", "", "d"]);
    }

    #[test]
    fn missing_and_null_lists_count_as_empty() {
        let nulls = r#","mentions":null,"media_attachments":null,"tags":null,"poll":null,
            "language":null,"spoiler_text":null,"content":null"#;
        for more in ["", nulls] {
            let event = status(r#"{"id":"1","username":"bob","acct":"bob"}"#, more);
            let facts = event.status().unwrap();
            assert!(facts.local && facts.mentions.is_empty() && !facts.has_filtered);
            assert_eq!((facts.domain, facts.language), (None, None));
            assert!(!facts.local_only);
            assert_eq!(facts.text.parts, ["", ""]);
        }
    }

    #[test]
    fn an_acct_without_a_domain_has_none() {
        for (acct, domain) in [
            ("bob@", None),
            ("bob", None),
            ("bob@a.example", Some("a.example")),
            ("b@c@d", Some("c")),
        ] {
            let event = status(&format!(r#"{{"id":"1","username":"bob","acct":"{acct}"}}"#), "");
            assert_eq!(event.status().unwrap().domain.as_deref(), domain, "{acct}");
        }
    }

    #[test]
    fn only_true_makes_a_status_local_only() {
        for (value, expected) in [("true", true), ("false", false), ("null", false), ("1", false)] {
            let event = status(ALICE, &format!(",\"local_only\":{value}"));
            assert_eq!(event.status().unwrap().local_only, expected, "{value}");
        }
    }

    #[test]
    fn a_language_that_is_no_string_is_none() {
        for language in ["5", "[\"en\"]", "true"] {
            let event = status(ALICE, &format!(",\"language\":{language}"));
            assert_eq!(event.status().unwrap().language, None);
        }
    }

    #[test]
    fn what_cannot_be_checked_is_told_from_what_can() {
        let accounts = [
            "null",
            "{}",
            "5",
            r#"["1","a","a"]"#,
            r#"{"id":"x","username":"a","acct":"a"}"#,
            r#"{"id":"-1","username":"a","acct":"a"}"#,
            r#"{"id":1.5,"username":"a","acct":"a"}"#,
            r#"{"id":null,"username":"a","acct":"a"}"#,
            r#"{"id":"99999999999999999999","username":"a","acct":"a"}"#,
            r#"{"id":"1","username":"a"}"#,
            r#"{"id":"1","username":"a","acct":5}"#,
        ];
        for account in accounts {
            assert_eq!(status(account, "").status().unwrap_err(), Uncheckable, "{account}");
        }
        for mentions in ["5", "{}", "[5.5]", "[null]", r#"[{"id":"x"}]"#, "[{}]", r#""1""#] {
            let event = status(ALICE, &format!(",\"mentions\":{mentions}"));
            assert_eq!(event.status().unwrap_err(), Uncheckable, "{mentions}");
        }
        for payload in [r#""text""#, "[1]", "5", "true", "{}"] {
            assert_eq!(event(payload).status().unwrap_err(), Uncheckable, "{payload}");
        }
    }
}
