//! The harness itself: the instances that other tests stand on do what those tests take for
//! granted.

mod support;

use std::time::Duration;

use support::{Fixture, PgBouncer, Postgres, Redis, Sentinel, Special, User, eventually};

#[test]
fn a_message_reaches_exactly_the_subscribed_connections() {
    let redis = Redis::start();
    let mut subscriber = redis.client();
    subscriber.command(&["SUBSCRIBE", "timeline:public"]);
    redis.await_subscribers("timeline:public", 1);
    assert_eq!(redis.publish("timeline:public", "x"), 1);
    assert_eq!(redis.publish("timeline:public:local", "x"), 0);
    assert_eq!(subscriber.read().texts(), ["message", "timeline:public", "x"]);
}

#[test]
fn a_killed_redis_comes_back_empty_on_its_port() {
    let mut redis = Redis::start();
    let port = redis.port();
    redis.client().command(&["SET", "key", "1"]);
    redis.kill();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
    redis.resume();
    assert_eq!(redis.port(), port);
    assert_eq!(redis.client().command(&["EXISTS", "key"]).integer(), 0);
}

#[test]
fn databases_of_one_server_do_not_see_each_other() {
    let [one, two] = [Postgres::shared().database(), Postgres::shared().database()];
    Fixture { database: &one }.user(7);
    assert_eq!(one.sql("select token from oauth_access_tokens"), "tok-7");
    assert_eq!(two.sql("select count(*) from oauth_access_tokens"), "0");
}

#[test]
fn users_have_the_rows_that_their_numbers_say() {
    let database = Postgres::shared().database();
    let fixture = Fixture { database: &database };
    fixture.users(40..=41);
    let user = User(41);
    let of = |query: &str| database.sql(&format!("{query} {} order by 1", user.account()));
    assert_eq!(user.account(), 110_000_000_041_000_123);
    assert_eq!(of("select count(*) from blocks where account_id ="), "3");
    assert_eq!(of("select count(*) from mutes where account_id ="), "2");
    let block = User(7 * 41 + 104_729).account();
    assert!(
        of("select target_account_id from blocks where account_id =").contains(&block.to_string())
    );
    assert_eq!(
        of("select domain from account_domain_blocks where account_id ="),
        "blocked41.example"
    );
    assert_eq!(of("select count(*) from custom_filters where account_id ="), "0");
    assert_eq!(database.sql("select count(*) from custom_filter_keywords"), "2");
    let special = fixture.special(Special::ReadStatuses);
    assert_eq!(special.account(), 110_000_200_004_600_012);
    let scopes =
        format!("select scopes from oauth_access_tokens where id = {}", special.token_id());
    assert_eq!(database.sql(&scopes), "read:statuses");
}

#[test]
fn statements_are_counted_per_database() {
    let database = Postgres::shared().database();
    database.reset_statements();
    database.sql("select 1; select 2;");
    database.sql("select 3;");
    assert_eq!(database.statements(), 3);
}

#[test]
fn a_stopped_postgres_refuses_and_comes_back_with_its_rows() {
    let mut postgres = Postgres::start();
    let database = postgres.database();
    Fixture { database: &database }.user(1);
    postgres.stop();
    assert!(database.try_sql("select 1").is_err());
    postgres.resume();
    assert_eq!(database.sql("select count(*) from users"), "1");
}

#[test]
fn pgbouncer_pools_transactions() {
    let database = Postgres::shared().database();
    let bouncer = PgBouncer::start(&database);
    let port = bouncer.port().to_string();
    let mut psql = std::process::Command::new("psql");
    psql.args(["-X", "-A", "-t", "-h", "127.0.0.1", "-p", &port, "-U", "mastodon", "pgbouncer"]);
    let text = support::process::run(psql.args(["-c", "show config"]));
    assert!(text.contains("pool_mode|transaction"), "{text}");
    let mut psql = std::process::Command::new("psql");
    psql.args([
        "-X",
        "-A",
        "-t",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-U",
        "mastodon",
        database.name(),
    ]);
    assert_eq!(support::process::run(psql.args(["-c", "select count(*) from users"])).trim(), "0");
}

#[test]
fn a_sentinel_names_the_master() {
    let redis = Redis::start();
    let sentinel = Sentinel::start("mymaster", redis.port());
    let mut client = sentinel.client();
    let address = client.command(&["SENTINEL", "get-master-addr-by-name", "mymaster"]).texts();
    assert_eq!(address, ["127.0.0.1".to_string(), redis.port().to_string()]);
}

#[test]
fn what_never_happens_is_a_failure_and_what_comes_late_is_none() {
    let mut attempts = 0;
    let value = eventually("the third attempt", || {
        attempts += 1;
        std::thread::sleep(Duration::from_millis(1));
        (attempts == 3).then_some(attempts)
    });
    assert_eq!(value, 3);
}
