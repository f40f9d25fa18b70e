//! Readiness of many raw descriptors: one edge-triggered epoll instance per core. A descriptor is
//! registered once, for everything, and never modified; closing its last duplicate takes it out.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::fs::Timespec;

/// An epoll instance with its buffer of events.
pub struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

/// What happened to a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// What it was registered with.
    pub key: u64,
    /// There are bytes, a connection, or the end to be read.
    pub readable: bool,
    /// Bytes can be written again (or a connection attempt has ended).
    pub writable: bool,
    /// The peer will send no more, or the socket failed.
    pub hung_up: bool,
}

impl Poller {
    /// A new instance that reports at most `events_max` events at a time.
    pub fn new(events_max: usize) -> io::Result<Poller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Poller { epoll, events: Vec::with_capacity(events_max) })
    }

    /// Registers a descriptor for reading, writing and hang-up, edge-triggered, once and for all.
    pub fn add(&self, descriptor: impl AsFd, key: u64) -> io::Result<()> {
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        epoll::add(&self.epoll, descriptor, epoll::EventData::new_u64(key), flags)?;
        Ok(())
    }

    /// Registers a descriptor for reading only, level-triggered: for listeners, where an edge could
    /// be missed when accepting had to be put off.
    pub fn add_level(&self, descriptor: impl AsFd, key: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(key);
        epoll::add(&self.epoll, descriptor, data, epoll::EventFlags::IN)?;
        Ok(())
    }

    /// Takes a descriptor out, before it is passed on or kept for later.
    pub fn remove(&self, descriptor: impl AsFd) -> io::Result<()> {
        epoll::delete(&self.epoll, descriptor)?;
        Ok(())
    }

    /// Waits until something is ready, `timeout` is over (`None`: for ever) or a signal came, and
    /// returns how many events there are to [`Poller::take`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        self.events.clear();
        let timeout = timeout.map(timespec);
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(count) => Ok(count),
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Event number `index` of the last [`Poller::wait`].
    pub fn take(&self, index: usize) -> Option<Readiness> {
        let event = self.events.get(index)?;
        let flags = event.flags;
        Some(Readiness {
            key: event.data.u64(),
            readable: flags.contains(epoll::EventFlags::IN),
            writable: flags.contains(epoll::EventFlags::OUT),
            hung_up: flags.intersects(
                epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR,
            ),
        })
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// Waits until one of two descriptors is readable, `timeout` is over, or a signal came. True if the
/// second one is readable.
///
/// # Errors
/// The kernel refuses to wait.
pub fn wait_for_either(
    one: BorrowedFd<'_>,
    other: Option<BorrowedFd<'_>>,
    timeout: Duration,
) -> io::Result<bool> {
    let watched = |descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN);
    let mut both = [watched(one), watched(other.unwrap_or(one))];
    match poll(&mut both, Some(&timespec(timeout))) {
        Ok(_) => Ok(other.is_some() && both[1].revents().contains(PollFlags::IN)),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::bell::Bell;

    #[test]
    fn whoever_waits_for_either_hears_whether_it_was_the_second() {
        let (one, other) = (Bell::new().unwrap(), Bell::new().unwrap());
        let rung = |bell: &Bell| {
            assert!(bell.may_sleep(|| false));
            bell.ring();
        };
        let wait = || wait_for_either(one.as_fd(), Some(other.as_fd()), Duration::ZERO).unwrap();
        one.clear();
        other.clear();
        assert!(!wait());
        rung(&one);
        assert!(!wait());
        rung(&other);
        assert!(wait());
        assert!(!wait_for_either(other.as_fd(), None, Duration::ZERO).unwrap());
    }
}
