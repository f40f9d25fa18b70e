//! A non-blocking connection to a server of ours (Redis, a sentinel, Postgres): TCP or Unix, plain
//! or TLS, with a buffer for each direction.
//!
//! ```text
//! connect ─► connecting ──► [TLS handshake] ──► established ──► ended
//!                 │                │                 │
//!                 └────────────────┴──── error ──────┘   the caller drops it and connects anew
//! ```
//!
//! Whoever owns it calls [`Upstream::pump`] when its key is ready, and after [`Upstream::send`].
//! Deadlines are the owner's: this type reads no clock.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::poller::Poller;

/// Bytes asked of the kernel at once. A busy Redis fills it with some fifteen statuses; messages
/// are cut out of it without copying, so that it lives as long as the last of them.
const READ_BYTES: usize = 64 * 1024;
/// With less space than this left, new space is taken rather than reading in small bites.
const READ_BYTES_MIN: usize = 4 * 1024;
/// Bytes that one [`Upstream::pump`] reads before others get their turn: a flood of a few hundred
/// statuses.
const PUMP_BYTES_MAX: usize = 1024 * 1024;
/// Silence on a TCP connection before the kernel probes the peer, between two probes, and how many
/// may be lost: a peer that is gone is noticed within a minute even where no deadline is running.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_PROBES: u32 = 3;

/// Where a server listens, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Endpoint::Tcp(address) => write!(formatter, "{address}"),
            Endpoint::Unix(path) => write!(formatter, "{}", path.display()),
        }
    }
}

/// What one [`Upstream::pump`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Pumped {
    /// The socket is connected and TLS, if any, is done.
    pub established: bool,
    /// There are new bytes in [`Upstream::input`].
    pub received: bool,
    /// The server will send no more: use what is in [`Upstream::input`], then drop the connection.
    pub ended: bool,
    /// Reading stopped at the bound, not because the socket was empty: no new edge will come, so
    /// pump again in the next turn.
    pub more: bool,
}

/// A connection to a server. Dropping it closes it.
pub struct Upstream {
    socket: OwnedFd,
    /// The three-way handshake is over.
    connected: bool,
    /// The server has said that it will send no more.
    ended: bool,
    /// What broke the connection after the last bytes that were handed out.
    failure: Option<io::Error>,
    tls: Option<Box<ClientConnection>>,
    /// Received, not yet used by the owner; plain text.
    input: BytesMut,
    /// Initialised memory behind `input`, usually in the same allocation: what is read there joins
    /// `input` without being copied. Never longer than [`READ_BYTES`].
    space: BytesMut,
    /// To be sent: plain text.
    output: BytesMut,
}

impl Upstream {
    /// Starts to connect, without waiting, and registers the socket once under `key`.
    ///
    /// Errors: what the kernel refuses at once (a Unix socket that is not there, a network that is
    /// unreachable, no descriptors). Later refusals come from [`Upstream::pump`].
    pub fn connect(endpoint: &Endpoint, poller: &Poller, key: u64) -> io::Result<Upstream> {
        let (socket, started) = match endpoint {
            Endpoint::Tcp(address) => {
                let family =
                    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let socket = open(family)?;
                make_lively(&socket)?;
                let started = net::connect(&socket, address);
                (socket, started)
            }
            Endpoint::Unix(path) => {
                let address = SocketAddrUnix::new(path.as_path())?;
                let socket = open(AddressFamily::UNIX)?;
                let started = net::connect(&socket, &address);
                (socket, started)
            }
        };
        let connected = match started {
            Ok(()) => true,
            Err(Errno::INPROGRESS | Errno::INTR) => false,
            Err(errno) => return Err(failure("connect", errno)),
        };
        poller.add(&socket, key)?;
        Ok(Upstream {
            socket,
            connected,
            ended: false,
            failure: None,
            tls: None,
            input: BytesMut::new(),
            space: BytesMut::new(),
            output: BytesMut::new(),
        })
    }

    /// From here on everything is encrypted. Called right after [`Upstream::connect`], or later,
    /// when the server has agreed in plain text and everything sent before is out; then call
    /// [`Upstream::pump`].
    ///
    /// Errors: there is plain text left in either direction (somebody in the middle may have put it
    /// there), TLS is on already, or the configuration does not fit.
    pub fn start_tls(
        &mut self,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> io::Result<()> {
        if self.tls.is_some() || !self.input.is_empty() || !self.output.is_empty() {
            let text = "TLS: there is plain text where the handshake should begin";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let session = ClientConnection::new(config, name).map_err(tls_failure)?;
        self.tls = Some(Box::new(session));
        Ok(())
    }

    /// Reads and writes all that is possible (reading up to a bound, see [`Pumped::more`]).
    ///
    /// Errors: the connection is unusable; the text says whether connecting, TLS, reading or
    /// writing failed and why. Bytes that came before the failure are handed out first, so that a
    /// server's last words are heard. The end of the stream is no error, it is [`Pumped::ended`].
    pub fn pump(&mut self) -> io::Result<Pumped> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        if !self.connected && !self.finish_connecting()? {
            return Ok(Pumped::default());
        }
        let before = self.input.len();
        let written = self.write();
        let read = self.read();
        // What was read may call for an answer of TLS, or have ended its handshake.
        let outcome = written.and(read).and_then(|more| self.write().map(|()| more));
        let received = self.input.len() > before;
        let more = match outcome {
            Ok(more) => more,
            Err(failure) if received => {
                self.failure = Some(failure);
                true
            }
            Err(failure) => return Err(failure),
        };
        let established = self.is_established();
        Ok(Pumped { established, received, ended: self.ended, more })
    }

    /// What was received and not yet used; the owner splits off what it has understood.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Puts bytes behind what is still to be sent; [`Upstream::pump`] sends them (once
    /// established).
    pub fn send(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Bytes that were given to [`Upstream::send`] and have not reached the kernel (or the TLS
    /// session).
    pub fn unsent(&self) -> usize {
        self.output.len()
    }

    /// The socket is connected and TLS, if any, is done.
    pub fn is_established(&self) -> bool {
        self.connected && self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking())
    }

    /// What it is waiting for while it is not established, for the text of a time-out.
    pub fn awaits(&self) -> &'static str {
        if self.connected { "TLS: handshake" } else { "connect" }
    }

    /// TLS has been started.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Is the connection attempt over? `false`: still waiting for the server's kernel.
    fn finish_connecting(&mut self) -> io::Result<bool> {
        if let Err(errno) = net::sockopt::socket_error(&self.socket)? {
            return Err(failure("connect", errno));
        }
        match net::getpeername(&self.socket) {
            Ok(_) => self.connected = true,
            Err(Errno::NOTCONN) => {}
            Err(errno) => return Err(failure("connect", errno)),
        }
        Ok(self.connected)
    }

    /// Reads until the socket is empty (`false`) or the bound is reached (`true`).
    fn read(&mut self) -> io::Result<bool> {
        let mut read = 0;
        while read < PUMP_BYTES_MAX && !self.ended {
            let count = match self.tls.take() {
                None => self.receive(|space, mut wire| wire.read(space)),
                Some(mut tls) => {
                    let count = self.receive_encrypted(&mut tls);
                    self.tls = Some(tls);
                    count
                }
            };
            match count {
                Ok(0) => self.ended = true,
                Ok(count) => read += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if self.ended && self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            let text = "TLS: the server hung up during the handshake";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        Ok(!self.ended)
    }

    /// One read into the space behind `input`; what was read joins `input`.
    fn receive(
        &mut self,
        read: impl FnOnce(&mut [u8], Wire<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.space.len() < READ_BYTES_MIN {
            self.space = BytesMut::zeroed(READ_BYTES);
        }
        let count = read(&mut self.space, Wire(&self.socket))?;
        if count > 0 {
            let received = self.space.split_to(count);
            self.input.unsplit(received);
        }
        Ok(count)
    }

    /// One read from the socket through TLS; returns the encrypted bytes, 0 at the end.
    fn receive_encrypted(&mut self, tls: &mut ClientConnection) -> io::Result<usize> {
        let count = tls.read_tls(&mut Wire(&self.socket))?;
        if let Err(error) = tls.process_new_packets() {
            // The alert that tells the server why; whether it arrives does not matter any more.
            let _ = tls.write_tls(&mut Wire(&self.socket));
            return Err(tls_failure(error));
        }
        loop {
            match self.receive(|space, _| tls.reader().read(space)) {
                // The server has said good-bye in TLS; nothing that follows can be trusted.
                Ok(0) => return Ok(0),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes until nothing is left or the kernel takes no more.
    fn write(&mut self) -> io::Result<()> {
        let written = match &mut self.tls {
            None => write_plain(&mut self.output, Wire(&self.socket)),
            Some(tls) => write_encrypted(&mut self.output, tls, Wire(&self.socket)),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }
}

impl AsFd for Upstream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The socket as rustls wants it.
struct Wire<'a>(&'a OwnedFd);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match rustix::io::retry_on_intr(|| net::recv(self.0, &mut *buffer, RecvFlags::empty())) {
            Ok((count, _)) => Ok(count),
            Err(errno) => Err(failure("read", errno)),
        }
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        rustix::io::retry_on_intr(|| net::send(self.0, bytes, SendFlags::NOSIGNAL))
            .map_err(|errno| failure("write", errno))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write_plain(output: &mut BytesMut, mut wire: Wire<'_>) -> io::Result<()> {
    while !output.is_empty() {
        let count = wire.write(output)?;
        output.advance(count);
    }
    Ok(())
}

fn write_encrypted(
    output: &mut BytesMut,
    tls: &mut ClientConnection,
    mut wire: Wire<'_>,
) -> io::Result<()> {
    loop {
        if !tls.is_handshaking() && !output.is_empty() {
            // Takes as much as its own bounded buffer holds.
            let count = tls.writer().write(output)?;
            output.advance(count);
        }
        if !tls.wants_write() {
            return Ok(());
        }
        tls.write_tls(&mut wire)?;
    }
}

fn open(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    net::socket_with(family, SocketType::STREAM, flags, None)
        .map_err(|errno| failure("socket", errno))
}

/// Small commands go out at once, and the kernel looks after a silent connection.
fn make_lively(socket: &OwnedFd) -> io::Result<()> {
    net::sockopt::set_tcp_nodelay(socket, true)?;
    net::sockopt::set_socket_keepalive(socket, true)?;
    net::sockopt::set_tcp_keepidle(socket, KEEP_ALIVE_IDLE)?;
    net::sockopt::set_tcp_keepintvl(socket, KEEP_ALIVE_INTERVAL)?;
    net::sockopt::set_tcp_keepcnt(socket, KEEP_ALIVE_PROBES)?;
    Ok(())
}

/// The kernel's error, with what was being done in front.
fn failure(doing: &str, errno: Errno) -> io::Error {
    let error = io::Error::from(errno);
    if error.kind() == io::ErrorKind::WouldBlock {
        return error;
    }
    io::Error::new(error.kind(), format!("{doing}: {error}"))
}

/// What rustls found wrong: certificate, name, protocol.
fn tls_failure(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("TLS: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::config::tls::Roots;
    use crate::io::tls::{Verification, client_config, server_name};

    const KEY: u64 = 9;

    fn connected() -> (Poller, Upstream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let poller = Poller::new(8).unwrap();
        let endpoint = Endpoint::Tcp(listener.local_addr().unwrap());
        let upstream = Upstream::connect(&endpoint, &poller, KEY).unwrap();
        let (peer, _) = listener.accept().unwrap();
        (poller, upstream, peer)
    }

    /// Pumps at each edge, and only then, until the condition holds.
    fn pump_until(
        poller: &mut Poller,
        upstream: &mut Upstream,
        mut condition: impl FnMut(&mut Upstream, Pumped) -> bool,
    ) -> io::Result<()> {
        let mut more = false;
        loop {
            let pause = if more { Duration::ZERO } else { Duration::from_secs(20) };
            let count = poller.wait(Some(pause)).unwrap();
            assert!(more || count > 0, "no edge");
            let pumped = upstream.pump()?;
            if condition(upstream, pumped) {
                return Ok(());
            }
            more = pumped.more;
        }
    }

    #[test]
    fn bytes_go_both_ways_and_edges_suffice() {
        let (mut poller, mut upstream, mut peer) = connected();
        upstream.send(b"ping");
        assert_eq!(upstream.unsent(), 4);
        pump_until(&mut poller, &mut upstream, |upstream, _| upstream.unsent() == 0).unwrap();
        let mut bytes = [0; 4];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"ping");
        peer.write_all(b"pong").unwrap();
        pump_until(&mut poller, &mut upstream, |_, pumped| pumped.received).unwrap();
        assert_eq!(&upstream.input()[..], b"pong");
    }

    #[test]
    fn a_flood_is_read_in_bounded_turns_and_to_the_end() {
        const BYTES: usize = 5 * PUMP_BYTES_MAX + 7;
        let (mut poller, mut upstream, mut peer) = connected();
        let writer = std::thread::spawn(move || {
            let bytes: Vec<u8> = (0..BYTES).map(|at| (at % 251) as u8).collect();
            peer.write_all(&bytes).unwrap();
        });
        let mut taken = 0;
        pump_until(&mut poller, &mut upstream, |upstream, pumped| {
            let input = upstream.input().split();
            assert!(input.len() <= PUMP_BYTES_MAX + READ_BYTES);
            let mut expected = (taken..).map(|at| (at % 251) as u8);
            assert!(input.iter().all(|byte| Some(*byte) == expected.next()));
            taken += input.len();
            pumped.ended
        })
        .unwrap();
        assert_eq!(taken, BYTES);
        writer.join().unwrap();
    }

    #[test]
    fn the_last_words_are_heard_before_the_failure() {
        let (mut poller, mut upstream, mut peer) = connected();
        pump_until(&mut poller, &mut upstream, |_, pumped| pumped.established).unwrap();
        peer.write_all(b"-ERR max number of clients reached\r\n").unwrap();
        // Unread bytes turn the end into a reset.
        upstream.send(b"AUTH");
        let _ = upstream.write();
        drop(peer);
        // As its owners do: what is there is read after a good turn only.
        let mut heard = Vec::new();
        let failure = loop {
            match upstream.pump() {
                Ok(pumped) if pumped.ended => break None,
                Ok(_) => heard.extend_from_slice(&upstream.input().split()),
                Err(error) => break Some(error.to_string()),
            }
        };
        assert!(failure.is_none_or(|text| text.starts_with("read: Connection reset")));
        assert_eq!(heard, b"-ERR max number of clients reached\r\n");
    }

    #[test]
    fn a_refused_connection_says_so() {
        let poller = Poller::new(8).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut poller = poller;
        let refused = Upstream::connect(&Endpoint::Tcp(address), &poller, KEY)
            .and_then(|mut upstream| pump_until(&mut poller, &mut upstream, |_, _| false));
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(error.to_string(), "connect: Connection refused (os error 111)");
        let nowhere = Endpoint::Unix("/nowhere/socket".into());
        let error = Upstream::connect(&nowhere, &poller, KEY).err().unwrap();
        assert_eq!(error.to_string(), "connect: No such file or directory (os error 2)");
    }

    #[test]
    fn a_unix_socket_is_established_at_once() {
        let path = std::env::temp_dir().join(format!("upstream-{}", std::process::id()));
        let _listener = UnixListener::bind(&path).unwrap();
        let poller = Poller::new(8).unwrap();
        let upstream = Upstream::connect(&Endpoint::Unix(path.clone()), &poller, KEY).unwrap();
        assert!(upstream.is_established());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn tls_does_not_begin_behind_plain_text() {
        let (mut poller, mut upstream, mut peer) = connected();
        peer.write_all(b"S and something that somebody in the middle has added").unwrap();
        pump_until(&mut poller, &mut upstream, |_, pumped| pumped.received).unwrap();
        let _ = upstream.input().split_to(1);
        let config = client_config(&Roots::default(), Verification::Full, None).unwrap();
        let name = server_name("db.example").unwrap();
        assert!(upstream.start_tls(Arc::clone(&config), name.clone()).is_err());
        upstream.input().clear();
        assert!(upstream.start_tls(config, name).is_ok());
        assert!(upstream.is_encrypted() && !upstream.is_established());
    }

    #[test]
    fn a_server_that_hangs_up_during_the_handshake_is_a_failure_of_tls() {
        let (mut poller, mut upstream, peer) = connected();
        let config = client_config(&Roots::default(), Verification::Full, None).unwrap();
        upstream.start_tls(config, server_name("db.example").unwrap()).unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let error = pump_until(&mut poller, &mut upstream, |_, _| false).unwrap_err();
        assert_eq!(error.to_string(), "TLS: the server hung up during the handshake");
    }
}
