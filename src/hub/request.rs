//! What a request asks for: answered at once, or a question first.

use std::borrow::Cow;

use crate::hub::client_message::Wish;
use crate::hub::stream::{Parameter, Parameters, Stream, StreamError};
use crate::protocol::http::{
    Credentials, Exchange, Head, Query, RequestId, check_upgrade, switching_protocols,
    upgrade_refused,
};
use crate::protocol::ids::Token;

/// Below this path live the event streams.
const STREAMING: &str = "/api/v1/streaming/";
const MISSING_TOKEN: &str = "Missing access token";
const INVALID_TOKEN: &str = "Invalid access token";

/// What is to be done with a request.
#[derive(Debug)]
pub enum Outcome {
    /// The answer is written.
    Answered {
        /// Another request may follow.
        keep_alive: bool,
        /// The label under which a refused handshake is counted.
        refused: Option<&'static str>,
    },
    /// The metrics of all cores are wanted.
    Scrape(Exchange),
    /// Somebody wants to know whether the server is ready.
    AskReadiness(Exchange),
    /// First: who is the bearer of this token?
    Authenticate {
        /// The token.
        token: Token,
        /// Then this.
        purpose: Purpose,
    },
}

/// What a request is for once its bearer is known.
#[derive(Debug)]
pub enum Purpose {
    /// A WebSocket.
    Upgrade {
        /// For a refusal.
        request_id: RequestId,
        /// The 101.
        accepted: Vec<u8>,
        /// The subscription in the query.
        first: Option<Wish>,
    },
    /// An event stream.
    EventStream {
        /// For the answer.
        exchange: Exchange,
        /// The stream.
        wish: Wish,
    },
    /// An answer for authenticated clients only.
    Answer {
        /// For a refusal.
        exchange: Exchange,
        /// The answer.
        bytes: Vec<u8>,
    },
}

/// Decides about a request and writes what can be answered at once. `front_page` is the
/// demonstration's page.
pub fn decide(
    head: &Head<'_>,
    request_id: RequestId,
    front_page: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Outcome {
    if head.upgrade_requested() {
        return upgrade(head, request_id, out);
    }
    let exchange = Exchange::new(head, request_id);
    let answered = Outcome::Answered { keep_alive: exchange.keep_alive, refused: None };
    let reads = matches!(head.method, "GET" | "HEAD");
    match head.path {
        _ if head.method == "OPTIONS" => exchange.preflight(head, out),
        path if reads && is_route(path, "/api/v1/streaming/health") => exchange.health(out),
        path if reads && is_route(path, "/favicon.ico") => exchange.not_found(out),
        path if reads && is_route(path, "/metrics") => return Outcome::Scrape(exchange),
        path if reads && is_route(path, "/ready") => return Outcome::AskReadiness(exchange),
        path => match (path, front_page) {
            ("/", Some(page)) if reads => exchange.page(page, out),
            _ => return event_stream(head, exchange, out),
        },
    }
    answered
}

impl Purpose {
    /// How its refusal is worded.
    pub fn asker(&self) -> Asker {
        match self {
            Purpose::Upgrade { request_id, .. } => Asker::WebSocket(*request_id),
            Purpose::EventStream { exchange, .. } | Purpose::Answer { exchange, .. } => {
                Asker::Http(*exchange)
            }
        }
    }
}

/// Who is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asker {
    /// Somebody who wanted to upgrade.
    WebSocket(RequestId),
    /// Anybody else.
    Http(Exchange),
}

/// Refuses what was asked: for a WebSocket in headers and with a close, else as JSON. Returns
/// whether another request may follow.
pub fn refuse(asker: Asker, error: Refused, out: &mut Vec<u8>) -> bool {
    let (status, message, retry_after_secs) = match error {
        Refused::InvalidToken => (401, INVALID_TOKEN, None),
        Refused::Failure => (500, StreamError::Unexpected.message(), None),
        Refused::Overloaded(seconds) | Refused::Unavailable(seconds) => {
            (503, "Try again later", Some(seconds))
        }
        Refused::Full(seconds) => (503, "The server is full", Some(seconds)),
        Refused::AccountFull(seconds) | Refused::AddressFull(seconds) => {
            (429, "Too many connections", Some(seconds))
        }
        Refused::Stream(error) => (error.status(), error.message(), None),
    };
    let exchange = match asker {
        Asker::WebSocket(request_id) => {
            upgrade_refused(status, message, request_id, retry_after_secs, out);
            return false;
        }
        Asker::Http(exchange) => exchange,
    };
    match retry_after_secs {
        Some(seconds) => exchange.later(status, message, seconds, out),
        None => exchange.error(status, message, out),
    }
    exchange.keep_alive
}

/// Why an authenticated purpose is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// 401.
    InvalidToken,
    /// 500: Postgres has answered with an error. What the Node server says to every failure of the
    /// database; it exits or hangs where we say [`Refused::Unavailable`].
    Failure,
    /// 503, with the seconds after which to come back: Postgres is away or silent. Clients give up
    /// for good on 401, proxies and people take 500 for a defect; this is neither.
    Unavailable(u32),
    /// 503, with the seconds after which to come back.
    Overloaded(u32),
    /// 503: as many clients are connected as there may be.
    Full(u32),
    /// 429: as many connections of this account.
    AccountFull(u32),
    /// 429: as many connections from this address.
    AddressFull(u32),
    /// What the stream says.
    Stream(StreamError),
}

impl Refused {
    /// The label under which it is counted.
    pub fn label(self) -> &'static str {
        match self {
            Refused::InvalidToken => "invalid_token",
            Refused::Failure => "failure",
            Refused::Unavailable(_) => "unavailable",
            Refused::Overloaded(_) => "overloaded",
            Refused::Full(_) => "full",
            Refused::AccountFull(_) => "account_full",
            Refused::AddressFull(_) => "address_full",
            Refused::Stream(StreamError::MissingScope) => "missing_scope",
            Refused::Stream(_) => "bad_stream",
        }
    }
}

/// Routes that are no streams: letter case and one slash at the end do not matter.
fn is_route(path: &str, route: &str) -> bool {
    path.strip_suffix('/').unwrap_or(path).eq_ignore_ascii_case(route)
}

fn upgrade(head: &Head<'_>, request_id: RequestId, out: &mut Vec<u8>) -> Outcome {
    let refused = |label| Outcome::Answered { keep_alive: false, refused: Some(label) };
    let handshake = match check_upgrade(head) {
        Ok(handshake) => handshake,
        Err(error) => {
            error.answer(head.method == "HEAD", out);
            return refused("bad_handshake");
        }
    };
    let token = match Credentials::of(head) {
        Credentials::Given(token) => token,
        Credentials::Missing => {
            upgrade_refused(401, MISSING_TOKEN, request_id, None, out);
            return refused("missing_token");
        }
        Credentials::Unusable => {
            upgrade_refused(401, INVALID_TOKEN, request_id, None, out);
            return refused("invalid_token");
        }
    };
    let mut accepted = Vec::with_capacity(256);
    switching_protocols(&handshake, request_id, &mut accepted);
    let query = head.query();
    let first = query
        .first("stream")
        .filter(|name| !name.is_empty())
        .map(|name| Wish(Stream::parse(&name, &Given::of(&query).parameters())));
    Outcome::Authenticate { token, purpose: Purpose::Upgrade { request_id, accepted, first } }
}

fn event_stream(head: &Head<'_>, exchange: Exchange, out: &mut Vec<u8>) -> Outcome {
    let query = head.query();
    let given = Given::of(&query);
    let stream = head
        .path
        .strip_prefix(STREAMING)
        .and_then(|path| Stream::from_path(path, query.flag("only_media"), &given.parameters()));
    let Some(stream) = stream else {
        exchange.error(400, "Unknown channel requested", out);
        return Outcome::Answered { keep_alive: exchange.keep_alive, refused: None };
    };
    let token = match Credentials::of(head) {
        Credentials::Given(token) => token,
        refused => {
            let missing = refused == Credentials::Missing;
            let (message, label) = match missing {
                true => (MISSING_TOKEN, "missing_token"),
                false => (INVALID_TOKEN, "invalid_token"),
            };
            exchange.error(401, message, out);
            return Outcome::Answered { keep_alive: exchange.keep_alive, refused: Some(label) };
        }
    };
    let purpose = match head.method {
        "GET" => Purpose::EventStream { exchange, wish: Wish(stream) },
        "HEAD" => {
            let mut bytes = Vec::new();
            exchange.event_stream_head(&mut bytes);
            Purpose::Answer { exchange, bytes }
        }
        _ => {
            let mut bytes = Vec::new();
            exchange.cannot(head, &mut bytes);
            Purpose::Answer { exchange, bytes }
        }
    };
    Outcome::Authenticate { token, purpose }
}

/// The parameters of a query, decoded.
struct Given<'a> {
    tag: Option<Cow<'a, str>>,
    list: Option<Cow<'a, str>>,
    allow_local_only: bool,
}

impl<'a> Given<'a> {
    fn of(query: &Query<'a>) -> Self {
        Given {
            tag: query.first("tag"),
            list: query.first("list"),
            allow_local_only: query.flag("allow_local_only"),
        }
    }

    fn parameters(&self) -> Parameters<'_> {
        Parameters {
            tag: parameter(self.tag.as_deref()),
            list: parameter(self.list.as_deref()),
            allow_local_only: self.allow_local_only,
        }
    }
}

fn parameter(value: Option<&str>) -> Parameter<'_> {
    match value {
        None | Some("") => Parameter::Missing,
        Some(text) => Parameter::Text(text),
    }
}
