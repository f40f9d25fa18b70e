//! From a message to deliveries: parsed once however many channels carry the same bytes, in order
//! per channel.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use hashbrown::HashMap;

use super::Control;
use crate::hub::message::{Delivery, ToShard};
use crate::hub::moment::Moment;
use crate::hub::stream::Channel;
use crate::hub::verdict::Verdict;
use crate::protocol::event::{Dropped, Event, Kind, SystemEvent, system_event};
use crate::protocol::frame::{Body, Wants};

/// A parsed message with the bodies made of it so far.
pub(super) struct Parsed {
    pub(super) event: Event,
    /// By what distinguishes them.
    bodies: RefCell<Vec<(Wants, bool, Arc<Body>)>>,
}

/// An event that waits for its verdict, or behind one that does.
struct Pending {
    parsed: Rc<Parsed>,
    received: Moment,
    state: State,
}

enum State {
    /// Nothing to be judged: readers of the stream get it.
    Free,
    /// The case is being judged.
    Judging(u64),
    /// Judged, or why it could not be.
    Judged(Result<Arc<Verdict>, &'static str>),
}

/// Events on their way through the control core.
#[derive(Default)]
pub(super) struct Events {
    /// Channels on which an event waits for its verdict; nothing overtakes it.
    queues: HashMap<Channel, VecDeque<Pending>>,
    /// The last message, its parse and its case: a public status comes on up to four channels, back
    /// to back.
    last: Option<(Bytes, Rc<Parsed>, Option<u64>)>,
}

impl Events {
    /// Events that wait for a verdict or behind one.
    pub(super) fn waiting(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }
}

impl Parsed {
    fn body(&self, wants: Wants, annotate: bool) -> Arc<Body> {
        let mut bodies = self.bodies.borrow_mut();
        let known = bodies
            .iter()
            .find(|(known, annotated, _)| *annotated == annotate && known.union(wants) == *known);
        if let Some((_, _, body)) = known {
            return Arc::clone(body);
        }
        let body = Arc::new(Body::new(&self.event, wants, annotate));
        bodies.push((wants, annotate, Arc::clone(&body)));
        body
    }
}

impl Control {
    /// A message from Redis, on the channel of this name (without namespace).
    pub fn redis_message(&mut self, name: &[u8], payload: &Bytes) {
        self.metrics.redis_messages_received += 1;
        let Some(channel) = Channel::parse(name) else {
            return self.metrics.messages_ignored.add("unknown_channel");
        };
        // A message for a channel that was just left: Redis had sent it already. A `kill` is never
        // too early.
        let is_heard = match channel.is_system() {
            true => !self.interest.shards(&channel).is_empty(),
            false => !self.interest.audience(&channel).is_empty(),
        };
        if !is_heard {
            return self.metrics.messages_ignored.add("nobody");
        }
        if channel.is_system() {
            return self.order(&channel, payload);
        }
        let (parsed, case) = match self.parse(payload) {
            Ok(parsed) => parsed,
            Err(dropped) => {
                let reason = match dropped {
                    Dropped::NotJson => "not_json",
                    Dropped::NoEvent => "no_event",
                    Dropped::NoPayload => "no_payload",
                };
                return self.metrics.messages_ignored.add(reason);
            }
        };
        let received = self.now;
        if channel.is_filtered() && parsed.event.kind() != Kind::Other {
            return self.judge(channel, parsed, case, received);
        }
        self.make_room(&channel);
        match self.events.queues.get_mut(&channel) {
            Some(queue) => queue.push_back(Pending { parsed, received, state: State::Free }),
            None => self.deliver(&channel, &parsed, None, received),
        }
    }

    fn order(&mut self, channel: &Channel, payload: &Bytes) {
        match (system_event(payload, self.limits.json_depth_max), channel) {
            (Some(SystemEvent::Kill), channel) => self.kill(channel),
            (Some(SystemEvent::FiltersChanged), Channel::System(account)) => {
                self.judging.filters_changed(*account);
            }
            _ => self.metrics.messages_ignored.add("unknown_order"),
        }
    }

    /// Parses a message, unless it is the last one again. With it comes the case in which it is
    /// being judged.
    fn parse(&mut self, payload: &Bytes) -> Result<(Rc<Parsed>, Option<u64>), Dropped> {
        if let Some((last, parsed, case)) = &self.events.last
            && last == payload
        {
            return Ok((Rc::clone(parsed), *case));
        }
        let event = Event::parse(payload, self.limits.json_depth_max)?;
        let parsed = Rc::new(Parsed { event, bodies: RefCell::default() });
        self.events.last = Some((payload.clone(), Rc::clone(&parsed), None));
        Ok((parsed, None))
    }

    /// Puts a status of a filtered channel behind those that are being judged.
    fn judge(&mut self, channel: Channel, parsed: Rc<Parsed>, case: Option<u64>, received: Moment) {
        self.make_room(&channel);
        let now = self.now;
        let case = match case.filter(|case| self.judging.is_fresh(*case, now)) {
            Some(case) => case,
            None => match self.open_case(&parsed) {
                Ok(case) => case,
                Err(reason) => return self.metrics.withheld.add(reason),
            },
        };
        if let Some((_, last, last_case)) = &mut self.events.last
            && Rc::ptr_eq(last, &parsed)
        {
            *last_case = Some(case);
        }
        self.judging.follow(case, &channel);
        let pending = Pending { parsed, received, state: State::Judging(case) };
        self.events.queues.entry(channel).or_default().push_back(pending);
    }

    /// A case has been judged (`None`: it could not be): whatever waited for it may go on.
    pub(super) fn release(
        &mut self,
        case: u64,
        channels: Vec<Channel>,
        verdict: Option<&Arc<Verdict>>,
    ) {
        for channel in channels {
            let Some(queue) = self.events.queues.get_mut(&channel) else { continue };
            for pending in queue {
                if matches!(pending.state, State::Judging(judged) if judged == case) {
                    pending.state = State::Judged(verdict.cloned().ok_or("database"));
                }
            }
            self.let_go(channel);
        }
    }

    /// Delivers from the front of a channel's queue what waits for nothing any more.
    fn let_go(&mut self, channel: Channel) {
        let Some(mut queue) = self.events.queues.remove(&channel) else { return };
        while let Some(pending) = queue.pop_front() {
            match &pending.state {
                State::Judging(_) => {
                    queue.push_front(pending);
                    break;
                }
                State::Judged(Err(reason)) => self.metrics.withheld.add(reason),
                State::Judged(Ok(verdict)) => {
                    let verdict = Arc::clone(verdict);
                    self.deliver(&channel, &pending.parsed, Some(verdict), pending.received);
                }
                State::Free => self.deliver(&channel, &pending.parsed, None, pending.received),
            }
        }
        if !queue.is_empty() {
            self.events.queues.insert(channel, queue);
        }
    }

    /// Nobody wants a channel any more: who comes next has not been there for what waits.
    pub(super) fn forget_waiting(&mut self, channel: &Channel) {
        for _ in self.events.queues.remove(channel).into_iter().flatten() {
            self.metrics.messages_ignored.add("nobody");
        }
    }

    /// Keeps a channel's queue within its bound while the database is slow: the oldest statuses are
    /// withheld unjudged, so that what needs no verdict (a `delete` above all) is never lost.
    fn make_room(&mut self, channel: &Channel) {
        let most = self.limits.verdicts_waiting_max.max(1);
        while let Some(queue) = self.events.queues.get_mut(channel)
            && queue.len() >= most
            && let Some(oldest) = queue.front_mut()
        {
            oldest.state = State::Judged(Err("overload"));
            self.let_go(channel.clone());
        }
    }

    fn deliver(
        &mut self,
        channel: &Channel,
        parsed: &Parsed,
        verdict: Option<Arc<Verdict>>,
        received: Moment,
    ) {
        let event_stream = self.interest.has_event_streams(channel);
        let wants = Wants { websocket: true, event_stream };
        let body = parsed.body(wants, verdict.as_ref().is_some_and(|verdict| verdict.annotates()));
        let delivery = Delivery { channel: channel.clone(), body, verdict, received };
        self.tell_shards_of(channel, &ToShard::Deliver(delivery));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;
    use crate::hub::control::Effect;
    use crate::hub::interest::{Confirmation, Room};
    use crate::hub::message::ToControl;
    use crate::hub::question::{Answer, Question};
    use crate::hub::stream::{Origin, PublicFeed};

    const PUBLIC: Channel = Channel::Public(PublicFeed { origin: Origin::All, media: false });

    /// A control core with one shard, and a channel that comes and goes.
    struct Bench(Control);

    impl Bench {
        fn want(&mut self, is_wanted: bool) {
            let wants = Wants { websocket: is_wanted, event_stream: false };
            self.0.from_shard(0, ToControl::Want { channel: PUBLIC, wants });
        }

        /// Redis is told what to do, and does it.
        fn settle(&mut self) {
            for _ in 0..2 {
                let room = Room { keys: Some(9), subscriptions: 9 };
                let batch = self.0.interest_mut().next_batch(Moment(0), room);
                for channel in batch.subscribe {
                    let name = channel.redis_name();
                    self.0.redis_confirmed(name.as_bytes(), Confirmation::Subscribed);
                }
                for channel in batch.unsubscribe {
                    let name = channel.redis_name();
                    self.0.redis_confirmed(name.as_bytes(), Confirmation::Unsubscribed);
                }
            }
        }

        fn publish(&mut self, id: u64) {
            let account = r#"{"id":"5","username":"a","acct":"a@b"}"#;
            let text =
                format!(r#"{{"event":"update","payload":{{"id":"{id}","account":{account}}}}}"#);
            self.0.redis_message(PUBLIC.redis_name().as_bytes(), &Bytes::from(text));
        }

        /// Every question is answered: nobody blocks anybody. How many deliveries go out.
        fn judge(&mut self) -> usize {
            let mut delivered = 0;
            loop {
                let effects = self.0.take_effects();
                if effects.is_empty() {
                    return delivered;
                }
                for effect in effects {
                    match effect {
                        Effect::Ask(number, Question::Filters(_)) => {
                            self.0.answered(number, Ok(Answer::Filters(Vec::new())));
                        }
                        Effect::Ask(number, _) => {
                            self.0.answered(number, Ok(Answer::Accounts(Vec::new())));
                        }
                        Effect::ToShard(_, ToShard::Deliver(_)) => delivered += 1,
                        _ => {}
                    }
                }
            }
        }
    }

    #[test]
    fn who_comes_back_to_a_channel_gets_nothing_from_before() {
        let mut bench = Bench(Control::new(&Limits::default(), 1));
        bench.want(true);
        bench.settle();
        bench.publish(1);
        assert_eq!(bench.judge(), 1);
        bench.publish(2);
        // The last reader leaves while that is being judged, and comes back later.
        bench.want(false);
        bench.settle();
        bench.want(true);
        bench.settle();
        assert_eq!(bench.judge(), 0, "the event before a gap");
        bench.publish(4);
        assert_eq!(bench.judge(), 1);
    }
}
