//! A thread with thousands of clients. A client is some 40 bytes: it has no buffer unless the
//! server has sent half a message, and what it wants follows from its number.

mod client;
mod orders;
mod receiving;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use rustix::net::sockopt;

use crate::io::poller::Poller;
use crate::load::clock::nanos;
use crate::load::plan::Plan;
use crate::load::publisher::{Next, Publisher};
use crate::load::status::Templates;
use crate::load::tally::Tally;
use crate::load::target::Target;
use crate::load::verify::{UNSEEN, Verifier};
use client::{Client, State};
pub use orders::{Every, Gauges, Lacking, Order, Pace};

/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 1024;
/// Bytes read at a time.
const SCRATCH_BYTES: usize = 256 * 1024;
/// The longest sleep: how long an order may wait.
const SLEEP_MAX: Duration = Duration::from_millis(20);
/// How long a client waits before it tries again.
const RETRY_NANOS: u64 = 1_000_000_000;
/// How long a client waits for the answer to its request.
const HANDSHAKE_NANOS_MAX: u64 = 60_000_000_000;
/// Keys carry a client's place in the lower half, its generation in the upper.
const PLACE_BITS: u32 = 32;

/// What a crowd needs.
#[derive(Clone)]
pub struct Parts {
    /// Who the clients are.
    pub plan: Arc<Plan>,
    /// What is published.
    pub templates: Arc<Templates>,
    /// Where they connect.
    pub target: Target,
    /// See [`Verifier::new`].
    pub is_bare: bool,
    /// This crowd is one of so many, by turns.
    pub share: Every,
}

/// The thread's state.
pub struct Crowd {
    parts: Parts,
    poller: Poller,
    clients: Vec<Client>,
    queue: VecDeque<u32>,
    /// Places of clients that try again, with the time from which on.
    later: VecDeque<(u64, u32)>,
    pace: Pace,
    next_attempt: u64,
    next_scan: u64,
    in_flight: usize,
    verifier: Verifier,
    tally: Tally,
    gauges: Arc<Gauges>,
    orders: Receiver<Order>,
    publishing: Option<Publishing>,
    text: Vec<u8>,
    request: Vec<u8>,
}

struct Publishing {
    publisher: Box<Publisher>,
    back: Sender<io::Result<Box<Publisher>>>,
    /// Deliveries when the job began.
    before: u64,
    /// When the number of deliveries changed last, and what it was: a lost one must not end the
    /// run.
    progress: (u64, u64),
}

/// How long a delivery may take before the publisher stops waiting for it.
const OUTSTANDING_NANOS_MAX: u64 = 2_000_000_000;

impl Crowd {
    /// A crowd of nobody.
    ///
    /// # Errors
    /// The kernel refuses an epoll instance.
    pub fn new(parts: Parts, gauges: Arc<Gauges>, orders: Receiver<Order>) -> io::Result<Crowd> {
        let plan = Arc::clone(&parts.plan);
        let verifier = Verifier::new(plan, Arc::clone(&parts.templates), parts.is_bare);
        Ok(Crowd {
            parts,
            poller: Poller::new(EVENTS_MAX)?,
            clients: Vec::new(),
            queue: VecDeque::new(),
            later: VecDeque::new(),
            pace: Pace { per_sec: 1000.0, in_flight: 100 },
            next_attempt: 0,
            next_scan: 0,
            in_flight: 0,
            verifier,
            tally: Tally::default(),
            gauges,
            orders,
            publishing: None,
            text: Vec::new(),
            request: Vec::new(),
        })
    }

    /// Works until nobody can give orders any more.
    ///
    /// # Errors
    /// The kernel refuses to say what is ready.
    pub fn run(mut self) -> io::Result<()> {
        let mut scratch = vec![0; SCRATCH_BYTES];
        loop {
            loop {
                match self.orders.try_recv() {
                    Ok(order) => self.obey(order),
                    Err(crossbeam_channel::TryRecvError::Empty) => break,
                    Err(crossbeam_channel::TryRecvError::Disconnected) => return Ok(()),
                }
            }
            let now = nanos();
            let until = self.connect_due(now).min(self.publish(now));
            self.scan(now);
            let sleep = Duration::from_nanos(until.saturating_sub(nanos())).min(SLEEP_MAX);
            let count = self.poller.wait(Some(sleep))?;
            for index in 0..count {
                if let Some(readiness) = self.poller.take(index) {
                    self.ready(readiness, &mut scratch);
                }
            }
            self.show();
        }
    }

    fn show(&self) {
        let waiting = self.queue.len() + self.later.len() + self.in_flight;
        self.gauges.waiting.store(waiting as u64, Ordering::Relaxed);
    }

    fn number(&self, place: usize) -> u32 {
        place as u32 * self.parts.share.step + self.parts.share.offset
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Connect(numbers, pace) => {
                self.pace = pace;
                let share = self.parts.share;
                let mine = numbers.filter(|number| number % share.step == share.offset);
                for number in mine {
                    self.enqueue((number / share.step) as usize);
                }
            }
            Order::Leave(every) => self.each(every, |crowd, place| crowd.part(place)),
            Order::Return(every, pace) => {
                self.pace = pace;
                self.each(every, Crowd::enqueue);
            }
            Order::Stall(every) => self.each(every, |crowd, place| {
                if let Some(client) = crowd.clients.get_mut(place)
                    && client.state == State::Open
                {
                    client.state = State::Stalled;
                    if let Some(socket) = &client.socket {
                        // So that the kernel does not read for it; if it does, the test only takes
                        // longer.
                        let _ = sockopt::set_socket_recv_buffer_size(socket, 4096);
                    }
                }
            }),
            Order::Resume(every) => {
                let mut scratch = vec![0; SCRATCH_BYTES];
                self.each(every, |crowd, place| crowd.resume(place, &mut scratch));
            }
            Order::Publish(publisher, back) => {
                let delivered = self.gauges.delivered.load(Ordering::Relaxed);
                let progress = (nanos(), delivered);
                self.publishing = Some(Publishing { publisher, back, before: delivered, progress });
            }
            // Nobody waits for an answer any more when the run is being broken off.
            Order::Count(back) => drop(back.send(std::mem::take(&mut self.tally))),
            Order::Check(sequences, back) => drop(back.send(self.lacking(&sequences))),
        }
        self.show();
    }

    fn each(&mut self, every: Every, mut act: impl FnMut(&mut Crowd, usize)) {
        for place in 0..self.clients.len() {
            if self.number(place) % every.step == every.offset {
                act(self, place);
            }
        }
    }

    fn enqueue(&mut self, place: usize) {
        while self.clients.len() <= place {
            self.clients.push(Client::absent());
        }
        if let Some(client) = self.clients.get_mut(place)
            && client.state == State::Absent
        {
            client.state = State::Queued;
            self.queue.push_back(place as u32);
        }
    }

    fn lacking(&self, sequences: &[u32]) -> Lacking {
        let mut lacking = Lacking::default();
        for (place, client) in self.clients.iter().enumerate() {
            let channel = self.parts.plan.channel(self.number(place));
            let published = sequences.get(channel.0 as usize).copied().unwrap_or(0);
            // Who has come and not received anything yet may have missed nothing.
            if client.state == State::Open && client.next != UNSEEN && client.next < published {
                lacking.clients += 1;
                lacking.statuses += u64::from(published - client.next);
            }
        }
        lacking
    }

    /// Begins attempts that are due; when the next one is.
    fn connect_due(&mut self, now: u64) -> u64 {
        while self.later.front().is_some_and(|(due, _)| *due <= now) {
            self.queue.extend(self.later.pop_front().map(|(_, place)| place));
        }
        let interval = (1e9 / self.pace.per_sec.max(0.001)) as u64;
        // What was missed is made up for, but not all at once.
        self.next_attempt = self.next_attempt.max(now.saturating_sub(50_000_000));
        while self.next_attempt <= now && self.in_flight < self.pace.in_flight {
            let Some(place) = self.queue.pop_front() else { break };
            self.next_attempt += interval;
            self.attempt(place as usize);
        }
        let is_held = self.queue.is_empty() || self.in_flight >= self.pace.in_flight;
        let later = self.later.front().map_or(u64::MAX, |(due, _)| *due);
        if is_held { later } else { self.next_attempt.min(later) }
    }

    fn attempt(&mut self, place: usize) {
        let number = self.number(place);
        let target = &self.parts.target;
        let outcome = target.connect(number).and_then(|socket| {
            let Some(client) = self.clients.get_mut(place) else { return Ok(()) };
            client.generation = client.generation.wrapping_add(1);
            let key = u64::from(client.generation) << PLACE_BITS | place as u64;
            self.poller.add(&socket, key)?;
            client.socket = Some(socket);
            client.since = nanos();
            client.next = UNSEEN;
            client.state = State::Connecting;
            self.in_flight += 1;
            Ok(())
        });
        if let Err(error) = outcome {
            self.retry(place, &format!("connect: {error}"));
        }
    }

    /// An attempt has failed: another follows.
    fn retry(&mut self, place: usize, reason: &str) {
        self.tally.end(reason);
        self.gauges.failed.fetch_add(1, Ordering::Relaxed);
        if let Some(client) = self.clients.get_mut(place) {
            if matches!(client.state, State::Connecting | State::Asking) {
                self.in_flight -= 1;
            }
            client.socket = None;
            client.partial = None;
            client.state = State::Queued;
            self.later.push_back((nanos() + RETRY_NANOS, place as u32));
        }
    }

    /// A client goes away.
    fn part(&mut self, place: usize) {
        let Some(client) = self.clients.get_mut(place) else { return };
        match client.state {
            State::Open | State::Stalled => {
                self.gauges.open.fetch_sub(1, Ordering::Relaxed);
                if client.next != UNSEEN {
                    self.gauges.served.fetch_sub(1, Ordering::Relaxed);
                }
            }
            State::Connecting | State::Asking => self.in_flight -= 1,
            State::Absent | State::Queued => return,
        }
        client.socket = None;
        client.partial = None;
        client.state = State::Absent;
        client.next = UNSEEN;
    }

    /// The server has ended a connection, or behaved so that the client ends it.
    fn lose(&mut self, place: usize, reason: &str) {
        match self.clients.get(place).map(|client| client.state) {
            Some(State::Connecting | State::Asking) => self.retry(place, reason),
            Some(State::Open) => {
                self.tally.end(reason);
                self.gauges.ended.fetch_add(1, Ordering::Relaxed);
                self.part(place);
            }
            Some(State::Stalled) => {
                self.tally.end("ended while it did not read");
                self.part(place);
            }
            _ => {}
        }
    }

    /// Gives up attempts that have lasted too long.
    fn scan(&mut self, now: u64) {
        if self.in_flight == 0 || now < self.next_scan {
            return;
        }
        self.next_scan = now + 1_000_000_000;
        for place in 0..self.clients.len() {
            let overdue = self.clients.get(place).is_some_and(|client| {
                matches!(client.state, State::Connecting | State::Asking)
                    && client.since + HANDSHAKE_NANOS_MAX < now
            });
            if overdue {
                self.retry(place, "no answer for a minute");
            }
        }
    }

    /// Publishes what is due; when to do so again.
    fn publish(&mut self, now: u64) -> u64 {
        let Some(publishing) = &mut self.publishing else { return u64::MAX };
        let delivered = self.gauges.delivered.load(Ordering::Relaxed);
        if publishing.progress.1 != delivered {
            publishing.progress = (now, delivered);
        }
        let mut arrived = delivered - publishing.before;
        if now > publishing.progress.0 + OUTSTANDING_NANOS_MAX {
            arrived = publishing.publisher.done();
        }
        let outcome = publishing.publisher.turn(arrived);
        match outcome {
            Ok(Next::At(at)) => at,
            Ok(Next::AfterDelivery) => u64::MAX,
            Ok(Next::Nothing) | Err(_) => {
                if let Some(Publishing { publisher, back, .. }) = self.publishing.take() {
                    let _ = back.send(outcome.map(|_| publisher));
                }
                u64::MAX
            }
        }
    }
}
