//! The server's connection code with an echo above it in place of the streaming API.
//!
//! Everything below the messages is the server's own and unchanged: listener, driver, reading,
//! handshake, frame parser, control frames, closing, outbox, writing, and the mesh, at whose other
//! end a [`Doorman`] lets everybody in. The server's own sockets have no echo: this one is compiled
//! into this test only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_send_buffer_size;
use trunkline::config::{Limits, Listen, PortSharing, TrustedProxies};
use trunkline::hub::drain::Departure;
use trunkline::hub::message::{ToControl, ToShard};
use trunkline::hub::outbox::{Frame, WRITE_PARTS_MAX};
use trunkline::hub::session::{Scopes, Session};
use trunkline::hub::shard::{Heard, Sent, Settings, Shard, Socket};
use trunkline::io::bell::Bell;
use trunkline::io::clock::Clock;
use trunkline::io::driver::{Core, Driver, Turn};
use trunkline::io::listener::{ClientSocket, Listeners};
use trunkline::io::mesh::{ShardLink, mesh};
use trunkline::io::poller::Poller;
use trunkline::io::shard::ShardCore;
use trunkline::protocol::ids::{AccountId, TokenId};
use trunkline::protocol::websocket::{Data, Inbound, OpCode, frame_header};

/// How what is echoed leaves.
pub trait Path: Default + Send + 'static {
    /// What becomes of a message.
    fn hear(message: Inbound<'_>) -> Heard {
        echo(message).map_or(Heard::Kept, Heard::Answered)
    }

    /// Bytes that the next send may take of so many; `None`: the kernel is asked as usual.
    fn bite(&mut self, _available: usize) -> Option<usize> {
        None
    }
}

/// Every frame is sent at once, as an event that comes alone; only what the kernel refuses goes
/// through the outbox.
#[derive(Default)]
pub struct Direct;

impl Path for Direct {}

/// Every frame leaves in pieces through the outbox: the socket takes a part of it and refuses, over
/// and over.
#[derive(Default)]
pub struct Trickled {
    count: usize,
}

impl Path for Trickled {
    fn bite(&mut self, available: usize) -> Option<usize> {
        const BITES: [usize; 4] = [1, 0, 70_000, 0];
        let bite = BITES[self.count % BITES.len()];
        self.count += 1;
        // Something is left of a frame, so that the rest has to wait.
        Some(if available > 1 { bite.min(available - 1) } else { bite })
    }
}

/// Every frame is held and written together with what follows it, as events that come in numbers.
#[derive(Default)]
pub struct Gathered;

impl Path for Gathered {
    fn hear(message: Inbound<'_>) -> Heard {
        echo(message).map_or(Heard::Kept, Heard::AnsweredWithOthers)
    }
}

/// As an administrator gets it: texts are sent back, binary messages end the connection.
#[derive(Default)]
pub struct AsShipped;

impl Path for AsShipped {
    fn hear(message: Inbound<'_>) -> Heard {
        match message {
            Inbound::Text(_) => Direct::hear(message),
            _ => Heard::Pass,
        }
    }
}

fn echo(message: Inbound<'_>) -> Option<Frame> {
    let (kind, payload) = match message {
        Inbound::Text(text) => (Data::Text, text.as_bytes()),
        Inbound::Binary(bytes) => (Data::Binary, bytes),
        _ => return None,
    };
    let mut frame = Vec::new();
    frame_header(OpCode::Data(kind), payload.len(), &mut frame);
    frame.extend_from_slice(payload);
    Some(Frame::new(frame))
}

/// A client's socket that hears its messages itself.
struct EchoSocket<P> {
    socket: ClientSocket,
    path: P,
}

impl<P: Path> From<ClientSocket> for EchoSocket<P> {
    fn from(socket: ClientSocket) -> Self {
        EchoSocket { socket, path: P::default() }
    }
}

impl<P> AsRef<ClientSocket> for EchoSocket<P> {
    fn as_ref(&self) -> &ClientSocket {
        &self.socket
    }
}

impl<P: Path> Socket for EchoSocket<P> {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        self.send_parts(&[bytes])
    }

    fn send_parts(&mut self, parts: &[&[u8]]) -> Sent {
        assert!(parts.len() <= WRITE_PARTS_MAX);
        let available = parts.iter().map(|part| part.len()).sum();
        match self.path.bite(available) {
            None => self.socket.send_parts(parts),
            Some(0) => {
                wake_when_writable(&self.socket);
                Sent::Blocked
            }
            Some(bite) => self.socket.send_parts(&first_bytes(parts, bite)),
        }
    }

    fn shut(&mut self) {
        self.socket.shut();
    }

    fn hear(&mut self, message: Inbound<'_>) -> Heard {
        P::hear(message)
    }
}

/// Lets the kernel say that the socket is writable, as after it has refused, which it has not.
///
/// It says so when the size of the buffer is set, provided that there is room then. If there is
/// none, it says so later, but only if somebody has asked meanwhile.
fn wake_when_writable(socket: &ClientSocket) {
    let wake = || set_socket_send_buffer_size(socket, 64 * 1024).expect("set the buffer");
    wake();
    let mut asked = [PollFd::new(socket, PollFlags::OUT)];
    poll(&mut asked, Some(&Timespec::default())).expect("ask for room");
    // There may have been none for the first time, and some by the question.
    wake();
}

/// The front of `parts`, `count` bytes long.
fn first_bytes<'a>(parts: &[&'a [u8]], mut count: usize) -> Vec<&'a [u8]> {
    let mut front = Vec::new();
    for part in parts {
        let taken = part.len().min(count);
        if taken > 0 {
            front.push(&part[..taken]);
        }
        count -= taken;
    }
    front
}

/// A running echo: a shard with its listener, turned by a driver.
pub struct Echo {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Echo {
    /// Starts one.
    pub fn start<P: Path>(driver: Driver, limits: Limits) -> Echo {
        let clock = Clock::start();
        let any = Listen::Tcp("127.0.0.1:0".parse().expect("an address"));
        let mut listeners =
            Listeners::bind(&any, PortSharing::Refused, 1, Limits::DEFAULT.unacknowledged_secs_max)
                .expect("listen");
        let listener = listeners.sockets.remove(0);
        let port = listeners.address.rsplit(':').next().and_then(|port| port.parse().ok());
        let (mut links, bell, mut control_links) = mesh(1, &limits).expect("make a mesh");
        let (link, control_link) = (links.remove(0), control_links.remove(0));
        let stop = Arc::new(AtomicBool::new(false));
        let told_to_stop = Arc::clone(&stop);
        let turn_doorman = move || {
            let mut doorman = Doorman::new(link, bell, told_to_stop, clock);
            Driver::Epoll.drive(&mut doorman, clock).expect("a doorman");
        };
        let turn_shard = move || {
            let settings =
                Settings { limits, trusted_proxies: TrustedProxies::default(), front_page: None };
            let shard: Shard<EchoSocket<P>> = Shard::new(0, Arc::new(settings), 1, clock.now());
            let mut core = ShardCore::new(shard, listener, control_link, clock).expect("a core");
            driver.drive(&mut core, clock).expect("a shard");
        };
        let threads = vec![thread::spawn(turn_doorman), thread::spawn(turn_shard)];
        Echo { port: port.expect("a port"), stop, threads }
    }

    /// Sends everybody away; panics if anything has gone wrong in its threads.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a thread of the echo panicked");
        }
    }
}

/// How often the doorman looks whether it is to stop.
const LOOK_UP: Duration = Duration::from_millis(100);

/// In the control core's place: whoever comes is somebody.
struct Doorman {
    link: ShardLink,
    bell: Arc<Bell>,
    poller: Poller,
    stop: Arc<AtomicBool>,
    is_stopping: bool,
    clock: Clock,
    accounts: i64,
}

impl Doorman {
    fn new(link: ShardLink, bell: Arc<Bell>, stop: Arc<AtomicBool>, clock: Clock) -> Doorman {
        let poller = Poller::new(8).expect("an epoll instance");
        poller.add(&*bell, 0).expect("watch the bell");
        Doorman { link, bell, poller, stop, is_stopping: false, clock, accounts: 0 }
    }

    fn session(&mut self) -> Session {
        self.accounts += 1;
        Session {
            account: AccountId(self.accounts),
            token: TokenId(self.accounts),
            scopes: Scopes::parse("read"),
            views_all_feeds: false,
            languages: None,
        }
    }
}

impl Core for Doorman {
    fn turn(&mut self, _: usize) -> Turn {
        while let Some(message) = self.link.receive() {
            match message {
                ToControl::WhoIs { question, .. } => {
                    let answer = Ok(self.session());
                    self.link.send(ToShard::Session { question, answer });
                }
                ToControl::Drained => return Turn::Done,
                _ => {}
            }
        }
        if self.stop.load(Ordering::Relaxed) && !std::mem::replace(&mut self.is_stopping, true) {
            let departure = Departure { window: Duration::ZERO, shard: 0, shards: 1 };
            self.link.send(ToShard::Drain(departure));
        }
        self.link.flush();
        Turn::Idle(Some(self.clock.now() + LOOK_UP))
    }

    fn poller(&mut self) -> &mut Poller {
        &mut self.poller
    }

    fn bell(&self) -> &Bell {
        &self.bell
    }

    fn has_mail(&self) -> bool {
        self.link.has_mail()
    }
}
