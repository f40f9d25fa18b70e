//! WebSocket frames (RFC 6455 section 5) as a server sees them: masked in, unmasked out. No
//! extensions.

mod inbound;
mod outbound;

pub use inbound::{Inbound, Partial, ProtocolError, Receiver};
pub use outbound::{
    CLOSE_WITHOUT_CODE, CONTROL_BYTES_MAX, EMPTY_PING, close_frame, frame_header, pong, text_frame,
};
pub use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

#[cfg(test)]
mod tests;
