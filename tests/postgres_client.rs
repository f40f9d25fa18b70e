//! The Postgres client against real servers: PostgreSQL and PgBouncer of Debian's packages, private
//! instances.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "postgres_client/answers.rs"]
mod answers;
#[path = "postgres_client/client.rs"]
mod client;
#[path = "postgres_client/faults.rs"]
mod faults;
#[path = "postgres_client/login.rs"]
mod login;
#[path = "postgres_client/plans.rs"]
mod plans;
#[path = "postgres_client/tls.rs"]
mod tls;

mod support;
