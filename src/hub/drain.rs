//! Sending clients away without a stampede: closes are spread evenly over a window.

use std::time::Duration;

use crate::hub::moment::Moment;

/// The pace at which a shard sends its clients away.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    begun: Moment,
    window: Duration,
    /// How many clients there were.
    total: usize,
    /// How many have been sent away: `sent <= total`.
    sent: usize,
}

impl Drain {
    /// Begins to send `total` clients away over `window`.
    pub fn new(total: usize, window: Duration, now: Moment) -> Drain {
        Drain { begun: now, window, total, sent: 0 }
    }

    /// How many more must be sent away now to be in time.
    pub fn due(&mut self, now: Moment) -> usize {
        let window = self.window.as_nanos().max(1);
        let elapsed = u128::from(now.nanos_since(self.begun)).min(window);
        let target = (self.total as u128 * elapsed / window) as usize;
        let due = target.saturating_sub(self.sent);
        self.sent += due;
        due
    }

    /// The window is over: whoever is still there goes now.
    pub fn is_over(&self, now: Moment) -> bool {
        now.since(self.begun) >= self.window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tenth_of_the_window_sees_twice_its_share() {
        let mut drain = Drain::new(1000, Duration::from_secs(10), Moment(0));
        let mut sent = 0;
        for second in 1..=10_u64 {
            let slice = drain.due(Moment(second * 1_000_000_000));
            assert!(slice <= 200, "{slice} in second {second}");
            sent += slice;
        }
        assert_eq!(sent, 1000);
        assert!(drain.is_over(Moment(10_000_000_000)));
    }

    #[test]
    fn an_empty_window_sends_everybody_at_once() {
        let mut drain = Drain::new(7, Duration::ZERO, Moment(5));
        assert_eq!(drain.due(Moment(6)), 7);
        assert!(drain.is_over(Moment(5)));
    }
}
