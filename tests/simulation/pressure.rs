//! One shard alone, and clients or a kernel that press it.

use std::sync::Arc;
use std::time::Duration;

use trunkline::config::Limits;
use trunkline::hub::message::{QuestionId, ToShard};
use trunkline::hub::stream::Channel;
use trunkline::protocol::ids::AccountId;

use super::parser::{Heard, masked};
use super::phases::{Bench, Guest, HEALTH, event_stream, upgrade};

fn frame(bench: &mut Bench, guest: &Guest, opcode: u8, payload: &[u8]) {
    let mut bytes = Vec::new();
    masked(opcode, payload, [1, 2, 3, 4], &mut bytes);
    bench.say(guest, &bytes);
}

fn texts(heard: &[Heard]) -> usize {
    heard.iter().filter(|one| matches!(one, Heard::Text(_))).count()
}

#[test]
fn what_the_kernel_had_no_memory_for_is_sent_when_it_has_again() {
    for is_gathered in [false, true] {
        let mut bench = Bench::new();
        let mut guests: Vec<Guest> = (0..4).map(|_| bench.websocket(10_000, "user")).collect();
        guests[0].wire.borrow_mut().starved = true;
        for id in 0..3 {
            bench.deliver(id, is_gathered && id < 2);
        }
        bench.pass(Duration::from_secs(3));
        for guest in &mut guests[1..] {
            assert_eq!(texts(&bench.hear(guest)), 3, "the others do not wait");
        }
        assert!(guests[0].wire.borrow().bytes.is_empty());
        guests[0].wire.borrow_mut().starved = false;
        bench.pass(Duration::from_millis(200));
        assert_eq!(texts(&bench.hear(&mut guests[0])), 3);
    }
}

#[test]
fn who_changes_subscriptions_without_end_is_sent_away_and_who_takes_time_is_not() {
    let limits = Limits { subscription_changes_max: 300, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let change = |bench: &mut Bench, guest: &Guest, number: usize| {
        let kind = ["subscribe", "unsubscribe"][number % 2];
        let text = format!(r#"{{"type":"{kind}","stream":"direct"}}"#);
        frame(bench, guest, 1, text.as_bytes());
    };
    let mut patient = bench.websocket(100_000, "user");
    for number in 0..1000 {
        change(&mut bench, &patient, number);
        bench.pass(Duration::from_millis(120));
        if bench.hear(&mut patient).contains(&Heard::Ping) {
            frame(&mut bench, &patient, 10, b"");
        }
    }
    let is_gone = patient.wire.borrow().shut || patient.wire.borrow().closed;
    assert!(!is_gone, "{:?}", bench.shard.metrics_mut().farewells);
    let mut hasty = bench.websocket(100_000, "user");
    for number in 0..300 {
        change(&mut bench, &hasty, number);
    }
    assert_eq!(bench.hear(&mut hasty), []);
    bench.told();
    change(&mut bench, &hasty, 300);
    let heard = bench.hear(&mut hasty);
    assert_eq!(heard, [Heard::Close(Some(1008))]);
    assert_eq!(bench.shard.metrics_mut().farewells.get("subscribing_too_fast"), 1);
    assert_eq!(bench.shard.registry().readers(&Channel::Home(AccountId(1))).len(), 1);
}

#[test]
fn an_account_has_no_more_connections_than_it_may_however_many_wait_for_a_second_answer() {
    let limits = Limits { connections_per_account_max: 1, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let mut waiting: Vec<(Guest, QuestionId)> = (0..2)
        .map(|_| {
            let guest = bench.connect(10_000);
            bench.say(&guest, event_stream("list?list=7&").as_bytes());
            let question = bench.question();
            bench.identify(question, 1);
            (guest, bench.question())
        })
        .collect();
    let answers = waiting.iter_mut().map(|(guest, question)| {
        let (question, answer) = (*question, Ok(Some(AccountId(1))));
        bench.shard.handle(ToShard::ListOwner { question, answer }, bench.now);
        match bench.hear(guest)[..] {
            [Heard::Answer(status, _)] => status,
            ref other => panic!("{other:?}"),
        }
    });
    assert_eq!(answers.collect::<Vec<u16>>(), [200, 429]);
}

#[test]
fn who_asks_on_without_reading_the_answers_is_answered_no_more() {
    let mut bench = Bench::new();
    let guest = bench.connect(1000);
    for _ in 0..1000 {
        bench.say(&guest, HEALTH.repeat(10).as_bytes());
    }
    let waiting = bench.shard.metrics_mut().outbox_bytes;
    assert!(waiting < 1000, "{waiting} bytes wait for a socket without a client");
    guest.wire.borrow_mut().bytes.clear();
    bench.shard.writable(guest.id, bench.now);
    assert!(guest.wire.borrow().shut, "it is to come back when it has read");
}

#[test]
fn no_more_scrapes_wait_than_other_questions() {
    let mut bench = Bench::with(Limits { questions_waiting_max: 3, ..Limits::default() });
    let scrape = "GET /metrics HTTP/1.1\r\nHost: sim\r\n\r\n";
    let mut guests: Vec<Guest> = (0..4).map(|_| bench.connect(10_000)).collect();
    guests.iter().for_each(|guest| bench.say(guest, scrape.as_bytes()));
    assert_eq!(bench.shard.metrics_mut().questions_waiting, 3);
    assert!(matches!(bench.hear(&mut guests[3])[..], [Heard::Answer(503, _)]));
}

/// An upgrade whose answer is put together, but not written yet.
fn held(bench: &mut Bench, early: &[u8]) -> Guest {
    let guest = bench.connect(100_000);
    bench.say(&guest, &[upgrade("user").as_bytes(), early].concat());
    let question = bench.question();
    bench.identify(question, 1);
    guest
}

#[test]
fn whoever_is_sent_away_at_once_has_had_the_answer_that_opened_the_stream() {
    let mut bench = Bench::new();
    let mut guest = held(&mut bench, b"");
    assert!(guest.wire.borrow().bytes.is_empty());
    let channels = Arc::from([Channel::Home(AccountId(1))]);
    bench.shard.handle(ToShard::Lagged(channels), bench.now);
    let heard = bench.hear(&mut guest);
    assert_eq!(heard, [Heard::Answer(101, String::new()), Heard::Close(Some(1013))]);
}

#[test]
fn an_outbox_is_full_only_when_the_kernel_was_asked() {
    for frames_max in [1, 2, 1000] {
        let limits = Limits { outbox_frames_max: frames_max, ..Limits::default() };
        let mut bench = Bench::with(limits);
        let mut pings = Vec::new();
        (0..1200).for_each(|_| masked(9, b"", [1, 2, 3, 4], &mut pings));
        let mut guest = held(&mut bench, &pings);
        (0..40).for_each(|id| bench.deliver(id, id < 39));
        let heard = bench.hear(&mut guest);
        assert_eq!(heard.len(), 1 + 1200 + 40, "{frames_max} frames at most");
        assert_eq!(bench.shard.metrics_mut().farewells.total(), 0);
    }
}

#[test]
fn bytes_count_as_sent_when_the_kernel_has_taken_them() {
    let mut bench = Bench::new();
    let mut guest = bench.websocket(100_000, "user");
    (0..3).for_each(|id| bench.deliver(id, false));
    let sent = bench.shard.metrics_mut().bytes_sent;
    guest.wire.borrow_mut().starved = true;
    (3..50).for_each(|id| bench.deliver(id, false));
    assert_eq!(bench.shard.metrics_mut().bytes_sent, sent);
    bench.shard.handle(ToShard::Lagged(Arc::from([])), bench.now);
    guest.wire.borrow_mut().starved = false;
    bench.pass(Duration::from_millis(200));
    assert_eq!(texts(&bench.hear(&mut guest)), 50);
    assert!(bench.shard.metrics_mut().bytes_sent > sent);
}

#[test]
fn what_is_sent_comes_off_the_budget_of_the_turn() {
    let mut bench = Bench::new();
    let _guests: Vec<Guest> = (0..5).map(|_| bench.websocket(100_000, "user")).collect();
    let mut budget = 7;
    bench.begin(0, false);
    assert!(!bench.shard.fan_out(&mut budget, bench.now));
    assert_eq!(budget, 2);
    bench.begin(1, false);
    assert!(bench.shard.fan_out(&mut budget, bench.now));
    assert_eq!(budget, 0);
}
