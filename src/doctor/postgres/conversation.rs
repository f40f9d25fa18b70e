//! Asking Postgres one statement after the other, over the server's own connections: the same
//! hosts, transports, log-in and bounds.

use std::sync::Arc;

use crate::config::{Limits, PostgresConfig};
use crate::io::clock::Clock;
use crate::io::poller::Poller;
use crate::io::postgres::connection::{Connection, Setup};
use crate::io::postgres::opening::{Opening, Outcome};
use crate::io::resolver::Resolver;
use crate::protocol::postgres::{Happening, Row, Statement};

/// What the connection is registered with.
const KEY: u64 = 1;
const EVENTS_MAX: usize = 4;

/// A connection to Postgres that waits for each reply.
pub(super) struct Conversation {
    connection: Connection,
    poller: Poller,
    clock: Clock,
    limits: Limits,
}

impl Conversation {
    /// Connects and logs in.
    ///
    /// # Errors
    ///
    /// In words, for each server that was tried, without secrets.
    pub(super) fn open(config: &PostgresConfig, limits: &Limits) -> Result<Conversation, String> {
        let clock = Clock::start();
        let mut poller = Poller::new(EVENTS_MAX).map_err(|error| error.to_string())?;
        let resolver = Resolver::new(&poller).map_err(|error| error.to_string())?;
        let setup = Setup::new(config, limits).map_err(|error| error.to_string())?;
        let setup = Arc::new(setup);
        let mut opening = Opening::new(&Arc::new(config.clone()), &setup, &resolver, KEY);
        let mut ready = false;
        loop {
            match opening.turn(ready, clock.now(), &poller) {
                Outcome::Opened(connection) => {
                    let (connection, limits) = (*connection, limits.clone());
                    return Ok(Conversation { connection, poller, clock, limits });
                }
                Outcome::Failed(reason) => return Err(reason),
                Outcome::Pending => {
                    let timeout = clock.until(opening.deadline());
                    let events = poller.wait(Some(timeout)).map_err(|error| error.to_string())?;
                    ready = (0..events)
                        .filter_map(|index| poller.take(index))
                        .any(|readiness| readiness.key == KEY);
                }
            }
        }
    }

    /// The rows of a statement.
    ///
    /// # Errors
    ///
    /// The server refuses it, the connection broke, or no reply came in time.
    pub(super) fn ask(&mut self, statement: &Statement<'_>) -> Result<Vec<Row>, String> {
        self.connection.ask(statement)?;
        let deadline = self.clock.now() + self.limits.query_secs_max;
        let mut reply = None;
        loop {
            let more = self
                .connection
                .turn(&mut |happening| {
                    if let Happening::Reply(rows) = happening {
                        reply = Some(rows);
                    }
                })
                .map_err(|broken| broken.reason)?;
            if let Some(rows) = reply.take() {
                return rows.map_err(|error| error.to_string());
            }
            if self.clock.now() >= deadline {
                return Err("no reply in time".to_owned());
            }
            if !more {
                let timeout = self.clock.until(deadline);
                self.poller.wait(Some(timeout)).map_err(|error| error.to_string())?;
            }
        }
    }
}
