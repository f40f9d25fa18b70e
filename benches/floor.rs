//! The floor: what a delivery costs when nothing is done but subscribing to Redis and one
//! non-blocking send of a ready frame for each socket, in a loop, on one thread. No look at tokens,
//! no filters, no keep-alive, no bound.
//!
//! `scripts/load-floor` measures it with the same clients and the same publisher as the server:
//! `trunkline load fanout --bare`, `trunkline load home --bare`.
//!
//! It answers every upgrade, takes the account's number from `tok-N`, and sends the bytes that
//! Redis gave it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::env;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use bytes::BytesMut;
use rustix::net::{SendFlags, send};
use trunkline::config::Limits;
use trunkline::io::poller::{Poller, Readiness};
use trunkline::protocol::resp::{Reply, ReplyLimits, encode_command, next_reply};

const LISTENER: u64 = u64::MAX;
const REDIS: u64 = u64::MAX - 1;

const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn main() {
    if env::args().nth(1).as_deref() != Some("serve") {
        println!("measured by scripts/load-floor; `floor serve` listens on PORT for REDIS_URL");
        return;
    }
    let port: u16 = env::var("PORT").expect("PORT").parse().expect("PORT is a number");
    let redis = env::var("REDIS_URL").expect("REDIS_URL");
    let redis = TcpStream::connect(redis.trim_start_matches("redis://")).expect("Redis answers");
    redis.set_nonblocking(true).unwrap();
    redis.set_nodelay(true).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    listener.set_nonblocking(true).unwrap();
    let poller = Poller::new(512).unwrap();
    poller.add_level(&listener, LISTENER).unwrap();
    poller.add(&redis, REDIS).unwrap();
    let floor = Floor {
        poller,
        listener,
        redis,
        clients: Vec::new(),
        free: Vec::new(),
        readers: HashMap::new(),
        input: BytesMut::new(),
        scratch: vec![0; 256 * 1024],
        frame: Vec::new(),
    };
    floor.run();
}

struct Floor {
    poller: Poller,
    listener: TcpListener,
    redis: TcpStream,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    readers: HashMap<Vec<u8>, Vec<usize>>,
    input: BytesMut,
    scratch: Vec<u8>,
    frame: Vec<u8>,
}

struct Client {
    socket: TcpStream,
    channel: Option<Vec<u8>>,
}

impl Floor {
    fn run(mut self) {
        loop {
            let count = self.poller.wait(None).unwrap();
            for index in 0..count {
                let Readiness { key, .. } = self.poller.take(index).unwrap();
                match key {
                    LISTENER => self.accept(),
                    REDIS => self.hear(),
                    key => self.read(key as usize),
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            socket.set_nonblocking(true).unwrap();
            socket.set_nodelay(true).unwrap();
            let place = self.free.pop().unwrap_or(self.clients.len());
            if place == self.clients.len() {
                self.clients.push(None);
            }
            self.poller.add(&socket, place as u64).unwrap();
            self.clients[place] = Some(Client { socket, channel: None });
        }
    }

    fn read(&mut self, place: usize) {
        let Some(client) = self.clients.get_mut(place).and_then(Option::as_mut) else { return };
        match client.socket.read(&mut self.scratch) {
            Ok(0) => self.close(place),
            Ok(count) if client.channel.is_none() => {
                let request = String::from_utf8_lossy(&self.scratch[..count]).into_owned();
                self.open(place, &request);
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.close(place),
        }
    }

    fn open(&mut self, place: usize, request: &str) {
        let channel = channel_of(request).into_bytes();
        let readers = self.readers.entry(channel.clone()).or_default();
        if readers.is_empty() {
            let mut command = Vec::new();
            encode_command(&mut command, &[b"SUBSCRIBE", &channel]);
            self.redis.write_all(&command).unwrap();
        }
        readers.push(place);
        let client = self.clients[place].as_mut().unwrap();
        client.channel = Some(channel);
        client.socket.write_all(ANSWER).unwrap();
    }

    fn close(&mut self, place: usize) {
        let channel = self.clients[place].take().and_then(|client| client.channel);
        if let Some(readers) = channel.and_then(|channel| self.readers.get_mut(&channel)) {
            readers.retain(|reader| *reader != place);
        }
        self.free.push(place);
    }

    fn hear(&mut self) {
        let limits = ReplyLimits::new(&Limits::DEFAULT);
        loop {
            match self.redis.read(&mut self.scratch) {
                Ok(0) => panic!("Redis has gone"),
                Ok(count) => self.input.extend_from_slice(&self.scratch[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("Redis: {error}"),
            }
            while let Some(reply) = next_reply(&mut self.input, limits).unwrap() {
                if let Reply::Message { channel, payload } = reply {
                    self.deliver(&channel, &payload);
                }
            }
        }
    }

    fn deliver(&mut self, channel: &[u8], payload: &[u8]) {
        self.frame.clear();
        self.frame.push(0x81);
        self.frame.push(126);
        self.frame.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
        self.frame.extend_from_slice(payload);
        for place in self.readers.get(channel).into_iter().flatten() {
            let socket = &self.clients[*place].as_ref().unwrap().socket;
            // What does not fit is lost: the clients would say so.
            let _ = send(socket.as_fd(), &self.frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }
}

/// `tok-N` has the account 110000000000000000 + N · 1000003, as scripts/load-servers makes them.
fn channel_of(request: &str) -> String {
    let word = |before: &str| {
        let rest = request.split_once(before).expect("a request of the load tool").1;
        rest.split([' ', '&']).next().unwrap().to_owned()
    };
    match word("stream=").as_str() {
        "user" => {
            let number: u64 = word("access_token=tok-").parse().unwrap();
            format!("timeline:{}", 110_000_000_000_000_000 + number * 1_000_003)
        }
        public => format!("timeline:{public}"),
    }
}
