//! The control core: a [`Control`] with Redis, the database, signals and its ends of the mesh.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::bell::Bell;
use super::clock::Clock;
use super::database::{Database, Ticket};
use super::driver::{Core, Turn};
use super::mesh::ShardLink;
use super::poller::{Poller, Readiness};
use super::redis::{Redis, RedisEvent};
use super::resolver::Resolver;
use super::service_manager::ServiceManager;
use super::signals::Signals;
use crate::config::{Limits, RedisConfig};
use crate::hub::control::{Control, Effect};
use crate::hub::message::{QuestionId, ToShard};
use crate::hub::moment::Moment;
use crate::hub::readiness::{Report, Upstreams};
use crate::log::{self, Sparingly};
use crate::metrics::{self, ProcessFacts, ShardMetrics};

/// Components by the top byte of their keys; Redis has 1, Postgres 2, the resolver 3.
const SIGNALS_KEY: u64 = 4 << 56;
const BELL_KEY: u64 = 5 << 56;

const EVENTS_MAX: usize = 256;
/// Messages of one shard in a row.
const MESSAGES_MAX: usize = 1024;
/// How long to wait before offering again what a full shard did not take.
const CONGESTED_PAUSE: Duration = Duration::from_millis(1);
/// How long shards may take to say that they are empty after the window of a drain, before the
/// process ends anyway.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

/// How long the threads and sockets of a large server may take to go after that.
const TEARDOWN_MAX: Duration = Duration::from_secs(2);

/// The control core with its surroundings.
pub struct ControlCore {
    control: Control,
    redis: Redis,
    database: Box<dyn Database>,
    poller: Poller,
    links: Vec<ShardLink>,
    bell: Arc<Bell>,
    signals: Signals,
    clock: Clock,
    drain_window: Duration,
    /// When the process ends at the latest; set by the first signal.
    ends_at: Option<Moment>,
    ready: Vec<Readiness>,
    complaints: Sparingly,
    driver: &'static str,
    service_manager: ServiceManager,
    /// What was logged last.
    was_ready: Option<bool>,
}

/// What the control core is made of.
pub struct Parts {
    /// Every bound.
    pub limits: Limits,
    /// Where Redis is.
    pub redis: RedisConfig,
    /// How long SIGTERM spreads the closes over.
    pub drain_window: Duration,
    /// One for each shard.
    pub links: Vec<ShardLink>,
    /// Rung by all shards.
    pub bell: Arc<Bell>,
    /// Caught since before anything was announced.
    pub signals: Signals,
    /// The clock of all cores.
    pub clock: Clock,
    /// Makes the database on the control core's thread.
    pub database: MakeDatabase,
    /// The driver's name, for the metrics.
    pub driver: &'static str,
    /// Who is told how things stand.
    pub service_manager: ServiceManager,
}

/// Makes the database on the control core's thread.
pub type MakeDatabase = Box<dyn FnOnce(Resolver) -> io::Result<Box<dyn Database>> + Send>;

impl ControlCore {
    /// Puts the control core together on the thread that will turn it.
    pub fn new(parts: Parts) -> io::Result<ControlCore> {
        let poller = Poller::new(EVENTS_MAX)?;
        poller.add(&parts.signals, SIGNALS_KEY)?;
        poller.add(&parts.bell, BELL_KEY)?;
        let resolver = Resolver::new(&poller)?;
        let redis = Redis::new(&parts.redis, &Arc::new(parts.limits.clone()), &resolver)?;
        let database = (parts.database)(resolver)?;
        Ok(ControlCore {
            control: Control::new(&parts.limits, parts.links.len()),
            redis,
            database,
            poller,
            links: parts.links,
            bell: parts.bell,
            signals: parts.signals,
            clock: parts.clock,
            drain_window: parts.drain_window,
            ends_at: None,
            ready: Vec::new(),
            complaints: Sparingly::default(),
            driver: parts.driver,
            service_manager: parts.service_manager,
            was_ready: None,
        })
    }

    fn hear_redis(&mut self, now: Moment) {
        let (control, complaints) = (&mut self.control, &mut self.complaints);
        let links = &mut self.links;
        self.redis.turn(now, &self.ready, &self.poller, &mut |event| match event {
            RedisEvent::Message { channel, payload } => {
                // A client that has its answer may have caused this event: what it wants was in the
                // mesh before the answer went out.
                take_from_shards(links, control);
                control.redis_message(&channel, &payload);
            }
            RedisEvent::Confirmed { channel, confirmation } => {
                control.redis_confirmed(&channel, confirmation);
            }
            RedisEvent::Connected => log::info("Connected to Redis", &[]),
            RedisEvent::KeysLost => control.interest_mut().keys_lost(),
            RedisEvent::Lost { reason } => {
                control.redis_lost();
                let what = "Lost the connection to Redis";
                if let Some(held_back) = complaints.allow(what, now) {
                    let fields = [("reason", (&reason).into()), ("heldBack", held_back.into())];
                    log::error(what, &fields);
                }
            }
            RedisEvent::Trouble(text) => {
                log::error("Redis Client Error!", &[("err", (&text).into())])
            }
        });
    }

    /// Tells Redis which channels are wanted, as far as there is room. True if something was told.
    fn tell_redis(&mut self, now: Moment) -> bool {
        let room = self.redis.room();
        let batch = self.control.interest_mut().next_batch(now, room);
        if batch.is_empty() {
            return false;
        }
        self.redis.send(&batch);
        self.hear_redis(now);
        true
    }

    fn hear_database(&mut self, now: Moment) {
        let control = &mut self.control;
        let sink = &mut |ticket: Ticket, answer| control.answered(ticket.0, answer);
        self.database.turn(now, &self.ready, &self.poller, sink);
        for trouble in self.database.take_troubles() {
            log::error("Postgres Client Error!", &[("err", (&trouble).into())]);
        }
    }

    /// Does what the decisions ask for. A question makes the database's next deadline due at once.
    fn act(&mut self, now: Moment) {
        self.control.flush();
        for effect in self.control.take_effects() {
            match effect {
                Effect::ToShard(shard, message) => {
                    if let Some(link) = self.links.get_mut(shard) {
                        link.send(message);
                    }
                }
                Effect::Ask(number, question) => self.database.ask(Ticket(number), question, now),
                Effect::Render { shards, waiting } => self.render(&shards, &waiting),
                Effect::Report { waiting } => self.report(&waiting, now),
            }
        }
    }

    fn render(&mut self, shards: &[ShardMetrics], waiting: &[(usize, QuestionId)]) {
        let (redis, pool) = (self.redis.stats(), self.database.stats());
        let is_ready = self.control.report(self.upstreams()).is_ready();
        let counted = self.control.metrics_mut();
        counted.redis_connected = redis.connected;
        counted.redis_gaps = redis.gaps;
        counted.redis_commands_connected = redis.commands_connected;
        counted.redis_refusals = redis.refusals;
        counted.pool_connections = pool.total as u64;
        counted.pool_idle = pool.idle as u64;
        counted.pool_waiting = pool.waiting as u64;
        counted.postgres_connected = pool.open > 0;
        counted.ready = is_ready;
        counted.mesh_dropped = self.links.iter().map(ShardLink::lost).collect();
        let facts = ProcessFacts::read(self.driver);
        let text: Arc<str> = metrics::render(shards, self.control.metrics(), &facts).into();
        for (shard, question) in waiting.iter().copied() {
            if let Some(link) = self.links.get_mut(shard) {
                link.send(ToShard::MetricsText { question, text: Arc::clone(&text) });
            }
        }
    }

    fn upstreams(&self) -> Upstreams {
        Upstreams {
            redis_connected: self.redis.stats().connected,
            postgres_connected: self.database.stats().open > 0,
        }
    }

    /// Says how things stand to the service manager, to whoever asked, and to the log if it is
    /// news.
    fn report(&mut self, waiting: &[(usize, QuestionId)], now: Moment) {
        let report = self.control.report(self.upstreams());
        for (shard, question) in waiting.iter().copied() {
            if let Some(link) = self.links.get_mut(shard) {
                link.send(ToShard::Readiness { question, report });
            }
        }
        self.log_readiness(&report);
        let told = self.service_manager.tell(&report, now);
        self.complain_of_service_manager(told, now);
    }

    /// The first thing worth saying is that it is ready.
    fn log_readiness(&mut self, report: &Report) {
        let is_ready = report.is_ready();
        if report.is_stopping || self.was_ready.unwrap_or(false) == is_ready {
            return;
        }
        self.was_ready = Some(is_ready);
        match is_ready {
            true => log::info("Ready", &[]),
            false => log::warn("Not ready", &[("status", log::Value::Shown(report))]),
        }
    }

    fn complain_of_service_manager(&mut self, told: io::Result<()>, now: Moment) {
        let what = "Cannot tell the service manager";
        if let Err(error) = told
            && let Some(suppressed) = self.complaints.allow(what, now)
        {
            let fields = [("error", log::Value::Shown(&error)), ("suppressed", suppressed.into())];
            log::warn(what, &fields);
        }
    }

    fn hear_signals(&mut self, now: Moment) -> bool {
        if !self.ready.iter().any(|readiness| readiness.key == SIGNALS_KEY) {
            return false;
        }
        let signals = self.signals.take();
        if signals == 0 {
            return false;
        }
        if self.ends_at.is_some() || signals > 1 {
            log::info("Stopping at once", &[]);
            return true;
        }
        let window = self.drain_window;
        log::info("Stopping: sending clients away", &[("secs", window.as_secs_f64().into())]);
        self.ends_at = Some(now + window + DRAIN_GRACE);
        self.control.begin_drain(window);
        let told = self.service_manager.tell_stopping(window + DRAIN_GRACE + TEARDOWN_MAX);
        self.complain_of_service_manager(told, now);
        false
    }

    fn next_deadline(&self, now: Moment) -> Option<Moment> {
        self.redis
            .next_deadline()
            .into_iter()
            .chain(self.database.next_deadline())
            .chain(self.control.next_deadline(self.redis.room()))
            .chain(self.ends_at)
            .chain(self.service_manager.next_deadline(now))
            .min()
    }
}

impl Core for ControlCore {
    fn turn(&mut self, events: usize) -> Turn {
        let now = self.clock.now();
        let has_work = events > 0 || self.has_mail();
        self.control.set_time(now, self.clock.unix());
        self.ready.clear();
        self.ready.extend((0..events).filter_map(|index| self.poller.take(index)));
        if self.hear_signals(now) {
            return Turn::Done;
        }
        let mut busy = take_from_shards(&mut self.links, &mut self.control);
        if self.service_manager.is_feeding_due(now) {
            self.report(&[], now);
        }
        self.hear_redis(now);
        self.hear_database(now);
        self.act(now);
        busy |= self.tell_redis(now);
        for link in &mut self.links {
            link.flush();
        }
        let ended = self.clock.now();
        if has_work {
            self.control.metrics_mut().turns.record(now, ended);
        }
        if self.control.is_drained() || self.ends_at.is_some_and(|at| ended >= at) {
            return Turn::Done;
        }
        let congested = self.links.iter().any(ShardLink::is_congested);
        let again = congested.then(|| ended + CONGESTED_PAUSE);
        match self.next_deadline(ended).into_iter().chain(again).min() {
            _ if busy => Turn::Busy,
            Some(deadline) if deadline <= ended => Turn::Busy,
            deadline => Turn::Idle(deadline),
        }
    }

    fn poller(&mut self) -> &mut Poller {
        &mut self.poller
    }

    fn bell(&self) -> &Bell {
        &self.bell
    }

    fn has_mail(&self) -> bool {
        self.links.iter().any(ShardLink::has_mail)
    }
}

/// Messages of the shards. True if there may be more.
fn take_from_shards(links: &mut [ShardLink], control: &mut Control) -> bool {
    let mut more = false;
    for (shard, link) in links.iter_mut().enumerate() {
        for _ in 0..MESSAGES_MAX {
            let Some(message) = link.receive() else { break };
            control.from_shard(shard, message);
        }
        more |= link.has_mail();
    }
    more
}
