//! What crowds are told, and what they show.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crossbeam_channel::Sender;

use crate::load::publisher::Publisher;
use crate::load::tally::Tally;

/// What a crowd is told to do.
pub enum Order {
    /// Connect these clients.
    Connect(Range<u32>, Pace),
    /// Close the connections of all clients whose number fits, as a client does that goes away.
    Leave(Every),
    /// Connect all who have left, whose number fits.
    Return(Every, Pace),
    /// These read no more.
    Stall(Every),
    /// These read again.
    Resume(Every),
    /// Run the publisher's job in this thread.
    Publish(Box<Publisher>, Sender<io::Result<Box<Publisher>>>),
    /// Give the counts and begin new ones.
    Count(Sender<Tally>),
    /// Count the statuses that clients lack, given the next sequence number of each channel.
    Check(Arc<[u32]>, Sender<Lacking>),
}

/// Which clients: those whose number leaves this remainder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every {
    /// Divisor, at least 1.
    pub step: u32,
    /// Remainder.
    pub offset: u32,
}

/// How fast clients connect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Attempts a second.
    pub per_sec: f64,
    /// Attempts at a time.
    pub in_flight: usize,
}

/// What clients lack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    /// Open clients that lack something.
    pub clients: u64,
    /// Statuses, over all open clients.
    pub statuses: u64,
}

/// How things stand, for everybody to read.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Clients that are to be connected, or are connecting.
    pub waiting: AtomicU64,
    /// Clients whose request was granted.
    pub open: AtomicU64,
    /// Open clients that have received a status.
    pub served: AtomicU64,
    /// Statuses received since the start.
    pub delivered: AtomicU64,
    /// Deliveries that were wrong since the start.
    pub wrong: AtomicU64,
    /// Attempts that have failed since the start.
    pub failed: AtomicU64,
    /// Open connections that the server has ended since the start.
    pub ended: AtomicU64,
}
