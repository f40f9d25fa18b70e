//! What the server's process may have and do: descriptors, locked memory, io_uring, pinning.

use super::finding::{Area, Finding, Subject, Verdict, grouped, sysctl};
use super::host::Host;
use super::readings::number;
use crate::config::{DriverChoice, Pin};

/// Descriptors beside the clients: rings, epoll instances, Redis, Postgres, and those who are just
/// coming or going.
const DESCRIPTORS_BESIDE: u64 = 1024;
/// What one executor's rings count against the limit of locked memory (tuning/io_uring.md).
const RING_BYTES: u64 = 256 * 1024;
/// Below this glommio does not start.
const RING_BYTES_MIN: u64 = 512 * 1024;

/// Every check.
pub(super) fn findings(host: &Host<'_>) -> Vec<Finding> {
    vec![
        descriptors(host),
        descriptors_askable(host),
        descriptors_machine(host),
        io_uring(host),
        locked_memory(host),
        seccomp(host),
    ]
}

/// One for each client and a tenth more for a storm, when those who left are not all gone yet.
fn descriptors_wanted(host: &Host<'_>) -> u64 {
    host.clients + host.clients / 10 + DESCRIPTORS_BESIDE
}

fn descriptors(host: &Host<'_>) -> Finding {
    let wanted = descriptors_wanted(host);
    let subject = Subject::new(
        Area::Process,
        "descriptors of the process (nofile)",
        "each client is a descriptor; further ones are turned away",
    )
    .should(format!("at least {}", grouped(wanted)));
    let Some((soft, hard)) = host.limit("Max open files") else {
        return subject.unknown(format!("{} cannot be read", host.of_process("limits")));
    };
    // The server raises its limit as far as it may, unless a filter could kill it for trying.
    let limit = if host.pid.is_some() || host.is_filtered() { soft } else { hard };
    let command = format!(
        "LimitNOFILE={wanted} in the unit (tuning/trunkline.service), systemctl daemon-reload, and \
         restart; in a shell: tuning/limits.d/trunkline.conf"
    );
    subject.is(shown(limit)).unless(limit >= wanted, Verdict::Change, command)
}

fn descriptors_askable(host: &Host<'_>) -> Finding {
    let wanted = descriptors_wanted(host);
    let subject = Subject::new(
        Area::Process,
        "fs.nr_open",
        "no process gets more descriptors than this, whatever its unit asks for",
    )
    .should(format!("at least {}", grouped(wanted)));
    match number(host.readings, "/proc/sys/fs/nr_open") {
        None => subject.unknown("/proc/sys/fs/nr_open cannot be read"),
        Some(most) => {
            let command = sysctl("fs.nr_open", wanted.next_multiple_of(65_536));
            subject.is(grouped(most)).unless(most >= wanted, Verdict::Change, command)
        }
    }
}

fn descriptors_machine(host: &Host<'_>) -> Finding {
    // A proxy on the same machine holds two sockets for each client.
    let wanted = 3 * host.clients + 65_536;
    let subject = Subject::new(
        Area::Process,
        "fs.file-max",
        "descriptors of all processes together; a proxy on this machine needs two for each client",
    )
    .should(format!("at least {}", grouped(wanted)));
    match number(host.readings, "/proc/sys/fs/file-max") {
        None => subject.unknown("/proc/sys/fs/file-max cannot be read"),
        Some(most) => {
            let command = sysctl("fs.file-max", wanted.next_multiple_of(65_536));
            subject.is(grouped(most)).unless(most >= wanted, Verdict::Change, command)
        }
    }
}

fn io_uring(host: &Host<'_>) -> Finding {
    let subject = Subject::new(
        Area::Process,
        "io_uring",
        "the default driver stands on it; without it the server runs on epoll, which does the same",
    )
    .should("allowed, or TRUNKLINE_IO=epoll");
    let switch = number(host.readings, "/proc/sys/kernel/io_uring_disabled");
    let switch =
        switch.map_or(String::new(), |value| format!(" (kernel.io_uring_disabled = {value})"));
    match (&host.refusal, host.driver) {
        (_, DriverChoice::Epoll) => subject.is("not wanted: TRUNKLINE_IO=epoll").fine(),
        (None, _) => subject.is(format!("allowed to this process{switch}")).fine(),
        (Some(reason), choice) => {
            let verdict = match choice {
                DriverChoice::Glommio => Verdict::Broken,
                _ => Verdict::Optional,
            };
            let command = "tuning/io_uring.md names the cause and the cure; or TRUNKLINE_IO=epoll";
            subject.is(format!("{reason}{switch}")).needs(verdict, command)
        }
    }
}

fn locked_memory(host: &Host<'_>) -> Finding {
    // Old and new rings are counted together for a moment when the server is restarted.
    let wanted = 2 * RING_BYTES_MIN.max(host.cores * RING_BYTES);
    let subject = Subject::new(
        Area::Process,
        "locked memory (memlock)",
        "io_uring's rings count as locked memory of the user, twice during a restart",
    )
    .should(format!("unlimited, or at least {} bytes", grouped(wanted)));
    if host.driver == DriverChoice::Epoll {
        return subject.is("not needed: TRUNKLINE_IO=epoll").fine();
    }
    let Some((limit, _)) = host.limit("Max locked memory") else {
        return subject.unknown(format!("{} cannot be read", host.of_process("limits")));
    };
    let command = "LimitMEMLOCK=infinity in the unit (tuning/trunkline.service), systemctl \
                   daemon-reload, and restart";
    subject.is(shown(limit)).unless(limit >= wanted, Verdict::Change, command)
}

fn seccomp(host: &Host<'_>) -> Finding {
    let subject = Subject::new(
        Area::Process,
        "pinning of threads",
        "a pinned thread keeps its caches; under a seccomp filter that may kill for it, such as \
         that of mastodon-streaming@.service, the server does not try",
    )
    .should("no seccomp filter, or one that allows it and TRUNKLINE_PIN=always");
    let command = "run under tuning/trunkline.service, which allows it and says so";
    match (host.pin, host.is_filtered()) {
        (Pin::Never, _) => subject.is("not wanted: TRUNKLINE_PIN=never").fine(),
        (Pin::Always, true) => subject.is("allowed by the filter: TRUNKLINE_PIN=always").fine(),
        (_, false) => subject.is("no seccomp filter").fine(),
        (Pin::Auto, true) => {
            subject.is("a seccomp filter is active").needs(Verdict::Optional, command)
        }
    }
}

fn shown(limit: u64) -> String {
    if limit == u64::MAX { "unlimited".to_owned() } else { grouped(limit) }
}
