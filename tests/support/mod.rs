//! What the tests of a running server stand on: private Redis, PostgreSQL, PgBouncer and Sentinel
//! instances, the server itself, and clients that show every byte.
//!
//! Every instance listens on a port of its own ([`ports`]), keeps its data in a directory of its
//! own and dies with the test process ([`process`]), so that any number of tests runs side by side.
//! A test usually starts with a [`World`]: one Redis, one database, one server.

// Each test binary compiles this module for itself and uses a part of it.
#![allow(dead_code, unused_imports)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod database;
pub mod events;
pub mod fixture;
pub mod frozen;
pub mod http;
pub mod patience;
pub mod pgbouncer;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod redis;
pub mod script;
pub mod sentinel;
pub mod server;
pub mod socket;
pub mod status;
pub mod websocket;
pub mod world;

pub use database::Database;
pub use events::EventStream;
pub use fixture::{Fixture, SPECIALS, Special, User};
pub use frozen::Frozen;
pub use http::{Request, Response};
pub use patience::{PATIENCE, eventually};
pub use pgbouncer::PgBouncer;
pub use postgres::Postgres;
pub use proxy::{BLACK_HOLE, Fault, Proxy, Way};
pub use redis::{Redis, RedisClient};
pub use script::Script;
pub use sentinel::Sentinel;
pub use server::{Server, ServerBuilder};
pub use socket::Socket;
pub use status::Status;
pub use websocket::{Message, StreamEvent, WebSocket};
pub use world::World;
