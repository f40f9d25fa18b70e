//! Replays a case against a running server: sends what was sent, does what the notes say, and
//! compares what comes back with what came back then.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::capture::{Case, Step};
use crate::differences::{Difference, Instead};
use crate::notes;
use crate::support::websocket::client_frame;
use crate::support::{Socket, World};
use crate::unit::{Decoder, Unit};

/// What went wrong, if anything.
pub type Outcome = Result<(), String>;

/// A connection: to the server, and what it said in the capture.
struct Connection {
    socket: Socket,
    actual: Decoder,
    captured: Decoder,
    /// Everything sent so far is made of complete frames, and the server has not begun to close.
    open: bool,
}

/// A case on its way.
pub struct Replay<'a> {
    world: &'a World,
    case: &'a Case,
    connections: BTreeMap<u64, Connection>,
    /// Pings and heartbeats are what this case is about.
    timed: bool,
    /// The channel of the last event and whether the server was subscribed to it.
    last_channel: Option<String>,
    barriers: u32,
}

/// Replays a case with its differences.
pub fn replay(world: &World, case: &Case, differences: &[Difference]) -> Outcome {
    let timed = matches!(case.name.as_str(), "sse-heartbeat" | "ws-server-ping");
    let connections = BTreeMap::new();
    let mut replay = Replay { world, case, connections, timed, last_channel: None, barriers: 0 };
    let mut index = 0;
    while index <= case.steps.len() {
        let difference = differences.iter().find(|difference| difference.steps.0 == index);
        match difference {
            Some(difference) => {
                replay.do_instead(&difference.instead).map_err(|error| {
                    format!("step {index}, intended difference ({}): {error}", difference.reason)
                })?;
                index = difference.steps.1 + 1;
            }
            None if index == case.steps.len() => break,
            None => {
                replay.step(index).map_err(|error| format!("step {index}: {error}"))?;
                index += 1;
            }
        }
    }
    replay.finish().map_err(|error| format!("at the end: {error}"))
}

impl Replay<'_> {
    fn step(&mut self, index: usize) -> Outcome {
        match self.case.steps[index].clone() {
            Step::Sent(number, bytes) => {
                self.send(number, &bytes);
                Ok(())
            }
            Step::Received(number, bytes) => {
                let timed = self.timed;
                let connection = self.connection(number)?;
                connection.captured.bytes.extend_from_slice(&bytes);
                while let Some(unit) = connection.captured.take(false) {
                    if timed || !unit.is_timed() {
                        connection.expect(&unit, timed)?;
                    }
                }
                Ok(())
            }
            Step::Ended(number) => {
                let connection = self.connection(number)?;
                connection.captured_end()?;
                connection.expect(&Unit::End, false)
            }
            Step::Note(note) => self.note(&note),
        }
    }

    fn connection(&mut self, number: u64) -> Result<&mut Connection, String> {
        self.connections.get_mut(&number).ok_or(format!("connection {number} is not open"))
    }

    fn send(&mut self, number: u64, bytes: &[u8]) {
        if let Some(connection) = self.connections.get_mut(&number) {
            let head_only = bytes.starts_with(b"HEAD ");
            connection.actual.head_only |= head_only;
            connection.captured.head_only |= head_only;
            if connection.actual.is_websocket() {
                connection.open &= is_whole_frames(bytes);
            }
            connection.socket.send(bytes);
        }
    }

    fn note(&mut self, note: &str) -> Outcome {
        if let Some(number) = note
            .strip_prefix("connection ")
            .and_then(|rest| rest.strip_suffix(" opened")?.parse().ok())
        {
            // The captures read one connection at a time: those before are not heard of again.
            self.connections.clear();
            let connection = Connection::open(self.world.server.connect());
            self.connections.insert(number, connection);
            return Ok(());
        }
        if note == "client closed the connection" {
            self.connections.clear();
            return Ok(());
        }
        if let Some(publication) = notes::publication(note) {
            self.settle()?;
            return self.publish(&publication.channel, &publication.message, publication.receivers);
        }
        self.settle()?;
        notes::perform(self.world, note)
    }

    /// Publishes once Redis has as many subscribers as it had in the capture.
    fn publish(&mut self, channel: &str, message: &[u8], receivers: i64) -> Outcome {
        let mut redis = self.world.redis.client();
        redis.await_subscribers(channel, receivers);
        let got = redis.publish(channel, message);
        if got != receivers {
            return Err(format!("{got} instead of {receivers} subscribers to {channel}"));
        }
        let system = channel.contains(":system:") || channel.contains(":access_token:");
        self.last_channel = (receivers > 0 && !system).then(|| channel.to_string());
        Ok(())
    }

    /// Waits until the server has dealt with what the open WebSockets have sent.
    fn settle(&mut self) -> Outcome {
        let open = self.connections.values_mut().filter(|connection| connection.open);
        for connection in open.filter(|connection| connection.actual.is_websocket()) {
            self.barriers += 1;
            connection.barrier(self.barriers)?;
        }
        Ok(())
    }

    fn do_instead(&mut self, steps: &[Instead]) -> Outcome {
        for step in steps {
            match step {
                Instead::Receive(number, unit) => {
                    self.connection(*number)?.expect(unit, false)?;
                }
                Instead::Stays(number) => {
                    self.barriers += 1;
                    let barrier = self.barriers;
                    self.connection(*number)?.barrier(barrier)?;
                }
                Instead::Publish(channel, message, receivers) => {
                    self.settle()?;
                    self.publish(channel, message.as_bytes(), *receivers)?;
                }
            }
        }
        Ok(())
    }

    /// Nothing more must have come than what was captured.
    fn finish(&mut self) -> Outcome {
        self.settle()?;
        if let (Some(channel), 1) = (self.last_channel.take(), self.connections.len()) {
            let connection = self.connections.values_mut().next().ok_or("no connection")?;
            let streaming = connection.actual.is_websocket() || connection.actual.is_event_stream();
            if connection.open && streaming {
                let message = r#"{"event":"barrier","payload":"the end"}"#;
                self.world.redis.publish(&channel, message);
                connection.expect_barrier_event()?;
            }
        }
        for connection in self.connections.values_mut() {
            let rest = connection.actual.bytes.escape_ascii();
            if !connection.actual.bytes.is_empty() {
                return Err(format!("came too much: {rest}"));
            }
        }
        Ok(())
    }
}

impl Connection {
    fn open(socket: Socket) -> Connection {
        let (actual, captured) = (Decoder::default(), Decoder::default());
        Connection { socket, actual, captured, open: true }
    }

    /// The next unit from the server; timed ones are passed over unless asked for.
    fn next(&mut self, timed: bool) -> Result<Unit, String> {
        loop {
            self.actual.bytes.append(&mut self.socket.received);
            match self.actual.take(self.socket.ended) {
                Some(unit) if timed || !unit.is_timed() => return Ok(unit),
                Some(_) => {}
                None => {
                    let more = self.socket.read_for(Duration::from_secs(5));
                    if more.is_none() {
                        let rest = self.actual.bytes.escape_ascii();
                        return Err(format!("nothing comes; unfinished: \"{rest}\""));
                    }
                }
            }
        }
    }

    fn expect(&mut self, expected: &Unit, timed: bool) -> Outcome {
        let unit = self.next(timed).map_err(|error| format!("{error}\nexpected {expected:?}"))?;
        let closing = matches!(&unit, Unit::Frame(bytes) if bytes[0] == 0x88);
        self.open &= !closing && !matches!(unit, Unit::End | Unit::LastChunk);
        let same = match (expected, &unit) {
            (Unit::Answer(expected), Unit::Answer(answer)) => {
                let mut answer = answer.clone();
                // Ours alone: it tells nginx not to buffer.
                if answer
                    .headers
                    .get("content-type")
                    .is_some_and(|kind| kind == "text/event-stream")
                {
                    let buffering = answer.headers.remove("x-accel-buffering");
                    assert_eq!(buffering.as_deref(), Some("no"), "X-Accel-Buffering");
                }
                *expected == answer
            }
            _ => *expected == unit,
        };
        match same {
            true => Ok(()),
            false => Err(format!("\nexpected {expected:?}\ngot      {unit:?}")),
        }
    }

    /// The captured bytes must not end in the middle of something.
    fn captured_end(&mut self) -> Outcome {
        while let Some(unit) = self.captured.take(true) {
            if unit == Unit::End {
                return Ok(());
            }
            self.expect(&unit, false)?;
        }
        Err(format!("the capture ends within: {}", self.captured.bytes.escape_ascii()))
    }

    /// A ping whose pong shows that everything before it is done; nothing else may come before it.
    fn barrier(&mut self, number: u32) -> Outcome {
        let mark = format!("barrier {number}").into_bytes();
        self.socket.send(client_frame(0x89, &mark));
        let mut pong = vec![0x8a, mark.len() as u8];
        pong.extend_from_slice(&mark);
        self.expect(&Unit::Frame(pong), false)
    }

    /// An event that was published last comes next.
    fn expect_barrier_event(&mut self) -> Outcome {
        let unit = self.next(false)?;
        let text = match &unit {
            Unit::Frame(bytes) | Unit::Event(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        match text.contains("barrier") {
            true => Ok(()),
            false => Err(format!("came too much: {unit:?}")),
        }
    }
}

/// Is this a row of complete frames (and not the beginning of one)?
fn is_whole_frames(mut bytes: &[u8]) -> bool {
    while let (Some(first), Some(second)) = (bytes.first(), bytes.get(1)) {
        let (length, start) = match second & 0x7f {
            126 if bytes.len() >= 4 => (u64::from(u16::from_be_bytes([bytes[2], bytes[3]])), 8),
            126 | 127 => return false,
            short => (u64::from(short), 6),
        };
        let end = start + length as usize;
        let closes = first & 0x0f == 8;
        if second & 0x80 == 0 || closes || first & 0x80 == 0 || bytes.len() < end {
            return false;
        }
        bytes = &bytes[end..];
    }
    bytes.is_empty()
}
