//! A client's socket that shows every byte and never waits for ever.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{set_socket_linger, set_socket_recv_buffer_size};

use super::http::{Response, take_response};
use super::patience::PATIENCE;

/// A connected stream socket and what has been read from it but not yet used.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    /// Bytes received and not yet taken.
    pub received: Vec<u8>,
    /// Has the other side ended the connection?
    pub ended: bool,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// Connects to a port of this machine.
    #[track_caller]
    pub fn connect(port: u16) -> Socket {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        Socket { stream: Stream::Tcp(stream), received: Vec::new(), ended: false }
    }

    /// Connects to a Unix socket.
    #[track_caller]
    pub fn connect_unix(path: &Path) -> Socket {
        let stream = UnixStream::connect(path).expect("connect");
        Socket { stream: Stream::Unix(stream), received: Vec::new(), ended: false }
    }

    /// Sends; an error (the server may have gone) is the caller's to notice when it reads.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let result = match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes.as_ref()),
            Stream::Unix(stream) => stream.write_all(bytes.as_ref()),
        };
        let _ = result;
    }

    /// Says that nothing more will be sent.
    pub fn shut(&mut self) {
        let result = match &mut self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
        let _ = result;
    }

    /// Breaks the connection off: the other side gets a reset, and not what was sent last.
    pub fn reset(self) {
        if let Stream::Tcp(stream) = &self.stream {
            set_socket_linger(stream, Some(Duration::ZERO)).expect("set SO_LINGER");
        }
    }

    /// Lets the kernel keep little of what is not read.
    pub fn narrow(&mut self) {
        if let Stream::Tcp(stream) = &self.stream {
            set_socket_recv_buffer_size(stream, 32 * 1024).expect("set SO_RCVBUF");
        }
    }

    /// Reads more bytes; false at the end of the connection; panics after [`PATIENCE`].
    #[track_caller]
    pub fn read_more(&mut self) -> bool {
        match self.read_for(PATIENCE) {
            Some(more) => more,
            None => panic!("nothing came; unread so far: {}", self.received.escape_ascii()),
        }
    }

    /// Reads more bytes: `Some(true)`; `Some(false)` at the end; `None` if nothing comes in `time`.
    pub fn read_for(&mut self, time: Duration) -> Option<bool> {
        if self.ended {
            return Some(false);
        }
        let mut buffer = [0; 65_536];
        let result = match &mut self.stream {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(Some(time)).expect("set a timeout");
                stream.read(&mut buffer)
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(Some(time)).expect("set a timeout");
                stream.read(&mut buffer)
            }
        };
        match result {
            Ok(0) => self.ended = true,
            Ok(count) => self.received.extend_from_slice(&buffer[..count]),
            Err(error) if is_timeout(error.kind()) => return None,
            Err(_) => self.ended = true,
        }
        Some(!self.ended)
    }

    /// Takes an HTTP answer: the head, and a body of known length.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        loop {
            if let Some(response) = take_response(&mut self.received, self.ended) {
                return response;
            }
            assert!(!self.ended, "ended within an answer: {}", self.received.escape_ascii());
            self.read_more();
        }
    }

    /// Reads to the end of the connection; panics if anything but `rest` comes before.
    #[track_caller]
    pub fn expect_end(&mut self) {
        while self.read_more() {}
        let rest = self.received.escape_ascii();
        assert!(self.received.is_empty(), "came before the end: {rest}");
    }
}

fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
