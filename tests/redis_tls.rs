//! `rediss://` against a real Redis with certificates made on the spot.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "redis_client/core.rs"]
mod core;
mod support;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, IsCa, Issuer,
    KeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tempfile::TempDir;
use trunkline::config::tls::{ClientIdentity, ClientTls, Roots};
use trunkline::config::{Limits, RedisConfig};

use crate::core::{Core, at};
use crate::support::Redis;
use crate::support::ports::Port;

const HOME: &str = "timeline:7";

/// An authority, with the certificates of a server at 127.0.0.1 and of a client.
struct Authority {
    root: Certificate,
    client: (Certificate, KeyPair),
    files: TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = named("authority.example");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pair = KeyPair::generate().unwrap();
        let root = params.self_signed(&pair).unwrap();
        let issuer = Issuer::new(params, pair);
        let sign = |name: &str| {
            let pair = KeyPair::generate().unwrap();
            (named(name).signed_by(&pair, &issuer).unwrap(), pair)
        };
        let (server, client) = (sign("127.0.0.1"), sign("client.example"));
        let files = support::process::scratch("tls");
        let write = |name: &str, text: String| fs::write(files.path().join(name), text).unwrap();
        write("root.pem", root.pem());
        write("server.pem", server.0.pem());
        write("server.key", server.1.serialize_pem());
        Authority { root, client, files }
    }

    /// A Redis that speaks TLS at `port` too, and plainly to the test.
    fn redis(&self, port: &Port, clients: &str) -> Redis {
        let file = |name: &str| self.files.path().join(name).to_string_lossy().into_owned();
        let port = port.number().to_string();
        let (root, server, key) = (file("root.pem"), file("server.pem"), file("server.key"));
        Redis::start_with(&[
            "--tls-port",
            &port,
            "--tls-cert-file",
            &server,
            "--tls-key-file",
            &key,
            "--tls-ca-cert-file",
            &root,
            "--tls-auth-clients",
            clients,
        ])
    }

    fn tls(&self) -> ClientTls {
        let extra = Arc::new([self.root.der().clone()]);
        ClientTls { roots: Roots { own: None, extra }, no_verify: false, identity: None }
    }

    fn identity(&self) -> ClientIdentity {
        let key = PrivatePkcs8KeyDer::from(self.client.1.serialize_der()).into();
        ClientIdentity { chain: vec![self.client.0.der().clone()], key: Arc::new(key) }
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    // With the same subject everywhere OpenSSL would take each for self-signed.
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn over_tls(host: &str, port: &Port, tls: ClientTls) -> RedisConfig {
    RedisConfig { tls: Some(tls), ..at(host, port.number()) }
}

#[track_caller]
fn expect_messages(core: &mut Core, redis: &Redis) {
    core.want(HOME);
    core.settle();
    assert_eq!(redis.publish(HOME, "x"), 1);
    assert_eq!(core.next_message(), (HOME.to_owned(), "x".to_owned()));
}

#[test]
fn messages_arrive_over_tls_however_large() {
    let (authority, port) = (Authority::new(), Port::take());
    let redis = authority.redis(&port, "no");
    let mut core = Core::new(&over_tls("127.0.0.1", &port, authority.tls()));
    expect_messages(&mut core, &redis);
    let large = "y".repeat(3_000_000);
    redis.publish(HOME, &large);
    assert!(core.next_message().1 == large);
    (0..1500).for_each(|number| core.want(&format!("timeline:{number}")));
    core.settle();
    redis.client().command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    core.until("the loss", |core| !core.losses().is_empty());
    core.settle();
    expect_messages(&mut core, &redis);
    assert_eq!(core.stats().gaps, 1);
}

#[test]
fn a_server_of_an_unknown_authority_is_refused_and_the_log_says_why() {
    let (authority, port) = (Authority::new(), Port::take());
    let _redis = authority.redis(&port, "no");
    let mut core = Core::new(&over_tls("127.0.0.1", &port, Authority::new().tls()));
    core.until("a trouble", |core| !core.troubles().is_empty());
    let trouble = core.troubles()[0].to_owned();
    assert!(trouble.contains("TLS: invalid peer certificate"), "{trouble}");
}

#[test]
fn a_server_of_another_name_is_refused_unless_nothing_is_verified() {
    let (authority, port) = (Authority::new(), Port::take());
    let redis = authority.redis(&port, "no");
    let mut core = Core::new(&over_tls("localhost", &port, authority.tls()));
    core.until("a trouble", |core| !core.troubles().is_empty());
    let trouble = core.troubles()[0].to_owned();
    assert!(trouble.contains("not valid for name"), "{trouble}");
    let tls = ClientTls { no_verify: true, ..ClientTls::default() };
    expect_messages(&mut Core::new(&over_tls("localhost", &port, tls)), &redis);
}

#[test]
fn a_client_certificate_is_shown_where_the_server_wants_one() {
    let (authority, port) = (Authority::new(), Port::take());
    let redis = authority.redis(&port, "yes");
    let mut core = Core::new(&over_tls("127.0.0.1", &port, authority.tls()));
    core.until("a trouble", |core| !core.troubles().is_empty());
    assert!(!core.stats().connected);
    let tls = ClientTls { identity: Some(authority.identity()), ..authority.tls() };
    expect_messages(&mut Core::new(&over_tls("127.0.0.1", &port, tls)), &redis);
}

#[test]
fn a_server_that_speaks_no_tls_is_told_clearly() {
    let redis = Redis::start();
    let tls = Authority::new().tls();
    let config = RedisConfig { tls: Some(tls), ..at("127.0.0.1", redis.port()) };
    // Redis takes the greeting for the beginning of a command and waits for its end.
    let redis_connect_secs_max = Duration::from_millis(300);
    let limits = Limits { redis_connect_secs_max, ..Limits::default() };
    let mut core = Core::with_limits(&config, &limits);
    core.until("a trouble", |core| !core.troubles().is_empty());
    let trouble = core.troubles()[0].to_owned();
    assert!(trouble.contains("TLS: handshake: timed out"), "{trouble}");
}
