//! The Postgres client of the control core: a pool of plain descriptors in the core's epoll
//! instance.
//!
//! ```text
//! Question ─► sql.rs ─► pool.rs ─► connection.rs ─► upstream ─► Postgres or PgBouncer
//!                         │  ▲        ▲
//!            reach.rs ◄───┘  │        └─ encryption.rs (sslmode), protocol/postgres (messages)
//!   (is anybody there?)      │
//!              answer.rs ◄───┘ rows        opening.rs: hosts, addresses, transports
//! ```

pub mod answer;
pub mod connection;
pub mod encryption;
pub mod opening;
pub mod pool;
pub mod reach;
pub mod sql;

pub use pool::{POSTGRES_KEY, PostgresDatabase};
