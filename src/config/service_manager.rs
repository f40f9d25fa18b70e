//! The service manager that started us, if it wants to be told how things stand (sd_notify(3),
//! sd_watchdog_enabled(3)). systemd sets these variables for units of `Type=notify`, nobody else
//! does; what cannot be used is ignored with a warning, for a server that serves is worth more than
//! one that is watched.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::env::{NOTIFY_SOCKET, WATCHDOG_PID, WATCHDOG_USEC};
use super::reader::Reader;

/// What the service manager wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceManager {
    /// Where it listens (`NOTIFY_SOCKET`).
    pub socket: Option<NotifySocket>,
    /// Without a sign of life for so long it ends us (`WATCHDOG_USEC`).
    pub watchdog: Option<Duration>,
}

/// The address of a Unix datagram socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotifySocket {
    /// In the file system.
    Path(PathBuf),
    /// In the abstract name space (unix(7)), without the zero byte at the front.
    Abstract(Vec<u8>),
}

impl ServiceManager {
    pub(super) fn read(reader: &mut Reader) -> ServiceManager {
        ServiceManager { socket: read_socket(reader), watchdog: read_watchdog(reader) }
    }
}

fn read_socket(reader: &mut Reader) -> Option<NotifySocket> {
    let text = reader.text(NOTIFY_SOCKET)?.text;
    match text.as_bytes() {
        [b'/', ..] => Some(NotifySocket::Path(OsString::from(text).into())),
        [b'@', name @ ..] if !name.is_empty() => Some(NotifySocket::Abstract(name.to_vec())),
        _ => {
            reader.warn(NOTIFY_SOCKET, "is neither a path nor an abstract name, and is ignored");
            None
        }
    }
}

fn read_watchdog(reader: &mut Reader) -> Option<Duration> {
    let micros = reader.text(WATCHDOG_USEC)?.text;
    // Meant for another process that has handed its environment down to us.
    let pid = reader.text(WATCHDOG_PID).map(|told| told.text);
    if pid.is_some_and(|pid| pid != reader.surroundings.process_id().to_string()) {
        return None;
    }
    let micros = micros.parse().ok().filter(|micros| *micros > 0);
    if micros.is_none() {
        reader.warn(WATCHDOG_USEC, "is no number of microseconds, and is ignored");
    }
    micros.map(Duration::from_micros)
}
