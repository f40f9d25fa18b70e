//! Durations in histograms of two significant figures, and how long the turns of a core take.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::hub::moment::Moment;

/// The longest time a histogram tells apart, in microseconds: 60 s, beyond which nothing is "late"
/// any more.
const MICROS_MAX: u64 = 60_000_000;

/// Significant decimal figures: 1 %, at some 20 KB a histogram.
const FIGURES: u8 = 2;

/// Durations from 1 µs to 60 s (longer ones count as 60 s), exact to 1 %.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    /// In microseconds. `None` until something is recorded, so that an unused one costs nothing;
    /// also if the histogram refused its constants, which it does not.
    micros: Option<Box<Histogram<u64>>>,
    /// The sum of everything recorded, in nanoseconds.
    sum_nanos: u128,
}

impl Latency {
    /// Records one duration in nanoseconds.
    pub fn record(&mut self, nanos: u64) {
        self.record_many(nanos, 1);
    }

    /// Records a duration in nanoseconds that `count` clients shared.
    pub fn record_many(&mut self, nanos: u64, count: u64) {
        self.sum_nanos += u128::from(nanos) * u128::from(count);
        if let Some(histogram) = self.histogram() {
            let micros = nanos.div_ceil(1000).min(MICROS_MAX);
            histogram.saturating_record_n(micros, count);
        }
    }

    /// Adds another core's durations.
    pub fn merge(&mut self, other: &Latency) {
        self.sum_nanos += other.sum_nanos;
        if let (Some(others), Some(histogram)) = (&other.micros, self.histogram()) {
            // Both were made with the same constants, so nothing can be out of range.
            let _ = histogram.add(others.as_ref());
        }
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.micros.as_ref().map_or(0, |histogram| histogram.len())
    }

    /// The sum of all durations in seconds.
    pub fn sum_secs(&self) -> f64 {
        self.sum_nanos as f64 / 1e9
    }

    /// How many durations were at most `micros` (to the histogram's 1 %).
    pub fn count_within(&self, micros: u64) -> u64 {
        self.micros.as_ref().map_or(0, |histogram| histogram.count_between(0, micros))
    }

    /// The duration in microseconds that a share `quantile` (0 to 1) of all stayed within; 0 if
    /// there is none.
    pub fn micros_at(&self, quantile: f64) -> u64 {
        self.micros.as_ref().map_or(0, |histogram| histogram.value_at_quantile(quantile))
    }

    fn histogram(&mut self) -> Option<&mut Histogram<u64>> {
        if self.micros.is_none() {
            self.micros = Histogram::new_with_bounds(1, MICROS_MAX, FIGURES).ok().map(Box::new);
        }
        self.micros.as_deref_mut()
    }
}

/// How long the turns of a core took. A turn that takes long is lag for everybody on the core.
#[derive(Clone, Debug, Default)]
pub struct TurnTimes {
    /// All busy turns.
    pub times: Latency,
    window: LongestTurn,
}

/// The longest turn of the minute under way and of the one before.
#[derive(Clone, Copy, Debug, Default)]
struct LongestTurn {
    minute: u64,
    nanos: u64,
    nanos_before: u64,
}

impl TurnTimes {
    /// Records a turn from `started` to `ended`. Idle turns need not be recorded.
    pub fn record(&mut self, started: Moment, ended: Moment) {
        let nanos = ended.nanos_since(started);
        self.times.record(nanos);
        self.window = self.window.at(ended);
        self.window.nanos = self.window.nanos.max(nanos);
    }

    /// The longest turn, in seconds, of the last one to two minutes in which turns were recorded.
    pub fn longest_secs(&self) -> f64 {
        self.window.nanos.max(self.window.nanos_before) as f64 / 1e9
    }
}

impl LongestTurn {
    fn at(self, now: Moment) -> LongestTurn {
        const MINUTE: Duration = Duration::from_secs(60);
        let minute = now.0 / u64::try_from(MINUTE.as_nanos()).unwrap_or(u64::MAX);
        if minute == self.minute {
            return self;
        }
        let nanos_before = if minute == self.minute + 1 { self.nanos } else { 0 };
        LongestTurn { minute, nanos: 0, nanos_before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn merging_is_recording_everything_in_one() {
        let (mut one, mut two, mut both) =
            (Latency::default(), Latency::default(), Latency::default());
        for nanos in [1, 999, 1_000, 250_000, 7_000_000] {
            one.record(nanos);
            both.record(nanos);
        }
        two.record_many(90_000_000_000, 3);
        both.record_many(90_000_000_000, 3);
        one.merge(&two);
        assert_eq!((one.count(), one.sum_secs()), (both.count(), both.sum_secs()));
        for micros in [1, 250, 1000, 10_000, MICROS_MAX] {
            assert_eq!(one.count_within(micros), both.count_within(micros), "{micros} µs");
        }
        assert_eq!(one.count(), 8);
    }

    #[test]
    fn the_longest_turn_is_forgotten_after_two_minutes() {
        let mut turns = TurnTimes::default();
        let second = 1_000_000_000;
        turns.record(Moment(0), Moment(second));
        turns.record(Moment(61 * second), Moment(61 * second + 1000));
        assert!((turns.longest_secs() - 1.0).abs() < 1e-9);
        turns.record(Moment(121 * second), Moment(121 * second + 2000));
        assert!(turns.longest_secs() < 1e-3);
        assert_eq!(turns.times.count(), 3);
    }

    proptest! {
        #[test]
        fn every_duration_is_counted_once_and_within_one_percent(
            times in proptest::collection::vec(0_u64..120_000_000_000, 1..50),
        ) {
            let mut latency = Latency::default();
            for nanos in &times {
                latency.record(*nanos);
            }
            let longest = times.iter().max().copied().unwrap_or(0).min(60_000_000_000);
            prop_assert_eq!(latency.count(), times.len() as u64);
            let reported = latency.micros_at(1.0) as f64;
            let exact = longest as f64 / 1000.0;
            prop_assert!((reported - exact).abs() <= exact * 0.01 + 1.0, "{} {}", reported, exact);
        }
    }
}
