//! Trunkline: a streaming server for Mastodon. Redis pub/sub in, WebSocket and server-sent events
//! out, to as many clients as the kernel can hold sockets for. One process, one thread per core, no
//! locks.
//!
//! ```text
//!             PUBLISH                     bodies, serialised once
//!   Rails ───────────► Redis ──► control core ═══════════════╗   mesh: bounded lock-free
//!                                  ▲   │ parse once          ║   channels, one pair per shard,
//!                                  │   │ judge once          ║   each with a doorbell
//!             interest, questions  │   │ serialise once      ║
//!                                  │   ▼                     ▼
//!                                  ╚══════════ shard core 0 … shard core N-1    pinned
//!   Postgres ◄── control core                  │ own listener (SO_REUSEPORT), connections,
//!        tokens, lists, settings, blocks       ▼ registry
//!                                          sockets of the clients
//! ```
//!
//! # Strata
//!
//! ```text
//! config  →  protocol  →  hub  →  io             metrics, log: usable everywhere
//! what we were told    bytes, values   decisions   sockets, threads, time
//! ```
//!
//! A file imports only from its own stratum or one to its left (`tests/tidy.rs` holds it).
//! `protocol` and `hub` do no I/O, read no clock and spawn nothing: bytes and times come in, bytes
//! and effects go out.
//!
//! # Reading order
//!
//! 1. [`hub::stream`]: the one table of streams, their channels, labels and scopes.
//! 2. [`protocol::event`] and [`protocol::frame`]: a Redis message becomes bytes for sockets.
//! 3. [`hub::shard`]: the life of a connection; [`hub::registry`], [`hub::outbox`],
//!    [`hub::farewell`].
//! 4. [`hub::control`]: the life of an event; [`hub::interest`], [`hub::verdict`], [`hub::filter`].
//! 5. [`io`]: the sockets and threads around these values; [`io::driver`] turns them; [`boot`]
//!    starts them. [`demo`], [`doctor`] and [`load`] stand beside the server and use the same
//!    pieces.
//!
//! # Walls that were moved from the first design
//!
//! * *Labels are put on in the shard.* The control core serialises the part of a frame that all
//!   readers of an event share (the escaped payload, by far the longest part). A shard puts the
//!   short label in front, once per label that it really serves. The mesh then carries one body per
//!   event and knows nothing of labels.
//! * *The control core is a value with `turn()` too.* Its Redis and Postgres connections are plain
//!   descriptors in its own epoll instance, so that both drivers run the very same code, nothing is
//!   ever cancelled in mid-read.
//! * *One thread may turn both a shard and the control core* ([`io::shared`]). Where they share a
//!   processor anyway (on one or two), a hand-over between threads is a sleep and a wake-up more
//!   for every event, and that was most of what a quiet `home` stream cost.
//! * *The glommio driver lingers in `epoll_wait` before it sleeps in the ring* ([`io::driver`]). A
//!   sleep in the ring takes eight system calls; only a core that stays quiet goes there.
//! * *Reading clients is moderated* ([`io::moderation`]), as a network card moderates its
//!   interrupts; what comes through the mesh never is.
//! * *Several events for one socket leave in one write* (`hub::shard::gathering`) when more of them
//!   are waiting in the mesh.

// Tests may unwrap; nothing that came from outside is ever unwrapped elsewhere.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

pub mod boot;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod hub;
pub mod io;
pub mod load;
pub mod log;
pub mod metrics;
pub mod protocol;
