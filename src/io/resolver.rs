//! Host names to addresses without blocking a core: addresses are read at once; for a name a
//! short-lived thread calls `getaddrinfo` (it knows `/etc/hosts`, search domains and whatever else
//! the host is set up with), hands the answer over a channel and rings an eventfd in the core's
//! epoll instance.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use rustix::event::{EventfdFlags, eventfd};

use super::poller::Poller;
use crate::hub::moment::Moment;

/// The top byte of the resolver's key. Its readiness asks for nothing but a turn of those who have
/// a [`Lookup`].
pub const RESOLVER_KEY: u64 = 3 << 56;

/// Lookups that may hang at a time. A resolver that is away takes up to half a minute to give up,
/// while those who ask lose patience after seconds and ask again.
const LOOKUPS_MAX: usize = 32;

/// Looks names up. Clones share the doorbell.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    doorbell: OwnedFd,
    /// Threads that have not come back.
    running: AtomicUsize,
}

/// A question that may have been answered.
pub struct Lookup {
    state: State,
    deadline: Moment,
}

enum State {
    Answered(io::Result<Vec<SocketAddr>>),
    Waiting(Receiver<io::Result<Vec<SocketAddr>>>),
    Taken,
}

impl Resolver {
    /// A resolver that rings in `poller` under [`RESOLVER_KEY`].
    ///
    /// Errors: no descriptors are left.
    pub fn new(poller: &Poller) -> io::Result<Resolver> {
        let doorbell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        poller.add(&doorbell, RESOLVER_KEY)?;
        let shared = Shared { doorbell, running: AtomicUsize::new(0) };
        Ok(Resolver { shared: Arc::new(shared) })
    }

    /// Asks for the addresses of `host` (a name or an address, IPv6 without brackets), to be
    /// answered until `deadline`.
    pub fn look_up(&self, host: &str, port: u16, deadline: Moment) -> Lookup {
        if let Ok(address) = host.parse::<IpAddr>() {
            let answer = Ok(vec![SocketAddr::new(address, port)]);
            return Lookup { state: State::Answered(answer), deadline };
        }
        let state = match self.spawn(host, port) {
            Ok(receiver) => State::Waiting(receiver),
            Err(error) => State::Answered(Err(error)),
        };
        Lookup { state, deadline }
    }

    fn spawn(&self, host: &str, port: u16) -> io::Result<Receiver<io::Result<Vec<SocketAddr>>>> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        if self.shared.running.fetch_add(1, Ordering::Relaxed) >= LOOKUPS_MAX {
            self.shared.running.fetch_sub(1, Ordering::Relaxed);
            return Err(io::Error::other("the resolver does not answer"));
        }
        let (host, shared) = (host.to_owned(), Arc::clone(&self.shared));
        let work = move || answer(&host, port, &sender, &shared);
        let spawned = std::thread::Builder::new().name("resolver".into()).spawn(work);
        if let Err(error) = spawned {
            self.shared.running.fetch_sub(1, Ordering::Relaxed);
            return Err(error);
        }
        Ok(receiver)
    }
}

impl Lookup {
    /// The answer, once: addresses in the order in which they are to be tried, at least one.
    ///
    /// Errors: there is no such name, the resolver failed, or the deadline has passed.
    pub fn poll(&mut self, now: Moment) -> Poll<io::Result<Vec<SocketAddr>>> {
        match std::mem::replace(&mut self.state, State::Taken) {
            State::Answered(answer) => Poll::Ready(answer),
            State::Taken => Poll::Ready(Err(io::Error::other("the answer was taken"))),
            State::Waiting(receiver) => match receiver.try_recv() {
                Ok(answer) => Poll::Ready(answer),
                Err(TryRecvError::Empty) if now < self.deadline => {
                    self.state = State::Waiting(receiver);
                    Poll::Pending
                }
                Err(TryRecvError::Empty) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Err(TryRecvError::Disconnected) => {
                    Poll::Ready(Err(io::Error::other("the resolver failed")))
                }
            },
        }
    }

    /// Until when it is to be answered: poll it then at the latest.
    pub fn deadline(&self) -> Moment {
        self.deadline
    }
}

/// The thread: asks, answers, rings.
fn answer(host: &str, port: u16, sender: &Sender<io::Result<Vec<SocketAddr>>>, shared: &Shared) {
    let answer = (host, port).to_socket_addrs().and_then(|found| {
        let addresses: Vec<SocketAddr> = found.collect();
        if addresses.is_empty() {
            return Err(io::Error::other("the name has no address"));
        }
        Ok(addresses)
    });
    // Nobody may be interested any more.
    let _ = sender.send(answer);
    shared.running.fetch_sub(1, Ordering::Relaxed);
    let _ = rustix::io::write(&shared.doorbell, &1u64.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LATER: Moment = Moment(u64::MAX);

    #[test]
    fn an_address_is_answered_at_once_and_without_a_thread() {
        let poller = Poller::new(4).unwrap();
        let resolver = Resolver::new(&poller).unwrap();
        for (host, expected) in [("127.0.0.1", "127.0.0.1:7"), ("::1", "[::1]:7")] {
            let mut lookup = resolver.look_up(host, 7, LATER);
            match lookup.poll(Moment(0)) {
                Poll::Ready(Ok(found)) => assert_eq!(found, [expected.parse().unwrap()]),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(resolver.shared.running.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_name_is_answered_with_a_ring() {
        let mut poller = Poller::new(4).unwrap();
        let resolver = Resolver::new(&poller).unwrap();
        let mut lookup = resolver.look_up("localhost", 7, LATER);
        let answer = loop {
            if let Poll::Ready(answer) = lookup.poll(Moment(0)) {
                break answer;
            }
            let count = poller.wait(Some(Duration::from_secs(20))).unwrap();
            assert!(count > 0, "no ring");
            assert_eq!(poller.take(0).unwrap().key, RESOLVER_KEY);
        };
        assert!(answer.unwrap().iter().all(|address| address.ip().is_loopback()));
    }

    #[test]
    fn a_lookup_past_its_deadline_says_so() {
        let (_sender, receiver) = crossbeam_channel::bounded(1);
        let mut lookup = Lookup { state: State::Waiting(receiver), deadline: Moment(5) };
        assert!(lookup.poll(Moment(4)).is_pending());
        match lookup.poll(Moment(5)) {
            Poll::Ready(Err(error)) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
            other => panic!("{other:?}"),
        }
    }
}
