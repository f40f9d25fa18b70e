//! Answers: whole responses appended to the connection's output.

use std::io::Write;

use super::{Head, RequestId};
use crate::protocol::sse;

/// The answer to a client that sent no complete head in time; close after it.
pub const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n";

/// One request as its answer sees it. Each method appends one whole answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// Carried by every answer.
    pub request_id: RequestId,
    /// Whether the connection stays open after the answer; if not, the answer says so and the caller closes.
    pub keep_alive: bool,
    /// Whether the request was a `HEAD`: the answer has the headers of the body, but no body.
    pub head_only: bool,
}

impl Exchange {
    /// The exchange that a request head opens.
    pub fn new(head: &Head<'_>, request_id: RequestId) -> Self {
        Self { request_id, keep_alive: head.keep_alive(), head_only: head.method == "HEAD" }
    }

    /// 200 `OK` of the health check.
    pub fn health(&self, out: &mut Vec<u8>) {
        self.begin(200, out);
        out.extend_from_slice(b"Content-Type: text/plain\r\nCache-Control: private, no-store\r\n");
        self.finish(b"OK", out);
    }

    /// 200 with the metrics in Prometheus' text format.
    pub fn metrics(&self, text: &str, out: &mut Vec<u8>) {
        self.begin(200, out);
        out.extend_from_slice(
            b"Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
              Cache-Control: private, no-store\r\n",
        );
        self.finish(text.as_bytes(), out);
    }

    /// `{"error":"…"}` with a status. The message is one of ours, never text of a client.
    pub fn error(&self, status: u16, message: &str, out: &mut Vec<u8>) {
        self.begin(status, out);
        self.finish_error(message, out);
    }

    /// 503: overload or a dependency away; never 401, because some clients give up for good on that.
    pub fn unavailable(&self, message: &str, retry_after_secs: u32, out: &mut Vec<u8>) {
        self.begin(503, out);
        let _ = write!(out, "Retry-After: {retry_after_secs}\r\n");
        self.finish_error(message, out);
    }

    /// 404 without a body: the favicon.
    pub fn not_found(&self, out: &mut Vec<u8>) {
        self.begin(404, out);
        self.finish(b"", out);
    }

    /// 404 with Express' page: another method on the path of a stream. The query never shows in it, because it
    /// may hold a token.
    pub fn cannot(&self, head: &Head<'_>, out: &mut Vec<u8>) {
        let mut page = String::from(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <title>Error</title>\n</head>\n<body>\n<pre>Cannot ",
        );
        push_escaped(&mut page, head.method);
        page.push(' ');
        push_escaped(&mut page, head.path);
        page.push_str("</pre>\n</body>\n</html>\n");
        self.begin(404, out);
        out.extend_from_slice(
            b"Content-Security-Policy: default-src 'none'\r\nX-Content-Type-Options: nosniff\r\n\
              Content-Type: text/html; charset=utf-8\r\n",
        );
        self.finish(page.as_bytes(), out);
    }

    /// 204 to any `OPTIONS`: a CORS preflight that allows what it asks for.
    pub fn preflight(&self, head: &Head<'_>, out: &mut Vec<u8>) {
        self.begin(204, out);
        out.extend_from_slice(
            b"Access-Control-Allow-Methods: GET,HEAD,PUT,PATCH,POST,DELETE\r\n\
              Vary: Access-Control-Request-Headers\r\n",
        );
        if let Some(wanted) = head.joined("access-control-request-headers") {
            out.extend_from_slice(b"Access-Control-Allow-Headers: ");
            out.extend_from_slice(&wanted);
            out.extend_from_slice(b"\r\n");
        }
        self.finish(b"", out);
    }

    /// 200 and the first chunk of an event stream. What follows are chunks of [`sse`]; the connection carries
    /// no further request. `X-Accel-Buffering` makes nginx pass events on at once.
    pub fn event_stream(&self, out: &mut Vec<u8>) {
        self.begin(200, out);
        out.extend_from_slice(
            b"Content-Type: text/event-stream\r\nCache-Control: private, no-store\r\n\
              X-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        out.extend_from_slice(sse::GREETING);
    }

    fn begin(&self, status: u16, out: &mut Vec<u8>) {
        let reason = reason_phrase(status);
        // Writing to a `Vec` does not fail.
        let _ = write!(
            out,
            "HTTP/1.1 {status} {reason}\r\nX-Request-Id: {}\r\nAccess-Control-Allow-Origin: *\r\n",
            self.request_id
        );
        if !self.keep_alive {
            out.extend_from_slice(b"Connection: close\r\n");
        }
    }

    fn finish_error(&self, message: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Content-Type: application/json\r\n");
        self.finish(format!("{{\"error\":\"{message}\"}}").as_bytes(), out);
    }

    fn finish(&self, body: &[u8], out: &mut Vec<u8>) {
        let _ = write!(out, "Content-Length: {}\r\n\r\n", body.len());
        if !self.head_only {
            out.extend_from_slice(body);
        }
    }
}

/// The words that go with a status that this server sends.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

fn push_escaped(page: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            '"' => page.push_str("&quot;"),
            '\'' => page.push_str("&#39;"),
            other => page.push(other),
        }
    }
}
