//! Is anybody there? The circuit breaker of the pool.
//!
//! ```text
//!             first attempt without       postgres_unreachable_secs_max
//! Reachable ─── an open connection ─► Doubtful ─────────────────────► GivenUp
//!     ▲                                  │  questions wait               │  questions fail at once
//!     └──────── a connection opens ──────┴───────────────────────────────┘
//! ```
//!
//! Attempts go on in every state, one at a time while nothing is open, with pauses that double.

use std::time::Duration;

use crate::config::Limits;
use crate::hub::moment::Moment;

/// The pause after the first failure.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// What is known about the server.
#[derive(Debug)]
pub struct Reach {
    patience: Duration,
    pause_max: Duration,
    /// Since when we try without having any open connection.
    doubtful_since: Option<Moment>,
    /// Attempts that failed since the server last answered a question.
    failures: u32,
    /// No attempt starts before.
    not_before: Moment,
    /// Why the last attempt failed.
    reason: Option<String>,
}

impl Reach {
    /// Nothing is known yet.
    pub fn new(limits: &Limits) -> Reach {
        Reach {
            patience: limits.postgres_unreachable_secs_max,
            pause_max: limits.postgres_reconnect_secs_max,
            doubtful_since: None,
            failures: 0,
            not_before: Moment(0),
            reason: None,
        }
    }

    /// An attempt to connect begins; `alone`: no connection is open meanwhile.
    pub fn trying(&mut self, alone: bool, now: Moment) {
        if alone {
            self.doubtful_since.get_or_insert(now);
        }
    }

    /// A connection is open.
    pub fn opened(&mut self) {
        self.doubtful_since = None;
        self.not_before = Moment(0);
        self.reason = None;
    }

    /// A question was answered. `true`: for the first time after failures. (Letting us in is not
    /// enough: a pooler does that while the server behind it is away, and pauses must go on
    /// growing.)
    pub fn answered(&mut self) -> bool {
        std::mem::take(&mut self.failures) > 0
    }

    /// An attempt failed, or a connection broke before it was of any use: the next one waits for 50
    /// ms, 100 ms, … up to the bound, less up to half of it by chance, so that many servers do not
    /// come back in step.
    pub fn failed(&mut self, reason: &str, now: Moment) {
        let doubled = PAUSE_MIN.saturating_mul(1 << self.failures.min(16));
        let pause = doubled.min(self.pause_max).mul_f64(0.5 + fastrand::f64() / 2.0);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now + pause;
        self.reason = Some(reason.to_owned());
    }

    /// When the next attempt may start.
    pub fn not_before(&self) -> Moment {
        self.not_before
    }

    /// When waiting questions will be given up, unless a connection opens.
    pub fn gives_up_at(&self) -> Option<Moment> {
        self.doubtful_since.map(|since| since + self.patience)
    }

    /// If nobody has been there for so long that asking is vain: why.
    pub fn given_up(&self, now: Moment) -> Option<&str> {
        let reason = self.reason.as_deref().unwrap_or("connecting takes too long");
        self.gives_up_at().filter(|at| *at <= now).map(|_| reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment(millis * 1_000_000)
    }

    #[test]
    fn questions_wait_while_it_is_doubtful_and_fail_once_it_is_given_up() {
        let mut reach = Reach::new(&Limits::default());
        assert_eq!(reach.given_up(at(99_999)), None);
        reach.trying(true, at(1000));
        reach.failed("connection refused", at(1001));
        assert_eq!(reach.given_up(at(2499)), None);
        reach.trying(true, at(2400));
        assert_eq!(reach.given_up(at(2500)), Some("connection refused"));
        reach.opened();
        assert_eq!(reach.given_up(at(9999)), None);
        assert!(reach.answered() && !reach.answered());
    }

    #[test]
    fn an_attempt_beside_open_connections_casts_no_doubt() {
        let mut reach = Reach::new(&Limits::default());
        reach.trying(false, at(1));
        reach.failed("too many clients", at(2));
        assert_eq!(reach.gives_up_at(), None);
        assert!(reach.not_before() > at(2));
    }

    #[test]
    fn pauses_double_up_to_the_bound_and_start_anew_after_an_answer() {
        let limits = Limits::default();
        let mut reach = Reach::new(&limits);
        for attempt in 0..40 {
            reach.failed("no", at(0));
            let full = PAUSE_MIN.saturating_mul(1 << attempt.min(16));
            let full = full.min(limits.postgres_reconnect_secs_max);
            let pause = reach.not_before().since(at(0));
            assert!(pause >= full / 2 && pause <= full, "{attempt}: {pause:?}");
        }
        reach.opened();
        reach.failed("no", at(0));
        assert!(reach.not_before() > at(50), "being let in proves nothing");
        reach.answered();
        reach.failed("no", at(0));
        assert!(reach.not_before() <= at(50));
    }
}
