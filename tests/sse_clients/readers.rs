//! The readers: libraries and a browser, each in a process of its own that reads every stream at
//! once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::hostile::{LAST, Shown, event_names};
use crate::support::{Script, World};
use crate::{expected, publish};

const READERS: [&str; 3] =
    ["sse_clients/eventsource.mjs", "sse_clients/sseclient_py.py", "sse_clients/browser.mjs"];

/// A stream and the way to it.
pub struct Place {
    /// What the way is called.
    pub name: String,
    /// The port on this machine.
    pub port: u16,
    /// The path with its query.
    pub path: String,
}

/// Has every reader read every stream, publishes all events, and insists that each reader got each
/// event of each stream, in order and as it should.
#[track_caller]
pub fn read_alike(world: &World, places: &[Place]) {
    let streams: Vec<Value> = places
        .iter()
        .map(|place| json!({"key": place.name, "port": place.port, "path": place.path}))
        .collect();
    let task = json!({"streams": streams, "names": event_names(), "last": LAST}).to_string();
    let start = |script: &&str| Script::start(script, &[], &[("TASK", task.clone())]);
    let mut scripts: Vec<Script> = READERS.iter().map(start).collect();
    world.await_subscriptions(READERS.len() * places.len());
    publish(world);
    for (script, reader) in scripts.iter_mut().zip(READERS) {
        script.wait();
        let read = events_of(&script.lines());
        assert_eq!(read.len(), places.len(), "{reader}: {:?}", read.keys());
        for (place, events) in read {
            compare(&format!("{reader}, {place}"), &events);
        }
    }
}

fn events_of(lines: &[Value]) -> BTreeMap<String, Vec<Shown>> {
    let mut all: BTreeMap<String, Vec<Shown>> = BTreeMap::new();
    for line in lines {
        let key = line["key"].as_str().expect("a key").to_string();
        let event = serde_json::from_value(line.clone()).expect("an event");
        all.entry(key).or_default().push(event);
    }
    all
}

#[track_caller]
fn compare(what: &str, events: &[Shown]) {
    let expected = expected();
    for (number, (got, wanted)) in events.iter().zip(&expected).enumerate() {
        assert_eq!(got, wanted, "{what}: event {number}");
    }
    assert_eq!(events.len(), expected.len(), "{what}: events");
}
