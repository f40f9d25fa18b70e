//! The checks of a host on given readings.

use std::collections::BTreeMap;

use super::*;
use crate::config::Pin;

const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max open files            1048576              1048576              files     
Max locked memory         unlimited            unlimited            bytes     
";

/// A host on which nothing is to be done for a hundred thousand clients over a Unix socket.
const TUNED: [(&str, &str); 16] = [
    ("/proc/8/limits", LIMITS),
    ("/proc/8/status", "Name:\ttrunkline\nSeccomp:\t0\n"),
    ("/proc/sys/fs/nr_open", "1048576\n"),
    ("/proc/sys/fs/file-max", "2466170\n"),
    ("/proc/sys/kernel/io_uring_disabled", "0\n"),
    ("/proc/sys/net/core/somaxconn", "65535\n"),
    ("/proc/sys/net/ipv4/tcp_max_syn_backlog", "65535\n"),
    ("/proc/sys/net/ipv4/tcp_mem", "287898\t383867\t575796\n"),
    ("/proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
    ("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("/proc/sys/net/ipv4/tcp_migrate_req", "1\n"),
    ("/proc/meminfo", "MemAvailable:   22000000 kB\nSwapTotal:             0 kB\n"),
    ("/proc/sys/vm/swappiness", "60\n"),
    ("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
    ("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n"),
    ("/sys/devices/system/node/online", "0\n"),
];

fn readings(changes: &[(&str, &str)]) -> BTreeMap<String, String> {
    let all = TUNED.iter().chain(changes);
    all.map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

fn host<'a>(readings: &'a BTreeMap<String, String>) -> Host<'a> {
    Host { cores: 8, pid: Some(8), over_tcp: false, ..Host::new(readings, 100_000, None) }
}

/// The findings that are not fine.
fn complaints(host: &Host<'_>) -> Vec<(Verdict, &'static str, String)> {
    let findings = examine_host(host).into_iter();
    let findings = findings.filter(|finding| finding.verdict != Verdict::Fine);
    findings.map(|finding| (finding.verdict, finding.name, finding.command)).collect()
}

#[track_caller]
fn assert_complains(changes: &[(&str, &str)], verdict: Verdict, name: &str, command: &str) {
    let readings = readings(changes);
    let found = complaints(&host(&readings));
    let [(found_verdict, found_name, found_command)] = found.as_slice() else {
        panic!("not one complaint about {changes:?}: {found:?}");
    };
    assert_eq!((*found_verdict, *found_name), (verdict, name));
    assert!(found_command.contains(command), "{found_command}");
}

#[test]
fn nothing_is_to_be_done_on_a_tuned_host() {
    let readings = readings(&[]);
    assert_eq!(complaints(&host(&readings)), []);
    for finding in examine_host(&host(&readings)) {
        let Finding { name, is, should, why, .. } = &finding;
        assert!(!is.is_empty() && !should.is_empty() && !why.is_empty(), "{name}");
    }
}

#[test]
fn each_setting_that_is_too_small_is_named_with_the_command() {
    use Verdict::Change;
    let table = [
        ("/proc/sys/fs/nr_open", "65536", "fs.nr_open", "sysctl -w fs.nr_open='131072'"),
        ("/proc/sys/fs/file-max", "200000", "fs.file-max", "sysctl -w fs.file-max='393216'"),
        ("/proc/sys/net/core/somaxconn", "4096", "net.core.somaxconn", "somaxconn='65535'"),
        (
            "/proc/sys/net/ipv4/tcp_mem",
            "10 100000 575796",
            "net.ipv4.tcp_mem",
            "tcp_mem='200000 300000 400000'",
        ),
        ("/proc/meminfo", "MemAvailable: 500000 kB\nSwapTotal: 0 kB\n", "memory", "more memory"),
        (
            "/proc/meminfo",
            "MemAvailable: 22000000 kB\nSwapTotal: 8 kB\n",
            "swap",
            "vm.swappiness='10'",
        ),
    ];
    for (path, text, name, command) in table {
        assert_complains(&[(path, text)], Change, name, command);
    }
}

#[test]
fn limits_of_the_server_that_runs_count() {
    let small = LIMITS.replace("1048576 ", "65536   ");
    assert_complains(
        &[("/proc/8/limits", &small)],
        Verdict::Change,
        "descriptors of the process (nofile)",
        "LimitNOFILE=111024",
    );
    let small = LIMITS.replace("unlimited ", "8388608   ");
    assert_eq!(complaints(&host(&readings(&[("/proc/8/limits", &small)]))), []);
    let small = LIMITS.replace("unlimited ", "1048576   ");
    assert_complains(
        &[("/proc/8/limits", &small)],
        Verdict::Change,
        "locked memory (memlock)",
        "LimitMEMLOCK=infinity",
    );
}

#[test]
fn a_shell_counts_with_what_the_server_would_raise_its_limit_to() {
    let limits = LIMITS.replace("1048576              1048576", "1024                 1048576");
    let mut readings = readings(&[("/proc/self/limits", &limits)]);
    let status = readings["/proc/8/status"].clone();
    readings.insert("/proc/self/status".to_owned(), status);
    let own = Host { pid: None, ..host(&readings) };
    assert_eq!(complaints(&own), []);
    let mut filtered = readings.clone();
    filtered.insert("/proc/self/status".to_owned(), "Seccomp:\t2\n".to_owned());
    let own = Host { pid: None, pin: Pin::Always, ..host(&filtered) };
    assert_eq!(complaints(&own).len(), 1, "{:?}", complaints(&own));
}

#[test]
fn over_tcp_ports_and_buffers_count_and_over_a_unix_socket_they_do_not() {
    let readings = readings(&[]);
    let names = |host: &Host<'_>| -> Vec<_> {
        complaints(host).into_iter().map(|(verdict, name, _)| (verdict, name)).collect()
    };
    let over_tcp = Host { over_tcp: true, ..host(&readings) };
    let ports = (Verdict::Change, "net.ipv4.ip_local_port_range");
    assert_eq!(names(&over_tcp), [(Verdict::Change, "send buffer of a client"), ports]);
    let few = Host { over_tcp: true, clients: 10_000, ..host(&readings) };
    assert_eq!(names(&few), [(Verdict::Optional, "send buffer of a client")]);
}

#[test]
fn io_uring_that_is_refused_breaks_only_who_insists_on_it() {
    let readings = readings(&[]);
    for (driver, expected) in [
        (DriverChoice::Auto, Some(Verdict::Optional)),
        (DriverChoice::Glommio, Some(Verdict::Broken)),
        (DriverChoice::Epoll, None),
    ] {
        let host = Host { driver, refusal: Some("refused".to_owned()), ..host(&readings) };
        let found = complaints(&host).first().map(|(verdict, ..)| *verdict);
        assert_eq!(found, expected, "{driver:?}");
    }
}

#[test]
fn pinning_under_a_filter_is_left_alone_unless_the_filter_is_known() {
    let readings = readings(&[("/proc/8/status", "Seccomp:\t2\n")]);
    for (pin, count) in [(Pin::Auto, 1), (Pin::Always, 0), (Pin::Never, 0)] {
        let host = Host { pin, ..host(&readings) };
        assert_eq!(complaints(&host).len(), count, "{pin:?}");
    }
}

#[test]
fn tracking_matters_only_while_something_is_tracked() {
    let most = ("/proc/sys/net/netfilter/nf_conntrack_max", "65536\n");
    let count = "/proc/sys/net/netfilter/nf_conntrack_count";
    assert_eq!(complaints(&host(&readings(&[most, (count, "0\n")]))), []);
    let name = "connection tracking (nf_conntrack_max)";
    assert_complains(&[most, (count, "7\n")], Verdict::Change, name, "nf_conntrack_max='262144'");
}

#[test]
fn processors_and_interfaces_get_advice_only() {
    let governor = "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor";
    let optional = Verdict::Optional;
    let huge = [("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never")];
    assert_complains(&huge, optional, "transparent huge pages", "echo madvise");
    assert_complains(&[(governor, "powersave\n")], optional, "frequency governor", "cpupower");
    let nodes = [("/sys/devices/system/node/online", "0-1\n")];
    assert_complains(&nodes, optional, "NUMA nodes", "TRUNKLINE_CPUS");
    let one_queue = [
        ("/sys/class/net/eth0/device/vendor", "0x1\n"),
        ("/sys/class/net/eth0/queues/rx-0/rps_cpus", "00,00000000\n"),
        ("/sys/class/net/lo/queues/rx-0/rps_cpus", "00\n"),
    ];
    assert_complains(&one_queue, optional, "receive queues of interfaces", "eth0/queues");
    let two_queues = ("/sys/class/net/eth0/queues/rx-1/rps_cpus", "00,00000000\n");
    assert_eq!(complaints(&host(&readings(&[&one_queue[..], &[two_queues]].concat()))), []);
    let spread = ("/sys/class/net/eth0/queues/rx-0/rps_cpus", "00,000000ff\n");
    assert_eq!(complaints(&host(&readings(&[&one_queue[..1], &[spread]].concat()))), []);
}

#[test]
fn what_cannot_be_read_is_unknown_and_breaks_nothing() {
    let nothing = BTreeMap::new();
    let findings = examine_host(&host(&nothing));
    assert!(findings.iter().all(|finding| finding.verdict <= Verdict::Unknown), "{findings:?}");
    assert_eq!(Report::new(1, None, findings).exit_code(), 0);
}

#[test]
fn options_are_read_and_nothing_else_is_known() {
    let options = |clients, json, pid| Ok(Options { clients, json, pid });
    assert_eq!(Options::parse(&[]), options(CLIENTS, false, None));
    assert_eq!(Options::parse(&["--json", "--clients", "5", "--pid=7"]), options(5, true, Some(7)));
    for wrong in ["--clients", "--clients=0", "--clients=many", "--pid=-1", "json"] {
        assert!(Options::parse(&[wrong]).is_err(), "{wrong}");
    }
}

#[test]
fn a_wrong_configuration_is_broken_and_the_host_is_looked_at_all_the_same() {
    let environment: BTreeMap<String, String> =
        [("PORT".to_owned(), "many".to_owned()), ("DB_PASS".to_owned(), "Secret-1".to_owned())]
            .into();
    let loaded = crate::config::load(&environment, &crate::config::surroundings::RealSurroundings);
    let options = Options { clients: 1, json: true, pid: Some(std::process::id()) };
    let report = examine(options, loaded, None);
    assert_eq!(report.exit_code(), 2);
    assert!(report.findings.len() > 10);
    assert!(report.json().contains("PORT") && !report.json().contains("Secret-1"));
}
