//! Every way out.

use super::Shard;
use super::connection::{Phase, Socket};
use super::deadlines::Kind;
use super::requests::SYSTEM;
use crate::hub::farewell::{Close, Farewell};
use crate::hub::message::ConnectionId;
use crate::hub::moment::Moment;
use crate::hub::registry::{Role, Subscriber};
use crate::hub::stream::Channel;
use crate::log;
use crate::protocol::http::REQUEST_TIMEOUT;
use crate::protocol::ids::{AccountId, TokenId};
use crate::protocol::{sse, websocket};

impl<S: Socket> Shard<S> {
    /// Ends a connection. The one way out of an open phase: says farewell, counts, and leaves the
    /// registry.
    pub(super) fn end(&mut self, id: ConnectionId, farewell: Farewell, now: Moment) {
        if farewell.discards_outbox() {
            // What the kernel was not even offered is no sign of a slow client, and the answer that
            // opens a stream must come before any farewell.
            self.write_held(id, now);
        }
        let Some(connection) = self.slots.get_mut(id) else { return };
        let is_websocket = matches!(connection.phase, Phase::WebSocket { .. });
        let is_event_stream = matches!(connection.phase, Phase::EventStream { .. });
        // Its stream ends with the connection.
        let is_old = matches!(connection.phase, Phase::EventStream { chunked: false });
        if !is_websocket && !is_event_stream {
            return self.end_unopened(id, farewell, now);
        }
        self.count_farewell(id, farewell);
        self.leave_registry(id);
        if farewell.discards_outbox() && !self.discard_outbox(id) {
            return self.remove(id);
        }
        let last_words = match farewell.close() {
            Close::Silent => return self.remove(id),
            _ if is_old => Vec::new(),
            _ if is_event_stream => sse::LAST_CHUNK.to_vec(),
            Close::WithoutCode => websocket::CLOSE_WITHOUT_CODE.to_vec(),
            Close::Code(code, reason) => {
                let mut frame = Vec::new();
                websocket::close_frame(code, reason, &mut frame);
                frame
            }
        };
        if is_event_stream || farewell.shuts_at_once() {
            self.linger(id, now);
        } else {
            let Some(connection) = self.slots.get_mut(id) else { return };
            connection.phase = Phase::Closing(None);
            self.set_deadline(id, Kind::Closing, now);
        }
        if !last_words.is_empty() {
            self.push(id, &last_words.into(), now);
        }
        self.shut_if_flushed(id);
    }

    /// Ends a connection that is not open (any more).
    fn end_unopened(&mut self, id: ConnectionId, farewell: Farewell, now: Moment) {
        self.stop_asking(id);
        let Some(connection) = self.slots.get_mut(id) else { return };
        let was_closing = matches!(connection.phase, Phase::Closing(_) | Phase::Lingering);
        if !was_closing {
            self.count_farewell(id, farewell);
        }
        let has_last_words =
            matches!(farewell, Farewell::Answered | Farewell::BadRequest | Farewell::HeadTimeout);
        if was_closing || !has_last_words {
            return self.remove(id);
        }
        self.linger(id, now);
        if farewell == Farewell::HeadTimeout {
            self.push(id, &REQUEST_TIMEOUT.to_vec().into(), now);
        }
        self.shut_if_flushed(id);
    }

    /// The client has sent its close frame first: answer in kind, then close.
    pub(super) fn client_closes(&mut self, id: ConnectionId, code: Option<u16>, now: Moment) {
        self.count_farewell(id, Farewell::ClientLeft);
        self.leave_registry(id);
        let mut frame = Vec::new();
        match code {
            Some(code) => websocket::close_frame(code, "", &mut frame),
            None => frame.extend_from_slice(&websocket::CLOSE_WITHOUT_CODE),
        }
        self.linger(id, now);
        self.push(id, &frame.into(), now);
        self.shut_if_flushed(id);
    }

    /// The client has answered our close frame, or says nonsense instead.
    pub(super) fn farewell_heard(&mut self, id: ConnectionId, now: Moment) {
        self.linger(id, now);
        self.shut_if_flushed(id);
    }

    /// Nothing more is to be said but what is in the outbox.
    fn linger(&mut self, id: ConnectionId, now: Moment) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        connection.phase = Phase::Lingering;
        self.set_deadline(id, Kind::Lingering, now);
    }

    /// Shuts our side when all is said and nothing waits in the outbox.
    pub(super) fn shut_if_flushed(&mut self, id: ConnectionId) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        if matches!(connection.phase, Phase::Lingering) && connection.outbox.is_none() {
            connection.socket.shut();
        }
    }

    /// Throws the outbox away. False if that leaves half a frame on the wire, after which nothing
    /// can be said.
    fn discard_outbox(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.slots.get_mut(id) else { return false };
        let Some(outbox) = connection.outbox.take() else { return true };
        self.metrics.outbox_bytes -= outbox.bytes() as u64;
        self.metrics.outbox_connections -= 1;
        !outbox.is_amid_frame()
    }

    /// Takes every subscription of a connection out of the registry.
    fn leave_registry(&mut self, id: ConnectionId) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        for stream in connection.subscriptions.take() {
            self.deregister(id, &stream);
        }
        let Some(connection) = self.slots.get_mut(id) else { return };
        let Some(transport) = connection.transport() else { return };
        let Some(session) = connection.session.take() else { return };
        self.metrics.clients.subtract(transport);
        for channel in [Channel::Token(session.token), Channel::System(session.account)] {
            self.metrics.channels.subtract(transport, SYSTEM);
            self.forget(&channel, id, Role::System);
        }
    }

    /// Closes the socket and frees the slot.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        self.discard_outbox(id);
        self.forget_origin(id);
        if self.slots.remove(id).is_some() {
            self.metrics.sockets -= 1;
        }
    }

    fn count_farewell(&mut self, id: ConnectionId, farewell: Farewell) {
        self.metrics.farewells.add(farewell.reason());
        if !log::enabled(farewell.level()) {
            return;
        }
        let session = self.slots.get(id).and_then(|connection| connection.session.as_ref());
        let account = session.map_or(0, |session| session.account.0);
        log::write(
            farewell.level(),
            "Connection ends",
            &[("reason", farewell.reason().into()), ("account", account.into())],
        );
    }

    /// Every connection of a token.
    pub(super) fn kill_token(&mut self, token: TokenId, now: Moment) {
        self.end_all(&Channel::Token(token), Farewell::TokenRevoked, now);
    }

    /// Every connection of an account.
    pub(super) fn kill_account(&mut self, account: AccountId, now: Moment) {
        self.end_all(&Channel::System(account), Farewell::AccountEnded, now);
    }

    /// The readers of these channels have lost events.
    pub(super) fn lagged(&mut self, channels: &[Channel], now: Moment) {
        for channel in channels {
            self.end_all(channel, Farewell::Lagged, now);
        }
    }

    fn end_all(&mut self, channel: &Channel, farewell: Farewell, now: Moment) {
        let subscribers: Vec<Subscriber> = self.registry.readers(channel).to_vec();
        for subscriber in subscribers {
            // Who reads a channel through two streams is sent away once.
            let connection = self.slots.get(subscriber.connection);
            if connection.is_some_and(|connection| connection.transport().is_some()) {
                self.end(subscriber.connection, farewell, now);
            }
        }
    }
}
