//! The opening handshake of a WebSocket (RFC 6455 section 4.2) and the answers to it.

use std::io::Write;

use tungstenite::handshake::derive_accept_key;

use super::{Head, RequestId, reason_phrase};

/// A handshake that may be accepted.
#[derive(Clone, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// The value for `Sec-WebSocket-Accept`.
    pub accept_key: String,
    /// The first protocol that the client offered, to be echoed. It may be an access token: never
    /// log it.
    pub protocol: Option<&'a str>,
}

/// Checks a request whose [`Head::upgrade_requested`] is true.
///
/// # Errors
/// What is wrong with it, in the order in which the Node server looks.
pub fn check_upgrade<'a>(head: &Head<'a>) -> Result<Handshake<'a>, UpgradeError> {
    if head.method != "GET" {
        return Err(UpgradeError::Method);
    }
    if !head.lists("upgrade", "websocket") {
        return Err(UpgradeError::Protocol);
    }
    let key = only(head, "sec-websocket-key").ok_or(UpgradeError::Key)?;
    if !is_key(key) {
        return Err(UpgradeError::Key);
    }
    if only(head, "sec-websocket-version") != Some(b"13") {
        return Err(UpgradeError::Version);
    }
    Ok(Handshake { accept_key: derive_accept_key(key), protocol: first_protocol(head)? })
}

/// Why an upgrade is no WebSocket handshake; the client's doing. Close after the answer: a failed
/// upgrade must not leave a tunnel through a proxy that looked at the request alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpgradeError {
    /// Another method than `GET`: 405.
    Method,
    /// `Upgrade` does not list `websocket`: 400.
    Protocol,
    /// `Sec-WebSocket-Key` is missing, doubled or not 16 bytes in base64: 400.
    Key,
    /// Another version than 13: 426. (The Node server takes 8 as well, which nothing has spoken
    /// since 2011.)
    Version,
    /// `Sec-WebSocket-Protocol` is not a list of distinct tokens: 400.
    Subprotocol,
}

impl UpgradeError {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        match self {
            Self::Method => 405,
            Self::Version => 426,
            Self::Protocol | Self::Key | Self::Subprotocol => 400,
        }
    }

    /// Appends the whole answer. `head_only`: the request was a `HEAD`, so the body is left out
    /// (RFC 9110 section 9.3.2).
    pub fn answer(self, head_only: bool, out: &mut Vec<u8>) {
        let (status, body) = (self.status(), self.message());
        // RFC 6455 section 4.4 and RFC 9110 section 15.5.22: say what is spoken here.
        let (option, spoken) = match self {
            Self::Version => (", Upgrade", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
            _ => ("", ""),
        };
        // Writing to a `Vec` does not fail.
        let _ = write!(
            out,
            "HTTP/1.1 {status} {}\r\nConnection: close{option}\r\nContent-Type: text/html\r\n\
             Content-Length: {}\r\n{spoken}\r\n{}",
            reason_phrase(status),
            body.len(),
            if head_only { "" } else { body }
        );
    }

    fn message(self) -> &'static str {
        match self {
            Self::Method => "Invalid HTTP method",
            Self::Protocol => "Invalid Upgrade header",
            Self::Key => "Missing or invalid Sec-WebSocket-Key header",
            Self::Version => "Missing or invalid Sec-WebSocket-Version header",
            Self::Subprotocol => "Invalid Sec-WebSocket-Protocol header",
        }
    }
}

/// Appends the 101 that ends HTTP on this connection.
pub fn switching_protocols(handshake: &Handshake<'_>, request_id: RequestId, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n",
        handshake.accept_key
    );
    if let Some(protocol) = handshake.protocol {
        let _ = write!(out, "Sec-WebSocket-Protocol: {protocol}\r\n");
    }
    let _ = write!(out, "X-Request-Id: {request_id}\r\n\r\n");
}

/// Appends the refusal of a well-formed handshake (401, 500, 503); close after it.
/// `retry_after_secs` is for 503: overload is never answered 401, because some clients give up for
/// good on that.
pub fn upgrade_refused(
    status: u16,
    message: &str,
    request_id: RequestId,
    retry_after_secs: Option<u32>,
    out: &mut Vec<u8>,
) {
    let reason = reason_phrase(status);
    let _ = write!(
        out,
        "HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: text/plain\r\n\
         Content-Length: 0\r\nX-Request-Id: {request_id}\r\nX-Error-Message: {message}\r\n"
    );
    if let Some(seconds) = retry_after_secs {
        let _ = write!(out, "Retry-After: {seconds}\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// The value of a header that may stand only once.
fn only<'a>(head: &Head<'a>, name: &str) -> Option<&'a [u8]> {
    let mut values = head.headers(name);
    values.next().filter(|_| values.next().is_none())
}

/// Sixteen bytes in base64 have 22 digits and two signs of padding (RFC 6455 section 4.1).
fn is_key(key: &[u8]) -> bool {
    key.strip_suffix(b"==").is_some_and(|digits| {
        let is_digit = |&byte: &u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
        digits.len() == 22 && digits.iter().all(is_digit)
    })
}

/// The first of the offered protocols, after a look at all of them (RFC 6455 section 4.1, item 10).
fn first_protocol<'a>(head: &Head<'a>) -> Result<Option<&'a str>, UpgradeError> {
    let mut protocols: Vec<&'a [u8]> = Vec::new();
    let lists = head.headers("sec-websocket-protocol");
    for protocol in lists.flat_map(|list| list.split(|&byte| byte == b',')) {
        let protocol = protocol.trim_ascii();
        if !is_token(protocol) || protocols.contains(&protocol) {
            return Err(UpgradeError::Subprotocol);
        }
        protocols.push(protocol);
    }
    Ok(protocols.first().and_then(|first| str::from_utf8(first).ok()))
}

/// `token` of RFC 9110 section 5.6.2.
fn is_token(bytes: &[u8]) -> bool {
    let is_token_byte =
        |&byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !bytes.is_empty() && bytes.iter().all(is_token_byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::limits::Limits, protocol::http::parse_head};

    const ID: [u8; 16] = [0; 16];
    const GOOD: [&str; 4] = [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];

    /// The answer to a handshake with other lines in place of those that begin alike; `""` takes a
    /// line away.
    fn answer(method: &str, others: &[(&str, &str)]) -> String {
        let mut lines = GOOD.map(str::to_owned).to_vec();
        for (name, line) in others {
            lines.retain(|good| !good.starts_with(name));
            lines.extend((!line.is_empty()).then(|| (*line).to_owned()));
        }
        let lines = lines.join("\r\n");
        let bytes = format!("{method} /x HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n");
        let (head, _) = parse_head(bytes.as_bytes(), &Limits::default()).unwrap().unwrap();
        assert!(head.upgrade_requested());
        let mut out = Vec::new();
        match check_upgrade(&head) {
            Ok(handshake) => switching_protocols(&handshake, RequestId::new(ID), &mut out),
            Err(error) => error.answer(head.method == "HEAD", &mut out),
        }
        String::from_utf8(out).unwrap()
    }

    fn switched(protocol: &str) -> String {
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{protocol}\
             X-Request-Id: 00000000-0000-4000-8000-000000000000\r\n\r\n"
        )
    }

    fn refused(status: &str, body: &str) -> String {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/html\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
    }

    #[test]
    fn a_good_handshake_is_accepted_in_every_spelling() {
        assert_eq!(answer("GET", &[]), switched(""));
        let spelled = [
            ("Connection", "connection: keep-alive, UPGRADE"),
            ("Upgrade", "UPGRADE: WebSocket"),
            ("Sec-WebSocket-Version", "sec-websocket-version:13"),
        ];
        assert_eq!(answer("GET", &spelled), switched(""));
        assert_eq!(answer("GET", &[("Upgrade", "Upgrade: h2c, websocket")]), switched(""));
    }

    #[test]
    fn the_first_protocol_is_echoed() {
        for offered in ["tok-1", "tok-1, other", "tok-1 ,\tother"] {
            let line = format!("Sec-WebSocket-Protocol: {offered}");
            let echoed = switched("Sec-WebSocket-Protocol: tok-1\r\n");
            assert_eq!(answer("GET", &[("-", &line)]), echoed, "{offered}");
        }
    }

    #[test]
    fn protocols_are_distinct_tokens() {
        for offered in ["a b,,c", "", ",", "a,", ",a", "a,a", "a b", "a\"", "a;b", "\u{e9}"] {
            let line = format!("Sec-WebSocket-Protocol: {offered}");
            assert_eq!(
                answer("GET", &[("-", &line)]),
                refused("400 Bad Request", "Invalid Sec-WebSocket-Protocol header"),
                "{offered}"
            );
        }
    }

    #[test]
    fn another_method_or_protocol_is_refused_as_captured() {
        let expected = refused("405 Method Not Allowed", "Invalid HTTP method");
        for method in ["POST", "OPTIONS"] {
            assert_eq!(answer(method, &[]), expected);
        }
        assert_eq!(Some(&*answer("HEAD", &[])), expected.strip_suffix("Invalid HTTP method"));
        for line in ["Upgrade: h2c", "Upgrade:", "Upgrade: websocket/13", "Upgrade: xwebsocket"] {
            let expected = refused("400 Bad Request", "Invalid Upgrade header");
            assert_eq!(answer("GET", &[("Upgrade", line)]), expected, "{line}");
        }
    }

    #[test]
    fn the_key_is_sixteen_bytes_in_base64_and_stands_once() {
        for key in [
            "",
            "Sec-WebSocket-Key: short",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQA==",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j-_==",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ] {
            assert_eq!(
                answer("GET", &[("Sec-WebSocket-Key", key)]),
                refused("400 Bad Request", "Missing or invalid Sec-WebSocket-Key header"),
                "{key}"
            );
        }
    }

    #[test]
    fn another_version_is_told_ours() {
        for line in ["", "Sec-WebSocket-Version: 8", "Sec-WebSocket-Version: 13, 8"] {
            let answer = answer("GET", &[("Sec-WebSocket-Version", line)]);
            assert!(answer.starts_with("HTTP/1.1 426 Upgrade Required\r\nConnection: close"));
            assert!(answer.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{answer}");
        }
    }

    #[test]
    fn refusals_are_as_captured_and_overload_says_when_to_return() {
        let mut out = Vec::new();
        upgrade_refused(401, "Missing access token", RequestId::new(ID), None, &mut out);
        let expected = "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\n\
                        Content-Type: text/plain\r\nContent-Length: 0\r\n\
                        X-Request-Id: 00000000-0000-4000-8000-000000000000\r\n\
                        X-Error-Message: Missing access token\r\n\r\n";
        assert_eq!(str::from_utf8(&out), Ok(expected));
        out.clear();
        upgrade_refused(503, "Overloaded", RequestId::new(ID), Some(7), &mut out);
        let out = str::from_utf8(&out).unwrap();
        assert!(out.starts_with("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"));
        assert!(out.ends_with("\r\nRetry-After: 7\r\n\r\n"), "{out}");
    }
}
