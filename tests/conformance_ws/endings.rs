//! The closing handshake and ends without one (RFC 6455 sections 5.5.1 and 7).

use crate::support::websocket::client_frame;
use crate::support::{Message, User, WebSocket, World, status};

/// A close frame's payload.
fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

#[test]
fn a_close_frame_is_answered_with_its_code_and_the_server_ends_first() {
    let world = World::start();
    let user = world.fixture().user(1);
    let assigned = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    for code in assigned.into_iter().chain([3000, 3999, 4000, 4999]) {
        let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
        websocket.socket.send(client_frame(0x88, &close(code, "bye, €".as_bytes())));
        assert_eq!(websocket.next(), Message::Close(Some(code), String::new()), "{code}");
        // We send no FIN: the end is the server's doing (section 7.1.1).
        websocket.socket.expect_end();
    }
    let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
    websocket.socket.send(client_frame(0x88, &close(1000, &[b'x'; 123])));
    assert_eq!(websocket.next(), Message::Close(Some(1000), String::new()), "a long reason");
    let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
    websocket.socket.send(client_frame(0x88, b""));
    assert_eq!(websocket.next(), Message::Close(None, String::new()), "no code");
    websocket.socket.expect_end();
}

#[test]
fn a_close_frame_that_nobody_may_send_is_a_violation() {
    let world = World::start();
    let user = world.fixture().user(1);
    let codes = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 9999, 65_535];
    let mut cases: Vec<(Vec<u8>, u16)> =
        codes.map(|code| (client_frame(0x88, &close(code, b"")), 1002)).to_vec();
    cases.push((client_frame(0x88, b"\x03"), 1002));
    cases.push((client_frame(0x88, &close(1000, &[b'x'; 124])), 1002));
    cases.push((client_frame(0x88, &close(1000, b"\xff")), 1007));
    cases.push((client_frame(0x88, &close(1000, b"half \xe2\x82")), 1007));
    for (frame, code) in cases {
        let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
        websocket.socket.send(&frame);
        let answer = websocket.next();
        assert_eq!(answer, Message::Close(Some(code), String::new()), "{}", frame.escape_ascii());
        websocket.socket.expect_end();
    }
}

#[test]
fn nothing_is_heard_behind_a_close_frame() {
    let world = World::start();
    let user = world.fixture().user(1);
    let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
    let subscribe = br#"{"type":"subscribe","stream":"user"}"#;
    let mut said = client_frame(0x01, b"never finished");
    said.extend(client_frame(0x88, &close(1000, b"")));
    said.extend(client_frame(0x89, b"late"));
    said.extend(client_frame(0x81, subscribe));
    said.extend(b"GET /api/v1/streaming/health HTTP/1.1\r\nHost: x\r\n\r\n");
    websocket.socket.send(said);
    assert_eq!(websocket.next_frame(), Message::Close(Some(1000), String::new()));
    websocket.socket.send(client_frame(0x89, b"later"));
    websocket.socket.expect_end();
    assert_eq!(world.server.metric("connected_channels"), 0.0);
}

#[test]
fn only_a_close_frame_is_heard_behind_the_servers_own() {
    let world = World::start();
    let user = world.fixture().user(1);
    let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
    world.redis.publish_wanted(&user.token_channel(), r#"{"event":"kill"}"#);
    assert_eq!(websocket.next(), Message::Close(None, String::new()));
    websocket.send(r#"{"type":"subscribe","stream":"user"}"#);
    websocket.socket.send(client_frame(0x89, b"late"));
    websocket.socket.send(client_frame(0x02, b"a binary one"));
    websocket.socket.send(client_frame(0x80, b""));
    websocket.socket.send(client_frame(0x88, b""));
    websocket.socket.expect_end();
    assert_eq!(world.server.metric("connected_channels"), 0.0);
    assert_eq!(farewells(&world, "token_revoked"), 1.0);
    assert_eq!(farewells(&world, "binary") + farewells(&world, "close_timeout"), 0.0);
}

#[test]
fn a_violation_behind_the_servers_close_frame_ends_the_wait_for_the_clients() {
    let world = World::start();
    let user = world.fixture().user(1);
    for nonsense in [vec![0x81, 0], client_frame(0x83, b""), client_frame(0x88, &close(1005, b""))]
    {
        let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
        world.redis.publish_wanted(&user.token_channel(), r#"{"event":"kill"}"#);
        assert_eq!(websocket.next(), Message::Close(None, String::new()));
        websocket.socket.send(nonsense);
        websocket.socket.expect_end();
    }
}

#[test]
fn who_closes_and_finishes_sending_at_once_hears_the_answer() {
    let world = World::start();
    let user = world.fixture().user(1);
    let mut websocket = WebSocket::open(&world.server, &user.websocket(""));
    websocket.socket.send(client_frame(0x88, &close(1000, b"")));
    websocket.socket.shut();
    assert_eq!(websocket.next(), Message::Close(Some(1000), String::new()));
    websocket.socket.expect_end();
}

#[test]
fn who_finishes_sending_without_a_close_frame_has_left() {
    let world = World::start();
    let user = world.fixture().user(1);
    let unfinished = client_frame(0x81, br#"{"type":"#);
    for last in [&b""[..], &unfinished, &unfinished[..3], &client_frame(0x01, b"{")] {
        let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=user"));
        websocket.socket.send(last);
        websocket.socket.shut();
        websocket.socket.expect_end();
    }
    world.server.await_metric("connected_clients", |count| count == 0.0);
    assert_eq!(world.server.metric("connected_channels"), 0.0);
}

#[test]
fn a_reset_at_any_point_of_a_conversation_harms_nobody() {
    let world = World::start();
    world.fixture().users(1..=2);
    let (user, neighbour) = (User(1), User(2));
    let mut witness = WebSocket::open(&world.server, &neighbour.websocket("stream=user"));
    let half = client_frame(0x81, b"{}");
    let ends = [
        vec![],
        half[..1].to_vec(),
        half[..7].to_vec(),
        client_frame(0x89, b"unanswered"),
        client_frame(0x88, &close(1000, b"")),
        vec![0x81, 0],
        client_frame(0x82, b"binary"),
    ];
    for (index, last) in ends.iter().cycle().take(50).enumerate() {
        let mut websocket = WebSocket::open(&world.server, &user.websocket("stream=user"));
        websocket.socket.send(last);
        if index % 3 == 0 {
            world.redis.publish(&user.home(), status::message("delete", "1"));
        }
        websocket.socket.reset();
        assert!(witness.barrier().is_empty());
    }
    world.server.await_metric("connected_clients", |count| count == 1.0);
    world.redis.publish_wanted(&neighbour.home(), status::message("delete", "2"));
    assert_eq!(witness.next_event().payload, "2");
}

pub fn farewells(world: &World, reason: &str) -> f64 {
    let label = format!(r#"reason="{reason}""#);
    world.server.metric_with("trunkline_farewells_total", &label)
}
