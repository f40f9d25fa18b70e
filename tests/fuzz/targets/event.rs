//! Messages of Rails on their way to clients. Whatever the bytes:
//!
//! * they are taken for JSON exactly when serde_json takes them for JSON (and when they are not
//!   nested too deep);
//! * they are spelled anew as `JSON.stringify(JSON.parse(text))` spells them, by a second
//!   implementation; spelled anew once more, nothing changes;
//! * they are the event, the system event and the facts of a status that the tree says; nothing
//!   that makes sense is withheld;
//! * a WebSocket and an event stream are told the same name and payload.

use serde::de::IgnoredAny;
use trunkline::protocol::event::{Dropped, Event, Kind, StatusFacts, SystemEvent, system_event};
use trunkline::protocol::frame::{Annotation, Body, Wants};
use trunkline::protocol::ids::AccountId;
use trunkline::protocol::json::{self, Form};

use super::event_stream::{dechunked, dispatched};
use super::json_model::{Value, parse, stringify};

/// Arrays and objects in each other. Small enough to be reached.
const DEPTH_MAX: usize = 12;
const BOTH: Wants = Wants { websocket: true, event_stream: true };

pub fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let tree = parse(&text, DEPTH_MAX);
    let is_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
    assert_eq!(tree.is_some(), is_json && depth(&text) <= DEPTH_MAX, "the models are at odds");
    let anew = json::rewrite(input, DEPTH_MAX).ok().map(|anew| String::from_utf8(anew).unwrap());
    assert_eq!(anew, tree.as_ref().map(stringify));
    let Some((anew, tree)) = anew.zip(tree) else {
        assert!(matches!(Event::parse(input, DEPTH_MAX), Err(Dropped::NotJson)));
        assert_eq!(system_event(input, DEPTH_MAX), None);
        return;
    };
    assert_eq!(json::rewrite(anew.as_bytes(), DEPTH_MAX).unwrap(), anew.as_bytes());
    let mut escaped = Vec::new();
    json::escape(anew.as_bytes(), &mut escaped);
    let escaped = format!("\"{}\"", String::from_utf8(escaped).unwrap());
    assert_eq!(serde_json::from_str::<String>(&escaped).ok(), Some(anew.clone()));
    assert_eq!(json::unescape(escaped.as_bytes()), anew.as_bytes());

    let name = tree.get("event");
    let expected = match name.and_then(Value::text).as_deref() {
        Some("kill") => Some(SystemEvent::Kill),
        Some("filters_changed") => Some(SystemEvent::FiltersChanged),
        _ => None,
    };
    assert_eq!(system_event(input, DEPTH_MAX), expected);
    let name = name.filter(|name| name.is_truthy());
    let payload = tree.get("payload").filter(|payload| payload.is_truthy());
    match (Event::parse(input, DEPTH_MAX), name, payload) {
        (Ok(event), Some(name), Some(payload)) => is_event(&event, name, payload),
        (Err(Dropped::NoEvent), None, _) | (Err(Dropped::NoPayload), Some(_), None) => {}
        (event, ..) => panic!("{event:?}"),
    }
}

/// How deep brackets stand in each other, outside of strings.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if std::mem::take(&mut escaped) => {}
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn is_event(event: &Event, name: &Value, payload: &Value) {
    assert_eq!(event.name_json(), stringify(name).as_bytes());
    assert_eq!(event.payload_json(), stringify(payload).as_bytes());
    let form = match payload {
        Value::Object(_) => Form::Object,
        Value::Array(_) => Form::Array,
        Value::Text(_) => Form::String,
        Value::Bool(true) => Form::True,
        _ => Form::Number,
    };
    assert_eq!(event.payload_form(), form);
    let kind = match name.text().as_deref() {
        Some("update") => Kind::Update,
        Some("status.update") => Kind::StatusUpdate,
        _ => Kind::Other,
    };
    assert_eq!(event.kind(), kind);
    is_told(event, name, payload, None);
    let filtered = br#"[{"filter":{"id":"1","title":"\"\\"},"keyword_matches":["x"]}]"#;
    for annotation in [None, Some(Annotation::new(filtered.to_vec()))] {
        is_told(event, name, payload, Some(annotation));
    }
    match event.status() {
        Ok(facts) => are_facts(&facts, payload),
        Err(_) => assert!(is_uncheckable(payload), "withheld: {}", stringify(payload)),
    }
}

/// What clients are told. `annotation`: it is a status on a filtered stream, and perhaps a filter
/// of the reader has found something.
fn is_told(event: &Event, name: &Value, payload: &Value, annotation: Option<Option<Annotation>>) {
    let body = Body::new(event, BOTH, annotation.is_some());
    let mut payload = payload.clone();
    let annotation = annotation.inspect(|annotation| {
        let filtered = annotation.as_ref().map_or(&b"[]"[..], Annotation::json);
        let filtered = parse(std::str::from_utf8(filtered).unwrap(), 9).unwrap();
        if let Value::Object(members) = &mut payload {
            members.push(("filtered".encode_utf16().collect(), filtered));
        }
    });
    let annotation = annotation.flatten();
    let label = r#"["hashtag","caf\u00e9 \"\\"]"#;
    let frame = body.websocket_frame(label, annotation.as_ref()).unwrap();
    let message = parse(text_of(&frame), DEPTH_MAX + 2).unwrap();
    let Value::Object(members) = &message else { panic!("no object") };
    let keys: Vec<String> = members.iter().map(|(key, _)| String::from_utf16_lossy(key)).collect();
    assert_eq!(keys, ["stream", "event", "payload"]);
    assert_eq!(message.get("stream"), parse(label, 2).as_ref());
    let told = match &payload {
        // `JSON.stringify` is applied once more to what is no string, number or truth value.
        Value::Object(_) | Value::Array(_) => {
            Value::Text(stringify(&payload).encode_utf16().collect())
        }
        // Infinity, once written, is null.
        Value::Number(spelled) if spelled == "null" => Value::Null,
        other => other.clone(),
    };
    assert_eq!(message.get("payload"), Some(&told));
    let chunks = body.event_stream_chunks(annotation.as_ref()).unwrap();
    let lines = |text: String| text.replace("\r\n", "\n").replace('\r', "\n");
    let name = name.text().unwrap_or_else(|| stringify(name)).replace(['\r', '\n'], "");
    let data = lines(payload.text().unwrap_or_else(|| stringify(&payload)));
    assert_eq!(dispatched(&[&dechunked(&[&chunks]).0]), [(name, data)]);
}

/// The text of a whole unmasked text frame.
fn text_of(frame: &[u8]) -> &str {
    assert_eq!(frame[0], 0x81);
    let (header, length) = match frame[1] {
        126 => (4, u64::from(u16::from_be_bytes([frame[2], frame[3]]))),
        127 => (10, u64::from_be_bytes(frame[2..10].try_into().unwrap())),
        short => (2, u64::from(short)),
    };
    assert_eq!(length, (frame.len() - header) as u64);
    assert!(header == 2 || length > 125 && (header == 4 || length > 0xffff));
    std::str::from_utf8(&frame[header..]).unwrap()
}

fn are_facts(facts: &StatusFacts<'_>, payload: &Value) {
    let account = payload.get("account").unwrap();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::text);
    assert_eq!(Some(facts.author), account.get("id").and_then(id));
    assert_eq!(facts.local, account.get("acct") == account.get("username") || lossy(account));
    assert_eq!(facts.language.as_deref(), text(payload, "language").as_deref());
    assert_eq!(facts.local_only, payload.get("local_only") == Some(&Value::Bool(true)));
    assert_eq!(facts.has_filtered, payload.get("filtered").is_some());
    let acct = text(account, "acct").unwrap();
    let domain = acct.split('@').nth(1).filter(|domain| !domain.is_empty());
    assert_eq!(facts.domain.as_deref(), domain);
    let elements = |value: Option<&Value>| match value {
        Some(Value::Array(elements)) => elements.clone(),
        _ => Vec::new(),
    };
    let mentions = elements(payload.get("mentions"));
    if mentions.iter().all(|mention| matches!(mention, Value::Object(_))) {
        let ids: Option<Vec<AccountId>> =
            mentions.iter().map(|mention| mention.get("id").and_then(id)).collect();
        assert_eq!(Some(&facts.mentions), ids.as_ref());
    }
    let options = elements(payload.get("poll").and_then(|poll| poll.get("options")));
    let media = elements(payload.get("media_attachments"));
    let mut parts = vec![text(payload, "spoiler_text"), text(payload, "content")];
    parts.extend(options.iter().map(|option| text(option, "title")));
    parts.extend(media.iter().map(|media| text(media, "description")));
    let all_objects = |values: &[Value]| values.iter().all(|it| matches!(it, Value::Object(_)));
    let parts: Vec<String> = parts.into_iter().map(Option::unwrap_or_default).collect();
    let (plain, joined) = (facts.text.plain(), parts.join("\n\n"));
    assert!(!plain.contains('\0') || !joined.contains(['<', '&', '\r']), "NUL in {plain:?}");
    let is_poll = !matches!(payload.get("poll"), Some(Value::Array(_)));
    let is_plain = !joined.contains(['<', '&', '\r', '\0']);
    if is_plain && is_poll && all_objects(&options) && all_objects(&media) {
        assert_eq!(plain, joined);
    }
}

/// Two names that differ in lone surrogates only are the same as UTF-8.
fn lossy(account: &Value) -> bool {
    let text = |key: &str| account.get(key).and_then(Value::text);
    text("acct") == text("username")
}

/// An id in its one spelling.
fn id(value: &Value) -> Option<AccountId> {
    let digits = match value {
        Value::Text(text) => String::from_utf16(text).ok()?,
        Value::Number(spelled) => spelled.clone(),
        _ => return None,
    };
    let number: i64 = digits.parse().ok()?;
    (number >= 0 && number.to_string() == digits).then_some(AccountId(number))
}

/// There is a reason for which nobody can say who may see this status.
fn is_uncheckable(payload: &Value) -> bool {
    // No serializer writes half a character into a key.
    let is_odd = |object: &Value| {
        matches!(object, Value::Object(members)
        if members.iter().any(|(key, _)| String::from_utf16(key).is_err()))
    };
    let is_text = |value: Option<&Value>| matches!(value, Some(Value::Text(_)));
    let lists = |value: Option<&Value>, fits: &dyn Fn(&Value) -> bool| match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(elements)) => {
            elements.iter().all(|it| matches!(it, Value::Object(_)) && fits(it) && !is_odd(it))
        }
        _ => false,
    };
    let has_account = matches!(payload.get("account"), Some(account @ Value::Object(_))
        if account.get("id").and_then(id).is_some() && !is_odd(account)
            && is_text(account.get("acct")) && is_text(account.get("username")));
    let has_mentions =
        lists(payload.get("mentions"), &|it| it.get("id").is_some_and(|it| id(it).is_some()));
    let has_media = lists(payload.get("media_attachments"), &|_| true);
    let has_poll = match payload.get("poll") {
        None | Some(Value::Null) => true,
        Some(poll @ Value::Object(_)) => !is_odd(poll) && lists(poll.get("options"), &|_| true),
        _ => false,
    };
    is_odd(payload) || !(has_account && has_mentions && has_media && has_poll)
}
