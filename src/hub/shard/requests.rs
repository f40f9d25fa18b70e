//! Heads, answers, and how a session opens.

use super::Shard;
use super::admission::Client;
use super::connection::{Asking, Awaited, Phase, Socket};
use super::deadlines::Kind;
use crate::hub::access::FeedAccess;
use crate::hub::client_message::Wish;
use crate::hub::farewell::Farewell;
use crate::hub::message::{ConnectionId, Refusal, ToControl};
use crate::hub::moment::Moment;
use crate::hub::question::FeedSettings;
use crate::hub::readiness::{CONTROL_SILENT, Report};
use crate::hub::registry::{Role, Subscriber};
use crate::hub::request::{self, Asker, Outcome, Purpose, Refused};
use crate::hub::session::Session;
use crate::hub::stream::{Channel, Stream, StreamError};
use crate::log::{self, Level};
use crate::protocol::http::{Exchange, Head, RequestId, parse_head};
use crate::protocol::ids::AccountId;

/// The name under which metrics count the channels that the server reads for itself.
pub(super) const SYSTEM: &str = "system";

impl<S: Socket> Shard<S> {
    /// Bytes of one or more request heads.
    pub(super) fn receive_head(&mut self, id: ConnectionId, bytes: &[u8], now: Moment) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        let Phase::Head(held) = &mut connection.phase else { return };
        match held.take() {
            None => self.read_heads(id, bytes, now),
            Some(mut held) => {
                held.extend_from_slice(bytes);
                self.read_heads(id, &held, now);
            }
        }
    }

    fn read_heads(&mut self, id: ConnectionId, mut bytes: &[u8], now: Moment) {
        loop {
            let Some(connection) = self.slots.get_mut(id) else { return };
            match &mut connection.phase {
                Phase::Head(_) if bytes.is_empty() => return,
                Phase::Head(held) => match parse_head(bytes, &self.settings.limits) {
                    Ok(None) => {
                        *held = Some(Box::new(bytes.to_vec()));
                        return;
                    }
                    Ok(Some((head, length))) => {
                        let request_id = RequestId::new(self.random.u128(..).to_ne_bytes());
                        let page = self.settings.front_page.as_deref();
                        let client = Client::of(&self.settings, &connection.socket, &head);
                        log_request(&head, request_id, client);
                        self.scratch.clear();
                        let outcome = request::decide(&head, request_id, page, &mut self.scratch);
                        bytes = bytes.get(length..).unwrap_or(&[]);
                        self.act(id, outcome, client, now);
                    }
                    Err(error) => {
                        self.scratch.clear();
                        error.answer(&mut self.scratch);
                        self.metrics.handshakes_refused.add("bad_request");
                        self.push_scratch(id, now);
                        self.end(id, Farewell::BadRequest, now);
                        return;
                    }
                },
                // What comes behind a head that needs an answer waits with it.
                Phase::Asking(_) => {
                    self.receive(id, &mut bytes.to_vec(), now);
                    return;
                }
                _ => return,
            }
        }
    }

    fn act(&mut self, id: ConnectionId, outcome: Outcome, client: Client, now: Moment) {
        match outcome {
            Outcome::Answered { keep_alive, refused } => {
                if let Some(label) = refused {
                    self.metrics.handshakes_refused.add(label);
                }
                self.push_scratch(id, now);
                self.answered(id, keep_alive, now);
            }
            Outcome::Scrape(exchange) | Outcome::AskReadiness(exchange) if self.has_too_many() => {
                let refused = Refused::Overloaded(self.retry_after_secs());
                self.refuse(id, Asker::Http(exchange), refused, now);
            }
            Outcome::Scrape(exchange) => {
                self.ask(id, Awaited::Metrics(exchange), now);
                let question = self.question_of(id);
                self.outgoing.push(ToControl::Scrape { question });
            }
            Outcome::AskReadiness(exchange) => {
                self.ask(id, Awaited::Readiness(exchange), now);
                let question = self.question_of(id);
                self.outgoing.push(ToControl::AskReadiness { question });
            }
            Outcome::Authenticate { token, purpose } => {
                if let Err(refused) = self.let_ask(id, client) {
                    return self.refuse(id, purpose.asker(), refused, now);
                }
                self.ask(id, Awaited::Session(purpose), now);
                let question = self.question_of(id);
                self.outgoing.push(ToControl::WhoIs { question, token });
            }
        }
    }

    fn ask(&mut self, id: ConnectionId, awaited: Awaited, now: Moment) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        let early = match std::mem::replace(&mut connection.phase, Phase::Head(None)) {
            Phase::Asking(asking) => asking.early,
            _ => {
                self.metrics.questions_waiting += 1;
                Vec::new()
            }
        };
        connection.phase = Phase::Asking(Box::new(Asking { awaited, early }));
        self.set_deadline(id, Kind::Question, now);
    }

    /// Ends the asking of a connection: what it waited for, and the bytes that came meanwhile.
    pub(super) fn stop_asking(&mut self, id: ConnectionId) -> Option<Asking> {
        let connection = self.slots.get_mut(id)?;
        if !matches!(connection.phase, Phase::Asking(_)) {
            return None;
        }
        let phase = std::mem::replace(&mut connection.phase, Phase::Head(None));
        self.metrics.questions_waiting -= 1;
        self.clear_deadline(id);
        match phase {
            Phase::Asking(asking) => Some(*asking),
            _ => None,
        }
    }

    /// The control core knows who the bearer is, or does not.
    pub(super) fn identified(
        &mut self,
        id: ConnectionId,
        answer: Result<Session, Refusal>,
        now: Moment,
    ) {
        let Some(Asking { awaited: Awaited::Session(purpose), early }) = self.stop_asking(id)
        else {
            return;
        };
        let admitted = match answer {
            Ok(session) => self.let_in(session),
            Err(refusal) => Err(self.refused(refusal)),
        };
        let session = match admitted {
            Ok(session) => session,
            Err(refused) => {
                self.refuse(id, purpose.asker(), refused, now);
                return self.receive_early(id, early, now);
            }
        };
        match purpose {
            Purpose::Upgrade { accepted, first, .. } => {
                self.open_websocket(id, session, &accepted, first, now);
            }
            Purpose::EventStream { exchange, wish } => {
                self.prepare_event_stream(id, session, exchange, wish, now);
            }
            Purpose::Answer { exchange, bytes } => {
                self.scratch.clear();
                self.scratch.extend_from_slice(&bytes);
                self.push_scratch(id, now);
                self.answered(id, exchange.keep_alive, now);
            }
        }
        self.receive_early(id, early, now);
    }

    /// What came behind a head while its answer was awaited: frames, or the next heads.
    fn receive_early(&mut self, id: ConnectionId, mut early: Vec<u8>, now: Moment) {
        if !early.is_empty() {
            self.receive(id, &mut early, now);
        }
    }

    fn open_websocket(
        &mut self,
        id: ConnectionId,
        session: Session,
        accepted: &[u8],
        first: Option<Wish>,
        now: Moment,
    ) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        connection.phase = Phase::WebSocket { partial: None, waiting: None };
        self.open_session(id, session);
        self.scratch.clear();
        self.scratch.extend_from_slice(accepted);
        self.push_welcome(id, now);
        if let Some(wish) = first {
            self.subscribe_wish(id, wish, now);
        }
    }

    /// Registers a connection whose phase has just become open.
    fn open_session(&mut self, id: ConnectionId, session: Session) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        let Some(transport) = connection.transport() else { return };
        self.metrics.clients.add(transport);
        let (token, account) = (session.token, session.account);
        connection.session = Some(session);
        let subscriber = Subscriber::new(id, Role::System, false, FeedAccess::FULL);
        let told = self.outgoing.len();
        for channel in [Channel::Token(token), Channel::System(account)] {
            self.metrics.channels.add(transport, SYSTEM);
            self.register(&channel, subscriber);
        }
        if self.outgoing.len() > told {
            self.outgoing.push(ToControl::Opened { token, account });
        }
    }

    fn prepare_event_stream(
        &mut self,
        id: ConnectionId,
        session: Session,
        exchange: Exchange,
        wish: Wish,
        now: Moment,
    ) {
        let stream = match wish.granted(session.scopes) {
            Ok(stream) => stream,
            Err(error) => {
                self.refuse(id, Asker::Http(exchange), Refused::Stream(error), now);
                return;
            }
        };
        let Some(connection) = self.slots.get_mut(id) else { return };
        let list = match &stream {
            Stream::List(list) => Some(*list),
            stream if FeedAccess::needs_settings(stream, &session) => None,
            _ => {
                let access = FeedAccess::decide(&stream, None);
                return self.open_event_stream(id, session, exchange, stream, access, now);
            }
        };
        connection.session = Some(session);
        self.ask(id, Awaited::Stream(exchange, stream), now);
        let question = self.question_of(id);
        self.outgoing.push(match list {
            Some(list) => ToControl::WhoOwns { question, list },
            None => ToControl::ReadFeeds { question },
        });
    }

    /// The owner of the list that an event stream waits for is known.
    pub(super) fn event_stream_list_known(
        &mut self,
        id: ConnectionId,
        answer: Result<Option<AccountId>, Refusal>,
        now: Moment,
    ) {
        self.settle_event_stream(id, now, |session, _| match answer {
            Ok(Some(owner)) if owner == session.account => Ok(FeedAccess::FULL),
            Ok(_) => Err(Ok(StreamError::ForeignList)),
            Err(refusal) => Err(Err(refusal)),
        });
    }

    /// The feed settings that an event stream waits for are known.
    pub(super) fn event_stream_feeds_known(
        &mut self,
        id: ConnectionId,
        answer: Result<FeedSettings, Refusal>,
        now: Moment,
    ) {
        self.settle_event_stream(id, now, |_, stream| {
            answer.map(|settings| FeedAccess::decide(stream, Some(settings))).map_err(Err)
        });
    }

    fn settle_event_stream(
        &mut self,
        id: ConnectionId,
        now: Moment,
        settle: impl FnOnce(&Session, &Stream) -> Result<FeedAccess, Result<StreamError, Refusal>>,
    ) {
        let Some(Asking { awaited: Awaited::Stream(exchange, stream), early }) =
            self.stop_asking(id)
        else {
            return;
        };
        let session = self.slots.get_mut(id).and_then(|connection| connection.session.take());
        let Some(session) = session else { return };
        let settled = settle(&session, &stream).map_err(|error| match error {
            Ok(error) => Refused::Stream(error),
            Err(refusal) => self.refused(refusal),
        });
        // Others of the account may have opened meanwhile.
        match settled.and_then(|access| Ok((self.let_in(session)?, access))) {
            Ok((session, access)) => {
                self.open_event_stream(id, session, exchange, stream, access, now);
            }
            Err(refused) => {
                self.refuse(id, Asker::Http(exchange), refused, now);
                self.receive_early(id, early, now);
            }
        }
    }

    fn open_event_stream(
        &mut self,
        id: ConnectionId,
        session: Session,
        exchange: Exchange,
        stream: Stream,
        access: FeedAccess,
        now: Moment,
    ) {
        let Some(connection) = self.slots.get_mut(id) else { return };
        connection.phase = Phase::EventStream { chunked: exchange.chunked };
        self.open_session(id, session);
        self.scratch.clear();
        exchange.event_stream(&mut self.scratch);
        self.push_welcome(id, now);
        self.subscribe(id, stream, access);
    }

    /// The metrics of all cores have come.
    pub(super) fn scraped(&mut self, id: ConnectionId, text: &str, now: Moment) {
        let Some(Asking { awaited: Awaited::Metrics(exchange), early }) = self.stop_asking(id)
        else {
            return;
        };
        self.scratch.clear();
        exchange.metrics(text, &mut self.scratch);
        self.push_scratch(id, now);
        self.answered(id, exchange.keep_alive, now);
        self.receive_early(id, early, now);
    }

    /// The control core has said how things stand.
    pub(super) fn reported(&mut self, id: ConnectionId, report: Report, now: Moment) {
        self.answer_readiness(id, report.is_ready(), &report.json(), now);
    }

    fn answer_readiness(&mut self, id: ConnectionId, is_ready: bool, body: &str, now: Moment) {
        let Some(Asking { awaited: Awaited::Readiness(exchange), early }) = self.stop_asking(id)
        else {
            return;
        };
        self.scratch.clear();
        exchange.readiness(is_ready, body, &mut self.scratch);
        self.push_scratch(id, now);
        self.answered(id, exchange.keep_alive, now);
        self.receive_early(id, early, now);
    }

    /// No answer came in time.
    pub(super) fn question_expired(&mut self, id: ConnectionId, now: Moment) {
        let phase = self.slots.get(id).map(|connection| &connection.phase);
        if let Some(Phase::Asking(asking)) = phase
            && matches!(asking.awaited, Awaited::Readiness(_))
        {
            return self.answer_readiness(id, false, CONTROL_SILENT, now);
        }
        let Some(asking) = self.stop_asking(id) else { return };
        let refused = Refused::Overloaded(self.retry_after_secs());
        let asker = match asking.awaited {
            Awaited::Session(purpose) => purpose.asker(),
            Awaited::Stream(exchange, _)
            | Awaited::Metrics(exchange)
            | Awaited::Readiness(exchange) => Asker::Http(exchange),
        };
        self.refuse(id, asker, refused, now);
        self.receive_early(id, asking.early, now);
    }

    fn refuse(&mut self, id: ConnectionId, asker: Asker, refused: Refused, now: Moment) {
        self.metrics.handshakes_refused.add(refused.label());
        self.scratch.clear();
        let keep_alive = request::refuse(asker, refused, &mut self.scratch);
        self.push_scratch(id, now);
        self.answered(id, keep_alive, now);
    }

    pub(super) fn refused(&mut self, refusal: Refusal) -> Refused {
        match refusal {
            Refusal::InvalidToken => Refused::InvalidToken,
            Refusal::Failure => Refused::Failure,
            Refusal::Unavailable => Refused::Unavailable(self.retry_after_secs()),
        }
    }

    /// An answer is out: the next head, or the end. Who asks on without reading what is there gets
    /// no more of it than that: a socket without a client is not worth an outbox.
    fn answered(&mut self, id: ConnectionId, keep_alive: bool, now: Moment) {
        let has_read = self.slots.get(id).is_some_and(|connection| connection.outbox.is_none());
        if keep_alive && has_read && self.drain.is_none() {
            self.set_deadline(id, Kind::KeepAlive, now);
        } else {
            self.end(id, Farewell::Answered, now);
        }
    }
}

/// One line per request at level `debug`, without tokens, with the client's own address behind
/// trusted proxies.
fn log_request(head: &Head<'_>, id: RequestId, client: Client) {
    if !log::enabled(Level::Debug) {
        return;
    }
    let target = log::redact(&head.target());
    let fields = [
        ("method", head.method.into()),
        ("url", (&target).into()),
        ("client", log::Value::Shown(&client.address)),
        ("requestId", log::Value::Shown(&id)),
    ];
    log::debug("Request", &fields);
}
