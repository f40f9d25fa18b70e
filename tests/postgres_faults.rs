//! Postgres goes and comes back in every way that it can: those who are connected stay, newcomers
//! are told when to come back, nothing leaks and nothing herds (promise R8).

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "postgres_faults/stage.rs"]
mod stage;
mod support;

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use stage::{POOL, Stage};
use support::{BLACK_HOLE, Fault, Way, eventually};

#[test]
fn a_postgres_that_is_stopped_and_started_again_is_used_again() {
    let mut stage = Stage::start();
    for _ in 0..2 {
        stage.postgres.stop();
        stage.expect_away();
        stage.expect_withheld(1_000_000);
        stage.postgres.resume();
        stage.expect_service();
    }
}

#[test]
fn a_postgres_that_is_frozen_is_missed_long_before_its_statements_are_given_up() {
    // Whoever waited for a statement's end would wait for longer than this test does.
    let settings = [("TRUNKLINE_QUERY_SECS_MAX", "600"), ("TRUNKLINE_QUESTION_SECS_MAX", "600")];
    let mut stage = Stage::with(&[], &settings);
    stage.postgres.freeze();
    stage.expect_away();
    stage.postgres.thaw();
    stage.expect_service();
}

#[test]
fn a_black_hole_before_postgres_is_missed_in_either_direction() {
    for way in [Way::ToServer, Way::ToClient] {
        let settings =
            [("TRUNKLINE_QUERY_SECS_MAX", "600"), ("TRUNKLINE_QUESTION_SECS_MAX", "600")];
        let mut stage = Stage::with(&[], &settings);
        stage.proxy.disturb(way, BLACK_HOLE);
        stage.expect_away();
        stage.proxy.heal();
        stage.expect_service();
    }
}

#[test]
fn refused_connections_are_tried_one_at_a_time_and_ever_more_slowly() {
    let mut stage = Stage::start();
    stage.proxy.refuse();
    stage.expect_away();
    stage.expect_withheld(1_000_000);
    stage.proxy.heal();
    stage.expect_service();
    // A server that hangs up at once can be seen to be tried.
    let before = stage.attempts().len();
    stage.proxy.cut_later_each_time();
    stage.proxy.reset();
    eventually("seven attempts", || {
        assert!(stage.proxy.standing() <= POOL);
        (stage.attempts().len() >= before + 7).then_some(())
    });
    let attempts = stage.attempts();
    let pauses: Vec<_> = attempts[before..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, least) in pauses.iter().zip([25, 50, 100, 200, 350, 350]) {
        assert!(pause.as_millis() >= least, "{pauses:?}");
    }
    stage.proxy.heal();
    stage.expect_service();
}

#[test]
fn terminated_backends_cost_nobody_anything() {
    let mut stage = Stage::start();
    for _ in 0..5 {
        stage.database.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid()",
        );
        assert_eq!(stage.knock().status, 101);
    }
    stage.expect_service();
    assert_eq!(stage.server.metric("trunkline_queries_failed_total"), 0.0);
}

#[test]
fn a_postgres_without_room_for_us_is_waited_for() {
    let mut stage = Stage::with(&[], &[("DB_USER", "ordinary")]);
    stage.database.sql("alter role ordinary connection limit 1");
    stage.proxy.reset();
    stage.expect_service();
    stage.database.sql("alter role ordinary connection limit 0");
    stage.proxy.reset();
    stage.expect_away();
    assert!(stage.server.log().contains("53300"), "{}", stage.server.log());
    stage.database.sql("alter role ordinary connection limit -1");
    stage.expect_service();
}

#[test]
fn a_password_that_is_wrong_meanwhile_is_tried_again_and_told_without_its_text() {
    let mut stage = Stage::with(&[], &[("DB_PASS", "s3cret")]);
    let file = stage.postgres.data_directory().join("pg_hba.conf");
    let trusting = fs::read_to_string(&file).unwrap();
    stage.database.sql("alter role mastodon password 'other'");
    fs::write(&file, format!("host all all all scram-sha-256\n{trusting}")).unwrap();
    stage.database.sql(
        "select pg_reload_conf();
         select pg_terminate_backend(pid) from pg_stat_activity
           where datname = current_database() and pid <> pg_backend_pid()",
    );
    stage.proxy.reset();
    stage.expect_away();
    let log = stage.server.log();
    assert!(log.contains("28P01"), "{log}");
    assert!(!log.contains("s3cret"), "{log}");
    fs::write(&file, &trusting).unwrap();
    stage.postgres.signal(Signal::HUP);
    stage.expect_service();
}

#[test]
fn a_locked_table_holds_up_nobody_for_long_and_its_statements_are_cancelled() {
    let settings = [("TRUNKLINE_QUERY_SECS_MAX", "4")];
    let mut stage = Stage::with(&[], &settings);
    let lock = stage.lock();
    stage.expect_newcomers_to_wait();
    // What does not need the table is still answered.
    stage.expect_service_for_those_who_are_there();
    let waits = "wait_event_type = 'Lock'";
    let first = eventually("a statement that waits", || {
        let pid = stage.database.sql(&format!(
            "select min(pid) from pg_stat_activity
               where datname = current_database() and {waits}"
        ));
        (!pid.is_empty()).then_some(pid)
    });
    eventually("the statement is cancelled while the table is still locked", || {
        (stage.backends(&format!("pid = {first}")) == 0).then_some(())
    });
    assert!(stage.postgres.log().contains("canceling statement due to user request"));
    lock.release(&stage.database);
    stage.expect_service();
}

#[test]
fn a_postgres_that_only_reads_serves_all_that_we_need() {
    let mut stage = Stage::start();
    let only_read = "alter role mastodon set default_transaction_read_only = on";
    stage.postgres.database_named("postgres").sql(only_read);
    stage.proxy.reset();
    assert_eq!(stage.database.try_sql("delete from lists").ok(), None);
    stage.expect_service();
    assert_eq!(stage.server.metric("trunkline_queries_failed_total"), 0.0);
}

#[test]
fn a_slow_and_choppy_way_to_postgres_delays_and_refuses_nobody() {
    let mut stage = Stage::start();
    let latency = Duration::from_millis(5);
    stage.proxy.disturb_both(Fault { latency, bytes_per_sec: 0, slice: 1, black_hole: false });
    for _ in 0..5 {
        assert_eq!(stage.knock().status, 101);
    }
    stage.expect_service();
    assert_eq!(stage.server.metric("trunkline_queries_failed_total"), 0.0);
}

#[test]
fn a_reply_may_be_cut_at_every_byte() {
    let mut stage = Stage::with(&[], &[("TRUNKLINE_POSTGRES_RECONNECT_SECS_MAX", "0.005")]);
    // A log-in and an answer.
    stage.proxy.reset();
    assert_eq!(stage.knock().status, 101);
    let length = stage.proxy.said("mastodon");
    assert!(length > 300, "{length}");
    stage.proxy.cut_later_each_time();
    stage.proxy.reset();
    eventually("a cut at every byte", || {
        let answer = stage.knock();
        assert!(matches!(answer.status, 101 | 503), "{answer:?}");
        (stage.proxy.next_cut() > length).then_some(())
    });
    stage.proxy.heal();
    stage.expect_service();
}

#[test]
fn many_who_come_while_postgres_is_away_are_answered_and_cost_no_more_connections() {
    let mut stage = Stage::start();
    stage.postgres.stop();
    stage.expect_away();
    for _ in 0..200 {
        assert_eq!(stage.knock().status, 503);
        assert!(stage.proxy.standing() <= 1, "one attempt at a time");
    }
    stage.postgres.resume();
    stage.expect_service();
    for _ in 0..200 {
        assert_eq!(stage.knock().status, 101);
        assert!(stage.proxy.standing() <= POOL);
    }
}

#[test]
fn an_error_of_postgres_is_told_as_ours_and_not_as_its_absence() {
    let mut stage = Stage::start();
    stage.database.sql("alter table oauth_access_tokens rename to elsewhere");
    let answer = stage.knock();
    assert_eq!(answer.status, 500);
    assert_eq!(answer.header("x-error-message"), Some("An unexpected error occurred"));
    stage.database.sql("alter table elsewhere rename to oauth_access_tokens");
    stage.expect_service();
}
