//! Verdicts: one set of questions per status, however many readers and channels; and the custom
//! filters they need.
//!
//! ```text
//!  open ─► asked: blocks and mutes · domain blocks · unknown filters ─► answered ─► released
//!                                                          ▲                │
//!                                                          └─ changed since ┘
//! ```

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};

use super::Control;
use super::events::Parsed;
use super::questions::Asked;
use crate::hub::filter::FilterIndex;
use crate::hub::moment::Moment;
use crate::hub::question::{Answer, CustomFilter, Question, Unanswered};
use crate::hub::stream::Channel;
use crate::hub::verdict::Verdict;
use crate::protocol::ids::AccountId;

/// How long a verdict under way counts for further publishes of the same bytes. Rails publishes a
/// status on all its channels back to back.
const SHARED_FOR: Duration = Duration::from_millis(100);

/// A status that is being judged.
struct Case {
    parsed: Rc<Parsed>,
    verdict: Verdict,
    /// Channels on which it waits.
    channels: Vec<Channel>,
    /// Answers about blocks that are still out.
    questions: usize,
    /// Questions for filters that are still out, by number.
    loads: HashSet<u64>,
    /// A question about blocks could not be answered: nobody may see it.
    failed: bool,
    opened: Moment,
}

/// The cases under way, who reads, and what is known of the readers' filters.
#[derive(Default)]
pub(super) struct Judging {
    cases: HashMap<u64, Case>,
    next_case: u64,
    /// On how many shards each account reads filtered channels.
    readers: HashMap<AccountId, u32>,
    /// The readers as the last case saw them; gone when somebody comes or leaves.
    snapshot: Option<Snapshot>,
    filters: FilterIndex,
    /// Readers whose filters are not known and not being asked for.
    unknown: HashSet<AccountId>,
    /// Questions for filters that are out, by number.
    loading: HashMap<u64, Load>,
    /// Accounts that read no more, whose filters are still cached, oldest first.
    departed: Vec<AccountId>,
}

/// A question for filters.
#[derive(Default)]
struct Load {
    /// Whose filters.
    accounts: Vec<AccountId>,
    /// Those of them whose filters have changed since it was asked.
    changed: HashSet<AccountId>,
}

#[derive(Clone)]
struct Snapshot {
    checked: Arc<HashSet<AccountId>>,
    list: Arc<[AccountId]>,
}

impl Judging {
    /// An account begins to read filtered channels on one more shard.
    pub(super) fn reader_arrived(&mut self, account: AccountId) {
        let shards = self.readers.entry(account).or_insert(0);
        *shards += 1;
        if *shards == 1 {
            self.snapshot = None;
            if !self.filters.knows(account) {
                self.unknown.insert(account);
            }
        }
    }

    /// An account reads no filtered channels any more on one shard.
    pub(super) fn reader_left(&mut self, account: AccountId, cached_max: usize) {
        let Some(shards) = self.readers.get_mut(&account) else { return };
        *shards -= 1;
        if *shards > 0 {
            return;
        }
        self.readers.remove(&account);
        self.snapshot = None;
        self.unknown.remove(&account);
        if self.filters.knows(account) {
            self.departed.push(account);
        }
        // Half at a time, so that the cost of moving the rest is shared by many.
        if self.departed.len() > cached_max {
            for old in self.departed.drain(..cached_max.div_ceil(2)) {
                if !self.readers.contains_key(&old) {
                    self.filters.forget(old);
                }
            }
        }
    }

    /// The filters of an account are not what they were.
    pub(super) fn filters_changed(&mut self, account: AccountId) {
        self.filters.forget(account);
        for load in self.loading.values_mut() {
            load.changed.insert(account);
        }
        if self.readers.contains_key(&account) {
            self.unknown.insert(account);
        }
    }

    /// Messages were missed: nobody's filters are certain.
    pub(super) fn forget_filters(&mut self) {
        let accounts: Vec<AccountId> = self.readers.keys().copied().collect();
        for account in accounts {
            self.filters_changed(account);
        }
        for account in std::mem::take(&mut self.departed) {
            self.filters.forget(account);
        }
    }

    /// How many accounts' filters are known.
    pub(super) fn filters_cached(&self) -> usize {
        self.filters.len()
    }

    /// Is the case still being judged, and young enough to count for the same status on another
    /// channel? Whoever came or blocked in between is not in it.
    pub(super) fn is_fresh(&self, case: u64, now: Moment) -> bool {
        self.cases.get(&case).is_some_and(|case| now.since(case.opened) < SHARED_FOR)
    }

    /// An event on this channel waits for the case.
    pub(super) fn follow(&mut self, case: u64, channel: &Channel) {
        if let Some(case) = self.cases.get_mut(&case)
            && !case.channels.contains(channel)
        {
            case.channels.push(channel.clone());
        }
    }

    fn snapshot(&mut self) -> Snapshot {
        let readers = &self.readers;
        self.snapshot
            .get_or_insert_with(|| Snapshot {
                checked: Arc::new(readers.keys().copied().collect()),
                list: readers.keys().copied().collect(),
            })
            .clone()
    }
}

impl Control {
    /// Asks what must be known to judge a status. `Err`: why nobody can see it.
    pub(super) fn open_case(&mut self, parsed: &Rc<Parsed>) -> Result<u64, &'static str> {
        let facts = parsed.event.status().map_err(|_| "uncheckable")?;
        let readers = self.judging.snapshot();
        let case = self.judging.next_case;
        self.judging.next_case += 1;
        let verdict = Verdict::new(&facts, Arc::clone(&readers.checked));
        let blocks = Question::BlocksAndMutes {
            author: facts.author,
            mentions: Arc::from(facts.mentions.as_slice()),
        };
        let mut questions = 1;
        self.ask(Asked::Blocks(case), blocks);
        if let Some(domain) = &facts.domain {
            let domain = Arc::from(domain.as_ref());
            let question = Question::DomainBlocks { domain, readers: readers.list };
            questions += 1;
            self.ask(Asked::Domains(case), question);
        }
        self.metrics.verdict_queries += questions as u64;
        self.load_unknown_filters();
        let loads = self.judging.loading.keys().copied().collect();
        self.judging.cases.insert(
            case,
            Case {
                parsed: Rc::clone(parsed),
                verdict,
                channels: Vec::new(),
                questions,
                loads,
                failed: false,
                opened: self.now,
            },
        );
        Ok(case)
    }

    fn load_unknown_filters(&mut self) {
        if self.judging.unknown.is_empty() {
            return;
        }
        let accounts: Vec<AccountId> = self.judging.unknown.drain().collect();
        let question = Question::Filters(Arc::from(accounts.as_slice()));
        self.metrics.verdict_queries += 1;
        let number = self.ask(Asked::Filters(accounts.clone()), question);
        self.judging.loading.insert(number, Load { accounts, changed: HashSet::new() });
    }

    /// Blocks and mutes, or domain blocks, are known.
    pub(super) fn readers_answered(&mut self, number: u64, answer: Result<Answer, Unanswered>) {
        let Some(case) = self.judging.cases.get_mut(&number) else { return };
        case.questions -= 1;
        match answer {
            Ok(Answer::Accounts(accounts)) => case.verdict.withhold(accounts),
            _ => case.failed = true,
        }
        self.settle(number);
    }

    /// The filters of some accounts are known, or cannot be.
    pub(super) fn filters_answered(
        &mut self,
        number: u64,
        accounts: &[AccountId],
        answer: Result<Answer, Unanswered>,
    ) {
        let Load { changed, .. } = self.judging.loading.remove(&number).unwrap_or_default();
        let answer = match answer {
            Ok(Answer::Filters(filters)) => Some(filters),
            _ => None,
        };
        let is_known = answer.is_some();
        let mut by_account: HashMap<AccountId, Vec<CustomFilter>> = HashMap::new();
        for filter in answer.into_iter().flatten() {
            by_account.entry(filter.account).or_default().push(filter);
        }
        for account in accounts.iter().copied() {
            let is_reader = self.judging.readers.contains_key(&account);
            if is_known && !changed.contains(&account) {
                if is_reader {
                    let filters = by_account.remove(&account).unwrap_or_default();
                    self.judging.filters.replace(account, filters);
                }
            } else if is_reader {
                self.judging.unknown.insert(account);
            }
        }
        let mut waiting: Vec<u64> = self
            .judging
            .cases
            .iter_mut()
            .filter_map(|(id, case)| {
                let was_awaited = case.loads.remove(&number);
                if was_awaited && !is_known {
                    case.verdict.withhold(accounts.iter().copied());
                }
                was_awaited.then_some(*id)
            })
            .collect();
        // Older cases first, whatever the order of the table.
        waiting.sort_unstable();
        for case in waiting {
            self.settle(case);
        }
    }

    /// If everything is answered: judges and releases.
    fn settle(&mut self, number: u64) {
        let Some(case) = self.judging.cases.get(&number) else { return };
        if case.questions > 0 || !case.loads.is_empty() {
            return;
        }
        if !case.failed && self.must_load_again(number) {
            return;
        }
        let Some(case) = self.judging.cases.remove(&number) else { return };
        self.metrics.verdict_time.record(self.now.nanos_since(case.opened));
        let Case { parsed, mut verdict, channels, failed, .. } = case;
        if failed {
            return self.release(number, channels, None);
        }
        if verdict.annotates()
            && self.judging.filters.has_keywords()
            && let Ok(facts) = parsed.event.status()
        {
            let text = facts.text.plain();
            verdict.annotate(self.judging.filters.matches(&text, self.unix));
        }
        self.release(number, channels, Some(&Arc::new(verdict)));
    }

    /// Filters of somebody who was checked have changed since they were read: they are asked for
    /// once more, unless another case has asked already.
    fn must_load_again(&mut self, number: u64) -> bool {
        let Some(case) = self.judging.cases.get(&number) else { return false };
        let may_admit = |account: &AccountId| case.verdict.may_admit(*account);
        if self.judging.unknown.iter().any(may_admit) {
            self.load_unknown_filters();
        }
        let Some(case) = self.judging.cases.get_mut(&number) else { return false };
        let may_admit = |account: &AccountId| case.verdict.may_admit(*account);
        let concerned = self.judging.loading.iter();
        case.loads = concerned
            .filter(|(_, load)| load.accounts.iter().any(may_admit))
            .map(|(number, _)| *number)
            .collect();
        !case.loads.is_empty()
    }
}
