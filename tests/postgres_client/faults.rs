//! Servers that restart, hang, refuse or are not there (promise R8).

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use trunkline::config::Limits;
use trunkline::config::postgres::PostgresConfig;
use trunkline::hub::question::Answer;

use crate::client::{Client, config, tcp, tokens};
use crate::support::{Database, PgBouncer, Postgres, eventually};

fn one_token(postgres: &Postgres) -> (Database, PostgresConfig) {
    let database = postgres.database();
    database.sql(
        "insert into accounts (id, username) values (1, 'u');
         insert into users (id, account_id) values (1, 1);
         insert into oauth_access_tokens (id, token, resource_owner_id) values (1, 'tok', 1);",
    );
    let config = config(tcp("127.0.0.1", postgres.port()), database.name());
    (database, config)
}

fn postmaster(postgres: &Postgres) -> Pid {
    let file = fs::read_to_string(postgres.data_directory().join("postmaster.pid")).unwrap();
    Pid::from_raw(file.lines().next().unwrap().parse().unwrap()).unwrap()
}

/// Locks the table of tokens for others until the guard is dropped: a statement that does not come
/// to an end.
struct Lock {
    psql: std::process::Child,
}

impl Lock {
    fn new(database: &Database) -> Lock {
        let mut command = std::process::Command::new("psql");
        command.args(["-X", "-q", "-h", "127.0.0.1", "-U", "mastodon", "-d", database.name()]);
        command.args(["-p", &database.port().to_string()]).args(["-c", "begin", "-c"]);
        command.args(["lock table oauth_access_tokens in access exclusive mode", "-c"]);
        let psql = command.arg("select pg_sleep(60)").spawn().unwrap();
        let held = "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted \
                    and relation = 'oauth_access_tokens'::regclass";
        eventually("the lock", || (database.sql(held) == "1").then_some(()));
        Lock { psql }
    }

    fn release(mut self, database: &Database) {
        database.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity
               where query ~ 'pg_sleep' and pid <> pg_backend_pid()",
        );
        self.psql.wait().unwrap();
    }
}

fn backends(database: &Database) -> usize {
    let query = "select count(*) from pg_stat_activity where datname = current_database()
                   and pid <> pg_backend_pid() and query !~ 'pg_sleep'";
    database.sql(query).parse().unwrap()
}

#[test]
fn a_terminated_backend_costs_no_answer() {
    let postgres = Postgres::start();
    let (database, config) = one_token(&postgres);
    let mut client = Client::new(&config);
    for _ in 0..5 {
        assert!(client.session("tok").unwrap().is_some());
        // The pool has not looked at its connection when it asks again.
        database.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()",
        );
    }
    assert_eq!(client.stats().failed, 0);
    assert!(client.troubles.iter().any(|text| text.contains("57P01")), "{:?}", client.troubles);
}

#[test]
fn a_connection_that_is_only_tried_is_not_a_working_one() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client =
        Client::new(&config(tcp("127.0.0.1", silent.local_addr().unwrap().port()), "any"));
    client.ask(tokens(&["tok"]));
    client.until("an attempt", |client| (client.stats().total > 0).then_some(()));
    for _ in 0..10 {
        client.turn();
    }
    assert_eq!((client.stats().total, client.stats().open), (1, 0));

    let postgres = Postgres::start();
    let (_database, config) = one_token(&postgres);
    let mut client = Client::new(&config);
    assert!(client.session("tok").unwrap().is_some());
    assert_eq!(client.stats().open, 1);
}

#[test]
fn a_crashing_server_costs_no_answer_once_it_is_back() {
    let postgres = Postgres::start();
    let (database, config) = one_token(&postgres);
    let mut client = Client::new(&config);
    assert!(client.session("tok").unwrap().is_some());
    let pid = database.sql(
        "select pid from pg_stat_activity where datname = current_database()
           and pid <> pg_backend_pid()",
    );
    // The postmaster throws everybody out and recovers, with what has reached the disk: the servers
    // of tests commit without waiting for it.
    database.sql("checkpoint");
    kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    client.until("the pool heals", |client| {
        let ticket = client.ask(tokens(&["tok"]));
        let answer = client.until("an answer", |client| client.taken(ticket));
        matches!(answer, Ok(Answer::Sessions(found)) if found[0].is_some()).then_some(())
    });
}

#[test]
fn while_the_server_is_away_questions_fail_at_once_and_the_pool_heals_by_itself() {
    let mut postgres = Postgres::start();
    let (_database, config) = one_token(&postgres);
    let mut client = Client::new(&config);
    assert!(client.session("tok").unwrap().is_some());
    postgres.stop();
    let reason = client.session("tok").unwrap_err().reason;
    assert!(reason.contains("cannot be reached"), "{reason}");
    // From here on nobody waits: the answer comes out of the turn after the question.
    let ticket = client.ask(tokens(&["tok"]));
    client.turn();
    assert!(matches!(client.taken(ticket), Some(Err(_))));
    assert_eq!(client.stats().waiting, 0);
    let troubles = client.troubles.len();
    for _ in 0..200 {
        client.turn();
    }
    assert!(client.troubles.len() <= troubles + 2, "{:?}", client.troubles);
    postgres.resume();
    client.until("the pool opens a connection unasked", |client| {
        (client.stats().idle > 0).then_some(())
    });
    assert!(client.session("tok").unwrap().is_some());
    assert!(client.troubles.iter().any(|text| text.contains("answers again")));
}

#[test]
fn a_server_that_is_away_is_tried_one_connection_at_a_time() {
    let config = config(tcp("127.0.0.1", 1), "any");
    let mut client = Client::new(&config);
    for _ in 0..500 {
        client.ask(tokens(&["tok"]));
    }
    client.until("all answers", |client| {
        assert!(client.stats().total <= 1);
        (client.untaken() == 500).then_some(())
    });
    assert_eq!(client.stats().failed, 500);
}

#[test]
fn the_pool_never_has_more_connections_than_it_may() {
    let postgres = Postgres::start();
    let (database, mut config) = one_token(&postgres);
    config.pool_size = 3;
    let mut client = Client::new(&config);
    let lock = Lock::new(&database);
    for _ in 0..100 {
        client.ask(tokens(&["tok"]));
    }
    client.until("a full pool", |_| (backends(&database) == 3).then_some(()));
    for _ in 0..20 {
        client.turn();
        assert!(client.stats().total <= 3 && backends(&database) <= 3);
    }
    assert!(client.stats().waiting > 80 && client.stats().idle == 0);
    lock.release(&database);
    client.until("all answers", |client| (client.untaken() == 100).then_some(()));
    assert_eq!((client.stats().failed, client.stats().answered), (0, 100));
    assert_eq!((client.stats().total, client.stats().idle), (3, 3));
}

#[test]
fn a_server_without_room_is_used_as_far_as_it_goes() {
    let postgres = Postgres::start_with(&["max_connections=5", "superuser_reserved_connections=0"]);
    let (_database, config) = one_token(&postgres);
    let mut client = Client::new(&config);
    for _ in 0..300 {
        client.ask(tokens(&["tok"]));
    }
    client.until("all answers", |client| (client.untaken() == 300).then_some(()));
    assert_eq!(client.stats().answered, 300, "{:?}", client.troubles);
}

#[test]
fn a_statement_that_takes_too_long_loses_its_connection_and_no_other() {
    let postgres = Postgres::start();
    let (database, mut config) = one_token(&postgres);
    config.pool_size = 2;
    let limits = Limits { query_secs_max: Duration::from_millis(300), ..Limits::default() };
    let mut client = Client::with_limits(&config, &limits);
    let lock = Lock::new(&database);
    let stuck = client.ask(tokens(&["tok"]));
    let others = client.answer(trunkline::hub::question::Question::FeedSettings);
    assert!(others.is_ok(), "{others:?}");
    let stuck = client.until("the deadline", |client| client.taken(stuck));
    assert!(stuck.unwrap_err().reason.contains("within 0.3 s"));
    lock.release(&database);
    assert!(client.session("tok").unwrap().is_some());
}

#[test]
fn a_question_that_waits_too_long_for_a_connection_is_given_up() {
    let postgres = Postgres::start();
    let (database, mut config) = one_token(&postgres);
    config.pool_size = 1;
    let limits = Limits {
        question_secs_max: Duration::from_millis(300),
        queries_pipelined_max: 1,
        ..Limits::default()
    };
    let mut client = Client::with_limits(&config, &limits);
    let lock = Lock::new(&database);
    let sent = client.ask(tokens(&["tok"]));
    client.until("it is sent", |client| (client.stats().waiting == 0).then_some(()));
    let waits = client.ask(tokens(&["tok"]));
    let waits = client.until("it is given up", |client| client.taken(waits));
    assert!(waits.unwrap_err().reason.contains("free in time"));
    lock.release(&database);
    assert!(client.until("the first", |client| client.taken(sent)).is_ok());
}

#[test]
fn a_server_that_stops_in_mid_air_is_given_up_and_found_again() {
    let postgres = Postgres::start();
    let (database, config) = one_token(&postgres);
    let limits = Limits { query_secs_max: Duration::from_millis(300), ..Limits::default() };
    let mut client = Client::with_limits(&config, &limits);
    assert!(client.session("tok").unwrap().is_some());
    let pid = database.sql(
        "select pid from pg_stat_activity where datname = current_database()
           and pid <> pg_backend_pid()",
    );
    let processes = [Pid::from_raw(pid.parse().unwrap()).unwrap(), postmaster(&postgres)];
    for process in processes {
        kill_process(process, Signal::STOP).unwrap();
    }
    // The kernel still accepts for it; nobody answers.
    assert!(client.session("tok").is_err());
    assert!(client.session("tok").is_err());
    let ticket = client.ask(tokens(&["tok"]));
    client.turn();
    assert!(matches!(client.taken(ticket), Some(Err(_))), "nobody waits any more");
    for process in processes {
        kill_process(process, Signal::CONT).unwrap();
    }
    client.until("the pool heals", |client| (client.stats().idle > 0).then_some(()));
    assert!(client.session("tok").unwrap().is_some());
}

#[test]
fn a_reply_over_the_bound_fails_its_question_alone() {
    let postgres = Postgres::shared();
    let (database, config) = one_token(postgres);
    database.sql(
        "insert into settings (var, value) values ('local_live_feed_access', repeat('x', 100000))",
    );
    let limits = Limits { reply_bytes_max: 50_000, ..Limits::default() };
    let mut client = Client::with_limits(&config, &limits);
    let large = client.answer(trunkline::hub::question::Question::FeedSettings);
    assert!(large.unwrap_err().reason.contains("longer than 50000"));
    assert!(client.session("tok").unwrap().is_some());
}

#[test]
fn a_statement_that_the_server_refuses_fails_alone_and_is_reported() {
    let postgres = Postgres::shared();
    let (database, config) = one_token(postgres);
    database.sql("drop table settings");
    let mut client = Client::new(&config);
    let refused = client.answer(trunkline::hub::question::Question::FeedSettings);
    assert!(refused.unwrap_err().reason.contains("42P01"));
    assert!(client.session("tok").unwrap().is_some());
    assert_eq!((client.stats().total, client.stats().failed), (1, 1));
    assert!(client.troubles.iter().any(|text| text.contains("feed_settings")));
}

#[test]
fn pgbouncer_in_transaction_mode_stands_in_between() {
    let mut postgres = Postgres::start();
    let (database, mut config) = one_token(&postgres);
    let bouncer = PgBouncer::start(&database);
    config.hosts = vec![tcp("127.0.0.1", bouncer.port())];
    config.pool_size = 5;
    let mut clients = [Client::new(&config), Client::new(&config)];
    for _ in 0..100 {
        for client in &mut clients {
            client.ask(tokens(&["tok", "nobody"]));
            client.ask(trunkline::hub::question::Question::FeedSettings);
        }
        clients.iter_mut().for_each(Client::turn);
    }
    for client in &mut clients {
        client.until("all answers", |client| (client.untaken() == 200).then_some(()));
        assert_eq!(client.stats().failed, 0, "{:?}", client.troubles);
    }
    postgres.stop();
    postgres.resume();
    client_heals(&mut clients[0]);
}

fn client_heals(client: &mut Client) {
    client.until("the pool heals", |client| {
        let ticket = client.ask(tokens(&["tok"]));
        client.until("an answer", |client| client.taken(ticket)).is_ok().then_some(())
    });
}
