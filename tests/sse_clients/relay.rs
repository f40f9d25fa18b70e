//! A relay that cuts what the server says: the request's query says where. `cuts=0,0`: nowhere;
//! `cuts=17,61`: before bytes 17, 78, 139, … of the answer, its head included, and further on at
//! random.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::support::http::find;

/// Long enough for a reader to take the first part on its own most of the time. Nothing is asserted
/// about it.
const BETWEEN_PARTS: Duration = Duration::from_micros(500);
/// Bytes of an answer up to which it is cut at every stride.
const CUT_BYTES: usize = 12 * 1024;
/// The longest part further on, in bytes.
const PART_BYTES_MAX: usize = 8 * 1024;

/// A running relay. Its threads end with their connections.
pub struct Relay {
    port: u16,
}

impl Relay {
    /// Starts one before the server on this port.
    pub fn start(server: u16) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("an address").port();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                thread::spawn(move || relay(client, server));
            }
        });
        Relay { port }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// One connection; its ends are those of the two sockets.
fn relay(mut client: TcpStream, port: u16) -> Option<()> {
    let mut head = Vec::new();
    while find(&head, b"\r\n\r\n").is_none() {
        let mut buffer = [0; 4096];
        let count = client.read(&mut buffer).ok().filter(|count| *count > 0)?;
        head.extend_from_slice(&buffer[..count]);
    }
    let (phase, stride) = cuts(&String::from_utf8_lossy(&head));
    let mut server = TcpStream::connect(("127.0.0.1", port)).ok()?;
    server.write_all(&head).ok()?;
    client.set_nodelay(true).ok()?;
    // Nobody sends a second request; that the client has gone ends the server's side.
    let (mut from_client, to_server) = (client.try_clone().ok()?, server.try_clone().ok()?);
    thread::spawn(move || {
        while from_client.read(&mut [0; 512]).is_ok_and(|count| count > 0) {}
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let mut random = fastrand::Rng::with_seed(phase as u64);
    let mut place = 0;
    let mut buffer = [0; 65_536];
    loop {
        let count = server.read(&mut buffer).ok().filter(|count| *count > 0);
        let Some(count) = count else {
            return client.shutdown(Shutdown::Both).ok();
        };
        let mut rest = &buffer[..count];
        while !rest.is_empty() {
            let length = match place < CUT_BYTES || stride == 0 {
                true => until_cut(place, phase, stride),
                false => random.usize(1..=PART_BYTES_MAX),
            };
            let length = length.min(rest.len());
            client.write_all(&rest[..length]).ok()?;
            rest = &rest[length..];
            place += length;
            if stride > 0 {
                thread::sleep(BETWEEN_PARTS);
            }
        }
    }
}

/// Bytes from `place` to the next cut.
fn until_cut(place: usize, phase: usize, stride: usize) -> usize {
    match place < phase {
        _ if stride == 0 => usize::MAX,
        true => phase - place,
        false => stride - (place - phase) % stride,
    }
}

fn cuts(head: &str) -> (usize, usize) {
    let given = head.split("cuts=").nth(1).and_then(|rest| rest.split([' ', '&']).next());
    let (phase, stride) = given.and_then(|cuts| cuts.split_once(',')).expect("cuts");
    (phase.parse().expect("a number"), stride.parse().expect("a number"))
}
