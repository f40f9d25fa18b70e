//! The mesh: bounded lock-free channels between the control core and each shard, each end with a
//! doorbell. The only code that knows two threads exist.
//!
//! # Invariants worth naming
//!
//! * The control core never waits for a shard. A delivery that does not fit is dropped and counted,
//!   and the readers of its channel are told to come back ([`ToShard::Lagged`]): nothing is lost
//!   silently.
//! * Answers and orders are never dropped: they wait in an overflow queue, which is bounded by the
//!   questions that shards may have in flight. They keep their order among themselves, which the
//!   closing of the revocation race needs.
//! * A shard never waits for the control core either: what does not fit waits on the shard's side,
//!   in order.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::bell::Bell;
use crate::config::Limits;
use crate::hub::message::{ToControl, ToShard};
use crate::hub::stream::Channel;

/// Makes a mesh for `shards` shards.
pub fn mesh(
    shards: usize,
    limits: &Limits,
) -> io::Result<(Vec<ShardLink>, Arc<Bell>, Vec<ControlLink>)> {
    let control_bell = Arc::new(Bell::new()?);
    let mut to_shards = Vec::with_capacity(shards);
    let mut to_control = Vec::with_capacity(shards);
    for _ in 0..shards {
        let shard_bell = Arc::new(Bell::new()?);
        let (down_sender, down_receiver) = bounded(limits.mesh_deliveries_max);
        let (up_sender, up_receiver) = bounded(limits.mesh_deliveries_max);
        to_shards.push(ShardLink {
            sender: down_sender,
            receiver: up_receiver,
            bell: Arc::clone(&shard_bell),
            overflow: VecDeque::new(),
            lost_on: BTreeSet::new(),
            lost: 0,
            unrung: false,
        });
        to_control.push(ControlLink {
            sender: up_sender,
            receiver: down_receiver,
            own_bell: shard_bell,
            control_bell: Arc::clone(&control_bell),
            overflow: VecDeque::new(),
            unrung: false,
        });
    }
    Ok((to_shards, control_bell, to_control))
}

/// The control core's end of the channels to one shard.
pub struct ShardLink {
    sender: Sender<ToShard>,
    receiver: Receiver<ToControl>,
    bell: Arc<Bell>,
    overflow: VecDeque<ToShard>,
    /// Channels on which deliveries were lost since the shard was last told, in an order that does
    /// not depend on chance: the simulator lives a life again exactly.
    lost_on: BTreeSet<Channel>,
    lost: u64,
    unrung: bool,
}

impl ShardLink {
    /// Hands a message over, or drops it if it is a delivery that does not fit. Nothing is
    /// delivered behind a loss that the shard has not been told of: its readers would take it for
    /// the next.
    pub fn send(&mut self, message: ToShard) {
        let is_behind_loss = match &message {
            ToShard::Deliver(delivery) => self.lost_on.contains(&delivery.channel),
            _ => false,
        };
        let message = if self.overflow.is_empty() && !is_behind_loss {
            match self.sender.try_send(message) {
                Ok(()) => {
                    self.unrung = true;
                    return;
                }
                // A shard that has ended needs nothing any more.
                Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(message)) => message,
            }
        } else {
            message
        };
        match message {
            ToShard::Deliver(delivery) => {
                self.lost += 1;
                self.lost_on.insert(delivery.channel);
            }
            other => self.overflow.push_back(other),
        }
    }

    /// Hands over what has waited, tells of losses, and rings once for everything since the last
    /// time.
    pub fn flush(&mut self) {
        self.unrung |= hand_over(&mut self.overflow, &self.sender);
        if self.overflow.is_empty() && !self.lost_on.is_empty() {
            let channels: Arc<[Channel]> = self.lost_on.iter().cloned().collect();
            match self.sender.try_send(ToShard::Lagged(channels)) {
                Ok(()) => {
                    self.unrung = true;
                    self.lost_on.clear();
                }
                Err(TrySendError::Disconnected(_)) => self.lost_on.clear(),
                Err(TrySendError::Full(_)) => {}
            }
        }
        if std::mem::take(&mut self.unrung) {
            self.bell.ring();
        }
    }

    /// The next message from the shard.
    pub fn receive(&mut self) -> Option<ToControl> {
        self.receiver.try_recv().ok()
    }

    /// The shard has sent something that was not received yet.
    pub fn has_mail(&self) -> bool {
        !self.receiver.is_empty()
    }

    /// Something waits here because the shard's end is full.
    pub fn is_congested(&self) -> bool {
        !self.overflow.is_empty() || !self.lost_on.is_empty()
    }

    /// Deliveries that did not fit, since the start.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// A shard's end of its channels to the control core.
pub struct ControlLink {
    sender: Sender<ToControl>,
    receiver: Receiver<ToShard>,
    own_bell: Arc<Bell>,
    control_bell: Arc<Bell>,
    overflow: VecDeque<ToControl>,
    unrung: bool,
}

impl ControlLink {
    /// Hands a message over; what does not fit waits in order.
    pub fn send(&mut self, message: ToControl) {
        self.overflow.push_back(message);
    }

    /// Hands over what fits and rings once for it. True when everything is out.
    pub fn flush(&mut self) -> bool {
        self.unrung |= hand_over(&mut self.overflow, &self.sender);
        if std::mem::take(&mut self.unrung) {
            self.control_bell.ring();
        }
        self.overflow.is_empty()
    }

    /// The next message from the control core.
    pub fn receive(&mut self) -> Option<ToShard> {
        self.receiver.try_recv().ok()
    }

    /// The control core has sent something that was not received yet.
    pub fn has_mail(&self) -> bool {
        !self.receiver.is_empty()
    }

    /// The bell that wakes this shard.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.own_bell
    }
}

/// Hands over what fits, in order. True if anything did. An end that is gone needs nothing any
/// more.
fn hand_over<T>(overflow: &mut VecDeque<T>, sender: &Sender<T>) -> bool {
    let mut handed_over = false;
    while let Some(message) = overflow.pop_front() {
        match sender.try_send(message) {
            Ok(()) => handed_over = true,
            Err(TrySendError::Disconnected(_)) => overflow.clear(),
            Err(TrySendError::Full(message)) => {
                overflow.push_front(message);
                break;
            }
        }
    }
    handed_over
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::message::{ConnectionId, QuestionId, Refusal};

    fn answer(slot: u32) -> ToShard {
        let connection = ConnectionId { slot, generation: 0 };
        let question = QuestionId { connection, stamp: 0 };
        ToShard::Session { question, answer: Err(Refusal::InvalidToken) }
    }

    #[test]
    fn answers_wait_in_order_while_the_shard_is_full() {
        let limits = Limits { mesh_deliveries_max: 2, ..Limits::default() };
        let (mut shards, _bell, mut controls) = mesh(1, &limits).unwrap();
        for slot in 0..5 {
            shards[0].send(answer(slot));
        }
        let mut slots = Vec::new();
        for _ in 0..5 {
            shards[0].flush();
            while let Some(ToShard::Session { question, .. }) = controls[0].receive() {
                slots.push(question.connection.slot);
            }
        }
        assert_eq!(slots, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_shard_that_lost_deliveries_is_told_on_which_channels_before_it_gets_more_there() {
        use crate::hub::message::Delivery;
        use crate::hub::moment::Moment;
        use crate::protocol::event::Event;
        use crate::protocol::frame::{Body, Wants};
        use crate::protocol::ids::AccountId;

        let limits = Limits { mesh_deliveries_max: 2, ..Limits::default() };
        let (mut shards, _bell, mut controls) = mesh(1, &limits).unwrap();
        let event = Event::parse(br#"{"event":"delete","payload":"1"}"#, 128).unwrap();
        let body =
            Arc::new(Body::new(&event, Wants { websocket: true, event_stream: true }, false));
        let delivery = |account| {
            ToShard::Deliver(Delivery {
                channel: Channel::Home(AccountId(account)),
                body: Arc::clone(&body),
                verdict: None,
                received: Moment(0),
            })
        };
        let is_for = |message, account| match message {
            Some(ToShard::Deliver(one)) => one.channel == Channel::Home(AccountId(account)),
            _ => false,
        };
        (0..4).for_each(|account| shards[0].send(delivery(account)));
        assert_eq!(shards[0].lost(), 2);
        assert!(is_for(controls[0].receive(), 0) && is_for(controls[0].receive(), 1));
        // There is room again, but their readers do not know yet what they have missed.
        shards[0].send(delivery(3));
        shards[0].send(delivery(4));
        shards[0].flush();
        assert!(is_for(controls[0].receive(), 4));
        let Some(ToShard::Lagged(channels)) = controls[0].receive() else { panic!("not told") };
        assert_eq!(*channels, [2, 3].map(|id| Channel::Home(AccountId(id))));
        shards[0].send(delivery(3));
        assert!(is_for(controls[0].receive(), 3));
    }
}
