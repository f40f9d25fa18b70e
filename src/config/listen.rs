//! Where clients connect, and whose word about their address is believed.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// `BIND` and `PORT`.
    Tcp(SocketAddr),
    /// `SOCKET`: a Unix socket, mode 0666.
    Unix(PathBuf),
}

/// The peers whose `X-Forwarded-For` is believed: address ranges.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TrustedProxies {
    /// Network address and prefix length in bits.
    pub ranges: Vec<(IpAddr, u8)>,
}
