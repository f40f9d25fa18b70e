//! One connection from the first byte on: asks for TLS, logs in, carries statements.
//!
//! ```text
//!                  ┌─ 'S' ─► Handshake ─┐
//! Plain ───────────│────────────────────┼─► Talking (see protocol/postgres/conversation.rs)
//! TLS ─► SslAsked ─┴─ 'N' (if offered) ─┘
//!            └─ anything else, or bytes behind the answer: Broken
//! ```

use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use postgres_protocol::message::frontend;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::encryption::{Transport, client_config};
use crate::config::postgres::SslMode;
use crate::config::{Limits, PostgresConfig};
use crate::io::poller::Poller;
use crate::io::upstream::{Endpoint, Upstream};
use crate::protocol::postgres::{BackendKey, Conversation, Failure, Happening, Login, Statement};

/// A connection to one server.
pub struct Connection {
    upstream: Upstream,
    endpoint: Endpoint,
    stage: Stage,
    setup: Arc<Setup>,
    transport: Transport,
    name: ServerName<'static>,
    /// Written by the conversation, on its way to `upstream`; empty between two calls.
    output: BytesMut,
}

enum Stage {
    SslAsked,
    Handshake,
    Talking(Conversation),
}

/// What all connections of a pool share.
pub struct Setup {
    /// Who we are.
    pub login: Login,
    /// For TLS; `None` if the mode is `disable`.
    pub tls: Option<Arc<ClientConfig>>,
    /// Bound of one reply.
    pub reply_bytes_max: usize,
}

impl Setup {
    /// What this configuration asks for.
    ///
    /// Errors: the certificates in the configuration do not fit together.
    pub fn new(config: &PostgresConfig, limits: &Limits) -> Result<Setup, rustls::Error> {
        let tls = match config.ssl_mode {
            SslMode::Disable => None,
            _ => Some(client_config(config)?),
        };
        let login = Login {
            user: config.user.clone(),
            database: config.database.clone(),
            password: config.password.clone(),
            application_name: config.application_name.clone(),
            options: config.options.clone(),
        };
        Ok(Setup { login, tls, reply_bytes_max: limits.reply_bytes_max })
    }
}

/// The connection is of no use any more.
#[derive(Debug)]
pub struct Broken {
    /// In words, without secrets.
    pub reason: String,
    /// What to do about it.
    pub remedy: Remedy,
}

/// What may help when a connection broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The other transport (plain instead of TLS or the other way) at the same server.
    OtherTransport,
    /// Another server, or the same one later.
    OtherServer,
    /// Nothing but a change of configuration: the server knows us and does not let us in.
    Configuration,
    /// The reply to the statement is what broke it: do not ask again.
    DoNotAskAgain,
}

impl Connection {
    /// Starts to connect and returns at once.
    ///
    /// Errors: the kernel, or the login's own text, stands against it.
    pub fn start(
        endpoint: &Endpoint,
        name: ServerName<'static>,
        transport: Transport,
        setup: &Arc<Setup>,
        poller: &Poller,
        key: u64,
    ) -> Result<Connection, Broken> {
        let mut upstream = Upstream::connect(endpoint, poller, key).map_err(unreachable)?;
        let mut output = BytesMut::new();
        let stage = match transport {
            Transport::Plain => Stage::Talking(converse(setup, &mut output)?),
            Transport::Tls | Transport::TlsIfOffered => {
                frontend::ssl_request(&mut output);
                Stage::SslAsked
            }
        };
        upstream.send(&output);
        output.clear();
        let (setup, endpoint) = (Arc::clone(setup), endpoint.clone());
        Ok(Connection { upstream, endpoint, stage, setup, transport, name, output })
    }

    /// Starts to connect once more, encrypted if this connection is, only to have its statement
    /// cancelled; `None`: the server does not offer that, or cannot be reached.
    pub fn cancel(&self, poller: &Poller, key: u64) -> Option<Cancel> {
        let Stage::Talking(conversation) = &self.stage else { return None };
        let backend = conversation.key()?;
        let mut upstream = Upstream::connect(&self.endpoint, poller, key).ok()?;
        let tls = self.setup.tls.clone().filter(|_| self.upstream.is_encrypted());
        let mut output = BytesMut::new();
        match tls {
            Some(_) => frontend::ssl_request(&mut output),
            None => backend.cancel(&mut output),
        }
        upstream.send(&output);
        let tls = tls.map(|tls| (tls, self.name.clone()));
        Some(Cancel { upstream, tls, backend: self.upstream.is_encrypted().then_some(backend) })
    }

    /// Appends a statement to what is sent in the next [`Connection::turn`]. Only after
    /// [`Happening::Open`].
    ///
    /// Errors: it is too large, or the connection is not open; nothing was appended.
    pub fn ask(&mut self, statement: &Statement<'_>) -> Result<(), &'static str> {
        let Stage::Talking(conversation) = &mut self.stage else {
            return Err("the connection is not open");
        };
        let asked = conversation.ask(statement, &mut self.output);
        self.upstream.send(&self.output);
        self.output.clear();
        asked.map_err(|_| "the question is too large for one statement")
    }

    /// Reads and writes what is possible, and tells what happened. `true`: there is more to be
    /// read, turn again soon although no event will come.
    ///
    /// Errors: drop the connection. What happened before was told.
    pub fn turn(&mut self, happened: &mut dyn FnMut(Happening)) -> Result<bool, Broken> {
        loop {
            let pumped = match self.upstream.pump() {
                Ok(pumped) => pumped,
                Err(error) => return Err(self.pump_failed(error)),
            };
            let advanced = self.advance(happened)?;
            if pumped.ended {
                return Err(self.hung_up());
            }
            if !advanced {
                return Ok(pumped.more);
            }
        }
    }

    /// Understands what was received; `true`: there is something new to be sent.
    fn advance(&mut self, happened: &mut dyn FnMut(Happening)) -> Result<bool, Broken> {
        match &mut self.stage {
            Stage::SslAsked => self.take_ssl_answer(),
            Stage::Handshake if self.upstream.is_established() => self.begin_conversation(),
            Stage::Handshake => Ok(false),
            Stage::Talking(conversation) => {
                let input = self.upstream.input();
                while let Some(happening) = conversation
                    .receive(input, &mut self.output)
                    .map_err(|failure| broken(&failure))?
                {
                    happened(happening);
                }
                let sends = !self.output.is_empty();
                self.upstream.send(&self.output);
                self.output.clear();
                Ok(sends)
            }
        }
    }

    /// The one byte that answers `SSLRequest`. Whatever stands behind it came unencrypted from who
    /// knows whom (CVE-2021-23222).
    fn take_ssl_answer(&mut self) -> Result<bool, Broken> {
        let input = self.upstream.input();
        let Some(answer) = input.first().copied() else {
            return Ok(false);
        };
        input.advance(1);
        if answer == b'E' {
            // Servers that do not know the request, or are out of processes. The text is not shown:
            // nothing says that it is the server's (CVE-2024-10977).
            return Err(self.no_tls("the server answered the request for TLS with an error"));
        }
        if !input.is_empty() {
            let reason = "unencrypted bytes came behind the server's answer about TLS".to_owned();
            return Err(Broken { reason, remedy: Remedy::OtherServer });
        }
        match answer {
            b'S' => {
                let Some(tls) = self.setup.tls.clone() else {
                    return Err(self.no_tls("TLS is not set up"));
                };
                self.stage = Stage::Handshake;
                let started = self.upstream.start_tls(tls, self.name.clone());
                started.map_err(|error| self.pump_failed(error))?;
                Ok(true)
            }
            b'N' if self.transport == Transport::TlsIfOffered => self.begin_conversation(),
            b'N' => Err(self.no_tls("the server does not offer TLS")),
            _ => Err(Broken {
                reason: "the server's answer about TLS is not Postgres'".to_owned(),
                remedy: Remedy::OtherServer,
            }),
        }
    }

    fn begin_conversation(&mut self) -> Result<bool, Broken> {
        self.stage = Stage::Talking(converse(&self.setup, &mut self.output)?);
        self.upstream.send(&self.output);
        self.output.clear();
        Ok(true)
    }

    fn no_tls(&self, reason: &str) -> Broken {
        let remedy = match self.transport {
            Transport::TlsIfOffered => Remedy::OtherTransport,
            Transport::Plain | Transport::Tls => Remedy::OtherServer,
        };
        Broken { reason: reason.to_owned(), remedy }
    }

    fn pump_failed(&self, error: io::Error) -> Broken {
        match self.stage {
            Stage::Handshake => self.no_tls(&error.to_string()),
            Stage::SslAsked | Stage::Talking(_) => unreachable(error),
        }
    }

    fn hung_up(&self) -> Broken {
        match &self.stage {
            Stage::SslAsked => self.no_tls("the server hung up when it was asked for TLS"),
            Stage::Handshake => self.no_tls("the server hung up during the TLS handshake"),
            Stage::Talking(_) => Broken {
                reason: "the server closed the connection".to_owned(),
                remedy: Remedy::OtherServer,
            },
        }
    }
}

/// A connection that asks for a statement to be cancelled.
pub struct Cancel {
    upstream: Upstream,
    /// To be started when the server has agreed.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// To be sent once everything is encrypted.
    backend: Option<BackendKey>,
}

impl Cancel {
    /// Goes on as far as possible. `true`: the server has hung up, as it does when it has heard, or
    /// cannot be told.
    pub fn turn(&mut self) -> bool {
        loop {
            let Ok(pumped) = self.upstream.pump() else { return true };
            let agreed = self.upstream.input().first().copied();
            if let Some(answer) = agreed
                && let Some((config, name)) = self.tls.take()
            {
                self.upstream.input().advance(1);
                if answer != b'S' || self.upstream.start_tls(config, name).is_err() {
                    return true;
                }
                continue;
            }
            if self.tls.is_none()
                && self.upstream.is_established()
                && let Some(backend) = self.backend.take()
            {
                let mut output = BytesMut::new();
                backend.cancel(&mut output);
                self.upstream.send(&output);
                continue;
            }
            return pumped.ended;
        }
    }
}

/// Says good-bye as far as that goes without waiting, so that the server's log shows no broken
/// clients.
impl Drop for Connection {
    fn drop(&mut self) {
        if matches!(&self.stage, Stage::Talking(conversation) if conversation.is_open()) {
            frontend::terminate(&mut self.output);
            self.upstream.send(&self.output);
            let _ = self.upstream.pump();
        }
    }
}

fn converse(setup: &Setup, output: &mut BytesMut) -> Result<Conversation, Broken> {
    Conversation::start(setup.login.clone(), setup.reply_bytes_max, output)
        .map_err(|failure| broken(&failure))
}

fn unreachable(error: io::Error) -> Broken {
    Broken { reason: error.to_string(), remedy: Remedy::OtherServer }
}

fn broken(failure: &Failure) -> Broken {
    let remedy = match failure {
        Failure::Server(error) if error.refuses_this_transport() => Remedy::OtherTransport,
        // Class 28: invalid authorization; 3D000: no such database.
        Failure::Server(error) if error.code.starts_with("28") || &*error.code == "3D000" => {
            Remedy::Configuration
        }
        Failure::Server(_) => Remedy::OtherServer,
        Failure::Login(_) => Remedy::Configuration,
        Failure::Malformed(_) | Failure::ReplyTooLong { .. } => Remedy::DoNotAskAgain,
    };
    Broken { reason: failure.to_string(), remedy }
}
