//! Small counters with constant labels.

/// How a client is connected, as metrics call it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// `websocket`
    WebSocket,
    /// `eventsource`: server-sent events.
    EventStream,
}

impl Transport {
    /// Both, in the order of the Node server.
    pub const EACH: [Transport; 2] = [Transport::WebSocket, Transport::EventStream];

    /// The value of the label `type`.
    pub fn label(self) -> &'static str {
        match self {
            Transport::WebSocket => "websocket",
            Transport::EventStream => "eventsource",
        }
    }
}

/// One number for each transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByTransport {
    /// WebSocket.
    pub websocket: u64,
    /// Server-sent events.
    pub eventsource: u64,
}

impl ByTransport {
    /// The number of a transport.
    pub fn get(&self, transport: Transport) -> u64 {
        match transport {
            Transport::WebSocket => self.websocket,
            Transport::EventStream => self.eventsource,
        }
    }

    /// One more.
    pub fn add(&mut self, transport: Transport) {
        let number = self.number(transport);
        *number = number.saturating_add(1);
    }

    /// One less, for gauges.
    pub fn subtract(&mut self, transport: Transport) {
        let number = self.number(transport);
        *number = number.saturating_sub(1);
    }

    fn number(&mut self, transport: Transport) -> &mut u64 {
        match transport {
            Transport::WebSocket => &mut self.websocket,
            Transport::EventStream => &mut self.eventsource,
        }
    }
}

/// Counters by a reason that is a constant in the code. Few reasons: a list, searched from its
/// beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReasonCounters {
    counts: Vec<(&'static str, u64)>,
}

impl ReasonCounters {
    /// One more.
    pub fn add(&mut self, reason: &'static str) {
        self.add_many(reason, 1);
    }

    /// `count` more. Adding zero makes the reason appear: a primed zero.
    pub fn add_many(&mut self, reason: &'static str, count: u64) {
        match self.counts.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, number)) => *number = number.saturating_add(count),
            None => self.counts.push((reason, count)),
        }
    }

    /// The number of a reason; zero for one that never occurred.
    pub fn get(&self, reason: &str) -> u64 {
        self.counts.iter().find(|(known, _)| *known == reason).map_or(0, |(_, count)| *count)
    }

    /// All reasons together.
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Adds another core's numbers.
    pub fn merge(&mut self, other: &ReasonCounters) {
        for (reason, count) in &other.counts {
            self.add_many(reason, *count);
        }
    }

    /// Every reason with its number, in alphabetical order.
    pub fn sorted(&self) -> Vec<(&'static str, u64)> {
        let mut sorted = self.counts.clone();
        sorted.sort_unstable();
        sorted
    }
}

/// The streams of `connected_channels`, in the order of the Node server; those of glitch-soc at the
/// end.
pub(super) const STREAMS: [&str; 16] = [
    "system",
    "user",
    "user:notification",
    "list",
    "direct",
    "public",
    "public:media",
    "public:local",
    "public:local:media",
    "public:remote",
    "public:remote:media",
    "hashtag",
    "hashtag:local",
    "public:allow_local_only",
    "public:allow_local_only:media",
    "other",
];

/// Open subscriptions by transport and stream name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamGauges {
    /// In the order of [`STREAMS`].
    streams: [ByTransport; STREAMS.len()],
}

impl StreamGauges {
    /// One subscription more. `stream` is the name that clients use (`public:local`), or `system`.
    pub fn add(&mut self, transport: Transport, stream: &str) {
        self.gauge(stream).add(transport);
    }

    /// One subscription less.
    pub fn subtract(&mut self, transport: Transport, stream: &str) {
        self.gauge(stream).subtract(transport);
    }

    /// Open subscriptions to a stream.
    pub fn get(&self, transport: Transport, stream: &str) -> u64 {
        self.streams.get(position(stream)).map_or(0, |gauge| gauge.get(transport))
    }

    /// Adds another core's numbers.
    pub fn merge(&mut self, other: &StreamGauges) {
        for (gauge, others) in self.streams.iter_mut().zip(&other.streams) {
            gauge.websocket = gauge.websocket.saturating_add(others.websocket);
            gauge.eventsource = gauge.eventsource.saturating_add(others.eventsource);
        }
    }

    fn gauge(&mut self, stream: &str) -> &mut ByTransport {
        &mut self.streams[position(stream)]
    }
}

/// The place of a stream in [`STREAMS`]: always within it, the last one for a name that is not in
/// it.
fn position(stream: &str) -> usize {
    STREAMS.iter().position(|name| *name == stream).unwrap_or(STREAMS.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_add_up_over_cores_and_come_in_alphabetical_order() {
        let mut one = ReasonCounters::default();
        one.add("slow");
        one.add_many("killed", 0);
        let mut two = ReasonCounters::default();
        two.add_many("slow", 2);
        two.add("drained");
        one.merge(&two);
        assert_eq!(one.sorted(), [("drained", 1), ("killed", 0), ("slow", 3)]);
        assert_eq!((one.get("slow"), one.get("never"), one.total()), (3, 0, 4));
    }

    #[test]
    fn a_gauge_never_falls_below_zero_and_unknown_streams_share_one() {
        let mut gauges = StreamGauges::default();
        gauges.add(Transport::WebSocket, "public");
        gauges.subtract(Transport::WebSocket, "public");
        gauges.subtract(Transport::WebSocket, "public");
        gauges.add(Transport::EventStream, "a new one");
        assert_eq!(gauges.get(Transport::WebSocket, "public"), 0);
        assert_eq!(gauges.get(Transport::EventStream, "other"), 1);
    }
}
