//! Every way to lose a client, as one value: what the client is told, whether it should come back,
//! and the name under which operators count it. Codes: 1001, 1012 and 1013 bring real clients back;
//! after 1000 some never return.

use crate::log::Level;

macro_rules! farewells {
    ($($(#[doc = $doc:literal])+ $name:ident = $reason:literal, $close:expr, $level:ident;)+) => {
        /// Why and how a connection is ended.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum Farewell {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Farewell {
            /// Every farewell, for metrics that start at zero.
            pub const EACH: &'static [Farewell] = &[$(Farewell::$name,)+];

            /// The label of metrics and log lines.
            pub fn reason(self) -> &'static str {
                match self { $(Farewell::$name => $reason,)+ }
            }

            /// What a WebSocket is told.
            pub fn close(self) -> Close {
                match self { $(Farewell::$name => $close,)+ }
            }

            /// How loudly it is logged.
            pub fn level(self) -> Level {
                match self { $(Farewell::$name => Level::$level,)+ }
            }
        }
    };
}

/// What a WebSocket is told at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// A close frame with this code and reason.
    Code(u16, &'static str),
    /// A close frame without a code: clients see 1005.
    WithoutCode,
    /// Nothing: the peer is gone or does not listen.
    Silent,
}

farewells! {
    /// The client closed, politely or not.
    ClientLeft = "client_left", Close::Silent, Debug;
    /// The access token was revoked (`kill`). Node closes without a code: parity.
    TokenRevoked = "token_revoked", Close::WithoutCode, Info;
    /// The account was suspended, disabled or changed its password (`kill`).
    AccountEnded = "account_ended", Close::WithoutCode, Info;
    /// It answered no ping.
    PingTimeout = "ping_timeout", Close::Silent, Info;
    /// The kernel has given it up: it acknowledged nothing for too long.
    Unreachable = "unreachable", Close::Silent, Info;
    /// Its outbox went over its bound of bytes or frames.
    OutboxFull = "outbox_full", Close::Code(1013, "Too slow, come back later"), Info;
    /// The kernel refused every byte for too long.
    WriteBlocked = "write_blocked", Close::Code(1013, "Too slow, come back later"), Info;
    /// Its shard could not keep up and lost events that it was due.
    Lagged = "lagged", Close::Code(1013, "Events were lost, come back"), Warn;
    /// The server stops.
    Stopping = "stopping", Close::Code(1001, "Server is going away"), Debug;
    /// A binary message.
    Binary = "binary", Close::Code(
        1003,
        "The mastodon streaming server does not support binary messages",
    ), Debug;
    /// A frame against RFC 6455.
    ProtocolError = "protocol_error", Close::Code(1002, ""), Debug;
    /// Text that is not UTF-8.
    InvalidText = "invalid_text", Close::Code(1007, ""), Debug;
    /// A message over the bound.
    MessageTooBig = "message_too_big", Close::Code(1009, ""), Debug;
    /// More subscriptions, or more unanswered messages, than a connection may have.
    TooManySubscriptions = "too_many_subscriptions", Close::Code(
        1008,
        "Too many subscriptions",
    ), Info;
    /// It subscribed and unsubscribed without end.
    SubscribingTooFast = "subscribing_too_fast", Close::Code(1008, "Subscribing too fast"), Info;
    /// The request was answered and the connection is not kept.
    Answered = "answered", Close::Silent, Trace;
    /// No complete request head in time.
    HeadTimeout = "head_timeout", Close::Silent, Debug;
    /// There were too many sockets without a client, and it had stood longest.
    CrowdedOut = "crowded_out", Close::Silent, Debug;
    /// No next request in time.
    KeepAliveTimeout = "keep_alive_timeout", Close::Silent, Trace;
    /// A request that is not HTTP, or not allowed.
    BadRequest = "bad_request", Close::Silent, Debug;
    /// It did not answer our close frame in time.
    CloseTimeout = "close_timeout", Close::Silent, Debug;
    /// The socket failed.
    SocketError = "socket_error", Close::Silent, Debug;
}

impl Farewell {
    /// Position in [`Farewell::EACH`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// A queue that is not worth flushing: the client was too slow for it or has left.
    pub fn discards_outbox(self) -> bool {
        matches!(self, Farewell::OutboxFull | Farewell::WriteBlocked | Farewell::Lagged)
            || self.close() == Close::Silent
    }

    /// The peer broke the protocol: our side is shut at once, without waiting for its close frame.
    pub fn shuts_at_once(self) -> bool {
        matches!(self, Farewell::ProtocolError | Farewell::InvalidText | Farewell::MessageTooBig)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_codes_that_bring_clients_back_send_them_away() {
        let sending_away =
            [Farewell::Stopping, Farewell::OutboxFull, Farewell::WriteBlocked, Farewell::Lagged];
        for farewell in sending_away {
            let Close::Code(code, _) = farewell.close() else { panic!("{farewell:?}") };
            assert!([1001, 1012, 1013].contains(&code), "{farewell:?}");
        }
    }

    #[test]
    fn no_two_farewells_share_a_label() {
        let labels: std::collections::HashSet<_> =
            Farewell::EACH.iter().map(|farewell| farewell.reason()).collect();
        assert_eq!(labels.len(), Farewell::EACH.len());
        for (index, farewell) in Farewell::EACH.iter().enumerate() {
            assert_eq!(farewell.index(), index);
        }
    }
}
