//! What the kernel says about this process (proc(5)), for the metrics.

use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::metrics::ProcessFacts;

impl ProcessFacts {
    /// Reads them now. `driver` says what turns the cores. What cannot be read stays zero: a scrape
    /// must not fail because `/proc` is hidden.
    pub fn read(driver: &'static str) -> ProcessFacts {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let ticks_per_sec = rustix::param::clock_ticks_per_second() as f64;
        let secs = |number: usize| stat_field(&stat, number) as f64 / ticks_per_sec;
        ProcessFacts {
            cpu_user_secs: secs(14),
            cpu_system_secs: secs(15),
            start_unix_secs: keyed(&boot, "btime ") as f64 + secs(22),
            resident_bytes: keyed(&status, "VmRSS:") * 1024,
            virtual_bytes: keyed(&status, "VmSize:") * 1024,
            heap_bytes: keyed(&status, "VmData:") * 1024,
            open_fds: open_fds(),
            max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            driver,
        }
    }
}

/// Field `number` of `/proc/self/stat`, counted from 1 as proc(5) does. The second one is the name
/// of the executable in parentheses and may hold anything, so counting begins behind its end.
fn stat_field(stat: &str, number: usize) -> u64 {
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = number.checked_sub(3).and_then(|skip| behind_name.split_whitespace().nth(skip));
    field.and_then(|field| field.parse().ok()).unwrap_or(0)
}

/// The number in the line that begins with `key`.
fn keyed(text: &str, key: &str) -> u64 {
    let rest = text.lines().find_map(|line| line.strip_prefix(key));
    rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Since Linux 6.2 the size of the directory is the number of its entries: one system call, however
/// many sockets there are. Older kernels are read through.
fn open_fds() -> u64 {
    match fs::metadata("/proc/self/fd") {
        Ok(directory) if directory.len() > 0 => directory.len(),
        // Without one: reading the directory takes a descriptor of its own.
        _ => fs::read_dir("/proc/self/fd")
            .map_or(0, |entries| entries.count().saturating_sub(1) as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 4 5 6 7 8 9 10 11 12 13 14 15 16";
        assert_eq!((stat_field(stat, 4), stat_field(stat, 14), stat_field(stat, 15)), (4, 14, 15));
        assert_eq!((stat_field(stat, 99), stat_field("", 14)), (0, 0));
    }

    #[test]
    fn this_process_has_plausible_facts() {
        let before = ProcessFacts::read("epoll");
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let after = ProcessFacts::read("epoll");
        assert!(after.open_fds >= before.open_fds.saturating_sub(40) + held.len() as u64);
        assert!(after.open_fds <= after.max_fds);
        assert!(after.resident_bytes > 100_000 && after.virtual_bytes >= after.resident_bytes);
        assert!(after.heap_bytes > 0);
        let now = crate::io::clock::Clock::start().unix().0 as f64 / 1000.0;
        assert!(after.start_unix_secs <= now + 1.0 && after.start_unix_secs > now - 86_400.0);
    }
}
