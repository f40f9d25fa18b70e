//! The whole server without sockets, threads or clocks: shards and control core with a fake Redis,
//! a fake database and fake clients, turned by hand in an order that one seed decides.
//!
//! `TRUNKLINE_SEED=7 cargo test --test simulation` lives one life again, exactly, and tells its
//! story; `TRUNKLINE_LIVES=5000` lives as many of each mood.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "simulation/checks.rs"]
mod checks;
#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/database.rs"]
mod database;
#[path = "simulation/ledger.rs"]
mod ledger;
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
#[path = "simulation/wire.rs"]
mod wire;
#[path = "simulation/world.rs"]
mod world;

use script::Mood;
use trunkline::log::{self, Level};

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// Lives of each mood.
const LIVES: u64 = 60;
/// Things that happen between two rests.
const STEPS: usize = 900;

/// Says which seed it was if the life ends early.
struct Obituary(u64, Mood);

impl Drop for Obituary {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("TRUNKLINE_SEED={} ({:?}) fails", self.0, self.1);
        }
    }
}

/// Lives a whole life; returns a hash of everything that clients got, and how much that was.
fn live(seed: u64, mood: Mood) -> (u64, u64) {
    let _obituary = Obituary(seed, mood);
    let mut world = script::world(seed, mood);
    for _ in 0..3 {
        for _ in 0..STEPS {
            world.live(mood);
        }
        world.check_at_rest();
    }
    world.check_the_end();
    world.trace
}

fn live_many(mood: Mood) {
    log::set_level(Level::Silent);
    let chosen = std::env::var("TRUNKLINE_SEED").ok().map(|seed| seed.parse().unwrap());
    let lives = std::env::var("TRUNKLINE_LIVES").map_or(LIVES, |lives| lives.parse().unwrap());
    let heard: u64 = match chosen {
        Some(seed) => live(seed, mood).1,
        None => (0..lives).map(|seed| live(seed, mood).1).sum(),
    };
    assert!(chosen.is_some() || heard > lives * 100, "the clients heard {heard} things only");
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
fn a_crowded_mesh_sends_away_those_who_lost_something() {
    live_many(Mood::Crowded);
}

#[test]
fn a_seed_lives_the_same_life_again() {
    log::set_level(Level::Silent);
    for seed in 0..5 {
        assert_eq!(live(seed, Mood::RedisAway), live(seed, Mood::RedisAway), "seed {seed}");
    }
}
