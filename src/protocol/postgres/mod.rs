//! The client's half of Postgres' frontend/backend protocol 3.0, without a socket: bytes in, bytes
//! and happenings out. Messages are cut and written by the crate `postgres-protocol`; what stands
//! here is the order in which they may come, the bounds, and who is to blame.
//!
//! Nothing is kept on the server between two statements (no `SET`, no named statement, no
//! transaction), so that PgBouncer may hand each statement to another server connection.

pub mod conversation;
pub mod login;
pub mod row;
pub mod server_error;
pub mod statement;

use std::fmt;

pub use conversation::{BackendKey, Conversation, Happening};
pub use login::{Login, LoginProblem};
pub use row::{Columns, Row};
pub use server_error::ServerError;
pub use statement::{Parameter, Statement};

#[cfg(test)]
mod tests;

/// The conversation cannot go on; the connection is to be dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server ended it and said why (it is stopping, it has no room, it does not let us in).
    Server(ServerError),
    /// We and the server found no way to log in.
    Login(LoginProblem),
    /// The server sent what the protocol does not allow here.
    Malformed(Malformed),
    /// The server's reply is longer than we take.
    ReplyTooLong {
        /// The bound, `reply_bytes_max`.
        bytes_max: usize,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Server(error) => error.fmt(formatter),
            Failure::Login(problem) => problem.fmt(formatter),
            Failure::Malformed(malformed) => malformed.fmt(formatter),
            Failure::ReplyTooLong { bytes_max } => {
                write!(formatter, "the reply is longer than {bytes_max} bytes")
            }
        }
    }
}

impl std::error::Error for Failure {}

/// The server sent what the protocol, or our statement, does not allow. Says what, never shows the
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the server does not keep to the protocol: {}", self.0)
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Failure {
        Failure::Malformed(malformed)
    }
}
