//! A line on standard error every second while a run lasts.

use super::clock::nanos;
use super::crew::Standing;
use super::measure::Sample;

/// Between two lines.
const INTERVAL_NANOS: u64 = 1_000_000_000;

/// What was said last.
pub struct Progress {
    start: u64,
    last: u64,
    standing: Standing,
    server: Sample,
}

impl Progress {
    /// Nothing said yet.
    pub fn new() -> Progress {
        let (standing, server) = (Standing::default(), Sample::default());
        Progress { start: nanos(), last: nanos(), standing, server }
    }

    /// Says how things stand, if it is time to.
    pub fn show(&mut self, standing: &Standing, server: impl FnOnce() -> Sample) {
        let now = nanos();
        if now < self.last + INTERVAL_NANOS {
            return;
        }
        let secs = (now - self.last) as f64 / 1e9;
        let rate = (standing.delivered - self.standing.delivered) as f64 / secs;
        let server = server();
        let spent = server.since(&self.server);
        let percent = spent.nanos() as f64 / 1e7 / spent.secs.max(0.001);
        eprintln!(
            "{:>5.0} s  {:>6} open  {:>6} waiting  {:>10} delivered ({rate:.0}/s)  {} wrong  \
             {} failed  {} ended  server {percent:.0} % {:.1} MiB",
            (now - self.start) as f64 / 1e9,
            standing.open,
            standing.waiting,
            standing.delivered,
            standing.wrong,
            standing.failed,
            standing.ended,
            server.rss_bytes as f64 / 1_048_576.0,
        );
        (self.last, self.standing, self.server) = (now, *standing, server);
    }
}

impl Default for Progress {
    fn default() -> Progress {
        Progress::new()
    }
}
