//! (being built)

/// How severe a log line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Trace,
    /// For developers.
    Debug,
    /// What an operator wants to know.
    Info,
    /// Something is not as it should be.
    Warn,
    /// Something failed.
    Error,
    /// The process ends.
    Fatal,
    /// Log nothing.
    Silent,
}
