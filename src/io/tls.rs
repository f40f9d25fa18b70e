//! TLS to servers of ours: which roots, what is verified, which client certificate. The
//! cryptography is ring's everywhere.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::config::tls::{ClientIdentity, ClientTls, Roots};

/// What is verified of a server's certificate. That the server holds its key always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// The chain and the name (libpq `verify-full`, `rediss://`).
    Full,
    /// The chain, whatever the name (libpq `verify-ca`).
    Chain,
    /// Nothing (libpq `prefer` and `require` without roots, `no-verify`).
    Nothing,
}

/// The configuration for connections that trust `roots` and show `identity`.
///
/// Errors: a root is no certificate, or the certificate and the key of `identity` do not fit
/// together.
pub fn client_config(
    roots: &Roots,
    verification: Verification,
    identity: Option<&ClientIdentity>,
) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new(roots, verification, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused("protocol versions", &error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(|error| refused("client certificate", &error))?,
    };
    Ok(Arc::new(config))
}

/// The configuration that `rediss://` asks for.
///
/// Errors: as [`client_config`].
pub fn redis_client_config(tls: &ClientTls) -> io::Result<Arc<ClientConfig>> {
    let verification = if tls.no_verify { Verification::Nothing } else { Verification::Full };
    client_config(&tls.roots, verification, tls.identity.as_ref())
}

/// The name that the server's certificate has to carry: a host name or an address (IPv6 without
/// brackets).
///
/// Errors: it is neither.
pub fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(ServerName::IpAddress(address.into()));
    }
    ServerName::try_from(host.to_owned()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("TLS: no valid host name: {host}"))
    })
}

#[derive(Debug)]
struct Verifier {
    roots: RootCertStore,
    /// The roots that were configured here, as they are.
    configured: Vec<CertificateDer<'static>>,
    verification: Verification,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(
        roots: &Roots,
        verification: Verification,
        provider: &CryptoProvider,
    ) -> io::Result<Verifier> {
        let mut store = RootCertStore::empty();
        if roots.own.is_none() {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        let own = roots.own.as_deref().unwrap_or_default();
        let configured: Vec<_> = own.iter().chain(roots.extra.iter()).cloned().collect();
        for certificate in &configured {
            store.add(certificate.clone()).map_err(|error| refused("root certificate", &error))?;
        }
        let algorithms = provider.signature_verification_algorithms;
        Ok(Verifier { roots: store, configured, verification, algorithms })
    }

    fn verify_chain(
        &self,
        certificate: &ParsedCertificate<'_>,
        presented: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let verified = verify_server_cert_signed_by_trust_anchor(
            certificate,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        );
        // `openssl req -x509` makes certificates that are their own authority, and they are what
        // small installations use. OpenSSL takes them when they are configured as roots; webpki,
        // having found the dates good, does not like that an authority serves. The very certificate
        // that was configured is trusted.
        let is_configured = || self.configured.iter().any(|root| root == presented);
        match verified {
            Err(error) if serves_as_authority(&error) && is_configured() => Ok(()),
            other => other,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.verification != Verification::Nothing {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            self.verify_chain(&certificate, end_entity, intermediates, now)?;
            if self.verification == Verification::Full {
                verify_server_name(&certificate, server_name)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// webpki's `CaUsedAsEndEntity`, which rustls hands on without a variant of its own.
fn serves_as_authority(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else { return false };
    other.to_string() == "CaUsedAsEndEntity"
}

fn refused(what: &str, error: &Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("TLS: {what}: {error}"))
}
