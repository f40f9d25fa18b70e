//! `trunkline doctor`: what is, what should be, why, and the command to change it, for everything
//! around the server that decides how well it runs.
//!
//! ```text
//!   readings (/proc, /sys) ─► host ─┬─► process ─┐
//!                                   ├─► network ─┤
//!                                   └─► machine ─┼─► findings ─► report: text or JSON, exit code
//!   the server's own client ─► redis    ─────────┤
//!   the server's own client ─► postgres ─────────┘
//!   environment: of the server that runs, or our own ─► the configuration that all this is for
//! ```
//!
//! Asking and judging are apart: every judgement is a function of what was read, and tested with
//! given readings. Nothing is changed, but for one key `subscribed:timeline:0` that Redis keeps for
//! a second.

mod environment;
pub mod finding;
pub mod host;
mod machine;
mod network;
pub mod postgres;
mod process;
pub mod readings;
pub mod redis;
pub mod report;

use crate::config::{ConfigErrors, DriverChoice};
use crate::io::cores::Plan;
use crate::io::driver::Driver;

use self::environment::Loaded;
use self::finding::{Area, Finding, Subject, Verdict};
use self::host::{Host, is_server, running_server};
use self::readings::Kernel;
pub use self::report::Report;

/// How many clients a host is checked for unless one says otherwise: more than most instances have
/// at a time.
const CLIENTS: u64 = 10_000;
/// More than any machine holds.
const CLIENTS_MAX: u64 = 100_000_000;

/// What the command line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many clients the host is to hold (`--clients`).
    pub clients: u64,
    /// JSON instead of text (`--json`).
    pub json: bool,
    /// The process whose limits count, and, if it is a server, whose environment (`--pid`);
    /// otherwise those of the server that runs, if one does.
    pub pid: Option<u32>,
}

impl Options {
    /// Reads the arguments behind `doctor`: `--json`, `--clients NUMBER` and `--pid NUMBER`, or
    /// with `=` in between.
    ///
    /// # Errors
    ///
    /// A sentence for the person who typed them.
    pub fn parse(arguments: &[&str]) -> Result<Options, String> {
        let mut options = Options { clients: CLIENTS, json: false, pid: None };
        let mut arguments = arguments.iter().copied();
        while let Some(argument) = arguments.next() {
            if argument == "--json" {
                options.json = true;
                continue;
            }
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, value),
                None => (argument, arguments.next().unwrap_or_default()),
            };
            let wrong = || format!("{name} wants a number, not {value:?}");
            match name {
                "--clients" => {
                    let clients = value.parse().ok();
                    let clients = clients.filter(|clients| (1..=CLIENTS_MAX).contains(clients));
                    options.clients = clients.ok_or_else(wrong)?;
                }
                "--pid" => options.pid = Some(value.parse().map_err(|_| wrong())?),
                _ => {
                    let known = "--json, --clients and --pid";
                    return Err(format!("{name:?} is unknown; known are {known}"));
                }
            }
        }
        Ok(options)
    }
}

/// Looks at everything: the configuration of the server that runs, or else of this process, this
/// host, Redis and Postgres. Waits for their answers, within the bounds of the configuration.
pub fn run(options: Options) -> Report {
    let pid = options.pid.or_else(|| running_server(&Kernel, std::process::id()));
    let server = pid.filter(|pid| is_server(&Kernel, *pid));
    let (loaded, whose) = environment::load(&Kernel, server);
    examine(Options { pid, ..options }, loaded, whose)
}

/// As [`run`], with the configuration of `whose` environment.
fn examine(options: Options, loaded: Loaded, whose: Option<Finding>) -> Report {
    let mut findings = configuration(&loaded);
    findings.extend(whose);
    let config = loaded.ok().map(|(config, _)| config);
    let mut host = Host::new(&Kernel, options.clients, config.as_ref());
    host.pid = options.pid;
    if let Some(plan) = config.as_ref().and_then(|config| Plan::make(&config.cores).ok()) {
        host.cores = plan.shard_cpus.len() as u64 + 1;
    }
    let cores = usize::try_from(host.cores).unwrap_or(1);
    host.refusal = Driver::choose(DriverChoice::Glommio, cores).err();
    findings.extend(examine_host(&host));
    if let Some(config) = &config {
        findings.extend(redis::findings(&config.redis, &config.limits));
        let server_runs = host.pid.is_some_and(|pid| is_server(&Kernel, pid));
        findings.extend(postgres::findings(&config.postgres, &config.limits, server_runs));
    }
    Report::new(options.clients, host.pid, findings)
}

/// The checks of a host, as a function of what was read.
pub fn examine_host(host: &Host<'_>) -> Vec<Finding> {
    [process::findings(host), network::findings(host), machine::findings(host)].concat()
}

fn configuration(loaded: &Loaded) -> Vec<Finding> {
    let why = "the server does not start with a wrong value; a misspelt name has no effect";
    let subject =
        || Subject::new(Area::Configuration, "environment", why).should("no error and no warning");
    let command = "mend the variable in .env.production or in the unit";
    let found = |verdict: Verdict, text: String| subject().is(text).needs(verdict, command);
    match loaded {
        Err(ConfigErrors(errors)) => {
            errors.iter().map(|error| found(Verdict::Broken, error.to_string())).collect()
        }
        Ok((_, warnings)) if warnings.is_empty() => vec![subject().is("no error").fine()],
        Ok((_, warnings)) => {
            warnings.iter().map(|warning| found(Verdict::Change, warning.to_string())).collect()
        }
    }
}

#[cfg(test)]
mod tests;
