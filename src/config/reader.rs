//! Reads variables one after the other, and remembers what it found: settings, errors, warnings.

use std::fmt::Display;

use super::env::{Origin, Strings};
use super::problem::{ConfigError, Warning};
use super::surroundings::Surroundings;

/// How a secret is shown.
const SET: &str = "[set]";
/// How a setting without a value is shown.
const NOT_SET: &str = "[not set]";

/// A setting as `check-config` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The variable.
    pub name: String,
    /// The value that holds, without secrets.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// A variable's text and where it came from.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub text: String,
    pub origin: Origin,
}

/// Collects what [`super::Config::read`] finds.
pub(super) struct Reader<'a> {
    strings: &'a dyn Strings,
    pub surroundings: &'a dyn Surroundings,
    pub settings: Vec<Setting>,
    pub errors: Vec<ConfigError>,
    pub warnings: Vec<Warning>,
}

impl<'a> Reader<'a> {
    pub fn new(strings: &'a dyn Strings, surroundings: &'a dyn Surroundings) -> Self {
        Self {
            strings,
            surroundings,
            settings: Vec::new(),
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The text of a variable; an empty one counts as unset.
    pub fn text(&mut self, name: &'static str) -> Option<Told> {
        self.named_text(name)
    }

    /// As [`Reader::text`], for names that are put together.
    pub fn named_text(&mut self, name: &str) -> Option<Told> {
        match self.strings.get(name) {
            Ok(found) => {
                let (text, origin) = found.filter(|(text, _)| !text.is_empty())?;
                if text.contains('\0') {
                    self.error(name, "[not shown]", "contains a zero byte");
                    return None;
                }
                Some(Told { text, origin })
            }
            Err(_) => {
                self.error(name, "[not shown]", "is not UTF-8");
                None
            }
        }
    }

    /// The value of a variable, or the default if it is unset or wrong; recorded for
    /// `check-config`. For variables that are no secrets only.
    pub fn value<T: Clone>(
        &mut self,
        name: &str,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
        show: impl Fn(&T) -> String,
    ) -> T {
        let Some(told) = self.named_text(name) else {
            self.record(name, show(&default), Origin::Default);
            return default;
        };
        match parse(told.text.trim()) {
            Ok(value) => {
                self.record(name, show(&value), told.origin);
                value
            }
            Err(problem) => {
                self.error(name, &told.text, problem);
                default
            }
        }
    }

    /// Remembers a setting for `check-config`.
    pub fn record(&mut self, name: &str, value: impl Into<String>, origin: Origin) {
        self.settings.push(Setting { name: name.to_owned(), value: value.into(), origin });
    }

    /// Remembers that a setting has a value or none.
    pub fn record_optional(&mut self, name: &str, value: Option<impl Display>, origin: Origin) {
        let value = value.map_or_else(|| NOT_SET.to_owned(), |value| value.to_string());
        self.record(name, value, origin);
    }

    /// Remembers that a secret is set, or is not.
    pub fn record_secret(&mut self, name: &str, is_set: bool, origin: Origin) {
        self.record(name, if is_set { SET } else { NOT_SET }, origin);
    }

    /// Remembers an error. The problem may not hold a secret. A value with an `@` is not shown:
    /// somebody has put a URL, perhaps with a password, where none belongs.
    pub fn error(&mut self, name: &str, value: &str, problem: impl Into<String>) {
        let value = if value.contains('@') { "[redacted]" } else { value };
        self.redacted_error(name, value, problem);
    }

    /// As [`Reader::error`], of a value that is already as it may be shown.
    pub fn redacted_error(&mut self, name: &str, value: &str, problem: impl Into<String>) {
        let (name, value) = (name.to_owned(), value.to_owned());
        self.errors.push(ConfigError { name, value, problem: problem.into() });
    }

    /// Remembers a warning. It may not hold a secret.
    pub fn warn(&mut self, name: &str, text: impl Into<String>) {
        self.warnings.push(Warning { name: name.to_owned(), text: text.into() });
    }

    /// Warns of names of our own that mean nothing.
    pub fn warn_of_unknown(&mut self, prefix: &str, is_known: impl Fn(&str) -> bool) {
        for name in self.strings.names() {
            if name.starts_with(prefix) && !is_known(&name) {
                self.warn(&name, "is not known and has no effect; misspelt?");
            }
        }
    }
}
