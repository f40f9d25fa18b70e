//! Custom filters of all accounts that read filtered streams now. They never withhold a status:
//! what matched is told with it.
//!
//! ```text
//!  text ── fold ──► UTF-16 units ── walk once ──► keywords that occur, with their first place
//!                                                 │ each is used by filters
//!                    one annotation per account ◄── the leftmost hit of each filter
//! ```
//!
//! The keywords of all accounts stand in one table ([`keywords`]), found by their first characters,
//! so a status costs about the same for one account as for ten thousand: what grows is only the
//! work for those who have a match.

mod fold;
mod keywords;
mod render;

use std::sync::Arc;

use hashbrown::HashMap;

use crate::hub::moment::UnixMillis;
use crate::hub::question::CustomFilter;
use crate::protocol::frame::Annotation;
use crate::protocol::ids::{AccountId, FilterId};
use fold::Folded;
use keywords::{KeywordId, Keywords};

/// The keywords of all accounts, indexed so that a status costs about the same for one account as
/// for thousands.
#[derive(Debug, Default)]
pub struct FilterIndex {
    /// The filters of each known account that have a keyword, ordered by their ids.
    accounts: HashMap<AccountId, Vec<FilterSlot>>,
    /// Slots are used again: `None` where free.
    filters: Vec<Option<Filter>>,
    free: Vec<FilterSlot>,
    keywords: Keywords,
}

/// The place of a filter in [`FilterIndex::filters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct FilterSlot(u32);

/// A custom filter, as far as matching needs it.
#[derive(Debug)]
struct Filter {
    id: FilterId,
    account: AccountId,
    expires_at: Option<UnixMillis>,
    /// Its entry of the annotation up to where the match goes.
    head: Box<[u8]>,
    /// The keywords it uses, each once.
    keywords: Vec<KeywordId>,
}

/// A filter's match: the leftmost, then that of the earliest keyword.
#[derive(Clone, Copy)]
struct Hit<'found> {
    start: usize,
    /// The place of the keyword in its filter.
    rank: u32,
    /// The match as written in the text, as JSON.
    json: &'found [u8],
}

impl FilterIndex {
    /// An index that knows nobody.
    pub fn new() -> FilterIndex {
        FilterIndex::default()
    }

    /// Takes all custom filters of an account in place of those it had. An empty list is knowledge
    /// too. Filters of other accounts in the list are left out.
    pub fn replace(&mut self, account: AccountId, mut filters: Vec<CustomFilter>) {
        self.forget(account);
        filters.sort_by_key(|filter| filter.id);
        let own = filters.into_iter().filter(|filter| filter.account == account);
        let slots = own.filter_map(|filter| self.insert(filter)).collect();
        self.accounts.insert(account, slots);
    }

    /// Drops what is known of an account (its filters changed, or its last reader left).
    pub fn forget(&mut self, account: AccountId) {
        for slot in self.accounts.remove(&account).unwrap_or_default() {
            let place = self.filters.get_mut(slot.0 as usize);
            if let Some(filter) = place.and_then(Option::take) {
                for keyword in filter.keywords {
                    self.keywords.remove(keyword, slot);
                }
                self.free.push(slot);
            }
        }
    }

    /// Whether the account's filters are here.
    pub fn knows(&self, account: AccountId) -> bool {
        self.accounts.contains_key(&account)
    }

    /// Accounts known.
    pub fn len(&self) -> usize {
        self.accounts.len()
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Whether any known account has a keyword at all: otherwise the text need not even be made.
    pub fn has_keywords(&self) -> bool {
        !self.keywords.is_empty()
    }

    /// The annotations for a status with this text ([`StatusText::plain`]), for the accounts with
    /// at least one match. An account's annotation holds nothing of another account's filters.
    ///
    /// [`StatusText::plain`]: crate::protocol::status_text::StatusText::plain
    pub fn matches(&self, text: &str, now: UnixMillis) -> HashMap<AccountId, Arc<Annotation>> {
        if !self.has_keywords() {
            return HashMap::new();
        }
        let text = Folded::new(text);
        let occurrences: Vec<_> = self
            .keywords
            .occurrences(&text)
            .into_iter()
            .map(|found| (found.keyword, found.start, render::string(text.written(found.range()))))
            .collect();

        let mut hits: HashMap<FilterSlot, Hit> = HashMap::new();
        for (keyword, start, json) in &occurrences {
            for user in self.keywords.users(*keyword) {
                let hit = Hit { start: *start, rank: user.rank, json };
                hits.entry(user.filter)
                    .and_modify(|known| *known = known.earlier(hit))
                    .or_insert(hit);
            }
        }
        self.annotations(&hits, now)
    }

    fn annotations(
        &self,
        hits: &HashMap<FilterSlot, Hit>,
        now: UnixMillis,
    ) -> HashMap<AccountId, Arc<Annotation>> {
        let mut entries: HashMap<AccountId, Vec<(&Filter, Hit)>> = HashMap::new();
        for (slot, hit) in hits {
            if let Some(filter) = self.filter(*slot)
                && filter.expires_at.is_none_or(|expires_at| expires_at > now)
            {
                entries.entry(filter.account).or_default().push((filter, *hit));
            }
        }
        let annotation = |mut entries: Vec<(&Filter, Hit)>| {
            entries.sort_by_key(|(filter, _)| filter.id);
            let entries = entries.iter().map(|(filter, hit)| (&*filter.head, hit.json));
            Arc::new(Annotation::new(render::filtered(entries)))
        };
        entries.into_iter().map(|(account, entries)| (account, annotation(entries))).collect()
    }

    /// `None` for a filter that can never match: without keywords, or with empty ones only.
    fn insert(&mut self, filter: CustomFilter) -> Option<FilterSlot> {
        let slot = self.free.pop().or_else(|| self.new_slot())?;
        let mut keywords = Vec::with_capacity(filter.keywords.len());
        for (rank, keyword) in (0..).zip(&filter.keywords) {
            keywords.extend(self.keywords.add(keyword, slot, rank));
        }
        if keywords.is_empty() {
            self.free.push(slot);
            return None;
        }
        *self.filters.get_mut(slot.0 as usize)? = Some(Filter {
            id: filter.id,
            account: filter.account,
            expires_at: filter.expires_at_unix_millis.map(UnixMillis),
            head: render::head(&filter).into(),
            keywords,
        });
        Some(slot)
    }

    fn new_slot(&mut self) -> Option<FilterSlot> {
        let slot = u32::try_from(self.filters.len()).ok()?;
        self.filters.push(None);
        Some(FilterSlot(slot))
    }

    fn filter(&self, slot: FilterSlot) -> Option<&Filter> {
        self.filters.get(slot.0 as usize)?.as_ref()
    }
}

impl<'found> Hit<'found> {
    fn earlier(self, other: Hit<'found>) -> Hit<'found> {
        if (other.start, other.rank) < (self.start, self.rank) { other } else { self }
    }
}

#[cfg(test)]
mod tests;
