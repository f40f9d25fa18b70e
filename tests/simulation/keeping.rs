//! One shard alone, whose clients say nothing.

use std::time::Duration;

use trunkline::config::Limits;
use trunkline::hub::message::ToControl;

use super::parser::masked;
use super::phases::{Bench, Guest};

impl Bench {
    /// Lets time pass, in which every client answers every ping. How often the shard woke.
    fn wakes(&mut self, guests: &[Guest], duration: Duration) -> usize {
        let (until, mut wakes) = (self.now + duration, 0);
        while let Some(next) = self.shard.next_tick(self.now).filter(|next| *next <= until) {
            wakes += usize::from(next > self.now);
            self.now = next.max(self.now);
            self.shard.tick(self.now);
            for guest in guests {
                let is_pinged = !std::mem::take(&mut guest.wire.borrow_mut().bytes).is_empty();
                if is_pinged {
                    let mut pong = Vec::new();
                    masked(10, b"", [1, 2, 3, 4], &mut pong);
                    self.say(guest, &pong);
                }
            }
        }
        wakes
    }
}

#[test]
fn idle_clients_wake_a_shard_about_once_a_second_and_stay() {
    let mut bench = Bench::new();
    let guests: Vec<Guest> = (0..50).map(|_| bench.websocket(1000, "user")).collect();
    bench.wakes(&guests, Duration::from_secs(60));
    bench.told();
    let wakes = bench.wakes(&guests, Duration::from_secs(600));
    assert!((500..=660).contains(&wakes), "{wakes} times in 600 s");
    let told = bench.told();
    let pulses = told.iter().filter(|told| matches!(told, ToControl::Pulse { .. })).count();
    assert!(pulses >= 600, "{pulses} pulses in 600 s");
    assert_eq!(bench.shard.metrics_mut().farewells.total(), 0);
}

#[test]
fn a_long_round_of_pings_leaves_room_for_events() {
    let limits = Limits {
        ping_interval_secs: Duration::from_secs(1),
        connections_per_account_max: 600,
        ..Limits::default()
    };
    let mut bench = Bench::with(limits);
    let guests: Vec<Guest> = (0..600).map(|_| bench.websocket(1000, "user")).collect();
    let sends = || guests.iter().map(|guest| guest.wire.borrow().sends).sum::<usize>();
    bench.now = bench.now + Duration::from_secs(1);
    let mut rounds = Vec::new();
    while bench.shard.next_tick(bench.now).is_some_and(|next| next <= bench.now) {
        let before = sends();
        bench.shard.tick(bench.now);
        rounds.push(sends() - before);
    }
    assert_eq!(rounds, [256, 256, 88]);
}
