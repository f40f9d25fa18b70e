//! A doorbell between two threads: rung only while the other side sleeps, one system call for any
//! number of messages.
//!
//! ```text
//!  producer                              consumer
//!  put message into channel              take all messages
//!  fence                                 arm
//!  if armed: disarm, write eventfd       fence
//!                                        if there are messages: disarm, go on
//!                                        else sleep until the eventfd is readable, disarm
//! ```
//!
//! Either the producer sees `armed` and rings, or its message was put before the consumer's fence
//! and the consumer sees it: no wake-up is lost. `tests/mesh_model.rs` tries every interleaving of
//! [`Watch`], the part of this that two threads touch.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

/// A doorbell. Registered edge-triggered in the consumer's epoll instance, it is never read: each
/// ring is an edge.
#[derive(Debug)]
pub struct Bell {
    descriptor: OwnedFd,
    watch: Watch<AtomicBool>,
}

impl Bell {
    /// A bell that is not armed.
    pub fn new() -> io::Result<Bell> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Bell { descriptor, watch: Watch::new(AtomicBool::new(false)) })
    }

    /// Wakes the consumer if it sleeps. Call it after the message is in the channel.
    pub fn ring(&self) {
        if self.watch.must_wake() {
            // The counter cannot be full: it would take 2^64 rings. Another error would mean that
            // the descriptor is closed, and then nobody listens.
            let _ = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
        }
    }

    /// May the consumer sleep? From here on it is woken, unless `has_mail` finds that a message has
    /// come already. Either way [`Bell::awake`] follows.
    pub fn may_sleep(&self, has_mail: impl FnOnce() -> bool) -> bool {
        self.watch.may_sleep(has_mail)
    }

    /// The consumer is awake.
    pub fn awake(&self) {
        self.watch.awake();
    }

    /// Forgets earlier rings, for a consumer that waits for the descriptor itself and not for its
    /// edge. Look for messages afterwards: one of the rings may have been for the latest.
    pub fn clear(&self) {
        // It would block if there was none.
        let _ = rustix::io::read(&self.descriptor, &mut [0_u8; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Who watches for messages: the consumer itself, or, while it sleeps, the producers.
#[derive(Debug)]
pub struct Watch<F> {
    /// The consumer sleeps, or is about to.
    armed: F,
}

/// A flag that threads share: an atomic of the machine, or of a model checker. Whoever changes it
/// reads it in the same step, so that its changes stand in one order for all.
pub trait Flag {
    /// What it is, or was a moment ago.
    fn load(&self, order: Ordering) -> bool;
    /// Makes it so and returns what it was.
    fn swap(&self, value: bool, order: Ordering) -> bool;
    /// A fence between what this thread did before and what it does next.
    fn fence(order: Ordering);
}

impl<F: Flag> Watch<F> {
    /// A consumer that is awake. `armed` is false.
    pub fn new(armed: F) -> Watch<F> {
        Watch { armed }
    }

    /// A producer has put a message into its channel: must it wake the consumer? Of several
    /// producers one is told so.
    pub fn must_wake(&self) -> bool {
        F::fence(Ordering::SeqCst);
        self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::AcqRel)
    }

    /// The consumer has taken every message and looks once more.
    pub fn may_sleep(&self, has_mail: impl FnOnce() -> bool) -> bool {
        self.armed.swap(true, Ordering::Relaxed);
        F::fence(Ordering::SeqCst);
        !has_mail()
    }

    /// The consumer is awake.
    pub fn awake(&self) {
        self.armed.swap(false, Ordering::Relaxed);
    }
}

impl Flag for AtomicBool {
    fn load(&self, order: Ordering) -> bool {
        self.load(order)
    }

    fn swap(&self, value: bool, order: Ordering) -> bool {
        self.swap(value, order)
    }

    fn fence(order: Ordering) {
        fence(order);
    }
}
