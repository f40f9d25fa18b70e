//! The accounts of the captures in `tests/transcripts/`: every value is a function of a user's
//! number.

use std::ops::RangeInclusive;

use super::database::Database;

/// A user by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct User(pub u64);

impl User {
    /// The account's id.
    pub fn account(self) -> u64 {
        110_000_000_000_000_000 + self.0 * 1_000_003
    }

    /// The user's id.
    pub fn id(self) -> u64 {
        1000 + self.0
    }

    /// The access token.
    pub fn token(self) -> String {
        match Special::of(self) {
            Some(special) => special.token().to_string(),
            None => format!("tok-{}", self.0),
        }
    }

    /// The id of the access token.
    pub fn token_id(self) -> u64 {
        5_000_000 + self.0
    }

    /// The list that the user owns.
    pub fn list(self) -> u64 {
        1_000_000 + self.0
    }

    /// The user name.
    pub fn name(self) -> String {
        format!("user{}", self.0)
    }

    /// The home channel.
    pub fn home(self) -> String {
        format!("timeline:{}", self.account())
    }

    /// The notification channel.
    pub fn notifications(self) -> String {
        format!("timeline:{}:notifications", self.account())
    }

    /// The channel on which all connections of the account are told.
    pub fn system_channel(self) -> String {
        format!("timeline:system:{}", self.account())
    }

    /// The channel on which all connections of the token are told.
    pub fn token_channel(self) -> String {
        format!("timeline:access_token:{}", self.token_id())
    }

    /// The path of a WebSocket that begins with this subscription: `websocket("stream=user")`.
    pub fn websocket(self, query: &str) -> String {
        let token = self.token();
        let and = if query.is_empty() { "" } else { "&" };
        format!("/api/v1/streaming?{query}{and}access_token={token}")
    }
}

/// A user with something special about the token or the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// The token is revoked.
    Revoked,
    /// The user is disabled.
    Disabled,
    /// The account is suspended.
    Suspended,
    /// Scopes `write follow`.
    Write,
    /// Scope `read:statuses`.
    ReadStatuses,
    /// Scope `read:notifications`.
    ReadNotifications,
    /// Scopes `read write`, a role with permission bit 20.
    FeedViewer,
    /// Chosen languages `{de,fr}`.
    Languages,
    /// Scope `profile`.
    Profile,
    /// Scope `read`, expired long ago; the Node server accepts it.
    Expired,
}

/// Every special user, in the order of their numbers.
pub const SPECIALS: [Special; 10] = [
    Special::Revoked,
    Special::Disabled,
    Special::Suspended,
    Special::Write,
    Special::ReadStatuses,
    Special::ReadNotifications,
    Special::FeedViewer,
    Special::Languages,
    Special::Profile,
    Special::Expired,
];

impl Special {
    /// The user.
    pub fn user(self) -> User {
        let index = SPECIALS.iter().position(|special| *special == self);
        User(200_000 + index.expect("every special user is listed") as u64)
    }

    fn of(user: User) -> Option<Special> {
        let index = user.0.checked_sub(200_000)?;
        SPECIALS.get(usize::try_from(index).ok()?).copied()
    }

    /// The access token.
    pub fn token(self) -> &'static str {
        match self {
            Special::Revoked => "tok-revoked",
            Special::Disabled => "tok-disabled",
            Special::Suspended => "tok-suspended",
            Special::Write => "tok-write",
            Special::ReadStatuses => "tok-read-statuses",
            Special::ReadNotifications => "tok-read-notifications",
            Special::FeedViewer => "tok-feedviewer",
            Special::Languages => "tok-languages",
            Special::Profile => "tok-profile",
            Special::Expired => "tok-expired",
        }
    }

    fn scopes(self) -> &'static str {
        match self {
            Special::Write => "write follow",
            Special::ReadStatuses => "read:statuses",
            Special::ReadNotifications => "read:notifications",
            Special::FeedViewer => "read write",
            Special::Profile => "profile",
            _ => "read",
        }
    }
}

/// Puts users into a database.
#[derive(Clone, Copy, Debug)]
pub struct Fixture<'a> {
    /// The database.
    pub database: &'a Database,
}

impl Fixture<'_> {
    /// One user with list, blocks, mutes, domain block and filter.
    #[track_caller]
    pub fn user(self, number: u64) -> User {
        self.users(number..=number);
        User(number)
    }

    /// Users with everything that the captures' users have.
    #[track_caller]
    pub fn users(self, numbers: RangeInclusive<u64>) {
        self.bare_users(numbers.clone());
        let (first, last) = numbers.into_inner();
        let account = "110000000000000000 + (i) * 1000003";
        let target = |formula: &str| account.replace("(i)", &format!("(({formula}) % 200000)"));
        let me = account.replace("(i)", "i");
        let from = format!("from generate_series({first}::bigint, {last}::bigint) i");
        self.database.sql(&format!(
            "insert into blocks (account_id, target_account_id)
               select {me}, {} {from}, generate_series(1, 3) k on conflict do nothing;
             insert into mutes (account_id, target_account_id)
               select {me}, {} {from}, generate_series(1, 2) k on conflict do nothing;
             insert into account_domain_blocks (account_id, domain)
               select {me}, 'blocked' || i % 1000 || '.example' {from} on conflict do nothing;
             insert into custom_filters (id, account_id, phrase, context)
               select 1 + i, {me}, 'Filter of ' || i, '{{home,public}}' {from} where i % 20 = 0
               on conflict do nothing;
             insert into custom_filter_keywords (id, custom_filter_id, keyword, whole_word)
               select 2 * i + k, 1 + i, 'zzkeyword' || k, k = 1 {from}, generate_series(1, 2) k
               where i % 20 = 0 on conflict do nothing;",
            target("7 * i + k * 104729"),
            target("11 * i + k * 130363"),
        ));
    }

    /// Users with a token and a list and nothing else.
    #[track_caller]
    pub fn bare_users(self, numbers: RangeInclusive<u64>) {
        let (first, last) = numbers.into_inner();
        let from = format!("from generate_series({first}::bigint, {last}::bigint) i");
        let account = "110000000000000000 + i * 1000003";
        self.database.sql(&format!(
            "insert into accounts (id, username) select {account}, 'user' || i {from}
               on conflict do nothing;
             insert into users (id, account_id) select 1000 + i, {account} {from}
               on conflict do nothing;
             insert into oauth_access_tokens (id, token, resource_owner_id, scopes)
               select 5000000 + i, 'tok-' || i, 1000 + i, 'read' {from} on conflict do nothing;
             insert into lists (id, account_id) select 1000000 + i, {account} {from}
               on conflict do nothing;",
        ));
    }

    /// One special user.
    #[track_caller]
    pub fn special(self, special: Special) -> User {
        let user = special.user();
        self.bare_users(user.0..=user.0);
        let (id, account, token) = (user.id(), user.account(), user.token_id());
        let change = match special {
            Special::Revoked => {
                format!("update oauth_access_tokens set revoked_at = now() where id = {token}")
            }
            Special::Disabled => format!("update users set disabled = true where id = {id}"),
            Special::Suspended => {
                format!("update accounts set suspended_at = now() where id = {account}")
            }
            Special::FeedViewer => format!("update users set role_id = 4 where id = {id}"),
            Special::Languages => {
                format!("update users set chosen_languages = '{{de,fr}}' where id = {id}")
            }
            Special::Expired => format!(
                "update oauth_access_tokens set created_at = '2024-01-01', expires_in = 7200 \
                 where id = {token}"
            ),
            _ => "select 1".to_string(),
        };
        self.database.sql(&format!(
            "update oauth_access_tokens set token = '{}', scopes = '{}' where id = {token};
             {change};",
            special.token(),
            special.scopes(),
        ));
        user
    }

    /// A filter with keywords (text, whole word); returns nothing, the id is given.
    #[track_caller]
    pub fn filter(self, id: u64, user: User, title: &str, keywords: &[(&str, bool)]) {
        let account = user.account();
        self.database.sql(&format!(
            "insert into custom_filters (id, account_id, phrase, context)
             values ({id}, {account}, {}, '{{home,public}}')",
            quoted(title)
        ));
        for (keyword, whole_word) in keywords {
            self.database.sql(&format!(
                "insert into custom_filter_keywords (custom_filter_id, keyword, whole_word)
                 values ({id}, {}, {whole_word})",
                quoted(keyword)
            ));
        }
    }

    /// Sets a setting as Rails writes it, `disabled` to `--- disabled\n`.
    #[track_caller]
    pub fn setting(self, name: &str, value: &str) {
        self.database.sql(&format!(
            "insert into settings (var, value) values ('{name}', E'--- {value}\\n')
             on conflict (var) do update set value = excluded.value"
        ));
    }
}

/// An SQL string literal.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
