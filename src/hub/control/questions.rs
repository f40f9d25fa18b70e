//! Questions of connections, gathered into batches: a thousand clients that arrive together cost a
//! few queries. Nobody waits for long: while the database is silent, clients are sent away at once.
//!
//! ```text
//!  gathered ─► under way ──────────────────────────► answered: its askers are told
//!     │            └─ answer_secs_max ─► late ─────► answered: the database is back
//!     │                                  │ its askers were told: later
//!     └── enough batches are late ───────┘ told at once: later
//! ```

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::{Control, Effect};
use crate::hub::message::{QuestionId, Refusal, ToShard};
use crate::hub::moment::Moment;
use crate::hub::question::{Answer, Question, Unanswered, UnansweredKind};
use crate::protocol::ids::{AccountId, ListId, Token, TokenId};

/// Batches of one kind under way at a time. While they are, later questions gather into the next:
/// the busier the database, the larger the batches.
const BATCHES_MAX: usize = 2;

/// So many late batches of one kind, and none answered since: the database is silent. One alone may
/// be the fault of its connection; the next goes out on another.
const LATE_MAX: usize = 2;

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
    sessions: Gathered<SessionAsker>,
    owners: Gathered<OwnerAsker>,
    feeds: Gathered<(usize, QuestionId)>,
    asked: HashMap<u64, UnderWay>,
    /// When questions become late, in the order in which they were asked.
    late_at: VecDeque<(Moment, u64)>,
    next_number: u64,
}

/// A question under way.
struct UnderWay {
    asked: Asked,
    since: Moment,
    is_late: bool,
}

/// Questions of one kind.
struct Gathered<Asker> {
    /// Nobody has been asked for them.
    waiting: Vec<Asker>,
    /// Batches under way that are not late.
    asked: usize,
    /// Batches that are late, if none was answered since.
    late: usize,
    /// When a batch was answered last.
    answered: Option<Moment>,
}

impl<Asker> Default for Gathered<Asker> {
    fn default() -> Self {
        Gathered { waiting: Vec::new(), asked: 0, late: 0, answered: None }
    }
}

impl<Asker> Gathered<Asker> {
    /// The next batch, if it may go out.
    fn next_batch(&mut self, batches_max: usize, batch_max: usize) -> Option<Vec<Asker>> {
        if self.waiting.is_empty() || self.asked >= batches_max {
            return None;
        }
        self.asked += 1;
        let rest = self.waiting.split_off(self.waiting.len().min(batch_max.max(1)));
        Some(std::mem::replace(&mut self.waiting, rest))
    }

    /// Those who need not wait: everybody, while the database is silent.
    fn hopeless(&mut self) -> Vec<Asker> {
        if self.late < LATE_MAX {
            return Vec::new();
        }
        std::mem::take(&mut self.waiting)
    }

    /// A batch is late: returns those who have waited with it, if nothing was answered meanwhile.
    fn is_late(&mut self, asked_at: Moment) -> Vec<Asker> {
        self.asked -= 1;
        self.late += 1;
        match self.answered.is_some_and(|answered| answered > asked_at) {
            true => Vec::new(),
            false => std::mem::take(&mut self.waiting),
        }
    }

    /// A batch is not under way any more.
    fn ended(&mut self, was_late: bool, answered: Option<Moment>) {
        match was_late {
            true => self.late = self.late.saturating_sub(1),
            false => self.asked -= 1,
        }
        if answered.is_some() {
            (self.late, self.answered) = (0, answered);
        }
    }
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
        self.sessions.waiting.push(SessionAsker { shard, question, token });
    }

    pub(super) fn want_owner(&mut self, shard: usize, question: QuestionId, list: ListId) {
        self.owners.waiting.push(OwnerAsker { shard, question, list });
    }

    pub(super) fn want_feeds(&mut self, shard: usize, question: QuestionId) {
        self.feeds.waiting.push((shard, question));
    }

    /// The question of this number, which is not under way any more, and since when it was.
    /// `answered`: now, if it is.
    pub(super) fn take(
        &mut self,
        number: u64,
        answered: Option<Moment>,
    ) -> Option<(Asked, Moment)> {
        let UnderWay { asked, since, is_late } = self.asked.remove(&number)?;
        match asked {
            Asked::Sessions { .. } => self.sessions.ended(is_late, answered),
            Asked::Owners(_) => self.owners.ended(is_late, answered),
            Asked::Feeds(_) => self.feeds.ended(is_late, answered),
            _ => {}
        }
        while let Some((_, first)) = self.late_at.front()
            && !self.asked.contains_key(first)
        {
            self.late_at.pop_front();
        }
        Some((asked, since))
    }

    /// No look-up of sessions is under way for which somebody waits.
    pub(super) fn are_sessions_quiet(&self) -> bool {
        self.sessions.asked == 0
    }

    /// Newcomers are sent away because nothing is heard about those before them.
    pub(super) fn is_silent(&self) -> bool {
        self.sessions.late >= LATE_MAX
    }

    /// When the next question becomes late.
    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.late_at.front().map(|(at, _)| *at)
    }
}

impl Control {
    /// Puts a question on its way and returns its number.
    pub(super) fn ask(&mut self, asked: Asked, question: Question) -> u64 {
        let number = self.questions.next_number;
        self.questions.next_number += 1;
        // Events wait for their verdicts as long as it takes.
        if !asked.is_for_verdict() {
            let late_at = self.now + self.limits.answer_secs_max;
            self.questions.late_at.push_back((late_at, number));
        }
        let under_way = UnderWay { asked, since: self.now, is_late: false };
        self.questions.asked.insert(number, under_way);
        self.effects.push(Effect::Ask(number, question));
        number
    }

    pub(super) fn ask_gathered(&mut self) {
        self.tell_late();
        let batch_max = self.limits.question_batch_max;
        while let Some(askers) = self.questions.sessions.next_batch(BATCHES_MAX, batch_max) {
            let tokens = askers.iter().map(|asker| asker.token.clone()).collect();
            let kills = self.revocation.kills();
            self.ask(Asked::Sessions { askers, kills }, Question::Tokens(tokens));
        }
        while let Some(askers) = self.questions.owners.next_batch(BATCHES_MAX, batch_max) {
            let lists = askers.iter().map(|asker| asker.list).collect();
            self.ask(Asked::Owners(askers), Question::ListOwners(lists));
        }
        // One answer serves all.
        if let Some(askers) = self.questions.feeds.next_batch(1, usize::MAX) {
            self.ask(Asked::Feeds(askers), Question::FeedSettings);
        }
    }

    /// Sends those away who have waited for too long, or would.
    fn tell_late(&mut self) {
        while let Some((at, number)) = self.questions.late_at.front().copied()
            && at <= self.now
        {
            self.questions.late_at.pop_front();
            self.is_late(number);
        }
        let sessions = self.questions.sessions.hopeless();
        let owners = self.questions.owners.hopeless();
        let feeds = self.questions.feeds.hopeless();
        self.sessions_answered(sessions, 0, Err(Refusal::Unavailable));
        self.owners_answered(owners, Err(Refusal::Unavailable));
        self.feeds_answered(feeds, Err(Refusal::Unavailable));
    }

    fn is_late(&mut self, number: u64) {
        let Some(under_way) = self.questions.asked.get_mut(&number) else { return };
        under_way.is_late = true;
        let since = under_way.since;
        match &mut under_way.asked {
            Asked::Sessions { askers, .. } => {
                let mut askers = std::mem::take(askers);
                askers.extend(self.questions.sessions.is_late(since));
                self.sessions_answered(askers, 0, Err(Refusal::Unavailable));
            }
            Asked::Owners(askers) => {
                let mut askers = std::mem::take(askers);
                askers.extend(self.questions.owners.is_late(since));
                self.owners_answered(askers, Err(Refusal::Unavailable));
            }
            Asked::Feeds(askers) => {
                let mut askers = std::mem::take(askers);
                askers.extend(self.questions.feeds.is_late(since));
                self.feeds_answered(askers, Err(Refusal::Unavailable));
            }
            _ => {}
        }
        let is_news = self.readiness.postgres_is_late(since);
        self.report_if(is_news);
    }

    pub(super) fn sessions_answered(
        &mut self,
        askers: Vec<SessionAsker>,
        kills: u64,
        answer: Result<Answer, Refusal>,
    ) {
        let mut sessions = match answer {
            Ok(Answer::Sessions(sessions)) => Ok(sessions.into_iter()),
            Ok(_) => Err(Refusal::Failure),
            Err(refusal) => Err(refusal),
        };
        for asker in askers {
            let answer = match &mut sessions {
                Err(refusal) => Err(*refusal),
                Ok(sessions) => match sessions.next().flatten() {
                    None => Err(Refusal::InvalidToken),
                    // Revoked while it was looked up: what the database said may be older.
                    Some(session) if self.revocation.hit_since(kills, &session) => {
                        self.questions.sessions.waiting.push(asker);
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
        answer: Result<Answer, Refusal>,
    ) {
        let owners: Result<HashMap<ListId, AccountId>, Refusal> = match answer {
            Ok(Answer::ListOwners(owners)) => Ok(owners.into_iter().collect()),
            Ok(_) => Err(Refusal::Failure),
            Err(refusal) => Err(refusal),
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
        answer: Result<Answer, Refusal>,
    ) {
        let answer = match answer {
            Ok(Answer::FeedSettings(settings)) => Ok(settings),
            Ok(_) => Err(Refusal::Failure),
            Err(refusal) => Err(refusal),
        };
        for (shard, question) in askers {
            self.effects.push(Effect::ToShard(shard, ToShard::Feeds { question, answer }));
        }
    }
}

/// What those are told who wait for what could not be answered.
pub(super) fn refusal(unanswered: &Unanswered) -> Refusal {
    match unanswered.kind {
        UnansweredKind::Away => Refusal::Unavailable,
        UnansweredKind::Failed => Refusal::Failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Moment = Moment(5);

    fn waiting(askers: &[u32]) -> Gathered<u32> {
        Gathered { waiting: askers.to_vec(), ..Gathered::default() }
    }

    #[test]
    fn one_late_batch_sends_away_who_waits_and_two_send_away_who_comes() {
        let mut gathered = waiting(&[1, 2, 3]);
        assert_eq!(gathered.next_batch(2, 1), Some(vec![1]));
        assert_eq!(gathered.next_batch(2, 1), Some(vec![2]));
        assert_eq!(gathered.next_batch(2, 1), None);
        assert_eq!(gathered.is_late(AT), [3]);
        gathered.waiting.push(4);
        assert!(gathered.hopeless().is_empty());
        assert_eq!(gathered.next_batch(2, 1), Some(vec![4]), "the next may be luckier");
        assert!(gathered.is_late(AT).is_empty());
        gathered.waiting.push(5);
        assert_eq!(gathered.hopeless(), [5]);
    }

    #[test]
    fn an_answer_ends_the_silence_and_so_does_the_end_of_a_late_batch() {
        for answered in [Some(AT), None] {
            let mut gathered = waiting(&[1, 2]);
            gathered.next_batch(2, 1);
            gathered.next_batch(2, 1);
            gathered.is_late(AT);
            gathered.is_late(AT);
            gathered.ended(true, answered);
            gathered.waiting.push(3);
            assert!(gathered.hopeless().is_empty());
            assert_eq!(gathered.next_batch(2, 1), Some(vec![3]));
            gathered.ended(true, None);
            gathered.ended(false, None);
            assert_eq!((gathered.asked, gathered.late), (0, 0));
        }
    }

    #[test]
    fn who_waits_behind_a_late_batch_stays_while_others_are_answered() {
        let mut gathered = waiting(&[1, 2, 3]);
        gathered.next_batch(2, 1);
        gathered.next_batch(2, 1);
        gathered.ended(false, Some(Moment(6)));
        assert!(gathered.is_late(AT).is_empty());
        assert_eq!(gathered.waiting, [3]);
    }
}
