//! Decisions as plain values: what a shard and the control core do with bytes, answers and time. No
//! I/O, no clock, no threads, so that the whole server also runs in a simulator.

pub mod access;
pub mod channel_table;
pub mod client_message;
pub mod control;
pub mod drain;
pub mod farewell;
pub mod filter;
pub mod interest;
pub mod message;
pub mod moment;
pub mod origins;
pub mod outbox;
pub mod question;
pub mod readiness;
pub mod registry;
pub mod request;
pub mod session;
pub mod shard;
pub mod shard_set;
pub mod stream;
pub mod verdict;
