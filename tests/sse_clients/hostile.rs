//! Events with everything in them that the format, or a reader of it, could trip over.

use serde::Deserialize;
use serde_json::Value;

/// The event behind which nothing comes.
pub const LAST: &str = "the.end";

/// Payloads from this many bytes on are compared by length, beginning and end.
const BYTES_SHOWN_MAX: usize = 1000;

/// An event as Rails publishes it, and as a reader must show it.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its name as JSON text.
    name: String,
    /// Its payload as JSON text.
    payload: String,
    /// Name and data as readers get them; `None` if the event is dropped.
    read: Option<(String, String)>,
}

/// An event as a reader shows it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Shown {
    /// Its name.
    pub event: String,
    /// Its data, shortened if it is long.
    pub data: String,
}

impl Shown {
    /// An event that was read.
    pub fn of((event, data): &(String, String)) -> Shown {
        Shown { event: event.clone(), data: shortened(data) }
    }
}

impl Event {
    /// The message for Redis.
    pub fn message(&self) -> String {
        format!(r#"{{"event":{},"payload":{}}}"#, self.name, self.payload)
    }

    /// What readers show.
    pub fn shown(&self) -> Option<Shown> {
        self.read.as_ref().map(Shown::of)
    }
}

/// The first and last letters, and how many there are (as JavaScript and Python count in UTF-8).
fn shortened(data: &str) -> String {
    if data.len() < BYTES_SHOWN_MAX {
        return data.to_string();
    }
    let sum =
        data.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    format!("{} bytes, sum {sum}", data.len())
}

/// Every event, in the order of their publication.
pub fn events() -> Vec<Event> {
    let mut all: Vec<Event> = texts().into_iter().map(|text| payload(&text)).collect();
    all.extend(escapes());
    all.extend(objects());
    all.extend(names());
    all.extend(long());
    all.push(named(LAST, LAST, "all"));
    all
}

/// A payload that is a string.
fn payload(text: &str) -> Event {
    named("update", "update", text)
}

/// An event of this name; `read` is what readers get of the name.
fn named(name: &str, read: &str, text: &str) -> Event {
    let data = text.replace("\r\n", "\n").replace('\r', "\n");
    Event {
        name: Value::from(name).to_string(),
        payload: Value::from(text).to_string(),
        // The Node server drops what has no payload.
        read: (!text.is_empty()).then(|| (read.to_string(), data)),
    }
}

fn texts() -> Vec<String> {
    // Whatever some language takes for the end of a line, and what WHATWG takes for it.
    let breaks = [
        "\n", "\r", "\r\n", "\n\r", "\r\r", "\n\n", "\r\n\r\n", "\u{b}", "\u{c}", "\u{1c}",
        "\u{1d}", "\u{1e}", "\u{85}", "\u{2028}", "\u{2029}",
    ];
    let around = breaks.iter().flat_map(|it| {
        [it.to_string(), format!("a{it}b"), format!("{it}a"), format!("a{it}"), format!("a{it} b")]
    });
    let others = [
        "",
        " ",
        "  ",
        " a",
        "  a",
        "a ",
        "\t",
        "\ta",
        ":",
        ": a",
        "data: a",
        "a\ndata: b",
        "a\n\ndata: b",
        "a\nevent: b",
        "a\rid: b",
        "a\r\nretry: 0",
        "a\n: b",
        "a\n:thump\n\nb",
        "id: 1",
        "retry: 1",
        "event: x",
        "\0",
        "a\0b",
        "\u{1}\u{7f}",
        "\u{feff}",
        "\u{feff}a",
        "a\u{feff}b",
        "a\n\u{feff}b",
        "\u{1f600}",
        "\u{10ffff}",
        "\u{fffd}\u{fffe}\u{ffff}",
        "\u{1f468}\u{200d}\u{1f469}",
        "e\u{301}",
        "\u{202e}abc",
        "12345",
        "null",
        "true",
        "\"",
        "\\n",
        "</script>",
        "0\r\n\r\n",
        "5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    ];
    around.chain(others.map(ToString::to_string)).collect()
}

/// Escapes of JSON that are no text.
fn escapes() -> Vec<Event> {
    let case = |payload: &str, data: &str| Event {
        name: r#""update""#.to_string(),
        payload: payload.to_string(),
        read: Some(("update".to_string(), data.to_string())),
    };
    vec![
        case(r#""\ud800""#, "\u{fffd}"),
        case(r#""a\udfffb""#, "a\u{fffd}b"),
        case(r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
        case(r#""\u0000\u000a\u2028""#, "\0\n\u{2028}"),
        case(r#""\/\b\f""#, "/\u{8}\u{c}"),
        case("5", "5"),
        case("true", "true"),
        case(r#"["\r"]"#, r#"["\r"]"#),
    ]
}

/// Payloads that are objects, as most are: their line breaks are escapes of JSON.
fn objects() -> Vec<Event> {
    let case = |payload: &str, data: &str| Event {
        name: r#""update""#.to_string(),
        payload: payload.to_string(),
        read: Some(("update".to_string(), data.to_string())),
    };
    vec![
        case("{}", "{}"),
        case("{\n \"a\" :\r\n 1 }", r#"{"a":1}"#),
        case(
            r#"{"a":"b\r\n\r\nc\u000b\u2028\u0085"}"#,
            "{\"a\":\"b\\r\\n\\r\\nc\\u000b\u{2028}\u{85}\"}",
        ),
        case(r#"{"a":"\ud800"}"#, r#"{"a":"\ud800"}"#),
        case(r#"{"a":"\ud83d\ude00\u0000"}"#, "{\"a\":\"\u{1f600}\\u0000\"}"),
        case("{\"\u{2028}\":\"\u{feff}\"}", "{\"\u{2028}\":\"\u{feff}\"}"),
    ]
}

fn names() -> Vec<Event> {
    vec![
        named("message", "message", "a"),
        named("somewhat.new", "somewhat.new", "a"),
        named("with a blank", "with a blank", "a"),
        named(" blank first", " blank first", "a"),
        named("a:b", "a:b", "a"),
        named(": a", ": a", "a"),
        named("data: x", "data: x", "a"),
        named("\u{e9}v\u{e9}nement", "\u{e9}v\u{e9}nement", "a"),
        named("line\u{2028}separator", "line\u{2028}separator", "a"),
        named("a\nb", "ab", "a"),
        named("a\r\ndata: b", "adata: b", "a"),
        named("constructor", "constructor", "a"),
        named("__proto__", "__proto__", "a"),
    ]
}

/// Longer than any buffer on the way.
fn long() -> Vec<Event> {
    let mixed = "<p>caf\u{e9} \u{1f600}\n</p>\u{2028}".repeat(6000);
    vec![payload(&"a".repeat(100_000)), payload(&mixed), payload(&"\n".repeat(5000))]
}

/// Every name that a reader must listen for.
pub fn event_names() -> Vec<String> {
    let mut names: Vec<String> =
        events().iter().filter_map(|event| Some(event.shown()?.event)).collect();
    names.sort();
    names.dedup();
    names
}
