//! What a server sends, taken apart without copying where it can be: heads, WebSocket frames,
//! chunks of an event stream. Nothing here keeps anything: what is not yet whole is asked for again
//! with more bytes.

use super::plan::{ACCEPT, Transport};

/// Bytes of a head before the server counts as mad.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one message before the server counts as mad.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The server does something that a client could not live with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable(pub String);

/// Reads the head of an answer: its length, once it is there whole and grants what was asked for.
pub fn head(input: &[u8], transport: Transport) -> Result<Option<usize>, Unusable> {
    let Some(end) = memchr::memmem::find(input, b"\r\n\r\n") else {
        if input.len() > HEAD_BYTES_MAX {
            return Err(Unusable("a head without an end".to_owned()));
        }
        return Ok(None);
    };
    let text = String::from_utf8_lossy(input.get(..end).unwrap_or_default());
    let status = text.get(9..12).unwrap_or_default();
    let (wanted, needed) = match transport {
        Transport::WebSocket => ("101", ACCEPT),
        Transport::EventStream => ("200", "chunked"),
    };
    if status != wanted {
        return Err(Unusable(format!("answered {status}")));
    }
    if !text.contains(needed) {
        return Err(Unusable(format!("an answer without {needed}")));
    }
    Ok(Some(end + 4))
}

/// A frame of RFC 6455 as servers send them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole message.
    Text(&'a [u8]),
    /// To be answered with the same payload.
    Ping(&'a [u8]),
    /// Of no interest.
    Pong,
    /// The end, with its code.
    Close(Option<u16>),
}

/// The frame at the start of `input`, and its length.
pub fn frame(input: &[u8]) -> Result<Option<(usize, Frame<'_>)>, Unusable> {
    let &[first, second, ref rest @ ..] = input else { return Ok(None) };
    if second & 0x80 != 0 {
        return Err(Unusable("a masked frame".to_owned()));
    }
    let (extra, length) = match second {
        126 => match rest.first_chunk::<2>() {
            Some(bytes) => (2, usize::from(u16::from_be_bytes(*bytes))),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(bytes) => (8, usize::try_from(u64::from_be_bytes(*bytes)).unwrap_or(usize::MAX)),
            None => return Ok(None),
        },
        short => (0, usize::from(short)),
    };
    if length > MESSAGE_BYTES_MAX {
        return Err(Unusable("a frame of more than 16 MiB".to_owned()));
    }
    let Some(payload) = rest.get(extra..extra + length) else { return Ok(None) };
    let frame = match first {
        0x81 => Frame::Text(payload),
        0x88 => Frame::Close(payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code))),
        0x89 => Frame::Ping(payload),
        0x8a => Frame::Pong,
        other => return Err(Unusable(format!("a frame that begins with {other:#04x}"))),
    };
    Ok(Some((2 + extra + length, frame)))
}

/// What chunks hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunks {
    /// So many bytes of chunks, put together in the buffer, are whole events or comments.
    Events(usize),
    /// The response has ended.
    End,
    /// More is needed.
    Incomplete,
}

/// Puts together the chunks at the start of `input` until an event or a comment ends with a chunk
/// (RFC 9112 section 7.1). `text` is emptied first.
pub fn chunks(input: &[u8], text: &mut Vec<u8>) -> Result<Chunks, Unusable> {
    text.clear();
    let mut at = 0;
    loop {
        let rest = input.get(at..).unwrap_or_default();
        let Some(line) = memchr::memmem::find(rest, b"\r\n") else {
            if rest.len() > 18 {
                return Err(Unusable("a chunk without a length".to_owned()));
            }
            return Ok(Chunks::Incomplete);
        };
        let digits = std::str::from_utf8(rest.get(..line).unwrap_or_default()).unwrap_or("?");
        let length =
            usize::from_str_radix(digits, 16).ok().filter(|size| *size <= MESSAGE_BYTES_MAX);
        let Some(length) = length else {
            return Err(Unusable("a chunk with an impossible length".to_owned()));
        };
        if length == 0 {
            return Ok(Chunks::End);
        }
        let end = line + 2 + length;
        let Some(closing) = rest.get(end..end + 2) else { return Ok(Chunks::Incomplete) };
        if closing != b"\r\n" {
            return Err(Unusable("a chunk that does not end where it should".to_owned()));
        }
        text.extend_from_slice(rest.get(line + 2..end).unwrap_or_default());
        at += end + 2;
        let is_comment = text.starts_with(b":") && text.ends_with(b"\n");
        if is_comment || text.ends_with(b"\n\n") {
            return Ok(Chunks::Events(at));
        }
    }
}

/// Splits what [`chunks`] put together into events and comments, each with its end.
pub fn events(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let is_greeting = rest.starts_with(b":)\n");
        let end = match memchr::memmem::find(rest, b"\n\n") {
            _ if is_greeting => 3,
            Some(end) => end + 2,
            None => rest.len(),
        };
        let (event, behind) = rest.split_at_checked(end)?;
        rest = behind;
        Some(event)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_taken_only_if_it_grants_what_was_asked_for() {
        let good =
            format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n");
        let good = good.as_bytes();
        assert_eq!(head(good, Transport::WebSocket), Ok(Some(good.len())));
        for end in 0..good.len() {
            assert_eq!(head(&good[..end], Transport::WebSocket), Ok(None));
        }
        assert!(head(good, Transport::EventStream).is_err());
        assert!(head(b"HTTP/1.1 101 X\r\n\r\n", Transport::WebSocket).is_err());
        let busy = head(b"HTTP/1.1 503 Busy\r\n\r\n", Transport::WebSocket);
        assert_eq!(busy, Err(Unusable("answered 503".to_owned())));
    }

    #[test]
    fn frames_are_read_at_every_length() {
        for length in [0_usize, 1, 125, 126, 65_535, 65_536] {
            let mut wire = Vec::new();
            let opcode = crate::protocol::websocket::OpCode::from(1);
            crate::protocol::websocket::frame_header(opcode, length, &mut wire);
            wire.resize(wire.len() + length, b'a');
            let whole = frame(&wire).unwrap();
            assert_eq!(whole, Some((wire.len(), Frame::Text(&vec![b'a'; length]))));
            for end in [0, 1, wire.len() - 1] {
                assert_eq!(frame(&wire[..end]), Ok(None), "{length} {end}");
            }
        }
        assert_eq!(frame(&[0x88, 2, 3, 245]), Ok(Some((4, Frame::Close(Some(1013))))));
        assert_eq!(frame(&[0x88, 0]), Ok(Some((2, Frame::Close(None)))));
        assert!(frame(&[0x81, 0x80]).is_err());
        assert!(frame(&[0x01, 0]).is_err());
    }

    #[test]
    fn events_come_out_of_any_chunks() {
        let mut text = Vec::new();
        let split = b"e\r\nevent: update\n\r\na\r\ndata: {}\n\n\r\n8\r\n";
        assert_eq!(chunks(split, &mut text), Ok(Chunks::Events(split.len() - 3)));
        assert_eq!(text, b"event: update\ndata: {}\n\n");
        for end in 0..split.len() - 3 {
            assert_eq!(chunks(&split[..end], &mut text), Ok(Chunks::Incomplete), "{end}");
        }
        assert_eq!(chunks(b"3\r\n:)\n\r\n", &mut text), Ok(Chunks::Events(8)));
        assert_eq!(chunks(b"0\r\n\r\n", &mut text), Ok(Chunks::End));
        assert!(chunks(b"xyz\r\n", &mut text).is_err());
        let together = b":)\n:thump\n\nevent: a\ndata: 1\n\n";
        let parts: Vec<_> = events(together).collect();
        assert_eq!(parts, [&b":)\n"[..], b":thump\n\n", b"event: a\ndata: 1\n\n"]);
    }
}
