//! Ways to log in.

use trunkline::config::postgres::{PostgresConfig, PostgresHost, SslMode};

use crate::client::{Client, config, tcp, with_password};
use crate::support::postgres::give_to_postgres;
use crate::support::{Database, Postgres, eventually};

/// Users `scram_user`, `md5_user`, `plain_user` with the password `p@ss wörd`, each with its
/// method.
fn server() -> (Postgres, Database) {
    let postgres = Postgres::start();
    let database = postgres.database();
    database.sql(
        "create role scram_user login superuser password 'p@ss wörd';
         create role plain_user login superuser password 'p@ss wörd';
         set password_encryption = 'md5';
         create role md5_user login superuser password 'p@ss wörd';
         insert into accounts (id, username) values (1, 'u');
         insert into users (id, account_id) values (1, 1);
         insert into oauth_access_tokens (id, token, resource_owner_id) values (1, 'tok', 1);",
    );
    set_access(
        &postgres,
        "local all all trust
         host all mastodon all trust
         host all scram_user all scram-sha-256
         host all md5_user all md5
         host all plain_user all password",
    );
    (postgres, database)
}

/// Puts these lines into `pg_hba.conf` and waits until they hold.
pub fn set_access(postgres: &Postgres, lines: &str) {
    let path = postgres.data_directory().join("pg_hba.conf");
    std::fs::write(&path, format!("{lines}\n")).unwrap();
    give_to_postgres(&postgres.data_directory());
    let maintenance = postgres.database_named("postgres");
    let seconds = maintenance.sql("select pg_conf_load_time()");
    maintenance.sql("select pg_reload_conf()");
    eventually("the new configuration", || {
        (maintenance.sql("select pg_conf_load_time()") != seconds).then_some(())
    });
}

fn as_user(database: &Database, user: &str, password: &str) -> PostgresConfig {
    with_password(config(tcp("127.0.0.1", database.port()), database.name()), user, password)
}

#[test]
fn every_method_lets_the_right_password_in_and_reports_a_wrong_one() {
    let (_postgres, database) = server();
    for user in ["scram_user", "md5_user", "plain_user", "mastodon"] {
        let mut client = Client::new(&as_user(&database, user, "p@ss wörd"));
        assert!(client.session("tok").unwrap().is_some(), "{user}");
    }
    for user in ["scram_user", "md5_user", "plain_user"] {
        let mut client = Client::new(&as_user(&database, user, "wr0ng-secret"));
        let reason = client.session("tok").unwrap_err().reason;
        assert!(reason.contains(user) && reason.contains("28P01"), "{reason}");
        let all = format!("{reason} {:?}", client.troubles);
        assert!(!all.contains("wr0ng-secret") && all.contains("password"), "{all}");
        let without = config(tcp("127.0.0.1", database.port()), database.name());
        let without = PostgresConfig { user: user.into(), ..without };
        let reason = Client::new(&without).session("tok").unwrap_err().reason;
        assert!(reason.contains("none is configured"), "{reason}");
    }
}

#[test]
fn a_database_that_is_not_there_is_named() {
    let postgres = Postgres::shared();
    let mut client = Client::new(&config(tcp("127.0.0.1", postgres.port()), "no_such_database"));
    let reason = client.session("tok").unwrap_err().reason;
    assert!(reason.contains("no_such_database") && reason.contains("3D000"), "{reason}");
    assert_eq!(client.stats().failed, 1);
}

#[test]
fn a_unix_socket_and_a_host_name_lead_there_and_hosts_are_tried_in_order() {
    let (postgres, database) = server();
    let unix = PostgresHost::Unix {
        directory: postgres.socket_directory().to_path_buf(),
        port: postgres.port(),
    };
    let nowhere = PostgresHost::Unix { directory: "/nonexistent".into(), port: 1 };
    let name = tcp("localhost", postgres.port());
    let dead = tcp("127.0.0.1", 1);
    for hosts in [
        vec![unix.clone()],
        vec![name.clone()],
        vec![nowhere.clone(), dead.clone(), tcp("no-such-host.invalid", 5432), unix.clone()],
    ] {
        let mut config = config(unix.clone(), database.name());
        config.hosts = hosts;
        let mut client = Client::new(&config);
        assert!(client.session("tok").unwrap().is_some(), "{:?}", config.hosts);
    }
    // Even a mode that insists on TLS means TCP only.
    let mut insisting = config(unix, database.name());
    insisting.ssl_mode = SslMode::VerifyFull;
    assert!(Client::new(&insisting).session("tok").unwrap().is_some());
    let mut hopeless = config(nowhere, database.name());
    hopeless.hosts.push(dead);
    let reason = Client::new(&hopeless).session("tok").unwrap_err().reason;
    assert!(reason.contains("/nonexistent/.s.PGSQL.1") && reason.contains("port 1"), "{reason}");
}

#[test]
fn options_and_application_name_reach_the_server() {
    let (_postgres, database) = server();
    let mut config = as_user(&database, "mastodon", "");
    config.options = Some("-c application_name=from-options -c statement_timeout=7s".into());
    let mut client = Client::new(&config);
    client.session("tok").unwrap();
    let query = "select count(*) from pg_stat_activity where application_name = ";
    assert_eq!(database.sql(&format!("{query}'from-options'")), "1");
    config.options = None;
    config.application_name = "trunkline".into();
    let mut client = Client::new(&config);
    client.session("tok").unwrap();
    assert_eq!(database.sql(&format!("{query}'trunkline'")), "1");
}
