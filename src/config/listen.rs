//! Where clients connect, and whose word about their address is believed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::env::{self, Origin};
use super::reader::Reader;
use super::typed;

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `BIND` and `PORT`.
    Tcp(SocketAddr),
    /// `SOCKET`: a Unix socket, mode 0666.
    Unix(PathBuf),
}

/// Whether several servers of one user may listen on one port and share its clients
/// (`TRUNKLINE_SHARE_PORT`). A Unix socket is never shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PortSharing {
    /// A port on which somebody listens is an error: a second server would silently take half of
    /// the clients.
    #[default]
    Refused,
    /// For hosts where one process may not have as many descriptors as there are clients.
    Allowed,
}

/// The peers whose `X-Forwarded-For` is believed: address ranges.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TrustedProxies {
    /// Network address and prefix length in bits. IPv4 addresses inside IPv6 are written as IPv4.
    pub ranges: Vec<(IpAddr, u8)>,
}

impl Listen {
    /// `None` after an error.
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        // Port 0 leaves the choice to the kernel: tests want that.
        let parse_port = |text: &str| typed::number(text, &(0..=u16::MAX));
        let port = reader.value(env::PORT, 4000, parse_port, u16::to_string);
        let bind = reader.text(env::BIND);
        let socket = reader.text(env::SOCKET);

        let origin = bind.as_ref().map_or(Origin::Default, |told| told.origin);
        let host = bind.map_or_else(|| "127.0.0.1".to_owned(), |told| told.text);
        let address = parse_host(reader, host.trim());
        if let Some(address) = address {
            reader.record(env::BIND, address.to_string(), origin);
        }
        let origin = socket.as_ref().map_or(Origin::Default, |told| told.origin);
        let path = socket.map(|told| told.text);
        reader.record_optional(env::SOCKET, path.as_ref(), origin);
        match path {
            Some(path) => Some(Self::Unix(check_socket_path(reader, path)?)),
            None => address.map(|address| Self::Tcp(SocketAddr::new(address, port))),
        }
    }
}

impl PortSharing {
    const WORDS: [(&str, Self); 6] = [
        ("no", Self::Refused),
        ("yes", Self::Allowed),
        ("false", Self::Refused),
        ("true", Self::Allowed),
        ("0", Self::Refused),
        ("1", Self::Allowed),
    ];

    pub(super) fn read(reader: &mut Reader) -> Self {
        let parse = |text: &str| typed::word(text, &Self::WORDS);
        let show = |sharing: &Self| typed::show_word(*sharing, &Self::WORDS);
        reader.value(env::TRUNKLINE_SHARE_PORT, Self::default(), parse, show)
    }
}

/// An address, with or without brackets, or a host name that has one.
fn parse_host(reader: &mut Reader, text: &str) -> Option<IpAddr> {
    let host = typed::without_brackets(text);
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    match reader.surroundings.resolve(host) {
        Ok(address) => Some(address),
        Err(_) => {
            reader.error(env::BIND, text, "is neither an address nor a host name that has one");
            None
        }
    }
}

/// `sun_path` of unix(7) holds 108 bytes with the zero at its end.
fn check_socket_path(reader: &mut Reader, path: String) -> Option<PathBuf> {
    const BYTES_MAX: usize = 107;
    if path.len() > BYTES_MAX {
        reader.error(env::SOCKET, &path, format!("is longer than {BYTES_MAX} bytes"));
        return None;
    }
    Some(PathBuf::from(path))
}

impl TrustedProxies {
    const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];
    const LINK_LOCAL: [&str; 2] = ["169.254.0.0/16", "fe80::/10"];
    const UNIQUE_LOCAL: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

    /// Whether a peer's `X-Forwarded-For` is believed.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.ranges.iter().any(|(network, prefix)| masked(address, *prefix) == Some(*network))
    }

    /// The client's address: the rightmost of `X-Forwarded-For` and the peer that is not a trusted
    /// proxy, or the leftmost of all if every one is trusted. What an entry that is no address
    /// stands for is unknown, so the trusted proxy that wrote it counts as the client.
    pub fn client_address(&self, peer: IpAddr, forwarded_for: Option<&str>) -> IpAddr {
        let mut client = peer.to_canonical();
        for entry in forwarded_for.unwrap_or_default().rsplit(',') {
            if !self.contains(client) {
                break;
            }
            match parse_forwarded(entry.trim()) {
                Some(address) => client = address.to_canonical(),
                None => break,
            }
        }
        client
    }

    pub(super) fn read(reader: &mut Reader) -> Self {
        let parse = |text: &str| Self::parse(text).map(|ranges| (text.to_owned(), ranges));
        let default = "loopback, uniquelocal";
        let ranges = Self::parse(default).unwrap_or_default();
        let default = (default.to_owned(), ranges);
        let (_, ranges) =
            reader.value(env::TRUSTED_PROXY_IP, default, parse, |(text, _)| text.clone());
        Self { ranges }
    }

    /// Reads addresses, ranges and names of ranges, split at commas and spaces.
    fn parse(text: &str) -> Result<Vec<(IpAddr, u8)>, String> {
        const WANTED: &str = "must hold addresses, ranges such as 10.0.0.0/8, and the names \
                              loopback, linklocal and uniquelocal only";
        let mut ranges = Vec::new();
        let separator = |c: char| c == ',' || c.is_whitespace();
        for item in text.split(separator).filter(|item| !item.is_empty()) {
            let named: &[&str] = match item {
                "loopback" => &Self::LOOPBACK,
                "linklocal" => &Self::LINK_LOCAL,
                "uniquelocal" => &Self::UNIQUE_LOCAL,
                _ => &[item],
            };
            for range in named {
                ranges.push(parse_range(range).ok_or(WANTED)?);
            }
        }
        Ok(ranges)
    }
}

/// `address`, `address/bits` or `address/netmask`.
fn parse_range(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let given: IpAddr = typed::without_brackets(address).parse().ok()?;
    let address = given.to_canonical();
    let width_given = if given.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => width_given,
        Some(mask) if mask.contains('.') && given.is_ipv4() => {
            let mask = u32::from(mask.parse::<std::net::Ipv4Addr>().ok()?);
            Some(mask.leading_ones()).filter(|ones| mask.count_ones() == *ones)?
        }
        Some(bits) => typed::number(bits, &(0..=width_given)).ok()?,
    };
    // ::ffff:10.0.0.0/104 is 10.0.0.0/8; a shorter prefix would span more than IPv4.
    let prefix = if given == address { prefix } else { prefix.checked_sub(96)? };
    let prefix = u8::try_from(prefix).ok()?;
    Some((masked(address, prefix)?, prefix))
}

/// The address with all but its first bits zero; `None` if it has fewer bits than that.
fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => {
            let host_bits = 32_u32.checked_sub(prefix.into())?;
            let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let host_bits = 128_u32.checked_sub(prefix.into())?;
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    })
}

/// An entry of `X-Forwarded-For`; some proxies add a port.
fn parse_forwarded(entry: &str) -> Option<IpAddr> {
    let address = typed::without_brackets(entry).parse().ok();
    address.or_else(|| entry.parse::<SocketAddr>().ok().map(|with_port| with_port.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> TrustedProxies {
        TrustedProxies { ranges: TrustedProxies::parse("loopback, uniquelocal").unwrap() }
    }

    fn client(peer: &str, forwarded_for: &str) -> String {
        proxies().client_address(peer.parse().unwrap(), Some(forwarded_for)).to_string()
    }

    #[test]
    fn the_client_is_the_rightmost_address_that_is_no_trusted_proxy() {
        for (peer, forwarded_for, expected) in [
            ("127.0.0.1", "203.0.113.7", "203.0.113.7"),
            ("::ffff:127.0.0.1", "203.0.113.7", "203.0.113.7"),
            ("127.0.0.1", "6.6.6.6, 203.0.113.7 , 10.0.0.1", "203.0.113.7"),
            ("127.0.0.1", "10.0.0.9,10.0.0.1", "10.0.0.9"),
            ("127.0.0.1", "::ffff:203.0.113.7", "203.0.113.7"),
            ("127.0.0.1", "203.0.113.7:4711", "203.0.113.7"),
            ("127.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
            ("127.0.0.1", "[2001:db8::1]", "2001:db8::1"),
        ] {
            assert_eq!(client(peer, forwarded_for), expected, "{peer} {forwarded_for}");
        }
    }

    #[test]
    fn a_peer_that_is_not_trusted_names_nobody() {
        assert_eq!(client("198.51.100.1", "203.0.113.7"), "198.51.100.1");
    }

    #[test]
    fn what_is_no_address_ends_the_search_at_the_proxy_that_wrote_it() {
        assert_eq!(client("127.0.0.1", ""), "127.0.0.1");
        assert_eq!(client("127.0.0.1", "203.0.113.7, unknown"), "127.0.0.1");
        assert_eq!(client("127.0.0.1", "unknown, 10.0.0.1"), "10.0.0.1");
    }

    proptest::proptest! {
        #[test]
        fn a_range_contains_exactly_the_addresses_with_its_first_bits(
            network in proptest::num::u128::ANY,
            other in proptest::num::u128::ANY,
            prefix in 1_u8..=128,
            flipped in 0_u32..128,
        ) {
            // Outside of the block that is read as IPv4.
            let (network, other) = (network | 1 << 127, other | 1 << 127);
            let host_mask = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
            let text = format!("{}/{prefix}", std::net::Ipv6Addr::from(network));
            let proxies = TrustedProxies { ranges: TrustedProxies::parse(&text).unwrap() };
            let inside = (network & !host_mask) | (other & host_mask);
            let contains = |address: u128| {
                proxies.contains(std::net::Ipv6Addr::from(address).into())
            };
            proptest::prop_assert!(contains(inside));
            let flipped = flipped.min(126);
            let changed = inside ^ (1 << flipped);
            proptest::prop_assert_eq!(contains(changed), flipped < 128 - u32::from(prefix));
        }
    }
}
