//! Events that come faster than they go out: what several of them have for one socket is gathered
//! in its outbox and leaves in one write. A write costs the kernel about the same whether it
//! carries one frame or ten, so a shard that falls behind gets faster. An event that comes alone is
//! sent at once.
//!
//! ```text
//!   event, another waits behind it ──► held in outboxes ──► … ──► no more, or enough: all written
//!   event, none waits              ──► written reader by reader
//! ```

use super::Shard;
use super::connection::Socket;
use crate::hub::message::ConnectionId;
use crate::hub::moment::Moment;
use crate::hub::outbox::{Frame, WRITE_PARTS_MAX};

/// Events gathered before they are written. More would only add to the time that the first waits.
const EVENTS_MAX: usize = WRITE_PARTS_MAX;

/// Readers from which on an event is worth gathering: streams of one person rarely have two events
/// waiting.
const READERS_MIN: usize = 4;

/// Bytes gathered for one connection before they are written.
const BYTES_MAX: usize = 64 * 1024;

/// What is gathered at the moment.
#[derive(Default)]
pub(super) struct Gathering {
    /// The control core has sent more than was taken.
    has_backlog: bool,
    /// Connections whose outbox was made to gather in, in order.
    held: Vec<ConnectionId>,
    /// `written <= held.len()`: how many of them have had their turn.
    written: usize,
    /// When the gathered events were received, and how many readers they have.
    events: Vec<(Moment, u64)>,
}

impl Gathering {
    /// Is the next event to be gathered?
    pub(super) fn takes(&self, readers: usize) -> bool {
        readers >= READERS_MIN && (self.has_backlog || !self.held.is_empty()) && !self.is_due()
    }

    /// Nothing is held back.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// An event has been gathered for so many readers.
    pub(super) fn add(&mut self, received: Moment, count: u64) {
        self.events.push((received, count));
    }

    /// It is time to write.
    pub(super) fn is_due(&self) -> bool {
        let is_enough = !self.has_backlog || self.events.len() >= EVENTS_MAX || self.written > 0;
        is_enough && !self.held.is_empty()
    }
}

impl<S: Socket> Shard<S> {
    /// Says whether more messages of the control core wait behind the next one.
    pub fn set_backlog(&mut self, has_backlog: bool) {
        self.gathering.has_backlog = has_backlog;
    }

    /// Puts a frame with what is gathered for a connection.
    pub(super) fn gather(&mut self, id: ConnectionId, frame: &Frame, now: Moment) {
        let limits = &self.settings.limits;
        let bytes_max = BYTES_MAX.min(limits.outbox_bytes_max);
        let frames_max = WRITE_PARTS_MAX.min(limits.outbox_frames_max);
        let Some(connection) = self.slots.get_mut(id) else { return };
        let is_full = connection.outbox.as_ref().is_some_and(|outbox| {
            let is_over = outbox.bytes() + frame.len() > bytes_max || outbox.frames() >= frames_max;
            outbox.is_held && is_over
        });
        if is_full {
            self.write_held(id, now);
        }
        let Some(connection) = self.slots.get_mut(id) else { return };
        if connection.outbox.is_some() {
            return self.push(id, frame, now);
        }
        self.hold(id, frame, now);
        self.gathering.held.push(id);
    }

    /// Puts a frame aside for a connection that has no outbox; [`Shard::write_held`] writes it.
    pub(super) fn hold(&mut self, id: ConnectionId, frame: &Frame, now: Moment) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        connection.hold(frame, now);
        self.metrics.outbox_bytes += frame.len() as u64;
        self.metrics.outbox_connections += 1;
    }

    /// Writes what is gathered, for at most `budget` connections, and takes them off it. True if
    /// there are more.
    pub(super) fn write_gathered(&mut self, budget: &mut usize, now: Moment) -> bool {
        let end = self.gathering.held.len().min(self.gathering.written + *budget);
        *budget -= end - self.gathering.written;
        for index in self.gathering.written..end {
            if let Some(id) = self.gathering.held.get(index).copied() {
                self.write_held(id, now);
            }
        }
        self.gathering.written = end;
        if end < self.gathering.held.len() {
            return true;
        }
        self.gathering.held.clear();
        self.gathering.written = 0;
        self.sent.append(&mut self.gathering.events);
        false
    }

    /// Writes what was put aside for one connection, if its outbox was made for that.
    pub(super) fn write_held(&mut self, id: ConnectionId, now: Moment) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        let Some(outbox) = &mut connection.outbox else { return };
        if !std::mem::take(&mut outbox.is_held) {
            return;
        }
        self.writable(id, now);
        let Some(connection) = self.slots.get_mut(id) else { return };
        if connection.outbox.is_some() && !std::mem::replace(&mut connection.is_watched, true) {
            self.watch_outbox(id, now);
        }
    }
}
