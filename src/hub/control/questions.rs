//! Questions of connections, gathered into batches: a thousand clients that arrive together cost a
//! few queries.

use hashbrown::HashMap;

use super::{Control, Effect};
use crate::hub::message::{QuestionId, Refusal, ToShard};
use crate::hub::moment::Moment;
use crate::hub::question::{Answer, Question, Unanswered};
use crate::protocol::ids::{AccountId, ListId, Token, TokenId};

/// Batches of one kind under way at a time. While they are, later questions gather into the next:
/// the busier the database, the larger the batches.
const BATCHES_MAX: usize = 2;

/// Who asked for a session, with the token.
pub(super) struct SessionAsker {
    shard: usize,
    question: QuestionId,
    token: Token,
}

/// Who asked for the owner of a list.
pub(super) struct OwnerAsker {
    shard: usize,
    question: QuestionId,
    list: ListId,
}

/// A question under way.
pub(super) enum Asked {
    Sessions {
        askers: Vec<SessionAsker>,
        /// How many kills there had been when it was asked.
        kills: u64,
    },
    Owners(Vec<OwnerAsker>),
    Feeds(Vec<(usize, QuestionId)>),
    StillValid(Vec<TokenId>),
    Blocks(u64),
    Domains(u64),
    Filters(Vec<AccountId>),
    /// Does anybody answer?
    Probe,
}

/// What has gathered, and what is under way.
#[derive(Default)]
pub(super) struct Questions {
    sessions: Vec<SessionAsker>,
    sessions_asked: usize,
    owners: Vec<OwnerAsker>,
    owners_asked: usize,
    feeds: Vec<(usize, QuestionId)>,
    feeds_asked: usize,
    asked: HashMap<u64, (Asked, Moment)>,
    next_number: u64,
}

impl Asked {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Asked::Sessions { .. } => "tokens",
            Asked::Owners(_) => "lists",
            Asked::Feeds(_) => "settings",
            Asked::StillValid(_) => "still_valid",
            Asked::Blocks(_) => "blocks",
            Asked::Domains(_) => "domain_blocks",
            Asked::Filters(_) => "filters",
            Asked::Probe => "probe",
        }
    }

    pub(super) fn is_for_verdict(&self) -> bool {
        matches!(self, Asked::Blocks(_) | Asked::Domains(_) | Asked::Filters(_))
    }
}

impl Questions {
    pub(super) fn want_session(&mut self, shard: usize, question: QuestionId, token: Token) {
        self.sessions.push(SessionAsker { shard, question, token });
    }

    pub(super) fn want_owner(&mut self, shard: usize, question: QuestionId, list: ListId) {
        self.owners.push(OwnerAsker { shard, question, list });
    }

    pub(super) fn want_feeds(&mut self, shard: usize, question: QuestionId) {
        self.feeds.push((shard, question));
    }

    /// The question of this number, which is not under way any more, and since when it was.
    pub(super) fn take(&mut self, number: u64) -> Option<(Asked, Moment)> {
        let (asked, since) = self.asked.remove(&number)?;
        match asked {
            Asked::Sessions { .. } => self.sessions_asked -= 1,
            Asked::Owners(_) => self.owners_asked -= 1,
            Asked::Feeds(_) => self.feeds_asked -= 1,
            _ => {}
        }
        Some((asked, since))
    }

    /// No look-up of sessions is under way.
    pub(super) fn are_sessions_quiet(&self) -> bool {
        self.sessions_asked == 0
    }
}

impl Control {
    /// Puts a question on its way and returns its number.
    pub(super) fn ask(&mut self, asked: Asked, question: Question) -> u64 {
        let number = self.questions.next_number;
        self.questions.next_number += 1;
        self.questions.asked.insert(number, (asked, self.now));
        self.effects.push(Effect::Ask(number, question));
        number
    }

    pub(super) fn ask_gathered(&mut self) {
        let batch_max = self.limits.question_batch_max.max(1);
        while !self.questions.sessions.is_empty() && self.questions.sessions_asked < BATCHES_MAX {
            let askers = first(&mut self.questions.sessions, batch_max);
            let tokens = askers.iter().map(|asker| asker.token.clone()).collect();
            self.questions.sessions_asked += 1;
            let kills = self.revocation.kills();
            self.ask(Asked::Sessions { askers, kills }, Question::Tokens(tokens));
        }
        while !self.questions.owners.is_empty() && self.questions.owners_asked < BATCHES_MAX {
            let askers = first(&mut self.questions.owners, batch_max);
            let lists = askers.iter().map(|asker| asker.list).collect();
            self.questions.owners_asked += 1;
            self.ask(Asked::Owners(askers), Question::ListOwners(lists));
        }
        if !self.questions.feeds.is_empty() && self.questions.feeds_asked == 0 {
            let askers = std::mem::take(&mut self.questions.feeds);
            self.questions.feeds_asked += 1;
            self.ask(Asked::Feeds(askers), Question::FeedSettings);
        }
    }

    pub(super) fn sessions_answered(
        &mut self,
        askers: Vec<SessionAsker>,
        kills: u64,
        answer: Result<Answer, Unanswered>,
    ) {
        let mut sessions = match answer {
            Ok(Answer::Sessions(sessions)) => Some(sessions.into_iter()),
            _ => None,
        };
        for asker in askers {
            let answer = match &mut sessions {
                None => Err(Refusal::Failure),
                Some(sessions) => match sessions.next().flatten() {
                    None => Err(Refusal::InvalidToken),
                    // Revoked while it was looked up: what the database said may be older.
                    Some(session) if self.revocation.hit_since(kills, &session) => {
                        self.questions.sessions.push(asker);
                        continue;
                    }
                    Some(session) => Ok(session),
                },
            };
            let message = ToShard::Session { question: asker.question, answer };
            self.effects.push(Effect::ToShard(asker.shard, message));
        }
        if self.questions.are_sessions_quiet() {
            self.revocation.forget_kills();
        }
    }

    pub(super) fn owners_answered(
        &mut self,
        askers: Vec<OwnerAsker>,
        answer: Result<Answer, Unanswered>,
    ) {
        let owners: Result<HashMap<ListId, AccountId>, Refusal> = match answer {
            Ok(Answer::ListOwners(owners)) => Ok(owners.into_iter().collect()),
            _ => Err(Refusal::Failure),
        };
        for asker in askers {
            let answer = match &owners {
                Ok(owners) => Ok(owners.get(&asker.list).copied()),
                Err(refusal) => Err(*refusal),
            };
            let message = ToShard::ListOwner { question: asker.question, answer };
            self.effects.push(Effect::ToShard(asker.shard, message));
        }
    }

    pub(super) fn feeds_answered(
        &mut self,
        askers: Vec<(usize, QuestionId)>,
        answer: Result<Answer, Unanswered>,
    ) {
        let answer = match answer {
            Ok(Answer::FeedSettings(settings)) => Ok(settings),
            _ => Err(Refusal::Failure),
        };
        for (shard, question) in askers {
            self.effects.push(Effect::ToShard(shard, ToShard::Feeds { question, answer }));
        }
    }
}

/// Takes at most `most` from the front.
fn first<T>(all: &mut Vec<T>, most: usize) -> Vec<T> {
    let rest = all.split_off(all.len().min(most));
    std::mem::replace(all, rest)
}
