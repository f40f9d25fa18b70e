//! Answers: whole responses appended to the connection's output.

use std::io::Write;

use super::{Head, RequestId};
use crate::protocol::sse;

/// The answer to a client that sent no complete head in time; close after it.
pub const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n";

/// What a client is told whose request nobody will read; close after it.
pub const TRY_LATER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    Access-Control-Allow-Origin: *\r\nConnection: close\r\nRetry-After: 5\r\n\
    Content-Type: application/json\r\nContent-Length: 27\r\n\r\n{\"error\":\"Try again later\"}";

/// One request as its answer sees it. Each method appends one whole answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// Carried by every answer.
    pub request_id: RequestId,
    /// Whether the connection stays open after the answer; if not, the answer says so and the
    /// caller closes.
    pub keep_alive: bool,
    /// Whether the request was a `HEAD`: the answer has the headers of the body, but no body.
    pub head_only: bool,
    /// Whether the client knows the chunked coding: it speaks HTTP/1.1 (RFC 9112 section 6.1).
    pub chunked: bool,
}

impl Exchange {
    /// The exchange that a request head opens.
    pub fn new(head: &Head<'_>, request_id: RequestId) -> Self {
        Self {
            request_id,
            keep_alive: head.keep_alive(),
            head_only: head.method == "HEAD",
            chunked: head.version_minor > 0,
        }
    }

    /// 200 `OK` of the health check.
    pub fn health(&self, out: &mut Vec<u8>) {
        self.begin(200, out);
        out.extend_from_slice(b"Content-Type: text/plain\r\nCache-Control: private, no-store\r\n");
        self.finish(b"OK", out);
    }

    /// The answer to "can it serve?": 200 or 503, with a JSON text that says why.
    pub fn readiness(&self, is_ready: bool, json: &str, out: &mut Vec<u8>) {
        self.begin(if is_ready { 200 } else { 503 }, out);
        out.extend_from_slice(
            b"Content-Type: application/json\r\nCache-Control: private, no-store\r\n",
        );
        self.finish(json.as_bytes(), out);
    }

    /// 200 with a whole HTML page: the demonstration's.
    pub fn page(&self, html: &[u8], out: &mut Vec<u8>) {
        self.begin(200, out);
        out.extend_from_slice(
            b"Content-Type: text/html; charset=utf-8\r\nCache-Control: private, no-store\r\n",
        );
        self.finish(html, out);
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

    /// 503 or 429: overload, or a dependency away; never 401, because some clients give up for good
    /// on that.
    pub fn later(&self, status: u16, message: &str, retry_after_secs: u32, out: &mut Vec<u8>) {
        self.begin(status, out);
        let _ = write!(out, "Retry-After: {retry_after_secs}\r\n");
        self.finish_error(message, out);
    }

    /// 404 without a body: the favicon.
    pub fn not_found(&self, out: &mut Vec<u8>) {
        self.begin(404, out);
        self.finish(b"", out);
    }

    /// 404 with Express' page: another method on the path of a stream. The query never shows in it,
    /// because it may hold a token.
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

    /// 200 and the first chunk of an event stream. What follows are chunks of [`sse`]; the
    /// connection carries no further request, and says so.
    pub fn event_stream(&self, out: &mut Vec<u8>) {
        Self { keep_alive: false, ..*self }.event_stream_head(out);
        match self.chunked {
            true => out.extend_from_slice(sse::GREETING),
            false => out.extend_from_slice(&sse::without_chunks(sse::GREETING)),
        }
    }

    /// The head of an event stream's answer, for `HEAD`. `X-Accel-Buffering` makes nginx pass
    /// events on at once.
    pub fn event_stream_head(&self, out: &mut Vec<u8>) {
        self.begin(200, out);
        out.extend_from_slice(
            b"Content-Type: text/event-stream\r\nCache-Control: private, no-store\r\n\
              X-Accel-Buffering: no\r\n",
        );
        if self.chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        out.extend_from_slice(b"\r\n");
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::limits::Limits, protocol::http::parse_head};

    /// The answer to a request, given its first line without the version and further header lines.
    fn answer(
        line: &str,
        headers: &str,
        write: impl FnOnce(&Exchange, &Head<'_>, &mut Vec<u8>),
    ) -> String {
        let bytes = format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        let (head, _) = parse_head(bytes.as_bytes(), &Limits::default()).unwrap().unwrap();
        let mut out = Vec::new();
        write(&Exchange::new(&head, RequestId::new([0; 16])), &head, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn expected(status: &str, rest: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\nX-Request-Id: 00000000-0000-4000-8000-000000000000\r\n\
             Access-Control-Allow-Origin: *\r\n{rest}"
        )
    }

    #[test]
    fn health_says_ok_and_to_head_only_the_headers_of_it() {
        let headers = "Content-Type: text/plain\r\nCache-Control: private, no-store\r\n\
                       Content-Length: 2\r\n\r\n";
        let get = answer("GET /", "", |exchange, _, out| exchange.health(out));
        assert_eq!(get, expected("200 OK", &format!("{headers}OK")));
        let head = answer("HEAD /", "", |exchange, _, out| exchange.health(out));
        assert_eq!(head, expected("200 OK", headers));
    }

    #[test]
    fn a_connection_that_will_be_closed_is_told_so() {
        let closing = answer("GET /", "Connection: close\r\n", |exchange, _, out| {
            exchange.health(out);
        });
        assert!(closing.contains("\r\nConnection: close\r\n"), "{closing}");
    }

    #[test]
    fn errors_are_json_as_captured() {
        let body = "Content-Type: application/json\r\nContent-Length: 37\r\n\r\n\
                    {\"error\":\"Unknown channel requested\"}";
        let got = answer("GET /", "", |exchange, _, out| {
            exchange.error(400, "Unknown channel requested", out);
        });
        assert_eq!(got, expected("400 Bad Request", body));
        let got = answer("GET /", "", |exchange, _, out| exchange.later(503, "Busy", 3, out));
        assert!(got.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(got.contains("\r\nRetry-After: 3\r\n"), "{got}");
    }

    #[test]
    fn metrics_and_the_favicon_are_as_captured() {
        let got = answer("GET /metrics", "", |exchange, _, out| exchange.metrics("a 1\n", out));
        let rest = "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
                    Cache-Control: private, no-store\r\nContent-Length: 4\r\n\r\na 1\n";
        assert_eq!(got, expected("200 OK", rest));
        let got = answer("GET /favicon.ico", "", |exchange, _, out| exchange.not_found(out));
        assert_eq!(got, expected("404 Not Found", "Content-Length: 0\r\n\r\n"));
    }

    #[test]
    fn a_preflight_allows_what_it_asks_for() {
        let line = "Access-Control-Request-Headers: authorization\r\n";
        let got = answer("OPTIONS /x", line, |exchange, head, out| exchange.preflight(head, out));
        let rest = "Access-Control-Allow-Methods: GET,HEAD,PUT,PATCH,POST,DELETE\r\n\
                    Vary: Access-Control-Request-Headers\r\n\
                    Access-Control-Allow-Headers: authorization\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(got, expected("204 No Content", rest));
        let got = answer("OPTIONS *", "", |exchange, head, out| exchange.preflight(head, out));
        assert!(!got.contains("Allow-Headers"), "{got}");
    }

    #[test]
    fn the_page_for_other_methods_is_as_captured_and_shows_no_token() {
        let line = "POST /api/v1/streaming/user?access_token=tok-1";
        let got = answer(line, "", |exchange, head, out| exchange.cannot(head, out));
        assert!(got.contains("\r\nContent-Length: 161\r\n"), "{got}");
        assert!(got.ends_with(
            "\r\n\r\n<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <title>Error</title>\n</head>\n<body>\n\
             <pre>Cannot POST /api/v1/streaming/user</pre>\n</body>\n</html>\n"
        ));
        let line = "PUT /<script>&\"'";
        let got = answer(line, "", |exchange, head, out| exchange.cannot(head, out));
        assert!(got.contains("PUT /&lt;script&gt;&amp;&quot;&#39;<"), "{got}");
    }

    #[test]
    fn an_event_stream_begins_with_its_greeting() {
        let got = answer("GET /", "", |exchange, _, out| exchange.event_stream(out));
        let rest = "Connection: close\r\nContent-Type: text/event-stream\r\n\
                    Cache-Control: private, no-store\r\nX-Accel-Buffering: no\r\n\
                    Transfer-Encoding: chunked\r\n\r\n3\r\n:)\n\r\n";
        assert_eq!(got, expected("200 OK", rest));
    }
}
