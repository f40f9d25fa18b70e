//! All that is remembered of one client.

use std::os::fd::OwnedFd;

use crate::load::verify::UNSEEN;

/// A client: some 40 bytes, unless half a message has come.
pub(super) struct Client {
    pub(super) socket: Option<OwnedFd>,
    /// What has come of a message that is not yet whole.
    pub(super) partial: Option<Box<Partial>>,
    /// When the attempt began.
    pub(super) since: u64,
    /// The sequence number to come.
    pub(super) next: u32,
    pub(super) generation: u16,
    pub(super) state: State,
}

/// Behind a pointer, so that it costs those nothing who have none.
pub(super) struct Partial(pub(super) Vec<u8>);

/// Where a client is.
///
/// ```text
///  Absent ─► Queued ─► Connecting ─► Asking ─► Open ◄─► Stalled (reads no more)
///    ▲          ▲          │            │       │          │
///    │          └── a second later ─────┘       │          │
///    └──────────────────────────────────────────┴──────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Absent,
    Queued,
    Connecting,
    Asking,
    Open,
    Stalled,
}

impl Client {
    /// One that has not been told to connect.
    pub(super) fn absent() -> Client {
        Client {
            socket: None,
            partial: None,
            since: 0,
            next: UNSEEN,
            generation: 0,
            state: State::Absent,
        }
    }
}
