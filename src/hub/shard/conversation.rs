//! What WebSocket clients say, and the subscriptions of every connection.

use std::collections::VecDeque;

use super::Shard;
use super::connection::{Action, Awaited, Heard, Phase, Socket, Waiting};
use super::deadlines::Kind;
use crate::hub::access::FeedAccess;
use crate::hub::client_message::{ClientMessage, Wish};
use crate::hub::farewell::Farewell;
use crate::hub::message::{ConnectionId, Refusal, ToControl};
use crate::hub::moment::Moment;
use crate::hub::outbox::Frame;
use crate::hub::question::FeedSettings;
use crate::hub::registry::{Change, Role, Subscriber};
use crate::hub::stream::{Channel, Stream, StreamError};
use crate::metrics::Transport;
use crate::protocol::ids::{AccountId, ListId};
use crate::protocol::websocket::{self, Inbound, Partial, ProtocolError, Receiver};

const UNSUBSCRIBE_FAILED: &str = r#"{"error":"Error unsubscribing from channel"}"#;

impl<S: Socket> Shard<S> {
    /// Bytes of a WebSocket. Once our close frame is on its way, only the client's own matters.
    pub(super) fn receive_frames(&mut self, id: ConnectionId, bytes: &mut [u8], now: Moment) {
        let mut held = match self.partial(id) {
            Some(partial) => partial.take(),
            None => return,
        };
        let message_bytes_max = self.settings.limits.message_bytes_max;
        let mut receiver = Receiver::new(&mut held, bytes, message_bytes_max);
        loop {
            let received = receiver.receive();
            let Some(connection) = self.slots.get(id) else { return };
            match (received, &connection.phase) {
                (Ok(None), _) => break,
                (Ok(Some(inbound)), Phase::WebSocket { .. }) => self.inbound(id, inbound, now),
                (Ok(Some(Inbound::Close(_))) | Err(_), Phase::Closing(_)) => {
                    return self.farewell_heard(id, now);
                }
                (Ok(Some(_)), Phase::Closing(_)) => {}
                (Err(error), Phase::WebSocket { .. }) => {
                    let farewell = match error {
                        ProtocolError::Frame => Farewell::ProtocolError,
                        ProtocolError::Utf8 => Farewell::InvalidText,
                        ProtocolError::TooLong => Farewell::MessageTooBig,
                    };
                    return self.end(id, farewell, now);
                }
                _ => return,
            }
        }
        if let Some(partial) = self.partial(id) {
            *partial = held;
        }
    }

    /// What the client has begun to say.
    fn partial(&mut self, id: ConnectionId) -> Option<&mut Option<Box<Partial>>> {
        match &mut self.slots.get_mut(id)?.phase {
            Phase::WebSocket { partial, .. } | Phase::Closing(partial) => Some(partial),
            _ => None,
        }
    }

    fn inbound(&mut self, id: ConnectionId, inbound: Inbound<'_>, now: Moment) {
        match inbound {
            Inbound::Text(_) | Inbound::BinaryBegins | Inbound::Binary(_) => {
                self.message(id, inbound, now);
            }
            Inbound::Ping(payload) => {
                self.scratch.clear();
                websocket::pong(payload, &mut self.scratch);
                self.push_scratch(id, now);
            }
            Inbound::Pong => {}
            Inbound::Close(code) => self.client_closes(id, code, now),
        }
    }

    /// What is no control frame.
    fn message(&mut self, id: ConnectionId, message: Inbound<'_>, now: Moment) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        match (connection.socket.hear(message), message) {
            (Heard::Pass, Inbound::Text(text)) => self.say(id, text, now),
            (Heard::Pass, _) => self.end(id, Farewell::Binary, now),
            (Heard::Kept, _) => {}
            (Heard::Answered(frame), _) => self.push(id, &frame, now),
            (Heard::AnsweredWithOthers(frame), _) => self.gather(id, &frame, now),
        }
    }

    /// A text message: handled at once, or behind the one that waits for an answer.
    fn say(&mut self, id: ConnectionId, text: &str, now: Moment) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        let Phase::WebSocket { waiting, .. } = &mut connection.phase else { return };
        if let Some(waiting) = waiting {
            let limits = &self.settings.limits;
            let held: usize = waiting.behind.iter().map(|text| text.len()).sum();
            if waiting.behind.len() >= limits.subscriptions_max
                || held + text.len() > limits.message_bytes_max
            {
                self.end(id, Farewell::TooManySubscriptions, now);
            } else {
                waiting.behind.push_back(text.into());
            }
            return;
        }
        let limits = &self.settings.limits;
        let message = ClientMessage::parse(text, limits.tag_bytes_max);
        if !matches!(message, ClientMessage::Ignored)
            && connection.subscriptions.count_change() > limits.subscription_changes_max
        {
            return self.end(id, Farewell::SubscribingTooFast, now);
        }
        match message {
            ClientMessage::Ignored => {}
            ClientMessage::Subscribe(wish) => self.subscribe_wish(id, wish, now),
            ClientMessage::Unsubscribe(wish) => self.unsubscribe_wish(id, wish, now),
        }
    }

    /// Opens a stream for a WebSocket, or asks first, or says why not.
    pub(super) fn subscribe_wish(&mut self, id: ConnectionId, wish: Wish, now: Moment) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        let Some(session) = &connection.session else { return };
        let stream = match wish.granted(session.scopes) {
            Err(error) => return self.complain(id, error, now),
            Ok(stream) => stream,
        };
        if connection.subscriptions.contains(&stream, &stream.channels(session).0) {
            return;
        }
        if connection.subscriptions.len() >= self.settings.limits.subscriptions_max {
            return self.end(id, Farewell::TooManySubscriptions, now);
        }
        let list = match &stream {
            Stream::List(list) => Some(*list),
            stream if FeedAccess::needs_settings(stream, session) => None,
            _ => {
                let access = FeedAccess::decide(&stream, None);
                return self.subscribe(id, stream, access);
            }
        };
        self.wait(id, Action::Subscribe(stream), list, now);
    }

    fn unsubscribe_wish(&mut self, id: ConnectionId, wish: Wish, now: Moment) {
        let Some(connection) = self.slots.get(id) else { return };
        let Some(session) = &connection.session else { return };
        let Ok(stream) = wish.0 else {
            return self.tell(id, UNSUBSCRIBE_FAILED, now);
        };
        if connection.subscriptions.contains(&stream, &stream.channels(session).0) {
            self.unsubscribe(id, &stream);
        } else if let Stream::List(list) = stream {
            self.wait(id, Action::UnsubscribeForeign, Some(list), now);
        }
    }

    /// Asks who owns a list or, without one, which feeds are closed.
    fn wait(&mut self, id: ConnectionId, action: Action, list: Option<ListId>, now: Moment) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        let Phase::WebSocket { waiting, .. } = &mut connection.phase else { return };
        *waiting = Some(Box::new(Waiting { action, behind: VecDeque::new() }));
        self.set_deadline(id, Kind::Question, now);
        let question = self.question_of(id);
        self.outgoing.push(match list {
            Some(list) => ToControl::WhoOwns { question, list },
            None => ToControl::ReadFeeds { question },
        });
    }

    /// The owner of a list is known.
    pub(super) fn list_known(
        &mut self,
        id: ConnectionId,
        answer: Result<Option<AccountId>, Refusal>,
        now: Moment,
    ) {
        if self.is_asking_for_stream(id) {
            return self.event_stream_list_known(id, answer, now);
        }
        let Some((action, behind)) = self.stop_waiting(id) else { return };
        let own = |owner: Option<AccountId>| {
            let session = self.slots.get(id).and_then(|connection| connection.session.as_ref());
            session.is_some_and(|session| owner == Some(session.account))
        };
        match (action, answer.map(own)) {
            (Action::Subscribe(stream), Ok(true)) => self.subscribe(id, stream, FeedAccess::FULL),
            (Action::Subscribe(_), Ok(false)) => self.complain(id, StreamError::ForeignList, now),
            (Action::Subscribe(_), Err(_)) => self.complain(id, StreamError::Unexpected, now),
            (Action::UnsubscribeForeign, Ok(true)) => {}
            (Action::UnsubscribeForeign, _) => self.tell(id, UNSUBSCRIBE_FAILED, now),
        }
        self.go_on(id, behind, now);
    }

    /// The feed settings are known.
    pub(super) fn feeds_known(
        &mut self,
        id: ConnectionId,
        answer: Result<FeedSettings, Refusal>,
        now: Moment,
    ) {
        if self.is_asking_for_stream(id) {
            return self.event_stream_feeds_known(id, answer, now);
        }
        let Some((action, behind)) = self.stop_waiting(id) else { return };
        match (action, answer) {
            (Action::Subscribe(stream), Ok(settings)) => {
                let access = FeedAccess::decide(&stream, Some(settings));
                self.subscribe(id, stream, access);
            }
            _ => self.complain(id, StreamError::Unexpected, now),
        }
        self.go_on(id, behind, now);
    }

    /// No answer came in time.
    pub(super) fn wait_expired(&mut self, id: ConnectionId, now: Moment) {
        let Some((action, behind)) = self.stop_waiting(id) else { return };
        match action {
            Action::Subscribe(_) => self.complain(id, StreamError::Unexpected, now),
            Action::UnsubscribeForeign => self.tell(id, UNSUBSCRIBE_FAILED, now),
        }
        self.go_on(id, behind, now);
    }

    fn is_asking_for_stream(&self, id: ConnectionId) -> bool {
        self.slots.get(id).is_some_and(|connection| {
            matches!(&connection.phase, Phase::Asking(asking)
                if matches!(asking.awaited, Awaited::Stream(..)))
        })
    }

    fn stop_waiting(&mut self, id: ConnectionId) -> Option<(Action, VecDeque<Box<str>>)> {
        let connection = self.slots.get_mut(id)?;
        let Phase::WebSocket { waiting, .. } = &mut connection.phase else { return None };
        let Waiting { action, behind } = *waiting.take()?;
        self.clear_deadline(id);
        Some((action, behind))
    }

    /// Handles what the client said while it waited, up to the next message that has to wait.
    fn go_on(&mut self, id: ConnectionId, mut behind: VecDeque<Box<str>>, now: Moment) {
        while let Some(text) = behind.pop_front() {
            self.say(id, &text, now);
            let Some(connection) = self.slots.get_mut(id) else { return };
            let Phase::WebSocket { waiting, .. } = &mut connection.phase else { return };
            if let Some(waiting) = waiting {
                waiting.behind = behind;
                return;
            }
        }
    }

    /// Enters an allowed stream into the registry.
    pub(super) fn subscribe(&mut self, id: ConnectionId, stream: Stream, access: FeedAccess) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        let Some(session) = &connection.session else { return };
        let Some(transport) = connection.transport() else { return };
        let (channel, second) = stream.channels(session);
        let account = session.account;
        if connection.subscriptions.contains(&stream, &channel) {
            return;
        }
        self.metrics.channels.add(transport, stream.name());
        connection.subscriptions.insert(stream, channel.clone());
        let event_stream = transport == Transport::EventStream;
        self.register(&channel, Subscriber::new(id, Role::Own, event_stream, access));
        if let Some(second) = second {
            self.register(&second, Subscriber::new(id, Role::PartOfUser, event_stream, access));
        }
        if channel.is_filtered() {
            let count = self.readers.entry(account).or_insert(0);
            *count += 1;
            if *count == 1 {
                self.outgoing.push(ToControl::ReaderArrived(account));
            }
        }
    }

    /// Takes a stream out of the registry, if it is open.
    pub(super) fn unsubscribe(&mut self, id: ConnectionId, stream: &Stream) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        let Some(session) = &connection.session else { return };
        let (channel, _) = stream.channels(session);
        if let Some(opened) = connection.subscriptions.remove(stream, &channel) {
            self.deregister(id, &opened);
        }
    }

    /// Takes a stream that the connection no longer lists out of the registry.
    pub(super) fn deregister(&mut self, id: ConnectionId, stream: &Stream) {
        let Some(connection) = self.slots.get(id) else { return };
        let Some(session) = &connection.session else { return };
        let (channel, second) = stream.channels(session);
        let account = session.account;
        if let Some(transport) = connection.transport() {
            self.metrics.channels.subtract(transport, stream.name());
        }
        self.forget(&channel, id, Role::Own);
        if let Some(second) = second {
            self.forget(&second, id, Role::PartOfUser);
        }
        if channel.is_filtered()
            && let Some(count) = self.readers.get_mut(&account)
        {
            *count -= 1;
            if *count == 0 {
                self.readers.remove(&account);
                self.outgoing.push(ToControl::ReaderLeft(account));
            }
        }
    }

    pub(super) fn register(&mut self, channel: &Channel, subscriber: Subscriber) {
        if let Change::Wants(wants) = self.registry.add(channel, subscriber) {
            self.outgoing.push(ToControl::Want { channel: channel.clone(), wants });
        }
    }

    pub(super) fn forget(&mut self, channel: &Channel, id: ConnectionId, role: Role) {
        if let Change::Wants(wants) = self.registry.remove(channel, id, role) {
            self.outgoing.push(ToControl::Want { channel: channel.clone(), wants });
        }
    }

    fn complain(&mut self, id: ConnectionId, error: StreamError, now: Moment) {
        let (message, status) = (error.message(), error.status());
        self.tell(id, &format!(r#"{{"error":"{message}","status":{status}}}"#), now);
    }

    fn tell(&mut self, id: ConnectionId, text: &str, now: Moment) {
        let mut frame = Vec::with_capacity(text.len() + 4);
        websocket::text_frame(text, &mut frame);
        self.push(id, &Frame::new(frame), now);
    }
}
