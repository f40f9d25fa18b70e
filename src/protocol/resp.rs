//! RESP2, the protocol of Redis (<https://redis.io/docs/latest/develop/reference/protocol-spec/>):
//! replies out of a buffer without copying, commands into one.
//!
//! The crate `redis-protocol` reads the values. It recurses into arrays and trusts that they end,
//! so every reply is measured first: bounded in bytes, elements and depth, whole, and well-formed
//! where it matters.

use std::fmt;

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::types::RangeFrame;

use crate::config::Limits;

/// Arrays in arrays: `ROLE` has a list of replicas, each a list. Nothing that is asked for goes
/// deeper.
const DEPTH_MAX: usize = 3;
/// Bytes of a line: a length, a number, a status or an error. Redis' own errors end at some
/// hundred.
const LINE_BYTES_MAX: usize = 64 * 1024;

/// What Redis said. Bytes are views into the buffer that they came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Somebody has published on a channel.
    Message {
        /// The channel's name, with the namespace.
        channel: Bytes,
        /// What was published.
        payload: Bytes,
    },
    /// The end of a `SUBSCRIBE` to one channel.
    Subscribed(Bytes),
    /// The end of an `UNSUBSCRIBE` from one channel.
    Unsubscribed(Bytes),
    /// `+OK` and the like.
    Status(Bytes),
    /// `-ERR …`.
    Error(Bytes),
    /// A number.
    Integer(i64),
    /// A string of bytes.
    Bulk(Bytes),
    /// A missing value.
    Null,
    /// Any other list.
    Array(Vec<Reply>),
}

/// Bounds of one reply.
#[derive(Clone, Copy, Debug)]
pub struct ReplyLimits {
    /// Bytes, all in all.
    pub bytes_max: usize,
    /// Values, those in arrays included.
    pub values_max: usize,
}

/// The server does not speak RESP2 as we know it; the connection is of no further use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RespError {
    /// A reply is longer than `reply_bytes_max`.
    TooLong {
        /// Its bytes, as far as announced.
        bytes: u64,
    },
    /// A reply has more values than `reply_values_max`.
    TooMany,
    /// Arrays in arrays in arrays.
    TooDeep,
    /// Not RESP2.
    Malformed(&'static str),
}

impl ReplyLimits {
    /// Those of the configuration.
    pub fn new(limits: &Limits) -> ReplyLimits {
        ReplyLimits { bytes_max: limits.reply_bytes_max, values_max: limits.reply_values_max }
    }
}

/// Takes the next whole reply out of `input`; `None`: more bytes are needed. After an error `input`
/// is as it was.
pub fn next_reply(input: &mut BytesMut, limits: ReplyLimits) -> Result<Option<Reply>, RespError> {
    let Some(length) = measure(input, limits)? else { return Ok(None) };
    let frame = match decode_range(input.get(..length).unwrap_or_default()) {
        Ok(Some((frame, used))) if used == length => frame,
        Ok(_) => return Err(RespError::Malformed("a reply that does not end where it should")),
        Err(_) => return Err(RespError::Malformed("a reply that cannot be read")),
    };
    let bytes = input.split_to(length).freeze();
    Ok(Some(reply(&bytes, frame)))
}

/// Appends a command with its arguments.
pub fn encode_command(output: &mut Vec<u8>, parts: &[&[u8]]) {
    start_command(output, parts.len());
    for part in parts {
        push_argument(output, part);
    }
}

/// Appends the start of a command of `parts` words (the name included), each to be given to
/// [`push_argument`].
pub fn start_command(output: &mut Vec<u8>, parts: usize) {
    push_number(output, b'*', parts);
}

/// Appends one word of a command.
pub fn push_argument(output: &mut Vec<u8>, part: &[u8]) {
    push_number(output, b'$', part.len());
    output.extend_from_slice(part);
    output.extend_from_slice(b"\r\n");
}

fn push_number(output: &mut Vec<u8>, kind: u8, number: usize) {
    // Writing to a Vec does not fail.
    let _ = std::io::Write::write_fmt(output, format_args!("{}{number}\r\n", kind as char));
}

fn reply(bytes: &Bytes, frame: RangeFrame) -> Reply {
    match frame {
        RangeFrame::SimpleString((from, to)) => Reply::Status(bytes.slice(from..to)),
        RangeFrame::Error((from, to)) => Reply::Error(bytes.slice(from..to)),
        RangeFrame::Integer(number) => Reply::Integer(number),
        RangeFrame::BulkString((from, to)) => Reply::Bulk(bytes.slice(from..to)),
        RangeFrame::Null => Reply::Null,
        RangeFrame::Array(frames) => match push(bytes, &frames) {
            Some(push) => push,
            None => Reply::Array(frames.into_iter().map(|frame| reply(bytes, frame)).collect()),
        },
    }
}

/// What a subscribed connection is told unasked.
fn push(bytes: &Bytes, frames: &[RangeFrame]) -> Option<Reply> {
    let [RangeFrame::BulkString(kind), RangeFrame::BulkString(name), third] = frames else {
        return None;
    };
    let channel = bytes.slice(name.0..name.1);
    match (bytes.get(kind.0..kind.1)?, third) {
        (b"message", RangeFrame::BulkString((from, to))) => {
            Some(Reply::Message { channel, payload: bytes.slice(*from..*to) })
        }
        (b"subscribe", RangeFrame::Integer(_)) => Some(Reply::Subscribed(channel)),
        (b"unsubscribe", RangeFrame::Integer(_)) => Some(Reply::Unsubscribed(channel)),
        _ => None,
    }
}

/// The length of the reply at the start of `input` if it is there whole. Looks at headers only,
/// allocates nothing, does not recurse.
fn measure(input: &[u8], limits: ReplyLimits) -> Result<Option<usize>, RespError> {
    // Values still to come at each depth; the reply itself is one.
    let mut missing = [0_usize; DEPTH_MAX + 1];
    missing[0] = 1;
    let mut depth = 0;
    let mut values = 1;
    let mut at = 0;
    loop {
        while missing[depth] == 0 {
            if depth == 0 {
                return Ok(Some(at));
            }
            depth -= 1;
        }
        missing[depth] -= 1;
        let Some(header) = header(input.get(at..).unwrap_or_default())? else { return Ok(None) };
        let end = (at as u64) + (header.line as u64) + header.content;
        if end > limits.bytes_max as u64 {
            return Err(RespError::TooLong { bytes: end });
        }
        at += header.line;
        if header.content > 0 {
            let content = header.content as usize;
            let Some(bytes) = input.get(at..at + content) else { return Ok(None) };
            if !bytes.ends_with(b"\r\n") {
                return Err(RespError::Malformed("a string that does not end where it should"));
            }
            at += content;
        }
        values += header.children;
        if values > limits.values_max as u64 {
            return Err(RespError::TooMany);
        }
        if header.children > 0 {
            depth += 1;
            let level = missing.get_mut(depth).ok_or(RespError::TooDeep)?;
            *level = header.children as usize;
        }
    }
}

/// One value's first line.
struct Header {
    /// Its bytes, line break included.
    line: usize,
    /// Bytes that follow, line break included; 0: none.
    content: u64,
    /// Values that follow, if it is an array.
    children: u64,
}

fn header(input: &[u8]) -> Result<Option<Header>, RespError> {
    let Some(&kind) = input.first() else { return Ok(None) };
    if !b"+-:$*".contains(&kind) {
        return Err(RespError::Malformed("an unknown kind of value"));
    }
    let searched = input.get(..LINE_BYTES_MAX).unwrap_or(input);
    let Some(end) = memchr::memchr(b'\n', searched) else {
        if searched.len() == LINE_BYTES_MAX {
            return Err(RespError::Malformed("a line without an end"));
        }
        return Ok(None);
    };
    let Some(text) = input.get(1..end).and_then(|text| text.strip_suffix(b"\r")) else {
        return Err(RespError::Malformed("a line break without a carriage return"));
    };
    if text.contains(&b'\r') {
        return Err(RespError::Malformed("a carriage return within a line"));
    }
    let mut header = Header { line: end + 1, content: 0, children: 0 };
    match kind {
        b'$' => header.content = length(text)?.map_or(0, |length| length.saturating_add(2)),
        b'*' => header.children = length(text)?.unwrap_or(0),
        _ => {}
    }
    Ok(Some(header))
}

/// A length; `None` for the `-1` of a missing value.
fn length(text: &[u8]) -> Result<Option<u64>, RespError> {
    if text == b"-1" {
        return Ok(None);
    }
    if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
        return Err(RespError::Malformed("a length that is no number"));
    }
    Ok(Some(text.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))))
}

impl fmt::Display for RespError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RespError::TooLong { bytes } => {
                write!(formatter, "a reply of {bytes} bytes is longer than allowed")
            }
            RespError::TooMany => formatter.write_str("a reply has more values than allowed"),
            RespError::TooDeep => formatter.write_str("a reply is nested deeper than allowed"),
            RespError::Malformed(what) => write!(formatter, "not RESP2: {what}"),
        }
    }
}

impl std::error::Error for RespError {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: ReplyLimits = ReplyLimits { bytes_max: 1 << 20, values_max: 1000 };

    fn read_all(input: &mut BytesMut) -> Result<Vec<Reply>, RespError> {
        let mut replies = Vec::new();
        while let Some(reply) = next_reply(input, LIMITS)? {
            replies.push(reply);
        }
        Ok(replies)
    }

    fn one(bytes: &[u8]) -> Result<Option<Reply>, RespError> {
        next_reply(&mut BytesMut::from(bytes), LIMITS)
    }

    #[test]
    fn a_message_is_a_view_into_the_buffer_that_it_came_in() {
        let wire = b"*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$7\r\npay\r\nad\r\n+OK\r\n";
        let mut input = BytesMut::from(&wire[..]);
        let from = input.as_ptr() as usize;
        let Ok(Some(Reply::Message { channel, payload })) = next_reply(&mut input, LIMITS) else {
            panic!("no message");
        };
        assert_eq!((&channel[..], &payload[..]), (&b"ch"[..], &b"pay\r\nad"[..]));
        assert_eq!(payload.as_ptr() as usize - from, 29);
        assert_eq!(read_all(&mut input), Ok(vec![Reply::Status(Bytes::from_static(b"OK"))]));
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        let subscribed = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
        assert_eq!(one(subscribed), Ok(Some(Reply::Subscribed(Bytes::from_static(b"a")))));
        let left = b"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n";
        assert_eq!(one(left), Ok(Some(Reply::Unsubscribed(Bytes::from_static(b"a")))));
        let error = Reply::Error(Bytes::from_static(b"NOAUTH Authentication required."));
        assert_eq!(one(b"-NOAUTH Authentication required.\r\n"), Ok(Some(error)));
        assert_eq!(one(b":-7\r\n"), Ok(Some(Reply::Integer(-7))));
        assert_eq!(one(b"$-1\r\n"), Ok(Some(Reply::Null)));
        assert_eq!(one(b"*-1\r\n"), Ok(Some(Reply::Null)));
        assert_eq!(one(b"*0\r\n"), Ok(Some(Reply::Array(vec![]))));
        let role = b"*3\r\n$6\r\nmaster\r\n:10\r\n*1\r\n*2\r\n$1\r\nh\r\n$0\r\n\r\n";
        let replica = vec![Reply::Bulk(Bytes::from_static(b"h")), Reply::Bulk(Bytes::new())];
        let replicas = Reply::Array(vec![Reply::Array(replica)]);
        let master = Reply::Bulk(Bytes::from_static(b"master"));
        assert_eq!(one(role), Ok(Some(Reply::Array(vec![master, Reply::Integer(10), replicas]))));
    }

    #[test]
    fn hostile_lengths_are_refused_before_their_bytes_come() {
        assert!(matches!(one(b"$2000000\r\n"), Err(RespError::TooLong { bytes: 2_000_012 })));
        assert!(matches!(one(b"$999999999999999999\r\n"), Err(RespError::TooLong { .. })));
        assert!(matches!(one(b"$9999999999999999999999\r\n"), Err(RespError::Malformed(_))));
        assert_eq!(one(b"*1001\r\n"), Err(RespError::TooMany));
        assert_eq!(one(b"*1000\r\n"), Err(RespError::TooMany));
        let most = [&b"*999\r\n"[..], &b":1\r\n".repeat(999)].concat();
        assert!(matches!(one(&most), Ok(Some(Reply::Array(values))) if values.len() == 999));
        assert_eq!(one(b"*999999999999999999\r\n"), Err(RespError::TooMany));
        assert_eq!(one(&b"*1\r\n".repeat(100_000)), Err(RespError::TooDeep));
        for wire in [&b"$-2\r\n"[..], b"$+1\r\n", b"$\r\n", b"*x\r\n", b"HTTP/1.1 400\r\n", b":1\n"]
        {
            assert!(matches!(one(wire), Err(RespError::Malformed(_))), "{wire:?}");
        }
        assert!(matches!(one(b"$1\r\nabc"), Err(RespError::Malformed(_))));
        assert!(matches!(one(&[b'+'; LINE_BYTES_MAX + 1]), Err(RespError::Malformed(_))));
    }

    #[test]
    fn a_command_is_an_array_of_strings() {
        let mut output = Vec::new();
        encode_command(&mut output, &[b"SET", b"k\r\n", b""]);
        assert_eq!(output, b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$0\r\n\r\n");
    }

    fn wire_of(reply: &Reply, out: &mut Vec<u8>) {
        let array = |out: &mut Vec<u8>, kind: &[u8], name: &Bytes| {
            out.extend_from_slice(b"*3\r\n");
            push_argument(out, kind);
            push_argument(out, name);
        };
        match reply {
            Reply::Message { channel, payload } => {
                array(out, b"message", channel);
                push_argument(out, payload);
            }
            Reply::Subscribed(name) => {
                array(out, b"subscribe", name);
                out.extend_from_slice(b":1\r\n");
            }
            Reply::Unsubscribed(name) => {
                array(out, b"unsubscribe", name);
                out.extend_from_slice(b":0\r\n");
            }
            Reply::Status(text) => out.extend_from_slice(&[b"+", &text[..], b"\r\n"].concat()),
            Reply::Error(text) => out.extend_from_slice(&[b"-", &text[..], b"\r\n"].concat()),
            Reply::Integer(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Reply::Bulk(bytes) => push_argument(out, bytes),
            Reply::Null => out.extend_from_slice(b"$-1\r\n"),
            Reply::Array(replies) => {
                out.extend_from_slice(format!("*{}\r\n", replies.len()).as_bytes());
                replies.iter().for_each(|reply| wire_of(reply, out));
            }
        }
    }

    fn any_reply() -> impl Strategy<Value = Reply> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let line = || "[ -~]{0,20}".prop_map(Bytes::from);
        let leaf = prop_oneof![
            (bytes(), bytes()).prop_map(|(channel, payload)| Reply::Message { channel, payload }),
            bytes().prop_map(Reply::Subscribed),
            bytes().prop_map(Reply::Unsubscribed),
            line().prop_map(Reply::Status),
            line().prop_map(Reply::Error),
            any::<i64>().prop_map(Reply::Integer),
            bytes().prop_map(Reply::Bulk),
            Just(Reply::Null),
        ];
        // Two levels at most: a leaf may be an array itself.
        leaf.prop_recursive(2, 8, 4, |inner| {
            proptest::collection::vec(inner, 0..3).prop_map(Reply::Array)
        })
    }

    proptest! {
        #[test]
        fn the_replies_are_the_same_wherever_the_stream_is_cut(
            replies in proptest::collection::vec(any_reply(), 0..8),
            cuts in proptest::collection::vec(1_usize..40, 1..60),
        ) {
            let mut wire = Vec::new();
            replies.iter().for_each(|reply| wire_of(reply, &mut wire));
            let mut input = BytesMut::new();
            let mut read = Vec::new();
            let (mut rest, mut cuts) = (&wire[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                input.extend_from_slice(now);
                read.extend(read_all(&mut input).unwrap());
                rest = later;
            }
            prop_assert_eq!(read, replies);
            prop_assert!(input.is_empty());
        }

        #[test]
        fn rubbish_neither_panics_nor_is_taken_for_more_than_it_is(
            wire in proptest::collection::vec(
                prop_oneof![proptest::sample::select(&b"*$\r\n1"[..]), any::<u8>()],
                0..200,
            ),
        ) {
            let mut input = BytesMut::from(&wire[..]);
            let _ = read_all(&mut input);
            prop_assert!(wire.ends_with(&input));
        }
    }
}
