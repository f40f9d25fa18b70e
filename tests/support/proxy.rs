//! A proxy that misbehaves on demand: what bad networks and bad servers do (promise R7, R8).
//!
//! ```text
//! the server under test ══ ToServer ══► Proxy ═══► Redis or Postgres
//!                       ◄═ ToClient ═══
//! ```
//!
//! Faults hold for the connections that stand and for those to come, until [`Proxy::heal`]. What a
//! black hole has swallowed comes out when it is healed, as TCP sends again what was lost.

#![allow(clippy::disallowed_types, reason = "the rule is for shards; here threads share a plan")]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use super::ports::Port;

/// How often a thread looks whether the plan has changed.
const GLANCE: Duration = Duration::from_millis(2);

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// What the server under test says.
    ToServer,
    /// What Redis or Postgres says.
    ToClient,
}

/// What happens to bytes on their way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fault {
    /// Nothing comes through, not even the end.
    pub black_hole: bool,
    /// Each read is held back for so long.
    pub latency: Duration,
    /// 0: as fast as it goes.
    pub bytes_per_sec: usize,
    /// So many bytes in a segment; 0: as they come.
    pub slice: usize,
}

/// Nothing comes through.
pub const BLACK_HOLE: Fault =
    Fault { black_hole: true, latency: Duration::ZERO, bytes_per_sec: 0, slice: 0 };

/// The proxy. Its threads end with it.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// By direction.
    faults: [Fault; 2],
    /// Only connections that begin with these words have faults.
    mark: Option<&'static str>,
    /// New connections are refused.
    refuses: bool,
    /// Connections with the mark are cut after so many bytes to the client, each one later.
    stairs: Option<usize>,
    ended: bool,
    links: Vec<Link>,
}

/// A connection, also one that is over.
#[derive(Debug)]
struct Link {
    opened: Instant,
    client: Option<TcpStream>,
    /// The client has hung up, though the other side may not have heard of it.
    left: bool,
    /// The first that the client has said.
    words: Vec<u8>,
    /// Bytes to the client so far.
    said: usize,
    /// Cut after so many of them.
    cut: usize,
}

impl Proxy {
    /// Stands in front of a port of this machine.
    pub fn start(upstream: u16) -> Proxy {
        let (port, shared) = (Port::take(), Arc::new(Mutex::new(Shared::default())));
        let (number, threads) = (port.number(), Arc::clone(&shared));
        let listener = bind(number);
        thread::spawn(move || accept(listener, number, upstream, &threads));
        Proxy { port, shared }
    }

    /// Where to connect to.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Does this to everything that goes this way.
    pub fn disturb(&self, way: Way, fault: Fault) {
        self.lock().faults[way as usize] = fault;
    }

    /// Does this both ways.
    pub fn disturb_both(&self, fault: Fault) {
        self.lock().faults = [fault; 2];
    }

    /// From here on faults concern only connections whose client says this at the beginning.
    pub fn concern_only(&self, mark: &'static str) {
        self.lock().mark = Some(mark);
    }

    /// Resets the connections that stand and refuses all others.
    pub fn refuse(&self) {
        self.lock().refuses = true;
        // The listener is closed when its thread has looked.
        while TcpStream::connect(("127.0.0.1", self.port())).is_ok() {
            sleep(GLANCE);
        }
        self.reset();
    }

    /// Resets the connections that stand.
    pub fn reset(&self) {
        self.lock().links.iter_mut().for_each(Link::reset);
    }

    /// Cuts each connection that is concerned one byte later than the one before, from zero on.
    pub fn cut_later_each_time(&self) {
        self.lock().stairs = Some(0);
    }

    /// The bytes after which the next connection is cut.
    pub fn next_cut(&self) -> usize {
        self.lock().stairs.unwrap_or(usize::MAX)
    }

    /// The network is fine again.
    pub fn heal(&self) {
        let mut shared = self.lock();
        shared.faults = [Fault::default(); 2];
        (shared.mark, shared.stairs, shared.refuses) = (None, None, false);
        for link in &mut shared.links {
            link.cut = usize::MAX;
        }
    }

    /// When each connection whose client says this came, those included that are over.
    pub fn arrivals(&self, mark: &str) -> Vec<Instant> {
        self.lock().links.iter().filter(|link| link.says(mark)).map(|link| link.opened).collect()
    }

    /// How many connections the client holds.
    pub fn standing(&self) -> usize {
        let shared = self.lock();
        shared.links.iter().filter(|link| link.client.is_some() && !link.left).count()
    }

    /// Bytes to the client on the newest connection whose client says this.
    pub fn said(&self, mark: &str) -> usize {
        let shared = self.lock();
        shared.links.iter().rev().find(|link| link.says(mark)).map_or(0, |link| link.said)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        lock(&self.shared)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut shared = self.lock();
        shared.ended = true;
        shared.links.iter_mut().for_each(Link::reset);
    }
}

impl Link {
    fn says(&self, mark: &str) -> bool {
        let mark = mark.as_bytes();
        mark.is_empty() || self.words.windows(mark.len()).any(|window| window == mark)
    }

    fn reset(&mut self) {
        if let Some(client) = self.client.take() {
            // Closed without lingering, a socket is reset. The other threads hold it, too: they
            // learn from the shutdown.
            let _ = rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO));
            let _ = client.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn fault(&self, index: usize, way: Way) -> Fault {
        match self.mark {
            Some(mark) if !self.links[index].says(mark) => Fault::default(),
            _ => self.faults[way as usize],
        }
    }

    /// The first words of a connection decide whether it is cut.
    fn hear(&mut self, index: usize, words: &[u8]) {
        let link = &mut self.links[index];
        let is_first = link.words.is_empty();
        link.words.extend_from_slice(words.get(..256).unwrap_or(words));
        if is_first
            && let Some(stairs) = &mut self.stairs
            && self.mark.is_none_or(|mark| link.says(mark))
        {
            link.cut = *stairs;
            *stairs += 1;
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().expect("no thread of the proxy panics")
}

fn bind(port: u16) -> TcpListener {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("listen");
    listener.set_nonblocking(true).expect("do not block");
    listener
}

fn accept(listener: TcpListener, port: u16, upstream: u16, shared: &Arc<Mutex<Shared>>) {
    let mut listener = Some(listener);
    loop {
        let (ended, refuses) = {
            let shared = lock(shared);
            (shared.ended, shared.refuses)
        };
        if ended {
            return;
        }
        match &listener {
            Some(_) if refuses => listener = None,
            None if !refuses => listener = Some(bind(port)),
            _ => {}
        }
        match listener.as_ref().map(TcpListener::accept) {
            Some(Ok((client, _))) => open(client, upstream, shared),
            _ => sleep(GLANCE),
        }
    }
}

/// Connects on; a server that refuses looks to the client as if it hung up at once.
fn open(client: TcpStream, upstream: u16, shared: &Arc<Mutex<Shared>>) {
    let (opened, words) = (Instant::now(), Vec::new());
    let server = TcpStream::connect(("127.0.0.1", upstream));
    let held = server.is_ok().then(|| client.try_clone().expect("clone"));
    let index = {
        let mut shared = lock(shared);
        let (left, said, cut) = (false, 0, usize::MAX);
        shared.links.push(Link { opened, client: held, left, words, said, cut });
        shared.links.len() - 1
    };
    let Ok(server) = server else { return };
    let pairs = [
        (Way::ToServer, client.try_clone(), server.try_clone()),
        (Way::ToClient, Ok(server), Ok(client)),
    ];
    for (way, from, to) in pairs {
        let (from, to) = (from.expect("clone"), to.expect("clone"));
        to.set_nodelay(true).expect("set TCP_NODELAY");
        from.set_read_timeout(Some(GLANCE * 10)).expect("set a timeout");
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            carry(&shared, index, way, from, to);
            lock(&shared).links[index].client = None;
        });
    }
}

/// Carries one direction of a connection to its end.
fn carry(shared: &Mutex<Shared>, index: usize, way: Way, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if lock(shared).links[index].client.is_none() {
                    return;
                }
                continue;
            }
            Err(_) => 0,
        };
        if way == Way::ToServer {
            let mut shared = lock(shared);
            shared.hear(index, &buffer[..count]);
            shared.links[index].left = count == 0;
        }
        let fault = loop {
            let fault = lock(shared).fault(index, way);
            match fault.black_hole {
                true if lock(shared).links[index].client.is_none() => return,
                true => sleep(GLANCE),
                false => break fault,
            }
        };
        if count == 0 {
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
        sleep(fault.latency);
        let slice = match (fault.slice, fault.bytes_per_sec) {
            (0, 0) => count,
            (0, rate) => (rate / 50).max(1),
            (slice, _) => slice,
        };
        for piece in buffer[..count].chunks(slice) {
            if fault.bytes_per_sec > 0 {
                sleep(Duration::from_secs_f64(piece.len() as f64 / fault.bytes_per_sec as f64));
            }
            if !pass(shared, index, way, piece, &mut to) {
                return;
            }
        }
    }
}

/// Writes a piece, up to where the connection is cut; `false`: it is over.
fn pass(shared: &Mutex<Shared>, index: usize, way: Way, piece: &[u8], to: &mut TcpStream) -> bool {
    let mut shared = lock(shared);
    let link = &mut shared.links[index];
    let left = match way {
        Way::ToServer => piece.len(),
        Way::ToClient => link.cut.saturating_sub(link.said).min(piece.len()),
    };
    if way == Way::ToClient {
        link.said += left;
    }
    let is_cut = left < piece.len();
    // A reader that takes nothing must not keep the others from their lock.
    drop(shared);
    let written = to.write_all(&piece[..left]).is_ok();
    if is_cut {
        let _ = to.shutdown(Shutdown::Both);
    }
    written && !is_cut
}
