//! Checks every delivery: the right channel, once, in order, and every byte as it should be.
//!
//! The first delivery of a status in some form is taken apart as JSON and compared with what was
//! published. Its bytes are then kept: the next delivery in the same form need only be equal
//! outside its numbers, which is as cheap as comparing memory.

use std::sync::Arc;

use serde_json::Value;

use super::plan::{Plan, Transport};
use super::status::{ID_BYTES, MARKER_BYTES, Marker, TEMPLATES, Templates};

/// Forms kept for one status on one stream: readers whose filters match get forms of their own.
const FORMS_MAX: usize = 8;

/// No status was received yet: any may be the first.
pub const UNSEEN: u32 = u32::MAX;

/// What is wrong with a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// It was delivered before, or is older than what was.
    Again,
    /// So many before it were not delivered.
    Missed(u32),
    /// It is not for this client.
    Stray,
    /// It is not what was published.
    Altered,
}

/// Knows what was published, and how it may look.
pub struct Verifier {
    plan: Arc<Plan>,
    templates: Arc<Templates>,
    /// For each stream, transport and status: forms known to be good.
    forms: Vec<Vec<Form>>,
    /// Kept between uses: a message put together from chunks.
    is_bare: bool,
}

struct Form {
    bytes: Box<[u8]>,
    id_at: usize,
    marker_at: usize,
}

impl Verifier {
    /// With `is_bare`, payloads may be objects instead of strings: the bare program of
    /// `benches/floor.rs` sends what Redis gave it.
    pub fn new(plan: Arc<Plan>, templates: Arc<Templates>, is_bare: bool) -> Verifier {
        let slots = plan.streams.len() * 2 * TEMPLATES;
        let forms = (0..slots).map(|_| Vec::new()).collect();
        Verifier { plan, templates, forms, is_bare }
    }

    /// Looks at a message for a client. `Ok(None)`: it is not one of ours. `next` is the sequence
    /// number that the client waits for.
    pub fn look(
        &mut self,
        client: u32,
        text: &[u8],
        next: &mut u32,
    ) -> Result<Option<Marker>, (Marker, Wrong)> {
        let Some((marker_at, marker)) = Marker::find(text) else { return Ok(None) };
        if marker.channel != self.plan.channel(client) {
            return Err((marker, Wrong::Stray));
        }
        if !self.is_intact(client, text, marker_at, &marker) {
            return Err((marker, Wrong::Altered));
        }
        let expected = std::mem::replace(next, marker.sequence.saturating_add(1));
        if expected == UNSEEN || expected == marker.sequence {
            return Ok(Some(marker));
        }
        if marker.sequence < expected {
            *next = expected;
            return Err((marker, Wrong::Again));
        }
        Err((marker, Wrong::Missed(marker.sequence - expected)))
    }

    fn is_intact(&mut self, client: u32, text: &[u8], marker_at: usize, marker: &Marker) -> bool {
        let transport = self.plan.transport(client);
        let stream = self.plan.stream_index(client);
        let group = stream * 2 + usize::from(transport == Transport::EventStream);
        let Some(forms) = self.forms.get_mut(group * TEMPLATES + marker.template) else {
            return false;
        };
        if forms.iter().any(|form| form.fits(text, marker_at, marker)) {
            return true;
        }
        let label = self.plan.streams.get(stream).map(|stream| stream.label()).unwrap_or_default();
        let status = status_of(text, transport, &label, self.is_bare);
        let expected = self.templates.get(marker.template).map(|template| &template.status);
        let is_intact = match (status, expected) {
            (Some(status), Some(expected)) => is_same(status, expected, marker),
            _ => false,
        };
        if is_intact && forms.len() < FORMS_MAX {
            let id_at = memchr::memmem::find(text, &marker.id());
            forms.extend(id_at.map(|id_at| Form { bytes: text.into(), id_at, marker_at }));
        }
        is_intact
    }
}

impl Form {
    fn fits(&self, text: &[u8], marker_at: usize, marker: &Marker) -> bool {
        let same = |from: usize, to: usize| text.get(from..to) == self.bytes.get(from..to);
        text.len() == self.bytes.len()
            && marker_at == self.marker_at
            && same(0, self.id_at)
            && text.get(self.id_at..self.id_at + ID_BYTES) == Some(&marker.id()[..])
            && same(self.id_at + ID_BYTES, marker_at)
            && same(marker_at + MARKER_BYTES, text.len())
    }
}

/// The status in a message of the API, if everything around it is right.
fn status_of(text: &[u8], transport: Transport, label: &[&str], is_bare: bool) -> Option<Value> {
    match transport {
        Transport::WebSocket => {
            let mut message: Value = serde_json::from_slice(text).ok()?;
            let payload = message.get_mut("payload")?.take();
            if message.get("event")? != "update" {
                return None;
            }
            match payload {
                Value::String(text) if is_label(message.get("stream")?, label) => {
                    serde_json::from_str(&text).ok()
                }
                Value::Object(_) if is_bare => Some(payload),
                _ => None,
            }
        }
        Transport::EventStream => {
            let data = text.strip_prefix(b"event: update\ndata: ")?.strip_suffix(b"\n\n")?;
            serde_json::from_slice(data).ok()
        }
    }
}

fn is_label(value: &Value, label: &[&str]) -> bool {
    value.as_array().is_some_and(|words| words.iter().eq(label.iter()))
}

fn is_same(mut status: Value, expected: &Value, marker: &Marker) -> bool {
    let Some(fields) = status.as_object_mut() else { return false };
    fields.remove("filtered");
    for (key, number) in [("id", &marker.id()[..]), ("uri", &marker.text()[..])] {
        let (Some(value), Some(blank)) = (fields.get_mut(key), expected.get(key)) else {
            return false;
        };
        if !is_filled_in(value, blank, number) {
            return false;
        }
        *value = blank.clone();
    }
    status == *expected
}

/// Whether `value` is `blank` with its last digits replaced by `number`.
fn is_filled_in(value: &Value, blank: &Value, number: &[u8]) -> bool {
    let (Some(value), Some(blank)) = (value.as_str(), blank.as_str()) else { return false };
    let before = blank.len().saturating_sub(number.len());
    value.as_bytes().strip_suffix(number) == blank.as_bytes().get(..before)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::load::plan::{Accounts, ChannelNumber, Stream};

    const WS: u32 = 0;
    const SSE: u32 = 1;

    fn verifier() -> Verifier {
        let plan = Plan {
            transports: vec![Transport::WebSocket, Transport::EventStream],
            streams: vec![Stream::Public("public")],
            accounts: Accounts::Listed(vec![("a".to_owned(), 1)]),
            first_account: 0,
            host: String::new(),
        };
        Verifier::new(Arc::new(plan), Arc::new(Templates::new(None)), false)
    }

    fn marker(sequence: u32) -> Marker {
        Marker { template: 5, channel: ChannelNumber(0), sequence, intended_nanos: 9 }
    }

    /// As the Node server sends it: parsed, annotated and serialised again.
    fn delivered(client: u32, marker: &Marker) -> String {
        let mut message = Vec::new();
        Templates::new(None).get(marker.template).unwrap().push_message(marker, &mut message);
        let mut value: Value = serde_json::from_slice(&message).unwrap();
        let mut payload = value["payload"].take();
        payload["filtered"] = json!([]);
        match client {
            WS => json!({"stream": ["public"], "event": "update", "payload": payload.to_string()})
                .to_string(),
            _ => format!("event: update\ndata: {payload}\n\n"),
        }
    }

    #[test]
    fn whole_deliveries_in_order_pass_on_both_transports() {
        let mut verifier = verifier();
        for client in [WS, SSE] {
            let mut next = UNSEEN;
            for sequence in 3..9 {
                let text = delivered(client, &marker(sequence));
                let seen = verifier.look(client, text.as_bytes(), &mut next);
                assert_eq!(seen, Ok(Some(marker(sequence))));
                assert_eq!(next, sequence + 1);
            }
        }
    }

    #[test]
    fn repetitions_gaps_and_strays_are_told() {
        let mut verifier = verifier();
        let mut next = 5;
        let mut look = |sequence| {
            let text = delivered(WS, &marker(sequence));
            verifier.look(WS, text.as_bytes(), &mut next).map_err(|(_, wrong)| wrong)
        };
        assert_eq!(look(4), Err(Wrong::Again));
        assert_eq!(look(8), Err(Wrong::Missed(3)));
        assert_eq!(look(8), Err(Wrong::Again));
        assert!(look(9).is_ok());
        let stray = Marker { channel: ChannelNumber(1), ..marker(10) };
        let seen = verifier.look(WS, delivered(WS, &stray).as_bytes(), &mut next);
        assert_eq!(seen, Err((stray, Wrong::Stray)));
    }

    #[test]
    fn any_altered_byte_is_noticed_before_and_after_a_form_is_known() {
        let mut verifier = verifier();
        let text = delivered(WS, &marker(1)).into_bytes();
        for round in 0..2 {
            for place in (0..text.len()).step_by(3) {
                let mut altered = text.clone();
                altered[place] = if altered[place] == b'x' { b'y' } else { b'x' };
                let seen = verifier.look(WS, &altered, &mut 1);
                assert!(!matches!(seen, Ok(Some(_))), "{round} {place}");
            }
            assert!(verifier.look(WS, &text, &mut 1).is_ok());
        }
        assert_eq!(verifier.look(WS, b"{\"event\":\"delete\"}", &mut 1), Ok(None));
    }
}
