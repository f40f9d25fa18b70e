//! What the notes of the captures say happened, done again.

use crate::support::fixture::quoted;
use crate::support::{Fixture, SPECIALS, User, World};

/// A `PUBLISH` and how many connections got it.
#[derive(Debug)]
pub struct Publication {
    /// The channel.
    pub channel: String,
    /// The message.
    pub message: Vec<u8>,
    /// The reply of Redis.
    pub receivers: i64,
}

/// Reads `redis PUBLISH CHANNEL MESSAGE -> :N`.
pub fn publication(note: &str) -> Option<Publication> {
    let rest = note.strip_prefix("redis PUBLISH ")?;
    let (rest, receivers) = rest.rsplit_once(" -> :")?;
    let (channel, message) = rest.split_once(' ')?;
    let message = match message.contains("\\x") {
        true => unescape(message.trim_end()),
        false => message.as_bytes().to_vec(),
    };
    let receivers = receivers.trim().parse().ok()?;
    Some(Publication { channel: channel.to_string(), message, receivers })
}

/// Turns `\xNN` into the byte.
fn unescape(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let byte = u8::from_str_radix(&part[..2], 16).expect("two hexadecimal digits");
        bytes.push(byte);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes
}

/// Does what a note says.
pub fn perform(world: &World, note: &str) -> Result<(), String> {
    if let Some(change) = note.strip_prefix("SQL: ") {
        world.database.sql(&statements(change)?);
        return Ok(());
    }
    if let Some(rest) = note.strip_prefix("redis PUBSUB CHANNELS ") {
        return compare_channels(world, rest);
    }
    if let Some(rest) = note.strip_prefix("TTL ") {
        let (key, _) = rest.split_once(" -> :").ok_or("no reply in the note")?;
        let left = world.redis.client().command(&["TTL", key]).integer();
        let kept = (1000..=1080).contains(&left);
        return kept.then_some(()).ok_or(format!("{key} expires in {left} s"));
    }
    match note {
        "the client answers the close frame"
        | "a status without account / without mentions / with mentions null: exceptions inside \
           the server?" => Ok(()),
        _ => Err(format!("nobody knows how to do this: {note:.300}")),
    }
}

const ALICE: &str = "109999999999999999";
const MENTIONED: &str = "109999999999999998";

/// The statements behind the notes. Each change of relations starts from none.
fn statements(change: &str) -> Result<String, String> {
    let me = User(50).account();
    let fresh = "delete from blocks; delete from mutes; delete from account_domain_blocks;";
    let pair = |table: &str, from: &str, to: &str| {
        format!("{fresh} insert into {table} (account_id, target_account_id) values ({from}, {to})")
    };
    let me = me.to_string();
    Ok(match change {
        "I block the author" => pair("blocks", &me, ALICE),
        "the author blocks me" => pair("blocks", ALICE, &me),
        "I mute the author" => pair("mutes", &me, ALICE),
        "my mute of the author has expired" => {
            "update mutes set expires_at = now() - interval '1 day'".to_string()
        }
        "I block the author's domain" => format!(
            "{fresh} insert into account_domain_blocks (account_id, domain)
             values ({me}, 'remote.example')"
        ),
        "I block somebody who is mentioned" => pair("blocks", &me, MENTIONED),
        "somebody who is mentioned blocks me" => pair("blocks", MENTIONED, &me),
        "keywords of the first filter deleted; the server's cache stays until told" => {
            "delete from custom_filter_keywords where custom_filter_id = 990001".to_string()
        }
        "settings local_live_feed_access disabled, remote_live_feed_access authenticated, \
         remote_topic_feed_access disabled" => [
            ("local_live_feed_access", "disabled"),
            ("remote_live_feed_access", "authenticated"),
            ("remote_topic_feed_access", "disabled"),
        ]
        .map(|(name, value)| {
            format!("insert into settings (var, value) values ('{name}', E'--- {value}\\n');")
        })
        .concat(),
        _ => return Err(format!("no statements are known for: {change}")),
    })
}

/// Puts the rows into the database that the cases touch.
pub fn seed(world: &World) {
    let fixture = world.fixture();
    for number in [1, 2, 31, 33, 41, 42, 43, 50, 61, 70, 83, 85, 88] {
        fixture.user(number);
    }
    for special in SPECIALS {
        fixture.special(special);
    }
    seed_filters(fixture);
}

/// The filters of user 61, as the bytes of `ws-custom-filters` show them.
fn seed_filters(fixture: Fixture<'_>) {
    let user = User(61);
    fixture.filter(990_001, user, "Warn me", &[("cat", true), ("d.g+", false)]);
    fixture.filter(990_002, user, "Hide it", &[("#tag", true), ("été", true)]);
    fixture.filter(990_003, user, "Expired", &[("hello", true), ("concatenate", true)]);
    fixture.database.sql(&format!(
        "update custom_filters set context = '{{public}}', action = 1,
           expires_at = {} where id = 990002;
         update custom_filters set expires_at = now() - interval '1 day' where id = 990003;",
        quoted("2099-01-02 03:04:05.678")
    ));
}

/// `PATTERN -> *11 …`: the same channels, in any order.
fn compare_channels(world: &World, note: &str) -> Result<(), String> {
    let (pattern, reply) = note.split_once(" -> ").ok_or("no reply in the note")?;
    let prefix = pattern.trim_end_matches('*');
    let unescaped = String::from_utf8(unescape(reply)).map_err(|error| error.to_string())?;
    let is_name = |line: &&str| line.starts_with(prefix);
    let mut expected: Vec<String> = unescaped
        .split(['\n', '\r'])
        .map(|line| line.trim_end_matches("\\r\\n"))
        .filter(is_name)
        .map(ToString::to_string)
        .collect();
    expected.sort();
    let mut channels = world.redis.client().channels();
    channels.retain(|channel| channel.starts_with(prefix));
    match channels == expected {
        true => Ok(()),
        false => Err(format!("\nexpected {expected:?}\ngot      {channels:?}")),
    }
}
