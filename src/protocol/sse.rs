//! Server-sent events (WHATWG HTML section 9.2), each line group in its own chunk of HTTP/1.1's
//! chunked coding.
//!
//! Real clients break on anything but LF, one space after each colon, and `event` and `data` alone
//! (`tests/sse_clients.rs` asks them).

use std::io::Write;

/// The first chunk of every stream: the comment `:)`.
pub const GREETING: &[u8] = b"3\r\n:)\n\r\n";

/// The heartbeat: the comment `:thump`.
pub const THUMP: &[u8] = b"8\r\n:thump\n\n\r\n";

/// The chunk that ends a stream, and with it the response (RFC 9112 section 7.1).
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The bytes in chunks of ours, for HTTP/1.0, which does not know the coding: there a stream ends
/// with its connection (RFC 9112 section 6.1).
pub fn without_chunks(mut chunks: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(chunks.len());
    while let Some(end) = memchr::memchr(b'\r', chunks) {
        let (digits, rest) = chunks.split_at(end);
        let size = str::from_utf8(digits).ok().and_then(|it| usize::from_str_radix(it, 16).ok());
        let Some(chunk) = size.and_then(|size| rest.get(2..2 + size)) else { break };
        bytes.extend_from_slice(chunk);
        chunks = rest.get(2 + chunk.len() + 2..).unwrap_or_default();
    }
    bytes
}

/// Appends one event as two chunks. `data_parts` are pieces of one payload.
///
/// A payload with line breaks (CR, LF or CRLF) goes as one `data:` line each, so that readers get
/// all of it, with LF for each break. The Node server sends it raw: readers lose all after the
/// first. Line breaks in a name, which no reader could give back, are left out.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(name: &str, data_parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        event(name, data_parts, &mut out);
        out
    }

    /// Takes the chunked coding off; panics on anything that is not exactly chunks.
    fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        while !bytes.is_empty() {
            let end = bytes.windows(2).position(|pair| pair == b"\r\n").unwrap();
            let length = str::from_utf8(&bytes[..end]).unwrap();
            assert!(!length.starts_with('0'), "an empty chunk would end the stream");
            let length = usize::from_str_radix(length, 16).unwrap();
            body.extend_from_slice(&bytes[end + 2..][..length]);
            bytes = bytes[end + 2 + length..].strip_prefix(b"\r\n").unwrap();
        }
        body
    }

    /// A reader as WHATWG HTML section 9.2.6 has it: (event, data) of every event dispatched.
    fn read(body: &[u8]) -> Vec<(String, String)> {
        let text = str::from_utf8(body).unwrap();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let (mut events, mut name, mut data) = (Vec::new(), String::new(), String::new());
        for line in text.split('\n') {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() && !data.is_empty() => {
                    data.pop();
                    events.push((std::mem::take(&mut name), std::mem::take(&mut data)));
                }
                "" => {}
                "event" => name = value.to_owned(),
                "data" => data = data + value + "\n",
                other => panic!("a field that real clients choke on: {other:?}"),
            }
        }
        events
    }

    #[test]
    fn events_are_the_bytes_of_the_captures() {
        assert_eq!(
            encoded("delete", &[b"12345"]),
            b"e\r\nevent: delete\n\r\nd\r\ndata: 12345\n\n\r\n"
        );
        assert_eq!(
            encoded("update", &[br#"{"id":"1","#, br#""content":"<p>a &amp; b</p>"}"#]),
            b"e\r\nevent: update\n\r\n2f\r\n\
              data: {\"id\":\"1\",\"content\":\"<p>a &amp; b</p>\"}\n\n\r\n"
        );
    }

    #[test]
    fn comments_are_chunks_and_no_events() {
        let body = dechunk(&[GREETING, THUMP].concat());
        assert_eq!(body, b":)\n:thump\n\n");
        assert_eq!(read(&body), []);
        assert_eq!(without_chunks(LAST_CHUNK), b"");
        assert_eq!(LAST_CHUNK, b"0\r\n\r\n");
    }

    #[test]
    fn a_break_that_two_parts_share_is_one_break() {
        let body = dechunk(&encoded("x", &[b"a\r", b"\nb"]));
        assert_eq!(body, b"event: x\ndata: a\ndata: b\n\n");
    }

    #[test]
    fn a_name_cannot_begin_another_field() {
        let body = dechunk(&encoded("a\ndata: b\r\n", &[b"c"]));
        assert_eq!(read(&body), [("adata: b".to_owned(), "c".to_owned())]);
    }

    /// Text with much of what the format trips over.
    fn payloads() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "\\PC{1,8}",
            prop::sample::select(vec![
                "\r", "\n", "\r\n", "\0", "\u{2028}", "\u{feff}", " ", ":", "data: ", "id: 1",
                "\n\n",
            ])
            .prop_map(str::to_owned),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn readers_get_the_whole_payload_whatever_is_in_it(
            name in "[a-z._]{1,12}",
            payload in payloads(),
            cut in any::<prop::sample::Index>(),
        ) {
            let (head, tail) = payload.as_bytes().split_at(cut.index(payload.len() + 1));
            let out = encoded(&name, &[head, tail]);
            let payload = payload.replace("\r\n", "\n").replace('\r', "\n");
            prop_assert_eq!(without_chunks(&out), dechunk(&out));
            prop_assert_eq!(read(&dechunk(&out)), [(name, payload)]);
        }
    }
}
