//! What authentication found: who the bearer of a token is and what they may read.

use crate::protocol::ids::{AccountId, TokenId};

/// The bearer of an access token. Small: every connection carries one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// `accounts.id` of the bearer.
    pub account: AccountId,
    /// `oauth_access_tokens.id`.
    pub token: TokenId,
    /// What the token may read.
    pub scopes: Scopes,
    /// The role has the permission bit `1 << 20` (view feeds). The administrator bit decides
    /// nothing here.
    pub views_all_feeds: bool,
    /// `users.chosen_languages`, if it is an array. Boxed twice: eight bytes for the many who have
    /// none.
    #[allow(clippy::box_collection)]
    pub languages: Option<Box<Vec<Box<str>>>>,
}

/// The scopes of a token that streaming looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes {
    /// `read`.
    pub read: bool,
    /// `read:statuses`.
    pub read_statuses: bool,
    /// `read:notifications`.
    pub read_notifications: bool,
}

impl Scopes {
    /// Reads the space-separated column `oauth_access_tokens.scopes`.
    pub fn parse(column: &str) -> Scopes {
        let mut scopes = Scopes::default();
        for scope in column.split_ascii_whitespace() {
            match scope {
                "read" => scopes.read = true,
                "read:statuses" => scopes.read_statuses = true,
                "read:notifications" => scopes.read_notifications = true,
                _ => {}
            }
        }
        scopes
    }

    /// May open every stream but `user:notification`.
    pub fn statuses(self) -> bool {
        self.read || self.read_statuses
    }

    /// May see notifications.
    pub fn notifications(self) -> bool {
        self.read || self.read_notifications
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_opens_everything_and_parts_open_their_part() {
        assert!(Scopes::parse("write read follow").statuses());
        assert!(Scopes::parse("read").notifications());
        assert!(Scopes::parse("read:statuses").statuses());
        assert!(!Scopes::parse("read:statuses").notifications());
        assert!(!Scopes::parse("read:notifications").statuses());
        assert!(!Scopes::parse("readx write profile").statuses());
    }
}
