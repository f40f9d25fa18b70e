//! Who we are, and proving it: trust, plain, md5 and SCRAM-SHA-256.
//!
//! ```text
//!            ┌── plain, md5 ──► Proven ──┐
//! Unasked ───┤                           ├── AuthenticationOk ──► (done)
//!    │       └── SASL ─► Challenged ─► Answered ── final ─► Proven
//!    └────────────────────── trust ──────────────────────────┘
//! ```
//!
//! Once SCRAM has begun the server must prove in its final message that it knows the password too;
//! an `AuthenticationOk` before that is refused (RFC 5802, section 3).

use std::fmt;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

use super::{Failure, Malformed};
use crate::config::Secret;

/// What the start-up packet says, and the password.
#[derive(Clone, Debug)]
pub struct Login {
    /// Role.
    pub user: String,
    /// Database.
    pub database: String,
    /// Password, if any.
    pub password: Option<Secret>,
    /// `application_name`; empty: not sent, as PgBouncer in transaction mode wants it.
    pub application_name: String,
    /// `options`, if any: PgBouncer refuses the parameter unless told otherwise.
    pub options: Option<String>,
}

/// Why there is no way to log in. A wrong password is not here: the server says that itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginProblem {
    /// The server wants a password and none is configured.
    NoPassword,
    /// The server insists on SCRAM with channel binding, or on a mechanism that we do not have.
    NoCommonMechanism,
    /// Kerberos, GSSAPI, SSPI.
    UnknownMethod,
    /// The server does not know the password itself: somebody else is answering.
    ServerNotProven,
    /// The SCRAM exchange failed on the server's side of it (a wrong nonce, too many iterations).
    BadChallenge,
    /// User, password, database or options hold a NUL.
    Unwritable,
}

impl fmt::Display for LoginProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            LoginProblem::NoPassword => "the server wants a password and none is configured",
            LoginProblem::NoCommonMechanism => {
                "the server offers no SASL mechanism that we have (SCRAM-SHA-256, without \
                 channel binding)"
            }
            LoginProblem::UnknownMethod => {
                "the server wants a way to log in that we do not have (we have trust, password, \
                 md5 and scram-sha-256)"
            }
            LoginProblem::ServerNotProven => {
                "the server did not prove that it knows the password: it may be somebody else's"
            }
            LoginProblem::BadChallenge => "the server's SCRAM challenge is not acceptable",
            LoginProblem::Unwritable => {
                "user, password, database or options hold a character that cannot be sent (NUL)"
            }
        })
    }
}

/// How far logging in is.
pub(super) struct Authentication {
    login: Login,
    step: Step,
}

enum Step {
    Unasked,
    Challenged(Box<ScramSha256>),
    Answered(Box<ScramSha256>),
    Proven,
}

impl Authentication {
    /// Appends the start-up packet.
    pub(super) fn start(login: Login, output: &mut BytesMut) -> Result<Authentication, Failure> {
        let mut parameters = vec![
            ("user", login.user.as_str()),
            ("database", login.database.as_str()),
            ("client_encoding", "UTF8"),
        ];
        if !login.application_name.is_empty() {
            parameters.push(("application_name", &login.application_name));
        }
        if let Some(options) = &login.options {
            parameters.push(("options", options));
        }
        frontend::startup_message(parameters, output).map_err(|_| unwritable())?;
        Ok(Authentication { login, step: Step::Unasked })
    }

    /// Takes one `Authentication…` message; `true`: the server lets us in.
    pub(super) fn take(
        &mut self,
        message: &Message,
        output: &mut BytesMut,
    ) -> Result<bool, Failure> {
        self.step = match (std::mem::replace(&mut self.step, Step::Proven), message) {
            (Step::Unasked | Step::Proven, Message::AuthenticationOk) => return Ok(true),
            (_, Message::AuthenticationOk) => {
                return Err(Failure::Login(LoginProblem::ServerNotProven));
            }
            (Step::Unasked, Message::AuthenticationCleartextPassword) => {
                send_password(self.password()?.as_bytes(), output)?;
                Step::Proven
            }
            (Step::Unasked, Message::AuthenticationMd5Password(body)) => {
                let password = self.password()?.as_bytes();
                let hash = md5_hash(self.login.user.as_bytes(), password, body.salt());
                send_password(hash.as_bytes(), output)?;
                Step::Proven
            }
            (Step::Unasked, Message::AuthenticationSasl(body)) => {
                Step::Challenged(Box::new(self.begin_scram(body, output)?))
            }
            (Step::Challenged(mut scram), Message::AuthenticationSaslContinue(body)) => {
                scram
                    .update(body.data())
                    .map_err(|_| Failure::Login(LoginProblem::BadChallenge))?;
                frontend::sasl_response(scram.message(), output).map_err(|_| unwritable())?;
                Step::Answered(scram)
            }
            (Step::Answered(mut scram), Message::AuthenticationSaslFinal(body)) => {
                let proof = scram.finish(body.data());
                proof.map_err(|_| Failure::Login(LoginProblem::ServerNotProven))?;
                Step::Proven
            }
            (
                Step::Unasked,
                Message::AuthenticationGss
                | Message::AuthenticationKerberosV5
                | Message::AuthenticationScmCredential
                | Message::AuthenticationSspi,
            ) => return Err(Failure::Login(LoginProblem::UnknownMethod)),
            _ => return Err(Malformed("an authentication message out of turn").into()),
        };
        Ok(false)
    }

    fn begin_scram(
        &self,
        offered: &AuthenticationSaslBody,
        output: &mut BytesMut,
    ) -> Result<ScramSha256, Failure> {
        let mechanisms = offered.mechanisms();
        let ours = mechanisms.filter(|mechanism| Ok(*mechanism == SCRAM_SHA_256)).next();
        if ours.map_err(|_| Malformed("a torn list of mechanisms"))?.is_none() {
            return Err(Failure::Login(LoginProblem::NoCommonMechanism));
        }
        let password = self.password()?.as_bytes();
        // `n`: we do not do channel binding, and say so whatever the server offers (RFC 5802,
        // section 6).
        let scram = ScramSha256::new(password, ChannelBinding::unsupported());
        frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), output)
            .map_err(|_| unwritable())?;
        Ok(scram)
    }

    /// An empty password counts as none, as in libpq.
    fn password(&self) -> Result<&str, Failure> {
        let password = self.login.password.as_ref().map(Secret::reveal);
        password.filter(|text| !text.is_empty()).ok_or(Failure::Login(LoginProblem::NoPassword))
    }
}

fn send_password(password: &[u8], output: &mut BytesMut) -> Result<(), Failure> {
    frontend::password_message(password, output).map_err(|_| unwritable())
}

fn unwritable() -> Failure {
    Failure::Login(LoginProblem::Unwritable)
}
