//! Certificates are read at the start, and wrong ones are errors there.

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use trunkline::config::{Config, ConfigErrors, Warning, load};

use super::machine::Machine;

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["db.internal".to_owned()]).expect("a certificate")
}

fn read(machine: Machine) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    load(&machine.variables, &machine)
}

fn machine(variables: &[(&str, &str)]) -> Machine {
    let made = certificate();
    let mut all = vec![("NODE_ENV", "production"), ("HOME", "/home/streamer")];
    all.extend(variables);
    Machine::new(&all)
        .file("/tls/two.pem", format!("{}{}", made.cert.pem(), certificate().cert.pem()))
        .file("/tls/one.pem", made.cert.pem())
        .file("/tls/one.key", made.signing_key.serialize_pem())
        .file("/tls/other.key", certificate().signing_key.serialize_pem())
        .file("/tls/empty.pem", "")
        .file("/tls/cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB")
        .file("/tls/junk.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        .unreadable("/tls/secret.pem")
}

#[test]
fn extra_roots_hold_for_redis_and_postgres() {
    let variables = [("NODE_EXTRA_CA_CERTS", "/tls/two.pem"), ("REDIS_URL", "rediss://r")];
    let (config, _) = read(machine(&variables)).unwrap();
    assert_eq!(config.postgres.roots.extra.len(), 2);
    assert!(config.postgres.roots.own.is_none());
    let tls = config.redis.tls.unwrap();
    assert_eq!(tls.roots.extra.len(), 2);
    assert!(!tls.no_verify);
}

#[test]
fn a_root_certificate_and_an_identity_come_from_the_url() {
    let url = "postgres://db/n?sslmode=verify-full&sslrootcert=/tls/one.pem\
               &sslcert=/tls/one.pem&sslkey=/tls/one.key";
    let (config, _) = read(machine(&[("DATABASE_URL", url)])).unwrap();
    assert_eq!(config.postgres.roots.own.unwrap().len(), 1);
    assert_eq!(config.postgres.identity.unwrap().chain.len(), 1);
}

#[test]
fn the_files_of_libpq_count_only_where_tls_was_asked_for() {
    let made = certificate();
    let with_files = |mode: &str| {
        let machine = machine(&[("DB_SSLMODE", mode)])
            .file("/home/streamer/.postgresql/root.crt", made.cert.pem())
            .file("/home/streamer/.postgresql/postgresql.crt", made.cert.pem())
            .file("/home/streamer/.postgresql/postgresql.key", made.signing_key.serialize_pem());
        let postgres = read(machine).unwrap().0.postgres;
        (postgres.roots.own.is_some(), postgres.identity.is_some())
    };
    for mode in ["require", "verify-ca", "verify-full"] {
        assert_eq!(with_files(mode), (true, true), "{mode}");
    }
    for mode in ["disable", "allow", "prefer", "no-verify"] {
        assert_eq!(with_files(mode), (false, false), "{mode}");
    }
}

#[test]
fn what_cannot_be_used_is_an_error_that_names_the_file() {
    for (path, problem) in [
        ("/tls/absent.pem", "cannot be read"),
        ("/tls/secret.pem", "cannot be read"),
        ("/tls/empty.pem", "no certificate"),
        ("/tls/cut.pem", "damaged"),
        ("/tls/junk.pem", "certificate 1 cannot be used"),
    ] {
        let root = format!("postgres://u:pw@db/n?sslrootcert={path}");
        let leaf = format!("postgres://u:pw@db/n?sslcert={path}&sslkey=/tls/one.key");
        for (name, value) in
            [("NODE_EXTRA_CA_CERTS", path), ("DATABASE_URL", &root), ("DATABASE_URL", &leaf)]
        {
            if value == leaf && path == "/tls/junk.pem" {
                continue;
            }
            let errors = read(machine(&[(name, value)])).unwrap_err();
            let shown = errors.to_string();
            assert_eq!(errors.0.len(), 1, "{shown}");
            assert_eq!(errors.0[0].name, name);
            assert!(shown.contains(path) && shown.contains(problem), "{shown}");
            assert!(!shown.contains("pw"), "{shown}");
        }
    }
}

#[test]
fn a_key_must_be_there_and_belong_to_its_certificate() {
    for (parameters, problem) in [
        ("sslcert=/tls/one.pem&sslkey=/tls/other.key", "is not the key of /tls/one.pem"),
        ("sslcert=/tls/one.pem&sslkey=/tls/one.pem", "holds no private key"),
        ("sslcert=/tls/junk.pem&sslkey=/tls/one.key", "is not the key of /tls/junk.pem"),
        ("sslcert=/tls/one.pem", "without sslkey"),
        ("sslrootcert=system&sslmode=require", "needs sslmode=verify-full"),
    ] {
        let url = format!("postgres://db/n?{parameters}");
        let errors = read(machine(&[("DATABASE_URL", &url)])).unwrap_err();
        assert_eq!(errors.0.len(), 1, "{errors}");
        assert!(errors.to_string().contains(problem), "{errors}");
    }
}

#[test]
fn redis_goes_unverified_only_where_node_was_told_so() {
    let variables = [("NODE_TLS_REJECT_UNAUTHORIZED", "0"), ("REDIS_URL", "rediss://r")];
    let (config, warnings) = read(machine(&variables)).unwrap();
    assert!(config.redis.tls.unwrap().no_verify);
    assert_eq!(warnings.len(), 1);
}
