//! The text of a status that keyword filters search (streaming-api.md, "Filtering", point 4).

use std::borrow::Cow;

/// The parts of a status that people wrote. Borrows from the event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusText<'event> {
    /// Spoiler text, content, poll option titles, media descriptions: in this order, empty where null.
    pub(crate) parts: Vec<Cow<'event, str>>,
}

impl StatusText<'_> {
    /// The parts joined by blank lines, as plain text.
    pub fn plain(&self) -> String {
        let _ = &self.parts;
        unimplemented!()
    }
}
