//! Threads and the processors they run on.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::config::cores::{CoresConfig, Pin};
use crate::hub::shard_set::SHARDS_MAX;

/// From so many processors on, the control core gets one of its own. With fewer it shares one, and
/// then a thread, with a shard: what it does for an event is little against what shards do for its
/// readers, and less than waking another thread.
const OWN_CONTROL_CPU_FROM: usize = 3;

/// Descriptors of a core: listener, epoll, bell, timer, the runtime's rings, the door's three spare
/// ones, and some more.
const DESCRIPTORS_PER_CORE: usize = 16;
/// Descriptors for what the process does beside its clients and the pool: Redis and sentinels,
/// looking names up, signals, reading `/proc`, standard streams.
const DESCRIPTORS_BESIDE: usize = 48;

/// Which thread runs where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The processor of each shard; `None`: not pinned.
    pub shard_cpus: Vec<Option<usize>>,
    /// The processor of the control core; `None`: not pinned.
    pub control_cpu: Option<usize>,
    /// The shard that has the same processor as the control core, and so shares its thread.
    pub control_shard: Option<usize>,
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
        let shard_cpus: Vec<usize> = shard_cpus.into_iter().cycle().take(shards).collect();
        let on = |cpu: usize| is_pinned.then_some(cpu);
        Ok(Plan {
            control_shard: shard_cpus.iter().position(|cpu| Some(*cpu) == control_cpu),
            shard_cpus: shard_cpus.into_iter().map(on).collect(),
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

/// How many descriptors clients may have of `limit`: a full house must leave enough for the server
/// to come back to Redis and to fill its pool of `pool_size` connections. Where there are far too
/// few it is half of them.
pub fn descriptors_for_clients(limit: Option<u64>, cores: usize, pool_size: usize) -> usize {
    let limit = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let kept = cores * DESCRIPTORS_PER_CORE + DESCRIPTORS_BESIDE + pool_size;
    limit.saturating_sub(kept).max(limit / 2)
}

/// A seccomp filter is active, which may kill the process for pinning threads, raising limits or
/// locking memory, as that of Mastodon's stock unit does.
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
    fn the_control_core_shares_a_thread_with_the_shard_on_its_processor() {
        let shard = |config: &CoresConfig, allowed: &[usize]| {
            Plan::over(config, allowed, true).unwrap().control_shard
        };
        let config = CoresConfig::default();
        assert_eq!(shard(&config, &[0]), Some(0));
        assert_eq!(shard(&config, &[4, 5]), Some(0));
        assert_eq!(shard(&config, &[0, 1, 2]), None);
        let apart = CoresConfig { shards: Some(1), control_cpu: Some(1), ..Default::default() };
        assert_eq!(shard(&apart, &[0, 1]), None);
        let named = CoresConfig { shard_cpus: vec![1, 2], control_cpu: Some(2), ..apart };
        assert_eq!(shard(&CoresConfig { shards: None, ..named }, &[0, 1, 2]), Some(1));
    }

    #[test]
    fn nothing_is_pinned_where_it_must_not_be() {
        let plan = Plan::over(&CoresConfig::default(), &[0, 1, 2], false).unwrap();
        let shard_cpus = vec![None, None];
        assert_eq!(plan, Plan { shard_cpus, control_cpu: None, control_shard: None });
    }

    #[test]
    fn clients_leave_descriptors_for_redis_and_postgres() {
        assert_eq!(descriptors_for_clients(Some(20_000), 3, 10), 20_000 - 48 - 48 - 10);
        assert_eq!(descriptors_for_clients(Some(64), 3, 10), 32);
        assert!(descriptors_for_clients(None, 3, 10) > 1 << 40);
    }
}
