//! An event as bytes for sockets. What all readers of an event share is serialised once ([`Body`],
//! in the control core); a shard puts a label in front and, for readers with matching custom
//! filters, an annotation at the end.

use std::ops::BitOr;

use crate::protocol::event::Event;
use crate::protocol::json::{self, Form};
use crate::protocol::sse;
use crate::protocol::websocket::{self, Data, OpCode};

/// What stands before the label of a WebSocket message.
const MESSAGE_HEAD: &[u8] = b"{\"stream\":";

/// The longest header of an unmasked frame, in bytes (RFC 6455 section 5.2).
const FRAME_HEADER_BYTES_MAX: usize = 10;

/// Room for the sizes and line ends of two chunks and the words `event: ` and `data: `, in bytes.
const CHUNKS_FRAMING_BYTES: usize = 64;

/// The transports for which somebody wants an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wants {
    /// WebSocket frames.
    pub websocket: bool,
    /// Chunks of an event stream.
    pub event_stream: bool,
}

impl Wants {
    /// What either wants.
    pub fn union(self, other: Wants) -> Wants {
        Wants {
            websocket: self.websocket || other.websocket,
            event_stream: self.event_stream || other.event_stream,
        }
    }

    /// Nobody wants anything.
    pub fn is_empty(self) -> bool {
        !self.websocket && !self.event_stream
    }
}

impl BitOr for Wants {
    type Output = Wants;

    fn bitor(self, other: Wants) -> Wants {
        self.union(other)
    }
}

/// What all readers of an event share: its name and payload, serialised for the wanted transports.
#[derive(Clone, Debug)]
pub struct Body {
    websocket: Option<WebsocketBody>,
    event_stream: Option<EventStreamBody>,
    /// Both forms end where the value of `filtered` goes; the payload is still open.
    annotated: bool,
}

#[derive(Clone, Debug)]
struct WebsocketBody {
    /// The message from the label on: `,"event":NAME,"payload":"…`.
    rest: Box<[u8]>,
}

#[derive(Clone, Debug)]
struct EventStreamBody {
    name: Box<str>,
    data: Box<[u8]>,
}

/// The `filtered` array of one account for one status, as JSON text, ready for both transports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    plain: Box<[u8]>,
    /// As the content of a JSON string.
    escaped: Box<[u8]>,
}

impl Annotation {
    /// Takes the array as compact JSON text, such as `[{"filter":…}]`.
    pub fn new(filtered: Vec<u8>) -> Annotation {
        let mut escaped = Vec::new();
        json::escape(&filtered, &mut escaped);
        Annotation { plain: filtered.into(), escaped: escaped.into() }
    }

    /// The array as JSON text.
    pub fn json(&self) -> &[u8] {
        &self.plain
    }
}

impl Body {
    /// Serialises an event for the wanted transports. `annotate`: it is a status on a filtered
    /// stream without a key `filtered` of its own, so each reader's `filtered` goes last into the
    /// payload. Ignored if the payload is no object.
    pub fn new(event: &Event, wants: Wants, annotate: bool) -> Body {
        let annotated = annotate && event.payload_form() == Form::Object;
        Body {
            websocket: wants.websocket.then(|| WebsocketBody::new(event, annotated)),
            event_stream: wants.event_stream.then(|| EventStreamBody::new(event, annotated)),
            annotated,
        }
    }

    /// A complete, unmasked text frame with its header:
    /// `{"stream":LABEL,"event":NAME,"payload":"…"}`. `label` is JSON text (see [`label_json`]).
    /// Without an annotation, an annotated body says `"filtered":[]`. `None` if the body was not
    /// built for WebSockets: the reader came after the event.
    pub fn websocket_frame(&self, label: &str, annotation: Option<&Annotation>) -> Option<Vec<u8>> {
        let rest = &self.websocket.as_ref()?.rest;
        let annotation = annotation.map_or(&b"[]"[..], |annotation| &annotation.escaped);
        let end: [&[u8]; 2] = if self.annotated { [annotation, b"}\"}"] } else { [b"", b""] };
        let [annotation, end] = end;
        let parts = [MESSAGE_HEAD, label.as_bytes(), rest, annotation, end];
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let mut frame = Vec::with_capacity(FRAME_HEADER_BYTES_MAX + length);
        websocket::frame_header(OpCode::Data(Data::Text), length, &mut frame);
        parts.iter().for_each(|part| frame.extend_from_slice(part));
        Some(frame)
    }

    /// The two chunks of an event stream. `None` if the body was not built for event streams.
    pub fn event_stream_chunks(&self, annotation: Option<&Annotation>) -> Option<Vec<u8>> {
        let EventStreamBody { name, data } = self.event_stream.as_ref()?;
        let annotation = annotation.map_or(&b"[]"[..], |annotation| &annotation.plain);
        let length = CHUNKS_FRAMING_BYTES + name.len() + data.len() + annotation.len();
        let mut chunks = Vec::with_capacity(length);
        if self.annotated {
            sse::event(name, &[data, annotation, b"}"], &mut chunks);
        } else {
            sse::event(name, &[data], &mut chunks);
        }
        Some(chunks)
    }
}

impl WebsocketBody {
    fn new(event: &Event, annotated: bool) -> WebsocketBody {
        let (name, payload) = (event.name_json(), event.payload_json());
        let mut rest = Vec::with_capacity(name.len() + payload.len() * 5 / 4 + 64);
        rest.extend_from_slice(b",\"event\":");
        rest.extend_from_slice(name);
        rest.extend_from_slice(b",\"payload\":");
        match event.payload_form() {
            Form::Object if annotated => {
                rest.push(b'"');
                let (members, key) = open_payload(payload);
                json::escape(members, &mut rest);
                json::escape(key, &mut rest);
            }
            Form::Object | Form::Array => {
                rest.push(b'"');
                json::escape(payload, &mut rest);
                rest.extend_from_slice(b"\"}");
            }
            // A string is one already; numbers and `true` go as they are (the case
            // `ws-payload-forms` of tests/transcripts/).
            _ => {
                rest.extend_from_slice(payload);
                rest.push(b'}');
            }
        }
        WebsocketBody { rest: rest.into_boxed_slice() }
    }
}

impl EventStreamBody {
    fn new(event: &Event, annotated: bool) -> EventStreamBody {
        let payload = event.payload_json();
        let data = match event.payload_form() {
            Form::Object if annotated => {
                let (members, key) = open_payload(payload);
                [members, key].concat()
            }
            Form::String => json::unescape(payload).into_owned(),
            _ => payload.to_vec(),
        };
        EventStreamBody { name: event.name().into(), data: data.into_boxed_slice() }
    }
}

/// An object without its closing brace, and the key that follows.
fn open_payload(object: &[u8]) -> (&[u8], &'static [u8]) {
    match object {
        b"{}" => (b"{", b"\"filtered\":"),
        _ => (object.strip_suffix(b"}").unwrap_or(object), b",\"filtered\":"),
    }
}

/// A label as JSON text: `["public"]`, `["hashtag","CAFÉ"]`.
pub fn label_json(name: &str, argument: Option<&str>) -> String {
    let mut label = Vec::with_capacity(name.len() + argument.map_or(0, str::len) + 8);
    label.push(b'[');
    json::write_string(name, &mut label);
    if let Some(argument) = argument {
        label.push(b',');
        json::write_string(argument, &mut label);
    }
    label.push(b']');
    String::from_utf8_lossy(&label).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const BOTH: Wants = Wants { websocket: true, event_stream: true };

    fn body(message: &str, annotate: bool) -> Body {
        Body::new(&Event::parse(message.as_bytes(), 128).unwrap(), BOTH, annotate)
    }

    fn frame(message: &str) -> String {
        let frame = body(message, false).websocket_frame(r#"["user"]"#, None).unwrap();
        assert_eq!((frame[0], usize::from(frame[1])), (0x81, frame.len() - 2));
        String::from_utf8(frame[2..].to_vec()).unwrap()
    }

    /// The data of the second chunk.
    fn data(chunks: &[u8]) -> String {
        let text = String::from_utf8(chunks.to_vec()).unwrap();
        let start = text.find("data: ").unwrap() + "data: ".len();
        text[start..].strip_suffix("\n\n\r\n").unwrap().to_owned()
    }

    #[test]
    fn every_form_of_payload_is_framed_as_the_node_server_frames_it() {
        // The case `ws-payload-forms` of tests/transcripts/.
        for (message, expected) in [
            (
                concat!(
                    r#"{"event":"update","payload":{"s":"\u003cp\u003e \u2028 \u00e9 \/"#,
                    r#" \ud83d\ude00 \u0000 \u007f","t":"é😀"}}"#,
                ),
                concat!(
                    r#""update","payload":"{\"s\":\"<p>"#,
                    " \u{2028} é / 😀 \\\\u0000 \u{7f}",
                    r#"\",\"t\":\"é😀\"}""#,
                ),
            ),
            (
                r#"{"event":"update","payload":{"s":"\ud800 lone"}}"#,
                r#""update","payload":"{\"s\":\"\\ud800 lone\"}""#,
            ),
            (
                r#"{ "event" : "update" , "payload" : { "sp" : [ 1 , 2 ] } }"#,
                r#""update","payload":"{\"sp\":[1,2]}""#,
            ),
            (r#"{"event":"update","payload":[1,2]}"#, r#""update","payload":"[1,2]""#),
            (
                r#"{"event":"update","payload":"text \"q\" \u003c"}"#,
                r#""update","payload":"text \"q\" <""#,
            ),
            (r#"{"event":"update","payload":5}"#, r#""update","payload":5"#),
            (r#"{"event":"update","payload":true}"#, r#""update","payload":true"#),
            (r#"{"event":5,"payload":{"a":1}}"#, r#"5,"payload":"{\"a\":1}""#),
            (r#"{"event":{"x":1},"payload":{"a":1}}"#, r#"{"x":1},"payload":"{\"a\":1}""#),
            (r#"{"event":"x\ny","payload":"p"}"#, r#""x\ny","payload":"p""#),
            (
                r#"{"event":"update","payload":{"a":1},"queued_at":123,"extra":1}"#,
                r#""update","payload":"{\"a\":1}""#,
            ),
            (
                r#"{"event":"update","payload":{"__proto__":{"a":1},"constructor":2}}"#,
                r#""update","payload":"{\"__proto__\":{\"a\":1},\"constructor\":2}""#,
            ),
        ] {
            assert_eq!(frame(message), format!(r#"{{"stream":["user"],"event":{expected}}}"#));
        }
    }

    #[test]
    fn an_event_stream_gets_two_chunks() {
        // The case `sse-events` of tests/transcripts/.
        let chunks = |message| body(message, false).event_stream_chunks(None).unwrap();
        assert_eq!(
            chunks(r#"{"event":"delete","payload":"12345"}"#),
            b"e\r\nevent: delete\n\r\nd\r\ndata: 12345\n\n\r\n"
        );
        assert_eq!(
            chunks(r#"{"event":"update","payload":{"id":"1","content":"\u003cp>a &amp; b</p>"}}"#),
            b"e\r\nevent: update\n\r\n2f\r\n\
              data: {\"id\":\"1\",\"content\":\"<p>a &amp; b</p>\"}\n\n\r\n"
        );
        assert_eq!(data(&chunks(r#"{"event":5,"payload":"\ud800 \"q\""}"#)), "\u{fffd} \"q\"");
        assert_eq!(data(&chunks(r#"{"event":5,"payload":[ 1.0 ]}"#)), "[1]");
    }

    #[test]
    fn the_annotation_is_the_last_key_of_the_payload() {
        let annotation = Annotation::new(br#"[{"filter":{"title":"a\"b"}}]"#.to_vec());
        for (payload, head) in [("{}", "{"), (r#"{"id":"1\u0022"}"#, r#"{"id":"1\"","#)] {
            let message = format!(r#"{{"event":"update","payload":{payload}}}"#);
            let body = body(&message, true);
            for (annotation, filtered) in
                [(None, "[]"), (Some(&annotation), r#"[{"filter":{"title":"a\"b"}}]"#)]
            {
                let expected = format!("{head}\"filtered\":{filtered}}}");
                let frame = body.websocket_frame("[\"public\"]", annotation).unwrap();
                let start = frame.iter().position(|&byte| byte == b'{').unwrap();
                let value: Value = serde_json::from_slice(&frame[start..]).unwrap();
                assert_eq!(value["payload"], Value::String(expected.clone()));
                assert_eq!(data(&body.event_stream_chunks(annotation).unwrap()), expected);
            }
        }
    }

    #[test]
    fn a_payload_that_is_no_object_is_never_annotated() {
        let body = body(r#"{"event":"update","payload":"x"}"#, true);
        let annotation = Annotation::new(b"[1]".to_vec());
        let frame = body.websocket_frame("[]", Some(&annotation)).unwrap();
        assert_eq!(&frame[2..], br#"{"stream":[],"event":"update","payload":"x"}"#);
    }

    #[test]
    fn only_wanted_transports_are_served() {
        let event = Event::parse(br#"{"event":"delete","payload":"1"}"#, 128).unwrap();
        let neither = Body::new(&event, Wants::default(), false);
        assert_eq!(neither.websocket_frame("[]", None), None);
        assert_eq!(neither.event_stream_chunks(None), None);
        let websocket = Wants { websocket: true, event_stream: false };
        assert!(Body::new(&event, websocket, false).websocket_frame("[]", None).is_some());
        assert!(Body::new(&event, websocket, false).event_stream_chunks(None).is_none());
        assert!((websocket | Wants::default()) == websocket && Wants::default().is_empty());
    }

    #[test]
    fn labels_are_json() {
        assert_eq!(label_json("public", None), r#"["public"]"#);
        assert_eq!(label_json("hashtag", Some("CAFÉ")), r#"["hashtag","CAFÉ"]"#);
        assert_eq!(label_json("hashtag", Some("\"\\\n\u{1}")), r#"["hashtag","\"\\\n\u0001"]"#);
    }

    proptest! {
        #[test]
        fn frames_of_any_length_carry_the_payload(length in 0_usize..70_000, quotes: bool) {
            let text = if quotes { "\\\"" } else { "xy" }.repeat(length / 2);
            let message = format!(r#"{{"event":"e","payload":{{"t":"{text}"}}}}"#);
            let frame = body(&message, false).websocket_frame("[\"user\"]", None).unwrap();
            let (header, payload) = match frame[1] {
                126 => (4, u64::from(u16::from_be_bytes([frame[2], frame[3]]))),
                127 => (10, u64::from_be_bytes(frame[2..10].try_into().unwrap())),
                short => (2, u64::from(short)),
            };
            prop_assert_eq!(payload, (frame.len() - header) as u64);
            let value: Value = serde_json::from_slice(&frame[header..]).unwrap();
            prop_assert_eq!(&value["payload"], &Value::String(format!(r#"{{"t":"{text}"}}"#)));
        }
    }
}
