//! One SQL statement with its parameters, as bytes: everything in one write.

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::frontend;
use postgres_protocol::types::{ArrayDimension, array_to_sql};
use postgres_protocol::{IsNull, Oid};

const BINARY: i16 = 1;

// Object ids of built-in types: the same in every Postgres (catalog/pg_type.dat).
const INT8: Oid = 20;
const INT8_ARRAY: Oid = 1016;
const TEXT: Oid = 25;
const TEXT_ARRAY: Oid = 1009;

/// A statement and the values of `$1`, `$2`, …
#[derive(Debug)]
pub struct Statement<'a> {
    /// The SQL text. Never put together from what came from outside.
    pub sql: &'static str,
    /// In order. They are secrets: tokens are among them.
    pub parameters: Vec<Parameter<'a>>,
}

/// A value of a parameter. Text must not hold NUL, which Postgres' text cannot.
pub enum Parameter<'a> {
    /// `int8`.
    Int8(i64),
    /// `int8[]`.
    Int8Array(Vec<i64>),
    /// `text`.
    Text(&'a str),
    /// `text[]`.
    TextArray(Vec<&'a str>),
}

/// Prints the type only: values are secrets.
impl std::fmt::Debug for Parameter<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Parameter::Int8(_) => "Int8([redacted])",
            Parameter::Int8Array(_) => "Int8Array([redacted])",
            Parameter::Text(_) => "Text([redacted])",
            Parameter::TextArray(_) => "TextArray([redacted])",
        })
    }
}

/// A statement is too large for the protocol (2 GiB).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl Statement<'_> {
    /// Appends `Parse`, `Bind` and `Execute` of the unnamed statement and `Sync`. All results are
    /// asked for in binary; `Describe` is left out because every statement casts its columns to
    /// types that are known.
    ///
    /// Errors: nothing is appended.
    pub(super) fn write(&self, output: &mut BytesMut) -> Result<(), TooLarge> {
        let before = output.len();
        let written = self.write_all(output);
        if written.is_err() {
            output.truncate(before);
        }
        written
    }

    fn write_all(&self, output: &mut BytesMut) -> Result<(), TooLarge> {
        let types = self.parameters.iter().map(Parameter::oid);
        frontend::parse("", self.sql, types, output).map_err(|_| TooLarge)?;
        frontend::bind(
            "",
            "",
            [BINARY],
            &self.parameters,
            |parameter, output| parameter.write(output),
            [BINARY],
            output,
        )
        .map_err(|_| TooLarge)?;
        frontend::execute("", 0, output).map_err(|_| TooLarge)?;
        frontend::sync(output);
        Ok(())
    }
}

type Written = Result<IsNull, Box<dyn std::error::Error + Sync + Send>>;

impl Parameter<'_> {
    fn oid(&self) -> Oid {
        match self {
            Parameter::Int8(_) => INT8,
            Parameter::Int8Array(_) => INT8_ARRAY,
            Parameter::Text(_) => TEXT,
            Parameter::TextArray(_) => TEXT_ARRAY,
        }
    }

    fn write(&self, output: &mut BytesMut) -> Written {
        match self {
            Parameter::Int8(value) => output.put_i64(*value),
            Parameter::Text(text) => output.put_slice(text.as_bytes()),
            Parameter::Int8Array(values) => {
                let element = |value: &i64, output: &mut BytesMut| {
                    output.put_i64(*value);
                    Ok(IsNull::No)
                };
                array_to_sql(dimension(values.len())?, INT8, values, element, output)?;
            }
            Parameter::TextArray(texts) => {
                let element = |text: &&str, output: &mut BytesMut| {
                    output.put_slice(text.as_bytes());
                    Ok(IsNull::No)
                };
                array_to_sql(dimension(texts.len())?, TEXT, texts, element, output)?;
            }
        }
        Ok(IsNull::No)
    }
}

/// An empty array has no dimension, any other one of ours has one.
fn dimension(len: usize) -> Result<Option<ArrayDimension>, std::num::TryFromIntError> {
    let len = i32::try_from(len)?;
    Ok((len > 0).then_some(ArrayDimension { len, lower_bound: 1 }))
}
