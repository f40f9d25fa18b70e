//! Sending everybody away in turn when the server stops.
//!
//! Clients, and those who wait to hear whether they are, go at the pace of [`Drain`] and are served
//! until it is their turn. Who comes later, on a connection that was kept, is told 503.

use std::time::Duration;

use super::Shard;
use super::connection::{Awaited, Connection, Phase, Socket};
use crate::hub::drain::{Departure, Drain};
use crate::hub::farewell::Farewell;
use crate::hub::message::{ConnectionId, ToControl};
use crate::hub::moment::Moment;

/// How often a stopping shard sends clients away.
pub(super) const STOPPING_STEP: Duration = Duration::from_millis(50);

/// How long, after the window, the last clients have to read their farewell and to answer it. Less
/// than the control core waits before it ends the process.
const LAST_WORDS_MAX: Duration = Duration::from_millis(500);

impl<S: Socket> Shard<S> {
    /// Everybody is gone who was to be sent away.
    pub fn is_drained(&self) -> bool {
        self.drain.is_some() && self.slots.len() == 0
    }

    pub(super) fn begin_drain(&mut self, departure: Departure, now: Moment) {
        if self.drain.is_some() {
            return;
        }
        let everybody = (0..self.slots.capacity()).filter_map(|slot| self.slots.occupant(slot));
        self.leaving = everybody.filter(|id| self.slots.get(*id).is_some_and(has_a_turn)).collect();
        self.drain = Some(Drain::new(self.leaving.len(), departure, now));
    }

    pub(super) fn drain_some(&mut self, now: Moment) {
        let Some(drain) = &mut self.drain else { return };
        let (due, overdue) = (drain.due(now), drain.overdue(now));
        for _ in 0..due {
            if let Some(id) = self.leaving.pop_front() {
                self.send_away(id, now);
            }
        }
        if let Some(overdue) = overdue {
            self.leaving.clear();
            self.send_all_away(overdue >= LAST_WORDS_MAX, now);
        }
        if !self.is_drain_told && self.is_nobody_awaited() {
            self.is_drain_told = true;
            self.outgoing.push(ToControl::Drained);
        }
    }

    /// Nobody is connected but some who have asked for nothing. They hold no server, and are served
    /// until the last shard is empty: whoever asks there whether the server is ready is told.
    fn is_nobody_awaited(&self) -> bool {
        let everybody = (0..self.slots.capacity()).filter_map(|slot| self.slots.occupant(slot));
        let mut others = everybody.filter_map(|id| self.slots.get(id));
        self.clients() == 0 && others.all(|other| matches!(other.phase, Phase::Head(_)))
    }

    /// Everybody but those who have had their farewell, unless they have had it long enough.
    fn send_all_away(&mut self, is_last: bool, now: Moment) {
        for slot in 0..self.slots.capacity() {
            let Some(id) = self.slots.occupant(slot) else { continue };
            if is_last || !self.is_leaving(id) {
                self.send_away(id, now);
            }
        }
    }

    fn is_leaving(&self, id: ConnectionId) -> bool {
        let phase = self.slots.get(id).map(|connection| &connection.phase);
        matches!(phase, Some(Phase::Closing(_) | Phase::Lingering))
    }

    fn send_away(&mut self, id: ConnectionId, now: Moment) {
        let phase = self.slots.get(id).map(|connection| &connection.phase);
        match phase {
            Some(Phase::Asking(_)) => self.question_expired(id, now),
            _ => self.end(id, Farewell::Stopping, now),
        }
    }
}

/// A client, or somebody who may soon be one.
fn has_a_turn<S>(connection: &Connection<S>) -> bool {
    match &connection.phase {
        Phase::WebSocket { .. } | Phase::EventStream { .. } => true,
        Phase::Asking(asking) => {
            matches!(asking.awaited, Awaited::Session(_) | Awaited::Stream(..))
        }
        Phase::Head(_) | Phase::Closing(_) | Phase::Lingering => false,
    }
}
