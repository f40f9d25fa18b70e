//! A private Redis and a small client for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;
use tempfile::TempDir;

use super::patience::{PATIENCE, eventually};
use super::ports::Port;
use super::process::{Launch, Process, scratch};

/// A Redis server of one's own.
#[derive(Debug)]
pub struct Redis {
    process: Option<Process>,
    port: Port,
    directory: TempDir,
    options: Vec<String>,
}

impl Redis {
    /// Starts one without a password.
    pub fn start() -> Redis {
        Redis::start_with(&[])
    }

    /// Starts one with more options, as `["--requirepass", "secret"]`.
    pub fn start_with(options: &[&str]) -> Redis {
        let options = options.iter().map(ToString::to_string).collect();
        let mut redis =
            Redis { process: None, port: Port::take(), directory: scratch("redis"), options };
        redis.resume();
        redis
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The Unix socket.
    pub fn socket(&self) -> String {
        self.directory.path().join("socket").to_string_lossy().into_owned()
    }

    /// Kills it; its port stays reserved.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same port, empty.
    pub fn resume(&mut self) {
        let mut command = vec!["redis-server".to_string()];
        let port = self.port().to_string();
        let socket = self.socket();
        for part in ["--port", &port, "--bind", "127.0.0.1", "--unixsocket", &socket] {
            command.push(part.to_string());
        }
        for part in ["--unixsocketperm", "777", "--save", "", "--appendonly", "no"] {
            command.push(part.to_string());
        }
        command.extend(self.options.iter().cloned());
        let mut process = Process::start(Launch {
            command,
            environment: None,
            directory: self.directory.path(),
            output: self.directory.path().join("log"),
            user: None,
            end: Signal::KILL,
        });
        process.await_port(self.port());
        self.process = Some(process);
    }

    /// The server process.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("Redis runs")
    }

    /// A new connection.
    pub fn client(&self) -> RedisClient {
        RedisClient::connect(self.port())
    }

    /// Publishes; returns how many Redis connections got it.
    #[track_caller]
    pub fn publish(&self, channel: &str, message: impl AsRef<[u8]>) -> i64 {
        self.client().publish(channel, message)
    }

    /// Publishes once somebody is subscribed to the channel.
    #[track_caller]
    pub fn publish_wanted(&self, channel: &str, message: impl AsRef<[u8]>) {
        let mut client = self.client();
        client.await_subscribers(channel, 1);
        assert!(client.publish(channel, message) >= 1, "nobody got a message on {channel}");
    }

    /// Waits until so many connections are subscribed to the channel.
    #[track_caller]
    pub fn await_subscribers(&self, channel: &str, count: i64) {
        self.client().await_subscribers(channel, count);
    }
}

/// A reply of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+` or a bulk string.
    Bytes(Vec<u8>),
    /// `-`.
    Error(String),
    /// `:`.
    Integer(i64),
    /// `*`.
    Array(Vec<Reply>),
    /// A null bulk string or array.
    Nothing,
}

impl Reply {
    /// The text of a string reply.
    #[track_caller]
    pub fn text(&self) -> String {
        match self {
            Reply::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("no text: {other:?}"),
        }
    }

    /// The number of an integer reply.
    #[track_caller]
    pub fn integer(&self) -> i64 {
        match self {
            Reply::Integer(number) => *number,
            other => panic!("no integer: {other:?}"),
        }
    }

    /// The texts of an array of strings.
    #[track_caller]
    pub fn texts(&self) -> Vec<String> {
        match self {
            Reply::Array(items) => items.iter().map(Reply::text).collect(),
            other => panic!("no array: {other:?}"),
        }
    }
}

/// A connection to Redis.
#[derive(Debug)]
pub struct RedisClient {
    stream: BufReader<TcpStream>,
}

impl RedisClient {
    /// Connects to a port of this machine.
    #[track_caller]
    pub fn connect(port: u16) -> RedisClient {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect to Redis");
        stream.set_read_timeout(Some(PATIENCE)).expect("set a timeout");
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        RedisClient { stream: BufReader::new(stream) }
    }

    /// Sends one command on a connection of its own; `None` if the connection fails.
    pub fn try_command(port: u16, parts: &[&str]) -> Option<Reply> {
        let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut client = RedisClient { stream: BufReader::new(stream) };
        client.send(parts);
        let bytes = client.stream.fill_buf().ok()?;
        (!bytes.is_empty()).then(|| client.read())
    }

    /// Sends a command and reads its reply.
    #[track_caller]
    pub fn command<P: AsRef<[u8]>>(&mut self, parts: &[P]) -> Reply {
        self.send(parts);
        self.read()
    }

    /// Sends a command.
    #[track_caller]
    pub fn send<P: AsRef<[u8]>>(&mut self, parts: &[P]) {
        let mut bytes = format!("*{}\r\n", parts.len()).into_bytes();
        for part in parts {
            let part = part.as_ref();
            bytes.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes).expect("write to Redis");
    }

    /// Reads a reply.
    #[track_caller]
    pub fn read(&mut self) -> Reply {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("read from Redis");
        let line = line.trim_end();
        assert!(!line.is_empty(), "Redis closed the connection");
        let rest = &line[1..];
        match line.as_bytes()[0] {
            b'+' => Reply::Bytes(rest.as_bytes().to_vec()),
            b'-' => Reply::Error(rest.to_string()),
            b':' => Reply::Integer(rest.parse().expect("an integer")),
            b'*' if rest == "-1" => Reply::Nothing,
            b'*' => {
                Reply::Array((0..rest.parse().expect("a length")).map(|_| self.read()).collect())
            }
            b'$' if rest == "-1" => Reply::Nothing,
            b'$' => {
                let mut bytes = vec![0; rest.parse::<usize>().expect("a length") + 2];
                self.stream.read_exact(&mut bytes).expect("read from Redis");
                bytes.truncate(bytes.len() - 2);
                Reply::Bytes(bytes)
            }
            other => panic!("unexpected reply type {other}"),
        }
    }

    /// Publishes; returns how many Redis connections got it.
    #[track_caller]
    pub fn publish(&mut self, channel: &str, message: impl AsRef<[u8]>) -> i64 {
        self.command(&[b"PUBLISH", channel.as_bytes(), message.as_ref()]).integer()
    }

    /// How many connections are subscribed to the channel.
    #[track_caller]
    pub fn subscribers(&mut self, channel: &str) -> i64 {
        match self.command(&["PUBSUB", "NUMSUB", channel]) {
            Reply::Array(items) => items[1].integer(),
            other => panic!("PUBSUB NUMSUB: {other:?}"),
        }
    }

    /// Waits until so many connections are subscribed to the channel.
    #[track_caller]
    pub fn await_subscribers(&mut self, channel: &str, count: i64) {
        eventually(&format!("{count} subscriptions to {channel}"), || {
            (self.subscribers(channel) == count).then_some(())
        });
    }

    /// All channels that somebody is subscribed to, sorted.
    #[track_caller]
    pub fn channels(&mut self) -> Vec<String> {
        let mut channels = self.command(&["PUBSUB", "CHANNELS"]).texts();
        channels.sort();
        channels
    }
}
