//! Frames to clients: never masked (RFC 6455 section 5.1), never fragmented.

use super::{Control, Data, OpCode};

/// The longest payload of a control frame, in bytes (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// A ping without payload: the keep-alive.
pub const EMPTY_PING: [u8; 2] = [0x89, 0];

/// A close frame without a code; the client's API reports 1005.
pub const CLOSE_WITHOUT_CODE: [u8; 2] = [0x88, 0];

/// Appends the header of an unfragmented frame with a payload of `length` bytes.
pub fn frame_header(opcode: OpCode, length: usize, out: &mut Vec<u8>) {
    out.push(0x80 | u8::from(opcode));
    match length {
        0..=125 => out.push(length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Appends a text frame.
pub fn text_frame(text: &str, out: &mut Vec<u8>) {
    frame_header(OpCode::Data(Data::Text), text.len(), out);
    out.extend_from_slice(text.as_bytes());
}

/// Appends the answer to a ping: the same payload (RFC 6455 section 5.5.3), cut at what a control
/// frame holds.
pub fn pong(payload: &[u8], out: &mut Vec<u8>) {
    let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX)];
    frame_header(OpCode::Control(Control::Pong), payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends a close frame with a code and a reason, which is cut at what a control frame holds.
pub fn close_frame(code: u16, reason: &str, out: &mut Vec<u8>) {
    let reason = &reason[..reason.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    frame_header(OpCode::Control(Control::Close), 2 + reason.len(), out);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}
