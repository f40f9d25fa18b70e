//! Server-sent events (WHATWG HTML section 9.2), each line group in its own chunk of HTTP/1.1's chunked coding.
//!
//! Real clients break on anything but LF, one space after each colon, and `event` and `data` alone (clients.md).

use std::io::Write;

/// The first chunk of every stream: the comment `:)`.
pub const GREETING: &[u8] = b"3\r\n:)\n\r\n";

/// The heartbeat: the comment `:thump`.
pub const THUMP: &[u8] = b"8\r\n:thump\n\n\r\n";

/// The chunk that ends a stream, and with it the response (RFC 9112 section 7.1).
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends one event as two chunks. `data_parts` are pieces of one payload.
///
/// A payload with line breaks (CR, LF or CRLF) goes as one `data:` line each, so that readers get all of it, with LF
/// for each break. The Node server sends it raw: readers lose all after the first. Line breaks in a
/// name, which no reader could give back, are left out.
pub fn event(name: &str, data_parts: &[&[u8]], out: &mut Vec<u8>) {
    let is_break = |&byte: &u8| byte == b'\r' || byte == b'\n';
    let kept = || name.bytes().filter(|byte| !is_break(byte));
    chunk_head("event: \n".len() + kept().count(), out);
    out.extend_from_slice(b"event: ");
    out.extend(kept());
    out.extend_from_slice(b"\n\r\n");

    let has_breaks = |part: &&[u8]| memchr::memchr2(b'\r', b'\n', part).is_some();
    if data_parts.iter().any(has_breaks) {
        let lines = data_lines(&data_parts.concat());
        chunk_head(lines.len() + 1, out);
        out.extend_from_slice(&lines);
    } else {
        let length: usize = data_parts.iter().map(|part| part.len()).sum();
        chunk_head("data: \n\n".len() + length, out);
        out.extend_from_slice(b"data: ");
        data_parts.iter().for_each(|part| out.extend_from_slice(part));
        out.push(b'\n');
    }
    out.extend_from_slice(b"\n\r\n");
}

/// A payload as `data: …\n` lines, one more than it has line breaks.
fn data_lines(payload: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(payload.len() * 2);
    let mut rest = payload;
    loop {
        let end = memchr::memchr2(b'\r', b'\n', rest);
        lines.extend_from_slice(b"data: ");
        lines.extend_from_slice(&rest[..end.unwrap_or(rest.len())]);
        lines.push(b'\n');
        let Some(end) = end else { return lines };
        let break_length = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + break_length..];
    }
}

fn chunk_head(length: usize, out: &mut Vec<u8>) {
    // Writing to a `Vec` does not fail.
    let _ = write!(out, "{length:x}\r\n");
}
