//! Threads, the processors they are pinned to, and what turns them.

use super::env;
use super::reader::Reader;
use super::typed;

/// More processors than any machine has: a bound for lists and counts.
const CPUS_MAX: usize = 4096;

/// Threads and the processors they are pinned to.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CoresConfig {
    /// How many shards; `None`: one for each processor that the control core does not need.
    pub shards: Option<usize>,
    /// The processors of the shards, in order; empty: chosen from those allowed.
    pub shard_cpus: Vec<usize>,
    /// The processor of the control core; `None`: chosen.
    pub control_cpu: Option<usize>,
    /// Pin threads?
    pub pin: Pin,
}

/// Whether threads are pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Pin {
    /// Unless a seccomp filter is active, which may kill the process for trying, as that of
    /// Mastodon's own unit does.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What turns the cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// Glommio, or epoll where io_uring is refused.
    #[default]
    Auto,
    /// Glommio, or fail.
    Glommio,
    /// Plain threads on epoll.
    Epoll,
}

impl CoresConfig {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let shards = reader.value(env::TRUNKLINE_SHARDS, None, parse_shards, |shards| {
            shards.map_or_else(|| "auto".to_owned(), |count| count.to_string())
        });
        let shard_cpus =
            reader.value(env::TRUNKLINE_CPUS, Vec::new(), parse_cpus, |cpus| show_cpus(cpus));
        let control_cpu = reader.value(env::TRUNKLINE_CONTROL_CPU, None, parse_cpu, |cpu| {
            cpu.map_or_else(|| "auto".to_owned(), |cpu| cpu.to_string())
        });
        let pin = reader.value(
            env::TRUNKLINE_PIN,
            Pin::default(),
            |text| typed::word(text, &Pin::WORDS),
            |pin| typed::show_word(*pin, &Pin::WORDS),
        );
        if let Some(count) =
            shards.filter(|count| !shard_cpus.is_empty() && *count > shard_cpus.len())
        {
            let problem =
                format!("{} names only {} processors", env::TRUNKLINE_CPUS, shard_cpus.len());
            reader.error(env::TRUNKLINE_SHARDS, &count.to_string(), problem);
        }
        Self { shards, shard_cpus, control_cpu, pin }
    }
}

impl Pin {
    const WORDS: [(&str, Self); 7] = [
        ("auto", Self::Auto),
        ("always", Self::Always),
        ("never", Self::Never),
        ("true", Self::Always),
        ("false", Self::Never),
        ("1", Self::Always),
        ("0", Self::Never),
    ];
}

impl DriverChoice {
    const WORDS: [(&str, Self); 3] =
        [("auto", Self::Auto), ("glommio", Self::Glommio), ("epoll", Self::Epoll)];

    pub(super) fn read(reader: &mut Reader) -> Self {
        let parse = |text: &str| typed::word(text, &Self::WORDS);
        let show = |choice: &Self| typed::show_word(*choice, &Self::WORDS);
        reader.value(env::TRUNKLINE_IO, Self::default(), parse, show)
    }
}

fn parse_shards(text: &str) -> Result<Option<usize>, String> {
    if text == "auto" {
        return Ok(None);
    }
    typed::number(text, &(1..=CPUS_MAX)).map(Some)
}

fn parse_cpu(text: &str) -> Result<Option<usize>, String> {
    if text == "auto" {
        return Ok(None);
    }
    typed::number(text, &(0..=CPUS_MAX - 1)).map(Some)
}

/// Reads a list as the kernel writes it: `0-3,6`.
fn parse_cpus(text: &str) -> Result<Vec<usize>, String> {
    const WANTED: &str = "must be a list of processors such as 0-3,6, each once";
    if text == "auto" {
        return Ok(Vec::new());
    }
    let mut cpus = Vec::new();
    for item in text.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let bound = |text: &str| typed::number(text.trim(), &(0..=CPUS_MAX - 1));
        let (first, last) = (bound(first)?, bound(last)?);
        let mut range = first..=last;
        if range.is_empty() || range.any(|cpu| cpus.contains(&cpu)) {
            return Err(WANTED.to_owned());
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

fn show_cpus(cpus: &[usize]) -> String {
    if cpus.is_empty() {
        return "auto".to_owned();
    }
    let cpus: Vec<String> = cpus.iter().map(usize::to_string).collect();
    cpus.join(",")
}
