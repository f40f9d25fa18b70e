//! What happens by itself as time goes by: pings, comments, deadlines.

use std::time::Duration;

use super::Shard;
use super::connection::{Phase, Socket};
use super::deadlines::{Expired, Kind};
use super::stopping::STOPPING_STEP;
use crate::hub::farewell::Farewell;
use crate::hub::message::{ConnectionId, ToControl};
use crate::hub::moment::Moment;

/// How often an outbox is looked at within the time for which it may be blocked: a client goes when
/// that is over, and at most a quarter later.
const LOOKS_AT_BLOCKED: u32 = 4;

/// How long an outbox waits that the kernel had no memory for.
pub(super) const STARVED_PAUSE: Duration = Duration::from_millis(100);

/// Slots looked at in one tick to keep their connections alive: a millisecond or two of work, for
/// which events wait.
const SLOTS_MAX: usize = 256;

/// A pulse may be early by half its interval, so that it goes with what wakes the core anyway.
const PULSE_EARLY_PART: u32 = 2;

impl<S: Socket> Shard<S> {
    /// Lets time pass. Call it at [`Shard::next_tick`] at the latest, and again if that has passed.
    pub fn tick(&mut self, now: Moment) {
        if now + self.settings.limits.pulse_interval_secs / PULSE_EARLY_PART >= self.next_pulse {
            self.next_pulse = now + self.settings.limits.pulse_interval_secs;
            let is_accepting = std::mem::replace(&mut self.is_accepting, true);
            self.outgoing.push(ToControl::Pulse { is_accepting });
        }
        for _ in 0..SLOTS_MAX {
            let Some(slot) = self.pings.due(now, self.slots.capacity()) else { break };
            self.keep_websocket_alive(slot, now);
        }
        for _ in 0..SLOTS_MAX {
            let Some(slot) = self.thumps.due(now, self.slots.capacity()) else { break };
            self.keep_event_stream_alive(slot, now);
        }
        while let Some(expired) = self.deadlines.pop(now) {
            self.expire(expired, now);
        }
        self.drain_some(now);
    }

    /// When time has to pass again.
    pub fn next_tick(&self, now: Moment) -> Option<Moment> {
        if self.drain.is_some() {
            return Some(now + STOPPING_STEP);
        }
        if self.slots.len() == 0 {
            return Some(self.next_pulse);
        }
        let clients = self.metrics.clients;
        let pings = (clients.websocket > 0).then(|| self.pings.next());
        let thumps = (clients.eventsource > 0).then(|| self.thumps.next());
        let deadline = self.deadlines.next();
        pings.into_iter().chain(thumps).chain(deadline).chain([self.next_pulse]).min()
    }

    fn keep_websocket_alive(&mut self, slot: u32, now: Moment) {
        let Some(id) = self.slots.occupant(slot) else { return };
        let Some(connection) = self.slots.get_mut(id) else { return };
        if !matches!(connection.phase, Phase::WebSocket { .. }) {
            return;
        }
        if !std::mem::take(&mut connection.heard) {
            return self.end(id, Farewell::PingTimeout, now);
        }
        connection.subscriptions.forget_changes();
        let ping = self.ping.clone();
        self.push(id, &ping, now);
    }

    fn keep_event_stream_alive(&mut self, slot: u32, now: Moment) {
        let Some(id) = self.slots.occupant(slot) else { return };
        let Some(connection) = self.slots.get_mut(id) else { return };
        if matches!(connection.phase, Phase::EventStream { .. }) {
            let thump = connection.coded(self.thump.clone());
            self.push(id, &thump, now);
        }
    }

    fn expire(&mut self, expired: Expired, now: Moment) {
        let id = expired.connection;
        let Some(connection) = self.slots.get(id) else { return };
        match expired.kind {
            Kind::Blocked => return self.look_at_blocked(id, now),
            Kind::Starved => return self.feed_starved(id, now),
            _ => {}
        }
        if connection.stamp != expired.stamp {
            return;
        }
        match expired.kind {
            Kind::Head => self.end(id, Farewell::HeadTimeout, now),
            Kind::KeepAlive => self.end(id, Farewell::KeepAliveTimeout, now),
            Kind::Closing => self.close_unanswered(id),
            Kind::Lingering => self.remove(id),
            Kind::Question if matches!(connection.phase, Phase::Asking(_)) => {
                self.question_expired(id, now);
            }
            Kind::Question => self.wait_expired(id, now),
            Kind::Blocked | Kind::Starved => {}
        }
    }

    fn close_unanswered(&mut self, id: ConnectionId) {
        self.metrics.farewells.add(Farewell::CloseTimeout.reason());
        self.remove(id);
    }

    /// An outbox exists since some time: has it moved?
    fn look_at_blocked(&mut self, id: ConnectionId, now: Moment) {
        let lasts = self.settings.limits.outbox_blocked_secs_max;
        let Some(connection) = self.slots.get_mut(id) else { return };
        let Some(outbox) = &connection.outbox else {
            connection.is_watched = false;
            return;
        };
        let earlier = Moment(now.0.saturating_sub(lasts.as_nanos() as u64));
        if outbox.is_blocked_since(earlier) {
            self.end(id, Farewell::WriteBlocked, now);
        } else {
            self.watch_outbox(id, now);
        }
    }

    /// The kernel had no memory for an outbox: perhaps it has by now.
    fn feed_starved(&mut self, id: ConnectionId, now: Moment) {
        let outbox = self.slots.get_mut(id).and_then(|connection| connection.outbox.as_mut());
        if outbox.is_some_and(|outbox| std::mem::take(&mut outbox.is_starved)) {
            self.writable(id, now);
        }
    }

    /// Has a starved outbox written again in a while.
    pub(super) fn ask_again(&mut self, id: ConnectionId, now: Moment) {
        let expired = Expired { kind: Kind::Starved, connection: id, stamp: 0 };
        self.deadlines.set(now, STARVED_PAUSE, expired);
    }

    /// Has the outbox looked at before long: it may have been blocked for too long by then.
    pub(super) fn watch_outbox(&mut self, id: ConnectionId, now: Moment) {
        let lasts = self.settings.limits.outbox_blocked_secs_max / LOOKS_AT_BLOCKED;
        let expired = Expired { kind: Kind::Blocked, connection: id, stamp: 0 };
        self.deadlines.set(now, lasts, expired);
    }
}
