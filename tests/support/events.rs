//! A reader of server-sent events that insists on the exact form: LF only, one space
//! after each colon, no field but `event` and `data`, no comment but the two known.

use std::time::Instant;

use super::http::{Request, Response, decode_chunk, find};
use super::patience::PATIENCE;
use super::server::Server;
use super::socket::Socket;

/// An open event stream.
#[derive(Debug)]
pub struct EventStream {
    /// The socket beneath.
    pub socket: Socket,
    /// The head of the answer.
    pub response: Response,
    text: Vec<u8>,
    finished: bool,
}

impl EventStream {
    /// Opens `target` with the token in the `Authorization` header; panics unless the answer is
    /// 200.
    #[track_caller]
    pub fn open(server: &Server, target: &str, token: &str) -> EventStream {
        let request = Request::get(target).header("Authorization", &format!("Bearer {token}"));
        EventStream::request(server, &request)
            .unwrap_or_else(|response| panic!("{target}: {response:?}"))
    }

    /// Sends any request; the answer if it is no event stream.
    pub fn request(server: &Server, request: &Request) -> Result<EventStream, Response> {
        let mut socket = server.connect();
        socket.send(request.bytes());
        let response = socket.response();
        if !response.goes_on() {
            return Err(response);
        }
        let mut stream = EventStream { socket, response, text: Vec::new(), finished: false };
        stream.greeting();
        Ok(stream)
    }

    #[track_caller]
    fn greeting(&mut self) {
        while self.text.len() < 3 && self.read_chunk() {}
        assert!(self.text.starts_with(b":)\n"), "no greeting: {}", self.text.escape_ascii());
        self.text.drain(..3);
    }

    /// The next event: its name and its data. Thumps are passed over.
    #[track_caller]
    pub fn next_event(&mut self) -> (String, String) {
        self.next_or_end().expect("an event, not the end")
    }

    /// The next event, or `None` when the stream ends as it should, with the last chunk.
    #[track_caller]
    pub fn next_or_end(&mut self) -> Option<(String, String)> {
        // A server that thumps and says nothing else must not keep a test waiting for ever.
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "nothing but thumps in {PATIENCE:?}");
            if self.text.starts_with(b":thump\n\n") {
                self.text.drain(..8);
                continue;
            }
            if let Some(end) = find(&self.text, b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                return Some(parse_event(&block[..end]));
            }
            if !self.read_chunk() {
                let rest = self.text.escape_ascii();
                assert!(self.text.is_empty(), "ended within an event: {rest}");
                return None;
            }
        }
    }

    /// Passes over events until the stream ends; it must end with the last chunk.
    #[track_caller]
    pub fn ended(&mut self) {
        while self.next_or_end().is_some() {}
        assert!(self.finished, "the connection ended without the last chunk");
    }

    #[track_caller]
    fn read_chunk(&mut self) -> bool {
        while !self.finished {
            if let Some((length, chunk)) = decode_chunk(&self.socket.received) {
                self.socket.received.drain(..length);
                self.finished = chunk.is_empty();
                self.text.extend_from_slice(&chunk);
                return !self.finished;
            }
            if !self.socket.read_more() {
                return false;
            }
        }
        false
    }
}

fn parse_event(block: &[u8]) -> (String, String) {
    let text = String::from_utf8(block.to_vec()).expect("UTF-8 in an event");
    let (first, rest) = text.split_once('\n').unwrap_or_else(|| panic!("one line only: {text:?}"));
    let name = first.strip_prefix("event: ").unwrap_or_else(|| panic!("no event line: {text:?}"));
    let lines: Vec<&str> = rest
        .split('\n')
        .map(|line| line.strip_prefix("data: ").unwrap_or_else(|| panic!("no data: {text:?}")))
        .collect();
    (name.to_string(), lines.join("\n"))
}
