//! A message of Rails, parsed once: what it is called and what it carries.

use std::borrow::Cow;
use std::ops::Range;

use crate::protocol::json::{self, Form, NotJson, Rewriter};
pub use crate::protocol::status::{StatusFacts, Uncheckable};

/// An event that clients may see: a truthy name and a truthy payload, both in their new spelling
/// (see [`json`]).
#[derive(Clone, Debug)]
pub struct Event {
    /// Holds name and payload, and perhaps remains of other members.
    text: Vec<u8>,
    /// Where the name stands in `text`.
    name: Range<usize>,
    /// Where the payload stands in `text`.
    payload: Range<usize>,
    /// What the payload is. Never [`Form::False`] or [`Form::Null`].
    form: Form,
}

/// Why a message never becomes an event. All of them are Rails' doing and none harms anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// Not JSON, or nested deeper than the limit.
    NotJson,
    /// JSON, but no object with a truthy `event`.
    NoEvent,
    /// `payload` is missing, null, false, 0 or an empty string (`filters_changed` on home
    /// channels).
    NoPayload,
}

/// What filtering asks first about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `update`: a new status.
    Update,
    /// `status.update`: an edited status.
    StatusUpdate,
    /// Anything else: passes every filter.
    Other,
}

/// A message on a system channel (`timeline:access_token:…`, `timeline:system:…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SystemEvent {
    /// End every connection of the token or account.
    Kill,
    /// Drop the cached custom filters of the account.
    FiltersChanged,
}

impl Event {
    /// Parses a message as it came from Redis. `depth_max` is
    /// [`Limits::json_depth_max`](crate::config::limits::Limits::json_depth_max).
    pub fn parse(message: &[u8], depth_max: usize) -> Result<Event, Dropped> {
        let members = Members::read(message, depth_max).map_err(|NotJson| Dropped::NotJson)?;
        let Some((name, _)) = members.truthy(members.event.clone()) else {
            return Err(Dropped::NoEvent);
        };
        let Some((payload, form)) = members.truthy(members.payload.clone()) else {
            return Err(Dropped::NoPayload);
        };
        Ok(Event { text: members.text, name, payload, form })
    }

    /// Which filters look at it.
    pub fn kind(&self) -> Kind {
        match self.name_json() {
            b"\"update\"" => Kind::Update,
            b"\"status.update\"" => Kind::StatusUpdate,
            _ => Kind::Other,
        }
    }

    /// The name as JSON text, usually a string with its quotes: `"update"`.
    pub fn name_json(&self) -> &[u8] {
        self.text.get(self.name.clone()).unwrap_or_default()
    }

    /// The name as event streams say it: a string without its quotes, anything else as JSON text.
    pub fn name(&self) -> Cow<'_, str> {
        let name = self.name_json();
        match name.first() {
            Some(b'"') => match json::unescape(name) {
                Cow::Borrowed(name) => String::from_utf8_lossy(name),
                Cow::Owned(name) => Cow::Owned(String::from_utf8_lossy(&name).into_owned()),
            },
            _ => String::from_utf8_lossy(name),
        }
    }

    /// The payload as JSON text.
    pub fn payload_json(&self) -> &[u8] {
        self.text.get(self.payload.clone()).unwrap_or_default()
    }

    /// What the payload is.
    pub fn payload_form(&self) -> Form {
        self.form
    }

    /// What filtered streams must know about an `update` or `status.update`.
    pub fn status(&self) -> Result<StatusFacts<'_>, Uncheckable> {
        match self.form {
            Form::Object => StatusFacts::read(self.payload_json()),
            _ => Err(Uncheckable),
        }
    }
}

/// Reads a message on a system channel; `None` for what is none of the known ones.
pub fn system_event(message: &[u8], depth_max: usize) -> Option<SystemEvent> {
    let members = Members::read(message, depth_max).ok()?;
    let (name, _) = members.event?;
    match members.text.get(name)? {
        b"\"kill\"" => Some(SystemEvent::Kill),
        b"\"filters_changed\"" => Some(SystemEvent::FiltersChanged),
        _ => None,
    }
}

/// A value in the output, and what it was in the input.
type Place = (Range<usize>, Form);

/// The members of a message that count. Of repeated ones the last.
#[derive(Default)]
struct Members {
    text: Vec<u8>,
    event: Option<Place>,
    payload: Option<Place>,
}

impl Members {
    /// Reads the whole message: what stands behind the payload must be JSON as well.
    fn read(message: &[u8], depth_max: usize) -> Result<Members, NotJson> {
        let message = json::decode(message);
        let mut rewriter = Rewriter::new(&message, depth_max);
        let (mut event, mut payload) = (None, None);
        if rewriter.form()? == Form::Object {
            rewriter.visit_object(|rewriter, key| {
                let start = rewriter.length();
                let member = match rewriter.spelled(key) {
                    b"\"event\"" => Some(&mut event),
                    b"\"payload\"" => Some(&mut payload),
                    _ => None,
                };
                let form = rewriter.value()?;
                match member {
                    Some(place) => *place = Some((start..rewriter.length(), form)),
                    None => rewriter.discard_from(start),
                }
                Ok(())
            })?;
        } else {
            rewriter.value()?;
        }
        rewriter.finish()?;
        Ok(Members { text: rewriter.into_output(), event, payload })
    }

    /// The place, if JavaScript takes its value for true. Infinity, written `null`, is true.
    fn truthy(&self, place: Option<Place>) -> Option<Place> {
        place.filter(|(range, form)| match form {
            Form::False | Form::Null => false,
            Form::String => range.len() > "\"\"".len(),
            Form::Number => self.text.get(range.clone()) != Some(b"0"),
            Form::Object | Form::Array | Form::True => true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(message: &str) -> Result<Event, Dropped> {
        Event::parse(message.as_bytes(), 128)
    }

    #[test]
    fn a_falsy_name_or_payload_is_no_event() {
        // The case `ws-payload-forms` of tests/transcripts/.
        for message in ["[]", "5", "\"s\"", "null", "{}", r#"{"payload":{"a":1}}"#] {
            assert_eq!(parse(message).unwrap_err(), Dropped::NoEvent, "{message}");
        }
        for value in ["0", "-0", "0.0", "0e9", "1e-999", "\"\"", "false", "null"] {
            let message = format!(r#"{{"event":"update","payload":{value}}}"#);
            assert_eq!(parse(&message).unwrap_err(), Dropped::NoPayload, "{value}");
            let message = format!(r#"{{"payload":1,"event":{value}}}"#);
            assert_eq!(parse(&message).unwrap_err(), Dropped::NoEvent, "{value}");
        }
        assert_eq!(parse(r#"{"event":"filters_changed"}"#).unwrap_err(), Dropped::NoPayload);
        for message in ["", "not json", "\u{feff}{\"event\":\"delete\",\"payload\":\"bom\"}"] {
            assert_eq!(parse(message).unwrap_err(), Dropped::NotJson, "{message}");
        }
        let tail = r#"{"event":"update","payload":1,"queued_at":}"#;
        assert_eq!(parse(tail).unwrap_err(), Dropped::NotJson);
    }

    #[test]
    fn name_and_payload_are_found_wherever_they_stand() {
        let messages = [
            r#"{"event":"update","payload":{"a":1}}"#,
            r#" { "queued_at":{"event":"x"}, "payload":{ "a":1}, "\u0065vent":"update" } "#,
            r#"{"event":"delete","payload":"5","event":"update","payload":{"a":1},"z":[0]}"#,
        ];
        for message in messages {
            let event = parse(message).unwrap();
            assert_eq!(event.name_json(), br#""update""#);
            assert_eq!(event.name(), "update");
            assert_eq!(event.payload_json(), br#"{"a":1}"#);
            assert_eq!(event.kind(), Kind::Update);
        }
    }

    #[test]
    fn members_that_do_not_count_are_not_kept() {
        let event = parse(r#"{"event":"e","queued_at":12345678,"payload":1}"#).unwrap();
        assert!(!event.text.windows(4).any(|part| part == b"1234"));
    }

    #[test]
    fn kinds_are_told_by_the_exact_name() {
        let kind =
            |name: &str| parse(&format!(r#"{{"event":{name},"payload":1}}"#)).unwrap().kind();
        assert_eq!(kind(r#""status.update""#), Kind::StatusUpdate);
        assert_eq!(kind(r#""Update""#), Kind::Other);
        assert_eq!(kind(r#"["update"]"#), Kind::Other);
        assert_eq!(kind("5"), Kind::Other);
    }

    #[test]
    fn system_events_need_no_payload() {
        let system = |message: &str| system_event(message.as_bytes(), 128);
        assert_eq!(system(r#"{"event":"kill"}"#), Some(SystemEvent::Kill));
        assert_eq!(system(r#"{"event":"filters_changed"}"#), Some(SystemEvent::FiltersChanged));
        for message in [r#"{"event":"update","payload":1}"#, "{}", "[]", "kill", ""] {
            assert_eq!(system(message), None, "{message}");
        }
    }
}
