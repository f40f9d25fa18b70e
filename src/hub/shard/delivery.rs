//! The way of an event to its readers.

use std::sync::Arc;

use super::Shard;
use super::connection::{Connection, Phase, Socket};
use crate::hub::message::Delivery;
use crate::hub::moment::Moment;
use crate::hub::outbox::Frame;
use crate::hub::registry::{Role, Subscriber};
use crate::hub::stream::{Channel, Stream};
use crate::metrics::Transport;
use crate::protocol::frame::Annotation;

/// An event on its way. The readers are those of the moment in which it began: who unsubscribes or
/// leaves meanwhile is skipped, who comes meanwhile has come after the event.
pub(super) struct Fanout {
    delivery: Delivery,
    readers: Vec<Subscriber>,
    /// `next <= readers.len()`: the first reader who has not had it.
    next: usize,
    frames: Frames,
    delivered: u64,
    /// It is not written yet: others wait behind it.
    is_gathered: bool,
}

/// The frames of one event, each built once for all readers who get the same bytes.
#[derive(Default)]
struct Frames {
    event_stream: Option<Frame>,
    /// By what the label says. One for most channels; a hashtag has as many as ways to write it.
    websocket: Vec<(Stream, Frame)>,
}

impl<S: Socket> Shard<S> {
    pub(super) fn begin_fanout(&mut self, delivery: Delivery) {
        let readers = self.registry.readers(&delivery.channel).to_vec();
        if readers.is_empty() {
            return;
        }
        self.fanout = Some(Fanout {
            is_gathered: self.gathering.takes(readers.len()),
            delivery,
            readers,
            next: 0,
            frames: Frames::default(),
            delivered: 0,
        });
    }

    /// Sends the event on its way to at most `budget` more readers, or as much of what was
    /// gathered, and takes that off the budget. True if there are more.
    pub fn fan_out(&mut self, budget: &mut usize, now: Moment) -> bool {
        let Some(mut fanout) = self.fanout.take() else {
            return self.gathering.is_due() && self.write_gathered(budget, now);
        };
        let end = fanout.readers.len().min(fanout.next + *budget);
        *budget -= end - fanout.next;
        for index in fanout.next..end {
            if let Some(subscriber) = fanout.readers.get(index).copied() {
                self.deliver(&mut fanout, subscriber, now);
            }
        }
        fanout.next = end;
        let is_over = end == fanout.readers.len();
        if !fanout.is_gathered || self.gathering.is_empty() {
            self.sent.push((fanout.delivery.received, std::mem::take(&mut fanout.delivered)));
        } else if is_over {
            self.gathering.add(fanout.delivery.received, fanout.delivered);
        }
        if is_over {
            self.metrics.deliveries += 1;
        } else {
            self.fanout = Some(fanout);
        }
        self.is_fanning_out()
    }

    /// Records how long it took until now to send what [`Shard::fan_out`] has just sent.
    pub fn record_latency(&mut self, now: Moment) {
        for (received, count) in self.sent.drain(..).filter(|(_, count)| *count > 0) {
            self.metrics.latency.record_many(now.nanos_since(received), count);
        }
    }

    fn deliver(&mut self, fanout: &mut Fanout, subscriber: Subscriber, now: Moment) {
        let id = subscriber.connection;
        let Some(connection) = self.slots.get(id) else { return };
        let delivery = &fanout.delivery;
        if !still_reads(connection, &delivery.channel, subscriber.role) {
            return;
        }
        let mut annotation = None;
        if let Some(verdict) = &delivery.verdict {
            let Some(session) = &connection.session else { return };
            let channel_admits = delivery.channel.admits_local_only();
            if !verdict.admits(session, subscriber.access, channel_admits) {
                self.metrics.withheld.add("verdict");
                return;
            }
            annotation = verdict.annotation(session.account);
        }
        let Some(frame) = fanout.frames.get(delivery, connection, subscriber, annotation) else {
            return;
        };
        let frame = connection.coded(frame);
        let transport =
            if subscriber.event_stream { Transport::EventStream } else { Transport::WebSocket };
        self.metrics.messages_sent.add(transport);
        fanout.delivered += 1;
        if fanout.is_gathered {
            self.gather(id, &frame, now);
        } else {
            self.push(id, &frame, now);
        }
    }
}

impl Frames {
    /// The frame for one reader, built if nobody had the same bytes before.
    fn get<S>(
        &mut self,
        delivery: &Delivery,
        connection: &Connection<S>,
        subscriber: Subscriber,
        annotation: Option<&Arc<Annotation>>,
    ) -> Option<Frame> {
        let annotation = annotation.map(Arc::as_ref);
        if subscriber.event_stream {
            if annotation.is_some() {
                return delivery.body.event_stream_chunks(annotation).map(Frame::new);
            }
            if self.event_stream.is_none() {
                self.event_stream = delivery.body.event_stream_chunks(None).map(Frame::new);
            }
            return self.event_stream.clone();
        }
        let stream = stream(&delivery.channel, connection, subscriber)?;
        if annotation.is_some() {
            return delivery.body.websocket_frame(&stream.label(), annotation).map(Frame::new);
        }
        if let Some((_, frame)) = self.websocket.iter().find(|(known, _)| *known == stream) {
            return Some(frame.clone());
        }
        let frame = Frame::new(delivery.body.websocket_frame(&stream.label(), None)?);
        self.websocket.push((stream, frame.clone()));
        Some(frame)
    }
}

/// The stream through which a reader gets the channel's events, as its label names it.
fn stream<S>(
    channel: &Channel,
    connection: &Connection<S>,
    subscriber: Subscriber,
) -> Option<Stream> {
    let stream = match channel {
        Channel::Home(_) => Stream::User,
        Channel::Notifications(_) if subscriber.role == Role::PartOfUser => Stream::User,
        Channel::Notifications(_) => Stream::UserNotification,
        Channel::Direct(_) => Stream::Direct,
        Channel::List(list) => Stream::List(*list),
        Channel::Public(feed) => {
            Stream::Public { feed: *feed, local_only: subscriber.access.local_only }
        }
        Channel::Hashtag { .. } => connection.subscriptions.on(channel)?.clone(),
        Channel::Token(_) | Channel::System(_) => return None,
    };
    Some(stream)
}

/// Is the subscription that the event was meant for still there?
fn still_reads<S>(connection: &Connection<S>, channel: &Channel, role: Role) -> bool {
    let subscriptions = &connection.subscriptions;
    if !matches!(connection.phase, Phase::WebSocket { .. } | Phase::EventStream { .. }) {
        return false;
    }
    match channel {
        Channel::Public(feed) => subscriptions.has_feed(*feed),
        Channel::Hashtag { .. } | Channel::List(_) => subscriptions.on(channel).is_some(),
        Channel::Home(_) => subscriptions.contains(&Stream::User, channel),
        Channel::Direct(_) => subscriptions.contains(&Stream::Direct, channel),
        Channel::Notifications(_) if role == Role::PartOfUser => {
            subscriptions.contains(&Stream::User, channel)
        }
        Channel::Notifications(_) => subscriptions.contains(&Stream::UserNotification, channel),
        Channel::Token(_) | Channel::System(_) => false,
    }
}
