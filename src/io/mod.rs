//! Sockets, threads and time: everything that touches the kernel.

pub mod bell;
pub mod clock;
pub mod control;
pub mod cores;
pub mod database;
pub mod door;
pub mod driver;
pub mod listener;
pub mod mesh;
pub mod moderation;
pub mod poller;
pub mod postgres;
pub mod process;
pub mod redis;
mod redis_link;
pub mod resolver;
pub mod sentinel;
pub mod service_manager;
pub mod shard;
pub mod shared;
pub mod signals;
pub mod tls;
pub mod upstream;
