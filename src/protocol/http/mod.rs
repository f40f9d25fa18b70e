//! HTTP/1.1 as far as a streaming server needs it: request heads in, answers out.
//!
//! There are no request bodies, so there is nothing to frame but heads. What two readers could
//! understand differently is refused and the connection closed (RFC 9112 section 11.2).

mod authority;
mod credentials;
mod exchange;
mod handshake;
mod head;
mod query;
mod request_id;

pub use credentials::Credentials;
pub use exchange::{Exchange, REQUEST_TIMEOUT, TRY_LATER, reason_phrase};
pub use handshake::{Handshake, UpgradeError, check_upgrade, switching_protocols, upgrade_refused};
pub use head::{Head, HeadError, parse_head};
pub use query::Query;
pub use request_id::RequestId;

#[cfg(test)]
mod tests;
