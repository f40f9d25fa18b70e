//! Real client libraries (scripts/install-test-tools puts them into `.test-tools/`): each connects
//! in each way it can, gets every kind of event, survives an unknown one, and is ended by `kill`.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};
use support::process::{Launch, Process, scratch};
use support::{Status, User, World, eventually, status};
use tempfile::TempDir;

/// A client in a process of its own; it prints a line of JSON for each event and for its end.
struct Client {
    process: Process,
    _directory: TempDir,
}

impl Client {
    fn start(
        script: &str,
        base: &str,
        way: &str,
        user: User,
        variables: &[(&str, String)],
    ) -> Client {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let tools = root.join(".test-tools");
        assert!(tools.exists(), "{} is missing: run scripts/install-test-tools", tools.display());
        let python = tools.join("python/bin/python");
        let runner = match script.ends_with(".py") {
            true => python.display().to_string(),
            false => "node".to_string(),
        };
        let directory = scratch("client");
        let script = root.join("tests/clients").join(script).display().to_string();
        let mut environment = vec![
            ("PATH".to_string(), std::env::var("PATH").unwrap_or_default()),
            ("TOOLS".to_string(), tools.display().to_string()),
            ("LIST".to_string(), user.list().to_string()),
        ];
        environment.extend(variables.iter().map(|(name, value)| (name.to_string(), value.clone())));
        let process = Process::start(Launch {
            command: vec![runner, script, base.to_string(), way.to_string(), user.token()],
            environment: Some(environment),
            directory: directory.path(),
            output: directory.path().join("output"),
            user: None,
            end: Signal::KILL,
        });
        Client { process, _directory: directory }
    }

    fn lines(&self) -> Vec<Value> {
        let output = self.process.output();
        output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for a line for which `holds` is true.
    #[track_caller]
    fn await_line(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{what} in:\n{}", self.process.output()), || {
            self.lines().into_iter().find(|line| holds(line))
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the client's output:\n{}---", self.process.output());
        }
    }
}

/// Every kind of event and where Rails publishes it.
fn events(user: User) -> Vec<(String, &'static str, Value)> {
    let status = Status::new(9).0;
    let mut events = Vec::new();
    let list = format!("timeline:list:{}", user.list());
    let timelines = [
        user.home(),
        "timeline:public".to_string(),
        "timeline:public:local".to_string(),
        "timeline:public:remote".to_string(),
        "timeline:hashtag:x".to_string(),
        "timeline:hashtag:x:local".to_string(),
        list,
    ];
    for channel in timelines {
        for event in ["somewhat.new", "update", "status.update"] {
            events.push((channel.clone(), event, status.clone()));
        }
        events.push((channel, "delete", json!("9")));
    }
    let notification = json!({"id": "5", "type": "mention", "account": status["account"]});
    events.push((user.notifications(), "notification", notification));
    events.push((user.notifications(), "notifications_merged", json!("1")));
    let direct = format!("timeline:direct:{}", user.account());
    events.push((direct, "conversation", json!({"id": "6", "unread": true, "accounts": []})));
    events.push((user.home(), "announcement", json!({"id": "7", "content": "<p>x</p>"})));
    events.push((user.home(), "announcement.reaction", json!({"name": "x", "count": 1})));
    events.push((user.home(), "announcement.delete", json!("7")));
    events
}

fn streams(user: User) -> Value {
    json!([
        {"stream": "user"},
        {"stream": "public"},
        {"stream": "public:local"},
        {"stream": "public:remote"},
        {"stream": "hashtag", "tag": "x"},
        {"stream": "hashtag:local", "tag": "x"},
        {"stream": "list", "list": user.list().to_string()},
        {"stream": "direct"}
    ])
}

/// What Rails answers about the instance, so that clients find the streaming server; its address.
fn instance(streaming: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let urls = json!({"streaming_api": streaming, "streaming": streaming});
    let body = json!({
        "uri": "test.example",
        "domain": "test.example",
        "title": "Test",
        "version": "4.7.0",
        "urls": urls,
        "configuration": {"urls": urls, "timelines_access": {}}
    })
    .to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(&stream);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                line.clear();
            }
            let length = body.len();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close";
            let answer = format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}");
            let _ = (&stream).write_all(answer.as_bytes());
        }
    });
    address
}

const KILL: &str = r#"{"event":"kill"}"#;

#[test]
fn websocket_clients_get_every_event_in_every_way_and_are_ended_by_kill() {
    let world = World::start();
    let mut number = 0;
    for script in ["ws.mjs", "websocket_client.py"] {
        for way in ["protocol", "query", "header"] {
            number += 1;
            let user = world.fixture().user(number);
            let variables = [("STREAMS", streams(user).to_string())];
            let base = world.server.url("ws");
            let client = Client::start(script, &base, way, user, &variables);
            let direct = format!("timeline:direct:{}", user.account());
            world.redis.await_subscribers(&direct, 1);
            world.redis.await_subscribers(&user.notifications(), 1);
            for (channel, event, payload) in events(user) {
                let count =
                    |lines: &[Value]| lines.iter().filter(|line| line["event"] == event).count();
                let before = count(&client.lines());
                world.redis.publish_wanted(&channel, status::message(event, payload));
                eventually(&format!("{script} {way}: {event} on {channel}"), || {
                    (count(&client.lines()) > before).then_some(())
                });
            }
            world.redis.publish_wanted(&user.token_channel(), KILL);
            let end = client.await_line("the close", |line| line.get("closed").is_some());
            assert_eq!(end["closed"], 1005, "{script} {way}");
        }
    }
}

#[test]
fn event_stream_clients_get_every_event_in_every_way_and_are_ended_by_kill() {
    let world = World::start();
    let names = [
        "update",
        "status.update",
        "delete",
        "notification",
        "notifications_merged",
        "conversation",
        "announcement",
        "announcement.reaction",
        "announcement.delete",
        "somewhat.new",
    ];
    let mut number = 0;
    for (script, way) in
        [("eventsource.mjs", "header"), ("eventsource.mjs", "query"), ("sseclient_py.py", "header")]
    {
        number += 1;
        let user = world.fixture().user(number);
        let list = user.list();
        let direct = format!("timeline:direct:{}", user.account());
        let list_channel = format!("timeline:list:{list}");
        for (path, channels) in [
            ("user".to_string(), vec![user.home(), user.notifications()]),
            ("public".to_string(), vec!["timeline:public".to_string()]),
            ("public/local".to_string(), vec!["timeline:public:local".to_string()]),
            ("public/remote".to_string(), vec!["timeline:public:remote".to_string()]),
            ("hashtag?tag=x".to_string(), vec!["timeline:hashtag:x".to_string()]),
            (format!("list?list={list}"), vec![list_channel]),
            ("direct".to_string(), vec![direct]),
        ] {
            let variables = [
                ("PATH_OF_STREAM", format!("/api/v1/streaming/{path}")),
                ("EVENTS", json!(names).to_string()),
            ];
            let client = Client::start(script, &world.server.url("http"), way, user, &variables);
            world.redis.await_subscribers(channels.last().expect("a channel"), 1);
            expect_events(&world, &client, user, &channels);
            world.redis.publish_wanted(&user.token_channel(), KILL);
            client.await_line("the end", |line| line.get("closed").is_some());
            world.redis.await_subscribers(&user.token_channel(), 0);
        }
    }
}

/// Publishes every event of these channels and waits for each.
#[track_caller]
fn expect_events(world: &World, client: &Client, user: User, channels: &[String]) {
    for (channel, event, payload) in events(user) {
        if channels.contains(&channel) {
            world.redis.publish_wanted(&channel, status::message(event, payload));
            client.await_line(event, |line| line["event"] == event);
        }
    }
}

#[test]
fn masto_js_iterates_over_every_stream_and_survives_unknown_events() {
    let world = World::start();
    let user = world.fixture().user(1);
    let client = Client::start("masto.mjs", &world.server.url("ws"), "protocol", user, &[]);
    let direct = format!("timeline:direct:{}", user.account());
    for channel in [&direct, &user.notifications(), &format!("timeline:list:{}", user.list())] {
        world.redis.await_subscribers(channel, 1);
    }
    world.redis.publish_wanted(&user.home(), status::message("somewhat.new", json!({"a": 1})));
    for (channel, subscription) in [
        (user.home(), "user"),
        ("timeline:public".to_string(), "public"),
        ("timeline:public:local".to_string(), "public:local"),
        ("timeline:public:remote".to_string(), "public:remote"),
        ("timeline:hashtag:x".to_string(), "hashtag"),
        ("timeline:hashtag:x:local".to_string(), "hashtag:local"),
        (format!("timeline:list:{}", user.list()), "list"),
    ] {
        for event in ["update", "delete"] {
            let payload = if event == "delete" { json!("9") } else { Status::new(9).0 };
            world.redis.publish_wanted(&channel, status::message(event, payload));
            client.await_line(&format!("{event} of {subscription}"), |line| {
                line["subscription"] == subscription && line["event"] == event
            });
        }
    }
    world.redis.publish_wanted(&direct, status::message("conversation", json!({"id": "6"})));
    client.await_line("conversation", |line| line["event"] == "conversation");
    world.redis.publish_wanted(&user.token_channel(), KILL);
    // masto.js does not tell its iterators; that the connection is gone shows at the server.
    world.server.await_metric("connected_clients", |count| count == 0.0);
}

#[test]
fn mastodon_py_follows_every_stream_and_survives_unknown_events() {
    let world = World::start();
    let user = world.fixture().user(1);
    let direct = format!("timeline:direct:{}", user.account());
    for (stream, channel, event) in [
        ("user", user.home(), "update"),
        ("public", "timeline:public".to_string(), "update"),
        ("public:local", "timeline:public:local".to_string(), "status.update"),
        ("public:remote", "timeline:public:remote".to_string(), "update"),
        ("hashtag", "timeline:hashtag:x".to_string(), "delete"),
        ("list", format!("timeline:list:{}", user.list()), "update"),
        ("direct", direct, "conversation"),
    ] {
        let variables = [("STREAM", stream.to_string())];
        let base = instance(world.server.url("ws"));
        let mut client = Client::start("mastodon_py.py", &base, "header", user, &variables);
        world.redis.await_subscribers(&channel, 1);
        world.redis.publish_wanted(&channel, status::message("somewhat.new", json!({"a": 1})));
        let payload = match event {
            "delete" => json!("9"),
            "conversation" => json!({"id": "6", "unread": true, "accounts": []}),
            _ => Status::new(9).0,
        };
        world.redis.publish_wanted(&channel, status::message(event, payload));
        client.await_line(event, |line| line["event"] == event);
        world.redis.publish_wanted(&user.token_channel(), KILL);
        // It returns without a word when the stream ends.
        client.process.wait();
        world.redis.await_subscribers(&user.token_channel(), 0);
    }
}
