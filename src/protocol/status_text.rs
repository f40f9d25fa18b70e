//! The text of a status that keyword filters search.

use std::borrow::Cow;
use std::convert::Infallible;

use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use html5gum::{Span, Tokenizer};

/// The parts of a status that people wrote. Borrows from the event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusText<'event> {
    /// Spoiler text, content, poll option titles, media descriptions: in this order, empty where
    /// null.
    pub(crate) parts: Vec<Cow<'event, str>>,
}

impl StatusText<'_> {
    /// The parts joined by blank lines, as plain text: `<br>` is a line break, `</p><p>` a blank
    /// line, of the rest of the HTML the text remains. Every part counts as HTML, as the Node
    /// server has it.
    pub fn plain(&self) -> String {
        let html = with_line_breaks(&self.parts.join("\n\n"));
        // Nothing to decode or drop: most poll options and spoilers, no content of Mastodon's own.
        if memchr::memchr3(b'<', b'&', b'\r', html.as_bytes()).is_none() && !html.contains('\0') {
            return html;
        }
        text_content(&html)
    }
}

/// Writes line breaks for the two kinds of markup that people see as such. By their spelling,
/// before any parsing: a `</p> <p>` or `<p class>` is left alone, as in the Node server.
fn with_line_breaks(html: &str) -> String {
    let mut output = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = memchr::memchr(b'<', rest.as_bytes()) {
        let (before, tag) = rest.split_at(at);
        output.push_str(before);
        if let Some(behind) = tag.strip_prefix("</p><p>") {
            output.push_str("\n\n");
            rest = behind;
        } else if let Some(behind) = strip_line_break(tag) {
            output.push('\n');
            rest = behind;
        } else {
            output.push('<');
            rest = &tag[1..];
        }
    }
    output.push_str(rest);
    output
}

/// What stands behind a `<br>`, `<br/>` or `<br />`.
fn strip_line_break(tag: &str) -> Option<&str> {
    let rest = tag.strip_prefix("<br")?.trim_start();
    rest.strip_prefix('/').unwrap_or(rest).strip_prefix('>')
}

/// The text of an HTML fragment: tags, comments and doctypes dropped, character references decoded.
fn text_content(html: &str) -> String {
    let mut text = Vec::with_capacity(html.len());
    let mut emitter = CallbackEmitter::new(|event: CallbackEvent<'_>, _: Span<()>| {
        if let CallbackEvent::String { value } = event {
            text.extend_from_slice(value);
        }
        None::<Infallible>
    });
    // The text inside scripts and the like is text, not markup.
    emitter.naively_switch_states(true);
    let Ok(()) = Tokenizer::new_with_emitter(html, emitter).finish();
    // A fragment keeps no NUL in its text.
    text.retain(|&byte| byte != 0);
    String::from_utf8(text)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(parts: &[&str]) -> String {
        StatusText { parts: parts.iter().map(|&part| Cow::Borrowed(part)).collect() }.plain()
    }

    #[test]
    fn parts_are_joined_by_blank_lines() {
        assert_eq!(
            plain(&["cw", "<p>a</p>", "yes", "no", "", "alt"]),
            "cw\n\na\n\nyes\n\nno\n\n\n\nalt"
        );
        assert_eq!(plain(&[]), "");
    }

    #[test]
    fn line_breaks_and_paragraphs_become_line_breaks() {
        assert_eq!(plain(&["a<br>b<br/>c<br />d"]), "a\nb\nc\nd");
        assert_eq!(plain(&["<p>ca</p><p>t</p>"]), "ca\n\nt");
        assert_eq!(plain(&["<p>a</p> <p>b</p><p class=\"x\">c</p>"]), "a bc");
        assert_eq!(plain(&["<bravo>x</bravo><br"]), "x");
    }

    #[test]
    fn only_the_text_of_the_html_remains() {
        // The case `ws-custom-filters` of tests/transcripts/.
        assert_eq!(plain(&["<p>c<b>a</b>t</p>"]), "cat");
        assert_eq!(plain(&["<p>&#99;at &amp; d.g+</p>"]), "cat & d.g+");
        assert_eq!(plain(&["<p><a href=\"cat\">x</a></p>"]), "x");
        assert_eq!(plain(&["<!DOCTYPE html>a<!-- cat -->b&eacute;&nbsp;&#x1F600;&bogus;"]), {
            "abé\u{a0}😀&bogus;"
        });
        assert_eq!(plain(&["1 < 2 && <script>a<b>c</script>d"]), "1 < 2 && a<b>cd");
        assert_eq!(plain(&["a\r\nb\0c"]), "a\nbc");
    }

    proptest! {
        #[test]
        fn any_text_does_no_harm(parts: Vec<String>) {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            plain(&parts);
        }

        #[test]
        fn text_without_markup_stays_as_it_is(part in "[^<&\0\r]*") {
            prop_assert_eq!(plain(&[&part]), part);
        }
    }
}
