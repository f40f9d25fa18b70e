//! Moderates how often clients' input wakes a shard, as a network card moderates its interrupts.
//!
//! A sleep and a wake-up cost more than reading a pong. When clients' input comes in quick
//! succession (the answers to a round of pings, handshakes), a shard that has just read what there
//! was looks again after [`INPUT_PAUSE`], and then reads many at once. What comes alone is read at
//! once, and so is, always, what comes through the mesh: deliveries are never put off.
//!
//! ```text
//!            input within 2 pauses of the last             none for 2 pauses
//!   alone ───────────────────────────────────► in a run ───────────────────► alone
//!   wakes at once                              waits for mail only, for a pause
//! ```

use std::time::Duration;

use crate::hub::moment::Moment;

/// Short for a client that waits for the answer to a handshake, long beside the 40 to 90 µs of a
/// sleep and a wake-up.
const INPUT_PAUSE: Duration = Duration::from_millis(1);

/// When clients' input was last found, and whether more follows closely.
#[derive(Debug, Default)]
pub struct Moderation {
    found_at: Moment,
    is_run: bool,
}

impl Moderation {
    /// Clients' input was found.
    pub fn found(&mut self, now: Moment) {
        self.is_run = now.since(self.found_at) < 2 * INPUT_PAUSE;
        self.found_at = now;
    }

    /// For how long clients' input may be left alone.
    pub fn pause(&self, now: Moment) -> Option<Duration> {
        let pause = (self.found_at + INPUT_PAUSE).since(now);
        (self.is_run && !pause.is_zero()).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: u64 = 1_000_000;

    fn found_at(moments: &[u64]) -> Moderation {
        let mut moderation = Moderation::default();
        moments.iter().for_each(|at| moderation.found(Moment(*at)));
        moderation
    }

    #[test]
    fn what_comes_alone_is_never_put_off() {
        let moderation = found_at(&[10 * MILLI, 20 * MILLI]);
        assert_eq!(moderation.pause(Moment(20 * MILLI)), None);
    }

    #[test]
    fn what_comes_in_quick_succession_is_put_off_for_one_pause_at_most() {
        let moderation = found_at(&[10 * MILLI, 11 * MILLI]);
        assert_eq!(moderation.pause(Moment(11 * MILLI)), Some(INPUT_PAUSE));
        assert_eq!(moderation.pause(Moment(12 * MILLI - 1)), Some(Duration::from_nanos(1)));
        assert_eq!(moderation.pause(Moment(12 * MILLI)), None);
    }

    #[test]
    fn a_run_ends_when_nothing_has_come_for_two_pauses() {
        let moderation = found_at(&[10 * MILLI, 11 * MILLI, 13 * MILLI]);
        assert_eq!(moderation.pause(Moment(13 * MILLI)), None);
    }
}
