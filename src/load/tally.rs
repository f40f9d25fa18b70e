//! What a thread of clients has seen since it was last asked.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// The longest latency that is told apart, in nanoseconds: ten minutes.
const NANOS_MAX: u64 = 600_000_000_000;

/// A histogram of nanoseconds with three significant digits.
pub fn histogram() -> Histogram<u64> {
    // The bounds are constants that it takes; a histogram that grows by itself is as good.
    Histogram::new_with_bounds(1, NANOS_MAX, 3).unwrap_or_else(|_| growing())
}

fn growing() -> Histogram<u64> {
    match Histogram::new(3) {
        Ok(histogram) => histogram,
        Err(_) => unreachable!("three significant digits are allowed"),
    }
}

/// Counts and latencies.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Statuses that arrived, in order and intact or after a gap.
    pub deliveries: u64,
    /// Bytes read from sockets.
    pub bytes: u64,
    /// From the intended time to the client.
    pub latency: Histogram<u64>,
    /// The slowest delivery of each sequence number: what the last of many readers saw.
    pub last: BTreeMap<u32, u64>,
    /// From the attempt to connect to the granted request.
    pub handshake: Histogram<u64>,
    /// Statuses that did not arrive before a later one.
    pub missed: u64,
    /// Statuses that arrived again or out of order.
    pub again: u64,
    /// Statuses of somebody else's.
    pub strays: u64,
    /// Statuses that are not what was published.
    pub altered: u64,
    /// Events that are not from this tool.
    pub foreign: u64,
    /// Pings and comments.
    pub keep_alives: u64,
    /// Connections that ended or failed, by reason.
    pub ends: BTreeMap<String, u64>,
}

impl Default for Tally {
    fn default() -> Tally {
        Tally {
            deliveries: 0,
            bytes: 0,
            latency: histogram(),
            last: BTreeMap::new(),
            handshake: histogram(),
            missed: 0,
            again: 0,
            strays: 0,
            altered: 0,
            foreign: 0,
            keep_alives: 0,
            ends: BTreeMap::new(),
        }
    }
}

impl Tally {
    /// Counts an end for a reason.
    pub fn end(&mut self, reason: &str) {
        match self.ends.get_mut(reason) {
            Some(count) => *count += 1,
            None => {
                self.ends.insert(reason.to_owned(), 1);
            }
        }
    }

    /// Counts a delivery.
    pub fn delivery(&mut self, sequence: u32, nanos: u64) {
        self.deliveries += 1;
        self.latency.saturating_record(nanos);
        let last = self.last.entry(sequence).or_default();
        *last = nanos.max(*last);
    }

    /// Deliveries that are not as they should be.
    pub fn wrong(&self) -> u64 {
        self.missed + self.again + self.strays + self.altered
    }

    /// Takes another thread's counts in.
    pub fn add(&mut self, other: &Tally) {
        self.deliveries += other.deliveries;
        self.bytes += other.bytes;
        // Both have the same bounds.
        let _ = self.latency.add(&other.latency);
        let _ = self.handshake.add(&other.handshake);
        for (sequence, nanos) in &other.last {
            let last = self.last.entry(*sequence).or_default();
            *last = (*nanos).max(*last);
        }
        self.missed += other.missed;
        self.again += other.again;
        self.strays += other.strays;
        self.altered += other.altered;
        self.foreign += other.foreign;
        self.keep_alives += other.keep_alives;
        for (reason, count) in &other.ends {
            *self.ends.entry(reason.clone()).or_default() += count;
        }
    }
}
