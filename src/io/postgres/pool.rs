//! The pool: questions on one side, at most `DB_POOL` connections on the other.
//!
//! A question waits in one queue for a connection that has nothing to do; connections are opened on
//! demand and kept; only when the pool is full and busy does a connection get a second question
//! before its first is answered. What was lost with broken connections is asked once more on a new
//! one: every statement only reads.

use std::collections::VecDeque;
use std::sync::Arc;

use super::answer::answer;
use super::connection::{Broken, Cancel, Connection, Remedy, Setup};
use super::opening::{Opening, Outcome};
use super::reach::Reach;
use super::sql::statement;
use crate::config::Limits;
use crate::config::postgres::PostgresConfig;
use crate::hub::moment::Moment;
use crate::hub::question::{Answer, Question, Unanswered, UnansweredKind};
use crate::io::database::{Database, PoolStats, Ticket};
use crate::io::poller::{Poller, Readiness};
use crate::io::resolver::Resolver;
use crate::protocol::postgres::{Happening, Row, ServerError};

/// The top byte of the keys of Postgres connections.
pub const POSTGRES_KEY: u64 = 2 << 56;

/// Bits of a key for the slot; the 32 above them are its generation.
const SLOT_BITS: u32 = 24;

/// Lines for the log that are kept until they are taken.
const TROUBLES_MAX: usize = 16;

/// Rounds of work in one turn: an answer frees a connection, which takes a question, which may be
/// answered at once.
const ROUNDS_MAX: usize = 4;

/// Answers questions from Postgres.
pub struct PostgresDatabase {
    config: Arc<PostgresConfig>,
    setup: Arc<Setup>,
    limits: Limits,
    resolver: Resolver,
    /// As many as `DB_POOL`.
    slots: Vec<Slot>,
    /// Oldest first: those that were asked once already stand in front.
    waiting: VecDeque<Asked>,
    reach: Reach,
    /// For the sink of this turn.
    finished: Vec<(Ticket, Result<Answer, Unanswered>)>,
    /// There is work that no event will announce.
    restless: bool,
    troubles: Vec<String>,
    /// Said already, and nothing else since.
    last_trouble: String,
    answered: u64,
    failed: u64,
}

/// A place for a connection.
#[derive(Default)]
struct Slot {
    state: SlotState,
    /// Counts the connections that were here, so that a late event of one never reaches the next.
    generation: u32,
    /// Its descriptor is ready, or it has been given something to do.
    ready: bool,
}

#[derive(Default)]
enum SlotState {
    #[default]
    Vacant,
    Opening(Box<Opening>),
    Open(Open),
    Cancelling(Box<Cancelling>),
}

/// A statement that has taken too long is being cancelled; then both connections are closed. Not
/// earlier: PgBouncer forgets whose statement it is when its client leaves.
struct Cancelling {
    cancel: Cancel,
    _connection: Box<Connection>,
    deadline: Moment,
}

struct Open {
    connection: Box<Connection>,
    opened: Moment,
    /// Sent and not answered, in order; never more than `queries_pipelined_max`.
    asked: VecDeque<Asked>,
    /// Since when the server has been working on the first of `asked`.
    asked_since: Moment,
    /// It has answered something.
    useful: bool,
}

struct Asked {
    ticket: Ticket,
    question: Question,
    since: Moment,
    /// When it was first lost with a connection.
    lost: Option<Moment>,
}

impl PostgresDatabase {
    /// A pool that has not connected yet; the first [`Database::turn`] begins to.
    ///
    /// Errors: the certificates in the configuration do not fit together.
    pub fn new(
        config: &PostgresConfig,
        limits: &Limits,
        resolver: Resolver,
    ) -> Result<PostgresDatabase, rustls::Error> {
        let setup = Setup::new(config, limits)?;
        let size = config.pool_size.clamp(1, (1 << SLOT_BITS) - 1);
        Ok(PostgresDatabase {
            config: Arc::new(config.clone()),
            setup: Arc::new(setup),
            limits: limits.clone(),
            resolver,
            slots: std::iter::repeat_with(Slot::default).take(size).collect(),
            waiting: VecDeque::new(),
            reach: Reach::new(limits),
            finished: Vec::new(),
            restless: true,
            troubles: Vec::new(),
            last_trouble: String::new(),
            answered: 0,
            failed: 0,
        })
    }
}

impl Database for PostgresDatabase {
    fn ask(&mut self, ticket: Ticket, question: Question, now: Moment) {
        self.restless = true;
        let asked = Asked { ticket, question, since: now, lost: None };
        if self.waiting.len() >= self.limits.questions_waiting_max {
            let reason = "too many questions are waiting for Postgres";
            self.fail(asked, UnansweredKind::Away, reason);
        } else {
            self.waiting.push_back(asked);
        }
    }

    fn turn(
        &mut self,
        now: Moment,
        ready: &[Readiness],
        poller: &Poller,
        sink: &mut dyn FnMut(Ticket, Result<Answer, Unanswered>),
    ) {
        self.mark(ready);
        for _ in 0..ROUNDS_MAX {
            self.drive(now, poller);
            self.expire(now, poller);
            let opened = self.open_connections(now);
            self.restless = self.hand_out(now) || opened;
            if !self.restless {
                break;
            }
        }
        for (ticket, answer) in self.finished.drain(..) {
            sink(ticket, answer);
        }
    }

    fn next_deadline(&self) -> Option<Moment> {
        if self.restless || self.slots.iter().any(|slot| slot.ready) {
            return Some(Moment(0));
        }
        let mut next: Option<Moment> = None;
        let mut sooner = |moment| next = Some(next.map_or(moment, |next| next.min(moment)));
        for slot in &self.slots {
            match &slot.state {
                SlotState::Vacant => {}
                SlotState::Opening(opening) => sooner(opening.deadline()),
                SlotState::Open(open) if open.asked.is_empty() => {}
                SlotState::Cancelling(cancelling) => sooner(cancelling.deadline),
                SlotState::Open(open) => sooner(open.asked_since + self.limits.query_secs_max),
            }
        }
        if let Some(oldest) = self.waiting.front() {
            sooner(oldest.since + self.limits.question_secs_max);
            self.reach.gives_up_at().map(&mut sooner);
        }
        if self.wanted() > 0 {
            sooner(self.reach.not_before());
        }
        next
    }

    fn stats(&self) -> PoolStats {
        let count = |wanted: &dyn Fn(&SlotState) -> bool| {
            self.slots.iter().filter(|slot| wanted(&slot.state)).count()
        };
        PoolStats {
            total: count(&|state| !matches!(state, SlotState::Vacant)),
            open: count(&|state| matches!(state, SlotState::Open(_))),
            idle: count(&|state| matches!(state, SlotState::Open(open) if open.asked.is_empty())),
            waiting: self.waiting.len(),
            answered: self.answered,
            failed: self.failed,
        }
    }

    fn take_troubles(&mut self) -> Vec<String> {
        std::mem::take(&mut self.troubles)
    }
}

impl PostgresDatabase {
    /// Finds the slots whose descriptors are ready.
    fn mark(&mut self, ready: &[Readiness]) {
        for readiness in ready.iter().filter(|readiness| readiness.key >> 56 == POSTGRES_KEY >> 56)
        {
            let index =
                usize::try_from(readiness.key & ((1 << SLOT_BITS) - 1)).unwrap_or(usize::MAX);
            if let Some(slot) = self.slots.get_mut(index)
                && key(index, slot.generation) == readiness.key
            {
                slot.ready = true;
            }
        }
    }

    /// Turns every connection that has something to do.
    fn drive(&mut self, now: Moment, poller: &Poller) {
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { return };
            if !slot.ready && !matches!(slot.state, SlotState::Opening(_)) {
                continue;
            }
            let ready = std::mem::take(&mut slot.ready);
            match std::mem::take(&mut slot.state) {
                SlotState::Vacant => {}
                SlotState::Opening(opening) => {
                    self.drive_opening(index, opening, ready, now, poller)
                }
                SlotState::Open(open) => self.drive_open(index, open, now, poller),
                SlotState::Cancelling(mut cancelling) => {
                    if !cancelling.cancel.turn()
                        && let Some(slot) = self.slots.get_mut(index)
                    {
                        slot.state = SlotState::Cancelling(cancelling);
                    }
                }
            }
        }
    }

    fn drive_opening(
        &mut self,
        index: usize,
        mut opening: Box<Opening>,
        ready: bool,
        now: Moment,
        poller: &Poller,
    ) {
        let state = match opening.turn(ready, now, poller) {
            Outcome::Pending => SlotState::Opening(opening),
            Outcome::Opened(connection) => {
                self.reach.opened();
                let asked = VecDeque::new();
                SlotState::Open(Open {
                    connection,
                    opened: now,
                    asked,
                    asked_since: now,
                    useful: false,
                })
            }
            Outcome::Failed(reason) => {
                self.reach.failed(&reason, now);
                self.trouble(format!("Postgres cannot be reached: {reason}"));
                SlotState::Vacant
            }
        };
        if let Some(slot) = self.slots.get_mut(index) {
            // More may have come with the greeting.
            slot.ready = matches!(state, SlotState::Open(_));
            slot.state = state;
        }
    }

    fn drive_open(&mut self, index: usize, mut open: Open, now: Moment, poller: &Poller) {
        let mut happenings = Vec::new();
        let turned = open.connection.turn(&mut |happening| happenings.push(happening));
        for happening in happenings {
            if let Happening::Reply(reply) = happening
                && let Some(asked) = open.asked.pop_front()
            {
                open.asked_since = now;
                open.useful = true;
                self.finish(asked, reply);
            }
        }
        // The query's deadline holds also against a server that trickles.
        let late = !open.asked.is_empty() && open.asked_since + self.limits.query_secs_max <= now;
        match turned {
            Ok(more) if !late => {
                if let Some(slot) = self.slots.get_mut(index) {
                    slot.ready = more;
                    slot.state = SlotState::Open(open);
                }
            }
            Ok(_) => self.too_late(index, open, now, poller),
            Err(broken) => self.lost(open, &broken, now),
        }
    }

    /// Lets deadlines pass: of statements, of waiting questions, of our patience with the server.
    fn expire(&mut self, now: Moment, poller: &Poller) {
        let patience = self.limits.query_secs_max;
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { return };
            let late = matches!(&slot.state, SlotState::Open(open)
                if !open.asked.is_empty() && open.asked_since + patience <= now);
            if matches!(&slot.state, SlotState::Cancelling(cancel) if cancel.deadline <= now) {
                slot.state = SlotState::Vacant;
            }
            if late && let SlotState::Open(open) = std::mem::take(&mut slot.state) {
                self.too_late(index, open, now, poller);
            }
        }
        if !self.waiting.is_empty()
            && let Some(reason) = self.reach.given_up(now)
        {
            let reason = format!("Postgres cannot be reached: {reason}");
            for asked in std::mem::take(&mut self.waiting) {
                self.fail(asked, UnansweredKind::Away, &reason);
            }
        }
        let patience = self.limits.question_secs_max;
        while self.waiting.front().is_some_and(|asked| asked.since + patience <= now) {
            if let Some(asked) = self.waiting.pop_front() {
                let reason = "no Postgres connection was free in time";
                self.fail(asked, UnansweredKind::Away, reason);
            }
        }
    }

    /// How many connections should begin to open, if they may.
    fn wanted(&self) -> usize {
        let (mut open, mut opening, mut vacant) = (0, 0, 0);
        for slot in &self.slots {
            match slot.state {
                SlotState::Vacant => vacant += 1,
                SlotState::Opening(_) => opening += 1,
                SlotState::Open(_) => open += 1,
                SlotState::Cancelling(_) => {}
            }
        }
        // One is always kept open or being opened; alone until it is known that somebody is there.
        let wanted = if open == 0 { 1 } else { self.waiting.len() };
        wanted.saturating_sub(opening).min(vacant)
    }

    /// Begins to open what is wanted; `true`: there is something new to be driven.
    fn open_connections(&mut self, now: Moment) -> bool {
        let wanted = self.wanted();
        if wanted == 0 || now < self.reach.not_before() {
            return false;
        }
        let idle =
            |slot: &Slot| matches!(&slot.state, SlotState::Open(open) if open.asked.is_empty());
        let idle = self.slots.iter().filter(|slot| idle(slot)).count();
        let alone = !self.slots.iter().any(|slot| matches!(slot.state, SlotState::Open(_)));
        let wanted = if alone { wanted } else { wanted.saturating_sub(idle) };
        let vacant = |(_, slot): &(usize, &mut Slot)| matches!(slot.state, SlotState::Vacant);
        for (index, slot) in self.slots.iter_mut().enumerate().filter(vacant).take(wanted) {
            slot.generation = slot.generation.wrapping_add(1);
            let key = key(index, slot.generation);
            let opening = Opening::new(&self.config, &self.setup, &self.resolver, key);
            slot.state = SlotState::Opening(Box::new(opening));
            self.reach.trying(alone, now);
        }
        wanted > 0
    }

    /// Gives waiting questions to connections; `true`: some connection has something new to send.
    fn hand_out(&mut self, now: Moment) -> bool {
        let mut handed_out = false;
        while !self.waiting.is_empty() {
            let Some(slot) = self.least_busy(now).and_then(|index| self.slots.get_mut(index))
            else {
                break;
            };
            let SlotState::Open(open) = &mut slot.state else { break };
            let Some(asked) = self.waiting.pop_front() else { break };
            if let Err(reason) = open.connection.ask(&statement(&asked.question)) {
                self.fail(asked, UnansweredKind::Failed, reason);
                continue;
            }
            if open.asked.is_empty() {
                open.asked_since = now;
            }
            open.asked.push_back(asked);
            slot.ready = true;
            handed_out = true;
        }
        handed_out
    }

    /// The connection for the next question: one that is idle, or, if no other can be had, the one
    /// with the fewest questions.
    fn least_busy(&self, now: Moment) -> Option<usize> {
        let mut best: Option<(usize, usize)> = None;
        let mut growing = false;
        for (index, slot) in self.slots.iter().enumerate() {
            match &slot.state {
                SlotState::Vacant => growing |= self.reach.not_before() <= now,
                SlotState::Opening(_) => growing = true,
                SlotState::Open(open) if best.is_none_or(|(_, len)| open.asked.len() < len) => {
                    best = Some((index, open.asked.len()));
                }
                SlotState::Open(_) | SlotState::Cancelling(_) => {}
            }
        }
        let (index, len) = best?;
        let len_max = if growing { 1 } else { self.limits.queries_pipelined_max };
        (len < len_max).then_some(index)
    }

    fn finish(&mut self, asked: Asked, reply: Result<Vec<Row>, ServerError>) {
        let answered = match reply {
            Ok(rows) => answer(&asked.question, &rows)
                .map_err(|malformed| (UnansweredKind::Failed, malformed.to_string())),
            Err(error) if error.is_passing() => Err((UnansweredKind::Away, error.to_string())),
            Err(error) => Err((UnansweredKind::Failed, error.to_string())),
        };
        match answered {
            Ok(answer) => {
                self.answered += 1;
                if self.reach.answered() {
                    self.trouble("Postgres answers again".to_owned());
                }
                self.finished.push((asked.ticket, Ok(answer)));
            }
            Err((kind, reason)) => {
                let question = asked.question.kind();
                self.trouble(format!("Postgres did not answer the question {question}: {reason}"));
                self.fail(asked, kind, &reason);
            }
        }
    }

    fn fail(&mut self, asked: Asked, kind: UnansweredKind, reason: &str) {
        self.failed += 1;
        self.finished.push((asked.ticket, Err(Unanswered { reason: reason.into(), kind })));
    }

    /// The server has taken too long over the first question: it is told to stop, and the
    /// connection is closed. (More would mean to keep state at PgBouncer.) Those behind it are
    /// asked elsewhere.
    fn too_late(&mut self, index: usize, mut open: Open, now: Moment, poller: &Poller) {
        let seconds = self.limits.query_secs_max.as_secs_f32();
        let reason = format!("no answer from Postgres within {seconds} s");
        if let Some(first) = open.asked.pop_front() {
            let kind = first.question.kind();
            self.trouble(format!("{reason} to the question {kind}"));
            self.fail(first, UnansweredKind::Away, &reason);
        }
        for asked in open.asked.into_iter().rev() {
            self.waiting.push_front(asked);
        }
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.generation = slot.generation.wrapping_add(1);
        if let Some(cancel) = open.connection.cancel(poller, key(index, slot.generation)) {
            let deadline = now + self.limits.cancel_secs_max;
            let cancelling = Cancelling { cancel, _connection: open.connection, deadline };
            slot.state = SlotState::Cancelling(Box::new(cancelling));
            slot.ready = true;
        }
    }

    /// A connection broke. What it has not answered is asked again, unless the answer itself broke
    /// it, or a connection that was opened since it was lost first: whatever takes one connection
    /// down may have taken all that stood then.
    fn lost(&mut self, open: Open, broken: &Broken, now: Moment) {
        self.trouble(format!("A Postgres connection was lost: {}", broken.reason));
        if !open.useful {
            self.reach.failed(&broken.reason, now);
        }
        let blamed = broken.remedy == Remedy::DoNotAskAgain;
        for (place, mut asked) in open.asked.into_iter().enumerate().rev() {
            if blamed && place == 0 {
                self.fail(asked, UnansweredKind::Failed, &broken.reason);
            } else if asked.lost.is_some_and(|lost| lost < open.opened) {
                self.fail(asked, UnansweredKind::Away, &broken.reason);
            } else {
                asked.lost.get_or_insert(now);
                self.waiting.push_front(asked);
            }
        }
    }

    fn trouble(&mut self, text: String) {
        if self.troubles.len() < TROUBLES_MAX && text != self.last_trouble {
            self.last_trouble.clone_from(&text);
            self.troubles.push(text);
        }
    }
}

fn key(index: usize, generation: u32) -> u64 {
    POSTGRES_KEY | u64::from(generation) << SLOT_BITS | index as u64
}
