//! A pool turned by the test's own thread, as the control core turns it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trunkline::config::postgres::{PostgresConfig, PostgresHost, SslMode};
use trunkline::config::redis::HostPort;
use trunkline::config::tls::Roots;
use trunkline::config::{Limits, Secret};
use trunkline::hub::moment::Moment;
use trunkline::hub::question::{Answer, Question, Unanswered};
use trunkline::hub::session::Session;
use trunkline::io::database::{Database, PoolStats, Ticket};
use trunkline::io::poller::Poller;
use trunkline::io::postgres::PostgresDatabase;
use trunkline::io::resolver::Resolver;
use trunkline::protocol::ids::Token;

use crate::support::PATIENCE;

/// A pool with its poller and clock.
pub struct Client {
    pub pool: PostgresDatabase,
    poller: Poller,
    start: Instant,
    tickets: u64,
    answers: HashMap<Ticket, Result<Answer, Unanswered>>,
    pub troubles: Vec<String>,
}

/// The configuration that fits a private server.
pub fn config(host: PostgresHost, database: &str) -> PostgresConfig {
    PostgresConfig {
        hosts: vec![host],
        user: "mastodon".into(),
        password: None,
        database: database.into(),
        ssl_mode: SslMode::Prefer,
        roots: Roots::default(),
        identity: None,
        options: None,
        application_name: String::new(),
        pool_size: 10,
        connect_timeout: Duration::from_secs(15),
    }
}

/// A TCP host.
pub fn tcp(host: &str, port: u16) -> PostgresHost {
    PostgresHost::Tcp(HostPort { host: host.into(), port })
}

/// The configuration with this password.
pub fn with_password(mut config: PostgresConfig, user: &str, password: &str) -> PostgresConfig {
    config.user = user.into();
    config.password = Some(Secret::new(password));
    config
}

/// The question who has these tokens.
pub fn tokens(texts: &[&str]) -> Question {
    Question::Tokens(texts.iter().map(|text| Token::new(*text)).collect())
}

impl Client {
    pub fn new(config: &PostgresConfig) -> Client {
        Client::with_limits(config, &Limits::default())
    }

    pub fn with_limits(config: &PostgresConfig, limits: &Limits) -> Client {
        let poller = Poller::new(64).expect("epoll");
        let resolver = Resolver::new(&poller).expect("a resolver");
        let pool = PostgresDatabase::new(config, limits, resolver).expect("a configuration");
        let (answers, troubles) = (HashMap::new(), Vec::new());
        Client { pool, poller, start: Instant::now(), tickets: 0, answers, troubles }
    }

    pub fn ask(&mut self, question: Question) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let now = self.now();
        self.pool.ask(ticket, question, now);
        ticket
    }

    /// Asks and waits for the answer.
    #[track_caller]
    pub fn answer(&mut self, question: Question) -> Result<Answer, Unanswered> {
        let ticket = self.ask(question);
        self.until("an answer", |client| client.taken(ticket))
    }

    /// Asks who has a token.
    #[track_caller]
    pub fn session(&mut self, token: &str) -> Result<Option<Session>, Unanswered> {
        match self.answer(tokens(&[token]))? {
            Answer::Sessions(mut sessions) => Ok(sessions.remove(0)),
            other => panic!("{other:?}"),
        }
    }

    pub fn taken(&mut self, ticket: Ticket) -> Option<Result<Answer, Unanswered>> {
        self.answers.remove(&ticket)
    }

    /// Answers that nobody has taken.
    pub fn untaken(&self) -> usize {
        self.answers.len()
    }

    pub fn stats(&self) -> PoolStats {
        self.pool.stats()
    }

    /// Turns until `found` gives a value.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, mut found: impl FnMut(&mut Client) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.turn();
            if let Some(value) = found(self) {
                return value;
            }
            assert!(Instant::now() < deadline, "did not happen: {what}; {:?}", self.troubles);
        }
    }

    /// One turn, after what the pool itself says is a good time to sleep (never more than 20 ms:
    /// the test has other things to look at).
    pub fn turn(&mut self) {
        let now = self.now();
        let sleep = self.pool.next_deadline().map_or(Duration::MAX, |next| next.since(now));
        let count = self.poller.wait(Some(sleep.min(Duration::from_millis(20)))).expect("epoll");
        let ready: Vec<_> = (0..count).filter_map(|index| self.poller.take(index)).collect();
        let now = self.now();
        let answers = &mut self.answers;
        self.pool.turn(now, &ready, &self.poller, &mut |ticket, answer| {
            assert!(answers.insert(ticket, answer).is_none(), "{ticket:?} was answered twice");
        });
        self.troubles.extend(self.pool.take_troubles());
    }

    pub fn now(&self) -> Moment {
        Moment(u64::try_from(self.start.elapsed().as_nanos()).expect("a short test"))
    }
}

/// Ids as the questions want them.
pub fn ids<Id>(ids: &[i64], id: impl Fn(i64) -> Id) -> Arc<[Id]> {
    ids.iter().map(|number| id(*number)).collect()
}
