//! A connection: some hundred bytes in a slot, whatever its state, with no buffer, no future and no
//! timer of its own.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{Limits, TrustedProxies};
use crate::hub::farewell::Farewell;
use crate::hub::moment::Moment;
use crate::hub::outbox::{Frame, Outbox, WRITE_PARTS_MAX};
use crate::hub::request::Purpose;
use crate::hub::session::Session;
use crate::hub::stream::{Channel, LocalOnly, PublicFeed, Stream};
use crate::metrics::Transport;
use crate::protocol::http::Exchange;
use crate::protocol::sse;
use crate::protocol::websocket::{Inbound, Partial};

/// A non-blocking socket as the hub sees it: real ones are in `io`, others in the simulator.
/// Dropping it closes it.
pub trait Socket {
    /// Sends what the kernel takes now.
    fn send(&mut self, bytes: &[u8]) -> Sent;
    /// The same for several parts in a row, of which at most [`WRITE_PARTS_MAX`] come.
    fn send_parts(&mut self, parts: &[&[u8]]) -> Sent {
        self.send(&parts.concat())
    }
    /// Says that nothing more will be sent.
    fn shut(&mut self);
    /// The address at the other end, if it has one.
    fn peer(&self) -> Option<IpAddr> {
        None
    }
    /// Hears a message of a WebSocket client before the streaming API does. The server's sockets
    /// never keep one. A conformance suite wants its messages back: the tests' sockets answer here,
    /// and everything else about the connection is the server's own.
    fn hear(&mut self, _message: Inbound<'_>) -> Heard {
        Heard::Pass
    }
}

/// What a [`Socket`] makes of a message that it heard first.
pub enum Heard {
    /// The streaming API hears it.
    Pass,
    /// Nobody hears it.
    Kept,
    /// The client is sent this at once.
    Answered(Frame),
    /// The client is sent this together with what else there is for it.
    AnsweredWithOthers(Frame),
}

/// What became of a [`Socket::send`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// So many bytes were taken, at least one.
    Bytes(usize),
    /// None now; [`writable`](super::Shard::writable) will be called.
    Blocked,
    /// None now, because the kernel has no memory: nothing will say when it has again.
    Starved,
    /// The socket is broken.
    Broken,
}

/// A connection from accept to close. Everything about it that is not idle is in a box.
pub struct Connection<S> {
    /// Its socket.
    pub(super) socket: S,
    /// What it does.
    pub(super) phase: Phase,
    /// Who it is, once known.
    pub(super) session: Option<Session>,
    /// What it reads.
    pub(super) subscriptions: Subscriptions,
    /// What its socket could not take yet.
    pub(super) outbox: Option<Box<Outbox>>,
    /// Changes with every phase that has a deadline, so that an old deadline means nothing.
    pub(super) stamp: u16,
    /// Something came since the last ping.
    pub(super) heard: bool,
    /// A deadline is out at which its outbox is looked at.
    pub(super) is_watched: bool,
}

/// What a connection does.
///
/// ```text
///  accept ─► Head ─► Asking ─► WebSocket | EventStream ─► Closing ─► Lingering ─► gone
///             ▲ │      │                                                ▲
///             └─┴──────┴── answered ── not kept ────────────────────────┘
/// ```
pub enum Phase {
    /// Waits for a request head; the box holds an incomplete one.
    Head(Option<Box<Vec<u8>>>),
    /// Waits for the answer to a question.
    Asking(Box<Asking>),
    /// An open WebSocket.
    WebSocket {
        /// An incomplete frame or message.
        partial: Option<Box<Partial>>,
        /// A subscription that waits for an answer, with what the client said since.
        waiting: Option<Box<Waiting>>,
    },
    /// An open event stream.
    EventStream {
        /// Its bytes go in HTTP's chunks, which all frames for event streams are made of.
        chunked: bool,
    },
    /// Our close frame is sent, or waits in the outbox; the client's is awaited.
    Closing(Option<Box<Partial>>),
    /// All is said and our side is shut, or will be when the outbox is empty; what comes is thrown
    /// away, so that the kernel does not reset the connection before the client has read the last
    /// bytes.
    Lingering,
}

/// A request whose answer depends on somebody else.
pub struct Asking {
    /// What is awaited.
    pub(super) awaited: Awaited,
    /// Bytes that came behind the head.
    pub(super) early: Vec<u8>,
}

/// What a request waits for.
pub enum Awaited {
    /// Who the bearer of the token is, and then this.
    Session(Purpose),
    /// Whether the event stream may be opened.
    Stream(Exchange, Stream),
    /// The metrics of all cores.
    Metrics(Exchange),
    /// Whether the server is ready.
    Readiness(Exchange),
}

/// A message of a WebSocket client that needs an answer first, and the messages behind it.
pub struct Waiting {
    /// What is to be done with the answer.
    pub(super) action: Action,
    /// What the client said since, in order.
    pub(super) behind: VecDeque<Box<str>>,
}

/// What a WebSocket client waits for.
pub enum Action {
    /// A subscription.
    Subscribe(Stream),
    /// To hear that the list it unsubscribes from is not its own.
    UnsubscribeForeign,
}

impl<S: Socket> Connection<S> {
    /// A connection that was just accepted.
    pub(super) fn new(socket: S) -> Self {
        Connection {
            socket,
            phase: Phase::Head(None),
            session: None,
            subscriptions: Subscriptions::default(),
            outbox: None,
            stamp: 0,
            heard: true,
            is_watched: false,
        }
    }

    /// Sends a frame, or what is left of it later. `Ok(true)`: an outbox had to be made.
    pub(super) fn push(
        &mut self,
        frame: &Frame,
        limits: &Limits,
        now: Moment,
    ) -> Result<bool, Farewell> {
        if let Some(outbox) = &mut self.outbox {
            outbox.push(frame.clone(), limits)?;
            return Ok(false);
        }
        let mut sent = 0;
        while let Some(rest) = frame.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.socket.send(rest) {
                Sent::Bytes(count) => sent += count,
                Sent::Broken => return Err(Farewell::SocketError),
                refused @ (Sent::Blocked | Sent::Starved) => {
                    let mut outbox = Outbox::new(frame.clone(), sent, now);
                    outbox.is_starved = refused == Sent::Starved;
                    self.outbox = Some(Box::new(outbox));
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Keeps a frame for a write together with those that follow it. There must be no outbox.
    pub(super) fn hold(&mut self, frame: &Frame, now: Moment) {
        let mut outbox = Outbox::new(frame.clone(), 0, now);
        outbox.is_held = true;
        self.outbox = Some(Box::new(outbox));
    }

    /// Sends from the outbox until it is empty or the kernel refuses. `Ok(true)`: it has become
    /// starved.
    pub(super) fn flush(&mut self, now: Moment) -> Result<bool, Farewell> {
        while let Some(outbox) = &mut self.outbox {
            let mut parts = [&[][..]; WRITE_PARTS_MAX];
            let count = outbox.next(&mut parts);
            match self.socket.send_parts(parts.get(..count).unwrap_or_default()) {
                Sent::Bytes(count) => {
                    if outbox.took(count, now) {
                        self.outbox = None;
                    }
                }
                Sent::Blocked => break,
                Sent::Starved => return Ok(!std::mem::replace(&mut outbox.is_starved, true)),
                Sent::Broken => return Err(Farewell::SocketError),
            }
        }
        Ok(false)
    }

    /// How the client is served, if it is.
    pub(super) fn transport(&self) -> Option<Transport> {
        match self.phase {
            Phase::WebSocket { .. } => Some(Transport::WebSocket),
            Phase::EventStream { .. } => Some(Transport::EventStream),
            _ => None,
        }
    }

    /// The frame as the client can read it.
    pub(super) fn coded(&self, frame: Frame) -> Frame {
        match self.phase {
            Phase::EventStream { chunked: false } => Frame::new(sse::without_chunks(&frame)),
            _ => frame,
        }
    }

    /// Bytes in the outbox.
    pub(super) fn outbox_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.bytes())
    }
}

/// The streams that a connection reads. Streams without a name of their own are bits: a connection
/// on `user` needs no memory for it.
#[derive(Default)]
pub struct Subscriptions {
    bits: u16,
    /// How often the client has asked for a change since the last ping.
    changes: u16,
    /// Hashtags and lists, in the order in which they were opened.
    #[allow(clippy::box_collection)]
    named: Option<Box<Vec<Named>>>,
}

/// A subscription to a hashtag or a list.
pub struct Named {
    pub(super) stream: Stream,
    pub(super) channel: Channel,
}

const USER: u16 = 1;
const USER_NOTIFICATION: u16 = 1 << 1;
const DIRECT: u16 = 1 << 2;
const PUBLIC: u16 = 1 << 3;

impl Subscriptions {
    /// Is this stream, or another one with the same channels, open?
    pub(super) fn contains(&self, stream: &Stream, channel: &Channel) -> bool {
        match bit(stream) {
            Some(bit) => self.bits & bit != 0,
            None => self.named().iter().any(|named| named.channel == *channel),
        }
    }

    /// Marks a stream as open.
    pub(super) fn insert(&mut self, stream: Stream, channel: Channel) {
        match bit(&stream) {
            Some(bit) => self.bits |= bit,
            None => self.named.get_or_insert_default().push(Named { stream, channel }),
        }
    }

    /// Marks a stream as closed and returns it as it was opened, if it was.
    pub(super) fn remove(&mut self, stream: &Stream, channel: &Channel) -> Option<Stream> {
        if let Some(bit) = bit(stream) {
            let open = self.bits & bit != 0;
            self.bits &= !bit;
            return open.then(|| stream.clone());
        }
        let named = self.named.as_mut()?;
        let at = named.iter().position(|named| named.channel == *channel)?;
        let gone = named.remove(at).stream;
        if named.is_empty() {
            self.named = None;
        }
        Some(gone)
    }

    /// The client asks for a change. Returns how often it has since the last ping.
    pub(super) fn count_change(&mut self) -> usize {
        self.changes = self.changes.saturating_add(1);
        self.changes.into()
    }

    /// A new period begins in which changes are counted.
    pub(super) fn forget_changes(&mut self) {
        self.changes = 0;
    }

    /// How many streams are open.
    pub(super) fn len(&self) -> usize {
        self.bits.count_ones() as usize + self.named().len()
    }

    /// Takes every stream out.
    pub(super) fn take(&mut self) -> Vec<Stream> {
        let bits = std::mem::take(&mut self.bits);
        let fixed = [(USER, Stream::User), (USER_NOTIFICATION, Stream::UserNotification)];
        let public = PublicFeed::EACH.map(|feed| {
            (PUBLIC << feed.index(), Stream::Public { feed, local_only: LocalOnly::Withheld })
        });
        let named = self.named.take().map_or_else(Vec::new, |named| *named);
        fixed
            .into_iter()
            .chain([(DIRECT, Stream::Direct)])
            .chain(public)
            .filter(|(bit, _)| bits & bit != 0)
            .map(|(_, stream)| stream)
            .chain(named.into_iter().map(|named| named.stream))
            .collect()
    }

    /// The subscription to a hashtag or list by its channel.
    pub(super) fn on(&self, channel: &Channel) -> Option<&Stream> {
        self.named().iter().find(|named| named.channel == *channel).map(|named| &named.stream)
    }

    /// Is the public timeline still open?
    pub(super) fn has_feed(&self, feed: PublicFeed) -> bool {
        self.bits & PUBLIC << feed.index() != 0
    }

    fn named(&self) -> &[Named] {
        self.named.as_deref().map_or(&[], Vec::as_slice)
    }
}

fn bit(stream: &Stream) -> Option<u16> {
    match stream {
        Stream::User => Some(USER),
        Stream::UserNotification => Some(USER_NOTIFICATION),
        Stream::Direct => Some(DIRECT),
        Stream::Public { feed, .. } => Some(PUBLIC << feed.index()),
        Stream::Hashtag { .. } | Stream::List(_) => None,
    }
}

/// What all connections of a shard are told at once, made once.
pub struct Settings {
    /// Every bound.
    pub limits: Limits,
    /// Whose word about the client's address is believed.
    pub trusted_proxies: TrustedProxies,
    /// The demonstration's page.
    pub front_page: Option<Arc<[u8]>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        struct Descriptor(#[allow(dead_code)] std::num::NonZeroI32);
        impl Socket for Descriptor {
            fn send(&mut self, _: &[u8]) -> Sent {
                Sent::Blocked
            }
            fn shut(&mut self) {}
        }
        let bytes = size_of::<Connection<Descriptor>>();
        assert!(bytes <= 104, "{bytes}");
    }
}
