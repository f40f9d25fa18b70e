//! The page at `/` of the demonstration: one document that needs nothing else.

use std::sync::Arc;

use serde::Serialize;

use crate::demo::accounts::{Tokens, username};
use crate::demo::cast::{PEOPLE, READERS, Reader};

/// The document, with a place for each of the other parts.
const DOCUMENT: &str = include_str!("page.html");
const STYLE: (&str, &str) = ("/* the style sheet stands here */", include_str!("page.css"));
const SCRIPT: (&str, &str) =
    ("/* the script stands here */", concat!(include_str!("cards.js"), include_str!("page.js")));
const FACTS_PLACE: &str = "{\"the facts of this run\":\"stand here\"}";

/// What the page must know.
#[derive(Serialize)]
struct Facts<'a> {
    broker_port: u16,
    rate: f64,
    version: &'a str,
    readers: Vec<ReaderFacts<'a>>,
}

#[derive(Serialize)]
struct ReaderFacts<'a> {
    username: &'a str,
    name: &'a str,
    about: &'a str,
    token: &'a str,
    lists: Vec<ListFacts<'a>>,
}

#[derive(Serialize)]
struct ListFacts<'a> {
    id: String,
    title: &'a str,
}

/// The document with the facts of this run.
pub(super) fn page(tokens: &Tokens, broker_port: u16, rate: f64) -> Arc<[u8]> {
    let readers = tokens.iter().zip(&READERS).map(|((number, token), reader)| ReaderFacts {
        username: username(number),
        name: PEOPLE.get(number).map_or("", |person| person.name),
        about: reader.about,
        token: token.reveal(),
        lists: lists(number, reader),
    });
    let version = env!("CARGO_PKG_VERSION");
    let facts = Facts { broker_port, rate, version, readers: readers.collect() };
    // Inside a script element only `<` could end it.
    let json = serde_json::to_string(&facts).unwrap_or_default().replace('<', "\\u003c");
    let document = DOCUMENT.replacen(FACTS_PLACE, &json, 1);
    let document = document.replacen(STYLE.0, STYLE.1, 1).replacen(SCRIPT.0, SCRIPT.1, 1);
    document.into_bytes().into()
}

fn lists(number: usize, reader: &Reader) -> Vec<ListFacts<'static>> {
    let list = |(index, (title, _)): (usize, &(&'static str, _))| ListFacts {
        id: Reader::list_id(number, index).to_string(),
        title,
    };
    reader.lists.iter().enumerate().map(list).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> (Tokens, String) {
        let tokens = Tokens::draw().unwrap();
        let page = page(&tokens, 6390, 3.0);
        (tokens, String::from_utf8(page.to_vec()).unwrap())
    }

    #[test]
    fn the_facts_of_the_run_are_in_it() {
        let (tokens, text) = text();
        let (_, rest) = text.split_once("<script type=\"application/json\" id=\"facts\">").unwrap();
        let (json, _) = rest.split_once("</script>").unwrap();
        let facts: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(facts["broker_port"], 6390);
        for (number, token) in tokens.iter() {
            assert_eq!(facts["readers"][number]["token"], token.reveal());
        }
        assert_eq!(facts["readers"][0]["lists"][0]["id"], "101");
    }

    #[test]
    fn it_loads_nothing_from_elsewhere() {
        let (_, text) = text();
        for outside in ["src=", "href=\"http", "@import", "url(http", "<link", "cdn."] {
            assert!(!text.contains(outside), "{outside}");
        }
        assert!(text.contains("default-src 'none'"), "and its policy forbids it");
        for place in [STYLE.0, SCRIPT.0, FACTS_PLACE] {
            assert!(!text.contains(place), "{place} is filled");
        }
    }
}
