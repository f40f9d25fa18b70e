//! The broker's thread: sockets around [`State`].

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::reply;
use super::request;
use super::state::{After, ClientId, State};
use crate::hub::moment::Moment;
use crate::io::poller::{Poller, Readiness};

/// Most connections at a time: the server's two, the publisher's, and some terminals.
const CLIENTS_MAX: usize = 64;

/// Bytes of requests that one client may have unfinished: more than the longest request that is
/// allowed.
const INPUT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes that may wait for one client: Redis' own bound for slow subscribers is 32 MB.
const OUTPUT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes read from one client before the others get their turn.
const TURN_BYTES_MAX: usize = 256 * 1024;

const LISTENER: u64 = 0;
const STOP: u64 = 1;
const FIRST_CLIENT: ClientId = 2;

/// Everything that the thread owns.
pub(super) struct Server {
    poller: Poller,
    listener: TcpListener,
    /// Readable once the other end is closed; kept because closing it would end the registration.
    _told: OwnedFd,
    state: State,
    connections: HashMap<ClientId, Connection>,
    /// Connections with unread bytes that no further edge will announce.
    unread: Vec<ClientId>,
    next: ClientId,
    started: Instant,
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Said good-bye, broke the protocol or was too slow: to be closed once `output` is written.
    closing: bool,
}

/// How far reading got.
enum Progress {
    /// The kernel has nothing more for now.
    Drained,
    /// There may be more: the others first.
    More,
    /// The peer is gone.
    Gone,
}

impl Server {
    pub(super) fn new(listener: TcpListener, told: OwnedFd) -> io::Result<Server> {
        listener.set_nonblocking(true)?;
        let poller = Poller::new(64)?;
        poller.add_level(&listener, LISTENER)?;
        poller.add(&told, STOP)?;
        Ok(Server {
            poller,
            listener,
            _told: told,
            state: State::default(),
            connections: HashMap::new(),
            unread: Vec::new(),
            next: FIRST_CLIENT,
            started: Instant::now(),
        })
    }

    /// Serves until the other end of the pipe is closed.
    pub(super) fn run(mut self) {
        loop {
            let timeout = (!self.unread.is_empty()).then_some(Duration::ZERO);
            let Ok(count) = self.poller.wait(timeout) else { return };
            let ready: Vec<Readiness> =
                (0..count).filter_map(|index| self.poller.take(index)).collect();
            for client in std::mem::take(&mut self.unread) {
                self.read(client);
            }
            for event in ready {
                match event.key {
                    STOP => return,
                    LISTENER => self.accept(),
                    client => {
                        if event.readable || event.hung_up {
                            self.read(client);
                        }
                        self.flush(client);
                    }
                }
            }
        }
    }

    fn now(&self) -> Moment {
        Moment::default() + self.started.elapsed()
    }

    fn accept(&mut self) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            if self.connections.len() >= CLIENTS_MAX {
                // A fresh socket takes a line at once; if not, the client sees the end alone.
                let _ = stream.write(b"-ERR max number of clients reached\r\n");
                continue;
            }
            let client = self.next;
            let registered = stream
                .set_nonblocking(true)
                .and_then(|()| stream.set_nodelay(true))
                .and_then(|()| self.poller.add(&stream, client));
            if registered.is_ok() {
                self.next += 1;
                let (input, output) = (Vec::new(), Vec::new());
                let connection = Connection { stream, input, output, closing: false };
                self.connections.insert(client, connection);
            }
        }
    }

    fn read(&mut self, client: ClientId) {
        let Some(connection) = self.connections.get_mut(&client) else { return };
        let progress = connection.fill();
        self.serve(client);
        match progress {
            Progress::Drained => {}
            Progress::More => self.unread.push(client),
            Progress::Gone => self.close(client),
        }
    }

    /// Carries out every complete request of a client, then writes to everybody who was sent
    /// something.
    fn serve(&mut self, client: ClientId) {
        let now = self.now();
        let Some(connection) = self.connections.get_mut(&client) else { return };
        let input = std::mem::take(&mut connection.input);
        let mut rest = input.as_slice();
        let mut touched = vec![client];
        let mut after = After::Stay;
        while after == After::Stay && !rest.is_empty() {
            let connections = &mut self.connections;
            let mut output = |to: ClientId, bytes: &[u8]| {
                if let Some(connection) = connections.get_mut(&to) {
                    connection.output.extend_from_slice(bytes);
                    touched.push(to);
                }
            };
            match request::parse(rest) {
                Ok(Some((words, behind))) => {
                    after = self.state.execute(client, &words, now, &mut output);
                    rest = behind;
                }
                Ok(None) if rest.len() <= INPUT_BYTES_MAX => break,
                Ok(None) => after = After::Close,
                Err(malformed) => {
                    let mut answer = Vec::new();
                    reply::error(&mut answer, &format!("ERR Protocol error: {}", malformed.0));
                    output(client, &answer);
                    after = After::Close;
                }
            }
        }
        if let Some(connection) = self.connections.get_mut(&client) {
            connection.input = rest.to_vec();
            connection.closing |= after == After::Close;
        }
        touched.sort_unstable();
        touched.dedup();
        for touched in touched {
            self.flush(touched);
        }
    }

    fn flush(&mut self, client: ClientId) {
        let Some(connection) = self.connections.get_mut(&client) else { return };
        let alive = connection.drain();
        let slow = connection.output.len() > OUTPUT_BYTES_MAX;
        if !alive || slow || (connection.closing && connection.output.is_empty()) {
            self.close(client);
        }
    }

    fn close(&mut self, client: ClientId) {
        self.connections.remove(&client);
        self.state.forget(client);
    }
}

impl Connection {
    /// Reads what has come, up to the bound of a turn.
    fn fill(&mut self) -> Progress {
        let mut scratch = [0; 16 * 1024];
        let mut taken = 0;
        while taken < TURN_BYTES_MAX {
            match self.stream.read(&mut scratch) {
                Ok(0) => return Progress::Gone,
                Ok(count) => {
                    taken += count;
                    if !self.closing {
                        self.input.extend_from_slice(scratch.get(..count).unwrap_or_default());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Progress::Drained,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Progress::Gone,
            }
        }
        Progress::More
    }

    /// Writes what the kernel takes. False if the peer is gone.
    fn drain(&mut self) -> bool {
        let mut written = 0;
        let alive = loop {
            let rest = self.output.get(written..).unwrap_or_default();
            if rest.is_empty() {
                break true;
            }
            match self.stream.write(rest) {
                Ok(0) => break false,
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        self.output.drain(..written);
        alive
    }
}

#[cfg(test)]
mod tests {
    use super::super::Broker;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{Shutdown, SocketAddr, TcpStream};
    use std::process::{Command, Output};

    fn connected(broker: &Broker) -> TcpStream {
        TcpStream::connect(broker.address()).unwrap()
    }

    fn read_exactly(stream: &mut TcpStream, expected: &str) {
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
    }

    /// `redis-cli` if it is installed here.
    fn redis_cli(address: SocketAddr, arguments: &[&str]) -> Option<Output> {
        let port = address.port().to_string();
        Command::new("redis-cli").args(["-p", &port]).args(arguments).output().ok()
    }

    #[test]
    fn pipelined_requests_are_answered_in_order_however_they_are_cut() {
        let broker = Broker::start().unwrap();
        let mut stream = connected(&broker);
        for chunk in ["*1\r\n$4\r\nPI", "NG\r\nECHO hi\r\n*2\r", "\n$6\r\nEXISTS\r\n$1\r\nx\r\n"] {
            stream.write_all(chunk.as_bytes()).unwrap();
        }
        read_exactly(&mut stream, "+PONG\r\n$2\r\nhi\r\n:0\r\n");
    }

    #[test]
    fn everything_published_arrives_in_order() {
        let broker = Broker::start().unwrap();
        let (mut subscriber, mut publisher) = (connected(&broker), connected(&broker));
        subscriber.write_all(b"SUBSCRIBE c\r\n").unwrap();
        read_exactly(&mut subscriber, "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
        let writing = std::thread::spawn(move || {
            for number in 0..20_000 {
                publisher.write_all(format!("PUBLISH c {number:05}\r\n").as_bytes()).unwrap();
            }
            let mut answers = BufReader::new(publisher).lines();
            for _ in 0..20_000 {
                assert_eq!(answers.next().unwrap().unwrap(), ":1");
            }
        });
        for number in 0..20_000 {
            let message = format!("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$5\r\n{number:05}\r\n");
            read_exactly(&mut subscriber, &message);
        }
        writing.join().unwrap();
    }

    #[test]
    fn a_subscriber_that_does_not_read_is_cut_and_nobody_else_suffers() {
        let broker = Broker::start().unwrap();
        let (mut slow, mut publisher) = (connected(&broker), connected(&broker));
        slow.write_all(b"SUBSCRIBE c\r\n").unwrap();
        read_exactly(&mut slow, "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
        let message = "x".repeat(1_000_000);
        let request = format!("*3\r\n$7\r\nPUBLISH\r\n$1\r\nc\r\n$1000000\r\n{message}\r\n");
        let mut cut = false;
        for _ in 0..200 {
            publisher.write_all(request.as_bytes()).unwrap();
            let mut answer = [0; 4];
            publisher.read_exact(&mut answer).unwrap();
            cut |= &answer == b":0\r\n";
            if cut {
                break;
            }
        }
        assert!(cut, "200 MB waited for a client that reads nothing");
    }

    #[test]
    fn broken_protocol_ends_only_its_own_connection() {
        let broker = Broker::start().unwrap();
        let (mut broken, mut other) = (connected(&broker), connected(&broker));
        broken.write_all(b"*1\r\n:1\r\n").unwrap();
        let mut answer = String::new();
        broken.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "-ERR Protocol error: expected '$'\r\n");
        other.write_all(b"PING\r\n").unwrap();
        read_exactly(&mut other, "+PONG\r\n");
    }

    #[test]
    fn what_a_client_sent_before_it_closed_is_carried_out() {
        let broker = Broker::start().unwrap();
        let mut stream = connected(&broker);
        stream.write_all(b"ECHO last\r\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "$4\r\nlast\r\n");
    }

    #[test]
    fn dropping_the_broker_ends_its_connections() {
        let broker = Broker::start().unwrap();
        let mut stream = connected(&broker);
        stream.write_all(b"PING\r\n").unwrap();
        read_exactly(&mut stream, "+PONG\r\n");
        drop(broker);
        assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0);
    }

    #[test]
    fn redis_cli_can_talk_to_it() {
        let broker = Broker::start().unwrap();
        let ask = |arguments: &[&str]| {
            let output = redis_cli(broker.address(), arguments)?;
            Some(String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
        };
        let Some(pong) = ask(&["PING"]) else { return };
        assert_eq!(pong, "PONG");
        assert_eq!(ask(&["SET", "subscribed:timeline:1", "1", "EX", "1080"]).unwrap(), "OK");
        assert_eq!(ask(&["TTL", "subscribed:timeline:1"]).unwrap(), "1080");
        assert_eq!(ask(&["GET", "subscribed:timeline:1"]).unwrap(), "1");
        assert_eq!(ask(&["PUBLISH", "timeline:public", "{}"]).unwrap(), "0");
        assert!(ask(&["-3", "PING"]).unwrap().contains("PONG"), "falls back to RESP2");
        assert!(ask(&["INFO"]).unwrap().contains("redis_version"));
    }
}
