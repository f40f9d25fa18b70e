//! Threads and the processors they run on.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::config::cores::{CoresConfig, Pin};
use crate::hub::shard_set::SHARDS_MAX;

/// From so many processors on, the control core gets one of its own. With fewer it shares one with
/// a shard: what it does for an event is little against what shards do for its readers.
const OWN_CONTROL_CPU_FROM: usize = 3;

/// Which thread runs where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The processor of each shard; `None`: not pinned.
    pub shard_cpus: Vec<Option<usize>>,
    /// The processor of the control core; `None`: not pinned.
    pub control_cpu: Option<usize>,
}

impl Plan {
    /// Plans for this machine and process.
    ///
    /// # Errors
    /// A processor was named on which this process may not run, or too many shards were asked for.
    pub fn make(config: &CoresConfig) -> Result<Plan, String> {
        let allowed = allowed_cpus();
        let is_pinned = match config.pin {
            Pin::Always => true,
            Pin::Never => false,
            Pin::Auto => !is_filtered(),
        };
        Plan::over(config, &allowed, is_pinned)
    }

    fn over(config: &CoresConfig, allowed: &[usize], is_pinned: bool) -> Result<Plan, String> {
        let named = config.shard_cpus.iter().copied().chain(config.control_cpu);
        if let Some(foreign) = named.into_iter().find(|cpu| !allowed.contains(cpu)) {
            return Err(format!(
                "processor {foreign} was named, but this process may run on {allowed:?} only"
            ));
        }
        let has_own = allowed.len() >= OWN_CONTROL_CPU_FROM;
        let control_cpu = config.control_cpu.or_else(|| {
            let free = allowed.iter().find(|cpu| !config.shard_cpus.contains(cpu));
            free.or(allowed.first()).copied()
        });
        let shard_cpus: Vec<usize> = match config.shard_cpus.is_empty() {
            false => config.shard_cpus.clone(),
            true => {
                let others = |cpu: &usize| !(has_own && Some(*cpu) == control_cpu);
                allowed.iter().copied().filter(others).collect()
            }
        };
        let shards = config.shards.unwrap_or(shard_cpus.len()).max(1);
        if shards > SHARDS_MAX {
            return Err(format!(
                "{shards} shards were asked for, at most {SHARDS_MAX} are possible"
            ));
        }
        let on = |cpu: usize| is_pinned.then_some(cpu);
        Ok(Plan {
            shard_cpus: (0..shards)
                .map(|shard| shard_cpus.get(shard % shard_cpus.len().max(1)).copied().and_then(on))
                .collect(),
            control_cpu: control_cpu.and_then(on),
        })
    }
}

/// Binds this thread to a processor.
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// Raises the limit of descriptors as far as this process may, unless a filter could kill it for
/// trying. Returns the limit that holds.
pub fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if is_filtered() || limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// A seccomp filter is active, which may kill the process for pinning threads, raising limits or
/// locking memory, as that of Mastodon's stock unit does (configuration.md).
pub fn is_filtered() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:"));
    mode.is_some_and(|mode| mode.trim() == "2")
}

fn allowed_cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(config: &CoresConfig, allowed: &[usize]) -> (Vec<usize>, Option<usize>) {
        let plan = Plan::over(config, allowed, true).unwrap();
        (plan.shard_cpus.into_iter().flatten().collect(), plan.control_cpu)
    }

    #[test]
    fn small_machines_share_and_larger_ones_keep_a_processor_for_the_control_core() {
        let config = CoresConfig::default();
        assert_eq!(plan(&config, &[0]), (vec![0], Some(0)));
        assert_eq!(plan(&config, &[4, 5]), (vec![4, 5], Some(4)));
        assert_eq!(plan(&config, &[0, 1, 2, 3]), (vec![1, 2, 3], Some(0)));
    }

    #[test]
    fn what_was_named_is_used_and_what_is_not_allowed_is_refused() {
        let config = CoresConfig { shards: Some(4), shard_cpus: vec![1, 2], ..Default::default() };
        assert_eq!(plan(&config, &[0, 1, 2]), (vec![1, 2, 1, 2], Some(0)));
        assert!(Plan::over(&config, &[0, 1], true).is_err());
    }

    #[test]
    fn nothing_is_pinned_where_it_must_not_be() {
        let plan = Plan::over(&CoresConfig::default(), &[0, 1, 2], false).unwrap();
        assert_eq!(plan, Plan { shard_cpus: vec![None, None], control_cpu: None });
    }
}
