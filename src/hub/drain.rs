//! Sending clients away without a stampede: closes are spread evenly over a window, and no second
//! of it sees twice its share (R11), however late the shard looks at the time.

use std::time::Duration;

use crate::hub::moment::Moment;

/// How much of its schedule a shard may do at a time. After a pause it does not make up for
/// everything at once.
const STEP_MAX: Duration = Duration::from_millis(250);

/// What a shard is told when the server stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Departure {
    /// How long sending everybody away takes.
    pub window: Duration,
    /// The shard's number, ...
    pub shard: usize,
    /// ... and how many there are, at least one: shards with few clients each take turns.
    pub shards: usize,
}

/// The pace at which a shard sends its clients away.
#[derive(Clone, Copy, Debug)]
pub struct Drain {
    departure: Departure,
    begun: Moment,
    looked: Moment,
    /// How far the schedule is. It falls behind the time when the shard is held up, and catches up
    /// with half as much again: in one second at most 1.5 × (1 s + [`STEP_MAX`]) = 1.875 s of it.
    done: Duration,
    /// How many clients there were.
    total: usize,
    /// How many have been sent away: `sent <= total`.
    sent: usize,
}

impl Drain {
    /// Begins to send `total` clients away.
    pub fn new(total: usize, departure: Departure, now: Moment) -> Drain {
        Drain { departure, begun: now, looked: now, done: Duration::ZERO, total, sent: 0 }
    }

    /// How many more are to be sent away now.
    pub fn due(&mut self, now: Moment) -> usize {
        let step = now.since(self.looked).min(STEP_MAX);
        self.looked = now;
        let window = self.departure.window;
        let passed = now.since(self.begun).min(window);
        self.done = (self.done + step + step / 2).min(passed);
        // With S shards, shard s is s / S of a client ahead of the even pace.
        let Departure { shard, shards, .. } = self.departure;
        let nanos = window.as_nanos().max(1);
        let share = (self.total * shards) as u128 * self.done.as_nanos() + shard as u128 * nanos;
        let target = (share / (shards as u128 * nanos)) as usize;
        let due = target.min(self.total).saturating_sub(self.sent);
        self.sent += due;
        due
    }

    /// The window was over this long ago, and whoever is still there has to go: being in time is
    /// worth more than the pace.
    pub fn overdue(&self, now: Moment) -> Option<Duration> {
        now.since(self.begun).checked_sub(self.departure.window)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// When how many go, if the shard looks at the time after these pauses until the window is
    /// over.
    fn departures(total: usize, departure: Departure, pauses: &[u64]) -> Vec<(Moment, usize)> {
        let begin = Moment(7);
        let mut drain = Drain::new(total, departure, begin);
        let (mut now, mut found) = (begin, Vec::new());
        for pause in pauses.iter().cycle() {
            now = Moment(now.0 + pause);
            if drain.overdue(now).is_some_and(|overdue| !overdue.is_zero()) {
                return found;
            }
            found.push((now, drain.due(now)));
        }
        found
    }

    /// The most that go within any second.
    fn most_in_a_second(departures: &[(Moment, usize)]) -> usize {
        let (mut first, mut within, mut most) = (0, 0, 0);
        for (at, count) in departures {
            within += count;
            while at.nanos_since(departures[first].0) >= SECOND {
                within -= departures[first].1;
                first += 1;
            }
            most = most.max(within);
        }
        most
    }

    fn sum(departures: &[(Moment, usize)]) -> usize {
        departures.iter().map(|(_, count)| count).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn no_second_sees_twice_its_share_however_the_shard_is_held_up(
            total in 0_usize..20_000,
            window_secs in 1_u64..120,
            shards in 1_usize..100,
            shard in 0_usize..100,
            pauses in prop::collection::vec(
                prop_oneof![5_000_000_u64..60_000_000, 5_000_000_u64..5_000_000_000], 1..40,
            ),
        ) {
            let window = Duration::from_secs(window_secs);
            let departure = Departure { window, shard: shard % shards, shards };
            let found = departures(total, departure, &pauses);
            // One more, because clients are whole.
            let most = (2 * total).div_ceil(window_secs as usize) + 1;
            let seen = most_in_a_second(&found);
            prop_assert!(seen <= most, "{} in a second, at most {}", seen, most);
            prop_assert!(sum(&found) <= total);
        }

        #[test]
        fn who_is_not_held_up_has_sent_everybody_away_in_time_and_nobody_much_earlier(
            total in 0_usize..20_000,
            window_secs in 1_u64..120,
            shards in 1_usize..100,
            shard in 0_usize..100,
            pause in 5_000_000_u64..250_000_000,
        ) {
            let window = Duration::from_secs(window_secs);
            let departure = Departure { window, shard: shard % shards, shards };
            // The last look comes when the window ends, as the shard's ticks see to.
            let mut drain = Drain::new(total, departure, Moment(0));
            let mut sent = 0;
            let ends = window.as_nanos() as u64;
            let mut now = 0;
            while now < ends {
                now = ends.min(now + pause);
                sent += drain.due(Moment(now));
                let even = total as f64 * now as f64 / ends as f64;
                prop_assert!((even - sent as f64).abs() <= 1.0 + 1e-6, "{} for {}", sent, even);
            }
            prop_assert_eq!(sent, total);
            prop_assert_eq!(drain.overdue(Moment(ends)), Some(Duration::ZERO));
        }

        #[test]
        fn shards_with_few_clients_each_take_turns(
            shards in 1_usize..200,
            each in 1_usize..8,
            window_secs in 1_u64..30,
        ) {
            let window = Duration::from_secs(window_secs);
            let mut all: Vec<(Moment, usize)> = (0..shards)
                .flat_map(|shard| {
                    let departure = Departure { window, shard, shards };
                    departures(each, departure, &[50_000_000])
                })
                .collect();
            all.sort();
            let average = (shards * each) as f64 / window_secs as f64;
            let seen = most_in_a_second(&all);
            prop_assert!(seen as f64 <= average * 2.0 + 1.0, "{} for {}", seen, average);
            prop_assert_eq!(sum(&all), shards * each);
        }
    }

    #[test]
    fn an_empty_window_is_over_at_once() {
        let departure = Departure { window: Duration::ZERO, shard: 0, shards: 1 };
        let mut drain = Drain::new(7, departure, Moment(5));
        assert_eq!(drain.overdue(Moment(5)), Some(Duration::ZERO));
        assert_eq!(drain.due(Moment(5)), 0);
    }
}
