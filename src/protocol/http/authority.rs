//! The host and port of a request, as `Host` and an absolute target give them.

use std::net::Ipv6Addr;

/// `uri-host [ ":" port ]` (RFC 9110 section 7.2; RFC 3986 sections 3.2.2 and 3.2.3). The host may
/// be empty: a URL without one sends an empty `Host`.
pub(super) fn is_authority(text: &str) -> bool {
    let (is_host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok(), port),
            None => return false,
        },
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (is_registered_name(name.as_bytes()), port)
        }
    };
    is_host && is_port(port)
}

/// The same for a URL, where the host must not be empty (RFC 9110 section 4.2.1).
pub(super) fn is_authority_of_url(text: &str) -> bool {
    !text.is_empty() && !text.starts_with(':') && is_authority(text)
}

fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => text.is_empty(),
    }
}

/// `reg-name`, which covers IPv4 addresses: unreserved and sub-delims, or percent-encoded.
fn is_registered_name(mut name: &[u8]) -> bool {
    while let [byte, rest @ ..] = name {
        name = match (byte, rest) {
            (b'%', [high, low, rest @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                rest
            }
            _ if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(byte) => rest,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for text in [
            "a",
            "a.example:4000",
            "a:",
            "a_b",
            "a%2Db",
            "192.0.2.1:80",
            "[::1]",
            "[2001:db8::1]:80",
            "xn--bcher-kva.example",
        ] {
            assert!(is_authority(text) && is_authority_of_url(text), "{text}");
        }
        for text in [
            "a b",
            "a/b",
            "user@a",
            "a, b",
            "a\"",
            "é",
            "a:80:80",
            "a:8o",
            "a:-1",
            "[::1",
            "::1]",
            "[]",
            "[x]",
            "[::1]80",
            "[::1]x:80",
            "a[b]",
            "a%",
            "a%2",
            "a%zz",
            "a|b",
        ] {
            assert!(!is_authority(text) && !is_authority_of_url(text), "{text}");
        }
        for text in ["", ":", ":80"] {
            assert!(is_authority(text) && !is_authority_of_url(text), "{text}");
        }
    }
}
