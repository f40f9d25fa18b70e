//! Postgres as a few sets: answers come late, out of order, or not at all. Everything that changes
//! keeps its history, so that the oracle knows what could be read when.

use std::collections::BTreeMap;

use trunkline::hub::question::{
    Answer, CustomFilter, FeedSettings, Keyword, Question, Unanswered, UnansweredKind,
};
use trunkline::hub::session::{Scopes, Session};
use trunkline::protocol::ids::{AccountId, FilterId, ListId, TokenId};

/// A value and the steps at which it changed.
#[derive(Clone, Debug)]
pub struct History<T>(Vec<(u64, T)>);

impl<T: Clone + PartialEq> History<T> {
    /// It has always been so.
    pub fn new(value: T) -> History<T> {
        History(vec![(0, value)])
    }

    /// From this step on it is different.
    pub fn set(&mut self, step: u64, value: T) {
        self.0.push((step, value));
    }

    /// What it is now.
    pub fn now(&self) -> &T {
        &self.0.last().unwrap().1
    }

    /// Every value it had from the one step to the other, both included.
    pub fn between(&self, from: u64, to: u64) -> impl Iterator<Item = &T> {
        let ends = self.0.iter().skip(1).map(|(step, _)| *step).chain([u64::MAX]);
        self.0
            .iter()
            .zip(ends)
            .filter(move |((begins, _), ends)| *begins <= to && *ends >= from)
            .map(|((_, value), _)| value)
    }

    /// How many changes there have been.
    pub fn version(&self) -> usize {
        self.0.len() - 1
    }

    /// The values of these versions.
    pub fn versions(&self, from: usize) -> impl Iterator<Item = &T> {
        self.0.iter().skip(from).map(|(_, value)| value)
    }
}

/// Who has something against whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grudge {
    /// The first blocks the second.
    Block(i64, i64),
    /// The first mutes the second.
    Mute(i64, i64),
    /// The account blocks the domain.
    Domain(i64, String),
}

/// An account with its user.
#[derive(Clone, Debug)]
pub struct Account {
    /// `users.chosen_languages`.
    pub languages: Option<Vec<&'static str>>,
    /// The role's permission bit.
    pub views_all_feeds: bool,
    /// `users.disabled` or `accounts.suspended_at`.
    pub ended: bool,
    /// Its custom filters.
    pub filters: History<Vec<Filter>>,
}

/// A custom filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// `custom_filters.id`.
    pub id: i64,
    /// Its title.
    pub title: String,
    /// Hide instead of warn.
    pub hides: bool,
    /// Keywords with `whole_word`.
    pub keywords: Vec<(&'static str, bool)>,
}

/// An access token.
#[derive(Clone, Debug)]
pub struct Token {
    /// The secret.
    pub secret: String,
    /// Its bearer.
    pub account: i64,
    /// The column.
    pub scopes: &'static str,
    /// `revoked_at` is set.
    pub revoked: bool,
}

/// A question that is under way.
pub struct Asked {
    /// Its number.
    pub number: u64,
    /// What is asked.
    pub question: Question,
    /// When.
    pub step: u64,
    /// Postgres has worked it out.
    pub answer: Option<Result<Answer, Unanswered>>,
}

/// The fake.
pub struct Database {
    /// By id.
    pub accounts: BTreeMap<i64, Account>,
    /// By id.
    pub tokens: BTreeMap<i64, Token>,
    /// Lists and their owners.
    pub lists: BTreeMap<i64, i64>,
    /// Whether each grudge is held.
    pub grudges: BTreeMap<Grudge, History<bool>>,
    /// The four settings.
    pub settings: History<FeedSettings>,
    /// Questions under way.
    pub asked: Vec<Asked>,
    /// Of a hundred questions so many fail.
    pub failing_percent: u32,
    /// A question of a connection has failed or come too late, so that nobody knows how often
    /// clients were told 500.
    pub has_failed: bool,
}

impl Database {
    /// Works a question out, as of now.
    pub fn execute(&mut self, index: usize, fails: bool) {
        let answer = if fails {
            Err(Unanswered { reason: "simulated".into(), kind: UnansweredKind::Failed })
        } else {
            Ok(self.answer(&self.asked[index].question))
        };
        self.asked[index].answer = Some(answer);
    }

    /// Is a token good?
    pub fn is_good(&self, token: i64) -> bool {
        let good = |token: &Token| !token.revoked && !self.accounts[&token.account].ended;
        self.tokens.get(&token).is_some_and(good)
    }

    /// Does anybody hold this grudge from the one step to the other: always, never, or sometimes
    /// (both)?
    pub fn held(&self, grudge: &Grudge, from: u64, to: u64) -> (bool, bool) {
        let Some(history) = self.grudges.get(grudge) else { return (false, true) };
        let mut values = history.between(from, to);
        let (mut some, mut none) = (false, false);
        values.by_ref().for_each(|held| if *held { some = true } else { none = true });
        (some, none)
    }

    fn answer(&self, question: &Question) -> Answer {
        match question {
            Question::Tokens(tokens) => {
                let session = |secret: &str| {
                    let (id, token) = self.tokens.iter().find(|(_, one)| one.secret == secret)?;
                    self.is_good(*id).then(|| self.session(*id, token))
                };
                Answer::Sessions(tokens.iter().map(|token| session(token.reveal())).collect())
            }
            Question::StillValid(tokens) => {
                let good = tokens.iter().copied().filter(|TokenId(id)| self.is_good(*id));
                Answer::ValidTokens(good.collect())
            }
            Question::ListOwners(lists) => {
                let owner = |list: &ListId| Some((*list, AccountId(*self.lists.get(&list.0)?)));
                Answer::ListOwners(lists.iter().filter_map(owner).collect())
            }
            Question::FeedSettings => Answer::FeedSettings(*self.settings.now()),
            Question::BlocksAndMutes { author, mentions } => {
                let concerned: Vec<i64> =
                    mentions.iter().chain([author]).map(|account| account.0).collect();
                let held = self.grudges.iter().filter(|(_, held)| *held.now());
                let kept = held.filter_map(|(grudge, _)| match grudge {
                    Grudge::Block(one, other) if *one == author.0 && !concerned.contains(other) => {
                        Some(*other)
                    }
                    Grudge::Block(one, other) | Grudge::Mute(one, other)
                        if concerned.contains(other) =>
                    {
                        Some(*one)
                    }
                    _ => None,
                });
                let mut kept: Vec<AccountId> = kept.map(AccountId).collect();
                let blocked = self.grudges.iter().filter_map(|(grudge, held)| match grudge {
                    Grudge::Block(one, other) if *held.now() && *one == author.0 => {
                        Some(AccountId(*other))
                    }
                    _ => None,
                });
                kept.extend(blocked);
                Answer::Accounts(kept)
            }
            Question::DomainBlocks { domain, readers } => {
                let blocks = |AccountId(reader): &AccountId| {
                    let grudge = Grudge::Domain(*reader, domain.to_string());
                    self.grudges.get(&grudge).is_some_and(|held| *held.now())
                };
                Answer::Accounts(readers.iter().copied().filter(blocks).collect())
            }
            Question::Filters(accounts) => {
                let mut filters: Vec<CustomFilter> = accounts
                    .iter()
                    .filter_map(|account| Some((account, self.accounts.get(&account.0)?)))
                    .flat_map(|(account, found)| {
                        found.filters.now().iter().map(|filter| stored(*account, filter))
                    })
                    .collect();
                filters.sort_by_key(|filter| filter.id);
                Answer::Filters(filters)
            }
        }
    }

    fn session(&self, id: i64, token: &Token) -> Session {
        let account = &self.accounts[&token.account];
        let languages = account.languages.as_ref();
        Session {
            account: AccountId(token.account),
            token: TokenId(id),
            scopes: Scopes {
                read: token.scopes == "read",
                read_statuses: token.scopes == "read:statuses",
                read_notifications: token.scopes == "read:notifications",
            },
            views_all_feeds: account.views_all_feeds,
            languages: languages
                .map(|languages| Box::new(languages.iter().map(|one| Box::from(*one)).collect())),
        }
    }
}

fn stored(account: AccountId, filter: &Filter) -> CustomFilter {
    CustomFilter {
        id: FilterId(filter.id),
        account,
        title: filter.title.as_str().into(),
        context: vec!["public".into()],
        expires_at_unix_millis: None,
        action: i32::from(filter.hides),
        keywords: filter
            .keywords
            .iter()
            .map(|(keyword, whole_word)| Keyword {
                keyword: (*keyword).into(),
                whole_word: *whole_word,
            })
            .collect(),
    }
}
