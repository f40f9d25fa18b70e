//! Clients that are slow, silent, greedy or gone, and a machine at its limits: the others are
//! served, and nothing grows beyond its bound.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

#[path = "hostile/absent.rs"]
mod absent;
#[path = "hostile/clock.rs"]
mod clock;
#[path = "hostile/descriptors.rs"]
mod descriptors;
#[path = "hostile/kernel.rs"]
mod kernel;
#[path = "hostile/limits.rs"]
mod limits;
#[path = "hostile/observer.rs"]
mod observer;
#[path = "hostile/output.rs"]
mod output;
#[path = "hostile/stalled.rs"]
mod stalled;
#[path = "hostile/subscriptions.rs"]
mod subscriptions;
#[path = "hostile/unopened.rs"]
mod unopened;
#[path = "hostile/vanished.rs"]
mod vanished;
