//! What clients are shown: every stream, the channels behind it, and every kind of event on each
//! channel.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Status, User, status};

/// A stream of one user.
#[derive(Clone, Debug)]
pub struct Stream {
    /// How clients of ours call it: the label of its WebSocket messages, joined by a blank.
    pub key: String,
    /// The stream's name on `/metrics`.
    pub name: &'static str,
    /// The path with its query of the event stream.
    pub path: String,
    /// Parameters of the `subscribe` message.
    pub subscribe: Value,
    /// The Redis channels that feed it.
    pub channels: Vec<String>,
}

impl Stream {
    fn new(name: &'static str, path: &str, channels: &[&str]) -> Stream {
        Stream {
            key: name.to_string(),
            name,
            path: format!("/api/v1/streaming/{path}"),
            subscribe: json!({"stream": name}),
            channels: channels.iter().map(ToString::to_string).collect(),
        }
    }

    fn of(self, parameter: &str, value: &str) -> Stream {
        Stream {
            key: format!("{} {value}", self.name),
            path: format!("{}?{parameter}={value}", self.path),
            subscribe: json!({"stream": self.name, parameter: value}),
            ..self
        }
    }

    /// What the scripts in this directory read.
    pub fn to_json(&self) -> Value {
        json!({"key": self.key, "path": self.path, "subscribe": self.subscribe})
    }
}

/// Every stream of a user, as both transports offer it.
pub fn streams(user: User) -> Vec<Stream> {
    let (home, notifications, list) = (user.home(), user.notifications(), user.list().to_string());
    vec![
        Stream::new("user", "user", &[&home, &notifications]),
        Stream::new("user:notification", "user/notification", &[&notifications]),
        Stream::new("public", "public", &["timeline:public"]),
        Stream::new("public:media", "public?only_media=true", &["timeline:public:media"]),
        Stream::new("public:local", "public/local", &["timeline:public:local"]),
        Stream::new(
            "public:local:media",
            "public/local?only_media=true",
            &["timeline:public:local:media"],
        ),
        Stream::new("public:remote", "public/remote", &["timeline:public:remote"]),
        Stream::new(
            "public:remote:media",
            "public/remote?only_media=true",
            &["timeline:public:remote:media"],
        ),
        Stream::new("hashtag", "hashtag", &["timeline:hashtag:x"]).of("tag", "x"),
        Stream::new("hashtag:local", "hashtag/local", &["timeline:hashtag:x:local"]).of("tag", "x"),
        Stream::new("list", "list", &[&format!("timeline:list:{list}")]).of("list", &list),
        Stream::new("direct", "direct", &[&format!("timeline:direct:{}", user.account())]),
    ]
}

/// Every stream of a user and the other paths under which event streams are offered.
pub fn event_streams(user: User) -> Vec<Stream> {
    let mut all = streams(user);
    for (name, path) in [
        ("public:media", "public/media"),
        ("public:local:media", "public/local/media"),
        ("public:remote:media", "public/remote/media"),
    ] {
        let alias = Stream::new(name, path, &[&format!("timeline:{name}")]);
        all.push(Stream { key: path.to_string(), ..alias });
    }
    all
}

/// An event to publish.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Where.
    pub channel: String,
    /// Its kind.
    pub event: &'static str,
    /// Its payload.
    pub payload: Value,
    /// What tells its payload from others of its kind.
    pub mark: String,
}

impl Publication {
    /// The Redis message.
    pub fn message(&self) -> String {
        status::message(self.event, self.payload.clone())
    }
}

/// Every kind of event on every channel of these streams, an unknown kind first: what comes after
/// it shows that it did no harm.
pub fn publications<'a>(streams: impl IntoIterator<Item = &'a Stream>) -> Vec<Publication> {
    let channels: BTreeSet<&String> =
        streams.into_iter().flat_map(|stream| &stream.channels).collect();
    let mut found = Vec::new();
    for channel in channels {
        for event in kinds(channel) {
            found.push(publication(channel, event, 700_001 + found.len() as u64));
        }
    }
    found
}

fn kinds(channel: &str) -> Vec<&'static str> {
    let statuses = ["somewhat.new", "update", "status.update", "delete"];
    let announcements = ["announcement", "announcement.reaction", "announcement.delete"];
    let place = channel.trim_start_matches("timeline:");
    if place.ends_with(":notifications") {
        vec!["somewhat.new", "notification", "notifications_merged"]
    } else if place.starts_with("direct:") {
        vec!["somewhat.new", "conversation"]
    } else if place.parse::<u64>().is_ok() {
        [&statuses[..], &announcements].concat()
    } else {
        statuses.to_vec()
    }
}

fn publication(channel: &str, event: &'static str, number: u64) -> Publication {
    let mark = number.to_string();
    let status = Status::new(number).0;
    let author = status["account"].clone();
    let payload = match event {
        "update" | "status.update" => status,
        "notification" => json!({"id": mark, "type": "mention", "account": author}),
        "conversation" => json!({"id": mark, "unread": true, "accounts": []}),
        "announcement" => json!({"id": mark, "content": "<p>x</p>"}),
        "announcement.reaction" => json!({"name": "x", "count": 1, "announcement_id": mark}),
        "delete" | "announcement.delete" => json!(mark),
        "notifications_merged" => json!("1"),
        _ => json!({"what": mark}),
    };
    let mark = if event == "notifications_merged" { "1".to_string() } else { mark };
    Publication { channel: channel.to_string(), event, payload, mark }
}
