//! Custom filters of all accounts that read filtered streams now (streaming-api.md, "Filtering", point 4).

use std::collections::HashMap;
use std::sync::Arc;

use crate::hub::moment::UnixMillis;
use crate::hub::question::CustomFilter;
use crate::protocol::frame::Annotation;
use crate::protocol::ids::AccountId;

/// The keywords of all accounts, indexed so that a status costs about the same for one account as for thousands.
#[derive(Debug, Default)]
pub struct FilterIndex {}

impl FilterIndex {
    /// An index that knows nobody.
    pub fn new() -> FilterIndex {
        FilterIndex::default()
    }

    /// Takes all custom filters of an account in place of those it had. An empty list is knowledge too. Filters
    /// of other accounts in the list are left out.
    pub fn replace(&mut self, account: AccountId, filters: Vec<CustomFilter>) {
        let _ = (account, filters);
        unimplemented!()
    }

    /// Drops what is known of an account (its filters changed, or its last reader left).
    pub fn forget(&mut self, account: AccountId) {
        let _ = account;
        unimplemented!()
    }

    /// Whether the account's filters are here.
    pub fn knows(&self, account: AccountId) -> bool {
        let _ = account;
        unimplemented!()
    }

    /// Accounts known.
    pub fn len(&self) -> usize {
        unimplemented!()
    }

    /// Whether nobody is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether any known account has a keyword at all: otherwise the text need not even be made.
    pub fn has_keywords(&self) -> bool {
        unimplemented!()
    }

    /// The annotations for a status with this text ([`StatusText::plain`]), for the accounts with at least one
    /// match. An account's annotation holds nothing of another account's filters.
    ///
    /// [`StatusText::plain`]: crate::protocol::status_text::StatusText::plain
    pub fn matches(&self, text: &str, now: UnixMillis) -> HashMap<AccountId, Arc<Annotation>> {
        let _ = (text, now);
        unimplemented!()
    }
}
