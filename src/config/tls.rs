//! Certificates that were named in the configuration, read and checked at the start.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::env::{self, Origin};
use super::reader::Reader;
use super::surroundings::Surroundings;

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

/// Reads `NODE_EXTRA_CA_CERTS`.
pub(super) fn read_extra_roots(reader: &mut Reader) -> Arc<[CertificateDer<'static>]> {
    let told = reader.text(env::NODE_EXTRA_CA_CERTS);
    let origin = told.as_ref().map_or(Origin::Default, |told| told.origin);
    let path = told.map(|told| told.text);
    reader.record_optional(env::NODE_EXTRA_CA_CERTS, path.as_ref(), origin);
    let Some(path) = path else { return Arc::default() };
    match read_roots(reader.surroundings, Path::new(&path)) {
        Ok(roots) => roots,
        Err(problem) => {
            reader.error(env::NODE_EXTRA_CA_CERTS, &path, problem);
            Arc::default()
        }
    }
}

/// Reads root certificates in PEM; each must be one that TLS can use.
pub(super) fn read_roots(
    surroundings: &dyn Surroundings,
    path: &Path,
) -> Result<Arc<[CertificateDer<'static>]>, String> {
    let certificates = read_certificates(surroundings, path)?;
    for (index, certificate) in certificates.iter().enumerate() {
        RootCertStore::empty().add(certificate.clone()).map_err(|error| {
            format!("{}: certificate {} cannot be used: {error}", path.display(), index + 1)
        })?;
    }
    Ok(certificates.into())
}

/// Reads a client certificate and its key, which must belong together.
pub(super) fn read_identity(
    surroundings: &dyn Surroundings,
    certificate_path: &Path,
    key_path: &Path,
) -> Result<ClientIdentity, String> {
    let chain = read_certificates(surroundings, certificate_path)?;
    let text = read_file(surroundings, key_path)?;
    // The reader's error may quote what it read: it is not passed on.
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|_| format!("{} holds no private key that is readable", key_path.display()))?;
    let signing_key = any_supported_type(&key)
        .map_err(|_| format!("{} holds a key of an unknown kind", key_path.display()))?;
    CertifiedKey::new(chain.clone(), signing_key).keys_match().map_err(|_| {
        format!("{} is not the key of {}", key_path.display(), certificate_path.display())
    })?;
    Ok(ClientIdentity { chain, key: Arc::new(key) })
}

fn read_certificates(
    surroundings: &dyn Surroundings,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read_file(surroundings, path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(format!("{} holds no certificate in PEM form", path.display())),
        Err(_) => Err(format!("{} is damaged: its PEM form cannot be read", path.display())),
    }
}

fn read_file(surroundings: &dyn Surroundings, path: &Path) -> Result<Vec<u8>, String> {
    let content = surroundings.read(path);
    content.map_err(|error| format!("{} cannot be read: {error}", path.display()))
}
