//! Memory, processors and interfaces.

use super::finding::{Area, Finding, Subject, Verdict, grouped, sysctl};
use super::host::Host;
use super::readings::{chosen, keyed, number};

/// Memory of an idle client: some 4 KB in the kernel, under 1 KB of ours, the rest for bytes on
/// their way (tuning/README.md).
const CLIENT_BYTES: u64 = 8 * 1024;
/// Above this the kernel swaps out processes to have a larger cache of files.
const SWAPPINESS_MAX: u64 = 10;

/// Prints the mask of all processors, as far as a shell can count.
const ALL_CPUS: &str = "printf %x $(( (1 << $(nproc)) - 1 ))";

/// Every check.
pub(super) fn findings(host: &Host<'_>) -> Vec<Finding> {
    let mut findings =
        vec![memory(host), swap(host), huge_pages(host), governor(host), nodes(host)];
    findings.push(receive_queues(host));
    findings
}

fn memory(host: &Host<'_>) -> Finding {
    let wanted = host.clients * CLIENT_BYTES;
    let subject = Subject::new(
        Area::Machine,
        "memory",
        "a client takes some 4 KB of the kernel's memory and under 1 KB of ours; as much again is \
         for bytes on their way",
    )
    .should(format!("{} MB available", grouped(wanted >> 20)));
    let available = keyed(host.readings, "/proc/meminfo", "MemAvailable:")
        .and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    match available {
        None => subject.unknown("/proc/meminfo cannot be read"),
        Some(kilobytes) => {
            let is = format!("{} MB available", grouped(kilobytes >> 10));
            let command = "fewer clients on this host, or more memory (sizing: tuning/README.md)";
            subject.is(is).unless(kilobytes << 10 >= wanted, Verdict::Change, command)
        }
    }
}

fn swap(host: &Host<'_>) -> Finding {
    let subject = Subject::new(
        Area::Machine,
        "swap",
        "idle connections are exactly what a kernel that likes to swap takes first; the next event \
         then waits for the disk",
    )
    .should(format!("none, or vm.swappiness of at most {SWAPPINESS_MAX}"));
    let total = keyed(host.readings, "/proc/meminfo", "SwapTotal:");
    match (total.as_deref(), number(host.readings, "/proc/sys/vm/swappiness")) {
        (None, _) | (_, None) => subject.unknown("/proc/meminfo cannot be read"),
        (Some("0 kB"), _) => subject.is("none").fine(),
        (Some(total), Some(swappiness)) => {
            subject.is(format!("{total}, vm.swappiness = {swappiness}")).unless(
                swappiness <= SWAPPINESS_MAX,
                Verdict::Change,
                sysctl("vm.swappiness", SWAPPINESS_MAX),
            )
        }
    }
}

fn huge_pages(host: &Host<'_>) -> Finding {
    let subject = Subject::new(
        Area::Machine,
        "transparent huge pages",
        "with `always` the kernel backs sparsely used memory with pages of 2 MB, copying to make \
         them",
    )
    .should("madvise or never");
    let path = "/sys/kernel/mm/transparent_hugepage/enabled";
    match chosen(host.readings, path) {
        None => subject.is("not built into this kernel").fine(),
        Some(mode) => {
            let command = format!("echo madvise > {path}   # for good: tuning/README.md");
            let is_fine = mode != "always";
            subject.is(mode).unless(is_fine, Verdict::Optional, command)
        }
    }
}

fn governor(host: &Host<'_>) -> Finding {
    let subject = Subject::new(
        Area::Machine,
        "frequency governor",
        "a processor that sleeps at a low frequency takes longer to wake, and most events find it \
         asleep",
    )
    .should("performance");
    let path = |cpu: &str| format!("/sys/devices/system/cpu/{cpu}/cpufreq/scaling_governor");
    let cpus = host.readings.names("/sys/devices/system/cpu");
    let mut governors: Vec<String> =
        cpus.iter().filter_map(|cpu| host.readings.text(&path(cpu))).collect();
    governors.sort();
    governors.dedup();
    let governors: Vec<&str> = governors.iter().map(|text| text.trim()).collect();
    match governors.as_slice() {
        [] => subject.is("not ours to choose (a virtual machine)").fine(),
        some => subject.is(some.join(", ")).unless(
            some == ["performance"],
            Verdict::Optional,
            "cpupower frequency-set -g performance   # for good: tuning/README.md",
        ),
    }
}

fn nodes(host: &Host<'_>) -> Finding {
    let subject = Subject::new(
        Area::Machine,
        "NUMA nodes",
        "all shards read the same events: memory of another node costs twice as much",
    )
    .should("one, or TRUNKLINE_CPUS names the processors of one");
    let path = "/sys/devices/system/node/online";
    let online = host.readings.text(path).unwrap_or_else(|| "0".to_owned());
    let online = online.trim().to_owned();
    let is_fine = online == "0" || !host.cpus_chosen;
    let command = "TRUNKLINE_CPUS and TRUNKLINE_CONTROL_CPU from \
                   /sys/devices/system/node/node0/cpulist";
    subject.is(format!("node {online}")).unless(is_fine, Verdict::Optional, command)
}

/// Interfaces with a device behind them, whose packets one processor takes in for all.
fn receive_queues(host: &Host<'_>) -> Finding {
    let subject = Subject::new(
        Area::Machine,
        "receive queues of interfaces",
        "with one queue one processor does the network's work for all; RPS spreads it",
    )
    .should("several queues, or rps_cpus set");
    let mut narrow = Vec::new();
    let mut seen = Vec::new();
    for name in host.readings.names("/sys/class/net") {
        let base = format!("/sys/class/net/{name}");
        let queues: Vec<String> = host.readings.names(&format!("{base}/queues"));
        let queues: Vec<&String> = queues.iter().filter(|name| name.starts_with("rx-")).collect();
        let is_real = !host.readings.names(&format!("{base}/device")).is_empty();
        if !is_real || queues.is_empty() {
            continue;
        }
        seen.push(format!("{name}: {}", queues.len()));
        let mask = host.readings.text(&format!("{base}/queues/rx-0/rps_cpus")).unwrap_or_default();
        if queues.len() == 1 && mask.trim().trim_matches(['0', ',']).is_empty() {
            narrow.push(name);
        }
    }
    let is = if seen.is_empty() { "no interface".to_owned() } else { seen.join(", ") };
    let command: Vec<String> = narrow
        .iter()
        .map(|name| format!("{ALL_CPUS} > /sys/class/net/{name}/queues/rx-0/rps_cpus"))
        .collect();
    // Where the control core has no processor of its own there is nothing to spread over.
    let is_fine = narrow.is_empty() || host.cores <= 3;
    subject.is(is).unless(is_fine, Verdict::Optional, command.join("\n"))
}
