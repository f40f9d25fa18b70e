//! The one table: stream ↔ path ↔ query ↔ channel ↔ label ↔ scope.

use std::fmt;
use std::sync::Arc;

use crate::hub::session::Session;
use crate::protocol::frame::label_json;
use crate::protocol::hashtag;
use crate::protocol::ids::{AccountId, ListId, TokenId};

/// A Redis channel as a small value; a string only at the Redis boundary.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Channel {
    /// `timeline:ACCOUNT`
    Home(AccountId),
    /// `timeline:ACCOUNT:notifications`
    Notifications(AccountId),
    /// `timeline:direct:ACCOUNT`
    Direct(AccountId),
    /// `timeline:list:LIST`
    List(ListId),
    /// `timeline:public[:local|:remote][:media]`
    Public(PublicFeed),
    /// `timeline:hashtag:TAG[:local]`
    Hashtag {
        /// The normalised tag. Boxed so that a channel stays at sixteen bytes.
        tag: Arc<Box<str>>,
        /// Only local statuses.
        local: bool,
    },
    /// `timeline:access_token:TOKEN_ID`, never forwarded.
    Token(TokenId),
    /// `timeline:system:ACCOUNT`, never forwarded.
    System(AccountId),
}

/// One of the six public timelines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PublicFeed {
    /// Whose statuses.
    pub origin: Origin,
    /// Only statuses with media.
    pub media: bool,
}

/// Where statuses of a feed come from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Origin {
    /// Everywhere.
    All,
    /// This instance.
    Local,
    /// Other instances.
    Remote,
}

impl Channel {
    /// Reads the name that Redis uses, without a namespace. `None` for a name that no stream has.
    pub fn parse(name: &[u8]) -> Option<Channel> {
        let rest = std::str::from_utf8(name).ok()?.strip_prefix("timeline:")?;
        if let Some(feed) = rest.strip_prefix("public") {
            return PublicFeed::parse_suffix(feed).map(Channel::Public);
        }
        if let Some(tag) = rest.strip_prefix("hashtag:") {
            let (tag, local) = match tag.strip_suffix(":local") {
                Some(tag) => (tag, true),
                None => (tag, false),
            };
            return Some(Channel::Hashtag { tag: Arc::new(tag.into()), local });
        }
        if let Some(id) = rest.strip_prefix("list:") {
            return ListId::parse(id).map(Channel::List);
        }
        if let Some(id) = rest.strip_prefix("direct:") {
            return AccountId::parse(id).map(Channel::Direct);
        }
        if let Some(id) = rest.strip_prefix("access_token:") {
            return TokenId::parse(id).map(Channel::Token);
        }
        if let Some(id) = rest.strip_prefix("system:") {
            return AccountId::parse(id).map(Channel::System);
        }
        if let Some(id) = rest.strip_suffix(":notifications") {
            return AccountId::parse(id).map(Channel::Notifications);
        }
        AccountId::parse(rest).map(Channel::Home)
    }

    /// The name that Redis uses, without a namespace.
    pub fn redis_name(&self) -> String {
        self.to_string()
    }

    /// Carries orders for the server itself and is never forwarded; has no `subscribed:` key.
    pub fn is_system(&self) -> bool {
        matches!(self, Channel::Token(_) | Channel::System(_))
    }

    /// Its statuses are subject to the reader's access, languages, blocks, mutes and filters.
    pub fn is_filtered(&self) -> bool {
        matches!(self, Channel::Public(_) | Channel::Hashtag { .. })
    }

    /// Statuses marked `local_only` may appear on it without being asked for.
    pub fn admits_local_only(&self) -> bool {
        !matches!(self, Channel::Public(PublicFeed { origin: Origin::All | Origin::Remote, .. }))
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Channel::Home(account) => write!(formatter, "timeline:{account}"),
            Channel::Notifications(account) => {
                write!(formatter, "timeline:{account}:notifications")
            }
            Channel::Direct(account) => write!(formatter, "timeline:direct:{account}"),
            Channel::List(list) => write!(formatter, "timeline:list:{list}"),
            Channel::Public(feed) => write!(formatter, "timeline:{}", feed.stream_name()),
            Channel::Hashtag { tag, local: false } => write!(formatter, "timeline:hashtag:{tag}"),
            Channel::Hashtag { tag, local: true } => {
                write!(formatter, "timeline:hashtag:{tag}:local")
            }
            Channel::Token(token) => write!(formatter, "timeline:access_token:{token}"),
            Channel::System(account) => write!(formatter, "timeline:system:{account}"),
        }
    }
}

impl PublicFeed {
    /// All six, in the order of their [`PublicFeed::index`].
    pub const EACH: [PublicFeed; 6] = [
        PublicFeed { origin: Origin::All, media: false },
        PublicFeed { origin: Origin::All, media: true },
        PublicFeed { origin: Origin::Local, media: false },
        PublicFeed { origin: Origin::Local, media: true },
        PublicFeed { origin: Origin::Remote, media: false },
        PublicFeed { origin: Origin::Remote, media: true },
    ];

    /// `public`, `public:local:media`, …
    pub fn stream_name(self) -> &'static str {
        match (self.origin, self.media) {
            (Origin::All, false) => "public",
            (Origin::All, true) => "public:media",
            (Origin::Local, false) => "public:local",
            (Origin::Local, true) => "public:local:media",
            (Origin::Remote, false) => "public:remote",
            (Origin::Remote, true) => "public:remote:media",
        }
    }

    /// 0 to 5.
    pub fn index(self) -> u8 {
        let origin = match self.origin {
            Origin::All => 0,
            Origin::Local => 2,
            Origin::Remote => 4,
        };
        origin + u8::from(self.media)
    }

    fn parse_suffix(suffix: &str) -> Option<PublicFeed> {
        PublicFeed::EACH.into_iter().find(|feed| feed.stream_name()["public".len()..] == *suffix)
    }
}

/// What a client asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stream {
    /// Home timeline, and notifications if the token may see them.
    User,
    /// Notifications only.
    UserNotification,
    /// A public timeline.
    Public {
        /// Which one.
        feed: PublicFeed,
        /// glitch-soc: statuses marked `local_only` too.
        local_only: LocalOnly,
    },
    /// A hashtag.
    Hashtag {
        /// As the client wrote it: the label repeats it.
        written: Box<str>,
        /// Only local statuses.
        local: bool,
    },
    /// A list, if it belongs to the reader.
    List(ListId),
    /// Conversations.
    Direct,
}

/// Whether a public stream holds statuses that are marked `local_only` (glitch-soc).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LocalOnly {
    /// It does not.
    Withheld,
    /// It does, by the parameter `allow_local_only`.
    Asked,
    /// It does, by the stream's name, which its label repeats.
    Named,
}

impl LocalOnly {
    /// As the parameter says.
    pub fn asked(allow: bool) -> LocalOnly {
        if allow { LocalOnly::Asked } else { LocalOnly::Withheld }
    }
}

/// Why a stream was not opened, as the client is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamError {
    /// No such stream.
    UnknownStream,
    /// A hashtag stream without a tag.
    MissingTag,
    /// A list stream without a list.
    MissingList,
    /// The list belongs to somebody else or does not exist.
    ForeignList,
    /// The token's scopes do not cover it.
    MissingScope,
    /// A failure of ours, or a parameter that makes no sense at all.
    Unexpected,
}

impl StreamError {
    /// The text that clients see.
    pub fn message(self) -> &'static str {
        match self {
            StreamError::UnknownStream => "Unknown stream type",
            StreamError::MissingTag => "Missing tag name parameter",
            StreamError::MissingList => "Missing list name parameter",
            StreamError::ForeignList => "Not authorized to stream this list",
            StreamError::MissingScope => "Access token does not have the required scopes",
            StreamError::Unexpected => "An unexpected error occurred",
        }
    }

    /// The HTTP status that goes with it, also inside WebSocket messages.
    pub fn status(self) -> u16 {
        match self {
            StreamError::UnknownStream | StreamError::MissingTag | StreamError::MissingList => 400,
            StreamError::ForeignList | StreamError::MissingScope => 401,
            StreamError::Unexpected => 500,
        }
    }
}

/// A parameter of a subscription, as it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parameter<'a> {
    /// Absent, null, false, zero or empty.
    Missing,
    /// A text, or a whole number in its canonical decimal form.
    Text(&'a str),
    /// A value of another kind.
    Odd,
}

/// The parameters of a subscription beside the stream's name.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a> {
    /// `tag`
    pub tag: Parameter<'a>,
    /// `list`
    pub list: Parameter<'a>,
    /// glitch-soc's `allow_local_only`, already judged.
    pub allow_local_only: bool,
}

impl Stream {
    /// Reads a stream's name and parameters as WebSocket clients write them.
    pub fn parse(name: &str, parameters: &Parameters<'_>) -> Result<Stream, StreamError> {
        let stream = match name {
            "user" => Stream::User,
            "user:notification" => Stream::UserNotification,
            "direct" => Stream::Direct,
            "hashtag" => Stream::hashtag(parameters.tag, false)?,
            "hashtag:local" => Stream::hashtag(parameters.tag, true)?,
            "list" => Stream::list(parameters.list)?,
            "public:allow_local_only" => Stream::public(Origin::All, false, LocalOnly::Named),
            "public:allow_local_only:media" => Stream::public(Origin::All, true, LocalOnly::Named),
            _ => {
                let suffix = name.strip_prefix("public").ok_or(StreamError::UnknownStream)?;
                let feed = PublicFeed::parse_suffix(suffix).ok_or(StreamError::UnknownStream)?;
                let asked = feed.origin == Origin::All && parameters.allow_local_only;
                Stream::Public { feed, local_only: LocalOnly::asked(asked) }
            }
        };
        Ok(stream)
    }

    /// Reads the part of an SSE path behind `/api/v1/streaming/`. `None`: no such path (404 of this
    /// API is 400 `Unknown channel requested`).
    pub fn from_path(
        path: &str,
        only_media: bool,
        parameters: &Parameters<'_>,
    ) -> Option<Result<Stream, StreamError>> {
        let (path, only_media) = match path.strip_suffix("/media") {
            Some(rest) if rest.starts_with("public") => (rest, true),
            _ => (path, only_media),
        };
        let asked = LocalOnly::asked(parameters.allow_local_only);
        let stream = match path {
            "user" => Ok(Stream::User),
            "user/notification" => Ok(Stream::UserNotification),
            "public" => Ok(Stream::public(Origin::All, only_media, asked)),
            "public/local" => Ok(Stream::public(Origin::Local, only_media, LocalOnly::Withheld)),
            "public/remote" => Ok(Stream::public(Origin::Remote, only_media, LocalOnly::Withheld)),
            "hashtag" => Stream::hashtag(parameters.tag, false),
            "hashtag/local" => Stream::hashtag(parameters.tag, true),
            "direct" => Ok(Stream::Direct),
            "list" => Stream::list(parameters.list),
            _ => return None,
        };
        Some(stream)
    }

    /// The stream's name for metrics and scopes.
    pub fn name(&self) -> &'static str {
        match self {
            Stream::User => "user",
            Stream::UserNotification => "user:notification",
            Stream::Public { feed, .. } => feed.stream_name(),
            Stream::Hashtag { local: false, .. } => "hashtag",
            Stream::Hashtag { local: true, .. } => "hashtag:local",
            Stream::List(_) => "list",
            Stream::Direct => "direct",
        }
    }

    /// How the client is told which stream an event is from: a JSON array.
    pub fn label(&self) -> String {
        match self {
            Stream::Hashtag { written, .. } => label_json(self.name(), Some(written)),
            Stream::List(list) => label_json(self.name(), Some(&list.to_string())),
            Stream::Public { feed, local_only: LocalOnly::Named } => {
                let media = if feed.media { ":media" } else { "" };
                label_json(&format!("public:allow_local_only{media}"), None)
            }
            _ => label_json(self.name(), None),
        }
    }

    /// The channels that carry the stream to the bearer of `session`: one, or two.
    pub fn channels(&self, session: &Session) -> (Channel, Option<Channel>) {
        let account = session.account;
        match self {
            Stream::User => {
                let notifications = session.scopes.notifications();
                let second = notifications.then_some(Channel::Notifications(account));
                (Channel::Home(account), second)
            }
            Stream::UserNotification => (Channel::Notifications(account), None),
            Stream::Public { feed, .. } => (Channel::Public(*feed), None),
            Stream::Hashtag { written, local } => {
                let tag = Arc::new(hashtag::normalise(written).into_boxed_str());
                (Channel::Hashtag { tag, local: *local }, None)
            }
            Stream::List(list) => (Channel::List(*list), None),
            Stream::Direct => (Channel::Direct(account), None),
        }
    }

    fn public(origin: Origin, media: bool, local_only: LocalOnly) -> Stream {
        Stream::Public { feed: PublicFeed { origin, media }, local_only }
    }

    fn hashtag(tag: Parameter<'_>, local: bool) -> Result<Stream, StreamError> {
        match tag {
            Parameter::Missing => Err(StreamError::MissingTag),
            Parameter::Text(written) => Ok(Stream::Hashtag { written: written.into(), local }),
            Parameter::Odd => Err(StreamError::Unexpected),
        }
    }

    fn list(list: Parameter<'_>) -> Result<Stream, StreamError> {
        match list {
            Parameter::Missing => Err(StreamError::MissingList),
            Parameter::Text(id) => {
                ListId::parse(id).map(Stream::List).ok_or(StreamError::ForeignList)
            }
            Parameter::Odd => Err(StreamError::ForeignList),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Parameters<'_> =
        Parameters { tag: Parameter::Missing, list: Parameter::Missing, allow_local_only: false };

    #[test]
    fn a_channel_is_small() {
        assert_eq!(size_of::<Channel>(), 16);
    }

    #[test]
    fn every_channel_name_reads_back() {
        let names = [
            "timeline:12",
            "timeline:12:notifications",
            "timeline:direct:12",
            "timeline:list:12",
            "timeline:public",
            "timeline:public:media",
            "timeline:public:local",
            "timeline:public:local:media",
            "timeline:public:remote",
            "timeline:public:remote:media",
            "timeline:hashtag:café",
            "timeline:hashtag:",
            "timeline:hashtag:café:local",
            "timeline:access_token:12",
            "timeline:system:12",
        ];
        for name in names {
            let channel = Channel::parse(name.as_bytes()).unwrap();
            assert_eq!(channel.redis_name(), name);
        }
        for name in ["timeline:", "timeline:x", "public", "timeline:public:x", "timeline:list:01"] {
            assert_eq!(Channel::parse(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn media_paths_are_aliases_of_the_flag() {
        for path in ["public", "public/local", "public/remote"] {
            let flagged = Stream::from_path(path, true, &NONE);
            let alias = Stream::from_path(&format!("{path}/media"), false, &NONE);
            assert!(flagged.is_some());
            assert_eq!(flagged, alias);
        }
        assert_eq!(Stream::from_path("user/media", false, &NONE), None);
        assert_eq!(Stream::from_path("USER", false, &NONE), None);
    }

    #[test]
    fn a_label_repeats_the_tag_as_written() {
        let parameters = Parameters { tag: Parameter::Text("CAFÉ \""), ..NONE };
        let stream = Stream::parse("hashtag:local", &parameters).unwrap();
        assert_eq!(stream.label(), r#"["hashtag:local","CAFÉ \""]"#);
    }

    #[test]
    fn a_stream_that_is_named_for_local_only_statuses_is_labelled_so() {
        for (name, asked, label) in [
            ("public:allow_local_only", false, r#"["public:allow_local_only"]"#),
            ("public:allow_local_only:media", false, r#"["public:allow_local_only:media"]"#),
            ("public", true, r#"["public"]"#),
        ] {
            let parameters = Parameters { allow_local_only: asked, ..NONE };
            assert_eq!(Stream::parse(name, &parameters).unwrap().label(), label);
        }
    }

    #[test]
    fn missing_and_odd_parameters_are_told_apart() {
        let odd = Parameters { tag: Parameter::Odd, list: Parameter::Odd, ..NONE };
        assert_eq!(Stream::parse("hashtag", &NONE), Err(StreamError::MissingTag));
        assert_eq!(Stream::parse("hashtag", &odd), Err(StreamError::Unexpected));
        assert_eq!(Stream::parse("list", &NONE), Err(StreamError::MissingList));
        assert_eq!(Stream::parse("list", &odd), Err(StreamError::ForeignList));
        assert_eq!(Stream::parse("publicx", &NONE), Err(StreamError::UnknownStream));
    }
}
