//! `trunkline doctor` against real servers: what is fine is called fine, what is not is named, and
//! the exit code says which.

#![allow(clippy::expect_used)]

mod support;

use serde_json::Value;
use support::{PgBouncer, Postgres, Redis, ServerBuilder, World};

/// The exit code and the findings about Redis and Postgres.
#[track_caller]
fn examine(builder: ServerBuilder) -> (Option<i32>, Vec<Value>) {
    // The limits of this test are looked at, not those of some other test's server.
    examine_beside(builder, std::process::id())
}

/// The same with the limits, and the environment if it is a server's, of this process.
#[track_caller]
fn examine_beside(builder: ServerBuilder, pid: u32) -> (Option<i32>, Vec<Value>) {
    let pid = pid.to_string();
    let mut doctor =
        builder.arguments(&["doctor", "--json", "--clients=1", "--pid", &pid]).launch();
    doctor.may_end_badly();
    let code = doctor.wait().code();
    let text = doctor.log();
    assert!(!text.contains("Secret-1"), "{text}");
    let report: Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let findings = report["findings"].as_array().expect("findings").iter();
    let ours = |finding: &&Value| finding["area"] == "redis" || finding["area"] == "postgres";
    (code, findings.filter(ours).cloned().collect())
}

/// The names and verdicts of those that are not fine.
fn complaints(findings: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let complaints = findings.iter().filter(|finding| finding["verdict"] != "fine");
    complaints.map(|finding| (text(&finding["name"]), text(&finding["verdict"]))).collect()
}

fn named(name: &str, verdict: &str) -> (String, String) {
    (name.to_owned(), verdict.to_owned())
}

#[test]
fn a_fresh_redis_and_mastodons_schema_are_fine_beside_a_running_server() {
    let world = World::start();
    world.redis.await_subscribers("timeline:public", 0);
    let (_, findings) = examine(ServerBuilder::new(&world.redis, &world.database));
    assert_eq!(complaints(&findings), []);
    assert_eq!(findings.len(), 16, "{findings:?}");
    let key = world.redis.client().command(&["PTTL", "subscribed:timeline:0"]).integer();
    assert!(key <= 1000, "the key stays for {key} ms");
}

#[test]
fn a_server_that_runs_is_judged_by_its_own_environment() {
    let mut world = World::start();
    // In the doctor's own environment neither can be reached.
    let elsewhere = || {
        let builder = ServerBuilder::new(&world.redis, &world.database);
        builder.env("REDIS_PORT", 1).env("DB_PORT", 1)
    };
    let (beside, alone) = (elsewhere(), elsewhere());
    let (_, findings) = examine_beside(beside, world.server.process().id());
    assert_eq!(complaints(&findings), []);
    let (code, findings) = examine(alone);
    assert_eq!(complaints(&findings), ["connection"; 2].map(|name| named(name, "broken")));
    assert_eq!(code, Some(2));
}

#[test]
fn what_is_not_fine_is_named_with_the_command() {
    let redis = Redis::start_with(&["--client-output-buffer-limit", "pubsub 65536 65536 60"]);
    let postgres = Postgres::start_with(&["max_connections=12"]);
    let database = postgres.database();
    database.sql("drop index index_mutes_on_target_account_id");
    let (code, findings) = examine(ServerBuilder::new(&redis, &database));
    let expected =
        ["client-output-buffer-limit pubsub", "max_connections against DB_POOL", "indexes"];
    assert_eq!(complaints(&findings), expected.map(|name| named(name, "change")));
    assert_eq!(code, Some(1));
    let commands: Vec<&str> =
        findings.iter().filter_map(|finding| finding["command"].as_str()).collect();
    let index = "CREATE INDEX CONCURRENTLY ON mutes (target_account_id)";
    assert!(commands.contains(&index), "{commands:?}");
    for command in commands.iter().filter(|command| command.starts_with("CREATE")) {
        database.sql(command);
    }
    redis.client().command(&["CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60"]);
    let (_, findings) = examine(ServerBuilder::new(&redis, &database).env("DB_POOL", 5));
    assert_eq!(complaints(&findings), []);
}

#[test]
fn what_keeps_the_server_from_working_is_broken() {
    let redis = Redis::start_with(&["--requirepass", "admin"]);
    let rules = ["on", ">Secret-1", "+@all", "-set", "-info", "&timeline:*", "~*"];
    redis.client().command(&["AUTH", "admin"]);
    let mut admin = redis.client();
    admin.command(&["AUTH", "admin"]);
    admin.command(&[&["ACL", "SETUSER", "streaming"][..], &rules].concat());
    let database = Postgres::shared().database();
    database.sql("alter table custom_filters drop column action; create role reader login");
    let builder = || {
        ServerBuilder::new(&redis, &database)
            .env("REDIS_USER", "streaming")
            .env("REDIS_PASSWORD", "Secret-1")
            .env("DB_USER", "reader")
    };
    let (code, findings) = examine(builder());
    let expected = [
        named("version", "unknown"),
        named("SET subscribed:…", "broken"),
        named("tables and columns", "broken"),
        named("rights", "broken"),
    ];
    assert_eq!(complaints(&findings), expected);
    assert_eq!(code, Some(2));

    let (code, findings) = examine(builder().env("REDIS_PASSWORD", "Secret-1x").env("DB_PORT", 1));
    let expected = [named("connection", "broken"), named("connection", "broken")];
    assert_eq!(complaints(&findings), expected);
    assert_eq!(code, Some(2));
}

#[test]
fn a_pooler_in_transaction_mode_is_recognised() {
    let redis = Redis::start();
    let database = Postgres::shared().database();
    let pooler = PgBouncer::start(&database);
    let builder = || ServerBuilder::new(&redis, &database).env("DB_PORT", pooler.port());
    let (_, findings) = examine(builder());
    assert_eq!(complaints(&findings), []);
    let says = |finding: &Value| finding["is"].as_str().is_some_and(|is| is.contains("pooler"));
    assert!(findings.iter().any(says), "{findings:?}");
    let url = format!(
        "postgres://mastodon@127.0.0.1:{}/{}?application_name=x",
        pooler.port(),
        database.name()
    );
    let (_, findings) = examine(builder().env("DATABASE_URL", url));
    assert_eq!(complaints(&findings), [named("pooler and application_name", "change")]);
}
