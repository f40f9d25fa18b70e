//! The keywords of all filters in one table. Keywords that search for the same are one entry with
//! many users. Entries are found by their first characters (a gram of up to four UTF-16 units);
//! those with the same gram stand sorted, so that one walk along the text narrows them down
//! together.

use std::cmp::Ordering;
use std::ops::Range;

use hashbrown::{HashMap, HashSet};

use super::FilterSlot;
use super::fold::{Folded, fold, is_word};
use crate::hub::question::Keyword;

/// Units of a keyword that the table looks at first. Few keywords of people share four characters
/// by chance.
const GRAM_UNITS: usize = 4;

/// All keywords.
#[derive(Debug, Default)]
pub(super) struct Keywords {
    /// Slots are used again: those in `free` have no users and stand in no bucket.
    entries: Vec<Entry>,
    free: Vec<KeywordId>,
    /// By gram, sorted by pattern (see [`compare`]). Never empty.
    buckets: HashMap<Gram, Vec<KeywordId>>,
    /// Buckets by the length of their gram, less one, so that a text is not searched for lengths
    /// that no keyword has.
    buckets_by_length: [usize; GRAM_UNITS],
}

/// The place of a keyword in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct KeywordId(u32);

/// The use of a keyword by a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    /// Whose keyword it is.
    pub(super) filter: FilterSlot,
    /// Its place among the keywords of that filter.
    pub(super) rank: u32,
}

/// Where a keyword is found first.
pub(super) struct Occurrence {
    pub(super) keyword: KeywordId,
    /// In units.
    pub(super) start: usize,
    /// In units.
    pub(super) length: usize,
}

impl Occurrence {
    pub(super) fn range(&self) -> Range<usize> {
        self.start..self.start + self.length
    }
}

/// What to search for, and for whom.
#[derive(Debug)]
struct Entry {
    pattern: Pattern,
    /// Sorted by filter, each once.
    users: Vec<User>,
}

/// Two keywords with the same pattern match the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Pattern {
    /// Folded, never empty.
    units: Box<[u16]>,
    boundary_before: bool,
    boundary_after: bool,
}

/// The first units of a keyword, sixteen bits each, and how many they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Gram {
    units: u64,
    length: u8,
}

impl Keywords {
    /// There is none.
    pub(super) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// A filter uses a keyword, at this place among its own. `None` if it is empty, which never
    /// matches, or if the filter has one of the same pattern before it.
    pub(super) fn add(
        &mut self,
        keyword: &Keyword,
        filter: FilterSlot,
        rank: u32,
    ) -> Option<KeywordId> {
        let pattern = Pattern::new(keyword)?;
        let gram = Gram::of(&pattern.units, GRAM_UNITS)?;
        let id = self.find_or_insert(gram, pattern)?;
        let users = &mut self.entries.get_mut(id.0 as usize)?.users;
        let place = users.binary_search_by_key(&filter, |user| user.filter).err()?;
        users.insert(place, User { filter, rank });
        Some(id)
    }

    /// A filter uses a keyword no longer.
    pub(super) fn remove(&mut self, id: KeywordId, filter: FilterSlot) {
        let Some(entry) = self.entries.get_mut(id.0 as usize) else { return };
        if let Ok(place) = entry.users.binary_search_by_key(&filter, |user| user.filter) {
            entry.users.remove(place);
            if entry.users.is_empty() {
                self.remove_entry(id);
            }
        }
    }

    /// Who uses a keyword.
    pub(super) fn users(&self, id: KeywordId) -> &[User] {
        self.entries.get(id.0 as usize).map_or(&[], |entry| &entry.users)
    }

    /// The keywords that occur in a text, each with its first place.
    pub(super) fn occurrences(&self, text: &Folded) -> Vec<Occurrence> {
        let mut found = Found::default();
        for start in 0..text.units().len() {
            let rest = text.units().get(start..).unwrap_or_default();
            for length in 1..=GRAM_UNITS {
                let wanted = self.buckets_by_length.get(length - 1).is_some_and(|&count| count > 0);
                if wanted
                    && let Some(gram) = Gram::exactly(rest, length)
                    && let Some(bucket) = self.buckets.get(&gram)
                {
                    self.search(bucket, text, start, length, &mut found);
                }
            }
        }
        found.occurrences
    }

    /// Looks for all keywords of a bucket at one place of the text, `depth` units of which are
    /// known to agree.
    fn search(
        &self,
        bucket: &[KeywordId],
        text: &Folded,
        start: usize,
        mut depth: usize,
        found: &mut Found,
    ) {
        let mut candidates = bucket;
        loop {
            // Mostly there is one left: comparing it whole is much cheaper than going on by units.
            if let &[id] = candidates {
                return self.compare_whole(id, text, start, found);
            }
            // The sorted order puts those that end here before those that go on.
            while let Some((&id, others)) = candidates.split_first()
                && self.pattern(id).is_some_and(|pattern| pattern.units.len() == depth)
            {
                self.compare_whole(id, text, start, found);
                candidates = others;
            }
            let Some(&unit) = text.units().get(start + depth) else { return };
            candidates = self.narrow(candidates, depth, unit);
            if candidates.is_empty() {
                return;
            }
            depth += 1;
        }
    }

    fn compare_whole(&self, id: KeywordId, text: &Folded, start: usize, found: &mut Found) {
        let Some(pattern) = self.pattern(id) else { return };
        let length = pattern.units.len();
        let agrees = text.units().get(start..).is_some_and(|rest| rest.starts_with(&pattern.units))
            && (!pattern.boundary_before || text.is_boundary(start))
            && (!pattern.boundary_after || text.is_boundary(start + length));
        if agrees {
            found.add(Occurrence { keyword: id, start, length });
        }
    }

    /// Those whose unit at `depth` is this one. All are longer than `depth` and agree before it.
    fn narrow<'bucket>(
        &self,
        candidates: &'bucket [KeywordId],
        depth: usize,
        unit: u16,
    ) -> &'bucket [KeywordId] {
        let unit_of = |id: &KeywordId| self.pattern(*id)?.units.get(depth).copied();
        let start = candidates.partition_point(|id| unit_of(id) < Some(unit));
        let rest = candidates.get(start..).unwrap_or_default();
        let length = rest.partition_point(|id| unit_of(id) == Some(unit));
        rest.get(..length).unwrap_or_default()
    }

    fn find_or_insert(&mut self, gram: Gram, pattern: Pattern) -> Option<KeywordId> {
        let bucket = self.buckets.entry(gram).or_default();
        let entries = &self.entries;
        let place = bucket.binary_search_by(|id| compare(entries, *id, &pattern));
        let place = match place {
            Ok(place) => return bucket.get(place).copied(),
            Err(place) => place,
        };
        let entry = Entry { pattern, users: Vec::new() };
        let id = match self.free.pop() {
            Some(id) => {
                *self.entries.get_mut(id.0 as usize)? = entry;
                id
            }
            None => {
                let id = KeywordId(u32::try_from(self.entries.len()).ok()?);
                self.entries.push(entry);
                id
            }
        };
        if bucket.is_empty() {
            *self.buckets_by_length.get_mut(usize::from(gram.length) - 1)? += 1;
        }
        bucket.insert(place, id);
        Some(id)
    }

    fn remove_entry(&mut self, id: KeywordId) {
        let Some(pattern) = self.pattern(id).cloned() else { return };
        let Some(gram) = Gram::of(&pattern.units, GRAM_UNITS) else { return };
        let Some(bucket) = self.buckets.get_mut(&gram) else { return };
        let entries = &self.entries;
        if let Ok(place) = bucket.binary_search_by(|id| compare(entries, *id, &pattern)) {
            bucket.remove(place);
            self.free.push(id);
        }
        if bucket.is_empty() {
            self.buckets.remove(&gram);
            if let Some(count) = self.buckets_by_length.get_mut(usize::from(gram.length) - 1) {
                *count -= 1;
            }
        }
    }

    fn pattern(&self, id: KeywordId) -> Option<&Pattern> {
        self.entries.get(id.0 as usize).map(|entry| &entry.pattern)
    }
}

fn compare(entries: &[Entry], id: KeywordId, pattern: &Pattern) -> Ordering {
    entries.get(id.0 as usize).map(|entry| &entry.pattern).cmp(&Some(pattern))
}

impl Pattern {
    /// `None` for an empty keyword.
    fn new(keyword: &Keyword) -> Option<Pattern> {
        let units = fold(&keyword.keyword);
        let boundary = |unit: Option<&u16>| keyword.whole_word && unit.is_some_and(|&u| is_word(u));
        let (boundary_before, boundary_after) = (boundary(units.first()), boundary(units.last()));
        (!units.is_empty()).then_some(Pattern { units, boundary_before, boundary_after })
    }
}

impl Gram {
    /// The first units, at most `length_max`; `None` if there are none.
    fn of(units: &[u16], length_max: usize) -> Option<Gram> {
        Gram::exactly(units, units.len().min(length_max))
    }

    /// The first `length` units, if there are as many.
    #[inline]
    fn exactly(units: &[u16], length: usize) -> Option<Gram> {
        let first = units.get(..length).filter(|first| !first.is_empty())?;
        let packed = first.iter().fold(0, |packed, &unit| packed << 16 | u64::from(unit));
        Some(Gram { units: packed, length: u8::try_from(length).ok()? })
    }
}

/// What has been found; of each keyword only the first place counts.
#[derive(Default)]
struct Found {
    occurrences: Vec<Occurrence>,
    known: HashSet<KeywordId>,
}

impl Found {
    fn add(&mut self, occurrence: Occurrence) {
        if self.known.insert(occurrence.keyword) {
            self.occurrences.push(occurrence);
        }
    }
}
