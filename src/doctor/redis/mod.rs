//! Redis: is it there, may we do what we do, and does it give a subscriber room?

mod conversation;
mod judge;

pub use judge::{Answers, judge};

use crate::config::{Limits, RedisConfig};
use crate::io::sentinel::text_of;
use crate::protocol::resp::Reply;

use self::conversation::Conversation;
use super::finding::{Area, Finding, Subject, Verdict};

/// Channels of each kind that the server subscribes to, of an account that does not exist.
const CHANNELS: [&str; 4] =
    ["timeline:public", "timeline:0", "timeline:system:0", "timeline:access_token:0"];

/// Asks Redis, and judges what it says.
pub(super) fn findings(config: &RedisConfig, limits: &Limits) -> Vec<Finding> {
    let reached = Subject::new(
        Area::Redis,
        "connection",
        "without Redis no event reaches anybody; the server waits and tries for ever",
    )
    .should("reachable with what the environment says");
    match ask(config, limits) {
        Ok(answers) => {
            let mut findings = vec![reached.is("stands").fine()];
            findings.extend(judge(&answers));
            findings
        }
        Err(reason) => {
            let command = "is Redis up, and are REDIS_* right? trunkline check-config shows them";
            vec![reached.is(reason).needs(Verdict::Broken, command)]
        }
    }
}

fn ask(config: &RedisConfig, limits: &Limits) -> Result<Answers, String> {
    let mut redis = Conversation::open(config, limits)?;
    let prefix = config.namespace.as_ref().map_or(String::new(), |name| format!("{name}:"));
    let mut ask = |words: &[&str]| -> Result<Result<String, String>, String> {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        redis.ask(&words).map(understand)
    };
    let info = ask(&["INFO", "server"])?;
    let buffers = ask(&["CONFIG", "GET", "client-output-buffer-limit"])?;
    let eviction = ask(&["CONFIG", "GET", "maxmemory-policy"])?;
    let memory_max = ask(&["CONFIG", "GET", "maxmemory"])?;
    let clients = ask(&["CLIENT", "LIST", "TYPE", "pubsub"])?;
    // What the server does for a channel, for one that nobody publishes to; gone after a second.
    let key = format!("{prefix}subscribed:timeline:0");
    let set = ask(&["SET", &key, "1", "EX", "1", "NX"])?.map(drop);
    let ping = ask(&["PING"])?.map(drop);
    let mut subscribe = Ok(());
    for channel in CHANNELS {
        subscribe = subscribe.and(ask(&["SUBSCRIBE", &format!("{prefix}{channel}")])?.map(drop));
    }
    Ok(Answers { info, buffers, eviction, memory_max, clients, set, ping, subscribe })
}

/// The text of a reply: of a list, its values in lines.
fn understand(reply: Reply) -> Result<String, String> {
    match reply {
        Reply::Error(text) => Err(text_of(&text)),
        Reply::Bulk(text) | Reply::Status(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Reply::Array(values) => {
            let values: Result<Vec<String>, String> = values.into_iter().map(understand).collect();
            Ok(values?.join("\n"))
        }
        Reply::Integer(number) => Ok(number.to_string()),
        _ => Ok(String::new()),
    }
}
