//! What a Postgres server says. Whatever the bytes:
//!
//! * in one piece, in pieces and byte by byte the same happens, and the same is answered;
//! * nobody is let in who was not: the connection opens only after an `AuthenticationOk` and a
//!   `ReadyForQuery`, and never when SCRAM has begun, because no fixed bytes can prove that they
//!   know the password;
//! * the password is sent in the clear only to a server that asks for that first;
//! * each reply has exactly the rows that the server sent for it, found here by counting bytes;
//! * what waits unread is less than a message that may come; rows never cost more than their bound;
//! * no detail of an error gets out: it may quote tokens.

use bytes::BytesMut;
use trunkline::config::Secret;
use trunkline::protocol::postgres::{
    Conversation, Failure, Happening, Login, Parameter, Statement,
};

use super::cuts;

/// Small enough to be reached.
const REPLY_BYTES_MAX: usize = 600;
const PASSWORD: &str = "correct horse";
/// Sent as soon as the connection is open.
const STATEMENTS: usize = 3;

pub fn check(input: &[u8]) {
    let mut dice = cuts::dice(input);
    for password in [None, Some(PASSWORD)] {
        let whole = converse(password, &[input]);
        for pieces in [cuts::bytes(input), cuts::pieces(input, &mut dice)] {
            let cut = converse(password, &pieces);
            assert_eq!(cut.happened, whole.happened, "depends on the cuts");
            assert_eq!((cut.failure, cut.said.len()), (whole.failure.clone(), whole.said.len()));
        }
        check_login(input, &whole, password);
        check_replies(input, &whole);
        check_secrets(input, &whole, password);
    }
    statement(&String::from_utf8_lossy(input).replace('\0', ""));
}

/// What came of a server's bytes.
struct Conversed {
    happened: Vec<Happened>,
    failure: Option<Failure>,
    /// What we said.
    said: Vec<u8>,
    /// How much of it before the connection opened.
    said_before: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Happened {
    Open,
    /// The rows, as far as they can be read, or all that is known of the error.
    Reply(Result<Vec<Vec<Column>>, String>),
}

/// `None`: null. An error: no text.
type Column = Result<Option<String>, ()>;

fn converse(password: Option<&str>, pieces: &[&[u8]]) -> Conversed {
    let login = Login {
        user: "mastodon".into(),
        database: "mastodon_production".into(),
        password: password.map(Secret::new),
        application_name: "trunkline".into(),
        options: None,
    };
    let mut output = BytesMut::new();
    let mut conversation = Conversation::start(login, REPLY_BYTES_MAX, &mut output).unwrap();
    let mut conversed = Conversed { happened: vec![], failure: None, said: vec![], said_before: 0 };
    let mut input = BytesMut::new();
    'all: for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match conversation.receive(&mut input, &mut output) {
                Ok(Some(Happening::Open)) => {
                    conversed.happened.push(Happened::Open);
                    conversed.said_before = output.len();
                    for _ in 0..STATEMENTS {
                        let statement = Statement { sql: "select 1", parameters: vec![] };
                        conversation.ask(&statement, &mut output).unwrap();
                    }
                }
                Ok(Some(Happening::Reply(reply))) => {
                    let rows = reply.map_err(|error| format!("{error:?}"));
                    let rows = rows.map(|rows| {
                        let cost: usize = rows.iter().map(text_bytes).sum();
                        assert!(cost <= REPLY_BYTES_MAX, "{cost} bytes of rows");
                        rows.iter().map(read_every_way).collect()
                    });
                    conversed.happened.push(Happened::Reply(rows));
                }
                Ok(None) => break,
                Err(failure) => {
                    conversed.failure = Some(failure);
                    break 'all;
                }
            }
        }
        assert!(input.len() <= REPLY_BYTES_MAX, "{} bytes wait", input.len());
        assert!(input.capacity() <= 4 * REPLY_BYTES_MAX + 4 * piece.len(), "memory was taken");
    }
    conversed.said = output.to_vec();
    conversed
}

fn text_bytes(row: &trunkline::protocol::postgres::Row) -> usize {
    let mut columns = row.columns();
    let next = || columns.text().map(|text| text.map_or(0, str::len));
    std::iter::repeat_with(next).map_while(Result::ok).sum()
}

/// All columns as text, after every other reader has had a look too.
fn read_every_way(row: &trunkline::protocol::postgres::Row) -> Vec<Column> {
    let (mut a, mut b, mut c) = (row.columns(), row.columns(), row.columns());
    let (mut d, mut e) = (row.columns(), row.columns());
    let _ = (a.int8(), b.int4(), c.bool(), d.texts(), e.timestamp_unix_millis());
    let mut columns = row.columns();
    let mut found = Vec::new();
    loop {
        match columns.text() {
            Ok(text) => found.push(Ok(text.map(str::to_owned))),
            Err(error) if error.0.contains("few") => return found,
            Err(_) => found.push(Err(())),
        }
    }
}

/// The server's messages, by counting bytes: type and body.
fn messages(mut input: &[u8]) -> Vec<(u8, &[u8])> {
    let mut messages = Vec::new();
    while let [kind, a, b, c, d, rest @ ..] = input {
        let length = i32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let Some(body) = length.checked_sub(4).and_then(|length| rest.get(..length)) else { break };
        messages.push((*kind, body));
        input = &rest[length - 4..];
    }
    messages
}

fn check_login(input: &[u8], conversed: &Conversed, password: Option<&str>) {
    let messages = messages(input);
    let asked = messages.iter().find(|(kind, _)| *kind == b'R').map(|(_, body)| *body);
    let said = &conversed.said[..];
    let has = |text: &[u8]| said.windows(text.len()).any(|window| window == text);
    let asks_plainly = asked.is_some_and(|body| body.starts_with(&3_i32.to_be_bytes()));
    assert!(asks_plainly || !has(PASSWORD.as_bytes()), "the password in the clear");
    let is_open = conversed.happened.contains(&Happened::Open);
    assert!(!is_open || !has(b"SCRAM-SHA-256"), "believes a server that has proven nothing");
    let lets_in = messages.iter().position(|message| *message == (b'R', &[0; 4]));
    let ready = messages.iter().rposition(|(kind, _)| *kind == b'Z');
    let was_let_in = matches!((lets_in, ready), (Some(lets_in), Some(ready)) if lets_in < ready);
    assert!(!is_open || was_let_in, "open without leave");
    assert!(conversed.happened.iter().skip(1).all(|it| *it != Happened::Open), "opens twice");
    // Trust: nothing but the two messages, and we are in; one that is not as it should be, and not.
    if let [(b'R', [0, 0, 0, 0]), (b'Z', body), ..] = &messages[..] {
        assert_eq!(is_open, body.len() == 1, "let in: {password:?} {:?}", conversed.failure);
    }
}

fn check_replies(input: &[u8], conversed: &Conversed) {
    let Some(Happened::Open) = conversed.happened.first() else {
        assert!(conversed.happened.is_empty(), "a reply before the connection is open");
        return;
    };
    let messages = messages(input);
    let opened = messages.iter().position(|(kind, _)| *kind == b'Z').unwrap();
    let mut replies = messages[opened + 1..].split_inclusive(|(kind, _)| *kind == b'Z');
    assert!(conversed.happened.len() <= 1 + STATEMENTS, "more replies than statements");
    for happened in &conversed.happened[1..] {
        let Happened::Reply(reply) = happened else { panic!("opens twice") };
        let sent = replies.next().unwrap();
        let error = sent.iter().find(|(kind, _)| *kind == b'E');
        assert_eq!(reply.is_err(), error.is_some());
        let Ok(rows) = reply else { continue };
        assert!(sent.iter().any(|(kind, _)| *kind == b'C'), "a reply without an end");
        let sent = sent.iter().filter(|(kind, _)| *kind == b'D');
        let sent: Vec<&[u8]> = sent.map(|(_, body)| *body).collect();
        assert_eq!(rows.len(), sent.len());
        for (row, body) in rows.iter().zip(sent) {
            assert_eq!(*row, columns(body));
        }
    }
}

/// The columns of a row that can be read, by counting bytes.
fn columns(body: &[u8]) -> Vec<Column> {
    let mut columns = Vec::new();
    let Some((count, mut rest)) = body.split_first_chunk() else { return columns };
    for _ in 0..u16::from_be_bytes(*count) {
        let Some((length, after)) = rest.split_first_chunk() else { break };
        let length = i32::from_be_bytes(*length);
        rest = after;
        if length < 0 {
            columns.push(Ok(None));
            continue;
        }
        let Some((text, after)) = rest.split_at_checked(length as usize) else { break };
        columns.push(std::str::from_utf8(text).map(|text| Some(text.to_owned())).map_err(|_| ()));
        rest = after;
    }
    columns
}

/// Fields of errors that may quote what was sent are not even kept: with dots in their place we say
/// and show the very same.
fn check_secrets(input: &[u8], conversed: &Conversed, password: Option<&str>) {
    let mut without = Vec::new();
    for (kind, body) in messages(input) {
        without.extend_from_slice(&input[without.len()..][..5]);
        let mut secret = false;
        let mut before = 0;
        without.extend(body.iter().map(|byte| {
            let is_field = std::mem::replace(&mut before, *byte) == 0;
            secret = if is_field { kind == b'E' && b"DWq".contains(byte) } else { secret };
            if is_field || !secret || *byte == 0 { *byte } else { b'.' }
        }));
    }
    without.extend_from_slice(&input[without.len()..]);
    let other = converse(password, &[&without]);
    assert_eq!((&other.happened, &other.failure), (&conversed.happened, &conversed.failure));
    assert_eq!(other.said.len(), conversed.said.len());
}

/// A statement with any text is the four messages that it should be, and holds the text once.
fn statement(text: &str) {
    let mut output = BytesMut::new();
    let login = Login {
        user: "u".into(),
        database: "d".into(),
        password: None,
        application_name: String::new(),
        options: None,
    };
    let mut conversation = Conversation::start(login, REPLY_BYTES_MAX, &mut output).unwrap();
    let mut welcome = BytesMut::from(&b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I"[..]);
    assert!(matches!(conversation.receive(&mut welcome, &mut output), Ok(Some(Happening::Open))));
    output.clear();
    let words: Vec<&str> = text.split(' ').collect();
    let parameters = vec![Parameter::Text(text), Parameter::TextArray(words.clone())];
    conversation.ask(&Statement { sql: "select $1, $2", parameters }, &mut output).unwrap();
    let messages = messages(&output);
    let kinds: Vec<u8> = messages.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, b"PBES");
    assert_eq!(messages.iter().map(|(_, body)| body.len() + 5).sum::<usize>(), output.len());
    // Two empty names, one format for all parameters (binary), two parameters.
    let values = messages[1].1.strip_prefix(b"\0\0\0\x01\0\x01\0\x02").unwrap();
    let (length, values) = values.split_first_chunk().unwrap();
    let (value, _) = values.split_at(i32::from_be_bytes(*length) as usize);
    assert_eq!(value, text.as_bytes());
}
