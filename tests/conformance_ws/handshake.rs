//! The opening handshake (RFC 6455 section 4.2).

use serde_json::json;

use crate::support::websocket::client_frame;
use crate::support::{Message, Request, Response, Server, User, WebSocket, World};

/// What RFC 6455 section 1.3 computes for the key of its example.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const GOOD: [&str; 5] = [
    "Host: trunkline.example",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// A request line and lines in place of the good ones that begin alike; an empty one takes that
/// away.
struct Handshake {
    line: String,
    changes: Vec<(&'static str, &'static str)>,
}

impl Handshake {
    fn good() -> Handshake {
        let line = format!("GET {} HTTP/1.1", User(1).websocket(""));
        Handshake { line, changes: Vec::new() }
    }

    fn with(name: &'static str, line: &'static str) -> Handshake {
        Handshake { changes: vec![(name, line)], ..Handshake::good() }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut lines = vec![self.line.as_str()];
        let changed = |good: &&str| self.changes.iter().any(|(name, _)| good.starts_with(name));
        lines.extend(GOOD.iter().filter(|good| !changed(good)));
        lines.extend(self.changes.iter().map(|(_, line)| *line).filter(|line| !line.is_empty()));
        format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
    }

    /// The answer to a handshake that fails. It is the last thing that the server says: what
    /// follows in the same connection is no request any more.
    #[track_caller]
    fn refused(&self, server: &Server) -> Response {
        let mut socket = server.connect();
        let tunnelled = Request::get("/api/v1/streaming/health").bytes();
        socket.send([self.bytes(), tunnelled].concat());
        let response = socket.response();
        let connection = response.header("connection").unwrap_or_default().to_string();
        assert!(connection.starts_with("close"), "{:?}: {response:?}", self.changes);
        socket.expect_end();
        response
    }
}

#[test]
fn what_is_no_handshake_is_refused_and_the_connection_closed() {
    let world = World::start();
    world.fixture().user(1);
    let post = format!("POST {} HTTP/1.1", User(1).websocket(""));
    let old = format!("GET {} HTTP/1.0", User(1).websocket(""));
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let cases = [
        (Handshake { line: post.replace("POST", "PUT"), ..Handshake::good() }, 405),
        (Handshake { line: post.replace("POST", "DELETE"), ..Handshake::good() }, 405),
        (Handshake { line: post, ..Handshake::good() }, 405),
        (Handshake { line: old, ..Handshake::good() }, 400),
        (Handshake::with("Host", ""), 400),
        (Handshake::with("-", "Host: trunkline.example"), 400),
        (Handshake::with("Upgrade", "Upgrade: h2c"), 400),
        (Handshake::with("Upgrade", "Upgrade: websockets"), 400),
        (Handshake::with("Sec-WebSocket-Key", ""), 400),
        (Handshake::with("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ="), 400),
        (Handshake::with("Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAA"), 400),
        (Handshake::with("Sec-WebSocket-Key", "Sec-WebSocket-Key: AA=="), 400),
        (
            Handshake::with("Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAAAAA=="),
            400,
        ),
        (Handshake::with("Sec-WebSocket-Key", "Sec-WebSocket-Key: %%%%%%%%%%%%%%%%%%%%%%=="), 400),
        (Handshake::with("-", key), 400),
        (Handshake::with("-", "Sec-WebSocket-Protocol: a, a"), 400),
        (Handshake::with("-", "Sec-WebSocket-Protocol: a b"), 400),
        (Handshake::with("-", "Content-Length: 5"), 400),
    ];
    for (handshake, status) in cases {
        let response = handshake.refused(&world.server);
        assert_eq!(response.status, status, "{} {:?}", handshake.line, handshake.changes);
        assert_eq!(response.header("sec-websocket-accept"), None);
    }
}

#[test]
fn another_version_is_told_the_one_that_is_spoken() {
    let world = World::start();
    world.fixture().user(1);
    for line in [
        "",
        "Sec-WebSocket-Version: 0",
        "Sec-WebSocket-Version: 8",
        "Sec-WebSocket-Version: 12",
        "Sec-WebSocket-Version: 14",
        "Sec-WebSocket-Version: 013",
        "Sec-WebSocket-Version: 13, 8",
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13",
    ] {
        let response = Handshake::with("Sec-WebSocket-Version", line).refused(&world.server);
        assert_eq!(response.status, 426, "{line}");
        assert_eq!(response.header("sec-websocket-version"), Some("13"), "{line}");
        assert_eq!(response.header("upgrade"), Some("websocket"), "{line}");
    }
}

#[test]
fn a_request_that_does_not_ask_for_an_upgrade_gets_none() {
    let world = World::start();
    world.fixture().user(1);
    for handshake in [
        Handshake::with("Connection", ""),
        Handshake::with("Connection", "Connection: keep-alive"),
        Handshake::with("Connection", "Connection: not-upgrade, upgrades"),
        Handshake::with("Upgrade", ""),
    ] {
        let mut socket = world.server.connect();
        socket.send(handshake.bytes());
        let response = socket.response();
        assert_eq!(response.status, 400, "{:?}", handshake.changes);
        assert_eq!(response.text(), r#"{"error":"Unknown channel requested"}"#);
    }
}

#[test]
fn a_handshake_is_accepted_in_every_spelling() {
    let world = World::start();
    world.fixture().user(1);
    for handshake in [
        Handshake::good(),
        Handshake::with("Connection", "Connection: keep-alive, Upgrade"),
        Handshake::with("Connection", "Connection: keep-alive\r\nConnection: ,upgrade,"),
        Handshake::with("Connection", "CONNECTION: UPGRADE"),
        Handshake::with("Upgrade", "Upgrade: WebSocket"),
        Handshake::with("Upgrade", "Upgrade: h2c, websocket"),
        Handshake::with("Upgrade", "Upgrade: h2c\r\nUpgrade: websocket"),
        Handshake::with("Upgrade", "upgrade:websocket"),
        Handshake::with("Sec-WebSocket-Version", "sec-websocket-version:13  "),
        Handshake::with("Sec-WebSocket-Key", "SEC-WEBSOCKET-KEY:\tdGhlIHNhbXBsZSBub25jZQ=="),
        Handshake::with("-", "Origin: https://elsewhere.example"),
        Handshake::with("-", "Content-Length: 0"),
        Handshake {
            line: Handshake::good().line.replace("/api", "http://x.example/api"),
            ..Handshake::good()
        },
    ] {
        let mut socket = world.server.connect();
        socket.send(handshake.bytes());
        let what = format!("{} {:?}", handshake.line, handshake.changes);
        let mut websocket = WebSocket::adopt(socket).unwrap_or_else(|it| panic!("{what}: {it:?}"));
        assert_eq!(websocket.response.header("sec-websocket-accept"), Some(ACCEPT), "{what}");
        assert_eq!(websocket.response.header("upgrade"), Some("websocket"));
        assert_eq!(websocket.response.header("connection"), Some("Upgrade"));
        assert!(websocket.barrier().is_empty());
    }
}

#[test]
fn no_compression_is_ever_agreed_on() {
    let world = World::start();
    world.fixture().user(1);
    for offer in [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "x-webkit-deflate-frame",
        "permessage-bzip2, permessage-deflate, mux",
        "\"",
    ] {
        let request =
            Request::websocket(&User(1).websocket("")).header("Sec-WebSocket-Extensions", offer);
        let mut websocket = WebSocket::request(&world.server, &request).expect("a 101");
        assert_eq!(websocket.response.header("sec-websocket-extensions"), None, "{offer}");
        // A compressed message, which nobody has agreed to (RFC 7692 section 6).
        websocket.socket.send(client_frame(0xc1, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]));
        assert_eq!(websocket.next(), Message::Close(Some(1002), String::new()));
    }
}

#[test]
fn nobody_gets_a_101_without_a_good_token() {
    let world = World::start();
    world.fixture().user(1);
    let subscribe = client_frame(0x81, br#"{"type":"subscribe","stream":"public"}"#);
    for target in ["/api/v1/streaming", "/api/v1/streaming?access_token=unknown"] {
        let mut socket = world.server.connect();
        socket.send([Request::websocket(target).bytes(), subscribe.clone()].concat());
        let response = socket.response();
        assert_eq!(response.status, 401, "{target}");
        assert_eq!(response.header("connection"), Some("close"));
        socket.expect_end();
    }
    assert_eq!(world.server.metric("connected_channels"), 0.0);
}

#[test]
fn the_first_protocol_offered_is_the_one_agreed_on() {
    let world = World::start();
    let user = world.fixture().user(1);
    let target = user.websocket("");
    for offer in ["chat", "chat, other", "chat ,\tother , third", &user.token()] {
        let request = Request::websocket(&target).header("Sec-WebSocket-Protocol", offer);
        let websocket = WebSocket::request(&world.server, &request).expect("a 101");
        let agreed = websocket.response.header("sec-websocket-protocol");
        assert_eq!(agreed, offer.split([' ', ',']).next(), "{offer}");
    }
    let request = Request::websocket(&target);
    let websocket = WebSocket::request(&world.server, &request).expect("a 101");
    assert_eq!(websocket.response.header("sec-websocket-protocol"), None);
}

#[test]
fn what_comes_right_behind_the_handshake_is_heard() {
    let world = World::start();
    let user = world.fixture().user(1);
    let subscribe = json!({"type": "subscribe", "stream": "user"}).to_string();
    let mut socket = world.server.connect();
    socket.send(
        [
            Request::websocket(&user.websocket("")).bytes(),
            client_frame(0x81, subscribe.as_bytes()),
            client_frame(0x89, b"early"),
        ]
        .concat(),
    );
    let mut websocket = WebSocket::adopt(socket).expect("a 101");
    assert_eq!(websocket.next(), Message::Pong(b"early".to_vec()));
    world.await_subscriptions(1);
}
