//! Every bound of the server: its name, unit, default and reason. Nothing grows without one of
//! these.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::env::TRUNKLINE_PREFIX;
use super::reader::Reader;
use super::typed;

macro_rules! limits {
    ($($(#[doc = $doc:literal])+ $name:ident: $kind:ty = $default:expr $(, $range:expr)?;)+) => {
        /// Every bound. Each field's documentation says why its default is what it is; each can be
        /// set by the environment variable `TRUNKLINE_` + its name in capitals (durations in
        /// seconds).
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $doc])+ pub $name: $kind,)+
        }

        impl Limits {
            /// The defaults, as a constant so that their relations are checked at compile time.
            pub const DEFAULT: Self = Self { $($name: $default,)+ };

            /// Every field's name, in the order of the file.
            pub const NAMES: &[&str] = &[$(stringify!($name),)+];

            /// Reads each limit's variable.
            pub(super) fn read(reader: &mut Reader) -> Self {
                let limits = Self {
                    $($name: {
                        #[allow(unused_mut, unused_assignments, reason = "only some name a range")]
                        let mut range = <$kind as LimitValue>::RANGE;
                        $(range = $range;)?
                        read_one(reader, stringify!($name), Self::DEFAULT.$name, range)
                    },)+
                };
                limits.check_relations(reader);
                limits
            }
        }
    };
}

/// A kind of limit.
trait LimitValue: Clone {
    /// What a limit may be where its line names no range.
    const RANGE: RangeInclusive<Self>;

    fn parse(text: &str, range: &RangeInclusive<Self>) -> Result<Self, String>;

    fn show(&self) -> String;
}

impl LimitValue for usize {
    const RANGE: RangeInclusive<Self> = 1..=1 << 40;

    fn parse(text: &str, range: &RangeInclusive<Self>) -> Result<Self, String> {
        typed::number(text, range)
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl LimitValue for Duration {
    const RANGE: RangeInclusive<Self> = Duration::from_millis(1)..=secs(86_400);

    fn parse(text: &str, range: &RangeInclusive<Self>) -> Result<Self, String> {
        typed::seconds(text, range)
    }

    fn show(&self) -> String {
        typed::show_seconds(self)
    }
}

fn read_one<T: LimitValue>(
    reader: &mut Reader,
    field: &str,
    default: T,
    range: RangeInclusive<T>,
) -> T {
    let parse = |text: &str| T::parse(text, &range);
    reader.value(&variable(field), default, parse, |value| value.show())
}

/// The variable that sets a limit.
pub(super) fn variable(field: &str) -> String {
    format!("{TRUNKLINE_PREFIX}{}", field.to_ascii_uppercase())
}

/// Of so many sockets one is never a client's: health and metrics are answered in a full house.
const SPARE_PART: usize = 16;

impl Limits {
    /// The limits of one of `shards` shards: what holds for the whole process is shared equally,
    /// and is never more than `descriptors`, which all clients' sockets together may take.
    pub fn of_shard(&self, shards: usize, descriptors: usize) -> Limits {
        let connections = self.connections_max.min(descriptors - descriptors / SPARE_PART);
        Limits {
            unopened_max: (self.unopened_max / shards).max(1),
            connections_max: (connections / shards).max(1),
            ..self.clone()
        }
    }

    /// Sockets with and without a client that a shard holds: what clients do not take is there for
    /// handshakes, and unless there are next to none, all shards together stay within the
    /// descriptors.
    pub fn sockets_max(&self) -> usize {
        self.connections_max + (self.connections_max / (SPARE_PART - 1)).max(1)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

limits! {
    /// Bytes of a request head. A browser with large cookies sends some 8 KiB; Node's own bound is
    /// 16 KiB.
    head_bytes_max: usize = 16 * 1024, 1024..=1024 * 1024;
    /// Header lines in a request head. Proxies add a dozen to a browser's twenty.
    head_headers_max: usize = 64, 8..=1024;
    /// Seconds from accept (or the last answer) to a complete head, against slow-loris.
    head_secs_max: Duration = secs(10);
    /// Clients connected at a time. Further ones are told 503 while health and metrics are still
    /// answered. Descriptors end first unless this is set lower ([`Limits::of_shard`]). For the
    /// whole process; each shard holds its equal share.
    connections_max: usize = 1 << 24, 1..=1 << 32;
    /// Sockets without a client: no whole head yet, idle between requests, or on their way out. One
    /// more sends away the one that has stood longest, so that a flood of silent sockets keeps no
    /// client out: a client says what it wants at once. For the whole process, shared equally among
    /// shards; at 16 KiB a head 256 MiB.
    unopened_max: usize = 16_384, 64..=1 << 24;
    /// Connections of one account on one shard; further ones are told 429. A page of live posts
    /// shows every visitor the same account's token, so only a client that connects again and again
    /// without end is stopped. Nobody is refused below this, nobody gets more than it times the
    /// shards.
    connections_per_account_max: usize = 10_000, 1..=1 << 32;
    /// Connections from one address (IPv6: one /64) on one shard; further ones are told 429.
    /// Schools and mobile carriers put tens of thousands behind one address, and behind a proxy
    /// that is not in `TRUSTED_PROXY_IP` everybody has the same: so it is as many as one IPv4
    /// address has ports, and who knows better sets it lower. Unix sockets and trusted proxies that
    /// name nobody do not count.
    connections_per_address_max: usize = 65_536, 1..=1 << 32;
    /// Bytes that may come behind a head while its answer is awaited: a client that does not wait
    /// may send its next request or some frames, and no more.
    early_bytes_max: usize = 8 * 1024, 1024..=1024 * 1024;
    /// Bytes of a client's WebSocket message. Real ones stay under a hundred; the largest tag fits
    /// many times.
    message_bytes_max: usize = 64 * 1024, 125..=16 * 1024 * 1024;
    /// Bytes of frames a connection may have waiting, counted in full for each connection. At 4 KB
    /// an event some 250 of them, more than timelines have in a burst, and 8 seconds of a line of
    /// 1 Mbit/s. A thousand such clients are at most 1 GiB; whoever is further behind is better
    /// served by the API.
    outbox_bytes_max: usize = 1024 * 1024, 16 * 1024..=1 << 30;
    /// Frames a connection may have waiting: small events must not hide in a large byte bound.
    outbox_frames_max: usize = 1000, 1..=1_000_000;
    /// Seconds for which the kernel may refuse every byte of a connection before its client counts
    /// as gone. The kernel's buffers are full by then. Gaps of a mobile network last seconds; were
    /// it much longer, what waits for those who are gone would add up.
    outbox_blocked_secs_max: Duration = secs(10);
    /// Subscriptions of one connection. The web client holds about ten; a column per hashtag some
    /// dozens.
    subscriptions_max: usize = 256, 1..=65_536;
    /// Times that a WebSocket client may subscribe or unsubscribe from one ping to the next. What
    /// people open is some dozens in that time. Each hashtag that nobody else reads costs Redis a
    /// subscription and a key that lives for 18 minutes; a list costs Postgres a query.
    subscription_changes_max: usize = 1024, 16..=65_535;
    /// Bytes of a hashtag as the client wrote it. Mastodon's own names end at some hundred
    /// characters.
    tag_bytes_max: usize = 1024, 64..=64 * 1024;
    /// Seconds between two pings of a WebSocket; the Node server's 30, phones lose NAT entries
    /// soon after.
    ping_interval_secs: Duration = secs(30);
    /// Seconds between two `:thump` comments of an event stream; the Node server's 15.
    thump_interval_secs: Duration = secs(15);
    /// Seconds for which a client may acknowledge nothing of what was sent before the kernel gives
    /// it up. Dead readers of event streams, who never say anything themselves, are found by it
    /// within 90 seconds: this, a `:thump`, and the kernel's own rounding.
    unacknowledged_secs_max: Duration = secs(60);
    /// Seconds from our close frame to the client's before the socket is closed anyway; Node waits
    /// 30.
    closing_secs_max: Duration = secs(30);
    /// Seconds a client has to read our last bytes and to close before its socket is closed for it.
    /// Were it closed at once, what the client still sends would make the kernel throw our last
    /// bytes away. Two seconds are several round trips of a slow network.
    linger_secs_max: Duration = secs(2);
    /// Seconds an idle keep-alive connection waits for its next request; Node's own
    /// `keepAliveTimeout`.
    keep_alive_secs_max: Duration = secs(5);
    /// Seconds a client waits for any answer of the control core before it is told 503, whatever
    /// happens there.
    question_secs_max: Duration = secs(15);
    /// Seconds for which clients wait for Postgres before they are told 503 (R8: two seconds). The
    /// statement goes on: its answer shows that Postgres is back.
    answer_secs_max: Duration = Duration::from_millis(1500);
    /// Seconds one statement may take in Postgres before it is cancelled and its connection given
    /// up. All of them find their rows through an index, in milliseconds: ten seconds mean a lock
    /// or a server that hangs. Events that must be judged wait as long, with what is behind them.
    query_secs_max: Duration = secs(10);
    /// Seconds for the request to cancel a statement to reach Postgres; the place of its connection
    /// in the pool is taken meanwhile. It takes a connection and 16 bytes: a server that has not
    /// had them after two seconds is not there, and the place is worth more.
    cancel_secs_max: Duration = secs(2);
    /// Tokens in one look-up query: a thousand clients arriving together cost a few queries.
    question_batch_max: usize = 512, 1..=16_384;
    /// Clients of one shard that wait for an answer, and questions that wait in the pool; further
    /// ones are told 503 at once. In a storm some 15,000 clients a second are answered on two
    /// processors: whoever is behind four seconds of that does better to come again.
    questions_waiting_max: usize = 65_536, 1..=1 << 24;
    /// Deliveries on their way to one shard. At 4 KB each some 64 MB in the worst case, shared with
    /// its peers.
    mesh_deliveries_max: usize = 16_384, 16..=1 << 24;
    /// Events of one channel that wait for a verdict; to make room the oldest are withheld and
    /// counted. In the ten seconds that a statement may take it is 400 events a second, more than
    /// public timelines have; at 4 KB each it is 16 MB for a channel.
    verdicts_waiting_max: usize = 4096, 1..=1 << 24;
    /// Accounts whose custom filters stay cached after their last reader left, while another
    /// connection of the account hears of changes: who opens and closes columns costs no query.
    /// With twenty keywords each, which few have, these are some 80,000 keywords.
    filters_cached_max: usize = 4096, 0..=1 << 24;
    /// Bytes of one reply of Redis or Postgres. A status is 2 to 6 KB; 64 MB is a mistake or an
    /// attack.
    reply_bytes_max: usize = 64 * 1024 * 1024, 64 * 1024..=1 << 30;
    /// Values in one reply of Redis. A message has three, `ROLE` three for each replica.
    reply_values_max: usize = 4096, 64..=1 << 24;
    /// Arrays and objects inside each other in a message of Rails. Ruby's own generator ends at
    /// 100.
    json_depth_max: usize = 128, 16..=512;
    /// Channels in one `SUBSCRIBE` or one pipeline of `SET`s, so that Redis serves others in
    /// between.
    redis_batch_max: usize = 512, 1..=16_384;
    /// Seconds between renewals of a `subscribed:` key, as the Node server renews them: two may be
    /// missed before the key expires.
    subscribed_renew_secs: Duration = secs(360);
    /// Seconds after which a `subscribed:` key expires, as the Node server sets it: so long Rails
    /// goes on publishing for a server that ended without a word.
    subscribed_expire_secs: Duration = secs(1080);
    /// Seconds of silence on a Redis connection before a PING, and again before it counts as lost:
    /// a connection that hangs is found within ten seconds (R7), and a Redis that forks to save, or
    /// works on one slow command, is not taken for dead.
    redis_silence_secs_max: Duration = secs(5);
    /// Seconds for which subscriptions wait for the command connection, which sets their keys, to
    /// stand and to answer. Both usually take a millisecond; what is subscribed without its key
    /// gets it later.
    redis_keys_secs_max: Duration = Duration::from_millis(300);
    /// Seconds after a refused key (Redis is out of memory, cannot save, is a replica) until it is
    /// tried again: one command, and all keys once it is taken.
    redis_refused_secs: Duration = secs(2);
    /// Seconds until a connection to one address of Redis stands, TLS and log-in included. Two lost
    /// packets cost three seconds (the kernel repeats after one and two more); an address where
    /// nobody answers must not keep us from the next for much longer.
    redis_connect_secs_max: Duration = secs(5);
    /// Seconds for a host name to be looked up: two name servers of five seconds each.
    lookup_secs_max: Duration = secs(10);
    /// Seconds for one sentinel to answer before the next is asked. A sentinel answers from memory,
    /// in milliseconds; in a failover the first in the list is often the one that went down, and
    /// each second spent on it is a second without events.
    sentinel_secs_max: Duration = secs(2);
    /// Longest pause between two attempts to reach Redis: with connecting itself it heals within a
    /// second (R7).
    reconnect_secs_max: Duration = Duration::from_millis(800);
    /// Longest pause between two attempts to reach Postgres: with connecting itself it heals within
    /// a second (R8).
    postgres_reconnect_secs_max: Duration = Duration::from_millis(700);
    /// Seconds for which questions wait while no connection to Postgres can be had; after that they
    /// fail at once. A restart takes less, and clients are told within two seconds (R8).
    postgres_unreachable_secs_max: Duration = Duration::from_millis(1500);
    /// Seconds without an answer of Postgres before it is asked whether it is there, and again
    /// before it counts as away. Where clients come and go it is hardly ever asked, on a quiet
    /// server every five seconds: so `/ready` knows within ten although nobody connects.
    postgres_silence_secs_max: Duration = secs(5);
    /// Seconds between two signs of life of a shard. Each wakes two cores: some 100 µs.
    pulse_interval_secs: Duration = secs(1), Duration::from_millis(50)..=secs(3600);
    /// Signs of life that a shard may leave out before it counts as hung. Its turns are bounded to
    /// milliseconds whatever its load; seconds mean a defect, or a machine that swaps.
    pulses_missed_max: usize = 5, 2..=3600;
    /// Statements on their way on one Postgres connection, once the pool is full and every
    /// connection has one. A few hide the way there and back; more would only stand behind a slow
    /// statement while another connection becomes free.
    queries_pipelined_max: usize = 4;
}

/// Relations that must hold, or a server would be at odds with itself: (smaller, larger, why).
macro_rules! relations {
    ($($smaller:ident <= $larger:ident: $why:literal;)+) => {
        /// The same for the defaults, before there is a server.
        const _: () = {
            $(
                let larger = Limits::DEFAULT.$larger;
                assert!(Comparable(Limits::DEFAULT.$smaller).at_most(larger), $why);
            )+
        };

        impl Limits {
            fn check_relations(&self, reader: &mut Reader) {
                $(if self.$smaller > self.$larger {
                    let (name, value) = (variable(stringify!($smaller)), self.$smaller.show());
                    let (larger, most) = (variable(stringify!($larger)), self.$larger.show());
                    let problem = format!("must be at most {larger} = {most}: {}", $why);
                    reader.error(&name, &value, problem);
                })+
            }
        }
    };
}

/// Comparison in constants, which traits cannot do.
struct Comparable<T>(T);

impl Comparable<usize> {
    const fn at_most(&self, other: usize) -> bool {
        self.0 <= other
    }
}

impl Comparable<Duration> {
    const fn at_most(&self, other: Duration) -> bool {
        self.0.as_nanos() <= other.as_nanos()
    }
}

relations! {
    tag_bytes_max <= message_bytes_max: "a tag arrives in a message";
    tag_bytes_max <= head_bytes_max: "a tag arrives in a request line";
    subscribed_renew_secs <= subscribed_expire_secs: "a key must be renewed before it expires";
    subscriptions_max <= subscription_changes_max: "one must be able to open them all";
    query_secs_max <= question_secs_max: "a client must not give up before its query does";
    question_batch_max <= questions_waiting_max: "a batch is taken from those that wait";
    answer_secs_max <= question_secs_max: "newcomers hear 503 before their question ends";
    postgres_reconnect_secs_max <= question_secs_max: "a question must outlive a short reconnect";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_half_open_redis_is_found_within_ten_seconds_and_newcomers_wait_no_two_for_postgres() {
        let limits = Limits::DEFAULT;
        assert!(limits.redis_silence_secs_max * 2 <= secs(10));
        assert!(limits.answer_secs_max < secs(2));
        assert!(limits.postgres_unreachable_secs_max < secs(2));
    }

    #[test]
    fn dead_readers_of_event_streams_are_found_within_90_seconds() {
        let limits = Limits::DEFAULT;
        let found = limits.thump_interval_secs + limits.unacknowledged_secs_max;
        assert!(found <= secs(80), "{found:?} and the kernel's rounding");
    }

    #[test]
    fn all_shards_together_have_what_the_process_has() {
        let limits = Limits { connections_max: 1000, unopened_max: 400, ..Limits::DEFAULT };
        let plenty = limits.of_shard(4, 1 << 20);
        assert_eq!((plenty.connections_max, plenty.unopened_max), (250, 100));
        let few = limits.of_shard(4, 800);
        assert_eq!((few.connections_max, few.unopened_max), (187, 100));
        assert_eq!(few.sockets_max(), 199);
        let none = limits.of_shard(4, 0);
        assert_eq!((none.connections_max, none.sockets_max()), (1, 2));
    }
}
