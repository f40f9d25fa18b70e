//! An event as bytes for sockets. What all readers of an event share is serialised once ([`Body`], in the control
//! core); a shard puts a label in front and, for readers with matching custom filters, an annotation at the end.

use std::ops::BitOr;

use crate::protocol::event::Event;

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
    websocket: Option<Box<[u8]>>,
    event_stream: Option<Box<[u8]>>,
}

/// The `filtered` array of one account for one status, as JSON text, ready for both transports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    plain: Box<[u8]>,
    escaped: Box<[u8]>,
}

impl Annotation {
    /// Takes the array as compact JSON text, such as `[{"filter":…}]`.
    pub fn new(filtered: Vec<u8>) -> Annotation {
        Annotation { escaped: filtered.clone().into(), plain: filtered.into() }
    }

    /// The array as JSON text.
    pub fn json(&self) -> &[u8] {
        &self.plain
    }
}

impl Body {
    /// Serialises an event for the wanted transports. `annotate`: it is a status on a filtered stream without a
    /// key `filtered` of its own, so each reader's `filtered` goes last into the payload. Ignored if the
    /// payload is no object.
    pub fn new(event: &Event, wants: Wants, annotate: bool) -> Body {
        let _ = (event, wants, annotate);
        unimplemented!()
    }

    /// A complete, unmasked text frame with its header:
    /// `{"stream":LABEL,"event":NAME,"payload":"…"}`. `label` is JSON text (see [`label_json`]). Without an
    /// annotation, an annotated body says `"filtered":[]`. `None` if the body was not built for WebSockets:
    /// the reader came after the event.
    pub fn websocket_frame(&self, label: &str, annotation: Option<&Annotation>) -> Option<Vec<u8>> {
        let _ = (label, annotation.map(|a| &a.escaped), &self.websocket);
        unimplemented!()
    }

    /// The two chunks of an event stream. `None` if the body was not built for event streams.
    pub fn event_stream_chunks(&self, annotation: Option<&Annotation>) -> Option<Vec<u8>> {
        let _ = (annotation, &self.event_stream);
        unimplemented!()
    }
}

/// A label as JSON text: `["public"]`, `["hashtag","CAFÉ"]`.
pub fn label_json(name: &str, argument: Option<&str>) -> String {
    let _ = (name, argument);
    unimplemented!()
}
