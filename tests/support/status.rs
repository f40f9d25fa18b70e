//! Statuses as Rails publishes them.

use serde_json::{Value, json};

/// A status to publish, remote and in English unless changed.
#[derive(Clone, Debug)]
pub struct Status(pub Value);

impl Status {
    /// A status with this id, by somebody remote.
    pub fn new(id: u64) -> Status {
        Status(json!({
            "id": id.to_string(),
            "created_at": "2026-11-23T03:00:00.000Z",
            "language": "en",
            "visibility": "public",
            "spoiler_text": "",
            "content": "<p>hello world</p>",
            "account": {
                "id": "109999999999999999",
                "username": "alice",
                "acct": "alice@remote.example"
            },
            "media_attachments": [],
            "mentions": [],
            "tags": [],
            "emojis": [],
            "poll": null
        }))
    }

    /// Sets a top-level key.
    pub fn set(mut self, key: &str, value: Value) -> Status {
        self.0[key] = value;
        self
    }

    /// By this account; `acct` is `name` for a local one and `name@domain` for a remote one.
    pub fn by(self, account: u64, acct: &str) -> Status {
        let name = acct.split('@').next().unwrap_or(acct);
        let author = json!({"id": account.to_string(), "username": name, "acct": acct});
        self.set("account", author)
    }

    /// Mentions this account.
    pub fn mentioning(mut self, account: u64) -> Status {
        if let Some(mentions) = self.0["mentions"].as_array_mut() {
            mentions.push(json!({"id": account.to_string(), "username": "men", "acct": "men"}));
        }
        self
    }

    /// With this text, as HTML.
    pub fn text(self, html: &str) -> Status {
        self.set("content", json!(html))
    }

    /// The Redis message of an `update`.
    pub fn update(&self) -> String {
        self.message("update")
    }

    /// The Redis message of an event with this status.
    pub fn message(&self, event: &str) -> String {
        json!({"event": event, "payload": self.0}).to_string()
    }
}

/// The Redis message of an event with a payload.
pub fn message(event: &str, payload: impl Into<Value>) -> String {
    json!({"event": event, "payload": payload.into()}).to_string()
}
