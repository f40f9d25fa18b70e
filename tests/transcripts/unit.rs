//! What a server sends, in the units that are compared: answers, frames, events, the end.

use std::collections::BTreeMap;

use crate::support::Response;
use crate::support::http::{decode_chunk, find, parse_head, take_response};

/// Something complete that a server has sent.
#[derive(Clone, PartialEq, Eq)]
pub enum Unit {
    /// An answer without what may vary.
    Answer(Answer),
    /// A WebSocket frame, header included.
    Frame(Vec<u8>),
    /// An event, a greeting or a heartbeat of an event stream.
    Event(Vec<u8>),
    /// The last chunk of an event stream.
    LastChunk,
    /// The end of the connection.
    End,
}

impl std::fmt::Debug for Unit {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unit::Answer(answer) => write!(formatter, "{answer:#?}"),
            Unit::Frame(bytes) => write!(formatter, "frame \"{}\"", bytes.escape_ascii()),
            Unit::Event(bytes) => write!(formatter, "event \"{}\"", bytes.escape_ascii()),
            Unit::LastChunk => write!(formatter, "the last chunk"),
            Unit::End => write!(formatter, "the end of the connection"),
        }
    }
}

impl Unit {
    /// The server's ping or heartbeat: timed, so it may come anywhere.
    pub fn is_timed(&self) -> bool {
        match self {
            Unit::Frame(bytes) => bytes == b"\x89\x00",
            Unit::Event(bytes) => bytes == b":thump\n\n",
            _ => false,
        }
    }
}

/// An answer's parts that clients act upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// `HTTP/1.1 200 OK`.
    pub status_line: String,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The decoded body.
    pub body: String,
}

impl Answer {
    /// Leaves out what needs no parity or varies: dates, ids, the framing of a complete body.
    pub fn of(response: Response) -> Answer {
        let body = response.text();
        let mut headers: BTreeMap<String, String> = response.headers.into_iter().collect();
        if let Some(id) = headers.get_mut("x-request-id") {
            assert!(is_uuid_4(id), "X-Request-Id: {id}");
            *id = "a UUID".to_string();
        }
        let free = ["date", "x-powered-by", "keep-alive", "transfer-encoding", "content-length"];
        headers.retain(|name, _| !free.contains(&name.as_str()));
        // What HTTP/1.1 means without it; and that an event stream ends with its connection here,
        // which clients see for themselves.
        let is_stream = headers.get("content-type").is_some_and(|it| it == "text/event-stream");
        let means_nothing = |value: &str| is_stream || value == "keep-alive";
        headers.retain(|name, value| name != "connection" || !means_nothing(value));
        Answer { status_line: response.status_line, headers, body }
    }

    /// An answer written down in the list of differences.
    pub fn new(status_line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        let headers = headers.iter().map(owned).collect();
        Answer { status_line: status_line.to_string(), headers, body: body.to_string() }
    }
}

fn is_uuid_4(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let digits = |letter: char| letter.is_ascii_hexdigit() && !letter.is_ascii_uppercase();
    lengths == [8, 4, 4, 4, 12]
        && text.chars().all(|letter| letter == '-' || digits(letter))
        && text.as_bytes()[14] == b'4'
        && b"89ab".contains(&text.as_bytes()[19])
}

/// Takes units out of the bytes of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes that belong to no unit yet.
    pub bytes: Vec<u8>,
    text: Vec<u8>,
    mode: Mode,
    /// The request was HEAD: answers have no body.
    pub head_only: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Answers,
    Frames,
    Chunks,
    /// An event stream that ends with its connection (HTTP/1.0).
    Text,
}

impl Decoder {
    /// Is this connection a WebSocket now?
    pub fn is_websocket(&self) -> bool {
        self.mode == Mode::Frames
    }

    /// Is this connection an event stream now?
    pub fn is_event_stream(&self) -> bool {
        matches!(self.mode, Mode::Chunks | Mode::Text)
    }

    /// The next unit, if it is complete. `ended`: no more bytes will come.
    pub fn take(&mut self, ended: bool) -> Option<Unit> {
        let unit = match self.mode {
            Mode::Answers => self.take_answer(ended),
            Mode::Frames => self.take_frame(),
            Mode::Chunks | Mode::Text => self.take_event(),
        };
        let nothing_left = self.bytes.is_empty() && self.text.is_empty();
        unit.or_else(|| (ended && nothing_left).then_some(Unit::End))
    }

    fn take_answer(&mut self, ended: bool) -> Option<Unit> {
        if self.head_only {
            let length = find(&self.bytes, b"\r\n\r\n")? + 4;
            let head: Vec<u8> = self.bytes.drain(..length).collect();
            return Some(Unit::Answer(Answer::of(parse_head(&head))));
        }
        let response = take_response(&mut self.bytes, ended)?;
        self.mode = match response.status {
            101 => Mode::Frames,
            _ if !response.goes_on() => Mode::Answers,
            _ if response.header("transfer-encoding") == Some("chunked") => Mode::Chunks,
            _ => Mode::Text,
        };
        Some(Unit::Answer(Answer::of(response)))
    }

    fn take_frame(&mut self) -> Option<Unit> {
        let length = frame_length(&self.bytes)?;
        Some(Unit::Frame(self.bytes.drain(..length).collect()))
    }

    fn take_event(&mut self) -> Option<Unit> {
        loop {
            let end = match self.text.starts_with(b":)\n") {
                true => Some(3),
                false => find(&self.text, b"\n\n").map(|end| end + 2),
            };
            if let Some(end) = end {
                return Some(Unit::Event(self.text.drain(..end).collect()));
            }
            if self.mode == Mode::Text {
                if self.bytes.is_empty() {
                    return None;
                }
                self.text.append(&mut self.bytes);
                continue;
            }
            let (length, chunk) = decode_chunk(&self.bytes)?;
            self.bytes.drain(..length);
            if chunk.is_empty() {
                return Some(Unit::LastChunk);
            }
            self.text.extend_from_slice(&chunk);
        }
    }
}

/// The length of the unmasked frame at the start; `None` if it is not complete.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let length = match *bytes.get(1)? {
        126 => usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)) + 4,
        127 => u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize + 10,
        short => usize::from(short & 0x7f) + 2,
    };
    (bytes.len() >= length).then_some(length)
}
