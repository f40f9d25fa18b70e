//! What turns the cores. A core is a value with [`Core::turn`]; two drivers turn it, and both run
//! the very same code:
//!
//! * **glommio** (default): an executor per core; the core's epoll descriptor is awaited through
//!   the ring.
//! * **epoll**: a plain thread that waits in `epoll_wait`. For hosts that refuse io_uring.

mod epoll;
mod glommio;
mod preflight;

use std::io;
use std::time::Duration;

use super::bell::Bell;
use super::clock::Clock;
use super::poller::Poller;
use crate::config::DriverChoice;
use crate::hub::moment::Moment;

/// A core: everything that one thread does, done a turn at a time. Never blocks.
pub trait Core {
    /// Handles the first `events` events of the poller and whatever else can be done now.
    fn turn(&mut self, events: usize) -> Turn;
    /// What the core waits on.
    fn poller(&mut self) -> &mut Poller;
    /// Waits on it; returns how many events there are for the next turn.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        self.poller().wait(timeout)
    }
    /// What wakes it.
    fn bell(&self) -> &Bell;
    /// Messages have come that were not taken yet.
    fn has_mail(&self) -> bool;
}

/// What a turn leaves to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// More can be done at once.
    Busy,
    /// Nothing until an event, a message, or this moment.
    Idle(Option<Moment>),
    /// The core has ended.
    Done,
}

/// A driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Driver {
    /// One executor per core on io_uring.
    Glommio,
    /// Plain threads on epoll.
    Epoll,
}

impl Driver {
    /// Decides for a driver of `cores` cores. The warning says why glommio could not be had.
    ///
    /// # Errors
    /// What is missing, if glommio was demanded.
    pub fn choose(choice: DriverChoice, cores: usize) -> Result<(Driver, Option<String>), String> {
        match (choice, preflight::refusal(cores)) {
            (DriverChoice::Epoll, _) => Ok((Driver::Epoll, None)),
            (_, None) => Ok((Driver::Glommio, None)),
            (DriverChoice::Auto, Some(reason)) => Ok((Driver::Epoll, Some(reason))),
            (DriverChoice::Glommio, Some(reason)) => Err(reason),
        }
    }

    /// The name in settings, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Driver::Glommio => "glommio",
            Driver::Epoll => "epoll",
        }
    }

    /// Turns a core on this thread until it ends.
    ///
    /// # Errors
    /// The kernel refuses to wait, or the executor cannot be made.
    pub fn drive(self, core: &mut dyn Core, clock: Clock) -> io::Result<()> {
        match self {
            Driver::Glommio => glommio::drive(core, clock),
            Driver::Epoll => epoll::drive(core, clock),
        }
    }
}
