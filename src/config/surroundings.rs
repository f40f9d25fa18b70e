//! What the configuration needs of the machine besides variables, behind a trait so that tests need
//! no machine.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::path::Path;

/// The machine that the configuration is read on.
pub trait Surroundings {
    /// The content of a file.
    ///
    /// # Errors
    ///
    /// As the system reports them.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The first address of a host name.
    ///
    /// # Errors
    ///
    /// The name is unknown or has no address.
    fn resolve(&self, host: &str) -> io::Result<IpAddr>;

    /// The number of the user that the process runs as.
    fn user_id(&self) -> u32;

    /// The number of this process.
    fn process_id(&self) -> u32;
}

/// The real one.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealSurroundings;

impl Surroundings for RealSurroundings {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn resolve(&self, host: &str) -> io::Result<IpAddr> {
        let mut addresses = (host, 0).to_socket_addrs()?;
        let first = addresses.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(first.ip())
    }

    fn user_id(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn process_id(&self) -> u32 {
        std::process::id()
    }
}
