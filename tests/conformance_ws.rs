//! RFC 6455 where the Autobahn test suite (`tests/autobahn.rs`) does not look: the opening
//! handshake, bounds, and every way to end, against the real server.

mod support;

#[path = "conformance_ws/endings.rs"]
mod endings;
#[path = "conformance_ws/frames.rs"]
mod frames;
#[path = "conformance_ws/handshake.rs"]
mod handshake;
#[path = "conformance_ws/pressure.rs"]
mod pressure;
