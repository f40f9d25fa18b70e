//! A message of Rails, parsed once: what it is called and what it carries (streaming-api.md, "Events").

use std::borrow::Cow;

use crate::protocol::ids::AccountId;
use crate::protocol::status_text::StatusText;

/// An event that clients may see: a truthy name and a truthy payload.
#[derive(Clone, Debug)]
pub struct Event {
    text: Vec<u8>,
}

/// Why a message never becomes an event. All of them are Rails' doing and none harms anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// Not JSON, or nested deeper than the limit.
    NotJson,
    /// JSON, but no object with a truthy `event`.
    NoEvent,
    /// `payload` is missing, null, false, 0 or an empty string (`filters_changed` on home channels).
    NoPayload,
}

/// What filtering asks first about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `update`: a new status.
    Update,
    /// `status.update`: an edited status.
    StatusUpdate,
    /// Anything else: passes every filter.
    Other,
}

/// A message on a system channel (`timeline:access_token:…`, `timeline:system:…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SystemEvent {
    /// End every connection of the token or account.
    Kill,
    /// Drop the cached custom filters of the account.
    FiltersChanged,
}

/// A status whose readers cannot be checked: no account, ids that are no ids, or no object at all. It is
/// withheld from filtered streams and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uncheckable;

/// What the checks of filtered streams need to know about a status. Borrows from its [`Event`].
#[derive(Clone, Debug)]
pub struct StatusFacts<'event> {
    /// `account.id`.
    pub author: AccountId,
    /// `mentions[].id`, in the order of the payload, may repeat.
    pub mentions: Vec<AccountId>,
    /// The part of `account.acct` after the `@`; `None` for local authors.
    pub domain: Option<Cow<'event, str>>,
    /// `language`; `None` where it is no string.
    pub language: Option<Cow<'event, str>>,
    /// `account.username` equals `account.acct`.
    pub local: bool,
    /// `local_only` is `true` (glitch-soc).
    pub local_only: bool,
    /// The payload has a key `filtered` of its own: custom filters do not touch it.
    pub has_filtered: bool,
    /// What custom filters search, see [`StatusText::plain`].
    pub text: StatusText<'event>,
}

impl Event {
    /// Parses a message as it came from Redis. `depth_max` is
    /// [`Limits::json_depth_max`](crate::config::limits::Limits::json_depth_max).
    pub fn parse(message: &[u8], depth_max: usize) -> Result<Event, Dropped> {
        let _ = (message, depth_max);
        unimplemented!()
    }

    /// Which filters look at it.
    pub fn kind(&self) -> Kind {
        unimplemented!()
    }

    /// The name as JSON text, usually a string with its quotes: `"update"`.
    pub fn name_json(&self) -> &[u8] {
        &self.text
    }

    /// What filtered streams must know about an `update` or `status.update`.
    pub fn status(&self) -> Result<StatusFacts<'_>, Uncheckable> {
        unimplemented!()
    }
}

/// Reads a message on a system channel; `None` for what is none of the known ones.
pub fn system_event(message: &[u8], depth_max: usize) -> Option<SystemEvent> {
    let _ = (message, depth_max);
    unimplemented!()
}
