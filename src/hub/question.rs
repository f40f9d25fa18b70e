//! What the control core asks the database, and what comes back. One question is one query, however
//! many readers wait for it.

use std::sync::Arc;

use crate::hub::session::Session;
use crate::protocol::ids::{AccountId, FilterId, ListId, Token, TokenId};

/// A question to the database. Every variant is one SQL statement.
#[derive(Clone, Debug)]
pub enum Question {
    /// Who are the bearers of these tokens? Answer: [`Answer::Sessions`], same order and length.
    Tokens(Arc<[Token]>),
    /// Which of these tokens are still good (not revoked, user not disabled, account not
    /// suspended)? Answer: [`Answer::ValidTokens`].
    StillValid(Arc<[TokenId]>),
    /// Who owns these lists? Answer: [`Answer::ListOwners`], the lists that exist.
    ListOwners(Arc<[ListId]>),
    /// The four feed access settings. Answer: [`Answer::FeedSettings`].
    FeedSettings,
    /// Whom do blocks and mutes keep from this status? Everybody who blocks or mutes the author or
    /// anybody mentioned, and everybody whom the author blocks. Does not depend on who reads.
    /// Answer: [`Answer::Accounts`].
    BlocksAndMutes {
        /// The author of the status.
        author: AccountId,
        /// The accounts mentioned in it.
        mentions: Arc<[AccountId]>,
    },
    /// Who of these readers blocks this domain? Answer: [`Answer::Accounts`].
    DomainBlocks {
        /// The author's domain, as in `acct`.
        domain: Arc<str>,
        /// The accounts that read filtered streams now.
        readers: Arc<[AccountId]>,
    },
    /// The custom filters of these accounts that have not expired. Answer: [`Answer::Filters`].
    Filters(Arc<[AccountId]>),
}

impl Question {
    /// What it is about, in a word, for logs and metrics. Nothing of its contents.
    pub fn kind(&self) -> &'static str {
        match self {
            Question::Tokens(_) => "tokens",
            Question::StillValid(_) => "still_valid",
            Question::ListOwners(_) => "list_owners",
            Question::FeedSettings => "feed_settings",
            Question::BlocksAndMutes { .. } => "blocks_and_mutes",
            Question::DomainBlocks { .. } => "domain_blocks",
            Question::Filters(_) => "filters",
        }
    }
}

/// What the database said.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Question::Tokens`]: `None` where the token is unknown, revoked, its user disabled or
    /// suspended.
    Sessions(Vec<Option<Session>>),
    /// To [`Question::StillValid`]: the good ones, in any order.
    ValidTokens(Vec<TokenId>),
    /// To [`Question::ListOwners`].
    ListOwners(Vec<(ListId, AccountId)>),
    /// To [`Question::FeedSettings`].
    FeedSettings(FeedSettings),
    /// To [`Question::BlocksAndMutes`] and [`Question::DomainBlocks`]: in any order, may repeat.
    Accounts(Vec<AccountId>),
    /// To [`Question::Filters`]: ordered by filter id; accounts without filters do not appear.
    Filters(Vec<CustomFilter>),
}

/// The question could not be answered: the database is away, refused, or did not answer in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Why, for the log. Holds no secret.
    pub reason: Arc<str>,
    /// What that means for whoever waits.
    pub kind: UnansweredKind,
}

/// Will the same question be answered later?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnansweredKind {
    /// Postgres is away, busy, or lets nobody in: come back later.
    Away,
    /// Postgres has answered with an error, or with what cannot be read: it will again.
    Failed,
}

/// Which feeds are closed to those without the permission (table `settings`, value `---
/// disabled\n`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeedSettings {
    /// `local_live_feed_access` is `disabled`: local statuses on public streams.
    pub local_live_disabled: bool,
    /// `remote_live_feed_access` is `disabled`: remote statuses on public streams.
    pub remote_live_disabled: bool,
    /// `local_topic_feed_access` is `disabled`: local statuses on hashtag streams.
    pub local_topic_disabled: bool,
    /// `remote_topic_feed_access` is `disabled`: remote statuses on hashtag streams.
    pub remote_topic_disabled: bool,
}

/// One custom filter with its keywords, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomFilter {
    /// `custom_filters.id`.
    pub id: FilterId,
    /// Whose filter it is.
    pub account: AccountId,
    /// `custom_filters.phrase`.
    pub title: Box<str>,
    /// `custom_filters.context`.
    pub context: Vec<Box<str>>,
    /// `custom_filters.expires_at` in milliseconds since the Unix epoch, if it ever expires.
    pub expires_at_unix_millis: Option<i64>,
    /// `custom_filters.action`: 0 warn, 1 hide.
    pub action: i32,
    /// In the order of their ids.
    pub keywords: Vec<Keyword>,
}

/// A row of `custom_filter_keywords`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyword {
    /// The words to look for.
    pub keyword: Box<str>,
    /// Match only between word boundaries.
    pub whole_word: bool,
}
