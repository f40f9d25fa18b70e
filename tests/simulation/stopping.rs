//! The end of the server, to the nanosecond: who is sent away when, and what the last ones hear.

use std::time::Duration;

use trunkline::config::Limits;
use trunkline::hub::control::{Control, Effect};
use trunkline::hub::drain::Departure;
use trunkline::hub::message::{ConnectionId, QuestionId, ToControl, ToShard};
use trunkline::hub::moment::{Moment, UnixMillis};
use trunkline::metrics::ShardMetrics;

use super::SECOND;
use super::parser::{Heard, masked};
use super::phases::{Bench, Guest, HEALTH, event_stream, upgrade};

const WINDOW: Duration = Duration::from_secs(10);
/// The control core ends the process a second after the window.
const GRACE: Duration = Duration::from_secs(1);

impl Bench {
    fn stop(&mut self, window: Duration) {
        self.told();
        let departure = Departure { window, shard: 0, shards: 1 };
        self.shard.handle(ToShard::Drain(departure), self.now);
        self.shard.tick(self.now);
    }

    fn event_stream(&mut self) -> Guest {
        let mut guest = self.connect(10_000);
        self.say(&guest, event_stream("user?").as_bytes());
        let question = self.question();
        self.identify(question, 1);
        assert_eq!(self.hear(&mut guest), [Heard::Answer(200, String::new())]);
        guest
    }

    /// The client answers our close frame and closes.
    fn goes(&mut self, guest: &Guest) {
        let mut frame = Vec::new();
        masked(8, &1001_u16.to_be_bytes(), [1, 2, 3, 4], &mut frame);
        self.say(guest, &frame);
        self.shard.ended(guest.id, self.now);
    }

    /// Has it told the control core that everybody is gone? It does so once.
    fn has_told(&mut self) -> bool {
        let told = self.told();
        let count = told.iter().filter(|message| matches!(message, ToControl::Drained)).count();
        assert!(count <= 1);
        count == 1
    }
}

/// Lets time pass until every client has heard its farewell; how long each took from now on.
fn farewells(bench: &mut Bench, guests: &mut [Guest], pauses: &[Duration]) -> Vec<u64> {
    let begun = bench.now;
    let mut found = Vec::new();
    let mut is_gone = vec![false; guests.len()];
    for pause in pauses.iter().cycle().take(2000) {
        // A shard that is held up looks at the time afterwards, and not before.
        bench.now = bench.now + *pause;
        bench.shard.tick(bench.now);
        for (guest, is_gone) in guests.iter_mut().zip(&mut is_gone) {
            if guest.wire.borrow().bytes.is_empty() {
                continue;
            }
            for heard in bench.hear(guest) {
                match heard {
                    Heard::Close(code) => assert_eq!(code, Some(1001)),
                    Heard::End => {}
                    _ => continue,
                }
                assert!(!std::mem::replace(is_gone, true), "two farewells");
                found.push(bench.now.nanos_since(begun));
            }
            if *is_gone {
                bench.goes(guest);
            }
        }
        if is_gone.iter().all(|gone| *gone) {
            return found;
        }
    }
    panic!("{} of {} have heard farewell", found.len(), guests.len());
}

#[test]
fn no_second_of_a_stop_sees_twice_its_share_even_if_a_shard_is_held_up() {
    const CLIENTS: usize = 600;
    let pause = Duration::from_millis(50);
    let smooth = vec![pause];
    let held_up: Vec<Duration> = [3000, 50, 50, 50, 2000].map(Duration::from_millis).into();
    let held_up = held_up.into_iter().chain(std::iter::repeat_n(pause, 2000)).collect();
    for pauses in [smooth, held_up] {
        let mut bench = Bench::new();
        let mut guests: Vec<Guest> = (0..CLIENTS)
            .map(|number| match number % 2 {
                0 => bench.websocket(10_000, "user"),
                _ => bench.event_stream(),
            })
            .collect();
        bench.stop(WINDOW);
        let at = farewells(&mut bench, &mut guests, &pauses);
        assert_eq!(at.len(), CLIENTS);
        for (first, from) in at.iter().enumerate() {
            // Who is left over when the window ends goes then: being in time is worth more.
            let slice = at[first..].iter().take_while(|at| **at < from + SECOND);
            let in_window = slice.filter(|at| **at < WINDOW.as_nanos() as u64).count();
            assert!(in_window <= 2 * CLIENTS / 10, "{in_window} in the second from {from} on");
        }
        let last = *at.last().unwrap();
        assert!(last <= (WINDOW + pause).as_nanos() as u64, "{last}");
        assert!(last > WINDOW.as_nanos() as u64 * 9 / 10, "{last}");
        bench.pass(pause);
        assert!(bench.has_told() && bench.shard.is_drained());
        assert!(bench.shard.registry().is_empty());
    }
}

#[test]
fn handshakes_in_flight_are_served_or_told_to_come_back_in_their_turn() {
    let mut bench = Bench::new();
    let mut guests: Vec<Guest> = (0..10).map(|_| bench.connect(10_000)).collect();
    let questions: Vec<_> = guests
        .iter()
        .map(|guest| {
            bench.say(guest, upgrade("user").as_bytes());
            bench.question()
        })
        .collect();
    bench.stop(WINDOW);
    // Half of the answers come soon, the others never.
    for question in questions.iter().step_by(2) {
        bench.identify(*question, 1);
    }
    let (mut closed, mut refused) = (Vec::new(), Vec::new());
    for second in 1..=10 {
        bench.pass(Duration::from_secs(1));
        for (number, guest) in guests.iter_mut().enumerate() {
            for heard in bench.hear(guest) {
                match heard {
                    Heard::Ping => {}
                    Heard::Answer(101, _) => assert_eq!((number % 2, second), (0, 1)),
                    Heard::Answer(503, _) => refused.push(second),
                    Heard::Close(Some(1001)) => closed.push(second),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert_eq!((closed, refused), (vec![1, 3, 5, 7, 9], vec![2, 4, 6, 8, 10]));
}

#[test]
fn who_asks_for_the_first_time_during_a_stop_is_told_to_come_back() {
    let mut bench = Bench::new();
    let mut early = bench.connect(10_000);
    bench.say(&early, b"GET /api/v1/stream");
    let stays = bench.websocket(10_000, "user");
    bench.stop(WINDOW);
    bench.say(&early, b"ing/user?access_token=a HTTP/1.1\r\nHost: sim\r\n\r\n");
    assert!(matches!(bench.hear(&mut early)[..], [Heard::Answer(503, _)]));
    assert!(early.wire.borrow().shut);
    drop(stays);
}

#[test]
fn without_clients_a_stop_takes_no_time_whatever_else_is_connected() {
    let mut bench = Bench::new();
    bench.stop(WINDOW);
    assert!(bench.has_told());

    let mut bench = Bench::new();
    let mut kept = bench.connect(10_000);
    bench.say(&kept, HEALTH.as_bytes());
    assert!(matches!(bench.hear(&mut kept)[..], [Heard::Answer(200, _)]));
    let half = bench.connect(10_000);
    bench.say(&half, b"GET /api");
    let gone = bench.event_stream();
    bench.shard.ended(gone.id, bench.now);
    bench.stop(WINDOW);
    assert!(bench.has_told());
    // As long as there are clients elsewhere, it answers.
    bench.say(&kept, HEALTH.as_bytes());
    assert!(matches!(bench.hear(&mut kept)[..], [Heard::Answer(200, _)]));
    bench.pass(WINDOW + GRACE);
    assert!(bench.shard.is_drained() && half.wire.borrow().closed && !bench.has_told());
}

#[test]
fn a_scrape_in_flight_is_answered_before_the_end() {
    let mut bench = Bench::new();
    let mut guest = bench.connect(10_000);
    bench.say(&guest, b"GET /metrics HTTP/1.1\r\nHost: sim\r\n\r\n");
    let question = bench.told().iter().find_map(|message| match message {
        ToControl::Scrape { question } => Some(*question),
        _ => None,
    });
    bench.stop(WINDOW);
    assert!(!bench.has_told());
    let text = "figures\n".into();
    let question = question.unwrap();
    bench.shard.handle(ToShard::MetricsText { question, text }, bench.now);
    assert_eq!(bench.hear(&mut guest), [Heard::Answer(200, "figures\n".into())]);
    bench.shard.ended(guest.id, bench.now);
    bench.pass(Duration::from_millis(50));
    assert!(bench.has_told());
}

#[test]
fn the_last_clients_have_time_for_their_farewell_and_nobody_holds_the_server() {
    for window in [Duration::ZERO, WINDOW] {
        let mut bench = Bench::new();
        let mut answers = bench.websocket(10_000, "user");
        let mut silent = bench.websocket(10_000, "user");
        let mut stream = bench.event_stream();
        // A reader who has taken nothing for a while, and is in the middle of a frame.
        let slow = bench.websocket(100, "user");
        (0..20).for_each(|id| bench.deliver(id, false));
        bench.stop(window);
        let ends = bench.now + window;
        bench.pass(window);
        for guest in [&mut answers, &mut silent] {
            assert_eq!(bench.hear(guest).last(), Some(&Heard::Close(Some(1001))), "{window:?}");
        }
        assert_eq!(bench.hear(&mut stream).last(), Some(&Heard::End));
        bench.pass(Duration::from_millis(400));
        let is_closed = |guest: &Guest| guest.wire.borrow().closed;
        assert!(!is_closed(&answers), "no time to answer");
        bench.goes(&answers);
        assert!(is_closed(&answers) && !bench.has_told());
        bench.pass(Duration::from_millis(200));
        assert!(bench.now < Moment(ends.0 + GRACE.as_nanos() as u64));
        assert!(bench.has_told() && is_closed(&silent) && is_closed(&slow));
    }
}

#[test]
fn a_client_with_a_full_outbox_is_sent_away_all_the_same() {
    let limits = Limits { outbox_frames_max: 3, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let mut full = bench.websocket(60, "user");
    // One frame in the kernel, in part, and three waiting.
    (0..4).for_each(|id| bench.deliver(id, false));
    assert!(!full.wire.borrow().closed);
    bench.stop(Duration::ZERO);
    bench.pass(GRACE);
    assert!(full.wire.borrow().closed && bench.has_told());
    assert_eq!(bench.shard.metrics_mut().outbox_bytes, 0);
    // What it reads then is cut off: a broken connection brings clients back as well.
    let heard = bench.hear(&mut full);
    assert!(heard.iter().all(|heard| matches!(heard, Heard::Text(_))), "{heard:?}");
}

#[test]
fn a_scrape_waits_for_no_shard_that_has_ended() {
    for ends_first in [true, false] {
        let mut control = Control::new(&Limits::default(), 2);
        control.set_time(Moment(1), UnixMillis(1));
        (0..2).for_each(|shard| control.from_shard(shard, ToControl::Pulse { is_accepting: true }));
        let connection = ConnectionId { slot: 0, generation: 0 };
        let scrape = ToControl::Scrape { question: QuestionId { connection, stamp: 0 } };
        let metrics = ToControl::Metrics(Box::new(ShardMetrics::new(0)));
        let messages = match ends_first {
            true => [(1, ToControl::Drained), (0, scrape), (0, metrics)],
            false => [(0, scrape), (0, metrics), (1, ToControl::Drained)],
        };
        messages.into_iter().for_each(|(shard, message)| control.from_shard(shard, message));
        let is_rendered = |effect: &Effect| matches!(effect, Effect::Render { .. });
        assert!(control.take_effects().iter().any(is_rendered), "ends first: {ends_first}");
    }
}
