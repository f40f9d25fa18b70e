//! The order of messages on one connection.
//!
//! ```text
//! start ─► LoggingIn ── AuthenticationOk ─► Settling ── ReadyForQuery ─► Open ─┐ statements out,
//!              │                               │                           ▲   │ replies come in
//!              └───────────────────────────────┴──── Failure ──────────────┼───┘ the same order
//!                                            (drop the connection)         │
//!                 ErrorResponse … ReadyForQuery: only that statement failed ┘
//! ```

use std::collections::VecDeque;

use bytes::BytesMut;
use postgres_protocol::message::backend::{Header, Message};
use postgres_protocol::message::frontend;

use super::login::{Authentication, Login};
use super::row::Row;
use super::server_error::ServerError;
use super::statement::{Statement, TooLarge};
use super::{Failure, Malformed};

/// A message is one byte of type and a length that counts itself, but not the type.
const TYPE_BYTES: usize = 1;

/// One connection's conversation with the server.
pub struct Conversation {
    state: State,
    /// The replies that are still to come; the front one is being read. Only in `Open`.
    replies: VecDeque<Reply>,
    /// Bytes of one reply, counted with what its rows cost in memory.
    reply_bytes_max: usize,
    /// What cancels a statement of this conversation.
    key: Option<BackendKey>,
}

/// Names a conversation to the server, from another connection. Whoever has it can cancel its
/// statements, so it is never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BackendKey {
    process_id: i32,
    secret: i32,
}

impl BackendKey {
    /// Appends the packet that cancels the statement under way: the only one on a connection of its
    /// own. The server does not answer it, it hangs up (protocol, "Canceling Requests in
    /// Progress").
    pub fn cancel(self, output: &mut BytesMut) {
        frontend::cancel_request(self.process_id, self.secret, output);
    }
}

enum State {
    LoggingIn(Authentication),
    Settling,
    Open,
}

/// What has come of one reply.
#[derive(Default)]
struct Reply {
    rows: Vec<Row>,
    /// `<= reply_bytes_max`.
    cost_bytes: usize,
    /// `CommandComplete` came.
    complete: bool,
    error: Option<ServerError>,
}

/// Something that the owner has to know.
#[derive(Debug)]
pub enum Happening {
    /// Logged in: statements may be sent.
    Open,
    /// The reply to the oldest statement that had none yet: its rows, or why the server refused it.
    Reply(Result<Vec<Row>, ServerError>),
}

impl Conversation {
    /// Begins: appends the start-up packet. One reply may take `reply_bytes_max` bytes.
    ///
    /// Errors: the login cannot be written.
    pub fn start(
        login: Login,
        reply_bytes_max: usize,
        output: &mut BytesMut,
    ) -> Result<Conversation, Failure> {
        let authentication = Authentication::start(login, output)?;
        Ok(Conversation {
            state: State::LoggingIn(authentication),
            replies: VecDeque::new(),
            reply_bytes_max,
            key: None,
        })
    }

    /// Logged in.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// What cancels a statement of this conversation, if the server offers that.
    pub fn key(&self) -> Option<BackendKey> {
        self.key
    }

    /// Appends a statement; only when open. Several may be on their way, each with its own `Sync`,
    /// so that a failing one does not touch the next.
    ///
    /// Errors: the statement is too large to be written, nothing is appended.
    pub fn ask(
        &mut self,
        statement: &Statement<'_>,
        output: &mut BytesMut,
    ) -> Result<(), TooLarge> {
        debug_assert!(self.is_open());
        statement.write(output)?;
        self.replies.push_back(Reply::default());
        Ok(())
    }

    /// Uses up the messages at the front of `input` until something happens; `None`: more bytes are
    /// needed. Call it until it says `None`. A message that has not come whole stays in `input`,
    /// and no memory is taken for it.
    ///
    /// Errors: the conversation is over, drop the connection.
    pub fn receive(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<Option<Happening>, Failure> {
        while let Some(message) = self.cut(input)? {
            if let Some(happening) = self.take(message, output)? {
                return Ok(Some(happening));
            }
        }
        Ok(None)
    }

    /// Cuts the first message off, if it is there whole.
    fn cut(&self, input: &mut BytesMut) -> Result<Option<Message>, Failure> {
        let Some(header) = Header::parse(input).map_err(|_| Malformed("an impossible length"))?
        else {
            return Ok(None);
        };
        // The crate would reserve memory for whatever the length says: look first.
        let len = usize::try_from(header.len()).map_err(|_| Malformed("an impossible length"))?;
        if len > self.reply_bytes_max {
            return Err(Failure::ReplyTooLong { bytes_max: self.reply_bytes_max });
        }
        if input.len() < TYPE_BYTES + len {
            return Ok(None);
        }
        Message::parse(input).map_err(|_| Malformed("a message that cannot be read").into())
    }

    fn take(
        &mut self,
        message: Message,
        output: &mut BytesMut,
    ) -> Result<Option<Happening>, Failure> {
        match message {
            // May come at any time (protocol, "Asynchronous Operations").
            Message::NoticeResponse(_)
            | Message::ParameterStatus(_)
            | Message::NotificationResponse(_) => return Ok(None),
            Message::ErrorResponse(body) => {
                let error = ServerError::read(&body)?;
                return self.fail(error).map(|()| None);
            }
            _ => {}
        }
        match &mut self.state {
            State::LoggingIn(authentication) => {
                if authentication.take(&message, output)? {
                    self.state = State::Settling;
                }
                Ok(None)
            }
            State::Settling => match message {
                Message::BackendKeyData(body) => {
                    let (process_id, secret) = (body.process_id(), body.secret_key());
                    self.key = Some(BackendKey { process_id, secret });
                    Ok(None)
                }
                Message::ReadyForQuery(_) => {
                    self.state = State::Open;
                    Ok(Some(Happening::Open))
                }
                _ => Err(Malformed("an unexpected message before the first query").into()),
            },
            State::Open => self.take_reply(message),
        }
    }

    /// An error belongs to the statement that is being answered; fatal ones and those outside a
    /// statement end the conversation.
    fn fail(&mut self, error: ServerError) -> Result<(), Failure> {
        match self.replies.front_mut() {
            Some(reply) if !error.fatal && reply.error.is_none() => {
                reply.error = Some(error);
                Ok(())
            }
            _ => Err(Failure::Server(error)),
        }
    }

    fn take_reply(&mut self, message: Message) -> Result<Option<Happening>, Failure> {
        let Some(reply) = self.replies.front_mut() else {
            return Err(Malformed("a reply that nobody asked for").into());
        };
        match message {
            Message::ParseComplete | Message::BindComplete => {}
            Message::DataRow(body) if !reply.complete => {
                let row = Row::new(body);
                reply.cost_bytes += row.cost_bytes();
                if reply.cost_bytes > self.reply_bytes_max {
                    return Err(Failure::ReplyTooLong { bytes_max: self.reply_bytes_max });
                }
                reply.rows.push(row);
            }
            Message::CommandComplete(_) => reply.complete = true,
            Message::ReadyForQuery(_) => {
                let reply = self.replies.pop_front().unwrap_or_default();
                return match reply {
                    Reply { error: Some(error), .. } => Ok(Some(Happening::Reply(Err(error)))),
                    Reply { complete: true, rows, .. } => Ok(Some(Happening::Reply(Ok(rows)))),
                    _ => Err(Malformed("a reply without an end").into()),
                };
            }
            _ => return Err(Malformed("an unexpected message in a reply").into()),
        }
        Ok(None)
    }
}
