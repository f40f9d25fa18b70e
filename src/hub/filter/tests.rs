//! Keyword filters against the captures, a naive oracle, and each other.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::hub::question::Keyword;
use crate::protocol::event::Event;

const READER: AccountId = AccountId(61);
const NOW: UnixMillis = UnixMillis(1_795_000_000_000);

fn filter(account: AccountId, id: i64, keywords: &[(&str, bool)]) -> CustomFilter {
    let keyword =
        |&(keyword, whole_word): &(&str, bool)| Keyword { keyword: keyword.into(), whole_word };
    CustomFilter {
        id: FilterId(id),
        account,
        title: format!("title {id}").into(),
        context: vec!["public".into()],
        expires_at_unix_millis: None,
        action: 0,
        keywords: keywords.iter().map(keyword).collect(),
    }
}

fn json_of(annotation: &Annotation) -> String {
    String::from_utf8(annotation.json().to_vec()).unwrap()
}

/// The one match of each filter, by filter id.
fn matched(annotation: &Annotation) -> Vec<(i64, String)> {
    let entries: Vec<Value> = serde_json::from_slice(annotation.json()).unwrap();
    let of = |entry: &Value| {
        assert_eq!(entry["keyword_matches"].as_array().unwrap().len(), 1);
        let id = entry["filter"]["id"].as_str().unwrap().parse().unwrap();
        (id, entry["keyword_matches"][0].as_str().unwrap().to_owned())
    };
    entries.iter().map(of).collect()
}

/// The matches of one account that has one filter.
fn match_of(keywords: &[(&str, bool)], text: &str) -> Option<String> {
    let mut index = FilterIndex::new();
    index.replace(READER, vec![filter(READER, 1, keywords)]);
    let annotations = index.matches(text, NOW);
    annotations.get(&READER).map(|annotation| matched(annotation)[0].1.clone())
}

/// The two filters of the case `ws-custom-filters` of tests/transcripts/.
fn captured_filters() -> Vec<CustomFilter> {
    let warn = CustomFilter {
        title: "Warn me".into(),
        context: vec!["home".into(), "public".into()],
        ..filter(READER, 990_001, &[("cat", true), ("d.g+", false)])
    };
    let hide = CustomFilter {
        title: "Hide it".into(),
        expires_at_unix_millis: Some(4_071_006_245_678),
        action: 1,
        ..filter(READER, 990_002, &[("#tag", true), ("été", true)])
    };
    vec![hide, warn]
}

#[test]
fn every_step_of_the_capture_gets_its_annotation() {
    let warn = |found: &str| {
        format!(
            concat!(
                r#"[{{"filter":{{"id":"990001","title":"Warn me","context":["home","public"],"#,
                r#""expires_at":null,"filter_action":"warn"}},"#,
                r#""keyword_matches":["{}"],"status_matches":null}}]"#,
            ),
            found
        )
    };
    let hide = |found: &str| {
        format!(
            concat!(
                r#"[{{"filter":{{"id":"990002","title":"Hide it","context":["public"],"#,
                r#""expires_at":"2099-01-02T03:04:05.678Z","filter_action":"hide"}},"#,
                r#""keyword_matches":["{}"],"status_matches":null}}]"#,
            ),
            found
        )
    };
    let content = |html: &str| json!({"spoiler_text": "", "content": html});
    let steps = [
        (content("<p>hello world</p>"), None),
        (content("<p>a CAT sat</p>"), Some(warn("CAT"))),
        (content("<p>concatenate</p>"), None),
        (content("<p>xd.g+y</p>"), Some(warn("d.g+"))),
        (content("<p>dig</p>"), None),
        (content("<p>see #tag now</p>"), Some(hide("#tag"))),
        (content("<p>see#tag</p>"), Some(hide("#tag"))),
        (content("<p>un été ici</p>"), Some(hide("été"))),
        (content("<p>c<b>a</b>t</p>"), Some(warn("cat"))),
        (content("<p>ca</p><p>t</p>"), None),
        (content("<p>ca<br>t</p>"), None),
        (content("<p>&#99;at &amp; d.g+</p>"), Some(warn("cat"))),
        (content("<p><a href=\"cat\">x</a></p>"), None),
        (json!({"spoiler_text": "cat", "content": "<p>x</p>"}), Some(warn("cat"))),
        (json!({"poll": {"options": [{"title": "yes"}, {"title": "cat"}]}}), Some(warn("cat"))),
        (
            json!({"media_attachments": [{"description": "a cat"}, {"description": null}]}),
            Some(warn("cat")),
        ),
    ];
    let mut index = FilterIndex::new();
    index.replace(READER, captured_filters());
    for (mut payload, expected) in steps {
        payload["account"] =
            json!({"id": "1", "username": "alice", "acct": "alice@remote.example"});
        let message = json!({"event": "update", "payload": payload}).to_string();
        let event = Event::parse(message.as_bytes(), 128).unwrap();
        let text = event.status().unwrap().text.plain();
        let annotations = index.matches(&text, NOW);
        assert_eq!(annotations.get(&READER).map(|found| json_of(found)), expected, "{message}");
        assert!(annotations.len() <= 1);
    }
    // The keywords of the first filter are deleted.
    let mut filters = captured_filters();
    filters[1].keywords.clear();
    index.replace(READER, filters);
    assert!(index.matches("cat", NOW).is_empty());
}

#[test]
fn an_expired_filter_is_skipped_from_its_very_millisecond() {
    let mut index = FilterIndex::new();
    let expiring = CustomFilter {
        expires_at_unix_millis: Some(NOW.0),
        ..filter(READER, 1, &[("cat", false)])
    };
    index.replace(READER, vec![expiring, filter(READER, 2, &[("cat", false)])]);
    let found = |now| matched(&index.matches("cat", now)[&READER]).len();
    assert_eq!(found(UnixMillis(NOW.0 - 1)), 2);
    assert_eq!(found(NOW), 1);
}

#[test]
fn the_leftmost_match_wins_and_then_the_earlier_keyword() {
    let keywords = [("bcd", false), ("ab", false), ("abc", false)];
    assert_eq!(match_of(&keywords, "x abcd").as_deref(), Some("ab"));
    assert_eq!(match_of(&[("abc", false), ("ab", false)], "abcd").as_deref(), Some("abc"));
    // The whole word comes later, the other one sooner.
    assert_eq!(match_of(&[("ab", true), ("ab", false)], "abc ab").as_deref(), Some("ab"));
    assert_eq!(match_of(&[("ab", true), ("AB C", false)], "abc ab c").as_deref(), Some("ab"));
    // The same keyword twice counts once, at its first place.
    let twice = [("ab", false), ("abc", false), ("AB", false)];
    assert_eq!(match_of(&twice, "abc").as_deref(), Some("ab"));
}

#[test]
fn whole_words_end_where_ascii_words_end() {
    assert_eq!(match_of(&[("cat", true)], "cats"), None);
    assert_eq!(match_of(&[("cat", true)], "_cat"), None);
    assert_eq!(match_of(&[("cat", true)], "écaté").as_deref(), Some("cat"));
    assert_eq!(match_of(&[("cat!", true)], "cat!s").as_deref(), Some("cat!"));
    assert_eq!(match_of(&[("cat!", true)], "xcat!"), None);
    assert_eq!(match_of(&[("été", true)], "xétéx").as_deref(), Some("été"));
    // A later occurrence may stand at a boundary.
    assert_eq!(match_of(&[("cat", true)], "cats CAT").as_deref(), Some("CAT"));
}

#[test]
fn case_counts_as_in_javascript() {
    assert_eq!(match_of(&[("ÉTÉ σ", false)], "été ς").as_deref(), Some("été ς"));
    assert_eq!(match_of(&[("s", false)], "\u{17f}"), None);
    assert_eq!(match_of(&[("k", false)], "\u{212a}"), None);
    assert_eq!(match_of(&[("strasse", false)], "straße"), None);
    assert_eq!(match_of(&[("a😀", false)], "xA😀").as_deref(), Some("A😀"));
}

#[test]
fn keywords_that_are_empty_and_filters_without_any_never_match() {
    assert_eq!(match_of(&[("", false), ("", true)], "text"), None);
    assert_eq!(match_of(&[], "text"), None);
    assert_eq!(match_of(&[("", false), ("ext", false)], "text").as_deref(), Some("ext"));
    let mut index = FilterIndex::new();
    index.replace(READER, vec![filter(READER, 1, &[("", true)])]);
    assert!(!index.has_keywords() && index.knows(READER));
}

#[test]
fn what_is_forgotten_is_known_no_more_and_leaves_nothing_behind() {
    let other = AccountId(2);
    let mut index = FilterIndex::new();
    index.replace(READER, captured_filters());
    index.replace(other, vec![filter(other, 5, &[("cat", true)])]);
    assert!(index.knows(READER) && index.len() == 2);
    index.forget(READER);
    index.forget(READER);
    assert!(!index.knows(READER) && index.knows(other));
    assert_eq!(index.matches("cat #tag", NOW).into_keys().collect::<Vec<_>>(), [other]);
    index.replace(other, Vec::new());
    assert!(index.knows(other) && !index.has_keywords());
    assert!(index.matches("cat", NOW).is_empty());
    index.forget(other);
    assert!(index.is_empty());
}

#[test]
fn a_filter_of_another_account_is_left_out() {
    let mut index = FilterIndex::new();
    index.replace(READER, vec![filter(AccountId(2), 1, &[("cat", false)])]);
    assert!(index.matches("cat", NOW).is_empty());
}

/// What the filters of one account find, the slow way: by characters, each keyword at each place.
fn slow_matches(filters: &[CustomFilter], text: &str) -> Vec<(i64, String)> {
    let chars: Vec<char> = text.chars().collect();
    let mut found: Vec<(i64, String)> = Vec::new();
    for filter in filters {
        let first = (0..chars.len()).find_map(|start| {
            let mut ends =
                filter.keywords.iter().filter_map(|keyword| slow_end(keyword, &chars, start));
            ends.next().map(|end| chars[start..end].iter().collect::<String>())
        });
        found.extend(first.map(|first| (filter.id.0, first)));
    }
    found.sort();
    found
}

fn slow_end(keyword: &Keyword, text: &[char], start: usize) -> Option<usize> {
    let keyword_chars: Vec<char> = keyword.keyword.chars().collect();
    let end = start + keyword_chars.len();
    let part = text.get(start..end).filter(|part| !part.is_empty())?;
    let same = part.iter().zip(&keyword_chars).all(|(&a, &b)| canonical(a) == canonical(b));
    let word = |at: Option<usize>| {
        at.and_then(|at| text.get(at))
            .is_some_and(|char| "_0".contains(*char) || char.is_ascii_alphabetic())
    };
    let boundary = |at: usize| word(at.checked_sub(1)) != word(Some(at));
    let is_word = |char: char| char == '_' || char.is_ascii_alphanumeric();
    let before = !keyword.whole_word || !is_word(keyword_chars[0]) || boundary(start);
    let last = keyword_chars[keyword_chars.len() - 1];
    let after = !keyword.whole_word || !is_word(last) || boundary(end);
    (same && before && after).then_some(end)
}

fn canonical(char: char) -> char {
    let upper: Vec<char> = char.to_uppercase().collect();
    match upper[..] {
        [one] if char.len_utf16() == 1 && (char.is_ascii() || !one.is_ascii()) => one,
        _ => char,
    }
}

const KEYWORD: &str = "[abABéÉ_0 ßſ😀𐐀𐐨]{0,7}";
const TEXT: &str = "[abABéÉ_0 ßſ😀𐐀𐐨]{0,40}";

fn filters() -> impl Strategy<Value = Vec<CustomFilter>> {
    let keywords = prop::collection::vec((KEYWORD, any::<bool>()), 0..5);
    prop::collection::vec((0_i64..5, keywords), 0..20).prop_map(|rows| {
        (1..)
            .zip(rows)
            .map(|(id, (account, keywords))| {
                let keywords: Vec<(&str, bool)> =
                    keywords.iter().map(|(keyword, whole)| (&keyword[..], *whole)).collect();
                filter(AccountId(account), id, &keywords)
            })
            .collect()
    })
}

fn own(filters: &[CustomFilter], account: AccountId) -> Vec<CustomFilter> {
    filters.iter().filter(|filter| filter.account == account).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Also the leak check: whatever an annotation holds is what its account's own filters find.
    #[test]
    fn each_account_gets_exactly_what_its_own_filters_find(
        rounds in prop::collection::vec((filters(), prop::collection::vec(0_i64..5, 0..4)), 1..4),
        text in TEXT,
    ) {
        let mut index = FilterIndex::new();
        let mut known: BTreeMap<AccountId, Vec<CustomFilter>> = BTreeMap::new();
        for (filters, forgotten) in rounds {
            for account in (0..5).map(AccountId) {
                // Some keep what they had.
                if filters.len() % 5 != account.0 as usize {
                    index.replace(account, filters.clone());
                    known.insert(account, own(&filters, account));
                }
            }
            for account in forgotten.into_iter().map(AccountId) {
                index.forget(account);
                known.remove(&account);
            }
            let annotations = index.matches(&text, NOW);
            for account in (0..5).map(AccountId) {
                prop_assert_eq!(index.knows(account), known.contains_key(&account));
                let expected = slow_matches(known.get(&account).map_or(&[], Vec::as_slice), &text);
                let found = annotations.get(&account).map(|found| matched(found));
                prop_assert_eq!(found, (!expected.is_empty()).then_some(expected));
            }
        }
    }

    #[test]
    fn an_annotation_holds_nothing_of_other_accounts(
        filters in filters(),
        text in TEXT,
    ) {
        let mut index = FilterIndex::new();
        for account in (0..5).map(AccountId) {
            index.replace(account, own(&filters, account));
        }
        for (account, annotation) in index.matches(&text, NOW) {
            let mut alone = FilterIndex::new();
            alone.replace(account, own(&filters, account));
            let expected = alone.matches(&text, NOW);
            prop_assert_eq!(annotation.json(), expected[&account].json());
        }
    }

    #[test]
    fn any_text_and_any_keyword_do_no_harm(keyword: String, whole: bool, text: String) {
        match_of(&[(&keyword, whole)], &(text.clone() + &keyword + &text));
    }
}
