//! The situations of the Autobahn suite (groups 1 to 7) that concern bytes, and what any chopping
//! must keep.

use proptest::prelude::*;

use super::*;
use Inbound::{Binary, BinaryBegins, Close, Ping, Pong, Text};
use ProtocolError::{Frame, TooLong, Utf8};

const BOUND: usize = 1000;
const MASK: [u8; 4] = [1, 2, 3, 4];
const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// An owned [`Inbound`], to be compared after the input is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    Text(String),
    BinaryBegins,
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    Error(ProtocolError),
}

impl From<Inbound<'_>> for Said {
    fn from(inbound: Inbound<'_>) -> Self {
        match inbound {
            Text(text) => Self::Text(text.to_owned()),
            BinaryBegins => Self::BinaryBegins,
            Binary(bytes) => Self::Binary(bytes.to_vec()),
            Ping(payload) => Self::Ping(payload.to_vec()),
            Pong => Self::Pong,
            Close(code) => Self::Close(code),
        }
    }
}

/// A masked frame as a client sends it, in the shortest form.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame_header(OpCode::from(first & 15), payload.len(), &mut bytes);
    bytes[0] = first;
    bytes[1] |= 0x80;
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// Feeds the pieces one after the other; ends with the first error or close frame, as a connection
/// does.
fn listen<'p>(
    partial: &mut Option<Box<Partial>>,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> Vec<Said> {
    let mut said = Vec::new();
    for piece in pieces {
        let mut input = piece.to_vec();
        let mut receiver = Receiver::new(partial, &mut input, BOUND);
        loop {
            match receiver.receive() {
                Ok(None) => break,
                Ok(Some(inbound)) => said.push(Said::from(inbound)),
                Err(error) => {
                    said.push(Said::Error(error));
                    assert_eq!(receiver.receive(), Ok(None), "an error is the end");
                }
            }
        }
        if matches!(said.last(), Some(Said::Close(_) | Said::Error(_))) {
            break;
        }
    }
    said
}

/// Expects the same of the bytes whole, byte by byte and in every two pieces; afterwards the state
/// is idle.
#[track_caller]
fn expect(frames: &[Vec<u8>], expected: &[Said]) {
    let bytes = frames.concat();
    for split in 0..=bytes.len() {
        let mut partial = None;
        let (head, tail) = bytes.split_at(split);
        assert_eq!(listen(&mut partial, [head, tail]), expected, "split at {split}");
        assert!(partial.is_none(), "split at {split}");
    }
    let mut partial = None;
    assert_eq!(listen(&mut partial, bytes.chunks(1)), expected, "byte by byte");
    assert!(partial.is_none(), "byte by byte");
}

fn text(text: &str) -> Said {
    Said::Text(text.to_owned())
}

#[test]
fn text_of_every_length_form_arrives() {
    for length in [0, 1, 125, 126, 127, 128, 255, 256, BOUND] {
        let payload = "*".repeat(length);
        expect(&[client(FIN | TEXT, payload.as_bytes())], &[text(&payload)]);
    }
}

#[test]
fn sixteen_bits_of_length_are_enough_up_to_their_last_value() {
    for length in [0xffff, 0x1_0000] {
        let mut bytes = client(FIN | TEXT, &vec![b'*'; length]);
        let mut partial = None;
        let mut receiver = Receiver::new(&mut partial, &mut bytes, 0x1_0000);
        assert!(matches!(receiver.receive(), Ok(Some(Text(text))) if text.len() == length));
    }
}

#[test]
fn binary_is_announced_by_its_header_and_then_delivered() {
    let expected = [Said::BinaryBegins, Said::Binary(vec![0, 255, 2])];
    expect(&[client(FIN | BINARY, &[0, 255, 2])], &expected);
    expect(&[client(BINARY, &[0]), client(FIN | CONTINUATION, &[255, 2])], &expected);
    expect(&[client(FIN | BINARY, &[])], &[Said::BinaryBegins, Said::Binary(Vec::new())]);
    let mut partial = None;
    assert_eq!(listen(&mut partial, [&client(BINARY, &[7])[..6]]), [Said::BinaryBegins]);
}

#[test]
fn pings_are_delivered_with_their_payload_and_pongs_without() {
    expect(
        &[client(FIN | PING, b""), client(FIN | PING, &[0xfe; 125]), client(FIN | PONG, b"x")],
        &[Said::Ping(Vec::new()), Said::Ping(vec![0xfe; 125]), Said::Pong],
    );
}

#[test]
fn reserved_bits_are_refused() {
    for bits in [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70] {
        for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
            let ok = client(FIN | TEXT, b"a");
            let bad = client(FIN | bits | opcode, b"");
            expect(&[ok, bad], &[text("a"), Said::Error(Frame)]);
        }
    }
}

#[test]
fn reserved_opcodes_are_refused() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        expect(&[client(FIN | opcode, b"")], &[Said::Error(Frame)]);
        expect(&[client(TEXT, b"a"), client(FIN | opcode, b"")], &[Said::Error(Frame)]);
    }
}

#[test]
fn frames_without_a_mask_are_refused() {
    for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
        expect(&[vec![FIN | opcode, 2, b'{', b'}']], &[Said::Error(Frame)]);
        expect(&[vec![FIN | opcode, 0]], &[Said::Error(Frame)]);
    }
}

#[test]
fn control_frames_are_short_and_whole() {
    for opcode in [CLOSE, PING, PONG] {
        expect(&[client(FIN | opcode, &[b'a'; 126])], &[Said::Error(Frame)]);
        expect(&[client(opcode, b"")], &[Said::Error(Frame)]);
    }
}

#[test]
fn fragments_are_joined_and_control_frames_may_stand_between() {
    expect(
        &[
            client(TEXT, b"a"),
            client(FIN | PING, b"p"),
            client(CONTINUATION, b""),
            client(FIN | PONG, b""),
            client(CONTINUATION, b"b"),
            client(FIN | CONTINUATION, b""),
            client(FIN | TEXT, b"c"),
        ],
        &[Said::Ping(b"p".to_vec()), Said::Pong, text("ab"), text("c")],
    );
    expect(&[client(TEXT, b""), client(FIN | CONTINUATION, b"")], &[text("")]);
}

#[test]
fn fragments_out_of_order_are_refused() {
    for stray in [CONTINUATION, FIN | CONTINUATION] {
        expect(&[client(stray, b"a")], &[Said::Error(Frame)]);
        let whole = client(FIN | TEXT, b"a");
        expect(&[whole, client(stray, b"a")], &[text("a"), Said::Error(Frame)]);
    }
    for second in [TEXT, FIN | TEXT, BINARY, FIN | BINARY] {
        expect(&[client(TEXT, b"a"), client(second, b"b")], &[Said::Error(Frame)]);
    }
}

#[test]
fn close_frames_give_their_code_and_end_the_reading() {
    let codes = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    for code in codes.into_iter().chain([3000, 3999, 4000, 4999]) {
        let mut payload = u16::to_be_bytes(code).to_vec();
        let rest = client(FIN | PING, b"");
        expect(&[client(FIN | CLOSE, &payload), rest.clone()], &[Said::Close(Some(code))]);
        payload.extend_from_slice("bye ☕".as_bytes());
        expect(&[client(FIN | CLOSE, &payload), rest], &[Said::Close(Some(code))]);
    }
    let within = [client(TEXT, b"a"), client(FIN | CLOSE, b""), vec![0xff; 9]];
    expect(&within, &[Said::Close(None)]);
}

#[test]
fn close_frames_with_half_a_code_a_bad_code_or_a_bad_reason_are_refused() {
    expect(&[client(FIN | CLOSE, b"\x03")], &[Said::Error(Frame)]);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535_u16] {
        expect(&[client(FIN | CLOSE, &code.to_be_bytes())], &[Said::Error(Frame)]);
    }
    expect(&[client(FIN | CLOSE, b"\x03\xe8\xce\xba\xe1\xbd")], &[Said::Error(Utf8)]);
}

#[test]
fn text_must_be_utf8_and_may_be_cut_within_a_character() {
    let valid = "κόσμε \u{7f} \u{80} \u{7ff} \u{800} \u{d7ff} \u{e000} \u{fffd} \u{10ffff} \0";
    for at in 0..valid.len() {
        let (head, tail) = valid.as_bytes().split_at(at);
        expect(&[client(TEXT, head), client(FIN | CONTINUATION, tail)], &[text(valid)]);
    }
    let invalid: [&[u8]; 10] = [
        b"\xff",
        b"a\x80",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xed\xa0\x80",
        b"\xed\xaf\xbf\xed\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf8\x88\x80\x80\x80",
        b"\xce\xba\xe1\xbd",
        b"a\xf0\x90",
    ];
    for bytes in invalid {
        expect(&[client(FIN | TEXT, bytes)], &[Said::Error(Utf8)]);
        expect(&[client(TEXT, bytes), client(FIN | CONTINUATION, b"")], &[Said::Error(Utf8)]);
    }
}

/// Autobahn 6.4: neither the rest of the message nor the rest of the frame is waited for.
#[test]
fn text_that_cannot_become_utf8_is_refused_at_once() {
    let opening = client(TEXT, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4\x90");
    let mut partial = None;
    assert_eq!(listen(&mut partial, [&*opening]), [Said::Error(Utf8)]);
    let whole = client(FIN | TEXT, b"a\xff rest");
    assert_eq!(listen(&mut partial, [&whole[..8]]), [Said::Error(Utf8)]);
}

#[test]
fn messages_over_the_bound_are_refused_by_the_header_alone() {
    let over = (BOUND as u16 + 1).to_be_bytes();
    let mut partial = None;
    for opcode in [TEXT, FIN | TEXT, FIN | BINARY] {
        let header = [opcode, 0xfe, over[0], over[1]];
        assert_eq!(listen(&mut partial, [&header[..]]), [Said::Error(TooLong)]);
    }
    for length in [1 << 53, 1 << 63, u64::MAX] {
        let header = [[FIN | TEXT, 0xff].as_slice(), &u64::to_be_bytes(length)].concat();
        assert_eq!(listen(&mut partial, header.chunks(1)), [Said::Error(TooLong)]);
    }
    let sum = [client(TEXT, &[b'a'; BOUND]), client(CONTINUATION, b"")].concat();
    assert_eq!(listen(&mut partial, [&*sum, &[CONTINUATION, 0x81]]), [Said::Error(TooLong)]);
    let between = [client(TEXT, &[b'a'; BOUND]), client(FIN | PING, b"p")];
    let end = client(FIN | CONTINUATION, b"");
    let all = [Said::Ping(b"p".to_vec()), text(&"a".repeat(BOUND))];
    expect(&[between.concat(), end], &all);
}

#[test]
fn lengths_take_the_fewest_bytes() {
    for length in [0_u16, 2, 125] {
        let header = [[FIN | TEXT, 0xfe].as_slice(), &length.to_be_bytes()].concat();
        expect(&[header], &[Said::Error(Frame)]);
    }
    for length in [0_u64, 2, 125, 126, 0xffff] {
        let header = [[FIN | TEXT, 0xff].as_slice(), &length.to_be_bytes()].concat();
        expect(&[header], &[Said::Error(Frame)]);
    }
}

#[test]
fn whole_frames_leave_nothing_behind_and_need_no_copy() {
    let mut input = [client(FIN | TEXT, b"one"), client(FIN | TEXT, b"two")].concat();
    let within = input.as_ptr_range();
    let mut partial = None;
    let mut receiver = Receiver::new(&mut partial, &mut input, BOUND);
    while let Some(inbound) = receiver.receive().unwrap() {
        assert!(matches!(inbound, Text(text) if within.contains(&text.as_ptr())));
    }
    assert!(partial.is_none());
}

#[test]
fn frames_that_we_send_are_headed_as_the_rfc_says() {
    let header = |length| {
        let mut out = Vec::new();
        frame_header(OpCode::Data(Data::Text), length, &mut out);
        out
    };
    assert_eq!(header(125), [0x81, 125]);
    assert_eq!(header(126), [0x81, 126, 0, 126]);
    assert_eq!(header(0xffff), [0x81, 126, 255, 255]);
    assert_eq!(header(0x1_0000), [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);

    let mut out = Vec::new();
    text_frame("é", &mut out);
    pong(b"payload", &mut out);
    assert_eq!(out, b"\x81\x02\xc3\xa9\x8a\x07payload");
    out.clear();
    close_frame(1003, "The mastodon streaming server does not support binary messages", &mut out);
    assert!(out.starts_with(b"\x88@\x03\xebThe mastodon") && out.len() == 66);
    out.clear();
    close_frame(1001, &format!("a{}", "€".repeat(100)), &mut out);
    assert_eq!((out.len(), out[1]), (2 + 2 + 121, 123));
    assert!(str::from_utf8(&out[4..]).is_ok());
}

/// Any valid conversation: messages in fragments, with control frames between them.
fn conversations() -> impl Strategy<Value = (Vec<u8>, Vec<Said>)> {
    let control = (prop::bool::ANY, prop::collection::vec(any::<u8>(), 0..126));
    let controls = prop::collection::vec(control, 0..2);
    let message = (
        "\\PC{0,60}",
        prop::bool::ANY,
        prop::collection::vec((any::<prop::sample::Index>(), controls), 0..4),
    );
    prop::collection::vec(message, 0..5).prop_map(|messages| {
        let (mut bytes, mut said) = (Vec::new(), Vec::new());
        for (payload, is_text, cuts) in messages {
            let mut rest = payload.as_bytes();
            let mut opcode = if is_text { TEXT } else { BINARY };
            said.extend((!is_text).then_some(Said::BinaryBegins));
            for (at, controls) in cuts {
                let (fragment, tail) = rest.split_at(at.index(rest.len() + 1));
                bytes.extend(client(opcode, fragment));
                (rest, opcode) = (tail, CONTINUATION);
                for (is_ping, payload) in controls {
                    bytes.extend(client(FIN | if is_ping { PING } else { PONG }, &payload));
                    said.push(if is_ping { Said::Ping(payload) } else { Said::Pong });
                }
            }
            bytes.extend(client(FIN | opcode, rest));
            said.push(if is_text { Said::Text(payload) } else { Said::Binary(payload.into()) });
        }
        (bytes, said)
    })
}

/// Cuts bytes into pieces of the given lengths, over and over.
fn chop<'b>(bytes: &'b [u8], lengths: &[usize]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for &length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, tail) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = tail;
    }
    pieces
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1_usize..40, 1..8)
}

/// Bytes near to frames: the interesting headers are otherwise too rare.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let opcodes = prop::sample::select(vec![0, 1, 2, 8, 9, 10, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a]);
    let frame = (opcodes, prop::collection::vec(any::<u8>(), 0..140));
    let near = frame.prop_map(|(first, payload)| client(first, &payload));
    let any_bytes = prop::collection::vec(any::<u8>(), 0..20);
    prop::collection::vec(prop_oneof![4 => near, 1 => any_bytes], 0..8).prop_map(|it| it.concat())
}

proptest! {
    #[test]
    fn any_chopping_gives_the_same_messages(
        (bytes, said) in conversations(),
        lengths in lengths(),
    ) {
        let mut partial = None;
        prop_assert_eq!(listen(&mut partial, chop(&bytes, &lengths)), said);
        prop_assert!(partial.is_none());
    }

    #[test]
    fn any_chopping_of_any_bytes_gives_the_same_outcome(bytes in noise(), lengths in lengths()) {
        let whole = listen(&mut None, [&*bytes]);
        prop_assert_eq!(listen(&mut None, chop(&bytes, &lengths)), whole);
    }

    #[test]
    fn memory_stays_within_a_small_multiple_of_the_bound(bytes in noise(), lengths in lengths()) {
        let mut partial = None;
        for piece in chop(&bytes, &lengths) {
            let said = listen(&mut partial, [piece]);
            prop_assert!(partial.as_deref().is_none_or(|it| it.bytes_held() <= 2 * BOUND + 256));
            if matches!(said.last(), Some(Said::Close(_) | Said::Error(_))) {
                break;
            }
        }
    }

    #[test]
    fn an_unmasked_frame_is_never_accepted(
        (before, said) in conversations(),
        first in any::<u8>(),
        second in 0_u8..0x80,
        after in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let bytes = [&before[..], &[first, second], &after].concat();
        let mut expected = said;
        expected.push(Said::Error(Frame));
        prop_assert_eq!(listen(&mut None, [&*bytes]), expected);
    }
}
