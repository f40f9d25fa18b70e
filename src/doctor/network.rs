//! The network stack: queues of those who come, memory of what is on its way, ports, tracking.

use super::finding::{Area, Finding, Subject, Verdict, grouped, sysctl};
use super::host::Host;
use super::readings::{number, numbers};

/// What a status of some 4 KB takes in a send queue, measured (tuning/README.md).
const SEND_QUEUE_BYTES: u64 = 8 * 1024;
/// Longest send queue of a client that does not read before it should count as slow.
const SEND_BUFFER_BYTES_MAX: u64 = 1024 * 1024;
/// Ports of the widest range that leaves those alone on which services usually listen.
const PORTS_MOST: u64 = 65_536 - 10_240;
/// From so many clients on, a setting that is a matter of taste below becomes advice.
const CLIENTS_MANY: u64 = 50_000;

/// Every check.
pub(super) fn findings(host: &Host<'_>) -> Vec<Finding> {
    vec![
        queue(host, "net.core.somaxconn", "/proc/sys/net/core/somaxconn"),
        queue(host, "net.ipv4.tcp_max_syn_backlog", "/proc/sys/net/ipv4/tcp_max_syn_backlog"),
        tcp_memory(host),
        send_buffers(host),
        ports(host),
        tracking(host),
        migration(host),
    ]
}

/// The web client's first attempt comes within 200 ms after it lost the server.
fn queue(host: &Host<'_>, name: &'static str, path: &str) -> Finding {
    let wanted = (host.clients / 10).clamp(1024, 65_535);
    let subject = Subject::new(
        Area::Network,
        name,
        "after a restart the clients of web browsers come back within 200 ms; whoever finds the \
         queue full tries again a second later",
    )
    .should(format!("at least {}", grouped(wanted)));
    match number(host.readings, path) {
        None => subject.unknown(format!("{path} cannot be read")),
        Some(length) => {
            let command = sysctl(name, 65_535);
            subject.is(grouped(length)).unless(length >= wanted, Verdict::Change, command)
        }
    }
}

fn tcp_memory(host: &Host<'_>) -> Finding {
    let page_bytes = rustix::param::page_size() as u64;
    let wanted = (host.clients * SEND_QUEUE_BYTES).div_ceil(page_bytes);
    let subject = Subject::new(
        Area::Network,
        "net.ipv4.tcp_mem",
        "an event for everybody is in every client's send queue at once; above the second number \
         the kernel cuts buffers down, above the third it drops",
    )
    .should(format!("second number at least {} pages", grouped(wanted)));
    let path = "/proc/sys/net/ipv4/tcp_mem";
    let [_, pressure, most] = numbers(host.readings, path)[..] else {
        return subject.unknown(format!("{path} cannot be read"));
    };
    let command =
        sysctl("net.ipv4.tcp_mem", format!("{} {} {}", wanted, wanted * 3 / 2, wanted * 2));
    let is = format!("{} pages, {} at most", grouped(pressure), grouped(most));
    subject.is(is).unless(pressure >= wanted, Verdict::Change, command)
}

fn send_buffers(host: &Host<'_>) -> Finding {
    let subject = Subject::new(
        Area::Network,
        "send buffer of a client",
        "a client that does not read fills its buffers in the kernel before it counts as slow: up \
         to tcp_wmem's third number over TCP, some 200 KB over a Unix socket",
    )
    .should("SOCKET behind a proxy on this machine");
    if !host.over_tcp {
        return subject.is("a Unix socket").fine();
    }
    let path = "/proc/sys/net/ipv4/tcp_wmem";
    let [_, _, most] = numbers(host.readings, path)[..] else {
        return subject.unknown(format!("{path} cannot be read"));
    };
    let command = "SOCKET=/run/trunkline/streaming.sock and tuning/nginx.conf; or, on a host that \
                   does nothing but streaming, a smaller third number of net.ipv4.tcp_wmem";
    let verdict = if host.clients >= CLIENTS_MANY { Verdict::Change } else { Verdict::Optional };
    let is = format!("TCP, up to {} bytes", grouped(most));
    subject.is(is).unless(most <= SEND_BUFFER_BYTES_MAX, verdict, command)
}

fn ports(host: &Host<'_>) -> Finding {
    let subject = Subject::new(
        Area::Network,
        "net.ipv4.ip_local_port_range",
        "a proxy on one address needs a local port for each client",
    )
    .should(format!("{} ports, or SOCKET", grouped(host.clients)));
    if !host.over_tcp {
        return subject.is("not needed: SOCKET").fine();
    }
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    let [first, last] = numbers(host.readings, path)[..] else {
        return subject.unknown(format!("{path} cannot be read"));
    };
    let ports = (last + 1).saturating_sub(first);
    let is = format!("{first} to {last}: {} ports", grouped(ports));
    let command = if host.clients <= PORTS_MOST {
        sysctl("net.ipv4.ip_local_port_range", "10240 65535")
    } else {
        "SOCKET=/run/trunkline/streaming.sock and tuning/nginx.conf: no range is large enough"
            .to_owned()
    };
    subject.is(is).unless(ports >= host.clients, Verdict::Change, command)
}

fn tracking(host: &Host<'_>) -> Finding {
    // A connection from the proxy's client and one from the proxy.
    let wanted = 2 * host.clients + 16_384;
    let subject = Subject::new(
        Area::Network,
        "connection tracking (nf_conntrack_max)",
        "where a firewall tracks connections, those that find the table full are dropped; each \
         tracked one takes memory and time",
    )
    .should(format!("off for streaming, or at least {}", grouped(wanted)));
    let Some(most) = number(host.readings, "/proc/sys/net/netfilter/nf_conntrack_max") else {
        return subject.is("off").fine();
    };
    let used = number(host.readings, "/proc/sys/net/netfilter/nf_conntrack_count").unwrap_or(0);
    let is = format!("{} at most, {} now", grouped(most), grouped(used));
    let command = sysctl("net.netfilter.nf_conntrack_max", wanted.next_multiple_of(65_536));
    // A table that is not used is loaded, but tracks nothing.
    subject.is(is).unless(used == 0 || most >= wanted, Verdict::Change, command)
}

fn migration(host: &Host<'_>) -> Finding {
    let subject = Subject::new(
        Area::Network,
        "net.ipv4.tcp_migrate_req",
        "connections that wait at a listener that closes go to another one on the same port \
         instead of being reset; a plain stop closes all",
    )
    .should("1");
    match number(host.readings, "/proc/sys/net/ipv4/tcp_migrate_req") {
        None => subject.unknown("a kernel before 5.14"),
        Some(value) => subject.is(value.to_string()).unless(
            value == 1,
            Verdict::Optional,
            sysctl("net.ipv4.tcp_migrate_req", 1),
        ),
    }
}
