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
//! and the consumer sees it: no wake-up is lost.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

/// A doorbell. Registered edge-triggered in the consumer's epoll instance, it is never read: each
/// ring is an edge.
#[derive(Debug)]
pub struct Bell {
    descriptor: OwnedFd,
    armed: AtomicBool,
}

impl Bell {
    /// A bell that is not armed.
    pub fn new() -> io::Result<Bell> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Bell { descriptor, armed: AtomicBool::new(false) })
    }

    /// Wakes the consumer if it sleeps. Call it after the message is in the channel.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.armed.load(Ordering::Relaxed) && self.armed.swap(false, Ordering::AcqRel) {
            // The counter cannot be full: it would take 2^64 rings. Another error would mean that
            // the descriptor is closed, and then nobody listens.
            let _ = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
        }
    }

    /// The consumer is about to sleep and must look for messages once more now.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The consumer is awake.
    pub fn disarm(&self) {
        self.armed.store(false, Ordering::Relaxed);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
