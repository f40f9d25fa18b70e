//! The whole server without sockets, threads or clocks: shards and control core with a fake Redis,
//! a fake database and fake clients, turned by hand in an order that one seed decides.
//!
//! `TRUNKLINE_SEED=7 cargo test --test simulation` lives one life again, exactly, and tells its
//! story; `scripts/simulate 5000` lives as many of each mood.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "simulation/books.rs"]
mod books;
#[path = "simulation/checks.rs"]
mod checks;
#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/database.rs"]
mod database;
#[path = "simulation/keeping.rs"]
mod keeping;
#[path = "simulation/ledger.rs"]
mod ledger;
#[path = "simulation/moods.rs"]
mod moods;
#[path = "simulation/parser.rs"]
mod parser;
#[path = "simulation/phases.rs"]
mod phases;
#[path = "simulation/pressure.rs"]
mod pressure;
#[path = "simulation/redis.rs"]
mod redis;
#[path = "simulation/script.rs"]
mod script;
#[path = "simulation/stopping.rs"]
mod stopping;
#[path = "simulation/upstreams.rs"]
mod upstreams;
#[path = "simulation/wire.rs"]
mod wire;
#[path = "simulation/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::process::Command;

use moods::Mood;
use trunkline::log::{self, Level};

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// Lives of each mood.
const LIVES: u64 = 100;
/// Things that happen between two rests.
const STEPS: usize = 900;

/// Says which seed it was if the life ends early.
struct Obituary(u64, Mood);

impl Drop for Obituary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, test) = (self.0, self.1.test());
            eprintln!("Live it again: TRUNKLINE_SEED={seed} cargo test --test simulation {test}");
        }
    }
}

/// What a life was like.
struct Life {
    /// A hash of everything that was said in it.
    trace: u64,
    /// How much clients heard.
    heard: u64,
    seen: BTreeMap<&'static str, u64>,
}

/// Lives a whole life.
fn live(seed: u64, mood: Mood) -> Life {
    let _obituary = Obituary(seed, mood);
    let mut world = script::world(seed, mood);
    for _ in 0..3 {
        for _ in 0..STEPS {
            world.live();
        }
        world.check_at_rest();
    }
    match world.troubles.stops {
        true => world.check_a_stop(),
        false => world.check_the_end(),
    }
    let (trace, heard) = world.trace;
    Life { trace, heard, seen: world.sights() }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn live_many(mood: Mood) {
    log::set_level(Level::Silent);
    if let Some(seed) = setting("TRUNKLINE_SEED") {
        let life = live(seed, mood);
        return println!("{:?} {seed}: trace {:x}, seen {:?}", mood, life.trace, life.seen);
    }
    let first = setting("TRUNKLINE_FIRST_SEED").unwrap_or(0);
    let lives = setting("TRUNKLINE_LIVES").unwrap_or(LIVES);
    let (mut heard, mut seen) = (0, BTreeMap::new());
    for seed in first..first + lives {
        let life = live(seed, mood);
        heard += life.heard;
        for (what, count) in life.seen {
            *seen.entry(what).or_insert(0) += count;
        }
    }
    println!("{mood:?}: {lives} lives, {heard} things heard, seen {seen:?}");
    assert!(heard > lives * 50, "the clients heard {heard} things only");
    for sight in mood.sights() {
        assert!(seen.contains_key(sight), "no life came by: {sight}");
    }
}

#[test]
fn every_event_reaches_exactly_those_who_may_have_it() {
    live_many(Mood::Calm);
}

#[test]
fn losing_redis_loses_no_more_than_what_was_published_meanwhile() {
    live_many(Mood::RedisAway);
}

#[test]
fn a_failing_database_withholds_and_never_leaks() {
    live_many(Mood::DatabaseFails);
}

#[test]
fn a_database_that_is_away_costs_no_client_its_connection() {
    live_many(Mood::DatabaseAway);
}

#[test]
fn a_crowded_mesh_sends_away_those_who_lost_something() {
    live_many(Mood::Crowded);
}

#[test]
fn a_shard_that_hangs_keeps_nobody_else_waiting() {
    live_many(Mood::Hung);
}

#[test]
fn nobody_is_refused_while_there_is_room_and_nobody_let_in_without() {
    live_many(Mood::Full);
}

#[test]
fn revoked_means_gone_at_whatever_moment_of_connecting() {
    live_many(Mood::Revoking);
}

#[test]
fn a_stop_ends_everybody_in_time_and_nobody_before() {
    live_many(Mood::Stopping);
}

#[test]
fn all_troubles_together_break_no_promise() {
    live_many(Mood::Anything);
}

#[test]
fn a_seed_lives_the_same_life_again_in_another_process() {
    log::set_level(Level::Silent);
    for (seed, mood) in (0..).zip([Mood::Anything, Mood::Crowded, Mood::Full, Mood::Hung]) {
        let life = live(seed, mood);
        assert_eq!(life.trace, live(seed, mood).trace, "{mood:?} {seed}");
        let again = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", mood.test(), "--nocapture"])
            .env("TRUNKLINE_SEED", seed.to_string())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&again.stdout).into_owned();
        assert!(told.contains(&format!("trace {:x}", life.trace)), "{mood:?} {seed}: {told}");
    }
}
