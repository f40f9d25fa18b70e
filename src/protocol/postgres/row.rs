//! A row of a result and its typed values, in Postgres' binary format.

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{DataRowBody, DataRowRanges};
use postgres_protocol::types::{
    array_from_sql, bool_from_sql, int4_from_sql, int8_from_sql, text_from_sql, timestamp_from_sql,
};

use super::Malformed;

/// Milliseconds from the Unix epoch to Postgres' epoch, 2000-01-01 00:00 UTC.
const POSTGRES_EPOCH_UNIX_MILLIS: i64 = 946_684_800_000;

/// One `DataRow`; shares the bytes that were received.
#[derive(Clone, Debug)]
pub struct Row(DataRowBody);

impl Row {
    pub(super) fn new(body: DataRowBody) -> Row {
        Row(body)
    }

    /// What the row costs in memory, for the bound of a reply.
    pub(super) fn cost_bytes(&self) -> usize {
        self.0.buffer().len() + size_of::<Row>()
    }

    /// The columns from the first on.
    pub fn columns(&self) -> Columns<'_> {
        Columns { bytes: self.0.buffer(), ranges: self.0.ranges() }
    }
}

/// Reads the columns of a row one after the other; each reader says the type that the statement
/// cast to. `None` is SQL's null.
///
/// Errors of every reader: there are fewer columns, or the bytes are no value of the type.
pub struct Columns<'a> {
    bytes: &'a [u8],
    ranges: DataRowRanges<'a>,
}

impl<'a> Columns<'a> {
    /// `int8`.
    pub fn int8(&mut self) -> Result<Option<i64>, Malformed> {
        self.read(|bytes| int8_from_sql(bytes).ok())
    }

    /// `int4`.
    pub fn int4(&mut self) -> Result<Option<i32>, Malformed> {
        self.read(|bytes| int4_from_sql(bytes).ok())
    }

    /// `bool`.
    pub fn bool(&mut self) -> Result<Option<bool>, Malformed> {
        self.read(|bytes| bool_from_sql(bytes).ok())
    }

    /// `text`.
    pub fn text(&mut self) -> Result<Option<&'a str>, Malformed> {
        self.read(|bytes| text_from_sql(bytes).ok())
    }

    /// `text[]`, whatever its dimensions; nulls in it are left out.
    pub fn texts(&mut self) -> Result<Option<Vec<&'a str>>, Malformed> {
        self.read(|bytes| {
            let mut elements = array_from_sql(bytes).ok()?.values();
            let mut texts = Vec::new();
            while let Some(element) = elements.next().ok()? {
                if let Some(element) = element {
                    texts.push(text_from_sql(element).ok()?);
                }
            }
            Some(texts)
        })
    }

    /// `timestamp` (without time zone, taken as UTC as Rails writes it): milliseconds since the
    /// Unix epoch, rounded down. `infinity` and `-infinity` are the ends of the type.
    pub fn timestamp_unix_millis(&mut self) -> Result<Option<i64>, Malformed> {
        self.read(|bytes| {
            let micros = timestamp_from_sql(bytes).ok()?;
            Some(match micros {
                i64::MAX | i64::MIN => micros,
                _ => micros.div_euclid(1000) + POSTGRES_EPOCH_UNIX_MILLIS,
            })
        })
    }

    fn read<T>(&mut self, value: impl Fn(&'a [u8]) -> Option<T>) -> Result<Option<T>, Malformed> {
        let range = match self.ranges.next() {
            Ok(Some(Some(range))) => range,
            Ok(Some(None)) => return Ok(None),
            Ok(None) | Err(_) => return Err(Malformed("a row with too few columns")),
        };
        let bytes = self.bytes.get(range).ok_or(Malformed("a torn row"))?;
        value(bytes).map(Some).ok_or(Malformed("a value that is not of its column's type"))
    }
}
