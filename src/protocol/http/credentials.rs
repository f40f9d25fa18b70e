//! Where a request carries its access token (streaming-api.md, Authentication).

use std::borrow::Cow;

use super::Head;
use crate::protocol::ids::Token;

/// The token of a request. `Debug` never shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Credentials {
    /// No place holds one: answer 401 `Missing access token`.
    Missing,
    /// A token to ask the database about.
    Given(Token),
    /// Something that no database row can equal (given twice, a NUL byte, no UTF-8): answer 401
    /// `Invalid access token` without asking.
    Unusable,
}

impl Credentials {
    /// Takes the token from the first place that is not empty: the `Authorization` header (with or without a
    /// leading `Bearer `, in exactly that spelling), the query parameter `access_token`, the whole
    /// value of `Sec-WebSocket-Protocol`.
    pub fn of(head: &Head<'_>) -> Self {
        if let Some(value) = head.header("authorization").filter(|value| !value.is_empty()) {
            return Self::from_bytes(value.strip_prefix(b"Bearer ").unwrap_or(value));
        }
        let mut parameters = head.query().all("access_token");
        match (parameters.next(), parameters.next()) {
            (Some(_), Some(_)) => return Self::Unusable,
            (Some(value), None) if !value.is_empty() => return Self::from_text(&value),
            _ => {}
        }
        match head.joined("sec-websocket-protocol") {
            Some(Cow::Borrowed([])) | None => Self::Missing,
            Some(value) => Self::from_bytes(&value),
        }
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        str::from_utf8(bytes).map_or(Self::Unusable, Self::from_text)
    }

    /// Postgres text cannot hold a NUL: the question itself would fail.
    fn from_text(text: &str) -> Self {
        if text.contains('\0') { Self::Unusable } else { Self::Given(Token::new(text)) }
    }
}
