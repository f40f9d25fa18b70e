//! Where a request carries its access token: of the `Authorization` header, the query and the
//! WebSocket protocol the first counts, as with the Node server (`http-auth-…` in
//! `tests/transcripts/`).

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
    /// Takes the token from the first place that is not empty: the `Authorization` header (with or
    /// without a leading `Bearer `, in exactly that spelling), the query parameter `access_token`,
    /// the whole value of `Sec-WebSocket-Protocol`.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::limits::Limits, protocol::http::parse_head};

    fn credentials(query: &str, headers: &str) -> Credentials {
        let bytes = format!("GET /api/v1/streaming{query} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let (head, _) = parse_head(bytes.as_bytes(), &Limits::default()).unwrap().unwrap();
        Credentials::of(&head)
    }

    fn given(token: &str) -> Credentials {
        Credentials::Given(Token::new(token))
    }

    #[test]
    fn the_first_place_that_is_not_empty_counts() {
        let authorization = "Authorization: Bearer a\r\n";
        let protocol = "Sec-WebSocket-Protocol: c\r\n";
        let both = format!("{authorization}{protocol}");
        assert_eq!(credentials("?access_token=b", &both), given("a"));
        assert_eq!(credentials("?access_token=b", protocol), given("b"));
        assert_eq!(credentials("?access_token=", protocol), given("c"));
        let empty = format!("Authorization:\r\n{protocol}");
        assert_eq!(credentials("?access_token=b", &empty), given("b"));
        assert_eq!(credentials("", &empty), given("c"));
    }

    #[test]
    fn only_the_exact_word_bearer_is_taken_off() {
        for (value, token) in [
            ("Bearer tok-1", "tok-1"),
            ("tok-1", "tok-1"),
            ("Bearer  tok-1", " tok-1"),
            ("bearer tok-1", "bearer tok-1"),
            ("Basic dG9rLTE6", "Basic dG9rLTE6"),
            ("Bearer Bearer x", "Bearer x"),
            ("Bearer", "Bearer"),
        ] {
            assert_eq!(credentials("", &format!("authorization: {value}\r\n")), given(token));
        }
    }

    #[test]
    fn nothing_is_missing_and_not_wrong() {
        for query in ["", "?", "?access_token", "?access_token=", "?access_token[]=tok-1"] {
            assert_eq!(credentials(query, ""), Credentials::Missing, "{query}");
        }
        assert_eq!(credentials("", "Sec-WebSocket-Protocol: \r\n"), Credentials::Missing);
    }

    #[test]
    fn what_no_row_can_equal_is_not_asked_about() {
        for query in ["access_token=tok-1&access_token=tok-2", "access_token=a%00b"] {
            let query = format!("?{query}");
            assert_eq!(credentials(&query, ""), Credentials::Unusable, "{query}");
            assert_eq!(credentials(&query, "Authorization: Bearer a\r\n"), given("a"));
        }
        let bytes = b"GET / HTTP/1.0\r\nAuthorization: Bearer \xff\r\n\r\n";
        let (head, _) = parse_head(bytes, &Limits::default()).unwrap().unwrap();
        assert_eq!(Credentials::of(&head), Credentials::Unusable);
    }

    #[test]
    fn the_whole_protocol_header_is_the_token() {
        assert_eq!(credentials("", "Sec-WebSocket-Protocol: a, b\r\n"), given("a, b"));
        let twice = "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n";
        assert_eq!(credentials("", twice), given("a, b"));
    }

    #[test]
    fn a_token_does_not_show_itself() {
        let shown = format!("{:?}", credentials("?access_token=secret", ""));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
