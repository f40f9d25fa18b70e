//! What every scenario stands on: the clients, the publisher, the server's processes, and the
//! report that grows.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::clock::nanos;
use super::crew::{Crew, Standing, THREAD_NAME};
use super::crowd::{Every, Pace, Parts};
use super::measure::{Sample, Spent};
use super::options::Options;
use super::plan::{ChannelNumber, Plan};
use super::progress::Progress;
use super::publisher::{Job, Publisher, Timing};
use super::report::Report;
use super::status::Templates;
use super::tally::Tally;

/// Above this part of the time, a thread of the tool counts as saturated.
const SATURATED: f64 = 0.9;
/// Behind the intended time by more than this in one of a hundred cases, the publisher counts as
/// held up.
const LATENESS_NANOS_MAX: u64 = 5_000_000;
/// Without any progress for so long, waiting ends.
const PATIENCE_NANOS: u64 = 5_000_000_000;
/// Where nobody knows how many deliveries there should be: after so long without one, all are
/// there.
const QUIET_NANOS: u64 = 1_000_000_000;
/// How often things are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Everything a scenario needs.
pub struct Ground {
    /// As given.
    pub options: Options,
    /// Who the clients are.
    pub plan: Arc<Plan>,
    /// The clients.
    pub crew: Crew,
    /// What has been found so far.
    pub report: Report,
    publisher: Option<Publisher>,
    pids: Vec<u32>,
    progress: Progress,
}

/// A part of a run that was measured.
pub struct Phase {
    /// What the clients saw.
    pub tally: Tally,
    /// What the server spent.
    pub server: Spent,
    /// What this tool spent.
    pub own: Spent,
    /// Statuses published.
    pub published: u64,
    /// Seconds from the first status to the last delivery.
    pub secs: f64,
}

impl Ground {
    /// Starts the threads and connects to Redis.
    ///
    /// # Errors
    /// An option is wrong, Redis cannot be reached, a process is not there.
    pub fn prepare(scenario: &str, options: Options, stream: &str) -> Result<Ground, String> {
        let plan = Arc::new(options.plan(stream)?);
        let templates = Arc::new(Templates::new(options.text("keyword")));
        let target = options.target()?;
        let pids = options.numbers("pid", "")?;
        if Sample::of(&pids).is_none() {
            return Err("--pid: there is no such process, or it is not ours to look at".to_owned());
        }
        let publisher =
            Publisher::connect(&options.redis()?, Arc::clone(&plan), Arc::clone(&templates))
                .map_err(|error| format!("--redis: {error}"))?;
        let share = Every { step: 1, offset: 0 };
        let is_bare = options.has("bare");
        let parts = Parts { plan: Arc::clone(&plan), templates, target, is_bare, share };
        let threads = options.number("threads", 1)?;
        let crew = Crew::start(&parts, threads).map_err(|error| error.to_string())?;
        let report = Report {
            scenario: scenario.to_owned(),
            name: options.text("name").unwrap_or(scenario).to_owned(),
            settings: options.shown(),
            ..Report::default()
        };
        let progress = Progress::new();
        Ok(Ground { options, plan, crew, report, publisher: Some(publisher), pids, progress })
    }

    /// The server, now.
    pub fn server(&self) -> Sample {
        Sample::of(&self.pids).unwrap_or_default()
    }

    /// Whether the server's processes are known.
    pub fn knows_server(&self) -> bool {
        !self.pids.is_empty()
    }

    /// The pace of connecting, unless told otherwise.
    ///
    /// # Errors
    /// An option is no number.
    pub fn pace(&self, per_sec: f64, in_flight: usize) -> Result<Pace, String> {
        Ok(Pace {
            per_sec: self.options.number("connect-rate", per_sec)?,
            in_flight: self.options.number("in-flight", in_flight)?,
        })
    }

    /// Waits until every client that should be connected is. Returns what connecting took; clients
    /// that cannot connect are a problem.
    ///
    /// # Errors
    /// Nobody could connect for a long time.
    pub fn await_connections(&mut self, wanted: u64) -> Result<(), String> {
        let mut last = (nanos(), self.crew.standing());
        loop {
            let standing = self.look();
            if standing.open >= wanted && standing.waiting == 0 {
                return Ok(());
            }
            if standing.open != last.1.open {
                last = (nanos(), standing);
            }
            if nanos() > last.0 + 12 * PATIENCE_NANOS {
                let tally = self.crew.count();
                return Err(format!(
                    "{} of {wanted} clients are connected, and no more get in: {:?}",
                    standing.open, tally.ends
                ));
            }
            thread::sleep(LOOK);
        }
    }

    /// Connects clients up to `count` and waits for them.
    ///
    /// # Errors
    /// Nobody could connect for a long time.
    pub fn connect_up_to(&mut self, from: u32, count: u32, pace: Pace) -> Result<(), String> {
        self.crew.connect(from..count, pace);
        self.await_connections(count.into())
    }

    /// Lets time pass.
    pub fn pass(&mut self, secs: f64) {
        let end = nanos() + (secs * 1e9) as u64;
        while nanos() < end {
            self.look();
            thread::sleep(LOOK.min(Duration::from_nanos(end.saturating_sub(nanos()))));
        }
    }

    /// Publishes until every open client has received something: afterwards each is really
    /// subscribed, and knows the sequence number to come. Returns what was counted meanwhile and
    /// before.
    ///
    /// # Errors
    /// Somebody receives nothing.
    pub fn warm_up(&mut self, clients: u32) -> Result<Tally, String> {
        let channels = self.channels(clients);
        for round in 0..5 {
            let count = channels.len() as u64;
            let rate = (count as f64 / 4.0).clamp(20.0, 4000.0);
            let timing = Timing::Rate(rate);
            self.run(Job { channels: channels.clone(), is_random: false, timing, count })?;
            self.await_served(1_000_000_000 * (round + 1));
            let standing = self.crew.standing();
            if standing.served >= standing.open {
                return Ok(self.crew.count());
            }
        }
        let standing = self.crew.standing();
        let (served, open) = (standing.served, standing.open);
        Err(format!("only {served} of {open} clients receive anything"))
    }

    fn await_served(&mut self, patience_nanos: u64) {
        let mut last = (nanos(), 0);
        loop {
            let standing = self.look();
            if standing.served >= standing.open || nanos() > last.0 + patience_nanos {
                return;
            }
            if standing.delivered != last.1 {
                last = (nanos(), standing.delivered);
            }
            thread::sleep(LOOK);
        }
    }

    /// The channels of the first `clients` clients, each once.
    pub fn channels(&self, clients: u32) -> Vec<ChannelNumber> {
        let mut channels: Vec<ChannelNumber> =
            (0..clients).map(|client| self.plan.channel(client)).collect();
        channels.sort_unstable();
        channels.dedup();
        channels
    }

    /// Publishes and waits until everything has arrived; `each` is how many clients hear a status
    /// (0: nobody knows).
    ///
    /// # Errors
    /// Redis is gone.
    pub fn measure(&mut self, job: Job, each: u64) -> Result<Phase, String> {
        self.measure_while(job, each, |_| {})
    }

    /// The same, and `meanwhile` is called some fifty times a second.
    ///
    /// # Errors
    /// Redis is gone.
    pub fn measure_while(
        &mut self,
        job: Job,
        each: u64,
        meanwhile: impl FnMut(&mut Ground),
    ) -> Result<Phase, String> {
        self.crew.count();
        let before = self.crew.standing().delivered;
        let (server, own) = (self.server(), Sample::own());
        let start = nanos();
        let published = self.run_while(job, meanwhile)?;
        let wanted = before + published * each;
        let mut last = (nanos(), 0);
        loop {
            let delivered = self.look().delivered;
            if delivered != last.1 {
                last = (nanos(), delivered);
            }
            let patience = if each == 0 { QUIET_NANOS } else { PATIENCE_NANOS };
            let is_all = each > 0 && delivered >= wanted;
            if is_all || nanos() > last.0 + patience {
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
        let (server, own) = (self.server().since(&server), Sample::own().since(&own));
        let secs = last.0.saturating_sub(start) as f64 / 1e9;
        Ok(Phase { tally: self.crew.count(), server, own, published, secs })
    }

    /// Runs a job to its end; returns how many statuses were published.
    ///
    /// # Errors
    /// Redis is gone.
    pub fn run(&mut self, job: Job) -> Result<u64, String> {
        self.run_while(job, |_| {})
    }

    fn run_while(
        &mut self,
        job: Job,
        mut meanwhile: impl FnMut(&mut Ground),
    ) -> Result<u64, String> {
        let Some(mut publisher) = self.publisher.take() else {
            return Err("the publisher is gone".to_owned());
        };
        let is_outstanding = matches!(job.timing, Timing::Outstanding(_));
        publisher.begin(job);
        let outcome = if is_outstanding {
            let back = self.crew.publish(publisher);
            loop {
                match back.recv_timeout(LOOK) {
                    Ok(outcome) => break outcome.map(|publisher| *publisher),
                    Err(error) if error.is_timeout() => drop(self.look()),
                    Err(_) => break Err(io::ErrorKind::BrokenPipe.into()),
                }
            }
        } else {
            let thread = publisher.spawn().map_err(|error| error.to_string())?;
            while !thread.is_finished() {
                self.look();
                meanwhile(self);
                thread::sleep(LOOK);
            }
            thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
        };
        let publisher = outcome.map_err(|error| format!("Redis: {error}"))?;
        let late = publisher.lateness().value_at_percentile(99.0);
        if late > LATENESS_NANOS_MAX {
            let millis = late as f64 / 1e6;
            self.report.no_verdict.push(format!(
                "latencies: statuses were sent up to {millis:.1} ms late (p99), the tool was the \
                 bottleneck"
            ));
        }
        let done = publisher.done();
        self.publisher = Some(publisher);
        Ok(done)
    }

    /// The next sequence number of each channel.
    pub fn sequences(&self) -> &[u32] {
        self.publisher.as_ref().map_or(&[], |publisher| publisher.sequences())
    }

    /// Looks at how things stand, and says so from time to time.
    pub fn look(&mut self) -> Standing {
        let standing = self.crew.standing();
        self.progress.show(&standing, || Sample::of(&self.pids).unwrap_or_default());
        standing
    }

    /// Checks that no open client lacks anything, and reports what went wrong in these counts.
    pub fn judge(&mut self, tally: &Tally) {
        let lacking = self.crew.check(self.sequences());
        self.report.deliveries += tally.deliveries;
        let problems = &mut self.report.problems;
        let counts = [
            (lacking.statuses, "statuses did not arrive by the end"),
            (tally.missed, "statuses did not arrive before later ones"),
            (tally.again, "statuses arrived again or out of order"),
            (tally.strays, "statuses arrived at somebody else's"),
            (tally.altered, "statuses arrived altered"),
        ];
        for (count, what) in counts {
            if count > 0 {
                problems.push(format!("{count} {what}"));
            }
        }
        for (reason, count) in &tally.ends {
            problems.push(format!("{count} connections: {reason}"));
        }
    }

    /// Says so where the tool was saturated in a part of the run. `own` is what it spent, each time
    /// that this part came: the fullest time counts, because the others would hide it.
    pub fn judge_tool(&mut self, own: &[Spent], what: &str) {
        let busiest = own.iter().map(|spent| spent.busiest(THREAD_NAME)).fold(0.0, f64::max);
        self.report.figure(
            &format!("{}_tool_busiest_thread_percent", what.replace(' ', "_")),
            busiest * 100.0,
            &format!("{what}: % of the time the tool's busiest thread worked"),
        );
        self.report.no_verdict.extend(saturation(busiest, what));
    }

    /// Reports processor time for `count` of something, by thread of the server.
    pub fn figure_cpu(&mut self, key: &str, spent: &Spent, count: u64, what: &str) {
        if !self.knows_server() || count == 0 {
            return;
        }
        let micros = |nanos: u64| nanos as f64 / 1000.0 / count as f64;
        self.report.figure(
            &format!("{key}_micros"),
            micros(spent.nanos()),
            &format!("µs of server CPU per {what}"),
        );
        for (name, nanos) in &spent.threads {
            if micros(*nanos) >= 0.005 {
                let key = format!("{key}_{}_micros", name.replace('-', "_"));
                self.report.figure(&key, micros(*nanos), &format!("  of this, thread {name}"));
            }
        }
    }
}

/// Why there is no verdict where a thread of the tool worked for this part of the time.
fn saturation(busiest: f64, what: &str) -> Option<String> {
    let percent = busiest * 100.0;
    (busiest > SATURATED).then(|| {
        format!(
            "{what}: a thread of the tool worked {percent:.0} % of the time, the tool was the \
             bottleneck"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saturated_tool_allows_no_verdict() {
        assert_eq!(saturation(0.89, "storm"), None);
        assert!(saturation(0.97, "storm").is_some_and(|reason| reason.contains("storm: a thread")));
    }
}
