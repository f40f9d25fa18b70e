//! From the cores' numbers to the page.

use super::counters::STREAMS;
use super::text::Page;
use super::{
    ByTransport, ControlMetrics, Latency, ProcessFacts, ReasonCounters, ShardMetrics, StreamGauges,
    Transport,
};

/// The page that Prometheus reads: snapshots of every shard and of the control core, and what the
/// kernel says.
pub fn render(shards: &[ShardMetrics], control: &ControlMetrics, process: &ProcessFacts) -> String {
    let mut page = Page::default();
    process_families(&mut page, process);
    node_families(&mut page, shards, control);
    connection_families(&mut page, shards);
    delivery_families(&mut page, shards, control);
    redis_families(&mut page, control);
    postgres_families(&mut page, control);
    turn_families(&mut page, shards, control);
    build_families(&mut page, process);
    page.finish()
}

fn process_families(page: &mut Page, process: &ProcessFacts) {
    page.counter("process_cpu_user_seconds_total", "Total user CPU time spent in seconds.")
        .value(process.cpu_user_secs);
    page.counter("process_cpu_system_seconds_total", "Total system CPU time spent in seconds.")
        .value(process.cpu_system_secs);
    page.counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.")
        .value(process.cpu_user_secs + process.cpu_system_secs);
    page.gauge(
        "process_start_time_seconds",
        "Start time of the process since unix epoch in seconds.",
    )
    .value(process.start_unix_secs);
    page.gauge("process_resident_memory_bytes", "Resident memory size in bytes.")
        .value(process.resident_bytes);
    page.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.")
        .value(process.virtual_bytes);
    page.gauge("process_heap_bytes", "Process heap size in bytes.").value(process.heap_bytes);
    page.gauge("process_open_fds", "Number of open file descriptors.").value(process.open_fds);
    page.gauge("process_max_fds", "Maximum number of open file descriptors.")
        .value(process.max_fds);
}

/// The names that the Node server had.
fn node_families(page: &mut Page, shards: &[ShardMetrics], control: &ControlMetrics) {
    page.gauge("pg_pool_total_connections", "Connections to Postgres in the pool.")
        .value(control.pool_connections);
    page.gauge("pg_pool_idle_connections", "Connections to Postgres that do nothing.")
        .value(control.pool_idle);
    page.gauge("pg_pool_waiting_queries", "Queries that wait for a connection to Postgres.")
        .value(control.pool_waiting);

    let mut clients = page.gauge("connected_clients", "Clients connected now.");
    for transport in Transport::EACH {
        clients.sample(&[("type", transport.label())], total(shards, |s| s.clients, transport));
    }

    let mut channels = StreamGauges::default();
    for shard in shards {
        channels.merge(&shard.channels);
    }
    let mut family = page.gauge("connected_channels", "Subscriptions of clients open now.");
    for stream in STREAMS {
        for transport in Transport::EACH {
            let labels = [("type", transport.label()), ("channel", stream)];
            family.sample(&labels, channels.get(transport, stream));
        }
    }

    page.gauge("redis_subscriptions", "Redis channels subscribed to now.")
        .value(control.redis_subscriptions);
    page.counter("redis_messages_received_total", "Messages received from Redis.")
        .value(control.redis_messages_received);

    let mut sent = page.counter("messages_sent_total", "Events sent to clients.");
    for transport in Transport::EACH {
        sent.sample(&[("type", transport.label())], total(shards, |s| s.messages_sent, transport));
    }
}

fn connection_families(page: &mut Page, shards: &[ShardMetrics]) {
    let mut family = page.gauge("trunkline_connections", "Clients connected now, by shard.");
    for shard in shards {
        for transport in Transport::EACH {
            let number = shard.shard.to_string();
            let labels = [("shard", number.as_str()), ("type", transport.label())];
            family.sample(&labels, shard.clients.get(transport));
        }
    }
    per_shard(page.gauge("trunkline_sockets", "Client sockets open now."), shards, |s| s.sockets);
    let accepted = page.counter("trunkline_accepted_total", "Connections accepted.");
    per_shard(accepted, shards, |shard| shard.accepted);
    reasons(
        page,
        "trunkline_accept_failures_total",
        "Connections that could not be accepted, by kind of error.",
        shards.iter().map(|shard| &shard.accept_failures),
    );
    reasons(
        page,
        "trunkline_handshakes_refused_total",
        "Requests and WebSocket handshakes refused, by reason.",
        shards.iter().map(|shard| &shard.handshakes_refused),
    );
    reasons(
        page,
        "trunkline_farewells_total",
        "Connections ended, by reason.",
        shards.iter().map(|shard| &shard.farewells),
    );
    let waiting = page.gauge(
        "trunkline_questions_waiting",
        "Questions of connections to the control core that have no answer yet.",
    );
    per_shard(waiting, shards, |shard| shard.questions_waiting);
}

fn delivery_families(page: &mut Page, shards: &[ShardMetrics], control: &ControlMetrics) {
    let mut latency = Latency::default();
    for shard in shards {
        latency.merge(&shard.latency);
    }
    page.histogram(
        "trunkline_delivery_seconds",
        "From reading an event from Redis to a client's socket, once per event and client.",
    )
    .latency(&[], &latency);
    let bytes = page.counter("trunkline_sent_bytes_total", "Bytes written to clients.");
    per_shard(bytes, shards, |shard| shard.bytes_sent);
    let outbox = page.gauge("trunkline_outbox_bytes", "Bytes that wait for slow clients.");
    per_shard(outbox, shards, |shard| shard.outbox_bytes);
    let waiting = page.gauge("trunkline_outbox_connections", "Clients with bytes waiting.");
    per_shard(waiting, shards, |shard| shard.outbox_connections);
    let deliveries =
        page.counter("trunkline_deliveries_total", "Events taken from the mesh, by shard.");
    per_shard(deliveries, shards, |shard| shard.deliveries);

    let mut dropped = page.counter(
        "trunkline_mesh_dropped_total",
        "Events that a shard's queue in the mesh had no room for.",
    );
    for shard in shards {
        let count = control.mesh_dropped.get(shard.shard).copied().unwrap_or(0);
        dropped.sample(&[("shard", &shard.shard.to_string())], count);
    }
    reasons(
        page,
        "trunkline_withheld_total",
        "Events kept from a client, once per event and client, by reason.",
        shards.iter().map(|shard| &shard.withheld),
    );
    reasons(
        page,
        "trunkline_unjudged_total",
        "Events kept from everybody for whom they could not be checked, by reason.",
        std::iter::once(&control.withheld),
    );
}

fn redis_families(page: &mut Page, control: &ControlMetrics) {
    page.gauge("trunkline_ready", "1 while the path /ready says so.")
        .value(u8::from(control.ready));
    page.gauge("trunkline_redis_connected", "1 while the subscriber connection to Redis is up.")
        .value(u8::from(control.redis_connected));
    page.counter(
        "trunkline_redis_gaps_total",
        "Losses of the subscriber connection: events may have been missed each time.",
    )
    .value(control.redis_gaps);
    page.gauge(
        "trunkline_redis_commands_connected",
        "1 while the connection to Redis is up that sets the keys subscribed:….",
    )
    .value(u8::from(control.redis_commands_connected));
    page.counter(
        "trunkline_redis_refusals_total",
        "Commands that Redis has refused: Rails does not publish where a key is missing.",
    )
    .value(control.redis_refusals);
    reasons(
        page,
        "trunkline_messages_ignored_total",
        "Messages from Redis that became no event, by reason.",
        std::iter::once(&control.messages_ignored),
    );
}

fn postgres_families(page: &mut Page, control: &ControlMetrics) {
    page.gauge("trunkline_postgres_connected", "1 while a connection to Postgres works.")
        .value(u8::from(control.postgres_connected));
    reasons_as(
        page,
        ("trunkline_queries_total", "Questions to Postgres, by kind.", "kind"),
        std::iter::once(&control.queries),
    );
    reasons_as(
        page,
        ("trunkline_queries_failed_total", "Questions that Postgres did not answer.", "kind"),
        std::iter::once(&control.queries_failed),
    );
    page.histogram("trunkline_query_seconds", "Time of questions to Postgres.")
        .latency(&[], &control.query_time);
    page.counter("trunkline_verdict_queries_total", "Queries about who must not see a status.")
        .value(control.verdict_queries);
    page.histogram("trunkline_verdict_seconds", "From an event's first query to its verdict.")
        .latency(&[], &control.verdict_time);
    page.gauge("trunkline_verdicts_waiting", "Events that wait for a verdict.")
        .value(control.verdicts_waiting);
    page.gauge("trunkline_filters_cached", "Accounts whose custom filters are cached.")
        .value(control.filters_cached);
}

fn turn_families(page: &mut Page, shards: &[ShardMetrics], control: &ControlMetrics) {
    let mut turns = Latency::default();
    for shard in shards {
        turns.merge(&shard.turns.times);
    }
    let mut family = page.histogram("trunkline_turn_seconds", "Time of busy turns of a core.");
    family.latency(&[("core", "shard")], &turns);
    family.latency(&[("core", "control")], &control.turns.times);
    let mut family = page.gauge(
        "trunkline_loop_lag_seconds",
        "The longest turn of a core in its last one to two busy minutes.",
    );
    for shard in shards {
        family.sample(&[("core", &shard.shard.to_string())], shard.turns.longest_secs());
    }
    family.sample(&[("core", "control")], control.turns.longest_secs());
}

fn build_families(page: &mut Page, process: &ProcessFacts) {
    page.counter("trunkline_log_lines_lost_total", "Log lines that standard output did not take.")
        .value(crate::log::lines_lost());
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("driver", process.driver)];
    page.gauge("trunkline_build_info", "The version that runs.").sample(&labels, 1);
}

fn total(
    shards: &[ShardMetrics],
    field: fn(&ShardMetrics) -> ByTransport,
    transport: Transport,
) -> u64 {
    shards.iter().map(|shard| field(shard).get(transport)).sum()
}

fn per_shard(
    mut family: super::text::Family<'_>,
    shards: &[ShardMetrics],
    field: fn(&ShardMetrics) -> u64,
) {
    for shard in shards {
        family.sample(&[("shard", &shard.shard.to_string())], field(shard));
    }
}

fn reasons<'a>(
    page: &mut Page,
    name: &'static str,
    help: &'static str,
    cores: impl Iterator<Item = &'a ReasonCounters>,
) {
    reasons_as(page, (name, help, "reason"), cores);
}

/// A family of counters (name, help, label) that every core counts its own part of.
fn reasons_as<'a>(
    page: &mut Page,
    (name, help, label): (&'static str, &'static str, &'static str),
    cores: impl Iterator<Item = &'a ReasonCounters>,
) {
    let mut sum = ReasonCounters::default();
    for counters in cores {
        sum.merge(counters);
    }
    let mut family = page.counter(name, help);
    for (reason, count) in sum.sorted() {
        family.sample(&[(label, reason)], count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A sample: its name, its labels in the order of their names, its value.
    type Sample = (String, Vec<(String, String)>, f64);

    /// What a scraper reads: every sample, and the declared type of each family. Panics on text
    /// that breaks the format, on a sample before its declaration and on a family declared twice.
    fn parsed(text: &str) -> (Vec<Sample>, BTreeMap<String, String>) {
        let (mut samples, mut kinds) = (Vec::new(), BTreeMap::new());
        let mut helped = String::new();
        assert!(text.ends_with('\n'));
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(help) = line.strip_prefix("# HELP ") {
                helped = help.split(' ').next().unwrap().to_owned();
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, helped, "TYPE follows HELP");
                assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            } else {
                let sample = parsed_sample(line);
                assert!(family_of(&sample.0, &kinds).starts_with(&helped), "{line} out of place");
                samples.push(sample);
            }
        }
        (samples, kinds)
    }

    fn family_of<'a>(name: &'a str, kinds: &BTreeMap<String, String>) -> &'a str {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        match base {
            Some(base) if kinds.get(base).is_some_and(|kind| kind == "histogram") => base,
            _ => {
                assert!(kinds.contains_key(name), "{name} is not declared");
                name
            }
        }
    }

    fn parsed_sample(line: &str) -> Sample {
        let (head, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match head.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
            None => (head, ""),
        };
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{line}");
        let mut pairs: Vec<(String, String)> = labels
            .split_terminator(',')
            .map(|pair| {
                let (label, value) = pair.split_once("=\"").unwrap();
                (label.to_owned(), value.strip_suffix('"').unwrap().to_owned())
            })
            .collect();
        pairs.sort();
        (name.to_owned(), pairs, value.parse().unwrap())
    }

    fn some_shards() -> Vec<ShardMetrics> {
        let mut shards = vec![ShardMetrics::new(0), ShardMetrics::new(1)];
        for shard in &mut shards {
            shard.clients.add(Transport::WebSocket);
            shard.channels.add(Transport::WebSocket, "public:local");
            shard.messages_sent.add(Transport::EventStream);
            shard.latency.record(700_000);
            shard.latency.record(90_000_000_000);
            shard.farewells.add("slow");
        }
        shards[1].farewells.add("killed");
        shards
    }

    fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let found = samples.iter().find(|(sample, pairs, _)| {
            sample == name
                && pairs.len() == labels.len()
                && labels.iter().all(|(label, value)| {
                    pairs.iter().any(|(key, text)| key == label && text == value)
                })
        });
        found.map(|(_, _, value)| *value)
    }

    #[test]
    fn every_sample_of_the_node_server_is_there_from_the_start() {
        let process = ProcessFacts { driver: "epoll", ..ProcessFacts::default() };
        let text = render(&[ShardMetrics::new(0)], &ControlMetrics::default(), &process);
        let (samples, kinds) = parsed(&text);
        let (node_samples, node_kinds) = parsed(include_str!("node.txt"));
        assert_eq!(node_samples.len(), 44);
        for (name, pairs, _) in node_samples {
            let labels: Vec<(&str, &str)> =
                pairs.iter().map(|(label, value)| (label.as_str(), value.as_str())).collect();
            assert!(value(&samples, &name, &labels).is_some(), "{name} {labels:?} is missing");
        }
        for (name, kind) in node_kinds {
            assert_eq!(kinds.get(&name), Some(&kind), "{name}");
        }
        assert!(!text.contains("nodejs_"));
    }

    #[test]
    fn shards_are_added_up_and_told_apart() {
        let text = render(&some_shards(), &ControlMetrics::default(), &ProcessFacts::default());
        let (samples, _) = parsed(&text);
        let of = |name: &str, labels: &[(&str, &str)]| value(&samples, name, labels);
        assert_eq!(of("connected_clients", &[("type", "websocket")]), Some(2.0));
        let local = [("type", "websocket"), ("channel", "public:local")];
        assert_eq!(of("connected_channels", &local), Some(2.0));
        assert_eq!(of("messages_sent_total", &[("type", "eventsource")]), Some(2.0));
        let one = [("shard", "1"), ("type", "websocket")];
        assert_eq!(of("trunkline_connections", &one), Some(1.0));
        assert_eq!(of("trunkline_farewells_total", &[("reason", "slow")]), Some(2.0));
        assert_eq!(of("trunkline_farewells_total", &[("reason", "killed")]), Some(1.0));
    }

    #[test]
    fn buckets_rise_and_end_with_the_count() {
        let text = render(&some_shards(), &ControlMetrics::default(), &ProcessFacts::default());
        let (samples, _) = parsed(&text);
        let buckets: Vec<(f64, f64)> = samples
            .iter()
            .filter(|(name, _, _)| name == "trunkline_delivery_seconds_bucket")
            .map(|(_, pairs, value)| (pairs[0].1.parse().unwrap(), *value))
            .collect();
        assert!(buckets.is_sorted(), "{buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, 4.0)));
        assert!(buckets.contains(&(0.0005, 0.0)) && buckets.contains(&(0.001, 2.0)));
        assert_eq!(value(&samples, "trunkline_delivery_seconds_count", &[]), Some(4.0));
        assert_eq!(value(&samples, "trunkline_delivery_seconds_sum", &[]), Some(180.0014));
    }

    #[test]
    fn a_full_mesh_is_counted_for_its_shard() {
        let control = ControlMetrics { mesh_dropped: vec![0, 1], ..ControlMetrics::default() };
        let (samples, _) = parsed(&render(&some_shards(), &control, &ProcessFacts::default()));
        let dropped = |shard| value(&samples, "trunkline_mesh_dropped_total", &[("shard", shard)]);
        assert_eq!((dropped("0"), dropped("1")), (Some(0.0), Some(1.0)));
    }
}
