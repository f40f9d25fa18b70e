//! HTTP requests as text, answers taken apart.

/// A request head.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// `GET` of a path with its query.
    pub fn get(target: &str) -> Request {
        Request::new("GET", target)
    }

    /// Any method.
    pub fn new(method: &str, target: &str) -> Request {
        let headers = vec![("Host".to_string(), "trunkline.example".to_string())];
        Request { method: method.to_string(), target: target.to_string(), headers }
    }

    /// The opening handshake of a WebSocket, with the key of RFC 6455's example.
    pub fn websocket(target: &str) -> Request {
        Request::get(target)
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
    }

    /// Adds a header.
    pub fn header(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.to_string(), value.to_string()));
        self
    }

    /// Adds a parameter to the query.
    pub fn query(mut self, name: &str, value: &str) -> Request {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        self.target.push_str(&format!("{separator}{name}={value}"));
        self
    }

    /// The bytes to send.
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

/// An answer. A body without an end (an event stream) is left in the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The status line.
    pub status_line: String,
    /// Header names in lower case, in the order of their coming.
    pub headers: Vec<(String, String)>,
    /// The decoded body.
    pub body: Vec<u8>,
}

impl Response {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let name = name.to_lowercase();
        let found = self.headers.iter().find(|(given, _)| *given == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Is this the head of something that goes on: an event stream or a WebSocket?
    pub fn goes_on(&self) -> bool {
        let stream = self.header("content-type").is_some_and(|kind| kind == "text/event-stream");
        self.status == 101 || (stream && self.status == 200)
    }
}

/// Takes a complete answer out of `bytes`; `None` if more is needed. `ended`: no more will come.
pub fn take_response(bytes: &mut Vec<u8>, ended: bool) -> Option<Response> {
    let head_length = find(bytes, b"\r\n\r\n")? + 4;
    let mut response = parse_head(&bytes[..head_length]);
    let length = match body_length(&response, &bytes[head_length..], ended)? {
        Body::Plain(length) => {
            response.body = bytes[head_length..head_length + length].to_vec();
            length
        }
        Body::Chunked(length, body) => {
            response.body = body;
            length
        }
    };
    bytes.drain(..head_length + length);
    Some(response)
}

enum Body {
    Plain(usize),
    Chunked(usize, Vec<u8>),
}

fn body_length(response: &Response, rest: &[u8], ended: bool) -> Option<Body> {
    if response.goes_on() || matches!(response.status, 100 | 204 | 304) {
        return Some(Body::Plain(0));
    }
    if let Some(length) = response.header("content-length") {
        let length = length.parse().expect("a content length");
        return (rest.len() >= length).then_some(Body::Plain(length));
    }
    if response.header("transfer-encoding") == Some("chunked") {
        return decode_chunks(rest).map(|(length, body)| Body::Chunked(length, body));
    }
    let closes = response.header("connection") == Some("close");
    (!closes || ended).then_some(Body::Plain(rest.len()))
}

/// Decodes a whole chunked body: its length on the wire and its bytes; `None` if it is not
/// complete.
pub fn decode_chunks(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut body = Vec::new();
    let mut place = 0;
    while let Some((length, chunk)) = decode_chunk(&bytes[place..]) {
        place += length;
        if chunk.is_empty() {
            return Some((place, body));
        }
        body.extend_from_slice(&chunk);
    }
    None
}

/// Decodes the chunk at the start: its length on the wire and its bytes, empty for the last.
pub fn decode_chunk(bytes: &[u8]) -> Option<(usize, Vec<u8>)> {
    let line = find(bytes, b"\r\n")?;
    let digits = std::str::from_utf8(&bytes[..line]).expect("a chunk length");
    let size = usize::from_str_radix(digits, 16).expect("a chunk length in hexadecimal");
    let end = line + 2 + size + 2;
    (bytes.len() >= end).then(|| (end, bytes[line + 2..line + 2 + size].to_vec()))
}

/// Where `needle` begins.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// Parses a head, from the status line to the empty line.
pub fn parse_head(head: &[u8]) -> Response {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.trim_end().split("\r\n");
    let status_line = lines.next().unwrap_or_default().to_string();
    let code = status_line.split(' ').nth(1).unwrap_or_default();
    let status = code.parse().unwrap_or_else(|_| panic!("no status line: {status_line:?}"));
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_string()))
        .collect();
    Response { status, status_line, headers, body: Vec::new() }
}
