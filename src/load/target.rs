//! Where the server is, and sockets on their way there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, socket_with, sockopt,
};

/// Connections from one source address: far below the number of ports that the kernel hands out,
/// those of earlier connections (which it keeps for a minute) included.
const CONNECTIONS_PER_SOURCE: u32 = 1000;

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Target {
    /// Reads `http://host:port` or `unix:/path`.
    ///
    /// # Errors
    /// It is neither, or the host has no address.
    pub fn parse(url: &str) -> Result<Target, String> {
        if let Some(path) = url.strip_prefix("unix:") {
            return Ok(Target::Unix(path.trim_start_matches("//").into()));
        }
        let place = url.strip_prefix("http://").ok_or("neither http:// nor unix:")?;
        let place = place.trim_end_matches('/');
        let place = if place.contains(':') { place.to_owned() } else { format!("{place}:80") };
        let addresses = place.to_socket_addrs().map_err(|error| error.to_string())?;
        addresses.map(Target::Tcp).next().ok_or_else(|| "no address".to_owned())
    }

    /// The value of a `Host` header.
    pub fn host(&self) -> String {
        match self {
            Target::Tcp(address) => address.to_string(),
            Target::Unix(_) => "localhost".to_owned(),
        }
    }

    /// A non-blocking socket that connects, from a source address of client `number`'s own block if
    /// the server is on 127.0.0.0/8.
    ///
    /// # Errors
    /// What the kernel says; `EAGAIN` for a Unix socket whose queue is full.
    pub fn connect(&self, number: u32) -> io::Result<OwnedFd> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let family = match self {
            Target::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
            Target::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
            Target::Unix(_) => AddressFamily::UNIX,
        };
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        let outcome = match self {
            Target::Tcp(address) => {
                sockopt::set_tcp_nodelay(&socket, true)?;
                if let Some(source) = source(address.ip(), number) {
                    bind(&socket, &source)?;
                }
                connect(&socket, address)
            }
            Target::Unix(path) => connect(&socket, &SocketAddrUnix::new(path)?),
        };
        match outcome {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error.into()),
        }
    }
}

/// 127.1.0.1 and on, so that addresses in use for other things stay free.
fn source(server: IpAddr, client: u32) -> Option<SocketAddr> {
    let IpAddr::V4(server) = server else { return None };
    if !server.is_loopback() {
        return None;
    }
    let block = client / CONNECTIONS_PER_SOURCE;
    let (third, fourth) = ((block / 250 % 250) as u8, (block % 250) as u8 + 1);
    Some(SocketAddr::new(Ipv4Addr::new(127, 1, third, fourth).into(), 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        let tcp = Target::parse("http://127.0.0.1:4000/").unwrap();
        assert_eq!(tcp, Target::Tcp("127.0.0.1:4000".parse().unwrap()));
        assert_eq!(Target::parse("unix:/run/a"), Ok(Target::Unix("/run/a".into())));
        assert!(Target::parse("ftp://a").is_err());
    }

    #[test]
    fn a_thousand_clients_share_a_source_address() {
        let server: IpAddr = "127.0.0.1".parse().unwrap();
        let source_of = |client| source(server, client).unwrap().ip().to_string();
        assert_eq!(source_of(0), "127.1.0.1");
        assert_eq!(source_of(999), "127.1.0.1");
        assert_eq!(source_of(1000), "127.1.0.2");
        assert_eq!(source_of(250_000), "127.1.1.1");
        assert_eq!(source("192.0.2.1".parse().unwrap(), 0), None);
    }
}
