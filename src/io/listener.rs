//! Where clients connect: one listening socket per shard on one port (SO_REUSEPORT, the kernel
//! spreads connections), or one Unix socket that all shards accept from.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrUnix,
    SocketFlags, SocketType, accept_with, bind, connect, getpeername, getsockname, listen, recv,
    send, sendmsg, shutdown, socket_with, sockopt,
};

use crate::config::{Listen, PortSharing};
use crate::hub::outbox::WRITE_PARTS_MAX;
use crate::hub::shard::{Sent, Socket};

/// Connections that the kernel may hold for us until they are accepted; it cuts this at
/// `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

/// The mode of a Unix socket: whoever may enter its directory may connect, as with the Node server.
const UNIX_SOCKET_MODE: u32 = 0o666;

/// The listening sockets of all shards, bound but not yet accepted from.
pub struct Listeners {
    /// One for each shard.
    pub sockets: Vec<Listener>,
    /// Where they listen, as the log says it.
    pub address: String,
    /// To be removed at the end.
    pub unix_path: Option<PathBuf>,
}

/// One shard's listening socket.
pub struct Listener {
    socket: OwnedFd,
}

/// A client's socket.
pub struct ClientSocket(OwnedFd);

impl Listeners {
    /// Binds for `shards` shards. Errors name what is wrong: the address is in use, not ours, not
    /// allowed. `unacknowledged_max`: how long the kernel may wait for a client to acknowledge.
    pub fn bind(
        listen_on: &Listen,
        sharing: PortSharing,
        shards: usize,
        unacknowledged_max: Duration,
    ) -> io::Result<Listeners> {
        match listen_on {
            Listen::Tcp(address) => bind_tcp(*address, sharing, shards, unacknowledged_max),
            Listen::Unix(path) => bind_unix(path, shards),
        }
    }
}

impl Listener {
    /// Accepts a connection.
    pub fn accept(&self) -> Accepted {
        match accept_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(socket) => Accepted::Socket(ClientSocket(socket)),
            Err(error) => not_accepted(error),
        }
    }
}

/// What an error of accept(2) means: that one connection is lost, or that no more can be had.
fn not_accepted(error: Errno) -> Accepted {
    let trouble = match error {
        Errno::AGAIN => return Accepted::Nobody,
        // Linux passes on what became of the connection while it waited.
        Errno::INTR
        | Errno::CONNABORTED
        | Errno::PROTO
        | Errno::NOPROTOOPT
        | Errno::OPNOTSUPP
        | Errno::NETDOWN
        | Errno::NETUNREACH
        | Errno::HOSTDOWN
        | Errno::HOSTUNREACH
        | Errno::NONET
        | Errno::TIMEDOUT => return Accepted::Gone,
        Errno::MFILE | Errno::NFILE => Trouble::Descriptors,
        Errno::NOBUFS | Errno::NOMEM => Trouble::Memory,
        _ => Trouble::Other,
    };
    Accepted::Failed(trouble, error.into())
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What became of a [`Listener::accept`].
pub enum Accepted {
    /// A client.
    Socket(ClientSocket),
    /// None waits.
    Nobody,
    /// The one that waited is gone; there may be others.
    Gone,
    /// Some may wait; it is another door's turn.
    NotNow,
    /// The kernel cannot.
    Failed(Trouble, io::Error),
}

/// What the kernel lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The process, or the whole system, has as many files open as it may.
    Descriptors,
    /// Memory.
    Memory,
    /// Something that should not happen.
    Other,
}

impl Trouble {
    /// The label of metrics.
    pub fn label(self) -> &'static str {
        match self {
            Trouble::Descriptors => "descriptors",
            Trouble::Memory => "memory",
            Trouble::Other => "other",
        }
    }
}

/// What became of a [`ClientSocket::receive`].
pub enum Received {
    /// So many bytes, at least one.
    Bytes(usize),
    /// None now.
    Blocked,
    /// The client will send no more, or the socket is broken.
    Ended,
    /// The client has acknowledged nothing for too long.
    Unreachable,
}

impl ClientSocket {
    /// Reads what there is, up to the length of `buffer`.
    pub fn receive(&self, buffer: &mut [u8]) -> Received {
        loop {
            return match recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => Received::Ended,
                Ok((count, _)) => Received::Bytes(count),
                Err(Errno::AGAIN) => Received::Blocked,
                Err(Errno::INTR) => continue,
                Err(Errno::TIMEDOUT | Errno::HOSTUNREACH | Errno::NETUNREACH) => {
                    Received::Unreachable
                }
                Err(_) => Received::Ended,
            };
        }
    }
}

impl AsFd for ClientSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRef<ClientSocket> for ClientSocket {
    fn as_ref(&self) -> &ClientSocket {
        self
    }
}

impl Socket for ClientSocket {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        sent(|flags| send(&self.0, bytes, flags))
    }

    fn send_parts(&mut self, parts: &[&[u8]]) -> Sent {
        if let &[part] = parts {
            return self.send(part);
        }
        let mut slices = [IoSlice::new(&[]); WRITE_PARTS_MAX];
        for (slice, part) in slices.iter_mut().zip(parts) {
            *slice = IoSlice::new(part);
        }
        let slices = slices.get(..parts.len()).unwrap_or_default();
        sent(|flags| sendmsg(&self.0, slices, &mut SendAncillaryBuffer::default(), flags))
    }

    fn shut(&mut self) {
        // A socket that the peer has reset already cannot be shut, and need not be.
        let _ = shutdown(&self.0, Shutdown::Write);
    }

    fn peer(&self) -> Option<IpAddr> {
        let address = SocketAddr::try_from(getpeername(&self.0).ok()??).ok()?;
        Some(address.ip())
    }
}

/// What became of an attempt to send.
fn sent(attempt: impl Fn(SendFlags) -> rustix::io::Result<usize>) -> Sent {
    loop {
        return match attempt(SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) if count > 0 => Sent::Bytes(count),
            Ok(_) | Err(Errno::AGAIN) => Sent::Blocked,
            Err(Errno::NOBUFS | Errno::NOMEM) => Sent::Starved,
            Err(Errno::INTR) => continue,
            Err(_) => Sent::Broken,
        };
    }
}

fn bind_tcp(
    address: SocketAddr,
    sharing: PortSharing,
    shards: usize,
    unacknowledged_max: Duration,
) -> io::Result<Listeners> {
    let unacknowledged_millis = u32::try_from(unacknowledged_max.as_millis()).unwrap_or(u32::MAX);
    // With SO_REUSEPORT a second server of the same user would silently take half of the clients. A
    // socket without it finds out whether anybody is there.
    let probe = tcp_socket(address)?;
    if sharing == PortSharing::Allowed {
        sockopt::set_socket_reuseport(&probe, true)?;
    }
    bind(&probe, &address)?;
    let address = match SocketAddr::try_from(getsockname(&probe)?) {
        Ok(bound) => bound,
        Err(_) => address,
    };
    drop(probe);
    let mut sockets = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = tcp_socket(address)?;
        sockopt::set_socket_reuseport(&socket, true)?;
        // What is accepted inherits both (tcp(7)): two system calls less for each client.
        sockopt::set_tcp_nodelay(&socket, true)?;
        sockopt::set_tcp_user_timeout(&socket, unacknowledged_millis)?;
        bind(&socket, &address)?;
        listen(&socket, BACKLOG)?;
        sockets.push(Listener { socket });
    }
    Ok(Listeners { sockets, address: address.to_string(), unix_path: None })
}

fn tcp_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    Ok(socket)
}

fn bind_unix(path: &Path, shards: usize) -> io::Result<Listeners> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match bind(&socket, &address) {
        Err(Errno::ADDRINUSE) => {
            remove_stale(path, &address)?;
            bind(&socket, &address)?;
        }
        other => other?,
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(UNIX_SOCKET_MODE))?;
    listen(&socket, BACKLOG)?;
    let mut sockets = Vec::with_capacity(shards);
    for _ in 0..shards {
        sockets.push(Listener { socket: socket.try_clone()? });
    }
    let shown = path.display().to_string();
    Ok(Listeners { sockets, address: shown, unix_path: Some(path.to_owned()) })
}

/// A socket file on which nobody listens is what a killed server leaves behind.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&probe, address) {
        Err(Errno::CONNREFUSED) => std::fs::remove_file(path),
        _ => Err(io::Error::from(Errno::ADDRINUSE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::poller;

    const ALONE: PortSharing = PortSharing::Refused;
    const SECS: Duration = Duration::from_secs(7);

    #[test]
    fn a_port_in_use_is_an_error_although_ports_are_shared() {
        let any = "127.0.0.1:0".parse().unwrap();
        let first = Listeners::bind(&Listen::Tcp(any), ALONE, 2, SECS).unwrap();
        let taken = first.address.parse().unwrap();
        let error = Listeners::bind(&Listen::Tcp(taken), ALONE, 2, SECS).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_port_is_shared_with_another_server_only_on_demand() {
        let bind = |address: &str, sharing| {
            Listeners::bind(&Listen::Tcp(address.parse().unwrap()), sharing, 2, SECS)
        };
        let first = bind("127.0.0.1:0", PortSharing::Allowed).unwrap();
        let second = bind(&first.address, PortSharing::Allowed).unwrap();
        assert_eq!(second.address, first.address);
        assert!(bind(&first.address, ALONE).is_err());
    }

    #[test]
    fn clients_sockets_inherit_what_the_listener_was_told() {
        let any = "127.0.0.1:0".parse().unwrap();
        let listeners = Listeners::bind(&Listen::Tcp(any), ALONE, 1, SECS).unwrap();
        let _client = std::net::TcpStream::connect(&listeners.address).unwrap();
        let listener = &listeners.sockets[0];
        poller::wait_for_either(listener.as_fd(), None, Duration::from_secs(60)).unwrap();
        let accepted = listener.accept();
        let Accepted::Socket(socket) = accepted else { panic!("nobody has come") };
        assert!(sockopt::tcp_nodelay(&socket).unwrap());
        assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), 7000);
    }

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() {
        let directory =
            std::env::temp_dir().join(format!("trunkline-listen-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("socket");
        let listen_on = Listen::Unix(path.clone());
        let first = Listeners::bind(&listen_on, ALONE, 1, SECS).unwrap();
        assert!(Listeners::bind(&listen_on, ALONE, 1, SECS).is_err());
        drop(first);
        let second = Listeners::bind(&listen_on, ALONE, 1, SECS).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        drop(second);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
