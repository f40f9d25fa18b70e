//! The control core and a shard on one thread: where they would share a processor anyway, a message
//! goes from one to the other without a doorbell, a sleep and a wake-up, which cost more than all
//! the rest on a quiet stream.
//!
//! ```text
//!   turn:  control (Redis, Postgres, other shards) ──► shard (deliveries, clients) ─┐
//!            ▲                                                                      │
//!            └──────────────────── again, if the shard has asked anything ◄─────────┘
//!   sleep: in the shard's epoll instance, which holds the control core's as one descriptor
//! ```

use std::io;
use std::time::Duration;

use super::bell::Bell;
use super::clock::Clock;
use super::control::ControlCore;
use super::driver::{Core, Turn};
use super::poller::Poller;
use super::shard::ShardCore;

/// The control core and the shard beside it.
pub struct SharedCore {
    control: ControlCore,
    shard: ShardCore,
    /// Events that wait in the control core's own poller.
    control_events: usize,
    /// What the control core's last turn left to do.
    control_left: Turn,
    /// The shard is empty after a drain: only the control core goes on.
    is_shard_done: bool,
    clock: Clock,
}

impl SharedCore {
    /// Puts both on one thread.
    ///
    /// # Errors
    /// The kernel refuses to nest their epoll instances.
    pub fn new(mut control: ControlCore, shard: ShardCore, clock: Clock) -> io::Result<SharedCore> {
        shard.accompany(control.poller())?;
        Ok(SharedCore {
            control,
            shard,
            control_events: 0,
            // Its first turn connects to Redis and Postgres.
            control_left: Turn::Busy,
            is_shard_done: false,
            clock,
        })
    }

    /// Turns the control core if it has anything to do: most events are clients'.
    fn turn_control(&mut self) {
        let is_due = match self.control_left {
            Turn::Idle(deadline) => deadline.is_some_and(|deadline| deadline <= self.clock.now()),
            Turn::Busy | Turn::Done => true,
        };
        let events = std::mem::take(&mut self.control_events);
        if is_due || events > 0 || self.control.has_mail() {
            self.control_left = self.control.turn(events);
        }
    }
}

impl Core for SharedCore {
    fn turn(&mut self, events: usize) -> Turn {
        self.turn_control();
        if self.control_left == Turn::Done {
            return Turn::Done;
        }
        let shard = match self.is_shard_done {
            true => Turn::Idle(None),
            false => self.shard.turn(events),
        };
        self.is_shard_done |= shard == Turn::Done;
        match (self.control_left, shard) {
            _ if self.control.has_mail() => Turn::Busy,
            (Turn::Idle(one), Turn::Idle(other)) => Turn::Idle(one.into_iter().chain(other).min()),
            (Turn::Idle(deadline), Turn::Done) => Turn::Idle(deadline),
            _ => Turn::Busy,
        }
    }

    fn poller(&mut self) -> &mut Poller {
        self.shard.poller()
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let woken = self.shard.wait_beside(Some(self.control.poller()), timeout)?;
        if woken.by_companion {
            self.control_events = self.control.wait(Some(Duration::ZERO))?;
        }
        Ok(woken.events)
    }

    /// The other shards ring it. The shard's own is rung by nobody but this thread.
    fn bell(&self) -> &Bell {
        self.control.bell()
    }

    fn has_mail(&self) -> bool {
        self.control_events > 0
            || self.control.has_mail()
            || (!self.is_shard_done && self.shard.has_mail())
    }
}
