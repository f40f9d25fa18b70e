//! Who must not see a filtered event. Reached once per event for all readers, by the control core;
//! looked up by the shards.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::hub::access::FeedAccess;
use crate::hub::session::Session;
use crate::hub::stream::LocalOnly;
use crate::protocol::event::StatusFacts;
use crate::protocol::frame::Annotation;
use crate::protocol::ids::AccountId;

/// What is known of a filtered status for all its readers.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The status's language.
    language: Option<Box<str>>,
    /// The author lives on this instance.
    local: bool,
    /// glitch-soc: not for public streams that did not ask.
    local_only: bool,
    /// Each reader's `filtered` goes into the payload, which has none of its own.
    annotates: bool,
    /// The accounts that were checked. Whoever began to read after the question was asked is not
    /// among them and does not see the event: nobody is served unchecked.
    checked: Arc<HashSet<AccountId>>,
    /// A subset of `checked`: blocked, blocking, muting, or not checkable.
    withheld: HashSet<AccountId>,
    /// What the keyword filters of an account found.
    annotations: HashMap<AccountId, Arc<Annotation>>,
}

impl Verdict {
    /// A verdict on a status about which nothing is held against anybody yet.
    pub fn new(facts: &StatusFacts, checked: Arc<HashSet<AccountId>>) -> Verdict {
        Verdict {
            language: facts.language.as_deref().map(Box::from),
            local: facts.local,
            local_only: facts.local_only,
            annotates: !facts.has_filtered,
            checked,
            withheld: HashSet::new(),
            annotations: HashMap::new(),
        }
    }

    /// Keeps the event from these accounts. Those who do not read are forgotten at once.
    pub fn withhold(&mut self, accounts: impl IntoIterator<Item = AccountId>) {
        let checked = &self.checked;
        self.withheld.extend(accounts.into_iter().filter(|account| checked.contains(account)));
    }

    /// Adds what the keyword filters found.
    pub fn annotate(&mut self, annotations: HashMap<AccountId, Arc<Annotation>>) {
        self.annotations = annotations;
    }

    /// Does each reader get a `filtered` of their own?
    pub fn annotates(&self) -> bool {
        self.annotates
    }

    /// Was this account checked and nothing found against it so far?
    pub fn may_admit(&self, account: AccountId) -> bool {
        self.checked.contains(&account) && !self.withheld.contains(&account)
    }

    /// May this reader see it, given what the subscription was allowed when it was made?
    pub fn admits(&self, session: &Session, access: FeedAccess, channel_admits: bool) -> bool {
        (channel_admits || !self.local_only || access.local_only != LocalOnly::Withheld)
            && access.permits(self.local)
            && self.speaks(session)
            && self.may_admit(session.account)
    }

    /// The annotation for this account, if any of its filters matched.
    pub fn annotation(&self, account: AccountId) -> Option<&Arc<Annotation>> {
        if self.annotations.is_empty() { None } else { self.annotations.get(&account) }
    }

    fn speaks(&self, session: &Session) -> bool {
        let Some(chosen) = &session.languages else { return true };
        match &self.language {
            Some(language) => chosen.iter().any(|choice| choice == language),
            None => false,
        }
    }
}
