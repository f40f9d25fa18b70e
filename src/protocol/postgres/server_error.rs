//! What an `ErrorResponse` says, as far as a log may know it.

use std::fmt;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorResponseBody;

use super::Malformed;

/// Characters of a server's message that are kept: enough for a sentence, too few to flood a log.
const MESSAGE_CHARS_MAX: usize = 300;

/// An error that the server reported. Holds the SQLSTATE and the primary message only: `DETAIL`,
/// `WHERE` and `QUERY` may quote parameters (tokens!) and are not even read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// SQLSTATE, five characters: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
    pub code: Box<str>,
    /// The primary message, without control characters, cut at a few hundred characters.
    pub message: Box<str>,
    /// The server closes the connection after this.
    pub fatal: bool,
}

impl ServerError {
    /// Reads the fields of an `ErrorResponse`.
    pub(super) fn read(body: &ErrorResponseBody) -> Result<ServerError, Malformed> {
        let mut error = ServerError { code: "".into(), message: "".into(), fatal: false };
        let mut fields = body.fields();
        while let Some(field) = fields.next().map_err(|_| Malformed("a torn error"))? {
            match field.type_() {
                b'C' => error.code = clean(field.value_bytes(), 5),
                b'M' => error.message = clean(field.value_bytes(), MESSAGE_CHARS_MAX),
                // `S` may be translated, `V` (since 9.6) never is; PgBouncer sends either.
                b'S' | b'V' => error.fatal |= matches!(field.value_bytes(), b"FATAL" | b"PANIC"),
                _ => {}
            }
        }
        Ok(error)
    }

    /// It may be otherwise in a moment: the server stops or starts (57), has no room (53), a
    /// standby replays what stands against the statement (40), something is locked (55), the line
    /// or the machine is broken (08, 58).
    pub fn is_passing(&self) -> bool {
        ["08", "40", "53", "55", "57", "58"].iter().any(|class| self.code.starts_with(class))
    }

    /// The server refuses this kind of connection (no line of `pg_hba.conf` fits: encrypted or not,
    /// from here): the other kind may be welcome.
    pub fn refuses_this_transport(&self) -> bool {
        &*self.code == "28000"
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the server says: {} (SQLSTATE {})", self.message, self.code)
    }
}

fn clean(bytes: &[u8], chars_max: usize) -> Box<str> {
    let text = String::from_utf8_lossy(bytes);
    text.chars().filter(|char| !char.is_control()).take(chars_max).collect::<String>().into()
}
