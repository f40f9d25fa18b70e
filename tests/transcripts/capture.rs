//! The captures, `all.jsonl`: what was sent to the Node server and what it answered, in base64,
//! with notes of what happened around it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// One captured case.
#[derive(Clone, Debug)]
pub struct Case {
    /// `ws-kill-token`.
    pub name: String,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// One step of a case. Connections are numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The client sent these bytes.
    Sent(u64, Vec<u8>),
    /// The server sent these bytes.
    Received(u64, Vec<u8>),
    /// The server ended the connection.
    Ended(u64),
    /// What happened around it.
    Note(String),
}

/// Every case, in the order of the file.
pub fn cases() -> Vec<Case> {
    include_str!("all.jsonl").lines().map(parse).collect()
}

fn parse(line: &str) -> Case {
    let value: Value = serde_json::from_str(line).expect("a line of JSON");
    let steps = value["steps"].as_array().expect("steps").iter().map(parse_step).collect();
    Case { name: value["case"].as_str().expect("a name").to_string(), steps }
}

fn parse_step(value: &Value) -> Step {
    let connection = value["conn"].as_u64().unwrap_or(0);
    if let Some(note) = value["note"].as_str() {
        return Step::Note(note.to_string());
    }
    if value["end"].is_string() {
        return Step::Ended(connection);
    }
    let bytes = |key: &str| value[key].as_str().map(|text| STANDARD.decode(text).expect("base64"));
    match (bytes("send"), bytes("recv")) {
        (Some(sent), None) => Step::Sent(connection, sent),
        (None, Some(received)) => Step::Received(connection, received),
        _ => panic!("an unknown kind of step: {value}"),
    }
}
