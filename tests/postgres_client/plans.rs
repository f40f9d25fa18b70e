//! The statements find their rows through indexes.

use trunkline::hub::question::Question;
use trunkline::io::postgres::sql;

use crate::support::Postgres;

#[test]
fn no_statement_scans_a_large_table() {
    let database = Postgres::shared().database();
    database.sql(
        "insert into accounts (id, username) select n, 'u' || n from generate_series(1, 20000) n;
         insert into users (id, account_id) select n, n from generate_series(1, 20000) n;
         insert into oauth_access_tokens (id, token, resource_owner_id, scopes)
           select n, 'tok-' || n, n, 'read' from generate_series(1, 20000) n;
         insert into lists (id, account_id) select n, n from generate_series(1, 20000) n;
         insert into blocks (account_id, target_account_id)
           select n, (n * 7 + k * 104729) % 20000 from generate_series(1, 20000) n,
             generate_series(1, 3) k
           on conflict do nothing;
         insert into mutes (account_id, target_account_id)
           select n, (n * 11 + k * 130363) % 20000 from generate_series(1, 20000) n,
             generate_series(1, 2) k
           on conflict do nothing;
         insert into account_domain_blocks (account_id, domain)
           select n, 'blocked' || n % 1000 || '.example' from generate_series(1, 20000) n;
         insert into custom_filters (id, account_id, phrase)
           select n, n, 'p' from generate_series(1, 20000) n;
         insert into custom_filter_keywords (custom_filter_id, keyword)
           select n, 'k' from generate_series(1, 20000) n;
         analyze;",
    );
    let some = "array(select generate_series(1, 20))::int8[]";
    let text = "array(select 'tok-' || generate_series(1, 20))::text[]";
    let cases: [(&str, &str, &str); 7] = [
        (sql::TOKENS, "text[]", "array['tok-1', 'tok-2', 'nobody']"),
        (sql::STILL_VALID, "int8[]", "array[1, 2, 3]::int8[]"),
        (sql::LIST_OWNERS, "int8[]", "array[1, 2, 3]::int8[]"),
        (sql::BLOCKS_AND_MUTES, "int8[], int8", "array[5, 6]::int8[], 5"),
        (sql::DOMAIN_BLOCKS, "int8[], text", "array[1, 2, 3]::int8[], 'blocked1.example'"),
        (sql::FILTERS, "int8[]", "array[1, 2, 3]::int8[]"),
        (sql::FEED_SETTINGS, "", ""),
    ];
    for (number, (statement, types, values)) in cases.into_iter().enumerate() {
        let types = if types.is_empty() { String::new() } else { format!("({types})") };
        let values = if values.is_empty() { String::new() } else { format!("({values})") };
        let plan = database.sql(&format!(
            "prepare s{number} {types} as {statement};
             set plan_cache_mode = force_custom_plan; explain execute s{number} {values};"
        ));
        refuse_scans(statement, &plan);
    }
    // A batch as constants, as the planner sees the parameters of the unnamed statement. (A larger
    // one rightly scans tables as small as these.)
    for (statement, array) in [(sql::TOKENS, text), (sql::STILL_VALID, some), (sql::FILTERS, some)]
    {
        let literal = database.sql(&format!("select quote_literal(({array})::text)"));
        let kind = if statement == sql::TOKENS { "text[]" } else { "int8[]" };
        let bound = statement.replace("$1", &format!("{literal}::{kind}"));
        refuse_scans(statement, &database.sql(&format!("explain {bound}")));
    }
}

fn refuse_scans(statement: &str, plan: &str) {
    let tables =
        ["blocks", "mutes", "oauth_access_tokens", "users", "accounts", "account_domain_blocks"];
    for table in tables.iter().chain(&["lists", "custom_filters", "custom_filter_keywords"]) {
        let scan = |line: &str| {
            line.contains("Seq Scan on ") && line.split_whitespace().any(|word| word == *table)
        };
        assert!(!plan.lines().any(scan), "{table} is scanned by\n{statement}\n{plan}");
    }
    assert!(plan.contains("cost="), "{plan}");
}

#[test]
fn every_kind_of_question_has_one_statement() {
    let statement = sql::statement(&Question::FeedSettings);
    assert_eq!(statement.sql, sql::FEED_SETTINGS);
    assert!(!statement.sql.contains(';'));
}
