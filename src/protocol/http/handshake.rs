//! The opening handshake of a WebSocket (RFC 6455 section 4.2) and the answers to it.

use std::io::Write;

use tungstenite::handshake::derive_accept_key;

use super::{Head, RequestId, reason_phrase};

/// A handshake that may be accepted.
#[derive(Clone, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// The value for `Sec-WebSocket-Accept`.
    pub accept_key: String,
    /// The first protocol that the client offered, to be echoed. It may be an access token: never log it.
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

/// Why an upgrade is no WebSocket handshake; the client's doing. Close after the answer: a failed upgrade must not
/// leave a tunnel through a proxy that looked at the request alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpgradeError {
    /// Another method than `GET`: 405.
    Method,
    /// `Upgrade` does not list `websocket`: 400.
    Protocol,
    /// `Sec-WebSocket-Key` is missing, doubled or not 16 bytes in base64: 400.
    Key,
    /// Another version than 13: 426. (The Node server takes 8 as well, which nothing has spoken since 2011.)
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

    /// Appends the whole answer.
    pub fn answer(self, out: &mut Vec<u8>) {
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
             Content-Length: {}\r\n{spoken}\r\n{body}",
            reason_phrase(status),
            body.len()
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

/// Appends the refusal of a well-formed handshake (401, 500, 503); close after it. `retry_after_secs` is for 503:
/// overload is never answered 401, because some clients give up for good on that.
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
