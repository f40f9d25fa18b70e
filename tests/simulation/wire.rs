//! A socket without a kernel: the server's end, and the buffer between it and the client.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;

use trunkline::hub::shard::{Sent, Socket};

/// The way from the server to one client.
#[derive(Debug)]
pub struct Wire {
    /// Sent by the server, not read by the client.
    pub bytes: VecDeque<u8>,
    /// Bytes that fit.
    pub capacity: usize,
    /// Bytes that one `send` takes at most.
    pub bite: usize,
    /// The server was refused and waits to hear that there is room.
    pub blocked: bool,
    /// The kernel has no memory: it takes nothing, and will not say when it has again.
    pub starved: bool,
    /// The client is gone: sending fails.
    pub broken: bool,
    /// The server has said that nothing more comes.
    pub shut: bool,
    /// The server has dropped its end.
    pub closed: bool,
    /// Where the client is.
    pub address: Option<IpAddr>,
    /// How often the server has sent something.
    pub sends: usize,
}

/// Both ends look at it.
pub type SharedWire = Rc<RefCell<Wire>>;

/// The server's end.
pub struct FakeSocket(pub SharedWire);

impl Wire {
    /// A wire with room for so many bytes.
    pub fn new(capacity: usize, bite: usize) -> SharedWire {
        Rc::new(RefCell::new(Wire {
            bytes: VecDeque::new(),
            capacity,
            bite,
            blocked: false,
            starved: false,
            broken: false,
            shut: false,
            closed: false,
            address: None,
            sends: 0,
        }))
    }

    /// There is room again and the server waits for it.
    pub fn has_news_for_server(&self) -> bool {
        self.blocked && !self.closed && (self.broken || self.bytes.len() < self.capacity)
    }
}

impl Socket for FakeSocket {
    fn send(&mut self, bytes: &[u8]) -> Sent {
        let mut wire = self.0.borrow_mut();
        assert!(!wire.shut, "sent after saying that nothing more comes");
        assert!(!bytes.is_empty(), "sent nothing");
        if wire.broken {
            return Sent::Broken;
        }
        if wire.starved {
            return Sent::Starved;
        }
        let count = bytes.len().min(wire.capacity - wire.bytes.len()).min(wire.bite);
        if count == 0 {
            wire.blocked = true;
            return Sent::Blocked;
        }
        wire.bytes.extend(&bytes[..count]);
        wire.sends += 1;
        Sent::Bytes(count)
    }

    fn peer(&self) -> Option<IpAddr> {
        self.0.borrow().address
    }

    fn shut(&mut self) {
        self.0.borrow_mut().shut = true;
    }
}

impl Drop for FakeSocket {
    fn drop(&mut self) {
        self.0.borrow_mut().closed = true;
    }
}
