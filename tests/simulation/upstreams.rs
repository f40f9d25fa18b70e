//! Redis and the database as the control core sees them, and what is published.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bytes::Bytes;
use trunkline::hub::interest::Confirmation;
use trunkline::hub::question::Question;

use super::database::Asked;
use super::ledger::{Content, Publication};
use super::redis::{Line, Reply};
use super::world::World;

impl World {
    /// A reply of Redis reaches the control core.
    pub fn turn_redis(&mut self) -> bool {
        let replied = self.redis.take_set_replies();
        let Some(reply) = self.redis.next_reply() else {
            if replied {
                self.act();
            }
            return replied;
        };
        self.note(format_args!("redis {reply:?}"));
        self.set_time();
        match reply {
            Reply::Confirmed(name, confirmation) => {
                if let Some(account) = name.strip_prefix("timeline:system:")
                    && confirmation == Confirmation::Subscribed
                {
                    self.raise_floor(account.parse().unwrap());
                }
                self.control.redis_confirmed(name.as_bytes(), confirmation);
            }
            Reply::Message(name, payload, at) => {
                self.books.redis_says(&name);
                if payload.contains("filters_changed")
                    && let Some(account) = name.strip_prefix("timeline:system:")
                {
                    self.raise_floor(account.parse().unwrap());
                }
                let floors = self.ledger.floors.clone();
                if let Some(publication) = self.ledger.publications.get_mut(at) {
                    publication.arrived = Some(self.step);
                    publication.floors = floors;
                }
                self.questions_in_turn = 0;
                self.control.redis_message(name.as_bytes(), &Bytes::from(payload));
                self.act();
                assert!(self.questions_in_turn <= 3, "{} questions", self.questions_in_turn);
            }
        }
        self.maybe_act();
        true
    }

    fn raise_floor(&mut self, account: i64) {
        self.note(format_args!("floor of {account}"));
        if let Some(found) = self.database.accounts.get(&account) {
            self.ledger.floors.insert(account, found.filters.version());
        }
    }

    /// An answer of the database reaches the control core.
    pub fn turn_database(&mut self, index: usize) {
        let Some(asked) = self.database.asked.get(index) else { return };
        if asked.answer.is_none() {
            let chance = self.database.failing_percent;
            let fails = self.percent(chance);
            return self.database.execute(index, fails);
        }
        let Asked { number, question, step, answer } = self.database.asked.remove(index);
        self.note(format_args!("answer {number} {answer:?}"));
        let Some(answer) = answer else { return };
        if answer.is_err() {
            self.excuse(&question, step);
        }
        self.set_time();
        self.control.answered(number, answer);
        self.maybe_act();
    }

    /// A question fails: what hangs on it is excused.
    fn excuse(&mut self, question: &Question, asked: u64) {
        let open = self.ledger.settled..self.ledger.publications.len();
        let waiting = self.ledger.publications[open].iter_mut();
        match question {
            Question::BlocksAndMutes { .. } | Question::DomainBlocks { .. } => {
                let numbers: BTreeSet<usize> = waiting
                    .filter(|one| one.arrived == Some(asked))
                    .map(|one| one.number)
                    .collect();
                for one in &mut self.ledger.publications {
                    if numbers.contains(&one.number) {
                        one.unchecked.push(None);
                    }
                }
            }
            Question::Filters(accounts) => {
                for one in waiting {
                    one.unchecked.extend(accounts.iter().map(|account| Some(account.0)));
                }
            }
            // Nobody but the server itself wanted to know.
            Question::StillValid(tokens) if tokens.is_empty() => {}
            _ => self.database.has_failed = true,
        }
    }

    /// The subscriber connection breaks; some of what is on its way still comes.
    pub fn break_subscriber(&mut self) {
        let kept = self.below(self.redis.replies.len() + 1);
        for reply in self.redis.break_subscriber(kept) {
            if let Reply::Message(_, _, at) = reply
                && let Some(publication) = self.ledger.publications.get_mut(at)
            {
                publication.goes = false;
            }
        }
    }

    /// What the server notices of its connections to Redis.
    pub fn move_lines(&mut self) {
        self.set_time();
        match self.redis.subscriber {
            Line::Broken if self.redis.replies.is_empty() => {
                self.redis.notice_subscriber();
                self.control.redis_lost();
            }
            Line::Down => self.redis.subscriber = Line::Up,
            _ => {}
        }
        match self.redis.commands {
            Line::Broken => self.redis.notice_commands(),
            Line::Down => {
                self.redis.commands = Line::Up;
                self.control.interest_mut().keys_lost();
            }
            Line::Up => {}
        }
        self.maybe_act();
    }

    /// Somebody publishes the same bytes on some channels.
    pub fn publish(&mut self, channels: &[String], content: Content) {
        let number = self.ledger.next_number;
        self.ledger.next_number += 1;
        let message = content.message(number);
        let content = Rc::new(content);
        for channel in channels {
            let at = self.ledger.publications.len();
            let goes = self.redis.publish(channel, &message, at);
            // Who comes while a channel is being left is there from the next subscription on.
            let stands = goes && !self.redis.is_being_left(channel);
            let mut expected = Vec::new();
            for (index, client) in self.clients.iter().enumerate() {
                for (place, one) in client.subscriptions.iter().enumerate() {
                    let is_sure = one.settled.is_some() && !one.unsure;
                    let is_due = stands && is_sure && one.left.is_none();
                    if is_due && one.channels.contains(channel) && client.is_open() {
                        expected.push((index, place));
                    }
                }
            }
            self.ledger.publications.push(Publication {
                number,
                channel: channel.clone(),
                step: self.step,
                content: Rc::clone(&content),
                goes,
                arrived: None,
                unchecked: Vec::new(),
                floors: BTreeMap::new(),
                expected,
            });
        }
    }

    /// `PUBLISH` of an order on a system channel.
    pub fn order(&mut self, channel: &str, event: &str) {
        let message = format!(r#"{{"event":"{event}"}}"#);
        self.redis.publish(channel, &message, usize::MAX);
        if event == "kill" {
            self.killed.insert(channel.to_owned());
        }
    }
}
