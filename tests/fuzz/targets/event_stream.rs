//! What event streams are told. An input is a list of events with names and payloads of any
//! characters, set apart by 0x1e, name and payload by 0x1f. Whatever they are:
//!
//! * the bytes are chunks of HTTP/1.1, none of them empty but the last;
//! * a reader that follows the WHATWG's text to the letter, given them in any pieces, dispatches
//!   exactly these events in this order, each line break of a payload as one LF;
//! * greetings and heartbeats in between change nothing;
//! * a payload handed over in parts is the same as in one.

use trunkline::protocol::sse;

use super::cuts;

pub fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut dice = cuts::dice(input);
    let mut out = sse::GREETING.to_vec();
    let mut expected = Vec::new();
    for event in text.split('\u{1e}') {
        let (name, payload) = event.split_once('\u{1f}').unwrap_or(("update", event));
        let (mut one, mut other) = (Vec::new(), Vec::new());
        sse::event(name, &[payload.as_bytes()], &mut one);
        sse::event(name, &cuts::pieces(payload.as_bytes(), &mut dice), &mut other);
        assert!(one == other, "{:?}, {:?}", one.escape_ascii(), other.escape_ascii());
        out.extend_from_slice(&one);
        if dice.bool() {
            out.extend_from_slice(sse::THUMP);
        }
        let name: String = name.chars().filter(|char| !matches!(char, '\r' | '\n')).collect();
        expected.push((name, lines(payload)));
    }
    let open = out.len();
    out.extend_from_slice(sse::LAST_CHUNK);
    let (body, is_over) = dechunked(&cuts::pieces(&out, &mut dice));
    assert!(is_over, "the stream has no end");
    assert!(!dechunked(&[&out[..open]]).1, "the stream ends too early");
    let pieces = cuts::pieces(&body, &mut dice);
    assert_eq!(dispatched(&pieces), expected);
    assert_eq!(dispatched(&[&body]), expected);
}

/// CRLF, CR and LF are one line break each.
fn lines(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        if char == '\r' {
            chars.next_if_eq(&'\n');
        }
        out.push(if char == '\r' { '\n' } else { char });
    }
    out
}

/// RFC 9112 section 7.1, one byte after the other: what the chunks carry, and whether the last
/// chunk has come. Chunk extensions and trailers are not for us.
pub(super) fn dechunked(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let (mut body, mut size, mut missing) = (Vec::new(), Vec::new(), None);
    let mut is_over = false;
    for byte in pieces.iter().flat_map(|piece| piece.iter()) {
        assert!(!is_over, "something behind the last chunk");
        match &mut missing {
            None => {
                size.push(*byte);
                let Some(digits) = size.strip_suffix(b"\r\n") else { continue };
                let digits = std::str::from_utf8(digits).unwrap();
                assert!(digits == "0" || !digits.starts_with(['0', '+']), "{digits:?}");
                missing = Some((usize::from_str_radix(digits, 16).unwrap(), Vec::new()));
                size.clear();
            }
            Some((count, chunk)) => {
                chunk.push(*byte);
                if chunk.len() == *count + 2 {
                    let chunk = chunk.strip_suffix(b"\r\n").expect("the chunk ends elsewhere");
                    body.extend_from_slice(chunk);
                    is_over = *count == 0;
                    missing = None;
                }
            }
        }
    }
    assert!(missing.is_none() && size.is_empty(), "half a chunk");
    (body, is_over)
}

/// WHATWG HTML section 9.2.6: the names and data of the events that are dispatched.
pub(super) fn dispatched(pieces: &[&[u8]]) -> Vec<(String, String)> {
    let mut reader = Reader::default();
    for piece in pieces {
        piece.iter().for_each(|byte| reader.take(*byte));
    }
    reader.events
}

#[derive(Default)]
struct Reader {
    line: Vec<u8>,
    after_carriage_return: bool,
    is_past_first_line: bool,
    name: String,
    data: String,
    events: Vec<(String, String)>,
}

impl Reader {
    fn take(&mut self, byte: u8) {
        let was = std::mem::replace(&mut self.after_carriage_return, byte == b'\r');
        match byte {
            b'\n' if was => {}
            b'\r' | b'\n' => {
                let line = std::mem::take(&mut self.line);
                self.process(std::str::from_utf8(&line).unwrap());
            }
            _ => self.line.push(byte),
        }
    }

    fn process(&mut self, line: &str) {
        let is_first = !std::mem::replace(&mut self.is_past_first_line, true);
        let line = line.strip_prefix('\u{feff}').filter(|_| is_first).unwrap_or(line);
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => {}
            "event" => self.name = value.to_owned(),
            "data" => self.data.extend([value, "\n"]),
            // `id` and `retry` would change what clients do when they reconnect.
            other => panic!("a field that is not ours: {other:?}"),
        }
    }

    fn dispatch(&mut self) {
        let (name, mut data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
        if data.pop().is_some() {
            self.events.push((name, data));
        }
    }
}
