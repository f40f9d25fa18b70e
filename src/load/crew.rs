//! The threads of clients, as seen by the one that directs them.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::crowd::{Crowd, Every, Gauges, Lacking, Order, Pace, Parts};
use super::publisher::Publisher;
use super::tally::Tally;

/// The name of a thread of clients begins with this; [`super::measure`] looks for it.
pub const THREAD_NAME: &str = "load-crowd";

/// All threads of clients.
pub struct Crew {
    crowds: Vec<Handle>,
}

struct Handle {
    orders: Sender<Order>,
    gauges: Arc<Gauges>,
}

/// How things stand, over all threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Clients that wait for a connection.
    pub waiting: u64,
    /// Clients connected.
    pub open: u64,
    /// Of these, those that have received a status.
    pub served: u64,
    /// Statuses received since the start.
    pub delivered: u64,
    /// Wrong deliveries since the start.
    pub wrong: u64,
    /// Attempts that failed since the start.
    pub failed: u64,
    /// Open connections that the server has ended since the start.
    pub ended: u64,
}

impl Crew {
    /// Starts the threads. `parts.share` is dealt out here.
    ///
    /// # Errors
    /// The kernel refuses a thread.
    pub fn start(parts: &Parts, threads: u32) -> io::Result<Crew> {
        let mut crowds = Vec::new();
        for offset in 0..threads.max(1) {
            let (orders, inbox) = unbounded();
            let gauges = Arc::new(Gauges::default());
            let share = Every { step: threads.max(1), offset };
            let (parts, seen) = (Parts { share, ..parts.clone() }, Arc::clone(&gauges));
            let body = move || {
                let crowd = Crowd::new(parts, seen, inbox);
                if let Err(error) = crowd.and_then(Crowd::run) {
                    eprintln!("a thread of clients has failed: {error}");
                }
            };
            let thread = thread::Builder::new().name(format!("{THREAD_NAME}-{offset}"));
            thread.spawn(body)?;
            crowds.push(Handle { orders, gauges });
        }
        Ok(Crew { crowds })
    }

    /// How things stand.
    pub fn standing(&self) -> Standing {
        let sum = |field: fn(&Gauges) -> &AtomicU64| {
            let values = self.crowds.iter().map(|crowd| field(&crowd.gauges));
            values.map(|value| value.load(Ordering::Relaxed)).sum()
        };
        Standing {
            waiting: sum(|gauges| &gauges.waiting),
            open: sum(|gauges| &gauges.open),
            served: sum(|gauges| &gauges.served),
            delivered: sum(|gauges| &gauges.delivered),
            wrong: sum(|gauges| &gauges.wrong),
            failed: sum(|gauges| &gauges.failed),
            ended: sum(|gauges| &gauges.ended),
        }
    }

    /// Connects these clients.
    pub fn connect(&self, numbers: Range<u32>, pace: Pace) {
        self.tell(|| Order::Connect(numbers.clone(), self.part_of(pace)));
    }

    /// These go away.
    pub fn leave(&self, every: Every) {
        self.tell(|| Order::Leave(every));
    }

    /// These come back.
    pub fn come_back(&self, every: Every, pace: Pace) {
        self.tell(|| Order::Return(every, self.part_of(pace)));
    }

    /// These stop reading.
    pub fn stall(&self, every: Every) {
        self.tell(|| Order::Stall(every));
    }

    /// These read again.
    pub fn resume(&self, every: Every) {
        self.tell(|| Order::Resume(every));
    }

    /// Lets the first thread publish; the publisher comes back when its job is done.
    pub fn publish(&self, publisher: Publisher) -> Receiver<io::Result<Box<Publisher>>> {
        let (back, result) = bounded(1);
        if let Some(first) = self.crowds.first() {
            // Should the thread be gone, the receiver says so.
            let _ = first.orders.send(Order::Publish(Box::new(publisher), back));
        }
        result
    }

    /// Everything counted since the last time.
    pub fn count(&self) -> Tally {
        let (back, tallies) = unbounded();
        self.tell(|| Order::Count(back.clone()));
        drop(back);
        let mut all = Tally::default();
        tallies.iter().for_each(|tally| all.add(&tally));
        all
    }

    /// What open clients lack, given the next sequence number of each channel.
    pub fn check(&self, sequences: &[u32]) -> Lacking {
        let (back, answers) = unbounded();
        let sequences: Arc<[u32]> = sequences.into();
        self.tell(|| Order::Check(Arc::clone(&sequences), back.clone()));
        drop(back);
        answers.iter().fold(Lacking::default(), |sum, lacking| Lacking {
            clients: sum.clients + lacking.clients,
            statuses: sum.statuses + lacking.statuses,
        })
    }

    fn tell(&self, order: impl Fn() -> Order) {
        for crowd in &self.crowds {
            // A thread that has failed has said so.
            let _ = crowd.orders.send(order());
        }
    }

    fn part_of(&self, pace: Pace) -> Pace {
        let crowds = self.crowds.len().max(1);
        Pace { per_sec: pace.per_sec / crowds as f64, in_flight: (pace.in_flight / crowds).max(1) }
    }
}
