//! What each question is answered.

use trunkline::hub::question::{Answer, FeedSettings, Keyword, Question};
use trunkline::protocol::ids::{AccountId, ListId, TokenId};

use crate::client::{Client, config, ids, tcp, tokens};
use crate::support::{Database, Postgres};

fn fresh() -> (Database, Client) {
    let database = Postgres::shared().database();
    let client = Client::new(&config(tcp("127.0.0.1", database.port()), database.name()));
    (database, client)
}

/// Account 100 + n, user n, token 1000 + n `tok-n`.
fn people(database: &Database, count: u32) {
    database.sql(&format!(
        "insert into accounts (id, username) select 100 + n, 'user' || n
           from generate_series(0, {count}) n;
         insert into users (id, account_id) select n, 100 + n from generate_series(0, {count}) n;
         insert into oauth_access_tokens (id, token, resource_owner_id, scopes)
           select 1000 + n, 'tok-' || n, n, 'read' from generate_series(0, {count}) n;"
    ));
}

fn accounts(client: &mut Client, question: Question) -> Vec<i64> {
    match client.answer(question) {
        Ok(Answer::Accounts(mut accounts)) => {
            accounts.sort_unstable();
            accounts.dedup();
            accounts.into_iter().map(|AccountId(id)| id).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn sessions_come_in_the_order_of_the_tokens_and_only_for_good_ones() {
    let (database, mut client) = fresh();
    people(&database, 5);
    database.sql(
        "update oauth_access_tokens set revoked_at = now() where id = 1001;
         update users set disabled = true where id = 2;
         update accounts set suspended_at = now() where id = 103;
         update oauth_access_tokens set created_at = '2024-01-01', expires_in = 7200
           where id = 1004;
         update oauth_access_tokens set scopes = 'write read:statuses' where id = 1005;",
    );
    let asked =
        ["tok-5", "tok-0", "tok-1", "nobody", "tok-2", "tok-3", "tok\0-0", "", "tok-4", "tok-0"];
    let Ok(Answer::Sessions(sessions)) = client.answer(tokens(&asked)) else { panic!() };
    let found: Vec<_> =
        sessions.iter().map(|s| s.as_ref().map(|s| (s.account.0, s.token.0))).collect();
    let (zero, four, five) = (Some((100, 1000)), Some((104, 1004)), Some((105, 1005)));
    assert_eq!(found, [five, zero, None, None, None, None, None, None, four, zero]);
    let five = sessions[0].as_ref().unwrap();
    assert!(!five.scopes.read && five.scopes.read_statuses && !five.views_all_feeds);
    assert_eq!(five.languages, None);
    assert!(sessions[1].as_ref().unwrap().scopes.read);
}

#[test]
fn a_token_with_a_nul_is_nobodys() {
    let (database, mut client) = fresh();
    people(&database, 0);
    assert_eq!(client.session("tok-0\0"), Ok(None));
    assert_eq!(client.session("\0"), Ok(None));
    assert!(client.session("tok-0").unwrap().is_some());
}

#[test]
fn languages_and_the_feed_permission_come_from_user_and_role() {
    let (database, mut client) = fresh();
    people(&database, 6);
    database.sql(
        "update users set chosen_languages = '{de,NULL,fr}', role_id = 4 where id = 1;
         update users set chosen_languages = '{}', role_id = 2 where id = 2;
         update users set role_id = 1 where id = 3;
         update users set role_id = 77 where id = 4;
         update user_roles set permissions = 983036 & ~(1 << 20) where id = 2;",
    );
    let one = client.session("tok-1").unwrap().unwrap();
    let languages: Vec<_> = one.languages.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!((languages, one.views_all_feeds), (vec!["de".into(), "fr".into()], true));
    let two = client.session("tok-2").unwrap().unwrap();
    assert_eq!((two.languages, two.views_all_feeds), (Some(Box::default()), false));
    database.sql("update user_roles set permissions = 65536 | (1 << 20) where id = -99");
    let views =
        |client: &mut Client, token| client.session(token).unwrap().unwrap().views_all_feeds;
    assert!(views(&mut client, "tok-0") && views(&mut client, "tok-4"), "no role: everyone's");
    assert!(!views(&mut client, "tok-3"), "a role of one's own without the bit");
    database.sql("delete from user_roles where id = -99");
    assert!(!views(&mut client, "tok-0"));
}

#[test]
fn tokens_stay_valid_until_something_ends_them() {
    let (database, mut client) = fresh();
    people(&database, 3);
    let question = || Question::StillValid(ids(&[1000, 1001, 1002, 1003, 9999], TokenId));
    let valid = |client: &mut Client| match client.answer(question()) {
        Ok(Answer::ValidTokens(mut valid)) => {
            valid.sort_unstable();
            valid.into_iter().map(|TokenId(id)| id).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(valid(&mut client), [1000, 1001, 1002, 1003]);
    database.sql(
        "update oauth_access_tokens set revoked_at = now() where id = 1001;
         update users set disabled = true where id = 2;
         update accounts set suspended_at = now() where id = 103;",
    );
    assert_eq!(valid(&mut client), [1000]);
}

#[test]
fn lists_have_owners() {
    let (database, mut client) = fresh();
    database.sql("insert into lists (id, account_id) values (7, 70), (8, 80)");
    match client.answer(Question::ListOwners(ids(&[8, 9], ListId))) {
        Ok(Answer::ListOwners(owners)) => assert_eq!(owners, [(ListId(8), AccountId(80))]),
        other => panic!("{other:?}"),
    }
    let none = client.answer(Question::ListOwners(ids(&[], ListId)));
    assert!(matches!(none, Ok(Answer::ListOwners(owners)) if owners.is_empty()));
}

#[test]
fn feed_settings_are_read_from_yaml() {
    let (database, mut client) = fresh();
    let settings = |client: &mut Client| match client.answer(Question::FeedSettings) {
        Ok(Answer::FeedSettings(settings)) => settings,
        other => panic!("{other:?}"),
    };
    assert_eq!(settings(&mut client), FeedSettings::default());
    database.sql(
        r"insert into settings (var, value) values ('remote_live_feed_access', E'--- disabled\n'),
          ('local_topic_feed_access', E'--- disabled\n'),
          ('local_live_feed_access', E'--- public\n'),
          ('remote_topic_feed_access', null), ('site_title', E'--- disabled\n')",
    );
    let expected = FeedSettings {
        remote_live_disabled: true,
        local_topic_disabled: true,
        ..FeedSettings::default()
    };
    assert_eq!(settings(&mut client), expected);
}

#[test]
fn blocks_count_both_ways_for_the_author_and_one_way_for_the_mentioned() {
    let (database, mut client) = fresh();
    database.sql(
        "insert into blocks (account_id, target_account_id) values
           (1, 50), (50, 2), (3, 60), (60, 4), (5, 99), (1, 60);
         insert into mutes (account_id, target_account_id, expires_at) values
           (6, 50, null), (50, 7, null), (8, 60, '2020-01-01'), (9, 98, null);",
    );
    let question = |mentions: &[i64]| Question::BlocksAndMutes {
        author: AccountId(50),
        mentions: ids(mentions, AccountId),
    };
    assert_eq!(accounts(&mut client, question(&[])), [1, 2, 6]);
    assert_eq!(accounts(&mut client, question(&[60, 61])), [1, 2, 3, 6, 8]);
}

#[test]
fn domain_blocks_are_those_of_the_readers() {
    let (database, mut client) = fresh();
    database.sql(
        "insert into account_domain_blocks (account_id, domain) values
           (1, 'bad.example'), (2, 'bad.example'), (3, 'worse.example')",
    );
    let question = |domain: &str| Question::DomainBlocks {
        domain: domain.into(),
        readers: ids(&[2, 3, 4], AccountId),
    };
    assert_eq!(accounts(&mut client, question("bad.example")), [2]);
    assert!(accounts(&mut client, question("good.example")).is_empty());
    assert!(accounts(&mut client, question("bad.example\0")).is_empty());
}

#[test]
fn filters_come_in_order_with_their_keywords_while_they_have_not_expired() {
    let (database, mut client) = fresh();
    // An hour from now in UTC is past in a session whose clock is ahead.
    database.sql(&format!(
        "alter database {} set timezone = 'Asia/Tokyo';
         insert into custom_filters (id, account_id, phrase, context, expires_at, action) values
           (3, 11, 'late', '{{}}', 'infinity', 0),
           (1, 10, 'first', '{{home,public}}', (now() at time zone 'utc') + interval '1 hour', 1),
           (2, 10, 'gone', '{{home}}', (now() at time zone 'utc') - interval '1 minute', 0),
           (4, 10, 'empty', '{{home}}', null, 0), (5, 12, 'foreign', '{{home}}', null, 0);
         insert into custom_filter_keywords (id, custom_filter_id, keyword, whole_word) values
           (9, 1, 'zwei', false), (8, 1, 'eins', true), (7, 3, 'drei', true), (6, 2, 'vier', true),
           (5, 5, 'fünf', true);
         update custom_filters set expires_at = date_trunc('second', expires_at) where id = 1;",
        database.name()
    ));
    let answer = client.answer(Question::Filters(ids(&[10, 11], AccountId)));
    let Ok(Answer::Filters(filters)) = answer else { panic!("{answer:?}") };
    assert_eq!(filters.iter().map(|filter| filter.id.0).collect::<Vec<_>>(), [1, 3]);
    let first = &filters[0];
    assert_eq!((first.account, &*first.title, first.action), (AccountId(10), "first", 1));
    assert_eq!(first.context, ["home".into(), "public".into()] as [Box<str>; 2]);
    let keyword = |keyword: &str, whole_word| Keyword { keyword: keyword.into(), whole_word };
    assert_eq!(first.keywords, [keyword("eins", true), keyword("zwei", false)]);
    let query =
        "select (extract(epoch from expires_at) * 1000)::bigint from custom_filters where id = 1";
    let millis: i64 = database.sql(query).parse().unwrap();
    assert_eq!(first.expires_at_unix_millis, Some(millis));
    assert_eq!(filters[1].expires_at_unix_millis, None);
}

#[test]
fn many_rows_and_many_questions_are_answered_once_each() {
    let (database, mut client) = fresh();
    people(&database, 400);
    database.sql(
        "insert into blocks (account_id, target_account_id)
           select n, 50 from generate_series(1001, 51000) n",
    );
    let everybody =
        Question::BlocksAndMutes { author: AccountId(50), mentions: ids(&[], AccountId) };
    let many = client.ask(everybody);
    let texts: Vec<String> = (0..=400).map(|n| format!("tok-{n}")).collect();
    let tickets: Vec<_> = texts.iter().map(|text| client.ask(tokens(&[text]))).collect();
    client.until("all answers", |client| (client.untaken() == tickets.len() + 1).then_some(()));
    assert!(matches!(client.taken(many), Some(Ok(Answer::Accounts(all))) if all.len() == 50_000));
    for (number, ticket) in tickets.into_iter().enumerate() {
        let Some(Ok(Answer::Sessions(sessions))) = client.taken(ticket) else { panic!() };
        let account = sessions[0].as_ref().unwrap().account.0;
        assert_eq!(account, 100 + i64::try_from(number).unwrap(), "an answer to another question");
    }
    let stats = client.stats();
    assert_eq!((stats.answered, stats.failed, stats.waiting), (402, 0, 0));
    assert_eq!(stats.total, stats.idle);
}
