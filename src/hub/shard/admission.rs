//! Who is let in, and who has to make room.
//!
//! * A socket that has not said what it wants costs a slot and at most a head. When there are too
//!   many, the one that has stood longest goes: a client is never kept out by silent sockets.
//! * A client is counted when it asks who it is: all of them, those of its address, and, when the
//!   answer is there, those of its account. One too many is refused in words, with the time after
//!   which to come back.

use std::net::{IpAddr, Ipv4Addr};

use super::Shard;
use super::connection::{Settings, Socket};
use super::deadlines::Kind;
use crate::hub::farewell::Farewell;
use crate::hub::message::ConnectionId;
use crate::hub::moment::Moment;
use crate::hub::request::Refused;
use crate::hub::session::Session;
use crate::hub::stream::Channel;
use crate::protocol::http::{Head, TRY_LATER};

/// Seconds after which an overloaded server asks clients to come back, plus up to as many again at
/// random.
const RETRY_AFTER_SECS: u32 = 5;

/// Who makes room first: who has been told everything, who has nothing to say, who does not answer,
/// who has not said anything yet.
const LEAVING_ORDER: [Kind; 4] = [Kind::Lingering, Kind::KeepAlive, Kind::Closing, Kind::Head];

/// Where a request came from.
#[derive(Clone, Copy)]
pub(super) struct Client {
    /// The client's own address behind trusted proxies.
    pub(super) address: IpAddr,
    /// It is the address of a client, and not of a proxy that names nobody or of this machine.
    is_counted: bool,
}

impl Client {
    pub(super) fn of<S: Socket>(settings: &Settings, socket: &S, head: &Head<'_>) -> Client {
        // Whoever may enter the directory of a Unix socket is on this machine.
        let peer = socket.peer().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let forwarded_for = head.joined("x-forwarded-for");
        let forwarded_for = forwarded_for.as_deref().and_then(|value| str::from_utf8(value).ok());
        let proxies = &settings.trusted_proxies;
        let address = proxies.client_address(peer, forwarded_for);
        Client { address, is_counted: !address.is_loopback() && !proxies.contains(address) }
    }
}

impl<S: Socket> Shard<S> {
    /// Sends somebody away if one more socket would be too many without a client.
    pub(super) fn make_room(&mut self, now: Moment) {
        let metrics = &self.metrics;
        let limits = &self.settings.limits;
        let unopened = metrics.sockets.saturating_sub(self.clients());
        let is_crowded = unopened >= limits.unopened_max as u64;
        if !is_crowded && metrics.sockets < limits.sockets_max() as u64 {
            return;
        }
        for kind in LEAVING_ORDER {
            while let Some(first) = self.deadlines.pop_first(kind) {
                let id = first.connection;
                let connection = self.slots.get(id);
                if connection.is_none_or(|connection| connection.stamp != first.stamp) {
                    continue;
                }
                return match kind {
                    Kind::Head => self.turn_away(id, Farewell::CrowdedOut, now),
                    _ => self.end(id, Farewell::CrowdedOut, now),
                };
            }
        }
    }

    /// Tells somebody who has not said anything yet to come back later.
    pub fn turn_away(&mut self, id: ConnectionId, farewell: Farewell, now: Moment) {
        self.push(id, &TRY_LATER.to_vec().into(), now);
        self.end(id, farewell, now);
    }

    /// May this connection ask who its bearer is? If so, its address is counted.
    pub(super) fn let_ask(&mut self, id: ConnectionId, client: Client) -> Result<(), Refused> {
        self.forget_origin(id);
        if self.has_too_many() || self.drain.is_some() {
            return Err(Refused::Overloaded(self.retry_after_secs()));
        }
        let limits = &self.settings.limits;
        if self.clients() >= limits.connections_max as u64 {
            return Err(Refused::Full(self.retry_after_secs()));
        }
        if client.is_counted {
            let most = limits.connections_per_address_max;
            let Some(origin) = self.origins.admit(client.address, most) else {
                return Err(Refused::AddressFull(self.retry_after_secs()));
            };
            self.slots.replace_origin(id, Some(origin));
        }
        Ok(())
    }

    /// No more questions may wait for an answer.
    pub(super) fn has_too_many(&self) -> bool {
        self.metrics.questions_waiting >= self.settings.limits.questions_waiting_max as u64
    }

    /// May one more connection of this account open?
    pub(super) fn let_in(&mut self, session: Session) -> Result<Session, Refused> {
        let open = self.registry.readers(&Channel::System(session.account)).len();
        if open >= self.settings.limits.connections_per_account_max {
            return Err(Refused::AccountFull(self.retry_after_secs()));
        }
        Ok(session)
    }

    /// The connection's address counts no longer.
    pub(super) fn forget_origin(&mut self, id: ConnectionId) {
        if let Some(origin) = self.slots.replace_origin(id, None) {
            self.origins.leave(origin);
        }
    }

    /// Those who are sent away together shall not come back together.
    pub(super) fn retry_after_secs(&mut self) -> u32 {
        RETRY_AFTER_SECS + self.random.u32(0..=RETRY_AFTER_SECS)
    }

    /// Connections that are clients, or wait to hear whether they are.
    pub(super) fn clients(&self) -> u64 {
        let clients = self.metrics.clients;
        clients.websocket + clients.eventsource + self.metrics.questions_waiting
    }
}
