//! A shard core: a [`Shard`] with its sockets, its listener and its end of the mesh.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::bell::Bell;
use super::clock::Clock;
use super::door::{Door, SentAway};
use super::driver::{Core, Turn};
use super::listener::{Accepted, ClientSocket, Listener, Received, Trouble};
use super::mesh::ControlLink;
use super::moderation::Moderation;
use super::poller::{self, Poller, Readiness};
use crate::hub::farewell::Farewell;
use crate::hub::message::{ConnectionId, ToShard};
use crate::hub::moment::Moment;
use crate::hub::shard::{Shard, Socket};
use crate::log::{self, Sparingly};

/// Keys that no connection has: their slot would be the last of four billion.
const LISTENER_KEY: u64 = u64::MAX;
const BELL_KEY: u64 = u64::MAX - 1;
const COMPANION_KEY: u64 = u64::MAX - 3;

/// Below it: a connection. From here on: what the core itself waits for, and the drivers.
const OWN_KEYS: u64 = COMPANION_KEY;

/// Events taken from the kernel at a time.
const EVENTS_MAX: usize = 512;
/// Bytes read from a socket at a time, into one buffer for all.
const SCRATCH_BYTES: usize = 64 * 1024;
/// Reads of one socket in a row, so that a flood from one client does not keep the others waiting.
const READS_MAX: usize = 4;
/// Connections accepted in a row.
const ACCEPTS_MAX: usize = 64;
/// Sends to readers in one turn, some milliseconds of work.
const SENDS_MAX: usize = 512;
/// Messages of the control core in a row.
const MESSAGES_MAX: usize = 512;

/// A shard with its surroundings. Clients' sockets may be wrapped in others, as tests do.
pub struct ShardCore<S = ClientSocket> {
    shard: Shard<S>,
    poller: Poller,
    /// Gone while draining.
    door: Option<Door>,
    link: ControlLink,
    clock: Clock,
    scratch: Vec<u8>,
    /// Connections with more to read than they were allowed at a time, and whether their end is
    /// announced.
    unread: VecDeque<(ConnectionId, bool)>,
    moderation: Moderation,
    complaints: Sparingly,
    ending: bool,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug)]
pub struct Woken {
    /// So many events of the poller.
    pub events: usize,
    /// There is something in the other epoll instance.
    pub by_companion: bool,
}

impl<S: Socket + From<ClientSocket> + AsRef<ClientSocket>> ShardCore<S> {
    /// Puts a shard into its surroundings.
    pub fn new(
        shard: Shard<S>,
        listener: Listener,
        link: ControlLink,
        clock: Clock,
    ) -> io::Result<Self> {
        let poller = Poller::new(EVENTS_MAX)?;
        let door = Door::open(listener, &poller, LISTENER_KEY)?;
        poller.add(link.bell(), BELL_KEY)?;
        Ok(ShardCore {
            shard,
            poller,
            door: Some(door),
            link,
            clock,
            scratch: vec![0; SCRATCH_BYTES],
            unread: VecDeque::new(),
            moderation: Moderation::default(),
            complaints: Sparingly::default(),
            ending: false,
        })
    }

    /// Watches another epoll instance along with its own.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn accompany(&self, companion: &Poller) -> io::Result<()> {
        self.poller.add_level(companion, COMPANION_KEY)
    }

    /// [`Core::wait`] for a core that has `companion` beside it, as [`ShardCore::accompany`] says.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub fn wait_beside(
        &mut self,
        companion: Option<&Poller>,
        timeout: Option<Duration>,
    ) -> io::Result<Woken> {
        let pause = self.moderation.pause(self.clock.now());
        let timeout = match (pause, timeout) {
            (_, Some(Duration::ZERO)) | (None, _) => timeout,
            (Some(pause), timeout) => {
                let pause = timeout.map_or(pause, |timeout| timeout.min(pause));
                let by_companion = self.await_mail(companion, pause)?;
                if by_companion || self.link.has_mail() {
                    // Clients' input still waits.
                    return Ok(Woken { events: 0, by_companion });
                }
                Some(Duration::ZERO)
            }
        };
        let events = self.poller.wait(timeout)?;
        let mut ready = (0..events).filter_map(|index| self.poller.take(index));
        let by_companion = ready.any(|readiness| readiness.key == COMPANION_KEY);
        Ok(Woken { events, by_companion })
    }

    /// Sleeps until something comes through the mesh, or for the companion: true.
    fn await_mail(&self, companion: Option<&Poller>, timeout: Duration) -> io::Result<bool> {
        let bell = self.link.bell();
        bell.clear();
        if self.link.has_mail() {
            return Ok(false);
        }
        poller::wait_for_either(bell.as_fd(), companion.map(AsFd::as_fd), timeout)
    }

    fn ready(&mut self, readiness: Readiness) {
        match readiness.key {
            BELL_KEY | COMPANION_KEY => {}
            LISTENER_KEY => self.accept_some(),
            key => {
                let id = ConnectionId::from_key(key);
                if readiness.writable {
                    self.shard.writable(id, self.clock.now());
                }
                if readiness.readable || readiness.hung_up {
                    self.read_some(id, readiness.hung_up);
                }
            }
        }
    }

    fn read_some(&mut self, id: ConnectionId, hung_up: bool) {
        for _ in 0..READS_MAX {
            let Some(socket) = self.shard.socket(id) else { return };
            match socket.as_ref().receive(&mut self.scratch) {
                Received::Blocked => return,
                Received::Ended => return self.shard.ended(id, self.clock.now()),
                Received::Unreachable => return self.shard.unreachable(id, self.clock.now()),
                Received::Bytes(count) => {
                    let Some(bytes) = self.scratch.get_mut(..count) else { return };
                    if !self.shard.receive(id, bytes, self.clock.now()) {
                        return;
                    }
                    // A short read has emptied the socket, unless the end came with these bytes:
                    // that is announced with the same edge.
                    if count < SCRATCH_BYTES && !hung_up {
                        return;
                    }
                }
            }
        }
        // Few are that loud, and each has had a lot read.
        if !self.unread.iter().any(|(other, _)| *other == id) {
            self.unread.push_back((id, hung_up));
        }
    }

    fn accept_some(&mut self) {
        for _ in 0..ACCEPTS_MAX {
            let Some(door) = &mut self.door else { return };
            match door.accept() {
                Accepted::Socket(socket) => self.admit(socket),
                Accepted::Nobody => return,
                Accepted::NotNow => return door.pause(&self.poller, self.clock.now()),
                Accepted::Gone => self.shard.metrics_mut().accept_failures.add("gone"),
                Accepted::Failed(trouble, error) => return self.cannot_accept(trouble, &error),
            }
        }
    }

    fn admit(&mut self, socket: ClientSocket) {
        let Some(id) = self.shard.admit(socket.into(), self.clock.now()) else { return };
        let Some(socket) = self.shard.socket(id) else { return };
        match self.poller.add(socket.as_ref(), id.key()) {
            // Most clients have sent their request by now: it need not wait for the next look.
            Ok(()) => self.read_some(id, false),
            Err(error) => {
                self.shard.cannot_accept("epoll");
                self.complain("Cannot watch a connection", &error);
                self.hear_out(id);
                self.shard.turn_away(id, Farewell::SocketError, self.clock.now());
            }
        }
    }

    /// Reads what somebody has said who is sent away: closing would reset the connection otherwise.
    fn hear_out(&mut self, id: ConnectionId) {
        if let Some(socket) = self.shard.socket(id) {
            socket.as_ref().receive(&mut self.scratch);
        }
    }

    /// No descriptors or memory: those who are connected are served, those who wait are told to
    /// come back if possible, and the door is left alone for a while.
    fn cannot_accept(&mut self, trouble: Trouble, error: &io::Error) {
        let now = self.clock.now();
        let Some(door) = &mut self.door else { return };
        if trouble == Trouble::Descriptors {
            let sent_away = door.send_away(&mut self.scratch);
            let refused = &mut self.shard.metrics_mut().handshakes_refused;
            refused.add_many("no_descriptors", sent_away.count as u64);
            if sent_away == (SentAway { count: 0, is_everybody: true }) {
                // The kernel looks for a descriptor before it looks whether anybody waits.
                return;
            }
        }
        door.pause(&self.poller, now);
        self.shard.cannot_accept(trouble.label());
        self.complain("Cannot accept a connection", error);
    }

    fn take_messages(&mut self) {
        let mut sends = SENDS_MAX;
        for _ in 0..MESSAGES_MAX {
            if self.shard.is_fanning_out() && self.fan_out(&mut sends) {
                return;
            }
            let Some(message) = self.link.receive() else { return };
            if matches!(message, ToShard::Drain(_))
                && let Some(door) = self.door.take()
            {
                door.close(&self.poller);
            }
            self.shard.set_backlog(self.link.has_mail());
            self.shard.handle(message, self.clock.now());
        }
    }

    fn fan_out(&mut self, sends: &mut usize) -> bool {
        let more = self.shard.fan_out(sends, self.clock.now());
        self.shard.record_latency(self.clock.now());
        more
    }

    fn complain(&mut self, what: &'static str, error: &io::Error) {
        if let Some(suppressed) = self.complaints.allow(what, self.clock.now()) {
            let fields = [("error", log::Value::Shown(error)), ("suppressed", suppressed.into())];
            log::warn(what, &fields);
        }
    }

    /// True if the mesh has taken everything.
    fn tell_control(&mut self) -> bool {
        for message in self.shard.take_outgoing() {
            self.link.send(message);
        }
        self.link.flush()
    }

    fn next_deadline(&self, now: Moment) -> Option<Moment> {
        let resume = self.door.as_ref().and_then(Door::resumes_at);
        self.shard.next_tick(now).into_iter().chain(resume).min()
    }
}

impl<S: Socket + From<ClientSocket> + AsRef<ClientSocket>> Core for ShardCore<S> {
    fn turn(&mut self, events: usize) -> Turn {
        let began = self.clock.now();
        let has_work = events > 0 || self.shard.is_fanning_out() || self.link.has_mail();
        let mut clients = 0;
        for index in 0..events {
            if let Some(readiness) = self.poller.take(index) {
                clients += usize::from(is_of_client(readiness.key));
                self.ready(readiness);
            }
        }
        if clients > 0 {
            self.moderation.found(clients, began);
        }
        for _ in 0..self.unread.len() {
            if let Some((id, hung_up)) = self.unread.pop_front() {
                self.read_some(id, hung_up);
            }
        }
        self.take_messages();
        let now = self.clock.now();
        if let Some(door) = &mut self.door {
            door.resume(&self.poller, now);
        }
        self.shard.tick(now);
        let mut is_sent = self.tell_control();
        if is_sent && self.shard.welcome(now) {
            is_sent = self.tell_control();
        }
        if self.shard.is_drained() {
            if self.ending && is_sent {
                return Turn::Done;
            }
            self.ending = true;
        }
        if has_work {
            let ended = self.clock.now();
            self.shard.metrics_mut().turns.record(began, ended);
        }
        let is_busy =
            self.shard.is_fanning_out() || self.link.has_mail() || !self.unread.is_empty();
        let deadline = self.next_deadline(now);
        let is_due = deadline.is_some_and(|deadline| deadline <= now);
        if is_busy || is_due || !is_sent { Turn::Busy } else { Turn::Idle(deadline) }
    }

    fn poller(&mut self) -> &mut Poller {
        &mut self.poller
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        self.wait_beside(None, timeout).map(|woken| woken.events)
    }

    fn bell(&self) -> &Bell {
        self.link.bell()
    }

    fn has_mail(&self) -> bool {
        self.link.has_mail()
    }
}

fn is_of_client(key: u64) -> bool {
    key < OWN_KEYS || key == LISTENER_KEY
}
