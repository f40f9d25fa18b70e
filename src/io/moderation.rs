//! Moderates how often clients' input wakes a shard, as a network card moderates its interrupts.
//!
//! A sleep and a wake-up cost more than reading a pong. When clients' input comes in quick
//! succession (the answers to a round of pings, handshakes), a shard that has just read what there
//! was looks again after a pause, and then reads many at once: the more it finds, the longer it
//! pauses. What comes alone is read at once, a client that has the shard to itself waits for the
//! shortest pause, and what comes through the mesh is never put off: deliveries do not wait.
//!
//! ```text
//!            input within 2 pauses of the last             none for 2 pauses
//!   alone ───────────────────────────────────► in a run ───────────────────► alone
//!   wakes at once            waits for mail only, for a pause:
//!                            twice as long if several had something to say, half if one had
//! ```

use std::time::Duration;

use crate::hub::moment::Moment;

/// Long beside the 40 to 90 µs of a sleep and a wake-up.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// Short for a person who waits for the answer to a handshake, or two. Longer ones save little: a
/// handshake at 2,000 a second costs 150 µs with pauses of 1 ms, 115 with 4, 90 with 8.
const PAUSE_MAX: Duration = Duration::from_millis(8);

/// When clients' input was last found, and whether more follows closely.
#[derive(Debug)]
pub struct Moderation {
    found_at: Moment,
    is_run: bool,
    /// `PAUSE_MIN <= pause <= PAUSE_MAX`
    pause: Duration,
}

impl Default for Moderation {
    fn default() -> Moderation {
        Moderation { found_at: Moment::default(), is_run: false, pause: PAUSE_MIN }
    }
}

impl Moderation {
    /// Input of so many clients was found.
    pub fn found(&mut self, clients: usize, now: Moment) {
        self.is_run = now.since(self.found_at) < 2 * self.pause;
        self.pause = match clients {
            2.. if self.is_run => (2 * self.pause).min(PAUSE_MAX),
            _ => (self.pause / 2).max(PAUSE_MIN),
        };
        self.found_at = now;
    }

    /// For how long clients' input may be left alone.
    pub fn pause(&self, now: Moment) -> Option<Duration> {
        let pause = (self.found_at + self.pause).since(now);
        (self.is_run && !pause.is_zero()).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn found_at(moments: &[u64], clients: usize) -> Moderation {
        let mut moderation = Moderation::default();
        moments.iter().for_each(|at| moderation.found(clients, Moment(*at)));
        moderation
    }

    #[test]
    fn what_comes_alone_is_never_put_off() {
        let moderation = found_at(&[10 * MILLI, 20 * MILLI], 1000);
        assert_eq!(moderation.pause(Moment(20 * MILLI)), None);
    }

    #[test]
    fn what_comes_in_quick_succession_is_put_off_for_one_pause_at_most() {
        let moderation = found_at(&[10 * MILLI, 11 * MILLI], 1);
        assert_eq!(moderation.pause(Moment(11 * MILLI)), Some(PAUSE_MIN));
        assert_eq!(moderation.pause(Moment(12 * MILLI - 1)), Some(Duration::from_nanos(1)));
        assert_eq!(moderation.pause(Moment(12 * MILLI)), None);
    }

    #[test]
    fn a_run_ends_when_nothing_has_come_for_two_pauses() {
        let moderation = found_at(&[10 * MILLI, 11 * MILLI, 13 * MILLI], 1);
        assert_eq!(moderation.pause(Moment(13 * MILLI)), None);
    }

    #[test]
    fn many_are_put_off_for_longer_and_one_for_the_shortest_pause() {
        let mut moderation = found_at(&[10 * MILLI, 11 * MILLI, 13 * MILLI, 17 * MILLI], 2);
        assert_eq!(moderation.pause(Moment(17 * MILLI)), Some(PAUSE_MAX));
        for at in 18..60 {
            moderation.found(2, Moment(at * MILLI));
        }
        assert_eq!(moderation.pause(Moment(59 * MILLI)), Some(PAUSE_MAX));
        for at in 60..63 {
            moderation.found(1, Moment(at * MILLI));
        }
        assert_eq!(moderation.pause(Moment(62 * MILLI)), Some(PAUSE_MIN));
    }
}
