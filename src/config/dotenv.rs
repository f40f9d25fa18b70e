//! The environment file as Node's dotenv (16 and 17) reads it: nothing is executed, nothing is
//! expanded.
//!
//! ```text
//! file    = (entry | any other line)*
//! entry   = [ "export" space ] name ( "=" | ":" space ) value [ "#" comment ] end of line
//! value   = 'text' | "text" | `text`      may span lines; in "…" \n and \r are control characters
//!         | text up to # or end of line, trimmed
//! ```
//!
//! A line that is no entry is skipped in silence, as there: the file is shared with shells and with
//! systemd.

use std::collections::BTreeMap;

/// Reads the file's text; of a name given twice the last value holds.
pub fn parse(text: &str) -> BTreeMap<String, String> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut entries = BTreeMap::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        match entry(rest) {
            Some((name, value, after)) => {
                entries.insert(name.to_owned(), value);
                rest = skip_line(after);
            }
            None => rest = skip_line(rest),
        }
    }
    entries
}

/// The entry that `rest` begins with, and what follows its value.
fn entry(rest: &str) -> Option<(&str, String, &str)> {
    let rest = rest.trim_start_matches(is_space);
    let exported = rest
        .strip_prefix("export")
        .filter(|after| after.starts_with(is_space))
        .and_then(|after| named_value(after.trim_start_matches(is_space)));
    let (name, rest) = exported.or_else(|| named_value(rest))?;
    let (value, rest) = match quoted(rest) {
        Some(found) => found,
        None => bare(rest),
    };
    Some((name, value, rest))
}

/// Splits `NAME=` or `NAME: ` from what follows.
fn named_value(rest: &str) -> Option<(&str, &str)> {
    let end = rest.find(|c: char| !is_name(c)).filter(|end| *end > 0)?;
    let (name, after) = rest.split_at(end);
    if let Some(value) = after.trim_start_matches(is_space).strip_prefix('=') {
        return Some((name, value));
    }
    let value = after.strip_prefix(':')?;
    value.strip_prefix(is_space).map(|value| (name, value))
}

/// A value in quotes, if the closing quote ends its line but for a comment.
fn quoted(rest: &str) -> Option<(String, &str)> {
    let rest = rest.trim_start_matches(is_space);
    let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"' | '`'))?;
    let inner = &rest[1..];
    // Every quote up to the first without a backslash; the last that ends its line closes the
    // value.
    let mut closing = None;
    for (end, _) in inner.match_indices(quote) {
        if ends_line(&inner[end + 1..]) {
            closing = Some(end);
        }
        if !inner[..end].ends_with('\\') {
            break;
        }
    }
    let end = closing?;
    Some((expand(&inner[..end], quote), &inner[end + 1..]))
}

/// A value without quotes, or whose quotes do not close as [`quoted`] wants it.
fn bare(rest: &str) -> (String, &str) {
    let end = rest.find(['#', '\n']).unwrap_or(rest.len());
    let (value, after) = rest.split_at(end);
    let value = value.trim_matches(is_space);
    let Some(quote) = value.chars().next().filter(|c| matches!(c, '\'' | '"' | '`')) else {
        return (value.to_owned(), after);
    };
    let stripped = value[1..].strip_suffix(quote).unwrap_or(value);
    (expand(stripped, quote), after)
}

fn expand(value: &str, quote: char) -> String {
    if quote == '"' { value.replace("\\n", "\n").replace("\\r", "\r") } else { value.to_owned() }
}

/// Whether nothing but space and a comment stands before the end of the line.
fn ends_line(after: &str) -> bool {
    let line = after.split('\n').next().unwrap_or_default();
    let line = line.trim_start_matches(is_space);
    line.is_empty() || line.starts_with('#')
}

fn skip_line(rest: &str) -> &str {
    rest.split_once('\n').map_or("", |(_, after)| after)
}

/// JavaScript's `\w`, and `.` and `-`.
fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

/// JavaScript's `\s`: Unicode's spaces without NEL, with the byte order mark.
fn is_space(c: char) -> bool {
    c == '\u{feff}' || (c.is_whitespace() && c != '\u{85}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each checked against Node's dotenv 16.
    #[test]
    fn entries_mean_what_they_mean_to_node() {
        for (text, expected) in [
            ("A=1", "1"),
            ("  export\tA = 1  ", "1"),
            ("A: 1", "1"),
            ("A:1", ""),
            ("A=one two # three", "one two"),
            ("A=one#two", "one"),
            ("A='one#two' # three", "one#two"),
            ("A=\"x\\ny\\rz\"", "x\ny\rz"),
            ("A='x\\ny'", "x\\ny"),
            ("A=`x\"'y`", "x\"'y"),
            ("A=\"one\ntwo\"\nB=2", "one\ntwo"),
            ("A='one\r\ntwo'", "one\ntwo"),
            ("A=\"say \\\"hi\\\"\"", "say \\\"hi\\\""),
            ("A=\"x\\\"y\nz\"", "x\\\"y\nz"),
            ("A=\"x\\\"\nB=2", "x\\"),
            ("A=\"open", "\"open"),
            ("A='a' b 'c'", "a' b 'c"),
            ("A=$HOME `date`", "$HOME `date`"),
            ("A=1\nA=2", "2"),
            ("\u{feff}A=1", "1"),
            ("# A=1", ""),
            ("A", ""),
            ("A=", ""),
            ("A=\nB=2", ""),
            ("A=a=b==", "a=b=="),
        ] {
            let found = parse(text).remove("A").unwrap_or_default();
            assert_eq!(found, expected, "{text:?}");
        }
    }

    #[test]
    fn lines_that_are_no_entries_are_skipped() {
        let entries = parse("if true; then\n\nA=1\nnonsense here\n=x\nB='2'\n}");
        let names: Vec<&str> = entries.keys().map(String::as_str).collect();
        assert_eq!(names, ["A", "B"]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(
            text in "([AB]|=|:|[ \n\r\t]|['\"`\\\\#]|export |é|\u{a0}){0,40}",
        ) {
            parse(&text);
        }
    }
}
