//! Replies of Redis. Whatever the bytes:
//!
//! * in one piece, in pieces and byte by byte the same replies come, up to the same error;
//! * they are what a second, recursive reader of RESP2 finds, and what the crate `redis-protocol`
//!   finds by itself; what that reader waits for is waited for, what it refuses is refused;
//! * no length takes memory before its bytes have come;
//! * after an error nothing has been used up;
//! * what was read, written anew, is read again.

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode;
use redis_protocol::resp2::types::OwnedFrame;
use trunkline::protocol::resp::{self, Reply, ReplyLimits, RespError, next_reply};

use super::cuts;

/// Small enough to be reached.
const LIMITS: ReplyLimits = ReplyLimits { bytes_max: 300, values_max: 12 };
/// Arrays in arrays.
const DEPTH_MAX: usize = 3;

pub fn check(input: &[u8]) {
    let mut dice = cuts::dice(input);
    let whole = read(&[input]);
    for pieces in [cuts::bytes(input), cuts::pieces(input, &mut dice)] {
        assert_eq!(read(&pieces), whole, "depends on the cuts");
    }
    let mut rest = input;
    for reply in &whole.0 {
        let (value, length) = Reader::new(rest).whole().unwrap().unwrap();
        assert_eq!(value, *reply);
        // The crate wants errors to be UTF-8.
        if let Ok(frame) = decode(rest) {
            assert_eq!(
                frame.map(|(frame, used)| (uncounted(frame), used)),
                Some((plain(&value), length))
            );
        } else {
            assert!(rest[..length].contains(&b'-') && !rest.is_ascii(), "the crate refuses it");
        }
        rest = &rest[length..];
        round_trip(reply);
    }
    let next = Reader::new(rest).whole();
    match &whole.1 {
        None => assert_eq!(next, Ok(None), "waits for {:?}", rest.escape_ascii()),
        Some(_) => assert_eq!(next, Err(()), "refuses {:?}", rest.escape_ascii()),
    }
    let words: Vec<&[u8]> = input.split(|byte| *byte == b' ').take(LIMITS.values_max - 1).collect();
    command(&words);
}

type Read = (Vec<Reply>, Option<RespError>);

fn read(pieces: &[&[u8]]) -> Read {
    let mut input = BytesMut::new();
    let mut replies = Vec::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            let (before, capacity) = (input.clone(), input.capacity());
            match next_reply(&mut input, LIMITS) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => {
                    assert!(input == before, "used something up");
                    break;
                }
                Err(error) => {
                    assert!(input == before, "used something up");
                    return (replies, Some(error));
                }
            }
            assert!(input.capacity() <= capacity, "took memory");
        }
    }
    (replies, None)
}

/// <https://redis.io/docs/latest/develop/reference/protocol-spec/>, by recursion.
struct Reader<'a> {
    input: &'a [u8],
    values: u64,
    /// There is a number that is none; told when the reply is there whole.
    has_bad_number: bool,
}

type Found<T> = Result<Option<T>, ()>;

impl<'a> Reader<'a> {
    fn new(input: &'a [u8]) -> Self {
        Reader { input, values: 1, has_bad_number: false }
    }

    fn whole(mut self) -> Found<(Reply, usize)> {
        let found = self.value(0, 0)?;
        if found.is_some() && self.has_bad_number { Err(()) } else { Ok(found) }
    }

    /// The value at `at`, and where it ends.
    fn value(&mut self, at: usize, depth: usize) -> Found<(Reply, usize)> {
        let rest = self.input.get(at..).unwrap_or_default();
        let Some(kind) = rest.first() else { return Ok(None) };
        if !b"+-:$*".contains(kind) {
            return Err(());
        }
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let line = rest[1..end].strip_suffix(b"\r").ok_or(())?;
        if line.contains(&b'\r') {
            return Err(());
        }
        let next = at + end + 1;
        fits(next)?;
        let text = |line: &[u8]| Bytes::copy_from_slice(line);
        Ok(Some(match kind {
            b'+' => (Reply::Status(text(line)), next),
            b'-' => (Reply::Error(text(line)), next),
            b':' => (Reply::Integer(self.integer(line)), next),
            b'$' => return self.bulk(line, next),
            _ => return self.array(line, next, depth),
        }))
    }

    fn integer(&mut self, line: &[u8]) -> i64 {
        let number = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok());
        self.has_bad_number |= number.is_none();
        number.unwrap_or_default()
    }

    fn bulk(&self, line: &[u8], start: usize) -> Found<(Reply, usize)> {
        let Some(length) = length(line)? else { return Ok(Some((Reply::Null, start))) };
        let end = start.checked_add(length).ok_or(())?;
        fits(end.checked_add(2).ok_or(())?)?;
        let Some(content) = self.input.get(start..end + 2) else { return Ok(None) };
        let content = content.strip_suffix(b"\r\n").ok_or(())?;
        Ok(Some((Reply::Bulk(Bytes::copy_from_slice(content)), end + 2)))
    }

    fn array(&mut self, line: &[u8], start: usize, depth: usize) -> Found<(Reply, usize)> {
        let Some(count) = length(line)? else { return Ok(Some((Reply::Null, start))) };
        self.values = self.values.saturating_add(count as u64);
        if self.values > LIMITS.values_max as u64 || count > 0 && depth == DEPTH_MAX {
            return Err(());
        }
        let (mut replies, mut at) = (Vec::new(), start);
        for _ in 0..count {
            let Some((reply, end)) = self.value(at, depth + 1)? else { return Ok(None) };
            replies.push(reply);
            at = end;
        }
        let is = |reply: &Reply, word: &[u8]| matches!(reply, Reply::Bulk(bytes) if bytes == word);
        Ok(Some(match &replies[..] {
            [kind, Reply::Bulk(channel), Reply::Bulk(payload)] if is(kind, b"message") => {
                (Reply::Message { channel: channel.clone(), payload: payload.clone() }, at)
            }
            [kind, Reply::Bulk(name), Reply::Integer(_)] if is(kind, b"subscribe") => {
                (Reply::Subscribed(name.clone()), at)
            }
            [kind, Reply::Bulk(name), Reply::Integer(_)] if is(kind, b"unsubscribe") => {
                (Reply::Unsubscribed(name.clone()), at)
            }
            _ => (Reply::Array(replies), at),
        }))
    }
}

fn fits(end: usize) -> Result<(), ()> {
    if end > LIMITS.bytes_max { Err(()) } else { Ok(()) }
}

fn length(line: &[u8]) -> Found<usize> {
    let text = std::str::from_utf8(line).map_err(|_| ())?;
    match text {
        "-1" => Ok(None),
        _ if text.starts_with(['+', '-']) || text.len() > 18 => Err(()),
        _ => text.parse().map(Some).map_err(|_| ()),
    }
}

/// As the crate has it, which knows no messages.
fn plain(reply: &Reply) -> OwnedFrame {
    let bulk = |bytes: &[u8]| OwnedFrame::BulkString(bytes.to_vec());
    let push =
        |kind: &[u8], name: &Bytes, last| OwnedFrame::Array(vec![bulk(kind), bulk(name), last]);
    match reply {
        Reply::Message { channel, payload } => push(b"message", channel, bulk(payload)),
        Reply::Subscribed(name) => push(b"subscribe", name, OwnedFrame::Integer(1)),
        Reply::Unsubscribed(name) => push(b"unsubscribe", name, OwnedFrame::Integer(1)),
        Reply::Status(text) => OwnedFrame::SimpleString(text.to_vec()),
        Reply::Error(text) => OwnedFrame::Error(String::from_utf8_lossy(text).into_owned()),
        Reply::Integer(number) => OwnedFrame::Integer(*number),
        Reply::Bulk(bytes) => bulk(bytes),
        Reply::Null => OwnedFrame::Null,
        Reply::Array(replies) => OwnedFrame::Array(replies.iter().map(plain).collect()),
    }
}

/// How many subscriptions there are is of no interest: 1.
fn uncounted(frame: OwnedFrame) -> OwnedFrame {
    let OwnedFrame::Array(mut frames) = frame else { return frame };
    if let [OwnedFrame::BulkString(kind), OwnedFrame::BulkString(_), OwnedFrame::Integer(count)] =
        &mut frames[..]
        && matches!(&kind[..], b"subscribe" | b"unsubscribe")
    {
        *count = 1;
    }
    OwnedFrame::Array(frames.into_iter().map(uncounted).collect())
}

fn round_trip(reply: &Reply) {
    let mut wire = Vec::new();
    write(reply, &mut wire);
    let (replies, error) = read(&[&wire]);
    // Written in full it may be a little longer than it came.
    if error.is_none() || wire.len() <= LIMITS.bytes_max {
        assert_eq!((replies, error), (vec![reply.clone()], None));
    }
}

fn write(reply: &Reply, out: &mut Vec<u8>) {
    let line = |out: &mut Vec<u8>, kind: &[u8], text: &[u8]| {
        out.extend_from_slice(&[kind, text, b"\r\n"].concat());
    };
    let mut push = |kind: &[u8], name: &[u8]| {
        line(out, b"*", b"3");
        resp::push_argument(out, kind);
        resp::push_argument(out, name);
    };
    match reply {
        Reply::Message { channel, payload } => {
            push(b"message", channel);
            resp::push_argument(out, payload);
        }
        Reply::Subscribed(name) => {
            push(b"subscribe", name);
            line(out, b":", b"1");
        }
        Reply::Unsubscribed(name) => {
            push(b"unsubscribe", name);
            line(out, b":", b"1");
        }
        Reply::Status(text) => line(out, b"+", text),
        Reply::Error(text) => line(out, b"-", text),
        Reply::Integer(number) => line(out, b":", number.to_string().as_bytes()),
        Reply::Bulk(bytes) => resp::push_argument(out, bytes),
        Reply::Null => line(out, b"$", b"-1"),
        Reply::Array(replies) => {
            line(out, b"*", replies.len().to_string().as_bytes());
            replies.iter().for_each(|reply| write(reply, out));
        }
    }
}

/// What we say is an array of strings to whoever reads it.
fn command(words: &[&[u8]]) {
    let mut wire = Vec::new();
    resp::encode_command(&mut wire, words);
    let words = words.iter().map(|word| OwnedFrame::BulkString(word.to_vec())).collect();
    assert_eq!(decode(&wire), Ok(Some((OwnedFrame::Array(words), wire.len()))));
}
