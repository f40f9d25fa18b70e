//! Free ports, one owner each, also between test processes.
//!
//! Asking the kernel for port 0 and closing it again races with every other test; with
//! `SO_REUSEPORT` two servers could even share a port unnoticed. So a port is owned by whoever
//! holds the lock on its file.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ephemeral range (32768 and up), so that no outgoing connection takes one.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port that nobody else has until this value is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Takes the next free port.
    pub fn take() -> Port {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let width = RANGE.end - RANGE.start;
        let start = (std::process::id() % u32::from(width)) as u16;
        for _ in 0..width {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = RANGE.start + (start.wrapping_mul(31).wrapping_add(step)) % width;
            if let Some(port) = Port::lock(number) {
                return port;
            }
        }
        panic!("no free port in {RANGE:?}");
    }

    fn lock(number: u16) -> Option<Port> {
        let directory = directory();
        fs::create_dir_all(&directory).expect("create the directory of port locks");
        let path = directory.join(number.to_string());
        let lock = OpenOptions::new().create(true).append(true).open(path).ok()?;
        lock.try_lock().ok()?;
        TcpListener::bind(("127.0.0.1", number)).ok()?;
        Some(Port { number, _lock: lock })
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

fn directory() -> PathBuf {
    std::env::temp_dir()
        .join(format!("trunkline-test-ports-{}", rustix::process::getuid().as_raw()))
}
