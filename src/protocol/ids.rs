//! Identifiers that cross every stratum. Ids are Postgres `bigint`s; in JSON they are strings and
//! stay exact.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(pub i64);

        impl $name {
            /// Reads the canonical decimal form only (no sign, no leading zero, no space), so that
            /// one id has one spelling. `None` for anything else.
            pub fn parse(text: &str) -> Option<Self> {
                parse_canonical(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

id! {
    /// `accounts.id`.
    AccountId
}
id! {
    /// `oauth_access_tokens.id`.
    TokenId
}
id! {
    /// `lists.id`.
    ListId
}
id! {
    /// `custom_filters.id`.
    FilterId
}

/// An access token as the client sent it. It never shows itself: `Debug` prints a placeholder.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(Box<str>);

impl Token {
    /// Takes the token's text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The secret itself, for the database question only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token([redacted])")
    }
}

fn parse_canonical(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let canonical = match bytes {
        [] => false,
        [b'0'] => true,
        [first, rest @ ..] => (b'1'..=b'9').contains(first) && rest.iter().all(u8::is_ascii_digit),
    };
    if canonical { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_is_an_id() {
        assert_eq!(
            AccountId::parse("110000000001000003"),
            Some(AccountId(110_000_000_001_000_003))
        );
        assert_eq!(ListId::parse("0"), Some(ListId(0)));
        for text in ["", "-1", "+1", "01", " 1", "1 ", "1.0", "9223372036854775808", "١"] {
            assert_eq!(ListId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_token_does_not_show_itself() {
        assert!(!format!("{:?}", Token::new("secret")).contains("secret"));
    }
}
