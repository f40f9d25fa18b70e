//! Does the doorbell of the mesh ever lose a wake-up? Two producers and one consumer, as two shards
//! and the control core: interleavings, and the stale values that the memory model allows a load
//! to return, are tried one after the other by a model checker.
//!
//! Checked is the server's own [`Watch`], over the atomics of loom. Around it stands the least that
//! the server has: a channel that orders nothing beyond its own messages (weaker than the real
//! one, which would hide a missing fence), and an eventfd in an edge-triggered epoll instance. A
//! wake-up that is lost leaves everybody waiting, which loom reports as a deadlock.
//!
//! One producer is tried to the end; three messages of two producers with every interleaving in
//! which at most [`PREEMPTIONS`] times a thread is interrupted that could go on. Each more takes
//! about ten times as long: `TRUNKLINE_PREEMPTIONS=4 cargo test --test mesh_model`.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use loom::model::Builder;
use loom::sync::atomic::{AtomicBool, AtomicUsize, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;
use trunkline::io::bell::{Flag, Watch};

/// Interruptions in an interleaving of three messages.
const PREEMPTIONS: usize = 3;

/// A flag of the model checker.
struct Modelled(AtomicBool);

impl Flag for Modelled {
    fn load(&self, order: Ordering) -> bool {
        self.0.load(order)
    }

    fn swap(&self, value: bool, order: Ordering) -> bool {
        self.0.swap(value, order)
    }

    fn fence(order: Ordering) {
        fence(order);
    }
}

/// The same without fences.
struct Unfenced(AtomicBool);

impl Flag for Unfenced {
    fn load(&self, order: Ordering) -> bool {
        self.0.load(order)
    }

    fn swap(&self, value: bool, order: Ordering) -> bool {
        self.0.swap(value, order)
    }

    fn fence(_: Ordering) {}
}

/// An eventfd in the edge-triggered epoll instance of a consumer.
struct Kernel {
    edge: Mutex<bool>,
    comes: Condvar,
}

impl Kernel {
    fn write(&self) {
        *self.edge.lock().unwrap() = true;
        self.comes.notify_one();
    }

    /// `epoll_wait`, without a timeout or with none to wait.
    fn wait(&self, sleeps: bool) {
        let mut edge = self.edge.lock().unwrap();
        while sleeps && !*edge {
            edge = self.comes.wait(edge).unwrap();
        }
        *edge = false;
    }
}

/// How a driver goes to sleep. The first is what the drivers do.
#[derive(Clone, Copy)]
enum Manner {
    ArmsThenLooks,
    LooksThenArms,
    NeverLooks,
}

/// What the threads share.
struct Shared<F> {
    watch: Watch<F>,
    /// How many messages are in the channel, taken ones included.
    sent: AtomicUsize,
    kernel: Kernel,
}

impl<F: Flag> Shared<F> {
    /// Puts messages and rings behind every `batch` of them, as the mesh does at the end of a turn.
    fn produce(&self, messages: usize, batch: usize) {
        for message in 1..=messages {
            self.sent.fetch_add(1, Ordering::Release);
            if (message % batch == 0 || message == messages) && self.watch.must_wake() {
                self.kernel.write();
            }
        }
    }

    /// Turns until all messages have come.
    fn consume(&self, messages: usize, manner: Manner) {
        loop {
            let taken = self.sent.load(Ordering::Acquire);
            if taken == messages {
                return;
            }
            let has_mail = || self.sent.load(Ordering::Acquire) > taken;
            let sleeps = match manner {
                Manner::ArmsThenLooks => self.watch.may_sleep(has_mail),
                Manner::LooksThenArms => {
                    let had_mail = has_mail();
                    self.watch.may_sleep(|| had_mail)
                }
                Manner::NeverLooks => self.watch.may_sleep(|| false),
            };
            self.kernel.wait(sleeps);
            self.watch.awake();
        }
    }
}

/// A producer for each number of messages.
fn check<F: Flag + Send + Sync + 'static>(
    flag: fn(AtomicBool) -> F,
    (messages, batch): (&'static [usize], usize),
    preemptions: Option<usize>,
    manner: Manner,
) {
    let mut builder = Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        let shared = Arc::new(Shared {
            watch: Watch::new(flag(AtomicBool::new(false))),
            sent: AtomicUsize::new(0),
            kernel: Kernel { edge: Mutex::new(false), comes: Condvar::new() },
        });
        let produce = |messages: &usize| {
            let (shared, messages) = (Arc::clone(&shared), *messages);
            thread::spawn(move || shared.produce(messages, batch))
        };
        let producers: Vec<_> = messages.iter().map(produce).collect();
        shared.consume(messages.iter().sum(), manner);
        for producer in producers {
            producer.join().unwrap();
        }
    });
}

fn preemptions() -> Option<usize> {
    let given = std::env::var("TRUNKLINE_PREEMPTIONS");
    Some(given.map_or(PREEMPTIONS, |given| given.parse().unwrap()))
}

#[test]
fn no_wake_up_is_lost_however_one_producer_is_interrupted() {
    check(Modelled, (&[1], 1), None, Manner::ArmsThenLooks);
    check(Modelled, (&[2], 1), None, Manner::ArmsThenLooks);
}

#[test]
fn no_wake_up_is_lost_between_two_producers() {
    check(Modelled, (&[2, 1], 1), preemptions(), Manner::ArmsThenLooks);
}

#[test]
fn no_wake_up_is_lost_when_a_batch_is_rung_for_once() {
    check(Modelled, (&[2, 1], 2), preemptions(), Manner::ArmsThenLooks);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wake_up_would_be_lost() {
    check(Unfenced, (&[1], 1), None, Manner::ArmsThenLooks);
}

#[test]
#[should_panic(expected = "deadlock")]
fn looking_before_arming_a_wake_up_would_be_lost() {
    check(Modelled, (&[1], 1), None, Manner::LooksThenArms);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_second_look_a_wake_up_would_be_lost() {
    check(Modelled, (&[1], 1), None, Manner::NeverLooks);
}
