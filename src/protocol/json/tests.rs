//! The transcoder against the captures and against an independent JSON parser.

use proptest::prelude::*;
use serde::de::IgnoredAny;

use super::*;

fn rewritten(text: &str) -> String {
    String::from_utf8(rewrite(text.as_bytes(), 128).unwrap()).unwrap()
}

#[test]
fn numbers_look_as_javascript_prints_them_but_integers_stay_exact() {
    // The case `ws-payload-forms` of tests/transcripts/, but for the two integers beyond 2^53.
    assert_eq!(
        rewritten("[1.0,1e5,1E400,-0,0.1e-7,12345678901234567890,9007199254740993,1.50]"),
        "[1,100000,null,0,1e-8,12345678901234567890,9007199254740993,1.5]"
    );
    assert_eq!(rewritten("[-0.0,1e21,1e20,-1E400,-1.5e-7]"), {
        "[0,1e+21,100000000000000000000,null,-1.5e-7]"
    });
}

#[test]
fn strings_lose_needless_escapes_and_keep_needed_ones() {
    assert_eq!(
        rewritten(
            r#""\u003cp\u003e \u2028 \u00e9 \/ \ud83d\ude00 \u0000 \u007f\u0022\u005c\u000a""#
        ),
        "\"<p> \u{2028} é / 😀 \\u0000 \u{7f}\\\"\\\\\\n\""
    );
    assert_eq!(rewritten(r#""\uD800 lone \uDFFF\uD83D\uD83D\uDE00""#), {
        "\"\\ud800 lone \\udfff\\ud83d😀\""
    });
    assert_eq!(rewritten(r#""\b\f\n\r\t\"\\\u001F""#), r#""\b\f\n\r\t\"\\\u001f""#);
}

#[test]
fn what_is_no_utf8_becomes_replacement_characters() {
    assert_eq!(rewrite(b"\"bad \xff\xfe \xe2\x82\"", 1).unwrap(), {
        "\"bad \u{fffd}\u{fffd} \u{fffd}\"".as_bytes()
    });
}

#[test]
fn a_repeated_key_keeps_its_first_place_and_its_last_value() {
    assert_eq!(rewritten(r#"{"dup":1,"dup":2}"#), r#"{"dup":2}"#);
    assert_eq!(rewritten(r#"{"a":{"x":1,"x":[2]},"b":3,"\u0061":{"y":{}}}"#), {
        r#"{"a":{"y":{}},"b":3}"#
    });
    assert_eq!(rewritten(r#"[{"o":{"i":1,"i":2},"p":0,"o":{"i":3,"i":4}}]"#), {
        r#"[{"o":{"i":4},"p":0}]"#
    });
    let many: Vec<String> = (0..500).map(|n| format!("\"k{}\":{n}", n % 100)).collect();
    let kept: Vec<String> = (0..100).map(|n| format!("\"k{n}\":{}", n + 400)).collect();
    assert_eq!(rewritten(&format!("{{{}}}", many.join(","))), format!("{{{}}}", kept.join(",")));
}

#[test]
fn nesting_beyond_the_limit_is_refused() {
    assert!(rewrite(b"[[{}]]", 3).is_ok());
    assert!(rewrite(b"[[{}]]", 2).is_err());
    // Neighbours do not add up.
    assert!(rewrite(b"[[],{},[],{\"a\":[]},[]]", 3).is_ok());
    assert!(rewrite(&vec![b'['; 1_000_000], 128).is_err());
}

#[test]
fn what_rfc_8259_does_not_allow_is_refused() {
    for text in [
        "",
        " ",
        "nul",
        "tru e",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "0x1",
        "1e+",
        "--1",
        "[1,]",
        "[,1]",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\"}",
        "{\"a\" 1}",
        "[1 2]",
        "\"",
        "\"\\\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\u12G4\"",
        "\"a\nb\"",
        "\"\u{1}\"",
        "[",
        "]",
        "{",
        "1 1",
        "\u{feff}1",
        "'a'",
        "NaN",
        "\"\\ud83d\\u\"",
        "\u{a0}1",
        "[1]]",
        "\"\\ud83d\\",
    ] {
        assert_eq!(rewrite(text.as_bytes(), 128), Err(NotJson), "{text:?}");
    }
}

/// A JSON value that knows both its new spelling and any number of old ones.
#[derive(Clone, Debug)]
enum Tree {
    Plain(&'static str, &'static str),
    Integer(i64),
    Text(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let text = "[ -~é日😀\"\\\\/\u{0}-\u{1f}\u{2028}\u{7f}]{0,20}";
    let leaf = prop_oneof![
        prop::sample::select(&[
            ("true", "true"),
            ("false", "false"),
            ("null", "null"),
            ("1.250", "1.25"),
            ("-0", "0"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
        ])
        .prop_map(|(old, new)| Tree::Plain(old, new)),
        any::<i64>().prop_map(Tree::Integer),
        text.prop_map(Tree::Text),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Tree::Array),
            prop::collection::vec(("[a-e\"é]{0,2}", inner), 0..8).prop_map(Tree::Object),
        ]
    })
}

/// The new spelling, by way of serde_json's strings (which escape as JavaScript's do).
fn new_spelling(tree: &Tree) -> String {
    match tree {
        Tree::Plain(_, new) => new.to_string(),
        Tree::Integer(integer) => integer.to_string(),
        Tree::Text(text) => serde_json::to_string(text).unwrap(),
        Tree::Array(items) => {
            format!("[{}]", items.iter().map(new_spelling).collect::<Vec<_>>().join(","))
        }
        Tree::Object(members) => {
            let mut kept: Vec<(&str, &Tree)> = Vec::new();
            for (key, value) in members {
                match kept.iter_mut().find(|(known, _)| known == key) {
                    Some(first) => first.1 = value,
                    None => kept.push((key, value)),
                }
            }
            let written = kept.iter().map(|(key, value)| {
                format!("{}:{}", serde_json::to_string(key).unwrap(), new_spelling(value))
            });
            format!("{{{}}}", written.collect::<Vec<_>>().join(","))
        }
    }
}

/// An old spelling: whitespace and escapes as `dice` has it.
fn old_spelling(tree: &Tree, dice: &mut dyn FnMut(u8) -> u8) -> String {
    let written = match tree {
        Tree::Plain(old, _) => old.to_string(),
        Tree::Integer(integer) => integer.to_string(),
        Tree::Text(text) => old_string(text, dice),
        Tree::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| old_spelling(item, dice)).collect();
            format!("[{}{}]", space(dice), items.join(","))
        }
        Tree::Object(members) => {
            let members = members.iter().map(|(key, value)| {
                format!("{}{}{}:{}", space(dice), old_string(key, dice), space(dice), {
                    old_spelling(value, dice)
                })
            });
            format!("{{{}{}}}", members.collect::<Vec<_>>().join(","), " ")
        }
    };
    format!("{}{written}{}", space(dice), space(dice))
}

fn space(dice: &mut dyn FnMut(u8) -> u8) -> &'static str {
    ["", "", " ", "\n", "\t\r "][usize::from(dice(5))]
}

fn old_string(text: &str, dice: &mut dyn FnMut(u8) -> u8) -> String {
    let mut written = String::from("\"");
    for char in text.chars() {
        let must = char < ' ' || char == '"' || char == '\\';
        if must || dice(4) == 0 {
            for unit in char.encode_utf16(&mut [0; 2]) {
                written.push_str(&if dice(2) == 0 {
                    format!("\\u{unit:04x}")
                } else {
                    format!("\\u{unit:04X}")
                });
            }
        } else {
            written.push(char);
        }
    }
    written + "\""
}

proptest! {
    #[test]
    fn every_spelling_of_a_value_becomes_the_one_new_spelling(tree in tree(), rolls: Vec<u8>) {
        let mut turn = 0;
        let mut dice = |sides: u8| {
            turn += 1;
            rolls.get(turn % rolls.len().max(1)).map_or(0, |roll| roll % sides)
        };
        let old = old_spelling(&tree, &mut dice);
        let new = new_spelling(&tree);
        prop_assert_eq!(rewritten(&old), new.clone());
        prop_assert_eq!(rewritten(&new), new);
    }

    #[test]
    fn a_damaged_text_is_refused_exactly_when_another_parser_refuses_it(
        tree in tree(),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..4),
    ) {
        let mut text = new_spelling(&tree).into_bytes();
        for (index, byte, kind) in cuts {
            let at = index.index(text.len() + 1);
            match kind {
                0 if at < text.len() => { text.remove(at); }
                1 if at < text.len() => text[at] = byte,
                _ => text.insert(at, b"{}[]\",:\\u0e-. \n"[usize::from(byte) % 15]),
            }
        }
        let decoded = decode(&text);
        let other = serde_json::from_slice::<IgnoredAny>(&decoded).is_ok();
        prop_assert_eq!(rewrite(&text, 128).is_ok(), other, "{}", String::from_utf8_lossy(&text));
    }

    #[test]
    fn any_bytes_do_no_harm(text: Vec<u8>) {
        let _ = rewrite(&text, 128);
        let _ = unescape(&text);
    }

    #[test]
    fn escaping_is_undone_by_parsing(tree in tree()) {
        let new = new_spelling(&tree);
        let mut string = vec![b'"'];
        escape(new.as_bytes(), &mut string);
        string.push(b'"');
        let parsed: String = serde_json::from_slice(&string).unwrap();
        prop_assert_eq!(&parsed, &new);
        let unescaped = unescape(&string);
        prop_assert_eq!(&*unescaped, new.as_bytes());
    }

    #[test]
    fn a_string_is_written_as_javascript_writes_it(text: String) {
        let mut written = Vec::new();
        write_string(&text, &mut written);
        let other = serde_json::to_vec(&text).unwrap();
        prop_assert_eq!(&written, &other);
        prop_assert_eq!(&*unescape(&written), text.as_bytes());
    }
}
