//! The door of a shard: its listener, and what to do when the kernel lets nobody in.
//!
//! ```text
//!   Watched ── no descriptors: through one kept back those who wait are told 503 ───────┐
//!      ▲ ▲                                                                              │
//!      │ └──────────────── nobody waits ────────────────────────────────────────────────┤
//!      └── pause over ── Paused: 10 ms, twice as long each time, at most 1 s ◄──────────┘
//! ```
//!
//! A listener that cannot be accepted from stays readable. Whoever goes on watching it spins, and
//! whoever stops accepting for ever is dead: so it is left alone for a while, while those who are
//! connected are served.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;

use super::listener::{Accepted, ClientSocket, Listener};
use super::poller::Poller;
use crate::hub::moment::Moment;
use crate::hub::shard::Socket;
use crate::protocol::http::TRY_LATER;

/// The first pause, and the one after those who waited have been told.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest: whoever may come in again waits no longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Clients sent away in a row. With [`PAUSE_MIN`] between, a flood costs a few percent of a core.
const SENT_AWAY_MAX: usize = 16;

/// Descriptors that a door keeps back. One is enough but for the moment in which it is given up:
/// then another door, which does not know yet that there are no more, may be faster.
const SPARES: usize = 3;

/// A door is using a descriptor that it has given up: another one that accepted now would take it.
static IS_GIVEN_UP: AtomicBool = AtomicBool::new(false);

/// A shard's listener with its state.
pub struct Door {
    listener: Listener,
    /// The key of the listener in the shard's poller.
    key: u64,
    /// At most [`SPARES`], kept back for the moment in which there are no more: one that is given
    /// up lets one client in at a time, who is told to come back. Files of their own, so that they
    /// help against a full table of the whole system as well.
    spares: Vec<OwnedFd>,
    /// There were no descriptors when somebody was last let in.
    is_short: bool,
    /// `PAUSE_MIN <= pause <= PAUSE_MAX`: how long the next pause will be.
    pause: Duration,
    paused_until: Option<Moment>,
}

/// What became of those who wait while there are no descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SentAway {
    /// So many were told to come back.
    pub count: usize,
    /// Nobody waits any more.
    pub is_everybody: bool,
}

impl Door {
    /// Opens the door: has the listener watched.
    ///
    /// # Errors
    /// The kernel refuses to watch it.
    pub fn open(listener: Listener, poller: &Poller, key: u64) -> io::Result<Door> {
        poller.add_level(&listener, key)?;
        let mut door = Door {
            listener,
            key,
            spares: Vec::with_capacity(SPARES),
            is_short: false,
            pause: PAUSE_MIN,
            paused_until: None,
        };
        door.keep_back();
        Ok(door)
    }

    /// Lets somebody in.
    pub fn accept(&mut self) -> Accepted {
        let turn = if self.is_short { Turn::take() } else { None };
        if self.is_short && turn.is_none() {
            return Accepted::NotNow;
        }
        let accepted = self.listener.accept();
        if matches!(accepted, Accepted::Socket(_)) {
            self.is_short = false;
            self.pause = PAUSE_MIN;
        }
        accepted
    }

    /// There are no descriptors: tells those who wait, a few at a time, to come back later.
    /// `scratch` is for what they have said meanwhile.
    pub fn send_away(&mut self, scratch: &mut [u8]) -> SentAway {
        let mut sent_away = SentAway { count: 0, is_everybody: false };
        self.is_short = true;
        let Some(_turn) = Turn::take() else { return sent_away };
        for _ in 0..SENT_AWAY_MAX {
            if self.spares.pop().is_none() {
                break;
            }
            let accepted = self.listener.accept();
            if let Accepted::Socket(socket) = accepted {
                refuse(socket, scratch);
                sent_away.count += 1;
                self.pause = PAUSE_MIN;
            } else if !matches!(accepted, Accepted::Gone) {
                // Otherwise somebody else took what was given up.
                sent_away.is_everybody = matches!(accepted, Accepted::Nobody);
                break;
            }
            self.keep_back();
        }
        self.keep_back();
        sent_away
    }

    fn keep_back(&mut self) {
        while self.spares.len() < SPARES
            && let Ok(spare) = eventfd(0, EventfdFlags::CLOEXEC)
        {
            self.spares.push(spare);
        }
    }

    /// Closes the door for good.
    pub fn close(self, poller: &Poller) {
        // Closing is not enough: a listener at a Unix socket lives on in the doors of other shards,
        // and would go on being reported here. Not watched: it is paused.
        let _ = poller.remove(&self.listener);
    }

    /// Leaves the listener alone for a while.
    pub fn pause(&mut self, poller: &Poller, now: Moment) {
        // What is not watched cannot be taken out: then it is paused already.
        let _ = poller.remove(&self.listener);
        self.paused_until = Some(now + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    /// Watches the listener again when the pause is over.
    pub fn resume(&mut self, poller: &Poller, now: Moment) {
        if self.paused_until.is_none_or(|until| now < until) {
            return;
        }
        self.keep_back();
        match poller.add_level(&self.listener, self.key) {
            Ok(()) => self.paused_until = None,
            Err(_) => self.pause(poller, now),
        }
    }

    /// When the pause is over, if there is one.
    pub fn resumes_at(&self) -> Option<Moment> {
        self.paused_until
    }
}

/// The right to use what is given up.
struct Turn;

impl Turn {
    fn take() -> Option<Turn> {
        (!IS_GIVEN_UP.swap(true, Ordering::Acquire)).then_some(Turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        IS_GIVEN_UP.store(false, Ordering::Release);
    }
}

/// Says that the server is overloaded. What the client has said is read: closing would reset the
/// connection otherwise, and many a client then loses the answer (RFC 9112, section 9.6).
fn refuse(mut socket: ClientSocket, scratch: &mut [u8]) {
    socket.send(TRY_LATER);
    socket.shut();
    socket.receive(scratch);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Listen, PortSharing};
    use crate::io::listener::Listeners;

    #[test]
    fn a_closed_door_is_silent_even_while_others_listen_at_the_same_unix_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listen = Listen::Unix(path.clone());
        let mut listeners =
            Listeners::bind(&listen, PortSharing::Refused, 2, Duration::from_secs(7)).unwrap();
        let mut poller = Poller::new(8).unwrap();
        let door = Door::open(listeners.sockets.remove(0), &poller, 1).unwrap();
        let _client = std::os::unix::net::UnixStream::connect(&path).unwrap();
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), 1);
        door.close(&poller);
        assert_eq!(poller.wait(Some(Duration::ZERO)).unwrap(), 0);
    }
}
