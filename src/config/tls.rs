//! Certificates that were named in the configuration, read and checked at the start.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// TLS to a server that is verified against the usual roots and `NODE_EXTRA_CA_CERTS`.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// More roots than the built-in ones.
    pub roots: Roots,
    /// Do not verify the server (never the default).
    pub no_verify: bool,
    /// A client certificate, if the server wants one.
    pub identity: Option<ClientIdentity>,
}

/// Root certificates from files.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    /// `sslrootcert`: if given, the only roots for Postgres.
    pub own: Option<Arc<[CertificateDer<'static>]>>,
    /// `NODE_EXTRA_CA_CERTS`: added to whatever else holds.
    pub extra: Arc<[CertificateDer<'static>]>,
}

/// A client certificate with its key.
#[derive(Clone)]
pub struct ClientIdentity {
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: Arc<PrivateKeyDer<'static>>,
}

impl std::fmt::Debug for ClientIdentity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ClientIdentity({} certificates, [redacted])", self.chain.len())
    }
}
