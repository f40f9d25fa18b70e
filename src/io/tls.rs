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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    use super::*;

    type Key = PrivateKeyDer<'static>;

    fn key_of(pair: &KeyPair) -> Key {
        PrivatePkcs8KeyDer::from(pair.serialize_der()).into()
    }

    fn authority(name: &str) -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        (params, KeyPair::generate().unwrap())
    }

    /// An authority's certificate, and a server's that it has signed for `name`.
    fn signed_for(name: &str) -> (CertificateDer<'static>, CertificateDer<'static>, Key) {
        let (params, pair) = authority("authority.example");
        let root = params.self_signed(&pair).unwrap().der().clone();
        let server_pair = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let issuer = Issuer::from_params(&params, &pair);
        let certificate = server.signed_by(&server_pair, &issuer).unwrap().der().clone();
        (root, certificate, key_of(&server_pair))
    }

    fn own(root: &CertificateDer<'static>) -> Roots {
        Roots { own: Some(vec![root.clone()].into()), extra: Arc::new([]) }
    }

    fn extra(root: &CertificateDer<'static>) -> Roots {
        Roots { own: None, extra: vec![root.clone()].into() }
    }

    /// Shakes hands in memory; the error is the client's.
    fn shake_hands(
        roots: &Roots,
        verification: Verification,
        host: &str,
        certificate: &CertificateDer<'static>,
        key: &Key,
    ) -> Result<(), Error> {
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.clone_key())?;
        let mut server = ServerConnection::new(Arc::new(config))?;
        let config = client_config(roots, verification, None).unwrap();
        let mut client = ClientConnection::new(config, server_name(host).unwrap())?;
        while client.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut &wire[..]).unwrap();
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut &wire[..]).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn full_verification_wants_a_known_authority_and_the_name() {
        let (root, server, key) = signed_for("redis.example");
        let (other, ..) = signed_for("redis.example");
        let full = Verification::Full;
        for roots in [own(&root), extra(&root)] {
            assert_eq!(shake_hands(&roots, full, "redis.example", &server, &key), Ok(()));
            let wrong = shake_hands(&roots, full, "other.example", &server, &key).unwrap_err();
            assert!(wrong.to_string().contains("not valid for name"), "{wrong}");
        }
        for roots in [own(&other), extra(&other), Roots::default()] {
            assert!(shake_hands(&roots, full, "redis.example", &server, &key).is_err());
        }
    }

    #[test]
    fn addresses_are_names_too() {
        let (root, server, key) = signed_for("::1");
        let full = Verification::Full;
        assert_eq!(shake_hands(&own(&root), full, "::1", &server, &key), Ok(()));
        assert!(shake_hands(&own(&root), full, "::2", &server, &key).is_err());
        assert!(server_name("no host").is_err());
    }

    #[test]
    fn chain_verification_wants_a_known_authority_whatever_the_name() {
        let (root, server, key) = signed_for("redis.example");
        let (other, ..) = signed_for("redis.example");
        let chain = Verification::Chain;
        assert_eq!(shake_hands(&own(&root), chain, "other.example", &server, &key), Ok(()));
        assert!(shake_hands(&own(&other), chain, "redis.example", &server, &key).is_err());
    }

    #[test]
    fn without_verification_any_certificate_will_do() {
        let (_, server, key) = signed_for("redis.example");
        let nothing = Verification::Nothing;
        assert_eq!(shake_hands(&Roots::default(), nothing, "x.example", &server, &key), Ok(()));
    }

    #[test]
    fn a_configured_certificate_is_trusted_though_it_claims_to_be_an_authority() {
        let (params, pair) = authority("redis.example");
        let certificate = params.self_signed(&pair).unwrap().der().clone();
        let (key, full) = (key_of(&pair), Verification::Full);
        let hands = |roots: &Roots, host| shake_hands(roots, full, host, &certificate, &key);
        assert_eq!(hands(&extra(&certificate), "redis.example"), Ok(()));
        assert!(hands(&extra(&certificate), "other.example").is_err());
        // Another authority of the same name is not the one that was configured.
        let (params, pair) = authority("redis.example");
        let other = params.self_signed(&pair).unwrap().der().clone();
        assert!(hands(&extra(&other), "redis.example").is_err());
        assert!(hands(&Roots::default(), "redis.example").is_err());
    }

    #[test]
    fn an_expired_certificate_is_refused_even_if_it_was_configured() {
        let (mut params, pair) = authority("redis.example");
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        let certificate = params.self_signed(&pair).unwrap().der().clone();
        let roots = extra(&certificate);
        let full = Verification::Full;
        let refused = shake_hands(&roots, full, "redis.example", &certificate, &key_of(&pair));
        assert!(refused.unwrap_err().to_string().contains("expired"));
    }

    #[test]
    fn a_certificate_and_a_foreign_key_are_refused_at_the_start() {
        let (_, certificate, _) = signed_for("client.example");
        let (.., key) = signed_for("client.example");
        let identity = ClientIdentity { chain: vec![certificate], key: Arc::new(key) };
        let refused = client_config(&Roots::default(), Verification::Full, Some(&identity));
        assert!(refused.unwrap_err().to_string().contains("client certificate"));
    }
}
