//! What happens by itself as time goes by: pings, comments, deadlines, draining.

use std::time::Duration;

use super::Shard;
use super::connection::{Phase, Socket};
use super::deadlines::{Expired, Kind};
use crate::hub::drain::Drain;
use crate::hub::farewell::Farewell;
use crate::hub::message::{ConnectionId, ToControl};
use crate::hub::moment::Moment;

/// How often a draining shard sends clients away.
const DRAIN_STEP: Duration = Duration::from_millis(50);

impl<S: Socket> Shard<S> {
    /// Lets time pass. Call it at [`Shard::next_tick`] at the latest.
    pub fn tick(&mut self, now: Moment) {
        if now >= self.next_pulse {
            self.next_pulse = now + self.settings.limits.pulse_interval_secs;
            self.outgoing.push(ToControl::Pulse);
        }
        while let Some(slots) = self.pings.due(now, self.slots.capacity()) {
            for slot in slots {
                self.keep_websocket_alive(slot, now);
            }
        }
        while let Some(slots) = self.thumps.due(now, self.slots.capacity()) {
            for slot in slots {
                self.keep_event_stream_alive(slot, now);
            }
        }
        while let Some(expired) = self.deadlines.pop(now) {
            self.expire(expired, now);
        }
        self.drain_some(now);
    }

    /// When time has to pass again.
    pub fn next_tick(&self, now: Moment) -> Option<Moment> {
        if self.drain.is_some() {
            return Some(now + DRAIN_STEP);
        }
        if self.slots.len() == 0 {
            return Some(self.next_pulse);
        }
        let regular = self.pings.next().min(self.thumps.next()).min(self.next_pulse);
        Some(self.deadlines.next().map_or(regular, |deadline| deadline.min(regular)))
    }

    /// Everybody is gone who was to be sent away.
    pub fn is_drained(&self) -> bool {
        self.drain.is_some() && self.slots.len() == 0
    }

    pub(super) fn begin_drain(&mut self, window: Duration, now: Moment) {
        if self.drain.is_some() {
            return;
        }
        self.leaving = (0..self.slots.capacity())
            .filter_map(|slot| self.slots.occupant(slot))
            .filter(|id| self.slots.get(*id).is_some_and(|one| one.transport().is_some()))
            .collect();
        self.drain = Some(Drain::new(self.leaving.len(), window, now));
    }

    fn drain_some(&mut self, now: Moment) {
        let Some(drain) = &mut self.drain else { return };
        for _ in 0..drain.due(now) {
            if let Some(id) = self.leaving.pop_front() {
                self.end(id, Farewell::Stopping, now);
            }
        }
        let is_over = self.drain.as_ref().is_some_and(|drain| drain.is_over(now));
        if is_over {
            self.leaving.clear();
            for slot in 0..self.slots.capacity() {
                if let Some(id) = self.slots.occupant(slot) {
                    self.end(id, Farewell::Stopping, now);
                }
            }
        }
        if self.slots.len() == 0 && !std::mem::replace(&mut self.is_drain_told, true) {
            self.outgoing.push(ToControl::Drained);
        }
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
        let ping = self.ping.clone();
        self.push(id, &ping, now);
    }

    fn keep_event_stream_alive(&mut self, slot: u32, now: Moment) {
        let Some(id) = self.slots.occupant(slot) else { return };
        let Some(connection) = self.slots.get_mut(id) else { return };
        if matches!(connection.phase, Phase::EventStream) {
            let thump = self.thump.clone();
            self.push(id, &thump, now);
        }
    }

    fn expire(&mut self, expired: Expired, now: Moment) {
        let id = expired.connection;
        let Some(connection) = self.slots.get(id) else { return };
        if expired.kind == Kind::Blocked {
            return self.look_at_blocked(id, now);
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
            Kind::Blocked => {}
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

    /// Has the outbox looked at when it may have been blocked for too long.
    pub(super) fn watch_outbox(&mut self, id: ConnectionId, now: Moment) {
        let lasts = self.settings.limits.outbox_blocked_secs_max;
        let expired = Expired { kind: Kind::Blocked, connection: id, stamp: 0 };
        self.deadlines.set(now, lasts, expired);
    }
}
