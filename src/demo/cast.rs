//! The people of the demonstration: who writes, in which language, about what; and five of them who
//! read, each with something that makes their streams differ. All of them are invented, all domains
//! end in `.example`.

use crate::protocol::ids::{AccountId, ListId};

/// The local domain.
pub const DOMAIN: &str = "demo.example";

/// Somebody who writes.
#[derive(Debug)]
pub struct Person {
    /// Name without the domain.
    pub username: &'static str,
    /// Domain, unless local.
    pub domain: Option<&'static str>,
    /// Name as shown.
    pub name: &'static str,
    /// Language of everything they write.
    pub language: &'static str,
    /// An automated account.
    pub bot: bool,
}

/// Everybody who writes. The first five are the [`READERS`], in the same order.
pub const PEOPLE: [Person; 16] = [
    local("ada", "Ada Feldmann", "en"),
    local("bruno", "Bruno Weiß", "de"),
    local("chiyo", "千代", "ja"),
    local("nour", "Nour Haddad", "fr"),
    local("mira", "Mira (moderator)", "en"),
    local("tobias", "Tobias & the cats", "en"),
    Person { bot: true, ..local("tides", "Tide Table", "en") },
    remote("kai", "kosmos.example", "Kai among the stars", "en"),
    remote("lena", "garten.example", "Lena im Beet", "de"),
    remote("sol", "playa.example", "Sol Marín", "es"),
    remote("yuki", "machi.example", "ゆき", "ja"),
    remote("amelie", "librairie.example", "Amélie lit", "fr"),
    remote("rex", "stadium.example", "Rex Goalkeeper", "en"),
    remote("grumble", "loud.example", "Captain Grumble", "en"),
    remote("ines", "museu.example", "Inês fotografa", "pt"),
    remote("petra", "lab.example", "Dr Petra Novák", "en"),
];

const fn local(username: &'static str, name: &'static str, language: &'static str) -> Person {
    Person { username, domain: None, name, language, bot: false }
}

const fn remote(
    username: &'static str,
    domain: &'static str,
    name: &'static str,
    language: &'static str,
) -> Person {
    Person { username, domain: Some(domain), name, language, bot: false }
}

impl Person {
    /// `accounts.id` of person number `index`.
    pub fn id(index: usize) -> AccountId {
        AccountId(110_000_000_000_000_000 + 1_000_003 * i64::try_from(index).unwrap_or(0))
    }

    /// The number of the person who is called so, or of the first one.
    pub fn index_of(username: &str) -> usize {
        PEOPLE.iter().position(|person| person.username == username).unwrap_or(0)
    }

    /// `username`, with `@domain` for remote people.
    pub fn acct(&self) -> String {
        match self.domain {
            Some(domain) => format!("{}@{domain}", self.username),
            None => self.username.to_owned(),
        }
    }
}

/// Somebody with a token: how their view of the world differs.
#[derive(Debug)]
pub struct Reader {
    /// What makes them different, for the page.
    pub about: &'static str,
    /// Scopes of their token.
    pub scopes: &'static str,
    /// `users.chosen_languages`.
    pub languages: Option<&'static [&'static str]>,
    /// Their role may view closed feeds.
    pub views_all_feeds: bool,
    /// Whom they follow, by username.
    pub follows: &'static [&'static str],
    /// Their lists: title and members.
    pub lists: &'static [(&'static str, &'static [&'static str])],
    /// Whom they block.
    pub blocks: &'static [&'static str],
    /// Whom they mute.
    pub mutes: &'static [&'static str],
    /// Domains they block.
    pub blocked_domains: &'static [&'static str],
    /// Their custom filters.
    pub filters: &'static [Filter],
}

/// A custom filter.
#[derive(Debug)]
pub struct Filter {
    /// Its title.
    pub title: &'static str,
    /// Hide instead of warn.
    pub hide: bool,
    /// Keywords, and whether each counts as a whole word only.
    pub keywords: &'static [(&'static str, bool)],
}

/// Nothing special.
const PLAIN: Reader = Reader {
    about: "sees everything",
    scopes: "read",
    languages: None,
    views_all_feeds: false,
    follows: &[],
    lists: &[],
    blocks: &[],
    mutes: &[],
    blocked_domains: &[],
    filters: &[],
};

/// The first five [`PEOPLE`], as readers.
pub const READERS: [Reader; 5] = [
    Reader {
        about: "sees everything; has two lists",
        follows: &["bruno", "tobias", "tides", "kai", "lena", "sol", "petra", "ines", "grumble"],
        lists: &[("Gardeners", &["lena", "tobias"]), ("Science", &["kai", "petra", "tides"])],
        ..PLAIN
    },
    Reader {
        about: "has chosen German and English: public streams hold nothing else",
        languages: Some(&["de", "en"]),
        follows: &["ada", "lena", "kai", "rex"],
        lists: &[("Garten", &["lena"])],
        ..PLAIN
    },
    Reader {
        about: "filters football (warn) and spoilers (hide)",
        follows: &["yuki", "rex", "tobias", "mira", "amelie"],
        filters: &[
            Filter {
                title: "No football",
                hide: false,
                keywords: &[("football", true), ("penalty", false)],
            },
            Filter { title: "No spoilers", hide: true, keywords: &[("spoiler", false)] },
        ],
        ..PLAIN
    },
    Reader {
        about: "blocks Captain Grumble, mutes Rex, blocks the domain museu.example",
        follows: &["amelie", "ada", "sol", "chiyo"],
        blocks: &["grumble"],
        mutes: &["rex"],
        blocked_domains: &["museu.example"],
        ..PLAIN
    },
    Reader {
        about: "has a token with read:statuses only: no notifications",
        scopes: "read:statuses",
        views_all_feeds: true,
        follows: &["ada", "bruno", "chiyo", "nour", "tobias", "rex", "grumble"],
        ..PLAIN
    },
];

impl Reader {
    /// The id of list number `list` of reader number `reader`.
    pub fn list_id(reader: usize, list: usize) -> ListId {
        ListId(i64::try_from(reader * 100 + list + 101).unwrap_or(0))
    }
}
