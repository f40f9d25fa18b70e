//! Signals as bytes in a socket: one more descriptor in the control core's epoll instance.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// SIGTERM and SIGINT, caught.
pub struct Signals {
    receiver: UnixStream,
}

impl Signals {
    /// Catches the signals from here on.
    pub fn catch() -> io::Result<Signals> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        for signal in [SIGTERM, SIGINT] {
            pipe::register(signal, sender.try_clone()?)?;
        }
        Ok(Signals { receiver })
    }

    /// How many have come since the last call.
    pub fn take(&mut self) -> usize {
        let mut bytes = [0; 16];
        self.receiver.read(&mut bytes).unwrap_or(0)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}
