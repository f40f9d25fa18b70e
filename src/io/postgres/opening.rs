//! Opening one connection: the configured hosts in order, the addresses of each, the transports
//! that `sslmode` allows, until a server lets us in.
//!
//! ```text
//! NextHost ─► LookingUp ─► NextEndpoint ─► Trying ─► Opened
//!    ▲ │          │            ▲  │          │ ▲ other transport
//!    │ └ none     └ no address │  └ none     ├─┘
//!    │   left: Failed          └─────────────┤ other server
//!    └────────────────────────────┘          └ Failed: the server knows us and refuses
//! ```

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;

use rustls::pki_types::ServerName;

use super::connection::{Broken, Connection, Remedy, Setup};
use super::encryption::{Transport, transports};
use crate::config::PostgresConfig;
use crate::config::postgres::PostgresHost;
use crate::hub::moment::Moment;
use crate::io::poller::Poller;
use crate::io::resolver::{Lookup, Resolver};
use crate::io::upstream::Endpoint;
use crate::protocol::postgres::Happening;

/// Failures that are told; more would only flood the log.
const FAILURES_MAX: usize = 8;

/// A connection that is being opened.
pub struct Opening {
    config: Arc<PostgresConfig>,
    setup: Arc<Setup>,
    resolver: Resolver,
    key: u64,
    /// Index of the host after the one that is being tried.
    next_host: usize,
    /// Addresses of the host that have not been tried.
    endpoints: VecDeque<Endpoint>,
    step: Step,
    failures: Vec<String>,
}

enum Step {
    NextHost,
    LookingUp(Lookup),
    NextEndpoint,
    Trying(Box<Attempt>),
}

struct Attempt {
    endpoint: Endpoint,
    /// What is tried after this transport.
    others: &'static [Transport],
    connection: Connection,
    deadline: Moment,
    /// The connection has something to do.
    ready: bool,
}

/// How far it is.
pub enum Outcome {
    /// Turn it again when its key is ready, or at its deadline.
    Pending,
    /// Logged in.
    Opened(Box<Connection>),
    /// Nobody lets us in: why, for each server.
    Failed(String),
}

impl Opening {
    /// Prepares to open a connection that is registered under `key`.
    pub fn new(
        config: &Arc<PostgresConfig>,
        setup: &Arc<Setup>,
        resolver: &Resolver,
        key: u64,
    ) -> Opening {
        Opening {
            config: Arc::clone(config),
            setup: Arc::clone(setup),
            resolver: resolver.clone(),
            key,
            next_host: 0,
            endpoints: VecDeque::new(),
            step: Step::NextHost,
            failures: Vec::new(),
        }
    }

    /// Goes on as far as possible without waiting. `ready`: its key was.
    pub fn turn(&mut self, ready: bool, now: Moment, poller: &Poller) -> Outcome {
        if let Step::Trying(attempt) = &mut self.step {
            attempt.ready |= ready;
        }
        loop {
            let step = std::mem::replace(&mut self.step, Step::NextHost);
            self.step = match step {
                Step::NextHost => match self.config.hosts.get(self.next_host) {
                    None => return Outcome::Failed(self.failure()),
                    Some(host) => {
                        self.next_host += 1;
                        look_up(host, &self.resolver, now + self.config.connect_timeout)
                            .unwrap_or_else(|endpoint| {
                                self.endpoints = VecDeque::from([endpoint]);
                                Step::NextEndpoint
                            })
                    }
                },
                Step::LookingUp(mut lookup) => match lookup.poll(now) {
                    Poll::Pending => {
                        self.step = Step::LookingUp(lookup);
                        return Outcome::Pending;
                    }
                    Poll::Ready(Ok(found)) => {
                        self.endpoints = found.into_iter().map(Endpoint::Tcp).collect();
                        Step::NextEndpoint
                    }
                    Poll::Ready(Err(error)) => {
                        self.note(None, &error.to_string());
                        Step::NextHost
                    }
                },
                Step::NextEndpoint => match self.endpoints.pop_front() {
                    None => Step::NextHost,
                    Some(endpoint) => {
                        let transports = self.transports();
                        self.attempt(endpoint, transports, now, poller)
                    }
                },
                Step::Trying(attempt) => match self.go_on(attempt, now, poller) {
                    Ok(step) => step,
                    Err(outcome) => return outcome,
                },
            };
        }
    }

    /// When to turn it again although nothing is ready.
    pub fn deadline(&self) -> Moment {
        match &self.step {
            Step::NextHost | Step::NextEndpoint => Moment(0),
            Step::LookingUp(lookup) => lookup.deadline(),
            Step::Trying(attempt) if attempt.ready => Moment(0),
            Step::Trying(attempt) => attempt.deadline,
        }
    }

    /// Starts to connect with the first of these transports.
    fn attempt(
        &mut self,
        endpoint: Endpoint,
        transports: &'static [Transport],
        now: Moment,
        poller: &Poller,
    ) -> Step {
        let Some((transport, others)) = transports.split_first() else {
            return Step::NextEndpoint;
        };
        let name = self.server_name(&endpoint);
        let started = Connection::start(&endpoint, name, *transport, &self.setup, poller, self.key);
        match started {
            Ok(connection) => {
                let deadline = now + self.config.connect_timeout;
                let ready = true;
                Step::Trying(Box::new(Attempt { endpoint, others, connection, deadline, ready }))
            }
            Err(broken) => {
                self.note(Some(&endpoint), &broken.reason);
                Step::NextEndpoint
            }
        }
    }

    fn go_on(
        &mut self,
        mut attempt: Box<Attempt>,
        now: Moment,
        poller: &Poller,
    ) -> Result<Step, Outcome> {
        if std::mem::take(&mut attempt.ready) {
            let mut open = false;
            let turned = attempt.connection.turn(&mut |happening| {
                open |= matches!(happening, Happening::Open);
            });
            match turned {
                Ok(_) if open => return Err(Outcome::Opened(Box::new(attempt.connection))),
                Ok(more) => attempt.ready = more,
                Err(broken) => return self.give_up(*attempt, &broken, now, poller),
            }
        }
        if attempt.deadline <= now {
            let seconds = self.config.connect_timeout.as_secs_f32();
            self.note(Some(&attempt.endpoint), &format!("no answer within {seconds} s"));
            return Ok(Step::NextEndpoint);
        }
        self.step = Step::Trying(attempt);
        Err(Outcome::Pending)
    }

    fn give_up(
        &mut self,
        attempt: Attempt,
        broken: &Broken,
        now: Moment,
        poller: &Poller,
    ) -> Result<Step, Outcome> {
        self.note(Some(&attempt.endpoint), &broken.reason);
        match broken.remedy {
            Remedy::OtherTransport if !attempt.others.is_empty() => {
                let Attempt { endpoint, others, connection, .. } = attempt;
                drop(connection);
                Ok(self.attempt(endpoint, others, now, poller))
            }
            // As libpq: a server that knows us and refuses is not passed over.
            Remedy::Configuration => Err(Outcome::Failed(self.failure())),
            Remedy::OtherTransport | Remedy::OtherServer | Remedy::DoNotAskAgain => {
                Ok(Step::NextEndpoint)
            }
        }
    }

    fn host(&self) -> Option<&PostgresHost> {
        self.config.hosts.get(self.next_host.wrapping_sub(1))
    }

    fn transports(&self) -> &'static [Transport] {
        self.host().map_or(&[], |host| transports(self.config.ssl_mode, host))
    }

    /// What the certificate must be for. A host that is no name for TLS is known by its address.
    fn server_name(&self, endpoint: &Endpoint) -> ServerName<'static> {
        let address = match endpoint {
            Endpoint::Tcp(address) => address.ip(),
            Endpoint::Unix(_) => IpAddr::from([127, 0, 0, 1]),
        };
        match self.host() {
            Some(PostgresHost::Tcp(host)) => ServerName::try_from(host.host.clone()).ok(),
            _ => None,
        }
        .unwrap_or(ServerName::IpAddress(address.into()))
    }

    fn note(&mut self, endpoint: Option<&Endpoint>, reason: &str) {
        if self.failures.len() >= FAILURES_MAX {
            return;
        }
        let host = match self.host() {
            Some(PostgresHost::Tcp(host)) => format!("{} port {}", host.host, host.port),
            Some(PostgresHost::Unix { directory, port }) => {
                format!("{}/.s.PGSQL.{port}", directory.display())
            }
            None => "no host".to_owned(),
        };
        let endpoint = match endpoint {
            Some(endpoint @ Endpoint::Tcp(_)) => format!(" ({endpoint})"),
            Some(Endpoint::Unix(_)) | None => String::new(),
        };
        self.failures.push(format!("{host}{endpoint}: {reason}"));
    }

    fn failure(&self) -> String {
        match self.failures.as_slice() {
            [] => "no host is configured".to_owned(),
            failures => failures.join("; "),
        }
    }
}

/// What has to be looked up, or what needs no looking up.
fn look_up(host: &PostgresHost, resolver: &Resolver, deadline: Moment) -> Result<Step, Endpoint> {
    match host {
        PostgresHost::Tcp(host) => {
            Ok(Step::LookingUp(resolver.look_up(&host.host, host.port, deadline)))
        }
        PostgresHost::Unix { directory, port } => {
            Err(Endpoint::Unix(directory.join(format!(".s.PGSQL.{port}"))))
        }
    }
}
