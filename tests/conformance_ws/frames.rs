//! Frames, messages and control frames (RFC 6455 section 5), as far as they are no ending.

use serde_json::json;

use crate::support::websocket::client_frame;
use crate::support::{Message, Request, User, WebSocket, World, status};

/// The bound of a message, as it ships.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

const SUBSCRIBE: &[u8] = br#"{"type":"subscribe","stream":"user"}"#;

/// The header of a text frame that announces so many bytes; neither mask nor payload.
fn bare_header(first: u8, length: u64) -> Vec<u8> {
    let mut header = vec![first, 0xff];
    header.extend(length.to_be_bytes());
    header
}

#[test]
fn a_violation_is_answered_with_its_code_and_the_end() {
    let world = World::start();
    let user = world.fixture().user(1);
    let unmasked = |first: u8| vec![first, 2, b'h', b'i'];
    let begun = client_frame(0x01, b"{");
    let behind = |frame: Vec<u8>| [begun.clone(), frame].concat();
    let cases = [
        ("an unmasked text", unmasked(0x81), 1002),
        ("an unmasked ping", unmasked(0x89), 1002),
        ("an unmasked close", unmasked(0x88), 1002),
        ("an unmasked empty frame", vec![0x81, 0], 1002),
        ("an unmasked frame behind a good one", behind(unmasked(0x80)), 1002),
        ("a reserved bit", client_frame(0xa1, b"{}"), 1002),
        ("a reserved bit in a ping", client_frame(0x99, b""), 1002),
        ("a reserved opcode for data", client_frame(0x83, b""), 1002),
        ("a reserved opcode for control", client_frame(0x8b, b""), 1002),
        ("a fragmented ping", client_frame(0x09, b"part"), 1002),
        ("a fragmented pong", client_frame(0x0a, b"part"), 1002),
        ("a fragmented close", client_frame(0x08, &[3, 232]), 1002),
        ("a fragmented ping within a message", behind(client_frame(0x09, b"part")), 1002),
        ("a ping of 126 bytes", client_frame(0x89, &[0; 126]), 1002),
        ("a ping of 64 KiB", client_frame(0x89, &[0; 65_536]), 1002),
        ("a continuation of nothing", client_frame(0x80, b"{}"), 1002),
        ("an unfinished continuation of nothing", client_frame(0x00, b"{}"), 1002),
        ("a text within a text", behind(client_frame(0x81, b"{}")), 1002),
        ("a binary within a text", behind(client_frame(0x82, b"{}")), 1002),
        ("a length that is longer than it need be", bare_header(0x81, 125), 1002),
        ("a text that is not UTF-8", client_frame(0x81, b"\xff"), 1007),
        ("a surrogate", client_frame(0x81, b"\xed\xa0\x80"), 1007),
        ("half a character", client_frame(0x81, b"\xe2\x82"), 1007),
        ("half a character in a last fragment", behind(client_frame(0x80, b"\xe2\x82")), 1007),
        ("a fragment that cannot become UTF-8", behind(client_frame(0x00, b"\xe2\x28")), 1007),
    ];
    for (what, bytes, code) in cases {
        let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
        websocket.socket.send(bytes);
        assert_eq!(websocket.next(), Message::Close(Some(code), String::new()), "{what}");
        websocket.socket.expect_end();
    }
}

#[test]
fn a_message_over_the_bound_is_refused_by_its_header_alone() {
    let world = World::start();
    let user = world.fixture().user(1);
    let over = MESSAGE_BYTES_MAX as u64 + 1;
    let part = |length: usize| client_frame(0x01, " ".repeat(length).as_bytes());
    let rest = |length: usize| bare_header(0x80, length as u64);
    let cases = [
        ("one byte over", bare_header(0x81, over)),
        ("the longest length there is", bare_header(0x81, i64::MAX as u64)),
        // Against section 5.2, too: the Node server says the same.
        ("a length with its highest bit", bare_header(0x81, 1 << 63)),
        ("a first fragment over", bare_header(0x01, over)),
        ("a last fragment over", [part(1), rest(MESSAGE_BYTES_MAX)].concat()),
        ("a last fragment far over", [part(60_000), rest(1 << 40)].concat()),
    ];
    for (what, bytes) in cases {
        let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
        websocket.socket.send(bytes);
        assert_eq!(websocket.next(), Message::Close(Some(1009), String::new()), "{what}");
        websocket.socket.expect_end();
    }
}

#[test]
fn a_message_of_just_the_bound_is_heard_whole_or_in_fragments() {
    let world = World::start();
    let user = world.fixture().user(1);
    let padded = |stream: &str| {
        let mut text = json!({"type": "subscribe", "stream": stream}).to_string().into_bytes();
        text.resize(MESSAGE_BYTES_MAX, b' ');
        text
    };
    let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
    websocket.socket.send(client_frame(0x81, &padded("user")));
    let text = padded("public");
    websocket.socket.send(client_frame(0x01, &text[..1]));
    websocket.socket.send(client_frame(0x00, &text[1..40_000]));
    websocket.socket.send(client_frame(0x80, &text[40_000..]));
    assert!(websocket.barrier().is_empty());
    world.await_subscriptions(2);
}

#[test]
fn a_binary_message_is_refused_in_words_by_its_header_alone() {
    let world = World::start();
    let user = world.fixture().user(1);
    let reason = "The mastodon streaming server does not support binary messages";
    let unfinished = [&[0x82, 0xfe, 0x40, 0][..], &[1, 2, 3, 4]].concat();
    for bytes in [client_frame(0x82, b""), client_frame(0x02, b"part"), unfinished] {
        let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
        websocket.socket.send(&bytes);
        assert_eq!(websocket.next(), Message::Close(Some(1003), reason.to_string()));
    }
}

#[test]
fn control_frames_between_fragments_are_answered_at_once() {
    let world = World::start();
    let user = world.fixture().user(1);
    let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
    let (first, rest) = SUBSCRIBE.split_at(10);
    websocket.socket.send(client_frame(0x01, first));
    websocket.socket.send(client_frame(0x89, b"one"));
    assert_eq!(websocket.next(), Message::Pong(b"one".to_vec()));
    websocket.socket.send(client_frame(0x00, b""));
    websocket.socket.send(client_frame(0x8a, b"unasked"));
    websocket.socket.send(client_frame(0x89, &[7; 125]));
    assert_eq!(websocket.next(), Message::Pong(vec![7; 125]));
    assert_eq!(world.server.metric_with("connected_channels", r#"channel="user""#), 0.0);
    websocket.socket.send(client_frame(0x80, rest));
    world.redis.publish_wanted(&user.home(), status::message("delete", "1"));
    assert_eq!(websocket.next_event().payload, "1");
}

#[test]
fn every_ping_is_answered_with_its_payload_in_order() {
    let world = World::start();
    let user = world.fixture().user(1);
    let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
    let payload = |number: usize| vec![number as u8; number % 126];
    let pings: Vec<u8> =
        (0..1000).flat_map(|number| client_frame(0x89, &payload(number))).collect();
    websocket.socket.send(pings);
    for number in 0..1000 {
        assert_eq!(websocket.next(), Message::Pong(payload(number)), "ping {number}");
    }
}

#[test]
fn a_conversation_may_come_a_byte_at_a_time() {
    let world = World::start();
    let user = world.fixture().user(1);
    let euro = "€".as_bytes();
    let said = [
        Request::websocket(&User(1).websocket("")).bytes(),
        client_frame(0x01, &SUBSCRIBE[..20]),
        client_frame(0x89, b"within"),
        client_frame(0x80, &SUBSCRIBE[20..]),
        client_frame(0x01, &euro[..1]),
        client_frame(0x00, &euro[1..2]),
        client_frame(0x80, &euro[2..]),
        client_frame(0x89, b"behind"),
    ];
    let mut socket = world.server.connect();
    for byte in said.concat() {
        socket.send([byte]);
    }
    let mut websocket = WebSocket::adopt(socket).expect("a 101");
    assert_eq!(websocket.next(), Message::Pong(b"within".to_vec()));
    assert_eq!(websocket.next(), Message::Pong(b"behind".to_vec()));
    world.redis.publish_wanted(&user.home(), status::message("delete", "1"));
    assert_eq!(websocket.next_event().payload, "1");
    for byte in client_frame(0x88, &[0x03, 0xe8, b'b', b'y', b'e']) {
        websocket.socket.send([byte]);
    }
    assert_eq!(websocket.next(), Message::Close(Some(1000), String::new()));
    websocket.socket.expect_end();
}
