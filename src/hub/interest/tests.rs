//! The properties of [`Interest`].

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::hub::shard_set::SHARDS_MAX;
use crate::protocol::ids::{AccountId, TokenId};

const SECOND: Duration = Duration::from_secs(1);
const ALL: Room = Room { keys: Some(usize::MAX), subscriptions: usize::MAX };

fn limits(redis_batch_max: usize) -> Limits {
    Limits { redis_batch_max, ..Limits::default() }
}

fn home(number: i64) -> Channel {
    Channel::Home(AccountId(number))
}

fn confirm(interest: &mut Interest, batch: &Batch) {
    for channel in &batch.subscribe {
        let name = channel.redis_name();
        interest.confirmed(name.as_bytes(), Confirmation::Subscribed);
    }
    for channel in &batch.unsubscribe {
        let name = channel.redis_name();
        interest.confirmed(name.as_bytes(), Confirmation::Unsubscribed);
    }
}

/// Everything wanted is subscribed and its keys are set, at `now`.
fn settled(count: i64, now: Moment) -> Interest {
    let mut interest = Interest::new(&limits(512));
    (0..count).for_each(|number| {
        interest.want(&home(number), 0, false);
    });
    loop {
        let batch = interest.next_batch(now, ALL);
        if batch.is_empty() {
            return interest;
        }
        confirm(&mut interest, &batch);
    }
}

#[test]
fn an_entry_is_small() {
    assert_eq!(size_of::<Option<(Channel, Entry)>>(), 32);
}

#[test]
fn who_comes_while_a_channel_is_being_left_is_in_the_audience_of_the_next_subscription_only() {
    let mut interest = settled(1, Moment(0));
    let audience = |interest: &Interest| interest.audience(&home(0)).iter().count();
    assert_eq!(audience(&interest), 1);
    interest.unwant(&home(0), 0);
    let leave = interest.next_batch(Moment(0), ALL);
    assert_eq!(leave.unsubscribe, [home(0)]);
    interest.want(&home(0), 0, false);
    // Redis has not read the `UNSUBSCRIBE` yet, and goes on sending.
    assert_eq!((audience(&interest), interest.shards(&home(0)).iter().count()), (0, 1));
    confirm(&mut interest, &leave);
    let join = interest.next_batch(Moment(0), ALL);
    assert_eq!(join.subscribe, [home(0)]);
    // The first message may be read together with the confirmation, and behind it.
    confirm(&mut interest, &join);
    assert_eq!(audience(&interest), 1);
    // Wanted again before anything was sent: nothing has happened.
    interest.unwant(&home(0), 0);
    interest.want(&home(0), 0, false);
    assert!(interest.next_batch(Moment(0), ALL).is_empty());
    assert_eq!(audience(&interest), 1);
}

#[test]
fn a_channel_is_subscribed_once_however_many_shards_want_it() {
    let mut interest = Interest::new(&limits(512));
    assert!(interest.want(&home(1), 0, false));
    assert!(!interest.want(&home(1), 0, false));
    assert!(!interest.want(&home(1), SHARDS_MAX - 1, false));
    let batch = interest.next_batch(Moment(0), ALL);
    assert_eq!(batch.subscribe, [home(1)]);
    assert_eq!(batch.set_keys, [home(1)]);
    assert_eq!(interest.confirmed_since(&home(1)), None);
    assert_eq!(interest.confirmed(b"timeline:1", Confirmation::Subscribed), Some(home(1)));
    assert_eq!(interest.confirmed(b"timeline:1", Confirmation::Subscribed), None);
    assert_eq!(interest.confirmed_since(&home(1)), Some(Epoch(0)));
    assert_eq!(interest.shards(&home(1)).iter().collect::<Vec<_>>(), [0, SHARDS_MAX - 1]);
    assert!(!interest.unwant(&home(1), 0));
    assert!(!interest.unwant(&home(1), 0));
    assert!(interest.next_batch(Moment(0), ALL).is_empty());
    assert!(interest.unwant(&home(1), SHARDS_MAX - 1));
    assert_eq!(interest.next_batch(Moment(0), ALL).unsubscribe, [home(1)]);
}

#[test]
fn a_change_of_mind_before_redis_was_told_costs_nothing() {
    let mut interest = Interest::new(&limits(512));
    interest.want(&home(1), 3, false);
    interest.unwant(&home(1), 3);
    assert!(interest.next_batch(Moment(0), ALL).is_empty());
    assert_eq!(interest.entries.len(), 0);
}

#[test]
fn a_shard_that_cannot_exist_leaves_nothing_behind() {
    let mut interest = Interest::new(&limits(512));
    assert!(!interest.want(&home(1), SHARDS_MAX, false));
    assert!(interest.next_batch(Moment(0), ALL).is_empty());
    assert_eq!((interest.wanted(), interest.entries.len()), (0, 0));
}

#[test]
fn system_channels_have_no_key() {
    let mut interest = Interest::new(&limits(512));
    let system = [Channel::System(AccountId(1)), Channel::Token(TokenId(1))];
    system.iter().for_each(|channel| {
        interest.want(channel, 0, false);
    });
    let batch = interest.next_batch(Moment(0), ALL);
    assert_eq!((batch.subscribe.len(), batch.set_keys.len()), (2, 0));
    confirm(&mut interest, &batch);
    assert!(interest.next_batch(Moment(0) + 400 * SECOND, ALL).is_empty());
}

#[test]
fn nothing_is_subscribed_before_its_key_while_keys_are_slow() {
    let mut interest = Interest::new(&limits(512));
    interest.want(&home(1), 0, false);
    let slow = Room { keys: Some(0), subscriptions: 512 };
    assert!(interest.next_batch(Moment(0), slow).is_empty());
    let away = Room { keys: None, subscriptions: 512 };
    assert_eq!(interest.next_batch(Moment(0), away).subscribe, [home(1)]);
    // The command connection comes back.
    interest.keys_lost();
    assert_eq!(interest.next_batch(Moment(0), ALL).set_keys, [home(1)]);
}

#[test]
fn a_key_that_was_set_with_its_subscription_is_not_set_again_in_a_hurry() {
    let mut interest = Interest::new(&limits(512));
    interest.keys_lost();
    interest.want(&home(1), 0, false);
    assert_eq!(interest.next_batch(Moment(0), ALL).set_keys, [home(1)]);
    assert!(interest.next_batch(Moment(0), ALL).is_empty());
}

#[test]
fn a_key_that_was_passed_by_while_nobody_wanted_it_is_set_when_somebody_does() {
    let mut interest = Interest::new(&limits(512));
    interest.want(&home(1), 0, false);
    interest.next_batch(Moment(0), Room { keys: None, subscriptions: 512 });
    interest.unwant(&home(1), 0);
    interest.keys_lost();
    assert!(interest.next_batch(Moment(0), ALL).is_empty());
    interest.want(&home(1), 0, false);
    assert_eq!(interest.next_batch(Moment(0), ALL).set_keys, [home(1)]);
}

#[test]
fn keys_are_renewed_evenly_and_each_once_in_a_round() {
    let start = Moment(7);
    let mut interest = settled(3600, start);
    let mut renewed: BTreeMap<String, usize> = BTreeMap::new();
    for second in 1..=1080 {
        let now = start + second * SECOND;
        let mut keys = 0;
        loop {
            let batch = interest.next_batch(now, ALL);
            if batch.is_empty() {
                break;
            }
            keys += batch.set_keys.len();
            for channel in batch.set_keys {
                *renewed.entry(channel.redis_name()).or_default() += 1;
            }
        }
        assert_eq!(keys, 10, "in second {second}");
    }
    assert_eq!(renewed.len(), 3600);
    assert!(renewed.values().all(|times| *times == 3));
}

#[test]
fn the_deadline_is_when_the_next_key_is_due() {
    let start = Moment(0);
    let mut interest = settled(3, start);
    for round in 0..2_u32 {
        for key in 1..=3 {
            let due = start + (round * 360 + key * 120) * SECOND;
            assert_eq!(interest.next_deadline(ALL), Some(due));
            assert!(interest.next_batch(Moment(due.0 - 1), ALL).is_empty());
            assert_eq!(interest.next_batch(due, ALL).set_keys.len(), 1);
        }
    }
}

#[test]
fn lost_keys_are_all_set_again_in_batches() {
    let mut interest = settled(1200, Moment(0));
    interest.keys_lost();
    let mut sizes = Vec::new();
    loop {
        let batch = interest.next_batch(Moment(1), ALL);
        if batch.is_empty() {
            break;
        }
        sizes.push(batch.set_keys.len());
    }
    assert_eq!(sizes, [512, 512, 176]);
}

#[derive(Clone, Debug)]
enum Step {
    Want(i64, usize),
    Unwant(i64, usize),
    Batch {
        keys: Option<usize>,
        subscriptions: usize,
    },
    /// Redis answers so many of the requests that are under way.
    Answer(usize),
    Lose,
    LoseKeys,
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..6_i64, 0..3_usize).prop_map(|(channel, shard)| Step::Want(channel, shard)),
        6 => (0..6_i64, 0..3_usize).prop_map(|(channel, shard)| Step::Unwant(channel, shard)),
        4 => (proptest::option::of(0..5_usize), 0..5_usize)
            .prop_map(|(keys, subscriptions)| Step::Batch { keys, subscriptions }),
        4 => (0..5_usize).prop_map(Step::Answer),
        1 => Just(Step::Lose),
        1 => Just(Step::LoseKeys),
        1 => (0..500_u64).prop_map(Step::Wait),
    ]
}

/// A Redis that does what it is told, in order, and answers when asked to.
#[derive(Default)]
struct Model {
    wanted: BTreeSet<(i64, usize)>,
    subscribed: BTreeSet<String>,
    answers: VecDeque<(String, Confirmation)>,
    keys: BTreeSet<String>,
}

impl Model {
    fn tell(&mut self, batch: &Batch) {
        self.keys.extend(batch.set_keys.iter().map(Channel::redis_name));
        for channel in &batch.subscribe {
            assert!(self.subscribed.insert(channel.redis_name()), "subscribed twice");
            self.answers.push_back((channel.redis_name(), Confirmation::Subscribed));
        }
        for channel in &batch.unsubscribe {
            assert!(self.subscribed.remove(&channel.redis_name()), "left twice");
            self.answers.push_back((channel.redis_name(), Confirmation::Unsubscribed));
        }
    }

    fn answer(&mut self, count: usize, interest: &mut Interest) {
        for (name, confirmation) in self.answers.drain(..count.min(self.answers.len())) {
            assert!(interest.confirmed(name.as_bytes(), confirmation).is_some());
        }
    }

    fn names(&self) -> BTreeSet<String> {
        self.wanted.iter().map(|(channel, _)| home(*channel).redis_name()).collect()
    }
}

proptest! {
    #[test]
    fn after_any_history_exactly_what_somebody_wants_is_subscribed_and_has_its_key(
        steps in proptest::collection::vec(any_step(), 0..120),
    ) {
        let mut interest = Interest::new(&limits(3));
        let mut redis = Model::default();
        let mut now = Moment(0);
        for step in steps {
            match step {
                Step::Want(channel, shard) => {
                    interest.want(&home(channel), shard, false);
                    redis.wanted.insert((channel, shard));
                }
                Step::Unwant(channel, shard) => {
                    interest.unwant(&home(channel), shard);
                    redis.wanted.remove(&(channel, shard));
                }
                Step::Batch { keys, subscriptions } => {
                    let room = Room { keys, subscriptions };
                    let batch = interest.next_batch(now, room);
                    // Else whoever turns it would do so without pause.
                    let deadline = interest.next_deadline(room);
                    prop_assert!(!batch.is_empty() || deadline.is_none_or(|at| at > now));
                    let requests = batch.subscribe.len() + batch.unsubscribe.len();
                    prop_assert!(requests <= subscriptions.min(3));
                    prop_assert!(batch.set_keys.len() <= keys.unwrap_or(0).min(3));
                    redis.tell(&batch);
                    if keys.is_none() {
                        // As the command connection does when it comes back.
                        interest.keys_lost();
                    }
                }
                Step::Answer(count) => redis.answer(count, &mut interest),
                Step::Lose => {
                    interest.connection_lost();
                    redis.subscribed.clear();
                    redis.answers.clear();
                }
                Step::LoseKeys => {
                    interest.keys_lost();
                    redis.keys.clear();
                }
                Step::Wait(seconds) => now = now + Duration::from_secs(seconds),
            }
        }
        for _ in 0..100 {
            let batch = interest.next_batch(now, ALL);
            redis.tell(&batch);
            redis.answer(usize::MAX, &mut interest);
        }
        prop_assert!(interest.next_batch(now, ALL).is_empty());
        let names = redis.names();
        prop_assert_eq!(&redis.subscribed, &names);
        prop_assert!(names.is_subset(&redis.keys));
        prop_assert_eq!((interest.wanted(), interest.joined()), (names.len(), names.len()));
        prop_assert_eq!(interest.entries.len(), names.len());
        for channel in 0..6 {
            let shards: Vec<usize> =
                (0..3).filter(|shard| redis.wanted.contains(&(channel, *shard))).collect();
            prop_assert_eq!(interest.shards(&home(channel)).iter().collect::<Vec<_>>(), shards);
        }
    }
}

#[test]
fn event_streams_are_remembered_while_anybody_wants_the_channel() {
    let mut interest = Interest::new(&Limits::default());
    interest.want(&home(1), 0, false);
    assert!(!interest.has_event_streams(&home(1)) && !interest.has_event_streams(&home(2)));
    interest.want(&home(1), 1, true);
    interest.want(&home(1), 0, false);
    assert!(interest.has_event_streams(&home(1)));
    interest.unwant(&home(1), 1);
    assert!(interest.has_event_streams(&home(1)), "which shard it was is not known");
    interest.unwant(&home(1), 0);
    interest.want(&home(1), 0, false);
    assert!(!interest.has_event_streams(&home(1)));
}
