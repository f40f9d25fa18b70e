//! Bytes and values: parsers and encoders that never touch a socket, read no clock and spawn
//! nothing.

pub mod event;
pub mod frame;
pub mod hashtag;
pub mod http;
pub mod ids;
pub mod json;
pub mod postgres;
pub mod resp;
pub mod sse;
pub mod status;
pub mod status_text;
pub mod websocket;
