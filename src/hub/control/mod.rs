//! The control core's decisions, as a value: messages of shards, of Redis and answers of the
//! database come in; effects go out ([`Effect`]). It parses each message once, judges it once,
//! serialises it once, and asks the database in batches.
//!
//! * `questions`: who is this token, whose is this list, which feeds are closed;
//! * `revocation`: kills, and the race between a look-up and the subscription for its revocation;
//! * `events`: from a message to deliveries, in order per channel;
//! * `judging`: verdicts, and the custom filters they need;
//! * `watching`: whether the server can serve.

mod events;
mod judging;
mod questions;
mod revocation;
mod watching;

use std::time::Duration;

use crate::config::Limits;
use crate::hub::drain::Departure;
use crate::hub::interest::{Interest, Room};
use crate::hub::message::{QuestionId, ToControl, ToShard};
use crate::hub::moment::{Moment, UnixMillis};
use crate::hub::question::{Answer, Question, Unanswered};
use crate::hub::readiness::Readiness;
use crate::hub::stream::Channel;
use crate::metrics::{ControlMetrics, ShardMetrics};
use crate::protocol::frame::Wants;
use events::Events;
use judging::Judging;
use questions::{Asked, Questions, refusal};
use revocation::Revocation;
use watching::Watching;

/// Something that the world outside must do.
#[derive(Debug)]
pub enum Effect {
    /// Hand a message to a shard.
    ToShard(usize, ToShard),
    /// Ask the database; the answer comes back with the same number.
    Ask(u64, Question),
    /// Write the metrics and hand them to whoever waits for them.
    Render {
        /// What the shards have counted.
        shards: Vec<ShardMetrics>,
        /// Who waits, by shard.
        waiting: Vec<(usize, QuestionId)>,
    },
    /// Say how things stand ([`Control::report`]): to the service manager, and to whoever waits.
    Report {
        /// Who waits, by shard.
        waiting: Vec<(usize, QuestionId)>,
    },
}

/// The control core's decisions.
pub struct Control {
    limits: Limits,
    shards: usize,
    interest: Interest,
    questions: Questions,
    revocation: Revocation,
    events: Events,
    judging: Judging,
    scrape: Scrape,
    readiness: Readiness,
    watching: Watching,
    drained: usize,
    effects: Vec<Effect>,
    metrics: ControlMetrics,
    now: Moment,
    unix: UnixMillis,
}

/// Metrics of all shards on their way to somebody.
#[derive(Default)]
struct Scrape {
    waiting: Vec<(usize, QuestionId)>,
    /// What has come, by shard; empty: nobody has been asked.
    collected: Vec<Option<Box<ShardMetrics>>>,
}

impl Control {
    /// The control core of `shards` shards.
    pub fn new(limits: &Limits, shards: usize) -> Control {
        Control {
            limits: limits.clone(),
            shards,
            interest: Interest::new(limits),
            questions: Questions::default(),
            revocation: Revocation::default(),
            events: Events::default(),
            judging: Judging::default(),
            scrape: Scrape::default(),
            readiness: Readiness::new(limits, shards),
            watching: Watching::default(),
            drained: 0,
            effects: Vec::new(),
            metrics: ControlMetrics::default(),
            now: Moment::default(),
            unix: UnixMillis::default(),
        }
    }

    /// Says what time it is. Call it before anything else in a turn.
    pub fn set_time(&mut self, now: Moment, unix: UnixMillis) {
        self.now = now;
        self.unix = unix;
    }

    /// A message of a shard.
    pub fn from_shard(&mut self, shard: usize, message: ToControl) {
        match message {
            ToControl::WhoIs { question, token } => {
                self.questions.want_session(shard, question, token);
            }
            ToControl::WhoOwns { question, list } => {
                self.questions.want_owner(shard, question, list);
            }
            ToControl::ReadFeeds { question } => self.questions.want_feeds(shard, question),
            ToControl::Opened { token, account } => self.revocation.opened(token, account),
            ToControl::Want { channel, wants } => self.want(shard, &channel, wants),
            ToControl::ReaderArrived(account) => self.judging.reader_arrived(account),
            ToControl::ReaderLeft(account) => {
                let cached_max = self.limits.filters_cached_max;
                self.judging.reader_left(account, cached_max);
            }
            ToControl::Scrape { question } => self.begin_scrape(shard, question),
            ToControl::Metrics(metrics) => self.collect(metrics),
            ToControl::AskReadiness { question } => self.want_report(shard, question),
            ToControl::Pulse { is_accepting } => {
                let is_news = self.readiness.pulse(shard, is_accepting);
                self.report_if(is_news);
            }
            ToControl::Drained => {
                self.drained += 1;
                self.readiness.shard_ended(shard);
                self.render_if_complete();
            }
        }
    }

    /// The database has answered, or cannot.
    pub fn answered(&mut self, number: u64, answer: Result<Answer, Unanswered>) {
        let answered = answer.is_ok().then_some(self.now);
        let Some((asked, since)) = self.questions.take(number, answered) else { return };
        let kind = asked.kind();
        self.metrics.queries.add(kind);
        if answer.is_err() {
            self.metrics.queries_failed.add(kind);
        } else {
            let is_news = self.readiness.postgres_answered(self.now);
            self.report_if(is_news);
        }
        if !asked.is_for_verdict() {
            self.metrics.query_time.record(self.now.nanos_since(since));
        }
        match asked {
            Asked::Sessions { askers, kills } => {
                let answer = answer.map_err(|unanswered| refusal(&unanswered));
                self.sessions_answered(askers, kills, answer);
            }
            Asked::Owners(askers) => {
                self.owners_answered(askers, answer.map_err(|unanswered| refusal(&unanswered)));
            }
            Asked::Feeds(askers) => {
                self.feeds_answered(askers, answer.map_err(|unanswered| refusal(&unanswered)));
            }
            Asked::StillValid(tokens) => self.validity_answered(&tokens, answer),
            Asked::Blocks(case) | Asked::Domains(case) => self.readers_answered(case, answer),
            Asked::Filters(accounts) => self.filters_answered(number, &accounts, answer),
            Asked::Probe => {
                let is_news = self.readiness.probed(since, answer.is_ok());
                self.report_if(is_news);
            }
        }
    }

    /// Asks what has gathered. Call it at the end of each turn.
    pub fn flush(&mut self) {
        self.ask_gathered();
        self.recheck_opened();
        self.look_around();
    }

    /// Redis has a new subscriber connection or has lost it: what was confirmed is not any more,
    /// and whatever was published meanwhile is missed.
    pub fn redis_lost(&mut self) {
        self.interest.connection_lost();
        self.revocation.redis_lost(self.interest.wanted());
        // A `filters_changed` may be among the missed.
        self.judging.forget_filters();
        self.readiness.redis_lost();
        self.report_if(true);
    }

    /// Which channels are wanted.
    pub fn interest_mut(&mut self) -> &mut Interest {
        &mut self.interest
    }

    /// What is to be done, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Tells every shard to send its clients away within `window`.
    pub fn begin_drain(&mut self, window: Duration) {
        for shard in 0..self.shards {
            let departure = Departure { window, shard, shards: self.shards };
            self.effects.push(Effect::ToShard(shard, ToShard::Drain(departure)));
        }
        self.readiness.begin_stop();
        self.report_if(true);
    }

    /// Every shard has sent its clients away.
    pub fn is_drained(&self) -> bool {
        self.drained >= self.shards
    }

    /// The counters, for what only the surroundings see.
    pub fn metrics_mut(&mut self) -> &mut ControlMetrics {
        &mut self.metrics
    }

    /// The counters, brought up to date.
    pub fn metrics(&mut self) -> &ControlMetrics {
        self.metrics.redis_subscriptions = self.interest.joined() as u64;
        self.metrics.verdicts_waiting = self.events.waiting() as u64;
        self.metrics.filters_cached = self.judging.filters_cached() as u64;
        &self.metrics
    }

    /// When [`Control::flush`] has something to do without anything happening. `room`: that of
    /// Redis for orders.
    pub fn next_deadline(&self, room: Room) -> Option<Moment> {
        let interest = self.interest.next_deadline(room);
        let retry = self.revocation.retry_at();
        let look = Some(self.readiness.next_look());
        let late = self.questions.next_deadline();
        interest.into_iter().chain(retry).chain(look).chain(late).min()
    }

    fn want(&mut self, shard: usize, channel: &Channel, wants: Wants) {
        if wants.is_empty() {
            let is_last = self.interest.unwant(channel, shard);
            if is_last {
                self.forget_waiting(channel);
            }
            // From here on a `filters_changed` may be missed.
            if let Channel::System(account) = channel
                && is_last
            {
                self.judging.filters_changed(*account);
            }
        } else {
            self.interest.want(channel, shard, wants.event_stream);
        }
    }

    fn tell_shards_of(&mut self, channel: &Channel, message: &ToShard) {
        for shard in self.interest.shards(channel).iter() {
            self.effects.push(Effect::ToShard(shard, message.clone()));
        }
    }

    fn begin_scrape(&mut self, shard: usize, question: QuestionId) {
        self.scrape.waiting.push((shard, question));
        if self.scrape.collected.is_empty() {
            self.scrape.collected = (0..self.shards).map(|_| None).collect();
            for shard in 0..self.shards {
                self.effects.push(Effect::ToShard(shard, ToShard::TakeMetrics));
            }
        }
    }

    fn collect(&mut self, metrics: Box<ShardMetrics>) {
        if let Some(place) = self.scrape.collected.get_mut(metrics.shard) {
            *place = Some(metrics);
        }
        self.render_if_complete();
    }

    /// Has every shard handed in that can?
    fn render_if_complete(&mut self) {
        let collected = self.scrape.collected.iter().enumerate();
        let mut awaited = collected.filter(|(_, metrics)| metrics.is_none());
        let is_complete = awaited.all(|(shard, _)| !self.readiness.can_answer(shard));
        if is_complete && !self.scrape.waiting.is_empty() {
            let collected = std::mem::take(&mut self.scrape.collected);
            let shards = collected.into_iter().flatten().map(|metrics| *metrics).collect();
            let waiting = std::mem::take(&mut self.scrape.waiting);
            self.effects.push(Effect::Render { shards, waiting });
        }
    }
}
