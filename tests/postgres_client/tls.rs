//! libpq's `sslmode`, against a real server and against one that lies.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use trunkline::config::postgres::{PostgresConfig, SslMode};
use trunkline::config::tls::{ClientIdentity, Roots};

use crate::client::{Client, config, tcp, with_password};
use crate::login::set_access;
use crate::support::postgres::give_to_postgres;
use crate::support::{Database, Postgres, eventually};

const TRUST_ALL: &str = "local all all trust\nhost all all all trust";

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn roots(&self) -> Roots {
        Roots { own: Some(Arc::new([self.0.der().clone()])), extra: Arc::new([]) }
    }

    /// A certificate and its key.
    fn issue(&self, names: &[&str]) -> (rcgen::Certificate, KeyPair) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, names[0].clone());
        (params.signed_by(&key, &self.0).unwrap(), key)
    }
}

/// A server with a certificate.
fn server(authority: &Authority, certificate: &str, key: &str) -> (Postgres, Database) {
    let postgres = Postgres::start();
    let data = postgres.data_directory();
    for (name, text) in
        [("server.crt", certificate), ("server.key", key), ("root.crt", &authority.pem())]
    {
        fs::write(data.join(name), text).unwrap();
        fs::set_permissions(data.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    give_to_postgres(&data);
    let database = postgres.database();
    database.sql(
        "create role guest login superuser;
         insert into accounts (id, username) values (1, 'u');
         insert into users (id, account_id) values (1, 1);
         insert into oauth_access_tokens (id, token, resource_owner_id) values (1, 'tok', 1);",
    );
    for setting in ["ssl = on", "ssl_ca_file = 'root.crt'"] {
        database.sql(&format!("alter system set {setting}"));
    }
    set_access(&postgres, TRUST_ALL);
    eventually("TLS", || (database.sql("show ssl") == "on").then_some(()));
    (postgres, database)
}

fn guest(database: &Database, host: &str, mode: SslMode, roots: &Roots) -> PostgresConfig {
    let mut config =
        with_password(config(tcp(host, database.port()), database.name()), "guest", "x");
    config.ssl_mode = mode;
    config.roots = roots.clone();
    config
}

/// Encrypted or not; `Err`: why there is no connection.
fn try_out(database: &Database, config: &PostgresConfig) -> Result<bool, String> {
    let mut client = Client::new(config);
    match client.session("tok") {
        Ok(session) => assert!(session.is_some()),
        Err(unanswered) => return Err(unanswered.reason.to_string()),
    }
    let encrypted = database.sql(
        "select ssl from pg_stat_ssl join pg_stat_activity using (pid)
           where usename = 'guest' order by backend_start desc limit 1",
    );
    Ok(encrypted == "t")
}

#[test]
fn each_mode_asks_of_the_certificate_what_libpq_asks() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(&["localhost"]);
    let (_postgres, database) = server(&authority, &certificate.pem(), &key.serialize_pem());
    let (own, other, none) = (authority.roots(), Authority::new().roots(), Roots::default());
    // Mode, host, roots, encrypted (None: refused).
    let cases: [(SslMode, &str, &Roots, Option<bool>); 17] = [
        (SslMode::Disable, "localhost", &own, Some(false)),
        (SslMode::Allow, "localhost", &other, Some(false)),
        (SslMode::Prefer, "localhost", &none, Some(true)),
        (SslMode::Prefer, "127.0.0.1", &other, Some(true)),
        (SslMode::Require, "127.0.0.1", &none, Some(true)),
        (SslMode::Require, "127.0.0.1", &own, Some(true)),
        (SslMode::Require, "127.0.0.1", &other, None),
        (SslMode::NoVerify, "127.0.0.1", &other, Some(true)),
        (SslMode::VerifyCa, "127.0.0.1", &own, Some(true)),
        (SslMode::VerifyCa, "localhost", &own, Some(true)),
        (SslMode::VerifyCa, "localhost", &other, None),
        (SslMode::VerifyCa, "localhost", &none, None),
        (SslMode::VerifyFull, "localhost", &own, Some(true)),
        (SslMode::VerifyFull, "127.0.0.1", &own, None),
        (SslMode::VerifyFull, "localhost", &other, None),
        (SslMode::VerifyFull, "localhost", &none, None),
        (
            SslMode::VerifyFull,
            "localhost",
            &Roots { extra: own.own.clone().unwrap(), ..none.clone() },
            Some(true),
        ),
    ];
    for (mode, host, roots, expected) in cases {
        let outcome = try_out(&database, &guest(&database, host, mode, roots));
        assert_eq!(outcome.clone().ok(), expected, "{mode:?} {host}: {outcome:?}");
        if let Err(reason) = outcome {
            assert!(reason.contains("TLS") || reason.contains("certificate"), "{reason}");
        }
    }
}

#[test]
fn a_self_signed_certificate_is_trusted_when_it_is_the_configured_root() {
    // As PostgreSQL's manual makes one with `openssl req -x509`: marked as an authority.
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = own.key().serialize_pem();
    let (_postgres, database) = server(&Authority::new(), &own.pem(), &key);
    let roots = Roots { own: Some(Arc::new([own.der().clone()])), extra: Arc::new([]) };
    for (mode, host, good) in [
        (SslMode::VerifyFull, "localhost", true),
        (SslMode::VerifyCa, "127.0.0.1", true),
        (SslMode::VerifyFull, "127.0.0.1", false),
    ] {
        let outcome = try_out(&database, &guest(&database, host, mode, &roots));
        assert_eq!(outcome.is_ok(), good, "{mode:?} {host}: {outcome:?}");
    }
}

#[test]
fn allow_and_prefer_turn_to_the_transport_that_the_server_wants() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(&["localhost"]);
    let (postgres, database) = server(&authority, &certificate.pem(), &key.serialize_pem());
    let none = Roots::default();
    let modes = [SslMode::Disable, SslMode::Allow, SslMode::Prefer, SslMode::Require];
    let outcomes =
        || modes.map(|mode| try_out(&database, &guest(&database, "localhost", mode, &none)).ok());
    set_access(&postgres, "host all mastodon all trust\nhostssl all guest all trust");
    assert_eq!(outcomes(), [None, Some(true), Some(true), Some(true)]);
    set_access(&postgres, "host all mastodon all trust\nhostnossl all guest all trust");
    assert_eq!(outcomes(), [Some(false), Some(false), Some(false), None]);
    database.sql("alter system set ssl = off");
    set_access(&postgres, TRUST_ALL);
    eventually("no TLS", || (database.sql("show ssl") == "off").then_some(()));
    assert_eq!(outcomes(), [Some(false), Some(false), Some(false), None]);
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_wants_one() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(&["localhost"]);
    let (postgres, database) = server(&authority, &certificate.pem(), &key.serialize_pem());
    set_access(&postgres, "host all mastodon all trust\nhostssl all guest all cert");
    let (certificate, key) = authority.issue(&["guest"]);
    let mut config = guest(&database, "localhost", SslMode::VerifyFull, &authority.roots());
    assert!(try_out(&database, &config).is_err());
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let chain = vec![certificate.der().clone()];
    config.identity = Some(ClientIdentity { chain, key: Arc::new(key) });
    assert_eq!(try_out(&database, &config), Ok(true));
}

#[test]
fn scram_works_inside_tls_without_channel_binding() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue(&["localhost"]);
    let (postgres, database) = server(&authority, &certificate.pem(), &key.serialize_pem());
    database.sql("alter role guest password 'x'");
    set_access(&postgres, "host all mastodon all trust\nhostssl all guest all scram-sha-256");
    let config = guest(&database, "localhost", SslMode::VerifyFull, &authority.roots());
    assert_eq!(try_out(&database, &config), Ok(true));
}

/// A listener that answers the request for TLS with these bytes and then listens.
fn liar(answer: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 8];
            if connection.read_exact(&mut request).is_ok() {
                connection.write_all(answer).unwrap();
                let _ = connection.read_to_end(&mut Vec::new());
            }
        }
    });
    port
}

#[test]
fn what_comes_unencrypted_behind_the_consent_to_tls_is_refused() {
    let mut injected = config(tcp("127.0.0.1", liar(b"SR\0\0\0\x08\0\0\0\0")), "any");
    for mode in [SslMode::Prefer, SslMode::Require, SslMode::NoVerify] {
        injected.ssl_mode = mode;
        let reason = Client::new(&injected).session("tok").unwrap_err().reason;
        assert!(reason.contains("unencrypted bytes"), "{mode:?}: {reason}");
    }
    for (answer, complaint) in [(&b"X"[..], "not Postgres'"), (b"N", "does not offer TLS")] {
        let mut refused = config(tcp("127.0.0.1", liar(answer)), "any");
        refused.ssl_mode = SslMode::Require;
        let reason = Client::new(&refused).session("tok").unwrap_err().reason;
        assert!(reason.contains(complaint), "{reason}");
    }
}
