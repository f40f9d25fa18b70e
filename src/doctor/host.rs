//! What the checks of the host are made against.

use super::readings::{Readings, keyed};
use crate::config::Listen;
use crate::config::{Config, DriverChoice, Pin};

/// A host: what the kernel says, and what is expected of it.
pub struct Host<'a> {
    /// What the kernel says.
    pub readings: &'a dyn Readings,
    /// How many clients it is to hold.
    pub clients: u64,
    /// Threads that would have a ring each: the shards and the control core.
    pub cores: u64,
    /// The server that runs, if one does.
    pub pid: Option<u32>,
    /// `TRUNKLINE_IO`.
    pub driver: DriverChoice,
    /// Why glommio cannot run from here.
    pub refusal: Option<String>,
    /// `TRUNKLINE_PIN`.
    pub pin: Pin,
    /// The processors of the shards are chosen by us.
    pub cpus_chosen: bool,
    /// Clients, or the proxy, come over TCP.
    pub over_tcp: bool,
}

impl<'a> Host<'a> {
    /// A host for a server with this configuration, or with the defaults.
    pub fn new(readings: &'a dyn Readings, clients: u64, config: Option<&Config>) -> Host<'a> {
        Host {
            readings,
            clients,
            cores: 2,
            pid: None,
            driver: config.map_or(DriverChoice::Auto, |config| config.driver),
            refusal: None,
            pin: config.map_or(Pin::Auto, |config| config.cores.pin),
            cpus_chosen: config.is_none_or(|config| config.cores.shard_cpus.is_empty()),
            over_tcp: config.is_none_or(|config| matches!(config.listen, Listen::Tcp(_))),
        }
    }

    /// A file of the process that is looked at: the running server, or this one.
    pub(super) fn of_process(&self, file: &str) -> String {
        match self.pid {
            Some(pid) => format!("/proc/{pid}/{file}"),
            None => format!("/proc/self/{file}"),
        }
    }

    /// A seccomp filter is active in that process.
    pub(super) fn is_filtered(&self) -> bool {
        let mode = keyed(self.readings, &self.of_process("status"), "Seccomp:");
        mode.is_some_and(|mode| mode == "2")
    }

    /// The soft and the hard limit of a line in `/proc/PID/limits`; `u64::MAX` for none.
    pub(super) fn limit(&self, name: &str) -> Option<(u64, u64)> {
        let rest = keyed(self.readings, &self.of_process("limits"), name)?;
        let mut values = rest.split_whitespace().map(|word| match word {
            "unlimited" => Some(u64::MAX),
            word => word.parse().ok(),
        });
        Some((values.next()??, values.next()??))
    }
}

/// The server that runs on this machine, if one does; the first of several.
pub(super) fn running_server(readings: &dyn Readings, own_pid: u32) -> Option<u32> {
    let pids = readings.names("/proc").into_iter().filter_map(|name| name.parse().ok());
    pids.filter(|pid| *pid != own_pid).find(|pid| is_server(readings, *pid))
}

/// A process that is called `trunkline` and serves.
pub(super) fn is_server(readings: &dyn Readings, pid: u32) -> bool {
    let named = readings.text(&format!("/proc/{pid}/comm"));
    let arguments = readings.text(&format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let subcommand = arguments.split('\0').nth(1).unwrap_or_default();
    named.is_some_and(|name| name.trim() == "trunkline") && matches!(subcommand, "" | "serve")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_server_is_told_from_our_other_commands() {
        let processes = [
            ("/proc/7/comm", "trunkline\n"),
            ("/proc/7/cmdline", "trunkline\0demo\0"),
            ("/proc/8/comm", "trunkline\n"),
            ("/proc/8/cmdline", "/usr/local/bin/trunkline\0serve\0"),
            ("/proc/9/comm", "node\n"),
            ("/proc/9/cmdline", "node\0"),
            ("/proc/uptime", ""),
        ];
        let mut readings: BTreeMap<String, String> =
            processes.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
        assert_eq!(running_server(&readings, 1), Some(8));
        assert_eq!(running_server(&readings, 8), None);
        readings.insert("/proc/8/cmdline".into(), "trunkline\0".into());
        assert_eq!(running_server(&readings, 1), Some(8));
    }
}
