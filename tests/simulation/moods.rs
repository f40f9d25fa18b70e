//! How lives go: what may go wrong in them, and how often.

use std::time::Duration;

use trunkline::config::Limits;

/// How a life goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Nothing fails.
    Calm,
    /// Redis is lost now and then.
    RedisAway,
    /// The database fails now and then.
    DatabaseFails,
    /// The database is away for a while, and then everything fails.
    DatabaseAway,
    /// The mesh is tiny.
    Crowded,
    /// Shards stop turning for a while.
    Hung,
    /// There is little room for clients.
    Full,
    /// Tokens and accounts are revoked all the time.
    Revoking,
    /// The server is stopped in the middle of it.
    Stopping,
    /// Any of it, as the seed will have it.
    Anything,
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Troubles {
    /// Connections to Redis break.
    pub redis_breaks: bool,
    /// Of a hundred questions to the database so many fail.
    pub failing_percent: u32,
    /// The database goes away as a whole.
    pub database_leaves: bool,
    /// The mesh holds three deliveries.
    pub is_crowded: bool,
    /// Shards stop turning.
    pub shards_hang: bool,
    /// Few clients are let in.
    pub is_full: bool,
    /// Everybody has a token of their own, which is soon revoked.
    pub revokes: bool,
    /// The server stops before the life is over.
    pub stops: bool,
}

impl Mood {
    /// The test that lives such lives.
    pub fn test(self) -> &'static str {
        match self {
            Mood::Calm => "every_event_reaches_exactly_those_who_may_have_it",
            Mood::RedisAway => "losing_redis_loses_no_more_than_what_was_published_meanwhile",
            Mood::DatabaseFails => "a_failing_database_withholds_and_never_leaks",
            Mood::DatabaseAway => "a_database_that_is_away_costs_no_client_its_connection",
            Mood::Crowded => "a_crowded_mesh_sends_away_those_who_lost_something",
            Mood::Hung => "a_shard_that_hangs_keeps_nobody_else_waiting",
            Mood::Full => "nobody_is_refused_while_there_is_room_and_nobody_let_in_without",
            Mood::Revoking => "revoked_means_gone_at_whatever_moment_of_connecting",
            Mood::Stopping => "a_stop_ends_everybody_in_time_and_nobody_before",
            Mood::Anything => "all_troubles_together_break_no_promise",
        }
    }

    /// What may go wrong in a life of this mood.
    pub fn troubles(self, random: &mut fastrand::Rng) -> Troubles {
        let mut sometimes = || random.u32(0..3) == 0;
        let none = Troubles::default();
        match self {
            Mood::Calm => none,
            Mood::RedisAway => Troubles { redis_breaks: true, ..none },
            Mood::DatabaseFails => Troubles { failing_percent: 15, ..none },
            Mood::DatabaseAway => Troubles { database_leaves: true, ..none },
            Mood::Crowded => Troubles { is_crowded: true, ..none },
            Mood::Hung => Troubles { shards_hang: true, is_crowded: sometimes(), ..none },
            Mood::Full => Troubles { is_full: true, ..none },
            Mood::Revoking => Troubles { revokes: true, redis_breaks: sometimes(), ..none },
            Mood::Stopping => Troubles { stops: true, ..none },
            Mood::Anything => Troubles {
                redis_breaks: sometimes(),
                failing_percent: if sometimes() { 10 } else { 0 },
                database_leaves: sometimes(),
                is_crowded: sometimes(),
                shards_hang: sometimes(),
                is_full: sometimes(),
                revokes: sometimes(),
                stops: sometimes(),
            },
        }
    }

    /// What lives of this mood must come by, or they prove nothing.
    pub fn sights(self) -> &'static [&'static str] {
        match self {
            Mood::Calm => &["gathering", "kill", "page", "withheld"],
            Mood::RedisAway => &["gap"],
            Mood::DatabaseFails => &["unjudged"],
            Mood::DatabaseAway => &["unjudged", "away"],
            Mood::Crowded => &["lag"],
            Mood::Hung => &["hang", "missed", "lag"],
            Mood::Full => &["refused", "crowd"],
            Mood::Revoking => &["revoked: connecting", "revoked: opening", "revoked: open"],
            Mood::Stopping => &["stop"],
            Mood::Anything => &["lag", "gap", "stop", "refused", "hang", "kill", "unjudged"],
        }
    }
}

impl Troubles {
    /// May a question to the database fail?
    pub fn may_fail(self) -> bool {
        self.failing_percent > 0 || self.database_leaves
    }

    /// The bounds of a world with them.
    pub fn limits(self, random: &mut fastrand::Rng) -> Limits {
        let mut limits =
            Limits { outbox_bytes_max: 6000, outbox_frames_max: 30, ..Limits::default() };
        limits.redis_batch_max = [1, 3, 512][random.usize(0..3)];
        limits.question_batch_max = [1, 2, 512][random.usize(0..3)];
        limits.filters_cached_max = [0, 1, 4096][random.usize(0..3)];
        // Answers are late at random, but nobody gives them up.
        limits.answer_secs_max = Duration::from_secs(60);
        limits.question_secs_max = Duration::from_secs(60);
        if self.is_crowded {
            limits.mesh_deliveries_max = 3;
        }
        if self.is_full {
            limits.connections_max = random.usize(2..6);
            limits.connections_per_account_max = random.usize(1..3);
            limits.connections_per_address_max = random.usize(1..4);
            limits.unopened_max = random.usize(1..4);
            limits.questions_waiting_max = random.usize(1..4);
        }
        limits
    }
}
