//! libpq's `sslmode`: which transports are tried in which order, and what is asked of the server's
//! certificate.
//!
//! | mode | tried | certificate |
//! |---|---|---|
//! | `disable` | plain | |
//! | `allow` | plain, then TLS if the server refuses plain | not looked at |
//! | `prefer` | TLS if offered, then plain if TLS fails or is refused | not looked at |
//! | `require` | TLS | not looked at, unless `sslrootcert` is given: then as `verify-ca` |
//! | `no-verify` | TLS | not looked at |
//! | `verify-ca` | TLS | its chain |
//! | `verify-full` | TLS | its chain and name |
//!
//! A Unix socket is never encrypted. A certificate that is itself in `sslrootcert` is trusted even
//! if it is marked as an authority: that is how PostgreSQL's manual makes self-signed ones.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::config::PostgresConfig;
use crate::config::postgres::{PostgresHost, SslMode};

/// How a connection is to be protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Not at all.
    Plain,
    /// With TLS if the server offers it.
    TlsIfOffered,
    /// With TLS or not at all.
    Tls,
}

/// The transports to be tried at this host, in order. The next one is tried only if the server (or
/// TLS) refused the one before, not if the host could not be reached.
pub fn transports(mode: SslMode, host: &PostgresHost) -> &'static [Transport] {
    match (host, mode) {
        (PostgresHost::Unix { .. }, _) | (_, SslMode::Disable) => &[Transport::Plain],
        (_, SslMode::Allow) => &[Transport::Plain, Transport::Tls],
        (_, SslMode::Prefer) => &[Transport::TlsIfOffered, Transport::Plain],
        (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull | SslMode::NoVerify) => {
            &[Transport::Tls]
        }
    }
}

/// What TLS to Postgres is set up with.
///
/// Errors: the certificates or the key do not fit together, or there is no root to verify against.
pub fn client_config(config: &PostgresConfig) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(ring::default_provider());
    let demand = match (config.ssl_mode, &config.roots.own) {
        (SslMode::VerifyFull, _) => Demand::ChainAndName,
        (SslMode::VerifyCa, _) | (SslMode::Require, Some(_)) => Demand::Chain,
        _ => Demand::Nothing,
    };
    let verifier: Arc<dyn ServerCertVerifier> = match demand {
        Demand::Nothing => Arc::new(Unverified(Arc::clone(&provider))),
        _ => Arc::new(verifier(config, demand, Arc::clone(&provider))?),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let client = match &config.identity {
        Some(identity) => {
            builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(Arc::new(client))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    Nothing,
    Chain,
    ChainAndName,
}

fn verifier(
    config: &PostgresConfig,
    demand: Demand,
    provider: Arc<CryptoProvider>,
) -> Result<Verifier, Error> {
    let mut roots = RootCertStore::empty();
    let own = config.roots.own.as_deref().unwrap_or_default();
    if config.roots.own.is_none() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for certificate in own.iter().chain(config.roots.extra.iter()) {
        roots.add(certificate.clone())?;
    }
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| Error::General(error.to_string()))?;
    Ok(Verifier { chain, pinned: own.into(), name_counts: demand == Demand::ChainAndName })
}

/// Looks at the chain, and at the name if it counts.
#[derive(Debug)]
struct Verifier {
    chain: Arc<WebPkiServerVerifier>,
    /// `sslrootcert`: trusted as they are.
    pinned: Arc<[CertificateDer<'static>]>,
    name_counts: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.pinned.iter().any(|pinned| pinned == leaf) {
            if self.name_counts {
                verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        // The name is compared last: a chain that is not trusted never gets this far.
        match self.chain.verify_server_cert(leaf, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.name_counts => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Takes any certificate: the mode asks for secrecy against listeners only. Signatures are not
/// looked at either, so that certificates of a form that webpki cannot read (version 1) do no harm.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
