//! Can the server serve? What the control core knows of it, as a value: which shards turn, whether
//! Postgres answers, whether Redis is subscribed to what it should be.
//!
//! A shard gives a sign of life with its turns ([`ToControl::Pulse`]), whatever else it has to do;
//! the control core looks at the signs once in a while. Silence is counted in looks and not in
//! time, so that a process that was stopped as a whole (SIGSTOP, a frozen virtual machine) does not
//! take itself for hung when it goes on.
//!
//! [`ToControl::Pulse`]: crate::hub::message::ToControl::Pulse

use std::fmt;
use std::time::Duration;

use crate::config::Limits;
use crate::hub::moment::Moment;

/// Probes of Postgres under way at a time.
const PROBES_MAX: usize = 2;

/// What is known.
pub struct Readiness {
    shards: Vec<Life>,
    pulses_missed_max: usize,
    look_interval: Duration,
    next_look: Moment,
    postgres: Postgres,
    redis: Redis,
    is_stopping: bool,
}

/// A shard as the control core sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Life {
    /// It has not turned yet.
    Starting,
    Turning {
        /// It has given no sign of life for so many looks.
        silent: usize,
        /// It could not accept somebody lately: so many signs of life have to come before that is
        /// forgotten, so that readiness does not flicker.
        troubled: usize,
    },
    /// It has sent everybody away and is gone, as it should.
    Ended,
}

/// Does Postgres answer?
struct Postgres {
    silence_max: Duration,
    answered: Option<Moment>,
    /// Questions under way that only ask whether anybody answers.
    probes: usize,
    /// The last that is known of it: it did not answer, or not in time.
    has_failed: bool,
}

/// Is everything subscribed again?
#[derive(Clone, Copy)]
enum Redis {
    /// The subscriber connection has not been seen since it was lost.
    Away,
    /// It is back; so many channels were wanted then.
    Returning(usize),
    Subscribed,
}

/// What only the surroundings see.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upstreams {
    /// The subscriber connection to Redis stands.
    pub redis_connected: bool,
    /// Postgres has let in at least one connection.
    pub postgres_connected: bool,
}

/// How things stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// Redis is subscribed to what was wanted.
    pub redis: bool,
    /// Postgres has answered lately.
    pub postgres: bool,
    /// Shards that turn.
    pub shards_turning: usize,
    /// Shards that turn and have let in everybody lately.
    pub shards_accepting: usize,
    /// Shards that should.
    pub shards: usize,
    /// Every shard accepts connections, or has.
    pub has_started: bool,
    /// Clients are being sent away.
    pub is_stopping: bool,
}

impl Readiness {
    /// Of a server with so many shards, none of which has turned yet.
    pub fn new(limits: &Limits, shards: usize) -> Readiness {
        Readiness {
            shards: vec![Life::Starting; shards],
            pulses_missed_max: limits.pulses_missed_max,
            look_interval: limits.pulse_interval_secs,
            next_look: Moment::default(),
            postgres: Postgres {
                silence_max: limits.postgres_silence_secs_max,
                answered: None,
                probes: 0,
                has_failed: false,
            },
            redis: Redis::Away,
            is_stopping: false,
        }
    }

    /// A shard turns, and has been able to accept everybody since its last pulse, or not. True if
    /// that is news.
    pub fn pulse(&mut self, shard: usize, is_accepting: bool) -> bool {
        let before = (self.is_turning(shard), self.is_accepting(shard));
        let trouble = self.pulses_missed_max;
        match self.shards.get_mut(shard) {
            Some(Life::Ended) | None => return false,
            Some(life) => {
                let troubled = match life {
                    _ if !is_accepting => trouble,
                    Life::Turning { troubled, .. } => troubled.saturating_sub(1),
                    _ => 0,
                };
                *life = Life::Turning { silent: 0, troubled };
            }
        }
        before != (self.is_turning(shard), self.is_accepting(shard))
    }

    /// A shard has nothing left to do.
    pub fn shard_ended(&mut self, shard: usize) {
        if let Some(life) = self.shards.get_mut(shard) {
            *life = Life::Ended;
        }
    }

    /// A shard turns, or need not any more.
    pub fn is_turning(&self, shard: usize) -> bool {
        match self.shards.get(shard) {
            Some(Life::Turning { silent, .. }) => *silent < self.pulses_missed_max,
            Some(Life::Ended) => true,
            Some(Life::Starting) | None => false,
        }
    }

    /// A shard turns and has not ended.
    pub fn can_answer(&self, shard: usize) -> bool {
        self.is_turning(shard) && self.shards.get(shard) != Some(&Life::Ended)
    }

    /// A shard turns, and nobody has been turned away lately because the kernel lacked something.
    fn is_accepting(&self, shard: usize) -> bool {
        let is_troubled = matches!(
            self.shards.get(shard), Some(Life::Turning { troubled, .. }) if *troubled > 0
        );
        self.is_turning(shard) && !is_troubled
    }

    /// When to look next.
    pub fn next_look(&self) -> Moment {
        self.next_look
    }

    /// Looks for signs of life. True if Postgres is to be asked whether it answers.
    pub fn look(&mut self, now: Moment) -> bool {
        self.next_look = now + self.look_interval;
        for life in &mut self.shards {
            if let Life::Turning { silent, .. } = life {
                *silent = silent.saturating_add(1);
            }
        }
        // The first may hang on a connection that alone is broken: the second goes on another.
        let probes_max = if self.postgres.has_failed { PROBES_MAX } else { 1 };
        let is_due = self.postgres.has_failed || self.postgres.is_silent_since(now, 1);
        let asks = is_due && self.postgres.probes < probes_max;
        self.postgres.probes += usize::from(asks);
        asks
    }

    /// Postgres has answered a question. True if that is news.
    pub fn postgres_answered(&mut self, now: Moment) -> bool {
        let was_answering = self.postgres.is_answering(now);
        self.postgres.answered = Some(now);
        self.postgres.has_failed = false;
        !was_answering
    }

    /// The question of [`Readiness::look`], asked at `since`, is not under way any more. True if
    /// that is news.
    pub fn probed(&mut self, since: Moment, is_answered: bool) -> bool {
        self.postgres.probes = self.postgres.probes.saturating_sub(1);
        !is_answered && self.postgres_is_late(since)
    }

    /// Postgres has not answered in time what it was asked at `since`. True if that is news:
    /// nothing else was answered meanwhile.
    pub fn postgres_is_late(&mut self, since: Moment) -> bool {
        let is_known = self.postgres.has_failed;
        if self.postgres.answered.is_none_or(|answered| answered <= since) {
            self.postgres.has_failed = true;
        }
        self.postgres.has_failed && !is_known
    }

    /// The subscriber connection is gone.
    pub fn redis_lost(&mut self) {
        self.redis = Redis::Away;
    }

    /// Clients are sent away from here on.
    pub fn begin_stop(&mut self) {
        self.is_stopping = true;
    }

    /// How things stand, given how many channels are wanted and how many Redis has confirmed.
    pub fn report(
        &mut self,
        upstreams: Upstreams,
        (wanted, joined): (usize, usize),
        now: Moment,
    ) -> Report {
        self.redis = match self.redis {
            _ if !upstreams.redis_connected => Redis::Away,
            Redis::Away => Redis::Returning(wanted),
            other => other,
        };
        // Whoever comes later waits for a subscription of their own, as at any other time.
        if let Redis::Returning(awaited) = self.redis
            && joined >= awaited.min(wanted)
        {
            self.redis = Redis::Subscribed;
        }
        let shards = 0..self.shards.len();
        let turning = shards.clone().filter(|shard| self.is_turning(*shard));
        let accepting = shards.filter(|shard| self.is_accepting(*shard));
        Report {
            redis: matches!(self.redis, Redis::Subscribed),
            postgres: upstreams.postgres_connected && self.postgres.is_answering(now),
            shards_turning: turning.count(),
            shards_accepting: accepting.count(),
            shards: self.shards.len(),
            has_started: !self.shards.contains(&Life::Starting),
            is_stopping: self.is_stopping,
        }
    }
}

impl Postgres {
    fn is_silent_since(&self, now: Moment, periods: u32) -> bool {
        self.answered.is_none_or(|at| at + self.silence_max * periods <= now)
    }

    fn is_answering(&self, now: Moment) -> bool {
        !self.has_failed && !self.is_silent_since(now, 2)
    }
}

impl Report {
    /// Every part is as it should be.
    pub fn is_ready(&self) -> bool {
        self.missing().next().is_none()
    }

    /// Every core that should turn does.
    pub fn is_turning(&self) -> bool {
        self.shards_turning == self.shards
    }

    /// What is missing, in words.
    pub fn missing(&self) -> impl Iterator<Item = &'static str> {
        let parts = [
            (!self.redis, "redis"),
            (!self.postgres, "postgres"),
            (!self.is_turning(), "shards"),
            (self.shards_accepting < self.shards_turning, "accepting"),
            (self.is_stopping, "stopping"),
        ];
        parts.into_iter().filter_map(|(is_missing, part)| is_missing.then_some(part))
    }

    /// For the path `/ready`.
    pub fn json(&self) -> String {
        let missing: Vec<String> = self.missing().map(|part| format!("\"{part}\"")).collect();
        format!(
            "{{\"ready\":{},\"missing\":[{}],\"redis\":{},\"postgres\":{},\
             \"shards\":{{\"turning\":{},\"accepting\":{},\"of\":{}}},\"stopping\":{}}}",
            self.is_ready(),
            missing.join(","),
            self.redis,
            self.postgres,
            self.shards_turning,
            self.shards_accepting,
            self.shards,
            self.is_stopping,
        )
    }
}

/// For the path `/ready` where the control core, which knows, does not say anything.
pub const CONTROL_SILENT: &str = r#"{"ready":false,"missing":["control"]}"#;

/// For `systemctl status`.
impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_stopping {
            return formatter.write_str("Stopping: sending clients away");
        }
        formatter.write_str(if self.is_ready() { "Ready: " } else { "Not ready: " })?;
        let redis = if self.redis { "Redis subscribed" } else { "Redis not subscribed" };
        let postgres = if self.postgres { "Postgres answers" } else { "Postgres does not answer" };
        let (turning, shards) = (self.shards_turning, self.shards);
        write!(formatter, "{redis}, {postgres}, {turning} of {shards} shards turning")?;
        match turning.saturating_sub(self.shards_accepting) {
            0 => Ok(()),
            troubled => write!(formatter, ", {troubled} cannot let in clients"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Upstreams = Upstreams { redis_connected: true, postgres_connected: true };

    /// Two shards, and looks that count the seconds.
    struct Bench {
        readiness: Readiness,
        now: Moment,
    }

    impl Bench {
        fn new() -> Bench {
            let readiness = Readiness::new(&Limits::default(), 2);
            Bench { readiness, now: Moment(0) }
        }

        /// Everything is fine.
        fn ready() -> Bench {
            let mut bench = Bench::new();
            bench.second(&[0, 1], Some(true));
            assert!(bench.report().is_ready());
            bench
        }

        /// A second with the pulses of these shards; if Postgres is asked, what it says.
        fn second(&mut self, shards: &[usize], answer: Option<bool>) {
            let is_asked = self.readiness.look(self.now);
            if is_asked && let Some(is_answered) = answer {
                self.readiness.probed(self.now, is_answered);
                if is_answered {
                    self.readiness.postgres_answered(self.now);
                }
            }
            for shard in shards {
                self.readiness.pulse(*shard, true);
            }
            self.now = self.now + Duration::from_secs(1);
        }

        fn report(&mut self) -> Report {
            self.readiness.report(UP, (0, 0), self.now)
        }

        fn missing(&mut self) -> Vec<&'static str> {
            self.report().missing().collect()
        }
    }

    #[test]
    fn it_is_ready_when_every_part_is_there_and_not_before() {
        let mut bench = Bench::new();
        assert_eq!(bench.missing(), ["postgres", "shards"]);
        bench.second(&[0], Some(true));
        assert_eq!(bench.missing(), ["shards"]);
        assert!(!bench.report().has_started);
        bench.second(&[1], None);
        assert!(bench.report().is_ready() && bench.report().has_started);
        let away = bench.readiness.report(Upstreams::default(), (0, 0), bench.now);
        assert_eq!(away.missing().collect::<Vec<_>>(), ["redis", "postgres"]);
    }

    #[test]
    fn a_shard_that_is_silent_for_five_looks_does_not_turn_until_it_is_heard_again() {
        let mut bench = Bench::ready();
        for _ in 0..4 {
            bench.second(&[0], Some(true));
            assert!(bench.report().is_turning());
        }
        bench.second(&[0], Some(true));
        assert_eq!(bench.missing(), ["shards"]);
        assert_eq!(bench.report().shards_turning, 1);
        assert!(bench.readiness.pulse(1, true), "news");
        assert!(!bench.readiness.pulse(1, true), "no news");
        assert!(bench.report().is_ready());
    }

    #[test]
    fn a_shard_that_turns_clients_away_makes_it_not_ready_and_does_not_starve_the_watchdog() {
        let mut bench = Bench::ready();
        assert!(bench.readiness.pulse(1, false), "news");
        assert!(!bench.readiness.pulse(1, false), "no news");
        assert_eq!(bench.missing(), ["accepting"]);
        let report = bench.report();
        assert!(report.is_turning() && report.has_started);
        assert!(report.to_string().ends_with("2 of 2 shards turning, 1 cannot let in clients"));
        for _ in 0..4 {
            bench.second(&[0, 1], Some(true));
            assert_eq!(bench.missing(), ["accepting"], "so soon");
        }
        assert!(bench.readiness.pulse(1, true), "news");
        assert!(bench.report().is_ready());
        bench.readiness.pulse(1, false);
        bench.readiness.shard_ended(1);
        assert_eq!(bench.report().shards_accepting, 2);
    }

    #[test]
    fn a_pause_of_the_whole_process_is_no_silence() {
        let mut bench = Bench::ready();
        bench.now = bench.now + Duration::from_secs(3600);
        assert!(bench.report().is_turning());
        bench.second(&[], Some(true));
        assert!(bench.report().is_ready());
    }

    #[test]
    fn a_shard_that_has_ended_as_it_should_is_not_missed() {
        let mut bench = Bench::ready();
        bench.readiness.begin_stop();
        bench.readiness.shard_ended(1);
        for _ in 0..20 {
            bench.second(&[0], Some(true));
        }
        assert_eq!(bench.missing(), ["stopping"]);
        assert!(bench.report().is_turning());
    }

    #[test]
    fn a_postgres_that_takes_questions_and_answers_none_does_not_answer() {
        let mut bench = Bench::ready();
        for _ in 0..8 {
            bench.second(&[0, 1], None);
            assert!(bench.report().is_ready());
        }
        bench.second(&[0, 1], None);
        assert_eq!(bench.missing(), ["postgres"]);
        assert!(bench.readiness.postgres_answered(bench.now), "news");
        assert!(bench.report().is_ready());
    }

    #[test]
    fn a_refusal_of_postgres_counts_at_once_and_is_asked_about_every_second() {
        let mut bench = Bench::ready();
        for _ in 0..5 {
            bench.second(&[0, 1], Some(false));
        }
        assert_eq!(bench.missing(), ["postgres"]);
        bench.second(&[0, 1], Some(true));
        assert!(bench.report().is_ready());
    }

    #[test]
    fn redis_counts_when_everything_is_subscribed_again_and_stays_while_others_come() {
        let mut bench = Bench::ready();
        let now = bench.now;
        let redis = |readiness: &mut Readiness, wanted, joined| {
            readiness.report(UP, (wanted, joined), now).redis
        };
        assert!(redis(&mut bench.readiness, 10, 3), "it was never away");
        bench.readiness.redis_lost();
        assert!(!redis(&mut bench.readiness, 10, 0));
        assert!(!redis(&mut bench.readiness, 15, 9));
        assert!(redis(&mut bench.readiness, 15, 10));
        assert!(redis(&mut bench.readiness, 99, 15));
        bench.readiness.redis_lost();
        assert!(!redis(&mut bench.readiness, 10, 0));
        assert!(redis(&mut bench.readiness, 4, 4), "those who left are not waited for");
    }

    #[test]
    fn the_body_names_each_part_and_what_is_missing() {
        let report = Report {
            redis: true,
            postgres: false,
            shards_turning: 1,
            shards_accepting: 1,
            shards: 2,
            has_started: true,
            is_stopping: false,
        };
        let expected = serde_json::json!({
            "ready": false, "missing": ["postgres", "shards"], "redis": true, "postgres": false,
            "shards": {"turning": 1, "accepting": 1, "of": 2}, "stopping": false,
        });
        let value: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(value, expected);
        let silent: serde_json::Value = serde_json::from_str(CONTROL_SILENT).unwrap();
        assert_eq!((&silent["ready"], &silent["missing"][0]), (&false.into(), &"control".into()));
    }
}
