//! Feed access: which statuses a subscription may show by the instance's settings for live feeds
//! and hashtags, decided once when it is made.

use crate::hub::question::FeedSettings;
use crate::hub::session::Session;
use crate::hub::stream::{LocalOnly, Stream};

/// What a subscription to a public or hashtag stream may show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FeedAccess {
    /// Statuses of this instance.
    pub local: bool,
    /// Statuses of other instances.
    pub remote: bool,
    /// glitch-soc: the client asked for `local_only` statuses too.
    pub local_only: LocalOnly,
}

impl FeedAccess {
    /// Everything but what has to be asked for: the access of streams that are not filtered.
    pub const FULL: FeedAccess =
        FeedAccess { local: true, remote: true, local_only: LocalOnly::Withheld };

    /// Must the settings be read before this stream can be opened for this reader?
    pub fn needs_settings(stream: &Stream, session: &Session) -> bool {
        matches!(stream, Stream::Public { .. } | Stream::Hashtag { .. }) && !session.views_all_feeds
    }

    /// The access that `settings` leave to the reader of `stream`; `None`: they were not needed.
    pub fn decide(stream: &Stream, settings: Option<FeedSettings>) -> FeedAccess {
        let settings = settings.unwrap_or_default();
        match stream {
            Stream::Public { local_only, .. } => FeedAccess {
                local: !settings.local_live_disabled,
                remote: !settings.remote_live_disabled,
                local_only: *local_only,
            },
            Stream::Hashtag { .. } => FeedAccess {
                local: !settings.local_topic_disabled,
                remote: !settings.remote_topic_disabled,
                local_only: LocalOnly::Withheld,
            },
            _ => FeedAccess::FULL,
        }
    }

    /// May a status be shown whose author is local, or not?
    pub fn permits(self, author_is_local: bool) -> bool {
        if author_is_local { self.local } else { self.remote }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::stream::{Origin, PublicFeed};

    #[test]
    fn live_settings_close_public_streams_and_topic_settings_close_hashtags() {
        let settings = FeedSettings {
            local_live_disabled: true,
            remote_topic_disabled: true,
            ..FeedSettings::default()
        };
        let feed = PublicFeed { origin: Origin::All, media: false };
        let public = Stream::Public { feed, local_only: LocalOnly::Withheld };
        let hashtag = Stream::Hashtag { written: "x".into(), local: false };
        let public = FeedAccess::decide(&public, Some(settings));
        let hashtag = FeedAccess::decide(&hashtag, Some(settings));
        assert!(!public.permits(true) && public.permits(false));
        assert!(hashtag.permits(true) && !hashtag.permits(false));
        assert_eq!(FeedAccess::decide(&Stream::User, Some(settings)), FeedAccess::FULL);
    }
}
