//! Who each client is: its account, token, transport, stream, and the Redis channel behind it.
//! Everything follows from the client's number, so that clients need to remember nothing.

use std::io::Write;

/// The key that every client offers; the answer to it is [`ACCEPT`] (RFC 6455 section 1.3).
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What the server must derive from [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// How a client receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RFC 6455.
    WebSocket,
    /// Server-sent events.
    EventStream,
}

/// A stream, as the API names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The client's own home timeline: a channel for each account.
    User,
    /// One of `public`, `public:local`, `public:remote`: a channel for all.
    Public(&'static str),
    /// A hashtag, the same for all.
    Hashtag(String),
}

/// Whose tokens are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accounts {
    /// `{n}` in the token stands for the account's number; its id is `base + step · n`.
    Template {
        /// As `tok-{n}`.
        token: String,
        /// The id of account 0.
        base: u64,
        /// Between two ids.
        step: u64,
        /// How many there are.
        count: u32,
    },
    /// Tokens and account ids, one pair each.
    Listed(Vec<(String, u64)>),
}

/// Number of a Redis channel in the plan: the shared streams first, then the accounts' home
/// channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChannelNumber(pub u32);

/// What all clients do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Dealt out in turn.
    pub transports: Vec<Transport>,
    /// Dealt out in turn.
    pub streams: Vec<Stream>,
    /// Dealt out in turn.
    pub accounts: Accounts,
    /// The number of the first account.
    pub first_account: u32,
    /// The value of the `Host` header.
    pub host: String,
}

impl Accounts {
    /// How many there are.
    pub fn count(&self) -> u32 {
        match self {
            Accounts::Template { count, .. } => *count,
            Accounts::Listed(list) => u32::try_from(list.len()).unwrap_or(u32::MAX),
        }
    }

    /// The token of account `number`.
    pub fn token(&self, number: u32) -> String {
        match self {
            Accounts::Template { token, .. } => token.replace("{n}", &number.to_string()),
            Accounts::Listed(list) => {
                list.get(number as usize).map(|(token, _)| token.clone()).unwrap_or_default()
            }
        }
    }

    /// The id of account `number`.
    pub fn id(&self, number: u32) -> u64 {
        match self {
            Accounts::Template { base, step, .. } => base + step * u64::from(number),
            Accounts::Listed(list) => list.get(number as usize).map_or(0, |(_, id)| *id),
        }
    }
}

impl Stream {
    /// Reads a name of the API; `hashtag:TAG` for a tag.
    pub fn parse(name: &str) -> Option<Stream> {
        Some(match name {
            "user" => Stream::User,
            "public" => Stream::Public("public"),
            "public:local" => Stream::Public("public:local"),
            "public:remote" => Stream::Public("public:remote"),
            _ => Stream::Hashtag(name.strip_prefix("hashtag:")?.to_owned()),
        })
    }

    /// The `stream` key of an event for a WebSocket.
    pub fn label(&self) -> Vec<&str> {
        match self {
            Stream::User => vec!["user"],
            Stream::Public(name) => vec![name],
            Stream::Hashtag(tag) => vec!["hashtag", tag],
        }
    }

    /// Path and query of an event stream.
    fn path(&self) -> String {
        match self {
            Stream::User => "/api/v1/streaming/user?".to_owned(),
            Stream::Public(name) => format!("/api/v1/streaming/{}?", name.replace(':', "/")),
            Stream::Hashtag(tag) => format!("/api/v1/streaming/hashtag?tag={tag}&"),
        }
    }

    /// The query of a WebSocket.
    fn query(&self) -> String {
        match self {
            Stream::User => "stream=user".to_owned(),
            Stream::Public(name) => format!("stream={name}"),
            Stream::Hashtag(tag) => format!("stream=hashtag&tag={tag}"),
        }
    }
}

impl Plan {
    /// The transport of a client.
    pub fn transport(&self, client: u32) -> Transport {
        let turn = client as usize / self.streams.len().max(1);
        let index = turn % self.transports.len().max(1);
        self.transports.get(index).copied().unwrap_or(Transport::WebSocket)
    }

    /// The index of a client's stream in [`Plan::streams`].
    pub fn stream_index(&self, client: u32) -> usize {
        client as usize % self.streams.len().max(1)
    }

    /// The number of a client's account.
    pub fn account(&self, client: u32) -> u32 {
        (self.first_account + client) % self.accounts.count().max(1)
    }

    /// The channel on which a client's events are published.
    pub fn channel(&self, client: u32) -> ChannelNumber {
        let index = self.stream_index(client);
        match self.streams.get(index) {
            Some(Stream::User) => self.home(self.account(client)),
            _ => ChannelNumber(index as u32),
        }
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.streams.len() + self.accounts.count() as usize
    }

    /// The home channel of an account.
    fn home(&self, account: u32) -> ChannelNumber {
        ChannelNumber(self.streams.len() as u32 + account)
    }

    /// Appends the channel's name at Redis.
    pub fn push_channel_name(&self, channel: ChannelNumber, out: &mut Vec<u8>) {
        // Writing to a Vec does not fail.
        let _ = match self.streams.get(channel.0 as usize) {
            Some(Stream::Public(name)) => write!(out, "timeline:{name}"),
            Some(Stream::Hashtag(tag)) => write!(out, "timeline:hashtag:{}", tag.to_lowercase()),
            Some(Stream::User) => Ok(()),
            None => {
                let account = channel.0 - self.streams.len() as u32;
                write!(out, "timeline:{}", self.accounts.id(account))
            }
        };
    }

    /// Appends a client's request.
    pub fn push_request(&self, client: u32, out: &mut Vec<u8>) {
        let token = self.accounts.token(self.account(client));
        let Some(stream) = self.streams.get(self.stream_index(client)) else { return };
        let host = &self.host;
        let _ = match self.transport(client) {
            Transport::WebSocket => write!(
                out,
                "GET /api/v1/streaming?{}&access_token={token} HTTP/1.1\r\nHost: {host}\r\n\
                 Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: {KEY}\r\n\r\n",
                stream.query()
            ),
            Transport::EventStream => write!(
                out,
                "GET {}access_token={token} HTTP/1.1\r\nHost: {host}\r\n\
                 Accept: text/event-stream\r\n\r\n",
                stream.path()
            ),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let token = "tok-{n}".to_owned();
        Plan {
            transports: vec![Transport::WebSocket, Transport::EventStream],
            streams: vec![Stream::User, Stream::Public("public:local")],
            accounts: Accounts::Template { token, base: 100, step: 10, count: 6 },
            first_account: 4,
            host: "herd.example".to_owned(),
        }
    }

    fn request(client: u32) -> String {
        let mut out = Vec::new();
        plan().push_request(client, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn channel(client: u32) -> String {
        let mut out = Vec::new();
        plan().push_channel_name(plan().channel(client), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_pair_of_stream_and_transport_is_dealt_out() {
        let first = request(0);
        assert!(first.starts_with("GET /api/v1/streaming?stream=user&access_token=tok-4 HTTP/1.1"));
        assert!(first.contains("Upgrade: websocket"));
        assert!(
            request(1).starts_with("GET /api/v1/streaming?stream=public:local&access_token=tok-5")
        );
        assert!(request(2).starts_with("GET /api/v1/streaming/user?access_token=tok-0 "));
        assert!(request(3).starts_with("GET /api/v1/streaming/public/local?access_token=tok-1 "));
    }

    #[test]
    fn a_client_listens_where_its_account_is_published() {
        assert_eq!(channel(0), "timeline:140");
        assert_eq!(channel(2), "timeline:100");
        assert_eq!((channel(1), channel(3)), (channel(5), "timeline:public:local".to_owned()));
    }
}
