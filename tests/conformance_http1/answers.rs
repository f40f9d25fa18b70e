//! Answers, read as strictly as requests should be.

use crate::support::http::{decode_chunks, find, parse_head};

/// An answer without what varies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// It says that the connection is closed behind it.
    pub closes: bool,
    /// A refusal of the parser: it carries nothing but `Connection: close`.
    pub is_refusal: bool,
    /// Names in lower case and values, without what varies.
    pub headers: Vec<(String, String)>,
    /// The decoded body; what follows a 101.
    pub body: Vec<u8>,
}

/// Takes everything that came on a connection, to its end, apart; an error is what no client could
/// read. `is_head`: the first request was a `HEAD`.
pub fn answers_of(mut bytes: &[u8], is_head: bool) -> Result<Vec<Answer>, String> {
    let mut answers = Vec::new();
    while !bytes.is_empty() {
        let (answer, length) = answer_of(bytes, is_head && answers.is_empty())
            .map_err(|error| format!("{error}: {}", bytes.escape_ascii()))?;
        answers.push(answer);
        bytes = &bytes[length..];
    }
    Ok(answers)
}

/// The answer at the start, and its length on the wire.
fn answer_of(bytes: &[u8], has_no_body: bool) -> Result<(Answer, usize), &'static str> {
    let head_length = find(bytes, b"\r\n\r\n").ok_or("half a head")? + 4;
    let (head, rest) = bytes.split_at(head_length);
    if !head.starts_with(b"HTTP/1.1 ") {
        return Err("no answer");
    }
    let response = parse_head(head);
    let mut headers = response.headers.clone();
    headers.retain(|(name, _)| name != "x-request-id");
    let is_measured = response.header("content-type").is_some_and(|it| it.contains("0.0.4"));
    let length = response.header("content-length");
    let is_chunked = response.header("transfer-encoding") == Some("chunked");
    let is_refusal = length.is_none() && response.status >= 400;
    let (body_length, body) = match length {
        _ if has_no_body => (0, Vec::new()),
        Some(length) => {
            let length = length.parse().map_err(|_| "no length")?;
            (length, rest.get(..length).ok_or("half a body")?.to_vec())
        }
        None if is_chunked => decode_chunks(rest).ok_or("half a chunked body")?,
        None => (rest.len(), rest.to_vec()),
    };
    // The figures of `/metrics` vary.
    let body = if is_measured { Vec::new() } else { body };
    headers.retain(|(name, _)| !is_measured || name != "content-length");
    let option = response.header("connection").unwrap_or_default();
    let closes = option.split(", ").any(|option| option == "close");
    let answer = Answer { status: response.status, closes, is_refusal, headers, body };
    Ok((answer, head_length + body_length))
}

/// `200 | 400 close`; a 101 with the frames behind it in hexadecimal digits.
pub fn shown(answers: &[Answer]) -> String {
    let one = |answer: &Answer| match (answer.status, answer.closes) {
        (101, _) => {
            let digits: String = answer.body.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("101 {digits} close")
        }
        (status, true) => format!("{status} close"),
        (status, false) => status.to_string(),
    };
    answers.iter().map(one).collect::<Vec<_>>().join(" | ")
}

/// How many requests the server has read: those that it answered and did not refuse.
pub fn requests_read(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| !answer.is_refusal).count()
}
