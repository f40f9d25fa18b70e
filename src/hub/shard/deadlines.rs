//! Deadlines of connections without a timer each: every kind of deadline lasts equally long for
//! all, so a queue per kind is in order by itself. Keep-alive touches each slot once per period, at
//! a place in the period that is its own.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::hub::message::ConnectionId;
use crate::hub::moment::Moment;

/// A kind of deadline: how long a phase may last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A complete head.
    Head,
    /// The next request.
    KeepAlive,
    /// The answer to a question.
    Question,
    /// Any progress of a blocked outbox.
    Blocked,
    /// Another attempt to write, after the kernel had no memory.
    Starved,
    /// The client's close frame.
    Closing,
    /// The client's end.
    Lingering,
}

const KINDS: usize = 7;

/// A deadline may come late by so small a part of what it lasts. Nearly every one is of a phase
/// that has long passed: two of each handshake. Deadlines that come together wake the core once
/// for all, which is most of what they cost.
const LATE_PART: u64 = 256;

/// A deadline that has passed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expired {
    /// Which.
    pub kind: Kind,
    /// Whose.
    pub connection: ConnectionId,
    /// The connection's stamp when it was set.
    pub stamp: u16,
}

/// The deadlines of all connections.
#[derive(Default)]
pub struct Deadlines {
    /// Each in order of time.
    queues: [VecDeque<(Moment, Expired)>; KINDS],
}

impl Deadlines {
    /// Sets a deadline, never too early. For one kind, `lasts` must always be the same.
    pub fn set(&mut self, at: Moment, lasts: Duration, expired: Expired) {
        let due = (at + lasts).0;
        let grain = (lasts.as_nanos() as u64 / LATE_PART).max(1);
        let due = Moment(due.checked_next_multiple_of(grain).unwrap_or(due));
        self.queues[expired.kind as usize].push_back((due, expired));
    }

    /// The next deadline that has passed.
    pub fn pop(&mut self, now: Moment) -> Option<Expired> {
        let due = |queue: &&mut VecDeque<(Moment, Expired)>| {
            queue.front().is_some_and(|(at, _)| *at <= now)
        };
        let queue = self.queues.iter_mut().find(due)?;
        queue.pop_front().map(|(_, expired)| expired)
    }

    /// The first deadline of a kind, due or not: that of whoever has waited longest.
    pub fn pop_first(&mut self, kind: Kind) -> Option<Expired> {
        self.queues[kind as usize].pop_front().map(|(_, expired)| expired)
    }

    /// When to look again.
    pub fn next(&self) -> Option<Moment> {
        self.queues.iter().filter_map(|queue| queue.front().map(|(at, _)| *at)).min()
    }
}

/// How long the parts of a keep-alive period are at most. The slots of a part are touched together,
/// and their clients' answers come together: longer parts wake an idle core less often.
const PART_MAX: Duration = Duration::from_secs(1);

/// Touches every slot once per period, spread evenly.
pub struct Sweep {
    part: Duration,
    /// In a period; a power of two.
    parts: u32,
    next: Moment,
    /// Counts the parts begun since the start.
    count: u32,
    /// What is left of the part begun last: the first of these slots, and on in steps of `parts`.
    left: Range<u32>,
}

impl Sweep {
    /// A sweep that begins now.
    pub fn new(period: Duration, now: Moment) -> Sweep {
        let parts = period.as_nanos().div_ceil(PART_MAX.as_nanos()).clamp(1, 1 << 16) as u32;
        let parts = parts.next_power_of_two();
        Sweep { part: period / parts, parts, next: now, count: 0, left: 0..0 }
    }

    /// The next slot of a part that is due.
    pub fn due(&mut self, now: Moment, capacity: u32) -> Option<u32> {
        if self.left.is_empty() && now >= self.next {
            self.begin_part(now, capacity);
        }
        let slot = self.left.start;
        (slot < self.left.end).then(|| {
            self.left.start = slot.saturating_add(self.parts);
            slot
        })
    }

    /// When the next slot is due.
    pub fn next(&self) -> Moment {
        if self.left.is_empty() { self.next } else { Moment::default() }
    }

    fn begin_part(&mut self, now: Moment, capacity: u32) {
        // Whoever was touched late, perhaps because nobody was there, has a whole part to answer.
        let next = self.next + self.part;
        self.next = if next > now { next } else { now + self.part };
        // Reversed bits: neighbours in the slab are far apart in the period.
        let reversed = u64::from((self.count % self.parts).reverse_bits());
        let part = (reversed >> (u32::BITS - self.parts.ilog2())) as u32;
        self.count = self.count.wrapping_add(1);
        self.left = part..capacity;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_touches_every_slot_once_per_period() {
        for millis in [1, 250, 2000, 15_000, 30_000, 86_400_000] {
            let period = Duration::from_millis(millis);
            let mut sweep = Sweep::new(period, Moment(0));
            let mut touched = vec![0; 1000];
            let mut now = Moment(0);
            for _ in 0..sweep.parts {
                let mut slots = 0;
                while let Some(slot) = sweep.due(now, 1000) {
                    touched[slot as usize] += 1;
                    slots += 1;
                    assert!(sweep.next() <= now || sweep.due(now, 1000).is_none());
                }
                assert!(slots <= 1000_usize.div_ceil(sweep.parts as usize), "spread evenly");
                now = sweep.next();
            }
            assert!(touched.iter().all(|count| *count == 1));
            assert!(period - now.since(Moment(0)) < Duration::from_millis(1), "{millis} ms");
        }
    }

    #[test]
    fn a_sweep_that_was_held_up_touches_nobody_twice_at_once() {
        let period = Duration::from_secs(1);
        let mut sweep = Sweep::new(period, Moment(0));
        let late = Moment(0) + period * 5 / 2;
        let slots = std::iter::from_fn(|| sweep.due(late, 10)).take(100);
        assert_eq!(slots.count(), 10);
        assert_eq!(sweep.next(), late + period);
    }

    #[test]
    fn deadlines_expire_in_time_and_only_then() {
        let mut deadlines = Deadlines::default();
        let connection = ConnectionId { slot: 1, generation: 1 };
        let expired = Expired { kind: Kind::Head, connection, stamp: 7 };
        deadlines.set(Moment(0), Duration::from_nanos(10), expired);
        assert_eq!(deadlines.pop(Moment(9)), None);
        assert_eq!(deadlines.next(), Some(Moment(10)));
        assert_eq!(deadlines.pop(Moment(10)), Some(expired));
        assert_eq!(deadlines.pop(Moment(10)), None);
    }

    #[test]
    fn deadlines_that_are_near_each_other_come_together() {
        let mut deadlines = Deadlines::default();
        let lasts = Duration::from_secs(10);
        let (first, gap) = (Moment(1_234_567), Duration::from_micros(500));
        let set_at: Vec<Moment> = (0..2000).map(|number| first + gap * number).collect();
        for (slot, at) in set_at.iter().enumerate() {
            let connection = ConnectionId { slot: slot as u32, generation: 1 };
            deadlines.set(*at, lasts, Expired { kind: Kind::Head, connection, stamp: 1 });
        }
        let (mut wakes, mut expired) = (0, 0);
        while let Some(now) = deadlines.next() {
            wakes += 1;
            while let Some(one) = deadlines.pop(now) {
                assert_eq!(one.connection.slot as usize, expired, "in order");
                let late = now.since(set_at[expired] + lasts);
                assert!(set_at[expired] + lasts <= now && late < lasts / 256);
                expired += 1;
            }
        }
        assert_eq!((expired, wakes), (2000, 26));
    }
}
