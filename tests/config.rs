//! Starts from one and the same environment file that the Node server would use, in each form
//! that it may have; a bad file lists every error; no secret is ever shown.

#[path = "config/certificates.rs"]
mod certificates;
#[path = "config/machine.rs"]
mod machine;
#[path = "config/secrets.rs"]
mod secrets;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use machine::{Machine, bad, good};
use trunkline::config::env::Origin;
use trunkline::config::postgres::{PostgresHost, SslMode};
use trunkline::config::redis::{HostPort, RedisTarget};
use trunkline::config::service_manager::{NotifySocket, ServiceManager};
use trunkline::config::{DriverChoice, Limits, Listen, Pin, PortSharing, load};
use trunkline::log::Level;

const PRODUCTION: &[(&str, &str)] = &[("NODE_ENV", "production")];

fn place(host: &str, port: u16) -> HostPort {
    HostPort { host: host.to_owned(), port }
}

fn tcp(host: &str, port: u16) -> PostgresHost {
    PostgresHost::Tcp(place(host, port))
}

fn unix(directory: &str, port: u16) -> PostgresHost {
    PostgresHost::Unix { directory: PathBuf::from(directory), port }
}

fn warnings(file: &str) -> Vec<String> {
    let machine = Machine::new(PRODUCTION).file(".env.production", file);
    let (_, warnings) = load(&machine.variables, &machine).expect("a good file");
    warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_set_in_production_gives_the_defaults_for_a_real_instance() {
    let config = good("");
    assert_eq!(config.listen, Listen::Tcp("127.0.0.1:4000".parse().unwrap()));
    assert_eq!(config.log_level, Level::Info);
    assert_eq!(config.postgres.hosts, [tcp("localhost", 5432)]);
    assert_eq!(config.postgres.database, "mastodon_production");
    assert_eq!(config.postgres.user, "mastodon");
    assert_eq!(config.postgres.password, None);
    assert_eq!(config.postgres.pool_size, 10);
    assert_eq!(config.postgres.ssl_mode, SslMode::Prefer);
    assert_eq!(config.postgres.application_name, "");
    assert_eq!(config.redis.target, RedisTarget::Tcp(place("127.0.0.1", 6379)));
    assert_eq!(config.redis.database, 0);
    assert!(config.redis.user.is_none() && config.redis.password.is_none());
    assert!(config.redis.tls.is_none() && config.redis.namespace.is_none());
    assert_eq!(config.drain_window, Duration::from_secs(10));
    assert_eq!((config.driver, config.cores.pin), (DriverChoice::Auto, Pin::Auto));
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn development_is_the_default_mode_and_takes_the_defaults_of_libpq() {
    let (config, _) = load(&Machine::new(&[]).variables, &Machine::new(&[])).unwrap();
    assert_eq!(config.log_level, Level::Debug);
    assert_eq!(config.postgres.database, "mastodon_development");
    assert_eq!(config.postgres.user, "streamer", "the name of the system's user");
    let hosts = [unix("/var/run/postgresql", 5432), tcp("localhost", 5432)];
    assert_eq!(config.postgres.hosts, hosts);

    let machine = Machine::new(&[
        ("PGHOST", "/tmp"),
        ("PGPORT", "5433"),
        ("PGUSER", "dev"),
        ("PGPASSWORD", "pw"),
        ("PGDATABASE", "elsewhere"),
    ]);
    let (config, _) = load(&machine.variables, &machine).unwrap();
    assert_eq!(config.postgres.hosts, [unix("/tmp", 5433)]);
    assert_eq!(config.postgres.user, "dev");
    assert_eq!(config.postgres.password.unwrap().reveal(), "pw");
    assert_eq!(config.postgres.database, "mastodon_development");
}

#[test]
fn rails_env_stands_in_for_a_missing_node_env_only() {
    let machine = Machine::new(&[("RAILS_ENV", "production")]).file(".env.production", "PORT=1");
    assert_eq!(load(&machine.variables, &machine).unwrap().0.listen, listen("127.0.0.1:1"));
    let machine = Machine::new(&[("RAILS_ENV", "production"), ("NODE_ENV", "development")])
        .file(".env", "PORT=2")
        .file(".env.production", "PORT=1");
    let (config, _) = load(&machine.variables, &machine).unwrap();
    assert_eq!((config.listen, config.log_level), (listen("127.0.0.1:2"), Level::Debug));
}

#[test]
fn the_real_environment_wins_over_the_file_even_when_empty() {
    let machine = Machine::new(&[("NODE_ENV", "production"), ("PORT", "4001"), ("BIND", "")]).file(
        ".env.production",
        "PORT=5000\nBIND=0.0.0.0\nDB_NAME=from_file\nNODE_ENV=development",
    );
    let (config, _) = load(&machine.variables, &machine).unwrap();
    assert_eq!(config.listen, listen("127.0.0.1:4001"));
    assert_eq!(config.postgres.database, "from_file");
    let machine = Machine::new(&[]).file(".env", "NODE_ENV=production");
    let (config, _) = load(&machine.variables, &machine).unwrap();
    assert_eq!(config.log_level, Level::Debug, "the file does not change the mode");
}

#[test]
fn a_missing_file_is_no_error_and_an_unreadable_one_a_warning() {
    let machine = Machine::new(PRODUCTION).unreadable(".env.production");
    let (_, warnings) = load(&machine.variables, &machine).unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].to_string().starts_with(".env.production: cannot be read"));
}

fn listen(address: &str) -> Listen {
    Listen::Tcp(address.parse().unwrap())
}

#[test]
fn each_form_of_listening_is_understood() {
    for (file, expected) in [
        ("PORT=4001", listen("127.0.0.1:4001")),
        ("BIND=0.0.0.0", listen("0.0.0.0:4000")),
        ("BIND=::1", listen("[::1]:4000")),
        ("BIND='[::]'\nPORT=80", listen("[::]:80")),
        ("BIND=localhost", listen("127.0.0.1:4000")),
        ("BIND=streaming.internal", listen("10.1.2.3:4000")),
        ("SOCKET=/run/streaming.sock\nPORT=4001", Listen::Unix("/run/streaming.sock".into())),
    ] {
        assert_eq!(good(file).listen, expected, "{file}");
    }
}

#[test]
fn each_form_of_trusted_proxy_is_understood() {
    let trusts = |file: &str, address: &str| {
        good(file).trusted_proxies.contains(address.parse::<IpAddr>().unwrap())
    };
    for inside in ["127.9.9.9", "::1", "10.1.1.1", "172.31.0.1", "192.168.9.9", "fd00::1"] {
        assert!(trusts("", inside), "{inside}");
    }
    for outside in ["8.8.8.8", "172.15.0.1", "172.32.0.1", "2001:db8::1", "fe80::1", "::"] {
        assert!(!trusts("", outside), "{outside}");
    }
    let file = "TRUSTED_PROXY_IP='203.0.113.7, 198.51.100.0/24 2001:db8::/32,::ffff:1.2.0.0/112'";
    for inside in ["203.0.113.7", "::ffff:203.0.113.7", "198.51.100.255", "2001:db8:9::", "1.2.3.4"]
    {
        assert!(trusts(file, inside), "{inside}");
    }
    for outside in ["127.0.0.1", "203.0.113.8", "198.51.101.0", "2001:db9::", "1.3.0.0"] {
        assert!(!trusts(file, outside), "{outside}");
    }
    assert!(trusts("TRUSTED_PROXY_IP=loopback", "::ffff:127.0.0.1"));
    assert!(!trusts("TRUSTED_PROXY_IP=loopback", "10.0.0.1"));
    assert!(trusts("TRUSTED_PROXY_IP=10.0.0.0/255.128.0.0", "10.127.0.1"));
    assert!(!trusts("TRUSTED_PROXY_IP=10.0.0.0/255.128.0.0", "10.128.0.1"));
    assert!(trusts("TRUSTED_PROXY_IP=0.0.0.0/0", "8.8.8.8"));
}

#[test]
fn each_log_level_is_understood() {
    for (word, level) in [
        ("trace", Level::Trace),
        ("debug", Level::Debug),
        ("info", Level::Info),
        ("warn", Level::Warn),
        ("error", Level::Error),
        ("fatal", Level::Fatal),
        ("silent", Level::Silent),
    ] {
        assert_eq!(good(&format!("LOG_LEVEL={word}")).log_level, level);
    }
}

#[test]
fn each_form_of_postgres_host_is_understood() {
    for (file, expected) in [
        ("DB_HOST=db.internal\nDB_PORT=6432", vec![tcp("db.internal", 6432)]),
        ("DB_HOST=/var/run/postgresql", vec![unix("/var/run/postgresql", 5432)]),
        ("DB_HOST=[::1]", vec![tcp("::1", 5432)]),
        ("DATABASE_URL=postgres://db", vec![tcp("db", 5432)]),
        ("DATABASE_URL=postgresql://u:p@db:5433/m", vec![tcp("db", 5433)]),
        ("DATABASE_URL=postgres://u@[2001:db8::1]:5433/m", vec![tcp("2001:db8::1", 5433)]),
        (
            "DATABASE_URL=postgres://u@a:1,b,[::2]:3/m",
            vec![tcp("a", 1), tcp("b", 5432), tcp("::2", 3)],
        ),
        ("DATABASE_URL=postgres://%2Frun%2Fpg/m", vec![unix("/run/pg", 5432)]),
        ("DATABASE_URL=postgres:///m?host=/run/pg&port=6432", vec![unix("/run/pg", 6432)]),
        ("DATABASE_URL=postgres:///m?host=a,b&port=1,2", vec![tcp("a", 1), tcp("b", 2)]),
        ("DATABASE_URL=postgres:///m?host=a,b&port=7", vec![tcp("a", 7), tcp("b", 7)]),
        ("DATABASE_URL=postgres://u@:6000/m\nPGHOST=pg", vec![tcp("pg", 6000)]),
        ("DATABASE_URL=postgres://db/m\nPGPORT=7000", vec![tcp("db", 7000)]),
        ("DATABASE_URL=postgres://db/m\nDB_HOST=other\nDB_PORT=9", vec![tcp("db", 5432)]),
    ] {
        assert_eq!(good(file).postgres.hosts, expected, "{file}");
    }
}

#[test]
fn each_form_of_postgres_login_is_understood() {
    for (file, user, password, database) in [
        ("DB_USER=u\nDB_PASS=p\nDB_NAME=n", "u", Some("p"), "n"),
        ("DB_PASS='with #\"$HOME'", "mastodon", Some("with #\"$HOME"), "mastodon_production"),
        ("DATABASE_URL=postgres://u:p%40%2F%3A%25@db/n%20m", "u", Some("p@/:%"), "n m"),
        ("DATABASE_URL=postgres://u@db/n\nDB_PASS=filled", "u", Some("filled"), "n"),
        ("DATABASE_URL=postgres://u:own@db/n\nDB_PASS=filled", "u", Some("own"), "n"),
        ("DATABASE_URL=postgres://u@db\nDB_NAME=other", "u", None, "u"),
        ("DATABASE_URL=postgres://db/n\nDB_USER=other", "streamer", None, "n"),
        ("DATABASE_URL=postgres:///?user=u&password=p&dbname=n", "u", Some("p"), "n"),
        ("DATABASE_URL=postgres://u:a@b@db/n", "u", Some("a@b"), "n"),
        ("PGPASSWORD=pg", "mastodon", Some("pg"), "mastodon_production"),
    ] {
        let postgres = good(file).postgres;
        let found = postgres.password.as_ref().map(|secret| secret.reveal());
        assert_eq!((postgres.user.as_str(), found), (user, password), "{file}");
        assert_eq!(postgres.database, database, "{file}");
    }
}

#[test]
fn each_ssl_mode_is_understood_and_the_url_wins() {
    for (file, expected) in [
        ("DB_SSLMODE=disable", SslMode::Disable),
        ("DB_SSLMODE=allow", SslMode::Allow),
        ("DB_SSLMODE=prefer", SslMode::Prefer),
        ("DB_SSLMODE=require", SslMode::Require),
        ("DB_SSLMODE=verify-ca", SslMode::VerifyCa),
        ("DB_SSLMODE=verify-full", SslMode::VerifyFull),
        ("DB_SSLMODE=no-verify", SslMode::NoVerify),
        ("DB_SSLMODE=", SslMode::Prefer),
        ("DATABASE_URL=postgres://db/n", SslMode::Prefer),
        ("DATABASE_URL=postgres://db/n?sslmode=disable\nDB_SSLMODE=require", SslMode::Disable),
        ("DATABASE_URL=postgres://db/n\nDB_SSLMODE=require", SslMode::Require),
        ("DATABASE_URL=postgres://db/n?ssl=true", SslMode::Require),
        ("DATABASE_URL=postgres://db/n?sslrootcert=system", SslMode::VerifyFull),
    ] {
        assert_eq!(good(file).postgres.ssl_mode, expected, "{file}");
    }
}

#[test]
fn other_parameters_of_the_url_are_taken_or_passed_over() {
    let postgres = good(
        "DB_POOL=25\nDATABASE_URL=postgres://db/n?options=-c%20search_path%3Dx&application_name=s\
         &connect_timeout=1&prepared_statements=false&pool=3",
    )
    .postgres;
    assert_eq!(postgres.options.as_deref(), Some("-c search_path=x"));
    assert_eq!(postgres.application_name, "s");
    assert_eq!(postgres.connect_timeout, Duration::from_secs(2), "libpq's least");
    assert_eq!(postgres.pool_size, 25);
    let found = warnings("DATABASE_URL=postgres://db/n?channel_binding=require&pool=3");
    assert_eq!(found, ["DATABASE_URL: channel_binding is not honoured"]);
}

#[test]
fn each_form_of_redis_is_understood() {
    let tcp = |host: &str, port| RedisTarget::Tcp(place(host, port));
    let unix = |path: &str| RedisTarget::Unix(path.into());
    for (file, target, user, password, database, tls) in [
        ("REDIS_HOST=r\nREDIS_PORT=7000\nREDIS_DB=3", tcp("r", 7000), None, None, 3, false),
        ("REDIS_USER=u\nREDIS_PASSWORD=p", tcp("127.0.0.1", 6379), Some("u"), Some("p"), 0, false),
        ("REDIS_HOST=::1", tcp("::1", 6379), None, None, 0, false),
        ("REDIS_URL=redis://r", tcp("r", 6379), None, None, 0, false),
        (
            "REDIS_URL=redis://r:7000/2\nREDIS_HOST=x\nREDIS_DB=9",
            tcp("r", 7000),
            None,
            None,
            2,
            false,
        ),
        (
            "REDIS_URL=redis://:p%40@r/\nREDIS_PASSWORD=x",
            tcp("r", 6379),
            None,
            Some("p@"),
            0,
            false,
        ),
        ("REDIS_URL=rediss://u:p@[::1]:7/1", tcp("::1", 7), Some("u"), Some("p"), 1, true),
        ("REDIS_URL=redis://:p@/4", tcp("127.0.0.1", 6379), None, Some("p"), 4, false),
        ("REDIS_URL=unix:///run/r.sock", unix("/run/r.sock"), None, None, 0, false),
        (
            "REDIS_URL=unix://u:p@/run/r.sock?db=5",
            unix("/run/r.sock"),
            Some("u"),
            Some("p"),
            5,
            false,
        ),
    ] {
        let redis = good(file).redis;
        assert_eq!(redis.target, target, "{file}");
        assert_eq!(redis.user.as_deref(), user, "{file}");
        assert_eq!(redis.password.as_ref().map(|secret| secret.reveal()), password, "{file}");
        assert_eq!((redis.database, redis.tls.is_some()), (database, tls), "{file}");
    }
}

#[test]
fn sentinels_fall_back_to_the_login_of_redis() {
    let target = good(
        "REDIS_SENTINELS=s1, s2:26380,[::1]:5,::2\nREDIS_SENTINEL_MASTER=main\n\
         REDIS_SENTINEL_PORT=26000\nREDIS_USER=u\nREDIS_PASSWORD=p\nREDIS_SENTINEL_USERNAME=su",
    )
    .redis
    .target;
    let RedisTarget::Sentinel { sentinels, master, user, password } = target else {
        panic!("no sentinels");
    };
    let expected = [place("s1", 26000), place("s2", 26380), place("::1", 5), place("::2", 26000)];
    assert_eq!(sentinels, expected);
    assert_eq!((master.as_str(), user.as_deref()), ("main", Some("su")));
    assert_eq!(password.unwrap().reveal(), "p");
}

#[test]
fn half_of_a_sentinel_configuration_is_no_sentinel_configuration() {
    for file in ["REDIS_SENTINELS=s1", "REDIS_SENTINEL_MASTER=main"] {
        assert_eq!(good(file).redis.target, RedisTarget::Tcp(place("127.0.0.1", 6379)));
        assert_eq!(warnings(file).len(), 1, "{file}");
    }
}

#[test]
fn a_namespace_is_honoured_with_a_warning() {
    assert_eq!(good("REDIS_NAMESPACE=cache").redis.namespace.as_deref(), Some("cache"));
    assert_eq!(
        good("REDIS_URL=redis://r\nREDIS_NAMESPACE=c").redis.namespace.as_deref(),
        Some("c")
    );
    assert!(warnings("REDIS_NAMESPACE=cache")[0].starts_with("REDIS_NAMESPACE: "));
}

#[test]
fn the_variables_of_mastodon_that_mean_nothing_here_are_passed_over() {
    let file =
        "STREAMING_CLUSTER_NUM=4\nSIDEKIQ_CONCURRENCY=x\nS3_ENABLED=true\nLOCAL_DOMAIN=a.example";
    assert_eq!(warnings(file), Vec::<String>::new());
}

#[test]
fn our_own_variables_are_understood_and_misspelt_ones_named() {
    let config = good(
        "TRUNKLINE_SHARDS=3\nTRUNKLINE_CPUS=0-1,6\nTRUNKLINE_CONTROL_CPU=2\nTRUNKLINE_PIN=never\n\
         TRUNKLINE_SHARE_PORT=yes\nTRUNKLINE_IO=epoll\nTRUNKLINE_DRAIN_SECS=2.5\n\
         TRUNKLINE_OUTBOX_BYTES_MAX=65536\nTRUNKLINE_PING_INTERVAL_SECS=0.5",
    );
    assert_eq!(config.cores.shards, Some(3));
    assert_eq!(config.cores.shard_cpus, [0, 1, 6]);
    assert_eq!(config.cores.control_cpu, Some(2));
    assert_eq!((config.cores.pin, config.driver), (Pin::Never, DriverChoice::Epoll));
    assert_eq!(config.port_sharing, PortSharing::Allowed);
    assert_eq!(good("").port_sharing, PortSharing::Refused);
    assert_eq!(config.drain_window, Duration::from_millis(2500));
    assert_eq!(config.limits.outbox_bytes_max, 65_536);
    assert_eq!(config.limits.ping_interval_secs, Duration::from_millis(500));
    assert_eq!(warnings("TRUNKLINE_SHARD=3").len(), 1);
}

#[test]
fn every_limit_is_settable_by_its_name() {
    for name in Limits::NAMES {
        let variable = format!("TRUNKLINE_{}", name.to_ascii_uppercase());
        let errors = bad(&format!("{variable}=-1"));
        assert_eq!(errors.0.len(), 1, "{variable}: {errors}");
        assert_eq!(errors.0[0].name, variable);
    }
}

#[test]
fn limits_at_odds_with_each_other_are_errors() {
    let errors = bad("TRUNKLINE_SUBSCRIBED_EXPIRE_SECS=10");
    assert_eq!(errors.0[0].name, "TRUNKLINE_SUBSCRIBED_RENEW_SECS");
    assert!(errors.to_string().contains("TRUNKLINE_SUBSCRIBED_EXPIRE_SECS = 10"), "{errors}");
    for name in ["TRUNKLINE_ANSWER_SECS_MAX", "TRUNKLINE_POSTGRES_RECONNECT_SECS_MAX"] {
        let errors = bad(&format!("{name}=16"));
        assert_eq!(errors.0[0].name, name);
        assert!(errors.to_string().contains("TRUNKLINE_QUESTION_SECS_MAX = 15"), "{errors}");
    }
    // Questions wait for Postgres, not for Redis.
    good("TRUNKLINE_RECONNECT_SECS_MAX=16");
}

#[test]
fn a_bad_file_lists_every_error_with_name_and_value() {
    let file = "PORT=http\nBIND=no.such.host\nTRUSTED_PROXY_IP=10.0.0.0/33\nLOG_LEVEL=loud\n\
                DB_PORT=99999\nDB_POOL=0\nDB_SSLMODE=maybe\nREDIS_PORT=x\nREDIS_DB=-1\n\
                REDIS_SENTINELS=a:b\nREDIS_SENTINEL_MASTER=m\nREDIS_SENTINEL_PORT=0\n\
                NODE_EXTRA_CA_CERTS=/absent.pem\nTRUNKLINE_SHARDS=0\nTRUNKLINE_CPUS=3-1\n\
                TRUNKLINE_CONTROL_CPU=a\nTRUNKLINE_PIN=maybe\nTRUNKLINE_IO=kqueue\n\
                TRUNKLINE_SHARE_PORT=perhaps\n\
                TRUNKLINE_DRAIN_SECS=soon\nTRUNKLINE_HEAD_BYTES_MAX=1\nDB_HOST=a/b";
    let errors = bad(file);
    for line in file.lines().filter(|line| !line.starts_with("REDIS_SENTINEL_MASTER")) {
        let (name, value) = line.split_once('=').unwrap();
        let start = format!("{name} = {value:?}: ");
        let found = errors.0.iter().filter(|error| error.to_string().starts_with(&start)).count();
        assert_eq!(found, 1, "{start}\n{errors}");
    }
    assert_eq!(errors.0.len(), file.lines().count() - 1, "{errors}");
    assert_eq!(errors.to_string().lines().count(), errors.0.len());
}

#[test]
fn an_unknown_mode_is_an_error() {
    let machine = Machine::new(&[("NODE_ENV", "prod")]);
    let errors = load(&machine.variables, &machine).unwrap_err();
    let expected = r#"NODE_ENV = "prod": must be one of production, development"#;
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn a_bad_url_is_shown_without_its_password() {
    for (file, expected) in [
        ("DATABASE_URL=mysql://u:pw@h/d", "[redacted]://u:[redacted]@h/d"),
        ("DATABASE_URL=postgres://u:pw@h:x/d", "postgres://u:[redacted]@h:[redacted]"),
        ("DATABASE_URL=postgres://u:pw@h/d?sslmode=on", "postgres://u:[redacted]@h/d?sslmode=on"),
        ("DATABASE_URL=postgres://u:p/w@h/d", "postgres://u:[redacted]@h/d"),
        ("DATABASE_URL=postgres://u:12/w@h/d", "postgres://u:[redacted]@h/d"),
        ("DATABASE_URL=postgres://u:p?w@h/d", "postgres://[redacted]"),
        ("DATABASE_URL=postgres://u:p@w?a=b@h/d", "postgres://[redacted]"),
        ("DATABASE_URL=postgres://h/d?port=x&password=pw", "postgres://h/d?port=x&[redacted]"),
        ("DATABASE_URL=postgres://u:p%zz@h/d", "postgres://u:[redacted]@h/d"),
        ("DATABASE_URL=u:pw@h/d", "[redacted]"),
        ("REDIS_URL=redis://:pw", "redis://:[redacted]"),
        ("REDIS_URL=redis://pw@h/x", "redis://[redacted]@h/x"),
        ("REDIS_URL=unix://run/r.sock", "unix://run/r.sock"),
        ("REDIS_HOST=redis://:pw@h", "[redacted]"),
        ("REDIS_SENTINELS=redis://:pw@h:1\nREDIS_SENTINEL_MASTER=m", "[redacted]"),
    ] {
        let errors = bad(file);
        assert_eq!(errors.0.len(), 1, "{file}: {errors}");
        assert_eq!(errors.0[0].value, expected, "{file}");
    }
}

#[test]
fn the_effective_configuration_names_every_value_and_its_origin() {
    let machine = Machine::new(&[("NODE_ENV", "production"), ("PORT", "4001")])
        .file(".env.production", "DATABASE_URL=postgres://u:pw@db/n\nREDIS_PASSWORD=pw2");
    let (config, _) = load(&machine.variables, &machine).unwrap();
    let shown = config.effective();
    for line in [
        "NODE_ENV = production  # environment",
        "PORT = 4001  # environment",
        "BIND = 127.0.0.1  # default",
        "LOG_LEVEL = info  # default",
        "DATABASE_URL = postgres://u:[redacted]@db/n  # .env.production",
        "DB_HOST = db  # DATABASE_URL",
        "DB_PASS = [set]  # DATABASE_URL",
        "REDIS_PASSWORD = [set]  # .env.production",
        "REDIS_USER = [not set]  # default",
        "TRUNKLINE_DRAIN_SECS = 10  # default",
        "TRUNKLINE_HEAD_BYTES_MAX = 16384  # default",
    ] {
        assert!(shown.lines().any(|found| found == line), "{line}\n{shown}");
    }
    assert_eq!(shown, load(&machine.variables, &machine).unwrap().0.effective());
    assert_eq!(config.settings[0].origin, Origin::Environment);
}

#[test]
fn the_service_manager_is_told_where_it_wants_to_be_and_nonsense_is_ignored() {
    let told = |variables: &[(&str, &str)]| {
        let machine = Machine::new(variables);
        let (config, warnings) = load(&machine.variables, &machine).unwrap();
        (config.service_manager, warnings.len())
    };
    let path = NotifySocket::Path("/run/systemd/notify".into());
    let watchdog = Some(Duration::from_secs(30));
    let both = ServiceManager { socket: Some(path.clone()), watchdog };
    let socket = ("NOTIFY_SOCKET", "/run/systemd/notify");
    let usec = ("WATCHDOG_USEC", "30000000");
    assert_eq!(told(&[]), (ServiceManager::default(), 0));
    assert_eq!(told(&[socket, usec]), (both.clone(), 0));
    assert_eq!(told(&[socket, usec, ("WATCHDOG_PID", "4321")]), (both.clone(), 0));
    let unwatched = ServiceManager { watchdog: None, ..both };
    assert_eq!(told(&[socket, usec, ("WATCHDOG_PID", "4322")]), (unwatched.clone(), 0));
    assert_eq!(told(&[socket, ("WATCHDOG_USEC", "soon")]), (unwatched.clone(), 1));
    assert_eq!(told(&[socket, ("WATCHDOG_USEC", "0")]), (unwatched, 1));
    let hidden = Some(NotifySocket::Abstract(b"notify".to_vec()));
    assert_eq!(told(&[("NOTIFY_SOCKET", "@notify")]).0.socket, hidden);
    assert_eq!(told(&[("NOTIFY_SOCKET", "vsock:2:1234")]), (ServiceManager::default(), 1));
}
