//! Which requests Node's own parser reads in the same bytes (`node:http`, strict as it is by
//! default; `node.mjs` beside this file).

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::case::{Case, Node, PROBE};
use crate::support::process::{run, scratch};

/// The cases in which Node's parser read more before version 20.
pub const OLD_NODE_READS_MORE: [&str; 12] = [
    "0x0c in the target",
    "CR before the empty line",
    "LF CR",
    "LF after the request line",
    "LF as the empty line",
    "a blank before the colon",
    "a blank in a name",
    "a fold before the first header",
    "a tab before the version",
    "bytes that are no UTF-8",
    "letters beyond ASCII",
    "no name",
];

/// What Node made of the cases.
#[derive(Deserialize)]
pub struct NodeReading {
    /// Its version, the first number.
    major: u32,
    /// The request lines that it has read in each case, in order.
    read: BTreeMap<String, Vec<String>>,
}

/// Gives the bytes of all cases to Node.
pub fn read(cases: &[Case]) -> NodeReading {
    let directory = scratch("node");
    let path = directory.path().join("cases.json");
    let all: Vec<Value> = cases
        .iter()
        .map(|case| {
            let bytes = STANDARD.encode([&case.bytes, PROBE].concat());
            json!({"name": case.name, "bytes": bytes})
        })
        .collect();
    std::fs::write(&path, json!(all).to_string()).expect("write the cases");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance_http1/node.mjs");
    let output = run(Command::new("node").arg(script).arg(&path));
    serde_json::from_str(&output).expect("what Node has read")
}

impl NodeReading {
    /// This server reads as many requests as Node; where it reads fewer, the case says why; it
    /// never reads more.
    pub fn compare(&self, case: &Case, ours: usize) -> Result<(), String> {
        let theirs = self.read.get(&case.name).ok_or("Node has not said anything")?;
        let count = theirs.len();
        let may_read_more = match case.node {
            Node::Same => false,
            Node::ReadsMore(_) => true,
            Node::OldReadsMore => self.major < 20,
        };
        let read = format!("we read {ours} requests, Node {}: {count}: {theirs:?}", self.major);
        match ours.cmp(&count) {
            Ordering::Greater => Err(format!("{read}: two readers disagree")),
            Ordering::Less if !may_read_more => Err(format!("{read}: why?")),
            Ordering::Equal if may_read_more => Err(format!("{read}: not more than we")),
            _ => Ok(()),
        }
    }
}
