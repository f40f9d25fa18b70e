//! A WebSocket client of the plainest kind: every frame is seen, nothing is answered by itself.

use std::time::Instant;

use serde_json::{Value, json};

use super::http::{Request, Response};
use super::patience::PATIENCE;
use super::server::Server;
use super::socket::Socket;

/// A message or control frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text frame.
    Text(String),
    /// A binary frame.
    Binary(Vec<u8>),
    /// A ping with its payload.
    Ping(Vec<u8>),
    /// A pong with its payload.
    Pong(Vec<u8>),
    /// A close frame: code (none if the frame is empty) and reason.
    Close(Option<u16>, String),
    /// The end of the connection.
    End,
}

/// An event as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// `["hashtag", "Caturday"]`.
    pub stream: Vec<String>,
    /// `update`.
    pub event: String,
    /// The payload's text.
    pub payload: String,
}

/// A WebSocket after its handshake.
#[derive(Debug)]
pub struct WebSocket {
    /// The socket beneath.
    pub socket: Socket,
    /// The server's answer to the handshake.
    pub response: Response,
    barriers: u32,
}

impl WebSocket {
    /// Connects with `target` as path and query; panics unless the server says 101.
    #[track_caller]
    pub fn open(server: &Server, target: &str) -> WebSocket {
        WebSocket::request(server, &Request::websocket(target))
            .unwrap_or_else(|response| panic!("{target}: {response:?}"))
    }

    /// Connects with any request; the answer if it is not 101.
    pub fn request(server: &Server, request: &Request) -> Result<WebSocket, Response> {
        let mut socket = server.connect();
        socket.send(request.bytes());
        WebSocket::adopt(socket)
    }

    /// Reads the answer to a handshake that has been sent.
    pub fn adopt(mut socket: Socket) -> Result<WebSocket, Response> {
        let response = socket.response();
        match response.status {
            101 => Ok(WebSocket { socket, response, barriers: 0 }),
            _ => Err(response),
        }
    }

    /// Sends a text message.
    pub fn send(&mut self, text: &str) {
        self.socket.send(client_frame(0x81, text.as_bytes()));
    }

    /// Subscribes: `json!({"stream": "hashtag", "tag": "x"})`.
    pub fn subscribe(&mut self, what: Value) {
        self.send_typed("subscribe", what);
    }

    /// Unsubscribes.
    pub fn unsubscribe(&mut self, what: Value) {
        self.send_typed("unsubscribe", what);
    }

    fn send_typed(&mut self, kind: &str, mut what: Value) {
        what["type"] = json!(kind);
        self.send(&what.to_string());
    }

    /// The next frame of any kind.
    #[track_caller]
    pub fn next_frame(&mut self) -> Message {
        loop {
            if let Some((message, length)) = parse_frame(&self.socket.received) {
                self.socket.received.drain(..length);
                return message;
            }
            if !self.socket.read_more() {
                let rest = &self.socket.received;
                assert!(rest.is_empty(), "ended within a frame: {}", rest.escape_ascii());
                return Message::End;
            }
        }
    }

    /// The next frame that is no ping; pings are answered.
    #[track_caller]
    pub fn next(&mut self) -> Message {
        // A server that pings and says nothing else must not keep a test waiting for ever.
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "nothing but pings in {PATIENCE:?}");
            match self.next_frame() {
                Message::Ping(payload) => self.socket.send(client_frame(0x8a, &payload)),
                other => return other,
            }
        }
    }

    /// The next text.
    #[track_caller]
    pub fn next_text(&mut self) -> String {
        match self.next() {
            Message::Text(text) => text,
            other => panic!("expected a text, got {other:?}"),
        }
    }

    /// The next event.
    #[track_caller]
    pub fn next_event(&mut self) -> StreamEvent {
        let text = self.next_text();
        StreamEvent::parse(&text).unwrap_or_else(|| panic!("no event: {text}"))
    }

    /// Waits until the server has dealt with everything sent so far; returns the texts that came.
    #[track_caller]
    pub fn barrier(&mut self) -> Vec<String> {
        self.barriers += 1;
        let mark = format!("barrier {}", self.barriers).into_bytes();
        self.socket.send(client_frame(0x89, &mark));
        let mut texts = Vec::new();
        loop {
            match self.next() {
                Message::Pong(payload) if payload == mark => return texts,
                Message::Text(text) => texts.push(text),
                other => panic!("expected the barrier's pong, got {other:?}"),
            }
        }
    }

    /// Reads up to the server's close frame, passing over events, answers it and waits for the end.
    #[track_caller]
    pub fn closed(&mut self) -> (Option<u16>, String) {
        loop {
            match self.next() {
                Message::Close(code, reason) => {
                    let payload = code.map(|code| code.to_be_bytes().to_vec()).unwrap_or_default();
                    self.socket.send(client_frame(0x88, &payload));
                    while self.socket.read_more() {}
                    return (code, reason);
                }
                Message::Text(_) | Message::Pong(_) => {}
                other => panic!("expected a close frame, got {other:?}"),
            }
        }
    }
}

impl StreamEvent {
    /// Parses a server's text message.
    pub fn parse(text: &str) -> Option<StreamEvent> {
        let value: Value = serde_json::from_str(text).ok()?;
        let stream = value["stream"].as_array()?.iter().map(text_of).collect::<Option<_>>()?;
        let event = text_of(&value["event"])?;
        Some(StreamEvent { stream, event, payload: text_of(&value["payload"])? })
    }

    /// The payload parsed as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.payload).expect("a JSON payload")
    }
}

fn text_of(value: &Value) -> Option<String> {
    value.as_str().map(ToString::to_string)
}

/// A frame as clients send it: masked. `first` is the first byte of the header (FIN, RSV, opcode).
pub fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The frame at the start of what a server has sent, and its length; `None` if it is not complete.
pub fn parse_frame(bytes: &[u8]) -> Option<(Message, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert!(second < 0x80, "the server masked a frame");
    let (length, start) = match second {
        126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(start..start + length)?.to_vec();
    let message = match first {
        0x81 => Message::Text(String::from_utf8(payload).expect("UTF-8 in a text frame")),
        0x82 => Message::Binary(payload),
        0x88 if payload.is_empty() => Message::Close(None, String::new()),
        0x88 => {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            Message::Close(Some(code), String::from_utf8(payload[2..].to_vec()).expect("UTF-8"))
        }
        0x89 => Message::Ping(payload),
        0x8a => Message::Pong(payload),
        other => panic!("the server sent a frame that begins with {other:#x}"),
    };
    Some((message, start + length))
}
