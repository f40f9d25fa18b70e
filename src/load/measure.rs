//! What the kernel says about the server and about this tool (proc(5)).

use std::collections::BTreeMap;
use std::fs;

use super::clock::nanos;

/// Processor time and memory of some processes at a time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// When.
    pub at_nanos: u64,
    /// `utime` + `stime`, in nanoseconds, in whole ticks (10 ms).
    pub cpu_nanos: u64,
    /// The same by thread name, from the scheduler's own clock: to the nanosecond, with the time in
    /// the kernel.
    pub threads: BTreeMap<String, u64>,
    /// Resident bytes.
    pub rss_bytes: u64,
    /// Processes in this sample.
    pub processes: u32,
}

/// The difference of two samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spent {
    /// Seconds in between.
    pub secs: f64,
    /// Processor time, in nanoseconds, in whole ticks.
    pub cpu_nanos: u64,
    /// The same by thread name, to the nanosecond.
    pub threads: BTreeMap<String, u64>,
    /// By how much whole ticks may be too many, in nanoseconds.
    pub rounding_nanos: u64,
}

impl Sample {
    /// Of these processes together; `None` if one of them is gone.
    pub fn of(pids: &[u32]) -> Option<Sample> {
        let mut sample = Sample { at_nanos: nanos(), ..Sample::default() };
        for pid in pids {
            sample.cpu_nanos += cpu_nanos(*pid)?;
            sample.rss_bytes += rss_bytes(*pid)?;
            sample.processes += 1;
            for (name, nanos) in threads(*pid) {
                *sample.threads.entry(name).or_default() += nanos;
            }
        }
        Some(sample)
    }

    /// Of this process.
    pub fn own() -> Sample {
        Sample::of(&[std::process::id()]).unwrap_or_default()
    }

    /// What was spent since an earlier sample.
    pub fn since(&self, earlier: &Sample) -> Spent {
        let threads = self.threads.iter().map(|(name, nanos)| {
            let before = earlier.threads.get(name).copied().unwrap_or(0);
            (name.clone(), nanos.saturating_sub(before))
        });
        Spent {
            secs: self.at_nanos.saturating_sub(earlier.at_nanos) as f64 / 1e9,
            cpu_nanos: self.cpu_nanos.saturating_sub(earlier.cpu_nanos),
            threads: threads.filter(|(_, nanos)| *nanos > 0).collect(),
            // Of each process two figures are cut off to whole ticks.
            rounding_nanos: u64::from(self.processes) * 2 * tick_nanos(),
        }
    }
}

impl Spent {
    /// The scheduler's sum of all threads, unless ticks say for certain that it lacks something:
    /// the time of a thread that has ended. The larger of both would be wrong by up to 20 ms, which
    /// is a fifth of what some thousand idle connections need in a few seconds.
    pub fn nanos(&self) -> u64 {
        let threads: u64 = self.threads.values().sum();
        match threads == 0 || self.cpu_nanos > threads + self.rounding_nanos {
            true => self.cpu_nanos,
            false => threads,
        }
    }

    /// The largest part of the time that a thread whose name begins with `prefix` was at work.
    pub fn busiest(&self, prefix: &str) -> f64 {
        let threads = self.threads.iter().filter(|(name, _)| name.starts_with(prefix));
        let most = threads.map(|(_, nanos)| *nanos).max().unwrap_or(0);
        most as f64 / 1e9 / self.secs.max(1e-9)
    }
}

/// Whether a process is gone, or only waits for its parent to hear of its end.
pub fn has_ended(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    matches!(state, None | Some("Z" | "X"))
}

fn cpu_nanos(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; fields 14 and 15 are the 12th and 13th behind it.
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks * tick_nanos())
}

fn tick_nanos() -> u64 {
    1_000_000_000 / rustix::param::clock_ticks_per_second().max(1)
}

/// Counted page by page where the kernel does that, because the short figure lags behind by some
/// dozen pages for each processor.
fn rss_bytes(pid: u32) -> Option<u64> {
    let exact = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    let exact = exact.as_deref().and_then(|text| kilobytes(text, "Rss:"));
    let quick = || {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        kilobytes(&text, "VmRSS:")
    };
    exact.or_else(quick)
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(rest.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn threads(pid: u32) -> Vec<(String, u64)> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let read = |path: std::path::PathBuf| {
        let name = fs::read_to_string(path.join("comm")).ok()?;
        let times = fs::read_to_string(path.join("schedstat")).ok()?;
        let nanos = times.split_whitespace().next()?.parse().ok()?;
        Some((name.trim_end().to_owned(), nanos))
    };
    tasks.flatten().filter_map(|task| read(task.path())).collect()
}

/// A line through points, by least squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// y per x.
    pub slope: f64,
    /// y at 0.
    pub offset: f64,
    /// How much of the spread of y the line explains: 1 is a perfect line.
    pub r_squared: f64,
}

impl Line {
    /// The line through these points; `None` if there are less than two, or they are all above each
    /// other.
    pub fn through(points: &[(f64, f64)]) -> Option<Line> {
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let xx: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        let yy: f64 = points.iter().map(|point| (point.1 - y).powi(2)).sum();
        let xy: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
        if points.len() < 2 || xx == 0.0 {
            return None;
        }
        let slope = xy / xx;
        let r_squared = if yy == 0.0 { 1.0 } else { xy * xy / (xx * yy) };
        Some(Line { slope, offset: y - slope * x, r_squared })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_again() {
        let points: Vec<(f64, f64)> =
            (0..5).map(|x| (f64::from(x), 7.0 + 3.0 * f64::from(x))).collect();
        let line = Line::through(&points).unwrap();
        assert!((line.slope - 3.0).abs() < 1e-9 && (line.offset - 7.0).abs() < 1e-9);
        assert!((line.r_squared - 1.0).abs() < 1e-9);
        let scattered = Line::through(&[(0.0, 0.0), (1.0, 5.0), (2.0, 0.0)]).unwrap();
        assert!(scattered.r_squared < 0.1);
        assert_eq!(Line::through(&[(1.0, 1.0)]), None);
        assert_eq!(Line::through(&[(1.0, 1.0), (1.0, 2.0)]), None);
    }

    #[test]
    fn ticks_count_only_where_threads_are_missing() {
        let threads = BTreeMap::from([("a".to_owned(), 65_000_000), ("b".to_owned(), 1)]);
        let spent = |cpu_nanos, threads: &BTreeMap<String, u64>| Spent {
            cpu_nanos,
            threads: threads.clone(),
            rounding_nanos: 20_000_000,
            ..Spent::default()
        };
        assert_eq!(spent(80_000_000, &threads).nanos(), 65_000_001);
        assert_eq!(spent(60_000_000, &threads).nanos(), 65_000_001);
        assert_eq!(spent(90_000_000, &threads).nanos(), 90_000_000, "a thread has ended");
        assert_eq!(spent(10_000_000, &BTreeMap::new()).nanos(), 10_000_000, "nothing finer");
    }

    #[test]
    fn work_shows_in_this_process() {
        let before = Sample::own();
        let mut sum = 0_u64;
        while Sample::own().since(&before).nanos() < 30_000_000 {
            sum = (0..100_000).fold(sum, |sum, number| std::hint::black_box(sum ^ number));
        }
        let after = Sample::own();
        assert!(after.rss_bytes > 100_000 && after.since(&before).secs > 0.0);
        assert_eq!(Sample::of(&[u32::MAX]), None);
    }
}
