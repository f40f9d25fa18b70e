//! A client library in a process of its own. Its script in this directory opens streams and prints
//! a line of JSON for each event (`{"key", "event", "payload"}`) and, when all has ended for good,
//! one that says how (`{"closed"}`).

use serde_json::{Value, json};

use crate::streams::{Publication, Stream};
use crate::support::{Script, User, World, eventually};

/// A client with streams of a user.
pub struct Client {
    what: String,
    script: Script,
    user: User,
    streams: Vec<Stream>,
    /// What it prints at its end.
    closed: Value,
}

impl Client {
    /// Starts `script` to connect in this `way` and to open the streams.
    pub fn start(
        script: &str,
        way: &str,
        base: &str,
        user: User,
        streams: Vec<Stream>,
        closed: Value,
    ) -> Client {
        let open: Vec<Value> = streams.iter().map(Stream::to_json).collect();
        let variables = [("STREAMS", json!(open).to_string())];
        let what = format!("{script} by {way}");
        let path = format!("clients/{script}");
        let script = Script::start(&path, &[base, way, &user.token()], &variables);
        Client { what, script, user, streams, closed }
    }

    fn events(&self) -> Vec<Value> {
        let lines = self.script.lines();
        lines.into_iter().filter(|line| line.get("event").is_some()).collect()
    }

    /// Waits for every event of its streams, each on the stream that it was published for.
    #[track_caller]
    fn await_events(&self, published: &[Publication]) {
        for stream in &self.streams {
            for channel in &stream.channels {
                let wanted: Vec<&Publication> =
                    published.iter().filter(|one| one.channel == *channel).collect();
                let what = format!("{}: all of {channel} on {}", self.what, stream.key);
                let places = eventually(&what, || self.places(stream, &wanted));
                assert!(places.is_sorted(), "{what} in order: {places:?}");
            }
        }
    }

    /// Where in the output these events are; `None` unless all are there.
    fn places(&self, stream: &Stream, wanted: &[&Publication]) -> Option<Vec<usize>> {
        let events = self.events();
        let place = |one: &&Publication| {
            events.iter().position(|line| {
                let payload = line["payload"].as_str().unwrap_or_default();
                line["key"] == stream.key
                    && line["event"] == one.event
                    && payload.contains(&one.mark)
            })
        };
        wanted.iter().map(place).collect()
    }

    /// Ends it as Rails does, by its token or by its account, and waits until it has given up.
    #[track_caller]
    fn kill(&mut self, world: &World, whole_account: bool) {
        let (token, account) = (self.user.token_id(), self.user.account());
        let (sql, channel) = match whole_account {
            false => (
                format!("update oauth_access_tokens set revoked_at = now() where id = {token}"),
                self.user.token_channel(),
            ),
            true => (
                format!("update accounts set suspended_at = now() where id = {account}"),
                self.user.system_channel(),
            ),
        };
        world.database.sql(&sql);
        world.redis.publish_wanted(&channel, r#"{"event":"kill"}"#);
    }

    /// Insists on its last words, and that it got each event once.
    #[track_caller]
    fn finish(mut self, published: &[Publication]) {
        self.script.wait();
        let lines = self.script.lines();
        let closed: Vec<&Value> = lines.iter().filter_map(|line| line.get("closed")).collect();
        assert_eq!(closed, [&self.closed], "{}", self.what);
        let errors: Vec<&Value> = lines.iter().filter(|line| line.get("error").is_some()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", self.what);
        let channels = self.streams.iter().flat_map(|stream| &stream.channels);
        let each = channels.map(|channel| published.iter().filter(|one| one.channel == *channel));
        let wanted: usize = each.map(Iterator::count).sum();
        assert_eq!(self.events().len(), wanted, "{}: every event once", self.what);
    }
}

/// Publishes every kind of event on every channel of these clients, waits until each client has
/// got each, and ends them all by `kill`, every other one by its account.
#[track_caller]
pub fn show_everything(world: &World, clients: Vec<Client>) {
    await_streams(world, &clients);
    let all = clients.iter().flat_map(|client| &client.streams);
    let published = crate::streams::publications(all);
    let mut redis = world.redis.client();
    for one in &published {
        redis.publish(&one.channel, one.message());
    }
    for client in &clients {
        client.await_events(&published);
    }
    let mut clients = clients;
    for (number, client) in clients.iter_mut().enumerate() {
        client.kill(world, number % 2 == 1);
    }
    for client in clients {
        client.finish(&published);
    }
}

/// Waits until the server serves every stream of every client and Redis knows every channel.
#[track_caller]
fn await_streams(world: &World, clients: &[Client]) {
    let all = || clients.iter().flat_map(|client| &client.streams);
    for stream in all() {
        let count = all().filter(|other| other.name == stream.name).count() as f64;
        let label = format!("channel=\"{}\"", stream.name);
        eventually(&format!("{count} streams {}", stream.name), || {
            let seen = world.server.metric_with("connected_channels", &label);
            (seen == count).then_some(())
        });
        for channel in &stream.channels {
            world.redis.await_subscribers(channel, 1);
        }
    }
}
