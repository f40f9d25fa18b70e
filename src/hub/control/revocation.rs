//! Revoked means gone, at whatever moment of connecting the revocation comes.
//!
//! ```text
//!  look-up asked ──► answered ──► connection opens, wants system channels ──► Redis confirms both
//!     │ ▲  kill on a channel that another connection holds: asked again                   │
//!     └─┘                                                                                 │
//!          kill before the subscription holds: missed, so the token is looked up again ◄──┘
//! ```
//!
//! After that a kill comes as a message, and answers and kills reach a shard in the order in which
//! they were decided. A lost subscriber connection starts the last step again for every token.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;

use super::Control;
use super::questions::Asked;
use crate::hub::interest::Confirmation;
use crate::hub::message::ToShard;
use crate::hub::moment::Moment;
use crate::hub::question::{Answer, Question, Unanswered};
use crate::hub::session::Session;
use crate::hub::stream::Channel;
use crate::protocol::ids::{AccountId, TokenId};

/// Pause before a check is tried again that the database could not answer.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What was revoked.
enum Kill {
    Token(TokenId),
    Account(AccountId),
}

/// Revocations and the checks that close the race.
#[derive(Default)]
pub(super) struct Revocation {
    /// Kills that came while look-ups were under way.
    recent: Vec<Kill>,
    /// Kills forgotten from `recent`: `recent[0]` is kill number `forgotten`.
    forgotten: u64,
    /// Opened sessions whose system channels Redis has yet to confirm, oldest first.
    opened: VecDeque<(TokenId, AccountId)>,
    /// Tokens to be looked up again now.
    due: Vec<TokenId>,
    /// Tokens whose channel was subscribed anew after a lost connection: to be looked up when all
    /// channels are.
    lapsed: Vec<TokenId>,
    /// Subscriptions that were held when the connection was lost and are not confirmed again yet:
    /// Redis is asked for them before any newer one.
    unconfirmed: usize,
    asked: usize,
    retry_at: Option<Moment>,
}

impl Revocation {
    /// A connection has opened for the first time on its shard with this token or account.
    pub(super) fn opened(&mut self, token: TokenId, account: AccountId) {
        self.opened.push_back((token, account));
    }

    /// How many kills there have been.
    pub(super) fn kills(&self) -> u64 {
        self.forgotten + self.recent.len() as u64
    }

    /// Has the session been hit by a kill since there were `kills`?
    pub(super) fn hit_since(&self, kills: u64, session: &Session) -> bool {
        let skipped = usize::try_from(kills.saturating_sub(self.forgotten)).unwrap_or(usize::MAX);
        self.recent.iter().skip(skipped).any(|kill| match kill {
            Kill::Token(token) => *token == session.token,
            Kill::Account(account) => *account == session.account,
        })
    }

    /// No look-up is under way: past kills concern nobody.
    pub(super) fn forget_kills(&mut self) {
        self.forgotten += self.recent.len() as u64;
        self.recent.clear();
    }

    /// The subscriber connection is lost, and with it so many subscriptions.
    pub(super) fn redis_lost(&mut self, wanted: usize) {
        self.unconfirmed = wanted;
    }

    /// When to try again what the database could not answer.
    pub(super) fn retry_at(&self) -> Option<Moment> {
        self.retry_at
    }
}

impl Control {
    /// `kill` on the channel of a token or an account.
    pub(super) fn kill(&mut self, channel: &Channel) {
        let (kill, message) = match channel {
            Channel::Token(token) => (Kill::Token(*token), ToShard::KillToken(*token)),
            Channel::System(account) => (Kill::Account(*account), ToShard::KillAccount(*account)),
            _ => return,
        };
        if !self.questions.are_sessions_quiet() {
            self.revocation.recent.push(kill);
        }
        self.tell_shards_of(channel, &message);
    }

    /// Redis has confirmed a subscription, or its end.
    pub fn redis_confirmed(&mut self, name: &[u8], confirmation: Confirmation) {
        let epoch = self.interest.epoch();
        let confirmed = self.interest.confirmed(name, confirmation);
        if confirmation != Confirmation::Subscribed {
            return;
        }
        self.revocation.unconfirmed = self.revocation.unconfirmed.saturating_sub(1);
        match confirmed {
            Some(Channel::Token(token)) if epoch.0 > 0 => self.revocation.lapsed.push(token),
            // What was read before may have changed before it could be heard.
            Some(Channel::System(account)) => self.judging.filters_changed(account),
            _ => {}
        }
    }

    /// Looks up again whoever has opened and whose system channels are confirmed.
    pub(super) fn recheck_opened(&mut self) {
        if self.revocation.retry_at.is_some_and(|at| self.now < at) {
            return;
        }
        self.revocation.retry_at = None;
        while let Some((token, account)) = self.revocation.opened.front().copied() {
            let channel = Channel::Token(token);
            let is_gone = self.interest.shards(&channel).is_empty();
            let holds = self.interest.confirmed_since(&channel).is_some()
                && self.interest.confirmed_since(&Channel::System(account)).is_some();
            if !is_gone && !holds {
                break;
            }
            self.revocation.opened.pop_front();
            if !is_gone {
                self.revocation.due.push(token);
            }
        }
        let all_hold =
            self.revocation.unconfirmed == 0 || self.interest.joined() >= self.interest.wanted();
        if all_hold && !self.revocation.lapsed.is_empty() {
            let lapsed = std::mem::take(&mut self.revocation.lapsed);
            self.revocation.due.extend(lapsed);
        }
        if self.revocation.asked == 0 && !self.revocation.due.is_empty() {
            let batch_max = self.limits.question_batch_max.max(1);
            let rest = self.revocation.due.len().min(batch_max);
            let rest = self.revocation.due.split_off(rest);
            let tokens = std::mem::replace(&mut self.revocation.due, rest);
            self.revocation.asked += 1;
            let question = Question::StillValid(Arc::from(tokens.as_slice()));
            self.ask(Asked::StillValid(tokens), question);
        }
    }

    pub(super) fn validity_answered(
        &mut self,
        tokens: &[TokenId],
        answer: Result<Answer, Unanswered>,
    ) {
        self.revocation.asked -= 1;
        let Ok(Answer::ValidTokens(valid)) = answer else {
            self.revocation.due.extend(tokens);
            self.revocation.retry_at = Some(self.now + RETRY_PAUSE);
            return;
        };
        let valid: HashSet<TokenId> = valid.into_iter().collect();
        for token in tokens.iter().filter(|token| !valid.contains(*token)) {
            self.tell_shards_of(&Channel::Token(*token), &ToShard::KillToken(*token));
        }
    }
}
