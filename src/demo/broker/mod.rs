//! A broker that speaks Redis' protocol over loopback TCP, for the demonstration on a machine
//! without Redis: publish, subscribe, and keys with an expiry, enough for our client and for
//! `redis-cli`. One thread, nothing is kept on disk, everybody on this machine may connect.

mod reply;
mod request;
mod server;
mod state;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::thread::{Builder, JoinHandle};

/// A running broker. Dropping it ends its thread and its connections.
pub struct Broker {
    address: SocketAddr,
    /// Closing it tells the thread to end.
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    /// Listens on a free port of 127.0.0.1 and serves from a thread of its own.
    ///
    /// Errors: the kernel refuses a socket, a pipe or a thread.
    pub fn start() -> io::Result<Broker> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (told, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        // An epoll instance stays on the thread that made it, so the thread says whether it could.
        let (made, outcome) = crossbeam_channel::bounded(1);
        let thread = Builder::new().name("demo-broker".into()).spawn(move || {
            let server = server::Server::new(listener, told);
            let (server, result) = match server {
                Ok(server) => (Some(server), Ok(())),
                Err(error) => (None, Err(error)),
            };
            let _ = made.send(result);
            if let Some(server) = server {
                server.run();
            }
        })?;
        outcome.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))?;
        Ok(Broker { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It ends because its pipe has closed; a panic over there was reported there.
            let _ = thread.join();
        }
    }
}
