//! What a WebSocket client says: subscribe or unsubscribe.

use serde_json::{Map, Value};

use crate::hub::session::Scopes;
use crate::hub::stream::{Parameter, Parameters, Stream, StreamError};

/// A message of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientMessage {
    /// Open a stream.
    Subscribe(Wish),
    /// Close a stream.
    Unsubscribe(Wish),
    /// Not JSON, no object, or of another type: the connection stays as it is.
    Ignored,
}

/// A stream that somebody named, or what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wish(pub Result<Stream, StreamError>);

impl Wish {
    /// The stream, if it exists and these scopes open it. Scopes are looked at first, so that a
    /// token without any is told so whatever it names, as the Node server does.
    pub fn granted(self, scopes: Scopes) -> Result<Stream, StreamError> {
        let permitted = match self.0 {
            Ok(Stream::UserNotification) => scopes.notifications(),
            _ => scopes.statuses(),
        };
        if permitted { self.0 } else { Err(StreamError::MissingScope) }
    }
}

impl ClientMessage {
    /// Reads a text message. Tags longer than `tag_bytes_max` make no sense.
    pub fn parse(text: &str, tag_bytes_max: usize) -> ClientMessage {
        let Ok(Value::Object(object)) = serde_json::from_str(text) else {
            return ClientMessage::Ignored;
        };
        match object.get("type").and_then(Value::as_str) {
            Some("subscribe") => ClientMessage::Subscribe(wish(&object, tag_bytes_max)),
            Some("unsubscribe") => ClientMessage::Unsubscribe(wish(&object, tag_bytes_max)),
            _ => ClientMessage::Ignored,
        }
    }
}

fn wish(object: &Map<String, Value>, tag_bytes_max: usize) -> Wish {
    let Some(name) = object.get("stream").map(first).and_then(Value::as_str) else {
        return Wish(Err(StreamError::UnknownStream));
    };
    let list = object.get("list").map(first);
    let number = list.and_then(Value::as_i64).map(|number| number.to_string());
    let parameters = Parameters {
        tag: match parameter(object.get("tag").map(first)) {
            Parameter::Text(tag) if tag.len() > tag_bytes_max => Parameter::Odd,
            tag => tag,
        },
        list: match (&number, parameter(list)) {
            (Some(number), Parameter::Odd) => Parameter::Text(number),
            (_, parameter) => parameter,
        },
        allow_local_only: object.get("allow_local_only").is_some_and(is_set),
    };
    Wish(Stream::parse(name, &parameters))
}

/// Of an array the first element counts.
fn first(value: &Value) -> &Value {
    match value {
        Value::Array(elements) => elements.first().unwrap_or(&Value::Null),
        other => other,
    }
}

fn parameter(value: Option<&Value>) -> Parameter<'_> {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => Parameter::Missing,
        Some(Value::String(text)) if text.is_empty() => Parameter::Missing,
        Some(Value::Number(number)) if number.as_f64() == Some(0.0) => Parameter::Missing,
        Some(Value::String(text)) => Parameter::Text(text),
        Some(_) => Parameter::Odd,
    }
}

/// Flags in messages follow the rule of flags in queries.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => {
            !matches!(text.as_str(), "" | "0" | "f" | "F" | "false" | "FALSE" | "off" | "OFF")
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::ListId;

    fn subscribed(text: &str) -> Result<Stream, StreamError> {
        match ClientMessage::parse(text, 1024) {
            ClientMessage::Subscribe(wish) => wish.0,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_element_of_an_array_counts() {
        let text = r#"{"type":"subscribe","stream":["user","public"]}"#;
        assert_eq!(subscribed(text), Ok(Stream::User));
        let text = r#"{"type":"subscribe","stream":[]}"#;
        assert_eq!(subscribed(text), Err(StreamError::UnknownStream));
    }

    #[test]
    fn odd_messages_are_ignored_and_odd_streams_are_errors() {
        for text in [
            "",
            "{}",
            "[]",
            "5",
            "null",
            "not json",
            "[\"subscribe\"]",
            "\"text\"",
            r#"{"type":"nope","stream":"user"}"#,
            r#"{"type":["subscribe"],"stream":"user"}"#,
        ] {
            assert_eq!(ClientMessage::parse(text, 1024), ClientMessage::Ignored, "{text}");
        }
        for stream in ["5", "null", "\"\"", "\"system\"", "{}"] {
            let text = format!(r#"{{"type":"subscribe","stream":{stream}}}"#);
            assert_eq!(subscribed(&text), Err(StreamError::UnknownStream), "{text}");
        }
    }

    #[test]
    fn lists_may_be_numbers_and_tags_may_not() {
        let list = r#"{"type":"subscribe","stream":"list","list":12}"#;
        assert_eq!(subscribed(list), Ok(Stream::List(ListId(12))));
        let tag = r#"{"type":"subscribe","stream":"hashtag","tag":5}"#;
        assert_eq!(subscribed(tag), Err(StreamError::Unexpected));
        let none = r#"{"type":"subscribe","stream":"hashtag","tag":0}"#;
        assert_eq!(subscribed(none), Err(StreamError::MissingTag));
        let list = r#"{"type":"subscribe","stream":"list","list":{"a":1}}"#;
        assert_eq!(subscribed(list), Err(StreamError::ForeignList));
    }

    #[test]
    fn an_endless_tag_is_refused() {
        let tag = "x".repeat(2000);
        let text = format!(r#"{{"type":"subscribe","stream":"hashtag","tag":"{tag}"}}"#);
        assert_eq!(subscribed(&text), Err(StreamError::Unexpected));
    }
}
