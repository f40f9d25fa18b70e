//! One environment file of an existing installation starts the server, in each form that
//! installations have.

mod support;

use std::fs;
use std::path::Path;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use support::postgres::give_to_postgres;
use support::{
    Database, Fixture, PgBouncer, Postgres, Redis, RedisClient, Sentinel, Server, ServerBuilder,
    Socket, User, WebSocket, eventually, status,
};

/// Starts a server that is told everything by `.env.production` and serves one event.
fn assert_serves(redis: &Redis, database: &Database, lines: &[String]) {
    assert_serves_with(redis, database, lines, "", |builder| builder);
}

fn assert_serves_with(
    redis: &Redis,
    database: &Database,
    lines: &[String],
    prefix: &str,
    change: impl FnOnce(ServerBuilder) -> ServerBuilder,
) {
    let user = Fixture { database }.user(1);
    let builder = change(ServerBuilder::bare());
    // What else is in such a file is none of our business.
    let others = "LOCAL_DOMAIN=example.com\nSINGLE_USER_MODE=false\nSIDEKIQ_CONCURRENCY=5\n\
                  STREAMING_CLUSTER_NUM=2\nS3_ENABLED=true\nSMTP_PASSWORD='it''s $ecret # no'\n\
                  # a comment\n\nexport ES_ENABLED=true\n";
    let text = format!("{others}{}\n", lines.join("\n"));
    fs::write(builder.directory().join(".env.production"), text).expect("write the file");
    let server = builder.start();
    serves_one_event(&server, redis, user, prefix);
}

fn serves_one_event(server: &Server, redis: &Redis, user: User, prefix: &str) {
    let mut websocket = WebSocket::open(server, &user.websocket("stream=user"));
    let channel = format!("{prefix}{}", user.home());
    let mut client = client_of(redis);
    client.await_subscribers(&channel, 1);
    let key = format!("{prefix}subscribed:{}", user.home());
    eventually(&key, || (client.command(&["EXISTS", &key]).integer() == 1).then_some(()));
    client.publish(&channel, status::message("delete", "1"));
    assert_eq!(websocket.next_event().payload, "1");
}

/// A connection that has shown the password `redis-secret`, which is refused where there is none.
fn client_of(redis: &Redis) -> RedisClient {
    let mut client = redis.client();
    client.command(&["AUTH", "redis-secret"]);
    client
}

fn plain_redis(redis: &Redis) -> Vec<String> {
    vec!["REDIS_HOST=127.0.0.1".to_string(), format!("REDIS_PORT={}", redis.port())]
}

fn plain_postgres(database: &Database) -> Vec<String> {
    vec![
        "DB_HOST=127.0.0.1".to_string(),
        format!("DB_PORT={}", database.port()),
        format!("DB_NAME={}", database.name()),
        "DB_USER=mastodon".to_string(),
        "DB_PASS=".to_string(),
    ]
}

fn together(one: Vec<String>, other: Vec<String>) -> Vec<String> {
    one.into_iter().chain(other).collect()
}

#[test]
fn hosts_and_ports() {
    let (redis, database) = (Redis::start(), Postgres::shared().database());
    assert_serves(&redis, &database, &together(plain_redis(&redis), plain_postgres(&database)));
}

#[test]
fn urls_win_over_single_variables() {
    let (redis, database) = (Redis::start(), Postgres::shared().database());
    let (port, name) = (database.port(), database.name());
    let lines = [
        format!("REDIS_URL=redis://127.0.0.1:{}/3", redis.port()),
        "REDIS_HOST=nowhere.invalid".to_string(),
        format!("DATABASE_URL=postgresql://mastodon@127.0.0.1:{port}/{name}?connect_timeout=5"),
        "DB_HOST=nowhere.invalid".to_string(),
    ];
    let user = Fixture { database: &database }.user(1);
    let builder = ServerBuilder::bare();
    let file = builder.directory().join(".env.production");
    fs::write(file, lines.join("\n")).expect("write the file");
    let server = builder.start();
    let mut websocket = WebSocket::open(&server, &user.websocket("stream=user"));
    redis.publish_wanted(&user.home(), status::message("delete", "1"));
    assert_eq!(websocket.next_event().payload, "1");
    let mut client = redis.client();
    client.command(&["SELECT", "3"]);
    let key = format!("subscribed:{}", user.home());
    assert_eq!(client.command(&["EXISTS", &key]).integer(), 1, "the key is in another database");
}

#[test]
fn unix_sockets() {
    let (redis, database) = (Redis::start(), Postgres::shared().database());
    let directory = Postgres::shared().socket_directory().display().to_string();
    let of_postgres = |host: &str| {
        let mut lines = plain_postgres(&database);
        lines[0] = format!("DB_HOST={host}");
        lines
    };
    let of_redis = vec![format!("REDIS_URL=unix://{}", redis.socket())];
    assert_serves(&redis, &database, &together(of_redis.clone(), of_postgres(&directory)));
    let encoded = directory.replace('/', "%2F");
    let (port, name) = (database.port(), database.name());
    let url = vec![format!("DATABASE_URL=postgresql://mastodon@{encoded}:{port}/{name}")];
    assert_serves(&redis, &database, &together(of_redis, url));
}

#[test]
fn passwords_and_users() {
    let redis = Redis::start_with(&["--requirepass", "redis-secret"]);
    let postgres = Postgres::start_with(&["password_encryption=scram-sha-256"]);
    let database = postgres.database();
    database.sql(
        "create role streaming login password 'p@ss:w/rd'; grant pg_read_all_data to streaming;",
    );
    fs::write(
        postgres.data_directory().join("pg_hba.conf"),
        "host all mastodon 127.0.0.1/32 trust\nhost all streaming 127.0.0.1/32 scram-sha-256\n",
    )
    .expect("write pg_hba.conf");
    database.sql("select pg_reload_conf()");
    let (port, name) = (database.port(), database.name());
    let mut by_variables = plain_postgres(&database);
    by_variables[3] = "DB_USER=streaming".to_string();
    by_variables[4] = "DB_PASS='p@ss:w/rd'".to_string();
    let by_url = |password: &str| {
        vec![format!("DATABASE_URL=postgres://streaming{password}@127.0.0.1:{port}/{name}")]
    };
    let with_password = together(plain_redis(&redis), vec!["REDIS_PASSWORD=redis-secret".into()]);
    assert_serves(&redis, &database, &together(with_password.clone(), by_variables));
    let url = by_url(":p%40ss%3Aw%2Frd");
    assert_serves(&redis, &database, &together(with_password.clone(), url));
    let filled = together(by_url(""), vec!["DB_PASS=p@ss:w/rd".to_string()]);
    assert_serves(&redis, &database, &together(with_password, filled));
    let mut client = client_of(&redis);
    client.command(&["ACL", "SETUSER", "streamer", "on", ">acl-pw", "~*", "&*", "+@all"]);
    let of_user = vec!["REDIS_USER=streamer".to_string(), "REDIS_PASSWORD=acl-pw".to_string()];
    let lines = together(together(plain_redis(&redis), of_user), by_url(":p%40ss%3Aw%2Frd"));
    assert_serves(&redis, &database, &lines);
}

#[test]
fn sentinels() {
    let (redis, database) = (Redis::start(), Postgres::shared().database());
    let sentinel = Sentinel::start("mymaster", redis.port());
    let of_redis = vec![
        format!("REDIS_SENTINELS=127.0.0.1,127.0.0.1:{}", sentinel.port()),
        format!("REDIS_SENTINEL_PORT={}", sentinel.port()),
        "REDIS_SENTINEL_MASTER=mymaster".to_string(),
    ];
    assert_serves(&redis, &database, &together(of_redis, plain_postgres(&database)));
}

#[test]
fn a_namespace() {
    let (redis, database) = (Redis::start(), Postgres::shared().database());
    let lines = together(plain_redis(&redis), plain_postgres(&database));
    let lines = together(lines, vec!["REDIS_NAMESPACE=herd".to_string()]);
    assert_serves_with(&redis, &database, &lines, "herd:", |builder| builder);
}

#[test]
fn a_pooler_in_transaction_mode() {
    let (redis, database) = (Redis::start(), Postgres::shared().database());
    let bouncer = PgBouncer::start(&database);
    let mut of_postgres = plain_postgres(&database);
    of_postgres[1] = format!("DB_PORT={}", bouncer.port());
    assert_serves(&redis, &database, &together(plain_redis(&redis), of_postgres));
}

#[test]
fn addresses_to_listen_on() {
    let (redis, database) = (Redis::start(), Postgres::shared().database());
    let user = Fixture { database: &database }.user(1);
    for bind in ["::1", "[::1]"] {
        let server = ServerBuilder::new(&redis, &database).env("BIND", bind).start();
        assert!(server.address.contains("::1"), "{}", server.address);
        let address = ("::1", server.port());
        assert!(std::net::TcpStream::connect(address).is_ok(), "nothing listens on {address:?}");
    }
    let builder = ServerBuilder::new(&redis, &database).without("PORT");
    let path = builder.directory().join("socket");
    let server = builder.env("SOCKET", path.display()).start();
    let mut socket = Socket::connect_unix(&path);
    let target = user.websocket("stream=user");
    socket.send(support::Request::websocket(&target).bytes());
    let mut websocket = WebSocket::adopt(socket).expect("101");
    redis.publish_wanted(&user.home(), status::message("delete", "1"));
    assert_eq!(websocket.next_event().payload, "1");
    drop(server);
}

#[test]
fn the_file_is_chosen_by_the_mode_and_the_environment_wins() {
    let (redis, database) = (Redis::start(), Postgres::shared().database());
    let lines = together(plain_redis(&redis), plain_postgres(&database));
    for (variable, mode, name) in [
        ("NODE_ENV", "production", ".env.production"),
        ("RAILS_ENV", "production", ".env.production"),
        ("NODE_ENV", "development", ".env"),
        ("UNRELATED", "x", ".env"),
    ] {
        let user = Fixture { database: &database }.user(1);
        let builder = ServerBuilder::bare().without("NODE_ENV").env(variable, mode);
        let text = format!("{}\nPORT=1\nREDIS_DB=1\n", lines.join("\n"));
        fs::write(builder.directory().join(name), text).expect("write the file");
        let other = if name == ".env" { ".env.production" } else { ".env" };
        let wrong = builder.directory().join(other);
        fs::write(wrong, "DB_POOL=the wrong file\n").expect("write the file");
        let server = builder.env("REDIS_DB", "0").start();
        serves_one_event(&server, &redis, user, "");
    }
}

#[test]
fn encrypted_connections_with_certificates_of_ones_own() {
    let directory = support::process::scratch("certificates");
    let names = vec!["127.0.0.1".to_string(), "localhost".to_string()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).expect("a key");
    let file = |name: &str| directory.path().join(name).display().to_string();
    fs::write(file("cert.pem"), cert.pem()).expect("write the certificate");
    fs::write(file("key.pem"), signing_key.serialize_pem()).expect("write the key");
    let (postgres, port) = (encrypted_postgres(directory.path()), support::ports::Port::take());
    let redis = Redis::start_with(&[
        "--tls-port",
        &port.number().to_string(),
        "--tls-cert-file",
        &file("cert.pem"),
        "--tls-key-file",
        &file("key.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    let database = postgres.database();
    let name = database.name();
    let place = format!("mastodon@localhost:{}/{name}", database.port());
    let of_redis = vec![
        format!("REDIS_URL=rediss://localhost:{}", port.number()),
        format!("NODE_EXTRA_CA_CERTS={}", file("cert.pem")),
    ];
    let root = file("cert.pem");
    for of_postgres in [
        vec![format!("DATABASE_URL=postgres://{place}?sslmode=verify-full&sslrootcert={root}")],
        vec![format!("DATABASE_URL=postgres://{place}?sslmode=verify-full")],
        vec![format!("DATABASE_URL=postgres://{place}?sslmode=no-verify")],
        vec![format!("DATABASE_URL=postgres://{place}"), "DB_SSLMODE=require".to_string()],
        vec![format!("DATABASE_URL=postgres://{place}")],
    ] {
        assert_serves(&redis, &database, &together(of_redis.clone(), of_postgres));
    }
}

/// A server that accepts nobody over TCP without TLS but the tests themselves.
fn encrypted_postgres(certificates: &Path) -> Postgres {
    let mut postgres = Postgres::start();
    postgres.stop();
    let data = postgres.data_directory();
    for name in ["cert.pem", "key.pem"] {
        fs::copy(certificates.join(name), data.join(name)).expect("copy");
    }
    let configuration = data.join("postgresql.auto.conf");
    let lines = "ssl = on\nssl_cert_file = 'cert.pem'\nssl_key_file = 'key.pem'\n";
    fs::write(configuration, lines).expect("write the settings");
    support::process::run(std::process::Command::new("chmod").arg("600").arg(data.join("key.pem")));
    give_to_postgres(&data);
    postgres.resume();
    postgres
}

#[test]
fn a_bad_file_lists_every_error_and_no_password() {
    let builder = ServerBuilder::bare().without("PORT");
    let file = builder.directory().join(".env.production");
    let lines = [
        "PORT=sixty",
        "DB_PORT=99999999",
        "DB_SSLMODE=perhaps",
        "DB_PASS=hush-hush",
        "REDIS_URL=ftp://:hush-too@127.0.0.1",
        "TRUSTED_PROXY_IP=not-an-address",
        "NODE_EXTRA_CA_CERTS=/nowhere/ca.pem",
        "TRUNKLINE_SHARDS=none",
    ];
    fs::write(file, lines.join("\n")).expect("write the file");
    let mut server = builder.without("TRUNKLINE_SHARDS").launch();
    server.may_end_badly();
    assert_eq!(server.wait().code(), Some(64));
    let log = server.log();
    for line in lines {
        let (name, value) = line.split_once('=').expect("a line");
        if !value.contains("hush") {
            assert!(log.contains(name) && log.contains(value), "{line} is not in {log}");
        }
    }
    assert!(log.contains("REDIS_URL"), "{log}");
    assert!(!log.contains("hush"), "a password shows: {log}");
}
