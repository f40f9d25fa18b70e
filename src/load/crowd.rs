//! A thread with thousands of clients. A client is some 40 bytes: it has no buffer unless the server has sent half
//! a message, and what it wants follows from its number.
//!
//! ```text
//!  Absent ─► Queued ─► Connecting ─► Asking ─► Open ─► Stalled (reads no more)
//!    ▲          ▲          │            │       │         │
//!    │          └── a second later ─────┘       │         │
//!    └──────────────────────────────────────────┴─────────┘
//! ```

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send, sockopt};

use super::clock::nanos;
use super::inbound::{self, Chunks, Frame, Unusable};
use super::plan::{Plan, Transport};
use super::publisher::{Next, Publisher};
use super::status::Templates;
use super::tally::Tally;
use super::target::Target;
use super::verify::{UNSEEN, Verifier, Wrong};
use crate::io::poller::{Poller, Readiness};

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

/// What a crowd is told to do.
pub enum Order {
    /// Connect these clients.
    Connect(Range<u32>, Pace),
    /// Close the connections of all clients whose number fits, as a client does that goes away.
    Leave(Every),
    /// Connect all who have left, whose number fits.
    Return(Every, Pace),
    /// These read no more.
    Stall(Every),
    /// Run the publisher's job in this thread.
    Publish(Box<Publisher>, Sender<io::Result<Box<Publisher>>>),
    /// Give the counts and begin new ones.
    Count(Sender<Tally>),
    /// Count the statuses that clients lack, given the next sequence number of each channel.
    Check(Arc<[u32]>, Sender<Lacking>),
}

/// Which clients: those whose number leaves this remainder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Every {
    /// Divisor, at least 1.
    pub step: u32,
    /// Remainder.
    pub offset: u32,
}

/// How fast clients connect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Attempts a second.
    pub per_sec: f64,
    /// Attempts at a time.
    pub in_flight: usize,
}

/// What clients lack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    /// Open clients that lack something.
    pub clients: u64,
    /// Statuses, over all open clients.
    pub statuses: u64,
}

/// How things stand, for everybody to read.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Clients that are to be connected, or are connecting.
    pub waiting: AtomicU64,
    /// Clients whose request was granted.
    pub open: AtomicU64,
    /// Open clients that have received a status.
    pub served: AtomicU64,
    /// Statuses received since the start.
    pub delivered: AtomicU64,
    /// Deliveries that were wrong since the start.
    pub wrong: AtomicU64,
    /// Attempts that have failed since the start.
    pub failed: AtomicU64,
    /// Open connections that the server has ended since the start.
    pub ended: AtomicU64,
}

struct Client {
    socket: Option<OwnedFd>,
    /// What has come of a message that is not yet whole.
    partial: Option<Box<Partial>>,
    /// When the attempt began.
    since: u64,
    /// The sequence number to come.
    next: u32,
    generation: u16,
    state: State,
}

/// Behind a pointer, so that it costs those nothing who have none.
struct Partial(Vec<u8>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Queued,
    Connecting,
    Asking,
    Open,
    Stalled,
}

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
    /// When the number of deliveries changed last, and what it was: a lost one must not end the run.
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
                }
            }),
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
            self.clients.push(Client {
                socket: None,
                partial: None,
                since: 0,
                next: UNSEEN,
                generation: 0,
                state: State::Absent,
            });
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
            let seen = if client.next == UNSEEN { 0 } else { client.next };
            if client.state == State::Open && seen < published {
                lacking.clients += 1;
                lacking.statuses += u64::from(published - seen);
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

    fn ready(&mut self, readiness: Readiness, scratch: &mut [u8]) {
        let place = (readiness.key & ((1 << PLACE_BITS) - 1)) as usize;
        let Some(client) = self.clients.get(place) else { return };
        if u64::from(client.generation) != readiness.key >> PLACE_BITS {
            return;
        }
        if client.state == State::Connecting && (readiness.writable || readiness.hung_up) {
            self.ask(place);
        }
        let Some(client) = self.clients.get(place) else { return };
        match client.state {
            State::Asking | State::Open if readiness.readable || readiness.hung_up => {
                self.read(place, readiness.hung_up, scratch);
            }
            State::Stalled if readiness.hung_up => self.lose(place, "stalled"),
            _ => {}
        }
    }

    /// The connection stands, or has failed.
    fn ask(&mut self, place: usize) {
        let number = self.number(place);
        let Some(client) = self.clients.get_mut(place) else { return };
        let Some(socket) = &client.socket else { return };
        let failure = match sockopt::socket_error(socket) {
            Ok(Ok(())) => {
                self.request.clear();
                self.parts.plan.push_request(number, &mut self.request);
                send(socket, &self.request, SendFlags::NOSIGNAL).err()
            }
            Ok(Err(error)) | Err(error) => Some(error),
        };
        match failure {
            None => client.state = State::Asking,
            Some(error) => self.retry(place, &format!("connect: {}", io::Error::from(error))),
        }
    }

    fn read(&mut self, place: usize, hung_up: bool, scratch: &mut [u8]) {
        loop {
            let Some(client) = self.clients.get_mut(place) else { return };
            let Some(socket) = &client.socket else { return };
            let count = match recv(socket, &mut *scratch, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return self.lose(place, "ended by the server"),
                Ok((count, _)) => count,
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => continue,
                Err(error) => return self.lose(place, &io::Error::from(error).to_string()),
            };
            self.tally.bytes += count as u64;
            let bytes = scratch.get(..count).unwrap_or_default();
            let outcome = match client.partial.take() {
                None => self.take(place, bytes).map(|used| bytes.get(used..).map(<[u8]>::to_vec)),
                Some(mut partial) => {
                    partial.0.extend_from_slice(bytes);
                    self.take(place, &partial.0).map(|used| {
                        partial.0.drain(..used);
                        Some(partial.0)
                    })
                }
            };
            match outcome {
                Err(Unusable(reason)) => return self.lose(place, &reason),
                Ok(rest) => {
                    let rest = rest.filter(|rest| !rest.is_empty());
                    if let Some(client) = self.clients.get_mut(place)
                        && client.socket.is_some()
                    {
                        client.partial = rest.map(|rest| Box::new(Partial(rest)));
                    }
                }
            }
            if count < scratch.len() && !hung_up {
                return;
            }
        }
    }

    /// Takes whole messages; how many bytes they had.
    fn take(&mut self, place: usize, bytes: &[u8]) -> Result<usize, Unusable> {
        let transport = self.parts.plan.transport(self.number(place));
        let mut used = 0;
        if self.clients.get(place).is_some_and(|client| client.state == State::Asking) {
            let Some(length) = inbound::head(bytes, transport)? else { return Ok(0) };
            used = length;
            self.granted(place);
        }
        while let Some(rest) = bytes.get(used..).filter(|rest| !rest.is_empty()) {
            let length = match transport {
                Transport::WebSocket => self.take_frame(place, rest)?,
                Transport::EventStream => self.take_events(place, rest)?,
            };
            if length == 0 {
                break;
            }
            used += length;
        }
        Ok(used)
    }

    fn granted(&mut self, place: usize) {
        let Some(client) = self.clients.get_mut(place) else { return };
        client.state = State::Open;
        self.in_flight -= 1;
        self.tally.handshake.saturating_record(nanos() - client.since);
        self.gauges.open.fetch_add(1, Ordering::Relaxed);
    }

    fn take_frame(&mut self, place: usize, rest: &[u8]) -> Result<usize, Unusable> {
        let Some((length, frame)) = inbound::frame(rest)? else { return Ok(0) };
        match frame {
            Frame::Text(text) => self.deliver(place, text),
            Frame::Pong => {}
            Frame::Ping(payload) => {
                self.tally.keep_alives += 1;
                self.pong(place, payload);
            }
            Frame::Close(code) => {
                let code = code.map_or("no code".to_owned(), |code| code.to_string());
                return Err(Unusable(format!("closed with {code}")));
            }
        }
        Ok(length)
    }

    /// Masked with zeros (RFC 6455 section 5.3 asks for chance, so that no page can write what it likes into caches;
    /// here is no page).
    fn pong(&mut self, place: usize, payload: &[u8]) {
        let Some(socket) = self.clients.get(place).and_then(|client| client.socket.as_ref()) else {
            return;
        };
        let payload = payload.get(..payload.len().min(125)).unwrap_or_default();
        self.request.clear();
        self.request.extend_from_slice(&[0x8a, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
        self.request.extend_from_slice(payload);
        // If it does not fit into an idle socket's buffer, the connection is broken, and reading will say so.
        let _ = send(socket, &self.request, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }

    fn take_events(&mut self, place: usize, rest: &[u8]) -> Result<usize, Unusable> {
        let mut text = std::mem::take(&mut self.text);
        let outcome = inbound::chunks(rest, &mut text);
        if let Ok(Chunks::Events(_)) = outcome {
            for event in inbound::events(&text) {
                match event.starts_with(b":") {
                    true => self.tally.keep_alives += 1,
                    false => self.deliver(place, event),
                }
            }
        }
        self.text = text;
        match outcome? {
            Chunks::Events(length) => Ok(length),
            Chunks::Incomplete => Ok(0),
            Chunks::End => Err(Unusable("the response ended".to_owned())),
        }
    }

    fn deliver(&mut self, place: usize, text: &[u8]) {
        let number = self.number(place);
        let Some(client) = self.clients.get_mut(place) else { return };
        let is_first = client.next == UNSEEN;
        let seen = self.verifier.look(number, text, &mut client.next);
        let (marker, wrong) = match seen {
            Ok(None) => {
                self.tally.foreign += 1;
                return;
            }
            Ok(Some(marker)) => (marker, None),
            Err((marker, wrong)) => (marker, Some(wrong)),
        };
        if is_first && client.next != UNSEEN {
            self.gauges.served.fetch_add(1, Ordering::Relaxed);
        }
        if wrong.is_none() || matches!(wrong, Some(Wrong::Missed(_))) {
            let latency = nanos().saturating_sub(marker.intended_nanos);
            self.tally.delivery(marker.sequence, latency);
            self.gauges.delivered.fetch_add(1, Ordering::Relaxed);
        }
        let Some(wrong) = wrong else { return };
        self.gauges.wrong.fetch_add(1, Ordering::Relaxed);
        match wrong {
            Wrong::Again => self.tally.again += 1,
            Wrong::Missed(count) => self.tally.missed += u64::from(count),
            Wrong::Stray => self.tally.strays += 1,
            Wrong::Altered => self.tally.altered += 1,
        }
    }
}
